/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls on temporary memory: fast paths, what goes to the heap instead, scopes. */
#include "stack_calls.h"

#include <errno.h>
#include <string.h>

#include "recovery.h"
#include "stack.h"

#define SLOW __attribute__((noinline, cold))
#define FAST __attribute__((aligned(64))) /* as in object_calls.c */
/* Regions of the dead to be brought back before memory is asked for again. */
#define SOME UINT64_C(64)

static void free_kept(void *context, uint64_t handle)
{
	/* -ESTALE: its owner did so before. */
	(void)shma_free(context, handle);
}

static int reset(struct shma *s, uint64_t mark)
{
	const struct stack_heap heap = {.free = free_kept, .context = s};

	return stack_reset(&s->arena, mark, &heap);
}

/* An object of the heap that goes with the reset. The place for its note first: who has none cannot keep it. */
static uint64_t alloc_in_heap(struct shma *s, size_t size, void **ret)
{
	int r = stack_make_room(&s->arena);
	uint64_t handle = r ? 0 : shma_alloc(s, size, 0);

	if (r)
		errno = -r;
	if (!handle)
		return 0;
	/* Crash: this client's object, noted or not. */
	stack_keep(&s->arena, handle);
	*ret = s->arena.heap + handle_offset(handle);
	return handle;
}

/* A thread's first region may have to be made of what the dead had. */
static uint64_t alloc_region(struct shma *s, size_t size, void **ret, int *err)
{
	uint64_t handle = stack_alloc(&s->arena, size, ret, err);

	while (!handle && *err == -ENOMEM && thread_is_client(&s->arena) && recovery_reap_some(&s->arena, SOME))
		handle = stack_alloc(&s->arena, size, ret, err);
	return handle;
}

SLOW static uint64_t alloc_slow(struct shma *s, size_t size, void **ret)
{
	int err = 0;
	uint64_t handle = alloc_region(s, size, ret, &err);

	if (handle)
		return handle;
	if (err == -EFBIG)
		return alloc_in_heap(s, size, ret);
	errno = -err;
	return 0;
}

FAST shma_handle shma_stack_alloc(shma *s, size_t size)
{
	void *start;
	uint64_t handle = stack_alloc_fast(&s->arena, size, &start);

	return __builtin_expect(handle != 0, 1) ? handle : alloc_slow(s, size, &start);
}

SLOW static void *alloc_ptr_slow(struct shma *s, size_t size, shma_handle *h)
{
	void *start = NULL;
	uint64_t handle = alloc_slow(s, size, &start);

	if (h)
		*h = handle;
	return handle ? start : NULL;
}

FAST void *shma_stack_alloc_ptr(shma *s, size_t size, shma_handle *h)
{
	void *start = NULL; /* for compilers that do not see through the fast path */
	uint64_t handle = stack_alloc_fast(&s->arena, size, &start);

	if (__builtin_expect(handle == 0, 0))
		return alloc_ptr_slow(s, size, h);
	if (h)
		*h = handle;
	return start;
}

SLOW static shma_mark mark_slow(struct shma *s)
{
	int err = 0;
	uint64_t mark = stack_mark(&s->arena, &err);

	if (!mark)
		errno = -err;
	return mark;
}

FAST shma_mark shma_stack_mark(shma *s)
{
	uint64_t mark = stack_mark_fast(&s->arena);

	return __builtin_expect(mark != 0, 1) ? mark : mark_slow(s);
}

SLOW static void reset_slow(struct shma *s, shma_mark mark)
{
	int saved = errno, r = reset(s, mark);

	errno = r ? -r : saved;
}

FAST void shma_stack_reset(shma *s, shma_mark mark)
{
	if (__builtin_expect(!stack_reset_fast(&s->arena, mark), 0))
		reset_slow(s, mark);
}

/* ---- scopes ---- */

struct shma_scope shma_scope_begin(shma *s)
{
	struct shma_scope scope = {.arena = s, .mark = shma_stack_mark(s)};
	struct thread_cell *cell;

	if (!scope.mark)
		return scope;
	/* Which the thread may have got just now. */
	cell = thread_cell(&s->arena);
	scope.depth = (unsigned)cell->stack_scopes;
	cell->stack_scopes = scope.depth + 1;
	return scope;
}

/* A forked child finds its parent's mark void, and no scope of its own open. */
void shma_scope_end(struct shma_scope *scope)
{
	struct shma *s = scope->arena;
	int saved = errno;

	if (scope->mark && (stack_reset_fast(&s->arena, scope->mark) || reset(s, scope->mark) == 0))
		thread_cell(&s->arena)->stack_scopes = scope->depth;
	errno = saved;
}

uint64_t stack_call_temp(struct shma *s, size_t size, unsigned flags)
{
	void *start = NULL;
	uint64_t handle;

	if (!thread_cell(&s->arena)->stack_scopes || flags & ~(SHMA_TEMP | SHMA_ZERO))
		return 0;
	handle = stack_alloc_fast(&s->arena, size, &start);
	if (!handle)
		handle = alloc_slow(s, size, &start);
	if (handle && flags & SHMA_ZERO)
		memset(start, 0, size);
	return handle;
}
