/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything read from the ring here may change while it is read, or be damaged: it is copied, range
 * checked, and believed once the block's word still says the same lap. Modelled in
 * tests/model/ring_block.pml: look, update, next and copy of a block that one thread writes.
 */
#include "ring_source.h"


#define FUTURE_NS UINT64_C(1000000000) /* a time further ahead than this is no time */
#define BEGIN_TRIES 64 /* laps that may end in a row while a reader tries to begin in one */

/* ---- laps ---- */

static uint64_t word_of(const struct ring_view *v, uint32_t block)
{
	/* PAIR(ring-lease), PAIR(ring-seal). */
	return atomic_load_explicit(&v->words[block], memory_order_acquire);
}

static bool is_lap(uint64_t word, uint32_t lap)
{
	return ring_word_readable(word) && ring_word_lap(word) == lap;
}

/* Whether all that was copied since is of the lap. */
static bool still(const struct ring_view *v, uint32_t block, uint32_t lap)
{
	/* PAIR(ring-reset): the copy before the word. */
	atomic_thread_fence(memory_order_acquire);
	return is_lap(atomic_load_explicit(&v->words[block], memory_order_relaxed), lap);
}

enum ring_look ring_source_look(struct ring_source *s, const struct ring_view *v, uint32_t block,
				uint64_t *lost)
{
	const struct ring_block *head = &v->heads[block];
	uint64_t word = word_of(v, block), base, real_offset;
	uint32_t lap = ring_word_lap(word);
	struct ring_author author;

	if (ring_word_state(word) == RING_FREE)
		return RING_LOOK_SAME;
	if (!ring_word_readable(word))
		return RING_LOOK_RESET;
	if (lap == s->lap)
		return RING_LOOK_SAME;
	base = atomic_load_explicit(&head->base[lap & 1], memory_order_relaxed);
	author.pid = atomic_load_explicit(&head->pid, memory_order_relaxed);
	author.tid = atomic_load_explicit(&head->tid, memory_order_relaxed);
	real_offset = atomic_load_explicit(&head->real_offset, memory_order_relaxed);
	if (!still(v, block, lap) || !atomic_load_explicit(&head->memory, memory_order_relaxed))
		return RING_LOOK_RESET;
	if (s->known && base > s->done)
		*lost += base - s->done;
	s->known = true;
	s->lap = lap;
	s->shared = ring_word_shared(word);
	s->author = author;
	s->real_offset = real_offset;
	s->base = s->done = s->records = base;
	s->pos = s->end = 0;
	s->last = 0;
	memset(s->delivered, 0, sizeof(s->delivered));
	return RING_LOOK_NEW;
}

/* ---- what is committed ---- */

static bool own_update(struct ring_source *s, const struct ring_view *v, uint32_t block, uint64_t word)
{
	const struct ring_block *head = &v->heads[block];
	/* PAIR(ring-busy): if not busy, a record that is not yet in committed reads its clock later. */
	bool busy = atomic_load_explicit(&head->busy, memory_order_acquire);
	/* PAIR(ring-commit). */
	uint64_t committed = atomic_load_explicit(&head->committed, memory_order_acquire);
	uint32_t end = ring_committed_bytes(committed);

	if (!ring_committed_of(committed, s->lap))
		return false;
	s->open = ring_word_state(word) == RING_OPEN;
	s->busy = s->open && busy;
	s->end = end < ring_block_bytes(v) ? end : ring_block_bytes(v);
	s->records = s->base + ring_committed_records(committed);
	return true;
}

static bool is_delivered(const struct ring_source *s, uint32_t slot)
{
	return s->delivered[slot / 64] >> slot % 64 & 1;
}

static bool has_record(uint64_t slot)
{
	return ring_slot_state(slot) == RING_SLOT_DONE || ring_slot_state(slot) == RING_SLOT_CONSUMED;
}

