/* SPDX-License-Identifier: Apache-2.0 */
/* Objects by pointer: shma_alloc_ptr() and shma_free_ptr() agree with the calls by handle, whatever lies there. */
#include <pthread.h>

#include "cache.h"
#include "heap.h"
#include "thread.h"

#define LIVE 2000
#define STEPS 200000

static shma *heap;

static void setup(void)
{
	heap = heap_open(MIB(64), 0);
}

static void teardown(void)
{
	heap_close(heap);
}

static void *get(size_t size, unsigned flags, shma_handle *h)
{
	void *p = shma_alloc_ptr(heap, size, flags, h);

	ck_assert_ptr_nonnull(p);
	return p;
}

static void check_same(size_t size, unsigned flags)
{
	shma_handle h = SHMA_NULL;
	void *p = get(size, flags, &h);

	ck_assert_ptr_eq(shma_ptr(heap, h), p);
	ck_assert_uint_eq(shma_handle_of(heap, p), h);
	ck_assert_uint_ge(shma_size(heap, h), size);
	memset(p, 1, size);
	ck_assert_int_eq(shma_free_ptr(heap, p), 0);
	errno = 0;
	ck_assert_ptr_null(shma_ptr(heap, h));
	ck_assert_int_eq(errno, ESTALE);
	ck_assert_int_eq(shma_free(heap, h), -ESTALE);
}

