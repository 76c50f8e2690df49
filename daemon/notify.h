/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.h - what a service manager is told ($NOTIFY_SOCKET), and the descriptors it keeps for the next
 * daemon ($LISTEN_FDS): the only place besides living clients where a memfd arena outlives a kill.
 */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <stdbool.h>

/* "READY=1" and the like. Nothing happens without a service manager. */
void notify_send(const char *text);
/* Gives it a descriptor to keep under a name (letters, digits, '.', '_', '-'). false: nobody keeps it. */
bool notify_store(const char *name, int fd);
void notify_forget(const char *name);

/* Takes over what an earlier daemon had stored. Called once, before anything else opens descriptors. */
void notify_restore(void);
/* A stored descriptor, which is the caller's from now on; -1. */
int notify_take(const char *name);
/* Closes and forgets the rest. */
void notify_drop_rest(void);

#endif
