/* SPDX-License-Identifier: Apache-2.0 */
/* work_many.c - allocating and freeing by several threads, or by several processes in one heap. */
#include <string.h>

#include "gang.h"

#define RING  1024u /* refs under way between two workers */
#define BURST 32u   /* refs handed over at once: it is not the ring that is to be measured */

/* From the producer to the consumer, on the gate's board. */
struct passing {
	_Atomic uint32_t put __attribute__((aligned(LINE)));
	_Atomic uint32_t got __attribute__((aligned(LINE)));
	uint64_t ring[RING] __attribute__((aligned(LINE)));
};
_Static_assert(sizeof(struct passing) <= sizeof(((struct gate *)0)->board), "board");

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
	struct passing *g = (struct passing *)w->gate->board;
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
#pragma GCC unroll 16 /* no branch whose guess depends on where the linker puts it */
	for (int i = 0; i < 16; i++)
		sum += words[i];
	consumed = sum;
	p->free(ref);
}

static void role_consume(struct worker *w)
{
	struct passing *g = (struct passing *)w->gate->board;
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

const struct role many_roles[] = {
	{ "pair", role_pair },	     { "replace", role_replace }, { "replace_128", role_replace_128 },
	{ "produce", role_produce }, { "consume", role_consume }, { 0 },
};

/* ---- the workloads ---- */

static int threads_workload(struct run *r, const char *role)
{
	int n = (int)r->work->arg, e;
	struct sum sum;

	e = gang_same(r, role, n, false, &sum);
	if (e)
		return e;
	work_emit("ns", gang_cpus(r, n) / sum.ops_per_ns);
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

	e = gang_same(r, role, n, true, &sum);
	if (e)
		return e;
	work_emit("ns", gang_cpus(r, n) / sum.ops_per_ns);
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

static int pass_workload(struct run *r, bool processes)
{
	static const char *const names[] = { "produce", "consume" };
	struct sum sum;
	int e = gang_run(r, names, 2, processes, &sum);

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
