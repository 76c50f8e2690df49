/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purge.c - what a running client loses while another's memory is given back. One process replaces objects
 * at random; another has freed a peak of pages and of objects in slabs, and purges it by turns: for some
 * milliseconds at about 1 GiB/s, for as long not at all. A program of its own, started by work_purge.c: it purges as the daemon does, but when it is told.
 *
 * The client notes the ns of each batch; those of turns with and without purging are compared by their
 * medians, so that a batch which lost its processor to somebody else does not count. Then the rate alone.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "attach.h"
#include "purge.h"
#include "shmalloc.h"

#define MIB UINT64_C(1048576)
#define SLOTS 4096u
#define BATCH 2000u
#define BATCHES_MAX 400000u
#define TURN_NS UINT64_C(20000000)
#define RATE 1.073741824 /* bytes a ns: 1 GiB/s */

/* What the two share. turn: 0 nothing is purged, 1 it is, 2 between turns, 3 the end. */
struct board {
	_Atomic int turn;
	_Atomic uint32_t count[2];
	double ns[2][BATCHES_MAX];
};

static struct board *board;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * UINT64_C(0x2545f4914f6cdd1d) >> 20;
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double median(double *values, uint32_t n)
{
	qsort(values, n, sizeof(*values), by_value);
	return n ? values[n / 2] : 0;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void give_up(const char *what, int err)
{
	fprintf(stderr, "purge: %s: %s\n", what, shma_strerror(err));
	exit(1);
}

/* ---- the client ---- */

static void replace(shma *a, void **slots, uint64_t *random)
{
	for (uint32_t i = 0; i < BATCH; i++) {
		uint32_t slot = next_random(random) % SLOTS;

		if (slots[slot])
			shma_free_ptr(a, slots[slot]);
		slots[slot] = shma_alloc_ptr(a, 16 + next_random(random) % 1009, 0, NULL);
		if (!slots[slot])
			give_up("alloc", errno);
		*(char *)slots[slot] = 1;
	}
}

static int client(shma *a)
{
	static void *slots[SLOTS];
	uint64_t random = 0x9e3779b97f4a7c15u;
	int turn;

	pin(0);
	for (int i = 0; i < 200; i++)
		replace(a, slots, &random);
	while ((turn = atomic_load(&board->turn)) != 3) {
		uint64_t from = now_ns();
		uint32_t n;

		replace(a, slots, &random);
		/* Only a batch that lies all in one turn. */
		if (turn > 1 || atomic_load(&board->turn) != turn)
			continue;
		n = atomic_load(&board->count[turn]);
		if (n < BATCHES_MAX) {
			board->ns[turn][n] = (double)(now_ns() - from) / BATCH;
			atomic_store(&board->count[turn], n + 1);
		}
	}
	return 0;
}

/* ---- the other, and the purger ---- */

/* An eighth of it is objects in slabs, of which every tenth stays to the end. */
static void have_peak(shma *a, uint64_t bytes)
{
	uint64_t pages = bytes / 8 * 7 / MIB / 2, small = bytes / 8 / 2048;
	void **objects = malloc((pages + small) * sizeof(*objects));

	if (!objects)
		give_up("memory", ENOMEM);
	for (uint64_t i = 0; i < pages + small; i++) {
		uint64_t size = i < pages ? 2 * MIB : 2048;

		objects[i] = shma_alloc_ptr(a, size, i < pages ? SHMA_LARGE : 0, NULL);
		if (!objects[i])
			give_up("peak", errno);
		memset(objects[i], 1, size);
	}
	for (uint64_t i = 0; i < pages + small; i++)
		if (i < pages || i % 10)
			shma_free_ptr(a, objects[i]);
	free(objects);
}

/* Purges for one turn, no faster than the rate. Whether the round goes on. */
static bool purge_turn(struct purge *p, struct arena *a, uint64_t *bytes)
{
	uint64_t from = now_ns(), done = 0;
	bool more = true;

	while (more && now_ns() - from < TURN_NS) {
		if ((double)done > (double)(now_ns() - from) * RATE)
			continue;
		more = purge_gather(p, a);
		done += purge_punch(p, a);
		purge_settle(p, a);
	}
	*bytes += done;
	return more;
}

static void wait_turn(int turn)
{
	struct timespec turn_time = {.tv_nsec = (long)TURN_NS};

	atomic_store(&board->turn, turn);
	nanosleep(&turn_time, NULL);
}

/* Peak after peak, given back by turns, for so long. */
static void purge_by_turns(struct arena *a, shma *s, uint64_t peak, double seconds)
{
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), bytes = 0, ns = 0;
	struct purge p = {0};

	do {
		bool more = true;

		atomic_store(&board->turn, 2);
		have_peak(s, peak);
		purge_round(&p, a);
		while (more) {
			uint64_t from;

			wait_turn(0);
			from = now_ns();
			atomic_store(&board->turn, 1);
			more = purge_turn(&p, a, &bytes);
			ns += now_ns() - from;
		}
	} while (now_ns() < end);
	atomic_store(&board->turn, 2);
	printf("purged %.3f\n", (double)bytes / (double)ns / RATE);
}

/* GiB/s of a purger that does not wait. */
static double purge_rate(struct arena *a, shma *s, uint64_t peak)
{
	struct purge p = {0};
	uint64_t from, bytes;

	have_peak(s, peak);
	purge_round(&p, a);
	from = now_ns();
	bytes = purge_round(&p, a);
	return (double)bytes / (double)(now_ns() - from) / RATE;
}

static int measure(const char *name, uint64_t peak, double seconds)
{
	struct shma_options opt = {.struct_size = sizeof(opt), .capacity = 8 * peak, .log_capacity = 65536};
	double idle, busy;
	char path[200];
	int status, r;
	pid_t pid;
	shma *s;

	r = arena_path(path, sizeof(path), name);
	if (!r)
		r = shma_open(&s, name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &opt);
	if (r)
		give_up("create", r);
	arena_unlink(path);
	pid = fork();
	if (pid == 0)
		_exit(client(s));
	pin(1);
	purge_by_turns(&s->arena, s, peak, seconds);
	atomic_store(&board->turn, 3);
	if (waitpid(pid, &status, 0) != pid || status)
		return 1;
	idle = median(board->ns[0], board->count[0]);
	busy = median(board->ns[1], board->count[1]);
	if (!board->count[0] || !board->count[1])
		return 1;
	printf("idle %.4f\nbusy %.4f\nloss %.3f\nrate %.3f\n", idle, busy, 100 * (busy / idle - 1),
	       purge_rate(&s->arena, s, peak));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		return 1;
	return measure(argv[1], argc > 3 && !strcmp(argv[3], "tiny") ? 32 * MIB : 512 * MIB, strtod(argv[2], NULL));
}
