/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: allocating, freeing. Each prepare() brings its path about, each took() says so. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cache.h"
#include "crash.h"
#include "sizeclass.h"
#include "slab.h"
#include "span.h"
#include "thread.h"
#include "words.h"
#include "zone.h"

#define UNUSED_CLASS_BYTES 448u /* nobody else uses it */
#define LARGE_BYTES	   300000u /* of no class, and so an extent */
#define EXTENT_BYTES	   (UINT64_C(100) << PAGE_SHIFT)
#define SPAN_BYTES	   (UINT64_C(3) << 20)

static uint64_t handle = 1; /* what the operation has made */
static uint32_t thing;
static int result;
static struct shma_stats before;

static struct shma_stats stats(void)
{
	struct shma_stats st;

	shma_stats(self, &st);
	return st;
}

static int64_t slabs_more(void)
{
	return (int64_t)(stats().slabs - before.slabs);
}

static struct cache *cache_of(uint64_t bytes)
{
	return &my_block()->caches[sizeclass_of(bytes)];
}

static uint32_t cached(uint64_t bytes)
{
	return cache_count(cache_of(bytes));
}

static uint64_t page_of(uint64_t h)
{
	return handle_offset(h) >> PAGE_SHIFT;
}

/* Free objects in the slab that a class draws from. */
static uint32_t left_in_slab(uint64_t bytes)
{
	struct slab_place p;
	uint32_t left = 0;

	if (!cache_of(bytes)->record_page ||
	    slab_find(&self->arena, (uint64_t)(cache_of(bytes)->record_page - 1) << PAGE_SHIFT, &p))
		return 0;
	for (int w = 0; w < 4; w++)
		left += (uint32_t)__builtin_popcountll(atomic_load(&p.record->bitmap[w]));
	return left;
}

/* Whether the next slow call of a cache looks at its limit. */
static bool adapts(void)
{
	return my_block()->slow_calls % 4 == 0;
}

/* ---- allocating small ones ---- */

static void warm(void)
{
	thing = make_thing(UNUSED_CLASS_BYTES, 0, FATE_GONE);
	before = stats();
}

static void alloc_small(void)
{
	handle = shma_alloc(self, UNUSED_CLASS_BYTES, 0);
}

static void *start;

static void alloc_small_ptr(void)
{
	start = shma_alloc_ptr(self, UNUSED_CLASS_BYTES, 0, NULL);
	handle = start ? 1 : 0;
}

static void alloc_large_ptr(void)
{
	start = shma_alloc_ptr(self, LARGE_BYTES, 0, &handle);
}

static void alloc_small_zeroed(void)
{
	handle = shma_alloc(self, UNUSED_CLASS_BYTES, SHMA_ZERO);
}

static void alloc_small_shared(void)
{
	handle = shma_alloc(self, UNUSED_CLASS_BYTES, SHMA_SHARED);
}

static void alloc_small_persistent(void)
{
	handle = shma_alloc(self, UNUSED_CLASS_BYTES, SHMA_PERSIST);
}

static void warm_stray(void)
{
	warm();
	board->account.strays = 1;
}

static bool got_one(void)
{
	return handle != 0 && slabs_more() == 0;
}

/* A larger limit would draw whole slabs: others' misses are counted too. */
static void until_refill(void)
{
	warm();
	while (cached(UNUSED_CLASS_BYTES) || !left_in_slab(UNUSED_CLASS_BYTES))
		make_thing(UNUSED_CLASS_BYTES, 0, FATE_GONE);
	while (adapts())
		make_thing(64, 0, FATE_GONE);
	before = stats();
	op_number[0] = left_in_slab(UNUSED_CLASS_BYTES);
}

static bool refilled(void)
{
	return handle && slabs_more() == 0 && left_in_slab(UNUSED_CLASS_BYTES) < op_number[0];
}

#define WHOLE_BYTES 40960u /* a slab each */

/* What was flushed has memory, so that as much is drawn as is wanted. */
static void until_draw(void)
{
	uint32_t some[60], n = 0;

	while (n < sizeof(some) / sizeof(some[0]))
		some[n++] = make_thing(WHOLE_BYTES, 0, FATE_GONE);
	while (n > 0)
		drop_thing(some[--n]);
	while (cached(WHOLE_BYTES))
		make_thing(WHOLE_BYTES, 0, FATE_GONE);
	warm();
}

static void alloc_whole(void)
{
	handle = shma_alloc(self, WHOLE_BYTES, 0);
}

static bool drew_several(void)
{
	return handle && slabs_more() > 1 && cached(WHOLE_BYTES) > 0 &&
	       stats().committed_bytes == before.committed_bytes;
}

