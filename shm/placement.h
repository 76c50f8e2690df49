/* SPDX-License-Identifier: Apache-2.0 */
/*
 * placement.h - on which NUMA nodes, and in pages of which size, the heap's memory comes. The modes stand
 * in the header; each process asks for them on its mapping. On tmpfs a NUMA policy then belongs to the
 * file, whoever takes a page first.
 */
#ifndef SHM_PLACEMENT_H
#define SHM_PLACEMENT_H

#include "arena.h"

enum placement_numa { PLACEMENT_LOCAL = 0, PLACEMENT_INTERLEAVE = 1, PLACEMENT_BIND = 2 };
enum placement_huge { PLACEMENT_HUGE_NEVER = 0, PLACEMENT_HUGE_ADVISE = 1, PLACEMENT_HUGE_ALWAYS = 2 };

/* Whether this machine can do so: -EINVAL for nodes it does not have, or unknown modes. */
int placement_check(uint32_t numa_mode, uint64_t numa_nodes, uint32_t huge_mode);
/* Asks for it. Without NUMA, or where the kernel forbids policies, local memory is what there is. */
void placement_apply(struct arena *a);

#endif
