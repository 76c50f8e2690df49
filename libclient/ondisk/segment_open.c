/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening cursors: by time, which segments have what is asked for, from their indexes; as stored, where to go
 * on, and what was seen up to there.
 */
#include <errno.h>
#include <stdlib.h>

#include "segment_cursor.h"

#define SEEN_MIN ((size_t)4096)
#define BEFORE_MAX 64u /* segments looked through for what a position has behind it */

/* ---- opening by time: which segments, and what is known of them ---- */

struct gathering {
	struct segment_index index;
	uint64_t settled;
	int r;
};

static int gather(void *context, const struct segment_header *h, const struct segment_fragment *f,
		  uint64_t offset)
{
	struct gathering *g = context;

	(void)h;
	if (f->kind == SEGMENT_MARK && f->ticket <= offset && f->ticket > g->settled)
		g->settled = f->ticket;
	g->r = f->kind == SEGMENT_INDEX ? 0 : segment_index_add(&g->index, f, offset);
	return g->r;
}

/* A segment without an index: its runs by its fragments' headers; where it is still being written, payloads as
 * well, since what is behind one that is not there yet is read when that is. */
static int index_by_walking(struct segment_cursor *c, struct segment_file *file, bool last,
			    struct segment_part *p)
{
	unsigned flags = last && c->flags & SEGMENT_FOLLOW ? SEGMENT_SCAN_STRICT : SEGMENT_SCAN_HEADERS;
	struct segment_fragment fragment;
	struct gathering g = { .r = 0 };
	struct segment_scan scan;
	const void *payload;
	int r;

	segment_index_init(&g.index);
	r = segment_scan_file(file, flags, &scan, gather, &g);
	if (!r || r == -EMSGSIZE)
		r = segment_index_fragment(&g.index, scan.good, &fragment, &payload);
	if (r) {
		segment_index_free(&g.index);
		return r;
	}
	c->stats.torn += scan.torn;
	p->runs = g.index.runs;
	p->count = g.index.count;
	p->time_min = fragment.time_min;
	p->settled = last ? g.settled : UINT64_MAX;
	if (last)
		segment_walk_from(&c->walk, p->number, scan.good);
	return segment_cursor_wants(c, &g.index.all);
}

/* 1: something of the segment may be wanted; 0; -errno. */
static int look_at_part(struct segment_cursor *c, struct segment_file *file, bool last,
			struct segment_part *p)
{
	struct segment_fragment f;
	uint64_t at;

	if (!segment_file_end(file, &at, &f))
		return index_by_walking(c, file, last, p);
	p->time_min = f.time_min;
	p->settled = UINT64_MAX;
	if (last)
		segment_walk_from(&c->walk, p->number, at);
	return segment_query_wants(&c->query, f.time_min, f.time_max,
				   f.lost ? c->query.level_mask : f.levels);
}

static int add_part(struct segment_cursor *c, uint64_t number, bool last)
{
	struct segment_part p = { .number = number };
	struct segment_file file;
	int r = c->walk.single ? segment_file_open_path(&file, c->walk.path, &c->stats) :
				 segment_file_open(&file, c->walk.path, number, &c->stats);

	if (r) {
		if (last)
			segment_walk_from(&c->walk, number, 0);
		else if (r == -EUCLEAN || r == -ENODATA)
			c->stats.damaged++;
		else if (r == -ENOENT)
			c->stats.missed++;
		return r == -ENOENT || r == -EUCLEAN || r == -ENODATA ? 0 : r;
	}
	if (c->walk.single)
		p.number = file.header.number;
	r = look_at_part(c, &file, last, &p);
	segment_file_close(&file);
	if (r == 1 && !segment_merge_add(&c->merge, &p))
		return 0;
	free(p.runs);
	if (r < 0 && r != -ENOMEM)
		c->stats.damaged++;
	return r == 1 || r == -ENOMEM ? -ENOMEM : 0;
}

static int open_by_time(struct segment_cursor *c)
{
	struct segment_listed *list;
	size_t count;
	int r;

	if (c->walk.single)
		return add_part(c, 0, true);
	r = segment_list(c->walk.path, &list, &count);
	for (size_t i = 0; !r && i < count; i++)
		r = add_part(c, list[i].number, i == count - 1);
	free(list);
	segment_merge_sort(&c->merge);
	return r;
}

/* ---- opening as stored ---- */

/* Where the group begins that an offset lies in, or behind which it is. */
struct border {
	struct segment_cursor *c;
	uint64_t until; /* all before is seen */
	uint64_t at, next; /* of the group; of the fragment after */
};

static int pass(void *context, const struct segment_header *h, const struct segment_fragment *f,
		uint64_t offset)
{
	struct border *b = context;
	struct segment_new fresh;
	uint8_t life[16];

	if (offset >= b->until || f->kind == SEGMENT_INDEX)
		return 1;
	b->next = offset + segment_fragment_bytes(f);
	if (f->kind == SEGMENT_LARGE)
		return 0;
	if (b->next > b->until)
		return 1;
	segment_life(h, life);
	if (f->kind == SEGMENT_OWN || f->kind == SEGMENT_SHARED)
		segment_seen_add(b->c->seen, life, f, &fresh);
	b->at = b->next;
	return 0;
}

