/* SPDX-License-Identifier: Apache-2.0 */
/* Extents: any number of pages out of all zones, whoever holds locks, up to the last page. */
#include <sched.h>
#include <sys/mount.h>

#include "arena_file.h"
#include "commit.h"
#include "extent.h"
#include "heap.h"
#include "liveness.h"

#define MANY 2048

static struct arena arena;
static struct board *board;
static struct {
	uint64_t page, pages;
} live[MANY];
static uint32_t live_count;

static void setup(void)
{
	heap_attach(&arena, MIB(16));
	board = board_new();
	live_count = 0;
}

static void teardown(void)
{
	heap_check(&arena);
	heap_detach(&arena);
}

static uint64_t *words_of(uint64_t page)
{
	return (uint64_t *)(arena.heap + (page << PAGE_SHIFT));
}

/* Each page bears its extent's number. */
static void stamp(uint64_t page, uint64_t pages, uint64_t with)
{
	for (uint64_t p = page; p < page + pages; p++)
		words_of(p)[0] = words_of(p)[511] = with;
}

static void check_stamp(uint64_t page, uint64_t pages, uint64_t with)
{
	for (uint64_t p = page; p < page + pages; p++)
		if (words_of(p)[0] != with || words_of(p)[511] != with)
			ck_abort_msg("page %#llx is another's too", (unsigned long long)p);
}

static void check_entry(uint64_t page, uint64_t pages, enum raw_use use)
{
	uint64_t w0 = atomic_load(&arena.pages[page].w0);

	ck_assert_int_eq(pw0_kind(w0), PAGE_RAW);
	ck_assert_uint_eq(pw0_client(w0), arena.client);
	ck_assert_uint_eq(pw0_class(w0), use);
	ck_assert_uint_eq(pw1_length(atomic_load(&arena.pages[page].w1)), pages);
	for (uint64_t p = page; p < page + pages; p++) {
		ck_assert(commit_has_region(&arena, p / REGION_PAGES));
		if (p > page)
			ck_assert_int_eq(pw0_kind(atomic_load(&arena.pages[p].w0)), PAGE_FREE);
	}
	ck_assert(client_marked(&arena, arena.client, page));
}

static bool take(uint64_t pages, uint64_t align, uint32_t *home)
{
	int err = 0;
	uint64_t page = extent_alloc(&arena, pages, align, RAW_PLAIN, home, &err);

	if (page == EXTENT_NONE) {
		ck_assert_int_eq(err, -ENOMEM);
		return false;
	}
	ck_assert_uint_eq(page % align, 0);
	stamp(page, pages, page ^ UINT64_C(0xfeed));
	live[live_count].page = page;
	live[live_count++].pages = pages;
	return true;
}

static void give(uint32_t i)
{
	check_stamp(live[i].page, live[i].pages, live[i].page ^ UINT64_C(0xfeed));
	extent_free(&arena, live[i].page);
	live[i] = live[--live_count];
}

static void give_all(void)
{
	while (live_count)
		give(live_count - 1);
}

START_TEST(an_extent_is_raw_mine_marked_and_committed)
{
	const uint64_t counts[] = {1, 2, 3, 15, 16, 17, 100, 511, 512};
	uint32_t home = 1;

	for (size_t i = 0; i < LENGTH(counts); i++) {
		ck_assert(take(counts[i], 1, &home));
		check_entry(live[0].page, counts[i], RAW_PLAIN);
		ck_assert_uint_eq(zone_of_page(&arena, live[0].page), home);
		heap_check(&arena);
		give_all();
	}
}
END_TEST

START_TEST(what_stays_lies_in_the_first_zone)
{
	int err = 0;
	uint64_t page = extent_alloc(&arena, 1, 1, RAW_THREAD, NULL, &err);

	ck_assert_uint_eq(zone_of_page(&arena, page), 0);
	check_entry(page, 1, RAW_THREAD);
	extent_free(&arena, page);
}
END_TEST

