/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: temporary memory of a thread. All of it is gone with its client, and what it took from the heap. */
#include <pthread.h>

#include "crash.h"
#include "stack.h"

#define SMALL_BYTES  1000u
#define REGION_FULL  14000u /* four of these to a region */
#define HEAP_BYTES   100000u
#define LARGE_BYTES  300000u

static uint64_t handle = 1; /* what the operation has made */
static uint64_t mark, regions;
static int result;

static uint64_t regions_now(void)
{
	struct shma_stats st;

	shma_stats(self, &st);
	return st.stack_bytes / STACK_REGION_BYTES;
}

static uint64_t objects_now(void)
{
	struct shma_stats st;

	shma_stats(self, &st);
	return st.live_objects;
}

static uint32_t take(uint64_t bytes)
{
	return note_thing(shma_stack_alloc(self, bytes), bytes, FATE_GONE);
}

/* ---- taking ---- */

static void none_yet(void)
{
	make_thing(64, 0, FATE_GONE);
	regions = regions_now();
}

static void some(void)
{
	none_yet();
	take(SMALL_BYTES);
	regions = regions_now();
}

static void until_full(void)
{
	none_yet();
	for (int i = 0; i < 4; i++)
		take(REGION_FULL);
	regions = regions_now();
}

/* A region that is empty is kept. */
static void full_with_spare(void)
{
	until_full();
	mark = shma_stack_mark(self);
	take(REGION_FULL);
	shma_stack_reset(self, mark);
	regions = regions_now();
}

static void alloc_small(void)
{
	handle = shma_stack_alloc(self, SMALL_BYTES);
}

static void alloc_ptr(void)
{
	handle = shma_stack_alloc_ptr(self, SMALL_BYTES, NULL) != NULL;
}

static void alloc_more(void)
{
	handle = shma_stack_alloc(self, REGION_FULL);
}

static void alloc_beyond(void)
{
	handle = shma_stack_alloc(self, LARGE_BYTES);
}

static bool got_in_place(void)
{
	return handle && regions_now() == regions;
}

static bool got_region(void)
{
	return handle && regions_now() == regions + 1;
}

static bool got_from_heap(void)
{
	return handle && regions_now() == regions && thread_cell(&self->arena)->stack->kept;
}

/* ---- back ---- */

static void reset(void)
{
	shma_stack_reset(self, mark);
	result = shma_stack_mark(self) != mark;
}

static void one_region_of_some(void)
{
	some();
	mark = shma_stack_mark(self);
	for (int i = 0; i < 5; i++)
		take(SMALL_BYTES);
}

static void four_regions(void)
{
	some();
	mark = shma_stack_mark(self);
	for (int i = 0; i < 14; i++)
		take(REGION_FULL);
	op_number[0] = regions_now();
}

static bool gone_but_one(void)
{
	return result == 0 && regions_now() + 2 == op_number[0];
}

static void with_objects(void)
{
	some();
	take(HEAP_BYTES);
	mark = shma_stack_mark(self);
	take(HEAP_BYTES);
	take(SMALL_BYTES);
	take(LARGE_BYTES);
	op_number[0] = objects_now();
}

static bool objects_gone(void)
{
	return result == 0 && objects_now() + 2 == op_number[0];
}

static bool done(void)
{
	return result == 0;
}

static void scope(void)
{
	SHMA_STACK_SCOPE(self) {
		SHMA_STACK_SCOPE(self) {
			handle = shma_alloc(self, SMALL_BYTES, SHMA_TEMP);
		}
		if (shma_ptr(self, handle))
			result = 1;
		handle = shma_alloc(self, HEAP_BYTES, SHMA_TEMP);
	}
}

static bool scope_left(void)
{
	return done() && handle && !shma_ptr(self, handle) && regions_now() == regions;
}

static void free_one(void)
{
	result = shma_free(self, handle);
}

static void one(void)
{
	some();
	handle = shma_stack_alloc(self, SMALL_BYTES);
}

/* ---- a thread's end ---- */

static pthread_key_t last;

/* After the library's own destructor: keys are gone through in order. */
static void over(void *value)
{
	(void)value;
	step_end();
}

static void *thread_body(void *arg)
{
	for (int i = 0; i < 6; i++)
		take(REGION_FULL);
	take(HEAP_BYTES);
	take(LARGE_BYTES);
	pthread_setspecific(last, arg);
	step_begin();
	return NULL;
}

static void end_thread(void)
{
	pthread_t t;

	result = pthread_key_create(&last, over) || pthread_create(&t, NULL, thread_body, &last) ||
		 pthread_join(t, NULL);
}

static bool ended(void)
{
	return result == 0 && regions_now() == regions;
}

bool stack_op_worked(void)
{
	return result == 0 && handle != 0;
}

const struct op stack_ops[] = {
	OP("stack", "alloc", some, alloc_small, got_in_place),
	OP("stack", "alloc, by pointer", some, alloc_ptr, got_in_place),
	OP("stack", "alloc, first region", none_yet, alloc_small, got_region),
	OP("stack", "alloc, next region", until_full, alloc_more, got_region),
	OP("stack", "alloc, region that was kept", full_with_spare, alloc_more, got_in_place),
	OP("stack", "alloc, from the heap", some, alloc_beyond, got_from_heap),
	OP("stack", "reset", one_region_of_some, reset, done),
	OP("stack", "reset, over regions", four_regions, reset, gone_but_one),
	OP("stack", "reset, objects of the heap", with_objects, reset, objects_gone),
	OP("stack", "scope, with one inside", some, scope, scope_left),
	OP("stack", "free", one, free_one, done),
	OP_SO(OP_STEPS, "stack", "thread exit", none_yet, end_thread, ended),
	{ .name = NULL }
};
