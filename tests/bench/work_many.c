/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_many.c - workloads of several threads, or of several processes in one heap. The process that the
 * driver started leads: it makes a gate, starts workers, lets them warm up, measures for a while, stops
 * them, and adds up what each of them counted. A worker process is a fresh exec of the driver.
 */
#include "work.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS_MAX    16
#define RING	       1024u /* refs under way between two workers */
#define BURST	       32u /* refs handed over at once: it is not the ring that is to be measured */
#define LINE	       64
#define MEASURE_MAX_NS 5000000000u /* of waiting for a worker without a CPU */

enum phase { PHASE_WAIT, PHASE_WARM, PHASE_MEASURE, PHASE_STOP };

/* What a worker did while measuring. The time is the leader's: a worker without a CPU looks late. */
struct result {
	uint64_t ops, cpu_ns;
} __attribute__((aligned(LINE)));

/* Shared by all workers. */
struct gate {
	_Atomic uint32_t phase __attribute__((aligned(LINE)));
	_Atomic uint32_t ready __attribute__((aligned(LINE)));
	_Atomic uint32_t measuring; /* workers that have seen that phase */
	_Atomic uint32_t put __attribute__((aligned(LINE)));
	_Atomic uint32_t got __attribute__((aligned(LINE)));
	uint64_t ring[RING] __attribute__((aligned(LINE)));
	struct result results[WORKERS_MAX];
};

struct worker {
	struct run *run;
	struct gate *gate;
	int index;
	bool processes;
	void (*role)(struct worker *);
	pthread_t thread;
	/* of measuring */
	uint32_t phase;
	uint64_t ops, ops_at, cpu_at;
	bool measured;
};

/* A worker's turn: between two bursts of ops it looks at the phase. False: stop. */
static bool worker_on(struct worker *w, uint64_t burst)
{
	uint32_t phase = atomic_load_explicit(&w->gate->phase, memory_order_relaxed);
	struct result *result = &w->gate->results[w->index];

	w->ops += burst;
	if (__builtin_expect(phase == w->phase, 1))
		return true;
	w->phase = phase;
	if (phase == PHASE_MEASURE) {
		w->ops_at = w->ops;
		w->cpu_at = work_cpu_ns();
		w->measured = true;
		atomic_fetch_add(&w->gate->measuring, 1);
		return true;
	}
	if (phase != PHASE_STOP)
		return true;
	if (w->measured) {
		result->ops = w->ops - w->ops_at;
		result->cpu_ns = work_cpu_ns() - w->cpu_at;
	}
	return false;
}

static void worker_wait(struct worker *w)
{
	atomic_fetch_add(&w->gate->ready, 1);
	while (atomic_load(&w->gate->phase) == PHASE_WAIT)
		sched_yield();
	w->phase = PHASE_WARM;
}

/* ---- roles ---- */

static ALWAYS_INLINE void pair_role(struct worker *w, bool handle)
{
	const struct peer_ops *p = w->run->peer;

	worker_wait(w);
	do
		for (int i = 0; i < 256; i++) {
			peer_ref ref = work_alloc(p, 128);

			work_touch(p, ref, handle);
			p->free(ref);
		}
	while (worker_on(w, 256));
}

static void role_pair(struct worker *w)
{
	if (w->run->peer->ptr)
		pair_role(w, true);
	else
		pair_role(w, false);
}

static void replace_role(struct worker *w, size_fn *size)
{
	const struct peer_ops *p = w->run->peer;
	uint32_t slots = w->run->tiny ? 64 : 4096;
	struct replace s;

	if (replace_init(&s, p, slots, size, WORK_SEED + (uint64_t)w->index * 977))
		work_no_memory(slots);
	worker_wait(w);
	do
		if (p->ptr)
			replace_some(p, &s, 256, true, true);
		else
			replace_some(p, &s, 256, true, false);
	while (worker_on(w, 256));
	replace_fini(&s, p);
}

static void role_replace(struct worker *w)
{
	replace_role(w, work_size_16_1024);
}

static uint32_t size_128(uint64_t *random)
{
	(void)random;
	return 128;
}

