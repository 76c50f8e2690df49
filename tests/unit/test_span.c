/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extents larger than a zone, and every state that a death in their making or unmaking leaves: each is
 * set up by a child that makes the same stores as far as that point, and dies.
 */
#include "buddy.h"
#include "extent.h"
#include "heap.h"
#include "span.h"

#define CAPACITY MIB(32)

static struct arena arena;
static struct board *board;
static uint64_t zone_pages;

static void setup(void)
{
	heap_attach(&arena, CAPACITY);
	board = board_new();
	zone_pages = arena.g.zone_pages;
}

static void teardown(void)
{
	heap_check(&arena);
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
	heap_check(&arena);
	heap_detach(&arena);
}

static uint64_t take(uint64_t pages)
{
	uint32_t home = 1;
	int err = 0;

	return extent_alloc(&arena, pages, 1, RAW_PLAIN, &home, &err);
}

static uint64_t *word_of(uint64_t page)
{
	return (uint64_t *)(arena.heap + (page << PAGE_SHIFT));
}

/* ---- whole ---- */

START_TEST(extents_of_more_than_a_zone_have_all_their_pages)
{
	uint64_t sizes[] = {zone_pages + 1, 2 * zone_pages - 1, 2 * zone_pages, 2 * zone_pages + 1,
			    3 * zone_pages + 77, 7 * zone_pages};

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		uint64_t page = take(sizes[i]), other;

		ck_assert_uint_ne(page, EXTENT_NONE);
		ck_assert_uint_eq(page % zone_pages, 0);
		for (uint64_t p = page; p < page + sizes[i]; p++)
			*word_of(p) = p;
		/* The rest of the last zone is still for others. */
		other = take(3);
		if (other != EXTENT_NONE) {
			ck_assert(other >= page + sizes[i] || other < page);
			*word_of(other) = 0;
			extent_free(&arena, other);
		}
		for (uint64_t p = page; p < page + sizes[i]; p++)
			if (*word_of(p) != p)
				ck_abort_msg("page %llu is another's too", (unsigned long long)p);
		heap_check(&arena);
		extent_free(&arena, page);
		heap_check(&arena);
		ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
	}
}
END_TEST

START_TEST(what_finds_no_run_of_empty_zones_is_enomem)
{
	uint64_t pages[64], n = 0;

	ck_assert_uint_eq(take(geometry_heap_pages(&arena.g) + 1), EXTENT_NONE);
	/* One page in each zone. */
	for (uint32_t z = 0; z < arena.g.zone_count; z++) {
		while (arena_refresh(&arena) <= z)
			ck_assert_int_eq(zone_activate(&arena), 0);
		ck_assert_int_eq(client_prepare_zone(&arena, z), 0);
		ck_assert_int_eq(zone_trylock(&arena, z), 0);
		ck_assert(buddy_take_at(&arena, z, 5, 1));
		client_mark(&arena, z * zone_pages + 5);
		extent_note_taken(&arena, z * zone_pages + 5, 1,
				  pw0_make(PAGE_RAW, arena.client, 0, RAW_PLAIN), pw1_extent(1, 0));
		zone_unlock(&arena, z);
		pages[n++] = z * zone_pages + 5;
	}
	ck_assert_uint_eq(take(zone_pages + 1), EXTENT_NONE);
	/* Two zones' room, and a few pages of the third. */
	extent_free(&arena, pages[2]);
	extent_free(&arena, pages[3]);
	ck_assert_uint_eq(take(2 * zone_pages + 6), EXTENT_NONE);
	pages[2] = take(2 * zone_pages + 5);
	ck_assert_uint_eq(pages[2], 2 * zone_pages);
	pages[3] = pages[n - 1];
	for (uint64_t i = 0; i + 1 < n; i++)
		extent_free(&arena, pages[i]);
}
END_TEST

/* ---- deaths ---- */

/* How far the child comes. */
struct stage {
	uint64_t pages;
	uint32_t pieces;  /* page map entries of later zones written */
	bool head;	  /* and the head's */
	uint32_t cuts;	  /* pieces then cut off, the last of them … */
	uint32_t cut_left; /* … 0: freed; 1: only raw; 2: and cut; 3: and its length written; 4: and an
			    * extent as any other; 5: returned */
};

static int lock_zones(uint32_t first, uint32_t count)
{
	for (uint32_t z = first; z < first + count; z++) {
		while (arena_refresh(&arena) <= z)
			if (zone_activate(&arena))
				return 1;
		if (client_prepare_zone(&arena, z) || zone_trylock(&arena, z))
			return 1;
	}
	return 0;
}

