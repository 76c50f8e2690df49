/* SPDX-License-Identifier: Apache-2.0 */
/* The profile, read: by whoever may map the arena, while clients write it. */
#include <string.h>

#include "geometry.h"
#include "object.h"
#include "profile.h"
#include "profile_inside.h"

/* Whether there is one, and its memory. */
static bool is_there(const struct arena *a)
{
	/* PAIR(profile-ready) */
	return atomic_load_explicit(&a->header->profile_ready, memory_order_acquire) == 1 &&
	       arena_readable(a, a->g.profile, geometry_profile_bytes()) &&
	       profile_header(a)->magic == PROFILE_MAGIC;
}

/* PAIR(profile): the word, the entry, the word again. */
static uint64_t begin(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_acquire);
}

static bool still(const _Atomic uint64_t *word, uint64_t was)
{
	atomic_thread_fence(memory_order_acquire);
	return profile_word_state(was) == PROFILE_READY &&
	       atomic_load_explicit(word, memory_order_relaxed) == was;
}

static bool read_sample(struct arena *a, const struct profile_sample *s, struct profile_object *ret)
{
	uint64_t word = begin(&s->word);
	uint32_t owner;

	if (profile_word_state(word) != PROFILE_READY)
		return false;
	*ret = (struct profile_object){
		.handle = atomic_load_explicit(&s->handle, memory_order_relaxed),
		.size = atomic_load_explicit(&s->size, memory_order_relaxed),
		.rate = atomic_load_explicit(&s->rate, memory_order_relaxed),
		.time_ns = atomic_load_explicit(&s->time_ns, memory_order_relaxed),
		.site = atomic_load_explicit(&s->site, memory_order_relaxed),
		.pid = atomic_load_explicit(&s->pid, memory_order_relaxed),
		.client = profile_word_client(word),
		.incarnation_low = profile_word_incarnation(word),
	};
	return still(&s->word, word) && ret->size && ret->rate &&
	       object_kind_of(a, ret->handle, &owner) != OBJECT_FREE;
}

int profile_next(struct arena *a, uint32_t *at, struct profile_object *ret)
{
	if (*at == 0 && !is_there(a))
		*at = PROFILE_SAMPLES;
	while (*at < PROFILE_SAMPLES)
		if (read_sample(a, &profile_samples(a)[(*at)++], ret))
			return 1;
	return 0;
}

bool profile_stack(const struct arena *a, uint32_t site, struct profile_stack *ret)
{
	const struct profile_site *s = &profile_sites(a)[site];
	uint64_t frames[PROFILE_FRAMES], word;

	if (site >= PROFILE_SITES || !is_there(a))
		return false;
	word = begin(&s->word);
	ret->count = s->count;
	memcpy(frames, s->frames, sizeof(frames));
	ret->samples = atomic_load_explicit(&s->samples, memory_order_relaxed);
	ret->bytes = atomic_load_explicit(&s->bytes, memory_order_relaxed);
	if (!still(&s->word, word) || ret->count > PROFILE_FRAMES)
		return false;
	for (uint32_t i = 0; i < ret->count; i++) {
		uint64_t module = frames[i] >> 48;

		ret->modules[i] = module && module <= PROFILE_MODULES ? (uint32_t)module - 1 : PROFILE_NONE;
		ret->offsets[i] = frames[i] & ((UINT64_C(1) << 48) - 1);
	}
	return true;
}

bool profile_binary(const struct arena *a, uint32_t module, struct profile_binary *ret)
{
	const struct profile_module *m = &profile_modules(a)[module];
	uint64_t word;

	if (module >= PROFILE_MODULES || !is_there(a))
		return false;
	memset(ret, 0, sizeof(*ret));
	word = begin(&m->word);
	ret->id_bytes = m->id_bytes;
	memcpy(ret->id, m->id, sizeof(ret->id));
	memcpy(ret->path, m->path, PROFILE_PATH_BYTES);
	ret->path[PROFILE_PATH_BYTES] = '\0';
	return still(&m->word, word) && ret->id_bytes <= sizeof(ret->id);
}

static uint64_t load(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

bool profile_totals(const struct arena *a, struct profile_totals *ret)
{
	const struct profile_header *h = profile_header(a);

	/* What is there may be stacks of debug arenas alone. */
	if (!is_there(a) || !load(&h->since_ns))
		return false;
	*ret = (struct profile_totals){
		.rate = profile_rate(a),
		.since_ns = load(&h->since_ns),
		.samples = load(&h->samples),
		.lost_samples = load(&h->lost_samples),
		.lost_sites = load(&h->lost_sites),
		.lost_modules = load(&h->lost_modules),
		.timed = load(&h->timed),
	};
	for (uint32_t i = 0; i <= CLASSES; i++) {
		ret->objects[i] = (double)load(&h->classes[i].objects_1024) / 1024;
		ret->bytes[i] = (double)load(&h->classes[i].bytes);
		ret->refills[i] = load(&h->classes[i].refills);
		ret->refilled[i] = load(&h->classes[i].refilled);
	}
	for (uint32_t i = 0; i < PROFILE_LATENCIES; i++)
		ret->latencies[i] = load(&h->latencies[i]);
	return true;
}

uint64_t profile_latency_end(uint32_t bucket)
{
	uint32_t top = bucket / 8 + 2;

	return bucket < 8 ? bucket : (UINT64_C(8) + bucket % 8 + 1) << (top - 3);
}

uint64_t profile_latency_at(const struct profile_totals *t, double permille)
{
	double all = 0, sum = 0;

	for (uint32_t i = 0; i < PROFILE_LATENCIES; i++)
		all += (double)t->latencies[i];
	for (uint32_t i = 0; i < PROFILE_LATENCIES; i++) {
		sum += (double)t->latencies[i];
		if (all > 0 && sum * 1000 >= all * permille)
			return profile_latency_end(i);
	}
	return 0;
}
