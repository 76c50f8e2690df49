/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent.h - runs of whole pages, any number of them, out of the buddies of all zones; owned by a
 * client from the first instant, committed before they are handed out.
 */
#ifndef SHM_EXTENT_H
#define SHM_EXTENT_H

#include "arena.h"

#define EXTENT_NONE UINT64_MAX
#define EXTENT_ALIGN_MAX 512u /* pages */

/*
 * A raw extent of this client: page number, or EXTENT_NONE with *err = -ENOMEM. align_pages: power of
 * two, at most EXTENT_ALIGN_MAX. home: the zone to try first, then the one that served; NULL: it is
 * bookkeeping that stays, and belongs into the first zones. Where zones belong to nodes, those of the node
 * that runs the thread come first, then those of the nearest nodes, then all. Its memory is committed; contents are undefined.
 * Crash: before the page map entry is written the pages are free; after, the extent is raw and the
 * client's, and returns with it.
 */
uint64_t extent_alloc(struct arena *a, uint64_t pages, uint64_t align_pages, enum raw_use use,
		      uint32_t *home, int *err);

/* As extent_alloc(), but from some zones alone (a bit for each zone % 64): -ENOMEM where these are full. */
uint64_t extent_alloc_in(struct arena *a, uint64_t pages, enum raw_use use, uint32_t *home,
			 uint64_t zones, int *err);

/*
 * Gives back a raw extent of this client (its entry's kind is PAGE_RAW; no slab entries inside). Never
 * waits: where the zone is busy the extent is left with the zone, for the next holder of its lock.
 */
void extent_free(struct arena *a, uint64_t page);

/* As extent_free(), of extents of one zone, none of which goes beyond it: under one lock, and those side by
 * side, in ascending order, as one. */
void extent_free_all(struct arena *a, const uint64_t *pages, uint32_t count);

/* Gives back the end of an extent of this client, raw or large: its first keep pages stay. Only within
 * one zone, and only while word 0 of its entry is w0; false if it cannot be done now. */
bool extent_trim(struct arena *a, uint64_t page, uint64_t w0, uint64_t keep);

/* Makes the slab entries behind the head of a raw extent free ones. Idempotent. */
void extent_clear_inside(struct arena *a, uint64_t page, uint64_t pages);

/* Writes the entry of an extent just taken off the zone's index (lock held): w0 without generation,
 * which stays the page's. */
void extent_note_taken(struct arena *a, uint64_t page, uint64_t pages, uint64_t w0, uint64_t w1);

/* For recovery: frees a raw or returned extent of a dead client under its zone's lock. -EBUSY: the lock
 * is held; come again. */
int extent_reclaim(struct arena *a, uint64_t page, uint32_t client);
/* For recovery: frees a piece of a large extent whose head no longer reaches it. -EBUSY likewise. */
int extent_reclaim_span(struct arena *a, uint64_t page);

#endif
