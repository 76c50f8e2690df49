/* SPDX-License-Identifier: Apache-2.0 */
/* The buddy of one zone against a model of its pages: a byte each. */
#include "buddy.h"
#include "extent.h"
#include "heap.h"
#include "span.h"

#define ZONE 1u
#define MODEL_MAX 4096u

static struct arena arena;
static uint64_t first; /* page of the zone's first */
static uint32_t zone_pages;
static uint8_t taken[MODEL_MAX];

struct run {
	uint32_t start, pages;
};

static struct run runs[MODEL_MAX];
static uint32_t run_count;

static void open_zone(uint64_t capacity, uint32_t zone)
{
	heap_attach(&arena, capacity);
	while (arena_refresh(&arena) <= zone)
		ck_assert_int_eq(zone_activate(&arena), 0);
	first = zone * arena.g.zone_pages;
	zone_pages = (uint32_t)geometry_zone_span(&arena.g, zone);
	ck_assert_uint_le(zone_pages, MODEL_MAX);
	memset(taken, 0, sizeof(taken));
	run_count = 0;
	ck_assert_int_eq(client_prepare_zone(&arena, zone), 0);
	ck_assert_int_eq(zone_trylock(&arena, zone), 0);
}

static void setup(void)
{
	open_zone(MIB(16), ZONE);
}

static void teardown(void)
{
	zone_unlock(&arena, ZONE);
	heap_detach(&arena);
}

/* ---- the model ---- */

static bool model_free(uint32_t start, uint32_t pages)
{
	for (uint32_t p = start; p < start + pages; p++)
		if (taken[p])
			return false;
	return true;
}

/* Whether an aligned power-of-two block of at least so many pages is free. */
static bool model_has_block(uint32_t pages)
{
	uint32_t size = 1;

	while (size < pages)
		size *= 2;
	for (uint32_t p = 0; p + size <= zone_pages; p += size)
		if (model_free(p, size))
			return true;
	return false;
}

static uint32_t model_free_pages(void)
{
	uint32_t n = 0;

	for (uint32_t p = 0; p < zone_pages; p++)
		n += !taken[p];
	return n;
}

/* The truth, as extent_alloc() writes it. */
static void enter(uint32_t start, uint32_t pages)
{
	client_mark(&arena, first + start);
	extent_note_taken(&arena, first + start, pages, pw0_make(PAGE_RAW, arena.client, 0, RAW_PLAIN),
			  pw1_extent(pages, 0));
	memset(taken + start, 1, pages);
	runs[run_count++] = (struct run){start, pages};
}

static void put(uint32_t i)
{
	zone_free_run(&arena, zone_of_page(&arena, first), first + runs[i].start, runs[i].pages);
	memset(taken + runs[i].start, 0, runs[i].pages);
	runs[i] = runs[--run_count];
}

static void put_all(void)
{
	while (run_count)
		put(run_count - 1);
}

struct index {
	uint8_t *bits;
	uint32_t order_map, free_pages;
};

static struct index copy_index(uint32_t zone)
{
	size_t size = geometry_commit_bits(&arena.g);
	struct index x = {.bits = malloc(size),
			  .order_map = atomic_load(&zone_of(&arena, zone)->order_map),
			  .free_pages = atomic_load(&zone_of(&arena, zone)->free_pages)};

	memcpy(x.bits, zone_index(&arena, zone), size);
	return x;
}

/* What step after step has made of the index is what the truth alone makes of it. */
static void check_rebuild_is_the_same(void)
{
	uint32_t zone = zone_of_page(&arena, first);
	struct index before = copy_index(zone), after;

	buddy_rebuild(&arena, zone);
	after = copy_index(zone);
	ck_assert_uint_eq(before.free_pages, model_free_pages());
	ck_assert_uint_eq(before.free_pages, after.free_pages);
	ck_assert_uint_eq(before.order_map, after.order_map);
	ck_assert(memcmp(before.bits, after.bits, geometry_commit_bits(&arena.g)) == 0);
	free(before.bits);
	free(after.bits);
}

/* ---- tests ---- */

static uint32_t some_count(void)
{
	switch (heap_below(4)) {
	case 0: return 1 + (uint32_t)heap_below(4);
	case 1: return 1 + (uint32_t)heap_below(32);
	case 2: return 1u << heap_below(7);
	default: return 1 + (uint32_t)heap_below(zone_pages);
	}
}

