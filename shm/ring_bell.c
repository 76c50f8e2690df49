/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waking up: a reader that sleeps until there is a record, a writer that waits for room.
 *
 * Writers pay no fence for it. A reader about to sleep arms the bell, has the kernel put a memory barrier
 * into every running thread of the registered processes, and looks again: a record committed before is
 * seen, the writer of a later one sees the bell armed. Where the kernel refuses, it sleeps a millisecond
 * at a time. Arming, sleeping and waking are modelled in tests/model/ring_bell.pml.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ring_view.h"

#define SLEEP_NS UINT64_C(1000000000)	/* longest without a look: all else here is hints */
#define BLIND_NS UINT64_C(1000000)	/* the same without membarrier */
#define ROOM_NS UINT64_C(10000000)	/* longest wait for room before asking whether the consumer lives */

/* 0: not asked; 1: registered; 2: refused. Of this process; fork keeps the registration, exec ends both. */
static _Atomic int registered;

static void futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };

	syscall(SYS_futex, word, FUTEX_WAIT, value, &t, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void ring_bell_register(struct arena *a)
{
	int state = atomic_load_explicit(&registered, memory_order_relaxed);

	if (!state) {
		state = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) ? 2 : 1;
		atomic_store_explicit(&registered, state, memory_order_relaxed);
	}
	/* Crash: before, this process has written no record. */
	if (state == 2 && !atomic_load_explicit(&ring_bell(a)->blind, memory_order_relaxed))
		atomic_store(&ring_bell(a)->blind, 1);
}

void ring_bell_wake(struct ring_bell *bell)
{
	uint32_t token = atomic_load_explicit(&bell->armed, memory_order_relaxed);
	int saved = errno;

	/* Crash: in between the bell stays armed, and the next writer rings it again. A reader that arms
	 * it meanwhile leaves another token, which stays. */
	atomic_fetch_add(&bell->rings, 1);
	futex_wake(&bell->rings);
	atomic_compare_exchange_strong(&bell->armed, &token, 0);
	errno = saved;
}

uint32_t ring_bell_arm(struct ring_bell *bell)
{
	uint32_t rings = atomic_load(&bell->rings);

	/* Never 0, and never that of the arm before: else a slow waker would take this one off for it. */
	atomic_store(&bell->armed, atomic_fetch_add(&bell->tokens, 2) | 1);
	/* PAIR(ring-bell): armed, barrier in every writer, then the look at committed. */
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) &&
	    !atomic_load_explicit(&bell->blind, memory_order_relaxed))
		atomic_store(&bell->blind, 1);
	atomic_thread_fence(memory_order_seq_cst);
	return rings;
}

void ring_bell_sleep(struct ring_bell *bell, uint32_t rings, uint64_t ns)
{
	uint64_t most = atomic_load_explicit(&bell->blind, memory_order_relaxed) ? BLIND_NS : SLEEP_NS;

	futex_wait(&bell->rings, rings, ns < most ? ns : most);
}

void ring_nap(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };

	clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

uint32_t ring_room_arm(struct ring_bell *bell)
{
	uint32_t room = atomic_load(&bell->room);

	/* PAIR(ring-room): waiting, then the writer's last look. */
	atomic_store(&bell->waiting, 1);
	atomic_thread_fence(memory_order_seq_cst);
	return room;
}

void ring_room_sleep(struct ring_bell *bell, uint32_t room)
{
	futex_wait(&bell->room, room, ROOM_NS);
}

void ring_room_made(struct ring_bell *bell)
{
	/* PAIR(ring-room): consumed, then waiting. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!atomic_load_explicit(&bell->waiting, memory_order_relaxed))
		return;
	/* Crash: in between, writers wait for at most their longest sleep. */
	atomic_store(&bell->waiting, 0);
	atomic_fetch_add(&bell->room, 1);
	futex_wake(&bell->room);
}
