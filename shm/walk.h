/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk.h - a walk over the truth of an arena: every extent, slab and free run of every zone in use,
 * in address order, and the objects' state words of each slab.
 *
 * It trusts nothing: each word is read once, checked, and used from a local. On a live arena, which
 * changes underneath, and on a damaged one it ends, never faults and never leaves the arena; what
 * makes no sense is handed on with a problem, and the walk goes on one page further.
 *
 * Not touched: the page map above a zone's high mark and beyond the zones in use; state words
 * outside committed state blocks. What can be given back at any moment is not read through the
 * mapping at all, but copied out.
 */
#ifndef SHM_WALK_H
#define SHM_WALK_H

#include "arena.h"
#include "geometry.h"
#include "sizeclass.h"
#include "words.h"

/* What is wrong with an entry where the head of an extent is due. */
enum walk_problem {
	WALK_FINE = 0,
	WALK_KIND,   /* no such kind */
	WALK_LENGTH, /* 0, or beyond what it may cover */
	WALK_HEAD,   /* a slab's page that is not its first */
	WALK_CLASS,  /* no such class or shape */
	WALK_RECORD, /* a slab's record lies outside the heap */
	WALK_SPAN,   /* a piece that does not start its zone, or whose head is not before it */
	WALK_PROBLEMS
};

struct walk_item {
	uint64_t page;		 /* its first */
	uint64_t length;	 /* in pages, in all zones; of a free run or piece: in this one */
	uint64_t step;		 /* pages of it in this zone */
	uint64_t w0, w1;	 /* the entry, as read; 0 for a free run */
	enum page_kind kind;	 /* PAGE_FREE: a run of free pages, never taken ones included */
	enum walk_problem problem;
	enum object_kind object; /* PAGE_LARGE, PAGE_MAPPED */
	uint32_t client, generation;
	uint32_t class_index; /* kind of a slab; shape of a state block, use of a raw extent or a large object */
	uint64_t record;      /* PAGE_SLAB: heap offset of its record */
	uint64_t span_head;   /* PAGE_SPAN: first page of the extent */
};

/* Not 0: the walk ends and returns it. */
typedef int (*walk_fn)(void *context, const struct walk_item *item);

/* All of it. 0, or what the visitor returned. */
int walk_extents(const struct arena *a, walk_fn visit, void *context);
int walk_zone(const struct arena *a, uint64_t zone, walk_fn visit, void *context);

/* Zones in use, never more than there are; the high mark of one, never more than its pages. */
uint64_t walk_zones(const struct arena *a);
uint64_t walk_high(const struct arena *a, uint64_t zone);

/* Reads one page's entry as the head of an extent. False: the page lies in no zone in use. */
bool walk_read(const struct arena *a, uint64_t page, struct walk_item *ret);
/* Both words of a page in use, as they were together if they hold still; else as last seen. */
bool walk_words(const struct arena *a, uint64_t page, uint64_t *w0, uint64_t *w1);

/* Whether memory is taken for these pages, all of them. */
bool walk_committed(const struct arena *a, uint64_t page, uint64_t pages);
/* Of how many of them. */
uint64_t walk_resident(const struct arena *a, uint64_t page, uint64_t pages);
/* Copies out of the arena's file, or its heap, whatever becomes of those pages meanwhile; what was
 * never committed reads as zeros. False: not all of it is there. */
bool walk_copy(const struct arena *a, uint64_t file_offset, void *to, size_t length);
bool walk_copy_heap(const struct arena *a, uint64_t heap_offset, void *to, size_t length);

/* The block of thread number index, as its thread word names it: copied out. False: it has none
 * (yet). */
bool walk_thread(const struct arena *a, uint32_t index, uint64_t word, struct thread_block *ret);

/* ---- slab records and state words ---- */

/* A record that lies in a committed state block, at a place where one of its shape does. */
struct walk_record {
	struct slab_record *at;
	uint64_t offset; /* in the heap */
	uint64_t block;	 /* first page of its state block */
	uint32_t shape;
};

bool walk_record(const struct arena *a, uint64_t heap_offset, struct walk_record *ret);

struct walk_slab {
	struct walk_record record;
	uint64_t page;
	uint32_t class_index; /* its kind */
	uint32_t objects;
	uint32_t bytes; /* of one object */
};

/* The slab that an item says it is. False: its record is where none can be, or of another shape. */
bool walk_slab(const struct arena *a, const struct walk_item *item, struct walk_slab *ret);

static inline uint32_t walk_state(const struct walk_slab *slab, uint32_t object)
{
	return atomic_load_explicit(&slab->record.at->words[object], memory_order_relaxed);
}

static inline uint64_t walk_object_offset(const struct walk_slab *slab, uint32_t object)
{
	return (slab->page << PAGE_SHIFT) + (uint64_t)object * slab->bytes;
}

/* The state word of an object, slab's or large, from where it starts. */
struct walk_object {
	uint32_t state;
	uint64_t bytes; /* usable */
	uint64_t page;	/* head of its slab, or its own */
};

/* False: no object starts there. */
bool walk_object(const struct arena *a, uint64_t heap_offset, struct walk_object *ret);

#endif
