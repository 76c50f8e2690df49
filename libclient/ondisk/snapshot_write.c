/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects first, in rounds, then the log, then the words that say what there is. An object counts as copied if its word
 * was the same, generation and all, before and after; the handles of those are written down, and what the words claim
 * beyond them was made after the last round: restoring leaves it out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "ring_view.h"
#include "segment.h"
#include "snapshot.h"
#include "walk.h"

#define ROUNDS_MIN 2	/* so that what a cell leads to is found, whose cell was copied just before it was persistent */
#define ROUNDS_MAX 8
#define BLOCK_TRIES 100 /* of one block of the log */

struct writer {
	struct arena *a;
	struct snapshot_sum *sum;
	int fd;
	struct ZSTD_CCtx_s *zstd;
	unsigned char *plain, *packed; /* a piece, and a block of the log with its slots */
	size_t room;
	uint32_t crc; /* of all that is written */
	uint64_t blocks;
	uint64_t *done, done_len, done_room; /* handles; the first done_sorted of them in order */
	uint64_t done_sorted;
};

static int put(struct writer *w, const void *data, size_t len)
{
	const char *p = data;

	w->crc = segment_crc(w->crc, data, len);
	w->sum->file_bytes += len;
	while (len) {
		ssize_t n = write(w->fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int put_block(struct writer *w, enum snapshot_kind kind, uint64_t offset, const void *plain, uint32_t len)
{
	size_t n = ZSTD_compress2(w->zstd, w->packed, w->room, plain, len);
	struct snapshot_block b = {.magic = SNAPSHOT_BLOCK_MAGIC, .kind = kind, .offset = offset, .plain = len};
	int r;

	if (ZSTD_isError(n))
		return -ENOMEM;
	b.packed = (uint32_t)n;
	b.crc = segment_crc(0, w->packed, n);
	b.head_crc = segment_crc(0, &b, offsetof(struct snapshot_block, head_crc));
	w->blocks++;
	w->sum->plain_bytes += len;
	r = put(w, &b, sizeof(b));
	return r ? r : put(w, w->packed, n);
}

static bool is_zero(const unsigned char *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* A range of the file; what is zeros is left out where that is the same, as it is in the heap. */
static int put_range(struct writer *w, uint64_t offset, uint64_t len, bool keep_zeros)
{
	while (len) {
		uint64_t some = len < SNAPSHOT_PIECE ? len : SNAPSHOT_PIECE;
		int64_t n = arena_read(w->a, offset, w->plain, some);
		int r = 0;

		if (n <= 0)
			return n ? (int)n : -EUCLEAN;
		if (keep_zeros || !is_zero(w->plain, (size_t)n))
			r = put_block(w, SNAPSHOT_DATA, offset, w->plain, (uint32_t)n);
		if (r)
			return r;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* ---- objects ---- */

static int compare(const void *x, const void *y)
{
	uint64_t p = *(const uint64_t *)x, q = *(const uint64_t *)y;

	return p < q ? -1 : p > q;
}

static bool is_done(const struct writer *w, uint64_t handle)
{
	return w->done_sorted &&
	       bsearch(&handle, w->done, w->done_sorted, sizeof(handle), compare) != NULL;
}

static int note_done(struct writer *w, uint64_t handle)
{
	if (w->done_len == w->done_room) {
		uint64_t room = w->done_room ? 2 * w->done_room : 4096;
		uint64_t *done = realloc(w->done, room * sizeof(*done));

		if (!done)
			return -ENOMEM;
		w->done = done;
		w->done_room = room;
	}
	w->done[w->done_len++] = handle;
	return 0;
}

static bool lasts(uint32_t state)
{
	return state_kind(state) == OBJECT_PERSISTENT || state_kind(state) == OBJECT_PUBLISHED;
}

/* Taken from one word; the same word is asked again when its bytes are copied. */
static int copy_object(struct writer *w, uint64_t offset, uint64_t bytes, uint32_t state)
{
	uint64_t handle = handle_make(w->a->tag, state_gen(state), offset);
	struct walk_object now;
	int r;

	if (!lasts(state) || is_done(w, handle))
		return 0;
	if (offset >= w->a->g.capacity || bytes > w->a->g.capacity - offset)
		return 0;
	r = put_range(w, w->a->g.heap + offset, bytes, w->done_sorted != 0);
	if (r)
		return r;
	/* PAIR(read): the copy, then the look. */
	atomic_thread_fence(memory_order_acquire);
	if (!walk_object(w->a, offset, &now) || !lasts(now.state) || state_gen(now.state) != state_gen(state) ||
	    now.bytes != bytes) {
		w->sum->dropped++;
		return 0;
	}
	w->sum->objects++;
	w->sum->object_bytes += bytes;
	w->sum->again += w->done_sorted != 0;
	return note_done(w, handle);
}

static int copy_slab(struct writer *w, const struct walk_item *item)
{
	struct walk_slab slab;
	int r = 0;

	if (!walk_slab(w->a, item, &slab))
		return 0;
	for (uint32_t i = 0; !r && i < slab.objects; i++)
		r = copy_object(w, walk_object_offset(&slab, i), slab.bytes, walk_state(&slab, i));
	return r;
}

static int copy_item(void *context, const struct walk_item *item)
{
	struct writer *w = context;

	if (item->problem)
		return 0;
	if (item->kind == PAGE_SLAB)
		return copy_slab(w, item);
	if (item->kind == PAGE_LARGE)
		return copy_object(w, item->page << PAGE_SHIFT, item->length << PAGE_SHIFT, pw0_state(item->w0));
	return 0;
}

/* Until a round finds nothing new. */
static int copy_objects(struct writer *w)
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		uint64_t before = w->done_len;
		int r;

		arena_refresh(w->a);
		r = walk_extents(w->a, copy_item, w);
		if (r)
			return r;
		if (w->done_len)
			qsort(w->done, w->done_len, sizeof(*w->done), compare);
		w->done_sorted = w->done_len;
		if (w->done_len == before && round + 1 >= ROUNDS_MIN)
			break;
	}
	return 0;
}

/* ---- the log ---- */

/* Of all blocks, as they were with their bytes. */
struct ring_words_copy {
	uint64_t *words;
	struct ring_block *heads;
	uint64_t words_at, heads_at; /* in the file */
};

static bool read_at(const struct writer *w, uint64_t offset, void *to, uint64_t len)
{
	return arena_read(w->a, offset, to, len) == (int64_t)len;
}

/* Slots and bytes of one lap into w->plain. 1; 0: its writers were quicker each time. */
static int copy_block(struct writer *w, const struct ring_view *v, uint32_t block, struct ring_words_copy *c)
{
	const uint64_t slots = (uint64_t)v->block_slots * sizeof(uint64_t);
	uint64_t *word = &c->words[block], now;

	for (int i = 0; i < BLOCK_TRIES; i++) {
		/* PAIR(log-commit): the word and what is committed, then the bytes; then whether it is still that lap. */
		if (!read_at(w, c->words_at + block * sizeof(*word), word, sizeof(*word)) ||
		    !read_at(w, c->heads_at + block * sizeof(c->heads[0]), &c->heads[block], sizeof(c->heads[0])) ||
		    !read_at(w, v->slots_at + block * slots, w->plain, slots) ||
		    !read_at(w, ring_block_at(v, block), w->plain + slots, ring_block_bytes(v)) ||
		    !read_at(w, c->words_at + block * sizeof(*word), &now, sizeof(now)))
			return -EUCLEAN;
		if (ring_word_lap(now) == ring_word_lap(*word) && ring_word_state(*word) != RING_RESETTING)
			return 1;
	}
	return 0;
}

static int copy_blocks(struct writer *w, const struct ring_view *v, struct ring_words_copy *c)
{
	const uint64_t slots = (uint64_t)v->block_slots * sizeof(uint64_t);
	int r = 0;

	for (uint32_t i = 0; r >= 0 && i < v->blocks; i++) {
		r = copy_block(w, v, i, c);
		if (r == 0) {
			w->sum->log_blocks_missed++;
			c->words[i] = 0;
			memset(&c->heads[i], 0, sizeof(c->heads[i]));
		}
		if (r <= 0 || ring_word_state(c->words[i]) == RING_FREE)
			continue;
		r = put_block(w, SNAPSHOT_DATA, v->slots_at + i * slots, w->plain, (uint32_t)slots);
		if (!r)
			r = put_block(w, SNAPSHOT_DATA, ring_block_at(v, i), w->plain + slots, ring_block_bytes(v));
	}
	return r;
}

static int put_bytes(struct writer *w, uint64_t offset, const void *data, uint64_t len)
{
	int r = 0;

	for (uint64_t at = 0; !r && at < len; at += SNAPSHOT_PIECE)
		r = put_block(w, SNAPSHOT_DATA, offset + at, (const char *)data + at,
			      (uint32_t)(len - at < SNAPSHOT_PIECE ? len - at : SNAPSHOT_PIECE));
	return r;
}

/* A ring whose header is damaged is made anew when it is restored, as a repair does. */
static int copy_ring(struct writer *w)
{
	struct ring_words_copy c = {0};
	struct ring_view v;
	int r = -ENOMEM;

	if (!ring_view(w->a, &v))
		return 0;
	c.words_at = (uint64_t)((const char *)v.words - w->a->base);
	c.heads_at = (uint64_t)((const char *)v.heads - w->a->base);
	c.words = calloc(v.blocks, sizeof(*c.words));
	c.heads = calloc(v.blocks, sizeof(*c.heads));
	if (c.words && c.heads)
		r = copy_blocks(w, &v, &c);
	if (r >= 0)
		r = put_range(w, w->a->g.ring, c.words_at - w->a->g.ring, true);
	if (!r)
		r = put_bytes(w, c.words_at, c.words, v.blocks * sizeof(*c.words));
	if (!r)
		r = put_bytes(w, c.heads_at, c.heads, v.blocks * sizeof(*c.heads));
	free(c.words);
	free(c.heads);
	return r;
}

/* The large records' extents, and the slabs' state words. */
static int copy_bookkeeping(void *context, const struct walk_item *item)
{
	struct writer *w = context;

	if (item->problem || (item->kind != PAGE_STATE && item->kind != PAGE_LOG))
		return 0;
	return put_range(w, w->a->g.heap + (item->page << PAGE_SHIFT), item->length << PAGE_SHIFT, true);
}

/* ---- the fixed part ---- */

/* What of a range has memory. */
static int put_data(struct writer *w, uint64_t from, uint64_t to)
{
	int fd = w->a->files.fd;

	while (from < to) {
		off_t data = lseek(fd, (off_t)from, SEEK_DATA), hole;
		uint64_t end;
		int r;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		if ((uint64_t)data >= to)
			return 0;
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		end = (uint64_t)hole < to ? (uint64_t)hole : to;
		r = put_range(w, (uint64_t)data, end - (uint64_t)data, true);
		if (r)
			return r;
		from = end;
	}
	return 0;
}

/* Names before the words of objects: a name that is live then has an object there, or one that was unpublished since. */
static int copy_words(struct writer *w)
{
	const struct arena_geometry *g = &w->a->g;
	int r = put_data(w, 0, g->ring);

	if (!r)
		r = put_data(w, g->ring + g->ring_size, g->heap);
	if (!r)
		r = walk_extents(w->a, copy_bookkeeping, w);
	return r;
}

static int put_handles(struct writer *w)
{
	uint64_t at = 0;
	int r = 0;

	while (!r && at < w->done_len) {
		uint64_t some = w->done_len - at;

		if (some > SNAPSHOT_PIECE / sizeof(uint64_t))
			some = SNAPSHOT_PIECE / sizeof(uint64_t);
		r = put_block(w, SNAPSHOT_HANDLES, at, w->done + at, (uint32_t)(some * sizeof(uint64_t)));
		at += some;
	}
	return r;
}

static int put_header(struct writer *w)
{
	struct snapshot_header h = {.version = SNAPSHOT_VERSION,
				    .layout = LAYOUT_VERSION,
				    .file_size = w->a->g.file_size};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	h.taken_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
	memcpy(h.magic, SNAPSHOT_MAGIC, sizeof(h.magic));
	memcpy(h.name, w->a->header->name, sizeof(h.name));
	h.name[sizeof(h.name) - 1] = '\0';
	h.crc = segment_crc(0, &h, offsetof(struct snapshot_header, crc));
	return put(w, &h, sizeof(h));
}

static int put_end(struct writer *w)
{
	struct snapshot_block b = {.magic = SNAPSHOT_BLOCK_MAGIC,
				   .kind = SNAPSHOT_END,
				   .offset = w->blocks,
				   .plain = w->crc};

	b.head_crc = segment_crc(0, &b, offsetof(struct snapshot_block, head_crc));
	return put(w, &b, sizeof(b));
}

static int write_all(struct writer *w)
{
	int r = put_header(w);

	/* The arena's header first of all: what follows can be judged by it. */
	if (!r)
		r = put_range(w, 0, PAGE_SIZE, true);
	if (!r)
		r = copy_objects(w);
	if (!r)
		r = copy_ring(w);
	if (!r)
		r = copy_words(w);
	if (!r)
		r = put_handles(w);
	return r ? r : put_end(w);
}

int snapshot_write(struct arena *a, int fd, int level, struct snapshot_sum *ret)
{
	struct writer w = {.a = a, .sum = ret, .fd = fd};
	int r = -ENOMEM;

	memset(ret, 0, sizeof(*ret));
	w.zstd = ZSTD_createCCtx();
	w.room = ZSTD_compressBound(2 * SNAPSHOT_PIECE);
	w.plain = malloc(2 * SNAPSHOT_PIECE);
	w.packed = malloc(w.room);
	if (w.zstd && w.plain && w.packed &&
	    !ZSTD_isError(ZSTD_CCtx_setParameter(w.zstd, ZSTD_c_compressionLevel, level)))
		r = write_all(&w);
	ZSTD_freeCCtx(w.zstd);
	free(w.plain);
	free(w.packed);
	free(w.done);
	return r;
}
