/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purge.h - gives memory of idle pages back to the system. A purger is a client like any other: it
 * takes free pages as extents, and the free objects of slabs' pages that hold no other, tells that they are
 * without memory, has them punched out of the file, and frees them. So nobody can be given a page that is
 * being punched.
 *
 * It goes over the arena in rounds. What a round finds free it notes as idle, and whoever takes pages
 * takes the note off: so what bears it in the next round was free, and untouched, since the last. The time
 * between two rounds is the decay time.
 *
 * A round is made in steps, and a step's punches by whoever calls: at once, or left to the kernel. Between
 * purge_gather() and purge_settle() the pages are the purger's. For one thread.
 */
#ifndef SHM_PURGE_H
#define SHM_PURGE_H

#include "slab.h"

#define PURGE_PARTS	 128u /* a step, and no more than 16 MiB */
#define PURGE_SLABS	 32u
#define PURGE_PART_PAGES 512u /* 2 MiB: who commits waits for the punch that is under way */

/* One run of pages to be punched out of the arena's file. */
struct purge_part {
	uint64_t page, pages;
};

struct purge {
	bool under_way;
	/* Where the round is: first among the zones, then among the slabs of each kind. */
	uint32_t zone, word, class;
	uint64_t region;
	/* A step's parts: extents of this process's, of one zone, or pages of the slabs held. */
	uint32_t count, held;
	struct purge_part parts[PURGE_PARTS];
	struct slab_idle slabs[PURGE_SLABS];
};

/*
 * A step of a round, the first one of a new round if none is under way: takes some idle pages, perhaps
 * none. Whether the round goes on. Zones whose lock is held are left for the next round.
 */
bool purge_gather(struct purge *p, struct arena *a);
/* Where a part lies in the file that arena_file_of() gives. */
uint64_t purge_offset(const struct arena *a, const struct purge_part *part);
/* Punches a step's parts. Bytes. */
uint64_t purge_punch(const struct purge *p, struct arena *a);
/* When no punch is under way any more: the pages are free for all. */
void purge_settle(struct purge *p, struct arena *a);

/* Something that is another value once pages or objects were taken or freed, caches and their threads being
 * what they are. A change and its exact opposite may pass unseen, which leaves what was idle as idle. */
uint64_t purge_activity(const struct arena *a);

/* Whether less than a sixteenth is left, of the arena or of the file system that it takes its memory from: what
 * threads keep ready is then missing to others. */
bool purge_is_short(const struct arena *a);

/* A whole round. Bytes given back. */
uint64_t purge_round(struct purge *p, struct arena *a);

#endif
