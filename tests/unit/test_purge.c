/* SPDX-License-Identifier: Apache-2.0 */
/* Giving memory back: what was idle goes, what is used or was used lately stays, and comes back when it is taken. */
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "commit.h"
#include "extent.h"
#include "heap.h"
#include "purge.h"
#include "shmalloc.h"
#include "sizeclass.h"
#include "slab.h"
#include "walk.h"

#define MANY 4096

static struct arena arena;
static struct purge purge;
static uint64_t base; /* blocks of the arena's file that are not the heap's */
static struct {
	uint64_t page, pages;
} live[MANY];
static uint32_t live_count;

static uint64_t resident(const struct arena *a)
{
	struct stat st;

	ck_assert_int_eq(fstat(a->files.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static uint64_t committed(const struct arena *a)
{
	struct shma_stats st;

	stats_arena(a, &st);
	return st.committed_bytes;
}

static void setup(void)
{
	heap_attach(&arena, MIB(64));
	while (zone_activate(&arena) == 0)
		;
	for (uint32_t zone = 0; zone < arena.g.zone_count; zone++)
		ck_assert_int_eq(client_prepare_zone(&arena, zone), 0);
	memset(&purge, 0, sizeof(purge));
	base = resident(&arena) - committed(&arena);
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

/* Each page bears its own number. */
static bool take(uint64_t pages)
{
	uint32_t home = 1;
	int err = 0;
	uint64_t page = extent_alloc(&arena, pages, 1, RAW_PLAIN, &home, &err);

	if (page == EXTENT_NONE)
		return false;
	ck_assert_uint_eq(walk_resident(&arena, page, pages), pages);
	for (uint64_t p = page; p < page + pages; p++)
		words_of(p)[0] = words_of(p)[511] = p;
	live[live_count].page = page;
	live[live_count++].pages = pages;
	return true;
}

static void give(uint32_t i)
{
	for (uint64_t p = live[i].page; p < live[i].page + live[i].pages; p++)
		if (words_of(p)[0] != p || words_of(p)[511] != p)
			ck_abort_msg("page %#llx is not as it was", (unsigned long long)p);
	extent_free(&arena, live[i].page);
	live[i] = live[--live_count];
}

static void give_all(void)
{
	while (live_count)
		give(live_count - 1);
}

/* Two rounds: all that is idle now. */
static uint64_t purge_all(void)
{
	uint64_t bytes = purge_round(&purge, &arena);

	return bytes + purge_round(&purge, &arena);
}

/* What the bits say is what the file has. */
static void check_resident(void)
{
	ck_assert_uint_eq(committed(&arena) + base, resident(&arena));
}

START_TEST(what_is_idle_goes_in_the_second_round)
{
	uint64_t before;

	purge_all();
	before = resident(&arena);
	ck_assert(take(1024));
	ck_assert(take(100));
	give(0);
	ck_assert_uint_eq(purge_round(&purge, &arena), 0);
	ck_assert_uint_ge(purge_round(&purge, &arena), MIB(4));
	check_resident();
	ck_assert_uint_le(resident(&arena), before + (112 << PAGE_SHIFT));
	ck_assert_uint_eq(purge_all(), 0);
	give_all();
}
END_TEST

START_TEST(what_is_taken_between_two_rounds_stays)
{
	purge_all();
	for (int i = 0; i < 5; i++) {
		ck_assert(take(512));
		give_all();
		ck_assert_uint_eq(purge_round(&purge, &arena), 0);
	}
	ck_assert_uint_ge(purge_round(&purge, &arena), MIB(2));
	check_resident();
}
END_TEST

START_TEST(pages_around_a_used_one_go_and_come_back_with_memory)
{
	uint64_t used, before;

	for (int i = 0; i < 640; i++)
		ck_assert(take(1));
	purge_all();
	before = resident(&arena);
	for (uint32_t i = 640; i-- > 0;)
		if (live[i].page % REGION_PAGES != 5)
			give(i);
	used = live_count;
	ck_assert_uint_eq(used, 40);
	ck_assert_uint_eq(purge_all(), 600 << PAGE_SHIFT);
	ck_assert_uint_eq(resident(&arena), before - (600 << PAGE_SHIFT));
	check_resident();
	heap_check(&arena);
	for (int i = 0; i < 600; i++) {
		ck_assert(take(1));
		check_resident();
	}
	ck_assert_uint_eq(resident(&arena), before);
	give_all();
}
END_TEST

START_TEST(a_region_that_is_free_at_last_goes_as_a_whole)
{
	uint64_t region;

	for (int i = 0; i < 64; i++)
		ck_assert(take(1));
	while (live_count > 1)
		give(live_count - 1);
	region = live[0].page / REGION_PAGES;
	purge_all();
	ck_assert(commit_has_region(&arena, region));
	ck_assert_uint_eq(walk_resident(&arena, region * REGION_PAGES, REGION_PAGES), 1);
	give_all();
	purge_all();
	ck_assert(!commit_has_region(&arena, region));
	ck_assert_uint_eq(commit_purged(&arena, region * REGION_PAGES) & 0xffff, 0);
	check_resident();
}
END_TEST

START_TEST(pages_of_a_zone_are_seen_across_its_words)
{
	uint64_t bits, first;

	ck_assert(take(512));
	first = live[0].page;
	for (uint64_t p = first; p < first + 512; p += 3)
		commit_give(&arena, p, 1);
	for (uint64_t p = first; p + 64 < first + 512; p += 7) {
		bits = commit_purged(&arena, p);
		for (uint64_t i = 0; i < 64; i++)
			ck_assert_uint_eq(bits >> i & 1, (p + i - first) % 3 == 0);
	}
	ck_assert_int_eq(commit_retake(&arena, first, 512), 0);
	for (uint64_t p = first; p < first + 512; p++)
		ck_assert_uint_eq(commit_purged(&arena, p) & 1, 0);
	give_all();
}
END_TEST

START_TEST(random_extents_keep_their_bytes_while_all_else_is_given_back)
{
	uint64_t bytes = 0;

	heap_seed("random_extents_keep_their_bytes_while_all_else_is_given_back");
	for (int i = 0; i < 30000; i++) {
		uint64_t pages = heap_below(20) ? 1 + heap_below(8) : 1 + heap_below(700);

		if (live_count && heap_below(100) < (live_count > 1000 ? 70 : 45))
			give((uint32_t)heap_below(live_count));
		else if (live_count < MANY && !take(pages))
			give((uint32_t)heap_below(live_count));
		if (heap_below(200) == 0)
			bytes += purge_round(&purge, &arena);
		if (heap_below(2000) == 0) {
			check_resident();
			heap_check(&arena);
		}
	}
	ck_assert_uint_gt(bytes, MIB(16));
	give_all();
	purge_all();
	check_resident();
	ck_assert_uint_eq(committed(&arena), 0);
}
END_TEST

START_TEST(memory_is_short_when_less_than_a_sixteenth_is_left)
{
	uint64_t all = geometry_heap_pages(&arena.g), taken = 0, last = 0;
	uint32_t home = 0;
	int err = 0;

	while (taken + 16 <= all - all / 16 - 16) {
		ck_assert(!purge_is_short(&arena));
		last = extent_alloc(&arena, 16, 1, RAW_PLAIN, &home, &err);
		ck_assert_uint_ne(last, EXTENT_NONE);
		live[live_count].page = last;
		live[live_count++].pages = 16;
		taken += 16;
	}
	for (int i = 0; i < 4; i++) {
		live[live_count].page = extent_alloc(&arena, 16, 1, RAW_PLAIN, &home, &err);
		live[live_count++].pages = 16;
	}
	ck_assert(purge_is_short(&arena));
	while (live_count)
		extent_free(&arena, live[--live_count].page);
	ck_assert(!purge_is_short(&arena));
}
END_TEST

START_TEST(a_zone_that_is_held_is_left_for_the_next_round)
{
	uint32_t zone;

	ck_assert(take(256));
	zone = zone_of_page(&arena, live[0].page);
	purge_all();
	give_all();
	ck_assert_int_eq(zone_trylock(&arena, zone), 0);
	ck_assert_uint_eq(purge_all(), 0);
	zone_unlock(&arena, zone);
	ck_assert_uint_ge(purge_all(), MIB(1));
	check_resident();
}
END_TEST

START_TEST(a_dead_purgers_pages_come_back_and_take_memory_again)
{
	struct board *board = board_new();
	pid_t pid;

	ck_assert(take(3));
	ck_assert(take(1000));
	give(0);
	give(0);
	purge_round(&purge, &arena);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		/* Half of what it took is punched. */
		if (client_fork_child(&arena) == 0 && !purge_gather(&purge, &arena) && purge.count)
			arena_punch(&arena, purge_offset(&arena, &purge.parts[0]), 65536);
		atomic_store(&board->count, purge.count);
		die();
	}
	child_dies(pid);
	ck_assert_uint_gt(atomic_load(&board->count), 0);
	ck_assert_uint_eq(reap(&arena), 1);
	for (int i = 0; i < 15; i++)
		ck_assert(take(1000));
	heap_check(&arena);
	ck_assert_uint_ge(resident(&arena), committed(&arena) + base);
	give_all();
}
END_TEST

/* ---- slabs ---- */

static uint64_t objects[MANY];
static uint32_t object_count;

static uint64_t bytes_of(uint32_t class)
{
	return sizeclass_table[class].bytes;
}

/* Each object bears its own handle at both ends. */
static void stamp_object(uint64_t handle, uint32_t class)
{
	uint64_t *p = (uint64_t *)(arena.heap + handle_offset(handle));

	p[0] = p[bytes_of(class) / 8 - 1] = handle;
}

static bool stamped(uint64_t handle, uint32_t class)
{
	const uint64_t *p = (const uint64_t *)(arena.heap + handle_offset(handle));

	return p[0] == handle && p[bytes_of(class) / 8 - 1] == handle;
}

static bool has_memory(uint64_t handle, uint32_t class)
{
	uint64_t first = handle_offset(handle) >> PAGE_SHIFT;
	uint64_t last = (handle_offset(handle) + bytes_of(class) - 1) >> PAGE_SHIFT;

	return walk_resident(&arena, first, last - first + 1) == last - first + 1;
}

/* So many more objects; how many there were. */
static uint32_t claim(uint32_t class, uint32_t want)
{
	uint32_t home = 1, had = object_count;
	struct slab_source from = {.class = class, .home = &home, .owned = INT64_MAX}; /* long slabs */

	while (object_count < had + want) {
		uint32_t ask = had + want - object_count < 16 ? had + want - object_count : 16, got;
		int err;

		got = slab_claim(&arena, &from, ask, OBJECT_PRIVATE, objects + object_count, &err);
		for (uint32_t i = 0; i < got; i++) {
			if (!has_memory(objects[object_count + i], class))
				ck_abort_msg("an object without memory");
			stamp_object(objects[object_count + i], class);
		}
		object_count += got;
		if (!got)
			break;
	}
	return object_count - had;
}

static void put(uint32_t class, uint32_t i)
{
	if (!stamped(objects[i], class))
		ck_abort_msg("object %#llx is not as it was", (unsigned long long)objects[i]);
	slab_put(&arena, &objects[i], 1, 0);
	objects[i] = objects[--object_count];
}

static void put_most(uint32_t class, uint32_t keep)
{
	while (object_count > keep)
		put(class, (uint32_t)heap_below(object_count));
}

/* Of all pages in use by objects, those with a live one. */
static uint64_t live_pages(uint32_t class)
{
	uint64_t pages = geometry_heap_pages(&arena.g), live_ones = 0;
	uint8_t *seen = calloc(pages, 1);

	for (uint32_t i = 0; i < object_count; i++) {
		uint64_t last = (handle_offset(objects[i]) + bytes_of(class) - 1) >> PAGE_SHIFT;

		for (uint64_t p = handle_offset(objects[i]) >> PAGE_SHIFT; p <= last; p++) {
			live_ones += !seen[p];
			seen[p] = 1;
		}
	}
	free(seen);
	return live_ones;
}

static uint64_t state_bytes(void)
{
	struct shma_stats st;

	stats_arena(&arena, &st);
	return st.state_bytes;
}

static const uint32_t sizes[] = {16, 48, 112, 240, 496, 1000, 1800, 4096, 6000, 12000, 32768};

START_TEST(only_pages_with_a_live_object_stay)
{
	heap_seed("only_pages_with_a_live_object_stay");
	for (uint32_t i = 0; i < LENGTH(sizes); i++) {
		uint32_t class = sizeclass_of(sizes[i]), many = sizes[i] > 4096 ? 600 : 3000;

		ck_assert_uint_eq(claim(class, many), many);
		purge_all();
		put_most(class, many / 10);
		purge_all();
		ck_assert_uint_eq(committed(&arena) - state_bytes(), live_pages(class) << PAGE_SHIFT);
		check_resident();
		heap_check(&arena);
		ck_assert_uint_eq(claim(class, many), many); /* sees to it that they have memory */
		check_resident();
		put_most(class, 0);
		purge_all();
		ck_assert_uint_eq(committed(&arena), state_bytes());
		check_resident();
	}
}
END_TEST

START_TEST(a_slab_that_changes_between_two_rounds_stays)
{
	uint32_t class = sizeclass_of(1000), some = sizeclass_table[class].objects;
	uint64_t before;

	ck_assert_uint_eq(claim(class, some), some);
	purge_all();
	while (object_count > 2)
		put(class, object_count - 1);
	purge_round(&purge, &arena);
	for (int i = 0; i < 5; i++) {
		before = resident(&arena);
		if (i % 2)
			ck_assert_uint_eq(claim(class, 1), 1);
		else
			put(class, object_count - 1);
		ck_assert_uint_eq(purge_round(&purge, &arena), 0);
		ck_assert_uint_eq(resident(&arena), before);
	}
	ck_assert_uint_gt(purge_round(&purge, &arena), 0);
	check_resident();
	put_most(class, 0);
}
END_TEST

static int purge_on(void *arg)
{
	struct board *board = arg;

	if (client_fork_child(&arena))
		return 1;
	while (!atomic_load(&board->stop)) {
		atomic_fetch_add(&board->count, purge_round(&purge, &arena));
		sched_yield();
	}
	return 0;
}

START_TEST(objects_keep_their_bytes_beside_a_purger_at_work)
{
	struct board *board = board_new();
	uint32_t class = sizeclass_of(500);
	pid_t pid = child_start(purge_on, board);

	heap_seed("objects_keep_their_bytes_beside_a_purger_at_work");
	for (int round = 0; round < 60 || (round < 60000 && atomic_load(&board->count) < MIB(4)); round++) {
		ck_assert_uint_eq(claim(class, 2000), 2000);
		put_most(class, 1 + (uint32_t)heap_below(400));
		usleep(200);
	}
	atomic_store(&board->stop, 1);
	child_expect(pid, 0);
	ck_assert_uint_ge(atomic_load(&board->count), MIB(4));
	while (object_count)
		put(class, object_count - 1);
	reap(&arena);
	purge_all();
	ck_assert_uint_eq(committed(&arena), state_bytes());
}
END_TEST

static int hold_and_die(void *arg)
{
	struct board *board = arg;
	bool more = true;

	if (client_fork_child(&arena))
		return 1;
	while (more && !purge.held)
		more = purge_gather(&purge, &arena);
	atomic_store(&board->count, purge.held);
	purge_punch(&purge, &arena);
	die();
	return 0;
}

START_TEST(objects_that_a_dead_purger_held_are_free_again)
{
	struct board *board = board_new();
	uint32_t class = sizeclass_of(700);
	uint64_t slabs;
	struct shma_stats st;

	heap_seed("objects_that_a_dead_purger_held_are_free_again");
	ck_assert_uint_eq(claim(class, 2000), 2000);
	stats_arena(&arena, &st);
	slabs = st.slabs;
	put_most(class, 200);
	purge_round(&purge, &arena);
	child_dies(child_start(hold_and_die, board));
	ck_assert_uint_gt(atomic_load(&board->count), 0);
	ck_assert_uint_eq(reap(&arena), 1);
	heap_check(&arena);
	ck_assert_uint_eq(claim(class, 1800), 1800);
	stats_arena(&arena, &st);
	ck_assert_uint_eq(st.slabs, slabs);
	put_most(class, 0);
}
END_TEST

/* ---- no memory left in the system ---- */

#define SMALL_DIR "/dev/shm"

static int open_small_system(uint64_t capacity)
{
	struct arena_config config = {.name = "x", .path = SMALL_DIR "/x", .backing = BACKING_FILE,
				      .capacity = capacity, .log_capacity = 65536};
	struct arena_files files;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", SMALL_DIR, "tmpfs", 0, "size=8m") < 0)
		return 77;
	return arena_create(&config, &files) || arena_map(&arena, files, false) ||
	       thread_attach_arena(&arena) || thread_become_client(&arena);
}

/* Takes what the system has left. */
static int fill_rest(void)
{
	static const char bytes[4096];
	int fd = open(SMALL_DIR "/rest", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	int r;

	while (write(fd, bytes, sizeof(bytes)) == sizeof(bytes))
		;
	r = errno == ENOSPC ? 0 : 1;
	close(fd);
	return r;
}

static int purge_in_small_system(void *arg)
{
	uint32_t taken = 0;
	int r = open_small_system(MIB(64));

	(void)arg;
	if (r)
		return r;
	memset(&purge, 0, sizeof(purge));
	for (int i = 0; i < 512; i++)
		if (!take(1))
			return 1;
	for (uint32_t i = 512; i-- > 0;)
		if (live[i].page % REGION_PAGES)
			give(i);
	if (purge_all() < 400 << PAGE_SHIFT || fill_rest())
		return 2;
	while (take(1))
		taken++;
	if (taken > 2 || heap_findings(&arena)) /* the last region's, that were never idle */
		return 3;
	if (unlink(SMALL_DIR "/rest"))
		return 4;
	for (int i = 0; i < 400; i++)
		if (!take(1))
			return 5;
	give_all();
	r = heap_findings(&arena) ? 6 : 0;
	heap_detach(&arena);
	return r;
}

static int claim_in_small_system(void *arg)
{
	uint32_t class = sizeclass_of(900), with_memory = 0, got;
	int r = open_small_system(MIB(64));

	(void)arg;
	if (r)
		return r;
	memset(&purge, 0, sizeof(purge));
	if (claim(class, 3000) != 3000)
		return 1;
	put_most(class, 400);
	for (int i = 0; i < 20; i++) /* these come back with memory */
		put(class, 0);
	claim(class, 20);
	if (!purge_all() || fill_rest())
		return 2;
	got = claim(class, 3000);
	with_memory = object_count;
	if (got == 0 || got >= 2000 || heap_findings(&arena))
		return 3;
	while (object_count > with_memory - got)
		put(class, object_count - 1);
	if (claim(class, got) != got)
		return 4;
	if (unlink(SMALL_DIR "/rest") || claim(class, 1500) != 1500)
		return 5;
	put_most(class, 0);
	r = heap_findings(&arena) ? 6 : 0;
	heap_detach(&arena);
	return r;
}

START_TEST(when_the_system_is_full_objects_that_have_memory_still_serve)
{
	in_small_system(claim_in_small_system, "when_the_system_is_full_objects_that_have_memory_still_serve");
}
END_TEST

START_TEST(pages_given_back_are_not_handed_out_when_the_system_is_full)
{
	in_small_system(purge_in_small_system, "pages_given_back_are_not_handed_out_when_the_system_is_full");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("purge");
	TCase *t = tcase_create("purge");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_is_idle_goes_in_the_second_round);
	tcase_add_test(t, what_is_taken_between_two_rounds_stays);
	tcase_add_test(t, pages_around_a_used_one_go_and_come_back_with_memory);
	tcase_add_test(t, a_region_that_is_free_at_last_goes_as_a_whole);
	tcase_add_test(t, pages_of_a_zone_are_seen_across_its_words);
	tcase_add_test(t, random_extents_keep_their_bytes_while_all_else_is_given_back);
	tcase_add_test(t, memory_is_short_when_less_than_a_sixteenth_is_left);
	tcase_add_test(t, a_zone_that_is_held_is_left_for_the_next_round);
	tcase_add_test(t, a_dead_purgers_pages_come_back_and_take_memory_again);
	tcase_add_test(t, only_pages_with_a_live_object_stay);
	tcase_add_test(t, a_slab_that_changes_between_two_rounds_stays);
	tcase_add_test(t, objects_keep_their_bytes_beside_a_purger_at_work);
	tcase_add_test(t, objects_that_a_dead_purger_held_are_free_again);
	tcase_add_test(t, when_the_system_is_full_objects_that_have_memory_still_serve);
	tcase_add_test(t, pages_given_back_are_not_handed_out_when_the_system_is_full);
	suite_add_tcase(s, t);
	return run_suite(s);
}
