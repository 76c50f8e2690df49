/* SPDX-License-Identifier: Apache-2.0 */
/*
 * draining.h - one arena's log on its way to the disk, for drainer.c (when), drain_ring.c (what is done to the ring) and
 * drain_disk.c (what is done to the disk).
 *
 * Of each arena some batches are on their way at a time, in order: gathered, being written one behind another, written;
 * synced, if that is the policy. Then the oldest counts as drained, and not before. The turn to the next segment, and
 * at first the scan of the last, have the disk for themselves.
 *
 * When the disk fails all blocks go back to the ring, and the daemon gives up being the consumer, so that nothing is
 * full for any writer. It tries again, later each time, with a new segment; the first batch that is written makes it
 * the consumer again.
 */
#ifndef DAEMON_DRAINING_H
#define DAEMON_DRAINING_H

#include "bells.h"
#include "clock.h"
#include "drain_batch.h"
#include "drainer.h"
#include "store.h"

#define MS	      UINT64_C(1000000)
#define SECOND	      (1000 * MS)
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
	uint64_t timer_at;
	struct bell bell;      /* rung when there is a record, if … */
	_Atomic uint32_t *rings; /* … it could be armed, at … */
	uint32_t rings_value;
	struct loop_op closed; /* the sync of the segment before */
	int closed_fd;	       /* to be synced so; -1 */
	struct served *served; /* NULL: forgotten */
	struct draining *next_forgotten, **link;
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
	uint64_t down_ns;   /* since; CLOCK_REALTIME */
	bool turn;	    /* the next batch goes to a new segment */
	bool unmarked;	    /* the segment has blocks written from the mapping, and no mark behind them */
	bool only_close, sync_closed;
	uint64_t retry_at, retry_ns;
	uint64_t open_at;   /* open blocks are due */
	bool swept;	    /* the last look was at all blocks, and there was nothing */
	uint64_t fresh_at;  /* when there was something last */
	bool unsynced;	    /* something was written since the last sync began */
	uint64_t sync_at;
	uint64_t lost, lost_told, tell_at;
	/* Of the tidying. */
	char dir[PATH_MAX];
	uint64_t below, retention;
	bool compress;
};

struct drainer {
	struct loop *loop;
	struct registry *registry;
	const struct config *config;
	struct draining *forgotten; /* of which something is pending */
};
extern struct drainer drainer;

static inline struct flight *drain_flight(struct draining *p, uint32_t i)
{
	return &p->flights[(p->first + i) % FLIGHTS];
}

/* ---- drainer.c ---- */

/* Whatever can be done now is begun. */
void drain_go_on(struct draining *p);

/* ---- drain_ring.c: each on an arena's memory, which may go away ---- */

/* False: the arena is no longer served, and p may be gone. */
bool drain_run(struct draining *p, void (*work)(void *user));

void drain_ring_open(void *user);
/* What it says was drained. */
void drain_ring_look(void *user);
/* What the segments say was written goes before what the ring says. */
void drain_ring_begin(void *user);
void drain_ring_consume(void *user);
/* One more flight, if there is anything. */
void drain_ring_gather(void *user);
/* The bell is armed; then one more look, at all blocks. */
void drain_ring_arm(void *user);
/* The oldest flight has landed. */
void drain_ring_written(void *user);
/* All flights go back to the ring; and the daemon is no longer the consumer. */
void drain_ring_let_go(void *user);
void drain_ring_resign(void *user);
void drain_ring_close(void *user);
/* The same without touching the ring: private memory only. */
void drain_ring_abandon(struct draining *p);

/* ---- drain_disk.c ---- */

void drain_scan(struct draining *p);
/* To the next segment; or only away from this one. */
void drain_turn(struct draining *p, bool only_close);
/* bytes: of what would be written next. */
bool drain_is_time_to_turn(const struct draining *p, uint64_t now, uint64_t bytes);
/* Whether the segment's descriptor is in use. */
bool drain_is_busy(const struct draining *p);
/* Those that are gathered are written, in order, unless they go to the next segment. */
void drain_launch(struct draining *p, uint64_t now);
/* Nothing is on its way, nor comes: a mark says that all is there, if something could be spoilt. */
bool drain_mark(struct draining *p, uint64_t now);
void drain_sync_now_and_then(struct draining *p, uint64_t now);
/* Closed segments are compressed, the oldest deleted. */
void drain_tidy(struct draining *p);
/* The disk takes something again. */
void drain_recovered(struct draining *p);

void drain_disk_done(struct loop_op *op, int result);
void drain_write_done(struct loop_op *op, int result);
void drain_sync_done(struct loop_op *op, int result);
void drain_tidy_done(struct loop_op *op, int result);
void drain_closed_done(struct loop_op *op, int result);
void drain_free_if_done(struct draining *p);

/* All that is under way ends now. False: the ring must not be touched any more. */
bool drain_settle(struct draining *p, bool usable);
/* What the ring has is written without the loop; the disk is given up at its first error. */
void drain_finish(struct draining *p);

#endif
