/* SPDX-License-Identifier: Apache-2.0 */
/* Quotas: what one client may own, caches included, and no more; counted anew where the count is wrong. */
#include "heap.h"
#include "object.h"
#include "quota.h"

#define QUOTA MIB(2)

static shma *heap;
static shma_handle all[50000];
static int count;

static void setup(void)
{
	heap = heap_open(MIB(32), QUOTA);
	count = 0;
}

static void teardown(void)
{
	heap_close(heap);
}

/* What the truth says that a client owns, live and cached. */
static uint64_t owned(uint32_t client)
{
	struct stats_detail *d = calloc(1, sizeof(*d));
	struct shma_stats st;
	uint64_t bytes;

	stats_arena_detail(&heap->arena, &st, d);
	bytes = d->clients[client].owned_bytes;
	free(d);
	return bytes;
}

static uint64_t fill(size_t size)
{
	uint64_t bytes = 0;
	shma_handle h;

	errno = 0;
	while (count < (int)LENGTH(all) && (h = shma_alloc(heap, size, 0)) != SHMA_NULL) {
		all[count++] = h;
		bytes += shma_size(heap, h);
	}
	ck_assert_int_eq(errno, EDQUOT);
	return bytes;
}

static void free_all(void)
{
	while (count)
		ck_assert_int_eq(shma_free(heap, all[--count]), 0);
}

START_TEST(nobody_owns_more_than_its_quota_and_all_of_it_can_be_live)
{
	const size_t sizes[] = {64, 100, 1000, 5000, 32768, 40000, 300000};

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		uint64_t live = fill(sizes[i]);

		ck_assert_uint_le(owned(heap->arena.client), QUOTA);
		ck_assert_uint_gt(live + sizes[i] + PAGE_SIZE, QUOTA * 9 / 10);
		heap_check(&heap->arena);
		free_all(); /* and what is cached then gives way to the next size */
	}
}
END_TEST

START_TEST(a_free_makes_room_for_one_more)
{
	fill(10000);
	for (int i = 0; i < 20; i++) {
		ck_assert(shma_alloc(heap, 10000, 0) == SHMA_NULL && errno == EDQUOT);
		ck_assert_int_eq(shma_free(heap, all[--count]), 0);
		all[count] = shma_alloc(heap, 10000, 0);
		ck_assert_uint_ne(all[count++], SHMA_NULL);
	}
	free_all();
}
END_TEST

START_TEST(what_is_given_to_the_arena_counts_for_nobody)
{
	shma_handle h = shma_alloc(heap, QUOTA / 2 + PAGE_SIZE, 0), k;

	ck_assert_uint_ne(h, SHMA_NULL);
	ck_assert(shma_alloc(heap, QUOTA / 2, 0) == SHMA_NULL && errno == EDQUOT);
	ck_assert_int_eq(shma_publish(heap, "root", h), 0);
	k = shma_alloc(heap, QUOTA / 2 + PAGE_SIZE, 0);
	ck_assert_uint_ne(k, SHMA_NULL);
	ck_assert_int_eq(shma_free(heap, k), 0);
	ck_assert_int_eq(shma_unpublish(heap, "root"), 0);
	ck_assert(shma_alloc(heap, QUOTA / 2, 0) == SHMA_NULL && errno == EDQUOT);
	ck_assert_int_eq(shma_free(heap, h), 0);
}
END_TEST

START_TEST(a_wrong_count_is_made_anew_before_anyone_is_refused)
{
	struct client_record *r = client_record_at(&heap->arena, heap->arena.client);

	atomic_store(&r->owned_bytes, INT64_MAX / 2);
	ck_assert_uint_gt(fill(1000), QUOTA * 9 / 10);
	free_all();
	atomic_store(&r->owned_bytes, (int64_t)QUOTA);
	ck_assert_uint_gt(fill(50000), QUOTA * 9 / 10);
	free_all();
	ck_assert_uint_eq(quota_allows(&heap->arena, 16, 5), 5);
}
END_TEST

static int fill_as_another(void *arg)
{
	(void)arg;
	if (fill(1000) < QUOTA * 9 / 10 || owned(heap->arena.client) > QUOTA)
		return 1;
	return 0;
}

