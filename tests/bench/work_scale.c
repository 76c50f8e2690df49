/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_scale.c - what does not depend on how many clients an arena has, nor on how large it is: pair and
 * random replace beside themselves, in one process, by turns. And what a checked reference costs.
 */
#include "work.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TURNS 5 /* of which the median counts */

static void pair_batch(struct run *r, void *state, size_t n)
{
	const struct peer_ops *p = r->peer;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		peer_ref ref = work_alloc(p, 128);

		work_touch(p, ref, p->ptr);
		p->free(ref);
	}
}

static void replace_batch(struct run *r, void *state, size_t n)
{
	replace_some(r->peer, state, n, true, r->peer->ptr);
}

/* Two states of affairs, 0 and 1. */
struct beside {
	struct replace live[2];
	double pair[2][TURNS], ws[2][TURNS];
	int turns[2];
};

static int beside_init(struct run *r, struct beside *b, int which)
{
	return replace_init(&b->live[which], r->peer, r->tiny ? 64 : 4096, work_size_16_1024,
			    WORK_SEED);
}

static void beside_turn(struct run *r, struct beside *b, int which)
{
	int turn = b->turns[which]++;

	b->pair[which][turn] = work_steady(r, pair_batch, NULL);
	b->ws[which][turn] = work_steady(r, replace_batch, &b->live[which]);
}

static void emit_beside(const char *name, double *first, double *second, int turns, long of_second)
{
	double a = work_median(first, (size_t)turns), b = work_median(second, (size_t)turns);
	char metric[32];

	snprintf(metric, sizeof(metric), "%s_1", name);
	work_emit(metric, a);
	snprintf(metric, sizeof(metric), "%s_%ld", name, of_second);
	work_emit(metric, b);
	work_emit(name, a > 0 ? b / a : 0);
}

static void beside_emit(struct run *r, struct beside *b)
{
	emit_beside("pair", b->pair[0], b->pair[1], b->turns[0], r->work->arg);
	emit_beside("ws", b->ws[0], b->ws[1], b->turns[0], r->work->arg);
}

/* ---- clients ---- */

#define CLIENTS_MAX    4000
#define CLIENT_OBJECTS 16

/* A client as most are: it has allocated a little and sleeps. A child of fork() is one of its own. */
static void sleeping_client(struct run *r, int ready)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < CLIENT_OBJECTS; i++)
		work_touch(r->peer, work_alloc(r->peer, 64u << i % 4), r->peer->ptr);
	if (write(ready, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static int start_clients(struct run *r, pid_t *pids, int n)
{
	int fds[2], started = 0;
	char byte;

	if (pipe(fds))
		return 0;
	while (started < n) {
		pid_t pid = fork();

		if (!pid)
			sleeping_client(r, fds[1]);
		if (pid < 0)
			break;
		pids[started++] = pid;
	}
	close(fds[1]);
	for (int i = 0; i < started; i++)
		if (read(fds[0], &byte, 1) != 1)
			break;
	close(fds[0]);
	return started;
}

static void end_clients(const pid_t *pids, int n)
{
	for (int i = 0; i < n; i++)
		kill(pids[i], SIGKILL);
	for (int i = 0; i < n; i++)
		while (waitpid(pids[i], NULL, 0) < 0 && errno == EINTR)
			;
}

int work_clients(struct run *r)
{
	static struct beside b;
	static pid_t pids[CLIENTS_MAX];
	int want = r->tiny ? 4 : (int)r->work->arg, started, e = beside_init(r, &b, 0);

	if (e)
		return e;
	r->seconds /= TURNS;
	for (int i = 0; i < TURNS; i++)
		beside_turn(r, &b, 0);
	b.live[1] = b.live[0]; /* the same objects: it is the others who are new */
	started = start_clients(r, pids, want - 1);
	if (started == want - 1 && r->peer->clients() >= (uint64_t)want) {
		for (int i = 0; i < TURNS; i++)
			beside_turn(r, &b, 1);
		beside_emit(r, &b);
	} else {
		fprintf(stderr, "%d clients, not %d\n", (int)r->peer->clients(), want);
		e = -EUSERS;
	}
	end_clients(pids, started);
	return e;
}

/* ---- capacity ---- */

int work_capacity(struct run *r)
{
	static struct beside b;
	uint64_t sizes[2] = { (uint64_t)1 << 30, (uint64_t)r->work->arg << 30 };
	int e = 0;

	for (int which = 0; which < 2 && !e; which++) {
		e = r->peer->use_arena(sizes[which]);
		if (!e)
			e = beside_init(r, &b, which);
	}
	r->seconds /= TURNS;
	for (int i = 0; i < 2 * TURNS && !e; i++) {
		e = r->peer->use_arena(sizes[i % 2]);
		if (!e)
			beside_turn(r, &b, i % 2);
	}
	if (!e)
		beside_emit(r, &b);
	return e;
}

/* ---- a checked reference ---- */

struct look_up {
	struct replace live;
	char **pointers;
	uint32_t at;
	uint64_t sum;
};

enum look { LOOK_CHECKED, LOOK_PLAIN, LOOK_POINTER };

/* One byte of each of many objects in random order, so that the next address does not depend on the last. */
static ALWAYS_INLINE void look_batch(struct run *r, struct look_up *s, size_t n, enum look how)
{
	const struct peer_ops *p = r->peer;
	uint64_t sum = 0;
	uint32_t at = s->at;

	for (size_t i = 0; i < n; i++) {
		uint32_t slot = s->live.steps[at++ % REPLACE_STEPS].slot;
		const char *from = how == LOOK_CHECKED ? p->ptr(s->live.live[slot])
				   : how == LOOK_PLAIN ? p->plain(s->live.live[slot])
						       : s->pointers[slot];

		sum += (unsigned char)*from;
	}
	s->at = at;
	s->sum += sum;
	__asm__ volatile("" : : "r"(sum));
}

static void checked_batch(struct run *r, void *state, size_t n)
{
	look_batch(r, state, n, LOOK_CHECKED);
}

static void plain_batch(struct run *r, void *state, size_t n)
{
	look_batch(r, state, n, LOOK_PLAIN);
}

static void pointer_batch(struct run *r, void *state, size_t n)
{
	look_batch(r, state, n, LOOK_POINTER);
}

int work_look_up(struct run *r)
{
	struct look_up s = { .at = 0 };
	uint32_t slots = r->tiny ? 64 : (uint32_t)r->work->arg;
	int e = replace_init(&s.live, r->peer, slots, work_size_16_1024, WORK_SEED);

	s.pointers = malloc(slots * sizeof(*s.pointers));
	if (e || !s.pointers)
		return e ? e : -ENOMEM;
	for (uint32_t i = 0; i < slots; i++) {
		s.pointers[i] = r->peer->ptr(s.live.live[i]);
		if (r->peer->plain(s.live.live[i]) != s.pointers[i])
			return -EINVAL;
	}
	r->seconds /= 3;
	work_emit("checked", work_steady(r, checked_batch, &s));
	work_emit("plain", work_steady(r, plain_batch, &s));
	work_emit("pointer", work_steady(r, pointer_batch, &s));
	free(s.pointers);
	replace_fini(&s.live, r->peer);
	return 0;
}
