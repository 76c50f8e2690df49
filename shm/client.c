/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "stop_point.h"
#include "words.h"

/* ---- processes ---- */

static const char *skip_fields(const char *p, int count)
{
	for (int i = 0; p && i < count; i++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	return p;
}

int client_process_parse(const char *text, struct client_process *ret)
{
	/* The command stands in parentheses and may hold any byte: the last ')' ends it. */
	const char *open = strchr(text, '('), *close = strrchr(text, ')'), *threads, *start, *exit_code;
	size_t len;

	if (!open || !close || close < open || close[1] != ' ' || close[2] == '\0')
		return -EINVAL;
	threads = skip_fields(close + 2, 17); /* from field 3 to field 20 */
	start = skip_fields(threads, 2);      /* to field 22 */
	exit_code = skip_fields(start, 30);   /* to field 52 */
	if (!start || *threads < '0' || *threads > '9' || *start < '0' || *start > '9')
		return -EINVAL;
	memset(ret, 0, sizeof(*ret));
	len = (size_t)(close - open - 1);
	if (len >= sizeof(ret->command))
		len = sizeof(ret->command) - 1;
	memcpy(ret->command, open + 1, len);
	ret->state = close[2];
	ret->threads = (uint32_t)strtoul(threads, NULL, 10);
	ret->start_time = strtoull(start, NULL, 10);
	ret->exit_code = exit_code ? atoi(exit_code) : -1;
	return 0;
}

static ssize_t read_small_file(const char *path, char *text, size_t size)
{
	ssize_t n;
	int err, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	do
		n = read(fd, text, size - 1);
	while (n < 0 && errno == EINTR);
	err = errno;
	close(fd);
	if (n < 0)
		return -err;
	text[n] = '\0';
	return n;
}

int client_process(pid_t pid, struct client_process *ret)
{
	char path[40], text[1024];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	n = read_small_file(path, text, sizeof(text));
	if (n < 0)
		return n == -ENOENT ? -ESRCH : (int)n;
	if (atoi(text) != pid) /* the /proc of another pid namespace */
		return -EACCES;
	return client_process_parse(text, ret);
}

/* ---- life locks ---- */

static struct flock life_byte(uint32_t client, short type)
{
	return (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)client, .l_len = 1};
}

