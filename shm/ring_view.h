/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_view.h - the parts of the ring in this process's mapping, and the steps that its files share.
 * Only ring*.c include it, and the snapshot.
 */
#ifndef SHM_RING_VIEW_H
#define SHM_RING_VIEW_H

#include <string.h>

#include "ring.h"
#include "ring_words.h"

/* Where everything is; made anew by each slow call, from a header checked then. */
struct ring_view {
	struct ring_header *header;
	struct ring_bell *bell;
	_Atomic uint64_t *words;
	struct ring_block *heads;
	_Atomic uint64_t *slots;
	uint64_t slots_at, data_at; /* file offsets */
	uint32_t shift, blocks;
	uint32_t block_slots;
};

/* What the header of an area of this size says, as ring_format() makes it. False: too small. */
bool ring_shape(const struct arena *a, uint32_t *shift, uint32_t *blocks);
/* False: the header is damaged. */
bool ring_view(const struct arena *a, struct ring_view *v);

static inline uint32_t ring_block_bytes(const struct ring_view *v)
{
	return 1u << v->shift;
}

static inline uint64_t ring_block_at(const struct ring_view *v, uint32_t block)
{
	return v->data_at + ((uint64_t)block << v->shift);
}

static inline _Atomic uint64_t *ring_block_slots(const struct ring_view *v, uint32_t block)
{
	return v->slots + (size_t)block * v->block_slots;
}

static inline struct ring_bell *ring_bell(const struct arena *a)
{
	return arena_at(a, a->g.ring + PAGE_SIZE);
}

/* Copies between a block and private memory while others may write it: the caller checks the block's
 * word afterwards, so that what was torn is thrown away. */
#if defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("thread"), optimize("no-tree-loop-distribute-patterns"), unused))
static void ring_copy(void *to, const void *from, size_t len)
{
	volatile char *t = to;
	const volatile char *f = from;

	while (len--)
		*t++ = *f++;
}
#else
static inline void ring_copy(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
}
#endif

/* ---- ring_lease.c ---- */

/* Who leases. */
struct ring_who {
	uint32_t client, thread;
	pid_t pid, tid;
	struct ring_writer *writer;
};
void ring_who(const struct arena *a, struct thread_block *tb, struct ring_who *who);

enum ring_lease { RING_LEASE_OWN, RING_LEASE_SHARED, RING_LEASE_RETIRE };

/*
 * A block to write in, opened. Waits as the policy says. -EDQUOT: so many blocks are leased that this
 * thread has to share; -EAGAIN: full; -ENOMEM.
 * RETIRE: the next block's records are gone and it stays empty, so that the bytes of a large record
 * elsewhere are made up for; *ret is nothing.
 */
int ring_lease(struct arena *a, const struct ring_view *v, const struct ring_who *who,
	       enum ring_lease how, uint32_t *ret);
/* The first half of a reset, up to and including the count of what was in the block. Idempotent. */
void ring_reset(struct arena *a, const struct ring_view *v, uint32_t block, uint64_t word);
/* Records of all laps before the word's, which is being reset; committed was read since the word was, and all
 * holds if the word is still the same afterwards. */
uint64_t ring_reset_base(const struct ring_view *v, uint32_t block, uint64_t word, uint64_t committed);
/* What a block of which nothing was written in this lap becomes: sealed, or free without memory. */
uint64_t ring_word_empty(const struct ring_view *v, uint32_t block, uint64_t word);
/* Whether the client in a consumer word, not 0, is alive. */
bool ring_consumer_lives(const struct arena *a, uint64_t consumer);
/* open -> sealed, by the lease's owner or its recoverer. */
void ring_seal(const struct ring_view *v, uint32_t block, uint64_t word);
/* Records in a block in the word's lap. */
uint32_t ring_block_records(const struct ring_view *v, uint32_t block, uint64_t word);
/* Counts a record that finds no room, and numbers it. */
int ring_drop(const struct ring_view *v, struct ring_writer *w);

/* ---- ring.c ---- */

