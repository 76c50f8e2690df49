/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work.h - a workload runs once, in a process made for it, against one peer, and says what it measured.
 * The driver (bench.c) starts such processes again and again, peers interleaved, and takes medians.
 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "peer.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* One measurement: what the driver told this process to do. */
struct run {
	const struct workload *work;
	const struct peer_ops *peer;
	const char *peer_name, *plugins; /* for the further processes of a workload */
	const char *arena;
	const char *trace; /* path of a trace; NULL */
	double seconds;	   /* to measure for */
	uint64_t ops;	   /* instead: exactly that many operations after the warm-up; 0: by time */
	int cpu[2];	   /* to pin to */
	int ncpu;
	bool tiny; /* shrink everything: only show that it runs */
};

/* What a figure has to reach. A ratio is shmalloc's median to the other's. */
enum bar_kind {
	BAR_NONE,
	BAR_BEST,  /* ratio to the best rival of the row: a private malloc, a queue */
	BAR_PEER,  /* ratio to the peer named */
	BAR_VALUE, /* the figure itself */
};

struct bar {
	enum bar_kind kind;
	double limit, goal;  /* at most, or where more is better at least */
	const char *against; /* BAR_PEER */
	const char *trace;   /* only for the trace of this name; NULL: for all */
	const char *form;    /* only for this form of use of shmalloc; NULL: for all */
};

struct metric {
	const char *name; /* of the CSV; workload.name */
	const char *title;
	const char *unit;
	bool more_is_better;
	const struct bar *bars; /* up to one of kind BAR_NONE; NULL: only shown */
};

enum workload_needs {
	NEEDS_SHARED = 1, /* a heap that several processes share */
	NEEDS_LOG = 2,
	NEEDS_TRACE = 4,
	FULL_ONLY = 8,	     /* too long for the short run */
	NO_NULL = 16,	     /* says nothing without a real allocator */
	NEEDS_RECOVERY = 32, /* this project's own promise: shmalloc only */
	NEEDS_ARENAS = 64,   /* clients to be counted and arenas of any size: shmalloc only */
	NEEDS_HANDLES = 128, /* references that are checked at each use: shmalloc only */
	NEEDS_QUEUE = 512,
	NEEDS_STACK = 1024, /* temporary memory */
	ONE_SIZE = 256,	     /* all objects have 128 bytes: pools of one size take part */
};
#define NEEDS_OF_PEER (NEEDS_SHARED | NEEDS_LOG | NEEDS_RECOVERY | NEEDS_ARENAS | NEEDS_HANDLES | NEEDS_QUEUE | NEEDS_STACK)

#define METRICS_MAX 10

struct workload {
	const char *name;
	unsigned needs;
	int (*run)(struct run *r); /* 0 or -errno */
	long arg;
	struct metric metrics[METRICS_MAX];
};

extern const struct workload workloads[];
const struct workload *workload_find(const char *name);

/* Says a result; name is one of the workload's metrics. */
void work_emit(const char *name, double value);

/* ---- tools of the workloads ---- */

uint64_t work_now_ns(void); /* CLOCK_MONOTONIC */
uint64_t work_cpu_ns(void); /* of the calling thread */
void work_pin(int cpu);
void work_unpin(void);
double work_median(double *values, size_t n); /* sorts them */

static ALWAYS_INLINE uint64_t work_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

/* Uniform in lo..hi. */
static ALWAYS_INLINE uint32_t work_range(uint64_t *state, uint32_t lo, uint32_t hi)
{
	return lo + (uint32_t)(((work_random(state) >> 32) * (hi - lo + 1)) >> 32);
}

#define WORK_SEED 0x9e3779b97f4a7c15ull

static ALWAYS_INLINE void work_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

typedef void batch_fn(struct run *r, void *state, size_t n);

/* The median over batches of about half a millisecond of the ns of one of a batch's n operations: a
 * batch that lost its CPU to someone else does not count. */
double work_steady(struct run *r, batch_fn *batch, void *state);

/*
 * Each workload is written once, with `handle` a constant of the compiler's: whether refs are pointers
 * (peer->ptr is NULL) or have to be looked up at each use.
 */
static ALWAYS_INLINE void *work_at(const struct peer_ops *p, peer_ref ref, bool handle)
{
	return handle ? p->ptr(ref) : (void *)ref;
}

/* Writes to the object's start, as the user of a new one would. The smallest have one byte. */
static ALWAYS_INLINE void work_touch(const struct peer_ops *p, peer_ref ref, bool handle)
{
	*(volatile char *)work_at(p, ref, handle) = 1;
}

static ALWAYS_INLINE void work_touch_pages(const struct peer_ops *p, peer_ref ref, size_t size,
					   bool handle)
{
	volatile char *at = work_at(p, ref, handle);

	for (size_t i = 0; i < size; i += 4096)
		at[i] = 1;
	at[size - 1] = 1;
}

