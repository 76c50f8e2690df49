/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes, one of them held after each single instruction of an operation while the other does all
 * of its own: what a stopped process leaves half done must be in nobody's way, and nothing that others do
 * meanwhile may surprise it when it goes on.
 */
#include <pthread.h>
#include <sys/ptrace.h>
#include <ucontext.h>

#include "arena_file.h"
#include "buddy.h"
#include "cache.h"
#include "extent.h"
#include "heap.h"
#include "object.h"
#include "pagemap.h"
#include "slab.h"
#include "sizeclass.h"

#define CAPACITY MIB(32)
#define STEPS_MAX 400000
/* Sanitizers make ten instructions of one, and find here what they find elsewhere. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STEPS_ARE_FEW false
#else
#define STEPS_ARE_FEW true
#endif

static struct arena arena;
static shma *resized;
static struct board *board;
static uint64_t zone_pages;

static void setup(void)
{
	heap_attach(&arena, CAPACITY);
	board = board_new();
	zone_pages = arena.g.zone_pages;
}

static void teardown(void)
{
	heap_detach(&arena);
}

/* ---- one process held after each instruction ---- */

struct held {
	child_body prepare; /* before the first instruction looked at */
	child_body operate; /* what is held */
};

static int held_child(void *arg)
{
	const struct held *h = arg;
	int r;

	if ((!resized && thread_become_client(&arena)) || h->prepare(NULL) || ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		return 1;
	raise(SIGSTOP);
	r = h->operate(NULL);
	raise(SIGSTOP);
	return r;
}

/* Each instruction from the first stop to the second, and others() after every stride-th. Instructions
 * done. The child is left stopped behind its operation; it is let go by let_go(). */
static uint64_t hold_at_each(struct held *h, void (*others)(void), uint64_t stride, pid_t *pid)
{
	uint64_t steps = 0;
	int status;

	*pid = child_start(held_child, h);
	ck_assert_int_eq(waitpid(*pid, &status, WUNTRACED), *pid);
	ck_assert_msg(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "status %#x", status);
	for (;;) {
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, *pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(*pid, &status, 0), *pid);
		ck_assert_msg(WIFSTOPPED(status), "status %#x after %llu steps", status,
			      (unsigned long long)steps);
		if (WSTOPSIG(status) == SIGSTOP)
			return steps;
		ck_assert_msg(WSTOPSIG(status) == SIGTRAP, "signal %d", WSTOPSIG(status));
		ck_assert_uint_lt(++steps, STEPS_MAX);
		if (others && steps % stride == 0)
			others();
	}
}

