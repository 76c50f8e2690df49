/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite.h - the benchmark suite, a program beside the tool's own (tests/bench), run for a verb: each allocator there is in
 * processes of its own, by turns.
 */
#ifndef TOOLS_SUITE_H
#define TOOLS_SUITE_H

#include <stdbool.h>
#include <stddef.h>

/* Private mallocs it knows, those of Debian; ended by NULL. Which are installed only a run shows. */
extern const char *const suite_mallocs[];

struct suite_figure {
	const char *workload, *trace, *metric, *unit, *peer;
	unsigned runs, failed;
	double median;
	double to_best; /* ratio to the best private malloc's; 0: there is none */
};
typedef void (*suite_visit)(void *context, const struct suite_figure *figure);

#define SUITE_ARGS_MAX 24

/* Where it is; says so if it is not there. */
bool suite_find(char *path, size_t size);
/* argv[0] is the program. Its output is the tool's. 0; 1: something failed; 2: it was called wrongly, and said how; -errno. */
int suite_show(char *const *argv);
/* argv as above, NULL-terminated, of at most SUITE_ARGS_MAX - 5 words. All figures, and no output but errors. */
int suite_read(char *const *argv, suite_visit visit, void *context);

#endif
