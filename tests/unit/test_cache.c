/* SPDX-License-Identifier: Apache-2.0 */
/* Per-thread caches: how they grow, shrink, stay within bounds, and are handed back. */
#include <pthread.h>

#include "cache.h"
#include "heap.h"
#include "object.h"
#include "slab.h"

#define FIRST_BYTES CACHE_FIRST_BYTES
#define BUDGET_MIN (CACHE_LIMITS_PER_SHARE * CACHE_SHARE_MIN)

static shma *heap;

static void setup(void)
{
	heap = heap_open(MIB(128), 0);
}

static void teardown(void)
{
	heap_close(heap);
}

static struct thread_block *block(void)
{
	int err;

	return thread_self(&heap->arena, &err);
}

static struct cache *cache_of(size_t size)
{
	return &block()->caches[sizeclass_of(size)];
}

static uint32_t first_limit(size_t size)
{
	uint32_t n = FIRST_BYTES / sizeclass_table[sizeclass_of(size)].bytes;

	return n ? n : 1;
}

/* The index that each thread keeps of its caches is their sum. */
static void check_bounds(void)
{
	struct thread_block *t = block();
	uint64_t sum = 0;

	for (uint32_t i = 0; i < CLASSES; i++) {
		struct cache *c = &t->caches[i];

		ck_assert_uint_le(cache_count(c), c->capacity);
		ck_assert_uint_le(cache_limit(c), c->capacity);
		sum += (uint64_t)cache_limit(c) * sizeclass_table[i].bytes;
	}
	ck_assert_uint_eq(sum, atomic_load(&t->cached_bytes));
}

static shma_handle all[20000];

/* How many of a class come together at most: to 32 MiB. */
static int some(uint32_t class, int n)
{
	int most = (int)(MIB(32) / sizeclass_table[class].bytes);

	return n < most ? n : most;
}

static void take_and_give(size_t size, int n)
{
	for (int i = 0; i < n; i++) {
		all[i] = shma_alloc(heap, size, 0);
		ck_assert_uint_ne(all[i], SHMA_NULL);
	}
	for (int i = 0; i < n; i++)
		ck_assert_int_eq(shma_free(heap, all[i]), 0);
}

START_TEST(a_freed_object_is_the_next_one_given_under_a_new_generation)
{
	shma_handle h = shma_alloc(heap, 100, 0), k;

	ck_assert_int_eq(shma_free(heap, h), 0);
	k = shma_alloc(heap, 100, 0);
	ck_assert_uint_ne(h, k);
	ck_assert_uint_eq(handle_offset(h), handle_offset(k));
	ck_assert_uint_eq((handle_gen(k) - handle_gen(h)) & 0xffff, block()->gen_step >> STATE_GEN_SHIFT);
	ck_assert_int_eq(shma_free(heap, k), 0);
}
END_TEST

START_TEST(a_cache_begins_small_and_grows_on_misses)
{
	uint32_t begin;

	ck_assert_uint_ne(all[0] = shma_alloc(heap, 64, 0), SHMA_NULL);
	begin = cache_limit(cache_of(64));
	ck_assert_uint_eq(begin, first_limit(64));
	ck_assert_int_eq(shma_free(heap, all[0]), 0);
	for (int i = 0; i < 50; i++)
		take_and_give(64, 4000);
	ck_assert_uint_gt(cache_limit(cache_of(64)), begin);
	ck_assert_uint_le(cache_limit(cache_of(64)), 1024);
	check_bounds();
	heap_check(&heap->arena);
}
END_TEST

START_TEST(caches_stay_within_their_share)
{
	uint64_t bound = CACHE_LIMITS_PER_SHARE * CACHE_LITTLE_MAX, first = 0;

	for (uint32_t i = 0; i < CLASSES; i++)
		first += first_limit(sizeclass_table[i].bytes) * (uint64_t)sizeclass_table[i].bytes;
	for (int round = 0; round < 3; round++)
		for (uint32_t i = 0; i < CLASSES; i++) {
			take_and_give(sizeclass_table[i].bytes, some(i, i < 48 ? 500 : 30));
			check_bounds();
		}
	/* Each class has its first few in any case. */
	ck_assert_uint_le(atomic_load(&block()->cached_bytes), bound + first);
	ck_assert_uint_le(heap_stats(heap).cached_bytes, bound + first);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	heap_check(&heap->arena);
}
END_TEST

