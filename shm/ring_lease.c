/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases of blocks: who may write where, from the compare-and-swap that takes a complete block to the seal
 * that gives it up; and what happens when there is none to take.
 */
#include <errno.h>
#include <stdlib.h>

#include "client.h"
#include "liveness.h"
#include "ring_view.h"
#include "stop_point.h"
#include "words.h"

#define FULL_NS UINT64_C(100000) /* between looks for room of a thread that drops */
#define CLOCK_SET_NS 1000000 /* a change of CLOCK_REALTIME worth noting; below, it is measuring noise */

void ring_who(const struct arena *a, struct thread_block *tb, struct ring_who *who)
{
	who->writer = &tb->ring;
	who->client = a->client;
	who->thread = tb->index;
	who->tid = tb->tid;
	who->pid = atomic_load_explicit(&client_record_at(a, a->client)->pid, memory_order_relaxed);
}

/* ---- the life of a block: modelled in tests/model/ring_block.pml ---- */

static uint32_t records_of(const struct ring_view *v, uint32_t block, uint32_t lap, uint64_t committed)
{
	if (!ring_committed_of(committed, lap))
		return 0;
	return committed & RING_COMMITTED_SHARED ? ring_shared_records(v, block, lap) :
						   ring_committed_records(committed);
}

uint32_t ring_block_records(const struct ring_view *v, uint32_t block, uint64_t word)
{
	/* PAIR(ring-commit), and PAIR(ring-seal): all of a sealed block. */
	uint64_t committed = atomic_load_explicit(&v->heads[block].committed, memory_order_acquire);

	return records_of(v, block, ring_word_lap(word), committed);
}

uint64_t ring_reset_base(const struct ring_view *v, uint32_t block, uint64_t word, uint64_t committed)
{
	const struct ring_block *head = &v->heads[block];
	uint32_t lap = ring_word_lap(word);
	uint64_t base;

	if (ring_committed_of(committed, lap))
		return atomic_load_explicit(&head->base[lap & 1], memory_order_relaxed);
	base = atomic_load_explicit(&head->base[(lap - 1) & 1], memory_order_relaxed);
	if (atomic_load_explicit(&head->memory, memory_order_relaxed))
		base += records_of(v, block, lap - 1, committed);
	return base;
}

void ring_seal(const struct ring_view *v, uint32_t block, uint64_t word)
{
	uint64_t open = ring_word_in(word, RING_OPEN);

	STOP_POINT(ring_sealing);
	/* PAIR(ring-seal): the last committed length before sealed. A compare-and-swap, since what the
	 * caller knows of its lease lies in shared memory too.
	 * Crash: before, an open block of a dead thread, to be sealed by recovery; after, complete. */
	atomic_compare_exchange_strong_explicit(&v->words[block], &open, ring_word_in(open, RING_SEALED),
						memory_order_release, memory_order_relaxed);
}

/*
 * Crash: at any point the block stays resetting, and recovery calls this again. The committed word's lap
 * says whether its count was added: base comes before it, extents are freed before that and only once,
 * since their generation changes.
 */
void ring_reset(struct arena *a, const struct ring_view *v, uint32_t block, uint64_t word)
{
	struct ring_block *head = &v->heads[block];
	uint32_t lap = ring_word_lap(word);
	uint64_t committed = atomic_load_explicit(&head->committed, memory_order_acquire), base;

	if (ring_committed_of(committed, lap))
		return;
	base = ring_reset_base(v, block, word, committed);
	if (atomic_load_explicit(&head->memory, memory_order_relaxed))
		ring_large_release(a, v, block, lap - 1);
	atomic_store_explicit(&head->base[lap & 1], base, memory_order_relaxed);
	STOP_POINT(ring_counted);
	/* PAIR(ring-base): base before the lap in committed. */
	atomic_store_explicit(&head->committed, ring_committed(lap, false), memory_order_release);
	STOP_POINT(ring_lap_begun);
	atomic_store_explicit(&head->extents, 0, memory_order_relaxed);
	atomic_store_explicit(&head->close, 0, memory_order_relaxed);
	atomic_store_explicit(&head->busy, 0, memory_order_relaxed);
}

/* CLOCK_REALTIME minus the records' clock: the same value in all leases, unless the clock was set. */
static uint64_t real_offset(struct ring_header *header)
{
	uint64_t known = atomic_load_explicit(&header->real_offset, memory_order_relaxed), now;

	if (!clock_real_offset(&now) || llabs((int64_t)(now - known)) < CLOCK_SET_NS)
		return known;
	atomic_store_explicit(&header->real_offset, now, memory_order_relaxed);
	return now;
}