static void make_pieces(const struct stage *s, uint64_t head, uint32_t count)
{
	buddy_take_at(&arena, zone_of_page(&arena, head), 0, (uint32_t)zone_pages);
	client_mark(&arena, head);
	for (uint32_t i = 1; i < count && i <= s->pieces; i++) {
		uint64_t page = head + i * zone_pages, left = s->pages - i * zone_pages;
		uint64_t piece = left < zone_pages ? left : zone_pages;

		client_mark(&arena, page);
		buddy_take_at(&arena, zone_of_page(&arena, page), 0, (uint32_t)piece);
		extent_note_taken(&arena, page, piece, pw0_make(PAGE_SPAN, arena.client, 0, 0),
				  pw1_span(piece, head));
	}
}

static void cut(const struct stage *s, uint64_t head, bool last)
{
	_Atomic uint64_t *w1 = &arena.pages[head].w1;
	uint64_t pages = pw1_length(atomic_load(w1));
	uint64_t keep = (pages - 1) / zone_pages * zone_pages, piece = head + keep;
	struct page_entry *e = &arena.pages[piece];

	atomic_store(&e->w0, pw0_make(PAGE_RAW, arena.client, pw0_gen(atomic_load(&e->w0)), RAW_PIECE));
	if (last && s->cut_left == 1)
		return;
	atomic_store(w1, pw1_extent(keep, 0));
	if (last && s->cut_left == 2)
		return;
	atomic_store(&e->w1, pw1_extent(pages - keep, 0));
	if (last && s->cut_left == 3)
		return;
	atomic_store(&e->w0, pw0_make(PAGE_RAW, arena.client, pw0_gen(atomic_load(&e->w0)), 0));
	if (last && s->cut_left == 4)
		return;
	if (last && s->cut_left == 5)
		zone_return_later(&arena, piece);
	else
		extent_free(&arena, piece);
}

static int come_so_far_and_die(void *arg)
{
	const struct stage *s = arg;
	uint32_t count = (uint32_t)((s->pages + zone_pages - 1) / zone_pages);
	uint64_t head = zone_pages;

	if (thread_become_client(&arena) || lock_zones(1, count))
		return 1;
	make_pieces(s, head, count);
	if (s->head) {
		extent_note_taken(&arena, head, zone_pages, pw0_make(PAGE_RAW, arena.client, 0, 0),
				  pw1_extent(s->pages, 0));
		for (uint32_t z = 1; z <= count; z++)
			zone_unlock(&arena, z);
		for (uint32_t i = 1; i <= s->cuts; i++)
			cut(s, head, i == s->cuts);
	}
	die();
	return 0;
}

/* The dead one's recovery, and then everything is free; teardown looks. */
static void after_death_all_is_free(struct stage s)
{
	child_dies(child_start(come_so_far_and_die, &s));
	ck_assert_uint_eq(reap(&arena), 1);
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
	heap_check(&arena);
}

START_TEST(a_death_in_the_making_of_a_span_leaves_all_free)
{
	for (uint32_t pieces = 0; pieces <= 3; pieces++)
		after_death_all_is_free((struct stage){.pages = 3 * zone_pages + 9, .pieces = pieces});
}
END_TEST

START_TEST(a_span_of_a_dead_client_is_free)
{
	after_death_all_is_free((struct stage){.pages = 3 * zone_pages + 9, .pieces = 3, .head = true});
	after_death_all_is_free((struct stage){.pages = 2 * zone_pages, .pieces = 1, .head = true});
}
END_TEST

START_TEST(a_death_in_the_unmaking_of_a_span_leaves_all_free)
{
	for (uint32_t cuts = 1; cuts <= 3; cuts++)
		for (uint32_t left = 0; left <= 5; left++)
			after_death_all_is_free((struct stage){.pages = 3 * zone_pages + 9, .pieces = 3,
							       .head = true, .cuts = cuts,
							       .cut_left = left});
}
END_TEST

/* Without recovery: who meets the zone first rebuilds what the dead holder left. */
START_TEST(pieces_written_by_a_dead_maker_are_free_to_the_next_holder)
{
	struct stage s = {.pages = 3 * zone_pages + 9, .pieces = 3};
	uint64_t page;

	child_dies(child_start(come_so_far_and_die, &s));
	page = take(7 * zone_pages);
	ck_assert_uint_ne(page, EXTENT_NONE);
	extent_free(&arena, page);
	ck_assert_uint_eq(reap(&arena), 1);
}
END_TEST

static int hold_zones_above_2(void *arg)
{
	(void)arg;
	for (uint32_t z = 2; z < arena_refresh(&arena); z++)
		if (zone_trylock(&arena, z))
			return 1;
	rest(board);
	return 0;
}

