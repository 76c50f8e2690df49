/* SPDX-License-Identifier: Apache-2.0 */
/* Zones: their index against the page map. */
#include <string.h>

#include "audit_run.h"
#include "zone.h"

#define OWNER_DIED 0x40000000u /* of a robust futex, as the kernel leaves it */

static _Atomic uint64_t *index_words(const struct audit_run *run, uint64_t zone, uint64_t offset)
{
	return (_Atomic uint64_t *)(zone_index(run->a, (uint32_t)zone) + offset);
}

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

/* Free bits and their summaries, which the lock's holder writes with plain stores: an aligned load
 * gets one value or the other, and what looks wrong is looked at again. */
__attribute__((noinline, no_sanitize("thread"))) static uint64_t load_unlocked(
	const _Atomic uint64_t *word)
{
	return *(const volatile uint64_t *)word;
}

/* The lock's futex word: trying the lock is not possible through a read-only mapping, and would
 * rebuild what is to be compared. */
static uint32_t lock_word(const struct zone *z)
{
	return (uint32_t)__atomic_load_n(&z->lock.__data.__lock, __ATOMIC_ACQUIRE);
}

/* What zone_format() makes of each. */
static int lock_kind(void)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t lock;
	int kind = -1;

	if (pthread_mutexattr_init(&attr))
		return kind;
	if (!pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) &&
	    !pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) &&
	    !pthread_mutex_init(&lock, &attr))
		kind = lock.__data.__kind;
	pthread_mutexattr_destroy(&attr);
	return kind;
}

/* Of another kind, trying it would wait or worse; a free lock with an owner is never had again. */
static void check_lock(struct audit_run *run, uint64_t zone, uint32_t word)
{
	const struct zone *z = zone_of(run->a, (uint32_t)zone);
	int kind = __atomic_load_n(&z->lock.__data.__kind, __ATOMIC_RELAXED);
	int owner = __atomic_load_n(&z->lock.__data.__owner, __ATOMIC_RELAXED);

	if (kind == lock_kind() && (word || !owner || run->live))
		return;
	audit_note(run, AUDIT_ZONE_LOCK,
		   AUDIT_PAGE(zone * run->a->g.zone_pages, (uint64_t)(unsigned)kind << 32 | (unsigned)owner),
		   "zone %llu: its lock is of kind %#x, free with owner %d", (unsigned long long)zone,
		   (unsigned)kind, owner);
}

/* ---- hints ---- */

bool audit_hinted(const struct audit_run *run, uint32_t row, uint64_t page)
{
	const struct arena_geometry *g = &run->a->g;
	uint64_t zone = page / g->zone_pages, region = page % g->zone_pages / REGION_PAGES;
	const _Atomic uint64_t *zones = arena_at(run->a, g->class_hints);

	return load(&zones[row * g->class_hint_words + zone / 64]) >> zone % 64 & 1 &&
	       load(index_words(run, zone, geometry_hint_summary(g, row))) >> region / 64 & 1 &&
	       load(&index_words(run, zone, geometry_hint_bits(g, row))[region / 64]) >>
			       region % 64 &
		       1;
}

/* ---- the pending stack ---- */

static void read_pending(struct audit_run *run, uint64_t zone, bool lock_free)
{
	uint64_t first = zone * run->a->g.zone_pages, span = geometry_zone_span(&run->a->g, zone);
	uint64_t top = load(&zone_of(run->a, (uint32_t)zone)->pending);
	uint32_t next = (uint32_t)top;

	while (next) {
		uint64_t w0 = 0, w1 = 0;

		if (next > span || audit_bit(run->stacked, next - 1)) {
			audit_note(run, AUDIT_PENDING, AUDIT_PAGE(first, top),
				   "zone %llu: its stack of returned extents does not end",
				   (unsigned long long)zone);
			return;
		}
		audit_set(run->stacked, next - 1);
		walk_words(run->a, first + next - 1, &w0, &w1);
		/* A holder who died freeing them leaves free ones on it. */
		if (pw0_kind(w0) != PAGE_RETURNED && lock_free)
			audit_note(run, AUDIT_PENDING, AUDIT_PAGE(first + next - 1, top ^ w0 << 40),
				   "page %#llx is on the stack of returned extents, but is none",
				   (unsigned long long)(first + next - 1));
		next = pw1_next(w1);
	}
}

