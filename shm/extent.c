/* SPDX-License-Identifier: Apache-2.0 */
#include "extent.h"

#include <errno.h>
#include <sched.h>

#include "buddy.h"
#include "client.h"
#include "commit.h"
#include "geometry.h"
#include "span.h"
#include "pagemap.h"
#include "placement.h"
#include "stop_point.h"
#include "zone.h"

#define ROUNDS 3 /* over all zones, when some were busy and none had room */

/* ---- taking ---- */

void extent_note_taken(struct arena *a, uint64_t page, uint64_t pages, uint64_t w0, uint64_t w1)
{
	struct page_entry *e = &a->pages[page];
	uint32_t zone = zone_of_page(a, page);
	uint32_t end = (uint32_t)(page - zone * a->g.zone_pages + pages);
	_Atomic uint32_t *high = &zone_of(a, zone)->high;

	/* Before the entry: a rebuild scans below the mark only. */
	if (atomic_load_explicit(high, memory_order_relaxed) < end)
		atomic_store_explicit(high, end, memory_order_relaxed);
	STOP_POINT(extent_high_raised);
	atomic_store_explicit(&e->w1, w1, memory_order_relaxed);
	STOP_POINT(extent_half_entered);
	w0 |= (uint64_t)pw0_gen(atomic_load_explicit(&e->w0, memory_order_relaxed)) << PW0_GEN_SHIFT;
	/* Crash: before, free pages (the index is rebuilt); after, an extent of word 0's client. */
	atomic_store_explicit(&e->w0, w0, memory_order_release);
}

static uint64_t take_from_zone(struct arena *a, uint32_t zone, uint64_t pages, uint64_t align,
			       enum raw_use use)
{
	uint64_t page;
	uint32_t start = buddy_take(a, zone, (uint32_t)pages, (uint32_t)align);

	if (start == BUDDY_NONE)
		return EXTENT_NONE;
	page = zone * a->g.zone_pages + start;
	client_mark(a, page);
	extent_note_taken(a, page, pages, pw0_make(PAGE_RAW, a->client, 0, use), pw1_extent(pages, 0));
	return page;
}

/* A look without the lock: whether a try is worth it. Pending extents may make room; and where a holder
 * died between its entries and its counts, nobody would ever look again. */
static bool zone_may_have(const struct arena *a, uint32_t zone, uint64_t pages)
{
	const struct zone *z = zone_of(a, zone);

	return !atomic_load_explicit(&z->ready, memory_order_relaxed) || zone_abandoned(z) ||
	       atomic_load_explicit(&z->free_pages, memory_order_relaxed) >= pages ||
	       (uint32_t)atomic_load_explicit(&z->pending, memory_order_relaxed);
}

/* One try at one zone. *busy is set if its lock was held. */
static uint64_t try_zone(struct arena *a, uint32_t zone, uint64_t pages, uint64_t align,
			 enum raw_use use, bool *busy)
{
	uint64_t page;
	int r;

	if (!zone_may_have(a, zone, pages) || client_prepare_zone(a, zone))
		return EXTENT_NONE;
	r = zone_trylock_patiently(a, zone);
	if (r) {
		*busy |= r == -EBUSY;
		return EXTENT_NONE;
	}
	page = take_from_zone(a, zone, pages, align, use);
	STOP_POINT(extent_taken);
	zone_unlock(a, zone);
	STOP_POINT(extent_raw);
	return page;
}

/* What is asked for, and what was met on the way. */
struct search {
	struct arena *a;
	uint64_t pages, align;
	enum raw_use use;
	uint32_t *home;
	uint64_t zones; /* to look at: a bit for each zone % 64, see placement.h */
	bool busy;
};

/* Zones first to end - 1, from the one at which to start, round. */
static uint64_t try_zones(struct search *s, uint32_t first, uint32_t end, uint32_t start)
{
	for (uint32_t i = 0; first < end && i < end - first; i++) {
		uint32_t zone = first + (start - first + i) % (end - first);
		uint64_t page;

		if (!placement_zone_in(s->zones, zone))
			continue;
		page = try_zone(s->a, zone, s->pages, s->align, s->use, &s->busy);
		if (page != EXTENT_NONE) {
			if (s->home)
				*s->home = zone;
			return page;
		}
	}
	return EXTENT_NONE;
}

/*
 * The first zone, or one a node, is for what stays: state blocks, thread blocks. Scattered, they would keep
 * every zone from ever being empty, and so from being part of a large extent. Others come there when all else
 * is full.
 */