static void let_go(pid_t pid)
{
	ck_assert_int_eq(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
	child_expect(pid, 0);
}

static uint64_t take_pages(uint64_t pages, uint32_t home)
{
	int err = 0;

	return extent_alloc(&arena, pages, 1, RAW_PLAIN, &home, &err);
}

static void check_all_free(void)
{
	ck_assert_uint_eq(heap_all_free_pages(&arena), geometry_heap_pages(&arena.g));
	heap_check(&arena);
}

/* ---- extents larger than a zone ---- */

#define SPAN_TAIL 9 /* pages in its last zone */

static uint64_t span_page, taken_page;

static int take_span(void *arg)
{
	(void)arg;
	span_page = take_pages(2 * zone_pages + SPAN_TAIL, 1);
	return span_page == EXTENT_NONE;
}

static int free_span(void *arg)
{
	(void)arg;
	extent_free(&arena, span_page);
	return 0;
}

/* As who takes over a dead holder's lock does; and takes the pages of the span's last piece if they are
 * free. */
static void rebuild_and_take(void)
{
	uint64_t page = 7 * zone_pages;

	for (uint32_t z = 1; z < arena.g.zone_count; z++) {
		if (client_prepare_zone(&arena, z) || zone_trylock(&arena, z))
			continue;
		buddy_rebuild(&arena, z);
		if (z == 7 && taken_page == EXTENT_NONE && buddy_take_at(&arena, z, 0, SPAN_TAIL)) {
			client_mark(&arena, page);
			extent_note_taken(&arena, page, SPAN_TAIL,
					  pw0_make(PAGE_RAW, arena.client, 0, RAW_PLAIN),
					  pw1_extent(SPAN_TAIL, 0));
			taken_page = page;
		}
		zone_unlock(&arena, z);
	}
}

START_TEST(a_span_half_freed_is_still_its_owners_whoever_rebuilds)
{
	struct held h = {take_span, free_span};
	uint64_t bottom, front;
	int err = 0;
	pid_t pid;

	while (arena_refresh(&arena) < arena.g.zone_count)
		ck_assert_int_eq(zone_activate(&arena), 0);
	bottom = extent_alloc(&arena, 1, 1, RAW_PLAIN, NULL, &err); /* in zone 0 */
	front = take_pages(4 * zone_pages, 1);
	ck_assert_uint_eq(front, zone_pages);
	taken_page = EXTENT_NONE;
	hold_at_each(&h, rebuild_and_take, 1, &pid);
	heap_check(&arena);
	let_go(pid);
	ck_assert_uint_eq(taken_page, 7 * zone_pages); /* once it was free */
	extent_free(&arena, taken_page);
	extent_free(&arena, front);
	extent_free(&arena, bottom);
	ck_assert_uint_eq(reap(&arena), 1);
	check_all_free();
}
END_TEST

/* ---- slabs that come and go while a zone's index is made anew ---- */

#define SLAB_CLASS 7 /* four pages */

static uint64_t slab_page;
static bool slab_made;

static void set_word0(uint64_t page, enum page_kind kind, uint32_t client, uint32_t class)
{
	_Atomic uint64_t *w0 = &arena.pages[page].w0;

	atomic_store(w0, pw0_make(kind, client, pw0_gen(atomic_load(w0)), class));
}

/* The stores of slab.c, all of one way. */
static void make_or_unmake_slab(void)
{
	uint32_t pages = sizeclass_table[SLAB_CLASS].pages;

	if (heap_below(4))
		return;
	set_word0(slab_page, PAGE_RAW, arena.client, RAW_SLAB + SLAB_CLASS);
	if (slab_made) {
		extent_clear_inside(&arena, slab_page, pages);
		atomic_store(&arena.pages[slab_page].w1, pw1_extent(pages, 0));
		set_word0(slab_page, PAGE_RAW, arena.client, RAW_PLAIN);
	} else {
		for (uint32_t dist = pages; dist-- > 0;) {
			atomic_store(&arena.pages[slab_page + dist].w1, pw1_slab(dist, 64, SLAB_CLASS));
			set_word0(slab_page + dist, PAGE_SLAB, 0, SLAB_CLASS);
		}
	}
	slab_made = !slab_made;
}

static int lock_zone_1(void *arg)
{
	(void)arg;
	return zone_trylock(&arena, 1);
}

static int rebuild_zone_1(void *arg)
{
	(void)arg;
	for (int i = 0; i < 40; i++) {
		buddy_rebuild(&arena, 1);
		atomic_store(&board->numbers[i], atomic_load(&zone_of(&arena, 1)->free_pages));
	}
	zone_unlock(&arena, 1);
	return 0;
}

START_TEST(a_rebuild_sees_slabs_in_the_making_whole)
{
	struct held h = {lock_zone_1, rebuild_zone_1};
	pid_t pid;

	heap_seed("a_rebuild_sees_slabs_in_the_making_whole");
	slab_page = take_pages(sizeclass_table[SLAB_CLASS].pages, 1);
	ck_assert_uint_eq(slab_page, zone_pages);
	slab_made = false;
	hold_at_each(&h, make_or_unmake_slab, 1, &pid);
	let_go(pid);
	for (int i = 0; i < 40; i++)
		ck_assert_uint_eq(atomic_load(&board->numbers[i]),
				  zone_pages - sizeclass_table[SLAB_CLASS].pages);
	while (slab_made)
		make_or_unmake_slab();
	extent_free(&arena, slab_page);
	ck_assert_uint_eq(reap(&arena), 1);
	check_all_free();
}
END_TEST

/* ---- slabs made, drawn from and given back by two at once ---- */

#define TURN_CLASS 55 /* 4 KiB, four to a slab: slabs come and go all the time */
#define TURN_OBJECTS 6

static struct slab_source turn_source;
static uint32_t turn_home;
static uint64_t turn_kept[2 * TURN_OBJECTS];
static uint32_t turn_count;

static _Atomic uint64_t *first_word(uint64_t handle)
{
	return (_Atomic uint64_t *)(void *)(arena.heap + handle_offset(handle));
}

/* Claims some, and puts some back, slabs and records with them; each object bears its owner's number. */
static bool take_a_turn(uint32_t claim, uint32_t put)
{
	int err = 0;

	turn_source.class = TURN_CLASS;
	turn_source.home = &turn_home;
	claim = slab_claim(&arena, &turn_source, claim, OBJECT_PRIVATE, turn_kept + turn_count, &err);
	for (uint32_t i = turn_count; i < turn_count + claim; i++)
		atomic_store(first_word(turn_kept[i]), arena.client);
	turn_count += claim;
	if (put > turn_count)
		put = turn_count;
	for (uint32_t i = 0; i < put; i++)
		if (atomic_load(first_word(turn_kept[i])) != arena.client)
			return false;
	slab_put(&arena, turn_kept, put, 0);
	turn_count -= put;
	memmove(turn_kept, turn_kept + put, turn_count * sizeof(turn_kept[0]));
	return err == 0;
}

static int turn_begins(void *arg)
{
	(void)arg;
	turn_home = 1;
	turn_count = 0;
	turn_source.head = 0;
	return 0;
}

static int turns_held(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < 4; i++)
		if (!take_a_turn(1 + i, 1 + i % 3) || !take_a_turn(1, TURN_OBJECTS))
			return 1;
	return take_a_turn(1, 2 * TURN_OBJECTS) ? 0 : 2;
}

