/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients notice of the daemon's life: nothing. Two verbs, told by lines of stdin what is happening to
 * the daemon meanwhile.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../thread_time.h"
#include "mortal.h"

static void die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* ---- measure ---- */

enum { WORKERS = 3, KINDS = 8, WINDOWS = 64, BUCKETS = 256 };

/*
 * Of one window and worker. Time is time of the call less time without a processor; waits are voluntary
 * changes of context, which a call that waits for another process cannot do without.
 */
struct window {
	uint64_t calls, longest_ns, waits;
	uint32_t buckets[BUCKETS]; /* eighths of a doubling */
};

static struct {
	_Atomic uint32_t window, stop, ready;
	_Atomic uint64_t passed; /* an object on its way from one worker to another */
	struct window windows[WINDOWS][WORKERS];
} * shared;

static unsigned bucket_of(uint64_t ns)
{
	unsigned log = ns ? 63 - (unsigned)__builtin_clzll(ns) : 0;

	return log < 3 ? log : log * 8 + (unsigned)(ns >> (log - 3) & 7);
}

static uint64_t bucket_ns(unsigned bucket)
{
	return bucket < 24 ? 8 : (UINT64_C(8) + bucket % 8) << (bucket / 8 - 3);
}

/* All that the data path is, once around. */
static void calls(unsigned worker, unsigned *seed)
{
	shma_handle h = shma_alloc(self, 16 + (unsigned)rand_r(seed) % 2000, 0), other;
	char name[16], copy[16];

	if (!h)
		die("alloc: %s", strerror(errno));
	memset(shma_ptr(self, h), 1, 16);
	if (rand_r(seed) % 64 == 0) {
		snprintf(name, sizeof(name), "w%u", worker);
		if (shma_publish(self, name, h) || shma_lookup(self, name) != h ||
		    shma_read(self, h, 0, copy, sizeof(copy)) != sizeof(copy) ||
		    shma_unpublish(self, name))
			die("publish");
	}
	if (rand_r(seed) % 64 == 0) {
		shma_handle large = shma_alloc(self, 200000, 0);

		if (!large || shma_free(self, large))
			die("large: %s", strerror(errno));
	}
	if (shma_log_write(self, 6, copy, 0) < 0)
		die("log");
	if (shma_share(self, h))
		die("share");
	other = atomic_exchange(&shared->passed, h);
	if (!other)
		return;
	if (shma_take(self, other) || shma_free(self, other))
		die("take and free");
}

static void count(struct window *w, uint64_t took)
{
	unsigned bucket = bucket_of(took);

	w->calls++;
	w->buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
	if (took > w->longest_ns)
		w->longest_ns = took;
}

/* A suspiciously long one is looked at: how much of it was spent waiting for a processor. */
#define LONG_NS 200000

static __attribute__((noreturn)) void measure(unsigned worker)
{
	unsigned seed = worker + 1;

	while (!atomic_load(&shared->stop)) {
		uint32_t at = atomic_load(&shared->window);
		struct window *w = &shared->windows[at % WINDOWS][worker];
		uint64_t waits = thread_sleeps();

		if (at == 0) { /* between windows */
			calls(worker, &seed);
			sched_yield();
			continue;
		}
		for (int i = 0; i < 200; i++) {
			uint64_t queued = thread_queued_ns(), start = thread_clock_ns(), took;

			for (int k = 0; k < 10; k++)
				calls(worker, &seed);
			took = thread_clock_ns() - start;
			if (took > LONG_NS) {
				uint64_t less = thread_queued_ns() - queued;

				took = took > less ? took - less : 0;
			}
			count(w, took);
			if (atomic_load(&shared->window) != at)
				break;
		}
		w->waits += thread_sleeps() - waits;
	}
	_exit(0);
}

