/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object.h - what can be done with one object, given by its handle. Each operation is one store or
 * compare-and-swap of the object's state word: in its slab's record, or, for a large object, in the page
 * map. Results are those of the public calls of the same name.
 */
#ifndef SHM_OBJECT_H
#define SHM_OBJECT_H

#include "arena.h"
#include "cache.h"
#include "slab.h"
#include "stop_point.h"
#include "thread.h"
#include "words.h"

/* ---- fast paths: a private object of a small class, through this thread's cache ---- */

/*
 * The state word of the small object at a place (a page, and in it the lowest 8 bits of an offset in units
 * of 16 bytes), and its class; NULL: no small object starts there.
 */
static inline __attribute__((always_inline)) _Atomic uint32_t *
object_word_in(const struct arena *a, uint64_t page, uint64_t in_page, uint64_t *class)
{
	uint64_t w1, offset16;
	const struct sizeclass *c;
	uint32_t index;

	if (__builtin_expect(page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed), 0))
		return NULL;
	w1 = atomic_load_explicit(&a->pages[page].w1, memory_order_acquire);
	c = &sizeclass_rows[w1 >> PW1_CLASS_SHIFT];
	offset16 = pw1_dist(w1) << (PAGE_SHIFT - 4) | (in_page & 0xff);
	if (__builtin_expect(!sizeclass_start(c, offset16, &index), 0))
		return NULL;
	*class = w1 >> PW1_CLASS_SHIFT & ((1u << PW1_CLASS_BITS) - 1);
	return &((struct slab_record *)(a->heap + (w1 & a->record_mask)))->words[index];
}

/* The same by a handle. */
static inline __attribute__((always_inline)) _Atomic uint32_t *
object_small_word(const struct arena *a, uint64_t handle, uint64_t *class)
{
	/* Another arena's tag makes it larger than any page; the generation is shifted out. */
	return object_word_in(a, (handle ^ a->tag_bits) << 16 >> (16 + PAGE_SHIFT - 4), handle, class);
}

/* A small private object from the cache, or SHMA_NULL: go the long way, as objects above 4 KiB do. */
static inline uint64_t object_alloc_fast(struct arena *a, uint64_t size)
{
	struct thread_block *t = thread_peek(a);

	if (__builtin_expect(!t || size - 1 >= SIZECLASS_TABLE_BYTES, 0))
		return 0;
	return cache_pop(a, t, sizeclass_by_size[(size + 15) >> 4]);
}

/* The state word of an object that a cache has just given, if it is still as it came there; else NULL. Of an
 * object that two threads of this process freed at once one of two cached handles is stale, and the place
 * another's by now perhaps: that program's fault, but nobody else's objects may pay for it. */
static inline _Atomic uint32_t *object_cached_word(const struct arena *a, const struct thread_block *t,
						   uint64_t handle)
{
	uint64_t class;
	_Atomic uint32_t *word = object_small_word(a, handle, &class);

	if (__builtin_expect(!word || atomic_load_explicit(word, memory_order_relaxed) !=
					      (t->own | handle_gen(handle) << STATE_GEN_SHIFT),
			     0))
		return NULL;
	return word;
}

/* Offers an object that object_alloc_fast() has just given, and nobody else knows of, to takers. False: it
 * is none. */
static inline bool object_offer_fast(struct arena *a, uint64_t handle)
{
	_Atomic uint32_t *word = object_cached_word(a, thread_peek(a), handle);

	/* Crash: before, private and this client's; after, shared and this client's. */
	if (__builtin_expect(word != NULL, 1))
		atomic_store_explicit(word,
				      state_make(OBJECT_SHARED, a->client, handle_gen(handle)),
				      memory_order_release);
	return word != NULL;
}

/* A small object that only this client may free: private to it, or taken by it. */
struct object_mine {
	_Atomic uint32_t *word;
	uint64_t class;
	uint32_t state; /* private, this client's, of the handle's generation */
};

