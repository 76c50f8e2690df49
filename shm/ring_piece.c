/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of one block is to be written: of a sealed one straight from the mapping, held meanwhile; of an open or a
 * shared one a copy, believed when the block's word still says the same lap, as a reader does. Nothing that is
 * read here is believed without a look at its range: what makes no sense is damaged, and counted as lost.
 */
#include "ring_piece.h"

#include <errno.h>
#include <stdlib.h>

/* Payloads of large records that go with one piece, at most: two blocks' worth and the longest record are less. */
#define LARGE_BYTES ((uint64_t)5 << 19)

/* ---- records ---- */

bool ring_piece_record(const char *data, uint32_t len, struct ring_record *ret)
{
	if (len < sizeof(*ret))
		return false;
	ring_copy(ret, data, sizeof(*ret));
	return ring_info_length(ret->info) <= RING_RECORD_MAX && ring_info_bytes(ret->info) <= len;
}

uint64_t ring_piece_owed(const struct ring_drained *s)
{
	return s->owed + (s->base > s->done ? s->base - s->done : 0);
}

static struct ring_piece *begin(const struct ring_drain *d, struct ring_batch *b,
				enum ring_piece_kind kind, uint32_t block)
{
	const struct ring_block *head = &d->v.heads[block];
	const struct ring_drained *s = &d->blocks[block];
	struct ring_piece *p = &b->pieces[b->count];

	memset(p, 0, sizeof(*p));
	p->kind = kind;
	p->block = block;
	p->lap = s->lap;
	p->ticket = atomic_load_explicit(&head->ticket, memory_order_relaxed);
	p->real_offset = atomic_load_explicit(&head->real_offset, memory_order_relaxed);
	if (s->shared)
		return p;
	p->incarnation = atomic_load_explicit(&head->incarnation, memory_order_relaxed);
	p->pid = atomic_load_explicit(&head->pid, memory_order_relaxed);
	p->tid = atomic_load_explicit(&head->tid, memory_order_relaxed);
	return p;
}

static void end(struct ring_batch *b, struct ring_piece *p)
{
	b->bytes += p->bytes;
	b->count++;
}

void ring_piece_forget(struct ring_batch *b, uint32_t count)
{
	while (b->count > count) {
		struct ring_piece *p = &b->pieces[--b->count];

		b->bytes -= p->bytes;
		free(p->copy);
		p->copy = NULL;
	}
}

/* ---- large records ---- */

static bool reference_valid(const struct arena *a, const struct ring_reference *ref, size_t len)
{
	uint64_t pages = a->g.capacity >> PAGE_SHIFT;

	return ref->page < pages && ref->pages <= pages - ref->page &&
	       len + sizeof(struct ring_extent) <= (uint64_t)ref->pages << PAGE_SHIFT;
}

/* The kernel copies: there may be a hole by now where the extent was. What cannot be read stays empty; then the
 * record is damaged, or overwritten, and in that case not written either. */
static size_t copy_large(const struct arena *a, const struct ring_reference *ref, void *to, size_t len)
{
	uint64_t from = a->g.heap + ((uint64_t)ref->page << PAGE_SHIFT) + sizeof(struct ring_extent);

	return reference_valid(a, ref, len) && arena_read(a, from, to, len) == (int64_t)len ? len : 0;
}

/* The payload that a record at a place in its block refers to. *large grows by its bytes. */
static int add_large(struct ring_drain *d, struct ring_batch *b, uint32_t block, uint32_t at,
		     const struct ring_record *record, const char *payload, uint64_t *large)
{
	size_t len = ring_info_length(record->info);
	struct ring_reference ref;
	struct ring_piece *p;

	if (b->count + 2 > RING_BATCH_PIECES)
		return -E2BIG;
	p = begin(d, b, RING_PIECE_LARGE, block);
	ring_copy(&ref, payload, sizeof(ref));
	p->copy = malloc(len + 1);
	if (!p->copy)
		return -ENOMEM;
	p->from = at;
	p->to = at + 1;
	p->time = record->time + p->real_offset;
	p->data = p->copy;
	if (*large + len <= LARGE_BYTES)
		p->bytes = copy_large(d->a, &ref, p->copy, len);
	*large += p->bytes;
	end(b, p);
	return 0;
}

/* Those of the records in bytes from..to of a block of one thread, whose first byte is at data. */
static int add_larges(struct ring_drain *d, struct ring_batch *b, uint32_t block, const char *data,
		      uint32_t from, uint32_t to)
{
	struct ring_record record;
	uint64_t large = 0;
	uint32_t at = from;
	int r = 0;

	if (!atomic_load_explicit(&d->v.heads[block].extents, memory_order_relaxed))
		return 0;
	while (!r && at < to && ring_piece_record(data + (at - from), to - at, &record)) {
		if (record.info & RING_INFO_LARGE)
			r = add_large(d, b, block, at, &record, data + (at - from) + sizeof(record),
				      &large);
		at += ring_info_bytes(record.info);
	}
	return r;
}

/* ---- blocks of one thread ---- */