START_TEST(who_owns_much_may_keep_a_twentieth_ready)
{
	uint64_t allowed;

	for (int i = 0; i < 20000; i++)
		ck_assert_uint_ne(all[i] = shma_alloc(heap, 1000, 0), SHMA_NULL);
	for (int i = 0; i < 20000; i++)
		ck_assert_int_eq(shma_free(heap, all[i]), 0);
	allowed = 2 * 20000 * 1024 / 20;
	ck_assert_uint_le(heap_stats(heap).cached_bytes, allowed + FIRST_BYTES);
	for (int round = 0; round < 20; round++)
		take_and_give(1000, 2000);
	/* It owns little now, and keeps no more than who has had a little. */
	ck_assert_uint_le(heap_stats(heap).cached_bytes,
			  CACHE_LIMITS_PER_SHARE * CACHE_LITTLE_MAX + FIRST_BYTES);
	check_bounds();
}
END_TEST

#define SIZES 64 /* of 16 to 1,024 bytes, 40 classes */

/* Those that flush most do not shrink most: else they flush a few objects at a time. */
START_TEST(who_frees_all_flushes_many_at_a_time)
{
	static shma_handle much[100000];
	uint32_t n = sizeof(much) / sizeof(*much), calls;

	for (uint32_t i = 0; i < n; i++)
		ck_assert_uint_ne(much[i] = shma_alloc(heap, 16 * (i % SIZES + 1), 0), SHMA_NULL);
	calls = block()->slow_calls;
	for (uint32_t i = 0; i < n; i++)
		ck_assert_int_eq(shma_free(heap, much[i]), 0);
	calls = block()->slow_calls - calls;
	ck_assert_uint_lt(calls, n / 16);
	check_bounds();
	heap_check(&heap->arena);
}
END_TEST

START_TEST(asked_to_shrink_a_thread_empties_its_caches_at_its_next_slow_call)
{
	struct client_record *r = client_record_at(&heap->arena, heap->arena.client);

	for (uint32_t i = 0; i < CLASSES; i++)
		for (int k = 0; k < 10; k++)
			take_and_give(sizeclass_table[i].bytes, some(i, 100));
	ck_assert_uint_gt(heap_stats(heap).cached_bytes, 50000);
	atomic_fetch_add(&r->shrink, 1);
	take_and_give(16, 2000); /* misses, and meets the wish */
	for (uint32_t i = 1; i < CLASSES; i++) {
		const struct cache *c = &block()->caches[i];

		ck_assert_uint_eq(cache_count(c), 0);
		ck_assert_uint_le(cache_limit(c), first_limit(sizeclass_table[i].bytes));
	}
	ck_assert_uint_le(heap_stats(heap).cached_bytes, 16 * CACHE_LIMIT_MAX);
	check_bounds();
	heap_check(&heap->arena);
}
END_TEST

