/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop_uring.c - operations are io_uring's own; all that were started during a turn go to the kernel
 * with the one system call that waits for the next.
 */
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>

#define ENTRIES 256 /* of the submission queue; more than that are submitted in between */

struct uring_state {
	struct io_uring ring;
	struct loop_op *settled; /* done() due at the next turn */
};

static struct io_uring *ring_of(struct loop *loop)
{
	return &((struct uring_state *)loop->state)->ring;
}

/* Punches are made by threads of ours, which are gone before the kernel drops a dead daemon's locks: so
 * who inherits its pages is not overtaken by a late punch. Kernels before 5.12 have threads of their own. */
static bool serves(struct io_uring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool has = probe && io_uring_opcode_supported(probe, IORING_OP_FALLOCATE);

	io_uring_free_probe(probe);
	return has && ring->features & IORING_FEAT_NATIVE_WORKERS;
}

static int uring_open(struct loop *loop)
{
	struct uring_state *s = calloc(1, sizeof *s);
	int err;

	if (!s)
		return -ENOMEM;
	err = io_uring_queue_init(ENTRIES, &s->ring, 0);
	if (!err && !serves(&s->ring)) {
		io_uring_queue_exit(&s->ring);
		err = -EOPNOTSUPP;
	}
	if (err) {
		free(s);
		return err;
	}
	io_uring_ring_dontfork(&s->ring);
	loop->state = s;
	return 0;
}

static void uring_close(struct loop *loop)
{
	io_uring_queue_exit(ring_of(loop));
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
	struct io_uring_sqe *sqe = get_sqe(ring_of(loop));

	if (!sqe) {
		no_queue(loop);
		return;
	}
	switch (op->kind) {
	case LOOP_ACCEPT: io_uring_prep_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC); break;
	case LOOP_RECEIVE: io_uring_prep_recvmsg(sqe, op->fd, op->message, MSG_CMSG_CLOEXEC); break;
	case LOOP_POLL: io_uring_prep_poll_add(sqe, op->fd, op->events); break;
	case LOOP_TIMER: io_uring_prep_timeout(sqe, &op->time, 0, 0); break;
	case LOOP_PUNCH:
		io_uring_prep_fallocate(sqe, op->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					op->offset, op->length);
		break;
	case LOOP_WRITE:
		io_uring_prep_writev(sqe, op->fd, op->parts, op->count, op->offset);
		break;
	case LOOP_SYNC: io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC); break;
	case LOOP_WORK: break; /* never comes here */
	}
	io_uring_sqe_set_data(sqe, op);
	/* At once, and by the kernel's threads even if nothing would have to be waited for: to copy takes time
	 * as well, in which the next is made ready. */
	if (op->kind == LOOP_WRITE) {
		sqe->flags |= IOSQE_ASYNC;
		io_uring_submit(ring_of(loop));
	}
}

static void uring_cancel(struct loop *loop, struct loop_op *op)
{
	struct io_uring_sqe *sqe = get_sqe(ring_of(loop));

	if (!sqe) {
		no_queue(loop);
		return;
	}
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

/* What comes meanwhile is kept for the next turn. */
static void keep(struct uring_state *s, struct loop_op *op, int result)
{
	op->result = result;
	op->next = s->settled;
	s->settled = op;
}

/* Not to be cancelled: a punch that has begun takes no time worth it. An error other than a signal is the
 * ring's end, and then the daemon's. */
static void uring_settle(struct loop *loop, struct loop_op *op)
{
	struct uring_state *s = loop->state;
	struct io_uring_cqe *cqe;

	for (struct loop_op *o = s->settled; o; o = o->next)
		if (o == op)
			return;
	while (s->settled != op) {
		int n = io_uring_submit_and_wait(&s->ring, 1);

		if (n < 0 && n != -EINTR && n != -EAGAIN && n != -EBUSY) {
			loop->error = n;
			loop->stop = true;
			return;
		}
		while (s->settled != op && io_uring_peek_cqe(&s->ring, &cqe) == 0) {
			if (io_uring_cqe_get_data(cqe))
				keep(s, io_uring_cqe_get_data(cqe), cqe->res);
			io_uring_cqe_seen(&s->ring, cqe);
		}
	}
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

static void deliver_settled(struct loop *loop)
{
	struct uring_state *s = loop->state;

	while (s->settled && !loop->stop) {
		struct loop_op *op = s->settled;

		s->settled = op->next;
		complete(op, op->result);
	}
}

static int uring_turn(struct loop *loop)
{
	struct io_uring *ring = ring_of(loop);
	struct io_uring_cqe *cqe;
	int n;

	deliver_settled(loop);
	if (loop->stop)
		return 0;
	n = io_uring_submit_and_wait(ring, 1);

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
	.writes = true,
	.open = uring_open,
	.close = uring_close,
	.start = uring_start,
	.cancel = uring_cancel,
	.settle = uring_settle,
	.turn = uring_turn,
};
