/* SPDX-License-Identifier: Apache-2.0 */
/* logserver_ingest.c - reads files and offers each line as an object of its own. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "logserver.h"

struct input {
	struct board *b;
	shma *a;
	unsigned lane;
	unsigned run; /* lines given to this lane in a row */
	uint64_t lines;
};

static bool lane_full(struct lane *lane)
{
	/* PAIR(lane-done) */
	return atomic_load_explicit(&lane->offered, memory_order_relaxed) -
		       atomic_load_explicit(&lane->done, memory_order_acquire) >=
	       LANE_CELLS;
}

/* A lane with room; a lane whose worker is dead or stopped is passed over once it is full. */
static struct lane *choose_lane(struct input *in)
{
	if (++in->run >= 64) {
		in->run = 0;
		in->lane = (in->lane + 1) % LANES;
	}
	for (unsigned tried = 1; lane_full(&in->b->lanes[in->lane]); tried++) {
		in->run = 0;
		in->lane = (in->lane + 1) % LANES;
		if (tried % LANES == 0)
			logserver_nap(100);
	}
	return &in->b->lanes[in->lane];
}

static shma_handle line_object(shma *a, size_t size)
{
	shma_handle h = shma_alloc(a, size, SHMA_SHARED);

	/* A full arena empties as the workers go on. */
	for (int tries = 0; !h && errno == ENOMEM && tries < 100000; tries++) {
		logserver_nap(100);
		h = shma_alloc(a, size, SHMA_SHARED);
	}
	return h;
}

/*
 * Offers one line.
 * Crash: until the lane's count is raised the object is this process's and returns with it.
 */
static int offer(struct input *in, uint32_t source, const char *text, size_t len)
{
	struct lane *lane = choose_lane(in);
	uint64_t number = atomic_load_explicit(&lane->offered, memory_order_relaxed) + 1;
	shma_handle h = line_object(in->a, sizeof(struct line) + len);
	struct line *line = h ? shma_ptr(in->a, h) : NULL;

	if (!line)
		return -errno;
	line->number = number;
	line->lane = in->lane;
	line->source = source;
	line->len = (uint32_t)len;
	memcpy(line->text, text, len);
	atomic_store_explicit(&lane->ring[number % LANE_CELLS], h, memory_order_relaxed);
	/* PAIR(lane-offer) */
	atomic_store_explicit(&lane->offered, number, memory_order_release);
	atomic_store_explicit(&in->b->lines_in, ++in->lines, memory_order_relaxed);
	return 0;
}

/* The demonstration needs its kill: the last line waits for it. */
static void wait_for_kill(struct input *in)
{
	if (in->lines + 1 != logserver_settings.lines || atomic_load(&in->b->kill_done))
		return;
	atomic_store(&in->b->waiting, 1);
	while (!atomic_load(&in->b->kill_done))
		logserver_nap(100);
}

/* All whole lines of buf; the bytes used. A line that fills buf counts as whole. */
static ssize_t offer_lines(struct input *in, uint32_t source, const char *buf, size_t len, bool end)
{
	size_t at = 0;

	while (at < len && in->lines < logserver_settings.lines) {
		size_t room = len - at < TEXT_MAX ? len - at : TEXT_MAX;
		const char *newline = memchr(buf + at, '\n', room);
		size_t n = newline ? (size_t)(newline - (buf + at)) : room;
		int r;

		if (!newline && room < TEXT_MAX && !end)
			break;
		wait_for_kill(in);
		r = offer(in, source, buf + at, n);
		if (r < 0)
			return r;
		at += n + (newline != NULL);
	}
	return (ssize_t)at;
}

static int offer_file(struct input *in, uint32_t source, const char *path)
{
	static char buf[1 << 20];
	size_t held = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return 0;
	while (in->lines < logserver_settings.lines) {
		ssize_t got = read(fd, buf + held, sizeof(buf) - held);
		ssize_t used;

		if (got < 0 && errno == EINTR)
			continue;
		held += got > 0 ? (size_t)got : 0;
		used = offer_lines(in, source, buf, held, got <= 0);
		if (used < 0)
			result = (int)used;
		if (used < 0 || got <= 0)
			break;
		held -= (size_t)used;
		memmove(buf, buf + used, held);
	}
	close(fd);
	return result;
}

static bool all_done(struct board *b)
{
	for (int i = 0; i < LANES; i++) {
		if (atomic_load(&b->lanes[i].done) != atomic_load(&b->lanes[i].offered))
			return false;
	}
	return true;
}

int logserver_ingest(void)
{
	struct input in = { 0 };
	uint64_t before;
	int r;

	if (logserver_open(&in.a, 0) < 0 || !(in.b = logserver_board(in.a)))
		return 1;
	do {
		before = in.lines;
		for (int i = 0;
		     i < logserver_settings.file_count && in.lines < logserver_settings.lines;
		     i++) {
			r = offer_file(&in, (uint32_t)(i < SOURCES ? i : SOURCES - 1),
				       logserver_settings.files[i]);
			if (r < 0) {
				logserver_say("cannot offer a line", r);
				return 1;
			}
		}
	} while (in.lines < logserver_settings.lines && in.lines > before);

	/* What is offered and not taken is still ours: it would return with us. */
	while (!all_done(in.b))
		logserver_nap(200);
	atomic_store(&in.b->phase, FINISHED);
	shma_log(in.a, LOG_NOTICE, "ingest: %" PRIu64 " lines offered, all settled", in.lines);
	shma_close(in.a);
	return 0;
}
