/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of segments and fragments: made for writing, checked after reading. No I/O here. */
#include <errno.h>

#include "layout.h"
#include "segment_inside.h"

/* Payloads of kinds 1 and 2 are the ring's bytes. */
_Static_assert(sizeof(struct segment_entry) == sizeof(struct ring_record), "records as in the ring");
_Static_assert(offsetof(struct segment_entry, time) == offsetof(struct ring_record, time), "time");
_Static_assert(offsetof(struct segment_entry, seq) == offsetof(struct ring_record, seq), "seq");
_Static_assert(SEGMENT_INFO_LENGTH_BITS == RING_INFO_LENGTH_BITS, "length");
_Static_assert(SEGMENT_INFO_LEVEL_SHIFT == RING_INFO_LEVEL_SHIFT, "level");
_Static_assert(SEGMENT_INFO_LARGE == RING_INFO_LARGE, "large");
_Static_assert(SEGMENT_INFO_FIELDS == RING_INFO_FIELDS, "fields");
_Static_assert(SEGMENT_REFERENCE_BYTES == sizeof(struct ring_reference), "reference");
_Static_assert(sizeof(struct segment_author) == sizeof(struct ring_author), "author");
_Static_assert(SEGMENT_SLOTS == RING_SLOTS_MAX, "slots");
_Static_assert(SEGMENT_PAYLOAD_MAX == 1u << RING_SHIFT_MAX, "a block fits in");

/* ---- the header ---- */

void segment_header_make(struct segment_header *h, const struct segment_ring *of, uint64_t number,
			 uint64_t created_ns)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, SEGMENT_MAGIC, sizeof(h->magic));
	h->header_bytes = sizeof(*h);
	h->fragment_bytes = sizeof(struct segment_fragment);
	memcpy(h->ring, of->ring, sizeof(h->ring));
	h->number = number;
	h->created_ns = created_ns;
	h->block_bytes = of->block_bytes;
	h->blocks = of->blocks;
	memcpy(h->name, of->name, strnlen(of->name, sizeof(h->name) - 1));
	memcpy(h->boot, of->boot, sizeof(h->boot));
	h->crc = segment_crc(0, h, offsetof(struct segment_header, crc));
}

bool segment_header_good(const struct segment_header *h)
{
	return !memcmp(h->magic, SEGMENT_MAGIC, sizeof(h->magic)) &&
	       h->crc == segment_crc(0, h, offsetof(struct segment_header, crc)) &&
	       h->header_bytes == sizeof(*h) && h->fragment_bytes == sizeof(struct segment_fragment) &&
	       h->number && h->block_bytes <= SEGMENT_PAYLOAD_MAX;
}

/* ---- records in payloads ---- */

bool segment_place(const void *payload, size_t len, size_t at, bool shared, struct segment_place *ret)
{
	size_t before = shared ? sizeof(ret->author) : 0, bytes;
	const unsigned char *from = payload;

	if (at > len || len - at < before + sizeof(ret->entry))
		return false;
	memcpy(&ret->author, from + at, before);
	memcpy(&ret->entry, from + at + before, sizeof(ret->entry));
	if (segment_info_length(ret->entry.info) > SEGMENT_PAYLOAD_MAX)
		return false;
	bytes = shared ? segment_shared_bytes(ret->entry.info) : segment_own_bytes(ret->entry.info);
	if (bytes > len - at)
		return false;
	ret->data = at + before + sizeof(ret->entry);
	ret->next = at + bytes;
	return true;
}

size_t segment_own_prefix(const void *data, size_t len, size_t max_large)
{
	struct segment_place p;
	size_t at = 0, large = 0;

	while (segment_place(data, len, at, false, &p)) {
		uint32_t bytes = segment_info_length(p.entry.info);

		if (p.entry.info & SEGMENT_INFO_LARGE) {
			large += sizeof(struct segment_fragment) + bytes + segment_padding(bytes);
			if (at && large > max_large)
				break;
		}
		at = p.next;
	}
	return at;
}

/* ---- fragments: making ---- */

static void note_time(struct segment_fragment *f, uint64_t time)
{
	if (time < f->time_min)
		f->time_min = time;
	if (time > f->time_max)
		f->time_max = time;
}

