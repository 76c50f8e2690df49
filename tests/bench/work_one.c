/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_one.c - workloads of one thread.
 */
#include "work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- pairs: allocate, touch, free ---- */

static ALWAYS_INLINE void pair_batch(struct run *r, void *state, size_t n, bool handle)
{
	const struct peer_ops *p = r->peer;
	size_t size = *(size_t *)state;

	for (size_t i = 0; i < n; i++) {
		peer_ref ref = work_alloc(p, size);

		work_touch(p, ref, handle);
		p->free(ref);
	}
}
BOTH_FORMS(pair_batch)

static ALWAYS_INLINE void pages_batch(struct run *r, void *state, size_t n, bool handle)
{
	const struct peer_ops *p = r->peer;
	size_t size = *(size_t *)state;

	for (size_t i = 0; i < n; i++) {
		peer_ref ref = work_alloc(p, size);

		work_touch_pages(p, ref, size, handle);
		p->free(ref);
	}
}
BOTH_FORMS(pages_batch)

static void bare_batch(struct run *r, void *state, size_t n)
{
	const struct peer_ops *p = r->peer;
	size_t size = *(size_t *)state;

	for (size_t i = 0; i < n; i++)
		p->free(work_alloc(p, size));
}

/* A program has other objects live: some of the same size, so that no peer measures an empty heap. */
static void other_objects(struct run *r, size_t size)
{
	int n = size > 65536 ? 4 : 100;

	for (int i = 0; i < n; i++)
		work_touch(r->peer, work_alloc(r->peer, size), r->peer->ptr);
}

static int pair(struct run *r, batch_fn *batch)
{
	size_t size = (size_t)r->work->arg;

	other_objects(r, size);
	work_emit("ns", work_steady(r, batch, &size));
	return 0;
}

int work_pair(struct run *r)
{
	return pair(r, FORM(r, pair_batch));
}

int work_pair_pages(struct run *r)
{
	return pair(r, FORM(r, pages_batch));
}

int work_pair_bare(struct run *r)
{
	return pair(r, bare_batch);
}

/* ---- a thousand objects, then all freed, in three orders ---- */

#define ORDER_MAX 1000u

struct order {
	peer_ref refs[ORDER_MAX];
	uint32_t free_at[ORDER_MAX];
};

/* n counts pairs, in rounds of ORDER_MAX; a smaller rest is a smaller round. */
static ALWAYS_INLINE void order_batch(struct run *r, void *state, size_t n, bool handle)
{
	const struct peer_ops *p = r->peer;
	struct order *s = state;

	for (size_t done = 0; done < n; done += ORDER_MAX) {
		for (size_t i = 0; i < ORDER_MAX; i++) {
			s->refs[i] = work_alloc(p, 128);
			work_touch(p, s->refs[i], handle);
		}
		for (size_t i = 0; i < ORDER_MAX; i++)
			p->free(s->refs[s->free_at[i]]);
	}
}
BOTH_FORMS(order_batch)

/* work_steady() divides by powers of two: whole rounds are counted here. */
static ALWAYS_INLINE void order_rounds(struct run *r, void *state, size_t n)
{
	FORM(r, order_batch)(r, state, n * ORDER_MAX);
}

static void order_shuffle(struct order *s, uint64_t seed)
{
	uint64_t random = seed;

	for (uint32_t i = ORDER_MAX - 1; i > 0; i--) {
		uint32_t j = work_range(&random, 0, i), t = s->free_at[i];

		s->free_at[i] = s->free_at[j];
		s->free_at[j] = t;
	}
}

int work_order(struct run *r)
{
	static struct order s;

	r->seconds /= 3;
	for (uint32_t i = 0; i < ORDER_MAX; i++)
		s.free_at[i] = i;
	work_emit("fifo", work_steady(r, order_rounds, &s) / ORDER_MAX);
	for (uint32_t i = 0; i < ORDER_MAX; i++)
		s.free_at[i] = ORDER_MAX - 1 - i;
	work_emit("lifo", work_steady(r, order_rounds, &s) / ORDER_MAX);
	order_shuffle(&s, WORK_SEED);
	work_emit("shuffled", work_steady(r, order_rounds, &s) / ORDER_MAX);
	return 0;
}

