/* SPDX-License-Identifier: Apache-2.0 */
/* The records' clock, see clock.h. Nothing here allocates, locks or waits: signal handlers log, too. */
#include "clock.h"

#include <stdatomic.h>
#include <stdbool.h>

#define LAG_MAX UINT64_C(10000000) /* a tick, where the kernel does not say how long it is */

uint64_t clock_lag(enum clock_kind kind)
{
	struct timespec t;

	if (kind == CLOCK_KIND_EXACT)
		return 0;
	if (clock_getres(CLOCK_MONOTONIC_COARSE, &t) || t.tv_sec || (uint64_t)t.tv_nsec > LAG_MAX)
		return LAG_MAX;
	return (uint64_t)t.tv_nsec;
}

static uint64_t coarse_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* At least now, and later than all that the thread was given before. Never back: not by a signal handler's
 * having come between, either, after which this one's swap fails. */
static uint64_t advance(struct ring_writer *w, uint64_t now)
{
	uint64_t seen = __atomic_load_n(&w->coarse, __ATOMIC_RELAXED), next;

	do
		next = now > seen ? now : seen + 1;
	while (!__atomic_compare_exchange_n(&w->coarse, &seen, next, false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED));
	return next;
}

void clock_settle(struct ring_writer *w, enum clock_kind kind)
{
	if (w->clock == (uint32_t)kind)
		return;
	/* Coarse times follow the exact ones given so far. The other way round they do by themselves: a
	 * thread writes less than a record a nanosecond. */
	if (kind == CLOCK_KIND_COARSE)
		advance(w, clock_now());
	atomic_signal_fence(memory_order_seq_cst);
	__atomic_store_n(&w->clock, (uint32_t)kind, __ATOMIC_RELAXED);
}

uint64_t clock_stamp_slowly(struct ring_writer *w)
{
	if (w->clock == CLOCK_KIND_COARSE)
		return advance(w, coarse_now());
	return clock_now();
}
