/* SPDX-License-Identifier: Apache-2.0 */
/* log_query.c - a query from its options to its last line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log_filter.h"
#include "log_query.h"
#include "log_show.h"
#include "log_source.h"
#include "parse.h"

#define LINES_MAX (1u << 24)
#define FOLLOW_MS 1000
#define FIRST_WINDOW_NS UINT64_C(60000000000)
#define LAST_WINDOW_NS	(UINT64_C(86400000000000) * 60)
#define WINDOW_GROWTH	16
#define LATE_NS	  UINT64_C(1000000000) /* records of a time that is over may come for this long */

struct query {
	struct log_filter filter;
	struct log_look look;
	struct log_sources sources;
	struct emit emit;
	uint64_t lines; /* the last so many */
	bool follow;
	bool names; /* are asked for */
	const char *position; /* NULL: none is kept */
};

/* ---- options ---- */

static bool on_terminal(void)
{
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

	return isatty(STDOUT_FILENO) && !(no_color && *no_color) && term && strcmp(term, "dumb");
}

static int parse_color(const struct call *call, bool *color)
{
	const char *value = call_option(call, "color");

	if (!value || !strcmp(value, "auto"))
		*color = !call->json && on_terminal();
	else if (!strcmp(value, "always"))
		*color = true;
	else if (!strcmp(value, "never"))
		*color = false;
	else
		return tool_bad_value(call, "color", -EINVAL);
	return TOOL_OK;
}

/* All that the position has not seen is shown, then: nothing is passed over. */
static int parse_position(const struct call *call, struct query *q)
{
	if (!q->position)
		return TOOL_OK;
	if (call->argc > 1 || call_option(call, "lines")) {
		tool_error("%s: --position is of one log, and shows all since", call->verb->name);
		return TOOL_USAGE;
	}
	q->lines = LOG_LINES_ALL;
	return TOOL_OK;
}

static int parse_query(const struct call *call, uint64_t lines, struct query *q)
{
	const char *value = call_option(call, "lines");
	int code, r;

	q->lines = lines;
	r = value ? parse_number(value, 0, LINES_MAX, &q->lines) : 0;
	if (r)
		return tool_bad_value(call, "lines", r);
	q->follow = call_option(call, "follow") != NULL;
	code = parse_position(call, q);
	if (code)
		return code;
	/* Before times are parsed, which are then of that zone, too. */
	if (call_option(call, "utc"))
		setenv("TZ", "UTC0", 1);
	code = log_filter_parse(call, &q->filter);
	if (!code)
		code = parse_color(call, &q->look.color);
	q->look.arenas = call->argc > 1;
	q->names = call->json || log_filter_by_name(&q->filter);
	return code;
}

/* ---- the last records, each with its data copied: the reader's own is good until its next call only ---- */

struct kept {
	struct shma_record record;
	const char *what;
	char name[32];
	bool named;
};

struct last {
	struct kept *at;
	uint64_t wanted, room, count; /* count: of all there were */
};

static int last_grow(struct last *l)
{
	uint64_t room = l->room ? 2 * l->room : 64;
	struct kept *at = realloc(l->at, (size_t)room * sizeof(*at));

	if (!at)
		return -ENOMEM;
	memset(at + l->room, 0, (size_t)(room - l->room) * sizeof(*at));
	l->at = at;
	l->room = room;
	return 0;
}

static int last_add(struct last *l, const struct log_source *s, const char *name)
{
	const struct shma_record *r = &s->record;
	struct kept *slot;
	void *data;

	if (!l->wanted)
		return 0;
	if (l->count < l->wanted && l->count == l->room && last_grow(l))
		return -ENOMEM;
	data = malloc(r->len ? r->len : 1);
	if (!data)
		return -ENOMEM;
	if (r->len)
		memcpy(data, r->data, r->len);
	slot = &l->at[l->count % l->wanted];
	if (l->count >= l->wanted)
		free(slot->record.data);
	*slot = (struct kept){ .record = *r, .what = s->what, .named = name != NULL };
	slot->record.data = data;
	slot->record.lost = s->lost;
	snprintf(slot->name, sizeof(slot->name), "%s", name ? name : "");
	l->count++;
	return 0;
}

static void last_free(struct last *l)
{
	for (uint64_t i = 0; i < l->count && i < l->wanted; i++)
		free(l->at[i].record.data);
	free(l->at);
}

/* Losses before the first record shown are of no interest in the last lines. */
static int last_show(struct query *q, const struct last *l)
{
	uint64_t first = l->count > l->wanted ? l->count - l->wanted : 0;

	for (uint64_t i = first; i < l->count; i++) {
		const struct kept *k = &l->at[i % l->wanted];
		int code = log_show(&q->emit, &q->look, &k->record, k->what,
				    k->named ? k->name : NULL, i == first ? 0 : k->record.lost);

		if (code)
			return code;
	}
	return TOOL_OK;
}

