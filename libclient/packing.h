/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packing.h - an object's bytes as LZ4 or zstd frames, one for each 128 KiB of it, so that a reader of a few bytes
 * unpacks no more than where they lie. layout.h has the form (struct packed_header). What is read back is not
 * trusted: everything is copied out of the arena, checked, and unpacked from the copy; a frame has the sum of its contents.
 */
#ifndef LIBCLIENT_PACKING_H
#define LIBCLIENT_PACKING_H

#include "arena.h"

/* 0 and below: LZ4, faster and looser the lower; from 1 to this: zstd's levels. */
#define PACKING_LEVEL_MAX 22

struct packing {
	unsigned char *data; /* the caller's to free */
	uint64_t length;
};

/* A plain object's bytes, packed. 1; 0: they would take no page less than bytes; -ENOMEM; -EINVAL: level; errors of
 * shma_read(). */
int packing_make(struct arena *a, uint64_t handle, uint64_t bytes, bool is_large, int level, struct packing *ret);

/* The head of a packed object, checked. -EUCLEAN: damaged; -EINVAL: it is plain; -ESTALE. */
int packing_head(struct arena *a, uint64_t handle, struct packed_header *ret);

/* Some of what is packed, as shma_read() gives it: bytes copied, 0 at the end, -errno. */
int64_t packing_read(struct arena *a, uint64_t handle, const struct packed_header *head, uint64_t offset, void *to,
		     uint64_t len);

#endif
