/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect.c - blocking calls to the daemon with a deadline. Every wait is a poll() or a connect() with
 * what is left of it, so signals and a silent daemon alike cannot stretch it.
 */
#include "connect.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_ROOT "/run/shmalloc/shmallocd.sock"

union control {
	char bytes[CMSG_SPACE(ARENA_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int copy_path(char *buf, size_t size, const char *path)
{
	if (strlen(path) >= size)
		return -ENAMETOOLONG;
	strcpy(buf, path);
	return 0;
}

int connect_socket_path(char *buf, size_t size, const char *socket)
{
	const char *dir;
	int n;

	if (!socket)
		socket = secure_getenv("SHMALLOC_SOCKET");
	if (socket && *socket)
		return copy_path(buf, size, socket);
	if (geteuid() == 0)
		return copy_path(buf, size, DEFAULT_ROOT);
	dir = secure_getenv("XDG_RUNTIME_DIR");
	if (dir && *dir)
		n = snprintf(buf, size, "%s/shmalloc.sock", dir);
	else
		n = snprintf(buf, size, "/run/user/%u/shmalloc.sock", (unsigned)geteuid());
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* A connect() to a full backlog waits for as long as the socket's send timeout says. */
static int connect_once(int fd, const struct sockaddr_un *addr, int64_t left_ms)
{
	struct timeval tv = { .tv_sec = left_ms / 1000, .tv_usec = left_ms % 1000 * 1000 };

	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) < 0)
		return -errno;
	return connect(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 ? -errno : 0;
}

static int connect_by(int fd, const struct sockaddr_un *addr, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline - now_ms();
		int err;

		if (left <= 0)
			return -ETIMEDOUT;
		err = connect_once(fd, addr, left);
		if (err == -EAGAIN)
			return -ETIMEDOUT;
		if (err != -EINTR)
			return err;
	}
}

int connect_daemon(const char *socket_path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int64_t deadline = now_ms() + CONNECT_TIMEOUT_MS;
	int fd, err;

	err = connect_socket_path(addr.sun_path, sizeof addr.sun_path, socket_path);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = connect_by(fd, &addr, deadline);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int wait_for(int fd, short events, int64_t deadline)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		int64_t left = deadline - now_ms();
		int n;

		if (left <= 0)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)left);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

static int transport_error(int err)
{
	return err == EPIPE || err == ENOTCONN ? -ECONNRESET : -err;
}

static int send_by(int fd, const struct msghdr *msg, int64_t deadline)
{
	for (;;) {
		ssize_t n = sendmsg(fd, msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		int err;

		if (n >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return transport_error(errno);
		err = wait_for(fd, POLLOUT, deadline);
		if (err)
			return err;
	}
}

static void close_all(int fds[ARENA_FDS_MAX])
{
	for (int i = 0; i < ARENA_FDS_MAX; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

/* At most three: the kernel discards what the control buffer has no room for. */
static void take_descriptors(struct msghdr *msg, int fds[ARENA_FDS_MAX])
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	size_t bytes;

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return;
	bytes = c->cmsg_len - CMSG_LEN(0);
	if (bytes > ARENA_FDS_MAX * sizeof(int))
		bytes = ARENA_FDS_MAX * sizeof(int);
	memcpy(fds, CMSG_DATA(c), bytes);
}

/* Gives them their places. -EBADMSG: fewer came than the reply says. */
static int name_descriptors(const int fds[ARENA_FDS_MAX], uint32_t mask, struct arena_files *files)
{
	int *places[] = { &files->fd, &files->life_fd, &files->heap_fd };
	int next = 0;

	for (int i = 0; i < ARENA_FDS_MAX; i++) {
		if (!(mask & 1u << i))
			continue;
		if (fds[next] < 0)
			return -EBADMSG;
		*places[i] = fds[next++];
	}
	/* More than it says: whose they are nobody knows. */
	return next < ARENA_FDS_MAX && fds[next] >= 0 ? -EBADMSG : 0;
}

/* One message, with its descriptors if the caller wants any. */
static ssize_t receive_by(int fd, void *bytes, size_t size, int *fds, int64_t deadline)
{
	for (;;) {
		union control control;
		struct iovec iov = { .iov_base = bytes, .iov_len = size };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n;
		int err;

		if (fds) {
			msg.msg_control = control.bytes;
			msg.msg_controllen = sizeof control.bytes;
		}
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n > 0) {
			if (fds)
				take_descriptors(&msg, fds);
			return msg.msg_flags & MSG_TRUNC ? (ssize_t)size + 1 : n;
		}
		if (n == 0)
			return -ECONNRESET;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return transport_error(errno);
		err = wait_for(fd, POLLIN, deadline);
		if (err)
			return err;
	}
}

/* One reply; -EAGAIN: it answers an earlier call that had timed out. */
static int read_reply(int fd, uint32_t serial, struct reply *reply, struct arena_files *files,
		      int64_t deadline)
{
	int fds[ARENA_FDS_MAX] = { -1, -1, -1 };
	struct reply raw;
	ssize_t n = receive_by(fd, &raw, sizeof raw, files ? fds : NULL, deadline);
	int err = n < 0 ? (int)n : protocol_reply_check(&raw, (size_t)n, reply);

	if (!err && reply->head.serial != serial)
		err = -EAGAIN;
	if (!err && files && !reply->head.error)
		err = name_descriptors(fds, reply->arena.descriptors, files);
	if (err || reply->head.error)
		close_all(fds);
	if (err) {
		memset(reply, 0, sizeof *reply);
		if (files)
			*files = (struct arena_files){ -1, -1, -1 };
	}
	return err;
}

static int await_reply(int fd, uint32_t serial, struct reply *reply, struct arena_files *files,
		       int64_t deadline)
{
	while (now_ms() < deadline) {
		int err = read_reply(fd, serial, reply, files, deadline);

		if (err != -EAGAIN)
			return err ? err : reply->head.error;
	}
	return -ETIMEDOUT;
}

static int call(int fd, void *control, size_t control_size, const struct request *request,
		struct reply *reply, struct arena_files *files)
{
	static _Atomic uint32_t serials;
	int64_t deadline = now_ms() + CONNECT_TIMEOUT_MS;
	struct request copy = *request;
	struct iovec iov = { .iov_base = &copy, .iov_len = sizeof copy };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = control_size };
	int err;

	memset(reply, 0, sizeof *reply);
	copy.head.serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed) + 1;
	err = send_by(fd, &msg, deadline);
	return err ? err : await_reply(fd, copy.head.serial, reply, files, deadline);
}

int connect_call(int fd, const struct request *request, struct reply *reply,
		 struct arena_files *files)
{
	if (files)
		*files = (struct arena_files){ -1, -1, -1 };
	return call(fd, NULL, 0, request, reply, files);
}

int connect_present(int fd, const struct request *request, struct reply *reply,
		    const struct arena_files *files)
{
	int fds[ARENA_FDS_MAX] = { files->fd, files->life_fd, files->heap_fd };
	size_t bytes = (files->heap_fd >= 0 ? 3 : 2) * sizeof(int);
	union control control = { .bytes = { 0 } };
	struct request copy = *request;
	int err;

	copy.descriptors = 0;
	err = connect_call(fd, &copy, reply, NULL);
	if (err)
		return err;
	copy.descriptors =
		ARENA_FD_FILE | ARENA_FD_LIFE | (files->heap_fd >= 0 ? ARENA_FD_HEAP : 0);
	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(&control.align), fds, bytes);
	return call(fd, control.bytes, CMSG_SPACE(bytes), &copy, reply, NULL);
}
