/* SPDX-License-Identifier: Apache-2.0 */
/*
 * placement.h - on which NUMA nodes the heap's memory comes, and from which zones a thread draws.
 *
 * local: zones belong to the machine's nodes in turn. A zone's pages, its piece of the page map and its
 * index prefer that node's memory, and a thread draws from zones of the node it runs on, as long as there
 * are any; a full node is no failure. The first zones, one a node where there are zones enough, are for what
 * stays: state blocks, thread blocks. interleave: all pages in turn on all nodes. bind: on the given
 * nodes only, and -ENOMEM otherwise. In these two all zones are alike.
 *
 * The policy of a tmpfs file or a memfd belongs to its inode: set once by the creator, it holds for
 * fallocate() and faults of every process, until the file is gone. The kernel keeps none for hugetlb files:
 * there each process asks for it on its own mapping, and pages are taken by touching (arena_commit()). For
 * files on a disk there is no such policy at all.
 */
#ifndef SHM_PLACEMENT_H
#define SHM_PLACEMENT_H

#include "arena.h"

enum placement_numa { PLACEMENT_LOCAL = 0, PLACEMENT_INTERLEAVE = 1, PLACEMENT_BIND = 2 };

#define PLACEMENT_NODES_MAX 64u /* a bit each; machines have had fewer */

/* Bit a node, of those that have memory and that this process may use; 1 where nothing is known. */
uint64_t placement_nodes(void);

/*
 * What a new arena asks for, settled: for local and interleave *nodes becomes placement_nodes(). -EINVAL:
 * an unknown mode; -ENODEV: bind to a node that this machine does not have, or this process may not use.
 */
int placement_settle(uint32_t numa_mode, uint64_t *nodes);

/*
 * By the creator, before the arena's memory is taken. Local and interleave are asked for; where the kernel
 * forbids policies (containers may) or the file has none, what the kernel does by itself is what there is.
 * -EOPNOTSUPP: bind was asked for, and cannot be had.
 */
int placement_create(struct arena *a, const struct arena_header *h);

/* By each process that maps the arena: notes the rule of zones; what belongs to a mapping is asked for. */
void placement_apply(struct arena *a, const struct arena_header *h);

/* ---- zones of nodes: one rule for all processes, from the header ---- */

#define PLACEMENT_ALL UINT64_MAX

/* The node of a zone, by its place among the arena's nodes; 0 where all zones are alike. */
static inline uint32_t placement_home_of(const struct arena *a, uint64_t zone)
{
	return (uint32_t)(zone % 64 % a->homes);
}

static inline bool placement_zone_in(uint64_t zones, uint64_t zone)
{
	return zones >> (zone % 64) & 1;
}

/* The node's number in the system; -1: zones have none. */
int placement_node_of_zone(const struct arena *a, uint64_t zone);

/* The zones of the node on which the thread runs now: a call for slow paths. PLACEMENT_ALL: all alike. */
uint64_t placement_here(const struct arena *a);

/* Where to look after these zones, of one node or wider: in those of the nearest nodes too, then in all. */
uint64_t placement_wider(const struct arena *a, uint64_t zones);

/* As placement_here(); and moves *home, the zone a thread draws from, to one of them if it is none. */
uint64_t placement_settle_home(const struct arena *a, uint32_t *home);

/* What the kernel says of the heap's policies, if it is asked. */
enum placement_answer {
	PLACEMENT_KEPT = 0,	 /* they are what the header says */
	PLACEMENT_ONE_NODE = 1,	 /* the machine has but one: nothing to keep */
	PLACEMENT_FORBIDDEN = 2, /* this process may not ask */
	PLACEMENT_NOT_KEPT = 3,	 /* the file has none, or others */
	PLACEMENT_ANSWERS
};
enum placement_answer placement_ask(const struct arena *a, const struct arena_header *h);

#endif
