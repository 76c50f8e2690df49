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
		return pw1_dist(w1) == 0 && class < CLASSES ? sizeclass_table[class].pages : 0;
	case PAGE_RAW:
		if (class < RAW_SLAB)
			return pw1_length(w1);
		return class - RAW_SLAB < CLASSES ? sizeclass_table[class - RAW_SLAB].pages : 0;
	case PAGE_SPAN:
		return pw1_span_length(w1);
	default:
		return pw1_length(w1);
	}
}

#endif
