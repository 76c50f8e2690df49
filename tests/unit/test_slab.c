/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slabs: no object has two owners, however many threads and processes claim and put back, whatever the
 * hints say, and whoever dies. An owner writes its mark into both ends of each object it has.
 */
#include <pthread.h>

#include "extent.h"
#include "heap.h"
#include "hint.h"
#include "slab.h"
#include "slab_inside.h"

#define MANY 20000

static struct arena arena;
static struct board *board;

static void setup(void)
{
	heap_attach(&arena, MIB(16));
	board = board_new();
}

static void teardown(void)
{
	heap_check(&arena);
	heap_detach(&arena);
}

static uint64_t pages_of_kind(enum page_kind kind)
{
	uint64_t n = 0;

	for (uint64_t p = 0; p < atomic_load(&arena.pages_known); p++) {
		uint64_t w0 = atomic_load(&arena.pages[p].w0);

		if (pw0_kind(w0) == kind)
			n += kind == PAGE_STATE ? shape_block_pages(pw0_class(w0)) : 1;
	}
	return n;
}

/* Nothing is left but records' blocks. */
static void check_nothing_left(void)
{
	heap_check(&arena);
	ck_assert_uint_eq(pages_of_kind(PAGE_SLAB), 0);
	ck_assert_uint_eq(heap_all_free_pages(&arena),
			  geometry_heap_pages(&arena.g) - pages_of_kind(PAGE_STATE));
}

static uint64_t *first_word(uint64_t handle)
{
	return (uint64_t *)(arena.heap + handle_offset(handle));
}

static uint64_t *last_word(uint64_t handle, uint32_t class)
{
	return first_word(handle) + sizeclass_table[class].bytes / 8 - 1;
}

static void stamp(uint64_t handle, uint32_t class, uint64_t with)
{
	*first_word(handle) = *last_word(handle, class) = with;
}

static bool stamped(uint64_t handle, uint32_t class, uint64_t with)
{
	return *first_word(handle) == with && *last_word(handle, class) == with;
}

/* ---- one owner ---- */

START_TEST(objects_of_every_class_are_whole_and_apart)
{
	for (uint32_t class = 0; class < CLASSES; class++) {
		uint32_t home = 1, n = 3 * sizeclass_table[class].objects / 2, got = 0;
		struct slab_source from = {.class = class, .home = &home};
		uint64_t handles[2 * SLAB_OBJECTS_MAX];
		int err = 0;

		while (got < n)
			got += slab_claim(&arena, &from, n - got, OBJECT_PRIVATE, handles + got, &err);
		ck_assert_int_eq(err, 0);
		for (uint32_t i = 0; i < n; i++) {
			ck_assert_uint_eq(handle_offset(handles[i]) % 16, 0);
			memset(first_word(handles[i]), (int)i & 0xff, sizeclass_table[class].bytes);
			stamp(handles[i], class, i);
		}
		heap_check(&arena);
		for (uint32_t i = 0; i < n; i++)
			ck_assert(stamped(handles[i], class, i));
		slab_put(&arena, handles, n, 0);
	}
	check_nothing_left();
}
END_TEST

/* Of a class's kinds of slabs the one that is made for so many objects. */
static void check_offsets(uint32_t class, uint32_t want, uint32_t kind)
{
	uint32_t home = 1;
	struct slab_source from = {.class = class, .home = &home, .owned = INT64_C(3) << 20};
	const struct sizeclass *c = &sizeclass_table[kind];
	uint64_t handles[SLAB_OBJECTS_MAX], head;
	struct slab_place p;
	int err;

	ck_assert_uint_eq(slab_claim(&arena, &from, want, OBJECT_PRIVATE, handles, &err), want);
	ck_assert_int_eq(slab_find(&arena, handle_offset(handles[0]), &p), 0);
	ck_assert_uint_eq(p.kind, kind);
	head = p.head << PAGE_SHIFT;
	for (uint64_t at = 0; at < (uint64_t)sizeclass_entries(kind) << PAGE_SHIFT; at++) {
		int r = slab_find(&arena, head + at, &p);
		uint64_t index = at / 16 * 16 / c->bytes;

		if (index >= c->objects)
			ck_assert_int_eq(r, -EINVAL);
		else if (r || p.index != index || p.class != class || p.head != head >> PAGE_SHIFT ||
			 p.offset != at - index * c->bytes)
			ck_abort_msg("offset %llu: %d", (unsigned long long)at, r);
	}
	slab_put(&arena, handles, want, 0);
}

