/* SPDX-License-Identifier: Apache-2.0 */
#include "object.h"

#include <errno.h>
#include <string.h>

#include "client.h"
#include "debug_object.h"
#include "extent.h"
#include "mapped.h"
#include "object_offered.h"
#include "object_word.h"
#include "pagemap.h"
#include "quota.h"
#include "stack.h"
#include "stop_point.h"

#define ALIGN_MAX ((uint64_t)EXTENT_ALIGN_MAX << PAGE_SHIFT)

/* ---- allocating ---- */

/* The word of what a cache of a class gave, or NULL: stale, or no object of its size is there. */
static _Atomic uint32_t *cached_word(const struct arena *a, const struct thread_block *t, uint32_t class,
				     uint64_t handle)
{
	if (handle_offset(handle) > a->g.capacity - sizeclass_table[class].bytes)
		return NULL;
	return object_cached_word(a, t, handle);
}

static uint64_t alloc_small(struct arena *a, struct thread_block *t, uint32_t class,
			    const struct object_want *want, int *err)
{
	_Atomic uint32_t *word = NULL;
	uint64_t handle = cache_pop(a, t, class);

	/* Stale entries of the cache are dropped: the object's bytes and word may be another's. */
	while (handle && !(word = cached_word(a, t, class, handle)))
		handle = cache_pop(a, t, class);
	if (!handle) {
		handle = cache_refill(a, t, class, err);
		if (!handle)
			return 0;
		word = cached_word(a, t, class, handle);
	}
	if (!word) {
		*err = -EUCLEAN;
		return 0;
	}
	if (want->zero)
		memset(a->heap + handle_offset(handle), 0, sizeclass_table[class].bytes);
	if (want->kind == OBJECT_PRIVATE)
		return handle;
	/* Crash: before, private and this client's. Nobody else knows the handle yet. */
	atomic_store_explicit(word,
			      state_make(want->kind,
					 want->kind == OBJECT_PERSISTENT ? 0 : a->client,
					 handle_gen(handle)),
			      memory_order_release);
	if (want->kind == OBJECT_PERSISTENT)
		object_word_account(a, a->client, 0, sizeclass_table[class].bytes);
	return handle;
}

/* In an arena of large pages what is asked for as whole pages begins with one, if there is a place: then all of it but
 * its tail is large pages. */
static uint64_t take_pages(struct arena *a, struct thread_block *t, uint64_t pages,
			   const struct object_want *want, int *err)
{
	uint64_t align = want->align > PAGE_SIZE ? want->align >> PAGE_SHIFT : 1, page = EXTENT_NONE;

	if (want->large && pages >= EXTENT_ALIGN_MAX && (a->commit_huge || a->commit_by_touch))
		page = extent_alloc(a, pages, EXTENT_ALIGN_MAX, RAW_PLAIN, &t->home_zone, err);
	return page != EXTENT_NONE ? page : extent_alloc(a, pages, align, RAW_PLAIN, &t->home_zone, err);
}

static uint64_t alloc_large(struct arena *a, struct thread_block *t, uint64_t pages,
			    const struct object_want *want, int *err)
{
	uint64_t page;
	uint32_t gen, client = want->kind == OBJECT_PERSISTENT ? 0 : a->client;

	if (!quota_allows(a, pages << PAGE_SHIFT, 1)) {
		*err = -EDQUOT;
		return 0;
	}
	page = take_pages(a, t, pages, want, err);
	if (page == EXTENT_NONE)
		return 0;
	if (want->zero)
		memset(a->heap + (page << PAGE_SHIFT), 0, pages << PAGE_SHIFT);
	gen = pw0_gen(atomic_load_explicit(&a->pages[page].w0, memory_order_relaxed));
	if (want->file)
		mapped_write(a, page, want->file, want->path);
	STOP_POINT(object_large_raw);
	/* Crash: before, a raw extent of this client's; after, its object (or the arena's). */
	atomic_store_explicit(&a->pages[page].w0,
			      pw0_object(want->file ? PAGE_MAPPED : PAGE_LARGE,
					 state_make(want->kind, client, gen)) |
				      (uint64_t)(want->packed ? LARGE_PACKED : LARGE_PLAIN) << PW0_CLASS_SHIFT,
			      memory_order_release);
	object_word_account(a, 0, client, pages << PAGE_SHIFT);
	return handle_make(a->tag, gen, page << PAGE_SHIFT);
}

/* The smallest class that fits and whose objects are all aligned so; CLASSES: none. */
static uint32_t class_for(uint64_t size, uint64_t align)
{
	uint32_t class = sizeclass_of(size);

	if (align > PAGE_SIZE)
		return CLASSES;
	while (align > 16 && class < CLASSES && sizeclass_table[class].bytes % align != 0)
		class++;
	return class;
}

