/* SPDX-License-Identifier: Apache-2.0 */
/* Temporary memory: given out from the top, gone by a reset, an end, a death; and what else handles of it mean. */
#include <pthread.h>

#include "heap.h"
#include "object.h"
#include "stack.h"

#define REGION STACK_REGION_BYTES
#define LARGE  100000u /* more than a region has */

static shma *heap;
static struct board *board;

static void setup(void)
{
	heap = heap_open(MIB(32), 0);
	board = board_new();
}

static void teardown(void)
{
	heap_close(heap);
}

static uint64_t regions(void)
{
	return heap_stats(heap).stack_bytes / REGION;
}

static shma_handle take(size_t size, uint8_t byte)
{
	shma_handle h = shma_stack_alloc(heap, size);

	ck_assert_uint_ne(h, SHMA_NULL);
	memset(shma_ptr(heap, h), byte, size);
	return h;
}

static void all_bytes(const void *start, uint8_t byte, size_t size)
{
	for (size_t i = 0; i < size; i++)
		ck_assert_uint_eq(((const uint8_t *)start)[i], byte);
}

static void is_stale(shma_handle h)
{
	errno = 0;
	ck_assert_ptr_eq(shma_ptr(heap, h), NULL);
	ck_assert_int_eq(errno, ESTALE);
	ck_assert_uint_eq(shma_size(heap, h), 0);
	ck_assert_int_eq(shma_read(heap, h, 0, board, 1), -ESTALE);
}

START_TEST(objects_lie_apart_aligned_and_are_what_their_handles_say)
{
	enum { COUNT = 500 };
	shma_handle h[COUNT];
	size_t size[COUNT];
	char copy[600];

	heap_seed("stack");
	for (int i = 0; i < COUNT; i++) {
		size[i] = 1 + heap_below(sizeof(copy));
		h[i] = take(size[i], (uint8_t)i);
	}
	for (int i = 0; i < COUNT; i++) {
		char *start = shma_ptr(heap, h[i]);

		ck_assert_uint_eq((uintptr_t)start % 16, 0);
		ck_assert_uint_eq(shma_size(heap, h[i]), (size[i] + 15) / 16 * 16);
		all_bytes(start, (uint8_t)i, size[i]);
		ck_assert_int_eq(shma_read(heap, h[i], 0, copy, size[i]), (ssize_t)size[i]);
		all_bytes(copy, (uint8_t)i, size[i]);
		ck_assert_uint_eq(shma_handle_of(heap, start), h[i]);
		if (size[i] > 32) /* in the middle none starts */
			ck_assert_uint_eq(shma_handle_of(heap, start + 32), SHMA_NULL);
	}
	ck_assert_uint_ge(regions(), 3);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	heap_check(&heap->arena);
}
END_TEST

START_TEST(the_pointer_and_the_handle_are_of_one_object)
{
	shma_handle h;
	char *p = shma_stack_alloc_ptr(heap, 100, &h), *q = shma_stack_alloc_ptr(heap, 1, NULL);

	ck_assert_ptr_eq(shma_ptr(heap, h), p);
	ck_assert_ptr_eq(q, p + 112 + 16);
	ck_assert_ptr_eq(shma_ptr(heap, shma_stack_alloc(heap, 16)), q + 32);
}
END_TEST

START_TEST(what_was_reset_is_stale_also_where_its_place_is_given_out_again)
{
	shma_handle below = take(40, 1), old, again;
	shma_mark mark = shma_stack_mark(heap);

	for (int i = 0; i < 1000; i++) {
		old = take(40, 2);
		take(4000, 3);
		shma_stack_reset(heap, mark);
		is_stale(old);
		again = take(40, 4);
		ck_assert_uint_eq(handle_offset(again), handle_offset(old));
		is_stale(old);
		all_bytes(shma_ptr(heap, again), 4, 40);
		all_bytes(shma_ptr(heap, below), 1, 40);
		shma_stack_reset(heap, mark);
	}
	ck_assert_uint_eq(regions(), 1);
	heap_check(&heap->arena);
}
END_TEST

