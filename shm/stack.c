/* SPDX-License-Identifier: Apache-2.0 */
#include "stack.h"

#include <errno.h>
#include <stdlib.h>

#include "client.h"
#include "extent.h"
#include "object.h"
#include "quota.h"
#include "walk.h"

#define GEN_ONE (UINT64_C(1) << HANDLE_GEN_SHIFT)

static struct stack_region *region_at(const struct arena *a, uint64_t page)
{
	return (struct stack_region *)(a->heap + (page << PAGE_SHIFT));
}

static uint64_t page_of(const struct arena *a, const struct stack_region *r)
{
	return (uint64_t)((const char *)r - a->heap) >> PAGE_SHIFT;
}

/* The page of the region that a handle lies in. */
static uint64_t page_of_handle(uint64_t handle)
{
	return (handle_offset(handle) >> REGION_SHIFT) * REGION_PAGES;
}

static uint32_t top_of(const struct stack_region *r)
{
	return stack_step(atomic_load_explicit(&r->next, memory_order_relaxed));
}

static uint64_t bytes_to(uint64_t step)
{
	return step > STACK_BOTTOM ? (step - STACK_BOTTOM - 1) << 4 : 0;
}

/* Word 0 of the region's entry; 0: it is none. */
static uint64_t entry_of(const struct arena *a, uint64_t page)
{
	uint64_t w0;

	if (page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return 0;
	w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);
	return pw0_kind(w0) == PAGE_STACK ? w0 : 0;
}

/* The region under this one, which others may have written to: NULL if it is not this thread's. */
static struct stack_region *below(const struct arena *a, const struct stack_region *r)
{
	uint64_t page = r->below - 1;
	uint64_t w0 = r->below && page % REGION_PAGES == 0 ? entry_of(a, page) : 0;
	struct stack_region *under;

	if (!w0 || pw0_client(w0) != a->client)
		return NULL;
	under = region_at(a, page);
	return under->thread == r->thread && under->number < r->number ? under : NULL;
}

/* ---- regions ---- */

static void note_high(struct arena *a, const struct stack_region *r)
{
	uint64_t top = top_of(r), high = atomic_load_explicit(&r->high, memory_order_relaxed), seen;

	high = atomic_load_explicit(&r->base, memory_order_relaxed) +
	       bytes_to(high > top && high < STACK_STEPS ? high : top);
	seen = atomic_load_explicit(&a->header->stack_high, memory_order_relaxed);
	while (seen < high && !atomic_compare_exchange_weak_explicit(&a->header->stack_high, &seen, high,
								     memory_order_relaxed, memory_order_relaxed))
		;
}

/* Nothing is in it, under the next generation. */
static void empty_region(struct stack_region *r, uint64_t next)
{
	uint64_t bottom = (next & ~(uint64_t)(STACK_STEPS - 1)) | STACK_BOTTOM;

	atomic_store_explicit(&r->bottom.handle, bottom, memory_order_relaxed);
	atomic_store_explicit(&r->bottom.steps, 1, memory_order_relaxed);
	stack_clear_starts(r, 0, STACK_STEPS);
	atomic_store_explicit(&r->starts[STACK_BOTTOM], 1, memory_order_relaxed);
	r->kept = 0;
	r->last = bottom;
	atomic_store_explicit(&r->high, 0, memory_order_relaxed);
	atomic_store_explicit(&r->next, bottom + 1, memory_order_release);
}

static uint32_t most_regions(const struct arena *a)
{
	uint64_t share = a->g.capacity / 16 / STACK_REGION_BYTES;

	return share < STACK_REGIONS_MAX ? (uint32_t)share : STACK_REGIONS_MAX;
}

static struct stack_region *make_region(struct arena *a, struct thread_block *t, int *err)
{
	struct stack_region *r;
	uint64_t page;
	uint32_t gen;

	if (!quota_allows(a, STACK_REGION_BYTES, 1)) {
		*err = -EDQUOT;
		return NULL;
	}
	page = extent_alloc(a, REGION_PAGES, REGION_PAGES, RAW_PLAIN, &t->home_zone, err);
	if (page == EXTENT_NONE)
		return NULL;
	gen = pw0_gen(atomic_load_explicit(&a->pages[page].w0, memory_order_relaxed));
	r = region_at(a, page);
	r->thread = t->index;
	empty_region(r, handle_make(a->tag, gen, page << PAGE_SHIFT));
	STOP_POINT(stack_region_raw);
	/* Crash: before, a raw extent of ours; after, a region, found through its entry alone. */
	atomic_store_explicit(&a->pages[page].w0, pw0_make(PAGE_STACK, a->client, gen, 0), memory_order_release);
	STOP_POINT(stack_region_made);
	client_owned_add(a, a->client, (int64_t)STACK_REGION_BYTES);
	return r;
}

