/* SPDX-License-Identifier: Apache-2.0 */
/* trace_file.c - the format of traces, and the account of what is live in one. */
#include <stdlib.h>
#include <string.h>

#include "trace_file.h"

static uint32_t le32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

enum trace_error trace_read_header(const void *bytes, size_t length, struct trace_header *ret)
{
	const unsigned char *p = bytes;

	if (length < TRACE_HEADER_BYTES || memcmp(p, "SMTRACE1", 8))
		return TRACE_NOT_A_TRACE;
	ret->objects = le32(p + 8);
	ret->threads = le32(p + 12);
	if (ret->threads == 0 || ret->threads > TRACE_THREADS_MAX)
		return TRACE_NO_THREADS;
	return TRACE_OK;
}

enum trace_error trace_read_event(const struct trace_header *header, const void *bytes,
				  size_t length, struct trace_event *ret)
{
	const unsigned char *p = bytes;

	if (length < TRACE_EVENT_BYTES)
		return TRACE_CUT;
	if (p[0] < TRACE_ALLOC || p[0] > TRACE_RESIZE)
		return TRACE_BAD_OP;
	if (p[2] || p[3])
		return TRACE_BAD_ZERO;
	if (p[1] >= header->threads)
		return TRACE_BAD_THREAD;
	ret->op = (enum trace_op)p[0];
	ret->thread = p[1];
	ret->object = le32(p + 4);
	ret->size = le32(p + 8);
	if (ret->object >= header->objects)
		return TRACE_BAD_OBJECT;
	if (ret->op == TRACE_FREE && ret->size)
		return TRACE_BAD_SIZE;
	return TRACE_OK;
}

void trace_account_init(struct trace_account *account, const struct trace_header *header)
{
	*account = (struct trace_account){ .header = *header };
}

void trace_account_free(struct trace_account *account)
{
	free(account->sizes);
	account->sizes = NULL;
}

/* Sizes are kept one higher, so that 0 can say "not live"; the highest size shares its neighbour's. */
static uint32_t kept(uint32_t size)
{
	return size == UINT32_MAX ? size : size + 1;
}

static enum trace_error first_seen(struct trace_account *a, uint32_t object)
{
	if (object > a->seen)
		return TRACE_BAD_ORDER;
	if (object < a->seen)
		return TRACE_OK;
	if (a->seen == a->room) {
		size_t room = a->room ? 2 * a->room : 1024;
		uint32_t *sizes = realloc(a->sizes, room * sizeof(*sizes));

		if (!sizes)
			return TRACE_NO_MEMORY;
		a->sizes = sizes;
		a->room = room;
	}
	a->sizes[a->seen++] = 0;
	return TRACE_OK;
}

enum trace_error trace_account_event(struct trace_account *a, const struct trace_event *event)
{
	if (event->op == TRACE_ALLOC) {
		enum trace_error error = first_seen(a, event->object);

		if (error)
			return error;
		if (a->sizes[event->object])
			return TRACE_LIVE;
		a->live_objects++;
	} else if (event->object >= a->seen || !a->sizes[event->object]) {
		return TRACE_DEAD;
	}

	uint32_t *size = &a->sizes[event->object];

	if (*size)
		a->live_bytes -= *size - 1;
	if (event->op == TRACE_FREE) {
		*size = 0;
		a->live_objects--;
	} else {
		*size = kept(event->size);
		a->live_bytes += *size - 1;
	}
	a->events++;
	if (a->live_bytes > a->peak_bytes) {
		a->peak_bytes = a->live_bytes;
		a->peak_objects = a->live_objects;
		a->peak_event = a->events;
	}
	return TRACE_OK;
}

const char *trace_error_text(enum trace_error error)
{
	static const char *const texts[TRACE_ERRORS] = {
		[TRACE_OK] = "sound",
		[TRACE_NOT_A_TRACE] = "not a trace: it does not start with SMTRACE1 and its counts",
		[TRACE_NO_THREADS] = "its header has no threads, or more than 256",
		[TRACE_CUT] = "it ends inside an event",
		[TRACE_BAD_OP] = "no such operation",
		[TRACE_BAD_ZERO] = "reserved bits are set",
		[TRACE_BAD_THREAD] = "no such thread",
		[TRACE_BAD_OBJECT] = "no such object",
		[TRACE_BAD_ORDER] =
			"objects are not numbered in the order of their first allocation",
		[TRACE_BAD_SIZE] = "a free with a size",
		[TRACE_LIVE] = "allocates an object that is live",
		[TRACE_DEAD] = "frees or resizes an object that is not live",
		[TRACE_NO_MEMORY] = "out of memory",
	};

	return error < TRACE_ERRORS && texts[error] ? texts[error] : "unknown error";
}
