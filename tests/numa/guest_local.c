/* SPDX-License-Identifier: Apache-2.0 */
/* guest_local.c - --numa local: threads and processes get memory of the node they run on, while there is some. */
#include <errno.h>
#include <numaif.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "extent.h"
#include "guest.h"
#include "object.h"
#include "placement.h"
#include "residence.h"
#include "thread.h"
#include "words.h"

#define LOCAL_SHARE 95.0 /* percent */

struct worker {
	struct arena *a;
	struct hoard hoard;
	uint64_t bytes;
	int node;
	pthread_t thread;
};

static void *work(void *arg)
{
	struct worker *w = arg;

	run_on(w->node);
	hoard_fill(&w->hoard, w->a, w->bytes, SIZES_MIXED);
	return NULL;
}

/* A thread on each node at the same time. */
static void threads_on_all(struct arena *a, struct worker *workers, uint64_t bytes)
{
	for (int n = 0; n < NODES; n++) {
		workers[n] = (struct worker){ .a = a, .bytes = bytes, .node = n };
		pthread_create(&workers[n].thread, NULL, work, &workers[n]);
	}
	for (int n = 0; n < NODES; n++)
		pthread_join(workers[n].thread, NULL);
}

static void check_share(const struct hoard *h, struct arena *a, int node, const char *what)
{
	uint64_t pages[NODES];

	hoard_pages(h, a, pages);
	check(!h->error && share_on(pages, node) >= LOCAL_SHARE,
	      "%s on node %d: %.1f %% of its pages are there", what, node, share_on(pages, node));
}

static void check_threads(const char *what, enum arena_backing backing, uint64_t capacity,
			  uint64_t bytes)
{
	struct arena_config config = guest_config(what, capacity, backing);
	struct worker workers[NODES];
	struct arena a;

	guest_open(&a, &config);
	check(a.homes == NODES, "%s: zones belong to %u nodes, the first %u are for what stays",
	      what, a.homes, a.kept_zones);
	check(placement_ask(&a, a.header) == PLACEMENT_KEPT,
	      "%s: the kernel has the policy of each zone", what);
	threads_on_all(&a, workers, bytes);
	for (int n = 0; n < NODES; n++)
		check_share(&workers[n].hoard, &a, n, what);
	for (int n = 0; n < NODES; n++)
		hoard_free(&workers[n].hoard, &a);
	guest_close(&a);
}

/* ---- the policy is the file's ---- */

/* Commits pages of another node's zone, which fallocate() takes. */
static int take_far_pages(void *arg)
{
	struct arena *a = arg;
	uint32_t home = a->kept_zones;
	uint64_t pages[NODES];
	int err = 0, node = 2;
	struct hoard h = { 0 };
	uint64_t zones, page, handle, size = 256 << PAGE_SHIFT;

	if (thread_become_client(a))
		return 1;
	zones = a->home_zones[node];
	page = extent_alloc_in(a, 256, RAW_PLAIN, &home, zones, &err);
	if (page == EXTENT_NONE)
		return 1;
	handle = handle_make(a->tag, 0, page << PAGE_SHIFT);
	h.handles = &handle;
	h.sizes = &size;
	h.count = 1;
	hoard_pages(&h, a, pages);
	check(share_on(pages, node) == 100.0,
	      "policy: a process on node 0 takes pages of a zone of node %d: %.1f %% are there",
	      node, share_on(pages, node));
	return share_on(pages, node) == 100.0 ? 0 : 1;
}

/* Another process, on another node, later, through the mapping it has inherited. */
static void check_stranger(void)
{
	struct arena_config config = guest_config("stranger", MIB(512), BACKING_POSIX);
	struct arena a;
	int r;

	guest_open(&a, &config);
	r = in_process(0, take_far_pages, &a);
	check(r == 0, "policy: it is the file's, whoever takes the page");
	guest_close(&a);
}

/* ---- a thread that moves ---- */

static void check_migration(void)
{
	struct arena_config config = guest_config("migration", MIB(512), BACKING_POSIX);
	struct hoard first = { 0 }, second = { 0 };
	struct arena a;

	guest_open(&a, &config);
	run_on(1);
	hoard_fill(&first, &a, MIB(16), SIZES_MIXED);
	check_share(&first, &a, 1, "migration: a thread");
	run_on(3);
	hoard_fill(&second, &a, MIB(16), SIZES_MIXED);
	check_share(&second, &a, 3, "migration: the same thread, later");
	hoard_free(&first, &a);
	hoard_free(&second, &a);
	guest_close(&a);
}

/* ---- memory that was given back ---- */

