/* SPDX-License-Identifier: Apache-2.0 */
#include "residence.h"

#include <errno.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>

#include "geometry.h"
#include "walk.h"

#define BATCH 512

/* Steps between pages asked about. None has a divisor with a number of nodes in common, or pages that lie
 * on all nodes in turn would seem to lie on one. */
static const uint32_t steps[] = {1, 67, 131, 257, 521, 1031, 2053, 4099, 8209, 16411};

struct survey {
	const struct arena *a;
	struct residence *r;
	uint32_t step;
	uint64_t seen; /* committed pages so far */
	uint32_t count;
	void *at[BATCH];
	int error;
};

static void note_page(struct survey *s, const void *at, int node)
{
	uint64_t page = (uint64_t)((const char *)at - s->a->heap) >> PAGE_SHIFT;
	int home = placement_node_of_zone(s->a, page >> s->a->zone_shift);

	if (node < 0 || node >= (int)PLACEMENT_NODES_MAX)
		return; /* gone meanwhile */
	s->r->asked++;
	s->r->bytes[node] += PAGE_SIZE;
	if (home >= 0)
		*(home == node ? &s->r->home : &s->r->away) += 1;
}

static void ask(struct survey *s)
{
	int nodes[BATCH];

	if (s->count && !s->error) {
		if (move_pages(0, s->count, s->at, NULL, nodes, 0) < 0)
			s->error = -errno;
		for (uint32_t i = 0; !s->error && i < s->count; i++)
			note_page(s, s->at[i], nodes[i]);
	}
	s->count = 0;
}

/* Only of what has memory: reading a hole would take some. */
static bool map_pages(struct survey *s, uint64_t page, uint64_t pages)
{
	if (madvise(s->a->heap + (page << PAGE_SHIFT), pages << PAGE_SHIFT, MADV_POPULATE_READ) == 0)
		return true;
	if (errno == EINVAL)
		s->error = -ENOSYS; /* before Linux 5.14 */
	return false;
}

static void add_page(struct survey *s, uint64_t page, bool mapped)
{
	if (s->seen++ % s->step || (!mapped && !map_pages(s, page, 1)))
		return;
	s->at[s->count++] = s->a->heap + (page << PAGE_SHIFT);
	if (s->count == BATCH)
		ask(s);
}

static void add_region(struct survey *s, uint64_t page)
{
	uint64_t resident = walk_resident(s->a, page, REGION_PAGES);
	bool whole = resident == REGION_PAGES, mapped = whole && s->step == 1;

	if (!resident || (mapped && !map_pages(s, page, REGION_PAGES)))
		return;
	for (uint32_t i = 0; i < REGION_PAGES; i++)
		if (whole || walk_committed(s->a, page + i, 1))
			add_page(s, page + i, mapped);
}

static uint64_t pages_in_use(const struct arena *a)
{
	uint64_t pages = walk_zones(a) * a->g.zone_pages, all = geometry_heap_pages(&a->g);

	return pages < all ? pages : all;
}

static uint32_t step_for(uint64_t pages)
{
	size_t i = 0;

	while (i + 1 < sizeof(steps) / sizeof(steps[0]) && pages / steps[i] > RESIDENCE_PAGES_MAX)
		i++;
	return steps[i];
}

int residence_count(const struct arena *a, struct residence *ret)
{
	uint64_t end = pages_in_use(a), committed = walk_resident(a, 0, end);
	struct survey s = {.a = a, .r = ret, .step = step_for(committed)};

	memset(ret, 0, sizeof(*ret));
	for (uint64_t page = 0; !s.error && page < end; page += REGION_PAGES)
		add_region(&s, page);
	ask(&s);
	for (uint32_t n = 0; s.step > 1 && ret->asked && n < PLACEMENT_NODES_MAX; n++)
		ret->bytes[n] = (uint64_t)((double)ret->bytes[n] / (double)ret->asked *
					   (double)committed);
	return s.error;
}
