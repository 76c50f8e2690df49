/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: what was seen of a ring's blocks. */
#include "segment_stage.h"

#include "../seed.h"

static struct segment_seen *seen;
static struct segment_new got;

static void setup(void)
{
	ck_assert_int_eq(segment_seen_open(&seen, 1000), 0);
}

static void teardown(void)
{
	segment_seen_close(seen);
}

static bool add(uint32_t block, uint32_t lap, uint32_t from, uint32_t to)
{
	struct segment_fragment f = { .kind = SEGMENT_OWN, .block = block, .lap = lap, .from = from, .to = to };

	return segment_seen_add(seen, stage_ring.ring, &f, &got);
}

static bool add_slots(uint32_t block, uint32_t lap, uint32_t from, uint64_t first, uint64_t last)
{
	struct segment_fragment f = {
		.kind = SEGMENT_SHARED, .block = block, .lap = lap, .from = from, .slots = { first, 0, 0, last }
	};

	return segment_seen_add(seen, stage_ring.ring, &f, &got);
}

START_TEST(fragments_one_after_another_are_new)
{
	for (uint32_t lap = 1; lap < 4; lap++) {
		for (uint32_t from = 0; from < 1000; from += 100) {
			ck_assert(add(3, lap, from, from + 100));
			ck_assert_uint_eq(got.pieces, 1);
			ck_assert_uint_eq(got.piece[0].from, from);
			ck_assert_uint_eq(got.piece[0].to, from + 100);
			ck_assert(got.first);
		}
		ck_assert(!add(3, lap, 0, 1000));
		ck_assert(!got.first);
	}
}
END_TEST

START_TEST(of_what_overlaps_only_the_rest_is_new)
{
	ck_assert(add(1, 1, 100, 200));
	ck_assert(add(1, 1, 300, 400));
	ck_assert(add(1, 1, 50, 450));
	ck_assert_uint_eq(got.pieces, 3);
	ck_assert(got.piece[0].from == 50 && got.piece[0].to == 100);
	ck_assert(got.piece[1].from == 200 && got.piece[1].to == 300);
	ck_assert(got.piece[2].from == 400 && got.piece[2].to == 450);
	ck_assert(got.first);
	ck_assert(add(1, 1, 60, 500));
	ck_assert_uint_eq(got.pieces, 1);
	ck_assert(got.piece[0].from == 450 && got.piece[0].to == 500);
	ck_assert(!got.first);
}
END_TEST

START_TEST(other_rings_blocks_and_laps_are_other_keys)
{
	struct segment_fragment f = { .kind = SEGMENT_OWN, .block = 1, .lap = 1, .from = 0, .to = 8 };
	uint8_t ring[16] = { 0 };

	ck_assert(add(1, 1, 0, 8));
	ck_assert(add(2, 1, 0, 8));
	ck_assert(add(1, 2, 0, 8));
	ck_assert(segment_seen_add(seen, ring, &f, &got));
	ck_assert(!segment_seen_add(seen, ring, &f, &got));
	ck_assert(!add(1, 1, 0, 8));
}
END_TEST

START_TEST(looking_notes_nothing)
{
	struct segment_fragment f = { .kind = SEGMENT_OWN, .from = 0, .to = 8 };

	for (int i = 0; i < 3; i++)
		ck_assert(segment_seen_look(seen, stage_ring.ring, &f, &got));
	ck_assert(segment_seen_add(seen, stage_ring.ring, &f, &got));
	ck_assert(!segment_seen_look(seen, stage_ring.ring, &f, &got));
}
END_TEST

START_TEST(slots_are_seen_one_by_one)
{
	ck_assert(add_slots(5, 1, 0, 0x7, 1));
	ck_assert(add_slots(5, 1, 2, 0x1c, 3));
	ck_assert_uint_eq(got.slots[0], 0x18);
	ck_assert_uint_eq(got.slots[3], 2);
	ck_assert(!got.first);
	ck_assert(!add_slots(5, 1, 1, 0x1e, 0));
	ck_assert(add_slots(5, 1, 5, 0x20, 0));
	ck_assert(got.first);
}
END_TEST

START_TEST(the_oldest_laps_are_forgotten_the_youngest_are_not)
{
	uint32_t n = 5000;

	for (uint32_t i = 0; i < n; i++)
		ck_assert(add(i % 64, i / 64, 0, 8));
	for (uint32_t i = n - 1000; i < n; i++)
		ck_assert_msg(!add(i % 64, i / 64, 0, 8), "lap %u", i);
	ck_assert(add(0, 0, 0, 8));
}
END_TEST

/* Against bytes marked one by one: what was not seen is never taken for seen; and while there were few gaps,
 * what was seen is known. */
START_TEST(random_pieces_agree_with_bytes_marked_one_by_one)
{
	enum { BYTES = 64 };
	bool marked[BYTES];

	srandom((unsigned)test_seed("random_pieces_agree_with_bytes_marked_one_by_one"));
	for (uint32_t lap = 0; lap < 400; lap++) {
		bool exact = true;

		memset(marked, 0, sizeof(marked));
		for (int i = 0; i < 12; i++) {
			uint32_t from = (uint32_t)random() % BYTES;
			uint32_t to = from + 1 + (uint32_t)random() % (BYTES - from);
			bool fresh[BYTES] = { false };
			unsigned gaps = 0;

			bool before = marked[from];

			add(1, lap, from, to);
			for (uint32_t k = 0; k < got.pieces; k++)
				for (uint32_t b = got.piece[k].from; b < got.piece[k].to; b++)
					fresh[b] = true;
			for (uint32_t b = 0; b < BYTES; b++) {
				bool wanted = b >= from && b < to && !marked[b];

				ck_assert(!wanted || fresh[b]);
				ck_assert(!fresh[b] || (b >= from && b < to));
				if (exact)
					ck_assert_int_eq(fresh[b], wanted);
			}
			if (exact)
				ck_assert_int_eq(got.first, !before);
			memset(marked + from, 1, to - from);
			for (uint32_t b = 1; b < BYTES; b++)
				gaps += marked[b] && !marked[b - 1];
			exact = exact && gaps + marked[0] <= 3;
		}
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("segment_seen");
	TCase *t = tcase_create("seen");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, fragments_one_after_another_are_new);
	tcase_add_test(t, of_what_overlaps_only_the_rest_is_new);
	tcase_add_test(t, other_rings_blocks_and_laps_are_other_keys);
	tcase_add_test(t, looking_notes_nothing);
	tcase_add_test(t, slots_are_seen_one_by_one);
	tcase_add_test(t, the_oldest_laps_are_forgotten_the_youngest_are_not);
	tcase_add_test(t, random_pieces_agree_with_bytes_marked_one_by_one);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
