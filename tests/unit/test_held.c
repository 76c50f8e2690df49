/* SPDX-License-Identifier: Apache-2.0 */
/* What a client holds by size, and the last that it logged: as the report of its death tells it. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "held.h"
#include "object.h"
#include "ring.h"
#include "shmalloc.h"
#include "stats.h"
#include "thread.h"

#include "../seed.h"

#define CAPACITY (UINT64_C(64) << 20)
#define LOG	 (UINT64_C(64) << 10) /* 16 blocks of 4 KiB */
#define LAST	 50u
#define TEXT	 32u

static struct arena a;
static struct held h;
static struct ring_entry entries[LAST];
static char texts[LAST][TEXT];

static void setup(void)
{
	struct arena_config config = { .name = "held",
				       .capacity = CAPACITY,
				       .log_capacity = LOG,
				       .backing = BACKING_MEMFD };
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&a, files, false), 0);
	ck_assert_int_eq(thread_attach_arena(&a), 0);
	for (uint32_t i = 0; i < LAST; i++)
		entries[i].data = texts[i];
}

static void teardown(void)
{
	thread_detach_arena(&a);
	arena_unmap(&a);
}

static uint64_t alloc(uint64_t size, enum object_kind kind)
{
	struct object_want want = { .size = size, .kind = kind };
	int err = 0;
	uint64_t handle = object_alloc(&a, &want, &err);

	ck_assert_uint_ne(handle, 0);
	return handle;
}

static void look(void)
{
	arena_refresh(&a);
	held_count(&a, a.client, UINT64_MAX, &h);
}

START_TEST(objects_are_counted_by_size_and_by_whether_they_are_shared)
{
	const struct held_size *size = &h.sizes[sizeclass_of(200)];

	for (int i = 0; i < 700; i++)
		alloc(200, i % 7 ? OBJECT_PRIVATE : OBJECT_SHARED);
	alloc(3 << 20, OBJECT_PRIVATE);
	alloc(200, OBJECT_PERSISTENT); /* the arena's */
	look();
	ck_assert(h.whole);
	ck_assert_uint_eq(h.threads, 1);
	ck_assert_uint_eq(size->shared_objects, 100);
	ck_assert_uint_eq(size->private_objects - size->cached_objects, 600);
	ck_assert_uint_eq(h.large.private_objects, 1);
	ck_assert_uint_eq(h.large_bytes, 3 << 20);
}
END_TEST

START_TEST(what_is_held_is_what_the_statistics_say)
{
	uint64_t seed = test_seed(NULL), random = seed, bytes = 0, objects = 0;
	struct stats_detail *d = calloc(1, sizeof(*d));
	struct shma_stats st;

	ck_assert_ptr_nonnull(d);
	for (int i = 0; i < 3000; i++) {
		random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
		alloc(1 + (random >> 40) % 9000, OBJECT_PRIVATE);
	}
	stats_arena_detail(&a, &st, d);
	look();
	for (uint32_t i = 0; i < CLASSES; i++) {
		uint64_t n = h.sizes[i].private_objects + h.sizes[i].shared_objects;

		objects += n;
		bytes += n * sizeclass_table[i].bytes;
	}
	ck_assert_uint_eq(objects, d->clients[a.client].owned_objects);
	ck_assert_uint_eq(bytes, d->clients[a.client].owned_bytes);
	free(d);
}
END_TEST

START_TEST(only_so_many_regions_are_looked_at)
{
	for (int i = 0; i < 4000; i++)
		alloc(1000, OBJECT_PRIVATE);
	held_count(&a, a.client, 3, &h);
	ck_assert(!h.whole);
	ck_assert_uint_eq(h.regions, 3);
	look();
	ck_assert(h.whole);
	ck_assert_uint_gt(h.regions, 3);
}
END_TEST

START_TEST(a_client_that_is_none_holds_nothing)
{
	alloc(100, OBJECT_PRIVATE);
	held_count(&a, a.client + 1, UINT64_MAX, &h);
	ck_assert_uint_eq(h.regions, 0);
	ck_assert_uint_eq(h.threads, 0);
}
END_TEST

static void say(uint32_t number)
{
	char text[TEXT];
	int err = 0, n = snprintf(text, sizeof(text), "record %u", number);
	struct thread_block *tb = thread_self(&a, &err);

	ck_assert_ptr_nonnull(tb);
	ck_assert_int_eq(ring_append(&a, tb, 6, text, (size_t)n), 0);
}

static int last(void)
{
	return ring_last(&a, a.client, getpid(), entries, LAST, TEXT);
}

START_TEST(the_last_records_come_in_order_of_time)
{
	char text[TEXT];

	/* Several blocks, and the ring once round. */
	for (uint32_t i = 1; i <= 3000; i++)
		say(i);
	ck_assert_int_eq(last(), LAST);
	for (uint32_t i = 0; i < LAST; i++) {
		snprintf(text, sizeof(text), "record %u", 3000 - LAST + 1 + i);
		ck_assert_uint_eq(entries[i].len, strlen(text));
		ck_assert_mem_eq(entries[i].data, text, strlen(text));
	}
}
END_TEST

START_TEST(fewer_records_than_asked_for_are_all_there)
{
	ck_assert_int_eq(last(), 0);
	for (uint32_t i = 1; i <= 7; i++)
		say(i);
	ck_assert_int_eq(last(), 7);
	ck_assert_mem_eq(entries[0].data, "record 1", 8);
}
END_TEST

START_TEST(another_process_with_the_same_number_is_another)
{
	say(1);
	ck_assert_int_eq(ring_last(&a, a.client, getpid() + 1, entries, LAST, TEXT), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("held");
	TCase *tc = tcase_create("held");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, objects_are_counted_by_size_and_by_whether_they_are_shared);
	tcase_add_test(tc, what_is_held_is_what_the_statistics_say);
	tcase_add_test(tc, only_so_many_regions_are_looked_at);
	tcase_add_test(tc, a_client_that_is_none_holds_nothing);
	tcase_add_test(tc, the_last_records_come_in_order_of_time);
	tcase_add_test(tc, fewer_records_than_asked_for_are_all_there);
	tcase_add_test(tc, another_process_with_the_same_number_is_another);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
