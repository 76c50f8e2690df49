/* SPDX-License-Identifier: Apache-2.0 */
/* The walk, over page maps written by hand: what is there is told, and nonsense leads nowhere. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "walk.h"
#include "zone.h"

#include "../seed.h"

#define CAPACITY (UINT64_C(16) << 20)
#define ITEMS	 64

static struct arena arena;
static struct walk_item items[ITEMS];
static uint32_t count;

static void setup(void)
{
	struct arena_config config = { .name = "walk",
				       .capacity = CAPACITY,
				       .backing = BACKING_MEMFD };
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&arena, files, false), 0);
	ck_assert_int_eq(zone_activate(&arena), 0);
	ck_assert_int_eq(zone_activate(&arena), 0);
	count = 0;
}

static void teardown(void)
{
	arena_unmap(&arena);
}

static void entry(uint64_t page, uint64_t w0, uint64_t w1)
{
	atomic_store(&arena.pages[page].w1, w1);
	atomic_store(&arena.pages[page].w0, w0);
}

static void high(uint32_t zone, uint32_t pages)
{
	atomic_store(&zone_of(&arena, zone)->high, pages);
}

static void commit_all(void)
{
	ck_assert_int_eq(arena_commit(&arena, arena.g.heap, 2 * arena.g.zone_pages << PAGE_SHIFT),
			 0);
	for (uint32_t zone = 0; zone < 2; zone++)
		memset(zone_index(&arena, zone) + geometry_commit_bits(&arena.g), 0xff,
		       arena.g.zone_pages / REGION_PAGES / 8);
}

static int keep(void *context, const struct walk_item *item)
{
	(void)context;
	ck_assert_uint_lt(count, ITEMS);
	items[count++] = *item;
	return 0;
}

static void walk(void)
{
	count = 0;
	ck_assert_int_eq(walk_extents(&arena, keep, NULL), 0);
}

static const struct walk_item *found(uint64_t page)
{
	for (uint32_t i = 0; i < count; i++)
		if (items[i].page == page)
			return &items[i];
	ck_abort_msg("nothing found at page %#llx", (unsigned long long)page);
	return NULL;
}

/* A state block of one page at page, for records of shape; record number 0 of it is of the slab. */
static uint64_t make_record(uint64_t page, uint32_t shape)
{
	struct state_block *block = (void *)(arena.heap + (page << PAGE_SHIFT));

	entry(page, pw0_make(PAGE_STATE, 0, 0, shape), pw1_extent(shape_block_pages(shape), 0));
	block->shape = shape;
	block->records = shape_block_records(shape);
	return (page << PAGE_SHIFT) + sizeof(*block);
}

static void make_slab(uint64_t page, uint32_t class, uint64_t record_offset)
{
	for (uint32_t i = 0; i < sizeclass_table[class].pages; i++)
		entry(page + i, pw0_make(PAGE_SLAB, 0, 0, class),
		      pw1_slab(i, record_offset, class));
}

START_TEST(an_empty_arena_is_one_free_run_a_zone)
{
	walk();
	ck_assert_uint_eq(count, 2);
	for (uint32_t i = 0; i < 2; i++) {
		ck_assert_uint_eq(items[i].kind, PAGE_FREE);
		ck_assert_uint_eq(items[i].page, i * arena.g.zone_pages);
		ck_assert_uint_eq(items[i].length, arena.g.zone_pages);
	}
}
END_TEST