START_TEST(what_cannot_be_reclaimed_under_held_locks_is_reclaimed_later)
{
	struct stage s = {.pages = 3 * zone_pages + 9, .pieces = 3, .head = true};
	pid_t pid;

	child_dies(child_start(come_so_far_and_die, &s));
	pid = child_start(hold_zones_above_2, NULL);
	board_wait(&board->ready, 1);
	/* Again and again, with no progress to be had. */
	for (int i = 0; i < 5; i++)
		ck_assert_uint_eq(reap(&arena), 0);
	child_kill(pid);
	ck_assert_uint_eq(reap(&arena), 1);
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
}
END_TEST

static int hold_zone(void *arg)
{
	uint32_t z = *(const uint32_t *)arg;

	if (zone_trylock(&arena, z))
		return 1;
	rest(board);
	return 0;
}

/* Each zone's lock is held at another time, so that each piece is late once. */
START_TEST(one_held_lock_after_another_delays_recovery_but_loses_no_piece)
{
	struct stage s = {.pages = 3 * zone_pages + 9, .pieces = 3, .head = true};

	child_dies(child_start(come_so_far_and_die, &s));
	for (uint32_t zone = 4; zone >= 1; zone--) {
		pid_t pid = child_start(hold_zone, &zone);

		board_wait(&board->ready, 5 - (int)zone);
		reap(&arena);
		kill(pid, SIGSTOP);
		reap(&arena);
		/* The holder goes in an orderly way: nobody rebuilds its zone. */
		kill(pid, SIGCONT);
		child_kill(pid);
	}
	reap(&arena);
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
}
END_TEST

static int hold_until_told(void *arg)
{
	uint32_t z = *(const uint32_t *)arg;

	if (zone_trylock(&arena, z))
		return 1;
	atomic_fetch_add(&board->ready, 1);
	while (!atomic_load(&board->stop))
		usleep(100);
	zone_unlock(&arena, z);
	return 0;
}

/* No dead holder, so no rebuild comes to help. */
START_TEST(pieces_late_for_a_living_holder_are_not_forgotten)
{
	struct stage s = {.pages = 3 * zone_pages + 9, .pieces = 3, .head = true};
	const uint32_t order[] = {4, 3, 2, 1};

	child_dies(child_start(come_so_far_and_die, &s));
	for (size_t i = 0; i < LENGTH(order); i++) {
		uint32_t zone = order[i];
		pid_t pid;

		atomic_store(&board->stop, 0);
		atomic_store(&board->ready, 0);
		pid = child_start(hold_until_told, &zone);
		board_wait(&board->ready, 1);
		reap(&arena);
		atomic_store(&board->stop, 1);
		child_expect(pid, 0);
	}
	reap(&arena);
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
}
END_TEST

/* Owner alive: a zone busy at the free gets its piece left on its stack. */
START_TEST(a_span_freed_while_zones_are_held_comes_back_whole)
{
	uint64_t page = take(3 * zone_pages + 9);
	pid_t pid = child_start(hold_zones_above_2, NULL);

	board_wait(&board->ready, 1);
	extent_free(&arena, page);
	child_kill(pid);
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
}
END_TEST

static int make_and_unmake(void *arg)
{
	(void)arg;
	if (thread_become_client(&arena))
		return 1;
	for (;;) {
		uint64_t page = take(zone_pages + 1 + heap_below(3 * zone_pages));

		if (page != EXTENT_NONE)
			extent_free(&arena, page);
	}
	return 0;
}

START_TEST(deaths_at_any_time_lose_nothing)
{
	heap_seed("deaths_at_any_time_lose_nothing");
	for (int round = 0; round < 60; round++) {
		pid_t pids[2];

		for (size_t i = 0; i < LENGTH(pids); i++) {
			heap_random();
			pids[i] = child_start(make_and_unmake, NULL);
		}
		for (size_t i = 0; i < LENGTH(pids); i++) {
			usleep((useconds_t)heap_below(6000));
			child_kill(pids[i]);
		}
		reap(&arena);
		ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("span");
	TCase *t = tcase_create("span");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, extents_of_more_than_a_zone_have_all_their_pages);
	tcase_add_test(t, what_finds_no_run_of_empty_zones_is_enomem);
	tcase_add_test(t, a_death_in_the_making_of_a_span_leaves_all_free);
	tcase_add_test(t, a_span_of_a_dead_client_is_free);
	tcase_add_test(t, a_death_in_the_unmaking_of_a_span_leaves_all_free);
	tcase_add_test(t, pieces_written_by_a_dead_maker_are_free_to_the_next_holder);
	tcase_add_test(t, what_cannot_be_reclaimed_under_held_locks_is_reclaimed_later);
	tcase_add_test(t, one_held_lock_after_another_delays_recovery_but_loses_no_piece);
	tcase_add_test(t, pieces_late_for_a_living_holder_are_not_forgotten);
	tcase_add_test(t, a_span_freed_while_zones_are_held_comes_back_whole);
	tcase_add_test(t, deaths_at_any_time_lose_nothing);
	suite_add_tcase(s, t);
	return run_suite(s);
}
