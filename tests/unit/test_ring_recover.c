/* SPDX-License-Identifier: Apache-2.0 */
/* What the dead leave in the log ring, by hand and by kill; and rings of all sizes. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "extent.h"
#include "recovery.h"
#include "ring_view.h"
#include "thread.h"
#include "words.h"

#define DEAD 4000u /* a client number that nobody has */

static struct arena a;
static struct ring_view v;
static char why[128];

static void open_arena(uint64_t log_capacity)
{
	struct arena_config config = { .name = "ring",
				       .capacity = UINT64_C(32) << 20,
				       .log_capacity = log_capacity,
				       .backing = BACKING_MEMFD };
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&a, files, false), 0);
	ck_assert_int_eq(thread_attach_arena(&a), 0);
	ck_assert(ring_view(&a, &v));
}

static void close_arena(void)
{
	ck_assert_msg(ring_valid(&a, why, sizeof(why)), "%s", why);
	thread_detach_arena(&a);
	arena_unmap(&a);
}

static void setup(void)
{
	open_arena(UINT64_C(64) << 10);
}

static void setup_wide(void)
{
	open_arena(UINT64_C(4) << 20);
}

static struct thread_block *self(void)
{
	int err = 0;
	struct thread_block *tb = thread_self(&a, &err);

	if (!tb)
		abort();
	return tb;
}

static void put(size_t len)
{
	static char data[100000];

	if (ring_append(&a, self(), 6, data, len))
		abort();
}

static uint64_t written(void)
{
	struct ring_survey survey;

	ck_assert_int_eq(ring_survey(&a, &survey), 0);
	return survey.written;
}

/* The block of level 0. */
static uint32_t my_block(void)
{
	return self()->ring.levels[0].block;
}

static uint64_t word(uint32_t block)
{
	return atomic_load(&v.words[block]);
}

static void set_word(uint32_t block, uint64_t value)
{
	atomic_store(&v.words[block], value);
}

/* ---- blocks ---- */

static pid_t killed_writer(uint64_t records)
{
	pid_t child = fork();

	if (!child) {
		for (uint64_t i = 0; i < records; i++)
			put(100);
		raise(SIGKILL);
	}
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	return child;
}

START_TEST(a_dead_writers_records_stay_with_its_name)
{
	struct ring_survey survey;
	struct ring_reader *r;
	struct ring_entry e;
	pid_t child;

	self();
	child = killed_writer(10);
	ck_assert_uint_eq(recovery_reap_all(&a), 1);
	ck_assert_int_eq(ring_survey(&a, &survey), 0);
	ck_assert_uint_eq(survey.open, 0);
	ck_assert_int_eq(ring_reader_open(&a, &r, RING_FROM_OLDEST), 0);
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(ring_reader_next(r, &e, 0), 1);
		ck_assert_int_eq(e.pid, child);
		ck_assert_int_eq(e.tid, child);
	}
	ck_assert_int_eq(ring_reader_next(r, &e, 0), 0);
	ring_reader_close(r);
}
END_TEST

/* A block of five records, two of them large, that a dead client began to reset. */
static uint32_t half_reset(bool counted)
{
	uint32_t block;
	uint64_t resetting;

	for (int i = 0; i < 5; i++)
		put(i % 2 ? 20000 : 100);
	block = my_block();
	ring_thread_exit(&a, self());
	ck_assert_int_eq(ring_word_state(word(block)), RING_SEALED);
	resetting = ring_word(RING_RESETTING, false, DEAD, 1, ring_word_lap(word(block)) + 1);
	set_word(block, resetting);
	if (counted)
		ring_reset(&a, &v, block, resetting);
	return block;
}

static void finish(bool counted)
{
	struct ring_reader *r;
	struct ring_entry e;
	uint32_t block;

	ck_assert_int_eq(ring_reader_open(&a, &r, RING_FROM_OLDEST), 0);
	block = half_reset(counted);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(ring_recover_client(&a, DEAD), 0);
		ck_assert_int_eq(ring_word_state(word(block)), RING_SEALED);
		ck_assert_uint_eq(written(), 5);
	}
	ck_assert_int_eq(ring_reader_next(r, &e, 0), 0);
	ck_assert_uint_eq(e.lost, 5);
	ring_reader_close(r);
}

START_TEST(a_reset_cut_short_before_the_count_is_finished)
{
	finish(false);
}
END_TEST

START_TEST(a_reset_cut_short_after_the_count_does_not_count_twice)
{
	finish(true);
}
END_TEST

/* What a reader gets, and is told that it lost, until there is nothing more. */
static uint64_t account(struct ring_reader *r)
{
	struct ring_entry e;
	uint64_t count = 0;

	while (ring_reader_next(r, &e, 0) == 1)
		count += 1 + e.lost;
	return count + e.lost;
}

