/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug_object.h - watched objects, allocated, freed and misused: what object.c does otherwise in a debug arena.
 *
 * Free makes the object this client's bookkeeping (a large one: its raw extent), under the next generation, looks
 * around it, fills it, and puts it into quarantine. From there it goes the way of all freed objects, looked at once
 * more; and a third time when its place is given out again as it was.
 */
#ifndef SHM_DEBUG_OBJECT_H
#define SHM_DEBUG_OBJECT_H

#include "debug.h"
#include "object.h"
#include "object_word.h"

/* As object_alloc(). */
uint64_t debug_object_alloc(struct arena *a, struct thread_block *t, const struct object_want *want, int *err);
/* As object_free(), of a watched object that was live just now. */
int debug_object_free(struct arena *a, struct thread_block *t, uint64_t handle, struct object *o, uint32_t state);
/* One that was freed otherwise, under this generation, and is this client's now: looked at and filled. */
void debug_object_freed(struct arena *a, const struct object *o, uint64_t handle, uint32_t gen);
/* Then into quarantine, by the handle that its place bears since; out of it comes whatever was there long enough. */
void debug_object_keep(struct arena *a, struct thread_block *t, uint64_t handle, const struct object *o);
/* All that is in quarantine leaves it: when memory is short, or the process detaches. */
void debug_object_release_all(struct arena *a, struct thread_block *t);

/* What the user was given: bytes asked for, of a live watched object; at most those that are there. */
uint64_t debug_object_size(const struct arena *a, const struct object *o, uint64_t handle);
/* The page behind it is protected no longer: before it can be anybody else's. False: it is, and must stay ours. */
bool debug_object_open_up(struct arena *a, const struct object *o);
/* A call was given a handle that is stale: reports it. */
void debug_object_misused(struct arena *a, uint64_t handle, enum debug_call call);

#endif
