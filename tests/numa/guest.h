/* SPDX-License-Identifier: Apache-2.0 */
/* guest.h - what the checks of a machine of several NUMA nodes share: arenas, threads on nodes, whose pages. */
#ifndef TESTS_NUMA_GUEST_H
#define TESTS_NUMA_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arena.h"
#include "format.h"

#define NODES  4 /* of the guest; its processor n is alone on node n */
#define MIB(n) ((uint64_t)(n) << 20)

/* One line a check; counted. */
void check(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Pins the calling thread to a node. */
void run_on(int node);

/* ---- arenas ---- */

struct arena_config guest_config(const char *name, uint64_t capacity, enum arena_backing backing);
/* Makes one, maps it, and makes this process a client of it. Ends the guest if that fails. */
void guest_open(struct arena *a, const struct arena_config *config);
/* Frees all of its memory. */
void guest_close(struct arena *a);
/* Frees memory of the heap that nobody needs; bytes. */
uint64_t guest_purge(struct arena *a);

/* ---- objects ---- */

struct hoard {
	uint64_t *handles, *sizes;
	size_t count, room;
	uint64_t bytes;
	int error; /* of the allocation that failed */
};

/* Sizes of a hoard: small ones mostly, or pages. */
enum sizes { SIZES_MIXED, SIZES_PAGES };
/* Allocates so many bytes, all touched, unless memory ends before. */
void hoard_fill(struct hoard *h, struct arena *a, uint64_t bytes, enum sizes sizes);
void hoard_free(struct hoard *h, struct arena *a);
/* Pages under its objects, by node, as move_pages() says; a page of several objects counts for each. */
void hoard_pages(const struct hoard *h, struct arena *a, uint64_t pages[NODES]);

/* Percent of the pages that lie on a node. */
double share_on(const uint64_t pages[NODES], int node);
/* In a child process, on a node: the exit status. */
int in_process(int node, int (*body)(void *), void *arg);

/* ---- the checks, by file ---- */

void check_local(void); /* guest_local.c */
void check_far(void);	/* guest_far.c: interleave, bind, refusals, full nodes, the tool */

#endif