static inline __attribute__((always_inline)) bool
object_is_mine(const struct arena *a, const struct thread_block *t, uint64_t handle, struct object_mine *m)
{
	uint32_t seen;

	m->word = object_small_word(a, handle, &m->class);
	if (__builtin_expect(!m->word, 0))
		return false;
	m->state = t->own | handle_gen(handle) << STATE_GEN_SHIFT;
	seen = atomic_load_explicit(m->word, memory_order_relaxed);
	return seen == m->state || seen == m->state + (OBJECT_TAKEN - OBJECT_PRIVATE);
}

/* The same by the offset of its start, of whatever generation it is. */
static inline __attribute__((always_inline)) bool
object_is_mine_at(const struct arena *a, const struct thread_block *t, uint64_t offset, struct object_mine *m)
{
	uint32_t seen;

	m->word = object_word_in(a, offset >> PAGE_SHIFT, offset >> 4, &m->class);
	if (__builtin_expect(!m->word || offset & 15, 0))
		return false;
	seen = atomic_load_explicit(m->word, memory_order_relaxed);
	m->state = t->own | state_gen(seen) << STATE_GEN_SHIFT;
	return seen == m->state || seen == m->state + (OBJECT_TAKEN - OBJECT_PRIVATE);
}

/* Frees it into the cache; 0. The ways to give out, offer and free are modelled in tests/model/object.pml. */
static inline __attribute__((always_inline)) int
object_free_mine(struct arena *a, struct thread_block *t, uint64_t handle, const struct object_mine *m)
{
	struct cache *c = cache_at(t, m->class);
	uint32_t top = atomic_load_explicit(&c->top, memory_order_relaxed);

	/* Crash: before, live and this client's; after, under a new generation, cached and this
	 * client's, whether the array has it or not. Two threads that free one object at once step by
	 * different amounts: one of the two cached handles is stale, and dropped where it is met. */
	atomic_store_explicit(m->word, m->state + t->gen_step, memory_order_relaxed);
	/* PAIR(read): the new generation, then whatever comes to lie there. */
	atomic_thread_fence(memory_order_release);
	STOP_POINT(object_state_stored);
	handle += (uint64_t)t->gen_step << (HANDLE_GEN_SHIFT - STATE_GEN_SHIFT); /* on top in both */
	if (__builtin_expect(top >= c->limit, 0))
		return cache_flush(a, t, (uint32_t)m->class, handle);
	cache_slots(a, c)[top] = handle;
	atomic_store_explicit(&c->top, top + 1, memory_order_relaxed);
	return 0;
}

