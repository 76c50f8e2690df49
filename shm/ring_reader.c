/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reader: all blocks that hold or may get records it has not delivered, merged by time.
 *
 * A fill looks at all active blocks at once and gives a watermark: no record older than it is still to
 * come. Each block's part in it: one whose next record is known has none, as what follows is younger still; if
 * no record is on its way, all to come are younger than the fill, but for the time that a store takes to
 * arrive; if one is, it is younger than what was last read there. So the records of a single writer come at
 * once. What is above the watermark is held back, until 10 ms have passed or the caller's patience ends; what
 * then comes out of order is flagged late.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "ring_reading.h"
#include "stop_point.h"

#define SETTLE_NS UINT64_C(3000)   /* a store arrives within this, and mostly a record in the making is done */
#define BUSY_NS UINT64_C(100000)   /* longest look at busy writers by a caller that does not wait */
#define HOLD_NS UINT64_C(100000)   /* between looks while something is held back */
#define BATCH_NS UINT64_C(200000)  /* between looks while records keep coming: spares the writers */
#define BATCH_RECORDS 16u	   /* … that is, while so many came since the last */
#define POLL_NS UINT64_C(1000000)  /* between looks where the bell cannot be armed */

#define ROOM_PART 8u /* of the blocks, before waiting writers are woken while records keep coming */

#define BUFFER_BYTES ((size_t)4096)

/* ---- heap of blocks by the time of their next record ---- */

static uint64_t key_at(const struct ring_reader *r, uint32_t at)
{
	return r->sources[r->heap[at]].key;
}

static void put_at(struct ring_reader *r, uint32_t at, uint32_t block)
{
	r->heap[at] = block;
	r->sources[block].heap = at + 1;
}

static void swap_at(struct ring_reader *r, uint32_t x, uint32_t y)
{
	uint32_t block = r->heap[x];

	put_at(r, x, r->heap[y]);
	put_at(r, y, block);
}

static void rise(struct ring_reader *r, uint32_t at)
{
	while (at && key_at(r, at) < key_at(r, (at - 1) / 2)) {
		swap_at(r, at, (at - 1) / 2);
		at = (at - 1) / 2;
	}
}

static void sink(struct ring_reader *r, uint32_t at)
{
	for (;;) {
		uint32_t least = at;

		for (uint32_t child = 2 * at + 1; child <= 2 * at + 2; child++)
			if (child < r->heap_count && key_at(r, child) < key_at(r, least))
				least = child;
		if (least == at)
			return;
		swap_at(r, at, least);
		at = least;
	}
}

static void heap_add(struct ring_reader *r, uint32_t block)
{
	put_at(r, r->heap_count++, block);
	rise(r, r->heap_count - 1);
}

static void heap_remove(struct ring_reader *r, uint32_t block)
{
	uint32_t at = r->sources[block].heap;

	if (!at--)
		return;
	r->sources[block].heap = 0;
	if (at != --r->heap_count) {
		put_at(r, at, r->heap[r->heap_count]);
		rise(r, at);
		sink(r, r->sources[r->heap[at]].heap - 1);
	}
}

/* ---- the consumer's position ---- */

/* Writers that wait are told of several blocks at once: waking them costs more than reading one. What they are
 * not told of they see themselves within 10 ms. */
static void tell_of_room(struct ring_reader *r, uint32_t least)
{
	if (r->passed < least)
		return;
	r->passed = 0;
	ring_room_made(r->v.bell);
}

/* Crash: before, the record is delivered again to the next consumer. */
static void consume(struct ring_reader *r)
{
	struct ring_block *head = &r->v.heads[r->pending_block];
	uint64_t word = atomic_load_explicit(&r->v.words[r->pending_block], memory_order_acquire);

	if (r->pending_shared && ring_word_lap(word) == r->pending_lap) {
		_Atomic uint64_t *slot = &ring_block_slots(&r->v, r->pending_block)[r->pending_slot];
		uint64_t seen = atomic_load(slot);

		if (ring_slot_of(seen, r->pending_lap) && ring_slot_state(seen) == RING_SLOT_DONE)
			atomic_compare_exchange_strong(slot, &seen,
						       ring_slot_in(seen, RING_SLOT_CONSUMED));
	}
	/* PAIR(ring-consumed): copied, then consumed. */
	atomic_store_explicit(&head->consumed, r->pending_done, memory_order_release);
	STOP_POINT(ring_passed);
	if (r->pending_shared || (ring_word_state(word) == RING_SEALED &&
				  r->pending_done >= r->sources[r->pending_block].records)) {
		r->passed++;
		tell_of_room(r, r->v.blocks / ROOM_PART);
	}
}

/* The last delivered record is done with. */
void ring_reading_pass(struct ring_reader *r)
{
	r->pending = false;
	if (r->consumer)
		consume(r);
	else
		ring_position_pass(&r->kept, r->pending_block, r->pending_lap,
				   r->pending_shared ? r->pending_slot + 1 : 0, r->pending_done, r->pending_lost);
}

