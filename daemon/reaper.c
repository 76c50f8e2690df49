/* SPDX-License-Identifier: Apache-2.0 */
#include "reaper.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "client.h"
#include "clock.h"
#include "deaths.h"
#include "guard.h"
#include "liveness.h"
#include "msg.h"
#include "recovery.h"
#include "words.h"

#define SECOND	    UINT64_C(1000000000)
#define SWEEP_RARE  (10 * SECOND) /* everybody is watched: only for who never told and execs */
#define SWEEP_OFTEN SECOND	  /* somebody is not */
#define HURRY	    4		  /* sweeps after a hint, each later than the one before */

/* One client's process. Belongs to the loop as long as its poll is pending, forgotten or not. */
struct watch {
	struct loop_op op;	    /* first */
	struct served *served;	    /* NULL: forgotten */
	struct watch *next, **link; /* of the forgotten */
	uint32_t client;
	uint32_t incarnation;
	int pidfd;
};

static struct {
	struct loop *loop;
	struct registry *registry;
	struct loop_op timer;
	uint64_t timer_at;
	struct watch *forgotten; /* their polls are being cancelled */
	struct reaper_counts counts;
} reaper;

/* ---- when ---- */

static void set_timer(void)
{
	uint64_t now = clock_now(), at = now + SWEEP_RARE;

	for (const struct served *s = reaper.registry->first; s; s = s->next)
		if (s->status == ARENA_SERVED && s->sweep_at < at)
			at = s->sweep_at;
	reaper.timer_at = at;
	loop_timer(reaper.loop, &reaper.timer, at > now ? at - now : 0);
}

/* An arena's next sweep was moved forward: done() sets the timer anew. */
static void wake(const struct served *s)
{
	if (reaper.timer.pending && s->sweep_at < reaper.timer_at)
		loop_cancel(reaper.loop, &reaper.timer);
}

static void hurry(struct served *s)
{
	s->sweep_at = clock_now();
	s->sweep_hurry = HURRY;
	wake(s);
}

void reaper_adopt(struct served *s)
{
	s->sweep_at = clock_now();
	wake(s);
}

/* 4, 32, 256 ms: a hang-up may come a little before the lock is dropped. */
static uint64_t next_sweep(struct served *s)
{
	if (s->sweep_hurry > 1) {
		s->sweep_hurry--;
		return UINT64_C(4000000) << 3 * (HURRY - 1 - s->sweep_hurry);
	}
	s->sweep_hurry = 0;
	return s->unwatched ? SWEEP_OFTEN : SWEEP_RARE;
}

/* ---- watches ---- */

static void free_watch(struct watch *w)
{
	if (w->link)
		*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	close(w->pidfd);
	free(w);
}

static void forget_later(struct watch *w)
{
	w->link = &reaper.forgotten;
	w->next = reaper.forgotten;
	if (w->next)
		w->next->link = &w->next;
	reaper.forgotten = w;
	loop_cancel(reaper.loop, &w->op);
}

static void drop_watch(struct served *s, uint32_t client)
{
	struct watch *w = s->watches[client];

	if (!w)
		return;
	s->watches[client] = NULL;
	reaper.counts.watched--;
	w->served = NULL;
	if (w->op.pending)
		forget_later(w);
	else
		free_watch(w);
}

static void process_ended(struct loop_op *op, int result)
{
	struct watch *w = (struct watch *)op;
	struct served *s = w->served;
	uint32_t client;

	(void)result;
	if (!s) {
		free_watch(w);
		return;
	}
	client = w->client; /* the pidfd is kept until it is recovered: it knows how the process ended */
	reaper_suspect(s, client);
}

/*
 * A descriptor of the process of a client's record. Between the record and pidfd_open() the number may
 * have passed to another process: then its start time is another.
 */