START_TEST(extents_of_every_kind_are_told_with_what_their_entry_says)
{
	static const enum page_kind kinds[] = { PAGE_RAW, PAGE_RETURNED, PAGE_LOG };

	for (uint32_t i = 0; i < 3; i++)
		entry(10 * i, pw0_make(kinds[i], 7, 9, RAW_THREAD), pw1_extent(3 + i, 0));
	entry(30, pw0_large(state_make(OBJECT_SHARED, 5, 6)), pw1_extent(4, 0));
	high(0, 34);
	walk();
	for (uint32_t i = 0; i < 3; i++) {
		const struct walk_item *item = found(10 * i);

		ck_assert_uint_eq(item->kind, kinds[i]);
		ck_assert_uint_eq(item->problem, WALK_FINE);
		ck_assert_uint_eq(item->length, 3 + i);
		ck_assert_uint_eq(item->step, 3 + i);
		ck_assert_uint_eq(item->client, 7);
		ck_assert_uint_eq(item->generation, 9);
		ck_assert_uint_eq(item->class_index, RAW_THREAD);
		ck_assert_uint_eq(found(10 * i + 3 + i)->kind, PAGE_FREE);
	}
	ck_assert_uint_eq(found(30)->object, OBJECT_SHARED);
	ck_assert_uint_eq(found(30)->client, 5);
	ck_assert_uint_eq(found(34)->length, arena.g.zone_pages - 34);
}
END_TEST

START_TEST(nothing_is_read_above_the_high_mark)
{
	entry(40, pw0_make(PAGE_RAW, 1, 0, 0), pw1_extent(1, 0));
	high(0, 40);
	walk();
	ck_assert_uint_eq(count, 2);
	high(0, UINT32_MAX);
	walk();
	ck_assert_uint_eq(found(40)->kind, PAGE_RAW);
}
END_TEST

START_TEST(pages_beyond_the_zones_in_use_do_not_exist)
{
	uint64_t w0, w1;
	struct walk_item item;

	ck_assert(!walk_words(&arena, 2 * arena.g.zone_pages, &w0, &w1));
	ck_assert(!walk_read(&arena, UINT64_MAX, &item));
	atomic_store(&arena.header->active_zones, UINT32_MAX);
	ck_assert_uint_eq(walk_zones(&arena), arena.g.zone_count);
	ck_assert(!walk_read(&arena, arena.g.capacity >> PAGE_SHIFT, &item));
}
END_TEST

START_TEST(an_extent_over_several_zones_has_pieces)
{
	uint64_t zone = arena.g.zone_pages;

	entry(0, pw0_make(PAGE_RAW, 3, 0, 0), pw1_extent(zone + 5, 0));
	entry(zone, pw0_make(PAGE_SPAN, 3, 0, 0), pw1_span(5, 0));
	high(0, (uint32_t)zone);
	high(1, 5);
	walk();
	ck_assert_uint_eq(count, 3);
	ck_assert_uint_eq(items[0].length, zone + 5);
	ck_assert_uint_eq(items[0].step, zone);
	ck_assert_uint_eq(items[1].kind, PAGE_SPAN);
	ck_assert_uint_eq(items[1].problem, WALK_FINE);
	ck_assert_uint_eq(items[1].length, 5);
	ck_assert_uint_eq(items[1].span_head, 0);
	ck_assert_uint_eq(items[2].page, zone + 5);
}
END_TEST

START_TEST(a_slab_leads_to_its_state_words)
{
	const uint32_t class = 7, shape = sizeclass_table[class].shape;
	uint64_t record_offset;
	struct walk_slab slab;
	struct walk_object object;

	commit_all();
	record_offset = make_record(100, shape) + shape_record_bytes(shape);
	make_slab(20, class, record_offset);
	high(0, 102);
	((struct slab_record *)(arena.heap + record_offset))->words[3] =
		state_make(OBJECT_TAKEN, 9, 77);
	walk();
	ck_assert(walk_slab(&arena, found(20), &slab));
	ck_assert_uint_eq(slab.objects, sizeclass_table[class].objects);
	ck_assert_uint_eq(walk_state(&slab, 3), state_make(OBJECT_TAKEN, 9, 77));
	ck_assert_uint_eq(walk_state(&slab, 2), 0);
	ck_assert_uint_eq(walk_object_offset(&slab, 3), (20 << PAGE_SHIFT) + 3 * slab.bytes);
	ck_assert(walk_object(&arena, walk_object_offset(&slab, 3), &object));
	ck_assert_uint_eq(object.state, state_make(OBJECT_TAKEN, 9, 77));
	ck_assert_uint_eq(object.page, 20);
	ck_assert(walk_object(&arena, walk_object_offset(&slab, slab.objects - 1), &object));
	ck_assert(!walk_object(&arena, walk_object_offset(&slab, 3) + 16, &object));
}
END_TEST

