/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.h - one daemon a socket, one daemon a state directory. The kernel drops a dead daemon's locks;
 * the files that it leaves mean nothing.
 */
#ifndef DAEMON_LOCK_H
#define DAEMON_LOCK_H

#include <sys/types.h>

struct lock {
	char path[4096 + 16];
	int fd;
};

/* Takes a file's lock and notes this process in it. -EBUSY: *holder has it (0: unknown). A daemon that
 * was just killed may take a moment to be gone, so a held lock is asked for again for a second. */
int lock_take(struct lock *lock, const char *path, pid_t *holder);
/* Removes the file as well. */
void lock_drop(struct lock *lock);

#endif
