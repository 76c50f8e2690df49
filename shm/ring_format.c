/* SPDX-License-Identifier: Apache-2.0 */
/* The ring's area: what lies where, and its first contents. */
#include <errno.h>

#include "ring_view.h"

static uint64_t page_up(uint64_t bytes)
{
	return (bytes + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
}

static uint32_t slots_of(uint32_t shift)
{
	uint32_t slots = 1u << (shift - RING_SLOT_SHIFT);

	return slots < RING_SLOTS_MAX ? slots : RING_SLOTS_MAX;
}

/* Offsets in the area. */
struct parts {
	uint64_t words, heads, slots, data, end;
};

static struct parts parts_of(uint32_t shift, uint64_t blocks)
{
	struct parts p = { .words = 2 * PAGE_SIZE };

	p.heads = (p.words + 8 * blocks + 127) & ~UINT64_C(127);
	p.slots = page_up(p.heads + sizeof(struct ring_block) * blocks);
	p.data = page_up(p.slots + 8 * slots_of(shift) * blocks);
	p.end = p.data + (blocks << shift);
	return p;
}

/* 64 blocks in a small ring; 64 KiB a block from 4 MiB on; from 64 MiB on at most 1,024 blocks, as long
 * as a block is below 1 MiB. */
static uint32_t shift_for(uint64_t bytes)
{
	uint32_t log2 = 63 - (uint32_t)__builtin_clzll(bytes | 1);
	uint32_t shift = log2 <= 22 ? log2 - 6 : log2 <= 26 ? 16 : log2 - 10;

	if (log2 < 6 + RING_SHIFT_MIN)
		return RING_SHIFT_MIN;
	return shift < RING_SHIFT_MAX ? shift : RING_SHIFT_MAX;
}

uint64_t ring_area_bytes(uint64_t log_capacity)
{
	uint64_t capacity = log_capacity < CAPACITY_MAX ? log_capacity : CAPACITY_MAX;
	uint32_t shift = shift_for(capacity);
	uint64_t blocks = (capacity + (UINT64_C(1) << shift) - 1) >> shift;

	if (blocks < RING_BLOCKS_MIN)
		blocks = RING_BLOCKS_MIN;
	return parts_of(shift, blocks).end;
}

/* As many blocks as the area has room for. */
static uint64_t blocks_in(uint64_t area, uint32_t shift)
{
	uint64_t each = (UINT64_C(1) << shift) + 8 * slots_of(shift) + sizeof(struct ring_block) + 8;
	uint64_t blocks = area / each + 1;

	if (blocks > RING_BLOCKS_MAX)
		blocks = RING_BLOCKS_MAX;
	while (blocks && parts_of(shift, blocks).end > area)
		blocks--;
	return blocks;
}

bool ring_shape(const struct arena *a, uint32_t *shift, uint32_t *blocks)
{
	*shift = shift_for(a->g.ring_size);
	*blocks = (uint32_t)blocks_in(a->g.ring_size, *shift);
	return *blocks >= RING_BLOCKS_MIN;
}

int ring_format(struct arena *a)
{
	struct ring_header *header = arena_at(a, a->g.ring);
	uint32_t shift, blocks;
	uint64_t offset;
	int r;

	if (!ring_shape(a, &shift, &blocks))
		return -EINVAL;
	r = arena_commit(a, a->g.ring, parts_of(shift, blocks).slots);
	if (r)
		return r;
	/* All else is zero in a new file: blocks are free, of lap 0. */
	header->magic = RING_MAGIC;
	header->block_shift = shift;
	header->blocks = blocks;
	header->created = clock_now();
	clock_begin(header);
	clock_real_offset(&offset);
	atomic_store_explicit(&header->real_offset, offset, memory_order_relaxed);
	return 0;
}

bool ring_view(const struct arena *a, struct ring_view *v)
{
	struct ring_header *header = arena_at(a, a->g.ring);
	uint32_t shift, blocks;
	struct parts p;

	if (a->g.ring_size < 2 * PAGE_SIZE || header->magic != RING_MAGIC)
		return false;
	/* Others can write these: read once. */
	shift = *(volatile uint32_t *)&header->block_shift;
	blocks = *(volatile uint32_t *)&header->blocks;
	if (shift < RING_SHIFT_MIN || shift > RING_SHIFT_MAX || blocks < RING_BLOCKS_MIN ||
	    blocks > RING_BLOCKS_MAX)
		return false;
	p = parts_of(shift, blocks);
	if (p.end > a->g.ring_size)
		return false;
	v->header = header;
	v->bell = ring_bell(a);
	v->words = arena_at(a, a->g.ring + p.words);
	v->heads = arena_at(a, a->g.ring + p.heads);
	v->slots = arena_at(a, a->g.ring + p.slots);
	v->slots_at = a->g.ring + p.slots;
	v->data_at = a->g.ring + p.data;
	v->shift = shift;
	v->blocks = blocks;
	v->block_slots = slots_of(shift);
	return true;
}
