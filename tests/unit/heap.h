/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap.h - what the heap's tests share: small arenas that leave nothing behind, children that do as told
 * and die as told, and the arena check, which each test ends with.
 */
#ifndef TESTS_HEAP_H
#define TESTS_HEAP_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "attach.h"
#include "audit.h"
#include "client.h"
#include "geometry.h"
#include "pagemap.h"
#include "recovery.h"
#include "slab.h"
#include "stats.h"
#include "thread.h"
#include "words.h"
#include "zone.h"

#include "../seed.h"

#define MIB(n) ((uint64_t)(n) << 20)
#define UNUSED __attribute__((unused))
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* ---- chance ---- */

static uint64_t heap_random_state;

UNUSED static void heap_reseed(uint64_t seed)
{
	heap_random_state = seed * 2 + 1;
}

UNUSED static void heap_seed(const char *test)
{
	heap_reseed(test_seed(test));
}

/* xorshift64* (Vigna) */
UNUSED static uint64_t heap_random(void)
{
	uint64_t x = heap_random_state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	heap_random_state = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

UNUSED static uint64_t heap_below(uint64_t n)
{
	return (heap_random() >> 16) % n;
}

/* ---- the arena check ---- */

static void heap_print_finding(void *context, const struct audit_finding *f)
{
	(void)context;
	fprintf(stderr, "%s: %s (client %u)\n", audit_key(f->what), f->text, f->client);
}

UNUSED static int heap_findings(const struct arena *a)
{
	return audit_arena(a, false, heap_print_finding, NULL);
}

UNUSED static void heap_check(const struct arena *a)
{
	ck_assert_int_eq(heap_findings(a), 0);
}

/* ---- arenas ---- */

/* Without a client. */
UNUSED static void heap_map(struct arena *a, uint64_t capacity)
{
	struct arena_config config = {.name = "heap", .capacity = capacity, .log_capacity = 65536,
				      .backing = BACKING_MEMFD};
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(a, files, false), 0);
}

UNUSED static void heap_attach(struct arena *a, uint64_t capacity)
{
	heap_map(a, capacity);
	ck_assert_int_eq(thread_attach_arena(a), 0);
	ck_assert_int_eq(thread_become_client(a), 0);
}

UNUSED static void heap_detach(struct arena *a)
{
	thread_detach_arena(a);
	arena_unmap(a);
}

/* By the public calls, without a name from the start. */
UNUSED static shma *heap_open(uint64_t capacity, uint64_t quota)
{
	struct shma_options opt = {.struct_size = sizeof(opt), .capacity = capacity,
				   .log_capacity = 65536, .client_quota = quota};
	char name[64], path[128];
	shma *s;

	snprintf(name, sizeof(name), "test-heap-%d", (int)getpid());
	ck_assert_int_eq(arena_path(path, sizeof(path), name), 0);
	ck_assert_int_eq(shma_open(&s, name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &opt), 0);
	ck_assert_int_eq(arena_unlink(path), 0);
	return s;
}

UNUSED static void heap_close(shma *s)
{
	heap_check(&s->arena);
	ck_assert_int_eq(shma_close(s), 0);
}

UNUSED static struct shma_stats heap_stats(shma *s)
{
	struct shma_stats st;

	ck_assert_int_eq(shma_stats(s, &st), 0);
	return st;
}

/* Free pages by the zones' own count, pending ones brought home first; no lock may be held. */
UNUSED static uint64_t heap_free_pages(struct arena *a)
{
	uint32_t zones = arena_refresh(a);
	uint64_t pages = 0;

	for (uint32_t z = 0; z < zones; z++) {
		ck_assert_int_eq(zone_trylock(a, z), 0);
		pages += atomic_load(&zone_of(a, z)->free_pages);
		zone_unlock(a, z);
	}
	return pages;
}

/* All of the heap but what is taken, zones not in use yet included. */
UNUSED static uint64_t heap_all_free_pages(struct arena *a)
{
	uint64_t pages = heap_free_pages(a);

	for (uint64_t z = arena_refresh(a); z < a->g.zone_count; z++)
		pages += geometry_zone_span(&a->g, z);
	return pages;
}