bool ring_piece_committed(const struct ring_drain *d, uint32_t block, uint32_t lap, uint32_t *records,
			  uint32_t *end)
{
	/* PAIR(ring-commit). */
	uint64_t committed =
		atomic_load_explicit(&d->v.heads[block].committed, memory_order_acquire);

	if (!ring_committed_of(committed, lap) || committed & RING_COMMITTED_SHARED)
		return false;
	*records = ring_committed_records(committed);
	*end = ring_committed_bytes(committed);
	if (*end > ring_block_bytes(&d->v))
		*end = ring_block_bytes(&d->v);
	return true;
}

/* The bytes from where the block is to to, which lie at data: up to a record that makes no sense. */
static void describe(const struct ring_drained *s, struct ring_piece *p, const char *data, uint32_t to,
		     uint32_t records)
{
	struct ring_record record;
	uint32_t at = s->at;

	while (at < to && ring_piece_record(data + (at - s->at), to - at, &record)) {
		p->records++;
		at += ring_info_bytes(record.info);
	}
	p->from = s->at;
	p->to = at;
	p->next = to;
	p->data = data;
	p->bytes = at - s->at;
	p->count = s->count + p->records;
	if (records > p->count) {
		p->damaged = records - p->count;
		p->count = records;
	}
	p->lost = ring_piece_owed(s);
	p->done = s->base + p->count;
	if (p->records)
		return;
	p->kind = RING_PIECE_LOST;
	p->lost += p->damaged;
	p->damaged = 0;
}

int ring_piece_sealed(struct ring_drain *d, struct ring_batch *b, uint32_t block, uint64_t word)
{
	struct ring_drained *s = &d->blocks[block];
	uint32_t before = b->count, records, to;
	struct ring_piece *p;
	const char *data;
	int r;

	if (!ring_drain_hold(d, block, word))
		return 0;
	if (!ring_piece_committed(d, block, s->lap, &records, &to) ||
	    (to <= s->at && records <= s->count)) {
		ring_drain_let_go(d, block, word);
		return 0;
	}
	data = (char *)arena_at(d->a, ring_block_at(&d->v, block)) + s->at;
	r = add_larges(d, b, block, data, s->at, to);
	if (r) {
		ring_piece_forget(b, before);
		ring_drain_let_go(d, block, word);
		return r;
	}
	p = begin(d, b, RING_PIECE_OWN, block);
	if (ring_word_thread(word) != RING_DRAIN_THREAD)
		p->client = ring_word_client(word);
	p->held = word;
	describe(s, p, data, to, records);
	end(b, p);
	return 1;
}

static int copy_open(struct ring_drain *d, struct ring_batch *b, uint32_t block, uint64_t word,
		     uint32_t records, uint32_t to)
{
	struct ring_drained *s = &d->blocks[block];
	char *copy = malloc(to - s->at + 1);
	struct ring_piece *p;
	int r;

	if (!copy)
		return -ENOMEM;
	ring_copy(copy, (char *)arena_at(d->a, ring_block_at(&d->v, block)) + s->at, to - s->at);
	r = add_larges(d, b, block, copy, s->at, to);
	if (r) {
		free(copy);
		return r;
	}
	p = begin(d, b, RING_PIECE_OWN, block);
	p->client = ring_word_client(word);
	describe(s, p, copy, to, records);
	p->copy = copy;
	end(b, p);
	return 1;
}

int ring_piece_open(struct ring_drain *d, struct ring_batch *b, uint32_t block, uint64_t word)
{
	struct ring_drained *s = &d->blocks[block];
	uint32_t before = b->count, records, to;
	int r;

	if (!ring_piece_committed(d, block, s->lap, &records, &to) || to <= s->at)
		return 0;
	r = copy_open(d, b, block, word, records, to);
	if (r < 0 || !ring_drain_still(d, block, s->lap)) {
		ring_piece_forget(b, before);
		return r < 0 ? r : 0;
	}
	return r;
}

/* ---- shared blocks ---- */

bool ring_slot_next(const struct ring_drain *d, uint32_t block, uint32_t lap, struct ring_slot_walk *w)
{
	w->offset += w->units * 16;
	if (w->slot >= d->v.block_slots)
		return false;
	/* PAIR(ring-slot): done, and the record. */
	w->word = atomic_load_explicit(&ring_block_slots(&d->v, block)[w->slot], memory_order_acquire);
	w->slot++;
	w->units = ring_slot_units(w->word);
	return ring_slot_of(w->word, lap) && ring_slot_state(w->word) != RING_SLOT_CLOSED &&
	       w->units <= (ring_block_bytes(&d->v) - w->offset) / 16;
}

/* A piece in the making: of slots that are finished, none in the making between them. */
struct run {
	struct ring_piece p;
	uint64_t large;
};

static uint32_t padded(uint32_t bytes)
{
	return (bytes + 15) & ~15u;
}

