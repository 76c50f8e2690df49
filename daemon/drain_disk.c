/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "draining.h"
#include "guard.h"
#include "msg.h"

#define RETRY_MIN_NS  (100 * MS)
#define RETRY_MAX_NS  (5 * SECOND)

/* ---- the disk fails, and takes something again ---- */

/* A directory that was removed is made again at once; meanwhile writers wait as their policy says. */
static void fail(struct draining *p, int err)
{
	bool gone = err == -ENOENT && !p->down;

	if (!p->down)
		msg_error("arena %s: its log cannot be written to %s: %s%s", p->store.name, p->store.dir,
			  strerror(-err),
			  gone ? "" : "; writers go on, what they overwrite is counted");
	if (!p->down)
		p->down_ns = clock_real();
	p->retry_ns = gone ? 0 : 2 * p->retry_ns;
	if (!gone && p->retry_ns < RETRY_MIN_NS)
		p->retry_ns = RETRY_MIN_NS;
	if (p->retry_ns > RETRY_MAX_NS)
		p->retry_ns = RETRY_MAX_NS;
	p->down = err;
	p->error = 0;
	p->turn = true;
	p->retry_at = clock_now() + p->retry_ns;
	if (drain_run(p, gone ? drain_ring_let_go : drain_ring_resign))
		drain_go_on(p);
}

void drain_recovered(struct draining *p)
{
	if (p->down)
		msg_notice("arena %s: its log is written again", p->store.name);
	p->down = 0;
	p->retry_ns = 0;
	p->open_at = 0;
}

/* ---- segments that are closed ---- */

static int tidy_work(struct loop_op *op)
{
	struct draining *p = (struct draining *)((char *)op - offsetof(struct draining, tidy));

	return store_tidy(p->dir, p->below, p->compress, p->retention);
}

/* The first segment that is not closed. */
static uint64_t first_open(const struct draining *p)
{
	return p->store.fd < 0 ? p->store.number + 1 : p->store.number;
}

void drain_tidy(struct draining *p)
{
	if (p->tidy.pending)
		return; /* the next time */
	memcpy(p->dir, p->store.dir, sizeof p->dir);
	p->below = first_open(p);
	p->compress = drainer.config->log_compress;
	p->retention = drainer.config->log_retention;
	loop_work(drainer.loop, &p->tidy, tidy_work, true);
}

/* ---- operations on the disk ---- */

static bool syncs_batches(void)
{
	return drainer.config->log_fsync == CONFIG_FSYNC_BATCH;
}

/* The closed one is synced while the next is being written; not more than one at a time. */
static int turn_work(struct loop_op *op)
{
	struct draining *p = (struct draining *)op;

	if (p->sync_closed && !p->closed.pending && !p->down && p->store.fd >= 0)
		p->closed_fd = fcntl(p->store.fd, F_DUPFD_CLOEXEC, 0);
	if (p->down)
		store_abandon(&p->store);
	else
		store_close(&p->store, p->sync_closed && p->closed_fd < 0);
	return p->only_close ? 0 : store_open(&p->store);
}

void drain_closed_done(struct loop_op *op, int result)
{
	struct draining *p = (struct draining *)((char *)op - offsetof(struct draining, closed));

	close(op->fd);
	if (result)
		msg_error("arena %s: a segment of its log could not be synced: %s", p->store.name,
			  strerror(-result));
	if (!p->served)
		drain_free_if_done(p);
}

static void sync_closed(struct draining *p)
{
	if (p->closed_fd < 0)
		return;
	loop_sync(drainer.loop, &p->closed, p->closed_fd);
	p->closed_fd = -1;
}

static int scan_work(struct loop_op *op)
{
	struct draining *p = (struct draining *)op;

	return store_scan(&p->store, &p->found);
}

static void start_write(struct flight *f)
{
	struct drain_batch *b = f->batch;

	f->stage = WRITING;
	loop_write(drainer.loop, &f->op, f->draining->store.fd, b->parts + b->first, b->count - b->first,
		   f->at + b->written);
}

/* To the next segment; or only away from this one. */
void drain_turn(struct draining *p, bool only_close)
{
	p->phase = TURNING;
	p->turn = false;
	p->only_close = only_close;
	p->sync_closed = drainer.config->log_fsync != CONFIG_FSYNC_NEVER;
	loop_work(drainer.loop, &p->disk, turn_work, false);
}

/* bytes: of what would be written next. */
bool drain_is_time_to_turn(const struct draining *p, uint64_t now, uint64_t bytes)
{
	uint64_t age = drainer.config->log_segment_age;

	if (p->turn || p->store.fd < 0)
		return true;
	if (p->tail == sizeof(struct segment_header))
		return false;
	return p->tail + bytes > drainer.config->log_segment_size ||
	       (age && now - p->store.opened_ns > age * SECOND);
}