START_TEST(an_offset_is_told_its_object)
{
	struct slab_place p;

	check_offsets(20, 1, sizeclass_short(20));
	check_offsets(20, sizeclass_table[sizeclass_short(20)].objects + 1, 20);
	check_offsets(20, sizeclass_table[20].objects, sizeclass_tall(20));
	check_offsets(51, 1, sizeclass_short(51)); /* one object, and a tail */
	check_offsets(51, 2, 51);
	check_offsets(0, 3, 0); /* of one kind */
	check_offsets(CLASSES - 1, 1, CLASSES - 1);
	ck_assert_int_eq(slab_find(&arena, 0, &p), -ENOENT);
	ck_assert_int_eq(slab_find(&arena, arena.g.capacity, &p), -ENOENT);
	ck_assert_int_eq(slab_find(&arena, UINT64_MAX, &p), -ENOENT);
}
END_TEST

/* Few get short slabs; much at once a long one; and either is looked in for either. */
START_TEST(a_slab_is_as_long_as_what_is_asked_for_needs)
{
	const uint32_t class = 20, few = sizeclass_table[sizeclass_short(class)].objects;
	uint32_t home = 1, many = sizeclass_table[class].objects;
	struct slab_source little = {.class = class, .home = &home, .owned = 0};
	struct slab_source much = {.class = class, .home = &home, .owned = INT64_C(3) << 20};
	uint64_t handles[SLAB_OBJECTS_MAX], more[SLAB_OBJECTS_MAX];
	struct slab_place p;
	int err;

	ck_assert_uint_eq(slab_claim(&arena, &little, few + 1, OBJECT_PRIVATE, handles, &err), few);
	ck_assert_int_eq(slab_find(&arena, handle_offset(handles[0]), &p), 0);
	ck_assert_uint_eq(p.kind, sizeclass_short(class));
	ck_assert_uint_eq(slab_claim(&arena, &much, few + 1, OBJECT_PRIVATE, more, &err), few + 1);
	ck_assert_int_eq(slab_find(&arena, handle_offset(more[0]), &p), 0);
	ck_assert_uint_eq(p.kind, class);
	/* What is left of the long one is found by who has drawn from a short one, and the other way. */
	ck_assert_uint_eq(slab_claim(&arena, &little, 1, OBJECT_PRIVATE, &more[few + 1], &err), 1);
	ck_assert_int_eq(slab_find(&arena, handle_offset(more[few + 1]), &p), 0);
	ck_assert_uint_eq(p.kind, class);
	ck_assert_uint_eq(slab_claim(&arena, &much, many, OBJECT_PRIVATE, &more[few + 2], &err),
			  many - few - 2);
	slab_put(&arena, handles, 1, 0);
	ck_assert_uint_eq(slab_claim(&arena, &much, many, OBJECT_PRIVATE, handles, &err), 1);
	ck_assert_int_eq(slab_find(&arena, handle_offset(handles[0]), &p), 0);
	ck_assert_uint_eq(p.kind, sizeclass_short(class));
	heap_check(&arena);
	slab_put(&arena, handles, few, 0);
	slab_put(&arena, more, many, 0);
	check_nothing_left();
}
END_TEST

/* A tall one is made for all that it has; by who owns much, for an eighth. What it leaves over goes first to who
 * asks next. */
