/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page may be without memory only while its purged bit is set or its region's commit bit is clear; so
 * bits change before a punch and after a fallocate, and a death between leaves a superfluous fallocate to
 * the next owner, no more.
 *
 * A late fallocate is harmless as well: an owner that saw its region's bit clear may be stopped, and take
 * memory for the region when another has long done so, and a purger has given some of its pages back.
 * Those have memory again that nobody counts, until they are taken.
 */
#include "commit.h"

#include <sys/mman.h>

#include "bits.h"
#include "geometry.h"
#include "stop_point.h"
#include "zone.h"

#define POPULATE_MAX 512u /* pages whose page tables are made at once */

static _Atomic uint64_t *region_word(struct arena *a, uint64_t region)
{
	uint64_t in_zone = region & (a->g.zone_pages / REGION_PAGES - 1);
	char *bits = zone_index(a, zone_of_page(a, region * REGION_PAGES)) + a->parts.commit_bits;

	return (_Atomic uint64_t *)bits + in_zone / 64;
}

static uint64_t region_bit(const struct arena *a, uint64_t region)
{
	return UINT64_C(1) << ((region & (a->g.zone_pages / REGION_PAGES - 1)) % 64);
}

static _Atomic uint64_t *purged_words(struct arena *a, uint32_t zone)
{
	return (_Atomic uint64_t *)(zone_index(a, zone) + a->parts.purged_bits);
}

static _Atomic uint64_t *purged_word(struct arena *a, uint64_t page)
{
	return purged_words(a, zone_of_page(a, page)) + (page & (a->g.zone_pages - 1)) / 64;
}

/* ---- looking ---- */

bool commit_has_region(struct arena *a, uint64_t region)
{
	/* PAIR(commit): seen set by an owner of a page of it, whose ownership keeps it set. */
	return atomic_load_explicit(region_word(a, region), memory_order_acquire) & region_bit(a, region);
}

uint64_t commit_word(struct arena *a, uint32_t zone, uint64_t word)
{
	uint64_t region = (zone * a->g.zone_pages + word * 64) / REGION_PAGES, committed = 0;

	for (uint64_t i = 0; i < 64 / REGION_PAGES; i++)
		if (commit_has_region(a, region + i))
			committed |= bits_low(REGION_PAGES) << (i * REGION_PAGES);
	return committed & ~atomic_load_explicit(purged_words(a, zone) + word, memory_order_relaxed);
}

uint64_t commit_purged(struct arena *a, uint64_t page)
{
	const _Atomic uint64_t *word = purged_word(a, page);
	uint64_t bits = atomic_load_explicit(word, memory_order_relaxed) >> (page % 64);

	if (page % 64 && ((page | 63) + 1) & (a->g.zone_pages - 1))
		bits |= atomic_load_explicit(word + 1, memory_order_relaxed) << (64 - page % 64);
	return bits;
}

/* ---- taking ---- */

static int take_memory(struct arena *a, uint64_t page, uint64_t pages)
{
	uint64_t start = a->g.heap + (page << PAGE_SHIFT), length = pages << PAGE_SHIFT;
	int r = arena_commit(a, start, length);

	atomic_fetch_add_explicit(&a->taken, 1, memory_order_relaxed);
	if (!r && pages <= POPULATE_MAX)
		madvise(arena_at(a, start), length, MADV_POPULATE_WRITE);
	return r;
}

static int take_regions(struct arena *a, uint64_t first, uint64_t count)
{
	int r = take_memory(a, first * REGION_PAGES, count * REGION_PAGES);

	if (r)
		return r;
	STOP_POINT(commit_unmarked);
	/* PAIR(commit): the pages, then their bit. Crash: before, pages that the next owner commits again. */
	for (uint64_t region = first; region < first + count; region++)
		atomic_fetch_or_explicit(region_word(a, region), region_bit(a, region),
					 memory_order_release);
	return 0;
}

/* Pages of one word. Crash: before their bits, pages that the next owner takes memory for again. */
static int retake_run(struct arena *a, uint64_t page, uint64_t pages)
{
	int r = take_memory(a, page, pages);

	if (r)
		return r;
	STOP_POINT(commit_still_purged);
	atomic_fetch_and_explicit(purged_word(a, page), ~(bits_low(pages) << (page % 64)), memory_order_release);
	return 0;
}

int commit_retake(struct arena *a, uint64_t page, uint64_t pages)
{
	uint64_t end = page + pages;
	int r = 0;

	while (!r && page < end) {
		uint64_t left = end - page < 64 - page % 64 ? end - page : 64 - page % 64;
		uint64_t bits = atomic_load_explicit(purged_word(a, page), memory_order_relaxed);

		for (bits = bits >> (page % 64) & bits_low(left); !r && bits;) {
			uint32_t run, from = bits_run(bits, &run);

			r = retake_run(a, page + from, run);
			bits &= ~(bits_low(run) << from);
		}
		page += left;
	}
	return r;
}

int commit_take(struct arena *a, uint64_t page, uint64_t pages)
{
	uint64_t region = page / REGION_PAGES, end = (page + pages - 1) / REGION_PAGES + 1;
	int r = 0;

	while (!r && region < end) {
		uint64_t from = region;

		if (commit_has_region(a, region)) {
			region++;
			continue;
		}
		while (region < end && !commit_has_region(a, region))
			region++;
		r = take_regions(a, from, region - from);
	}
	return r ? r : commit_retake(a, page, pages);
}

/* ---- giving ---- */

void commit_give_inside(struct arena *a, uint64_t page, uint64_t pages)
{
	uint64_t end = page + pages;

	/* Crash: before, committed pages of ours; after, pages that the next owner takes memory for, whether
	 * it is there or not. */
	while (page < end) {
		uint64_t next = (page | 63) + 1 < end ? (page | 63) + 1 : end;

		atomic_fetch_or_explicit(purged_word(a, page), bits_low(next - page) << (page % 64),
					 memory_order_acq_rel);
		page = next;
	}
}

static void give_region(struct arena *a, uint64_t region)
{
	uint64_t page = region * REGION_PAGES, bits = bits_low(REGION_PAGES) << (page % 64);

	atomic_fetch_and_explicit(region_word(a, region), ~region_bit(a, region), memory_order_acq_rel);
	STOP_POINT(commit_region_given);
	/* Crash: before, its next owner takes memory for the region, and again for such pages. */
	if (atomic_load_explicit(purged_word(a, page), memory_order_relaxed) & bits)
		atomic_fetch_and_explicit(purged_word(a, page), ~bits, memory_order_acq_rel);
}

/* Of a region with pages that are not ours some become purged ones; a region that is all ours has no memory
 * any more. */
void commit_give(struct arena *a, uint64_t page, uint64_t pages)
{
	uint64_t end = page + pages;

	while (page < end) {
		uint64_t next = (page / REGION_PAGES + 1) * REGION_PAGES;

		next = next < end ? next : end;
		if (next - page == REGION_PAGES)
			give_region(a, page / REGION_PAGES);
		else
			commit_give_inside(a, page, next - page);
		page = next;
	}
}
