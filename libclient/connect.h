/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect.h - the client's side of the socket: connect, call, get descriptors. Blocking, but never for
 * more than CONNECT_TIMEOUT_MS whatever the daemon does.
 *
 * A connection serves one call at a time. It belongs to one attachment and stays open as long as it:
 * its hang-up is what wakes the daemon when the process dies. A forked child makes its own.
 */
#ifndef LIBCLIENT_CONNECT_H
#define LIBCLIENT_CONNECT_H

#include <stddef.h>

#include "arena.h"
#include "protocol.h"

#define CONNECT_TIMEOUT_MS 2000

/* The path to use: socket if not NULL, else $SHMALLOC_SOCKET, else the user's or root's default. */
int connect_socket_path(char *buf, size_t size, const char *socket);

/* A connected descriptor (close-on-exec). -ECONNREFUSED, -ENOENT (no daemon), -EACCES, -ETIMEDOUT (it
 * does not accept), -ENAMETOOLONG. */
int connect_daemon(const char *socket);

/*
 * Sends a request and waits for its reply. Returns the reply's own error (0 or -errno), or of the way
 * there: -ETIMEDOUT, -ECONNRESET (the daemon hung up), -EPROTO (another version), -EBADMSG. *reply is
 * valid (head.type is not 0) unless the way failed.
 *
 * files: NULL, or where to put the descriptors that come along, -1 where none did. Whoever gets a life
 * file twice must not close the second descriptor while holding a lock through the first: closing any
 * descriptor of a file drops all of a process's POSIX locks on it. So ask for an arena's descriptors
 * only when not attached to it, and pass NULL in every other call.
 */
int connect_call(int fd, const struct request *request, struct reply *reply,
		 struct arena_files *files);

/* REQUEST_ARENA_PRESENT: asks whether it may, then gives the descriptors to the daemon. They stay open
 * here too. */
int connect_present(int fd, const struct request *request, struct reply *reply,
		    const struct arena_files *files);

#endif
