/* SPDX-License-Identifier: Apache-2.0 */
/* verb_log_tail.c - the last records of a log, and those to come. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log_read.h"
#include "parse.h"

#define LINES_DEFAULT 10
#define LINES_MAX     (1u << 24)
#define FOLLOW_MS     1000

/* The last records, each with its data copied: the reader's own is good until its next call only. */
struct last {
	struct shma_record *at;
	uint64_t wanted, room, count; /* count: of all there were */
};

static int last_add(struct last *l, const struct shma_record *r)
{
	struct shma_record copy = *r, *slot;

	if (!l->wanted)
		return 0;
	if (l->count < l->wanted && l->count == l->room) {
		uint64_t room = l->room ? 2 * l->room : 64;
		struct shma_record *at = realloc(l->at, (size_t)room * sizeof(*at));

		if (!at)
			return -ENOMEM;
		memset(at + l->room, 0, (size_t)(room - l->room) * sizeof(*at));
		l->at = at;
		l->room = room;
	}
	slot = &l->at[l->count % l->wanted];
	copy.data = malloc(r->len ? r->len : 1);
	if (!copy.data)
		return -ENOMEM;
	if (r->len)
		memcpy(copy.data, r->data, r->len);
	if (l->count >= l->wanted) {
		free(slot->data);
	}
	*slot = copy;
	l->count++;
	return 0;
}

static void last_free(struct last *l)
{
	for (uint64_t i = 0; i < l->count && i < l->wanted; i++)
		free(l->at[i].data);
	free(l->at);
}

/* Reads what is there so far. */
static int gather(struct log_source *s, struct last *l)
{
	for (;;) {
		int code = log_source_fill(s, LOG_QUIET_MS, true);

		if (code || !s->has_record)
			return code;
		if (last_add(l, &s->record)) {
			tool_errno(s->what, ENOMEM);
			return TOOL_FAILED;
		}
		s->has_record = false;
	}
}

/* Losses before the first record shown are those of the ring's age: of no interest in its last lines. */
static int print_last(struct emit *e, const struct last *l)
{
	uint64_t first = l->count > l->wanted ? l->count - l->wanted : 0;

	for (uint64_t i = first; i < l->count; i++) {
		const struct shma_record *r = &l->at[i % l->wanted];
		int code = log_print(e, r, NULL, i == first ? 0 : r->lost);

		if (code)
			return code;
	}
	return TOOL_OK;
}

/* Prints whatever comes, and flushes when nothing does for a moment. Ends by an error or a signal. */
static int follow(struct emit *e, struct log_source *s)
{
	int timeout_ms = 0;

	s->ended = false;
	for (;;) {
		int code = log_source_fill(s, timeout_ms, false);

		if (!code && s->has_record)
			code = log_print(e, &s->record, NULL, s->lost);
		if (code)
			return code;
		if (!s->has_record && fflush(e->out)) {
			tool_error("cannot write: %s", strerror(errno));
			return TOOL_FAILED;
		}
		timeout_ms = s->has_record ? 0 : FOLLOW_MS;
		if (s->has_record)
			s->lost = 0;
		s->has_record = false;
	}
}

int verb_log_tail(const struct call *call)
{
	const char *lines = call_option(call, "lines");
	struct last l = { .wanted = LINES_DEFAULT };
	struct log_source s;
	struct emit e;
	int code, r;

	r = lines ? parse_number(lines, 0, LINES_MAX, &l.wanted) : 0;
	if (r)
		return tool_bad_value(call, "lines", r);
	code = log_source_open(call, call->argv[0], &s);
	if (code)
		return code;
	emit_begin_stream(&e, stdout, call->json);
	code = gather(&s, &l);
	if (!code)
		code = print_last(&e, &l);
	s.lost = 0;
	if (!code && call_option(call, "follow"))
		code = follow(&e, &s);
	code = log_print_end(&e, 0, code);
	last_free(&l);
	log_source_close(&s);
	return code;
}
