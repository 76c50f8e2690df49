/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A class's long slab is the smallest, in multiples of four pages, of at least two objects, that leaves at most
 * a sixteenth of its bytes unused behind its last object; if none to 32 pages does, the one that leaves least;
 * or it has 256 objects. Above 4 KiB it is of any number of pages, of at least three objects to 8 KiB, and leaves at
 * most a thirty-second. There a slab's length decides what an object takes, and sizes are chosen by it: eight of each
 * doubling, all multiples of 64, that fill slabs of few pages, at most a seventh above the one before.
 *
 * A short slab is the smallest that leaves at most an eighth unused, or, of objects above 1 KiB, a quarter: who has few
 * objects of a class loses less by that than by the rest of a long one. A tall one, for objects of 128 bytes to 4 KiB,
 * has eight pages, or sixteen for objects of 256 bytes and more. tests/unit/test_sizeclass.c computes them anew.
 */
#include "sizeclass.h"

#include <string.h>

/* clang-format off */
#define SIZECLASSES(X)                                                                             \
	X(16, 1, 256)                                                                              \
	X(32, 2, 256)                                                                              \
	X(48, 3, 256)                                                                              \
	X(64, 4, 256)                                                                              \
	X(80, 4, 204)                                                                              \
	X(96, 4, 170)                                                                              \
	X(112, 4, 146)                                                                             \
	X(128, 4, 128)                                                                             \
	X(144, 4, 113)                                                                             \
	X(160, 4, 102)                                                                             \
	X(176, 4, 93)                                                                              \
	X(192, 4, 85)                                                                              \
	X(208, 4, 78)                                                                              \
	X(224, 4, 73)                                                                              \
	X(240, 4, 68)                                                                              \
	X(256, 4, 64)                                                                              \
	X(272, 4, 60)                                                                              \
	X(288, 4, 56)                                                                              \
	X(304, 4, 53)                                                                              \
	X(320, 4, 51)                                                                              \
	X(336, 4, 48)                                                                              \
	X(352, 4, 46)                                                                              \
	X(368, 4, 44)                                                                              \
	X(384, 4, 42)                                                                              \
	X(400, 4, 40)                                                                              \
	X(416, 4, 39)                                                                              \
	X(432, 4, 37)                                                                              \
	X(448, 4, 36)                                                                              \
	X(464, 4, 35)                                                                              \
	X(480, 4, 34)                                                                              \
	X(496, 4, 33)                                                                              \
	X(512, 4, 32)                                                                              \
	X(576, 4, 28)                                                                              \
	X(640, 4, 25)                                                                              \
	X(704, 4, 23)                                                                              \
	X(768, 4, 21)                                                                              \
	X(832, 4, 19)                                                                              \
	X(896, 4, 18)                                                                              \
	X(960, 4, 17)                                                                              \
	X(1024, 4, 16)                                                                             \
	X(1152, 4, 14)                                                                             \
	X(1280, 4, 12)                                                                             \
	X(1408, 4, 11)                                                                             \
	X(1536, 4, 10)                                                                             \
	X(1664, 8, 19)                                                                             \
	X(1792, 4, 9)                                                                              \
	X(1920, 4, 8)                                                                              \
	X(2048, 4, 8)                                                                              \
	X(2304, 4, 7)                                                                              \
	X(2560, 4, 6)                                                                              \
	X(2816, 8, 11)                                                                             \
	X(3072, 4, 5)                                                                              \
	X(3328, 12, 14)                                                                            \
	X(3584, 8, 9)                                                                              \
	X(3840, 4, 4)                                                                              \
	X(4096, 4, 4)                                                                              \
	X(4672, 7, 6)                                                                              \
	X(5120, 5, 4)                                                                              \
	X(5440, 4, 3)                                                                              \
	X(5952, 6, 4)                                                                              \
	X(6528, 8, 5)                                                                              \
	X(6976, 7, 4)                                                                              \
	X(7424, 11, 6)                                                                             \
	X(8192, 6, 3)                                                                              \
	X(9344, 7, 3)                                                                              \
	X(10240, 5, 2)                                                                             \
	X(10880, 8, 3)                                                                             \
	X(11648, 20, 7)                                                                            \
	X(12288, 6, 2)                                                                             \
	X(13632, 10, 3)                                                                            \
	X(14336, 7, 2)                                                                             \
	X(16384, 8, 2)                                                                             \
	X(18688, 14, 3)                                                                            \
	X(20480, 10, 2)                                                                            \
	X(21824, 11, 2)                                                                            \
	X(22912, 17, 3)                                                                            \
	X(24576, 12, 2)                                                                            \
	X(27264, 20, 3)                                                                            \
	X(28672, 14, 2)                                                                            \
	X(32768, 16, 2)                                                                            \
	X(36864, 9, 1)                                                                             \
	X(40960, 10, 1)                                                                            \
	X(45056, 11, 1)                                                                            \
	X(49152, 12, 1)                                                                            \
	X(53248, 13, 1)                                                                            \
	X(57344, 14, 1)                                                                            \
	X(61440, 15, 1)                                                                            \
	X(65536, 16, 1)                                                                            \
	X(73728, 18, 1)                                                                            \
	X(81920, 20, 1)                                                                            \
	X(90112, 22, 1)                                                                            \
	X(98304, 24, 1)                                                                            \
	X(106496, 26, 1)                                                                           \
	X(114688, 28, 1)                                                                           \
	X(122880, 30, 1)                                                                           \
	X(131072, 32, 1)                                                                           \
	X(147456, 36, 1)                                                                           \
	X(163840, 40, 1)                                                                           \
	X(180224, 44, 1)                                                                           \
	X(196608, 48, 1)                                                                           \
	X(212992, 52, 1)                                                                           \
	X(229376, 56, 1)                                                                           \
	X(245760, 60, 1)                                                                           \
	X(262144, 64, 1)                                                                           \
	X(393216, 96, 1)                                                                           \
	X(524288, 128, 1)                                                                          \
	X(786432, 192, 1)                                                                          \
	X(1048576, 256, 1)

