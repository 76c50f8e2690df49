/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ship.h - the daemon's side of shipping logs to an engine of several machines: a child process for each arena, begun
 * again when it ends. What it does is ship_run.h's.
 */
#ifndef DAEMON_SHIP_H
#define DAEMON_SHIP_H

#include "config.h"
#include "loop.h"
#include "served.h"

/* Says so if it is configured and cannot be done. */
void ship_start(struct loop *loop, const struct config *config);

/* An arena is served from now on; no longer: its child ships what there is and ends. */
void ship_adopt(struct served *s);
void ship_forget(struct served *s);

/* What its child said last of why it does not ship, and since when; NULL: it ships. */
const char *ship_trouble(const struct served *s, uint64_t *since_ns);

#endif