static void sign(const struct arena *a, const struct ring_view *v, struct ring_block *head,
		 const struct ring_who *who)
{
	uint64_t word = atomic_load_explicit(client_word_at(a, who->client), memory_order_relaxed);

	atomic_store_explicit(&head->real_offset, real_offset(v->header), memory_order_relaxed);
	atomic_store_explicit(&head->incarnation, client_word_incarnation(word), memory_order_relaxed);
	atomic_store_explicit(&head->pid, who->pid, memory_order_relaxed);
	atomic_store_explicit(&head->tid, who->tid, memory_order_relaxed);
}

uint64_t ring_word_empty(const struct ring_view *v, uint32_t block, uint64_t word)
{
	bool memory = atomic_load_explicit(&v->heads[block].memory, memory_order_relaxed);

	return ring_word_in(word & ~RING_SHARED_BIT, memory ? RING_SEALED : RING_FREE);
}

static int commit_memory(struct arena *a, const struct ring_view *v, uint32_t block, bool shared)
{
	struct ring_block *head = &v->heads[block];
	uint64_t slots = v->slots_at + 8 * (uint64_t)v->block_slots * block;
	int r = 0;

	if (!atomic_load_explicit(&head->memory, memory_order_relaxed)) {
		r = arena_commit(a, ring_block_at(v, block), ring_block_bytes(v));
		if (!r)
			atomic_store_explicit(&head->memory, 1, memory_order_release);
	}
	return r || !shared ? r : arena_commit(a, slots, 8 * v->block_slots);
}

/*
 * Takes a block whose word was seen to allow it. -EBUSY: someone was faster.
 * Crash: from the first swap on the block is resetting and its lap's records are gone; recovery finishes
 * the count and seals it, empty. What the swap took was complete. Modelled in tests/model/ring_block.pml.
 */
static int take(struct arena *a, const struct ring_view *v, const struct ring_who *who, uint32_t block,
		uint64_t seen, enum ring_lease how)
{
	bool shared = how == RING_LEASE_SHARED;
	uint64_t word = ring_word(RING_RESETTING, shared, who->client, who->thread,
				  ring_word_lap(seen) + 1);
	struct ring_block *head = &v->heads[block];
	int r = ring_large_prepare(a, v, block, ring_word_lap(seen));

	if (r)
		return r;
	/* PAIR(ring-seal): sealed, then what was in it. */
	if (!atomic_compare_exchange_strong_explicit(&v->words[block], &seen, word, memory_order_acq_rel,
						     memory_order_relaxed))
		return -EBUSY;
	/* PAIR(ring-reset): the new word before anything in the block changes; a reader that copied from
	 * it looks at the word again afterwards. */
	atomic_thread_fence(memory_order_release);
	STOP_POINT(ring_resetting);
	ring_reset(a, v, block, word);
	r = how == RING_LEASE_RETIRE ? 0 : commit_memory(a, v, block, shared);
	if (shared && !r) /* not before its slots may be read */
		atomic_store_explicit(&head->committed, ring_committed(ring_word_lap(word), true),
				      memory_order_release);
	sign(a, v, head, who);
	STOP_POINT(ring_signed);
	/* The ticket tells readers to look for new leases: before the block opens, so that none is missed
	 * for good; those that find it still resetting look again. */
	atomic_store_explicit(&head->ticket, atomic_fetch_add(&v->header->tickets, 1) + 1,
			      memory_order_relaxed);
	if (r || how == RING_LEASE_RETIRE)
		word = ring_word_empty(v, block, word);
	else if (shared)
		word = ring_word(RING_OPEN, true, 0, 0, ring_word_lap(word));
	else
		word = ring_word_in(word, RING_OPEN);
	STOP_POINT(ring_ticketed);
	/* PAIR(ring-lease): head before open. */
	atomic_store_explicit(&v->words[block], word, memory_order_release);
	return r;
}

/* ---- the consumer ---- */

