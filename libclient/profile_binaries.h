/* SPDX-License-Identifier: Apache-2.0 */
/* profile_binaries.h - the program and the libraries of this process by address: so that a call can be told by its
 * binary's build-id and an offset in it, which mean the same when the process is gone. */
#ifndef LIBCLIENT_PROFILE_BINARIES_H
#define LIBCLIENT_PROFILE_BINARIES_H

#include "arena.h"

/* A call, for profile_sample(). Never allocates by malloc. */
uint64_t profile_binaries_frame(struct arena *a, uintptr_t call);
/* Whether it lies in the library that this function is in, which is no program. */
bool profile_binaries_own(uintptr_t call);
/* The calls that lead here, innermost first, the library's own left out where it is no program: how many.
 * *nearest: the address of the first, 0 where it may be one of the library's. */
uint32_t profile_binaries_stack(struct arena *a, uint64_t frames[PROFILE_FRAMES], uintptr_t *nearest);
/* A call as "module+0x1234". */
void profile_binaries_text(uintptr_t call, char *to, size_t size);

#endif
