/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who recovers whom: a word live or opening -> recovering by R when its client is dead, recovering
 * by R -> recovering by S when R is dead, -> free when nothing is left. Verdicts are about the word
 * read before the kernel was asked, and the compare-and-swap is from that very word:
 *
 *  - live and opening words carry the incarnation, so a verdict on one tenant never hits the next;
 *  - recovering words carry only R's number, and R's slot may be recovered and given to a new,
 *    living R while somebody is stopped between the verdict on the old one and the swap. So every
 *    change of the recoverer counts up the handover bits, and before a dead R's slot becomes free
 *    all it was recovering is handed to nobody (number 0), from whom anybody may take it.
 */
#include "liveness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "stop_point.h"
#include "words.h"

/* ---- does a process map the arena ---- */

enum mapped {
	MAPPED_YES,
	MAPPED_NO,	/* it has memory, without the arena at that address */
	MAPPED_NOTHING, /* it has no memory: it is a kernel's or an ending thread */
	MAPPED_UNKNOWN
};

/* One mapping's file, as the kernel prints it; stat() says otherwise on some file systems. */
struct mapping {
	unsigned long long start, end, offset;
	unsigned int major, minor;
	unsigned long long inode;
};

struct maps_reader {
	int fd;
	size_t at, len;
	char buffer[4096];
};

static int next_char(struct maps_reader *r)
{
	if (r->at == r->len) {
		ssize_t n;

		do
			n = read(r->fd, r->buffer, sizeof(r->buffer));
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		r->at = 0;
		r->len = (size_t)n;
	}
	return (unsigned char)r->buffer[r->at++];
}

/* 0: a line; -ENODATA at the end. Paths of files may be long; only the front of a line is kept. */
static int next_mapping(struct maps_reader *r, struct mapping *m)
{
	char line[128];
	size_t len = 0;
	int c;

	while ((c = next_char(r)) >= 0 && c != '\n') {
		if (len < sizeof(line) - 1)
			line[len++] = (char)c;
	}
	if (c < 0)
		return c;
	line[len] = '\0';
	return sscanf(line, "%llx-%llx %*s %llx %x:%x %llu", &m->start, &m->end, &m->offset,
		      &m->major, &m->minor, &m->inode) == 6
		       ? 0
		       : -EINVAL;
}

/* The mapping that holds an address. */
static enum mapped find_mapping(const char *path, uint64_t address, struct mapping *ret)
{
	struct maps_reader r = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
	enum mapped found = MAPPED_NOTHING;
	int err;

	if (r.fd < 0)
		return errno == ESRCH || errno == ENOENT ? MAPPED_NOTHING : MAPPED_UNKNOWN;
	while (found != MAPPED_YES && (err = next_mapping(&r, ret)) == 0)
		found = ret->start <= address && address < ret->end ? MAPPED_YES : MAPPED_NO;
	close(r.fd);
	if (found != MAPPED_YES && err != -ENODATA)
		return err == -ESRCH ? MAPPED_NOTHING : MAPPED_UNKNOWN;
	return found;
}

/* Whether the process or thread maps this arena's file from its start at the address. */
static enum mapped maps_arena(const struct arena *a, const char *path, uint64_t address)
{
	struct mapping mine, theirs;
	enum mapped found = find_mapping(path, address, &theirs);

	if (found != MAPPED_YES)
		return found;
	if (find_mapping("/proc/self/maps", (uint64_t)(uintptr_t)a->base, &mine) != MAPPED_YES)
		return MAPPED_UNKNOWN;
	return theirs.start == address && theirs.offset == 0 && theirs.major == mine.major &&
			       theirs.minor == mine.minor && theirs.inode == mine.inode
		       ? MAPPED_YES
		       : MAPPED_NO;
}

/* ---- is a process the one of the record ---- */

/* One thread of a process whose first thread has no memory any more. */
static enum liveness thread_liveness(const struct arena *a, pid_t pid, const char *tid,
				     uint64_t address)
{
	char path[80];

	snprintf(path, sizeof(path), "/proc/%d/task/%.16s/maps", (int)pid, tid);
	switch (maps_arena(a, path, address)) {
	case MAPPED_YES: return LIVENESS_ALIVE;
	case MAPPED_NO: return LIVENESS_DEAD;
	/* Ending, but not for sure ended: it may have made another thread that is not in the list.
	 * */
	default: return LIVENESS_UNSURE;
	}
}