START_TEST(pointer_and_handle_are_of_one_object_which_either_frees)
{
	static const unsigned flags[] = {0, SHMA_TEMP, SHMA_ZERO, SHMA_SHARED, SHMA_PERSIST, SHMA_LARGE,
					 SHMA_ALIGN(256)};

	for (size_t size = 1; size < 100000; size += 1 + size / 9)
		for (size_t i = 0; i < LENGTH(flags); i++)
			check_same(size, flags[i]);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

START_TEST(what_cannot_be_had_says_why)
{
	shma_handle h = 1;

	errno = 0;
	ck_assert_ptr_null(shma_alloc_ptr(heap, 0, 0, &h));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_uint_eq(h, SHMA_NULL);
	ck_assert_ptr_null(shma_alloc_ptr(heap, MIB(63), 0, NULL));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_ptr_null(shma_alloc_ptr(heap, SIZE_MAX, 0, NULL));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_null(shma_alloc_ptr(heap, 1, 0x80000000u, NULL));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

START_TEST(a_pointer_that_is_no_objects_start_is_invalid_and_disturbs_nothing)
{
	static char elsewhere[64];
	char *small = get(100, 0, NULL), *page = get(4096, 0, NULL), *large = get(100000, 0, NULL);
	struct shma_stats before = heap_stats(heap), after;

	for (int i = 1; i < 100; i++)
		ck_assert_int_eq(shma_free_ptr(heap, small + i), -EINVAL);
	for (int i = 1; i < 4096; i += 5)
		ck_assert_int_eq(shma_free_ptr(heap, page + i), -EINVAL);
	for (int i = 1; i < 100000; i += 501)
		ck_assert_int_eq(shma_free_ptr(heap, large + i), -EINVAL);
	ck_assert_int_eq(shma_free_ptr(heap, NULL), -EINVAL);
	ck_assert_int_eq(shma_free_ptr(heap, elsewhere), -EINVAL);
	ck_assert_int_eq(shma_free_ptr(heap, heap->arena.heap - 16), -EINVAL);
	ck_assert_int_eq(shma_free_ptr(heap, heap->arena.heap + heap->arena.g.capacity), -EINVAL);
	after = heap_stats(heap);
	ck_assert_uint_eq(after.live_bytes, before.live_bytes);
	ck_assert_int_eq(shma_free_ptr(heap, small), 0);
	ck_assert_int_eq(shma_free_ptr(heap, page), 0);
	ck_assert_int_eq(shma_free_ptr(heap, large), 0);
}
END_TEST

START_TEST(a_published_object_is_not_freed_by_pointer)
{
	shma_handle h;
	char *p = get(100, 0, &h);

	ck_assert_int_eq(shma_publish(heap, "name", h), 0);
	ck_assert_int_eq(shma_free_ptr(heap, p), -EBUSY);
	ck_assert_int_eq(shma_unpublish(heap, "name"), 0);
	ck_assert_int_eq(shma_free_ptr(heap, p), 0);
}
END_TEST

/* ---- another's ---- */

static struct board *board;

static int own_some(void *arg)
{
	static const unsigned flags[] = {0, SHMA_SHARED, SHMA_PERSIST, SHMA_SHARED};

	(void)arg;
	for (size_t i = 0; i < LENGTH(flags); i++)
		atomic_store(&board->numbers[i], shma_alloc(heap, 100, flags[i]));
	rest(board);
	return 0;
}

START_TEST(anothers_object_is_freed_by_pointer_only_if_it_was_offered_or_taken)
{
	shma_handle private, shared, persistent, taken;
	pid_t pid;

	board = board_new();
	pid = child_start(own_some, NULL);
	child_ready(board, pid, 1);
	private = atomic_load(&board->numbers[0]);
	shared = atomic_load(&board->numbers[1]);
	persistent = atomic_load(&board->numbers[2]);
	taken = atomic_load(&board->numbers[3]);
	ck_assert_int_eq(shma_free_ptr(heap, shma_ptr(heap, private)), -EPERM);
	ck_assert_int_eq(shma_free_ptr(heap, shma_ptr(heap, shared)), 0);
	ck_assert_int_eq(shma_free_ptr(heap, shma_ptr(heap, persistent)), 0);
	ck_assert_int_eq(shma_take(heap, taken), 0);
	ck_assert_int_eq(shma_free_ptr(heap, shma_ptr(heap, taken)), 0);
	ck_assert_int_eq(shma_free(heap, taken), -ESTALE);
	child_kill(pid);
	reap(&heap->arena);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

/* ---- both ways, mixed ---- */

struct live {
	char *p;
	shma_handle h;
	size_t size;
	char fill;
};

static size_t random_size(void)
{
	return heap_below(20) ? 1 + heap_below(1024) : 1 + heap_below(50000);
}

static void renew(struct live *l, int step)
{
	if (l->p) {
		for (size_t i = 0; i < l->size; i += l->size / 3 + 1)
			ck_assert_int_eq(l->p[i], l->fill);
		ck_assert_int_eq(heap_below(2) ? shma_free(heap, l->h) : shma_free_ptr(heap, l->p), 0);
	}
	l->size = random_size();
	if (heap_below(2)) {
		l->p = get(l->size, 0, &l->h);
	} else {
		l->h = shma_alloc(heap, l->size, 0);
		l->p = shma_ptr(heap, l->h);
		ck_assert_ptr_nonnull(l->p);
	}
	ck_assert_uint_eq(shma_handle_of(heap, l->p), l->h);
	l->fill = (char)step;
	memset(l->p, l->fill, l->size);
}

static struct live live[LIVE];

START_TEST(calls_by_pointer_and_by_handle_mix)
{
	heap_seed("calls_by_pointer_and_by_handle_mix");
	for (int i = 0; i < STEPS; i++)
		renew(&live[heap_below(LIVE)], i);
	heap_check(&heap->arena);
	for (int i = 0; i < LIVE; i++)
		ck_assert_int_eq(live[i].p ? shma_free_ptr(heap, live[i].p) : 0, 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

/* ---- an arena in which an offset does not fit half a handle ---- */

#define WIDE (UINT64_C(68) << 30)
#define NARROW (UINT64_C(64) << 30)

/* Another thread frees an object and takes objects until it has that place again: the new handle. */
static void *free_and_take_again(void *arg)
{
	shma_handle h = *(shma_handle *)arg, got = SHMA_NULL;

	if (shma_free(heap, h))
		abort();
	do {
		got = shma_alloc(heap, 128, 0);
	} while (got && handle_offset(got) != handle_offset(h));
	*(shma_handle *)arg = got;
	return NULL;
}

START_TEST(the_handle_of_an_address_is_the_one_of_now_whatever_was_asked_for_last)
{
	for (int round = 0; round < 20; round++) {
		shma_handle h = shma_alloc(heap, 128, 0), again = h;
		void *p = shma_ptr(heap, h);
		pthread_t other;

		ck_assert_uint_eq(shma_handle_of(heap, p), h);
		ck_assert_int_eq(pthread_create(&other, NULL, free_and_take_again, &again), 0);
		ck_assert_int_eq(pthread_join(other, NULL), 0);
		ck_assert_uint_ne(again, SHMA_NULL);
		ck_assert_uint_ne(again, h);
		ck_assert_int_eq(shma_free(heap, h), -ESTALE);
		ck_assert_uint_eq(shma_handle_of(heap, p), again);
		ck_assert_int_eq(shma_free(heap, h), -ESTALE);
		ck_assert_int_eq(shma_free(heap, again), 0);
		ck_assert_int_eq(shma_free(heap, again), -ESTALE);
	}
}
END_TEST

START_TEST(a_handle_asked_for_last_is_stale_when_its_page_serves_another_class)
{
	static const size_t sizes[] = {64, 1000, 3000, 20000, 100000, MIB(3)};

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		shma_handle h = shma_alloc(heap, 128, 0), all[8];
		void *p = shma_ptr(heap, h);

		ck_assert_uint_eq(shma_handle_of(heap, p), h);
		ck_assert_int_eq(shma_free_ptr(heap, p), 0);
		cache_empty_all(&heap->arena, thread_peek(&heap->arena));
		for (size_t k = 0; k < LENGTH(all); k++)
			ck_assert((all[k] = shma_alloc(heap, sizes[i], 0)) != SHMA_NULL);
		ck_assert_int_eq(shma_free(heap, h), -ESTALE);
		for (size_t k = 0; k < LENGTH(all); k++)
			ck_assert_int_eq(shma_free(heap, all[k]), 0);
	}
}
END_TEST

/* An address whose place is remembered, and free. */
static void *remembered(void)
{
	void *p = get(128, 0, NULL);
	shma_handle h = shma_handle_of(heap, p);

	ck_assert_uint_eq(thread_cell(&heap->arena)->handle, h);
	ck_assert_int_eq(shma_free_ptr(heap, p), 0);
	return p;
}

START_TEST(what_is_had_and_freed_by_turns_has_a_new_handle_each_time)
{
	void *p = remembered();
	shma_handle before = SHMA_NULL;

	for (int i = 0; i < 1000; i++) {
		shma_handle h = SHMA_NULL;

		ck_assert_ptr_eq(get(128, 0, &h), p);
		ck_assert_uint_ne(h, before);
		ck_assert_int_eq(shma_free(heap, before), before ? -ESTALE : -EINVAL);
		ck_assert_uint_eq(shma_handle_of(heap, p), h);
		ck_assert_int_eq(shma_free_ptr(heap, p), 0);
		ck_assert_int_eq(shma_free(heap, h), -ESTALE);
		before = h;
	}
}
END_TEST

START_TEST(a_remembered_place_may_serve_another_class)
{
	static const size_t sizes[] = {16, 64, 1000, 3000, 4096, 20000, 100000, MIB(3)};
	uint32_t met = 0;

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		char *p = remembered(), *all[300];

		cache_empty_all(&heap->arena, thread_peek(&heap->arena));
		for (size_t k = 0; k < LENGTH(all); k++) {
			all[k] = sizes[i] < MIB(1) || k < 8 ? get(sizes[i], 0, NULL) : NULL;
			met += all[k] && all[k] <= p && p < all[k] + sizes[i];
			if (all[k] && p > all[k] && p < all[k] + sizes[i])
				ck_assert_int_eq(shma_free_ptr(heap, p), -EINVAL);
		}
		for (size_t k = 0; k < LENGTH(all); k++)
			if (all[k])
				ck_assert_int_eq(shma_free_ptr(heap, all[k]), 0);
	}
	ck_assert_uint_gt(met, 0);
}
END_TEST

START_TEST(what_is_remembered_may_be_shared_taken_or_published_meanwhile)
{
	void *p = remembered();
	shma_handle h = SHMA_NULL;

	ck_assert_ptr_eq(get(128, 0, &h), p);
	ck_assert_int_eq(shma_publish(heap, "remembered", h), 0);
	ck_assert_int_eq(shma_free_ptr(heap, p), -EBUSY);
	ck_assert_int_eq(shma_unpublish(heap, "remembered"), 0);
	ck_assert_int_eq(shma_share(heap, h), 0);
	ck_assert_int_eq(shma_take(heap, h), 0);
	ck_assert_int_eq(shma_free_ptr(heap, p), 0);
	ck_assert_int_eq(shma_free(heap, h), -ESTALE);
	ck_assert_ptr_eq(get(128, 0, &h), p);
	ck_assert_int_eq(shma_share(heap, h), 0);
	ck_assert_int_eq(shma_free_ptr(heap, p), 0);
	ck_assert_int_eq(shma_free(heap, h), -ESTALE);
}
END_TEST

START_TEST(beyond_64_gib_both_ways_work_too)
{
	struct arena *a;
	shma_handle h, first = SHMA_NULL;
	uint32_t zone;
	char *p;

	heap = heap_open(WIDE, 0);
	a = &heap->arena;
	zone = (uint32_t)(NARROW / PAGE_SIZE / a->g.zone_pages) + 1;
	get(1, 0, NULL);
	for (uint32_t zones = arena_refresh(a); zones <= zone; zones = arena_refresh(a))
		ck_assert_int_eq(zone_activate(a), 0);
	thread_peek(a)->home_zone = zone;
	for (size_t size = 48; size < 40000; size += size / 2) {
		for (int i = 0; i < 50; i++) {
			p = get(size, 0, &h);
			ck_assert_ptr_eq(shma_ptr(heap, h), p);
			ck_assert_uint_eq(shma_handle_of(heap, p), h);
			if (handle_offset(h) >= NARROW && !first)
				first = h;
			memset(p, 1, size);
			ck_assert_int_eq(shma_free_ptr(heap, p + 16), -EINVAL);
			ck_assert_int_eq(i % 2 ? shma_free_ptr(heap, p) : shma_free(heap, h), 0);
			ck_assert_int_eq(shma_free(heap, h), -ESTALE);
		}
	}
	ck_assert_uint_ne(first, SHMA_NULL);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 1);
	heap_close(heap);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pointer");
	TCase *t = tcase_create("pointer"), *wide = tcase_create("wide");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, pointer_and_handle_are_of_one_object_which_either_frees);
	tcase_add_test(t, what_cannot_be_had_says_why);
	tcase_add_test(t, a_pointer_that_is_no_objects_start_is_invalid_and_disturbs_nothing);
	tcase_add_test(t, a_published_object_is_not_freed_by_pointer);
	tcase_add_test(t, anothers_object_is_freed_by_pointer_only_if_it_was_offered_or_taken);
	tcase_add_test(t, calls_by_pointer_and_by_handle_mix);
	tcase_add_test(t, the_handle_of_an_address_is_the_one_of_now_whatever_was_asked_for_last);
	tcase_add_test(t, a_handle_asked_for_last_is_stale_when_its_page_serves_another_class);
	tcase_add_test(t, what_is_had_and_freed_by_turns_has_a_new_handle_each_time);
	tcase_add_test(t, a_remembered_place_may_serve_another_class);
	tcase_add_test(t, what_is_remembered_may_be_shared_taken_or_published_meanwhile);
	suite_add_tcase(s, t);
	tcase_set_timeout(wide, 60);
	tcase_add_test(wide, beyond_64_gib_both_ways_work_too);
	suite_add_tcase(s, wide);
	return run_suite(s);
}
