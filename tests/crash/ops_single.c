/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: objects of the classes above 32 KiB, each all of its slab. */
#include "crash.h"

#include "cache.h"
#include "slab.h"
#include "zone.h"

#define SINGLE_BYTES 65536u  /* by the fast path */
#define LARGER_BYTES 131072u /* by the way of what is larger */

static uint64_t handle = 1; /* what the operation has made */
static uint32_t thing;
static int result;
static uint64_t new_size, zone;

static struct cache *cache_of(uint64_t bytes)
{
	return &my_block()->caches[sizeclass_of(bytes)];
}

static uint32_t cached(uint64_t bytes)
{
	return cache_count(cache_of(bytes));
}

/* Whether the pages of what was to be freed are a slab's still. */
static bool slab_left(void)
{
	struct slab_place p;

	return slab_find(&self->arena, handle_offset(thing_at(thing)->handle), &p) == 0;
}

/* ---- allocating ---- */

static void none_cached(void)
{
	make_thing(SINGLE_BYTES, 0, FATE_GONE);
	if (cached(SINGLE_BYTES))
		broken("an object is cached");
}

static void one_cached(void)
{
	drop_thing(make_thing(SINGLE_BYTES, 0, FATE_GONE));
	if (!cached(SINGLE_BYTES))
		broken("no object is cached");
}

static void larger_cached(void)
{
	drop_thing(make_thing(LARGER_BYTES, 0, FATE_GONE));
	if (!cached(LARGER_BYTES))
		broken("no object is cached");
}

static void one_cached_stray(void)
{
	one_cached();
	board->account.strays = 1;
}

static void alloc(void)
{
	handle = shma_alloc(self, SINGLE_BYTES, 0);
}

static void alloc_larger(void)
{
	handle = shma_alloc(self, LARGER_BYTES, 0);
}

static void alloc_shared(void)
{
	handle = shma_alloc(self, SINGLE_BYTES, SHMA_SHARED);
}

static void alloc_persistent(void)
{
	handle = shma_alloc(self, SINGLE_BYTES, SHMA_PERSIST);
}

static bool got(void)
{
	return handle && shma_size(self, handle) >= SINGLE_BYTES;
}

/* ---- freeing ---- */

static void one(void)
{
	make_thing(64, 0, FATE_GONE);
	thing = make_thing(SINGLE_BYTES, 0, FATE_GONE);
}

/* The next one freed drives another out. */
static void until_full(void)
{
	uint32_t some[16], n = 0, oldest;

	make_thing(64, 0, FATE_GONE);
	while (n < 16)
		some[n++] = make_thing(SINGLE_BYTES, 0, FATE_GONE);
	oldest = some[n - 1];
	while (n && (cached(SINGLE_BYTES) < cache_limit(cache_of(SINGLE_BYTES)) ||
		     my_block()->slow_calls % 4 == 0)) /* it would look at its limit */
		drop_thing(some[--n]);
	if (!n)
		broken("the cache is not full");
	thing = some[--n];
	zone = handle_offset(thing_at(oldest)->handle) >> PAGE_SHIFT;
	zone /= self->arena.g.zone_pages;
}

/* And its zone's lock is held. */
static void until_full_zone_busy(void)
{
	until_full();
	if (zone_trylock(&self->arena, (uint32_t)zone))
		broken("the zone is busy already");
}

static void free_thing(void)
{
	result = shma_free(self, thing_at(thing)->handle);
}

static bool went_to_cache(void)
{
	return result == 0 && slab_left() && cached(SINGLE_BYTES) > 0;
}

static bool one_went(void)
{
	return result == 0 && cached(SINGLE_BYTES) <= cache_limit(cache_of(SINGLE_BYTES));
}

static bool pending(void)
{
	return result == 0 &&
	       (uint32_t)atomic_load(&zone_of(&self->arena, (uint32_t)zone)->pending);
}

static bool done(void)
{
	return result == 0;
}

static void others(void)
{
	make_thing(64, 0, FATE_GONE);
	thing = T_SHARED_SINGLE;
	thing_at(thing)->fate = FATE_EITHER;
}

static void arenas(void)
{
	make_thing(64, 0, FATE_GONE);
	thing = T_PERSISTENT_SINGLE;
	thing_at(thing)->fate = FATE_EITHER;
}

static void take(void)
{
	result = shma_take(self, thing_at(thing)->handle);
}

/* ---- resizing ---- */

static void resize(void)
{
	handle = shma_resize(self, thing_at(thing)->handle, new_size);
}

static void resize_of(uint64_t from, uint64_t to)
{
	make_thing(64, 0, FATE_GONE);
	thing = make_thing(from, 0, FATE_GONE);
	new_size = to;
}

static void a_little_less(void)
{
	resize_of(SINGLE_BYTES, SINGLE_BYTES - 8000);
}

static void much_less(void)
{
	resize_of(LARGER_BYTES, SINGLE_BYTES);
}

static void to_extent(void)
{
	resize_of(SINGLE_BYTES, 300000);
}

static bool stayed(void)
{
	return handle == thing_at(thing)->handle;
}

static bool moved(void)
{
	return handle && handle != thing_at(thing)->handle;
}

/* ---- persisting into it ---- */

static void to_persist(void)
{
	struct thing *t = thing_at(T_PERSISTENT_SINGLE);

	make_thing(64, 0, FATE_GONE);
	thing = make_thing(200, 0, FATE_EITHER);
	t->bytes -= 8; /* its last word: nobody looks for it to be as it was written */
	board->account.cell = handle_offset(t->handle) + t->bytes;
	board->account.cell_old = *(uint64_t *)(self->arena.heap + board->account.cell);
	board->account.cell_thing = thing;
}

static void persist(void)
{
	result = shma_persist(self, thing_at(thing)->handle,
			      (uint64_t *)(self->arena.heap + board->account.cell));
}

bool single_op_worked(void)
{
	return result == 0 && handle != 0;
}

const struct op single_ops[] = {
	OP("alloc", "single object, new", none_cached, alloc, got),
	OP("alloc", "single object, from cache", one_cached, alloc, got),
	OP("alloc", "single object, from cache, larger", larger_cached, alloc_larger, got),
	OP("alloc", "single object, from cache, shared", one_cached, alloc_shared, got),
	OP("alloc", "single object, from cache, persistent", one_cached_stray, alloc_persistent, got),
	OP("free", "single object, to cache", one, free_thing, went_to_cache),
	OP("free", "single object, another goes back", until_full, free_thing, one_went),
	OP("free", "single object, another goes back, zone busy", until_full_zone_busy, free_thing,
	   pending),
	OP("free", "another's single object", others, free_thing, done),
	OP("free", "persistent single object", arenas, free_thing, done),
	OP("take", "single object", others, take, done),
	OP("resize", "in place, single object", a_little_less, resize, stayed),
	OP("resize", "moving, single object to less", much_less, resize, moved),
	OP("resize", "moving, single object to large", to_extent, resize, moved),
	OP("persist", "in a single object", to_persist, persist, done),
	{ .name = NULL }
};