#define SHORT_SLABS(X)                                                                             \
	X(32, 1, 128)                                                                              \
	X(48, 1, 85)                                                                               \
	X(64, 1, 64)                                                                               \
	X(80, 1, 51)                                                                               \
	X(96, 1, 42)                                                                               \
	X(112, 1, 36)                                                                              \
	X(128, 1, 32)                                                                              \
	X(144, 1, 28)                                                                              \
	X(160, 1, 25)                                                                              \
	X(176, 1, 23)                                                                              \
	X(192, 1, 21)                                                                              \
	X(208, 1, 19)                                                                              \
	X(224, 1, 18)                                                                              \
	X(240, 1, 17)                                                                              \
	X(256, 1, 16)                                                                              \
	X(272, 1, 15)                                                                              \
	X(288, 1, 14)                                                                              \
	X(304, 1, 13)                                                                              \
	X(320, 1, 12)                                                                              \
	X(336, 1, 12)                                                                              \
	X(352, 1, 11)                                                                              \
	X(368, 1, 11)                                                                              \
	X(384, 1, 10)                                                                              \
	X(400, 1, 10)                                                                              \
	X(416, 1, 9)                                                                               \
	X(432, 1, 9)                                                                               \
	X(448, 1, 9)                                                                               \
	X(464, 1, 8)                                                                               \
	X(480, 1, 8)                                                                               \
	X(496, 1, 8)                                                                               \
	X(512, 1, 8)                                                                               \
	X(576, 1, 7)                                                                               \
	X(640, 1, 6)                                                                               \
	X(704, 2, 11)                                                                              \
	X(768, 1, 5)                                                                               \
	X(832, 2, 9)                                                                               \
	X(896, 1, 4)                                                                               \
	X(960, 1, 4)                                                                               \
	X(1024, 1, 4)                                                                              \
	X(1152, 1, 3)                                                                              \
	X(1280, 1, 3)                                                                              \
	X(1408, 2, 5)                                                                              \
	X(1536, 1, 2)                                                                              \
	X(1664, 1, 2)                                                                              \
	X(1792, 1, 2)                                                                              \
	X(1920, 1, 2)                                                                              \
	X(2048, 1, 2)                                                                              \
	X(2304, 2, 3)                                                                              \
	X(2560, 2, 3)                                                                              \
	X(2816, 3, 4)                                                                              \
	X(3072, 1, 1)                                                                              \
	X(3328, 1, 1)                                                                              \
	X(3584, 1, 1)                                                                              \
	X(3840, 1, 1)                                                                              \
	X(4096, 1, 1)                                                                              \
	X(4672, 3, 2)                                                                              \
	X(5120, 3, 2)                                                                              \
	X(5440, 3, 2)                                                                              \
	X(5952, 3, 2)                                                                              \
	X(6528, 2, 1)                                                                              \
	X(6976, 2, 1)                                                                              \
	X(7424, 2, 1)                                                                              \
	X(8192, 2, 1)                                                                              \
	X(9344, 3, 1)                                                                              \
	X(10240, 3, 1)                                                                             \
	X(10880, 3, 1)                                                                             \
	X(11648, 3, 1)                                                                             \
	X(12288, 3, 1)                                                                             \
	X(13632, 4, 1)                                                                             \
	X(14336, 4, 1)                                                                             \
	X(16384, 4, 1)                                                                             \
	X(18688, 5, 1)                                                                             \
	X(20480, 5, 1)                                                                             \
	X(21824, 6, 1)                                                                             \
	X(22912, 6, 1)                                                                             \
	X(24576, 6, 1)                                                                             \
	X(27264, 7, 1)                                                                             \
	X(28672, 7, 1)                                                                             \
	X(32768, 8, 1)

