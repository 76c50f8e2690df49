/* SPDX-License-Identifier: Apache-2.0 */
/* pack_calls.h - what calls on objects do where one is packed. */
#ifndef LIBCLIENT_PACK_CALLS_H
#define LIBCLIENT_PACK_CALLS_H

#include "shmalloc.h"

/* As shma_read() and shma_size(), of what was packed. */
ssize_t pack_read(shma *s, shma_handle h, size_t offset, void *to, size_t len);
size_t pack_size(shma *s, shma_handle h, int *err);

#endif
