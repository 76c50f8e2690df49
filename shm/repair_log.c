/* SPDX-License-Identifier: Apache-2.0 */
/* The log: its ring, and those extents of the heap that its large records lie in. */
#include <string.h>

#include "repair_run.h"
#include "ring_repair.h"

/* An extent begins with the place of its record, so the two tell each other, whatever its entry says. */
static bool keep_extent(void *context, const struct ring_reference *ref,
			const struct ring_extent *where, uint32_t length)
{
	struct repair_run *r = context;
	struct ring_extent found;
	uint64_t w0;

	if (ref->page >= r->pages || !ref->pages || ref->pages > r->a.g.zone_pages ||
	    ref->page % r->a.g.zone_pages + ref->pages > r->a.g.zone_pages ||
	    (uint64_t)length + sizeof(found) > (uint64_t)ref->pages << PAGE_SHIFT ||
	    !repair_in_file(r, ref->page, ref->pages) || !repair_unused(r, ref->page, ref->pages) ||
	    !walk_copy_heap(&r->a, (uint64_t)ref->page << PAGE_SHIFT, &found, sizeof(found)) ||
	    found.block != where->block || found.lap != where->lap ||
	    found.position != where->position || found.slot != where->slot)
		return false;
	w0 = atomic_load_explicit(&r->a.pages[ref->page].w0, memory_order_relaxed);
	repair_claim(r, ref->page, ref->pages, USE_LOG);
	repair_write_entry(r, ref->page, pw0_make(PAGE_LOG, 0, ref->gen, 0),
			   pw1_extent(ref->pages, 0));
	if (pw0_kind(w0) != PAGE_LOG || pw0_gen(w0) != (ref->gen & 0xffff))
		repair_note(r, REPAIR_LOG, ref->page, 0, 0, 0,
			    "page %#x: a large log record, told by its block", ref->page);
	return true;
}

int repair_log(struct repair_run *r)
{
	struct ring_repair_sum sum = { 0 };
	int err = ring_repair(&r->a, keep_extent, r, &sum);

	if (sum.header)
		repair_note(r, REPAIR_LOG, AUDIT_NOWHERE, 0, 0, 0, "the ring's header");
	if (sum.blocks_cut || sum.records_lost)
		repair_note(r, REPAIR_LOG_LOST, AUDIT_NOWHERE, 0, 0, 0,
			    "%llu blocks damaged, some %llu records lost",
			    (unsigned long long)sum.blocks_cut,
			    (unsigned long long)sum.records_lost);
	r->sum.lost_records += sum.records_lost;
	return err;
}
