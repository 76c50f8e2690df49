/* SPDX-License-Identifier: Apache-2.0 */
/* log_filter.h - which records are asked for: what the options of log cat and log tail say of it. */
#ifndef TOOLS_LOG_FILTER_H
#define TOOLS_LOG_FILTER_H

#include <regex.h>

#include "shmalloc.h"
#include "tool.h"

struct log_filter {
	uint64_t since_ns, until_ns; /* inclusive */
	unsigned levels;	     /* bit n: level n */
	/* Any of these, none: all. */
	int64_t *clients;
	size_t client_count;
	const char **names; /* globs */
	size_t name_count;
	/* All of these. */
	regex_t *regexes;
	size_t regex_count;
	const char **pairs; /* "key=value", or "key" */
	size_t pair_count;
	char *text; /* a record's with a zero behind it, for matchers */
	size_t text_room;
};

/* From the call's --since, --until, --level, --client, --name, --grep and --kv. An enum tool_exit. */
int log_filter_parse(const struct call *call, struct log_filter *f);
void log_filter_free(struct log_filter *f);

/* name: of the program that wrote it, NULL: not known. */
bool log_filter_matches(struct log_filter *f, const struct shma_record *r, const char *name);

/* Whether matching asks for names. */
static inline bool log_filter_by_name(const struct log_filter *f)
{
	return f->name_count > 0;
}

/* A value by its key, the first of them. False: there is none. */
bool log_record_find(const struct shma_record *r, const char *key, size_t key_bytes, struct shma_kv *ret);

#endif
