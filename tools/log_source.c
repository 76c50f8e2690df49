/* SPDX-License-Identifier: Apache-2.0 */
/* log_source.c - readers of several logs, merged by time. */
#include <errno.h>
#include <stdlib.h>

#include "attach.h"
#include "log_source.h"
#include "reach.h"

#define NS_PER_SECOND UINT64_C(1000000000)
#define TURN_MS	      20 /* that one of several sources is waited for */

/* ---- an arena's ring ---- */

/* Says why there is no reader. */
static int refused(const char *what, const char *position, int r)
{
	if (position && r == -EBUSY)
		tool_error("%s: another process reads at the position %s", what, position);
	else
		tool_errno(position && r != -EUCLEAN ? position : what, r);
	return r == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
}

static int open_ring(const struct call *call, const char *what, const char *position, struct log_source *ret)
{
	int code, r;

	*ret = (struct log_source){ .what = what,
				    .opened_ns = tool_now_ns(),
				    .opened_mono_ns = tool_monotonic_ns() };
	code = reach_attach(call, what, position ? 0 : SHMA_RDONLY, &ret->arena);
	if (code)
		return code;
	log_names_open(&ret->names, &ret->arena->arena);
	if (position)
		r = shma_reader_open_at(ret->arena, &ret->reader, position, SHMA_FROM_OLDEST);
	else
		r = shma_reader_open(ret->arena, &ret->reader, SHMA_FROM_OLDEST);
	return r ? refused(what, position, r) : TOOL_OK;
}

static void close_source(struct log_source *s)
{
	log_names_close(&s->names);
	if (s->reader)
		shma_reader_close(s->reader);
	if (s->arena)
		shma_close(s->arena);
}

const char *log_source_name(struct log_source *s)
{
	return log_names_of(&s->names, s->record.pid);
}

/* A busy log never gets quiet. Records may bear a time to come if the clock was set back, so their time
 * alone says nothing within the first second. */
static bool is_new(const struct log_source *s)
{
	return s->record.time_ns > s->opened_ns &&
	       tool_monotonic_ns() - s->opened_mono_ns > NS_PER_SECOND;
}

/* Gets the next record unless one waits already, if one comes within the time. */
static int fill(struct log_source *s, int timeout_ms, bool snapshot)
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

/* ---- all of them ---- */

int log_sources_open(const struct call *call, const char *position, struct log_sources *ret)
{
	*ret = (struct log_sources){ .at = calloc((size_t)call->argc, sizeof(*ret->at)) };
	if (!ret->at) {
		tool_errno(call->verb->name, ENOMEM);
		return TOOL_FAILED;
	}
	for (int i = 0; i < call->argc; i++) {
		int code = open_ring(call, call->argv[i], position, &ret->at[ret->count++]);

		if (code)
			return code;
	}
	return TOOL_OK;
}

void log_sources_close(struct log_sources *s)
{
	for (size_t i = 0; i < s->count; i++)
		close_source(&s->at[i]);
	free(s->at);
	*s = (struct log_sources){ 0 };
}

void log_sources_resume(struct log_sources *s)
{
	for (size_t i = 0; i < s->count; i++)
		s->at[i].ended = false;
}

static struct log_source *earliest(struct log_sources *s)
{
	struct log_source *first = NULL;

	for (size_t i = 0; i < s->count; i++)
		if (s->at[i].has_record && (!first || s->at[i].record.time_ns < first->record.time_ns))
			first = &s->at[i];
	return first;
}

/* Sources that have nothing are waited for in turn. */
int log_sources_next(struct log_sources *s, int timeout_ms, bool snapshot, struct log_source **ret)
{
	int turn = snapshot ? LOG_QUIET_MS : s->count > 1 ? TURN_MS : timeout_ms;

	*ret = NULL;
	if (turn > timeout_ms && !snapshot)
		turn = timeout_ms;
	do {
		for (size_t i = 0; i < s->count; i++) {
			int code = fill(&s->at[i], earliest(s) && !snapshot ? 0 : turn, snapshot);

			if (code)
				return code;
		}
		*ret = earliest(s);
		timeout_ms -= turn * (int)s->count;
	} while (!*ret && !snapshot && timeout_ms > 0);
	return TOOL_OK;
}
