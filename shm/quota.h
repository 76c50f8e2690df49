/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota.h - what one client may own. Its record counts by addition as ownership moves, which a death
 * elsewhere can leave a little wrong; so before a client is refused, it is counted anew.
 */
#ifndef SHM_QUOTA_H
#define SHM_QUOTA_H

#include "arena.h"

#define QUOTA_OWED_MAX (INT64_C(64) << 10)

/* How many more objects of so many bytes, at most want, this client may own. */
uint32_t quota_allows(struct arena *a, uint64_t bytes, uint32_t want);

/* Tells the client's record whose objects this thread has freed. A death before leaves that record too high. */
void quota_settle(struct arena *a, struct thread_block *t);

/*
 * A thread has made another client's object its own. What it won is counted in its block at once. What the other
 * lost is told together with the next ones: it is a line that the other's threads read. Where there are quotas the
 * other may be refused for it, and is told at once. False: nothing is counted, use quota_won_from().
 */
static inline bool quota_won(struct thread_block *t, uint32_t from, uint64_t bytes)
{
	if (t->owed_client != from || t->owed_bytes >= QUOTA_OWED_MAX)
		return false;
	t->owed_bytes += (int64_t)bytes;
	atomic_store_explicit(&t->owned_bytes,
			      atomic_load_explicit(&t->owned_bytes, memory_order_relaxed) + (int64_t)bytes,
			      memory_order_relaxed);
	return true;
}

void quota_won_from(struct arena *a, struct thread_block *t, uint32_t from, uint64_t bytes);

#endif
