/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Published names on real objects: every error, operations killed after each of their changes, operations
 * held at each of their changes while others run to the end, and many at once with random kills.
 */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "client.h"
#include "names.h"
#include "object.h"
#include "recovery.h"
#include "thread.h"
#include "words.h"

#include "../seed.h"

static struct arena arena;

/* What processes of a test tell one another. */
static struct shared {
	uint64_t handle;
	uint32_t client;
	int result;
	_Atomic uint32_t stop;
	_Atomic uint64_t published;
} *shared, *blocks;

static void setup(void)
{
	struct arena_config config = {.name = "names",
				      .capacity = UINT64_C(64) << 20,
				      .log_capacity = 65536,
				      .backing = BACKING_MEMFD};
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&arena, files, false), 0);
	ck_assert_int_eq(thread_attach_arena(&arena), 0);
	ck_assert_int_eq(thread_become_client(&arena), 0);
	blocks = mmap(NULL, 2 * sizeof(*blocks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(blocks != MAP_FAILED);
	shared = blocks;
}

static void teardown(void)
{
	munmap(blocks, 2 * sizeof(*blocks));
	thread_detach_arena(&arena);
	arena_unmap(&arena);
}

static uint64_t object(enum object_kind kind)
{
	struct object_want want = {.size = 64, .kind = kind};
	int err = 0;
	uint64_t h = object_alloc(&arena, &want, &err);

	if (!h)
		abort();
	return h;
}

static enum object_kind kind_of(uint64_t handle)
{
	uint32_t client;

	return object_kind_of(&arena, handle, &client);
}

static _Atomic uint64_t *words(void)
{
	return arena_at(&arena, arena.g.name_words);
}

static uint32_t count_names(enum name_state state)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < NAMES_MAX; i++)
		count += name_word_state(atomic_load(&words()[i])) == state;
	return count;
}

static void nothing_is_named(void)
{
	ck_assert_uint_eq(count_names(NAME_FREE), NAMES_MAX);
}

static uint32_t index_of(const char *name)
{
	struct name_view view;

	for (uint32_t i = 0; i < NAMES_MAX; i++)
		if (names_view(&arena, i, &view) == 0 && strcmp(view.name, name) == 0)
			return i;
	ck_abort_msg("no entry of name %s", name);
	return 0;
}

/* ---- one process ---- */

START_TEST(a_name_leads_to_its_object_until_it_is_taken_away)
{
	uint64_t h = object(OBJECT_PRIVATE);
	struct name_view view;

	ck_assert_uint_eq(names_lookup(&arena, "root"), 0);
	ck_assert_int_eq(names_publish(&arena, "root", h), 0);
	ck_assert_uint_eq(names_lookup(&arena, "root"), h);
	ck_assert_uint_eq(names_lookup(&arena, "roo"), 0);
	ck_assert_uint_eq(names_lookup(&arena, "root2"), 0);
	ck_assert_int_eq(kind_of(h), OBJECT_PUBLISHED);
	ck_assert_int_eq(names_view(&arena, index_of("root"), &view), 0);
	ck_assert_int_eq(view.state, NAME_LIVE);
	ck_assert_uint_eq(view.handle, h);
	ck_assert(names_valid(&arena));
	ck_assert_int_eq(names_unpublish(&arena, "root"), 0);
	ck_assert_uint_eq(names_lookup(&arena, "root"), 0);
	ck_assert_int_eq(kind_of(h), OBJECT_PRIVATE);
	ck_assert_int_eq(object_free(&arena, h), 0);
	nothing_is_named();
}
END_TEST

START_TEST(objects_of_every_kind_of_mine_and_the_arenas_can_be_named)
{
	uint64_t private = object(OBJECT_PRIVATE), offered = object(OBJECT_SHARED),
		 persistent = object(OBJECT_PERSISTENT), taken = object(OBJECT_SHARED);

	ck_assert_int_eq(object_take(&arena, taken), 0);
	ck_assert_int_eq(names_publish(&arena, "private", private), 0);
	ck_assert_int_eq(names_publish(&arena, "offered", offered), 0);
	ck_assert_int_eq(names_publish(&arena, "persistent", persistent), 0);
	ck_assert_int_eq(names_publish(&arena, "taken", taken), 0);
	ck_assert_uint_eq(names_lookup(&arena, "offered"), offered);
	ck_assert_uint_eq(names_lookup(&arena, "taken"), taken);
	ck_assert_uint_eq(count_names(NAME_LIVE), 4);
	ck_assert(names_valid(&arena));
}
END_TEST

