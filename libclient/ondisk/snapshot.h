/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.h - an arena in a file, taken while clients work. SNAPSHOT.md says of which moment what is in it, and how it
 * is told: its form byte for byte.
 *
 * What is kept is what outlives its makers: persistent and published objects, names, and the log. All other objects are
 * somebody's who does not exist where the snapshot is restored.
 */
#ifndef LIBCLIENT_SNAPSHOT_H
#define LIBCLIENT_SNAPSHOT_H

#include "arena.h"

#define SNAPSHOT_MAGIC "SHMASNAP"
#define SNAPSHOT_VERSION 1u
#define SNAPSHOT_BLOCK_MAGIC 0x4b4c4253u /* "SBLK" */
#define SNAPSHOT_PIECE (UINT64_C(1) << 20)

/* Little endian, as the arena is. */
struct snapshot_header {
	char magic[8];
	uint32_t version;
	uint32_t layout; /* LAYOUT_VERSION of the arena */
	uint64_t file_size; /* of the arena's */
	uint64_t taken_ns; /* CLOCK_REALTIME, at the beginning */
	char name[ARENA_NAME_BYTES];
	uint8_t reserved[28];
	uint32_t crc; /* CRC-32C of the bytes before */
};
_Static_assert(sizeof(struct snapshot_header) == 128, "snapshot header");

enum snapshot_kind {
	SNAPSHOT_DATA = 1,    /* bytes of the arena's file from offset on; over those of earlier blocks */
	SNAPSHOT_HANDLES = 2, /* 64-bit handles of objects whose bytes are whole */
	SNAPSHOT_END = 3      /* offset: blocks before; plain: CRC-32C of all bytes before this block; no payload */
};

struct snapshot_block {
	uint32_t magic;
	uint32_t kind;
	uint64_t offset;
	uint32_t plain;	 /* bytes, at most SNAPSHOT_PIECE */
	uint32_t packed; /* of the zstd frame that follows */
	uint32_t crc;	 /* of that */
	uint32_t head_crc; /* of the bytes before */
};
_Static_assert(sizeof(struct snapshot_block) == 32, "snapshot block");

struct snapshot_sum {
	uint64_t objects, object_bytes; /* kept */
	uint64_t dropped;		/* objects: gone, or changed hands, while they were copied */
	uint64_t again;			/* copied in later rounds: come up meanwhile */
	uint64_t plain_bytes, file_bytes;
	uint64_t log_blocks_missed; /* overtaken by their writers at every try */
};

/* Writes to a descriptor, from where it is. level: zstd's, 1 to 19. -errno. */
int snapshot_write(struct arena *a, int fd, int level, struct snapshot_sum *ret);

/* Reads all of a snapshot and checks it. *h: the arena's header as it was. -EPROTO: another version; -EUCLEAN: no
 * snapshot, damaged or cut off, and *what says in words. */
struct snapshot_seen {
	struct snapshot_header header;
	struct arena_header arena;
	struct snapshot_sum sum;
	const char *what;
};
int snapshot_check(int fd, struct snapshot_seen *ret);

/* Makes an arena of it: nothing is there, or all of it. -EEXIST; errors of snapshot_check(). */
struct snapshot_target {
	const char *path, *name;
	uint32_t mode;
	enum arena_backing backing; /* posix, or a file */
};
int snapshot_restore(int fd, const struct snapshot_target *to, struct snapshot_seen *ret);

/* For who reads: each block, checked and unpacked; not 0 from visit ends it. */
typedef int (*snapshot_visit)(void *context, const struct snapshot_block *block, const unsigned char *plain);
int snapshot_walk(int fd, struct snapshot_seen *ret, snapshot_visit visit, void *context);

#endif
