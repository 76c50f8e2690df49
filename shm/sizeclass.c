/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each slab of several objects is the smallest of at least four pages and four objects, or of 256 objects,
 * that leaves at most 3 % of its bytes unused behind its last object; tests/unit/test_sizeclass.c computes it
 * anew.
 */
#include "sizeclass.h"

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
	X(832, 5, 24)                                                                              \
	X(896, 4, 18)                                                                              \
	X(960, 4, 17)                                                                              \
	X(1024, 4, 16)                                                                             \
	X(1152, 4, 14)                                                                             \
	X(1280, 5, 16)                                                                             \
	X(1408, 6, 17)                                                                             \
	X(1536, 5, 13)                                                                             \
	X(1664, 5, 12)                                                                             \
	X(1792, 4, 9)                                                                              \
	X(1920, 8, 17)                                                                             \
	X(2048, 4, 8)                                                                              \
	X(2304, 4, 7)                                                                              \
	X(2560, 5, 8)                                                                              \
	X(2816, 7, 10)                                                                             \
	X(3072, 6, 8)                                                                              \
	X(3328, 5, 6)                                                                              \
	X(3584, 7, 8)                                                                              \
	X(3840, 15, 16)                                                                            \
	X(4096, 4, 4)                                                                              \
	X(4608, 8, 7)                                                                              \
	X(5120, 5, 4)                                                                              \
	X(5632, 7, 5)                                                                              \
	X(6144, 6, 4)                                                                              \
	X(6656, 10, 6)                                                                             \
	X(7168, 7, 4)                                                                              \
	X(7680, 15, 8)                                                                             \
	X(8192, 8, 4)                                                                              \
	X(9216, 9, 4)                                                                              \
	X(10240, 10, 4)                                                                            \
	X(11264, 11, 4)                                                                            \
	X(12288, 12, 4)                                                                            \
	X(13312, 13, 4)                                                                            \
	X(14336, 14, 4)                                                                            \
	X(15360, 15, 4)                                                                            \
	X(16384, 16, 4)                                                                            \
	X(18432, 18, 4)                                                                            \
	X(20480, 20, 4)                                                                            \
	X(22528, 22, 4)                                                                            \
	X(24576, 24, 4)                                                                            \
	X(26624, 26, 4)                                                                            \
	X(28672, 28, 4)                                                                            \
	X(30720, 30, 4)                                                                            \
	X(32768, 32, 4)                                                                            \
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
/* clang-format on */

#define ROW(bytes_, pages_, objects_)                                                              \
	{                                                                                          \
		.bytes = (bytes_), .pages = (pages_), .objects = (objects_),                       \
		.shape = ((objects_) + 16) / 16,                                                   \
	},

#define RECIPROCAL(bytes_, pages_, objects_)                                                       \
	(objects_) == 1 ? 1 : ((1u << SIZECLASS_POINT) + (bytes_) / 16 - 1) / ((bytes_) / 16),

const struct sizeclass sizeclass_table[1 << PW1_CLASS_BITS] = { SIZECLASSES(ROW) };

const uint32_t sizeclass_reciprocals[SIZECLASS_ROWS] = {
	[(1 << PW1_CLASS_BITS) - 1] = 0, /* rows from here on */
	SIZECLASSES(RECIPROCAL)
};

/* The last cache is no class's and stays empty: where a size of 0 is sent. */
#define NO_CLASS (CACHES - 1)
#define ONCE(class_) (class_) * sizeof(struct cache)
#define FOUR_TIMES(class_) ONCE(class_), ONCE(class_), ONCE(class_), ONCE(class_)
#define EIGHT_TIMES(class_) FOUR_TIMES(class_), FOUR_TIMES(class_)
#define SIXTEEN_TIMES(class_) EIGHT_TIMES(class_), EIGHT_TIMES(class_)
#define TIMES_32(class_) SIXTEEN_TIMES(class_), SIXTEEN_TIMES(class_)
#define TIMES_64(class_) TIMES_32(class_), TIMES_32(class_)
#define TIMES_128(class_) TIMES_64(class_), TIMES_64(class_)
#define TIMES_256(class_) TIMES_128(class_), TIMES_128(class_)
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
	EIGHT_CLASSES(TIMES_32, 56),
	EIGHT_CLASSES(TIMES_64, 64),
	EIGHT_CLASSES(TIMES_128, 72), /* to 32 KiB */
	EIGHT_CLASSES(TIMES_256, 80), /* to 64 KiB */
};
