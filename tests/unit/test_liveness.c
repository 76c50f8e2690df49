/* SPDX-License-Identifier: Apache-2.0 */
/* Who is dead and who is not, with real processes: killed, stopped, execed, zombies, without their lock. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_file.h"
#include "liveness.h"
#include "words.h"

static struct arena arena;
static int pipes[2]; /* a child says: ready */
static const char *self_path = "/proc/self/exe";

static void setup(void)
{
	struct arena_config config = {
		.name = "life", .capacity = CAPACITY_MIN, .log_capacity = 65536, .backing = BACKING_MEMFD};
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&arena, files, false), 0);
	ck_assert_int_eq(client_claim(&arena), 0);
	ck_assert_int_eq(pipe(pipes), 0);
}

static void teardown(void)
{
	close(pipes[0]);
	close(pipes[1]);
	arena_unmap(&arena);
}

static uint64_t word_of(uint32_t client)
{
	return atomic_load(client_word_at(&arena, client));
}

static void set_word(uint32_t client, uint64_t word)
{
	atomic_store(client_word_at(&arena, client), word);
	if (atomic_load(&arena.header->clients_high) <= client)
		atomic_store(&arena.header->clients_high, client + 1);
	ck_assert_int_eq(arena_commit(&arena, client_area_at(&arena, client), PAGE_SIZE), 0);
}

static void ready(void)
{
	if (write(pipes[1], &arena.client, sizeof(arena.client)) != sizeof(arena.client))
		_exit(1);
}

static void sleep_for_ever(void)
{
	for (;;)
		pause();
}

/* A child that becomes a client and then does what it is told; its number when it is ready. */
static pid_t client_doing(void (*what)(void), uint32_t *number)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (client_fork_child(&arena))
			_exit(1);
		what();
		_exit(0);
	}
	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(read(pipes[0], number, sizeof(*number)), sizeof(*number));
	return pid;
}

static void just_live(void)
{
	ready();
	sleep_for_ever();
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* What the kernel does at a process's end takes a moment to be done. */
static enum liveness settled(uint32_t client)
{
	enum liveness verdict = liveness_of(&arena, client);

	for (int i = 0; i < 60000 && verdict != LIVENESS_DEAD; i++) {
		usleep(1000);
		verdict = liveness_of(&arena, client);
	}
	return verdict;
}

static void stays(uint32_t client, enum liveness verdict)
{
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(liveness_of(&arena, client), verdict);
		ck_assert(!liveness_claim_recovery(&arena, client));
		usleep(1000);
	}
}

/* ---- verdicts ---- */

START_TEST(own_number_is_alive)
{
	stays(arena.client, LIVENESS_ALIVE);
}
END_TEST

START_TEST(no_client_is_none)
{
	ck_assert_int_eq(liveness_of(&arena, 0), LIVENESS_NONE);
	ck_assert_int_eq(liveness_of(&arena, 7), LIVENESS_NONE);
	ck_assert_int_eq(liveness_of(&arena, CLIENTS_MAX), LIVENESS_NONE);
	ck_assert(!liveness_claim_recovery(&arena, 0));
	ck_assert(!liveness_claim_recovery(&arena, 7));
	ck_assert(!liveness_claim_recovery(&arena, CLIENTS_MAX));
}
END_TEST

START_TEST(a_killed_client_is_dead)
{
	uint32_t n;
	pid_t pid = client_doing(just_live, &n);

	ck_assert_int_eq(liveness_of(&arena, n), LIVENESS_ALIVE);
	end(pid);
	ck_assert_int_eq(liveness_of(&arena, n), LIVENESS_DEAD);
	ck_assert(liveness_is_dead(&arena, n));
}
END_TEST

START_TEST(a_killed_client_nobody_waited_for_is_dead)
{
	uint32_t n;
	pid_t pid = client_doing(just_live, &n);

	kill(pid, SIGKILL);
	ck_assert_int_eq(settled(n), LIVENESS_DEAD);
	waitpid(pid, NULL, 0);
}
END_TEST

