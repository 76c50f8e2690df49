/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_walk.h - group after group as stored, from segment to segment, while they are written, compressed
 * and deleted underneath.
 */
#ifndef LIBCLIENT_SEGMENT_WALK_H
#define LIBCLIENT_SEGMENT_WALK_H

#include <time.h>

#include "segment_group.h"

struct segment_walk {
	char *path;  /* of a directory, or of one segment */
	bool single; /* the latter */
	struct segment_stats *stats;
	const struct segment_query *query; /* segments whose index has nothing of it are passed over */
	struct segment_file file;
	struct timespec quiet; /* the directory's time when nothing later was in it */
	bool opened;	 /* file is */
	uint64_t number; /* of the segment that it is in, or was in last; 0: none yet */
	uint64_t at;	 /* the next group */
	uint64_t first;	 /* not opened: begin in this one if it is there … */
	uint64_t first_at; /* … at this offset; then 0 */
	uint64_t looked; /* looked at again from here … */
	unsigned looks;	 /* … so many times, since it grew */
	uint64_t bad;	 /* the group here was looked at, and is not good; 0: none */
	uint64_t bad_end; /* where it ends, if its headers are good; else 0 */
	uint64_t settled; /* all before this offset is written: marks say so … */
	uint64_t marks;	 /* … of which those before this offset are known */
	bool follow;	 /* what may be on its way is waited for */
	bool again;	 /* this segment will not change any more: that was known before this look */
	bool ended;	 /* this segment has nothing more */
	bool tail;	 /* what is behind the last good group may be torn, or on its way */
};

int segment_walk_open(struct segment_walk *w, const char *path, const struct segment_query *query,
		      struct segment_stats *stats);
void segment_walk_close(struct segment_walk *w);
/* Begins behind this place; before the first segment_walk_next(). offset 0: the segment's first group. */
void segment_walk_from(struct segment_walk *w, uint64_t number, uint64_t offset);

/* The next group, by headers: 1, and w->file is its file until the next call; 0: none for now; -errno. */
int segment_walk_next(struct segment_walk *w, struct segment_group *g);
/* It does not load. True: it was spoilt while it was written, and is stepped over; false: it may be on its way, and
 * comes again if it is. */
bool segment_walk_reject(struct segment_walk *w, const struct segment_group *g);

#endif