/* ---- records as they come ---- */

/* Whether the record that waits is asked for; what its program is called goes to *name. */
static bool matches(struct query *q, struct log_source *s, const char **name)
{
	*name = q->names ? log_source_name(s) : NULL;
	return log_filter_matches(&q->filter, &s->record, *name);
}

static int show(struct query *q, struct log_source *s)
{
	const char *name;
	int code = TOOL_OK;

	if (matches(q, s, &name)) {
		code = log_show(&q->emit, &q->look, &s->record, s->what, name, s->lost);
		s->lost = 0;
	}
	/* The next one is asked for when this one is out: then it is done with. */
	if (!code && q->position && fflush(q->emit.out)) {
		tool_error("cannot write: %s", strerror(errno));
		code = TOOL_FAILED;
	}
	s->has_record = false;
	return code;
}

static int show_all(struct query *q)
{
	for (;;) {
		struct log_source *s;
		int code = log_sources_next(&q->sources, 0, true, &s);

		if (!code && s)
			code = show(q, s);
		if (code || !s)
			return code;
	}
}

static int gather(struct query *q, struct last *l)
{
	for (;;) {
		struct log_source *s;
		const char *name;
		int code = log_sources_next(&q->sources, 0, true, &s);

		if (code || !s)
			return code;
		if (matches(q, s, &name)) {
			if (last_add(l, s, name)) {
				tool_errno(s->what, ENOMEM);
				return TOOL_FAILED;
			}
			s->lost = 0;
		}
		s->has_record = false;
	}
}

/* Segments may be many times what is asked for: first those of the last minute are looked at, then more. */
static int gather_back(const struct call *call, struct query *q, struct last *l)
{
	uint64_t since_ns = q->filter.since_ns, now_ns = tool_now_ns(), window_ns = FIRST_WINDOW_NS;
	uint64_t until_ns = q->filter.until_ns < now_ns ? q->filter.until_ns : now_ns;
	int code;

	for (;; window_ns *= WINDOW_GROWTH) {
		bool whole = !q->sources.segments || window_ns > LAST_WINDOW_NS || window_ns > until_ns ||
			     until_ns - window_ns <= since_ns;

		q->filter.since_ns = whole ? since_ns : until_ns - window_ns;
		log_sources_close(&q->sources);
		code = log_sources_open(call, &q->filter, q->position, &q->sources);
		if (!code)
			code = gather(q, l);
		if (code || whole || l->count >= l->wanted)
			break;
		last_free(l);
		*l = (struct last){ .wanted = q->lines };
	}
	q->filter.since_ns = since_ns;
	return code;
}

static int show_last(const struct call *call, struct query *q)
{
	struct last l = { .wanted = q->lines };
	int code = q->sources.segments ? gather_back(call, q, &l) : gather(q, &l);

	if (!code)
		code = last_show(q, &l);
	last_free(&l);
	for (size_t i = 0; i < q->sources.count; i++)
		q->sources.at[i].lost = 0;
	return code;
}

static bool is_over(const struct query *q)
{
	return q->filter.until_ns < UINT64_MAX - LATE_NS && tool_now_ns() > q->filter.until_ns + LATE_NS;
}

/* Shows whatever comes, and flushes when nothing does for a moment. Ends by an error, a signal, or --until. */
static int follow(struct query *q)
{
	int timeout_ms = 0;

	log_sources_resume(&q->sources);
	while (!is_over(q)) {
		struct log_source *s;
		int code = log_sources_next(&q->sources, timeout_ms, false, &s);

		if (!code && s)
			code = show(q, s);
		if (code)
			return code;
		if (!s && fflush(q->emit.out)) {
			tool_error("cannot write: %s", strerror(errno));
			return TOOL_FAILED;
		}
		timeout_ms = s ? 0 : FOLLOW_MS;
	}
	return TOOL_OK;
}

static int run(const struct call *call, struct query *q)
{
	uint64_t lost = 0;
	int code = log_sources_open(call, &q->filter, q->position, &q->sources);

	if (code)
		return code;
	emit_begin_stream(&q->emit, stdout, call->json);
	q->emit.utc = call_option(call, "utc") != NULL;
	code = q->lines == LOG_LINES_ALL ? show_all(q) : show_last(call, q);
	if (!code && q->follow)
		code = follow(q);
	for (size_t i = 0; i < q->sources.count; i++)
		lost += q->sources.at[i].lost;
	return log_show_end(&q->emit, lost, code);
}

int log_query_run(const struct call *call, uint64_t lines, const char *position)
{
	struct query q = { .position = position };
	int code = parse_query(call, lines, &q);

	if (!code)
		code = run(call, &q);
	log_sources_close(&q.sources);
	log_filter_free(&q.filter);
	return code;
}
