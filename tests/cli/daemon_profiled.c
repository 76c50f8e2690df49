/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon_profiled SOCKET ARENA RATE : a client that profiles itself, holds 2.4 MB of records and 4.8 MB of buffers, taken
 * over a quarter of a second by two functions, has freed as much, says so, and waits for somebody to kill it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "shmalloc.h"

#define ROUNDS 100

static shma *a;

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(100);
}

__attribute__((noinline)) static shma_handle take_record(void)
{
	shma_handle h = shma_alloc(a, 100, 0);

	must(h != SHMA_NULL, "record");
	return h;
}

__attribute__((noinline)) static void *take_buffer(void)
{
	void *p = shma_alloc_ptr(a, 8000, 0, NULL);

	must(p != NULL, "buffer");
	return p;
}

__attribute__((noinline)) static void take_and_give(void)
{
	for (int i = 0; i < 10; i++)
		must(!shma_free(a, take_record()) && !shma_free_ptr(a, take_buffer()), "free");
}

int main(int argc, char **argv)
{
	struct shma_options opt = { .struct_size = sizeof(opt) };
	const struct timespec moment = { .tv_nsec = 2500000 };

	if (argc != 4)
		return 2;
	opt.socket = argv[1];
	must(!shma_open(&a, argv[2], SHMA_CREATE, &opt), "open");
	must(!shma_profile(a, strtoull(argv[3], NULL, 10)), "profile");
	for (int i = 0; i < ROUNDS; i++) {
		for (int k = 0; k < 240; k++)
			take_record();
		for (int k = 0; k < 6; k++)
			take_buffer();
		take_and_give();
		nanosleep(&moment, NULL);
	}
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
