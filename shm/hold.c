/* SPDX-License-Identifier: Apache-2.0 */
/* hold.h has the protocol and why it holds. */
#include "hold.h"

#include <errno.h>

#include "cache.h"
#include "client.h"
#include "debug_object.h"
#include "extent.h"
#include "hold_inside.h"
#include "object.h"
#include "object_word.h"
#include "slab.h"
#include "stop_point.h"
#include "thread.h"

#define ATTEMPTS 64 /* each lost to somebody's success */

/* ---- the end of an object ---- */

static bool is_held_here(const struct arena *a, uint32_t state, uint64_t handle, uint64_t index)
{
	return state_kind(state) == OBJECT_HELD &&
	       hold_place(a, hold_home(handle), state_client(state)) == index;
}

/* Of a record that is ENDING with this client, in a marked region, as the object's are. */
static void free_object(struct arena *a, uint64_t index, uint64_t handle, struct thread_block *t)
{
	uint32_t state, gen, freed;
	struct object o;
	uint64_t w0;

	/* Else it was freed, and this is done once more. */
	if (object_word_find_live(a, handle, &o, &state) || !is_held_here(a, state, handle, index))
		return;
	gen = (o.gen + (t ? t->gen_step >> STATE_GEN_SHIFT : 1)) & 0xffff;
	freed = state_make(OBJECT_PRIVATE, a->client, gen);
	/* Crash: before, the arena's, its record ENDING with us; after, ours, to return with us. */
	if (o.small) {
		if (!object_word_change(&o, state, freed))
			return;
	} else {
		w0 = pw0_large(state);
		if (!atomic_compare_exchange_strong_explicit(o.large, &w0,
							     pw0_make(PAGE_RAW, a->client, gen, RAW_PLAIN),
							     memory_order_acq_rel, memory_order_relaxed))
			return;
	}
	STOP_POINT(hold_object_freed);
	/* PAIR(read): the new generation, then whatever comes to lie there. */
	atomic_thread_fence(memory_order_release);
	if (o.front)
		debug_object_freed(a, &o, handle, gen);
	handle = handle_make(a->tag, gen, handle_offset(handle));
	if (!o.small) {
		extent_free(a, o.page);
	} else if (t) {
		object_word_account(a, 0, a->client, o.bytes);
		cache_push(a, t, o.class, handle);
	} else {
		slab_put(a, &handle, 1, 0);
	}
}

void hold_end(struct arena *a, uint64_t index, uint64_t head, struct thread_block *t)
{
	struct hold_record *r = hold_record_at(a, index);

	STOP_POINT(hold_ending);
	free_object(a, index, atomic_load_explicit(&r->handle, memory_order_relaxed), t);
	STOP_POINT(hold_ended);
	/* Crash: before, ENDING with us, its object gone; after, free. */
	hold_swap(r, head, hold_head_next(head, HOLD_FREE, 0));
}

static bool all_empty(const struct arena *a, uint64_t index)
{
	for (uint32_t links = 0; index != HOLD_NONE && links < HOLD_LINKS_MAX; links++) {
		struct hold_record *r = hold_record_at(a, index);

		/* PAIR(hold-slot): DYING, then the slots; who takes one looks at the head after. */
		for (uint32_t i = 0; i < HOLD_SLOTS; i++)
			if (atomic_load_explicit(&r->slots[i], memory_order_seq_cst))
				return false;
		index = hold_next(a, index);
	}
	return true;
}

/* Marks what the end of a record's object will make ours. Done before, unless the record has changed hands. */
static int mark_end(struct arena *a, uint64_t index)
{
	uint64_t handle = atomic_load_explicit(&hold_record_at(a, index)->handle, memory_order_relaxed);
	struct object o;
	uint32_t state;
	int r = hold_mark(a, index);

	if (!r && !object_word_find_live(a, handle, &o, &state))
		r = object_word_mark(a, &o);
	return r;
}

/* The record that an extension belongs to. */
static uint64_t first_of(const struct arena *a, uint64_t index)
{
	uint64_t first;

	if (hold_head_state(hold_head_load(hold_record_at(a, index))) != HOLD_EXTENSION)
		return index;
	first = atomic_load_explicit(&hold_record_at(a, index)->handle, memory_order_relaxed);
	return first / HOLD_PAGE_RECORDS < hold_pages(a) && hold_page_there(a, first / HOLD_PAGE_RECORDS)
		       ? first
		       : index;
}

