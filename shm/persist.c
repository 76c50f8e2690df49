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
	case OBJECT_PUBLISHED:
	case OBJECT_HELD: return -EBUSY;
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
	atomic_store_explicit(&intent->armed, INTENT_PERSIST, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static void disarm(struct persist_intent *intent)
{
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&intent->armed, INTENT_NONE, memory_order_relaxed);
}

/* The cell's own value again, unless somebody has changed it since; its object may be gone, and another there. */
static void cell_back(struct arena *a, const struct persist_intent *intent)
{
	uint64_t handle = intent->handle;

	if (intent->container && container_of_cell(a, intent->cell) == intent->container)
		atomic_compare_exchange_strong_explicit(
			(_Atomic uint64_t *)(void *)(a->heap + intent->cell), &handle, intent->old,
			memory_order_acq_rel, memory_order_relaxed);
}

/*
 * PAIR(persist-intent): intent, armed, object on offer, cell, object the arena's, disarmed. The other side runs after
 * our death, of which the kernel tells, so only the compiler must be kept in order.
 * Crash: until the object is the arena's it is ours, and returns with us; recovery takes its handle out of the
 * cell. After, the cell has long held it. On offer first: who finds the handle in the cell can take the object.
 */
static int persist_ours(struct arena *a, struct persist_intent *intent, _Atomic uint64_t *cell)
{
	int r = object_share(a, intent->handle);

	STOP_POINT(persist_offered);
	if (r)
		return r;
	atomic_store_explicit(cell, intent->handle, memory_order_release);
	STOP_POINT(persist_stored);
	r = object_persist_word(a, intent->handle);
	STOP_POINT(persist_worded);
	/* Another took it meanwhile, or freed it: it was on offer. */
	if (r)
		cell_back(a, intent);
	return r;
}

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
	if (r > 0) {
		atomic_store_explicit(cell, handle, memory_order_release);
		return 0;
	}
	arm(&t->intent, handle, offset, container, atomic_load_explicit(cell, memory_order_relaxed));
	STOP_POINT(persist_armed);
	r = persist_ours(a, &t->intent, cell);
	disarm(&t->intent);
	return r;
}

/*
 * An object that is still the dead client's returns with it: its handle leaves the cell, if it came there, and the cell
 * lies in the very object it lay in.
 *
 * One thing cannot be told: between our look at the container and the swap its users may free it,
 * and its place go to another object; the swap then harms that only if it holds the handle there
 * at that instant.
 */
void persist_recover(struct arena *a, const struct thread_block *tb, uint32_t client)
{
	struct persist_intent intent = {.handle = tb->intent.handle,
					.cell = tb->intent.cell,
					.container = tb->intent.container,
					.old = tb->intent.old};
	uint32_t owner = 0;

	if (atomic_load_explicit(&tb->intent.armed, memory_order_acquire) != INTENT_PERSIST)
		return;
	if (handle_tag(intent.handle) != a->tag || handle_offset(intent.handle) >= a->g.capacity)
		return;
	switch (object_kind_of(a, intent.handle, &owner)) {
	case OBJECT_PRIVATE:
	case OBJECT_TAKEN:
	case OBJECT_SHARED: break;
	default: return;
	}
	if (owner != client)
		return;
	/* Crash: before, the next recoverer does it; after, it finds another value and does
	 * nothing. */
	STOP_POINT(persist_recovering);
	cell_back(a, &intent);
}
