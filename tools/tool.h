/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool.h - what the verbs share: the table they stand in, how they are called, how they end.
 *
 * verbs.c holds the one table. Usage, "help", option parsing and the manual page's list of verbs come
 * from it; a verb asks for its options by the names that stand there.
 */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <stdbool.h>

#include "emit.h"

enum tool_exit {
	TOOL_OK = 0,
	TOOL_FAILED = 1,
	TOOL_USAGE = 2,
	TOOL_NO_DAEMON = 3,
	TOOL_DAMAGE = 4
};

struct verb_option {
	const char *name; /* without dashes; NULL ends a list */
	char letter;	  /* 0: none */
	const char *arg;  /* what stands for its value, NULL: takes none; in brackets: a path, which may lack */
	const char *help;
	bool required;
};

#define VERB_OPTIONS_MAX 20
#define VERB_GIVEN_MAX 128

struct call;

struct verb {
	const char *name;     /* one or two words */
	const char *operands; /* as usage shows them */
	int operands_min, operands_max;
	const struct verb_option *options;
	const char *help;		     /* one line, without a full stop */
	int (*run)(const struct call *call); /* enum tool_exit */
};

/* One invocation. */
struct call {
	const struct verb *verb;
	const char *socket; /* NULL: the default */
	bool json;
	bool embedded; /* no daemon: posix arenas directly */
	bool help;
	bool version;
	int argc; /* operands */
	char **argv;
	const char *values
		[VERB_OPTIONS_MAX]; /* by place in verb->options; "" for one without a value; the last, if several */
	struct {
		int place;
		const char *value;
	} given[VERB_GIVEN_MAX]; /* all of them in order */
	size_t given_count;
};

extern const struct verb verb_table[]; /* ended by a NULL name */
extern const struct verb_option verb_globals[];

/* The value of an option, NULL if not given. It must stand in the verb's table. */
const char *call_option(const struct call *call, const char *name);
/* One value after the other of an option that may be given several times; *cursor is 0 at first. NULL: no more. */
const char *call_option_next(const struct call *call, const char *name, size_t *cursor);
/* Reads a command line; says what is wrong with it. TOOL_OK or TOOL_USAGE. */
int call_parse(struct call *call, int argc, char **argv);

void verbs_usage(FILE *out);
void verbs_usage_one(FILE *out, const struct verb *verb); /* one line, or several if it is long */
void verbs_help_one(FILE *out, const struct verb *verb);
void verbs_manual(FILE *out); /* the manual page's part, in man(7) macros */

/* ---- messages, on stderr; what they quote is made printable ---- */

void tool_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "what: why" for an errno value of either sign. */
void tool_errno(const char *what, int err);
/* A bad option value; gives TOOL_USAGE. */
int tool_bad_value(const struct call *call, const char *option, int err);
/* The end of a verb that printed a document: code, or TOOL_FAILED if it could not be written. */
int tool_finish(struct emit *e, int code);

/* From a live arena, where the parts are not counted at one instant. */
static inline uint64_t tool_less(uint64_t from, uint64_t what)
{
	return from > what ? from - what : 0;
}

uint64_t tool_now_ns(void);	  /* CLOCK_REALTIME */
uint64_t tool_monotonic_ns(void); /* CLOCK_MONOTONIC */

/* ---- the verbs, one file each ---- */

int verb_arena_create(const struct call *call);
int verb_arena_list(const struct call *call);
int verb_arena_show(const struct call *call);
int verb_arena_map(const struct call *call);
int verb_arena_check(const struct call *call);
int verb_debug(const struct call *call);
int verb_arena_snapshot(const struct call *call);
int verb_arena_restore(const struct call *call);
int verb_arena_destroy(const struct call *call);
int verb_client_list(const struct call *call);
int verb_client_deaths(const struct call *call);
int verb_stats(const struct call *call);
int verb_leaks(const struct call *call);
int verb_profile(const struct call *call);
int verb_log_put(const struct call *call);
int verb_log_status(const struct call *call);
int verb_log_policy(const struct call *call);
int verb_log_clock(const struct call *call);
int verb_log_tail(const struct call *call);
int verb_log_cat(const struct call *call);
int verb_bench(const struct call *call);
int verb_trace_record(const struct call *call);
int verb_trace_replay(const struct call *call);
int verb_help(const struct call *call);

#endif
