/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msg.h - the daemon's own messages, one line each, to stderr; with the journal's level prefix where
 * stderr is the journal's, to a file or the system's log socket once daemonized. Never waits: what the
 * target does not take at once is dropped, and counted in the next message that gets through.
 */
#ifndef DAEMON_MSG_H
#define DAEMON_MSG_H

#include <stddef.h>
#include <syslog.h>

/* Messages above this level (LOG_ERR … LOG_DEBUG) are not made. */
void msg_level(int level);
/* Looks at $JOURNAL_STREAM once. */
void msg_to_stderr(void);
/* Daemonized: appends to this file, or to the system's log socket if path is NULL. Also after it was
 * rotated. */
int msg_to_file(const char *path);

void msg_print(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define msg_error(...)	 msg_print(LOG_ERR, __VA_ARGS__)
#define msg_warning(...) msg_print(LOG_WARNING, __VA_ARGS__)
#define msg_notice(...)	 msg_print(LOG_NOTICE, __VA_ARGS__)
#define msg_info(...)	 msg_print(LOG_INFO, __VA_ARGS__)

#endif
