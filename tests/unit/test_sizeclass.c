/* SPDX-License-Identifier: Apache-2.0 */
/* Size classes: the table is computed anew, and every size and every offset is tried. */
#include <inttypes.h>

#include "heap.h"
#include "sizeclass.h"

struct shape_of_slab {
	uint32_t pages, objects;
};

static uint32_t tail(struct shape_of_slab s, uint32_t bytes)
{
	return s.pages * PAGE_SIZE - s.objects * bytes;
}

static struct shape_of_slab slab_of(uint32_t pages, uint32_t bytes)
{
	uint32_t fit = pages * PAGE_SIZE / bytes;

	return (struct shape_of_slab){.pages = pages, .objects = fit < SLAB_OBJECTS_MAX ? fit : SLAB_OBJECTS_MAX};
}

/* The rules that sizeclass.c states. */
static struct shape_of_slab long_slab(uint32_t bytes)
{
	uint32_t step = bytes <= 4096 ? 4 : 1, least = bytes <= 4096 ? 2 : bytes <= 8192 ? 3 : 2;
	struct shape_of_slab best = {0, 0};

	if (bytes > SIZECLASS_MANY_BYTES)
		return (struct shape_of_slab){bytes / PAGE_SIZE, 1};
	if (bytes * SLAB_OBJECTS_MAX < 4 * PAGE_SIZE)
		return slab_of(bytes * SLAB_OBJECTS_MAX / PAGE_SIZE, bytes);
	for (uint32_t pages = step; pages <= 32; pages += step) {
		struct shape_of_slab s = slab_of(pages, bytes);

		if (s.objects < least)
			continue;
		if (tail(s, bytes) * (bytes <= 4096 ? 16 : 32) <= pages * PAGE_SIZE)
			return s;
		if (!best.pages || tail(s, bytes) * best.pages < tail(best, bytes) * pages)
			best = s;
	}
	return best;
}

/* Its pages are 0 if there is none. */
static struct shape_of_slab tall_slab(uint32_t bytes)
{
	if (bytes < 128 || bytes > 4096)
		return (struct shape_of_slab){0, 0};
	return slab_of(bytes < 256 ? 8 : 16, bytes);
}

/* Its pages are 0 if there is none. */
static struct shape_of_slab short_slab(uint32_t bytes, uint32_t below)
{
	for (uint32_t pages = 1; pages < below; pages++) {
		struct shape_of_slab s = slab_of(pages, bytes);

		if (s.objects && tail(s, bytes) * (bytes <= 1024 ? 8 : 4) <= pages * PAGE_SIZE)
			return s;
	}
	return (struct shape_of_slab){0, 0};
}

static void check_kind(uint32_t kind, struct shape_of_slab due)
{
	const struct sizeclass *c = &sizeclass_table[kind];

	ck_assert_uint_eq(c->pages, due.pages);
	ck_assert_uint_eq(c->objects, due.objects);
	ck_assert_uint_eq(sizeclass_entries(kind), due.objects > 1 ? due.pages : 1);
	ck_assert_uint_le(sizeclass_entries(kind), PW1_DIST_MASK + 1);
	ck_assert_uint_ge(c->shape, (c->objects + 16u) / 16); /* one word to spare */
	ck_assert_uint_ge(c->shape, 1);
	ck_assert_uint_le(c->shape, SHAPES);
}

START_TEST(each_slab_is_the_smallest_that_the_rule_allows)
{
	for (uint32_t i = 0; i < CLASSES; i++)
		check_kind(i, long_slab(sizeclass_table[i].bytes));
}
END_TEST

START_TEST(a_record_has_a_word_for_each_object_and_few_more)
{
	for (uint32_t i = 0; i < KINDS; i++) {
		const struct sizeclass *c = &sizeclass_table[i];

		ck_assert_uint_ge(c->shape * 16, c->objects + 1u);
		ck_assert_uint_le(c->shape * 16, c->objects + 64u);
	}
}
END_TEST

START_TEST(a_class_has_a_short_slab_where_the_rule_allows_one)
{
	for (uint32_t i = 0; i < CLASSES; i++) {
		uint32_t kind = sizeclass_short(i), bytes = sizeclass_table[i].bytes;
		struct shape_of_slab due = short_slab(bytes, sizeclass_table[i].pages);

		ck_assert_uint_eq(sizeclass_of_kind(i), i);
		ck_assert_uint_eq(sizeclass_of_kind(kind), i);
		ck_assert_uint_eq(sizeclass_table[kind].bytes, bytes);
		if (bytes > SIZECLASS_MANY_BYTES)
			ck_assert_uint_eq(kind, i);
		else if (due.pages)
			check_kind(kind, due);
		else
			ck_assert_uint_eq(kind, i);
	}
}
END_TEST

