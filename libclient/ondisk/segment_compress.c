/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A closed segment becomes a file of zstd frames, borders where the index's runs end. What it was made of is
 * deleted only when the new file is whole, named and on the disk.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "segment_file.h"

#define LEVEL 3

struct entry {
	uint32_t bytes, plain_bytes;
};

struct segment_compressor {
	char *dir;
	uint64_t number;
	struct segment_stats stats;
	struct segment_file in;
	bool opened; /* in is open */
	bool named;  /* the compressed file is whole: all that is left is to delete the plain one */
	int out;
	uint64_t at; /* done with, of the plain segment */
	struct segment_index index;
	struct ZSTD_CCtx_s *pack;
	unsigned char *plain, *packed;
	size_t plain_len, plain_room, packed_room;
	struct entry *table;
	size_t entries, entries_room;
};

/* ---- names ---- */

enum file { PLAIN, PACKED, TEMPORARY };

static int path_of(const struct segment_compressor *c, enum file file, char path[PATH_MAX])
{
	char name[SEGMENT_FILE_BYTES];

	segment_file_name(name, c->number, file != PLAIN);
	return snprintf(path, PATH_MAX, "%s/%s%s", c->dir, name, file == TEMPORARY ? ".tmp" : "") <
			       PATH_MAX ?
		       0 :
		       -ENAMETOOLONG;
}

static int sync_dir(const struct segment_compressor *c)
{
	int fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = fsync(fd) ? -errno : 0;
	close(fd);
	return r;
}

/* Crash: the plain file is there or not; both times the compressed one is. */
static int delete_plain(struct segment_compressor *c)
{
	char path[PATH_MAX];
	int r = path_of(c, PLAIN, path);

	if (r)
		return r;
	if (unlink(path) && errno != ENOENT)
		return -errno;
	return sync_dir(c);
}

/* Crash: before, a temporary file that the next call writes anew; after, both files, and the next call deletes
 * the plain one. */
static int name_packed(struct segment_compressor *c)
{
	char from[PATH_MAX], to[PATH_MAX];
	int r = path_of(c, TEMPORARY, from);

	if (!r)
		r = path_of(c, PACKED, to);
	if (r)
		return r;
	if (fsync(c->out) || rename(from, to))
		return -errno;
	r = sync_dir(c);
	c->named = !r;
	return r;
}

/* ---- writing ---- */

