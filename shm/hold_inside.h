/* SPDX-License-Identifier: Apache-2.0 */
/* hold_inside.h - what hold.c and hold_recover.c have in common. */
#ifndef SHM_HOLD_INSIDE_H
#define SHM_HOLD_INSIDE_H

#include "client.h"
#include "hold.h"
#include "words.h"

/* Records of a list at most, as two threads of a client may take a slot each: of a damaged one no more are looked at. */
#define HOLD_LINKS_MAX (2 * CLIENTS_MAX / HOLD_SLOTS)

static inline uint64_t hold_head_load(const struct hold_record *r)
{
	return atomic_load_explicit(&r->head, memory_order_seq_cst);
}

/* The commit point of all that becomes of a record. */
static inline bool hold_swap(struct hold_record *r, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong_explicit(&r->head, &from, to, memory_order_seq_cst,
						       memory_order_seq_cst);
}

/* Marks a record's region as ours. -ENOMEM. */
static inline int hold_mark(struct arena *a, uint64_t index)
{
	return client_mark_page(a, index / HOLD_PAGE_RECORDS * REGION_PAGES);
}

/* Ends a record, or that of an extension, whose object nobody holds. t: where freed objects go, NULL: back to their
 * slabs. -ENOMEM: it cannot be marked; -EAGAIN: it changes all the time. Then others come, or recovery again. */
int hold_settle(struct arena *a, uint64_t index, struct thread_block *t);
/* The rest of it, of a record that is ENDING with us by this head. */
void hold_end(struct arena *a, uint64_t index, uint64_t head, struct thread_block *t);

#endif
