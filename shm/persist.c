/* SPDX-License-Identifier: Apache-2.0 */
#include "persist.h"

#include <errno.h>
#include <stdbool.h>

#include "object.h"
#include "stop_point.h"
#include "words.h"

static bool is_the_arenas(enum object_kind kind)
{
	return kind == OBJECT_PERSISTENT || kind == OBJECT_PUBLISHED;
}

/* The live object of the arena's own that holds 8 bytes at an offset, or 0. Objects are multiples
 * of 16 bytes, so an aligned cell lies in one whole. */
static uint64_t container_of_cell(struct arena *a, uint64_t offset)
{
	uint64_t container;
	uint32_t client;

	if (offset % 8 || offset >= a->g.capacity || a->g.capacity - offset < 8)
		return 0;
	container = object_containing(a, offset);
	return container && is_the_arenas(object_kind_of(a, container, &client)) ? container : 0;
}

/* 1: it is persistent already, and needs only its cell. */
static int check_object(struct arena *a, uint64_t handle)
{
	uint32_t client = 0;

	if (handle_tag(handle) != a->tag || handle_offset(handle) >= a->g.capacity)
		return -EINVAL;
	switch (object_kind_of(a, handle, &client)) {
	case OBJECT_FREE: return -ESTALE;
	case OBJECT_PRIVATE:
	case OBJECT_TAKEN:
	case OBJECT_SHARED: return client == a->client ? 0 : -EPERM;
	case OBJECT_PERSISTENT: return 1;
	case OBJECT_PUBLISHED: return -EBUSY;
	default: return -EINVAL;
	}
}

/* PAIR(persist-intent): see below. */
static void arm(struct persist_intent *intent, uint64_t handle, uint64_t cell, uint64_t container,
		uint64_t old)
{
	intent->handle = handle;
	intent->cell = cell;
	intent->container = container;
	intent->old = old;
	STOP_POINT(persist_noted);
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&intent->armed, 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static void disarm(struct persist_intent *intent)
{
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&intent->armed, 0, memory_order_relaxed);
}

/*
 * PAIR(persist-intent): intent, armed, object, cell, object settled, disarmed. The other side runs after our death,
 * of which the kernel tells, so only the compiler must be kept in order.
 * Crash: before armed, nothing; before the object's swap, the object is still ours and returns with
 * us; before the cell's store, recovery makes it; after, there is nothing to do.
 */
int persist_object(struct arena *a, struct thread_block *t, uint64_t handle, _Atomic uint64_t *cell)
{
	uint64_t offset = (uint64_t)(uintptr_t)cell - (uint64_t)(uintptr_t)a->heap, container;
	int r;

	if (a->readonly)
		return -EROFS;
	container = container_of_cell(a, offset);
	if (!container)
		return -EINVAL;
	r = check_object(a, handle);
	if (r < 0)
		return r;
	if (r == 0) {
		arm(&t->intent, handle, offset, container,
		    atomic_load_explicit(cell, memory_order_relaxed));
		STOP_POINT(persist_armed);
		r = object_persist_word(a, handle);
	} else {
		r = 0;
	}
	STOP_POINT(persist_worded);
	/* Who finds the handle in the cell finds the object on offer. */
	if (!r)
		atomic_store_explicit(cell, handle, memory_order_release);
	STOP_POINT(persist_stored);
	object_persist_settle(a, handle);
	STOP_POINT(persist_settled);
	disarm(&t->intent);
	return r;
}

/*
 * A dead client's intent is owed its cell if the object is still as that client made it persistent,
 * which its number in the word tells, and the cell lies in the very object it lay in. The cell is swapped from what it held: if it holds the handle, that
 * was the client; if anything else, somebody has used the cell since.
 *
 * One thing cannot be told: between our look at the container and the swap its users may free it,
 * and its place go to another object; the swap then harms that only if it holds the old value there
 * at that instant.
 */
void persist_recover(struct arena *a, const struct thread_block *tb, uint32_t client)
{
	struct persist_intent intent = {.handle = tb->intent.handle,
					.cell = tb->intent.cell,
					.container = tb->intent.container,
					.old = tb->intent.old};
	uint32_t owner = 0;

	if (atomic_load_explicit(&tb->intent.armed, memory_order_acquire) != 1)
		return;
	if (handle_tag(intent.handle) != a->tag || handle_offset(intent.handle) >= a->g.capacity)
		return;
	if (object_kind_of(a, intent.handle, &owner) != OBJECT_PERSISTENT ||
	    owner != client)
		return;
	/* Crash: before, the next recoverer does it; after, it finds another value and does
	 * nothing. */
	STOP_POINT(persist_recovering);
	if (intent.container && container_of_cell(a, intent.cell) == intent.container)
		atomic_compare_exchange_strong_explicit(
			(_Atomic uint64_t *)(void *)(a->heap + intent.cell), &intent.old, intent.handle,
			memory_order_acq_rel, memory_order_relaxed);
	object_persist_settle(a, intent.handle);
}
