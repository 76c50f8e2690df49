/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record's life: free -> busy with C (compare-and-swap, after C has marked the block's region) ->
 * live, once its slab's head names it <-> busy with C, who draws from the slab -> free, once no page names
 * it. What a busy one's death left is read off the page map.
 */
#include "record.h"

#include <errno.h>

#include "client.h"
#include "extent.h"
#include "geometry.h"
#include "hint.h"
#include "pagemap.h"
#include "placement.h"
#include "stop_point.h"

#define LAST_INDEX_BITS 8 /* of arena.record_last */

/* The records of a block from one on. */
static uint64_t claim_in_block(struct arena *a, uint64_t page, uint32_t shape, uint32_t first)
{
	uint32_t count = shape_block_records(shape);

	for (uint32_t i = first; i < count; i++) {
		uint64_t at = record_offset(page, shape, i);
		_Atomic uint32_t *owner = &record_at(a, at)->owner;
		uint32_t expected = RECORD_FREE;

		if (atomic_load_explicit(owner, memory_order_relaxed) != RECORD_FREE)
			continue;
		if (client_mark_page(a, page))
			return 0;
		/* Crash: before, free; after, busy with us, and no page names it: freed by recovery. */
		if (atomic_compare_exchange_strong_explicit(owner, &expected, record_busy(a->client),
							    memory_order_acq_rel,
							    memory_order_relaxed)) {
			atomic_store_explicit(&a->record_last[shape], page << LAST_INDEX_BITS | i,
					      memory_order_relaxed);
			return at;
		}
	}
	return 0;
}

static bool is_block(struct arena *a, uint64_t page, uint32_t shape)
{
	uint64_t w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);

	/* Not one whose records would lie behind the heap: that is damage. */
	return pw0_kind(w0) == PAGE_STATE && pw0_class(w0) == shape &&
	       page + shape_block_pages(shape) <= geometry_heap_pages(&a->g);
}

static uint64_t claim_in_region(struct arena *a, uint64_t region, uint32_t shape)
{
	uint64_t page = region * REGION_PAGES, end = page + REGION_PAGES, at = 0;

	for (; !at && page < end; page++)
		if (is_block(a, page, shape))
			at = claim_in_block(a, page, shape, 0);
	return at;
}

/* Behind the one that this process claimed last: who makes many slabs at once goes through blocks that are all free. */
static uint64_t claim_after_last(struct arena *a, uint32_t shape, uint64_t zones)
{
	uint64_t last = atomic_load_explicit(&a->record_last[shape], memory_order_relaxed);
	uint64_t page = last >> LAST_INDEX_BITS;
	uint32_t index = (uint32_t)(last & ((1u << LAST_INDEX_BITS) - 1));

	if (!page || page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed) ||
	    !placement_zone_in(zones, (uint32_t)(page >> a->zone_shift)) || !is_block(a, page, shape))
		return 0;
	return claim_in_block(a, page, shape, index + 1);
}

/* In some zones: a bit for each zone % 64. */
static uint64_t claim_known(struct arena *a, uint32_t shape, uint64_t zones)
{
	uint32_t row = hint_row_of_shape(shape);
	uint64_t end = atomic_load_explicit(&a->pages_known, memory_order_relaxed) / REGION_PAGES;
	uint64_t region = 0, at;

	while ((region = hint_next_in(a, row, region, end, zones)) != UINT64_MAX) {
		at = claim_in_region(a, region, shape);
		if (at)
			return at;
		hint_clear(a, row, region);
		/* PAIR(hint): cleared, then looked at once more. */
		at = claim_in_region(a, region, shape);
		if (at) {
			hint_set(a, row, region * REGION_PAGES);
			return at;
		}
		region++;
	}
	return 0;
}

