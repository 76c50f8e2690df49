/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_arena_check.c - whether an arena is whole, and with --repair making it so. A stale index is shown
 * but is no damage: a death may leave it, and use puts it right. Whether others use the arena meanwhile
 * cannot be known, so the check always takes the time that a live one needs to tell what passes from what
 * stays.
 *
 * A repair goes to the file, never through the daemon, which is a client like others: the life locks tell
 * whether anybody is attached. It ends with 0 if the arena is whole afterwards, whatever it was before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arena_file.h"
#include "audit.h"
#include "reach.h"
#include "repair.h"

/* Findings are kept until all are there: the summary stands above them. */
struct findings {
	struct audit_finding *at;
	size_t count, room;
	size_t damage, misuse;
	bool out_of_memory;
};

static void keep(void *context, const struct audit_finding *finding)
{
	struct findings *f = context;

	f->damage += finding->severity == AUDIT_TRUTH;
	f->misuse += finding->severity == AUDIT_MISUSE;
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
	emit_string(e, "severity", f->severity == AUDIT_TRUTH    ? "damage"
				  : f->severity == AUDIT_MISUSE ? "misuse"
								: "stale");
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
		    f->damage	 ? "damaged"
		    : f->misuse	 ? "sound, with misused objects"
		    : f->count	 ? "sound, with stale indexes"
				 : "sound");
	emit_bool(&e, "sound", f->damage == 0);
	emit_u64(&e, "damage", f->damage);
	emit_u64(&e, "misuse", f->misuse);
	emit_u64(&e, "stale", f->count - f->damage - f->misuse);
	emit_real(&e, "seconds", (double)ns / 1e9, 3);
	if (f->count || call->json) {
		emit_table(&e, "findings", columns);
		for (size_t i = 0; i < f->count; i++)
			print_finding(&e, &f->at[i]);
		emit_table_end(&e);
	}
	return tool_finish(&e, f->damage || f->misuse ? TOOL_DAMAGE : TOOL_OK);
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

/* ---- repair ---- */

struct notes {
	struct repair_note *at;
	size_t count, room;
};

/* Both gather what a repair tells while it goes on. */
struct told {
	struct findings findings;
	struct notes notes;
	struct repair_sum sum;
};

static void keep_found(void *context, const struct audit_finding *finding)
{
	struct told *t = context;

	keep(&t->findings, finding);
}

static void keep_note(void *context, const struct repair_note *note)
{
	struct told *t = context;

	if (t->notes.count == t->notes.room) {
		size_t room = t->notes.room ? 2 * t->notes.room : 64;
		struct repair_note *at = realloc(t->notes.at, room * sizeof(*at));

		if (!at) {
			t->findings.out_of_memory = true;
			return;
		}
		t->notes.at = at;
		t->notes.room = room;
	}
	t->notes.at[t->notes.count++] = *note;
}

static void print_note(struct emit *e, const struct repair_note *n)
{
	static const char *const results[] = { "repaired", "lost", "refused" };

	emit_row(e);
	emit_string(e, "result", results[n->result]);
	emit_string(e, "what", repair_key(n->what));
	if (n->page == AUDIT_NOWHERE)
		emit_none(e, "page");
	else
		emit_u64(e, "page", n->page);
	if (n->handle)
		emit_hex(e, "handle", n->handle);
	else
		emit_none(e, "handle");
	emit_u64(e, "objects", n->objects);
	emit_bytes(e, "bytes", n->bytes);
	emit_string(e, "meaning", repair_meaning(n->what));
	emit_string(e, "detail", n->text);
	emit_row_end(e);
}

static const char *outcome(const struct told *t, int err)
{
	if (err)
		return "refused";
	if (t->sum.lost_objects || t->sum.lost_records)
		return "repaired, with losses";
	return t->sum.repaired ? "repaired" : "sound";
}

