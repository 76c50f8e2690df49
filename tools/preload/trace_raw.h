/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_raw.h - what the preloaded library writes and `trace record` reads: one file for each program that the
 * recorded process becomes by exec, of chunks. A chunk is one thread's: it is mapped, filled, and left for the next one,
 * so that a thread has one chunk's memory, and whatever kills the process leaves every event that was finished.
 *
 * Events are numbered over all threads: an allocation after it was made, a free before it is. So what a thread frees that
 * another allocated comes after that, and whoever is given the place again comes after the free.
 */
#ifndef TOOLS_PRELOAD_TRACE_RAW_H
#define TOOLS_PRELOAD_TRACE_RAW_H

#include <stdatomic.h>
#include <stdint.h>

#define TRACE_RAW_DIR "SHMALLOC_TRACE_DIR" /* environment: where the files go */
#define TRACE_RAW_PID "SHMALLOC_TRACE_PID" /* environment: the process that is recorded; its children are not */
#define TRACE_RAW_FILES 1000u		   /* programs that a process may become */

#define TRACE_RAW_CHUNK 65536u
#define TRACE_RAW_MAGIC 0x4543415254574152u

enum trace_raw_op {
	TRACE_RAW_ALLOC = 1,  /* pointer, size */
	TRACE_RAW_FREE = 2,   /* pointer */
	TRACE_RAW_BEGIN = 3,  /* of a resize: the old pointer, the new size */
	TRACE_RAW_RESIZED = 4 /* its end: the new pointer, the new size */
};

struct trace_raw_event {
	_Atomic uint64_t number; /* from 1; 0: not finished, and the chunk's end. W: last */
	uint64_t pointer;	 /* resized: 0: it failed, the old one stays */
	uint64_t what;		 /* op 0-7 | bytes 8-63 */
};
_Static_assert(sizeof(struct trace_raw_event) == 24, "raw event");

struct trace_raw_chunk {
	uint64_t magic;
	uint32_t thread; /* numbered from 0 as they first allocate */
	uint32_t reserved;
	struct trace_raw_event events[(TRACE_RAW_CHUNK - 16) / sizeof(struct trace_raw_event)];
};
#define TRACE_RAW_EVENTS ((TRACE_RAW_CHUNK - 16) / sizeof(struct trace_raw_event))
_Static_assert(sizeof(struct trace_raw_chunk) <= TRACE_RAW_CHUNK, "raw chunk");

#endif
