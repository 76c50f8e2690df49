/* SPDX-License-Identifier: Apache-2.0 */
#include "packing.h"

#include <errno.h>
#include <lz4frame.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "object.h"
#include "replace.h"

static uint64_t chunks_of(uint64_t bytes)
{
	return (bytes + PACKED_CHUNK - 1) / PACKED_CHUNK;
}

/* Bytes before the first frame. */
static uint64_t table_end(uint64_t chunks)
{
	return sizeof(struct packed_header) + chunks * sizeof(uint64_t);
}

static uint64_t chunk_length(uint64_t bytes, uint64_t chunk)
{
	uint64_t left = bytes - chunk * PACKED_CHUNK;

	return left < PACKED_CHUNK ? left : PACKED_CHUNK;
}

/* ---- packing ---- */

struct packer {
	struct ZSTD_CCtx_s *zstd; /* NULL: LZ4 */
	LZ4F_preferences_t lz4;
	unsigned char *plain; /* one chunk */
	unsigned char *frame; /* one, and the longest there can be */
	size_t room;
};

static void packer_free(struct packer *p)
{
	ZSTD_freeCCtx(p->zstd);
	free(p->plain);
	free(p->frame);
}

static int packer_make(struct packer *p, int level)
{
	*p = (struct packer){.lz4 = {.frameInfo = {.blockSizeID = LZ4F_max256KB,
						   .contentChecksumFlag = LZ4F_contentChecksumEnabled},
				     .compressionLevel = level}};
	if (level > 0) {
		p->zstd = ZSTD_createCCtx();
		if (!p->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, level)) ||
		    ZSTD_isError(ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_checksumFlag, 1)))
			return -ENOMEM;
	}
	p->room = p->zstd ? ZSTD_compressBound(PACKED_CHUNK) : LZ4F_compressFrameBound(PACKED_CHUNK, &p->lz4);
	p->plain = malloc(PACKED_CHUNK);
	p->frame = malloc(p->room);
	return p->plain && p->frame ? 0 : -ENOMEM;
}

static int64_t pack_chunk(struct packer *p, size_t length)
{
	size_t n;

	if (p->zstd) {
		n = ZSTD_compress2(p->zstd, p->frame, p->room, p->plain, length);
		return ZSTD_isError(n) ? -ENOMEM : (int64_t)n;
	}
	n = LZ4F_compressFrame(p->frame, p->room, p->plain, length, &p->lz4);
	return LZ4F_isError(n) ? -ENOMEM : (int64_t)n;
}

/* 1; 0: it does not fit. */
static int pack_all(struct arena *a, uint64_t handle, const struct packed_header *head, struct packer *p,
		    struct packing *ret, uint64_t room)
{
	for (uint64_t i = 0; i < head->chunks; i++) {
		uint64_t length = chunk_length(head->bytes, i);
		int64_t n = object_read(a, handle, i * PACKED_CHUNK, p->plain, length);

		if (n >= 0 && (uint64_t)n != length)
			return -EUCLEAN;
		if (n >= 0)
			n = pack_chunk(p, length);
		if (n < 0)
			return (int)n;
		if ((uint64_t)n > room - ret->length)
			return 0;
		memcpy(ret->data + ret->length, p->frame, (size_t)n);
		ret->length += (uint64_t)n;
		memcpy(ret->data + sizeof(*head) + i * sizeof(uint64_t), &ret->length, sizeof(uint64_t));
	}
	return 1;
}

int packing_make(struct arena *a, uint64_t handle, uint64_t bytes, bool is_large, int level, struct packing *ret)
{
	struct packed_header head = {.bytes = bytes,
				     .check = ~bytes,
				     .chunks = (uint32_t)chunks_of(bytes),
				     .method = level > 0 ? PACKED_ZSTD : PACKED_LZ4,
				     .large = is_large};
	/* Whole pages, and less than it takes now. */
	uint64_t room = (bytes - 1) & ~(uint64_t)(PAGE_SIZE - 1);
	struct packer p;
	int r;

	*ret = (struct packing){.length = table_end(head.chunks)};
	if (level > PACKING_LEVEL_MAX || chunks_of(bytes) > UINT32_MAX)
		return -EINVAL;
	if (room <= ret->length)
		return 0;
	r = packer_make(&p, level);
	if (!r) {
		ret->data = malloc(room);
		r = ret->data ? pack_all(a, handle, &head, &p, ret, room) : -ENOMEM;
	}
	packer_free(&p);
	if (r > 0) {
		head.packed = ret->length;
		memcpy(ret->data, &head, sizeof(head));
	} else {
		free(ret->data);
		ret->data = NULL;
	}
	return r;
}

/* ---- unpacking ---- */

int packing_head(struct arena *a, uint64_t handle, struct packed_header *h)
{
	int64_t n = replace_packed(a, handle, 0, h, sizeof(*h));

	if (n < 0)
		return (int)n;
	if (h->check != ~h->bytes || h->bytes == 0 || h->bytes > a->g.capacity || h->chunks != chunks_of(h->bytes) ||
	    h->packed <= table_end(h->chunks) || (h->method != PACKED_LZ4 && h->method != PACKED_ZSTD))
		return -EUCLEAN;
	return 0;
}