static uint64_t try_all_zones(struct search *s, uint32_t zones, bool last_resort)
{
	uint32_t kept = s->a->kept_zones < zones ? s->a->kept_zones : zones, start;

	if (!s->home)
		return try_zones(s, 0, zones, 0);
	start = *s->home >= kept && *s->home < zones ? *s->home : kept;
	if (!last_resort)
		return try_zones(s, kept, zones, start);
	return s->zones == PLACEMENT_ALL ? try_zones(s, 0, kept, 0) : EXTENT_NONE;
}

/* Puts zones into use up to the next of those wanted. */
static bool activate_wanted(struct search *s)
{
	for (uint64_t zone = arena_refresh(s->a); zone < s->a->g.zone_count; zone++)
		if (placement_zone_in(s->zones, zone))
			return zone_activate(s->a) == 0;
	return false;
}

/*
 * A busy zone is asked again after a while; then a new one is put into use. A round that did so is not
 * counted: others, too slow to be done with it, may have that one's lock already, and there is an end to new
 * zones. When there are none left, ROUNDS.
 */
static uint64_t take_anywhere(struct search *s)
{
	uint64_t page = EXTENT_NONE;

	for (int idle = 0; idle < ROUNDS;) {
		uint32_t zones = arena_refresh(s->a);
		bool waited = idle > 0;

		s->busy = false;
		page = try_all_zones(s, zones, false);
		if (page != EXTENT_NONE)
			break;
		if ((waited || !s->busy) && activate_wanted(s))
			continue;
		if (waited || !s->busy)
			page = try_all_zones(s, zones, true);
		if (page != EXTENT_NONE || !s->busy)
			break;
		idle++;
		sched_yield();
	}
	return page;
}

/* What was taken, with its memory; or EXTENT_NONE with *err. */
static uint64_t with_memory(struct arena *a, uint64_t page, uint64_t pages, int *err)
{
	if (page != EXTENT_NONE && commit_take(a, page, pages)) {
		extent_free(a, page);
		page = EXTENT_NONE;
	}
	if (page == EXTENT_NONE)
		*err = -ENOMEM;
	return page;
}

static bool fits_zone(const struct arena *a, uint64_t pages, uint64_t align_pages)
{
	return pages <= a->g.zone_pages && align_pages <= a->g.zone_pages;
}

uint64_t extent_alloc(struct arena *a, uint64_t pages, uint64_t align_pages, enum raw_use use,
		      uint32_t *home, int *err)
{
	struct search s = {.a = a, .pages = pages, .align = align_pages, .use = use, .home = home};
	uint64_t page = EXTENT_NONE;

	if (!fits_zone(a, pages, align_pages))
		return with_memory(a, span_alloc(a, pages, use), pages, err);
	s.zones = home ? placement_settle_home(a, home) : placement_here(a);
	page = take_anywhere(&s);
	while (page == EXTENT_NONE && s.zones != PLACEMENT_ALL) {
		s.zones = placement_wider(a, s.zones);
		page = take_anywhere(&s);
	}
	return with_memory(a, page, pages, err);
}

uint64_t extent_alloc_in(struct arena *a, uint64_t pages, enum raw_use use, uint32_t *home,
			 uint64_t zones, int *err)
{
	struct search s = {
		.a = a, .pages = pages, .align = 1, .use = use, .home = home, .zones = zones};

	return with_memory(a, fits_zone(a, pages, 1) ? take_anywhere(&s) : EXTENT_NONE, pages, err);
}

/* ---- giving back: modelled in tests/model/pending.pml ---- */

void extent_free(struct arena *a, uint64_t page)
{
	uint32_t zone = zone_of_page(a, page);
	uint64_t pages = pw1_length(atomic_load_explicit(&a->pages[page].w1, memory_order_relaxed));

	if (page - zone * a->g.zone_pages + pages > a->g.zone_pages)
		span_free_tail(a, page);
	STOP_POINT(extent_freeing);
	if (zone_trylock_patiently(a, zone)) {
		zone_return_later(a, page);
		return;
	}
	pages = pw1_length(atomic_load_explicit(&a->pages[page].w1, memory_order_relaxed));
	zone_free_run(a, zone, page, pages);
	zone_unlock(a, zone);
}

/* Frees the first extent and those that follow without a gap. How many. Lock held.
 * Crash: before its entry's store each is its owner's; after, its pages are free, and the lock's next holder
 * finds so when it rebuilds the index. */
static uint32_t free_row(struct arena *a, uint32_t zone, const uint64_t *pages, uint32_t count)
{
	uint64_t first = zone * a->g.zone_pages, end = pages[0];
	uint32_t i = 0;

	while (i < count && pages[i] == end) {
		struct page_entry *e = &a->pages[end];
		uint32_t gen = pw0_gen(atomic_load_explicit(&e->w0, memory_order_relaxed));
		uint64_t length = pw1_length(atomic_load_explicit(&e->w1, memory_order_relaxed));

		if (length > first + a->g.zone_pages - end)
			length = first + a->g.zone_pages - end;
		atomic_store_explicit(&e->w0, pw0_make(PAGE_FREE, 0, gen, 0), memory_order_release);
		STOP_POINT(extent_row_freeing);
		end += length;
		i++;
		if (end == first + a->g.zone_pages)
			break;
	}
	buddy_put(a, zone, (uint32_t)(pages[0] - first), (uint32_t)(end - pages[0]));
	return i;
}