int hold_settle(struct arena *a, uint64_t index, struct thread_block *t)
{
	struct hold_record *r;

	index = first_of(a, index);
	r = hold_record_at(a, index);
	for (uint32_t i = 0; i < 2 * CLIENTS_MAX; i++) {
		uint64_t head = hold_head_load(r);
		bool dying = hold_head_state(head) == HOLD_DYING, empty;
		enum hold_state to = HOLD_DYING;

		if (!dying && hold_head_state(head) != HOLD_LIVE)
			return 0;
		empty = all_empty(a, index);
		if (!dying && !empty)
			return 0;
		if (dying)
			to = empty ? HOLD_ENDING : HOLD_LIVE;
		if (to == HOLD_ENDING && mark_end(a, index))
			return -ENOMEM;
		STOP_POINT(hold_settling);
		/* Crash: DYING is nobody's, and settled by the next who comes, at the latest who recovers us;
		 * ENDING is ours, in a marked region. */
		if (hold_swap(r, head, hold_head_next(head, to, to == HOLD_ENDING ? a->client : 0)) &&
		    to == HOLD_ENDING) {
			hold_end(a, index, hold_head_next(head, HOLD_ENDING, a->client), t);
			return 0;
		}
	}
	return -EAGAIN;
}

/* ---- slots ---- */

/* Takes one off a slot of this client's. Whether it is empty now. */
static bool count_down(struct arena *a, _Atomic uint32_t *slot)
{
	uint32_t seen = atomic_load_explicit(slot, memory_order_relaxed), to;

	do {
		if (hold_slot_client(seen) != a->client)
			return false;
		to = hold_slot_count(seen) > 1 ? hold_slot(a->client, hold_slot_count(seen) - 1) : 0;
		/* Crash: before, held as before; after, once less. */
	} while (!atomic_compare_exchange_weak_explicit(slot, &seen, to, memory_order_seq_cst,
							memory_order_relaxed));
	return to == 0;
}

/* This client's slot in a record and its extensions; where there is none an empty one, if *empty is wanted. *last is
 * the end of the list. */
static _Atomic uint32_t *find_slot(struct arena *a, uint64_t *index, _Atomic uint32_t **empty, uint64_t *last)
{
	uint64_t at = *index, empty_at = HOLD_NONE;

	for (uint32_t links = 0; at != HOLD_NONE && links < HOLD_LINKS_MAX; links++) {
		struct hold_record *r = hold_record_at(a, at);

		for (uint32_t i = 0; i < HOLD_SLOTS; i++) {
			uint32_t slot = atomic_load_explicit(&r->slots[i], memory_order_relaxed);

			if (hold_slot_client(slot) == a->client) {
				*index = at;
				return &r->slots[i];
			}
			if (!slot && empty && !*empty) {
				*empty = &r->slots[i];
				empty_at = at;
			}
		}
		*last = at;
		at = hold_next(a, at);
	}
	if (empty_at != HOLD_NONE)
		*index = empty_at;
	return NULL;
}

/* A free record at a place seen from a page, which becomes ours in the given state. */
static uint64_t claim(struct arena *a, uint64_t page, enum hold_state state, uint32_t *place, int *err)
{
	*err = -ENOSPC;
	for (*place = 0; *place < HOLD_PLACES; ++*place) {
		uint64_t index = hold_place(a, page, *place), head;

		if (*place % HOLD_PAGE_RECORDS == 0 && !hold_page_there(a, index / HOLD_PAGE_RECORDS) &&
		    (*err = hold_page_commit(a, index / HOLD_PAGE_RECORDS)) != 0)
			return HOLD_NONE;
		head = hold_head_load(hold_record_at(a, index));
		/* Extensions never were anything else: so nobody has an old way to one. */
		if (hold_head_state(head) != HOLD_FREE || (state == HOLD_ADDING && head))
			continue;
		if ((*err = hold_mark(a, index)) != 0)
			return HOLD_NONE;
		*err = -ENOSPC;
		/* Crash: before, free; after, ours, in a marked region. */
		if (hold_swap(hold_record_at(a, index), head, hold_head_next(head, state, a->client)))
			return index;
	}
	return HOLD_NONE;
}

