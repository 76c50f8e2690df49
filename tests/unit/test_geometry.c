/* SPDX-License-Identifier: Apache-2.0 */
/* Geometry: where the parts of an arena lie, for every size that one may have. */
#include "heap.h"

static uint64_t some_capacity(void)
{
	uint64_t bits = heap_below(21); /* 16 MiB to 16 TiB */
	uint64_t c = CAPACITY_MIN << bits;

	c += heap_random() % c;
	return c > CAPACITY_MAX ? CAPACITY_MAX : c;
}

/* The parts in their order: each begins where the one before has ended, on a page. */
static void check_parts(const struct arena_geometry *g)
{
	uint64_t pages = geometry_heap_pages(g);
	const struct {
		uint64_t at, size;
	} parts[] = {
		{0, sizeof(struct arena_header)},
		{g->client_words, CLIENTS_MAX * 8},
		{g->thread_words, THREADS_MAX * 8},
		{g->name_words, NAMES_MAX * 8},
		{g->zones, g->zone_count * sizeof(struct zone)},
		{g->class_hints, HINT_ROWS * 8 * g->class_hint_words},
		{g->name_entries, NAMES_MAX * sizeof(struct name_entry)},
		{g->zone_indexes, g->zone_count * g->zone_index_size},
		{g->page_map, pages * sizeof(struct page_entry)},
		{g->client_areas, CLIENTS_MAX * g->client_area_size},
		{g->ring, g->ring_size},
		{g->heap, g->capacity},
	};

	for (size_t i = 0; i < LENGTH(parts); i++) {
		ck_assert_uint_eq(parts[i].at % PAGE_SIZE, 0);
		if (i)
			ck_assert_uint_ge(parts[i].at, parts[i - 1].at + parts[i - 1].size);
	}
	ck_assert_uint_eq(g->heap % MIB(2), 0);
	ck_assert_uint_eq(g->file_size, g->heap + g->capacity);
}

static void check_zones(const struct arena_geometry *g)
{
	uint64_t sum = 0;

	ck_assert_uint_eq(g->zone_pages & (g->zone_pages - 1), 0);
	ck_assert_uint_ge(g->zone_pages, 512); /* the largest alignment fits into one */
	ck_assert_uint_le(g->zone_pages, ZONE_PAGES_MAX);
	ck_assert_uint_ge(g->zone_count, ZONES_MIN);
	ck_assert_uint_ge(g->class_hint_words * 64, g->zone_count);
	for (uint64_t z = 0; z < g->zone_count; z++) {
		uint64_t span = geometry_zone_span(g, z);

		if (span < REGION_PAGES || span % REGION_PAGES)
			ck_abort_msg("zone %llu has %llu pages", (unsigned long long)z,
				     (unsigned long long)span);
		sum += span;
	}
	ck_assert_uint_eq(sum, geometry_heap_pages(g));
}

static void check_index(const struct arena_geometry *g)
{
	uint64_t regions = g->zone_pages / REGION_PAGES, at = 0;

	for (uint32_t k = 0; k < ZONE_ORDERS; k++) {
		ck_assert_uint_eq(geometry_free_bits(g, k), at);
		ck_assert_uint_ge(geometry_order_words(g, k) * 64, g->zone_pages >> k);
		at += 8 * geometry_order_words(g, k);
	}
	for (uint32_t k = 0; k < ZONE_ORDERS; k++) {
		ck_assert_uint_eq(geometry_free_summary(g, k), at);
		at += 8 * geometry_words(geometry_order_words(g, k));
	}
	ck_assert_uint_eq(geometry_idle_bits(g), at);
	at += g->zone_pages / 8;
	ck_assert_uint_eq(geometry_commit_bits(g), at);
	at += 8 * geometry_words(regions);
	ck_assert_uint_eq(geometry_purged_bits(g), at);
	at += g->zone_pages / 8;
	for (uint32_t row = 0; row < HINT_ROWS; row++) {
		ck_assert_uint_eq(geometry_hint_bits(g, row), at);
		at += 8 * geometry_words(regions);
	}
	ck_assert_uint_le(geometry_words(regions), 64); /* one summary word */
	for (uint32_t row = 0; row < HINT_ROWS; row++) {
		ck_assert_uint_eq(geometry_hint_summary(g, row), at);
		at += 8;
	}
	ck_assert_uint_le(at, g->zone_index_size);
}

static void check_marks(const struct arena_geometry *g)
{
	ck_assert_uint_ge(geometry_mark_summary(), sizeof(struct client_record));
	ck_assert_uint_ge(geometry_mark_lines(g) * 512, geometry_regions(g));
	ck_assert_uint_eq(geometry_mark_leaf(g) % 64, 0);
	ck_assert_uint_ge(geometry_mark_leaf(g),
			  geometry_mark_summary() + (geometry_mark_lines(g) + 7) / 8);
	ck_assert_uint_le(geometry_mark_leaf(g) + 64 * geometry_mark_lines(g), g->client_area_size);
}

