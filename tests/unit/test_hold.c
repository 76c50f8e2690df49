/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that several clients keep alive: who may begin, who counts, what a death drops, what refuses. */
#include <pthread.h>

#include "heap.h"
#include "hold.h"
#include "names.h"
#include "object.h"

#define CAPACITY MIB(16)

static shma *heap;
static struct arena *arena;
static struct board *board;

static void open_heap(void)
{
	heap = heap_open(CAPACITY, 0);
	arena = &heap->arena;
	board = board_new();
}

static void close_heap(void)
{
	heap_close(heap);
	munmap(board, sizeof(*board));
}

static uint64_t alloc(size_t size, unsigned flags)
{
	uint64_t h = shma_alloc(heap, size, flags);

	ck_assert_uint_ne(h, 0);
	return h;
}

static uint64_t held(size_t size)
{
	uint64_t h = alloc(size, 0);

	memset(shma_ptr(heap, h), 0x5a, size);
	ck_assert_int_eq(shma_retain(heap, h), 0);
	return h;
}

static bool is_live(uint64_t h)
{
	return shma_size(heap, h) != 0;
}

/* The record of a held object. */
static struct hold_record *record_of(uint64_t h)
{
	uint32_t place = 0;

	ck_assert_int_eq(object_kind_of(arena, h, &place), OBJECT_HELD);
	return hold_record_at(arena, hold_place(arena, hold_home(h), place));
}

static struct hold_view view_of(uint64_t h)
{
	struct hold_view view;

	ck_assert(hold_view(arena, (uint64_t)(record_of(h) - hold_record_at(arena, 0)), &view));
	ck_assert_uint_eq(view.handle, h);
	return view;
}

/* ---- one process ---- */

START_TEST(what_the_owner_holds_is_freed_by_its_last_release)
{
	static const size_t sizes[] = {16, 100, 5000, 40000, 300000, 3 << 20};

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		uint64_t live = heap_stats(heap).live_objects, h = held(sizes[i]);

		ck_assert_int_eq(shma_retain(heap, h), 0);
		ck_assert_uint_eq(view_of(h).holders, 1);
		ck_assert_uint_eq(view_of(h).holds, 2);
		heap_check(arena);
		ck_assert_int_eq(shma_release(heap, h), 0);
		ck_assert_uint_eq(((unsigned char *)shma_ptr(heap, h))[sizes[i] - 1], 0x5a);
		ck_assert_int_eq(shma_release(heap, h), 0);
		ck_assert(!is_live(h));
		ck_assert_int_eq(shma_release(heap, h), -ESTALE);
		ck_assert_int_eq(shma_retain(heap, h), -ESTALE);
		ck_assert_uint_eq(heap_stats(heap).live_objects, live);
	}
}
END_TEST

START_TEST(what_is_on_offer_or_taken_can_be_held_by_its_owner)
{
	uint64_t h = alloc(64, SHMA_SHARED), taken = alloc(64, SHMA_SHARED);

	ck_assert_int_eq(shma_take(heap, taken), 0);
	ck_assert_int_eq(shma_retain(heap, taken), 0);
	ck_assert_int_eq(shma_retain(heap, h), 0);
	ck_assert_int_eq(shma_take(heap, h), -EBUSY);
	ck_assert_int_eq(shma_release(heap, h), 0);
	ck_assert_int_eq(shma_release(heap, taken), 0);
	ck_assert(!is_live(h) && !is_live(taken));
}
END_TEST

START_TEST(a_held_object_is_read_and_nothing_else)
{
	uint64_t cell_object = alloc(64, SHMA_PERSIST);
	static const size_t sizes[] = {200, 300000};
	char got[200];

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		uint64_t h = held(sizes[i]);

		ck_assert_int_eq(shma_free(heap, h), -EBUSY);
		ck_assert_int_eq(shma_free_ptr(heap, shma_ptr(heap, h)), -EBUSY);
		ck_assert_int_eq(shma_share(heap, h), -EBUSY);
		ck_assert_int_eq(shma_take(heap, h), -EBUSY);
		ck_assert_int_eq(shma_persist(heap, h, shma_ptr(heap, cell_object)), -EBUSY);
		ck_assert_int_eq(shma_publish(heap, "held", h), -EBUSY);
		ck_assert_uint_eq(shma_resize(heap, h, 10), 0);
		ck_assert_int_eq(errno, EBUSY);
		ck_assert_uint_eq(shma_resize(heap, h, 1 << 20), 0);
		ck_assert_int_eq(errno, EBUSY);
		ck_assert_uint_ge(shma_size(heap, h), sizes[i]);
		ck_assert_int_eq(shma_read(heap, h, 0, got, sizeof(got)), sizeof(got));
		ck_assert_int_eq(got[199], 0x5a);
		ck_assert_uint_eq(shma_handle_of(heap, shma_ptr(heap, h)), h);
		ck_assert_int_eq(shma_release(heap, h), 0);
	}
}
END_TEST

