/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug_room.h - what one process has of a debug arena, in private memory: its quarantine, and the pages that it may
 * not touch.
 *
 * Quarantine: objects freed by this process whose places are not given out yet, oldest first. Their words say that
 * they are this client's bookkeeping, large ones are its raw extents, so they come back at its death; the queue itself
 * is only an order. It holds so many bytes at most, and gives all up when memory is short.
 *
 * Pages are protected by mprotect(), which is this process's alone: the page behind a large object while the object is
 * private to the process that has allocated it, and a large object in quarantine. From both states only this process
 * takes an object back, and unprotects first; a fork unprotects all in the child. So nobody ever meets a protected page
 * where he may be. What others write there is found by its contents, as everywhere.
 */
#ifndef SHM_DEBUG_ROOM_H
#define SHM_DEBUG_ROOM_H

#include "debug.h"

#define DEBUG_ROOM_MAX	   (UINT64_C(16) << 20) /* bytes in quarantine: a 64th of the arena, and at most this */
#define DEBUG_ROOM_SAMPLED (UINT64_C(1) << 20) /* the same of samples */
#define DEBUG_ROOM_ENTRIES 32768u
#define DEBUG_GUARDS	   1024u /* protected runs of pages: each costs the kernel two more mappings */

/* Puts an object in. False: there is no room. */
bool debug_room_keep(struct arena *a, uint64_t handle, uint64_t bytes);
/* The oldest, if there are more bytes or objects than may be (all: if there is any); 0: none. */
uint64_t debug_room_leave(struct arena *a, bool all);

/* For this process. What cannot be protected is not. */
void debug_room_protect(struct arena *a, uint64_t page, uint64_t pages);
/* All that begins between two pages. False: the kernel refuses; then they may not be given back. */
bool debug_room_unprotect(struct arena *a, uint64_t page, uint64_t end);
/* In a forked child, of all that its parent had. */
void debug_room_unprotect_all(struct arena *a);

/* At the end of this view of the arena. */
void debug_room_end(struct arena *a);

#endif
