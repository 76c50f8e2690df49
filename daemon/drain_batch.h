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
	struct iovec parts[3 * RING_BATCH_PIECES];
	unsigned first, count; /* of the parts that are not written yet */
	uint64_t bytes;	       /* of all */
	uint64_t written;
};

/* From what was gathered into ring, whose payloads are read for their checksums: on an arena's memory, which may go
 * away. Payloads that are no records, as in a ring that was damaged since, become losses. */
void drain_batch_make(struct drain_batch *b);
/* So many bytes more are written. True: all are. */
bool drain_batch_advance(struct drain_batch *b, uint64_t bytes);

#endif