/* The survivor has put many back; the victim draws from its slabs, where it owns nothing yet. */
static void leave_many_free(void)
{
	static uint32_t some[THINGS_MAX];
	uint32_t n = 0;

	while (n < 300)
		some[n++] = make_thing(UNUSED_CLASS_BYTES, 0, FATE_KEPT);
	while (n > 3)
		if (--n % 20)
			drop_thing(some[n]);
}

static void any_thing(void)
{
	make_thing(64, 0, FATE_GONE);
	before = stats();
}

static void alloc_from_others(void)
{
	handle = shma_alloc(self, UNUSED_CLASS_BYTES, 0);
}

static bool got_others(void)
{
	return handle && stats().slabs - before.slabs <= 1; /* one for the cache's array */
}

static void until_new_slab(void)
{
	warm();
	while (cached(UNUSED_CLASS_BYTES) || left_in_slab(UNUSED_CLASS_BYTES) || adapts())
		make_thing(UNUSED_CLASS_BYTES, 0, FATE_GONE);
	before = stats();
}

/* The survivor's slabs of the class have gone back, their records may be had. */
static void leave_records(void)
{
	static uint32_t some[THINGS_MAX];
	uint32_t n = 0;

	while (n < 400)
		some[n++] = make_thing(UNUSED_CLASS_BYTES, 0, FATE_KEPT);
	before = stats();
	while (n)
		drop_thing(some[--n]);
	if (slabs_more() >= 0)
		broken("no slab has gone back");
}

static bool made_slab(void)
{
	return handle && slabs_more() >= 1;
}

/* The cache gets a larger array as well. */
static void until_growth(void)
{
	warm();
	while (cached(UNUSED_CLASS_BYTES) || !adapts())
		make_thing(UNUSED_CLASS_BYTES, 0, FATE_GONE);
	before = stats();
	op_number[0] = cache_of(UNUSED_CLASS_BYTES)->slots;
}

static bool grew(void)
{
	return handle && cache_of(UNUSED_CLASS_BYTES)->slots != op_number[0];
}

static bool made_first_slab(void)
{
	return handle && slabs_more() >= 1 && stats().state_bytes > before.state_bytes;
}

/* The record of its slab is of a shape that nobody has. */
static void alloc_odd_shape(void)
{
	handle = shma_alloc(self, 112, 0);
}

static bool got(void)
{
	return handle != 0;
}

/* ---- allocating large ones ---- */

static uint64_t zone_free(uint64_t zone)
{
	return atomic_load(&zone_of(&self->arena, (uint32_t)zone)->free_pages);
}

static uint64_t zone_pages(void)
{
	return self->arena.g.zone_pages;
}

/* An extent alone in its zone. */
static uint32_t extent_alone(enum fate fate)
{
	for (;;) {
		uint32_t t = make_thing(EXTENT_BYTES, SHMA_LARGE, fate);
		uint64_t page = page_of(thing_at(t)->handle);

		if (zone_free(page / zone_pages()) == zone_pages() - (EXTENT_BYTES >> PAGE_SHIFT))
			return t;
	}
}

/* The zone to be asked next is one free block. */
static void until_whole_zone(void)
{
	thing = extent_alone(FATE_GONE);
	op_number[0] = page_of(thing_at(thing)->handle) / zone_pages();
	drop_thing(thing);
}

static void alloc_page(void)
{
	handle = shma_alloc(self, 100, SHMA_LARGE);
}

static bool split(void)
{
	return handle && page_of(handle) / zone_pages() == op_number[0] &&
	       zone_free(op_number[0]) == zone_pages() - 1;
}

static void alloc_large(void)
{
	handle = shma_alloc(self, LARGE_BYTES, 0);
}

static void alloc_large_zeroed(void)
{
	handle = shma_alloc(self, 40960, SHMA_LARGE | SHMA_ZERO | SHMA_SHARED);
}

static void alloc_large_persistent(void)
{
	handle = shma_alloc(self, 40960, SHMA_LARGE | SHMA_PERSIST);
}

static void alloc_large_aligned(void)
{
	handle = shma_alloc(self, 40960, SHMA_ALIGN(65536));
}

static void any_thing_stray(void)
{
	any_thing();
	board->account.strays = 1;
}

static uint64_t free_in_use(void)
{
	uint64_t pages = 0;

	for (uint64_t zone = 1; zone < arena_refresh(&self->arena); zone++)
		pages += zone_free(zone);
	return pages;
}

/* Nothing is left in the zones in use, but in the one for bookkeeping. */
static void until_new_zone(void)
{
	uint64_t pages;

	while ((pages = free_in_use()))
		make_thing(pages > 200 ? 131072 : PAGE_SIZE, SHMA_LARGE, FATE_GONE);
	op_number[0] = arena_refresh(&self->arena);
}

