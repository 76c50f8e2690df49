/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_huge.c - what large pages gain where memory is used at random: huge.c, a program of its own, measures
 * and prints the results itself, since no public call makes an arena of a chosen backing.
 */
#include "work.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

int work_huge(struct run *r)
{
	char program[4096], seconds[32], arena[128];

	snprintf(program, sizeof(program), "%s/huge", r->plugins);
	snprintf(seconds, sizeof(seconds), "%g", r->seconds);
	/* The driver's own arena has the name already. */
	snprintf(arena, sizeof(arena), "%s-huge", r->arena);
	execl(program, "huge", arena, seconds, r->tiny ? "tiny" : NULL, NULL);
	return -errno;
}
