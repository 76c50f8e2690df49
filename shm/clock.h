/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - the records' clock: CLOCK_MONOTONIC, read in the way that the arena asks for.
 *
 *   exact   the vDSO's clock_gettime
 *   coarse  CLOCK_MONOTONIC_COARSE, which stands still between two ticks of the kernel (1 to 10 ms); each
 *           record of a thread is at least a nanosecond after the one before, so that its order is in it
 *
 * A thread settles which of them where it leases a block, and keeps it in its struct ring_writer. No record of a
 * thread is older than the one before it, whatever it changes from and to.
 */
#ifndef SHM_CLOCK_H
#define SHM_CLOCK_H

#include <time.h>

#include "layout.h"

/* arena_header.log_clock; the numbers of SHMA_LOG_EXACT and SHMA_LOG_COARSE */
enum clock_kind { CLOCK_KIND_EXACT = 0, CLOCK_KIND_COARSE = 1 };

/* The time, exactly, and the same in all processes of the machine. */
static inline uint64_t clock_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* By how much a record may be younger than its time under this clock. */
uint64_t clock_lag(enum clock_kind kind);
/* The thread's records are timed in this way from now on. */
void clock_settle(struct ring_writer *w, enum clock_kind kind);
/* In all ways but the common one. */
uint64_t clock_stamp_slowly(struct ring_writer *w);

/* Of a record, which takes the thread's next number afterwards; if a signal handler has taken it, the time
 * means nothing and is to be asked for again. */
static inline uint64_t clock_stamp(struct ring_writer *w)
{
	if (__builtin_expect(w->clock != CLOCK_KIND_EXACT, 0))
		return clock_stamp_slowly(w);
	return clock_now();
}

#endif
