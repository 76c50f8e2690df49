/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zones of NUMA nodes, on any machine: an arena is told that it has four nodes, and the processor's node is
 * said to be the home of choice. tests/numa shows the same on four nodes, with the kernel's word for it.
 */
#include <sys/stat.h>

#include "commit.h"
#include "extent.h"
#include "heap.h"
#include "hint.h"
#include "huge.h"
#include "object.h"
#include "placement.h"
#include "record.h"
#include "residence.h"
#include "slab.h"

#define FOUR 0xf
#define ROW 3u

static struct arena arena;

/* As if the thread ran on that node. */
static void stand_on(uint32_t home)
{
	for (uint32_t node = 0; node < PLACEMENT_NODES_MAX; node++)
		arena.node_homes[node] = (uint8_t)home;
}

static void tell_nodes(uint64_t nodes, uint32_t mode)
{
	struct arena_header h = *arena.header;

	h.numa_mode = mode;
	h.numa_nodes = nodes;
	placement_apply(&arena, &h);
	stand_on(0);
}

static void setup(void)
{
	heap_attach(&arena, MIB(512)); /* 16 zones */
	tell_nodes(FOUR, PLACEMENT_LOCAL);
}

static void teardown(void)
{
	heap_check(&arena);
	heap_detach(&arena);
}

static uint32_t home_of(uint64_t page)
{
	return placement_home_of(&arena, zone_of_page(&arena, page));
}

static uint64_t take(uint64_t pages, uint32_t *home)
{
	int err = 0;

	return extent_alloc(&arena, pages, 1, RAW_PLAIN, home, &err);
}

START_TEST(each_zone_is_of_one_node_and_all_nodes_have_as_many)
{
	uint32_t count[4] = {0};

	ck_assert_uint_eq(arena.homes, 4);
	ck_assert_uint_eq(arena.kept_zones, 4);
	for (uint64_t zone = 0; zone < arena.g.zone_count; zone++) {
		uint32_t home = placement_home_of(&arena, zone), in = 0;

		for (uint32_t h = 0; h < 4; h++)
			in += placement_zone_in(arena.home_zones[h], zone);
		ck_assert_uint_eq(in, 1);
		ck_assert(placement_zone_in(arena.home_zones[home], zone));
		ck_assert_int_eq(placement_node_of_zone(&arena, zone), (int)home);
		count[home]++;
	}
	for (uint32_t h = 0; h < 4; h++)
		ck_assert_uint_eq(count[h], arena.g.zone_count / 4);
}
END_TEST

START_TEST(nodes_need_not_be_next_to_each_other)
{
	tell_nodes(UINT64_C(1) << 63 | 1 << 5 | 1 << 2, PLACEMENT_LOCAL);
	ck_assert_uint_eq(arena.homes, 3);
	ck_assert_int_eq(placement_node_of_zone(&arena, 0), 2);
	ck_assert_int_eq(placement_node_of_zone(&arena, 1), 5);
	ck_assert_int_eq(placement_node_of_zone(&arena, 2), 63);
	ck_assert_int_eq(placement_node_of_zone(&arena, 3), 2);
	ck_assert_uint_eq(arena.home_zones[0] | arena.home_zones[1] | arena.home_zones[2], UINT64_MAX);
}
END_TEST

START_TEST(all_zones_are_alike_unless_local_has_several_nodes)
{
	tell_nodes(1, PLACEMENT_LOCAL);
	heap_detach(&arena);
	heap_attach(&arena, MIB(512));
	tell_nodes(1, PLACEMENT_LOCAL);
	ck_assert_uint_eq(arena.homes, 1);
	ck_assert_uint_eq(placement_here(&arena), PLACEMENT_ALL);
	tell_nodes(FOUR, PLACEMENT_INTERLEAVE);
	ck_assert_uint_eq(arena.homes, 1);
	ck_assert_uint_eq(arena.kept_zones, 1);
	ck_assert_int_eq(placement_node_of_zone(&arena, 2), -1);
}
END_TEST

