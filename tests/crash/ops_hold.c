/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: an object is held, by its owner first, by others then, and let go. The survivor holds one as well. */
#include "crash.h"
#include "hold.h"
#include "object.h"

static uint32_t thing;
static int result;

bool hold_op_worked(void)
{
	return result == 0;
}

/* A thread that has been here before. */
static void come(void)
{
	make_thing(64, 0, FATE_GONE);
}

/* Of an object that is held. */
static uint64_t record_of(uint32_t t)
{
	uint32_t place = 0;

	if (object_kind_of(&self->arena, thing_at(t)->handle, &place) != OBJECT_HELD)
		broken("object %u is not held", t);
	return hold_place(&self->arena, hold_home(thing_at(t)->handle), place);
}

static struct hold_view view(void)
{
	struct hold_view v;

	if (!hold_view(&self->arena, record_of(thing), &v))
		broken("a held object has no record");
	return v;
}

static void retain(void)
{
	result = shma_retain(self, thing_at(thing)->handle);
}

static void release(void)
{
	result = shma_release(self, thing_at(thing)->handle);
}

static void hold(uint32_t t)
{
	if (shma_retain(self, thing_at(t)->handle))
		broken("cannot hold object %u", t);
}

/* ---- one's own ---- */

static void mine(uint64_t bytes, unsigned flags)
{
	uint32_t other;

	come();
	/* So that there are records to be had. */
	other = make_thing(bytes, flags & ~SHMA_SHARED, FATE_GONE);
	hold(other);
	thing = make_thing(bytes, flags, FATE_GONE);
}

static void my_small(void)
{
	mine(200, 0);
}
static void my_large(void)
{
	mine(40960, SHMA_LARGE);
}
static void my_span(void)
{
	mine(UINT64_C(3) << 20, 0);
}
static void my_offer(void)
{
	mine(200, SHMA_SHARED);
}
/* In a region where nobody has held anything. */
static void my_first_there(void)
{
	come();
	thing = make_thing(UINT64_C(1) << 20, SHMA_LARGE, FATE_GONE);
	if (hold_page_there(&self->arena, hold_home(thing_at(thing)->handle)))
		broken("records have memory there");
}

static bool began(void)
{
	return result == 0 && view().holders == 1 && view().holds == 1;
}

static void my_held_small(void)
{
	my_small();
	hold(thing);
}
static void my_held_large(void)
{
	my_large();
	hold(thing);
}
static void my_held_span(void)
{
	my_span();
	hold(thing);
}
static void my_held_twice(void)
{
	my_held_small();
	hold(thing);
}

static bool again(void)
{
	return result == 0 && view().holds == 2;
}

static bool once_left(void)
{
	return result == 0 && view().holds == 1;
}

static bool gone(void)
{
	return result == 0 && !shma_ptr(self, thing_at(thing)->handle);
}

/* ---- another's ---- */

static void others(void)
{
	come();
	thing = T_HELD;
}

/* No slot is empty: the survivor has them all, as if so many of its threads had come at once. */
static void others_full(void)
{
	struct hold_record *r;
	uint32_t slot;

	others();
	r = hold_record_at(&self->arena, record_of(thing));
	slot = atomic_load(&r->slots[0]);
	for (uint32_t i = 1; i < HOLD_SLOTS; i++) {
		uint32_t empty = 0; /* else somebody else's, who holds it too */

		atomic_compare_exchange_strong(&r->slots[i], &empty, slot);
	}
}

static bool extended(void)
{
	return result == 0 && hold_next(&self->arena, record_of(thing)) != HOLD_NONE;
}

static void others_held(void)
{
	others();
	hold(thing);
}

static void others_held_beyond(void)
{
	others_full();
	hold(thing);
}

static bool done(void)
{
	return result == 0;
}

const struct op hold_ops[] = {
	OP("retain", "first, small", my_small, retain, began),
	OP("retain", "first, large", my_large, retain, began),
	OP("retain", "first, span of zones", my_span, retain, began),
	OP("retain", "first, on offer", my_offer, retain, began),
	OP("retain", "first, new page of records", my_first_there, retain, began),
	OP("retain", "again", my_held_small, retain, again),
	OP("retain", "another's", others, retain, done),
	OP("retain", "another's, the twelfth", others_full, retain, extended),
	OP("release", "last, small", my_held_small, release, gone),
	OP("release", "last, large", my_held_large, release, gone),
	OP("release", "last, span of zones", my_held_span, release, gone),
	OP("release", "again", my_held_twice, release, once_left),
	OP("release", "another's", others_held, release, done),
	OP("release", "another's, the twelfth", others_held_beyond, release, done),
	{ .name = NULL },
};