static void turns_of_others(void)
{
	uint32_t claim = (uint32_t)heap_below(TURN_OBJECTS) + 1;

	if (turn_count > TURN_OBJECTS || !heap_below(3))
		ck_assert(take_a_turn(1, 2 * TURN_OBJECTS));
	else
		ck_assert(take_a_turn(claim, (uint32_t)heap_below(claim + 2)));
}

START_TEST(slabs_made_and_given_back_at_any_instruction_lose_no_object_and_give_none_twice)
{
	struct held h = {turn_begins, turns_held};
	pid_t pid;

	heap_seed("slabs_made_and_given_back_at_any_instruction");
	turn_begins(NULL);
	hold_at_each(&h, turns_of_others, 1, &pid);
	heap_check(&arena);
	let_go(pid);
	ck_assert(take_a_turn(1, 2 * TURN_OBJECTS));
	ck_assert_uint_eq(reap(&arena), 1);
	heap_check(&arena);
}
END_TEST

/* ---- extents taken, left and freed by two at once ---- */

static uint64_t extents[8];

static void extent_turn(uint64_t pages, size_t i)
{
	if (extents[i] != EXTENT_NONE) {
		ck_assert_uint_eq(atomic_load((_Atomic uint64_t *)(void *)(arena.heap + (extents[i] << PAGE_SHIFT))),
				  arena.client);
		extent_free(&arena, extents[i]);
		extents[i] = EXTENT_NONE;
		return;
	}
	extents[i] = take_pages(pages, 1);
	if (extents[i] != EXTENT_NONE)
		atomic_store((_Atomic uint64_t *)(void *)(arena.heap + (extents[i] << PAGE_SHIFT)), arena.client);
}

static int no_extents(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < LENGTH(extents); i++)
		extents[i] = EXTENT_NONE;
	return 0;
}

static int extents_held(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < 24; i++)
		extent_turn(1 + i * i % 37, i % 3);
	for (size_t i = 0; i < 3; i++)
		if (extents[i] != EXTENT_NONE)
			extent_turn(0, i);
	return 0;
}

/* In the one zone that both use the lock is often held: extents are left with it. */
static void extents_of_others(void)
{
	extent_turn(1 + heap_below(40), heap_below(LENGTH(extents)));
}

