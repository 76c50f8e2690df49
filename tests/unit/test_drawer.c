/* SPDX-License-Identifier: Apache-2.0 */
/* Which slabs a thread draws from: its own ones, as long as there is a choice. */
#include <pthread.h>

#include "heap.h"
#include "slab.h"
#include "slab_inside.h"

#define CLASS 10
#define TURN 8u /* objects; more than a quarter of a slab's, so that what is left is its drawer's */
#define TURNS 40u
#define MANY (1u << 17)

static struct arena arena;

/* A thread of this process that lives, and does nothing by itself. */
struct drawer {
	pthread_t thread;
	pthread_barrier_t met;
	uint32_t home, crowd;
	struct slab_source from;
	uint64_t handles[2 * TURN * TURNS];
	uint32_t count;
};

static struct drawer one, other;

static void *live(void *arg)
{
	struct drawer *d = arg;
	int err;
	struct thread_block *t = thread_self(&arena, &err);

	d->from.drawer = t ? arena.client << 16 | t->index : 0;
	pthread_barrier_wait(&d->met);
	pthread_barrier_wait(&d->met);
	return NULL;
}

static void begin(struct drawer *d)
{
	memset(d, 0, sizeof(*d));
	d->home = 1;
	d->from = (struct slab_source){.class = CLASS, .home = &d->home, .crowd = &d->crowd};
	pthread_barrier_init(&d->met, NULL, 2);
	ck_assert_int_eq(pthread_create(&d->thread, NULL, live, d), 0);
	pthread_barrier_wait(&d->met);
	ck_assert_uint_ne(d->from.drawer, 0);
}

static void end(struct drawer *d)
{
	if (!d->thread)
		return;
	pthread_barrier_wait(&d->met);
	pthread_join(d->thread, NULL);
	pthread_barrier_destroy(&d->met);
	d->thread = 0;
}

static void setup(void)
{
	heap_attach(&arena, MIB(16));
	begin(&one);
	begin(&other);
}

static void teardown(void)
{
	end(&one);
	end(&other);
	heap_check(&arena);
	heap_detach(&arena);
}

/* At least so many, by some at a time: of a new slab never so few that it is anybody's. */
static void draw_some(struct drawer *d, uint32_t want)
{
	uint32_t end = d->count + want;
	int err;

	while (d->count < end) {
		uint32_t got = slab_claim(&arena, &d->from, TURN, OBJECT_PRIVATE, d->handles + d->count, &err);

		ck_assert_uint_gt(got, 0);
		d->count += got;
		ck_assert_uint_le(d->count + TURN, 2 * TURN * TURNS);
	}
}

static void put_all(struct drawer *d)
{
	slab_put(&arena, d->handles, d->count, 0);
	d->count = 0;
}

static struct slab_place place_of(uint64_t handle)
{
	struct slab_place p;

	ck_assert_int_eq(slab_find(&arena, handle_offset(handle), &p), 0);
	return p;
}

static bool has_in(const struct drawer *d, uint64_t head)
{
	for (uint32_t i = 0; i < d->count; i++)
		if (place_of(d->handles[i]).head == head)
			return true;
	return false;
}

/* Slabs that both have objects of. */
static uint32_t meetings(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < one.count; i++)
		count += has_in(&other, place_of(one.handles[i]).head);
	return count;
}

static void draw_by_turns(void)
{
	for (uint32_t i = 0; i < TURNS; i++) {
		draw_some(&one, TURN);
		draw_some(&other, TURN);
	}
}

static uint32_t slab_pages(void)
{
	uint32_t n = 0;

	for (uint64_t p = 0; p < atomic_load(&arena.pages_known); p++)
		n += pw0_kind(atomic_load(&arena.pages[p].w0)) == PAGE_SLAB;
	return n;
}

START_TEST(threads_that_draw_by_turns_have_slabs_of_their_own)
{
	draw_by_turns();
	ck_assert_uint_eq(meetings(), 0);
	put_all(&one);
	put_all(&other);
}
END_TEST

