/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_source.h - where records come from, one interface over all of it: an arena's ring, by name or as a file lies there;
 * and segments that the daemon has drained rings to, a directory of them or one.
 *
 * An arena that is asked for by name has both: its segments, where the daemon says that they are, and its ring. Each
 * record comes once. What the ring has overwritten is no loss then, since it is in the segments: losses are those that
 * the segments tell of.
 */
#ifndef TOOLS_LOG_SOURCE_H
#define TOOLS_LOG_SOURCE_H

#include "log_filter.h"
#include "log_names.h"
#include "log_seen.h"
#include "segment.h"
#include "shmalloc.h"
#include "tool.h"

/* The order window of readers is 10 ms: a log without a record for this long has no more for now. */
#define LOG_QUIET_MS 30

struct log_source {
	const char *what;	   /* NAME or PATH */
	struct shma_record record; /* the next one, if there is one */
	bool has_record;
	bool ended;		 /* as far as "all so far" goes */
	uint64_t opened_ns;	 /* CLOCK_REALTIME */
	uint64_t opened_mono_ns; /* CLOCK_MONOTONIC */
	uint64_t lost;		 /* records lost since the last one shown */
	struct log_source *peer; /* of a ring its segments, and the other way round; NULL: alone */
	struct log_seen *seen;	 /* of both */

	/* A ring. */
	shma *arena;
	struct shma_reader *reader;
	struct log_names names;
	uint64_t overwritten; /* while it was read, all told */

	/* Segments; path is not NULL. */
	char *path;
	struct segment_cursor *cursor; /* NULL: there is nothing at path yet */
	struct segment_query query;
	bool dry;		  /* there was no more, when … */
	uint64_t dry_ns;	  /* CLOCK_MONOTONIC */
	uint64_t dry_overwritten; /* … and the ring had overwritten so many */
};

/* All sources of a call. */
struct log_sources {
	struct log_source *at;
	size_t count;
	bool segments; /* among them */
};

/* Those of a call's operands; with position, the only one goes on at the place of that name. Segments leave out what
 * filter says. An enum tool_exit; to be closed whatever it is. */
int log_sources_open(const struct call *call, const struct log_filter *filter, const char *position,
		     struct log_sources *ret);
void log_sources_close(struct log_sources *s);

/*
 * The source of the earliest record that waits, in *ret; NULL: none came within the time. snapshot: a source ends
 * where there is none for now, or where records begin that were written after the opening. The record has to be
 * taken: has_record = false.
 */
int log_sources_next(struct log_sources *s, int timeout_ms, bool snapshot, struct log_source **ret);
/* After a snapshot: goes on. */
void log_sources_resume(struct log_sources *s);

/* What the program of the record that waits is called; NULL: not known. */
const char *log_source_name(struct log_source *s);

#endif