uint64_t object_alloc_plain(struct arena *a, struct thread_block *t, const struct object_want *want, int *err)
{
	if (want->size <= SIZECLASS_MAX_BYTES && !want->large && !want->packed) {
		uint32_t class = class_for(want->size, want->align);

		if (class < CLASSES)
			return alloc_small(a, t, class, want, err);
	}
	return alloc_large(a, t, (want->size + PAGE_SIZE - 1) >> PAGE_SHIFT, want, err);
}

static uint64_t alloc_once(struct arena *a, struct thread_block *t, const struct object_want *want, int *err)
{
	bool full = a->debug == DEBUG_FULL && !want->file;
	uint64_t handle = full || want->watched ? debug_object_alloc(a, t, want, err) : 0;

	/* A sample takes more than the object would. */
	return handle || full ? handle : object_alloc_plain(a, t, want, err);
}

uint64_t object_alloc(struct arena *a, const struct object_want *want, int *err)
{
	struct thread_block *t = thread_self(a, err);
	uint64_t handle;

	if (!t)
		return 0;
	if (want->size == 0 || want->size > a->g.capacity || want->align > ALIGN_MAX) {
		*err = -EINVAL;
		return 0;
	}
	handle = alloc_once(a, t, want, err);
	if (!handle && (*err == -ENOMEM || *err == -EDQUOT)) {
		debug_object_release_all(a, t);
		cache_release_all(a, t); /* counts as owned; may empty slabs, and with them zones */
		handle = alloc_once(a, t, want, err);
	}
	return handle;
}

/* ---- freeing ---- */

/* -EPERM, -EBUSY. Modelled in tests/model/object.pml. */
int object_claim_as(struct arena *a, const struct object *o, uint32_t state, uint32_t gen, enum object_kind kind)
{
	uint64_t expected, raw;

	switch (state_kind(state)) {
	case OBJECT_PUBLISHED:
	case OBJECT_HELD: return -EBUSY;
	case OBJECT_PRIVATE:
	case OBJECT_TAKEN:
		if (!object_word_is_mine(a, state))
			return -EPERM;
		break;
	default: break;
	}
	if (object_word_mark(a, o))
		return -ENOMEM;
	STOP_POINT(object_claim_marked);
	if (o->small)
		return object_word_change(o, state, state_make(kind, a->client, gen)) ? 0 : -EAGAIN;
	expected = pw0_object(o->page_kind, state) | o->use;
	raw = pw0_make(PAGE_RAW, a->client, gen, RAW_PLAIN);
	/* Crash: before, live; after, a raw extent of ours in regions that we have marked. */
	return atomic_compare_exchange_strong_explicit(o->large, &expected, raw,
						       memory_order_acq_rel, memory_order_relaxed)
		       ? 0
		       : -EAGAIN;
}

int object_claim(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	return object_claim_as(a, o, state, gen, OBJECT_PRIVATE);
}

bool object_offered_mark(struct arena *a, uint64_t handle, uint64_t w1)
{
	uint64_t region = object_offered_region(handle, w1);

	if (client_mark_page(a, region * REGION_PAGES))
		return false;
	thread_cell(a)->marked = region;
	return true;
}

int object_offered_count(struct arena *a, struct thread_block *t, uint64_t handle, uint32_t owner, uint64_t w1)
{
	uint32_t class = sizeclass_of_row(w1 >> PW1_CLASS_SHIFT);

	quota_won_from(a, t, owner, sizeclass_table[class].bytes);
	cache_push(a, t, class, handle);
	return 0;
}

int object_free(struct arena *a, uint64_t handle)
{
	int err = 0;
	struct thread_block *t = thread_self(a, &err);

	return t ? object_free_by(a, t, handle) : err;
}

int object_free_by(struct arena *a, struct thread_block *t, uint64_t handle)
{
	struct object o;
	uint32_t state;
	int r = object_word_find_live(a, handle, &o, &state);

	if (r)
		return r == -EPERM ? stack_free(a, handle) : r;
	if (o.front)
		return debug_object_free(a, t, handle, &o, state);
	r = object_word_step(a, &o, &state, object_claim, object_next_gen(t, o.gen));
	if (!r)
		object_put_claimed(a, t, handle, &o, state);
	return r;
}

uint32_t object_next_gen(const struct thread_block *t, uint32_t gen)
{
	return (gen + (t->gen_step >> STATE_GEN_SHIFT)) & 0xffff;
}

void object_put_claimed(struct arena *a, struct thread_block *t, uint64_t handle, const struct object *o, uint32_t state)
{
	STOP_POINT(object_freed);
	/* PAIR(read): the new generation, then whatever comes to lie there. */
	atomic_thread_fence(memory_order_release);
	object_word_account(a, state_owner(state), 0, o->bytes);
	if (!o->small) {
		extent_free(a, o->page);
		return;
	}
	object_word_account(a, 0, a->client, o->bytes);
	cache_push(a, t, o->class, handle_make(a->tag, object_next_gen(t, o->gen), handle_offset(handle)));
}

