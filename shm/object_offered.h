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

/* What comes of trying to free what is on offer. */
enum offered {
	OFFERED_WON,	  /* it is ours, under the next generation, and is to be kept */
	OFFERED_UNMARKED, /* its slab's region is not the one that was marked last: mark it, and try again */
	OFFERED_NOT	  /* it is no such object, or somebody changes it at this moment: go the long way */
};

/* The region of its slab's head, as long as word 1 of its page says so. */
static inline uint64_t object_offered_region(uint64_t handle, uint64_t w1)
{
	return ((handle_offset(handle) >> PAGE_SHIFT) - pw1_dist(w1)) / REGION_PAGES;
}

/* Makes a small object ours, by its handle, its state word, and word 1 of its page. *state: what it was. */
static inline __attribute__((always_inline)) enum offered
object_offered_win(const struct arena *a, uint64_t handle, _Atomic uint32_t *word, uint64_t w1, uint32_t *state)
{
	const struct thread_cell *cell = thread_cell(a);
	uint32_t seen = atomic_load_explicit(word, memory_order_acquire);
	uint32_t gen = handle_gen(handle) << STATE_GEN_SHIFT;

	*state = seen;
	if (__builtin_expect((seen & ~(0xfffu << STATE_CLIENT_SHIFT)) != (gen | OBJECT_SHARED), 0))
		return OFFERED_NOT;
	if (__builtin_expect(cell->marked != object_offered_region(handle, w1), 0))
		return OFFERED_UNMARKED;
	STOP_POINT(object_offered_marked);
	/* Crash: before, its owner's; after, ours, to return with us. */
	if (__builtin_expect(!atomic_compare_exchange_strong_explicit(
				     word, &seen, gen + cell->real->own + cell->real->gen_step,
				     memory_order_acq_rel, memory_order_relaxed),
			     0))
		return OFFERED_NOT;
	/* PAIR(read): the new generation, then whatever comes to lie there. */
	atomic_thread_fence(memory_order_release);
	STOP_POINT(object_offered_freed);
	return OFFERED_WON;
}

/* Marks the region of its slab. False: there is no memory for that. */
bool object_offered_mark(struct arena *a, uint64_t handle, uint64_t w1);

/* Counts an object of another client's as ours, where that takes more than adding to what is owed already; and
 * puts it into the cache. 0. */
int object_offered_count(struct arena *a, struct thread_block *t, uint64_t handle, uint32_t owner, uint64_t w1);

/* Puts what was won into the cache, by the handle that it had: 0, for its callers' last instruction to be a jump. */
static inline __attribute__((always_inline)) int object_offered_keep(struct arena *a, uint64_t handle, uint64_t w1,
								     uint32_t state)
{
	struct thread_block *t = thread_peek(a);
	uint32_t owner = state_client(state);
	uint64_t row = w1 >> PW1_CLASS_SHIFT, next;
	struct cache *c;

	handle += t->handle_step;
	if (owner != a->client && __builtin_expect(!quota_won(t, owner, sizeclass_table[pw1_class(w1)].bytes), 0))
		return object_offered_count(a, t, handle, owner, w1);
	c = cache_at_row(t, row);
	next = atomic_load_explicit(&c->next, memory_order_relaxed);
	if (__builtin_expect(next >= c->end, 0))
		return cache_flush(a, t, sizeclass_of_row(row), handle);
	*cache_slot(a, next) = handle;
	atomic_store_explicit(&c->next, next + sizeof(uint64_t), memory_order_relaxed);
	return 0;
}

#endif
