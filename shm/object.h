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

/* ---- fast paths: a private object of some class, through this thread's cache ---- */

/* Where a small object is told of: its page's entry, what word 1 said there, its state word. */
struct object_place {
	const struct page_entry *entry;
	uint64_t w1;
	_Atomic uint32_t *word;
};

static inline uint64_t object_place_row(const struct object_place *at)
{
	return at->w1 >> PW1_CLASS_SHIFT;
}

/* By an entry that is committed, and in its page the lowest 8 bits of an offset in units of 16 bytes: the state
 * words of the slab, and which object of it starts there. False: no small object does. */
static inline __attribute__((always_inline)) bool object_look_up(const struct arena *a,
								 const struct page_entry *entry, uint64_t in_page,
								 uint64_t *w1, _Atomic uint32_t **words,
								 uint64_t *index)
{
	*w1 = atomic_load_explicit(&entry->w1, memory_order_acquire);
	if (__builtin_expect(!sizeclass_begins8((*w1 << 9 & 0x7e00) + (in_page & 0xff) * 2,
						a->tables.reciprocals[*w1 >> PW1_CLASS_SHIFT], index),
			     0))
		return false;
	/* Where the words begin is known before the index is: the compiler may not add them in another order. */
	*words = (_Atomic uint32_t *)(a->words + (*w1 & a->record_mask));
	__asm__("" : "+r"(*words));
	return true;
}

/* By a page whose entry is committed. */
static inline __attribute__((always_inline)) bool object_place_in(const struct arena *a, uint64_t page,
								  uint64_t in_page, struct object_place *at)
{
	_Atomic uint32_t *words = NULL;
	uint64_t index = 0;

	at->entry = &a->pages[page];
	if (__builtin_expect(!object_look_up(a, at->entry, in_page, &at->w1, &words, &index), 0))
		return false;
	at->word = &words[index];
	return true;
}

/* The same by a handle. */
static inline __attribute__((always_inline)) bool object_place_of(const struct arena *a, uint64_t handle,
								  struct object_place *at)
{
	/* Another arena's tag makes it larger than any page; the generation is shifted out. */
	uint64_t page = (handle ^ a->tag_bits) << 16 >> (16 + PAGE_SHIFT - 4);

	if (__builtin_expect(page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed), 0))
		return false;
	return object_place_in(a, page, handle, at);
}

/* An address's offset in the heap, in units of 16 bytes. What is no multiple of 16 goes on top, beyond all
 * pages. */
static inline uint64_t object_offset16(const struct arena *a, const void *start)
{
	uint64_t offset = (uint64_t)((const char *)start - a->heap);

	return offset >> 4 | offset << 60;
}

static inline void *object_start16(const struct arena *a, uint64_t offset16)
{
	return a->heap + (offset16 << 4 | offset16 >> 60);
}

/* What shma_handle_of() has found is mostly freed next: so a thread remembers where that is told of. As long as
 * the page's word 1 is the same, so is the place of the state word, which is looked at as ever. */
static inline __attribute__((always_inline)) void object_remember(struct thread_cell *cell, uint64_t handle,
								  const struct object_place *at)
{
	cell->handle = handle;
	cell->entry = at->entry;
	cell->w1 = at->w1;
	cell->word = at->word;
}

static inline __attribute__((always_inline)) bool object_recall(const struct thread_cell *cell,
								struct object_place *at)
{
	uint64_t w1 = cell->w1;

	at->word = cell->word;
	at->w1 = w1;
	/* What is remembered is used, though the entry says the same: it is known sooner. The compiler must not
	 * see that it is the same. */
	__asm__("" : "+r"(at->w1));
	return atomic_load_explicit(&cell->entry->w1, memory_order_acquire) == w1;
}

/* A small private object from the cache, or SHMA_NULL: go the long way, as objects above so many steps of 16 bytes do. */
static inline __attribute__((always_inline)) uint64_t object_alloc_upto(struct arena *a, uint64_t size, uint64_t most)
{
	struct thread_cell *cell = thread_cell(a);
	uint64_t steps = (size + 15) >> 4, handle;

	/* A size of 0 leads to a cache that is always empty. */
	if (__builtin_expect(!cell->block || steps > most, 0))
		return 0;
	handle = cache_pop_from(a, cache_at(cell->block, a->tables.caches_by_size[steps]));
	cell->given = handle;
	return handle;
}

