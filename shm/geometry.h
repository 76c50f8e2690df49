/* SPDX-License-Identifier: Apache-2.0 */
/*
 * geometry.h - where each part of an arena lies, as a pure function of its two sizes. A file's own
 * geometry is accepted only if it is what this computes from them.
 */
#ifndef SHM_GEOMETRY_H
#define SHM_GEOMETRY_H

#include "layout.h"

/* -EINVAL: capacity out of bounds. Both sizes in bytes; they are rounded up. */
int geometry_compute(struct arena_geometry *g, uint64_t capacity, uint64_t ring_bytes);

/* ---- parts of one zone's index, as offsets in bytes from its start ---- */

static inline uint64_t geometry_words(uint64_t bits)
{
	return (bits + 63) / 64;
}

static inline uint64_t geometry_heap_pages(const struct arena_geometry *g)
{
	return g->capacity >> PAGE_SHIFT;
}

/* Pages of a zone: the last one may be cut short. */
static inline uint64_t geometry_zone_span(const struct arena_geometry *g, uint64_t zone)
{
	uint64_t start = zone * g->zone_pages, pages = geometry_heap_pages(g);

	return pages - start < g->zone_pages ? pages - start : g->zone_pages;
}

/* Words of free bits of one order, and words of their summary. */
static inline uint64_t geometry_order_words(const struct arena_geometry *g, uint32_t order)
{
	return geometry_words(g->zone_pages >> order);
}

uint64_t geometry_free_bits(const struct arena_geometry *g, uint32_t order);
uint64_t geometry_free_summary(const struct arena_geometry *g, uint32_t order);
uint64_t geometry_idle_bits(const struct arena_geometry *g);
uint64_t geometry_commit_bits(const struct arena_geometry *g);
uint64_t geometry_purged_bits(const struct arena_geometry *g);
uint64_t geometry_hint_bits(const struct arena_geometry *g, uint32_t row);
uint64_t geometry_hint_summary(const struct arena_geometry *g, uint32_t row);

/* Bytes of the profile's area. */
uint64_t geometry_profile_bytes(void);

/* ---- parts of one client's area ---- */

static inline uint64_t geometry_regions(const struct arena_geometry *g)
{
	return g->capacity >> REGION_SHIFT;
}

/* 64-byte lines of the leaf bitmap; the summary has a bit for each. */
static inline uint64_t geometry_mark_lines(const struct arena_geometry *g)
{
	return (geometry_regions(g) + 511) / 512;
}

static inline uint64_t geometry_mark_summary(void)
{
	return sizeof(struct client_record);
}

static inline uint64_t geometry_mark_leaf(const struct arena_geometry *g)
{
	uint64_t end = geometry_mark_summary() + 8 * geometry_words(geometry_mark_lines(g));

	return (end + 63) & ~UINT64_C(63);
}

#endif