void extent_free_all(struct arena *a, const uint64_t *pages, uint32_t count)
{
	uint32_t zone, done = 0;

	if (count == 0)
		return;
	zone = zone_of_page(a, pages[0]);
	if (zone_trylock_patiently(a, zone)) {
		while (done < count)
			zone_return_later(a, pages[done++]);
		return;
	}
	while (done < count)
		done += free_row(a, zone, pages + done, count - done);
	zone_unlock(a, zone);
}

/* Another thread of this process may be freeing the extent, against the rules. Its pages are then another's
 * at once or when the lock is next taken, but not while we hold it and word 0 says that it is still ours;
 * and the length is swapped, so that one who leaves it with the zone and we agree on what it is. */
bool extent_trim(struct arena *a, uint64_t page, uint64_t w0, uint64_t keep)
{
	struct page_entry *e = &a->pages[page];
	uint32_t zone = zone_of_page(a, page);
	uint64_t in_zone = page - zone * a->g.zone_pages, w1, pages;
	bool done;

	if (zone_trylock_patiently(a, zone))
		return false;
	w1 = atomic_load_explicit(&e->w1, memory_order_relaxed);
	pages = pw1_length(w1);
	/* Crash: before, the whole extent is the client's; after, its tail is free, and the lock's next
	 * holder rebuilds the index. Entries inside an extent say free already. */
	done = keep < pages && in_zone + pages <= a->g.zone_pages &&
	       atomic_load_explicit(&e->w0, memory_order_acquire) == w0 &&
	       atomic_compare_exchange_strong_explicit(&e->w1, &w1, pw1_extent(keep, 0),
						       memory_order_acq_rel, memory_order_relaxed);
	STOP_POINT(extent_trimmed);
	if (done)
		buddy_put(a, zone, (uint32_t)(in_zone + keep), (uint32_t)(pages - keep));
	zone_unlock(a, zone);
	return done;
}

void extent_clear_inside(struct arena *a, uint64_t page, uint64_t pages)
{
	for (uint64_t p = page + 1; p < page + pages; p++) {
		struct page_entry *e = &a->pages[p];
		uint64_t w0 = atomic_load_explicit(&e->w0, memory_order_relaxed);

		if (pw0_kind(w0) == PAGE_SLAB)
			atomic_store_explicit(&e->w0, pw0_make(PAGE_FREE, 0, pw0_gen(w0), 0),
					      memory_order_release);
		STOP_POINT(extent_inside_clearing);
		/* Also where a death came between the two words of an entry: word 1 alone leads
		 * handles to a record. */
		if (pw1_is_slab(atomic_load_explicit(&e->w1, memory_order_relaxed)))
			atomic_store_explicit(&e->w1, 0, memory_order_relaxed);
	}
}

int extent_reclaim(struct arena *a, uint64_t page, uint32_t client)
{
	uint32_t zone = zone_of_page(a, page);
	struct page_entry *e = &a->pages[page];
	uint64_t w0 = atomic_load_explicit(&e->w0, memory_order_relaxed);
	uint64_t pages = pagemap_length(w0, atomic_load_explicit(&e->w1, memory_order_relaxed));
	int r;

	if (page - zone * a->g.zone_pages + pages > a->g.zone_pages) {
		r = span_reclaim_tail(a, page);
		if (r)
			return r;
	}
	r = zone_trylock_patiently(a, zone);
	if (r)
		return r;
	/* Taking the lock has freed what the dead left on the pending stack: look again. */
	w0 = atomic_load_explicit(&e->w0, memory_order_relaxed);
	pages = pagemap_length(w0, atomic_load_explicit(&e->w1, memory_order_relaxed));
	if ((pw0_kind(w0) == PAGE_RAW || pw0_kind(w0) == PAGE_RETURNED) && pw0_client(w0) == client &&
	    pages > 0 && page - zone * a->g.zone_pages + pages <= a->g.zone_pages) {
		extent_clear_inside(a, page, pages);
		STOP_POINT(extent_reclaiming);
		/* A slab's word would lead stale handles on to its record. */
		atomic_store_explicit(&e->w1, pw1_extent(pages, 0), memory_order_release);
		zone_free_run(a, zone, page, pages);
	}
	zone_unlock(a, zone);
	return 0;
}