/* A new state block. All its records but the first are free for anyone. */
static uint64_t new_block(struct arena *a, uint32_t shape, int *err)
{
	uint64_t page = extent_alloc(a, shape_block_pages(shape), 1, RAW_PLAIN, NULL, err);
	struct state_block *block;
	uint64_t w0;

	if (page == EXTENT_NONE)
		return 0;
	block = (struct state_block *)(a->heap + (page << PAGE_SHIFT));
	block->shape = shape;
	block->records = shape_block_records(shape);
	for (uint32_t i = 0; i < block->records; i++)
		atomic_store_explicit(&record_at(a, record_offset(page, shape, i))->owner,
				      i == 0 ? record_busy(a->client) : RECORD_FREE,
				      memory_order_relaxed);
	w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_relaxed);
	STOP_POINT(record_block_filled);
	/* Crash: before, a raw extent of ours; after, a state block for ever, its first record busy with
	 * us, in a region that extent_alloc() has marked. */
	atomic_store_explicit(&a->pages[page].w0, pw0_make(PAGE_STATE, 0, pw0_gen(w0), shape),
			      memory_order_release);
	STOP_POINT(record_block_made);
	if (block->records > 1)
		hint_set(a, hint_row_of_shape(shape), page);
	return record_offset(page, shape, 0);
}

uint64_t record_alloc(struct arena *a, uint32_t shape, int *err)
{
	/* Where one zone keeps all blocks, whatever the node, they are looked for there. */
	uint64_t here = a->kept_zones > 1 ? placement_here(a) : PLACEMENT_ALL;
	uint64_t at = claim_after_last(a, shape, here);

	if (!at)
		at = claim_known(a, shape, here);
	if (!at)
		at = new_block(a, shape, err);
	/* Of another node, before there is none. */
	return at || here == PLACEMENT_ALL ? at : claim_known(a, shape, PLACEMENT_ALL);
}

void record_free(struct arena *a, struct slab_record *r, uint32_t shape)
{
	/* PAIR(hint): freed, then the bit looked at. */
	atomic_store_explicit(&r->owner, RECORD_FREE, memory_order_seq_cst);
	STOP_POINT(record_freed);
	hint_set(a, hint_row_of_shape(shape), (uint64_t)((char *)r - a->heap) >> PAGE_SHIFT);
}

/* Whether the page that a record names as its slab's head names it in turn. */
static bool record_in_use(struct arena *a, uint64_t at)
{
	uint64_t head = atomic_load_explicit(&record_at(a, at)->head, memory_order_relaxed);
	uint64_t w0, w1;

	if (head >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return false;
	w0 = atomic_load_explicit(&a->pages[head].w0, memory_order_acquire);
	w1 = atomic_load_explicit(&a->pages[head].w1, memory_order_relaxed);
	return pw0_kind(w0) == PAGE_SLAB && pw1_is_slab(w1) && pw1_dist(w1) == 0 && pw1_record(w1) == at;
}

void record_recover_block(struct arena *a, uint64_t block_page, uint32_t client)
{
	uint64_t w0 = atomic_load_explicit(&a->pages[block_page].w0, memory_order_acquire);
	uint32_t shape = pw0_class(w0);
	bool any = false;

	if (pw0_kind(w0) != PAGE_STATE || shape < 1 || shape > SHAPES)
		return;
	for (uint32_t i = 0; i < shape_block_records(shape); i++) {
		uint64_t at = record_offset(block_page, shape, i);
		_Atomic uint32_t *owner = &record_at(a, at)->owner;
		uint32_t seen = atomic_load_explicit(owner, memory_order_acquire);

		/* Those that are in use have been let go by slab_recover_held(), but for want of memory.
		 * Crash: before, busy as it was; after, settled, and hinted at below or by the next
		 * recoverer. */
		if (seen == record_busy(client)) {
			uint32_t settled = record_in_use(a, at) ? RECORD_LIVE : RECORD_FREE;

			if (atomic_compare_exchange_strong_explicit(owner, &seen, settled,
								    memory_order_seq_cst,
								    memory_order_relaxed))
				seen = settled;
		}
		any |= seen == RECORD_FREE;
	}
	if (any)
		hint_set(a, hint_row_of_shape(shape), block_page);
}
