/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon_peak NAME FILE order|random|churn|short log|small|BYTES MIB : a client that has a peak, frees nine of ten
 * objects, in order of allocation or at random, and looks how the arena's file shrinks. Then it has the peak
 * again. churn: again and again, as soon as the file begins to shrink, and looks after its bytes only.
 *
 * short: another client takes so much that less than a sixteenth of the arena is left; then this one's caches
 * are emptied.
 *
 * In order: to within 10 % of what is live. At random: of the pages that hold something live, which it
 * knows from its own pointers.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shmalloc.h"

#include "../seed.h"

#define PAGE 4096u
#define PATIENCE_S 100
#define CHURN_S	   4.0
#define CHURNS	   12
#define MAP_LEAST (8u << 20) /* two zones in use that have hardly begun */

struct thing {
	shma_handle handle;
	uint64_t bytes; /* as asked for */
};

static shma *arena;
static const char *file;
static struct thing *things;
static uint64_t count, room;
static uint64_t state;

static void fail(const char *what, int err)
{
	fprintf(stderr, "daemon_peak: %s: %s\n", what, shma_strerror(err));
	exit(1);
}

static uint64_t next_random(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * UINT64_C(0x2545f4914f6cdd1d)) >> 16;
}

static uint64_t resident(void)
{
	struct stat st;

	if (stat(file, &st))
		fail(file, errno);
	return (uint64_t)st.st_blocks * 512;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- objects ---- */

/* A log server's: most are lines, some are pages, few are blocks. */
static uint64_t next_size(const char *mix)
{
	uint64_t dice = next_random() % 100;

	if (!strcmp(mix, "small"))
		return 16 + next_random() % 1009;
	if (strcmp(mix, "log"))
		return strtoull(mix, NULL, 10);
	return dice < 90 ? 100 + next_random() % 401 : dice < 98 ? 4096 : 1 << 20;
}

static uint64_t stamp_of(const struct thing *t)
{
	return t->handle * UINT64_C(0x9e3779b97f4a7c15) ^ t->bytes;
}

static void make(uint64_t bytes)
{
	struct thing t = { .bytes = bytes };
	uint64_t *p;

	if (count == room) {
		room = room ? room * 2 : 65536;
		things = realloc(things, room * sizeof(*things));
		if (!things)
			fail("memory", ENOMEM);
	}
	p = shma_alloc_ptr(arena, bytes, 0, &t.handle);
	if (!p)
		fail("alloc", errno);
	memset(p, 0x5a, bytes);
	p[0] = p[bytes / 8 - 1] = stamp_of(&t);
	things[count++] = t;
}

static void check(const struct thing *t)
{
	const uint64_t *p = shma_ptr(arena, t->handle);

	if (!p || p[0] != stamp_of(t) || p[t->bytes / 8 - 1] != stamp_of(t)) {
		fprintf(stderr, "daemon_peak: object %#llx is not as it was\n", (unsigned long long)t->handle);
		exit(1);
	}
}

static void drop(const struct thing *t)
{
	int r;

	check(t);
	r = shma_free(arena, t->handle);
	if (r)
		fail("free", r);
}

static void have_peak(const char *mix, uint64_t bytes)
{
	for (uint64_t sum = 0, size; sum < bytes; sum += size) {
		size = next_size(mix);
		make(size);
	}
}

/* One of ten stays: the last ones, or any. */
static void free_most(bool in_order)
{
	uint64_t kept = 0, first = count / 10 * 9;

	for (uint64_t i = 0; i < count; i++) {
		if (in_order ? i < first : next_random() % 10)
			drop(&things[i]);
		else
			things[kept++] = things[i];
	}
	count = kept;
}

/* ---- bounds ---- */

static uint64_t live_bytes(void)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < count; i++)
		sum += shma_size(arena, things[i].handle);
	return sum;
}

static double mib(uint64_t bytes)
{
	return (double)bytes / (1 << 20);
}

static struct shma_stats stats(void)
{
	struct shma_stats st;
	int r = shma_stats(arena, &st);

	if (r)
		fail("stats", r);
	return st;
}

/* By the pages' numbers in this mapping. */
static uint64_t live_page_bytes(void)
{
	uint8_t *seen;
	uint64_t pages = 0, low = UINT64_MAX;

	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = (uint64_t)shma_ptr(arena, things[i].handle) / PAGE;

		low = at < low ? at : low;
	}
	seen = calloc(stats().capacity_bytes / PAGE + 1, 1);
	for (uint64_t i = 0; seen && i < count; i++) {
		uint64_t at = (uint64_t)shma_ptr(arena, things[i].handle);
		uint64_t last = (at + shma_size(arena, things[i].handle) - 1) / PAGE;

		for (uint64_t page = at / PAGE; page <= last; page++) {
			pages += !seen[page - low];
			seen[page - low] = 1;
		}
	}
	free(seen);
	return pages * PAGE;
}

/*
 * What is resident of objects, though only some are live: without the state blocks, which are there to stay,
 * and what the thread keeps ready, which is its own. The map of the zones that were ever used is there to
 * stay as well: 16 bytes a page, and with its index and marks less than two a hundred of the peak.
 */
