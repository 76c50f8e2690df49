/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work.h - operations that may wait for a disk, done by two threads of the loop: one for what is quick, one for what
 * takes seconds. The threads do nothing else: no arena's memory, no state but the operation's. All signals stay with
 * the loop's own thread.
 */
#ifndef DAEMON_WORK_H
#define DAEMON_WORK_H

#include "loop.h"

struct work;

/* op->work is called elsewhere, then op->done by the loop. The threads begin with the first one. */
void work_start(struct loop *loop, struct loop_op *op, bool slow);
/* Waits until it has been; op->result is what it said. */
void work_settle(struct loop *loop, struct loop_op *op);
/* Waits for what is under way; what has not begun is dropped. */
void work_close(struct loop *loop);

#endif
