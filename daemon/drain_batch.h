/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drain_batch.h - pieces of a ring as fragments of a segment, ready to be written: headers of the daemon's own,
 * payloads where the ring has them.
 */
#ifndef DAEMON_DRAIN_BATCH_H
#define DAEMON_DRAIN_BATCH_H

#include <sys/uio.h>

#include "ring_drain.h"
#include "segment.h"

struct drain_batch {
	struct ring_batch ring;
	struct segment_fragment fragments[RING_BATCH_PIECES];
	struct segment_fragment mark;
	struct iovec parts[1 + 3 * RING_BATCH_PIECES];
	unsigned first, count; /* of the parts that are not written yet */
	uint64_t bytes;	       /* of all */
	uint64_t written;
};

/* From what was gathered into ring, whose payloads are read for their checksums: on an arena's memory, which may go
 * away. Payloads that are no records, as in a ring that was damaged since, become losses. */
void drain_batch_make(struct drain_batch *b);
/* Before the rest: all of the segment before this offset is written. Before anything of the batch is. */
void drain_batch_mark(struct drain_batch *b, uint64_t offset);
static inline bool drain_batch_is_marked(const struct drain_batch *b)
{
	return b->mark.magic != 0;
}
/* Whether any of it is written straight from the mapping, where a client may change it meanwhile. */
bool drain_batch_is_held(const struct drain_batch *b);
/* So many bytes more are written. True: all are. */
bool drain_batch_advance(struct drain_batch *b, uint64_t bytes);

#endif