START_TEST(a_slab_is_tall_for_much_at_once)
{
	const uint32_t class = 31, tall = sizeclass_tall(class), most = sizeclass_table[tall].objects;
	uint32_t home = 1;
	struct slab_source little = {.class = class, .home = &home, .owned = 0};
	struct slab_source much = {.class = class, .home = &home, .owned = INT64_C(3) << 20};
	uint64_t handles[SLAB_OBJECTS_MAX], more[SLAB_OBJECTS_MAX];
	struct slab_place p, q;
	int err;

	ck_assert_uint_eq(slab_claim(&arena, &little, most, OBJECT_PRIVATE, handles, &err), most);
	ck_assert_int_eq(slab_find(&arena, handle_offset(handles[most - 1]), &p), 0);
	ck_assert_uint_eq(p.kind, tall);
	ck_assert_uint_eq(slab_claim(&arena, &much, most / 8, OBJECT_PRIVATE, more, &err), most / 8);
	ck_assert_int_eq(slab_find(&arena, handle_offset(more[0]), &p), 0);
	ck_assert_uint_eq(p.kind, tall);
	ck_assert_uint_eq(slab_claim(&arena, &little, most, OBJECT_PRIVATE, more + most / 8, &err), most - most / 8);
	ck_assert_int_eq(slab_find(&arena, handle_offset(more[most - 1]), &q), 0);
	ck_assert_uint_eq(q.head, p.head);
	heap_check(&arena);
	slab_put(&arena, handles, most, 0);
	slab_put(&arena, more, most, 0);
	check_nothing_left();
}
END_TEST

START_TEST(what_is_not_its_clients_to_put_back_is_dropped)
{
	uint32_t home = 1, class = 20;
	struct slab_source from = {.class = class, .home = &home};
	uint64_t handles[4], wrong[5];
	struct slab_place p;
	int err;

	ck_assert_uint_eq(slab_claim(&arena, &from, 4, OBJECT_PRIVATE, handles, &err), 4);
	wrong[0] = handles[0] + (UINT64_C(1) << HANDLE_GEN_SHIFT);
	wrong[1] = handles[1] + 1; /* 16 bytes on */
	wrong[2] = handle_make(arena.tag, 0, 0);
	wrong[3] = handle_make(arena.tag, 0, arena.g.capacity);
	ck_assert_int_eq(slab_find(&arena, handle_offset(handles[2]), &p), 0);
	atomic_store(&p.record->words[p.index],
		     state_make(OBJECT_SHARED, arena.client, handle_gen(handles[2])));
	wrong[4] = handles[2];
	slab_put(&arena, wrong, LENGTH(wrong), 0);
	heap_check(&arena);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(slab_find(&arena, handle_offset(handles[i]), &p), 0);
		ck_assert_int_eq(state_kind(atomic_load(&p.record->words[p.index])),
				 i == 2 ? OBJECT_SHARED : OBJECT_PRIVATE);
	}
	atomic_store(&p.record->words[p.index], atomic_load(&p.record->words[p.index]));
	ck_assert_int_eq(slab_find(&arena, handle_offset(handles[2]), &p), 0);
	atomic_store(&p.record->words[p.index],
		     state_make(OBJECT_PRIVATE, arena.client, handle_gen(handles[2])));
	slab_put(&arena, handles, 4, 0);
	slab_put(&arena, handles, 4, 0); /* twice changes nothing */
	check_nothing_left();
}
END_TEST

START_TEST(an_empty_slab_is_given_back_unless_it_is_to_be_kept)
{
	uint32_t home = 1;
	struct slab_source from = {.class = 7, .home = &home};
	uint64_t handles[128];
	int err;

	for (int round = 0; round < 4; round++) {
		ck_assert_uint_eq(slab_claim(&arena, &from, 128, OBJECT_PRIVATE, handles, &err), 128);
		slab_put(&arena, handles, 128, from.head);
		ck_assert_uint_eq(pages_of_kind(PAGE_SLAB), sizeclass_table[7].pages);
		heap_check(&arena);
	}
	slab_give_up(&arena, from.head - 1, 7);
	check_nothing_left();
	slab_give_up(&arena, from.head - 1, 7);
	slab_give_up(&arena, UINT64_MAX, 7);
	check_nothing_left();
}
END_TEST

