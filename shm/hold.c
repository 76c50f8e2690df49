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
/* Out of line, so that a fast path saves no registers for it. */
#define COLD __attribute__((noinline, cold))

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
	bool kept;

	/* Else it was freed, and this is done once more. */
	if (object_word_find_live(a, handle, &o, &state) || !is_held_here(a, state, handle, index))
		return;
	gen = (o.gen + (t ? t->gen_step >> STATE_GEN_SHIFT : 1)) & 0xffff;
	/* A watched one goes into quarantine, where nobody knows the handle; recovery has no quarantine. */
	kept = o.front && t;
	freed = state_make(kept ? OBJECT_INTERNAL : OBJECT_PRIVATE, a->client, gen);
	/* Crash: before, the arena's, its record ENDING with us; after, ours, to return with us. */
	if (o.small) {
		if (!object_word_change(&o, state, freed))
			return;
	} else {
		w0 = pw0_object(o.page_kind, state);
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
	if (kept) {
		debug_object_keep(a, t, handle, &o);
	} else if (!o.small) {
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
static inline bool count_down(struct arena *a, _Atomic uint32_t *slot)
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

/* Where a client's hold in an object is told, or is to be. */
struct slot_place {
	_Atomic uint32_t *slot; /* NULL: none is empty */
	uint64_t index;		/* of its record */
	uint64_t last;		/* record of the list that was looked at */
	bool mine;		/* not an empty one */
};

/* In one record. */
static inline bool look_for_slot(const struct arena *a, uint64_t index, struct slot_place *p)
{
	struct hold_record *r = hold_record_at(a, index);

	p->last = index;
#pragma GCC unroll 11
	for (uint32_t i = 0; i < HOLD_SLOTS; i++)
		if (hold_slot_client(atomic_load_explicit(&r->slots[i], memory_order_relaxed)) == a->client) {
			*p = (struct slot_place){&r->slots[i], index, index, true};
			return true;
		}
	for (uint32_t i = 0; i < HOLD_SLOTS && !p->slot; i++)
		if (!atomic_load_explicit(&r->slots[i], memory_order_relaxed)) {
			p->slot = &r->slots[i];
			p->index = index;
		}
	return false;
}

/* This client's slot in a record or its extensions, or the first empty one. */
static inline struct slot_place find_slot(const struct arena *a, uint64_t index)
{
	struct slot_place p = {.slot = NULL};

	for (uint32_t links = 0; index != HOLD_NONE && links < HOLD_LINKS_MAX; links++) {
		if (look_for_slot(a, index, &p))
			break;
		index = hold_next(a, index);
	}
	return p;
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
static COLD int extend(struct arena *a, uint64_t first, uint64_t last)
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
static COLD int confirm(struct arena *a, uint64_t first, uint64_t handle)
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

static COLD int confirm_or_undo(struct arena *a, uint64_t first, uint64_t handle, _Atomic uint32_t *slot)
{
	int r = confirm(a, first, handle);

	if (r && count_down(a, slot))
		hold_settle(a, first, thread_peek(a));
	return r;
}

/* Counts a slot up, from empty or as it was. */
static inline int count_up(struct arena *a, _Atomic uint32_t *slot, bool mine)
{
	uint32_t seen = mine ? atomic_load_explicit(slot, memory_order_relaxed) : 0;

	if (mine && hold_slot_client(seen) != a->client)
		return -EAGAIN;
	if (__builtin_expect(hold_slot_count(seen) == HOLD_COUNT_MAX, 0))
		return -EOVERFLOW;
	/* Crash: before, as it was; after, once more, found by our number in a region that is marked. */
	return __builtin_expect(atomic_compare_exchange_strong_explicit(
					slot, &seen, hold_slot(a->client, hold_slot_count(seen) + 1),
					memory_order_seq_cst, memory_order_relaxed),
				1)
		       ? 0
		       : -EAGAIN;
}

/* Marks all that holding an object may make ours. page: a small object's slab's head; HOLD_NONE: look it up. */
static COLD int mark_all(struct arena *a, uint64_t first, uint64_t index, uint64_t handle, uint64_t page)
{
	uint64_t region = page / REGION_PAGES;
	struct object o;
	uint32_t state;
	int r;

	if (page != HOLD_NONE) {
		r = client_mark_page(a, page);
		if (!r)
			thread_cell(a)->marked = region;
	} else {
		r = object_word_find_live(a, handle, &o, &state) ? 0 : object_word_mark(a, &o);
	}
	if (!r && first / HOLD_PAGE_RECORDS != region)
		r = hold_mark(a, first);
	return r || index == first ? r : hold_mark(a, index);
}

/* One more hold in a record that may be this object's. -EAGAIN: look it up again. */
static inline __attribute__((always_inline)) int retain_in(struct arena *a, uint64_t first, uint64_t handle,
							   uint64_t page)
{
	struct slot_place p = find_slot(a, first);
	int r;

	if (__builtin_expect(!p.slot, 0)) {
		r = extend(a, first, p.last);
		return r ? r : -EAGAIN;
	}
	if (!p.mine) {
		/* The record of an object is mostly its region's, and so is that of its first holders. */
		if (thread_cell(a)->marked != page / REGION_PAGES ||
		    page / REGION_PAGES != first / HOLD_PAGE_RECORDS || p.index != first) {
			r = mark_all(a, first, p.index, handle, page);
			if (r)
				return r;
		}
		STOP_POINT(hold_slot_marked);
	}
	r = count_up(a, p.slot, p.mine);
	if (__builtin_expect(r != 0, 0))
		return r;
	STOP_POINT(hold_slot_taken);
	/* PAIR(hold-slot): the slot, then the head. */
	if (__builtin_expect(hold_head_state(hold_head_load(hold_record_at(a, first))) == HOLD_LIVE &&
				     atomic_load_explicit(&hold_record_at(a, first)->handle,
							  memory_order_relaxed) == handle,
			     1))
		return 0;
	return confirm_or_undo(a, first, handle, p.slot);
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
	return retain_in(a, index, handle, HOLD_NONE);
}

/* The record of a held small object, where all that leads there is told by two words, and in *page its slab's head;
 * else HOLD_NONE. */
static inline __attribute__((always_inline)) uint64_t find_fast(const struct arena *a, uint64_t handle,
								uint64_t *page)
{
	struct object_place at;
	uint32_t state;
	uint64_t index;

	if (__builtin_expect(!object_place_of(a, handle, &at), 0))
		return HOLD_NONE;
	state = atomic_load_explicit(at.word, memory_order_acquire);
	if (__builtin_expect(state_kind(state) != OBJECT_HELD || state_gen(state) != handle_gen(handle), 0))
		return HOLD_NONE;
	*page = (handle_offset(handle) >> PAGE_SHIFT) - pw1_dist(at.w1);
	index = hold_place(a, hold_home(handle), state_client(state));
	return __builtin_expect(hold_page_there(a, index / HOLD_PAGE_RECORDS), 1) ? index : HOLD_NONE;
}

static COLD int retain_long(struct arena *a, uint64_t handle)
{
	int err = 0, r = -EAGAIN;
	struct thread_block *t = thread_self(a, &err);

	if (!t)
		return err;
	for (int i = 0; r == -EAGAIN && i < ATTEMPTS; i++)
		r = retain_object(a, handle, t);
	return r == -EAGAIN ? -EBUSY : r;
}

int hold_retain(struct arena *a, uint64_t handle)
{
	struct thread_block *t = thread_peek(a);
	uint64_t page = HOLD_NONE, index;
	int r = -EAGAIN;

	if (__builtin_expect(!t, 0))
		return retain_long(a, handle);
	index = find_fast(a, handle, &page);
	if (__builtin_expect(index != HOLD_NONE, 1))
		r = retain_in(a, index, handle, page);
	return __builtin_expect(r == -EAGAIN, 0) ? retain_long(a, handle) : r;
}

/* ---- release ---- */

/* Of an object that is not small, or not held. */
static COLD int find_long(struct arena *a, uint64_t handle, uint64_t *index)
{
	struct object o;
	uint32_t state;
	int r = object_word_find_live(a, handle, &o, &state);

	if (r)
		return r;
	if (state_kind(state) != OBJECT_HELD)
		return -EPERM;
	*index = hold_place(a, hold_home(handle), state_client(state));
	return hold_page_there(a, *index / HOLD_PAGE_RECORDS) ? 0 : -EUCLEAN;
}

/* As hold_settle() finds most often: somebody else holds it. */
static inline bool still_held(const struct arena *a, uint64_t index)
{
	const struct hold_record *r = hold_record_at(a, index);

	if (hold_head_state(hold_head_load(r)) != HOLD_LIVE)
		return false;
	for (uint32_t i = 0; i < HOLD_SLOTS; i++)
		if (atomic_load_explicit(&r->slots[i], memory_order_seq_cst))
			return true;
	return false;
}

int hold_release(struct arena *a, uint64_t handle)
{
	struct thread_block *t = thread_peek(a);
	struct slot_place p;
	uint64_t first, page;
	int err = 0;

	if (__builtin_expect(!t, 0)) {
		t = thread_self(a, &err);
		if (!t)
			return err;
	}
	first = find_fast(a, handle, &page);
	if (__builtin_expect(first == HOLD_NONE, 0)) {
		err = find_long(a, handle, &first);
		if (err)
			return err;
	}
	p = find_slot(a, first);
	if (__builtin_expect(!p.slot || !p.mine, 0))
		return -EPERM;
	/* Who holds it keeps the record this object's. */
	if (__builtin_expect(atomic_load_explicit(&hold_record_at(a, first)->handle, memory_order_relaxed) != handle,
			     0))
		return -ESTALE;
	if (count_down(a, p.slot)) {
		STOP_POINT(hold_slot_emptied);
		if (!still_held(a, first))
			hold_settle(a, first, t);
	}
	return 0;
}
