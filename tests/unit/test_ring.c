/* SPDX-License-Identifier: Apache-2.0 */
/* Writing to the log ring: whole records, in any nesting, from many threads, when it is full. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "recovery.h"
#include "ring.h"
#include "shmalloc.h"
#include "stats.h"
#include "thread.h"

#define SMALL (UINT64_C(64) << 10) /* 16 blocks of 4 KiB: at most 4 leases */

static struct arena a;
static char why[128];

static void open_arena(uint64_t log_capacity, enum ring_policy policy)
{
	struct arena_config config = { .name = "ring",
				       .capacity = UINT64_C(32) << 20,
				       .log_capacity = log_capacity,
				       .log_policy = policy,
				       .backing = BACKING_MEMFD };
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&a, files, false), 0);
	ck_assert_int_eq(thread_attach_arena(&a), 0);
}

static void setup(void)
{
	open_arena(0, RING_OVERWRITE);
}

static void setup_small(void)
{
	open_arena(SMALL, RING_OVERWRITE);
}

static void teardown(void)
{
	ck_assert_msg(ring_valid(&a, why, sizeof(why)), "%s", why);
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

static int put(const void *data, size_t len)
{
	return ring_append(&a, self(), 6, data, len);
}

static struct ring_reader *reader(unsigned flags)
{
	struct ring_reader *r;

	self(); /* a consumer is a client */
	ck_assert_int_eq(ring_reader_open(&a, &r, flags), 0);
	return r;
}

static uint64_t extents(void)
{
	static struct shma_stats st;

	stats_arena(&a, &st);
	return st.extents;
}

/* ---- one thread ---- */

static uint64_t realtime_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

START_TEST(a_record_comes_back_whole)
{
	struct ring_reader *r = reader(RING_FROM_NOW);
	struct ring_entry e;
	uint64_t before = realtime_ns(), after;

	ck_assert_int_eq(ring_append(&a, self(), 3, "hello", 5), 0);
	after = realtime_ns();
	ck_assert_int_eq(ring_reader_next(r, &e, 1000), 1);
	ck_assert_uint_eq(e.len, 5);
	ck_assert_mem_eq(e.data, "hello", 5);
	ck_assert_int_eq(e.level, 3);
	ck_assert_int_eq(e.pid, getpid());
	ck_assert_int_eq(e.tid, gettid());
	ck_assert_uint_eq(e.seq, 1);
	ck_assert_uint_eq(e.lost, 0);
	ck_assert(!e.late);
	/* The two clocks were read one after the other, and other work may come between. */
	ck_assert_uint_ge(e.time_ns + UINT64_C(10000000000), before);
	ck_assert_uint_le(e.time_ns, after + UINT64_C(10000000000));
	ck_assert_int_eq(ring_reader_next(r, &e, 0), 0);
	ring_reader_close(r);
}
END_TEST

START_TEST(any_length_up_to_1_mib_comes_back)
{
	static const size_t lengths[] = { 0,	 1,	7,	8,	128,	4071,	 4096,	    16383,
					  16384, 16385, 65536,	65537,	262144, 1000000, 1048575, 1048576 };
	char *data = malloc(RING_RECORD_MAX + 1);
	struct ring_reader *r = reader(RING_FROM_NOW);
	struct ring_entry e;

	for (size_t i = 0; i < RING_RECORD_MAX + 1; i++)
		data[i] = (char)(i * 31 + i / 256);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		ck_assert_int_eq(put(data + 1, lengths[i]), 0);
		ck_assert_int_eq(ring_reader_next(r, &e, 100), 1);
		ck_assert_uint_eq(e.len, lengths[i]);
		ck_assert_mem_eq(e.data, data + 1, e.len);
		ck_assert_uint_eq(e.lost, 0);
	}
	ck_assert_int_eq(put(data, RING_RECORD_MAX + 1), -EMSGSIZE);
	ck_assert_int_eq(ring_append(&a, self(), 8, data, 1), -EINVAL);
	ck_assert_int_eq(ring_append(&a, self(), -1, data, 1), -EINVAL);
	ring_reader_close(r);
	free(data);
}
END_TEST

