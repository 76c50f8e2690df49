/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.h - work on an arena's memory that outlives the arena: a client may truncate the file it was
 * given, and the next touch of the mapping is SIGBUS. Inside guard_run() that ends the work instead of
 * the daemon.
 */
#ifndef DAEMON_GUARD_H
#define DAEMON_GUARD_H

#include "arena.h"

/* Once, at start. */
int guard_install(void);

/*
 * Runs work(user). -EFAULT: the arena's memory went away in the middle of it. The mapping is then one
 * of private zeros, which stays for the daemon's life: a zone's lock may have been held, and the
 * thread's list of robust mutexes, which the C library and the kernel walk, leads through it.
 */
int guard_run(struct arena *arena, void (*work)(void *user), void *user);

#endif
