/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is not good may be on its way, as long as its segment is the last one: who writes opens the next when
 * all of this one is written, and who comes after a death opens another. So a walker goes on to a later
 * segment only when it has looked at this one once more after it saw that there is a later. A payload that is bad
 * behind a header that is good is told to be written by the same, by an index, or by a mark behind it: then it was
 * changed while it was written, it alone is lost, and what follows is as good as ever.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "segment_walk.h"

#define LOOKS 16u

/* ---- from segment to segment ---- */

static void close_file(struct segment_walk *w)
{
	if (w->opened)
		segment_file_close(&w->file);
	w->opened = false;
}

static bool exists(const struct segment_walk *w, uint64_t number)
{
	char name[SEGMENT_FILE_BYTES], path[4096];

	for (int compressed = 0; compressed < 2; compressed++) {
		segment_file_name(name, number, compressed);
		if (snprintf(path, sizeof(path), "%s/%s", w->path, name) < (int)sizeof(path) &&
		    !access(path, F_OK))
			return true;
	}
	return false;
}

/* The first segment from a number on: 1, 0: there is none. A directory that is gone may come back. Who reads a
 * directory may be told of a segment, and not of one that was made shortly before. */
static int next_from(const struct segment_walk *w, uint64_t least, uint64_t *number)
{
	uint64_t found;
	int r = segment_list_next(w->path, least, &found);

	if (r < 1)
		return r == -ENOENT ? 0 : r;
	*number = found - least < LOOKS ? least : found;
	while (*number < found && !exists(w, *number))
		++*number;
	return 1;
}

/* The same behind the segment where it is. A directory that has not changed since it was read is not read again; nor
 * does its time tell a change that came at once. */