static bool activated(void)
{
	return handle && arena_refresh(&self->arena) > op_number[0];
}

static void alloc_span(void)
{
	handle = shma_alloc(self, SPAN_BYTES, 0);
}

static bool spans(void)
{
	return handle && page_of(handle) / zone_pages() !=
				 (page_of(handle) + (SPAN_BYTES >> PAGE_SHIFT) - 1) / zone_pages();
}

/* ---- freeing small ones ---- */

static void free_thing(void)
{
	result = shma_free(self, thing_at(thing)->handle);
}

static void free_start(void)
{
	result = shma_free_ptr(self, start);
}

static bool done(void)
{
	return result == 0;
}

/* Many objects, of which so many are freed that the cache is full, and the next one makes it flush. */
static void until_flush(void)
{
	static uint32_t some[THINGS_MAX];
	uint32_t n = 0;

	while (n < 200)
		some[n++] = make_thing(UNUSED_CLASS_BYTES, 0, FATE_GONE);
	do
		drop_thing(some[--n]);
	while (cached(UNUSED_CLASS_BYTES) < cache_limit(cache_of(UNUSED_CLASS_BYTES)) || adapts());
	thing = some[--n];
	op_number[0] = cached(UNUSED_CLASS_BYTES);
}

static bool flushed(void)
{
	return result == 0 && cached(UNUSED_CLASS_BYTES) < op_number[0];
}

/* Objects so large that a slab has few: one flushed empties its slab. */
static void until_slab_goes(void)
{
	uint32_t some[32], n = 0;

	while (n < 32)
		some[n++] = make_thing(32768, 0, FATE_GONE);
	for (uint64_t i = 0; i < 32; i++) {
		if (cached(32768) == cache_limit(cache_of(32768)) && !adapts() && i > 8)
			break;
		thing = some[--n];
		drop_thing(thing);
	}
	thing = some[--n];
	before = stats();
}

static bool slab_went(void)
{
	return result == 0 && slabs_more() < 0;
}

/* ---- freeing large ones ---- */

static void one_large(void)
{
	thing = make_thing(40960, SHMA_LARGE, FATE_GONE);
}

static void find_start(void)
{
	start = shma_ptr(self, thing_at(thing)->handle);
}

static void small_by_start(void)
{
	warm();
	find_start();
}

static void flush_by_start(void)
{
	until_flush();
	find_start();
}

static void large_by_start(void)
{
	one_large();
	find_start();
}

static void one_alone(void)
{
	thing = extent_alone(FATE_GONE);
	op_number[0] = page_of(thing_at(thing)->handle) / zone_pages();
}

static bool merged(void)
{
	return result == 0 && zone_free(op_number[0]) == zone_pages();
}

static void one_span(void)
{
	thing = make_thing(SPAN_BYTES, 0, FATE_GONE);
}

/* The zone's lock is held, by this very thread: that looks like any other holder. */
static void one_large_in_busy_zone(void)
{
	one_large();
	op_number[0] = page_of(thing_at(thing)->handle) / zone_pages();
	if (zone_trylock(&self->arena, (uint32_t)op_number[0]))
		broken("the zone is busy already");
}

static void two_large_in_busy_zone(void)
{
	uint32_t other = make_thing(40960, SHMA_LARGE, FATE_GONE);

	one_large_in_busy_zone();
	drop_thing(other);
}

static bool pending(void)
{
	return result == 0 &&
	       (uint32_t)atomic_load(&zone_of(&self->arena, (uint32_t)op_number[0])->pending);
}

static void after_pending(void)
{
	two_large_in_busy_zone();
	drop_thing(thing);
	zone_unlock(&self->arena, (uint32_t)op_number[0]);
}

static bool drained(void)
{
	return handle &&
	       !(uint32_t)atomic_load(&zone_of(&self->arena, (uint32_t)op_number[0])->pending);
}

/* An extent of the survivor's waits to be freed, in the zone of another that anyone may free. */
static void leave_pending(void)
{
	uint32_t mine;

	thing = extent_alone(FATE_KEPT);
	if (shma_share(self, thing_at(thing)->handle))
		broken("cannot share");
	op_number[0] = page_of(thing_at(thing)->handle) / zone_pages();
	mine = make_thing(40960, SHMA_LARGE, FATE_GONE);
	if (page_of(thing_at(mine)->handle) / zone_pages() != op_number[0] ||
	    zone_trylock(&self->arena, (uint32_t)op_number[0]))
		broken("not in one zone, or that is busy");
	drop_thing(mine);
	zone_unlock(&self->arena, (uint32_t)op_number[0]);
	board->number[1] = thing;
}