START_TEST(everything_is_handed_back_when_the_thread_is_done)
{
	for (uint32_t i = 0; i < CLASSES; i++)
		take_and_give(sizeclass_table[i].bytes, some(i, 200));
	cache_release_all(&heap->arena, block());
	ck_assert_uint_eq(heap_stats(heap).cached_objects, 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	ck_assert_uint_eq(heap_stats(heap).slabs, 0);
	ck_assert_uint_eq(atomic_load(&block()->cached_bytes), 0);
	heap_check(&heap->arena);
	take_and_give(100, 100); /* and it can begin again */
	check_bounds();
}
END_TEST

#define LARGE 65536

START_TEST(objects_with_a_slab_each_are_drawn_together_if_there_is_memory_for_them)
{
	uint64_t committed;
	int n = 400;

	for (int i = 0; i < n; i++) {
		ck_assert_uint_ne(all[i] = shma_alloc(heap, LARGE, 0), SHMA_NULL);
		/* Of fresh memory: just what is asked for. */
		ck_assert_uint_eq(cache_count(cache_of(LARGE)), 0);
	}
	while (n > 200)
		ck_assert_int_eq(shma_free(heap, all[--n]), 0);
	while (cache_count(cache_of(LARGE)) > 0)
		ck_assert_uint_ne(all[n++] = shma_alloc(heap, LARGE, 0), SHMA_NULL);
	committed = heap_stats(heap).committed_bytes;
	ck_assert_uint_ne(all[n++] = shma_alloc(heap, LARGE, 0), SHMA_NULL);
	ck_assert_uint_gt(cache_limit(cache_of(LARGE)), 4);
	ck_assert_uint_eq(cache_count(cache_of(LARGE)), cache_limit(cache_of(LARGE)) / 2 - 1);
	ck_assert_uint_eq(heap_stats(heap).committed_bytes, committed);
	while (n > 0)
		ck_assert_int_eq(shma_free(heap, all[--n]), 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	check_bounds();
	heap_check(&heap->arena);
}
END_TEST

START_TEST(emptied_caches_keep_their_arrays_and_nothing_else)
{
	for (uint32_t i = 0; i < CLASSES; i++)
		take_and_give(sizeclass_table[i].bytes, some(i, 200));
	cache_empty_all(&heap->arena, block());
	ck_assert_uint_eq(heap_stats(heap).cached_objects, 0);
	for (uint32_t i = 0; i < CLASSES; i++)
		ck_assert_uint_ne(block()->caches[i].slots, 0);
	heap_check(&heap->arena);
}
END_TEST

/* What two threads leave that free one object at once: a handle that its word does not match. */
START_TEST(a_stale_ready_handle_is_dropped_where_it_is_met)
{
	shma_handle h = shma_alloc(heap, 100, 0), kept;
	struct slab_place p;
	uint32_t word;

	ck_assert_int_eq(slab_find(&heap->arena, handle_offset(h), &p), 0);
	word = atomic_load(&p.record->words[p.index]);
	ck_assert_int_eq(shma_free(heap, h), 0);
	atomic_store(&p.record->words[p.index], word + (3u << STATE_GEN_SHIFT)); /* the other thread's */
	kept = h + (UINT64_C(3) << HANDLE_GEN_SHIFT);
	cache_empty_all(&heap->arena, block());
	heap_check(&heap->arena);
	/* Still one object of this process's: whoever has the other handle frees it. */
	ck_assert_uint_eq(heap_stats(heap).live_objects, 1);
	ck_assert_int_eq(shma_free(heap, kept), 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

/* ---- threads ---- */

static void *use_and_end(void *arg)
{
	shma_handle h[500];

	(void)arg;
	for (int round = 0; round < 20; round++) {
		size_t size = 16u << (round % 11);

		for (int i = 0; i < 500; i++) {
			h[i] = shma_alloc(heap, size, 0);
			if (!h[i])
				return (void *)1;
			memset(shma_ptr(heap, h[i]), i, size);
		}
		for (int i = 0; i < 500; i++)
			if (*(char *)shma_ptr(heap, h[i]) != (char)i || shma_free(heap, h[i]))
				return (void *)2;
	}
	return NULL;
}

START_TEST(a_threads_end_hands_all_of_its_caches_back)
{
	pthread_t threads[4];
	void *error;

	for (size_t i = 0; i < LENGTH(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, use_and_end, NULL), 0);
	for (size_t i = 0; i < LENGTH(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], &error), 0);
		ck_assert_ptr_eq(error, NULL);
	}
	ck_assert_uint_eq(heap_stats(heap).cached_objects, 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	ck_assert_uint_eq(heap_stats(heap).threads, 0);
	ck_assert_uint_eq(heap_stats(heap).slabs, 0);
	heap_check(&heap->arena);
}
END_TEST

static void *free_given(void *arg)
{
	shma_handle *h = arg;

	for (int i = 0; i < 5000; i++)
		if (shma_free(heap, h[i]))
			return (void *)1;
	return NULL;
}

START_TEST(objects_may_be_freed_by_another_thread_than_their_makers)
{
	for (int round = 0; round < 5; round++) {
		pthread_t thread;
		void *error;

		for (int i = 0; i < 5000; i++)
			ck_assert_uint_ne(all[i] = shma_alloc(heap, 100, 0), SHMA_NULL);
		ck_assert_int_eq(pthread_create(&thread, NULL, free_given, all), 0);
		ck_assert_int_eq(pthread_join(thread, &error), 0);
		ck_assert_ptr_eq(error, NULL);
		ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
		heap_check(&heap->arena);
	}
	ck_assert_uint_le(heap_stats(heap).slab_bytes, 5000 * 112 / 4);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cache");
	TCase *t = tcase_create("cache");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_freed_object_is_the_next_one_given_under_a_new_generation);
	tcase_add_test(t, a_cache_begins_small_and_grows_on_misses);
	tcase_add_test(t, caches_stay_within_their_share);
	tcase_add_test(t, who_owns_much_may_keep_a_twentieth_ready);
	tcase_add_test(t, who_frees_all_flushes_many_at_a_time);
	tcase_add_test(t, asked_to_shrink_a_thread_empties_its_caches_at_its_next_slow_call);
	tcase_add_test(t, everything_is_handed_back_when_the_thread_is_done);
	tcase_add_test(t, objects_with_a_slab_each_are_drawn_together_if_there_is_memory_for_them);
	tcase_add_test(t, emptied_caches_keep_their_arrays_and_nothing_else);
	tcase_add_test(t, a_stale_ready_handle_is_dropped_where_it_is_met);
	tcase_add_test(t, a_threads_end_hands_all_of_its_caches_back);
	tcase_add_test(t, objects_may_be_freed_by_another_thread_than_their_makers);
	suite_add_tcase(s, t);
	return run_suite(s);
}