START_TEST(errors_leave_nothing_behind)
{
	char name[NAME_BYTES + 1];
	uint64_t h = object(OBJECT_PRIVATE), other = object(OBJECT_PRIVATE), stale = object(OBJECT_PRIVATE);

	ck_assert_int_eq(object_free(&arena, stale), 0);
	memset(name, 'n', sizeof(name));
	name[NAME_BYTES] = '\0';
	ck_assert_int_eq(names_publish(&arena, name, h), -ENAMETOOLONG);
	ck_assert_int_eq(names_publish(&arena, "", h), -EINVAL);
	ck_assert_int_eq(names_publish(&arena, "x", 0), -EINVAL);
	ck_assert_int_eq(names_publish(&arena, "x", ~UINT64_C(0)), -EINVAL);
	ck_assert_int_eq(names_publish(&arena, "x", stale), -ESTALE);
	ck_assert_int_eq(names_unpublish(&arena, "x"), -ENOENT);
	ck_assert_int_eq(names_unpublish(&arena, ""), -EINVAL);
	ck_assert_int_eq(names_unpublish(&arena, name), -ENAMETOOLONG);
	ck_assert_uint_eq(names_lookup(&arena, name), 0);
	nothing_is_named();
	name[NAME_BYTES - 1] = '\0'; /* 95 bytes: the longest */
	ck_assert_int_eq(names_publish(&arena, name, h), 0);
	ck_assert_uint_eq(names_lookup(&arena, name), h);
	ck_assert_int_eq(names_publish(&arena, name, other), -EEXIST);
	ck_assert_int_eq(names_publish(&arena, "second", h), -EBUSY);
	ck_assert_uint_eq(count_names(NAME_FREE), NAMES_MAX - 1);
	ck_assert_int_eq(kind_of(other), OBJECT_PRIVATE);
	arena.readonly = true;
	ck_assert_int_eq(names_publish(&arena, "x", other), -EROFS);
	ck_assert_int_eq(names_unpublish(&arena, name), -EROFS);
	ck_assert_uint_eq(names_lookup(&arena, name), h);
	arena.readonly = false;
}
END_TEST

START_TEST(names_of_one_hash_are_told_apart)
{
	/* Two words of one FNV-1a value. */
	uint64_t a = object(OBJECT_PRIVATE), b = object(OBJECT_PRIVATE);

	ck_assert_int_eq(names_publish(&arena, "costarring", a), 0);
	ck_assert_uint_eq(names_lookup(&arena, "liquid"), 0);
	ck_assert_int_eq(names_publish(&arena, "liquid", b), 0);
	ck_assert_uint_eq(name_word_hash(atomic_load(&words()[index_of("costarring")])),
			  name_word_hash(atomic_load(&words()[index_of("liquid")])));
	ck_assert_uint_eq(names_lookup(&arena, "costarring"), a);
	ck_assert_uint_eq(names_lookup(&arena, "liquid"), b);
	ck_assert(names_valid(&arena));
	ck_assert_int_eq(names_unpublish(&arena, "costarring"), 0);
	ck_assert_uint_eq(names_lookup(&arena, "liquid"), b);
}
END_TEST

START_TEST(all_names_can_be_taken_and_no_more)
{
	char name[16];
	uint64_t h;

	for (int i = 0; i < (int)NAMES_MAX; i++) {
		snprintf(name, sizeof(name), "name %d", i);
		ck_assert_int_eq(names_publish(&arena, name, object(OBJECT_PRIVATE)), 0);
	}
	ck_assert(names_valid(&arena));
	h = object(OBJECT_PRIVATE);
	ck_assert_int_eq(names_publish(&arena, "one more", h), -ENOSPC);
	ck_assert_int_eq(names_publish(&arena, "name 7", h), -EEXIST);
	ck_assert_int_eq(names_unpublish(&arena, "name 4000"), 0);
	ck_assert_int_eq(names_publish(&arena, "one more", h), 0);
	ck_assert_uint_eq(names_lookup(&arena, "one more"), h);
	ck_assert_uint_ne(names_lookup(&arena, "name 4095"), 0);
}
END_TEST

START_TEST(wrong_words_are_found)
{
	uint64_t h = object(OBJECT_PRIVATE), live;
	uint32_t i;

	ck_assert_int_eq(names_publish(&arena, "root", h), 0);
	i = index_of("root");
	live = atomic_load(&words()[i]);
	atomic_store(&words()[i], live ^ UINT64_C(1) << NAME_HASH_SHIFT);
	ck_assert(!names_valid(&arena));
	atomic_store(&words()[i], (live & ~UINT64_C(0xf)) | 9);
	ck_assert(!names_valid(&arena));
	atomic_store(&words()[i], live);
	ck_assert(names_valid(&arena));
	/* A live name whose object somebody unpublished behind its back. */
	ck_assert_int_eq(object_unpublish_word(&arena, h), 0);
	ck_assert(!names_valid(&arena));
	ck_assert_int_eq(names_unpublish(&arena, "root"), -EUCLEAN);
	ck_assert_uint_eq(atomic_load(&arena.header->damaged), 1);
	nothing_is_named();
}
END_TEST

