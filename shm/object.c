/* SPDX-License-Identifier: Apache-2.0 */
#include "object.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "extent.h"
#include "geometry.h"
#include "pagemap.h"
#include "quota.h"
#include "zone.h"

#define ALIGN_MAX ((uint64_t)EXTENT_ALIGN_MAX << PAGE_SHIFT)

/* ---- an object and its word, small or large ---- */

struct object {
	_Atomic uint32_t *small; /* its state word; NULL: large */
	_Atomic uint64_t *large; /* word 0 of its head's entry */
	uint64_t page;		 /* of its extent's or slab's head */
	uint64_t bytes;
	uint32_t class;
	uint32_t gen; /* of the handle */
};

static int find_large(struct arena *a, uint64_t offset, struct object *o)
{
	uint64_t page = offset >> PAGE_SHIFT, w0;

	if (page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return -EINVAL;
	w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);
	if (pw0_kind(w0) == PAGE_STATE || pw0_kind(w0) == PAGE_LOG)
		return -EINVAL;
	if (pw0_kind(w0) != PAGE_LARGE)
		return -ESTALE; /* free by now, or in other use */
	if (offset & (PAGE_SIZE - 1))
		return -EINVAL;
	o->large = &a->pages[page].w0;
	o->page = page;
	o->bytes = pw1_length(atomic_load_explicit(&a->pages[page].w1, memory_order_relaxed)) << PAGE_SHIFT;
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
	if (r || p.offset != 0)
		return -EINVAL;
	o->small = &p.record->words[p.index];
	o->page = p.head;
	o->class = p.class;
	o->bytes = sizeclass_table[p.class].bytes;
	return 0;
}

/* The state word; -ESTALE unless it is live under the handle's generation. */
static int load_live(const struct object *o, uint32_t *state)
{
	uint64_t w0;

	if (o->small) {
		*state = atomic_load_explicit(o->small, memory_order_acquire);
	} else {
		w0 = atomic_load_explicit(o->large, memory_order_acquire);
		if (pw0_kind(w0) != PAGE_LARGE)
			return -ESTALE;
		*state = pw0_state(w0);
	}
	if (state_gen(*state) != o->gen || state_kind(*state) == OBJECT_FREE ||
	    state_kind(*state) == OBJECT_INTERNAL)
		return -ESTALE;
	return 0;
}

static int find_live(struct arena *a, uint64_t handle, struct object *o, uint32_t *state)
{
	int r = find(a, handle, o);

	return r ? r : load_live(o, state);
}

/* The commit point of every change of ownership. False: it has changed meanwhile. */
static bool change(const struct object *o, uint32_t from, uint32_t to)
{
	uint64_t expected;

	if (o->small)
		return atomic_compare_exchange_strong_explicit(o->small, &from, to, memory_order_acq_rel,
							       memory_order_relaxed);
	expected = pw0_large(from);
	return atomic_compare_exchange_strong_explicit(o->large, &expected, pw0_large(to),
						       memory_order_acq_rel, memory_order_relaxed);
}

/* All regions in which owning the object means owning something. Before the change. */
static int mark(struct arena *a, const struct object *o)
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

static void account(struct arena *a, uint32_t from, uint32_t to, uint64_t bytes)
{
	if (from)
		client_owned_add(a, from, -(int64_t)bytes);
	if (to)
		client_owned_add(a, to, (int64_t)bytes);
}

static bool is_mine(const struct arena *a, uint32_t state)
{
	return a->client != 0 && state_owner(state) == a->client;
}

/* ---- allocating ---- */

static uint64_t alloc_small(struct arena *a, struct thread_block *t, uint32_t class,
			    const struct object_want *want, int *err)
{
	_Atomic uint32_t *word = NULL;
	uint64_t handle = cache_pop(a, t, class);

	/* Stale entries of the cache are dropped: the object's bytes and word may be another's. */
	while (handle && !(word = object_cached_word(a, t, handle)))
		handle = cache_pop(a, t, class);
	if (!handle) {
		handle = cache_refill(a, t, class, err);
		if (!handle)
			return 0;
		word = object_cached_word(a, t, handle);
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
			      state_make(want->kind, want->kind == OBJECT_PERSISTENT ? 0 : a->client,
					 handle_gen(handle)),
			      memory_order_release);
	if (want->kind == OBJECT_PERSISTENT)
		account(a, a->client, 0, sizeclass_table[class].bytes);
	return handle;
}

