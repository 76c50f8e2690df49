/* SPDX-License-Identifier: Apache-2.0 */
/*
 * words.h - packing and unpacking of the words that layout.h describes: handles, page map entries,
 * state words, client, thread and name words. Pure functions.
 */
#ifndef SHM_WORDS_H
#define SHM_WORDS_H

#include <stdbool.h>

#include "layout.h"

/* ---- handles ---- */

static inline uint64_t handle_make(uint32_t tag, uint32_t gen, uint64_t offset)
{
	return (uint64_t)gen << HANDLE_GEN_SHIFT | (uint64_t)tag << HANDLE_TAG_SHIFT | offset >> 4;
}

static inline uint64_t handle_offset(uint64_t h)
{
	return h << (64 - HANDLE_OFFSET_BITS) >> (64 - HANDLE_OFFSET_BITS - 4);
}

static inline uint32_t handle_gen(uint64_t h)
{
	return (uint32_t)(h >> HANDLE_GEN_SHIFT);
}

static inline uint32_t handle_tag(uint64_t h)
{
	return (uint32_t)(h >> HANDLE_TAG_SHIFT) & 0xff;
}

/* ---- state words ---- */

static inline uint32_t state_make(enum object_kind kind, uint32_t client, uint32_t gen)
{
	return (uint32_t)kind | client << STATE_CLIENT_SHIFT | gen << STATE_GEN_SHIFT;
}

static inline enum object_kind state_kind(uint32_t word)
{
	return (enum object_kind)(word & 0xf);
}

static inline uint32_t state_client(uint32_t word)
{
	return word >> STATE_CLIENT_SHIFT & 0xfff;
}

static inline uint32_t state_gen(uint32_t word)
{
	return word >> STATE_GEN_SHIFT;
}

/* The client that an object belongs to, and whose death returns it; 0: none. The number in a persistent
 * object's word says only who made it so. */
static inline uint32_t state_owner(uint32_t word)
{
	switch (state_kind(word)) {
	case OBJECT_PRIVATE:
	case OBJECT_TAKEN:
	case OBJECT_SHARED:
	case OBJECT_INTERNAL:
		return state_client(word);
	default:
		return 0;
	}
}

/* ---- page map entries ---- */

static inline enum page_kind pw0_kind(uint64_t w0)
{
	return (enum page_kind)(w0 & 0xf);
}

static inline uint32_t pw0_client(uint64_t w0)
{
	return (uint32_t)(w0 >> PW0_CLIENT_SHIFT) & 0xfff;
}

static inline uint32_t pw0_gen(uint64_t w0)
{
	return (uint32_t)(w0 >> PW0_GEN_SHIFT) & 0xffff;
}

/* Kind of a slab page, shape of a state block, use of a raw extent. */
static inline uint32_t pw0_class(uint64_t w0)
{
	return (uint32_t)(w0 >> PW0_CLASS_SHIFT) & ((1u << PW0_CLASS_BITS) - 1);
}

static inline uint64_t pw0_make(enum page_kind kind, uint32_t client, uint32_t gen, uint32_t class)
{
	return (uint64_t)kind | (uint64_t)client << PW0_CLIENT_SHIFT |
	       (uint64_t)(gen & 0xffff) << PW0_GEN_SHIFT | (uint64_t)class << PW0_CLASS_SHIFT;
}

/* Whether an extent is one object: word 0 is its state word. */
static inline bool pw0_is_object(uint64_t w0)
{
	return pw0_kind(w0) == PAGE_LARGE || pw0_kind(w0) == PAGE_MAPPED;
}

/* A large object's word 0 holds a state word: kind, client and generation lie together. */
static inline uint64_t pw0_object(enum page_kind kind, uint32_t state)
{
	return (uint64_t)kind | (uint64_t)state_kind(state) << PW0_OBJECT_SHIFT |
	       (uint64_t)state_client(state) << PW0_CLIENT_SHIFT |
	       (uint64_t)state_gen(state) << PW0_GEN_SHIFT;
}

static inline uint64_t pw0_large(uint32_t state)
{
	return pw0_object(PAGE_LARGE, state);
}

/* What a large object is besides: enum large_use, in its place in word 0. */
static inline uint64_t pw0_use(uint64_t w0)
{
	return w0 & (uint64_t)((1u << PW0_CLASS_BITS) - 1) << PW0_CLASS_SHIFT;
}

static inline bool pw0_is_packed(uint64_t w0)
{
	return pw0_kind(w0) == PAGE_LARGE && pw0_class(w0) == LARGE_PACKED;
}

static inline uint32_t pw0_state(uint64_t w0)
{
	return state_make((enum object_kind)(w0 >> PW0_OBJECT_SHIFT & 0xf), pw0_client(w0), pw0_gen(w0));
}

static inline uint64_t pw1_length(uint64_t w1)
{
	return w1 & ((UINT64_C(1) << PW1_LENGTH_BITS) - 1);
}

/* Pending stack: page in zone + 1 of the next, 0 at the end. */
static inline uint32_t pw1_next(uint64_t w1)
{
	return (uint32_t)(w1 >> PW1_NEXT_SHIFT) & ((1u << PW1_NEXT_BITS) - 1);
}

static inline uint64_t pw1_extent(uint64_t length, uint32_t next)
{
	return length | (uint64_t)next << PW1_NEXT_SHIFT;
}

/* Of a large object: bytes before its user's. */
static inline uint64_t pw1_front(uint64_t w1)
{
	return pw1_next(w1) ? ((uint64_t)pw1_next(w1) + 1) << 4 : 0;
}

