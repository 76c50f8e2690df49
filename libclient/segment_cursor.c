/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cursors: as stored, one group after another; by time, the same groups merged. Both drop what they have seen
 * by its key. What follows by time is merged as far as it is there when the cursor looks.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "segment_merge.h"
#include "segment_walk.h"

#define SEEN_MIN ((size_t)4096)
#define SEEN_MAX ((size_t)1 << 20)
#define BEFORE_MAX 64u /* segments looked through for what a position has behind it */
#define BATCH_BYTES ((size_t)16 << 20) /* of what follows, merged at once */

struct segment_cursor {
	struct segment_query query;
	unsigned flags;
	struct segment_stats stats;
	struct segment_walk walk;
	struct segment_seen *seen;
	struct segment_feed feed; /* as stored */
	bool feeding;
	struct segment_position from; /* where its first group is, records done with */
	struct segment_merge merge;
	uint64_t lost;
};

/* ---- what was seen ---- */

/* For each block of the ring some laps: what is drained twice is so within one round of the ring or two. */
static void widen_seen(struct segment_cursor *c, const struct segment_file *file)
{
	size_t room = (size_t)file->header.blocks * 4;

	segment_seen_room(c->seen, room < SEEN_MAX ? room : SEEN_MAX);
}

static bool has_records(const struct segment_group *g)
{
	return g->fragment.kind == SEGMENT_OWN || g->fragment.kind == SEGMENT_SHARED;
}

static bool is_whole(const struct segment_fragment *f, const struct segment_new *fresh)
{
	if (f->kind == SEGMENT_SHARED)
		return !memcmp(f->slots, fresh->slots, sizeof(f->slots));
	return fresh->pieces == 1 && fresh->piece[0].from == f->from && fresh->piece[0].to == f->to;
}

/* ---- a group becomes a feed ---- */

static bool is_wanted(const struct segment_cursor *c, const struct segment_fragment *f)
{
	const struct segment_query *q = &c->query;

	if (f->kind == SEGMENT_LOSS || !f->records)
		return f->time_max >= q->since_ns && f->time_min <= q->until_ns;
	return segment_query_wants(q, f->time_min, f->time_max, f->lost ? q->level_mask : f->levels);
}

/* Group found: 1: f is ready; 0: nothing of it is wanted; -EUCLEAN: it does not load; -errno. skip: of its
 * records. */
static int take_group(struct segment_cursor *c, struct segment_file *file, struct segment_feed *f,
		      uint32_t skip)
{
	const struct segment_fragment *fragment = &f->group.fragment;
	int r;

	if (!is_wanted(c, fragment))
		return 0;
	if (!has_records(&f->group)) {
		c->lost += fragment->kind == SEGMENT_LOSS ? fragment->lost : 0;
		return 0;
	}
	widen_seen(c, file);
	if (!segment_seen_look(c->seen, f->group.ring, fragment, &f->fresh)) {
		c->stats.duplicates += fragment->records != 0;
		c->lost += f->fresh.first && !skip ? fragment->lost : 0;
		return 0;
	}
	r = segment_group_load(file, &f->group);
	if (r)
		return r;
	segment_seen_add(c->seen, f->group.ring, fragment, &f->fresh);
	c->stats.duplicates += !is_whole(fragment, &f->fresh);
	c->stats.fragments++;
	c->stats.payload_bytes += fragment->payload_bytes;
	c->lost += f->fresh.first && !skip ? fragment->lost : 0;
	r = segment_feed_begin(f, c->flags & SEGMENT_BY_TIME, skip);
	return r ? r : 1;
}

/* ---- as stored ---- */

/* The next group of the walk that has something: 1, 0, -errno. */
static int walk_feed(struct segment_cursor *c, struct segment_feed *f)
{
	for (;;) {
		int r = segment_walk_next(&c->walk, &f->group);
		bool resumed = f->group.number == c->from.number && f->group.offset == c->from.offset;

		if (r < 1)
			return r;
		r = take_group(c, &c->walk.file, f, resumed ? c->from.record : 0);
		/* Where one is not wanted, more may not be. */
		c->walk.file.ahead = r == 1 ? SEGMENT_AHEAD : SEGMENT_AHEAD_HEADERS;
		if (r == 1 || (r < 0 && r != -EUCLEAN))
			return r;
		if (r == -EUCLEAN)
			segment_walk_reject(&c->walk, &f->group);
	}
}

static int next_as_stored(struct segment_cursor *c, struct segment_record *ret)
{
	for (;;) {
		int r;

		if (c->feeding && segment_feed_next(&c->feed, &c->query)) {
			segment_feed_record(&c->feed, ret);
			return 1;
		}
		segment_feed_end(&c->feed);
		c->feeding = false;
		r = walk_feed(c, &c->feed);
		if (r < 1)
			return r;
		c->feeding = true;
	}
}

/* ---- by time ---- */

/* To the heap, if it has anything. */
static int merge_feed(struct segment_cursor *c, struct segment_feed *f)
{
	if (segment_feed_next(f, &c->query))
		return segment_merge_feed(&c->merge, f);
	segment_feed_free(f);
	return 0;
}

static int load_group(struct segment_cursor *c, struct segment_part *p, uint64_t at, uint64_t *bytes)
{
	struct segment_feed *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->group.number = p->number;
	r = segment_group_find(&p->file, at, &f->group);
	*bytes = f->group.bytes;
	if (r == 1)
		r = take_group(c, &p->file, f, 0);
	else if (!r)
		r = -EUCLEAN;
	if (r == 1)
		return merge_feed(c, f);
	segment_feed_free(f);
	return r;
}

