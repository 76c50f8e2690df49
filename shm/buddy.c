/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Binary buddies (Knowlton, CACM 1965) without headers in the pages: bit i of order k says that the
 * block of pages [i << k, (i + 1) << k) is free and not part of a larger free block. A summary bit a
 * word, and a word of orders in struct zone, find the lowest block of an order in three steps.
 *
 * An extent has any number of pages: the tail of its block goes straight back. So freeing takes runs,
 * not blocks, and a run is cut into the largest aligned blocks, each merged upwards with its buddy. One of no power of two
 * is put where free blocks lie side by side, and begins where they begin: else of each block of 32 that one of 20 pages
 * is cut from, no other of 20 could use the rest.
 *
 * Stores are plain: the zone's lock orders them, and a holder's death discards them all.
 */
#include "buddy.h"

#include <string.h>

#include "bits.h"
#include "geometry.h"
#include "pagemap.h"
#include "stop_point.h"
#include "zone.h"

#define RUN_LOOKS 8 /* blocks whose neighbours are looked at for a run */

static uint64_t *free_words(struct arena *a, uint32_t zone, uint32_t order)
{
	return (uint64_t *)(zone_index(a, zone) + a->parts.free_bits[order]);
}

static uint64_t *summary_words(struct arena *a, uint32_t zone, uint32_t order)
{
	return (uint64_t *)(zone_index(a, zone) + a->parts.free_summary[order]);
}

static uint64_t *idle_words(struct arena *a, uint32_t zone)
{
	return (uint64_t *)(zone_index(a, zone) + a->parts.idle_bits);
}

static uint32_t zone_orders(const struct arena *a)
{
	return a->zone_shift + 1;
}

static bool bit_test(struct arena *a, uint32_t zone, uint32_t order, uint32_t i)
{
	return free_words(a, zone, order)[i / 64] >> (i % 64) & 1;
}

static void order_note(struct arena *a, uint32_t zone, uint32_t order, bool any)
{
	_Atomic uint32_t *map = &zone_of(a, zone)->order_map;
	uint32_t old = atomic_load_explicit(map, memory_order_relaxed);

	atomic_store_explicit(map, any ? old | 1u << order : old & ~(1u << order),
			      memory_order_relaxed);
}

static void bit_set(struct arena *a, uint32_t zone, uint32_t order, uint32_t i)
{
	free_words(a, zone, order)[i / 64] |= UINT64_C(1) << (i % 64);
	summary_words(a, zone, order)[i / 64 / 64] |= UINT64_C(1) << (i / 64 % 64);
	order_note(a, zone, order, true);
}

static void bit_clear(struct arena *a, uint32_t zone, uint32_t order, uint32_t i)
{
	uint64_t *words = free_words(a, zone, order), *summary = summary_words(a, zone, order);
	uint64_t n = geometry_words(geometry_order_words(&a->g, order));

	words[i / 64] &= ~(UINT64_C(1) << (i % 64));
	if (words[i / 64])
		return;
	summary[i / 64 / 64] &= ~(UINT64_C(1) << (i / 64 % 64));
	for (uint64_t w = 0; w < n; w++)
		if (summary[w])
			return;
	order_note(a, zone, order, false);
}

/* Pages that are taken have not been idle. */
static void idle_forget(struct arena *a, uint32_t zone, uint32_t start, uint32_t pages)
{
	uint64_t *words = idle_words(a, zone);

	for (uint32_t at = start, end = start + pages; at < end; at = (at / 64 + 1) * 64) {
		uint32_t n = end - at < 64 - at % 64 ? end - at : 64 - at % 64;
		uint64_t bits = bits_low(n) << (at % 64);

		if (words[at / 64] & bits)
			words[at / 64] &= ~bits;
	}
}

/* The lowest free block of an order, from one on; BUDDY_NONE. */
static uint32_t next_block(struct arena *a, uint32_t zone, uint32_t order, uint32_t from)
{
	uint64_t *words = free_words(a, zone, order), *summary = summary_words(a, zone, order);
	uint64_t n = geometry_order_words(&a->g, order), w = from / 64;
	uint64_t bits = w < n ? words[w] & UINT64_MAX << (from % 64) : 0;

	while (!bits && ++w < n) {
		uint64_t some = summary[w / 64] >> (w % 64);

		if (!some)
			w |= 63;
		else
			bits = words[w += (uint64_t)__builtin_ctzll(some)];
	}
	return bits ? (uint32_t)(w * 64) + (uint32_t)__builtin_ctzll(bits) : BUDDY_NONE;
}

static void free_count_add(struct arena *a, uint32_t zone, uint32_t pages)
{
	_Atomic uint32_t *count = &zone_of(a, zone)->free_pages;

	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + pages,
			      memory_order_relaxed);
}

