/* SPDX-License-Identifier: Apache-2.0 */
/* attach.h - what a process has of each arena it opened; one attachment an arena, counted. */
#ifndef LIBCLIENT_ATTACH_H
#define LIBCLIENT_ATTACH_H

#include "arena.h"
#include "shmalloc.h"

struct shma {
	struct arena arena; /* first: the calls' fast paths take one for the other */
	uint32_t references; /* 0: closed, but kept, since the process owns objects in it */
	int daemon_fd;	     /* its hang-up tells the daemon of our end; -1: embedded */
	int *kept_fds;	     /* more descriptors of the life file: closing one would drop the life lock */
	uint32_t kept_count;
	struct map_table *_Atomic maps; /* files behind objects, see map_file.h; NULL: none */
	struct shma *next;
	_Atomic(shma_debug_fn) debug_fn; /* see shma_debug_handler() */
	void *debug_context;
};

#endif