START_TEST(extents_taken_and_left_at_any_instruction_are_nobodys_twice_and_all_come_back)
{
	struct held h = {no_extents, extents_held};
	pid_t pid;

	heap_seed("extents_taken_and_left_at_any_instruction");
	no_extents(NULL);
	hold_at_each(&h, extents_of_others, 1, &pid);
	heap_check(&arena);
	let_go(pid);
	for (size_t i = 0; i < LENGTH(extents); i++)
		if (extents[i] != EXTENT_NONE)
			extent_turn(0, i);
	ck_assert_uint_eq(reap(&arena), 1);
	check_all_free();
}
END_TEST

/* ---- the return of what a dead one had, while others take it ---- */

#define LEFT_OBJECTS 60

static int one_call_before(void *arg);

static int leave_things(void *arg)
{
	shma *s = arg;

	for (uint32_t i = 0; i < LEFT_OBJECTS; i++) {
		uint64_t handle = shma_alloc(s, i % 7 ? 3000 : 40000, i % 2 ? SHMA_SHARED : 0);

		if (!handle)
			return 1;
		atomic_store(&board->numbers[i], handle);
	}
	die();
	return 0;
}

static int recover_in_slices(void *arg)
{
	int r;

	(void)arg;
	do
		r = recovery_run(&resized->arena, (uint32_t)atomic_load(&board->count), false);
	while (r == -EAGAIN);
	return 0;
}

static uint32_t seen_steps;

/* One object after the other is taken or freed, if it is still there, and objects made in its stead. */
static void take_what_was_left(void)
{
	uint64_t handle = atomic_load(&board->numbers[seen_steps++ % LEFT_OBJECTS]), own;

	if (object_take(&resized->arena, handle) == 0)
		ck_assert_int_eq(object_free(&resized->arena, handle), 0);
	own = shma_alloc(resized, seen_steps % 5 ? 3000 : 40000, SHMA_ZERO);
	ck_assert_uint_ne(own, 0);
	ck_assert_uint_ne(own, handle);
	ck_assert_int_eq(shma_free(resized, own), 0);
}

START_TEST(what_the_dead_left_is_taken_or_returned_but_not_both_at_any_instruction)
{
	shma *s = resized = heap_open(CAPACITY, 0);
	struct held h = {one_call_before, recover_in_slices};
	pid_t pid;

	seen_steps = 0;
	child_dies(child_start(leave_things, s));
	atomic_store(&board->count, 2); /* its number: the one behind ours */
	hold_at_each(&h, take_what_was_left, 5, &pid);
	let_go(pid);
	reap(&s->arena);
	for (uint32_t i = 0; i < LEFT_OBJECTS; i++)
		ck_assert_ptr_null(shma_ptr(s, atomic_load(&board->numbers[i])));
	ck_assert_uint_eq(heap_stats(s).live_objects, 0);
	resized = NULL;
	heap_close(s);
}
END_TEST

/* ---- a claim that comes when the record is another slab's ---- */

static struct slab_place late; /* of the object that is to be claimed */
#define LATE_PLACES 40

static uint64_t late_steps, late_last, late_target, held_steps;

static int claim_one(void *arg)
{
	uint64_t handle = 0;
	int err = 0;

	(void)arg;
	turn_source = (struct slab_source){
		.class = TURN_CLASS, .head = (uint32_t)late.head + 1, .home = &turn_home};
	slab_claim(&arena, &turn_source, 1, OBJECT_PRIVATE, &handle, &err);
	atomic_store(&board->numbers[0], handle);
	return handle == 0;
}

static bool is_claimed(void)
{
	return state_kind(atomic_load(&late.record->words[late.index])) != OBJECT_FREE;
}

static bool is_open(void)
{
	return atomic_load(&late.record->owner) == RECORD_LIVE;
}

/* How many instructions there are before the record is held; while it is, nothing of the slab is to be had. */
static void note_window(void)
{
	struct slab_source source = {
		.class = TURN_CLASS, .head = (uint32_t)late.head + 1, .home = &turn_home};
	uint64_t handle = 0;
	int err = 0;

	late_steps++;
	if (!late_last && !is_open())
		late_last = late_steps;
	if (is_open() || held_steps++ % 8)
		return;
	ck_assert_uint_eq(slab_claim(&arena, &source, 1, OBJECT_PRIVATE, &handle, &err), 1);
	ck_assert_uint_ge((handle_offset(handle) >> PAGE_SHIFT) - late.head, 4);
	ck_assert(!is_open());
	slab_put(&arena, &handle, 1, 0);
}

