/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold.h - objects that several clients keep alive: each holds it as often as it has retained and not released it,
 * a dead one's holds are dropped by recovery, and the last that goes frees it.
 *
 * An object's owner begins: its first retain makes the object the arena's, OBJECT_HELD, and what it owned its first
 * hold. The state word has, in place of a client, where the object's hold record is. There is no count of
 * holders: who holds is told by the record's slots, one a client, that nobody else writes (the truth), so that a death
 * at any instruction leaves a hold or none, and either is found by its client's number.
 *
 * A record's head says what becomes of it:
 *
 *   free -> NEW(me) -> handle and my slot written -> LIVE -> the object's word: mine -> held
 *   LIVE -> DYING -> LIVE                     no slot was seen taken, then one was
 *   LIVE -> DYING -> ENDING(me) -> the object's word: held -> mine, freed -> free
 *
 *   retain:   my slot is counted up, then the head is looked at. LIVE: the object is held. DYING: I make it LIVE
 *             again, since my slot is not empty. Else the hold came too late and is taken back.
 *   release:  my slot is counted down. Who empties one settles the record: no slot taken -> DYING, no slot
 *             taken -> ENDING.
 *
 * Why nothing is freed that somebody holds: all of it is sequentially consistent. Who read LIVE after taking its slot did
 * so before the record was DYING; so whoever looks at the slots of a DYING record sees that slot
 * (PAIR(hold-slot)). Who read DYING makes it LIVE under a new version, or fails because another has changed the head:
 * then it looks again. DYING -> ENDING is from the exact version under which all slots were seen empty.
 * Why what nobody holds is freed: who empties a slot settles, until it sees a slot taken in a LIVE record, or another
 * has made it ENDING. Who sees a slot that is about to be taken back leaves it to its client, which settles likewise; a
 * client that dies in between has marked the record's region, and its recoverer settles.
 *
 * Nobody waits: DYING is nobody's, and whoever meets it goes on from there. A client that is stopped in ENDING has
 * the object's memory, as in the middle of shma_free().
 *
 * The record's place is the same for the arena's life, and read by whoever has an old handle: so a slot may be taken,
 * for a moment, in a record that is another object's by now. It is taken back, and settled.
 *
 * Extensions, for objects of more holders than a record has slots, are records that never were any object's. They stay
 * linked to their record for good, so that lists only grow.
 *
 * Marks: before a client takes a slot or makes a record its own it marks the records' regions and the object's. They
 * have memory from then on, so no release ever fails for want of it.
 *
 * Modelled in tests/model/hold.pml.
 */
#ifndef SHM_HOLD_H
#define SHM_HOLD_H

#include "arena.h"

/* Results of the public calls of the same name. */
int hold_retain(struct arena *a, uint64_t handle);
int hold_release(struct arena *a, uint64_t handle);

/* For recovery: drops a dead client's holds in the records of a region's page, finishes what it was at, and frees
 * objects that nobody holds any more. -EAGAIN: something is left, for want of memory. Idempotent. */
int hold_recover(struct arena *a, uint64_t region, uint32_t client);
/* Whether a client has anything to do with the records of a region's page: for its orderly end. */
bool hold_in_region(const struct arena *a, uint64_t region, uint32_t client);

/* ---- the table (hold_table.c) ---- */

#define HOLD_NONE UINT64_MAX

static inline uint64_t hold_pages(const struct arena *a)
{
	return a->g.capacity >> REGION_SHIFT;
}

/* A page seen from another, that is full: far apart, and the same for all who look. */
uint64_t hold_far_page(const struct arena *a, uint64_t page, uint32_t far);

/* The number of the record at a place seen from a page. */
static inline uint64_t hold_place(const struct arena *a, uint64_t page, uint32_t place)
{
	if (__builtin_expect(place >= HOLD_PAGE_RECORDS, 0))
		page = hold_far_page(a, page, place / HOLD_PAGE_RECORDS);
	return page * HOLD_PAGE_RECORDS + place % HOLD_PAGE_RECORDS;
}

/* Whether a page of the table has memory. */
static inline bool hold_page_there(const struct arena *a, uint64_t page)
{
	const _Atomic uint64_t *bits = (const _Atomic uint64_t *)(void *)(a->base + a->g.hold_bits);

	return page < hold_pages(a) &&
	       (atomic_load_explicit(&bits[page / 64], memory_order_acquire) >> (page % 64) & 1);
}

/* Takes memory for a page. -ENOMEM. */
int hold_page_commit(struct arena *a, uint64_t page);

/* Of a record whose page has memory. */
static inline struct hold_record *hold_record_at(const struct arena *a, uint64_t index)
{
	return (struct hold_record *)(void *)(a->base + a->g.holds) + index;
}

/* The page of the table that a handle's object has first. */
static inline uint64_t hold_home(uint64_t handle)
{
	return (handle & ((UINT64_C(1) << HANDLE_OFFSET_BITS) - 1)) >> (REGION_SHIFT - 4);
}

/* The record after one in its list, or HOLD_NONE. What it says is checked. */
uint64_t hold_next_there(const struct arena *a, uint64_t index, uint32_t next);

static inline uint64_t hold_next(const struct arena *a, uint64_t index)
{
	/* PAIR(hold-slot): DYING, then what was added to the list; who added it took its slot there, then looked. */
	uint32_t next = atomic_load_explicit(&hold_record_at(a, index)->next, memory_order_seq_cst);

	return __builtin_expect(next == 0, 1) ? HOLD_NONE : hold_next_there(a, index, next);
}

/* A record in use, copied, with its holders in all extensions counted. */
struct hold_view {
	enum hold_state state;
	uint32_t client; /* of the head */
	uint64_t handle;
	uint32_t holders; /* slots taken */
	uint64_t holds;	  /* sum of their counts */
};
/* False: the record is free, an extension, or has no memory. */
bool hold_view(const struct arena *a, uint64_t index, struct hold_view *ret);
/* The first record from `from` on whose page has memory, or HOLD_NONE. */
uint64_t hold_scan(const struct arena *a, uint64_t from);

#endif
