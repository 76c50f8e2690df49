/* SPDX-License-Identifier: Apache-2.0 */
/* gang.c - the leader of a workload of several threads or processes, and the turns of a worker. */
#include "gang.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MEASURE_MAX_NS 5000000000u /* of waiting for a worker without a CPU */

/* ---- a worker ---- */

bool worker_turn(struct worker *w, uint64_t burst)
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

void worker_wait(struct worker *w)
{
	atomic_fetch_add(&w->gate->ready, 1);
	while (atomic_load(&w->gate->phase) == PHASE_WAIT)
		sched_yield();
	w->phase = PHASE_WARM;
}

static const struct role *role_find(const char *name)
{
	const struct role *const tables[] = { many_roles, log_roles };

	for (int i = 0; i < 2; i++)
		for (const struct role *role = tables[i]; role->name; role++)
			if (!strcmp(role->name, name))
				return role;
	return NULL;
}

/* ---- the leader ---- */

static struct gate *last_gate;

static struct gate *gate_make(int *fd)
{
	struct gate *g;

	*fd = memfd_create("gate", 0);
	if (*fd < 0 || ftruncate(*fd, sizeof(*g)))
		return NULL;
	g = mmap(NULL, sizeof(*g), PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	last_gate = g == MAP_FAILED ? NULL : g;
	return last_gate;
}

const void *gang_board(void)
{
	return last_gate->board;
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

int gang_run(struct run *r, const char *const *names, int n, bool processes, struct sum *sum)
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

double gang_cpus(const struct run *r, int workers)
{
	return workers < r->ncpu ? workers : r->ncpu;
}

int gang_same(struct run *r, const char *role, int n, bool processes, struct sum *sum)
{
	const char *names[WORKERS_MAX];

	for (int i = 0; i < n; i++)
		names[i] = role;
	return gang_run(r, names, n, processes, sum);
}
