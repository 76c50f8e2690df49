/* SPDX-License-Identifier: Apache-2.0 */
/* Walking a segment from its start: what is good, what is spoilt, and where a torn tail is to be cut. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "segment_file.h"

struct scanner {
	struct segment_file *f;
	unsigned flags;
	const struct segment_scan_calls *calls;
	struct segment_scan *s;
	uint64_t follows; /* a good fragment stands here, or behind; 0: not looked for yet */
};

static void count(struct segment_scan *s, const struct segment_fragment *f)
{
	if (f->kind == SEGMENT_INDEX)
		return;
	s->fragments++;
	s->lost += f->lost;
	s->records += f->records;
	if (f->records || f->kind == SEGMENT_LOSS) {
		s->time_min = f->time_min < s->time_min ? f->time_min : s->time_min;
		s->time_max = f->time_max > s->time_max ? f->time_max : s->time_max;
	}
}

/* ---- what is spoilt ---- */

/* A group, of which a part is bad, from this fragment on. */
struct bad {
	struct segment_fragment last;
	uint64_t end; /* behind it */
	unsigned fragments;
};

/* Its end, by headers: 1; 0: it is not whole, or no group at all; -errno. */
static int find_end(struct segment_file *f, uint64_t at, struct bad *ret)
{
	int r;

	*ret = (struct bad){ .end = at };
	do {
		r = segment_file_fragment(f, ret->end, &ret->last);
		if (r != 1)
			return r == -EUCLEAN ? 0 : r;
		if (ret->last.kind == SEGMENT_INDEX)
			return ret->fragments != 0; /* large payloads that nobody refers to */
		ret->end += segment_fragment_bytes(&ret->last);
		ret->fragments++;
	} while (ret->last.kind == SEGMENT_LARGE);
	return 1;
}

/* Whether there is anything good behind: 1, 0, -errno. Each place is looked at once. */
static int anything_follows(struct scanner *x, uint64_t at)
{
	struct segment_fragment f;
	int r, good;

	if (x->follows >= at)
		return 1;
	while ((r = segment_file_fragment(x->f, at, &f)) == 1) {
		good = segment_file_payload(x->f, at, &f);
		if (!good)
			x->follows = at;
		if (good != -EUCLEAN)
			return good ?: 1;
		at += segment_fragment_bytes(&f);
	}
	return r == -EUCLEAN ? 0 : r;
}

/* Whether the scan goes on behind it: 1, 0, -errno. */
static int judge(struct scanner *x, const struct bad *b)
{
	enum segment_verdict verdict = SEGMENT_GUESS;

	if (x->flags & SEGMENT_SCAN_STRICT)
		return 0;
	if (x->calls->judge && b->last.kind != SEGMENT_INDEX)
		verdict = x->calls->judge(x->calls->context, &x->f->header, &b->last);
	return verdict == SEGMENT_GUESS ? anything_follows(x, b->end) : verdict == SEGMENT_SPOILT;
}

/* The payload at s->good is bad: 1, and s->good is behind its group; 0: the scan ends; -errno; or as told. */
static int step_over(struct scanner *x, int *told)
{
	struct segment_scan *s = x->s;
	struct bad b;
	int r = find_end(x->f, s->good, &b);

	if (r == 1)
		r = judge(x, &b);
	if (r != 1)
		return r;
	s->spoilt += b.fragments;
	if (b.last.kind != SEGMENT_INDEX) {
		s->spoilt_records += b.last.records;
		s->lost += b.last.lost;
		if (x->calls->spoilt)
			*told = x->calls->spoilt(x->calls->context, &x->f->header, &b.last,
						 b.end - segment_fragment_bytes(&b.last));
	}
	s->good = b.end;
	return 1;
}

/* ---- from fragment to fragment ---- */

