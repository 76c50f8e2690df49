/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gang.h - several threads, or several processes in one heap or at one queue. The process that the driver
 * started leads: it makes a gate, starts workers, lets them warm up, measures for a while, stops them, and
 * adds up what each of them counted. A worker process is a fresh exec of the driver, or forked where its
 * peer cannot be joined otherwise.
 */
#ifndef BENCH_GANG_H
#define BENCH_GANG_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "work.h"

#define WORKERS_MAX 16
#define LINE	    64

enum phase { PHASE_WAIT, PHASE_WARM, PHASE_MEASURE, PHASE_STOP };

/* What a worker did while measuring. The time is the leader's: a worker without a CPU looks late. */
struct result {
	uint64_t ops, cpu_ns;
} __attribute__((aligned(LINE)));

/* Shared by all workers. */
struct gate {
	_Atomic uint32_t phase __attribute__((aligned(LINE)));
	_Atomic uint32_t ready __attribute__((aligned(LINE)));
	_Atomic uint32_t measuring; /* workers that have seen that phase */
	struct result results[WORKERS_MAX];
	unsigned char board[16384] __attribute__((aligned(LINE))); /* zeroes: what the roles make of it */
};

struct worker {
	struct run *run;
	struct gate *gate;
	int index;
	bool processes;
	void (*role)(struct worker *);
	pthread_t thread;
	/* of measuring */
	uint32_t phase;
	uint64_t ops, ops_at, cpu_at;
	bool measured;
};

struct role {
	const char *name;
	void (*fn)(struct worker *);
};
extern const struct role many_roles[], log_roles[]; /* up to one without a name */

/* A worker's turn: between two bursts of ops it looks at the phase. False: stop. */
bool worker_turn(struct worker *w, uint64_t burst);
/* Ready, and waiting for all others to be. */
void worker_wait(struct worker *w);

static ALWAYS_INLINE bool worker_on(struct worker *w, uint64_t burst)
{
	if (__builtin_expect(atomic_load_explicit(&w->gate->phase, memory_order_relaxed) == w->phase, 1)) {
		w->ops += burst;
		return true;
	}
	return worker_turn(w, burst);
}

static ALWAYS_INLINE void pause_a_little(unsigned *turns)
{
	if (++*turns % 64)
		work_relax();
	else
		sched_yield();
}

struct sum {
	double ops_per_ns, cpu_ns_per_op;
	double last_ops_per_ns; /* of the last worker alone */
};

/* Runs one worker for each name of a role. 0 or -errno. */
int gang_run(struct run *r, const char *const *names, int n, bool processes, struct sum *sum);
/* The same role n times. */
int gang_same(struct run *r, const char *role, int n, bool processes, struct sum *sum);
/* Of the last run. */
const void *gang_board(void);
/* CPUs that so many workers keep busy. */
double gang_cpus(const struct run *r, int workers);

#endif
