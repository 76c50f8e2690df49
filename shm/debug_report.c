/* SPDX-License-Identifier: Apache-2.0 */
#include "debug_report.h"

#include <string.h>


#define SUMMED_FROM offsetof(struct debug_report, handle)
#define SUMMED_TO   sizeof(struct debug_report)

static const struct {
	const char *key, *meaning;
} table[DEBUG_WHATS] = {
	[DEBUG_NOTHING] = { "nothing", "nothing" },
	[DEBUG_DOUBLE_FREE] = { "double-free", "an object was freed a second time" },
	[DEBUG_USE_AFTER_FREE] = { "use-after-free", "the handle of a freed object was used" },
	[DEBUG_OVERRUN] = { "overrun", "bytes behind an object were overwritten" },
	[DEBUG_UNDERRUN] = { "underrun", "bytes before an object were overwritten" },
	[DEBUG_WRITTEN] = { "written-after-free", "a freed object's bytes were overwritten" },
	[DEBUG_HEAD] = { "head", "what is kept before an object was overwritten" },
};

static const char *const calls[DEBUG_CALLS] = {
	"", "shma_free", "shma_ptr", "shma_read", "shma_size", "shma_resize", "shma_share", "shma_take",
	"shma_persist", "shma_publish", "shma_retain", "shma_release",
};

const char *debug_report_key(uint32_t what)
{
	return what < DEBUG_WHATS ? table[what].key : "unknown";
}

const char *debug_report_meaning(uint32_t what)
{
	return what < DEBUG_WHATS ? table[what].meaning : "unknown";
}

const char *debug_report_call(uint32_t call)
{
	return call < DEBUG_CALLS ? calls[call] : "unknown";
}

static struct debug_area *area_of(const struct arena *a)
{
	return arena_at(a, a->g.debug);
}

static uint64_t sum_of(const struct debug_report *r)
{
	return debug_sum(DEBUG_SUM ^ r->what, (const char *)r + SUMMED_FROM, SUMMED_TO - SUMMED_FROM);
}

/* What was as it is when the ticket was read, and after: PAIR(debug-report). */
static bool copy_out(struct debug_report *from, struct debug_report *to)
{
	uint64_t ticket = atomic_load_explicit(&from->ticket, memory_order_acquire);

	if (!ticket)
		return false;
	memcpy(to, from, sizeof(*to));
	atomic_thread_fence(memory_order_acquire);
	to->allocated.where[DEBUG_WHERE_BYTES - 1] = 0;
	to->released.where[DEBUG_WHERE_BYTES - 1] = 0;
	to->found.where[DEBUG_WHERE_BYTES - 1] = 0;
	return atomic_load_explicit(&from->ticket, memory_order_relaxed) == ticket && to->sum == sum_of(to);
}

/* Whoever misuses a handle in a loop says one thing. */
static bool count_same(struct debug_area *area, const struct debug_report *report)
{
	struct debug_report seen;

	for (uint32_t i = 0; i < DEBUG_REPORTS; i++) {
		struct debug_report *r = &area->reports[i];

		if (!atomic_load_explicit(&r->ticket, memory_order_relaxed) || r->handle != report->handle ||
		    !copy_out(r, &seen))
			continue;
		if (seen.what != report->what || seen.call != report->call || seen.at != report->at ||
		    seen.found.pid != report->found.pid)
			continue;
		atomic_fetch_add_explicit(&r->count, 1, memory_order_relaxed);
		return true;
	}
	return false;
}

void debug_report_put(struct arena *a, struct debug_report *report)
{
	struct debug_area *area = area_of(a);
	struct debug_report *to;
	uint64_t ticket;

	if (a->readonly)
		return;
	debug_point_make(a, &report->found);
	if (count_same(area, report))
		return;
	ticket = atomic_fetch_add_explicit(&area->tickets, 1, memory_order_relaxed) + 1;
	to = &area->reports[(ticket - 1) % DEBUG_REPORTS];
	report->sum = sum_of(report);
	/* Crash: before, an older report; from here to the end none, its ticket lost. Two that write one place, 127
	 * reports apart, leave what the sum does not fit. */
	atomic_store_explicit(&to->ticket, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	memcpy((char *)to + offsetof(struct debug_report, what), &report->what,
	       sizeof(*to) - offsetof(struct debug_report, what));
	atomic_store_explicit(&to->count, 1, memory_order_relaxed);
	/* PAIR(debug-report): all of it, then the ticket. Crash: before, none; after, this one. */
	atomic_store_explicit(&to->ticket, ticket, memory_order_release);
	debug_caller.made++;
	debug_caller.ticket = ticket;
}

bool debug_report_next(const struct arena *a, uint64_t after, struct debug_report *ret)
{
	struct debug_area *area = area_of(a);
	struct debug_report seen;
	bool found = false;

	for (uint32_t i = 0; i < DEBUG_REPORTS; i++) {
		if (!copy_out(&area->reports[i], &seen) || atomic_load(&seen.ticket) <= after)
			continue;
		if (found && atomic_load(&seen.ticket) >= atomic_load(&ret->ticket))
			continue;
		memcpy(ret, &seen, sizeof(*ret));
		found = true;
	}
	return found;
}

uint64_t debug_report_count(const struct arena *a)
{
	return atomic_load_explicit(&area_of(a)->tickets, memory_order_relaxed);
}