static void shared_update(struct ring_source *s, const struct ring_view *v, uint32_t block)
{
	_Atomic uint64_t *slots = ring_block_slots(v, block);

	s->open = true;
	s->busy = false;
	for (uint32_t i = 0; i < v->block_slots; i++) {
		uint64_t slot = atomic_load_explicit(&slots[i], memory_order_acquire);

		if (!ring_slot_of(slot, s->lap) || ring_slot_state(slot) == RING_SLOT_CLOSED)
			break;
		/* An open reserve reads its clock at the commit. */
		s->busy |= ring_slot_state(slot) == RING_SLOT_CLAIMED;
	}
}

bool ring_source_update(struct ring_source *s, const struct arena *a, const struct ring_view *v,
			uint32_t block, uint64_t now)
{
	uint64_t word = word_of(v, block);

	(void)a;
	if (!is_lap(word, s->lap))
		return false;
	if (s->shared)
		shared_update(s, v, block);
	else if (!own_update(s, v, block, word))
		return false;
	if (!s->busy)
		s->last = now;
	return true;
}

bool ring_source_finished(const struct ring_source *s, const struct ring_view *v, uint32_t block)
{
	_Atomic uint64_t *slots = ring_block_slots(v, block);

	if (s->heap)
		return false;
	if (!s->shared)
		return !s->open && s->pos == s->end;
	for (uint32_t i = 0; i < v->block_slots; i++) {
		uint64_t slot = atomic_load_explicit(&slots[i], memory_order_acquire);

		if (!ring_slot_of(slot, s->lap))
			return false;
		if (ring_slot_state(slot) == RING_SLOT_CLOSED)
			break;
		if (ring_slot_unfinished(slot) || (has_record(slot) && !is_delivered(s, i)))
			return false;
	}
	return true;
}

/* ---- the next record ---- */

/* Whether a record of this info, beginning at pos, ends by end. */
static bool fits(const struct ring_record *record, uint64_t pos, uint64_t end)
{
	return ring_info_length(record->info) <= RING_RECORD_MAX &&
	       end - pos >= ring_info_bytes(record->info);
}

static bool own_next(struct ring_source *s, const struct arena *a, const struct ring_view *v,
		     uint32_t block, uint64_t *lost)
{
	const struct ring_record *here = ring_source_here(s);
	uint32_t left = s->end - s->pos;

	if (here) {
		s->record = *here;
		s->bytes = ring_info_bytes(here->info);
		return true;
	}
	if (s->pos >= s->end)
		return false;
	if (left >= sizeof(s->record))
		ring_copy(&s->record, arena_at(a, ring_block_at(v, block) + s->pos), sizeof(s->record));
	if (left >= sizeof(s->record) && fits(&s->record, s->pos, s->end)) {
		s->bytes = ring_info_bytes(s->record.info);
		return true;
	}
	/* Torn, if the lap is over: then the loss is counted by the next one. Else damaged. */
	s->pos = s->end;
	if (still(v, block, s->lap) && s->records > s->done) {
		*lost += s->records - s->done;
		s->done = s->records;
	}
	return false;
}

/* Of a shared block's records, which are done in any order, the oldest. */
static bool shared_next(struct ring_source *s, const struct arena *a, const struct ring_view *v,
			uint32_t block)
{
	_Atomic uint64_t *slots = ring_block_slots(v, block);
	uint64_t offset = sizeof(struct ring_author), end = ring_block_bytes(v);
	bool found = false;

	for (uint32_t i = 0; i < v->block_slots; i++) {
		uint64_t slot = atomic_load_explicit(&slots[i], memory_order_acquire);
		uint64_t next = offset + (uint64_t)ring_slot_units(slot) * 16;
		struct ring_record record;

		if (!ring_slot_of(slot, s->lap) || next > end + sizeof(struct ring_author))
			break;
		if (has_record(slot) && !is_delivered(s, i) && offset + sizeof(record) <= end) {
			ring_copy(&record, arena_at(a, ring_block_at(v, block) + offset), sizeof(record));
			if (fits(&record, offset, end) && (!found || record.time < s->record.time)) {
				s->record = record;
				s->slot = i;
				s->offset = (uint32_t)offset;
				found = true;
			}
		}
		offset = next;
	}
	return found;
}

