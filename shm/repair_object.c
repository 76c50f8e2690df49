/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State words of what stays. Whoever owned an object is dead: private, taken, shared and internal ones
 * become free under a new generation, as recovery makes them. A word of no kind says nothing of who
 * owned it: the object is kept, for people to look at. A sound name is believed over its object's word.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "persist.h"
#include "record.h"
#include "repair_run.h"

/* ---- one word ---- */

bool repair_word_at(const struct repair_run *r, uint64_t offset, struct repair_word *ret)
{
	uint64_t page = offset >> PAGE_SHIFT, head, w1;
	struct walk_slab slab;
	struct walk_item item;

	if (page >= r->pages || !(r->use[page] & ~USE_HEAD))
		return false;
	memset(ret, 0, sizeof(*ret));
	if (r->use[page] == (USE_LARGE | USE_HEAD)) {
		ret->entry = &r->a.pages[page];
		ret->bytes = walk_read(&r->a, page, &item) ? item.length << PAGE_SHIFT : 0;
		return offset % PAGE_SIZE == 0;
	}
	w1 = atomic_load_explicit(&r->a.pages[page].w1, memory_order_relaxed);
	head = page - pw1_dist(w1);
	if ((r->use[page] & ~USE_HEAD) != USE_SLAB || !repair_slab_at(r, head, &slab))
		return false;
	offset -= head << PAGE_SHIFT;
	if (offset % slab.bytes || offset / slab.bytes >= slab.objects)
		return false;
	ret->slab = &slab.record.at->words[offset / slab.bytes];
	ret->bytes = slab.bytes;
	return true;
}

uint32_t repair_word_get(const struct repair_word *w)
{
	if (w->slab)
		return atomic_load_explicit(w->slab, memory_order_relaxed);
	return pw0_state(atomic_load_explicit(&w->entry->w0, memory_order_relaxed));
}

/* Crash: each word is right before or after; what it was decides, with its name, the same again. */
void repair_word_set(const struct repair_word *w, uint32_t state)
{
	uint64_t w0;

	if (w->slab) {
		atomic_store_explicit(w->slab, state, memory_order_release);
		return;
	}
	w0 = atomic_load_explicit(&w->entry->w0, memory_order_relaxed);
	atomic_store_explicit(&w->entry->w0, pw0_object(pw0_kind(w0), state) | pw0_use(w0), memory_order_release);
}

static uint32_t freed(uint32_t state)
{
	return state_make(OBJECT_FREE, 0, (state_gen(state) + 1) & 0xffff);
}

/* What a sound name makes of its object's word; the word itself if it does not speak against it. */
static uint32_t by_name(const struct repair_name *name, uint32_t state)
{
	uint32_t gen = handle_gen(name->handle);

	/* A published object under another generation is still the name's: there is but one here. */
	if (state_kind(state) == OBJECT_PUBLISHED)
		return state;
	if (state_gen(state) == gen || state_kind(state) == OBJECT_FREE)
		return state_make(OBJECT_PUBLISHED, 0, gen);
	return state;
}

/* One object's word as it has to be. */
static uint32_t settle(struct repair_run *r, uint64_t offset, uint64_t bytes, uint32_t state)
{
	const struct repair_name *name = repair_named(r, offset);
	uint32_t due = name ? by_name(name, state) : state;
	uint64_t handle, page = offset >> PAGE_SHIFT;

	/* A word that says held and is not is one of no kind. */
	if (state_kind(due) >= OBJECT_KINDS ||
	    (state_kind(due) == OBJECT_HELD &&
	     !repair_held(r, handle_make(r->a.tag, state_gen(due), offset), due)))
		due = state_make(OBJECT_PERSISTENT, 0, state_gen(state));
	handle = handle_make(r->a.tag, state_gen(due), offset);
	if (due == state)
		return due;
	if (name && state_kind(due) == OBJECT_PUBLISHED)
		repair_note(r, REPAIR_PUBLISHED, page, handle, 1, bytes,
			    "object %#llx: state word %#x, but its name is %.95s",
			    (unsigned long long)handle, state, name->text);
	else
		repair_note(r, REPAIR_KEPT, page, handle, 1, bytes,
			    "object %#llx of %llu bytes: state word %#x",
			    (unsigned long long)handle, (unsigned long long)bytes, state);
	return due;
}

