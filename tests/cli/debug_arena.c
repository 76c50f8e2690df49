/* SPDX-License-Identifier: Apache-2.0 */
/* A client of a debug arena that does as it is told, a line at a time: what a program may do wrong. */
#define SHMA_DEBUG_CALLS
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shmalloc.h"

static shma *arena;
static char *last; /* the pointer to what was allocated or looked at last */

/* By a pointer, as a program does that counts wrong. */
static void spoil(int64_t at)
{
	last[at] ^= 0x5a;
}

/* Calls that say nothing of where they are: their stack tells, by the names of these. */
__attribute__((noinline)) static int64_t far_alloc(uint64_t size, unsigned flags)
{
	int64_t h = (int64_t)(shma_alloc)(arena, size, flags);

	__asm__ volatile("");
	return h;
}

__attribute__((noinline)) static int64_t far_free(uint64_t h)
{
	int64_t r = (shma_free)(arena, h);

	__asm__ volatile("");
	return r;
}

__attribute__((noinline)) static int64_t far_release(uint64_t h)
{
	int64_t r = (shma_release)(arena, h);

	__asm__ volatile("");
	return r;
}

/* The line of the call, for who compares it with what is told. */
static void do_line(const char *verb, uint64_t x, int64_t y)
{
	int line = 0;
	int64_t r = 0;

	if (!strcmp(verb, "alloc"))
		r = (int64_t)shma_alloc(arena, x, (unsigned)y), line = __LINE__;
	else if (!strcmp(verb, "free"))
		r = shma_free(arena, x), line = __LINE__;
	else if (!strcmp(verb, "far_alloc"))
		r = far_alloc(x, (unsigned)y);
	else if (!strcmp(verb, "far_free"))
		r = far_free(x);
	else if (!strcmp(verb, "far_release"))
		r = far_release(x);
	else if (!strcmp(verb, "retain"))
		r = shma_retain(arena, x), line = __LINE__;
	else if (!strcmp(verb, "ptr"))
		last = shma_ptr(arena, x), r = last ? 0 : -errno, line = __LINE__;
	else if (!strcmp(verb, "write"))
		spoil(y);
	else
		exit(2);
	printf("%s %" PRId64 " line=%d\n", verb, r, line);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char verb[16];
	uint64_t x;
	int64_t y;
	int r;

	r = argc == 3 ? shma_open(&arena, argv[1], !strcmp(argv[2], "embedded") ? SHMA_EMBEDDED : 0, NULL) : -EINVAL;
	if (r) {
		fprintf(stderr, "debug_arena: %s\n", shma_strerror(r));
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	while (scanf("%15s %" SCNu64 " %" SCNd64, verb, &x, &y) == 3)
		do_line(verb, x, y);
	return shma_close(arena) ? 1 : 0;
}