START_TEST(extents_come_from_the_own_node_then_from_others)
{
	uint64_t pages = arena.g.zone_pages, own = 0, all = 0, page;
	uint32_t home = 1;

	stand_on(2);
	while ((page = take(pages, &home)) != EXTENT_NONE) {
		/* No zone of another node before all of the own are taken. */
		if (home_of(page) == 2 && zone_of_page(&arena, page) >= arena.kept_zones) {
			ck_assert_uint_eq(own, all);
			own++;
		}
		all++;
	}
	/* The first zones come last; one has this thread's bookkeeping in it. */
	ck_assert_uint_eq(own, arena.g.zone_count / 4 - 1);
	ck_assert_uint_ge(all, arena.g.zone_count - 2);
}
END_TEST

START_TEST(an_own_nodes_zones_alone_end_with_enomem)
{
	uint32_t home = 6, taken = 0;
	int err = 0;

	while (extent_alloc_in(&arena, arena.g.zone_pages, RAW_PLAIN, &home, arena.home_zones[2], &err) !=
	       EXTENT_NONE)
		taken++;
	ck_assert_int_eq(err, -ENOMEM);
	ck_assert_uint_eq(taken, arena.g.zone_count / 4 - 1);
}
END_TEST

START_TEST(what_stays_has_a_zone_a_node)
{
	int err = 0;

	for (uint32_t h = 0; h < 4; h++) {
		uint64_t page;

		stand_on(h);
		page = extent_alloc(&arena, 1, 1, RAW_PLAIN, NULL, &err);
		ck_assert_uint_eq(zone_of_page(&arena, page), h);
		page = record_alloc(&arena, 2, &err) >> PAGE_SHIFT;
		ck_assert_uint_eq(zone_of_page(&arena, page), h);
	}
}
END_TEST

static void fill_slabs(struct slab_source *from, uint32_t count, uint64_t *out)
{
	uint32_t got = 0, n;
	int err = 0;

	for (; got < count; got += n) {
		n = slab_claim(&arena, from, count - got, OBJECT_PRIVATE, out + got, &err);
		ck_assert_uint_gt(n, 0);
	}
}

START_TEST(objects_are_claimed_on_the_own_node_before_others_are_looked_at)
{
	enum { COUNT = 400 };
	uint64_t there[COUNT], freed[COUNT / 2], here[COUNT];
	uint32_t home = 1;
	struct slab_source from = {.class = 20, .home = &home};

	stand_on(3);
	fill_slabs(&from, COUNT, there);
	for (uint32_t i = 0; i < COUNT / 2; i++)
		freed[i] = there[2 * i];
	slab_put(&arena, freed, COUNT / 2, 0);
	/* The thread moves: neither the slab it drew from last nor the hints of that node are its any more. */
	stand_on(1);
	fill_slabs(&from, COUNT, here);
	for (uint32_t i = 0; i < COUNT; i++)
		ck_assert_uint_eq(home_of(handle_offset(here[i]) >> PAGE_SHIFT), 1);
	slab_put(&arena, here, COUNT, 0);
	stand_on(3);
	fill_slabs(&from, COUNT / 2, freed);
	for (uint32_t i = 0; i < COUNT / 2; i++)
		ck_assert_uint_eq(home_of(handle_offset(freed[i]) >> PAGE_SHIFT), 3);
}
END_TEST

START_TEST(objects_of_other_nodes_serve_before_enomem)
{
	enum { COUNT = 100 };
	uint64_t there[COUNT], freed[COUNT / 2], page;
	uint32_t home = 1, extent_home = 1;
	struct slab_source from = {.class = 20, .home = &home};

	stand_on(3);
	fill_slabs(&from, COUNT, there);
	for (uint32_t i = 0; i < COUNT / 2; i++)
		freed[i] = there[2 * i];
	slab_put(&arena, freed, COUNT / 2, 0);
	/* All pages are taken, of all nodes. */
	for (uint64_t n = arena.g.zone_pages; n; n /= 2)
		do
			page = take(n, &extent_home);
		while (page != EXTENT_NONE);
	stand_on(1);
	fill_slabs(&from, COUNT / 2, freed);
	for (uint32_t i = 0; i < COUNT / 2; i++)
		ck_assert_uint_eq(home_of(handle_offset(freed[i]) >> PAGE_SHIFT), 3);
}
END_TEST

