/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records' clock: close to CLOCK_MONOTONIC whatever way it takes, never back, the same for all, and right
 * again after whatever happened to the line in the header.
 */
#include <pthread.h>

#include "clock.h"
#include "heap.h"

#define MS UINT64_C(1000000)
#define CLOSE (2 * MS) /* what a line may be off that was compared to the clock an epoch ago */

static struct ring_header header;
static struct ring_writer writer;

static void setup(void)
{
	memset(&header, 0, sizeof(header));
	memset(&writer, 0, sizeof(writer));
	clock_begin(&header);
	clock_settle(&writer, &header, CLOCK_KIND_EXACT);
}

/* Whether the processor's counter is gone by here at all. */
static bool by_ticks(const struct ring_writer *w)
{
	return w->clock == CLOCK_TICKS;
}

static bool has_line(const struct ring_writer *w)
{
#if defined(__x86_64__)
	return w->line.epoch == __builtin_ia32_rdtsc() >> CLOCK_EPOCH_SHIFT;
#else
	(void)w;
	return false;
#endif
}

/* How far a record's time is from the clock; what came between the readings is not held against it. */
static uint64_t distance(struct ring_writer *w)
{
	uint64_t before = clock_now(), stamp = clock_stamp(w, &header), after = clock_now();

	return stamp < before ? before - stamp : stamp > after ? stamp - after : 0;
}

/* Stamps for so long; the longest distance. */
static uint64_t stamp_for(struct ring_writer *w, uint64_t ns)
{
	uint64_t end = clock_now() + ns, most = 0, last = 0, back = 0;

	do {
		uint64_t far = distance(w), stamp = clock_stamp(w, &header);

		most = far > most ? far : most;
		back += stamp < last;
		last = stamp;
	} while (clock_now() < end);
	ck_assert_uint_eq(back, 0);
	return most;
}

static void until_line(struct ring_writer *w)
{
	while (by_ticks(w) && !has_line(w))
		ck_assert_uint_lt(distance(w), CLOSE);
}

START_TEST(stays_with_the_systems_clock_through_many_epochs)
{
	uint64_t most;

	until_line(&writer);
	most = stamp_for(&writer, 1500 * MS);
	printf("by %s: at most %llu ns off\n", by_ticks(&writer) ? "the counter" : "the system",
	       (unsigned long long)most);
	ck_assert_uint_lt(most, CLOSE);
}
END_TEST

START_TEST(times_of_a_thread_never_go_back)
{
	uint64_t last = 0, back = 0;

	for (int i = 0; i < 20000000; i++) {
		uint64_t stamp = clock_stamp(&writer, &header);

		back += stamp < last;
		last = stamp;
	}
	ck_assert_uint_eq(back, 0);
}
END_TEST

/* ---- several threads ---- */

static _Atomic uint64_t ball; /* time of who hit it last, | 1: it is the other one's turn */

static void *hit_back(void *arg)
{
	struct ring_writer w = { 0 };
	uint64_t back = 0;

	(void)arg;
	clock_settle(&w, &header, CLOCK_KIND_EXACT);
	for (int i = 0; i < 20000; i++) {
		uint64_t got, stamp;

		while (!((got = atomic_load(&ball)) & 1))
			;
		stamp = clock_stamp(&w, &header);
		if ((got | 1) > stamp + 1 && (got | 1) - stamp > back)
			back = (got | 1) - stamp;
		atomic_store(&ball, stamp & ~UINT64_C(1));
	}
	return (void *)(uintptr_t)back;
}

/* What one does after another has told it to has the later time, but for how far a processor looks ahead. */
START_TEST(times_of_two_threads_follow_what_they_tell_each_other)
{
	uint64_t back = 0, got;
	pthread_t thread;
	void *others;

	atomic_store(&ball, clock_stamp(&writer, &header) | 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, hit_back, NULL), 0);
	for (int i = 0; i < 20000; i++) {
		uint64_t stamp;

		while ((got = atomic_load(&ball)) & 1)
			;
		stamp = clock_stamp(&writer, &header);
		if (got > stamp && got - stamp > back)
			back = got - stamp;
		if (i < 19999)
			atomic_store(&ball, stamp | 1);
	}
	pthread_join(thread, &others);
	printf("back by %llu and %llu ns at most\n", (unsigned long long)back,
	       (unsigned long long)(uintptr_t)others);
	ck_assert_uint_lt(back, 100000);
	ck_assert_uint_lt((uintptr_t)others, 100000);
}
END_TEST