#define TALL_SLABS(X)                                                                              \
	X(128, 8, 256)                                                                             \
	X(144, 8, 227)                                                                             \
	X(160, 8, 204)                                                                             \
	X(176, 8, 186)                                                                             \
	X(192, 8, 170)                                                                             \
	X(208, 8, 157)                                                                             \
	X(224, 8, 146)                                                                             \
	X(240, 8, 136)                                                                             \
	X(256, 16, 256)                                                                            \
	X(272, 16, 240)                                                                            \
	X(288, 16, 227)                                                                            \
	X(304, 16, 215)                                                                            \
	X(320, 16, 204)                                                                            \
	X(336, 16, 195)                                                                            \
	X(352, 16, 186)                                                                            \
	X(368, 16, 178)                                                                            \
	X(384, 16, 170)                                                                            \
	X(400, 16, 163)                                                                            \
	X(416, 16, 157)                                                                            \
	X(432, 16, 151)                                                                            \
	X(448, 16, 146)                                                                            \
	X(464, 16, 141)                                                                            \
	X(480, 16, 136)                                                                            \
	X(496, 16, 132)                                                                            \
	X(512, 16, 128)                                                                            \
	X(576, 16, 113)                                                                            \
	X(640, 16, 102)                                                                            \
	X(704, 16, 93)                                                                             \
	X(768, 16, 85)                                                                             \
	X(832, 16, 78)                                                                             \
	X(896, 16, 73)                                                                             \
	X(960, 16, 68)                                                                             \
	X(1024, 16, 64)                                                                            \
	X(1152, 16, 56)                                                                            \
	X(1280, 16, 51)                                                                            \
	X(1408, 16, 46)                                                                            \
	X(1536, 16, 42)                                                                            \
	X(1664, 16, 39)                                                                            \
	X(1792, 16, 36)                                                                            \
	X(1920, 16, 34)                                                                            \
	X(2048, 16, 32)                                                                            \
	X(2304, 16, 28)                                                                            \
	X(2560, 16, 25)                                                                            \
	X(2816, 16, 23)                                                                            \
	X(3072, 16, 21)                                                                            \
	X(3328, 16, 19)                                                                            \
	X(3584, 16, 18)                                                                            \
	X(3840, 16, 17)                                                                            \
	X(4096, 16, 16)
/* clang-format on */

#define NUMBER(bytes_, pages_, objects_) CLASS_##bytes_,
enum { SIZECLASSES(NUMBER) };
_Static_assert(CLASS_1048576 == CLASSES - 1, "classes");

/* Each shape is in state blocks of its own, so there are few; and of shapes of which a block holds equally many, as of
 * 15 to 17, only the largest. Long slabs, of which there are many, have one shape more. */
#define SHAPE(objects_) (((objects_) + 16) / 16)
#define FEW_SHAPES(shape_)                                                                         \
	((shape_) <= 3	  ? (shape_)                                                               \
	 : (shape_) <= 5  ? 5                                                                      \
	 : (shape_) <= 8  ? 8                                                                      \
	 : (shape_) <= 9  ? 9                                                                      \
	 : (shape_) <= 10 ? 10                                                                     \
	 : (shape_) <= 11 ? 11                                                                     \
	 : (shape_) <= 13 ? 13                                                                     \
	 : (shape_) <= 14 ? 14                                                                     \
			  : 17)
#define LONG_SHAPE(objects_) (SHAPE(objects_) == 4 ? 4 : FEW_SHAPES(SHAPE(objects_)))

#define ROW_OF(bytes_, pages_, objects_, shape_)                                                   \
	{                                                                                          \
		.bytes = (bytes_), .pages = (pages_), .objects = (objects_), .shape = (shape_),    \
	},
#define ROW(bytes_, pages_, objects_) ROW_OF(bytes_, pages_, objects_, LONG_SHAPE(objects_))
#define SHORT_ROW(bytes_, pages_, objects_) ROW_OF(bytes_, pages_, objects_, FEW_SHAPES(SHAPE(objects_)))
#define TALL_ROW(bytes_, pages_, objects_) ROW_OF(bytes_, pages_, objects_, FEW_SHAPES(SHAPE(objects_)))

