/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recoverer that is stopped at some instruction of the recovery, and goes on when everything has changed:
 * its victim's number may belong to another client by then, or still be its own to recover.
 *
 * Three processes beside this one: the victim, which dies; the recoverer, single-stepped; the heir, which
 * recovers if it may and then is a new client, with the victim's number if that is free, and objects.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach.h"
#include "audit.h"
#include "client.h"
#include "mortal.h"
#include "recovery.h"
#include "words.h"

static struct {
	_Atomic uint32_t victim, heir, ready, check, close, closed;
	_Atomic uint64_t word; /* of the victim, when the heir looked */
} * shared;

static const char *arena_name;

static void wait_ready(uint32_t count)
{
	while (atomic_load(&shared->ready) < count)
		usleep(200);
}

static pid_t start(void (*body)(void))
{
	pid_t child = fork();

	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	body();
	_exit(0);
}

static void victim(void)
{
	/* A few of each kind: the recovery is to be stepped through many times. */
	static const size_t bytes[] = { 16, 16, 200, 5000, 40000, 9 << 20 };
	shma_handle h = SHMA_NULL;

	attach(arena_name, SHMA_EMBEDDED, NULL);
	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		h = shma_alloc(self, bytes[i], i % 2 ? SHMA_SHARED : 0);
		if (!h)
			die("alloc: %s", strerror(errno));
	}
	atomic_store(&shared->victim, self->arena.client);
	atomic_fetch_add(&shared->ready, 1);
	for (;;)
		pause();
}

/* The other thread, which nobody holds: loses its process's life lock, when told. */
static void *close_all(void *unused)
{
	(void)unused;
	while (!atomic_load(&shared->close))
		usleep(200);
	closefrom(3);
	atomic_store(&shared->closed, 1);
	return NULL;
}

/* Under the eyes of the parent, from its first stop to its second. */
static void recoverer(void)
{
	pthread_t t;

	attach(arena_name, SHMA_EMBEDDED, NULL);
	if (pthread_create(&t, NULL, close_all, NULL))
		die("no thread");
	if (!shma_alloc(self, 100, 0))
		die("alloc");
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	recovery_run(&self->arena, atomic_load(&shared->victim), true);
	raise(SIGSTOP);
	/* It still is a client like others. */
	if (!atomic_load(&shared->closed) && !shma_alloc(self, 100, 0))
		die("alloc after a recovery");
	_exit(0);
}

static void heir(void)
{
	static struct things t;

	attach(arena_name, SHMA_EMBEDDED, NULL);
	recovery_reap_all(&self->arena);
	atomic_store(&shared->word,
		     atomic_load(client_word_at(&self->arena, atomic_load(&shared->victim))));
	/* Now the lowest free number is taken. */
	shma_close(self);
	attach(arena_name, SHMA_EMBEDDED, NULL);
	things_make(&t, 77);
	atomic_store(&shared->heir, self->arena.client);
	atomic_fetch_add(&shared->ready, 1);
	while (!atomic_load(&shared->check))
		usleep(200);
	things_check(&t);
	recovery_reap_all(&self->arena);
	things_check(&t);
	things_free(&t);
	shma_close(self);
	_exit(0);
}

static void expect_end(pid_t child, const char *who)
{
	int status;

	if (waitpid(child, &status, 0) != child || status)
		die("the %s ends with %#x", who, status);
}

static void finding(void *context, const struct audit_finding *f)
{
	(void)context;
	fprintf(stderr, "mortal: %s: %s\n", audit_key(f->what), f->text);
}

/* Only what this process has is left. */
static void expect_nothing(unsigned long step)
{
	struct shma_stats st;

	attach(arena_name, SHMA_EMBEDDED, NULL);
	recovery_reap_all(&self->arena);
	shma_stats(self, &st);
	if (st.live_objects || st.clients != 1)
		die("step %lu: %llu objects, %llu clients are left", step,
		    (unsigned long long)st.live_objects, (unsigned long long)st.clients);
	if (audit_arena(&self->arena, false, finding, NULL))
		die("step %lu: the arena is not whole", step);
	shma_close(self);
}