START_TEST(what_cannot_be_held_is_refused_with_its_reason)
{
	uint64_t published = alloc(64, 0), persistent = alloc(64, SHMA_PERSIST), private = alloc(64, 0);
	uint64_t freed = alloc(64, 0), inside;

	ck_assert_int_eq(shma_free(heap, freed), 0);
	ck_assert_int_eq(shma_publish(heap, "name", published), 0);
	ck_assert_int_eq(shma_retain(heap, published), -EBUSY);
	ck_assert_int_eq(shma_release(heap, published), -EPERM);
	ck_assert_int_eq(shma_retain(heap, persistent), -EPERM);
	ck_assert_int_eq(shma_take(heap, persistent), 0);
	ck_assert_int_eq(shma_retain(heap, persistent), 0);
	ck_assert_int_eq(shma_release(heap, persistent), 0);
	ck_assert_int_eq(shma_retain(heap, freed), -ESTALE);
	ck_assert_int_eq(shma_release(heap, freed), -ESTALE);
	ck_assert_int_eq(shma_release(heap, private), -EPERM);
	ck_assert_int_eq(shma_retain(heap, private ^ UINT64_C(1) << HANDLE_TAG_SHIFT), -EINVAL);
	ck_assert_int_eq(shma_release(heap, private ^ UINT64_C(1) << HANDLE_TAG_SHIFT), -EINVAL);
	inside = private + 1;
	ck_assert_int_eq(shma_retain(heap, inside), -EINVAL);
	ck_assert_int_eq(shma_retain(heap, SHMA_NULL), -EINVAL);
}
END_TEST

START_TEST(a_count_that_is_full_is_told_and_stays)
{
	uint64_t h = held(64);
	struct hold_record *r = record_of(h);

	atomic_store(&r->slots[0], hold_slot(arena->client, HOLD_COUNT_MAX - 1));
	ck_assert_int_eq(shma_retain(heap, h), 0);
	ck_assert_int_eq(shma_retain(heap, h), -EOVERFLOW);
	ck_assert_uint_eq(view_of(h).holds, HOLD_COUNT_MAX);
	ck_assert_int_eq(shma_release(heap, h), 0);
	ck_assert_uint_eq(view_of(h).holds, HOLD_COUNT_MAX - 1);
	atomic_store(&r->slots[0], hold_slot(arena->client, 1));
	ck_assert_int_eq(shma_release(heap, h), 0);
	ck_assert(!is_live(h));
}
END_TEST

/* One record for each KiB: all of them, then none; and all are good again. */
START_TEST(more_held_objects_than_records_are_refused_and_records_come_back)
{
	uint64_t records = (CAPACITY >> REGION_SHIFT) * HOLD_PAGE_RECORDS, n = 0;
	uint64_t *handles = calloc(records, sizeof(*handles)), h;

	for (int round = 0; round < 2; round++) {
		for (n = 0;; n++) {
			h = alloc(16, 0);
			int r = shma_retain(heap, h);

			if (r) {
				ck_assert_int_eq(r, -ENOSPC);
				ck_assert_int_eq(shma_free(heap, h), 0);
				break;
			}
			ck_assert_uint_lt(n, records);
			handles[n] = h;
		}
		ck_assert_uint_ge(n, HOLD_PLACES);
		heap_check(arena);
		while (n > 0)
			ck_assert_int_eq(shma_release(heap, handles[--n]), 0);
	}
	free(handles);
}
END_TEST

/* ---- several ---- */

static int child_retains(void *arg)
{
	uint64_t h = *(uint64_t *)arg;

	if (shma_release(heap, h) != -EPERM || shma_retain(heap, h) || shma_retain(heap, h) ||
	    shma_release(heap, h))
		return 1;
	atomic_fetch_add(&board->ready, 1);
	if (!board_reaches(&board->step, 1))
		return 2;
	if (*(char *)shma_ptr(heap, h) != 0x5a || shma_release(heap, h) || shma_release(heap, h) != -ESTALE)
		return 3;
	return shma_size(heap, h) ? 4 : 0;
}

START_TEST(an_object_lives_until_the_last_process_lets_it_go)
{
	uint64_t h = held(100);
	pid_t child = child_start(child_retains, &h);

	child_ready(board, child, 1);
	ck_assert_uint_eq(view_of(h).holders, 2);
	ck_assert_uint_eq(heap_stats(heap).held_objects, 1);
	ck_assert_uint_eq(heap_stats(heap).holds, 2);
	ck_assert_uint_eq(heap_stats(heap).persistent_objects, 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 1);
	ck_assert_int_eq(shma_release(heap, h), 0);
	ck_assert_uint_eq(heap_stats(heap).holds, 1);
	ck_assert(is_live(h));
	ck_assert_int_eq(shma_release(heap, h), -EPERM);
	atomic_store(&board->step, 1);
	child_expect(child, 0);
	ck_assert(!is_live(h));
}
END_TEST

