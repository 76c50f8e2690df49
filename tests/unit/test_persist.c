/* SPDX-License-Identifier: Apache-2.0 */
/* Persisting into a cell: both or neither, whatever the caller is killed after. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "names.h"
#include "object.h"
#include "persist.h"
#include "recovery.h"
#include "thread.h"
#include "words.h"

#define CELL 3 /* of the container's eight */

static struct arena arena;
static uint64_t container;
static _Atomic uint64_t *cells;

static struct shared {
	uint64_t handle;
	uint32_t client;
	int result;
} *shared;

static uint64_t object_of(uint64_t size, enum object_kind kind)
{
	struct object_want want = {.size = size, .zero = true, .kind = kind};
	int err = 0;
	uint64_t h = object_alloc(&arena, &want, &err);

	if (!h)
		abort();
	return h;
}

static uint64_t object(enum object_kind kind)
{
	return object_of(64, kind);
}

static enum object_kind kind_of(uint64_t handle)
{
	uint32_t client;

	return object_kind_of(&arena, handle, &client);
}

static void *at(uint64_t handle)
{
	return arena.heap + handle_offset(handle);
}

static struct thread_block *block(void)
{
	int err = 0;
	struct thread_block *t = thread_self(&arena, &err);

	if (!t)
		abort();
	return t;
}

static void setup(void)
{
	struct arena_config config = {.name = "persist",
				      .capacity = UINT64_C(64) << 20,
				      .log_capacity = 65536,
				      .backing = BACKING_MEMFD};
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&arena, files, false), 0);
	ck_assert_int_eq(thread_attach_arena(&arena), 0);
	ck_assert_int_eq(thread_become_client(&arena), 0);
	container = object(OBJECT_PERSISTENT);
	cells = at(container);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(shared != MAP_FAILED);
}

static void teardown(void)
{
	munmap(shared, sizeof(*shared));
	thread_detach_arena(&arena);
	arena_unmap(&arena);
}

START_TEST(the_object_is_the_arenas_and_its_handle_in_the_cell)
{
	uint64_t h = object(OBJECT_PRIVATE), offered = object(OBJECT_SHARED);

	ck_assert_int_eq(persist_object(&arena, block(), h, &cells[0]), 0);
	ck_assert_uint_eq(cells[0], h);
	ck_assert_int_eq(kind_of(h), OBJECT_PERSISTENT);
	ck_assert_uint_eq(atomic_load(&block()->intent.armed), 0);
	ck_assert_int_eq(persist_object(&arena, block(), offered, &cells[7]), 0);
	ck_assert_uint_eq(cells[7], offered);
	ck_assert_uint_eq(cells[1], 0);
}
END_TEST

START_TEST(what_is_the_arenas_already_gets_its_cell)
{
	uint64_t h = object(OBJECT_PERSISTENT);

	ck_assert_int_eq(persist_object(&arena, block(), h, &cells[0]), 0);
	ck_assert_uint_eq(cells[0], h);
	ck_assert_int_eq(kind_of(h), OBJECT_PERSISTENT);
}
END_TEST

START_TEST(a_cell_may_lie_in_a_published_or_a_large_object)
{
	uint64_t root = object(OBJECT_PRIVATE), large = object_of(300000, OBJECT_PERSISTENT);
	uint64_t h = object(OBJECT_PRIVATE);
	_Atomic uint64_t *last = (_Atomic uint64_t *)((char *)at(large) + 299992);

	ck_assert_int_eq(names_publish(&arena, "root", root), 0);
	ck_assert_int_eq(persist_object(&arena, block(), h, at(root)), 0);
	ck_assert_uint_eq(*(uint64_t *)at(root), h);
	h = object(OBJECT_PRIVATE);
	ck_assert_int_eq(persist_object(&arena, block(), h, last), 0);
	ck_assert_uint_eq(*last, h);
}
END_TEST

START_TEST(a_cell_may_lie_anywhere_in_a_large_object_of_a_class)
{
	uint64_t large = object_of(1 << 20, OBJECT_PERSISTENT), other = object_of(1 << 20, OBJECT_PRIVATE);

	for (uint64_t offset = 0; offset < 1 << 20; offset += 65528) {
		uint64_t h = object(OBJECT_PRIVATE);
		_Atomic uint64_t *cell = (_Atomic uint64_t *)((char *)at(large) + offset);

		ck_assert_int_eq(persist_object(&arena, block(), h, cell), 0);
		ck_assert_uint_eq(*cell, h);
		ck_assert_uint_eq(object_containing(&arena, handle_offset(large) + offset), large);
		cell = (_Atomic uint64_t *)((char *)at(other) + offset);
		h = object(OBJECT_PRIVATE);
		ck_assert_int_eq(persist_object(&arena, block(), h, cell), -EINVAL);
	}
	ck_assert_int_eq(object_free(&arena, large), 0);
	ck_assert_uint_ne(object_containing(&arena, handle_offset(large) + 65536), large);
	ck_assert_int_eq(object_free(&arena, other), 0);
}
END_TEST

