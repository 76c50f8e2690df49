/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large records live in extents of the heap; their block holds a reference.
 *
 * An extent goes raw (its writer's) -> PAGE_LOG with the writer's number -> referred to by a committed
 * record -> PAGE_LOG with number 0, the arena's -> raw again, the resetter's, when its block's lap ends.
 * All changes of the entry are compare-and-swaps with the generation in it, which grows as the extent
 * leaves the ring, so none acts on a later use of the page.
 *
 * So that a ring full of references does not take the heap, a large record also retires as many blocks as
 * its bytes would have filled.
 */
#include <errno.h>

#include "client.h"
#include "extent.h"
#include "ring_view.h"
#include "stop_point.h"
#include "words.h"

static uint64_t heap_pages(const struct arena *a)
{
	return a->g.capacity >> PAGE_SHIFT;
}

static uint64_t log_word(uint32_t client, uint32_t gen)
{
	return pw0_make(PAGE_LOG, client, gen, 0);
}

/* ---- writing ---- */

/* Blocks' worth of an extent; at most a quarter of the ring. */
static uint32_t blocks_worth(const struct ring_view *v, uint64_t pages)
{
	uint64_t blocks = pages << PAGE_SHIFT >> v->shift;

	return (uint32_t)(blocks < v->blocks / 4 ? blocks : v->blocks / 4);
}

int ring_large_alloc(struct arena *a, const struct ring_view *v, struct thread_block *tb,
		     const struct ring_who *who, size_t len, uint32_t *page)
{
	uint64_t pages = (len + sizeof(struct ring_extent) + PAGE_SIZE - 1) >> PAGE_SHIFT, got;
	uint32_t retired;
	int r = 0;

	got = extent_alloc(a, pages, 1, RAW_PLAIN, &tb->home_zone, &r);
	if (got == EXTENT_NONE)
		return r;
	/* Not before there is memory: a heap that is full must not cost the ring its records. */
	for (uint32_t i = blocks_worth(v, pages); i > 0 && !r; i--)
		r = ring_lease(a, v, who, RING_LEASE_RETIRE, &retired);
	if (r)
		extent_free(a, got);
	*page = (uint32_t)got;
	return r;
}

struct ring_reference ring_large_note(struct arena *a, uint32_t page, const struct ring_extent *where)
{
	struct page_entry *e = &a->pages[page];
	uint32_t gen = pw0_gen(atomic_load_explicit(&e->w0, memory_order_relaxed));

	memcpy(a->heap + ((uint64_t)page << PAGE_SHIFT), where, sizeof(*where));
	STOP_POINT(ring_extent_filled);
	/* PAIR(ring-extent): what is in it before its kind. Crash: see ring_recover_extent(). */
	atomic_store_explicit(&e->w0, log_word(a->client, gen), memory_order_release);
	return (struct ring_reference){
		.page = page,
		.pages = (uint32_t)pw1_length(atomic_load_explicit(&e->w1, memory_order_relaxed)),
		.gen = gen,
	};
}

void ring_large_settle(struct arena *a, const struct ring_reference *ref)
{
	uint64_t mine = log_word(a->client, ref->gen);

	atomic_compare_exchange_strong_explicit(&a->pages[ref->page].w0, &mine, log_word(0, ref->gen),
						memory_order_release, memory_order_relaxed);
}

/* ---- finding what a block refers to ---- */

/* Copies the record at a place in a block, if one of at least a header's size can be there. */
static bool read_record(const struct arena *a, const struct ring_view *v, uint32_t block,
			uint64_t offset, uint64_t end, struct ring_record *record)
{
	if (offset > end || end - offset < sizeof(*record))
		return false;
	ring_copy(record, arena_at(a, ring_block_at(v, block) + offset), sizeof(*record));
	return true;
}

/* The reference behind a header, if it is one of a large record. */
static bool read_reference(const struct arena *a, const struct ring_view *v, uint32_t block,
			   uint64_t offset, uint64_t end, struct ring_reference *ret)
{
	if (offset > end || end - offset < sizeof(*ret))
		return false;
	ring_copy(ret, arena_at(a, ring_block_at(v, block) + offset), sizeof(*ret));
	return ret->page < heap_pages(a);
}

/* In a block of one thread: *cursor is the offset of the next record. */
static bool next_own(const struct arena *a, const struct ring_view *v, uint32_t block,
		     uint64_t committed, uint32_t *cursor, struct ring_reference *ret)
{
	uint32_t end = ring_committed_bytes(committed);
	struct ring_record record;

	if (end > ring_block_bytes(v))
		end = ring_block_bytes(v);
	while (read_record(a, v, block, *cursor, end, &record)) {
		uint32_t at = *cursor + (uint32_t)sizeof(record);

		*cursor += ring_info_bytes(record.info);
		if (record.info & RING_INFO_LARGE && read_reference(a, v, block, at, end, ret))
			return true;
	}
	return false;
}

/* In a shared block: *cursor is the next slot 0-15 | units before it 16-31. */
static bool next_shared(const struct arena *a, const struct ring_view *v, uint32_t block, uint32_t lap,
			uint32_t *cursor, struct ring_reference *ret)
{
	uint32_t slot = *cursor & 0xffff, units = *cursor >> 16, end = ring_block_bytes(v);
	struct ring_record record;

	while (slot < v->block_slots) {
		uint64_t word = atomic_load_explicit(&ring_block_slots(v, block)[slot],
						     memory_order_acquire);
		uint64_t at = (uint64_t)units * 16 + sizeof(struct ring_author);
		enum ring_slot_state state = ring_slot_state(word);

		if (!ring_slot_of(word, lap) || at > end)
			return false;
		slot++;
		units += ring_slot_units(word);
		*cursor = slot | (units < 0xffff ? units : 0xffff) << 16;
		if ((state == RING_SLOT_DONE || state == RING_SLOT_CONSUMED) &&
		    read_record(a, v, block, at, end, &record) && record.info & RING_INFO_LARGE &&
		    read_reference(a, v, block, at + sizeof(record), end, ret))
			return true;
	}
	return false;
}

bool ring_large_next(const struct arena *a, const struct ring_view *v, uint32_t block, uint32_t lap,
		     uint32_t *cursor, struct ring_reference *ret)
{
	const struct ring_block *head = &v->heads[block];
	uint64_t committed = atomic_load_explicit(&head->committed, memory_order_acquire);

	if (!atomic_load_explicit(&head->extents, memory_order_relaxed) ||
	    !atomic_load_explicit(&head->memory, memory_order_relaxed) ||
	    !ring_committed_of(committed, lap))
		return false;
	return committed & RING_COMMITTED_SHARED ? next_shared(a, v, block, lap, cursor, ret) :
						   next_own(a, v, block, committed, cursor, ret);
}

/* ---- giving back ---- */

/* Whether a page's entry may be read: a damaged reference may point into a zone not in use. */
static bool entry_readable(struct arena *a, uint64_t page)
{
	if (page >= a->pages_known)
		arena_refresh(a);
	return page < a->pages_known;
}

int ring_large_prepare(struct arena *a, const struct ring_view *v, uint32_t block, uint32_t lap)
{
	struct ring_reference ref;
	uint32_t cursor = 0;

	while (ring_large_next(a, v, block, lap, &cursor, &ref)) {
		if (entry_readable(a, ref.page) && client_prepare_zone(a, ref.page / a->g.zone_pages))
			return -ENOMEM;
	}
	return 0;
}

/*
 * Crash: before the swap the extent is the arena's, referred to by a block that is being reset: recovery
 * goes through the references again. After, it is raw and the resetter's, and returns with it.
 */
static void release(struct arena *a, const struct ring_reference *ref)
{
	struct page_entry *e = &a->pages[ref->page];
	uint64_t seen = atomic_load_explicit(&e->w0, memory_order_acquire);

	while (pw0_kind(seen) == PAGE_LOG && pw0_gen(seen) == (ref->gen & 0xffff)) {
		if (client_prepare_zone(a, ref->page / a->g.zone_pages))
			return; /* done before: see ring_large_prepare() */
		client_mark(a, ref->page);
		if (!atomic_compare_exchange_strong(&e->w0, &seen,
						    pw0_make(PAGE_RAW, a->client, ref->gen + 1,
							     RAW_PLAIN)))
			continue; /* its writer settled it */
		STOP_POINT(ring_extent_released);
		extent_free(a, ref->page);
		return;
	}
}

void ring_large_release(struct arena *a, const struct ring_view *v, uint32_t block, uint32_t lap)
{
	struct ring_reference ref;
	uint32_t cursor = 0;

	while (ring_large_next(a, v, block, lap, &cursor, &ref))
		if (entry_readable(a, ref.page))
			release(a, &ref);
}

/* ---- for recovery ---- */

/* Whether the place that an extent names lies in a block and lap that are there. */
static bool place_committed(const struct arena *a, const struct ring_view *v,
			    const struct ring_extent *where)
{
	uint64_t word, committed;

	if (where->block >= v->blocks || where->position > ring_block_bytes(v) ||
	    ring_block_bytes(v) - where->position < sizeof(struct ring_reference))
		return false;
	word = atomic_load_explicit(&v->words[where->block], memory_order_acquire);
	committed = atomic_load_explicit(&v->heads[where->block].committed, memory_order_acquire);
	/* A block half reset still refers to what is in it: whoever finishes the reset frees it. */
	if ((ring_word_readable(word) ? ring_word_lap(word) : ring_word_lap(word) - 1) != where->lap ||
	    !ring_committed_of(committed, where->lap))
		return false;
	if (where->slot) {
		uint64_t slot;

		if (where->slot > v->block_slots || !(committed & RING_COMMITTED_SHARED))
			return false;
		slot = atomic_load_explicit(&ring_block_slots(v, where->block)[where->slot - 1],
					    memory_order_acquire);
		return ring_slot_of(slot, where->lap) && (ring_slot_state(slot) == RING_SLOT_DONE ||
							  ring_slot_state(slot) == RING_SLOT_CONSUMED);
	}
	(void)a;
	return !(committed & RING_COMMITTED_SHARED) &&
	       where->position + sizeof(struct ring_reference) <= ring_committed_bytes(committed);
}

bool ring_references(const struct arena *a, uint64_t page)
{
	struct ring_extent where;
	struct ring_reference ref;
	struct ring_view v;
	uint64_t w0;

	if (page >= heap_pages(a) || !ring_view(a, &v))
		return false;
	w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);
	if (pw0_kind(w0) != PAGE_LOG)
		return false;
	/* PAIR(ring-extent). */
	ring_copy(&where, a->heap + (page << PAGE_SHIFT), sizeof(where));
	if (!place_committed(a, &v, &where) ||
	    !atomic_load_explicit(&v.heads[where.block].memory, memory_order_relaxed))
		return false;
	ring_copy(&ref, arena_at(a, ring_block_at(&v, where.block) + where.position), sizeof(ref));
	return ref.page == page && (ref.gen & 0xffff) == pw0_gen(w0);
}

/*
 * Crash: before the swap as before it; after, the arena's or a dead client's raw extent.
 */
bool ring_recover_extent(struct arena *a, uint64_t page, uint32_t client)
{
	struct page_entry *e = &a->pages[page];
	uint64_t w0 = atomic_load_explicit(&e->w0, memory_order_acquire);

	if (pw0_kind(w0) != PAGE_LOG || pw0_client(w0) != client)
		return false;
	if (ring_references(a, page)) {
		/* Fails only if its block was reset and the extent freed meanwhile: not the client's. */
		atomic_compare_exchange_strong(&e->w0, &w0, log_word(0, pw0_gen(w0)));
		return true;
	}
	/* No record ever refers to it now. But a reset may have freed it since it was looked at. */
	return !atomic_compare_exchange_strong(&e->w0, &w0, pw0_make(PAGE_RAW, client, pw0_gen(w0) + 1,
								     RAW_PLAIN));
}