/* Handles stay where they stood, until somebody writes there. */
START_TEST(what_was_reset_is_stale_also_within_an_object_that_was_not_written_yet)
{
	shma_mark first = shma_stack_mark(heap), marks[50];
	shma_handle old[50], large;

	for (int i = 0; i < 50; i++) {
		old[i] = take(40, 1);
		marks[i] = shma_stack_mark(heap);
	}
	shma_stack_reset(heap, first);
	large = shma_stack_alloc(heap, 50 * 64);
	for (int i = 0; i < 50; i++) {
		is_stale(old[i]);
		errno = 0;
		shma_stack_reset(heap, marks[i]);
		ck_assert_int_eq(errno, ESTALE);
	}
	ck_assert_ptr_ne(shma_ptr(heap, large), NULL);
	heap_check(&heap->arena);
}
END_TEST

static void refused(shma_mark mark, int error)
{
	uint64_t used = heap_stats(heap).stack_used_bytes;

	errno = 0;
	shma_stack_reset(heap, mark);
	ck_assert_int_eq(errno, error);
	ck_assert_uint_eq(heap_stats(heap).stack_used_bytes, used);
}

static void *mark_of_another(void *arg)
{
	shma_stack_alloc(heap, 10);
	*(shma_mark *)arg = shma_stack_mark(heap);
	atomic_fetch_add(&board->ready, 1);
	board_reaches(&board->stop, 1);
	return NULL;
}

START_TEST(marks_that_are_void_or_anothers_are_refused_and_nothing_happens)
{
	shma_mark first = shma_stack_mark(heap), low, high, other = 0;
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, mark_of_another, &other), 0);
	board_wait(&board->ready, 1);
	refused(other, EINVAL); /* before there is any */
	take(100, 1);
	low = shma_stack_mark(heap);
	take(100, 2);
	high = shma_stack_mark(heap);
	take(100, 3);
	refused(0, EINVAL);
	refused(low + 1, ESTALE);
	refused(low ^ UINT64_C(1) << 60, ESTALE);
	refused((low & ~(uint64_t)(STACK_STEPS - 1)), EINVAL);
	refused(other, EINVAL);
	refused(shma_alloc(heap, 64, 0), EINVAL);
	shma_stack_reset(heap, low);
	refused(high, ESTALE);
	take(100, 4);
	take(100, 5);
	refused(high, ESTALE);
	errno = 0;
	shma_stack_reset(heap, low);
	shma_stack_reset(heap, low);
	shma_stack_reset(heap, first);
	ck_assert_int_eq(errno, 0);
	refused(low, ESTALE);
	ck_assert_uint_eq(heap_stats(heap).stack_used_bytes, 32); /* the other thread's */
	atomic_store(&board->stop, 1);
	pthread_join(thread, NULL);
}
END_TEST

START_TEST(it_grows_by_regions_up_to_a_bound_and_they_go_back)
{
	shma_mark first = shma_stack_mark(heap), middle = 0;
	uint64_t pages = heap_all_free_pages(&heap->arena), used = 0;
	uint64_t most = MIB(32) / 16 / REGION;
	shma_handle h[40];

	for (uint32_t i = 0; i < most * 4; i++) {
		if (i == 10)
			middle = shma_stack_mark(heap);
		h[i % 40] = take(14000, (uint8_t)i);
	}
	used = heap_stats(heap).stack_used_bytes;
	ck_assert_uint_eq(regions(), most);
	ck_assert_uint_eq(used, most * 4 * (14000 + 16));
	ck_assert_uint_eq(heap_stats(heap).stack_high_bytes, used);
	/* And on, in the heap. */
	ck_assert_uint_ne(shma_stack_alloc(heap, 14000), SHMA_NULL);
	ck_assert_uint_eq(regions(), most);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 1);
	all_bytes(shma_ptr(heap, h[(most * 4 - 1) % 40]), (uint8_t)(most * 4 - 1), 14000);
	shma_stack_reset(heap, middle);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	ck_assert_uint_eq(regions(), 4); /* ten objects, and one region that is kept */
	ck_assert_uint_eq(heap_stats(heap).stack_used_bytes, 10 * (14000 + 16));
	shma_stack_reset(heap, first);
	ck_assert_uint_eq(regions(), 2);
	ck_assert_uint_eq(heap_stats(heap).stack_used_bytes, 0);
	ck_assert_uint_ge(heap_stats(heap).stack_high_bytes, used);
	ck_assert_uint_ge(heap_all_free_pages(&heap->arena), pages - 2 * REGION_PAGES - 16);
	heap_check(&heap->arena);
}
END_TEST