/* Whether it is done with a block. */
static bool passed(const struct ring_view *v, uint32_t block, uint64_t word)
{
	struct ring_block *head = &v->heads[block];
	uint32_t records = ring_block_records(v, block, word);
	uint64_t base = atomic_load_explicit(&head->base[ring_word_lap(word) & 1], memory_order_relaxed);

	/* PAIR(ring-consumed): the consumer has copied what it is done with. */
	return !records ||
	       atomic_load_explicit(&head->consumed, memory_order_acquire) >= base + records;
}

/* Asks the kernel: a dead consumer holds nobody up, recovered yet or not. */
bool ring_consumer_lives(const struct arena *a, uint64_t consumer)
{
	uint32_t client = (uint32_t)consumer & 0xfff;

	return client && (client == a->client || !liveness_is_dead(a, client));
}

/* What a writer without room has before it. */
enum obstacle { NOBODY, CONSUMER, MYSELF };

static enum obstacle obstacle_of(const struct arena *a, const struct ring_view *v,
				 const struct ring_who *who)
{
	uint64_t consumer = atomic_load_explicit(&v->header->consumer, memory_order_acquire);

	if (!ring_consumer_lives(a, consumer))
		return NOBODY;
	/* The thread that consumes would wait for itself. */
	return (consumer & 0xfff) == who->client && (pid_t)(consumer >> 12) == who->tid ? MYSELF :
											  CONSUMER;
}

/* ---- finding a block ---- */

/* Whether a block may be taken; a shared one is closed to find out. */
static bool takeable(const struct ring_view *v, uint32_t block, uint64_t word, bool guarded)
{
	switch (ring_word_state(word)) {
	case RING_FREE:
		return true;
	case RING_SEALED:
		break;
	case RING_OPEN:
		/* In ring order its turn has come round: it is the oldest of the shared ones. */
		if (!ring_word_shared(word) || !ring_shared_close(v, block, ring_word_lap(word)))
			return false;
		break;
	default:
		return false;
	}
	return !guarded || passed(v, block, word);
}

/* One block: 0 taken; -EBUSY not to be had; -ENOMEM. */
static int try_block(struct arena *a, const struct ring_view *v, const struct ring_who *who,
		     uint32_t block, enum ring_lease how, bool guarded, bool poor)
{
	/* PAIR(ring-seal). */
	uint64_t word = atomic_load_explicit(&v->words[block], memory_order_acquire);
	bool unused = ring_word_state(word) == RING_FREE;

	if (!takeable(v, block, word, guarded))
		return -EBUSY;
	if (unused && how == RING_LEASE_RETIRE)
		return 0; /* nothing in it to make up with */
	return unused && poor ? -EBUSY : take(a, v, who, block, word, how);
}

/* In ring order. -EAGAIN: none can be taken; -ENOMEM: none but new ones, for which there is no memory. */
static int take_next(struct arena *a, const struct ring_view *v, const struct ring_who *who,
		     enum ring_lease how, bool guarded, uint32_t *ret)
{
	bool poor = false;

	/* Twice round, since others move the cursor too. */
	for (uint64_t i = 0; i < 2 * (uint64_t)v->blocks; i++) {
		uint64_t cursor = atomic_load_explicit(&v->header->cursor, memory_order_relaxed);
		uint32_t block = (uint32_t)(cursor % v->blocks);
		int r = try_block(a, v, who, block, how, guarded, poor);

		STOP_POINT(ring_taken);
		atomic_compare_exchange_strong_explicit(&v->header->cursor, &cursor, cursor + 1,
							memory_order_relaxed, memory_order_relaxed);
		if (!r) {
			*ret = block;
			return 0;
		}
		poor |= r == -ENOMEM;
	}
	return poor ? -ENOMEM : -EAGAIN;
}

/* ---- how many leases a ring bears ---- */

static uint32_t own_leases(const struct ring_view *v)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < v->blocks; i++) {
		uint64_t word = atomic_load_explicit(&v->words[i], memory_order_relaxed);

		count += ring_word_state(word) == RING_OPEN && !ring_word_shared(word);
	}
	return count;
}

/* Asks for the oldest lease back, if the ring has gone round since it was given: its owner is slow. */
static void ask_for_oldest(const struct ring_view *v)
{
	uint64_t oldest = UINT64_MAX, tickets = atomic_load(&v->header->tickets);
	uint32_t found = 0;

	for (uint32_t i = 0; i < v->blocks; i++) {
		uint64_t word = atomic_load_explicit(&v->words[i], memory_order_relaxed);
		uint64_t ticket = atomic_load_explicit(&v->heads[i].ticket, memory_order_relaxed);

		if (ring_word_state(word) == RING_OPEN && !ring_word_shared(word) && ticket < oldest) {
			oldest = ticket;
			found = i;
		}
	}
	/* If it is another's lease by now, that one is cut short: no harm. */
	if (oldest < tickets && tickets - oldest > v->blocks)
		atomic_store_explicit(&v->heads[found].close, 1, memory_order_relaxed);
}