/* Bits in one word of a bitmap say nothing of what became of the hint when those of another were taken. */
START_TEST(what_is_put_back_in_several_words_is_told_of_for_each)
{
	uint32_t home = 1;
	struct slab_source from = {.class = 7, .home = &home};
	uint64_t handles[128], by_index[128], two[2];
	struct slab_place place;
	int err;

	ck_assert_uint_eq(slab_claim(&arena, &from, 128, OBJECT_PRIVATE, handles, &err), 128);
	for (int i = 0; i < 128; i++) {
		ck_assert_int_eq(slab_find(&arena, handle_offset(handles[i]), &place), 0);
		by_index[place.index] = handles[i];
	}
	slab_put(&arena, &by_index[0], 1, 0);
	hint_clear(&arena, place.kind, place.head / REGION_PAGES);
	ck_assert(!hint_test(&arena, place.kind, place.head / REGION_PAGES));
	two[0] = by_index[1];
	two[1] = by_index[100];
	slab_put(&arena, two, 2, 0);
	ck_assert(hint_test(&arena, place.kind, place.head / REGION_PAGES));
	/* What is back already is dropped; the last one lets the slab go, whichever word it is in. */
	slab_put(&arena, by_index, 128, 0);
	check_nothing_left();
}
END_TEST

/* A place is never handed out again under a generation that it had just before. */
START_TEST(handles_of_an_earlier_use_do_not_return)
{
	uint32_t home = 1;
	struct slab_source from = {.class = 40, .home = &home};
	uint64_t last = 0, handle;
	int err;

	for (int i = 0; i < 300; i++) {
		ck_assert_uint_eq(slab_claim(&arena, &from, 1, OBJECT_PRIVATE, &handle, &err), 1);
		ck_assert_uint_ne(handle, last);
		last = handle;
		slab_put(&arena, &handle, 1, 0); /* the slab goes, and another comes in its place */
	}
}
END_TEST

/* One flipped bit of an offset hardly ever leads to an object of the same generation. */
START_TEST(neighbours_have_different_generations)
{
	uint32_t home = 1, same = 0;
	struct slab_source from = {.class = 7, .home = &home};
	uint64_t handles[128];
	int err;

	ck_assert_uint_eq(slab_claim(&arena, &from, 128, OBJECT_PRIVATE, handles, &err), 128);
	for (int i = 0; i < 128; i++)
		for (int k = 0; k < i; k++)
			same += handle_gen(handles[i]) == handle_gen(handles[k]);
	ck_assert_uint_lt(same, 20); /* of 8,128 pairs */
	slab_put(&arena, handles, 128, 0);
}
END_TEST

/* What is put back while somebody holds the slab is left to him: others find it busy, and clear its hint. */
START_TEST(who_lets_a_slab_go_tells_of_what_is_free_and_gives_it_back_if_it_is_empty)
{
	uint32_t home = 1;
	struct slab_source from = {.class = 7, .home = &home};
	uint64_t handles[2];
	struct slab_place p;
	int err;

	ck_assert_uint_eq(slab_claim(&arena, &from, 2, OBJECT_PRIVATE, handles, &err), 2);
	ck_assert_int_eq(slab_find(&arena, handle_offset(handles[0]), &p), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert(slab_hold(&arena, p.record, p.head, p.kind));
		ck_assert(!slab_hold(&arena, p.record, p.head, p.kind));
		slab_put(&arena, &handles[i], 1, 0);
		hint_clear(&arena, p.kind, p.head / REGION_PAGES);
		slab_let_go(&arena, p.record);
		ck_assert(i == 1 || hint_test(&arena, p.kind, p.head / REGION_PAGES));
	}
	check_nothing_left();
}
END_TEST

/* ---- wrong hints ---- */