/* Counts it, and gives back what was a client's. */
static uint32_t release(struct repair_run *r, uint64_t bytes, uint32_t state)
{
	enum object_kind kind = state_kind(state);

	if (kind == OBJECT_PERSISTENT || kind == OBJECT_PUBLISHED) {
		r->sum.kept_objects++;
		r->sum.kept_bytes += bytes;
		return state;
	}
	if (kind == OBJECT_FREE)
		return state;
	if (kind != OBJECT_INTERNAL) {
		r->sum.returned_objects++;
		r->sum.returned_bytes += bytes;
	}
	return freed(state);
}

/* ---- slabs ---- */

static uint32_t object_due(struct repair_run *r, const struct walk_slab *slab, uint32_t i,
			   uint32_t state)
{
	uint64_t offset = walk_object_offset(slab, i), end = offset + slab->bytes;
	enum object_kind kind;

	state = settle(r, offset, slab->bytes, state);
	kind = state_kind(state);
	if (end <= r->heap_bytes || kind == OBJECT_FREE)
		return release(r, slab->bytes, state);
	if (kind == OBJECT_PERSISTENT || kind == OBJECT_PUBLISHED)
		repair_note(r, REPAIR_CUT_OFF, slab->page,
			    handle_make(r->a.tag, state_gen(state), offset), 1, slab->bytes,
			    "object at %#llx of %u bytes", (unsigned long long)offset, slab->bytes);
	return freed(state);
}

/* The words behind the last object lead handles into the slab's tail astray: free for ever. */
static void clear_spare(const struct walk_slab *slab)
{
	for (uint32_t i = slab->objects; i < 16 * slab->record.shape; i++) {
		uint32_t state = walk_state(slab, i);

		if (state_kind(state) != OBJECT_FREE)
			atomic_store_explicit(&slab->record.at->words[i], freed(state),
					      memory_order_relaxed);
	}
}

static void write_bits(const struct walk_slab *slab)
{
	for (uint32_t w = 0; w < 4; w++) {
		uint64_t bits = 0;

		for (uint32_t i = w * 64; i < w * 64 + 64 && i < slab->objects; i++)
			if (state_kind(walk_state(slab, i)) == OBJECT_FREE)
				bits |= UINT64_C(1) << (i % 64);
		atomic_store_explicit(&slab->record.at->bitmap[w], bits, memory_order_relaxed);
	}
}

static bool settle_objects(struct repair_run *r, const struct walk_slab *slab)
{
	bool stays = false;

	for (uint32_t i = 0; i < slab->objects; i++) {
		uint32_t state = walk_state(slab, i), due = object_due(r, slab, i, state);

		if (due != state)
			atomic_store_explicit(&slab->record.at->words[i], due,
					      memory_order_release);
		stays |= state_kind(due) != OBJECT_FREE;
	}
	return stays;
}

static void free_entry(struct repair_run *r, uint64_t page)
{
	uint64_t w0 = atomic_load_explicit(&r->a.pages[page].w0, memory_order_relaxed);

	repair_write_entry(r, page, pw0_make(PAGE_FREE, 0, pw0_gen(w0), 0), 0);
}