static uint64_t percentile(const struct window *sum, double part)
{
	uint64_t left = (uint64_t)((double)sum->calls * (1 - part)), seen = 0;

	for (unsigned i = BUCKETS; i-- > 0;) {
		seen += sum->buckets[i];
		if (seen > left)
			return bucket_ns(i);
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t median(uint64_t *values, unsigned count_)
{
	qsort(values, count_, sizeof(*values), compare);
	return count_ ? values[count_ / 2] : 0;
}

static char kinds[KINDS][16];
static unsigned kind_of[WINDOWS], kind_count, windows;

static unsigned kind_named(char *name)
{
	name[sizeof(kinds[0]) - 1] = '\0';
	unsigned i = 0;

	while (i < kind_count && strcmp(kinds[i], name) != 0)
		i++;
	if (i == KINDS)
		die("too many kinds");
	if (i == kind_count)
		strcpy(kinds[kind_count++], name);
	return i;
}

static void sum_up(unsigned kind, struct window *sum, uint64_t *longest, uint64_t *waits)
{
	uint64_t l[WINDOWS] = { 0 }, n[WINDOWS] = { 0 };
	unsigned of = 0;

	memset(sum, 0, sizeof(*sum));
	for (unsigned i = 1; i <= windows; i++) {
		if (kind_of[i] != kind)
			continue;
		for (unsigned k = 0; k < WORKERS; k++) {
			const struct window *w = &shared->windows[i][k];

			sum->calls += w->calls;
			sum->waits += w->waits;
			for (unsigned b = 0; b < BUCKETS; b++)
				sum->buckets[b] += w->buckets[b];
			if (w->longest_ns > l[of])
				l[of] = w->longest_ns;
			n[of] += w->waits;
		}
		if (l[of] > sum->longest_ns)
			sum->longest_ns = l[of];
		of++;
	}
	*longest = median(l, of);
	*waits = median(n, of);
}

/* Kind 0 is what the others are held against: the longest of a window by its median over the windows, and
 * with room for a noisy machine. A call that waited for the daemon would wait for a second and more. */
static int judge(void)
{
	uint64_t calm_longest = 0, calm_waits = 0;
	int bad = 0;

	printf("%-10s %9s %9s %9s %9s %14s %14s\n", "daemon", "ten calls", "p50 us", "p99.99 us",
	       "worst us", "median longest", "median waits");
	for (unsigned kind = 0; kind < kind_count; kind++) {
		struct window sum;
		uint64_t longest, waits;

		sum_up(kind, &sum, &longest, &waits);
		printf("%-10s %9llu %9.1f %9.1f %9.1f %14.1f %14llu\n", kinds[kind],
		       (unsigned long long)sum.calls, (double)percentile(&sum, 0.5) / 1e3,
		       (double)percentile(&sum, 0.9999) / 1e3, (double)sum.longest_ns / 1e3,
		       (double)longest / 1e3, (unsigned long long)waits);
		if (kind == 0) {
			calm_longest = longest;
			calm_waits = waits;
		}
		if (longest > 4 * calm_longest + 20000000) {
			printf("%s: the longest took %.1f ms, without it %.1f ms\n", kinds[kind],
			       (double)longest / 1e6, (double)calm_longest / 1e6);
			bad = 1;
		}
		if (waits > 2 * calm_waits + 40) {
			printf("%s: %llu waits, without it %llu\n", kinds[kind],
			       (unsigned long long)waits, (unsigned long long)calm_waits);
			bad = 1;
		}
	}
	printf("verdict=%s\n", bad ? "noticed" : "unnoticed");
	fflush(stdout);
	return bad;
}

/* measure NAME: lines of stdin: the name of what is being done to the daemon, "-" between, "end". */
int verb_measure(char **argv)
{
	pid_t workers[WORKERS];
	char line[64];
	int bad = 0, status;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		die("memory");
	fflush(stdout);
	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i] = fork();
		if (workers[i])
			continue;
		die_with_parent();
		attach(argv[0], 0, NULL);
		atomic_fetch_add(&shared->ready, 1);
		measure(i);
	}
	while (atomic_load(&shared->ready) < WORKERS)
		usleep(1000);
	say("client=0 pid=%d", (int)getpid());
	while (fgets(line, sizeof(line), stdin) && strcmp(line, "end\n") != 0) {
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, "-") == 0) {
			atomic_store(&shared->window, 0);
		} else if (windows + 1 < WINDOWS) {
			kind_of[++windows] = kind_named(line);
			atomic_store(&shared->window, windows);
		}
	}
	atomic_store(&shared->window, 0);
	atomic_store(&shared->stop, 1);
	for (unsigned i = 0; i < WORKERS; i++)
		if (waitpid(workers[i], &status, 0) != workers[i] || status)
			bad = 1;
	return judge() || bad;
}

/* ---- follow ---- */

static struct {
	_Atomic uint64_t wrote[WORKERS], got[WORKERS], readers;
	_Atomic uint32_t stop;
} * log_shared;

static __attribute__((noreturn)) void write_log(unsigned worker)
{
	uint64_t data[2] = { worker, 0 };

	while (atomic_load(&log_shared->stop) == 0) {
		int r;

		data[1]++;
		r = shma_log_write(self, 6, data, sizeof(data));
		if (r)
			die("log: %s", shma_strerror(r));
		atomic_fetch_add(&log_shared->wrote[worker], 1);
		if (data[1] % 16 == 0)
			usleep(200);
	}
	_exit(0);
}

/* The consumer: each record of each writer once, in order, none lost. One that takes over from a killed one
 * may be given the last record again. */
