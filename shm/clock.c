/* SPDX-License-Identifier: Apache-2.0 */
/* The records' clock, see clock.h. Nothing here allocates, locks or waits: signal handlers log, too. */
#include "clock.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define LAG_MAX UINT64_C(10000000) /* a tick, where the kernel does not say how long it is */

#define REAL_TRIES 8
#define REAL_APART_NS 100000u /* between two readings that may be taken for one moment */

bool clock_real_offset(uint64_t *ret)
{
	for (int i = 0; i < REAL_TRIES; i++) {
		uint64_t before = clock_now(), real = clock_real(), after = clock_now();

		*ret = real - after;
		if (after - before < REAL_APART_NS)
			return true;
	}
	return false;
}

/* ---- the processor's counter, if it is one to go by ---- */

#if defined(__x86_64__)

/* It runs at one rate in all states of the processor, and 16 bytes can be swapped. */
static bool cpu_keeps_time(void)
{
	unsigned a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_CMPXCHG16B))
		return false;
	return __get_cpuid(0x80000007, &a, &b, &c, &d) && d & 1u << 8;
}

/* And in step on all processors: then the kernel goes by it, and has tested it. */
static bool kernel_trusts_it(void)
{
	char text[16] = "";
	int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
		      O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n >= 3 && !strncmp(text, "tsc", 3) && (text[3] == '\n' || !text[3]);
}

/* 0: not asked yet; 1: yes; 2: no. Of this process, and its children. */
static bool ticks_usable(void)
{
	static _Atomic int usable;
	int known = atomic_load_explicit(&usable, memory_order_relaxed);

	if (!known) {
		known = cpu_keeps_time() && kernel_trusts_it() ? 1 : 2;
		atomic_store_explicit(&usable, known, memory_order_relaxed);
	}
	return known == 1;
}

/* After all instructions before it, and before all that follow. */
static inline uint64_t ticks_between(void)
{
	uint64_t ticks;

	__builtin_ia32_lfence();
	ticks = __builtin_ia32_rdtsc();
	__builtin_ia32_lfence();
	return ticks;
}

/* Both words at once. */
static bool swap_point(struct clock_point *p, struct clock_point seen, struct clock_point next)
{
	uint64_t first = seen.epoch, second = seen.ns;
	bool done;

	__asm__ volatile("lock cmpxchg16b %1\n\tsete %0"
			 : "=r"(done), "+m"(*p), "+a"(first), "+d"(second)
			 : "b"((uint64_t)next.epoch), "c"((uint64_t)next.ns)
			 : "cc", "memory");
	return done;
}

#else

static bool ticks_usable(void)
{
	return false;
}

static uint64_t ticks_between(void)
{
	return 0;
}

static bool swap_point(struct clock_point *p, struct clock_point seen, struct clock_point next)
{
	(void)p;
	(void)seen;
	(void)next;
	return false;
}

#endif

/* ---- points of the line ---- */

#define SAMPLES 4
#define SAMPLE_TICKS 20000u /* longest reading of both clocks that says which belongs to which */
#define APART_NS UINT64_C(1000000) /* a line this far from CLOCK_MONOTONIC is not gone by */
#define MEASURE_LEAST (UINT64_C(1) << 25) /* ticks in which a rate can be measured at all, … */
#define MEASURE_WELL (UINT64_C(1) << 32)  /* … to which the newest rate is measured, and … */
#define MEASURE_MOST (UINT64_C(1) << 34)  /* … beyond which too much may have happened */
#define RATE_LEAST (UINT64_C(1) << (CLOCK_EPOCH_SHIFT - 4)) /* nanoseconds an epoch, at 16 GHz … */
#define RATE_MOST (UINT64_C(1) << (CLOCK_EPOCH_SHIFT + 2))  /* … and at 250 MHz */

/* Counter and clock at one moment. */
static bool sample(uint64_t *ticks, uint64_t *ns)
{
	uint64_t best = SAMPLE_TICKS;

	for (int i = 0; i < SAMPLES; i++) {
		uint64_t before = ticks_between(), now = clock_now(), after = ticks_between();

		if (after - before >= best)
			continue;
		best = after - before;
		*ticks = before + best / 2;
		*ns = now;
	}
	return best < SAMPLE_TICKS;
}

/* Both words as they were at one moment; if not, epoch 0. */
static struct clock_point read_point(struct clock_point *p)
{
	struct clock_point seen = {
		.epoch = atomic_load_explicit(&p->epoch, memory_order_acquire),
		.ns = atomic_load_explicit(&p->ns, memory_order_acquire),
	};

