/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a dead client owned comes back to the last byte, what was the arena's or others' stays as it was,
 * whoever recovers it, and however often the recoverer is killed in the middle.
 */
#include "heap.h"
#include "liveness.h"

static shma *heap;
static struct board *board;

/* What is there before and after: this process's own objects, of all kinds. */
static shma_handle mine[60];
static struct shma_stats before;

static const size_t sizes[] = {1, 24, 100, 500, 1000, 4000, 20000, 32768, 40000, 150000, 300000};

static void write_pattern(shma_handle h)
{
	uint64_t *p = shma_ptr(heap, h);
	size_t words = shma_size(heap, h) / 8;

	for (size_t i = 0; i < words; i++)
		p[i] = h + i;
}

static bool has_pattern(shma_handle h)
{
	uint64_t *p = shma_ptr(heap, h);
	size_t words = p ? shma_size(heap, h) / 8 : 0;

	for (size_t i = 0; i < words; i++)
		if (p[i] != h + i)
			return false;
	return p != NULL;
}

static void setup(void)
{
	heap = heap_open(MIB(32), 0);
	board = board_new();
	for (size_t i = 0; i < LENGTH(mine); i++) {
		mine[i] = shma_alloc(heap, sizes[i % LENGTH(sizes)],
				     i % 3 == 0 ? SHMA_SHARED : i % 3 == 1 ? SHMA_PERSIST : 0);
		ck_assert_uint_ne(mine[i], SHMA_NULL);
		write_pattern(mine[i]);
	}
	before = heap_stats(heap);
	ck_assert_uint_eq(before.live_objects, LENGTH(mine));
}

static void check_mine_and_free(void)
{
	for (size_t i = 0; i < LENGTH(mine); i++) {
		ck_assert(has_pattern(mine[i]));
		ck_assert_int_eq(shma_free(heap, mine[i]), 0);
	}
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}

static void teardown(void)
{
	check_mine_and_free();
	heap_close(heap);
}

/* Slots in use, those being recovered too. */
static uint32_t slots(void)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i < client_high(&heap->arena); i++)
		n += client_word_state(atomic_load(client_word_at(&heap->arena, i))) != CLIENT_FREE;
	return n;
}

static void check_stats_are_as_before(void)
{
	struct shma_stats now = heap_stats(heap);

	heap_check(&heap->arena);
	ck_assert_uint_eq(now.live_objects, before.live_objects);
	ck_assert_uint_eq(now.live_bytes, before.live_bytes);
	ck_assert_uint_eq(now.cached_objects, before.cached_objects);
	ck_assert_uint_eq(now.cached_bytes, before.cached_bytes);
	ck_assert_uint_eq(now.persistent_objects, before.persistent_objects);
	ck_assert_uint_eq(now.names, before.names);
	ck_assert_uint_eq(now.clients, before.clients);
	ck_assert_uint_eq(now.threads, before.threads);
	ck_assert_uint_eq(now.extents, before.extents);
	ck_assert_uint_eq(now.extent_bytes, before.extent_bytes);
}

/* ---- a client with some of everything ---- */

static bool get(size_t size, unsigned flags, shma_handle *ret)
{
	*ret = shma_alloc(heap, size, flags);
	return *ret != SHMA_NULL;
}

/* Private and shared ones, some freed again, some taken from the parent's board. */
static int own_some_of_everything(bool spans)
{
	shma_handle h;

	for (int i = 0; i < 300; i++) {
		if (!get(sizes[(size_t)i % LENGTH(sizes)] / (i % 7 == 0 ? 1 : 10) + 1,
			 i % 2 ? SHMA_SHARED : 0, &h))
			return 1;
		write_pattern(h);
		if (i % 3 == 0 && shma_free(heap, h))
			return 2;
	}
	if (spans && (!get(MIB(5), 0, &h) || !get(MIB(5), SHMA_SHARED, &h)))
		return 3;
	if (!get(100, SHMA_SHARED, &h) || shma_take(heap, h))
		return 4;
	return get(100, 0, &h) && shma_share(heap, h) == 0 ? 0 : 5;
}

