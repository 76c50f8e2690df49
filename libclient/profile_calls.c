/* SPDX-License-Identifier: Apache-2.0 */
#include "profile_calls.h"

#include <errno.h>
#include <math.h>

#include "profile.h"
#include "profile_binaries.h"

/* A sample takes some 10 us: no thread takes more than one in so long, and so spends 1 % on it at most. */
#define SAMPLE_SHIFT 18 /* in units of so many ns, a quarter of a millisecond */
#define SAMPLE_UNITS 4u
#define RARER_MAX 30u

int shma_profile(shma *s, uint64_t bytes)
{
	int err = s->arena.readonly ? -EROFS : profile_set_rate(&s->arena, bytes);

	if (!err)
		profile_heed(s);
	return err;
}

void profile_heed(struct shma *s)
{
	bool on = profile_rate(&s->arena) != 0;

	if (on != profile_is_on(s))
		arena_allow_fast(&s->arena, !on);
}

/* ---- when ---- */

/* xorshift64* (Vigna 2016): a thread's own, from (0, 1]. */
static double draw_unit(struct thread_cell *cell)
{
	uint64_t x = cell->profile_random;

	if (!x)
		x = clock_now() ^ (uint64_t)(uintptr_t)cell ^ UINT64_C(0x9e3779b97f4a7c15);
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	cell->profile_random = x;
	return (double)((x * UINT64_C(0x2545f4914f6cdd1d) >> 11) + 1) / 9007199254740992.0;
}

/* Bytes to the next point of a Poisson process. */
static int64_t draw_left(struct thread_cell *cell, uint64_t mean)
{
	double bytes = -log(draw_unit(cell)) * (double)mean;

	return bytes < 9e18 ? (int64_t)bytes : INT64_MAX / 2;
}

static uint64_t mean_of(const struct thread_cell *cell, uint64_t rate)
{
	return rate << cell->profile_rarer;
}

/* Rarer or not, by how long the last one is ago: decided before the next is drawn, so that what an object stands for
 * is known when it is. */
static void adapt(struct thread_cell *cell)
{
	uint32_t now = (uint32_t)(clock_now() >> SAMPLE_SHIFT), gone = now - cell->profile_when;

	cell->profile_when = now;
	if (gone < SAMPLE_UNITS && cell->profile_rarer < RARER_MAX)
		cell->profile_rarer++;
	else if (gone > 4 * SAMPLE_UNITS && cell->profile_rarer)
		cell->profile_rarer--;
}

/* ---- an object ---- */

static void record(struct shma *s, uint64_t handle, uint64_t size, uint64_t mean)
{
	uint64_t frames[PROFILE_FRAMES];
	uintptr_t nearest;
	uint32_t n = profile_binaries_stack(&s->arena, frames, &nearest);

	profile_sample(&s->arena, handle, size, mean, frames, n);
}

void profile_take(struct shma *s, uint64_t handle, uint64_t size)
{
	struct thread_cell *cell = thread_cell(&s->arena);
	uint64_t rate = profile_rate(&s->arena), mean;
	int saved = errno;

	if (!rate) { /* switched off meanwhile */
		profile_heed(s);
		return;
	}
	if (!cell->profile_random) { /* the first: none was drawn yet */
		cell->profile_left += draw_left(cell, mean_of(cell, rate));
		if (cell->profile_left >= 0)
			return;
	}
	mean = mean_of(cell, rate);
	adapt(cell);
	cell->profile_left = draw_left(cell, mean_of(cell, rate));
	record(s, handle, size, mean);
	errno = saved;
}

/* ---- how long ---- */

/* What it takes to ask for the time twice is no part of the call. */
static uint64_t clock_cost(void)
{
	static _Atomic uint64_t known;
	uint64_t least = atomic_load_explicit(&known, memory_order_relaxed);

	if (least)
		return least - 1;
	least = UINT64_MAX - 1;
	for (int i = 0; i < 16; i++) {
		uint64_t from = clock_now(), took = clock_now() - from;

		least = took < least ? took : least;
	}
	atomic_store_explicit(&known, least + 1, memory_order_relaxed);
	return least;
}

void profile_call_timed(struct shma *s, uint64_t from)
{
	uint64_t took = clock_now() - from, cost = clock_cost();

	profile_latency(&s->arena, took > cost ? took - cost : 0);
}
