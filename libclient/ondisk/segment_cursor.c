/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cursors: as stored, one group after another; by time, the same groups merged. Both drop what they have seen
 * by its key. What follows by time is merged as far as it is there when the cursor looks.
 */
#include <errno.h>
#include <stdlib.h>

#include "segment_cursor.h"

#define SEEN_MAX ((size_t)1 << 20)
#define BATCH_BYTES ((size_t)16 << 20) /* of what follows, merged at once */

/* ---- what was seen ---- */

/* For each block of the ring some laps: what is drained twice is so within one round of the ring or two. */
void segment_cursor_seen(struct segment_cursor *c, const struct segment_file *file)
{
	size_t room = (size_t)file->header.blocks * 4;

	segment_seen_room(c->seen, room < SEEN_MAX ? room : SEEN_MAX);
}

/* ---- a group becomes a feed ---- */

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
	segment_cursor_seen(c, file);
	if (!segment_seen_look(c->seen, f->group.life, fragment, &f->fresh)) {
		c->stats.duplicates += fragment->records != 0;
		c->lost += f->fresh.first && !skip ? fragment->lost : 0;
		return 0;
	}
	r = segment_group_load(file, &f->group);
	if (r)
		return r;
	segment_seen_add(c->seen, f->group.life, fragment, &f->fresh);
	c->stats.duplicates += !is_whole(fragment, &f->fresh);
	c->stats.fragments++;
	c->stats.payload_bytes += fragment->payload_bytes;
	c->lost += f->fresh.first && !skip ? fragment->lost : 0;
	r = segment_feed_begin(f, c->flags & SEGMENT_BY_TIME, skip);
	return r ? r : 1;
}

/* Its payload is not what was gathered, and never will be. */
static void count_spoilt(struct segment_cursor *c, const struct segment_feed *f, uint32_t skip)
{
	const struct segment_fragment *fragment = &f->group.fragment;
	uint32_t records = fragment->records;

	if (fragment->kind == SEGMENT_SHARED) {
		records = 0;
		for (unsigned i = 0; i < SEGMENT_SLOTS / 64; i++)
			records += (uint32_t)__builtin_popcountll(f->fresh.slots[i]);
	}
	c->lost += records > skip ? records - skip : 0;
	c->lost += f->fresh.first && !skip ? fragment->lost : 0;
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
		if (r == -EUCLEAN && segment_walk_reject(&c->walk, &f->group))
			count_spoilt(c, f, resumed ? c->from.record : 0);
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

/* What does not load and may be on its way to the disk is in the ring; else it is lost. */
static int take_loaded(struct segment_cursor *c, struct segment_part *p, struct segment_feed *f, uint64_t end)
{
	int r = take_group(c, &p->file, f, 0);

	if (r == -EUCLEAN && end <= p->settled)
		count_spoilt(c, f, 0);
	return r;
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
	r = r == 1 ? take_loaded(c, p, f, at + *bytes) : r ? r : -EUCLEAN;
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

bool segment_cursor_wants(const struct segment_cursor *c, const struct segment_run *run)
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
		if (segment_cursor_wants(c, &p->runs[i]))
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
