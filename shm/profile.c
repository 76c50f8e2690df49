/* SPDX-License-Identifier: Apache-2.0 */
#include "profile.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "clock.h"
#include "geometry.h"
#include "object.h"
#include "profile_inside.h"
#include "words.h"

#define PROBES 32u /* entries looked at for a free one */

int profile_prepare(struct arena *a)
{
	int err;

	if (atomic_load_explicit(&a->header->profile_ready, memory_order_acquire))
		return 0;
	err = arena_commit(a, a->g.profile, geometry_profile_bytes());
	if (err)
		return err;
	profile_header(a)->magic = PROFILE_MAGIC;
	/* Crash: before, there is memory that nobody looks at; after, an empty profile. PAIR(profile-ready) */
	atomic_store_explicit(&a->header->profile_ready, 1, memory_order_release);
	return 0;
}

int profile_set_rate(struct arena *a, uint64_t rate)
{
	struct profile_header *h = profile_header(a);
	int err = 0;

	if (rate && (rate < PROFILE_RATE_MIN || rate > PROFILE_RATE_MAX))
		return -EINVAL;
	if (rate)
		err = profile_prepare(a);
	if (err)
		return err;
	if (rate)
		atomic_store_explicit(&h->since_ns, clock_real(), memory_order_relaxed);
	atomic_store_explicit(&a->header->profile_rate, rate, memory_order_relaxed);
	return 0;
}

/* ---- entries ---- */

static uint64_t busy_word(const struct arena *a, uint64_t before)
{
	uint64_t own = atomic_load_explicit(client_word_at(a, a->client), memory_order_relaxed);

	return PROFILE_BUSY | (uint64_t)a->client << PROFILE_CLIENT_SHIFT |
	       (uint64_t)(client_word_incarnation(own) & 0xffff) << PROFILE_INCARNATION_SHIFT |
	       ((before >> PROFILE_CHANGE_SHIFT) + 1) << PROFILE_CHANGE_SHIFT;
}

/* Whoever made it busy is no more. */
static bool is_abandoned(const struct arena *a, uint64_t word)
{
	uint32_t client = profile_word_client(word);
	uint64_t owner;

	if (profile_word_state(word) != PROFILE_BUSY)
		return false;
	if (!client || client >= CLIENTS_MAX)
		return true;
	owner = atomic_load_explicit(client_word_at(a, client), memory_order_relaxed);
	return client_word_state(owner) != CLIENT_LIVE ||
	       (client_word_incarnation(owner) & 0xffff) != profile_word_incarnation(word);
}

/* Crash: from here on it is busy with us, shown to nobody, until profile_publish(); whoever comes after our death
 * takes it over. */
static bool seize(const struct arena *a, _Atomic uint64_t *word, uint64_t expected)
{
	return atomic_compare_exchange_strong_explicit(word, &expected, busy_word(a, expected),
						       memory_order_acq_rel, memory_order_relaxed);
}

/* PAIR(profile): the entry, then its word; read in the other order, and the word again. */
static void publish(_Atomic uint64_t *word)
{
	uint64_t busy = atomic_load_explicit(word, memory_order_relaxed);

	/* Crash: before, an abandoned entry; after, whole. */
	atomic_store_explicit(word, (busy & ~UINT64_C(3)) | PROFILE_READY, memory_order_release);
}

static uint64_t hash_bytes(const void *data, size_t len)
{
	const unsigned char *p = data;
	uint64_t sum = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
	return sum ^ sum >> 29;
}

static void count(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

/* ---- modules ---- */

static const char *tail_of(const char *path)
{
	size_t len = strlen(path);

	return len < PROFILE_PATH_BYTES ? path : path + (len - PROFILE_PATH_BYTES);
}

static bool module_is(const struct profile_module *m, uint64_t word, const uint8_t *id, uint32_t id_bytes,
		      const char *path)
{
	return profile_word_state(word) == PROFILE_READY && m->id_bytes == id_bytes &&
	       !memcmp(m->id, id, id_bytes) && !strncmp(m->path, path, PROFILE_PATH_BYTES);
}

uint32_t profile_module(struct arena *a, const uint8_t *id, uint32_t id_bytes, const char *path)
{
	struct profile_module *modules = profile_modules(a);
	uint64_t hash;

	if (id_bytes > sizeof(modules->id))
		id_bytes = sizeof(modules->id);
	path = tail_of(path);
	hash = hash_bytes(id, id_bytes) ^ hash_bytes(path, strlen(path));
	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t at = (uint32_t)((hash + i) % PROFILE_MODULES);
		struct profile_module *m = &modules[at];
		uint64_t word = atomic_load_explicit(&m->word, memory_order_acquire);

		if (module_is(m, word, id, id_bytes, path))
			return at;
		if ((word && !is_abandoned(a, word)) || !seize(a, &m->word, word))
			continue;
		m->id_bytes = id_bytes;
		memcpy(m->id, id, id_bytes);
		memset(m->path, 0, sizeof(m->path));
		memcpy(m->path, path, strlen(path));
		publish(&m->word);
		return at;
	}
	count(&profile_header(a)->lost_modules, 1);
	return PROFILE_NONE;
}

