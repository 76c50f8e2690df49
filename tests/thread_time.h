/* SPDX-License-Identifier: Apache-2.0 */
/* thread_time.h - where a thread's time went: running, sleeping, or ready and without a processor, which is the
 * machine's doing and no fault of what is tested. */
#ifndef TESTS_THREAD_TIME_H
#define TESTS_THREAD_TIME_H

#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

static inline uint64_t thread_clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Of this thread: ready, without a processor. */
static inline uint64_t thread_queued_ns(void)
{
	unsigned long long run = 0, queued = 0;
	FILE *f = fopen("/proc/thread-self/schedstat", "re");

	if (f && fscanf(f, "%llu %llu", &run, &queued) != 2)
		queued = 0;
	if (f)
		fclose(f);
	return queued;
}

static inline uint64_t thread_sleeps(void)
{
	struct rusage u;

	getrusage(RUSAGE_THREAD, &u);
	return (uint64_t)u.ru_nvcsw;
}

#endif
