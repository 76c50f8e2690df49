/* SPDX-License-Identifier: Apache-2.0 */
/* death.h - what the processes of death.c share: a board, and what they were told to do. */
#ifndef BENCH_DEATH_H
#define BENCH_DEATH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "attach.h"

#define SURVIVOR_SLOTS 4096u

enum window { WINDOW_HALT = 0, WINDOW_NONE, WINDOW_QUIET, WINDOW_RECOVERY, WINDOWS };

/* Shared by all processes of a scene. */
struct board {
	_Atomic uint32_t ready;
	_Atomic uint32_t window; /* what the survivor's calls count for; halt: it makes none */
	_Atomic uint32_t seen;	 /* the survivor's last look at it */
	_Atomic uint64_t longest[WINDOWS], calls[WINDOWS];
};

struct options {
	const char *arena, *shmallocd, *role;
	unsigned flags; /* of shma_open() */
	uint32_t share, objects;
	uint64_t capacity;
	int cpu[2], ncpu;
};

extern struct options opt;
extern struct board *board;

__attribute__((noreturn)) void death_fail(const char *what, int err);
shma *death_open(unsigned flags);
void death_pin(int which);

/* Does what opt.role says. */
__attribute__((noreturn)) void death_role(void);

static inline uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

#endif
