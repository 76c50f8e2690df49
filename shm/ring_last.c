/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last records of one client: its blocks from the youngest lease on, until there are enough. A look at
 * the ring as it stands, which moves no position; what is overwritten meanwhile is left out.
 */
#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "ring_source.h"

struct last {
	const struct arena *a;
	struct ring_view v;
	uint32_t client;
	pid_t pid;
	struct ring_entry *entries; /* the ring's last, oldest at `first` */
	size_t bytes;		    /* of each one's text */
	uint32_t max, count;
};

/* The place of a record of this time: among those kept, or NULL if all of them are younger. */
static struct ring_entry *place_for(struct last *l, uint64_t time_ns)
{
	struct ring_entry *oldest = &l->entries[0];

	if (l->count < l->max)
		return &l->entries[l->count++];
	for (uint32_t i = 1; i < l->count; i++)
		if (l->entries[i].time_ns < oldest->time_ns)
			oldest = &l->entries[i];
	return oldest->time_ns < time_ns ? oldest : NULL;
}

static void keep(struct last *l, const struct ring_entry *e)
{
	struct ring_entry *to = e->pid == l->pid ? place_for(l, e->time_ns) : NULL;
	void *data = to ? to->data : NULL;

	if (!to)
		return;
	*to = *e;
	to->data = data;
	memcpy(data, e->data, e->len < l->bytes ? e->len : l->bytes);
}

static void read_block(struct last *l, uint32_t block, char *buffer)
{
	struct ring_source s = { 0 };
	uint64_t lost = 0, now = clock_now();
	struct ring_entry e = { .data = buffer };

	if (ring_source_begin(&s, &l->v, block, RING_BEGIN_OLDEST, NULL, l->a, &lost) != RING_LOOK_NEW ||
	    !ring_source_update(&s, l->a, &l->v, block, now))
		return;
	while (ring_source_next(&s, l->a, &l->v, block, now, &lost)) {
		if (!ring_source_copy(&s, l->a, &l->v, block, &e))
			return;
		keep(l, &e);
		ring_source_step(&s);
	}
}

/* The youngest lease older than `below` that may have records of the client's. Blocks that threads share have
 * many writers. */
static bool next_block(const struct last *l, uint64_t below, uint32_t *block, uint64_t *ticket)
{
	bool found = false;

	*ticket = 0;
	for (uint32_t i = 0; i < l->v.blocks; i++) {
		uint64_t word = atomic_load_explicit(&l->v.words[i], memory_order_acquire), t;

		if (!ring_word_readable(word) ||
		    (!ring_word_shared(word) && ring_word_client(word) != l->client))
			continue;
		t = atomic_load_explicit(&l->v.heads[i].ticket, memory_order_relaxed);
		if (t < below && t + 1 > *ticket) {
			*ticket = t + 1;
			*block = i;
			found = true;
		}
	}
	*ticket -= found;
	return found;
}

static int by_time(const void *a, const void *b)
{
	const struct ring_entry *x = a, *y = b;

	return (x->time_ns > y->time_ns) - (x->time_ns < y->time_ns);
}

#define BLOCKS_MORE 8u /* after there are enough: a thread's levels, and other threads, have blocks of their own */

int ring_last(const struct arena *a, uint32_t client, pid_t pid, struct ring_entry *entries, uint32_t max,
	      size_t bytes)
{
	struct last l = {
		.a = a, .client = client, .pid = pid, .entries = entries, .bytes = bytes, .max = max };
	uint64_t below = UINT64_MAX;
	uint32_t block, more = BLOCKS_MORE;
	char *buffer;

	if (!ring_view(a, &l.v))
		return -EUCLEAN;
	buffer = malloc(RING_RECORD_MAX + 1);
	if (!buffer)
		return -ENOMEM;
	while (more && next_block(&l, below, &block, &below)) {
		read_block(&l, block, buffer);
		more -= l.count == max;
	}
	free(buffer);
	qsort(entries, l.count, sizeof(*entries), by_time);
	return (int)l.count;
}
