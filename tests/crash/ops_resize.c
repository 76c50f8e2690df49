/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: an object changes its size, where it is or by moving. */
#include "crash.h"

#define SMALL_BYTES 448u /* of a class that nobody else uses */
#define SPAN_BYTES  (UINT64_C(3) << 20)
/* Of no class, and so extents. */
#define LARGE_BYTES  300000u
#define LARGER_BYTES 600000u

static uint64_t handle = 1; /* what the operation has made */
static uint32_t thing;
static uint64_t new_size;

static void resize(void)
{
	handle = shma_resize(self, thing_at(thing)->handle, new_size);
}

static void resize_of(uint64_t from, uint64_t to)
{
	make_thing(to, 0, FATE_GONE);
	thing = make_thing(from, 0, FATE_GONE);
	new_size = to;
}

static void small_a_little(void)
{
	resize_of(440, SMALL_BYTES);
}
static void small_to_small(void)
{
	resize_of(100, SMALL_BYTES);
}
static void small_to_large(void)
{
	resize_of(1000, LARGE_BYTES);
}
static void large_to_small(void)
{
	resize_of(LARGE_BYTES, 1000);
}
static void large_trimmed(void)
{
	resize_of(LARGER_BYTES, LARGE_BYTES);
}
static void large_to_larger(void)
{
	resize_of(LARGE_BYTES, LARGER_BYTES);
}
static void span_trimmed(void)
{
	resize_of(SPAN_BYTES, UINT64_C(65536));
}

static void large_to_span(void)
{
	thing = make_thing(LARGE_BYTES, 0, FATE_GONE);
	new_size = SPAN_BYTES;
}

static void shared_moves(void)
{
	resize_of(100, SMALL_BYTES);
	if (shma_share(self, thing_at(thing)->handle))
		broken("cannot share");
}

static void taken_moves(void)
{
	resize_of(100, SMALL_BYTES);
	thing = T_SHARED;
	thing_at(thing)->fate = FATE_GONE;
	if (shma_take(self, thing_at(thing)->handle))
		broken("cannot take");
}

static void arenas_moves(void)
{
	make_thing(64, 0, FATE_GONE);
	thing = T_PERSISTENT;
	thing_at(thing)->fate = FATE_EITHER;
	make_thing(SMALL_BYTES, 0, FATE_GONE);
	new_size = SMALL_BYTES;
	board->account.strays = 1; /* its copy, which nobody has heard of yet */
}

static bool stayed(void)
{
	return handle == thing_at(thing)->handle;
}
static bool moved(void)
{
	return handle && handle != thing_at(thing)->handle;
}

bool resize_op_worked(void)
{
	return handle != 0;
}

const struct op resize_ops[] = {
	OP("resize", "in place", small_a_little, resize, stayed),
	OP("resize", "in place, large trimmed", large_trimmed, resize, stayed),
	OP("resize", "moving, small", small_to_small, resize, moved),
	OP("resize", "moving, small to large", small_to_large, resize, moved),
	OP("resize", "moving, large to small", large_to_small, resize, moved),
	OP("resize", "moving, large", large_to_larger, resize, moved),
	OP("resize", "moving, from span", span_trimmed, resize, moved),
	OP("resize", "moving, to span", large_to_span, resize, moved),
	OP("resize", "moving, shared", shared_moves, resize, moved),
	OP("resize", "moving, taken", taken_moves, resize, moved),
	OP("resize", "moving, persistent", arenas_moves, resize, moved),
	{ .name = NULL }
};
