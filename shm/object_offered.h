/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object_offered.h - the fast path of freeing what is on offer: a small object, ours or another's, whose word says so.
 * One compare-and-swap; what else it takes is known from the last such free: that the region is marked as ours,
 * and whose count of bytes is to be lowered.
 */
#ifndef SHM_OBJECT_OFFERED_H
#define SHM_OBJECT_OFFERED_H

#include "object.h"
#include "quota.h"

/* Whether the small object at a place is on offer under this handle; its word. */
static inline bool object_offered_at(const struct object_place *at, uint64_t handle, uint32_t *state)
{
	*state = atomic_load_explicit(at->word, memory_order_acquire);
	return state_make(OBJECT_SHARED, state_client(*state), handle_gen(handle)) == *state;
}

/* The head of its slab, as long as the word says so. */
static inline uint64_t object_offered_head(uint64_t handle, const struct object_place *at)
{
	return (handle_offset(handle) >> PAGE_SHIFT) - pw1_dist(at->w1);
}

/* Counts an object of another client's as ours, where that takes more than adding to what is owed already; and
 * puts it into the cache. 0. */
int object_offered_count(struct arena *a, struct thread_block *t, uint64_t handle, uint32_t owner, uint64_t row);

/* Makes it ours, under the next generation, and puts it into the cache. The region is marked. */
static inline __attribute__((always_inline)) int
object_offered_free(struct arena *a, struct thread_block *t, uint64_t handle, const struct object_place *at,
		    uint32_t state)
{
	uint32_t owner = state_client(state);
	struct cache *c = cache_at_row(t, object_place_row(at));
	uint64_t next = atomic_load_explicit(&c->next, memory_order_relaxed);

	STOP_POINT(object_offered_marked);
	handle += t->handle_step;
	/* Crash: before, its owner's; after, ours, to return with us. */
	if (__builtin_expect(!atomic_compare_exchange_strong_explicit(
				     at->word, &state, t->own | handle_gen(handle) << STATE_GEN_SHIFT,
				     memory_order_acq_rel, memory_order_relaxed),
			     0))
		return -EAGAIN;
	/* PAIR(read): the new generation, then whatever comes to lie there. */
	atomic_thread_fence(memory_order_release);
	STOP_POINT(object_offered_freed);
	if (owner != a->client && __builtin_expect(!quota_won(t, owner, sizeclass_table[pw1_class(at->w1)].bytes), 0))
		return object_offered_count(a, t, handle, owner, object_place_row(at));
	if (__builtin_expect(next >= c->end, 0))
		return cache_flush(a, t, sizeclass_of_row(object_place_row(at)), handle);
	*cache_slot(a, next) = handle;
	atomic_store_explicit(&c->next, next + sizeof(uint64_t), memory_order_relaxed);
	return 0;
}

/* The same where the region has not been marked just before. */
int object_free_marking(struct arena *a, uint64_t handle, const struct object_place *at, uint32_t state);

/* 0, or -EAGAIN: it is no such object, or somebody changes it at this moment: go the long way. The place is that of
 * the handle, and the thread has a block. */
static inline __attribute__((always_inline)) int object_free_offered(struct arena *a, uint64_t handle,
								     const struct object_place *at)
{
	const struct thread_cell *cell = thread_cell(a);
	uint32_t state;

	if (__builtin_expect(!object_offered_at(at, handle, &state), 0))
		return -EAGAIN;
	if (__builtin_expect(cell->marked != object_offered_head(handle, at) / REGION_PAGES + 1, 0))
		return object_free_marking(a, handle, at, state);
	return object_offered_free(a, cell->block, handle, at, state);
}

/* The same of an object of whatever generation it is, by where it starts, in units of 16 bytes. */
static inline __attribute__((always_inline)) int object_free_offered_start(struct arena *a, uint64_t offset16,
									   const struct object_place *at)
{
	uint32_t gen = state_gen(atomic_load_explicit(at->word, memory_order_relaxed));

	return object_free_offered(a, offset16 | a->tag_bits | (uint64_t)gen << HANDLE_GEN_SHIFT, at);
}

#endif