/* ---- free blocks ---- */

static uint64_t count_bits(const uint64_t *bits, uint64_t words)
{
	uint64_t n = 0;

	for (uint64_t w = 0; w < words; w++)
		n += (uint64_t)__builtin_popcountll(bits[w]);
	return n;
}

/* The even bits of a word, gathered in its lower half. */
static uint64_t gather_even(uint64_t x)
{
	x &= UINT64_C(0x5555555555555555);
	x = (x | x >> 1) & UINT64_C(0x3333333333333333);
	x = (x | x >> 2) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	x = (x | x >> 4) & UINT64_C(0x00ff00ff00ff00ff);
	x = (x | x >> 8) & UINT64_C(0x0000ffff0000ffff);
	return (x | x >> 16) & UINT64_C(0xffffffff);
}

/* Blocks of the next order wholly free: both halves are. */
static void merge(const uint64_t *now, uint64_t *next, uint64_t words)
{
	for (uint64_t w = 0; w < geometry_words(words * 32); w++) {
		uint64_t low = now[2 * w], high = 2 * w + 1 < words ? now[2 * w + 1] : 0;

		next[w] = gather_even(low & low >> 1) | gather_even(high & high >> 1) << 32;
	}
}

/* Free blocks of this order that are no half of a free one: what the index should say. */
static uint64_t expected(const struct audit_run *run, uint64_t w, bool top_order)
{
	uint64_t now = run->free_now[w];

	for (uint32_t i = 0; i < 64 && !top_order; i += 2)
		if ((now >> i & 3) == 3)
			now &= ~(UINT64_C(3) << i);
	return now;
}

static void compare_order(struct audit_run *run, uint64_t zone, uint32_t order, bool top_order)
{
	uint64_t words = geometry_order_words(&run->a->g, order);
	const _Atomic uint64_t *bits =
		index_words(run, zone, geometry_free_bits(&run->a->g, order));

	for (uint64_t w = 0; w < words; w++) {
		uint64_t wrong = load_unlocked(&bits[w]) ^ expected(run, w, top_order), page;

		if (!wrong)
			continue;
		page = zone * run->a->g.zone_pages +
		       ((w * 64 + (uint64_t)__builtin_ctzll(wrong)) << order);
		audit_note(run, AUDIT_ZONE_FREE, AUDIT_PAGE(page, wrong ^ order),
			   "zone %llu, page %#llx: %d blocks of order %u wrong",
			   (unsigned long long)zone, (unsigned long long)page,
			   __builtin_popcountll(wrong), order);
	}
}

static bool compare_summary(struct audit_run *run, uint64_t zone, uint32_t order)
{
	uint64_t words = geometry_order_words(&run->a->g, order);
	const _Atomic uint64_t *bits =
		index_words(run, zone, geometry_free_bits(&run->a->g, order));
	const _Atomic uint64_t *summary =
		index_words(run, zone, geometry_free_summary(&run->a->g, order));
	bool any = false;

	for (uint64_t w = 0; w < words; w++) {
		bool has = load_unlocked(&bits[w]) != 0;

		any |= has;
		if ((load_unlocked(&summary[w / 64]) >> w % 64 & 1) != has)
			audit_note(run, AUDIT_ZONE_SUMMARY,
				   AUDIT_PAGE(zone * run->a->g.zone_pages, w << 8 | order),
				   "zone %llu: summary of order %u, word %llu",
				   (unsigned long long)zone, order, (unsigned long long)w);
	}
	return any;
}

static uint32_t zone_orders(const struct audit_run *run)
{
	return 64 - (uint32_t)__builtin_clzll(run->a->g.zone_pages);
}

