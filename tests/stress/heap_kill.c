/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processes allocate, pass, take, publish, persist, resize and free in one arena, while one after
 * another is killed, or stopped for a while, at any instruction, and replaced. Every object bears its own
 * handle in each of its words, so that no two owners can have one place unseen; and when all is over and
 * given back, nothing may be left: not an object, not a name, not a page.
 *
 * STRESS_SECONDS: how long (default 6). SHMA_TEST_SEED repeats a run's choices, though not its instants.
 */
#include <sched.h>

#include "../unit/heap.h"
#include "object.h"
#include "sizeclass.h"

#define WORKERS 4
#define KEEP 150
#define SLOTS 64
#define CELLS 8 /* a worker */

static shma *heap;
static struct board *board; /* numbers: slots with handles on offer, each in one slot only */
static shma_handle container; /* published; cells of all workers */

/* ---- one worker ---- */

struct worker {
	int place;
	shma_handle kept[KEEP];
	int count;
	uint64_t steps;
};

/* A check that failed is the worker's exit status: its line. */
#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "heap_kill.c:%d: %s (errno %d)\n", __LINE__, #condition,   \
				errno);                                                            \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static void stamp(shma_handle h)
{
	uint64_t *p = shma_ptr(heap, h), words = shma_size(heap, h) / 8;

	REQUIRE(p);
	for (uint64_t i = 0; i < words; i += i % 512 > 16 ? 61 : 1)
		p[i] = h;
	p[words - 1] = h;
}

static void check_stamp(shma_handle h)
{
	const uint64_t *p = shma_ptr(heap, h);
	uint64_t words = shma_size(heap, h) / 8;

	REQUIRE(p);
	for (uint64_t i = 0; i < words; i += i % 512 > 16 ? 61 : 1)
		REQUIRE(p[i] == h);
	REQUIRE(p[words - 1] == h);
}

static size_t some_size(void)
{
	switch (heap_below(20)) {
	case 0: return 40000 + heap_below(200000);
	case 1: return 8000 + heap_below(30000);
	case 2: return heap_below(40) ? 3000 : MIB(9); /* beyond a zone */
	default: return 8 + heap_below(1000);
	}
}

static void alloc_one(struct worker *w, unsigned flags)
{
	shma_handle h;

	if (w->count == KEEP)
		return;
	h = shma_alloc(heap, some_size(), flags);
	if (!h) {
		REQUIRE(errno == ENOMEM);
		return;
	}
	stamp(h);
	w->kept[w->count++] = h;
}

static shma_handle let_go(struct worker *w)
{
	int i;
	shma_handle h;

	if (!w->count)
		return SHMA_NULL;
	i = (int)heap_below((uint64_t)w->count);
	h = w->kept[i];
	check_stamp(h);
	w->kept[i] = w->kept[--w->count];
	return h;
}

static void free_one(struct worker *w)
{
	shma_handle h = let_go(w);

	if (!h)
		return;
	REQUIRE(shma_free(heap, h) == 0);
	if (heap_below(8) == 0)
		REQUIRE(shma_free(heap, h) == -ESTALE && !shma_ptr(heap, h) && errno == ESTALE);
}

static void resize_one(struct worker *w)
{
	shma_handle h = let_go(w), moved;

	if (!h)
		return;
	moved = shma_resize(heap, h, some_size());
	if (!moved) {
		REQUIRE(errno == ENOMEM);
		moved = h;
	}
	REQUIRE(*(uint64_t *)shma_ptr(heap, moved) == h);
	stamp(moved);
	w->kept[w->count++] = moved;
}

/* A handle leaves its slot before it is taken, so only its owner's death can come between. It leaves a cell
 * later: who took it may have died before it was gone from there, and may not be recovered yet. */
static bool keep_what_was_offered(struct worker *w, shma_handle h, bool from_cell)
{
	int r = shma_take(heap, h);

	REQUIRE(r == 0 || r == -ESTALE || (r == -EBUSY && from_cell));
	if (r == -EBUSY)
		recovery_reap_all(&heap->arena);
	if (r)
		return r == -ESTALE;
	check_stamp(h);
	if (w->count < KEEP)
		w->kept[w->count++] = h;
	else
		REQUIRE(shma_free(heap, h) == 0);
	return true;
}

