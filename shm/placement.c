/* SPDX-License-Identifier: Apache-2.0 */
#include "placement.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <sys/mman.h>

/* Bit a node, of those that have memory and that this process may use. */
static uint64_t usable_nodes(void)
{
	struct bitmask *allowed;
	uint64_t nodes = 0;

	if (numa_available() < 0)
		return 1;
	allowed = numa_get_mems_allowed();
	for (unsigned n = 0; n < 64 && n <= (unsigned)numa_max_node(); n++)
		if (numa_bitmask_isbitset(allowed, n))
			nodes |= UINT64_C(1) << n;
	numa_bitmask_free(allowed);
	return nodes;
}

int placement_check(uint32_t numa_mode, uint64_t numa_nodes, uint32_t huge_mode)
{
	if (numa_mode > PLACEMENT_BIND || huge_mode > PLACEMENT_HUGE_ALWAYS)
		return -EINVAL;
	if (numa_mode != PLACEMENT_BIND)
		return 0;
	return numa_nodes && !(numa_nodes & ~usable_nodes()) ? 0 : -EINVAL;
}

static void apply_numa(struct arena *a)
{
	bool bind = a->header->numa_mode == PLACEMENT_BIND;
	int policy = bind ? MPOL_BIND : MPOL_INTERLEAVE;
	unsigned long nodes;

	if (a->header->numa_mode == PLACEMENT_LOCAL || numa_available() < 0)
		return;
	nodes = bind ? a->header->numa_nodes : usable_nodes();
	mbind(a->heap, a->g.capacity, policy, &nodes, sizeof(nodes) * 8 + 1, 0);
}

void placement_apply(struct arena *a)
{
	if (a->header->huge_mode != PLACEMENT_HUGE_NEVER)
		madvise(a->heap, a->g.capacity, MADV_HUGEPAGE);
	apply_numa(a);
}
