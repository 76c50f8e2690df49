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
#include "ring_turn.h"
#include "stop_point.h"

#define SETTLE_NS UINT64_C(3000)   /* a store arrives within this, and mostly a record in the making is done */
#define BUSY_NS UINT64_C(100000)   /* longest look at busy writers by a caller that does not wait */
#define MOVED_LOOKS 16		   /* the same by the coarse clock, while blocks are leased */
#define HOLD_NS UINT64_C(100000)   /* between looks while something is held back */
#define BATCH_NS UINT64_C(200000)  /* between looks while records keep coming: spares the writers */
#define BATCH_RECORDS 16u	   /* … that is, while so many came since the last */
#define POLL_NS UINT64_C(1000000)  /* between looks where the bell cannot be armed */

#define GRAIN_NS UINT64_C(4096)	   /* of the order by the coarse clock; a power of two */

#define ROOM_PART 8u /* of the blocks, before waiting writers are woken while records keep coming */

#define FUTURE_NS UINT64_C(1000000000) /* further ahead than this no record is by itself in order */

#define BUFFER_BYTES ((size_t)4096)

/* ---- runs ---- */

/* The first block goes where the key of its next record belongs. */
static void end_run(struct ring_reader *r)
{
	if (r->run_until && r->heap_count)
		ring_turn_sink(r, 0, r->heap[0]);
	r->run_until = 0;
}

/* A thread's records stay in order, wherever they are: so the run ends where another block has one of its own. */
static void begin_run(struct ring_reader *r, const struct ring_source *s)
{
	if (s->shared || r->grain == UINT64_MAX)
		return;
	r->run_until = s->key | ~r->grain;
	for (uint32_t i = 1; i < r->heap_count; i++) {
		const struct ring_source *other = &r->sources[r->heap[i].block];

		if (other->key < r->run_until && (other->shared || (other->author.tid == s->author.tid &&
								    other->author.pid == s->author.pid)))
			r->run_until = other->key;
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
static inline void set_consumed(_Atomic uint64_t *consumed, uint64_t done)
{
	/* PAIR(ring-consumed): copied, then consumed. */
	atomic_store_explicit(consumed, done, memory_order_release);
	STOP_POINT(ring_passed);
}

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
	set_consumed(&head->consumed, r->pending_done);
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
	ring_turn_remove(r, block); /* of the lap before */
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
		ring_turn_remove(r, block);
		r->rescan = r->overtaken = true;
		return false;
	}
	if (!s->heap && find(r, block))
		ring_turn_add(r, block);
	limit_by(r, s);
	return !ring_source_finished(s, &r->v, block);
}

/*
 * By the coarse clock records of two threads between the same two ticks have times that say nothing of each other.
 * A thread's go together as far as its times do not differ by more than this: so blocks are read one behind another.
 */
static uint64_t grain_of(const struct arena *a)
{
	return ring_clock(a) == CLOCK_KIND_COARSE ? ~(GRAIN_NS - 1) : UINT64_MAX;
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

	end_run(r);
	r->now = now_of(r);
	r->grain = grain_of(r->a);
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
	r->moved = tickets != atomic_load_explicit(&r->v.header->tickets, memory_order_acquire);
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

/* ---- late ---- */

/* Whether a record comes after younger ones: of anybody, as far as times say which was first; of its own thread. */
static bool is_late(struct ring_reader *r, uint64_t key, pid_t pid, pid_t tid)
{
	struct ring_heard *h = &r->heard[(uint32_t)tid % RING_HEARD];
	bool late = (key & r->grain) < (r->last & r->grain);

	if (key > r->last)
		r->last = key;
	if (r->grain == UINT64_MAX)
		return late;
	late |= h->tid == tid && h->pid == pid && key < h->time;
	if (h->tid != tid || h->pid != pid || key > h->time)
		*h = (struct ring_heard){ .pid = pid, .tid = tid, .time = key };
	return late;
}

/* Its next record, as far as the last fill knows, takes its turn. */
static void take_turn(struct ring_reader *r, uint32_t block)
{
	struct ring_source *s = &r->sources[block];

	if (!find(r, block)) {
		ring_turn_remove(r, block);
	} else if (s->key <= r->run_until) {
		r->heap[0].key = s->key;
	} else { /* younger than it was */
		r->run_until = 0;
		ring_turn_sink(r, 0, (struct ring_turn){ .key = s->key, .block = block });
	}
	limit_by(r, s);
}

/* Goes on behind the first block's record. */
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
	take_turn(r, block);
}

/* ---- one behind another ---- */

