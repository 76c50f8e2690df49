/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the log ring: where readers begin, order, lateness, sleep, and rings that anything was done to. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "ring_view.h"
#include "thread.h"

#include "../seed.h"

static struct arena a;

static void setup(void)
{
	struct arena_config config = { .name = "ring",
				       .capacity = UINT64_C(32) << 20,
				       .log_capacity = UINT64_C(1) << 20,
				       .backing = BACKING_MEMFD };
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&a, files, false), 0);
	ck_assert_int_eq(thread_attach_arena(&a), 0);
}

static void teardown(void)
{
	thread_detach_arena(&a);
	arena_unmap(&a);
}

static struct thread_block *self(void)
{
	int err = 0;
	struct thread_block *tb = thread_self(&a, &err);

	if (!tb)
		abort();
	return tb;
}

static void put(uint64_t number)
{
	if (ring_append(&a, self(), 6, &number, sizeof(number)))
		abort();
}

static struct ring_reader *reader_of(struct arena *arena, unsigned flags)
{
	struct ring_reader *r;

	self();
	ck_assert_int_eq(ring_reader_open(arena, &r, flags), 0);
	return r;
}

static struct ring_reader *reader(unsigned flags)
{
	return reader_of(&a, flags);
}

/* The number in the next record; 0: none. */
static uint64_t next(struct ring_reader *r, struct ring_entry *e)
{
	uint64_t number = 0;
	int result = ring_reader_next(r, e, 0);

	ck_assert_int_ge(result, 0);
	if (!result)
		return 0;
	ck_assert_uint_eq(e->len, sizeof(number));
	memcpy(&number, e->data, sizeof(number));
	return number;
}

static uint64_t now_ns(void)
{
	return clock_now();
}

/* What is quick has to be so once in so many tries: a busy machine may stop us in any of them. */
#define TRIES 30

/* ---- where a reader begins ---- */

START_TEST(from_oldest_sees_what_was_there_and_from_now_does_not)
{
	struct ring_reader *oldest, *now;
	struct ring_entry e;

	for (uint64_t i = 1; i <= 1000; i++)
		put(i);
	oldest = reader(RING_FROM_OLDEST);
	now = reader(RING_FROM_NOW);
	put(1001);
	for (uint64_t i = 1; i <= 1001; i++)
		ck_assert_uint_eq(next(oldest, &e), i);
	ck_assert_uint_eq(next(oldest, &e), 0);
	ck_assert_uint_eq(next(now, &e), 1001);
	ck_assert_uint_eq(e.lost, 0);
	ck_assert_uint_eq(next(now, &e), 0);
	ring_reader_close(oldest);
	ring_reader_close(now);
}
END_TEST

/* Levels and shared blocks alike. */
static void put_everywhere(uint64_t from, uint64_t to)
{
	struct ring_open o[RING_LEVELS];

	for (uint64_t i = from; i < from + 10; i++)
		put(i);
	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_reserve(&a, self(), &o[i], 6, 8), 0);
	for (uint64_t i = from + 10; i <= to; i++)
		put(i);
	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_abort(&a, self(), &o[i]), 0);
}

START_TEST(a_consumer_goes_on_where_the_last_one_stopped)
{
	struct ring_reader *r = reader(RING_CONSUMER);
	struct ring_entry e;

	put_everywhere(1, 100);
	for (uint64_t i = 1; i <= 50; i++)
		ck_assert_uint_eq(next(r, &e), i);
	ring_reader_close(r);
	r = reader(RING_CONSUMER);
	for (uint64_t i = 51; i <= 100; i++)
		ck_assert_uint_eq(next(r, &e), i);
	ck_assert_uint_eq(next(r, &e), 0);
	ring_reader_close(r);
	r = reader(RING_CONSUMER | RING_FROM_OLDEST);
	for (uint64_t i = 1; i <= 100; i++)
		ck_assert_uint_eq(next(r, &e), i);
	ring_reader_close(r);
	r = reader(RING_CONSUMER | RING_FROM_NOW);
	put(101);
	ck_assert_uint_eq(next(r, &e), 101);
	ring_reader_close(r);
}
END_TEST

