/* SPDX-License-Identifier: Apache-2.0 */
/* A plain segment is read through a window; a compressed one by whole frames, see segment_unpack.c. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "segment_unpack.h"

/* ---- reading ---- */

ssize_t segment_file_pread(struct segment_file *f, uint64_t at, void *to, size_t len)
{
	size_t done = 0;

	if (at > INT64_MAX - len)
		return 0;
	while (done < len) {
		ssize_t n = pread(f->fd, (char *)to + done, len - done, (off_t)(at + done));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		if (n > 0)
			done += (size_t)n;
	}
	f->stats->bytes_read += done;
	return (ssize_t)done;
}

int segment_file_room(unsigned char **buffer, size_t *room, size_t len)
{
	unsigned char *grown;

	if (len <= *room)
		return 0;
	grown = realloc(*buffer, len);
	if (!grown)
		return -ENOMEM;
	*buffer = grown;
	*room = len;
	return 0;
}

/* Makes the window hold what is at an offset of a plain segment: how much from there on. */
static ssize_t look_at(struct segment_file *f, uint64_t at)
{
	ssize_t n;

	if (segment_file_room(&f->window, &f->window_room, f->ahead))
		return -ENOMEM;
	f->window_len = 0;
	n = segment_file_pread(f, at, f->window, f->ahead);
	if (n <= 0)
		return n;
	f->window_at = at;
	f->window_len = (size_t)n;
	return n;
}

/* Some bytes at least, unless the segment ends there. */
static ssize_t read_some(struct segment_file *f, uint64_t at, void *to, size_t len)
{
	size_t skip;
	ssize_t n;

	if (at < f->window_at || at - f->window_at >= f->window_len) {
		if (!f->compressed && len >= f->ahead)
			return segment_file_pread(f, at, to, len);
		n = f->compressed ? segment_unpack_frame(f, at) : look_at(f, at);
		if (n <= 0)
			return n;
	}
	skip = (size_t)(at - f->window_at);
	if (len > f->window_len - skip)
		len = f->window_len - skip;
	memcpy(to, f->window + skip, len);
	return (ssize_t)len;
}