START_TEST(who_goes_up_and_down_at_a_regions_end_takes_pages_once)
{
	uint64_t taken;
	shma_mark mark;

	while (heap_stats(heap).stack_used_bytes < REGION - 8192)
		take(1000, 1);
	mark = shma_stack_mark(heap);
	take(14000, 2);
	taken = atomic_load(&heap->arena.taken);
	for (int i = 0; i < 100; i++) {
		shma_stack_reset(heap, mark);
		take(14000, 2);
		ck_assert_uint_eq(regions(), 2);
	}
	ck_assert_uint_eq(atomic_load(&heap->arena.taken), taken);
}
END_TEST

START_TEST(what_does_not_fit_is_an_object_of_the_heap_until_the_reset)
{
	shma_mark first = shma_stack_mark(heap), mark;
	shma_handle small, large[20], kept, early;
	void *p;

	kept = shma_stack_alloc(heap, LARGE);
	ck_assert_ptr_ne(shma_ptr(heap, kept), NULL);
	small = take(100, 1);
	mark = shma_stack_mark(heap);
	for (int i = 0; i < 20; i++) {
		large[i] = take(LARGE * (size_t)(1 + i % 3), 2);
		take(64, 3);
	}
	p = shma_stack_alloc_ptr(heap, MIB(3), &early);
	ck_assert_ptr_eq(shma_ptr(heap, early), p);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 22);
	ck_assert_int_eq(shma_free(heap, large[7]), 0); /* as one may */
	ck_assert_int_eq(shma_free(heap, early), 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 20);
	shma_stack_reset(heap, mark);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 1);
	for (int i = 0; i < 20; i++)
		is_stale(large[i]);
	all_bytes(shma_ptr(heap, small), 1, 100);
	ck_assert_ptr_ne(shma_ptr(heap, kept), NULL);
	shma_stack_reset(heap, first);
	is_stale(kept);
	ck_assert_uint_eq(heap_stats(heap).live_bytes, 0);
	heap_check(&heap->arena);
}
END_TEST

START_TEST(sizes_of_nothing_and_of_too_much_are_refused)
{
	const size_t sizes[] = {0, MIB(32) + 1, SIZE_MAX, SIZE_MAX - 14, SIZE_MAX / 2};

	for (int twice = 0; twice < 2; twice++) {
		for (size_t i = 0; i < LENGTH(sizes); i++) {
			errno = 0;
			ck_assert_uint_eq(shma_stack_alloc(heap, sizes[i]), SHMA_NULL);
			ck_assert_int_eq(errno, EINVAL);
			ck_assert_ptr_eq(shma_stack_alloc_ptr(heap, sizes[i], NULL), NULL);
		}
		take(10, 1);
	}
	errno = 0;
	ck_assert_uint_eq(shma_stack_alloc(heap, MIB(32)), SHMA_NULL);
	ck_assert_int_eq(errno, ENOMEM);
}
END_TEST

START_TEST(where_no_pages_are_left_it_goes_on_in_the_heap_and_all_of_it_comes_back)
{
	static shma_handle pages[MIB(32) >> PAGE_SHIFT];
	shma_mark mark;
	uint32_t n = 0, got = 0;

	take(10, 1);
	mark = shma_stack_mark(heap);
	while (n < LENGTH(pages) && (pages[n] = shma_alloc(heap, PAGE_SIZE, SHMA_LARGE)))
		n++;
	ck_assert_int_eq(errno, ENOMEM);
	for (uint32_t i = 0; i < 40; i++)
		ck_assert_int_eq(shma_free(heap, pages[--n]), 0);
	/* There is room for objects, and for no region. */
	while (shma_stack_alloc(heap, 1000))
		got++;
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_uint_gt(got, (REGION - 4096) / 1016);
	ck_assert_uint_gt(heap_stats(heap).live_objects, n);
	shma_stack_reset(heap, mark);
	ck_assert_uint_eq(heap_stats(heap).live_objects, n);
	heap_check(&heap->arena);
	while (n)
		ck_assert_int_eq(shma_free(heap, pages[--n]), 0);
}
END_TEST

