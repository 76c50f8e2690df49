/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dead client's objects in slabs, put back by its sole heir. Nobody else changes its private words, so
 * the heir reads and writes them with plain accesses, a row at a time; only offered ones may be taken away
 * by others, and are claimed for the dead one first.
 *
 * A slab of which the dead one has every object, or has them all but free ones, goes back as a whole: the heir
 * holds its record, as a claimer does, and then its words, its pages and the record are free. All others, and
 * those that somebody else holds, are freed object by object, and then, where empty, retired as by any client.
 *
 * Modelled in tests/model/: object.pml has free_word(), hint.pml has slab_recover() by free_words() and
 * take_over() with free_slab().
 */
#include <errno.h>

#include "client.h"
#include "extent.h"
#include "hint.h"
#include "pagemap.h"
#include "slab.h"
#include "slab_inside.h"
#include "stop_point.h"
#include "zone.h"

#define ROW 16u /* words that are looked at together */

/* ---- a whole slab ---- */

/* Plain, for the compiler to do several at once: what is decided on is what only we can change. Others look
 * at such words at any time, atomically, so that a checker of races would have something to say. */
#define PLAIN __attribute__((no_sanitize_thread))

PLAIN static bool row_is(const uint32_t *words, uint32_t pattern)
{
	uint32_t differ = 0;

	for (uint32_t i = 0; i < ROW; i++)
		differ |= words[i] ^ pattern;
	return !(differ & 0xffff);
}

PLAIN static void free_row(uint32_t *words)
{
	for (uint32_t i = 0; i < ROW; i++)
		words[i] = (words[i] | 0xffff) + 1;
}

/* Makes one object of a held slab nobody's but the dead client's, if it is its or free. An offered one
 * changes its generation, so that nobody takes it by a handle from before.
 * Crash: before, as it was; after, it returns with the client, whose region is marked. */
static bool claim_for_dead(_Atomic uint32_t *word, uint32_t client)
{
	uint32_t seen = atomic_load_explicit(word, memory_order_acquire), gen = state_gen(seen);

	if (state_owner(seen) != client)
		return state_kind(seen) == OBJECT_FREE;
	gen = (gen + 1) & 0xffff;
	return state_kind(seen) != OBJECT_SHARED ||
	       atomic_compare_exchange_strong_explicit(word, &seen,
						       state_make(OBJECT_INTERNAL, client, gen),
						       memory_order_acq_rel, memory_order_relaxed);
}

/* How many the dead client has; 0 also if somebody living has one. */
static uint32_t count_dead(const struct slab_record *r, uint32_t objects, uint32_t client)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < objects; i++) {
		uint32_t seen = atomic_load_explicit(&r->words[i], memory_order_acquire);

		if (state_owner(seen) == client)
			count++;
		else if (state_kind(seen) != OBJECT_FREE)
			return 0;
	}
	return count;
}

/* Whether all objects of a slab whose record we hold are the dead client's alone, or free. They are made so
 * where it has at least one, and nobody living has any. */
static bool take_over(struct slab_record *r, uint32_t objects, uint32_t client)
{
	uint32_t pattern = state_make(OBJECT_PRIVATE, client, 0), i = 0;

	while (i + ROW <= objects && row_is((const uint32_t *)&r->words[i], pattern))
		i += ROW;
	if ((i == 0 || i + ROW <= objects) && count_dead(r, objects, client) == 0)
		return false;
	for (; i < objects; i++) {
		if (!claim_for_dead(&r->words[i], client))
			return false;
		STOP_POINT(slab_taking_over);
	}
	return true;
}

static void gather(struct slab_heir *h, uint64_t head)
{
	if (h->count == SLAB_HEIR_EXTENTS ||
	    (h->count && zone_of_page(h->a, h->extents[0]) != zone_of_page(h->a, head)))
		slab_recover_end(h);
	h->extents[h->count++] = head;
}

/* A slab all of whose objects are the dead client's alone, or free, and whose record we hold. */
static void free_slab(struct slab_heir *h, struct slab_record *r, uint64_t head, uint32_t class)
{
	uint32_t objects = sizeclass_table[class].objects, i = 0;

	/* Crash: before, the dead client's objects; meanwhile some are free, in a slab whose record is busy
	 * with us: who recovers us opens it again, who comes last finds it empty. */
	STOP_POINT(slab_closed);
	for (; i + ROW <= objects; i += ROW)
		free_row((uint32_t *)&r->words[i]);
	for (; i < objects; i++) {
		uint32_t gen = state_gen(atomic_load_explicit(&r->words[i], memory_order_relaxed)) + 1;

		atomic_store_explicit(&r->words[i], state_make(OBJECT_FREE, 0, gen & 0xffff),
				      memory_order_relaxed);
	}
	STOP_POINT(slab_closed_freed);
	slab_unmake(h->a, r, head, class);
	/* Crash: from slab_unmake() on a raw extent of ours. */
	gather(h, head);
}