ssize_t segment_file_read(struct segment_file *f, uint64_t at, void *to, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read_some(f, at + done, (char *)to + done, len - done);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* ---- opening ---- */

int segment_file_refresh(struct segment_file *f)
{
	struct stat st;

	if (fstat(f->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EUCLEAN;
	f->disk = (uint64_t)st.st_size;
	if (!f->compressed) {
		f->size = f->disk;
		f->window_len = 0;
	}
	return 0;
}

static int read_header(struct segment_file *f)
{
	uint32_t magic = 0;
	ssize_t n = segment_file_pread(f, 0, &f->header, sizeof(f->header));

	if (n < 0)
		return (int)n;
	memcpy(&magic, &f->header, sizeof(magic));
	if (n >= (ssize_t)sizeof(magic) && magic == SEGMENT_ZSTD_MAGIC) {
		f->compressed = true;
		return segment_unpack_open(f);
	}
	if (n < (ssize_t)sizeof(f->header))
		return -ENODATA;
	return segment_header_good(&f->header) ? 0 : -EUCLEAN;
}

int segment_file_open_fd(struct segment_file *f, int fd, struct segment_stats *stats)
{
	int r;

	*f = (struct segment_file){ .fd = fd, .stats = stats, .ahead = SEGMENT_AHEAD };
	r = segment_file_refresh(f);
	if (!r)
		r = read_header(f);
	if (r)
		segment_file_close(f);
	else
		stats->segments++;
	return r;
}

int segment_file_open_path(struct segment_file *f, const char *path, struct segment_stats *stats)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? -errno : segment_file_open_fd(f, fd, stats);
}

/* The compressed file is there before the plain one is deleted. */
int segment_file_open(struct segment_file *f, const char *dir, uint64_t number,
		      struct segment_stats *stats)
{
	char name[SEGMENT_FILE_BYTES], path[PATH_MAX];
	int r = -ENOENT;

	for (int compressed = 0; compressed < 2 && r == -ENOENT; compressed++) {
		segment_file_name(name, number, compressed);
		if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
			return -ENAMETOOLONG;
		r = segment_file_open_path(f, path, stats);
	}
	return r;
}

void segment_file_close(struct segment_file *f)
{
	segment_unpack_close(f);
	free(f->window);
	free(f->packed);
	free(f->frames);
	if (f->fd >= 0)
		close(f->fd);
	*f = (struct segment_file){ .fd = -1 };
}

/* ---- fragments ---- */

int segment_file_fragment(struct segment_file *f, uint64_t at, struct segment_fragment *ret)
{
	ssize_t n;

	if (at == f->size)
		return 0;
	if (at > f->size || f->size - at < sizeof(*ret))
		return -EUCLEAN;
	n = segment_file_read(f, at, ret, sizeof(*ret));
	if (n < 0)
		return (int)n;
	if (n < (ssize_t)sizeof(*ret) || !segment_fragment_good(ret, &f->header) ||
	    segment_fragment_bytes(ret) > f->size - at)
		return -EUCLEAN;
	return 1;
}

int segment_file_payload(struct segment_file *f, uint64_t at, const struct segment_fragment *fragment)
{
	unsigned char piece[4096];
	uint32_t crc = 0, left = fragment->payload_bytes;

	at += sizeof(*fragment);
	while (left) {
		size_t len = left < sizeof(piece) ? left : sizeof(piece);
		ssize_t n = segment_file_read(f, at, piece, len);

		if (n < 0)
			return (int)n;
		if (n < (ssize_t)len)
			return -EUCLEAN;
		crc = segment_crc(crc, piece, len);
		at += len;
		left -= (uint32_t)len;
	}
	return crc == fragment->payload_crc ? 0 : -EUCLEAN;
}

/* ---- the index ---- */

/* Of a compressed segment, from the copy behind its frames. */
static ssize_t read_index(struct segment_file *f, uint64_t index, uint64_t at, void *to, size_t len)
{
	uint64_t copy = f->index_at + sizeof(struct segment_header);

	return f->compressed ? segment_file_pread(f, copy + (at - index), to, len) :
			       segment_file_pread(f, at, to, len);
}

/* Where the index must begin, if there is one; 0: there is none. */
static uint64_t index_offset(struct segment_file *f)
{
	struct segment_end end;
	uint64_t least = sizeof(struct segment_fragment) + sizeof(end), at;

	if (f->size < sizeof(struct segment_header) + least)
		return 0;
	at = f->compressed ? f->index_at + f->index_bytes - sizeof(end) : f->size - sizeof(end);
	if (segment_file_pread(f, at, &end, sizeof(end)) != (ssize_t)sizeof(end) ||
	    memcmp(end.magic, SEGMENT_END_MAGIC, sizeof(end.magic)) ||
	    end.offset < sizeof(struct segment_header) || end.offset > f->size - least)
		return 0;
	if (f->compressed && f->size - end.offset + sizeof(struct segment_header) != f->index_bytes)
		return 0;
	return end.offset;
}

int segment_file_end(struct segment_file *f, uint64_t *at, struct segment_fragment *ret)
{
	*at = index_offset(f);
	return *at && read_index(f, *at, *at, ret, sizeof(*ret)) == (ssize_t)sizeof(*ret) &&
	       segment_fragment_good(ret, &f->header) && ret->kind == SEGMENT_INDEX &&
	       segment_fragment_bytes(ret) == f->size - *at;
}

int segment_file_runs(struct segment_file *f, struct segment_run **ret, size_t *count)
{
	struct segment_fragment fragment;
	struct segment_run *runs;
	uint64_t at;

	*ret = NULL;
	*count = 0;
	if (!segment_file_end(f, &at, &fragment) || fragment.payload_bytes < sizeof(struct segment_end))
		return 0;
	runs = malloc(fragment.payload_bytes);
	if (!runs)
		return -ENOMEM;
	*count = (fragment.payload_bytes - sizeof(struct segment_end)) / sizeof(*runs);
	if (read_index(f, at, at + sizeof(fragment), runs, fragment.payload_bytes) !=
		    (ssize_t)fragment.payload_bytes ||
	    segment_crc(0, runs, fragment.payload_bytes) != fragment.payload_crc ||
	    !segment_runs_good(runs, *count, at)) {
		free(runs);
		*count = 0;
		return 0;
	}
	*ret = runs;
	return 1;
}
