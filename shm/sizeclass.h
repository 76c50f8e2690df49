/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sizeclass.h - which size classes there are, and the slab of each: 16-byte steps to 512 bytes, then
 * eight classes to a doubling, to 32 KiB. Pure functions over one constant table.
 */
#ifndef SHM_SIZECLASS_H
#define SHM_SIZECLASS_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"

#define SIZECLASS_MAX_BYTES 32768u
#define SIZECLASS_RECIPROCAL_SHIFT 26

struct sizeclass {
	uint32_t bytes;	     /* object size, a multiple of 16 */
	uint32_t reciprocal; /* of bytes / 16, see sizeclass_index() */
	uint16_t pages;	     /* of its slab */
	uint16_t objects;    /* in it, at most SLAB_OBJECTS_MAX */
	uint16_t shape;	     /* of its record: 64-byte groups of state words, one word to spare */
	uint16_t reserved;
};
_Static_assert(sizeof(struct sizeclass) == 16, "size class");

/* A row for every top byte that word 1 of a page map entry can have. All but those of slabs, and of classes
 * that there are, are zeros: classes of no objects, in which nothing is found. */
#define SIZECLASS_ROWS 256
extern const struct sizeclass sizeclass_rows[SIZECLASS_ROWS] __attribute__((visibility("hidden")));
#define sizeclass_table (sizeclass_rows + (1 << PW1_CLASS_BITS))

/* Whether an offset in a slab, in units of 16 bytes, is a multiple of the object size; its index then, which
 * is that of the spare word at most. What the product has below the point is less than the reciprocal just
 * for multiples of the size. False in every row that is no class's. */
static inline bool sizeclass_start(const struct sizeclass *c, uint64_t offset16, uint32_t *index)
{
	uint64_t product = offset16 * c->reciprocal;

	*index = (uint32_t)(product >> SIZECLASS_RECIPROCAL_SHIFT);
	return (product & ((1u << SIZECLASS_RECIPROCAL_SHIFT) - 1)) < c->reciprocal;
}

/* Which object of a slab lies at an offset, in units of 16 bytes. Exact for every offset in a slab. */
static inline uint32_t sizeclass_index(const struct sizeclass *c, uint64_t offset16)
{
	return (uint32_t)(offset16 * c->reciprocal >> SIZECLASS_RECIPROCAL_SHIFT);
}

/* Pages of the state block for records of a shape, and records in it. */
static inline uint32_t shape_record_bytes(uint32_t shape)
{
	return 64 + 64 * shape;
}

static inline uint32_t shape_block_pages(uint32_t shape)
{
	return shape <= 8 ? 1 : 2;
}

static inline uint32_t shape_block_records(uint32_t shape)
{
	return (shape_block_pages(shape) * PAGE_SIZE - 64) / shape_record_bytes(shape);
}

/* Classes of sizes to SIZECLASS_TABLE_BYTES by (size + 15) / 16: a program's sizes come in an order that
 * no branch predictor learns. */
#define SIZECLASS_TABLE_BYTES 4096u
extern const uint8_t sizeclass_by_size[SIZECLASS_TABLE_BYTES / 16 + 1]
	__attribute__((visibility("hidden")));

/* The smallest class of at least size bytes, 1 <= size <= SIZECLASS_MAX_BYTES. */
static inline uint32_t sizeclass_of(uint64_t size)
{
	if (__builtin_expect(size <= SIZECLASS_TABLE_BYTES, 1))
		return sizeclass_by_size[(size + 15) >> 4];
	/* The top three bits below the leading one of size - 1 choose among eight. */
	uint32_t top = 63 - (uint32_t)__builtin_clzll(size - 1);

	return 32 + (top - 9) * 8 + ((uint32_t)((size - 1) >> (top - 3)) & 7);
}

#endif