static uint32_t claim_everything(uint32_t class, uint64_t *handles, uint32_t room)
{
	uint32_t home = 1, got = 0, n;
	struct slab_source from = {.class = class, .home = &home};
	int err;

	while (got < room && (n = slab_claim(&arena, &from, 64 < room - got ? 64 : room - got,
					     OBJECT_PRIVATE, handles + got, &err)))
		got += n;
	return got;
}

static void flip_hints(uint32_t class)
{
	for (uint64_t r = 0; r < atomic_load(&arena.pages_known) / REGION_PAGES; r++)
		switch (heap_below(3)) {
		case 0: hint_clear(&arena, class, r); break;
		case 1: hint_set(&arena, class, r * REGION_PAGES); break;
		default: break;
		}
	for (int i = 0; i < 20; i++) { /* the upper levels too */
		uint32_t z = (uint32_t)heap_below(arena_refresh(&arena));
		_Atomic uint64_t *summary = (_Atomic uint64_t *)(zone_index(&arena, z) +
								 geometry_hint_summary(&arena.g, class));

		atomic_fetch_xor(summary, heap_random());
	}
}

static void flip_bitmaps(uint32_t class)
{
	for (uint64_t p = 0; p < atomic_load(&arena.pages_known); p++) {
		struct slab_place place;

		if (slab_find(&arena, p << PAGE_SHIFT, &place) || place.class != class || place.head != p)
			continue;
		for (int i = 0; i < 4; i++)
			if (heap_below(2))
				atomic_store(&place.record->bitmap[i], heap_random() & heap_random());
	}
}

START_TEST(wrong_hints_cost_looks_but_nothing_is_given_twice_or_lost)
{
	uint64_t *handles = calloc(MANY, sizeof(*handles));
	uint32_t class = 39, all; /* 1,024 bytes */

	heap_seed("wrong_hints_cost_looks_but_nothing_is_given_twice_or_lost");
	all = claim_everything(class, handles, MANY);
	ck_assert_uint_gt(all, 1000);
	ck_assert_uint_lt(all, MANY);
	for (int round = 0; round < 15; round++) {
		uint32_t left = all;

		for (uint32_t i = 0; i < all; i++)
			stamp(handles[i], class, handles[i]);
		/* Some of them go back, a slab never whole. */
		for (uint32_t i = 0; i < left;) {
			if (heap_below(3) == 0) {
				slab_put(&arena, &handles[i], 1, 0);
				handles[i] = handles[--left];
			} else {
				i++;
			}
		}
		flip_bitmaps(class);
		flip_hints(class);
		ck_assert_uint_eq(left + claim_everything(class, handles + left, MANY - left), all);
		for (uint32_t i = 0; i < left; i++)
			ck_assert(stamped(handles[i], class, handles[i]));
		for (uint32_t i = left; i < all; i++)
			stamp(handles[i], class, handles[i]);
		for (uint32_t i = 0; i < all; i++)
			if (!stamped(handles[i], class, handles[i]))
				ck_abort_msg("an object was given twice");
	}
	slab_put(&arena, handles, all, 0);
	/* Bits that are wrong may have kept slabs: any claimer puts that right, or a death. */
	flip_hints(class);
	all = claim_everything(class, handles, MANY);
	slab_put(&arena, handles, all, 0);
	slab_rescan(&arena, class);
	free(handles);
	ck_assert_uint_gt(all, 1000);
}
END_TEST

/* Of a slab's bits, those behind its last object may be set by one who came late to the record's last. */
START_TEST(bits_behind_the_last_object_do_not_keep_a_slab)
{
	uint32_t home = 1, class = 30; /* 33 objects */
	struct slab_source from = {.class = class, .home = &home};
	uint64_t handles[33];
	struct slab_place p;
	int err;

	ck_assert_uint_eq(slab_claim(&arena, &from, 33, OBJECT_PRIVATE, handles, &err), 33);
	ck_assert_int_eq(slab_find(&arena, handle_offset(handles[0]), &p), 0);
	atomic_fetch_or(&p.record->bitmap[0], UINT64_C(1) << 40);
	atomic_fetch_or(&p.record->bitmap[3], UINT64_C(1) << 63);
	slab_put(&arena, handles, 33, 0);
	check_nothing_left();
}
END_TEST

