/* SPDX-License-Identifier: Apache-2.0 */
/* slab_inside.h - what slab.c, slab_reclaim.c, slab_whole.c and slab_purge.c have for one another. */
#ifndef SHM_SLAB_INSIDE_H
#define SHM_SLAB_INSIDE_H

#include "client.h"
#include "commit.h"
#include "record.h"
#include "slab.h"

/* The record of the slab whose head this page is, if it is one of this class; else NULL. */
struct slab_record *slab_at(struct arena *a, uint64_t page, uint32_t class);

/* Whether a record is that slab's. */
static inline bool slab_names(const struct slab_record *r, uint64_t head, uint32_t class)
{
	return atomic_load_explicit(&r->head, memory_order_relaxed) == head &&
	       atomic_load_explicit(&r->class_index, memory_order_relaxed) == class;
}

/* Whether anything of a slab is free, as its bits say. */
static inline bool slab_any_bits(const struct slab_record *r)
{
	uint64_t bits = 0;

	for (uint32_t w = 0; w < 4; w++)
		bits |= atomic_load_explicit(&r->bitmap[w], memory_order_seq_cst);
	return bits != 0;
}

/* Whether objects first to end - 1 are nobody's, by their words. Of a slab whose record we hold it stays so. */
static inline bool slab_all_free(const struct slab_record *r, uint32_t first, uint32_t end)
{
	uint32_t kinds = 0;

	_Static_assert(OBJECT_FREE == 0, "no bit of a free object's kind is set");
	/* PAIR(put): whoever freed it is done with it. */
	for (; first < end; first++)
		kinds |= atomic_load_explicit(&r->words[first], memory_order_acquire);
	return state_kind(kinds) == OBJECT_FREE;
}

/* Changes the use of a raw extent: its length is the class's from here on, whatever word 1 says. */
static inline void slab_set_raw_use(struct arena *a, uint64_t page, uint32_t use)
{
	_Atomic uint64_t *w0 = &a->pages[page].w0;
	uint32_t gen = pw0_gen(atomic_load_explicit(w0, memory_order_relaxed));

	atomic_store_explicit(w0, pw0_make(PAGE_RAW, a->client, gen, use), memory_order_release);
}

/* Before giving a slab back: our marks for its pages and its record, which will be ours on the way. */
static inline int slab_mark(struct arena *a, const struct slab_record *r, uint64_t head)
{
	uint64_t page = (uint64_t)((const char *)r - a->heap) >> PAGE_SHIFT;

	return client_mark_page(a, head) || client_mark_page(a, page) ? -ENOMEM : 0;
}

/* Whether the bitmap says that all objects of a slab are free. */
bool slab_looks_empty(const struct slab_record *r, uint32_t class);
/* Sets the bits of all free objects; whether there are any. */
bool slab_refresh_bits(struct slab_record *r, uint32_t objects);

/*
 * A slab's record, if it is open, for us alone: nobody else claims a free object of it, nor gives it back,
 * until we let go. Its objects' owners put them back as ever. False: it is busy, or another slab's.
 */
bool slab_hold(struct arena *a, struct slab_record *r, uint64_t head, uint32_t class);
void slab_let_go(struct arena *a, struct slab_record *r);

/* A bit for each page of a slab of several objects whose memory may have been given back. */
static inline uint64_t slab_holes(struct arena *a, uint64_t head, uint32_t class)
{
	if (sizeclass_table[class].objects == 1)
		return 0;
	return commit_purged(a, head) & UINT64_MAX >> (64 - sizeclass_table[class].pages);
}

/*
 * Takes memory for the pages of objects that the caller is about to claim in a slab with holes, whose record it
 * holds; given as bits of a word of the bitmap. Those that have their memory. *full: there is none, and who
 * finds that so asks no more. (slab_purge.c)
 */
uint64_t slab_back(struct arena *a, uint64_t head, uint32_t class, uint32_t word, uint64_t bits, bool *full);

/* Returns the pages of a record's slab, if it is empty and not busy. */
void slab_retire(struct arena *a, struct slab_record *r);
/* Of a slab all of whose objects are free, or nobody's but ours, and whose record we hold: its pages become
 * a raw extent of ours, its record is free. */
void slab_unmake(struct arena *a, struct slab_record *r, uint64_t head, uint32_t class);

/* What others draw from, met in one search. */
struct slab_passed {
	uint32_t slabs;
	uint32_t kind, objects; /* free ones, of the slab with most of them */
	uint64_t head;
	uint64_t bytes, most; /* free: of all of them, and what a thread passes by at most */
};

#define SLAB_PASS_MOST 32u

static inline bool slab_passed_enough(const struct slab_passed *p)
{
	return p->slabs >= SLAB_PASS_MOST || p->bytes > p->most;
}

/* slab_passed.most, for a thread. (slab_drawer.c) */
uint64_t slab_pass_most(const struct slab_source *from);
/* A slab is passed by. */
void slab_pass(struct slab_passed *p, const struct slab_record *r, uint64_t head, uint32_t kind);

/* Whether another thread that lives draws from a slab, and has left less than three quarters of it free.
 * (slab_drawer.c) */
bool slab_is_others(const struct arena *a, const struct slab_record *r, uint32_t kind, uint32_t drawer);
/* A thread has drawn from a slab, or made it: its list is this slab. */
void slab_draw_here(struct slab_record *r, uint64_t head, struct slab_source *from);
/* The slab at the head of a thread's list, if it is one to draw from; else the list is empty from here on. */
struct slab_record *slab_drawn(struct arena *a, struct slab_source *from, uint32_t *kind);
/* Goes on to the next of the list. */
void slab_draw_next(struct slab_record *r, struct slab_source *from);
/* Of a slab with free objects: its drawer will come to it. */
void slab_draw_soon(struct arena *a, struct slab_record *r, uint64_t head, struct slab_source *from);

/* Whether an empty slab is left to another thread, who draws from it. */
bool slab_leave(struct arena *a, struct slab_record *r, uint64_t head, uint32_t kind, struct slab_source *from);

/* Of an object private to this client that is all of its slab: gives the slab back. False: it is not all, put
 * it back by itself. (slab_whole.c) */
bool slab_put_whole(struct arena *a, struct slab_record *r, uint64_t head, uint32_t kind, uint64_t handle);

#endif