START_TEST(a_class_has_a_tall_slab_where_the_rule_says_so)
{
	for (uint32_t i = 0; i < CLASSES; i++) {
		uint32_t kind = sizeclass_tall(i), bytes = sizeclass_table[i].bytes;
		struct shape_of_slab due = tall_slab(bytes);

		ck_assert_uint_eq(sizeclass_of_kind(kind), i);
		ck_assert_uint_eq(sizeclass_table[kind].bytes, bytes);
		if (due.pages)
			check_kind(kind, due);
		else
			ck_assert_uint_eq(kind, i);
		ck_assert(!due.pages || sizeclass_table[kind].pages > sizeclass_table[i].pages);
	}
}
END_TEST

/* The fast paths go from the row to the cache. */
START_TEST(every_kinds_row_leads_to_its_classes_cache)
{
	for (uint32_t kind = 0; kind < KINDS; kind++) {
		uint32_t class = sizeclass_of_kind(kind);

		ck_assert_uint_lt(class, CLASSES);
		ck_assert_uint_eq(sizeclass_rows[sizeclass_row(kind)].cache, class * sizeof(struct cache));
		ck_assert_uint_eq(sizeclass_of_row(sizeclass_row(kind)), class);
	}
}
END_TEST

START_TEST(what_is_no_kind_of_slab_has_no_objects)
{
	uint32_t index;

	for (uint32_t i = KINDS; i < 1u << PW1_CLASS_BITS; i++) {
		ck_assert_uint_eq(sizeclass_table[i].objects, 0);
		ck_assert_uint_eq(sizeclass_table[i].pages, 0);
		ck_assert(!sizeclass_start(sizeclass_row(i), 0, &index));
	}
	for (uint32_t row = 0; row < sizeclass_row(0); row++)
		ck_assert(!sizeclass_start(row, 0, &index));
}
END_TEST

/* What an arena's view has for fast paths says of every offset that a page map entry can tell of what the tables say. */
START_TEST(a_views_tables_say_what_the_tables_say)
{
	static struct sizeclass_tables t;

	sizeclass_copy(&t);
	ck_assert_mem_eq(t.caches_by_size, sizeclass_caches_by_size, sizeof(t.caches_by_size));
	for (uint32_t row = 0; row < SIZECLASS_ROWS; row++) {
		ck_assert_uint_eq(t.caches[row], sizeclass_rows[row].cache);
		for (uint64_t offset16 = 0; offset16 < (PW1_DIST_MASK + 1) << (PAGE_SHIFT - 4); offset16++) {
			uint32_t index = 0;
			uint64_t index8 = 0;
			bool starts = sizeclass_start(row, offset16, &index);

			if (sizeclass_begins8(offset16 * 2, t.reciprocals[row], &index8) != starts || index8 != index)
				ck_abort_msg("row %u, offset %" PRIu64 ": %u, %" PRIu64, row, offset16, index, index8);
		}
	}
}
END_TEST

/* Those of a doubling from 4 to 32 KiB are not evenly spaced. */
static bool is_uneven(uint32_t base)
{
	return base >= 4096 && base < SIZECLASS_MANY_BYTES;
}

START_TEST(classes_go_in_sixteens_to_512_then_by_eights_of_a_doubling_then_by_halves)
{
	uint32_t i = 0;

	for (uint32_t bytes = 16; bytes <= 512; bytes += 16)
		ck_assert_uint_eq(sizeclass_table[i++].bytes, bytes);
	for (uint32_t base = 512; base < 262144; base *= 2)
		for (uint32_t k = 1; k <= 8; k++, i++)
			if (!is_uneven(base))
				ck_assert_uint_eq(sizeclass_table[i].bytes, base + k * (base / 8));
	for (uint32_t base = 262144; base < SIZECLASS_MAX_BYTES; base *= 2)
		for (uint32_t k = 1; k <= 2; k++)
			ck_assert_uint_eq(sizeclass_table[i++].bytes, base + k * (base / 2));
	ck_assert_uint_eq(i, CLASSES);
}
END_TEST

