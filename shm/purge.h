/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purge.h - gives memory of idle pages back to the system. A purger is a client like any other: it
 * takes the pages as an extent, forgets that they are committed, punches them out of the file, and
 * frees the extent. So nobody can be given a page that is being punched.
 */
#ifndef SHM_PURGE_H
#define SHM_PURGE_H

#include "arena.h"

/* What a purger remembers of an arena between two calls: which regions were idle. Private memory. */
struct purge {
	uint64_t *idle; /* bit a region */
};

/* -ENOMEM. */
int purge_init(struct purge *p, const struct arena *a);
void purge_fini(struct purge *p);

/*
 * Gives back regions that were wholly free at the last call and are so still, at most about max_bytes
 * of them; bytes given back. Zones whose lock is held are left for the next call. For one thread.
 */
uint64_t purge_idle(struct purge *p, struct arena *a, uint64_t max_bytes);

#endif
