/* SPDX-License-Identifier: Apache-2.0 */
/* Which records of a ring were shown: each once, of the last laps of each block; any key does no harm. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "log_seen.h"

#include "../seed.h"

#define BLOCKS 16u
#define BYTES  4096u

static struct log_seen *seen;

static void setup(void)
{
	seen = log_seen_open(BLOCKS, BYTES);
	ck_assert_ptr_nonnull(seen);
}

static void teardown(void)
{
	log_seen_close(seen);
}

START_TEST(each_place_of_a_block_is_new_once)
{
	for (int round = 0; round < 2; round++)
		for (uint32_t at = 0; at < BYTES; at += 8)
			ck_assert_int_eq(log_seen_add(seen, 3, 7, at), round == 0);
	ck_assert(log_seen_add(seen, 2, 7, 0));
	ck_assert(log_seen_add(seen, 3, 8, 0));
}
END_TEST

START_TEST(each_slot_of_a_shared_block_is_new_once)
{
	for (int round = 0; round < 2; round++)
		for (uint32_t slot = 0; slot < 256; slot++)
			ck_assert_int_eq(log_seen_add(seen, 0, 1, slot), round == 0);
}
END_TEST

START_TEST(earlier_laps_are_remembered_a_while)
{
	for (uint32_t lap = 10; lap < 18; lap++)
		ck_assert(log_seen_add(seen, 0, lap, 8));
	for (uint32_t lap = 10; lap < 18; lap++)
		ck_assert(!log_seen_add(seen, 0, lap, 8));
	/* The ninth takes the place of the first, which is forgotten and does not come back. */
	ck_assert(log_seen_add(seen, 0, 18, 8));
	ck_assert(log_seen_add(seen, 0, 10, 8));
	ck_assert(!log_seen_add(seen, 0, 18, 8));
	/* Around the end of the numbers. */
	ck_assert(log_seen_add(seen, 1, UINT32_MAX, 8));
	ck_assert(log_seen_add(seen, 1, 7, 8));
	ck_assert(!log_seen_add(seen, 1, 7, 8));
}
END_TEST

START_TEST(places_that_cannot_be_are_always_new)
{
	for (int round = 0; round < 2; round++) {
		ck_assert(log_seen_add(seen, BLOCKS, 1, 0));
		ck_assert(log_seen_add(seen, UINT32_MAX, 1, 0));
		ck_assert(log_seen_add(seen, 0, 1, BYTES));
		ck_assert(log_seen_add(seen, 0, 1, UINT32_MAX - 7));
		ck_assert(log_seen_add(seen, 0, 1, 257));
		ck_assert(log_seen_add(seen, 0, 1, UINT32_MAX));
	}
}
END_TEST

START_TEST(any_key_is_answered)
{
	srand((unsigned)test_seed("any_key_is_answered"));
	for (int i = 0; i < 200000; i++) {
		uint32_t block = (uint32_t)rand() % (BLOCKS + 2), lap = (uint32_t)rand() % 40 * ((uint32_t)rand() % 3);
		uint32_t at = rand() % 4 ? (uint32_t)rand() % (BYTES + 64) : (uint32_t)rand() * 5u;
		bool again, first = log_seen_add(seen, block, lap, at);

		again = log_seen_add(seen, block, lap, at);
		ck_assert(first || !again);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log_seen");
	TCase *c = tcase_create("log_seen");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, each_place_of_a_block_is_new_once);
	tcase_add_test(c, each_slot_of_a_shared_block_is_new_once);
	tcase_add_test(c, earlier_laps_are_remembered_a_while);
	tcase_add_test(c, places_that_cannot_be_are_always_new);
	tcase_add_test(c, any_key_is_answered);
	suite_add_tcase(s, c);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
