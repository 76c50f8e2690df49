/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leaky.c - an arena in which some objects are known to somebody, each in another way, and two to nobody: their maker was
 * killed. Prints "known" and "lost" with their handles, then holds its own until its input ends.
 */
#include <shmalloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LARGE 200000u

static shma *arena;
static shma_handle *lost; /* shared with the child */

__attribute__((noreturn)) static void give_up(const char *what)
{
	perror(what);
	exit(1);
}

static shma_handle make(size_t size, unsigned flags, shma_handle contents)
{
	shma_handle h = shma_alloc(arena, size, flags);
	shma_handle *at = shma_ptr(arena, h);

	if (!at)
		give_up("make");
	memset(at, 0, size);
	at[size / sizeof(*at) - 1] = contents;
	printf("%s %016llx\n", "known", (unsigned long long)h);
	return h;
}

__attribute__((noinline)) static void lose(void)
{
	lost[0] = shma_alloc(arena, 200, SHMA_PERSIST);
	lost[1] = shma_alloc(arena, LARGE, SHMA_PERSIST);
}

int main(int argc, char **argv)
{
	shma_handle inner, packed;
	pid_t pid;

	if (argc != 2 || shma_open(&arena, argv[1], SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, NULL))
		give_up("open");
	if (shma_profile(arena, 1024))
		give_up("profile");
	lost = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* A name leads to a packed object, and its contents to another; a private one leads to a third; one is held. */
	inner = make(64, SHMA_PERSIST, 0);
	packed = shma_pack(arena, make(LARGE, SHMA_PERSIST, inner), 3);
	if (!packed || shma_publish(arena, "root", make(64, 0, packed)))
		give_up("root");
	make(64, 0, make(5000, SHMA_PERSIST, 0));
	if (shma_retain(arena, make(300, 0, 0)))
		give_up("retain");
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		lose();
		kill(getpid(), SIGKILL);
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		give_up("fork");
	printf("lost %016llx\nlost %016llx\n", (unsigned long long)lost[0], (unsigned long long)lost[1]);
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
