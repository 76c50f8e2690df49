/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Draining: which blocks, in which order, how far; what was lost.
 *
 * A block of one thread is taken when it is sealed: sealed -> draining keeps it from being reset, so that it
 * can be written straight from the mapping, and back. What an open or a shared block has so far is copied, and
 * the word looked at again, as a reader does.
 *
 * The truth of what is drained is ring_block.consumed, with the states of a shared block's slots: it is stored
 * after the piece was written. Who was killed in between finds the piece itself where it was written, and its
 * done says as much (ring_drain_note()). Losses follow: base, the records of all earlier laps, less consumed.
 * Modelled in tests/model/ring_drain.pml.
 */
#include "ring_piece.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "stop_point.h"

struct ring_due {
	uint64_t ticket;
	uint32_t block;
};

/* ---- laps ---- */

static uint64_t word_of(const struct ring_drain *d, uint32_t block)
{
	/* PAIR(ring-lease), PAIR(ring-seal). */
	return atomic_load_explicit(&d->v.words[block], memory_order_acquire);
}

bool ring_drain_still(const struct ring_drain *d, uint32_t block, uint32_t lap)
{
	uint64_t word;

	/* PAIR(ring-reset): the copy before the word. */
	atomic_thread_fence(memory_order_acquire);
	word = atomic_load_explicit(&d->v.words[block], memory_order_relaxed);
	return ring_word_readable(word) && ring_word_lap(word) == lap;
}

/* Steps over the records that are done. */
static void resume_own(struct ring_drain *d, uint32_t block, uint64_t done)
{
	struct ring_drained *s = &d->blocks[block];
	const char *data = arena_at(d->a, ring_block_at(&d->v, block));
	struct ring_record record;
	uint32_t records, end;

	if (done <= s->base || !ring_piece_committed(d, block, s->lap, &records, &end))
		return;
	while (s->count < done - s->base && s->at < end &&
	       ring_piece_record(data + s->at, end - s->at, &record)) {
		s->at += ring_info_bytes(record.info);
		s->count++;
	}
	s->done = s->base + s->count;
}

/* What was lost before the lap was told with the first of its records. */
static void resume_shared(struct ring_drain *d, uint32_t block)
{
	struct ring_drained *s = &d->blocks[block];
	struct ring_slot_walk w = { 0 };

	while (ring_slot_next(d, block, s->lap, &w)) {
		bool noted = s->noted_lap == s->lap && ring_bit(s->noted, w.slot - 1);

		if (ring_slot_state(w.word) != RING_SLOT_CONSUMED &&
		    !(noted && ring_slot_state(w.word) == RING_SLOT_DONE))
			continue;
		ring_set_bit(s->slots, w.slot - 1);
		s->count++;
	}
	if (s->count)
		s->done = s->base + s->count;
}

/* Goes on in a lap where the drain before, or another consumer, was. More than there is to be done with is in a
 * ring that went back, as after a power cut; or in a damaged one. */
static void adopt(struct ring_drain *d, uint32_t block, uint64_t word, uint64_t base)
{
	struct ring_drained *s = &d->blocks[block];
	uint64_t done = s->done;

	s->lap = ring_word_lap(word);
	s->shared = ring_word_shared(word);
	s->base = base;
	s->at = s->count = 0;
	memset(s->slots, 0, sizeof(s->slots));
	if (s->done > base)
		s->done = base;
	if (s->shared)
		resume_shared(d, block);
	else
		resume_own(d, block, done);
	if (ring_drain_still(d, block, s->lap))
		return;
	s->lap = 0;
	s->done = done;
}

/* Looks which lap a block is in. False: it holds nothing, or nothing can be said of it now. */
static bool look(struct ring_drain *d, uint32_t block, uint64_t *word)
{
	const struct ring_block *head = &d->v.heads[block];
	uint64_t base;

	*word = word_of(d, block);
	if (ring_word_state(*word) != RING_OPEN && ring_word_state(*word) != RING_SEALED)
		return false;
	if (ring_word_lap(*word) == d->blocks[block].lap)
		return true;
	base = atomic_load_explicit(&head->base[ring_word_lap(*word) & 1], memory_order_relaxed);
	if (!ring_drain_still(d, block, ring_word_lap(*word)) ||
	    !atomic_load_explicit(&head->memory, memory_order_relaxed))
		return false;
	adopt(d, block, *word, base);
	return d->blocks[block].lap != 0;
}

