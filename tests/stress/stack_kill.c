/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes of several threads use temporary memory: nested scopes, marks, what goes to the heap instead, threads that
 * end; and look at one another's. One after the other is killed, or stopped for a while, at any instruction, and
 * replaced. Every object bears its own handle in each of its words: an owner always finds what it wrote, and others
 * find that or nothing. When all is over no region is left, no object and no page.
 *
 * STRESS_SECONDS: how long (default 4). SHMA_TEST_SEED repeats a run's choices, though not its instants.
 */
#include <pthread.h>

#include "../unit/heap.h"
#include "stack.h"

#define WORKERS 3
#define THREADS 2
#define SLOTS	32
#define HERE	12 /* objects of one scope at most */

static shma *heap;
static struct board *board; /* numbers: slots with handles to be looked at */

/* A check that failed is the worker's exit status. */
#define REQUIRE(condition)                                                                          \
	do {                                                                                        \
		if (!(condition)) {                                                                 \
			fprintf(stderr, "stack_kill.c:%d: %s (errno %d)\n", __LINE__, #condition,   \
				errno);                                                             \
			_exit(1);                                                                   \
		}                                                                                   \
	} while (0)

/* Each thread's own. */
static __thread uint64_t chance;

static uint64_t below_n(uint64_t n)
{
	chance ^= chance >> 12;
	chance ^= chance << 25;
	chance ^= chance >> 27;
	return (chance * UINT64_C(0x2545f4914f6cdd1d) >> 16) % n;
}

static size_t some_size(void)
{
	switch (below_n(30)) {
	case 0: return 20000 + below_n(200000);
	case 1: return 4000 + below_n(12000);
	default: return 8 + below_n(500);
	}
}

static bool stamped(const uint64_t *p, uint64_t words, shma_handle h)
{
	for (uint64_t i = 0; i < words; i += i % 512 > 16 ? 61 : 1)
		if (p[i] != h)
			return false;
	return true;
}

static void stamp(shma_handle h)
{
	uint64_t *p = shma_ptr(heap, h), words = shma_size(heap, h) / 8;

	REQUIRE(p && words);
	for (uint64_t i = 0; i < words; i++)
		p[i] = h;
}

/* Somebody's, who may be gone by now, or at work on something else there. */
static void look_at_another(void)
{
	shma_handle h = atomic_load(&board->numbers[below_n(SLOTS)]);
	uint64_t copy[64];
	ssize_t n;

	if (!h)
		return;
	n = shma_read(heap, h, 0, copy, sizeof(copy));
	REQUIRE(n == -ESTALE || n > 0);
	if (n > 0)
		REQUIRE(stamped(copy, (uint64_t)n / 8, h));
}

static void offer(shma_handle h)
{
	atomic_store(&board->numbers[below_n(SLOTS)], h);
}

static uint32_t take_some(shma_handle *here)
{
	uint32_t n = 0, want = (uint32_t)below_n(HERE);

	while (n < want) {
		shma_handle h = below_n(3) ? shma_stack_alloc(heap, some_size())
					   : shma_alloc(heap, some_size(), SHMA_TEMP);

		if (!h) {
			REQUIRE(errno == ENOMEM);
			break;
		}
		stamp(h);
		here[n++] = h;
	}
	return n;
}

static void all_there(const shma_handle *here, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		REQUIRE(stamped(shma_ptr(heap, here[i]), shma_size(heap, here[i]) / 8, here[i]));
}

static void all_stale(const shma_handle *here, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		REQUIRE(!shma_ptr(heap, here[i]) && errno == ESTALE);
}

static void reset_within(void)
{
	shma_handle here[HERE];
	shma_mark mark = shma_stack_mark(heap);
	uint32_t n = 0;

	while (n < below_n(HERE)) {
		here[n] = shma_stack_alloc(heap, some_size());
		if (!here[n])
			break;
		stamp(here[n++]);
	}
	all_there(here, n);
	shma_stack_reset(heap, mark);
	all_stale(here, n);
}

static void deep(uint32_t depth)
{
	shma_handle here[HERE];
	uint32_t n = 0;

	SHMA_STACK_SCOPE(heap) {
		n = take_some(here);
		if (n)
			offer(here[below_n(n)]);
		look_at_another();
		for (uint64_t i = below_n(3); i && depth; i--)
			deep(depth - 1);
		if (below_n(2))
			reset_within();
		all_there(here, n);
		if (n && below_n(2)) {
			REQUIRE(shma_free(heap, here[--n]) == 0);
			REQUIRE(shma_free(heap, here[n]) == -ESTALE);
		}
		atomic_fetch_add_explicit(&board->count, n, memory_order_relaxed);
	}
	all_stale(here, n);
}

