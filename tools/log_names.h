/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_names.h - what the programs are called that write an arena's log, as far as the arena tells: of its clients,
 * and of those gone whose place no other has taken.
 */
#ifndef TOOLS_LOG_NAMES_H
#define TOOLS_LOG_NAMES_H

#include "arena.h"

struct log_name {
	int32_t pid;
	char command[32];
};

struct log_names {
	const struct arena *a;
	struct log_name *at; /* by pid */
	size_t count;
	uint64_t read_ns; /* CLOCK_MONOTONIC; 0: never */
};

void log_names_open(struct log_names *n, const struct arena *a);
void log_names_close(struct log_names *n);
/* NULL: not known. Good until the next call. */
const char *log_names_of(struct log_names *n, int32_t pid);

#endif
