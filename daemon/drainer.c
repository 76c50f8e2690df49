/* SPDX-License-Identifier: Apache-2.0 */
#include "drainer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "draining.h"
#include "guard.h"
#include "msg.h"

#define BATCH_BYTES   (UINT64_C(1) << 21)
#define FRESH_NS      (20 * MS) /* since there was something: the next look comes soon … */
#define SOON_NS	      MS
#define WHILE_NS      (10 * MS)	 /* … then after a while, until the bell can be waited for */
#define RECENT_NS     SECOND	 /* where it cannot: then rarely */
#define RARE_NS	      (50 * MS)
#define ASLEEP_NS     (5 * SECOND) /* for what a writer has left that was killed before it rang */
#define TELL_NS	      (10 * SECOND) /* between messages of losses */

struct drainer drainer;

/* ---- what next ---- */

static void tell_losses(struct draining *p)
{
	uint64_t now = clock_now();

	if (p->lost == p->lost_told || now < p->tell_at)
		return;
	msg_warning("arena %s: %llu log records were overwritten before they were written",
		    p->store.name, (unsigned long long)(p->lost - p->lost_told));
	p->lost_told = p->lost;
	p->tell_at = now + TELL_NS;
}

static void set_timer(struct draining *p, uint64_t at)
{
	uint64_t now = clock_now();

	if (!p->timer.pending) {
		p->timer_at = at;
		loop_timer(drainer.loop, &p->timer, at > now ? at - now : 0);
	} else if (at < p->timer_at) {
		loop_cancel(drainer.loop, &p->timer); /* when that is done all is looked at anew */
	}
}

static void look_soon(struct draining *p, uint64_t now)
{
	uint64_t idle = now - p->fresh_at;
	uint64_t at = now + (idle < FRESH_NS ? SOON_NS : idle < RECENT_NS ? WHILE_NS : RARE_NS);

	/* Nothing new for a while: what open blocks have was due before. */
	if (p->open_at > now && p->open_at < at)
		at = p->open_at;
	set_timer(p, at);
}

static void earlier(uint64_t *at, uint64_t other)
{
	if (other < *at)
		*at = other;
}

/* What becomes due though no record comes. */
static uint64_t next_due(const struct draining *p, uint64_t now)
{
	uint64_t at = now + ASLEEP_NS;

	if (p->unsynced && drainer.config->log_fsync == CONFIG_FSYNC_INTERVAL)
		earlier(&at, p->sync_at);
	if (p->lost != p->lost_told)
		earlier(&at, p->tell_at);
	if (p->store.fd >= 0 && drainer.config->log_segment_age &&
	    p->tail > sizeof(struct segment_header))
		earlier(&at, p->store.opened_ns + drainer.config->log_segment_age * SECOND + 1);
	/* It may wait for something else that is under way. */
	return at > now + WHILE_NS ? at : now + WHILE_NS;
}

/* Nothing costs anything until a writer rings. */
static void wait_for_records(struct draining *p, uint64_t now)
{
	if (now - p->fresh_at < FRESH_NS || !p->swept || p->used) {
		look_soon(p, now);
		return;
	}
	if (!drain_run(p, drain_ring_arm))
		return;
	if (p->used || !p->swept) {
		set_timer(p, now);
		return;
	}
	if (p->rings && bells_wait(drainer.loop, &p->bell, p->rings, p->rings_value))
		set_timer(p, next_due(p, now));
	else
		look_soon(p, now);
}

static void rung(struct bell *bell)
{
	struct draining *p = (struct draining *)((char *)bell - offsetof(struct draining, bell));

	loop_cancel(drainer.loop, &p->timer); /* when that is done it is gone on */
}

/* An old segment ends, and is compressed, though nothing follows. */
static void turn_or_wait(struct draining *p, uint64_t now)
{
	if (p->store.fd >= 0 && !drain_is_busy(p) && drain_is_time_to_turn(p, now, 0))
		drain_turn(p, true);
	else
		wait_for_records(p, now);
}

static bool may_begin(struct draining *p, uint64_t now)
{
	if (!p->served->arena.client) {
		set_timer(p, now + SECOND);
		return false;
	}
	if (p->down && now < p->retry_at) {
		set_timer(p, p->retry_at);
		return false;
	}
	if (p->consumer || p->down)
		return true;
	if (!drain_run(p, drain_ring_consume))
		return false;
	if (!p->consumer)
		set_timer(p, now + SECOND);
	else
		drain_tidy(p);
	return p->consumer;
}