/* ---- leasing ---- */

/* One more try under the policy of this moment. *obstacle is who was in the way, if it is -EAGAIN. */
static int lease_once(struct arena *a, const struct ring_view *v, const struct ring_who *who,
		      enum ring_lease how, enum obstacle *obstacle, uint32_t *ret)
{
	int r;

	*obstacle = NOBODY;
	if (ring_policy(a) == RING_OVERWRITE || !atomic_load(&v->header->consumer))
		return take_next(a, v, who, how, false, ret);
	r = take_next(a, v, who, how, true, ret);
	if (r != -EAGAIN)
		return r;
	*obstacle = obstacle_of(a, v, who);
	return *obstacle == NOBODY ? take_next(a, v, who, how, false, ret) : r;
}

/* A thread that drops records looks for room again when the consumer has made some, or after a moment, in
 * case that it died. */
static bool surely_full(const struct arena *a, const struct ring_view *v, const struct ring_writer *w)
{
	return w->full_until && ring_policy(a) == RING_DROP &&
	       w->full_room == atomic_load_explicit(&v->bell->room, memory_order_relaxed) &&
	       clock_now() < w->full_until;
}

static void note_full(struct ring_writer *w, uint32_t room)
{
	w->full_room = room;
	w->full_until = clock_now() + FULL_NS;
}

/* Looks for a block; without room, arms the answer and looks again; then drops or waits. */
static int lease_patiently(struct arena *a, const struct ring_view *v, const struct ring_who *who,
			   enum ring_lease how, uint32_t *ret)
{
	enum obstacle obstacle;
	uint32_t room = 0;
	int r;

	for (bool armed = false;; armed = !armed) {
		r = lease_once(a, v, who, how, &obstacle, ret);
		if (r != -EAGAIN || obstacle != CONSUMER)
			return r;
		/* PAIR(ring-room): waiting, then another look; the consumer: consumed, then waiting. */
		if (!armed) {
			room = ring_room_arm(v->bell);
		} else if (ring_policy(a) == RING_DROP) {
			note_full(who->writer, room);
			return r;
		} else {
			ring_room_sleep(v->bell, room);
		}
	}
}

int ring_lease(struct arena *a, const struct ring_view *v, const struct ring_who *who,
	       enum ring_lease how, uint32_t *ret)
{
	int r;

	clock_settle(who->writer, v->header, ring_clock(a));
	if (surely_full(a, v, who->writer))
		return -EAGAIN;
	ring_bell_register(a);
	if (how == RING_LEASE_OWN && 2 * ((uint64_t)own_leases(v) + 1) + 8 > v->blocks) {
		ask_for_oldest(v);
		return -EDQUOT;
	}
	r = lease_patiently(a, v, who, how, ret);
	if (!r)
		who->writer->full_until = 0;
	return r;
}

/* Never back, whatever signal handlers have made of it since the caller looked. */
static void begin_dropping(struct ring_writer *w, uint64_t number)
{
	uint64_t seen = __atomic_load_n(&w->dropped_from, __ATOMIC_RELAXED);

	while (seen < number && !clock_swap_own(&w->dropped_from, seen, number))
		seen = __atomic_load_n(&w->dropped_from, __ATOMIC_RELAXED);
}

/*
 * A number is taken, and whether it was dropped is noted, by one instruction; where dropping begins, before
 * that. A signal handler that comes between changes last too, so that it is all done again: the record that
 * comes next says exactly how many were dropped right before it.
 */
int ring_drop(const struct ring_view *v, struct ring_writer *w)
{
	uint64_t seen;

	do {
		seen = __atomic_load_n(&w->last, __ATOMIC_RELAXED);
		if (!(seen & 1))
			begin_dropping(w, (seen >> 1) + 1);
	} while (!clock_swap_own(&w->last, seen, (seen + 2) | 1));
	/* Crash: before, the caller never learns of it, and nobody counts it. */
	atomic_fetch_add_explicit(&v->header->dropped, 1, memory_order_relaxed);
	return -EAGAIN;
}