/* To 64 KiB; nothing where allocations are watched. */
static inline __attribute__((always_inline)) uint64_t object_alloc_fast(struct arena *a, uint64_t size)
{
	return object_alloc_upto(a, size, atomic_load_explicit(&a->alloc_steps, memory_order_relaxed));
}

/* The same of a size above SIZECLASS_TABLE_BYTES: not in the way of the small ones. */
static inline uint64_t object_alloc_fast_large(struct arena *a, uint64_t size)
{
	struct thread_block *t = thread_fast(a);

	if (!t || size <= SIZECLASS_TABLE_BYTES || size > SIZECLASS_MAX_BYTES)
		return 0;
	/* Where no class serves, CLASSES is the cache that is always empty. */
	return cache_pop(a, t, sizeclass_of_large(size));
}

/* The state word of an object that a cache has just given, if it is still as it came there; else NULL. Of an
 * object that two threads of this process freed at once one of two cached handles is stale, and the place
 * another's by now perhaps: that program's fault, but nobody else's objects may pay for it. */
static inline _Atomic uint32_t *object_cached_word(const struct arena *a, const struct thread_block *t,
						   uint64_t handle)
{
	struct object_place at;

	if (__builtin_expect(!object_place_of(a, handle, &at) ||
				     atomic_load_explicit(at.word, memory_order_relaxed) !=
					     (t->own | handle_gen(handle) << STATE_GEN_SHIFT),
			     0))
		return NULL;
	return at.word;
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

/* What only its client may free: one bit apart, so that one comparison asks for both. */
_Static_assert(OBJECT_TAKEN == (OBJECT_PRIVATE | 1) && OBJECT_TAKEN != OBJECT_PRIVATE, "one bit apart");

/*
 * Frees a small object that is only this client's, by its handle, into the cache; *ret is the
 * call's result. False: it is none, go the long way, from *at if at->word is not NULL: a small object has its
 * place there. The ways to give out, offer and free are modelled in tests/model/object.pml.
 */
static inline __attribute__((always_inline)) bool object_free_fast(struct arena *a, uint64_t handle, int *ret,
								   struct object_place *at)
{
	const struct thread_cell *cell = thread_cell(a);
	struct thread_block *t = cell->block;
	struct cache *c;
	uint64_t next;
	uint32_t state;

	if (__builtin_expect(!t, 0) || (!(cell->handle == handle && object_recall(cell, at)) &&
					__builtin_expect(!object_place_of(a, handle, at), 0))) {
		at->word = NULL;
		return false;
	}
	state = t->own |
		(uint32_t)(handle >> (HANDLE_GEN_SHIFT - STATE_GEN_SHIFT) & ~0u << STATE_GEN_SHIFT);
	if (__builtin_expect((atomic_load_explicit(at->word, memory_order_relaxed) ^ state) > 1, 0))
		return false;
	c = cache_at(t, a->tables.caches[object_place_row(at)]);
	next = atomic_load_explicit(&c->next, memory_order_relaxed);
	/* Crash: before, live and this client's; after, under a new generation, cached and this
	 * client's, whether the array has it or not. Two threads that free one object at once step by
	 * different amounts: one of the two cached handles is stale, and dropped where it is met. */
	atomic_store_explicit(at->word, state + t->gen_step, memory_order_relaxed);
	/* PAIR(read): the new generation, then whatever comes to lie there. */
	atomic_thread_fence(memory_order_release);
	STOP_POINT(object_state_stored);
	handle += t->handle_step; /* the generation is on top in both */
	if (__builtin_expect(next >= c->end, 0)) {
		*ret = cache_flush(a, t, sizeclass_of_row(object_place_row(at)), handle);
		return true;
	}
	__builtin_prefetch(a->heap + handle_offset(handle), 0, 2); /* as shma_free_ptr() does */
	*cache_slot(a, next) = handle;
	atomic_store_explicit(&c->next, next + sizeof(uint64_t), memory_order_relaxed);
	*ret = 0;
	return true;
}

/* By pointer into the cache, under this state's generation, its handle by halves. */
static inline __attribute__((always_inline)) int object_put_at(struct arena *a, struct thread_block *t,
							       struct cache *c, uint64_t offset16,
							       uint32_t state)
{
	uint64_t next = atomic_load_explicit(&c->next, memory_order_relaxed);
	struct cache_halves *slot;

	if (__builtin_expect(next >= c->end, 0))
		return cache_flush(a, t, cache_class(t, c),
				   handle_make(a->tag, state_gen(state), offset16 << 4));
	slot = (struct cache_halves *)cache_slot(a, next);
	slot->low = (uint32_t)offset16;
	slot->high = state + a->slot_from_state;
	atomic_store_explicit(&c->next, next + sizeof(uint64_t), memory_order_relaxed);
	return 0;
}

/*
 * Frees what object_free_fast() does, but what was taken, by where it starts below 64 GiB, of whatever generation it is.
 * False, with the word's place, or NULL where no small object starts: go the long way. What a free takes is steps that
 * wait for one another, from the address to the state word: so the entry's place comes of the address itself.
 */
static inline __attribute__((always_inline)) bool object_free_at_fast(struct arena *a, const void *start,
								      uint64_t offset16, int *ret,
								      struct object_place *at)
{
	struct thread_block *t = thread_fast(a);
	const struct page_entry *entry =
		(const struct page_entry *)(a->entries + ((uintptr_t)start >> PAGE_SHIFT) * sizeof(struct page_entry));
	_Atomic uint32_t *words;
	uint64_t index, cache;
	uint32_t state;

	at->word = NULL;
	/* Whose object is live, its page's entry is committed: there is no asking how far they are. */
	if (__builtin_expect(!t || offset16 >= a->ptr_end, 0) ||
	    __builtin_expect(!object_look_up(a, entry, offset16, &at->w1, &words, &index), 0))
		return false;
	cache = a->tables.caches[object_place_row(at)];
	__asm__("" : "+r"(cache)); /* now: later it would take a register more */
	state = atomic_load_explicit(&words[index], memory_order_relaxed);
	/* The word's address is computed at each use: once for all, it would be in the way of the load. */
	__asm__("" : "+r"(words), "+r"(index));
	if (__builtin_expect((uint16_t)state != (uint16_t)t->own, 0)) {
		at->word = &words[index];
		return false;
	}
	state += t->gen_step;
	/* Crash: as above. PAIR(read): as above. */
	atomic_store_explicit(&words[index], state, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	*ret = object_put_at(a, t, cache_at(t, cache), offset16, state);
	return true;
}

/* A small private object from the cache, by pointer, and if h is not NULL its handle. False: go the long
 * way. */
static inline __attribute__((always_inline)) bool
object_alloc_ptr_fast(struct arena *a, uint64_t size, uint64_t *h, void **ret)
{
	struct thread_block *t = thread_fast(a);
	uint64_t steps = (size + 15) >> 4;
	const struct cache_halves *slot;
	struct cache *c;
	uint64_t next;

	if (__builtin_expect(!t || steps > atomic_load_explicit(&a->ptr_steps, memory_order_relaxed), 0))
		return false;
	c = cache_at(t, a->tables.caches_by_size[steps]);
	next = atomic_load_explicit(&c->next, memory_order_relaxed);
	if (__builtin_expect(next <= c->slots, 0))
		return false;
	next -= sizeof(uint64_t);
	atomic_store_explicit(&c->next, next, memory_order_relaxed);
	slot = (const struct cache_halves *)cache_slot(a, next);
	/* Who holds pointers asks for none: a jump less is taken. */
	if (__builtin_expect(h != NULL, 0))
		*h = (uint64_t)slot->high << 32 | slot->low;
	*ret = a->heap + ((uint64_t)slot->low << 4);
	return true;
}

/* The handle of the live small object that starts at an offset in units of 16 bytes and has this state word. */
static inline uint64_t object_handle_at(const struct arena *a, uint64_t offset16, const _Atomic uint32_t *word)
{
	return offset16 | a->tag_bits |
	       (uint64_t)state_gen(atomic_load_explicit(word, memory_order_relaxed)) << HANDLE_GEN_SHIFT;
}

/* The handle of the live small object that starts somewhere; 0: go the long way. */
static inline __attribute__((always_inline)) uint64_t object_handle_fast(const struct arena *a, const char *start)
{
	struct thread_cell *cell = thread_cell(a);
	uint64_t offset16 = object_offset16(a, start), page = offset16 >> (PAGE_SHIFT - 4), handle, given;
	struct object_place at;

	if (__builtin_expect(!cell->block ||
				     page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed),
			     0))
		return 0;
	if (__builtin_expect(!object_place_in(a, page, offset16, &at), 0))
		return 0;
	handle = object_handle_at(a, offset16, at.word);
	object_remember(cell, handle, &at);
	if (__builtin_expect(cell->given != handle, 0))
		return handle;
	/* The same by value, but known at once: who uses it does not wait for the state word, which a free has
	 * just stored. The compiler must neither see that it is the same nor do without the branch. */
	given = cell->given;
	__asm__ volatile("" : "+r"(given));
	return given;
}

/* Where a live small object lies. False: go the long way. */
static inline __attribute__((always_inline)) bool object_ptr_fast(const struct arena *a, uint64_t handle,
								  void **ret)
{
	struct object_place at;

	if (__builtin_expect(!object_place_of(a, handle, &at), 0))
		return false;
	/* A free object bears a generation that no handle was given out with yet. */
	if (__builtin_expect(state_gen(atomic_load_explicit(at.word, memory_order_relaxed)) !=
				     handle_gen(handle),
			     0))
		return false;
	*ret = a->user + handle_offset(handle);
	return true;
}

/* ---- the long ways ---- */

struct object_want {
	uint64_t size;
	uint64_t align; /* bytes, a power of two; 0: 16 */
	bool zero;
	bool large;		/* whole pages */
	bool watched;		/* one of those of a sampled arena, see debug.h */
	bool packed;		/* likewise, to hold what is packed */
	enum object_kind kind; /* private, shared or persistent */
	/* Not NULL: it stands for this file, and holds that and its path; size is a page. */
	const struct mapped_file *file;
	const char *path;
};

uint64_t object_alloc(struct arena *a, const struct object_want *want, int *err);
/* The same of an object that is not watched, and without a second try. */
uint64_t object_alloc_plain(struct arena *a, struct thread_block *t, const struct object_want *want, int *err);
int object_free(struct arena *a, uint64_t handle);
/* The same by a thread that may be another one, and is in no call. */
int object_free_by(struct arena *a, struct thread_block *t, uint64_t handle);
int object_share(struct arena *a, uint64_t handle);
int object_take(struct arena *a, uint64_t handle);
uint64_t object_resize(struct arena *a, uint64_t handle, uint64_t size, int *err);
/* These three: -ENODATA: it is packed, see replace.h; -EREMOTE: it stands for a file, and its bytes do not lie in the
 * arena, see mapped.h. */
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
/* This client's object becomes persistent; 0 if it is persistent already. -EPERM, -EBUSY (published), -ESTALE. */
int object_persist_word(struct arena *a, uint64_t handle);
/* The two steps of freeing, for who puts another in its place. From this state, a live object becomes ours, free and in no
 * cache, under another generation, that which follows at a free by this thread: -EAGAIN, it has changed; -EPERM; -EBUSY;
 * -ENOMEM. Then it is put where free ones are; state: what it was. */
struct object;
uint32_t object_next_gen(const struct thread_block *t, uint32_t gen);
int object_claim(struct arena *a, const struct object *o, uint32_t state, uint32_t gen);
/* The same; a small one becomes of this kind, private or internal. */
int object_claim_as(struct arena *a, const struct object *o, uint32_t state, uint32_t gen, enum object_kind kind);
void object_put_claimed(struct arena *a, struct thread_block *t, uint64_t handle, const struct object *o, uint32_t state);
/* OBJECT_FREE when the handle is stale. */
enum object_kind object_kind_of(struct arena *a, uint64_t handle, uint32_t *client);
/* The live object that holds a heap offset; 0: none does, or it is packed. */
uint64_t object_containing(struct arena *a, uint64_t heap_offset);

#endif
