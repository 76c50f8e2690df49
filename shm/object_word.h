/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object_word.h - an object's state word, small or large, and one step of it: what object.c,
 * object_owner.c and object_look.c have in common.
 */
#ifndef SHM_OBJECT_WORD_H
#define SHM_OBJECT_WORD_H

#include "arena.h"
#include "words.h"

struct object {
	_Atomic uint32_t *small; /* its state word; NULL: large */
	_Atomic uint64_t *large; /* word 0 of its head's entry */
	uint64_t page;		 /* of its extent's or slab's head */
	uint64_t bytes;
	uint64_t front; /* of them, before the user's: 0 but in a watched object, see debug.h */
	enum page_kind page_kind; /* of a large one: PAGE_LARGE, PAGE_MAPPED */
	uint32_t class;
	uint32_t gen; /* of the handle */
	uint64_t use; /* large: as pw0_use() gives it */
};

static inline bool object_is_mapped(const struct object *o)
{
	return !o->small && o->page_kind == PAGE_MAPPED;
}

/* The object a handle names, and its state word; -ESTALE unless it is live under the handle's generation;
 * -EINVAL; -EPERM: it is temporary memory, which has no such word and can only be looked at: its bytes are in o. */
int object_word_find_live(struct arena *a, uint64_t handle, struct object *o, uint32_t *state);
/* The state word again; -ESTALE unless it is still live. */
int object_word_load(const struct object *o, uint32_t *state);
/* The commit point of every change of ownership. False: it has changed meanwhile. */
bool object_word_change(const struct object *o, uint32_t from, uint32_t to);
/* Marks all regions in which owning the object means owning something. Before the change. -ENOMEM. */
int object_word_mark(struct arena *a, const struct object *o);
/* Ownership has gone from one client to another; 0: from, or to, none. */
void object_word_account(struct arena *a, uint32_t from, uint32_t to, uint64_t bytes);
bool object_word_is_mine(const struct arena *a, uint32_t state);
/* What its user may use. */
uint64_t object_usable(const struct arena *a, const struct object *o, uint64_t handle);

/*
 * -EAGAIN: another process has changed the word since it was read. Then the word says something else, and
 * is looked at anew: a step is lost only to somebody's success, and given up after so many of them.
 */
typedef int (*object_step_fn)(struct arena *a, const struct object *o, uint32_t state,
			      uint32_t gen);

int object_word_step(struct arena *a, struct object *o, uint32_t *state, object_step_fn step,
		     uint32_t gen);
/* For calls that come with a handle; the object and the word as it was before, in o and state. */
int object_word_step_handle(struct arena *a, uint64_t handle, object_step_fn step, struct object *o,
			    uint32_t *state);

#endif
