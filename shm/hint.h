/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hint.h - where a free object of a class, or a free record of a shape, may be found: a bit a region,
 * with two levels above it (words of a zone, zones of the arena). All index: a set bit may be wrong and
 * costs a look; a clear one may be wrong for as long as its clearer is between two steps (it looks
 * again after clearing), and a search that finds nothing at all looks at the truth before it gives up.
 */
#ifndef SHM_HINT_H
#define SHM_HINT_H

#include "arena.h"

/* Rows: kinds of slabs, then shapes. */
static inline uint32_t hint_row_of_shape(uint32_t shape)
{
	return KINDS + shape - 1;
}

/* Something may be free in the region of this page. Cheap when already set. */
void hint_set(struct arena *a, uint32_t row, uint64_t page);
/* Whether there are any in a row, in whatever zone. */
bool hint_any(struct arena *a, uint32_t row);

/* The first region (number in the whole heap) at or after from, below end, with its bit set;
 * UINT64_MAX. Skips whole zones and words. */
uint64_t hint_next(struct arena *a, uint32_t row, uint64_t from, uint64_t end);
/* The same in some zones only: a bit for each zone % 64. */
uint64_t hint_next_in(struct arena *a, uint32_t row, uint64_t from, uint64_t end, uint64_t zones_wanted);

/* Nothing was found in a region: clears its bit. The caller looks once more afterwards, and sets it
 * again if it was wrong: PAIR(hint) with who frees first and then looks at the bit. Both are modelled in
 * tests/model/hint.pml. */
void hint_clear(struct arena *a, uint32_t row, uint64_t region);
bool hint_test(struct arena *a, uint32_t row, uint64_t region);

#endif
