/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Held objects and hold records: one to one, each with a holder, each holder a client who has marked the record's
 * region. An object's word is the truth of its being held, a record's slots of who holds it.
 */
#include "audit_run.h"
#include "hold_inside.h"

void audit_held(struct audit_run *run, uint64_t handle, uint32_t state, uint64_t page)
{
	uint64_t index = hold_place(run->a, hold_home(handle), state_client(state));
	struct audit_spot spot = {.page = page, .handle = handle, .evidence = state};
	struct hold_view view;

	if (!hold_view(run->a, index, &view) || view.handle != handle || view.state == HOLD_NEW)
		audit_note(run, AUDIT_HOLD, spot, "object %#llx is held, but record %#llx is not its",
			   (unsigned long long)handle, (unsigned long long)index);
}

static struct audit_spot spot_of(uint64_t index, const struct hold_view *view, uint64_t head)
{
	return (struct audit_spot){.page = index / HOLD_PAGE_RECORDS * REGION_PAGES,
				   .handle = view->handle,
				   .client = view->client,
				   .evidence = head ^ index};
}

static bool is_held_at(const struct audit_run *run, uint64_t handle, uint64_t index)
{
	struct walk_object object = {0};

	return handle_tag(handle) == run->a->tag && walk_object(run->a, handle_offset(handle), &object) &&
	       state_kind(object.state) == OBJECT_HELD && state_gen(object.state) == handle_gen(handle) &&
	       hold_place(run->a, hold_home(handle), state_client(object.state)) == index;
}

/* Somebody who has marked the record's region may have died, or been stopped, before it settled the record. */
static bool anybody_marked(struct audit_run *run, uint64_t index)
{
	for (uint32_t client = 1; client < CLIENTS_MAX; client++)
		if (audit_client_exists(run, client) &&
		    audit_marked(run, client, index / HOLD_PAGE_RECORDS * REGION_PAGES))
			return true;
	return false;
}

static void check_live(struct audit_run *run, uint64_t index, const struct hold_view *view, uint64_t head)
{
	/* One holder alone may be the owner, who is about to begin, or has failed to. */
	if (view->holders > 1 && !is_held_at(run, view->handle, index))
		audit_note(run, AUDIT_HOLD, spot_of(index, view, head),
			   "hold record %#llx: object %#llx is not held there", (unsigned long long)index,
			   (unsigned long long)view->handle);
	if (!view->holders && !anybody_marked(run, index))
		audit_note(run, AUDIT_HOLD_IDLE, spot_of(index, view, head),
			   "object %#llx is held by nobody", (unsigned long long)view->handle);
}

static void check_slots(struct audit_run *run, uint64_t index, uint64_t head)
{
	const struct hold_record *r = hold_record_at(run->a, index);
	uint64_t page = index / HOLD_PAGE_RECORDS * REGION_PAGES;

	for (uint32_t i = 0; i < HOLD_SLOTS; i++) {
		uint32_t slot = atomic_load_explicit(&r->slots[i], memory_order_relaxed);
		struct audit_spot spot = {.page = page, .handle = index, .evidence = head ^ slot};

		if (slot && (!hold_slot_client(slot) || !hold_slot_count(slot)))
			audit_note(run, AUDIT_HOLD_RECORD, spot, "hold record %#llx: slot %#x",
				   (unsigned long long)index, slot);
		else if (slot)
			audit_owned(run, hold_slot_client(slot), page, head ^ index);
	}
}

static void check_record(struct audit_run *run, uint64_t index)
{
	uint64_t head = hold_head_load(hold_record_at(run->a, index));
	struct hold_view view = {.client = hold_head_client(head)};

	if (hold_head_state(head) >= HOLD_STATES) {
		audit_note(run, AUDIT_HOLD_RECORD, spot_of(index, &view, head),
			   "hold record %#llx: head %#llx has no such state", (unsigned long long)index,
			   (unsigned long long)head);
		return;
	}
	check_slots(run, index, head);
	switch (hold_head_state(head)) {
	case HOLD_NEW:
	case HOLD_ENDING:
	case HOLD_ADDING:
		audit_owned(run, hold_head_client(head), index / HOLD_PAGE_RECORDS * REGION_PAGES,
			    head ^ index);
		break;
	case HOLD_LIVE:
	case HOLD_DYING:
		if (hold_view(run->a, index, &view))
			check_live(run, index, &view, head);
		break;
	default: break;
	}
}

void audit_holds(struct audit_run *run)
{
	for (uint64_t at = 0; (at = hold_scan(run->a, at)) != HOLD_NONE; at++)
		check_record(run, at);
}
