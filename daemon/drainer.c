/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of each arena some batches are on their way at a time, in order: gathered, being written one behind another, written;
 * synced, if that is the policy. Then the oldest counts as drained, and not before. The turn to the next segment, and
 * at first the scan of the last, have the disk for themselves.
 *
 * When the disk fails all blocks go back to the ring, and the daemon gives up being the consumer, so that nothing is
 * full for any writer. It tries again, later each time, with a new segment; the first batch that is written makes it
 * the consumer again.
 */
#include "drainer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "drain_batch.h"
#include "guard.h"
#include "msg.h"
#include "store.h"

#define MS	      UINT64_C(1000000)
#define SECOND	      (1000 * MS)
#define BATCH_BYTES   (UINT64_C(1) << 20)
#define FRESH_NS      (20 * MS) /* since there was something: the next look comes soon … */
#define SOON_NS	      MS
#define RECENT_NS     SECOND /* … then after a while, then rarely */
#define WHILE_NS      (10 * MS)
#define RARE_NS	      (50 * MS)
#define RETRY_MIN_NS  (100 * MS)
#define RETRY_MAX_NS  (5 * SECOND)
#define TELL_NS	      (10 * SECOND) /* between messages of losses */

#define FLIGHTS	      3u

enum phase {
	SCANNING, /* the last segments */
	FLYING,	  /* batches are on their way, or none */
	TURNING	  /* the next segment is begun */
};

enum stage { EMPTY, GATHERED, WRITING, WRITTEN };

/* A batch on its way. */
struct flight {
	struct loop_op op; /* first */
	struct draining *draining;
	enum stage stage;
	uint64_t at; /* in the segment */
	struct drain_batch *batch;
};

/* Belongs to the loop as long as something of it is pending, forgotten or not. */
struct draining {
	struct loop_op disk;   /* first */
	struct loop_op timer, sync, tidy;
	struct served *served; /* NULL: forgotten */
	enum phase phase;
	struct ring_drain *ring;
	struct store store;
	struct store_found found;
	struct flight flights[FLIGHTS];
	uint32_t first, used; /* of the flights; the oldest, how many are not empty */
	uint64_t tail;	      /* of the segment, with what is being written */
	uint64_t batch_bytes;
	int error;	      /* of one of them, while others are under way */
	uint32_t syncing;     /* flights that the sync under way is for */
	bool consumer;
	bool busy_told;	    /* that another is the consumer */
	int down;	    /* why nothing can be written, -errno; 0: it can */
	bool turn;	    /* the next batch goes to a new segment */
	bool only_close, sync_closed;
	uint64_t retry_at, retry_ns;
	uint64_t open_at;   /* open blocks are due */
	uint64_t fresh_at;  /* when there was something last */
	bool unsynced;	    /* something was written since the last sync began */
	uint64_t sync_at;
	uint64_t lost, lost_told, tell_at;
	/* Of the tidying. */
	char dir[PATH_MAX];
	uint64_t below, retention;
	bool compress;
};

static struct {
	struct loop *loop;
	struct registry *registry;
	const struct config *config;
} drainer;

static void go_on(struct draining *p);

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

static const char *name_of(const struct draining *p)
{
	return p->store.name;
}

/* ---- the ring: all that touches an arena's memory ---- */

/* False: the arena is no longer served, and p may be gone. */
static bool run(struct draining *p, void (*work)(void *user))
{
	struct served *s = p->served;

	if (guard_run(&s->arena, work, p) == 0)
		return true;
	registry_refuse(drainer.registry, s, -EUCLEAN);
	return false;
}

static void open_ring(void *user)
{
	struct draining *p = user;

	if (ring_drain_open(&p->served->arena, &p->ring))
		p->ring = NULL;
}

static void begin(void *user)
{
	struct draining *p = user;

	for (uint32_t i = 0; p->found.blocks && i < p->store.ring.blocks; i++)
		if (p->found.blocks[i].any)
			ring_drain_note(p->ring, &p->found.blocks[i].last);
	free(p->found.blocks);
	p->found.blocks = NULL;
}

