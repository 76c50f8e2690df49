/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: watched objects, in a debug arena. Where calls come from is said, not looked up: that is private memory. */
#include "crash.h"

#include <errno.h>

#include "debug_object.h"
#include "debug_report.h"
#include "object_word.h"

#define BYTES 200u /* with SHMA_LARGE: in pages of its own, with one behind it */

static uint64_t handle = 1;
static uint32_t thing;
static uint64_t reports;
static int result;

static void begin(void)
{
	shma_debug_here("ops_debug.c:1");
	handle = 0;
	make_thing(64, 0, FATE_GONE);
}

static bool is_watched(uint64_t h)
{
	struct object o;
	uint32_t state;

	return !object_word_find_live(&self->arena, h, &o, &state) && o.front;
}

/* ---- allocating ---- */

static void one_freed(void)
{
	begin();
	drop_thing(make_thing(BYTES, 0, FATE_GONE));
	debug_object_release_all(&self->arena, my_block());
}

static void alloc(void)
{
	handle = shma_alloc(self, BYTES, 0);
}

static void alloc_large(void)
{
	handle = shma_alloc(self, BYTES, SHMA_LARGE);
}

static void one_stray(void)
{
	one_freed();
	board->account.strays = 1;
}

static void alloc_persistent(void)
{
	handle = shma_alloc(self, BYTES, SHMA_PERSIST);
}

static bool got(void)
{
	return handle && is_watched(handle);
}

/* ---- freeing ---- */

static void one(void)
{
	begin();
	thing = make_thing(BYTES, 0, FATE_GONE);
}

static void one_large(void)
{
	begin();
	thing = make_thing(BYTES, SHMA_LARGE, FATE_GONE);
}

static void anothers(void)
{
	begin();
	thing = T_SHARED;
	thing_at(thing)->fate = FATE_EITHER;
}

static void free_thing(void)
{
	result = shma_free(self, thing_at(thing)->handle);
}

static bool freed(void)
{
	return result == 0;
}

/* ---- let go ---- */

static void retain_thing(void)
{
	if (shma_retain(self, thing_at(thing)->handle))
		broken("cannot hold object %u", thing);
}

static void one_held(void)
{
	one();
	retain_thing();
}

static void one_large_held(void)
{
	one_large();
	retain_thing();
}

static void release(void)
{
	result = shma_release(self, thing_at(thing)->handle);
}

/* ---- leaving quarantine ---- */

static void one_kept(void)
{
	one();
	free_thing();
}

static void one_large_kept(void)
{
	one_large();
	free_thing();
}

static void leave(void)
{
	debug_object_release_all(&self->arena, my_block());
	result = 0;
}

/* ---- misused ---- */

static void one_gone(void)
{
	one_kept();
	reports = debug_report_count(&self->arena);
}

static void free_again(void)
{
	result = shma_free(self, thing_at(thing)->handle);
}

static bool was_told(void)
{
	return result == -ESTALE && debug_report_count(&self->arena) == reports + 1;
}

bool debug_op_worked(void)
{
	return handle != 0 || result == 0 || result == -ESTALE;
}

const struct op debug_ops[] = {
	OP_SO(OP_DEBUG, "alloc", "watched", one_freed, alloc, got),
	OP_SO(OP_DEBUG, "alloc", "watched, a page behind it", begin, alloc_large, got),
	OP_SO(OP_DEBUG, "alloc", "watched, persistent", one_stray, alloc_persistent, got),
	OP_SO(OP_DEBUG, "free", "watched", one, free_thing, freed),
	OP_SO(OP_DEBUG, "free", "watched, a page behind it", one_large, free_thing, freed),
	OP_SO(OP_DEBUG, "free", "watched, another's", anothers, free_thing, freed),
	OP_SO(OP_DEBUG, "release", "watched, last", one_held, release, freed),
	OP_SO(OP_DEBUG, "release", "watched, last, a page behind it", one_large_held, release, freed),
	OP_SO(OP_DEBUG, "free", "out of quarantine", one_kept, leave, freed),
	OP_SO(OP_DEBUG, "free", "out of quarantine, large", one_large_kept, leave, freed),
	OP_SO(OP_DEBUG, "free", "a second time, reported", one_gone, free_again, was_told),
	{ .name = NULL }
};