START_TEST(a_stopped_client_is_alive)
{
	uint32_t n;
	pid_t pid = client_doing(just_live, &n);

	kill(pid, SIGSTOP);
	waitpid(pid, NULL, WUNTRACED);
	stays(n, LIVENESS_ALIVE);
	end(pid);
}
END_TEST

static void lose_the_lock(void)
{
	int keep = dup2(pipes[1], 3);

	closefrom(4);
	pipes[1] = keep;
	ready();
	sleep_for_ever();
}

START_TEST(a_client_that_closed_all_its_files_is_alive)
{
	uint32_t n;
	pid_t pid = client_doing(lose_the_lock, &n);

	ck_assert_int_eq(client_locked(&arena, n), 0);
	stays(n, LIVENESS_ALIVE);
	kill(pid, SIGSTOP);
	waitpid(pid, NULL, WUNTRACED);
	stays(n, LIVENESS_ALIVE);
	end(pid);
	ck_assert_int_eq(liveness_of(&arena, n), LIVENESS_DEAD);
}
END_TEST

static void unmap_and_lose_the_lock(void)
{
	munmap(arena.reservation, arena.reservation_size);
	lose_the_lock();
}

static void *run_on(void *unused)
{
	(void)unused;
	usleep(20000); /* the first thread has ended by then, or nearly */
	ready();
	sleep_for_ever();
	return NULL;
}

static void end_first_thread(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, run_on, NULL))
		_exit(1);
	syscall(SYS_exit, 0);
}

static void wait_for_zombie(pid_t pid)
{
	struct client_process p;

	do {
		usleep(1000);
		ck_assert_int_eq(client_process(pid, &p), 0);
	} while (p.state != 'Z');
	ck_assert_uint_gt(p.threads, 1);
}

START_TEST(a_zombie_with_running_threads_is_alive)
{
	uint32_t n;
	pid_t pid = client_doing(end_first_thread, &n);

	wait_for_zombie(pid);
	ck_assert_int_eq(client_locked(&arena, n), 1);
	stays(n, LIVENESS_ALIVE);
	end(pid);
	ck_assert_int_eq(liveness_of(&arena, n), LIVENESS_DEAD);
}
END_TEST

static void end_first_thread_without_the_lock(void)
{
	int keep = dup2(pipes[1], 3);

	closefrom(4);
	pipes[1] = keep;
	end_first_thread();
}

START_TEST(a_zombie_with_running_threads_is_alive_without_its_lock)
{
	uint32_t n;
	pid_t pid = client_doing(end_first_thread_without_the_lock, &n);

	wait_for_zombie(pid);
	ck_assert_int_eq(client_locked(&arena, n), 0);
	stays(n, LIVENESS_ALIVE);
	kill(pid, SIGKILL);
	ck_assert_int_eq(settled(n), LIVENESS_DEAD);
	waitpid(pid, NULL, 0);
}
END_TEST

START_TEST(who_has_neither_lock_nor_memory_of_the_arena_is_dead)
{
	uint32_t n;
	pid_t pid = client_doing(unmap_and_lose_the_lock, &n);

	ck_assert_int_eq(liveness_of(&arena, n), LIVENESS_DEAD);
	end(pid);
}
END_TEST

/* ---- exec ---- */

/* This program again, as another: it says that it runs, and sleeps. Memfds have no path to map it by, so
 * the descriptors come along. */
#define REBORN "--reborn"

static void exec_self(const char *arena_fd, const char *life_fd)
{
	char out[16];

	snprintf(out, sizeof(out), "%d", pipes[1]);
	execl(self_path, "test_liveness", REBORN, out, arena_fd, life_fd, (char *)NULL);
	_exit(1);
}

static void become_another_program(void)
{
	exec_self("-1", "-1");
}

static void become_a_program_that_attaches_again(void)
{
	char fd[16], life[16];

	/* The life file's copy would drop the lock when closed, but exec drops it anyway. */
	snprintf(fd, sizeof(fd), "%d", dup(arena.files.fd));
	snprintf(life, sizeof(life), "%d", dup(arena.files.life_fd));
	exec_self(fd, life);
}