const struct sizeclass sizeclass_table[1 << PW1_CLASS_BITS] = {
	SIZECLASSES(ROW)
	SHORT_SLABS(SHORT_ROW)
	TALL_SLABS(TALL_ROW)
};

#define RECIPROCAL(bytes_)                                                                         \
	((bytes_) > SIZECLASS_MANY_BYTES ? 1 : ((1u << SIZECLASS_POINT) + (bytes_) / 16 - 1) / ((bytes_) / 16))
#define LOOK_UP(bytes_, pages_, objects_)                                                          \
	{                                                                                          \
		.reciprocal = RECIPROCAL(bytes_),                                        \
		.cache = CLASS_##bytes_ * sizeof(struct cache),                                    \
	},

const struct sizeclass_row sizeclass_rows[SIZECLASS_ROWS] = {
	[(1 << PW1_CLASS_BITS) - 1] = {.reciprocal = 0}, /* rows from here on */
	SIZECLASSES(LOOK_UP)
	SHORT_SLABS(LOOK_UP)
	TALL_SLABS(LOOK_UP)
};

/* The last cache is no class's and stays empty: where a size of 0 is sent. */
#define NO_CLASS (CACHES - 1)
#define ONCE(class_) (class_) * sizeof(struct cache)
#define FOUR_TIMES(class_) ONCE(class_), ONCE(class_), ONCE(class_), ONCE(class_)
#define EIGHT_TIMES(class_) FOUR_TIMES(class_), FOUR_TIMES(class_)
#define SIXTEEN_TIMES(class_) EIGHT_TIMES(class_), EIGHT_TIMES(class_)
/* Sizes above one class, to the next. */
#define UP_TO(bytes_, below_) [(below_) / 16 + 1 ... (bytes_) / 16] = ONCE(CLASS_##bytes_)
#define EIGHT_CLASSES(times_, class_)                                                              \
	times_(class_), times_((class_) + 1), times_((class_) + 2), times_((class_) + 3),          \
		times_((class_) + 4), times_((class_) + 5), times_((class_) + 6),                  \
		times_((class_) + 7)

const uint16_t sizeclass_caches_by_size[SIZECLASS_TABLE_BYTES / 16 + 1] = {
	ONCE(NO_CLASS),
	EIGHT_CLASSES(ONCE, 0),
	EIGHT_CLASSES(ONCE, 8),
	EIGHT_CLASSES(ONCE, 16),
	EIGHT_CLASSES(ONCE, 24),	  /* to 512 bytes in sixteens */
	EIGHT_CLASSES(FOUR_TIMES, 32),	  /* to 1 KiB */
	EIGHT_CLASSES(EIGHT_TIMES, 40),	  /* to 2 KiB */
	EIGHT_CLASSES(SIXTEEN_TIMES, 48), /* to 4 KiB */
	UP_TO(4672, 4096),
	UP_TO(5120, 4672),
	UP_TO(5440, 5120),
	UP_TO(5952, 5440),
	UP_TO(6528, 5952),
	UP_TO(6976, 6528),
	UP_TO(7424, 6976),
	UP_TO(8192, 7424),
	UP_TO(9344, 8192),
	UP_TO(10240, 9344),
	UP_TO(10880, 10240),
	UP_TO(11648, 10880),
	UP_TO(12288, 11648),
	UP_TO(13632, 12288),
	UP_TO(14336, 13632),
	UP_TO(16384, 14336),
	UP_TO(18688, 16384),
	UP_TO(20480, 18688),
	UP_TO(21824, 20480),
	UP_TO(22912, 21824),
	UP_TO(24576, 22912),
	UP_TO(27264, 24576),
	UP_TO(28672, 27264),
	UP_TO(32768, 28672),
	UP_TO(36864, 32768),
	UP_TO(40960, 36864),
	UP_TO(45056, 40960),
	UP_TO(49152, 45056),
	UP_TO(53248, 49152),
	UP_TO(57344, 53248),
	UP_TO(61440, 57344),
	UP_TO(65536, 61440),
};

void sizeclass_copy(struct sizeclass_tables *to)
{
	for (uint32_t row = 0; row < SIZECLASS_ROWS; row++) {
		uint32_t kind = row - sizeclass_row(0);

		to->reciprocals[row] = sizeclass_rows[row].reciprocal;
		if (kind < KINDS && sizeclass_table[kind].bytes <= SIZECLASS_MANY_BYTES)
			to->reciprocals[row] = UINT32_MAX / (sizeclass_table[kind].bytes / 8) + 1;
		to->caches[row] = (uint16_t)sizeclass_rows[row].cache;
	}
	memcpy(to->caches_by_size, sizeclass_caches_by_size, sizeof(to->caches_by_size));
}
