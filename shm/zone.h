/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zone.h - a stretch of the heap with its own page lock, so that a holder who is stopped for an hour
 * stops nobody: the lock is only ever tried, and who finds it held goes to another zone, or leaves an
 * extent to be freed on the zone's pending stack. No system call is made and no memory touched for the
 * first time while it is held. Lock order: ascending zone numbers, when several are held.
 */
#ifndef SHM_ZONE_H
#define SHM_ZONE_H

#include <linux/futex.h>

#include "arena.h"

static inline struct zone *zone_of(const struct arena *a, uint32_t zone)
{
	return (struct zone *)(a->base + a->g.zones) + zone;
}

static inline char *zone_index(const struct arena *a, uint32_t zone)
{
	return a->base + a->g.zone_indexes + zone * a->g.zone_index_size;
}

static inline uint32_t zone_of_page(const struct arena *a, uint64_t page)
{
	return (uint32_t)(page >> a->zone_shift);
}

/* Initialises all locks of a new arena. */
int zone_format(struct arena *a);

/* Puts one more zone into use. -ENOMEM: there is none, or no memory for its bookkeeping. */
int zone_activate(struct arena *a);

/* 0, or -EBUSY: held by another, running or stopped; -EUCLEAN: the lock is damaged. After a holder's
 * death the zone's index is made anew first. */
int zone_trylock(struct arena *a, uint32_t zone);
void zone_unlock(struct arena *a, uint32_t zone);
/* Whether a holder died, and nobody has had the lock since: what the index says is worth nothing. */
static inline bool zone_abandoned(const struct zone *z)
{
	return __atomic_load_n(&z->lock.__data.__lock, __ATOMIC_RELAXED) & FUTEX_OWNER_DIED;
}
/* Tries for some microseconds: holders are quick where they run. */
int zone_trylock_patiently(struct arena *a, uint32_t zone);

/* Leaves an extent, still its owner's, to whoever holds the zone's lock next. */
void zone_return_later(struct arena *a, uint64_t page);

/* Makes a run of pages free: entry, then index. Lock held. */
void zone_free_run(struct arena *a, uint32_t zone, uint64_t page, uint64_t pages);

/* Whether the large extent that a PAGE_SPAN entry (its word 1 given) belongs to still reaches it. */
bool zone_span_covered(struct arena *a, uint64_t page, uint64_t w1);

#endif
