/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_purge.c - what a running client loses while memory is given back: purge.c, a program of its own,
 * measures and prints the results itself.
 */
#include "work.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

int work_purge(struct run *r)
{
	char program[4096], seconds[32], arena[128];

	snprintf(program, sizeof(program), "%s/purge", r->plugins);
	snprintf(seconds, sizeof(seconds), "%g", r->tiny ? 0.01 : 5.0);
	/* The driver's own arena has the name already. */
	snprintf(arena, sizeof(arena), "%s-purge", r->arena);
	execl(program, "purge", arena, seconds, r->tiny ? "tiny" : NULL, NULL);
	return -errno;
}
