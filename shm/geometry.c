/* SPDX-License-Identifier: Apache-2.0 */
#include "geometry.h"

#include <errno.h>
#include <string.h>

#define HUGE_PAGE (UINT64_C(2) << 20)

static uint64_t round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

/* A zone's page map is committed with it, so a small use of a large arena wants small zones; a large
 * object in a small arena wants large ones. */
static uint64_t zone_pages_for(uint64_t pages)
{
	uint64_t zones = pages < 512 * 256 ? ZONES_MIN : 2 * ZONES_MIN;
	uint64_t zone = ZONE_PAGES_MAX;

	while (zone > pages / zones)
		zone /= 2;
	return zone;
}

uint64_t geometry_free_bits(const struct arena_geometry *g, uint32_t order)
{
	uint64_t words = 0;

	for (uint32_t k = 0; k < order; k++)
		words += geometry_order_words(g, k);
	return words * 8;
}

uint64_t geometry_free_summary(const struct arena_geometry *g, uint32_t order)
{
	uint64_t offset = geometry_free_bits(g, ZONE_ORDERS);

	for (uint32_t k = 0; k < order; k++)
		offset += 8 * geometry_words(geometry_order_words(g, k));
	return offset;
}

uint64_t geometry_idle_bits(const struct arena_geometry *g)
{
	return geometry_free_summary(g, ZONE_ORDERS);
}

uint64_t geometry_commit_bits(const struct arena_geometry *g)
{
	return geometry_idle_bits(g) + 8 * geometry_order_words(g, 0);
}

static uint64_t region_words(const struct arena_geometry *g)
{
	return geometry_words(g->zone_pages / REGION_PAGES);
}

uint64_t geometry_purged_bits(const struct arena_geometry *g)
{
	return geometry_commit_bits(g) + 8 * region_words(g);
}

uint64_t geometry_hint_bits(const struct arena_geometry *g, uint32_t row)
{
	return geometry_purged_bits(g) + 8 * geometry_order_words(g, 0) + 8 * region_words(g) * row;
}

uint64_t geometry_hint_summary(const struct arena_geometry *g, uint32_t row)
{
	return geometry_hint_bits(g, HINT_ROWS) + 8 * (uint64_t)row;
}

uint64_t geometry_profile_bytes(void)
{
	return 2 * PAGE_SIZE + PROFILE_MODULES * sizeof(struct profile_module) +
	       PROFILE_SITES * sizeof(struct profile_site) + PROFILE_SAMPLES * sizeof(struct profile_sample);
}

/* Appends a part of the given size on a page boundary. */
static uint64_t place(uint64_t *end, uint64_t size)
{
	uint64_t at = *end;

	*end = round_up(at + size, PAGE_SIZE);
	return at;
}

int geometry_compute(struct arena_geometry *g, uint64_t capacity, uint64_t ring_bytes)
{
	uint64_t end = 0;

	if (capacity < CAPACITY_MIN || capacity > CAPACITY_MAX || ring_bytes > CAPACITY_MAX)
		return -EINVAL;
	memset(g, 0, sizeof(*g));
	g->capacity = round_up(capacity, UINT64_C(1) << REGION_SHIFT);
	g->zone_pages = zone_pages_for(geometry_heap_pages(g));
	g->zone_count = (geometry_heap_pages(g) + g->zone_pages - 1) / g->zone_pages;
	g->class_hint_words = geometry_words(g->zone_count);
	g->zone_index_size = round_up(geometry_hint_summary(g, HINT_ROWS), PAGE_SIZE);
	g->client_area_size =
		round_up(geometry_mark_leaf(g) + 64 * geometry_mark_lines(g), PAGE_SIZE);
	g->ring_size = round_up(ring_bytes, PAGE_SIZE);

	place(&end, sizeof(struct arena_header));
	g->client_words = place(&end, CLIENTS_MAX * 8);
	g->thread_words = place(&end, THREADS_MAX * 8);
	g->name_words = place(&end, NAMES_MAX * 8);
	g->zones = place(&end, g->zone_count * sizeof(struct zone));
	g->class_hints = place(&end, HINT_ROWS * 8 * g->class_hint_words);
	g->hold_bits = place(&end, 8 * geometry_words(geometry_regions(g)));
	g->name_entries = place(&end, NAMES_MAX * sizeof(struct name_entry));
	g->zone_indexes = place(&end, g->zone_count * g->zone_index_size);
	g->page_map = place(&end, geometry_heap_pages(g) * sizeof(struct page_entry));
	g->client_areas = place(&end, CLIENTS_MAX * g->client_area_size);
	g->holds = place(&end, geometry_regions(g) * PAGE_SIZE);
	g->profile = place(&end, geometry_profile_bytes());
	g->ring = place(&end, g->ring_size);
	g->debug = place(&end, sizeof(struct debug_area));
	g->heap = round_up(end, HUGE_PAGE);
	g->file_size = g->heap + g->capacity;
	return 0;
}