START_TEST(a_cell_elsewhere_is_refused)
{
	uint64_t h = object(OBJECT_PRIVATE), private = object(OBJECT_PRIVATE), freed = object(OBJECT_PERSISTENT);
	uint64_t mine = 0;
	uintptr_t odd = (uintptr_t)cells + 4;

	ck_assert_int_eq(object_free(&arena, freed), 0);
	ck_assert_int_eq(persist_object(&arena, block(), h, (_Atomic uint64_t *)&mine), -EINVAL);
	ck_assert_int_eq(persist_object(&arena, block(), h, NULL), -EINVAL);
	ck_assert_int_eq(persist_object(&arena, block(), h, (_Atomic uint64_t *)odd), -EINVAL);
	ck_assert_int_eq(persist_object(&arena, block(), h, at(private)), -EINVAL);
	ck_assert_int_eq(persist_object(&arena, block(), h, at(freed)), -EINVAL);
	ck_assert_int_eq(persist_object(&arena, block(), h,
					(_Atomic uint64_t *)(arena.heap + arena.g.capacity)), -EINVAL);
	ck_assert_int_eq(persist_object(&arena, block(), h,
					(_Atomic uint64_t *)(arena.heap + arena.g.capacity - 8)), -EINVAL);
	ck_assert_int_eq(persist_object(&arena, block(), h, (_Atomic uint64_t *)arena.pages), -EINVAL);
	ck_assert_uint_eq(mine, 0);
	ck_assert_int_eq(kind_of(h), OBJECT_PRIVATE);
}
END_TEST

START_TEST(an_object_not_mine_to_give_is_refused_and_the_cell_untouched)
{
	uint64_t stale = object(OBJECT_PRIVATE), root = object(OBJECT_PRIVATE);

	ck_assert_int_eq(object_free(&arena, stale), 0);
	ck_assert_int_eq(names_publish(&arena, "root", root), 0);
	cells[0] = 77;
	ck_assert_int_eq(persist_object(&arena, block(), stale, &cells[0]), -ESTALE);
	ck_assert_int_eq(persist_object(&arena, block(), root, &cells[0]), -EBUSY);
	ck_assert_int_eq(persist_object(&arena, block(), 0, &cells[0]), -EINVAL);
	ck_assert_int_eq(persist_object(&arena, block(), ~UINT64_C(0), &cells[0]), -EINVAL);
	arena.readonly = true;
	ck_assert_int_eq(persist_object(&arena, block(), root, &cells[0]), -EROFS);
	arena.readonly = false;
	ck_assert_uint_eq(cells[0], 77);
	ck_assert_uint_eq(atomic_load(&block()->intent.armed), 0);
}
END_TEST

