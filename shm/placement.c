/* SPDX-License-Identifier: Apache-2.0 */
#include "placement.h"

#include <errno.h>
#include <limits.h>
#include <numa.h>
#include <numaif.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "geometry.h"

/* Zones for what stays are one a node where they are no more than this part of all. */
#define KEPT_PART 4u
/* Each zone's policy is a mapping of its own, of which a process has 65,530. */
#define MAPPED_ZONES_MAX 16384u
#define NODE_MASK_WORDS 16 /* as many nodes as any kernel is built for */

uint64_t placement_nodes(void)
{
	struct bitmask *allowed;
	uint64_t nodes = 0;

	if (numa_available() < 0)
		return 1;
	allowed = numa_get_mems_allowed();
	for (unsigned n = 0; n < PLACEMENT_NODES_MAX && n <= (unsigned)numa_max_node(); n++)
		if (numa_bitmask_isbitset(allowed, n))
			nodes |= UINT64_C(1) << n;
	numa_bitmask_free(allowed);
	return nodes ? nodes : 1;
}

int placement_settle(uint32_t numa_mode, uint64_t *nodes)
{
	if (numa_mode > PLACEMENT_BIND)
		return -EINVAL;
	if (numa_mode != PLACEMENT_BIND) {
		*nodes = placement_nodes();
		return 0;
	}
	if (!*nodes)
		return -EINVAL;
	return *nodes & ~placement_nodes() ? -ENODEV : 0;
}

/* ---- the rule of zones ---- */

static int distance_to(const struct arena *a, uint32_t node, uint32_t home)
{
	int distance = a->home_nodes[home] == node ? 1 : numa_distance((int)node, a->home_nodes[home]);

	return distance > 0 ? distance : INT_MAX; /* of a node that is not there */
}

/* The home nearest to a node, its own if it is one. */
static uint8_t nearest_home(const struct arena *a, uint32_t node)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < a->homes; i++)
		if (distance_to(a, node, i) < distance_to(a, node, best))
			best = i;
	return (uint8_t)best;
}

/* The zones of a home and of those that no other is nearer to. */
static uint64_t zones_near(const struct arena *a, uint32_t home)
{
	uint64_t zones = a->home_zones[home];
	int least = INT_MAX;

	for (uint32_t i = 0; i < a->homes; i++)
		if (i != home && distance_to(a, a->home_nodes[home], i) < least)
			least = distance_to(a, a->home_nodes[home], i);
	for (uint32_t i = 0; i < a->homes; i++)
		if (distance_to(a, a->home_nodes[home], i) <= least)
			zones |= a->home_zones[i];
	return zones;
}

/* Machines differ, headers do not: the rule is the header's alone, wherever it is read. */
static void note_homes(struct arena *a, const struct arena_header *h)
{
	uint64_t nodes = h->numa_nodes;

	if (h->numa_mode != PLACEMENT_LOCAL || __builtin_popcountll(nodes) < 2)
		return;
	a->homes = 0;
	memset(a->home_zones, 0, sizeof(a->home_zones));
	for (; nodes; nodes &= nodes - 1)
		a->home_nodes[a->homes++] = (uint8_t)__builtin_ctzll(nodes);
	if (a->g.zone_count >= KEPT_PART * a->homes)
		a->kept_zones = a->homes;
	for (uint32_t zone = 0; zone < 64; zone++)
		a->home_zones[placement_home_of(a, zone)] |= UINT64_C(1) << zone;
	for (uint32_t home = 0; home < a->homes; home++)
		a->near_zones[home] = zones_near(a, home);
	for (uint32_t node = 0; node < PLACEMENT_NODES_MAX; node++)
		a->node_homes[node] = nearest_home(a, node);
}

int placement_node_of_zone(const struct arena *a, uint64_t zone)
{
	return a->homes > 1 ? a->home_nodes[placement_home_of(a, zone)] : -1;
}

uint64_t placement_here(const struct arena *a)
{
	unsigned cpu, node;

	if (a->homes <= 1)
		return PLACEMENT_ALL;
	if (getcpu(&cpu, &node) < 0 || node >= PLACEMENT_NODES_MAX)
		node = 0;
	return a->home_zones[a->node_homes[node]];
}

uint64_t placement_wider(const struct arena *a, uint64_t zones)
{
	for (uint32_t home = 0; home < a->homes; home++)
		if (zones == a->home_zones[home] && zones != a->near_zones[home])
			return a->near_zones[home];
	return PLACEMENT_ALL;
}

uint64_t placement_settle_home(const struct arena *a, uint32_t *home)
{
	uint64_t zones = placement_here(a);
	uint32_t zone = a->kept_zones;

	if (placement_zone_in(zones, *home))
		return zones;
	while (!placement_zone_in(zones, zone))
		zone++;
	if (zone < a->g.zone_count)
		*home = zone;
	return zones;
}

/* ---- asking the kernel for it ---- */

static int set_policy(void *at, uint64_t length, int policy, uint64_t nodes)
{
	unsigned long mask = nodes;

	return mbind(at, length, policy, &mask, sizeof(mask) * 8 + 1, 0) < 0 ? -errno : 0;
}

/* On a part of a file, by a mapping of a moment. */
static int set_file_policy(int fd, uint64_t offset, uint64_t length, int policy, uint64_t nodes)
{
	void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
	int r;

	if (at == MAP_FAILED)
		return -errno;
	r = set_policy(at, length, policy, nodes);
	munmap(at, length);
	return r;
}

