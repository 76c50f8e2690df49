/* SPDX-License-Identifier: Apache-2.0 */
/* The profile: what is sampled is told by its calls as long as it lives, killed writers and damage show nothing. */
#include "heap.h"

#include "profile.h"
#include "profile_inside.h"

static shma *heap;

static void setup(void)
{
	heap = heap_open(MIB(64), 0);
}

static void teardown(void)
{
	shma_close(heap);
}

static uint32_t live(struct profile_object *last)
{
	struct profile_object o = { .handle = 0 };
	uint32_t at = 0, n = 0;

	while (profile_next(&heap->arena, &at, &o)) {
		n++;
		if (last)
			*last = o;
	}
	return n;
}

static const uint64_t frames[] = { 0x1000000000010, 0x1000000000020, 0x30 };

static uint64_t sampled(uint64_t size)
{
	uint64_t handle = shma_alloc(heap, size, 0);

	ck_assert_uint_ne(handle, 0);
	profile_sample(&heap->arena, handle, size, 4096, frames, 3);
	return handle;
}

START_TEST(an_arena_that_was_never_profiled_has_no_profile)
{
	struct profile_totals t;
	struct profile_stack stack;

	ck_assert(!profile_totals(&heap->arena, &t));
	ck_assert_uint_eq(live(NULL), 0);
	ck_assert(!profile_stack(&heap->arena, 0, &stack));
	ck_assert_int_eq(shma_profile(heap, 100), -EINVAL);
	ck_assert_int_eq(shma_profile(heap, UINT64_MAX), -EINVAL);
	ck_assert_int_eq(shma_profile(heap, 0), 0);
	ck_assert(!profile_totals(&heap->arena, &t));
}
END_TEST

START_TEST(a_sample_lives_as_long_as_its_object)
{
	struct profile_object o = { .handle = 0 };
	struct profile_stack stack;
	uint64_t handle;

	ck_assert_int_eq(shma_profile(heap, PROFILE_RATE_MAX), 0);
	handle = sampled(1000);
	ck_assert_uint_eq(live(&o), 1);
	ck_assert_uint_eq(o.handle, handle);
	ck_assert_uint_eq(o.size, 1000);
	ck_assert_uint_eq(o.client, heap->arena.client);
	ck_assert_int_eq(o.pid, getpid());
	ck_assert(profile_stack(&heap->arena, o.site, &stack));
	ck_assert_uint_eq(stack.count, 3);
	ck_assert_uint_eq(stack.modules[0], 0);
	ck_assert_uint_eq(stack.offsets[1], 0x20);
	ck_assert_uint_eq(stack.modules[2], PROFILE_NONE);
	ck_assert_int_eq(shma_free(heap, handle), 0);
	ck_assert_uint_eq(live(NULL), 0);
}
END_TEST

START_TEST(the_place_of_one_that_is_gone_serves_again)
{
	struct profile_totals t;

	ck_assert_int_eq(shma_profile(heap, PROFILE_RATE_MAX), 0);
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(shma_free(heap, sampled(64)), 0);
	sampled(64);
	ck_assert_uint_eq(live(NULL), 1);
	ck_assert(profile_totals(&heap->arena, &t));
	ck_assert_uint_eq(t.samples, 1001);
	ck_assert_uint_eq(t.lost_samples, 0);
}
END_TEST

START_TEST(what_finds_no_room_is_counted)
{
	struct profile_totals t;
	uint32_t n = PROFILE_SAMPLES + 2000;

	ck_assert_int_eq(shma_profile(heap, PROFILE_RATE_MAX), 0);
	for (uint32_t i = 0; i < n; i++)
		sampled(64);
	ck_assert(profile_totals(&heap->arena, &t));
	ck_assert_uint_ge(t.lost_samples, 2000);
	ck_assert_uint_eq(live(NULL) + t.lost_samples, n);
}
END_TEST

START_TEST(what_caches_are_filled_with_is_counted_while_it_is_on)
{
	uint32_t class = sizeclass_of(512);
	struct profile_totals t;
	uint64_t refilled;

	ck_assert_int_eq(shma_profile(heap, PROFILE_RATE_MAX), 0);
	for (int i = 0; i < 1000; i++)
		ck_assert_uint_ne(shma_alloc(heap, 512, 0), SHMA_NULL);
	ck_assert(profile_totals(&heap->arena, &t));
	refilled = t.refilled[class];
	ck_assert_uint_ge(refilled, 900);
	ck_assert(t.refills[class] > 1 && t.refills[class] <= refilled);
	ck_assert_int_eq(shma_profile(heap, 0), 0);
	for (int i = 0; i < 1000; i++)
		ck_assert_uint_ne(shma_alloc(heap, 512, 0), SHMA_NULL);
	ck_assert(profile_totals(&heap->arena, &t));
	ck_assert_uint_eq(t.refilled[class], refilled);
}
END_TEST

