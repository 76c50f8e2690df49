/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug_report.h - what debug arenas found, kept in the arena: the last DEBUG_REPORTS findings, whoever made them and
 * whatever became of him. The same finding again is counted, not kept a second time.
 */
#ifndef SHM_DEBUG_REPORT_H
#define SHM_DEBUG_REPORT_H

#include "debug.h"

/* Puts a report, with all that its sum is over. Fills in the place where it was found: this call. */
void debug_report_put(struct arena *a, struct debug_report *report);

/* The report after the one of this ticket (0: the oldest there is), copied; false: there is none. */
bool debug_report_next(const struct arena *a, uint64_t after, struct debug_report *ret);

/* Made ever. */
uint64_t debug_report_count(const struct arena *a);

const char *debug_report_key(uint32_t what);	  /* for JSON and logs */
const char *debug_report_meaning(uint32_t what);  /* for people */
const char *debug_report_call(uint32_t call);	  /* its name; "" */

#endif
