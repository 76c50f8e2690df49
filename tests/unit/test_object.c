/* SPDX-License-Identifier: Apache-2.0 */
/* Objects through the public calls: who may do what with whose, and handles that are wrong. */
#include <sched.h>

#include "extent.h"
#include "heap.h"
#include "object.h"
#include "object_offered.h"

#define SPAN_SIZE MIB(5)
#define NAME "some name"

static shma *heap;
static struct board *board;
static shma_handle container; /* published, for cells */

static void setup(void)
{
	heap = heap_open(MIB(32), 0);
	board = board_new();
}

static void teardown(void)
{
	heap_close(heap);
}

/* ---- a second process that does as told ---- */

enum op { FREE, SHARE, TAKE, RESIZE, PERSIST, PUBLISH, UNPUBLISH, PTR, SIZE, READ, OPS };
static const char *const op_names[OPS] = {"free", "share", "take", "resize", "persist",
					  "publish", "unpublish", "ptr", "size", "read"};

/* Result, and the handle that is the object's from then on. */
static int perform(enum op op, shma_handle *h)
{
	shma_handle moved;
	char bytes[8];
	ssize_t n;

	errno = 0;
	switch (op) {
	case FREE: return shma_free(heap, *h);
	case SHARE: return shma_share(heap, *h);
	case TAKE: return shma_take(heap, *h);
	case RESIZE:
		moved = shma_resize(heap, *h, 3000);
		if (moved)
			*h = moved;
		return moved ? 0 : -errno;
	case PERSIST: return shma_persist(heap, *h, shma_ptr(heap, container));
	case PUBLISH: return shma_publish(heap, NAME, *h);
	case UNPUBLISH: return shma_unpublish(heap, NAME);
	case PTR: return shma_ptr(heap, *h) ? 0 : -errno;
	case SIZE: return shma_size(heap, *h) ? 0 : -errno;
	default:
		n = shma_read(heap, *h, 0, bytes, sizeof(bytes));
		return n == sizeof(bytes) ? 0 : (int)n;
	}
}

static int serve(void *arg)
{
	int done = 0;

	(void)arg;
	while (!atomic_load(&board->stop)) {
		shma_handle h;
		int r;

		if (atomic_load(&board->step) == done) {
			usleep(20);
			continue;
		}
		h = atomic_load(&board->numbers[1]);
		r = perform((enum op)atomic_load(&board->numbers[0]), &h);
		atomic_store(&board->numbers[1], h);
		atomic_store(&board->numbers[2], (uint64_t)(int64_t)r);
		atomic_store(&board->ready, ++done);
	}
	return 0;
}

static int let_other_perform(enum op op, shma_handle *h)
{
	int step = atomic_load(&board->step) + 1;

	atomic_store(&board->numbers[0], op);
	atomic_store(&board->numbers[1], *h);
	atomic_store(&board->step, step);
	ck_assert(board_reaches(&board->ready, step));
	*h = atomic_load(&board->numbers[1]);
	return (int)(int64_t)atomic_load(&board->numbers[2]);
}

/* ---- the matrix of ownership ---- */

enum state { PRIVATE, TAKEN, SHARED, PERSISTENT, PUBLISHED, FREED, STATES };
static const char *const state_names[STATES] = {"private", "taken", "shared", "persistent",
						"published", "freed"};

/* By the owner, by another. What the contract says. */
static const struct {
	int mine, others;
} expected[STATES][OPS] = {
	[PRIVATE] = {[FREE] = {0, -EPERM}, [SHARE] = {0, -EPERM}, [TAKE] = {-EPERM, -EPERM},
		     [RESIZE] = {0, -EPERM}, [PERSIST] = {0, -EPERM}, [PUBLISH] = {0, -EPERM},
		     [UNPUBLISH] = {-ENOENT, -ENOENT}},
	[TAKEN] = {[FREE] = {0, -EPERM}, [SHARE] = {0, -EPERM}, [TAKE] = {-EBUSY, -EBUSY},
		   [RESIZE] = {0, -EPERM}, [PERSIST] = {0, -EPERM}, [PUBLISH] = {0, -EPERM},
		   [UNPUBLISH] = {-ENOENT, -ENOENT}},
	[SHARED] = {[FREE] = {0, 0}, [SHARE] = {0, 0}, [TAKE] = {0, 0}, [RESIZE] = {0, -EPERM},
		    [PERSIST] = {0, -EPERM}, [PUBLISH] = {0, -EPERM}, [UNPUBLISH] = {-ENOENT, -ENOENT}},
	[PERSISTENT] = {[FREE] = {0, 0}, [SHARE] = {0, 0}, [TAKE] = {0, 0}, [RESIZE] = {0, 0},
			[PERSIST] = {0, 0}, [PUBLISH] = {0, 0},
			[UNPUBLISH] = {-ENOENT, -ENOENT}},
	[PUBLISHED] = {[FREE] = {-EBUSY, -EBUSY}, [SHARE] = {0, 0}, [TAKE] = {-EBUSY, -EBUSY},
		       [RESIZE] = {-EBUSY, -EBUSY}, [PERSIST] = {-EBUSY, -EBUSY},
		       [PUBLISH] = {-EBUSY, -EBUSY}, [UNPUBLISH] = {0, 0}},
	[FREED] = {[FREE] = {-ESTALE, -ESTALE}, [SHARE] = {-ESTALE, -ESTALE}, [TAKE] = {-ESTALE, -ESTALE},
		   [RESIZE] = {-ESTALE, -ESTALE}, [PERSIST] = {-ESTALE, -ESTALE},
		   [PUBLISH] = {-ESTALE, -ESTALE}, [UNPUBLISH] = {-ENOENT, -ENOENT},
		   [PTR] = {-ESTALE, -ESTALE}, [SIZE] = {-ESTALE, -ESTALE}, [READ] = {-ESTALE, -ESTALE}},
};

