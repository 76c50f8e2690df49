/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buddy.h - one zone's free pages as bitmaps of power-of-two blocks. All of it is index: the truth is
 * the page map, and buddy_rebuild() computes the bitmaps from it. Every call needs the zone's lock.
 * Page numbers here count from the start of the zone.
 */
#ifndef SHM_BUDDY_H
#define SHM_BUDDY_H

#include "arena.h"

#define BUDDY_NONE UINT32_MAX

/* Takes pages off the free blocks: the lowest of the smallest that fit; the tail goes back at once.
 * align: a power of two. BUDDY_NONE: no block is large enough. */
uint32_t buddy_take(struct arena *a, uint32_t zone, uint32_t pages, uint32_t align);
/* Whether all of a run is free. */
bool buddy_is_free(struct arena *a, uint32_t zone, uint32_t start, uint32_t pages);
/* Takes just this run; false if any page of it is not free. */
bool buddy_take_at(struct arena *a, uint32_t zone, uint32_t start, uint32_t pages);
/* Of pages 64 * word to 64 * word + 63: those that are free. */
uint64_t buddy_free_pages(struct arena *a, uint32_t zone, uint32_t word);
/* Those of them that were noted as idle and not taken since; to note them. */
uint64_t buddy_idle_pages(struct arena *a, uint32_t zone, uint32_t word);
void buddy_note_idle(struct arena *a, uint32_t zone, uint32_t word, uint64_t pages);
/* Puts a run back, merged with its neighbours as far as it goes. One that leaves the zone is damage, and noted
 * so. */
void buddy_put(struct arena *a, uint32_t zone, uint32_t start, uint64_t pages);
/* All bitmaps anew from the page map. Idempotent: whoever is killed in it leaves a dead lock holder,
 * and the next holder starts again. */
void buddy_rebuild(struct arena *a, uint32_t zone);

#endif