/* What an object takes of its slab, its part of the tail with it, is less than with even steps. */
START_TEST(uneven_classes_fill_their_slabs)
{
	for (uint32_t i = 0; i < CLASSES; i++) {
		const struct sizeclass *c = &sizeclass_table[i];

		if (!is_uneven(c->bytes - 1))
			continue;
		ck_assert_uint_eq(c->bytes % 64, 0);
		ck_assert_uint_le((c->pages * PAGE_SIZE - c->objects * c->bytes) * 32, c->pages * PAGE_SIZE);
	}
	for (uint32_t bytes = 8192; bytes <= SIZECLASS_MANY_BYTES; bytes *= 2)
		ck_assert_uint_eq(sizeclass_table[sizeclass_of(bytes)].bytes, bytes);
}
END_TEST

/* Of a size that no class serves: the smallest that holds it would waste too much, and is a large one. */
static bool is_served_by_none(uint32_t size)
{
	uint32_t class = 0, bytes;

	while (sizeclass_table[class].bytes < size)
		class++;
	bytes = sizeclass_table[class].bytes;
	return (bytes - size) * 8 > bytes && size > 262144;
}

static bool is_right_class(uint32_t size, uint32_t class)
{
	uint32_t bytes;

	if (class >= CLASSES)
		return class == CLASSES && is_served_by_none(size);
	bytes = sizeclass_table[class].bytes;
	return bytes >= size && (class == 0 || sizeclass_table[class - 1].bytes < size) &&
	       (size <= 128 || (bytes - size) * 8 <= bytes); /* 12.5 % */
}

/* An assertion each would take seconds. */
START_TEST(every_size_gets_the_smallest_class_that_holds_it)
{
	for (uint32_t size = 1; size <= SIZECLASS_MAX_BYTES; size++)
		if (!is_right_class(size, sizeclass_of(size)))
			ck_abort_msg("%u bytes are of class %u", size, sizeclass_of(size));
}
END_TEST

START_TEST(every_offset_in_a_slab_is_told_its_object)
{
	uint32_t index;

	for (uint32_t i = 0; i < KINDS; i++) {
		const struct sizeclass *c = &sizeclass_table[i];

		for (uint32_t offset = 0; offset < c->pages * PAGE_SIZE; offset += 16)
			if (sizeclass_index(i, offset / 16) != offset / c->bytes)
				ck_abort_msg("kind %u, offset %u", i, offset);
		for (uint32_t offset = 0; offset < c->pages * PAGE_SIZE; offset += 16)
			if (sizeclass_start(sizeclass_row(i), offset / 16, &index) != (offset % c->bytes == 0))
				ck_abort_msg("kind %u, start at %u", i, offset);
	}
}
END_TEST

START_TEST(state_blocks_hold_whole_records)
{
	for (uint32_t shape = 1; shape <= SHAPES; shape++) {
		uint32_t bytes = shape_block_pages(shape) * PAGE_SIZE, n = shape_block_records(shape);

		ck_assert_uint_ge(n, 3);
		ck_assert_uint_le(64 + n * shape_record_bytes(shape), bytes);
		ck_assert_uint_gt(64 + (n + 1) * shape_record_bytes(shape), bytes);
		ck_assert_uint_eq(shape_record_bytes(shape),
				  sizeof(struct slab_record) + 16 * shape * sizeof(uint32_t));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sizeclass");
	TCase *t = tcase_create("table");

	tcase_add_test(t, each_slab_is_the_smallest_that_the_rule_allows);
	tcase_add_test(t, a_class_has_a_short_slab_where_the_rule_allows_one);
	tcase_add_test(t, a_class_has_a_tall_slab_where_the_rule_says_so);
	tcase_add_test(t, a_record_has_a_word_for_each_object_and_few_more);
	tcase_add_test(t, uneven_classes_fill_their_slabs);
	tcase_add_test(t, every_kinds_row_leads_to_its_classes_cache);
	tcase_add_test(t, a_views_tables_say_what_the_tables_say);
	tcase_add_test(t, what_is_no_kind_of_slab_has_no_objects);
	tcase_add_test(t, classes_go_in_sixteens_to_512_then_by_eights_of_a_doubling_then_by_halves);
	tcase_add_test(t, every_size_gets_the_smallest_class_that_holds_it);
	tcase_add_test(t, every_offset_in_a_slab_is_told_its_object);
	tcase_add_test(t, state_blocks_hold_whole_records);
	suite_add_tcase(s, t);
	return run_suite(s);
}
