/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scaling.c - measures what a model of many cores and processes needs, and prints what it says: how often
 * a workload leaves its thread's caches, what a refill and a flush take, how often a zone is locked and for
 * how long, each by one process alone and by two in one arena. The calls of the heap that it times are
 * wrapped at link time (--wrap): the library knows nothing of it. Part by part: README.md, "Many cores".
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "attach.h"
#include "cache.h"
#include "scaling.h"
#include "zone.h"

#define STEPS	  65536u
#define RUNS	  5
#define THREADS	  16 /* of one process, on two CPUs */
#define WARM_PART 4  /* a quarter of the operations, before counting */

/* ---- what is counted ---- */

static __thread struct counts now;
static __thread uint64_t locked_at;

extern __typeof__(cache_refill) __real_cache_refill, __wrap_cache_refill;
extern __typeof__(cache_flush) __real_cache_flush, __wrap_cache_flush;
extern __typeof__(zone_trylock) __real_zone_trylock, __wrap_zone_trylock;
extern __typeof__(zone_trylock_patiently) __real_zone_trylock_patiently,
	__wrap_zone_trylock_patiently;
extern __typeof__(zone_unlock) __real_zone_unlock, __wrap_zone_unlock;

uint64_t __wrap_cache_refill(struct arena *a, struct thread_block *t, uint32_t class, int *err)
{
	uint64_t start = now_ns(), handle = __real_cache_refill(a, t, class, err);

	now.refills++;
	now.refill_ns += now_ns() - start;
	return handle;
}

int __wrap_cache_flush(struct arena *a, struct thread_block *t, uint32_t class, uint64_t handle)
{
	uint64_t start = now_ns();
	int r = __real_cache_flush(a, t, class, handle);

	now.flushes++;
	now.flush_ns += now_ns() - start;
	return r;
}

static int tried(int r, uint64_t start)
{
	locked_at = now_ns();
	now.tries_ns += locked_at - start;
	now.locks += r == 0;
	now.busy += r == -EBUSY;
	return r;
}

int __wrap_zone_trylock(struct arena *a, uint32_t zone)
{
	uint64_t start = now_ns();

	return tried(__real_zone_trylock(a, zone), start);
}

int __wrap_zone_trylock_patiently(struct arena *a, uint32_t zone)
{
	uint64_t start = now_ns();

	return tried(__real_zone_trylock_patiently(a, zone), start);
}

void __wrap_zone_unlock(struct arena *a, uint32_t zone)
{
	__real_zone_unlock(a, zone);
	now.lock_ns += now_ns() - locked_at;
}

/* ---- workloads ---- */

struct workload {
	const char *name;
	uint32_t live, ops;
	size_t (*size)(uint64_t *random);
};

static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dull >> 32;
}

static size_t size_small(uint64_t *random)
{
	return 16 + draw(random) % 1009;
}

static size_t size_logmix(uint64_t *random)
{
	uint64_t percent = draw(random) % 100;

	if (percent < 90)
		return 100 + draw(random) % 401;
	return percent < 98 ? 4096 : 1u << 20;
}

/* Beyond all size classes: a run of pages, taken under a zone's lock and given back under it. */
static size_t size_2m(uint64_t *random)
{
	(void)random;
	return 2u << 20;
}

/* With one live object replacing is a pair. */
static const struct workload workloads[] = {
	{ "random replace, 16-1024 B", 4096, 2000000, size_small },
	{ "log mix", 20000, 400000, size_logmix },
	{ "2 MiB pair", 1, 400000, size_2m },
};
#define WORKLOADS ((int)(sizeof(workloads) / sizeof(workloads[0])))

struct shared {
	_Atomic uint32_t ready, done;
	int workers, divide, cpu[2];
	const struct workload *work;
	struct counts counts[THREADS]; /* of each worker */
};

static shma *arena;

static void *get(size_t size)
{
	void *p = shma_alloc_ptr(arena, size, 0, NULL);

	if (!p) {
		perror("shma_alloc_ptr");
		_exit(1);
	}
	*(volatile char *)p = 1;
	return p;
}

static void meet(_Atomic uint32_t *count, int workers)
{
	atomic_fetch_add(count, 1);
	while (atomic_load(count) < (uint32_t)workers)
		sched_yield();
}

struct step {
	uint32_t slot, size;
};

static void replace(void **live, const struct step *steps, uint32_t n, uint32_t from)
{
	for (uint32_t i = from; i < from + n; i++) {
		const struct step *step = &steps[i % STEPS];

		shma_free_ptr(arena, live[step->slot]);
		live[step->slot] = get(step->size);
	}
}

/* Sizes and places are drawn first: what is timed is the heap. The one who fails leaves the others waiting, and
 * its process at once. */
static void work(struct shared *s, int which)
{
	void **live = malloc(s->work->live * sizeof(*live));
	struct step *steps = malloc(STEPS * sizeof(*steps));
	uint32_t ops = s->work->ops / (uint32_t)s->divide, warm = ops / WARM_PART;
	uint64_t random = 977u + (uint64_t)which, start;

	if (!live || !steps)
		_exit(1);
	for (uint32_t i = 0; i < s->work->live; i++)
		live[i] = get(s->work->size(&random));
	for (uint32_t i = 0; i < STEPS; i++) {
		steps[i].slot = (uint32_t)draw(&random) % s->work->live;
		steps[i].size = (uint32_t)s->work->size(&random);
	}
	meet(&s->ready, s->workers);
	replace(live, steps, warm, 0);
	memset(&now, 0, sizeof(now));
	start = cpu_ns();
	replace(live, steps, ops, warm);
	now.ns = cpu_ns() - start; /* who has to wait for a CPU is not slower for it */
	now.ops = ops;
	s->counts[which] = now;
	meet(&s->done, s->workers); /* nobody is alone at the end */
	free(live);
	free(steps);
}

