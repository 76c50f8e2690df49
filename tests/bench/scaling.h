/* SPDX-License-Identifier: Apache-2.0 */
/* scaling.h - what the parts of the scaling model share: what was measured, and what is made of it. */
#ifndef BENCH_SCALING_H
#define BENCH_SCALING_H

#include <stdint.h>
#include <time.h>

/* What one process did while measuring. Slow calls are those that leave the thread's caches: a refill, a
 * flush; extents are runs of pages. Times are nanoseconds, inside the calls. */
struct counts {
	uint64_t ops, ns;
	uint64_t refills, refill_ns, flushes, flush_ns;
	uint64_t locks, lock_ns; /* of zones; held */
	uint64_t tries_ns, busy; /* to get one; tries that found it held to the end */
};

/* Of one workload, per operation. */
struct rates {
	const char *name;
	double ns;
	double slow, slow_ns;  /* refills and flushes, and what one takes */
	double locks, hold_ns; /* of zones, and how long one is held */
	double get_ns, busy;   /* to get one; part of the tries that failed */
};

/* Of the machine. */
struct machine {
	double clock_ns;     /* to read the clock, which is taken off all else */
	double transfer_ns;  /* a cache line from one CPU to the other */
	double add_1, add_2; /* an atomic addition: alone, and of each when two share the word */
	double commit_1, commit_2; /* GiB/s of fresh shared memory, by one and by two processes */
};

/* scaling_machine.c */
void machine_measure(struct machine *m, const int *cpu, uint32_t divide);
void scaling_pin(int cpu);
/* Runs body(0) and body(1), each in a process of its own on its own CPU, or body(0) alone. */
void side_by_side(int n, const int *cpu, void (*body)(int which, void *arg), void *arg);

/* scaling_model.c: what many cores and processes would do. */
void model_print(const struct machine *m, const struct rates *solo, const struct rates *duo, int n,
		 uint32_t zones);

static inline uint64_t clock_now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t now_ns(void)
{
	return clock_now(CLOCK_MONOTONIC);
}

/* Of the calling thread. */
static inline uint64_t cpu_ns(void)
{
	return clock_now(CLOCK_THREAD_CPUTIME_ID);
}

#endif