static uint64_t resident_of_objects(uint64_t base, uint64_t peak)
{
	uint64_t map = peak / 50 + MAP_LEAST, there = resident() - base;
	struct shma_stats st = stats();

	/* The arena's own count goes before its file. */
	if (there > st.committed_bytes + map)
		return there;
	return st.committed_bytes - st.state_bytes - st.cached_bytes;
}

/* Waits until the file has come down to so much. */
static void await(const char *what, uint64_t base, uint64_t due, uint64_t peak)
{
	struct timespec pause = { .tv_nsec = 50000000 };
	uint64_t there = resident_of_objects(base, peak);
	double start = now();

	while (there > due + due / 10 && now() - start < PATIENCE_S) {
		nanosleep(&pause, NULL);
		there = resident_of_objects(base, peak);
	}
	printf("%s: %.1f MiB due, %.1f there, after %.1f s; %.1f resident in all\n", what, mib(due), mib(there),
	       now() - start, mib(resident() - base));
	fflush(stdout);
	if (there > due + due / 10)
		exit(1);
}

/* Until the purger is at work. */
static void await_shrinking(void)
{
	struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t least = resident();
	double start = now();

	while (resident() + (1 << 20) > least && now() - start < CHURN_S)
		nanosleep(&pause, NULL);
}

static void check_all(void)
{
	for (uint64_t i = 0; i < count; i++)
		check(&things[i]);
}

static void churn(const char *mix, uint64_t bytes)
{
	for (int i = 0; i < CHURNS; i++) {
		have_peak(mix, bytes);
		check_all();
		free_most(i % 2);
		await_shrinking();
	}
	check_all();
}

/* ---- when memory is short ---- */

#define READY	   200
#define READY_EACH 1000u
#define SHORT_S	   3.0

/* Slow calls, of one class: they leave the caches of others alone. */
static void call_slowly(void)
{
	static shma_handle some[2000];
	int r = 0;

	for (int i = 0; i < 2000; i++)
		if (!(some[i] = shma_alloc(arena, 16, 0)))
			fail("alloc", errno);
	for (int i = 0; i < 2000 && !r; i++)
		r = shma_free(arena, some[i]);
	if (r)
		fail("free", r);
}

/* Calls until the caches hold less than this, or so long. */
static uint64_t call_until(uint64_t least, double seconds)
{
	struct timespec pause = { .tv_nsec = 20000000 };
	double start = now();

	do {
		call_slowly();
		nanosleep(&pause, NULL);
	} while (stats().cached_bytes >= least && now() - start < seconds);
	return stats().cached_bytes;
}

static void take_nearly_all(void)
{
	uint64_t most = stats().capacity_bytes / 32 * 31;

	while (stats().live_bytes < most)
		make(65536);
}

/* The other takes its memory when told to, and keeps it until it is killed. */
static pid_t start_taker(int *tell)
{
	int pipes[2];
	pid_t pid;

	if (pipe(pipes))
		fail("pipe", errno);
	pid = fork();
	if (pid < 0)
		fail("fork", errno);
	if (pid == 0) {
		char c;

		close(pipes[1]);
		if (read(pipes[0], &c, 1) == 1)
			take_nearly_all();
		pause();
		_exit(0);
	}
	close(pipes[0]);
	*tell = pipes[1];
	return pid;
}

static void run_short(void)
{
	int tell, status;
	pid_t taker = start_taker(&tell);
	uint64_t ready, there;

	for (int i = 0; i < READY; i++)
		make(READY_EACH);
	free_most(true);
	call_slowly();
	ready = stats().cached_bytes;
	there = call_until(ready / 2, SHORT_S);
	printf("%llu bytes ready, %llu after %.0f s\n", (unsigned long long)ready, (unsigned long long)there, SHORT_S);
	if (ready < READY_EACH || there < ready / 2)
		fail("emptied without need", 0);
	if (write(tell, "", 1) != 1)
		fail("write", errno);
	there = call_until(ready / 2, PATIENCE_S);
	printf("%llu bytes when memory is short\n", (unsigned long long)there);
	kill(taker, SIGKILL);
	waitpid(taker, &status, 0);
	if (there >= ready / 2)
		fail("kept though memory is short", 0);
}

int main(int argc, char **argv)
{
	bool in_order;
	uint64_t base, bytes;
	int r;

	if (argc != 6)
		return 2;
	file = argv[2];
	in_order = !strcmp(argv[3], "order");
	bytes = strtoull(argv[5], NULL, 10) << 20;
	printf("%s, %s: ", argv[3], argv[4]);
	state = test_seed(NULL) * 2 + 1;
	r = shma_open(&arena, argv[1], 0, NULL);
	if (r)
		fail("open", r);
	base = resident();
	if (!strcmp(argv[3], "churn")) {
		churn(argv[4], bytes);
		return 0;
	}
	if (!strcmp(argv[3], "short")) {
		run_short();
		return 0;
	}
	have_peak(argv[4], bytes);
	printf("peak: %.1f MiB live, %.1f resident\n", mib(live_bytes()), mib(resident() - base));
	free_most(in_order);
	await("nine of ten freed", base, in_order ? live_bytes() : live_page_bytes(), bytes);
	check_all();
	have_peak(argv[4], bytes);
	check_all();
	free_most(in_order);
	await("once more", base, in_order ? live_bytes() : live_page_bytes(), bytes);
	check_all();
	return 0;
}
