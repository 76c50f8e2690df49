/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit.h - which pages have memory. A region's commit bit says that memory was taken for all of its
 * pages; a page's purged bit that it may have been given back since. Outside of locks, by the pages' owner.
 *
 * Regions, so that small extents of fresh memory come sixteen a system call; pages, so that all but the
 * live ones can go back.
 */
#ifndef SHM_COMMIT_H
#define SHM_COMMIT_H

#include "arena.h"

/* Whether memory has been taken for a region's pages, and all of it was not given back since. */
bool commit_has_region(struct arena *a, uint64_t region);
/* Of pages 64 * word to 64 * word + 63 of a zone: a bit for each that has memory. */
uint64_t commit_word(struct arena *a, uint32_t zone, uint64_t word);
/* Of 64 pages from this one on, as far as its zone goes: a bit for each whose purged bit is set. */
uint64_t commit_purged(struct arena *a, uint64_t page);

/* By their owner: memory for pages, where it is not there. -ENOMEM: not for all of them. */
int commit_take(struct arena *a, uint64_t page, uint64_t pages);
/* The same for pages of regions that have memory, but for what was given back since. */
int commit_retake(struct arena *a, uint64_t page, uint64_t pages);
/* By their owner, who is about to punch them: their next owner takes memory for them. */
void commit_give(struct arena *a, uint64_t page, uint64_t pages);
/* The same for some pages of a slab, all of whose objects there are the caller's. */
void commit_give_inside(struct arena *a, uint64_t page, uint64_t pages);

#endif