static void pass_one(struct worker *w)
{
	shma_handle h = let_go(w), other;

	if (h)
		REQUIRE(shma_share(heap, h) == 0);
	other = atomic_exchange(&board->numbers[heap_below(SLOTS)], h);
	if (other)
		keep_what_was_offered(w, other, false);
}

/* Whose it is does not matter, nor what becomes of it meanwhile. */
static void read_one(void)
{
	shma_handle h = atomic_load(&board->numbers[heap_below(SLOTS)]);
	uint64_t words[64];
	ssize_t n;

	if (!h)
		return;
	n = shma_read(heap, h, 0, words, sizeof(words));
	REQUIRE(n == -ESTALE || n > 0);
	for (ssize_t i = 0; i < n / 8 && i < 16; i++)
		REQUIRE(words[i] == h);
}

static void publish_one(struct worker *w)
{
	char name[32];
	shma_handle h, old;
	int r;

	snprintf(name, sizeof(name), "name %d", (int)heap_below(3));
	old = shma_lookup(heap, name);
	if (old && heap_below(2)) {
		r = shma_unpublish(heap, name);
		REQUIRE(r == 0 || r == -ENOENT || r == -EBUSY);
		if (r == -EBUSY)
			recovery_reap_all(&heap->arena);
		/* It may be another's by now that bears the name; ours, if it says so. */
		if (r == 0 && shma_share(heap, old) == 0 && shma_take(heap, old) == 0)
			REQUIRE(shma_free(heap, old) == 0);
		return;
	}
	h = let_go(w);
	if (!h)
		return;
	r = shma_publish(heap, name, h);
	REQUIRE(r == 0 || r == -EEXIST || r == -EBUSY);
	if (r)
		w->kept[w->count++] = h;
}

/* A worker's own cells, with what its predecessors left in them. */
static void persist_one(struct worker *w)
{
	shma_handle *cell = (shma_handle *)shma_ptr(heap, container) + w->place * CELLS + heap_below(CELLS);
	shma_handle h;

	if (*cell) {
		if (!keep_what_was_offered(w, *cell, true))
			return;
		*cell = SHMA_NULL;
	}
	h = let_go(w);
	if (!h)
		return;
	REQUIRE(shma_persist(heap, h, cell) == 0);
	REQUIRE(*cell == h);
}

static void step(struct worker *w)
{
	switch (heap_below(16)) {
	case 0: case 1: case 2: case 3: alloc_one(w, 0); break;
	case 4: alloc_one(w, SHMA_SHARED); break;
	case 5: case 6: case 7: free_one(w); break;
	case 8: case 9: case 10: pass_one(w); break;
	case 11: read_one(); break;
	case 12: resize_one(w); break;
	case 13: persist_one(w); break;
	case 14: publish_one(w); break;
	default:
		if (w->count)
			check_stamp(w->kept[heap_below((uint64_t)w->count)]);
	}
}

static int work(void *arg)
{
	static struct worker w;

	w.place = *(int *)arg;
	heap_reseed(heap_random_state ^ (uint64_t)getpid());
	for (; !atomic_load(&board->stop); w.steps++) {
		step(&w);
		if (w.steps % 4096 == 0)
			recovery_reap_all(&heap->arena);
		if (w.steps % 64 == 0)
			atomic_fetch_add_explicit(&board->count, 64, memory_order_relaxed);
	}
	while (w.count)
		free_one(&w);
	return 0;
}

/* ---- the others ---- */

static pid_t pids[WORKERS];
static int places[WORKERS];

static void start(int i)
{
	places[i] = i;
	heap_random();
	pids[i] = child_start(work, &places[i]);
}