/*
 * Whether a handle points into the middle of an object that by chance bears its generation: one in 65,536 is. To the
 * library it is that object's own handle, moved, and invalid; it cannot be told from that, so who expects it to be
 * stale looks here first. One of another place, or of what begins there, is never excused.
 */
UNUSED static bool heap_points_into_its_like(struct arena *a, shma_handle h)
{
	uint64_t offset = handle_offset(h), w0;
	struct slab_place at;
	int r = slab_find(a, offset, &at);

	if (r != -ENOENT)
		return (r || at.offset) && state_gen(atomic_load(&at.record->words[at.index])) == handle_gen(h);
	w0 = atomic_load(&a->pages[offset >> PAGE_SHIFT].w0);
	return offset % PAGE_SIZE && pw0_is_object(w0) && pw0_gen(w0) == handle_gen(h);
}

/* ---- a page that a test and its children share ---- */

struct board {
	_Atomic int step;
	_Atomic int ready;
	_Atomic int stop;
	_Atomic uint64_t count;
	_Atomic uint64_t numbers[4096];
};

#define BOARD_PATIENCE 600000 /* half milliseconds: for what hangs */

UNUSED static struct board *board_new(void)
{
	struct board *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(b, MAP_FAILED);
	return b;
}

UNUSED static bool board_reaches(const _Atomic int *value, int at_least)
{
	for (int i = 0; i < BOARD_PATIENCE && atomic_load(value) < at_least; i++)
		usleep(500);
	return atomic_load(value) >= at_least;
}

UNUSED static void board_wait(const _Atomic int *value, int at_least)
{
	ck_assert_msg(board_reaches(value, at_least), "a process did not come so far");
}

/* ---- children ---- */

typedef int (*child_body)(void *);

UNUSED static pid_t child_start(child_body body, void *arg)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(body(arg));
	return pid;
}

UNUSED static void child_expect(pid_t pid, int result)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == result,
		      "child: wait status %#x, expected exit %d", status, result);
}

UNUSED static void child_kill(pid_t pid)
{
	int status;

	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status), "child: wait status %#x, expected a kill", status);
}

/* Waits until a child has come so far, and tells if it ended instead. */
UNUSED static void child_ready(struct board *b, pid_t pid, int at_least)
{
	int status = 0;
	pid_t ended = 0;

	for (int i = 0; i < BOARD_PATIENCE && atomic_load(&b->ready) < at_least; i++) {
		ended = waitpid(pid, &status, WNOHANG);
		if (ended == pid)
			break;
		usleep(500);
	}
	ck_assert_msg(atomic_load(&b->ready) >= at_least, "child %s, wait status %#x",
		      ended ? "ended" : "did not come so far", status);
}

/* For a child that dies by itself. */
UNUSED static void child_dies(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		      "child: wait status %#x, expected a kill", status);
}

UNUSED static int in_child(child_body body, void *arg)
{
	int status;
	pid_t pid = child_start(body, arg);

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status), "child: wait status %#x", status);
	return WEXITSTATUS(status);
}

/* A body that mounts a file system of its own: 0, or 77 where it may not. */
UNUSED static void in_small_system(child_body body, const char *test)
{
	int r = in_child(body, NULL);

	if (r == 77)
		printf("%s: skipped, cannot mount here\n", test);
	else
		ck_assert_int_eq(r, 0);
}

/* Dies here and now as kill -9 does it. */
UNUSED static void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* In a child: counts itself as ready, and waits for its end. */
UNUSED static void rest(struct board *b)
{
	atomic_fetch_add(&b->ready, 1);
	for (;;)
		pause();
}

UNUSED static bool child_stopped(pid_t pid)
{
	int status;

	return waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status);
}

/* Recovers all the dead there are; some may need another's lock first. */
UNUSED static uint32_t reap(struct arena *a)
{
	return recovery_reap_all(a);
}

UNUSED static int run_suite(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

#endif
