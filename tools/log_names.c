/* SPDX-License-Identifier: Apache-2.0 */
/* log_names.c - a table of the client records, read again when it is old, or sooner for who is not in it. */
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "log_names.h"
#include "tool.h"

#define OLD_NS	   UINT64_C(10000000000)
#define MISSING_NS UINT64_C(100000000)

void log_names_open(struct log_names *n, const struct arena *a)
{
	*n = (struct log_names){ .a = a };
}

void log_names_close(struct log_names *n)
{
	free(n->at);
	*n = (struct log_names){ 0 };
}

static int by_pid(const void *x, const void *y)
{
	const struct log_name *a = x, *b = y;

	return a->pid < b->pid ? -1 : a->pid > b->pid;
}

/* By the kernel: the record of a slot that nobody ever had lies in a hole. */
static bool read_name(const struct arena *a, uint32_t client, struct log_name *ret)
{
	struct client_record record;

	if (arena_read(a, client_area_at(a, client), &record, sizeof(record)) != (int64_t)sizeof(record))
		return false;
	ret->pid = atomic_load_explicit(&record.pid, memory_order_relaxed);
	memcpy(ret->command, record.command, sizeof(ret->command));
	ret->command[sizeof(ret->command) - 1] = 0;
	return ret->pid > 0 && ret->command[0];
}

static void read_all(struct log_names *n)
{
	uint32_t high = client_high(n->a);
	struct log_name *at = realloc(n->at, high * sizeof(*at));

	n->count = 0;
	if (!at)
		return;
	n->at = at;
	for (uint32_t i = 1; i < high; i++)
		n->count += read_name(n->a, i, &n->at[n->count]);
	qsort(n->at, n->count, sizeof(*n->at), by_pid);
}

static const struct log_name *find(const struct log_names *n, int32_t pid)
{
	struct log_name key = { .pid = pid };

	return n->count ? bsearch(&key, n->at, n->count, sizeof(key), by_pid) : NULL;
}

const char *log_names_of(struct log_names *n, int32_t pid)
{
	const struct log_name *found = find(n, pid);
	uint64_t now = tool_monotonic_ns();

	if (!n->read_ns || now - n->read_ns > (found ? OLD_NS : MISSING_NS)) {
		n->read_ns = now;
		read_all(n);
		found = find(n, pid);
	}
	return found ? found->command : NULL;
}
