/* SPDX-License-Identifier: Apache-2.0 */
/*
 * span.h - extents larger than a zone. They start at a zone's first page, cover whole zones and, last,
 * the first pages of one. The head's entry has the whole length; each further zone's first page bears a
 * PAGE_SPAN entry, so that its rebuild needs no other zone's walk. Such an entry counts only while the
 * head is not free and long enough to reach it.
 */
#ifndef SHM_SPAN_H
#define SHM_SPAN_H

#include "arena.h"

/* As extent_alloc(), for more pages than a zone has; not yet committed. */
uint64_t span_alloc(struct arena *a, uint64_t pages, enum raw_use use);
/* Frees all pieces but the head's own, of a raw extent; what is left in pages. Never waits: a piece
 * whose zone is busy is freed by the next rebuild or reclaim that meets it. */
uint64_t span_free_tail(struct arena *a, uint64_t page);
/* The same for a dead client's; -EBUSY: a zone's lock is held; come again. */
int span_reclaim_tail(struct arena *a, uint64_t page);

#endif
