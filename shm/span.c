/* SPDX-License-Identifier: Apache-2.0 */
#include "span.h"

#include <errno.h>
#include <sched.h>

#include "buddy.h"
#include "client.h"
#include "extent.h"
#include "geometry.h"
#include "stop_point.h"
#include "words.h"
#include "zone.h"

#define ROUNDS 3
/* The kernel hands on at most 2,048 robust locks of a dead thread. */
#define SPAN_ZONES_MAX 1024u

static uint64_t zone_first(const struct arena *a, uint32_t zone)
{
	return zone * a->g.zone_pages;
}

/* Pages of the extent that lie in the zone after skipping those before it. */
static uint64_t piece_pages(const struct arena *a, uint64_t left)
{
	return left < a->g.zone_pages ? left : a->g.zone_pages;
}

static void unlock_zones(struct arena *a, uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		zone_unlock(a, first + i);
		STOP_POINT(span_unlocking);
	}
}

static bool lock_empty_zone(struct arena *a, uint32_t zone, uint64_t pages, bool *busy)
{
	uint32_t free_pages;
	int r;

	if (client_prepare_zone(a, zone))
		return false;
	r = zone_trylock_patiently(a, zone);
	if (r) {
		*busy |= r == -EBUSY;
		return false;
	}
	free_pages = atomic_load_explicit(&zone_of(a, zone)->free_pages, memory_order_relaxed);
	if (free_pages == geometry_zone_span(&a->g, zone) && free_pages >= pages)
		return true;
	zone_unlock(a, zone);
	return false;
}

/* The last piece needs the first pages of its zone only. */
static bool lock_last_zone(struct arena *a, uint32_t zone, uint64_t pages, bool *busy)
{
	int r;

	if (client_prepare_zone(a, zone))
		return false;
	r = zone_trylock_patiently(a, zone);
	if (r) {
		*busy |= r == -EBUSY;
		return false;
	}
	if (buddy_take_at(a, zone, 0, (uint32_t)pages))
		return true;
	zone_unlock(a, zone);
	return false;
}

/* Locks a run of zones for the extent, in ascending order; the last one's pages are already taken off
 * its index (given back by a rebuild, should we die). The first zone, or UINT32_MAX. */
static uint32_t lock_run(struct arena *a, uint32_t zones, uint64_t pages, bool *busy)
{
	uint32_t count = (uint32_t)((pages + a->g.zone_pages - 1) / a->g.zone_pages);
	uint64_t last = pages - (count - 1) * a->g.zone_pages;
	uint32_t held = 0;

	for (uint32_t zone = 0; zone < zones; zone++) {
		if (held == count - 1 && lock_last_zone(a, zone, last, busy))
			return zone - held;
		if (held < count - 1 && lock_empty_zone(a, zone, a->g.zone_pages, busy)) {
			held++;
			STOP_POINT(span_zone_locked);
			continue;
		}
		unlock_zones(a, zone - held, held);
		/* A zone too full to be the last may still not be empty: go on behind it. */
		held = 0;
	}
	unlock_zones(a, zones - held, held);
	return UINT32_MAX;
}

/* All locks held. The head's entry is the commit point: the pieces before it count only with it. */
static uint64_t take_run(struct arena *a, uint32_t first, uint64_t pages, enum raw_use use)
{
	uint64_t head = zone_first(a, first), left = pages - a->g.zone_pages;

	for (uint32_t zone = first; zone == first || left > 0; zone++) {
		uint64_t piece = zone == first ? a->g.zone_pages : piece_pages(a, left);

		client_mark(a, zone_first(a, zone));
		if (zone == first) {
			buddy_take_at(a, zone, 0, (uint32_t)piece);
			continue;
		}
		if (left > a->g.zone_pages)
			buddy_take_at(a, zone, 0, (uint32_t)piece);
		extent_note_taken(a, zone_first(a, zone), piece,
				  pw0_make(PAGE_SPAN, a->client, 0, use), pw1_span(piece, head));
		STOP_POINT(span_piece_entered);
		left -= piece;
	}
	extent_note_taken(a, head, a->g.zone_pages, pw0_make(PAGE_RAW, a->client, 0, use),
			  pw1_extent(pages, 0));
	STOP_POINT(span_entered);
	return head;
}

