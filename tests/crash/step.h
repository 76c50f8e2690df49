/* SPDX-License-Identifier: Apache-2.0 */
/*
 * step.h - one instruction after the other: counts them, notes which of them changed shared memory, and
 * kills the process after a given one. By the processor's trap flag and a SIGTRAP handler in the process
 * itself: a tracer would need two switches of process an instruction, which a busy machine makes long.
 */
#ifndef CRASH_STEP_H
#define CRASH_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STEPS_MAX (UINT64_C(1) << 22)
/* What the instruction before did: changed shared memory, or what the kernel knows of the thread's locks;
 * called the kernel. */
#define STEP_STORE (UINT64_C(1) << 63)
#define STEP_CALL  (UINT64_C(1) << 62)
#define STEP_POINT (STEP_STORE | STEP_CALL)

/* Where the program is after so many instructions. In memory that the tracing process shares. */
struct trace {
	uint64_t limit;		/* of instructions: what is longer ends there, with its process; 0: none */
	uint64_t count;		/* instructions */
	bool over;		/* the operation came to its end */
	uint64_t at[STEPS_MAX]; /* the next instruction, and STEP_STORE, STEP_CALL */
	uint32_t times
		[STEPS_MAX]; /* how often the program came by there so far, this time included */
};

/* Which way to die: after target instructions. What comes before number near runs freely, up to a
 * breakpoint at that instruction, which is met so many times. near 0: all is stepped. */
struct plan {
	uint64_t target;
	uint64_t near;
	uint64_t at;
	uint32_t times;
};

/* What the next step_begin() of this process does; nothing by default. mapped: all that is shared can be read. */
void step_trace(struct trace *t, const void *shared, size_t size, bool mapped);
void step_kill(const struct plan *plan, uint64_t *died_at);
/* Fills in what can be run freely. */
void step_shorten(const struct trace *t, struct plan *plan);
/* Fills in times, once a trace is over. */
void step_count(struct trace *t);

static inline uint64_t step_address(uint64_t at)
{
	return at & ~STEP_POINT;
}

/* Around the operation. */
void step_begin(void);
void step_end(void);
/* Ends a process that was to die earlier and has not. */
void step_die(void);

#endif