/* How many were dropped right before the number to be taken; good if last is still what was seen. */
static inline uint32_t ring_dropped(const struct ring_writer *w, uint64_t seen)
{
	uint64_t from = __atomic_load_n(&w->dropped_from, __ATOMIC_RELAXED), count;

	if (__builtin_expect(!(seen & 1), 1))
		return 0;
	count = (seen >> 1) - from + 1;
	return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

/* When, and as which of its thread's, a record comes to be. */
struct ring_stamp {
	uint64_t time, seq;
	uint32_t dropped;
};

/* Time and number of one more record of the thread, in one order with those of its signal handlers. */
static inline struct ring_stamp ring_stamp(const struct arena *a, struct ring_writer *w)
{
	struct ring_header *header = arena_at(a, a->g.ring);
	struct ring_stamp stamp;
	uint64_t seen, next;

	do {
		seen = __atomic_load_n(&w->last, __ATOMIC_RELAXED);
		stamp.dropped = ring_dropped(w, seen);
		stamp.time = clock_stamp(w, header);
		next = (seen | 1) + 1;
	} while (__builtin_expect(!clock_swap_own(&w->last, seen, next), 0));
	stamp.seq = next >> 1;
	return stamp;
}

/* ---- ring_shared.c ---- */

/* A record's place in a shared block. */
struct ring_place {
	uint32_t block, slot, offset; /* bytes */
	uint64_t word;		      /* the slot's */
};
int ring_shared_claim(struct arena *a, const struct ring_view *v, const struct ring_who *who,
		      enum ring_slot_state state, uint32_t payload, struct ring_place *ret);
struct ring_record *ring_shared_record(const struct arena *a, const struct ring_view *v,
				       const struct ring_place *p);
/* claimed or reserved -> done or dead. */
void ring_shared_finish(const struct ring_view *v, const struct ring_place *p,
			enum ring_slot_state state);
/* No slot of the block's lap is claimed from now on. True: none is unfinished either. */
bool ring_shared_close(const struct ring_view *v, uint32_t block, uint32_t lap);
uint32_t ring_shared_records(const struct ring_view *v, uint32_t block, uint32_t lap);
/* Slots that a dead client left unfinished. */
void ring_shared_bury(const struct ring_view *v, uint32_t block, uint32_t lap, uint32_t client);

int ring_shared_append(struct arena *a, struct thread_block *tb, int kind, const void *data,
		       size_t len);
int ring_shared_reserve(struct arena *a, struct thread_block *tb, struct ring_open *open, int kind,
			size_t len);
int ring_shared_commit(struct arena *a, struct thread_block *tb, struct ring_open *open, bool commit);

/* ring_open.place[0]: thread index + 1 0-31 | level 32-39 | shared 40. */
#define RING_PLACE_SHARED (UINT64_C(1) << 40)

/* ---- ring_large.c ---- */

/* Memory for a large record: page, or EXTENT_NONE; retires blocks for it. */
int ring_large_alloc(struct arena *a, const struct ring_view *v, struct thread_block *tb,
		     const struct ring_who *who, size_t len, uint32_t *page);
static inline void *ring_large_data(const struct arena *a, uint32_t page)
{
	return a->heap + ((uint64_t)page << PAGE_SHIFT) + sizeof(struct ring_extent);
}
/* raw -> log: the reference to be written into the record, then committed, then settled. */
struct ring_reference ring_large_note(struct arena *a, uint32_t page, const struct ring_extent *where);
/* The committed record's extent becomes the arena's. */
void ring_large_settle(struct arena *a, const struct ring_reference *ref);
/* The next extent that a block's records of a lap refer to; *cursor is 0 at first. */
bool ring_large_next(const struct arena *a, const struct ring_view *v, uint32_t block, uint32_t lap,
		     uint32_t *cursor, struct ring_reference *ret);
/* Makes sure that ring_large_release() cannot fail. -ENOMEM. */
int ring_large_prepare(struct arena *a, const struct ring_view *v, uint32_t block, uint32_t lap);
/* Frees the extents of a block's lap; the block is being reset by this client. Idempotent. */
void ring_large_release(struct arena *a, const struct ring_view *v, uint32_t block, uint32_t lap);

/* ---- ring_bell.c ---- */

/* Tells the kernel that readers may ask this process's threads for a memory barrier. */
void ring_bell_register(struct arena *a);
void ring_bell_wake(struct ring_bell *bell);
/* A reader's sleep in three steps: arm, look again, sleep. */
uint32_t ring_bell_arm(struct ring_bell *bell);
void ring_bell_sleep(struct ring_bell *bell, uint32_t rings, uint64_t ns);
void ring_nap(uint64_t ns);
/* A writer's: wait, with a last look by the caller in between; and the consumer's answer. */
uint32_t ring_room_arm(struct ring_bell *bell);
void ring_room_sleep(struct ring_bell *bell, uint32_t room);
void ring_room_made(struct ring_bell *bell);

static inline void ring_bell_ring(struct ring_bell *bell)
{
	/* PAIR(ring-bell): committed, then armed; the reader orders the two for us by membarrier.
	 * Modelled in tests/model/ring_bell.pml. */
	atomic_signal_fence(memory_order_seq_cst);
	if (__builtin_expect(atomic_load_explicit(&bell->armed, memory_order_relaxed) != 0, 0))
		ring_bell_wake(bell);
}

#endif
