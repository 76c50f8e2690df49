/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is computed from what stays: locks, buddies, high marks, hints, which memory is there. And what
 * nobody is left to own: slots of clients and threads, and the clients' marks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot.h"
#include "buddy.h"
#include "hint.h"
#include "hold.h"
#include "repair_run.h"
#include "zone.h"

/* ---- memory ---- */

static bool region_used(const struct repair_run *r, uint64_t region)
{
	static const uint8_t none[REGION_PAGES];
	uint64_t page = region * REGION_PAGES;

	return page < r->pages && memcmp(r->use + page, none, sizeof(none)) != 0;
}

/* One run of regions that are used, or are not, up to the end. */
static int settle_run(struct repair_run *r, uint64_t region, uint64_t end, bool used)
{
	struct arena *a = &r->a;

	if (used)
		return repair_commit(r, region * REGION_PAGES, (end - region) * REGION_PAGES);
	for (uint64_t i = region; i < end && i * REGION_PAGES < r->pages; i++)
		repair_note_commit(r, i, false);
	/* What cannot be given back stays, and is taken again. */
	arena_punch(a, a->g.heap + (region << REGION_SHIFT), (end - region) << REGION_SHIFT);
	return 0;
}

/* A region in use has its memory, also where a copy has left a hole; others need none. */
static int settle_memory(struct repair_run *r)
{
	uint64_t regions = geometry_regions(&r->a.g), region = 0, end;
	int err = 0;

	for (; !err && region < regions; region = end) {
		bool used = region_used(r, region);

		end = region + 1;
		while (end < regions && region_used(r, end) == used)
			end++;
		err = settle_run(r, region, end, used);
	}
	return err;
}

/* ---- zones ---- */

static uint32_t zone_high(const struct repair_run *r, uint32_t zone)
{
	uint64_t first = zone * r->a.g.zone_pages, high = geometry_zone_span(&r->a.g, zone);

	while (high > 0) {
		const struct page_entry *e = &r->a.pages[first + high - 1];

		if (r->use[first + high - 1] ||
		    atomic_load_explicit(&e->w0, memory_order_relaxed) ||
		    atomic_load_explicit(&e->w1, memory_order_relaxed))
			break;
		high--;
	}
	return (uint32_t)high;
}

static void settle_zone(struct repair_run *r, uint32_t zone)
{
	struct zone *z = zone_of(&r->a, zone);

	atomic_store_explicit(&z->ready, 0, memory_order_relaxed);
	atomic_store_explicit(&z->pending, 0, memory_order_relaxed);
	atomic_store_explicit(&z->order_map, 0, memory_order_relaxed);
	atomic_store_explicit(&z->free_pages, 0, memory_order_relaxed);
	atomic_store_explicit(&z->high, 0, memory_order_relaxed);
	if ((uint64_t)zone * r->a.g.zone_pages >= r->pages)
		return;
	atomic_store_explicit(&z->high, zone_high(r, zone), memory_order_relaxed);
	memset(zone_index(&r->a, zone) + r->a.parts.hint_bits, 0,
	       r->a.g.zone_index_size - r->a.parts.hint_bits);
	/* Crash: before, the lock's first holder does it. */
	buddy_rebuild(&r->a, zone);
	atomic_store_explicit(&z->ready, 1, memory_order_release);
}