static void settle_slab(struct repair_run *r, const struct walk_slab *slab)
{
	uint32_t pages = sizeclass_table[slab->class_index].pages;

	if (settle_objects(r, slab)) {
		clear_spare(slab);
		write_bits(slab);
		return;
	}
	/* Crash: before, an empty slab; after, one whose record is lost, told by most of its pages, as long
	 * as it is; the head goes first, so that no rest of it looks like a slab. */
	atomic_store_explicit(&slab->record.at->owner, RECORD_FREE, memory_order_release);
	for (uint32_t i = 0; i < pages; i++)
		free_entry(r, slab->page + i);
	memset(r->use + slab->page, USE_NONE, pages);
}

/* ---- large ones, and all ---- */

static void settle_large(struct repair_run *r, uint64_t page)
{
	struct repair_word w;
	uint32_t state, due;

	if (!repair_word_at(r, page << PAGE_SHIFT, &w))
		return;
	state = repair_word_get(&w);
	due = release(r, w.bytes, settle(r, page << PAGE_SHIFT, w.bytes, state));
	if (due != state)
		repair_word_set(&w, due);
}

static void free_records(struct repair_run *r, uint64_t page)
{
	uint32_t shape =
		pw0_class(atomic_load_explicit(&r->a.pages[page].w0, memory_order_relaxed));

	for (uint32_t i = 0; i < shape_block_records(shape); i++) {
		uint64_t at = record_offset(page, shape, i);
		struct slab_record *record = record_at(&r->a, at);
		uint64_t head = atomic_load_explicit(&record->head, memory_order_relaxed);
		struct walk_slab slab;

		if (head < r->pages && repair_slab_at(r, head, &slab) && slab.record.offset == at)
			continue;
		if (atomic_load_explicit(&record->owner, memory_order_relaxed) != RECORD_FREE)
			atomic_store_explicit(&record->owner, RECORD_FREE, memory_order_release);
	}
}

void repair_objects(struct repair_run *r)
{
	struct walk_slab slab;

	for (uint64_t page = 0; page < r->pages; page++) {
		if (repair_slab_at(r, page, &slab))
			settle_slab(r, &slab);
		else if (r->use[page] == (USE_LARGE | USE_HEAD))
			settle_large(r, page);
	}
	for (uint64_t page = 0; page < r->pages; page++)
		if (r->use[page] == (USE_STATE | USE_HEAD))
			free_records(r, page);
}

static void visit_slab(struct repair_run *r, const struct walk_slab *slab,
		       void (*visit)(struct repair_run *r, uint64_t handle))
{
	for (uint32_t i = 0; i < slab->objects; i++) {
		uint32_t state = walk_state(slab, i);

		if (state_kind(state) == OBJECT_PUBLISHED)
			visit(r,
			      handle_make(r->a.tag, state_gen(state), walk_object_offset(slab, i)));
	}
}

void repair_each_published(struct repair_run *r,
			   void (*visit)(struct repair_run *r, uint64_t handle))
{
	for (uint64_t page = 0; page < r->pages; page++) {
		struct repair_word w;
		struct walk_slab slab;

		if (repair_slab_at(r, page, &slab)) {
			visit_slab(r, &slab, visit);
		} else if (r->use[page] == (USE_LARGE | USE_HEAD) &&
			   repair_word_at(r, page << PAGE_SHIFT, &w) &&
			   state_kind(repair_word_get(&w)) == OBJECT_PUBLISHED) {
			visit(r, handle_make(r->a.tag, state_gen(repair_word_get(&w)),
					     page << PAGE_SHIFT));
		}
	}
}

/* ---- one in another's place (replace.h) ---- */

static bool word_of(struct repair_run *r, uint64_t handle, struct repair_word *ret)
{
	uint64_t offset = handle_offset(handle), page = offset >> PAGE_SHIFT;

	if (handle_tag(handle) != r->a.tag || page >= r->pages)
		return false;
	if (r->use[page])
		return repair_word_at(r, offset, ret);
	*ret = (struct repair_word){ .entry = &r->a.pages[page] };
	return offset % PAGE_SIZE == 0;
}