static int child_asks_for_others(void *arg)
{
	const uint64_t *h = arg;

	return shma_retain(heap, h[0]) == -EPERM && shma_retain(heap, h[1]) == -EPERM &&
			       shma_release(heap, h[0]) == -EPERM && shma_release(heap, h[2]) == -EPERM
		       ? 0
		       : 1;
}

START_TEST(only_the_owner_begins_and_a_forked_child_holds_nothing)
{
	uint64_t h[3] = {alloc(64, 0), alloc(64, SHMA_SHARED), held(64)};

	ck_assert_int_eq(in_child(child_asks_for_others, h), 0);
	ck_assert_int_eq(shma_release(heap, h[2]), 0);
}
END_TEST

static int child_retains_and_dies(void *arg)
{
	uint64_t h = *(uint64_t *)arg;

	for (int i = 0; i < 3; i++)
		if (shma_retain(heap, h))
			return 1;
	atomic_fetch_add(&board->ready, 1);
	if (board_reaches(&board->step, 1))
		die();
	return 2;
}

START_TEST(a_death_drops_what_the_dead_held_and_no_more)
{
	static const size_t sizes[] = {100, 300000};

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		uint64_t h = held(sizes[i]), live = heap_stats(heap).live_objects;
		pid_t child = child_start(child_retains_and_dies, &h);

		child_ready(board, child, (int)i + 1);
		ck_assert_uint_eq(view_of(h).holds, 4);
		atomic_store(&board->step, 1);
		child_dies(child);
		ck_assert_uint_eq(reap(arena), 1);
		ck_assert_uint_eq(view_of(h).holds, 1);
		ck_assert_uint_eq(heap_stats(heap).live_objects, live);
		ck_assert_int_eq(shma_release(heap, h), 0);
		ck_assert(!is_live(h));
		atomic_store(&board->step, 0);
	}
}
END_TEST

START_TEST(an_object_that_only_the_dead_held_is_freed_by_recovery)
{
	static const size_t sizes[] = {100, 40000, 3 << 20};

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		uint64_t h = held(sizes[i]);
		pid_t child = child_start(child_retains_and_dies, &h);

		child_ready(board, child, (int)i + 1);
		ck_assert_int_eq(shma_release(heap, h), 0);
		ck_assert(is_live(h));
		atomic_store(&board->step, 1);
		child_dies(child);
		reap(arena);
		ck_assert(!is_live(h));
		ck_assert_int_eq(shma_retain(heap, h), -ESTALE);
		heap_check(arena);
		atomic_store(&board->step, 0);
	}
}
END_TEST

static int child_closes(void *arg)
{
	uint64_t h = *(uint64_t *)arg;

	if (shma_retain(heap, h) || shma_close(heap))
		return 1;
	atomic_fetch_add(&board->ready, 1);
	return board_reaches(&board->step, 1) ? 0 : 2;
}

START_TEST(who_closes_its_attachment_holds_until_it_ends)
{
	uint64_t h = held(100);
	pid_t child = child_start(child_closes, &h);

	child_ready(board, child, 1);
	ck_assert_int_eq(shma_release(heap, h), 0);
	reap(arena);
	ck_assert(is_live(h));
	atomic_store(&board->step, 1);
	child_expect(child, 0);
	reap(arena);
	ck_assert(!is_live(h));
}
END_TEST

/* Another client, as far as the heap is concerned: a number, and memory for its marks. */
static void act_as(uint32_t client)
{
	memset(arena->zones_marked, 0, 8 * geometry_words(arena->g.zone_count));
	arena->client = client;
	thread_cell(arena)->marked = THREAD_MARKED_NONE;
}

static void make_up_client(uint32_t client)
{
	ck_assert_int_eq(arena_commit(arena, client_area_at(arena, client), arena->g.client_area_size), 0);
	if (atomic_load(&arena->header->clients_high) <= client)
		atomic_store(&arena->header->clients_high, client + 1);
	atomic_store(client_word_at(arena, client), client_word(CLIENT_LIVE, 0, 1));
}

static void unmake_client(uint32_t client)
{
	client_marks_clear(arena, client);
	atomic_store(client_word_at(arena, client), 0);
}

