/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.h - a thread's arrays of ready-made handles, one a size class. Only the thread writes them, with
 * plain stores; a cached object's word says "private, this client", as a live one's does, so a death
 * needs nothing from here: whatever the arrays say, the client's objects return. Arrays are objects of
 * the arena themselves (OBJECT_INTERNAL), made at a class's first use and grown on misses.
 *
 * Bounds: on average a thread's caches hold at most 5 % of what it has drawn; or 25 % up to 512 KiB; or 128 KiB.
 */
#ifndef SHM_CACHE_H
#define SHM_CACHE_H

#include "arena.h"
#include "sizeclass.h"

#define CACHE_FIRST_BYTES 4096u /* what a class's cache holds at first, at least one object */
#define CACHE_LIMIT_MAX 1024u	/* handles of a class */
/* And so many bytes of it, or one part in so many of what is drawn, if that is more: where each class's objects grow
 * fewer by turns, every cache becomes as full as it may. Who draws little is bound by its share alone. */
#define CACHE_CLASS_MAX (UINT64_C(192) << 10)
#define CACHE_CLASS_PART 480
#define CACHE_CLASS_LITTLE (UINT64_C(2) << 20)
#define CACHE_SHARE_MIN (UINT64_C(128) << 10)
#define CACHE_LITTLE_MAX (UINT64_C(512) << 10)
#define CACHE_LITTLE_PART 4 /* 25 % of what is drawn, while that is little */
#define CACHE_SHARE_PART 20 /* 5 %: one part in so many */
/* Limits are what is counted, and a cache is half full on average. */
#define CACHE_LIMITS_PER_SHARE 2

/* Bytes of one object in the cache of this index. */
static inline uint64_t cache_object_bytes(uint32_t index)
{
	return index < CLASSES ? sizeclass_table[index].bytes : 0;
}

/*
 * A handle in a slot, by halves. Who frees by pointer knows the low half at once, and the high one, with the
 * generation, only when the state word has come; who allocates by pointer needs the low half alone. Written
 * and read apart, the slower half holds up nobody: it would be in the way from each free to the next
 * allocation and back, through the store buffer.
 */
struct __attribute__((may_alias)) cache_halves {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint32_t low, high;
#else
	uint32_t high, low;
#endif
};

/* A cache by its place among a thread's, in bytes. */
static inline __attribute__((always_inline)) struct cache *cache_at(struct thread_block *t, uint64_t place)
{
	return (struct cache *)((char *)t->caches + place);
}

/* The class whose cache it is. */
static inline uint32_t cache_class(const struct thread_block *t, const struct cache *c)
{
	return (uint32_t)(c - t->caches);
}

/* The same by the row of a kind of slabs (sizeclass_row()). */
static inline __attribute__((always_inline)) struct cache *cache_at_row(struct thread_block *t, uint64_t row)
{
	return cache_at(t, sizeclass_rows[row].cache);
}

/* Where a slot lies, by its heap offset. */
static inline uint64_t *cache_slot(const struct arena *a, uint64_t at)
{
	return (uint64_t *)(a->heap + at);
}

/* Handles in it; nonsense where others look while its array changes, which they see from the capacity. */
static inline uint32_t cache_count(const struct cache *c)
{
	uint64_t n = (atomic_load_explicit(&c->next, memory_order_relaxed) - c->slots) / sizeof(uint64_t);

	return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static inline void cache_set_count(struct cache *c, uint32_t count)
{
	atomic_store_explicit(&c->next, c->slots + count * sizeof(uint64_t), memory_order_relaxed);
}

/* Handles at which it flushes. */
static inline uint32_t cache_limit(const struct cache *c)
{
	return (uint32_t)((c->end - c->slots) / sizeof(uint64_t));
}

/* The cache is empty: draws half its limit from slabs, and gives one. SHMA_NULL with *err: -ENOMEM,
 * -EDQUOT. */
uint64_t cache_refill(struct arena *a, struct thread_block *t, uint32_t class, int *err);
/* The cache is at its limit: takes one more, after growing or putting half back to the slabs. 0, for its
 * callers' last instruction to be a jump here. */
int cache_flush(struct arena *a, struct thread_block *t, uint32_t class, uint64_t handle);
/* Puts an object, private to this client, into the cache. */
static inline void cache_push(struct arena *a, struct thread_block *t, uint32_t class, uint64_t handle)
{
	struct cache *c = &t->caches[class];
	uint64_t next = atomic_load_explicit(&c->next, memory_order_relaxed);

	if (__builtin_expect(next >= c->end, 0)) {
		cache_flush(a, t, class, handle);
		return;
	}
	*cache_slot(a, next) = handle;
	atomic_store_explicit(&c->next, next + sizeof(uint64_t), memory_order_relaxed);
}

/* The cached handle that came last, or SHMA_NULL. It may be stale: see object_cached_word(). */
static inline __attribute__((always_inline)) uint64_t cache_pop_from(struct arena *a, struct cache *c)
{
	uint64_t next = atomic_load_explicit(&c->next, memory_order_relaxed);

	if (__builtin_expect(next <= c->slots, 0))
		return 0;
	next -= sizeof(uint64_t);
	atomic_store_explicit(&c->next, next, memory_order_relaxed);
	return *cache_slot(a, next);
}

static inline uint64_t cache_pop(struct arena *a, struct thread_block *t, uint32_t class)
{
	return cache_pop_from(a, &t->caches[class]);
}

/* Puts everything back, arrays too: at the thread's end. */
void cache_release_all(struct arena *a, struct thread_block *t);
/* Puts all handles back, keeping the arrays: when memory or quota is short. */
void cache_empty_all(struct arena *a, struct thread_block *t);

#endif
