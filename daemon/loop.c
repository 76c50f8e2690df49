/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "work.h"

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
	work_close(loop);
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
	op->by_work = false;
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

/* ---- what may wait for a disk ---- */

static int do_write(struct loop_op *op)
{
	ssize_t n;

	do
		n = pwritev(op->fd, op->parts, (int)op->count, (off_t)op->offset);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (int)n;
}

static int do_sync(struct loop_op *op)
{
	return fdatasync(op->fd) < 0 ? -errno : 0;
}

static void start_work(struct loop *loop, struct loop_op *op, enum loop_kind kind, int fd,
		       int (*work)(struct loop_op *op), bool slow)
{
	assert(!op->pending);
	op->kind = kind;
	op->fd = fd;
	op->pending = true;
	op->cancelled = false;
	op->by_work = true;
	op->work = work;
	work_start(loop, op, slow);
}

void loop_work(struct loop *loop, struct loop_op *op, int (*work)(struct loop_op *op), bool slow)
{
	start_work(loop, op, LOOP_WORK, -1, work, slow);
}

void loop_write(struct loop *loop, struct loop_op *op, int fd, const struct iovec *parts,
		unsigned count, uint64_t offset)
{
	op->parts = parts;
	op->count = count;
	op->offset = offset;
	if (loop->backend->writes)
		start(loop, op, LOOP_WRITE, fd);
	else
		start_work(loop, op, LOOP_WRITE, fd, do_write, false);
}

void loop_sync(struct loop *loop, struct loop_op *op, int fd)
{
	if (loop->backend->writes)
		start(loop, op, LOOP_SYNC, fd);
	else
		start_work(loop, op, LOOP_SYNC, fd, do_sync, false);
}

void loop_settle(struct loop *loop, struct loop_op *op)
{
	if (!op->pending)
		return;
	assert(op->kind >= LOOP_PUNCH);
	if (op->by_work)
		work_settle(loop, op);
	else
		loop->backend->settle(loop, op);
}

void loop_cancel(struct loop *loop, struct loop_op *op)
{
	if (!op->pending || op->cancelled)
		return;
	op->cancelled = true;
	loop->backend->cancel(loop, op);
}
