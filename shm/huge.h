/* SPDX-License-Identifier: Apache-2.0 */
/*
 * huge.h - pages of 2 MiB for the heap of an arena that is not hugetlb. The mode stands in the header; each
 * process says so of its mapping, and takes memory in such a way that the kernel can follow.
 *
 * never: none, even where the system would give them unasked, as far as faults are concerned. advise: the
 * mapping is advised, and pages come by faults; whether they are large the system's settings decide
 * (shmem_enabled for memfds, the mount's option huge= for files in a tmpfs). always: the same, and then the
 * kernel is told to make large pages of them (MADV_COLLAPSE, Linux 6.1), which needs no setting.
 *
 * A large page is memory for all of its 2 MiB from the first commit in it. Purging a part splits it.
 */
#ifndef SHM_HUGE_H
#define SHM_HUGE_H

#include "arena.h"

enum huge_pages { HUGE_PAGES_NEVER = 0, HUGE_PAGES_ADVISE = 1, HUGE_PAGES_ALWAYS = 2 };

/* By each process that maps the arena. */
void huge_apply(struct arena *a, const struct arena_header *h);

/* What the system grants of it. */
enum huge_answer {
	HUGE_NOT_WANTED = 0,
	HUGE_HUGETLB = 1, /* the backing has no other pages */
	HUGE_GRANTED = 2, /* by fault */
	HUGE_MADE = 3,	  /* by MADV_COLLAPSE */
	HUGE_SETTING = 4, /* a setting forbids: see huge_setting() */
	HUGE_NO_FILE = 5, /* files on a disk have none */
	HUGE_NONE = 6,	  /* the kernel knows none */
	HUGE_ANSWERS
};
enum huge_answer huge_ask(const struct arena *a, const struct arena_header *h);

/* Which setting decides for this arena's file, and what it says: "shmem_enabled=never". */
void huge_setting(const struct arena *a, char *to, size_t size);

#endif
