/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "draining.h"
#include "guard.h"
#include "msg.h"

bool drain_run(struct draining *p, void (*work)(void *user))
{
	struct served *s = p->served;

	if (guard_run(&s->arena, work, p) == 0)
		return true;
	registry_refuse(drainer.registry, s, -EUCLEAN);
	return false;
}

void drain_ring_open(void *user)
{
	struct draining *p = user;

	if (ring_drain_open(&p->served->arena, &p->ring))
		p->ring = NULL;
}

void drain_ring_look(void *user)
{
	struct draining *p = user;

	for (uint32_t i = 0; i < p->store.ring.blocks; i++)
		p->found.blocks[i].consumed = (uint32_t)ring_drain_consumed(p->ring, i);
}

void drain_ring_begin(void *user)
{
	struct draining *p = user;

	for (uint32_t i = 0; p->found.blocks && i < p->store.ring.blocks; i++)
		if (p->found.blocks[i].any)
			ring_drain_note(p->ring, &p->found.blocks[i].last);
	free(p->found.blocks);
	p->found.blocks = NULL;
}

void drain_ring_consume(void *user)
{
	struct draining *p = user;
	int err = ring_drain_consume(p->ring);

	p->consumer = err == 0;
	if (err == -EBUSY && !p->busy_told)
		msg_notice("arena %s: its log has another consumer: it is not written here",
			   p->store.name);
	p->busy_told = err == -EBUSY;
}

static void release_flights(struct draining *p, bool usable)
{
	for (uint32_t i = 0; i < FLIGHTS; i++) {
		struct flight *f = &p->flights[i];

		if (f->stage != EMPTY)
			ring_drain_release(p->ring, &f->batch->ring, usable);
		f->stage = EMPTY;
	}
	p->used = 0;
}

void drain_ring_let_go(void *user)
{
	release_flights(user, true);
}

void drain_ring_resign(void *user)
{
	struct draining *p = user;

	drain_ring_let_go(p);
	ring_drain_resign(p->ring);
	p->consumer = false;
}

/* What open blocks have becomes due again when all of it was gathered. */
void drain_ring_gather(void *user)
{
	struct draining *p = user;
	struct flight *f = drain_flight(p, p->used);
	struct ring_batch *b = &f->batch->ring;
	uint64_t now = clock_now();
	bool open = now >= p->open_at;
	uint64_t half = drainer.config->log_segment_size / 2;
	uint64_t most = p->batch_bytes < half ? p->batch_bytes : half;
	int n = ring_drain_gather(p->ring, b, most, open);

	if (open && b->bytes < most && b->count < RING_BATCH_PIECES / 2)
		p->open_at = now + drainer.config->log_drain_ms * MS;
	p->swept = open && n == 0;
	if (n <= 0)
		return;
	/* First of all it counts as held: its checksums may meet memory that is gone. */
	f->stage = GATHERED;
	p->used++;
	p->fresh_at = now;
	drain_batch_make(f->batch);
}

void drain_ring_arm(void *user)
{
	struct draining *p = user;

	p->rings = ring_drain_arm(p->ring, &p->rings_value);
	p->open_at = 0;
	drain_ring_gather(p);
}

/* The oldest. */
void drain_ring_written(void *user)
{
	struct draining *p = user;
	struct flight *f = drain_flight(p, 0);

	if (!p->consumer)
		drain_ring_consume(p);
	if (p->consumer)
		ring_drain_written(p->ring, &f->batch->ring);
	else
		ring_drain_release(p->ring, &f->batch->ring, true);
	f->stage = EMPTY;
	p->first = (p->first + 1) % FLIGHTS;
	p->used--;
	p->lost = ring_drain_lost(p->ring);
}

void drain_ring_close(void *user)
{
	struct draining *p = user;

	drain_ring_let_go(p);
	ring_drain_close(p->ring, true);
	p->ring = NULL;
}

/* Private memory only. */
void drain_ring_abandon(struct draining *p)
{
	if (!p->ring)
		return;
	release_flights(p, false);
	ring_drain_close(p->ring, false);
	p->ring = NULL;
}