/* Every other object of all its slabs, and then as many again. */
START_TEST(what_a_thread_puts_back_it_draws_again)
{
	uint64_t back[TURN * TURNS];
	uint32_t pages, kept = 0, n = 0;

	draw_by_turns();
	pages = slab_pages();
	ck_assert_uint_ne(one.crowd, 0);
	for (uint32_t i = 0; i < one.count; i++)
		if (i % 2)
			back[n++] = one.handles[i];
		else
			one.handles[kept++] = one.handles[i];
	one.count = kept;
	slab_put_near(&arena, back, n, &one.from);
	draw_some(&one, n);
	ck_assert_uint_eq(slab_pages(), pages);
	ck_assert_uint_eq(meetings(), 0);
	put_all(&one);
	put_all(&other);
}
END_TEST

START_TEST(a_slab_that_is_free_by_three_quarters_is_anybodys)
{
	uint64_t head;

	draw_some(&one, TURN);
	head = place_of(one.handles[0]).head;
	draw_some(&other, TURN);
	ck_assert_uint_ne(place_of(other.handles[0]).head, head);
	put_all(&other);
	slab_put(&arena, one.handles + 1, TURN - 1, 0);
	one.count = 1;
	other.from.head = other.crowd = 0;
	draw_some(&other, 1);
	ck_assert_uint_eq(place_of(other.handles[0]).head, head);
	put_all(&one);
	put_all(&other);
}
END_TEST

START_TEST(the_slabs_of_a_thread_that_has_ended_are_anybodys)
{
	uint64_t head;

	draw_some(&one, TURN);
	head = place_of(one.handles[0]).head;
	end(&one);
	draw_some(&other, 1);
	ck_assert_uint_eq(place_of(other.handles[0]).head, head);
	put_all(&one);
	put_all(&other);
}
END_TEST

/* Objects of just so many slabs, all of each; the slabs' heads. */
static void draw_slabs(struct drawer *d, uint32_t slabs, uint64_t heads[])
{
	for (uint32_t i = 0; i < slabs; i++) {
		uint32_t first = d->count;
		struct slab_place p;

		draw_some(d, 1);
		p = place_of(d->handles[first]);
		heads[i] = p.head;
		while (d->count - first < sizeclass_table[p.kind].objects) {
			int err;

			d->count += slab_claim(&arena, &d->from, sizeclass_table[p.kind].objects - (d->count - first),
					       OBJECT_PRIVATE, d->handles + d->count, &err);
			ck_assert_uint_eq(place_of(d->handles[d->count - 1]).head, p.head);
		}
	}
}

static bool is_slab(uint64_t head)
{
	struct slab_place p;

	return slab_find(&arena, head << PAGE_SHIFT, &p) == 0 && p.class == CLASS;
}

/* Puts back what one has, as other would. */
static void put_by_other(uint32_t left[2])
{
	other.from.left = left;
	slab_put_near(&arena, one.handles, one.count, &other.from);
	one.count = 0;
	one.from.head = 0;
}

START_TEST(an_empty_slab_is_left_to_who_draws_from_it)
{
	uint32_t left[2] = {0};
	uint64_t heads[3], again[2];

	draw_slabs(&one, 2, heads);
	put_by_other(left);
	ck_assert(is_slab(heads[0]) && is_slab(heads[1]));
	draw_slabs(&one, 2, again);
	ck_assert(again[0] + again[1] == heads[0] + heads[1]);
	put_by_other(left); /* the same ones: none of them has to go for it */
	ck_assert(is_slab(heads[0]) && is_slab(heads[1]));
}
END_TEST

START_TEST(of_the_slabs_left_to_others_two_are_empty_at_most)
{
	uint32_t left[2] = {0};
	uint64_t heads[3];

	draw_slabs(&one, 3, heads);
	put_by_other(left);
	ck_assert(!is_slab(heads[0]) && is_slab(heads[1]) && is_slab(heads[2]));
	slab_give_up(&arena, heads[1], CLASSES);
	slab_give_up(&arena, heads[2], CLASS);
	ck_assert(!is_slab(heads[1]) && !is_slab(heads[2]));
}
END_TEST

