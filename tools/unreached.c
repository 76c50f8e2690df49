/* SPDX-License-Identifier: Apache-2.0 */
#include "unreached.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "object.h"
#include "packing.h"
#include "walk.h"

#define PIECE ((uint64_t)65536)

struct known {
	uint64_t handle, bytes;
	bool is_persistent; /* not known by itself */
	bool is_reached;
};

/* All live objects, in order of their places. */
struct search {
	struct arena *a;
	struct known *list;
	size_t count, room;
	size_t *todo; /* reached, and not looked into yet */
	size_t todo_count;
	bool full; /* no memory */
	uint64_t piece[PIECE / sizeof(uint64_t)];
};

/* ---- what there is ---- */

static void add(struct search *s, uint64_t offset, uint64_t bytes, uint32_t state)
{
	struct known *list;

	if (state_kind(state) < OBJECT_PRIVATE || state_kind(state) >= OBJECT_KINDS)
		return;
	if (s->count == s->room) {
		s->room = s->room ? 2 * s->room : 1024;
		list = realloc(s->list, s->room * sizeof(*list));
		s->full |= !list;
		if (!list)
			return;
		s->list = list;
	}
	s->list[s->count++] = (struct known){ .handle = handle_make(s->a->tag, state_gen(state), offset),
					      .bytes = bytes,
					      .is_persistent = state_kind(state) == OBJECT_PERSISTENT };
}

static int collect(void *context, const struct walk_item *item)
{
	struct search *s = context;
	struct walk_slab slab;

	if (item->problem)
		return 0;
	if (item->kind == PAGE_LARGE || item->kind == PAGE_MAPPED)
		add(s, item->page << PAGE_SHIFT, item->length << PAGE_SHIFT, pw0_state(item->w0));
	if (item->kind == PAGE_SLAB && walk_slab(s->a, item, &slab))
		for (uint32_t i = 0; i < slab.objects; i++)
			add(s, walk_object_offset(&slab, i), slab.bytes, walk_state(&slab, i));
	return s->full ? -ENOMEM : 0;
}

/* ---- what leads where ---- */

static int compare_place(const void *key, const void *element)
{
	uint64_t offset = *(const uint64_t *)key, other = handle_offset(((const struct known *)element)->handle);

	return offset < other ? -1 : offset > other;
}

static void reach(struct search *s, uint64_t handle)
{
	uint64_t offset = handle_offset(handle);
	struct known *k;

	if (handle_tag(handle) != s->a->tag || offset >= s->a->g.capacity)
		return;
	k = bsearch(&offset, s->list, s->count, sizeof(*k), compare_place);
	if (!k || k->handle != handle || k->is_reached)
		return;
	k->is_reached = true;
	s->todo[s->todo_count++] = (size_t)(k - s->list);
}

/* An object's bytes, packed or not; 0 at the end, or if it is gone. */
static uint64_t read_some(struct search *s, uint64_t handle, const struct packed_header *packed, uint64_t at)
{
	int64_t n = packed ? packing_read(s->a, handle, packed, at, s->piece, PIECE) :
			     object_read(s->a, handle, at, s->piece, PIECE);

	return n > 0 ? (uint64_t)n : 0;
}

static void look_into(struct search *s, uint64_t handle)
{
	struct packed_header head, *packed = packing_head(s->a, handle, &head) == 0 ? &head : NULL;
	uint64_t n;

	for (uint64_t at = 0; (n = read_some(s, handle, packed, at)) > 0; at += n)
		for (uint64_t i = 0; i < n / sizeof(uint64_t); i++)
			reach(s, s->piece[i]);
}

static void reach_all(struct search *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (!s->list[i].is_persistent)
			reach(s, s->list[i].handle);
	while (s->todo_count)
		look_into(s, s->list[s->todo[--s->todo_count]].handle);
}

/* ---- what is left ---- */

static int compare_size(const void *left, const void *right)
{
	const struct unreached_object *a = left, *b = right;

	return a->bytes < b->bytes ? 1 : a->bytes > b->bytes ? -1 : a->handle < b->handle ? -1 : 1;
}

static int report(const struct search *s, struct unreached *ret)
{
	ret->list = calloc(s->count + 1, sizeof(*ret->list));
	if (!ret->list)
		return -ENOMEM;
	for (size_t i = 0; i < s->count; i++) {
		const struct known *k = &s->list[i];

		if (!k->is_persistent)
			continue;
		ret->persistent_objects++;
		ret->persistent_bytes += k->bytes;
		if (k->is_reached)
			continue;
		ret->list[ret->count++] = (struct unreached_object){ .handle = k->handle, .bytes = k->bytes };
		ret->bytes += k->bytes;
	}
	qsort(ret->list, ret->count, sizeof(*ret->list), compare_size);
	return 0;
}

int unreached_find(struct arena *a, struct unreached *ret)
{
	struct search *s = calloc(1, sizeof(*s));
	int r = s ? 0 : -ENOMEM;

	memset(ret, 0, sizeof(*ret));
	if (s) {
		s->a = a;
		r = walk_extents(a, collect, s);
		s->todo = malloc((s->count + 1) * sizeof(*s->todo));
		if (!s->todo)
			r = -ENOMEM;
	}
	if (!r) {
		reach_all(s);
		r = report(s, ret);
	}
	if (s) {
		free(s->list);
		free(s->todo);
	}
	free(s);
	return r;
}

void unreached_free(struct unreached *u)
{
	free(u->list);
	memset(u, 0, sizeof(*u));
}