/* ---- random replace ---- */

static ALWAYS_INLINE void replace_batch(struct run *r, void *state, size_t n, bool handle)
{
	replace_some(r->peer, state, n, true, handle);
}
BOTH_FORMS(replace_batch)

static void replace_bare_batch(struct run *r, void *state, size_t n)
{
	replace_some(r->peer, state, n, false, false);
}

static int replace(struct run *r, size_fn *size, batch_fn *batch)
{
	uint32_t slots = r->tiny ? 64 : (uint32_t)r->work->arg;
	struct replace s;
	int e = replace_init(&s, r->peer, slots, size, WORK_SEED);

	if (e)
		return e;
	batch(r, &s, 2 * slots); /* until the heap is as it will stay, however slow that is */
	work_emit("ns", work_steady(r, batch, &s));
	replace_fini(&s, r->peer);
	return 0;
}

int work_replace(struct run *r)
{
	return replace(r, work_size_16_1024, FORM(r, replace_batch));
}

int work_replace_bare(struct run *r)
{
	return replace(r, work_size_16_1024, replace_bare_batch);
}

int work_logmix(struct run *r)
{
	return replace(r, work_size_logmix, FORM(r, replace_batch));
}

/* ---- many objects, then all freed: the first round in a fresh process is the cold one ---- */

struct bulk {
	peer_ref *refs;
	uint32_t *sizes;
	size_t n;
};

static ALWAYS_INLINE void bulk_round(const struct peer_ops *p, struct bulk *s, double *alloc_ns,
				     double *free_ns, bool handle)
{
	uint64_t start = work_now_ns(), middle;

	for (size_t i = 0; i < s->n; i++) {
		s->refs[i] = work_alloc(p, s->sizes[i]);
		work_touch(p, s->refs[i], handle);
	}
	middle = work_now_ns();
	for (size_t i = 0; i < s->n; i++)
		p->free(s->refs[i]);
	*alloc_ns = (double)(middle - start) / (double)s->n;
	*free_ns = (double)(work_now_ns() - middle) / (double)s->n;
}

static void bulk_any(const struct peer_ops *p, struct bulk *s, double *alloc_ns, double *free_ns)
{
	if (p->ptr)
		bulk_round(p, s, alloc_ns, free_ns, true);
	else
		bulk_round(p, s, alloc_ns, free_ns, false);
}

static void bulk_emit(const char *name, double alloc_ns, double free_ns)
{
	char metric[32];

	work_emit(name, alloc_ns + free_ns);
	snprintf(metric, sizeof(metric), "%s_alloc", name);
	work_emit(metric, alloc_ns);
	snprintf(metric, sizeof(metric), "%s_free", name);
	work_emit(metric, free_ns);
}

#define BULK_ROUNDS 64

int work_bulk(struct run *r)
{
	size_t n = r->tiny ? 500 : (size_t)r->work->arg, count = 0;
	double allocs[BULK_ROUNDS], frees[BULK_ROUNDS];
	struct bulk s = { malloc(n * sizeof(peer_ref)), malloc(n * sizeof(uint32_t)), n };
	uint64_t random = WORK_SEED, end;

	if (!s.refs || !s.sizes)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		s.sizes[i] = work_range(&random, 1, 1024);
		s.refs[i] = 0; /* the driver's own page faults come now */
	}
	bulk_any(r->peer, &s, &allocs[0], &frees[0]);
	bulk_emit("cold", allocs[0], frees[0]);
	end = work_now_ns() + (uint64_t)(r->seconds * 1e9);
	while (count < 3 || (count < BULK_ROUNDS && work_now_ns() < end)) {
		bulk_any(r->peer, &s, &allocs[count], &frees[count]);
		count++;
	}
	bulk_emit("warm", work_median(allocs, count), work_median(frees, count));
	free(s.refs);
	free(s.sizes);
	return 0;
}
