/* SPDX-License-Identifier: Apache-2.0 */
#include "debug_sample.h"

#include "cache.h"
#include "clock.h"

#define WINDOW 16u

/* xorshift64* (Vigna) */
static uint64_t chance(struct thread_cell *cell)
{
	uint64_t x = cell->sample_random;

	if (!x)
		x = clock_now() << 8 | 1;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	cell->sample_random = x;
	return (x * UINT64_C(0x2545f4914f6cdd1d)) >> 32;
}

/* From one to twice as many as there are to be between two. */
static uint32_t interval(const struct arena *a, struct thread_cell *cell)
{
	uint64_t every = a->debug_every ? a->debug_every : 1;

	return (uint32_t)(1 + chance(cell) % (2 * every < UINT32_MAX ? 2 * every : UINT32_MAX));
}

bool debug_sample_now(struct arena *a, uint64_t size)
{
	struct thread_cell *cell = thread_cell(a);

	if (!cell->real || cell->block || size > DEBUG_SAMPLE_MAX)
		return false;
	if (cell->sample_window > 1) {
		cell->sample_window--;
		return false;
	}
	cell->sample_left = interval(a, cell);
	cell->block = cell->real;
	return true;
}

/* Objects that the refill has drawn, if there was one: what the cache has, and the one given. */
void debug_sample_count(struct arena *a, uint64_t size)
{
	struct thread_cell *cell = thread_cell(a);
	uint32_t class = size <= SIZECLASS_MAX_BYTES ? sizeclass_of(size) : CLASSES, drawn;

	if (!cell->real || !cell->block)
		return;
	drawn = class < CLASSES ? cache_count(&cell->real->caches[class]) + 1 : 1;
	if (cell->sample_left > drawn) {
		cell->sample_left -= drawn;
		return;
	}
	cell->sample_window = 1 + (uint32_t)(chance(cell) % WINDOW);
	cell->block = NULL;
}
