/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_latency.c - how long single calls take: percentiles, and the worst. Calls are timed in blocks. A block in
 * which the thread was switched out, or its CPU took an interrupt, says nothing about the allocator and is
 * left out as a whole; another is measured in its place.
 */
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#if defined(__x86_64__)
static ALWAYS_INLINE uint64_t ticks(void)
{
	uint64_t t;

	_mm_lfence();
	t = __rdtsc();
	_mm_lfence();
	return t;
}
#else
static ALWAYS_INLINE uint64_t ticks(void)
{
	return work_now_ns();
}
#endif

/* ---- blocks that nothing disturbed ---- */

#define BLOCK	  2048u /* calls: some 100 microseconds */
#define TRIES	  8u	/* as many blocks as are wanted, before giving up */
#define PROC_TEXT 65536

/* Interrupts that a CPU has taken: the sum of its column in /proc/interrupts; 0 where that cannot be read. */
static uint64_t interrupts_of(int cpu)
{
	static char text[PROC_TEXT];
	static int fd = -1, column = -1;
	uint64_t sum = 0;
	ssize_t n;

	if (fd < 0)
		fd = open("/proc/interrupts", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : pread(fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	if (column < 0) { /* the first line names the CPUs, which need not be all */
		char *end = text + strcspn(text, "\n"), name[16], *at;

		snprintf(name, sizeof(name), "CPU%d ", cpu);
		at = strstr(text, name);
		column = 0;
		for (char *p = text; at && at < end && p < at; p++)
			column += *p == 'C';
	}
	for (char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
		char *at = strchr(line, ':');

		for (int i = 0; at && i < column; i++)
			strtoull(at + 1, &at, 10), at--;
		sum += at ? strtoull(at + 1, NULL, 10) : 0;
	}
	return sum;
}

struct disturbances {
	long switches;
	uint64_t interrupts;
};

static struct disturbances disturbances_now(int cpu)
{
	struct disturbances d = { 0, 0 };
	struct rusage usage;

	if (!getrusage(RUSAGE_THREAD, &usage))
		d.switches = usage.ru_nvcsw + usage.ru_nivcsw;
	d.interrupts = interrupts_of(cpu);
	return d;
}

/* ---- histogram ---- */

#define TICKS_MAX 65536u /* longer ones count as that in percentiles */

struct histogram {
	uint64_t count[TICKS_MAX];
	uint64_t total;
};

static void histogram_add(struct histogram *h, uint64_t t)
{
	h->count[t < TICKS_MAX ? t : TICKS_MAX - 1]++;
	h->total++;
}

static double histogram_at(const struct histogram *h, double part)
{
	uint64_t want = (uint64_t)((double)h->total * part), seen = 0;

	for (uint32_t i = 0; i < TICKS_MAX; i++) {
		seen += h->count[i];
		if (seen > want)
			return i;
	}
	return TICKS_MAX;
}

/* ---- measuring ---- */

struct samples {
	struct replace replace;
	uint32_t at; /* in its steps */
	uint32_t t[BLOCK];
};

typedef void block_fn(const struct peer_ops *p, struct samples *s);

struct latency {
	struct histogram h;
	double empty; /* ticks of measuring nothing, as a median */
	double ns_per_tick;
};

static double empty_ticks(struct histogram *h)
{
	double median;

	for (int i = 0; i < 20000; i++) {
		uint64_t t0 = ticks();

		histogram_add(h, ticks() - t0);
	}
	median = histogram_at(h, 0.5);
	memset(h, 0, sizeof(*h));
	return median;
}

/* -EAGAIN: there is no CPU to be had for as long as a block takes. */
static int measure_blocks(struct run *r, block_fn *block, struct samples *s, struct latency *l,
			  uint32_t wanted)
{
	struct disturbances before = disturbances_now(r->cpu[0]), after;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < TRIES * wanted && kept < wanted; i++) {
		block(r->peer, s);
		after = disturbances_now(r->cpu[0]);
		if (after.switches == before.switches && after.interrupts == before.interrupts) {
			for (uint32_t k = 0; k < BLOCK; k++)
				histogram_add(&l->h, s->t[k]);
			kept++;
		}
		before = disturbances_now(r->cpu[0]);
	}
	return kept == wanted || r->tiny ? 0 : -EAGAIN;
}

static int measure(struct run *r, block_fn *block, struct samples *s, struct latency *l,
		   uint32_t calls)
{
	uint64_t start_ns, start;
	int e;

	l->empty = empty_ticks(&l->h);
	for (uint32_t i = 0; i < calls / BLOCK + 1; i++)
		block(r->peer, s); /* as many as are measured: until the heap is as it will stay */
	start = ticks();
	start_ns = work_now_ns();
	e = measure_blocks(r, block, s, l, calls / BLOCK + 1);
	l->ns_per_tick = (double)(work_now_ns() - start_ns) / (double)(ticks() - start);
	return e;
}

static double in_ns(const struct latency *l, double t)
{
	return t > l->empty ? (t - l->empty) * l->ns_per_tick : 0;
}

static void emit_percentiles(const struct latency *l)
{
	work_emit("p50", in_ns(l, histogram_at(&l->h, 0.5)));
	work_emit("p99", in_ns(l, histogram_at(&l->h, 0.99)));
	work_emit("p99.9", in_ns(l, histogram_at(&l->h, 0.999)));
}

/* ---- a pair ---- */

#define PAIRS (2u << 20)

static ALWAYS_INLINE void pair_block(const struct peer_ops *p, struct samples *s, bool handle)
{
	for (uint32_t i = 0; i < BLOCK; i++) {
		uint64_t start = ticks();
		peer_ref ref = work_alloc(p, 128);

		work_touch(p, ref, handle);
		p->free(ref);
		s->t[i] = (uint32_t)(ticks() - start);
	}
}

/* Each call of random replace by itself: every other one frees. With touch, the first touching of what was
 * allocated counts with the allocation: some heaps leave their page faults for then. */
static ALWAYS_INLINE void calls_block(const struct peer_ops *p, struct samples *s, bool handle,
				      bool touch)
{
	for (uint32_t i = 0; i < BLOCK; i += 2) {
		const struct replace_step *step = &s->replace.steps[s->at++ % REPLACE_STEPS];
		peer_ref *slot = &s->replace.live[step->slot];
		uint64_t t0 = ticks(), t1, t2;
		peer_ref ref;

		p->free(*slot);
		t1 = ticks();
		ref = work_alloc(p, step->size);
		if (touch)
			work_touch(p, ref, handle);
		t2 = ticks();
		if (!touch)
			work_touch(p, ref, handle);
		*slot = ref;
		s->t[i] = (uint32_t)(t1 - t0);
		s->t[i + 1] = (uint32_t)(t2 - t1);
	}
}

#define BLOCK_FORMS(name, body)                                                  \
	static void name##_pointers(const struct peer_ops *p, struct samples *s) \
	{                                                                        \
		const bool handle = false;                                       \
		body;                                                            \
	}                                                                        \
	static void name##_handles(const struct peer_ops *p, struct samples *s)  \
	{                                                                        \
		const bool handle = true;                                        \
		body;                                                            \
	}
BLOCK_FORMS(pair, pair_block(p, s, handle))
BLOCK_FORMS(calls, calls_block(p, s, handle, false))
BLOCK_FORMS(touched, calls_block(p, s, handle, true))

static uint32_t size_128(uint64_t *random)
{
	(void)random;
	return 128;
}

static struct samples samples;
static struct latency latency;

static int measure_among(struct run *r, size_fn *size, block_fn *block, uint32_t calls)
{
	uint32_t slots = r->tiny ? 64 : (uint32_t)r->work->arg;
	int e = replace_init(&samples.replace, r->peer, slots, size, WORK_SEED);

	return e ? e : measure(r, block, &samples, &latency, r->tiny ? BLOCK : calls);
}

/*
 * ---- the worst pair ----
 *
 * What a hypervisor takes away is seen by no counter of the guest's, and comes every few milliseconds. But it
 * comes at random, and what a heap does depends on what was asked of it: so the same pairs are made several times
 * over, by children of one process that all begin with the same heap, and of each block the least worst
 * counts. The worst of all blocks is then the heap's.
 */
#define REPLAYS	    5
#define PAIR_BLOCKS (PAIRS / BLOCK)
#define REPLAY_WARM (PAIR_BLOCKS / 8) /* copies of pages, a client of its own */

typedef uint32_t block_worst[PAIR_BLOCKS];

static void replay(struct run *r, block_fn *block, int index, uint32_t *worst, uint32_t blocks)
{
	if (r->peer->forked)
		r->peer->forked(index);
	work_pin(r->cpu[0]);
	for (uint32_t i = 0; i < REPLAY_WARM && i < blocks; i++)
		block(r->peer, &samples);
	for (uint32_t i = 0; i < blocks; i++) {
		uint32_t most = 0;

		block(r->peer, &samples);
		for (uint32_t k = 0; k < BLOCK; k++)
			most = samples.t[k] > most ? samples.t[k] : most;
		worst[i] = most;
	}
}

/* Ticks; 0: a replay failed. */
static uint32_t worst_of_replays(struct run *r, block_fn *block)
{
	uint32_t blocks = r->tiny ? 1 : PAIR_BLOCKS, most = 0;
	block_worst *worst = mmap(NULL, REPLAYS * sizeof(*worst), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (worst == MAP_FAILED)
		return 0;
	for (int i = 0; i < REPLAYS; i++) {
		pid_t pid = fork();
		int status = 1;

		if (!pid) {
			replay(r, block, i, worst[i], blocks);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			return 0;
	}
	for (uint32_t i = 0; i < blocks; i++) {
		uint32_t least = UINT32_MAX;

		for (int k = 0; k < REPLAYS; k++)
			least = worst[k][i] < least ? worst[k][i] : least;
		most = least > most ? least : most;
	}
	munmap(worst, REPLAYS * sizeof(*worst));
	return most;
}

int work_latency_pair(struct run *r)
{
	int e = measure_among(r, size_128, FORM(r, pair), PAIRS);
	uint32_t worst;

	if (e)
		return e;
	emit_percentiles(&latency);
	worst = worst_of_replays(r, FORM(r, pair));
	if (!worst)
		return -ECHILD;
	work_emit("worst", in_ns(&latency, worst));
	return 0;
}

/* A million calls in a full run. */
static uint32_t calls_of(const struct run *r)
{
	return (uint32_t)(r->seconds * 1e7);
}

int work_latency(struct run *r)
{
	int e = measure_among(r, size_128, FORM(r, calls), calls_of(r));

	if (!e)
		emit_percentiles(&latency);
	return e;
}

int work_latency_logmix(struct run *r)
{
	int e = measure_among(r, work_size_logmix, FORM(r, touched), calls_of(r));

	if (!e)
		emit_percentiles(&latency);
	return e;
}
