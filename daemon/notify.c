/* SPDX-License-Identifier: Apache-2.0 */
#include "notify.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD   3
#define STORED_MAX 8192
#define NAME_BYTES 96

static struct stored {
	char name[NAME_BYTES];
	int fd;
} * stored;
static unsigned stored_count;

static bool manager_address(struct sockaddr_un *addr, socklen_t *length)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t n = path ? strlen(path) : 0;

	if (n < 2 || n >= sizeof addr->sun_path || (path[0] != '/' && path[0] != '@'))
		return false;
	memset(addr, 0, sizeof *addr);
	addr->sun_family = AF_UNIX;
	memcpy(addr->sun_path, path, n);
	if (path[0] == '@')
		addr->sun_path[0] = 0; /* abstract */
	*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '/'));
	return true;
}

static bool send_with(const char *text, int stored_fd)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = (char *)(uintptr_t)text, .iov_len = strlen(text) };
	struct sockaddr_un addr;
	struct msghdr msg = { .msg_name = &addr, .msg_iov = &iov, .msg_iovlen = 1 };
	bool sent;
	int fd;

	if (!manager_address(&addr, &msg.msg_namelen))
		return false;
	if (stored_fd >= 0) {
		struct cmsghdr *c = &control.align;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof control.bytes;
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &stored_fd, sizeof(int));
	}
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	sent = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
	close(fd);
	return sent;
}

void notify_send(const char *text)
{
	send_with(text, -1);
}

bool notify_store(const char *name, int fd)
{
	char text[NAME_BYTES + 64];

	/* Without FDPOLL=0 the manager would drop what it cannot poll. */
	snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	return send_with(text, fd);
}

void notify_forget(const char *name)
{
	char text[NAME_BYTES + 64];

	snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", name);
	send_with(text, -1);
}

static unsigned count_passed(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	unsigned long n;

	if (!pid || !count || strtol(pid, NULL, 10) != (long)getpid())
		return 0;
	n = strtoul(count, NULL, 10);
	return n > STORED_MAX ? STORED_MAX : (unsigned)n;
}

void notify_restore(void)
{
	const char *names = getenv("LISTEN_FDNAMES");
	unsigned n = count_passed();

	stored = n ? calloc(n, sizeof *stored) : NULL;
	for (unsigned i = 0; stored && i < n; i++) {
		size_t length = names ? strcspn(names, ":") : 0;

		if (length < NAME_BYTES)
			memcpy(stored[i].name, names ? names : "", length);
		stored[i].fd = FIRST_FD + (int)i;
		if (fcntl(stored[i].fd, F_SETFD, FD_CLOEXEC) < 0)
			stored[i].fd = -1;
		stored_count++;
		if (names)
			names += length + (names[length] == ':');
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

int notify_take(const char *name)
{
	for (unsigned i = 0; i < stored_count; i++) {
		int fd = stored[i].fd;

		if (fd < 0 || strcmp(stored[i].name, name) != 0)
			continue;
		stored[i].fd = -1;
		return fd;
	}
	return -1;
}

void notify_drop_rest(void)
{
	for (unsigned i = 0; i < stored_count; i++) {
		if (stored[i].fd < 0)
			continue;
		close(stored[i].fd);
		notify_forget(stored[i].name);
	}
	free(stored);
	stored = NULL;
	stored_count = 0;
}