static uint64_t alloc_large(struct arena *a, struct thread_block *t, uint64_t pages,
			    const struct object_want *want, int *err)
{
	uint64_t align = want->align > PAGE_SIZE ? want->align >> PAGE_SHIFT : 1, page;
	uint32_t gen, client = want->kind == OBJECT_PERSISTENT ? 0 : a->client;

	if (!quota_allows(a, pages << PAGE_SHIFT, 1)) {
		*err = -EDQUOT;
		return 0;
	}
	page = extent_alloc(a, pages, align, RAW_PLAIN, &t->home_zone, err);
	if (page == EXTENT_NONE)
		return 0;
	if (want->zero)
		memset(a->heap + (page << PAGE_SHIFT), 0, pages << PAGE_SHIFT);
	gen = pw0_gen(atomic_load_explicit(&a->pages[page].w0, memory_order_relaxed));
	/* Crash: before, a raw extent of this client's; after, its object (or the arena's). */
	atomic_store_explicit(&a->pages[page].w0, pw0_large(state_make(want->kind, client, gen)),
			      memory_order_release);
	account(a, 0, client, pages << PAGE_SHIFT);
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

static uint64_t alloc_once(struct arena *a, struct thread_block *t, const struct object_want *want, int *err)
{
	if (want->size <= SIZECLASS_MAX_BYTES && !want->large) {
		uint32_t class = class_for(want->size, want->align);

		if (class < CLASSES)
			return alloc_small(a, t, class, want, err);
	}
	return alloc_large(a, t, (want->size + PAGE_SIZE - 1) >> PAGE_SHIFT, want, err);
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
		cache_release_all(a, t); /* counts as owned; may empty slabs, and with them zones */
		handle = alloc_once(a, t, want, err);
	}
	return handle;
}

/* ---- one step of an object's word ---- */

/*
 * -EAGAIN: another process has changed the word since it was read. Then the word says something else, and
 * is looked at anew: a step is lost only to somebody's success, and given up after so many of them.
 */
#define ATTEMPTS 64

typedef int (*word_step)(struct arena *a, const struct object *o, uint32_t state, uint32_t gen);

static int make_step(struct arena *a, struct object *o, uint32_t *state, word_step step, uint32_t gen)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		int r = step(a, o, *state, gen);

		if (r != -EAGAIN)
			return r;
		r = load_live(o, state);
		if (r)
			return r;
	}
	return -EBUSY;
}

/* For calls that come with a handle; the object and the word as it was before, in o and state. */
static int step_handle(struct arena *a, uint64_t handle, word_step step, struct object *o, uint32_t *state)
{
	int r = find_live(a, handle, o, state);

	return r ? r : make_step(a, o, state, step, o->gen);
}

/* ---- freeing ---- */

/* Makes a live object ours to dispose of, under a new generation. -EPERM, -EBUSY. */
static int claim_to_free(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	uint64_t expected, raw;

	switch (state_kind(state)) {
	case OBJECT_PUBLISHED:
		return -EBUSY;
	case OBJECT_PRIVATE:
	case OBJECT_TAKEN:
		if (!is_mine(a, state))
			return -EPERM;
		break;
	default:
		break;
	}
	if (mark(a, o))
		return -ENOMEM;
	if (o->small)
		return change(o, state, state_make(OBJECT_PRIVATE, a->client, gen)) ? 0 : -EAGAIN;
	expected = pw0_large(state);
	raw = pw0_make(PAGE_RAW, a->client, gen, RAW_PLAIN);
	/* Crash: before, live; after, a raw extent of ours in regions that we have marked. */
	return atomic_compare_exchange_strong_explicit(o->large, &expected, raw, memory_order_acq_rel,
						       memory_order_relaxed)
		       ? 0
		       : -EAGAIN;
}

