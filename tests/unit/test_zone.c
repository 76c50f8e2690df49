/* SPDX-License-Identifier: Apache-2.0 */
/* Zones: locks that nobody waits for, and extents left with a zone whose lock is held. */
#include "buddy.h"
#include "extent.h"
#include "heap.h"

#define ZONE 1u
#define EXTENTS 20

static struct arena arena;
static struct board *board;

static void setup(void)
{
	heap_attach(&arena, MIB(16));
	while (arena_refresh(&arena) <= ZONE)
		ck_assert_int_eq(zone_activate(&arena), 0);
	board = board_new();
}

static void teardown(void)
{
	heap_check(&arena);
	heap_detach(&arena);
}

static uint64_t first_page(void)
{
	return ZONE * arena.g.zone_pages;
}

static uint32_t free_pages(void)
{
	return atomic_load(&zone_of(&arena, ZONE)->free_pages);
}

static uint32_t rebuilds(void)
{
	return atomic_load(&zone_of(&arena, ZONE)->rebuilds);
}

static uint32_t pending_top(void)
{
	return (uint32_t)atomic_load(&zone_of(&arena, ZONE)->pending);
}

/* Raw extents of this client in the zone, 3 pages each. */
static void take_extents(uint64_t pages[EXTENTS])
{
	uint32_t home = ZONE;
	int err = 0;

	for (int i = 0; i < EXTENTS; i++) {
		pages[i] = extent_alloc(&arena, 3, 1, RAW_PLAIN, &home, &err);
		ck_assert_uint_eq(zone_of_page(&arena, pages[i]), ZONE);
	}
}

static int hold_lock(void *arg)
{
	(void)arg;
	if (zone_trylock(&arena, ZONE))
		return 1;
	rest(board);
	return 0;
}

static pid_t holder(void)
{
	pid_t pid = child_start(hold_lock, NULL);

	board_wait(&board->ready, 1);
	return pid;
}

START_TEST(a_held_lock_is_busy_and_not_waited_for)
{
	pid_t pid = holder();
	struct timespec before, after;
	int r;

	kill(pid, SIGSTOP);
	ck_assert(child_stopped(pid));
	clock_gettime(CLOCK_MONOTONIC, &before);
	r = zone_trylock_patiently(&arena, ZONE);
	clock_gettime(CLOCK_MONOTONIC, &after);
	ck_assert_int_eq(r, -EBUSY);
	ck_assert_uint_ge(atomic_load(&zone_of(&arena, ZONE)->busy), 1);
	ck_assert_int_lt(after.tv_sec - before.tv_sec, 60); /* not for ever */
	child_kill(pid);
}
END_TEST

START_TEST(after_its_holders_death_the_lock_is_had_with_a_new_index)
{
	uint64_t pages[EXTENTS];
	uint32_t before;
	pid_t pid;

	take_extents(pages);
	before = free_pages();
	pid = holder();
	child_kill(pid);
	memset(zone_index(&arena, ZONE), 0x5a, geometry_commit_bits(&arena.g));
	ck_assert_int_eq(zone_trylock(&arena, ZONE), 0);
	ck_assert_uint_eq(rebuilds(), 1);
	ck_assert_uint_eq(free_pages(), before);
	zone_unlock(&arena, ZONE);
	ck_assert_int_eq(zone_trylock(&arena, ZONE), 0); /* consistent again */
	ck_assert_uint_eq(rebuilds(), 1);
	zone_unlock(&arena, ZONE);
	for (int i = 0; i < EXTENTS; i++)
		extent_free(&arena, pages[i]);
}
END_TEST

START_TEST(what_is_freed_while_the_lock_is_held_comes_back_with_the_next_holder)
{
	uint64_t pages[EXTENTS];
	uint32_t before = free_pages();
	pid_t pid;

	ck_assert_int_eq(zone_trylock(&arena, ZONE), 0);
	before = free_pages();
	zone_unlock(&arena, ZONE);
	take_extents(pages);
	pid = holder();
	for (int i = 0; i < EXTENTS; i++)
		extent_free(&arena, pages[i]);
	for (int i = 0; i < EXTENTS; i++)
		ck_assert_int_eq(pw0_kind(atomic_load(&arena.pages[pages[i]].w0)), PAGE_RETURNED);
	ck_assert_uint_eq(free_pages(), before - 3 * EXTENTS);
	ck_assert_uint_ne(pending_top(), 0);
	child_kill(pid);
	ck_assert_int_eq(zone_trylock(&arena, ZONE), 0);
	ck_assert_uint_eq(free_pages(), before);
	ck_assert_uint_eq(pending_top(), 0);
	ck_assert_uint_eq(rebuilds(), 1);
	zone_unlock(&arena, ZONE);
}
END_TEST

