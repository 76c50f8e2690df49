/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_file.c - a big file read from one end to the other: by read(2), as an object by shma_read(), and at its pointer; from
 * the kernel's memory, and after that was made to forget it. What is read is summed up, by each way alike.
 */
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE 65536u
#define ROUNDS 5

struct file {
	char path[256];
	int fd;
	size_t size;
	peer_ref ref;
	uint64_t *piece, expected;
};

static uint64_t sum_of(const uint64_t *words, size_t bytes)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		sum += words[i];
	return sum;
}

/* Where files lie on a disk, most often. */
static int make_file(struct file *f)
{
	uint64_t random = WORK_SEED;

	snprintf(f->path, sizeof(f->path), "/var/tmp/shmalloc-bench-XXXXXX");
	f->fd = mkstemp(f->path);
	if (f->fd < 0)
		return -errno;
	for (size_t at = 0; at < f->size; at += PIECE) {
		for (size_t i = 0; i < PIECE / sizeof(uint64_t); i++)
			f->piece[i] = work_random(&random);
		f->expected += sum_of(f->piece, PIECE);
		if (write(f->fd, f->piece, PIECE) != PIECE)
			return -errno;
	}
	return fsync(f->fd) ? -errno : 0;
}

/* ---- ways to read it ---- */

static uint64_t by_read(struct run *r, struct file *f)
{
	uint64_t sum = 0;
	ssize_t n;

	(void)r;
	lseek(f->fd, 0, SEEK_SET);
	while ((n = read(f->fd, f->piece, PIECE)) > 0)
		sum += sum_of(f->piece, (size_t)n);
	return sum;
}

static uint64_t by_object(struct run *r, struct file *f)
{
	uint64_t sum = 0;
	ssize_t n;

	for (size_t at = 0; (n = r->peer->object->read(f->ref, at, f->piece, PIECE)) > 0; at += (size_t)n)
		sum += sum_of(f->piece, (size_t)n);
	return sum;
}

static uint64_t by_pointer(struct run *r, struct file *f)
{
	const uint64_t *words = r->peer->ptr(f->ref);

	return words ? sum_of(words, f->size) : 0;
}

/* MB/s; less than 0: what was read is not what was written. */
static double speed(struct run *r, struct file *f, uint64_t (*way)(struct run *, struct file *), bool cold)
{
	double speeds[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t from;

		/* Mapped pages are not forgotten: each round maps anew. */
		f->ref = r->peer->object->map_file(f->path);
		if (cold)
			posix_fadvise(f->fd, 0, 0, POSIX_FADV_DONTNEED);
		from = work_now_ns();
		if (!f->ref || way(r, f) != f->expected)
			return -1;
		speeds[i] = (double)f->size * 1e3 / (double)(work_now_ns() - from);
		r->peer->free(f->ref);
	}
	return work_median(speeds, ROUNDS);
}

static int measure(struct run *r, struct file *f)
{
	static const struct {
		const char *warm, *cold;
		uint64_t (*way)(struct run *, struct file *);
	} ways[] = { { "read", "read_cold", by_read },
		     { "object", "object_cold", by_object },
		     { "pointer", "pointer_cold", by_pointer } };

	for (int cold = 0; cold < 2; cold++)
		for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
			double mbs = speed(r, f, ways[i].way, cold);

			if (mbs < 0)
				return -EIO;
			work_emit(cold ? ways[i].cold : ways[i].warm, mbs);
		}
	return 0;
}

int work_file(struct run *r)
{
	struct file f = { .size = r->tiny ? 4 * PIECE : (size_t)r->work->arg, .fd = -1, .piece = malloc(PIECE) };
	int err = f.piece ? make_file(&f) : -ENOMEM;

	if (!err)
		err = measure(r, &f);
	if (f.fd >= 0) {
		unlink(f.path);
		close(f.fd);
	}
	free(f.piece);
	return err;
}
