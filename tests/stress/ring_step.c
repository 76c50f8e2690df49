/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_step [ROUNDS [SEED]]: a process is single-stepped through an operation on the ring and killed after
 * a random number of instructions; half of the time its recoverer is stepped and killed, too. Then another
 * recovers, and the ring must be valid, the arena whole, no lease left, and each record that a patient
 * reader did not get be counted as lost.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_file.h"
#include "audit.h"
#include "client.h"
#include "recovery.h"
#include "ring.h"
#include "thread.h"

#include "../seed.h"

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s (round %d, %s)\n", __FILE__, __LINE__,          \
				#condition, round_number, what);                                   \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static struct arena a;
static unsigned seed;
static int round_number;
static const char *what = "start";
static char data[20000]; /* blocks are of 4 KiB: above 1 KiB a record is large */

static void put(size_t len)
{
	MUST(ring_append(&a, thread_peek(&a), 6, data, len) == 0);
}

static struct ring_open reserve(size_t len)
{
	struct ring_open o;

	MUST(ring_reserve(&a, thread_peek(&a), &o, 6, len) == 0);
	return o;
}

/* ---- what is stepped through; the first half is not ---- */

static void here(void)
{
	raise(SIGSTOP);
}

static void fast_append(void)
{
	put(20);
	here();
	put(20);
}

/* Takes a block that refers to extents. */
static void lease(void)
{
	for (int i = 0; i < 20; i++) {
		put(2000);
		put(900);
		put(900);
	}
	here();
	for (int i = 0; i < 8; i++)
		put(1000);
}

static void large_append(void)
{
	for (int i = 0; i < 8; i++)
		put(9000);
	here();
	put(9000);
}

static void shared_append(void)
{
	for (int i = 0; i < 6; i++)
		reserve(30);
	here();
	put(30);
	put(3000);
}

static void shared_lease(void)
{
	for (int i = 0; i < 40; i++)
		reserve(i < 6 ? 30 : 500);
	here();
	for (int i = 0; i < 12; i++)
		put(900);
}

static void reserve_and_commit(void)
{
	struct ring_open small, large, dropped, shared;

	put(10);
	here();
	small = reserve(100);
	large = reserve(5000);
	dropped = reserve(5000);
	put(1);
	shared = reserve(7000);
	MUST(ring_commit(&a, thread_peek(&a), &large) == 0);
	MUST(ring_abort(&a, thread_peek(&a), &dropped) == 0);
	MUST(ring_commit(&a, thread_peek(&a), &small) == 0);
	MUST(ring_commit(&a, thread_peek(&a), &shared) == 0);
}

static void end_thread(void)
{
	reserve(5000);
	put(5);
	here();
	ring_thread_exit(&a, thread_peek(&a));
}

static void consume(void)
{
	struct ring_reader *r;
	struct ring_entry e;

	put(10);
	put(5000);
	here();
	MUST(ring_reader_open(&a, &r, RING_CONSUMER) == 0);
	for (int i = 0; i < 3; i++)
		MUST(ring_reader_next(r, &e, 0) >= 0);
	ring_reader_close(r);
}

static const struct {
	const char *name;
	void (*run)(void);
} operations[] = {
	{ "append", fast_append },     { "lease", lease },
	{ "large append", large_append }, { "shared append", shared_append },
	{ "shared lease", shared_lease }, { "reserve and commit", reserve_and_commit },
	{ "thread end", end_thread },     { "consume", consume },
};
enum { OPERATIONS = sizeof(operations) / sizeof(*operations) };

/* ---- stepping ---- */

static pid_t start(void (*run)(void))
{
	int status;
	pid_t child = fork();

	if (!child) {
		int err;

		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) || !thread_self(&a, &err))
			_exit(2);
		run();
		_exit(0);
	}
	do {
		MUST(waitpid(child, &status, 0) == child);
		MUST(WIFSTOPPED(status));
		if (WSTOPSIG(status) != SIGSTOP)
			ptrace(PTRACE_CONT, child, NULL, (long)WSTOPSIG(status));
	} while (WSTOPSIG(status) != SIGSTOP);
	return child;
}

/* Kills it after so many instructions, or lets it come to its end; how many there were. */
static long step(pid_t child, long instructions)
{
	int status;
	long done;

	for (done = 0; done < instructions; done++) {
		MUST(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
		MUST(waitpid(child, &status, 0) == child);
		if (WIFEXITED(status)) {
			MUST(WEXITSTATUS(status) == 0);
			return done;
		}
		MUST(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
	}
	kill(child, SIGKILL);
	MUST(waitpid(child, &status, 0) == child);
	return done;
}

static void recover(void)
{
	here();
	recovery_reap_all(&a);
}

/* ---- the account ---- */

static void report(void *context, const struct audit_finding *finding)
{
	(void)context;
	fprintf(stderr, "audit: %s\n", finding->text);
}

static void check(struct ring_reader *r, uint64_t *accounted)
{
	struct ring_survey survey;
	struct ring_entry e;
	char why[128];

	if (!ring_valid(&a, why, sizeof(why))) {
		fprintf(stderr, "%s\n", why);
		MUST(!"ring_valid");
	}
	MUST(ring_survey(&a, &survey) == 0);
	MUST(survey.open == survey.shared);
	MUST(survey.consumer == 0);
	while (ring_reader_next(r, &e, 0) == 1)
		*accounted += 1 + e.lost;
	MUST(*accounted + e.lost == survey.written);
	MUST(audit_arena(&a, false, report, NULL) == 0);
}

static long range(long most)
{
	return rand_r(&seed) % (most + 1);
}

int main(int argc, char **argv)
{
	struct arena_config config = { .name = "ringstep",
				       .capacity = UINT64_C(16) << 20,
				       .log_capacity = UINT64_C(64) << 10,
				       .backing = BACKING_MEMFD };
	int rounds = argc > 1 ? atoi(argv[1]) : 30;
	long most[OPERATIONS + 1];
	struct arena_files files;
	struct ring_reader *r;
	uint64_t accounted = 0;

	seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : (unsigned)test_seed(NULL);
	MUST(arena_create(&config, &files) == 0);
	MUST(arena_map(&a, files, false) == 0);
	MUST(thread_attach_arena(&a) == 0);
	MUST(thread_become_client(&a) == 0);
	MUST(ring_reader_open(&a, &r, RING_FROM_OLDEST) == 0);
	for (int i = 0; i < OPERATIONS; i++) {
		what = operations[i].name;
		most[i] = step(start(operations[i].run), 1000000);
		recovery_reap_all(&a);
		check(r, &accounted);
	}
	step(start(lease), 100);
	what = "recovery";
	most[OPERATIONS] = step(start(recover), 1000000);
	for (round_number = 1; round_number <= rounds; round_number++) {
		int i = (int)range(OPERATIONS - 1);

		what = operations[i].name;
		step(start(operations[i].run), range(most[i]));
		if (range(1))
			step(start(recover), range(most[OPERATIONS]));
		recovery_reap_all(&a);
		check(r, &accounted);
	}
	for (int i = 0; i < OPERATIONS; i++)
		printf("%s: %ld instructions\n", operations[i].name, most[i]);
	printf("recovery: %ld; %llu records accounted for\n", most[OPERATIONS],
	       (unsigned long long)accounted);
	ring_reader_close(r);
	return EXIT_SUCCESS;
}