/* ---- keeping a block from being reset ---- */

void ring_drain_let_go(struct ring_drain *d, uint32_t block, uint64_t held)
{
	uint64_t mine = ring_word(RING_DRAINING, ring_word_shared(held), d->a->client, RING_DRAIN_THREAD,
				  ring_word_lap(held));

	/* PAIR(ring-seal): what was read of the block before it may be reset.
	 * Crash: before, a block that a dead client drains, which its recoverer seals; after, sealed. */
	atomic_compare_exchange_strong_explicit(&d->v.words[block], &mine, held, memory_order_release,
						memory_order_relaxed);
	d->held--;
}

bool ring_drain_hold(struct ring_drain *d, uint32_t block, uint64_t word)
{
	uint64_t mine = ring_word(RING_DRAINING, ring_word_shared(word), d->a->client, RING_DRAIN_THREAD,
				  ring_word_lap(word));

	if (d->held >= d->v.blocks / 4)
		return false;
	STOP_POINT(ring_holding);
	/* PAIR(ring-seal): sealed, then what is in it.
	 * Crash: before, nothing; after, its recoverer seals the block again, undrained. */
	if (!atomic_compare_exchange_strong_explicit(&d->v.words[block], &word, mine,
						     memory_order_acquire, memory_order_relaxed))
		return false;
	STOP_POINT(ring_held);
	d->held++;
	return true;
}

/* ---- gathering ---- */

static int take(struct ring_drain *d, struct ring_batch *b, uint32_t block, uint64_t max_bytes, bool open)
{
	uint64_t word;
	int r = 0;

	if (!look(d, block, &word))
		return 0;
	if (d->blocks[block].shared)
		r = ring_piece_shared(d, b, block, max_bytes);
	else if (ring_word_state(word) == RING_SEALED)
		r = ring_piece_sealed(d, b, block, word);
	else if (open)
		r = ring_piece_open(d, b, block, word);
	if (!r && open)
		r = ring_piece_lost(d, b, block);
	return r;
}

static int by_ticket(const void *x, const void *y)
{
	const struct ring_due *l = x, *r = y;

	return l->ticket < r->ticket ? -1 : l->ticket > r->ticket;
}

/* Whether all is drained of what a block has, as far as can be seen without taking it. */
static bool is_drained(const struct ring_drain *d, uint32_t block)
{
	const struct ring_drained *s = &d->blocks[block];
	uint32_t records, end;

	if (ring_piece_owed(s))
		return false;
	if (s->shared)
		return ring_shared_records(&d->v, block, s->lap) <= s->count;
	return ring_piece_committed(d, block, s->lap, &records, &end) && end <= s->at &&
	       records <= s->count;
}

/* Whether a block is complete: a shared one that threads have left for another may still get some records,
 * but is not waited for. */
static bool is_complete(const struct ring_drain *d, uint32_t block, uint64_t word)
{
	if (d->blocks[block].shared)
		return atomic_load_explicit(&d->v.header->shared, memory_order_relaxed) != block + 1;
	return ring_word_state(word) == RING_SEALED;
}

/* Blocks that may have something, the oldest lease first. */
static uint32_t list(struct ring_drain *d, bool open)
{
	uint32_t n = 0;
	uint64_t word;

	for (uint32_t i = 0; i < d->v.blocks; i++) {
		if (d->blocks[i].busy || !look(d, i, &word) ||
		    !(open || is_complete(d, i, word)) || is_drained(d, i))
			continue;
		d->order[n++] = (struct ring_due){
			atomic_load_explicit(&d->v.heads[i].ticket, memory_order_relaxed), i
		};
	}
	qsort(d->order, n, sizeof(*d->order), by_ticket);
	return n;
}

