/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug_sample.h - which allocations of a sampled arena are watched.
 *
 * No fast path counts anything. A thread counts what its caches draw from slabs, at their refills, which are slow
 * anyway; after about debug_every objects its fast paths are closed to it (thread_cell.block) for a few allocations,
 * 1 to 16 by chance, so that it is not always the class that was refilled; the last of them is watched, and the
 * fast paths are open again. So it is one in so many of the objects that are drawn: what is freed and allocated again
 * out of a cache all the time, without a refill, is not counted.
 */
#ifndef SHM_DEBUG_SAMPLE_H
#define SHM_DEBUG_SAMPLE_H

#include "thread.h"

#define DEBUG_SAMPLE_MAX 65536u /* larger objects are not watched: what that costs grows with their size */

/* Whether this allocation, which goes the long way, is to be watched. */
bool debug_sample_now(struct arena *a, uint64_t size);
/* One went the long way. */
void debug_sample_count(struct arena *a, uint64_t size);

#endif