static shma_handle make(enum state state, size_t size)
{
	shma_handle h = shma_alloc(heap, size, state == PERSISTENT		 ? SHMA_PERSIST
					       : state == SHARED || state == TAKEN ? SHMA_SHARED
										   : 0);

	ck_assert_uint_ne(h, SHMA_NULL);
	if (state == TAKEN)
		ck_assert_int_eq(shma_take(heap, h), 0);
	if (state == PUBLISHED)
		ck_assert_int_eq(shma_publish(heap, NAME, h), 0);
	if (state == FREED)
		ck_assert_int_eq(shma_free(heap, h), 0);
	return h;
}

/* Whoever has it now, it goes. */
static void unmake(shma_handle h)
{
	let_other_perform(UNPUBLISH, &h);
	let_other_perform(FREE, &h);
	shma_free(heap, h);
	*(shma_handle *)shma_ptr(heap, container) = 0;
}

static void check_one(enum state state, enum op op, bool by_owner, size_t size)
{
	int due = by_owner ? expected[state][op].mine : expected[state][op].others, r;
	shma_handle h = make(state, size), before = h;

	r = by_owner ? perform(op, &h) : let_other_perform(op, &h);
	if (r != due)
		ck_abort_msg("%s of a %s object of %zu bytes by %s: %d, not %d", op_names[op],
			     state_names[state], size, by_owner ? "its owner" : "another", r, due);
	if (due && state != FREED) /* untouched */
		ck_assert_ptr_ne(shma_ptr(heap, before), NULL);
	if (op == PERSIST && !due)
		ck_assert_uint_eq(*(shma_handle *)shma_ptr(heap, container), h);
	if (op == FREE && !due)
		ck_assert(shma_ptr(heap, h) == NULL && errno == ESTALE);
	unmake(h);
}

static void check_matrix(size_t size)
{
	pid_t pid;

	container = shma_alloc(heap, 64, SHMA_ZERO);
	ck_assert_int_eq(shma_publish(heap, "container", container), 0);
	pid = child_start(serve, NULL);
	for (int state = 0; state < STATES; state++)
		for (int op = 0; op < OPS; op++)
			for (int by_owner = 0; by_owner < 2; by_owner++)
				check_one((enum state)state, (enum op)op, by_owner, size);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 1);
	atomic_store(&board->stop, 1);
	child_expect(pid, 0);
	reap(&heap->arena);
	ck_assert_int_eq(shma_unpublish(heap, "container"), 0);
	ck_assert_int_eq(shma_free(heap, container), 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}

START_TEST(each_call_on_each_kind_of_small_object_gives_what_the_contract_says)
{
	check_matrix(100);
}
END_TEST

START_TEST(each_call_on_each_kind_of_large_object_gives_what_the_contract_says)
{
	check_matrix(50000);
}
END_TEST

START_TEST(each_call_on_each_kind_of_object_beyond_a_zone_gives_what_the_contract_says)
{
	check_matrix(SPAN_SIZE);
}
END_TEST

START_TEST(what_another_took_is_its_own_until_it_shares)
{
	shma_handle h = shma_alloc(heap, 100, SHMA_SHARED);
	pid_t pid;

	container = h;
	pid = child_start(serve, NULL);
	ck_assert_int_eq(let_other_perform(TAKE, &h), 0);
	ck_assert_int_eq(shma_take(heap, h), -EBUSY);
	ck_assert_int_eq(shma_free(heap, h), -EPERM);
	ck_assert_int_eq(shma_share(heap, h), -EPERM);
	ck_assert_ptr_ne(shma_ptr(heap, h), NULL);
	ck_assert_int_eq(let_other_perform(SHARE, &h), 0);
	ck_assert_int_eq(shma_take(heap, h), 0);
	ck_assert_int_eq(let_other_perform(FREE, &h), -EPERM);
	ck_assert_int_eq(shma_free(heap, h), 0);
	ck_assert_int_eq(let_other_perform(TAKE, &h), -ESTALE);
	atomic_store(&board->stop, 1);
	child_expect(pid, 0);
	reap(&heap->arena);
}
END_TEST

