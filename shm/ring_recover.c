/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After a death: what it left in the ring is finished or given up, by steps that may themselves be cut
 * short and done again. And the check whether a ring makes sense.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "client.h"
#include "ring_view.h"
#include "stop_point.h"
#include "words.h"

/* ---- recovery: of blocks, modelled in tests/model/ring_block.pml ---- */

/*
 * A block that a dead client was resetting: counted, and empty. By this process, which becomes the
 * resetter of its extents.
 * Crash: still resetting, in the dead client's name, until the last store.
 */
static int finish_reset(struct arena *a, const struct ring_view *v, uint32_t block, uint64_t word)
{
	struct ring_block *head = &v->heads[block];
	int r = ring_large_prepare(a, v, block, ring_word_lap(word) - 1);

	if (r)
		return r;
	ring_reset(a, v, block, word);
	STOP_POINT(ring_reset_recovered);
	atomic_store_explicit(&head->committed, ring_committed(ring_word_lap(word), false),
			      memory_order_release);
	atomic_store_explicit(&v->words[block], ring_word_empty(v, block, word), memory_order_release);
	/* Readers that saw it resetting look again by themselves. */
	return 0;
}

static int recover_block(struct arena *a, const struct ring_view *v, uint32_t block, uint64_t word)
{
	switch (ring_word_state(word)) {
	case RING_OPEN:
		/* A record that was being written is not committed, and never will be. */
		atomic_store_explicit(&v->heads[block].busy, 0, memory_order_relaxed);
		ring_seal(v, block, word);
		return 0;
	case RING_DRAINING:
		atomic_compare_exchange_strong(&v->words[block], &word, ring_word_in(word, RING_SEALED));
		return 0;
	case RING_RESETTING:
		return finish_reset(a, v, block, word);
	default:
		return 0;
	}
}

int ring_recover_thread(struct arena *a, uint32_t thread_index, const struct thread_block *tb)
{
	struct ring_view v;
	int result = 0;

	(void)tb; /* what it says is in the block words, which are the truth */
	if (!ring_view(a, &v))
		return 0;
	for (uint32_t i = 0; i < v.blocks; i++) {
		uint64_t word = atomic_load_explicit(&v.words[i], memory_order_acquire);
		int r = 0;

		if (ring_word_client(word) && ring_word_thread(word) == thread_index)
			r = recover_block(a, &v, i, word);
		if (r)
			result = r;
	}
	return result;
}

static void recover_consumer(const struct ring_view *v, uint32_t client)
{
	uint64_t consumer = atomic_load(&v->header->consumer);

	if ((consumer & 0xfff) == client &&
	    atomic_compare_exchange_strong(&v->header->consumer, &consumer, 0))
		ring_room_made(v->bell);
}

int ring_recover_client(struct arena *a, uint32_t client)
{
	struct ring_view v;
	int result = 0;

	if (!client || !ring_view(a, &v))
		return 0;
	for (uint32_t i = 0; i < v.blocks; i++) {
		uint64_t word = atomic_load_explicit(&v.words[i], memory_order_acquire);
		int r = 0;

		STOP_POINT(ring_burying);
		if (ring_word_state(word) == RING_OPEN && ring_word_shared(word))
			ring_shared_bury(&v, i, ring_word_lap(word), client);
		else if (ring_word_client(word) == client)
			r = recover_block(a, &v, i, word);
		if (r)
			result = r;
	}
	recover_consumer(&v, client);
	return result;
}

/* ---- looking at it ---- */

int ring_survey(const struct arena *a, struct ring_survey *ret)
{
	struct ring_view v;

	memset(ret, 0, sizeof(*ret));
	if (!ring_view(a, &v))
		return -EUCLEAN;
	ret->blocks = v.blocks;
	ret->block_bytes = ring_block_bytes(&v);
	ret->dropped = atomic_load(&v.header->dropped);
	ret->consumer = (uint32_t)atomic_load(&v.header->consumer) & 0xfff;
	for (uint32_t i = 0; i < v.blocks; i++) {
		uint64_t word = atomic_load_explicit(&v.words[i], memory_order_acquire);
		uint64_t committed = atomic_load_explicit(&v.heads[i].committed, memory_order_acquire);
		uint32_t lap = ring_word_lap(word), records = 0;

		ret->unused += ring_word_state(word) == RING_FREE;
		ret->sealed += ring_word_state(word) == RING_SEALED ||
			       ring_word_state(word) == RING_DRAINING;
		ret->open += ring_word_state(word) == RING_OPEN;
		ret->shared += ring_word_state(word) == RING_OPEN && ring_word_shared(word);
		if (ring_word_readable(word)) {
			records = ring_block_records(&v, i, word);
			ret->bytes += ring_committed_bytes(committed);
		}
		ret->records += records;
		ret->written += records + atomic_load_explicit(&v.heads[i].base[lap & 1],
							       memory_order_relaxed);
	}
	return 0;
}

