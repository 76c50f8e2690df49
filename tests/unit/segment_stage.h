/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_stage.h - segments made for tests by the writing half of libondisk alone, in memory, then put into
 * files: records of own and shared blocks, large ones, losses, an index or none.
 */
#ifndef TESTS_UNIT_SEGMENT_STAGE_H
#define TESTS_UNIT_SEGMENT_STAGE_H

#ifdef STAGE_ALONE /* a program that is no test */
#include <assert.h>
#define ck_assert_int_eq(x, y) assert((x) == (y))
#define ck_assert_int_ge(x, y) assert((x) >= (y))
#define ck_assert_ptr_nonnull(x) assert(x)
#else
#include <check.h>
#endif
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "segment.h"

#define STAGE_BLOCK 65536u

static const struct segment_ring stage_ring = {
	.ring = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 },
	.boot = { 0xb0 },
	.name = "stage",
	.block_bytes = STAGE_BLOCK,
	.blocks = 64,
};

/* A payload in the making. */
struct stage_payload {
	unsigned char *data;
	size_t len, room;
};

static inline void *stage_room(struct stage_payload *p, size_t len)
{
	while (p->room < p->len + len) {
		p->room = p->room ? p->room * 2 : 4096;
		p->data = realloc(p->data, p->room);
		ck_assert_ptr_nonnull(p->data);
	}
	memset(p->data + p->len, 0, len);
	p->len += len;
	return p->data + p->len - len;
}

static inline uint32_t stage_info(size_t len, int level)
{
	return (uint32_t)len | (uint32_t)level << SEGMENT_INFO_LEVEL_SHIFT;
}

/* A record of an own block, or of a shared one if author is given. data NULL: large, len long. */
static inline void stage_record(struct stage_payload *p, const struct segment_author *author, int level,
				uint64_t time, uint64_t seq, const void *data, size_t len)
{
	uint32_t info = stage_info(len, level) | (data ? 0 : SEGMENT_INFO_LARGE);
	struct segment_entry entry = { .info = info, .time = time, .seq = seq };
	size_t before = author ? sizeof(*author) : 0;
	unsigned char *at =
		stage_room(p, author ? segment_shared_bytes(info) : segment_own_bytes(info));

	if (author)
		memcpy(at, author, before);
	memcpy(at + before, &entry, sizeof(entry));
	if (data && len)
		memcpy(at + before + sizeof(entry), data, len);
}

/* A segment in the making. */
struct stage {
	struct stage_payload bytes;
	struct segment_index index;
	uint64_t number;
};

static inline void stage_open_ring(struct stage *s, const struct segment_ring *ring, uint64_t number)
{
	memset(s, 0, sizeof(*s));
	s->number = number;
	segment_index_init(&s->index);
	segment_header_make(stage_room(&s->bytes, sizeof(struct segment_header)), ring, number,
			    UINT64_C(1700000000000000000) + number);
}

static inline void stage_open(struct stage *s, uint64_t number)
{
	stage_open_ring(s, &stage_ring, number);
}

static inline void stage_close(struct stage *s)
{
	free(s->bytes.data);
	segment_index_free(&s->index);
}

/* Where it stands. */
static inline uint64_t stage_fragment(struct stage *s, struct segment_fragment *f, const void *payload,
				      size_t len)
{
	struct iovec part = { (void *)payload, len };
	uint64_t offset = s->bytes.len;

	ck_assert_int_eq(segment_fragment_make(f, &part, 1), 0);
	if (f->kind != SEGMENT_INDEX)
		ck_assert_int_eq(segment_index_add(&s->index, f, offset), 0);
	memcpy(stage_room(&s->bytes, sizeof(*f)), f, sizeof(*f));
	if (len)
		memcpy(stage_room(&s->bytes, len), payload, len);
	stage_room(&s->bytes, segment_padding((uint32_t)len));
	return offset;
}

/* Records of an own block from a byte on. */
static inline uint64_t stage_own(struct stage *s, uint32_t block, uint32_t lap, uint32_t from,
				 const struct stage_payload *p)
{
	struct segment_fragment f = { .kind = SEGMENT_OWN,
				      .block = block,
				      .lap = lap,
				      .from = from,
				      .client = 7,
				      .pid = 1000 + (int)block,
				      .tid = 2000 + (int)block };

	return stage_fragment(s, &f, p->data, p->len);
}

static inline void stage_large(struct stage *s, uint32_t block, uint32_t lap, uint32_t at, uint64_t time,
			       const void *data, size_t len)
{
	struct segment_fragment f = { .kind = SEGMENT_LARGE,
				      .block = block,
				      .lap = lap,
				      .from = at,
				      .time_min = time,
				      .time_max = time };

	stage_fragment(s, &f, data, len);
}

static inline void stage_end(struct stage *s)
{
	struct segment_fragment f;
	const void *payload;
	uint64_t offset = s->bytes.len;

	ck_assert_int_eq(segment_index_fragment(&s->index, offset, &f, &payload), 0);
	memcpy(stage_room(&s->bytes, sizeof(f)), &f, sizeof(f));
	memcpy(stage_room(&s->bytes, f.payload_bytes), payload, f.payload_bytes);
}

/* ---- files ---- */

struct stage_dir {
	char path[64];
};

static inline void stage_dir_make(struct stage_dir *d)
{
	snprintf(d->path, sizeof(d->path), "/tmp/test_segment.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(d->path));
}

static inline void stage_dir_remove(struct stage_dir *d)
{
	struct segment_listed *list;
	char name[SEGMENT_FILE_BYTES], path[128];
	size_t count;

	ck_assert_int_eq(segment_list(d->path, &list, &count), 0);
	for (size_t i = 0; i < count; i++) {
		for (int z = 0; z < 2; z++) {
			segment_file_name(name, list[i].number, z);
			snprintf(path, sizeof(path), "%s/%s", d->path, name);
			unlink(path);
		}
	}
	free(list);
	ck_assert_int_eq(rmdir(d->path), 0);
}

static inline void stage_path(const struct stage_dir *d, uint64_t number, bool compressed, char path[128])
{
	char name[SEGMENT_FILE_BYTES];

	segment_file_name(name, number, compressed);
	snprintf(path, 128, "%s/%s", d->path, name);
}

/* The first len bytes of it, as the file is then. */
static inline void stage_write_some(const struct stage *s, const struct stage_dir *d, size_t len)
{
	char path[128];
	int fd;

	stage_path(d, s->number, false, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, s->bytes.data, len), (ssize_t)len);
	close(fd);
}

static inline void stage_write(const struct stage *s, const struct stage_dir *d)
{
	stage_write_some(s, d, s->bytes.len);
}

#endif
