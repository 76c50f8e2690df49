/* SPDX-License-Identifier: Apache-2.0 */
/* Groups: found by their headers, then read whole. What was read first may have changed since, and is
 * checked again. */
#include <errno.h>
#include <stdlib.h>

#include "segment_group.h"

int segment_group_find(struct segment_file *f, uint64_t offset, struct segment_group *g)
{
	int r;

	memcpy(g->ring, f->header.ring, sizeof(g->ring));
	segment_life(&f->header, g->life);
	g->offset = offset;
	g->bytes = 0;
	for (;;) {
		r = segment_file_fragment(f, offset + g->bytes, &g->fragment);
		if (r != 1)
			return r;
		if (g->fragment.kind == SEGMENT_INDEX) {
			/* Large payloads before it have nobody. */
			g->bytes += segment_fragment_bytes(&g->fragment);
			return 1;
		}
		if (g->bytes + segment_fragment_bytes(&g->fragment) > SEGMENT_GROUP_MAX)
			return -EUCLEAN;
		g->bytes += segment_fragment_bytes(&g->fragment);
		if (g->fragment.kind != SEGMENT_LARGE)
			return 1;
	}
}

/* The fragment at an offset of the loaded bytes, payload and all. */
static bool fragment_in(const struct segment_group *g, const struct segment_header *h, size_t at,
			struct segment_fragment *ret)
{
	size_t left = (size_t)g->bytes - at;

	if (left < sizeof(*ret))
		return false;
	memcpy(ret, g->data + at, sizeof(*ret));
	return segment_fragment_good(ret, h) && segment_fragment_bytes(ret) <= left &&
	       segment_crc(0, g->data + at + sizeof(*ret), ret->payload_bytes) == ret->payload_crc;
}

static bool all_good(const struct segment_group *g, const struct segment_header *h)
{
	struct segment_fragment f;
	size_t at = 0;

	do {
		if (!fragment_in(g, h, at, &f))
			return false;
		at += segment_fragment_bytes(&f);
	} while (f.kind == SEGMENT_LARGE && at < g->bytes);
	return at == g->bytes && !memcmp(&f, &g->fragment, sizeof(f));
}

int segment_group_load(struct segment_file *f, struct segment_group *g)
{
	ssize_t n;

	if (g->bytes > SEGMENT_GROUP_MAX)
		return -EUCLEAN;
	if (segment_file_room(&g->data, &g->room, (size_t)g->bytes))
		return -ENOMEM;
	n = segment_file_read(f, g->offset, g->data, (size_t)g->bytes);
	if (n < 0)
		return (int)n;
	return n == (ssize_t)g->bytes && all_good(g, &f->header) ? 0 : -EUCLEAN;
}

bool segment_query_wants(const struct segment_query *q, uint64_t time_min, uint64_t time_max,
			 unsigned levels)
{
	return time_max >= q->since_ns && time_min <= q->until_ns && levels & q->level_mask;
}
