/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Only its reader writes a position, and the next one reads it when the kernel has told of that one's death: stores need
 * to be kept in order by the compiler alone. No lock, no call of the system.
 */
#include "ring_position.h"

#include <errno.h>

#include "client.h"
#include "liveness.h"
#include "stop_point.h"
#include "words.h"

#define READER_SHIFT 12

static uint64_t load(const _Atomic uint64_t *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

static void store(_Atomic uint64_t *to, uint64_t value)
{
	atomic_store_explicit(to, value, memory_order_relaxed);
}

static void in_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

size_t ring_position_bytes(const struct arena *a)
{
	struct ring_view v;

	return ring_view(a, &v) ? sizeof(struct ring_position) + v.blocks * sizeof(struct ring_position_block) : 0;
}

/* ---- whose it is ---- */

static uint64_t reader_word(const struct arena *a, uint32_t client)
{
	uint64_t word = atomic_load(client_word_at(a, client));

	return client | (uint64_t)client_word_incarnation(word) << READER_SHIFT;
}

/* The tenant of that time, and alive. */
static bool reader_lives(const struct arena *a, uint64_t reader)
{
	uint32_t client = reader & ((1u << READER_SHIFT) - 1);

	if (!client || client >= client_high(a) || reader_word(a, client) != reader)
		return false;
	if (client == a->client)
		return true;
	return liveness_of(a, client) != LIVENESS_NONE && !liveness_is_dead(a, client);
}

int ring_position_claim(struct arena *a, const struct ring_view *v, void *at, size_t bytes,
			struct ring_place_kept *ret)
{
	struct ring_position *p = at;
	uint64_t seen = 0, mine;

	if (!a->client)
		return -EINVAL;
	if (bytes < sizeof(*p) + v->blocks * sizeof(p->at[0]))
		return -EUCLEAN;
	/* Zeros: it is new. */
	if (p->magic && (p->magic != RING_POSITION_MAGIC || p->blocks != v->blocks))
		return -EUCLEAN;
	mine = reader_word(a, a->client);
	/* Crash: after, it is a dead one's, who is found to be so. */
	while (!atomic_compare_exchange_strong(&p->reader, &seen, mine))
		if (reader_lives(a, seen))
			return -EBUSY;
	STOP_POINT(ring_position_claimed);
	*ret = (struct ring_place_kept){ .p = p, .blocks = v->blocks, .reader = mine };
	return 0;
}

void ring_position_release(struct ring_place_kept *k)
{
	uint64_t mine = k->reader;

	if (k->p)
		atomic_compare_exchange_strong(&k->p->reader, &mine, 0);
	k->p = NULL;
}

/* ---- steps ---- */

/* What is done with is never taken back. */
static void raise_done(struct ring_position_block *b, uint64_t done)
{
	if (load(&b->done) < done)
		store(&b->done, done);
}

static void set_slot(struct ring_position_block *b, uint32_t lap, uint32_t slot)
{
	_Atomic uint64_t *word = &b->slots[slot / 32];
	uint64_t seen = load(word), bit = UINT64_C(1) << slot % 32;

	/* Of an earlier lap: those are forgotten with the same store. */
	if (seen >> 32 != lap)
		seen = (uint64_t)lap << 32;
	store(word, seen | bit);
}

/* The second half: idempotent. */
static void do_step(struct ring_place_kept *k, uint32_t block, uint32_t lap, uint32_t slot, uint64_t done)
{
	if (slot)
		set_slot(&k->p->at[block], lap, slot - 1);
	STOP_POINT(ring_position_half);
	raise_done(&k->p->at[block], done);
}

void ring_position_pass(struct ring_place_kept *k, uint32_t block, uint32_t lap, uint32_t slot, uint64_t done,
			uint64_t lost)
{
	struct ring_step *s = &k->p->steps[++k->number & 1];

	k->told += 1 + lost;
	/* Crash: until the number is there the other copy is the last step, and the record comes again. */
	store(&s->number, 0);
	in_order();
	store(&s->told, k->told);
	store(&s->done, done);
	atomic_store_explicit(&s->block, block, memory_order_relaxed);
	atomic_store_explicit(&s->lap, lap, memory_order_relaxed);
	atomic_store_explicit(&s->slot, slot, memory_order_relaxed);
	in_order();
	STOP_POINT(ring_position_written);
	/* Crash: from here on the record is done with; the next reader does what is left of the step. */
	store(&s->number, k->number);
	in_order();
	do_step(k, block, lap, slot, done);
	in_order();
}

void ring_position_skip(struct ring_place_kept *k, uint32_t block, uint64_t done)
{
	/* Crash: before, the next reader counts the same losses; after, they are what is not told. */
	raise_done(&k->p->at[block], done);
}

/* ---- going on ---- */

static uint64_t all_done(const struct ring_place_kept *k)
{
	uint64_t sum = load(&k->p->dropped);

	for (uint32_t i = 0; i < k->blocks; i++)
		sum += load(&k->p->at[i].done);
	return sum;
}

uint64_t ring_position_resume(struct ring_place_kept *k)
{
	const struct ring_step *steps = k->p->steps;
	const struct ring_step *s = &steps[load(&steps[1].number) > load(&steps[0].number)];
	uint32_t block = atomic_load_explicit(&s->block, memory_order_relaxed);
	uint32_t lap = atomic_load_explicit(&s->lap, memory_order_relaxed);
	uint32_t slot = atomic_load_explicit(&s->slot, memory_order_relaxed);
	uint64_t done;

	k->number = load(&s->number);
	k->told = load(&s->told);
	/* The next one goes into the other copy. */
	if ((k->number & 1) != (uint64_t)(s - steps))
		k->number++;
	if (block < k->blocks && slot <= RING_SLOTS_MAX)
		do_step(k, block, lap, slot, load(&s->done));
	done = all_done(k);
	return done > k->told ? done - k->told : 0;
}

void ring_position_init(struct ring_place_kept *k, const struct ring_source *sources, uint64_t dropped)
{
	struct ring_position *p = k->p;

	for (uint32_t i = 0; i < k->blocks; i++) {
		const struct ring_source *s = &sources[i];

		store(&p->at[i].done, s->done);
		for (uint32_t slot = 0; s->shared && slot < RING_SLOTS_MAX; slot++)
			if (s->delivered[slot / 64] >> slot % 64 & 1)
				set_slot(&p->at[i], s->lap, slot);
	}
	store(&p->dropped, dropped);
	k->told = all_done(k);
	k->number = 2;
	store(&p->steps[0].told, k->told);
	store(&p->steps[0].number, k->number);
	p->blocks = k->blocks;
	/* Crash: until the magic is there, it is a new one. */
	in_order();
	p->magic = RING_POSITION_MAGIC;
}

struct ring_begun ring_position_begun(const struct ring_place_kept *k, uint32_t block)
{
	const struct ring_position_block *b = &k->p->at[block];
	struct ring_begun begun = { .by_slots = true, .done = load(&b->done) };

	for (uint32_t i = 0; i < RING_SLOTS_MAX / 32; i++)
		begun.slots[i] = load(&b->slots[i]);
	return begun;
}