/* The record is another slab's from here on. */
static void change_slab(void)
{
	if (++late_steps == late_target && is_open() && !is_claimed())
		atomic_store(&late.record->head, (uint32_t)late.head + 100);
}

static void claim_held(void (*others)(void))
{
	struct held h = {turn_begins, claim_one};
	pid_t pid;

	late_steps = 0;
	hold_at_each(&h, others, 1, &pid);
	let_go(pid);
}

START_TEST(who_holds_a_slab_has_it_alone_and_only_that_slab)
{
	uint64_t handles[2], highest, changed = 0;
	int err = 0;

	turn_begins(NULL);
	turn_source.class = TURN_CLASS;
	turn_source.home = &turn_home;
	turn_source.owned = INT64_MAX; /* so that two are of one slab */
	ck_assert_uint_eq(slab_claim(&arena, &turn_source, 2, OBJECT_PRIVATE, handles, &err), 2);
	highest = handle_offset(handles[0]) > handle_offset(handles[1]) ? handles[0] : handles[1];
	ck_assert_int_eq(slab_find(&arena, handle_offset(highest) + 4096, &late), 0);
	ck_assert(!is_claimed());
	late_last = held_steps = 0;
	claim_held(note_window);
	ck_assert_uint_gt(late_last, 3);
	ck_assert_uint_gt(held_steps, 30);
	/* Each child goes all the way: so not all places, but the last ones. */
	late_target = late_last > LATE_PLACES ? late_last - LATE_PLACES : 1;
	for (; late_target < late_last; late_target++) {
		uint64_t got;

		ck_assert_uint_eq(reap(&arena), 1);
		ck_assert(!is_claimed());
		claim_held(change_slab);
		if (atomic_load(&late.record->head) == late.head)
			continue; /* this child was quicker */
		changed++;
		got = handle_offset(atomic_load(&board->numbers[0])) >> PAGE_SHIFT;
		ck_assert_uint_ne(got, late.head + late.index);
		ck_assert(!is_claimed());
		ck_assert(is_open());
		atomic_store(&late.record->head, (uint32_t)late.head);
	}
	ck_assert_uint_gt(changed, 3);
	ck_assert_uint_eq(reap(&arena), 1);
	slab_put(&arena, handles, 2, 0);
	heap_check(&arena);
}
END_TEST

/* ---- resizing what is the arena's ---- */

static uint64_t resized_handle;

static int one_call_before(void *arg)
{
	(void)arg;
	return shma_free(resized, shma_alloc(resized, 100, 0));
}

static int resize_it(void *arg)
{
	(void)arg;
	return shma_resize(resized, resized_handle, 5000) == 0;
}

/* Were the child killed here, this would stay for ever. */
static void count_the_arenas(void)
{
	struct shma_stats st;

	stats_arena(&resized->arena, &st);
	ck_assert_uint_le(st.persistent_objects, 1);
}

START_TEST(a_resize_never_leaves_two_objects_of_the_arenas)
{
	shma *s = resized = heap_open(CAPACITY, 0);
	struct held h = {one_call_before, resize_it};
	pid_t pid;

	resized_handle = shma_alloc(s, 100, SHMA_PERSIST);
	hold_at_each(&h, count_the_arenas, 3, &pid);
	count_the_arenas();
	let_go(pid);
	reap(&s->arena);
	ck_assert_ptr_null(shma_ptr(s, resized_handle));
	ck_assert_uint_eq(heap_stats(s).persistent_objects, 1);
	ck_assert_int_eq(shma_close(s), 0);
	resized = NULL;
}
END_TEST

/* ---- two threads that free one object at once ---- */

#define OBJECT_BYTES 128
#define ROUNDS 8

/* What is left when another thread has freed the same object with a store that came later: its handle is
 * the good one, and this thread's, on top of this cache, is stale. The place becomes another client's. */
