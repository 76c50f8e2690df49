/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sizeclass.h - which size classes there are, and the slabs of each: 16-byte steps to 512 bytes, then
 * eight classes to a doubling, to 256 KiB, then two to 1 MiB. Above 32 KiB a slab is one object. Below, most
 * classes have several kinds of slabs: long ones, short ones for who has few objects of the class, and tall ones for
 * who has many. Pure functions over constant tables.
 */
#ifndef SHM_SIZECLASS_H
#define SHM_SIZECLASS_H

#include <stdbool.h>
#include <stdint.h>

#include "layout.h"

#define SIZECLASS_MAX_BYTES (1u << 20)
#define SIZECLASS_MANY_BYTES 32768u /* of the last class with several objects to a slab */

struct sizeclass {
	uint32_t bytes;	  /* object size, a multiple of 16 */
	uint16_t pages;	  /* of a slab */
	uint16_t objects; /* in it, at most SLAB_OBJECTS_MAX */
	uint16_t shape;	  /* of its record: 64-byte groups of state words, one word to spare */
	uint16_t reserved;
};
_Static_assert(sizeof(struct sizeclass) == 12, "size class");

/* A row for every kind that word 1 of a page map entry can tell of; zeros from KINDS on. */
extern const struct sizeclass sizeclass_table[1 << PW1_CLASS_BITS] __attribute__((visibility("hidden")));

/* The class of a kind; and of a class the kind of its short slabs, or of its tall ones: where it has none, of
 * its long ones. */
static inline uint32_t sizeclass_of_kind(uint32_t kind)
{
	if (kind < CLASSES)
		return kind;
	return kind < CLASSES + SHORTS ? kind - CLASSES + SHORT_FIRST : kind - CLASSES - SHORTS + TALL_FIRST;
}

static inline uint32_t sizeclass_short(uint32_t class)
{
	return class - SHORT_FIRST < SHORTS ? class - SHORT_FIRST + CLASSES : class;
}

static inline uint32_t sizeclass_tall(uint32_t class)
{
	return class - TALL_FIRST < TALLS ? class - TALL_FIRST + CLASSES + SHORTS : class;
}

/* Pages of a slab that have entries in the page map: behind the first page of a single object there are
 * none, so that making one costs no more than an extent. */
static inline uint32_t sizeclass_entries(uint32_t kind)
{
	return sizeclass_table[kind].objects > 1 ? sizeclass_table[kind].pages : 1;
}

/*
 * Which object of a slab lies at an offset is told by one multiplication with 2^26 / (object size), rounded
 * up: the index is above the point, and below it lies less than the reciprocal just for multiples of the
 * size. A single object's reciprocal is 1: it starts at 0, and lies everywhere. A row for all that the top nine bits of word 1 of a page map entry can be; all but those of slabs,
 * and of kinds that there are, are zeros: kinds of no objects, in which nothing is found.
 */
#define SIZECLASS_POINT 26
#define SIZECLASS_ROWS (2 << PW1_CLASS_BITS)
struct sizeclass_row {
	uint32_t reciprocal;
	uint32_t cache; /* place of its class's cache among a thread's, in bytes */
};
extern const struct sizeclass_row sizeclass_rows[SIZECLASS_ROWS] __attribute__((visibility("hidden")));

static inline uint32_t sizeclass_row(uint32_t kind)
{
	return (1u << PW1_CLASS_BITS) + kind;
}

/* The class of a row that is some kind's. */
static inline uint32_t sizeclass_of_row(uint64_t row)
{
	return sizeclass_rows[row].cache / (uint32_t)sizeof(struct cache);
}

/* Whether an object of this reciprocal starts at an offset in a slab, in units of 16 bytes; its index then, which
 * is that of the spare word at most. */
static inline bool sizeclass_begins(uint64_t offset16, uint32_t reciprocal, uint32_t *index)
{
	uint64_t product = offset16 * reciprocal;

	*index = (uint32_t)(product >> SIZECLASS_POINT);
	return (product & ((1u << SIZECLASS_POINT) - 1)) < reciprocal;
}

