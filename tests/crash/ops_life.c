/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: a client's and a thread's beginning and end, forks, purging, and recovery itself: somebody
 * has died in another operation, and the one who recovers dies as well.
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache.h"
#include "client.h"
#include "commit.h"
#include "crash.h"
#include "purge.h"
#include "recovery.h"
#include "thread.h"
#include "words.h"

static int result;
static uint64_t handle = 1;

static bool done(void)
{
	return result == 0;
}

static bool got(void)
{
	return handle != 0;
}

/* ---- clients ---- */

static void open_it(void)
{
	result = shma_open(&self, arena_name, SHMA_EMBEDDED, NULL);
}

/* Another arena, which is there whole or not at all. */
static void create_it(void)
{
	struct shma_options opt = { .struct_size = sizeof(opt),
				    .capacity = CRASH_CAPACITY,
				    .log_capacity = CRASH_LOG };
	shma *other;

	result = shma_open(&other, board->account.created, SHMA_CREATE | SHMA_EMBEDDED, &opt);
}

static void name_new_arena(void)
{
	snprintf(board->account.created, sizeof(board->account.created), "%s.new", arena_name);
}

static void close_it(void)
{
	result = shma_close(self);
}

static void come_and_go(void)
{
	uint32_t some[20];

	for (uint32_t i = 0; i < 20; i++)
		some[i] = make_thing(i % 3 ? 100 : 3000, 0, FATE_GONE);
	write_line(100);
	for (uint32_t i = 0; i < 20; i++)
		drop_thing(some[i]);
	drop_thing(make_thing(40960, 0, FATE_GONE));
	drop_thing(make_thing(40960, SHMA_LARGE, FATE_GONE));
}

static void come_and_stay(void)
{
	come_and_go();
	make_thing(100, 0, FATE_GONE);
	make_thing(40960, 0, FATE_GONE);
	make_thing(40960, SHMA_LARGE, FATE_GONE);
}

/* ---- threads ---- */

static void first_alloc(void)
{
	handle = shma_alloc(self, 100, 0);
}

static char data[100];

static void with_line(void)
{
	note_line(data, sizeof(data), FATE_EITHER);
}

static void first_line(void)
{
	result = shma_log_write(self, 6, data, sizeof(data));
}

static pthread_key_t last;

/* After the library's own destructor: keys are gone through in order. */
static void over(void *value)
{
	(void)value;
	step_end();
}

static void *thread_body(void *arg)
{
	come_and_go();
	make_thing(100, 0, FATE_GONE);
	pthread_setspecific(last, arg);
	step_begin();
	return NULL;
}

static void end_thread(void)
{
	pthread_t t;

	result = pthread_key_create(&last, over) || pthread_create(&t, NULL, thread_body, &last) ||
		 pthread_join(t, NULL);
}

/* ---- forks ---- */

static void have_things(void)
{
	for (int i = 0; i < 5; i++)
		make_thing(100, 0, FATE_KEPT);
	board->account.parent = true;
	board->number[0] = 1; /* its thread's block, and array */
}

static void fork_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		step_begin();
		handle = shma_alloc(self, 100, 0);
		step_end();
		step_die();
		_exit(handle == 0);
	}
	waitpid(pid, &result, 0);
}

static void fork_log(void)
{
	pid_t pid;

	note_line(data, sizeof(data), FATE_EITHER);
	pid = fork();
	if (pid == 0) {
		step_begin();
		result = shma_log_write(self, 6, data, sizeof(data));
		step_end();
		step_die();
		_exit(result != 0);
	}
	waitpid(pid, &result, 0);
}

/* ---- purging ---- */

static struct purge purger;

static void leave_idle_pages(void)
{
	uint32_t some[4];

	for (int i = 0; i < 4; i++)
		some[i] = make_thing(UINT64_C(1) << 20, SHMA_LARGE, FATE_GONE);
	for (int i = 0; i < 4; i++)
		drop_thing(some[i]);
	if (purge_round(&purger, &self->arena))
		broken("purged at the first look");
}

static uint32_t kept[4];

/* Pages between used ones: no region of theirs goes as a whole. */
static void leave_pages_between(void)
{
	uint32_t some[12];

	for (int i = 0; i < 12; i++)
		some[i] = make_thing(PAGE_SIZE, SHMA_LARGE, FATE_GONE);
	for (int i = 0; i < 12; i++)
		if (i % 3)
			drop_thing(some[i]);
		else
			kept[i / 3] = some[i];
	if (purge_round(&purger, &self->arena))
		broken("purged at the first look");
}

