/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches are published up to a window ahead of what is acknowledged. After any failure all begins anew behind the
 * sink's last record, with batches of one record, then two, four, … : a record that the sink has in another place
 * already (stored twice by a drain that was killed) is come upon alone before long, and is passed over then.
 */
#include "ship_pump.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define BATCH_MAX    512u /* records */
#define BATCH_BYTES  (UINT64_C(1) << 20)
#define WINDOW	     16u /* batches */
#define IDLE_MIN_MS  1u
#define IDLE_MAX_MS  50u
#define SAVE_MS	     200u
#define RETRY_MIN_MS 50u
#define RETRY_MAX_MS 5000u
#define ACK_MS	     5000u /* without any: something is wrong */

struct mark {
	uint64_t count; /* of records since the opening */
	struct segment_position position;
};

struct pump {
	const struct ship_pump_config *config;
	struct ship_sink *sink;
	struct segment_cursor *cursor;
	bool open;  /* the sink is */
	enum { UNTOLD, UP, DOWN } told;
	bool empty; /* the cursor had no more when it was last asked */
	bool ending; /* it was asked to end before that */
	uint64_t base;
	uint64_t published, acked, flushed; /* since the opening */
	uint64_t batch_bytes;
	unsigned batch_max;
	struct segment_position last; /* behind the record published last */
	struct mark marks[WINDOW];
	unsigned first, count;
	struct segment_position done; /* acknowledged */
	uint64_t sequence;	      /* the engine's then */
	bool has_done, unsaved;
	struct segment_position skip; /* behind a record that the sink has elsewhere */
	bool has_skip;
	uint64_t ack_at, save_at; /* ms, monotonic: the last one */
	unsigned idle_ms, retry_ms;
	uint64_t missed;
	bool cannot_save;
};

static uint64_t now_ms(void)
{
	return clock_now() / 1000000;
}

static void rest(unsigned ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

static unsigned or_else(unsigned asked, unsigned usual)
{
	return asked ? asked : usual;
}

static void say(struct pump *p, enum ship_say level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void say(struct pump *p, enum ship_say level, const char *format, ...)
{
	char text[SHIP_WHY_BYTES + 128];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	p->config->say(level, text);
}

static bool is_behind(const struct segment_position *a, const struct segment_position *b)
{
	if (a->number != b->number)
		return a->number > b->number;
	return a->offset != b->offset ? a->offset > b->offset : a->record > b->record;
}

/* ---- the position's file ---- */

int ship_position_read(const char *dir, struct segment_position *ret, uint64_t *sequence)
{
	char path[4096];
	FILE *file;
	int n;

	memset(ret, 0, sizeof *ret);
	if ((size_t)snprintf(path, sizeof path, "%s/ship.position", dir) >= sizeof path)
		return -ENAMETOOLONG;
	file = fopen(path, "re");
	if (!file)
		return -errno;
	n = fscanf(file, "%" SCNu64 " %" SCNu64 " %" SCNu32 " %" SCNu64, &ret->number, &ret->offset,
		   &ret->record, sequence);
	fclose(file);
	return n == 4 ? 0 : -EUCLEAN;
}

static int write_whole(const char *path, const char *text)
{
	size_t len = strlen(text);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, len) != (ssize_t)len)
		err = errno ? -errno : -EIO;
	if (close(fd) < 0 && !err)
		err = -errno;
	return err;
}

/* Not synced: after a power cut an older one is as good, the sink's end is looked at first. */
int ship_position_write(const char *dir, const struct segment_position *at, uint64_t sequence)
{
	char path[4096], fresh[4096 + 8], text[128];
	int err;

	if ((size_t)snprintf(path, sizeof path, "%s/ship.position", dir) >= sizeof path)
		return -ENAMETOOLONG;
	snprintf(fresh, sizeof fresh, "%s.new", path);
	snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 " %" PRIu32 " %" PRIu64 "\n", at->number,
		 at->offset, at->record, sequence);
	err = write_whole(fresh, text);
	if (!err && rename(fresh, path) < 0)
		err = -errno;
	return err;
}

