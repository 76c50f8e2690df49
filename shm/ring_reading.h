/* SPDX-License-Identifier: Apache-2.0 */
/* ring_reading.h - the inside of a reader: of ring_reader.c, which merges, and ring_reader_open.c, where it begins. */
#ifndef SHM_RING_READING_H
#define SHM_RING_READING_H

#include <pthread.h>
#include <stdbool.h>

#include "ring_position.h"

/* A block's turn in the heap: the key of its next record, beside it so that comparing looks nowhere else. */
struct ring_turn {
	uint64_t key;
	uint32_t block;
};

/* Private copies of what blocks hold next: by as many bytes at a time, of as many blocks at most. */
#define RING_WINDOW_BYTES 16384u
#define RING_WINDOWS	  32u

/* The youngest delivered of a thread, as far as remembered. */
struct ring_heard {
	pid_t pid, tid;
	uint64_t time;
};
#define RING_HEARD 256u

struct ring_reader {
	struct arena *a;
	struct ring_view v;
	struct ring_source *sources; /* by block */
	uint32_t *active;	     /* blocks listed */
	struct ring_turn *heap;	     /* blocks with a next record, oldest first */
	uint32_t active_count, heap_count;
	uint64_t grain;	  /* mask: by which bits of the time records of several threads are ordered */
	uint64_t tickets; /* leases that the last look at all blocks has seen */
	bool rescan;	  /* a block was being reset */
	bool moved;	  /* there were leases during the last fill: a thread's last block may be seen, and not
			   * the one before */
	bool overtaken;	  /* a lap ended with records left: they are lost, and not counted yet */
	uint64_t now;	  /* clock before the last fill */
	struct clock_line line;
	uint64_t watermark;
	uint64_t last;	  /* time of the youngest delivered */
	struct ring_heard heard[RING_HEARD]; /* by thread, under the coarse clock */
	uint64_t delivered, delivered_before; /* records; before the last sleep */
	uint64_t dropped, lost;
	uint64_t run_until; /* so long the first block in the heap stays first, whatever the others have; 0: not */
	struct ring_source *run; /* the first block's, whose next records come one behind another; NULL: none */
	uint64_t run_limit;	 /* … up to this time */
	_Atomic uint64_t *run_consumed; /* the block's, of a consumer */
	char *windows[RING_WINDOWS]; /* of no block at present; the one taken last may still be the caller's */
	uint32_t window_count, window_made;
	char *buffer;
	size_t buffer_size;

	pid_t pid;		    /* of the process that opened it */
	struct ring_place_kept kept; /* of one with a name */

	/* Of a consumer. */
	uint64_t consumer; /* its word; 0: none */
	pthread_t thread;  /* that reads */

	/* Of both. */
	bool pending;	   /* the last delivered record, not yet passed */
	uint32_t pending_block, pending_lap, pending_slot;
	uint64_t pending_done, pending_lost;
	bool pending_shared;
	uint32_t passed; /* blocks done with that no waiting writer was told of */
};

/* A lap of a block was adopted. */
void ring_reading_list(struct ring_reader *r, uint32_t block);
/* The last delivered record is done with. */
void ring_reading_pass(struct ring_reader *r);

#endif
