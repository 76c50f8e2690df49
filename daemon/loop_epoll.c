/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_epoll.c - the same operations by readiness: armed once, and carried out when epoll says that
 * they will not wait. Timers are a list in order of time; there are a handful. Punches always would wait,
 * for themselves: some are made a turn.
 */
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BATCH	 64
#define PUNCH_NS 1000000 /* of a turn; others are waiting */

struct epoll_state {
	int fd;
	struct loop_op *timers;	   /* earliest first */
	struct loop_op *cancelled; /* done() due at the next turn; also what could not be armed */
	struct loop_op *punches, **last;
};

static int epoll_open(struct loop *loop)
{
	struct epoll_state *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->fd < 0) {
		int err = errno;

		free(s);
		return -err;
	}
	s->last = &s->punches;
	loop->state = s;
	return 0;
}

static void epoll_close(struct loop *loop)
{
	struct epoll_state *s = loop->state;

	close(s->fd);
	free(s);
}

static void list_insert(struct loop_op **link, struct loop_op *op)
{
	op->next = *link;
	op->link = link;
	if (op->next)
		op->next->link = &op->next;
	*link = op;
}

static void list_remove(struct loop_op *op)
{
	*op->link = op->next;
	if (op->next)
		op->next->link = op->link;
}

static bool earlier(const struct __kernel_timespec *a, const struct __kernel_timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static struct __kernel_timespec now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (struct __kernel_timespec){ .tv_sec = ts.tv_sec, .tv_nsec = ts.tv_nsec };
}

/* From now on becomes at. */
static void start_timer(struct epoll_state *s, struct loop_op *op)
{
	struct __kernel_timespec t = now();
	struct loop_op **link = &s->timers;

	op->time.tv_sec += t.tv_sec;
	op->time.tv_nsec += t.tv_nsec;
	if (op->time.tv_nsec >= 1000000000) {
		op->time.tv_nsec -= 1000000000;
		op->time.tv_sec++;
	}
	while (*link && !earlier(&op->time, &(*link)->time))
		link = &(*link)->next;
	list_insert(link, op);
}

static uint32_t wanted(const struct loop_op *op)
{
	return op->kind == LOOP_POLL ? op->events : EPOLLIN;
}

/* A descriptor keeps its place in the set until it is closed; one operation a descriptor at a time. */
static void arm(struct epoll_state *s, struct loop_op *op)
{
	struct epoll_event ev = { .events = wanted(op) | EPOLLONESHOT, .data.ptr = op };
	int r = epoll_ctl(s->fd, EPOLL_CTL_MOD, op->fd, &ev);

	if (r < 0 && errno == ENOENT)
		r = epoll_ctl(s->fd, EPOLL_CTL_ADD, op->fd, &ev);
	if (r == 0)
		return;
	op->events = (uint32_t)errno;
	list_insert(&s->cancelled, op);
}

static void add_punch(struct epoll_state *s, struct loop_op *op)
{
	op->next = NULL;
	op->link = s->last;
	*s->last = op;
	s->last = &op->next;
}

static void remove_punch(struct epoll_state *s, struct loop_op *op)
{
	if (s->last == &op->next)
		s->last = op->link;
	list_remove(op);
}

static void epoll_start(struct loop *loop, struct loop_op *op)
{
	struct epoll_state *s = loop->state;

	if (op->kind == LOOP_TIMER) {
		start_timer(s, op);
		return;
	}
	if (op->kind == LOOP_PUNCH) {
		add_punch(s, op);
		return;
	}
	/* The connection may be gone again before it is accepted. */
	if (op->kind == LOOP_ACCEPT)
		fcntl(op->fd, F_SETFL, fcntl(op->fd, F_GETFL) | O_NONBLOCK);
	arm(s, op);
}