static void give_pages_between(void)
{
	leave_pages_between();
	if (!purge_round(&purger, &self->arena))
		broken("nothing was purged");
}

static void alloc_page(void)
{
	handle = shma_alloc(self, PAGE_SIZE, SHMA_LARGE);
}

/* Its place was a hole, beside a page in use. */
static bool took_hole(void)
{
	return handle != 0 && handle_offset(handle) < handle_offset(board->account.thing[kept[3]].handle);
}

static uint64_t holes_before;

static uint64_t holes(void)
{
	uint64_t count = 0;

	for (uint64_t page = 0; page < self->arena.pages_known; page += 64)
		count += (uint64_t)__builtin_popcountll(commit_purged(&self->arena, page));
	return count;
}

/* Slabs with few live objects, and no others in a cache. */
/* A page each: so the first free one lies in a page that was given back. */
static void leave_pages_of_slabs(void)
{
	uint32_t some[24];

	for (int i = 0; i < 24; i++)
		some[i] = make_thing(4000, 0, FATE_GONE);
	for (int i = 0; i < 24; i++)
		if (i % 12)
			drop_thing(some[i]);
	cache_empty_all(&self->arena, my_block());
	if (purge_round(&purger, &self->arena))
		broken("purged at the first look");
}

static void give_pages_of_slabs(void)
{
	leave_pages_of_slabs();
	purge_round(&purger, &self->arena);
	holes_before = holes();
}

static void alloc_given_back(void)
{
	handle = shma_alloc(self, 4000, 0);
}

static bool filled_holes(void)
{
	return handle != 0 && holes() < holes_before;
}

static void purge(void)
{
	handle = purge_round(&purger, &self->arena);
}

/* ---- recovery ---- */

static void recover(void)
{
	result = recovery_reap_all(&self->arena) != 1;
}

/* Allocates where somebody has died in the middle of it. */
static void come(void)
{
	make_thing(64, 0, FATE_GONE);
}

static void alloc_large(void)
{
	handle = shma_alloc(self, 40960, SHMA_LARGE);
}

/* Who looks a name up may finish what its owner began. */
static void look_up(void)
{
	handle = shma_lookup(self, "small");
}

/* In slices, as slow calls do it. */
static void tick(void)
{
	for (int i = 0; i < 40; i++)
		recovery_tick(&self->arena);
}

#define RECOVERY(operation, path, part, parts)                                         \
	{                                                                              \
		"recovery", path, 0, NULL, NULL, recover, done, operation, part, parts \
	}
#define ALLOC_AFTER(operation, path, part, parts)                                            \
	{                                                                                    \
		"alloc after", path, 0, NULL, come, alloc_large, got, operation, part, parts \
	}
#define LOOK_UP_AFTER(operation, path, part, parts)                                         \
	{                                                                                   \
		"look up after", path, 0, NULL, NULL, look_up, NULL, operation, part, parts \
	}
#define SLICES(operation, path, part, parts)                                               \
	{                                                                                  \
		"recovery slices", path, 0, NULL, NULL, tick, NULL, operation, part, parts \
	}

bool life_op_worked(void)
{
	return result == 0 && handle != 0;
}

