/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bells.h - waits until a futex word in some arena changes, for all arenas at once, in a thread that does nothing else:
 * it never reads or writes what is there, only the kernel does, so that memory a client takes away cannot hurt it.
 * Who may be rung must have armed the bell and looked again before (ring_bell_arm()).
 */
#ifndef DAEMON_BELLS_H
#define DAEMON_BELLS_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"

struct bell {
	void (*rung)(struct bell *bell); /* by the loop, once after bells_wait(); set before */

	/* bells.c's own. */
	_Atomic uint32_t *word;
	uint32_t value;
	enum { BELL_IDLE, BELL_WAITING, BELL_RUNG } state;
	struct bell *next, **link;
};

/* Until the word is no longer value, or memory at all: then bell->rung(). At most until bells_leave(). False: there are
 * too many, or the kernel cannot: the caller looks now and then. Said once why. */
bool bells_wait(struct loop *loop, struct bell *bell, _Atomic uint32_t *word, uint32_t value);
/* Nobody looks at the word any more, and rung() does not come. Before its memory is unmapped. */
void bells_leave(struct bell *bell);
/* After the last bell was left; before the loop is closed. */
void bells_close(void);

#endif
