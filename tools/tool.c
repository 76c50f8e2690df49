/* SPDX-License-Identifier: Apache-2.0 */
/* tool.c - how the tool speaks to its user. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shmalloc.h"
#include "tool.h"

#define NS_PER_SECOND UINT64_C(1000000000)

void tool_error(const char *fmt, ...)
{
	char *text = NULL, *printable;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		fputs("shmctl-tool: out of memory\n", stderr);
		return;
	}
	printable = emit_printable(text, (size_t)n);
	fprintf(stderr, "shmctl-tool: %s\n", printable);
	free(printable);
	free(text);
}

void tool_errno(const char *what, int err)
{
	tool_error("%s: %s", what, shma_strerror(err));
}

int tool_bad_value(const struct call *call, const char *option, int err)
{
	tool_error("%s: --%s %s: %s", call->verb->name, option, call_option(call, option),
		   err == -ERANGE	? "out of range"
		   : err == -EEXIST ? "named twice"
				    : "cannot be understood");
	verbs_usage_one(stderr, call->verb);
	return TOOL_USAGE;
}

int tool_finish(struct emit *e, int code)
{
	int r = emit_end(e);

	if (!r)
		return code;
	tool_error("cannot write: %s", strerror(-r));
	return TOOL_FAILED;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SECOND + (uint64_t)ts.tv_nsec;
}

uint64_t tool_now_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

uint64_t tool_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}
