/* SPDX-License-Identifier: Apache-2.0 */
/* ring_words.h - packing and unpacking of the log ring's words, as layout.h describes them. */
#ifndef SHM_RING_WORDS_H
#define SHM_RING_WORDS_H

#include <stdbool.h>

#include "layout.h"

/* ---- block words ---- */

static inline uint64_t ring_word(enum ring_state state, bool shared, uint32_t client, uint32_t thread,
				 uint32_t lap)
{
	return (uint64_t)state | (shared ? RING_SHARED_BIT : 0) |
	       (uint64_t)(client & 0xfff) << RING_CLIENT_SHIFT |
	       (uint64_t)(thread & 0xffff) << RING_THREAD_SHIFT | (uint64_t)lap << RING_LAP_SHIFT;
}

static inline enum ring_state ring_word_state(uint64_t word)
{
	return (enum ring_state)(word & 7);
}

static inline bool ring_word_shared(uint64_t word)
{
	return word & RING_SHARED_BIT;
}

static inline uint32_t ring_word_client(uint64_t word)
{
	return (uint32_t)(word >> RING_CLIENT_SHIFT) & 0xfff;
}

static inline uint32_t ring_word_thread(uint64_t word)
{
	return (uint32_t)(word >> RING_THREAD_SHIFT) & 0xffff;
}

static inline uint32_t ring_word_lap(uint64_t word)
{
	return (uint32_t)(word >> RING_LAP_SHIFT);
}

/* The same lease in another state. */
static inline uint64_t ring_word_in(uint64_t word, enum ring_state state)
{
	return (word & ~UINT64_C(7)) | (uint64_t)state;
}

/* Whether the block holds records of the word's lap: its memory is there, nobody resets it. */
static inline bool ring_word_readable(uint64_t word)
{
	enum ring_state state = ring_word_state(word);

	return state == RING_OPEN || state == RING_SEALED || state == RING_DRAINING;
}

/* ---- committed words ---- */

static inline uint64_t ring_committed(uint32_t lap, bool shared)
{
	return (uint64_t)(lap & 0xffff) << RING_TAG_SHIFT | (shared ? RING_COMMITTED_SHARED : 0);
}

static inline uint32_t ring_committed_bytes(uint64_t committed)
{
	return (uint32_t)committed & (uint32_t)(RING_COMMITTED_SHARED - 1);
}

static inline uint32_t ring_committed_records(uint64_t committed)
{
	return (uint32_t)(committed >> RING_RECORDS_SHIFT) & 0xffffff;
}

static inline bool ring_committed_of(uint64_t committed, uint32_t lap)
{
	return (committed >> RING_TAG_SHIFT) == (lap & 0xffff);
}

/* ---- slots of shared blocks ---- */

static inline uint64_t ring_slot(enum ring_slot_state state, uint32_t client, uint32_t units,
				 uint32_t lap)
{
	return (uint64_t)state | (uint64_t)(client & 0xfff) << RING_SLOT_CLIENT_SHIFT |
	       (uint64_t)units << RING_SLOT_UNITS_SHIFT | (uint64_t)lap << RING_SLOT_LAP_SHIFT;
}

static inline enum ring_slot_state ring_slot_state(uint64_t slot)
{
	return (enum ring_slot_state)(slot & 7);
}

static inline uint64_t ring_slot_in(uint64_t slot, enum ring_slot_state state)
{
	return (slot & ~UINT64_C(7)) | (uint64_t)state;
}

static inline uint32_t ring_slot_client(uint64_t slot)
{
	return (uint32_t)(slot >> RING_SLOT_CLIENT_SHIFT) & 0xfff;
}

static inline uint32_t ring_slot_units(uint64_t slot)
{
	return (uint32_t)(slot >> RING_SLOT_UNITS_SHIFT) & ((1u << RING_SLOT_UNITS_BITS) - 1);
}

/* Whether the slot was taken in this lap. Laps begin at 1: a slot never used is of none. */
static inline bool ring_slot_of(uint64_t slot, uint32_t lap)
{
	return (slot >> RING_SLOT_LAP_SHIFT) == (lap & 0x7fffffff);
}

/* Whether it was last taken in an earlier lap, and so is free in this one. */
static inline bool ring_slot_before(uint64_t slot, uint32_t lap)
{
	uint32_t age = (lap - (uint32_t)(slot >> RING_SLOT_LAP_SHIFT)) & 0x7fffffff;

	return age > 0 && age < 0x40000000;
}

/* Still being written: the block must not be reset. */
static inline bool ring_slot_unfinished(uint64_t slot)
{
	return ring_slot_state(slot) == RING_SLOT_CLAIMED || ring_slot_state(slot) == RING_SLOT_RESERVED;
}

/* ---- records ---- */

/* A record's kind: its level, and whether it is structured, as they stand in its info. */
#define RING_KIND_FIELDS ((int)(RING_INFO_FIELDS >> RING_INFO_LEVEL_SHIFT))
#define RING_KIND_MASK (7 | RING_KIND_FIELDS)

static inline uint32_t ring_info(uint32_t length, int kind, bool large)
{
	return length | (uint32_t)kind << RING_INFO_LEVEL_SHIFT | (large ? RING_INFO_LARGE : 0);
}

static inline uint32_t ring_info_length(uint32_t info)
{
	return info & ((1u << RING_INFO_LENGTH_BITS) - 1);
}

static inline int ring_info_level(uint32_t info)
{
	return (int)(info >> RING_INFO_LEVEL_SHIFT & 7);
}

static inline int ring_info_kind(uint32_t info)
{
	return (int)(info >> RING_INFO_LEVEL_SHIFT) & RING_KIND_MASK;
}

/* Bytes that a record takes in its own block. */
static inline uint32_t ring_record_bytes(uint32_t payload)
{
	return (uint32_t)(sizeof(struct ring_record) + payload + 7) & ~7u;
}

/* The same, header included, of a record whose info this is. */
static inline uint32_t ring_info_bytes(uint32_t info)
{
	return ring_record_bytes(info & RING_INFO_LARGE ? sizeof(struct ring_reference) :
							  ring_info_length(info));
}

/* Units of 16 bytes that a record takes in a shared block. */
static inline uint32_t ring_shared_units(uint32_t payload)
{
	return (uint32_t)(sizeof(struct ring_author) + sizeof(struct ring_record) + payload + 15) / 16;
}

#endif
