/* SPDX-License-Identifier: Apache-2.0 */
/* Debug arenas: where a call came from, and to whom what was found is told. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "debug_calls.h"
#include "debug_object.h"
#include "debug_report.h"
#include "profile.h"
#include "profile_binaries.h"

_Static_assert((int)DEBUG_HEAD == SHMA_DEBUG_HEAD && (int)DEBUG_WRITTEN == SHMA_DEBUG_WRITTEN &&
		       (int)DEBUG_DOUBLE_FREE == SHMA_DEBUG_DOUBLE_FREE &&
		       (int)DEBUG_USE_AFTER_FREE == SHMA_DEBUG_USE_AFTER_FREE &&
		       (int)DEBUG_OVERRUN == SHMA_DEBUG_OVERRUN && (int)DEBUG_UNDERRUN == SHMA_DEBUG_UNDERRUN,
	       "findings");
_Static_assert((int)DEBUG_FULL == SHMA_DEBUG_FULL && (int)DEBUG_SAMPLED == SHMA_DEBUG_SAMPLED, "modes");

/* ---- where from ---- */

const char *shma_debug_here(const char *where)
{
	const char *before = debug_caller.here;

	debug_caller.here = where;
	return before;
}

static const char *file_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* A number of profile_stack(), one frame of it, in words: its length. */
static int frame_text(const struct arena *a, const struct profile_stack *stack, uint32_t i, char *to, size_t size)
{
	struct profile_binary binary;
	uint32_t module = stack->modules[i];
	bool known = module != PROFILE_NONE && profile_binary(a, module, &binary);

	return snprintf(to, size, "%.24s+%#" PRIx64, known ? file_of(binary.path) : "?", stack->offsets[i]);
}

/* The end of a path says more than its beginning. */
static void copy_end(struct debug_caller *caller, const char *from, size_t length)
{
	size_t skip = length < sizeof(caller->where) ? 0 : length - sizeof(caller->where) + 1;

	memcpy(caller->where, from + skip, length - skip);
}

/* The stack of the call. Where all is one program, the library's frames cannot be told from its own: then the
 * nearest one outside is not known, and whoever reads the stack leaves them out by name. */
static void locate_by_stack(struct arena *a, struct debug_caller *caller)
{
	uint64_t frames[PROFILE_FRAMES];
	uint32_t count, site;
	uintptr_t nearest;

	if (a->readonly || profile_prepare(a))
		return;
	count = profile_binaries_stack(a, frames, &nearest);
	site = count ? profile_site(a, frames, count) : PROFILE_NONE;
	if (site != PROFILE_NONE)
		caller->site = site + 1;
	if (nearest)
		profile_binaries_text(nearest, caller->where, sizeof(caller->where));
}

static void locate(struct arena *a, struct debug_caller *caller)
{
	size_t length = caller->here ? strlen(caller->here) : 0;

	memset(caller->where, 0, sizeof(caller->where));
	caller->site = 0;
	if (length)
		copy_end(caller, caller->here, length);
	else
		locate_by_stack(a, caller);
}

int shma_debug_stack(shma *s, uint32_t stack, char *text, size_t size)
{
	struct profile_stack calls;
	size_t length = 0;

	if (!s->arena.debug)
		return -EOPNOTSUPP;
	if (!stack || !profile_stack(&s->arena, stack - 1, &calls))
		return -ENOENT;
	if (size)
		*text = '\0';
	for (uint32_t i = 0; i < calls.count && length < size; i++) {
		if (i)
			length += (size_t)snprintf(text + length, size - length, " < ");
		if (length < size)
			length += (size_t)frame_text(&s->arena, &calls, i, text + length, size - length);
	}
	return (int)calls.count;
}

__attribute__((constructor)) static void begin(void)
{
	debug_locate = locate;
}

/* ---- telling ---- */

static void to_point(struct shma_debug_point *to, const struct debug_point *from)
{
	to->time_ns = from->ns;
	to->pid = from->pid;
	to->tid = from->tid;
	to->stack = from->site;
	snprintf(to->where, sizeof(to->where), "%.*s", (int)sizeof(from->where), from->where);
}

