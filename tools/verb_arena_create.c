/* SPDX-License-Identifier: Apache-2.0 */
/* verb_arena_create.c - a new arena, made by the daemon or, embedded, by the tool itself. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "arena_file.h"
#include "nodes.h"
#include "parse.h"
#include "placement.h"
#include "profile.h"
#include "reach.h"

/* The place of a value in a list of words, or -EINVAL. */
static int one_of(const char *value, const char *const words[], uint32_t *ret)
{
	for (uint32_t i = 0; words[i]; i++) {
		if (!strcmp(value, words[i])) {
			*ret = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_numa(const char *value, struct arena_terms *terms)
{
	static const char *const words[] = { "local", "interleave", NULL };

	if (!strncmp(value, "bind:", 5)) {
		terms->numa_mode = NUMA_BIND;
		return parse_nodes(value + 5, &terms->numa_nodes);
	}
	return one_of(value, words, &terms->numa_mode);
}

/* Of both only one. */
static int set_debug(struct arena_terms *terms, uint32_t mode, const char *every)
{
	uint64_t n = 0;
	int r = every ? parse_size(every, &n) : 0;

	if (!r && (terms->debug_mode || (every && !n)))
		r = -EINVAL;
	if (!r && n > UINT32_MAX)
		r = -ERANGE;
	terms->debug_mode = mode;
	terms->debug_every = (uint32_t)n;
	return r;
}

/* One option, if it was given. */
static int parse_option(const char *name, const char *value, struct arena_terms *terms)
{
	static const char *const backings[] = { "posix", "memfd", "hugetlb", "file", NULL };
	static const char *const policies[] = { "overwrite", "drop", "block", NULL };
	static const char *const clocks[] = { "exact", "coarse", NULL };
	static const char *const huges[] = { "never", "advise", "always", NULL };

	if (!value)
		return 0;
	if (!strcmp(name, "size")) {
		int r = parse_size(value, &terms->capacity);

		return !r && (terms->capacity < CAPACITY_MIN || terms->capacity > CAPACITY_MAX)
			       ? -ERANGE
			       : r;
	}
	if (!strcmp(name, "backing"))
		return one_of(value, backings, &terms->backing);
	if (!strcmp(name, "mode"))
		return parse_mode(value, &terms->mode);
	if (!strcmp(name, "numa"))
		return parse_numa(value, terms);
	if (!strcmp(name, "huge"))
		return one_of(value, huges, &terms->huge_mode);
	if (!strcmp(name, "log-size"))
		return parse_size(value, &terms->log_capacity);
	if (!strcmp(name, "log-policy"))
		return one_of(value, policies, &terms->log_policy);
	if (!strcmp(name, "log-clock"))
		return one_of(value, clocks, &terms->log_clock);
	if (!strcmp(name, "debug"))
		return set_debug(terms, SHMA_DEBUG_FULL, NULL);
	if (!strcmp(name, "debug-sample"))
		return set_debug(terms, SHMA_DEBUG_SAMPLED, value);
	return parse_size(value, &terms->client_quota);
}

static int parse_terms(const struct call *call, struct arena_terms *terms)
{
	memset(terms, 0, sizeof(*terms));
	for (size_t i = 0; call->verb->options[i].name; i++) {
		const char *name = call->verb->options[i].name;
		int r = parse_option(name, call->values[i], terms);

		if (r)
			return tool_bad_value(call, name, r);
	}
	return TOOL_OK;
}

static int create_by_daemon(const struct call *call, const char *name,
			    const struct arena_terms *terms)
{
	struct request request;
	struct reply reply;
	int fd, code, r;

	r = protocol_request(&request, REQUEST_ARENA_CREATE, name);
	if (r) {
		tool_error("%s: not a name of an arena: at most 63 letters, digits, '.', '_', '-'",
			   name);
		return TOOL_FAILED;
	}
	request.terms = *terms;
	code = reach_daemon(call, &fd);
	if (code)
		return code;
	code = reach_request(fd, &request, &reply, NULL, name);
	close(fd);
	return code;
}

/* A file arena's operand is its path, whose last part is its name. */
static int create_embedded(const char *what, const struct arena_terms *terms)
{
	struct arena_files files;
	struct arena_config config = {
		.name = what,
		.capacity = terms->capacity,
		.log_capacity = terms->log_capacity,
		.client_quota = terms->client_quota,
		.backing = (enum arena_backing)terms->backing,
		.log_policy = terms->log_policy,
		.log_clock = terms->log_clock,
		.mode = terms->mode,
		.numa_mode = terms->numa_mode,
		.huge_mode = terms->huge_mode,
		.numa_nodes = terms->numa_nodes,
		.debug_mode = terms->debug_mode,
		.debug_every = terms->debug_every,
	};
	int r;

	if (reach_is_path(what)) {
		config.path = what;
		config.name = strrchr(what, '/') + 1;
		config.backing = BACKING_FILE;
	} else if (terms->backing != BACKING_POSIX) {
		tool_error(
			"%s: without the daemon an arena is posix, or a file if its name is a path",
			what);
		return TOOL_FAILED;
	}
	r = arena_create(&config, &files);
	if (!r) {
		arena_files_close(&files);
		return TOOL_OK;
	}
	if (r == -EEXIST)
		tool_error("%s: there is such an arena already", what);
	else
		tool_errno(what, r);
	return TOOL_FAILED;
}

/* What a refusal of nodes means here. */
static void explain_bind(const char *what)
{
	char there[NODES_TEXT_BYTES];

	nodes_text(placement_nodes(), there);
	tool_error("%s: nodes that this process may use: %s", what, there);
}

/* It may not have got all it asked for: that is no failure, but not to be left unsaid. Who may not read his
 * own arena is told nothing. */
static void tell_shortfall(const struct call *call, const struct arena_terms *terms)
{
	struct reach r;

	if (terms->mode && !(terms->mode & 0400))
		return;
	if ((terms->numa_mode == NUMA_LOCAL && terms->huge_mode == HUGE_NEVER) ||
	    reach_open(call, call->argv[0], &r))
		return;
	nodes_warn(&r);
	reach_close(&r);
}

/* From the start, but for an arena that somebody attached to in between. */
static int begin_profile(const struct call *call, uint64_t rate)
{
	shma *arena;
	int code = reach_attach(call, call->argv[0], 0, &arena), err;

	if (code)
		return code;
	err = shma_profile(arena, rate);
	shma_close(arena);
	if (!err)
		return TOOL_OK;
	tool_errno("profile", err);
	return TOOL_FAILED;
}

/* 0: none is asked for. */
static int parse_profile(const struct call *call, uint64_t *ret)
{
	const char *text = call_option(call, "profile");
	int err = text ? parse_size(text, ret) : 0;

	if (!err && text && (*ret < PROFILE_RATE_MIN || *ret > PROFILE_RATE_MAX))
		err = -EINVAL;
	return err ? tool_bad_value(call, "profile", err) : TOOL_OK;
}

int verb_arena_create(const struct call *call)
{
	struct arena_terms terms;
	uint64_t rate = 0;
	int code = parse_terms(call, &terms);

	if (!code)
		code = parse_profile(call, &rate);
	if (code)
		return code;
	code = call->embedded ? create_embedded(call->argv[0], &terms)
			      : create_by_daemon(call, call->argv[0], &terms);
	if (code == TOOL_FAILED && terms.numa_mode == NUMA_BIND && (terms.numa_nodes & ~placement_nodes()))
		explain_bind(call->argv[0]);
	if (!code)
		tell_shortfall(call, &terms);
	return code || !rate ? code : begin_profile(call, rate);
}
