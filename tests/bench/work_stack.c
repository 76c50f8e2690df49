/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_stack.c - temporary memory: many small objects and one reset; and what each road through shma_alloc() costs.
 */
#include "work.h"

#include <errno.h>
#include <shmalloc.h>
#include <stdlib.h>
#include <string.h>

#define ROUND 64u /* objects between two resets */

static inline void use(peer_ref ref)
{
	__asm__ volatile("" : : "r"(ref) : "memory");
}

/* n counts rounds in all of these. */
static void stack_rounds(struct run *r, void *state, size_t n)
{
	const struct peer_stack *s = r->peer->stack;
	size_t size = *(size_t *)state;

	while (n--) {
		uint64_t mark = s->mark();

		for (uint32_t i = 0; i < ROUND; i++)
			use(s->alloc(size));
		s->reset(mark);
	}
}

/* The same without a call. */
static void empty_rounds(struct run *r, void *state, size_t n)
{
	(void)r;
	while (n--)
		for (uint32_t i = 0; i < ROUND; i++)
			use(*(size_t *)state + i);
}

/* A mark, one object, a reset. */
static void single_rounds(struct run *r, void *state, size_t n)
{
	const struct peer_stack *s = r->peer->stack;
	size_t size = *(size_t *)state;

	while (n--) {
		uint64_t mark = s->mark();

		use(s->alloc(size));
		s->reset(mark);
	}
}

int work_stack(struct run *r)
{
	size_t size = (size_t)r->work->arg;
	double ns, empty;

	r->seconds /= 3;
	ns = work_steady(r, stack_rounds, &size) / ROUND;
	empty = work_steady(r, empty_rounds, &size) / ROUND;
	work_emit("ns", ns);
	work_emit("own", ns - empty);
	work_emit("single", work_steady(r, single_rounds, &size));
	return 0;
}

/* ---- roads: 16 objects, then all freed, the last first ---- */

#define SOME 16u

struct road {
	size_t size;
	unsigned flags;
};

static void flags_rounds(struct run *r, void *state, size_t n)
{
	const struct road *road = state;
	peer_ref refs[SOME];

	while (n--) {
		for (uint32_t i = 0; i < SOME; i++)
			refs[i] = r->peer->alloc_flags(road->size, road->flags);
		for (uint32_t i = SOME; i-- > 0;)
			r->peer->free(refs[i]);
	}
}

/* In a scope. Nothing is freed: the scope's end does that. */
static void scope_rounds(struct run *r, void *state, size_t n)
{
	const struct road *road = state;

	while (n--) {
		r->peer->scope->mark();
		for (uint32_t i = 0; i < SOME; i++)
			use(r->peer->alloc_flags(road->size, road->flags));
		r->peer->scope->reset(0);
	}
}

static void log_rounds(struct run *r, void *state, size_t n)
{
	static char record[SHMA_RECORD_MAX];
	const struct road *road = state;

	while (n--)
		for (uint32_t i = 0; i < SOME; i++)
			r->peer->log(record, road->size);
}

static void road(struct run *r, const char *name, batch_fn *batch, unsigned flags)
{
	struct road state = { .size = (size_t)r->work->arg, .flags = flags };

	work_emit(name, work_steady(r, batch, &state) / SOME);
}

int work_roads(struct run *r)
{
	r->seconds /= 4;
	road(r, "plain", flags_rounds, 0);
	road(r, "zero", flags_rounds, SHMA_ZERO);
	road(r, "shared", flags_rounds, SHMA_SHARED);
	road(r, "persist", flags_rounds, SHMA_PERSIST);
	road(r, "large", flags_rounds, SHMA_LARGE);
	road(r, "aligned", flags_rounds, SHMA_ALIGN(4096));
	road(r, "temp", scope_rounds, SHMA_TEMP);
	road(r, "outside", flags_rounds, SHMA_TEMP);
	road(r, "log", log_rounds, 0);
	return 0;
}