static int own_and_die(void *arg)
{
	if (own_some_of_everything(arg == NULL))
		return 1;
	die();
	return 0;
}

START_TEST(all_that_a_dead_client_owned_comes_back)
{
	for (int i = 0; i < 5; i++) {
		child_dies(child_start(own_and_die, NULL));
		ck_assert_uint_eq(slots(), 2);
		ck_assert_uint_eq(reap(&heap->arena), 1);
		check_stats_are_as_before();
	}
}
END_TEST

/* Dies when told: who goes on allocating meanwhile would recover who is dead already. */
static int own_and_wait(void *arg)
{
	if (own_some_of_everything(arg == NULL))
		return 1;
	atomic_fetch_add(&board->ready, 1);
	if (!board_reaches(&board->stop, 1))
		return 2;
	die();
	return 0;
}

START_TEST(several_dead_at_once_come_back)
{
	pid_t pids[3];

	for (size_t i = 0; i < LENGTH(pids); i++)
		pids[i] = child_start(own_and_wait, i ? &i : NULL);
	board_wait(&board->ready, LENGTH(pids));
	atomic_store(&board->stop, 1);
	for (size_t i = 0; i < LENGTH(pids); i++)
		child_dies(pids[i]);
	ck_assert_uint_eq(reap(&heap->arena), LENGTH(pids));
	check_stats_are_as_before();
}
END_TEST

/* ---- slabs ---- */

#define MANY 1500 /* objects: slabs of their own, the last one not full */

/* Of each slab all objects, or all but some, private ones, offered ones, or both. */
static int fill_slabs_and_die(void *arg)
{
	int pattern = *(int *)arg;
	shma_handle h;

	for (int i = 0; i < MANY; i++) {
		if (!get(pattern < 3 ? 200 : 4000, pattern && i % 5 == 0 ? SHMA_SHARED : 0, &h))
			return 1;
		atomic_store(&board->numbers[i], h);
	}
	for (int i = 0; pattern % 3 == 2 && i < MANY; i += 3)
		if (shma_free(heap, atomic_load(&board->numbers[i])))
			return 2;
	die();
	return 0;
}

static void check_all_are_stale(void)
{
	for (int i = 0; i < MANY; i++) {
		ck_assert_ptr_null(shma_ptr(heap, atomic_load(&board->numbers[i])));
		ck_assert_int_eq(shma_take(heap, atomic_load(&board->numbers[i])), -ESTALE);
	}
}

START_TEST(slabs_of_the_dead_go_back_whole_whatever_it_had_in_them)
{
	int pattern = _i;
	uint64_t free_pages;

	child_dies(child_start(fill_slabs_and_die, &pattern)); /* state blocks stay */
	ck_assert_uint_eq(reap(&heap->arena), 1);
	free_pages = heap_all_free_pages(&heap->arena);
	child_dies(child_start(fill_slabs_and_die, &pattern));
	ck_assert_uint_eq(reap(&heap->arena), 1);
	ck_assert_uint_eq(heap_all_free_pages(&heap->arena), free_pages);
	check_all_are_stale();
	check_stats_are_as_before();
}
END_TEST

START_TEST(who_is_refused_an_object_of_the_dead_has_that_brought_back_alone)
{
	int pattern = 3;
	pid_t pid = child_start(fill_slabs_and_die, &pattern);

	child_dies(pid);
	for (int i = 1; i < MANY; i += 700) {
		ck_assert_int_eq(shma_free(heap, atomic_load(&board->numbers[i])), -ESTALE);
		ck_assert_uint_eq(slots(), 2);
	}
	ck_assert_ptr_nonnull(shma_ptr(heap, atomic_load(&board->numbers[MANY / 2 + 200])));
	ck_assert_uint_eq(reap(&heap->arena), 1);
	check_all_are_stale();
	check_stats_are_as_before();
}
END_TEST

