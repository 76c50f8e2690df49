/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who has a slab's record for itself: to claim objects of the slab, to give the slab back, to recover it, to purge its
 * pages. And a slab's end, when who lets go, or puts the last object back, finds it empty.
 *
 * Modelled in tests/model/hint.pml: slab_hold(), slab_open(), slab_retire(), slab_refresh_bits().
 */
#include "bits.h"
#include "extent.h"
#include "geometry.h"
#include "hint.h"
#include "pagemap.h"
#include "slab.h"
#include "slab_inside.h"
#include "stop_point.h"

#define RETIRE_TRIES 8

/* Whether a page may be one, as far as there are zones now. */
static bool page_exists(struct arena *a, uint64_t page)
{
	if (page < atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return true;
	arena_refresh(a);
	return page < atomic_load_explicit(&a->pages_known, memory_order_relaxed);
}

/* Opens a record that we hold, of a slab in a region that we have marked. Whether the slab looks empty: the
 * caller, then, calls slab_retire().
 * Crash: before, busy with us: recovery opens it; after, open, a hint wanting perhaps, which recovery sets. */
static bool slab_open(struct arena *a, struct slab_record *r)
{
	uint32_t class = atomic_load_explicit(&r->class_index, memory_order_relaxed);
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	/* PAIR(hint): opened, then the bits and the hint looked at; who cleared the hint because it found the
	 * record busy looks at it once more after. PAIR(retire): opened, then the bits; who set the last one
	 * found it busy. */
	atomic_store_explicit(&r->owner, RECORD_LIVE, memory_order_seq_cst);
	STOP_POINT(slab_opened);
	if (class >= KINDS || !slab_any_bits(r) || !page_exists(a, head))
		return false;
	hint_set(a, class, head);
	return slab_looks_empty(r, class);
}

/* Whoever's slab it is. */
static bool slab_hold_any(struct arena *a, struct slab_record *r, uint64_t head)
{
	uint32_t live = RECORD_LIVE;

	if (slab_mark(a, r, head))
		return false;
	/* PAIR(hint), PAIR(retire): the hint cleared, or the last bit set, then the record seen busy.
	 * Crash: before, open; after, busy with us, in a region that we have marked. */
	return atomic_compare_exchange_strong_explicit(&r->owner, &live, record_busy(a->client),
						       memory_order_seq_cst, memory_order_seq_cst);
}

/* Of a record that we hold and that may be another slab's than we thought: its region may be one that we have
 * not marked, and who found the record busy has left it to us to look.
 * Crash: before the mark, busy with us: our heir marks and looks. Without memory for the mark a death between
 * opening and looking leaves a hint wanting, until a search finds nothing and looks at all slabs. */
static bool slab_open_any(struct arena *a, struct slab_record *r)
{
	uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	if (page_exists(a, head))
		client_mark_page(a, head);
	return slab_open(a, r);
}

bool slab_hold(struct arena *a, struct slab_record *r, uint64_t head, uint32_t class)
{
	if (!slab_hold_any(a, r, head))
		return false;
	STOP_POINT(slab_held);
	if (slab_names(r, head, class))
		return true;
	if (slab_open_any(a, r)) /* another slab's by now */
		slab_retire(a, r);
	return false;
}

void slab_let_go(struct arena *a, struct slab_record *r)
{
	if (slab_open(a, r))
		slab_retire(a, r);
}

/* ---- giving back ---- */

bool slab_looks_empty(const struct slab_record *r, uint32_t class)
{
	uint32_t objects = sizeclass_table[class].objects;

	for (uint32_t w = 0; w * 64 < objects; w++) {
		/* Bits of late comers to the record's last slab may lie behind the last object. */
		if (~atomic_load_explicit(&r->bitmap[w], memory_order_relaxed) & bits_low(objects - w * 64))
			return false;
	}
	return true;
}

bool slab_refresh_bits(struct slab_record *r, uint32_t objects)
{
	bool any = false;

	for (uint32_t w = 0; w * 64 < objects; w++) {
		uint64_t bits = 0;

		for (uint32_t i = w * 64; i < objects && i < w * 64 + 64; i++)
			if (state_kind(atomic_load_explicit(&r->words[i], memory_order_relaxed)) ==
			    OBJECT_FREE)
				bits |= UINT64_C(1) << (i % 64);
		if (bits & ~atomic_load_explicit(&r->bitmap[w], memory_order_relaxed))
			atomic_fetch_or_explicit(&r->bitmap[w], bits, memory_order_seq_cst);
		any |= bits != 0;
	}
	return any;
}

void slab_unmake(struct arena *a, struct slab_record *r, uint64_t head, uint32_t class)
{
	struct page_entry *e = &a->pages[head];
	uint32_t pages = sizeclass_table[class].pages;

	STOP_POINT(slab_ending);
	/* Crash: before, a slab without objects, its record busy with us; after, a raw extent of ours.
	 * Either way recovery frees both. */
	slab_set_raw_use(a, head, RAW_SLAB + class);
	STOP_POINT(slab_head_raw);
	extent_clear_inside(a, head, sizeclass_entries(class));
	atomic_store_explicit(&e->w1, pw1_extent(pages, 0), memory_order_release);
	STOP_POINT(slab_raw);
	slab_set_raw_use(a, head, RAW_PLAIN);
	record_free(a, r, sizeclass_table[class].shape);
}

void slab_retire(struct arena *a, struct slab_record *r)
{
	STOP_POINT(slab_looks_empty);
	for (int i = 0; i < RETIRE_TRIES; i++) {
		uint32_t class = atomic_load_explicit(&r->class_index, memory_order_relaxed);
		uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

		/* PAIR(retire): the last bit, then the record. Who holds it looks when it lets go. */
		if (!page_exists(a, head) || class >= KINDS || slab_at(a, head, class) != r ||
		    !slab_looks_empty(r, class) || !slab_hold_any(a, r, head))
			return;
		if (slab_names(r, head, class) && slab_all_free(r, 0, sizeclass_table[class].objects)) {
			slab_unmake(a, r, head, class);
			STOP_POINT(slab_unmade);
			extent_free(a, head);
			return;
		}
		if (!slab_open_any(a, r))
			return;
	}
}