START_TEST(hints_are_looked_for_in_the_zones_wanted_only)
{
	uint64_t per_zone = arena.g.zone_pages / REGION_PAGES;
	uint64_t end = per_zone * arena.g.zone_count;

	while (arena_refresh(&arena) < arena.g.zone_count)
		ck_assert_int_eq(zone_activate(&arena), 0);
	for (uint64_t zone = 4; zone < 12; zone++)
		hint_set(&arena, ROW, zone * arena.g.zone_pages);
	for (uint32_t h = 0; h < 4; h++) {
		uint64_t zones = arena.home_zones[h];

		ck_assert_uint_eq(hint_next_in(&arena, ROW, 0, end, zones), (4 + h) * per_zone);
		ck_assert_uint_eq(hint_next_in(&arena, ROW, (4 + h) * per_zone + 1, end, zones),
				  (8 + h) * per_zone);
		ck_assert_uint_eq(hint_next_in(&arena, ROW, (8 + h) * per_zone + 1, end, zones), UINT64_MAX);
	}
	for (uint64_t zone = 4; zone < 12; zone++)
		hint_clear(&arena, ROW, zone * per_zone);
}
END_TEST

/* ---- what is asked for ---- */

START_TEST(nodes_that_are_not_there_are_refused)
{
	uint64_t none = 0, all = ~UINT64_C(0), first = placement_nodes() & -placement_nodes(), got = 0;

	ck_assert_int_eq(placement_settle(PLACEMENT_BIND, &none), -EINVAL);
	ck_assert_int_eq(placement_settle(PLACEMENT_BIND + 1, &first), -EINVAL);
	if (placement_nodes() != all)
		ck_assert_int_eq(placement_settle(PLACEMENT_BIND, &all), -ENODEV);
	ck_assert_int_eq(placement_settle(PLACEMENT_BIND, &first), 0);
	ck_assert_int_eq(placement_settle(PLACEMENT_INTERLEAVE, &got), 0);
	ck_assert_uint_eq(got, placement_nodes());
}
END_TEST

/* A memfd keeps a policy, or the kernel says that it may not be had; never a silent third. */
START_TEST(a_bound_arena_is_bound_or_refused)
{
	struct arena_config config = {.name = "bound", .capacity = MIB(16), .log_capacity = 65536,
				      .backing = BACKING_MEMFD, .numa_mode = PLACEMENT_BIND,
				      .numa_nodes = placement_nodes() & -placement_nodes()};
	struct arena_files files;
	struct arena a;
	int r = arena_create(&config, &files);

	if (r) {
		ck_assert_int_eq(r, -EOPNOTSUPP);
		return;
	}
	ck_assert_int_eq(arena_map(&a, files, false), 0);
	ck_assert_int_eq(placement_ask(&a, a.header), PLACEMENT_KEPT);
	arena_unmap(&a);
}
END_TEST

/* ---- where pages are ---- */

static uint64_t file_blocks(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(arena.files.fd, &st), 0);
	return (uint64_t)st.st_blocks;
}

START_TEST(the_kernel_counts_the_pages_that_are_committed)
{
	struct residence residence;
	uint32_t home = 1;
	uint64_t sum = 0, page, blocks;
	struct shma_stats st;
	int r;

	ck_assert_uint_ne(take(1000, &home), EXTENT_NONE);
	/* Some of it is given back, as a purger does: to ask must not take it again. */
	page = take(100, &home);
	ck_assert_uint_ne(page, EXTENT_NONE);
	commit_give(&arena, page + 3, 50);
	ck_assert_int_eq(arena_punch(&arena, arena.g.heap + ((page + 3) << PAGE_SHIFT), 50 << PAGE_SHIFT), 0);
	blocks = file_blocks();
	stats_arena(&arena, &st);
	r = residence_count(&arena, &residence);
	if (r) { /* a container may forbid to ask */
		ck_assert(r == -EPERM || r == -ENOSYS);
		return;
	}
	for (uint32_t n = 0; n < PLACEMENT_NODES_MAX; n++)
		sum += residence.bytes[n];
	ck_assert_uint_eq(sum, st.committed_bytes);
	ck_assert_uint_eq(residence.asked << PAGE_SHIFT, sum);
	ck_assert_uint_eq(residence.home + residence.away, residence.asked);
	ck_assert_uint_eq(file_blocks(), blocks);
	ck_assert_int_eq(commit_retake(&arena, page, 100), 0);
}
END_TEST

