/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: an object is packed, and unpacked. */
#include "crash.h"

/* Of a class, in several pages; and of none. */
#define SMALL_BYTES 20000u
#define LARGE_BYTES 300000u

static uint64_t handle = 1; /* what the operation has made */
static uint32_t thing;
static int level;

static void pack(void)
{
	handle = shma_pack(self, thing_at(thing)->handle, level);
}

static void unpack(void)
{
	handle = shma_unpack(self, thing_at(thing)->handle);
}

static void thing_of(uint64_t bytes, unsigned flags)
{
	make_thing(bytes, 0, FATE_GONE);
	thing = make_thing(bytes, flags, FATE_GONE);
	level = 0;
}

/* The arena's: there before as the one, after as the other, which nobody has heard of yet. */
static void arenas_of(uint64_t bytes)
{
	thing_of(bytes, SHMA_PERSIST);
	thing_at(thing)->fate = FATE_EITHER;
	thing_at(thing)->replaced = true;
	board->account.strays = 1;
}

static void packed_first(void)
{
	uint64_t packed = shma_pack(self, thing_at(thing)->handle, level);

	if (!packed || packed == thing_at(thing)->handle)
		broken("cannot pack");
	thing_at(thing)->handle = packed;
}

static void small_private(void)
{
	thing_of(SMALL_BYTES, 0);
}
static void small_by_zstd(void)
{
	thing_of(SMALL_BYTES, 0);
	level = 1;
}
static void large_shared(void)
{
	thing_of(LARGE_BYTES, SHMA_SHARED);
}
static void small_arenas(void)
{
	arenas_of(SMALL_BYTES);
}
static void large_arenas(void)
{
	arenas_of(LARGE_BYTES);
}
static void small_private_packed(void)
{
	small_private();
	packed_first();
}
static void small_arenas_packed(void)
{
	small_arenas();
	packed_first();
}
static void large_arenas_packed(void)
{
	large_arenas();
	packed_first();
}

static bool replaced(void)
{
	return handle && handle != thing_at(thing)->handle;
}

bool pack_op_worked(void)
{
	return handle != 0;
}

const struct op pack_ops[] = {
	OP("pack", "private", small_private, pack, replaced),
	OP("pack", "private, by zstd", small_by_zstd, pack, replaced),
	OP("pack", "large, shared", large_shared, pack, replaced),
	OP("pack", "persistent", small_arenas, pack, replaced),
	OP("pack", "large, persistent", large_arenas, pack, replaced),
	OP("unpack", "private", small_private_packed, unpack, replaced),
	OP("unpack", "persistent", small_arenas_packed, unpack, replaced),
	OP("unpack", "large, persistent", large_arenas_packed, unpack, replaced),
	{ .name = NULL }
};
