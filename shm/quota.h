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
 * A thread has made another client's object its own. What it won is counted in its block at once, what the other
 * lost is told together with the next ones: it is a line that the other's threads read. Where there are quotas the
 * other may be refused for it, and is told at once.
 */
static inline void quota_won(struct arena *a, struct thread_block *t, uint32_t from, uint64_t bytes)
{
	atomic_store_explicit(&t->owned_bytes,
			      atomic_load_explicit(&t->owned_bytes, memory_order_relaxed) + (int64_t)bytes,
			      memory_order_relaxed);
	if (__builtin_expect(t->owed_client != from, 0)) {
		quota_settle(a, t);
		t->owed_client = from;
	}
	t->owed_bytes += (int64_t)bytes;
	if (__builtin_expect(t->owed_bytes >= QUOTA_OWED_MAX || a->header->client_quota, 0))
		quota_settle(a, t);
}

#endif
