/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of one group. Checksums say that they are what was written, not that they make sense: every
 * length is checked all the same, and the first record that does not fit ends the group.
 */
#include <errno.h>
#include <stdlib.h>

#include "segment_group.h"

static bool is_shared(const struct segment_feed *f)
{
	return f->group.fragment.kind == SEGMENT_SHARED;
}

/* ---- order ---- */

static uint64_t time_at(const struct segment_feed *f, uint32_t place)
{
	struct segment_place p;

	segment_place(f->payload, f->group.fragment.payload_bytes, place, true, &p);
	return p.entry.time;
}

static void sort_by_time(struct segment_feed *f, uint32_t count)
{
	uint64_t times[SEGMENT_SLOTS];

	for (uint32_t i = 0; i < count; i++) {
		uint64_t time = time_at(f, f->places[i]);
		uint32_t to = i;

		for (; to > 0 && times[to - 1] > time; to--) {
			times[to] = times[to - 1];
			f->order[to] = f->order[to - 1];
		}
		times[to] = time;
		f->order[to] = (uint16_t)i;
	}
}

/* Records of a shared block are done in any order. */
static int order_shared(struct segment_feed *f)
{
	uint32_t bytes = f->group.fragment.payload_bytes, count = 0;
	struct segment_place p;
	size_t at = 0;

	f->places = malloc(SEGMENT_SLOTS * sizeof(*f->places));
	f->order = malloc(SEGMENT_SLOTS * sizeof(*f->order));
	if (!f->places || !f->order)
		return -ENOMEM;
	while (count < f->group.fragment.records && segment_place(f->payload, bytes, at, true, &p)) {
		f->places[count++] = (uint32_t)at;
		at = p.next;
	}
	f->group.fragment.records = count;
	sort_by_time(f, count);
	return 0;
}

/* ---- one record after another ---- */

/* The slot of the nth record. */
static uint32_t slot_of(const struct segment_fragment *f, uint32_t n)
{
	for (uint32_t i = 0; i < SEGMENT_SLOTS; i++)
		if (f->slots[i / 64] >> i % 64 & 1 && !n--)
			return i;
	return SEGMENT_SLOTS;
}

static bool slot_is_fresh(const struct segment_new *fresh, uint32_t slot)
{
	return slot < SEGMENT_SLOTS && fresh->slots[slot / 64] >> slot % 64 & 1;
}

static bool byte_is_fresh(const struct segment_new *fresh, uint32_t at)
{
	for (uint32_t i = 0; i < fresh->pieces; i++)
		if (at >= fresh->piece[i].from && at < fresh->piece[i].to)
			return true;
	return false;
}

/* To the next record, wanted or not. */
static bool advance(struct segment_feed *f)
{
	const struct segment_fragment *fragment = &f->group.fragment;
	size_t at = f->at;

	if (f->count >= fragment->records)
		return false;
	f->number = f->order ? f->order[f->count] : f->count;
	if (f->order)
		at = f->places[f->number];
	if (!segment_place(f->payload, fragment->payload_bytes, at, is_shared(f), &f->place))
		return false;
	f->key = is_shared(f) ? slot_of(fragment, f->number) : fragment->from + (uint32_t)at;
	f->time = f->place.entry.time + fragment->real_offset;
	f->at = f->place.next;
	f->count++;
	return true;
}

bool segment_feed_next(struct segment_feed *f, const struct segment_query *q)
{
	while (advance(f)) {
		bool fresh = is_shared(f) ? slot_is_fresh(&f->fresh, f->key) :
					    byte_is_fresh(&f->fresh, f->key);

		if (fresh && segment_query_wants(q, f->time, f->time,
						 1u << segment_info_level(f->place.entry.info)))
			return true;
	}
	return false;
}

int segment_feed_begin(struct segment_feed *f, bool by_time, uint32_t skip)
{
	const struct segment_fragment *fragment = &f->group.fragment;
	uint64_t before = f->group.bytes - segment_fragment_bytes(fragment) + sizeof(*fragment);
	int r = 0;

	f->payload = f->group.data + before;
	f->count = 0;
	f->at = f->large = 0;
	f->order = NULL;
	f->places = NULL;
	if (by_time && is_shared(f))
		r = order_shared(f);
	while (!r && skip-- && advance(f))
		;
	return r;
}

void segment_feed_end(struct segment_feed *f)
{
	free(f->order);
	free(f->places);
	f->order = NULL;
	f->places = NULL;
}

/* ---- delivering ---- */

/* The payload of a large record: NULL: it was not there to be drained. */
static const void *find_large(struct segment_feed *f, size_t len)
{
	const struct segment_fragment *last = &f->group.fragment;
	size_t at = f->order ? 0 : f->large, end = (size_t)(f->group.bytes - segment_fragment_bytes(last));
	struct segment_fragment large;

	while (at < end) {
		memcpy(&large, f->group.data + at, sizeof(large));
		/* They come in the order of their records. */
		if (!f->order && large.from > f->key)
			break;
		at += segment_fragment_bytes(&large);
		f->large = at;
		if (large.block == last->block && large.lap == last->lap && large.from == f->key &&
		    large.payload_bytes >= len)
			return f->group.data + at - segment_fragment_bytes(&large) + sizeof(large);
	}
	return NULL;
}

static void put_data(struct segment_feed *f, struct segment_record *ret)
{
	uint32_t info = f->place.entry.info;

	ret->len = segment_info_length(info);
	ret->data = info & SEGMENT_INFO_LARGE ? find_large(f, ret->len) : f->payload + f->place.data;
	if (!ret->data) {
		ret->data = f->payload;
		ret->len = 0;
	}
}

void segment_feed_record(struct segment_feed *f, struct segment_record *ret)
{
	const struct segment_fragment *fragment = &f->group.fragment;
	const struct segment_entry *entry = &f->place.entry;

	put_data(f, ret);
	ret->level = (int)segment_info_level(entry->info);
	ret->pid = is_shared(f) ? f->place.author.pid : fragment->pid;
	ret->tid = is_shared(f) ? f->place.author.tid : fragment->tid;
	ret->time_ns = f->time;
	ret->seq = entry->seq;
	ret->fields = entry->info & SEGMENT_INFO_FIELDS;
	ret->dropped = entry->dropped;
	ret->position = (struct segment_position){ .number = f->group.number,
						   .offset = f->group.offset,
						   .record = f->number + 1 };
	memcpy(ret->key.ring, f->group.ring, sizeof(ret->key.ring));
	memcpy(ret->key.life, f->group.life, sizeof(ret->key.life));
	ret->key.block = fragment->block;
	ret->key.lap = fragment->lap;
	ret->key.at = f->key;
}
