/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls on objects: a fast path each where there is one, and errno. */
#include <errno.h>

#include "attach.h"
#include "debug_calls.h"
#include "debug_sample.h"
#include "map_file.h"
#include "names.h"
#include "object.h"
#include "object_offered.h"
#include "pack_calls.h"
#include "persist.h"
#include "profile_calls.h"
#include "recovery.h"
#include "stack.h"
#include "stack_calls.h"
#include "stats.h"
#include "thread.h"

#define ALLOC_FLAGS (SHMA_ZERO | SHMA_SHARED | SHMA_PERSIST | SHMA_TEMP | SHMA_LARGE | 0x3f00u)
/* Out of line, so that a fast path saves no registers for it. */
#define SLOW __attribute__((noinline, cold))
#define MIDDLE __attribute__((noinline)) /* the same, of what is called often */
/* From the start of a cache line, wherever the linker puts it: begun in the middle of 32 bytes, a pair was
 * seen to take half as long again. */
#define FAST __attribute__((aligned(64)))
#define TICK 64 /* slow allocations between two looks at a client's life */
/* Regions of the dead to be brought back before memory is asked for again, and when no more is asked for. */
#define SOME	  16u
#define SOME_MOST (UINT64_C(1) << 40)

/* errno, and nothing. */
static uint64_t fail(int err)
{
	errno = -err;
	return 0;
}

/* By a thread's own count: a shared one would be the one line that all threads write. As long as a dead
 * client has something left, each slow call brings some of it back, so that it takes a while and not for
 * ever, and nobody waits. A forked child that is no client yet has no count: it would act in its parent's
 * name. */
static void look_after_the_dead(struct arena *a)
{
	struct thread_block *t = thread_peek(a);

	if (t && t->ticks++ % TICK == TICK - 1 && recovery_tick(a))
		t->ticks = TICK - 1;
}

/* Memory of the dead is memory, where no daemon has brought it back yet: a little of it, then more. */
SLOW static uint64_t alloc_of_the_dead(struct arena *a, const struct object_want *want, int *err)
{
	uint64_t handle = 0;

	for (uint64_t some = SOME; !handle && *err == -ENOMEM && recovery_reap_some(a, some);
	     some += some < SOME_MOST ? 3 * some : 0)
		handle = object_alloc(a, want, err);
	return handle;
}

SLOW static uint64_t alloc_long(struct shma *s, size_t size, unsigned flags)
{
	struct object_want want = {
		.size = size,
		.align = flags >> 8 ? UINT64_C(1) << (flags >> 8 & 63) : 0,
		.zero = flags & SHMA_ZERO,
		.large = flags & SHMA_LARGE,
		.kind = flags & SHMA_PERSIST  ? OBJECT_PERSISTENT
			: flags & SHMA_SHARED ? OBJECT_SHARED
					      : OBJECT_PRIVATE,
	};
	uint64_t handle;
	int err = 0;

	if (flags & ~ALLOC_FLAGS)
		return fail(-EINVAL);
	look_after_the_dead(&s->arena);
	profile_heed(s);
	if (s->arena.debug == DEBUG_SAMPLED)
		want.watched = debug_sample_now(&s->arena, size);
	handle = object_alloc(&s->arena, &want, &err);
	if (!handle && err == -ENOMEM && thread_is_client(&s->arena))
		handle = alloc_of_the_dead(&s->arena, &want, &err);
	if (s->arena.debug == DEBUG_SAMPLED)
		debug_sample_count(&s->arena, size);
	debug_calls_end(s, handle, DEBUG_CALL_NONE, 0);
	return handle ? handle : fail(err);
}

/* While the arena is profiled. What was refused is not counted. */
MIDDLE static uint64_t alloc_profiled(struct shma *s, size_t size, unsigned flags)
{
	uint64_t from = profile_call_begins(s);
	uint64_t handle = flags ? 0 : object_alloc_upto(&s->arena, size, SIZECLASS_TABLE_BYTES / 16);

	if (!handle && flags == 0)
		handle = object_alloc_fast_large(&s->arena, size);
	if (!handle)
		handle = alloc_long(s, size, flags);
	profile_call_ends(s, from);
	if (handle)
		profile_count(s, handle, size);
	return handle;
}

/* What is short-lived, from the stack in a scope; else as if nothing was said. Above 64 KiB there is a cache as well, or
 * there is none. */
MIDDLE static uint64_t alloc_slow(struct shma *s, size_t size, unsigned flags)
{
	uint64_t handle = 0;

	if (flags & SHMA_TEMP) {
		handle = stack_call_temp(s, size, flags);
		if (!handle)
			handle = shma_alloc(s, size, flags & ~SHMA_TEMP);
		return handle;
	}
	if (profile_is_on(s))
		return alloc_profiled(s, size, flags);
	if (flags == 0)
		handle = object_alloc_fast_large(&s->arena, size);
	return handle ? handle : alloc_long(s, size, flags);
}