START_TEST(nothing_is_left_to_oneself_nor_to_who_has_ended)
{
	uint32_t left[2] = {0};
	uint64_t heads[1];

	draw_slabs(&one, 1, heads);
	one.from.head = 0;
	one.from.left = left;
	slab_put_near(&arena, one.handles, one.count, &one.from);
	ck_assert(!is_slab(heads[0]));
	one.count = 0;
	draw_slabs(&one, 1, heads);
	end(&one);
	put_by_other(left);
	ck_assert(!is_slab(heads[0]));
	ck_assert_uint_eq(left[0] + left[1], 0);
}
END_TEST

START_TEST(spoilt_words_of_what_was_left_cost_nothing)
{
	uint32_t left[2] = {UINT32_MAX, UINT32_MAX};
	uint64_t heads[2];

	draw_slabs(&one, 2, heads);
	put_by_other(left);
	ck_assert(is_slab(heads[0]) && is_slab(heads[1]));
	ck_assert_uint_eq(left[0], heads[1] + 1);
	ck_assert_uint_eq(left[1], heads[0] + 1);
}
END_TEST

START_TEST(where_memory_ends_all_slabs_are_drawn_from)
{
	static uint64_t all[MANY], last;
	uint32_t count = 0, got;
	int err = 0;

	do {
		ck_assert_uint_lt(count, MANY - TURN);
		got = slab_claim(&arena, &one.from, TURN, OBJECT_PRIVATE, all + count, &err);
		count += got;
	} while (got);
	ck_assert_int_eq(err, -ENOMEM);
	slab_put_near(&arena, all, 1, &one.from);
	ck_assert_uint_eq(slab_claim(&arena, &other.from, TURN, OBJECT_PRIVATE, &last, &err), 1);
	ck_assert_uint_eq(handle_offset(last), handle_offset(all[0]));
	slab_put(&arena, &last, 1, 0);
	slab_put(&arena, all + 1, count - 1, 0);
}
END_TEST

/* Whatever the hints of a record say: pages that are none, lists that go round. */
START_TEST(a_spoilt_list_costs_no_object)
{
	heap_seed("a_spoilt_list_costs_no_object");
	draw_by_turns();
	for (uint32_t i = 0; i < one.count; i++) {
		struct slab_record *r = place_of(one.handles[i]).record;
		uint32_t next = heap_random() % 3 ? (uint32_t)heap_random()
						  : (uint32_t)place_of(one.handles[0]).head + 1;

		atomic_store(&r->next, next);
	}
	slab_put_near(&arena, one.handles, one.count / 2, &one.from);
	memmove(one.handles, one.handles + one.count / 2, one.count / 2 * sizeof(one.handles[0]));
	one.count /= 2;
	draw_some(&one, one.count);
	for (uint32_t i = 0; i < one.count; i++)
		for (uint32_t k = 0; k < i; k++)
			ck_assert_uint_ne(handle_offset(one.handles[i]), handle_offset(one.handles[k]));
	put_all(&one);
	put_all(&other);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("drawer");
	TCase *t = tcase_create("drawer");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, threads_that_draw_by_turns_have_slabs_of_their_own);
	tcase_add_test(t, what_a_thread_puts_back_it_draws_again);
	tcase_add_test(t, a_slab_that_is_free_by_three_quarters_is_anybodys);
	tcase_add_test(t, the_slabs_of_a_thread_that_has_ended_are_anybodys);
	tcase_add_test(t, an_empty_slab_is_left_to_who_draws_from_it);
	tcase_add_test(t, of_the_slabs_left_to_others_two_are_empty_at_most);
	tcase_add_test(t, nothing_is_left_to_oneself_nor_to_who_has_ended);
	tcase_add_test(t, spoilt_words_of_what_was_left_cost_nothing);
	tcase_add_test(t, where_memory_ends_all_slabs_are_drawn_from);
	tcase_add_test(t, a_spoilt_list_costs_no_object);
	suite_add_tcase(s, t);
	return run_suite(s);
}
