/* SPDX-License-Identifier: Apache-2.0 */
#include "work.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { QUICK, SLOW, LANES };

struct lane {
	struct work *work;
	pthread_t thread;
	bool running;
	pthread_cond_t more;
	struct loop_op *first, **last;
};

struct work {
	struct loop *loop;
	struct loop_op poll;
	int event_fd;
	pthread_mutex_t lock;
	pthread_cond_t some_done;
	struct lane lanes[LANES];
	struct loop_op *done, **last_done;
	bool stop;
};

/* ---- in the threads ---- */

static void append(struct loop_op ***last, struct loop_op *op)
{
	op->next = NULL;
	**last = op;
	*last = &op->next;
}

static void tell_loop(struct work *w)
{
	uint64_t one = 1;
	ssize_t n = write(w->event_fd, &one, sizeof one);

	(void)n; /* it can only be too many already */
}

static void finish(struct work *w, struct loop_op *op, int result)
{
	op->result = result;
	append(&w->last_done, op);
	pthread_cond_broadcast(&w->some_done);
	tell_loop(w);
}

static void *serve(void *user)
{
	struct lane *lane = user;
	struct work *w = lane->work;

	pthread_mutex_lock(&w->lock);
	while (!w->stop) {
		struct loop_op *op = lane->first;
		int result;

		if (!op) {
			pthread_cond_wait(&lane->more, &w->lock);
			continue;
		}
		lane->first = op->next;
		if (!lane->first)
			lane->last = &lane->first;
		pthread_mutex_unlock(&w->lock);
		result = op->work(op);
		pthread_mutex_lock(&w->lock);
		finish(w, op, result);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* ---- in the loop's ---- */

static void deliver(struct loop_op *poll, int result)
{
	struct work *w = (struct work *)((char *)poll - offsetof(struct work, poll));
	struct loop *loop = w->loop;
	uint64_t count;
	ssize_t n = read(w->event_fd, &count, sizeof count);

	(void)n;
	(void)result;
	while (!loop->stop) {
		struct loop_op *op;

		pthread_mutex_lock(&w->lock);
		op = w->done;
		if (op)
			w->done = op->next;
		if (!w->done)
			w->last_done = &w->done;
		pthread_mutex_unlock(&w->lock);
		if (!op)
			break;
		loop_done(op, op->result);
	}
	loop_poll(loop, &w->poll, w->event_fd, POLLIN);
}

static struct work *open_work(struct loop *loop)
{
	struct work *w = calloc(1, sizeof *w);

	if (!w)
		return NULL;
	w->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->event_fd < 0) {
		free(w);
		return NULL;
	}
	w->loop = loop;
	w->last_done = &w->done;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->some_done, NULL);
	for (int i = 0; i < LANES; i++) {
		w->lanes[i].work = w;
		w->lanes[i].last = &w->lanes[i].first;
		pthread_cond_init(&w->lanes[i].more, NULL);
	}
	w->poll.done = deliver;
	loop_poll(loop, &w->poll, w->event_fd, POLLIN);
	loop->work = w;
	return w;
}

/* Where there can be no thread the loop does it, and others wait. */
static void start_here(struct work *w, struct loop_op *op)
{
	int result = op->work(op);

	pthread_mutex_lock(&w->lock);
	finish(w, op, result);
	pthread_mutex_unlock(&w->lock);
}

void work_start(struct loop *loop, struct loop_op *op, bool slow)
{
	struct work *w = loop->work ? loop->work : open_work(loop);
	struct lane *lane;

	if (!w) {
		loop->error = -ENOMEM; /* nothing goes on without it */
		loop->stop = true;
		return;
	}
	lane = &w->lanes[slow ? SLOW : QUICK];
	if (!lane->running)
		lane->running = pthread_create(&lane->thread, NULL, serve, lane) == 0;
	if (!lane->running) {
		start_here(w, op);
		return;
	}
	pthread_mutex_lock(&w->lock);
	append(&lane->last, op);
	pthread_cond_signal(&lane->more);
	pthread_mutex_unlock(&w->lock);
}

static bool is_done(const struct work *w, const struct loop_op *op)
{
	const struct loop_op *o = w->done;

	while (o && o != op)
		o = o->next;
	return o;
}

void work_settle(struct loop *loop, struct loop_op *op)
{
	struct work *w = loop->work;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	while (!is_done(w, op))
		pthread_cond_wait(&w->some_done, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

void work_close(struct loop *loop)
{
	struct work *w = loop->work;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	for (int i = 0; i < LANES; i++)
		pthread_cond_signal(&w->lanes[i].more);
	pthread_mutex_unlock(&w->lock);
	for (int i = 0; i < LANES; i++)
		if (w->lanes[i].running)
			pthread_join(w->lanes[i].thread, NULL);
	close(w->event_fd);
	loop->work = NULL;
	free(w);
}
