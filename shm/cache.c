/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

#include <errno.h>
#include <string.h>

#include "client.h"
#include "profile.h"
#include "quota.h"
#include "slab.h"
#include "stop_point.h"
#include "words.h"

#define STEAL_TRIES 8
#define CAPACITY_MIN_SLOTS 2u
#define ADAPT_EVERY 4 /* slow calls, between two looks whether the limit is right */

static uint32_t first_limit(uint32_t class)
{
	uint32_t n = CACHE_FIRST_BYTES / sizeclass_table[class].bytes;

	return n ? n : 1;
}

static uint64_t cached_bytes(const struct thread_block *t)
{
	return atomic_load_explicit(&t->cached_bytes, memory_order_relaxed);
}

static void set_limit(struct thread_block *t, uint32_t class, uint32_t limit)
{
	struct cache *c = &t->caches[class];
	uint64_t bytes = sizeclass_table[class].bytes;

	atomic_store_explicit(&t->cached_bytes, cached_bytes(t) + limit * bytes - cache_limit(c) * bytes,
			      memory_order_relaxed);
	c->end = c->slots + limit * sizeof(uint64_t);
}

/* ---- arrays ---- */

static int64_t drawn(const struct thread_block *t)
{
	return atomic_load_explicit(&t->owned_bytes, memory_order_relaxed);
}

static struct slab_source source_of(struct thread_block *t, uint32_t class)
{
	return (struct slab_source){
		.class = class,
		.head = t->caches[class].record_page,
		.home = &t->home_zone,
		.owned = drawn(t),
		.drawer = state_client(t->own) << 16 | t->index,
		.crowd = &t->crowd,
		.left = t->left};
}

static void array_free(struct arena *a, struct thread_block *t, uint64_t offset)
{
	struct slab_place p;
	_Atomic uint32_t *word;
	uint64_t handle;

	if (slab_find(a, offset, &p))
		return;
	word = &p.record->words[p.index];
	handle = handle_make(a->tag, state_gen(atomic_load_explicit(word, memory_order_relaxed)), offset);
	atomic_store_explicit(word, t->own | handle_gen(handle) << STATE_GEN_SHIFT, memory_order_relaxed);
	slab_put(a, &handle, 1, t->caches[p.class].record_page);
}

/* An array of at least so many slots, with the old one's handles. Crash: whichever array is named, both
 * are this client's. */
static bool array_grow(struct arena *a, struct thread_block *t, uint32_t class, uint32_t slots)
{
	struct cache *c = &t->caches[class];
	uint32_t array_class = sizeclass_of((uint64_t)slots * 8);
	struct slab_source from = source_of(t, array_class);
	uint32_t count = cache_count(c), limit = cache_limit(c);
	uint64_t handle, old = c->slots;
	int err;

	if (!slab_claim(a, &from, 1, OBJECT_INTERNAL, &handle, &err))
		return false;
	t->caches[array_class].record_page = from.head;
	STOP_POINT(cache_array_claimed);
	if (old)
		memcpy(a->heap + handle_offset(handle), a->heap + old, count * sizeof(uint64_t));
	c->slots = handle_offset(handle);
	c->end = c->slots + limit * sizeof(uint64_t);
	cache_set_count(c, count);
	STOP_POINT(cache_array_named);
	c->capacity = sizeclass_table[array_class].bytes / 8;
	STOP_POINT(cache_array_freeing);
	if (old)
		array_free(a, t, old);
	return true;
}

/* ---- putting back ---- */

static void drawn_add(struct thread_block *t, int64_t bytes)
{
	atomic_store_explicit(&t->owned_bytes, drawn(t) + bytes, memory_order_relaxed);
}

/* Puts the count oldest handles back. They leave the array before their objects are freed: the array
 * must not offer what another may claim. Modelled in tests/model/object.pml. */