const struct op life_ops[] = {
	OP_SO(OP_UNATTACHED, "open", "arena with clients", NULL, open_it, done),
	OP("create", "arena", name_new_arena, create_it, done),
	OP("close", "with nothing left", come_and_go, close_it, done),
	OP("close", "with objects", come_and_stay, close_it, done),
	OP("close", "never used", NULL, close_it, done),
	OP("first call", "alloc", NULL, first_alloc, got),
	OP("first call", "log", with_line, first_line, done),
	OP_SO(OP_STEPS, "thread exit", "with cache, log and objects", NULL, end_thread, done),
	OP_SO(OP_STEPS | OP_FORK, "fork", "child's first alloc", have_things, fork_child, done),
	OP_SO(OP_STEPS | OP_FORK, "fork", "child's first record", have_things, fork_log, done),
	OP("purge", "idle pages", leave_idle_pages, purge, got),
	OP("purge", "idle pages between used ones", leave_pages_between, purge, got),
	OP("purge", "pages of slabs", leave_pages_of_slabs, purge, got),
	OP("alloc", "page that was given back", give_pages_between, alloc_page, took_hole),
	OP("alloc", "objects whose pages were given back", give_pages_of_slabs, alloc_given_back,
	   filled_holes),
	RECOVERY("alloc", "refill", 1, 2),
	RECOVERY("alloc", "refill", 3, 4),
	RECOVERY("alloc", "new slab", 1, 3),
	RECOVERY("alloc", "new slab", 2, 3),
	RECOVERY("alloc", "first of class, new state block", 1, 2),
	RECOVERY("alloc", "first of class, new state block", 3, 4),
	RECOVERY("alloc", "larger cache array", 1, 2),
	RECOVERY("alloc", "page, zone split to the last", 1, 2),
	RECOVERY("alloc", "large, new zone", 1, 2),
	RECOVERY("alloc", "span of zones", 1, 2),
	RECOVERY("alloc", "span of zones", 7, 8),
	RECOVERY("alloc", "large, pending ones first", 1, 2),
	RECOVERY("free", "flush", 1, 2),
	RECOVERY("free", "slab goes back", 1, 3),
	RECOVERY("free", "slab goes back", 1, 2),
	RECOVERY("free", "slab goes back", 3, 4),
	RECOVERY("free", "large, merged up to the zone", 1, 2),
	RECOVERY("free", "span of zones", 1, 2),
	RECOVERY("free", "span of zones", 3, 4),
	RECOVERY("free", "large, zone busy", 1, 1),
	RECOVERY("free", "another's", 1, 2),
	RECOVERY("free", "another's span", 1, 2),
	RECOVERY("resize", "moving, small to large", 1, 2),
	RECOVERY("resize", "in place, large trimmed", 1, 2),
	RECOVERY("pack", "persistent", 11, 12),
	RECOVERY("take", "span of zones", 1, 1),
	RECOVERY("publish", "small", 2, 3),
	RECOVERY("publish", "small", 11, 12),
	RECOVERY("unpublish", "small", 1, 2),
	RECOVERY("unpublish", "small", 3, 4),
	RECOVERY("persist", "small", 3, 4),
	RECOVERY("stack", "alloc, next region", 1, 2),
	RECOVERY("retain", "first, small", 1, 2),
	RECOVERY("retain", "first, small", 3, 4),
	RECOVERY("retain", "first, large", 3, 4),
	RECOVERY("retain", "again", 1, 2),
	RECOVERY("retain", "another's", 3, 4),
	RECOVERY("retain", "another's, the twelfth", 1, 2),
	RECOVERY("retain", "another's, the twelfth", 3, 4),
	RECOVERY("release", "last, small", 1, 3),
	RECOVERY("release", "last, small", 2, 3),
	RECOVERY("release", "last, span of zones", 1, 3),
	RECOVERY("release", "last, span of zones", 2, 3),
	RECOVERY("release", "another's", 1, 2),
	RECOVERY("stack", "alloc, from the heap", 3, 4),
	RECOVERY("stack", "reset, over regions", 1, 2),
	RECOVERY("stack", "thread exit", 1, 2),
	RECOVERY("log", "first record, lease", 1, 2),
	RECOVERY("log", "ring wrap, overwriting", 1, 2),
	RECOVERY("log", "large record", 1, 1),
	RECOVERY("log", "overwriting a large record", 1, 2),
	RECOVERY("log", "overwriting a large record", 3, 4),
	RECOVERY("log", "shared block", 1, 2),
	RECOVERY("log commit", "of a large reserve", 1, 2),
	RECOVERY("log abort", "of a large reserve", 1, 2),
	RECOVERY("log reader", "next as consumer", 1, 2),
	RECOVERY("log reader", "next under a name", 1, 2),
	RECOVERY("log drain", "a sealed block", 1, 2),
	RECOVERY("close", "with nothing left", 1, 3),
	RECOVERY("close", "with nothing left", 2, 3),
	RECOVERY("first call", "alloc", 1, 2),
	RECOVERY("purge", "idle pages", 1, 2),
	RECOVERY("purge", "pages of slabs", 1, 2),
	RECOVERY("alloc", "objects whose pages were given back", 1, 2),
	ALLOC_AFTER("alloc", "new slab", 2, 3),
	ALLOC_AFTER("alloc", "page, zone split to the last", 1, 2),
	ALLOC_AFTER("alloc", "span of zones", 3, 4),
	ALLOC_AFTER("free", "large, merged up to the zone", 1, 2),
	ALLOC_AFTER("free", "slab goes back", 3, 4),
	ALLOC_AFTER("free", "large, zone busy, another pending", 1, 1),
	SLICES("alloc", "first of class, new state block", 3, 4),
	SLICES("free", "span of zones", 1, 2),
	LOOK_UP_AFTER("unpublish", "small", 16, 20),
	LOOK_UP_AFTER("unpublish", "small", 17, 20),
	LOOK_UP_AFTER("unpublish", "small", 18, 20),
	LOOK_UP_AFTER("unpublish", "small", 19, 20),
	{ .name = NULL }
};