static void to_public(struct shma_debug_report *to, struct debug_report *from)
{
	memset(to, 0, sizeof(*to));
	to->what = (int)from->what;
	to->count = atomic_load_explicit(&from->count, memory_order_relaxed);
	to->handle = from->handle;
	to->size = from->size;
	to->at = from->at;
	to->bytes = from->bytes;
	to->call = debug_report_call(from->call);
	to_point(&to->allocated, &from->allocated);
	to_point(&to->freed, &from->released);
	to_point(&to->found, &from->found);
}

int shma_debug_report(shma *s, uint64_t *cursor, struct shma_debug_report *ret)
{
	struct debug_report report;

	if (!s->arena.debug)
		return -EOPNOTSUPP;
	if (!debug_report_next(&s->arena, *cursor, &report))
		return 0;
	*cursor = atomic_load_explicit(&report.ticket, memory_order_relaxed);
	to_public(ret, &report);
	return 1;
}

int shma_debug_handler(shma *s, shma_debug_fn fn, void *context)
{
	if (!s->arena.debug)
		return -EOPNOTSUPP;
	s->debug_context = context;
	/* PAIR(debug-handler): what it is given, then the function. */
	atomic_store_explicit(&s->debug_fn, fn, memory_order_release);
	return 0;
}

/* ---- the log ---- */

static const char *point_where(const struct shma_debug_point *p)
{
	return p->where[0] ? p->where : p->time_ns ? "?" : "-";
}

static void log_report(struct shma *s, const struct shma_debug_report *r)
{
	struct shma_kv kv[] = {
		SHMA_KV_STR("debug", debug_report_key((uint32_t)r->what)),
		SHMA_KV_UINT("handle", r->handle),
		SHMA_KV_UINT("size", r->size),
		SHMA_KV_INT("at", r->at),
		SHMA_KV_UINT("bytes", r->bytes),
		SHMA_KV_STR("call", r->call),
		SHMA_KV_STR("allocated", r->allocated.where),
		SHMA_KV_INT("allocated_pid", r->allocated.pid),
		SHMA_KV_INT("allocated_tid", r->allocated.tid),
		SHMA_KV_UINT("allocated_ns", r->allocated.time_ns),
		SHMA_KV_STR("freed", r->freed.where),
		SHMA_KV_INT("freed_pid", r->freed.pid),
		SHMA_KV_INT("freed_tid", r->freed.tid),
		SHMA_KV_UINT("freed_ns", r->freed.time_ns),
		SHMA_KV_STR("found", r->found.where),
		SHMA_KV_INT("found_pid", r->found.pid),
		SHMA_KV_INT("found_tid", r->found.tid),
		SHMA_KV_UINT("found_ns", r->found.time_ns),
	};
	char text[320];

	snprintf(text, sizeof(text), "%s: allocated at %s by %d, freed at %s by %d, found at %s by %d",
		 debug_report_meaning((uint32_t)r->what), point_where(&r->allocated), (int)r->allocated.pid,
		 point_where(&r->freed), (int)r->freed.pid, point_where(&r->found), (int)r->found.pid);
	shma_log_kv(s, 3, text, kv, sizeof(kv) / sizeof(kv[0]));
}

/* The reports of this call, before anything that it calls may make more. */
__attribute__((noinline, cold)) void debug_calls_tell(struct shma *s)
{
	uint64_t last = debug_caller.ticket, next = last - debug_caller.made;
	int saved = errno;

	debug_caller.made = 0;
	while (next < last) {
		struct shma_debug_report r;
		/* PAIR(debug-handler): as above. */
		shma_debug_fn fn = atomic_load_explicit(&s->debug_fn, memory_order_acquire);

		if (shma_debug_report(s, &next, &r) <= 0 || next > last)
			break;
		if (!s->arena.readonly)
			log_report(s, &r);
		if (fn)
			fn(s, &r, s->debug_context);
	}
	errno = saved;
}

__attribute__((noinline, cold)) void debug_calls_misused(struct shma *s, shma_handle h, enum debug_call call)
{
	int saved = errno;

	debug_object_misused(&s->arena, h, call);
	errno = saved;
}