START_TEST(each_client_has_its_own_quota)
{
	ck_assert_uint_gt(fill(1000), QUOTA * 9 / 10);
	ck_assert_int_eq(in_child(fill_as_another, NULL), 0);
	reap(&heap->arena);
	free_all();
}
END_TEST

/* ---- what others free ---- */

#define OFFERED 100

static struct board *board;

static int offer_some(void *arg)
{
	(void)arg;
	for (int i = 0; i < OFFERED; i++)
		atomic_store(&board->numbers[i], shma_alloc(heap, 1000, SHMA_SHARED));
	rest(board);
	return 0;
}

/* Frees what another offers, with its last free an empty cache's slow call; how much its count fell by the first
 * free, and in all. */
static void free_the_offered(int64_t *at_once, int64_t *in_all)
{
	struct arena *a = &heap->arena;
	uint32_t owner = 0;
	int64_t before;
	pid_t pid;

	board = board_new();
	pid = child_start(offer_some, NULL);
	child_ready(board, pid, 1);
	ck_assert_uint_ne(object_kind_of(a, atomic_load(&board->numbers[0]), &owner), OBJECT_FREE);
	ck_assert_int_eq(shma_free(heap, shma_alloc(heap, 1000, 0)), 0); /* there is a cache */
	before = client_owned(a, owner);
	ck_assert_int_eq(shma_free(heap, atomic_load(&board->numbers[0])), 0);
	*at_once = before - client_owned(a, owner);
	for (int i = 1; i < OFFERED; i++)
		ck_assert_int_eq(shma_free(heap, atomic_load(&board->numbers[i])), 0);
	ck_assert_uint_ne(shma_alloc(heap, 3000, 0), SHMA_NULL); /* a class of which nothing is cached */
	*in_all = before - client_owned(a, owner);
	child_kill(pid);
	reap(a);
}

START_TEST(what_another_frees_makes_room_at_once_where_there_is_a_quota)
{
	int64_t at_once, in_all;

	free_the_offered(&at_once, &in_all);
	ck_assert_int_ge(at_once, 1000);
	ck_assert_int_eq(in_all, OFFERED * at_once);
}
END_TEST

START_TEST(what_another_frees_is_told_its_owner_with_the_next_slow_call)
{
	int64_t at_once, in_all;
	shma *with_quota = heap;
	struct thread_block *t;

	heap = heap_open(MIB(16), 0);
	free_the_offered(&at_once, &in_all);
	ck_assert_int_eq(at_once, 0);
	ck_assert_int_ge(in_all, OFFERED * 1000);
	t = thread_peek(&heap->arena);
	/* And is the freer's from the first on. */
	ck_assert_int_eq(t->owed_bytes, 0);
	ck_assert_int_eq((int64_t)owned(heap->arena.client),
			 client_owned(&heap->arena, heap->arena.client) + t->owned_bytes);
	heap_close(heap);
	heap = with_quota;
}
END_TEST

START_TEST(without_a_quota_everything_is_allowed)
{
	shma *other;

	teardown();
	other = heap_open(MIB(16), 0);
	ck_assert_uint_eq(quota_allows(&other->arena, UINT64_MAX / 2, 7), 7);
	heap_close(other);
	setup();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("quota");
	TCase *t = tcase_create("quota");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, nobody_owns_more_than_its_quota_and_all_of_it_can_be_live);
	tcase_add_test(t, a_free_makes_room_for_one_more);
	tcase_add_test(t, what_is_given_to_the_arena_counts_for_nobody);
	tcase_add_test(t, a_wrong_count_is_made_anew_before_anyone_is_refused);
	tcase_add_test(t, each_client_has_its_own_quota);
	tcase_add_test(t, what_another_frees_makes_room_at_once_where_there_is_a_quota);
	tcase_add_test(t, what_another_frees_is_told_its_owner_with_the_next_slow_call);
	tcase_add_test(t, without_a_quota_everything_is_allowed);
	suite_add_tcase(s, t);
	return run_suite(s);
}
