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
/* Whether this function is in the program itself. */
bool profile_binaries_program(void);
/* The calls that lead here, innermost first, the library's own left out where it is no program: how many. */
uint32_t profile_binaries_stack(struct arena *a, uint64_t frames[PROFILE_FRAMES]);

#endif
