/* SPDX-License-Identifier: Apache-2.0 */
/*
 * persist.h - one operation on two truths: an object becomes the arena's, and its handle stands in
 * a cell of another object. Both or neither, whenever the caller dies.
 *
 * The thread's block holds the intent: handle, cell, the object around the cell and what the cell
 * held. The object's word is the commit point, and comes after the cell; before it, recovery puts
 * back what the cell held.
 */
#ifndef SHM_PERSIST_H
#define SHM_PERSIST_H

#include "arena.h"

/*
 * t: the calling thread's block. -EINVAL: the cell is not 8-byte aligned within a live persistent
 * or published object, or the handle is not of this arena; -ESTALE; -EPERM: another's object;
 * -EBUSY: it is published; -EROFS. An object that is persistent already gets its cell.
 */
int persist_object(struct arena *a, struct thread_block *t, uint64_t handle,
		   _Atomic uint64_t *cell);

/* Undoes what a thread of a dead client had not committed to. By its recoverer, before objects return, while the number is
 * still the dead one's and its thread block still there; idempotent. */
void persist_recover(struct arena *a, const struct thread_block *tb, uint32_t client);

#endif
