/* SPDX-License-Identifier: Apache-2.0 */
/*
 * liveness.h - whether a client is dead, and who recovers it.
 *
 * The kernel is the only witness. Dead is who neither holds its life lock (dropped at death and at
 * exec) nor is the process of its record any more: that one is gone, is another of the same number,
 * is a zombie to the last thread, or does not map the arena where it did. The second is asked
 * because closefrom() in a living client drops the lock too. Where looking is not permitted the
 * client is not dead. Stopped, swapped, traced or slow is alive: there is no heartbeat.
 */
#ifndef SHM_LIVENESS_H
#define SHM_LIVENESS_H

#include "client.h"

enum liveness {
	LIVENESS_NONE,	 /* no client has this number */
	LIVENESS_ALIVE,
	LIVENESS_UNSURE, /* its lock is not held, but death is not proven; ask again later */
	LIVENESS_DEAD	 /* and it stays so for this incarnation; or already being recovered */
};

/* Asks the kernel about a slot's present tenant; some system calls. This process's own is alive. */
enum liveness liveness_of(const struct arena *a, uint32_t client);
bool liveness_is_dead(const struct arena *a, uint32_t client);

/*
 * Makes this process the recoverer of a client, if that is dead and nobody else alive recovers it;
 * true if it is, and also if it was before (recovery in slices: a process does it in one thread at
 * a time). Only the recoverer's death passes the job on, never slowness. To be followed, all of it
 * idempotent, by the return of what the client has, names, threads and marks, and
 * liveness_finish_recovery().
 */
bool liveness_claim_recovery(struct arena *a, uint32_t client);

/*
 * Leaves what a dead client was recovering to whoever comes next. liveness_finish_recovery() does
 * so too: before the number can have a new bearer, no word says any more that the dead one recovers
 * it.
 */
void liveness_release_recoveries(struct arena *a, uint32_t dead);

/* The client this process recovers has nothing left: its number is free. */
void liveness_finish_recovery(struct arena *a, uint32_t client);

#endif
