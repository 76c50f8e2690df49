/* SPDX-License-Identifier: Apache-2.0 */
/*
 * death_role.c - the processes that death.c starts: who owns objects and is killed, who holds locks
 * and is killed, and who survives.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "death.h"
#include "zone.h"

#define SIZE_LEAST 64u
#define SIZE_MOST  256u

/* xorshift64* (Vigna) */
static uint32_t random_below(uint64_t *state, uint32_t n)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return (uint32_t)((x * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % n;
}

static shma_handle get(shma *s, uint64_t *seed, uint32_t from, uint32_t to)
{
	shma_handle h = shma_alloc(s, from + random_below(seed, to - from + 1), 0);

	if (!h)
		death_fail("shma_alloc", errno);
	*(volatile char *)shma_ptr(s, h) = 1;
	return h;
}

static __attribute__((noreturn)) void role_owner(uint32_t objects)
{
	shma *s = death_open(0);
	uint64_t seed = objects + 1;

	for (uint32_t i = 0; i < objects; i++)
		get(s, &seed, SIZE_LEAST, SIZE_MOST);
	if (!objects) /* it has been there, and has a cache with ready objects */
		shma_free(s, get(s, &seed, SIZE_LEAST, SIZE_MOST));
	atomic_fetch_add(&board->ready, 1);
	for (;;)
		pause();
}

/* Somebody who holds the lock of every zone in use. */
static __attribute__((noreturn)) void role_locker(void)
{
	shma *s = death_open(0);

	shma_free(s, shma_alloc(s, 16, 0));
	for (uint32_t z = 0; z < arena_refresh(&s->arena); z++)
		if (zone_trylock(&s->arena, z))
			death_fail("a zone is locked", EBUSY);
	atomic_fetch_add(&board->ready, 1);
	for (;;)
		pause();
}

/* What a call took: the thread's CPU time, so that a turn without the CPU does not count, but all of the
 * time if it went to sleep by itself. */
struct stopwatch {
	uint64_t cpu, wall;
	long sleeps;
};

static long sleeps(void)
{
	struct rusage u;

	getrusage(RUSAGE_THREAD, &u);
	return u.ru_nvcsw;
}

static void start_watch(struct stopwatch *w)
{
	w->wall = now_ns();
	w->cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static uint64_t read_watch(struct stopwatch *w)
{
	uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - w->cpu, wall = now_ns() - w->wall;
	long slept;

	if (wall < 20000)
		return cpu < wall ? cpu : wall;
	slept = sleeps();
	if (slept != w->sleeps) {
		w->sleeps = slept;
		return wall;
	}
	return cpu < wall ? cpu : wall;
}

static void note(enum window window, uint64_t ns)
{
	if (ns > atomic_load_explicit(&board->longest[window], memory_order_relaxed))
		atomic_store_explicit(&board->longest[window], ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&board->calls[window], 1, memory_order_relaxed);
}

/* A random object is freed and another allocated in its place: two calls. */
static void replace(shma *s, shma_handle *slot, uint64_t *seed, struct stopwatch *w, enum window window)
{
	uint32_t size = 16 + random_below(seed, 1009);

	start_watch(w);
	if (shma_free(s, *slot))
		death_fail("shma_free", EINVAL);
	note(window, read_watch(w));
	start_watch(w);
	*slot = shma_alloc(s, size, 0);
	note(window, read_watch(w));
	if (!*slot)
		death_fail("shma_alloc", errno);
}

static __attribute__((noreturn)) void role_survivor(void)
{
	shma *s = death_open(0);
	static shma_handle slots[SURVIVOR_SLOTS];
	struct stopwatch w = {.sleeps = sleeps()};
	uint64_t seed = 7;

	death_pin(1);
	for (uint32_t i = 0; i < SURVIVOR_SLOTS; i++)
		slots[i] = get(s, &seed, 16, 1024);
	for (bool first = true;; first = false) {
		enum window window = atomic_load(&board->window);

		atomic_store(&board->seen, window);
		if (first)
			atomic_fetch_add(&board->ready, 1);
		if (window == WINDOW_HALT) {
			usleep(1000);
			w.sleeps = sleeps();
			continue;
		}
		for (int i = 0; i < 64; i++)
			replace(s, &slots[random_below(&seed, SURVIVOR_SLOTS)], &seed, &w, window);
	}
}

void death_role(void)
{
	if (!strcmp(opt.role, "owner"))
		role_owner(opt.objects);
	if (!strcmp(opt.role, "locker"))
		role_locker();
	role_survivor();
}