START_TEST(a_stack_is_listed_once)
{
	struct profile_object first = { .handle = 0 }, second = { .handle = 0 };
	struct profile_stack stack;

	ck_assert_int_eq(shma_profile(heap, PROFILE_RATE_MAX), 0);
	ck_assert_int_eq(shma_free(heap, sampled(64)), 0);
	sampled(64);
	live(&first);
	ck_assert_int_eq(shma_free(heap, first.handle), 0);
	sampled(4000);
	live(&second);
	ck_assert_uint_eq(first.site, second.site);
	ck_assert(profile_stack(&heap->arena, first.site, &stack));
	ck_assert_uint_eq(stack.samples, 3);
}
END_TEST

START_TEST(a_module_is_listed_once_and_by_its_build)
{
	const uint8_t one[20] = { 1 }, two[20] = { 2 };
	struct profile_binary b;
	uint32_t first, second;

	ck_assert_int_eq(shma_profile(heap, PROFILE_RATE_MAX), 0);
	first = profile_module(&heap->arena, one, 20, "/usr/bin/program");
	second = profile_module(&heap->arena, two, 20, "/usr/bin/program");
	ck_assert_uint_ne(first, second);
	ck_assert_uint_eq(profile_module(&heap->arena, one, 20, "/usr/bin/program"), first);
	ck_assert(profile_binary(&heap->arena, second, &b));
	ck_assert_str_eq(b.path, "/usr/bin/program");
	ck_assert_uint_eq(b.id_bytes, 20);
	ck_assert_uint_eq(b.id[0], 2);
	ck_assert(!profile_binary(&heap->arena, PROFILE_MODULES, &b));
}
END_TEST

START_TEST(what_a_killed_writer_left_is_not_shown_and_taken_over)
{
	struct profile_sample *s;
	uint64_t dead = 7, word = PROFILE_BUSY | dead << PROFILE_CLIENT_SHIFT;

	ck_assert_int_eq(shma_profile(heap, PROFILE_RATE_MAX), 0);
	for (uint32_t i = 0; i < PROFILE_SAMPLES; i++)
		atomic_store(&profile_samples(&heap->arena)[i].word, word);
	for (uint32_t i = 0; i < PROFILE_SITES; i++)
		atomic_store(&profile_sites(&heap->arena)[i].word, word);
	ck_assert_uint_eq(live(NULL), 0);
	sampled(100);
	ck_assert_uint_eq(live(NULL), 1);
	/* One that lives and is at it keeps its place. */
	s = &profile_samples(&heap->arena)[5];
	word = atomic_load(client_word_at(&heap->arena, heap->arena.client));
	word = PROFILE_BUSY | (uint64_t)heap->arena.client << PROFILE_CLIENT_SHIFT |
	       (uint64_t)(client_word_incarnation(word) & 0xffff) << PROFILE_INCARNATION_SHIFT;
	atomic_store(&s->word, word);
	for (int i = 0; i < 5000; i++)
		sampled(16);
	ck_assert_uint_eq(atomic_load(&s->word), word);
}
END_TEST

START_TEST(damage_is_never_followed)
{
	struct profile_header *h = profile_header(&heap->arena);
	struct profile_object o = { .handle = 0 };
	struct profile_stack stack;
	uint64_t seed = 1;

	heap_seed("damage_is_never_followed");
	ck_assert_int_eq(shma_profile(heap, PROFILE_RATE_MAX), 0);
	sampled(100);
	for (int round = 0; round < 200; round++) {
		uint32_t at = 0;

		for (int i = 0; i < 64; i++) {
			seed = heap_random();
			((unsigned char *)h)[2 * PAGE_SIZE +
					     seed % (geometry_profile_bytes() - 2 * PAGE_SIZE)] = (unsigned char)(seed >> 40);
		}
		while (profile_next(&heap->arena, &at, &o))
			if (profile_stack(&heap->arena, o.site, &stack))
				ck_assert_uint_le(stack.count, PROFILE_FRAMES);
	}
	for (uint32_t i = 0; i < PROFILE_SITES; i++)
		if (profile_stack(&heap->arena, i, &stack))
			ck_assert_uint_le(stack.count, PROFILE_FRAMES);
	h->magic = 0;
	ck_assert_uint_eq(live(NULL), 0);
}
END_TEST

/* What is live, by all that was sampled of it. */
static double estimated(void)
{
	struct profile_object o = { .handle = 0 };
	double bytes = 0;
	uint32_t at = 0;

	while (profile_next(&heap->arena, &at, &o))
		bytes += profile_weight(o.size, o.rate) * (double)o.size;
	return bytes;
}

START_TEST(samples_tell_how_much_is_live)
{
	const struct timespec moment = { .tv_nsec = 2000000 };
	double bytes = 0;

	ck_assert_int_eq(shma_profile(heap, 16384), 0);
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < 400; i++) {
			uint64_t size = 16 + heap_below(1000);

			ck_assert_uint_ne(shma_alloc(heap, size, 0), 0);
			bytes += (double)size;
		}
		nanosleep(&moment, NULL);
	}
	/* Some 200 samples and more: within seven standard deviations. */
	ck_assert_double_gt(estimated(), bytes / 2);
	ck_assert_double_lt(estimated(), bytes * 1.5);
}
END_TEST