static int print_repair(const struct call *call, const char *what, const struct told *t, int err,
			uint64_t ns)
{
	static const char *const found[] = { "severity", "what",    "page",   "handle",
					     "client",	 "meaning", "detail", NULL };
	static const char *const notes[] = { "result",	"what",	 "page",    "handle",
					     "objects", "bytes", "meaning", "detail",
					     NULL };
	struct emit e;

	emit_begin(&e, stdout, call->json);
	emit_string(&e, "arena", what);
	emit_string(&e, "result", outcome(t, err));
	emit_bool(&e, "sound", err == 0);
	emit_u64(&e, "damage", t->findings.damage);
	emit_u64(&e, "misuse", t->findings.misuse);
	emit_u64(&e, "stale", t->findings.count - t->findings.damage - t->findings.misuse);
	emit_u64(&e, "repaired", t->sum.repaired);
	emit_u64(&e, "lost_objects", t->sum.lost_objects);
	emit_bytes(&e, "lost_bytes", t->sum.lost_bytes);
	emit_u64(&e, "lost_records", t->sum.lost_records);
	emit_u64(&e, "kept_objects", t->sum.kept_objects);
	emit_bytes(&e, "kept_bytes", t->sum.kept_bytes);
	emit_u64(&e, "returned_objects", t->sum.returned_objects);
	emit_bytes(&e, "returned_bytes", t->sum.returned_bytes);
	emit_real(&e, "seconds", (double)ns / 1e9, 3);
	if (t->findings.count || call->json) {
		emit_table(&e, "findings", found);
		for (size_t i = 0; i < t->findings.count; i++)
			print_finding(&e, &t->findings.at[i]);
		emit_table_end(&e);
	}
	if (t->notes.count || call->json) {
		emit_table(&e, "repairs", notes);
		for (size_t i = 0; i < t->notes.count; i++)
			print_note(&e, &t->notes.at[i]);
		emit_table_end(&e);
	}
	return tool_finish(&e, err ? TOOL_DAMAGE : TOOL_OK);
}

/* What is said where nothing was done. */
static int explain_repair(const char *what, const struct told *t, int err)
{
	const char *why = t->notes.count ? t->notes.at[t->notes.count - 1].text : "";

	switch (err) {
	case -EBUSY:
		tool_error("%s: %s: %s", what, repair_meaning(REPAIR_ATTACHED), why);
		break;
	case -ENOENT:
		tool_error(reach_is_path(what)
				   ? "%s: no such file"
				   : "%s: no such arena in /dev/shm; one without a name there "
				     "lives as long as somebody is attached, and no repair can be alone with it",
			   what);
		break;
	case -EINVAL:
		tool_error("%s: not a regular file, nor a name of an arena", what);
		break;
	case -ENOMEM:
		tool_error("%s: no memory, or no room in its file system: what is touched must be there",
			   what);
		break;
	default: tool_errno(what, err);
	}
	return TOOL_FAILED;
}

static int repair_path(const char *what, struct told *t)
{
	struct repair_watch watch = { .found = keep_found, .note = keep_note, .context = t };
	char path[512];
	int r = 0;

	if (!reach_is_path(what))
		r = arena_path(path, sizeof(path), what);
	return r ? r : repair_file(reach_is_path(what) ? what : path, &watch, &t->sum);
}

static int repair(const struct call *call)
{
	const char *what = call->argv[0];
	struct told t = { .sum = { 0 } };
	uint64_t start = tool_monotonic_ns();
	int r = repair_path(what, &t), code;

	if (!r || r == -EUCLEAN)
		code = print_repair(call, what, &t, r, tool_monotonic_ns() - start);
	else
		code = explain_repair(what, &t, r);
	if (t.findings.out_of_memory)
		tool_error("%s: no memory for all that was found", what);
	free(t.findings.at);
	free(t.notes.at);
	return code;
}

static int check(const struct call *call)
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

int verb_arena_check(const struct call *call)
{
	return call_option(call, "repair") ? repair(call) : check(call);
}
