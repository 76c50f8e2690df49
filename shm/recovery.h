/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovery.h - gives back to the arena what a dead client owned. Each step goes by the truth and can be
 * repeated; the recoverer may be killed at any instruction, and the next one begins again. Nothing here
 * waits: what lies in a zone whose lock is held stays with the dead client for a later call.
 */
#ifndef SHM_RECOVERY_H
#define SHM_RECOVERY_H

#include "arena.h"

/*
 * Recovers a client if it is dead. whole: all of it, else a slice of bounded work, after which anyone may
 * go on. 1: nothing is left of it, its number is free; 0: nothing done (it lives, or another living
 * process or thread recovers it); -EAGAIN: something is left, call again; -EBUSY: so too, but it waits for
 * a lock that is held. This process must be a client.
 */
int recovery_run(struct arena *a, uint32_t client, bool whole);

/* Whether a client was dead and its things at this place have come back: for who is refused an object of
 * it. No more than that is done, since somebody waits. */
bool recovery_of(struct arena *a, uint32_t client, uint64_t heap_offset);

/* Whether something of some dead client has come back, of at most so many regions: for who needs memory,
 * and asks for more each time. */
bool recovery_reap_some(struct arena *a, uint64_t regions);

/* Looks at all clients and recovers the dead ones whole; how many numbers have become free. */
uint32_t recovery_reap_all(struct arena *a);

/* For this process's orderly end: drops its marks where it owns nothing any more. Whether none is left;
 * then its slot can be released. */
bool recovery_drop_own_marks(struct arena *a);

/* Looks at one client, another each time, and recovers a slice. For slow paths, where there is no
 * daemon to do it. Whether more is left, so that the next slow call should do so, too. */
bool recovery_tick(struct arena *a);

#endif