/* Some laps of the ring, so that whatever was there is overwritten. */
static void overwrite_all(void)
{
	for (uint64_t bytes = 0; bytes < 3 * ((uint64_t)v.blocks << v.shift); bytes += 900)
		put(900);
}

/* The reader opens while a block is being reset, and looks again when later laps of it have come and gone. */
static void open_in_reset(bool counted)
{
	struct ring_reader *r;

	half_reset(counted);
	ck_assert_int_eq(ring_reader_open(&a, &r, RING_FROM_OLDEST), 0);
	ck_assert_int_eq(ring_recover_client(&a, DEAD), 0);
	overwrite_all();
	ck_assert_uint_eq(account(r), written() - 5);
	ring_reader_close(r);
}

START_TEST(who_opens_during_a_reset_is_told_of_all_that_is_lost_from_then_on)
{
	open_in_reset(false);
}
END_TEST

START_TEST(who_opens_during_a_reset_after_its_count_is_told_the_same)
{
	open_in_reset(true);
}
END_TEST

START_TEST(who_opens_during_the_reset_of_a_shared_block_is_told_the_same)
{
	struct ring_open open[RING_LEVELS];
	struct ring_reader *r;
	uint32_t block, lap;

	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_reserve(&a, self(), &open[i], 6, 10), 0);
	for (int i = 0; i < 3; i++)
		put(100);
	block = atomic_load(&v.header->shared) - 1;
	ck_assert(ring_word_shared(word(block)));
	lap = ring_word_lap(word(block));
	ck_assert(ring_shared_close(&v, block, lap));
	set_word(block, ring_word(RING_RESETTING, false, DEAD, 1, lap + 1));
	ck_assert_int_eq(ring_reader_open(&a, &r, RING_FROM_OLDEST), 0);
	ck_assert_int_eq(ring_recover_client(&a, DEAD), 0);
	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_abort(&a, self(), &open[i]), 0);
	overwrite_all();
	ck_assert_uint_eq(account(r), written() - 3);
	ring_reader_close(r);
}
END_TEST

/* No lease has followed, which would make the reader look at all blocks. */
START_TEST(what_a_dead_client_began_to_overwrite_is_counted_at_once)
{
	struct ring_reader *r;
	struct ring_entry e;
	uint32_t block;

	put(1);
	block = my_block();
	ck_assert_int_eq(ring_reader_open(&a, &r, RING_FROM_OLDEST), 0);
	ck_assert_int_eq(ring_reader_next(r, &e, 0), 1);
	for (int i = 0; i < 4; i++)
		put(1);
	ring_thread_exit(&a, self());
	set_word(block, ring_word(RING_RESETTING, false, DEAD, 1, ring_word_lap(word(block)) + 1));
	ck_assert_int_eq(ring_recover_client(&a, DEAD), 0);
	ck_assert_int_eq(ring_reader_next(r, &e, 0), 0);
	ck_assert_uint_eq(e.lost, 4);
	ring_reader_close(r);
}
END_TEST

START_TEST(a_block_being_drained_is_sealed_again)
{
	uint32_t block;

	put(10);
	block = my_block();
	ring_thread_exit(&a, self());
	set_word(block, ring_word(RING_DRAINING, false, DEAD, 0, ring_word_lap(word(block))));
	ck_assert_int_eq(ring_recover_client(&a, DEAD), 0);
	ck_assert_int_eq(ring_word_state(word(block)), RING_SEALED);
	ck_assert_uint_eq(written(), 1);
}
END_TEST

START_TEST(a_dead_thread_is_sealed_and_others_are_not)
{
	uint32_t block;

	put(10);
	block = my_block();
	ck_assert_int_eq(ring_recover_thread(&a, self()->index + 1, NULL), 0);
	ck_assert_int_eq(ring_word_state(word(block)), RING_OPEN);
	ck_assert_int_eq(ring_recover_thread(&a, self()->index, self()), 0);
	ck_assert_int_eq(ring_word_state(word(block)), RING_SEALED);
}
END_TEST

/* ---- shared blocks ---- */

START_TEST(a_dead_clients_unfinished_shared_record_holds_no_block)
{
	struct ring_who who = { .client = DEAD, .writer = &self()->ring };
	struct ring_place p;

	put(1);
	ck_assert_int_eq(ring_shared_claim(&a, &v, &who, RING_SLOT_CLAIMED, 100, &p), 0);
	for (int i = 0; i < 500; i++)
		put(900); /* some laps */
	ck_assert_int_eq(ring_word_state(word(p.block)), RING_OPEN);
	ck_assert(ring_word_shared(word(p.block)));
	ck_assert_int_eq(ring_recover_client(&a, DEAD), 0);
	for (int i = 0; i < 500; i++)
		put(900);
	ck_assert(!ring_word_shared(word(p.block)));
	ck_assert_uint_eq(written(), 1001);
}
END_TEST

/* ---- extents ---- */