static int exit_without_a_word(void *arg)
{
	(void)arg;
	return own_some_of_everything(true);
}

START_TEST(an_exit_is_a_death)
{
	child_expect(child_start(exit_without_a_word, NULL), 0);
	ck_assert_uint_eq(reap(&heap->arena), 1);
	check_stats_are_as_before();
}
END_TEST

static int give_to_arena_and_die(void *arg)
{
	shma_handle small, large, named, cell, kept;

	(void)arg;
	if (own_some_of_everything(true) || !get(100, SHMA_PERSIST, &small) ||
	    !get(90000, SHMA_PERSIST, &large) || !get(200, 0, &named) || !get(300, 0, &kept) ||
	    !get(64, SHMA_PERSIST | SHMA_ZERO, &cell))
		return 1;
	write_pattern(small);
	write_pattern(large);
	write_pattern(named);
	write_pattern(kept);
	if (shma_publish(heap, "of the dead", named) || shma_persist(heap, kept, shma_ptr(heap, cell)))
		return 2;
	atomic_store(&board->numbers[0], small);
	atomic_store(&board->numbers[1], large);
	atomic_store(&board->numbers[2], named);
	atomic_store(&board->numbers[3], cell);
	die();
	return 0;
}

START_TEST(what_a_dead_client_gave_to_the_arena_stays)
{
	shma_handle cell, kept;

	child_dies(child_start(give_to_arena_and_die, NULL));
	ck_assert_uint_eq(reap(&heap->arena), 1);
	heap_check(&heap->arena);
	ck_assert_uint_eq(heap_stats(heap).live_objects, before.live_objects + 5);
	ck_assert_uint_eq(heap_stats(heap).names, before.names + 1);
	ck_assert_uint_eq(shma_lookup(heap, "of the dead"), atomic_load(&board->numbers[2]));
	for (int i = 0; i < 3; i++)
		ck_assert(has_pattern(atomic_load(&board->numbers[i])));
	cell = atomic_load(&board->numbers[3]);
	kept = *(shma_handle *)shma_ptr(heap, cell);
	ck_assert(has_pattern(kept));
	/* And is anyone's to take, keep and free. */
	ck_assert_int_eq(shma_take(heap, kept), 0);
	ck_assert_int_eq(shma_free(heap, kept), 0);
	ck_assert_int_eq(shma_free(heap, cell), 0);
	ck_assert_int_eq(shma_unpublish(heap, "of the dead"), 0);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(shma_free(heap, atomic_load(&board->numbers[i])), 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, before.live_objects);
}
END_TEST

static int offer_and_wait(void *arg)
{
	shma_handle h;

	(void)arg;
	for (uint64_t i = 0; i < 20; i++) {
		if (!get(sizes[i % LENGTH(sizes)], i % 2 ? SHMA_SHARED : 0, &h))
			return 1;
		write_pattern(h);
		atomic_store(&board->numbers[i], h);
	}
	rest(board);
	return 0;
}

START_TEST(what_was_taken_from_it_before_its_death_is_the_takers)
{
	pid_t pid = child_start(offer_and_wait, NULL);

	child_ready(board, pid, 1);
	for (int i = 1; i < 20; i += 4)
		ck_assert_int_eq(shma_take(heap, atomic_load(&board->numbers[i])), 0);
	child_kill(pid);
	ck_assert_uint_eq(reap(&heap->arena), 1);
	for (int i = 0; i < 20; i++) {
		shma_handle h = atomic_load(&board->numbers[i]);

		if (i % 4 == 1) {
			ck_assert(has_pattern(h));
			ck_assert_int_eq(shma_free(heap, h), 0);
		} else {
			ck_assert(shma_ptr(heap, h) == NULL && errno == ESTALE);
			ck_assert_int_eq(shma_take(heap, h), -ESTALE);
			ck_assert_int_eq(shma_free(heap, h), -ESTALE);
		}
	}
	heap_check(&heap->arena);
}
END_TEST