static void save(struct pump *p, bool now)
{
	uint64_t at = now_ms();
	int err;

	if (!p->unsaved || (!now && at < p->save_at + SAVE_MS))
		return;
	p->save_at = at;
	err = ship_position_write(p->config->dir, &p->done, p->sequence);
	p->unsaved = err != 0;
	if (err && !p->cannot_save)
		say(p, SHIP_WARNING, "its position cannot be written: %s", strerror(-err));
	p->cannot_save = err != 0;
}

/* ---- where to begin ---- */

/* Numbers begin anew where somebody has emptied the directory. */
static bool is_beyond(const char *dir, const struct segment_position *at)
{
	struct segment_listed *list;
	size_t count;
	bool beyond;

	if (segment_list(dir, &list, &count))
		return false;
	beyond = count && list[count - 1].number < at->number;
	free(list);
	return beyond;
}

/* False: from the beginning. */
static bool choose_start(struct pump *p, const struct ship_last *last, struct segment_position *ret)
{
	uint64_t sequence;
	bool has = true;

	if (last->found)
		*ret = last->position;
	else if (p->has_done)
		*ret = p->done;
	else
		has = ship_position_read(p->config->dir, ret, &sequence) == 0;
	if (p->has_skip && (!has || is_behind(&p->skip, ret))) {
		*ret = p->skip;
		has = true;
	}
	if (!has || !is_beyond(p->config->dir, ret))
		return has;
	say(p, SHIP_WARNING, "segment %" PRIu64 " and all after it are gone: what is there is shipped from its beginning",
	    ret->number);
	p->has_done = p->has_skip = false;
	return false;
}

static int open_cursor(struct pump *p, const struct ship_last *last)
{
	struct segment_position from;
	bool has = choose_start(p, last, &from);
	int err = segment_cursor_open(&p->cursor, p->config->dir, NULL, SEGMENT_AS_STORED | SEGMENT_FOLLOW,
				      has ? &from : NULL);

	if (err) {
		p->cursor = NULL;
		snprintf(p->sink->why, sizeof p->sink->why, "%.200s: %s", p->config->dir, strerror(-err));
		return err;
	}
	p->missed = 0;
	if (has) {
		p->done = p->last = from;
		p->sequence = last->sequence;
		p->has_done = p->unsaved = true;
	}
	return 0;
}

static void shut(struct pump *p)
{
	save(p, true);
	if (p->cursor)
		segment_cursor_close(p->cursor);
	p->cursor = NULL;
	if (p->open)
		p->sink->close(p->sink);
	p->open = false;
}

static int begin(struct pump *p)
{
	struct ship_last last;
	int err = p->sink->open(p->sink, &last);

	if (err)
		return err;
	p->open = true;
	p->base = last.sequence;
	p->published = p->acked = p->flushed = p->batch_bytes = 0;
	p->first = p->count = 0;
	p->batch_max = 1;
	p->idle_ms = IDLE_MIN_MS;
	p->empty = false;
	p->ack_at = now_ms();
	return open_cursor(p, &last);
}

/* ---- going ---- */

static int flush(struct pump *p)
{
	struct mark *m = &p->marks[(p->first + p->count) % WINDOW];
	int err = p->sink->flush(p->sink);

	if (err)
		return err;
	if (!p->count)
		p->ack_at = now_ms();
	*m = (struct mark){ p->published, p->last };
	p->count++;
	p->flushed = p->published;
	p->batch_bytes = 0;
	return 0;
}

static bool is_full(const struct pump *p)
{
	return p->published - p->flushed >= p->batch_max || p->batch_bytes >= BATCH_BYTES;
}

/* While batches grow there is one at a time. */
static unsigned window(const struct pump *p)
{
	return p->batch_max < BATCH_MAX ? 1 : WINDOW;
}

/* A batch, as far as there are records. */
static int fill(struct pump *p)
{
	struct segment_record r;
	int n, err = 0;

	while (!err && !is_full(p)) {
		n = segment_cursor_next(p->cursor, &r);
		p->empty = n == 0;
		if (n < 0)
			snprintf(p->sink->why, sizeof p->sink->why, "segments: %s", strerror(-n));
		if (n < 1) {
			err = n;
			break;
		}
		err = p->sink->publish(p->sink, &r);
		if (!err) {
			p->published++;
			p->batch_bytes += r.len;
			p->last = r.position;
		}
	}
	return !err && p->published > p->flushed ? flush(p) : err;
}