enum { AT_ONCE = 3 };

static void *first_of_all(void *arg)
{
	struct ring_writer *w = arg;

	clock_settle(w, &header, CLOCK_KIND_EXACT);
	stamp_for(w, 400 * MS);
	return NULL;
}

/* Who draws the line, at the same time, draws one. */
START_TEST(all_threads_go_by_one_line)
{
	static struct ring_writer w[AT_ONCE];
	pthread_t threads[AT_ONCE];

	for (int i = 0; i < AT_ONCE; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, first_of_all, &w[i]), 0);
	for (int i = 0; i < AT_ONCE; i++)
		pthread_join(threads[i], NULL);
	for (int i = 1; i < AT_ONCE; i++)
		if (w[i].line.epoch == w[0].line.epoch && w[0].line.slope && w[i].line.slope) {
			ck_assert_uint_eq(w[i].line.ns, w[0].line.ns);
			ck_assert_uint_eq(w[i].line.slope, w[0].line.slope);
		}
}
END_TEST

/* ---- what may have happened to the line ---- */

static void garble(void)
{
	switch (heap_below(5)) {
	case 0:
		atomic_store(&header.points[heap_below(CLOCK_POINTS)].ns, heap_random());
		break;
	case 1:
		atomic_store(&header.points[heap_below(CLOCK_POINTS)].epoch, heap_random());
		break;
	case 2:
		atomic_store(&header.epoch_ns, heap_below(2) ? heap_random() : heap_below(600 * MS));
		break;
	case 3:
		atomic_store(&header.reference.epoch, heap_random());
		atomic_store(&header.reference.ns, heap_random());
		break;
	default: /* near what is right, and wrong */
		for (int i = 0; i < (int)CLOCK_POINTS; i++)
			atomic_fetch_add(&header.points[i].ns, heap_below(200 * MS) - 100 * MS);
	}
}

START_TEST(a_damaged_line_is_seen_and_drawn_anew)
{
	heap_seed("a_damaged_line_is_seen_and_drawn_anew");
	until_line(&writer);
	for (int i = 0; i < 40; i++) {
		struct ring_writer w = { 0 };

		for (uint64_t n = 1 + heap_below(4); n; n--)
			garble();
		clock_settle(&w, &header, CLOCK_KIND_EXACT);
		ck_assert_uint_lt(stamp_for(&w, 15 * MS), CLOSE);
		ck_assert_uint_lt(distance(&writer), CLOSE);
	}
	until_line(&writer);
	ck_assert_uint_lt(stamp_for(&writer, 300 * MS), CLOSE);
}
END_TEST

/* As after a sleep of the machine, in which one of the two clocks went on. */
START_TEST(a_line_that_the_clock_has_left_is_not_gone_by)
{
	static const int64_t jumps[] = { 5000 * (int64_t)MS, -5000 * (int64_t)MS, 20 * (int64_t)MS };

	for (size_t i = 0; i < LENGTH(jumps); i++) {
		struct ring_writer w = { 0 };

		until_line(&writer);
		for (int p = 0; p < (int)CLOCK_POINTS; p++)
			atomic_fetch_add(&header.points[p].ns, (uint64_t)jumps[i]);
		atomic_fetch_add(&header.reference.ns, (uint64_t)jumps[i]);
		clock_settle(&w, &header, CLOCK_KIND_EXACT);
		ck_assert_uint_lt(stamp_for(&w, 250 * MS), CLOSE);
		until_line(&w);
	}
}
END_TEST

/* The counter begins anew, the header does not. */
START_TEST(points_of_another_boot_make_room)
{
	until_line(&writer);
	for (int p = 0; p < (int)CLOCK_POINTS; p++)
		atomic_fetch_add(&header.points[p].epoch, 1000000 * (uint64_t)CLOCK_POINTS);
	atomic_store(&header.reference.epoch, UINT64_MAX / 2);
	memset(&writer.line, 0, sizeof(writer.line));
	ck_assert_uint_lt(distance(&writer), CLOSE);
	until_line(&writer);
	ck_assert_uint_lt(stamp_for(&writer, 200 * MS), CLOSE);
}
END_TEST

