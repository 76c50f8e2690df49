/* SPDX-License-Identifier: Apache-2.0 */
/* The index at a segment's end: gathered while fragments are written, by runs of them. */
#include <errno.h>
#include <stdlib.h>

#include "segment_inside.h"

static const struct segment_run nothing = { .time_min = UINT64_MAX };

void segment_index_init(struct segment_index *x)
{
	memset(x, 0, sizeof(*x));
	x->open = x->all = nothing;
}

void segment_index_free(struct segment_index *x)
{
	free(x->runs);
	segment_index_init(x);
}

/* Room for n runs and the segment_end. */
static int reserve(struct segment_index *x, size_t n)
{
	size_t room = x->room ? x->room : 64;
	struct segment_run *runs;

	if (n < x->room)
		return 0;
	while (room <= n)
		room *= 2;
	runs = realloc(x->runs, room * sizeof(*runs));
	if (!runs)
		return -ENOMEM;
	x->runs = runs;
	x->room = room;
	return 0;
}

/* A large payload's time is its record's, which comes behind it. */
static void widen(struct segment_run *run, const struct segment_fragment *f)
{
	if (f->records || f->kind == SEGMENT_LOSS) {
		run->time_min = f->time_min < run->time_min ? f->time_min : run->time_min;
		run->time_max = f->time_max > run->time_max ? f->time_max : run->time_max;
	}
	run->levels |= f->levels;
	run->lost += f->lost;
	run->records += f->records;
}

/* The open run, if there is one, becomes one of the list. */
static int close_run(struct segment_index *x)
{
	int r = x->open.fragments ? reserve(x, x->count + 1) : 0;

	if (r || !x->open.fragments)
		return r;
	x->runs[x->count++] = x->open;
	x->open = nothing;
	return 0;
}

int segment_index_add(struct segment_index *x, const struct segment_fragment *f, uint64_t offset)
{
	struct segment_run *run = &x->open;
	uint64_t end;

	if (f->kind == SEGMENT_INDEX)
		return -EINVAL;
	if (run->fragments && !x->group && run->bytes >= SEGMENT_RUN_BYTES && close_run(x))
		return -ENOMEM;
	if (!run->fragments)
		run->offset = offset;
	end = offset + segment_fragment_bytes(f);
	if (end - run->offset > SEGMENT_RUN_MAX)
		return -EMSGSIZE;
	run->fragments++;
	run->bytes = (uint32_t)(end - run->offset);
	widen(run, f);
	widen(&x->all, f);
	x->records += f->records;
	x->group = f->kind == SEGMENT_LARGE;
	return 0;
}

int segment_index_fragment(struct segment_index *x, uint64_t offset, struct segment_fragment *f,
			   const void **payload)
{
	struct segment_end end = { .offset = offset };
	struct iovec part;
	int r = close_run(x);

	if (!r)
		r = reserve(x, x->count);
	if (r)
		return r;
	memcpy(end.magic, SEGMENT_END_MAGIC, sizeof(end.magic));
	memcpy(&x->runs[x->count], &end, sizeof(end));
	*f = (struct segment_fragment){
		.kind = SEGMENT_INDEX,
		.levels = x->all.levels,
		.records = x->records < UINT32_MAX ? (uint32_t)x->records : UINT32_MAX,
		.time_min = x->all.time_min,
		.time_max = x->all.time_max,
		.lost = x->all.lost,
	};
	part = (struct iovec){ x->runs, x->count * sizeof(*x->runs) + sizeof(end) };
	*payload = x->runs;
	return segment_fragment_make(f, &part, 1);
}

bool segment_runs_good(const struct segment_run *runs, size_t count, uint64_t end)
{
	uint64_t at = sizeof(struct segment_header);

	for (size_t i = 0; i < count; i++) {
		if (runs[i].offset < at || runs[i].offset > end || runs[i].bytes > end - runs[i].offset ||
		    runs[i].bytes < sizeof(struct segment_fragment) || runs[i].bytes > SEGMENT_RUN_MAX)
			return false;
		at = runs[i].offset + runs[i].bytes;
	}
	return true;
}