/* ---- not dead ---- */

START_TEST(a_stopped_client_keeps_all)
{
	pid_t pid = child_start(offer_and_wait, NULL);

	child_ready(board, pid, 1);
	kill(pid, SIGSTOP);
	ck_assert(child_stopped(pid));
	for (int i = 0; i < 5; i++)
		ck_assert_uint_eq(reap(&heap->arena), 0);
	for (int i = 0; i < 20; i++)
		ck_assert(has_pattern(atomic_load(&board->numbers[i])));
	kill(pid, SIGCONT);
	ck_assert_uint_eq(reap(&heap->arena), 0);
	child_kill(pid);
	ck_assert_uint_eq(reap(&heap->arena), 1);
	check_stats_are_as_before();
}
END_TEST

#define SLEEP_FLAG "--sleep"

static int offer_and_exec(void *arg)
{
	shma_handle h;

	(void)arg;
	for (uint64_t i = 0; i < 20; i++) {
		if (!get(sizes[i % LENGTH(sizes)], i % 2 ? SHMA_SHARED : 0, &h))
			return 1;
		atomic_store(&board->numbers[i], h);
	}
	execl("/proc/self/exe", "sleep", SLEEP_FLAG, (char *)NULL);
	return 2;
}

START_TEST(a_client_that_became_another_program_is_dead_though_it_runs)
{
	pid_t pid = child_start(offer_and_exec, NULL);
	uint32_t reaped = 0;

	for (int i = 0; i < 20000 && !(reaped = reap(&heap->arena)); i++)
		usleep(500);
	ck_assert_uint_eq(reaped, 1);
	ck_assert_int_eq(kill(pid, 0), 0);
	for (int i = 0; i < 20; i++)
		ck_assert(shma_ptr(heap, atomic_load(&board->numbers[i])) == NULL && errno == ESTALE);
	check_stats_are_as_before();
	child_kill(pid);
}
END_TEST

/* ---- recoverers ---- */

static int recover_all_dead(void *arg)
{
	(void)arg;
	if (thread_become_client(&heap->arena))
		return 1;
	for (;;)
		recovery_reap_all(&heap->arena);
	return 0;
}

START_TEST(a_recoverer_killed_at_any_time_leaves_the_rest_to_the_next)
{
	heap_seed("a_recoverer_killed_at_any_time_leaves_the_rest_to_the_next");
	for (int round = 0; round < 12; round++) {
		child_dies(child_start(own_and_die, NULL));
		child_dies(child_start(own_and_die, NULL));
		for (int k = 0; k < 4; k++) {
			pid_t pid = child_start(recover_all_dead, NULL);
			pid_t rival = k % 2 ? child_start(recover_all_dead, NULL) : 0;

			usleep((useconds_t)heap_below(3000));
			child_kill(pid);
			if (rival)
				child_kill(rival);
		}
		for (int i = 0; i < 10 && slots() > 1; i++)
			reap(&heap->arena);
		check_stats_are_as_before();
	}
}
END_TEST

static int claim_recovery_and_wait(void *arg)
{
	if (thread_become_client(&heap->arena) ||
	    !liveness_claim_recovery(&heap->arena, *(uint32_t *)arg))
		return 1;
	rest(board);
	return 0;
}

START_TEST(a_stopped_recoverer_keeps_the_job_and_its_death_passes_it_on)
{
	uint32_t dead = heap->arena.client + 1;
	shma_handle h;
	pid_t pid;

	child_dies(child_start(own_and_die, NULL));
	pid = child_start(claim_recovery_and_wait, &dead);
	child_ready(board, pid, 1);
	kill(pid, SIGSTOP);
	ck_assert(child_stopped(pid));
	ck_assert_uint_eq(reap(&heap->arena), 0);
	ck_assert(get(1000, 0, &h)); /* nobody waits for it */
	ck_assert_int_eq(shma_free(heap, h), 0);
	child_kill(pid);
	ck_assert_uint_ge(reap(&heap->arena) + reap(&heap->arena), 1);
	ck_assert_uint_eq(slots(), 1);
	heap_check(&heap->arena);
}
END_TEST

