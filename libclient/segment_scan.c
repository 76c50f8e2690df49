/* SPDX-License-Identifier: Apache-2.0 */
/* Walking a segment from its start: what is good, and where a torn tail is to be cut. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "segment_file.h"

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

/* The fragment at s->good: 1, and it is behind it then; 0: the segment ends here; -errno. */
static int step(struct segment_file *f, unsigned flags, struct segment_scan *s,
		struct segment_fragment *ret)
{
	int r = segment_file_fragment(f, s->good, ret);

	if (r == 1 && !(flags & SEGMENT_SCAN_HEADERS))
		r = segment_file_payload(f, s->good, ret) ?: 1;
	if (r == 1)
		s->good += segment_fragment_bytes(ret);
	return r;
}

int segment_scan_file(struct segment_file *f, unsigned flags, struct segment_scan *s,
		      segment_scan_fn *each, void *context)
{
	struct segment_fragment fragment;
	int r, told;

	*s = (struct segment_scan){ .header = f->header,
				    .size = f->size,
				    .good = sizeof(struct segment_header),
				    .time_min = UINT64_MAX };
	f->ahead = flags & SEGMENT_SCAN_HEADERS ? SEGMENT_AHEAD_HEADERS : SEGMENT_AHEAD;
	while ((r = step(f, flags, s, &fragment)) == 1) {
		count(s, &fragment);
		told = each ? each(context, &f->header, &fragment,
				   s->good - segment_fragment_bytes(&fragment)) :
			      0;
		if (told)
			return told;
		s->closed = fragment.kind == SEGMENT_INDEX;
		if (s->closed)
			break;
	}
	s->torn = s->good != s->size;
	return r < 0 && r != -EUCLEAN ? r : 0;
}

static int scan_opened(int opened, struct segment_file *f, unsigned flags, struct segment_scan *s,
		       segment_scan_fn *each, void *context)
{
	int r;

	if (opened)
		return opened == -ENODATA ? -EUCLEAN : opened;
	r = segment_scan_file(f, flags, s, each, context);
	segment_file_close(f);
	return r;
}

int segment_scan(int fd, unsigned flags, struct segment_scan *ret, segment_scan_fn *each, void *context)
{
	struct segment_stats stats = { 0 };
	struct segment_file f;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (own < 0)
		return -errno;
	return scan_opened(segment_file_open_fd(&f, own, &stats), &f, flags, ret, each, context);
}

int segment_scan_number(const char *dir, uint64_t number, unsigned flags, struct segment_scan *ret,
			segment_scan_fn *each, void *context)
{
	struct segment_stats stats = { 0 };
	struct segment_file f;

	return scan_opened(segment_file_open(&f, dir, number, &stats), &f, flags, ret, each, context);
}

int segment_scan_path(const char *path, unsigned flags, struct segment_scan *ret, segment_scan_fn *each,
		      void *context)
{
	struct segment_stats stats = { 0 };
	struct segment_file f;

	return scan_opened(segment_file_open_path(&f, path, &stats), &f, flags, ret, each, context);
}
