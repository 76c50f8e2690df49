/* SPDX-License-Identifier: Apache-2.0 */
/* Objects looked at: by handle, by pointer, by copying. */
#include <errno.h>
#include <string.h>

#include "debug_object.h"
#include "geometry.h"
#include "object.h"
#include "object_word.h"
#include "pagemap.h"
#include "stack.h"

/* Temporary memory can be looked at like all else. */
static int find_to_look(struct arena *a, uint64_t handle, struct object *o, uint32_t *state)
{
	int r = object_word_find_live(a, handle, o, state);

	return r == -EPERM ? 0 : r;
}

/* What is packed has other bytes than its users know, and of a file there are none here. */
static int find_plain(struct arena *a, uint64_t handle, struct object *o, uint32_t *state)
{
	int r = find_to_look(a, handle, o, state);

	if (r == 0 && object_is_mapped(o))
		return -EREMOTE;
	return r == 0 && o->use ? -ENODATA : r;
}

void *object_ptr(struct arena *a, uint64_t handle, int *err)
{
	struct object o;
	uint32_t state;

	*err = find_plain(a, handle, &o, &state);
	return *err ? NULL : a->heap + handle_offset(handle) + o.front;
}

uint64_t object_usable(const struct arena *a, const struct object *o, uint64_t handle)
{
	return o->front ? debug_object_size(a, o, handle) : o->bytes;
}

uint64_t object_size(struct arena *a, uint64_t handle, int *err)
{
	struct object o;
	uint32_t state;

	*err = find_plain(a, handle, &o, &state);
	return *err ? 0 : object_usable(a, &o, handle);
}

enum object_kind object_kind_of(struct arena *a, uint64_t handle, uint32_t *client)
{
	struct object o;
	uint32_t state;

	int r = object_word_find_live(a, handle, &o, &state);

	if (r == -EPERM) { /* temporary memory is its client's alone */
		*client = stack_client(a, handle);
		return OBJECT_PRIVATE;
	}
	if (r)
		return OBJECT_FREE;
	*client = state_client(state);
	return state_kind(state);
}

int64_t object_read(struct arena *a, uint64_t handle, uint64_t offset, void *to, uint64_t len)
{
	struct object o;
	uint32_t state;
	uint64_t usable;
	int64_t n;
	int r = find_plain(a, handle, &o, &state);

	if (r)
		return r;
	usable = object_usable(a, &o, handle);
	if (offset >= usable)
		return 0;
	if (len > usable - offset)
		len = usable - offset;
	n = arena_read(a, a->g.heap + handle_offset(handle) + o.front + offset, to, len);
	if (n < 0)
		return n;
	/* What was copied was the object's only if it is still live. PAIR(read): the copy, then the look. */
	atomic_thread_fence(memory_order_acquire);
	r = find_to_look(a, handle, &o, &state);
	return r ? r : n;
}

/* In an arena with watched objects, whose bytes do not begin where their places do. */
static uint64_t watched_handle(struct arena *a, uint64_t offset)
{
	uint64_t handle = object_containing(a, offset);
	struct object o;
	uint32_t state;

	if (!handle || object_word_find_live(a, handle, &o, &state))
		return 0;
	return handle_offset(handle) + o.front == offset ? handle : 0;
}

uint64_t object_handle_of(struct arena *a, const void *start)
{
	uint64_t offset = (uint64_t)((const char *)start - a->heap), w0;
	struct slab_place p;
	uint32_t state;

	if ((const char *)start < a->heap || offset >= a->g.capacity)
		return 0;
	if (a->debug)
		return watched_handle(a, offset);
	if (offset >> PAGE_SHIFT >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		arena_refresh(a);
	if (slab_find(a, offset, &p) == 0) {
		state = atomic_load_explicit(&p.record->words[p.index], memory_order_relaxed);
		return p.offset == 0 && state_kind(state) != OBJECT_FREE
			       ? handle_make(a->tag, state_gen(state), offset)
			       : 0;
	}
	if (offset >> PAGE_SHIFT >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return 0;
	w0 = atomic_load_explicit(&a->pages[offset >> PAGE_SHIFT].w0, memory_order_relaxed);
	if (pw0_kind(w0) == PAGE_LARGE && !(offset & (PAGE_SIZE - 1)))
		return handle_make(a->tag, pw0_gen(w0), offset);
	return stack_handle_at(a, offset);
}

/* Pages of what begins at a page and is one object. */
static uint64_t single_length(uint64_t w0, uint64_t w1)
{
	if (pw0_kind(w0) == PAGE_LARGE)
		return pw1_length(w1);
	if (pw0_kind(w0) == PAGE_SLAB && pw1_is_slab(w1) && sizeclass_entries(pw1_class(w1)) == 1)
		return sizeclass_table[pw1_class(w1)].pages;
	return 0;
}

/* The large object that covers a page, by a walk back to its head; pages_known at most. */
static uint64_t large_head(struct arena *a, uint64_t page)
{
	uint64_t at = page, first = page / a->g.zone_pages * a->g.zone_pages;

	for (;;) {
		uint64_t w0 = atomic_load_explicit(&a->pages[at].w0, memory_order_acquire);
		uint64_t w1 = atomic_load_explicit(&a->pages[at].w1, memory_order_relaxed);

		if (pw0_kind(w0) == PAGE_SPAN && pw1_span_head(w1) < at) {
			at = pw1_span_head(w1);
			continue;
		}
		if (page - at < single_length(w0, w1))
			return at;
		if (pw0_kind(w0) != PAGE_FREE || at <= first)
			return UINT64_MAX;
		at--;
	}
}

uint64_t object_containing(struct arena *a, uint64_t heap_offset)
{
	uint64_t page = heap_offset >> PAGE_SHIFT, handle;
	struct slab_place p;
	struct object o;
	uint32_t state;
	int r;

	if (page >= geometry_heap_pages(&a->g) || page >= arena_refresh(a) * a->g.zone_pages)
		return 0;
	r = slab_find(a, heap_offset, &p);
	if (r == -ENOENT) {
		page = large_head(a, page);
		if (page == UINT64_MAX)
			return 0;
		heap_offset = page << PAGE_SHIFT;
		r = slab_find(a, heap_offset, &p);
	}
	if (r == -EINVAL)
		return 0;
	if (r == 0) {
		state = atomic_load_explicit(&p.record->words[p.index], memory_order_acquire);
		handle = handle_make(a->tag, state_gen(state), heap_offset - p.offset);
	} else {
		handle = handle_make(
			a->tag,
			pw0_gen(atomic_load_explicit(&a->pages[page].w0, memory_order_relaxed)),
			heap_offset);
	}
	return object_word_find_live(a, handle, &o, &state) || o.use ? 0 : handle;
}
