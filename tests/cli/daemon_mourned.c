/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon_mourned SOCKET ARENA HOW RECORDS : a client that holds 300 private objects of 100 bytes, 20 shared ones of 1000
 * and one of 1 MiB, frees a third of the small ones, keeps another by two holds, logs, and ends: "exit", "abort", or "wait" for somebody to kill it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shmalloc.h"

static shma *a;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(100);
}

static void hold(void)
{
	shma_handle h[300], kept = shma_alloc(a, 64, 0);

	must(kept && !shma_retain(a, kept) && !shma_retain(a, kept), "retain");

	for (int i = 0; i < 300; i++)
		must((h[i] = shma_alloc(a, 100, 0)) != SHMA_NULL, "alloc");
	for (int i = 0; i < 100; i++)
		must(!shma_free(a, h[i]), "free");
	for (int i = 0; i < 20; i++)
		must(shma_alloc(a, 1000, SHMA_SHARED) != SHMA_NULL, "alloc shared");
	must(shma_alloc(a, 1 << 20, 0) != SHMA_NULL, "alloc large");
}

int main(int argc, char **argv)
{
	struct shma_options opt = { .struct_size = sizeof(opt) };

	if (argc != 5)
		return 2;
	opt.socket = argv[1];
	must(!shma_open(&a, argv[2], SHMA_CREATE, &opt), "open");
	hold();
	for (int i = 1; i <= atoi(argv[4]); i++)
		must(!shma_log(a, 6, "step %d\tof %s", i, argv[4]), "log");
	printf("ready\n");
	fflush(stdout);
	if (!strcmp(argv[3], "abort"))
		abort();
	while (!strcmp(argv[3], "wait"))
		pause();
	exit(3);
}