static bool step_once(pid_t child, int *status)
{
	if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) || waitpid(child, status, 0) != child)
		die("single step: %s", strerror(errno));
	return WIFSTOPPED(*status) && WSTOPSIG(*status) == SIGTRAP;
}

enum then { GO_ON, BE_KILLED, CLOSE_AND_GO_ON };
enum outcome { NOT_YET, REUSED, DONE, KEPT };

static shma *watch; /* this process's own view, that of nobody */

static bool being_recovered(void)
{
	uint64_t word = atomic_load(client_word_at(&watch->arena, atomic_load(&shared->victim)));

	return client_word_state(word) == CLIENT_RECOVERING;
}

/* Stops the recoverer after so many instructions; they are as many as the recovery has if that is fewer. Of
 * them, *claimed are gone when it has become the victim's recoverer. */
static unsigned long once(unsigned long stop, enum then then, enum outcome *outcome,
			  unsigned long *claimed)
{
	pid_t dead, slow, last;
	unsigned long steps = 0;
	bool its_job;
	int status;

	*claimed = 0;

	memset(shared, 0, sizeof(*shared));
	dead = start(victim);
	wait_ready(1);
	slow = start(recoverer);
	if (waitpid(slow, &status, 0) != slow || !WIFSTOPPED(status))
		die("the recoverer does not stop");
	kill(dead, SIGKILL);
	waitpid(dead, NULL, 0);
	/* raise() has some instructions to go, before and after. */
	while (steps < stop && step_once(slow, &status)) {
		steps++;
		if (!*claimed && being_recovered())
			*claimed = steps;
	}
	if (then == CLOSE_AND_GO_ON) {
		atomic_store(&shared->close, 1);
		while (!atomic_load(&shared->closed))
			usleep(200);
	}
	its_job = being_recovered();
	last = start(heir);
	wait_ready(2);
	*outcome = client_word_state(atomic_load(&shared->word)) == CLIENT_RECOVERING ? KEPT
		   : atomic_load(&shared->heir) == atomic_load(&shared->victim)	      ? REUSED
										      : DONE;
	if (its_job && *outcome != KEPT)
		die("step %lu: a stopped recoverer's job was taken", stop);
	if (then == BE_KILLED) {
		kill(slow, SIGKILL);
		waitpid(slow, NULL, 0);
	} else {
		/* To its end: the stop it makes itself is not passed on. */
		if (ptrace(PTRACE_DETACH, slow, NULL, NULL))
			die("detach: %s", strerror(errno));
		do {
			kill(slow, SIGCONT);
			usleep(500);
		} while (waitpid(slow, &status, WNOHANG) == 0);
		if (status)
			die("the recoverer ends with %#x after a stop at step %lu", status, stop);
	}
	atomic_store(&shared->check, 1);
	expect_end(last, "heir");
	expect_nothing(stop);
	return steps;
}

/* halfway NAME SEED [STOPS] */
int verb_halfway(char **argv)
{
	unsigned seed = (unsigned)strtoul(argv[1], NULL, 10),
		 stops = argv[2] ? (unsigned)atoi(argv[2]) : 16;
	unsigned counts[4] = { 0 };
	enum outcome outcome;
	unsigned long all, claim;

	arena_name = argv[0];
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		die("memory");
	fflush(stdout);
	attach(arena_name, SHMA_EMBEDDED | SHMA_RDONLY, NULL);
	watch = self;
	all = once(1000000, GO_ON, &outcome, &claim);
	if (!claim)
		die("%lu steps, and no recovery", all);
	for (unsigned i = 0; i < stops; i++) {
		unsigned long stop = (unsigned long)rand_r(&seed), unused;

		/* Most where it is decided who recovers. */
		stop = i % 4 == 3 ? claim + stop % (all - claim) : stop % (claim + 1);
		once(stop,
		     i % 8 == 7	  ? CLOSE_AND_GO_ON
		     : i % 8 == 6 ? BE_KILLED
				  : GO_ON,
		     &outcome, &unused);
		counts[outcome]++;
	}
	say("steps=%lu claim=%lu stops=%u reused=%u kept=%u done=%u", all, claim, stops,
	    counts[REUSED], counts[KEPT], counts[DONE]);
	return 0;
}