/* -EBUSY: another process holds it. */
static int life_lock(const struct arena *a, uint32_t client)
{
	struct flock lock = life_byte(client, F_WRLCK);

	if (fcntl(a->files.life_fd, F_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

static void life_unlock(const struct arena *a, uint32_t client)
{
	struct flock lock = life_byte(client, F_UNLCK);

	fcntl(a->files.life_fd, F_SETLK, &lock);
}

int client_locked(const struct arena *a, uint32_t client)
{
	struct flock lock = life_byte(client, F_WRLCK);

	if (fcntl(a->files.life_fd, F_GETLK, &lock) < 0)
		return -errno;
	return lock.l_type != F_UNLCK;
}

/* ---- taking and giving back a slot ---- */

/* Record, summary and the first page of the leaf: the rest when a zone is prepared. */
static int commit_area(struct arena *a, uint32_t client)
{
	uint64_t length = geometry_mark_leaf(&a->g) + PAGE_SIZE;

	if (length > a->g.client_area_size)
		length = a->g.client_area_size;
	return arena_commit(a, client_area_at(a, client), length);
}

/* Before the slot is taken: what it covers is then looked at by all who count, check or recover. */
static void raise_high(struct arena *a, uint32_t high)
{
	uint32_t seen = atomic_load_explicit(&a->header->clients_high, memory_order_relaxed);

	while (seen < high &&
	       !atomic_compare_exchange_weak_explicit(&a->header->clients_high, &seen, high,
						      memory_order_acq_rel, memory_order_relaxed))
		;
}

/*
 * PAIR(client-pid): the rest, then the pid. While a word says opening, a pid of 0 means that the
 * record tells nothing yet; whoever sets a word free has zeroed it before.
 */
static void write_record(struct arena *a, uint32_t client)
{
	struct client_record *r = client_record_at(a, client);
	struct client_process self = {.start_time = 0}; /* unknown, if /proc cannot be read */

	client_process(getpid(), &self);
	atomic_store_explicit(&r->uid, (uint32_t)getuid(), memory_order_relaxed);
	atomic_store_explicit(&r->start_time, self.start_time, memory_order_relaxed);
	atomic_store_explicit(&r->base, (uint64_t)(uintptr_t)a->base, memory_order_relaxed);
	atomic_store_explicit(&r->opened_ns, clock_real(), memory_order_relaxed);
	atomic_store_explicit(&r->owned_bytes, 0, memory_order_relaxed);
	memcpy(r->command, self.command, sizeof(r->command));
	atomic_store_explicit(&r->pid, getpid(), memory_order_release);
}

/* With the slot's byte locked and its area committed. */
static int open_slot(struct arena *a, uint32_t client)
{
	_Atomic uint64_t *word = client_word_at(a, client);
	uint64_t seen = atomic_load_explicit(word, memory_order_acquire), mine;

	if (client_word_state(seen) != CLIENT_FREE)
		return -EBUSY;
	raise_high(a, client + 1);
	mine = client_word(CLIENT_OPENING, 0, client_word_incarnation(seen) + 1);
	/* Crash: after, the byte's lock is gone with us and the slot, which owns nothing, is
	 * recovered. */
	if (!atomic_compare_exchange_strong_explicit(word, &seen, mine, memory_order_acq_rel,
						     memory_order_relaxed))
		return -EBUSY;
	STOP_POINT(client_opening);
	write_record(a, client);
	STOP_POINT(client_recorded);
	/* PAIR(client-record): record before live. Fails only if another thread of ours has closed
	 * the life file meanwhile, so that we were taken for dead. */
	if (!atomic_compare_exchange_strong_explicit(
		    word, &mine, client_word(CLIENT_LIVE, 0, client_word_incarnation(mine)),
		    memory_order_acq_rel, memory_order_relaxed))
		return -EBUSY;
	return 0;
}

static int claim_slot(struct arena *a, uint32_t client)
{
	uint64_t seen = atomic_load_explicit(client_word_at(a, client), memory_order_relaxed);
	int r;

	if (client_word_state(seen) != CLIENT_FREE)
		return -EBUSY;
	r = life_lock(a, client);
	if (r)
		return r;
	/* Crash, or a stop of an hour: the slot is still free, and nobody's but ours to try. */
	STOP_POINT(client_byte_locked);
	r = commit_area(a, client);
	if (!r)
		r = open_slot(a, client);
	if (r)
		life_unlock(a, client);
	return r;
}

static int claim_from(struct arena *a, uint32_t first, uint32_t end)
{
	if (a->readonly)
		return -EROFS;
	if (a->client)
		return 0;
	for (uint32_t client = first; client < end; client++) {
		int r = claim_slot(a, client);

		if (r == 0) {
			a->claimant = getpid();
			a->slot_from_state = (uint32_t)(a->tag_bits >> 32) - state_make(OBJECT_PRIVATE, client, 0);
			a->client = client;
		}
		if (r != -EBUSY)
			return r;
	}
	return -EUSERS;
}

int client_claim(struct arena *a)
{
	return claim_from(a, 1, CLIENTS_MAX - CLIENT_SPARES);
}

int client_claim_spare(struct arena *a)
{
	return claim_from(a, CLIENTS_MAX - CLIENT_SPARES, CLIENTS_MAX);
}

int client_fork_child(struct arena *a)
{
	/* The marks' memory was noted for the parent's slot. */
	for (uint64_t i = 0; i < geometry_words(a->g.zone_count); i++)
		atomic_store_explicit(&a->zones_marked[i], 0, memory_order_relaxed);
	a->client = 0;
	return client_claim(a);
}

static bool recovers_someone(const struct arena *a)
{
	for (uint32_t n = 1; n < client_high(a); n++) {
		uint64_t word = atomic_load_explicit(client_word_at(a, n), memory_order_acquire);

		if (client_word_state(word) == CLIENT_RECOVERING &&
		    client_word_recoverer(word) == a->client)
			return true;
	}
	return false;
}

int client_release(struct arena *a)
{
	_Atomic uint64_t *word = client_word_at(a, a->client);
	uint64_t live = atomic_load_explicit(word, memory_order_relaxed), closing;

	if (!a->client || client_word_state(live) != CLIENT_LIVE)
		return -EINVAL;
	if (client_marks_next(a, a->client, 0) != CLIENT_NO_REGION || recovers_someone(a))
		return -EBUSY;
	/* Crash: live or opening, the slot owns nothing and is recovered; free is free. */
	closing = client_word(CLIENT_OPENING, 0, client_word_incarnation(live));
	if (!atomic_compare_exchange_strong_explicit(word, &live, closing, memory_order_acq_rel,
						     memory_order_relaxed))
		return -EBUSY;
	STOP_POINT(client_closing);
	atomic_store_explicit(&client_record_at(a, a->client)->pid, 0, memory_order_release);
	STOP_POINT(client_wiped);
	atomic_compare_exchange_strong_explicit(
		word, &closing, client_word(CLIENT_FREE, 0, client_word_incarnation(closing)),
		memory_order_acq_rel, memory_order_relaxed);
	STOP_POINT(client_freed);
	life_unlock(a, a->client);
	a->client = 0;
	return 0;
}

void client_ask_to_shrink(struct arena *a)
{
	for (uint32_t i = 1; i < client_high(a); i++) {
		uint64_t word = atomic_load_explicit(client_word_at(a, i), memory_order_acquire);

		/* Crash: some are asked, some are not. */
		if (client_word_state(word) == CLIENT_LIVE)
			atomic_fetch_add_explicit(&client_record_at(a, i)->shrink, 1, memory_order_relaxed);
	}
}

int client_view(const struct arena *a, uint32_t client, struct client_view *ret)
{
	const struct client_record *r;
	uint64_t word;

	if (client == 0 || client >= CLIENTS_MAX)
		return -ENOENT;
	/* PAIR(client-record): live, then the record. */
	word = atomic_load_explicit(client_word_at(a, client), memory_order_acquire);
	memset(ret, 0, sizeof(*ret));
	ret->state = client_word_state(word);
	if (ret->state != CLIENT_OPENING && ret->state != CLIENT_LIVE &&
	    ret->state != CLIENT_RECOVERING)
		return -ENOENT;
	r = client_record_at(a, client);
	ret->incarnation = client_word_incarnation(word);
	ret->recoverer = client_word_recoverer(word);
	ret->pid = atomic_load_explicit(&r->pid, memory_order_acquire);
	ret->uid = atomic_load_explicit(&r->uid, memory_order_relaxed);
	ret->start_time = atomic_load_explicit(&r->start_time, memory_order_relaxed);
	ret->opened_ns = atomic_load_explicit(&r->opened_ns, memory_order_relaxed);
	ret->owned_bytes = atomic_load_explicit(&r->owned_bytes, memory_order_relaxed);
	memcpy(ret->command, r->command, sizeof(ret->command) - 1);
	/* The slot may have changed hands while we read. */
	atomic_thread_fence(memory_order_acquire);
	if (client_word_incarnation(atomic_load_explicit(client_word_at(a, client),
							 memory_order_relaxed)) != ret->incarnation)
		return -ENOENT;
	return 0;
}

const struct thread_block *client_thread_block(const struct arena *a, uint64_t word, uint32_t client)
{
	uint64_t page = thread_word_page(word), w0;

	if (thread_word_state(word) != THREAD_LIVE ||
	    page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return NULL;
	w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_relaxed);
	if (pw0_kind(w0) != PAGE_RAW || pw0_class(w0) != RAW_THREAD || pw0_client(w0) != client)
		return NULL;
	return (const struct thread_block *)(a->heap + (page << PAGE_SHIFT));
}

/* ---- region marks ---- */

int client_prepare_zone_slow(struct arena *a, uint64_t zone)
{
	uint64_t first = zone * a->g.zone_pages / REGION_PAGES / 8, end;
	int r;

	if (zone >= a->g.zone_count || !a->client)
		return -EINVAL;
	end = ((zone + 1) * a->g.zone_pages / REGION_PAGES + 7) / 8;
	if (end > 64 * geometry_mark_lines(&a->g))
		end = 64 * geometry_mark_lines(&a->g);
	r = arena_commit(a, client_area_at(a, a->client) + geometry_mark_leaf(&a->g) + first,
			 end - first);
	STOP_POINT(client_marked);
	if (!r)
		atomic_fetch_or_explicit(&a->zones_marked[zone / 64], UINT64_C(1) << (zone % 64),
					 memory_order_release);
	return r;
}

static bool line_marked(const struct arena *a, uint32_t client, uint64_t line)
{
	uint64_t word =
		atomic_load_explicit(client_summary(a, client) + line / 64, memory_order_acquire);

	return word >> (line % 64) & 1;
}

bool client_marked(const struct arena *a, uint32_t client, uint64_t page)
{
	uint64_t region = page / REGION_PAGES;

	if (region >= geometry_regions(&a->g) || !line_marked(a, client, region / 512))
		return false;
	return atomic_load_explicit(client_leaf(a, client) + region / 64, memory_order_acquire) >>
		       (region % 64) &
	       1;
}

/* The first bit set at or after `from` in bits words, or `bits`. */
static uint64_t next_bit(const _Atomic uint64_t *words, uint64_t from, uint64_t bits)
{
	for (uint64_t i = from / 64; i < geometry_words(bits); i++) {
		uint64_t word = atomic_load_explicit(&words[i], memory_order_acquire);

		if (i == from / 64)
			word &= ~UINT64_C(0) << (from % 64);
		if (word && i * 64 + (uint64_t)__builtin_ctzll(word) < bits)
			return i * 64 + (uint64_t)__builtin_ctzll(word);
	}
	return bits;
}

/* PAIR(client-mark): the death, then the marks. Lines without a summary bit may not be memory at
 * all. */
uint64_t client_marks_next(const struct arena *a, uint32_t client, uint64_t from)
{
	uint64_t regions = geometry_regions(&a->g), lines = geometry_mark_lines(&a->g), line;

	for (line = from / 512; line < lines; line++) {
		uint64_t end, region;

		line = next_bit(client_summary(a, client), line, lines);
		if (line >= lines)
			break;
		end = (line + 1) * 512 < regions ? (line + 1) * 512 : regions;
		region = next_bit(client_leaf(a, client), from > line * 512 ? from : line * 512,
				  end);
		if (region < end)
			return region;
	}
	return CLIENT_NO_REGION;
}

void client_marks_drop(struct arena *a, uint32_t client, uint64_t region)
{
	if (region < geometry_regions(&a->g) && line_marked(a, client, region / 512))
		atomic_fetch_and_explicit(client_leaf(a, client) + region / 64,
					  ~(UINT64_C(1) << (region % 64)), memory_order_acq_rel);
}

static void clear_line(struct arena *a, uint32_t client, uint64_t line)
{
	for (uint64_t i = line * 8; i < line * 8 + 8; i++)
		atomic_store_explicit(client_leaf(a, client) + i, 0, memory_order_relaxed);
	/* Crash: before, the line is cleared once more; the summary never hides a leaf bit. */
	atomic_fetch_and_explicit(client_summary(a, client) + line / 64,
				  ~(UINT64_C(1) << (line % 64)), memory_order_release);
}

void client_marks_clear(struct arena *a, uint32_t client)
{
	uint64_t lines = geometry_mark_lines(&a->g);
	const _Atomic uint64_t *summary = client_summary(a, client);

	for (uint64_t line = next_bit(summary, 0, lines); line < lines;
	     line = next_bit(summary, line + 1, lines))
		clear_line(a, client, line);
}