	/* An epoch that was left never comes back. */
	if (atomic_load_explicit(&p->epoch, memory_order_relaxed) != seen.epoch)
		seen.epoch = 0;
	return seen;
}

static struct clock_point *point_of(struct ring_header *h, uint64_t epoch)
{
	return &h->points[epoch % CLOCK_POINTS];
}

static bool get_point(struct ring_header *h, uint64_t epoch, uint64_t *ns)
{
	struct clock_point seen = read_point(point_of(h, epoch));

	*ns = seen.ns;
	return seen.epoch == epoch;
}

/*
 * Sets a point, unless it is set: *ns is what stands there. One that is of the future was left by an earlier
 * boot, or by damage.
 * Crash: set or not, at once. Modelled in tests/model/clock.pml.
 */
static bool set_point(struct ring_header *h, uint64_t epoch, uint64_t *ns)
{
	struct clock_point *p = point_of(h, epoch);
	struct clock_point seen = read_point(p), next = { .epoch = epoch, .ns = *ns };
	uint64_t now = ticks_between() >> CLOCK_EPOCH_SHIFT; /* the caller may have been stopped */

	if (epoch < now)
		return false;
	if (seen.epoch < epoch || seen.epoch > now + 1)
		swap_point(p, seen, next);
	return get_point(h, epoch, ns);
}

/* Measured anew, from now on. */
static void forget_rate(struct ring_header *h, uint64_t ticks, uint64_t ns)
{
	struct clock_point to = { .epoch = ticks, .ns = ns };

	atomic_store_explicit(&h->epoch_ns, 0, memory_order_relaxed);
	swap_point(&h->reference, read_point(&h->reference), to);
}

/* Within 2,000 parts of a million. */
static bool alike(uint64_t rate, uint64_t other)
{
	return rate - other < other / 512 || other - rate < other / 512;
}

/* Nanoseconds an epoch, by the reference that was left some seconds ago; 0: not known yet. */
static uint64_t rate_of(struct ring_header *h, uint64_t ticks, uint64_t ns)
{
	struct clock_point from = read_point(&h->reference), to = { .epoch = ticks, .ns = ns };
	uint64_t rate = atomic_load_explicit(&h->epoch_ns, memory_order_relaxed), measured;
	uint64_t age = ticks - from.epoch;

	if (rate < RATE_LEAST || rate > RATE_MOST)
		rate = 0;
	if (!from.epoch || age > MEASURE_MOST || ns <= from.ns || ns - from.ns > MEASURE_MOST * 4) {
		swap_point(&h->reference, from, to);
		return rate;
	}
	if (age < (rate ? MEASURE_WELL : MEASURE_LEAST))
		return rate;
	measured = (uint64_t)(((unsigned __int128)(ns - from.ns) << CLOCK_EPOCH_SHIFT) / age);
	if (measured < RATE_LEAST || measured > RATE_MOST || (rate && !alike(measured, rate))) {
		forget_rate(h, ticks, ns); /* one of the two is wrong */
		return 0;
	}
	atomic_store_explicit(&h->epoch_ns, measured, memory_order_relaxed);
	if (age >= MEASURE_WELL)
		swap_point(&h->reference, from, to);
	return measured;
}

/* Both ends of the epoch of this moment, set if need be. */
static bool set_line(struct ring_header *h, uint64_t ticks, uint64_t ns, uint64_t *from, uint64_t *to)
{
	uint64_t epoch = ticks >> CLOCK_EPOCH_SHIFT, at = ticks & CLOCK_EPOCH_MASK;
	uint64_t rate = rate_of(h, ticks, ns), gone = at * rate >> CLOCK_EPOCH_SHIFT;

	if (!rate || ns <= gone)
		return false;
	*from = ns - gone;
	*to = ns - gone + rate;
	return set_point(h, epoch, from) && set_point(h, epoch + 1, to);
}

void clock_begin(struct ring_header *h)
{
	uint64_t ticks, ns;

	if (ticks_usable() && sample(&ticks, &ns))
		forget_rate(h, ticks, ns);
}

/* ---- a thread's part of it ---- */

/* Times that were given so far are not above this, once the line's epoch is over. */
static uint64_t line_end(const struct clock_line *line)
{
	return line->ns + line->slope;
}

static void take_line(struct clock_line *line, uint64_t epoch, uint64_t ns, uint64_t slope)
{
	/* A signal handler in between does the same, or is of a later epoch, and then this one is over. */
	__atomic_store_n(&line->epoch, 0, __ATOMIC_RELAXED);
	atomic_signal_fence(memory_order_seq_cst);
	line->ns = ns;
	line->slope = slope;
	atomic_signal_fence(memory_order_seq_cst);
	__atomic_store_n(&line->epoch, epoch, __ATOMIC_RELAXED);
}