uint64_t span_alloc(struct arena *a, uint64_t pages, enum raw_use use)
{
	uint32_t count = (uint32_t)((pages + a->g.zone_pages - 1) / a->g.zone_pages);

	if (pages > geometry_heap_pages(&a->g) || count > SPAN_ZONES_MAX)
		return EXTENT_NONE;
	for (int round = 0; round < ROUNDS; round++) {
		bool busy = false;
		uint32_t first = lock_run(a, arena_refresh(a), pages, &busy);

		if (first != UINT32_MAX) {
			uint64_t page = take_run(a, first, pages, use);

			unlock_zones(a, first, count);
			return page;
		}
		if (zone_activate(a) == 0)
			round = -1; /* bounded: there are so many zones */
		else if (!busy)
			break;
		else
			sched_yield();
	}
	return EXTENT_NONE;
}

/* The last piece beyond the head's own, and the pages before it: its first page, or 0. */
static uint64_t last_piece(const struct arena *a, uint64_t page, uint64_t *keep)
{
	uint64_t pages = pw1_length(atomic_load_explicit(&a->pages[page].w1, memory_order_relaxed));
	uint64_t in_zone = page % a->g.zone_pages;

	if (in_zone + pages <= a->g.zone_pages || page + pages > geometry_heap_pages(&a->g))
		return 0;
	*keep = (in_zone + pages - 1) / a->g.zone_pages * a->g.zone_pages - in_zone;
	return page + *keep;
}

/*
 * Cuts the last piece off: from then on its entry, if it still says PAGE_SPAN, counts for nothing, and who
 * finds it under the lock frees it.
 * Crash: before, the piece belongs to the extent; after, it is raw, or the next holder of its zone's lock,
 * which the dead one held, finds it uncovered.
 */
static void cut(struct arena *a, uint64_t page, uint64_t keep)
{
	atomic_store_explicit(&a->pages[page].w1, pw1_extent(keep, 0), memory_order_release);
}

uint64_t span_free_tail(struct arena *a, uint64_t page)
{
	_Atomic uint64_t *w1 = &a->pages[page].w1;
	uint64_t piece, keep;

	while ((piece = last_piece(a, page, &keep))) {
		struct page_entry *e = &a->pages[piece];
		uint64_t length = pw1_length(atomic_load_explicit(w1, memory_order_relaxed)) - keep;
		uint32_t gen = pw0_gen(atomic_load_explicit(&e->w0, memory_order_relaxed));

		/* An extent of its own first, while the head still reaches it: we hold no lock, and an
		 * uncovered piece would be free to whoever holds it, also if we are but stopped here.
		 * Crash: from here on two raw extents of ours, of which the head's may say too much: its
		 * reclaimer asks the piece's entry. */
		atomic_store_explicit(&e->w0, pw0_make(PAGE_RAW, a->client, gen, RAW_PIECE),
				      memory_order_release);
		STOP_POINT(span_piece_split);
		cut(a, page, keep);
		STOP_POINT(span_piece_cut);
		atomic_store_explicit(&e->w1, pw1_extent(length, 0), memory_order_release);
		atomic_store_explicit(&e->w0, pw0_make(PAGE_RAW, a->client, gen, RAW_PLAIN),
				      memory_order_release);
		STOP_POINT(span_piece_raw);
		extent_free(a, piece);
	}
	return pw1_length(atomic_load_explicit(w1, memory_order_relaxed));
}

/* Frees a piece that its head does not reach any more. Its zone's lock held. */
static void free_uncovered(struct arena *a, uint32_t zone, uint64_t page)
{
	struct page_entry *e = &a->pages[page];
	uint64_t w1 = atomic_load_explicit(&e->w1, memory_order_relaxed);

	if (pw0_kind(atomic_load_explicit(&e->w0, memory_order_relaxed)) == PAGE_SPAN &&
	    page == zone_first(a, zone) && !zone_span_covered(a, page, w1) &&
	    pw1_span_length(w1) <= geometry_zone_span(&a->g, zone))
		zone_free_run(a, zone, page, pw1_span_length(w1));
}

int extent_reclaim_span(struct arena *a, uint64_t page)
{
	uint32_t zone = zone_of_page(a, page);
	int r = zone_trylock_patiently(a, zone);

	if (r)
		return r;
	free_uncovered(a, zone, page);
	zone_unlock(a, zone);
	return 0;
}

/* Cuts under the piece's lock only: the dead one's mark of a piece that was covered when recovery came
 * by is gone, so nobody would look for it there again. */
int span_reclaim_tail(struct arena *a, uint64_t page)
{
	uint64_t piece, keep;

	while ((piece = last_piece(a, page, &keep))) {
		uint32_t zone = zone_of_page(a, piece);
		int r = zone_trylock_patiently(a, zone);

		if (r)
			return r;
		cut(a, page, keep);
		STOP_POINT(span_reclaim_cut);
		free_uncovered(a, zone, piece);
		zone_unlock(a, zone);
	}
	return 0;
}