/* A killed one has no say; one that ended by itself has met what must not be. */
static void kill_one(void)
{
	int i = (int)heap_below(WORKERS), status;

	if (heap_below(4) == 0) { /* stopped first, so that the others live with it a while */
		kill(pids[i], SIGSTOP);
		usleep((useconds_t)heap_below(20000));
		if (heap_below(2)) {
			kill(pids[i], SIGCONT);
			return;
		}
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

static void end_workers(void)
{
	atomic_store(&board->stop, 1);
	for (int i = 0; i < WORKERS; i++)
		child_expect(pids[i], 0);
}

static uint32_t slots(void)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i < client_high(&heap->arena); i++)
		n += client_word_state(atomic_load(client_word_at(&heap->arena, i))) != CLIENT_FREE;
	return n;
}

static void free_offered(shma_handle h)
{
	int r = h ? shma_take(heap, h) : -ESTALE;

	ck_assert_msg(r == 0 || r == -ESTALE, "take: %d", r);
	if (r == 0) {
		check_stamp(h);
		ck_assert_int_eq(shma_free(heap, h), 0);
	}
}

static void free_named(void)
{
	for (int i = 0; i < 3; i++) {
		char name[32];
		shma_handle h;

		snprintf(name, sizeof(name), "name %d", i);
		h = shma_lookup(heap, name);
		if (!h)
			continue;
		check_stamp(h);
		ck_assert_int_eq(shma_unpublish(heap, name), 0);
		ck_assert_int_eq(shma_free(heap, h), 0);
	}
}

static uint64_t state_pages(void)
{
	uint64_t n = 0;

	for (uint64_t p = 0; p < atomic_load(&heap->arena.pages_known); p++)
		if (pw0_kind(atomic_load(&heap->arena.pages[p].w0)) == PAGE_STATE)
			n += shape_block_pages(pw0_class(atomic_load(&heap->arena.pages[p].w0)));
	return n;
}

static void nothing_is_left(void)
{
	for (int i = 0; i < 20 && slots() > 1; i++)
		reap(&heap->arena);
	ck_assert_uint_eq(slots(), 1);
	heap_check(&heap->arena);
	for (int i = 0; i < SLOTS; i++)
		free_offered(atomic_load(&board->numbers[i]));
	for (int i = 0; i < WORKERS * CELLS; i++)
		free_offered(((shma_handle *)shma_ptr(heap, container))[i]);
	free_named();
	ck_assert_int_eq(shma_unpublish(heap, "container"), 0);
	ck_assert_int_eq(shma_free(heap, container), 0);
	heap_check(&heap->arena);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	ck_assert_uint_eq(heap_stats(heap).names, 0);
	thread_detach_arena(&heap->arena); /* this thread's caches, too */
	ck_assert_uint_eq(heap_all_free_pages(&heap->arena),
			  geometry_heap_pages(&heap->arena.g) - state_pages());
	heap_check(&heap->arena);
	thread_attach_again(&heap->arena);
}

START_TEST(whoever_is_killed_when_nothing_is_lost_doubled_or_left)
{
	const char *given = getenv("STRESS_SECONDS");
	double end = now() + (given ? atof(given) : 6);
	int kills = 0;

	heap_seed("whoever_is_killed_when_nothing_is_lost_doubled_or_left");
	heap = heap_open(MIB(64), 0);
	board = board_new();
	container = shma_alloc(heap, WORKERS * CELLS * sizeof(shma_handle), SHMA_ZERO);
	ck_assert_int_eq(shma_publish(heap, "container", container), 0);
	for (int i = 0; i < WORKERS; i++)
		start(i);
	while (now() < end) {
		usleep((useconds_t)heap_below(25000));
		kill_one();
		if (++kills % 64 == 0) /* in use, as it is */
			ck_assert_int_eq(audit_arena(&heap->arena, true, heap_print_finding, NULL), 0);
	}
	end_workers();
	printf("%d kills and stops, about %llu operations\n", kills,
	       (unsigned long long)atomic_load(&board->count));
	nothing_is_left();
	heap_close(heap);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("heap_kill");
	TCase *t = tcase_create("kill");

	tcase_set_timeout(t, 3600);
	tcase_add_test(t, whoever_is_killed_when_nothing_is_lost_doubled_or_left);
	suite_add_tcase(s, t);
	return run_suite(s);
}
