/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - the daemon's only thread waits here. An operation is started, and its done() called once,
 * with a result or -errno, from loop_run(). Two implementations, by completion (io_uring) and by
 * readiness (epoll), behave alike: never is done() called from the call that starts or cancels, and
 * the operation's memory belongs to the loop until done().
 */
#ifndef DAEMON_LOOP_H
#define DAEMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <linux/time_types.h>

enum loop_io { LOOP_AUTO = 0, LOOP_URING = 1, LOOP_EPOLL = 2 };

enum loop_kind {
	LOOP_ACCEPT,
	LOOP_RECEIVE,
	LOOP_POLL,
	LOOP_TIMER,
	LOOP_PUNCH,
	LOOP_WRITE,
	LOOP_SYNC,
	LOOP_WORK
};

struct loop_op {
	void (*done)(struct loop_op *op, int result); /* set by the caller, before the start */

	/* The loop's own. */
	enum loop_kind kind;
	bool pending;
	bool cancelled;
	int fd;
	uint32_t events;
	struct msghdr *message;
	uint64_t offset, length;
	const struct iovec *parts;
	unsigned count;
	int (*work)(struct loop_op *op);
	bool by_work;		       /* a thread of work.c's does it */
	int result;		       /* of one that loop_settle() has waited for */
	struct __kernel_timespec time; /* uring: to wait; epoll: the moment */
	struct loop_op *next, **link;  /* epoll: timers, cancelled ones, punches; uring: settled ones */
};

struct loop;

/* LOOP_AUTO: io_uring, or where it is forbidden epoll; *why is then -errno of io_uring, else 0. */
int loop_open(struct loop **ret, enum loop_io io, int *why);
void loop_close(struct loop *loop);
const char *loop_name(const struct loop *loop);

/* Until loop_stop(). 0 or -errno. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Result: a connected descriptor, close-on-exec. */
void loop_accept(struct loop *loop, struct loop_op *op, int fd);
/* Result: bytes; 0: hung up. The message lives until done(). */
void loop_receive(struct loop *loop, struct loop_op *op, int fd, struct msghdr *message);
/* Result: poll events. */
void loop_poll(struct loop *loop, struct loop_op *op, int fd, uint32_t events);
/* Result: 0 once the time has passed. */
void loop_timer(struct loop *loop, struct loop_op *op, uint64_t nanoseconds);
/* Punches a hole into a file, once and whole; others are served meanwhile. Result: 0. The descriptor stays
 * open until done(). */
void loop_punch(struct loop *loop, struct loop_op *op, int fd, uint64_t offset, uint64_t length);
/* Writes parts to a place in a file, as pwritev(2); others are served meanwhile. Result: bytes, perhaps fewer than
 * all. Parts and what they point to stay until done(). */
void loop_write(struct loop *loop, struct loop_op *op, int fd, const struct iovec *parts,
		unsigned count, uint64_t offset);
/* As fdatasync(2). Result: 0. */
void loop_sync(struct loop *loop, struct loop_op *op, int fd);
/* Calls work() from another thread, where it may wait for a disk, but touches nothing that others do meanwhile.
 * Result: its. slow: it may take seconds, and quick ones do not wait for it. */
void loop_work(struct loop *loop, struct loop_op *op, int (*work)(struct loop_op *op), bool slow);
/* Waits until nothing is done for a punch, a write, a sync or work any more: it is made, or never will be; then
 * op->result is known. done() comes later, as always. */
void loop_settle(struct loop *loop, struct loop_op *op);
/* done() comes, with -ECANCELED or with what had come before. Nothing happens if it is not pending. */
void loop_cancel(struct loop *loop, struct loop_op *op);

/* ---- for the implementations ---- */

struct loop_backend {
	const char *name;
	bool writes; /* does LOOP_WRITE and LOOP_SYNC; else they are work */
	int (*open)(struct loop *loop);
	void (*close)(struct loop *loop);
	void (*start)(struct loop *loop, struct loop_op *op);
	void (*cancel)(struct loop *loop, struct loop_op *op);
	void (*settle)(struct loop *loop, struct loop_op *op);
	/* Waits for something, calls loop_done() for it. */
	int (*turn)(struct loop *loop);
};

struct loop {
	const struct loop_backend *backend;
	void *state;
	struct work *work; /* NULL: none was asked for yet */
	bool stop;
	int error; /* why, if not asked to */
};

extern const struct loop_backend loop_uring, loop_epoll;

void loop_done(struct loop_op *op, int result);

#endif