START_TEST(what_went_while_there_was_no_consumer_is_lost_to_it)
{
	struct ring_reader *r = reader(RING_CONSUMER);
	struct ring_entry e;
	uint64_t number = 0, lost = 0, got = 0, read;

	for (uint64_t i = 1; i <= 100; i++)
		put(i);
	for (uint64_t i = 1; i <= 50; i++)
		ck_assert_uint_eq(next(r, &e), i);
	ring_reader_close(r);
	for (uint64_t i = 101; i <= 100000; i++)
		put(i);
	r = reader(RING_CONSUMER);
	while ((read = next(r, &e))) {
		ck_assert_uint_gt(read, number);
		number = read;
		got++;
		lost += e.lost;
	}
	ck_assert_uint_eq(number, 100000);
	ck_assert_uint_eq(50 + got + lost, 100000);
	ring_reader_close(r);
}
END_TEST

START_TEST(there_is_one_consumer_and_it_is_a_client)
{
	struct ring_reader *r = reader(RING_CONSUMER), *second;
	struct arena ro;
	struct arena_files files = { .fd = dup(a.files.fd), .life_fd = -1, .heap_fd = -1 };

	ck_assert_int_eq(ring_reader_open(&a, &second, RING_CONSUMER), -EBUSY);
	ck_assert_int_eq(ring_reader_open(&a, &second, RING_FROM_NOW | RING_FROM_OLDEST), -EINVAL);
	ck_assert_int_eq(arena_map(&ro, files, true), 0);
	ck_assert_int_eq(ring_reader_open(&ro, &second, RING_CONSUMER), -EROFS);
	ring_reader_close(r);
	r = reader(RING_CONSUMER);
	ring_reader_close(r);
	arena_unmap(&ro);
}
END_TEST

START_TEST(a_read_only_attachment_reads_all_kinds_of_records)
{
	static char data[300000];
	struct arena ro;
	struct arena_files files = { .fd = dup(a.files.fd), .life_fd = -1, .heap_fd = -1 };
	struct ring_reader *r;
	struct ring_entry e;

	memset(data, 7, sizeof(data));
	ck_assert_int_eq(arena_map(&ro, files, true), 0);
	r = reader_of(&ro, RING_FROM_OLDEST);
	put_everywhere(1, 100);
	for (uint64_t i = 1; i <= 100; i++)
		ck_assert_uint_eq(next(r, &e), i);
	ck_assert_int_eq(ring_reader_next(r, &e, 20), 0);
	ck_assert_int_eq(ring_append(&a, self(), 1, data, sizeof(data)), 0);
	ck_assert_int_eq(ring_reader_next(r, &e, 100), 1);
	ck_assert_uint_eq(e.len, sizeof(data));
	ck_assert_mem_eq(e.data, data, sizeof(data));
	ring_reader_close(r);
	arena_unmap(&ro);
}
END_TEST

/* ---- order ---- */

enum { WRITERS = 4, EACH = 20000 };

/* How often it was made to stop, wherever it was. */
static void *write_in_turns(void *stopped)
{
	struct rusage use;

	for (uint64_t i = 1; i <= EACH; i++) {
		put(i);
		if (i % 1000 == 0)
			usleep(500);
	}
	getrusage(RUSAGE_THREAD, &use);
	*(uint64_t *)stopped = (uint64_t)use.ru_nivcsw;
	return NULL;
}

/* A reader that waits gets all threads' records in the order of their times. */
START_TEST(records_of_many_threads_come_in_order_of_time)
{
	struct ring_reader *r = reader(RING_FROM_NOW);
	uint64_t got = 0, lost = 0, last = 0, late = 0, stopped[WRITERS], stops = 0;
	pthread_t threads[WRITERS];
	struct ring_entry e;

	for (int i = 0; i < WRITERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_in_turns, &stopped[i]), 0);
	while (ring_reader_next(r, &e, 60000) == 1) {
		ck_assert(e.late || e.time_ns >= last);
		last = e.late ? last : e.time_ns;
		late += e.late;
		lost += e.lost;
		if (++got + lost == WRITERS * EACH)
			break;
	}
	for (int i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		stops += stopped[i];
	}
	ck_assert_uint_eq(got + lost, WRITERS * EACH);
	/* Only who was kept from running for 10 ms in the middle of a record is late, with that one. */
	ck_assert_uint_le(late, WRITERS * EACH / 1000 + stops);
	ring_reader_close(r);
}
END_TEST

static struct ring_block *head_of_level(uint32_t level)
{
	return arena_at(&a, self()->ring.levels[level].head);
}