START_TEST(random_extents_never_meet_and_all_pages_come_back)
{
	uint32_t home = 1;

	heap_seed("random_extents_never_meet_and_all_pages_come_back");
	for (int i = 0; i < 4000; i++) {
		uint64_t pages = heap_below(4) ? 1 + heap_below(20) : 1 + heap_below(512);
		uint64_t align = heap_below(4) ? 1 : UINT64_C(1) << heap_below(10);

		if (heap_below(100) < 55 && live_count < MANY)
			take(pages, align, &home);
		else if (live_count)
			give((uint32_t)heap_below(live_count));
		if (i % 400 == 0)
			heap_check(&arena);
	}
	give_all();
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
}
END_TEST

START_TEST(a_full_arena_gives_out_every_page_and_takes_all_back)
{
	uint32_t home = 1;
	uint64_t pages = 0;

	for (uint64_t size = 512; size > 0; size /= 2)
		while (take(size, 1, &home))
			pages += size;
	ck_assert_uint_eq(pages, geometry_heap_pages(&arena.g));
	heap_check(&arena);
	give_all();
	ck_assert_uint_eq(heap_free_pages(&arena), pages);
	ck_assert(take(512, 512, &home));
	give_all();
}
END_TEST

static int hold_all_locks(void *arg)
{
	(void)arg;
	for (uint32_t z = 0; z < arena_refresh(&arena); z++)
		if (zone_trylock(&arena, z))
			return 1;
	rest(board);
	return 0;
}

static pid_t stopped_holder(void)
{
	pid_t pid = child_start(hold_all_locks, NULL);

	board_wait(&board->ready, 1);
	kill(pid, SIGSTOP);
	ck_assert(child_stopped(pid));
	return pid;
}

static double seconds_since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - then->tv_sec) + (double)(now.tv_nsec - then->tv_nsec) / 1e9;
}

START_TEST(a_stopped_holder_of_every_lock_keeps_nobody_waiting)
{
	uint32_t home = 1;
	struct timespec start;
	pid_t pid;

	while (zone_activate(&arena) == 0)
		;
	ck_assert(take(10, 1, &home));
	pid = stopped_holder();
	clock_gettime(CLOCK_MONOTONIC, &start);
	ck_assert(!take(1, 1, &home));
	ck_assert(!take(600, 1, &home));
	give_all(); /* is left with the zone */
	ck_assert(seconds_since(&start) < 60); /* not for ever */
	child_kill(pid);
	ck_assert_uint_eq(heap_free_pages(&arena), geometry_heap_pages(&arena.g));
}
END_TEST

START_TEST(when_zones_in_use_are_held_a_new_one_serves)
{
	uint32_t home = 1, zones;
	pid_t pid;

	ck_assert(take(1, 1, &home));
	zones = arena_refresh(&arena);
	ck_assert_uint_lt(zones, arena.g.zone_count);
	pid = stopped_holder();
	ck_assert(take(1, 1, &home));
	ck_assert_uint_ge(zone_of_page(&arena, live[1].page), zones);
	child_kill(pid);
	give_all();
}
END_TEST

/* Those yet to be put into use too: as if others had always been faster, and then slow. */
static int hold_all_locks_but_the_last(void *arg)
{
	(void)arg;
	for (uint32_t z = 0; z + 1 < arena.g.zone_count; z++)
		if (pthread_mutex_trylock(&zone_of(&arena, z)->lock))
			return 1;
	rest(board);
	return 0;
}

START_TEST(while_there_is_a_zone_that_nobody_holds_there_is_memory)
{
	uint32_t home = 1;
	pid_t pid;

	ck_assert_uint_ge(arena.g.zone_count, 8);
	ck_assert_uint_lt(arena_refresh(&arena), 3);
	pid = child_start(hold_all_locks_but_the_last, NULL);
	child_ready(board, pid, 1);
	ck_assert(take(1, 1, &home));
	ck_assert_uint_eq(zone_of_page(&arena, live[0].page), arena.g.zone_count - 1);
	child_kill(pid);
	give_all();
}
END_TEST

static int take_and_die(void *arg)
{
	uint32_t home = 1;

	(void)arg;
	if (thread_become_client(&arena))
		return 1;
	for (int i = 0; i < 50; i++)
		if (!take(1 + (uint64_t)i % 20, 1, &home))
			return 2;
	if (!take(700, 1, &home))
		return 3;
	die();
	return 0;
}

