/* SPDX-License-Identifier: Apache-2.0 */
/* stack_calls.h - SHMA_TEMP: what a scope means for shma_alloc(). */
#ifndef LIBCLIENT_STACK_CALLS_H
#define LIBCLIENT_STACK_CALLS_H

#include "attach.h"

/* With SHMA_TEMP among the flags: temporary memory, if the thread is in a scope and nothing else is asked for but
 * zeros; 0: as if the flag was not there. */
uint64_t stack_call_temp(struct shma *s, size_t size, unsigned flags);

#endif