/* An epoch that never comes: no line is to be had at this moment. */
static uint64_t in_vain(uint64_t ticks)
{
	return ~(ticks / MEASURE_LEAST);
}

/* By the system, and not before what was given: the clock is waited for, for as long as an epoch can be; a line that
 * ends later is damaged. While one is being taken (epoch 0) its end means nothing; what was given before is near. */
static uint64_t by_system(struct clock_line *line, uint64_t ticks)
{
	uint64_t now = clock_now(), end = line_end(line), most = line->epoch ? RATE_MOST + APART_NS : APART_NS;

	if (now < end && end - now < most)
		now = end;
	take_line(line, in_vain(ticks), now, 0);
	return now;
}

static bool near(uint64_t x, uint64_t y)
{
	return x - y < APART_NS || y - x < APART_NS;
}

/* The time; and the line of this epoch, for the next times. */
static uint64_t adopt(struct clock_line *line, struct ring_header *h, bool writable)
{
	uint64_t ticks, ns, from = 0, to = 0, now, end = line_end(line), epoch;

	if (!sample(&ticks, &ns))
		return by_system(line, 0); /* and tried again */
	epoch = ticks >> CLOCK_EPOCH_SHIFT;
	if (!(get_point(h, epoch, &from) && get_point(h, epoch + 1, &to)) &&
	    !(writable && set_line(h, ticks, ns, &from, &to)))
		return by_system(line, ticks);
	now = from + ((ticks & CLOCK_EPOCH_MASK) * (to - from) >> CLOCK_EPOCH_SHIFT);
	if (to <= from || !alike(to - from, atomic_load_explicit(&h->epoch_ns, memory_order_relaxed)) ||
	    !near(now, ns)) {
		if (writable)
			forget_rate(h, ticks, ns);
		return by_system(line, ticks);
	}
	if (now < end)
		return by_system(line, 0); /* it will have come so far in a moment */
	take_line(line, epoch, from, to - from);
	return now;
}

static uint64_t exact(struct clock_line *line, struct ring_header *h, bool writable, uint64_t ticks)
{
	if (line->epoch == ticks >> CLOCK_EPOCH_SHIFT)
		return clock_line_at(line, ticks);
	return line->epoch == in_vain(ticks) ? by_system(line, ticks) : adopt(line, h, writable);
}

uint64_t clock_read(struct clock_line *line, struct ring_header *h, bool writable)
{
	return ticks_usable() ? exact(line, h, writable, ticks_between()) : clock_now();
}

/* ---- coarse ---- */

uint64_t clock_lag(enum clock_kind kind)
{
	struct timespec t;

	if (kind == CLOCK_KIND_EXACT)
		return 0;
	if (clock_getres(CLOCK_MONOTONIC_COARSE, &t) || t.tv_sec || (uint64_t)t.tv_nsec > LAG_MAX)
		return LAG_MAX;
	return (uint64_t)t.tv_nsec;
}

static uint64_t coarse_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* At least now, and later than all that the thread was given before. Never back: not by a signal handler's
 * having come between, either, after which this one's swap fails. */
static uint64_t advance(struct ring_writer *w, uint64_t now)
{
	uint64_t seen, next;

	do {
		seen = __atomic_load_n(&w->coarse, __ATOMIC_RELAXED);
		next = now > seen ? now : seen + 1;
	} while (!clock_swap_own(&w->coarse, seen, next));
	return next;
}

/* ---- a writer ---- */

void clock_settle(struct ring_writer *w, struct ring_header *h, enum clock_kind kind)
{
	enum clock_way way = kind == CLOCK_KIND_COARSE ? CLOCK_COARSE :
			     ticks_usable()	       ? CLOCK_TICKS :
							 CLOCK_SYSTEM;

	if (w->clock == (uint32_t)way)
		return;
	/* Coarse times follow the exact ones given so far. The other way round exact ones are later by
	 * themselves, but for what the line may be behind: a thread writes less than a record a nanosecond. */
	if (way == CLOCK_COARSE)
		advance(w, clock_read(&w->line, h, true));
	else if (w->coarse)
		take_line(&w->line, 0, w->coarse, 0);
	atomic_signal_fence(memory_order_seq_cst);
	__atomic_store_n(&w->clock, (uint32_t)way, __ATOMIC_RELAXED);
}

uint64_t clock_stamp_slowly(struct ring_writer *w, struct ring_header *h)
{
	switch (w->clock) {
	case CLOCK_COARSE:
		return advance(w, coarse_now());
	case CLOCK_TICKS:
		return exact(&w->line, h, true, ticks_between());
	default:
		return clock_now();
	}
}
