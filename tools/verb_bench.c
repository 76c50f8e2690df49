/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_bench.c - a short run of the benchmark suite, with what is installed here. As text it is the suite's own table;
 * as JSON its figures.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "suite.h"
#include "tool.h"

/* What a user would ask first; all of it in less than a minute. */
#define SHORT_LIST                                                                                            \
	"pair128,pair4k,order,bulk,ws,logmix,threads_pair,threads_ws,pass_threads,procs2,pass_procs,stack," \
	"hold,ptr,log128,queue128x1,trace"
#define SHORT_PEERS                                                                                           \
	"null,glibc,jemalloc,mimalloc,tcmalloc,pipe,mqueue,shmalloc,shmalloc-of,shmalloc-handle,shmalloc-coarse"

struct figures {
	struct emit *e;
	bool seen[8]; /* of suite_mallocs */
};

static void show_figure(void *context, const struct suite_figure *f)
{
	struct figures *all = context;

	for (size_t i = 0; suite_mallocs[i]; i++)
		all->seen[i] |= !strcmp(suite_mallocs[i], f->peer);
	emit_row(all->e);
	emit_string(all->e, "workload", f->workload);
	emit_string(all->e, "trace", *f->trace ? f->trace : NULL);
	emit_string(all->e, "metric", f->metric);
	emit_string(all->e, "unit", f->unit);
	emit_string(all->e, "peer", f->peer);
	emit_u64(all->e, "runs", f->runs);
	emit_u64(all->e, "failed", f->failed);
	emit_real(all->e, "median", f->median, 4);
	if (f->to_best > 0)
		emit_real(all->e, "to_best_private", f->to_best, 4);
	else
		emit_none(all->e, "to_best_private");
	emit_row_end(all->e);
}

/* Whether a list, of names between commas, has it. */
static bool asked(const char *peers, const char *name)
{
	size_t n = strlen(name), word;

	for (const char *at = peers;; at += word + 1) {
		word = strcspn(at, ",");
		if (word == n && !strncmp(at, name, n))
			return true;
		if (!at[word])
			return false;
	}
}

static int show_json(char *const *argv, const char *peers)
{
	static const char *const columns[] = { "workload", "trace",  "metric", "unit",		  "peer",
					       "runs",	   "failed", "median", "to_best_private", NULL };
	static const char *const missing[] = { "malloc", NULL };
	struct emit e;
	struct figures all = { .e = &e };
	int result;

	emit_begin_held(&e, stdout, true);
	emit_table(&e, "figures", columns);
	result = suite_read(argv, show_figure, &all);
	emit_table_end(&e);
	emit_table(&e, "not_installed", missing);
	for (size_t i = 0; suite_mallocs[i]; i++) {
		if (all.seen[i] || !asked(peers, suite_mallocs[i]))
			continue;
		emit_row(&e);
		emit_string(&e, "malloc", suite_mallocs[i]);
		emit_row_end(&e);
	}
	emit_table_end(&e);
	/* What failed is counted beside what did not. */
	if (result == 0 || result == 1)
		return tool_finish(&e, TOOL_OK);
	emit_drop(&e);
	if (result < 0)
		tool_errno("bench", result);
	return result < 0 ? TOOL_FAILED : result;
}

/* An option of ours is one of the suite's. */
static size_t pass(const struct call *call, const char *name, char *flag, const char *otherwise, char **argv)
{
	const char *value = call_option(call, name);

	if (!value)
		value = otherwise;
	if (!value)
		return 0;
	argv[0] = flag;
	argv[1] = (char *)value;
	return 2;
}

int verb_bench(const struct call *call)
{
	char program[4096], *argv[SUITE_ARGS_MAX] = { program, "--short" };
	const char *trace = call_option(call, "trace");
	size_t n = 2;
	int result;

	if (trace && access(trace, R_OK)) {
		tool_errno(trace, errno);
		return TOOL_FAILED;
	}
	if (!suite_find(program, sizeof(program)))
		return TOOL_FAILED;
	n += pass(call, "only", "--only", SHORT_LIST, argv + n);
	n += pass(call, "peers", "--peers", SHORT_PEERS, argv + n);
	n += pass(call, "runs", "--runs", NULL, argv + n);
	n += pass(call, "trace", "--trace", NULL, argv + n);
	argv[n] = NULL;
	if (call->json)
		return show_json(argv, call_option(call, "peers") ? call_option(call, "peers") : SHORT_PEERS);
	result = suite_show(argv);
	if (result < 0)
		tool_errno("bench", result);
	return result < 0 ? TOOL_FAILED : result;
}