static void put_oldest(struct arena *a, struct thread_block *t, uint32_t class, uint32_t count)
{
	struct cache *c = &t->caches[class];
	uint64_t *slots = cache_slot(a, c->slots);
	uint32_t top = cache_count(c);
	uint64_t batch[CACHE_LIMIT_MAX];
	struct slab_source from;

	if (top > CACHE_LIMIT_MAX) /* damage */
		top = CACHE_LIMIT_MAX;
	if (count > top)
		count = top;
	memcpy(batch, slots, count * sizeof(*slots));
	/* Crash: while they move down, the array says that it has none: else it had some twice. */
	cache_set_count(c, 0);
	atomic_signal_fence(memory_order_seq_cst);
	memmove(slots, slots + count, (top - count) * sizeof(*slots));
	atomic_signal_fence(memory_order_seq_cst);
	cache_set_count(c, top - count);
	atomic_signal_fence(memory_order_seq_cst);
	STOP_POINT(cache_lowered);
	from = source_of(t, class);
	slab_put_near(a, batch, count, &from);
	c->record_page = from.head;
	STOP_POINT(cache_put);
	drawn_add(t, -(int64_t)(count * (uint64_t)sizeclass_table[class].bytes));
}

/* ---- shares ---- */

/* Who has little needs a larger part of it cached: with few objects of each class, each is a large part. By
 * the most it ever had: memory that was needed before costs nothing more. */
static uint64_t least_share(struct thread_block *t, int64_t owned)
{
	uint64_t part;

	if (owned >> 10 > t->owned_high)
		t->owned_high = owned >> 10 > UINT32_MAX ? UINT32_MAX : (uint32_t)(owned >> 10);
	part = ((uint64_t)t->owned_high << 10) / CACHE_LITTLE_PART;
	return part < CACHE_SHARE_MIN ? CACHE_SHARE_MIN : part > CACHE_LITTLE_MAX ? CACHE_LITTLE_MAX : part;
}

/* The client's record has what it lost to and won from others. */
static uint64_t budget(struct arena *a, struct thread_block *t)
{
	uint32_t threads = atomic_load_explicit(&a->threads, memory_order_relaxed);
	int64_t sharers = threads ? threads : 1;
	/* What this thread drew is its alone; only what belongs to none is shared out. */
	int64_t owned = drawn(t) + client_owned(a, a->client) / sharers;
	uint64_t part = owned > 0 ? (uint64_t)owned / CACHE_SHARE_PART : 0;
	uint64_t least = least_share(t, owned);

	/* Limits are counted against it, and caches are half full on average. */
	return CACHE_LIMITS_PER_SHARE * (part > least ? part : least);
}

/* Takes half the limit of some other cache that does not use it; of large objects, each of which weighs as
 * much as all of a small one's, all that it has. */
static void steal(struct arena *a, struct thread_block *t, uint32_t class, uint64_t wanted, uint64_t allowed)
{
	for (int i = 0; i < STEAL_TRIES && cached_bytes(t) + wanted > allowed; i++) {
		uint32_t victim = t->steal_next++ % CLASSES;
		struct cache *c = &t->caches[victim];

		if (victim == class || !cache_limit(c))
			continue;
		if (sizeclass_table[victim].objects == 1 && cache_limit(c) == 1) {
			put_oldest(a, t, victim, 1);
			set_limit(t, victim, 0);
		} else if (cache_limit(c) > 1 && cache_count(c) <= cache_limit(c) / 3) {
			set_limit(t, victim, cache_limit(c) / 2);
		}
	}
}

/* Whether a cache may hold so many at all. */
static bool may_hold(const struct thread_block *t, uint32_t class, uint32_t limit)
{
	uint64_t own = drawn(t) > 0 ? (uint64_t)drawn(t) : 0, part = own / CACHE_CLASS_PART;

	if (limit > CACHE_LIMIT_MAX)
		return false;
	if (own <= CACHE_CLASS_LITTLE || sizeclass_table[class].objects == 1)
		return true;
	return (uint64_t)limit * sizeclass_table[class].bytes <=
	       (part > CACHE_CLASS_MAX ? part : CACHE_CLASS_MAX);
}