static int look_later(struct segment_walk *w, uint64_t *number)
{
	struct timespec now;
	struct stat st;
	int r;

	if (stat(w->path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (st.st_mtim.tv_sec == w->quiet.tv_sec && st.st_mtim.tv_nsec == w->quiet.tv_nsec)
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	r = next_from(w, w->number + 1, number);
	if (!r && now.tv_sec - st.st_mtim.tv_sec > 1)
		w->quiet = st.st_mtim;
	return r;
}

/* The segment behind this one: 1; 0: there is none yet. Nearly always it has the next number. */
static int later(struct segment_walk *w, uint64_t *number)
{
	if (w->single)
		return 0;
	*number = w->number + 1;
	return exists(w, *number) ? 1 : look_later(w, number);
}

static int find_next(struct segment_walk *w, uint64_t *number)
{
	int r;

	if (w->number)
		return later(w, number);
	r = next_from(w, w->first, number);
	if (r == 1 && w->first && *number != w->first) {
		w->stats->missed += *number - w->first;
		w->first_at = 0;
	}
	return r;
}

static bool is_wanted(struct segment_walk *w)
{
	struct segment_fragment f;
	uint64_t at;

	return !segment_file_end(&w->file, &at, &f) ||
	       segment_query_wants(w->query, f.time_min, f.time_max,
				   f.lost ? w->query->level_mask : f.levels);
}

static void begin_in(struct segment_walk *w, uint64_t number)
{
	w->opened = true;
	if (w->number && number > w->number)
		w->stats->missed += number - w->number - 1;
	w->number = number;
	w->at = w->first_at ? w->first_at : sizeof(struct segment_header);
	w->first = w->first_at = 0;
	w->bad = w->bad_end = w->settled = w->marks = 0;
	w->again = w->tail = false;
	w->ended = !is_wanted(w);
}

/* A segment that cannot be read at all is stepped over once there is a later one. */
static int step_over(struct segment_walk *w, uint64_t number, int r)
{
	uint64_t next;
	int more = next_from(w, number + 1, &next);

	if (more < 0 || r == -ENOMEM || r == -EMFILE || r == -ENFILE)
		return more < 0 ? more : r;
	if (!more)
		return r == -EUCLEAN || r == -ENODATA || r == -ENOENT ? 0 : r;
	if (r == -ENOENT)
		w->stats->missed++;
	else
		w->stats->damaged++;
	w->number = number;
	w->first = w->first_at = 0;
	return 1;
}

static int open_single(struct segment_walk *w)
{
	int r;

	if (w->number)
		return 0;
	r = segment_file_open_path(&w->file, w->path, w->stats);
	if (!r)
		begin_in(w, w->file.header.number);
	return r ? (r == -ENODATA ? 0 : r) : 1;
}

/* 1: in a segment; 0: there is none for now. */
static int open_next(struct segment_walk *w)
{
	uint64_t number;
	int r;

	if (w->single)
		return open_single(w);
	while ((r = find_next(w, &number)) == 1) {
		r = segment_file_open(&w->file, w->path, number, w->stats);
		if (!r) {
			begin_in(w, number);
			return 1;
		}
		r = step_over(w, number, r);
		if (r < 1)
			break;
	}
	return r;
}

/* ---- where nothing good is ---- */

/* With an index, the next run behind the damage. */
static int resync(struct segment_walk *w)
{
	struct segment_run *runs;
	size_t count, i = 0;
	int r = segment_file_runs(&w->file, &runs, &count);

	if (r < 0)
		return r;
	while (i < count && runs[i].offset <= w->at)
		i++;
	if (i < count)
		w->at = runs[i].offset;
	if (r == 1) {
		w->stats->damaged++;
		w->ended = i == count;
		w->bad = 0;
	}
	free(runs);
	return r;
}

/* Goes over the headers behind the bad group as far as they are there: whether a mark settles it. */
static bool find_mark(struct segment_walk *w)
{
	struct segment_fragment f;

	if (w->marks < w->bad_end)
		w->marks = w->bad_end;
	w->file.ahead = SEGMENT_AHEAD_HEADERS;
	while (w->settled < w->bad_end && segment_file_fragment(&w->file, w->marks, &f) == 1) {
		if (f.kind == SEGMENT_MARK && f.ticket <= w->marks && f.ticket > w->settled)
			w->settled = f.ticket;
		w->marks += segment_fragment_bytes(&f);
	}
	w->file.window_len = 0;
	return w->settled >= w->bad_end;
}

/* The bad group at w->at has a good header: whether all of it is known to be written. Then it is looked at again. */
static bool is_settled(struct segment_walk *w)
{
	struct segment_fragment f;
	uint64_t at;

	if (segment_file_end(&w->file, &at, &f))
		w->again = true;
	if (!w->again && !find_mark(w))
		return false;
	w->bad = 0;
	return true;
}

/* The segment has grown since. One that grows all the while behind something bad is looked at again later. */
static int look_again(struct segment_walk *w)
{
	if (w->looked != w->at)
		w->looks = 0;
	w->looked = w->at;
	w->looks = (w->looks + 1) % LOOKS;
	w->bad = 0;
	return w->looks != 0;
}

/* A reader that does not wait passes over what may be on its way, if there is more behind. */
static bool pass_over(struct segment_walk *w, uint64_t bad_end)
{
	struct segment_fragment f;

	if (!bad_end || w->follow || segment_file_fragment(&w->file, bad_end, &f) != 1)
		return false;
	w->stats->damaged++;
	w->at = bad_end;
	return true;
}

/* The group at w->at is not there, or not good. 1: look again; 0: nothing for now; -errno. */
static int at_end(struct segment_walk *w)
{
	uint64_t size = w->file.size, number, bad_end = w->bad == w->at ? w->bad_end : 0;
	int r = segment_file_refresh(&w->file);

	if (r)
		return r;
	if (bad_end && is_settled(w))
		return 1;
	if (w->file.size > size)
		return look_again(w);
	w->looks = 0;
	if (w->at < w->file.size && !bad_end) {
		r = resync(w);
		if (r)
			return r;
	}
	if (w->file.compressed) {
		w->ended = true;
		return 1;
	}
	w->bad = 0;
	r = later(w, &number);
	if (r < 0)
		return r;
	w->tail = w->at < w->file.size;
	if (!r)
		return pass_over(w, bad_end);
	if (w->again) {
		w->stats->torn += w->tail;
		w->tail = false;
		w->ended = true;
	}
	w->again = true;
	return 1;
}

/* ---- the interface ---- */

static int find(struct segment_walk *w, struct segment_group *g)
{
	if (w->bad == w->at)
		return -EUCLEAN;
	g->number = w->number;
	return segment_group_find(&w->file, w->at, g);
}

int segment_walk_next(struct segment_walk *w, struct segment_group *g)
{
	int r;

	for (;;) {
		if (!w->opened) {
			r = open_next(w);
			if (r < 1)
				return r;
		}
		r = w->ended ? 0 : find(w, g);
		if (r == 1 && g->fragment.kind != SEGMENT_INDEX) {
			w->tail = false;
			w->at += g->bytes;
			return 1;
		}
		if (r == -ENOMEM)
			return r;
		if (r == 1)
			w->ended = true;
		else if (!w->ended) {
			r = at_end(w);
			if (r < 1)
				return r;
		}
		if (w->ended)
			close_file(w);
	}
}

bool segment_walk_reject(struct segment_walk *w, const struct segment_group *g)
{
	uint64_t end = g->offset + g->bytes;

	if (w->again || w->file.compressed || end <= w->settled) {
		w->stats->damaged++;
		return true;
	}
	w->at = g->offset;
	w->bad = g->offset;
	w->bad_end = end;
	return false;
}

void segment_walk_from(struct segment_walk *w, uint64_t number, uint64_t offset)
{
	w->first = number;
	w->first_at = offset;
}

int segment_walk_open(struct segment_walk *w, const char *path, const struct segment_query *query,
		      struct segment_stats *stats)
{
	struct stat st;

	*w = (struct segment_walk){ .stats = stats, .query = query };
	if (stat(path, &st))
		return -errno;
	w->single = !S_ISDIR(st.st_mode);
	w->path = strdup(path);
	return w->path ? 0 : -ENOMEM;
}

void segment_walk_close(struct segment_walk *w)
{
	close_file(w);
	free(w->path);
}
