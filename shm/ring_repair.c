/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log ring of an arena that nobody uses: every block becomes complete or empty, and what is left in
 * it is what readers can read. A block is valid up to the last record that fits; a large record whose
 * extent is gone leaves a line that says so, in the very bytes of its reference.
 *
 * Crash: a block is shortened by one store of its committed word, and leaves each other state by one
 * store of its own word; done again, the same follows.
 */
#include "ring_repair.h"

#include <errno.h>

#include "ring_view.h"

#define LOST_TEXT "[record is lost]"
_Static_assert(sizeof(LOST_TEXT) - 1 == sizeof(struct ring_reference),
	       "in the place of a reference");

struct fixing {
	struct arena *a;
	struct ring_view v;
	ring_keep_fn keep;
	void *context;
	struct ring_repair_sum *sum;
	uint64_t tickets;
};

/* ---- the header ---- */

static int fix_header(struct fixing *x)
{
	struct ring_header *header = arena_at(x->a, x->a->g.ring);
	uint32_t shift, blocks;
	int err = arena_commit(x->a, x->a->g.ring, 2 * PAGE_SIZE);

	if (err)
		return err;
	if (!ring_shape(x->a, &shift, &blocks))
		return -EUCLEAN; /* an area of this size has never been made */
	if (header->magic != RING_MAGIC || header->block_shift != shift ||
	    header->blocks != blocks) {
		header->block_shift = shift;
		header->blocks = blocks;
		header->magic = RING_MAGIC;
		x->sum->header = true;
	}
	if (!ring_view(x->a, &x->v))
		return -EUCLEAN;
	err = arena_commit(x->a, x->a->g.ring, x->v.slots_at - x->a->g.ring);
	atomic_store(&header->consumer, 0);
	atomic_store(&header->shared, 0);
	atomic_store(&header->cursor, atomic_load(&header->cursor) % blocks);
	memset(x->v.bell, 0, sizeof(*x->v.bell));
	return err;
}

/* ---- large records ---- */

static bool keep_large(struct fixing *x, uint32_t block, uint32_t lap, uint32_t at, uint32_t slot)
{
	char *record = arena_at(x->a, ring_block_at(&x->v, block) + at);
	struct ring_reference ref;
	struct ring_extent where = { .block = block,
				     .lap = lap,
				     .position = at + (uint32_t)sizeof(struct ring_record),
				     .slot = slot };
	uint32_t info;

	memcpy(&info, record, sizeof(info));
	memcpy(&ref, record + sizeof(struct ring_record), sizeof(ref));
	if (x->keep(x->context, &ref, &where, ring_info_length(info)))
		return true;
	/* Crash: between the two a reference to nowhere, found again. */
	memcpy(record + sizeof(struct ring_record), LOST_TEXT, sizeof(ref));
	info = ring_info(sizeof(ref), ring_info_level(info), false);
	memcpy(record, &info, sizeof(info));
	x->sum->records_lost++;
	return false;
}

/* ---- blocks of one thread ---- */

static bool info_valid(uint32_t info)
{
	return !(info >> RING_INFO_BITS) && ring_info_length(info) <= RING_RECORD_MAX;
}

/* The records that fit, from the first on. */
static uint64_t own_due(struct fixing *x, uint32_t block, uint32_t lap, uint64_t committed,
			bool *large)
{
	uint32_t end = ring_committed_bytes(committed), at = 0, count = 0;
	struct ring_record record;

	if (end > ring_block_bytes(&x->v))
		end = ring_block_bytes(&x->v);
	while (end - at >= sizeof(record)) {
		ring_copy(&record, arena_at(x->a, ring_block_at(&x->v, block) + at),
			  sizeof(record));
		if (!info_valid(record.info) || ring_info_bytes(record.info) > end - at)
			break;
		if (record.info & RING_INFO_LARGE)
			*large |= keep_large(x, block, lap, at, 0);
		at += ring_info_bytes(record.info);
		count++;
	}
	return ring_committed(lap, false) | (uint64_t)count << RING_RECORDS_SHIFT | at;
}