/* ---- processes, change by change ---- */

/*
 * A process is run to its next change of a name's word or of the object's: of what it shares nothing else
 * matters, so for a kill all instructions between two changes are one. Where the processor can watch
 * writes it does; elsewhere the process goes by single steps. For one that is held and goes on later it
 * matters as well what it has read: see hold_before_commit().
 */
static const char *const name = "root";
static uint32_t name_place; /* index of the first entry of that name */

struct traced {
	pid_t pid;
	int status;
	int changes;
	bool watched;
	uint64_t words[2];
	enum object_kind kind;
};

static void look(struct traced *t)
{
	t->words[0] = atomic_load(&words()[name_place]);
	t->words[1] = atomic_load(&words()[name_place + 1]);
	t->kind = kind_of(shared->handle);
}

static bool changed(struct traced *t)
{
	struct traced before = *t;

	look(t);
	return memcmp(before.words, t->words, sizeof(t->words)) != 0 || before.kind != t->kind;
}

#ifdef __x86_64__
#define DEBUG_REGISTERS 848 /* u_debugreg of struct user; <sys/user.h> has a PAGE_SIZE of its own */

static bool poke_debug(pid_t pid, int reg, uint64_t value)
{
	size_t at = DEBUG_REGISTERS + (size_t)reg * sizeof(value);

	return ptrace(PTRACE_POKEUSER, pid, (void *)at, (void *)value) == 0;
}

/* Writes of two name words of 8 bytes and one state word of 4; reads of the last name word. */
static bool watch_writes(pid_t pid)
{
	struct object_place at;
	uint64_t control = 0x1 | 0x4 | 0x10 | 0x40 | UINT64_C(0x9) << 16 | UINT64_C(0x9) << 20 |
			   UINT64_C(0xd) << 24 | UINT64_C(0xb) << 28;

	return object_place_of(&arena, shared->handle, &at) &&
	       poke_debug(pid, 0, (uint64_t)(uintptr_t)&words()[name_place]) &&
	       poke_debug(pid, 1, (uint64_t)(uintptr_t)&words()[name_place + 1]) &&
	       poke_debug(pid, 2, (uint64_t)(uintptr_t)at.word) &&
	       poke_debug(pid, 3, (uint64_t)(uintptr_t)&words()[NAMES_MAX - 1]) &&
	       poke_debug(pid, 7, control);
}
static void watch_no_more(pid_t pid)
{
	poke_debug(pid, 7, 0);
}
#else
static bool watch_writes(pid_t pid)
{
	(void)pid;
	return false;
}

static void watch_no_more(pid_t pid)
{
	(void)pid;
}
#endif

/* A child that prepares itself, stops, and then does what is looked at. */
static struct traced trace(void (*prepare)(void), int (*body)(void))
{
	struct traced t = {.pid = fork()};

	if (t.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		if (thread_become_client(&arena))
			_exit(1);
		shared->client = arena.client;
		prepare();
		raise(SIGSTOP);
		shared->result = body();
		_exit(0);
	}
	ck_assert_int_gt(t.pid, 0);
	ck_assert_int_eq(waitpid(t.pid, &t.status, 0), t.pid);
	ck_assert(WIFSTOPPED(t.status));
	t.watched = watch_writes(t.pid);
	look(&t);
	return t;
}