START_TEST(a_place_given_back_before_its_time_is_stale_and_waits)
{
	shma_handle a = take(100, 1), b = take(100, 2), c;
	shma_mark mark = shma_stack_mark(heap);

	c = take(100, 3);
	ck_assert_int_eq(shma_free(heap, a), 0);
	ck_assert_int_eq(shma_free(heap, a), -ESTALE);
	is_stale(a);
	ck_assert_int_eq(shma_free_ptr(heap, shma_ptr(heap, b)), 0);
	is_stale(b);
	all_bytes(shma_ptr(heap, c), 3, 100);
	/* The mark is the second's, all the same. */
	errno = 0;
	shma_stack_reset(heap, mark);
	ck_assert_int_eq(errno, 0);
	is_stale(c);
	ck_assert_uint_eq(handle_offset(shma_stack_alloc(heap, 100)), handle_offset(c));
	heap_check(&heap->arena);
}
END_TEST

START_TEST(it_can_only_be_looked_at)
{
	shma_handle h = take(100, 1), root = shma_alloc(heap, 64, 0);

	ck_assert_int_eq(shma_share(heap, h), -EPERM);
	ck_assert_int_eq(shma_take(heap, h), -EPERM);
	ck_assert_int_eq(shma_publish(heap, "name", h), -EPERM);
	ck_assert_uint_eq(shma_resize(heap, h, 200), SHMA_NULL);
	ck_assert_int_eq(errno, EPERM);
	errno = 0;
	ck_assert_uint_eq(shma_pack(heap, h, 1), SHMA_NULL);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(shma_publish(heap, "root", root), 0);
	ck_assert_int_eq(shma_persist(heap, h, shma_ptr(heap, root)), -EPERM);
	ck_assert_int_eq(shma_persist(heap, root, shma_ptr(heap, h)), -EINVAL);
	all_bytes(shma_ptr(heap, h), 1, 100);
	ck_assert_int_eq(shma_unpublish(heap, "root"), 0);
}
END_TEST

/* ---- scopes ---- */

static uint64_t used(void)
{
	return heap_stats(heap).stack_used_bytes;
}

static int left_by_return(void)
{
	SHMA_STACK_SCOPE(heap) {
		char *p = shma_stack_alloc_ptr(heap, 100, NULL);

		p[0] = 5;
		return p[0] + (used() > 0);
	}
	return 0;
}

static void left_by_goto(void)
{
	for (int i = 0; i < 2; i++) {
		SHMA_STACK_SCOPE(heap) {
			take(100, 1);
			SHMA_STACK_SCOPE(heap) {
				take(100, 2);
				goto out;
			}
		}
	}
out:
	ck_assert_uint_eq(used(), 0);
}

START_TEST(every_way_out_of_a_scope_resets)
{
	int rounds = 0;

	SHMA_STACK_SCOPE(heap) {
		take(100, 1);
	}
	ck_assert_uint_eq(used(), 0);
	SHMA_STACK_SCOPE(heap) {
		take(100, 1);
		if (used())
			break;
		rounds = 100;
	}
	ck_assert_uint_eq(used(), 0);
	for (int i = 0; i < 5; i++) {
		SHMA_STACK_SCOPE(heap) {
			take(100, 1);
			if (i < 9)
				continue;
			rounds = 100;
		}
		ck_assert_uint_eq(used(), 0);
		rounds++;
	}
	ck_assert_int_eq(rounds, 5);
	ck_assert_int_eq(left_by_return(), 6);
	ck_assert_uint_eq(used(), 0);
	left_by_goto();
}
END_TEST