static void compare_blocks(struct audit_run *run, uint64_t zone)
{
	uint32_t orders = zone_orders(run), map = 0;
	uint32_t found = atomic_load_explicit(&zone_of(run->a, (uint32_t)zone)->order_map,
					      memory_order_relaxed);

	for (uint32_t order = 0; order < orders; order++) {
		uint64_t *swap = run->free_now;

		compare_order(run, zone, order, order + 1 == orders);
		map |= (uint32_t)compare_summary(run, zone, order) << order;
		merge(run->free_now, run->free_next, geometry_order_words(&run->a->g, order));
		run->free_now = run->free_next;
		run->free_next = swap;
	}
	if (map != found)
		audit_note(run, AUDIT_ZONE_SUMMARY,
			   AUDIT_PAGE(zone * run->a->g.zone_pages, (uint64_t)map << 32 | found),
			   "zone %llu: map of orders is %#x and should be %#x",
			   (unsigned long long)zone, found, map);
}

/* The complement of what is taken, cut at the zone's end. */
static uint64_t fill_free(struct audit_run *run, uint64_t zone)
{
	uint64_t span = geometry_zone_span(&run->a->g, zone);
	uint64_t words = geometry_words(run->a->g.zone_pages);

	for (uint64_t w = 0; w < words; w++) {
		run->free_now[w] = ~run->taken[w];
		if (w * 64 >= span)
			run->free_now[w] = 0;
		else if (span - w * 64 < 64)
			run->free_now[w] &= (UINT64_C(1) << (span - w * 64)) - 1;
	}
	return count_bits(run->free_now, words);
}

static void compare_index(struct audit_run *run, uint64_t zone)
{
	uint64_t pages = fill_free(run, zone);
	uint32_t found = atomic_load_explicit(&zone_of(run->a, (uint32_t)zone)->free_pages,
					      memory_order_relaxed);

	if (pages != found)
		audit_note(run, AUDIT_ZONE_COUNT,
			   AUDIT_PAGE(zone * run->a->g.zone_pages, pages << 32 | found),
			   "zone %llu: %u free pages counted, %llu there", (unsigned long long)zone,
			   found, (unsigned long long)pages);
	compare_blocks(run, zone);
}

static void check_high(struct audit_run *run, uint64_t zone)
{
	uint64_t first = zone * run->a->g.zone_pages, high = walk_high(run->a, zone);

	for (uint64_t i = high; i < geometry_zone_span(&run->a->g, zone); i++) {
		uint64_t w0 = 0, w1 = 0;

		walk_words(run->a, first + i, &w0, &w1);
		if (pw0_kind(w0) == PAGE_FREE && !audit_bit(run->taken, i))
			continue;
		audit_note(run, AUDIT_ZONE_HIGH, AUDIT_PAGE(first + i, high << 32 | i),
			   "zone %llu: page %#llx is taken above the high mark %#llx",
			   (unsigned long long)zone, (unsigned long long)(first + i),
			   (unsigned long long)high);
		return;
	}
}

/* A dead holder's zone is made anew by the next one: there is nothing to compare. */
static bool comparable(struct audit_run *run, uint64_t zone, uint32_t lock)
{
	const struct zone *z = zone_of(run->a, (uint32_t)zone);

	if (lock && !(lock & OWNER_DIED) && !run->live)
		audit_note(run, AUDIT_ZONE_LOCK, AUDIT_PAGE(zone * run->a->g.zone_pages, lock),
			   "zone %llu: held by thread %u", (unsigned long long)zone,
			   lock & 0x3fffffff);
	return !lock && atomic_load_explicit(&z->ready, memory_order_relaxed);
}

static void check_zone(struct audit_run *run, uint64_t zone)
{
	uint64_t bytes = 8 * geometry_words(run->a->g.zone_pages);
	uint32_t lock = lock_word(zone_of(run->a, (uint32_t)zone));

	memset(run->taken, 0, bytes);
	memset(run->stacked, 0, bytes);
	check_lock(run, zone, lock);
	read_pending(run, zone, lock == 0);
	walk_zone(run->a, zone, audit_item, run);
	check_high(run, zone);
	if (comparable(run, zone, lock))
		compare_index(run, zone);
}

void audit_zones(struct audit_run *run)
{
	uint64_t zones = walk_zones(run->a);

	for (uint64_t zone = 0; zone < zones; zone++)
		check_zone(run, zone);
}
