/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_shmalloc.c - this project's library by its public calls alone, in an embedded arena. Two peers:
 *  shmalloc         for a program that holds pointers, as a user of malloc does: shma_alloc_ptr() and
 *                   shma_free_ptr(), which finds the handle anew;
 *  shmalloc-handle  for a program that holds handles: it pays a checked shma_ptr() at each use.
 */
#include "peer.h"

#include <shmalloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static shma *arena;

static peer_ref pointer_alloc(size_t size)
{
	return (peer_ref)shma_alloc_ptr(arena, size, 0, NULL);
}

static peer_ref pointer_alloc_shared(size_t size)
{
	return (peer_ref)shma_alloc_ptr(arena, size, SHMA_SHARED, NULL);
}

static void pointer_free(peer_ref ref)
{
	shma_free_ptr(arena, (void *)ref);
}

static uint64_t pointer_token(peer_ref ref)
{
	return shma_handle_of(arena, (void *)ref);
}

static peer_ref pointer_untoken(uint64_t token)
{
	return (peer_ref)shma_ptr(arena, token);
}

static peer_ref handle_alloc(size_t size)
{
	return shma_alloc(arena, size, 0);
}

static peer_ref handle_alloc_shared(size_t size)
{
	return shma_alloc(arena, size, SHMA_SHARED);
}

static void handle_free(peer_ref ref)
{
	shma_free(arena, ref);
}

static void *handle_ptr(peer_ref ref)
{
	return shma_ptr(arena, ref);
}

static uint64_t handle_token(peer_ref ref)
{
	return ref;
}

static peer_ref handle_untoken(uint64_t token)
{
	return (peer_ref)token;
}

/* What the heap took from /dev/shm, its bookkeeping and every thread's cache included. */
static uint64_t arena_footprint(void)
{
	struct shma_stats st;

	return shma_stats(arena, &st) ? 0 : st.committed_bytes;
}

static int arena_log(const void *data, size_t len)
{
	return shma_log_write(arena, 6, data, len);
}

static const struct peer_ops pointer_ops = {
	.version = "shmalloc, pointers held",
	.alloc = pointer_alloc,
	.free = pointer_free,
	.alloc_shared = pointer_alloc_shared,
	.token = pointer_token,
	.untoken = pointer_untoken,
	.footprint = arena_footprint,
	.log = arena_log,
};

static const struct peer_ops handle_ops = {
	.version = "shmalloc, handles held",
	.alloc = handle_alloc,
	.free = handle_free,
	.ptr = handle_ptr,
	.alloc_shared = handle_alloc_shared,
	.token = handle_token,
	.untoken = handle_untoken,
	.footprint = arena_footprint,
	.log = arena_log,
};

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
	struct shma_options opt = {
		.struct_size = sizeof(opt),
		.capacity = config->capacity,
		.log_policy = SHMA_LOG_OVERWRITE,
	};
	unsigned flags = SHMA_EMBEDDED | (config->create ? SHMA_CREATE | SHMA_EXCL : 0);
	int r = shma_open(&arena, config->arena, flags, &opt);

	if (r) {
		snprintf(err, err_size, "shma_open(%s): %s", config->arena, shma_strerror(r));
		return NULL;
	}
	return strcmp(config->variant, "shmalloc-handle") ? &pointer_ops : &handle_ops;
}
