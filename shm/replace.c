/* SPDX-License-Identifier: Apache-2.0 */
#include "replace.h"

#include <errno.h>

#include "object.h"
#include "object_word.h"
#include "pagemap.h"
#include "slab.h"
#include "stop_point.h"
#include "words.h"

#define ATTEMPTS 64

/* ---- the exchange ---- */

static int allowed(const struct arena *a, uint32_t state)
{
	switch (state_kind(state)) {
	case OBJECT_PRIVATE:
	case OBJECT_TAKEN:
	case OBJECT_SHARED: return object_word_is_mine(a, state) ? 0 : -EPERM;
	case OBJECT_PERSISTENT: return 0;
	default: return -EBUSY;
	}
}

int replace_allowed(struct arena *a, uint64_t handle, struct replace_view *ret)
{
	struct object o;
	uint32_t state;
	int r;

	if (a->readonly)
		return -EROFS;
	r = object_word_find_live(a, handle, &o, &state);
	if (r)
		return r;
	*ret = (struct replace_view){.bytes = o.bytes, .is_packed = o.use != 0, .is_large = !o.small, .is_watched = o.front != 0};
	return allowed(a, state);
}

/* From private, and this client's, to what the other was. Crash: each before is settled by recovery, each after is done. */
static void give_kind(struct arena *a, uint64_t handle, uint32_t was, uint32_t client)
{
	bool is_arenas = state_kind(was) == OBJECT_PERSISTENT;
	struct object o;
	uint32_t now;

	if (state_kind(was) == OBJECT_PRIVATE || state_kind(was) == OBJECT_TAKEN ||
	    object_word_find_live(a, handle, &o, &now) || now != state_make(OBJECT_PRIVATE, client, o.gen))
		return;
	if (object_word_change(&o, now, state_make(state_kind(was), is_arenas ? 0 : client, o.gen)) && is_arenas)
		object_word_account(a, client, 0, o.bytes);
}

/* PAIR(replace-intent): intent, armed, the old one ours, the new one the arena's, disarmed, the old one put away. The
 * other side runs after our death, of which the kernel tells: only the compiler must be kept in order. */
static void arm(struct persist_intent *intent)
{
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&intent->armed, INTENT_REPLACE, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static void disarm(struct persist_intent *intent)
{
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&intent->armed, INTENT_NONE, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

/* From exactly the state that was found allowed: what changes hands meanwhile is for its new owner to say. */
static int claim(struct arena *a, const struct thread_block *t, struct persist_intent *intent, const struct object *o,
		 uint32_t *state)
{
	int r = -EAGAIN;

	for (int i = 0; r == -EAGAIN && i < ATTEMPTS; i++) {
		r = object_word_load(o, state);
		if (!r)
			r = allowed(a, *state);
		if (r)
			return r;
		atomic_store_explicit(&intent->armed, INTENT_NONE, memory_order_relaxed);
		if (state_kind(*state) == OBJECT_PERSISTENT)
			arm(intent);
		STOP_POINT(replace_armed);
		/* Crash: before, the old one as it was, and the new one returns with us; after, the old one does. */
		r = object_claim(a, o, *state, object_next_gen(t, o->gen));
	}
	return r == -EAGAIN ? -EBUSY : r;
}

int replace_object(struct arena *a, struct thread_block *t, uint64_t from, uint64_t to)
{
	struct object o;
	uint32_t state;
	int r = object_word_find_live(a, from, &o, &state);

	if (r)
		return r;
	t->intent.handle = from;
	t->intent.cell = to;
	t->intent.gen = object_next_gen(t, o.gen);
	r = claim(a, t, &t->intent, &o, &state);
	STOP_POINT(replace_claimed);
	/* Crash: before, recovery does this; after, there is nothing more for it to do. */
	if (!r)
		give_kind(a, to, state, a->client);
	STOP_POINT(replace_given);
	disarm(&t->intent);
	if (!r)
		object_put_claimed(a, t, from, &o, state);
	return r;
}

/* ---- recovery ---- */

/* Whether the place of the old one is the dead client's by this very exchange. */
static bool is_claimed(struct arena *a, uint64_t handle, uint32_t gen, uint32_t client)
{
	uint64_t offset = handle_offset(handle), page = offset >> PAGE_SHIFT, w0;
	struct slab_place p;
	int r;

	if (handle_tag(handle) != a->tag || offset >= a->g.capacity ||
	    page >= arena_refresh(a) * a->g.zone_pages)
		return false;
	r = slab_find(a, offset, &p);
	if (r == 0)
		return p.offset == 0 &&
		       atomic_load_explicit(&p.record->words[p.index], memory_order_acquire) ==
			       state_make(OBJECT_PRIVATE, client, gen);
	w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);
	return r == -ENOENT && w0 == pw0_make(PAGE_RAW, client, gen, RAW_PLAIN);
}

void replace_recover(struct arena *a, const struct thread_block *tb, uint32_t client)
{
	const struct persist_intent intent = {.handle = tb->intent.handle,
					      .cell = tb->intent.cell,
					      .gen = tb->intent.gen & 0xffff};

	if (atomic_load_explicit(&tb->intent.armed, memory_order_acquire) != INTENT_REPLACE ||
	    handle_tag(intent.cell) != a->tag || !is_claimed(a, intent.handle, intent.gen, client))
		return;
	STOP_POINT(replace_recovering);
	/* Crash: before, the next recoverer does it; after, it finds the new one no longer private. Armed is only for
	 * what was the arena's. */
	give_kind(a, intent.cell, state_make(OBJECT_PERSISTENT, 0, 0), client);
}

/* ---- looking into it ---- */

int64_t replace_packed(struct arena *a, uint64_t handle, uint64_t offset, void *to, uint64_t len)
{
	struct object o;
	uint32_t state;
	int64_t n;
	int r = object_word_find_live(a, handle, &o, &state);

	if (r || !o.use)
		return r ? r : -EINVAL;
	if (offset > o.bytes || len > o.bytes - offset)
		return -EUCLEAN;
	n = arena_read(a, a->g.heap + handle_offset(handle) + offset, to, len);
	if (n < 0)
		return n;
	/* PAIR(read): the copy, then the look. */
	atomic_thread_fence(memory_order_acquire);
	r = object_word_find_live(a, handle, &o, &state);
	if (r)
		return r;
	return (uint64_t)n == len && o.use ? n : -EUCLEAN;
}