/* ---- workers: a process each, or all threads of one ---- */

static void process_body(int which, void *arg)
{
	work(arg, which);
}

struct thread_arg {
	struct shared *s;
	int which;
};

static void *thread_main(void *arg)
{
	const struct thread_arg *t = arg;

	scaling_pin(t->s->cpu[t->which % 2]);
	work(t->s, t->which);
	return NULL;
}

static void threads_body(int which, void *arg)
{
	struct thread_arg args[THREADS];
	pthread_t threads[THREADS];

	(void)which;
	for (int i = 0; i < THREADS; i++) {
		args[i] = (struct thread_arg){ arg, i };
		if (pthread_create(&threads[i], NULL, thread_main, &args[i]))
			_exit(1);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* ---- from counts to rates ---- */

static double per(uint64_t sum, uint64_t n)
{
	return n ? (double)sum / (double)n : 0;
}

static double less(double ns, double clock)
{
	return ns > clock ? ns - clock : 0;
}

/* Each time that was taken has one reading of the clock in it, and between the first and the last two. */
static struct rates rates_of(const struct workload *w, const struct counts *c, double clock)
{
	uint64_t slow = c->refills + c->flushes, tries = c->locks + c->busy;
	double readings = per(2 * slow + 2 * tries + c->locks, c->ops);

	return (struct rates){
		.name = w->name,
		.ns = less(per(c->ns, c->ops), readings * clock),
		.slow = per(slow, c->ops),
		.slow_ns = less(per(c->refill_ns + c->flush_ns, slow), clock),
		.locks = per(c->locks, c->ops),
		.hold_ns = less(per(c->lock_ns, c->locks), clock),
		.get_ns = less(per(c->tries_ns, tries), clock),
		.busy = per(c->busy, tries),
	};
}

static int by_time(const void *a, const void *b)
{
	const struct rates *x = a, *y = b;

	return (x->ns > y->ns) - (x->ns < y->ns);
}

static struct counts sum_of(const struct shared *s)
{
	struct counts sum = { 0 };

	for (int i = 0; i < s->workers; i++) {
		const uint64_t *from = (const uint64_t *)&s->counts[i];
		uint64_t *to = (uint64_t *)&sum;

		for (size_t k = 0; k < sizeof(sum) / sizeof(*to); k++)
			to[k] += from[k];
	}
	return sum;
}

/* The run of median time. */
static struct rates measure(struct shared *s, const struct workload *w, int workers, double clock)
{
	bool threads = workers == THREADS;
	struct rates runs[RUNS];

	s->work = w;
	s->workers = workers;
	for (int i = 0; i < RUNS; i++) {
		struct counts sum;

		atomic_store(&s->ready, 0);
		atomic_store(&s->done, 0);
		side_by_side(threads ? 1 : workers, s->cpu, threads ? threads_body : process_body,
			     s);
		sum = sum_of(s);
		runs[i] = rates_of(w, &sum, clock);
	}
	qsort(runs, RUNS, sizeof(runs[0]), by_time);
	return runs[RUNS / 2];
}

static void print_rates(const struct rates *r, int workers)
{
	printf("%-26s %2d %9.1f %10.6f %8.0f %10.6f %8.0f %8.0f %7.2f %%\n", r->name, workers,
	       r->ns, r->slow, r->slow_ns, r->locks, r->hold_ns, r->get_ns, 100 * r->busy);
}

/* ---- the program ---- */

static uint32_t open_arena(const char *name)
{
	struct shma_options opt = { .struct_size = sizeof(opt), .capacity = UINT64_C(4) << 30 };
	int r = shma_open(&arena, name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &opt);

	if (r) {
		fprintf(stderr, "scaling: shma_open: %s\n", shma_strerror(r));
		exit(1);
	}
	return arena->arena.g.zone_count;
}

static void remove_arena(const char *name)
{
	DIR *dir = opendir("/dev/shm");
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strstr(entry->d_name, name))
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
}

/* The first two CPUs this process may run on. */
static int find_cpus(int *cpu)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 0;
	for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET(i, &set))
			cpu[n++] = i;
	return n;
}

int main(int argc, char **argv)
{
	struct rates solo[WORKLOADS], duo[WORKLOADS], threads;
	struct machine machine;
	struct shared *s;
	char name[64];
	uint32_t zones;

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED)
		return 1;
	if (find_cpus(s->cpu) < 2) {
		fprintf(stderr, "scaling: needs two CPUs\n");
		return 77;
	}
	s->divide = argc > 1 && !strcmp(argv[1], "--tiny") ? 100 : 1;
	machine_measure(&machine, s->cpu, (uint32_t)s->divide);
	snprintf(name, sizeof(name), "scaling-%d", (int)getpid());
	zones = open_arena(name);
	printf("%-26s %2s %9s %10s %8s %10s %8s %8s %9s\n", "measured", "P", "ns/op", "slow/op",
	       "ns each", "locks/op", "held ns", "to get", "busy");
	for (int i = 0; i < WORKLOADS; i++) {
		solo[i] = measure(s, &workloads[i], 1, machine.clock_ns);
		duo[i] = measure(s, &workloads[i], 2, machine.clock_ns);
		print_rates(&solo[i], 1);
		print_rates(&duo[i], 2);
	}
	threads = measure(s, &workloads[0], THREADS, machine.clock_ns);
	print_rates(&threads, THREADS);
	model_print(&machine, solo, duo, WORKLOADS, zones);
	shma_close(arena);
	remove_arena(name);
	return 0;
}