/* ---- many owners ---- */

#define BATCH 24

struct worker {
	uint64_t seed, mark;
	int rounds, error;
};

static uint64_t next_random(struct worker *w)
{
	w->seed = w->seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return w->seed >> 33;
}

/* Claims, marks, looks, puts back. Few classes, so that all meet in the same slabs. */
static void work(struct worker *w)
{
	const uint32_t classes[] = {0, 7, 30, 47, 79};
	uint64_t handles[BATCH];
	uint32_t home = 1;

	for (int round = 0; round < w->rounds && !w->error; round++) {
		uint32_t class = classes[next_random(w) % LENGTH(classes)];
		struct slab_source from = {.class = class, .home = &home};
		uint32_t want = 1 + (uint32_t)(next_random(w) % BATCH), got;
		int err = 0;

		got = slab_claim(&arena, &from, want, OBJECT_PRIVATE, handles, &err);
		if (!got)
			w->error = err ? err : -EIO;
		for (uint32_t i = 0; i < got; i++)
			stamp(handles[i], class, w->mark + i);
		for (uint32_t i = 0; i < got; i++)
			if (!stamped(handles[i], class, w->mark + i))
				w->error = -EUCLEAN;
		w->mark += BATCH;
		slab_put(&arena, handles, got, next_random(w) % 2 ? from.head : 0);
	}
}

static void *work_in_thread(void *arg)
{
	work(arg);
	return NULL;
}

START_TEST(several_threads_never_have_the_same_object)
{
	struct worker workers[4];
	pthread_t threads[4];
	uint64_t *handles = calloc(MANY, sizeof(*handles));

	heap_seed("several_threads_never_have_the_same_object");
	for (size_t i = 0; i < LENGTH(threads); i++) {
		workers[i] = (struct worker){.seed = heap_random(), .mark = (i + 1) << 56, .rounds = 1500};
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work_in_thread, &workers[i]), 0);
	}
	for (size_t i = 0; i < LENGTH(threads); i++) {
		pthread_join(threads[i], NULL);
		ck_assert_int_eq(workers[i].error, 0);
	}
	heap_check(&arena);
	free(handles);
}
END_TEST

static int work_in_process(void *arg)
{
	struct worker *w = arg;

	if (thread_become_client(&arena))
		return 1;
	w->mark = (uint64_t)getpid() << 40;
	w->seed ^= (uint64_t)getpid();
	work(w);
	return -w->error;
}

START_TEST(several_processes_never_have_the_same_object)
{
	struct worker w = {.rounds = 1500};
	pid_t pids[4];

	heap_seed("several_processes_never_have_the_same_object");
	w.seed = heap_random();
	for (size_t i = 0; i < LENGTH(pids); i++)
		pids[i] = child_start(work_in_process, &w);
	for (size_t i = 0; i < LENGTH(pids); i++)
		child_expect(pids[i], 0);
	heap_check(&arena);
	ck_assert_uint_eq(reap(&arena), LENGTH(pids));
	/* What they kept for later goes when somebody passes by. */
	heap_check(&arena);
}
END_TEST

/* ---- deaths ---- */

static int claim_and_die(void *arg)
{
	uint32_t home = 1;
	uint64_t handles[64];
	int err;

	(void)arg;
	if (thread_become_client(&arena))
		return 1;
	for (uint32_t class = 0; class < CLASSES; class++) {
		struct slab_source from = {.class = class, .home = &home};

		slab_claim(&arena, &from, 3, class % 2 ? OBJECT_PRIVATE : OBJECT_SHARED, handles, &err);
		slab_claim(&arena, &from, 1, OBJECT_INTERNAL, handles, &err);
	}
	die();
	return 0;
}