static void move(struct pump *p, uint64_t acked)
{
	bool moved = false;

	while (p->count && p->marks[p->first].count <= acked) {
		p->done = p->marks[p->first].position;
		p->first = (p->first + 1) % WINDOW;
		p->count--;
		moved = true;
	}
	p->acked = acked;
	if (!moved)
		return;
	p->sequence = p->sink->sequence;
	p->has_done = p->unsaved = true;
	p->has_skip = false;
	p->ack_at = now_ms();
	p->retry_ms = 0;
	if (p->batch_max < BATCH_MAX)
		p->batch_max *= 2;
}

static int collect(struct pump *p, unsigned ms)
{
	uint64_t acked = p->acked;
	int err = p->sink->wait(p->sink, ms, &acked);

	if (acked > p->acked)
		move(p, acked);
	if (err == -EEXIST && p->count == 1 && p->published - p->acked == 1) {
		p->skip = p->last;
		p->has_skip = true;
		p->retry_ms = 0;
	}
	if (!err && p->count && now_ms() > p->ack_at + or_else(p->config->ack_ms, ACK_MS)) {
		snprintf(p->sink->why, sizeof p->sink->why, "no acknowledgement");
		err = -ETIMEDOUT;
	}
	return err;
}

static void idle(struct pump *p)
{
	rest(p->idle_ms);
	p->idle_ms = 2 * p->idle_ms < IDLE_MAX_MS ? 2 * p->idle_ms : IDLE_MAX_MS;
}

static void tell_missed(struct pump *p)
{
	struct segment_stats stats;

	segment_cursor_stats(p->cursor, &stats);
	if (stats.missed > p->missed)
		say(p, SHIP_WARNING, "%" PRIu64 " segments were deleted before they were shipped",
		    stats.missed - p->missed);
	p->missed = stats.missed;
}

/* Publishes what there is, takes what was acknowledged. */
static int turn(struct pump *p)
{
	uint64_t before = p->published;
	int err = 0;

	p->empty = false;
	while (!err && p->count < window(p) && !p->empty)
		err = fill(p);
	if (p->published > before)
		p->idle_ms = IDLE_MIN_MS;
	if (err)
		return err;
	if (!p->count) {
		tell_missed(p);
		/* Whether the link is there is seen by asking. */
		err = collect(p, 1);
		idle(p);
	} else {
		err = collect(p, p->empty || p->count >= window(p) ? 20 : 1);
	}
	save(p, false);
	return err;
}

static void tell_up(struct pump *p)
{
	if (p->told == UP)
		return;
	p->told = UP;
	say(p, SHIP_NOTICE, "its log is shipped, from sequence %" PRIu64 " on", p->base + 1);
}

static void failed(struct pump *p, int err)
{
	unsigned max = or_else(p->config->retry_max_ms, RETRY_MAX_MS);

	shut(p);
	if (err == -EEXIST && p->has_skip)
		return;
	if (p->told != DOWN && p->retry_ms) {
		say(p, SHIP_WARNING, "its log is not shipped: %s; trying again", p->sink->why);
		p->told = DOWN;
	}
	p->retry_ms = p->retry_ms ? 2 * p->retry_ms : or_else(p->config->retry_min_ms, RETRY_MIN_MS);
	p->retry_ms = p->retry_ms < max ? p->retry_ms : max;
	/* In pieces: the end may be asked for. */
	for (unsigned ms = 0; ms < p->retry_ms && p->config->ending() != 2; ms += 50)
		rest(p->retry_ms - ms < 50 ? p->retry_ms - ms : 50);
}

/* That there is no more counts if it was seen after the end was asked for: the drain's last write came before that. */
static bool is_over(struct pump *p)
{
	int ending = p->config->ending();
	bool seen = p->ending;

	p->ending = ending != 0;
	return ending == 2 || (ending == 1 && seen && p->open && p->empty && !p->count);
}

int ship_pump(const struct ship_pump_config *config)
{
	struct pump *p = calloc(1, sizeof *p);
	int err;

	if (!p)
		return -ENOMEM;
	p->config = config;
	p->sink = config->sink;
	while (!is_over(p)) {
		err = p->open ? turn(p) : begin(p);
		if (err)
			failed(p, err);
		else if (p->open)
			tell_up(p);
	}
	shut(p);
	free(p);
	return 0;
}