/* ---- resizing ---- */

static bool fits_in_place(const struct object *o, uint64_t size)
{
	if (o->front)
		return false; /* a new head, and whoever kept the old handle is told */
	if (size > o->bytes)
		return false;
	/* What is large is seldom worth copying for less than an eighth. */
	if (o->small && o->bytes > SIZECLASS_MANY_BYTES)
		return (o->bytes - size) * 8 <= o->bytes;
	if (o->small)
		return sizeclass_of(size) == o->class;
	return (size + PAGE_SIZE - 1) >> PAGE_SHIFT == o->bytes >> PAGE_SHIFT;
}

/* Copies an object's bytes into another that is private. What is on offer others may free at any moment,
 * and its pages be given back while we are stopped in the middle: then the kernel copies. */
static int copy_object(struct arena *a, uint64_t from, uint64_t to, uint64_t len, uint32_t state)
{
	int64_t n;

	if (state_kind(state) == OBJECT_PRIVATE || state_kind(state) == OBJECT_TAKEN) {
		memcpy(a->heap + to, a->heap + from, len);
		return 0;
	}
	n = arena_read(a, a->g.heap + from, a->heap + to, len);
	if (n < 0)
		return (int)n;
	return (uint64_t)n == len ? 0 : -EUCLEAN; /* the file is cut off */
}

/* A private object that nobody else knows of becomes what another was. */
static void give_kind(struct arena *a, uint64_t handle, uint32_t state)
{
	bool arenas = state_kind(state) == OBJECT_PERSISTENT;
	struct object o;
	uint32_t now;

	if (state_kind(state) == OBJECT_PRIVATE || state_kind(state) == OBJECT_TAKEN ||
	    object_word_find_live(a, handle, &o, &now) || !debug_object_open_up(a, &o))
		return;
	if (object_word_change(&o, now,
			       state_make(state_kind(state), arenas ? 0 : a->client, o.gen)) &&
	    arenas)
		object_word_account(a, a->client, 0, o.bytes);
}

/* Private until the old one is gone: else who dies in between would leave a second object of the arena's,
 * which nobody ever knew. */
static uint64_t move(struct arena *a, uint64_t handle, const struct object *o, uint32_t state,
		     uint64_t size, int *err)
{
	struct object_want want = { .size = size, .kind = OBJECT_PRIVATE };
	uint64_t moved = object_alloc(a, &want, err), usable = object_usable(a, o, handle);
	struct object to;
	uint32_t now;

	if (!moved)
		return 0;
	*err = object_word_find_live(a, moved, &to, &now);
	if (!*err)
		*err = copy_object(a, handle_offset(handle) + o->front, handle_offset(moved) + to.front,
				   size < usable ? size : usable, state);
	STOP_POINT(object_copied);
	/* Crash: before, the old one as it was, and one of this client's; after, that one, which returns
	 * with us: its handle was nobody's yet. */
	if (!*err)
		*err = object_free(a, handle);
	if (*err) {
		object_free(a, moved);
		return 0;
	}
	STOP_POINT(object_moved);
	give_kind(a, moved, state);
	return moved;
}

uint64_t object_resize(struct arena *a, uint64_t handle, uint64_t size, int *err)
{
	struct object o;
	uint32_t state;

	if (!thread_self(a, err))
		return 0;
	*err = object_word_find_live(a, handle, &o, &state);
	if (!*err && object_is_mapped(&o))
		*err = -EROFS;
	if (!*err && (size == 0 || size > a->g.capacity))
		*err = -EINVAL;
	if (!*err && (state_kind(state) == OBJECT_PUBLISHED || state_kind(state) == OBJECT_HELD))
		*err = -EBUSY;
	if (!*err && state_kind(state) != OBJECT_PERSISTENT && !object_word_is_mine(a, state))
		*err = -EPERM;
	if (!*err && o.use)
		*err = -ENODATA; /* packed */
	if (*err)
		return 0;
	if (fits_in_place(&o, size))
		return handle;
	/* Not what others may take or free at this moment. */
	if (!o.small && !o.front && size > SIZECLASS_MANY_BYTES && size < o.bytes &&
	    (state_kind(state) == OBJECT_PRIVATE || state_kind(state) == OBJECT_TAKEN)) {
		uint64_t keep = (size + PAGE_SIZE - 1) >> PAGE_SHIFT;

		if (extent_trim(a, o.page, pw0_large(state), keep)) {
			object_word_account(a, a->client, 0, o.bytes - (keep << PAGE_SHIFT));
			return handle;
		}
	}
	return move(a, handle, &o, state, size, err);
}
