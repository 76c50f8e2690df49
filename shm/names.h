/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.h - published names: roots that outlive their makers. Lock-free; nobody waits for a client
 * that was stopped in the middle of an operation. names.c has the protocol and why it holds.
 */
#ifndef SHM_NAMES_H
#define SHM_NAMES_H

#include "arena.h"

/*
 * Gives an object a name, all or nothing: mine, or persistent, before; the arena's and published
 * after. -EEXIST: the name has an object, or is just being given to one by another call; -EBUSY:
 * the object has a name, or is just being given one; -ESTALE; -EPERM: another's; -EINVAL: no handle
 * of this arena, an empty name; -ENAMETOOLONG; -ENOSPC: all names taken; -ENOMEM; -EROFS; -EUSERS.
 * A name or an object that a dead client was at work on is settled by names_recover() of that
 * client.
 */
int names_publish(struct arena *a, const char *name, uint64_t handle);

/* Takes the name away; the object is then private to the caller. -ENOENT; -EBUSY: another client,
 * maybe stopped, is at work on this name; -ENOMEM; -EROFS; -EUCLEAN: the name had no published
 * object. */
int names_unpublish(struct arena *a, const char *name);

/* The object of a name, or 0. Works on read-only mappings. */
uint64_t names_lookup(struct arena *a, const char *name);

/* Settles whatever a dead client was at; by its recoverer. Idempotent, in any order with its
 * objects. */
void names_recover(struct arena *a, uint32_t client);

/* One entry, copied; -ENOENT: not in use. */
struct name_view {
	enum name_state state;
	uint32_t client;
	uint64_t handle;
	char name[NAME_BYTES];
};
int names_view(const struct arena *a, uint32_t index, struct name_view *ret);

/*
 * Whether all words make sense, each name and each object occurs once, and every live name's object
 * is published. Exact when no call is in progress.
 */
bool names_valid(struct arena *a);

#endif