/* What the records of a part say. */
static int survey_part(struct segment_fragment *f, const struct iovec *part)
{
	struct segment_place p;
	size_t at = 0;

	while (at < part->iov_len) {
		if (!segment_place(part->iov_base, part->iov_len, at, f->kind == SEGMENT_SHARED, &p))
			return -EUCLEAN;
		f->records++;
		f->levels |= (uint8_t)(1u << segment_info_level(p.entry.info));
		note_time(f, p.entry.time + f->real_offset);
		at = p.next;
	}
	return 0;
}

static int survey(struct segment_fragment *f, const struct iovec *parts, size_t count)
{
	f->levels = 0;
	f->records = 0;
	f->time_min = UINT64_MAX;
	f->time_max = 0;
	for (size_t i = 0; i < count; i++) {
		int r = survey_part(f, &parts[i]);

		if (r)
			return r;
	}
	return 0;
}

static unsigned slots_count(const struct segment_fragment *f)
{
	unsigned count = 0;

	for (unsigned i = 0; i < SEGMENT_SLOTS / 64; i++)
		count += (unsigned)__builtin_popcountll(f->slots[i]);
	return count;
}

static bool has_slot(const struct segment_fragment *f, unsigned slot)
{
	return f->slots[slot / 64] >> slot % 64 & 1;
}

static void slots_range(const struct segment_fragment *f, uint32_t *from, uint32_t *to)
{
	*from = 0;
	*to = SEGMENT_SLOTS;
	while (*from < SEGMENT_SLOTS && !has_slot(f, *from))
		++*from;
	while (*to > *from && !has_slot(f, *to - 1))
		--*to;
}

/* What each kind says besides. */
static int complete(struct segment_fragment *f, const struct iovec *parts, size_t count)
{
	int r = 0;

	switch (f->kind) {
	case SEGMENT_OWN:
		f->to = f->from + f->payload_bytes;
		r = survey(f, parts, count);
		break;
	case SEGMENT_SHARED:
		slots_range(f, &f->from, &f->to);
		r = survey(f, parts, count);
		if (!r && f->records != slots_count(f))
			r = -EUCLEAN;
		break;
	case SEGMENT_LARGE: f->to = f->from + 1; break;
	case SEGMENT_LOSS:
	case SEGMENT_INDEX:
	case SEGMENT_MARK: break;
	default: r = -EINVAL;
	}
	return r;
}

static uint32_t payload_max(const struct segment_fragment *f)
{
	return f->kind == SEGMENT_LOSS || f->kind == SEGMENT_MARK ? 0 :
	       f->kind == SEGMENT_INDEX ? SEGMENT_INDEX_MAX :
					  SEGMENT_PAYLOAD_MAX;
}

int segment_fragment_make(struct segment_fragment *f, const struct iovec *parts, size_t count)
{
	uint64_t bytes = 0;
	int r;

	f->magic = SEGMENT_FRAGMENT_MAGIC;
	f->payload_crc = 0;
	for (size_t i = 0; i < count; i++) {
		bytes += parts[i].iov_len;
		if (bytes > payload_max(f))
			return -EMSGSIZE;
		f->payload_crc = segment_crc(f->payload_crc, parts[i].iov_base, parts[i].iov_len);
	}
	f->payload_bytes = (uint32_t)bytes;
	r = complete(f, parts, count);
	if (!r)
		f->crc = segment_crc(0, f, offsetof(struct segment_fragment, crc));
	return r;
}

void segment_mark_make(struct segment_fragment *f, uint64_t offset)
{
	*f = (struct segment_fragment){ .kind = SEGMENT_MARK, .ticket = offset, .time_min = UINT64_MAX };
	segment_fragment_make(f, NULL, 0);
}

/* ---- fragments: checking ---- */

static bool shared_good(const struct segment_fragment *f)
{
	uint32_t from, to;

	slots_range(f, &from, &to);
	return f->from == from && f->to == to && f->records == slots_count(f);
}

bool segment_fragment_good(const struct segment_fragment *f, const struct segment_header *h)
{
	if (f->magic != SEGMENT_FRAGMENT_MAGIC || f->payload_bytes > payload_max(f) ||
	    f->crc != segment_crc(0, f, offsetof(struct segment_fragment, crc)))
		return false;
	switch (f->kind) {
	case 0: return false;
	case SEGMENT_OWN:
		return f->to <= h->block_bytes && f->from <= f->to &&
		       f->to - f->from == f->payload_bytes && f->payload_bytes % 8 == 0;
	case SEGMENT_SHARED: return shared_good(f);
	default: return true;
	}
}
