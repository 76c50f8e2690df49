/* SPDX-License-Identifier: Apache-2.0 */
/* A heap of feeds by the time of their next record, and which runs have to join it next. */
#include <errno.h>
#include <stdlib.h>

#include "segment_merge.h"

void segment_merge_init(struct segment_merge *m)
{
	*m = (struct segment_merge){ .most = SEGMENT_MERGE_BYTES };
}

void segment_feed_free(struct segment_feed *f)
{
	if (!f)
		return;
	segment_feed_end(f);
	free(f->group.data);
	free(f);
}

static void close_part(struct segment_merge *m, struct segment_part *p)
{
	if (p->opened) {
		segment_file_close(&p->file);
		m->files--;
	}
	p->opened = false;
	free(p->runs);
	p->runs = NULL;
	p->count = p->next = 0;
}

void segment_merge_free(struct segment_merge *m)
{
	for (size_t i = 0; i < m->count; i++)
		close_part(m, &m->parts[i]);
	for (size_t i = 0; i < m->feeds; i++)
		segment_feed_free(m->heap[i]);
	segment_feed_free(m->spent);
	free(m->parts);
	free(m->heap);
}

/* ---- parts ---- */

int segment_merge_add(struct segment_merge *m, const struct segment_part *part)
{
	if (m->count == m->room) {
		size_t room = m->room ? m->room * 2 : 32;
		struct segment_part *parts = realloc(m->parts, room * sizeof(*parts));

		if (!parts)
			return -ENOMEM;
		m->parts = parts;
		m->room = room;
	}
	m->parts[m->count++] = *part;
	return 0;
}

static int by_time(const void *x, const void *y)
{
	const struct segment_part *a = x, *b = y;

	if (a->time_min != b->time_min)
		return a->time_min < b->time_min ? -1 : 1;
	return (a->number > b->number) - (a->number < b->number);
}

void segment_merge_sort(struct segment_merge *m)
{
	if (m->count)
		qsort(m->parts, m->count, sizeof(*m->parts), by_time);
}

/* Of those open, and the first that is not. */
static struct segment_part *oldest_part(struct segment_merge *m)
{
	struct segment_part *oldest = NULL;
	size_t end = m->begun;

	if (end < m->count && m->files < SEGMENT_MERGE_FILES)
		end++;
	for (size_t i = m->done; i < end; i++) {
		struct segment_part *p = &m->parts[i];

		if (i < m->begun && p->next == p->count) {
			close_part(m, p);
			m->done += i == m->done;
			continue;
		}
		if (!oldest || p->time_min < oldest->time_min)
			oldest = p;
	}
	return oldest;
}

struct segment_part *segment_merge_due(struct segment_merge *m)
{
	struct segment_part *p;

	if (m->feeds && m->bytes >= m->most)
		return NULL;
	p = oldest_part(m);
	return p && (!m->feeds || p->time_min <= m->heap[0]->time) ? p : NULL;
}

/* ---- the heap ---- */

/* Of one time: as stored. */
static bool before(const struct segment_feed *a, const struct segment_feed *b)
{
	if (a->time != b->time)
		return a->time < b->time;
	if (a->group.number != b->group.number)
		return a->group.number < b->group.number;
	return a->group.offset < b->group.offset;
}

static void swap(struct segment_merge *m, size_t x, size_t y)
{
	struct segment_feed *f = m->heap[x];

	m->heap[x] = m->heap[y];
	m->heap[y] = f;
}

static void rise(struct segment_merge *m, size_t at)
{
	while (at && before(m->heap[at], m->heap[(at - 1) / 2])) {
		swap(m, at, (at - 1) / 2);
		at = (at - 1) / 2;
	}
}

static void sink(struct segment_merge *m)
{
	size_t at = 0;

	for (;;) {
		size_t least = at;

		for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
			if (child < m->feeds && before(m->heap[child], m->heap[least]))
				least = child;
		if (least == at)
			return;
		swap(m, at, least);
		at = least;
	}
}

int segment_merge_feed(struct segment_merge *m, struct segment_feed *f)
{
	if (m->feeds == m->feeds_room) {
		size_t room = m->feeds_room ? m->feeds_room * 2 : 64;
		struct segment_feed **heap = realloc(m->heap, room * sizeof(struct segment_feed *));

		if (!heap) {
			segment_feed_free(f);
			return -ENOMEM;
		}
		m->heap = heap;
		m->feeds_room = room;
	}
	m->heap[m->feeds++] = f;
	m->bytes += f->group.room;
	rise(m, m->feeds - 1);
	return 0;
}

bool segment_merge_next(struct segment_merge *m, const struct segment_query *q, struct segment_record *ret)
{
	struct segment_feed *f;

	segment_feed_free(m->spent);
	m->spent = NULL;
	if (!m->feeds)
		return false;
	f = m->heap[0];
	segment_feed_record(f, ret);
	if (!segment_feed_next(f, q)) {
		m->bytes -= f->group.room;
		m->spent = f;
		m->heap[0] = m->heap[--m->feeds];
	}
	sink(m);
	return true;
}