static uint32_t log_extent(void)
{
	struct ring_extent nowhere = { .block = 0, .lap = 77 };
	int err = 0;
	uint64_t page = extent_alloc(&a, 2, 1, RAW_PLAIN, NULL, &err);

	ck_assert_uint_ne(page, EXTENT_NONE);
	ring_large_note(&a, (uint32_t)page, &nowhere);
	return (uint32_t)page;
}

START_TEST(an_extent_without_a_record_becomes_raw)
{
	uint32_t page;

	self();
	page = log_extent();
	ck_assert(!ring_references(&a, page));
	ck_assert(!ring_recover_extent(&a, page, a.client));
	ck_assert_int_eq(pw0_kind(atomic_load(&a.pages[page].w0)), PAGE_RAW);
	extent_free(&a, page);
}
END_TEST

START_TEST(an_extent_of_a_committed_record_becomes_the_arenas)
{
	struct ring_reference ref;
	uint32_t cursor = 0;
	uint64_t w0;

	put(2000);
	ck_assert(ring_large_next(&a, &v, my_block(), ring_word_lap(word(my_block())), &cursor, &ref));
	ck_assert(ring_references(&a, ref.page));
	/* As if its writer had died before it settled it. */
	w0 = atomic_load(&a.pages[ref.page].w0);
	atomic_store(&a.pages[ref.page].w0, pw0_make(PAGE_LOG, a.client, pw0_gen(w0), 0));
	ck_assert(ring_recover_extent(&a, ref.page, a.client));
	ck_assert_uint_eq(pw0_client(atomic_load(&a.pages[ref.page].w0)), 0);
	ck_assert(ring_references(&a, ref.page));
}
END_TEST

/* ---- the consumer ---- */

START_TEST(a_dead_consumers_place_is_free)
{
	struct ring_reader *r;

	self();
	atomic_store(&v.header->consumer, DEAD | UINT64_C(5) << 12);
	ck_assert_int_eq(ring_recover_client(&a, DEAD + 1), 0);
	ck_assert_uint_ne(atomic_load(&v.header->consumer), 0);
	ck_assert_int_eq(ring_recover_client(&a, DEAD), 0);
	ck_assert_uint_eq(atomic_load(&v.header->consumer), 0);
	ck_assert_int_eq(ring_reader_open(&a, &r, RING_CONSUMER), 0);
	ring_reader_close(r);
}
END_TEST

/* ---- sizes ---- */

START_TEST(a_ring_of_any_size_holds_what_was_asked_for)
{
	static const uint64_t sizes[] = { 1, 65536, 65537, 300000, 1 << 20, 4 << 20, 67108863, 64 << 20 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		open_arena(sizes[i]);
		ck_assert_uint_ge(v.blocks, RING_BLOCKS_MIN);
		ck_assert_uint_ge((uint64_t)v.blocks << v.shift, sizes[i]);
		for (int n = 0; n < 3000; n++)
			put(900);
		ck_assert_uint_eq(written(), 3000);
		close_arena();
	}
	for (uint64_t size = 4096; size < UINT64_C(1) << 44; size = size * 5 / 3)
		ck_assert_uint_ge(ring_area_bytes(size), size);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ring recovery");
	TCase *dead = tcase_create("dead"), *wide = tcase_create("wide"), *sizes = tcase_create("sizes");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(dead, setup, close_arena);
	tcase_set_timeout(dead, 60);
	tcase_add_test(dead, a_dead_writers_records_stay_with_its_name);
	tcase_add_test(dead, a_block_being_drained_is_sealed_again);
	tcase_add_test(dead, a_dead_thread_is_sealed_and_others_are_not);
	tcase_add_test(dead, a_dead_clients_unfinished_shared_record_holds_no_block);
	tcase_add_test(dead, an_extent_without_a_record_becomes_raw);
	tcase_add_test(dead, an_extent_of_a_committed_record_becomes_the_arenas);
	tcase_add_test(dead, a_dead_consumers_place_is_free);
	suite_add_tcase(suite, dead);
	tcase_add_checked_fixture(wide, setup_wide, close_arena);
	tcase_set_timeout(wide, 60);
	tcase_add_test(wide, a_reset_cut_short_before_the_count_is_finished);
	tcase_add_test(wide, a_reset_cut_short_after_the_count_does_not_count_twice);
	tcase_add_test(wide, who_opens_during_a_reset_is_told_of_all_that_is_lost_from_then_on);
	tcase_add_test(wide, who_opens_during_a_reset_after_its_count_is_told_the_same);
	tcase_add_test(dead, who_opens_during_the_reset_of_a_shared_block_is_told_the_same);
	tcase_add_test(dead, what_a_dead_client_began_to_overwrite_is_counted_at_once);
	suite_add_tcase(suite, wide);
	tcase_set_timeout(sizes, 60);
	tcase_add_test(sizes, a_ring_of_any_size_holds_what_was_asked_for);
	suite_add_tcase(suite, sizes);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
