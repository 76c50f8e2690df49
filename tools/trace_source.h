/* SPDX-License-Identifier: Apache-2.0 */
/* trace_source.h - the bytes of a trace's file, plain or compressed by zstd, and its events. */
#ifndef TOOLS_TRACE_SOURCE_H
#define TOOLS_TRACE_SOURCE_H

#include <stdio.h>

#include "trace_file.h"

#define TRACE_BATCH 4096

struct trace_source;

/* 0, or -errno. */
int trace_source_open(const char *path, struct trace_source **ret);
void trace_source_close(struct trace_source *s);
/* The file's header; the first call on it. */
const char *trace_source_header(struct trace_source *s, struct trace_header *ret);
/*
 * Up to TRACE_BATCH events; *count is 0 at the end. NULL, or what is wrong with the event after those
 * that were read (or with the file): a text that is good until the source is closed.
 */
const char *trace_source_events(struct trace_source *s, struct trace_event *events, size_t *count);

#endif