/* An allocation that must not fail. Ends the process, as a failed measurement, if it does. */
__attribute__((noreturn, cold)) void work_no_memory(size_t size);

static ALWAYS_INLINE peer_ref work_alloc(const struct peer_ops *p, size_t size)
{
	peer_ref ref = p->alloc(size);

	if (__builtin_expect(!ref, 0))
		work_no_memory(size);
	return ref;
}

/* Both forms of a batch whose body is `static ALWAYS_INLINE void name(r, state, n, handle)`. */
#define BOTH_FORMS(name)                                                  \
	static void name##_pointers(struct run *r, void *state, size_t n) \
	{                                                                 \
		name(r, state, n, false);                                 \
	}                                                                 \
	static void name##_handles(struct run *r, void *state, size_t n)  \
	{                                                                 \
		name(r, state, n, true);                                  \
	}
#define FORM(r, name) ((r)->peer->ptr ? name##_handles : name##_pointers)

/* ---- random replace: one object of a live set is freed and another allocated in its place ---- */

#define REPLACE_STEPS 32768u /* of the random sequence, then again from its start */

struct replace_step {
	uint32_t slot, size;
};

struct replace {
	peer_ref *live;
	struct replace_step *steps;
	uint32_t slots, at;
};

typedef uint32_t size_fn(uint64_t *random);
uint32_t work_size_16_1024(uint64_t *random);
uint32_t work_size_logmix(uint64_t *random);

/* Makes the live set. 0 or -ENOMEM. */
int replace_init(struct replace *s, const struct peer_ops *p, uint32_t slots, size_fn *size,
		 uint64_t seed);
void replace_fini(struct replace *s, const struct peer_ops *p);

static ALWAYS_INLINE void replace_some(const struct peer_ops *p, struct replace *s, size_t n,
				       bool touch, bool handle)
{
	uint32_t at = s->at;

	for (size_t i = 0; i < n; i++) {
		const struct replace_step *step = &s->steps[at];
		peer_ref ref;

		at = (at + 1) % REPLACE_STEPS;
		p->free(s->live[step->slot]);
		ref = work_alloc(p, step->size);
		if (touch)
			work_touch(p, ref, handle);
		s->live[step->slot] = ref;
	}
	s->at = at;
}

/* ---- the workloads, by file ---- */

/* work_one.c: one thread */
int work_pair(struct run *r);	    /* arg: bytes */
int work_pair_pages(struct run *r); /* arg: bytes, every page touched */
int work_pair_bare(struct run *r);  /* arg: bytes, nothing touched */
int work_order(struct run *r);	    /* 1,000 objects, freed in three orders */
int work_replace(struct run *r);
int work_replace_bare(struct run *r);
int work_logmix(struct run *r);
int work_bulk(struct run *r);
int work_memory_small(struct run *r);
int work_memory_logmix(struct run *r);
/* work_latency.c */
int work_latency(struct run *r);      /* arg: live objects; each call by itself */
int work_latency_pair(struct run *r); /* 2 million pairs */
int work_latency_logmix(struct run *r);
/* work_many.c: threads and processes */
int work_threads_pair(struct run *r); /* arg: threads */
int work_threads_replace(struct run *r);
int work_pass_threads(struct run *r);
int work_processes(struct run *r);
int work_pass_processes(struct run *r);
int work_processes_one_size(struct run *r);
/* A further process of a workload, started by the first. Exit status. */
int work_join(struct run *r, const char *role, int gate_fd, int index);
/* work_log.c */
int work_log(struct run *r);	       /* arg: bytes */
int work_log_calls(struct run *r);     /* arg: bytes */
int work_log_processes(struct run *r); /* arg: bytes << 8 | writers */
int work_queue(struct run *r);	       /* the same, and a reader that misses nothing */
int work_queue_spinning(struct run *r);
int work_queue_asleep(struct run *r);
/* work_trace.c */
int work_trace(struct run *r); /* memory, then time, of one heap */
int work_trace_cold(struct run *r);
/* work_scale.c: what more clients or a larger arena cost, and a checked reference */
int work_clients(struct run *r);  /* arg: clients */
int work_capacity(struct run *r); /* arg: GiB, against 1 */
int work_look_up(struct run *r);
/* work_huge.c */
int work_huge(struct run *r);
/* work_purge.c */
int work_purge(struct run *r);
/* work_stack.c: arg: bytes */
int work_stack(struct run *r);
int work_roads(struct run *r);
/* work_object.c */
int work_hold(struct run *r);
int work_pack(struct run *r); /* arg: bytes */
/* work_file.c: arg: bytes */
int work_file(struct run *r);
/* work_recovery.c: arg: percent of all objects that the dead one had */
int work_recovery(struct run *r);

/* ---- memory (work_memory.c) ---- */

/* Bytes the process holds: its anonymous pages and the blocks of the shared files of its arena. */
uint64_t memory_held(const char *arena);

#endif