/* What is skipped is passed, too. */
static void pass_to(struct ring_reader *r, uint32_t block)
{
	_Atomic uint64_t *consumed = &r->v.heads[block].consumed;
	uint64_t done = r->sources[block].done;

	if (r->kept.p)
		ring_position_skip(&r->kept, block, done);
	if (r->consumer && atomic_load_explicit(consumed, memory_order_relaxed) < done)
		atomic_store_explicit(consumed, done, memory_order_release);
}

/* Keeps the word's thread that of the caller: a writer waits for a consumer unless that is itself. */
static void sign(struct ring_reader *r)
{
	uint64_t word;

	if (pthread_equal(r->thread, pthread_self()))
		return;
	r->thread = pthread_self();
	word = (r->consumer & 0xfff) | (uint64_t)(uint32_t)gettid() << 12;
	if (atomic_compare_exchange_strong(&r->v.header->consumer, &r->consumer, word))
		r->consumer = word;
}

/* ---- looking at the ring ---- */

void ring_reading_list(struct ring_reader *r, uint32_t block)
{
	heap_remove(r, block); /* of the lap before */
	if (!r->sources[block].listed)
		r->active[r->active_count++] = block;
	r->sources[block].listed = 1;
	pass_to(r, block);
}

/* All blocks, for new leases. */
static void scan(struct ring_reader *r)
{
	r->rescan = false;
	r->overtaken = false;
	for (uint32_t i = 0; i < r->v.blocks; i++) {
		enum ring_look look = ring_source_look(&r->sources[i], &r->v, i, &r->lost);

		if (look == RING_LOOK_NEW)
			ring_reading_list(r, i);
		r->rescan |= look == RING_LOOK_RESET;
	}
}

/* Whether the block's next record is known. */
static bool find(struct ring_reader *r, uint32_t block)
{
	struct ring_source *s = &r->sources[block];
	uint64_t lost = r->lost;
	bool found = ring_source_next(s, r->a, &r->v, block, r->now, &r->lost);

	if (lost != r->lost)
		pass_to(r, block);
	return found;
}

/* The watermark is not above what the block may still bring. In a shared one others may be older than the next. */
static void limit_by(struct ring_reader *r, const struct ring_source *s)
{
	uint64_t limit = s->busy ? s->last : r->now - SETTLE_NS;

	if (s->open && (!s->heap || s->shared) && limit < r->watermark)
		r->watermark = limit;
}

/* One active block; false: no longer. */
static bool refresh(struct ring_reader *r, uint32_t block)
{
	struct ring_source *s = &r->sources[block];

	if (!ring_source_update(s, r->a, &r->v, block, r->now)) {
		heap_remove(r, block);
		r->rescan = r->overtaken = true;
		return false;
	}
	if (!s->heap && find(r, block))
		heap_add(r, block);
	limit_by(r, s);
	return !ring_source_finished(s, &r->v, block);
}

/* No record that is still to be written gets an older time. */
static uint64_t now_of(struct ring_reader *r)
{
	return clock_read(&r->line, r->v.header, !r->a->readonly) - clock_lag(ring_clock(r->a));
}

static void fill(struct ring_reader *r)
{
	uint64_t tickets, dropped;
	uint32_t kept = 0;

	r->now = now_of(r);
	tickets = atomic_load_explicit(&r->v.header->tickets, memory_order_acquire);
	if (tickets != r->tickets || r->rescan) {
		r->tickets = tickets;
		scan(r);
	}
	/* Leases that this has not seen read the clock later; one that is being made may have read it. */
	r->watermark = r->rescan ? r->now - SETTLE_NS : r->now;
	dropped = atomic_load_explicit(&r->v.header->dropped, memory_order_relaxed);
	r->lost += dropped - r->dropped;
	if (r->kept.p && dropped != r->dropped)
		ring_position_drop(&r->kept, dropped);
	r->dropped = dropped;
	for (uint32_t i = 0; i < r->active_count; i++) {
		uint32_t block = r->active[i];

		if (refresh(r, block))
			r->active[kept++] = block;
		else
			r->sources[block].listed = 0;
	}
	r->active_count = kept;
	if (r->watermark < r->now - RING_WINDOW_NS)
		r->watermark = r->now - RING_WINDOW_NS;
}

/* ---- delivering ---- */

static int make_buffer(struct ring_reader *r, size_t len)
{
	char *buffer;

	if (len < r->buffer_size)
		return 0;
	len = len < BUFFER_BYTES ? BUFFER_BYTES : len + 1;
	buffer = realloc(r->buffer, len);
	if (!buffer)
		return -ENOMEM;
	r->buffer = buffer;
	r->buffer_size = len;
	return 0;
}