/* The page's generation goes on where the region's has come to. */
static uint64_t raw_again(const struct arena *a, uint64_t page, uint32_t client)
{
	uint64_t next = atomic_load_explicit(&region_at(a, page)->next, memory_order_relaxed);

	return pw0_make(PAGE_RAW, client, handle_gen(next) + 1, RAW_PLAIN);
}

static void drop_region(struct arena *a, struct stack_region *r)
{
	uint64_t page = page_of(a, r);

	note_high(a, r);
	/* Crash: before, a region of ours; after, a raw extent of ours, which handles do not lead to. */
	atomic_store_explicit(&a->pages[page].w0, raw_again(a, page, a->client), memory_order_release);
	STOP_POINT(stack_region_dropped);
	client_owned_add(a, a->client, -(int64_t)STACK_REGION_BYTES);
	extent_free(a, page);
}

/* From a new region, or the one kept, on. */
static int grow(struct arena *a, struct thread_block *t)
{
	struct thread_cell *cell = thread_cell(a);
	struct stack_region *under = cell->stack, *r = cell->stack_spare;
	int err = -ENOMEM;

	if (under && under->number + 1 >= most_regions(a))
		return -ENOMEM;
	if (!r)
		r = make_region(a, t, &err);
	if (!r)
		return err;
	cell->stack_spare = NULL;
	r->number = under ? under->number + 1 : 0;
	r->below = under ? page_of(a, under) + 1 : 0;
	atomic_store_explicit(&r->base,
			      under ? atomic_load_explicit(&under->base, memory_order_relaxed) +
					      bytes_to(top_of(under))
				    : 0,
			      memory_order_relaxed);
	cell->stack = r;
	return 0;
}

/* ---- objects ---- */

uint64_t stack_alloc(struct arena *a, uint64_t size, void **ret, int *err)
{
	struct thread_block *t = thread_self(a, err);
	uint64_t handle;

	if (!t)
		return 0;
	*err = size == 0 || size > a->g.capacity ? -EINVAL : 0;
	if (!*err && !thread_cell(a)->stack)
		*err = grow(a, t);
	if (*err)
		return 0;
	handle = stack_alloc_fast(a, size, ret);
	if (!handle && size <= STACK_GROW_MAX && grow(a, t) == 0)
		handle = stack_alloc_fast(a, size, ret);
	if (!handle)
		*err = -EFBIG;
	return handle;
}

#define NOTE_STEPS 2u

int stack_make_room(struct arena *a)
{
	int err = 0;
	struct thread_block *t = thread_self(a, &err);
	const struct stack_region *r = thread_cell(a)->stack;

	if (!t)
		return err;
	return r && top_of(r) + NOTE_STEPS < STACK_STEPS ? 0 : grow(a, t);
}

void stack_keep(struct arena *a, uint64_t handle)
{
	struct stack_region *r = thread_cell(a)->stack;
	uint64_t next = atomic_load_explicit(&r->next, memory_order_relaxed);
	struct stack_note *note = (struct stack_note *)(stack_object(r, stack_step(next)) + 1);

	note->handle = handle;
	note->before = r->kept;
	stack_push(r, next, NOTE_STEPS | STACK_KEPT);
	/* Crash: before, and after, its object is this client's. */
	STOP_POINT(stack_note_written);
	r->kept = stack_step(next);
}

/* Objects of the heap whose notes start at a step or above. */
static void free_kept(struct stack_region *r, uint64_t from, const struct stack_heap *heap)
{
	while (r->kept >= from && r->kept > STACK_BOTTOM && r->kept < STACK_STEPS) {
		const struct stack_note *note = (const struct stack_note *)(stack_object(r, r->kept) + 1);
		uint64_t handle = note->handle, before = note->before;

		/* Others may have written there: it goes down, or ends. */
		r->kept = before < r->kept ? before : 0;
		/* Crash: before, and after, the object is this client's. */
		STOP_POINT(stack_note_dropped);
		heap->free(heap->context, handle);
	}
}

/* ---- marks ---- */

/* Where a thread has no region yet: no handle has such a number. */
static uint64_t lowest_mark(const struct thread_block *t)
{
	return (uint64_t)t->index + 1;
}

uint64_t stack_mark(struct arena *a, int *err)
{
	struct thread_block *t = thread_self(a, err);
	uint64_t mark = stack_mark_fast(a);

	if (!t)
		return 0;
	return mark ? mark : lowest_mark(t);
}