static uint64_t stale_on_top(shma *s, struct board *b, pid_t *other, child_body body)
{
	struct arena *a = &s->arena;
	uint64_t handle = shma_alloc(s, OBJECT_BYTES, 0);
	struct thread_block *t = thread_peek(a);
	uint32_t class = sizeclass_of(OBJECT_BYTES), gen = handle_gen(handle) + 12345;
	struct object_place at;
	uint64_t good;

	if (!object_place_of(a, handle, &at))
		abort();
	cache_empty_all(a, t);
	atomic_store(at.word, state_make(OBJECT_PRIVATE, a->client, gen));
	good = handle_make(a->tag, gen & 0xffff, handle_offset(handle));
	slab_put(a, &good, 1, t->caches[class].record_page);
	atomic_store(&b->numbers[0], handle_offset(handle));
	atomic_store(&b->ready, 0);
	atomic_store(&b->stop, 0);
	*other = child_start(body, s);
	board_wait(&b->ready, 1);
	for (int i = 0; i < 2; i++)
		cache_push(a, t, class, handle);
	return handle;
}

/* Takes all objects of the class until it has that place, and keeps it filled. */
static int own_the_place(void *arg)
{
	shma *s = arg;
	uint64_t handle = 0;
	unsigned char *p;

	for (int i = 0; i < 4000 && handle_offset(handle) != atomic_load(&board->numbers[0]); i++)
		handle = shma_alloc(s, OBJECT_BYTES, 0);
	p = shma_ptr(s, handle);
	if (handle_offset(handle) != atomic_load(&board->numbers[0]) || !p)
		return 2;
	memset(p, 0x5a, OBJECT_BYTES);
	atomic_fetch_add(&board->ready, 1);
	while (!atomic_load(&board->stop))
		usleep(500);
	for (int i = 0; i < OBJECT_BYTES; i++)
		if (p[i] != 0x5a)
			return 3;
	return shma_ptr(s, handle) == p && shma_free(s, handle) == 0 ? 0 : 4;
}

static void alloc_with(shma *s, unsigned flags)
{
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t handle = shma_alloc(s, OBJECT_BYTES, flags);

		ck_assert_uint_ne(handle, 0);
		ck_assert_uint_ne(handle_offset(handle), atomic_load(&board->numbers[0]));
		ck_assert_int_eq(shma_free(s, handle), 0);
	}
}

/* A kind, or zeros, written to a stale entry's place would be written to another client's object. */
START_TEST(an_object_freed_by_two_threads_at_once_costs_no_other_process_one)
{
	const unsigned flags[] = {SHMA_SHARED, SHMA_ZERO, SHMA_PERSIST, SHMA_SHARED | SHMA_ZERO};
	shma *s = heap_open(CAPACITY, 0);
	uint64_t anchor = shma_alloc(s, OBJECT_BYTES, 0); /* the slab stays */

	for (size_t i = 0; i < LENGTH(flags); i++) {
		pid_t other;
		uint64_t stale = stale_on_top(s, board, &other, own_the_place);

		ck_assert_ptr_null(shma_ptr(s, stale));
		alloc_with(s, flags[i]);
		atomic_store(&board->stop, 1);
		child_expect(other, 0);
		reap(&s->arena);
	}
	ck_assert_int_eq(shma_free(s, anchor), 0);
	heap_close(s);
}
END_TEST

/* The same for the bytes that a resize copies. */
START_TEST(a_resize_never_moves_to_a_stale_entry)
{
	shma *s = heap_open(CAPACITY, 0);
	uint64_t large = shma_alloc(s, 4 * OBJECT_BYTES, 0), anchor = shma_alloc(s, OBJECT_BYTES, 0);
	pid_t other;

	stale_on_top(s, board, &other, own_the_place);
	large = shma_resize(s, large, OBJECT_BYTES);
	ck_assert_uint_ne(large, 0);
	memset(shma_ptr(s, large), 0, OBJECT_BYTES);
	atomic_store(&board->stop, 1);
	child_expect(other, 0);
	heap_check(&s->arena);
	ck_assert_int_eq(shma_free(s, large), 0);
	ck_assert_int_eq(shma_free(s, anchor), 0);
	reap(&s->arena);
	heap_close(s);
}
END_TEST

