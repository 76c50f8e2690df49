/* SPDX-License-Identifier: Apache-2.0 */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TRIES  50
#define TRY_NS 20000000

static pid_t read_holder(int fd)
{
	char text[32] = "";
	ssize_t n = pread(fd, text, sizeof text - 1, 0);

	return n > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

static int note_holder(int fd)
{
	char text[32];
	int n = snprintf(text, sizeof text, "%d\n", (int)getpid());

	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n)
		return -errno;
	return 0;
}

/* A predecessor's orderly stop may have unlinked the file between our open and our lock. */
static bool still_named(int fd, const char *path)
{
	struct stat mine, named;

	return fstat(fd, &mine) == 0 && lstat(path, &named) == 0 && mine.st_dev == named.st_dev &&
	       mine.st_ino == named.st_ino;
}

/* -EAGAIN: the file was replaced. */
static int try_once(const char *path, int *ret, pid_t *holder)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		err = errno == EWOULDBLOCK ? -EBUSY : -errno;
		*holder = read_holder(fd);
	} else if (!still_named(fd, path)) {
		err = -EAGAIN;
	} else {
		err = note_holder(fd);
	}
	if (err)
		close(fd);
	else
		*ret = fd;
	return err;
}

int lock_take(struct lock *lock, const char *path, pid_t *holder)
{
	const struct timespec pause = { .tv_nsec = TRY_NS };
	int err = -EAGAIN;

	*holder = 0;
	if ((size_t)snprintf(lock->path, sizeof lock->path, "%s", path) >= sizeof lock->path)
		return -ENAMETOOLONG;
	for (int i = 0; i < TRIES && (err == -EAGAIN || err == -EBUSY); i++) {
		if (i)
			nanosleep(&pause, NULL);
		err = try_once(path, &lock->fd, holder);
	}
	return err;
}

void lock_drop(struct lock *lock)
{
	unlink(lock->path);
	close(lock->fd);
	lock->fd = -1;
}