/* Some end with much in use, where the destructor has to give it back. */
static void *thread(void *arg)
{
	chance = *(uint64_t *)arg;
	for (uint64_t i = 1 + below_n(30); i && !atomic_load(&board->stop); i--)
		deep(6);
	for (uint64_t i = below_n(40); i; i--)
		if (shma_stack_alloc(heap, some_size()) == SHMA_NULL)
			REQUIRE(errno == ENOMEM);
	return NULL;
}

static int work(void *arg)
{
	uint64_t seeds[THREADS];
	pthread_t threads[THREADS];

	chance = *(uint64_t *)arg ^ (uint64_t)getpid() << 20;
	while (!atomic_load(&board->stop)) {
		for (int i = 0; i < THREADS; i++) {
			seeds[i] = below_n(UINT64_MAX) | 1;
			REQUIRE(pthread_create(&threads[i], NULL, thread, &seeds[i]) == 0);
		}
		for (int i = 0; i < THREADS; i++)
			REQUIRE(pthread_join(threads[i], NULL) == 0);
		recovery_reap_all(&heap->arena);
	}
	return 0;
}

/* ---- the others ---- */

static pid_t pids[WORKERS];

static void start(int i)
{
	uint64_t seed = heap_random() | 1;

	pids[i] = child_start(work, &seed);
}

/* A killed one has no say; one that ended by itself has met what must not be. */
static void kill_one(void)
{
	int i = (int)heap_below(WORKERS), status;

	if (heap_below(4) == 0) { /* stopped first, so that the others live with it a while */
		kill(pids[i], SIGSTOP);
		usleep((useconds_t)heap_below(10000));
	}
	kill(pids[i], SIGKILL);
	ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		      "a worker ended with wait status %#x", status);
	start(i);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t pages_that_stay(void)
{
	struct shma_stats st = heap_stats(heap);

	return st.state_bytes >> PAGE_SHIFT;
}

static void nothing_is_left(void)
{
	struct shma_stats st;

	for (int i = 0; i < 20 && heap_stats(heap).clients > 1; i++)
		reap(&heap->arena);
	st = heap_stats(heap);
	ck_assert_uint_eq(st.clients, 1);
	ck_assert_uint_eq(st.stack_bytes, 0);
	ck_assert_uint_eq(st.live_objects, 0);
	ck_assert_uint_eq(st.live_bytes, 0);
	if (atomic_load(&board->count)) /* as soon as one scope was left */
		ck_assert_uint_gt(st.stack_high_bytes, 0);
	heap_check(&heap->arena);
	thread_detach_arena(&heap->arena); /* this thread's block, too */
	ck_assert_uint_eq(heap_all_free_pages(&heap->arena) + pages_that_stay(),
			  geometry_heap_pages(&heap->arena.g));
	thread_attach_again(&heap->arena);
}

START_TEST(whoever_is_killed_when_temporary_memory_comes_back_and_nobody_sees_anothers)
{
	const char *given = getenv("STRESS_SECONDS");
	double end = now() + (given ? atof(given) : 4);
	int kills = 0;

	heap_seed("whoever_is_killed_when_temporary_memory_comes_back_and_nobody_sees_anothers");
	heap = heap_open(MIB(64), 0);
	board = board_new();
	for (int i = 0; i < WORKERS; i++)
		start(i);
	while (now() < end) {
		usleep((useconds_t)heap_below(25000));
		kill_one();
		if (++kills % 64 == 0) /* in use, as it is */
			ck_assert_int_eq(audit_arena(&heap->arena, true, heap_print_finding, NULL), 0);
	}
	atomic_store(&board->stop, 1);
	for (int i = 0; i < WORKERS; i++)
		child_expect(pids[i], 0);
	printf("%d kills, about %llu objects\n", kills, (unsigned long long)atomic_load(&board->count));
	nothing_is_left();
	heap_close(heap);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stack_kill");
	TCase *t = tcase_create("kill");

	tcase_set_timeout(t, 3600);
	tcase_add_test(t, whoever_is_killed_when_temporary_memory_comes_back_and_nobody_sees_anothers);
	suite_add_tcase(s, t);
	return run_suite(s);
}
