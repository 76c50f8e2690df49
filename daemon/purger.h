/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purger.h - memory of idle pages goes back to the system: rounds over each arena, a decay time apart, as
 * long as something changes in it. A round is made in short steps; its punches are made by the loop, which
 * serves others meanwhile.
 */
#ifndef DAEMON_PURGER_H
#define DAEMON_PURGER_H

#include "loop.h"
#include "registry.h"

void purger_start(struct loop *loop, struct registry *registry);
/* How long memory stays unused before it goes back, at least; 0: it stays. From the next round on. */
void purger_decay(uint32_t seconds);

/* An arena is served from now on; no longer. usable: its memory is still what it was. */
void purger_adopt(struct served *s);
void purger_forget(struct served *s, bool usable);

/* Bytes given back since the start. */
uint64_t purger_bytes(void);

#endif
