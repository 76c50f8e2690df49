/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - one arena's directory of segments: opened, closed, cut, compressed, deleted. All of it waits for the
 * disk, and is called by work (see loop.h), one call at a time for a store; writing fragments is the loop's own.
 */
#ifndef DAEMON_STORE_H
#define DAEMON_STORE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "ring_drain.h"
#include "segment.h"
#include "state.h"

/* What the segments say of a block: of its last piece. */
struct store_block {
	uint32_t consumed; /* the caller's: what the ring says before the scan, of its done */
	bool any;
	struct ring_piece last; /* kind, block, lap, ticket, done; of a shared one all slots of the lap */
};

struct store {
	char dir[PATH_MAX];
	char name[ARENA_NAME_BYTES];
	struct segment_ring ring;
	uid_t uid;
	gid_t gid;
	mode_t mode; /* of the files */

	int fd;		      /* of the open segment; -1: none */
	uint64_t number;      /* its, or of the last there was */
	uint64_t size;	      /* its whole fragments */
	uint64_t opened_ns;   /* monotonic */
	struct segment_index index;
	bool indexed;	      /* it will have one */
	ino_t ino;
};

/* For an arena of this record in a directory of logs. -ENAMETOOLONG. */
int store_init(struct store *s, const char *log_dir, const struct state_record *record,
	       uint32_t block_bytes, uint32_t blocks);

struct store_found {
	struct store_block *blocks; /* the caller's, zeros at first */
	uint64_t torn_number, torn_bytes; /* what was cut off, where */
	uint64_t spoilt_number, spoilt;	  /* records that were changed while they were written: lost, as readers tell */
	int damaged;			  /* segments that begin with nothing good */
};
/*
 * What the drain before has written last: its last segment suffices, since a segment is begun only when all before
 * it is accounted for in the ring. Cuts its torn tail. A piece that is not what was gathered is one that was not
 * written to its end, if the ring still has it: so is all behind it, then, and it is cut there. If the ring is done
 * with it, it was changed while it was written, and stays: readers step over it and count its records. Waits until
 * all is there that the drain before had under way, 5 s at most.
 */
int store_scan(struct store *s, struct store_found *ret);

/* Begins the next segment, in a directory that is made if it is not there. */
int store_open(struct store *s);
/* A batch of fragments is there, at s->size. */
void store_wrote(struct store *s, const struct segment_fragment *fragments, unsigned count);
/* Ends the open segment with its index. An error leaves one that is good without. */
int store_close(struct store *s, bool sync);
/* Ends it after an error, at its last good byte if that can be done. */
void store_abandon(struct store *s);
/* 0; -ENOENT: the open segment's file was removed. */
int store_check(const struct store *s);

/* Compresses what is closed, if wanted, and deletes the oldest until no more than so many bytes (0: all) are left.
 * below: the open segment's number. */
int store_tidy(const char *dir, uint64_t below, bool compress, uint64_t retention);

#endif