/*
 * The first thread of a process may be a zombie while others run. Dead if those that run lack the
 * arena; when none has memory we wait for the kernel to count the last of them out (see above).
 */
static enum liveness threads_liveness(const struct arena *a, pid_t pid, uint64_t address)
{
	enum liveness all = LIVENESS_UNSURE;
	char path[40];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	while (d && all != LIVENESS_ALIVE && (e = readdir(d))) {
		enum liveness one;

		if (e->d_name[0] == '.')
			continue;
		one = thread_liveness(a, pid, e->d_name, address);
		if (one != LIVENESS_UNSURE)
			all = one;
	}
	if (d)
		closedir(d);
	return all;
}

/* kill() sees a process whatever /proc hides. */
static bool process_gone(pid_t pid)
{
	return kill(pid, 0) < 0 && errno == ESRCH;
}

static enum liveness process_liveness(const struct arena *a, pid_t pid, uint64_t start_time,
				      uint64_t address)
{
	struct client_process p;
	char path[40];

	if (process_gone(pid))
		return LIVENESS_DEAD;
	if (client_process(pid, &p))
		return process_gone(pid) ? LIVENESS_DEAD : LIVENESS_UNSURE;
	if (start_time && p.start_time != start_time)
		return LIVENESS_DEAD;
	/* A zombie, of one thread: the others have been released, and it will make no more. */
	if ((p.state == 'Z' || p.state == 'X') && p.threads <= 1)
		return LIVENESS_DEAD;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	switch (maps_arena(a, path, address)) {
	case MAPPED_YES: return LIVENESS_ALIVE;
	case MAPPED_NO: return LIVENESS_DEAD; /* it is another program now, by exec */
	case MAPPED_NOTHING: return threads_liveness(a, pid, address);
	default: return LIVENESS_UNSURE;
	}
}

/*
 * A program that became another by exec, and attached again, may map the arena at the old address.
 * But two attachments of one program never lie at one address, so if a client of the same process
 * and address holds its lock, the one that does not is from before the exec.
 */
static bool superseded(const struct arena *a, uint32_t client, pid_t pid, uint64_t start_time,
		       uint64_t address)
{
	for (uint32_t n = 1; start_time && n < client_high(a); n++) {
		const struct client_record *r = client_record_at(a, n);
		uint64_t word = atomic_load_explicit(client_word_at(a, n), memory_order_acquire);

		if (n == client || client_word_state(word) != CLIENT_LIVE)
			continue;
		if (atomic_load_explicit(&r->pid, memory_order_acquire) == pid &&
		    atomic_load_explicit(&r->start_time, memory_order_relaxed) == start_time &&
		    atomic_load_explicit(&r->base, memory_order_relaxed) == address &&
		    (n == a->client || client_locked(a, n) == 1))
			return true;
	}
	return false;
}

/* The tenant of a live or opening slot. */
static enum liveness tenant_liveness(const struct arena *a, uint32_t client)
{
	const struct client_record *r = client_record_at(a, client);
	uint64_t start_time, address;
	enum liveness verdict;
	pid_t pid;
	int locked;

	if (client == a->client)
		return LIVENESS_ALIVE;
	locked = client_locked(a, client);
	if (locked)
		return locked == 1 ? LIVENESS_ALIVE : LIVENESS_UNSURE;
	/* PAIR(client-pid): the pid, then the rest. */
	pid = atomic_load_explicit(&r->pid, memory_order_acquire);
	start_time = atomic_load_explicit(&r->start_time, memory_order_relaxed);
	address = atomic_load_explicit(&r->base, memory_order_relaxed);
	/* Died before it had written its record, or after it had wiped it: nothing was owned. */
	if (pid == 0)
		return LIVENESS_DEAD;
	if (pid < 0)
		return LIVENESS_UNSURE; /* damage */
	verdict = process_liveness(a, pid, start_time, address);
	if (verdict == LIVENESS_UNSURE && process_gone(pid)) /* while we looked */
		return LIVENESS_DEAD;
	if (verdict == LIVENESS_ALIVE && superseded(a, client, pid, start_time, address))
		return LIVENESS_DEAD;
	return verdict;
}

