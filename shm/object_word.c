/* SPDX-License-Identifier: Apache-2.0 */
#include "object_word.h"

#include <errno.h>
#include <string.h>

#include "client.h"
#include "geometry.h"
#include "pagemap.h"
#include "slab.h"
#include "stack.h"

#define ATTEMPTS 64

/* Where no object starts. A handle that was moved into its object bears its generation; any other was one
 * of an object that is gone, and what lies there now begins elsewhere. */
static int no_start(uint32_t state, uint32_t gen)
{
	return state_kind(state) != OBJECT_FREE && state_gen(state) == gen ? -EINVAL : -ESTALE;
}

static int find_large(struct arena *a, uint64_t offset, struct object *o)
{
	uint64_t page = offset >> PAGE_SHIFT, w0, w1, pages;

	if (page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return -EINVAL;
	w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);
	if (!pw0_is_object(w0)) /* temporary, or free by now, or in other use */
		return stack_look(a, handle_make(a->tag, o->gen, offset), &o->bytes) ? -ESTALE : -EPERM;
	if (offset & (PAGE_SIZE - 1))
		return no_start(pw0_state(w0), o->gen);
	/* In other use by now, or damaged. */
	w1 = atomic_load_explicit(&a->pages[page].w1, memory_order_relaxed);
	pages = pw1_length(w1);
	o->front = a->debug ? pw1_front(w1) : 0;
	if (pages > geometry_heap_pages(&a->g) - page || o->front >= pages << PAGE_SHIFT)
		return -ESTALE;
	o->large = &a->pages[page].w0;
	o->page = page;
	o->page_kind = pw0_kind(w0);
	o->bytes = pages << PAGE_SHIFT;
	o->use = pw0_use(w0);
	return 0;
}

/* Finds the place a handle names; says nothing of whether it is live. */
static int find(struct arena *a, uint64_t handle, struct object *o)
{
	uint64_t offset = handle_offset(handle);
	struct slab_place p;
	int r;

	memset(o, 0, sizeof(*o));
	if (handle_tag(handle) != a->tag || offset >= a->g.capacity)
		return -EINVAL;
	if (offset >> PAGE_SHIFT >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		arena_refresh(a);
	o->gen = handle_gen(handle);
	r = slab_find(a, offset, &p);
	if (r == -ENOENT)
		return find_large(a, offset, o);
	if (r || p.offset != 0) /* behind the last object: the spare word */
		return no_start(atomic_load_explicit(&p.record->words[p.index], memory_order_relaxed), o->gen);
	o->small = &p.record->words[p.index];
	o->page = p.head;
	o->class = p.class;
	o->bytes = sizeclass_table[p.class].bytes;
	o->front = a->debug_front;
	return o->bytes > o->front ? 0 : -ESTALE;
}

/* The state word; -ESTALE unless it is live under the handle's generation. */
int object_word_load(const struct object *o, uint32_t *state)
{
	uint64_t w0;

	if (o->small) {
		*state = atomic_load_explicit(o->small, memory_order_acquire);
	} else {
		w0 = atomic_load_explicit(o->large, memory_order_acquire);
		if (pw0_kind(w0) != o->page_kind)
			return -ESTALE;
		*state = pw0_state(w0);
	}
	if (state_gen(*state) != o->gen || state_kind(*state) == OBJECT_FREE ||
	    state_kind(*state) == OBJECT_INTERNAL)
		return -ESTALE;
	return 0;
}

int object_word_find_live(struct arena *a, uint64_t handle, struct object *o, uint32_t *state)
{
	int r = find(a, handle, o);

	return r ? r : object_word_load(o, state);
}

bool object_word_change(const struct object *o, uint32_t from, uint32_t to)
{
	uint64_t expected;

	if (o->small)
		return atomic_compare_exchange_strong_explicit(
			o->small, &from, to, memory_order_acq_rel, memory_order_relaxed);
	expected = pw0_object(o->page_kind, from) | o->use;
	return atomic_compare_exchange_strong_explicit(o->large, &expected,
						       pw0_object(o->page_kind, to) | o->use,
						       memory_order_acq_rel, memory_order_relaxed);
}

/* All regions in which owning the object means owning something. Before the change. */
int object_word_mark(struct arena *a, const struct object *o)
{
	uint64_t end = o->page + (o->bytes >> PAGE_SHIFT), page = o->page;
	int r = client_mark_page(a, page);

	if (o->small)
		return r;
	for (page = (page / a->g.zone_pages + 1) * a->g.zone_pages; !r && page < end;
	     page += a->g.zone_pages)
		r = client_mark_page(a, page);
	return r;
}

void object_word_account(struct arena *a, uint32_t from, uint32_t to, uint64_t bytes)
{
	if (from)
		client_owned_add(a, from, -(int64_t)bytes);
	if (to)
		client_owned_add(a, to, (int64_t)bytes);
}

bool object_word_is_mine(const struct arena *a, uint32_t state)
{
	return a->client != 0 && state_owner(state) == a->client;
}

int object_word_step(struct arena *a, struct object *o, uint32_t *state, object_step_fn step,
		     uint32_t gen)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		int r = step(a, o, *state, gen);

		if (r != -EAGAIN)
			return r;
		r = object_word_load(o, state);
		if (r)
			return r;
	}
	return -EBUSY;
}

int object_word_step_handle(struct arena *a, uint64_t handle, object_step_fn step, struct object *o,
			    uint32_t *state)
{
	int r = object_word_find_live(a, handle, o, state);

	return r ? r : object_word_step(a, o, state, step, o->gen);
}