/* Doubles a cache's limit if the thread's share allows. */
static void grow(struct arena *a, struct thread_block *t, uint32_t class)
{
	struct cache *c = &t->caches[class];
	uint32_t limit = cache_limit(c) ? cache_limit(c) * 2 : first_limit(class);
	uint64_t wanted = (uint64_t)(limit - cache_limit(c)) * sizeclass_table[class].bytes;
	uint64_t allowed = budget(a, t);

	if (!may_hold(t, class, limit))
		return;
	if (cached_bytes(t) + wanted > allowed)
		steal(a, t, class, wanted, allowed);
	/* A first array it gets in any case: without one nothing can be allocated. */
	if (cache_limit(c) && cached_bytes(t) + wanted > allowed)
		return;
	if (c->capacity < limit &&
	    !array_grow(a, t, class, limit < CAPACITY_MIN_SLOTS ? CAPACITY_MIN_SLOTS : limit))
		return;
	set_limit(t, class, limit);
}

static uint64_t limit_bytes(const struct thread_block *t, uint32_t class)
{
	return (uint64_t)cache_limit(&t->caches[class]) * sizeclass_table[class].bytes;
}

static void halve(struct arena *a, struct thread_block *t, uint32_t class)
{
	uint32_t limit = cache_limit(&t->caches[class]) / 2, count = cache_count(&t->caches[class]);

	set_limit(t, class, limit);
	if (count > limit)
		put_oldest(a, t, class, count - limit / 2);
}

/* The client owns less than it did. A larger cache than this one is halved, if one is met: else the one that
 * flushes most would be halved most, and flush more still, while others keep what they have. */
static void shrink(struct arena *a, struct thread_block *t, uint32_t class)
{
	uint64_t bytes = limit_bytes(t, class);

	for (int i = 0; i < STEAL_TRIES; i++) {
		uint32_t victim = t->steal_next++ % CLASSES;

		if (cache_limit(&t->caches[victim]) > first_limit(victim) && limit_bytes(t, victim) > bytes) {
			halve(a, t, victim);
			return;
		}
	}
	if (cache_limit(&t->caches[class]) > first_limit(class))
		set_limit(t, class, cache_limit(&t->caches[class]) / 2);
}

/* At every miss of a new cache, and some of an old one. */
static void adapt(struct arena *a, struct thread_block *t, uint32_t class)
{
	struct cache *c = &t->caches[class];

	if (cache_limit(c) && t->slow_calls++ % ADAPT_EVERY != 0)
		return;
	if (cache_limit(c) > first_limit(class) && cached_bytes(t) > budget(a, t))
		shrink(a, t, class);
	else
		grow(a, t, class);
}

/* ---- refilling and flushing ---- */

/* Slabs that were left to others and are empty still have to go. */
static void give_up_left(struct arena *a, struct thread_block *t)
{
	for (int i = 0; i < 2; i++) {
		if (t->left[i])
			slab_give_up(a, t->left[i] - 1, CLASSES);
		t->left[i] = 0;
	}
}

/* The daemon has asked for caches to shrink. */
static void heed_shrink(struct arena *a, struct thread_block *t)
{
	uint32_t asked =
		atomic_load_explicit(&client_record_at(a, a->client)->shrink, memory_order_relaxed);

	if (asked == t->shrink_seen)
		return;
	t->shrink_seen = asked;
	t->owned_high = 0;
	for (uint32_t i = 0; i < CLASSES; i++) {
		struct cache *c = &t->caches[i];

		if (!cache_limit(c))
			continue;
		put_oldest(a, t, i, cache_count(c));
		if (cache_limit(c) > first_limit(i))
			set_limit(t, i, first_limit(i));
	}
	give_up_left(a, t);
}