START_TEST(what_is_overwritten_is_counted_exactly)
{
	struct ring_reader *r = reader(RING_FROM_NOW);
	uint64_t got = 0, lost = 0, last = 0;
	char data[200] = { 0 };
	struct ring_entry e;
	const uint64_t total = 200000;

	for (uint64_t i = 1; i <= total; i++) {
		ck_assert_int_eq(put(data, i % sizeof(data)), 0);
		if (i % 70000 && i != total)
			continue;
		while (ring_reader_next(r, &e, 0) == 1) {
			got++;
			lost += e.lost;
			ck_assert_uint_gt(e.seq, last);
			ck_assert_uint_eq(e.seq, got + lost);
			last = e.seq;
		}
	}
	ck_assert_uint_eq(got + lost, total);
	ck_assert_uint_gt(lost, 0);
	ring_reader_close(r);
}
END_TEST

START_TEST(large_records_leave_with_their_blocks)
{
	static char data[RING_RECORD_MAX];
	uint64_t before, most = 0;

	ck_assert_int_eq(put("x", 1), 0);
	before = extents();
	for (int i = 0; i < 200; i++) {
		ck_assert_int_eq(put(data, sizeof(data)), 0);
		if (extents() - before > most)
			most = extents() - before;
	}
	ck_assert_uint_ge(most, 1);
	ck_assert_uint_le(most, 8); /* of a ring of 4 MiB */
	for (int i = 0; i < 100000; i++)
		ck_assert_int_eq(put(data, 100), 0);
	ck_assert_uint_eq(extents(), before);
}
END_TEST

/* ---- reserve ---- */

static struct ring_open open_record(size_t len)
{
	struct ring_open o;

	ck_assert_int_eq(ring_reserve(&a, self(), &o, 5, len), 0);
	return o;
}

START_TEST(a_reserve_is_invisible_until_committed)
{
	struct ring_reader *r = reader(RING_FROM_NOW);
	struct ring_open o = open_record(10);
	struct ring_entry e;

	memcpy(o.data, "0123456789", 10);
	ck_assert_int_eq(put("between", 7), 0);
	ck_assert_int_eq(ring_reader_next(r, &e, 50), 1);
	ck_assert_mem_eq(e.data, "between", 7);
	ck_assert_int_eq(ring_reader_next(r, &e, 0), 0);
	ck_assert_int_eq(ring_commit(&a, self(), &o), 0);
	ck_assert_int_eq(ring_reader_next(r, &e, 50), 1);
	ck_assert_uint_eq(e.len, 10);
	ck_assert_mem_eq(e.data, "0123456789", 10);
	ck_assert_uint_eq(e.seq, 2);
	ck_assert(!e.late);
	ck_assert_int_eq(ring_commit(&a, self(), &o), -EPERM); /* no longer anyone's */
	ring_reader_close(r);
}
END_TEST

START_TEST(an_aborted_reserve_leaves_nothing)
{
	static const size_t lengths[] = { 10, 100000 };
	struct ring_reader *r = reader(RING_FROM_NOW);
	struct ring_entry e;
	uint64_t before;

	ck_assert_int_eq(put("a", 1), 0);
	before = extents();
	for (int i = 0; i < 2; i++) {
		struct ring_open o = open_record(lengths[i]);

		memset(o.data, 1, lengths[i]);
		ck_assert_int_eq(ring_abort(&a, self(), &o), 0);
	}
	ck_assert_uint_eq(extents(), before);
	ck_assert_int_eq(put("b", 1), 0);
	ck_assert_int_eq(ring_reader_next(r, &e, 50), 1);
	ck_assert_int_eq(ring_reader_next(r, &e, 50), 1);
	ck_assert_mem_eq(e.data, "b", 1);
	ck_assert_uint_eq(e.seq, 2);
	ck_assert_uint_eq(e.lost, 0);
	ring_reader_close(r);
}
END_TEST

