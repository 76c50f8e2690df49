/* SPDX-License-Identifier: Apache-2.0 */
/* verb_log_cat.c - all records that match, of several logs merged by time. */
#include "log_query.h"

int verb_log_cat(const struct call *call)
{
	return log_query_run(call, LOG_LINES_ALL, NULL);
}
