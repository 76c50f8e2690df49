/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replace.h - one object in another's place, as when it is packed: the new one becomes what the old one was, whose
 * handle goes stale. Who finds either finds one of the two, whenever the caller dies.
 *
 * The new one is made private to the caller, and filled. Then the old one becomes the caller's, by one compare-and-swap
 * of its word (object_claim()): the commit point. Before, recovery returns the new one with the dead client's other
 * things. After, where both were the client's, both return. Where the old one was the arena's, the new one has to be:
 * the thread's block holds an intent, by which recovery makes it so.
 *
 * What is packed is a large object whose page map entry says so (LARGE_PACKED): a truth like its owner, and no guess by
 * its bytes. Its handle leads to no bytes, but to -ENODATA: who knows how to unpack them reads them by replace_packed().
 */
#ifndef SHM_REPLACE_H
#define SHM_REPLACE_H

#include "arena.h"

/*
 * t: the calling thread's block; to: private to this client, nobody else knows it. 0: from is stale. -EPERM: another's
 * object; -EBUSY: it is published, or held by several; -ESTALE: it was freed or taken; -ENOMEM. Then nothing has changed.
 */
int replace_object(struct arena *a, struct thread_block *t, uint64_t from, uint64_t to);
/* Whether replace_object() would be let, as things are: 0, or its error. */
struct replace_view {
	uint64_t bytes; /* of the object, as it lies */
	bool is_packed;
	bool is_large; /* it takes whole pages, of no class */
	bool is_watched; /* see debug.h */
};
int replace_allowed(struct arena *a, uint64_t handle, struct replace_view *ret);

/* Copies of a live packed object's own bytes, as shma_read() copies those of others; -EINVAL: it is plain. */
int64_t replace_packed(struct arena *a, uint64_t handle, uint64_t offset, void *to, uint64_t len);

/* Ends what a thread of a dead client had begun, as persist_recover() does. Idempotent. */
void replace_recover(struct arena *a, const struct thread_block *tb, uint32_t client);

#endif
