/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `arena check` says of watched objects: all of it is copied, so what others do meanwhile shows as something else
 * at the next look. PAIR(debug-head): a head that says live under the generation that the state word says too was
 * written after its red zones.
 */
#include "audit_run.h"
#include "debug.h"
#include "debug_report.h"

static void note(struct audit_run *run, enum audit_what what, const struct audit_watched *w,
		 const struct debug_head *head, const struct debug_damage *damage)
{
	struct audit_spot spot = { .page = w->offset >> PAGE_SHIFT,
				   .handle = handle_make(run->a->tag, head->gen & 0xffff, w->offset),
				   .client = state_owner(w->state),
				   .evidence = (uint64_t)damage->at << 32 ^ w->state };

	audit_note(run, what, spot, "object of %llu bytes, allocated by %d at %s: %u wrong bytes, at %lld",
		   (unsigned long long)head->size, (int)head->allocated.pid, head->allocated.where, damage->bytes,
		   (long long)damage->at);
}

static bool kind_is_live(enum object_kind kind)
{
	return kind > OBJECT_INTERNAL && kind < OBJECT_KINDS;
}

/* Private ones may be on their way to or from their user, and then there is no telling by the head alone. */
static void note_head(struct audit_run *run, const struct audit_watched *w)
{
	struct audit_spot spot = { .page = w->offset >> PAGE_SHIFT,
				   .handle = handle_make(run->a->tag, state_gen(w->state), w->offset),
				   .client = state_owner(w->state),
				   .evidence = w->state };

	if (kind_is_live(state_kind(w->state)) && state_kind(w->state) != OBJECT_PRIVATE)
		audit_note(run, AUDIT_WATCHED_HEAD, spot, "object at %#llx: what is kept before it is overwritten",
			   (unsigned long long)w->offset);
}

/* In quarantine, small: large ones may be protected, and are looked at when they leave. */
static void check_freed(struct audit_run *run, const struct audit_watched *w, const struct debug_head *head)
{
	struct debug_damage damage;

	if (state_kind(w->state) != OBJECT_INTERNAL || debug_head_next_gen(head) != state_gen(w->state))
		return;
	debug_look_inside_copy(run->a, w->offset, head, &damage);
	if (damage.what)
		note(run, AUDIT_WRITTEN, w, head, &damage);
}

void audit_watched(struct audit_run *run, const struct audit_watched *w)
{
	struct debug_damage damage;
	struct debug_head head;

	if (!debug_head_copy(run->a, w->offset, w->bytes, &head)) {
		note_head(run, w);
		return;
	}
	head.allocated.where[DEBUG_WHERE_BYTES - 1] = 0;
	if (debug_head_is_freed(&head)) {
		check_freed(run, w, &head);
		return;
	}
	if (!kind_is_live(state_kind(w->state)) || head.gen != state_gen(w->state) || head.front != w->front)
		return;
	debug_look_around_copy(run->a, w->offset, w->bytes, &head, &damage);
	if (damage.what)
		note(run, damage.what == DEBUG_OVERRUN ? AUDIT_OVERRUN : AUDIT_UNDERRUN, w, &head, &damage);
}