/*
 * A slab of one object gives one, however many are wanted. What was flushed together is drawn together as well,
 * or each of these objects takes a slow call; but only as long as there is memory for them: fresh memory is taken for
 * what is allocated, not for what may be.
 */
static uint32_t draw(struct arena *a, struct slab_source *from, uint32_t want, uint64_t *slots, int *err)
{
	bool single = sizeclass_table[from->class].objects == 1;
	uint64_t taken = atomic_load_explicit(&a->taken, memory_order_relaxed);
	uint32_t got = slab_claim(a, from, want, OBJECT_PRIVATE, slots, err);
	int none;

	while (single && got && got < want && atomic_load_explicit(&a->taken, memory_order_relaxed) == taken &&
	       slab_claim(a, from, 1, OBJECT_PRIVATE, slots + got, &none))
		got++;
	return got;
}

uint64_t cache_refill(struct arena *a, struct thread_block *t, uint32_t class, int *err)
{
	struct cache *c = &t->caches[class];
	uint64_t bytes = sizeclass_table[class].bytes;
	uint32_t want, got;
	struct slab_source from;

	heed_shrink(a, t);
	quota_settle(a, t);
	adapt(a, t, class);
	if (!cache_limit(c)) {
		*err = -ENOMEM;
		return 0;
	}
	want = cache_limit(c) / 2 ? cache_limit(c) / 2 : 1;
	want = quota_allows(a, bytes, want);
	if (!want) {
		cache_empty_all(a, t);
		want = quota_allows(a, bytes, 1);
	}
	if (!want) {
		*err = -EDQUOT;
		return 0;
	}
	from = source_of(t, class);
	got = draw(a, &from, want, cache_slot(a, c->slots), err);
	c->record_page = from.head;
	STOP_POINT(cache_claimed);
	if (!got)
		return 0;
	drawn_add(t, (int64_t)(got * bytes));
	cache_set_count(c, got - 1);
	profile_refilled(a, class, got);
	return cache_slot(a, c->slots)[got - 1];
}

int cache_flush(struct arena *a, struct thread_block *t, uint32_t class, uint64_t handle)
{
	struct cache *c = &t->caches[class];
	uint32_t top;

	heed_shrink(a, t);
	quota_settle(a, t);
	adapt(a, t, class);
	if (!cache_limit(c)) { /* no memory for an array */
		slab_put(a, &handle, 1, c->record_page);
		drawn_add(t, -(int64_t)sizeclass_table[class].bytes);
		return 0;
	}
	top = cache_count(c);
	if (top >= cache_limit(c))
		put_oldest(a, t, class, top - cache_limit(c) + (cache_limit(c) + 1) / 2);
	top = cache_count(c);
	cache_slot(a, c->slots)[top] = handle;
	STOP_POINT(cache_slot_written);
	cache_set_count(c, top + 1);
	return 0;
}

/* No slab is kept for later. */
static void give_up_slab(struct arena *a, struct thread_block *t, uint32_t class)
{
	uint32_t page = t->caches[class].record_page;

	t->caches[class].record_page = 0;
	if (page)
		slab_give_up(a, page - 1, class);
}

void cache_empty_all(struct arena *a, struct thread_block *t)
{
	for (uint32_t i = 0; i < CLASSES; i++) {
		if (cache_limit(&t->caches[i]))
			put_oldest(a, t, i, cache_count(&t->caches[i]));
		give_up_slab(a, t, i);
	}
	give_up_left(a, t);
}

void cache_release_all(struct arena *a, struct thread_block *t)
{
	cache_empty_all(a, t);
	for (uint32_t i = 0; i < CLASSES; i++) {
		struct cache *c = &t->caches[i];
		uint64_t old = c->slots;

		set_limit(t, i, 0);
		c->capacity = 0;
		c->slots = c->end = 0;
		cache_set_count(c, 0);
		if (old)
			array_free(a, t, old);
	}
}