int ring_drain_gather(struct ring_drain *d, struct ring_batch *b, uint64_t max_bytes, bool open)
{
	uint32_t n = list(d, open);
	int r = 0;

	b->count = 0;
	b->bytes = 0;
	for (uint32_t i = 0; i < n && b->bytes < max_bytes && b->count + 2 < RING_BATCH_PIECES; i++) {
		uint32_t before = b->count;

		r = take(d, b, d->order[i].block, max_bytes, open);
		if (r < 0)
			break;
		d->blocks[d->order[i].block].busy = b->count > before;
	}
	return b->count || r == -E2BIG ? (int)b->count : r < 0 ? r : 0;
}

/* ---- afterwards ---- */

/* Crash: a slot is consumed or not; the piece says it, too. */
static void consume_slots(struct ring_drain *d, uint32_t block, uint32_t lap, const uint64_t *slots)
{
	uint64_t word = word_of(d, block);

	if (!ring_word_readable(word) || ring_word_lap(word) != lap)
		return; /* overwritten meanwhile */
	for (uint32_t i = 0; i < d->v.block_slots; i++) {
		uint64_t slot = atomic_load(&ring_block_slots(&d->v, block)[i]);

		if (ring_bit(slots, i) && ring_slot_of(slot, lap) &&
		    ring_slot_state(slot) == RING_SLOT_DONE)
			atomic_compare_exchange_strong(&ring_block_slots(&d->v, block)[i], &slot,
						       ring_slot_in(slot, RING_SLOT_CONSUMED));
	}
}

static void consume(struct ring_drain *d, uint32_t block, uint64_t done)
{
	/* PAIR(ring-consumed): written, then consumed.
	 * Crash: before, the piece itself says that it is written; after, this does. */
	atomic_store_explicit(&d->v.heads[block].consumed, done, memory_order_release);
	STOP_POINT(ring_drained);
}

static void piece_written(struct ring_drain *d, struct ring_piece *p)
{
	struct ring_drained *s = &d->blocks[p->block];

	s->busy = false;
	if (p->kind == RING_PIECE_LARGE)
		return;
	d->lost += p->lost;
	s->owed = p->damaged;
	s->done = p->done;
	s->at = p->next;
	s->count = p->count;
	for (uint32_t i = 0; i < RING_SLOT_WORDS; i++)
		s->slots[i] |= p->slots[i];
	if (s->shared)
		consume_slots(d, p->block, p->lap, p->slots);
	consume(d, p->block, p->done);
	if (p->held)
		ring_drain_let_go(d, p->block, p->held);
}

void ring_drain_written(struct ring_drain *d, struct ring_batch *b)
{
	for (uint32_t i = 0; i < b->count; i++)
		piece_written(d, &b->pieces[i]);
	if (b->count)
		ring_room_made(d->v.bell);
	ring_piece_forget(b, 0);
}

void ring_drain_release(struct ring_drain *d, struct ring_batch *b, bool usable)
{
	for (uint32_t i = 0; i < b->count; i++) {
		struct ring_piece *p = &b->pieces[i];

		d->blocks[p->block].busy = false;
		if (p->held && usable)
			ring_drain_let_go(d, p->block, p->held);
	}
	ring_piece_forget(b, 0);
}

/* ---- where it begins ---- */

void ring_drain_note(struct ring_drain *d, const struct ring_piece *said)
{
	struct ring_drained *s;
	uint64_t consumed;
	uint32_t more;

	if (said->kind == RING_PIECE_LARGE || said->block >= d->v.blocks)
		return;
	s = &d->blocks[said->block];
	/* What the ring says is behind by no more than was on its way to the disk. */
	consumed = atomic_load_explicit(&d->v.heads[said->block].consumed, memory_order_relaxed);
	more = (uint32_t)said->done - (uint32_t)consumed;
	if (more <= INT32_MAX && consumed + more > s->done)
		s->done = consumed + more;
	if (said->kind != RING_PIECE_SHARED ||
	    said->ticket != atomic_load_explicit(&d->v.heads[said->block].ticket, memory_order_relaxed))
		return;
	if (s->noted_lap != said->lap)
		memset(s->noted, 0, sizeof(s->noted));
	s->noted_lap = said->lap;
	for (uint32_t i = 0; i < RING_SLOT_WORDS; i++)
		s->noted[i] |= said->slots[i];
}