START_TEST(without_a_reaper_the_living_recover_in_passing)
{
	bool all = false;
	int calls = 0;

	child_dies(child_start(own_and_die, NULL));
	child_dies(child_start(own_and_die, NULL));
	for (; calls < 20000 && !all; calls++) {
		shma_handle h = shma_alloc(heap, 300000, 0); /* a slow call */

		ck_assert_int_eq(shma_free(heap, h), 0);
		if (calls % 64 == 0)
			all = slots() == 1;
	}
	ck_assert(all);
	printf("two dead clients gone after %d calls\n", calls);
	check_stats_are_as_before();
}
END_TEST

START_TEST(memory_of_the_dead_serves_before_there_is_none)
{
	shma_handle h, all[10];
	int n = 0;

	while (n < 10 && get(MIB(3), 0, &h))
		all[n++] = h;
	ck_assert_int_gt(n, 3);
	ck_assert_int_lt(n, 10);
	for (int i = 0; i < n; i++)
		ck_assert_int_eq(shma_free(heap, all[i]), 0);
	child_dies(child_start(own_and_die, NULL)); /* has 10 MiB of it */
	for (int i = 0; i < n; i++)
		ck_assert(get(MIB(3), 0, &all[i]));
	for (int i = 0; i < n; i++)
		ck_assert_int_eq(shma_free(heap, all[i]), 0);
	reap(&heap->arena);
	heap_check(&heap->arena);
}
END_TEST

/* ---- held locks ---- */

static int hold_all_zones(void *arg)
{
	(void)arg;
	for (uint32_t z = 0; z < arena_refresh(&heap->arena); z++)
		if (zone_trylock(&heap->arena, z))
			return 1;
	rest(board);
	return 0;
}

START_TEST(recovery_goes_on_when_locks_that_were_held_are_free)
{
	pid_t pid;

	child_dies(child_start(own_and_die, NULL));
	pid = child_start(hold_all_zones, NULL);
	child_ready(board, pid, 1);
	kill(pid, SIGSTOP);
	ck_assert(child_stopped(pid));
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(reap(&heap->arena), 0);
	child_kill(pid);
	ck_assert_uint_eq(reap(&heap->arena), 1);
	/* Slabs that went back meanwhile wait for the next holder of their zones' locks. */
	for (uint32_t zone = 0; zone < arena_refresh(&heap->arena); zone++) {
		ck_assert_int_eq(zone_trylock_patiently(&heap->arena, zone), 0);
		zone_unlock(&heap->arena, zone);
	}
	check_stats_are_as_before();
}
END_TEST

/* ---- generations ---- */

static int own_one_and_die(void *arg)
{
	shma_handle h;

	(void)arg;
	if (!get(100, SHMA_SHARED, &h))
		return 1;
	atomic_store(&board->numbers[0], h);
	if (!get(50000, SHMA_SHARED, &h))
		return 1;
	atomic_store(&board->numbers[1], h);
	die();
	return 0;
}

static int die_holding(void *arg)
{
	(void)arg;
	shma_alloc(heap, 100, 0);
	raise(SIGKILL);
	return 1;
}

/* No client yet, with its parent's number. */
static int recover_as_a_child(void *arg)
{
	(void)arg;
	return recovery_reap_all(&heap->arena) != 0 || recovery_tick(&heap->arena);
}

START_TEST(a_forked_child_that_is_no_client_recovers_nobody_in_its_parents_name)
{
	child_dies(child_start(die_holding, NULL));
	ck_assert_uint_eq(slots(), 2);
	child_expect(child_start(recover_as_a_child, NULL), 0);
	ck_assert_uint_eq(slots(), 2);
	ck_assert_uint_eq(reap(&heap->arena), 1);
	check_stats_are_as_before();
}
END_TEST

