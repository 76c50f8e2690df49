/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_queue.c - what the kernel offers for passing records: a pipe, as large as it may be, read in one call as
 * far as a buffer goes; and a POSIX message queue. Made before the further processes are forked, which inherit
 * it: nothing stays behind.
 */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define WAIT_MS	  100
#define PIPE_SIZE (1 << 20)

static size_t length; /* of a record */

static void forked(int index)
{
	(void)index;
}

static bool readable(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};

	return poll(&p, 1, WAIT_MS) > 0;
}

/* ---- pipe ---- */

static int ends[2];
static char buffer[65536]; /* records of up to 512 bytes, whole: writes are atomic up to 4 KiB */
static size_t got, used;

static int pipe_make(size_t len)
{
	length = len;
	if (pipe2(ends, O_NONBLOCK))
		return -errno;
	fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE); /* a smaller one is as good as it gets */
	return 0;
}

static bool pipe_send(const void *record)
{
	return write(ends[1], record, length) == (ssize_t)length;
}

static bool pipe_receive(void *record)
{
	if (got - used < length) {
		ssize_t n;

		memmove(buffer, buffer + used, got - used);
		got -= used;
		used = 0;
		n = read(ends[0], buffer + got, sizeof(buffer) - got);
		got += n > 0 ? (size_t)n : 0;
	}
	if (got - used < length)
		return false;
	memcpy(record, buffer + used, length);
	used += length;
	return true;
}

static bool pipe_wait(void *record)
{
	return pipe_receive(record) || (readable(ends[0]) && pipe_receive(record));
}

static const struct peer_queue pipe_queue = {
	.make = pipe_make,
	.send = pipe_send,
	.receive = pipe_receive,
	.wait = pipe_wait,
};

static const struct peer_ops pipe_ops = {
	.version = "pipe of 1 MiB", .forked = forked, .queue = &pipe_queue};

/* ---- POSIX message queue ---- */

#define MESSAGES	 1024
#define MESSAGES_DEFAULT 10 /* what anybody may have */

static const char *name;
static mqd_t queue;

static int mqueue_make(size_t len)
{
	struct rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
	struct mq_attr attr = {.mq_maxmsg = MESSAGES, .mq_msgsize = (long)len};
	char path[128];

	length = len;
	setrlimit(RLIMIT_MSGQUEUE, &unlimited);
	snprintf(path, sizeof(path), "/%s", name);
	queue = mq_open(path, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attr);
	if (queue < 0) {
		attr.mq_maxmsg = MESSAGES_DEFAULT;
		queue = mq_open(path, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &attr);
	}
	if (queue < 0)
		return -errno;
	mq_unlink(path);
	return 0;
}

static bool mqueue_send(const void *record)
{
	return !mq_send(queue, record, length, 0);
}

static bool mqueue_receive(void *record)
{
	return mq_receive(queue, record, length, NULL) == (ssize_t)length;
}

static bool mqueue_wait(void *record)
{
	return mqueue_receive(record) || (readable((int)queue) && mqueue_receive(record));
}

static const struct peer_queue mqueue_queue = {
	.make = mqueue_make,
	.send = mqueue_send,
	.receive = mqueue_receive,
	.wait = mqueue_wait,
};

static const struct peer_ops mqueue_ops = {
	.version = "POSIX message queue", .forked = forked, .queue = &mqueue_queue};

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
	(void)err;
	(void)err_size;
	name = config->arena;
	return strcmp(config->variant, "pipe") ? &mqueue_ops : &pipe_ops;
}
