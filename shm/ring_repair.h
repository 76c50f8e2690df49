/* SPDX-License-Identifier: Apache-2.0 */
/* ring_repair.h - the part of a repair that knows the ring's inside; see repair.h. */
#ifndef SHM_RING_REPAIR_H
#define SHM_RING_REPAIR_H

#include "arena.h"

struct ring_repair_sum {
	bool header;	       /* it was damaged */
	uint64_t blocks_cut;   /* blocks whose words or records made no sense */
	uint64_t records_lost; /* as far as they can be counted */
};

/* Whether a large record's extent is there: as its reference has it, or as it can be told otherwise. */
typedef bool (*ring_keep_fn)(void *context, const struct ring_reference *ref,
			     const struct ring_extent *where, uint32_t length);

/* By a process that is alone with the arena. Commits what it touches: -ENOMEM. */
int ring_repair(struct arena *a, ring_keep_fn keep, void *context, struct ring_repair_sum *sum);

#endif
