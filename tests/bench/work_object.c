/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_object.c - what is done with an object besides: held by several, packed.
 */
#include "work.h"

#include <errno.h>
#include <lz4.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

/* ---- holds ---- */

/* By who holds it already. */
static void further_holds(struct run *r, void *state, size_t n)
{
	const struct peer_object *o = r->peer->object;
	peer_ref ref = *(peer_ref *)state;

	while (n--) {
		o->retain(ref);
		o->release(ref);
	}
}

/* Its owner's, and its end. */
static void first_holds(struct run *r, void *state, size_t n)
{
	const struct peer_object *o = r->peer->object;

	(void)state;
	while (n--) {
		peer_ref ref = work_alloc(r->peer, 128);

		o->retain(ref);
		o->release(ref);
	}
}

static void no_holds(struct run *r, void *state, size_t n)
{
	(void)state;
	while (n--)
		r->peer->free(work_alloc(r->peer, 128));
}

int work_hold(struct run *r)
{
	peer_ref ref = work_alloc(r->peer, 128);
	int err = r->peer->object->retain(ref);

	if (err)
		return err;
	r->seconds /= 3;
	work_emit("further", work_steady(r, further_holds, &ref));
	work_emit("first", work_steady(r, first_holds, NULL) - work_steady(r, no_holds, NULL));
	return r->peer->object->release(ref);
}

/* ---- packing ---- */

/* Lines as a server logs them. */
static void write_lines(char *to, size_t size)
{
	static const char *const what[] = { "accepted connection from", "request served to", "timeout of", "cache miss for" };
	uint64_t random = WORK_SEED;
	char line[128];

	for (size_t at = 0; at < size;) {
		uint64_t x = work_random(&random);
		int n = snprintf(line, sizeof(line), "2026-01-01T%02u:%02u:%02u.%06u host srv[%u]: %s 10.0.%u.%u in %u us\n",
				 (unsigned)(at / 500000 % 24), (unsigned)(at / 8000 % 60), (unsigned)(at / 130 % 60),
				 (unsigned)(x % 1000000), (unsigned)(x >> 20 & 7) + 1200, what[x >> 24 & 3],
				 (unsigned)(x >> 32 & 3), (unsigned)(x >> 40 & 255), (unsigned)(x >> 50));
		size_t len = (size_t)n < size - at ? (size_t)n : size - at;

		memcpy(to + at, line, len);
		at += len;
	}
}

struct bytes {
	size_t size, room, packed_size;
	char *plain, *packed;
	int level; /* as shma_pack() has it */
};

/* The library alone, to private memory; the bytes that come out. */
static size_t bare_pack(const struct bytes *b)
{
	if (b->level <= 0)
		return (size_t)LZ4_compress_fast(b->plain, b->packed, (int)b->size, (int)b->room, 1 - b->level);
	return ZSTD_compress(b->packed, b->room, b->plain, b->size, b->level);
}

static size_t bare_unpack(const struct bytes *b)
{
	if (b->level <= 0)
		return (size_t)LZ4_decompress_safe(b->packed, b->plain, (int)b->packed_size, (int)b->size);
	return ZSTD_decompress(b->plain, b->size, b->packed, b->packed_size);
}

static double mbs(size_t bytes, uint64_t ns)
{
	return ns ? (double)bytes * 1e3 / (double)ns : 0;
}

#define TIMES 9

/* MB/s of plain bytes, both ways: the arena's medians, then the library's. */
static int measure(struct run *r, struct bytes *b, const char *const names[4])
{
	const struct peer_object *o = r->peer->object;
	double speed[4][TIMES];

	for (int i = 0; i < TIMES; i++) {
		peer_ref ref = work_alloc(r->peer, b->size), packed;
		uint64_t t[5];

		memcpy(r->peer->ptr(ref), b->plain, b->size);
		t[0] = work_cpu_ns();
		packed = o->pack(ref, b->level);
		t[1] = work_cpu_ns();
		if (!packed || packed == ref)
			return -EIO;
		ref = o->unpack(packed);
		t[2] = work_cpu_ns();
		if (!ref || memcmp(r->peer->ptr(ref), b->plain, b->size))
			return -EIO;
		r->peer->free(ref);
		t[3] = work_cpu_ns();
		b->packed_size = bare_pack(b);
		t[4] = work_cpu_ns();
		if (bare_unpack(b) != b->size)
			return -EIO;
		speed[0][i] = mbs(b->size, t[1] - t[0]);
		speed[1][i] = mbs(b->size, t[2] - t[1]);
		speed[2][i] = mbs(b->size, t[4] - t[3]);
		speed[3][i] = mbs(b->size, work_cpu_ns() - t[4]);
	}
	for (int k = 0; k < 4; k++)
		work_emit(names[k], work_median(speed[k], TIMES));
	return 0;
}

int work_pack(struct run *r)
{
	static const char *const lz4[] = { "lz4", "unlz4", "bare_lz4", "bare_unlz4" };
	static const char *const zstd[] = { "zstd", "unzstd", "bare_zstd", "bare_unzstd" };
	struct bytes b = { .size = r->tiny ? 65536 : (size_t)r->work->arg };
	int err = -ENOMEM;

	b.room = ZSTD_compressBound(b.size) + (size_t)LZ4_compressBound((int)b.size);
	b.plain = malloc(b.size);
	b.packed = malloc(b.room);
	if (b.plain && b.packed) {
		write_lines(b.plain, b.size);
		err = measure(r, &b, lz4);
		b.level = 3;
		if (!err)
			err = measure(r, &b, zstd);
	}
	free(b.plain);
	free(b.packed);
	return err;
}