static void block_put(struct arena *a, uint32_t zone, uint32_t order, uint32_t i)
{
	while (order + 1 < zone_orders(a) && bit_test(a, zone, order, i ^ 1)) {
		bit_clear(a, zone, order, i ^ 1);
		STOP_POINT(buddy_merging);
		i >>= 1;
		order++;
	}
	bit_set(a, zone, order, i);
}

static void run_put(struct arena *a, uint32_t zone, uint32_t start, uint32_t pages)
{
	while (pages > 0) {
		uint32_t order = 31 - (uint32_t)__builtin_clz(pages);

		if (start && (uint32_t)__builtin_ctz(start) < order)
			order = (uint32_t)__builtin_ctz(start);
		if (order >= zone_orders(a))
			order = zone_orders(a) - 1;
		block_put(a, zone, order, start >> order);
		start += 1u << order;
		pages -= 1u << order;
	}
}

void buddy_put(struct arena *a, uint32_t zone, uint32_t start, uint64_t pages)
{
	uint64_t span = geometry_zone_span(&a->g, zone);

	/* Lengths come from the page map, which another process may have spoilt. What is free nonetheless is
	 * found when the bitmaps are made anew. */
	if (start > span || pages > span - start) {
		atomic_store_explicit(&a->header->damaged, 1, memory_order_relaxed);
		return;
	}
	run_put(a, zone, start, (uint32_t)pages);
	STOP_POINT(buddy_put_uncounted);
	free_count_add(a, zone, (uint32_t)pages);
}

/* The free block that holds a page: its order, or -1. */
static int block_holding(struct arena *a, uint32_t zone, uint32_t page)
{
	for (uint32_t order = 0; order < zone_orders(a); order++)
		if (bit_test(a, zone, order, page >> order))
			return (int)order;
	return -1;
}

bool buddy_is_free(struct arena *a, uint32_t zone, uint32_t start, uint32_t pages)
{
	uint32_t at = start;

	while (at < start + pages) {
		int order = block_holding(a, zone, at);

		if (order < 0)
			return false;
		at = ((at >> order) + 1) << order;
	}
	return true;
}

bool buddy_take_at(struct arena *a, uint32_t zone, uint32_t start, uint32_t pages)
{
	uint32_t end = start + pages;

	if (!buddy_is_free(a, zone, start, pages))
		return false;
	for (uint32_t at = start; at < end;) {
		int order = block_holding(a, zone, at);
		uint32_t first, last;

		if (order < 0) /* damage while we look */
			return false;
		first = at >> order << order;
		last = first + (1u << order);
		bit_clear(a, zone, (uint32_t)order, at >> order);
		run_put(a, zone, first, at - first);
		if (last > end)
			run_put(a, zone, end, last - end);
		at = last;
	}
	idle_forget(a, zone, start, pages);
	free_count_add(a, zone, -pages);
	return true;
}

/* The order of the free block that ends before a page, or that begins with it; or -1. */
static int block_before(struct arena *a, uint32_t zone, uint32_t page)
{
	for (uint32_t k = 0; k < zone_orders(a) && !(page & ((1u << k) - 1)) && page >> k; k++)
		if (bit_test(a, zone, k, (page >> k) - 1))
			return (int)k;
	return -1;
}

static int block_after(struct arena *a, uint32_t zone, uint32_t page)
{
	for (uint32_t k = 0; k < zone_orders(a) && !(page & ((1u << k) - 1)); k++)
		if (page < geometry_zone_span(&a->g, zone) && bit_test(a, zone, k, page >> k))
			return (int)k;
	return -1;
}

/* Takes so many pages where the free ones begin that have this free block among them, if they suffice. */
static uint32_t take_run(struct arena *a, uint32_t zone, uint32_t order, uint32_t i, uint32_t pages)
{
	uint64_t span = geometry_zone_span(&a->g, zone);
	uint32_t begin = i << order, end = begin + (1u << order);
	int k;

	if (end > span)
		return BUDDY_NONE; /* damage: no such block */
	while ((k = block_before(a, zone, begin)) >= 0)
		begin -= 1u << k;
	while (end - begin < pages && (k = block_after(a, zone, end)) >= 0)
		end += 1u << k;
	if (end - begin < pages || begin + pages > span || !buddy_take_at(a, zone, begin, pages))
		return BUDDY_NONE;
	return begin;
}

/* Where no block of a size is free that all pages fit into, blocks side by side may hold them. The lowest blocks of half
 * that size are tried. */
static uint32_t take_between(struct arena *a, uint32_t zone, uint32_t order, uint32_t pages)
{
	uint32_t i = 0, got = BUDDY_NONE;

	for (int looks = 0; got == BUDDY_NONE && looks < RUN_LOOKS; looks++) {
		i = next_block(a, zone, order - 1, i);
		if (i == BUDDY_NONE)
			break;
		got = take_run(a, zone, order - 1, i++, pages);
	}
	return got;
}

