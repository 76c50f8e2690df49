/* SPDX-License-Identifier: Apache-2.0 */
/* A program whose allocations are recorded: so many of one size for each thing that it does, as its argument says. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS	   4
#define PER_THREAD 500
#define SIZE_FIRST 55555 /* before the rest */

static void *volatile keep;
static volatile size_t too_much = SIZE_MAX / 4;
static void *passed[THREADS][PER_THREAD];
static pthread_barrier_t all_made;

static void *must(void *p)
{
	if (!p)
		_exit(3);
	return p;
}

static void allocate(int n, size_t size)
{
	while (n-- > 0)
		keep = must(malloc(size));
}

/* Each frees what the next one has made. */
static void *make_and_free(void *arg)
{
	int me = (int)(intptr_t)arg;

	for (int i = 0; i < PER_THREAD; i++)
		passed[me][i] = must(malloc(33333));
	pthread_barrier_wait(&all_made);
	for (int i = 0; i < PER_THREAD; i++)
		free(passed[(me + 1) % THREADS][i]);
	return NULL;
}

static void threads(void)
{
	pthread_t t[THREADS];

	pthread_barrier_init(&all_made, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, make_and_free, (void *)(intptr_t)i))
			_exit(3);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

static void resize(void)
{
	for (int i = 0; i < 100; i++)
		keep = must(realloc(must(malloc(10)), 44444));
	if (realloc(keep, too_much) || errno != ENOMEM) /* as it was */
		_exit(3);
	free(keep);
}

static void align(void)
{
	void *p = NULL;

	if (posix_memalign(&p, 64, 66666))
		_exit(3);
	keep = must(aligned_alloc(64, 66688));
	keep = must(memalign(64, 66666));
	keep = must(valloc(66666));
	keep = must(calloc(3, 22222));
	keep = must(reallocarray(NULL, 3, 22222));
	if (reallocarray(NULL, too_much, 8) || errno != ENOMEM)
		_exit(3);
}

/* What the child does is not recorded. */
static void fork_one(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		allocate(50, 77777);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	allocate(7, 77778);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	allocate(300, SIZE_FIRST);
	if (!strcmp(what, "threads"))
		threads();
	else if (!strcmp(what, "resize"))
		resize();
	else if (!strcmp(what, "align"))
		align();
	else if (!strcmp(what, "fork"))
		fork_one();
	else if (!strcmp(what, "exec"))
		return execl(argv[0], argv[0], "last", (char *)NULL);
	else if (!strcmp(what, "kill"))
		kill(getpid(), SIGKILL);
	return 0;
}