static void take_some(void)
{
	uint32_t zone = zone_of_page(&arena, first), pages = some_count();
	uint32_t align = heap_below(3) ? 1 : 1u << heap_below(8);
	uint32_t start = buddy_take(&arena, zone, pages, align);

	if (start == BUDDY_NONE) {
		ck_assert(!model_has_block(pages > align ? pages : align));
		return;
	}
	ck_assert_uint_le(pages, zone_pages);
	ck_assert_uint_le(start, zone_pages - pages);
	ck_assert_uint_eq(start % align, 0);
	ck_assert(model_free(start, pages));
	enter(start, pages);
}

static void take_some_at(void)
{
	uint32_t zone = zone_of_page(&arena, first), pages = some_count(), start;
	bool free;

	start = (uint32_t)heap_below(zone_pages - pages + 1);
	free = model_free(start, pages);
	ck_assert_int_eq(buddy_take_at(&arena, zone, start, pages), free);
	if (free)
		enter(start, pages);
}

static void take_and_put(int steps)
{
	for (int i = 0; i < steps; i++) {
		uint64_t what = heap_below(20);

		if (what < 9 && run_count < MODEL_MAX)
			take_some();
		else if (what < 11)
			take_some_at();
		else if (run_count)
			put((uint32_t)heap_below(run_count));
		if (i % 64 == 0)
			check_rebuild_is_the_same();
	}
}

START_TEST(takes_and_puts_agree_with_the_model_and_with_a_rebuild)
{
	heap_seed("takes_and_puts_agree_with_the_model_and_with_a_rebuild");
	take_and_put(6000);
	put_all();
	check_rebuild_is_the_same();
	ck_assert_uint_eq(buddy_take(&arena, ZONE, zone_pages, 1), 0);
	enter(0, zone_pages);
	put_all();
}
END_TEST

START_TEST(a_zone_that_is_cut_short_works_the_same)
{
	uint32_t zone;

	heap_seed("a_zone_that_is_cut_short_works_the_same");
	zone_unlock(&arena, ZONE);
	heap_detach(&arena);
	open_zone(MIB(16) + 5 * (1u << REGION_SHIFT), 8);
	zone = zone_of_page(&arena, first);
	ck_assert_uint_eq(zone_pages, 5 * REGION_PAGES);
	ck_assert_uint_eq(buddy_take(&arena, zone, zone_pages + 1, 1), BUDDY_NONE);
	take_and_put(2000);
	put_all();
	check_rebuild_is_the_same();
	zone_unlock(&arena, zone);
	ck_assert_int_eq(zone_trylock(&arena, ZONE), 0);
}
END_TEST

START_TEST(any_number_of_pages_is_given_and_no_page_more)
{
	for (uint32_t pages = 1; pages <= zone_pages; pages++) {
		uint32_t start = buddy_take(&arena, ZONE, pages, 1);

		ck_assert_uint_eq(start, 0);
		ck_assert_uint_eq(atomic_load(&zone_of(&arena, ZONE)->free_pages), zone_pages - pages);
		enter(start, pages);
		put_all();
		ck_assert_uint_eq(atomic_load(&zone_of(&arena, ZONE)->free_pages), zone_pages);
	}
	ck_assert_uint_eq(buddy_take(&arena, ZONE, zone_pages + 1, 1), BUDDY_NONE);
}
END_TEST

START_TEST(pages_go_out_one_by_one_to_the_last_and_merge_again_in_any_order)
{
	heap_seed("pages_go_out_one_by_one_to_the_last_and_merge_again_in_any_order");
	for (uint32_t i = 0; i < zone_pages; i++) {
		uint32_t start = buddy_take(&arena, ZONE, 1, 1);

		ck_assert_uint_ne(start, BUDDY_NONE);
		ck_assert(model_free(start, 1));
		enter(start, 1);
	}
	ck_assert_uint_eq(buddy_take(&arena, ZONE, 1, 1), BUDDY_NONE);
	while (run_count)
		put((uint32_t)heap_below(run_count));
	ck_assert_uint_eq(atomic_load(&zone_of(&arena, ZONE)->order_map), zone_pages);
}
END_TEST

START_TEST(alignments_are_kept)
{
	for (uint32_t align = 1; align <= zone_pages; align *= 2) {
		uint32_t other = buddy_take(&arena, ZONE, 1, 1), start;

		ck_assert_uint_eq(other, 0);
		enter(other, 1);
		start = buddy_take(&arena, ZONE, 3, align);
		if (align == zone_pages) {
			ck_assert_uint_eq(start, BUDDY_NONE);
		} else {
			ck_assert_uint_eq(start % align, 0);
			enter(start, 3);
		}
		put_all();
	}
}
END_TEST