static int write_all(struct segment_compressor *c, const void *data, size_t len)
{
	const char *from = data;

	while (len) {
		ssize_t n = write(c->out, from, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			from += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int note_frame(struct segment_compressor *c, size_t bytes, size_t plain_bytes)
{
	if (c->entries >= SEGMENT_FRAMES_MAX)
		return -EMSGSIZE;
	if (c->entries == c->entries_room) {
		size_t room = c->entries_room ? c->entries_room * 2 : 256;
		struct entry *table = realloc(c->table, room * sizeof(*table));

		if (!table)
			return -ENOMEM;
		c->table = table;
		c->entries_room = room;
	}
	c->table[c->entries++] = (struct entry){ (uint32_t)bytes, (uint32_t)plain_bytes };
	return 0;
}

static int put_frame(struct segment_compressor *c, const void *plain, size_t len)
{
	size_t n;
	int r;

	if (!len)
		return 0;
	r = segment_file_room(&c->packed, &c->packed_room, ZSTD_compressBound(len));
	if (r)
		return r;
	n = ZSTD_compress2(c->pack, c->packed, c->packed_room, plain, len);
	if (ZSTD_isError(n))
		return -ENOMEM;
	r = note_frame(c, n, len);
	return r ? r : write_all(c, c->packed, n);
}

static int flush(struct segment_compressor *c)
{
	int r = put_frame(c, c->plain, c->plain_len);

	c->plain_len = 0;
	return r;
}

static int put_skippable(struct segment_compressor *c, uint32_t magic, size_t len)
{
	uint32_t head[2] = { magic, (uint32_t)len };

	return write_all(c, head, sizeof(head));
}

/* Copies of header and index, then the seek table. */
static int put_tables(struct segment_compressor *c, const struct segment_fragment *f, const void *payload)
{
	size_t copies = sizeof(struct segment_header) + segment_fragment_bytes(f), len;
	unsigned char foot[SEGMENT_TABLE_FOOT] = { 0 };
	uint32_t word = SEGMENT_TABLE_MAGIC;
	int r = note_frame(c, 8 + copies, 0);

	if (!r)
		r = put_skippable(c, SEGMENT_INDEX_SKIP, copies);
	if (!r)
		r = write_all(c, &c->in.header, sizeof(c->in.header));
	if (!r)
		r = write_all(c, f, sizeof(*f));
	if (!r)
		r = write_all(c, payload, f->payload_bytes);
	len = c->entries * sizeof(*c->table);
	if (!r)
		r = put_skippable(c, SEGMENT_TABLE_SKIP, len + sizeof(foot));
	if (!r)
		r = write_all(c, c->table, len);
	memcpy(foot + 5, &word, sizeof(word));
	word = (uint32_t)c->entries;
	memcpy(foot, &word, sizeof(word));
	return r ? r : write_all(c, foot, sizeof(foot));
}

/* The index as plain segment, and behind it. */
static int put_index(struct segment_compressor *c, const struct segment_fragment *f, const void *payload)
{
	int r = flush(c);

	if (!r)
		r = put_frame(c, f, sizeof(*f));
	for (size_t at = 0; !r && at < f->payload_bytes; at += SEGMENT_FRAME_BYTES) {
		size_t left = f->payload_bytes - at;

		r = put_frame(c, (const char *)payload + at,
			      left < SEGMENT_FRAME_BYTES ? left : SEGMENT_FRAME_BYTES);
	}
	return r ? r : put_tables(c, f, payload);
}

/* ---- reading ---- */

/* Appends a fragment, or the header, to the plain bytes of the next frame. */
static int take(struct segment_compressor *c, size_t len)
{
	size_t need = c->plain_len + len;
	ssize_t n;
	int r = segment_file_room(&c->plain, &c->plain_room,
				  need > c->plain_room ? need * 2 : need);

	if (r)
		return r;
	n = segment_file_read(&c->in, c->at, c->plain + c->plain_len, len);
	if (n < 0)
		return (int)n;
	if (n < (ssize_t)len)
		return -EUCLEAN;
	c->plain_len += len;
	c->at += len;
	return 0;
}

/* The end of what is good. One that has an index has nothing bad before it, or is left as it is. */
static int finish(struct segment_compressor *c)
{
	struct segment_fragment f;
	const void *payload;
	uint64_t at;
	int r;

	if (segment_file_end(&c->in, &at, &f))
		return -EUCLEAN;
	r = segment_index_fragment(&c->index, c->at, &f, &payload);
	return r ? r : put_index(c, &f, payload);
}

static int finish_indexed(struct segment_compressor *c, const struct segment_fragment *f)
{
	void *payload = malloc(f->payload_bytes + 1);
	ssize_t n;
	int r;

	if (!payload)
		return -ENOMEM;
	n = segment_file_read(&c->in, c->at + sizeof(*f), payload, f->payload_bytes);
	if (n < 0)
		r = (int)n;
	else if (n < (ssize_t)f->payload_bytes || f->payload_bytes % 8)
		r = -EUCLEAN;
	else
		r = put_index(c, f, payload);
	free(payload);
	return r;
}

static bool run_ends(const struct segment_index *x)
{
	return !x->group && x->open.bytes >= SEGMENT_RUN_BYTES;
}

/* One fragment: 1; 0: that was the last. What is spoilt stays as it stands, and its checksum says so. */
static int advance(struct segment_compressor *c)
{
	struct segment_fragment f;
	int r = segment_file_fragment(&c->in, c->at, &f);

	if (r == 1 && f.kind == SEGMENT_INDEX)
		r = segment_file_payload(&c->in, c->at, &f) ?: 1;
	if (r == 0 || r == -EUCLEAN)
		return finish(c);
	if (r < 0)
		return r;
	if (f.kind == SEGMENT_INDEX)
		return finish_indexed(c, &f);
	r = segment_index_add(&c->index, &f, c->at);
	if (!r)
		r = take(c, segment_fragment_bytes(&f));
	if (!r && c->plain_len >= SEGMENT_FRAME_BYTES && run_ends(&c->index))
		r = flush(c);
	return r ? r : 1;
}

int segment_compress_step(struct segment_compressor *c)
{
	size_t before = c->entries;
	int r = 1;

	if (!c->named) {
		while (r == 1 && c->entries == before)
			r = advance(c);
		if (!r)
			r = name_packed(c);
		if (r)
			return r;
	}
	return delete_plain(c);
}

/* ---- opening and closing ---- */

/* Whether there is a compressed file, and it is one. */
static bool is_named(struct segment_compressor *c)
{
	struct segment_file f;
	char path[PATH_MAX];

	if (path_of(c, PACKED, path) || segment_file_open_path(&f, path, &c->stats))
		return false;
	c->named = f.compressed;
	segment_file_close(&f);
	return c->named;
}

static int open_plain(struct segment_compressor *c)
{
	char path[PATH_MAX];
	int r = path_of(c, PLAIN, path);

	if (!r)
		r = segment_file_open_path(&c->in, path, &c->stats);
	c->opened = !r;
	if (!r && c->in.compressed)
		r = -EUCLEAN;
	return r == -ENODATA ? -EUCLEAN : r;
}

static int open_temporary(struct segment_compressor *c)
{
	char path[PATH_MAX];
	struct stat st;
	int r = path_of(c, TEMPORARY, path);

	if (r)
		return r;
	if (fstat(c->in.fd, &st))
		return -errno;
	c->out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (c->out < 0)
		return -errno;
	return fchmod(c->out, st.st_mode & 0777) ? -errno : 0;
}

static int prepare(struct segment_compressor *c, const char *dir)
{
	int r;

	c->dir = strdup(dir);
	c->pack = ZSTD_createCCtx();
	if (!c->dir || !c->pack ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c->pack, ZSTD_c_compressionLevel, LEVEL)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c->pack, ZSTD_c_checksumFlag, 1)))
		return -ENOMEM;
	if (is_named(c))
		return 0;
	r = open_plain(c);
	if (!r)
		r = open_temporary(c);
	return r ? r : take(c, sizeof(struct segment_header));
}

int segment_compress_open(struct segment_compressor **ret, const char *dir, uint64_t number)
{
	struct segment_compressor *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->number = number;
	c->out = -1;
	segment_index_init(&c->index);
	r = prepare(c, dir);
	if (r) {
		segment_compress_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void segment_compress_close(struct segment_compressor *c)
{
	char path[PATH_MAX];

	if (!c)
		return;
	if (c->out >= 0) {
		close(c->out);
		if (!c->named && !path_of(c, TEMPORARY, path))
			unlink(path);
	}
	if (c->opened)
		segment_file_close(&c->in);
	ZSTD_freeCCtx(c->pack);
	segment_index_free(&c->index);
	free(c->plain);
	free(c->packed);
	free(c->table);
	free(c->dir);
	free(c);
}

int segment_compress(const char *dir, uint64_t number)
{
	struct segment_compressor *c;
	int r = segment_compress_open(&c, dir, number);

	if (r)
		return r;
	do
		r = segment_compress_step(c);
	while (r == 1);
	segment_compress_close(c);
	return r;
}
