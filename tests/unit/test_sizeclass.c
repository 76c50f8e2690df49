/* SPDX-License-Identifier: Apache-2.0 */
/* Size classes: the table is computed anew, and every size and every offset is tried. */
#include "heap.h"
#include "sizeclass.h"

/* The rule that sizeclass.c states. */
static uint32_t slab_pages(uint32_t bytes)
{
	for (uint32_t pages = 1;; pages++) {
		uint64_t size = (uint64_t)pages << PAGE_SHIFT, objects = size / bytes;

		if (objects > SLAB_OBJECTS_MAX)
			objects = SLAB_OBJECTS_MAX;
		if (objects < SLAB_OBJECTS_MAX && (pages < 4 || objects < 4))
			continue;
		if ((size - objects * bytes) * 100 <= size * 3)
			return pages;
	}
}

START_TEST(each_slab_is_the_smallest_that_the_rule_allows)
{
	for (uint32_t i = 0; i < CLASSES; i++) {
		const struct sizeclass *c = &sizeclass_table[i];
		uint32_t fit = c->pages * PAGE_SIZE / c->bytes;
		bool many = c->bytes <= SIZECLASS_MANY_BYTES;

		ck_assert_uint_eq(c->pages, many ? slab_pages(c->bytes) : c->bytes / PAGE_SIZE);
		ck_assert_uint_eq(sizeclass_entries(i), many ? c->pages : 1);
		ck_assert_uint_eq(c->objects, fit < SLAB_OBJECTS_MAX ? fit : SLAB_OBJECTS_MAX);
		ck_assert_uint_eq(c->shape, (c->objects + 16u) / 16); /* one word to spare */
		ck_assert_uint_ge(c->shape, 1);
		ck_assert_uint_le(c->shape, SHAPES);
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

START_TEST(classes_go_in_sixteens_to_512_then_by_eights_of_a_doubling_then_by_halves)
{
	uint32_t i = 0;

	for (uint32_t bytes = 16; bytes <= 512; bytes += 16)
		ck_assert_uint_eq(sizeclass_table[i++].bytes, bytes);
	for (uint32_t base = 512; base < 262144; base *= 2)
		for (uint32_t k = 1; k <= 8; k++)
			ck_assert_uint_eq(sizeclass_table[i++].bytes, base + k * (base / 8));
	for (uint32_t base = 262144; base < SIZECLASS_MAX_BYTES; base *= 2)
		for (uint32_t k = 1; k <= 2; k++)
			ck_assert_uint_eq(sizeclass_table[i++].bytes, base + k * (base / 2));
	ck_assert_uint_eq(i, CLASSES);
}
END_TEST

START_TEST(every_size_gets_the_smallest_class_that_holds_it)
{
	for (uint32_t size = 1; size <= SIZECLASS_MAX_BYTES; size++) {
		uint32_t class = sizeclass_of(size), bytes;

		if (class == CLASSES) { /* none that wastes little enough */
			for (class = 0; sizeclass_table[class].bytes < size;)
				class++;
			bytes = sizeclass_table[class].bytes;
			ck_assert_uint_gt((bytes - size) * 8, bytes);
			ck_assert_uint_gt(size, 262144);
			continue;
		}
		ck_assert_uint_lt(class, CLASSES);
		bytes = sizeclass_table[class].bytes;
		ck_assert_uint_ge(bytes, size);
		ck_assert(class == 0 || sizeclass_table[class - 1].bytes < size);
		if (size > 128)
			ck_assert_uint_le((bytes - size) * 8, bytes); /* 12.5 % */
	}
}
END_TEST

START_TEST(every_offset_in_a_slab_is_told_its_object)
{
	uint32_t index;

	for (uint32_t i = 0; i < CLASSES; i++) {
		const struct sizeclass *c = &sizeclass_table[i];

		for (uint32_t offset = 0; offset < c->pages * PAGE_SIZE; offset += 16)
			if (sizeclass_index(i, offset / 16) != offset / c->bytes)
				ck_abort_msg("class %u, offset %u", i, offset);
		for (uint32_t offset = 0; offset < c->pages * PAGE_SIZE; offset += 16)
			if (sizeclass_start(sizeclass_row(i), offset / 16, &index) != (offset % c->bytes == 0))
				ck_abort_msg("class %u, start at %u", i, offset);
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
	tcase_add_test(t, what_is_no_kind_of_slab_has_no_objects);
	tcase_add_test(t, classes_go_in_sixteens_to_512_then_by_eights_of_a_doubling_then_by_halves);
	tcase_add_test(t, every_size_gets_the_smallest_class_that_holds_it);
	tcase_add_test(t, every_offset_in_a_slab_is_told_its_object);
	tcase_add_test(t, state_blocks_hold_whole_records);
	suite_add_tcase(s, t);
	return run_suite(s);
}
