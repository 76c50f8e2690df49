/* SPDX-License-Identifier: Apache-2.0 */
/* Slab records: in blocks that stay, each with one user at a time, settled after a death. */
#include "heap.h"
#include "hint.h"
#include "record.h"
#include "sizeclass.h"
#include "slab.h"

static struct arena arena;
static struct board *board;

static void setup(void)
{
	heap_attach(&arena, MIB(16));
	board = board_new();
}

static void teardown(void)
{
	heap_check(&arena);
	heap_detach(&arena);
}

static uint64_t take(uint32_t shape)
{
	int err = 0;
	uint64_t at = record_alloc(&arena, shape, &err);

	ck_assert_uint_ne(at, 0);
	return at;
}

static uint32_t owner_of(uint64_t at)
{
	return atomic_load(&record_at(&arena, at)->owner);
}

static bool lies_in_a_block(uint64_t at, uint32_t shape)
{
	uint64_t page = at >> PAGE_SHIFT, w0 = atomic_load(&arena.pages[page].w0);

	if (pw0_kind(w0) != PAGE_STATE) /* its second page? */
		w0 = atomic_load(&arena.pages[--page].w0);
	return pw0_kind(w0) == PAGE_STATE && pw0_class(w0) == shape &&
	       (at - (page << PAGE_SHIFT) - 64) % shape_record_bytes(shape) == 0 &&
	       at + shape_record_bytes(shape) <=
		       (page + shape_block_pages(shape)) << PAGE_SHIFT;
}

START_TEST(records_of_every_shape_lie_apart_in_blocks_of_their_shape)
{
	for (uint32_t shape = 1; shape <= SHAPES; shape++) {
		uint32_t n = 2 * shape_block_records(shape) + 1;
		uint64_t *at = calloc(n, sizeof(*at));

		for (uint32_t i = 0; i < n; i++) {
			at[i] = take(shape);
			ck_assert(lies_in_a_block(at[i], shape));
			ck_assert_uint_eq(owner_of(at[i]), record_busy(arena.client));
			for (uint32_t k = 0; k < i; k++)
				ck_assert(at[k] + shape_record_bytes(shape) <= at[i] ||
					  at[i] + shape_record_bytes(shape) <= at[k]);
		}
		heap_check(&arena);
		for (uint32_t i = 0; i < n; i++)
			record_free(&arena, record_at(&arena, at[i]), shape);
		free(at);
	}
}
END_TEST

START_TEST(a_record_given_back_is_used_again_before_a_new_block)
{
	uint32_t n = shape_block_records(4);
	uint64_t at[64], pages;

	for (uint32_t i = 0; i < n; i++)
		at[i] = take(4);
	pages = heap_all_free_pages(&arena);
	for (int round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < n; i++)
			record_free(&arena, record_at(&arena, at[i]), 4);
		for (uint32_t i = 0; i < n; i++)
			at[i] = take(4);
	}
	ck_assert_uint_eq(heap_all_free_pages(&arena), pages);
	for (uint32_t i = 0; i < n; i++)
		record_free(&arena, record_at(&arena, at[i]), 4);
}
END_TEST

static int take_many(void *arg)
{
	uint64_t at[40];

	(void)arg;
	if (thread_become_client(&arena))
		return 1;
	for (int round = 0; round < 200; round++) {
		for (size_t i = 0; i < LENGTH(at); i++) {
			int err;

			at[i] = record_alloc(&arena, 2, &err);
			if (!at[i] || owner_of(at[i]) != record_busy(arena.client))
				return 2;
		}
		for (size_t i = 0; i < LENGTH(at); i++) {
			if (owner_of(at[i]) != record_busy(arena.client))
				return 3; /* given to another too */
			record_free(&arena, record_at(&arena, at[i]), 2);
		}
	}
	return 0;
}

START_TEST(several_processes_never_have_the_same_record)
{
	pid_t pids[4];

	for (size_t i = 0; i < LENGTH(pids); i++)
		pids[i] = child_start(take_many, NULL);
	for (size_t i = 0; i < LENGTH(pids); i++)
		child_expect(pids[i], 0);
	ck_assert_uint_eq(reap(&arena), LENGTH(pids));
}
END_TEST

static int take_and_die(void *arg)
{
	(void)arg;
	if (thread_become_client(&arena))
		return 1;
	for (int i = 0; i < 50; i++)
		take(1 + (uint32_t)i % SHAPES);
	die();
	return 0;
}

START_TEST(records_a_dead_client_was_busy_with_are_free_again)
{
	uint64_t mine = take(3), pages;

	child_dies(child_start(take_and_die, NULL));
	ck_assert_uint_eq(reap(&arena), 1);
	ck_assert_uint_eq(owner_of(mine), record_busy(arena.client));
	heap_check(&arena);
	pages = heap_all_free_pages(&arena);
	child_dies(child_start(take_and_die, NULL));
	ck_assert_uint_eq(reap(&arena), 1);
	ck_assert_uint_eq(heap_all_free_pages(&arena), pages); /* the same blocks served */
	record_free(&arena, record_at(&arena, mine), 3);
}
END_TEST

