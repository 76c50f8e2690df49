/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purger.h - memory of idle pages goes back to the system: a look at each arena every second as long as
 * something changes in it, and a bounded piece of work at a time.
 */
#ifndef DAEMON_PURGER_H
#define DAEMON_PURGER_H

#include "loop.h"
#include "registry.h"

void purger_start(struct loop *loop, struct registry *registry);

/* An arena is served from now on; no longer. */
void purger_adopt(struct served *s);
void purger_forget(struct served *s);

/* Bytes given back since the start. */
uint64_t purger_bytes(void);

#endif