static inline uint64_t pw1_large(uint64_t length, uint64_t front)
{
	return pw1_extent(length, front ? (uint32_t)(front >> 4) - 1 : 0);
}

static inline uint32_t pw1_dist(uint64_t w1)
{
	return (uint32_t)(w1 & PW1_DIST_MASK);
}

/* Heap offset of a slab's record. */
static inline uint64_t pw1_record(uint64_t w1)
{
	return w1 & PW1_RECORD_MASK;
}

static inline bool pw1_is_slab(uint64_t w1)
{
	return w1 >> PW1_SLAB_SHIFT;
}

static inline uint32_t pw1_class(uint64_t w1)
{
	return (uint32_t)(w1 >> PW1_CLASS_SHIFT) & ((1u << PW1_CLASS_BITS) - 1);
}

static inline uint64_t pw1_slab(uint32_t dist, uint64_t record_offset, uint32_t class)
{
	return dist | record_offset | (uint64_t)class << PW1_CLASS_SHIFT | UINT64_C(1) << PW1_SLAB_SHIFT;
}

static inline uint64_t pw1_span(uint64_t length, uint64_t head)
{
	return length | head << PW1_SPAN_HEAD_SHIFT;
}

static inline uint64_t pw1_span_length(uint64_t w1)
{
	return w1 & ((1u << PW1_SPAN_HEAD_SHIFT) - 1);
}

static inline uint64_t pw1_span_head(uint64_t w1)
{
	return w1 >> PW1_SPAN_HEAD_SHIFT & ((UINT64_C(1) << 33) - 1);
}

/* ---- slab records ---- */

static inline uint32_t record_busy(uint32_t client)
{
	return RECORD_BUSY | client << 4;
}

static inline uint32_t record_state(uint32_t owner)
{
	return owner & 0xf;
}

static inline uint32_t record_client(uint32_t owner)
{
	return owner >> 4;
}

/* ---- client words ---- */

static inline uint64_t client_word(enum client_state state, uint32_t recoverer, uint32_t incarnation)
{
	return (uint64_t)state | (uint64_t)recoverer << CLIENT_RECOVERER_SHIFT |
	       (uint64_t)incarnation << CLIENT_INCARNATION_SHIFT;
}

static inline enum client_state client_word_state(uint64_t word)
{
	return (enum client_state)(word & 0xf);
}

static inline uint32_t client_word_recoverer(uint64_t word)
{
	return (uint32_t)(word >> CLIENT_RECOVERER_SHIFT) & 0xfff;
}

static inline uint32_t client_word_incarnation(uint64_t word)
{
	return (uint32_t)(word >> CLIENT_INCARNATION_SHIFT);
}

/* ---- thread words ---- */

static inline uint64_t thread_word(enum thread_state state, uint32_t client, uint64_t page)
{
	return (uint64_t)state | (uint64_t)client << THREAD_CLIENT_SHIFT | page << THREAD_PAGE_SHIFT;
}

static inline enum thread_state thread_word_state(uint64_t word)
{
	return (enum thread_state)(word & 0xf);
}

static inline uint32_t thread_word_client(uint64_t word)
{
	return (uint32_t)(word >> THREAD_CLIENT_SHIFT) & 0xfff;
}

static inline uint64_t thread_word_page(uint64_t word)
{
	return word >> THREAD_PAGE_SHIFT & ((UINT64_C(1) << 33) - 1);
}

/* ---- hold records ---- */

static inline uint64_t hold_head(enum hold_state state, uint32_t client, uint64_t version)
{
	return (uint64_t)state | (uint64_t)client << HOLD_CLIENT_SHIFT | version << HOLD_VERSION_SHIFT;
}

static inline enum hold_state hold_head_state(uint64_t head)
{
	return (enum hold_state)(head & 0xf);
}

static inline uint32_t hold_head_client(uint64_t head)
{
	return (uint32_t)(head >> HOLD_CLIENT_SHIFT) & 0xfff;
}

/* What follows a head. */
static inline uint64_t hold_head_next(uint64_t head, enum hold_state state, uint32_t client)
{
	return hold_head(state, client, (head >> HOLD_VERSION_SHIFT) + 1);
}

static inline uint32_t hold_slot(uint32_t client, uint32_t count)
{
	return client | count << HOLD_COUNT_SHIFT;
}

static inline uint32_t hold_slot_client(uint32_t slot)
{
	return slot & 0xfff;
}

static inline uint32_t hold_slot_count(uint32_t slot)
{
	return slot >> HOLD_COUNT_SHIFT;
}

/* ---- name words ---- */

static inline uint64_t name_word(enum name_state state, uint32_t client, uint32_t change, uint32_t hash)
{
	return (uint64_t)state | (uint64_t)client << NAME_CLIENT_SHIFT |
	       (uint64_t)(change & 0xffff) << NAME_CHANGE_SHIFT | (uint64_t)hash << NAME_HASH_SHIFT;
}

static inline enum name_state name_word_state(uint64_t word)
{
	return (enum name_state)(word & 0xf);
}

static inline uint32_t name_word_client(uint64_t word)
{
	return (uint32_t)(word >> NAME_CLIENT_SHIFT) & 0xfff;
}

static inline uint32_t name_word_change(uint64_t word)
{
	return (uint32_t)(word >> NAME_CHANGE_SHIFT) & 0xffff;
}

static inline uint32_t name_word_hash(uint64_t word)
{
	return (uint32_t)(word >> NAME_HASH_SHIFT);
}

#endif