/* One more record for a list, whose end is last. 0, also if somebody else was first. */
static int extend(struct arena *a, uint64_t first, uint64_t last)
{
	uint32_t place, none = 0;
	int err = 0;
	uint64_t index = claim(a, last / HOLD_PAGE_RECORDS, HOLD_ADDING, &place, &err), head;
	struct hold_record *r;
	bool linked;

	if (index == HOLD_NONE)
		return err;
	r = hold_record_at(a, index);
	head = hold_head_load(r);
	atomic_store_explicit(&r->handle, first, memory_order_release);
	STOP_POINT(hold_adding);
	/* Crash: before, ours, and in no list; after, in the list for good. Recovery looks whether it is. */
	linked = atomic_compare_exchange_strong_explicit(&hold_record_at(a, last)->next, &none, place + 1,
							 memory_order_seq_cst, memory_order_relaxed);
	STOP_POINT(hold_added);
	hold_swap(r, head, hold_head_next(head, linked ? HOLD_EXTENSION : HOLD_FREE, 0));
	return 0;
}

/* ---- retain ---- */

/* After a slot was counted up: whether that came in time. -ESTALE: the object is going, or gone; -EAGAIN: look it up
 * again. */
static int confirm(struct arena *a, uint64_t first, uint64_t handle)
{
	struct hold_record *r = hold_record_at(a, first);

	for (int i = 0; i < ATTEMPTS; i++) {
		/* PAIR(hold-slot): the slot, then the head. */
		uint64_t head = hold_head_load(r);
		enum hold_state state = hold_head_state(head);

		if ((state != HOLD_LIVE && state != HOLD_DYING) ||
		    atomic_load_explicit(&r->handle, memory_order_relaxed) != handle)
			return state == HOLD_ENDING ? -ESTALE : -EAGAIN;
		if (state == HOLD_LIVE)
			return 0;
		/* Crash: our slot is taken; it is dropped by recovery. */
		if (hold_swap(r, head, hold_head_next(head, HOLD_LIVE, 0)))
			return 0;
	}
	return -EAGAIN;
}

/* Counts a slot up, from empty or as it was. */
static int count_up(struct arena *a, _Atomic uint32_t *slot, bool mine)
{
	uint32_t seen = mine ? atomic_load_explicit(slot, memory_order_relaxed) : 0;

	if (mine && hold_slot_client(seen) != a->client)
		return -EAGAIN;
	if (hold_slot_count(seen) == HOLD_COUNT_MAX)
		return -EOVERFLOW;
	/* Crash: before, as it was; after, once more, found by our number in a region that is marked. */
	return atomic_compare_exchange_strong_explicit(slot, &seen,
						       hold_slot(a->client, hold_slot_count(seen) + 1),
						       memory_order_seq_cst, memory_order_relaxed)
		       ? 0
		       : -EAGAIN;
}

/* Marks all that holding an object may make ours. */
static int mark_all(struct arena *a, uint64_t first, uint64_t index, uint64_t handle)
{
	struct object o;
	uint32_t state;
	int r = object_word_find_live(a, handle, &o, &state);

	if (!r)
		r = object_word_mark(a, &o);
	if (!r)
		r = hold_mark(a, first);
	return r || index == first ? r : hold_mark(a, index);
}

/* One more hold in a record that may be this object's. -EAGAIN: look it up again. */
static int retain_in(struct arena *a, uint64_t first, uint64_t handle, struct thread_block *t)
{
	_Atomic uint32_t *empty = NULL, *slot;
	uint64_t index = first, last = first;
	int r;

	slot = find_slot(a, &index, &empty, &last);
	if (!slot && !empty) {
		r = extend(a, first, last);
		return r ? r : -EAGAIN;
	}
	if (!slot) {
		r = mark_all(a, first, index, handle);
		if (r)
			return r;
		STOP_POINT(hold_slot_marked);
	}
	r = count_up(a, slot ? slot : empty, slot != NULL);
	if (r)
		return r;
	STOP_POINT(hold_slot_taken);
	r = confirm(a, first, handle);
	if (r && count_down(a, slot ? slot : empty))
		hold_settle(a, first, t);
	return r;
}

