/* SPDX-License-Identifier: Apache-2.0 */
#include "listener.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 512
#define TRIES	40
#define TRY_NS	50000000

int listener_make_directory(const char *path, unsigned mode)
{
	char part[PATH_MAX];

	if (strlen(path) >= sizeof part)
		return -ENAMETOOLONG;
	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
	}
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

int listener_make_parent(const char *path)
{
	char parent[PATH_MAX];
	const char *slash = strrchr(path, '/');

	if (!slash || slash == path)
		return 0;
	if ((size_t)snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path) >=
	    sizeof parent)
		return -ENAMETOOLONG;
	return listener_make_directory(parent, 0755);
}

/* 0: nobody listens; -EADDRINUSE. */
static int ask(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)addr, sizeof *addr) == 0 || errno == EAGAIN ||
	    errno == EPROTOTYPE)
		err = -EADDRINUSE;
	else if (errno != ECONNREFUSED && errno != ENOENT)
		err = -errno;
	close(fd);
	return err;
}

/* The kernel tears a killed daemon's io_uring down a little after the process is gone, and until then its
 * socket still takes connections. */
static int remove_leftover(const struct sockaddr_un *addr)
{
	const struct timespec pause = { .tv_nsec = TRY_NS };
	struct stat st;
	int err = -EADDRINUSE;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	for (int i = 0; i < TRIES && err == -EADDRINUSE; i++) {
		if (i)
			nanosleep(&pause, NULL);
		err = ask(addr);
	}
	if (err)
		return err;
	return unlink(addr->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

int listener_mode(const char *path, unsigned mode)
{
	return chmod(path, mode) < 0 ? -errno : 0;
}

static int bind_with(int fd, const struct sockaddr_un *addr, unsigned mode)
{
	mode_t old = umask(0777 & ~mode);
	int err = bind(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 ? -errno : 0;

	umask(old);
	if (!err && listen(fd, BACKLOG) < 0)
		err = -errno;
	return err;
}

int listener_open(const char *path, unsigned mode)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, err;

	if (strlen(path) >= sizeof addr.sun_path)
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	err = remove_leftover(&addr);
	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = bind_with(fd, &addr, mode);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}
