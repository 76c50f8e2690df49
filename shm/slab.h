/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slab.h - slabs of one size class each: runs of pages cut into objects, or one object each, whose states
 * lie in a record apart from them. Nobody owns a slab; who claims objects holds the record meanwhile, passed by and
 * not waited for by others; objects are put back by a store each. An empty slab's pages go back to the buddy.
 */
#ifndef SHM_SLAB_H
#define SHM_SLAB_H

#include <errno.h>

#include "arena.h"
#include "record.h"
#include "sizeclass.h"
#include "words.h"

/* What a thread asks with: where it drew from last, and where to make new slabs. */
struct slab_source {
	uint32_t class;
	uint32_t head;	/* page of the slab last drawn from + 1, or 0; updated */
	uint32_t *home; /* zone; updated */
	int64_t owned;	/* bytes that it has drawn, about */
	uint32_t drawer; /* the thread, as slab_record.drawer; 0: nobody in particular */
	uint32_t *crowd; /* thread_block.crowd; updated. Of a drawer only */
	uint32_t *left;	 /* thread_block.left; updated. NULL: none is left to others */
};

/*
 * Claims up to want objects of a class for this client, as the given kind; their handles, in out. How
 * many; 0 with *err (-ENOMEM). Makes a new slab only if no object can be found.
 * Crash: each object is free before its own store, and this client's after.
 */
uint32_t slab_claim(struct arena *a, struct slab_source *from, uint32_t want, enum object_kind kind,
		    uint64_t *out, int *err);

/*
 * Puts back objects that are private to this client, given by their handles; entries whose word says
 * otherwise are dropped. Slabs that become empty are given back, except the one at keep (head + 1).
 * Crash: each object is this client's before its own store, and free after.
 */
void slab_put(struct arena *a, const uint64_t *handles, uint32_t count, uint32_t keep);
/* The same by a thread, which keeps the slab that it draws from, and draws from these next. */
void slab_put_near(struct arena *a, const uint64_t *handles, uint32_t count, struct slab_source *from);

/* Gives the slab at a page back if it is of a class (CLASSES: of any), and empty: for one that slab_put() was told to
 * keep, or left. */
void slab_give_up(struct arena *a, uint64_t head, uint32_t class);

/* What an offset in the heap lies in, if that is a slab's object. */
struct slab_place {
	struct slab_record *record;
	uint64_t head; /* page */
	uint32_t kind; /* of slab */
	uint32_t class;
	uint32_t index;
	uint32_t offset; /* within the object */
};

/* 0; -ENOENT: not in a slab, or behind the first page of a single object; -EINVAL: in a slab, but behind its
 * last object. */
static inline int slab_find(const struct arena *a, uint64_t heap_offset, struct slab_place *place)
{
	uint64_t page = heap_offset >> PAGE_SHIFT, w1, at, delta;
	const struct sizeclass *c;

	if (page >= atomic_load_explicit(&a->pages_known, memory_order_acquire))
		return -ENOENT;
	/* One word says class, distance and record, so a slab that changes meanwhile cannot mix them. */
	w1 = atomic_load_explicit(&a->pages[page].w1, memory_order_acquire);
	if (!pw1_is_slab(w1) || pw1_class(w1) >= KINDS || pw1_dist(w1) > page)
		return -ENOENT;
	c = &sizeclass_table[pw1_class(w1)];
	at = pw1_record(w1);
	if (!record_plausible(a, at, c->shape))
		return -ENOENT;
	place->head = page - pw1_dist(w1);
	place->kind = pw1_class(w1);
	place->class = sizeclass_of_kind(place->kind);
	place->record = record_at(a, at);
	delta = heap_offset - (place->head << PAGE_SHIFT);
	place->index = sizeclass_index(place->kind, delta >> 4);
	if (place->index >= c->objects)
		return -EINVAL;
	place->offset = (uint32_t)(delta - (uint64_t)place->index * c->bytes);
	return 0;
}

/* ---- recovery (slab_reclaim.c) ---- */

#define SLAB_HEIR_EXTENTS 64u

/* Who puts back what a dead client had in slabs. The pages of slabs that become empty are gathered, raw
 * extents of this process's, and freed together. */
struct slab_heir {
	struct arena *a;
	uint32_t client; /* the dead one */
	uint32_t count;
	uint64_t extents[SLAB_HEIR_EXTENTS]; /* pages; of one zone */
};

/* Frees the dead client's objects in the slab with this head, sets its hints anew, and gives it back if it
 * is empty. The pages from here to where the next slab may begin. */
uint32_t slab_recover(struct slab_heir *h, uint64_t head);
/* Lets go of those slabs with records in a state block that the dead client held. Their own regions need not be
 * marked: who comes late may hold another slab's record than it meant to. */
void slab_recover_held(struct arena *a, uint64_t block_page, uint32_t client);
/* At the end: what was gathered is freed. */
void slab_recover_end(struct slab_heir *h);

/* ---- purging (slab_purge.c) ---- */

/* A slab whose record is the purger's meanwhile. */
struct slab_idle {
	uint64_t head;
	uint64_t pages;	 /* a bit a page, from the head on: nobody has an object there */
	uint64_t record; /* heap offset */
};

/* Holds a slab that has pages with memory and no object that is not free, if nothing has changed in it since
 * this was asked last. False: it has none, or is busy. */
bool slab_take_idle(struct arena *a, uint64_t head, uint32_t class, struct slab_idle *ret);
/* Lets it go. */
void slab_leave_idle(struct arena *a, const struct slab_idle *s);

/* Sets the hints of every slab of a kind that has a free object, from the truth; for a search that
 * found nothing. Whether there is any. */
bool slab_rescan(struct arena *a, uint32_t kind);

#endif