/* What does not read is counted, and stepped over: a group, or where that is unknown, the rest of the run. */
static int load_run(struct segment_cursor *c, struct segment_part *p, const struct segment_run *run)
{
	uint64_t at = run->offset, end = run->offset + run->bytes, bytes;
	int r;

	for (; at < end; at += bytes) {
		r = load_group(c, p, at, &bytes);
		if (r == -ENOMEM)
			return r;
		if (r)
			c->stats.damaged++;
		if (!bytes)
			break;
	}
	return 0;
}

static bool run_wanted(const struct segment_cursor *c, const struct segment_run *run)
{
	return segment_query_wants(&c->query, run->time_min, run->time_max,
				   run->lost ? c->query.level_mask : run->levels);
}

static int run_by_time(const void *x, const void *y)
{
	const struct segment_run *a = x, *b = y;

	if (a->time_min != b->time_min)
		return a->time_min < b->time_min ? -1 : 1;
	return (a->offset > b->offset) - (a->offset < b->offset);
}

/* Keeps the runs that are wanted, by time. */
static void choose_runs(const struct segment_cursor *c, struct segment_part *p)
{
	size_t kept = 0;

	for (size_t i = 0; i < p->count; i++)
		if (run_wanted(c, &p->runs[i]))
			p->runs[kept++] = p->runs[i];
	p->count = kept;
	if (kept)
		qsort(p->runs, kept, sizeof(*p->runs), run_by_time);
}

/* A part whose time has come. One that is gone or has no good index is stepped over. */
static int open_part(struct segment_cursor *c, struct segment_part *p)
{
	int r = c->walk.single ? segment_file_open_path(&p->file, c->walk.path, &c->stats) :
				 segment_file_open(&p->file, c->walk.path, p->number, &c->stats);

	if (!r) {
		p->opened = true;
		c->merge.files++;
		p->file.ahead = SEGMENT_RUN_BYTES;
		r = p->runs ? 1 : segment_file_runs(&p->file, &p->runs, &p->count);
	}
	c->merge.begun++;
	if (r == -ENOMEM)
		return r;
	if (r == -ENOENT)
		c->stats.missed++;
	else if (r != 1)
		c->stats.damaged++;
	if (r != 1)
		p->count = 0;
	choose_runs(c, p);
	p->time_min = p->count ? p->runs[0].time_min : UINT64_MAX;
	return 0;
}

static int load_due(struct segment_cursor *c, struct segment_part *p)
{
	const struct segment_run *run;

	if (p >= &c->merge.parts[c->merge.begun])
		return open_part(c, p);
	run = &p->runs[p->next++];
	p->time_min = p->next < p->count ? p->runs[p->next].time_min : UINT64_MAX;
	return load_run(c, p, run);
}

/* What came since: to the heap, when that has run empty. */
static int follow_by_time(struct segment_cursor *c)
{
	int r = 1;

	if (!(c->flags & SEGMENT_FOLLOW) || c->merge.feeds)
		return 0;
	while (r == 1 && c->merge.bytes < BATCH_BYTES) {
		struct segment_feed *f = calloc(1, sizeof(*f));

		if (!f)
			return -ENOMEM;
		r = walk_feed(c, f);
		if (r == 1)
			r = merge_feed(c, f) ?: 1;
		else
			segment_feed_free(f);
	}
	return r;
}

static int next_by_time(struct segment_cursor *c, struct segment_record *ret)
{
	struct segment_part *p;
	int r = 0;

	while (!r && (p = segment_merge_due(&c->merge)))
		r = load_due(c, p);
	if (!r)
		r = follow_by_time(c);
	if (r < 0)
		return r;
	return segment_merge_next(&c->merge, &c->query, ret);
}

/* ---- opening by time: which segments, and what is known of them ---- */

struct gathering {
	struct segment_index index;
	int r;
};

static int gather(void *context, const struct segment_header *h, const struct segment_fragment *f,
		  uint64_t offset)
{
	struct gathering *g = context;

	(void)h;
	g->r = f->kind == SEGMENT_INDEX ? 0 : segment_index_add(&g->index, f, offset);
	return g->r;
}

/* A segment without an index: its runs by its fragments' headers; where it is still being written, payloads as
 * well, since what is behind one that is not there yet is read when that is. */
static int index_by_walking(struct segment_cursor *c, struct segment_file *file, bool last,
			    struct segment_part *p)
{
	unsigned flags = last && c->flags & SEGMENT_FOLLOW ? 0 : SEGMENT_SCAN_HEADERS;
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
	if (last)
		segment_walk_from(&c->walk, p->number, scan.good);
	return run_wanted(c, &g.index.all);
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

	if (offset >= b->until || f->kind == SEGMENT_INDEX)
		return 1;
	b->next = offset + segment_fragment_bytes(f);
	if (f->kind == SEGMENT_LARGE)
		return 0;
	if (b->next > b->until)
		return 1;
	if (f->kind == SEGMENT_OWN || f->kind == SEGMENT_SHARED)
		segment_seen_add(b->c->seen, h->ring, f, &fresh);
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
	widen_seen(c, &file);
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

int segment_cursor_next(struct segment_cursor *c, struct segment_record *ret)
{
	int r;

	memset(ret, 0, sizeof(*ret));
	r = c->flags & SEGMENT_BY_TIME ? next_by_time(c, ret) : next_as_stored(c, ret);
	if (r >= 0)
		ret->lost = c->lost;
	if (r == 1)
		c->lost = 0;
	return r;
}

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