START_TEST(the_lowest_of_the_smallest_blocks_that_fit_is_taken)
{
	/* Free: 8 pages at 8, 4 pages at 20, the rest from 32 on. */
	ck_assert(buddy_take_at(&arena, ZONE, 0, 8));
	enter(0, 8);
	ck_assert(buddy_take_at(&arena, ZONE, 16, 4));
	enter(16, 4);
	ck_assert(buddy_take_at(&arena, ZONE, 24, 8));
	enter(24, 8);
	ck_assert_uint_eq(buddy_take(&arena, ZONE, 3, 1), 20);
	enter(20, 3);
	ck_assert_uint_eq(buddy_take(&arena, ZONE, 1, 1), 23); /* the tail of it */
	enter(23, 1);
	ck_assert_uint_eq(buddy_take(&arena, ZONE, 5, 1), 8);
	enter(8, 5);
	put_all();
}
END_TEST

START_TEST(runs_of_no_power_of_two_lie_side_by_side)
{
	uint32_t count = zone_pages / 20, start;

	for (uint32_t i = 0; i < count; i++)
		ck_assert_uint_eq(buddy_take(&arena, ZONE, 20, 1), 20 * i);
	ck_assert_uint_eq(buddy_take(&arena, ZONE, 20, 1), BUDDY_NONE);
	/* Where one was that is aligned to nothing, one of another length finds room, and the rest is the next one's. */
	buddy_put(&arena, ZONE, 20 * 7, 20);
	start = buddy_take(&arena, ZONE, 13, 1);
	ck_assert_uint_eq(start, 20 * 7);
	ck_assert_uint_eq(buddy_take(&arena, ZONE, 7, 1), 20 * 7 + 13);
	ck_assert(!buddy_is_free(&arena, ZONE, 20 * 7, 1));
	for (uint32_t i = 0; i < count; i++)
		buddy_put(&arena, ZONE, 20 * i, 20);
	ck_assert_uint_eq(buddy_take(&arena, ZONE, zone_pages, 1), 0);
}
END_TEST

START_TEST(a_rebuild_starts_from_any_rubbish)
{
	uint8_t *index = (uint8_t *)zone_index(&arena, ZONE);

	heap_seed("a_rebuild_starts_from_any_rubbish");
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 40; i++)
			take_some();
		for (uint64_t i = 0; i < geometry_commit_bits(&arena.g); i++)
			index[i] = (uint8_t)heap_random();
		atomic_store(&zone_of(&arena, ZONE)->order_map, (uint32_t)heap_random());
		atomic_store(&zone_of(&arena, ZONE)->free_pages, (uint32_t)heap_random());
		buddy_rebuild(&arena, ZONE);
		check_rebuild_is_the_same();
		put_all();
	}
}
END_TEST

/* Whatever stands in the page map, a rebuild ends, stays in its zone, and counts what it found. */
START_TEST(a_rebuild_survives_a_page_map_of_rubbish)
{
	heap_seed("a_rebuild_survives_a_page_map_of_rubbish");
	atomic_store(&zone_of(&arena, ZONE)->high, zone_pages);
	for (int round = 0; round < 300; round++) {
		for (uint32_t p = 0; p < zone_pages; p++) {
			atomic_store(&arena.pages[first + p].w0, heap_below(3) ? 0 : heap_random());
			atomic_store(&arena.pages[first + p].w1, heap_random() >> heap_below(64));
		}
		buddy_rebuild(&arena, ZONE);
		ck_assert_uint_le(atomic_load(&zone_of(&arena, ZONE)->free_pages), zone_pages);
		for (uint32_t start, n = 0; n < 2 * zone_pages; n++) {
			start = buddy_take(&arena, ZONE, 1, 1);
			if (start == BUDDY_NONE)
				break;
			ck_assert_uint_lt(start, zone_pages);
		}
	}
	for (uint32_t p = 0; p < zone_pages; p++) {
		atomic_store(&arena.pages[first + p].w0, 0);
		atomic_store(&arena.pages[first + p].w1, 0);
	}
	buddy_rebuild(&arena, ZONE);
}
END_TEST