/* The owner's first: the object becomes the arena's. *state: what it was. */
static int begin(struct arena *a, const struct object *o, uint32_t state, uint64_t handle, struct thread_block *t)
{
	uint32_t place, i = 0;
	int err = 0;
	uint64_t index = claim(a, hold_home(handle), HOLD_NEW, &place, &err), head;
	struct hold_record *r;
	bool done;

	if (index == HOLD_NONE)
		return err;
	r = hold_record_at(a, index);
	head = hold_head_load(r);
	STOP_POINT(hold_claimed);
	atomic_store_explicit(&r->handle, handle, memory_order_relaxed);
	/* Latecomers of the last object may have taken one for a moment. */
	while (i < HOLD_SLOTS && count_up(a, &r->slots[i], false))
		i++;
	STOP_POINT(hold_written);
	/* Crash: before, ours; after, our slot is dropped by recovery, and the record, which no object has, is settled.
	 * PAIR(hold-live): the handle, then LIVE. */
	hold_swap(r, head, hold_head_next(head, i < HOLD_SLOTS ? HOLD_LIVE : HOLD_FREE, 0));
	if (i == HOLD_SLOTS)
		return -EAGAIN;
	STOP_POINT(hold_live);
	/* Crash: before, ours, to return with us; after, the arena's, as long as somebody holds it. */
	done = debug_object_open_up(a, o) && object_word_change(o, state, state_make(OBJECT_HELD, place, o->gen));
	STOP_POINT(hold_begun);
	if (done) {
		object_word_account(a, state_owner(state), 0, o->bytes);
		return 0;
	}
	if (count_down(a, &r->slots[i]))
		hold_settle(a, index, t);
	return -EAGAIN;
}

static int retain_object(struct arena *a, uint64_t handle, struct thread_block *t)
{
	uint64_t index;
	struct object o;
	uint32_t state;
	int r = object_word_find_live(a, handle, &o, &state);

	if (r)
		return r;
	switch (state_kind(state)) {
	case OBJECT_HELD: break;
	case OBJECT_PUBLISHED: return -EBUSY;
	case OBJECT_PRIVATE:
	case OBJECT_TAKEN:
	case OBJECT_SHARED:
		return object_word_is_mine(a, state) ? begin(a, &o, state, handle, t) : -EPERM;
	default: return -EPERM;
	}
	index = hold_place(a, hold_home(handle), state_client(state));
	if (!hold_page_there(a, index / HOLD_PAGE_RECORDS))
		return -EUCLEAN;
	return retain_in(a, index, handle, t);
}

/* The record of a held small object, where all that leads there is told by two words; else HOLD_NONE. */
static inline uint64_t find_fast(const struct arena *a, uint64_t handle)
{
	struct object_place at;
	uint32_t state;
	uint64_t index;

	if (!object_place_of(a, handle, &at))
		return HOLD_NONE;
	state = atomic_load_explicit(at.word, memory_order_acquire);
	if (state_kind(state) != OBJECT_HELD || state_gen(state) != handle_gen(handle))
		return HOLD_NONE;
	index = hold_place(a, hold_home(handle), state_client(state));
	return hold_page_there(a, index / HOLD_PAGE_RECORDS) ? index : HOLD_NONE;
}

int hold_retain(struct arena *a, uint64_t handle)
{
	int err = 0, r = -EAGAIN;
	struct thread_block *t = thread_peek(a);
	uint64_t index;

	if (!t)
		t = thread_self(a, &err);
	if (!t)
		return err;
	index = find_fast(a, handle);
	if (index != HOLD_NONE)
		r = retain_in(a, index, handle, t);
	for (int i = 0; r == -EAGAIN && i < ATTEMPTS; i++)
		r = retain_object(a, handle, t);
	return r == -EAGAIN ? -EBUSY : r;
}

/* ---- release ---- */

int hold_release(struct arena *a, uint64_t handle)
{
	uint64_t index, first, last;
	_Atomic uint32_t *slot;
	struct object o;
	uint32_t state;
	int err = 0, r;
	struct thread_block *t = thread_peek(a);

	if (!t)
		t = thread_self(a, &err);
	if (!t)
		return err;
	first = find_fast(a, handle);
	if (first == HOLD_NONE) {
		r = object_word_find_live(a, handle, &o, &state);
		if (r)
			return r;
		if (state_kind(state) != OBJECT_HELD)
			return -EPERM;
		first = hold_place(a, hold_home(handle), state_client(state));
		if (!hold_page_there(a, first / HOLD_PAGE_RECORDS))
			return -EUCLEAN;
	}
	index = first;
	slot = find_slot(a, &index, NULL, &last);
	/* Who holds it keeps the record this object's. */
	if (!slot)
		return -EPERM;
	if (atomic_load_explicit(&hold_record_at(a, first)->handle, memory_order_relaxed) != handle)
		return -ESTALE;
	if (count_down(a, slot)) {
		STOP_POINT(hold_slot_emptied);
		hold_settle(a, first, t);
	}
	return 0;
}