/* ---- large pages ---- */

/* Of a mapping, by large pages. */
static uint64_t mapped_large(const struct arena *a)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end, kb;
	uint64_t bytes = 0;
	bool inside = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (unsigned long)a->heap && (unsigned long)a->heap < end;
		else if (inside && sscanf(line, "ShmemPmdMapped: %lu kB", &kb) == 1)
			bytes += (uint64_t)kb << 10;
	}
	if (f)
		fclose(f);
	return bytes;
}

static uint64_t large_under(enum huge_pages mode, enum huge_answer *answer)
{
	struct arena_config config = {.name = "huge", .capacity = MIB(64), .log_capacity = 65536,
				      .backing = BACKING_MEMFD, .huge_mode = mode};
	struct arena_files files;
	uint32_t home = 1;
	uint64_t bytes;
	struct arena a;
	int err = 0;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&a, files, false), 0);
	ck_assert_int_eq(thread_attach_arena(&a), 0);
	ck_assert_int_eq(thread_become_client(&a), 0);
	ck_assert_uint_ne(extent_alloc(&a, 1024, 512, RAW_PLAIN, &home, &err), EXTENT_NONE);
	*answer = huge_ask(&a, a.header);
	bytes = mapped_large(&a);
	heap_check(&a);
	heap_detach(&a);
	return bytes;
}

START_TEST(large_pages_come_where_the_system_says_that_they_do)
{
	enum huge_answer answer;

	ck_assert_uint_eq(large_under(HUGE_PAGES_NEVER, &answer), 0);
	ck_assert_int_eq(answer, HUGE_NOT_WANTED);
	/* A machine without 4 MiB in one piece gets fewer: then nobody does. */
	if (large_under(HUGE_PAGES_ALWAYS, &answer) == 0)
		ck_assert_msg(answer != HUGE_MADE && answer != HUGE_GRANTED, "none, but answer %d", answer);
	if (large_under(HUGE_PAGES_ADVISE, &answer) == 0)
		ck_assert_msg(answer != HUGE_GRANTED, "none, but answer %d", answer);
	else
		ck_assert_int_eq(answer, HUGE_GRANTED);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("placement");
	TCase *zones = tcase_create("zones of nodes"), *asked = tcase_create("asking");

	tcase_add_checked_fixture(zones, setup, teardown);
	tcase_add_test(zones, each_zone_is_of_one_node_and_all_nodes_have_as_many);
	tcase_add_test(zones, nodes_need_not_be_next_to_each_other);
	tcase_add_test(zones, all_zones_are_alike_unless_local_has_several_nodes);
	tcase_add_test(zones, extents_come_from_the_own_node_then_from_others);
	tcase_add_test(zones, an_own_nodes_zones_alone_end_with_enomem);
	tcase_add_test(zones, what_stays_has_a_zone_a_node);
	tcase_add_test(zones, objects_are_claimed_on_the_own_node_before_others_are_looked_at);
	tcase_add_test(zones, objects_of_other_nodes_serve_before_enomem);
	tcase_add_test(zones, hints_are_looked_for_in_the_zones_wanted_only);
	tcase_add_test(zones, the_kernel_counts_the_pages_that_are_committed);
	tcase_add_test(asked, nodes_that_are_not_there_are_refused);
	tcase_add_test(asked, a_bound_arena_is_bound_or_refused);
	tcase_add_test(asked, large_pages_come_where_the_system_says_that_they_do);
	suite_add_tcase(suite, zones);
	suite_add_tcase(suite, asked);
	return run_suite(suite);
}
