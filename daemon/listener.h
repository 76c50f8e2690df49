/* SPDX-License-Identifier: Apache-2.0 */
/* listener.h - the socket's file: made, and removed; a dead daemon's is no obstacle. */
#ifndef DAEMON_LISTENER_H
#define DAEMON_LISTENER_H

/*
 * A listening descriptor, or -errno. Called with the socket's lock held, so no other daemon listens
 * there: -EADDRINUSE means something else does, -ENOTSOCK that the path is no socket. Missing
 * directories on the way are made.
 */
int listener_open(const char *path, unsigned mode);
int listener_mode(const char *path, unsigned mode);

/* mkdir -p; the last one with this mode. */
int listener_make_directory(const char *path, unsigned mode);
/* The same for the directory that a path lies in. */
int listener_make_parent(const char *path);

#endif