static enum liveness word_liveness(const struct arena *a, uint32_t client, uint64_t word)
{
	switch (client_word_state(word)) {
	case CLIENT_OPENING:
	case CLIENT_LIVE: return tenant_liveness(a, client);
	case CLIENT_RECOVERING: return LIVENESS_DEAD;
	default: return LIVENESS_NONE;
	}
}

enum liveness liveness_of(const struct arena *a, uint32_t client)
{
	enum liveness verdict;
	uint64_t word;

	if (client == 0 || client >= CLIENTS_MAX)
		return LIVENESS_NONE;
	word = atomic_load_explicit(client_word_at(a, client), memory_order_acquire);
	verdict = word_liveness(a, client, word);
	/* What was asked meanwhile may concern the next tenant. */
	if (verdict == LIVENESS_DEAD && atomic_load_explicit(client_word_at(a, client),
							     memory_order_acquire) != word)
		return LIVENESS_UNSURE;
	return verdict;
}

bool liveness_is_dead(const struct arena *a, uint32_t client)
{
	return liveness_of(a, client) == LIVENESS_DEAD;
}

/* ---- recoverers ---- */

/* The word with another recoverer; incarnation kept. */
static uint64_t handed_to(uint64_t word, uint32_t recoverer)
{
	uint64_t handover = (word >> CLIENT_HANDOVER_SHIFT) + 1;

	return client_word(CLIENT_RECOVERING, recoverer, client_word_incarnation(word)) |
	       handover << CLIENT_HANDOVER_SHIFT;
}

static bool swap_word(struct arena *a, uint32_t client, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong_explicit(client_word_at(a, client), &from, to,
						       memory_order_acq_rel, memory_order_relaxed);
}

/* Number 0, or one whose slot is free, is nobody. */
static bool recoverer_dead(const struct arena *a, uint32_t recoverer)
{
	enum liveness verdict = liveness_of(a, recoverer);

	return verdict == LIVENESS_NONE || verdict == LIVENESS_DEAD;
}

bool liveness_claim_recovery(struct arena *a, uint32_t client)
{
	uint64_t word;

	if (a->readonly || !a->client || client == 0 || client >= CLIENTS_MAX ||
	    client == a->client)
		return false;
	word = atomic_load_explicit(client_word_at(a, client), memory_order_acquire);
	if (client_word_state(word) == CLIENT_RECOVERING) {
		uint32_t recoverer = client_word_recoverer(word);

		if (recoverer == a->client)
			return true;
		if (!recoverer_dead(a, recoverer))
			return false;
	} else if (word_liveness(a, client, word) != LIVENESS_DEAD) {
		return false;
	}
	STOP_POINT(liveness_verdict);
	/* Crash: before, as we found it; after, ours, and with us the next one's. */
	return swap_word(a, client, word, handed_to(word, a->client));
}

void liveness_release_recoveries(struct arena *a, uint32_t dead)
{
	for (uint32_t n = 1; n < client_high(a); n++) {
		uint64_t word = atomic_load_explicit(client_word_at(a, n), memory_order_acquire);

		/* Fails only if somebody found the recoverer dead and took it. */
		if (client_word_state(word) == CLIENT_RECOVERING &&
		    client_word_recoverer(word) == dead)
			swap_word(a, n, word, handed_to(word, 0));
	}
}

void liveness_finish_recovery(struct arena *a, uint32_t client)
{
	struct client_record *r;
	uint64_t word;

	if (client == 0 || client >= CLIENTS_MAX)
		return;
	word = atomic_load_explicit(client_word_at(a, client), memory_order_acquire);
	if (client_word_state(word) != CLIENT_RECOVERING ||
	    client_word_recoverer(word) != a->client)
		return;
	liveness_release_recoveries(a, client);
	r = client_record_at(a, client);
	atomic_store_explicit(&r->owned_bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&r->pid, 0, memory_order_release);
	STOP_POINT(liveness_wiped);
	/* PAIR(client-pid): the pid is wiped before the word is free.
	 * Crash: before, the next recoverer finds nothing to return; after, the number may be
	 * taken. */
	swap_word(a, client, word, client_word(CLIENT_FREE, 0, client_word_incarnation(word)));
}