/* More than there are levels: the rest lies in shared blocks. */
START_TEST(many_reserves_may_be_open_at_once)
{
	enum { OPEN = 30 };
	struct ring_reader *r = reader(RING_FROM_NOW);
	struct ring_open o[OPEN];
	struct ring_entry e;

	for (int i = 0; i < OPEN; i++) {
		size_t len = i % 7 == 6 ? 50000 : 64;

		o[i] = open_record(len);
		memset(o[i].data, i, len);
		ck_assert_int_eq(put("between", 7), 0);
		ck_assert_int_eq(ring_reader_next(r, &e, 50), 1);
		ck_assert_uint_eq(e.len, 7);
	}
	for (int i = OPEN - 1; i >= 0; i--) {
		ck_assert_int_eq(i % 5 ? ring_commit(&a, self(), &o[i]) : ring_abort(&a, self(), &o[i]), 0);
		if (i % 5 == 0)
			continue;
		ck_assert_int_eq(ring_reader_next(r, &e, 50), 1);
		ck_assert_uint_eq(e.len, i % 7 == 6 ? 50000 : 64);
		ck_assert_int_eq(((char *)e.data)[e.len - 1], i);
		ck_assert_uint_eq(e.lost, 0);
	}
	ck_assert_int_eq(ring_reader_next(r, &e, 0), 0);
	ring_reader_close(r);
}
END_TEST

START_TEST(a_reserve_can_be_committed_shorter_not_longer)
{
	struct ring_reader *r = reader(RING_FROM_NOW);
	struct ring_open o = open_record(100);
	struct ring_entry e;

	o.len = 101;
	ck_assert_int_eq(ring_commit(&a, self(), &o), -EINVAL);
	o.len = 3;
	memcpy(o.data, "abc", 3);
	ck_assert_int_eq(ring_commit(&a, self(), &o), 0);
	ck_assert_int_eq(ring_reader_next(r, &e, 50), 1);
	ck_assert_uint_eq(e.len, 3);
	ring_reader_close(r);
}
END_TEST

static void *commit_elsewhere(void *arg)
{
	return (void *)(intptr_t)ring_commit(&a, self(), arg);
}