void slab_recover_end(struct slab_heir *h)
{
	STOP_POINT(slab_gathered);
	extent_free_all(h->a, h->extents, h->count);
	h->count = 0;
}

/* ---- object by object ---- */

/* Frees a dead client's object under a new generation. Nobody but its heir touches its private words;
 * a shared one may be taken by another at this moment. */
static void free_word(_Atomic uint32_t *word, uint32_t client)
{
	uint32_t seen = atomic_load_explicit(word, memory_order_acquire);

	while (state_owner(seen) == client) {
		uint32_t freed = state_make(OBJECT_FREE, 0, (state_gen(seen) + 1) & 0xffff);

		/* Crash: before, the dead client's; after, free, its bit set by who comes here next. */
		if (state_kind(seen) != OBJECT_SHARED) {
			atomic_store_explicit(word, freed, memory_order_release);
			return;
		}
		if (atomic_compare_exchange_weak_explicit(word, &seen, freed, memory_order_acq_rel,
							  memory_order_acquire))
			return;
	}
}

static void free_words(struct slab_heir *h, struct slab_record *r, uint64_t head, uint32_t class)
{
	uint32_t objects = sizeclass_table[class].objects;

	for (uint32_t i = 0; i < objects; i++) {
		free_word(&r->words[i], h->client);
		STOP_POINT(slab_recovering);
	}
	STOP_POINT(slab_recovered);
	/* PAIR(hint): freed, then the bits and the hint looked at. */
	atomic_thread_fence(memory_order_seq_cst);
	if (slab_refresh_bits(r, objects))
		hint_set(h->a, class, head);
}

/* ---- both ---- */

/* What is looked at next lies behind this slab, most often. */
static void prefetch_next(const struct arena *a, uint64_t page)
{
	const char *record;
	uint64_t w1;

	if (page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return;
	w1 = atomic_load_explicit(&a->pages[page].w1, memory_order_relaxed);
	if (!pw1_is_slab(w1) || !record_plausible(a, pw1_record(w1), SHAPES))
		return;
	record = (const char *)record_at(a, pw1_record(w1));
	for (uint32_t at = 0; at < shape_record_bytes(sizeclass_table[pw1_class(w1)].shape); at += 64)
		__builtin_prefetch(record + at, 1);
}

/* The record of a slab that the dead client held: between its head's entry and the end of make_slab(), drawing
 * from it, or giving it back, before the head's entry. We hold it at once, for others would come in between
 * opening and holding. False: it did not; or we have no memory for a mark. */
static bool inherit(struct arena *a, struct slab_record *r, uint64_t head, uint32_t client)
{
	uint32_t busy = record_busy(client);

	if (atomic_load_explicit(&r->owner, memory_order_relaxed) != busy || slab_mark(a, r, head))
		return false;
	/* Crash: before, the dead one's, who is recovered once more; after, ours, in regions we have marked.
	 * By exchange: it may be open again, of a region recovered before, and held by somebody else. */
	if (!atomic_compare_exchange_strong_explicit(&r->owner, &busy, record_busy(a->client),
						     memory_order_seq_cst, memory_order_relaxed))
		return false;
	STOP_POINT(slab_inherited);
	return true;
}

void slab_recover_held(struct arena *a, uint64_t block_page, uint32_t client)
{
	uint32_t shape = pw0_class(atomic_load_explicit(&a->pages[block_page].w0, memory_order_acquire));

	for (uint32_t i = 0; shape >= 1 && shape <= SHAPES && i < shape_block_records(shape); i++) {
		struct slab_record *r = record_at(a, record_offset(block_page, shape, i));
		uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
		uint32_t class = atomic_load_explicit(&r->class_index, memory_order_relaxed);

		if (class >= KINDS || head >= atomic_load_explicit(&a->pages_known, memory_order_relaxed) ||
		    slab_at(a, head, class) != r || !inherit(a, r, head, client))
			continue;
		slab_let_go(a, r);
	}
}

uint32_t slab_recover(struct slab_heir *h, uint64_t head)
{
	uint32_t class = pw0_class(atomic_load_explicit(&h->a->pages[head].w0, memory_order_acquire));
	struct slab_record *r = class < KINDS ? slab_at(h->a, head, class) : NULL;
	bool held;

	if (!r)
		return 1;
	prefetch_next(h->a, head + sizeclass_table[class].pages);
	held = inherit(h->a, r, head, h->client) || slab_hold(h->a, r, head, class);
	if (held && take_over(r, sizeclass_table[class].objects, h->client)) {
		free_slab(h, r, head, class);
		return sizeclass_table[class].pages;
	}
	free_words(h, r, head, class);
	if (held)
		slab_let_go(h->a, r);
	else if (slab_looks_empty(r, class))
		slab_retire(h->a, r);
	return sizeclass_table[class].pages;
}
