/* SPDX-License-Identifier: Apache-2.0 */
#include "purge.h"

#include <sys/statvfs.h>

#include "bits.h"
#include "buddy.h"
#include "client.h"
#include "commit.h"
#include "extent.h"
#include "geometry.h"
#include "hint.h"
#include "stop_point.h"
#include "words.h"
#include "zone.h"

#define LOOKS_LOCKED 32u /* words looked at under one lock: others want it */
#define LOOKS_STEP   1024u
#define REGIONS_STEP 512u
#define SLAB_PARTS   32u /* of one slab at most: every other of its pages */
/* Pages that are taken at a time: they are missing to whoever needs memory meanwhile. */
#define PAGES_STEP   4096u
#define STEP_SHARE   32u /* of the arena */
#define SHORT_SHARE  16u /* of the whole, one part in so many: less is little */
#define REGION_ALL   UINT64_C(0xffff)
_Static_assert(REGION_PAGES == 16, "a region's pages");

/* ---- what is idle ---- */

/*
 * Of 64 pages, those to be given back: free, with memory, idle since the last round; now notes the others.
 * Of a region whose every page is free, and was idle if it has memory, all: then it goes back as a whole,
 * and is had again by one call. Lock held.
 */
static uint64_t ripe_pages(struct arena *a, uint32_t zone, uint32_t word, uint64_t *idle)
{
	uint64_t free = buddy_free_pages(a, zone, word), ripe;

	*idle = free ? free & commit_word(a, zone, word) : 0;
	ripe = *idle & buddy_idle_pages(a, zone, word);
	for (uint64_t region = REGION_ALL; ripe && region; region <<= REGION_PAGES)
		if ((free & region) == region && (ripe & region) && (ripe & region) == (*idle & region))
			ripe |= region;
	return ripe;
}

/* The length, up to a most, of the run of ripe pages that begins with this one, which is one. Lock held. */
static uint32_t ripe_run(struct arena *a, uint32_t zone, uint32_t start, uint64_t ripe, uint64_t most)
{
	uint32_t page = start, limit = most < PURGE_PART_PAGES ? (uint32_t)most : PURGE_PART_PAGES;
	uint64_t idle;

	while (page - start < limit) {
		uint64_t rest = ~(ripe >> (page % 64));
		uint32_t left = 64 - page % 64, run = rest ? (uint32_t)__builtin_ctzll(rest) : left;

		page += run < left ? run : left;
		if (run < left || page >= geometry_zone_span(&a->g, zone))
			break;
		ripe = ripe_pages(a, zone, page / 64, &idle);
	}
	return page - start < limit ? page - start : limit;
}

/* ---- extents ---- */

static uint64_t pages_left(const struct purge *p, const struct arena *a)
{
	uint64_t most = geometry_heap_pages(&a->g) / STEP_SHARE, taken = 0;

	if (most > PAGES_STEP)
		most = PAGES_STEP;
	for (uint32_t i = 0; i < p->count; i++)
		taken += p->parts[i].pages;
	return p->count < PURGE_PARTS && most > taken ? most - taken : 0;
}

/* Lock held. */
static void take_run(struct purge *p, struct arena *a, uint32_t zone, uint32_t start, uint32_t pages)
{
	uint64_t page = zone * a->g.zone_pages + start;

	if (!buddy_take_at(a, zone, start, pages))
		return;
	client_mark(a, page);
	extent_note_taken(a, page, pages, pw0_make(PAGE_RAW, a->client, 0, RAW_PURGE), pw1_extent(pages, 0));
	p->parts[p->count++] = (struct purge_part){ .page = page, .pages = pages };
}

/* Whether all that is ripe there was taken. Lock held. */
static bool look_at_word(struct purge *p, struct arena *a, uint32_t zone, uint32_t word)
{
	uint64_t idle, ripe = ripe_pages(a, zone, word, &idle), left;

	while (ripe && (left = pages_left(p, a)) > 0) {
		uint32_t from = (uint32_t)__builtin_ctzll(ripe), end;

		end = from + ripe_run(a, zone, word * 64 + from, ripe, left);
		take_run(p, a, zone, word * 64 + from, end - from);
		ripe &= ~bits_low(end);
	}
	if (ripe)
		return false;
	ripe_pages(a, zone, word, &idle);
	buddy_note_idle(a, zone, word, idle);
	return true;
}

