/* SPDX-License-Identifier: Apache-2.0 */
/* A dead client's holds, dropped by its sole heir: see hold.h. Each step can be repeated. */
#include <errno.h>

#include "hold_inside.h"
#include "object.h"
#include "object_word.h"
#include "stop_point.h"

/* Nobody changes a dead client's slots but its heir. */
static bool drop_slots(struct hold_record *r, uint32_t client)
{
	bool any = false;

	for (uint32_t i = 0; i < HOLD_SLOTS; i++) {
		if (hold_slot_client(atomic_load_explicit(&r->slots[i], memory_order_relaxed)) != client)
			continue;
		/* Crash: before, the dead client's; after, nobody's: the record is settled below, or by the next
		 * recoverer, since the region is marked still. */
		atomic_store_explicit(&r->slots[i], 0, memory_order_seq_cst);
		STOP_POINT(hold_slot_dropped);
		any = true;
	}
	return any;
}

/* Whether a record that was to become an extension is in its list. */
static bool is_linked(const struct arena *a, uint64_t index)
{
	uint64_t at = atomic_load_explicit(&hold_record_at(a, index)->handle, memory_order_acquire);

	if (at / HOLD_PAGE_RECORDS >= hold_pages(a) || !hold_page_there(a, at / HOLD_PAGE_RECORDS))
		return false;
	for (uint32_t links = 0; at != HOLD_NONE && links < HOLD_LINKS_MAX; links++) {
		if (at == index)
			return true;
		at = hold_next(a, at);
	}
	return false;
}

/* An object whose record nobody may end but who is marked for it. */
static int inherit_end(struct arena *a, uint64_t index, uint64_t head)
{
	struct hold_record *r = hold_record_at(a, index);
	uint64_t mine = hold_head_next(head, HOLD_ENDING, a->client);
	struct object o;
	uint32_t state;
	int err = hold_mark(a, index);

	if (!err && !object_word_find_live(a, atomic_load_explicit(&r->handle, memory_order_relaxed), &o, &state))
		err = object_word_mark(a, &o);
	if (err)
		return err;
	/* Crash: before, the dead client's; after, ours, in marked regions. */
	if (hold_swap(r, head, mine))
		hold_end(a, index, mine, NULL);
	return 0;
}

static int recover_record(struct arena *a, uint64_t index, uint32_t client)
{
	struct hold_record *r = hold_record_at(a, index);
	uint64_t head = hold_head_load(r);
	enum hold_state state = hold_head_state(head);

	/* A record never used: nothing else was written. */
	if (head == 0)
		return 0;
	drop_slots(r, client);
	switch (state) {
	case HOLD_NEW:
	case HOLD_ADDING:
		if (hold_head_client(head) != client)
			return 0;
		/* Crash: before, as it was; after, done. */
		hold_swap(r, head,
			  hold_head_next(head,
					 state == HOLD_ADDING && is_linked(a, index) ? HOLD_EXTENSION
										     : HOLD_FREE,
					 0));
		return 0;
	case HOLD_ENDING: return hold_head_client(head) == client ? inherit_end(a, index, head) : 0;
	/* Also where it had no slot: it may have emptied one, and not come to look. */
	default: return hold_settle(a, index, NULL);
	}
}

int hold_recover(struct arena *a, uint64_t region, uint32_t client)
{
	int left = 0;

	if (!hold_page_there(a, region))
		return 0;
	for (uint32_t i = 0; i < HOLD_PAGE_RECORDS; i++)
		if (recover_record(a, region * HOLD_PAGE_RECORDS + i, client))
			left = -EAGAIN;
	return left;
}

static bool record_has(const struct arena *a, uint64_t index, uint32_t client)
{
	uint64_t head = hold_head_load(hold_record_at(a, index));

	if (hold_head_client(head) == client)
		return true;
	for (uint32_t links = 0; index != HOLD_NONE && links < HOLD_LINKS_MAX; links++) {
		const struct hold_record *r = hold_record_at(a, index);

		for (uint32_t i = 0; i < HOLD_SLOTS; i++)
			if (hold_slot_client(atomic_load_explicit(&r->slots[i], memory_order_relaxed)) == client)
				return true;
		index = hold_next(a, index);
	}
	return false;
}

bool hold_in_region(const struct arena *a, uint64_t region, uint32_t client)
{
	if (!hold_page_there(a, region))
		return false;
	for (uint32_t i = 0; i < HOLD_PAGE_RECORDS; i++)
		if (record_has(a, region * HOLD_PAGE_RECORDS + i, client))
			return true;
	return false;
}
