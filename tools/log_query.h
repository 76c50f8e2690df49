/* SPDX-License-Identifier: Apache-2.0 */
/* log_query.h - what log cat and log tail are: records of some logs that match, all of them or the last, then those to
 * come. */
#ifndef TOOLS_LOG_QUERY_H
#define TOOLS_LOG_QUERY_H

#include "tool.h"

#define LOG_LINES_ALL UINT64_MAX

/* lines: of the last records where --lines does not say. position: where to go on, NULL: nowhere. An enum tool_exit. */
int log_query_run(const struct call *call, uint64_t lines, const char *position);

#endif