int object_free(struct arena *a, uint64_t handle)
{
	struct thread_block *t;
	struct object o;
	uint32_t state, gen;
	int err = 0, r;

	t = thread_self(a, &err);
	if (!t)
		return err;
	r = find_live(a, handle, &o, &state);
	if (r)
		return r;
	gen = (o.gen + (t->gen_step >> STATE_GEN_SHIFT)) & 0xffff;
	r = make_step(a, &o, &state, claim_to_free, gen);
	if (r)
		return r;
	/* PAIR(read): the new generation, then whatever comes to lie there. */
	atomic_thread_fence(memory_order_release);
	account(a, state_owner(state), 0, o.bytes);
	if (!o.small) {
		extent_free(a, o.page);
		return 0;
	}
	account(a, 0, a->client, o.bytes);
	cache_push(a, t, o.class, handle_make(a->tag, gen, handle_offset(handle)));
	return 0;
}

/* ---- changing hands ---- */

static int share(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	if (state_kind(state) != OBJECT_PRIVATE && state_kind(state) != OBJECT_TAKEN)
		return 0;
	if (!is_mine(a, state))
		return -EPERM;
	return change(o, state, state_make(OBJECT_SHARED, a->client, gen)) ? 0 : -EAGAIN;
}

int object_share(struct arena *a, uint64_t handle)
{
	struct object o;
	uint32_t state;
	int err = 0;

	if (!thread_self(a, &err))
		return err;
	return step_handle(a, handle, share, &o, &state);
}

static int take(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	if (state_kind(state) == OBJECT_PRIVATE)
		return -EPERM;
	if (state_kind(state) != OBJECT_SHARED && state_kind(state) != OBJECT_PERSISTENT)
		return -EBUSY;
	if (mark(a, o))
		return -ENOMEM;
	/* Crash: before, as it was; after, ours, and returns with us. */
	return change(o, state, state_make(OBJECT_TAKEN, a->client, gen)) ? 0 : -EAGAIN;
}

int object_take(struct arena *a, uint64_t handle)
{
	struct object o;
	uint32_t first, state;
	int err = 0, r;

	if (!thread_self(a, &err))
		return err;
	r = find_live(a, handle, &o, &state);
	if (r)
		return r;
	first = state;
	r = make_step(a, &o, &state, take, o.gen);
	if (r == 0)
		account(a, state_owner(state), a->client, o.bytes);
	/* It was on offer: another took it, and has published and unpublished it since. */
	return r == -EPERM && state != first ? -EBUSY : r;
}

static int make_persistent(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	if (state_kind(state) == OBJECT_PERSISTENT)
		return 0;
	if (state_kind(state) == OBJECT_PUBLISHED)
		return -EBUSY;
	if (!is_mine(a, state))
		return -EPERM;
	/* The number stays in the word, for recovery to know whose persist this was; it owns nothing. */
	return change(o, state, state_make(OBJECT_PERSISTENT, a->client, gen)) ? 0 : -EAGAIN;
}

int object_persist_word(struct arena *a, uint64_t handle)
{
	struct object o;
	uint32_t state;
	int r = step_handle(a, handle, make_persistent, &o, &state);

	if (r == 0)
		account(a, state_owner(state), 0, o.bytes);
	return r;
}

static int publish(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	if (state_kind(state) == OBJECT_PUBLISHED)
		return -EBUSY;
	if (state_kind(state) != OBJECT_PERSISTENT && !is_mine(a, state))
		return -EPERM;
	return change(o, state, state_make(OBJECT_PUBLISHED, 0, gen)) ? 0 : -EAGAIN;
}

void object_persist_settle(struct arena *a, uint64_t handle)
{
	struct object o;
	uint32_t state;

	if (find_live(a, handle, &o, &state) == 0 && state_kind(state) == OBJECT_PERSISTENT)
		change(&o, state, state_make(OBJECT_PERSISTENT, 0, o.gen));
}

int object_publish_word(struct arena *a, uint64_t handle)
{
	struct object o;
	uint32_t state;
	int r = step_handle(a, handle, publish, &o, &state);

	if (r == 0)
		account(a, state_owner(state), 0, o.bytes);
	return r;
}