START_TEST(another_thread_or_a_child_cannot_commit)
{
	struct ring_open first = open_record(10), o[6];
	pthread_t thread;
	void *result;
	int status;
	pid_t child;

	for (int i = 0; i < 6; i++)
		o[i] = open_record(10);
	for (int i = 0; i < 6; i++) {
		ck_assert_int_eq(pthread_create(&thread, NULL, commit_elsewhere, &o[i]), 0);
		pthread_join(thread, &result);
		ck_assert_int_eq((int)(intptr_t)result, -EPERM);
	}
	child = fork();
	if (!child) {
		int ok = 1;

		for (int i = 0; i < 6; i++)
			ok &= ring_commit(&a, self(), &o[i]) == -EPERM;
		ok &= put("child", 5) == 0;
		_exit(ok ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(ring_commit(&a, self(), &first), 0);
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(ring_commit(&a, self(), &o[i]), 0);
}
END_TEST

/* ---- signals ---- */

static volatile sig_atomic_t handled;

static void log_in_handler(int signal_number)
{
	struct ring_open o;
	char text[16] = "handler";

	(void)signal_number;
	handled++;
	if (ring_append(&a, thread_peek(&a), 6, text, sizeof(text)))
		abort();
	if (handled % 3 || ring_reserve(&a, thread_peek(&a), &o, 6, sizeof(text)))
		return;
	memcpy(o.data, text, sizeof(text));
	if (ring_commit(&a, thread_peek(&a), &o))
		abort();
}

/* At any instruction of a record: nothing is torn, lost or numbered twice. */
START_TEST(a_signal_handler_may_log_in_the_middle_of_a_record)
{
	struct itimerval every = { .it_interval.tv_usec = 50, .it_value.tv_usec = 50 };
	struct sigaction action = { .sa_handler = log_in_handler, .sa_flags = SA_RESTART };
	struct ring_reader *r;
	unsigned char *seen = calloc(1, 1 << 20);
	uint64_t count = 0, most = 0, written = 0;
	char text[16] = "main";
	struct ring_entry e;

	self();
	r = reader(RING_FROM_NOW);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	while (handled < 2000 && written < 900000) {
		for (int i = 0; i < 100; i++, written++)
			ck_assert_int_eq(put(text, sizeof(text)), 0);
		while (ring_reader_next(r, &e, 0) == 1) {
			ck_assert_uint_eq(e.lost, 0);
			ck_assert_uint_eq(e.len, sizeof(text));
			ck_assert(!strcmp(e.data, "main") || !strcmp(e.data, "handler"));
			ck_assert_uint_lt(e.seq, 1 << 20);
			ck_assert_int_eq(seen[e.seq]++, 0);
			most = e.seq > most ? e.seq : most;
			count++;
		}
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	while (ring_reader_next(r, &e, 0) == 1) {
		ck_assert_int_eq(seen[e.seq]++, 0);
		most = e.seq > most ? e.seq : most;
		count++;
	}
	ck_assert_uint_eq(count, most);
	ck_assert_uint_eq(count, written + (uint64_t)handled + (uint64_t)handled / 3);
	ring_reader_close(r);
	free(seen);
}
END_TEST

/* ---- many threads ---- */

enum { THREADS = 12, EACH = 5000 };

static void *write_many(void *arg)
{
	uint64_t data[8] = { (uint64_t)(intptr_t)arg };

	for (uint64_t i = 1; i <= EACH; i++) {
		data[1] = i;
		if (put(data, 16 + i % 48))
			abort();
		if (i % 500 == 0)
			usleep(1000);
	}
	return NULL;
}

/* In a ring that bears four leases: the other threads share blocks. Nothing is lost but by overwriting, and
 * a thread's records that do come, come in order. */
START_TEST(more_threads_than_leases_share_blocks)
{
	struct ring_reader *r = reader(RING_FROM_NOW);
	uint64_t got = 0, lost = 0, last[THREADS] = { 0 };
	pthread_t threads[THREADS];
	struct ring_survey survey;
	struct ring_entry e;

	for (intptr_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_many, (void *)i), 0);
	while (ring_reader_next(r, &e, 300) == 1) {
		uint64_t data[2];

		memcpy(data, e.data, sizeof(data));
		ck_assert_uint_lt(data[0], THREADS);
		ck_assert_uint_eq(e.seq, data[1]);
		ck_assert(e.late || data[1] > last[data[0]]);
		last[data[0]] = data[1];
		got++;
		lost += e.lost;
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	while (ring_reader_next(r, &e, 0) == 1) {
		got++;
		lost += e.lost;
	}
	lost += e.lost;
	ck_assert_uint_eq(got + lost, (uint64_t)THREADS * EACH);
	ck_assert_int_eq(ring_survey(&a, &survey), 0);
	ck_assert_uint_eq(survey.written, (uint64_t)THREADS * EACH);
	ck_assert_uint_eq(survey.open - survey.shared, 0); /* all have ended */
	ring_reader_close(r);
}
END_TEST

START_TEST(leases_stay_below_what_the_ring_bears)
{
	struct ring_open o[20];
	struct ring_survey survey;

	for (int i = 0; i < 20; i++)
		o[i] = open_record(8);
	ck_assert_int_eq(ring_survey(&a, &survey), 0);
	ck_assert_uint_ge(survey.blocks, 2 * (survey.open - survey.shared) + 8);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(ring_commit(&a, self(), &o[i]), 0);
	ck_assert_int_eq(ring_survey(&a, &survey), 0);
	ck_assert_uint_eq(survey.records, 20);
}
END_TEST

/* ---- full ---- */

static void policy(enum ring_policy p)
{
	ck_assert_int_eq(ring_set_policy(&a, p), 0);
}

START_TEST(drop_says_so_and_is_counted)
{
	struct ring_reader *r = reader(RING_CONSUMER);
	uint64_t tried = 0, dropped = 0, got = 0, lost = 0;
	char data[100] = { 0 };
	struct ring_entry e;

	policy(RING_DROP);
	for (int round = 0; round < 5; round++) {
		while (dropped < 10u * (unsigned)(round + 1)) {
			int result = put(data, sizeof(data));

			ck_assert(result == 0 || result == -EAGAIN);
			tried++;
			dropped += result == -EAGAIN;
		}
		while (ring_reader_next(r, &e, 0) == 1) {
			got++;
			lost += e.lost;
		}
	}
	lost += e.lost;
	ck_assert_uint_eq(got + lost, tried);
	ck_assert_uint_eq(lost, dropped);
	ck_assert_int_eq(put(data, sizeof(data)), 0);
	ring_reader_close(r);
	/* Without a consumer nothing is full. */
	for (int i = 0; i < 10000; i++)
		ck_assert_int_eq(put(data, sizeof(data)), 0);
}
END_TEST

START_TEST(the_next_record_tells_how_many_were_dropped_before_it)
{
	struct ring_reader *r = reader(RING_CONSUMER);
	char data[100] = { 0 };
	uint64_t dropped = 0, told = 0, last = 0;
	struct ring_entry e;

	policy(RING_DROP);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned fails = 0; fails < 10 + 7 * round;) {
			int result = put(data, sizeof(data));

			ck_assert(result == 0 || result == -EAGAIN);
			fails += result == -EAGAIN;
			dropped += result == -EAGAIN;
		}
		while (ring_reader_next(r, &e, 0) == 1) {
			ck_assert_uint_eq(e.seq, last + 1 + e.dropped);
			last = e.seq;
			told += e.dropped;
		}
	}
	ck_assert_int_eq(put(data, sizeof(data)), 0);
	ck_assert_int_eq(ring_reader_next(r, &e, 1000), 1);
	ck_assert_uint_eq(e.seq, last + 1 + e.dropped);
	ck_assert_uint_eq(told + e.dropped, dropped);
	ring_reader_close(r);
}
END_TEST

static uint64_t handler_dropped;

static void drop_in_handler(int signal_number)
{
	(void)signal_number;
	handled++;
	handler_dropped += put("from the handler", 16) == -EAGAIN;
}

/* By number: 1 a record, 2 dropped, as the record behind it says. */
static void note_number(unsigned char *numbers, size_t count, const struct ring_entry *e)
{
	ck_assert_uint_lt(e->seq, count);
	ck_assert_uint_lt(e->dropped, e->seq);
	ck_assert_int_eq(numbers[e->seq], 0);
	numbers[e->seq] = 1;
	for (uint64_t n = e->seq - e->dropped; n < e->seq; n++) {
		ck_assert_int_eq(numbers[n], 0);
		numbers[n] = 2;
	}
}

/* Wherever the handler comes: taking a number, noting where dropping begins, telling of it. */
START_TEST(what_is_dropped_is_told_exactly_with_signal_handlers_too)
{
	enum { MOST = 1 << 21 };
	struct itimerval every = { .it_interval.tv_usec = 50, .it_value.tv_usec = 50 };
	struct sigaction action = { .sa_handler = drop_in_handler, .sa_flags = SA_RESTART };
	unsigned char *numbers = calloc(1, MOST);
	struct ring_reader *r = reader(RING_CONSUMER);
	uint64_t tried = 0, dropped = 0, told = 0, got = 0;
	char data[200] = { 0 };
	struct ring_entry e;

	policy(RING_DROP);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	while (handled < 2000 && tried < MOST / 2) {
		for (int i = 0; i < 60; i++, tried++)
			dropped += put(data, sizeof(data)) == -EAGAIN;
		for (int i = 0; i < 40 && ring_reader_next(r, &e, 0) == 1; i++, got++) {
			note_number(numbers, MOST, &e);
			told += e.dropped;
		}
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	for (int last = 2; last; last--) {
		while (ring_reader_next(r, &e, 0) == 1) {
			note_number(numbers, MOST, &e);
			told += e.dropped;
			got++;
		}
		ck_assert_int_eq(put(data, sizeof(data)), 0);
		tried++;
	}
	ck_assert_uint_gt(dropped, 0);
	ck_assert_uint_eq(told, dropped + handler_dropped);
	ck_assert_uint_eq(got + 1 + told, tried + (uint64_t)handled);
	ck_assert_ptr_null(memchr(numbers + 1, 0, got + told));
	ring_reader_close(r);
	free(numbers);
}
END_TEST

enum { BLOCKED = 20000 };

static void *write_blocking(void *arg)
{
	char data[100] = { 0 };

	(void)arg;
	for (int i = 0; i < BLOCKED; i++)
		if (put(data, sizeof(data)))
			abort();
	return NULL;
}

START_TEST(block_loses_nothing)
{
	struct ring_reader *r = reader(RING_CONSUMER);
	uint64_t got = 0;
	pthread_t threads[3];
	struct ring_entry e;

	policy(RING_BLOCK);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_blocking, NULL), 0);
	while (got < 3 * BLOCKED) {
		ck_assert_int_eq(ring_reader_next(r, &e, 5000), 1);
		ck_assert_uint_eq(e.lost, 0);
		got++;
	}
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ck_assert_int_eq(ring_reader_next(r, &e, 0), 0);
	ring_reader_close(r);
}
END_TEST

