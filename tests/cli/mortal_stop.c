/* SPDX-License-Identifier: Apache-2.0 */
/* Clients stopped in the middle of anything, while everybody who can recovers, and memory is wanted. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach.h"
#include "mortal.h"
#include "recovery.h"

/* ---- a client that always has something, and always does something ---- */

enum { RING = 64 };

static struct {
	_Atomic uint64_t rounds;
	_Atomic uint32_t stop;
} * shared;

static void work_round(struct things *t, unsigned *seed, struct shma_record *open)
{
	shma_handle some[RING];
	unsigned n;

	for (n = 0; n < RING; n++) {
		some[n] = shma_alloc(self, 1 + (unsigned)rand_r(seed) % 6000,
				     n % 3 ? 0 : SHMA_SHARED);
		if (!some[n] && errno != ENOMEM)
			die("alloc: %s", strerror(errno));
		if (!some[n])
			break;
		memset(shma_ptr(self, some[n]), (int)n, 1);
	}
	while (n--)
		if (*(char *)shma_ptr(self, some[n]) != (char)n || shma_free(self, some[n]))
			die("one of the round's own is lost");
	things_check(t);
	memcpy(open->data, "committed after a stop", 22);
	if (shma_log_commit(self, open) || shma_log_reserve(self, open, 6, 22))
		die("the open record is lost");
}

static __attribute__((noreturn)) void be_stopped(const char *name, unsigned seed)
{
	static struct things t;
	struct shma_record open;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	attach(name, 0, NULL);
	things_make(&t, seed);
	if (shma_log_reserve(self, &open, 6, 22))
		die("reserve");
	while (!atomic_load(&shared->stop)) {
		work_round(&t, &seed, &open);
		atomic_fetch_add(&shared->rounds, 1);
	}
	things_free(&t);
	_exit(0);
}

/* stopped NAME SEED: lines of stdin: "stop", "go" (and it must get on), "end". */
int verb_stopped(char **argv)
{
	unsigned seed = (unsigned)strtoul(argv[1], NULL, 10);
	char line[64];
	int status;
	pid_t child;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		die("memory");
	fflush(stdout);
	child = fork();
	if (child == 0)
		be_stopped(argv[0], seed);
	while (!atomic_load(&shared->rounds) && waitpid(child, &status, WNOHANG) == 0)
		usleep(1000);
	say("client=0 pid=%d", (int)child);
	while (fgets(line, sizeof(line), stdin) && strcmp(line, "end\n") != 0) {
		if (strcmp(line, "stop\n") == 0) {
			usleep((useconds_t)(rand_r(&seed) % 3000)); /* anywhere */
			kill(child, SIGSTOP);
			waitpid(child, &status, WUNTRACED);
			say("stopped=%d", WIFSTOPPED(status));
		} else if (strcmp(line, "go\n") == 0) {
			uint64_t before = atomic_load(&shared->rounds);

			kill(child, SIGCONT);
			for (int i = 0; i < 200000 && atomic_load(&shared->rounds) < before + 5;
			     i++) {
				if (waitpid(child, &status, WNOHANG) == child)
					die("it has ended: %#x", status);
				usleep(1000);
			}
			if (atomic_load(&shared->rounds) < before + 5)
				die("it does not go on");
			say("goes on");
		}
	}
	atomic_store(&shared->stop, 1);
	kill(child, SIGCONT);
	if (waitpid(child, &status, 0) != child || status)
		die("it ends with %#x", status);
	say("ended");
	return 0;
}

/* ---- everybody else ---- */

static void die_as_client(const char *name)
{
	struct things *t = calloc(1, sizeof(*t));
	pid_t child = fork();

	if (child == 0) {
		attach(name, 0, NULL);
		if (t)
			for (int i = 0; i < 50; i++)
				t->handle[i] = shma_alloc(self, 100, SHMA_SHARED);
		raise(SIGKILL);
	}
	waitpid(child, NULL, 0);
	free(t);
}

/* All memory that can be had, and back. */
static uint64_t drain(void)
{
	shma_handle h, *all = calloc(1 << 16, sizeof(*all));
	uint64_t n = 0;

	while (n < 1 << 16 && (h = shma_alloc(self, 65536, 0)))
		all[n++] = h;
	if (n < 1 << 16 && errno != ENOMEM)
		die("drain: %s", strerror(errno));
	for (uint64_t i = 0; i < n; i++)
		if (shma_free(self, all[i]))
			die("free");
	free(all);
	return n;
}

/*
 * press NAME [ROUNDS]: what would take hours, at once: clients die, so that the daemon and others look at
 * everybody's life again and again; memory runs out, so that slow paths recover; everybody is reaped.
 */
int verb_press(char **argv)
{
	int rounds = argv[1] ? atoi(argv[1]) : 40;
	uint64_t got = 0;

	for (int i = 0; i < rounds; i++) {
		die_as_client(argv[0]);
		usleep(2000);
	}
	attach(argv[0], 0, NULL);
	for (int i = 0; i < 3; i++) {
		got = drain();
		recovery_reap_all(&self->arena);
	}
	shma_close(self);
	say("pressed=%d got=%llu", rounds, (unsigned long long)got);
	return 0;
}
