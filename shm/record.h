/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.h - slab records: a slab's state words, apart from its objects, in state blocks that are never
 * used for anything else nor given back. So a stale handle always meets a state word.
 */
#ifndef SHM_RECORD_H
#define SHM_RECORD_H

#include "arena.h"
#include "sizeclass.h"
#include "words.h"

static inline struct slab_record *record_at(const struct arena *a, uint64_t heap_offset)
{
	return (struct slab_record *)(a->heap + heap_offset);
}

/* Whether a record of this shape may lie at a heap offset that was read from shared memory. It may be in a
 * zone that this process does not know yet. */
static inline bool record_plausible(const struct arena *a, uint64_t heap_offset, uint32_t shape)
{
	return heap_offset + shape_record_bytes(shape) <= a->g.capacity;
}

/* A record for a slab of this shape, busy with this client: heap offset, or 0 with *err. */
uint64_t record_alloc(struct arena *a, uint32_t shape, int *err);
/* Gives back a record that is busy with this client, and that no page names any more. */
void record_free(struct arena *a, struct slab_record *r, uint32_t shape);

/* The i-th record of the state block at a page; its heap offset. */
static inline uint64_t record_offset(uint64_t block_page, uint32_t shape, uint32_t i)
{
	return (block_page << PAGE_SHIFT) + 64 + (uint64_t)i * (64 + 64 * shape);
}

/* For recovery: settles the records of a state block that a dead client was busy with. */
void record_recover_block(struct arena *a, uint64_t block_page, uint32_t client);

#endif
