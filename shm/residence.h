/* SPDX-License-Identifier: Apache-2.0 */
/* residence.h - on which NUMA nodes the heap's pages lie, as the kernel says. Changes nothing. */
#ifndef SHM_RESIDENCE_H
#define SHM_RESIDENCE_H

#include "arena.h"
#include "placement.h"

#define RESIDENCE_PAGES_MAX (1u << 18) /* that the kernel is asked about, 1 GiB */

struct residence {
	uint64_t bytes[PLACEMENT_NODES_MAX]; /* by node */
	uint64_t asked;			     /* pages; fewer than there are in large arenas */
	uint64_t home; /* of these, in zones of a node: those that lie on it */
	uint64_t away; /* and those that do not */
};

/*
 * Asks move_pages(2) about the committed pages of zones in use: all, or evenly spread ones, from which the
 * bytes are then reckoned. It knows of pages that this process has mapped, so they are mapped first; what is
 * being purged meanwhile may come back as zeros until its next purge. numa_maps would do the same for whole
 * mappings only. 0; -ENOSYS, -EPERM: the kernel does not say.
 */
int residence_count(const struct arena *a, struct residence *ret);

#endif