static void consume(void *user)
{
	struct draining *p = user;
	int err = ring_drain_consume(p->ring);

	p->consumer = err == 0;
	if (err == -EBUSY && !p->busy_told)
		msg_notice("arena %s: its log has another consumer: it is not written here",
			   name_of(p));
	p->busy_told = err == -EBUSY;
}

static struct flight *flight(struct draining *p, uint32_t i)
{
	return &p->flights[(p->first + i) % FLIGHTS];
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

static void let_go(void *user)
{
	release_flights(user, true);
}

static void resign(void *user)
{
	struct draining *p = user;

	let_go(p);
	ring_drain_resign(p->ring);
	p->consumer = false;
}

/* What open blocks have becomes due again when all of it was gathered. */
static void gather(void *user)
{
	struct draining *p = user;
	struct flight *f = flight(p, p->used);
	struct ring_batch *b = &f->batch->ring;
	uint64_t now = now_ns();
	bool open = now >= p->open_at;
	int n = ring_drain_gather(p->ring, b, p->batch_bytes, open);

	if (open && b->bytes < p->batch_bytes && b->count < RING_BATCH_PIECES / 2)
		p->open_at = now + drainer.config->log_drain_ms * MS;
	if (n <= 0)
		return;
	/* First of all it counts as held: its checksums may meet memory that is gone. */
	f->stage = GATHERED;
	p->used++;
	p->fresh_at = now;
	drain_batch_make(f->batch);
}

/* The oldest. */
static void written(void *user)
{
	struct draining *p = user;
	struct flight *f = flight(p, 0);

	if (!p->consumer)
		consume(p);
	if (p->consumer)
		ring_drain_written(p->ring, &f->batch->ring);
	else
		ring_drain_release(p->ring, &f->batch->ring, true);
	f->stage = EMPTY;
	p->first = (p->first + 1) % FLIGHTS;
	p->used--;
	p->lost = ring_drain_lost(p->ring);
}

/* ---- the disk fails, and takes something again ---- */

/* A directory that was removed is made again at once; meanwhile writers wait as their policy says. */
static void fail(struct draining *p, int err)
{
	bool gone = err == -ENOENT && !p->down;

	if (!p->down)
		msg_error("arena %s: its log cannot be written to %s: %s%s", name_of(p), p->store.dir,
			  strerror(-err),
			  gone ? "" : "; writers go on, what they overwrite is counted");
	p->retry_ns = gone ? 0 : 2 * p->retry_ns;
	if (!gone && p->retry_ns < RETRY_MIN_NS)
		p->retry_ns = RETRY_MIN_NS;
	if (p->retry_ns > RETRY_MAX_NS)
		p->retry_ns = RETRY_MAX_NS;
	p->down = err;
	p->error = 0;
	p->turn = true;
	p->retry_at = now_ns() + p->retry_ns;
	if (run(p, gone ? let_go : resign))
		go_on(p);
}

static void recovered(struct draining *p)
{
	if (p->down)
		msg_notice("arena %s: its log is written again", name_of(p));
	p->down = 0;
	p->retry_ns = 0;
	p->open_at = 0;
}

static void tell_losses(struct draining *p)
{
	uint64_t now = now_ns();

	if (p->lost == p->lost_told || now < p->tell_at)
		return;
	msg_warning("arena %s: %llu log records were overwritten before they were written",
		    name_of(p), (unsigned long long)(p->lost - p->lost_told));
	p->lost_told = p->lost;
	p->tell_at = now + TELL_NS;
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

static void start_tidy(struct draining *p)
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

static int turn_work(struct loop_op *op)
{
	struct draining *p = (struct draining *)op;

	if (p->down)
		store_abandon(&p->store);
	else
		store_close(&p->store, p->sync_closed);
	return p->only_close ? 0 : store_open(&p->store);
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
static void start_turn(struct draining *p, bool only_close)
{
	p->phase = TURNING;
	p->turn = false;
	p->only_close = only_close;
	p->sync_closed = drainer.config->log_fsync != CONFIG_FSYNC_NEVER;
	loop_work(drainer.loop, &p->disk, turn_work, false);
}

/* bytes: of what would be written next. */
static bool is_time_to_turn(const struct draining *p, uint64_t now, uint64_t bytes)
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
static bool is_busy(const struct draining *p)
{
	return p->sync.pending || is_writing(p) ||
	       (p->used && p->flights[p->first].stage == WRITTEN);
}

/* Those that are gathered, in order, unless they go to the next segment. */
static void launch(struct draining *p, uint64_t now)
{
	for (uint32_t i = 0; i < p->used && p->phase == FLYING; i++) {
		struct flight *f = flight(p, i);

		if (f->stage != GATHERED)
			continue;
		if (is_time_to_turn(p, now, f->batch->bytes)) {
			if (!is_busy(p))
				start_turn(p, false);
			return;
		}
		f->at = p->tail;
		p->tail += f->batch->bytes;
		start_write(f);
	}
}

static uint32_t count_written(struct draining *p)
{
	uint32_t n = 0;

	while (n < p->used && flight(p, n)->stage == WRITTEN)
		n++;
	return n;
}

/* The oldest ones are where they belong. False: p may be gone. */
static bool complete(struct draining *p, uint32_t count)
{
	while (count--) {
		struct drain_batch *b = flight(p, 0)->batch;

		store_wrote(&p->store, b->fragments, b->ring.count);
		p->unsynced = true;
		if (!run(p, written))
			return false;
		if (p->down)
			recovered(p);
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
	go_on(p);
}

static void scanned(struct draining *p, int err)
{
	p->phase = FLYING;
	if (err)
		msg_warning("arena %s: the segments of its log before cannot be read: %s",
			    name_of(p), strerror(-err));
	if (p->found.torn_bytes)
		msg_notice("arena %s: segment %llu of its log was torn: %llu bytes at its end were cut off",
			   name_of(p), (unsigned long long)p->found.torn_number,
			   (unsigned long long)p->found.torn_bytes);
	if (p->found.damaged)
		msg_warning("arena %s: %d segments of its log do not begin as such, and are left alone",
			    name_of(p), p->found.damaged);
	p->turn = true;
	if (run(p, begin))
		go_on(p);
}

/* ---- what next ---- */

static void set_timer(struct draining *p, uint64_t at)
{
	uint64_t now = now_ns();

	if (!p->timer.pending)
		loop_timer(drainer.loop, &p->timer, at > now ? at - now : 0);
}

static void wait_for_records(struct draining *p, uint64_t now)
{
	uint64_t idle = now - p->fresh_at;
	uint64_t at = now + (idle < FRESH_NS ? SOON_NS : idle < RECENT_NS ? WHILE_NS : RARE_NS);

	/* Nothing new for a while: what open blocks have was due before. */
	if (p->open_at > now && p->open_at < at)
		at = p->open_at;
	set_timer(p, at);
}

static void sync_now_and_then(struct draining *p, uint64_t now)
{
	if (drainer.config->log_fsync != CONFIG_FSYNC_INTERVAL || !p->unsynced || p->sync.pending ||
	    p->store.fd < 0 || now < p->sync_at)
		return;
	p->unsynced = false;
	p->syncing = 0;
	p->sync_at = now + SECOND;
	loop_sync(drainer.loop, &p->sync, p->store.fd);
}

/* An old segment ends, and is compressed, though nothing follows. */
static void turn_or_wait(struct draining *p, uint64_t now)
{
	if (p->store.fd >= 0 && !is_busy(p) && is_time_to_turn(p, now, 0))
		start_turn(p, true);
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
	if (!run(p, consume))
		return false;
	if (!p->consumer)
		set_timer(p, now + SECOND);
	else
		start_tidy(p);
	return p->consumer;
}

/* There is nothing that would have to be written. */
static void rest(struct draining *p, uint64_t now)
{
	tell_losses(p);
	if (p->down) { /* nothing to try it with */
		recovered(p);
		set_timer(p, now + SOON_NS);
	} else {
		turn_or_wait(p, now);
	}
}

static void go_on(struct draining *p)
{
	uint64_t now = now_ns();

	if (p->phase != FLYING || p->error)
		return;
	sync_now_and_then(p, now);
	if (!may_begin(p, now))
		return;
	/* Whether the disk takes anything again is seen from the new segment, before blocks are held; and from
	 * one batch, before there are more. */
	if (p->down && p->turn) {
		if (!is_busy(p))
			start_turn(p, false);
		return;
	}
	for (uint32_t before = FLIGHTS; p->used < (p->down ? 1 : FLIGHTS) && p->used != before;) {
		before = p->used;
		if (!run(p, gather))
			return;
		if (p->used != before)
			launch(p, now);
	}
	if (!p->used)
		rest(p, now);
	else
		launch(p, now);
}

/* ---- what the loop tells ---- */

static void free_if_done(struct draining *p)
{
	bool pending = p->disk.pending || p->timer.pending || p->sync.pending || p->tidy.pending;

	for (uint32_t i = 0; i < FLIGHTS; i++)
		pending |= p->flights[i].op.pending;
	if (pending)
		return;
	for (uint32_t i = 0; i < FLIGHTS; i++)
		free(p->flights[i].batch);
	free(p->found.blocks);
	free(p);
}

static void turned(struct draining *p, int err)
{
	p->phase = FLYING;
	if (err) {
		fail(p, err);
		return;
	}
	p->tail = p->store.size;
	start_tidy(p);
	go_on(p);
}

static void disk_done(struct loop_op *op, int result)
{
	struct draining *p = (struct draining *)op;

	if (!p->served)
		free_if_done(p);
	else if (p->phase == SCANNING)
		scanned(p, result);
	else
		turned(p, result);
}

static void write_done(struct loop_op *op, int result)
{
	struct flight *f = (struct flight *)op;
	struct draining *p = f->draining;

	if (!p->served) {
		free_if_done(p);
		return;
	}
	if (result > 0 && !drain_batch_advance(f->batch, (uint64_t)result)) {
		start_write(f);
		return;
	}
	f->stage = result > 0 ? WRITTEN : GATHERED;
	if (result <= 0 && !p->error)
		p->error = result ? result : -EIO;
	look_at_flights(p);
}

static void timer_done(struct loop_op *op, int result)
{
	struct draining *p = (struct draining *)((char *)op - offsetof(struct draining, timer));

	(void)result;
	if (p->served)
		go_on(p);
	else
		free_if_done(p);
}

static void sync_done(struct loop_op *op, int result)
{
	struct draining *p = (struct draining *)((char *)op - offsetof(struct draining, sync));

	if (!p->served) {
		free_if_done(p);
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
			  name_of(p), strerror(-result));
		p->turn = true;
	}
	p->syncing = 0;
	look_at_flights(p);
}

static void tidy_done(struct loop_op *op, int result)
{
	struct draining *p = (struct draining *)((char *)op - offsetof(struct draining, tidy));

	if (result && result != -ENOENT)
		msg_warning("arena %s: segments of its log stay as they are: %s", name_of(p),
			    strerror(-result));
	if (!p->served)
		free_if_done(p);
	else if (p->phase == FLYING && p->below < first_open(p))
		start_tidy(p);
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
	p->store.fd = -1;
	p->disk.done = disk_done;
	for (uint32_t i = 0; i < FLIGHTS; i++) {
		p->flights[i].draining = p;
		p->flights[i].op.done = write_done;
	}
	p->timer.done = timer_done;
	p->sync.done = sync_done;
	p->tidy.done = tidy_done;
	return p;
}

void drainer_adopt(struct served *s)
{
	struct draining *p;

	if (!drainer.config || !drainer.config->log_dir[0])
		return;
	p = s->draining = make(s);
	if (!p || guard_run(&s->arena, open_ring, p) || !p->ring || !allocate(p)) {
		msg_warning("arena %s: its log is not written to the disk: %s", s->record.name,
			    p && !p->ring ? "there is none that makes sense" : "no memory");
		drainer_forget(s, true);
		return;
	}
	p->phase = SCANNING;
	loop_work(drainer.loop, &p->disk, scan_work, true);
}

/* Whether all of a flight is written; what is not synced will be when the segment is closed. */
static bool has_landed(struct flight *f, bool was_pending)
{
	return f->stage == WRITTEN ||
	       (f->stage == WRITING && was_pending && f->op.result > 0 &&
		(uint64_t)f->op.result == f->batch->bytes - f->batch->written);
}

/* What is under way ends now. False: the ring must not be touched any more. */
static bool end_operations(struct draining *p, bool usable)
{
	loop_settle(drainer.loop, &p->disk);
	loop_settle(drainer.loop, &p->sync);
	for (uint32_t n = p->used; n; n--) {
		struct flight *f = flight(p, 0);
		bool pending = f->op.pending;

		for (uint32_t i = 0; i < n; i++)
			loop_settle(drainer.loop, &flight(p, i)->op);
		if (p->error || !has_landed(f, pending))
			break;
		store_wrote(&p->store, f->batch->fragments, f->batch->ring.count);
		if (!usable || guard_run(&p->served->arena, written, p))
			return false;
	}
	return usable && p->ring && guard_run(&p->served->arena, let_go, p) == 0;
}

/* What the ring has is written without the loop; the disk is given up at its first error. */
static int finish_once(struct draining *p)
{
	struct drain_batch *b = flight(p, 0)->batch;

	p->open_at = 0;
	if (guard_run(&p->served->arena, gather, p) || !p->used)
		return 0;
	while (b->first < b->count) {
		ssize_t n = pwritev(p->store.fd, b->parts + b->first, (int)(b->count - b->first),
				    (off_t)(p->store.size + b->written));

		if (n <= 0)
			return 0;
		drain_batch_advance(b, (uint64_t)n);
	}
	store_wrote(&p->store, b->fragments, b->ring.count);
	return guard_run(&p->served->arena, written, p) == 0;
}

static void finish(struct draining *p)
{
	uint64_t most = 4 * (uint64_t)p->store.ring.blocks;

	if (!p->consumer || p->down)
		return;
	if (p->store.fd < 0 && store_open(&p->store))
		return;
	while (most-- && finish_once(p))
		;
}

static void close_ring(void *user)
{
	struct draining *p = user;

	let_go(p);
	ring_drain_close(p->ring, true);
	p->ring = NULL;
}

/* Private memory only. */
static void abandon_ring(struct draining *p)
{
	if (!p->ring)
		return;
	release_flights(p, false);
	ring_drain_close(p->ring, false);
	p->ring = NULL;
}

void drainer_forget(struct served *s, bool usable)
{
	struct draining *p = s->draining;

	if (!p)
		return;
	if (end_operations(p, usable)) {
		finish(p);
		guard_run(&s->arena, close_ring, p);
	}
	abandon_ring(p);
	if (p->down)
		store_abandon(&p->store);
	else
		store_close(&p->store, drainer.config->log_fsync != CONFIG_FSYNC_NEVER);
	s->draining = NULL;
	p->served = NULL;
	loop_cancel(drainer.loop, &p->timer);
	free_if_done(p);
}

void drainer_start(struct loop *loop, struct registry *registry, const struct config *config)
{
	drainer.loop = loop;
	drainer.registry = registry;
	drainer.config = config;
}