/* Behind the zones in use nothing was ever written; what is there would be believed one day. */
static void clear_unused(struct repair_run *r)
{
	struct arena *a = &r->a;
	uint64_t zones = walk_zones(a);
	uint64_t index = a->g.zone_indexes + zones * a->g.zone_index_size;
	uint64_t map = a->g.page_map + r->pages * sizeof(struct page_entry);

	map = (map + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
	if (index < a->g.page_map)
		arena_punch(a, index, a->g.page_map - index);
	if (map < a->g.client_areas)
		arena_punch(a, map, a->g.client_areas - map);
}

/* ---- hints ---- */

static bool any_free_record(const struct repair_run *r, uint64_t page, uint32_t shape)
{
	for (uint32_t i = 0; i < shape_block_records(shape); i++) {
		struct walk_record record;

		if (walk_record(&r->a,
				(page << PAGE_SHIFT) + sizeof(struct state_block) +
					(uint64_t)i * shape_record_bytes(shape),
				&record) &&
		    atomic_load_explicit(&record.at->owner, memory_order_relaxed) == RECORD_FREE)
			return true;
	}
	return false;
}

static bool any_free_object(const struct walk_slab *slab)
{
	for (uint32_t i = 0; i < slab->objects; i++)
		if (state_kind(walk_state(slab, i)) == OBJECT_FREE)
			return true;
	return false;
}

static void set_hints(struct repair_run *r)
{
	memset(arena_at(&r->a, r->a.g.class_hints), 0, HINT_ROWS * 8 * r->a.g.class_hint_words);
	for (uint64_t page = 0; page < r->pages; page++) {
		struct walk_slab slab;
		uint32_t shape;

		if (repair_slab_at(r, page, &slab)) {
			if (any_free_object(&slab))
				hint_set(&r->a, slab.class_index, page);
		} else if (r->use[page] == (USE_STATE | USE_HEAD)) {
			shape = pw0_class(
				atomic_load_explicit(&r->a.pages[page].w0, memory_order_relaxed));
			if (any_free_record(r, page, shape))
				hint_set(&r->a, hint_row_of_shape(shape), page);
		}
	}
}

/* ---- clients and threads ---- */

static void free_slots(struct repair_run *r)
{
	_Atomic uint64_t *threads = arena_at(&r->a, r->a.g.thread_words);
	_Atomic uint64_t *clients = arena_at(&r->a, r->a.g.client_words);

	for (uint32_t i = 0; i < THREADS_MAX; i++)
		if (atomic_load_explicit(&threads[i], memory_order_relaxed))
			atomic_store_explicit(&threads[i], 0, memory_order_relaxed);
	for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
		uint64_t word = atomic_load_explicit(&clients[i], memory_order_relaxed);
		uint64_t due = client_word(CLIENT_FREE, 0, client_word_incarnation(word));

		if (word != due)
			atomic_store_explicit(&clients[i], due, memory_order_relaxed);
	}
}

/* Zeros, where a hole cannot be made. */
static int wipe(struct arena *a, uint64_t from, uint64_t to)
{
	int err = arena_punch(a, from, to - from);

	if (!err)
		return 0;
	err = arena_commit(a, from, to - from);
	if (!err)
		memset(arena_at(a, from), 0, to - from);
	return err;
}

bool repair_held(const struct repair_run *r, uint64_t handle, uint32_t state)
{
	uint64_t at = hold_place(&r->a, hold_home(handle), state_client(state));
	struct hold_record record;

	return walk_copy(&r->a, r->a.g.holds + at * sizeof(record), &record, sizeof(record)) &&
	       record.handle == handle && hold_head_state(record.head) >= HOLD_LIVE &&
	       hold_head_state(record.head) <= HOLD_ENDING;
}

static void settle_header(struct repair_run *r)
{
	struct arena_header *h = r->a.header;

	atomic_store_explicit(&h->threads_high, 0, memory_order_relaxed);
	atomic_store_explicit(&h->clients_high, 1, memory_order_relaxed);
	atomic_store_explicit(&h->reap_cursor, 0, memory_order_relaxed);
	if (atomic_load_explicit(&h->log_policy, memory_order_relaxed) > 2) {
		atomic_store_explicit(&h->log_policy, h->log_policy_at_creation,
				      memory_order_relaxed);
		repair_note(r, REPAIR_BOUNDS, AUDIT_NOWHERE, 0, 0, 0,
			    "the log's policy: as it was at creation");
	}
	if (atomic_load_explicit(&h->log_clock, memory_order_relaxed) > 1) {
		atomic_store_explicit(&h->log_clock, 0, memory_order_relaxed);
		repair_note(r, REPAIR_BOUNDS, AUDIT_NOWHERE, 0, 0, 0, "the log's clock: exact");
	}
	boot_note(h); /* the locks are of this boot */
}

int repair_indexes(struct repair_run *r)
{
	int err = zone_format(&r->a);

	if (!err)
		err = settle_memory(r);
	if (err)
		return err;
	for (uint32_t zone = 0; zone < r->a.g.zone_count; zone++)
		settle_zone(r, zone);
	clear_unused(r);
	set_hints(r);
	free_slots(r);
	err = wipe(&r->a, r->a.g.client_areas, r->a.g.ring);
	/* Hold records lie there as well. Crash: bits without memory, which nobody goes by who repairs. */
	if (!err)
		memset(arena_at(&r->a, r->a.g.hold_bits), 0, 8 * geometry_words(geometry_regions(&r->a.g)));
	settle_header(r);
	return err;
}