/* The fragment at s->good: 1, and it is behind it then; 0: the segment ends here; -errno. */
static int step(struct scanner *x, int *told)
{
	struct segment_scan *s = x->s;
	struct segment_fragment fragment;
	int r = segment_file_fragment(x->f, s->good, &fragment);

	if (r < 1)
		return r == -EUCLEAN ? 0 : r;
	r = x->flags & SEGMENT_SCAN_HEADERS ? 0 : segment_file_payload(x->f, s->good, &fragment);
	if (r)
		return r == -EUCLEAN ? step_over(x, told) : r;
	count(s, &fragment);
	s->good += segment_fragment_bytes(&fragment);
	s->closed = fragment.kind == SEGMENT_INDEX;
	if (x->calls->each)
		*told = x->calls->each(x->calls->context, &x->f->header, &fragment,
				       s->good - segment_fragment_bytes(&fragment));
	return !s->closed;
}

static int scan_file(struct segment_file *f, unsigned flags, struct segment_scan *s,
		     const struct segment_scan_calls *calls)
{
	struct scanner x = { f, flags, calls, s, 0 };
	int told = 0, r;

	*s = (struct segment_scan){ .header = f->header,
				    .size = f->size,
				    .good = sizeof(struct segment_header),
				    .time_min = UINT64_MAX };
	f->ahead = flags & SEGMENT_SCAN_HEADERS ? SEGMENT_AHEAD_HEADERS : SEGMENT_AHEAD;
	do
		r = step(&x, &told);
	while (r == 1 && !told);
	s->torn = s->good != s->size;
	return told ? told : r;
}

int segment_scan_file(struct segment_file *f, unsigned flags, struct segment_scan *s,
		      segment_scan_fn *each, void *context)
{
	struct segment_scan_calls calls = { .each = each, .context = context };

	return scan_file(f, flags, s, &calls);
}

/* ---- the interface ---- */

static int scan_opened(int opened, struct segment_file *f, unsigned flags, struct segment_scan *s,
		       const struct segment_scan_calls *calls)
{
	int r;

	if (opened)
		return opened == -ENODATA ? -EUCLEAN : opened;
	r = scan_file(f, flags, s, calls);
	segment_file_close(f);
	return r;
}

static int scan_fd(int fd, unsigned flags, struct segment_scan *ret, const struct segment_scan_calls *calls)
{
	struct segment_stats stats = { 0 };
	struct segment_file f;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (own < 0)
		return -errno;
	return scan_opened(segment_file_open_fd(&f, own, &stats), &f, flags, ret, calls);
}

int segment_scan(int fd, unsigned flags, struct segment_scan *ret, segment_scan_fn *each, void *context)
{
	struct segment_scan_calls calls = { .each = each, .context = context };

	return scan_fd(fd, flags, ret, &calls);
}

int segment_scan_judged(int fd, struct segment_scan *ret, const struct segment_scan_calls *calls)
{
	return scan_fd(fd, 0, ret, calls);
}

int segment_scan_number(const char *dir, uint64_t number, unsigned flags, struct segment_scan *ret,
			segment_scan_fn *each, void *context)
{
	struct segment_scan_calls calls = { .each = each, .context = context };
	struct segment_stats stats = { 0 };
	struct segment_file f;

	return scan_opened(segment_file_open(&f, dir, number, &stats), &f, flags, ret, &calls);
}

int segment_scan_path(const char *path, unsigned flags, struct segment_scan *ret, segment_scan_fn *each,
		      void *context)
{
	struct segment_scan_calls calls = { .each = each, .context = context };
	struct segment_stats stats = { 0 };
	struct segment_file f;

	return scan_opened(segment_file_open_path(&f, path, &stats), &f, flags, ret, &calls);
}

int segment_summary(const char *dir, uint64_t number, struct segment_scan *ret)
{
	struct segment_scan_calls none = { .each = NULL };
	struct segment_stats stats = { 0 };
	struct segment_fragment end;
	struct segment_file f;
	uint64_t at;
	int r = segment_file_open(&f, dir, number, &stats);

	if (r || !segment_file_end(&f, &at, &end))
		return scan_opened(r, &f, SEGMENT_SCAN_HEADERS, ret, &none);
	*ret = (struct segment_scan){ .header = f.header,
				      .size = f.size,
				      .good = f.size,
				      .closed = true,
				      .records = end.records,
				      .lost = end.lost,
				      .time_min = end.time_min,
				      .time_max = end.time_max };
	segment_file_close(&f);
	return 0;
}