START_TEST(extents_of_a_dead_client_are_reclaimed)
{
	child_dies(child_start(take_and_die, NULL));
	ck_assert_uint_eq(reap(&arena), 1);
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
}
END_TEST

START_TEST(reclaiming_an_extent_of_the_dead_takes_only_theirs)
{
	uint32_t home = 1;

	ck_assert(take(5, 1, &home));
	ck_assert_int_eq(extent_reclaim(&arena, live[0].page, arena.client + 1), 0);
	check_entry(live[0].page, 5, RAW_PLAIN);
	ck_assert_int_eq(extent_reclaim(&arena, live[0].page, arena.client), 0);
	ck_assert_int_eq(pw0_kind(atomic_load(&arena.pages[live[0].page].w0)), PAGE_FREE);
	ck_assert_int_eq(extent_reclaim(&arena, live[0].page, arena.client), 0);
	live_count = 0;
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
}
END_TEST

START_TEST(the_end_of_an_extent_is_given_back)
{
	uint32_t home = 1;
	uint64_t w0;

	ck_assert(take(300, 1, &home));
	w0 = atomic_load(&arena.pages[live[0].page].w0);
	ck_assert(!extent_trim(&arena, live[0].page, w0, 300));
	ck_assert(!extent_trim(&arena, live[0].page, w0 ^ UINT64_C(1) << PW0_GEN_SHIFT, 1));
	for (uint64_t keep = 299; keep >= 1; keep -= 1 + keep / 3) {
		ck_assert(extent_trim(&arena, live[0].page, w0, keep));
		live[0].pages = keep;
		check_entry(live[0].page, keep, RAW_PLAIN);
		heap_check(&arena);
		if (keep == 1)
			break;
	}
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g) - live[0].pages);
	give_all();
}
END_TEST

/* ---- no memory left in the system ---- */

#define SMALL_DIR "/dev/shm"

static int fill_small_system(void *arg)
{
	struct arena_config config = {.name = "x", .path = SMALL_DIR "/x", .backing = BACKING_FILE,
				      .capacity = MIB(64), .log_capacity = 65536};
	struct arena_files files;
	uint32_t home = 1;
	uint64_t pages = 0, before;

	(void)arg;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", SMALL_DIR, "tmpfs", 0, "size=8m") < 0)
		return 77;
	if (arena_create(&config, &files) || arena_map(&arena, files, false) ||
	    thread_attach_arena(&arena) || thread_become_client(&arena))
		return 1;
	for (uint64_t size = 64; size > 0; size /= 2)
		while (live_count < MANY && take(size, 1, &home))
			pages += size;
	if (pages < 1000 || heap_findings(&arena))
		return 2;
	/* Everything there is can be used again, and nothing else. */
	give_all();
	before = pages;
	for (pages = 0; live_count < MANY && take(16, 1, &home);)
		pages += 16;
	if (pages < before - 256 || heap_findings(&arena))
		return 3;
	give_all();
	heap_detach(&arena);
	return 0;
}

START_TEST(when_the_system_has_no_memory_left_that_is_enomem_and_no_fault)
{
	in_small_system(fill_small_system, "when_the_system_has_no_memory_left_that_is_enomem_and_no_fault");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("extent");
	TCase *t = tcase_create("extent");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, an_extent_is_raw_mine_marked_and_committed);
	tcase_add_test(t, what_stays_lies_in_the_first_zone);
	tcase_add_test(t, random_extents_never_meet_and_all_pages_come_back);
	tcase_add_test(t, a_full_arena_gives_out_every_page_and_takes_all_back);
	tcase_add_test(t, a_stopped_holder_of_every_lock_keeps_nobody_waiting);
	tcase_add_test(t, when_zones_in_use_are_held_a_new_one_serves);
	tcase_add_test(t, while_there_is_a_zone_that_nobody_holds_there_is_memory);
	tcase_add_test(t, extents_of_a_dead_client_are_reclaimed);
	tcase_add_test(t, reclaiming_an_extent_of_the_dead_takes_only_theirs);
	tcase_add_test(t, the_end_of_an_extent_is_given_back);
	tcase_add_test(t, when_the_system_has_no_memory_left_that_is_enomem_and_no_fault);
	suite_add_tcase(s, t);
	return run_suite(s);
}