START_TEST(switched_off_all_is_as_before)
{
	struct profile_totals t;
	uint64_t timed;

	ck_assert_uint_ne(atomic_load(&heap->arena.ptr_steps), 0);
	ck_assert_int_eq(shma_profile(heap, 4096), 0);
	ck_assert_uint_eq(atomic_load(&heap->arena.ptr_steps), 0);
	for (int i = 0; i < 5000; i++)
		shma_free(heap, shma_alloc(heap, 100, 0));
	ck_assert(profile_totals(&heap->arena, &t));
	ck_assert_uint_ge(t.timed, 4);
	ck_assert_uint_gt(profile_latency_at(&t, 1000), 0);
	timed = t.timed;
	ck_assert_int_eq(shma_profile(heap, 0), 0);
	ck_assert_uint_ne(atomic_load(&heap->arena.ptr_steps), 0);
	for (int i = 0; i < 5000; i++)
		shma_free(heap, shma_alloc(heap, 100, 0));
	ck_assert(profile_totals(&heap->arena, &t));
	ck_assert_uint_eq(t.timed, timed);
}
END_TEST

START_TEST(another_process_learns_of_it_with_a_slow_call)
{
	uint64_t handle;

	/* As if another had: only the arena's header says so. */
	ck_assert_int_eq(profile_set_rate(&heap->arena, 4096), 0);
	for (int i = 0; i < 5000 && atomic_load(&heap->arena.ptr_steps); i++)
		ck_assert_uint_ne(shma_alloc(heap, 100, 0), 0);
	ck_assert_uint_eq(atomic_load(&heap->arena.ptr_steps), 0);
	ck_assert_int_eq(profile_set_rate(&heap->arena, 0), 0);
	for (int i = 0; i < 5000 && !atomic_load(&heap->arena.ptr_steps); i++) {
		handle = shma_alloc(heap, 100, 0);
		ck_assert_uint_ne(handle, 0);
	}
	ck_assert_uint_ne(atomic_load(&heap->arena.ptr_steps), 0);
}
END_TEST

START_TEST(the_first_allocation_after_opening_counts)
{
	struct shma_options opt = { .struct_size = sizeof(opt), .capacity = MIB(64), .log_capacity = 65536 };
	shma *usual = heap;
	char name[64], path[128];

	snprintf(name, sizeof(name), "test-profile-%d", (int)getpid());
	ck_assert_int_eq(arena_path(path, sizeof(path), name), 0);
	ck_assert_int_eq(shma_open(&heap, name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &opt), 0);
	ck_assert_int_eq(shma_profile(heap, PROFILE_RATE_MIN), 0);
	ck_assert_int_eq(shma_close(heap), 0);
	ck_assert_int_eq(shma_open(&heap, name, SHMA_EMBEDDED, NULL), 0);
	ck_assert_int_eq(arena_unlink(path), 0);
	ck_assert_uint_ne(shma_alloc(heap, MIB(1), 0), 0);
	ck_assert_uint_eq(live(NULL), 1);
	ck_assert_int_eq(shma_close(heap), 0);
	heap = usual;
}
END_TEST

START_TEST(buckets_of_latencies_join)
{
	struct profile_totals t = { .timed = 0 };

	for (uint32_t i = 1; i < PROFILE_LATENCIES; i++)
		ck_assert_uint_gt(profile_latency_end(i), profile_latency_end(i - 1));
	ck_assert_int_eq(shma_profile(heap, PROFILE_RATE_MAX), 0);
	for (uint64_t ns = 1; ns <= 1000; ns++)
		profile_latency(&heap->arena, ns);
	ck_assert(profile_totals(&heap->arena, &t));
	ck_assert_uint_ge(profile_latency_at(&t, 500), 500);
	ck_assert_uint_le(profile_latency_at(&t, 500), 570);
	ck_assert_uint_ge(profile_latency_at(&t, 990), 990);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("profile");
	TCase *tc = tcase_create("profile");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, an_arena_that_was_never_profiled_has_no_profile);
	tcase_add_test(tc, a_sample_lives_as_long_as_its_object);
	tcase_add_test(tc, the_place_of_one_that_is_gone_serves_again);
	tcase_add_test(tc, what_finds_no_room_is_counted);
	tcase_add_test(tc, what_caches_are_filled_with_is_counted_while_it_is_on);
	tcase_add_test(tc, a_stack_is_listed_once);
	tcase_add_test(tc, a_module_is_listed_once_and_by_its_build);
	tcase_add_test(tc, what_a_killed_writer_left_is_not_shown_and_taken_over);
	tcase_add_test(tc, damage_is_never_followed);
	tcase_add_test(tc, samples_tell_how_much_is_live);
	tcase_add_test(tc, switched_off_all_is_as_before);
	tcase_add_test(tc, another_process_learns_of_it_with_a_slow_call);
	tcase_add_test(tc, the_first_allocation_after_opening_counts);
	tcase_add_test(tc, buckets_of_latencies_join);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