static uint64_t slab_object(void)
{
	uint32_t home = 1;
	struct slab_source from = {.class = 10, .home = &home};
	uint64_t handle;
	int err;

	ck_assert_uint_eq(slab_claim(&arena, &from, 1, OBJECT_PRIVATE, &handle, &err), 1);
	return handle;
}

/* As one killed between its slab's entry and the record's last store. */
static int leave_slab_busy(void *arg)
{
	struct slab_place p;

	(void)arg;
	if (thread_become_client(&arena) || slab_find(&arena, handle_offset(slab_object()), &p))
		return 1;
	atomic_store(&p.record->owner, record_busy(arena.client));
	atomic_store(&board->numbers[0], (uint64_t)((char *)p.record - arena.heap));
	rest(board);
	return 0;
}

START_TEST(a_busy_record_that_a_slab_names_is_live_after_the_death)
{
	pid_t pid = child_start(leave_slab_busy, NULL);
	uint64_t at, pages;

	board_wait(&board->ready, 1);
	at = atomic_load(&board->numbers[0]);
	child_kill(pid);
	arena_refresh(&arena);
	/* The block alone, first: recovery may come by it before it comes by the slab. */
	record_recover_block(&arena, at >> PAGE_SHIFT, arena.client + 1);
	ck_assert_uint_eq(owner_of(at), RECORD_LIVE);
	pages = heap_all_free_pages(&arena);
	ck_assert_uint_eq(reap(&arena), 1);
	/* The slab was empty then. */
	ck_assert_uint_eq(owner_of(at), RECORD_FREE);
	ck_assert_uint_eq(heap_all_free_pages(&arena), pages + sizeclass_table[sizeclass_short(10)].pages);
}
END_TEST

/* As one who was about to draw from an earlier slab of the record, and whose marks are of that slab. */
static int hold_by_mistake(void *arg)
{
	const struct slab_place *p = arg;
	uint64_t at = (uint64_t)((char *)p->record - arena.heap);

	if (thread_become_client(&arena) || client_mark_page(&arena, at >> PAGE_SHIFT))
		return 1;
	atomic_store(&p->record->owner, record_busy(arena.client));
	rest(board);
	return 0;
}

START_TEST(a_slab_held_by_mistake_is_let_go_after_the_death)
{
	uint32_t home = 1;
	struct slab_source from = {.class = 10, .home = &home};
	uint64_t handles[2], pages;
	struct slab_place p;
	pid_t pid;
	int err;

	for (int n = 1; n <= 2; n++) {
		ck_assert_uint_eq(slab_claim(&arena, &from, 2, OBJECT_PRIVATE, handles, &err), 2);
		ck_assert_int_eq(slab_find(&arena, handle_offset(handles[0]), &p), 0);
		ck_assert_uint_ne(((char *)p.record - arena.heap) >> REGION_SHIFT, p.head / REGION_PAGES);
		pid = child_start(hold_by_mistake, &p);
		board_wait(&board->ready, (uint32_t)n);
		slab_put(&arena, handles, (uint32_t)n, 0);
		/* Others find nothing that is open. */
		hint_clear(&arena, p.kind, p.head / REGION_PAGES);
		pages = heap_all_free_pages(&arena);
		child_kill(pid);
		ck_assert_uint_eq(reap(&arena), 1);
		ck_assert_uint_eq(atomic_load(&p.record->owner), n == 1 ? RECORD_LIVE : RECORD_FREE);
		ck_assert_uint_eq(heap_all_free_pages(&arena),
				  pages + (n == 1 ? 0 : sizeclass_table[p.kind].pages));
		if (n == 1)
			ck_assert(hint_test(&arena, p.kind, p.head / REGION_PAGES));
		heap_check(&arena);
		if (n == 1)
			slab_put(&arena, &handles[1], 1, 0);
	}
}
END_TEST

START_TEST(what_is_no_place_for_a_record_is_told)
{
	uint64_t at = take(2);

	ck_assert(record_plausible(&arena, at, 2));
	ck_assert(!record_plausible(&arena, arena.g.capacity, 1));
	ck_assert(!record_plausible(&arena, arena.g.capacity - 64, 1));
	ck_assert(!record_plausible(&arena, UINT64_MAX & PW1_RECORD_MASK, 16));
	record_free(&arena, record_at(&arena, at), 2);
}
END_TEST

START_TEST(recovery_of_what_is_no_block_does_nothing)
{
	uint64_t handle = slab_object();

	for (uint64_t page = 0; page < 2 * arena.g.zone_pages; page++)
		record_recover_block(&arena, page, 7);
	slab_put(&arena, &handle, 1, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("record");
	TCase *t = tcase_create("record");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, records_of_every_shape_lie_apart_in_blocks_of_their_shape);
	tcase_add_test(t, a_record_given_back_is_used_again_before_a_new_block);
	tcase_add_test(t, several_processes_never_have_the_same_record);
	tcase_add_test(t, records_a_dead_client_was_busy_with_are_free_again);
	tcase_add_test(t, a_busy_record_that_a_slab_names_is_live_after_the_death);
	tcase_add_test(t, a_slab_held_by_mistake_is_let_go_after_the_death);
	tcase_add_test(t, what_is_no_place_for_a_record_is_told);
	tcase_add_test(t, recovery_of_what_is_no_block_does_nothing);
	suite_add_tcase(s, t);
	return run_suite(s);
}
