/* SPDX-License-Identifier: Apache-2.0 */
/* bits.h - runs of bits in a word. */
#ifndef SHM_BITS_H
#define SHM_BITS_H

#include <stdint.h>

/* The lowest n bits; of 64 and more, all. */
static inline uint64_t bits_low(uint64_t n)
{
	return n < 64 ? (UINT64_C(1) << n) - 1 : UINT64_MAX;
}

/* The lowest run of ones of a word that is not 0: where it begins; how long it is, in *length. */
static inline uint32_t bits_run(uint64_t bits, uint32_t *length)
{
	uint32_t from = (uint32_t)__builtin_ctzll(bits);
	uint64_t rest = ~(bits >> from);

	*length = rest ? (uint32_t)__builtin_ctzll(rest) : 64;
	return from;
}

#endif
