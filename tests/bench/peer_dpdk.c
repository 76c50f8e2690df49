/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_dpdk.c - DPDK's rte_ring, and its rte_mempool: objects of one size in a ring that all share, and a cache for each thread.
 * Without huge pages, devices or files (--no-huge --no-shconf --no-pci). A secondary process of DPDK's own
 * kind attaches by such files, and cannot at all without huge pages; but the pool's memory is one shared
 * mapping, so further processes are made by fork and use it at the same addresses. Caches are the user's own (rte_mempool_cache_create), as DPDK has it
 * for threads that are none of its own, all made before the first fork: its heap's bookkeeping is private.
 */
#include "peer.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_version.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define OBJECT	128u
#define OBJECTS 65535u /* what a ring of a power of two holds */
#define CACHES	64u

static char version[64];
static struct rte_mempool *pool;
static struct rte_mempool_cache *caches[CACHES];
static _Atomic unsigned caches_used;

static __thread struct rte_mempool_cache *mine;

static __attribute__((noinline)) struct rte_mempool_cache *claim_cache(void)
{
	mine = caches[atomic_fetch_add(&caches_used, 1) % CACHES];
	return mine;
}

static inline struct rte_mempool_cache *my_cache(void)
{
	struct rte_mempool_cache *cache = mine;

	return __builtin_expect(cache != NULL, 1) ? cache : claim_cache();
}

static peer_ref pool_alloc(size_t size)
{
	void *object;

	if (size > OBJECT || rte_mempool_generic_get(pool, &object, 1, my_cache()))
		return 0;
	return (peer_ref)object;
}

static void pool_free(peer_ref ref)
{
	void *object = (void *)ref;

	rte_mempool_generic_put(pool, &object, 1, my_cache());
}

/* The same address in every process, as they are forked. */
static uint64_t pool_token(peer_ref ref)
{
	return ref;
}

static peer_ref pool_untoken(uint64_t token)
{
	return (peer_ref)token;
}

/* The parent's first caches stay its own. */
static void pool_forked(int index)
{
	atomic_store(&caches_used, CACHES / 4 + (unsigned)index);
	mine = NULL;
}

static struct peer_ops ops = {
	.alloc = pool_alloc,
	.free = pool_free,
	.alloc_shared = pool_alloc,
	.token = pool_token,
	.untoken = pool_untoken,
	.forked = pool_forked,
};

/* ---- a ring of records, several producers and one consumer ---- */

#define CELLS 2048u

static struct rte_ring *ring;
static unsigned int cell;

static int ring_make(size_t len)
{
	cell = (unsigned int)len;
	ring = rte_ring_create_elem("bench", cell, CELLS, SOCKET_ID_ANY, RING_F_SC_DEQ);
	return ring ? 0 : -rte_errno;
}

static bool ring_send(const void *record)
{
	return !rte_ring_mp_enqueue_elem(ring, (void *)(uintptr_t)record, cell);
}

static bool ring_receive(void *record)
{
	return !rte_ring_sc_dequeue_elem(ring, record, cell);
}

/* It has no sleeping. */
static bool ring_wait(void *record)
{
	struct timespec ts = { 0, 50000 };

	for (int i = 0; i < 2000; i++) {
		if (ring_receive(record))
			return true;
		nanosleep(&ts, NULL);
	}
	return false;
}

static const struct peer_queue ring_queue = {
	.make = ring_make,
	.send = ring_send,
	.receive = ring_receive,
	.wait = ring_wait,
};

static const struct peer_ops ring_ops = {
	.version = "DPDK rte_ring, several producers, one consumer",
	.forked = pool_forked,
	.queue = &ring_queue,
};

/* It pins the process to the CPU named: the one it is on. */
static int start_eal(const char *name)
{
	char lcores[32], prefix[96];
	char *args[] = { "bench",	"--no-huge", "--no-shconf", "--no-pci", "--no-telemetry",
			 "--lcores",	lcores,	     prefix,	    "-m",	"64",
			 "--log-level", "1",	     NULL };
	int r;

	snprintf(lcores, sizeof(lcores), "0@%d", sched_getcpu());
	snprintf(prefix, sizeof(prefix), "--file-prefix=%s", name);
	r = rte_eal_init((int)(sizeof(args) / sizeof(args[0])) - 1, args);
	if (r >= 0)
		rmdir(rte_eal_get_runtime_dir()); /* made in any case; nothing is in it */
	return r;
}

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
	if (start_eal(config->arena) < 0) {
		snprintf(err, err_size, "rte_eal_init: %s", rte_strerror(rte_errno));
		return NULL;
	}
	if (!strcmp(config->variant, "rte_ring"))
		return &ring_ops;
	pool = rte_mempool_create("bench", OBJECTS, OBJECT, 0, 0, NULL, NULL, NULL, NULL,
				  SOCKET_ID_ANY, 0);
	for (unsigned i = 0; pool && i < CACHES; i++) {
		caches[i] = rte_mempool_cache_create(RTE_MEMPOOL_CACHE_MAX_SIZE, SOCKET_ID_ANY);
		if (!caches[i])
			pool = NULL;
	}
	if (!pool) {
		snprintf(err, err_size, "rte_mempool: %s", rte_strerror(rte_errno));
		return NULL;
	}
	snprintf(version, sizeof(version), "%s rte_mempool, 128 B", rte_version());
	ops.version = version;
	return &ops;
}
