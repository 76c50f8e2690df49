/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_memory.c - how much more memory than its live objects a heap takes. Every page of every object
 * is touched, and what the process holds is read from the kernel, never from the allocator.
 */
#include "work.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static uint64_t anonymous_bytes(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long kib = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "RssAnon: %lu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return (uint64_t)kib << 10;
}

/* Blocks of the files in /dev/shm that bear the arena's name: what they take, mapped or not. */
static uint64_t shared_bytes(const char *arena)
{
	DIR *dir = opendir("/dev/shm");
	const struct dirent *entry;
	uint64_t sum = 0;

	while (dir && (entry = readdir(dir))) {
		struct stat st;

		if (strstr(entry->d_name, arena) && !fstatat(dirfd(dir), entry->d_name, &st, 0))
			sum += (uint64_t)st.st_blocks * 512;
	}
	if (dir)
		closedir(dir);
	return sum;
}

uint64_t memory_held(const char *arena)
{
	return anonymous_bytes() + shared_bytes(arena);
}

#define LOOKS 200u

struct held {
	peer_ref *refs;
	uint32_t *sizes;
	uint64_t live, peak_live, peak_held;
};

static void held_put(const struct peer_ops *p, struct held *h, uint32_t slot, uint32_t size)
{
	h->refs[slot] = work_alloc(p, size);
	h->sizes[slot] = size;
	h->live += size;
	if (h->live > h->peak_live)
		h->peak_live = h->live;
	work_touch_pages(p, h->refs[slot], size, p->ptr);
}

static void held_replace(const struct peer_ops *p, struct held *h, uint32_t slot, uint32_t size)
{
	p->free(h->refs[slot]);
	h->live -= h->sizes[slot];
	held_put(p, h, slot, size);
}

static void held_look(struct run *r, struct held *h)
{
	uint64_t held = memory_held(r->arena);

	if (held > h->peak_held)
		h->peak_held = held;
}

/* Percent by which the most that was held exceeds the most that was live, over many replacements. */
static int above_live(struct run *r, uint32_t slots, uint32_t replacements, size_fn *size)
{
	struct held h = {malloc(slots * sizeof(peer_ref)), malloc(slots * sizeof(uint32_t)), 0, 0,
			 0};
	uint64_t random = WORK_SEED, before;

	if (!h.refs || !h.sizes)
		return -ENOMEM;
	explicit_bzero(h.refs, slots * sizeof(peer_ref)); /* the driver's own pages come before */
	explicit_bzero(h.sizes, slots * sizeof(uint32_t));
	before = memory_held(r->arena);
	for (uint32_t i = 0; i < slots; i++)
		held_put(r->peer, &h, i, size(&random));
	for (uint32_t i = 0; i < replacements; i++) {
		if (i % (replacements / LOOKS + 1) == 0)
			held_look(r, &h);
		held_replace(r->peer, &h, work_range(&random, 0, slots - 1), size(&random));
	}
	held_look(r, &h);
	work_emit("above", 100.0 * ((double)(h.peak_held - before) / (double)h.peak_live - 1));
	free(h.refs);
	free(h.sizes);
	return 0;
}

static uint32_t size_100_500(uint64_t *random)
{
	return work_range(random, 100, 500);
}

int work_memory_small(struct run *r)
{
	uint32_t slots = r->tiny ? 100 : (uint32_t)r->work->arg;

	return above_live(r, slots, 5 * slots, size_100_500);
}

int work_memory_logmix(struct run *r)
{
	uint32_t slots = r->tiny ? 100 : (uint32_t)r->work->arg;

	return above_live(r, slots, 2 * slots, work_size_logmix);
}