/* As if the writer had been stopped between its clock and its commit. */
START_TEST(a_stopped_writer_holds_others_back_for_10_ms_and_is_late)
{
	struct ring_reader *r = reader(RING_FROM_NOW);
	struct ring_entry e;
	struct ring_open o;
	uint64_t start, took = UINT64_MAX;

	put(1);
	ck_assert_uint_eq(next(r, &e), 1);
	ck_assert_int_eq(ring_reserve(&a, self(), &o, 6, 8), 0);
	atomic_store(&head_of_level(0)->busy, 1);
	start = now_ns();
	put(2); /* by level 1 */
	ck_assert_int_eq(ring_reader_next(r, &e, 100000), 1);
	ck_assert_uint_ge(now_ns() - start, 9000000);
	ck_assert_uint_lt(now_ns() - start, UINT64_C(50000000000));
	ck_assert(!e.late);
	/* Who does not wait gets it at once. */
	for (int i = 0; i < TRIES && took >= 9000000; i++) {
		put(3);
		start = now_ns();
		ck_assert_uint_eq(next(r, &e), 3);
		took = now_ns() - start;
	}
	ck_assert_uint_lt(took, 9000000);
	/* The record in the making, of a time long ago. */
	ck_assert_int_eq(ring_commit(&a, self(), &o), 0);
	{
		struct ring_level *level = &self()->ring.levels[0];
		uint64_t end = ring_committed_bytes(level->committed);
		struct ring_record *record = arena_at(&a, level->data + end - ring_record_bytes(8));

		record->time -= 30000000;
	}
	ck_assert_int_eq(ring_reader_next(r, &e, 100), 1);
	ck_assert(e.late);
	ck_assert_uint_eq(e.lost, 0);
	ring_reader_close(r);
}
END_TEST

/* ---- waiting ---- */

static void *put_later(void *arg)
{
	usleep(100000);
	*(uint64_t *)arg = now_ns();
	put(1);
	return NULL;
}

/* How long it took. */
static uint64_t wake(struct arena *arena)
{
	struct ring_reader *r = reader_of(arena, RING_FROM_NOW);
	uint64_t written = 0, woken;
	struct ring_entry e;
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, put_later, &written), 0);
	ck_assert_int_eq(ring_reader_next(r, &e, -1), 1);
	woken = now_ns();
	pthread_join(thread, NULL);
	ring_reader_close(r);
	return woken - written;
}

static void expect_woken(struct arena *arena)
{
	uint64_t took = UINT64_MAX;

	for (int i = 0; i < TRIES && took >= 300000000; i++)
		took = wake(arena);
	ck_assert_uint_lt(took, 300000000);
}

START_TEST(a_sleeping_reader_is_woken)
{
	struct arena ro;
	struct arena_files files = { .fd = dup(a.files.fd), .life_fd = -1, .heap_fd = -1 };

	ck_assert_int_eq(arena_map(&ro, files, true), 0);
	for (int i = 0; i < 3; i++)
		expect_woken(&a);
	expect_woken(&ro);
	arena_unmap(&ro);
}
END_TEST

START_TEST(a_timeout_is_kept_and_costs_nothing)
{
	struct ring_reader *r = reader(RING_FROM_NOW);
	struct rusage before, after;
	struct ring_entry e;
	uint64_t none = UINT64_MAX, half_a_second = UINT64_MAX, start;

	for (int i = 0; i < TRIES && none >= 200000000; i++) {
		start = now_ns();
		ck_assert_int_eq(ring_reader_next(r, &e, 0), 0);
		none = now_ns() - start;
	}
	ck_assert_uint_lt(none, 200000000);
	for (int i = 0; i < TRIES && half_a_second >= 900000000; i++) {
		getrusage(RUSAGE_SELF, &before);
		start = now_ns();
		ck_assert_int_eq(ring_reader_next(r, &e, 500), 0);
		half_a_second = now_ns() - start;
		getrusage(RUSAGE_SELF, &after);
		ck_assert_uint_ge(half_a_second, 499000000);
		ck_assert_int_le(after.ru_nvcsw - before.ru_nvcsw, 20);
	}
	ck_assert_uint_lt(half_a_second, 900000000);
	ring_reader_close(r);
}
END_TEST

/* ---- damage ---- */