/* Crash: what was noted may be consumed or not; the next to come notes it again. */
static void resume(struct ring_drain *d, uint32_t block)
{
	struct ring_drained *s = &d->blocks[block];
	uint64_t consumed = atomic_load_explicit(&d->v.heads[block].consumed, memory_order_relaxed);
	uint64_t word;

	if (s->done < consumed)
		s->done = consumed;
	s->lap = 0;
	if (look(d, block, &word) && s->shared)
		consume_slots(d, block, s->lap, s->slots);
	if (s->done > consumed)
		consume(d, block, s->done);
}

static int sign(struct ring_drain *d)
{
	struct arena *a = d->a;
	uint64_t word = a->client | (uint64_t)(uint32_t)gettid() << 12, seen = 0;

	if (a->readonly)
		return -EROFS;
	if (!a->client)
		return -EINVAL;
	/* Crash: the next to ask finds the consumer dead. */
	while (!atomic_compare_exchange_strong(&d->v.header->consumer, &seen, word))
		if (ring_consumer_lives(a, seen))
			return -EBUSY;
	d->consumer = word;
	return 0;
}

int ring_drain_consume(struct ring_drain *d)
{
	int r;

	if (d->consumer && atomic_load(&d->v.header->consumer) == d->consumer)
		return 0;
	d->consumer = 0;
	r = sign(d);
	if (r)
		return r;
	for (uint32_t i = 0; i < d->v.blocks; i++)
		if (!d->blocks[i].busy)
			resume(d, i);
	ring_room_made(d->v.bell);
	return 0;
}

void ring_drain_resign(struct ring_drain *d)
{
	uint64_t mine = d->consumer;

	if (mine && atomic_compare_exchange_strong(&d->v.header->consumer, &mine, 0))
		ring_room_made(d->v.bell);
	d->consumer = 0;
}

int ring_drain_open(struct arena *a, struct ring_drain **ret)
{
	struct ring_drain *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->a = a;
	if (!ring_view(a, &d->v)) {
		free(d);
		return -EUCLEAN;
	}
	d->blocks = calloc(d->v.blocks, sizeof(*d->blocks));
	d->order = calloc(d->v.blocks, sizeof(*d->order));
	if (!d->blocks || !d->order) {
		ring_drain_close(d, false);
		return -ENOMEM;
	}
	*ret = d;
	return 0;
}

void ring_drain_shape(const struct ring_drain *d, uint32_t *block_bytes, uint32_t *blocks)
{
	*block_bytes = ring_block_bytes(&d->v);
	*blocks = d->v.blocks;
}

_Atomic uint32_t *ring_drain_arm(struct ring_drain *d, uint32_t *value)
{
	struct ring_bell *bell = d->v.bell;

	/* PAIR(ring-bell): a record committed before is seen by the look that follows; the writer of a later
	 * one sees the bell armed. Crash: it stays armed, and the next writer rings for nobody. */
	*value = ring_bell_arm(bell);
	return atomic_load_explicit(&bell->blind, memory_order_relaxed) ? NULL : &bell->rings;
}

uint64_t ring_drain_consumed(const struct ring_drain *d, uint32_t block)
{
	return atomic_load_explicit(&d->v.heads[block].consumed, memory_order_relaxed);
}

void ring_drain_close(struct ring_drain *d, bool usable)
{
	if (!d)
		return;
	if (usable)
		ring_drain_resign(d);
	free(d->blocks);
	free(d->order);
	free(d);
}

uint64_t ring_drain_lost(const struct ring_drain *d)
{
	return d->lost;
}
