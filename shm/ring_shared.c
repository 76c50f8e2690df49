/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that threads share, for records that have no block of their own: when a thread's nesting levels
 * are used up, or when the ring has as many leases as it bears.
 *
 * A record's place is taken by a compare-and-swap on a slot, which lies apart from the block's bytes and
 * says in one word whose it is and how long, so that a death leaves no hole without a name (a place taken
 * by fetch_add would). Slots are taken in order; each place follows from the slots before it.
 *
 * A slot carries its lap's bits: one of an earlier lap is free. Closing a block claims the first free slot
 * for nobody, and then no slot can be claimed, however late a thread comes with an old view: it can only
 * try the slot that it saw free behind taken ones, and that one has changed. If it looks only after the
 * block's next lap has begun, it sees that from the slots, too.
 */
#include <errno.h>

#include "extent.h"
#include "ring_view.h"
#include "stop_point.h"
#include "words.h"

#define TRIES 64 /* leases in a row that others have filled before this thread came to use them */

/* ---- slots ---- */

/* The first slot that this lap has not taken; *units: where its record would begin. block_slots: there is
 * none, or none any more, since a later lap is under way. */
static uint32_t first_free(const struct ring_view *v, uint32_t block, uint32_t lap, uint32_t *units,
			   uint64_t *seen)
{
	_Atomic uint64_t *slots = ring_block_slots(v, block);
	uint32_t i;

	*units = 0;
	for (i = 0; i < v->block_slots; i++) {
		*seen = atomic_load_explicit(&slots[i], memory_order_acquire);
		if (!ring_slot_of(*seen, lap))
			return ring_slot_before(*seen, lap) ? i : v->block_slots;
		*units += ring_slot_units(*seen);
	}
	return i;
}

static bool is_closed(const struct ring_view *v, uint32_t block, uint32_t lap, uint32_t used)
{
	uint64_t last = used ? atomic_load_explicit(&ring_block_slots(v, block)[used - 1],
						    memory_order_acquire) :
			       0;

	return used == v->block_slots ||
	       (used && ring_slot_of(last, lap) && ring_slot_state(last) == RING_SLOT_CLOSED);
}

/* Counts the lap's slots for which test holds. */
static uint32_t count_slots(const struct ring_view *v, uint32_t block, uint32_t lap, bool (*test)(uint64_t))
{
	_Atomic uint64_t *slots = ring_block_slots(v, block);
	uint32_t count = 0;

	for (uint32_t i = 0; i < v->block_slots; i++) {
		/* PAIR(ring-slot): done, and the record. */
		uint64_t slot = atomic_load_explicit(&slots[i], memory_order_acquire);

		if (!ring_slot_of(slot, lap))
			break;
		count += test(slot);
	}
	return count;
}

static bool has_record(uint64_t slot)
{
	return ring_slot_state(slot) == RING_SLOT_DONE || ring_slot_state(slot) == RING_SLOT_CONSUMED;
}

uint32_t ring_shared_records(const struct ring_view *v, uint32_t block, uint32_t lap)
{
	return count_slots(v, block, lap, has_record);
}

bool ring_shared_close(const struct ring_view *v, uint32_t block, uint32_t lap)
{
	uint32_t used, units;
	uint64_t seen;

	STOP_POINT(ring_closing);
	while (used = first_free(v, block, lap, &units, &seen), !is_closed(v, block, lap, used))
		/* Crash: closed or not; the next to come by closes it. Each failure is a claim by
		 * another, of which there are as many as slots. */
		atomic_compare_exchange_strong_explicit(&ring_block_slots(v, block)[used], &seen,
							ring_slot(RING_SLOT_CLOSED, 0, 0, lap),
							memory_order_acq_rel, memory_order_relaxed);
	return count_slots(v, block, lap, ring_slot_unfinished) == 0;
}

void ring_shared_bury(const struct ring_view *v, uint32_t block, uint32_t lap, uint32_t client)
{
	_Atomic uint64_t *slots = ring_block_slots(v, block);

	for (uint32_t i = 0; i < v->block_slots; i++) {
		uint64_t slot = atomic_load_explicit(&slots[i], memory_order_acquire);

		if (!ring_slot_of(slot, lap))
			break;
		if (ring_slot_unfinished(slot) && ring_slot_client(slot) == client)
			atomic_compare_exchange_strong(&slots[i], &slot,
						       ring_slot_in(slot, RING_SLOT_DEAD));
	}
}

/* ---- claiming ---- */

/* 0; -ENOSPC: the block is full or closed; -EBUSY: another was faster. */
static int claim_in(const struct ring_view *v, const struct ring_who *who, uint32_t block, uint32_t lap,
		    enum ring_slot_state state, uint32_t need, struct ring_place *ret)
{
	uint32_t units;
	uint64_t seen, mine = ring_slot(state, who->client, need, lap);
	uint32_t slot = first_free(v, block, lap, &units, &seen);