static void fix_own(struct fixing *x, uint32_t block, uint32_t lap)
{
	struct ring_block *head = &x->v.heads[block];
	uint64_t committed = atomic_load_explicit(&head->committed, memory_order_relaxed);
	bool large = false;
	uint64_t due = own_due(x, block, lap, committed, &large);

	if (due != committed) {
		uint32_t had = ring_committed_records(committed), has = ring_committed_records(due);

		x->sum->blocks_cut++;
		x->sum->records_lost +=
			had > has && had - has < x->v.block_slots * 16 ? had - has : 1;
		atomic_store_explicit(&head->committed, due, memory_order_release);
	}
	atomic_store_explicit(&head->extents, large, memory_order_relaxed);
}

/* ---- shared blocks ---- */

/* Whether the record of a finished slot fits into it. */
static bool shared_fits(struct fixing *x, uint32_t block, uint32_t at, uint32_t units)
{
	struct ring_record record;

	if ((uint64_t)units * 16 < sizeof(struct ring_author) + sizeof(record))
		return false;
	ring_copy(&record, arena_at(x->a, ring_block_at(&x->v, block) + at), sizeof(record));
	return info_valid(record.info) &&
	       ring_info_bytes(record.info) <= units * 16 - sizeof(struct ring_author);
}

/* One slot; false: it and what follows it is not to be read. */
static bool fix_slot(struct fixing *x, uint32_t block, uint32_t lap, uint32_t i, uint64_t *units,
		     bool *large)
{
	_Atomic uint64_t *slot = &ring_block_slots(&x->v, block)[i];
	uint64_t word = atomic_load_explicit(slot, memory_order_relaxed);
	enum ring_slot_state state = ring_slot_state(word);
	uint32_t at = (uint32_t)*units * 16 + (uint32_t)sizeof(struct ring_author);
	struct ring_record record;

	if (*units * 16 + (uint64_t)ring_slot_units(word) * 16 > ring_block_bytes(&x->v)) {
		atomic_store_explicit(slot, ring_slot(RING_SLOT_CLOSED, 0, 0, lap),
				      memory_order_release);
		x->sum->records_lost++;
		x->sum->blocks_cut++;
		return false;
	}
	if (state == RING_SLOT_DONE || state == RING_SLOT_CONSUMED) {
		if (!shared_fits(x, block, at, ring_slot_units(word))) {
			atomic_store_explicit(slot, ring_slot_in(word, RING_SLOT_DEAD),
					      memory_order_release);
			x->sum->records_lost++;
			x->sum->blocks_cut++;
		} else {
			ring_copy(&record, arena_at(x->a, ring_block_at(&x->v, block) + at),
				  sizeof(record));
			if (record.info & RING_INFO_LARGE)
				*large |= keep_large(x, block, lap, at, i + 1);
		}
	} else if (state != RING_SLOT_DEAD && state != RING_SLOT_CLOSED) {
		/* Of a writer that died; or of no state. */
		x->sum->blocks_cut += state < RING_SLOT_CLAIMED || state > RING_SLOT_CLOSED;
		atomic_store_explicit(slot, ring_slot_in(word, RING_SLOT_DEAD),
				      memory_order_release);
	}
	*units += ring_slot_units(word);
	return true;
}

static void fix_shared(struct fixing *x, uint32_t block, uint32_t lap)
{
	struct ring_block *head = &x->v.heads[block];
	uint64_t units = 0;
	bool large = false;

	for (uint32_t i = 0; i < x->v.block_slots; i++) {
		uint64_t slot = atomic_load_explicit(&ring_block_slots(&x->v, block)[i],
						     memory_order_relaxed);

		if (!ring_slot_of(slot, lap) || !fix_slot(x, block, lap, i, &units, &large))
			break;
	}
	if (atomic_load_explicit(&head->committed, memory_order_relaxed) !=
	    ring_committed(lap, true))
		atomic_store_explicit(&head->committed, ring_committed(lap, true),
				      memory_order_release);
	atomic_store_explicit(&head->extents, large, memory_order_relaxed);
}

/* ---- any block ---- */

/* Nothing of it can be read; the count of its earlier laps stays what it says. */
static void empty(struct fixing *x, uint32_t block, uint64_t word)
{
	struct ring_block *head = &x->v.heads[block];
	uint32_t lap = ring_word_lap(word);

	atomic_store_explicit(&head->extents, 0, memory_order_relaxed);
	atomic_store_explicit(&head->committed, ring_committed(lap, false), memory_order_release);
	atomic_store_explicit(
		&x->v.words[block],
		lap ? ring_word_empty(&x->v, block, ring_word(RING_SEALED, false, 0, 0, lap)) : 0,
		memory_order_release);
}