/* The consumer is another process; what ends the wait is done to it by the test. */
static pid_t start_consumer(void)
{
	int ready[2];
	char byte;
	pid_t child;

	ck_assert_int_eq(pipe(ready), 0);
	child = fork();
	if (!child) {
		struct ring_reader *r;

		if (thread_become_client(&a) || ring_reader_open(&a, &r, RING_CONSUMER) ||
		    write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	return child;
}

static void fill_until_blocked(pthread_t *thread)
{
	struct ring_survey before, after;

	ck_assert_int_eq(pthread_create(thread, NULL, write_blocking, NULL), 0);
	do {
		ring_survey(&a, &before);
		usleep(50000);
		ring_survey(&a, &after);
	} while (!after.written || before.written != after.written);
	ck_assert_uint_lt(after.written, BLOCKED);
}

START_TEST(a_dead_consumer_holds_nobody_up)
{
	pid_t child = start_consumer();
	struct ring_reader *r;
	pthread_t thread;

	policy(RING_BLOCK);
	fill_until_blocked(&thread);
	ck_assert_int_eq(ring_reader_open(&a, &r, RING_CONSUMER), -EBUSY);
	kill(child, SIGKILL);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	pthread_join(thread, NULL);
	ck_assert_int_eq(ring_reader_open(&a, &r, RING_CONSUMER), 0);
	ring_reader_close(r);
}
END_TEST

START_TEST(a_change_of_policy_frees_waiting_writers)
{
	pid_t child = start_consumer();
	pthread_t thread;

	policy(RING_BLOCK);
	fill_until_blocked(&thread);
	policy(RING_OVERWRITE);
	pthread_join(thread, NULL);
	kill(child, SIGKILL);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
}
END_TEST

static void *write_until_dropped(void *arg)
{
	char data[100] = { 0 };
	int result = 0;

	(void)arg;
	for (int i = 0; i < BLOCKED && !result; i++)
		result = put(data, sizeof(data));
	return (void *)(intptr_t)result;
}

START_TEST(a_waiting_writer_drops_when_told_to)
{
	pid_t child = start_consumer();
	struct ring_survey before, after;
	pthread_t thread;
	void *result;

	policy(RING_BLOCK);
	ck_assert_int_eq(pthread_create(&thread, NULL, write_until_dropped, NULL), 0);
	do {
		ring_survey(&a, &before);
		usleep(50000);
		ring_survey(&a, &after);
	} while (!after.written || before.written != after.written);
	policy(RING_DROP);
	pthread_join(thread, &result);
	ck_assert_int_eq((int)(intptr_t)result, -EAGAIN);
	ring_survey(&a, &after);
	ck_assert_uint_eq(after.dropped, 1);
	kill(child, SIGKILL);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
}
END_TEST

START_TEST(a_writer_that_dropped_waits_when_told_to)
{
	struct ring_reader *r = reader(RING_CONSUMER);
	char data[100] = { 0 };
	uint64_t last = 0, lost = 0;
	struct ring_entry e;
	pthread_t thread;

	policy(RING_DROP);
	while (put(data, sizeof(data)) == 0)
		;
	policy(RING_BLOCK);
	ck_assert_int_eq(pthread_create(&thread, NULL, write_blocking, NULL), 0);
	for (int got = 0; got < BLOCKED;) {
		ck_assert_int_eq(ring_reader_next(r, &e, 5000), 1);
		lost += e.lost;
		if (e.tid == gettid())
			continue;
		ck_assert_uint_eq(e.seq, ++last);
		got++;
	}
	pthread_join(thread, NULL);
	ck_assert_uint_eq(lost, 1);
	ring_reader_close(r);
}
END_TEST

START_TEST(a_thread_does_not_wait_for_itself)
{
	struct ring_reader *r = reader(RING_CONSUMER);
	char data[100] = { 0 };
	int result = 0;

	policy(RING_BLOCK);
	for (int i = 0; i < 10000 && !result; i++)
		result = put(data, sizeof(data));
	ck_assert_int_eq(result, -EAGAIN);
	ring_reader_close(r);
}
END_TEST

/* ---- coarse time ---- */

static void clock_is(enum clock_kind kind)
{
	ck_assert_int_eq(ring_set_clock(&a, kind), 0);
}

START_TEST(coarse_times_of_a_thread_grow_and_are_never_ahead)
{
	struct ring_reader *r = reader(RING_FROM_NOW);
	uint64_t offset = realtime_ns() - clock_now(), before, after, last = 0;
	struct ring_entry e;

	clock_is(CLOCK_KIND_COARSE);
	before = clock_now();
	for (int i = 0; i < 5000; i++)
		ck_assert_int_eq(put(&i, sizeof(i)), 0);
	after = clock_now();
	for (int i = 0; i < 5000; i++) {
		ck_assert_int_eq(ring_reader_next(r, &e, 1000), 1);
		ck_assert_int_eq(*(int *)e.data, i);
		ck_assert(!e.late);
		ck_assert_uint_gt(e.time_ns, last);
		last = e.time_ns;
		/* The clock may be set, but hardly ever is. */
		ck_assert_uint_ge(e.time_ns - offset + UINT64_C(1000000000) +
					  clock_lag(CLOCK_KIND_COARSE), before);
		ck_assert_uint_le(e.time_ns - offset, after + UINT64_C(1000000000));
	}
	ck_assert_int_eq(ring_reader_next(r, &e, 20), 0);
	ring_reader_close(r);
}
END_TEST

static void log_coarsely(int signal_number)
{
	(void)signal_number;
	handled++;
	if (ring_append(&a, thread_peek(&a), 6, "handler", 8))
		abort();
	if (handled % 7 == 0)
		ring_set_clock(&a, handled % 2 ? CLOCK_KIND_COARSE : CLOCK_KIND_EXACT);
}

/* By number, whatever the clock is, and when it changes: none is older than the one before. */
START_TEST(no_record_is_older_than_the_one_before_whatever_the_clock)
{
	enum { MOST = 1 << 20 };
	struct itimerval every = { .it_interval.tv_usec = 50, .it_value.tv_usec = 50 };
	struct sigaction action = { .sa_handler = log_coarsely, .sa_flags = SA_RESTART };
	uint64_t *times = calloc(MOST, sizeof(*times)), count = 0;
	struct ring_reader *r = reader(RING_FROM_NOW);
	char text[16] = "main";
	struct ring_entry e;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	while (handled < 2000 && count < MOST / 2) {
		for (int i = 0; i < 100; i++)
			ck_assert_int_eq(put(text, sizeof(text)), 0);
		while (ring_reader_next(r, &e, 0) == 1) {
			ck_assert_uint_lt(e.seq, MOST);
			ck_assert_uint_eq(e.lost, 0);
			times[e.seq] = e.time_ns;
			count++;
		}
	}
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	while (ring_reader_next(r, &e, 0) == 1) {
		times[e.seq] = e.time_ns;
		count++;
	}
	ck_assert_uint_gt(count, 2000);
	for (uint64_t n = 2; n <= count; n++)
		ck_assert_msg(times[n] >= times[n - 1], "record %llu", (unsigned long long)n);
	ring_reader_close(r);
	free(times);
}
END_TEST

static void *write_coarsely(void *arg)
{
	(void)arg;
	for (int i = 0; i < BLOCKED; i++)
		if (put(&i, sizeof(i)))
			abort();
	return NULL;
}

#define GRAIN_NS 4096 /* of the order among threads between two ticks */

/* Of several threads none comes before its own earlier ones, and what comes is in order of time, as far as a coarse
 * one says which was first. */
START_TEST(coarse_records_of_many_threads_come_in_order)
{
	struct ring_reader *r = reader(RING_CONSUMER);
	uint64_t last[4] = { 0 }, time = 0;
	pthread_t threads[3];
	pid_t tids[4] = { 0 };
	struct ring_entry e;

	policy(RING_BLOCK);
	clock_is(CLOCK_KIND_COARSE);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_coarsely, NULL), 0);
	for (int got = 0; got < 3 * BLOCKED; got++) {
		int t = 0;

		ck_assert_int_eq(ring_reader_next(r, &e, 5000), 1);
		while (tids[t] && tids[t] != e.tid)
			t++;
		ck_assert_int_lt(t, 3);
		tids[t] = e.tid;
		ck_assert(e.late || e.time_ns + GRAIN_NS > time);
		time = e.time_ns > time ? e.time_ns : time;
		ck_assert(e.late || e.seq > last[t]);
		last[t] = e.seq > last[t] ? e.seq : last[t];
	}
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ring_reader_close(r);
}
END_TEST

