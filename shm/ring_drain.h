/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_drain.h - the ring's records on their way to a disk: what is done to the ring by the one process that
 * writes them there, as the ring's consumer. Gathers pieces of blocks in order of their tickets, keeps the
 * blocks from being reset until the pieces are written, counts to the record what was overwritten before it
 * came to it. Does no I/O, waits for nobody, and no writer waits for it but as the ring's policy says.
 *
 * One drain an arena and process; one thread.
 */
#ifndef SHM_RING_DRAIN_H
#define SHM_RING_DRAIN_H

#include "arena.h"

struct ring_drain;

enum ring_piece_kind {
	RING_PIECE_OWN = 1,    /* records of a block that one thread writes, as they stand there */
	RING_PIECE_SHARED = 2, /* of a shared one: author, record, payload, zeros to 16 bytes, by rising slot */
	RING_PIECE_LARGE = 3,  /* the payload of a large record; those of one piece stand before it, in order */
	RING_PIECE_LOST = 4    /* no records: lost alone */
};

struct ring_piece {
	enum ring_piece_kind kind;
	uint32_t block, lap;
	uint32_t from, to;   /* bytes of the block; slots of a shared one; large: where its record is */
	uint64_t slots[RING_SLOTS_MAX / 64]; /* shared: bit a slot, of those that it has */
	uint32_t records;
	uint64_t ticket;     /* of the block's lease */
	uint64_t time;	     /* large: of its record, CLOCK_REALTIME in ns */
	uint64_t real_offset; /* CLOCK_REALTIME minus the records' clock */
	pid_t pid, tid;	     /* of a block of one thread, and its client; 0: not known any more */
	uint32_t client, incarnation;
	uint64_t lost;	     /* records of the block that were overwritten before it, not told yet */
	uint64_t done;	     /* records of all laps of the block: written, or told as lost, this piece included */
	const void *data;
	size_t bytes;

	/* The drain's own. */
	uint64_t held;	     /* the block's word before it was taken, 0: not taken */
	uint32_t next;	     /* own: where its next record begins */
	uint32_t count;	     /* records of the lap, with this piece and what is damaged behind it */
	uint32_t damaged;    /* records of the lap behind it that make no sense */
	void *copy;
};

#define RING_BATCH_PIECES 256u

/* Pieces to be written one behind another. */
struct ring_batch {
	uint32_t count;
	uint64_t bytes; /* of all data */
	struct ring_piece pieces[RING_BATCH_PIECES];
};

/* -EUCLEAN: no ring; -ENOMEM. */
int ring_drain_open(struct arena *a, struct ring_drain **ret);
/* What the ring consists of. */
void ring_drain_shape(const struct ring_drain *d, uint32_t *block_bytes, uint32_t *blocks);
/* Batches were written or released before; gives up being the consumer. usable: the arena's memory is still there. */
void ring_drain_close(struct ring_drain *d, bool usable);

/* What the ring says that the consumer is done with: records of a block, of all laps. */
uint64_t ring_drain_consumed(const struct ring_drain *d, uint32_t block);

/* What the last piece of a block says that an earlier drain has written, or one of its last: of done the low 32
 * bits, of a shared block all slots of the lap. Before ring_drain_consume(). */
void ring_drain_note(struct ring_drain *d, const struct ring_piece *said);

/*
 * Becomes the consumer and goes on where the last one was, or what was noted. 0, also if it is already;
 * -EBUSY: another is; -EROFS, -EINVAL: no client.
 */
int ring_drain_consume(struct ring_drain *d);
/* Under SHMA_LOG_BLOCK and _DROP nothing is full from now on. What is gathered stays. */
void ring_drain_resign(struct ring_drain *d);

/*
 * Fills the batch, from empty, with about max_bytes of what is complete, open: and of what open blocks have
 * so far. At most a quarter of the ring is kept from being reset, all batches together. The number of pieces;
 * -ENOMEM.
 */
int ring_drain_gather(struct ring_drain *d, struct ring_batch *b, uint64_t max_bytes, bool open);
/*
 * Before a sleep until there is something: then one more look, with ring_drain_gather(), and if there is nothing the
 * word is waited for until it is not *value any more. NULL: writers cannot be relied on to ring, look now and then.
 */
_Atomic uint32_t *ring_drain_arm(struct ring_drain *d, uint32_t *value);
/* It is where it belongs: the consumer is done with it. */
void ring_drain_written(struct ring_drain *d, struct ring_batch *b);
/* It is not: to be gathered again, unless it is overwritten first. usable as above. */
void ring_drain_release(struct ring_drain *d, struct ring_batch *b, bool usable);

/* Records told as lost since the drain was opened. */
uint64_t ring_drain_lost(const struct ring_drain *d);

#endif