/* The same by offset: the handle goes into the cache by halves. */
static inline __attribute__((always_inline)) int
object_free_mine_at(struct arena *a, struct thread_block *t, uint64_t offset, const struct object_mine *m)
{
	struct cache *c = cache_at(t, m->class);
	uint32_t top = atomic_load_explicit(&c->top, memory_order_relaxed);
	uint32_t state = m->state + t->gen_step;
	struct cache_halves *slot;

	/* Crash: as above. PAIR(read): as above. */
	atomic_store_explicit(m->word, state, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	if (__builtin_expect(top >= c->limit, 0))
		return cache_flush(a, t, (uint32_t)m->class, handle_make(a->tag, state_gen(state), offset));
	slot = (struct cache_halves *)&cache_slots(a, c)[top];
	slot->low = (uint32_t)(offset >> 4);
	slot->high = (state & ~0u << STATE_GEN_SHIFT) | (uint32_t)(a->tag_bits >> 32) | (uint32_t)(offset >> 36);
	atomic_store_explicit(&c->top, top + 1, memory_order_relaxed);
	return 0;
}

/* A small private object from the cache, by pointer, and if h is not NULL its handle; NULL: go the long way. */
static inline __attribute__((always_inline)) void *
object_alloc_ptr_fast(struct arena *a, uint64_t size, uint64_t *h)
{
	struct thread_block *t = thread_peek(a);
	const struct cache_halves *slot;
	struct cache *c;
	uint32_t top;

	if (__builtin_expect(!t || a->wide || size - 1 >= SIZECLASS_TABLE_BYTES, 0))
		return NULL;
	c = cache_at(t, sizeclass_by_size[(size + 15) >> 4]);
	top = atomic_load_explicit(&c->top, memory_order_relaxed);
	if (__builtin_expect(top == 0, 0))
		return NULL;
	atomic_store_explicit(&c->top, top - 1, memory_order_relaxed);
	slot = (const struct cache_halves *)&cache_slots(a, c)[top - 1];
	if (h)
		*h = (uint64_t)slot->high << 32 | slot->low;
	return a->heap + ((uint64_t)slot->low << 4);
}

/* The handle of the live small object that starts at an offset; 0: go the long way. */
static inline uint64_t object_handle_fast(const struct arena *a, uint64_t offset)
{
	uint64_t handle = (uint64_t)a->tag << HANDLE_TAG_SHIFT | offset >> 4;
	uint64_t class;
	_Atomic uint32_t *word;

	if (__builtin_expect(offset >= a->g.capacity || offset & 15, 0))
		return 0;
	word = object_small_word(a, handle, &class);
	if (__builtin_expect(!word, 0))
		return 0;
	return handle | (uint64_t)state_gen(atomic_load_explicit(word, memory_order_relaxed))
				<< HANDLE_GEN_SHIFT;
}

/* Where a live small object lies; NULL: go the long way. */
static inline void *object_ptr_fast(const struct arena *a, uint64_t handle)
{
	uint64_t class;
	_Atomic uint32_t *word = object_small_word(a, handle, &class);
	uint32_t seen;

	if (__builtin_expect(!word, 0))
		return NULL;
	seen = atomic_load_explicit(word, memory_order_relaxed);
	/* A free object bears a generation that no handle was given out with yet. */
	if (__builtin_expect(state_gen(seen) != handle_gen(handle), 0))
		return NULL;
	return a->heap + handle_offset(handle);
}

/* ---- the long ways ---- */

struct object_want {
	uint64_t size;
	uint64_t align; /* bytes, a power of two; 0: 16 */
	bool zero;
	bool large;		/* whole pages */
	enum object_kind kind; /* private, shared or persistent */
};

uint64_t object_alloc(struct arena *a, const struct object_want *want, int *err);
int object_free(struct arena *a, uint64_t handle);
int object_share(struct arena *a, uint64_t handle);
int object_take(struct arena *a, uint64_t handle);
uint64_t object_resize(struct arena *a, uint64_t handle, uint64_t size, int *err);
void *object_ptr(struct arena *a, uint64_t handle, int *err);
uint64_t object_size(struct arena *a, uint64_t handle, int *err);
int64_t object_read(struct arena *a, uint64_t handle, uint64_t offset, void *to, uint64_t len);
/* From the pointer to an object's start; 0: there is none. */
uint64_t object_handle_of(struct arena *a, const void *start);

/* ---- for names and persistence ---- */

/* This client's private, taken or shared object, or a persistent one, becomes published. */
int object_publish_word(struct arena *a, uint64_t handle);
/* A published object becomes private to this client. */
int object_unpublish_word(struct arena *a, uint64_t handle);
/* This client's object becomes persistent, with this client's number still in its word; 0 if it is
 * persistent already. -EPERM, -EBUSY (published), -ESTALE. */
int object_persist_word(struct arena *a, uint64_t handle);
/* Takes the client's number, which object_persist_word() left, out of the object's word: nothing is owed
 * for it any more. */
void object_persist_settle(struct arena *a, uint64_t handle);
/* OBJECT_FREE when the handle is stale. */
enum object_kind object_kind_of(struct arena *a, uint64_t handle, uint32_t *client);
/* The live object that holds a heap offset; 0: none does. */
uint64_t object_containing(struct arena *a, uint64_t heap_offset);

#endif