static void epoll_cancel(struct loop *loop, struct loop_op *op)
{
	struct epoll_state *s = loop->state;

	if (op->kind == LOOP_TIMER)
		list_remove(op);
	else if (op->kind == LOOP_PUNCH)
		remove_punch(s, op);
	else if (epoll_ctl(s->fd, EPOLL_CTL_DEL, op->fd, NULL) < 0)
		return; /* could not be armed: is in the list already */
	op->events = ECANCELED;
	list_insert(&s->cancelled, op);
}

/* Nothing is done for one but in a turn. */
static void epoll_settle(struct loop *loop, struct loop_op *op)
{
	loop_cancel(loop, op);
}

/* What the operation is, now that it does not wait. -EAGAIN: it would have. */
static int carry_out(struct loop_op *op, uint32_t events)
{
	ssize_t n = -1;

	switch (op->kind) {
	case LOOP_ACCEPT: n = accept4(op->fd, NULL, NULL, SOCK_CLOEXEC); break;
	case LOOP_RECEIVE: n = recvmsg(op->fd, op->message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); break;
	case LOOP_POLL: return (int)events;
	case LOOP_TIMER: return 0;
	case LOOP_PUNCH:
		n = fallocate(op->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)op->offset,
			      (off_t)op->length);
		break;
	case LOOP_WRITE:
	case LOOP_SYNC:
	case LOOP_WORK: break; /* are done by work.c */
	}
	return n < 0 ? -errno : (int)n;
}

static void ready(struct epoll_state *s, struct loop_op *op, uint32_t events)
{
	int result = carry_out(op, events);

	if (result == -EAGAIN || result == -EINTR)
		arm(s, op);
	else
		loop_done(op, result);
}

static void deliver_cancelled(struct loop *loop)
{
	struct epoll_state *s = loop->state;

	while (s->cancelled && !loop->stop) {
		struct loop_op *op = s->cancelled;

		list_remove(op);
		loop_done(op, -(int)op->events);
	}
}

static void deliver_timers(struct loop *loop)
{
	struct epoll_state *s = loop->state;
	struct __kernel_timespec t = now();

	while (s->timers && !loop->stop && !earlier(&t, &s->timers->time)) {
		struct loop_op *op = s->timers;

		list_remove(op);
		loop_done(op, 0);
	}
}

static void deliver_punches(struct loop *loop)
{
	struct epoll_state *s = loop->state;
	struct __kernel_timespec until = now(), t;

	for (until.tv_nsec += PUNCH_NS; s->punches && !loop->stop;) {
		struct loop_op *op = s->punches;

		remove_punch(s, op);
		loop_done(op, carry_out(op, 0));
		t = now();
		if ((t.tv_sec - until.tv_sec) * 1000000000 + t.tv_nsec >= until.tv_nsec)
			break;
	}
}

/* Milliseconds to the next timer, rounded up. */
static int patience(const struct epoll_state *s)
{
	struct __kernel_timespec t;
	int64_t ms;

	if (s->cancelled || s->punches)
		return 0;
	if (!s->timers)
		return -1;
	t = now();
	ms = (s->timers->time.tv_sec - t.tv_sec) * 1000 +
	     (s->timers->time.tv_nsec - t.tv_nsec + 999999) / 1000000;
	return ms < 0 ? 0 : ms > 3600000 ? 3600000 : (int)ms;
}

static int epoll_turn(struct loop *loop)
{
	struct epoll_state *s = loop->state;
	struct epoll_event events[BATCH];
	int n = epoll_wait(s->fd, events, BATCH, patience(s));

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < n && !loop->stop; i++) {
		struct loop_op *op = events[i].data.ptr;

		/* An earlier one of this batch may have cancelled it: its done() comes below, and until
		 * then its memory is the loop's. */
		if (!op->cancelled)
			ready(s, op, events[i].events);
	}
	deliver_cancelled(loop);
	deliver_timers(loop);
	deliver_punches(loop);
	return 0;
}

const struct loop_backend loop_epoll = {
	.name = "epoll",
	.open = epoll_open,
	.close = epoll_close,
	.start = epoll_start,
	.cancel = epoll_cancel,
	.settle = epoll_settle,
	.turn = epoll_turn,
};