static int reborn(char **argv)
{
	struct arena_files files = {.fd = atoi(argv[1]), .life_fd = atoi(argv[2]), .heap_fd = -1};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pipes[1] = atoi(argv[0]);
	if (files.fd >= 0 && (arena_map(&arena, files, false) || client_claim(&arena)))
		return 1;
	ready();
	sleep_for_ever();
	return 0;
}

START_TEST(exec_is_a_death)
{
	uint32_t before = arena.client + 1, n;
	pid_t pid = client_doing(become_another_program, &n);

	ck_assert_uint_eq(n, 0); /* it says so as a program without a client */
	ck_assert_int_eq(liveness_of(&arena, before), LIVENESS_DEAD);
	ck_assert(liveness_claim_recovery(&arena, before));
	end(pid);
}
END_TEST

START_TEST(exec_is_a_death_even_if_the_program_attaches_again)
{
	uint32_t before = arena.client + 1, n;
	pid_t pid = client_doing(become_a_program_that_attaches_again, &n);

	ck_assert_uint_eq(n, before + 1);
	ck_assert_int_eq(liveness_of(&arena, before), LIVENESS_DEAD);
	ck_assert_int_eq(liveness_of(&arena, n), LIVENESS_ALIVE);
	/* Even where the loader put the arena at the old place. */
	atomic_store(&client_record_at(&arena, before)->base,
		     atomic_load(&client_record_at(&arena, n)->base));
	ck_assert_int_eq(liveness_of(&arena, before), LIVENESS_DEAD);
	ck_assert_int_eq(liveness_of(&arena, n), LIVENESS_ALIVE);
	end(pid);
}
END_TEST

/* ---- records that tell nothing, or another's ---- */

static void write_pid(uint32_t client, pid_t pid, uint64_t start_time)
{
	struct client_record *r = client_record_at(&arena, client);

	atomic_store(&r->start_time, start_time);
	atomic_store(&r->base, (uint64_t)(uintptr_t)arena.base);
	atomic_store(&r->pid, pid);
}

START_TEST(a_number_given_to_another_process_is_dead)
{
	uint32_t n;
	pid_t pid = client_doing(just_live, &n);
	struct client_process p;

	ck_assert_int_eq(client_process(pid, &p), 0);
	set_word(9, client_word(CLIENT_LIVE, 0, 1));
	write_pid(9, pid, p.start_time + 1);
	ck_assert_int_eq(liveness_of(&arena, 9), LIVENESS_DEAD);
	end(pid);
}
END_TEST

START_TEST(a_slot_that_never_got_its_record_is_dead_without_its_lock)
{
	set_word(9, client_word(CLIENT_OPENING, 0, 1));
	ck_assert_int_eq(liveness_of(&arena, 9), LIVENESS_DEAD);
}
END_TEST

START_TEST(nonsense_is_not_proof)
{
	set_word(9, client_word(CLIENT_LIVE, 0, 1));
	write_pid(9, -1, 1);
	stays(9, LIVENESS_UNSURE);
	set_word(9, UINT64_C(0xffffffffffffffff));
	stays(9, LIVENESS_NONE);
}
END_TEST

/* Another user's process, which we may not look into. */
static void become_nobody_and_judge(void)
{
	enum liveness verdict;

	close(arena.files.life_fd); /* looks as if the lock were gone */
	arena.files.life_fd = open("/dev/null", O_RDWR);
	if (setgid(65534) || setuid(65534))
		_exit(77);
	arena.client = 0;
	verdict = liveness_of(&arena, 1);
	_exit(verdict == LIVENESS_UNSURE ? 0 : 1 + (int)verdict);
}