/* In the zone, whose lock another may have when we come, and be kept from going on. */
static uint64_t take_there(uint64_t pages)
{
	int err = 0;

	for (int i = 0; i < 100000; i++) {
		uint32_t home = ZONE;
		uint64_t page = extent_alloc(&arena, pages, 1, RAW_PLAIN, &home, &err);

		if (page == EXTENT_NONE || zone_of_page(&arena, page) == ZONE)
			return page;
		extent_free(&arena, page);
		usleep(100);
	}
	return EXTENT_NONE;
}

static int free_mine(void *arg)
{
	uint64_t pages[EXTENTS];

	(void)arg;
	if (thread_become_client(&arena))
		return 1;
	for (int i = 0; i < EXTENTS; i++) {
		pages[i] = take_there(1 + (uint64_t)i % 3);
		if (pages[i] == EXTENT_NONE)
			return 2;
	}
	atomic_fetch_add(&board->step, 1);
	while (!atomic_load(&board->stop))
		usleep(100);
	for (int i = 0; i < EXTENTS; i++)
		extent_free(&arena, pages[i]);
	return 0;
}

START_TEST(many_processes_leave_extents_with_a_held_zone)
{
	uint32_t before;
	pid_t pids[4], pid;

	ck_assert_int_eq(zone_trylock(&arena, ZONE), 0);
	before = free_pages();
	zone_unlock(&arena, ZONE);
	for (size_t i = 0; i < LENGTH(pids); i++)
		pids[i] = child_start(free_mine, NULL);
	board_wait(&board->step, LENGTH(pids));
	pid = holder();
	atomic_store(&board->stop, 1);
	for (size_t i = 0; i < LENGTH(pids); i++)
		child_expect(pids[i], 0);
	child_kill(pid);
	ck_assert_int_eq(zone_trylock(&arena, ZONE), 0);
	ck_assert_uint_eq(free_pages(), before);
	zone_unlock(&arena, ZONE);
	/* They exited without a word: dead, with nothing left. */
	ck_assert_uint_eq(reap(&arena), LENGTH(pids));
}
END_TEST

/* Frees the first two of the stack as the holder does, and dies before it takes them off. */
static int die_while_draining(void *arg)
{
	uint32_t next = pending_top();

	(void)arg;
	if (pthread_mutex_trylock(&zone_of(&arena, ZONE)->lock))
		return 1;
	for (int i = 0; i < 2; i++) {
		uint64_t page = first_page() + next - 1;
		uint64_t w1 = atomic_load(&arena.pages[page].w1);

		zone_free_run(&arena, ZONE, page, pw1_length(w1));
		next = pw1_next(w1);
	}
	die();
	return 0;
}

START_TEST(a_holder_killed_while_it_frees_what_was_left_loses_and_doubles_nothing)
{
	uint64_t pages[EXTENTS];
	uint32_t before;

	ck_assert_int_eq(zone_trylock(&arena, ZONE), 0);
	before = free_pages();
	zone_unlock(&arena, ZONE);
	take_extents(pages);
	for (int i = 0; i < EXTENTS; i++)
		zone_return_later(&arena, pages[i]);
	child_dies(child_start(die_while_draining, NULL));
	ck_assert_int_eq(zone_trylock(&arena, ZONE), 0);
	ck_assert_uint_eq(free_pages(), before);
	ck_assert_uint_eq(rebuilds(), 1);
	zone_unlock(&arena, ZONE);
}
END_TEST

START_TEST(a_stack_of_rubbish_ends)
{
	uint64_t pages[EXTENTS];

	heap_seed("a_stack_of_rubbish_ends");
	for (int round = 0; round < 200; round++) {
		take_extents(pages);
		for (int i = 0; i < EXTENTS; i++) { /* loops and leaps */
			uint32_t to = (uint32_t)(pages[heap_below(EXTENTS)] - first_page()) + 1;

			if (heap_below(4) == 0)
				to = (uint32_t)heap_random() & ((1u << PW1_NEXT_BITS) - 1);
			atomic_store(&arena.pages[pages[i]].w1, pw1_extent(3, to));
		}
		atomic_store(&zone_of(&arena, ZONE)->pending,
			     heap_below(2) ? pages[heap_below(EXTENTS)] - first_page() + 1
					   : heap_random());
		ck_assert_int_eq(zone_trylock(&arena, ZONE), 0);
		ck_assert_uint_eq(pending_top(), 0);
		zone_unlock(&arena, ZONE);
		for (int i = 0; i < EXTENTS; i++)
			extent_free(&arena, pages[i]);
	}
}
END_TEST