START_TEST(every_client_there_can_be_holds_one_object)
{
	uint32_t self = arena->client, n = 1;
	uint64_t h = held(64), records = 0;
	struct hold_view view;

	for (uint32_t c = 1; c < CLIENTS_MAX; c++) {
		if (c == self)
			continue;
		make_up_client(c);
		act_as(c);
		ck_assert_int_eq(hold_release(arena, h), -EPERM);
		ck_assert_int_eq(hold_retain(arena, h), 0);
		if (c % 3 == 0)
			ck_assert_int_eq(hold_retain(arena, h), 0);
		n++;
	}
	ck_assert_uint_eq(n, CLIENTS_MAX - 1);
	ck_assert_uint_eq(view_of(h).holders, n);
	heap_check(arena);
	/* Half of them let go, half are recovered, in the pages that they have marked. */
	for (uint32_t c = 1; c < CLIENTS_MAX; c++) {
		if (c == self)
			continue;
		act_as(c % 2 ? c : self);
		if (c % 2) {
			for (int k = c % 3 == 0 ? 2 : 1; k > 0; k--)
				ck_assert_int_eq(hold_release(arena, h), 0);
			ck_assert_int_eq(hold_release(arena, h), -EPERM);
		} else {
			for (uint64_t region = 0; region < CAPACITY >> REGION_SHIFT; region++)
				if (client_marked(arena, c, region * REGION_PAGES))
					ck_assert_int_eq(hold_recover(arena, region, c), 0);
		}
		unmake_client(c);
		ck_assert_uint_eq(view_of(h).holders, --n);
	}
	act_as(self);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(hold_release(arena, h), 0);
	ck_assert(!is_live(h));
	/* What was added to the record stays with it. */
	for (uint64_t at = 0; (at = hold_scan(arena, at)) != HOLD_NONE; at++) {
		ck_assert(!hold_view(arena, at, &view));
		records += hold_head_state(atomic_load(&hold_record_at(arena, at)->head)) == HOLD_EXTENSION;
	}
	ck_assert_uint_eq(records, (CLIENTS_MAX - 1 - 1) / HOLD_SLOTS);
}
END_TEST

/* ---- threads ---- */

#define THREADS 4
#define ROUNDS  3000

static _Atomic uint64_t passed[THREADS];
static _Atomic int failures;

/* Each holds what it has passed to the next, who holds it before it is let go. */
static void *passer(void *arg)
{
	int me = *(int *)arg, r;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t h = atomic_load(&passed[me]);

		r = h ? shma_retain(heap, h) : -ESTALE;
		if (r == 0) {
			/* Held: so its bytes are its own. */
			failures += *(uint64_t *)shma_ptr(heap, h) != h;
			failures += shma_retain(heap, h) != 0;
			failures += shma_release(heap, h) != 0;
			failures += shma_release(heap, h) != 0;
		} else if (r != -ESTALE && r != -EBUSY) {
			failures++;
		}
		if (i % 4 == me) {
			uint64_t new = shma_alloc(heap, 128, 0), old;

			*(uint64_t *)shma_ptr(heap, new) = new;
			failures += shma_retain(heap, new) != 0;
			old = atomic_exchange(&passed[(me + 1) % THREADS], new);
			if (old) {
				r = shma_release(heap, old);
				failures += r != 0;
			}
		}
	}
	return NULL;
}

START_TEST(threads_of_one_process_share_its_count)
{
	pthread_t threads[THREADS];
	int numbers[THREADS];

	for (int i = 0; i < THREADS; i++) {
		numbers[i] = i;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, passer, &numbers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (int i = 0; i < THREADS; i++)
		if (passed[i])
			ck_assert_int_eq(shma_release(heap, passed[i]), 0);
	ck_assert_int_eq(failures, 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("hold");
	TCase *tcase = tcase_create("hold");

	tcase_add_checked_fixture(tcase, open_heap, close_heap);
	tcase_add_test(tcase, what_the_owner_holds_is_freed_by_its_last_release);
	tcase_add_test(tcase, what_is_on_offer_or_taken_can_be_held_by_its_owner);
	tcase_add_test(tcase, a_held_object_is_read_and_nothing_else);
	tcase_add_test(tcase, what_cannot_be_held_is_refused_with_its_reason);
	tcase_add_test(tcase, a_count_that_is_full_is_told_and_stays);
	tcase_add_test(tcase, more_held_objects_than_records_are_refused_and_records_come_back);
	tcase_add_test(tcase, an_object_lives_until_the_last_process_lets_it_go);
	tcase_add_test(tcase, only_the_owner_begins_and_a_forked_child_holds_nothing);
	tcase_add_test(tcase, a_death_drops_what_the_dead_held_and_no_more);
	tcase_add_test(tcase, an_object_that_only_the_dead_held_is_freed_by_recovery);
	tcase_add_test(tcase, who_closes_its_attachment_holds_until_it_ends);
	tcase_add_test(tcase, every_client_there_can_be_holds_one_object);
	tcase_add_test(tcase, threads_of_one_process_share_its_count);
	suite_add_tcase(suite, tcase);
	return run_suite(suite);
}