FAST shma_handle shma_alloc(shma *s, size_t size, unsigned flags)
{
	uint64_t handle;

	if (__builtin_expect((flags & ~SHMA_SHARED) == 0, 1)) {
		handle = object_alloc_fast(&s->arena, size);
		if (__builtin_expect(handle != 0, 1) &&
		    (!(flags & SHMA_SHARED) || object_offer_fast(&s->arena, handle)))
			return handle;
	}
	return alloc_slow(s, size, flags);
}

/* Refused for the sake of an owner who is dead, its things not yet returned: they are now. */
SLOW static bool owner_was_dead(shma *s, shma_handle h)
{
	uint32_t owner = 0;

	return object_kind_of(&s->arena, h, &owner) != OBJECT_FREE &&
	       recovery_of(&s->arena, owner, handle_offset(h));
}

SLOW static int free_slow(shma *s, shma_handle h)
{
	int r = object_free(&s->arena, h);

	if (r == -EPERM && owner_was_dead(s, h))
		r = object_free(&s->arena, h);
	if (r == 0 || r == -ESTALE)
		map_file_forget(s, h);
	return (int)debug_calls_end(s, h, DEBUG_CALL_FREE, r);
}

SLOW static int free_marking(shma *s, shma_handle h, _Atomic uint32_t *word, uint64_t w1);

/* What is on offer is freed often by who is not its owner. By where it is told of, known by now: in registers. */
MIDDLE static int free_offered(shma *s, shma_handle h, _Atomic uint32_t *word, uint64_t w1)
{
	uint32_t state;
	enum offered r = object_offered_win(&s->arena, h, word, w1, &state);

	if (__builtin_expect(r == OFFERED_WON, 1))
		return object_offered_keep(&s->arena, h, w1, state);
	return r == OFFERED_UNMARKED ? free_marking(s, h, word, w1) : free_slow(s, h);
}

SLOW static int free_marking(shma *s, shma_handle h, _Atomic uint32_t *word, uint64_t w1)
{
	return object_offered_mark(&s->arena, h, w1) ? free_offered(s, h, word, w1) : free_slow(s, h);
}

FAST int shma_free(shma *s, shma_handle h)
{
	struct object_place at;
	int ret = 0;

	if (__builtin_expect(object_free_fast(&s->arena, h, &ret, &at), 1))
		return ret;
	return at.word ? free_offered(s, h, at.word, at.w1) : free_slow(s, h);
}

MIDDLE static void *alloc_ptr_slow(shma *s, size_t size, unsigned flags, shma_handle *h)
{
	uint64_t handle = flags & SHMA_SHARED ? shma_alloc(s, size, flags) : alloc_slow(s, size, flags);
	int err;

	if (h)
		*h = handle;
	if (handle && s->arena.debug)
		return object_ptr(&s->arena, handle, &err);
	/* What has just been given needs no check. */
	return handle ? s->arena.heap + handle_offset(handle) : NULL;
}

FAST void *shma_alloc_ptr(shma *s, size_t size, unsigned flags, shma_handle *h)
{
	void *p = NULL;

	if (__builtin_expect(flags == 0, 1) &&
	    __builtin_expect(object_alloc_ptr_fast(&s->arena, size, h, &p), 1))
		return p;
	return alloc_ptr_slow(s, size, flags, h);
}

SLOW static int free_ptr_slow(shma *s, void *start)
{
	uint64_t handle = object_handle_of(&s->arena, start);

	return handle ? shma_free(s, handle) : -EINVAL;
}

SLOW static int free_ptr_marking(shma *s, uint64_t offset16, _Atomic uint32_t *word, uint64_t w1);

/* What is on offer, or was taken. */
MIDDLE static int free_ptr_offered(shma *s, uint64_t offset16, _Atomic uint32_t *word, uint64_t w1)
{
	uint64_t h = object_handle_at(&s->arena, offset16, word);
	uint32_t state;
	enum offered r = object_offered_win(&s->arena, h, word, w1, &state);

	if (__builtin_expect(r == OFFERED_WON, 1))
		return object_offered_keep(&s->arena, h, w1, state);
	if (r == OFFERED_UNMARKED)
		return free_ptr_marking(s, offset16, word, w1);
	/* What was taken is as private as what was private from the start. */
	return state_kind(state) == OBJECT_TAKEN ? shma_free(s, h)
						 : free_ptr_slow(s, object_start16(&s->arena, offset16));
}

SLOW static int free_ptr_marking(shma *s, uint64_t offset16, _Atomic uint32_t *word, uint64_t w1)
{
	return object_offered_mark(&s->arena, offset16, w1)
		       ? free_ptr_offered(s, offset16, word, w1)
		       : free_ptr_slow(s, object_start16(&s->arena, offset16));
}

