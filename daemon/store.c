/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LAND_NS (UINT64_C(5) * 1000000000u) /* for what a dead drain has under way */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- whose ---- */

static int hex_of(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Of this kernel's run; zeros where it is not told. */
static void read_boot_id(uint8_t boot[16])
{
	char text[64] = "";
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	unsigned n = 0;

	memset(boot, 0, 16);
	if (!file)
		return;
	if (!fgets(text, sizeof text, file))
		text[0] = 0;
	fclose(file);
	for (const char *c = text; *c && n < 32; c++) {
		int digit = hex_of(*c);

		if (digit < 0)
			continue;
		boot[n / 2] = (uint8_t)(boot[n / 2] << 4 | digit);
		n++;
	}
}

int store_init(struct store *s, const char *log_dir, const struct state_record *record,
	       uint32_t block_bytes, uint32_t blocks)
{
	memset(s, 0, sizeof *s);
	s->fd = -1;
	if ((size_t)snprintf(s->dir, sizeof s->dir, "%s/%s", log_dir, record->name) >= sizeof s->dir)
		return -ENAMETOOLONG;
	memcpy(s->name, record->name, sizeof s->name);
	memcpy(s->ring.ring, record->uuid, sizeof s->ring.ring);
	read_boot_id(s->ring.boot);
	s->ring.name = s->name;
	s->ring.block_bytes = block_bytes;
	s->ring.blocks = blocks;
	s->uid = record->uid;
	s->gid = record->gid;
	/* Who may read the arena may read its log, where the directories let him. */
	s->mode = (record->terms.mode & 0444) | 0600;
	return 0;
}

static int path_of(const struct store *s, uint64_t number, char path[PATH_MAX])
{
	char name[SEGMENT_FILE_BYTES];

	segment_file_name(name, number, false);
	return (size_t)snprintf(path, PATH_MAX, "%s/%s", s->dir, name) < PATH_MAX ? 0 :
										     -ENAMETOOLONG;
}

/* ---- what was written before ---- */

struct scanning {
	const struct store *s;
	struct store_found *found;
};

static void note_slots(struct ring_piece *last, const struct segment_fragment *f, bool same_lap)
{
	for (unsigned i = 0; i < SEGMENT_SLOTS / 64; i++)
		last->slots[i] = f->slots[i] | (same_lap ? last->slots[i] : 0);
}

static int note_fragment(void *user, const struct segment_header *h, const struct segment_fragment *f,
			 uint64_t offset)
{
	struct scanning *x = user;
	struct store_block *b;
	struct ring_piece *last;

	(void)offset;
	if (memcmp(h->ring, x->s->ring.ring, sizeof h->ring) || f->block >= x->s->ring.blocks ||
	    (f->kind != SEGMENT_OWN && f->kind != SEGMENT_SHARED && f->kind != SEGMENT_LOSS))
		return 0;
	b = &x->found->blocks[f->block];
	last = &b->last;
	if (f->kind == SEGMENT_SHARED)
		note_slots(last, f, b->any && last->lap == f->lap);
	else if (last->lap != f->lap)
		memset(last->slots, 0, sizeof last->slots);
	if (f->kind != SEGMENT_LOSS || last->lap != f->lap || !b->any)
		last->kind = (enum ring_piece_kind)f->kind;
	last->block = f->block;
	last->lap = f->lap;
	last->ticket = f->ticket;
	last->done = f->done;
	b->any = true;
	return 0;
}

/* A power cut leaves a ring whose file went back; what it is done with it is, and of the rest nothing is known. */
static enum segment_verdict judge(void *user, const struct segment_header *h, const struct segment_fragment *f)
{
	const struct scanning *x = user;
	const struct segment_ring *ring = &x->s->ring;

	if (memcmp(h->ring, ring->ring, sizeof h->ring) || f->block >= ring->blocks)
		return SEGMENT_GUESS;
	if ((int32_t)(x->found->blocks[f->block].consumed - f->done) >= 0)
		return SEGMENT_SPOILT;
	return memcmp(h->boot, ring->boot, sizeof h->boot) ? SEGMENT_GUESS : SEGMENT_TORN;
}

/*
 * The kernel holds the lock of who wrote it as long as a write of his is under way, be he dead: so nothing lands behind
 * what is scanned. A disk that hangs is not waited for.
 */
static void wait_for_landing(int fd)
{
	uint64_t until = clock_ns(CLOCK_MONOTONIC) + LAND_NS;
	struct timespec nap = { .tv_nsec = 1000000 };

	while (flock(fd, LOCK_EX | LOCK_NB) < 0 && (errno == EWOULDBLOCK || errno == EINTR) &&
	       clock_ns(CLOCK_MONOTONIC) < until)
		nanosleep(&nap, NULL);
}

/* 1: it has a header, and is what the last drain wrote; 0: it is nothing; -errno. */
static int scan_plain(struct store *s, uint64_t number, struct store_found *found)
{
	struct scanning x = { .s = s, .found = found };
	struct segment_scan_calls calls = { note_fragment, judge, note_fragment, &x };
	struct segment_scan scan;
	char path[PATH_MAX];
	int fd, err = path_of(s, number, path);

	if (err)
		return err;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	wait_for_landing(fd);
	err = segment_scan_judged(fd, &scan, &calls);
	if (!err && scan.spoilt) {
		found->spoilt_number = number;
		found->spoilt = scan.spoilt_records;
	}
	if (!err && scan.torn) {
		found->torn_number = number;
		found->torn_bytes = scan.size - scan.good;
		/* Crash: before, the next one cuts it. */
		if (ftruncate(fd, (off_t)scan.good) < 0)
			err = -errno;
	}
	close(fd);
	return err == -EUCLEAN ? 0 : err ? err : 1;
}

static int scan_listed(struct store *s, const struct segment_listed *l, struct store_found *found)
{
	char path[PATH_MAX];
	int r;

	if (!l->plain)
		return 1; /* compressed by one that knew all of it */
	r = scan_plain(s, l->number, found);
	if (r)
		return r;
	/* Killed between its name and its header. Else somebody has spoilt it: it stays. */
	if (l->bytes < sizeof(struct segment_header) && !path_of(s, l->number, path))
		unlink(path);
	else
		found->damaged++;
	return 0;
}

int store_scan(struct store *s, struct store_found *ret)
{
	struct segment_listed *list = NULL;
	size_t count = 0;
	int r = segment_list(s->dir, &list, &count);

	if (r == -ENOENT)
		return 0;
	if (!r && count)
		s->number = list[count - 1].number;
	for (size_t i = count; !r && i-- > 0;)
		r = scan_listed(s, &list[i], ret);
	free(list);
	return r < 0 ? r : 0;
}

/* ---- one segment ---- */

/* The directory's parent is the log directory, which may have been removed as well. */
static int make_directory(const struct store *s)
{
	char parent[PATH_MAX];
	char *slash;

	if (mkdir(s->dir, 0755) == 0 || errno == EEXIST)
		return 0;
	if (errno != ENOENT)
		return -errno;
	snprintf(parent, sizeof parent, "%s", s->dir);
	slash = strrchr(parent, '/');
	*slash = 0;
	if (mkdir(parent, 0750) < 0 && errno != EEXIST)
		return -errno;
	return mkdir(s->dir, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int write_all(int fd, const void *data, size_t len, uint64_t offset)
{
	const char *from = data;

	while (len) {
		ssize_t n = pwrite(fd, from, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int begin_file(struct store *s, int fd)
{
	struct segment_header header;
	struct stat st;
	int err;

	/* For the next drain: see wait_for_landing(). Where files have no locks, it does not wait. */
	flock(fd, LOCK_EX | LOCK_NB);
	segment_header_make(&header, &s->ring, s->number, clock_ns(CLOCK_REALTIME));
	err = write_all(fd, &header, sizeof header, 0);
	if (!err && fstat(fd, &st) < 0)
		err = -errno;
	if (!err && (fchmod(fd, s->mode) < 0 || (geteuid() == 0 && fchown(fd, s->uid, s->gid) < 0)))
		err = -errno;
	if (err)
		return err;
	s->ino = st.st_ino;
	s->fd = fd;
	s->size = sizeof header;
	s->opened_ns = clock_ns(CLOCK_MONOTONIC);
	s->indexed = true;
	segment_index_init(&s->index);
	return 0;
}

/* Crash: a file without a whole header is nothing, and the next one removes it. */
int store_open(struct store *s)
{
	char path[PATH_MAX];
	int fd, err = make_directory(s);

	if (err)
		return err;
	do {
		s->number++;
		err = path_of(s, s->number, path);
		if (err)
			return err;
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	} while (fd < 0 && errno == EEXIST);
	if (fd < 0)
		return -errno;
	err = begin_file(s, fd);
	if (err) {
		close(fd);
		unlink(path);
	}
	return err;
}

void store_wrote(struct store *s, const struct segment_fragment *fragments, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (s->indexed && segment_index_add(&s->index, &fragments[i], s->size))
			s->indexed = false; /* no memory: readers walk it */
		s->size += segment_fragment_bytes(&fragments[i]);
	}
}

static void drop(struct store *s)
{
	segment_index_free(&s->index);
	close(s->fd);
	s->fd = -1;
}

int store_close(struct store *s, bool sync)
{
	struct segment_fragment f;
	const void *payload;
	int err = 0;

	if (s->fd < 0)
		return 0;
	if (s->indexed && !segment_index_fragment(&s->index, s->size, &f, &payload)) {
		err = write_all(s->fd, payload, f.payload_bytes, s->size + sizeof f);
		if (!err)
			err = write_all(s->fd, &f, sizeof f, s->size);
	}
	if (err && ftruncate(s->fd, (off_t)s->size) < 0)
		err = -errno;
	if (!err && sync && fdatasync(s->fd) < 0)
		err = -errno;
	drop(s);
	return err;
}

/* One that got nothing but its header is not kept: the disk may stay full for long. */
static void remove_empty(const struct store *s)
{
	char path[PATH_MAX];
	struct stat st;

	if (s->size == sizeof(struct segment_header) && !path_of(s, s->number, path) &&
	    lstat(path, &st) == 0 && st.st_ino == s->ino)
		unlink(path);
}

void store_abandon(struct store *s)
{
	if (s->fd < 0)
		return;
	remove_empty(s);
	if (ftruncate(s->fd, (off_t)s->size) < 0) {
		/* What is torn there, readers step over. */
	}
	drop(s);
}

int store_check(const struct store *s)
{
	struct stat st;

	return fstat(s->fd, &st) == 0 && st.st_nlink == 0 ? -ENOENT : 0;
}

/* ---- those that are closed ---- */

static void remove_segment(const char *dir, uint64_t number)
{
	char name[SEGMENT_FILE_BYTES], path[PATH_MAX];

	for (int compressed = 0; compressed <= 1; compressed++) {
		segment_file_name(name, number, compressed);
		if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) < sizeof path)
			unlink(path);
	}
}

static int compress_closed(const char *dir, uint64_t below)
{
	struct segment_listed *list;
	size_t count;
	int first = 0, err = segment_list(dir, &list, &count);

	if (err)
		return err;
	for (size_t i = 0; i < count; i++) {
		if (!list[i].plain || list[i].number >= below)
			continue;
		err = segment_compress(dir, list[i].number);
		if (err && err != -ENOENT && !first)
			first = err;
	}
	free(list);
	return first;
}

static int keep_to(const char *dir, uint64_t below, uint64_t retention)
{
	struct segment_listed *list;
	uint64_t total = 0;
	size_t count;
	int err = segment_list(dir, &list, &count);

	if (err)
		return err;
	for (size_t i = 0; i < count; i++)
		total += list[i].bytes;
	for (size_t i = 0; i < count && total > retention && list[i].number < below; i++) {
		remove_segment(dir, list[i].number);
		total -= list[i].bytes;
	}
	free(list);
	return 0;
}

int store_tidy(const char *dir, uint64_t below, bool compress, uint64_t retention)
{
	int err = compress ? compress_closed(dir, below) : 0;
	int kept = retention ? keep_to(dir, below, retention) : 0;

	return err && err != -ENOENT ? err : kept == -ENOENT ? 0 : kept;
}
