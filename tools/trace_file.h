/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_file.h - recorded allocations of a program, read from untrusted bytes. Pure: no files, and
 * no memory but what the objects of the events seen so far need.
 *
 * A trace: 16 bytes "SMTRACE1", u32 objects, u32 threads; then events of 12 bytes: u8 op, u8 thread,
 * u16 zero, u32 object, u32 size; little endian. Objects are numbered in the order of their first
 * allocation, so that no event can make a reader reserve more than the events before it asked for.
 */
#ifndef TOOLS_TRACE_FILE_H
#define TOOLS_TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_HEADER_BYTES 16
#define TRACE_EVENT_BYTES  12
#define TRACE_THREADS_MAX  256u /* events have eight bits for one */

enum trace_op { TRACE_ALLOC = 1, TRACE_FREE = 2, TRACE_RESIZE = 3 };

enum trace_error {
	TRACE_OK = 0,
	TRACE_NOT_A_TRACE, /* no magic, or too short for a header */
	TRACE_NO_THREADS,  /* none, or more than an event can name */
	TRACE_CUT,	   /* ends inside an event */
	TRACE_BAD_OP,
	TRACE_BAD_ZERO, /* reserved bits set */
	TRACE_BAD_THREAD,
	TRACE_BAD_OBJECT, /* number not below the header's count */
	TRACE_BAD_ORDER,  /* first allocations out of order */
	TRACE_BAD_SIZE,	  /* a free with one */
	TRACE_LIVE,	  /* allocated while live */
	TRACE_DEAD,	  /* freed or resized while not live */
	TRACE_NO_MEMORY,
	TRACE_ERRORS
};

struct trace_header {
	uint32_t objects;
	uint32_t threads;
};

struct trace_event {
	enum trace_op op;
	uint32_t thread;
	uint32_t object;
	uint32_t size;
};

/* What is live after the events so far. */
struct trace_account {
	struct trace_header header;
	uint32_t *sizes; /* per object seen; size + 1, 0: not live */
	size_t seen, room;
	uint64_t events;
	uint64_t live_bytes, live_objects;
	uint64_t peak_bytes,
		peak_event;    /* highest live_bytes, and the count of events when it was reached */
	uint64_t peak_objects; /* live then */
};

enum trace_error trace_read_header(const void *bytes, size_t length, struct trace_header *ret);
/* One event; length is what is left of the file. */
enum trace_error trace_read_event(const struct trace_header *header, const void *bytes,
				  size_t length, struct trace_event *ret);

void trace_account_init(struct trace_account *account, const struct trace_header *header);
enum trace_error trace_account_event(struct trace_account *account,
				     const struct trace_event *event);
void trace_account_free(struct trace_account *account);

const char *trace_error_text(enum trace_error error);

#endif