FAST int shma_free_ptr(shma *s, void *start)
{
	uint64_t offset16 = object_offset16(&s->arena, start);
	struct object_place at;
	int ret = 0;

	/* The next that is given out of its class. Into the second cache only: where many are freed in a row, they
	 * would push one another out of the first. */
	__builtin_prefetch(start, 0, 2);
	/* From here on the start is computed again where it is needed, rather than kept: one register less. */
	__asm__("" : "+r"(offset16));
	if (__builtin_expect(object_free_at_fast(&s->arena, start, offset16, &ret, &at), 1))
		return ret;
	return at.word ? free_ptr_offered(s, offset16, at.word, at.w1)
		       : free_ptr_slow(s, object_start16(&s->arena, offset16));
}

SLOW static void *ptr_slow(shma *s, shma_handle h)
{
	int err = 0;
	void *p = stack_ptr_fast(&s->arena, h);

	if (!p)
		p = object_ptr(&s->arena, h, &err);
	if (err == -EREMOTE)
		p = map_file_ptr(s, h, &err);
	else if (err == -ESTALE)
		map_file_forget(s, h);
	if (!p)
		errno = -(int)debug_calls_end(s, h, DEBUG_CALL_PTR, err);
	return p;
}

FAST void *shma_ptr(shma *s, shma_handle h)
{
	void *p = NULL;

	return __builtin_expect(object_ptr_fast(&s->arena, h, &p), 1) ? p : ptr_slow(s, h);
}

SLOW static shma_handle handle_of_slow(shma *s, const void *start)
{
	uint64_t handle = object_handle_of(&s->arena, start);

	return handle ? handle : fail(-EINVAL);
}

FAST shma_handle shma_handle_of(shma *s, const void *start)
{
	uint64_t handle = object_handle_fast(&s->arena, start);

	return __builtin_expect(handle != 0, 1) ? handle : handle_of_slow(s, start);
}

int shma_share(shma *s, shma_handle h)
{
	return (int)debug_calls_end(s, h, DEBUG_CALL_SHARE, object_share(&s->arena, h));
}

int shma_take(shma *s, shma_handle h)
{
	int r = object_take(&s->arena, h);

	if ((r == -EBUSY || r == -EPERM) && owner_was_dead(s, h))
		r = object_take(&s->arena, h);
	return (int)debug_calls_end(s, h, DEBUG_CALL_TAKE, r);
}

shma_handle shma_resize(shma *s, shma_handle h, size_t size)
{
	int err = 0;
	uint64_t handle = object_resize(&s->arena, h, size, &err);

	debug_calls_end(s, h, DEBUG_CALL_RESIZE, handle ? 0 : err);
	profile_heed(s);
	if (handle && handle != h && profile_is_on(s))
		profile_count(s, handle, size);
	return handle ? handle : fail(err);
}

SLOW static ssize_t read_slow(shma *s, shma_handle h, size_t offset, void *to, size_t len, int err)
{
	if (err == -EREMOTE)
		return map_file_read(s, h, offset, to, len);
	if (err == -ESTALE)
		map_file_forget(s, h);
	return err;
}

ssize_t shma_read(shma *s, shma_handle h, size_t offset, void *to, size_t len)
{
	int64_t n = object_read(&s->arena, h, offset, to, len);

	if (n == -ENODATA)
		return pack_read(s, h, offset, to, len);
	if (__builtin_expect(n < 0, 0))
		n = read_slow(s, h, offset, to, len, (int)n);
	return debug_calls_end(s, h, DEBUG_CALL_READ, n);
}

size_t shma_size(shma *s, shma_handle h)
{
	int err = 0;
	uint64_t bytes = object_size(&s->arena, h, &err);

	if (err == -ENODATA)
		bytes = pack_size(s, h, &err);
	else if (err == -EREMOTE)
		bytes = map_file_size(s, h, &err);
	debug_calls_end(s, h, DEBUG_CALL_SIZE, err);
	return bytes ? bytes : fail(err);
}

int shma_persist(shma *s, shma_handle h, shma_handle *cell)
{
	int err = 0;
	struct thread_block *t = thread_self(&s->arena, &err);

	if (t)
		err = persist_object(&s->arena, t, h, (_Atomic uint64_t *)cell);
	return (int)debug_calls_end(s, h, DEBUG_CALL_PERSIST, err);
}

int shma_publish(shma *s, const char *name, shma_handle h)
{
	int err = 0;

	if (thread_self(&s->arena, &err))
		err = names_publish(&s->arena, name, h);
	return (int)debug_calls_end(s, h, DEBUG_CALL_PUBLISH, err);
}

shma_handle shma_lookup(shma *s, const char *name)
{
	uint64_t handle = names_lookup(&s->arena, name);

	return handle ? handle : fail(-ENOENT);
}

int shma_unpublish(shma *s, const char *name)
{
	int err = 0;

	return thread_self(&s->arena, &err) ? names_unpublish(&s->arena, name) : err;
}

int shma_stats(shma *s, struct shma_stats *st)
{
	arena_refresh(&s->arena);
	/* So that the dead are not counted among the living, daemon or none. */
	if (thread_is_client(&s->arena))
		recovery_reap_all(&s->arena);
	stats_arena(&s->arena, st);
	return 0;
}