static void hold_after(struct traced *t, int changes)
{
	while (t->changes < changes && WIFSTOPPED(t->status)) {
		ck_assert_int_eq(ptrace(t->watched ? PTRACE_CONT : PTRACE_SINGLESTEP, t->pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(t->pid, &t->status, 0), t->pid);
		t->changes += changed(t);
	}
}

/* A publisher that has claimed and looked at all others, and not committed; false: cannot be done here. */
static bool hold_before_commit(struct traced *t)
{
	hold_after(t, 2);
	if (!t->watched)
		return false;
	do {
		ck_assert_int_eq(ptrace(PTRACE_CONT, t->pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(t->pid, &t->status, 0), t->pid);
	} while (WIFSTOPPED(t->status) && changed(t));
	ck_assert(WIFSTOPPED(t->status));
	return true;
}

static void run_to_end(struct traced *t)
{
	if (WIFSTOPPED(t->status)) {
		watch_no_more(t->pid);
		ck_assert_int_eq(ptrace(PTRACE_DETACH, t->pid, NULL, NULL), 0);
	}
	if (!WIFEXITED(t->status))
		ck_assert_int_eq(waitpid(t->pid, &t->status, 0), t->pid);
	ck_assert(WIFEXITED(t->status) && WEXITSTATUS(t->status) == 0);
}

static void kill_now(struct traced *t)
{
	if (WIFSTOPPED(t->status)) {
		kill(t->pid, SIGKILL);
		waitpid(t->pid, &t->status, 0);
	}
	for (int i = 0; i < 100 && recovery_run(&arena, shared->client, true) != 1; i++)
		usleep(1000);
	ck_assert_int_eq(client_word_state(atomic_load(client_word_at(&arena, shared->client))), CLIENT_FREE);
}

static int count_changes(void (*prepare)(void), int (*body)(void))
{
	struct traced t = trace(prepare, body);

	hold_after(&t, INT32_MAX);
	ck_assert(WIFEXITED(t.status) && WEXITSTATUS(t.status) == 0);
	ck_assert_int_eq(shared->result, 0);
	kill_now(&t);
	return t.changes;
}

static void setup_traced(void)
{
	uint64_t h;

	setup();
	h = object(OBJECT_PRIVATE);
	ck_assert_int_eq(names_publish(&arena, name, h), 0);
	name_place = index_of(name);
	ck_assert_int_eq(names_unpublish(&arena, name), 0);
	ck_assert_int_eq(object_free(&arena, h), 0);
}

static enum object_kind kind_to_publish;

static void make_object(void)
{
	shared->handle = object(kind_to_publish);
}

static int publish(void)
{
	return names_publish(&arena, name, shared->handle);
}

static void make_published(void)
{
	make_object();
	if (publish())
		_exit(1);
}

static int unpublish(void)
{
	return names_unpublish(&arena, name);
}

static void clear_names(void)
{
	uint64_t h = names_lookup(&arena, name);

	if (h) {
		ck_assert_int_eq(names_unpublish(&arena, name), 0);
		ck_assert_int_eq(object_free(&arena, h), 0);
	}
	nothing_is_named();
}

/* Published under its name, or as it was before if it is not its owner's any more. */
static void all_or_nothing(enum object_kind otherwise)
{
	uint64_t h = names_lookup(&arena, name);

	ck_assert(names_valid(&arena));
	ck_assert_uint_eq(count_names(NAME_FREE) + count_names(NAME_LIVE), NAMES_MAX);
	if (h) {
		ck_assert_uint_eq(h, shared->handle);
		ck_assert_int_eq(kind_of(h), OBJECT_PUBLISHED);
		return;
	}
	ck_assert_int_eq(kind_of(shared->handle), otherwise);
	if (otherwise == OBJECT_PERSISTENT)
		ck_assert_int_eq(object_free(&arena, shared->handle), 0);
}

static void publish_killed(enum object_kind kind, enum object_kind otherwise)
{
	int count, published = 0;

	kind_to_publish = kind;
	count = count_changes(make_object, publish);
	clear_names();
	/* Reserved, claimed, committed, object, live. */
	ck_assert_int_eq(count, 5);
	for (int i = 0; i <= count; i++) {
		struct traced t = trace(make_object, publish);

		hold_after(&t, i);
		kill_now(&t);
		all_or_nothing(otherwise);
		published += names_lookup(&arena, name) != 0;
		clear_names();
	}
	ck_assert_int_eq(published, 2); /* after the object's change, and live */
}

START_TEST(publish_of_a_private_object_killed_anywhere_is_all_or_nothing)
{
	publish_killed(OBJECT_PRIVATE, OBJECT_FREE);
}
END_TEST

START_TEST(publish_of_a_persistent_object_killed_anywhere_is_all_or_nothing)
{
	publish_killed(OBJECT_PERSISTENT, OBJECT_PERSISTENT);
}
END_TEST

START_TEST(unpublish_killed_anywhere_is_all_or_nothing)
{
	int count;

	kind_to_publish = OBJECT_PRIVATE;
	count = count_changes(make_published, unpublish);
	clear_names();
	/* Unpublishing, object, free. */
	ck_assert_int_eq(count, 3);
	for (int i = 0; i <= count; i++) {
		struct traced t = trace(make_published, unpublish);

		hold_after(&t, i);
		kill_now(&t);
		all_or_nothing(OBJECT_FREE);
		clear_names();
	}
}
END_TEST

/* ---- one is held while others run to the end ---- */

START_TEST(a_claimant_held_anywhere_is_in_nobodys_way)
{
	int count, losses = 0;

	kind_to_publish = OBJECT_PRIVATE;
	count = count_changes(make_object, publish);
	clear_names();
	for (int i = 0; i <= count; i++) {
		struct traced t = trace(make_object, publish);
		uint64_t mine = object(OBJECT_PRIVATE), found;
		int r;

		hold_after(&t, i);
		r = names_publish(&arena, name, mine);
		ck_assert(r == 0 || r == -EEXIST);
		found = names_lookup(&arena, name);
		if (r == 0)
			ck_assert_uint_eq(found, mine);
		run_to_end(&t);
		/* Of the two exactly one has the name, and the other has been told. */
		ck_assert_int_eq(shared->result, r == 0 ? -EEXIST : 0);
		found = names_lookup(&arena, name);
		ck_assert_uint_eq(found, r == 0 ? mine : shared->handle);
		ck_assert(names_valid(&arena));
		losses += r != 0;
		if (r)
			ck_assert_int_eq(object_free(&arena, mine), 0);
		kill_now(&t);
		clear_names();
	}
	ck_assert_int_eq(losses, 3); /* committed, published, live: from then on it has the name */
}
END_TEST

START_TEST(one_object_gets_one_name_whoever_is_held)
{
	int count;

	kind_to_publish = OBJECT_PERSISTENT;
	count = count_changes(make_object, publish);
	clear_names();
	for (int i = 0; i <= count; i++) {
		struct traced t = trace(make_object, publish);
		uint64_t h = shared->handle;
		int r;

		hold_after(&t, i);
		r = names_publish(&arena, "another", h);
		ck_assert(r == 0 || r == -EBUSY);
		run_to_end(&t);
		ck_assert_int_eq(shared->result, r == 0 ? -EBUSY : 0);
		ck_assert_uint_eq(names_lookup(&arena, "another"), r == 0 ? h : 0);
		ck_assert_uint_eq(names_lookup(&arena, name), r == 0 ? 0 : h);
		ck_assert(names_valid(&arena));
		if (r == 0) {
			ck_assert_int_eq(names_unpublish(&arena, "another"), 0);
			ck_assert_int_eq(object_free(&arena, h), 0);
		}
		kill_now(&t);
		clear_names();
	}
}
END_TEST

START_TEST(what_a_publisher_has_committed_can_be_found_and_taken_away_while_it_is_held)
{
	int count, taken = 0;

	kind_to_publish = OBJECT_PRIVATE;
	count = count_changes(make_object, publish);
	clear_names();
	for (int i = 0; i <= count; i++) {
		struct traced t = trace(make_object, publish);
		bool published;

		hold_after(&t, i);
		published = kind_of(shared->handle) == OBJECT_PUBLISHED;
		ck_assert_uint_eq(names_lookup(&arena, name), published ? shared->handle : 0);
		ck_assert_int_eq(names_unpublish(&arena, name), published ? 0 : -ENOENT);
		taken += published;
		run_to_end(&t);
		ck_assert_int_eq(shared->result, 0);
		ck_assert_uint_eq(names_lookup(&arena, name), published ? 0 : shared->handle);
		if (published)
			ck_assert_int_eq(object_free(&arena, shared->handle), 0);
		kill_now(&t);
		clear_names();
	}
	ck_assert_int_eq(taken, 2);
}
END_TEST

START_TEST(a_name_is_free_once_its_object_is_whoever_is_held)
{
	int count, again = 0;

	kind_to_publish = OBJECT_PRIVATE;
	count = count_changes(make_published, unpublish);
	clear_names();
	for (int i = 0; i <= count; i++) {
		struct traced t = trace(make_published, unpublish);
		uint64_t mine = object(OBJECT_PRIVATE);
		bool published;
		int r;

		hold_after(&t, i);
		published = kind_of(shared->handle) == OBJECT_PUBLISHED;
		ck_assert_uint_eq(names_lookup(&arena, name), published ? shared->handle : 0);
		r = names_publish(&arena, name, mine);
		ck_assert_int_eq(r, published ? -EEXIST : 0);
		/* Another who unpublishes is told, once the first has begun. */
		if (published && i > 0)
			ck_assert_int_eq(names_unpublish(&arena, name), -EBUSY);
		again += r == 0;
		run_to_end(&t);
		ck_assert_int_eq(shared->result, 0);
		ck_assert_uint_eq(names_lookup(&arena, name), r == 0 ? mine : 0);
		ck_assert(names_valid(&arena));
		kill_now(&t);
		clear_names();
		if (r)
			ck_assert_int_eq(object_free(&arena, mine), 0);
	}
	ck_assert_int_eq(again, 2);
}
END_TEST

/* Two claimants of one name, each traced, with blocks of their own. */
static void one_of_two_has_the_name(struct traced t[2])
{
	uint64_t found = names_lookup(&arena, name);
	int winner = blocks[0].result == 0 ? 0 : 1;

	ck_assert_int_eq(blocks[winner].result, 0);
	ck_assert_int_eq(blocks[1 - winner].result, -EEXIST);
	ck_assert_uint_eq(found, blocks[winner].handle);
	ck_assert(names_valid(&arena));
	for (int i = 0; i < 2; i++) {
		shared = &blocks[i];
		kill_now(&t[i]);
	}
	ck_assert_uint_eq(names_lookup(&arena, name), found);
	clear_names();
}

static void trace_two(struct traced t[2])
{
	for (int i = 0; i < 2; i++) {
		shared = &blocks[i];
		t[i] = trace(make_object, publish);
	}
}

static void advance(struct traced t[2], int which, int changes)
{
	shared = &blocks[which];
	look(&t[which]);
	hold_after(&t[which], t[which].changes + changes);
}

START_TEST(who_is_held_between_its_look_and_its_commit_has_been_aborted)
{
	struct traced t;
	uint64_t mine = object(OBJECT_PRIVATE);

	kind_to_publish = OBJECT_PRIVATE;
	t = trace(make_object, publish);
	if (hold_before_commit(&t)) {
		ck_assert_int_eq(names_publish(&arena, name, mine), 0);
		ck_assert_uint_eq(count_names(NAME_ABORTED), 1);
		run_to_end(&t);
		ck_assert_int_eq(shared->result, -EEXIST);
		ck_assert_uint_eq(names_lookup(&arena, name), mine);
		ck_assert(names_valid(&arena));
	}
	kill_now(&t);
}
END_TEST

START_TEST(who_is_held_so_with_an_object_that_gets_another_name_too)
{
	struct traced t;

	kind_to_publish = OBJECT_PERSISTENT;
	t = trace(make_object, publish);
	if (hold_before_commit(&t)) {
		ck_assert_int_eq(names_publish(&arena, "another", shared->handle), 0);
		run_to_end(&t);
		ck_assert_int_eq(shared->result, -EBUSY);
		ck_assert_uint_eq(names_lookup(&arena, name), 0);
		ck_assert_uint_eq(names_lookup(&arena, "another"), shared->handle);
		ck_assert(names_valid(&arena));
	}
	kill_now(&t);
}
END_TEST

START_TEST(of_two_held_between_look_and_commit_one_wins)
{
	kind_to_publish = OBJECT_PRIVATE;
	for (int i = 0; i < 4; i++) {
		struct traced t[2];
		int order = i % 2, first = i / 2;

		trace_two(t);
		shared = &blocks[order];
		look(&t[order]);
		if (!hold_before_commit(&t[order]))
			order = -1;
		if (order >= 0) {
			shared = &blocks[1 - order];
			look(&t[1 - order]);
			hold_before_commit(&t[1 - order]);
		}
		run_to_end(&t[first]);
		run_to_end(&t[1 - first]);
		one_of_two_has_the_name(t);
	}
}
END_TEST

START_TEST(of_two_claimants_held_anywhere_one_wins)
{
	kind_to_publish = OBJECT_PRIVATE;
	for (int i = 0; i < 2 * 5 * 5; i++) {
		struct traced t[2];
		int first = i / 25;

		trace_two(t);
		advance(t, 0, i % 5);
		advance(t, 1, i / 5 % 5);
		run_to_end(&t[first]);
		run_to_end(&t[1 - first]);
		one_of_two_has_the_name(t);
	}
}
END_TEST

/* Change by change in turns: they meet again and again in the middle of their claims. */
START_TEST(two_claimants_in_step_do_not_abort_each_other_for_ever)
{
	kind_to_publish = OBJECT_PRIVATE;
	for (int stride = 1; stride <= 4; stride++) {
		for (int lead = 0; lead < 4; lead++) {
			struct traced t[2];
			int turns = 0;

			trace_two(t);
			advance(t, 0, lead);
			while (WIFSTOPPED(t[0].status) || WIFSTOPPED(t[1].status)) {
				advance(t, 1, stride);
				advance(t, 0, 1);
				ck_assert_int_lt(++turns, 100);
			}
			one_of_two_has_the_name(t);
		}
	}
}
END_TEST

/* ---- claims written by hand ---- */

/* An entry of a client that was stopped for ever, next to the place where ours will be. */
static uint32_t plant(enum name_state state, uint64_t handle)
{
	struct name_entry *e = arena_at(&arena, arena.g.name_entries);
	uint32_t i;
	uint64_t word;

	ck_assert_int_eq(names_publish(&arena, name, handle), 0);
	i = index_of(name);
	word = atomic_load(&words()[i]);
	ck_assert_int_eq(object_unpublish_word(&arena, handle), 0);
	atomic_store(&words()[i],
		     name_word(state, 9, name_word_change(word), name_word_hash(word)));
	ck_assert_uint_eq(e[i].handle, handle);
	return i;
}

START_TEST(a_claimed_rival_is_aborted_and_recovered)
{
	uint64_t theirs = object(OBJECT_PRIVATE), mine = object(OBJECT_PRIVATE);
	uint32_t i = plant(NAME_CLAIMED, theirs);

	ck_assert_int_eq(names_publish(&arena, name, mine), 0);
	ck_assert_int_eq(name_word_state(atomic_load(&words()[i])), NAME_ABORTED);
	ck_assert_uint_eq(names_lookup(&arena, name), mine);
	names_recover(&arena, 8);
	ck_assert_int_eq(name_word_state(atomic_load(&words()[i])), NAME_ABORTED);
	names_recover(&arena, 9);
	names_recover(&arena, 9);
	ck_assert_int_eq(name_word_state(atomic_load(&words()[i])), NAME_FREE);
	ck_assert_uint_eq(names_lookup(&arena, name), mine);
}
END_TEST

START_TEST(a_committed_rival_keeps_the_name_until_it_is_recovered)
{
	uint64_t theirs = object(OBJECT_PRIVATE), mine = object(OBJECT_PRIVATE);
	uint32_t i = plant(NAME_COMMITTED, theirs);

	ck_assert_int_eq(names_publish(&arena, name, mine), -EEXIST);
	ck_assert_int_eq(names_publish(&arena, "another", theirs), -EBUSY);
	ck_assert_uint_eq(names_lookup(&arena, name), 0);
	names_recover(&arena, 9);
	ck_assert_int_eq(name_word_state(atomic_load(&words()[i])), NAME_FREE);
	ck_assert_int_eq(names_publish(&arena, name, mine), 0);
	ck_assert_int_eq(names_publish(&arena, "another", theirs), 0);
}
END_TEST

START_TEST(an_object_that_was_unpublished_can_have_a_name_while_the_old_one_is_held)
{
	uint64_t h = object(OBJECT_PRIVATE);
	uint32_t i = plant(NAME_UNPUBLISHING, h);

	ck_assert_int_eq(names_publish(&arena, "another", h), 0);
	ck_assert_int_eq(name_word_state(atomic_load(&words()[i])), NAME_FREE);
	ck_assert_uint_eq(names_lookup(&arena, name), 0);
	ck_assert_uint_eq(names_lookup(&arena, "another"), h);
}
END_TEST

START_TEST(a_reader_helps_nobody_but_finds_as_much)
{
	uint64_t theirs = object(OBJECT_PRIVATE);
	uint32_t i = plant(NAME_UNPUBLISHING, theirs);

	arena.readonly = true;
	ck_assert_uint_eq(names_lookup(&arena, name), 0);
	ck_assert_int_eq(name_word_state(atomic_load(&words()[i])), NAME_UNPUBLISHING);
	arena.readonly = false;
	ck_assert_uint_eq(names_lookup(&arena, name), 0);
	ck_assert_int_eq(name_word_state(atomic_load(&words()[i])), NAME_FREE);
}
END_TEST

/* ---- many at once, killed at random ---- */

#define WORKERS 3
#define STRESS_NAMES 4

static void work(unsigned seed)
{
	char text[16];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!atomic_load(&shared->stop)) {
		uint64_t h;

		snprintf(text, sizeof(text), "stress %d", rand_r(&seed) % STRESS_NAMES);
		if (rand_r(&seed) % 2) {
			names_unpublish(&arena, text);
			continue;
		}
		h = object(OBJECT_PRIVATE);
		if (names_publish(&arena, text, h) == 0)
			atomic_fetch_add(&shared->published, 1);
		else if (object_free(&arena, h))
			abort();
		h = names_lookup(&arena, text);
		(void)h;
	}
}

static pid_t start_worker(unsigned seed)
{
	pid_t pid = fork();

	if (pid == 0) {
		work(seed);
		_exit(0);
	}
	return pid;
}

START_TEST(many_with_random_kills_keep_names_and_objects_one_to_one)
{
	unsigned seed = (unsigned)test_seed("many_with_random_kills_keep_names_and_objects_one_to_one");
	pid_t workers[WORKERS];
	uint32_t live = 0;

	for (int i = 0; i < WORKERS; i++)
		workers[i] = start_worker(seed + (unsigned)i);
	for (int round = 0; round < 150; round++) {
		int i = rand_r(&seed) % WORKERS;

		usleep((unsigned)rand_r(&seed) % 15000);
		kill(workers[i], SIGKILL);
		waitpid(workers[i], NULL, 0);
		workers[i] = start_worker((unsigned)rand_r(&seed));
		recovery_reap_all(&arena);
	}
	atomic_store(&shared->stop, 1);
	for (int i = 0; i < WORKERS; i++)
		waitpid(workers[i], NULL, 0);
	recovery_reap_all(&arena);
	ck_assert(names_valid(&arena));
	ck_assert_uint_gt(atomic_load(&shared->published), 0);
	live = count_names(NAME_LIVE);
	ck_assert_uint_le(live, STRESS_NAMES);
	ck_assert_uint_eq(count_names(NAME_FREE), NAMES_MAX - live);
	printf("%llu published, %u names left\n", (unsigned long long)atomic_load(&shared->published), live);
}
END_TEST

#define THREADS 4

static void *work_a_while(void *seed_of)
{
	unsigned seed = *(unsigned *)seed_of;
	char text[16];

	for (int i = 0; i < 1000; i++) {
		uint64_t h;

		snprintf(text, sizeof(text), "threads %d", rand_r(&seed) % 2);
		if (rand_r(&seed) % 2) {
			names_unpublish(&arena, text);
			continue;
		}
		h = object(OBJECT_SHARED);
		if (names_publish(&arena, text, h) == 0)
			atomic_fetch_add(&shared->published, 1);
		else if (object_free(&arena, h))
			abort();
		names_lookup(&arena, text);
	}
	return NULL;
}

START_TEST(threads_of_one_process_keep_names_and_objects_one_to_one)
{
	unsigned seeds[THREADS];
	unsigned seed = (unsigned)test_seed("threads_of_one_process_keep_names_and_objects_one_to_one");
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++) {
		seeds[i] = seed + (unsigned)i;
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work_a_while, &seeds[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ck_assert(names_valid(&arena));
	ck_assert_uint_gt(atomic_load(&shared->published), 0);
	ck_assert_uint_eq(count_names(NAME_FREE) + count_names(NAME_LIVE), NAMES_MAX);
	ck_assert_uint_le(count_names(NAME_LIVE), 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("names");
	TCase *one = tcase_create("one process"), *killed = tcase_create("killed"),
	      *held = tcase_create("held"), *planted = tcase_create("planted"),
	      *many = tcase_create("many");
	TCase *all[] = {killed, held, planted, one, many};
	SRunner *runner;
	int failed;

	tcase_add_test(one, a_name_leads_to_its_object_until_it_is_taken_away);
	tcase_add_test(one, objects_of_every_kind_of_mine_and_the_arenas_can_be_named);
	tcase_add_test(one, errors_leave_nothing_behind);
	tcase_add_test(one, names_of_one_hash_are_told_apart);
	tcase_add_test(one, all_names_can_be_taken_and_no_more);
	tcase_add_test(one, wrong_words_are_found);
	tcase_add_test(killed, publish_of_a_private_object_killed_anywhere_is_all_or_nothing);
	tcase_add_test(killed, publish_of_a_persistent_object_killed_anywhere_is_all_or_nothing);
	tcase_add_test(killed, unpublish_killed_anywhere_is_all_or_nothing);
	tcase_add_test(held, a_claimant_held_anywhere_is_in_nobodys_way);
	tcase_add_test(held, one_object_gets_one_name_whoever_is_held);
	tcase_add_test(held, what_a_publisher_has_committed_can_be_found_and_taken_away_while_it_is_held);
	tcase_add_test(held, a_name_is_free_once_its_object_is_whoever_is_held);
	tcase_add_test(held, who_is_held_between_its_look_and_its_commit_has_been_aborted);
	tcase_add_test(held, who_is_held_so_with_an_object_that_gets_another_name_too);
	tcase_add_test(held, of_two_held_between_look_and_commit_one_wins);
	tcase_add_test(held, of_two_claimants_held_anywhere_one_wins);
	tcase_add_test(held, two_claimants_in_step_do_not_abort_each_other_for_ever);
	tcase_add_test(planted, a_claimed_rival_is_aborted_and_recovered);
	tcase_add_test(planted, a_committed_rival_keeps_the_name_until_it_is_recovered);
	tcase_add_test(planted, an_object_that_was_unpublished_can_have_a_name_while_the_old_one_is_held);
	tcase_add_test(planted, a_reader_helps_nobody_but_finds_as_much);
	tcase_add_test(many, threads_of_one_process_keep_names_and_objects_one_to_one);
	tcase_add_test(many, many_with_random_kills_keep_names_and_objects_one_to_one);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		tcase_add_checked_fixture(all[i], i < 3 ? setup_traced : setup, teardown);
		tcase_set_timeout(all[i], 120);
		suite_add_tcase(s, all[i]);
	}
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
