/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syslog_socket.h - a socket to which programs log by syslog(3), or logger(1), as they do to /dev/log: each
 * message becomes a record, its fields kept as such.
 */
#ifndef TOOLS_SYSLOG_SOCKET_H
#define TOOLS_SYSLOG_SOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "shmalloc.h"

#define SYSLOG_SOCKET_DEFAULT "/dev/log"

struct syslog_socket {
	const char *path;
	int fd;
	struct stat made; /* what stands at path is ours as long as it is this */
	char host[256];	  /* this machine */
	char *buffer;
};

struct syslog_counts {
	uint64_t messages;
	uint64_t refused; /* by a full ring */
	int error;	  /* of another kind, which ended it */
};

/* Makes the socket at path, for everybody to write to, and takes the place of one that nobody listens at any more.
 * -EADDRINUSE: somebody does; -EEXIST: something else stands there. */
int syslog_socket_open(struct syslog_socket *ret, const char *path);
/* Removes it, too. */
void syslog_socket_close(struct syslog_socket *s);

/* Until SIGINT, SIGTERM or SIGHUP; what was sent before then is written. */
void syslog_socket_serve(struct syslog_socket *s, shma *arena, struct syslog_counts *counts);

#endif
