/* SPDX-License-Identifier: Apache-2.0 */
/* verb_debug.c - what was found in a debug arena: from its own record, whoever is dead by now. */
#include <errno.h>
#include <stdlib.h>

#include "debug_report.h"
#include "reach.h"

static const char *const columns[] = { "report", "what", "count", "handle", "size", "at", "bytes", "by", "meaning",
				       NULL };
static const char *const call_columns[] = { "report", "call", "where", "pid", "tid", "time", NULL };

static uint64_t number_of(const struct debug_report *r)
{
	return atomic_load_explicit(&r->ticket, memory_order_relaxed);
}

static void print_report(struct emit *e, const struct debug_report *r)
{
	const char *call = debug_report_call(r->call);

	emit_row(e);
	emit_u64(e, "report", number_of(r));
	emit_string(e, "what", debug_report_key(r->what));
	emit_u64(e, "count", atomic_load_explicit(&r->count, memory_order_relaxed));
	emit_hex(e, "handle", r->handle);
	emit_u64(e, "size", r->size);
	if (r->bytes) {
		emit_i64(e, "at", r->at);
		emit_u64(e, "bytes", r->bytes);
	} else {
		emit_none(e, "at");
		emit_none(e, "bytes");
	}
	emit_string(e, "by", *call ? call : NULL);
	emit_string(e, "meaning", debug_report_meaning(r->what));
	emit_row_end(e);
}

static void print_point(struct emit *e, const struct debug_report *r, const char *call, const struct debug_point *p)
{
	if (!p->ns)
		return;
	emit_row(e);
	emit_u64(e, "report", number_of(r));
	emit_string(e, "call", call);
	emit_string(e, "where", p->where[0] ? p->where : NULL);
	emit_i64(e, "pid", p->pid);
	emit_i64(e, "tid", p->tid);
	emit_time(e, "time", p->ns);
	emit_row_end(e);
}

static int print(const struct call *call, const struct reach *reach, const struct debug_report *reports, size_t n)
{
	const struct arena *a = &reach->arena;
	struct emit e;

	emit_begin(&e, stdout, call->json);
	emit_string(&e, "arena", reach->name);
	emit_string(&e, "watched", a->debug == DEBUG_FULL ? "all" : "samples");
	if (a->debug == DEBUG_SAMPLED)
		emit_u64(&e, "every", a->debug_every);
	emit_u64(&e, "reports_made", debug_report_count(a));
	emit_table(&e, "reports", columns);
	for (size_t i = 0; i < n; i++)
		print_report(&e, &reports[i]);
	emit_table_end(&e);
	emit_table(&e, "calls", call_columns);
	for (size_t i = 0; i < n; i++) {
		print_point(&e, &reports[i], "allocated", &reports[i].allocated);
		print_point(&e, &reports[i], "freed", &reports[i].released);
		print_point(&e, &reports[i], "found", &reports[i].found);
	}
	emit_table_end(&e);
	return tool_finish(&e, TOOL_OK);
}

static int print_all(const struct call *call, const struct reach *reach)
{
	struct debug_report *reports = calloc(DEBUG_REPORTS, sizeof(*reports));
	uint64_t after = 0;
	size_t n = 0;
	int code;

	if (!reports) {
		tool_errno(call->argv[0], -ENOMEM);
		return TOOL_FAILED;
	}
	while (n < DEBUG_REPORTS && debug_report_next(&reach->arena, after, &reports[n]))
		after = number_of(&reports[n++]);
	code = print(call, reach, reports, n);
	free(reports);
	return code;
}

int verb_debug(const struct call *call)
{
	struct reach r;
	int code = reach_open(call, call->argv[0], &r);

	if (code)
		return code;
	if (r.arena.debug) {
		code = print_all(call, &r);
	} else {
		tool_error("%s: no debug arena: it was made without --debug", call->argv[0]);
		code = TOOL_FAILED;
	}
	reach_close(&r);
	return code;
}
