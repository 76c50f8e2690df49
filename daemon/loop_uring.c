/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_uring.c - operations are io_uring's own; all that were started during a turn go to the kernel
 * with the one system call that waits for the next.
 */
#include "loop.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#define ENTRIES 256 /* of the submission queue; more than that are submitted in between */

static int uring_open(struct loop *loop)
{
	struct io_uring *ring = calloc(1, sizeof *ring);
	int err;

	if (!ring)
		return -ENOMEM;
	err = io_uring_queue_init(ENTRIES, ring, 0);
	if (err) {
		free(ring);
		return err;
	}
	io_uring_ring_dontfork(ring);
	loop->state = ring;
	return 0;
}

static void uring_close(struct loop *loop)
{
	io_uring_queue_exit(loop->state);
	free(loop->state);
}

/* The kernel takes all that is queued in one call, but when out of memory: then again, a bounded
 * number of times. */
static struct io_uring_sqe *get_sqe(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	for (int i = 0; !sqe && i < 100; i++) {
		io_uring_submit(ring);
		sqe = io_uring_get_sqe(ring);
	}
	return sqe;
}

/* Nothing goes on without it, and done() may not be called from here. */
static void no_queue(struct loop *loop)
{
	loop->error = -ENOMEM;
	loop->stop = true;
}

static void uring_start(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe = get_sqe(loop->state);

	if (!sqe) {
		no_queue(loop);
		return;
	}
	switch (op->kind) {
	case LOOP_ACCEPT: io_uring_prep_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC); break;
	case LOOP_RECEIVE: io_uring_prep_recvmsg(sqe, op->fd, op->message, MSG_CMSG_CLOEXEC); break;
	case LOOP_POLL: io_uring_prep_poll_add(sqe, op->fd, op->events); break;
	case LOOP_TIMER: io_uring_prep_timeout(sqe, &op->time, 0, 0); break;
	}
	io_uring_sqe_set_data(sqe, op);
}

static void uring_cancel(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe = get_sqe(loop->state);

	if (!sqe) {
		no_queue(loop);
		return;
	}
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

/* Completions of cancels bear no operation. */
static void complete(struct loop_op *op, int result)
{
	if (!op)
		return;
	if (op->kind == LOOP_TIMER && result == -ETIME)
		result = 0;
	loop_done(op, result);
}

static int uring_turn(struct loop *loop)
{
	struct io_uring *ring = loop->state;
	struct io_uring_cqe *cqe;
	int n = io_uring_submit_and_wait(ring, 1);

	if (n < 0 && n != -EINTR && n != -EAGAIN && n != -EBUSY)
		return n;
	while (!loop->stop && io_uring_peek_cqe(ring, &cqe) == 0) {
		struct loop_op *op = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(ring, cqe);
		complete(op, result);
	}
	return 0;
}

const struct loop_backend loop_uring = {
	.name = "uring",
	.open = uring_open,
	.close = uring_close,
	.start = uring_start,
	.cancel = uring_cancel,
	.turn = uring_turn,
};