/* As when the clock was slewed, or the thread has come to a processor whose counter is behind. */
START_TEST(a_line_that_ended_ahead_of_the_clock_is_not_gone_back_from)
{
	static const uint64_t ahead[] = { MS / 2, MS, 5 * MS, 90 * MS };

	until_line(&writer);
	for (size_t i = 0; by_ticks(&writer) && i < sizeof(ahead) / sizeof(ahead[0]); i++) {
		uint64_t last = clock_now() + ahead[i], end = last, stamp;

		writer.line = (struct clock_line){ .epoch = 1, .ns = last };
		do {
			stamp = clock_stamp(&writer, &header);
			ck_assert_uint_ge(stamp, last);
			last = stamp;
		} while (clock_now() < end);
		until_line(&writer);
	}
	/* Damage is no such line. */
	writer.line = (struct clock_line){ .epoch = 1, .ns = clock_now() + 3600000 * MS };
	if (by_ticks(&writer))
		ck_assert_uint_lt(distance(&writer), CLOSE);
}
END_TEST

START_TEST(who_may_not_write_reads_the_line_all_the_same)
{
	struct clock_line line = { 0 };
	struct ring_header before;

	until_line(&writer);
	memcpy(&before, &header, sizeof(before));
	for (int i = 0; i < 10000; i++) {
		uint64_t now = clock_now(), read = clock_read(&line, &header, false);

		ck_assert_uint_lt(now - CLOSE, read);
		ck_assert_uint_lt(read, clock_now() + CLOSE);
	}
	ck_assert_mem_eq(&before, &header, sizeof(before));
}
END_TEST

/* ---- changes of kind ---- */

START_TEST(no_time_is_older_than_the_one_before_when_the_kind_changes)
{
	uint64_t last = 0, back = 0;

	for (int i = 0; i < 3000000; i++) {
		uint64_t stamp = clock_stamp(&writer, &header);

		back += stamp < last;
		last = stamp;
		if (i % 1000 == 999)
			clock_settle(&writer, &header,
				     i / 1000 % 2 ? CLOCK_KIND_EXACT : CLOCK_KIND_COARSE);
	}
	ck_assert_uint_eq(back, 0);
}
END_TEST

static uint64_t system_coarse(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A tick of the system's coarse clock: which itself stands longer where a machine is kept from running. */
START_TEST(coarse_times_differ_and_are_no_older_than_the_last_tick)
{
	uint64_t lag = clock_lag(CLOCK_KIND_COARSE), last = 0;

	ck_assert_uint_gt(lag, 0);
	ck_assert_uint_le(lag, 10 * MS);
	ck_assert_uint_eq(clock_lag(CLOCK_KIND_EXACT), 0);
	clock_settle(&writer, &header, CLOCK_KIND_COARSE);
	for (int i = 0; i < 20000; i++) {
		uint64_t tick = system_coarse(), stamp = clock_stamp(&writer, &header);

		ck_assert_uint_gt(stamp, last);
		ck_assert_uint_ge(stamp, tick);
		ck_assert_uint_le(stamp, clock_now() + MS);
		last = stamp;
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("clock");
	TCase *tests = tcase_create("clock");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tests, setup, NULL);
	tcase_add_test(tests, stays_with_the_systems_clock_through_many_epochs);
	tcase_add_test(tests, times_of_a_thread_never_go_back);
	tcase_add_test(tests, times_of_two_threads_follow_what_they_tell_each_other);
	tcase_add_test(tests, all_threads_go_by_one_line);
	tcase_add_test(tests, a_damaged_line_is_seen_and_drawn_anew);
	tcase_add_test(tests, a_line_that_the_clock_has_left_is_not_gone_by);
	tcase_add_test(tests, points_of_another_boot_make_room);
	tcase_add_test(tests, a_line_that_ended_ahead_of_the_clock_is_not_gone_back_from);
	tcase_add_test(tests, who_may_not_write_reads_the_line_all_the_same);
	tcase_add_test(tests, no_time_is_older_than_the_one_before_when_the_kind_changes);
	tcase_add_test(tests, coarse_times_differ_and_are_no_older_than_the_last_tick);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