static int unpublish(struct arena *a, const struct object *o, uint32_t state, uint32_t gen)
{
	if (state_kind(state) != OBJECT_PUBLISHED)
		return -ESTALE;
	if (mark(a, o))
		return -ENOMEM;
	return change(o, state, state_make(OBJECT_PRIVATE, a->client, gen)) ? 0 : -EAGAIN;
}

int object_unpublish_word(struct arena *a, uint64_t handle)
{
	struct object o;
	uint32_t state;
	int r = step_handle(a, handle, unpublish, &o, &state);

	if (r == 0)
		account(a, 0, a->client, o.bytes);
	return r;
}

/* ---- looking ---- */

void *object_ptr(struct arena *a, uint64_t handle, int *err)
{
	struct object o;
	uint32_t state;

	*err = find_live(a, handle, &o, &state);
	return *err ? NULL : a->heap + handle_offset(handle);
}

uint64_t object_size(struct arena *a, uint64_t handle, int *err)
{
	struct object o;
	uint32_t state;

	*err = find_live(a, handle, &o, &state);
	return *err ? 0 : o.bytes;
}

enum object_kind object_kind_of(struct arena *a, uint64_t handle, uint32_t *client)
{
	struct object o;
	uint32_t state;

	if (find_live(a, handle, &o, &state))
		return OBJECT_FREE;
	*client = state_client(state);
	return state_kind(state);
}