static pid_t child_with_object(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		shared->handle = object(OBJECT_PRIVATE);
		shared->client = arena.client;
		raise(SIGSTOP);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

START_TEST(anothers_object_is_refused)
{
	pid_t pid = child_with_object();

	ck_assert_int_eq(persist_object(&arena, block(), shared->handle, &cells[0]), -EPERM);
	ck_assert_uint_eq(cells[0], 0);
	end(pid);
}
END_TEST

/* ---- recovery, from intents written by hand ---- */

static struct thread_block dead;

static void intend(uint64_t handle, uint64_t cell_offset, uint64_t in, uint64_t old)
{
	memset(&dead, 0, sizeof(dead));
	dead.intent.handle = handle;
	dead.intent.cell = cell_offset;
	dead.intent.container = in;
	dead.intent.old = old;
	atomic_store(&dead.intent.armed, 1);
}

static uint64_t cell_offset(void)
{
	return handle_offset(container) + CELL * 8;
}

START_TEST(the_handle_of_an_object_that_did_not_become_persistent_leaves_its_cell)
{
	uint64_t h = object(OBJECT_PRIVATE);

	/* Killed between the cell and the object's word, or before the cell. */
	ck_assert_int_eq(object_share(&arena, h), 0);
	cells[CELL] = h;
	intend(h, cell_offset(), container, 5);
	persist_recover(&arena, &dead, arena.client);
	ck_assert_uint_eq(cells[CELL], 5);
	persist_recover(&arena, &dead, arena.client);
	ck_assert_uint_eq(cells[CELL], 5);
	/* Somebody has used the cell since. */
	cells[CELL] = 6;
	persist_recover(&arena, &dead, arena.client);
	ck_assert_uint_eq(cells[CELL], 6);
	/* Killed behind the object's word: both. */
	ck_assert_int_eq(object_persist_word(&arena, h), 0);
	cells[CELL] = h;
	persist_recover(&arena, &dead, arena.client);
	ck_assert_uint_eq(cells[CELL], h);
}
END_TEST

/* One that was on its way, its handle in its cell. */
static uint64_t owed(void)
{
	uint64_t h = object(OBJECT_SHARED);

	cells[CELL] = h;
	return h;
}

static void nothing_happens(uint64_t handle, uint64_t offset, uint64_t in)
{
	cells[CELL] = handle;
	intend(handle, offset, in, 5);
	persist_recover(&arena, &dead, arena.client);
	ck_assert_uint_eq(cells[CELL], handle);
}

START_TEST(other_intents_are_dropped)
{
	uint64_t stale = owed(), other = object(OBJECT_PERSISTENT), h = owed();

	ck_assert_int_eq(object_free(&arena, stale), 0);
	intend(h, cell_offset(), container, 5);
	atomic_store(&dead.intent.armed, 0);
	persist_recover(&arena, &dead, arena.client);
	ck_assert_uint_eq(cells[CELL], h);
	atomic_store(&dead.intent.armed, 1);
	persist_recover(&arena, &dead, arena.client + 1); /* another's by now */
	ck_assert_uint_eq(cells[CELL], h);
	nothing_happens(stale, cell_offset(), container);
	nothing_happens(object(OBJECT_PERSISTENT), cell_offset(), container);
	nothing_happens(0, cell_offset(), container);
	nothing_happens(owed(), cell_offset(), 0);
	nothing_happens(owed(), cell_offset(), other);
	nothing_happens(owed(), cell_offset() + 4, container);
	nothing_happens(owed(), ~UINT64_C(0), container);
	nothing_happens(owed(), ~UINT64_C(7), container);
	nothing_happens(owed(), arena.g.capacity, container);
	nothing_happens(owed(), arena.g.capacity - 8, container);
}
END_TEST

START_TEST(a_cell_whose_object_has_gone_is_not_written_whoever_is_there_now)
{
	uint64_t h = owed(), offset = cell_offset(), next = 0;

	intend(h, offset, container, 0);
	ck_assert_int_eq(object_free(&arena, container), 0);
	persist_recover(&arena, &dead, arena.client);
	for (int i = 0; i < 4096 && handle_offset(next) != handle_offset(container); i++)
		next = object(OBJECT_PERSISTENT);
	ck_assert_uint_eq(handle_offset(next), handle_offset(container));
	ck_assert_uint_ne(next, container);
	h = owed();
	intend(h, offset, container, 0);
	persist_recover(&arena, &dead, arena.client);
	ck_assert_uint_eq(cells[CELL], h);
}
END_TEST

/* ---- killed after each change ---- */

#ifdef __x86_64__
#define DEBUG_REGISTERS 848 /* u_debugreg of struct user; <sys/user.h> has a PAGE_SIZE of its own */

static bool poke_debug(pid_t pid, int reg, uint64_t value)
{
	return ptrace(PTRACE_POKEUSER, pid, (void *)(DEBUG_REGISTERS + (size_t)reg * sizeof(value)),
		      (void *)value) == 0;
}

/* The cell (8 bytes) and the object's state word (4). */
static bool watch_writes(pid_t pid)
{
	struct object_place at;

	return object_place_of(&arena, shared->handle, &at) &&
	       poke_debug(pid, 0, (uint64_t)(uintptr_t)&cells[CELL]) &&
	       poke_debug(pid, 1, (uint64_t)(uintptr_t)at.word) &&
	       poke_debug(pid, 7, 0x1 | 0x4 | UINT64_C(0x9) << 16 | UINT64_C(0xd) << 20);
}
#else
static bool watch_writes(pid_t pid)
{
	(void)pid;
	return false;
}
#endif

static pid_t trace(int *status)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		shared->handle = object(OBJECT_PRIVATE);
		shared->client = arena.client;
		shared->result = 1;
		raise(SIGSTOP);
		shared->result = persist_object(&arena, block(), shared->handle, &cells[CELL]);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, status, 0), pid);
	ck_assert(WIFSTOPPED(*status));
	return pid;
}

