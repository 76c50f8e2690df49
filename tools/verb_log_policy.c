/* SPDX-License-Identifier: Apache-2.0 */
/* verb_log_policy.c - the terms of a log that can be changed while it is written: asked for, or set. */
#include <errno.h>
#include <string.h>

#include "reach.h"

struct term {
	const char *key; /* in the output */
	int (*call)(shma *, int);
	const char *(*name)(uint32_t);
	int count;
};

static int parse(const struct term *term, const char *text, int *ret)
{
	for (*ret = 0; *ret < term->count; ++*ret)
		if (!strcmp(text, term->name((uint32_t)*ret)))
			return 0;
	return -EINVAL;
}

static int print(const struct call *call, const struct term *term, int value)
{
	struct emit e;

	emit_begin(&e, stdout, call->json);
	emit_string(&e, "name", call->argv[0]);
	emit_string(&e, term->key, term->name((uint32_t)value));
	return tool_finish(&e, TOOL_OK);
}

static int ask_or_set(const struct call *call, const struct term *term)
{
	int value = -1, code, before;
	shma *arena;

	if (call->argc > 1 && parse(term, call->argv[1], &value)) {
		tool_error("%s: not one of this log's choices", call->argv[1]);
		return TOOL_USAGE;
	}
	code = reach_attach(call, call->argv[0], value < 0 ? SHMA_RDONLY : 0, &arena);
	if (code)
		return code;
	before = term->call(arena, value);
	shma_close(arena);
	if (before < 0) {
		tool_errno(call->argv[0], before);
		return before == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
	}
	return value < 0 ? print(call, term, before) : TOOL_OK;
}

int verb_log_policy(const struct call *call)
{
	static const struct term term = { "log_policy", shma_log_policy, reach_policy_name,
					  SHMA_LOG_BLOCK + 1 };

	return ask_or_set(call, &term);
}

int verb_log_clock(const struct call *call)
{
	static const struct term term = { "log_clock", shma_log_clock, reach_clock_name,
					  SHMA_LOG_COARSE + 1 };

	return ask_or_set(call, &term);
}