/* Where a mark's object ends in its region; 0: it was reset. */
static uint32_t end_of_mark(const struct stack_region *r, uint64_t mark)
{
	const struct stack_object *o = stack_object(r, stack_step(mark));
	uint64_t end = stack_step(mark) + (uint64_t)stack_length(o);

	return atomic_load_explicit(&o->handle, memory_order_relaxed) == mark && stack_starts(r, stack_step(mark)) &&
			       end <= top_of(r)
		       ? (uint32_t)end
		       : 0;
}

/* The region of this thread that a mark is in; NULL: none. A mark from before there was any is in the lowest. */
static struct stack_region *find_region(const struct arena *a, const struct thread_block *t,
					uint64_t mark)
{
	struct stack_region *r = thread_cell(a)->stack, *under;

	while (r) {
		under = below(a, r);
		if (mark == lowest_mark(t) ? !under
					   : handle_tag(mark) == a->tag && page_of_handle(mark) == page_of(a, r))
			return r;
		r = under;
	}
	return NULL;
}

/* The region in use is so no longer. One that is empty is kept: who goes up and down here would else take and
 * return pages each time. */
static void leave_region(struct arena *a, const struct stack_heap *heap)
{
	struct thread_cell *cell = thread_cell(a);
	struct stack_region *r = cell->stack;

	free_kept(r, 0, heap);
	cell->stack = below(a, r);
	STOP_POINT(stack_region_left);
	note_high(a, r);
	if (cell->stack_spare) {
		drop_region(a, r);
		return;
	}
	empty_region(r, atomic_load_explicit(&r->next, memory_order_relaxed) + GEN_ONE);
	cell->stack_spare = r;
}

int stack_reset(struct arena *a, uint64_t mark, const struct stack_heap *heap)
{
	struct thread_cell *cell = thread_cell(a);
	const struct thread_block *t = thread_peek(a);
	struct stack_region *r = t ? find_region(a, t, mark) : NULL;
	uint32_t end;

	if (!r) /* where nothing was ever given out there is nothing to be reset */
		return t && !cell->stack && mark == lowest_mark(t) ? 0 : -EINVAL;
	if (mark == lowest_mark(t))
		mark = atomic_load_explicit(&r->bottom.handle, memory_order_relaxed);
	if (stack_step(mark) < STACK_BOTTOM)
		return -EINVAL;
	end = end_of_mark(r, mark);
	if (!end)
		return -ESTALE;
	while (cell->stack && cell->stack != r)
		leave_region(a, heap);
	free_kept(r, end, heap);
	if (end < top_of(r))
		stack_lower(r, mark, end);
	return 0;
}

/* ---- ends ---- */

struct ending {
	struct arena *a;
	struct thread_block *t;
};

static void free_of_ending(void *context, uint64_t handle)
{
	const struct ending *e = context;

	object_free_by(e->a, e->t, handle);
}

/* Not by thread_cell(): it may be another thread's, when the arena is detached. */
void stack_end(struct arena *a, struct thread_cell *cell)
{
	struct ending e = {.a = a, .t = cell->real};
	const struct stack_heap heap = {.free = free_of_ending, .context = &e};

	while (cell->stack) {
		struct stack_region *r = cell->stack;

		free_kept(r, 0, &heap);
		cell->stack = below(a, r);
		drop_region(a, r);
	}
	if (cell->stack_spare)
		drop_region(a, cell->stack_spare);
	cell->stack_spare = NULL;
	cell->stack_scopes = 0;
}

bool stack_recover(struct arena *a, uint64_t page, uint64_t w0, uint32_t client)
{
	if (pw0_kind(w0) != PAGE_STACK || pw0_client(w0) != client || page % REGION_PAGES)
		return false;
	note_high(a, region_at(a, page));
	STOP_POINT(stack_recovering);
	/* Crash: before, done again; after, the dead client's raw extent. Nobody else changes this word. */
	atomic_store_explicit(&a->pages[page].w0, raw_again(a, page, client), memory_order_release);
	return true;
}

/* ---- looking ---- */

/* Whether it is one of the calling thread's, whose memory stays there as long as it looks. */
static bool is_own(const struct arena *a, uint64_t page)
{
	const struct stack_region *r = thread_cell(a)->stack;

	while (r && page_of(a, r) != page)
		r = below(a, r);
	return r != NULL;
}

/* By load from what is the thread's own, else copied: others' memory may go back meanwhile. */
static bool read_word(const struct arena *a, bool own, uint64_t heap_offset, uint64_t *ret)
{
	if (own) {
		*ret = atomic_load_explicit((_Atomic uint64_t *)(a->heap + heap_offset), memory_order_relaxed);
		return true;
	}
	return walk_copy_heap(a, heap_offset, ret, sizeof(*ret));
}

