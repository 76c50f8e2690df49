/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_log.c - records: what one costs its writer, how many a second several writers pass to one reader and
 * lose none, and how soon the reader has them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gang.h"

#define RECORD_MAX 512u
#define BURST	   64u

/* work->arg of rows of several processes: bytes of a record and its writers. */
static size_t record_bytes(const struct run *r)
{
	return (size_t)(r->work->arg >> 8);
}

static int writers_of(const struct run *r)
{
	return (int)(r->work->arg & 0xff);
}

/* ---- writers alone ---- */

static void role_log(struct worker *w)
{
	const struct peer_ops *p = w->run->peer;
	size_t len = record_bytes(w->run);
	char record[RECORD_MAX];

	memset(record, 'x', sizeof(record));
	worker_wait(w);
	do
		for (uint32_t i = 0; i < BURST; i++)
			if (p->log(record, len))
				work_no_memory(len);
	while (worker_on(w, BURST));
}

int work_log_processes(struct run *r)
{
	struct sum sum;
	int e = gang_same(r, "log", writers_of(r), true, &sum);

	if (e)
		return e;
	work_emit("ns", gang_cpus(r, writers_of(r)) / sum.ops_per_ns);
	work_emit("rate", sum.ops_per_ns * 1e3);
	return 0;
}

/* ---- writers and a reader, nothing lost ---- */

/* A queue that is full, or whose reader is at its end, is tried again until the leader says stop. */
static bool send_one(struct worker *w, const struct peer_queue *q, const void *record)
{
	unsigned turns = 0;

	while (!q->send(record)) {
		if (!worker_on(w, 0))
			return false;
		pause_a_little(&turns);
	}
	return true;
}

static void role_send(struct worker *w)
{
	const struct peer_queue *q = w->run->peer->queue;
	uint64_t record[RECORD_MAX / 8];
	bool on = true;

	memset(record, 'x', sizeof(record));
	record[0] = (uint64_t)w->index << 48;
	if (q->join && q->join(record_bytes(w->run), false))
		work_no_memory(0);
	worker_wait(w);
	while (on) {
		for (uint32_t i = 0; i < BURST && on; i++) {
			record[0]++;
			on = send_one(w, q, record);
		}
		on = on && worker_on(w, BURST);
	}
}

/* Each writer numbers its records: a gap would be a loss, and the measurement would say nothing. */
static void check_number(uint64_t *last, uint64_t number)
{
	uint64_t *of = &last[(number >> 48) % WORKERS_MAX];

	if (*of && number != *of + 1) {
		fprintf(stderr, "lost or out of order: %llx after %llx\n", (unsigned long long)number,
			(unsigned long long)*of);
		exit(1);
	}
	*of = number;
}

static void role_receive(struct worker *w)
{
	const struct peer_queue *q = w->run->peer->queue;
	uint64_t record[RECORD_MAX / 8], last[WORKERS_MAX] = { 0 };
	unsigned turns = 0;

	if (q->join && q->join(record_bytes(w->run), true))
		work_no_memory(0);
	worker_wait(w);
	for (;;) {
		uint32_t n = 0;

		for (; n < BURST && q->receive(record); n++)
			check_number(last, record[0]);
		if (!n)
			pause_a_little(&turns);
		if (!worker_on(w, n))
			break;
	}
	if (q->leave)
		q->leave(); /* lets go of writers that wait for it */
}

static int with_queue(struct run *r, const char *const *names, int n, struct sum *sum)
{
	int e = r->peer->queue->make ? r->peer->queue->make(record_bytes(r)) : 0;

	return e ? e : gang_run(r, names, n, true, sum);
}

int work_queue(struct run *r)
{
	const char *names[WORKERS_MAX];
	int n = writers_of(r), e;
	struct sum sum;

	for (int i = 0; i < n; i++)
		names[i] = "send";
	names[n] = "receive";
	e = with_queue(r, names, n + 1, &sum);
	if (!e)
		work_emit("rate", sum.last_ops_per_ns * 1e3);
	return e;
}

/* ---- how soon ---- */

#define SAMPLES 4096u

/* What the reader saw, on the gate's board. */
struct delays {
	_Atomic uint32_t n;
	uint32_t ns[SAMPLES - 1];
};
_Static_assert(sizeof(struct delays) <= sizeof(((struct gate *)0)->board), "board");

static void sleep_ns(long ns)
{
	struct timespec ts = { 0, ns };

	nanosleep(&ts, NULL);
}

/* One record at a time, each with the time of its sending. */
static void send_apart(struct worker *w, void (*apart)(void))
{
	const struct peer_queue *q = w->run->peer->queue;
	uint64_t record[RECORD_MAX / 8] = { 0 };

	if (q->join && q->join(record_bytes(w->run), false))
		work_no_memory(0);
	worker_wait(w);
	do {
		apart();
		record[0] = work_now_ns();
	} while (send_one(w, q, record) && worker_on(w, 1));
}