START_TEST(objects_of_a_dead_client_are_free_under_a_new_generation)
{
	uint32_t home = 1;
	uint64_t handles[CLASSES], stale;
	struct slab_place p;
	int err;

	for (uint32_t class = 0; class < CLASSES; class++) {
		struct slab_source from = {.class = class, .home = &home};

		ck_assert_uint_eq(slab_claim(&arena, &from, 1, OBJECT_PRIVATE, &handles[class], &err), 1);
		stamp(handles[class], class, class);
	}
	child_dies(child_start(claim_and_die, NULL));
	ck_assert_uint_eq(reap(&arena), 1);
	heap_check(&arena);
	for (uint32_t class = 0; class < CLASSES; class++) {
		ck_assert(stamped(handles[class], class, class));
		ck_assert_int_eq(slab_find(&arena, handle_offset(handles[class]), &p), 0);
		ck_assert_uint_eq(p.index, 0);
		stale = atomic_load(&p.record->words[1]); /* was the dead one's */
		ck_assert_int_eq(state_kind((uint32_t)stale), OBJECT_FREE);
	}
	for (uint32_t class = 0; class < CLASSES; class++)
		slab_put(&arena, &handles[class], 1, 0);
	check_nothing_left();
}
END_TEST

static int work_for_ever(void *arg)
{
	struct worker *w = arg;

	w->rounds = INT32_MAX;
	return work_in_process(w);
}

START_TEST(deaths_at_any_time_lose_and_double_nothing)
{
	uint32_t home = 1;
	uint64_t mine[200];
	struct slab_source from = {.class = 30, .home = &home};
	int err;

	heap_seed("deaths_at_any_time_lose_and_double_nothing");
	for (size_t i = 0; i < LENGTH(mine); i++) {
		ck_assert_uint_eq(slab_claim(&arena, &from, 1, OBJECT_PRIVATE, &mine[i], &err), 1);
		stamp(mine[i], 30, i);
	}
	for (int round = 0; round < 40; round++) {
		struct worker w = {.seed = heap_random()};
		pid_t pids[3];

		for (size_t i = 0; i < LENGTH(pids); i++)
			pids[i] = child_start(work_for_ever, &w);
		for (size_t i = 0; i < LENGTH(pids); i++) {
			usleep((useconds_t)heap_below(7000));
			child_kill(pids[i]);
		}
		reap(&arena);
		heap_check(&arena);
	}
	for (size_t i = 0; i < LENGTH(mine); i++)
		ck_assert(stamped(mine[i], 30, i));
	slab_put(&arena, mine, LENGTH(mine), 0);
	check_nothing_left();
}
END_TEST

/* ---- zones that others have put into use ---- */

static void fill(uint32_t zones, uint64_t leave)
{
	int err = 0;
	uint64_t page, all[4096], n = 0;

	for (;;) { /* page by page from zone 0 on; those beyond are put back */
		page = extent_alloc(&arena, 1, 1, RAW_PLAIN, NULL, &err);
		if (page == EXTENT_NONE || zone_of_page(&arena, page) >= zones)
			break;
		all[n++] = page;
	}
	if (page != EXTENT_NONE)
		extent_free(&arena, page);
	while (leave-- && n)
		extent_free(&arena, all[--n]);
}

static int slab_whose_record_is_far_off(void *arg)
{
	uint32_t home = 1;
	struct slab_source from = {.class = 79, .home = &home};
	uint64_t handle, zones = *(uint64_t *)arg;
	struct slab_place p;
	int err;

	if (thread_become_client(&arena))
		return 1;
	fill((uint32_t)zones, sizeclass_table[sizeclass_short(79)].pages);
	if (!slab_claim(&arena, &from, 1, OBJECT_SHARED, &handle, &err))
		return 2;
	if (slab_find(&arena, handle_offset(handle), &p) ||
	    zone_of_page(&arena, p.head) >= zones ||
	    zone_of_page(&arena, (uint64_t)((char *)p.record - arena.heap) >> PAGE_SHIFT) < zones)
		return 3; /* not what this test is about */
	atomic_store(&board->numbers[0], handle);
	rest(board);
	return 0;
}