static void check_stale(shma_handle old)
{
	if (heap_points_into_its_like(&heap->arena, old))
		return;
	ck_assert_int_eq(shma_take(heap, old), -ESTALE);
	ck_assert_int_eq(shma_free(heap, old), -ESTALE);
}

START_TEST(a_handle_is_stale_whatever_came_to_lie_in_its_place)
{
	static const size_t later[] = {48, 208, 1000, 4000, 9000, 32768, 200000};

	for (size_t i = 0; i < LENGTH(later); i++) {
		shma_handle old[200], now;

		for (size_t j = 0; j < LENGTH(old); j++)
			old[j] = shma_alloc(heap, 144, SHMA_SHARED);
		for (size_t j = 0; j < LENGTH(old); j++)
			ck_assert_int_eq(shma_free(heap, old[j]), 0);
		ck_assert_uint_eq(heap_stats(heap).live_objects, before.live_objects);
		thread_detach_arena(&heap->arena); /* cached ones, too */
		thread_attach_again(&heap->arena);
		now = shma_alloc(heap, later[i], 0);
		ck_assert_uint_ne(now, SHMA_NULL);
		for (size_t j = 0; j < LENGTH(old); j++)
			check_stale(old[j]);
		ck_assert_int_eq(shma_free(heap, now), 0);
	}
}
END_TEST

START_TEST(handles_of_the_dead_stay_stale_when_their_places_are_used_again)
{
	for (int i = 0; i < 30; i++) {
		shma_handle all[200], small, large;

		child_dies(child_start(own_one_and_die, NULL));
		ck_assert_uint_eq(reap(&heap->arena), 1);
		small = atomic_load(&board->numbers[0]);
		large = atomic_load(&board->numbers[1]);
		for (int k = 0; k < 200; k++)
			ck_assert(get(k % 2 ? 100 : 50000, 0, &all[k]));
		ck_assert_ptr_eq(shma_ptr(heap, small), NULL);
		ck_assert_ptr_eq(shma_ptr(heap, large), NULL);
		for (int k = 0; k < 200; k++)
			ck_assert_int_eq(shma_free(heap, all[k]), 0);
	}
}
END_TEST

int main(int argc, char **argv)
{
	Suite *s = suite_create("recovery");
	TCase *t = tcase_create("recovery");

	if (argc > 1 && strcmp(argv[1], SLEEP_FLAG) == 0) {
		alarm(60);
		pause();
		return 0;
	}
	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, all_that_a_dead_client_owned_comes_back);
	tcase_add_test(t, several_dead_at_once_come_back);
	tcase_add_loop_test(t, slabs_of_the_dead_go_back_whole_whatever_it_had_in_them, 0, 6);
	tcase_add_test(t, who_is_refused_an_object_of_the_dead_has_that_brought_back_alone);
	tcase_add_test(t, an_exit_is_a_death);
	tcase_add_test(t, what_a_dead_client_gave_to_the_arena_stays);
	tcase_add_test(t, what_was_taken_from_it_before_its_death_is_the_takers);
	tcase_add_test(t, a_stopped_client_keeps_all);
	tcase_add_test(t, a_client_that_became_another_program_is_dead_though_it_runs);
	tcase_add_test(t, a_recoverer_killed_at_any_time_leaves_the_rest_to_the_next);
	tcase_add_test(t, a_stopped_recoverer_keeps_the_job_and_its_death_passes_it_on);
	tcase_add_test(t, without_a_reaper_the_living_recover_in_passing);
	tcase_add_test(t, memory_of_the_dead_serves_before_there_is_none);
	tcase_add_test(t, recovery_goes_on_when_locks_that_were_held_are_free);
	tcase_add_test(t, a_forked_child_that_is_no_client_recovers_nobody_in_its_parents_name);
	tcase_add_test(t, a_handle_is_stale_whatever_came_to_lie_in_its_place);
	tcase_add_test(t, handles_of_the_dead_stay_stale_when_their_places_are_used_again);
	suite_add_tcase(s, t);
	return run_suite(s);
}
