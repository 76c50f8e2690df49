/* SPDX-License-Identifier: Apache-2.0 */
#include "hint.h"

#include "client.h"
#include "geometry.h"
#include "stop_point.h"
#include "zone.h"

typedef _Atomic uint64_t word;

static uint64_t regions_per_zone(const struct arena *a)
{
	return a->g.zone_pages / REGION_PAGES;
}

static uint32_t zone_of_region(const struct arena *a, uint64_t region)
{
	return zone_of_page(a, region * REGION_PAGES);
}

static word *zone_words(struct arena *a, uint32_t row, uint32_t zone)
{
	return (word *)(zone_index(a, zone) + a->parts.hint_bits + 8 * a->parts.region_words * row);
}

static word *zone_summary(struct arena *a, uint32_t row, uint32_t zone)
{
	return (word *)(zone_index(a, zone) + a->parts.hint_summary + 8 * (uint64_t)row);
}

static word *arena_words(struct arena *a, uint32_t row)
{
	return (word *)(a->base + a->g.class_hints) + row * a->g.class_hint_words;
}

/* Sets a bit unless it is set. The load must not be taken before the caller's own store below it:
 * PAIR(hint): free it, then look at the bit; against: clear the bit, then look for free ones. */
static void bit_raise(word *w, uint64_t bit)
{
	uint64_t mask = UINT64_C(1) << (bit % 64);

	if (!(atomic_load_explicit(w, memory_order_seq_cst) & mask))
		atomic_fetch_or_explicit(w, mask, memory_order_seq_cst);
}

static void bit_lower(word *w, uint64_t bit)
{
	atomic_fetch_and_explicit(w, ~(UINT64_C(1) << (bit % 64)), memory_order_seq_cst);
}

void hint_set(struct arena *a, uint32_t row, uint64_t page)
{
	uint64_t region = page / REGION_PAGES;
	uint32_t zone = zone_of_region(a, region);
	uint64_t in_zone = region & (regions_per_zone(a) - 1);

	bit_raise(&zone_words(a, row, zone)[in_zone / 64], in_zone);
	STOP_POINT(hint_leaf_set);
	bit_raise(zone_summary(a, row, zone), in_zone / 64);
	STOP_POINT(hint_summary_set);
	bit_raise(&arena_words(a, row)[zone / 64], zone);
}

bool hint_any(struct arena *a, uint32_t row)
{
	uint64_t bits = 0;

	for (uint64_t w = 0; w < a->g.class_hint_words; w++)
		bits |= atomic_load_explicit(&arena_words(a, row)[w], memory_order_relaxed);
	return bits != 0;
}

bool hint_test(struct arena *a, uint32_t row, uint64_t region)
{
	uint32_t zone = zone_of_region(a, region);
	uint64_t in_zone = region & (regions_per_zone(a) - 1);

	return atomic_load_explicit(&zone_words(a, row, zone)[in_zone / 64], memory_order_relaxed) >>
		       (in_zone % 64) &
	       1;
}

void hint_clear(struct arena *a, uint32_t row, uint64_t region)
{
	uint32_t zone = zone_of_region(a, region);
	uint64_t in_zone = region & (regions_per_zone(a) - 1);
	word *leaf = &zone_words(a, row, zone)[in_zone / 64], *summary = zone_summary(a, row, zone);

	/* Crash: a bit cleared and not looked after is set again by our recovery, which comes to every
	 * region we have marked. */
	if (client_mark_page(a, region * REGION_PAGES))
		return;
	bit_lower(leaf, in_zone);
	STOP_POINT(hint_leaf_cleared);
	if (atomic_load_explicit(leaf, memory_order_seq_cst))
		return;
	bit_lower(summary, in_zone / 64);
	STOP_POINT(hint_summary_cleared);
	if (atomic_load_explicit(leaf, memory_order_seq_cst)) {
		bit_raise(summary, in_zone / 64);
		return;
	}
	if (atomic_load_explicit(summary, memory_order_seq_cst))
		return;
	bit_lower(&arena_words(a, row)[zone / 64], zone);
	STOP_POINT(hint_arena_cleared);
	if (atomic_load_explicit(summary, memory_order_seq_cst))
		bit_raise(&arena_words(a, row)[zone / 64], zone);
}

/* The first set bit at or after from, below end, of an array of words, each seen through a mask; end if
 * none. */
static uint64_t next_bit(const word *w, uint64_t from, uint64_t end, uint64_t mask)
{
	while (from < end) {
		uint64_t bits = atomic_load_explicit(&w[from / 64], memory_order_relaxed) & mask;

		bits >>= from % 64;
		if (bits) {
			from += (uint64_t)__builtin_ctzll(bits);
			return from < end ? from : end;
		}
		from = (from / 64 + 1) * 64;
	}
	return end;
}

static uint64_t next_in_zone(struct arena *a, uint32_t row, uint32_t zone, uint64_t from)
{
	uint64_t end = regions_per_zone(a), words = geometry_words(end);
	uint64_t w = from / 64, at;

	while (w < words) {
		at = next_bit(zone_words(a, row, zone), from, (w + 1) * 64 < end ? (w + 1) * 64 : end,
			      UINT64_MAX);
		if (at < end && at < (w + 1) * 64)
			return at;
		w = next_bit(zone_summary(a, row, zone), w + 1, words, UINT64_MAX);
		from = w * 64;
	}
	return end;
}

uint64_t hint_next_in(struct arena *a, uint32_t row, uint64_t from, uint64_t end, uint64_t zones_wanted)
{
	uint64_t per_zone = regions_per_zone(a), zones = (end + per_zone - 1) / per_zone;
	uint64_t first = zone_of_region(a, from), zone = first, in_zone = from & (per_zone - 1);

	while (zone < zones) {
		uint64_t at;

		zone = next_bit(arena_words(a, row), zone, zones, zones_wanted);
		if (zone >= zones)
			break;
		if (zone != first)
			in_zone = 0;
		at = next_in_zone(a, row, (uint32_t)zone, in_zone);
		if (at < per_zone)
			return zone * per_zone + at < end ? zone * per_zone + at : UINT64_MAX;
		zone++;
	}
	return UINT64_MAX;
}

uint64_t hint_next(struct arena *a, uint32_t row, uint64_t from, uint64_t end)
{
	return hint_next_in(a, row, from, end, UINT64_MAX);
}