START_TEST(a_rebuild_frees_pieces_whose_extent_is_gone)
{
	/* Zone 1 begins with a piece of an extent said to begin in zone 0, where there is none. */
	extent_note_taken(&arena, first, 100, pw0_make(PAGE_SPAN, arena.client, 0, 0), pw1_span(100, 0));
	ck_assert(!zone_span_covered(&arena, first, pw1_span(100, 0)));
	buddy_rebuild(&arena, ZONE);
	ck_assert_uint_eq(atomic_load(&zone_of(&arena, ZONE)->free_pages), zone_pages);
	ck_assert_int_eq(pw0_kind(atomic_load(&arena.pages[first].w0)), PAGE_FREE);
	check_rebuild_is_the_same();
}
END_TEST

START_TEST(pages_above_the_high_mark_are_not_read)
{
	atomic_store(&arena.pages[first + 100].w0, pw0_make(PAGE_RAW, 1, 0, 0));
	atomic_store(&arena.pages[first + 100].w1, pw1_extent(4, 0));
	buddy_rebuild(&arena, ZONE);
	ck_assert_uint_eq(atomic_load(&zone_of(&arena, ZONE)->free_pages), zone_pages);
	atomic_store(&zone_of(&arena, ZONE)->high, 101);
	buddy_rebuild(&arena, ZONE);
	ck_assert_uint_eq(atomic_load(&zone_of(&arena, ZONE)->free_pages), zone_pages - 4);
	atomic_store(&arena.pages[first + 100].w0, 0);
	buddy_rebuild(&arena, ZONE);
}
END_TEST

START_TEST(a_run_that_leaves_its_zone_is_noted_as_damage_and_changes_nothing)
{
	uint32_t free_pages = atomic_load(&zone_of(&arena, ZONE)->free_pages);
	struct {
		uint32_t start;
		uint64_t pages;
	} wrong[] = {
		{0, zone_pages + UINT64_C(1)},
		{1, UINT64_C(1) << 30},
		{1, UINT64_MAX},
		{zone_pages, 1},
		{UINT32_MAX, 1},
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		atomic_store(&arena.header->damaged, 0);
		buddy_put(&arena, ZONE, wrong[i].start, wrong[i].pages);
		ck_assert_uint_eq(atomic_load(&arena.header->damaged), 1);
		ck_assert_uint_eq(atomic_load(&zone_of(&arena, ZONE)->free_pages), free_pages);
	}
	atomic_store(&arena.header->damaged, 0);
}
END_TEST

START_TEST(orders_that_no_zone_has_lead_to_no_block)
{
	_Atomic uint32_t *map = &zone_of(&arena, ZONE)->order_map;
	uint32_t good = atomic_load(map), orders = arena.zone_shift + 1;

	for (uint32_t bit = orders; bit < 32; bit++) {
		atomic_store(map, UINT32_C(1) << bit);
		ck_assert_uint_eq(buddy_take(&arena, ZONE, 1, 1), BUDDY_NONE);
		atomic_store(map, good | UINT32_C(1) << bit);
		ck_assert_uint_eq(buddy_take(&arena, ZONE, 1, 1), 0);
		buddy_put(&arena, ZONE, 0, 1);
		atomic_store(map, good);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("buddy");
	TCase *t = tcase_create("zone");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, takes_and_puts_agree_with_the_model_and_with_a_rebuild);
	tcase_add_test(t, a_zone_that_is_cut_short_works_the_same);
	tcase_add_test(t, any_number_of_pages_is_given_and_no_page_more);
	tcase_add_test(t, pages_go_out_one_by_one_to_the_last_and_merge_again_in_any_order);
	tcase_add_test(t, alignments_are_kept);
	tcase_add_test(t, the_lowest_of_the_smallest_blocks_that_fit_is_taken);
	tcase_add_test(t, runs_of_no_power_of_two_lie_side_by_side);
	tcase_add_test(t, a_rebuild_starts_from_any_rubbish);
	tcase_add_test(t, a_rebuild_survives_a_page_map_of_rubbish);
	tcase_add_test(t, a_rebuild_frees_pieces_whose_extent_is_gone);
	tcase_add_test(t, pages_above_the_high_mark_are_not_read);
	tcase_add_test(t, a_run_that_leaves_its_zone_is_noted_as_damage_and_changes_nothing);
	tcase_add_test(t, orders_that_no_zone_has_lead_to_no_block);
	suite_add_tcase(s, t);
	return run_suite(s);
}
