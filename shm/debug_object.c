/* SPDX-License-Identifier: Apache-2.0 */
#include "debug_object.h"

#include <errno.h>
#include <string.h>

#include "debug_report.h"
#include "debug_room.h"
#include "extent.h"

/* ---- reports ---- */

static void report(struct arena *a, const struct debug_damage *damage, uint64_t handle, enum debug_call call,
		   const struct debug_head *head)
{
	struct debug_report r;

	memset(&r, 0, sizeof(r));
	r.what = damage->what;
	r.handle = handle;
	r.at = damage->at;
	r.bytes = damage->bytes;
	r.call = call;
	if (head) {
		r.size = head->size;
		r.allocated = head->allocated;
		r.released = head->released;
	}
	debug_report_put(a, &r);
}

static uint64_t offset_of(const struct object *o, uint64_t handle)
{
	return o->small ? handle_offset(handle) : o->page << PAGE_SHIFT;
}

/* ---- allocating ---- */

/* A place that was freed, and is given out again under the generation that it was freed to: nobody had it since. */
static void look_at_place(struct arena *a, uint64_t handle, uint64_t bytes)
{
	uint64_t offset = handle_offset(handle);
	struct debug_damage damage;
	struct debug_head head;

	if (!debug_head_load(a, offset, bytes, &head) || !debug_head_is_freed(&head) ||
	    debug_head_next_gen(&head) != handle_gen(handle))
		return;
	debug_look_inside(a, offset, &head, &damage);
	if (damage.what)
		report(a, &damage, handle_make(a->tag, head.gen, offset), DEBUG_CALL_NONE, &head);
}

/* What a caller wants beyond a private object. */
static void make_kind(struct arena *a, struct object *o, uint32_t state, enum object_kind kind)
{
	bool arenas = kind == OBJECT_PERSISTENT;

	/* Crash: before, private and ours; after, what it is to be. Nobody else knows the handle yet. */
	if (kind != OBJECT_PRIVATE &&
	    object_word_change(o, state, state_make(kind, arenas ? 0 : a->client, o->gen)) && arenas)
		object_word_account(a, a->client, 0, o->bytes);
}

uint64_t debug_object_alloc(struct arena *a, struct thread_block *t, const struct object_want *want, int *err)
{
	struct object_want inner = { .kind = OBJECT_PRIVATE };
	struct debug_plan plan;
	uint64_t handle, offset;
	struct object o;
	uint32_t state;

	debug_plan(&plan, want->size, want->align, want->large || a->debug == DEBUG_SAMPLED);
	inner.size = plan.bytes;
	inner.align = plan.align;
	inner.large = plan.large;
	if (plan.bytes > a->g.capacity) {
		*err = -EINVAL;
		return 0;
	}
	handle = object_alloc_plain(a, t, &inner, err);
	if (!handle || object_word_find_live(a, handle, &o, &state)) {
		*err = handle ? -EUCLEAN : *err;
		return 0;
	}
	offset = offset_of(&o, handle);
	if (o.small)
		look_at_place(a, handle, o.bytes);
	debug_head_write(a, offset, o.bytes, plan.front, want->size, o.gen);
	if (want->zero)
		memset(a->heap + offset + plan.front, 0, want->size);
	/* Crash: either way an object of ours, or of nobody's, of as many pages. */
	if (!o.small)
		atomic_store_explicit(&a->pages[o.page].w1, pw1_large(o.bytes >> PAGE_SHIFT, plan.front),
				      memory_order_release);
	if (!o.small && want->kind == OBJECT_PRIVATE)
		debug_room_protect(a, o.page + (o.bytes >> PAGE_SHIFT) - 1, 1);
	make_kind(a, &o, state, want->kind);
	return handle;
}

/* ---- freeing ---- */

/* As free claims it, but to this client's bookkeeping: neither live nor ready to be given out. */
static int claim_to_keep(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	/* Crash: before, live; after, bookkeeping of ours, or a raw extent: it returns with us. */
	return object_claim_as(a, o, state, gen, OBJECT_INTERNAL);
}

/* What is found at free. False: its head is gone, and with it all that could be said. */
static bool look_at_freed(struct arena *a, uint64_t offset, const struct object *o, uint64_t handle,
			  struct debug_head *head)
{
	struct debug_damage damage = { .what = DEBUG_HEAD };

	if (!debug_head_load(a, offset, o->bytes, head) || head->gen != o->gen) {
		report(a, &damage, handle, DEBUG_CALL_FREE, NULL);
		return false;
	}
	debug_look_around(a, offset, o->bytes, head, &damage);
	if (damage.what)
		report(a, &damage, handle, DEBUG_CALL_FREE, head);
	return true;
}

void debug_object_freed(struct arena *a, const struct object *o, uint64_t handle, uint32_t gen)
{
	uint64_t offset = offset_of(o, handle);
	struct debug_head head;

	if (look_at_freed(a, offset, o, handle, &head))
		debug_head_release(a, offset, &head, gen);
	if (!o->small)
		atomic_store_explicit(&a->pages[o->page].w1, pw1_extent(o->bytes >> PAGE_SHIFT, 0),
				      memory_order_release);
}

/* A small one, ready to be given out again. */
static void put_small(struct arena *a, struct thread_block *t, uint64_t handle)
{
	uint32_t gen = handle_gen(handle), kept = state_make(OBJECT_INTERNAL, a->client, gen);
	struct slab_place p;

	if (slab_find(a, handle_offset(handle), &p))
		return;
	/* Crash: before, bookkeeping; after, in our cache or not, ours. */
	if (atomic_compare_exchange_strong_explicit(&p.record->words[p.index], &kept,
						    state_make(OBJECT_PRIVATE, a->client, gen),
						    memory_order_acq_rel, memory_order_relaxed)) {
		object_word_account(a, 0, a->client, sizeclass_table[p.class].bytes);
		cache_push(a, t, p.class, handle);
	}
}