bool ring_source_next(struct ring_source *s, const struct arena *a, const struct ring_view *v,
		      uint32_t block, uint64_t now, uint64_t *lost)
{
	if (!(s->shared ? shared_next(s, a, v, block) : own_next(s, a, v, block, lost)))
		return false;
	/* Of a time that cannot be, as after damage or another boot: now. */
	s->key = s->record.time < now + FUTURE_NS ? s->record.time : now;
	return true;
}

/* The kernel copies: there may be a hole by now where the extent was. */
static bool copy_large(const struct arena *a, const struct ring_reference *ref, void *to, size_t len)
{
	uint64_t pages = a->g.capacity >> PAGE_SHIFT;
	uint64_t at = a->g.heap + ((uint64_t)ref->page << PAGE_SHIFT) + sizeof(struct ring_extent);

	if (ref->page >= pages || ref->pages > pages - ref->page ||
	    len + sizeof(struct ring_extent) > (uint64_t)ref->pages << PAGE_SHIFT)
		return false;
	return arena_read(a, at, to, len) == (int64_t)len;
}

static bool copy_payload(const struct ring_source *s, const struct arena *a, uint64_t at, void *to)
{
	struct ring_reference ref;

	if (!(s->record.info & RING_INFO_LARGE)) {
		ring_copy(to, arena_at(a, at), ring_source_length(s));
		return true;
	}
	ring_copy(&ref, arena_at(a, at), sizeof(ref));
	return copy_large(a, &ref, to, ring_source_length(s));
}

bool ring_source_copy(const struct ring_source *s, const struct arena *a, const struct ring_view *v,
		      uint32_t block, struct ring_entry *e)
{
	uint64_t at = ring_block_at(v, block) + (s->shared ? s->offset : s->pos);
	struct ring_author author = s->author;

	if (s->shared)
		ring_copy(&author, arena_at(a, at - sizeof(author)), sizeof(author));
	e->len = ring_source_length(s);
	e->level = ring_info_level(s->record.info);
	e->fields = (s->record.info & RING_INFO_FIELDS) != 0;
	e->unused = 0;
	e->dropped = s->record.dropped;
	e->pid = author.pid;
	e->tid = author.tid;
	e->seq = s->record.seq;
	e->block = block;
	e->lap = s->lap;
	e->at = s->shared ? s->slot : s->pos;
	e->time_ns = s->record.time + s->real_offset;
	if (!copy_payload(s, a, at + sizeof(s->record), e->data)) {
		e->len = 0; /* overwritten, or damaged: an empty record then */
		e->fields = 0;
	}
	return still(v, block, s->lap);
}

bool ring_source_load(struct ring_source *s, const struct arena *a, const struct ring_view *v,
		      uint32_t block, char *window, uint32_t bytes)
{
	if (bytes > s->end - s->pos)
		bytes = s->end - s->pos;
	ring_copy(window, arena_at(a, ring_block_at(v, block) + s->pos), bytes);
	s->window = window;
	s->window_from = s->pos;
	s->window_to = s->pos + bytes;
	return still(v, block, s->lap);
}

void ring_source_step(struct ring_source *s)
{
	if (s->shared)
		s->delivered[s->slot / 64] |= UINT64_C(1) << s->slot % 64;
	else
		s->pos += s->bytes;
	s->done++;
	if (s->last < s->key)
		s->last = s->key;
}

/* ---- where a reader begins ---- */

/* Whether the one before was done with a slot. */
static bool was_done(const struct ring_begun *from, uint32_t slot, enum ring_slot_state state, uint32_t lap)
{
	uint64_t word = from->slots[slot / 32];

	if (!from->by_slots)
		return state == RING_SLOT_CONSUMED;
	return word >> 32 == lap && word >> slot % 32 & 1;
}

