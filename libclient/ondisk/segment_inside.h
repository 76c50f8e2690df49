/* SPDX-License-Identifier: Apache-2.0 */
/* segment_inside.h - what the files of libondisk share. Only segment_*.c and their tests include it. */
#ifndef LIBCLIENT_SEGMENT_INSIDE_H
#define LIBCLIENT_SEGMENT_INSIDE_H

#include <string.h>

#include "segment.h"

/* ---- segment_make.c: what is believed of a header's bytes ---- */

/* What blocks and laps are told by: the ring, and the boot in which it was used. After a power cut the file of a ring
 * may be older than its segments, and laps come again with other records. */
static inline void segment_life(const struct segment_header *h, uint8_t ret[16])
{
	for (unsigned i = 0; i < sizeof(h->ring); i++)
		ret[i] = h->ring[i] ^ h->boot[i];
}

/* Checksum and all that the rest relies on. */
bool segment_header_good(const struct segment_header *h);
/* Likewise, but not the payload. Kinds that are not known are good: readers step over them. */
bool segment_fragment_good(const struct segment_fragment *f, const struct segment_header *h);

/* A record at a place of a payload of kind 1 or 2. */
struct segment_place {
	struct segment_entry entry;
	struct segment_author author; /* kind 2 */
	size_t data;		      /* where its bytes are in the payload */
	size_t next;		      /* and the next record */
};
/* False: there is no whole record. */
bool segment_place(const void *payload, size_t len, size_t at, bool shared, struct segment_place *ret);

/* ---- segment_index.c ---- */

#define SEGMENT_RUN_MAX (SEGMENT_RUN_BYTES + SEGMENT_GROUP_MAX)

/* Whether runs of a segment whose index is at end lie one behind another. */
bool segment_runs_good(const struct segment_run *runs, size_t count, uint64_t end);

/* ---- segment_dir.c ---- */

/* The first segment from a number on: 1; 0: there is none; -errno. */
int segment_list_next(const char *dir, uint64_t least, uint64_t *number);

/* ---- segment_cursor.c ---- */

/* By time: how many bytes of groups may be in memory. For tests. */
void segment_cursor_limit(struct segment_cursor *c, size_t bytes);

/* ---- segment_seen.c ---- */

/* Room for as many, from now on. */
void segment_seen_room(struct segment_seen *s, size_t room);

static inline uint32_t segment_info_length(uint32_t info)
{
	return info & ((UINT32_C(1) << SEGMENT_INFO_LENGTH_BITS) - 1);
}

static inline unsigned segment_info_level(uint32_t info)
{
	return info >> SEGMENT_INFO_LEVEL_SHIFT & 7;
}

#endif
