/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work.c - the table of workloads and what they have in common.
 */
#include "work.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* clang-format off */
#define NS(name, title, ...)    {name, title, "ns", false, __VA_ARGS__}
#define MPS(name, title, ...)   {name, title, "M/s", true, __VA_ARGS__}
#define ABOVE(name, title, ...) {name, title, "%", false, __VA_ARGS__}
#define TIMES(name, title, ...) {name, title, "x", false, __VA_ARGS__}
#define MBS(name, title)        {name, title, "MB/s", true, NULL}
#define US(name, title)	        {name, title, "us", false, NULL}
#define NO_BAR NULL
#define BARS(...) (const struct bar[]){__VA_ARGS__, {BAR_NONE, 0, 0, NULL, NULL, NULL}}
/* Limit, then goal: of shmalloc's median to that of the best private malloc, or of a peer; or as it is. */
#define BEST(...)       BARS({BAR_BEST, __VA_ARGS__, NULL, NULL, NULL})
#define PEER(peer, ...) BARS({BAR_PEER, __VA_ARGS__, peer, NULL, NULL})
#define VALUE(...)      BARS({BAR_VALUE, __VA_ARGS__, NULL, NULL, NULL})
/* Of the form whose records have a coarse time; of the one with exact times, to the peer. */
#define COARSE(...)      BARS({BAR_BEST, __VA_ARGS__, NULL, NULL, "shmalloc-coarse"})
#define EXACT(peer, ...) BARS({BAR_PEER, __VA_ARGS__, peer, NULL, "shmalloc"})
/* What a record costs its writer; so many writers alone; so many that send, and one that receives. */
#define LOG(bytes)                                                                              \
	{"log" #bytes, NEEDS_LOG, work_log, bytes,                                              \
	 {NS("ns", "log record of " #bytes " B", NO_BAR), NS("clock", "  … clock_gettime alone", NO_BAR), \
	  NS("memcpy", "  … memcpy alone", NO_BAR), NS("own", #bytes " B record beyond clock and memcpy", VALUE(20, 10))}}
#define WRITERS(bytes, n, title)                                                                \
	{"log" #bytes "x" #n, NEEDS_LOG, work_log_processes, bytes << 8 | n,                    \
	 {NS("ns", #bytes " B, " title ", ns x CPUs", NO_BAR), MPS("rate", #bytes " B, " title ": together", EXACT("lttng", 3, 6))}}
#define QUEUE(bytes, n, title)                                                                  \
	{"queue" #bytes "x" #n, NEEDS_QUEUE | NO_NULL, work_queue, bytes << 8 | n,              \
	 {MPS("rate", #bytes " B, " title " and a reader", COARSE(1.5, 3))}}
/* What shma_alloc() and shma_free() take for one object by each of their roads. */
#define ROADS(name, bytes, title)                                                               \
	{"road" name, NEEDS_HANDLES | NEEDS_STACK, work_roads, bytes,                           \
	 {NS("plain", title ", no flags", NO_BAR), NS("zero", "  … SHMA_ZERO", NO_BAR),          \
	  NS("shared", "  … SHMA_SHARED", NO_BAR), NS("persist", "  … SHMA_PERSIST", NO_BAR),    \
	  NS("large", "  … SHMA_LARGE", NO_BAR), NS("aligned", "  … SHMA_ALIGN(4096)", NO_BAR),  \
	  NS("temp", "  … SHMA_TEMP in a scope", NO_BAR),                                        \
	  NS("outside", "  … SHMA_TEMP outside", NO_BAR), NS("log", "  … as a log record", NO_BAR)}}
/* Of 5 million objects in 1 GiB the one who is killed had this share. */
#define RECOVERY(share)                                                                    \
	US("kernel", "death of " share ": kernel, to pidfd"),                              \
	US("library", "  … then to memory back, library"), US("cpu", "  … CPU time"),      \
	US("daemon", "  … to memory back, shmallocd"),                                     \
	US("slices", "  … to memory back, in passing"),                                    \
	US("pause", "  … longest call, library"),                                          \
	US("daemon_pause", "  … longest call, shmallocd"),                                 \
	US("slices_pause", "  … longest call, in passing"),                                \
	US("quiet", "  … longest call, nobody dies"),                                      \
	US("rebuild", "  … EOWNERDEAD to zone's lock")

const struct workload workloads[] = {
	{"pair128", ONE_SIZE, work_pair, 128, {NS("ns", "128 B pair", BEST(1.2, 1.0))}},
	{"bare128", ONE_SIZE, work_pair_bare, 128, {NS("ns", "  … not touched", NO_BAR)}},
	{"pair4k", 0, work_pair, 4096, {NS("ns", "4 KiB pair", BEST(1.2, 1.0))}},
	{"order", ONE_SIZE, work_order, 1000,
	 {NS("fifo", "1,000 x 128 B, first in first out", BEST(1.2, 1.0)),
	  NS("lifo", "1,000 x 128 B, last in first out", BEST(1.2, 1.0)),
	  NS("shuffled", "1,000 x 128 B, shuffled", BEST(1.2, 1.0))}},
	{"bulk", 0, work_bulk, 100000,
	 {NS("warm", "100,000 of 1-1024 B, warm: both", BEST(1.0, 0.8)),
	  NS("warm_alloc", "  … warm: alloc", NO_BAR), NS("warm_free", "  … warm: free", NO_BAR),
	  NS("cold", "100,000 of 1-1024 B, cold: both", BEST(1.0, 0.8)),
	  NS("cold_alloc", "  … cold: alloc", NO_BAR), NS("cold_free", "  … cold: free", NO_BAR)}},
	{"ws", 0, work_replace, 4096, {NS("ns", "random replace, 4,096 of 16-1024 B", BEST(1.2, 1.0))}},
	{"bare_ws", 0, work_replace_bare, 4096, {NS("ns", "  … not touched", NO_BAR)}},
	{"logmix", 0, work_logmix, 20000, {NS("ns", "log mix, 20,000 live: mean", BEST(1.1, 0.9))}},
	{"latency_logmix", 0, work_latency_logmix, 20000,
	 {NS("p50", "log mix, each call: p50", NO_BAR), NS("p99", "  … p99", NO_BAR),
	  NS("p99.9", "log mix, each call: p99.9", BEST(1.0, 0.5))}},
	{"bare64k", 0, work_pair_bare, 65536, {NS("ns", "64 KiB untouched", BEST(1.3, 1.0))}},
	{"pages64k", 0, work_pair_pages, 65536, {NS("ns", "64 KiB touched", BEST(1.3, 1.0))}},
	{"bare1m", 0, work_pair_bare, 1048576, {NS("ns", "1 MiB untouched", BEST(1.3, 1.0))}},
	{"pages1m", 0, work_pair_pages, 1048576, {NS("ns", "1 MiB touched", BEST(1.3, 1.0))}},
	{"latency_pair", ONE_SIZE, work_latency_pair, 4096,
	 {NS("p50", "a 128 B pair by itself: p50", NO_BAR), NS("p99", "  … p99", NO_BAR),
	  NS("p99.9", "a 128 B pair by itself: p99.9", BEST(1.0, 0.5)),
	  NS("worst", "worst of 2 million, noise left out", BEST(1.0, 0.5))}},
	{"latency", ONE_SIZE, work_latency, 4096,
	 {NS("p50", "128 B of 4,096, each call: p50", NO_BAR), NS("p99", "  … p99", NO_BAR),
	  NS("p99.9", "  … p99.9", NO_BAR)}},
	{"threads_pair", ONE_SIZE, work_threads_pair, 16,
	 {NS("ns", "16 threads 128 B pair, ns x CPUs", BEST(1.2, 1.0)), NS("cpu", "  … CPU time", NO_BAR)}},
	{"threads_ws", 0, work_threads_replace, 16,
	 {NS("ns", "16 threads random replace, ns x CPUs", BEST(1.2, 1.0)), NS("cpu", "  … CPU time", NO_BAR)}},
	{"pass_threads", ONE_SIZE, work_pass_threads, 2,
	 {MPS("rate", "producer thread to consumer thread", BEST(1.0, 1.3))}},
	{"procs1", NEEDS_SHARED, work_processes, 1,
	 {NS("ns", "1 process, random replace, ns x CPUs", NO_BAR), NS("cpu", "  … CPU time", NO_BAR)}},
	{"procs2", NEEDS_SHARED, work_processes, 2,
	 {NS("ns", "2 processes, random replace, ns x CPUs", NO_BAR), NS("cpu", "  … CPU time", NO_BAR),
	  MPS("rate", "2 processes, random replace, together", PEER("boost", 80, 150))}},
	{"procs1_128", NEEDS_SHARED | ONE_SIZE, work_processes_one_size, 1,
	 {NS("ns", "1 process, replace of 128 B, ns x CPUs", NO_BAR)}},
	{"procs2_128", NEEDS_SHARED | ONE_SIZE, work_processes_one_size, 2,
	 {NS("ns", "2 processes, replace of 128 B, ns x CPUs", NO_BAR),
	  NS("cpu", "  … CPU time", NO_BAR), MPS("rate", "  … both together", NO_BAR)}},
	{"pass_procs", NEEDS_SHARED | ONE_SIZE, work_pass_processes, 2,
	 {MPS("rate", "producer process to consumer process", PEER("rte_mempool", 1.0, 1.5))}},
	{"stack", NEEDS_STACK, work_stack, 64,
	 {NS("ns", "64 B of temporary memory, reset with 64", NO_BAR),
	  NS("own", "64 B of it beyond the empty loop", VALUE(3.0, 2.0)),
	  NS("single", "mark, 64 B, reset", NO_BAR)}},
	{"hold", NEEDS_HANDLES, work_hold, 0,
	 {NS("further", "a further hold, taken and given back", VALUE(25, 15)),
	  NS("first", "the owner's, which frees: beyond alloc, free", NO_BAR)}},
	{"pack", NEEDS_HANDLES, work_pack, 1048576,
	 {MBS("lz4", "1 MiB of log lines packed by LZ4"), MBS("bare_lz4", "  … LZ4 alone"),
	  MBS("unlz4", "  … unpacked"), MBS("bare_unlz4", "  … LZ4 alone, unpacked"),
	  MBS("zstd", "  … packed by zstd, level 3"), MBS("bare_zstd", "  … zstd alone"),
	  MBS("unzstd", "  … unpacked"), MBS("bare_unzstd", "  … zstd alone, unpacked")}},
	{"file", NEEDS_HANDLES | FULL_ONLY, work_file, 256 << 20,
	 {MBS("read", "256 MiB file by read(2), warm"), MBS("object", "  … as an object, shma_read()"),
	  MBS("pointer", "  … at shma_ptr()"), MBS("read_cold", "256 MiB file by read(2), cold"),
	  MBS("object_cold", "  … as an object, shma_read()"), MBS("pointer_cold", "  … at shma_ptr()")}},
	ROADS("64", 64, "64 B"), ROADS("4k", 4096, "4 KiB"), ROADS("1m", 1048576, "1 MiB"),
	{"clients", NEEDS_ARENAS | FULL_ONLY, work_clients, 1000,
	 {NS("pair_1", "128 B pair, 1 client", NO_BAR), NS("pair_1000", "  … 1,000 clients", NO_BAR),
	  TIMES("pair", "pair: 1,000 clients to 1", VALUE(1.1, 1.0)),
	  NS("ws_1", "random replace, 1 client", NO_BAR), NS("ws_1000", "  … 1,000 clients", NO_BAR),
	  TIMES("ws", "random replace: 1,000 clients to 1", VALUE(1.1, 1.0))}},
	{"capacity", NEEDS_ARENAS, work_capacity, 64,
	 {NS("pair_1", "128 B pair, arena of 1 GiB", NO_BAR), NS("pair_64", "  … of 64 GiB", NO_BAR),
	  TIMES("pair", "pair: arena of 64 GiB to 1 GiB", VALUE(1.1, 1.0)),
	  NS("ws_1", "random replace, arena of 1 GiB", NO_BAR), NS("ws_64", "  … of 64 GiB", NO_BAR),
	  TIMES("ws", "random replace: arena of 64 GiB to 1", VALUE(1.1, 1.0))}},
	{"ptr", NEEDS_HANDLES, work_look_up, 4096,
	 {NS("checked", "read at a checked shma_ptr, 4,096 live", NO_BAR),
	  NS("plain", "  … at base + offset of the handle", NO_BAR),
	  NS("pointer", "  … at a pointer", NO_BAR)}},
	LOG(64), LOG(128), LOG(512),
	{"logcalls", NEEDS_ARENAS | NEEDS_LOG, work_log_calls, 64,
	 {NS("ns", "64 B written, placed, and structured", NO_BAR)}},
	WRITERS(128, 1, "1 writer process"), WRITERS(128, 2, "2 writer processes"),
	WRITERS(128, 4, "4 writer processes"),
	QUEUE(64, 1, "1 writer process"), QUEUE(64, 2, "2 writer processes"), QUEUE(64, 4, "4 writer processes"),
	QUEUE(128, 1, "1 writer process"), QUEUE(128, 2, "2 writer processes"),
	QUEUE(128, 4, "4 writer processes"),
	QUEUE(512, 1, "1 writer process"), QUEUE(512, 2, "2 writer processes"),
	QUEUE(512, 4, "4 writer processes"),
	{"queue_spinning", NEEDS_QUEUE, work_queue_spinning, 128 << 8 | 1,
	 {NS("p50", "128 B to a spinning reader: p50", PEER("null", 2, 1.5)), NS("p99", "  … p99", NO_BAR)}},
	{"queue_asleep", NEEDS_QUEUE | NO_NULL, work_queue_asleep, 128 << 8 | 1,
	 {NS("p50", "128 B to a sleeping reader: p50", PEER("pipe", 1, 0.8)), NS("p99", "  … p99", NO_BAR)}},
	{"trace", NEEDS_TRACE | NO_NULL, work_trace, 0,
	 {NS("ns", "an event", BEST(1.2, 1.0)),
	  ABOVE("memory", "memory above peak live, same run",
		BARS({BAR_VALUE, 12, 6, NULL, "redis", NULL}, {BAR_VALUE, 20, 10, NULL, "rsyslog", NULL}))}},
	{"trace_cold", NEEDS_TRACE | NO_NULL, work_trace_cold, 0,
	 {NS("ns", "an event, fresh process", NO_BAR)}},
	{"memory", FULL_ONLY | NO_NULL, work_memory_small, 200000,
	 {ABOVE("above", "above live: 200,000 of 100-500 B", VALUE(8, 5))}},
	{"memory_logmix", FULL_ONLY | NO_NULL, work_memory_logmix, 20000,
	 {ABOVE("above", "above live: log mix", VALUE(2, 1))}},
	{"huge", NEEDS_RECOVERY | FULL_ONLY, work_huge, 0,
	 {NS("small", "random read in 1 GiB, 4 KiB pages", NO_BAR),
	  NS("made", "  … --huge always", NO_BAR), NS("advised", "  … --huge advise", NO_BAR),
	  NS("hugetlb", "  … hugetlb", NO_BAR),
	  NS("small_fill", "first use of 4 KiB, 4 KiB pages", NO_BAR),
	  NS("made_fill", "  … --huge always", NO_BAR), NS("advised_fill", "  … --huge advise", NO_BAR),
	  NS("hugetlb_fill", "  … hugetlb", NO_BAR)}},
	{"purge", NEEDS_RECOVERY | FULL_ONLY, work_purge, 0,
	 {NS("idle", "random replace, nothing given back", NO_BAR),
	  NS("busy", "  … beside 1 GiB/s given back", NO_BAR),
	  {"loss", "  … what that costs", "%", false, VALUE(1, 0.5)},
	  {"purged", "  … given back meanwhile", "GiB/s", true, NO_BAR},
	  {"rate", "given back at most", "GiB/s", true, NO_BAR}}},
	{"recover100", NEEDS_RECOVERY | FULL_ONLY, work_recovery, 100, {RECOVERY("100 %")}},
	{"recover10", NEEDS_RECOVERY | FULL_ONLY, work_recovery, 10, {RECOVERY("10 %")}},
	{"recover0", NEEDS_RECOVERY | FULL_ONLY, work_recovery, 0, {RECOVERY("0 %")}},
	{0},
};
/* clang-format on */

const struct workload *workload_find(const char *name)
{
	for (const struct workload *w = workloads; w->name; w++)
		if (!strcmp(w->name, name))
			return w;
	return NULL;
}

void work_emit(const char *name, double value)
{
	printf("%s %.4f\n", name, value);
	fflush(stdout);
}

void work_no_memory(size_t size)
{
	fprintf(stderr, "allocation of %zu bytes failed: %s\n", size, strerror(errno));
	_exit(3);
}

uint64_t work_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t work_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static cpu_set_t all_cpus;

void work_pin(int cpu)
{
	cpu_set_t set;

	if (!CPU_COUNT(&all_cpus))
		sched_getaffinity(0, sizeof(all_cpus), &all_cpus);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

void work_unpin(void)
{
	if (CPU_COUNT(&all_cpus))
		sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double work_median(double *values, size_t n)
{
	if (!n)
		return 0;
	qsort(values, n, sizeof(*values), compare_doubles);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

#define BATCH_NS 500000u
#define BATCHES 4096u
#define WARM_PART 4u /* a quarter of the time, before measuring */

static size_t calibrate(struct run *r, batch_fn *batch, void *state)
{
	size_t n = 16;

	while (!r->tiny) {
		uint64_t start = work_now_ns();

		batch(r, state, n);
		if (work_now_ns() - start >= BATCH_NS || n >= (1u << 24))
			break;
		n *= 2;
	}
	return n;
}

double work_steady(struct run *r, batch_fn *batch, void *state)
{
	static double per_op[BATCHES];
	uint64_t budget = (uint64_t)(r->seconds * 1e9);
	size_t n = calibrate(r, batch, state), count = 0;
	uint64_t now = work_now_ns(), warm_end = now + budget / WARM_PART, end = warm_end + budget;

	if (r->ops) { /* an exact number, to be counted from outside; the first batch warms up */
		batch(r, state, 4096);
		batch(r, state, r->ops);
		return 0;
	}
	while (now < warm_end) {
		batch(r, state, n);
		now = work_now_ns();
	}
	while ((now < end || count < 5) && count < BATCHES) {
		uint64_t start = work_now_ns();

		batch(r, state, n);
		now = work_now_ns();
		per_op[count++] = (double)(now - start) / (double)n;
	}
	return work_median(per_op, count);
}

uint32_t work_size_16_1024(uint64_t *random)
{
	return work_range(random, 16, 1024);
}

/* What a log server allocates: 90 % lines of 100-500 bytes, 8 % buffers of 4 KiB, 2 % of 1 MiB. */
uint32_t work_size_logmix(uint64_t *random)
{
	uint32_t percent = work_range(random, 0, 99);

	if (percent < 90)
		return work_range(random, 100, 500);
	return percent < 98 ? 4096 : 1u << 20;
}

int replace_init(struct replace *s, const struct peer_ops *p, uint32_t slots, size_fn *size,
		 uint64_t seed)
{
	uint64_t random = seed;

	memset(s, 0, sizeof(*s));
	s->slots = slots;
	s->live = calloc(slots, sizeof(*s->live));
	s->steps = malloc(REPLACE_STEPS * sizeof(*s->steps));
	if (!s->live || !s->steps)
		return -ENOMEM;
	for (uint32_t i = 0; i < REPLACE_STEPS; i++) {
		s->steps[i].slot = work_range(&random, 0, slots - 1);
		s->steps[i].size = size(&random);
	}
	for (uint32_t i = 0; i < slots; i++) {
		s->live[i] = work_alloc(p, size(&random));
		work_touch(p, s->live[i], p->ptr);
	}
	return 0;
}

void replace_fini(struct replace *s, const struct peer_ops *p)
{
	for (uint32_t i = 0; i < s->slots; i++)
		p->free(s->live[i]);
	free(s->live);
	free(s->steps);
}