static void mark_shared(struct ring_source *s, const struct ring_view *v, uint32_t block,
			enum ring_begin begin, const struct ring_begun *from)
{
	_Atomic uint64_t *slots = ring_block_slots(v, block);

	for (uint32_t i = 0; i < v->block_slots; i++) {
		uint64_t slot = atomic_load_explicit(&slots[i], memory_order_acquire);

		if (!ring_slot_of(slot, s->lap))
			break;
		if (!has_record(slot))
			continue;
		if (begin == RING_BEGIN_RESUME && !was_done(from, i, ring_slot_state(slot), s->lap))
			continue;
		s->delivered[i / 64] |= UINT64_C(1) << i % 64;
		s->done++;
	}
}

/* Steps over records until done is what it should be. */
static void skip_own(struct ring_source *s, const struct arena *a, const struct ring_view *v,
		     uint32_t block, uint64_t until)
{
	uint64_t lost = 0;

	while (s->done < until && own_next(s, a, v, block, &lost))
		ring_source_step(s);
	s->last = 0;
}

/* In the lap that was just adopted. False: it was over before all was seen. */
static bool begin_in_lap(struct ring_source *s, const struct ring_view *v, uint32_t block,
			 enum ring_begin begin, const struct arena *a, const struct ring_begun *from)
{
	if (begin == RING_BEGIN_OLDEST)
		return true;
	if (s->shared)
		mark_shared(s, v, block, begin, from);
	else if (own_update(s, v, block, word_of(v, block)))
		skip_own(s, a, v, block, begin == RING_BEGIN_NOW ? s->records : from->done);
	return still(v, block, s->lap);
}

/*
 * What is being reset was there before, and is nothing to this reader; but all that comes is, even if it is
 * overwritten before the reader looks again. False: it is being reset no more.
 */
static bool begin_in_reset(struct ring_source *s, const struct ring_view *v, uint32_t block)
{
	uint64_t word = word_of(v, block), committed, base;

	if (ring_word_state(word) == RING_FREE || ring_word_readable(word))
		return false;
	/* PAIR(ring-base). */
	committed = atomic_load_explicit(&v->heads[block].committed, memory_order_acquire);
	base = ring_reset_base(v, block, word, committed);
	/* PAIR(ring-reset): what was counted before the word. */
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&v->words[block], memory_order_relaxed) != word)
		return false;
	s->done = base;
	s->known = true;
	return true;
}

/* Modelled in tests/model/ring_block.pml, as far as RING_BEGIN_OLDEST goes. */
enum ring_look ring_source_begin(struct ring_source *s, const struct ring_view *v, uint32_t block,
				 enum ring_begin begin, const struct ring_begun *from, const struct arena *a,
				 uint64_t *lost)
{
	struct ring_begun consumed = {
		.done = atomic_load_explicit(&v->heads[block].consumed, memory_order_relaxed)
	};
	enum ring_look look = RING_LOOK_RESET;
	uint64_t before = 0;
	bool begun = false;

	if (!from)
		from = &consumed;
	for (int i = 0; i < BEGIN_TRIES && !begun; i++) {
		look = ring_source_look(s, v, block, &before);
		if (look == RING_LOOK_NEW)
			begun = begin_in_lap(s, v, block, begin, a, from);
		else
			begun = look == RING_LOOK_SAME || begin_in_reset(s, v, block);
	}
	s->known |= look == RING_LOOK_SAME; /* free: nothing was */
	if (begin != RING_BEGIN_RESUME)
		return look;
	/* Who goes on has lost what came and went meanwhile. */
	if (look == RING_LOOK_NEW && s->base > from->done)
		*lost += s->base - from->done;
	if (look == RING_LOOK_RESET)
		s->done = from->done;
	s->known = true;
	return look;
}