/* There is nothing that would have to be written. */
static void rest(struct draining *p, uint64_t now)
{
	tell_losses(p);
	if (p->down) { /* nothing to try it with */
		drain_recovered(p);
		set_timer(p, now + SOON_NS);
	} else if (!drain_mark(p, now)) {
		turn_or_wait(p, now);
	}
}

void drain_go_on(struct draining *p)
{
	uint64_t now = clock_now();

	if (p->phase != FLYING || p->error)
		return;
	drain_sync_now_and_then(p, now);
	if (!may_begin(p, now))
		return;
	/* Whether the disk takes anything again is seen from the new segment, before blocks are held; and from
	 * one batch, before there are more. */
	if (p->down && p->turn) {
		if (!drain_is_busy(p))
			drain_turn(p, false);
		return;
	}
	for (uint32_t before = FLIGHTS; p->used < (p->down ? 1 : FLIGHTS) && p->used != before;) {
		before = p->used;
		if (!drain_run(p, drain_ring_gather))
			return;
		if (p->used != before)
			drain_launch(p, now);
	}
	if (!p->used)
		rest(p, now);
	else
		drain_launch(p, now);
}

static void timer_done(struct loop_op *op, int result)
{
	struct draining *p = (struct draining *)((char *)op - offsetof(struct draining, timer));

	(void)result;
	if (p->served)
		drain_go_on(p);
	else
		drain_free_if_done(p);
}

/* ---- arenas ---- */

static bool allocate(struct draining *p)
{
	uint32_t block_bytes, blocks;

	ring_drain_shape(p->ring, &block_bytes, &blocks);
	if (store_init(&p->store, drainer.config->log_dir, &p->served->record, block_bytes, blocks))
		return false;
	p->found.blocks = calloc(blocks, sizeof *p->found.blocks);
	p->batch_bytes = (uint64_t)block_bytes * blocks / 4 / FLIGHTS;
	if (p->batch_bytes > BATCH_BYTES)
		p->batch_bytes = BATCH_BYTES;
	for (uint32_t i = 0; i < FLIGHTS; i++) {
		p->flights[i].batch = calloc(1, sizeof *p->flights[i].batch);
		if (!p->flights[i].batch)
			return false;
	}
	return p->found.blocks;
}

static struct draining *make(struct served *s)
{
	struct draining *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->served = s;
	p->store.fd = p->closed_fd = -1;
	p->closed.done = drain_closed_done;
	p->disk.done = drain_disk_done;
	for (uint32_t i = 0; i < FLIGHTS; i++) {
		p->flights[i].draining = p;
		p->flights[i].op.done = drain_write_done;
	}
	p->timer.done = timer_done;
	p->bell.rung = rung;
	p->sync.done = drain_sync_done;
	p->tidy.done = drain_tidy_done;
	return p;
}

void drainer_adopt(struct served *s)
{
	struct draining *p;

	if (!drainer.config || !drainer.config->log_dir[0])
		return;
	p = s->draining = make(s);
	if (!p || guard_run(&s->arena, drain_ring_open, p) || !p->ring || !allocate(p) ||
	    guard_run(&s->arena, drain_ring_look, p)) {
		msg_warning("arena %s: its log is not written to the disk: %s", s->record.name,
			    p && !p->ring ? "there is none that makes sense" : "no memory");
		drainer_forget(s, true);
		return;
	}
	drain_scan(p);
}

void drainer_forget(struct served *s, bool usable)
{
	struct draining *p = s->draining;

	if (!p)
		return;
	bells_leave(&p->bell);
	if (drain_settle(p, usable)) {
		drain_finish(p);
		guard_run(&s->arena, drain_ring_close, p);
	}
	drain_ring_abandon(p);
	if (p->down)
		store_abandon(&p->store);
	else
		store_close(&p->store, drainer.config->log_fsync != CONFIG_FSYNC_NEVER);
	s->draining = NULL;
	p->served = NULL;
	p->link = &drainer.forgotten;
	p->next_forgotten = drainer.forgotten;
	if (p->next_forgotten)
		p->next_forgotten->link = &p->next_forgotten;
	drainer.forgotten = p;
	loop_cancel(drainer.loop, &p->timer);
	drain_free_if_done(p);
}

void drainer_start(struct loop *loop, struct registry *registry, const struct config *config)
{
	drainer.loop = loop;
	drainer.registry = registry;
	drainer.config = config;
}

int drainer_trouble(const struct served *s, uint64_t *since_ns)
{
	const struct draining *p = s->draining;

	if (!p || !p->down)
		return 0;
	*since_ns = p->down_ns;
	return p->down;
}
