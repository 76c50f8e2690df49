/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_file.h - one segment's file, compressed or not, as bytes of the plain segment at any offset. All of
 * libondisk reads through it; nothing is mapped, so a file cut off underneath ends early and never faults.
 */
#ifndef LIBCLIENT_SEGMENT_FILE_H
#define LIBCLIENT_SEGMENT_FILE_H

#include "segment_inside.h"

struct segment_frame {
	uint64_t at, plain;	     /* where it begins, in the file and in the plain segment */
	uint32_t bytes, plain_bytes; /* how long it is */
};

struct segment_file {
	int fd;
	bool compressed;
	uint64_t disk; /* bytes of the file, when last looked at */
	uint64_t size; /* of the plain segment */
	struct segment_header header;
	struct segment_stats *stats;

	/* What was read last: of a compressed file a frame. */
	unsigned char *window;
	uint64_t window_at;
	size_t window_len, window_room;
	size_t ahead; /* of a plain one: how much is read at once */

	/* Compressed. */
	struct segment_frame *frames;
	size_t frame_count;
	uint64_t index_at;    /* where the copies of header and index are in the file, */
	uint32_t index_bytes; /* and how long together */
	unsigned char *packed;
	size_t packed_room;
	struct ZSTD_DCtx_s *unpack;
};

/* By number; -ENOENT: there is none. Each open: -ENODATA: not even a header yet; -EUCLEAN: no segment. */
int segment_file_open(struct segment_file *f, const char *dir, uint64_t number,
		      struct segment_stats *stats);
int segment_file_open_path(struct segment_file *f, const char *path, struct segment_stats *stats);
/* fd is closed with the rest, or at an error. */
int segment_file_open_fd(struct segment_file *f, int fd, struct segment_stats *stats);
void segment_file_close(struct segment_file *f);

/* Looks again how long it is. */
int segment_file_refresh(struct segment_file *f);
/* Bytes read, fewer where it ends; -errno. */
ssize_t segment_file_read(struct segment_file *f, uint64_t at, void *to, size_t len);

/* Makes a buffer of len bytes at least of the one that there is. -ENOMEM. */
int segment_file_room(unsigned char **buffer, size_t *room, size_t len);

/* The fragment at an offset: 1, and its payload ends before the file does; 0: the segment ends here;
 * -EUCLEAN: what is there is none, or not all of one; -errno. */
int segment_file_fragment(struct segment_file *f, uint64_t at, struct segment_fragment *ret);
/* Whether its payload is what was written: 0; -EUCLEAN; -errno. */
int segment_file_payload(struct segment_file *f, uint64_t at, const struct segment_fragment *fragment);

/* The index: 1, and its fragment; 0: there is none. A fragment's own checksum is checked, not the runs'. */
int segment_file_end(struct segment_file *f, uint64_t *at, struct segment_fragment *ret);
/* Its runs, to be freed: 1; 0: there is no good index; -ENOMEM. */
int segment_file_runs(struct segment_file *f, struct segment_run **ret, size_t *count);

/* ---- segment_scan.c ---- */

/* As segment_scan(). */
int segment_scan_file(struct segment_file *f, unsigned flags, struct segment_scan *ret,
		      segment_scan_fn *each, void *context);

#define SEGMENT_AHEAD ((size_t)64 << 10)
#define SEGMENT_AHEAD_HEADERS ((size_t)1 << 10) /* of one who looks at nothing else */

/* ---- the seek table, as in zstd's seekable format ---- */

#define SEGMENT_ZSTD_MAGIC 0xfd2fb528u
#define SEGMENT_INDEX_SKIP 0x184d2a53u /* skippable frame: copies of header and index */
#define SEGMENT_TABLE_SKIP 0x184d2a5eu /* skippable frame: the seek table */
#define SEGMENT_TABLE_MAGIC 0x8f92eab1u
#define SEGMENT_TABLE_FOOT 9u /* frames, descriptor, magic */
#define SEGMENT_FRAME_MAX (SEGMENT_FRAME_BYTES + SEGMENT_RUN_MAX)
#define SEGMENT_FRAMES_MAX (UINT32_C(1) << 20)

#endif
