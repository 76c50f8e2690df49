/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slab's drawer is the thread that draws from it, as long as that one lives. Others pass it by, unless most of it
 * is free: 16 state words share a cache line, and threads that draw from one slab by turns write each other's
 * lines at each free, for as long as the objects live. Where a thread meets others' slabs, it has a list of
 * its own ones with free objects, so that it need not look for them among all.
 *
 * An empty slab is left to its drawer by others who put its last objects back: where objects flow from one thread to
 * another, each slab would end and be made anew each time round. They remember two that they have left, and look at
 * the one before, whether it is still empty and has to go.
 *
 * All of this is index: whoever holds a slab's record may draw from it, and does before there is no memory.
 * A list that another writes into, or a slab of which has ended, is cut there; what is cut off is found by
 * the hints, as the slabs of those who meet nobody are.
 */
#include "slab.h"
#include "slab_inside.h"

#define LIST_END UINT32_MAX
/* Passing by costs memory: so much of a class at most, as a part of what the thread has drawn. */
#define PASS_PART 32
#define PASS_LEAST (UINT64_C(8) << 10)
#define PASS_BYTES (UINT64_C(64) << 10)

static bool drawer_lives(const struct arena *a, uint32_t drawer)
{
	const _Atomic uint64_t *words = (const _Atomic uint64_t *)(a->base + a->g.thread_words);
	uint64_t word = 0;

	if ((drawer & 0xffff) < THREADS_MAX)
		word = atomic_load_explicit(&words[drawer & 0xffff], memory_order_relaxed);
	return thread_word_state(word) == THREAD_LIVE && thread_word_client(word) == drawer >> 16;
}

/* As the bitmap says. */
static uint32_t free_objects(const struct slab_record *r)
{
	uint32_t count = 0;

	for (int w = 0; w < 4; w++)
		count += (uint32_t)__builtin_popcountll(
			atomic_load_explicit(&r->bitmap[w], memory_order_relaxed));
	return count;
}

bool slab_is_others(const struct arena *a, const struct slab_record *r, uint32_t kind, uint32_t drawer)
{
	uint32_t its = atomic_load_explicit(&r->drawer, memory_order_relaxed);

	return drawer && its && its != drawer && free_objects(r) * 4 < sizeclass_table[kind].objects * 3 &&
	       drawer_lives(a, its);
}

uint64_t slab_pass_most(const struct slab_source *from)
{
	uint64_t most = from->owned > 0 ? (uint64_t)from->owned / PASS_PART : 0;

	return most < PASS_LEAST ? PASS_LEAST : most > PASS_BYTES ? PASS_BYTES : most;
}

void slab_pass(struct slab_passed *p, const struct slab_record *r, uint64_t head, uint32_t kind)
{
	uint32_t objects = free_objects(r);

	p->slabs++;
	p->bytes += (uint64_t)objects * sizeclass_table[kind].bytes;
	if (objects < p->objects)
		return;
	p->objects = objects;
	p->head = head;
	p->kind = kind;
}

void slab_draw_here(struct slab_record *r, uint64_t head, struct slab_source *from)
{
	from->head = (uint32_t)head + 1;
	if (atomic_load_explicit(&r->drawer, memory_order_relaxed) != from->drawer)
		atomic_store_explicit(&r->drawer, from->drawer, memory_order_relaxed);
	if (atomic_load_explicit(&r->next, memory_order_relaxed) != LIST_END)
		atomic_store_explicit(&r->next, LIST_END, memory_order_relaxed);
}

static struct slab_record *drawn_at(struct arena *a, const struct slab_source *from, uint64_t page,
				    uint32_t *kind)
{
	struct slab_record *r;
	uint64_t w1;

	if (page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return NULL;
	w1 = atomic_load_explicit(&a->pages[page].w1, memory_order_relaxed);
	*kind = pw1_class(w1);
	if (!pw1_is_slab(w1) || *kind >= KINDS || sizeclass_of_kind(*kind) != from->class)
		return NULL;
	r = slab_at(a, page, *kind);
	return r && atomic_load_explicit(&r->drawer, memory_order_relaxed) == from->drawer ? r : NULL;
}

struct slab_record *slab_drawn(struct arena *a, struct slab_source *from, uint32_t *kind)
{
	uint32_t head = from->head;
	struct slab_record *r = head ? drawn_at(a, from, head - 1, kind) : NULL;

	if (!r)
		from->head = 0;
	/* Another has drawn from it meanwhile. It was kept when it became empty, and would be forgotten so. */
	if (!r && head)
		slab_give_up(a, head - 1, from->class);
	return r;
}

void slab_draw_next(struct slab_record *r, struct slab_source *from)
{
	uint32_t next = atomic_load_explicit(&r->next, memory_order_relaxed);

	from->head = next == LIST_END ? 0 : next;
	atomic_store_explicit(&r->next, 0, memory_order_relaxed);
}

void slab_draw_soon(struct arena *a, struct slab_record *r, uint64_t head, struct slab_source *from)
{
	struct slab_record *first;
	uint32_t kind, next;

	if (!from->drawer || !*from->crowd ||
	    atomic_load_explicit(&r->drawer, memory_order_relaxed) != from->drawer ||
	    atomic_load_explicit(&r->next, memory_order_relaxed))
		return;
	/* After the first, which is kept when it becomes empty. */
	first = slab_drawn(a, from, &kind);
	if (!first) {
		slab_draw_here(r, head, from);
		return;
	}
	next = atomic_load_explicit(&first->next, memory_order_relaxed);
	atomic_store_explicit(&r->next, next ? next : LIST_END, memory_order_relaxed);
	atomic_store_explicit(&first->next, (uint32_t)head + 1, memory_order_relaxed);
}

bool slab_leave(struct arena *a, struct slab_record *r, uint64_t head, uint32_t kind, struct slab_source *from)
{
	uint32_t its = atomic_load_explicit(&r->drawer, memory_order_relaxed), page = (uint32_t)head + 1, last;

	if (!from->left || !its || its == from->drawer || sizeclass_table[kind].pages > REGION_PAGES ||
	    !drawer_lives(a, its))
		return false;
	if (page == from->left[0] || page == from->left[1])
		return true;
	last = from->left[1];
	from->left[1] = from->left[0];
	from->left[0] = page;
	if (last)
		slab_give_up(a, last - 1, CLASSES);
	return true;
}