/* Whether the short way frees an object. */
static bool freed_short(shma_handle h)
{
	struct object_place at;
	uint32_t state;
	enum offered r;

	if (!object_place_of(&heap->arena, h, &at))
		return false;
	r = object_offered_win(&heap->arena, h, at.word, at.w1, &state);
	if (r == OFFERED_UNMARKED) {
		ck_assert(object_offered_mark(&heap->arena, h, at.w1));
		r = object_offered_win(&heap->arena, h, at.word, at.w1, &state);
	}
	ck_assert(r == OFFERED_WON || r == OFFERED_NOT);
	return r == OFFERED_WON && object_offered_keep(&heap->arena, h, at.w1, state) == 0;
}

START_TEST(the_short_way_frees_what_is_on_offer_and_leaves_all_else_as_it_is)
{
	for (int state = 0; state < STATES; state++) {
		shma_handle h = make((enum state)state, 100);
		uint32_t client = 0, before = 0;
		enum object_kind kind = object_kind_of(&heap->arena, h, &before);

		ck_assert_int_eq(freed_short(h), state == SHARED);
		if (state != SHARED) {
			ck_assert_int_eq(object_kind_of(&heap->arena, h, &client), kind);
			ck_assert_uint_eq(client, before);
		}
		ck_assert(!freed_short(h));
		if (state == PUBLISHED)
			ck_assert_int_eq(shma_unpublish(heap, NAME), 0);
		if (state != SHARED && state != FREED)
			ck_assert_int_eq(shma_free(heap, h), 0);
		ck_assert_int_eq(shma_free(heap, h), -ESTALE);
	}
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

START_TEST(the_short_way_is_for_small_objects_of_this_arena_and_this_generation)
{
	const uint64_t wrong[] = {UINT64_C(1) << HANDLE_GEN_SHIFT, UINT64_C(1) << HANDLE_TAG_SHIFT, 1,
				  UINT64_C(1) << (HANDLE_OFFSET_BITS - 1)};
	shma_handle h = shma_alloc(heap, 100, SHMA_SHARED);
	shma_handle large = shma_alloc(heap, SPAN_SIZE, SHMA_SHARED);

	for (size_t i = 0; i < LENGTH(wrong); i++)
		ck_assert(!freed_short(h ^ wrong[i]));
	ck_assert(!freed_short(0));
	ck_assert(!freed_short(large));
	ck_assert(freed_short(h));
	ck_assert_int_eq(shma_free(heap, large), 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

/* Who frees another's is its heir's problem from then on: its own mark says so. */
static int offer_some(void *arg)
{
	for (int i = 0; i < *(int *)arg; i++)
		atomic_store(&board->numbers[i], shma_alloc(heap, 100, SHMA_SHARED));
	rest(board);
	return 0;
}

START_TEST(what_is_freed_the_short_way_is_the_freers_own_and_returns_with_it)
{
	int some = 3;
	pid_t pid = child_start(offer_some, &some);
	uint64_t page;

	child_ready(board, pid, 1);
	ck_assert_int_eq(shma_free(heap, shma_alloc(heap, 5000, 0)), 0); /* now we are a client */
	for (int i = 0; i < some; i++) {
		shma_handle h = atomic_load(&board->numbers[i]), again;

		page = handle_offset(h) >> PAGE_SHIFT;
		page -= pw1_dist(atomic_load(&heap->arena.pages[page].w1));
		if (i == some - 1) { /* its owner is dead, and nobody has seen to it */
			child_kill(pid);
			ck_assert(freed_short(h));
		} else {
			ck_assert(i ? shma_free_ptr(heap, shma_ptr(heap, h)) == 0 : freed_short(h));
		}
		ck_assert(client_marked(&heap->arena, heap->arena.client, page));
		again = shma_alloc(heap, 100, 0);
		ck_assert_uint_eq(handle_offset(again), handle_offset(h));
		ck_assert_uint_ne(again, h);
		ck_assert_int_eq(shma_free(heap, h), -ESTALE);
		reap(&heap->arena);
		ck_assert_ptr_nonnull(shma_ptr(heap, again));
	}
	heap_check(&heap->arena);
	ck_assert_uint_eq(heap_stats(heap).live_objects, (uint64_t)some);
}
END_TEST

/* ---- races ---- */

#define RACERS 3
#define RACES 300

/* numbers: 0 handle, 1 winners' sum; step: the round that runs; ready: racers done. */
static int race(void *arg)
{
	int free_it = *(int *)arg;

	for (int round = 1; round <= RACES; round++) {
		shma_handle h;

		while (atomic_load(&board->step) < round)
			sched_yield();
		h = atomic_load(&board->numbers[0]);
		if (free_it ? shma_free(heap, h) == 0 : shma_take(heap, h) == 0) {
			atomic_fetch_add(&board->numbers[1], 1);
			if (!free_it && shma_free(heap, h))
				return 1;
		}
		atomic_fetch_add(&board->ready, 1);
	}
	return 0;
}

static void run_race(int frees[RACERS], size_t size)
{
	pid_t pids[RACERS];

	for (int i = 0; i < RACERS; i++)
		pids[i] = child_start(race, &frees[i]);
	for (int round = 1; round <= RACES; round++) {
		shma_handle h = shma_alloc(heap, size, SHMA_SHARED);

		ck_assert_uint_ne(h, SHMA_NULL);
		atomic_store(&board->numbers[0], h);
		atomic_store(&board->numbers[1], 0);
		atomic_store(&board->step, round);
		while (atomic_load(&board->ready) < round * RACERS)
			sched_yield();
		ck_assert_uint_eq(atomic_load(&board->numbers[1]), 1);
		ck_assert_ptr_eq(shma_ptr(heap, h), NULL);
	}
	for (int i = 0; i < RACERS; i++)
		child_expect(pids[i], 0);
	reap(&heap->arena);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}

START_TEST(of_several_takers_of_one_offer_exactly_one_wins)
{
	run_race((int[RACERS]){0, 0, 0}, 64);
}
END_TEST

START_TEST(of_several_frees_exactly_one_wins)
{
	run_race((int[RACERS]){1, 1, 1}, 64);
}
END_TEST

START_TEST(of_frees_and_takes_of_a_large_object_exactly_one_wins)
{
	run_race((int[RACERS]){0, 1, 0}, 40000);
}
END_TEST

/* ---- handles that are wrong ---- */

START_TEST(a_second_free_is_stale_at_once_and_later)
{
	const size_t sizes[] = {1, 100, 5000, 32768, 32769, 200000, SPAN_SIZE};

	for (size_t i = 0; i < LENGTH(sizes); i++)
		for (int round = 0; round < 50; round++) {
			shma_handle h = shma_alloc(heap, sizes[i], 0), other;

			ck_assert_int_eq(shma_free(heap, h), 0);
			ck_assert_int_eq(shma_free(heap, h), -ESTALE);
			other = shma_alloc(heap, sizes[i], 0); /* in its place, as likely as not */
			ck_assert_uint_ne(h, other);
			ck_assert_int_eq(shma_free(heap, h), -ESTALE);
			ck_assert(shma_ptr(heap, h) == NULL && errno == ESTALE);
			ck_assert_int_eq(shma_free(heap, other), 0);
		}
}
END_TEST

/* Everything but a free of what happens to be somebody's. */
static void try_garbage(shma_handle h)
{
	uint32_t client = 0;
	char byte;
	int r;

	if (object_kind_of(&heap->arena, h, &client) != OBJECT_FREE)
		return; /* as good as a handle: it may be one */
	r = shma_free(heap, h);
	if (r != -EINVAL && r != -ESTALE)
		ck_abort_msg("free of %#llx: %d", (unsigned long long)h, r);
	r = shma_take(heap, h);
	if (r != -EINVAL && r != -ESTALE)
		ck_abort_msg("take of %#llx: %d", (unsigned long long)h, r);
	r = shma_share(heap, h);
	if (r != -EINVAL && r != -ESTALE)
		ck_abort_msg("share of %#llx: %d", (unsigned long long)h, r);
	r = (int)shma_read(heap, h, 0, &byte, 1);
	if (r != -EINVAL && r != -ESTALE)
		ck_abort_msg("read of %#llx: %d", (unsigned long long)h, r);
	if (shma_resize(heap, h, 10) || (errno != EINVAL && errno != ESTALE) || shma_size(heap, h) ||
	    (errno != EINVAL && errno != ESTALE))
		ck_abort_msg("resize or size of %#llx", (unsigned long long)h);
}

#define LIVE 3000
#ifdef __SANITIZE_ADDRESS__
#define GARBAGE 100000
#else
#define GARBAGE 1000000
#endif

static shma_handle live[LIVE];

static void fill_live(void)
{
	for (int i = 0; i < LIVE; i++) {
		size_t size = 16 + (heap_below(50) ? heap_below(2000) : heap_below(100000));

		live[i] = shma_alloc(heap, size, 0);
		ck_assert_uint_ne(live[i], SHMA_NULL);
		*(uint64_t *)shma_ptr(heap, live[i]) = live[i];
	}
	for (int i = 0; i < LIVE; i += 3) /* some free, some cached */
		ck_assert_int_eq(shma_free(heap, live[i]), 0);
}

static void check_live(void)
{
	struct shma_stats st = heap_stats(heap);

	ck_assert_uint_eq(st.live_objects, LIVE - LIVE / 3);
	for (int i = 0; i < LIVE; i++) {
		uint64_t *p = shma_ptr(heap, live[i]);

		if (i % 3 == 0)
			ck_assert(p == NULL && errno == ESTALE);
		else
			ck_assert(p && *p == live[i]);
	}
	heap_check(&heap->arena);
	for (int i = 0; i < LIVE; i++)
		if (i % 3)
			ck_assert_int_eq(shma_free(heap, live[i]), 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}

START_TEST(garbage_is_told_and_disturbs_nothing)
{
	heap_seed("garbage_is_told_and_disturbs_nothing");
	fill_live();
	for (int i = 0; i < GARBAGE; i++)
		try_garbage(heap_random());
	/* Of this arena, and within it. */
	for (int i = 0; i < GARBAGE; i++)
		try_garbage(handle_make(heap->arena.tag, (uint32_t)heap_random() & 0xffff,
					heap_below(heap->arena.g.capacity)));
	try_garbage(0);
	try_garbage(UINT64_MAX);
	check_live();
}
END_TEST

START_TEST(good_handles_with_bits_flipped_are_told_and_disturb_nothing)
{
	heap_seed("good_handles_with_bits_flipped_are_told_and_disturb_nothing");
	fill_live();
	for (int i = 0; i < GARBAGE; i++) {
		shma_handle h = live[heap_below(LIVE)];

		for (uint64_t n = 1 + heap_below(3); n; n--)
			h ^= UINT64_C(1) << heap_below(64);
		try_garbage(h);
	}
	check_live();
}
END_TEST

START_TEST(an_address_is_told_its_object_only_at_its_start)
{
	const size_t sizes[] = {1, 100, 5000, 32768, 32769, 200000, SPAN_SIZE};
	int local;

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		shma_handle h = shma_alloc(heap, sizes[i], 0);
		char *p = shma_ptr(heap, h);

		ck_assert_uint_eq(shma_handle_of(heap, p), h);
		ck_assert(shma_handle_of(heap, p + 1) == SHMA_NULL && errno == EINVAL);
		if (sizes[i] >= 16)
			ck_assert(shma_handle_of(heap, p + 16) == SHMA_NULL && errno == EINVAL);
		if (sizes[i] > PAGE_SIZE && sizes[i] % PAGE_SIZE)
			ck_assert(shma_handle_of(heap, p + PAGE_SIZE) == SHMA_NULL);
		ck_assert_int_eq(shma_free(heap, h), 0);
	}
	ck_assert(shma_handle_of(heap, &local) == SHMA_NULL && errno == EINVAL);
	ck_assert(shma_handle_of(heap, NULL) == SHMA_NULL && errno == EINVAL);
	ck_assert(shma_handle_of(heap, heap->arena.heap - 16) == SHMA_NULL);
	ck_assert(shma_handle_of(heap, heap->arena.heap + heap->arena.g.capacity) == SHMA_NULL);
}
END_TEST

/* ---- allocating ---- */

START_TEST(every_alignment_is_kept_for_every_size)
{
	for (unsigned shift = 0; shift <= 21; shift++)
		for (size_t size = 1; size <= 70000; size = size * 3 + 7) {
			shma_handle h = shma_alloc(heap, size, SHMA_ALIGN(1u << shift));

			ck_assert_uint_ne(h, SHMA_NULL);
			ck_assert_uint_eq((uintptr_t)shma_ptr(heap, h) % (1u << shift), 0);
			ck_assert_uint_eq((uintptr_t)shma_ptr(heap, h) % 16, 0);
			ck_assert_uint_ge(shma_size(heap, h), size);
			ck_assert_int_eq(shma_free(heap, h), 0);
		}
	ck_assert(shma_alloc(heap, 100, SHMA_ALIGN(UINT64_C(1) << 22)) == SHMA_NULL && errno == EINVAL);
	ck_assert(shma_alloc(heap, 100, SHMA_ALIGN(UINT64_C(1) << 63)) == SHMA_NULL && errno == EINVAL);
}
END_TEST

START_TEST(zeroed_objects_are_zero_to_their_last_usable_byte)
{
	const size_t sizes[] = {1, 17, 100, 1000, 5000, 30000, 32769, 50001, 300000};

	for (int round = 0; round < 3; round++)
		for (size_t i = 0; i < LENGTH(sizes); i++)
			for (int large = 0; large < 2; large++) {
				unsigned flags = large ? SHMA_LARGE : 0;
				shma_handle h = shma_alloc(heap, sizes[i], flags);
				char *p = shma_ptr(heap, h);
				size_t usable = shma_size(heap, h);

				memset(p, 0xa5, usable);
				ck_assert_int_eq(shma_free(heap, h), 0);
				h = shma_alloc(heap, sizes[i], flags | SHMA_ZERO);
				p = shma_ptr(heap, h);
				for (size_t k = 0; k < usable; k++)
					if (p[k])
						ck_abort_msg("byte %zu of %zu", k, sizes[i]);
				ck_assert_int_eq(shma_free(heap, h), 0);
			}
}
END_TEST

START_TEST(a_large_object_is_whole_pages_whatever_its_size)
{
	shma_handle h = shma_alloc(heap, 10, SHMA_LARGE);

	ck_assert_uint_eq(shma_size(heap, h), PAGE_SIZE);
	ck_assert_uint_eq((uintptr_t)shma_ptr(heap, h) % PAGE_SIZE, 0);
	ck_assert_int_eq(shma_free(heap, h), 0);
}
END_TEST

START_TEST(what_cannot_be_asked_for_is_invalid)
{
	ck_assert(shma_alloc(heap, 0, 0) == SHMA_NULL && errno == EINVAL);
	ck_assert(shma_alloc(heap, SIZE_MAX, 0) == SHMA_NULL && errno == EINVAL);
	ck_assert(shma_alloc(heap, heap->arena.g.capacity + 1, 0) == SHMA_NULL && errno == EINVAL);
	ck_assert(shma_alloc(heap, 10, 0x80000000u) == SHMA_NULL && errno == EINVAL);
	ck_assert(shma_alloc(heap, 10, 0x80u) == SHMA_NULL && errno == EINVAL);
}
END_TEST

START_TEST(a_full_arena_is_enomem_and_afterwards_all_of_it_is_there_again)
{
	static shma_handle all[40000];
	uint64_t capacity = heap->arena.g.capacity, bytes = 0;
	int n = 0;

	heap_seed("a_full_arena_is_enomem_and_afterwards_all_of_it_is_there_again");
	for (int round = 0; round < 2; round++) {
		for (size_t limit = 300000; limit >= 16; limit /= 2) {
			shma_handle h;

			errno = 0;
			while (n < (int)LENGTH(all) &&
			       (h = shma_alloc(heap, 8 + heap_below(limit), 0)) != SHMA_NULL) {
				all[n++] = h;
				bytes += shma_size(heap, h);
			}
			if (n < (int)LENGTH(all))
				ck_assert_int_eq(errno, ENOMEM);
		}
		ck_assert_uint_gt(bytes, capacity * 8 / 10);
		heap_check(&heap->arena);
		ck_assert_uint_eq(heap_stats(heap).live_bytes, bytes);
		while (n) {
			int i = (int)heap_below((uint64_t)n);

			bytes -= shma_size(heap, all[i]);
			ck_assert_int_eq(shma_free(heap, all[i]), 0);
			all[i] = all[--n];
		}
		ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
		heap_check(&heap->arena);
		/* All but the bookkeeping of slabs, which stays. */
		for (size_t size = 65536; size >= 4096; size /= 16)
			while ((all[n] = shma_alloc(heap, size, SHMA_LARGE)) != SHMA_NULL) {
				bytes += size;
				n++;
			}
		ck_assert_uint_gt(bytes + heap_stats(heap).state_bytes, capacity * 98 / 100);
		for (bytes = 0; n > 0;)
			ck_assert_int_eq(shma_free(heap, all[--n]), 0);
	}
}
END_TEST

/* ---- resizing ---- */

static void fill_pattern(shma_handle h, size_t from, size_t to, unsigned char with)
{
	if (to > from)
		memset((char *)shma_ptr(heap, h) + from, with, to - from);
}

START_TEST(a_resized_object_keeps_its_contents_and_an_old_handle_is_stale)
{
	size_t size = 100;
	shma_handle h = shma_alloc(heap, size, 0);

	heap_seed("a_resized_object_keeps_its_contents_and_an_old_handle_is_stale");
	fill_pattern(h, 0, size, 1);
	for (int i = 0; i < 400; i++) {
		size_t next = 1 + (heap_below(3)   ? heap_below(3000)
				   : heap_below(3) ? heap_below(200000)
						   : heap_below(MIB(6)));
		shma_handle moved = shma_resize(heap, h, next);
		size_t keep = size < next ? size : next;
		const char *p;

		ck_assert_uint_ne(moved, SHMA_NULL);
		if (moved != h)
			ck_assert(shma_ptr(heap, h) == NULL && errno == ESTALE);
		ck_assert_uint_ge(shma_size(heap, moved), next);
		p = shma_ptr(heap, moved);
		for (size_t k = 0; k < keep; k += k % 4096 == 4095 ? 1 : 97)
			if (p[k] != 1)
				ck_abort_msg("byte %zu after %zu -> %zu", k, size, next);
		fill_pattern(moved, 0, next, 1);
		h = moved;
		size = next;
		if (i % 50 == 0)
			heap_check(&heap->arena);
	}
	ck_assert_int_eq(shma_free(heap, h), 0);
}
END_TEST

START_TEST(a_large_object_shrinks_in_place_and_its_end_is_free)
{
	shma_handle h = shma_alloc(heap, 1500000, 0);
	uint64_t before = heap_all_free_pages(&heap->arena);

	ck_assert_uint_eq(shma_resize(heap, h, 500000), h);
	ck_assert_uint_eq(heap_all_free_pages(&heap->arena), before + 1500000 / 4096 - 500000 / 4096);
	ck_assert_uint_eq(heap_stats(heap).live_bytes, shma_size(heap, h));
	ck_assert_int_eq(shma_free(heap, h), 0);
}
END_TEST

START_TEST(a_large_object_of_a_class_is_copied_only_for_more_than_an_eighth)
{
	shma_handle h = shma_alloc(heap, MIB(1), 0), less;

	memset(shma_ptr(heap, h), 7, MIB(1));
	ck_assert_uint_eq(shma_size(heap, h), MIB(1));
	ck_assert_uint_eq(shma_resize(heap, h, MIB(1) - MIB(1) / 8), h);
	ck_assert_uint_eq(shma_resize(heap, h, MIB(1)), h);
	less = shma_resize(heap, h, MIB(1) - MIB(1) / 8 - 1);
	ck_assert_uint_ne(less, SHMA_NULL);
	ck_assert_uint_ne(less, h);
	ck_assert(shma_ptr(heap, h) == NULL && errno == ESTALE);
	ck_assert_uint_lt(shma_size(heap, less), MIB(1) - MIB(1) / 8 + 4096);
	ck_assert_int_eq(((char *)shma_ptr(heap, less))[900000], 7);
	ck_assert_uint_eq(heap_stats(heap).live_bytes, shma_size(heap, less));
	ck_assert_int_eq(shma_free(heap, less), 0);
}
END_TEST

/* What a large class costs is its one object, and its one entry. */
START_TEST(a_large_object_goes_to_the_cache_and_from_there_back_to_its_zone)
{
	int err;

	for (size_t size = 36864; size <= MIB(1); size += size / 3) {
		uint32_t class = sizeclass_of(size);
		uint64_t pages = class < CLASSES ? sizeclass_table[class].pages : 0;
		uint64_t before = heap_all_free_pages(&heap->arena), cached;
		shma_handle h = shma_alloc(heap, size, 0), again;

		if (!pages)
			pages = (size + 4095) / 4096;
		ck_assert_uint_ne(h, SHMA_NULL);
		ck_assert_uint_eq(handle_offset(h) % 4096, 0);
		ck_assert_uint_eq(shma_size(heap, h), pages * 4096);
		ck_assert_uint_le(pages * 4096 - size, pages * 4096 / 8);
		cached = heap_stats(heap).cached_bytes;
		ck_assert_int_eq(shma_free(heap, h), 0);
		ck_assert_int_eq(shma_free(heap, h), -ESTALE);
		ck_assert(shma_ptr(heap, h) == NULL);
		ck_assert_uint_eq(heap_stats(heap).cached_bytes - cached,
				  class < CLASSES ? pages * 4096 : 0);
		again = shma_alloc(heap, size, 0);
		ck_assert_uint_ne(again, h);
		if (class < CLASSES)
			ck_assert_uint_eq(handle_offset(again), handle_offset(h));
		ck_assert_int_eq(shma_free(heap, again), 0);
		cache_release_all(&heap->arena, thread_self(&heap->arena, &err));
		ck_assert_uint_eq(heap_stats(heap).slab_bytes, 0);
		ck_assert_uint_ge(heap_all_free_pages(&heap->arena) + 8, before); /* state blocks stay */
		heap_check(&heap->arena);
	}
}
END_TEST

START_TEST(a_resize_that_fails_leaves_the_object_as_it_was)
{
	shma_handle h = shma_alloc(heap, 1000, SHMA_ZERO);

	ck_assert(shma_resize(heap, h, 0) == SHMA_NULL && errno == EINVAL);
	ck_assert(shma_resize(heap, h, SIZE_MAX) == SHMA_NULL && errno == EINVAL);
	ck_assert(shma_resize(heap, h, heap->arena.g.capacity) == SHMA_NULL && errno == ENOMEM);
	ck_assert_uint_eq(*(uint64_t *)shma_ptr(heap, h), 0);
	ck_assert_int_eq(shma_free(heap, h), 0);
}
END_TEST

START_TEST(a_resized_object_stays_what_it_was_to_others)
{
	shma_handle h = shma_alloc(heap, 100, SHMA_SHARED), p = shma_alloc(heap, 100, SHMA_PERSIST);
	uint32_t client = 0;

	h = shma_resize(heap, h, 90000);
	ck_assert_int_eq(object_kind_of(&heap->arena, h, &client), OBJECT_SHARED);
	h = shma_resize(heap, h, 40000);
	ck_assert_int_eq(object_kind_of(&heap->arena, h, &client), OBJECT_SHARED);
	p = shma_resize(heap, p, 5000);
	ck_assert_int_eq(object_kind_of(&heap->arena, p, &client), OBJECT_PERSISTENT);
	ck_assert_int_eq(shma_free(heap, h), 0);
	ck_assert_int_eq(shma_free(heap, p), 0);
}
END_TEST

/* ---- reading ---- */

START_TEST(reads_stop_at_the_end_of_the_object)
{
	const size_t sizes[] = {10, 100, 5000, 50000, SPAN_SIZE};

	for (size_t i = 0; i < LENGTH(sizes); i++) {
		shma_handle h = shma_alloc(heap, sizes[i], 0);
		size_t usable = shma_size(heap, h);
		char *p = shma_ptr(heap, h), bytes[32];

		memset(p, 'x', usable);
		ck_assert_int_eq(shma_read(heap, h, 0, bytes, 5), 5);
		ck_assert_mem_eq(bytes, "xxxxx", 5);
		ck_assert_int_eq(shma_read(heap, h, usable - 3, bytes, sizeof(bytes)), 3);
		ck_assert_int_eq(shma_read(heap, h, usable, bytes, sizeof(bytes)), 0);
		ck_assert_int_eq(shma_read(heap, h, SIZE_MAX, bytes, sizeof(bytes)), 0);
		ck_assert_int_eq(shma_read(heap, h, 0, bytes, 0), 0);
		ck_assert_int_eq(shma_free(heap, h), 0);
		ck_assert_int_eq(shma_read(heap, h, 0, bytes, 5), -ESTALE);
	}
}
END_TEST

/* Each object is filled with its own handle before it is offered. */
static int offer_and_free(void *arg)
{
	(void)arg;
	heap_reseed((uint64_t)getpid());
	while (!atomic_load(&board->stop)) {
		uint64_t slot = heap_below(16), words;
		shma_handle h = shma_alloc(heap, heap_below(8) ? 400 : 60000, 0), old;
		uint64_t *p = shma_ptr(heap, h);

		if (!p)
			return 1;
		words = shma_size(heap, h) / 8;
		for (uint64_t i = 0; i < words; i++)
			p[i] = h;
		old = atomic_exchange(&board->numbers[slot], h);
		if (old && shma_free(heap, old))
			return 2;
	}
	return 0;
}

START_TEST(a_read_of_what_its_owner_frees_meanwhile_is_whole_or_stale)
{
	pid_t pid = child_start(offer_and_free, NULL);
	uint64_t words[7500];
	int whole = 0, stale = 0;

	for (unsigned i = 0; whole + stale < 20000; i++) {
		shma_handle h = atomic_load(&board->numbers[i % 16]);
		ssize_t n;

		if (!h) {
			sched_yield();
			continue;
		}
		n = shma_read(heap, h, 0, words, sizeof(words));
		ck_assert(n == -ESTALE || n == 400 || n == sizeof(words));
		if (n < 0) {
			stale++;
			continue;
		}
		whole++;
		for (ssize_t k = 0; k < n / 8; k++)
			if (words[k] != h)
				ck_abort_msg("a mixture was read");
	}
	atomic_store(&board->stop, 1);
	child_expect(pid, 0);
	printf("%d reads whole, %d stale\n", whole, stale);
	ck_assert_int_gt(whole, 0);
	reap(&heap->arena);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

/* As far as there is a place: then anywhere. */
START_TEST(whole_pages_begin_with_a_large_one_where_the_arena_has_such)
{
	shma *big = heap_open(MIB(128), 0);
	shma_handle h[40];
	uint32_t n = 0;

	big->arena.commit_huge = true;
	ck_assert_uint_ne(shma_alloc(big, PAGE_SIZE, SHMA_LARGE), SHMA_NULL);
	for (int i = 0; i < 4; i++) {
		h[n] = shma_alloc(big, MIB(3), SHMA_LARGE);
		ck_assert_uint_ne(h[n], SHMA_NULL);
		ck_assert_uint_eq(handle_offset(h[n++]) % MIB(2), 0);
	}
	while (n < LENGTH(h) && (h[n] = shma_alloc(big, MIB(3), SHMA_LARGE)))
		n++;
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_uint_ge(n, 128 / 4);
	while (n)
		ck_assert_int_eq(shma_free(big, h[--n]), 0);
	big->arena.commit_huge = false;
	heap_close(big);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("object");
	TCase *t = tcase_create("object");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, each_call_on_each_kind_of_small_object_gives_what_the_contract_says);
	tcase_add_test(t, each_call_on_each_kind_of_large_object_gives_what_the_contract_says);
	tcase_add_test(t, each_call_on_each_kind_of_object_beyond_a_zone_gives_what_the_contract_says);
	tcase_add_test(t, what_another_took_is_its_own_until_it_shares);
	tcase_add_test(t, the_short_way_frees_what_is_on_offer_and_leaves_all_else_as_it_is);
	tcase_add_test(t, the_short_way_is_for_small_objects_of_this_arena_and_this_generation);
	tcase_add_test(t, what_is_freed_the_short_way_is_the_freers_own_and_returns_with_it);
	tcase_add_test(t, of_several_takers_of_one_offer_exactly_one_wins);
	tcase_add_test(t, of_several_frees_exactly_one_wins);
	tcase_add_test(t, of_frees_and_takes_of_a_large_object_exactly_one_wins);
	tcase_add_test(t, a_second_free_is_stale_at_once_and_later);
	tcase_add_test(t, garbage_is_told_and_disturbs_nothing);
	tcase_add_test(t, good_handles_with_bits_flipped_are_told_and_disturb_nothing);
	tcase_add_test(t, an_address_is_told_its_object_only_at_its_start);
	tcase_add_test(t, every_alignment_is_kept_for_every_size);
	tcase_add_test(t, zeroed_objects_are_zero_to_their_last_usable_byte);
	tcase_add_test(t, a_large_object_is_whole_pages_whatever_its_size);
	tcase_add_test(t, what_cannot_be_asked_for_is_invalid);
	tcase_add_test(t, a_full_arena_is_enomem_and_afterwards_all_of_it_is_there_again);
	tcase_add_test(t, a_resized_object_keeps_its_contents_and_an_old_handle_is_stale);
	tcase_add_test(t, a_large_object_shrinks_in_place_and_its_end_is_free);
	tcase_add_test(t, a_large_object_of_a_class_is_copied_only_for_more_than_an_eighth);
	tcase_add_test(t, a_large_object_goes_to_the_cache_and_from_there_back_to_its_zone);
	tcase_add_test(t, a_resize_that_fails_leaves_the_object_as_it_was);
	tcase_add_test(t, a_resized_object_stays_what_it_was_to_others);
	tcase_add_test(t, reads_stop_at_the_end_of_the_object);
	tcase_add_test(t, whole_pages_begin_with_a_large_one_where_the_arena_has_such);
	tcase_add_test(t, a_read_of_what_its_owner_frees_meanwhile_is_whole_or_stale);
	suite_add_tcase(s, t);
	return run_suite(s);
}
