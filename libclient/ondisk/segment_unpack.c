/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A compressed segment: frames of zstd, a skippable one with copies of header and index, a skippable one with
 * the seek table, whose last entry is that of the copies, of no plain bytes.
 */
#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

#include "segment_unpack.h"

struct table {
	uint64_t at;	 /* where its skippable frame begins */
	uint32_t frames;
	uint32_t entry;	 /* bytes of one */
	unsigned char *entries;
};

static uint32_t word_at(const unsigned char *p)
{
	uint32_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

/* A read of all or nothing. */
static int read_all(struct segment_file *f, uint64_t at, void *to, size_t len)
{
	ssize_t n = segment_file_pread(f, at, to, len);

	return n < 0 ? (int)n : n == (ssize_t)len ? 0 : -EUCLEAN;
}

static int read_foot(struct segment_file *f, struct table *t)
{
	unsigned char foot[SEGMENT_TABLE_FOOT];
	uint64_t bytes;
	int r;

	if (f->disk < sizeof(foot) + 8)
		return -EUCLEAN;
	r = read_all(f, f->disk - sizeof(foot), foot, sizeof(foot));
	if (r)
		return r;
	t->frames = word_at(foot);
	t->entry = foot[4] & 0x80 ? 12 : 8;
	if (word_at(foot + 5) != SEGMENT_TABLE_MAGIC || foot[4] & 0x7c || t->frames < 2 ||
	    t->frames > SEGMENT_FRAMES_MAX)
		return -EUCLEAN;
	bytes = 8 + (uint64_t)t->frames * t->entry + sizeof(foot);
	if (bytes > f->disk)
		return -EUCLEAN;
	t->at = f->disk - bytes;
	return 0;
}

static int read_table(struct segment_file *f, struct table *t)
{
	size_t len = 8 + (size_t)t->frames * t->entry;
	int r;

	t->entries = malloc(len);
	if (!t->entries)
		return -ENOMEM;
	r = read_all(f, t->at, t->entries, len);
	if (!r && (word_at(t->entries) != SEGMENT_TABLE_SKIP ||
		   word_at(t->entries + 4) != len - 8 + SEGMENT_TABLE_FOOT))
		r = -EUCLEAN;
	return r;
}

static int take_frames(struct segment_file *f, const struct table *t)
{
	uint64_t at = 0, plain = 0;

	f->frames = malloc(t->frames * sizeof(*f->frames));
	if (!f->frames)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->frames; i++) {
		const unsigned char *entry = t->entries + 8 + (size_t)i * t->entry;
		struct segment_frame frame = { .at = at,
					       .plain = plain,
					       .bytes = word_at(entry),
					       .plain_bytes = word_at(entry + 4) };

		if (frame.bytes > t->at - at || frame.plain_bytes > SEGMENT_FRAME_MAX ||
		    (frame.plain_bytes && frame.bytes > ZSTD_COMPRESSBOUND(SEGMENT_FRAME_MAX)) ||
		    !frame.plain_bytes != (i == t->frames - 1))
			return -EUCLEAN;
		f->frames[i] = frame;
		at += frame.bytes;
		plain += frame.plain_bytes;
	}
	f->frame_count = t->frames - 1;
	f->size = plain;
	return at == t->at ? 0 : -EUCLEAN;
}

static int take_copies(struct segment_file *f)
{
	const struct segment_frame *copies = &f->frames[f->frame_count];
	unsigned char head[8];
	int r;

	if (copies->bytes < sizeof(head) + sizeof(f->header) + sizeof(struct segment_end))
		return -EUCLEAN;
	r = read_all(f, copies->at, head, sizeof(head));
	if (r)
		return r;
	f->index_at = copies->at + sizeof(head);
	f->index_bytes = copies->bytes - (uint32_t)sizeof(head);
	if (word_at(head) != SEGMENT_INDEX_SKIP || word_at(head + 4) != f->index_bytes)
		return -EUCLEAN;
	r = read_all(f, f->index_at, &f->header, sizeof(f->header));
	return r ? r : segment_header_good(&f->header) ? 0 : -EUCLEAN;
}

int segment_unpack_open(struct segment_file *f)
{
	struct table t = { 0 };
	int r = read_foot(f, &t);

	if (!r)
		r = read_table(f, &t);
	if (!r)
		r = take_frames(f, &t);
	if (!r)
		r = take_copies(f);
	free(t.entries);
	return r;
}

void segment_unpack_close(struct segment_file *f)
{
	ZSTD_freeDCtx(f->unpack);
}

/* The frame of a plain offset below the size. */
static const struct segment_frame *frame_of(const struct segment_file *f, uint64_t at)
{
	size_t low = 0, high = f->frame_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (f->frames[middle].plain <= at)
			low = middle;
		else
			high = middle;
	}
	return &f->frames[low];
}

static int unpack(struct segment_file *f, const struct segment_frame *frame)
{
	size_t n;
	int r;

	if (!f->unpack)
		f->unpack = ZSTD_createDCtx();
	if (!f->unpack || segment_file_room(&f->packed, &f->packed_room, frame->bytes) ||
	    segment_file_room(&f->window, &f->window_room, frame->plain_bytes))
		return -ENOMEM;
	r = read_all(f, frame->at, f->packed, frame->bytes);
	if (r)
		return r;
	n = ZSTD_decompressDCtx(f->unpack, f->window, frame->plain_bytes, f->packed, frame->bytes);
	return !ZSTD_isError(n) && n == frame->plain_bytes ? 0 : -EUCLEAN;
}

ssize_t segment_unpack_frame(struct segment_file *f, uint64_t at)
{
	const struct segment_frame *frame;
	int r;

	if (at >= f->size)
		return 0;
	frame = frame_of(f, at);
	f->window_len = 0;
	r = unpack(f, frame);
	if (r)
		return r;
	f->window_at = frame->plain;
	f->window_len = frame->plain_bytes;
	return (ssize_t)(f->window_len - (size_t)(at - frame->plain));
}
