/* SPDX-License-Identifier: Apache-2.0 */
/* verb_log_tail.c - the last records of a log, and those to come. */
#include "log_query.h"

#define LINES_DEFAULT 10

int verb_log_tail(const struct call *call)
{
	return log_query_run(call, LINES_DEFAULT, call_option(call, "position"));
}
