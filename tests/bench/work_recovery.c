/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_recovery.c - a client dies with a share of all objects: death.c, a program of its own, measures
 * and prints the results itself.
 */
#include "work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int work_recovery(struct run *r)
{
	const char *daemon = getenv("SHMALLOCD");
	char program[4096], built[4096], share[16], cpus[32];

	snprintf(program, sizeof(program), "%s/death", r->plugins);
	snprintf(built, sizeof(built), "%s/../../shmallocd", r->plugins);
	snprintf(share, sizeof(share), "%ld", r->work->arg);
	snprintf(cpus, sizeof(cpus), r->ncpu > 1 ? "%d,%d" : "%d", r->cpu[0], r->cpu[1]);
	execl(program, "death", "--arena", r->arena, "--share", share, "--cpus", cpus, "--shmallocd",
	      daemon ? daemon : built, r->tiny ? "--tiny" : NULL, NULL);
	return -errno;
}