static void role_replace_128(struct worker *w)
{
	replace_role(w, size_128);
}

static void pause_a_little(unsigned *turns)
{
	if (++*turns % 64)
		work_relax();
	else
		sched_yield();
}

/* The object's 128 bytes are written by the producer and read by the consumer. */
static ALWAYS_INLINE uint64_t produce_one(struct worker *w, const struct peer_ops *p)
{
	peer_ref ref = w->processes ? p->alloc_shared(128) : p->alloc(128);

	if (!ref)
		work_no_memory(128);
	memset(work_at(p, ref, p->ptr), (int)w->ops & 0xff, 128);
	return w->processes ? p->token(ref) : ref;
}

static void role_produce(struct worker *w)
{
	struct gate *g = w->gate;
	uint32_t put = 0, got = 0;
	unsigned turns = 0;

	worker_wait(w);
	for (;;) {
		uint64_t token = produce_one(w, w->run->peer);

		while (put - got == RING) {
			got = atomic_load_explicit(&g->got, memory_order_acquire);
			if (put - got < RING)
				break;
			if (!worker_on(w, 0))
				return;
			pause_a_little(&turns);
		}
		g->ring[put++ % RING] = token;
		if (put % BURST)
			continue;
		atomic_store_explicit(&g->put, put, memory_order_release);
		if (!worker_on(w, BURST))
			return;
	}
}

static volatile uint64_t consumed;

static ALWAYS_INLINE void consume_one(struct worker *w, const struct peer_ops *p, uint64_t token)
{
	peer_ref ref = w->processes ? p->untoken(token) : (peer_ref)token;
	const uint64_t *words = work_at(p, ref, p->ptr);
	uint64_t sum = 0;

	if (!words)
		return;
	for (int i = 0; i < 16; i++)
		sum += words[i];
	consumed = sum;
	p->free(ref);
}

static void role_consume(struct worker *w)
{
	struct gate *g = w->gate;
	uint32_t put = 0, got = 0;
	unsigned turns = 0;

	worker_wait(w);
	for (;;) {
		while (put == got) {
			put = atomic_load_explicit(&g->put, memory_order_acquire);
			if (put != got)
				break;
			if (!worker_on(w, 0))
				return;
			pause_a_little(&turns);
		}
		consume_one(w, w->run->peer, g->ring[got++ % RING]);
		if (got % BURST)
			continue;
		atomic_store_explicit(&g->got, got, memory_order_release);
		if (!worker_on(w, BURST))
			return;
	}
}

static void role_log(struct worker *w)
{
	char record[128];
	const struct peer_ops *p = w->run->peer;

	memset(record, 'x', sizeof(record));
	worker_wait(w);
	do
		for (int i = 0; i < 64; i++)
			if (p->log(record, sizeof(record)))
				work_no_memory(sizeof(record));
	while (worker_on(w, 64));
}

static const struct role {
	const char *name;
	void (*fn)(struct worker *);
} roles[] = {
	{"pair", role_pair},	   {"replace", role_replace}, {"replace_128", role_replace_128},
	{"produce", role_produce}, {"consume", role_consume}, {"log", role_log},
	{0},
};

static const struct role *role_find(const char *name)
{
	for (const struct role *role = roles; role->name; role++)
		if (!strcmp(role->name, name))
			return role;
	return NULL;
}

/* ---- the leader ---- */

static struct gate *gate_make(int *fd)
{
	struct gate *g;