START_TEST(a_record_is_one_only_where_records_lie)
{
	const uint32_t shape = 2;
	struct walk_record record;
	uint64_t first;

	commit_all();
	first = make_record(50, shape);
	high(0, 51);
	ck_assert(walk_record(&arena, first, &record));
	ck_assert_uint_eq(record.shape, shape);
	ck_assert_uint_eq(record.block, 50);
	ck_assert(walk_record(&arena,
			      first + (shape_block_records(shape) - 1) * shape_record_bytes(shape),
			      &record));
	ck_assert(!walk_record(&arena, first + 64, &record));
	ck_assert(!walk_record(&arena, 50 << PAGE_SHIFT, &record));
	ck_assert(!walk_record(
		&arena, first + shape_block_records(shape) * shape_record_bytes(shape), &record));
	ck_assert(!walk_record(&arena, 51 << PAGE_SHIFT, &record));
	ck_assert(!walk_record(&arena, UINT64_MAX, &record));
}
END_TEST

START_TEST(a_record_on_the_second_page_of_a_block_is_found)
{
	const uint32_t shape = 16;
	struct walk_record record;
	uint64_t last;

	commit_all();
	last = make_record(60, shape) +
	       (shape_block_records(shape) - 1) * shape_record_bytes(shape);
	high(0, 62);
	ck_assert_uint_eq(last >> PAGE_SHIFT, 61);
	ck_assert(walk_record(&arena, last, &record));
	ck_assert_uint_eq(record.block, 60);
}
END_TEST

START_TEST(state_words_are_not_touched_where_no_memory_is)
{
	struct walk_record record;

	entry(50, pw0_make(PAGE_STATE, 0, 0, 2), pw1_extent(1, 0));
	high(0, 51);
	ck_assert(!walk_record(&arena, (50 << PAGE_SHIFT) + 64, &record));
}
END_TEST

START_TEST(a_piece_of_the_heap_is_copied_or_not_at_all)
{
	uint64_t got = 1, end = arena.g.capacity;

	ck_assert(walk_copy_heap(&arena, 4096, &got, 8)); /* a hole reads as zero */
	ck_assert_uint_eq(got, 0);
	commit_all();
	*(uint64_t *)(arena.heap + 4096) = 42;
	ck_assert(walk_copy_heap(&arena, 4096, &got, 8));
	ck_assert_uint_eq(got, 42);
	ck_assert(walk_copy_heap(&arena, end - 8, &got, 8));
	ck_assert(!walk_copy_heap(&arena, end - 7, &got, 8));
	ck_assert(!walk_copy_heap(&arena, UINT64_MAX - 3, &got, 8));
	ck_assert(!walk_copy(&arena, arena.g.file_size, &got, 8));
}
END_TEST

struct nonsense {
	const char *what;
	uint64_t w0, w1;
	enum walk_problem problem;
};

START_TEST(nonsense_is_handed_on_and_left_after_one_page)
{
	const struct nonsense cases[] = {
		{ "kind", PAGE_KINDS, 1, WALK_KIND },
		{ "kind 15", 15, 1, WALK_KIND },
		{ "no length", pw0_make(PAGE_RAW, 1, 0, 0), 0, WALK_LENGTH },
		{ "too long", pw0_make(PAGE_RAW, 1, 0, 0), UINT32_MAX, WALK_LENGTH },
		{ "slab's inside", pw0_make(PAGE_SLAB, 0, 0, 7), pw1_slab(1, 0, 7), WALK_HEAD },
		{ "class", pw0_make(PAGE_SLAB, 0, 0, 200), pw1_slab(0, 0, 72), WALK_CLASS },
		{ "two classes", pw0_make(PAGE_SLAB, 0, 0, 7), pw1_slab(0, 0, 8), WALK_CLASS },
		{ "record", pw0_make(PAGE_SLAB, 0, 0, 7), pw1_slab(0, CAPACITY << 3, 7),
		  WALK_RECORD },
		{ "shape", pw0_make(PAGE_STATE, 0, 0, SHAPES + 1), pw1_extent(1, 0), WALK_CLASS },
		{ "shape 0", pw0_make(PAGE_STATE, 0, 0, 0), pw1_extent(1, 0), WALK_CLASS },
		{ "block's length", pw0_make(PAGE_STATE, 0, 0, 3), pw1_extent(2, 0), WALK_LENGTH },
		{ "piece inside a zone", pw0_make(PAGE_SPAN, 0, 0, 0), pw1_span(3, 0), WALK_SPAN },
		{ "slab raw", pw0_make(PAGE_RAW, 1, 0, RAW_SLAB + KINDS), 1, WALK_LENGTH },
	};

	high(0, 64);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		entry(5, cases[i].w0, cases[i].w1);
		entry(6, pw0_make(PAGE_RAW, 2, 0, 0), pw1_extent(2, 0));
		walk();
		ck_assert_msg(found(5)->problem == cases[i].problem, "%s: %u", cases[i].what,
			      found(5)->problem);
		ck_assert_uint_eq(found(5)->step, 1);
		ck_assert_uint_eq(found(6)->length, 2);
	}
}
END_TEST

