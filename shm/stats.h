/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - how full an arena is, counted by a walk: no operation keeps a counter. Exact when no
 * call is in progress and dead clients have been reclaimed; in between, off by what is in progress.
 */
#ifndef SHM_STATS_H
#define SHM_STATS_H

#include "arena.h"

struct shma_stats;

struct stats_class {
	uint64_t slabs;
	uint64_t capacity; /* objects; the rest likewise */
	uint64_t owned;	   /* not free: live, cached or bookkeeping */
	uint64_t cached;
	uint64_t free;
};

/* Number 0: what is the arena's own, persistent, published or held. */
struct stats_client {
	uint64_t owned_bytes; /* of objects, cached ones included */
	uint64_t owned_objects;
	uint64_t cached_bytes;
	uint64_t cached_objects;
	uint64_t shared_objects;    /* of the owned ones: offered to takers */
	uint64_t bookkeeping_bytes; /* arrays of caches, thread blocks */
	uint64_t extents;	    /* whole pages: large objects and raw extents */
	uint64_t extent_bytes;
	uint64_t threads;
	uint64_t held_objects; /* that it holds, with others perhaps: not owned … */
	uint64_t holds;	       /* … and how often */
};

struct stats_zone {
	uint64_t pages;
	uint64_t high; /* pages from here on were never taken */
	uint64_t free_pages;
	uint64_t largest_free; /* longest run of free pages */
	uint64_t committed_pages;
	uint64_t busy; /* tries that found its lock taken */
	bool active;
};

struct stats_detail {
	struct stats_class classes[CLASSES];
	struct stats_client clients[CLIENTS_MAX];
	uint64_t pages_by_kind[PAGE_KINDS]; /* PAGE_FREE: of zones in use */
	uint64_t problems;		    /* entries that make no sense */
	/* The caller's array of zones_len zones, or NULL and 0; filled from zone 0 on. */
	struct stats_zone *zones;
	uint64_t zones_len;
};

void stats_arena(const struct arena *a, struct shma_stats *ret);
/* With the details too; zones and zones_len of d must be set. */
void stats_arena_detail(const struct arena *a, struct shma_stats *ret, struct stats_detail *d);

#endif