	*fd = memfd_create("gate", 0);
	if (*fd < 0 || ftruncate(*fd, sizeof(*g)))
		return NULL;
	g = mmap(NULL, sizeof(*g), PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	return g == MAP_FAILED ? NULL : g;
}

static void sleep_seconds(double seconds)
{
	struct timespec ts = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

	nanosleep(&ts, NULL);
}

/* -ECHILD: a worker process ended before its time. */
static int lead(struct run *r, struct gate *g, uint32_t workers, uint64_t *wall_ns)
{
	uint64_t start;

	while (atomic_load(&g->ready) < workers) {
		siginfo_t info = { 0 };

		if (!waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) && info.si_pid)
			return -ECHILD;
		sched_yield();
	}
	atomic_store(&g->phase, PHASE_WARM);
	sleep_seconds(r->seconds / 4);
	start = work_now_ns();
	atomic_store(&g->phase, PHASE_MEASURE);
	/* On a busy machine some wait long for a CPU. That counts: the others run meanwhile. */
	while (atomic_load(&g->measuring) < workers && work_now_ns() - start < MEASURE_MAX_NS)
		sleep_seconds(0.0005);
	if (work_now_ns() - start < (uint64_t)(r->seconds * 1e9))
		sleep_seconds(r->seconds - (double)(work_now_ns() - start) / 1e9);
	atomic_store(&g->phase, PHASE_STOP);
	*wall_ns = work_now_ns() - start;
	return 0;
}

static void *thread_main(void *arg)
{
	struct worker *w = arg;

	w->role(w);
	return NULL;
}

static int run_threads(struct run *r, struct gate *g, const char *const *names, int n,
		       uint64_t *wall_ns)
{
	static struct worker workers[WORKERS_MAX];
	const struct role *role;
	int started = 0, e = 0;

	for (; started < n && !e; started++) {
		struct worker *w = &workers[started];

		*w = (struct worker){ .run = r, .gate = g, .index = started };
		role = role_find(names[started]);
		w->role = role ? role->fn : NULL;
		work_pin(r->cpu[started % r->ncpu]); /* inherited by the thread */
		e = -pthread_create(&w->thread, NULL, thread_main, w);
	}
	work_unpin();
	if (e)
		return e;
	e = lead(r, g, (uint32_t)n, wall_ns);
	for (int i = 0; i < started; i++)
		pthread_join(workers[i].thread, NULL);
	return e;
}

static void join_forked(struct run *r, const char *role, int gate_fd, int index)
{
	r->peer->forked(index);
	r->cpu[0] = r->cpu[index % r->ncpu];
	_exit(work_join(r, role, gate_fd, index));
}

static pid_t start_process(struct run *r, const char *role, int gate_fd, int index)
{
	char fd[16], number[16], cpu[16];
	pid_t pid, parent = getpid();

	snprintf(fd, sizeof(fd), "%d", gate_fd);
	snprintf(number, sizeof(number), "%d", index);
	snprintf(cpu, sizeof(cpu), "%d", r->cpu[index % r->ncpu]);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	if (r->peer->forked)
		join_forked(r, role, gate_fd, index);
	execl("/proc/self/exe", "bench", "--join", role, "--gate", fd, "--index", number, "--cpus",
	      cpu, "--plugins", r->plugins, "--child", r->peer_name, r->work->name, "--arena",
	      r->arena, r->tiny ? "--tiny" : NULL, NULL);
	_exit(127);
}

static int run_processes(struct run *r, struct gate *g, int gate_fd, const char *const *names,
			 int n, uint64_t *wall_ns)
{
	pid_t pids[WORKERS_MAX];
	int started = 0, e = 0;

	for (; started < n; started++) {
		pids[started] = start_process(r, names[started], gate_fd, started);
		if (pids[started] < 0) {
			e = -errno;
			break;
		}
	}
	if (!e)
		e = lead(r, g, (uint32_t)n, wall_ns);
	for (int i = 0; i < started; i++) {
		int status;

		if (e)
			kill(pids[i], SIGKILL);
		while (waitpid(pids[i], &status, 0) < 0 && errno == EINTR)
			;
		if (!e && status)
			e = -ECHILD;
	}
	return e;
}

struct sum {
	double ops_per_ns, cpu_ns_per_op;
	double last_ops_per_ns; /* of the last worker alone */
};

static int run_workers(struct run *r, const char *const *names, int n, bool processes,
		       struct sum *sum)
{
	uint64_t ops = 0, cpu_ns = 0, wall_ns = 0;
	int gate_fd, e;
	struct gate *g = gate_make(&gate_fd);

