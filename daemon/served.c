/* SPDX-License-Identifier: Apache-2.0 */
#include "served.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "guard.h"
#include "msg.h"
#include "ring.h"
#include "words.h"

static int reopen(int fd)
{
	char path[64];
	int copy;

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	copy = open(path, O_RDONLY | O_CLOEXEC);
	return copy < 0 ? -errno : copy;
}

static int open_readers(struct served *s)
{
	s->read_fd = reopen(s->arena.files.fd);
	if (s->read_fd >= 0 && s->arena.files.heap_fd >= 0)
		s->read_heap_fd = reopen(s->arena.files.heap_fd);
	if (s->read_fd < 0)
		return s->read_fd;
	return s->arena.files.heap_fd >= 0 && s->read_heap_fd < 0 ? s->read_heap_fd : 0;
}

static void close_readers(struct served *s)
{
	if (s->read_fd >= 0)
		close(s->read_fd);
	if (s->read_heap_fd >= 0)
		close(s->read_heap_fd);
	s->read_fd = s->read_heap_fd = -1;
}

/* What the file itself says goes before what the book says. */
static int note_file(struct served *s)
{
	struct arena_terms *t = &s->record.terms;
	const struct arena_header *h = s->arena.header;
	struct stat st;

	if (fstat(s->arena.files.fd, &st) < 0)
		return -errno;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->record.uid = st.st_uid;
	s->record.gid = st.st_gid;
	t->mode = st.st_mode & 0777;
	t->capacity = s->arena.g.capacity;
	t->log_capacity = s->arena.g.ring_size;
	t->client_quota = h->client_quota;
	t->log_policy = h->log_policy_at_creation;
	t->log_clock = ring_clock(&s->arena);
	memcpy(s->record.uuid, h->uuid, sizeof s->record.uuid);
	s->record.created_ns = h->created_ns;
	return 0;
}

struct claiming {
	struct served *s;
	int err;
};

static void claim_slot(void *user)
{
	struct claiming *c = user;

	c->err = note_file(c->s);
	if (!c->err)
		c->err = client_claim(&c->s->arena);
}

/* All client slots taken is no reason to refuse service: the reaper recovers the dead among them, then asks
 * again. */
int served_map(struct served *s, struct arena_files files)
{
	struct claiming claiming = { .s = s };
	int err = arena_map(&s->arena, files, false);

	if (err) {
		s->arena.files = (struct arena_files){ -1, -1, -1 };
		return err;
	}
	err = open_readers(s);
	if (!err)
		err = guard_run(&s->arena, claim_slot, &claiming);
	if (!err)
		err = claiming.err == -EUSERS ? 0 : claiming.err;
	if (err) {
		close_readers(s);
		arena_unmap_keep_files(&s->arena);
		s->arena.files = (struct arena_files){ -1, -1, -1 };
		return err;
	}
	return 0;
}

struct releasing {
	struct served *s;
	int err;
};

static void release_slot(void *user)
{
	struct releasing *c = user;

	if (c->s->arena.client)
		c->err = client_release(&c->s->arena);
}

void served_abandon(struct served *s)
{
	close_readers(s);
	arena_files_close(&s->arena.files);
	free(s->arena.zones_marked);
	s->arena.zones_marked = NULL;
}

void served_unmap(struct served *s)
{
	struct releasing releasing = { .s = s };

	close_readers(s);
	if (guard_run(&s->arena, release_slot, &releasing)) {
		served_abandon(s);
		return;
	}
	if (releasing.err)
		msg_warning("arena %s: the daemon's own slot is left to be recovered: %s",
			    s->record.name, strerror(-releasing.err));
	arena_unmap(&s->arena);
}

/* A file arena lies where only the daemon can go, so its owner is whom the book names. */
int served_give_to(const struct arena_files *files, const struct state_record *record)
{
	const int fds[] = { files->fd, files->life_fd, files->heap_fd };
	uint32_t mode = record->terms.mode ? record->terms.mode & 0666 : 0600;

	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
		if (fds[i] < 0)
			continue;
		if (geteuid() == 0 && fchown(fds[i], record->uid, record->gid) < 0)
			return -errno;
		/* A memfd is born with 0777, and could be opened for writing through a reader's
		 * descriptor. */
		if (fchmod(fds[i], mode) < 0)
			return -errno;
	}
	return 0;
}

void served_lock_again(const struct served *s)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = s->arena.client, .l_len = 1
	};

	if (fcntl(s->arena.files.life_fd, F_SETLK, &lock) < 0)
		msg_error("arena %s: the daemon's life lock was lost: %s", s->record.name,
			  strerror(errno));
}

/* ---- answers ---- */

uint32_t served_descriptors(const struct served *s, uint32_t rights, int fds[ARENA_FDS_MAX])
{
	bool write = rights & ARENA_RIGHT_WRITE;
	const struct arena_files *f = &s->arena.files;
	const int choice[ARENA_FDS_MAX] = {
		write ? f->fd : s->read_fd,
		write ? f->life_fd : -1,
		write ? f->heap_fd : s->read_heap_fd,
	};
	uint32_t mask = 0;
	int n = 0;

	for (int i = 0; i < ARENA_FDS_MAX; i++) {
		fds[i] = -1;
		if (choice[i] >= 0) {
			fds[n++] = choice[i];
			mask |= 1u << i;
		}
	}
	return mask;
}

struct counting {
	const struct arena *arena;
	uint32_t clients;
};

static void count_clients(void *user)
{
	struct counting *c = user;
	uint32_t high = client_high(c->arena);

	for (uint32_t i = 1; i < high; i++) {
		uint64_t word =
			atomic_load_explicit(client_word_at(c->arena, i), memory_order_relaxed);

		if (client_word_state(word) == CLIENT_LIVE && i != c->arena->client)
			c->clients++;
	}
}

int served_clients(struct served *s, uint32_t *ret)
{
	struct counting counting = { .arena = &s->arena };
	int err = guard_run(&s->arena, count_clients, &counting);

	*ret = counting.clients;
	return err;
}
