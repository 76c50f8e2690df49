/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics: exact, whatever was done before, when no call is in progress. */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "audit.h"
#include "client.h"
#include "names.h"
#include "object.h"
#include "recovery.h"
#include "shmalloc.h"
#include "stats.h"
#include "thread.h"

#include "../seed.h"

#define CAPACITY (UINT64_C(64) << 20)
#define LIVE	 600

static struct arena a;
static struct shma_stats st;
static struct stats_detail *d;
static struct stats_zone zones[64];

/* Not Check's: its asserts write to a file that a forked child would write to at the same time. */
static void must(bool condition)
{
	if (!condition)
		abort();
}

static void setup(void)
{
	struct arena_config config = { .name = "stats",
				       .capacity = CAPACITY,
				       .backing = BACKING_MEMFD };
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&a, files, false), 0);
	ck_assert_int_eq(thread_attach_arena(&a), 0);
	d = calloc(1, sizeof(*d));
	ck_assert_ptr_nonnull(d);
}

static void teardown(void)
{
	free(d);
	thread_detach_arena(&a);
	arena_unmap(&a);
}

static void look(void)
{
	d->zones = zones;
	d->zones_len = a.g.zone_count < 64 ? a.g.zone_count : 64;
	stats_arena_detail(&a, &st, d);
}

static uint64_t alloc_kind(uint64_t size, enum object_kind kind)
{
	struct object_want want = { .size = size, .kind = kind };
	int err = 0;
	uint64_t handle = object_alloc(&a, &want, &err);

	must(handle != 0);
	return handle;
}

static uint64_t alloc(uint64_t size)
{
	return alloc_kind(size, OBJECT_PRIVATE);
}

static uint64_t usable(uint64_t handle)
{
	int err = 0;

	return object_size(&a, handle, &err);
}

START_TEST(an_empty_arena_has_nothing)
{
	look();
	ck_assert_uint_eq(st.capacity_bytes, CAPACITY);
	ck_assert_uint_eq(st.live_bytes, 0);
	ck_assert_uint_eq(st.live_objects, 0);
	ck_assert_uint_eq(st.cached_bytes, 0);
	ck_assert_uint_eq(st.committed_bytes, 0);
	ck_assert_uint_eq(st.clients, 0);
	ck_assert_uint_gt(st.log_capacity_bytes, 0);
}
END_TEST

START_TEST(one_object_counts_with_its_usable_bytes)
{
	uint64_t handle = alloc(100);

	look();
	ck_assert_uint_eq(st.live_objects, 1);
	ck_assert_uint_eq(st.live_bytes, usable(handle));
	ck_assert_uint_gt(st.cached_objects, 0);
	ck_assert_uint_eq(st.clients, 1);
	ck_assert_uint_eq(st.threads, 1);
	ck_assert_uint_eq(object_free(&a, handle), 0);
	look();
	ck_assert_uint_eq(st.live_objects, 0);
	ck_assert_uint_eq(st.live_bytes, 0);
}
END_TEST

START_TEST(a_large_object_counts_in_whole_pages)
{
	uint64_t handle = alloc(300001);

	look();
	ck_assert_uint_eq(st.live_objects, 1);
	ck_assert_uint_eq(st.live_bytes, 74 * 4096);
	ck_assert_uint_eq(st.live_bytes, usable(handle));
	ck_assert_uint_eq(d->clients[a.client].owned_bytes, 74 * 4096);
	ck_assert_uint_ge(st.committed_bytes, 74 * 4096);
	ck_assert_uint_eq(st.committed_bytes % (1u << REGION_SHIFT), 0);
}
END_TEST

START_TEST(a_large_object_of_a_class_counts_with_what_its_class_gives)
{
	uint64_t handle = alloc(100001);

	look();
	ck_assert_uint_eq(st.live_objects, 1);
	ck_assert_uint_eq(st.live_bytes, 26 * 4096);
	ck_assert_uint_eq(st.live_bytes, usable(handle));
	ck_assert_uint_ge(st.slab_bytes, 26 * 4096);
	ck_assert_uint_eq(object_free(&a, handle), 0);
	look();
	ck_assert_uint_eq(st.live_bytes, 0);
	ck_assert_uint_eq(st.cached_bytes, 26 * 4096);
}
END_TEST