/* ---- sites ---- */

static bool site_is(const struct profile_site *s, uint64_t word, uint64_t hash, const uint64_t *frames, uint32_t n)
{
	return profile_word_state(word) == PROFILE_READY && s->hash == hash && s->count == n &&
	       !memcmp(s->frames, frames, n * sizeof(*frames));
}

/* Two that meet the same stack at once may list it twice. */
uint32_t profile_site(struct arena *a, const uint64_t *frames, uint32_t n)
{
	uint64_t hash = hash_bytes(frames, n * sizeof(*frames));

	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t at = (uint32_t)((hash + i) % PROFILE_SITES);
		struct profile_site *s = &profile_sites(a)[at];
		uint64_t word = atomic_load_explicit(&s->word, memory_order_acquire);

		if (site_is(s, word, hash, frames, n))
			return at;
		if ((word && !is_abandoned(a, word)) || !seize(a, &s->word, word))
			continue;
		s->hash = hash;
		s->count = n;
		memcpy(s->frames, frames, n * sizeof(*frames));
		atomic_store_explicit(&s->samples, 0, memory_order_relaxed);
		atomic_store_explicit(&s->bytes, 0, memory_order_relaxed);
		publish(&s->word);
		return at;
	}
	count(&profile_header(a)->lost_sites, 1);
	return PROFILE_NONE;
}

/* ---- samples ---- */

double profile_weight(uint64_t size, uint64_t rate)
{
	double part = rate ? (double)size / (double)rate : 1;

	return part > 0 ? -1 / expm1(-part) : 1;
}

static bool is_gone(struct arena *a, const struct profile_sample *s)
{
	uint32_t owner;

	return object_kind_of(a, atomic_load_explicit(&s->handle, memory_order_relaxed), &owner) == OBJECT_FREE;
}

static struct profile_sample *free_sample(struct arena *a, uint64_t handle)
{
	uint64_t hash = hash_bytes(&(uint64_t){handle_offset(handle)}, sizeof(uint64_t));

	for (uint32_t i = 0; i < PROBES; i++) {
		struct profile_sample *s = &profile_samples(a)[(hash + i) % PROFILE_SAMPLES];
		uint64_t word = atomic_load_explicit(&s->word, memory_order_acquire);
		bool free = profile_word_state(word) == PROFILE_READY ? is_gone(a, s)
								      : !word || is_abandoned(a, word);

		if (free && seize(a, &s->word, word))
			return s;
	}
	return NULL;
}

static void count_class(struct arena *a, uint64_t size, double weight)
{
	uint32_t class = size && size <= SIZECLASS_MAX_BYTES ? sizeclass_of(size) : CLASSES;
	struct profile_class *c = &profile_header(a)->classes[class];

	count(&c->objects_1024, (uint64_t)(weight * 1024));
	count(&c->bytes, (uint64_t)(weight * (double)size));
}

void profile_refilled(struct arena *a, uint32_t class, uint32_t objects)
{
	struct profile_class *c = &profile_header(a)->classes[class];

	if (!profile_rate(a))
		return;
	count(&c->refills, 1);
	count(&c->refilled, objects);
}

void profile_sample(struct arena *a, uint64_t handle, uint64_t size, uint64_t rate, const uint64_t *frames,
		    uint32_t n)
{
	struct profile_header *h = profile_header(a);
	double weight = profile_weight(size, rate);
	uint32_t site = profile_site(a, frames, n > PROFILE_FRAMES ? PROFILE_FRAMES : n);
	struct profile_sample *s = free_sample(a, handle);

	count(&h->samples, 1);
	count_class(a, size, weight);
	if (site != PROFILE_NONE) {
		count(&profile_sites(a)[site].samples, 1);
		count(&profile_sites(a)[site].bytes, (uint64_t)(weight * (double)size));
	}
	if (!s) {
		count(&h->lost_samples, 1);
		return;
	}
	atomic_store_explicit(&s->handle, handle, memory_order_relaxed);
	atomic_store_explicit(&s->size, size, memory_order_relaxed);
	atomic_store_explicit(&s->rate, rate, memory_order_relaxed);
	atomic_store_explicit(&s->time_ns, clock_real(), memory_order_relaxed);
	atomic_store_explicit(&s->site, site, memory_order_relaxed);
	atomic_store_explicit(&s->pid, getpid(), memory_order_relaxed);
	publish(&s->word);
}

/* ---- latencies: eight buckets to a doubling ---- */

static uint32_t latency_bucket(uint64_t ns)
{
	uint32_t top, bucket;

	if (ns < 8)
		return (uint32_t)ns;
	top = 63 - (uint32_t)__builtin_clzll(ns);
	bucket = (top - 2) * 8 + (uint32_t)(ns >> (top - 3) & 7);
	return bucket < PROFILE_LATENCIES ? bucket : PROFILE_LATENCIES - 1;
}

void profile_latency(struct arena *a, uint64_t ns)
{
	struct profile_header *h = profile_header(a);

	count(&h->latencies[latency_bucket(ns)], 1);
	count(&h->timed, 1);
}