/* Goes on to the next record of the block, as far as the last fill knows. */
static void step(struct ring_reader *r, uint32_t block)
{
	struct ring_source *s = &r->sources[block];

	r->pending = r->consumer || r->kept.p;
	r->pending_block = block;
	r->pending_lap = s->lap;
	r->pending_slot = s->slot;
	r->pending_shared = s->shared;
	ring_source_step(s);
	r->pending_done = s->done;
	r->delivered++;
	if (find(r, block))
		sink(r, s->heap - 1); /* younger than it was */
	else
		heap_remove(r, block);
	limit_by(r, s);
}

/* The oldest record: 1; 0: it was overwritten; -ENOMEM. */
static int deliver(struct ring_reader *r, struct ring_entry *e)
{
	uint32_t block = r->heap[0];
	struct ring_source *s = &r->sources[block];

	if (make_buffer(r, ring_source_length(s)))
		return -ENOMEM;
	e->data = r->buffer;
	if (!ring_source_copy(s, r->a, &r->v, block, e)) {
		/* The block's next lap says how many went. */
		heap_remove(r, block);
		r->rescan = r->overtaken = true;
		return 0;
	}
	e->lost = r->pending_lost = r->lost;
	r->lost = 0;
	e->late = s->key < r->last;
	if (s->key > r->last)
		r->last = s->key;
	step(r, block);
	return 1;
}

/* What is below the watermark: 1, 0 none, -ENOMEM. */
static int deliver_ordered(struct ring_reader *r, struct ring_entry *e)
{
	while (r->heap_count && key_at(r, 0) <= r->watermark) {
		int result = deliver(r, e);

		if (result)
			return result;
	}
	return 0;
}

/* A moment's work, so that writers are not kept from their lines. */
static void pause_between_looks(struct ring_reader *r)
{
	while (now_of(r) - r->now < SETTLE_NS / 4)
		atomic_signal_fence(memory_order_seq_cst);
}

/* The caller does not wait any longer: all that was committed, in the order there is, and the count of what
 * was lost. Writers caught in the middle get a moment, but not a tick of the coarse clock. */
static int deliver_all(struct ring_reader *r, struct ring_entry *e)
{
	uint64_t start = r->now, lag = clock_lag(ring_clock(r->a));
	int result;

	do {
		pause_between_looks(r);
		fill(r);
		result = deliver_ordered(r, e);
	} while (!result && (r->heap_count || r->overtaken) && !lag && r->now - start < BUSY_NS);
	if (result)
		return result;
	r->watermark = UINT64_MAX;
	result = deliver_ordered(r, e);
	/* And so on, until the next fill, for what this one has seen. */
	r->watermark = r->now + lag;
	return result;
}

/* ---- waiting ---- */

static void sleep_until_rung(struct ring_reader *r, uint64_t ns)
{
	uint32_t rings;
	bool busy;

	if (r->a->readonly) {
		ring_nap(ns < POLL_NS ? ns : POLL_NS);
		return;
	}
	busy = r->delivered - r->delivered_before >= BATCH_RECORDS;
	r->delivered_before = r->delivered;
	if (busy) {
		ring_nap(ns < BATCH_NS ? ns : BATCH_NS);
		return;
	}
	rings = ring_bell_arm(r->v.bell);
	fill(r);
	if (!r->heap_count)
		ring_bell_sleep(r->v.bell, rings, ns);
}

/* Something is there, but something older may be, too: mostly for less than it takes to fall asleep. */
static void hold(struct ring_reader *r, uint64_t ns)
{
	if (key_at(r, 0) <= r->now + SETTLE_NS && key_at(r, 0) + 2 * SETTLE_NS > r->now)
		pause_between_looks(r);
	else
		ring_nap(ns < HOLD_NS ? ns : HOLD_NS);
}

static int wait_and_deliver(struct ring_reader *r, struct ring_entry *e, int timeout_ms)
{
	uint64_t deadline;
	int result;

	tell_of_room(r, 1);
	fill(r);
	deadline = timeout_ms < 0 ? UINT64_MAX : r->now + (uint64_t)timeout_ms * 1000000;
	for (;;) {
		result = deliver_ordered(r, e);
		if (result)
			return result;
		if (r->now >= deadline)
			return r->heap_count || r->overtaken ? deliver_all(r, e) : 0;
		if (r->heap_count)
			hold(r, deadline - r->now);
		else
			sleep_until_rung(r, deadline - r->now);
		fill(r);
	}
}

int ring_reader_next(struct ring_reader *r, struct ring_entry *e, int timeout_ms)
{
	int result;

	if (r->pending)
		ring_reading_pass(r);
	if (r->consumer)
		sign(r);
	result = deliver_ordered(r, e);
	if (!result)
		result = wait_and_deliver(r, e, timeout_ms);
	if (!result)
		e->lost = r->lost;
	return result;
}