START_TEST(who_may_not_look_is_not_sure)
{
	int status;
	pid_t pid;

	if (getuid() != 0) {
		printf("who_may_not_look_is_not_sure: skipped, needs root\n");
		return;
	}
	pid = fork();
	if (pid == 0)
		become_nobody_and_judge();
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

START_TEST(without_the_life_file_nobody_is_dead)
{
	uint32_t n;
	pid_t pid = client_doing(just_live, &n);
	int life = arena.files.life_fd;

	end(pid);
	arena.files.life_fd = -1;
	stays(n, LIVENESS_UNSURE);
	arena.files.life_fd = life;
}
END_TEST

/* ---- recoverers ---- */

START_TEST(a_recovered_slot_is_free_and_its_next_tenant_a_new_incarnation)
{
	uint32_t n, again;
	pid_t pid = client_doing(just_live, &n);

	ck_assert(!liveness_claim_recovery(&arena, n));
	end(pid);
	ck_assert(liveness_claim_recovery(&arena, n));
	ck_assert_int_eq(client_word_state(word_of(n)), CLIENT_RECOVERING);
	ck_assert_uint_eq(client_word_recoverer(word_of(n)), arena.client);
	ck_assert_int_eq(liveness_of(&arena, n), LIVENESS_DEAD);
	ck_assert(liveness_claim_recovery(&arena, n)); /* it is mine already */
	liveness_finish_recovery(&arena, n);
	ck_assert_uint_eq(word_of(n), client_word(CLIENT_FREE, 0, 1));
	ck_assert_int_eq(liveness_of(&arena, n), LIVENESS_NONE);
	pid = client_doing(just_live, &again);
	ck_assert_uint_eq(again, n);
	ck_assert_uint_eq(client_word_incarnation(word_of(n)), 2);
	stays(n, LIVENESS_ALIVE);
	liveness_finish_recovery(&arena, n); /* not ours to finish */
	stays(n, LIVENESS_ALIVE);
	end(pid);
}
END_TEST

static uint32_t victim;

static void recover_victim_and_wait(void)
{
	if (!liveness_claim_recovery(&arena, victim))
		_exit(1);
	ready();
	sleep_for_ever();
}

START_TEST(a_stopped_recoverer_keeps_its_job_and_a_dead_one_loses_it)
{
	uint32_t r;
	pid_t pid = client_doing(just_live, &victim), recoverer;

	/* The recoverer must not get the victim's slot. */
	kill(pid, SIGKILL);
	ck_assert_int_eq(settled(victim), LIVENESS_DEAD);
	recoverer = client_doing(recover_victim_and_wait, &r);
	ck_assert_uint_ne(r, victim);
	kill(recoverer, SIGSTOP);
	waitpid(recoverer, NULL, WUNTRACED);
	for (int i = 0; i < 20; i++)
		ck_assert(!liveness_claim_recovery(&arena, victim));
	end(recoverer);
	ck_assert(liveness_claim_recovery(&arena, victim));
	ck_assert_uint_eq(client_word_recoverer(word_of(victim)), arena.client);
	waitpid(pid, NULL, 0);
}
END_TEST

START_TEST(what_a_dead_recoverer_had_goes_to_nobody_before_its_number_is_free)
{
	uint32_t r;
	pid_t pid = client_doing(just_live, &victim), recoverer;
	uint64_t before;

	end(pid);
	recoverer = client_doing(recover_victim_and_wait, &r);
	end(recoverer);
	before = word_of(victim);
	ck_assert(liveness_claim_recovery(&arena, r));
	liveness_finish_recovery(&arena, r);
	ck_assert_int_eq(client_word_state(word_of(r)), CLIENT_FREE);
	ck_assert_int_eq(client_word_state(word_of(victim)), CLIENT_RECOVERING);
	ck_assert_uint_eq(client_word_recoverer(word_of(victim)), 0);
	ck_assert_uint_ne(word_of(victim) >> CLIENT_HANDOVER_SHIFT, before >> CLIENT_HANDOVER_SHIFT);
	ck_assert_uint_eq(client_word_incarnation(word_of(victim)), client_word_incarnation(before));
	ck_assert(liveness_claim_recovery(&arena, victim));
}
END_TEST

/*
 * Somebody has found recoverer R dead and is stopped before its swap; R's slot is recovered and goes to
 * a new R, which recovers the same victim. The word differs from the one judged, by its handover.
 */
START_TEST(a_new_recoverer_of_the_same_number_has_another_word)
{
	uint64_t judged, now;

	set_word(30, client_word(CLIENT_RECOVERING, 31, 5) | UINT64_C(1) << CLIENT_HANDOVER_SHIFT);
	judged = word_of(30);
	liveness_release_recoveries(&arena, 31);
	set_word(31, client_word(CLIENT_FREE, 0, 1));
	arena.client = 31; /* the new bearer */
	ck_assert(liveness_claim_recovery(&arena, 30));
	now = word_of(30);
	arena.client = 1;
	ck_assert_uint_eq(client_word_recoverer(now), client_word_recoverer(judged));
	ck_assert_uint_ne(now, judged);
	ck_assert_uint_eq(client_word_incarnation(now), 5);
}
END_TEST

START_TEST(handovers_wrap_without_harm_to_the_incarnation)
{
	set_word(30, client_word(CLIENT_RECOVERING, 0, 0xffffffff) |
			     UINT64_C(0xffff) << CLIENT_HANDOVER_SHIFT);
	ck_assert(liveness_claim_recovery(&arena, 30));
	ck_assert_uint_eq(client_word_incarnation(word_of(30)), 0xffffffff);
	ck_assert_uint_eq(word_of(30) >> CLIENT_HANDOVER_SHIFT, 0);
	liveness_finish_recovery(&arena, 30);
	ck_assert_uint_eq(word_of(30), client_word(CLIENT_FREE, 0, 0xffffffff));
}
END_TEST

/* Tells 1 if it won. It lives on: a dead winner would have an heir. */
static void race_for_victim(void)
{
	uint32_t won = 0;

	ready();
	while (!won && client_word_state(word_of(victim)) != CLIENT_RECOVERING)
		won = liveness_claim_recovery(&arena, victim);
	if (write(pipes[1], &won, sizeof(won)) != sizeof(won))
		_exit(1);
	sleep_for_ever();
}

START_TEST(of_several_recoverers_one_wins)
{
	for (int round = 0; round < 10; round++) {
		pid_t pid = client_doing(just_live, &victim), racers[4];
		uint32_t n, won, winners = 0;

		for (int i = 0; i < 4; i++)
			racers[i] = client_doing(race_for_victim, &n);
		kill(pid, SIGKILL);
		for (int i = 0; i < 4; i++) {
			ck_assert_int_eq(read(pipes[0], &won, sizeof(won)), sizeof(won));
			winners += won;
		}
		ck_assert_uint_eq(winners, 1);
		waitpid(pid, NULL, 0);
		for (int i = 0; i < 4; i++)
			end(racers[i]);
		for (uint32_t i = 2; i < client_high(&arena); i++) {
			if (liveness_is_dead(&arena, i) && liveness_claim_recovery(&arena, i))
				liveness_finish_recovery(&arena, i);
		}
	}
}
END_TEST

/* ---- killed at any instruction ---- */

/*
 * Runs body in a traced child, one instruction at a time, and kills it after `kill_at` of them (0: runs
 * it to its end). How many it made; changes gets those after which the word or the pid had changed.
 */
static long step_child(void (*body)(void), long kill_at, uint32_t client, long *changes, int *count)
{
	long steps = 0;
	uint64_t word = word_of(client);
	int32_t written = 0;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		body();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	while (WIFSTOPPED(status) && (kill_at == 0 || steps < kill_at)) {
		if (changes && (word != word_of(client) ||
				(client_word_state(word) != CLIENT_FREE &&
				 written != atomic_load(&client_record_at(&arena, client)->pid)))) {
			word = word_of(client);
			if (client_word_state(word) != CLIENT_FREE)
				written = atomic_load(&client_record_at(&arena, client)->pid);
			changes[(*count)++] = steps;
			ck_assert_int_lt(*count, 64);
		}
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		steps++;
	}
	if (WIFSTOPPED(status))
		end(pid);
	return steps;
}

static void claim_and_release(void)
{
	if (client_fork_child(&arena) || client_release(&arena))
		_exit(1);
}

#ifndef __SANITIZE_THREAD__ /* it would be that tool's own instructions, some 50,000, again and again */
START_TEST(killed_anywhere_in_claim_or_release_a_slot_is_free_again)
{
	long changes[64], last;
	int count = 0;

	step_child(claim_and_release, 0, 2, changes, &count);
	/* Opening, pid, live; opening, no pid, free. */
	ck_assert_int_ge(count, 6);
	last = changes[count - 1] + 2; /* the rest is the child's end */
	for (int i = 0; i < 3 * count + 20; i++) {
		long at = i < 3 * count ? changes[i / 3] + i % 3 - 1 : last * (i - 3 * count) / 20 + 1;

		step_child(claim_and_release, at, 2, NULL, NULL);
		if (client_word_state(word_of(2)) != CLIENT_FREE) {
			ck_assert_int_eq(liveness_of(&arena, 2), LIVENESS_DEAD);
			ck_assert(liveness_claim_recovery(&arena, 2));
			ck_assert(client_marks_next(&arena, 2, 0) == CLIENT_NO_REGION);
			liveness_finish_recovery(&arena, 2);
		}
		ck_assert_int_eq(client_word_state(word_of(2)), CLIENT_FREE);
		ck_assert_int_eq(client_locked(&arena, 2), 0);
	}
}
END_TEST
#endif

static TCase *verdicts(void)
{
	TCase *t = tcase_create("verdicts");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, own_number_is_alive);
	tcase_add_test(t, no_client_is_none);
	tcase_add_test(t, a_killed_client_is_dead);
	tcase_add_test(t, a_killed_client_nobody_waited_for_is_dead);
	tcase_add_test(t, a_stopped_client_is_alive);
	tcase_add_test(t, a_client_that_closed_all_its_files_is_alive);
	tcase_add_test(t, a_zombie_with_running_threads_is_alive);
	tcase_add_test(t, a_zombie_with_running_threads_is_alive_without_its_lock);
	tcase_add_test(t, who_has_neither_lock_nor_memory_of_the_arena_is_dead);
	tcase_add_test(t, exec_is_a_death);
	tcase_add_test(t, exec_is_a_death_even_if_the_program_attaches_again);
	tcase_add_test(t, a_number_given_to_another_process_is_dead);
	tcase_add_test(t, a_slot_that_never_got_its_record_is_dead_without_its_lock);
	tcase_add_test(t, nonsense_is_not_proof);
	tcase_add_test(t, who_may_not_look_is_not_sure);
	tcase_add_test(t, without_the_life_file_nobody_is_dead);
	return t;
}

static TCase *recoverers(void)
{
	TCase *t = tcase_create("recoverers");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_recovered_slot_is_free_and_its_next_tenant_a_new_incarnation);
	tcase_add_test(t, a_stopped_recoverer_keeps_its_job_and_a_dead_one_loses_it);
	tcase_add_test(t, what_a_dead_recoverer_had_goes_to_nobody_before_its_number_is_free);
	tcase_add_test(t, a_new_recoverer_of_the_same_number_has_another_word);
	tcase_add_test(t, handovers_wrap_without_harm_to_the_incarnation);
	tcase_add_test(t, of_several_recoverers_one_wins);
#ifndef __SANITIZE_THREAD__
	tcase_add_test(t, killed_anywhere_in_claim_or_release_a_slot_is_free_again);
#endif
	return t;
}

int main(int argc, char **argv)
{
	Suite *s = suite_create("liveness");
	SRunner *runner;
	int failed;

	if (argc == 5 && strcmp(argv[1], REBORN) == 0)
		return reborn(argv + 2);
	suite_add_tcase(s, verdicts());
	suite_add_tcase(s, recoverers());
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