START_TEST(an_inner_scope_takes_only_its_own_and_leaves_errno_alone)
{
	shma_handle outer, inner = 0;

	SHMA_STACK_SCOPE(heap) {
		outer = take(100, 1);
		SHMA_STACK_SCOPE(heap) {
			inner = take(70000, 2);
			take(LARGE, 2);
			errno = EXDEV;
		}
		ck_assert_int_eq(errno, EXDEV);
		is_stale(inner);
		all_bytes(shma_ptr(heap, outer), 1, 100);
	}
	is_stale(outer);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

START_TEST(short_lived_objects_go_with_the_scope_and_may_go_before)
{
	shma_handle a, b, c, large, plain = shma_alloc(heap, 100, SHMA_TEMP), shared, p = 0;
	char *zeros;

	ck_assert_uint_eq(regions(), 0);
	SHMA_STACK_SCOPE(heap) {
		a = shma_alloc(heap, 100, SHMA_TEMP);
		b = shma_alloc(heap, 100, SHMA_TEMP | SHMA_ZERO);
		c = shma_alloc(heap, 100, SHMA_TEMP);
		large = shma_alloc(heap, LARGE, SHMA_TEMP);
		shared = shma_alloc(heap, 100, SHMA_TEMP | SHMA_SHARED);
		zeros = shma_alloc_ptr(heap, 100, SHMA_TEMP | SHMA_ZERO, &p);
		all_bytes(zeros, 0, 100);
		all_bytes(shma_ptr(heap, b), 0, 100);
		ck_assert_uint_eq(heap_stats(heap).live_objects, 3);
		ck_assert_uint_gt(used(), 400);
		ck_assert_int_eq(shma_free(heap, b), 0);
		ck_assert_int_eq(shma_free(heap, a), 0);
		is_stale(a);
		all_bytes(shma_ptr(heap, c), ((char *)shma_ptr(heap, c))[0], 1);
	}
	is_stale(c);
	is_stale(p);
	is_stale(large);
	ck_assert_int_eq(shma_free(heap, plain), 0);
	ck_assert_int_eq(shma_free(heap, shared), 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	plain = shma_alloc(heap, 100, SHMA_TEMP); /* as before there was a scope */
	ck_assert_uint_eq(used(), 0);
	ck_assert_int_eq(shma_free(heap, plain), 0);
	errno = 0;
	ck_assert_uint_eq(shma_alloc(heap, 0, SHMA_TEMP), SHMA_NULL);
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* ---- threads ---- */

static void *work_and_end(void *arg)
{
	(void)arg;
	for (int i = 0; i < 30; i++) {
		shma_stack_alloc(heap, 10000);
		shma_stack_alloc(heap, LARGE);
	}
	shma_stack_reset(heap, shma_stack_mark(heap));
	atomic_fetch_add(&board->ready, 1);
	board_reaches(&board->stop, 1);
	return NULL;
}

START_TEST(a_thread_that_ends_gives_all_of_it_back)
{
	uint64_t pages;
	pthread_t threads[4];

	take(10, 1);
	pages = heap_all_free_pages(&heap->arena);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work_and_end, NULL), 0);
	board_wait(&board->ready, 4);
	ck_assert_uint_ge(regions(), 4 * 5 + 1);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 4 * 30);
	heap_check(&heap->arena);
	atomic_store(&board->stop, 1);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(regions(), 1);
	ck_assert_uint_eq(heap_stats(heap).live_bytes, 0);
	ck_assert_uint_ge(heap_stats(heap).stack_high_bytes, 30 * 10032);
	ck_assert_uint_ge(heap_all_free_pages(&heap->arena) + 32, pages); /* slabs and their records */
	heap_check(&heap->arena);
}
END_TEST

/* What goes to the heap is watched there, whoever frees it. */
START_TEST(in_a_debug_arena_it_goes_the_same_ways)
{
	struct shma_options opt = {.struct_size = sizeof(opt), .capacity = MIB(64), .debug = SHMA_DEBUG_FULL};
	char name[64], path[128];
	shma *usual = heap;
	pthread_t thread;

	snprintf(name, sizeof(name), "test-stack-%d", (int)getpid());
	ck_assert_int_eq(arena_path(path, sizeof(path), name), 0);
	ck_assert_int_eq(shma_open(&heap, name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &opt), 0);
	ck_assert_int_eq(arena_unlink(path), 0);
	SHMA_STACK_SCOPE(heap) {
		take(100, 1);
		take(LARGE, 2);
		ck_assert_uint_ne(shma_alloc(heap, LARGE, SHMA_TEMP), SHMA_NULL);
		ck_assert_uint_eq(heap_stats(heap).live_objects, 2);
	}
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	atomic_store(&board->stop, 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, work_and_end, NULL), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	ck_assert_uint_eq(regions(), 1);
	heap_close(heap);
	heap = usual;
}
END_TEST

static void *free_of_another(void *arg)
{
	ck_assert_ptr_ne(shma_ptr(heap, *(shma_handle *)arg), NULL);
	ck_assert_int_eq(shma_free(heap, *(shma_handle *)arg), 0);
	return NULL;
}

