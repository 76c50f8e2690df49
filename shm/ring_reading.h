/* SPDX-License-Identifier: Apache-2.0 */
/* ring_reading.h - the inside of a reader: of ring_reader.c, which merges, and ring_reader_open.c, where it begins. */
#ifndef SHM_RING_READING_H
#define SHM_RING_READING_H

#include <pthread.h>
#include <stdbool.h>

#include "ring_position.h"

struct ring_reader {
	struct arena *a;
	struct ring_view v;
	struct ring_source *sources; /* by block */
	uint32_t *active;	     /* blocks listed */
	uint32_t *heap;		     /* blocks with a next record, oldest first */
	uint32_t active_count, heap_count;
	uint64_t tickets; /* leases that the last look at all blocks has seen */
	bool rescan;	  /* a block was being reset */
	bool overtaken;	  /* a lap ended with records left: they are lost, and not counted yet */
	uint64_t now;	  /* clock before the last fill */
	struct clock_line line;
	uint64_t watermark;
	uint64_t last;	  /* time of the youngest delivered */
	uint64_t delivered, delivered_before; /* records; before the last sleep */
	uint64_t dropped, lost;
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
