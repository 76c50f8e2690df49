/* SPDX-License-Identifier: Apache-2.0 */
/* log_read.c - log records, from an attachment's reader to the emitter. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "log_read.h"
#include "parse.h"
#include "reach.h"

#define NS_PER_SECOND UINT64_C(1000000000)

int log_source_open(const struct call *call, const char *what, struct log_source *ret)
{
	int code, r;

	*ret = (struct log_source){ .what = what,
				    .opened_ns = tool_now_ns(),
				    .opened_mono_ns = tool_monotonic_ns() };
	code = reach_attach(call, what, SHMA_RDONLY, &ret->arena);
	if (code)
		return code;
	r = shma_reader_open(ret->arena, &ret->reader, SHMA_FROM_OLDEST);
	if (!r)
		return TOOL_OK;
	tool_errno(what, r);
	shma_close(ret->arena);
	ret->arena = NULL;
	return r == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
}

void log_source_close(struct log_source *s)
{
	if (s->reader)
		shma_reader_close(s->reader);
	if (s->arena)
		shma_close(s->arena);
	s->reader = NULL;
	s->arena = NULL;
}

/* A busy log never gets quiet. Records may bear a time to come if the clock was set back, so their time
 * alone says nothing within the first second. */
static bool is_new(const struct log_source *s)
{
	return s->record.time_ns > s->opened_ns &&
	       tool_monotonic_ns() - s->opened_mono_ns > NS_PER_SECOND;
}

int log_source_fill(struct log_source *s, int timeout_ms, bool snapshot)
{
	int r;

	if (s->has_record || s->ended)
		return TOOL_OK;
	r = shma_reader_next(s->reader, &s->record, timeout_ms);
	if (r < 0) {
		tool_errno(s->what, r);
		return r == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
	}
	if (r > 0) {
		s->lost += s->record.lost;
		s->has_record = true;
	}
	if (snapshot && (r == 0 || is_new(s)))
		s->ended = true;
	return TOOL_OK;
}

/* Records may hold zero bytes, hence REG_STARTEND; the copy with one behind it is for matchers that look
 * for the end all the same. */
static bool regex_matches(struct log_filter *f, const struct shma_record *r)
{
	regmatch_t range = { 0, (regoff_t)r->len };

	if (r->len >= f->text_room) {
		size_t room = r->len + 1;
		char *text = realloc(f->text, room);

		if (!text)
			return true; /* rather one record too many than one too few */
		f->text = text;
		f->text_room = room;
	}
	if (r->len)
		memcpy(f->text, r->data, r->len);
	f->text[r->len] = 0;
	return regexec(&f->regex, f->text, 1, &range, REG_STARTEND) == 0;
}

bool log_filter_matches(struct log_filter *f, const struct shma_record *r)
{
	if (r->time_ns < f->since_ns || r->time_ns > f->until_ns)
		return false;
	if (r->level > f->level || (f->pid >= 0 && r->pid != f->pid))
		return false;
	return !f->has_regex || regex_matches(f, r);
}

void log_filter_free(struct log_filter *f)
{
	if (f->has_regex)
		regfree(&f->regex);
	free(f->text);
}

static void print_lost(struct emit *e, uint64_t lost)
{
	char text[64];

	snprintf(text, sizeof(text), "-- %" PRIu64 " record%s lost --", lost, lost == 1 ? "" : "s");
	emit_record(e);
	emit_string(e, "lost", text);
	emit_record_end(e);
}

/* All there is to say, for programs. */
static void json_fields(struct emit *e, const struct shma_record *r, uint64_t lost)
{
	emit_i64(e, "level", r->level);
	emit_string(e, "level_name", parse_level_name(r->level));
	emit_i64(e, "pid", r->pid);
	emit_i64(e, "tid", r->tid);
	emit_u64(e, "seq", r->seq);
	emit_u64(e, "lost", lost);
	emit_bool(e, "late", r->late != 0);
}

static void text_fields(struct emit *e, const struct shma_record *r)
{
	char writer[48];

	if (r->tid == r->pid)
		snprintf(writer, sizeof(writer), "%d", (int)r->pid);
	else
		snprintf(writer, sizeof(writer), "%d/%d", (int)r->pid, (int)r->tid);
	emit_string(e, "level", parse_level_name(r->level));
	emit_string(e, "writer", writer);
	if (r->late)
		emit_string(e, "late", "(late)");
}

int log_print(struct emit *e, const struct shma_record *r, const char *arena, uint64_t lost)
{
	int err;

	if (lost && !e->json)
		print_lost(e, lost);
	emit_record(e);
	if (arena)
		emit_string(e, "arena", arena);
	emit_time(e, "time", r->time_ns);
	if (e->json)
		json_fields(e, r, lost);
	else
		text_fields(e, r);
	emit_data(e, "data", r->data ? r->data : "", r->len);
	err = emit_record_end(e);
	if (!err)
		return TOOL_OK;
	tool_error("cannot write: %s", strerror(-err));
	return TOOL_FAILED;
}

int log_print_end(struct emit *e, uint64_t lost, int code)
{
	int err = emit_end(e);

	if (lost)
		tool_error("%" PRIu64 " more record%s lost", lost, lost == 1 ? "" : "s");
	if (err && code == TOOL_OK) {
		tool_error("cannot write: %s", strerror(-err));
		return TOOL_FAILED;
	}
	return code;
}
