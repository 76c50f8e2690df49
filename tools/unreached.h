/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unreached.h - which of an arena's own objects nothing in it leads to.
 *
 * A persistent object outlives its maker; if that died before it passed the handle on, nobody will ever free it. Found
 * as a conservative garbage collector finds what it may free (Boehm and Weiser): what has a name, is held, or is a
 * process's, is known to somebody; so is what a handle leads to that lies, aligned, in the contents of anything known. A
 * handle that a process has in its private memory alone, or in a file, is not seen, and bytes that only look like a
 * handle keep an object known.
 */
#ifndef TOOLS_UNREACHED_H
#define TOOLS_UNREACHED_H

#include <stddef.h>

#include "arena.h"

struct unreached_object {
	uint64_t handle, bytes; /* what it takes */
};

struct unreached {
	struct unreached_object *list; /* most bytes first */
	size_t count;
	uint64_t bytes;
	uint64_t persistent_objects, persistent_bytes; /* all there are, published ones not among them */
};

/* Of a live arena what was true of most objects during the look. -ENOMEM. */
int unreached_find(struct arena *a, struct unreached *ret);
void unreached_free(struct unreached *u);

#endif