static void check_purged(void)
{
	struct arena_config config = guest_config("purged", MIB(512), BACKING_POSIX);
	struct residence residence;
	struct worker workers[NODES];
	struct arena a;
	uint64_t bytes;
	int r;

	guest_open(&a, &config);
	threads_on_all(&a, workers, MIB(16));
	for (int n = 0; n < NODES; n++)
		hoard_free(&workers[n].hoard, &a);
	bytes = guest_purge(&a);
	threads_on_all(&a, workers, MIB(16));
	r = residence_count(&a, &residence);
	check(r == 0 && bytes >= MIB(40) && residence.home > 0 &&
		      100.0 * (double)residence.home >=
			      LOCAL_SHARE * (double)(residence.home + residence.away),
	      "purged: %llu MiB given back and taken again: %llu pages in zones of their node, %llu not",
	      (unsigned long long)(bytes >> 20), (unsigned long long)residence.home,
	      (unsigned long long)residence.away);
	for (int n = 0; n < NODES; n++)
		hoard_free(&workers[n].hoard, &a);
	guest_close(&a);
}

/* ---- a node that is full ---- */

/* More than the zones of one node have. */
static void check_zones_full(void)
{
	struct arena_config config = guest_config("zones", MIB(64), BACKING_POSIX);
	struct hoard hoard = { 0 };
	uint64_t pages[NODES], others;
	struct arena a;

	guest_open(&a, &config);
	run_on(1);
	hoard_fill(&hoard, &a, MIB(64), SIZES_PAGES);
	hoard_pages(&hoard, &a, pages);
	others = pages[0] + pages[2] + pages[3];
	check(hoard.error == -ENOMEM && hoard.bytes >= MIB(60),
	      "zones full: a thread on one node gets %.1f of 64 MiB before -ENOMEM",
	      (double)hoard.bytes / (double)MIB(1));
	check(pages[1] << PAGE_SHIFT >= MIB(14) && others > 0,
	      "zones full: %llu pages on its own node, then %llu on others",
	      (unsigned long long)pages[1], (unsigned long long)others);
	hoard_free(&hoard, &a);
	guest_close(&a);
}

/* A little more than that. */
static void check_nearest(void)
{
	struct arena_config config = guest_config("nearest", MIB(64), BACKING_POSIX);
	struct hoard hoard = { 0 };
	uint64_t pages[NODES];
	struct arena a;

	guest_open(&a, &config);
	run_on(2);
	hoard_fill(&hoard, &a, MIB(24), SIZES_PAGES);
	hoard_pages(&hoard, &a, pages);
	check(!hoard.error && pages[2] << PAGE_SHIFT >= MIB(14) &&
		      pages[3] << PAGE_SHIFT >= MIB(7) && pages[0] + pages[1] == 0,
	      "zones full: a thread on node 2 has %llu pages there, then %llu on node 3, the nearest, %llu farther off",
	      (unsigned long long)pages[2], (unsigned long long)pages[3],
	      (unsigned long long)(pages[0] + pages[1]));
	hoard_free(&hoard, &a);
	guest_close(&a);
}

/* Free memory of a node, as the kernel says. */
static uint64_t node_free(int node)
{
	char path[64], line[128];
	unsigned long long kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f) &&
	       sscanf(line, "Node %*d MemFree: %llu kB", &kb) != 1)
		;
	if (f)
		fclose(f);
	return kb << 10;
}

/* Leaves so much of a node's memory. */
static void *fill_node(int node, uint64_t leave, uint64_t *size)
{
	unsigned long mask = 1ul << node;
	uint64_t all = node_free(node);
	char *at;

	*size = all > leave ? all - leave : 0;
	at = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	madvise(at, *size, MADV_NOHUGEPAGE);
	mbind(at, *size, MPOL_BIND, &mask, 64, 0);
	memset(at, 1, *size);
	return at;
}

static void check_memory_full(void)
{
	struct arena_config config = guest_config("memory", MIB(512), BACKING_POSIX);
	struct hoard hoard = { 0 };
	uint64_t pages[NODES], size;
	struct arena a;
	void *filler;

	guest_open(&a, &config);
	run_on(2);
	filler = fill_node(2, MIB(96), &size);
	hoard_fill(&hoard, &a, MIB(160), SIZES_MIXED);
	hoard_pages(&hoard, &a, pages);
	check(filler && hoard.error == 0 && hoard.bytes >= MIB(160),
	      "memory full: a thread on a node with 96 MiB left gets 160 MiB");
	check(share_on(pages, 2) > 0 && share_on(pages, 2) <= 65,
	      "memory full: %.1f %% of its pages are there, the others elsewhere",
	      share_on(pages, 2));
	if (filler)
		munmap(filler, size);
	hoard_free(&hoard, &a);
	guest_close(&a);
}

void check_local(void)
{
	check_threads("posix", BACKING_POSIX, MIB(1024), MIB(24));
	check_threads("memfd", BACKING_MEMFD, MIB(256), MIB(8));
	check_stranger();
	check_migration();
	check_purged();
	check_zones_full();
	check_nearest();
	check_memory_full();
}
