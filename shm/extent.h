/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent.h - runs of whole pages, any number of them, out of the buddies of all zones; owned by a
 * client from the first instant, committed before they are handed out.
 */
#ifndef SHM_EXTENT_H
#define SHM_EXTENT_H

#include "arena.h"

#define EXTENT_NONE UINT64_MAX

/*
 * A raw extent of this client: page number, or EXTENT_NONE with *err = -ENOMEM. align_pages: power of
 * two, at most 512. home: the zone to try first. Its memory is committed; contents are undefined.
 * Crash: before the page map entry is written the pages are free; after, the extent is raw and the
 * client's, and returns with it.
 */
uint64_t extent_alloc(struct arena *a, uint64_t pages, uint64_t align_pages, uint32_t use,
		      uint32_t home, int *err);

/*
 * Gives back a raw extent of this client (its entry's kind must be PAGE_RAW). Never waits: where the
 * zone is busy the extent is left with the zone, to be freed by the holder of its lock.
 */
void extent_free(struct arena *a, uint64_t page);

#endif