static void check_all(uint64_t capacity, uint64_t ring)
{
	struct arena_geometry g, again;

	ck_assert_int_eq(geometry_compute(&g, capacity, ring), 0);
	ck_assert_uint_ge(g.capacity, capacity);
	ck_assert_uint_lt(g.capacity - capacity, 1u << REGION_SHIFT);
	ck_assert_uint_ge(g.ring_size, ring);
	check_parts(&g);
	check_zones(&g);
	check_index(&g);
	check_marks(&g);
	/* What a file says of itself is accepted just if it is what its two sizes give. */
	ck_assert_int_eq(geometry_compute(&again, g.capacity, g.ring_size), 0);
	ck_assert_mem_eq(&again, &g, sizeof(g));
}

START_TEST(parts_of_any_arena_follow_one_another)
{
	heap_seed("parts_of_any_arena_follow_one_another");
	for (int i = 0; i < 100; i++)
		check_all(some_capacity(), heap_below(MIB(64)));
}
END_TEST

START_TEST(smallest_and_largest_are_arenas)
{
	check_all(CAPACITY_MIN, 0);
	check_all(CAPACITY_MIN + 1, 1);
	check_all(CAPACITY_MAX, MIB(4));
	check_all(CAPACITY_MAX - 1, MIB(4));
}
END_TEST

START_TEST(other_sizes_are_refused)
{
	struct arena_geometry g;

	ck_assert_int_eq(geometry_compute(&g, 0, 0), -EINVAL);
	ck_assert_int_eq(geometry_compute(&g, CAPACITY_MIN - 1, 0), -EINVAL);
	ck_assert_int_eq(geometry_compute(&g, CAPACITY_MAX + 1, 0), -EINVAL);
	ck_assert_int_eq(geometry_compute(&g, UINT64_MAX, 0), -EINVAL);
	ck_assert_int_eq(geometry_compute(&g, CAPACITY_MIN, UINT64_MAX), -EINVAL);
}
END_TEST

START_TEST(handles_reach_every_byte_of_the_largest)
{
	uint64_t last = CAPACITY_MAX - 16;

	ck_assert_uint_eq(handle_offset(handle_make(255, 0xffff, last)), last);
	ck_assert_uint_eq(handle_gen(handle_make(255, 0x1234, last)), 0x1234);
	ck_assert_uint_eq(handle_tag(handle_make(255, 0xffff, last)), 255);
}
END_TEST

/* The most that each field of an entry has to hold comes back from it. */
START_TEST(words_hold_the_largest_arena)
{
	uint64_t pages = CAPACITY_MAX >> PAGE_SHIFT, w;

	w = pw1_extent(pages, ZONE_PAGES_MAX);
	ck_assert_uint_eq(pw1_length(w), pages);
	ck_assert_uint_eq(pw1_next(w), ZONE_PAGES_MAX);
	ck_assert(!pw1_is_slab(w));
	w = pw1_span(ZONE_PAGES_MAX, pages - 1);
	ck_assert_uint_eq(pw1_span_length(w), ZONE_PAGES_MAX);
	ck_assert_uint_eq(pw1_span_head(w), pages - 1);
	ck_assert(!pw1_is_slab(w));
	w = pw1_slab(31, CAPACITY_MAX - 64, KINDS - 1);
	ck_assert_uint_eq(pw1_dist(w), 31);
	ck_assert_uint_eq(pw1_record(w), CAPACITY_MAX - 64);
	ck_assert_uint_eq(pw1_class(w), KINDS - 1);
	ck_assert(pw1_is_slab(w));
	w = pw0_make(PAGE_RAW, CLIENTS_MAX - 1, 0xffff, RAW_SLAB + KINDS - 1);
	ck_assert_uint_eq(pw0_kind(w), PAGE_RAW);
	ck_assert_uint_eq(pw0_client(w), CLIENTS_MAX - 1);
	ck_assert_uint_eq(pw0_gen(w), 0xffff);
	ck_assert_uint_eq(pw0_class(w), RAW_SLAB + KINDS - 1);
	w = thread_word(THREAD_LIVE, CLIENTS_MAX - 1, pages - 1);
	ck_assert_uint_eq(thread_word_page(w), pages - 1);
	ck_assert_uint_eq(thread_word_client(w), CLIENTS_MAX - 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("geometry");
	TCase *t = tcase_create("geometry");

	tcase_add_test(t, parts_of_any_arena_follow_one_another);
	tcase_add_test(t, smallest_and_largest_are_arenas);
	tcase_add_test(t, other_sizes_are_refused);
	tcase_add_test(t, handles_reach_every_byte_of_the_largest);
	tcase_add_test(t, words_hold_the_largest_arena);
	suite_add_tcase(s, t);
	return run_suite(s);
}