	if (is_closed(v, block, lap, slot) || (uint64_t)(units + need) * 16 > ring_block_bytes(v))
		return -ENOSPC;
	/* Crash: before, nothing; after, an unfinished record of a dead client, which recovery buries. */
	if (!atomic_compare_exchange_strong_explicit(&ring_block_slots(v, block)[slot], &seen, mine,
						     memory_order_acq_rel, memory_order_relaxed))
		return -EBUSY;
	STOP_POINT(ring_slot_claimed);
	*ret = (struct ring_place){ .block = block, .slot = slot, .offset = units * 16, .word = mine };
	return 0;
}

/* The block that threads share now; -ENOENT: none. */
static int current(const struct ring_view *v, uint32_t *block, uint32_t *lap)
{
	uint32_t hint = atomic_load_explicit(&v->header->shared, memory_order_relaxed);
	uint64_t word;

	if (!hint || hint > v->blocks)
		return -ENOENT;
	/* PAIR(ring-lease). */
	word = atomic_load_explicit(&v->words[hint - 1], memory_order_acquire);
	if (ring_word_state(word) != RING_OPEN || !ring_word_shared(word))
		return -ENOENT;
	*block = hint - 1;
	*lap = ring_word_lap(word);
	return 0;
}

/* A new block to share. Crash: before the hint points there it is an open shared block that nobody uses;
 * closed and taken when the ring comes round to it. */
static int lease_shared(struct arena *a, const struct ring_view *v, const struct ring_who *who)
{
	uint32_t before = atomic_load_explicit(&v->header->shared, memory_order_relaxed), block;
	int r = ring_lease(a, v, who, RING_LEASE_SHARED, &block);

	STOP_POINT(ring_shared_leased);
	if (!r)
		atomic_compare_exchange_strong_explicit(&v->header->shared, &before, block + 1,
							memory_order_relaxed, memory_order_relaxed);
	return r;
}

int ring_shared_claim(struct arena *a, const struct ring_view *v, const struct ring_who *who,
		      enum ring_slot_state state, uint32_t payload, struct ring_place *ret)
{
	uint32_t need = ring_shared_units(payload), block, lap;
	int leases = 0, r;

	while (leases < TRIES) {
		r = current(v, &block, &lap);
		if (!r)
			r = claim_in(v, who, block, lap, state, need, ret);
		if (!r)
			return 0;
		if (r == -EBUSY)
			continue; /* another's record went in: at most as many times as slots */
		if (r == -ENOSPC)
			ring_shared_close(v, block, lap);
		r = lease_shared(a, v, who);
		if (r)
			return r;
		leases++;
	}
	return -EAGAIN;
}

struct ring_record *ring_shared_record(const struct arena *a, const struct ring_view *v,
				       const struct ring_place *p)
{
	return arena_at(a, ring_block_at(v, p->block) + p->offset + sizeof(struct ring_author));
}

void ring_shared_finish(const struct ring_view *v, const struct ring_place *p,
			enum ring_slot_state state)
{
	uint64_t mine = p->word;

	/* PAIR(ring-slot): the record before done. Crash: before, no record; after, a record. */
	atomic_compare_exchange_strong_explicit(&ring_block_slots(v, p->block)[p->slot], &mine,
						ring_slot_in(mine, state), memory_order_acq_rel,
						memory_order_relaxed);
}

/* ---- records ---- */

static uint32_t lap_of(const struct ring_place *p)
{
	return (uint32_t)(p->word >> RING_SLOT_LAP_SHIFT);
}

static void *payload_of(struct ring_record *record)
{
	return record + 1;
}

static void write_author(struct ring_record *record, const struct ring_who *who)
{
	struct ring_author author = { .pid = who->pid, .tid = who->tid };

	memcpy((char *)record - sizeof(author), &author, sizeof(author));
}

/* Fills the header and makes the record visible; page: its extent + 1, or 0. */
static struct ring_stamp publish(struct arena *a, const struct ring_view *v, struct ring_writer *w,
				 const struct ring_place *p, uint32_t page, uint32_t info)
{
	struct ring_record *record = ring_shared_record(a, v, p);
	struct ring_reference ref = { 0 };
	struct ring_stamp stamp;

	if (page) {
		struct ring_extent where = {
			.block = p->block,
			.lap = lap_of(p),
			.position = p->offset + sizeof(struct ring_author) + sizeof(*record),
			.slot = p->slot + 1,
		};

		atomic_store_explicit(&v->heads[p->block].extents, 1, memory_order_relaxed);
		ref = ring_large_note(a, page - 1, &where);
		memcpy(payload_of(record), &ref, sizeof(ref));
	}
	stamp = ring_stamp(a, w);
	*record = (struct ring_record){
		.info = info,
		.dropped = stamp.dropped,
		.time = stamp.time,
		.seq = stamp.seq,
	};
	STOP_POINT(ring_slot_written);
	ring_shared_finish(v, p, RING_SLOT_DONE);
	STOP_POINT(ring_slot_done);
	/* From here on the block may be reset, and the extent freed: settling checks its generation. */
	if (page)
		ring_large_settle(a, &ref);
	return stamp;
}

static uint32_t inline_bytes(const struct ring_view *v, size_t len)
{
	return len <= ring_block_bytes(v) / 4 ? (uint32_t)len : sizeof(struct ring_reference);
}

