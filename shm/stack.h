/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stack.h - temporary memory of a thread: regions of 64 KiB (PAGE_STACK) from which objects are cut one
 * after the other and given back all at once, by a reset to a mark. A region is an extent of exactly one
 * region of the heap, so that the low bits of a handle say where in it an object lies, and the page map
 * entry of its first page whose it is. Before each object stands its own handle, and the region has a
 * table of the places where one starts: so it is known to be one, under this generation, and of what
 * length. Each reset takes the next generation, so that handles of what was reset stay stale where the
 * place is given out again.
 *
 * A mark is the handle of the newest object at that time: as long as this one is live nothing below it
 * was reset.
 *
 * Only its thread writes a region, with plain stores. Others read it by copying, as they do not know when
 * it goes back. What does not fit, and what no region can be had for, is the caller's to take from the
 * heap: a note of it lies on the stack as an object, and the caller frees it when the note is reset.
 *
 * Crash: at any instant a region is its client's, and objects of the heap are too: all return with it. A
 * thread that ends gives its regions back; one that ends without its destructor leaves them to its
 * process's end.
 */
#ifndef SHM_STACK_H
#define SHM_STACK_H

#include <stdatomic.h>
#include <string.h>

#include "arena.h"
#include "stop_point.h"
#include "thread.h"
#include "words.h"

#define STACK_STEPS   (1u << STACK_STEP_BITS) /* of 16 bytes in a region */
#define STACK_BOTTOM  261u /* where the region's object of no bytes starts; the next one follows */
#define STACK_NOTES   64u /* so many notes have room where objects have none */
#define STACK_OBJECTS (STACK_STEPS - 1 - 2 * STACK_NOTES) /* objects end here, notes before the region's end */
#define STACK_REGIONS_MAX 256u /* of one thread, and no more than a sixteenth of the arena */
/* What does not fit where the last object was goes to the heap if it is larger: a new region would waste what
 * is left of this one. */
#define STACK_GROW_MAX (UINT64_C(16) << 10)
#define STACK_REGION_BYTES ((uint64_t)REGION_PAGES << PAGE_SHIFT)

static inline uint32_t stack_step(uint64_t handle)
{
	return (uint32_t)handle & (STACK_STEPS - 1);
}

/* The object that starts at a step, 1 at least. */
static inline struct stack_object *stack_object(const struct stack_region *r, uint64_t step)
{
	return (struct stack_object *)r + step - 1;
}

static inline uint32_t stack_length(const struct stack_object *o)
{
	return (uint32_t)atomic_load_explicit(&o->steps, memory_order_relaxed);
}

static inline bool stack_starts(const struct stack_region *r, uint64_t step)
{
	return atomic_load_explicit(&r->starts[step], memory_order_relaxed);
}

/* No object starts from a step up to another. Others look there at any time, by copying. */
static inline void stack_clear_starts(struct stack_region *r, uint64_t from, uint64_t to)
{
	memset((uint8_t *)r->starts + from, 0, to - from);
}

/* Steps of an object with what stands before it; for 0 bytes, which there is no object of, more than there are. */
static inline uint64_t stack_steps(uint64_t size)
{
	return ((size - 1) >> 4) + 2;
}

/* Crash: before next is raised, nothing; after, an object of a region of ours. PAIR(stack-next): what
 * stands before the object, then next. */
static inline __attribute__((always_inline)) void stack_push(struct stack_region *r, uint64_t handle,
							     uint64_t steps)
{
	struct stack_object *o = stack_object(r, stack_step(handle));

	atomic_store_explicit(&o->handle, handle, memory_order_relaxed);
	atomic_store_explicit(&o->steps, steps, memory_order_relaxed);
	atomic_store_explicit(&r->starts[stack_step(handle)], 1, memory_order_relaxed);
	r->last = handle;
	STOP_POINT(stack_object_written);
	atomic_store_explicit(&r->next, handle + (uint32_t)steps, memory_order_release);
}

/* An object of the calling thread; 0: go the long way. */
static inline __attribute__((always_inline)) uint64_t
stack_alloc_fast(const struct arena *a, uint64_t size, void **ret)
{
	struct stack_region *r = thread_cell(a)->stack;
	uint64_t steps = stack_steps(size), handle;

	if (__builtin_expect(!r, 0))
		return 0;
	handle = atomic_load_explicit(&r->next, memory_order_relaxed);
	if (__builtin_expect(stack_step(handle) + steps > STACK_OBJECTS, 0))
		return 0;
	stack_push(r, handle, steps);
	/* Its start lies behind what stands before it. */
	*ret = stack_object(r, stack_step(handle)) + 1;
	return handle;
}

/* A mark; 0: go the long way. */
static inline uint64_t stack_mark_fast(const struct arena *a)
{
	const struct stack_region *r = thread_cell(a)->stack;

	return __builtin_expect(r != NULL, 1) ? r->last : 0;
}

/* What lies above an object, which ends at a step, is no more.
 * Crash: before, and after, a region of ours. */