static int commit_slots(struct fixing *x, uint32_t block)
{
	return arena_commit(x->a, x->v.slots_at + 8 * (uint64_t)x->v.block_slots * block,
			    8 * x->v.block_slots);
}

/* A reset that its client's death cut short: the lap before is counted. Its extents have nobody left. */
static int finish_reset(struct fixing *x, uint32_t block, uint64_t word)
{
	struct ring_block *head = &x->v.heads[block];
	uint64_t committed = atomic_load_explicit(&head->committed, memory_order_relaxed);
	int err = commit_slots(x, block);

	if (err)
		return err;
	atomic_store_explicit(&head->base[ring_word_lap(word) & 1],
			      ring_reset_base(&x->v, block, word, committed), memory_order_relaxed);
	empty(x, block, word);
	return 0;
}

static int fix_readable(struct fixing *x, uint32_t block, uint64_t word)
{
	struct ring_block *head = &x->v.heads[block];
	uint64_t committed = atomic_load_explicit(&head->committed, memory_order_relaxed);
	uint32_t lap = ring_word_lap(word);
	int err = arena_commit(x->a, ring_block_at(&x->v, block), ring_block_bytes(&x->v));

	if (!err)
		err = commit_slots(x, block);
	if (err)
		return err;
	atomic_store_explicit(&head->memory, 1, memory_order_relaxed);
	if (!lap || !ring_committed_of(committed, lap)) {
		x->sum->blocks_cut++;
		empty(x, block, word);
		return 0;
	}
	if (committed & RING_COMMITTED_SHARED)
		fix_shared(x, block, lap);
	else
		fix_own(x, block, lap);
	atomic_store_explicit(&x->v.words[block], ring_word_in(word, RING_SEALED),
			      memory_order_release);
	return 0;
}

static int fix_block(struct fixing *x, uint32_t block)
{
	struct ring_block *head = &x->v.heads[block];
	uint64_t word = atomic_load_explicit(&x->v.words[block], memory_order_relaxed);
	uint64_t ticket = atomic_load_explicit(&head->ticket, memory_order_relaxed);

	if (ticket > x->tickets && ticket < UINT64_MAX / 2)
		x->tickets = ticket;
	atomic_store_explicit(&head->busy, 0, memory_order_relaxed);
	atomic_store_explicit(&head->close, 0, memory_order_relaxed);
	if (ring_word_readable(word))
		return fix_readable(x, block, word);
	if (atomic_load_explicit(&head->memory, memory_order_relaxed) > 1)
		atomic_store_explicit(&head->memory, 0, memory_order_relaxed);
	if (ring_word_state(word) == RING_FREE) {
		/* Its memory may not be there: the next lease takes it. */
		atomic_store_explicit(&head->memory, 0, memory_order_relaxed);
		return 0;
	}
	x->sum->blocks_cut += ring_word_state(word) != RING_RESETTING;
	if (ring_word_state(word) == RING_RESETTING)
		return finish_reset(x, block, word);
	empty(x, block, word);
	return 0;
}

/* What the consumer is done with is no more than there is. */
static void fix_consumed(struct fixing *x, uint32_t block)
{
	struct ring_block *head = &x->v.heads[block];
	uint64_t word = atomic_load_explicit(&x->v.words[block], memory_order_relaxed);
	uint64_t all =
		atomic_load_explicit(&head->base[ring_word_lap(word) & 1], memory_order_relaxed);

	if (ring_word_readable(word))
		all += ring_block_records(&x->v, block, word);
	if (atomic_load_explicit(&head->consumed, memory_order_relaxed) > all)
		atomic_store_explicit(&head->consumed, all, memory_order_relaxed);
}

int ring_repair(struct arena *a, ring_keep_fn keep, void *context, struct ring_repair_sum *sum)
{
	struct fixing x = { .a = a, .keep = keep, .context = context, .sum = sum };
	int err = fix_header(&x);

	if (err)
		return err;
	for (uint32_t i = 0; !err && i < x.v.blocks; i++) {
		err = fix_block(&x, i);
		fix_consumed(&x, i);
	}
	/* Leases to come are younger than all that are there. */
	if (!err && (atomic_load(&x.v.header->tickets) < x.tickets ||
		     atomic_load(&x.v.header->tickets) > UINT64_MAX / 2))
		atomic_store(&x.v.header->tickets, x.tickets);
	return err;
}