/* Some words of a zone, up to end. False: the lock is held by another. */
static bool look_at_words(struct purge *p, struct arena *a, uint32_t end)
{
	uint32_t stop = end - p->word < LOOKS_LOCKED ? end : p->word + LOOKS_LOCKED;

	if (zone_trylock_patiently(a, p->zone))
		return false;
	while (p->word < stop && look_at_word(p, a, p->zone, p->word))
		p->word++;
	zone_unlock(a, p->zone);
	return true;
}

/* Above the high mark no page was ever taken; memory may be there up to its region's end. */
static uint32_t words_used(const struct arena *a, uint32_t zone)
{
	const struct zone *z = zone_of(a, zone);
	uint64_t high = atomic_load_explicit(&z->high, memory_order_relaxed);
	uint64_t span = geometry_zone_span(&a->g, zone);

	if (!atomic_load_explicit(&z->ready, memory_order_relaxed))
		return 0;
	return (uint32_t)geometry_words(high < span ? high : span);
}

static void next_zone(struct purge *p)
{
	p->zone++;
	p->word = 0;
}

/* Of one zone at most. */
static void gather_extents(struct purge *p, struct arena *a, uint32_t zones)
{
	for (uint32_t looks = 0; p->zone < zones && looks < LOOKS_STEP; looks += LOOKS_LOCKED) {
		uint32_t end = words_used(a, p->zone);

		if (p->word >= end || client_prepare_zone(a, p->zone) || !look_at_words(p, a, end))
			next_zone(p);
		if (pages_left(p, a) == 0 || (p->count && p->word == 0))
			break;
	}
	STOP_POINT(purge_taken);
	for (uint32_t i = 0; i < p->count; i++)
		commit_give(a, p->parts[i].page, p->parts[i].pages);
}

/* ---- slabs ---- */

/* The pages of one slab, as parts. */
static void give_inside(struct purge *p, struct arena *a, const struct slab_idle *s)
{
	for (uint64_t pages = s->pages; pages;) {
		uint32_t run, from = bits_run(pages, &run);
		struct purge_part part = { .page = s->head + from, .pages = run };

		commit_give_inside(a, part.page, part.pages);
		p->parts[p->count++] = part;
		pages &= ~bits_low(from + run);
	}
}

static bool has_room(const struct purge *p)
{
	return p->held < PURGE_SLABS && PURGE_PARTS - p->count >= SLAB_PARTS;
}

/* Slabs of a kind that begin in a region. Whether that was all of it. */
static bool look_at_region(struct purge *p, struct arena *a, uint64_t region)
{
	uint64_t end = (region + 1) * REGION_PAGES;

	for (uint64_t page = region * REGION_PAGES; page < end; page++) {
		uint64_t w1 = atomic_load_explicit(&a->pages[page].w1, memory_order_relaxed);
		struct slab_idle *s = &p->slabs[p->held];

		if (!pw1_is_slab(w1) || pw1_class(w1) != p->class || pw1_dist(w1) != 0)
			continue;
		if (!has_room(p))
			return false;
		if (!slab_take_idle(a, page, p->class, s))
			continue;
		give_inside(p, a, s);
		p->held++;
	}
	return true;
}

/* Hints lead to all slabs with a free object. */
static void gather_slabs(struct purge *p, struct arena *a)
{
	uint64_t end = atomic_load_explicit(&a->pages_known, memory_order_relaxed) / REGION_PAGES;

	for (uint32_t looks = 0; p->class < KINDS && looks < REGIONS_STEP; looks++) {
		uint64_t region = sizeclass_table[p->class].objects > 1
					  ? hint_next(a, p->class, p->region, end)
					  : UINT64_MAX;

		p->region = region == UINT64_MAX ? 0 : region;
		if (region == UINT64_MAX)
			p->class++;
		else if (look_at_region(p, a, region))
			p->region++;
		else
			break;
	}
}

/* ---- a step ---- */

bool purge_gather(struct purge *p, struct arena *a)
{
	uint32_t zones = arena_refresh(a);

	p->count = p->held = 0;
	if (!a->client || a->files.heap_fd >= 0)
		return false;
	if (!p->under_way) {
		p->zone = p->word = p->class = 0;
		p->region = 0;
	}
	if (p->zone < zones)
		gather_extents(p, a, zones);
	else
		gather_slabs(p, a);
	STOP_POINT(purge_unmarked);
	p->under_way = p->zone < zones || p->class < KINDS;
	return p->under_way;
}

