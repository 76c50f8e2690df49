/* SPDX-License-Identifier: Apache-2.0 */
#include "purge.h"

#include <errno.h>
#include <stdlib.h>

#include "buddy.h"
#include "client.h"
#include "extent.h"
#include "geometry.h"
#include "stop_point.h"
#include "words.h"
#include "zone.h"

#define LOOKS 64

int purge_init(struct purge *p, const struct arena *a)
{
	p->idle = calloc(geometry_words(geometry_regions(&a->g)), sizeof(*p->idle));
	return p->idle ? 0 : -ENOMEM;
}

void purge_fini(struct purge *p)
{
	free(p->idle);
	p->idle = NULL;
}

static bool was_idle(const struct purge *p, uint64_t region)
{
	return p->idle[region / 64] >> (region % 64) & 1;
}

static void note_idle(struct purge *p, uint64_t region, bool idle)
{
	uint64_t bit = UINT64_C(1) << (region % 64);

	p->idle[region / 64] = idle ? p->idle[region / 64] | bit : p->idle[region / 64] & ~bit;
}

/* Lock held. */
static bool is_idle(struct arena *a, uint32_t zone, uint64_t region)
{
	uint64_t in_zone = region * REGION_PAGES - zone * a->g.zone_pages;

	return extent_region_committed(a, region) &&
	       buddy_is_free(a, zone, (uint32_t)in_zone, REGION_PAGES);
}

/* Lock held: takes the run of regions that were and are idle, from region on. Its length; 0: none. */
static uint64_t take_run(struct purge *p, struct arena *a, uint32_t zone, uint64_t region, uint64_t end)
{
	uint64_t first = region, page = region * REGION_PAGES, pages;

	while (region < end && was_idle(p, region) && is_idle(a, zone, region))
		note_idle(p, region++, false);
	pages = (region - first) * REGION_PAGES;
	if (!pages || !buddy_take_at(a, zone, (uint32_t)(page - zone * a->g.zone_pages), (uint32_t)pages))
		return 0;
	client_mark(a, page);
	extent_note_taken(a, page, pages, pw0_make(PAGE_RAW, a->client, 0, RAW_PURGE),
			  pw1_extent(pages, 0));
	return region - first;
}

/* The extent is ours, all of its regions with it. */
static void give_back(struct arena *a, uint64_t region, uint64_t count)
{
	STOP_POINT(purge_taken);
	/* Crash: before, committed pages of a raw extent of ours; between, pages that the next owner
	 * commits, whether they are there or not; after, free and given back. */
	for (uint64_t i = region; i < region + count; i++)
		extent_forget_commit(a, i);
	STOP_POINT(purge_unmarked);
	arena_punch(a, a->g.heap + (region << REGION_SHIFT), count << REGION_SHIFT);
	STOP_POINT(purge_punched);
	extent_free(a, region * REGION_PAGES);
}

/* Looks for the next run from *region on, for no longer than a look at LOOKS regions: others want the
 * lock. */
static uint64_t next_run(struct purge *p, struct arena *a, uint32_t zone, uint64_t *region, uint64_t end,
			 uint64_t most)
{
	uint64_t count = 0;

	if (zone_trylock_patiently(a, zone)) {
		*region = end;
		return 0;
	}
	for (int looks = 0; *region < end && !count && looks < LOOKS; looks++) {
		uint64_t last = *region + most < end ? *region + most : end;

		count = most ? take_run(p, a, zone, *region, last) : 0;
		if (!count) {
			note_idle(p, *region, is_idle(a, zone, *region));
			++*region;
		}
	}
	zone_unlock(a, zone);
	return count;
}

static uint64_t purge_zone(struct purge *p, struct arena *a, uint32_t zone, uint64_t max_regions)
{
	uint64_t per_zone = a->g.zone_pages / REGION_PAGES;
	uint64_t region = zone * per_zone, end = region + geometry_zone_span(&a->g, zone) / REGION_PAGES;
	uint64_t done = 0, count;

	if (!atomic_load_explicit(&zone_of(a, zone)->ready, memory_order_relaxed) ||
	    client_prepare_zone(a, zone))
		return 0;
	while (region < end) {
		count = next_run(p, a, zone, &region, end, max_regions - done);
		if (!count)
			continue;
		give_back(a, region, count);
		region += count;
		done += count;
	}
	return done;
}

uint64_t purge_idle(struct purge *p, struct arena *a, uint64_t max_bytes)
{
	uint32_t zones = arena_refresh(a);
	uint64_t most = max_bytes >> REGION_SHIFT, done = 0;

	if (!a->client || a->files.heap_fd >= 0)
		return 0;
	for (uint32_t zone = 0; zone < zones; zone++)
		done += purge_zone(p, a, zone, most - done);
	return done << REGION_SHIFT;
}
