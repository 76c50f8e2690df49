/* SPDX-License-Identifier: Apache-2.0 */
/* Where hold records are, and looking at them. */
#include "hold.h"

#include "hold_inside.h"

uint64_t hold_far_page(const struct arena *a, uint64_t page, uint32_t far)
{
	uint64_t pages = hold_pages(a), step = (pages * 0x9e37 >> 16) | 1;

	return (page + far * step) % pages;
}

static _Atomic uint64_t *bits_of(const struct arena *a, uint64_t page)
{
	return (_Atomic uint64_t *)arena_at(a, a->g.hold_bits) + page / 64;
}

int hold_page_commit(struct arena *a, uint64_t page)
{
	int r = arena_commit(a, a->g.holds + page * PAGE_SIZE, PAGE_SIZE);

	/* Crash: before, a page of memory that nobody knows of, taken once more; after, free records. */
	if (!r)
		atomic_fetch_or_explicit(bits_of(a, page), UINT64_C(1) << (page % 64), memory_order_release);
	return r;
}

uint64_t hold_next_there(const struct arena *a, uint64_t index, uint32_t next)
{
	uint64_t at;

	if (next > HOLD_PLACES)
		return HOLD_NONE;
	at = hold_place(a, index / HOLD_PAGE_RECORDS, next - 1);
	return hold_page_there(a, at / HOLD_PAGE_RECORDS) ? at : HOLD_NONE;
}

uint64_t hold_scan(const struct arena *a, uint64_t from)
{
	uint64_t page = (from + HOLD_PAGE_RECORDS - 1) / HOLD_PAGE_RECORDS;

	if (from % HOLD_PAGE_RECORDS && hold_page_there(a, from / HOLD_PAGE_RECORDS))
		return from;
	while (page < hold_pages(a)) {
		if (hold_page_there(a, page))
			return page * HOLD_PAGE_RECORDS;
		/* A word without any bit is gone over at once. */
		if (page % 64 == 0 && !atomic_load_explicit(bits_of(a, page), memory_order_relaxed))
			page += 64;
		else
			page++;
	}
	return HOLD_NONE;
}

bool hold_view(const struct arena *a, uint64_t index, struct hold_view *ret)
{
	const struct hold_record *r = hold_record_at(a, index);
	uint64_t head;
	uint32_t links = 0;

	if (!hold_page_there(a, index / HOLD_PAGE_RECORDS))
		return false;
	head = atomic_load_explicit(&r->head, memory_order_acquire);
	*ret = (struct hold_view){.state = hold_head_state(head), .client = hold_head_client(head)};
	if (ret->state == HOLD_FREE || ret->state >= HOLD_ADDING)
		return false;
	ret->handle = atomic_load_explicit(&r->handle, memory_order_relaxed);
	for (; index != HOLD_NONE && links < HOLD_LINKS_MAX; index = hold_next(a, index), links++)
		for (uint32_t i = 0; i < HOLD_SLOTS; i++) {
			uint32_t slot = atomic_load_explicit(&hold_record_at(a, index)->slots[i],
							     memory_order_relaxed);

			ret->holders += slot != 0;
			ret->holds += hold_slot_count(slot);
		}
	return true;
}