static inline void stack_lower(struct stack_region *r, uint64_t last, uint32_t end)
{
	uint64_t next = atomic_load_explicit(&r->next, memory_order_relaxed), top = stack_step(next);

	if (atomic_load_explicit(&r->high, memory_order_relaxed) < top)
		atomic_store_explicit(&r->high, top, memory_order_relaxed);
	r->last = last;
	stack_clear_starts(r, end, top);
	next = ((next + (UINT64_C(1) << HANDLE_GEN_SHIFT)) & ~(uint64_t)(STACK_STEPS - 1)) | end;
	atomic_store_explicit(&r->next, next, memory_order_release);
}

/* A reset to a mark in the region in use, with no notes above. False: go the long way. */
static inline __attribute__((always_inline)) bool stack_reset_fast(const struct arena *a, uint64_t mark)
{
	struct stack_region *r = thread_cell(a)->stack;
	uint64_t next, end;
	const struct stack_object *o;

	if (__builtin_expect(!r, 0))
		return false;
	next = atomic_load_explicit(&r->next, memory_order_relaxed);
	/* Of this region, whatever the generation. */
	if (__builtin_expect((mark ^ next) << 16 >> (16 + STACK_STEP_BITS) || stack_step(mark) < STACK_BOTTOM, 0))
		return false;
	o = stack_object(r, stack_step(mark));
	end = stack_step(mark) + (uint64_t)stack_length(o);
	if (__builtin_expect(atomic_load_explicit(&o->handle, memory_order_relaxed) != mark ||
				     !stack_starts(r, stack_step(mark)) || end > stack_step(next) || r->kept >= end,
			     0))
		return false;
	if (end < stack_step(next))
		stack_lower(r, mark, (uint32_t)end);
	return true;
}

/* Where an object of this thread's region in use lies; NULL: go the long way. */
static inline void *stack_ptr_fast(const struct arena *a, uint64_t handle)
{
	struct stack_region *r = thread_cell(a)->stack;
	const struct stack_object *o;
	uint64_t next;

	if (!r)
		return NULL;
	next = atomic_load_explicit(&r->next, memory_order_relaxed);
	if ((handle ^ next) << 16 >> (16 + STACK_STEP_BITS) || stack_step(handle) >= stack_step(next) ||
	    stack_step(handle) <= STACK_BOTTOM)
		return NULL;
	o = stack_object(r, stack_step(handle));
	if (atomic_load_explicit(&o->handle, memory_order_relaxed) != handle || !stack_starts(r, stack_step(handle)) ||
	    atomic_load_explicit(&o->steps, memory_order_relaxed) >> 32)
		return NULL;
	return (void *)(o + 1);
}

/* ---- the long ways ---- */

/* What frees an object of the heap whose note is reset. */
struct stack_heap {
	void (*free)(void *context, uint64_t handle);
	void *context;
};

/* The pointer too. 0 with *err: -EINVAL; -EFBIG: to be taken from the heap; -ENOMEM, -EDQUOT, and those of
 * thread_self(), where there is no first region. */
uint64_t stack_alloc(struct arena *a, uint64_t size, void **ret, int *err);
/* Before an object is taken from the heap: a place for its note. -ENOMEM. */
int stack_make_room(struct arena *a);
/* Then the note, of an object of this client. */
void stack_keep(struct arena *a, uint64_t handle);

/* 0 with *err: those of thread_self(). */
uint64_t stack_mark(struct arena *a, int *err);
/* -EINVAL: no mark of this thread's; -ESTALE: of what has been reset. */
int stack_reset(struct arena *a, uint64_t mark, const struct stack_heap *heap);

/* Gives back all of a thread that is in no call. */
void stack_end(struct arena *a, struct thread_cell *cell);

/* An object before its time: its handle is stale, the place waits for the reset. -EPERM: another
 * client's; -ESTALE. */
int stack_free(struct arena *a, uint64_t handle);
/* Whether a handle of this arena leads to one, of whichever client; usable bytes. 0, -ESTALE. */
int stack_look(const struct arena *a, uint64_t handle, uint64_t *bytes);
/* Whose region a handle leads to; 0: to none. */
uint32_t stack_client(const struct arena *a, uint64_t handle);
/* Of an object that the caller knows to be live, by its offset in the heap; 0: none starts there. */
uint64_t stack_handle_at(const struct arena *a, uint64_t heap_offset);

/* For recovery: a region of a dead client's becomes a raw extent of its. False: it is none. */
bool stack_recover(struct arena *a, uint64_t page, uint64_t w0, uint32_t client);

/* ---- looking ---- */

/* One region, as copied out. */
struct stack_view {
	uint64_t used, high, below; /* bytes: in use, at the most; in all regions below */
	uint32_t thread;
};
/* False: its memory is not there. */
bool stack_view(const struct arena *a, uint64_t page, struct stack_view *ret);
/* The step at which a region's objects do not follow each other up to its next; 0: they do, or its memory
 * is not there, as where it goes back meanwhile. And what next was, which any reset changes. */
uint32_t stack_damage(const struct arena *a, uint64_t page, uint64_t *next);

#endif