static bool is_writing(const struct draining *p)
{
	for (uint32_t i = 0; i < FLIGHTS; i++)
		if (p->flights[i].stage == WRITING)
			return true;
	return false;
}

/* Whether the segment's descriptor is in use. */
bool drain_is_busy(const struct draining *p)
{
	return p->sync.pending || is_writing(p) ||
	       (p->used && p->flights[p->first].stage == WRITTEN);
}

/* Those that are gathered, in order, unless they go to the next segment. */
void drain_launch(struct draining *p, uint64_t now)
{
	for (uint32_t i = 0; i < p->used && p->phase == FLYING; i++) {
		struct flight *f = drain_flight(p, i);

		if (f->stage != GATHERED)
			continue;
		if (drain_is_time_to_turn(p, now, f->batch->bytes)) {
			if (!drain_is_busy(p))
				drain_turn(p, false);
			return;
		}
		if (p->unmarked)
			drain_batch_mark(f->batch, p->store.size);
		p->unmarked = false;
		f->at = p->tail;
		p->tail += f->batch->bytes;
		start_write(f);
	}
}

bool drain_mark(struct draining *p, uint64_t now)
{
	struct flight *f = drain_flight(p, 0);

	if (!p->unmarked || p->used || drain_is_busy(p) ||
	    drain_is_time_to_turn(p, now, sizeof(struct segment_fragment)))
		return false;
	f->batch->ring.count = 0;
	drain_batch_make(f->batch);
	f->stage = GATHERED;
	p->used = 1;
	drain_launch(p, now);
	return true;
}

/* A batch is in the segment. */
static void wrote(struct draining *p, const struct drain_batch *b)
{
	if (drain_batch_is_marked(b))
		store_wrote(&p->store, &b->mark, 1);
	store_wrote(&p->store, b->fragments, b->ring.count);
	p->unmarked |= drain_batch_is_held(b);
}

static uint32_t count_written(struct draining *p)
{
	uint32_t n = 0;

	while (n < p->used && drain_flight(p, n)->stage == WRITTEN)
		n++;
	return n;
}

/* The oldest ones are where they belong. False: p may be gone. */
static bool complete(struct draining *p, uint32_t count)
{
	while (count--) {
		wrote(p, drain_flight(p, 0)->batch);
		p->unsynced = true;
		if (!drain_run(p, drain_ring_written))
			return false;
		if (p->down)
			drain_recovered(p);
	}
	return true;
}

/* Something was written, or was not. */
static void look_at_flights(struct draining *p)
{
	uint32_t n = count_written(p);

	if (n && !p->error)
		p->error = store_check(&p->store);
	if (p->error) {
		if (!is_writing(p) && !p->sync.pending)
			fail(p, p->error);
		return;
	}
	if (n && syncs_batches()) {
		if (!p->sync.pending) {
			p->syncing = n;
			loop_sync(drainer.loop, &p->sync, p->store.fd);
		}
	} else if (n && !complete(p, n)) {
		return;
	}
	drain_go_on(p);
}

void drain_sync_now_and_then(struct draining *p, uint64_t now)
{
	if (drainer.config->log_fsync != CONFIG_FSYNC_INTERVAL || !p->unsynced || p->sync.pending ||
	    p->store.fd < 0 || now < p->sync_at)
		return;
	p->unsynced = false;
	p->syncing = 0;
	p->sync_at = now + SECOND;
	loop_sync(drainer.loop, &p->sync, p->store.fd);
}

void drain_scan(struct draining *p)
{
	p->phase = SCANNING;
	loop_work(drainer.loop, &p->disk, scan_work, true);
}

static void scanned(struct draining *p, int err)
{
	p->phase = FLYING;
	if (err)
		msg_warning("arena %s: the segments of its log before cannot be read: %s",
			    p->store.name, strerror(-err));
	if (p->found.torn_bytes)
		msg_notice("arena %s: segment %llu of its log was torn: %llu bytes at its end were cut off",
			   p->store.name, (unsigned long long)p->found.torn_number,
			   (unsigned long long)p->found.torn_bytes);
	if (p->found.spoilt)
		msg_warning("arena %s: segment %llu of its log has %llu records that were changed while they were written: they are lost",
			    p->store.name, (unsigned long long)p->found.spoilt_number,
			    (unsigned long long)p->found.spoilt);
	if (p->found.damaged)
		msg_warning("arena %s: %d segments of its log do not begin as such, and are left alone",
			    p->store.name, p->found.damaged);
	p->turn = true;
	if (drain_run(p, drain_ring_begin))
		drain_go_on(p);
}

/* ---- what the loop tells ---- */

