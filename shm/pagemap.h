/* SPDX-License-Identifier: Apache-2.0 */
/* pagemap.h - what the entry at the head of an extent says of the extent. */
#ifndef SHM_PAGEMAP_H
#define SHM_PAGEMAP_H

#include "sizeclass.h"
#include "words.h"

/* Length in pages of the extent whose head has these words; 0 for nonsense. Not for PAGE_FREE. */
static inline uint64_t pagemap_length(uint64_t w0, uint64_t w1)
{
	uint32_t class = pw0_class(w0);

	switch (pw0_kind(w0)) {
	case PAGE_SLAB:
		return pw1_dist(w1) == 0 && class < KINDS ? sizeclass_table[class].pages : 0;
	case PAGE_RAW:
		if (class == RAW_PIECE)
			return pw1_span_length(w1);
		if (class < RAW_SLAB)
			return pw1_length(w1);
		return class - RAW_SLAB < KINDS ? sizeclass_table[class - RAW_SLAB].pages : 0;
	case PAGE_SPAN:
		return pw1_span_length(w1);
	default:
		return pw1_length(w1);
	}
}

/* Whether both words of an entry can be of one moment. */
static inline bool pagemap_agree(uint64_t w0, uint64_t w1)
{
	if (pw0_kind(w0) == PAGE_FREE || (pw0_kind(w0) == PAGE_RAW && pw0_class(w0) >= RAW_SLAB))
		return true;
	return pw1_is_slab(w1) == (pw0_kind(w0) == PAGE_SLAB);
}

#define PAGEMAP_TRIES 32

/*
 * Both words of an entry as they were at one moment: with the zone's lock held, or without, an extent's
 * owner may be on its way from one use to another, and one use's word 0 with another's word 1 is an extent
 * of any length. Such a way has fewer steps than we have tries, and leads over free pages only under the
 * lock.
 * PAIR(page-entry): word 0, word 1, word 0 again; the owner: word 0, word 1, word 0.
 */
static inline void pagemap_read(const struct page_entry *e, uint64_t *w0, uint64_t *w1)
{
	for (int i = 0; i < PAGEMAP_TRIES; i++) {
		*w0 = atomic_load_explicit(&e->w0, memory_order_acquire);
		*w1 = atomic_load_explicit(&e->w1, memory_order_acquire);
		if (atomic_load_explicit(&e->w0, memory_order_acquire) == *w0 && pagemap_agree(*w0, *w1))
			return;
	}
}

#endif
