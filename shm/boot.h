/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.h - a file arena outlives the machine's boots; thread ids, and so the owners that robust locks
 * name, do not. The kernel has told nobody of those who held a lock when the machine went down.
 */
#ifndef SHM_BOOT_H
#define SHM_BOOT_H

#include "arena.h"

/* For a new arena's header. */
void boot_note(struct arena_header *h);

/*
 * At the first opening for writing since the machine started: all locks anew, and all zones' indexes to
 * be rebuilt. Bounded: -EAGAIN if another has been at it for seconds.
 */
int boot_renew(struct arena *a);

#endif
