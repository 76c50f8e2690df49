/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_piece.h - what draining knows of each block, and the pieces it makes of them. Private memory of the
 * drain; ring_drain.c says when, ring_piece.c how.
 */
#ifndef SHM_RING_PIECE_H
#define SHM_RING_PIECE_H

#include "ring_drain.h"
#include "ring_view.h"

/* In a word of a block that is drained: no thread has this number, so only the client's recoverer takes it. */
#define RING_DRAIN_THREAD 0xffffu
_Static_assert(THREADS_MAX < RING_DRAIN_THREAD, "no thread's");

#define RING_SLOT_WORDS (RING_SLOTS_MAX / 64)

struct ring_drained {
	uint64_t done;	/* records of all laps: written, or told as lost */
	uint64_t owed;	/* to be told as lost, though base does not show it: damaged */
	uint32_t lap;	/* of which what follows speaks; 0: none */
	bool shared;
	bool busy;	/* in a batch */
	uint32_t at;	/* own: bytes of the lap that are written */
	uint32_t count; /* records of the lap that are */
	uint64_t base;	/* records of earlier laps */
	uint64_t slots[RING_SLOT_WORDS]; /* shared: that are */
	uint32_t noted_lap;		 /* of which noted speaks */
	uint64_t noted[RING_SLOT_WORDS];
};

struct ring_drain {
	struct arena *a;
	struct ring_view v;
	struct ring_drained *blocks;
	struct ring_due *order;
	uint32_t held;	   /* blocks in state draining */
	uint64_t consumer; /* the word; 0: not the consumer */
	uint64_t lost;
};

/* A walk over the slots of a shared block's lap: each with the place of its record. */
struct ring_slot_walk {
	uint32_t slot; /* the next one's */
	uint64_t word, offset, units;
};
bool ring_slot_next(const struct ring_drain *d, uint32_t block, uint32_t lap, struct ring_slot_walk *w);

static inline bool ring_bit(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

static inline void ring_set_bit(uint64_t *bits, uint32_t i)
{
	bits[i / 64] |= UINT64_C(1) << i % 64;
}

/* ---- ring_drain.c ---- */

/* Whether what was copied from a block is of the lap. */
bool ring_drain_still(const struct ring_drain *d, uint32_t block, uint32_t lap);
/* sealed -> draining. False: it is being reset already, or enough is held. */
bool ring_drain_hold(struct ring_drain *d, uint32_t block, uint64_t word);
/* And back to what it was. */
void ring_drain_let_go(struct ring_drain *d, uint32_t block, uint64_t held);

/* ---- ring_piece.c ---- */

/* One record of which at most len bytes are there; its header is read once. False: it makes no sense. */
bool ring_piece_record(const char *data, uint32_t len, struct ring_record *ret);
/* What a committed word says: records and bytes. False: it is of another lap, or of a shared block. */
bool ring_piece_committed(const struct ring_drain *d, uint32_t block, uint32_t lap, uint32_t *records,
			  uint32_t *end);
/* Records lost and not told yet. */
uint64_t ring_piece_owed(const struct ring_drained *s);

/* Pieces of one block, added to a batch: 1 some, 0 none; -ENOMEM; -E2BIG: the batch has no room for them. */
int ring_piece_sealed(struct ring_drain *d, struct ring_batch *b, uint32_t block, uint64_t word);
int ring_piece_open(struct ring_drain *d, struct ring_batch *b, uint32_t block, uint64_t word);
int ring_piece_shared(struct ring_drain *d, struct ring_batch *b, uint32_t block, uint64_t max_bytes);
int ring_piece_lost(struct ring_drain *d, struct ring_batch *b, uint32_t block);
/* Takes pieces off a batch again, down to a number. */
void ring_piece_forget(struct ring_batch *b, uint32_t count);

#endif