/* The same by a row: false in every one that is no kind's. */
static inline bool sizeclass_start(uint64_t row, uint64_t offset16, uint32_t *index)
{
	return sizeclass_begins(offset16, sizeclass_rows[row].reciprocal, index);
}

/* Which object of a slab lies at an offset, in units of 16 bytes. Exact for every offset in a slab. */
static inline uint32_t sizeclass_index(uint32_t kind, uint64_t offset16)
{
	uint32_t index;

	sizeclass_start(sizeclass_row(kind), offset16, &index);
	return index;
}

/* Pages of the state block for records of a shape, and records in it. Two where that holds more than twice as many
 * as one does, but of small records. */
static inline uint32_t shape_record_bytes(uint32_t shape)
{
	return 64 + 64 * shape;
}

static inline uint32_t shape_block_pages(uint32_t shape)
{
	return shape <= 9 || shape == 11 || shape == 14 ? 1 : 2;
}

static inline uint32_t shape_block_records(uint32_t shape)
{
	return (shape_block_pages(shape) * PAGE_SIZE - 64) / shape_record_bytes(shape);
}

/*
 * Sizes to SIZECLASS_TABLE_BYTES by (size + 15) / 16: a program's sizes come in an order that no branch
 * predictor learns. What stands there is the place of the class's cache among a thread's, in bytes.
 */
#define SIZECLASS_TABLE_BYTES 65536u
extern const uint16_t sizeclass_caches_by_size[SIZECLASS_TABLE_BYTES / 16 + 1]
	__attribute__((visibility("hidden")));

/*
 * What fast paths look up, in one piece, for who has a view of an arena to keep it in. Reciprocals here are 2^32 / (object
 * size / 8), rounded up: of the product with an offset in units of 8 bytes the upper half is the index, and the lower
 * half less than the reciprocal just for multiples of the size. Else as above.
 */
struct sizeclass_tables {
	uint32_t reciprocals[SIZECLASS_ROWS];
	uint16_t caches[SIZECLASS_ROWS];
	uint16_t caches_by_size[SIZECLASS_TABLE_BYTES / 16 + 1];
};
void sizeclass_copy(struct sizeclass_tables *to);

/* As sizeclass_begins(). */
static inline __attribute__((always_inline)) bool sizeclass_begins8(uint64_t offset8, uint64_t reciprocal, uint64_t *index)
{
	uint64_t product;

	__asm__("" : "+r"(reciprocal)); /* that it has 32 bits is nothing to know: it would be extended once more */
	product = offset8 * reciprocal;
	*index = product >> 32;
	return (uint32_t)product < (uint32_t)reciprocal;
}

/* The same of sizes above SIZECLASS_TABLE_BYTES, to SIZECLASS_MAX_BYTES: the smallest class; CLASSES where
 * it would waste more than an eighth. */
static inline uint32_t sizeclass_of_large(uint64_t size)
{
	/* The top three bits below the leading one of size - 1 choose among eight, above 256 KiB the top one
	 * among two. */
	uint32_t top = 63 - (uint32_t)__builtin_clzll(size - 1), class;

	if (top < 18)
		return 32 + (top - 9) * 8 + ((uint32_t)((size - 1) >> (top - 3)) & 7);
	class = 104 + (top - 18) * 2 + ((uint32_t)((size - 1) >> (top - 1)) & 1);
	return (sizeclass_table[class].bytes - size) * 8 <= sizeclass_table[class].bytes ? class : CLASSES;
}

/* The class for an object of this size, 1 <= size <= SIZECLASS_MAX_BYTES; CLASSES: none. */
static inline uint32_t sizeclass_of(uint64_t size)
{
	if (__builtin_expect(size <= SIZECLASS_TABLE_BYTES, 1))
		return sizeclass_caches_by_size[(size + 15) >> 4] / (uint32_t)sizeof(struct cache);
	return sizeclass_of_large(size);
}

#endif
