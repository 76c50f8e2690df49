/* SPDX-License-Identifier: Apache-2.0 */
/* debug_calls.h - what a public call does in a debug arena, besides. */
#ifndef LIBCLIENT_DEBUG_CALLS_H
#define LIBCLIENT_DEBUG_CALLS_H

#include "attach.h"
#include "debug.h"

/* After a call that may have found something. */
void debug_calls_tell(struct shma *s);
/* A call was given a stale handle. */
void debug_calls_misused(struct shma *s, shma_handle h, enum debug_call call);

/* The end of a call: its result, for the caller's last instruction. */
static inline int64_t debug_calls_end(struct shma *s, shma_handle h, enum debug_call call, int64_t result)
{
	if (__builtin_expect(s->arena.debug == DEBUG_OFF, 1))
		return result;
	if (result == -ESTALE)
		debug_calls_misused(s, h, call);
	if (debug_caller.made)
		debug_calls_tell(s);
	return result;
}

#endif