static int open_process(const struct client_view *view)
{
	struct client_process process;
	int fd = pidfd_open(view->pid, 0);
	int err;

	if (fd < 0)
		return -errno;
	err = client_process(view->pid, &process);
	if (!err && process.start_time != view->start_time)
		err = -ESRCH;
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int watch(struct served *s, uint32_t client, const struct client_view *view)
{
	struct watch *w = s->watches[client];
	int fd;

	if (w && w->incarnation == view->incarnation)
		return 0;
	drop_watch(s, client);
	fd = open_process(view);
	if (fd < 0)
		return fd;
	w = calloc(1, sizeof *w);
	if (!w) {
		close(fd);
		return -ENOMEM;
	}
	*w = (struct watch){ .op.done = process_ended,
			     .served = s,
			     .client = client,
			     .incarnation = view->incarnation,
			     .pidfd = fd };
	s->watches[client] = w;
	reaper.counts.watched++;
	loop_poll(reaper.loop, &w->op, fd, POLLIN);
	return 0;
}

void reaper_forget(struct served *s)
{
	for (uint32_t i = 0; i < CLIENTS_MAX; i++)
		drop_watch(s, i);
}

struct attaching {
	struct served *s;
	uint32_t client;
	pid_t pid;
	int err;
};

static void attach(void *user)
{
	struct attaching *at = user;
	struct client_view view;

	at->err = client_view(&at->s->arena, at->client, &view);
	if (!at->err && (view.state != CLIENT_LIVE || view.pid != at->pid))
		at->err = -EINVAL;
	/* What cannot be watched is swept. */
	if (!at->err && watch(at->s, at->client, &view)) {
		at->s->unwatched = true;
		hurry(at->s);
	}
}

int reaper_attached(struct served *s, uint32_t client, pid_t pid)
{
	struct attaching at = { .s = s, .client = client, .pid = pid };

	if (client == s->arena.client)
		return -EINVAL;
	if (guard_run(&s->arena, attach, &at)) {
		registry_refuse(reaper.registry, s, -EUCLEAN);
		return -EUCLEAN;
	}
	return at.err;
}

/* ---- the sweep ---- */

static void report(struct served *s, uint32_t client, struct client_view *view)
{
	const struct watch *w = s->watches[client];

	view->command[sizeof(view->command) - 1] = '\0';
	deaths_report(s, client, view, w && w->incarnation == view->incarnation ? w->pidfd : -1);
}

/* Whether nothing of it is left. Else another client is at it, or a zone was busy. */
static bool recover(struct served *s, uint32_t client)
{
	struct client_view view;
	int err = client_view(&s->arena, client, &view);

	if (err || view.state == CLIENT_FREE)
		return true;
	report(s, client, &view);
	if (recovery_run(&s->arena, client, true) != 1)
		return false;
	drop_watch(s, client);
	reaper.counts.deaths++;
	msg_info("arena %s: client %u is dead (process %d, %s): what it held is returned",
		 s->record.name, client, (int)view.pid, view.command);
	return true;
}

/* Whether the slot needs no look before the next rare sweep. */
static bool look_at(struct served *s, uint32_t client)
{
	struct client_view view;

	switch (liveness_of(&s->arena, client)) {
	case LIVENESS_NONE: drop_watch(s, client); return true;
	case LIVENESS_DEAD: return recover(s, client);
	case LIVENESS_UNSURE: return false;
	case LIVENESS_ALIVE: break;
	}
	return client_view(&s->arena, client, &view) == 0 && watch(s, client, &view) == 0;
}

struct suspicion {
	struct served *s;
	uint32_t client;
	bool settled;
};

static void look_at_suspect(void *user)
{
	struct suspicion *suspicion = user;
	struct served *s = suspicion->s;
	struct client_view view;

	if (!s->arena.client || suspicion->client == s->arena.client)
		return;
	look_at(s, suspicion->client);
	suspicion->settled =
		client_view(&s->arena, suspicion->client, &view) == 0 && view.state == CLIENT_FREE;
}

void reaper_suspect(struct served *s, uint32_t client)
{
	struct suspicion suspicion = { .s = s, .client = client };

	if (s->status != ARENA_SERVED)
		return;
	if (guard_run(&s->arena, look_at_suspect, &suspicion))
		registry_refuse(reaper.registry, s, -EUCLEAN);
	else if (!suspicion.settled)
		hurry(s);
}

static void sweep(void *user)
{
	struct served *s = user;
	struct arena *a = &s->arena;
	uint32_t high = client_high(a);

	if (!a->client && client_claim(a)) {
		s->unwatched = true;
		return;
	}
	arena_refresh(a);
	s->unwatched = false;
	for (uint32_t i = 1; i < high; i++)
		if (i != a->client && !look_at(s, i))
			s->unwatched = true;
	/* Words above it were given back since. */
	for (uint32_t i = high; i < CLIENTS_MAX; i++)
		drop_watch(s, i);
}

static void timer_done(struct loop_op *op, int result)
{
	uint64_t now = clock_now();
	struct served *next;

	(void)op;
	(void)result;
	for (struct served *s = reaper.registry->first; s; s = next) {
		next = s->next;
		if (s->status != ARENA_SERVED || s->sweep_at > now)
			continue;
		if (guard_run(&s->arena, sweep, s))
			registry_refuse(reaper.registry, s, -EUCLEAN);
		else
			s->sweep_at = clock_now() + next_sweep(s);
	}
	set_timer();
}

void reaper_start(struct loop *loop, struct registry *registry)
{
	reaper.loop = loop;
	reaper.registry = registry;
	reaper.timer.done = timer_done;
	loop_timer(loop, &reaper.timer, 0);
}

struct reaper_counts reaper_counts(void)
{
	return reaper.counts;
}