static bool is_word(const struct repair_word *w, uint64_t entry, uint32_t state)
{
	uint64_t w0;

	if (w->slab)
		return atomic_load_explicit(w->slab, memory_order_relaxed) == state;
	w0 = atomic_load_explicit(&w->entry->w0, memory_order_relaxed);
	return entry ? w0 == entry : pw0_is_object(w0) && pw0_state(w0) == state;
}

/* Crash: before, the next run does it; after, the new one is the arena's, and no longer private: nothing is to be
 * done. The old one, the dead client's by then, goes with its other things, after this. */
static void finish_exchange(struct repair_run *r, const struct persist_intent *intent, uint32_t client)
{
	uint32_t from = intent->gen & 0xffff, to = handle_gen(intent->cell);
	struct repair_word w;

	if (word_of(r, intent->handle, &w) &&
	    is_word(&w, pw0_make(PAGE_RAW, client, from, RAW_PLAIN), state_make(OBJECT_PRIVATE, client, from)) &&
	    word_of(r, intent->cell, &w) && is_word(&w, 0, state_make(OBJECT_PRIVATE, client, to)))
		repair_word_set(&w, state_make(OBJECT_PERSISTENT, 0, to));
}

static bool intent_at(struct repair_run *r, uint32_t index, uint64_t word, enum intent_kind kind,
		      struct thread_block *ret)
{
	return thread_word_state(word) == THREAD_LIVE && repair_in_file(r, thread_word_page(word), 1) &&
	       repair_unused(r, thread_word_page(word), 1) && walk_thread(&r->a, index, word, ret) &&
	       atomic_load_explicit(&ret->intent.armed, memory_order_relaxed) == kind;
}

void repair_exchanges(struct repair_run *r)
{
	const _Atomic uint64_t *words = arena_at(&r->a, r->a.g.thread_words);
	struct thread_block block;

	for (uint32_t i = 0; i < THREADS_MAX; i++) {
		uint64_t word = atomic_load_explicit(&words[i], memory_order_acquire);

		if (intent_at(r, i, word, INTENT_REPLACE, &block))
			finish_exchange(r, &block.intent, thread_word_client(word));
	}
}

/* ---- shma_persist() ---- */

static int keep_intent(struct repair_run *r, const struct thread_block *block, uint32_t client,
		       uint64_t page)
{
	size_t n = r->intent_count + 1;
	struct thread_block *blocks = realloc(r->intents, n * sizeof(*blocks));
	uint32_t *clients;

	if (!blocks)
		return -ENOMEM;
	r->intents = blocks;
	clients = realloc(r->intent_clients, n * sizeof(*clients));
	if (!clients)
		return -ENOMEM;
	r->intent_clients = clients;
	memcpy(&blocks[n - 1], block, sizeof(*block));
	clients[n - 1] = client;
	r->intent_count++;
	r->use[page] = USE_HEAD; /* until it is finished */
	return 0;
}

int repair_intents_read(struct repair_run *r)
{
	const _Atomic uint64_t *words = arena_at(&r->a, r->a.g.thread_words);
	int err = 0;

	for (uint32_t i = 0; !err && i < THREADS_MAX; i++) {
		uint64_t word = atomic_load_explicit(&words[i], memory_order_acquire);
		struct thread_block block;

		if (intent_at(r, i, word, INTENT_PERSIST, &block))
			err = keep_intent(r, &block, thread_word_client(word),
					  thread_word_page(word));
	}
	return err;
}

/* When no entry leads astray any more. Crash: before, the thread's word, its block and its extent are
 * still there; after, there is nothing to do. */
void repair_intents_finish(struct repair_run *r)
{
	for (uint32_t i = 0; i < r->intent_count; i++)
		persist_recover(&r->a, &r->intents[i], r->intent_clients[i]);
	for (uint64_t page = 0; r->intent_count && page < r->pages; page++)
		if (r->use[page] == USE_HEAD)
			r->use[page] = USE_NONE;
}