int stack_look(const struct arena *a, uint64_t handle, uint64_t *bytes)
{
	uint64_t page = page_of_handle(handle), w0 = entry_of(a, page), at = page << PAGE_SHIFT;
	uint64_t step = stack_step(handle), next, starts, said, steps;
	bool own;

	if (!w0 || step <= STACK_BOTTOM)
		return -ESTALE;
	own = is_own(a, page);
	/* PAIR(stack-next): next, then what stands before the object. */
	if (!read_word(a, own, at + offsetof(struct stack_region, next), &next) || step >= stack_step(next) ||
	    !read_word(a, own, at + offsetof(struct stack_region, starts) + (step & ~UINT64_C(7)), &starts) ||
	    !read_word(a, own, at + ((step - 1) << 4), &said) ||
	    !read_word(a, own, at + ((step - 1) << 4) + sizeof(said), &steps))
		return -ESTALE;
	if (said != handle || !((const uint8_t *)&starts)[step % 8])
		return -ESTALE;
	if (steps >> 32 || steps < 2 || step + steps > stack_step(next) || entry_of(a, page) != w0)
		return -ESTALE;
	*bytes = (steps - 1) << 4;
	return 0;
}

int stack_free(struct arena *a, uint64_t handle)
{
	uint64_t page = page_of_handle(handle), bytes;
	int r = stack_look(a, handle, &bytes);

	if (r)
		return r;
	if (pw0_client(entry_of(a, page)) != a->client)
		return -EPERM;
	/* Any thread of the process may. Crash: before and after, in a region of this client's. */
	atomic_fetch_or_explicit(&stack_object(region_at(a, page), stack_step(handle))->steps, STACK_FREED,
				 memory_order_relaxed);
	return 0;
}

uint32_t stack_client(const struct arena *a, uint64_t handle)
{
	return pw0_client(entry_of(a, page_of_handle(handle)));
}

uint64_t stack_handle_at(const struct arena *a, uint64_t heap_offset)
{
	uint64_t page = (heap_offset >> REGION_SHIFT) * REGION_PAGES, handle, bytes;
	uint64_t step = heap_offset >> 4 & (STACK_STEPS - 1);

	if (heap_offset & 15 || !entry_of(a, page) || step <= STACK_BOTTOM ||
	    !read_word(a, is_own(a, page), heap_offset - sizeof(struct stack_object), &handle))
		return 0;
	return handle_tag(handle) == a->tag && handle_offset(handle) == heap_offset &&
			       stack_look(a, handle, &bytes) == 0
		       ? handle
		       : 0;
}

bool stack_view(const struct arena *a, uint64_t page, struct stack_view *ret)
{
	struct stack_region r;
	uint64_t high;

	if (!walk_copy_heap(a, page << PAGE_SHIFT, &r, sizeof(r)))
		return false;
	high = atomic_load_explicit(&r.high, memory_order_relaxed);
	ret->used = bytes_to(top_of(&r));
	ret->high = bytes_to(high < STACK_STEPS ? high : 0);
	if (ret->high < ret->used)
		ret->high = ret->used;
	ret->below = atomic_load_explicit(&r.base, memory_order_relaxed);
	ret->thread = r.thread;
	return true;
}

static uint32_t damage_in(const struct arena *a, uint64_t page, const struct stack_region *r)
{
	uint64_t next = atomic_load_explicit(&r->next, memory_order_relaxed);
	uint64_t place = handle_make(a->tag, 0, page << PAGE_SHIFT), mask = GEN_ONE - 1;
	uint32_t step = STACK_BOTTOM;

	if (((next ^ place) & mask) >> STACK_STEP_BITS || stack_step(next) <= STACK_BOTTOM)
		return STACK_BOTTOM;
	while (step < stack_step(next)) {
		const struct stack_object *o = stack_object(r, step);
		uint64_t said = atomic_load_explicit(&o->handle, memory_order_relaxed) & mask;

		if (said != (place | step) || !stack_starts(r, step) || stack_length(o) == 0 || stack_length(o) > STACK_STEPS)
			return step;
		step += stack_length(o);
	}
	return step == stack_step(next) ? 0 : stack_step(next);
}

uint32_t stack_damage(const struct arena *a, uint64_t page, uint64_t *next)
{
	struct stack_region *copy = malloc(STACK_REGION_BYTES);
	uint32_t step = 0;

	/* It is copied from its beginning to its end and not written so: who was at work is looked at again. */
	if (copy && walk_copy_heap(a, page << PAGE_SHIFT, copy, STACK_REGION_BYTES)) {
		*next = atomic_load_explicit(&copy->next, memory_order_relaxed);
		step = damage_in(a, page, copy);
	}
	free(copy);
	return step;
}
