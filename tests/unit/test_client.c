/* SPDX-License-Identifier: Apache-2.0 */
/* Client slots and region marks, on real arenas without a name, with real processes. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "words.h"

#include "../seed.h"

#define CAPACITY (UINT64_C(16) << 20)
#define BIG_CAPACITY (UINT64_C(256) << 30)

static struct arena arena;

static void open_arena(uint64_t capacity)
{
	struct arena_config config = {
		.name = "client", .capacity = capacity, .log_capacity = 65536, .backing = BACKING_MEMFD};
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&arena, files, false), 0);
}

static void setup(void)
{
	open_arena(CAPACITY);
}

static void setup_big(void)
{
	open_arena(BIG_CAPACITY);
}

static void teardown(void)
{
	arena_unmap(&arena);
}

static uint64_t word_of(uint32_t client)
{
	return atomic_load(client_word_at(&arena, client));
}

/* Runs in a forked child and gives its result, at most 254. */
static int in_child(int (*body)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(body());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A child that has claimed a slot and sleeps; *number is its client's. */
static pid_t sleeping_client(uint32_t *number)
{
	int pipes[2];
	pid_t pid;

	ck_assert_int_eq(pipe(pipes), 0);
	pid = fork();
	if (pid == 0) {
		if (client_fork_child(&arena) ||
		    write(pipes[1], &arena.client, sizeof(arena.client)) != sizeof(arena.client))
			_exit(1);
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(pipes[0], number, sizeof(*number)), sizeof(*number));
	close(pipes[0]);
	close(pipes[1]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

START_TEST(a_claim_fills_the_record_and_holds_the_lock)
{
	struct client_process self;
	struct client_view view;

	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_uint_eq(arena.client, 1);
	ck_assert_int_eq(client_view(&arena, 1, &view), 0);
	ck_assert_int_eq(view.state, CLIENT_LIVE);
	ck_assert_uint_eq(view.incarnation, 1);
	ck_assert_int_eq(view.pid, getpid());
	ck_assert_uint_eq(view.uid, getuid());
	ck_assert_uint_ne(view.start_time, 0);
	ck_assert_uint_ne(view.opened_ns, 0);
	ck_assert_int_eq(client_process(getpid(), &self), 0);
	ck_assert_uint_eq(view.start_time, self.start_time);
	ck_assert_str_eq(view.command, self.command);
	ck_assert_uint_eq(client_high(&arena), 2);
	ck_assert_int_eq(client_view(&arena, 2, &view), -ENOENT);
	ck_assert_int_eq(client_view(&arena, 0, &view), -ENOENT);
	ck_assert_int_eq(client_view(&arena, CLIENTS_MAX, &view), -ENOENT);
}
END_TEST

static int sees_lock_of_1(void)
{
	return client_locked(&arena, 1) == 1 && client_locked(&arena, 2) == 0;
}

START_TEST(others_see_the_lock)
{
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_int_eq(in_child(sees_lock_of_1), 1);
}
END_TEST

START_TEST(a_second_claim_changes_nothing)
{
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_uint_eq(arena.client, 1);
	ck_assert_uint_eq(client_word_state(word_of(2)), CLIENT_FREE);
}
END_TEST

START_TEST(a_read_only_view_has_no_slot)
{
	arena.readonly = true;
	ck_assert_int_eq(client_claim(&arena), -EROFS);
	arena.readonly = false;
}
END_TEST

START_TEST(without_a_life_file_nothing_is_claimed)
{
	int life = arena.files.life_fd;

	arena.files.life_fd = -1;
	ck_assert_int_eq(client_claim(&arena), -EBADF);
	arena.files.life_fd = life;
	ck_assert_uint_eq(arena.client, 0);
	ck_assert_uint_eq(client_word_state(word_of(1)), CLIENT_FREE);
}
END_TEST

START_TEST(a_slot_goes_to_a_new_incarnation)
{
	atomic_store(client_word_at(&arena, 1), client_word(CLIENT_FREE, 0, 41));
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_uint_eq(client_word_incarnation(word_of(1)), 42);
}
END_TEST

/* Somebody stopped between taking the lock and the word keeps only that slot from others. */
START_TEST(a_free_slot_whose_lock_is_held_is_passed_over)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
	int pipes[2];
	char c;
	pid_t pid;

	ck_assert_int_eq(pipe(pipes), 0);
	pid = fork();
	if (pid == 0) {
		if (fcntl(arena.files.life_fd, F_SETLK, &lock) || write(pipes[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(pipes[0], &c, 1), 1);
	kill(pid, SIGSTOP);
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_uint_eq(arena.client, 2);
	ck_assert_uint_eq(client_word_state(word_of(1)), CLIENT_FREE);
	end(pid);
}
END_TEST

START_TEST(when_all_slots_are_taken_the_claim_says_so)
{
	for (uint32_t i = 1; i < CLIENTS_MAX - CLIENT_SPARES; i++)
		atomic_store(client_word_at(&arena, i), client_word(CLIENT_LIVE, 0, 1));
	ck_assert_int_eq(client_claim(&arena), -EUSERS);
	for (uint32_t i = CLIENTS_MAX - CLIENT_SPARES; i < CLIENTS_MAX; i++) {
		ck_assert_int_eq(client_claim_spare(&arena), 0);
		ck_assert_uint_eq(arena.client, i);
		arena.client = 0;
	}
	ck_assert_int_eq(client_claim_spare(&arena), -EUSERS);
	atomic_store(&arena.header->clients_high, 0);
	atomic_store(client_word_at(&arena, 4000), client_word(CLIENT_FREE, 0, 1));
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_uint_eq(arena.client, 4000);
	ck_assert_uint_eq(client_high(&arena), 4001);
}
END_TEST

START_TEST(many_processes_at_once_get_slots_of_their_own)
{
	bool seen[CLIENTS_MAX] = {false};
	pid_t pids[32];
	int pipes[2];

	ck_assert_int_eq(pipe(pipes), 0);
	for (int i = 0; i < 32; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			if (client_fork_child(&arena) ||
			    write(pipes[1], &arena.client, sizeof(arena.client)) != sizeof(arena.client))
				_exit(1);
			for (;;)
				pause();
		}
	}
	for (int i = 0; i < 32; i++) {
		uint32_t client;

		ck_assert_int_eq(read(pipes[0], &client, sizeof(client)), sizeof(client));
		ck_assert_uint_lt(client, CLIENTS_MAX);
		ck_assert(!seen[client]);
		seen[client] = true;
	}
	for (int i = 0; i < 32; i++)
		end(pids[i]);
}
END_TEST

static int child_is_its_own_client(void)
{
	struct client_view view;

	if (client_fork_child(&arena) || arena.client != 2)
		return 1;
	/* The parent's marks had their memory; the child's are not prepared by that. */
	if (atomic_load(&arena.zones_marked[0]) != 0)
		return 2;
	if (client_view(&arena, 2, &view) || view.pid != getpid())
		return 3;
	if (client_prepare_zone(&arena, 0))
		return 4;
	client_mark(&arena, 32);
	return client_locked(&arena, 1) == 1 ? 0 : 5;
}

START_TEST(a_forked_child_is_a_client_of_its_own)
{
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_int_eq(client_prepare_zone(&arena, 0), 0);
	client_mark(&arena, 0);
	ck_assert_int_eq(in_child(child_is_its_own_client), 0);
	ck_assert_uint_eq(arena.client, 1);
	ck_assert_int_eq(in_child(sees_lock_of_1), 1);
	ck_assert(client_marked(&arena, 1, 0) && !client_marked(&arena, 1, 32));
	ck_assert(client_marked(&arena, 2, 32) && !client_marked(&arena, 2, 0));
}
END_TEST

START_TEST(release_frees_a_slot_that_owns_nothing)
{
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_int_eq(client_release(&arena), 0);
	ck_assert_uint_eq(arena.client, 0);
	ck_assert_uint_eq(word_of(1), client_word(CLIENT_FREE, 0, 1));
	ck_assert_int_eq(in_child(sees_lock_of_1), 0);
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_uint_eq(word_of(1), client_word(CLIENT_LIVE, 0, 2));
}
END_TEST

START_TEST(release_is_refused_while_something_may_be_owned)
{
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_int_eq(client_prepare_zone(&arena, 0), 0);
	client_mark(&arena, 77);
	ck_assert_int_eq(client_release(&arena), -EBUSY);
	ck_assert_uint_eq(word_of(1), client_word(CLIENT_LIVE, 0, 1));
	client_marks_clear(&arena, 1);
	atomic_store(client_word_at(&arena, 3), client_word(CLIENT_RECOVERING, 1, 9));
	atomic_store(&arena.header->clients_high, 4);
	ck_assert_int_eq(client_release(&arena), -EBUSY);
	atomic_store(client_word_at(&arena, 3), client_word(CLIENT_FREE, 0, 9));
	ck_assert_int_eq(client_release(&arena), 0);
	ck_assert_int_eq(client_release(&arena), -EINVAL);
}
END_TEST

/* ---- /proc/PID/stat ---- */

#define STAT_TAIL                                                                                  \
	" S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 0 987654321 23 24 25\n"

static void parses(const char *text, const char *command)
{
	struct client_process p;

	ck_assert_int_eq(client_process_parse(text, &p), 0);
	ck_assert_str_eq(p.command, command);
	ck_assert_int_eq(p.state, 'S');
	ck_assert_uint_eq(p.threads, 17);
	ck_assert_uint_eq(p.start_time, 987654321);
}

START_TEST(a_command_may_hold_spaces_and_parentheses)
{
	parses("12 (plain)" STAT_TAIL, "plain");
	parses("12 (two words)" STAT_TAIL, "two words");
	parses("12 (a) R 1 (b)" STAT_TAIL, "a) R 1 (b");
	parses("12 ())" STAT_TAIL, ")");
	parses("12 ()" STAT_TAIL, "");
	parses("12 (kworker/u8:2-events_unbound_and_more_of_it)" STAT_TAIL,
	       "kworker/u8:2-events_unbound_and");
}
END_TEST

START_TEST(what_is_no_stat_line_is_refused)
{
	const char *bad[] = {"",		"12",	       "12 (x",	    "12 x) S 1",
			     ") (",		"12 (x)",      "12 (x) ",   "12 (x) S",
			     "12 (x) S 1 2 3 ", "12 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 0 ",
			     "12 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 -7 0 -9 1"};
	struct client_process p;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_int_eq(client_process_parse(bad[i], &p), -EINVAL);
}
END_TEST

START_TEST(a_process_that_is_not_there_is_told)
{
	struct client_process p;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	ck_assert_int_eq(client_process(pid, &p), -ESRCH);
}
END_TEST

START_TEST(what_a_process_ended_with_is_told_until_it_is_waited_for)
{
	struct client_process p;
	siginfo_t ended;
	pid_t pid;

	ck_assert_int_eq(client_process_parse("12 (x)" STAT_TAIL, &p), 0);
	ck_assert_int_eq(p.exit_code, -1); /* a kernel that does not tell */
	ck_assert_int_eq(client_process(getpid(), &p), 0);
	ck_assert_int_eq(p.exit_code, 0);
	pid = fork();
	if (pid == 0)
		_exit(7);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT), 0);
	ck_assert_int_eq(client_process(pid, &p), 0);
	ck_assert_int_eq(p.state, 'Z');
	ck_assert_int_eq(p.exit_code, 7 << 8);
	waitpid(pid, NULL, 0);
}
END_TEST

/* ---- marks ---- */

START_TEST(marks_are_found_in_order_and_dropped)
{
	uint64_t regions = geometry_regions(&arena.g), found = 0;
	bool *expected = calloc(regions, 1);

	srand((unsigned)test_seed("marks_are_found_in_order_and_dropped"));
	ck_assert_int_eq(client_claim(&arena), 0);
	for (int i = 0; i < 300; i++) {
		uint64_t page = (((uint64_t)rand() << 24) ^ (uint64_t)rand()) % (arena.g.capacity >> PAGE_SHIFT);

		ck_assert_int_eq(client_mark_page(&arena, page), 0);
		expected[page / REGION_PAGES] = true;
		ck_assert(client_marked(&arena, 1, page));
	}
	for (uint64_t region = client_marks_next(&arena, 1, 0), at = 0; at < regions; at++) {
		if ((region == at) != expected[at]) /* an assertion a region would take minutes */
			ck_abort_msg("region %llu", (unsigned long long)at);
		if (region == at) {
			client_marks_drop(&arena, 1, region);
			ck_assert(!client_marked(&arena, 1, region * REGION_PAGES));
			region = client_marks_next(&arena, 1, region);
			found++;
		}
	}
	ck_assert_uint_gt(found, 0);
	ck_assert(client_marks_next(&arena, 1, 0) == CLIENT_NO_REGION);
	free(expected);
}
END_TEST

START_TEST(first_and_last_region_are_regions)
{
	uint64_t last = geometry_regions(&arena.g) - 1;

	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_int_eq(client_mark_page(&arena, 0), 0);
	ck_assert_int_eq(client_mark_page(&arena, (arena.g.capacity >> PAGE_SHIFT) - 1), 0);
	ck_assert_uint_eq(client_marks_next(&arena, 1, 0), 0);
	ck_assert_uint_eq(client_marks_next(&arena, 1, 1), last);
	ck_assert_uint_eq(client_marks_next(&arena, 1, last), last);
	ck_assert(client_marks_next(&arena, 1, last + 1) == CLIENT_NO_REGION);
	ck_assert(client_marks_next(&arena, 1, UINT64_MAX - 1) == CLIENT_NO_REGION);
	client_marks_drop(&arena, 1, last + 1); /* not there: nothing happens */
	ck_assert_int_eq(client_prepare_zone(&arena, arena.g.zone_count), -EINVAL);
	ck_assert_int_eq(client_prepare_zone(&arena, UINT64_MAX / 2), -EINVAL);
	client_marks_clear(&arena, 1);
	client_marks_clear(&arena, 1);
	ck_assert(client_marks_next(&arena, 1, 0) == CLIENT_NO_REGION);
}
END_TEST

static uint64_t blocks(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(arena.files.fd, &st), 0);
	return (uint64_t)st.st_blocks;
}

START_TEST(who_reads_the_marks_of_another_touches_no_hole)
{
	uint64_t pages = arena.g.capacity >> PAGE_SHIFT, before, regions = 0;
	uint32_t number;
	pid_t pid = sleeping_client(&number);

	ck_assert_int_eq(client_claim(&arena), 0);
	before = blocks();
	ck_assert(client_marks_next(&arena, number, 0) == CLIENT_NO_REGION);
	client_marks_clear(&arena, number);
	for (uint64_t page = 0; page < pages; page += 12345)
		ck_assert(!client_marked(&arena, number, page));
	ck_assert_uint_eq(blocks(), before);
	/* Far off, the leaf is memory only where it was prepared. */
	ck_assert_int_eq(client_mark_page(&arena, pages - 1), 0);
	ck_assert_uint_eq(blocks(), before + PAGE_SIZE / 512);
	for (uint64_t r = 0; (r = client_marks_next(&arena, arena.client, r)) != CLIENT_NO_REGION; r++)
		regions++;
	ck_assert_uint_eq(regions, 1);
	ck_assert_uint_eq(blocks(), before + PAGE_SIZE / 512);
	end(pid);
}
END_TEST

START_TEST(owned_bytes_are_counted)
{
	ck_assert_int_eq(client_claim(&arena), 0);
	client_owned_add(&arena, 1, 4096);
	client_owned_add(&arena, 1, -1024);
	ck_assert_int_eq(client_owned(&arena, 1), 3072);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("client");
	TCase *slots = tcase_create("slots"), *proc = tcase_create("processes");
	TCase *marks = tcase_create("marks"), *big = tcase_create("a big arena");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(slots, setup, teardown);
	tcase_add_test(slots, a_claim_fills_the_record_and_holds_the_lock);
	tcase_add_test(slots, others_see_the_lock);
	tcase_add_test(slots, a_second_claim_changes_nothing);
	tcase_add_test(slots, a_read_only_view_has_no_slot);
	tcase_add_test(slots, without_a_life_file_nothing_is_claimed);
	tcase_add_test(slots, a_slot_goes_to_a_new_incarnation);
	tcase_add_test(slots, a_free_slot_whose_lock_is_held_is_passed_over);
	tcase_add_test(slots, when_all_slots_are_taken_the_claim_says_so);
	tcase_add_test(slots, many_processes_at_once_get_slots_of_their_own);
	tcase_add_test(slots, a_forked_child_is_a_client_of_its_own);
	tcase_add_test(slots, release_frees_a_slot_that_owns_nothing);
	tcase_add_test(slots, release_is_refused_while_something_may_be_owned);
	tcase_add_test(slots, owned_bytes_are_counted);
	tcase_add_test(proc, a_command_may_hold_spaces_and_parentheses);
	tcase_add_test(proc, what_is_no_stat_line_is_refused);
	tcase_add_test(proc, a_process_that_is_not_there_is_told);
	tcase_add_test(proc, what_a_process_ended_with_is_told_until_it_is_waited_for);
	tcase_add_checked_fixture(marks, setup, teardown);
	tcase_add_test(marks, marks_are_found_in_order_and_dropped);
	tcase_add_test(marks, first_and_last_region_are_regions);
	tcase_add_checked_fixture(big, setup_big, teardown);
	tcase_add_test(big, marks_are_found_in_order_and_dropped);
	tcase_add_test(big, first_and_last_region_are_regions);
	tcase_add_test(big, who_reads_the_marks_of_another_touches_no_hole);
	suite_add_tcase(s, slots);
	suite_add_tcase(s, proc);
	suite_add_tcase(s, marks);
	suite_add_tcase(s, big);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