static int consume(void *context, const struct walk_item *item)
{
	uint64_t *pages = context;
	struct walk_slab slab;
	struct walk_object object;

	*pages += item->step;
	ck_assert_uint_le(item->page + item->step, 2 * arena.g.zone_pages);
	if (walk_slab(&arena, item, &slab))
		for (uint32_t i = 0; i < slab.objects; i++)
			*(volatile uint32_t *)&object.state = walk_state(&slab, i);
	walk_object(&arena, item->page << PAGE_SHIFT, &object);
	return 0;
}

/* Any bits at all: each page is told once, none outside, and nothing faults. */
START_TEST(random_page_maps_are_walked_page_by_page_to_their_end)
{
	srandom((unsigned)test_seed("random_page_maps_are_walked_page_by_page_to_their_end"));
	commit_all();
	for (int round = 0; round < 300; round++) {
		uint64_t pages = 0, all = 2 * arena.g.zone_pages;

		for (uint64_t p = 0; p < all; p++) {
			uint64_t w0 = (uint64_t)random() << 32 ^ (uint64_t)random();
			uint64_t w1 = (uint64_t)random() << 33 ^ (uint64_t)random();

			if (round % 3)
				w1 &= UINT64_C(0x80ffffc0000fff07);
			if (round % 2)
				w0 &= UINT64_C(0x0000000fffffff7f);
			entry(p, random() % 3 ? w0 : 0, w1);
		}
		high(0, (uint32_t)random());
		high(1, (uint32_t)random());
		walk_extents(&arena, consume, &pages);
		ck_assert_uint_eq(pages, all);
	}
}
END_TEST

static int stop_at_second(void *context, const struct walk_item *item)
{
	(void)item;
	return ++*(int *)context == 2 ? -5 : 0;
}

START_TEST(a_visitor_may_end_the_walk)
{
	int seen = 0;

	ck_assert_int_eq(walk_extents(&arena, stop_at_second, &seen), -5);
	ck_assert_int_eq(seen, 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("walk");
	TCase *t = tcase_create("walk");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, an_empty_arena_is_one_free_run_a_zone);
	tcase_add_test(t, extents_of_every_kind_are_told_with_what_their_entry_says);
	tcase_add_test(t, nothing_is_read_above_the_high_mark);
	tcase_add_test(t, pages_beyond_the_zones_in_use_do_not_exist);
	tcase_add_test(t, an_extent_over_several_zones_has_pieces);
	tcase_add_test(t, a_slab_leads_to_its_state_words);
	tcase_add_test(t, a_record_is_one_only_where_records_lie);
	tcase_add_test(t, a_record_on_the_second_page_of_a_block_is_found);
	tcase_add_test(t, state_words_are_not_touched_where_no_memory_is);
	tcase_add_test(t, a_piece_of_the_heap_is_copied_or_not_at_all);
	tcase_add_test(t, nonsense_is_handed_on_and_left_after_one_page);
	tcase_add_test(t, random_page_maps_are_walked_page_by_page_to_their_end);
	tcase_add_test(t, a_visitor_may_end_the_walk);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
