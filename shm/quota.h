/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota.h - what one client may own. Its record counts by addition as ownership moves, which a death
 * elsewhere can leave a little wrong; so before a client is refused, it is counted anew.
 */
#ifndef SHM_QUOTA_H
#define SHM_QUOTA_H

#include "arena.h"

/* How many more objects of so many bytes, at most want, this client may own. */
uint32_t quota_allows(struct arena *a, uint64_t bytes, uint32_t want);

#endif
