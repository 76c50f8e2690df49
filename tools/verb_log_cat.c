/* SPDX-License-Identifier: Apache-2.0 */
/* verb_log_cat.c - all records that match, of several logs merged by time. */
#include <errno.h>
#include <stdlib.h>

#include "log_read.h"
#include "parse.h"

static int parse_when(const struct call *call, const char *option, uint64_t now_ns, uint64_t *ret)
{
	const char *value = call_option(call, option);
	int r = value ? parse_time(value, now_ns, ret) : 0;

	return r ? tool_bad_value(call, option, r) : TOOL_OK;
}

static int parse_regex(const struct call *call, struct log_filter *f)
{
	const char *value = call_option(call, "grep");
	char why[128];
	int r;

	if (!value)
		return TOOL_OK;
	r = regcomp(&f->regex, value, REG_EXTENDED);
	if (r) {
		regerror(r, &f->regex, why, sizeof(why));
		tool_error("log cat: --grep %s: %s", value, why);
		return TOOL_USAGE;
	}
	f->has_regex = true;
	return TOOL_OK;
}

static int parse_filter(const struct call *call, struct log_filter *f)
{
	const char *level = call_option(call, "level"), *client = call_option(call, "client");
	uint64_t now_ns = tool_now_ns(), pid;
	int code, r;

	*f = (struct log_filter){ .until_ns = UINT64_MAX, .level = 7, .pid = -1 };
	code = parse_when(call, "since", now_ns, &f->since_ns);
	if (!code)
		code = parse_when(call, "until", now_ns, &f->until_ns);
	if (code)
		return code;
	r = level ? parse_level(level, &f->level) : 0;
	if (r)
		return tool_bad_value(call, "level", r);
	if (client) {
		r = parse_number(client, 1, INT32_MAX, &pid);
		if (r)
			return tool_bad_value(call, "client", r);
		f->pid = (int64_t)pid;
	}
	return parse_regex(call, f);
}

/* The source of the earliest record that waits, NULL: none does any more. */
static int earliest(struct log_source *sources, int count, struct log_source **ret)
{
	*ret = NULL;
	for (int i = 0; i < count; i++) {
		struct log_source *s = &sources[i];
		int code = log_source_fill(s, LOG_QUIET_MS, true);

		if (code)
			return code;
		if (s->has_record && (!*ret || s->record.time_ns < (*ret)->record.time_ns))
			*ret = s;
	}
	return TOOL_OK;
}

static int print_all(struct emit *e, struct log_source *sources, int count, struct log_filter *f)
{
	for (;;) {
		struct log_source *s;
		int code = earliest(sources, count, &s);

		if (code || !s)
			return code;
		if (log_filter_matches(f, &s->record)) {
			code = log_print(e, &s->record, e->json || count > 1 ? s->what : NULL,
					 s->lost);
			if (code)
				return code;
			s->lost = 0;
		}
		s->has_record = false;
	}
}

static int cat(const struct call *call, struct log_source *sources, struct log_filter *f)
{
	struct emit e;
	uint64_t lost = 0;
	int code;

	for (int i = 0; i < call->argc; i++) {
		code = log_source_open(call, call->argv[i], &sources[i]);
		if (code)
			return code;
	}
	emit_begin_stream(&e, stdout, call->json);
	code = print_all(&e, sources, call->argc, f);
	for (int i = 0; i < call->argc; i++)
		lost += sources[i].lost;
	return log_print_end(&e, lost, code);
}

int verb_log_cat(const struct call *call)
{
	struct log_filter filter;
	struct log_source *sources;
	int code = parse_filter(call, &filter);

	if (code)
		return code;
	sources = calloc((size_t)call->argc, sizeof(*sources));
	if (sources) {
		code = cat(call, sources, &filter);
	} else {
		tool_errno("log cat", ENOMEM);
		code = TOOL_FAILED;
	}
	for (int i = 0; sources && i < call->argc; i++)
		log_source_close(&sources[i]);
	free(sources);
	log_filter_free(&filter);
	return code;
}