START_TEST(another_thread_of_the_process_may_look_at_it_and_free_it)
{
	shma_handle h = take(100, 1);
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, free_of_another, &h), 0);
	pthread_join(thread, NULL);
	is_stale(h);
}
END_TEST

START_TEST(a_process_that_leaves_has_nothing_more)
{
	struct arena *a = &heap->arena;
	uint32_t client;

	take(100, 1);
	take(LARGE, 1);
	client = a->client;
	thread_detach_arena(a);
	ck_assert(!client_marked(a, client, 0) || recovery_drop_own_marks(a));
	thread_attach_again(a);
	ck_assert_uint_eq(regions(), 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

#ifndef __SANITIZE_THREAD__ /* it does not follow a fork of several threads */
/* ---- processes ---- */

static int looks_from_outside(void *arg)
{
	shma_handle h = *(shma_handle *)arg;
	char copy[128];

	if (shma_size(heap, h) != 112 || shma_read(heap, h, 4, copy, sizeof(copy)) != 108 || copy[0] != 7)
		return 1;
	if (!shma_ptr(heap, h) || ((char *)shma_ptr(heap, h))[50] != 7)
		return 2;
	if (shma_free(heap, h) != -EPERM || shma_take(heap, h) != -EPERM)
		return 3;
	atomic_store(&board->ready, 1);
	if (!board_reaches(&board->step, 1))
		return 4;
	if (shma_ptr(heap, h) || errno != ESTALE || shma_read(heap, h, 0, copy, 1) != -ESTALE)
		return 5;
	return 0;
}

START_TEST(others_see_it_and_see_that_it_is_gone)
{
	shma_mark mark = shma_stack_mark(heap);
	shma_handle h = take(100, 7);
	pid_t pid = child_start(looks_from_outside, &h);

	child_ready(board, pid, 1);
	shma_stack_reset(heap, mark);
	take(100, 8);
	atomic_store(&board->step, 1);
	child_expect(pid, 0);
}
END_TEST

static int child_has_none(void *arg)
{
	shma_mark mark = *(shma_mark *)arg;
	shma_handle h;

	errno = 0;
	shma_stack_reset(heap, mark);
	if (errno != EINVAL)
		return 1;
	h = shma_stack_alloc(heap, 100);
	memset(shma_ptr(heap, h), 9, 100);
	errno = 0;
	shma_stack_reset(heap, mark);
	if (errno != EINVAL || !shma_ptr(heap, h))
		return 2;
	return heap_findings(&heap->arena) ? 3 : 0;
}

START_TEST(a_forked_child_has_none_of_it)
{
	shma_mark first = shma_stack_mark(heap), mark;
	shma_handle h = take(100, 1);

	mark = shma_stack_mark(heap);
	take(100, 2);
	ck_assert_int_eq(in_child(child_has_none, &mark), 0);
	all_bytes(shma_ptr(heap, h), 1, 100);
	shma_stack_reset(heap, first);
	reap(&heap->arena);
	ck_assert_uint_eq(regions(), 1);
}
END_TEST

static int leaves_scope(void *arg)
{
	shma_handle h;

	(void)arg;
	SHMA_STACK_SCOPE(heap) {
		pid_t pid = fork();

		if (pid) {
			int status;

			return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 99;
		}
		SHMA_STACK_SCOPE(heap) {
			h = shma_alloc(heap, 100, SHMA_TEMP);
		}
		if (shma_ptr(heap, h)) /* of the child's own scope */
			_exit(1);
		h = shma_alloc(heap, 100, SHMA_TEMP); /* of its parent's: means nothing */
	}
	if (!shma_ptr(heap, h) || heap_stats(heap).live_objects != 1)
		_exit(2);
	_exit(0);
}

START_TEST(a_forked_child_leaves_its_parents_scope_and_nothing_happens)
{
	ck_assert_int_eq(leaves_scope(NULL), 0);
	reap(&heap->arena);
	ck_assert_uint_eq(used(), 0);
}
END_TEST

static int takes_much_and_rests(void *arg)
{
	shma_handle h;

	(void)arg;
	for (int i = 0; i < 30; i++) {
		h = shma_stack_alloc(heap, 10000);
		shma_stack_alloc(heap, LARGE);
		atomic_store(&board->numbers[i], h);
	}
	rest(board);
	return 0;
}

START_TEST(what_the_dead_had_comes_back_and_its_handles_stay_stale)
{
	uint64_t pages, old;
	pid_t pid;

	take(10, 1);
	pages = heap_all_free_pages(&heap->arena);
	for (int round = 0; round < 5; round++) {
		atomic_store(&board->ready, 0);
		pid = child_start(takes_much_and_rests, NULL);
		child_ready(board, pid, 1);
		ck_assert_ptr_ne(shma_ptr(heap, atomic_load(&board->numbers[0])), NULL);
		child_kill(pid);
		ck_assert_uint_eq(reap(&heap->arena), 1);
		ck_assert_uint_eq(regions(), 1);
		ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
		ck_assert_uint_ge(heap_all_free_pages(&heap->arena) + 16, pages);
		for (int i = 0; i < 30; i++) {
			old = atomic_load(&board->numbers[i]);
			ck_assert_ptr_eq(shma_ptr(heap, old), NULL);
		}
		heap_check(&heap->arena);
	}
	ck_assert_uint_ge(heap_stats(heap).stack_high_bytes, 30 * 10032);
}
END_TEST
#endif

/* ---- damage ---- */

START_TEST(who_writes_beyond_an_object_is_found_out_and_nothing_else_breaks)
{
	char *p = shma_stack_alloc_ptr(heap, 64, NULL);
	shma_mark mark = shma_stack_mark(heap);
	shma_handle h = take(64, 1);

	memset(p, 0xff, 80);
	ck_assert_int_eq(heap_findings(&heap->arena), 1);
	is_stale(h);
	shma_stack_reset(heap, mark);
	heap_check(&heap->arena);
	/* What leads from region to region, and to the heap. */
	take(LARGE, 1);
	thread_cell(&heap->arena)->stack->below = 12345;
	thread_cell(&heap->arena)->stack->kept = 99999;
	take(20, 1);
	shma_stack_reset(heap, mark);
	ck_assert_uint_eq(heap_stats(heap).stack_used_bytes, 80);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stack");
	TCase *t = tcase_create("stack");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, objects_lie_apart_aligned_and_are_what_their_handles_say);
	tcase_add_test(t, the_pointer_and_the_handle_are_of_one_object);
	tcase_add_test(t, what_was_reset_is_stale_also_where_its_place_is_given_out_again);
	tcase_add_test(t, what_was_reset_is_stale_also_within_an_object_that_was_not_written_yet);
	tcase_add_test(t, marks_that_are_void_or_anothers_are_refused_and_nothing_happens);
	tcase_add_test(t, it_grows_by_regions_up_to_a_bound_and_they_go_back);
	tcase_add_test(t, who_goes_up_and_down_at_a_regions_end_takes_pages_once);
	tcase_add_test(t, what_does_not_fit_is_an_object_of_the_heap_until_the_reset);
	tcase_add_test(t, sizes_of_nothing_and_of_too_much_are_refused);
	tcase_add_test(t, where_no_pages_are_left_it_goes_on_in_the_heap_and_all_of_it_comes_back);
	tcase_add_test(t, a_place_given_back_before_its_time_is_stale_and_waits);
	tcase_add_test(t, it_can_only_be_looked_at);
	tcase_add_test(t, every_way_out_of_a_scope_resets);
	tcase_add_test(t, an_inner_scope_takes_only_its_own_and_leaves_errno_alone);
	tcase_add_test(t, short_lived_objects_go_with_the_scope_and_may_go_before);
	tcase_add_test(t, a_thread_that_ends_gives_all_of_it_back);
	tcase_add_test(t, in_a_debug_arena_it_goes_the_same_ways);
	tcase_add_test(t, another_thread_of_the_process_may_look_at_it_and_free_it);
	tcase_add_test(t, a_process_that_leaves_has_nothing_more);
#ifndef __SANITIZE_THREAD__
	tcase_add_test(t, others_see_it_and_see_that_it_is_gone);
	tcase_add_test(t, a_forked_child_has_none_of_it);
	tcase_add_test(t, a_forked_child_leaves_its_parents_scope_and_nothing_happens);
	tcase_add_test(t, what_the_dead_had_comes_back_and_its_handles_stay_stale);
#endif
	tcase_add_test(t, who_writes_beyond_an_object_is_found_out_and_nothing_else_breaks);
	suite_add_tcase(s, t);
	return run_suite(s);
}