/* A place for a record of len, its extent included. */
static int claim(struct arena *a, const struct ring_view *v, struct thread_block *tb,
		 enum ring_slot_state state, size_t len, struct ring_place *p, uint32_t *page)
{
	struct ring_who who;
	int r;

	*page = 0;
	ring_who(a, tb, &who);
	clock_settle(&tb->ring, v->header, ring_clock(a));
	if (len > ring_block_bytes(v) / 4) {
		r = ring_large_alloc(a, v, tb, &who, len, page);
		if (r)
			return r;
		++*page;
	}
	r = ring_shared_claim(a, v, &who, state, inline_bytes(v, len), p);
	if (r && *page)
		extent_free(a, *page - 1);
	if (!r)
		write_author(ring_shared_record(a, v, p), &who);
	return r;
}

int ring_shared_append(struct arena *a, struct thread_block *tb, int kind, const void *data,
		       size_t len)
{
	struct ring_place p;
	struct ring_view v;
	uint32_t page;
	int r;

	if (!ring_view(a, &v))
		return -EUCLEAN;
	r = claim(a, &v, tb, RING_SLOT_CLAIMED, len, &p, &page);
	if (r)
		return r;
	if (len)
		memcpy(page ? ring_large_data(a, page - 1) : payload_of(ring_shared_record(a, &v, &p)),
		       data, len);
	publish(a, &v, &tb->ring, &p, page, ring_info((uint32_t)len, kind, page != 0));
	return 0;
}

/*
 * place[0]: see ring_view.h | record's kind 32-39 | offset / 16, 41-57; place[1]: the slot's word;
 * place[2]: block 0-23 | slot 24-31 | page + 1, 32-63.
 */
int ring_shared_reserve(struct arena *a, struct thread_block *tb, struct ring_open *open, int kind,
			size_t len)
{
	struct ring_place p;
	struct ring_view v;
	uint32_t page;
	int r;

	if (!ring_view(a, &v))
		return -EUCLEAN;
	r = claim(a, &v, tb, RING_SLOT_RESERVED, len, &p, &page);
	if (r)
		return r;
	open->data = page ? ring_large_data(a, page - 1) : payload_of(ring_shared_record(a, &v, &p));
	open->len = len;
	open->place[0] = RING_PLACE_SHARED | (tb->index + 1) | (uint64_t)kind << 32 |
			 (uint64_t)(p.offset / 16) << 41;
	open->place[1] = p.word;
	open->place[2] = p.block | (uint64_t)p.slot << 24 | (uint64_t)page << 32;
	return 0;
}

/* Whether a place that the caller kept is an open reserve of this client. */
static bool still_open(const struct arena *a, const struct ring_view *v, const struct ring_open *open,
		       struct ring_place *p)
{
	*p = (struct ring_place){ .block = (uint32_t)open->place[2] & 0xffffff,
				  .slot = (uint32_t)(open->place[2] >> 24) & 0xff,
				  .offset = (uint32_t)(open->place[0] >> 41) * 16,
				  .word = open->place[1] };
	return p->block < v->blocks && p->slot < v->block_slots &&
	       p->offset + (uint64_t)ring_slot_units(p->word) * 16 <= ring_block_bytes(v) &&
	       ring_slot_state(p->word) == RING_SLOT_RESERVED && ring_slot_client(p->word) == a->client &&
	       atomic_load(&v->heads[p->block].memory) &&
	       atomic_load(&ring_block_slots(v, p->block)[p->slot]) == p->word;
}

static bool fits(const struct arena *a, const struct ring_place *p, uint32_t page, size_t len)
{
	if (!page)
		return ring_shared_units((uint32_t)len) <= ring_slot_units(p->word);
	return page <= a->g.capacity >> PAGE_SHIFT &&
	       len + sizeof(struct ring_extent) <=
		       pw1_length(atomic_load(&a->pages[page - 1].w1)) << PAGE_SHIFT;
}

int ring_shared_commit(struct arena *a, struct thread_block *tb, struct ring_open *open, bool commit)
{
	uint32_t page = (uint32_t)(open->place[2] >> 32);
	int kind = (int)(open->place[0] >> 32) & RING_KIND_MASK;
	struct ring_stamp stamp;
	struct ring_place p;
	struct ring_view v;

	if ((uint32_t)open->place[0] != tb->index + 1)
		return -EPERM;
	if (!ring_view(a, &v))
		return -EUCLEAN;
	if (!still_open(a, &v, open, &p) || open->len > RING_RECORD_MAX ||
	    (commit && !fits(a, &p, page, open->len)))
		return -EINVAL;
	if (commit) {
		stamp = publish(a, &v, &tb->ring, &p, page,
				ring_info((uint32_t)open->len, kind, page != 0));
		open->seq = stamp.seq;
		open->time_ns = stamp.time + atomic_load_explicit(&v.heads[p.block].real_offset,
								  memory_order_relaxed);
		ring_bell_ring(v.bell);
	} else {
		ring_shared_finish(&v, &p, RING_SLOT_DEAD);
		if (page)
			extent_free(a, page - 1);
	}
	open->place[0] = 0;
	open->data = NULL;
	return 0;
}