static void apart_spinning(void)
{
	uint64_t end = work_now_ns() + 5000;

	while (work_now_ns() < end)
		work_relax();
}

static void apart_asleep(void)
{
	sleep_ns(200000);
}

static void role_send_often(struct worker *w)
{
	send_apart(w, apart_spinning);
}

static void role_send_seldom(struct worker *w)
{
	send_apart(w, apart_asleep);
}

static void receive_timed(struct worker *w, bool (*receive)(void *record))
{
	const struct peer_queue *q = w->run->peer->queue;
	struct delays *d = (struct delays *)w->gate->board;
	uint64_t record[RECORD_MAX / 8];
	uint32_t n = 0;

	if (q->join && q->join(record_bytes(w->run), true))
		work_no_memory(0);
	worker_wait(w);
	while (worker_on(w, 1)) {
		if (!receive(record) || !w->measured)
			continue;
		if (n < SAMPLES - 1)
			d->ns[n++] = (uint32_t)(work_now_ns() - record[0]);
		atomic_store_explicit(&d->n, n, memory_order_release);
	}
	if (q->leave)
		q->leave();
}

static void role_receive_spinning(struct worker *w)
{
	receive_timed(w, w->run->peer->queue->receive);
}

static void role_receive_asleep(struct worker *w)
{
	receive_timed(w, w->run->peer->queue->wait);
}

const struct role log_roles[] = {
	{ "log", role_log },
	{ "send", role_send },
	{ "receive", role_receive },
	{ "send_often", role_send_often },
	{ "send_seldom", role_send_seldom },
	{ "receive_spinning", role_receive_spinning },
	{ "receive_asleep", role_receive_asleep },
	{ 0 },
};

static int emit_delays(struct run *r)
{
	const struct delays *d = (const struct delays *)gang_board();
	uint32_t n = atomic_load(&d->n);
	static double ns[SAMPLES];

	for (uint32_t i = 0; i < n; i++)
		ns[i] = d->ns[i];
	if (!n)
		return r->tiny ? 0 : -EAGAIN;
	work_emit("p50", work_median(ns, n)); /* sorts them */
	work_emit("p99", ns[n * 99 / 100]);
	return 0;
}

static int delay_workload(struct run *r, const char *const *names)
{
	struct sum sum;
	int e = with_queue(r, names, 2, &sum);

	return e ? e : emit_delays(r);
}

int work_queue_spinning(struct run *r)
{
	static const char *const names[] = { "send_often", "receive_spinning" };

	return delay_workload(r, names);
}

int work_queue_asleep(struct run *r)
{
	static const char *const names[] = { "send_seldom", "receive_asleep" };

	return delay_workload(r, names);
}

/* ---- one record against the cost of the clock and of copying alone ---- */

static void log_batch(struct run *r, void *state, size_t n)
{
	size_t len = (size_t)r->work->arg;

	for (size_t i = 0; i < n; i++)
		if (r->peer->log(state, len))
			work_no_memory(len);
}

static void clock_batch(struct run *r, void *state, size_t n)
{
	(void)r;
	for (size_t i = 0; i < n; i++)
		*(volatile uint64_t *)state = work_now_ns();
}

#define COPY_WINDOW (1u << 20)

/* Through a window, as records go through a ring, so that it is not one hot line that is written. */
static void memcpy_batch(struct run *r, void *state, size_t n)
{
	static char *window;
	static size_t at;
	size_t size = (size_t)r->work->arg; /* not known to the compiler */

	if (!window)
		window = malloc(COPY_WINDOW);
	for (size_t i = 0; i < n && window; i++) {
		memcpy(window + at, state, size);
		__asm__ volatile("" ::: "memory");
		at = (at + size) % COPY_WINDOW;
	}
}

int work_log(struct run *r)
{
	static char record[RECORD_MAX] __attribute__((aligned(16)));
	double clock, copy, ns;

	r->seconds /= 3;
	memset(record, 'x', sizeof(record));
	clock = work_steady(r, clock_batch, record);
	copy = work_steady(r, memcpy_batch, record);
	ns = work_steady(r, log_batch, record);
	work_emit("clock", clock);
	work_emit("memcpy", copy);
	work_emit("ns", ns);
	work_emit("own", ns - clock - copy);
	return 0;
}

/* ---- each way to log, once ---- */

static void calls_batch(struct run *r, void *state, size_t n)
{
	size_t len = (size_t)r->work->arg;
	const struct peer_ops *p = r->peer;

	for (size_t i = 0; i < n; i++)
		if (p->log(state, len) || p->log_placed(state, len) || p->log_kv("request of a page"))
			work_no_memory(len);
}

int work_log_calls(struct run *r)
{
	static char record[RECORD_MAX] __attribute__((aligned(16)));

	memset(record, 'x', sizeof(record));
	work_emit("ns", work_steady(r, calls_batch, record));
	return 0;
}