uint64_t purge_offset(const struct arena *a, const struct purge_part *part)
{
	return a->g.heap + (part->page << PAGE_SHIFT);
}

uint64_t purge_punch(const struct purge *p, struct arena *a)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < p->count; i++) {
		const struct purge_part *part = &p->parts[i];

		/* Crash: before or after, pages that the next owner takes memory for. */
		if (arena_punch(a, purge_offset(a, part), part->pages << PAGE_SHIFT) == 0)
			bytes += part->pages << PAGE_SHIFT;
	}
	return bytes;
}

void purge_settle(struct purge *p, struct arena *a)
{
	uint64_t pages[PURGE_PARTS];

	STOP_POINT(purge_punched);
	for (uint32_t i = 0; i < p->held; i++)
		slab_leave_idle(a, &p->slabs[i]);
	for (uint32_t i = 0; i < p->count; i++)
		pages[i] = p->parts[i].page;
	if (!p->held)
		extent_free_all(a, pages, p->count);
	p->count = p->held = 0;
}

/* ---- whether there is anything to do ---- */

static uint64_t fold(uint64_t sum, uint64_t value)
{
	return (sum ^ value) * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t fold_words(uint64_t sum, const _Atomic uint64_t *words, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		sum = fold(sum, atomic_load_explicit(&words[i], memory_order_relaxed));
	return sum;
}

/* What a thread's slow calls leave in its block: its caches' fast ones move no page's objects. Copied: the
 * block may be given back meanwhile. */
static uint64_t fold_thread(uint64_t sum, const struct arena *a, uint64_t word)
{
	uint64_t head[offsetof(struct thread_block, intent) / 8], at = thread_word_page(word) << PAGE_SHIFT;

	if (thread_word_state(word) != THREAD_LIVE || at >= a->g.capacity ||
	    arena_read(a, a->g.heap + at, head, sizeof(head)) != sizeof(head))
		return sum;
	for (uint32_t i = 0; i < sizeof(head) / sizeof(head[0]); i++)
		sum = fold(sum, head[i]);
	return sum;
}

uint64_t purge_activity(const struct arena *a)
{
	const _Atomic uint64_t *threads = arena_at(a, a->g.thread_words);
	uint32_t zones = atomic_load_explicit(&a->header->active_zones, memory_order_relaxed);
	uint32_t high = atomic_load_explicit(&a->header->threads_high, memory_order_relaxed);
	uint64_t sum = fold(zones, high);

	for (uint32_t i = 0; i < zones && i < a->g.zone_count; i++) {
		const struct zone *z = zone_of(a, i);

		sum = fold(sum, atomic_load_explicit(&z->free_pages, memory_order_relaxed));
		sum = fold(sum, atomic_load_explicit(&z->high, memory_order_relaxed));
		sum = fold(sum, atomic_load_explicit(&z->pending, memory_order_relaxed));
	}
	sum = fold_words(sum, arena_at(a, a->g.client_words), client_high(a));
	high = high < THREADS_MAX ? high : THREADS_MAX;
	sum = fold_words(sum, threads, high);
	for (uint32_t i = 0; i < high; i++)
		sum = fold_thread(sum, a, atomic_load_explicit(&threads[i], memory_order_relaxed));
	return sum;
}

/* Of zones in use as far as their index says. */
static uint64_t free_pages(const struct arena *a)
{
	uint32_t zones = atomic_load_explicit(&a->header->active_zones, memory_order_relaxed);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < a->g.zone_count; i++) {
		uint64_t span = geometry_zone_span(&a->g, i), left = span;

		if (i < zones && atomic_load_explicit(&zone_of(a, i)->ready, memory_order_relaxed))
			left = atomic_load_explicit(&zone_of(a, i)->free_pages, memory_order_relaxed);
		sum += left < span ? left : span;
	}
	return sum;
}

bool purge_is_short(const struct arena *a)
{
	int fd = arena_file_of(a, a->g.heap);
	struct statvfs fs;

	if (free_pages(a) < geometry_heap_pages(&a->g) / SHORT_SHARE)
		return true;
	return fd >= 0 && fstatvfs(fd, &fs) == 0 && fs.f_blocks && fs.f_bavail < fs.f_blocks / SHORT_SHARE;
}

uint64_t purge_round(struct purge *p, struct arena *a)
{
	uint64_t bytes = 0;
	bool more;

	do {
		more = purge_gather(p, a);
		bytes += purge_punch(p, a);
		purge_settle(p, a);
	} while (more);
	return bytes;
}