/* What is in the first block's window, and before what all others have. */
static void run(struct ring_reader *r, uint32_t block)
{
	uint64_t limit = r->now + FUTURE_NS;

	if (!r->heap_count || r->heap[0].block != block || !r->sources[block].window || r->kept.p)
		return;
	for (uint32_t i = 1; i <= 2 && i < r->heap_count; i++)
		limit = r->heap[i].key < limit ? r->heap[i].key : limit;
	limit = limit < r->run_until ? r->run_until : limit;
	r->run_limit = limit < r->watermark ? limit : r->watermark;
	r->run_consumed = r->consumer ? &r->v.heads[block].consumed : NULL;
	r->run = &r->sources[block];
}

/* The block takes part in the order again. */
static void settle(struct ring_reader *r)
{
	struct ring_source *s = r->run;

	r->run = NULL;
	if (s->last < s->key)
		s->last = s->key;
	is_late(r, s->key, s->author.pid, s->author.tid); /* it is not, but those may be that come */
	take_turn(r, r->heap[0].block);
}

/* One more: of the record before, of the same block, which is not its last, no more is to be told than that it is
 * done with. */
static inline bool deliver_run(struct ring_reader *r, struct ring_entry *e)
{
	struct ring_source *s = r->run;
	const struct ring_record *record = ring_source_here(s);

	if (!record || record->time > r->run_limit)
		return false;
	if (r->run_consumed)
		set_consumed(r->run_consumed, s->done);
	ring_source_give(s, record, r->pending_block, e);
	e->lost = 0;
	e->late = (record->time & r->grain) < (r->last & r->grain);
	if (record->time > r->last)
		r->last = record->time;
	s->key = record->time;
	s->pos += ring_info_bytes(record->info);
	r->pending_done = ++s->done;
	r->delivered++;
	return true;
}

/* ---- in order ---- */

/* Copies more than the next record at once. False: the lap is over. */
static bool load(struct ring_reader *r, struct ring_source *s, uint32_t block)
{
	char *window = s->window;

	if (s->shared || s->bytes > RING_WINDOW_BYTES)
		return true;
	if (!window && r->window_count)
		window = r->windows[--r->window_count];
	if (!window && r->window_made < RING_WINDOWS) {
		window = malloc(RING_WINDOW_BYTES);
		r->window_made += window != NULL;
	}
	return !window || ring_source_load(s, r->a, &r->v, block, window, RING_WINDOW_BYTES);
}

/* The record by itself. */
static int copy(struct ring_reader *r, const struct ring_source *s, uint32_t block, struct ring_entry *e)
{
	if (make_buffer(r, ring_source_length(s)))
		return -ENOMEM;
	e->data = r->buffer;
	return ring_source_copy(s, r->a, &r->v, block, e);
}

static int give(struct ring_reader *r, struct ring_source *s, uint32_t block, struct ring_entry *e)
{
	const struct ring_record *record = ring_source_here(s);

	if (!record) {
		if (!load(r, s, block))
			return 0;
		record = ring_source_here(s);
	}
	if (!record)
		return copy(r, s, block, e);
	ring_source_give(s, record, block, e);
	return 1;
}

/* The oldest record: 1; 0: it was overwritten; -ENOMEM. */
static int deliver(struct ring_reader *r, struct ring_entry *e)
{
	uint32_t block = r->heap[0].block;
	struct ring_source *s = &r->sources[block];
	int result;

	if (!r->run_until)
		begin_run(r, s);
	result = give(r, s, block, e);
	if (result < 0)
		return result;
	if (!result) {
		/* The block's next lap says how many went. */
		ring_turn_remove(r, block);
		r->rescan = r->overtaken = true;
		return 0;
	}
	e->lost = r->pending_lost = r->lost;
	r->lost = 0;
	e->late = is_late(r, s->key, e->pid, e->tid);
	step(r, block);
	if (!e->late)
		run(r, block);
	return 1;
}

/* What is below the watermark: 1, 0 none, -ENOMEM. */
static int deliver_ordered(struct ring_reader *r, struct ring_entry *e)
{
	while (r->heap_count && r->heap[0].key <= r->watermark) {
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
	int result, looks = 0;

	do {
		pause_between_looks(r);
		fill(r);
		result = deliver_ordered(r, e);
	} while (!result && (r->heap_count || r->overtaken) &&
		 (lag ? r->moved && ++looks < MOVED_LOOKS : r->now - start < BUSY_NS));
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
	if (r->heap[0].key <= r->now + SETTLE_NS && r->heap[0].key + 2 * SETTLE_NS > r->now)
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

	if (r->consumer)
		sign(r);
	if (r->run) {
		if (__builtin_expect(deliver_run(r, e), 1))
			return 1;
		settle(r);
	}
	if (r->pending)
		ring_reading_pass(r);
	result = deliver_ordered(r, e);
	if (!result)
		result = wait_and_deliver(r, e, timeout_ms);
	if (!result)
		e->lost = r->lost;
	return result;
}