static __attribute__((noreturn)) void read_log(void)
{
	struct shma_reader *reader;
	struct shma_record rec;
	bool first[WORKERS] = { true, true, true };
	int dry = 0, r = shma_reader_open(self, &reader, SHMA_CONSUMER);

	if (r)
		die("reader: %s", shma_strerror(r));
	atomic_fetch_add(&log_shared->readers, 1);
	while (dry < 3) {
		const uint64_t *data;
		uint64_t got;

		r = shma_reader_next(reader, &rec, 20);
		if (r < 0)
			die("reading: %s", shma_strerror(r));
		if (!r) {
			dry = atomic_load(&log_shared->stop) == 2 ? dry + 1 : 0;
			continue;
		}
		data = rec.data;
		if (rec.len != 16 || data[0] >= WORKERS || rec.lost)
			die("a record of %zu bytes, %llu lost", rec.len,
			    (unsigned long long)rec.lost);
		got = atomic_load(&log_shared->got[data[0]]);
		if (data[1] != got + 1 && !(first[data[0]] && data[1] == got))
			die("record %llu of writer %llu after %llu", (unsigned long long)data[1],
			    (unsigned long long)data[0], (unsigned long long)got);
		first[data[0]] = false;
		atomic_store(&log_shared->got[data[0]], data[1]);
	}
	_exit(0);
}

static pid_t start(const char *name, int worker)
{
	pid_t child = fork();
	struct shma_options opt = { .struct_size = sizeof(opt), .log_policy = SHMA_LOG_BLOCK };

	if (child)
		return child;
	die_with_parent();
	/* The daemon may be away: what it served is a file for all that. */
	attach(name, SHMA_EMBEDDED | SHMA_CREATE, &opt);
	if (worker < 0)
		read_log();
	write_log((unsigned)worker);
}

static void end_child(pid_t child, bool killed)
{
	int status;

	if (killed)
		kill(child, SIGKILL);
	if (waitpid(child, &status, 0) != child || (killed ? !WIFSIGNALED(status) : status != 0))
		die("a child ends with %#x", status);
}

static uint64_t total(_Atomic uint64_t *counts)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < WORKERS; i++)
		sum += atomic_load(&counts[i]);
	return sum;
}

/*
 * follow NAME: writers that wait for the consumer, and the consumer. Lines of stdin: "progress" (is anything
 * being read), "kill" (the consumer, and another one goes on), "stop" (it, for 300 ms), "end".
 */
int verb_follow(char **argv)
{
	pid_t writers[WORKERS], reader;
	char line[64];

	log_shared = mmap(NULL, sizeof(*log_shared), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (log_shared == MAP_FAILED)
		die("memory");
	fflush(stdout);
	reader = start(argv[0], -1);
	while (!atomic_load(&log_shared->readers))
		usleep(1000);
	for (int i = 0; i < WORKERS; i++)
		writers[i] = start(argv[0], i);
	say("client=0 pid=%d", (int)getpid());
	while (fgets(line, sizeof(line), stdin) && strcmp(line, "end\n") != 0) {
		uint64_t before = total(log_shared->got), since = thread_clock_ns();

		if (strcmp(line, "kill\n") == 0) {
			/* Together: while there is no consumer nothing is full, and records may go. */
			for (int i = 0; i < WORKERS; i++)
				kill(writers[i], SIGSTOP);
			end_child(reader, true);
			before = atomic_load(&log_shared->readers);
			reader = start(argv[0], -1);
			while (atomic_load(&log_shared->readers) == before &&
			       thread_clock_ns() - since < 10000000000)
				usleep(1000);
			for (int i = 0; i < WORKERS; i++)
				kill(writers[i], SIGCONT);
			before = total(log_shared->got);
		} else if (strcmp(line, "stop\n") == 0) {
			kill(reader, SIGSTOP);
			usleep(300000);
			kill(reader, SIGCONT);
			before = total(log_shared->got);
		}
		while (total(log_shared->got) < before + 1000 &&
		       thread_clock_ns() - since < UINT64_C(20000000000))
			usleep(1000);
		if (total(log_shared->got) < before + 1000)
			die("the reader does not go on");
		say("reads");
	}
	atomic_store(&log_shared->stop, 1);
	for (int i = 0; i < WORKERS; i++)
		end_child(writers[i], false);
	atomic_store(&log_shared->stop, 2);
	end_child(reader, false);
	if (total(log_shared->got) != total(log_shared->wrote))
		die("%llu written, %llu read", (unsigned long long)total(log_shared->wrote),
		    (unsigned long long)total(log_shared->got));
	say("wrote=%llu read=all", (unsigned long long)total(log_shared->wrote));
	return 0;
}