	if (!g)
		return -errno;
	e = processes ? run_processes(r, g, gate_fd, names, n, &wall_ns)
		      : run_threads(r, g, names, n, &wall_ns);
	if (e)
		return e;
	memset(sum, 0, sizeof(*sum));
	for (int i = 0; i < n; i++) {
		ops += g->results[i].ops;
		cpu_ns += g->results[i].cpu_ns;
	}
	if (r->tiny) /* so short that perhaps nothing was done */
		ops += !ops;
	if (!ops || !wall_ns)
		return -EAGAIN;
	sum->ops_per_ns = (double)ops / (double)wall_ns;
	sum->last_ops_per_ns = (double)g->results[n - 1].ops / (double)wall_ns;
	sum->cpu_ns_per_op = (double)cpu_ns / (double)ops;
	return 0;
}

int work_join(struct run *r, const char *role_name, int gate_fd, int index)
{
	const struct role *role = role_find(role_name);
	struct worker w = { .run = r, .index = index, .processes = true };

	w.gate = mmap(NULL, sizeof(*w.gate), PROT_READ | PROT_WRITE, MAP_SHARED, gate_fd, 0);
	if (w.gate == MAP_FAILED || !role || index < 0 || index >= WORKERS_MAX)
		return 1;
	work_pin(r->cpu[0]);
	role->fn(&w);
	return 0;
}

/* ---- the workloads ---- */

static double cpus_used(const struct run *r, int workers)
{
	return workers < r->ncpu ? workers : r->ncpu;
}

static int same_role(struct run *r, const char *role, int n, bool processes, struct sum *sum)
{
	const char *names[WORKERS_MAX];

	for (int i = 0; i < n; i++)
		names[i] = role;
	return run_workers(r, names, n, processes, sum);
}

static int threads_workload(struct run *r, const char *role)
{
	int n = (int)r->work->arg, e;
	struct sum sum;

	e = same_role(r, role, n, false, &sum);
	if (e)
		return e;
	work_emit("ns", cpus_used(r, n) / sum.ops_per_ns);
	work_emit("cpu", sum.cpu_ns_per_op);
	return 0;
}

int work_threads_pair(struct run *r)
{
	return threads_workload(r, "pair");
}

int work_threads_replace(struct run *r)
{
	return threads_workload(r, "replace");
}

static int processes_workload(struct run *r, const char *role)
{
	int n = (int)r->work->arg, e;
	struct sum sum;

	e = same_role(r, role, n, true, &sum);
	if (e)
		return e;
	work_emit("ns", cpus_used(r, n) / sum.ops_per_ns);
	work_emit("cpu", sum.cpu_ns_per_op);
	work_emit("rate", sum.ops_per_ns * 1e3);
	return 0;
}

int work_processes(struct run *r)
{
	return processes_workload(r, "replace");
}

int work_processes_one_size(struct run *r)
{
	return processes_workload(r, "replace_128");
}

int work_log_processes(struct run *r)
{
	return processes_workload(r, "log");
}

static int pass_workload(struct run *r, bool processes)
{
	static const char *const names[] = { "produce", "consume" };
	struct sum sum;
	int e = run_workers(r, names, 2, processes, &sum);

	if (!e)
		work_emit("rate", sum.last_ops_per_ns * 1e3);
	return e;
}

int work_pass_threads(struct run *r)
{
	return pass_workload(r, false);
}

int work_pass_processes(struct run *r)
{
	return pass_workload(r, true);
}

/* ---- one log record against the cost of the clock and of copying alone ---- */

static void log_batch(struct run *r, void *state, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (r->peer->log(state, 128))
			work_no_memory(128);
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
	size_t size = r->ncpu ? 128 : 0; /* not known to the compiler */

	if (!window)
		window = malloc(COPY_WINDOW);
	for (size_t i = 0; i < n && window; i++) {
		memcpy(window + at, state, size);
		__asm__ volatile("" ::: "memory");
		at = (at + 128) % COPY_WINDOW;
	}
}

int work_log(struct run *r)
{
	static char record[128] __attribute__((aligned(16)));

	r->seconds /= 3;
	memset(record, 'x', sizeof(record));
	work_emit("clock", work_steady(r, clock_batch, record));
	work_emit("memcpy", work_steady(r, memcpy_batch, record));
	work_emit("ns", work_steady(r, log_batch, record));
	return 0;
}
