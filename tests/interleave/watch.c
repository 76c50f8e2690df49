/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stop points' side of a process, and tests/crash/step.h without steps: its operations call step_begin()
 * and step_end() around what matters.
 *
 * Time is that between the two, less what the kernel counts as ready and waiting for a processor: what is
 * left is running and sleeping, which a busy machine does not make longer.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../thread_time.h"
#include "interleave.h"

#define GOES_ON_SECONDS 60 /* a held one that was continued: longer is for ever */

struct scene *scene;

static struct {
	enum { NOTHING, COUNT, HOLD, DIE, TIME } next, now;
	enum stop_point_name at;
	uint32_t hit, met;
	struct trace *trace;
	uint64_t clock, queued, sleeps;
} watch;

static const char *const texts[][2] = {
#define TEXT(name, what) { #name, what },
	STOP_POINT_TABLE(TEXT)
#undef TEXT
};

const char *stop_point_text(enum stop_point_name name)
{
	return texts[name][0];
}

const char *stop_point_what(enum stop_point_name name)
{
	return texts[name][1];
}

/* ---- time ---- */

static void time_begin(void)
{
	watch.queued = thread_queued_ns();
	watch.sleeps = thread_sleeps();
	watch.clock = thread_clock_ns();
}

static void time_end(void)
{
	uint64_t took = thread_clock_ns() - watch.clock, slept = thread_sleeps() - watch.sleeps;
	uint64_t waited = thread_queued_ns() - watch.queued;

	scene->timing = (struct timing){
		.own_ns = took > waited ? took - waited : 0,
		.sleeps = slept,
		.over = true,
	};
}

/* ---- stop points ---- */

static void hold(void)
{
	watch.now = NOTHING;
	scene->held = true;
	raise(SIGSTOP);
	alarm(GOES_ON_SECONDS);
}

void stop_point(enum stop_point_name name)
{
	int saved = errno;

	switch (watch.now) {
	case COUNT:
		scene->hits[name]++;
		scene->total++;
		break;
	case HOLD:
		if (name == watch.at && ++watch.met == watch.hit)
			hold();
		break;
	case DIE:
		if (++watch.met == watch.hit)
			raise(SIGKILL);
		break;
	default: break;
	}
	errno = saved;
}

void watch_hold(enum stop_point_name at, uint32_t hit)
{
	watch.next = HOLD;
	watch.at = at;
	watch.hit = hit;
}

void watch_die(uint32_t hit)
{
	watch.next = DIE;
	watch.hit = hit;
}

void watch_time(void)
{
	watch.next = TIME;
}

/* ---- step.h ---- */

/* What the operation's preparation has said of things that are not its own. */
static uint32_t touched(const struct account *a)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; i < T_FIRST_OTHER && i < a->things; i++)
		bits |= a->thing[i].fate != FATE_KEPT ? TOUCH_THING(i) : 0;
	for (uint32_t i = 0; i < a->labels; i++) {
		if (strcmp(a->label[i].name, "victim") == 0)
			bits |= TOUCH_VICTIM;
		else if (a->label[i].fate != FATE_KEPT)
			bits |= TOUCH_LABEL(i);
	}
	return bits | (a->created[0] ? TOUCH_CREATED : 0);
}

void step_trace(struct trace *t, const void *shared, size_t size, bool mapped)
{
	(void)shared;
	(void)size;
	(void)mapped;
	t->over = false;
	memset(scene->hits, 0, sizeof(scene->hits));
	scene->total = 0;
	scene->touched = touched(&board->account);
	watch.next = COUNT;
	watch.trace = t;
}

void step_begin(void)
{
	watch.now = watch.next;
	if (watch.now == TIME)
		time_begin();
}

void step_end(void)
{
	if (watch.now == TIME)
		time_end();
	if (watch.now == COUNT) {
		watch.trace->over = true;
		watch.trace->count = scene->total;
	}
	watch.now = NOTHING;
}

void step_die(void)
{
}

void step_kill(const struct plan *plan, uint64_t *died_at)
{
	(void)died_at;
	watch_die((uint32_t)plan->target);
}

void step_shorten(const struct trace *t, struct plan *plan)
{
	(void)t;
	(void)plan;
}

void step_count(struct trace *t)
{
	(void)t;
}
