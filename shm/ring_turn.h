/* SPDX-License-Identifier: Apache-2.0 */
/* ring_turn.h - the heap of a reader's blocks by the time of their next record. Only ring_reader.c includes it. */
#ifndef SHM_RING_TURN_H
#define SHM_RING_TURN_H

#include "ring_reading.h"

static inline void ring_turn_put(struct ring_reader *r, uint32_t at, struct ring_turn turn)
{
	r->heap[at] = turn;
	r->sources[turn.block].heap = at + 1;
}

static inline void ring_turn_rise(struct ring_reader *r, uint32_t at, struct ring_turn turn)
{
	for (; at && turn.key < r->heap[(at - 1) / 2].key; at = (at - 1) / 2)
		ring_turn_put(r, at, r->heap[(at - 1) / 2]);
	ring_turn_put(r, at, turn);
}

static inline void ring_turn_sink(struct ring_reader *r, uint32_t at, struct ring_turn turn)
{
	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child + 1 < r->heap_count && r->heap[child + 1].key < r->heap[child].key)
			child++;
		if (child >= r->heap_count || r->heap[child].key >= turn.key)
			break;
		ring_turn_put(r, at, r->heap[child]);
		at = child;
	}
	ring_turn_put(r, at, turn);
}

static inline void ring_turn_add(struct ring_reader *r, uint32_t block)
{
	ring_turn_rise(r, r->heap_count++, (struct ring_turn){ .key = r->sources[block].key, .block = block });
}

/* What it had in its window is read, or of a lap that is over. */
static inline void ring_turn_free_window(struct ring_reader *r, struct ring_source *s)
{
	if (s->window)
		r->windows[r->window_count++] = s->window;
	s->window = NULL;
}

static inline void ring_turn_remove(struct ring_reader *r, uint32_t block)
{
	uint32_t at = r->sources[block].heap;

	if (!at--)
		return;
	ring_turn_free_window(r, &r->sources[block]);
	r->sources[block].heap = 0;
	r->run_until = at ? r->run_until : 0;
	if (at != --r->heap_count) {
		struct ring_turn turn = r->heap[r->heap_count];

		ring_turn_rise(r, at, turn);
		ring_turn_sink(r, r->sources[turn.block].heap - 1, turn);
	}
}

#endif
