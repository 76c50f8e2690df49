/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_merge.h - many groups at once, their records by time. What is in memory: the runs of segments that
 * overlap in time, and the groups that do, up to a limit; beyond it the order is that of what is there.
 */
#ifndef LIBCLIENT_SEGMENT_MERGE_H
#define LIBCLIENT_SEGMENT_MERGE_H

#include "segment_group.h"

#define SEGMENT_MERGE_BYTES ((size_t)128 << 20) /* of groups */
#define SEGMENT_MERGE_FILES 64u			/* open at once */

/* A segment of which something may be wanted. */
struct segment_part {
	uint64_t number;
	uint64_t time_min;	  /* of what is wanted and not loaded yet */
	struct segment_run *runs; /* by time_min; NULL: not known before it is opened */
	uint64_t settled;	  /* all of it before this offset was written, when it was looked at */
	size_t count, next;
	bool opened;
	struct segment_file file;
};

struct segment_merge {
	struct segment_part *parts; /* by rising time_min, but for those opened */
	size_t count, room;
	size_t begun, done; /* parts before begun are or were open; all before done are done with */
	size_t files;	    /* open */
	struct segment_feed **heap; /* by the time of their next record */
	size_t feeds, feeds_room;
	struct segment_feed *spent; /* whose bytes the caller may still read */
	size_t bytes, most;	    /* of the groups in the heap; what they may be */
};

void segment_merge_init(struct segment_merge *m);
void segment_merge_free(struct segment_merge *m);

/* Takes over the runs (or NULL). -ENOMEM, and they stay the caller's. */
int segment_merge_add(struct segment_merge *m, const struct segment_part *part);
/* After the last was added. */
void segment_merge_sort(struct segment_merge *m);

/* The part and run that should be loaded before any more is delivered: NULL: none. */
struct segment_part *segment_merge_due(struct segment_merge *m);

/* A feed that stands at a record; the merge's from now on, at an error too. -ENOMEM. */
int segment_merge_feed(struct segment_merge *m, struct segment_feed *f);
/* The oldest record: true. */
bool segment_merge_next(struct segment_merge *m, const struct segment_query *q,
			struct segment_record *ret);
void segment_feed_free(struct segment_feed *f);

#endif