static uint64_t whole_pages(uint64_t length)
{
	return (length + PAGE_SIZE - 1) & ~(uint64_t)(PAGE_SIZE - 1);
}

/* A zone's pages, its index and its piece of the page map. */
static int place_zone(const struct arena *a, uint64_t zone, uint64_t nodes)
{
	const struct arena_geometry *g = &a->g;
	uint64_t first = zone * g->zone_pages, span = geometry_zone_span(g, zone);
	int fd = a->files.fd, r;

	r = set_file_policy(fd, g->page_map + first * sizeof(struct page_entry),
			    whole_pages(span * sizeof(struct page_entry)), MPOL_PREFERRED, nodes);
	if (!r)
		r = set_file_policy(fd, g->zone_indexes + zone * g->zone_index_size, g->zone_index_size,
				    MPOL_PREFERRED, nodes);
	if (!r && a->files.heap_fd < 0)
		r = set_file_policy(fd, g->heap + (first << PAGE_SHIFT), span << PAGE_SHIFT, MPOL_PREFERRED,
				    nodes);
	return r;
}

static int policy_of(const struct arena_header *h)
{
	return h->numa_mode == PLACEMENT_BIND	      ? MPOL_BIND
	       : h->numa_mode == PLACEMENT_INTERLEAVE ? MPOL_INTERLEAVE
						      : MPOL_PREFERRED;
}

/* Where local means more than what the kernel does by itself, zones have homes. */
static bool wants_policy(const struct arena *a, const struct arena_header *h)
{
	return h->numa_mode == PLACEMENT_LOCAL ? a->homes > 1
					       : h->numa_mode == PLACEMENT_BIND ||
							 __builtin_popcountll(h->numa_nodes) > 1;
}

/* Of the heap's first page; through a mapping of another kind, so that it is the file's. */
static bool file_has_policy(const struct arena *a, const struct arena_header *h)
{
	unsigned long mask[NODE_MASK_WORDS];
	int policy = MPOL_DEFAULT;
	void *at = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, a->files.fd, (off_t)a->g.heap);
	bool has;

	if (at == MAP_FAILED)
		return false;
	has = get_mempolicy(&policy, mask, sizeof(mask) * 8, at, MPOL_F_ADDR) == 0 &&
	      policy == policy_of(h);
	munmap(at, PAGE_SIZE);
	return has;
}

/* Of a hugetlb heap, on this process's mapping. */
static int place_mapping(const struct arena *a, const struct arena_header *h)
{
	uint64_t zone_size = a->g.zone_pages << PAGE_SHIFT;
	int r = 0;

	if (a->homes == 1)
		return set_policy(a->heap, a->g.capacity, policy_of(h), h->numa_nodes);
	if (a->g.zone_count > MAPPED_ZONES_MAX)
		return -ENOMEM;
	for (uint64_t zone = 0; !r && zone < a->g.zone_count; zone++)
		r = set_policy(a->heap + zone * zone_size, geometry_zone_span(&a->g, zone) << PAGE_SHIFT,
			       MPOL_PREFERRED, UINT64_C(1) << placement_node_of_zone(a, zone));
	return r;
}

int placement_create(struct arena *a, const struct arena_header *h)
{
	bool own_heap = a->files.heap_fd >= 0;
	int r = 0;

	note_homes(a, h);
	if (!wants_policy(a, h))
		return 0;
	if (a->homes == 1)
		r = set_policy(a->base, own_heap ? a->g.heap : a->g.file_size, policy_of(h), h->numa_nodes);
	for (uint64_t zone = 0; a->homes > 1 && !r && zone < a->g.zone_count; zone++)
		r = place_zone(a, zone, UINT64_C(1) << placement_node_of_zone(a, zone));
	if (!r && own_heap)
		r = place_mapping(a, h);
	else if (!r && !file_has_policy(a, h))
		r = -EOPNOTSUPP;
	return r && h->numa_mode == PLACEMENT_BIND ? -EOPNOTSUPP : 0;
}

void placement_apply(struct arena *a, const struct arena_header *h)
{
	note_homes(a, h);
	if (a->files.heap_fd < 0 || !wants_policy(a, h))
		return;
	a->commit_by_touch = place_mapping(a, h) == 0;
}

/* ---- what it says ---- */

static bool zone_kept(const struct arena *a, const struct arena_header *h, uint64_t zone)
{
	unsigned long mask[NODE_MASK_WORDS] = {0};
	int policy = MPOL_DEFAULT, node = placement_node_of_zone(a, zone);
	char *at = a->heap + (zone * a->g.zone_pages << PAGE_SHIFT);

	return get_mempolicy(&policy, mask, sizeof(mask) * 8, at, MPOL_F_ADDR) == 0 &&
	       policy == policy_of(h) &&
	       mask[0] == (node < 0 ? h->numa_nodes : UINT64_C(1) << node);
}

enum placement_answer placement_ask(const struct arena *a, const struct arena_header *h)
{
	int policy;

	if (get_mempolicy(&policy, NULL, 0, NULL, 0) < 0)
		return errno == ENOSYS ? PLACEMENT_ONE_NODE : PLACEMENT_FORBIDDEN;
	if (!wants_policy(a, h))
		return PLACEMENT_ONE_NODE;
	for (uint64_t zone = 0; zone < a->g.zone_count && zone < 64; zone++)
		if (!zone_kept(a, h, zone))
			return PLACEMENT_NOT_KEPT;
	return PLACEMENT_KEPT;
}