START_TEST(what_is_the_arenas_is_no_clients)
{
	uint64_t persistent = alloc_kind(64, OBJECT_PERSISTENT), published = alloc(5000);

	ck_assert_int_eq(names_publish(&a, "root", published), 0);
	look();
	ck_assert_uint_eq(st.persistent_objects, 2);
	ck_assert_uint_eq(st.names, 1);
	ck_assert_uint_eq(st.live_objects, 2);
	ck_assert_uint_eq(d->clients[0].owned_bytes, usable(persistent) + usable(published));
	ck_assert_uint_eq(d->clients[a.client].owned_objects, d->clients[a.client].cached_objects);
}
END_TEST

static uint64_t live[LIVE];

static uint64_t random_size(void)
{
	return random() % 20 ? 1 + (uint64_t)random() % 3000 : 1 + (uint64_t)random() % 200000;
}

static void churn(uint32_t steps)
{
	for (uint32_t step = 0; step < steps; step++) {
		uint32_t i = (uint32_t)random() % LIVE;

		if (live[i]) {
			must(object_free(&a, live[i]) == 0);
			live[i] = 0;
		} else {
			live[i] = alloc(random_size());
			if (random() % 3 == 0)
				must(object_share(&a, live[i]) == 0);
			if (random() % 9 == 0)
				object_take(&a, live[i]); /* -EPERM: not offered */
		}
	}
}

static void expect_exact(void)
{
	uint64_t bytes = 0, objects = 0;

	for (uint32_t i = 0; i < LIVE; i++) {
		objects += live[i] != 0;
		bytes += live[i] ? usable(live[i]) : 0;
	}
	look();
	ck_assert_uint_eq(st.live_objects, objects);
	ck_assert_uint_eq(st.live_bytes, bytes);
}

/* Every detail adds up to its sum. */
static void expect_sums(void)
{
	uint64_t slabs = 0, owned = 0, cached = 0, pages = 0, free_pages = 0, committed = 0;

	for (uint32_t i = 0; i < CLASSES; i++) {
		ck_assert_uint_eq(d->classes[i].owned + d->classes[i].free, d->classes[i].capacity);
		slabs += d->classes[i].slabs;
		cached += d->classes[i].cached;
	}
	ck_assert_uint_eq(slabs, st.slabs);
	ck_assert_uint_eq(cached, st.cached_objects);
	for (uint32_t i = 0; i < CLIENTS_MAX; i++)
		owned += d->clients[i].owned_bytes;
	ck_assert_uint_eq(owned, st.live_bytes + st.cached_bytes);
	for (uint64_t i = 0; i < d->zones_len; i++) {
		ck_assert_uint_le(zones[i].largest_free, zones[i].free_pages);
		pages += zones[i].pages;
		free_pages += zones[i].active ? zones[i].free_pages : 0;
		committed += zones[i].committed_pages;
	}
	ck_assert_uint_eq(pages << PAGE_SHIFT, st.capacity_bytes);
	ck_assert_uint_eq(committed << PAGE_SHIFT, st.committed_bytes);
	ck_assert_uint_eq(free_pages, d->pages_by_kind[PAGE_FREE]);
	ck_assert_uint_eq(d->pages_by_kind[PAGE_SLAB] << PAGE_SHIFT, st.slab_bytes);
	ck_assert_uint_eq(d->pages_by_kind[PAGE_STATE] << PAGE_SHIFT, st.state_bytes);
	ck_assert_uint_eq(d->problems, 0);
}

static void note(void *context, const struct audit_finding *f)
{
	(void)context;
	printf("  %s: %s\n", audit_key(f->what), f->text);
}

static void seed_random(const char *test)
{
	srandom((unsigned)test_seed(test));
}

START_TEST(random_work_is_counted_exactly_and_leaves_the_arena_whole)
{
	seed_random("random_work_is_counted_exactly_and_leaves_the_arena_whole");
	for (int round = 0; round < 30; round++) {
		churn(1000);
		expect_exact();
		expect_sums();
		ck_assert_int_eq(audit_arena(&a, false, note, NULL), 0);
	}
}
END_TEST

static void *churn_and_end(void *arg)
{
	uint64_t mine[200];

	(void)arg;
	for (int round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < 200; i++)
			mine[i] = alloc(1 + i * 7);
		for (uint32_t i = 0; i < 200; i++)
			ck_assert_int_eq(object_free(&a, mine[i]), 0);
	}
	return NULL;
}

