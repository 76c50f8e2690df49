/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_arena_check.c - whether an arena is whole. A stale index is shown but is no damage: a death may
 * leave it, and use puts it right. Whether others use the arena meanwhile cannot be known, so the check
 * always takes the time that a live one needs to tell what passes from what stays.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arena_file.h"
#include "audit.h"
#include "reach.h"

/* Findings are kept until all are there: the summary stands above them. */
struct findings {
	struct audit_finding *at;
	size_t count, room;
	size_t damage;
	bool out_of_memory;
};

static void keep(void *context, const struct audit_finding *finding)
{
	struct findings *f = context;

	f->damage += finding->severity == AUDIT_TRUTH;
	if (f->count == f->room) {
		size_t room = f->room ? 2 * f->room : 64;
		struct audit_finding *at = realloc(f->at, room * sizeof(*at));

		if (!at) {
			f->out_of_memory = true;
			return;
		}
		f->at = at;
		f->room = room;
	}
	f->at[f->count++] = *finding;
}

static void print_finding(struct emit *e, const struct audit_finding *f)
{
	emit_row(e);
	emit_string(e, "severity", f->severity == AUDIT_TRUTH ? "damage" : "stale");
	emit_string(e, "what", audit_key(f->what));
	if (f->page == AUDIT_NOWHERE)
		emit_none(e, "page");
	else
		emit_u64(e, "page", f->page);
	if (f->handle)
		emit_hex(e, "handle", f->handle);
	else
		emit_none(e, "handle");
	if (f->client)
		emit_u64(e, "client", f->client);
	else
		emit_none(e, "client");
	emit_string(e, "meaning", audit_meaning(f->what));
	emit_string(e, "detail", f->text);
	emit_row_end(e);
}

static int print(const struct call *call, const char *what, const struct findings *f, uint64_t ns)
{
	static const char *const columns[] = { "severity", "what",    "page",	"handle",
					       "client",   "meaning", "detail", NULL };
	struct emit e;

	emit_begin(&e, stdout, call->json);
	emit_string(&e, "arena", what);
	emit_string(&e, "result",
		    f->damage  ? "damaged"
		    : f->count ? "sound, with stale indexes"
			       : "sound");
	emit_bool(&e, "sound", f->damage == 0);
	emit_u64(&e, "damage", f->damage);
	emit_u64(&e, "stale", f->count - f->damage);
	emit_real(&e, "seconds", (double)ns / 1e9, 3);
	if (f->count || call->json) {
		emit_table(&e, "findings", columns);
		for (size_t i = 0; i < f->count; i++)
			print_finding(&e, &f->at[i]);
		emit_table_end(&e);
	}
	return tool_finish(&e, f->damage ? TOOL_DAMAGE : TOOL_OK);
}

/* What the check itself says, or the tool's way of saying why there was none. */
static int check_path(const char *what, struct findings *f)
{
	char path[512];
	int r = 0;

	if (!reach_is_path(what))
		r = arena_path(path, sizeof(path), what);
	if (!r)
		r = audit_file(reach_is_path(what) ? what : path, true, keep, f);
	if (r >= 0)
		return TOOL_OK;
	if (r == -ENOENT)
		tool_error("%s: no such %s", what, reach_is_path(what) ? "file" : "arena");
	else
		tool_errno(what, r);
	return TOOL_FAILED;
}

static int check_served(const struct call *call, const char *what, struct findings *f)
{
	struct reach r;
	int code = reach_open(call, what, &r), n;

	if (code)
		return code;
	n = audit_arena(&r.arena, true, keep, f);
	reach_close(&r);
	if (n >= 0)
		return TOOL_OK;
	tool_errno(what, n);
	return TOOL_FAILED;
}

int verb_arena_check(const struct call *call)
{
	const char *what = call->argv[0];
	struct findings f = { .at = NULL };
	uint64_t start = tool_monotonic_ns();
	int code = reach_needs_daemon(call, what) ? check_served(call, what, &f)
						  : check_path(what, &f);

	if (!code && f.out_of_memory) {
		tool_errno(what, ENOMEM);
		code = f.damage ? TOOL_DAMAGE : TOOL_FAILED;
	} else if (!code) {
		code = print(call, what, &f, tool_monotonic_ns() - start);
	}
	free(f.at);
	return code;
}
