/* SPDX-License-Identifier: Apache-2.0 */
/* log_read.h - reading arenas' logs for people: sources, filters, and how a record is shown. */
#ifndef TOOLS_LOG_READ_H
#define TOOLS_LOG_READ_H

#include <regex.h>

#include "shmalloc.h"
#include "tool.h"

/* The order window of readers is 10 ms: a log without a record for this long has no more for now. */
#define LOG_QUIET_MS 30

struct log_filter {
	uint64_t since_ns, until_ns; /* inclusive */
	int level;		     /* this one or graver */
	int64_t pid;		     /* -1: any */
	bool has_regex;
	regex_t regex;
	char *text; /* a record with a zero behind it, for the matcher */
	size_t text_room;
};

struct log_source {
	const char *what; /* NAME or PATH */
	shma *arena;
	struct shma_reader *reader;
	struct shma_record record; /* the next one, if there is one */
	bool has_record;
	bool ended;		 /* as far as "all so far" goes */
	uint64_t opened_ns;	 /* CLOCK_REALTIME */
	uint64_t opened_mono_ns; /* CLOCK_MONOTONIC */
	uint64_t lost;		 /* records lost since the last one shown */
};

int log_source_open(const struct call *call, const char *what, struct log_source *ret);
void log_source_close(struct log_source *s);
/* Gets the next record unless one waits already, if one comes within the time. snapshot: the source ends
 * where none does, or where records begin that were written after the opening. An enum tool_exit. */
int log_source_fill(struct log_source *s, int timeout_ms, bool snapshot);

bool log_filter_matches(struct log_filter *f, const struct shma_record *r);
void log_filter_free(struct log_filter *f);

/* Shows a record; arena: NULL, or whose it is. lost: since the last one shown. An enum tool_exit. */
int log_print(struct emit *e, const struct shma_record *r, const char *arena, uint64_t lost);
/* The end of a stream of records. */
int log_print_end(struct emit *e, uint64_t lost, int code);

#endif