uint32_t buddy_take(struct arena *a, uint32_t zone, uint32_t pages, uint32_t align)
{
	uint32_t size = pages > align ? pages : align;
	uint32_t order = size <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(size - 1);
	bool odd = align == 1 && (pages & (pages - 1));
	uint32_t fits, start = BUDDY_NONE, i;

	if (order >= zone_orders(a))
		return BUDDY_NONE;
	if (odd)
		start = take_between(a, zone, order, pages);
	if (start != BUDDY_NONE)
		return start;
	fits = atomic_load_explicit(&zone_of(a, zone)->order_map, memory_order_relaxed) >> order << order &
	       (uint32_t)bits_low(zone_orders(a));
	if (!fits)
		return BUDDY_NONE;
	order = (uint32_t)__builtin_ctz(fits);
	i = next_block(a, zone, order, 0);
	if (i == BUDDY_NONE)
		return BUDDY_NONE;
	start = i << order;
	if (start + (1u << order) > geometry_zone_span(&a->g, zone))
		return BUDDY_NONE; /* damage: no such block */
	if (odd)
		return take_run(a, zone, order, i, pages);
	bit_clear(a, zone, order, i);
	idle_forget(a, zone, start, pages);
	STOP_POINT(buddy_block_taken);
	run_put(a, zone, start + pages, (1u << order) - pages);
	STOP_POINT(buddy_taken_uncounted);
	free_count_add(a, zone, -pages);
	return start;
}

/* Each bit of the lower half becomes two. */
static uint64_t double_bits(uint64_t x)
{
	x = (x | x << 16) & UINT64_C(0x0000ffff0000ffff);
	x = (x | x << 8) & UINT64_C(0x00ff00ff00ff00ff);
	x = (x | x << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	x = (x | x << 2) & UINT64_C(0x3333333333333333);
	x = (x | x << 1) & UINT64_C(0x5555555555555555);
	return x | x << 1;
}

uint64_t buddy_free_pages(struct arena *a, uint32_t zone, uint32_t word)
{
	uint64_t pages = 0;

	for (uint32_t order = zone_orders(a) - 1; order >= 6; order--)
		if (bit_test(a, zone, order, word * 64 >> order))
			return UINT64_MAX;
	for (uint32_t order = 6; order-- > 0;) {
		uint32_t blocks = 64u >> order, first = word * blocks;
		uint64_t bits = free_words(a, zone, order)[first / 64] >> (first % 64);

		if (blocks < 64)
			bits &= (UINT64_C(1) << blocks) - 1;
		pages = double_bits(pages) | bits;
	}
	return pages;
}

uint64_t buddy_idle_pages(struct arena *a, uint32_t zone, uint32_t word)
{
	return idle_words(a, zone)[word];
}

void buddy_note_idle(struct arena *a, uint32_t zone, uint32_t word, uint64_t pages)
{
	if (idle_words(a, zone)[word] != pages)
		idle_words(a, zone)[word] = pages;
}

/* Pages that the entry at page p (of the whole heap) takes in its zone; 0: the page is free. A continued
 * piece whose head no longer reaches it was left by a death and is freed here. */
static uint64_t taken_pages(struct arena *a, uint64_t p, uint64_t zone_end)
{
	struct page_entry *e = &a->pages[p];
	uint64_t w0, w1, length;

	pagemap_read(e, &w0, &w1);
	if (pw0_kind(w0) == PAGE_FREE)
		return 0;
	if (pw0_kind(w0) == PAGE_SPAN && !zone_span_covered(a, p, w1)) {
		/* Crash: before, a later rebuild comes here again; after, the page is free. */
		atomic_store_explicit(&e->w0, pw0_make(PAGE_FREE, 0, pw0_gen(w0), 0), memory_order_release);
		return 0;
	}
	length = pagemap_length(w0, w1);
	if (length == 0)
		length = 1;
	return length < zone_end - p ? length : zone_end - p;
}

void buddy_rebuild(struct arena *a, uint32_t zone)
{
	struct zone *z = zone_of(a, zone);
	uint64_t first = (uint64_t)zone * a->g.zone_pages;
	uint64_t end = first + geometry_zone_span(&a->g, zone);
	uint64_t high = first + atomic_load_explicit(&z->high, memory_order_relaxed);
	uint64_t p = first, run = first;

	memset(free_words(a, zone, 0), 0, a->parts.commit_bits);
	atomic_store_explicit(&z->order_map, 0, memory_order_relaxed);
	atomic_store_explicit(&z->free_pages, 0, memory_order_relaxed);
	STOP_POINT(buddy_rebuilding);
	if (high > end)
		high = end;
	while (p < high) {
		uint64_t taken = taken_pages(a, p, end);

		if (taken == 0) {
			p++;
			continue;
		}
		buddy_put(a, zone, (uint32_t)(run - first), (uint32_t)(p - run));
		p += taken;
		run = p;
	}
	buddy_put(a, zone, (uint32_t)(run - first), (uint32_t)(end - run));
}
