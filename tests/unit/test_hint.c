/* SPDX-License-Identifier: Apache-2.0 */
/* Hints: three levels of bits, set and cleared by anyone, right when nobody is at work on them. */
#include "heap.h"
#include "hint.h"

#define ROW 5u

static struct arena arena;
static uint64_t regions;
static bool *model;

static void open_all(uint64_t capacity)
{
	heap_attach(&arena, capacity);
	while (zone_activate(&arena) == 0)
		;
	regions = geometry_regions(&arena.g);
	model = calloc(regions, 1);
}

static void setup(void)
{
	open_all(MIB(64));
}

static void teardown(void)
{
	free(model);
	heap_detach(&arena);
}

static uint64_t model_next(uint64_t from, uint64_t end)
{
	for (uint64_t r = from; r < end; r++)
		if (model[r])
			return r;
	return UINT64_MAX;
}

static void check_all(uint32_t row)
{
	for (int i = 0; i < 50; i++) {
		uint64_t from = heap_below(regions), end = from + heap_below(regions - from + 1);

		ck_assert_uint_eq(hint_next(&arena, row, from, end), model_next(from, end));
	}
	ck_assert_uint_eq(hint_next(&arena, row, 0, regions), model_next(0, regions));
}

START_TEST(what_is_set_is_found_in_order_and_what_is_cleared_is_not)
{
	heap_seed("what_is_set_is_found_in_order_and_what_is_cleared_is_not");
	for (int round = 0; round < 300; round++) {
		uint64_t r = heap_below(4) ? heap_below(regions) : heap_below(70);

		ck_assert_int_eq(hint_test(&arena, ROW, r), model[r]);
		if (heap_below(2)) {
			hint_set(&arena, ROW, r * REGION_PAGES + heap_below(REGION_PAGES));
			model[r] = true;
		} else {
			hint_clear(&arena, ROW, r);
			model[r] = false;
		}
		ck_assert_int_eq(hint_test(&arena, ROW, r), model[r]);
		check_all(ROW);
	}
}
END_TEST

START_TEST(rows_are_apart)
{
	for (uint32_t row = 0; row < HINT_ROWS; row++)
		hint_set(&arena, row, (row + 3) * REGION_PAGES);
	for (uint32_t row = 0; row < HINT_ROWS; row++) {
		ck_assert_uint_eq(hint_next(&arena, row, 0, regions), row + 3);
		ck_assert_uint_eq(hint_next(&arena, row, row + 4, regions), UINT64_MAX);
		hint_clear(&arena, row, row + 3);
		ck_assert_uint_eq(hint_next(&arena, row, 0, regions), UINT64_MAX);
	}
	ck_assert_uint_eq(hint_row_of_shape(1), KINDS);
	ck_assert_uint_eq(hint_row_of_shape(SHAPES), HINT_ROWS - 1);
}
END_TEST

START_TEST(first_and_last_region_have_a_bit)
{
	hint_set(&arena, ROW, 0);
	hint_set(&arena, ROW, geometry_heap_pages(&arena.g) - 1);
	ck_assert_uint_eq(hint_next(&arena, ROW, 0, regions), 0);
	ck_assert_uint_eq(hint_next(&arena, ROW, 1, regions), regions - 1);
	ck_assert_uint_eq(hint_next(&arena, ROW, 1, regions - 1), UINT64_MAX);
	ck_assert_uint_eq(hint_next(&arena, ROW, regions, regions), UINT64_MAX);
}
END_TEST

/* Bits of upper levels that lead nowhere, and rubbish in all of them. */
START_TEST(any_rubbish_ends_and_stays_within_the_bounds)
{
	heap_seed("any_rubbish_ends_and_stays_within_the_bounds");
	for (int round = 0; round < 100; round++) {
		uint64_t from = heap_below(regions), end = from + heap_below(regions - from + 1), r = from;
		_Atomic uint64_t *words = arena_at(&arena, arena.g.class_hints);

		for (uint64_t i = 0; i < arena.g.class_hint_words; i++)
			words[ROW * arena.g.class_hint_words + i] = heap_random();
		for (uint32_t z = 0; z < arena.g.zone_count; z++) {
			uint64_t *bits = (uint64_t *)(zone_index(&arena, z) +
						      geometry_hint_bits(&arena.g, ROW));
			uint64_t *summary = (uint64_t *)(zone_index(&arena, z) +
							 geometry_hint_summary(&arena.g, ROW));

			for (uint64_t i = 0; i < arena.parts.region_words; i++)
				bits[i] = heap_below(3) ? 0 : heap_random();
			*summary = heap_random();
		}
		for (uint64_t n = 0; (r = hint_next(&arena, ROW, r, end)) != UINT64_MAX; n++, r++) {
			ck_assert(r >= from && r < end && n < regions);
			hint_clear(&arena, ROW, r);
		}
	}
}
END_TEST

/* Nobody clears a bit that another has just set for good: with all at rest, all three levels agree. */
static int set_and_clear(void *arg)
{
	struct board *b = arg;
	uint64_t mine = (uint64_t)atomic_fetch_add(&b->ready, 1);

	if (thread_become_client(&arena))
		return 1;
	heap_reseed((uint64_t)getpid());
	for (int i = 0; i < 20000; i++) {
		uint64_t r = heap_below(64) * 4 + mine; /* own bits in common words */

		if (heap_below(2))
			hint_set(&arena, ROW, r * REGION_PAGES);
		else
			hint_clear(&arena, ROW, r);
		if (hint_test(&arena, ROW, r) != (hint_next(&arena, ROW, r, r + 1) == r))
			return 2;
	}
	for (uint64_t i = 0; i < 64; i++)
		hint_clear(&arena, ROW, i * 4 + mine);
	hint_set(&arena, ROW, (mine * 60 + mine) * REGION_PAGES);
	return 0;
}

START_TEST(sets_of_several_processes_are_not_lost_to_clears_of_others)
{
	struct board *b = board_new();
	pid_t pids[4];
	uint64_t r = 0;
	int found = 0;

	for (size_t i = 0; i < LENGTH(pids); i++)
		pids[i] = child_start(set_and_clear, b);
	for (size_t i = 0; i < LENGTH(pids); i++)
		child_expect(pids[i], 0);
	for (; (r = hint_next(&arena, ROW, r, regions)) != UINT64_MAX; r++, found++)
		ck_assert_uint_eq(r % 61, 0);
	ck_assert_int_eq(found, LENGTH(pids));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hint");
	TCase *t = tcase_create("hint");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_is_set_is_found_in_order_and_what_is_cleared_is_not);
	tcase_add_test(t, rows_are_apart);
	tcase_add_test(t, first_and_last_region_have_a_bit);
	tcase_add_test(t, any_rubbish_ends_and_stays_within_the_bounds);
	tcase_add_test(t, sets_of_several_processes_are_not_lost_to_clears_of_others);
	suite_add_tcase(s, t);
	return run_suite(s);
}