/* Held after so many changes; how many it made. */
static int hold_after(pid_t pid, int changes, bool watched, int *status)
{
	uint64_t cell = cells[CELL];
	enum object_kind kind = kind_of(shared->handle);
	int made = 0;

	while (made < changes && WIFSTOPPED(*status)) {
		ck_assert_int_eq(ptrace(watched ? PTRACE_CONT : PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(pid, status, 0), pid);
		made += cell != cells[CELL] || kind != kind_of(shared->handle);
		cell = cells[CELL];
		kind = kind_of(shared->handle);
	}
	return made;
}

static void reap(void)
{
	for (int i = 0; i < 100 && recovery_run(&arena, shared->client, true) != 1; i++)
		usleep(1000);
	ck_assert_int_eq(client_word_state(atomic_load(client_word_at(&arena, shared->client))), CLIENT_FREE);
}

static void killed_after(int changes, bool both)
{
	int status;
	pid_t pid;

	cells[CELL] = 5;
	pid = trace(&status);
	hold_after(pid, changes, watch_writes(pid), &status);
	if (WIFSTOPPED(status))
		end(pid);
	reap();
	ck_assert_uint_eq(cells[CELL], both ? shared->handle : 5);
	ck_assert_int_eq(kind_of(shared->handle), both ? OBJECT_PERSISTENT : OBJECT_FREE);
	if (both)
		ck_assert_int_eq(object_free(&arena, shared->handle), 0);
}

START_TEST(killed_after_any_change_it_is_both_or_neither)
{
	killed_after(0, false);
	killed_after(1, false); /* on offer */
	killed_after(2, false); /* in the cell */
	killed_after(3, true);	/* the arena's */
	killed_after(4, true);	/* to the end */
}
END_TEST

/* Sanitizers make four times the instructions, and most of them their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 16
#else
#define STRIDE 1
#endif

START_TEST(killed_after_any_instruction_it_is_both_or_neither)
{
	bool ended = false, both = false;
	int steps;

	/* All functions are bound now, so that the children make as few instructions as they can. */
	ck_assert_int_eq(persist_object(&arena, block(), object(OBJECT_PRIVATE), &cells[0]), 0);
	for (steps = 0; !ended; steps += STRIDE) {
		int status;
		pid_t pid;

		cells[CELL] = 5;
		pid = trace(&status);
		for (int i = 0; i < steps && WIFSTOPPED(status); i++) {
			if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) || waitpid(pid, &status, 0) != pid)
				ck_abort_msg("step %d: %s", i, strerror(errno));
		}
		/* From the store of the result on it is over. */
		ended = WIFEXITED(status) || shared->result != 1;
		if (WIFSTOPPED(status))
			end(pid);
		reap();
		both = kind_of(shared->handle) == OBJECT_PERSISTENT;
		ck_assert_uint_eq(cells[CELL], both ? shared->handle : 5);
		if (both)
			ck_assert_int_eq(object_free(&arena, shared->handle), 0);
		else
			ck_assert_int_eq(kind_of(shared->handle), OBJECT_FREE);
	}
	ck_assert(both);
	printf("killed after each %d of %d instructions\n", STRIDE, steps);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("persist");
	TCase *t = tcase_create("persist");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, the_object_is_the_arenas_and_its_handle_in_the_cell);
	tcase_add_test(t, what_is_the_arenas_already_gets_its_cell);
	tcase_add_test(t, a_cell_may_lie_in_a_published_or_a_large_object);
	tcase_add_test(t, a_cell_may_lie_anywhere_in_a_large_object_of_a_class);
	tcase_add_test(t, a_cell_elsewhere_is_refused);
	tcase_add_test(t, an_object_not_mine_to_give_is_refused_and_the_cell_untouched);
	tcase_add_test(t, anothers_object_is_refused);
	tcase_add_test(t, the_handle_of_an_object_that_did_not_become_persistent_leaves_its_cell);
	tcase_add_test(t, other_intents_are_dropped);
	tcase_add_test(t, a_cell_whose_object_has_gone_is_not_written_whoever_is_there_now);
	tcase_add_test(t, killed_after_any_change_it_is_both_or_neither);
	tcase_add_test(t, killed_after_any_instruction_it_is_both_or_neither);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
