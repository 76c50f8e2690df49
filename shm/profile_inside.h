/* SPDX-License-Identifier: Apache-2.0 */
/* profile_inside.h - where the profile's tables lie, for its own files. */
#ifndef SHM_PROFILE_INSIDE_H
#define SHM_PROFILE_INSIDE_H

#include "arena.h"

static inline struct profile_header *profile_header(const struct arena *a)
{
	return arena_at(a, a->g.profile);
}

static inline struct profile_module *profile_modules(const struct arena *a)
{
	return arena_at(a, a->g.profile + 2 * PAGE_SIZE);
}

static inline struct profile_site *profile_sites(const struct arena *a)
{
	return (struct profile_site *)(profile_modules(a) + PROFILE_MODULES);
}

static inline struct profile_sample *profile_samples(const struct arena *a)
{
	return (struct profile_sample *)(profile_sites(a) + PROFILE_SITES);
}

static inline enum profile_state profile_word_state(uint64_t word)
{
	return (enum profile_state)(word & 3);
}

static inline uint32_t profile_word_client(uint64_t word)
{
	return (uint32_t)(word >> PROFILE_CLIENT_SHIFT & 0xfff);
}

static inline uint32_t profile_word_incarnation(uint64_t word)
{
	return (uint32_t)(word >> PROFILE_INCARNATION_SHIFT & 0xffff);
}

#endif
