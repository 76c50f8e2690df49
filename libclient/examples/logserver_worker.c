/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logserver_worker.c - takes lines, counts them, frees them; and goes on where a dead predecessor
 * stopped.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <syslog.h>

#include "logserver.h"

static uint64_t label_key(const char *label)
{
	uint64_t key = 0xcbf29ce484222325ULL;

	for (; *label; label++)
		key = (key ^ (unsigned char)*label) * 0x100000001b3ULL;
	return key ? key : 1;
}

static unsigned find_row(struct board *b, const char *label)
{
	uint64_t key = label_key(label);

	for (unsigned probe = 0; probe < ROWS - 1; probe++) {
		unsigned i = 1 + (unsigned)((key + probe) % (ROWS - 1));
		uint64_t found = atomic_load_explicit(&b->rows[i].key, memory_order_relaxed);

		/* Crash: a claimed row without a label gets it from the next line of its program. */
		if (found == 0 && atomic_compare_exchange_strong(&b->rows[i].key, &found, key))
			found = key;
		if (found != key)
			continue;
		if (!atomic_load_explicit(&b->rows[i].labelled, memory_order_acquire)) {
			memcpy(b->rows[i].label, label, strlen(label));
			atomic_store_explicit(&b->rows[i].labelled, 1, memory_order_release);
		}
		return i;
	}
	return ROW_OTHER;
}

/*
 * Settles line number of this lane.
 * Crash: before C1 the line is not counted; it is still offered, or went with this process. After C1 it
 * is counted, whatever becomes of its object.
 */
static void settle(struct lane *lane, unsigned row, int level, uint64_t number)
{
	cell *c = &lane->counts[row][level];
	uint64_t lines = (atomic_load_explicit(c, memory_order_relaxed) >> 32) + 1;

	atomic_store_explicit(c, lines << 32 | (uint32_t)number, memory_order_release); /* C1 */
	/* PAIR(lane-done): the cell of the ring was read before ingest may fill it again. */
	atomic_store_explicit(&lane->done, number, memory_order_release);
}

/* The last line that this lane's workers, dead ones included, have settled. */
static uint64_t last_settled(struct lane *lane)
{
	uint64_t last = 0;

	for (unsigned row = 0; row <= ROWS; row++) {
		for (unsigned level = 0; level < LEVELS; level++) {
			uint64_t number = (uint32_t)atomic_load(&lane->counts[row][level]);

			last = number > last ? number : last;
		}
	}
	return last;
}

/*
 * Takes a line that a predecessor may have taken: 0, or -ESTALE once the arena has returned it. The
 * line's own number is compared, too, lest a handle kept over 65,536 reuses of its place deceive.
 */
static int take_inherited(shma *a, shma_handle h, uint32_t lane, uint64_t number)
{
	struct line head;
	int r;

	for (int tries = 0; tries < 10000; tries++) {
		ssize_t n = shma_read(a, h, 0, &head, sizeof(head));

		if (n != (ssize_t)sizeof(head) || head.lane != lane || head.number != number)
			return -ESTALE;
		r = shma_take(a, h);
		if (r != -EBUSY)
			return r;
		logserver_nap(1000);
	}
	return r;
}

static void work_on(shma *a, struct board *b, shma_handle h, uint64_t number)
{
	struct lane *lane = &b->lanes[logserver_settings.lane];
	const struct line *line = shma_ptr(a, h);
	struct meaning m;
	uint32_t len, source;

	if (!line)
		return; /* not possible: it is ours. The account will not close. */
	len = line->len;
	source = line->source < SOURCES ? line->source : 0;
	if (len > TEXT_MAX)
		len = 0;
	logserver_parse(&m, line->text, len, b->sources[source]);

	settle(lane, find_row(b, m.program), m.level, number);
	shma_log(a, m.level, "worker %d: line %" PRIu64 " of %s, %u bytes", logserver_settings.lane,
		 number, m.program, len);
	shma_free(a, h);
}

/* Takes up to BATCH offered lines from number first on, then works on them. Returns how many. */
static int work_batch(shma *a, struct board *b, uint64_t first, bool inherited)
{
	struct lane *lane = &b->lanes[logserver_settings.lane];
	/* PAIR(lane-offer): handles before the count of them. */
	uint64_t offered = atomic_load_explicit(&lane->offered, memory_order_acquire);
	int n = offered - first + 1 < BATCH ? (int)(offered - first + 1) : BATCH;
	shma_handle h[BATCH];
	bool mine[BATCH];

	for (int i = 0; i < n; i++) {
		uint64_t number = first + (uint64_t)i;
		int r;

		h[i] = atomic_load_explicit(&lane->ring[number % LANE_CELLS], memory_order_relaxed);
		r = inherited ? take_inherited(a, h[i], (uint32_t)logserver_settings.lane, number)
			      : shma_take(a, h[i]);
		mine[i] = r == 0;
		atomic_store_explicit(&lane->taken, number, memory_order_relaxed);
		if (r < 0 && !(inherited && r == -ESTALE)) {
			logserver_say("cannot take a line", r);
			return r;
		}
	}
	for (int i = 0; i < n; i++) {
		if (mine[i])
			work_on(a, b, h[i], first + (uint64_t)i);
		else
			settle(lane, ROW_RECLAIMED, 0, first + (uint64_t)i);
	}
	return n;
}

int logserver_worker(void)
{
	struct board *b;
	struct lane *lane;
	uint64_t next, inherited_to;
	shma *a;

	if (logserver_open(&a, 0) < 0 || !(b = logserver_board(a)))
		return 1;
	lane = &b->lanes[logserver_settings.lane];
	next = last_settled(lane) + 1;
	inherited_to = next + BATCH;
	atomic_store_explicit(&lane->taken, next - 1, memory_order_relaxed);
	atomic_store_explicit(&lane->done, next - 1, memory_order_release);
	shma_log(a, LOG_NOTICE, "worker %d begins at line %" PRIu64, logserver_settings.lane, next);
	for (;;) {
		uint32_t phase = atomic_load(&b->phase);
		int n = work_batch(a, b, next, next < inherited_to);

		if (n < 0)
			return 1;
		next += (uint64_t)n;
		if (n == 0 && phase != RUNNING)
			break;
		if (n == 0)
			logserver_nap(100);
	}
	shma_log(a, LOG_NOTICE, "worker %d ends after line %" PRIu64, logserver_settings.lane,
		 next - 1);
	shma_close(a);
	return 0;
}
