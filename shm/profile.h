/* SPDX-License-Identifier: Apache-2.0 */
/*
 * profile.h - which calls live memory comes from. While an arena is profiled, one allocation in so many bytes is
 * sampled: each byte begins a sample with the same chance, independent of all others (a Poisson process, as tcmalloc
 * and Go's runtime sample), so that an object of s bytes is sampled with probability 1 - exp(-s / rate), and stands
 * for 1 / that many objects of its size. What is recorded lies in the arena and outlives its process:
 *
 *   modules   programs and libraries, by build-id and path, so that calls can be resolved when the process is gone
 *   sites     stacks of calls through them, each once
 *   samples   objects that were sampled; a handle that is stale says that the object is gone, so that a free costs
 *             nothing and is never missed
 *
 * All is index: it can be lost without loss to anything else. Tables have bounds, and what finds no room is counted.
 * A killed writer leaves an entry busy, which nobody shows, and anybody takes over once its client is gone.
 */
#ifndef SHM_PROFILE_H
#define SHM_PROFILE_H

#include "arena.h"

#define PROFILE_NONE UINT32_MAX
#define PROFILE_RATE_MIN 1024u /* bytes */
#define PROFILE_RATE_MAX (UINT64_C(1) << 40)

/* Mean bytes between samples; 0: the arena is not profiled. */
static inline uint64_t profile_rate(const struct arena *a)
{
	return atomic_load_explicit(&a->header->profile_rate, memory_order_relaxed);
}

/* 0: off. -EINVAL, -ENOMEM: no memory for the profile's area. Crash: before the last store it is as it was. */
int profile_set_rate(struct arena *a, uint64_t rate);
/* Memory for the tables, for whoever keeps stacks there: -ENOMEM. */
int profile_prepare(struct arena *a);

/* ---- writing: by clients ---- */

/* The module's number, listed if it is new; PROFILE_NONE: no room. path is kept from its end on if it is long. */
uint32_t profile_module(struct arena *a, const uint8_t *id, uint32_t id_bytes, const char *path);

static inline uint64_t profile_frame(uint32_t module, uint64_t offset)
{
	return (module == PROFILE_NONE ? 0 : (uint64_t)module + 1) << 48 | (offset & ((UINT64_C(1) << 48) - 1));
}

/* The number of a stack, listed if it is new; PROFILE_NONE: no room. Frames innermost first. */
uint32_t profile_site(struct arena *a, const uint64_t *frames, uint32_t count);
/* An object of this client has just been allocated, and sampled at that rate; frames innermost first. */
void profile_sample(struct arena *a, uint64_t handle, uint64_t size, uint64_t rate, const uint64_t *frames,
		    uint32_t count);
/* How many objects one of that size, sampled at that rate, stands for. */
double profile_weight(uint64_t size, uint64_t rate);
/* A thread's cache of a size class was empty, and got so many. Counts while the arena is profiled. */
void profile_refilled(struct arena *a, uint32_t class, uint32_t objects);
/* A call took so long. */
void profile_latency(struct arena *a, uint64_t ns);

/* ---- reading: by anyone, trusting nothing ---- */

/* One sampled object that is live. */
struct profile_object {
	uint64_t handle, size, rate, time_ns;
	uint32_t site, client, incarnation_low; /* of the owner at allocation */
	int32_t pid;
};
/* From *at on, which begins at 0: 1, 0 at the end. */
int profile_next(struct arena *a, uint32_t *at, struct profile_object *ret);

struct profile_stack {
	uint32_t count;
	uint32_t modules[PROFILE_FRAMES]; /* PROFILE_NONE: unknown */
	uint64_t offsets[PROFILE_FRAMES];
	uint64_t samples, bytes; /* of all that was ever allocated there; bytes estimated */
};
/* False: there is no such site. */
bool profile_stack(const struct arena *a, uint32_t site, struct profile_stack *ret);

struct profile_binary {
	uint8_t id[20];
	uint32_t id_bytes;
	char path[PROFILE_PATH_BYTES + 1];
};
bool profile_binary(const struct arena *a, uint32_t module, struct profile_binary *ret);

struct profile_totals {
	uint64_t rate, since_ns, samples, lost_samples, lost_sites, lost_modules, timed;
	double objects[CLASSES + 1], bytes[CLASSES + 1]; /* allocated, estimated */
	uint64_t refills[CLASSES + 1], refilled[CLASSES + 1]; /* of threads' caches, and objects that they got */
	uint64_t latencies[PROFILE_LATENCIES];
};
/* False: the arena was never profiled. */
bool profile_totals(const struct arena *a, struct profile_totals *ret);
/* The upper end of a bucket of latencies, in ns. */
uint64_t profile_latency_end(uint32_t bucket);
/* So many in a thousand were at most so long; 0: nothing was timed. */
uint64_t profile_latency_at(const struct profile_totals *t, double permille);

#endif