static void put_large(struct arena *a, uint64_t page, uint64_t pages)
{
	/* Crash: raw and ours before and after, of as many pages. */
	atomic_store_explicit(&a->pages[page].w1, pw1_extent(pages, 0), memory_order_release);
	extent_free(a, page);
}

/* What a handle of quarantine names: bytes of the place, 0 if it is not kept there any more. */
static uint64_t kept_bytes(struct arena *a, uint64_t handle)
{
	uint64_t offset = handle_offset(handle), page = offset >> PAGE_SHIFT, w0;
	struct slab_place p;

	if (!slab_find(a, offset, &p))
		return p.offset ? 0 : sizeclass_table[p.class].bytes;
	w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);
	return w0 == pw0_make(PAGE_RAW, a->client, handle_gen(handle), RAW_PLAIN)
		       ? pw1_length(atomic_load_explicit(&a->pages[page].w1, memory_order_relaxed)) << PAGE_SHIFT
		       : 0;
}

static void leave(struct arena *a, struct thread_block *t, uint64_t handle)
{
	uint64_t offset = handle_offset(handle), page = offset >> PAGE_SHIFT, bytes = kept_bytes(a, handle);
	struct debug_damage damage;
	struct debug_head head;
	struct slab_place p;
	bool small = !slab_find(a, offset, &p);

	if (!bytes || (!small && !debug_room_unprotect(a, page, page + (bytes >> PAGE_SHIFT))))
		return;
	if (debug_head_load(a, offset, bytes, &head) && debug_head_is_freed(&head) &&
	    debug_head_next_gen(&head) == handle_gen(handle)) {
		debug_look_inside(a, offset, &head, &damage);
		if (damage.what)
			report(a, &damage, handle_make(a->tag, head.gen, offset), DEBUG_CALL_NONE, &head);
	}
	if (small)
		put_small(a, t, handle);
	else
		put_large(a, page, bytes >> PAGE_SHIFT);
}

void debug_object_release_all(struct arena *a, struct thread_block *t)
{
	uint64_t handle;

	while ((handle = debug_room_leave(a, true)))
		leave(a, t, handle);
}

void debug_object_keep(struct arena *a, struct thread_block *t, uint64_t handle, const struct object *o)
{
	uint64_t old;

	if (!o->small)
		debug_room_protect(a, o->page, o->bytes >> PAGE_SHIFT);
	if (!debug_room_keep(a, handle, o->bytes))
		leave(a, t, handle);
	while ((old = debug_room_leave(a, false)))
		leave(a, t, old);
}

int debug_object_free(struct arena *a, struct thread_block *t, uint64_t handle, struct object *o, uint32_t state)
{
	uint64_t offset = offset_of(o, handle);
	uint32_t gen = (o->gen + (t->gen_step >> STATE_GEN_SHIFT)) & 0xffff;
	struct debug_head head;
	int r = object_word_step(a, o, &state, claim_to_keep, gen);

	if (r)
		return r;
	/* PAIR(read): the new generation, then whatever comes to lie there. */
	atomic_thread_fence(memory_order_release);
	object_word_account(a, state_owner(state), 0, o->bytes);
	if (!debug_object_open_up(a, o))
		return 0; /* stays ours, until we end */
	if (look_at_freed(a, offset, o, handle, &head))
		debug_head_release(a, offset, &head, gen);
	debug_object_keep(a, t, handle_make(a->tag, gen, offset), o);
	return 0;
}

/* ---- looking ---- */

uint64_t debug_object_size(const struct arena *a, const struct object *o, uint64_t handle)
{
	uint64_t most = o->bytes - o->front;
	struct debug_head head;

	/* One whose head is gone has at most so many. */
	if (debug_head_copy(a, offset_of(o, handle), o->bytes, &head) && head.front == o->front)
		return head.size;
	return o->small ? most - DEBUG_TAIL : most - PAGE_SIZE;
}

bool debug_object_open_up(struct arena *a, const struct object *o)
{
	uint64_t page = o->page;

	return !o->front || o->small || debug_room_unprotect(a, page, page + (o->bytes >> PAGE_SHIFT));
}

/* ---- misuse ---- */

/* The head of whatever the handle named, if it is still there. */
static bool find_head(struct arena *a, uint64_t handle, struct debug_head *head)
{
	uint64_t offset = handle_offset(handle), bytes = a->g.capacity - offset;
	struct slab_place p;

	if (slab_find(a, offset, &p) == 0) {
		if (p.offset)
			return false;
		bytes = sizeclass_table[p.class].bytes;
	}
	return debug_head_copy(a, offset, bytes, head) && head->gen == handle_gen(handle);
}

void debug_object_misused(struct arena *a, uint64_t handle, enum debug_call call)
{
	struct debug_damage damage = { .what = call == DEBUG_CALL_FREE ? DEBUG_DOUBLE_FREE : DEBUG_USE_AFTER_FREE };
	struct debug_head head;
	bool known;

	if (handle_tag(handle) != a->tag || handle_offset(handle) >= a->g.capacity)
		return;
	known = find_head(a, handle, &head);
	/* In a sampled arena nothing is said of objects that were not watched. */
	if (known || a->debug == DEBUG_FULL)
		report(a, &damage, handle, call, known ? &head : NULL);
}