/* ---- a signal handler that logs, after each instruction ---- */

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#define LARGE_RECORD 3000 /* larger than a quarter of a block: an extent of its own */

static shma *logged;
static uint64_t from, stride, instructions;

/* By the processor's trap flag, after each instruction. Where other signals are blocked, no handler but
 * one for the processor's own exceptions ever comes. */
static void log_from_handler(int sig, siginfo_t *info, void *context)
{
	static char record[LARGE_RECORD];
	const ucontext_t *c = context;

	(void)sig;
	(void)info;
	if (++instructions < from || (instructions - from) % stride || sigismember(&c->uc_sigmask, SIGUSR1))
		return;
	if (shma_log_write(logged, 6, record, sizeof(record)) == 0)
		atomic_fetch_add(&board->count, 1);
}

static void trap_each_instruction(bool on)
{
	if (on)
		__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\torq $0x100, (%%rsp)\n\t"
				 "popfq\n\tlea 128(%%rsp), %%rsp" : : : "memory", "cc");
	else
		__asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x100, (%%rsp)\n\t"
				 "popfq\n\tlea 128(%%rsp), %%rsp" : : : "memory", "cc");
}

static int interrupted_child(void *arg)
{
	child_body *operate = arg;
	struct sigaction action = {.sa_sigaction = log_from_handler, .sa_flags = SA_SIGINFO};
	int r;

	sigaction(SIGTRAP, &action, NULL);
	trap_each_instruction(true);
	r = (*operate)(NULL);
	trap_each_instruction(false);
	atomic_store(&board->numbers[0], instructions);
	return r;
}

static int first_call(void *arg)
{
	(void)arg;
	return shma_free(logged, shma_alloc(logged, 100, 0));
}

static int many_calls(void *arg)
{
	uint64_t handles[3];

	(void)arg;
	for (size_t i = 0; i < LENGTH(handles); i++)
		handles[i] = shma_alloc(logged, i ? 40000 * i : 30000, 0);
	for (size_t i = 0; i < LENGTH(handles); i++)
		if (shma_free(logged, handles[i]))
			return 1;
	handles[0] = shma_alloc(logged, 3 * MIB(4) / 2, 0); /* more than a zone */
	return handles[0] ? shma_free(logged, handles[0]) : 2;
}

/* The instructions there were. */
static uint64_t interrupted(shma *s, child_body operate, uint64_t first, uint64_t each)
{
	from = first;
	stride = each;
	atomic_store(&board->numbers[0], 0);
	ck_assert_int_eq(in_child(interrupted_child, &operate), 0);
	ck_assert_uint_eq(reap(&s->arena), 1);
	return atomic_load(&board->numbers[0]);
}

/* The first handler makes the thread's block, so each child has its first one at another instruction. */
START_TEST(a_handler_may_log_in_the_middle_of_a_threads_first_call)
{
	shma *s = logged = heap_open(CAPACITY, 0);
	uint64_t all = interrupted(s, first_call, UINT64_MAX, 1);

	for (uint64_t first = 1; first <= all; first += 1 + all / (STEPS_ARE_FEW ? 14 : 4))
		interrupted(s, first_call, first, 100);
	heap_close(s);
}
END_TEST

START_TEST(a_handler_may_log_in_the_middle_of_any_call)
{
	shma *s = logged = heap_open(CAPACITY, 0);

	interrupted(s, many_calls, 1, STEPS_ARE_FEW ? 1 : 20);
	ck_assert_uint_gt(atomic_load(&board->count), 500);
	heap_close(s);
}
END_TEST
#endif

/* ---- threads that are cancelled in a call ---- */

static char other_arena[64];

static void *cancelled_thread(void *arg)
{
	shma *s, *other;
	uint64_t handle;

	pthread_cancel(pthread_self());
	s = arg;
	handle = shma_alloc(s, 5 * MIB(1) / 2, 0);
	if (handle)
		shma_free(s, handle);
	if (shma_open(&other, other_arena, SHMA_CREATE | SHMA_EMBEDDED, NULL) == 0)
		shma_close(other);
	recovery_reap_all(&s->arena);
	pthread_testcancel();
	return NULL;
}

