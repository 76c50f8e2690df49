/* SPDX-License-Identifier: Apache-2.0 */
/* verbs.c - the table of verbs, and everything that is printed or parsed from it. */
#include <assert.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "tool.h"

#define NO_LIMIT 1000000

const struct verb_option verb_globals[] = {
	{ "socket", 0, "PATH",
	  "of the daemon; default: $SHMALLOC_SOCKET, else the user's own or root's", false },
	{ "json", 0, NULL, "print data as JSON", false },
	{ "embedded", 0, NULL, "use no daemon: reach posix arenas directly", false },
	{ "help", 'h', NULL, "say how to call it", false },
	{ "version", 0, NULL, "say which version this is", false },
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option no_options[] = { { NULL, 0, NULL, NULL, false } };

static const struct verb_option create_options[] = {
	{ "size", 0, "SIZE", "capacity, 16M to 16T; only what is used is taken", true },
	{ "backing", 0, "posix|memfd|hugetlb|file", "what the memory is; default posix", false },
	{ "mode", 0, "OCTAL", "permission bits; default 600", false },
	{ "numa", 0, "local|interleave|bind:NODES", "on which NUMA nodes pages lie; default local", false },
	{ "huge", 0, "never|advise|always", "pages of 2 MiB; default never", false },
	{ "log-size", 0, "SIZE", "of the log ring; default 4M", false },
	{ "log-policy", 0, "block|drop|overwrite", "when the log is full; default overwrite",
	  false },
	{ "log-clock", 0, "exact|coarse", "how records are timed; default exact", false },
	{ "quota", 0, "SIZE", "that one client may own; default none", false },
	{ "debug", 0, NULL, "watch all objects: red zones, quarantine, who allocated and freed them", false },
	{ "debug-sample", 0, "N", "watch about one allocation in N, in pages of its own", false },
	{ "profile", 0, "SIZE", "sample one allocation in SIZE bytes from the start, as the verb profile does later", false },
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option snapshot_options[] = {
	{ "level", 0, "N", "of zstd, 1 to 19; default 3", false },
	{ "stop", 0, NULL, "stop all clients meanwhile: what is in it is of one instant", false },
	{ NULL, 0, NULL, NULL, false },
};
static const struct verb_option restore_options[] = {
	{ "mode", 0, "OCTAL", "permission bits; default 600", false },
	{ NULL, 0, NULL, NULL, false },
};
static const struct verb_option check_options[] = {
	{ "repair", 0, NULL,
	  "make it whole again, and say what is lost; nobody may be attached", false },
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option put_options[] = {
	{ "level", 0, "L", "0 to 7, or emerg to debug; default info", false },
	{ "syslog-socket", 0, "[PATH]",
	  "write what programs send by syslog(3) to a socket here, default /dev/log, until a signal", false },
	{ NULL, 0, NULL, NULL, false },
};

/* Of log cat and log tail alike. */
#define QUERY_OPTIONS                                                                                        \
	{ "since", 0, "T", "not before T: 2026-01-31T12:30[:15][Z], 12:30, -5m, @EPOCH, today", false },     \
	{ "until", 0, "T", "not after T", false },                                                           \
	{ "level", 0, "L", "of level L or graver; L..M: from L to M", false },                               \
	{ "client", 0, "PID", "written by this process; of several, by any", false },                        \
	{ "name", 0, "GLOB", "written by a program of such a name; of several, any", false },                \
	{ "grep", 0, "RE", "matching an extended regular expression; of several, all", false },              \
	{ "kv", 0, "K[=V]", "with a field K, of value V; of several, all", false },                          \
	{ "follow", 'f', NULL, "go on with new records", false }

#define LOOK_OPTIONS                                                                                         \
	{ "utc", 0, NULL, "times are UTC, those given and those shown", false },                             \
	{ "color", 0, "auto|always|never", "levels in color; default auto: on a terminal", false }

static const struct verb_option tail_options[] = {
	QUERY_OPTIONS,
	{ "lines", 'n', "N", "the last N records; default 10", false },
	{ "position", 0, "NAME", "all since the last call with this name, which is kept in the arena", false },
	LOOK_OPTIONS,
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option cat_options[] = {
	QUERY_OPTIONS,
	{ "lines", 'n', "N", "the last N records; default all", false },
	LOOK_OPTIONS,
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option deaths_options[] = {
	{ "pid", 0, "PID", "the whole report of this process: what it held by size, its last records", false },
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option profile_options[] = {
	{ "rate", 0, "SIZE", "from now on sample one allocation in SIZE bytes; 0: none; 512K is usual", false },
	{ "client", 0, "PID", "of this process alone", false },
	{ "collapsed", 0, NULL, "a line a stack, outermost call first, then bytes: for flame graphs", false },
	{ "pprof", 0, "FILE", "write a profile that pprof reads", false },
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option leaks_options[] = {
	{ "before", 0, "T", "instead: whosoever's objects, sampled by a profile, that are live since T or longer, as \"-1h\"", false },
	{ "limit", 'n', "N", "list N objects at most, the largest first; default 100", false },
	{ "collapsed", 0, NULL, "by a profile's samples, a line a stack, outermost call first, then bytes: for flame graphs", false },
	{ "pprof", 0, "FILE", "by a profile's samples, as a profile that pprof reads", false },
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option record_options[] = {
	{ "output", 'o', "FILE", "the trace, compressed if it ends in .zst; default COMMAND.trace.zst", false },
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option bench_options[] = {
	{ "only", 0, "WORKLOAD,...", "these rows of the suite; default: a selection", false },
	{ "peers", 0, "NAME,...", "against these; default: the private mallocs there are, pipe and message queue", false },
	{ "runs", 0, "N", "so many of each, by turns; default 5", false },
	{ "trace", 0, "FILE", "and this recorded program's allocations", false },
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option replay_options[] = {
	{ "arena", 0, "NAME", "in this arena; default: one of its own, gone afterwards", false },
	{ "verify", 0, NULL,
	  "fill objects and compare their contents; time is not of interest then", false },
	{ "alone", 0, NULL, "without the installed mallocs beside it", false },
	{ NULL, 0, NULL, NULL, false },
};

static const struct verb_option help_options[] = {
	{ "man", 0, NULL, "as the manual page has it", false },
	{ NULL, 0, NULL, NULL, false },
};

const struct verb verb_table[] = {
	{ "arena create", "NAME", 1, 1, create_options, "make an arena", verb_arena_create },
	{ "arena list", "", 0, 0, no_options, "all arenas", verb_arena_list },
	{ "arena show", "NAME|PATH", 1, 1, no_options, "one arena: geometry, terms, NUMA nodes, names",
	  verb_arena_show },
	{ "arena map", "NAME|PATH", 1, 1, no_options,
	  "what lies where, a character a group of pages", verb_arena_map },
	{ "arena check", "NAME|PATH", 1, 1, check_options,
	  "whether everything is owned by exactly one and every index is true", verb_arena_check },
	{ "debug", "NAME|PATH", 1, 1, no_options,
	  "what a debug arena found: object misused, where allocated, freed and misused, by whom", verb_debug },
	{ "arena snapshot", "NAME|PATH FILE", 2, 2, snapshot_options,
	  "what outlives its makers, and the log, into a file, while clients work", verb_arena_snapshot },
	{ "arena restore", "FILE NAME|PATH", 2, 2, restore_options, "a new arena of a snapshot, with the same handles",
	  verb_arena_restore },
	{ "arena destroy", "NAME", 1, 1, no_options,
	  "remove an arena; who is attached to it goes on until it ends", verb_arena_destroy },
	{ "client list", "[NAME|PATH]", 0, 1, no_options,
	  "processes attached to all arenas, or to one", verb_client_list },
	{ "client deaths", "[NAME]", 0, 1, deaths_options,
	  "processes that died: how, what they held, what they logged last", verb_client_deaths },
	{ "stats", "NAME|PATH", 1, 1, no_options, "how full it is, by class, client, NUMA node and zone",
	  verb_stats },
	{ "profile", "NAME|PATH", 1, 1, profile_options,
	  "which calls live memory comes from, estimated from samples, and how long allocations take", verb_profile },
	{ "leaks", "NAME|PATH", 1, 1, leaks_options,
	  "the arena's own objects that nothing in it leads to: their makers died before they passed them on", verb_leaks },
	{ "log put", "NAME", 1, 1, put_options, "write standard input, a record a line; or syslog messages",
	  verb_log_put },
	{ "log tail", "NAME|PATH...", 1, NO_LIMIT, tail_options, "the last records that match", verb_log_tail },
	{ "log cat", "NAME|PATH...", 1, NO_LIMIT, cat_options,
	  "all records that match, in order of time", verb_log_cat },
	{ "log status", "NAME|PATH", 1, 1, no_options,
	  "how far a log is on its way to the disk, and beyond: segments, losses, what waits, what is shipped",
	  verb_log_status },
	{ "log policy", "NAME [block|drop|overwrite]", 1, 2, no_options,
	  "what writers meet when the log is full; or change it, for those who wait too",
	  verb_log_policy },
	{ "log clock", "NAME [exact|coarse]", 1, 2, no_options,
	  "how records are timed; or change it", verb_log_clock },
	{ "trace record", "-- COMMAND [ARGUMENT...]", 1, NO_LIMIT, record_options,
	  "run a program and record its allocations for a replay; what was recorded is told on stderr",
	  verb_trace_record },
	{ "trace replay", "FILE", 1, 1, replay_options,
	  "repeat a recorded program's allocations and measure them, beside each installed malloc", verb_trace_replay },
	{ "bench", "", 0, 0, bench_options, "how fast it is on this machine, beside each installed malloc", verb_bench },
	{ "help", "[VERB...]", 0, 2, help_options, "say how to call a verb", verb_help },
	{ NULL, NULL, 0, 0, NULL, NULL, NULL },
};

/* ---- finding ---- */

static bool has_two_words(const struct verb *verb)
{
	return strchr(verb->name, ' ') != NULL;
}

/* Whether the name is first, or "first second". */
static bool name_is(const struct verb *verb, const char *first, const char *second)
{
	size_t n = strlen(first);

	if (!has_two_words(verb))
		return !strcmp(verb->name, first);
	return second && !strncmp(verb->name, first, n) && verb->name[n] == ' ' &&
	       !strcmp(verb->name + n + 1, second);
}

static const struct verb *find(const char *first, const char *second)
{
	for (const struct verb *v = verb_table; v->name; v++) {
		if (name_is(v, first, second))
			return v;
	}
	return NULL;
}

static size_t count(const struct verb_option *options)
{
	size_t n = 0;

	while (options[n].name)
		n++;
	return n;
}

const char *call_option(const struct call *call, const char *name)
{
	const struct verb_option *options = call->verb->options;

	for (size_t i = 0; options[i].name; i++) {
		if (!strcmp(options[i].name, name))
			return call->values[i];
	}
	assert(!"the option stands in the verb's table");
	return NULL;
}

const char *call_option_next(const struct call *call, const char *name, size_t *cursor)
{
	while (*cursor < call->given_count) {
		size_t i = (*cursor)++;

		if (!strcmp(call->verb->options[call->given[i].place].name, name))
			return call->given[i].value;
	}
	return NULL;
}

/* ---- parsing ---- */

#define GLOBALS_MAX 8
#define OPTION_BASE 256 /* getopt's values of options: above all letters */

/* getopt's view of the global options and those of a verb (or none, before it is known). */
struct getopt_view {
	struct option longs[GLOBALS_MAX + VERB_OPTIONS_MAX + 1];
	char shorts[2 * (GLOBALS_MAX + VERB_OPTIONS_MAX) + 3];
};

/* Its value may be left out: "[PATH]" in the table. */
static bool may_lack_value(const struct verb_option *o)
{
	return o->arg && o->arg[0] == '[';
}

static void view_add(struct getopt_view *view, const struct verb_option *options, int base)
{
	size_t at = 0;
	char *s = view->shorts + strlen(view->shorts);

	while (view->longs[at].name)
		at++;
	for (size_t i = 0; options[i].name; i++) {
		view->longs[at++] =
			(struct option){ options[i].name,
					 !options[i].arg	 ? no_argument :
					 may_lack_value(&options[i]) ? optional_argument :
								       required_argument,
					 NULL, base + (int)i };
		if (options[i].letter) {
			*s++ = options[i].letter;
			if (options[i].arg)
				*s++ = ':';
			*s = 0;
		}
	}
}

/* The place of a short option in a list, -1: not there. */
static int place_of_letter(const struct verb_option *options, int letter)
{
	for (int i = 0; options[i].name; i++) {
		if (options[i].letter == letter)
			return i;
	}
	return -1;
}

static void set_global(struct call *call, int place, const char *value)
{
	const char *name = verb_globals[place].name;

	if (!strcmp(name, "socket"))
		call->socket = value;
	else if (!strcmp(name, "json"))
		call->json = true;
	else if (!strcmp(name, "embedded"))
		call->embedded = true;
	else if (!strcmp(name, "help"))
		call->help = true;
	else if (!strcmp(name, "version"))
		call->version = true;
	else
		assert(!"every global option is known here");
}

/* Of an option whose value may be left out: the next word, if it is a path and so no name of an arena. */
static char *path_that_follows(int argc, char **argv)
{
	if (optind >= argc || (argv[optind][0] != '/' && argv[optind][0] != '.'))
		return NULL;
	return argv[optind++];
}

static int add_value(struct call *call, int place, const char *value)
{
	if (call->given_count == VERB_GIVEN_MAX) {
		tool_error("%s: too many options", call->verb->name);
		return TOOL_USAGE;
	}
	call->values[place] = value;
	call->given[call->given_count].place = place;
	call->given[call->given_count++].value = value;
	return TOOL_OK;
}

/* Options up to the verb (call->verb is NULL), or those around and behind its operands. */
static int parse_options(struct call *call, int argc, char **argv)
{
	struct getopt_view view = { .shorts = "" };
	int c;

	assert(count(verb_globals) <= GLOBALS_MAX);
	if (!call->verb)
		strcpy(view.shorts, "+");
	view_add(&view, verb_globals, OPTION_BASE);
	if (call->verb) {
		assert(count(call->verb->options) <= VERB_OPTIONS_MAX);
		view_add(&view, call->verb->options, 2 * OPTION_BASE);
	}
	while ((c = getopt_long(argc, argv, view.shorts, view.longs, NULL)) != -1) {
		int place = c < OPTION_BASE ? place_of_letter(verb_globals, c) : c - OPTION_BASE;

		if (c == '?')
			return TOOL_USAGE;
		if (c < 2 * OPTION_BASE && place >= 0) {
			set_global(call, place, optarg);
			continue;
		}
		place = c < OPTION_BASE ? place_of_letter(call->verb->options, c)
					: c - 2 * OPTION_BASE;
		if (!optarg && may_lack_value(&call->verb->options[place]))
			optarg = path_that_follows(argc, argv);
		if (add_value(call, place, optarg ? optarg : ""))
			return TOOL_USAGE;
	}
	return TOOL_OK;
}

static int parse_verb(struct call *call, int argc, char **argv, int *words)
{
	if (optind >= argc) {
		tool_error("which verb? Try 'shmctl-tool help'");
		return TOOL_USAGE;
	}
	const char *first = argv[optind], *second = optind + 1 < argc ? argv[optind + 1] : NULL;

	call->verb = find(first, second);
	if (!call->verb) {
		tool_error("no such verb: %s%s%s. Try 'shmctl-tool help'", first, second ? " " : "",
			   second ? second : "");
		return TOOL_USAGE;
	}
	*words = has_two_words(call->verb) ? 2 : 1;
	return TOOL_OK;
}

static int check_call(const struct call *call)
{
	const struct verb *verb = call->verb;

	for (size_t i = 0; verb->options[i].name; i++) {
		if (verb->options[i].required && !call->values[i]) {
			tool_error("%s: --%s is missing", verb->name, verb->options[i].name);
			return TOOL_USAGE;
		}
	}
	if (call->argc < verb->operands_min || call->argc > verb->operands_max) {
		tool_error("%s: too %s arguments", verb->name,
			   call->argc < verb->operands_min ? "few" : "many");
		return TOOL_USAGE;
	}
	return TOOL_OK;
}

int call_parse(struct call *call, int argc, char **argv)
{
	int words, r;

	*call = (struct call){ 0 };
	r = parse_options(call, argc, argv);
	if (r || call->help || call->version)
		return r;
	r = parse_verb(call, argc, argv, &words);
	if (r)
		return r;
	/* From the verb's last word on, which stands where getopt expects the program's name. */
	char **rest = argv + optind + words - 1;
	int rest_count = argc - (optind + words - 1);

	rest[0] = argv[0];
	optind = 0;
	r = parse_options(call, rest_count, rest);
	call->argc = rest_count - optind;
	call->argv = rest + optind;
	if (!r && !call->help && !call->version)
		r = check_call(call);
	if (r)
		verbs_usage_one(stderr, call->verb);
	return r;
}

/* ---- printing ---- */

#define USAGE_WIDTH 100

/* "--size SIZE" or "-f", in brackets if it may be left out. */
static int option_usage(char *buf, size_t size, const struct verb_option *o)
{
	return snprintf(buf, size, "%s%s%s%s%s%s", o->required ? "" : "[", o->letter ? "-" : "--",
			o->letter ? (char[]){ o->letter, 0 } : o->name, o->arg ? " " : "",
			o->arg ? o->arg : "", o->required ? "" : "]");
}

/* One verb's line, broken before an option where it gets too long. */
static void print_synopsis(FILE *out, const struct verb *verb, int indent)
{
	int column = indent + fprintf(out, "%s%s%s", verb->name, verb->operands[0] ? " " : "",
				      verb->operands);

	for (size_t i = 0; verb->options[i].name; i++) {
		char text[80];
		int n = option_usage(text, sizeof(text), &verb->options[i]);

		if (column + 1 + n > USAGE_WIDTH) {
			fprintf(out, "\n%*s", indent + 3, "");
			column = indent + 3;
		}
		column += fprintf(out, " %s", text);
	}
	fputc('\n', out);
}

static void print_options(FILE *out, const struct verb_option *options)
{
	for (size_t i = 0; options[i].name; i++) {
		const struct verb_option *o = &options[i];
		char left[80];

		snprintf(left, sizeof(left), "%s--%s%s%s",
			 o->letter ? (char[]){ '-', o->letter, ',', ' ', 0 } : "    ", o->name,
			 o->arg ? " " : "", o->arg ? o->arg : "");
		if (strlen(left) > 26)
			fprintf(out, "  %s\n  %-26s %s\n", left, "", o->help);
		else
			fprintf(out, "  %-26s %s\n", left, o->help);
	}
}

void verbs_usage_one(FILE *out, const struct verb *verb)
{
	fputs("usage: shmctl-tool ", out);
	print_synopsis(out, verb, (int)strlen("usage: shmctl-tool "));
}

void verbs_help_one(FILE *out, const struct verb *verb)
{
	verbs_usage_one(out, verb);
	fprintf(out, "\n%s.\n\n", verb->help);
	print_options(out, verb->options);
	print_options(out, verb_globals);
}

void verbs_usage(FILE *out)
{
	fputs("usage: shmctl-tool [--socket PATH] [--json] [--embedded] VERB ...\n\n", out);
	for (const struct verb *v = verb_table; v->name; v++) {
		fputs("  ", out);
		print_synopsis(out, v, 2);
		fprintf(out, "        %s\n", v->help);
	}
	fputs("\n", out);
	print_options(out, verb_globals);
	fputs("\nSIZE takes K, M, G, T. A PATH has a '/' in it: a file is read as it lies there, without the"
	      " daemon.\n"
	      "Exit codes: 0 ok, 1 failed, 2 usage, 3 daemon not running, 4 damage found.\n",
	      out);
}

/* Dashes as the minus signs that can be copied from a terminal. */
static void print_roff(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
}

static void manual_option(FILE *out, const struct verb_option *o)
{
	fputs(".TP\n", out);
	if (o->letter)
		fprintf(out, "\\fB\\-%c\\fR, ", o->letter);
	fputs("\\fB\\-\\-", out);
	print_roff(out, o->name);
	fputs("\\fR", out);
	if (o->arg) {
		fputs(" \\fI", out);
		print_roff(out, o->arg);
		fputs("\\fR", out);
	}
	fputc('\n', out);
	/* A line of text must not begin with a control character. */
	fputs(o->help[0] == '.' || o->help[0] == '\'' ? "\\&" : "", out);
	print_roff(out, o->help);
	fputs(o->required ? " (required).\n" : ".\n", out);
}

void verbs_manual(FILE *out)
{
	for (const struct verb *v = verb_table; v->name; v++) {
		fprintf(out, ".SS \"%s %s\"\n", v->name, v->operands);
		print_roff(out, v->help);
		fputs(".\n", out);
		for (size_t i = 0; v->options[i].name; i++)
			manual_option(out, &v->options[i]);
	}
	fputs(".SS \"Options of every verb\"\n", out);
	for (size_t i = 0; verb_globals[i].name; i++)
		manual_option(out, &verb_globals[i]);
}

int verb_help(const struct call *call)
{
	const struct verb *verb = NULL;

	if (call_option(call, "man")) {
		verbs_manual(stdout);
		return TOOL_OK;
	}
	if (call->argc > 0) {
		verb = find(call->argv[0], call->argc > 1 ? call->argv[1] : NULL);
		if (!verb) {
			tool_error("no such verb: %s%s%s", call->argv[0], call->argc > 1 ? " " : "",
				   call->argc > 1 ? call->argv[1] : "");
			return TOOL_USAGE;
		}
	}
	if (verb)
		verbs_help_one(stdout, verb);
	else
		verbs_usage(stdout);
	return TOOL_OK;
}