struct unpacker {
	struct arena *a;
	uint64_t handle;
	const struct packed_header *head;
	struct ZSTD_DCtx_s *zstd;
	struct LZ4F_dctx_s *lz4;
	unsigned char *frame;
	unsigned char *plain; /* one chunk, where less than that is asked for */
	uint64_t room;
};

static void unpacker_free(struct unpacker *u)
{
	ZSTD_freeDCtx(u->zstd);
	LZ4F_freeDecompressionContext(u->lz4);
	free(u->frame);
	free(u->plain);
}

static int unpacker_make(struct unpacker *u)
{
	bool made;

	u->room = ZSTD_compressBound(PACKED_CHUNK);
	if (u->room < LZ4F_compressFrameBound(PACKED_CHUNK, NULL))
		u->room = LZ4F_compressFrameBound(PACKED_CHUNK, NULL);
	u->frame = malloc(u->room);
	u->plain = malloc(PACKED_CHUNK);
	if (u->head->method == PACKED_ZSTD)
		made = (u->zstd = ZSTD_createDCtx()) != NULL;
	else
		made = !LZ4F_isError(LZ4F_createDecompressionContext(&u->lz4, LZ4F_VERSION));
	return made && u->frame && u->plain ? 0 : -ENOMEM;
}

/* One frame, all of it, is a chunk, all of it. A call that neither takes nor gives anything ends it. */
static bool unpack_lz4(struct unpacker *u, size_t packed, unsigned char *to, size_t length)
{
	size_t taken = 0, given = 0, left = 1;

	LZ4F_resetDecompressionContext(u->lz4);
	while (left) {
		size_t in = packed - taken, out = length - given;

		left = LZ4F_decompress(u->lz4, to + given, &out, u->frame + taken, &in, NULL);
		if (LZ4F_isError(left) || (!in && !out))
			return false;
		taken += in;
		given += out;
	}
	return taken == packed && given == length;
}

static bool unpack_frame(struct unpacker *u, size_t packed, unsigned char *to, size_t length)
{
	return u->zstd ? ZSTD_decompressDCtx(u->zstd, to, length, u->frame, packed) == length
		       : unpack_lz4(u, packed, to, length);
}

/* Where a chunk's frame lies. */
static int frame_of(const struct unpacker *u, uint64_t chunk, uint64_t *from, uint64_t *length)
{
	uint64_t ends[2] = {table_end(u->head->chunks), 0};
	uint64_t at = sizeof(*u->head) + chunk * sizeof(uint64_t);
	int64_t n = chunk ? replace_packed(u->a, u->handle, at - sizeof(uint64_t), ends, sizeof(ends))
			  : replace_packed(u->a, u->handle, at, &ends[1], sizeof(ends[1]));

	if (n < 0)
		return (int)n;
	if (ends[0] < table_end(u->head->chunks) || ends[1] <= ends[0] || ends[1] > u->head->packed ||
	    ends[1] - ends[0] > u->room)
		return -EUCLEAN;
	*from = ends[0];
	*length = ends[1] - ends[0];
	return 0;
}

static int unpack_chunk(struct unpacker *u, uint64_t chunk, unsigned char *to)
{
	uint64_t from = 0, length = 0;
	int r = frame_of(u, chunk, &from, &length);
	int64_t n;

	if (r)
		return r;
	n = replace_packed(u->a, u->handle, from, u->frame, length);
	if (n < 0)
		return (int)n;
	return unpack_frame(u, length, to, chunk_length(u->head->bytes, chunk)) ? 0 : -EUCLEAN;
}

/* Within one chunk, and of at least one byte. */
static int read_piece(struct unpacker *u, uint64_t offset, unsigned char *to, uint64_t len)
{
	uint64_t chunk = offset / PACKED_CHUNK;
	int r;

	if (len == chunk_length(u->head->bytes, chunk))
		return unpack_chunk(u, chunk, to);
	r = unpack_chunk(u, chunk, u->plain);
	if (!r)
		memcpy(to, u->plain + offset % PACKED_CHUNK, len);
	return r;
}

int64_t packing_read(struct arena *a, uint64_t handle, const struct packed_header *head, uint64_t offset, void *to,
		     uint64_t len)
{
	struct unpacker u = {.a = a, .handle = handle, .head = head};
	uint64_t done = 0;
	int r;

	if (offset >= head->bytes || !len)
		return 0;
	if (len > head->bytes - offset)
		len = head->bytes - offset;
	r = unpacker_make(&u);
	while (!r && done < len) {
		uint64_t some = PACKED_CHUNK - (offset + done) % PACKED_CHUNK;

		if (some > len - done)
			some = len - done;
		r = read_piece(&u, offset + done, (unsigned char *)to + done, some);
		done += some;
	}
	unpacker_free(&u);
	return r ? r : (int64_t)len;
}
