/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processes hold the same objects and are killed at random. The account lies outside the arena: before a process
 * asks it writes down what it may come to hold, and once it has its answer what it does hold. So an object must be
 * there, as written, as long as somebody who lives holds it for certain, and be gone once nobody who lives can hold it.
 */
#include <sched.h>

#include "../unit/heap.h"
#include "hold.h"
#include "liveness.h"
#include "object.h"

#define WORKERS 5
#define OBJECTS 12
#define KILLS   60

/* What a process has of an object. W: it. */
struct claim {
	_Atomic uint64_t handle; /* the object that the counts are of */
	_Atomic uint32_t surely; /* holds at least so often */
	_Atomic uint32_t perhaps; /* at most */
};

struct account {
	_Atomic uint64_t handles[OBJECTS]; /* the objects that are passed around */
	struct claim claims[WORKERS + 1][OBJECTS];
	_Atomic uint64_t seeds[WORKERS];
	_Atomic uint64_t made, retained, released, stale, alike;
	_Atomic int failures;
	char text[200];
};

static shma *heap;
static struct account *account;

static void fail_with(const char *what, uint64_t h, int r)
{
	if (atomic_fetch_add(&account->failures, 1) == 0)
		snprintf(account->text, sizeof(account->text), "%s: object %#llx: %d", what,
			 (unsigned long long)h, r);
}

static size_t size_of(uint32_t i)
{
	static const size_t sizes[] = {24, 128, 3000, 50000, 200000};

	return sizes[i % LENGTH(sizes)];
}

/* The object's own handle, at both ends. */
static bool whole(uint64_t h)
{
	size_t n = shma_size(heap, h) / sizeof(uint64_t);
	const uint64_t *words = shma_ptr(heap, h);

	return words && n && words[0] == h && words[n - 1] == h;
}

/* A new object in a place; the maker holds it. The one that was there stays with those who hold it. */
static void make(struct claim *claims, uint32_t i)
{
	uint64_t h = shma_alloc(heap, size_of(i), 0), *words;
	int r;

	if (!h)
		return;
	words = shma_ptr(heap, h);
	words[0] = words[shma_size(heap, h) / sizeof(uint64_t) - 1] = h;
	/* In this order: who is stopped in between may hold what it held last, which is gone, and h is in no account. */
	atomic_store(&claims[i].perhaps, 1);
	atomic_store(&claims[i].handle, h);
	r = shma_retain(heap, h);
	if (r)
		fail_with("cannot begin", h, r);
	atomic_store(&claims[i].surely, 1);
	atomic_store(&account->handles[i], h);
	atomic_fetch_add(&account->made, 1);
}

/*
 * Whether a handle names, by a generation that two objects of one place have by chance, what lies ready in a cache: no
 * worker has anything private but what it makes, which is as written. What is as written has lost its holders, but not
 * its generation: that is never excused.
 */
static bool names_its_like(uint64_t h)
{
	uint32_t client;

	return heap_points_into_its_like(&heap->arena, h) ||
	       (object_kind_of(&heap->arena, h, &client) == OBJECT_PRIVATE && !whole(h));
}

static void retain(struct claim *c, uint64_t h)
{
	uint32_t before = atomic_load(&c->surely);
	int r;

	if (!before && names_its_like(h)) {
		atomic_fetch_add(&account->alike, 1);
		return;
	}
	atomic_store(&c->handle, h);
	atomic_store(&c->perhaps, before + 1);
	r = shma_retain(heap, h);
	if (r == 0) {
		atomic_store(&c->surely, before + 1);
		atomic_fetch_add(&account->retained, 1);
		if (!whole(h))
			fail_with("held and not whole", h, 0);
	} else {
		atomic_store(&c->perhaps, before);
		/* Who holds it already is never refused. */
		if (r != -ESTALE || before)
			fail_with("retain", h, r);
		atomic_fetch_add(&account->stale, 1);
	}
}

static void release(struct claim *c)
{
	uint32_t before = atomic_load(&c->surely);
	uint64_t h = atomic_load(&c->handle);
	int r;

	if (!whole(h))
		fail_with("about to be let go and not whole", h, 0);
	atomic_store(&c->surely, before - 1);
	r = shma_release(heap, h);
	atomic_store(&c->perhaps, before - 1);
	if (r)
		fail_with("release", h, r);
	atomic_fetch_add(&account->released, 1);
}

static void turn(struct claim *claims)
{
	uint32_t i = (uint32_t)heap_below(OBJECTS);
	struct claim *c = &claims[i];
	uint32_t held = atomic_load(&c->surely);
	uint64_t h = atomic_load(&account->handles[i]);

	if (held && (held > 3 || heap_below(2) || h != atomic_load(&c->handle)))
		release(c);
	else if (h && heap_below(8))
		retain(c, h);
	else if (!held)
		make(claims, i);
}

static int worker(void *arg)
{
	uint32_t me = *(uint32_t *)arg;

	heap_reseed(atomic_load(&account->seeds[me]));
	for (uint64_t n = 0; !atomic_load(&account->failures); n++) {
		turn(account->claims[me]);
		if (n % 64 == 0)
			sched_yield();
	}
	return 1;
}

/* Of an object: how many who live have it for certain, and may have it. */
static void count(uint64_t h, bool *surely, bool *perhaps)
{
	*surely = *perhaps = false;
	for (uint32_t w = 0; w < WORKERS; w++)
		for (uint32_t i = 0; i < OBJECTS; i++) {
			struct claim *c = &account->claims[w][i];

			if (atomic_load(&c->handle) != h)
				continue;
			*surely |= atomic_load(&c->surely) > 0;
			*perhaps |= atomic_load(&c->perhaps) > 0;
		}
}