#define ROUNDS 2000

/* Records open on every level, and others meanwhile, which go to further levels and to shared blocks. */
static void write_on_all_levels(void)
{
	struct ring_open open[RING_LEVELS];
	int n = 0;

	for (int i = 0; i < (int)RING_LEVELS; i++) {
		n += !ring_reserve(&a, self(), &open[n], 6, 8);
		if (put("between", 7))
			abort();
	}
	for (int i = 0; i < n; i++)
		if (put("between", 7) || ring_commit(&a, self(), &open[i]))
			abort();
	for (int i = n; i < (int)RING_LEVELS; i++)
		if (put("between", 7) || put("instead", 7))
			abort();
}

static void *write_on_all_levels_coarsely(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++)
		write_on_all_levels();
	return NULL;
}

START_TEST(coarse_records_of_a_thread_come_in_order_from_all_its_blocks)
{
	struct ring_reader *r = reader(RING_CONSUMER);
	uint64_t last[3] = { 0 };
	pthread_t threads[2];
	pid_t tids[3] = { 0 };
	struct ring_entry e;

	policy(RING_BLOCK);
	clock_is(CLOCK_KIND_COARSE);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_on_all_levels_coarsely, NULL), 0);
	for (int got = 0; got < 2 * 3 * ROUNDS * (int)RING_LEVELS; got++) {
		int t = 0;

		ck_assert_int_eq(ring_reader_next(r, &e, got % 2 ? 0 : 5000) ||
				 ring_reader_next(r, &e, 5000), 1);
		while (tids[t] && tids[t] != e.tid)
			t++;
		ck_assert_int_lt(t, 2);
		tids[t] = e.tid;
		ck_assert(e.late || e.seq > last[t]);
		last[t] = e.seq > last[t] ? e.seq : last[t];
		ck_assert_uint_eq(e.lost, 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_uint_eq(last[i], 3 * ROUNDS * RING_LEVELS);
	}
	ring_reader_close(r);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ring");
	TCase *one = tcase_create("one"), *small = tcase_create("small");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(one, setup, teardown);
	tcase_set_timeout(one, 60);
	tcase_add_test(one, a_record_comes_back_whole);
	tcase_add_test(one, any_length_up_to_1_mib_comes_back);
	tcase_add_test(one, what_is_overwritten_is_counted_exactly);
	tcase_add_test(one, large_records_leave_with_their_blocks);
	tcase_add_test(one, a_reserve_is_invisible_until_committed);
	tcase_add_test(one, an_aborted_reserve_leaves_nothing);
	tcase_add_test(one, many_reserves_may_be_open_at_once);
	tcase_add_test(one, a_reserve_can_be_committed_shorter_not_longer);
	tcase_add_test(one, another_thread_or_a_child_cannot_commit);
	tcase_add_test(one, a_signal_handler_may_log_in_the_middle_of_a_record);
	tcase_add_test(one, coarse_times_of_a_thread_grow_and_are_never_ahead);
	tcase_add_test(one, no_record_is_older_than_the_one_before_whatever_the_clock);
	suite_add_tcase(suite, one);
	tcase_add_checked_fixture(small, setup_small, teardown);
	tcase_set_timeout(small, 60);
	tcase_add_test(small, more_threads_than_leases_share_blocks);
	tcase_add_test(small, leases_stay_below_what_the_ring_bears);
	tcase_add_test(small, drop_says_so_and_is_counted);
	tcase_add_test(small, the_next_record_tells_how_many_were_dropped_before_it);
	tcase_add_test(small, what_is_dropped_is_told_exactly_with_signal_handlers_too);
	tcase_add_test(small, block_loses_nothing);
	tcase_add_test(small, a_dead_consumer_holds_nobody_up);
	tcase_add_test(small, a_change_of_policy_frees_waiting_writers);
	tcase_add_test(small, a_waiting_writer_drops_when_told_to);
	tcase_add_test(small, a_writer_that_dropped_waits_when_told_to);
	tcase_add_test(small, a_thread_does_not_wait_for_itself);
	tcase_add_test(small, coarse_records_of_many_threads_come_in_order);
	tcase_add_test(small, coarse_records_of_a_thread_come_in_order_from_all_its_blocks);
	suite_add_tcase(suite, small);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