uint64_t ring_fixed_bytes(const struct arena *a)
{
	struct ring_view v;

	return ring_view(a, &v) ? v.slots_at - a->g.ring : 0;
}

/* ---- validity ---- */

static __attribute__((format(printf, 3, 4))) bool wrong(char *why, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, size, format, args);
	va_end(args);
	return false;
}

/* The records of a thread's block fill its committed bytes and are as many as it says. */
static bool own_valid(const struct arena *a, const struct ring_view *v, uint32_t block,
		      uint64_t committed, char *why, size_t size)
{
	uint32_t end = ring_committed_bytes(committed), at = 0, count = 0;

	if (end > ring_block_bytes(v))
		return wrong(why, size, "block %u: committed beyond its end", block);
	while (at < end && end - at >= sizeof(struct ring_record)) {
		struct ring_record record;

		ring_copy(&record, arena_at(a, ring_block_at(v, block) + at), sizeof(record));
		at += ring_info_bytes(record.info);
		count++;
	}
	if (at != end || count != ring_committed_records(committed))
		return wrong(why, size, "block %u: %u records in %u bytes, not %u in %u", block, count, at,
			     ring_committed_records(committed), end);
	return true;
}

static bool shared_valid(const struct ring_view *v, uint32_t block, uint32_t lap, char *why, size_t size)
{
	uint64_t units = 0;

	for (uint32_t i = 0; i < v->block_slots; i++) {
		uint64_t slot = atomic_load_explicit(&ring_block_slots(v, block)[i], memory_order_acquire);

		if (!ring_slot_of(slot, lap))
			break;
		if (ring_slot_state(slot) < RING_SLOT_CLAIMED || ring_slot_state(slot) > RING_SLOT_CLOSED)
			return wrong(why, size, "block %u: slot %u makes no sense", block, i);
		units += ring_slot_units(slot);
	}
	return units * 16 <= ring_block_bytes(v) ||
	       wrong(why, size, "block %u: shared records beyond its end", block);
}

static bool references_valid(const struct arena *a, const struct ring_view *v, uint32_t block,
			     uint64_t word, char *why, size_t size)
{
	struct ring_reference ref;
	uint32_t cursor = 0;

	while (ring_large_next(a, v, block, ring_word_lap(word), &cursor, &ref))
		if (!ring_references(a, ref.page) &&
		    atomic_load_explicit(&v->words[block], memory_order_acquire) == word)
			return wrong(why, size, "block %u: a large record's extent at page %#x is not there",
				     block, ref.page);
	return true;
}

static bool block_valid(const struct arena *a, const struct ring_view *v, uint32_t block, uint64_t word,
			char *why, size_t size)
{
	uint64_t committed = atomic_load_explicit(&v->heads[block].committed, memory_order_acquire);

	if (ring_word_state(word) > RING_DRAINING)
		return wrong(why, size, "block %u: its word makes no sense", block);
	if (!ring_word_readable(word))
		return true;
	if (!atomic_load_explicit(&v->heads[block].memory, memory_order_relaxed))
		return wrong(why, size, "block %u: in use without memory", block);
	if (!ring_committed_of(committed, ring_word_lap(word)))
		return wrong(why, size, "block %u: its length is of another lap", block);
	if (!arena_readable(a, ring_block_at(v, block), ring_block_bytes(v)) ||
	    !arena_readable(a, v->slots_at + 8 * (uint64_t)v->block_slots * block, 8 * v->block_slots))
		return wrong(why, size, "block %u: its memory is not there", block);
	if (!(committed & RING_COMMITTED_SHARED ?
		      shared_valid(v, block, ring_word_lap(word), why, size) :
		      own_valid(a, v, block, committed, why, size)))
		return false;
	return references_valid(a, v, block, word, why, size);
}

bool ring_valid(const struct arena *a, char *why, size_t why_size)
{
	struct ring_view v;

	if (!ring_view(a, &v))
		return wrong(why, why_size, "the ring's header makes no sense");
	for (uint32_t i = 0; i < v.blocks; i++) {
		uint64_t word = atomic_load_explicit(&v.words[i], memory_order_acquire);

		if (block_valid(a, &v, i, word, why, why_size))
			continue;
		/* Reset meanwhile: what was seen belongs to no lap. */
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&v.words[i], memory_order_relaxed) == word)
			return false;
	}
	return true;
}
