/* SPDX-License-Identifier: Apache-2.0 */
/* profile_calls.h - what a process does for the profile of its allocations (shm/profile.h): when one is sampled, the
 * stack of its calls, and how long calls take. While it is off nothing of it is on the way of an allocation. */
#ifndef LIBCLIENT_PROFILE_CALLS_H
#define LIBCLIENT_PROFILE_CALLS_H

#include "attach.h"
#include "clock.h"
#include "thread.h"

#define PROFILE_TIMED_EVERY 1024u /* calls, of which one is timed */

/* Learns whether the profile was switched: at slow calls. */
void profile_heed(struct shma *s);

static inline bool profile_is_on(const struct shma *s)
{
	return __builtin_expect(!atomic_load_explicit(&s->arena.alloc_steps, memory_order_relaxed), 0);
}

/* 0, or when it began: a call that is to be timed. A thread without a block of its own has a cell that is not written. */
static inline uint64_t profile_call_begins(struct shma *s)
{
	struct thread_cell *cell = thread_cell(&s->arena);

	if (!thread_peek(&s->arena) || cell->profile_calls++ % PROFILE_TIMED_EVERY)
		return 0;
	return clock_now();
}

void profile_call_timed(struct shma *s, uint64_t from);

static inline void profile_call_ends(struct shma *s, uint64_t from)
{
	if (__builtin_expect(from != 0, 0))
		profile_call_timed(s, from);
}

void profile_take(struct shma *s, uint64_t handle, uint64_t size);

/* An object of this client was allocated. */
static inline void profile_count(struct shma *s, uint64_t handle, uint64_t size)
{
	struct thread_cell *cell = thread_cell(&s->arena);

	if (thread_peek(&s->arena) && __builtin_expect((cell->profile_left -= (int64_t)size) < 0, 0))
		profile_take(s, handle, size);
}

#endif
