/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_position.h - how far a reader has come, kept in the arena under a name: who reads on under it, however the one
 * before ended, begins behind the last record that was done with, and is told exactly what was overwritten since.
 *
 * It lies in a published object. Of each block it has how many records the reader is done with, delivered or lost, of
 * all laps, and of a shared one which slots. The sum over the blocks less what the reader was told of, records and
 * losses, is what is lost and not told: no count of its own could be wrong. What is told changes with a record that
 * is done with, and so do block and slot: these are written as a step first, in two copies by turns, and the next one
 * to read does the last step again.
 *
 * W: the reader, who is told by the word; R: the next one, who believes nothing without checking its range.
 */
#ifndef SHM_RING_POSITION_H
#define SHM_RING_POSITION_H

#include "ring_source.h"

#define RING_POSITION_MAGIC 0x31534f50474f4c53ull

struct ring_step {
	_Atomic uint64_t number; /* TRUTH: the copy of the higher one is the last step; 0: being written */
	_Atomic uint64_t told;	 /* records and losses, with this step */
	_Atomic uint64_t done;	 /* of the block */
	_Atomic uint32_t block, lap;
	_Atomic uint32_t slot; /* of a shared block, + 1; else 0 */
	uint32_t reserved[7];
};
_Static_assert(sizeof(struct ring_step) == 64, "ring step");

struct ring_position_block {
	_Atomic uint64_t done;
	_Atomic uint64_t slots[RING_SLOTS_MAX / 32]; /* lap 32-63 | bit a slot, of those done with in it */
};
_Static_assert(sizeof(struct ring_position_block) == 72, "ring position block");

struct ring_position {
	/* Constant, as the blocks' number; before it is published. */
	uint64_t magic;
	uint32_t blocks, reserved;
	_Atomic uint64_t reader; /* TRUTH: client 0-11 | incarnation 12-43; 0: nobody. W: compare-and-swap */
	_Atomic uint64_t dropped; /* of ring_header's, accounted for */
	uint64_t reserved2[4];
	struct ring_step steps[2];
	struct ring_position_block at[];
};
_Static_assert(sizeof(struct ring_position) == 192, "ring position");

/* What a reader has of its own. */
struct ring_place_kept {
	struct ring_position *p; /* NULL: no position is kept */
	uint32_t blocks;
	uint64_t number, told; /* of the last step */
	uint64_t reader;
};

/* Bytes of a position; 0: the ring is damaged. */
size_t ring_position_bytes(const struct arena *a);

/* Becomes the reader of a position in so many bytes. -EBUSY: another lives; -EUCLEAN; -EINVAL: no client. */
int ring_position_claim(struct arena *a, const struct ring_view *v, void *at, size_t bytes,
			struct ring_place_kept *ret);
/* The last step again; then, what was lost and not told. */
uint64_t ring_position_resume(struct ring_place_kept *k);
/* A new one, for which all that the sources are done with is told. Not yet published. */
void ring_position_init(struct ring_place_kept *k, const struct ring_source *sources, uint64_t dropped);
void ring_position_release(struct ring_place_kept *k);

/* Of a block: what a source begins with. */
struct ring_begun ring_position_begun(const struct ring_place_kept *k, uint32_t block);

/* A record is done with. done: of its block; lost: what was told with it; slot: + 1 of a shared block. */
void ring_position_pass(struct ring_place_kept *k, uint32_t block, uint32_t lap, uint32_t slot, uint64_t done,
			uint64_t lost);
/* Records are lost that will be told. */
void ring_position_skip(struct ring_place_kept *k, uint32_t block, uint64_t done);
static inline void ring_position_drop(struct ring_place_kept *k, uint64_t dropped)
{
	/* Crash: before, the next reader counts them; after, they are what is not told. */
	atomic_store_explicit(&k->p->dropped, dropped, memory_order_relaxed);
}

#endif