/* Notes what a segment has before an offset as seen; *at: the last border of groups up to there. */
static int pass_segment(struct segment_cursor *c, uint64_t number, uint64_t until, uint64_t *at,
			struct segment_header *h)
{
	struct border b = { .c = c, .until = until, .at = sizeof(struct segment_header) };
	struct segment_scan scan;
	struct segment_file file;
	int r = c->walk.single ? segment_file_open_path(&file, c->walk.path, &c->stats) :
				 segment_file_open(&file, c->walk.path, number, &c->stats);

	if (r)
		return r;
	*h = file.header;
	segment_cursor_seen(c, &file);
	r = segment_scan_file(&file, SEGMENT_SCAN_HEADERS, &scan, pass, &b);
	segment_file_close(&file);
	*at = b.at;
	return r < 0 ? r : 0;
}

/* As many segments before this one as may have stored again what comes in it: two rounds of the ring. */
static uint64_t first_before(const struct segment_listed *list, size_t i, const struct segment_header *h)
{
	uint64_t left = (uint64_t)h->block_bytes * h->blocks * 2;
	size_t n = 0;

	while (i > 0 && left && n++ < BEFORE_MAX) {
		i--;
		left -= list[i].bytes < left ? list[i].bytes : left;
	}
	return i;
}

static int pass_before(struct segment_cursor *c, const struct segment_listed *list, size_t i,
		       const struct segment_header *h)
{
	struct segment_header other;
	uint64_t at;

	for (size_t k = first_before(list, i, h); k < i; k++) {
		int r = pass_segment(c, list[k].number, UINT64_MAX, &at, &other);

		if (r == -ENOMEM)
			return r;
	}
	return 0;
}

/* Begins at a place, or at the end of a segment (until UINT64_MAX). */
static int begin_at(struct segment_cursor *c, const struct segment_listed *list, size_t i, uint64_t until)
{
	struct segment_header h = { .blocks = 0 };
	uint64_t at = 0;
	int r = pass_segment(c, list[i].number, until, &at, &h);

	if (r == -ENOMEM)
		return r;
	if (!r)
		r = pass_before(c, list, i, &h);
	segment_walk_from(&c->walk, list[i].number, at);
	/* A place between borders is none: from the one before, again. */
	if (at != c->from.offset)
		c->from.record = 0;
	return r == -ENOMEM ? r : 0;
}

static int open_as_stored(struct segment_cursor *c)
{
	struct segment_listed *list = NULL, one = { .number = c->from.number };
	bool end = c->flags & SEGMENT_FROM_END;
	size_t count = 0, i = 0;
	int r = 0;

	if (!end && !c->from.number)
		return 0;
	if (c->walk.single)
		return begin_at(c, &one, 0, end ? UINT64_MAX : c->from.offset);
	r = segment_list(c->walk.path, &list, &count);
	while (!r && i < count && !end && list[i].number < c->from.number)
		i++;
	if (end && count)
		i = count - 1;
	if (r || i == count)
		segment_walk_from(&c->walk, c->from.number, 0);
	else if (end || list[i].number == c->from.number)
		r = begin_at(c, list, i, end ? UINT64_MAX : c->from.offset);
	else
		segment_walk_from(&c->walk, c->from.number, 0);
	free(list);
	return r;
}

/* ---- the interface ---- */

static void set_query(struct segment_cursor *c, const struct segment_query *q)
{
	if (q)
		c->query = *q;
	if (!c->query.until_ns)
		c->query.until_ns = UINT64_MAX;
	if (!c->query.level_mask)
		c->query.level_mask = 0xff;
}

static int begin(struct segment_cursor *c, const char *path)
{
	int r = segment_walk_open(&c->walk, path, &c->query, &c->stats);

	c->walk.follow = c->flags & SEGMENT_FOLLOW;
	if (!r)
		r = segment_seen_open(&c->seen, SEEN_MIN);
	if (!r)
		r = c->flags & SEGMENT_BY_TIME ? open_by_time(c) : open_as_stored(c);
	return r;
}

int segment_cursor_open(struct segment_cursor **ret, const char *path, const struct segment_query *query,
			unsigned flags, const struct segment_position *from)
{
	unsigned known = SEGMENT_BY_TIME | SEGMENT_FOLLOW | SEGMENT_FROM_END;
	struct segment_cursor *c;
	int r;

	if (flags & ~known || (flags & SEGMENT_BY_TIME && (from || flags & SEGMENT_FROM_END)) ||
	    (from && flags & SEGMENT_FROM_END))
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->flags = flags;
	segment_merge_init(&c->merge);
	set_query(c, query);
	if (from)
		c->from = *from;
	r = begin(c, path);
	if (r) {
		segment_cursor_close(c);
		return r;
	}
	*ret = c;
	return 0;
}

void segment_cursor_close(struct segment_cursor *c)
{
	if (!c)
		return;
	segment_walk_close(&c->walk);
	segment_merge_free(&c->merge);
	segment_seen_close(c->seen);
	segment_feed_end(&c->feed);
	free(c->feed.group.data);
	free(c);
}

void segment_cursor_stats(const struct segment_cursor *c, struct segment_stats *ret)
{
	*ret = c->stats;
	ret->torn += c->walk.tail;
}

void segment_cursor_limit(struct segment_cursor *c, size_t bytes)
{
	c->merge.most = bytes;
}
