/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static int open_with(struct loop *loop, const struct loop_backend *backend)
{
	loop->backend = backend;
	return backend->open(loop);
}

int loop_open(struct loop **ret, enum loop_io io, int *why)
{
	struct loop *loop = calloc(1, sizeof *loop);
	int err;

	*why = 0;
	if (!loop)
		return -ENOMEM;
	err = open_with(loop, io == LOOP_EPOLL ? &loop_epoll : &loop_uring);
	if (err && io == LOOP_AUTO) {
		*why = err;
		err = open_with(loop, &loop_epoll);
	}
	if (err) {
		free(loop);
		return err;
	}
	*ret = loop;
	return 0;
}

void loop_close(struct loop *loop)
{
	loop->backend->close(loop);
	free(loop);
}

const char *loop_name(const struct loop *loop)
{
	return loop->backend->name;
}

int loop_run(struct loop *loop)
{
	int err = 0;

	while (!loop->stop && !err)
		err = loop->backend->turn(loop);
	return err ? err : loop->error;
}

void loop_stop(struct loop *loop)
{
	loop->stop = true;
}

void loop_done(struct loop_op *op, int result)
{
	op->pending = false;
	op->done(op, result);
}

static void start(struct loop *loop, struct loop_op *op, enum loop_kind kind, int fd)
{
	assert(!op->pending);
	op->kind = kind;
	op->fd = fd;
	op->pending = true;
	op->cancelled = false;
	loop->backend->start(loop, op);
}

void loop_accept(struct loop *loop, struct loop_op *op, int fd)
{
	start(loop, op, LOOP_ACCEPT, fd);
}

void loop_receive(struct loop *loop, struct loop_op *op, int fd, struct msghdr *message)
{
	op->message = message;
	start(loop, op, LOOP_RECEIVE, fd);
}

void loop_poll(struct loop *loop, struct loop_op *op, int fd, uint32_t events)
{
	op->events = events;
	start(loop, op, LOOP_POLL, fd);
}

void loop_timer(struct loop *loop, struct loop_op *op, uint64_t nanoseconds)
{
	op->time.tv_sec = (int64_t)(nanoseconds / 1000000000);
	op->time.tv_nsec = (int64_t)(nanoseconds % 1000000000);
	start(loop, op, LOOP_TIMER, -1);
}

void loop_punch(struct loop *loop, struct loop_op *op, int fd, uint64_t offset, uint64_t length)
{
	op->offset = offset;
	op->length = length;
	start(loop, op, LOOP_PUNCH, fd);
}

void loop_settle(struct loop *loop, struct loop_op *op)
{
	if (!op->pending)
		return;
	assert(op->kind == LOOP_PUNCH);
	loop->backend->settle(loop, op);
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	if (!op->pending || op->cancelled)
		return;
	op->cancelled = true;
	loop->backend->cancel(loop, op);
}