START_TEST(a_thread_that_has_ended_holds_nothing)
{
	pthread_t thread;
	uint64_t handle = alloc(128), cached;

	look();
	cached = st.cached_bytes;
	ck_assert_int_eq(pthread_create(&thread, NULL, churn_and_end, NULL), 0);
	pthread_join(thread, NULL);
	look();
	ck_assert_uint_eq(st.threads, 1);
	ck_assert_uint_eq(st.cached_bytes, cached);
	ck_assert_uint_eq(st.live_bytes, usable(handle));
	ck_assert_int_eq(audit_arena(&a, false, note, NULL), 0);
}
END_TEST

static void child(void)
{
	memset(live, 0, sizeof(live));
	churn(2000);
	alloc_kind(777, OBJECT_PERSISTENT);
	kill(getpid(), SIGKILL);
}

START_TEST(a_killed_process_leaves_what_it_made_persistent)
{
	uint64_t handle = alloc(128);
	int status;
	pid_t pid;

	seed_random("a_killed_process_leaves_what_it_made_persistent");
	for (int round = 0; round < 5; round++) {
		pid = fork();
		if (!pid)
			child();
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		look();
		ck_assert_uint_eq(st.clients, 2);
		ck_assert_uint_gt(st.live_objects, 2u + (unsigned)round);
		ck_assert_int_eq(audit_arena(&a, false, note, NULL), 0);
		ck_assert_uint_eq(recovery_reap_all(&a), 1);
		look();
		ck_assert_uint_eq(st.clients, 1);
		ck_assert_uint_eq(st.live_objects, 2u + (unsigned)round);
		ck_assert_uint_eq(st.live_bytes, usable(handle) + (1u + (unsigned)round) * 832);
		ck_assert_int_eq(audit_arena(&a, false, note, NULL), 0);
	}
}
END_TEST

static uint32_t truths;

static void note_truth(void *context, const struct audit_finding *f)
{
	if (f->severity == AUDIT_TRUTH) {
		truths++;
		note(context, f);
	}
}

static void child_at_work(void)
{
	srandom((unsigned)getpid());
	memset(live, 0, sizeof(live));
	for (;;)
		churn(1000);
}

/* Killed anywhere: no truth is damaged, and after recovery no index is stale. */
START_TEST(a_death_at_any_time_damages_nothing_and_recovery_leaves_nothing_stale)
{
	int status;

	seed_random("a_death_at_any_time_damages_nothing_and_recovery_leaves_nothing_stale");
	alloc(128);
	for (int round = 0; round < 60; round++) {
		pid_t pid = fork();

		if (!pid)
			child_at_work();
		usleep((useconds_t)(random() % 20000));
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		truths = 0;
		audit_arena(&a, false, note_truth, NULL);
		ck_assert_uint_eq(truths, 0);
		recovery_reap_all(&a);
		ck_assert_int_eq(audit_arena(&a, false, note, NULL), 0);
		look();
		ck_assert_uint_eq(st.live_objects, 1);
		ck_assert_uint_eq(st.clients, 1);
	}
}
END_TEST

START_TEST(a_damaged_arena_is_counted_without_a_fault)
{
	seed_random("a_damaged_arena_is_counted_without_a_fault");
	churn(3000);
	for (int round = 0; round < 500; round++) {
		uint64_t page = (uint64_t)random() % (4 * a.g.zone_pages);
		uint64_t bit = UINT64_C(1) << (random() % 64);

		if (random() % 2)
			atomic_fetch_xor(&a.pages[page % a.pages_known].w0, bit);
		else
			atomic_fetch_xor(&a.pages[page % a.pages_known].w1, bit);
		look();
		ck_assert_uint_le(st.live_bytes, UINT64_C(1) << 50);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stats");
	TCase *t = tcase_create("stats");
	SRunner *r = srunner_create(s);
	int failed;

	setvbuf(stdout, NULL, _IOLBF, 0); /* a failing test does not flush */
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, an_empty_arena_has_nothing);
	tcase_add_test(t, one_object_counts_with_its_usable_bytes);
	tcase_add_test(t, a_large_object_counts_in_whole_pages);
	tcase_add_test(t, a_large_object_of_a_class_counts_with_what_its_class_gives);
	tcase_add_test(t, what_is_the_arenas_is_no_clients);
	tcase_add_test(t, random_work_is_counted_exactly_and_leaves_the_arena_whole);
	tcase_add_test(t, a_thread_that_has_ended_holds_nothing);
	tcase_add_test(t, a_killed_process_leaves_what_it_made_persistent);
	tcase_add_test(t, a_death_at_any_time_damages_nothing_and_recovery_leaves_nothing_stale);
	tcase_add_test(t, a_damaged_arena_is_counted_without_a_fault);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