/* The kernel copies: pages that are given back meanwhile read as zeros, where a load might fault. */
static int64_t copy_out(struct arena *a, uint64_t heap_offset, void *to, uint64_t len)
{
	bool own_file = a->files.heap_fd >= 0;
	ssize_t n;

	do
		n = pread(own_file ? a->files.heap_fd : a->files.fd, to, len,
			  (off_t)(own_file ? heap_offset : a->g.heap + heap_offset));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int64_t object_read(struct arena *a, uint64_t handle, uint64_t offset, void *to, uint64_t len)
{
	struct object o;
	uint32_t state;
	int64_t n;
	int r = find_live(a, handle, &o, &state);

	if (r)
		return r;
	if (offset >= o.bytes)
		return 0;
	if (len > o.bytes - offset)
		len = o.bytes - offset;
	n = copy_out(a, handle_offset(handle) + offset, to, len);
	if (n < 0)
		return n;
	/* What was copied was the object's only if it is still live. PAIR(read): the copy, then the look. */
	atomic_thread_fence(memory_order_acquire);
	r = find_live(a, handle, &o, &state);
	return r ? r : n;
}

uint64_t object_handle_of(struct arena *a, const void *start)
{
	uint64_t offset = (uint64_t)((const char *)start - a->heap), w0;
	struct slab_place p;
	uint32_t state;

	if ((const char *)start < a->heap || offset >= a->g.capacity)
		return 0;
	if (offset >> PAGE_SHIFT >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		arena_refresh(a);
	if (slab_find(a, offset, &p) == 0) {
		state = atomic_load_explicit(&p.record->words[p.index], memory_order_relaxed);
		return p.offset == 0 && state_kind(state) != OBJECT_FREE
			       ? handle_make(a->tag, state_gen(state), offset)
			       : 0;
	}
	if (offset >> PAGE_SHIFT >= atomic_load_explicit(&a->pages_known, memory_order_relaxed) ||
	    offset & (PAGE_SIZE - 1))
		return 0;
	w0 = atomic_load_explicit(&a->pages[offset >> PAGE_SHIFT].w0, memory_order_relaxed);
	return pw0_kind(w0) == PAGE_LARGE ? handle_make(a->tag, pw0_gen(w0), offset) : 0;
}

/* The large extent that covers a page, by a walk back to its head; pages_known at most. */
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
		if (pw0_kind(w0) == PAGE_LARGE)
			return page - at < pw1_length(w1) ? at : UINT64_MAX;
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
	if (r == -EINVAL)
		return 0;
	if (r == 0) {
		state = atomic_load_explicit(&p.record->words[p.index], memory_order_acquire);
		handle = handle_make(a->tag, state_gen(state), heap_offset - p.offset);
	} else {
		page = large_head(a, page);
		if (page == UINT64_MAX)
			return 0;
		handle = handle_make(a->tag, pw0_gen(atomic_load_explicit(&a->pages[page].w0,
									  memory_order_relaxed)),
				     page << PAGE_SHIFT);
	}
	return find_live(a, handle, &o, &state) ? 0 : handle;
}

/* ---- resizing ---- */

static bool fits_in_place(const struct object *o, uint64_t size)
{
	if (size > o->bytes)
		return false;
	if (o->small)
		return sizeclass_of(size) == o->class;
	return (size + PAGE_SIZE - 1) >> PAGE_SHIFT == o->bytes >> PAGE_SHIFT;
}

/* Copies an object's bytes into another that is private. What is on offer others may free at any moment,
 * and its pages be given back while we are stopped in the middle: see copy_out(). */
static int copy_object(struct arena *a, uint64_t from, uint64_t to, uint64_t len, uint32_t state)
{
	int64_t n = 0;

	if (state_kind(state) == OBJECT_PRIVATE || state_kind(state) == OBJECT_TAKEN) {
		memcpy(a->heap + handle_offset(to), a->heap + handle_offset(from), len);
		return 0;
	}
	for (uint64_t done = 0; done < len && n >= 0; done += (uint64_t)n) {
		n = copy_out(a, handle_offset(from) + done, a->heap + handle_offset(to) + done, len - done);
		if (n == 0)
			n = -EUCLEAN; /* the file is cut off */
	}
	return n < 0 ? (int)n : 0;
}

/* A private object that nobody else knows of becomes what another was. */
static void give_kind(struct arena *a, uint64_t handle, uint32_t state)
{
	bool arenas = state_kind(state) == OBJECT_PERSISTENT;
	struct object o;
	uint32_t now;

	if (state_kind(state) == OBJECT_PRIVATE || state_kind(state) == OBJECT_TAKEN ||
	    find_live(a, handle, &o, &now))
		return;
	if (change(&o, now, state_make(state_kind(state), arenas ? 0 : a->client, o.gen)) && arenas)
		account(a, a->client, 0, o.bytes);
}

/* Private until the old one is gone: else who dies in between would leave a second object of the arena's,
 * which nobody ever knew. */
static uint64_t move(struct arena *a, uint64_t handle, const struct object *o, uint32_t state, uint64_t size,
		     int *err)
{
	struct object_want want = {.size = size, .kind = OBJECT_PRIVATE};
	uint64_t moved = object_alloc(a, &want, err);

	if (!moved)
		return 0;
	*err = copy_object(a, handle, moved, size < o->bytes ? size : o->bytes, state);
	/* Crash: before, the old one as it was, and one of this client's; after, that one, which returns
	 * with us: its handle was nobody's yet. */
	if (!*err)
		*err = object_free(a, handle);
	if (*err) {
		object_free(a, moved);
		return 0;
	}
	give_kind(a, moved, state);
	return moved;
}

uint64_t object_resize(struct arena *a, uint64_t handle, uint64_t size, int *err)
{
	struct object o;
	uint32_t state;

	if (!thread_self(a, err))
		return 0;
	*err = find_live(a, handle, &o, &state);
	if (!*err && (size == 0 || size > a->g.capacity))
		*err = -EINVAL;
	if (!*err && state_kind(state) == OBJECT_PUBLISHED)
		*err = -EBUSY;
	if (!*err && state_kind(state) != OBJECT_PERSISTENT && !is_mine(a, state))
		*err = -EPERM;
	if (*err)
		return 0;
	if (fits_in_place(&o, size))
		return handle;
	/* Not what others may take or free at this moment. */
	if (!o.small && size > SIZECLASS_MAX_BYTES && size < o.bytes &&
	    (state_kind(state) == OBJECT_PRIVATE || state_kind(state) == OBJECT_TAKEN)) {
		uint64_t keep = (size + PAGE_SIZE - 1) >> PAGE_SHIFT;

		if (extent_trim(a, o.page, pw0_large(state), keep)) {
			account(a, a->client, 0, o.bytes - (keep << PAGE_SHIFT));
			return handle;
		}
	}
	return move(a, handle, &o, state, size, err);
}
