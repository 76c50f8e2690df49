/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scaling_machine.c - what the machine itself takes: a cache line from one CPU to another, an atomic
 * addition alone and shared, fresh shared memory by one process and by two.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scaling.h"

#define BLOCKS	     400u
#define STEPS	     1000u
#define COMMIT_RUNS  3			 /* of which the best counts */
#define COMMIT_BYTES ((size_t)512 << 20) /* by each process */
#define COMMIT_STEP  ((size_t)2 << 20)

void scaling_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

void side_by_side(int n, const int *cpu, void (*body)(int which, void *arg), void *arg)
{
	pid_t pids[2];

	for (int i = 0; i < n; i++) {
		pids[i] = fork();
		if (pids[i] < 0) {
			perror("fork");
			exit(1);
		}
		if (!pids[i]) {
			scaling_pin(cpu[i]);
			body(i, arg);
			_exit(0);
		}
	}
	for (int i = 0; i < n; i++) {
		int status = 0;

		while (waitpid(pids[i], &status, 0) < 0 && errno == EINTR)
			;
		if (status) {
			fprintf(stderr, "scaling: a process failed, status %d\n", status);
			exit(1);
		}
	}
}

/* ---- a line, to and fro ---- */

struct board {
	_Atomic uint64_t turn __attribute__((aligned(64)));
	_Atomic uint64_t word __attribute__((aligned(64)));
	_Atomic uint32_t ready __attribute__((aligned(64)));
	double ns[2] __attribute__((aligned(64)));
	int processes, fd;
	size_t commit;
};

static void wait_for_all(struct board *b)
{
	atomic_fetch_add(&b->ready, 1);
	while (atomic_load(&b->ready) < (uint32_t)b->processes)
		sched_yield();
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* ns of one step: of the fastest quarter of all blocks, since one that lost its CPU is among the others; or of
 * the median, where it is the slower ones that met another. */
static void say(struct board *b, int which, double *blocks, uint32_t at)
{
	qsort(blocks, BLOCKS, sizeof(*blocks), by_value);
	b->ns[which] = blocks[at] / STEPS;
}

/* Each waits for its turn and passes it on; without a CPU of its own it yields now and then. */
static void trips(int which, void *arg)
{
	double blocks[BLOCKS];
	struct board *b = arg;
	uint64_t i = (uint64_t)which;

	wait_for_all(b);
	for (uint32_t block = 0; block < BLOCKS; block++) {
		uint64_t start = now_ns(), end = i + 2 * STEPS;

		for (; i < end; i += 2) {
			for (uint32_t spins = 1;
			     atomic_load_explicit(&b->turn, memory_order_acquire) != i; spins++)
				if (spins % 16384 == 0)
					sched_yield();
			atomic_store_explicit(&b->turn, i + 1, memory_order_release);
		}
		blocks[block] = (double)(now_ns() - start) / 2;
	}
	say(b, which, blocks, BLOCKS / 4);
}

static void additions(int which, void *arg)
{
	double blocks[BLOCKS];
	struct board *b = arg;

	wait_for_all(b);
	for (uint32_t block = 0; block < BLOCKS; block++) {
		uint64_t start = now_ns();

		for (uint32_t i = 0; i < STEPS; i++)
			atomic_fetch_add_explicit(&b->word, 1, memory_order_relaxed);
		blocks[block] = (double)(now_ns() - start);
	}
	say(b, which, blocks, BLOCKS / 2);
}

static void clock_reads(int which, void *arg)
{
	double blocks[BLOCKS];
	struct board *b = arg;

	for (uint32_t block = 0; block < BLOCKS; block++) {
		uint64_t start = now_ns();

		for (uint32_t i = 0; i < STEPS; i++)
			now_ns();
		blocks[block] = (double)(now_ns() - start);
	}
	say(b, which, blocks, BLOCKS / 4);
}

/* ---- fresh memory, as extents are committed: fallocate, then page tables ---- */

static void commits(int which, void *arg)
{
	struct board *b = arg;
	off_t at = (off_t)which * (off_t)b->commit;
	char *map = mmap(NULL, b->commit, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, at);
	uint64_t start;

	if (map == MAP_FAILED)
		_exit(1);
	wait_for_all(b);
	start = now_ns();
	for (size_t done = 0; done < b->commit; done += COMMIT_STEP)
		if (fallocate(b->fd, 0, at + (off_t)done, COMMIT_STEP) ||
		    madvise(map + done, COMMIT_STEP, MADV_POPULATE_WRITE))
			_exit(2);
	b->ns[which] = (double)(now_ns() - start);
}

/* Of the slower one. */
static double run(struct board *b, int n, const int *cpu, void (*body)(int, void *))
{
	b->processes = n;
	b->ns[0] = b->ns[1] = 0;
	atomic_store(&b->ready, 0);
	atomic_store(&b->turn, 0);
	side_by_side(n, cpu, body, b);
	return b->ns[0] > b->ns[1] ? b->ns[0] : b->ns[1];
}

static double commit_once(struct board *b, int n, const int *cpu)
{
	double ns;

	b->fd = memfd_create("commit", MFD_CLOEXEC);
	if (b->fd < 0 || ftruncate(b->fd, 2 * (off_t)b->commit)) {
		perror("memfd");
		exit(1);
	}
	ns = run(b, n, cpu, commits);
	close(b->fd);
	return (double)n * (double)b->commit / (1 << 30) / (ns / 1e9);
}

static double commit_rate(struct board *b, int n, const int *cpu)
{
	double best = 0;

	for (int i = 0; i < COMMIT_RUNS; i++) {
		double rate = commit_once(b, n, cpu);

		best = rate > best ? rate : best;
	}
	return best;
}

void machine_measure(struct machine *m, const int *cpu, uint32_t divide)
{
	struct board *b =
		mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (b == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	b->commit = COMMIT_BYTES / divide / COMMIT_STEP * COMMIT_STEP;
	m->clock_ns = run(b, 1, cpu, clock_reads);
	m->transfer_ns = run(b, 2, cpu, trips);
	m->add_1 = run(b, 1, cpu, additions);
	m->add_2 = run(b, 2, cpu, additions);
	m->commit_1 = commit_rate(b, 1, cpu);
	m->commit_2 = commit_rate(b, 2, cpu);
	munmap(b, sizeof(*b));
}
