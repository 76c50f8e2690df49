/* SPDX-License-Identifier: Apache-2.0 */
#include "drain_batch.h"

#include <string.h>

#include "clock.h"

static const char zeros[8];

static void fill(struct segment_fragment *f, const struct ring_piece *p)
{
	memset(f, 0, sizeof *f);
	f->kind = (uint8_t)p->kind;
	f->client = (uint16_t)p->client;
	f->block = p->block;
	f->lap = p->lap;
	f->from = p->from;
	f->incarnation = p->incarnation;
	f->ticket = p->ticket;
	f->real_offset = p->real_offset;
	f->pid = p->pid;
	f->tid = p->tid;
	f->lost = p->lost;
	f->done = (uint32_t)p->done;
	if (p->kind == RING_PIECE_SHARED)
		memcpy(f->slots, p->slots, sizeof f->slots);
	if (p->kind == RING_PIECE_LARGE)
		f->time_min = f->time_max = p->time;
}

static void fill_loss(struct segment_fragment *f, const struct ring_piece *p)
{
	fill(f, p);
	f->kind = SEGMENT_LOSS;
	f->time_min = f->time_max = clock_real();
	memset(f->slots, 0, sizeof f->slots);
	segment_fragment_make(f, NULL, 0);
}

static void add_part(struct drain_batch *b, const void *data, size_t len)
{
	if (!len)
		return;
	b->parts[b->count++] = (struct iovec){ (void *)data, len };
	b->bytes += len;
}

static void add(struct drain_batch *b, struct segment_fragment *f, struct ring_piece *p)
{
	struct iovec payload = { (void *)p->data, p->bytes };

	fill(f, p);
	if (p->kind == RING_PIECE_LOST) {
		fill_loss(f, p);
	} else if (segment_fragment_make(f, &payload, p->bytes ? 1 : 0)) {
		p->lost += p->records;
		p->bytes = 0;
		fill_loss(f, p);
	}
	add_part(b, f, sizeof *f);
	add_part(b, p->data, p->bytes);
	add_part(b, zeros, segment_padding((uint32_t)p->bytes));
}

void drain_batch_make(struct drain_batch *b)
{
	b->first = b->count = 1; /* the mark's place */
	b->bytes = b->written = 0;
	b->mark.magic = 0;
	for (unsigned i = 0; i < b->ring.count; i++)
		add(b, &b->fragments[i], &b->ring.pieces[i]);
}

void drain_batch_mark(struct drain_batch *b, uint64_t offset)
{
	segment_mark_make(&b->mark, offset);
	b->parts[0] = (struct iovec){ &b->mark, sizeof b->mark };
	b->first = 0;
	b->bytes += sizeof b->mark;
}

bool drain_batch_is_held(const struct drain_batch *b)
{
	for (unsigned i = 0; i < b->ring.count; i++)
		if (b->ring.pieces[i].held)
			return true;
	return false;
}

bool drain_batch_advance(struct drain_batch *b, uint64_t bytes)
{
	b->written += bytes;
	while (b->first < b->count && bytes >= b->parts[b->first].iov_len)
		bytes -= b->parts[b->first++].iov_len;
	if (b->first == b->count)
		return true;
	b->parts[b->first].iov_base = (char *)b->parts[b->first].iov_base + bytes;
	b->parts[b->first].iov_len -= bytes;
	return false;
}
