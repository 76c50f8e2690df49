/* SPDX-License-Identifier: Apache-2.0 */
/* verb_debug.c - what was found in a debug arena: from its own record, whoever is dead by now. */
#include <errno.h>
#include <stdlib.h>

#include "debug_report.h"
#include "profile_sites.h"
#include "reach.h"

static const char *const columns[] = { "report", "what", "count", "handle", "size", "at", "bytes", "by", "meaning",
				       NULL };
static const char *const call_columns[] = { "report", "call", "where", "pid", "tid", "time", "stack", NULL };

struct look {
	const struct arena *arena;
	struct symbols *symbols; /* NULL: no memory for names */
};

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

/* Where nobody has said it: the nearest call. */
static void print_where(struct emit *e, const struct debug_point *p, const struct profile_place *stack)
{
	const struct profile_call *call = stack->count ? &stack->calls[0] : NULL;
	char *text = NULL;

	if (call && call->symbol.file && asprintf(&text, "%s:%d", call->symbol.file, call->symbol.line) < 0)
		text = NULL;
	emit_string(e, "where", text ? text : p->where[0] ? p->where : call ? call->name : NULL);
	free(text);
}

static void print_stack(struct emit *e, const struct profile_place *stack)
{
	char *text = stack->count ? profile_place_text(stack, false) : NULL;

	emit_string(e, "stack", text);
	free(text);
}

static void print_point(struct emit *e, const struct look *look, const struct debug_report *r, const char *call,
			const struct debug_point *p)
{
	struct profile_place stack = { .site = p->site - 1 };

	if (!p->ns)
		return;
	if (p->site && look->symbols && profile_place_read(look->arena, look->symbols, &stack))
		stack.count = 0;
	emit_row(e);
	emit_u64(e, "report", number_of(r));
	emit_string(e, "call", call);
	print_where(e, p, &stack);
	emit_i64(e, "pid", p->pid);
	emit_i64(e, "tid", p->tid);
	emit_time(e, "time", p->ns);
	print_stack(e, &stack);
	emit_row_end(e);
	profile_place_free(&stack);
}

static int print(const struct call *call, const struct reach *reach, const struct debug_report *reports, size_t n)
{
	const struct arena *a = &reach->arena;
	struct look look = { a, symbols_open() };
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
		print_point(&e, &look, &reports[i], "allocated", &reports[i].allocated);
		print_point(&e, &look, &reports[i], "freed", &reports[i].released);
		print_point(&e, &look, &reports[i], "found", &reports[i].found);
	}
	emit_table_end(&e);
	symbols_close(look.symbols);
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