static bool is_nobodys(uint64_t h)
{
	bool surely, perhaps;

	count(h, &surely, &perhaps);
	return shma_size(heap, h) != 0 && !perhaps;
}

static void compare(uint64_t h)
{
	bool surely, perhaps, there = shma_size(heap, h) != 0;

	count(h, &surely, &perhaps);
	ck_assert_msg(there || !surely, "object %#llx is gone, and held", (unsigned long long)h);
	ck_assert_msg(!there || perhaps, "object %#llx is there, and nobody holds it", (unsigned long long)h);
	ck_assert_msg(!there || whole(h), "object %#llx is not as written", (unsigned long long)h);
}

/* All workers stand still, the dead are recovered: what there is, object by object, is what the account says. */
static void take_stock(void)
{
	for (uint32_t i = 0; i < OBJECTS; i++) {
		if (atomic_load(&account->handles[i]))
			compare(atomic_load(&account->handles[i]));
		for (uint32_t w = 0; w < WORKERS; w++)
			if (atomic_load(&account->claims[w][i].handle))
				compare(atomic_load(&account->claims[w][i].handle));
	}
}

static pid_t pids[WORKERS];

static void start(uint32_t w)
{
	atomic_store(&account->seeds[w], heap_random());
	pids[w] = child_start(worker, &w);
}

static void signal_all(int sig, uint32_t but)
{
	for (uint32_t w = 0; w < WORKERS; w++) {
		int status;

		if (w == but)
			continue;
		kill(pids[w], sig);
		if (sig == SIGSTOP)
			ck_assert_int_eq(waitpid(pids[w], &status, WUNTRACED), pids[w]);
	}
}

static void bury(uint32_t w)
{
	child_kill(pids[w]);
	memset(account->claims[w], 0, sizeof(account->claims[w]));
}

static bool all_dead_are_recovered(void)
{
	reap(&heap->arena);
	for (uint32_t i = 1; i < client_high(&heap->arena); i++)
		if (client_word_state(atomic_load(client_word_at(&heap->arena, i))) != CLIENT_FREE &&
		    liveness_is_dead(&heap->arena, i))
			return false;
	return true;
}

/* Objects that were seen there, and nobody's, and are to be gone. */
static uint64_t left[2 * WORKERS * OBJECTS];
static uint32_t lefts;

static void leave(uint64_t h)
{
	for (uint32_t i = 0; i < lefts; i++)
		if (left[i] == h)
			return;
	if (h && lefts < LENGTH(left) && is_nobodys(h))
		left[lefts++] = h;
}

/*
 * Who comes too late for an object may have a slot, for a moment, in the record of another, whose last holder then leaves
 * it to it, or may end that record. Stopped there it accounts for the object that it came for. So what is nobody's has to
 * go as the others go on: whether nothing is left that has to. All stand still.
 */
static bool none_is_left(void)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < lefts; i++)
		if (is_nobodys(left[i]))
			left[kept++] = left[i];
	lefts = kept;
	for (uint32_t i = 0; i < OBJECTS; i++) {
		leave(atomic_load(&account->handles[i]));
		for (uint32_t w = 0; w < WORKERS; w++)
			leave(atomic_load(&account->claims[w][i].handle));
	}
	return lefts == 0;
}

/* One dies while the others are stopped anywhere: also with a lock that its recovery needs, or in the middle of what frees
 * an object; then they have to be let go on. */
static void die_among_stopped(uint32_t w)
{
	bool recovered, done;

	signal_all(SIGSTOP, WORKERS);
	bury(w);
	recovered = all_dead_are_recovered();
	done = recovered && none_is_left();
	for (int i = 0; i < 10000 && !done; i++) {
		signal_all(SIGCONT, w);
		usleep(1000);
		signal_all(SIGSTOP, w);
		recovered = all_dead_are_recovered();
		done = recovered && none_is_left();
	}
	ck_assert_msg(recovered, "a dead one is not recovered");
	ck_assert_msg(done, "object %#llx is there, and nobody holds it", (unsigned long long)left[0]);
	take_stock();
	signal_all(SIGCONT, w);
}

START_TEST(an_object_is_there_exactly_as_long_as_somebody_who_lives_holds_it)
{
	uint64_t live;

	heap_seed("hold_kill");
	heap = heap_open(MIB(64), 0);
	account = mmap(NULL, sizeof(*account), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (uint32_t w = 0; w < WORKERS; w++)
		start(w);
	for (int n = 0; n < KILLS && !atomic_load(&account->failures); n++) {
		uint32_t w = (uint32_t)heap_below(WORKERS);

		usleep((useconds_t)heap_below(20000));
		if (n % 3)
			reap(&heap->arena);
		if (n % 4 == 0)
			die_among_stopped(w);
		else
			bury(w);
		start(w);
	}
	ck_assert_msg(!atomic_load(&account->failures), "%s", account->text);
	for (uint32_t w = 0; w < WORKERS; w++)
		bury(w);
	ck_assert(all_dead_are_recovered());
	take_stock();
	live = heap_stats(heap).live_objects;
	ck_assert_msg(live == 0, "%llu objects are left", (unsigned long long)live);
	ck_assert_uint_eq(heap_stats(heap).holds, 0);
	printf("%llu made, %llu times held, %llu let go, %llu came too late, %llu met another\n",
	       (unsigned long long)account->made, (unsigned long long)account->retained,
	       (unsigned long long)account->released, (unsigned long long)account->stale,
	       (unsigned long long)account->alike);
	ck_assert_uint_gt(account->retained, 0);
	ck_assert_uint_gt(account->stale, 0);
	heap_close(heap);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hold_kill");
	TCase *tcase = tcase_create("hold_kill");

	tcase_add_test(tcase, an_object_is_there_exactly_as_long_as_somebody_who_lives_holds_it);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