/* A child that is no client yet, so that each thread's first calls are made under the process's locks. */
static int cancel_and_close(void *arg)
{
	shma *s = arg;

	for (int i = 0; i < 4; i++) {
		pthread_t thread;
		void *end;

		if (pthread_create(&thread, NULL, cancelled_thread, s) || pthread_join(thread, &end) ||
		    end != PTHREAD_CANCELED)
			return 1;
	}
	if (shma_close(s))
		return 2;
	rest(board);
	return 0;
}

START_TEST(a_thread_cancelled_in_a_call_leaves_no_lock_and_no_memory_behind)
{
	shma *s = heap_open(CAPACITY, 0);
	char path[128];
	pid_t pid;

	snprintf(other_arena, sizeof(other_arena), "test-cancel-%d", (int)getpid());
	pid = child_start(cancel_and_close, s);
	board_wait(&board->ready, 1);
	ck_assert_uint_eq(heap_stats(s).clients, 1); /* it has left in order, owning nothing */
	child_kill(pid);
	ck_assert_int_eq(arena_path(path, sizeof(path), other_arena), 0);
	arena_unlink(path);
	heap_close(s);
}
END_TEST

/* ---- all slots taken by the dead ---- */

static int join_and_tell_number(void *arg)
{
	shma *s = arg;

	if (!shma_alloc(s, 32, 0))
		return errno;
	atomic_store(&board->numbers[0], s->arena.client);
	return 0;
}

static int own_something_and_die(void *arg)
{
	shma *s = arg;

	for (int i = 0; i < 1000; i++)
		shma_alloc(s, (size_t)(1 + i * 40), 0);
	die();
	return 0;
}

/* The spare slot is for whoever comes next, though recovery has marked regions for it. */
START_TEST(a_spare_slot_is_only_borrowed)
{
	shma *s = heap_open(CAPACITY, 0);

	child_dies(child_start(own_something_and_die, s));
	for (uint32_t i = 3; i < CLIENTS_MAX - CLIENT_SPARES; i++) {
		ck_assert_int_eq(arena_commit(&s->arena, client_area_at(&s->arena, i), PAGE_SIZE), 0);
		atomic_store(client_word_at(&s->arena, i), client_word(CLIENT_LIVE, 0, 1));
	}
	atomic_store(&s->arena.header->clients_high, CLIENTS_MAX - CLIENT_SPARES);
	ck_assert_int_eq(in_child(join_and_tell_number, s), 0);
	ck_assert_uint_lt(atomic_load(&board->numbers[0]), CLIENTS_MAX - CLIENT_SPARES);
	reap(&s->arena);
	heap_close(s);
}
END_TEST

static void add_step_tests(TCase *t)
{
	tcase_add_test(t, a_span_half_freed_is_still_its_owners_whoever_rebuilds);
	tcase_add_test(t, a_rebuild_sees_slabs_in_the_making_whole);
	tcase_add_test(t, slabs_made_and_given_back_at_any_instruction_lose_no_object_and_give_none_twice);
	tcase_add_test(t, who_holds_a_slab_has_it_alone_and_only_that_slab);
	tcase_add_test(t, extents_taken_and_left_at_any_instruction_are_nobodys_twice_and_all_come_back);
	tcase_add_test(t, what_the_dead_left_is_taken_or_returned_but_not_both_at_any_instruction);
	tcase_add_test(t, a_resize_never_leaves_two_objects_of_the_arenas);
}

int main(void)
{
	Suite *s = suite_create("interleave");
	TCase *t = tcase_create("interleave");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	if (STEPS_ARE_FEW)
		add_step_tests(t);
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	tcase_add_test(t, a_handler_may_log_in_the_middle_of_a_threads_first_call);
	tcase_add_test(t, a_handler_may_log_in_the_middle_of_any_call);
#endif
	tcase_add_test(t, an_object_freed_by_two_threads_at_once_costs_no_other_process_one);
	tcase_add_test(t, a_resize_never_moves_to_a_stale_entry);
	tcase_add_test(t, a_thread_cancelled_in_a_call_leaves_no_lock_and_no_memory_behind);
	tcase_add_test(t, a_spare_slot_is_only_borrowed);
	suite_add_tcase(s, t);
	return run_suite(s);
}