static uint64_t seed;

static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Anything anywhere in the ring's bookkeeping and in its blocks: calls end, and nothing faults. */
static void damage(const struct ring_view *v)
{
	uint64_t area = v->data_at - a.g.ring, value = random64() >> random64() % 64, at;
	uint32_t block = (uint32_t)(random64() % v->blocks);

	switch (random64() % 4) {
	case 0: /* header, words, heads, but not constants, which ring_view() refuses */
		at = a.g.ring + 64 + random64() % ((uint64_t)((char *)v->slots - (char *)v->header) - 72);
		break;
	case 1:
		at = (uint64_t)((char *)&v->words[block] - a.base);
		break;
	case 2:
		at = (uint64_t)((char *)&v->heads[block] - a.base) + random64() % 15 * 8;
		break;
	default:
		at = v->data_at + random64() % (UINT64_C(1) << v->shift) * v->blocks;
		if (at + 8 > a.g.ring + area + ((uint64_t)v->blocks << v->shift))
			return;
		break;
	}
	memcpy(arena_at(&a, at & ~UINT64_C(7)), &value, sizeof(value));
}

static void use_damaged(struct ring_reader *r)
{
	static char data[20000];
	char why[100];
	struct ring_reader *other;
	struct ring_entry e;
	struct ring_open o;

	for (int i = 0; i < 20; i++)
		ring_append(&a, self(), 6, data, random64() % (i ? 300 : sizeof(data)));
	if (!ring_reserve(&a, self(), &o, 6, random64() % 6000))
		random64() % 2 ? ring_commit(&a, self(), &o) : ring_abort(&a, self(), &o);
	for (int i = 0; i < 100 && ring_reader_next(r, &e, 0) == 1; i++)
		ck_assert_uint_le(e.len, RING_RECORD_MAX);
	if (!ring_reader_open(&a, &other, random64() % 3)) {
		for (int i = 0; i < 30 && ring_reader_next(other, &e, 0) == 1; i++)
			;
		ring_reader_close(other);
	}
	ring_valid(&a, why, sizeof(why));
	ring_recover_client(&a, (uint32_t)random64() % CLIENTS_MAX);
}

START_TEST(damage_never_faults_nor_hangs)
{
	struct ring_reader *r = reader(RING_FROM_OLDEST);
	struct ring_view v;

	ck_assert(ring_view(&a, &v));
	for (int i = 0; i < 3000; i++)
		put((uint64_t)i);
	for (int i = 0; i < 1500; i++) {
		for (uint64_t n = random64() % 8; n > 0; n--)
			damage(&v);
		use_damaged(r);
	}
	ring_reader_close(r);
}
END_TEST

START_TEST(a_damaged_header_is_refused)
{
	struct ring_header *header = arena_at(&a, a.g.ring);
	struct ring_reader *r;
	char why[100];

	header->blocks = 1u << 20;
	ck_assert_int_eq(ring_reader_open(&a, &r, 0), -EUCLEAN);
	ck_assert_int_eq(ring_append(&a, self(), 6, "x", 1), -EUCLEAN);
	ck_assert(!ring_valid(&a, why, sizeof(why)));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ring reader");
	TCase *all = tcase_create("all");
	SRunner *runner;
	int failed;

	seed = test_seed(NULL) | 1;
	tcase_add_checked_fixture(all, setup, teardown);
	tcase_set_timeout(all, 120);
	tcase_add_test(all, from_oldest_sees_what_was_there_and_from_now_does_not);
	tcase_add_test(all, a_consumer_goes_on_where_the_last_one_stopped);
	tcase_add_test(all, what_went_while_there_was_no_consumer_is_lost_to_it);
	tcase_add_test(all, there_is_one_consumer_and_it_is_a_client);
	tcase_add_test(all, a_read_only_attachment_reads_all_kinds_of_records);
	tcase_add_test(all, records_of_many_threads_come_in_order_of_time);
	tcase_add_test(all, a_stopped_writer_holds_others_back_for_10_ms_and_is_late);
	tcase_add_test(all, a_sleeping_reader_is_woken);
	tcase_add_test(all, a_timeout_is_kept_and_costs_nothing);
	tcase_add_test(all, damage_never_faults_nor_hangs);
	tcase_add_test(all, a_damaged_header_is_refused);
	suite_add_tcase(suite, all);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