START_TEST(a_lock_of_rubbish_is_told)
{
	pthread_mutex_t *lock = &zone_of(&arena, ZONE)->lock, kept;

	ck_assert_int_eq(zone_trylock(&arena, ZONE), 0);
	zone_unlock(&arena, ZONE);
	memcpy(&kept, lock, sizeof(kept));
	lock->__data.__kind = 0x7f;
	ck_assert_int_eq(zone_trylock(&arena, ZONE), -EUCLEAN);
	memcpy(lock, &kept, sizeof(kept));
}
END_TEST

static int activate_all(void *arg)
{
	(void)arg;
	while (!atomic_load(&board->stop))
		;
	while (zone_activate(&arena) == 0)
		;
	return arena_refresh(&arena) == arena.g.zone_count ? 0 : 1;
}

START_TEST(zones_are_put_into_use_by_many_at_once_up_to_the_last)
{
	pid_t pids[4];

	for (size_t i = 0; i < LENGTH(pids); i++)
		pids[i] = child_start(activate_all, NULL);
	atomic_store(&board->stop, 1);
	for (size_t i = 0; i < LENGTH(pids); i++)
		child_expect(pids[i], 0);
	ck_assert_uint_eq(arena_refresh(&arena), arena.g.zone_count);
	ck_assert_int_eq(zone_activate(&arena), -ENOMEM);
	ck_assert_uint_eq(heap_free_pages(&arena), geometry_heap_pages(&arena.g));
}
END_TEST

START_TEST(pieces_count_only_while_their_head_reaches_them)
{
	uint64_t head = first_page(), piece = first_page() + arena.g.zone_pages;
	struct page_entry *e = &arena.pages[head];
	uint64_t w1 = pw1_span(7, head);

	if (arena_refresh(&arena) < 3)
		ck_assert_int_eq(zone_activate(&arena), 0);
	ck_assert(!zone_span_covered(&arena, piece, w1)); /* the head is free */
	atomic_store(&e->w1, pw1_extent(arena.g.zone_pages + 7, 0));
	atomic_store(&e->w0, pw0_make(PAGE_RAW, arena.client, 0, RAW_PLAIN));
	ck_assert(zone_span_covered(&arena, piece, w1));
	atomic_store(&e->w0, pw0_make(PAGE_LARGE, 0, 0, 0));
	ck_assert(zone_span_covered(&arena, piece, w1));
	atomic_store(&e->w1, pw1_extent(arena.g.zone_pages, 0));
	ck_assert(!zone_span_covered(&arena, piece, w1));
	ck_assert(!zone_span_covered(&arena, piece, pw1_span(0, head)));
	ck_assert(!zone_span_covered(&arena, piece, pw1_span(7, piece)));
	ck_assert(!zone_span_covered(&arena, piece, pw1_span(7, piece + 1)));
	ck_assert(!zone_span_covered(&arena, piece, UINT64_MAX));
	atomic_store(&e->w0, 0);
	atomic_store(&e->w1, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("zone");
	TCase *t = tcase_create("zone");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_held_lock_is_busy_and_not_waited_for);
	tcase_add_test(t, after_its_holders_death_the_lock_is_had_with_a_new_index);
	tcase_add_test(t, what_is_freed_while_the_lock_is_held_comes_back_with_the_next_holder);
	tcase_add_test(t, many_processes_leave_extents_with_a_held_zone);
	tcase_add_test(t, a_holder_killed_while_it_frees_what_was_left_loses_and_doubles_nothing);
	tcase_add_test(t, a_stack_of_rubbish_ends);
	tcase_add_test(t, a_lock_of_rubbish_is_told);
	tcase_add_test(t, zones_are_put_into_use_by_many_at_once_up_to_the_last);
	tcase_add_test(t, pieces_count_only_while_their_head_reaches_them);
	suite_add_tcase(s, t);
	return run_suite(s);
}
