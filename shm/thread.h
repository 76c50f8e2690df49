/* SPDX-License-Identifier: Apache-2.0 */
/*
 * thread.h - what a thread has in an arena: its thread block, found through one table a thread, one
 * cell an arena. The table is wiped in a forked child (MADV_WIPEONFORK), so the child
 * finds no block there and comes to thread_self(), which makes it a client of its own.
 */
#ifndef SHM_THREAD_H
#define SHM_THREAD_H

#include "arena.h"

#define THREAD_CELLS 512u /* arenas a process may have attached at a time */

/* What a thread has of one arena, in private memory. */
struct thread_cell {
	struct thread_block *block; /* for fast paths. NULL: none yet, or each call is to go the long way */
	uint64_t given;		    /* the handle that shma_alloc() gave last */
	/* The object that shma_handle_of() was asked for last: its handle, its page's entry, what word 1 said
	 * there, its state word. See object.h. */
	uint64_t handle;
	const struct page_entry *entry;
	uint64_t w1;
	_Atomic uint32_t *word;
	uint64_t marked; /* the region in which something on offer was freed last: it is marked */
	struct thread_block *real; /* NULL: none yet, and nothing here is to be written */
	/* Temporary memory, see stack.h: the region in use; one that is empty, to be used next; open scopes. */
	struct stack_region *stack, *stack_spare;
	uint64_t stack_scopes;
	/* Sampled arenas, see debug_sample.h: objects until the next sample; allocations until it, while fast paths
	 * are closed; a state of chance. */
	uint32_t sample_left, sample_window;
	uint64_t sample_random;
	/* Profile, see libclient/profile_calls.h: bytes until the next sample; its own random numbers; when the last one
	 * was, in 2^18 ns; calls, of which few are timed; by how many bits samples are rarer than the arena asks for. */
	int64_t profile_left;
	uint64_t profile_random;
	uint32_t profile_when;
	uint16_t profile_calls;
	uint16_t profile_rarer;
};
_Static_assert(sizeof(struct thread_cell) == 128, "cache lines");

#define THREAD_MARKED_NONE UINT64_MAX /* no region */

extern __thread struct thread_cell *thread_cells
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline struct thread_cell *thread_cell(const struct arena *a)
{
	return (struct thread_cell *)((char *)thread_cells + a->cell);
}

/* This thread's block, or NULL if it has none yet. */
static inline struct thread_block *thread_peek(const struct arena *a)
{
	return thread_cell(a)->real;
}

/* The same where a fast path may use it. */
static inline struct thread_block *thread_fast(const struct arena *a)
{
	return thread_cell(a)->block;
}

/* This thread's block; made, and the process made a client, where need be. NULL with *err: -EROFS,
 * -EUSERS (all slots taken), -ENOMEM. Not async-signal-safe, unless the thread has a block. */
struct thread_block *thread_self(struct arena *a, int *err);

/* Before the first and after the last use of an arena by this process. -EMFILE: too many arenas. No other
 * call may be in progress on the arena when it is detached; all threads' caches are handed back then. */
int thread_attach_arena(struct arena *a);
/* Takes the detaching back: the process is still a client. */
void thread_attach_again(struct arena *a);
void thread_detach_arena(struct arena *a);

/* Makes this process a client, after a fork anew, if it is none. -EUSERS, -ENOMEM, -EROFS. */
int thread_become_client(struct arena *a);
/* Whether a->client is this process's own number, and not its parent's. */
bool thread_is_client(const struct arena *a);

#endif
