/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - the records' clock: CLOCK_MONOTONIC, read in the cheapest way that the arena's kind of clock allows.
 *
 *   exact   the processor's counter, where the kernel itself keeps time by it; else the vDSO's clock_gettime
 *   coarse  CLOCK_MONOTONIC_COARSE, which stands still between two ticks of the kernel (1 to 10 ms); each
 *           record of a thread is at least a nanosecond after the one before, so that its order is in it
 *
 * From counter to time all processes go by one line, drawn in the ring's header: a point for the beginning of
 * each epoch of 2^28 ticks (some 100 ms), straight in between. Whoever first needs a point sets it, for good, so
 * that the line ends at what CLOCK_MONOTONIC will be then by the rate of the last seconds: thus it follows the
 * clock as it is slewed, without a step. A thread keeps the epoch's line in its own block, and looks at the
 * header when the epoch is over. Before it adopts a line it compares it to CLOCK_MONOTONIC; where the two have
 * parted (the machine slept, the header is damaged, the kernel has turned from the counter) it goes by
 * CLOCK_MONOTONIC until the epoch is over.
 *
 * No record of a thread is older than the one before it, whatever it changes from and to.
 */
#ifndef SHM_CLOCK_H
#define SHM_CLOCK_H

#include <stdbool.h>
#include <time.h>

#include "layout.h"

/* arena_header.log_clock; the numbers of SHMA_LOG_EXACT and SHMA_LOG_COARSE */
enum clock_kind { CLOCK_KIND_EXACT = 0, CLOCK_KIND_COARSE = 1 };

/* ring_writer.clock: what a thread has settled on. */
enum clock_way { CLOCK_SYSTEM = 0, CLOCK_COARSE = 1, CLOCK_TICKS = 2 };

#define CLOCK_EPOCH_MASK ((UINT64_C(1) << CLOCK_EPOCH_SHIFT) - 1)

/* The time by the system, the same in all processes of the machine. */
static inline uint64_t clock_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What the date is by: CLOCK_REALTIME in ns. */
static inline uint64_t clock_real(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CLOCK_REALTIME minus the time. False: read, but not at one moment, however often it was tried. */
bool clock_real_offset(uint64_t *ret);
/* In a new header: so that the counter's rate is known soon. */
void clock_begin(struct ring_header *h);
/* By how much a record may be younger than its time under this clock. */
uint64_t clock_lag(enum clock_kind kind);
/* The thread's records are timed in this way from now on. */
void clock_settle(struct ring_writer *w, struct ring_header *h, enum clock_kind kind);
/* The time as exact records have it, after what the caller did before, and before what it does next. May it
 * write to the header? line is the caller's own, zeros at first. */
uint64_t clock_read(struct clock_line *line, struct ring_header *h, bool writable);
/* In all cases but the common one. */
uint64_t clock_stamp_slowly(struct ring_writer *w, struct ring_header *h);

static inline uint64_t clock_line_at(const struct clock_line *line, uint64_t ticks)
{
	return line->ns + ((ticks & CLOCK_EPOCH_MASK) * line->slope >> CLOCK_EPOCH_SHIFT);
}

/* *word becomes next, if no signal handler of this thread has changed it: one instruction is enough for that. */
static inline bool clock_swap_own(uint64_t *word, uint64_t seen, uint64_t next)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	bool done;

	__asm__ volatile("cmpxchgq %3, %1\n\tsete %2"
			 : "+a"(seen), "+m"(*word), "=q"(done)
			 : "r"(next)
			 : "cc", "memory");
	return done;
#else
	return __atomic_compare_exchange_n(word, &seen, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
#endif
}

/*
 * Of a record, which takes the thread's next number afterwards; if a signal handler has taken that, the time
 * means nothing and is to be asked for again. The counter is read out of order: times of two threads compare to
 * within the microsecond that a processor looks ahead at most.
 */
static inline uint64_t clock_stamp(struct ring_writer *w, struct ring_header *h)
{
#if defined(__x86_64__)
	if (__builtin_expect(w->clock == CLOCK_TICKS, 1)) {
		uint64_t ticks = __builtin_ia32_rdtsc();

		if (__builtin_expect(ticks >> CLOCK_EPOCH_SHIFT == w->line.epoch, 1))
			return clock_line_at(&w->line, ticks);
	}
#endif
	return clock_stamp_slowly(w, h);
}

#endif