void drain_free_if_done(struct draining *p)
{
	bool pending = p->disk.pending || p->timer.pending || p->sync.pending || p->tidy.pending ||
		       p->closed.pending;

	for (uint32_t i = 0; i < FLIGHTS; i++)
		pending |= p->flights[i].op.pending;
	if (pending)
		return;
	if (p->link)
		*p->link = p->next_forgotten;
	if (p->next_forgotten)
		p->next_forgotten->link = p->link;
	for (uint32_t i = 0; i < FLIGHTS; i++)
		free(p->flights[i].batch);
	free(p->found.blocks);
	free(p);
}

static void turned(struct draining *p, int err)
{
	p->phase = FLYING;
	sync_closed(p);
	if (err) {
		fail(p, err);
		return;
	}
	p->tail = p->store.size;
	p->unmarked = false;
	drain_tidy(p);
	drain_go_on(p);
}

void drain_disk_done(struct loop_op *op, int result)
{
	struct draining *p = (struct draining *)op;

	if (!p->served)
		drain_free_if_done(p);
	else if (p->phase == SCANNING)
		scanned(p, result);
	else
		turned(p, result);
}

void drain_write_done(struct loop_op *op, int result)
{
	struct flight *f = (struct flight *)op;
	struct draining *p = f->draining;

	if (!p->served) {
		drain_free_if_done(p);
		return;
	}
	if (result == -EINTR || result == -EAGAIN ||
	    (result > 0 && !drain_batch_advance(f->batch, (uint64_t)result))) {
		start_write(f);
		return;
	}
	f->stage = result > 0 ? WRITTEN : GATHERED;
	if (result <= 0 && !p->error)
		p->error = result ? result : -EIO;
	look_at_flights(p);
}

void drain_sync_done(struct loop_op *op, int result)
{
	struct draining *p = (struct draining *)((char *)op - offsetof(struct draining, sync));

	if (!p->served) {
		drain_free_if_done(p);
		return;
	}
	if (p->syncing && result) {
		p->error = result;
	} else if (p->syncing) {
		if (!complete(p, p->syncing))
			return;
	} else if (result) {
		/* What of it is there nobody can say: the rest goes to another segment. */
		msg_error("arena %s: its log could not be synced: %s; what was written in the last second may be lost",
			  p->store.name, strerror(-result));
		p->turn = true;
	}
	p->syncing = 0;
	look_at_flights(p);
}

void drain_tidy_done(struct loop_op *op, int result)
{
	struct draining *p = (struct draining *)((char *)op - offsetof(struct draining, tidy));

	if (result && result != -ENOENT)
		msg_warning("arena %s: segments of its log stay as they are: %s", p->store.name,
			    strerror(-result));
	if (!p->served)
		drain_free_if_done(p);
	else if (p->phase == FLYING && p->below < first_open(p))
		drain_tidy(p);
}

/* ---- the end ---- */

/* Whether all of a flight is written; what is not synced will be when the segment is closed. */
static bool has_landed(struct flight *f, bool was_pending)
{
	return f->stage == WRITTEN ||
	       (f->stage == WRITING && was_pending && f->op.result > 0 &&
		(uint64_t)f->op.result == f->batch->bytes - f->batch->written);
}

/* What is under way ends now. False: the ring must not be touched any more. */
bool drain_settle(struct draining *p, bool usable)
{
	loop_settle(drainer.loop, &p->disk);
	loop_settle(drainer.loop, &p->sync);
	sync_closed(p);
	loop_settle(drainer.loop, &p->closed);
	for (uint32_t n = p->used; n; n--) {
		struct flight *f = drain_flight(p, 0);
		bool pending = f->op.pending;

		for (uint32_t i = 0; i < n; i++)
			loop_settle(drainer.loop, &drain_flight(p, i)->op);
		if (p->error || !has_landed(f, pending))
			break;
		wrote(p, f->batch);
		if (!usable || guard_run(&p->served->arena, drain_ring_written, p))
			return false;
	}
	return usable && p->ring && guard_run(&p->served->arena, drain_ring_let_go, p) == 0;
}

/* What the ring has is written without the loop; the disk is given up at its first error. */
static int finish_once(struct draining *p)
{
	struct drain_batch *b = drain_flight(p, 0)->batch;

	p->open_at = 0;
	if (guard_run(&p->served->arena, drain_ring_gather, p) || !p->used)
		return 0;
	while (b->first < b->count) {
		ssize_t n = pwritev(p->store.fd, b->parts + b->first, (int)(b->count - b->first),
				    (off_t)(p->store.size + b->written));

		if (n <= 0)
			return 0;
		drain_batch_advance(b, (uint64_t)n);
	}
	wrote(p, b);
	return guard_run(&p->served->arena, drain_ring_written, p) == 0;
}

void drain_finish(struct draining *p)
{
	uint64_t most = 4 * (uint64_t)p->store.ring.blocks;

	if (!p->consumer || p->down)
		return;
	if (p->store.fd < 0 && store_open(&p->store))
		return;
	while (most-- && finish_once(p))
		;
}

