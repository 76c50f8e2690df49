/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slabs of one object: all of the classes above 32 KiB, and short ones of classes above 3 KiB. Who has the
 * object has the whole slab, and gives it back at once: its word is never free in between, for others to find,
 * and its pages are not kept for later. That is what caches are for.
 */
#include "extent.h"
#include "slab.h"
#include "slab_inside.h"
#include "stop_point.h"

bool slab_put_whole(struct arena *a, struct slab_record *r, uint64_t head, uint32_t kind, uint64_t handle)
{
	uint32_t gen = handle_gen(handle), seen = state_make(OBJECT_PRIVATE, a->client, gen);

	/* Where somebody looks in vain for a free object, or there is no room for our marks, it is put back as
	 * one of many would be. */
	if (!slab_hold(a, r, head, kind))
		return false;
	STOP_POINT(slab_whole_held);
	/* By exchange: of two threads that free one object at once, only one has the handle that counts.
	 * Crash: before, cached no more and this client's; after, so too, but live no more for anybody:
	 * either way the slab returns with the client. */
	if (!atomic_compare_exchange_strong_explicit(&r->words[0], &seen,
						     state_make(OBJECT_INTERNAL, a->client, gen),
						     memory_order_acq_rel, memory_order_relaxed)) {
		slab_let_go(a, r);
		return true;
	}
	slab_unmake(a, r, head, kind);
	STOP_POINT(slab_whole_unmade);
	extent_free(a, head);
	return true;
}