static void beside_pending(void)
{
	make_thing(64, 0, FATE_GONE);
	thing = (uint32_t)board->number[1];
	thing_at(thing)->fate = FATE_EITHER;
	op_number[0] = page_of(thing_at(thing)->handle) / zone_pages();
	if (!(uint32_t)atomic_load(&zone_of(&self->arena, (uint32_t)op_number[0])->pending))
		broken("nothing is pending");
}

static bool freed_both(void)
{
	return result == 0 && zone_free(op_number[0]) == zone_pages();
}

/* ---- freeing others' ---- */

static void either(uint32_t t)
{
	make_thing(64, 0, FATE_GONE);
	thing = t;
	thing_at(t)->fate = FATE_EITHER;
}

static void others_small(void)
{
	either(T_SHARED);
}
static void others_by_start(void)
{
	others_small();
	find_start();
}
static void others_large(void)
{
	either(T_SHARED_LARGE);
}
static void others_span(void)
{
	either(T_SHARED_SPAN);
}
static void arenas_small(void)
{
	either(T_PERSISTENT);
}
static void arenas_large(void)
{
	either(T_PERSISTENT_LARGE);
}

bool heap_op_worked(void)
{
	return result == 0 && handle != 0;
}

const struct op heap_ops[] = {
	OP("alloc", "from cache", warm, alloc_small, got_one),
	OP("alloc", "from cache, zeroed", warm, alloc_small_zeroed, got_one),
	OP("alloc", "from cache, shared", warm, alloc_small_shared, got_one),
	OP("alloc", "from cache, persistent", warm_stray, alloc_small_persistent, got_one),
	OP("alloc", "refill", until_refill, alloc_small, refilled),
	OP_AFTER(leave_many_free, "alloc", "refill from another's slab", any_thing,
		 alloc_from_others, got_others),
	OP("alloc", "refill of whole slabs", until_draw, alloc_whole, drew_several),
	OP("alloc", "new slab", until_new_slab, alloc_small, made_slab),
	OP_AFTER(leave_records, "alloc", "new slab, record used before", until_new_slab,
		 alloc_small, made_slab),
	OP("alloc", "larger cache array", until_growth, alloc_small, grew),
	OP("alloc", "first of class, new state block", any_thing, alloc_odd_shape, made_first_slab),
	OP_SO(OP_ALONE, "alloc", "empty arena", NULL, alloc_odd_shape, got),
	OP("alloc", "page, zone split to the last", until_whole_zone, alloc_page, split),
	OP("alloc", "large", any_thing, alloc_large, got),
	OP("alloc", "large, zeroed, shared", any_thing, alloc_large_zeroed, got),
	OP("alloc", "large, persistent", any_thing_stray, alloc_large_persistent, got),
	OP("alloc", "large, aligned", any_thing, alloc_large_aligned, got),
	OP("alloc", "large, new zone", until_new_zone, alloc_large, activated),
	OP("alloc", "span of zones", any_thing, alloc_span, spans),
	OP("alloc", "large, pending ones first", after_pending, alloc_large, drained),
	OP("alloc_ptr", "from cache", warm, alloc_small_ptr, got_one),
	OP("alloc_ptr", "refill", until_refill, alloc_small_ptr, refilled),
	OP("alloc_ptr", "large", any_thing, alloc_large_ptr, got),
	OP("free", "to cache", warm, free_thing, done),
	OP("free", "flush", until_flush, free_thing, flushed),
	OP("free_ptr", "to cache", small_by_start, free_start, done),
	OP("free_ptr", "flush", flush_by_start, free_start, flushed),
	OP("free_ptr", "large", large_by_start, free_start, done),
	OP("free_ptr", "another's", others_by_start, free_start, done),
	OP("free", "slab goes back", until_slab_goes, free_thing, slab_went),
	OP("free", "large", one_large, free_thing, done),
	OP("free", "large, merged up to the zone", one_alone, free_thing, merged),
	OP("free", "span of zones", one_span, free_thing, done),
	OP("free", "large, zone busy", one_large_in_busy_zone, free_thing, pending),
	OP("free", "large, zone busy, another pending", two_large_in_busy_zone, free_thing,
	   pending),
	OP_AFTER(leave_pending, "free", "large, another's pending first", beside_pending,
		 free_thing, freed_both),
	OP("free", "another's", others_small, free_thing, done),
	OP("free", "another's large", others_large, free_thing, done),
	OP("free", "another's span", others_span, free_thing, done),
	OP("free", "persistent", arenas_small, free_thing, done),
	OP("free", "persistent large", arenas_large, free_thing, done),
	{ .name = NULL }
};
