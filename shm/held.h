/* SPDX-License-Identifier: Apache-2.0 */
/*
 * held.h - what one client holds, counted in the regions that it has marked: for the report of its death,
 * before recovery gives it back. Reads only, trusts nothing, and looks at no more regions than it is told.
 */
#ifndef SHM_HELD_H
#define SHM_HELD_H

#include "arena.h"
#include "sizeclass.h"

/* Objects of one size. */
struct held_size {
	uint64_t private_objects; /* cached ones included */
	uint64_t shared_objects;  /* offered to takers */
	uint64_t cached_objects;  /* ready in its threads' caches: no program has them */
};

struct held {
	struct held_size sizes[CLASSES]; /* by class */
	struct held_size large;		 /* of whole pages */
	uint64_t large_bytes;
	uint64_t extents, extent_bytes; /* raw ones: under way, or threads' own */
	uint64_t threads;
	uint64_t kept, holds; /* objects that it kept alive with others perhaps, and how often: see hold.h */
	uint64_t regions; /* looked at */
	bool whole;	  /* there were no more */
};

/* Of a client that lives, what is going on may be missed or counted twice. */
void held_count(const struct arena *a, uint32_t client, uint64_t regions_max, struct held *ret);

#endif
