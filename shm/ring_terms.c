/* SPDX-License-Identifier: Apache-2.0 */
/* What can be changed while the ring is in use: what full means, and how records are timed. */
#include <errno.h>

#include "ring_view.h"

enum ring_policy ring_policy(const struct arena *a)
{
	uint32_t policy = atomic_load_explicit(&a->header->log_policy, memory_order_relaxed);

	return policy <= RING_BLOCK ? (enum ring_policy)policy : RING_OVERWRITE;
}

enum clock_kind ring_clock(const struct arena *a)
{
	return atomic_load_explicit(&a->header->log_clock, memory_order_relaxed) == CLOCK_KIND_COARSE ?
		       CLOCK_KIND_COARSE :
		       CLOCK_KIND_EXACT;
}

int ring_set_policy(struct arena *a, enum ring_policy policy)
{
	struct ring_view v;

	if (!ring_view(a, &v))
		return -EUCLEAN;
	atomic_store(&a->header->log_policy, (uint32_t)policy);
	/* PAIR(ring-room): the policy, then waiting; a writer arms, then looks at the policy again.
	 * Crash: in between, writers that wait notice within their longest sleep. */
	ring_room_made(v.bell);
	return 0;
}

int ring_set_clock(struct arena *a, enum clock_kind kind)
{
	struct ring_view v;

	if (!ring_view(a, &v))
		return -EUCLEAN;
	atomic_store(&a->header->log_clock, (uint32_t)kind);
	/* Threads settle their clock where they lease. Crash: in between, each goes on as before until its
	 * block is full. */
	for (uint32_t i = 0; i < v.blocks; i++)
		if (ring_word_state(atomic_load_explicit(&v.words[i], memory_order_relaxed)) == RING_OPEN)
			atomic_store_explicit(&v.heads[i].close, 1, memory_order_relaxed);
	return 0;
}
