/* SPDX-License-Identifier: Apache-2.0 */
/* segment_cursor.h - a cursor's inside: segment_open.c begins it, segment_cursor.c goes on. */
#ifndef LIBCLIENT_SEGMENT_CURSOR_H
#define LIBCLIENT_SEGMENT_CURSOR_H

#include "segment_merge.h"
#include "segment_walk.h"

struct segment_cursor {
	struct segment_query query;
	unsigned flags;
	struct segment_stats stats;
	struct segment_walk walk;
	struct segment_seen *seen;
	struct segment_feed feed; /* as stored */
	bool feeding;
	struct segment_position from; /* where its first group is, records done with */
	struct segment_merge merge;
	uint64_t lost;
};

/* Room for what a ring of this segment's may have stored twice. */
void segment_cursor_seen(struct segment_cursor *c, const struct segment_file *file);
/* Whether a query asks for something of a run. */
bool segment_cursor_wants(const struct segment_cursor *c, const struct segment_run *run);

#endif
