/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deaths.h - a report of each client that died: who it was, how it ended, what it held and the last it logged. One
 * text file an arena in the folder "deaths" of the state directory; the newest reports stay. A report is written
 * before recovery gives back what it tells of; if the daemon dies in between, the next one writes it again, and
 * readers go by client and incarnation.
 *
 * A report is lines of key=value between "death" and "end":
 *
 *   death CLIENT INCARNATION
 *   arena= uuid= pid= uid= command= attached= died=     times in ns since 1970
 *   ended=signal N | exit N | unknown
 *   threads= regions= whole=0|1                         0: it held too much for all of it to be counted
 *   held=SIZE PRIVATE SHARED CACHED                     objects of SIZE bytes; cached: no program had them
 *   large=BYTES PRIVATE SHARED CACHED                   those of whole pages, bytes of all together
 *   profiled=0|1                                        whether the arena was, when it died
 *   call=BYTES OBJECTS                                  of one stack of calls, estimated; the most first
 *   frame=OFFSET BUILD-ID|- PATH                        of it, innermost first; offset in hexadecimal
 *   record=TIME LEVEL TID SEQ TEXT                      the oldest first; \xNN for what is no text
 *   end
 */
#ifndef DAEMON_DEATHS_H
#define DAEMON_DEATHS_H

#include "client.h"
#include "served.h"

/* Where reports go. */
int deaths_open(int state_dir);

/* Inside guard_run(): a client that is dead and not recovered yet. pidfd: of its process, opened while it lived, or
 * -1. What cannot be written is said, and nothing else comes of it. */
void deaths_report(struct served *s, uint32_t client, const struct client_view *view, int pidfd);

/* The reports of an arena, for reading; -ENOENT: nobody died. */
int deaths_file(const char *arena);
/* The arena is no more. */
void deaths_forget(const char *arena);

#endif
