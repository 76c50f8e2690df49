/* SPDX-License-Identifier: Apache-2.0 */
/* Where a reader begins, and its end: any, the consumer, one whose place is kept. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "ring_reading.h"
#include "stop_point.h"

static int become_consumer(struct ring_reader *r)
{
	struct arena *a = r->a;
	uint64_t word = a->client | (uint64_t)(uint32_t)gettid() << 12, seen = 0;

	if (a->readonly)
		return -EROFS;
	if (!a->client)
		return -EINVAL;
	while (!atomic_compare_exchange_strong(&r->v.header->consumer, &seen, word))
		if (ring_consumer_lives(a, seen))
			return -EBUSY;
	STOP_POINT(ring_consuming);
	r->consumer = word;
	r->thread = pthread_self();
	return 0;
}

static int allocate(struct ring_reader *r)
{
	r->sources = calloc(r->v.blocks, sizeof(*r->sources));
	r->active = calloc(r->v.blocks, sizeof(*r->active));
	r->heap = calloc(r->v.blocks, sizeof(*r->heap));
	return r->sources && r->active && r->heap ? 0 : -ENOMEM;
}

static void begin(struct ring_reader *r, enum ring_begin begin)
{
	r->tickets = atomic_load_explicit(&r->v.header->tickets, memory_order_acquire);
	r->dropped = atomic_load_explicit(&r->v.header->dropped, memory_order_relaxed);
	for (uint32_t i = 0; i < r->v.blocks; i++) {
		struct ring_begun from;
		enum ring_look look;

		if (r->kept.p)
			from = ring_position_begun(&r->kept, i);
		look = ring_source_begin(&r->sources[i], &r->v, i, begin, r->kept.p ? &from : NULL, r->a,
					 &r->lost);
		if (look == RING_LOOK_NEW)
			ring_reading_list(r, i);
		r->rescan |= look == RING_LOOK_RESET;
		/* A consumer that begins elsewhere than where the last one was: back as well as forth. */
		if (r->consumer && begin != RING_BEGIN_RESUME)
			atomic_store_explicit(&r->v.heads[i].consumed, r->sources[i].done,
					      memory_order_release);
	}
}

static void discard(struct ring_reader *r)
{
	for (uint32_t i = 0; i < r->window_count; i++)
		free(r->windows[i]);
	for (uint32_t i = 0; r->sources && i < r->v.blocks; i++)
		free(r->sources[i].window);
	free(r->sources);
	free(r->active);
	free(r->heap);
	free(r->buffer);
	free(r);
}

/* As far as all readers go: what is not yet begun. */
static int prepare(struct arena *a, struct ring_reader **ret)
{
	struct ring_reader *r = calloc(1, sizeof(*r));
	int result;

	if (!r)
		return -ENOMEM;
	r->a = a;
	r->grain = UINT64_MAX;
	r->pid = getpid();
	result = ring_view(a, &r->v) ? allocate(r) : -EUCLEAN;
	if (result)
		discard(r);
	else
		*ret = r;
	return result;
}

static bool from_valid(unsigned flags)
{
	return flags != (RING_FROM_OLDEST | RING_FROM_NOW) && !(flags & ~(RING_FROM_OLDEST | RING_FROM_NOW));
}

int ring_reader_open(struct arena *a, struct ring_reader **ret, unsigned flags)
{
	unsigned from = flags & ~RING_CONSUMER;
	struct ring_reader *r;
	int result;

	if (!from_valid(from))
		return -EINVAL;
	result = prepare(a, &r);
	if (!result && flags & RING_CONSUMER) {
		result = become_consumer(r);
		if (result)
			discard(r);
	}
	if (result)
		return result;
	begin(r, from == RING_FROM_NOW		    ? RING_BEGIN_NOW :
		 from == 0 && flags & RING_CONSUMER ? RING_BEGIN_RESUME :
						      RING_BEGIN_OLDEST);
	*ret = r;
	return 0;
}

/* One that begins somewhere has all that is before for nothing to it; what was lost while it began is not lost. */
static void begin_new(struct ring_reader *r, unsigned flags)
{
	struct ring_place_kept kept = r->kept;

	r->kept.p = NULL;
	begin(r, flags == RING_FROM_NOW ? RING_BEGIN_NOW : RING_BEGIN_OLDEST);
	r->kept = kept;
	ring_position_init(&r->kept, r->sources, r->dropped);
}

/* And what was dropped meanwhile. */
static void begin_again(struct ring_reader *r)
{
	uint64_t untold = ring_position_resume(&r->kept);
	uint64_t accounted = atomic_load_explicit(&r->kept.p->dropped, memory_order_relaxed);

	begin(r, RING_BEGIN_RESUME);
	r->lost += untold;
	if (r->dropped > accounted)
		r->lost += r->dropped - accounted;
	ring_position_drop(&r->kept, r->dropped);
}

int ring_reader_open_at(struct arena *a, struct ring_reader **ret, void *position, size_t bytes, unsigned flags)
{
	struct ring_reader *r;
	int result;

	if (a->readonly)
		return -EROFS;
	if (!from_valid(flags))
		return -EINVAL;
	result = prepare(a, &r);
	if (result)
		return result;
	result = ring_position_claim(a, &r->v, position, bytes, &r->kept);
	if (result) {
		discard(r);
		return result;
	}
	if (r->kept.p->magic)
		begin_again(r);
	else
		begin_new(r, flags);
	*ret = r;
	return 0;
}

void ring_reader_close(struct ring_reader *r)
{
	if (!r)
		return;
	/* A forked child's copy is neither consumer nor the reader of a position. */
	if (r->pending && r->pid == getpid())
		ring_reading_pass(r);
	if (r->kept.p && r->pid == getpid())
		ring_position_release(&r->kept);
	if (r->consumer && r->pid == getpid()) {
		atomic_compare_exchange_strong(&r->v.header->consumer, &r->consumer, 0);
		STOP_POINT(ring_consumer_gone);
		ring_room_made(r->v.bell);
	}
	discard(r);
}