/* Appends the record at a slot. False: it makes no sense. */
static bool copy_slot(const struct ring_drain *d, uint32_t block, const struct ring_slot_walk *w,
		      struct run *run, struct ring_record *record)
{
	const char *from = arena_at(d->a, ring_block_at(&d->v, block) + w->offset);
	char *to = (char *)run->p.copy + run->p.bytes;
	uint32_t author = sizeof(struct ring_author), bytes;

	if (w->units * 16 < author ||
	    !ring_piece_record(from + author, (uint32_t)w->units * 16 - author, record))
		return false;
	bytes = author + ring_info_bytes(record->info);
	ring_copy(to, from, bytes);
	memcpy(to + author, record, sizeof(*record)); /* what was looked at */
	memset(to + bytes, 0, padded(bytes) - bytes);
	run->p.bytes += padded(bytes);
	return true;
}

static int begin_run(struct ring_drain *d, struct ring_batch *b, uint32_t block, struct run *run)
{
	run->large = 0;
	run->p = *begin(d, b, RING_PIECE_SHARED, block);
	run->p.copy = malloc(ring_block_bytes(&d->v) + 16);
	return run->p.copy ? 0 : -ENOMEM;
}

static void end_run(struct ring_batch *b, struct run *run)
{
	struct ring_piece *p = &b->pieces[b->count];

	if (!run->p.records) {
		free(run->p.copy);
	} else {
		*p = run->p;
		p->data = p->copy;
		end(b, p);
	}
	run->p.copy = NULL;
}

/* One slot that has a record which is not drained. What makes no sense counts as drained, and as lost. */
static int take_slot(struct ring_drain *d, struct ring_batch *b, uint32_t block,
		     const struct ring_slot_walk *w, struct run *run)
{
	struct ring_drained *s = &d->blocks[block];
	const char *at = (char *)run->p.copy + run->p.bytes;
	struct ring_record record;

	if (!copy_slot(d, block, w, run, &record)) {
		ring_set_bit(s->slots, w->slot - 1);
		s->count++;
		s->owed++;
		return 0;
	}
	ring_set_bit(run->p.slots, w->slot - 1);
	if (!run->p.records)
		run->p.from = w->slot - 1;
	run->p.to = w->slot;
	run->p.records++;
	if (!(record.info & RING_INFO_LARGE))
		return 0;
	return add_large(d, b, block, w->slot - 1, &record,
			 at + sizeof(struct ring_author) + sizeof(record), &run->large);
}

static bool slot_has_record(uint64_t slot)
{
	return ring_slot_state(slot) == RING_SLOT_DONE || ring_slot_state(slot) == RING_SLOT_CONSUMED;
}

/* Not more than the batch has room for: the rest comes next time. */
static int copy_runs(struct ring_drain *d, struct ring_batch *b, uint32_t block, uint64_t max_bytes,
		     struct run *run)
{
	struct ring_drained *s = &d->blocks[block];
	struct ring_slot_walk w = { 0 };
	int r = 0;

	while (!r && b->bytes + run->p.bytes < max_bytes && b->count + 3 < RING_BATCH_PIECES &&
	       ring_slot_next(d, block, s->lap, &w)) {
		if (!slot_has_record(w.word) || ring_bit(s->slots, w.slot - 1))
			continue;
		if (run->p.copy && run->large > LARGE_BYTES - RING_RECORD_MAX)
			end_run(b, run);
		if (!run->p.copy)
			r = begin_run(d, b, block, run);
		if (!r)
			r = take_slot(d, b, block, &w, run);
	}
	if (!r && run->p.copy)
		end_run(b, run);
	return r;
}

int ring_piece_shared(struct ring_drain *d, struct ring_batch *b, uint32_t block, uint64_t max_bytes)
{
	struct ring_drained *s = &d->blocks[block];
	uint32_t before = b->count, count;
	struct run run = { 0 };
	uint64_t lost;
	int r = copy_runs(d, b, block, max_bytes, &run);

	if (r < 0 || !ring_drain_still(d, block, s->lap)) {
		free(run.p.copy);
		ring_piece_forget(b, before);
		return r < 0 ? r : 0;
	}
	count = s->count; /* with what was damaged */
	lost = ring_piece_owed(s);
	for (uint32_t i = before; i < b->count; i++) {
		struct ring_piece *p = &b->pieces[i];

		count += p->records;
		p->count = count;
		p->done = s->base + count;
		/* Told once, by the first run, with what is damaged in those that follow. */
		if (p->kind == RING_PIECE_SHARED) {
			p->lost = lost;
			lost = 0;
		}
	}
	return b->count > before;
}

/* ---- losses alone ---- */

int ring_piece_lost(struct ring_drain *d, struct ring_batch *b, uint32_t block)
{
	struct ring_drained *s = &d->blocks[block];
	struct ring_piece *p;

	if (!ring_piece_owed(s))
		return 0;
	p = begin(d, b, RING_PIECE_LOST, block);
	p->lost = ring_piece_owed(s);
	p->from = p->to = p->next = s->at;
	p->count = s->count;
	p->done = s->base + s->count;
	end(b, p);
	return 1;
}