START_TEST(a_record_in_a_zone_that_another_put_into_use_is_found)
{
	uint64_t zones;
	struct slab_place p;
	pid_t pid;

	while ((zones = arena_refresh(&arena)) < 2)
		ck_assert_int_eq(zone_activate(&arena), 0);
	pid = child_start(slab_whose_record_is_far_off, &zones);
	child_ready(board, pid, 1);
	ck_assert_uint_eq(atomic_load(&arena.pages_known), zones * arena.g.zone_pages);
	ck_assert_int_eq(slab_find(&arena, handle_offset(atomic_load(&board->numbers[0])), &p), 0);
	child_kill(pid);
	ck_assert_uint_eq(reap(&arena), 1);
}
END_TEST

/* One bit of the record's place in word 1, beyond the arena: the record that was held is what is given back. */
START_TEST(a_slab_of_one_object_goes_back_to_its_own_record_whatever_the_page_map_says)
{
	uint32_t home = 0;
	struct slab_source from = {.class = CLASSES - 1, .home = &home};
	uint64_t handle, page;
	int err = 0;

	ck_assert_uint_eq(slab_claim(&arena, &from, 1, OBJECT_PRIVATE, &handle, &err), 1);
	page = handle_offset(handle) >> PAGE_SHIFT;
	atomic_fetch_xor(&arena.pages[page].w1, UINT64_C(1) << 33);
	slab_put(&arena, &handle, 1, 0);
	check_nothing_left();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("slab");
	TCase *one = tcase_create("one owner"), *wrong = tcase_create("wrong hints");
	TCase *many = tcase_create("many owners"), *deaths = tcase_create("deaths");

	tcase_add_checked_fixture(one, setup, teardown);
	tcase_add_test(one, a_slab_of_one_object_goes_back_to_its_own_record_whatever_the_page_map_says);
	tcase_add_test(one, objects_of_every_class_are_whole_and_apart);
	tcase_add_test(one, an_offset_is_told_its_object);
	tcase_add_test(one, a_slab_is_as_long_as_what_is_asked_for_needs);
	tcase_add_test(one, a_slab_is_tall_for_much_at_once);
	tcase_add_test(one, what_is_not_its_clients_to_put_back_is_dropped);
	tcase_add_test(one, an_empty_slab_is_given_back_unless_it_is_to_be_kept);
	tcase_add_test(one, what_is_put_back_in_several_words_is_told_of_for_each);
	tcase_add_test(one, handles_of_an_earlier_use_do_not_return);
	tcase_add_test(one, neighbours_have_different_generations);
	tcase_add_test(one, who_lets_a_slab_go_tells_of_what_is_free_and_gives_it_back_if_it_is_empty);
	tcase_set_timeout(wrong, 60);
	tcase_add_checked_fixture(wrong, setup, NULL);
	tcase_add_test(wrong, wrong_hints_cost_looks_but_nothing_is_given_twice_or_lost);
	tcase_add_test(wrong, bits_behind_the_last_object_do_not_keep_a_slab);
	tcase_set_timeout(many, 60);
	tcase_add_checked_fixture(many, setup, teardown);
	tcase_add_test(many, several_threads_never_have_the_same_object);
#ifndef __SANITIZE_THREAD__
	tcase_add_test(many, several_processes_never_have_the_same_object);
	tcase_set_timeout(deaths, 60);
	tcase_add_checked_fixture(deaths, setup, teardown);
	tcase_add_test(deaths, objects_of_a_dead_client_are_free_under_a_new_generation);
	tcase_add_test(deaths, deaths_at_any_time_lose_and_double_nothing);
	tcase_add_test(deaths, a_record_in_a_zone_that_another_put_into_use_is_found);
#endif
	suite_add_tcase(s, one);
	suite_add_tcase(s, wrong);
	suite_add_tcase(s, many);
	suite_add_tcase(s, deaths);
	return run_suite(s);
}
