/* SPDX-License-Identifier: Apache-2.0 */
/* judge.h - the parts of the oracle. Whoever finds something wrong says so by broken(). */
#ifndef CRASH_JUDGE_H
#define CRASH_JUDGE_H

#include "audit.h"
#include "crash.h"

#define NUMBER(n)    (unsigned long long)(n)
#define REPORT_BYTES 900

/* Around what nobody may have to wait long for. */
void watch_start(void);
void watch_stop(const char *what);
/* Into a text of REPORT_BYTES. */
void judge_report(void *text, const struct audit_finding *finding);

/* Live clients, this one included, and dead ones. */
uint32_t census_clients(const struct arena *a, uint32_t *dead);
void census_take(struct census *c);
/* With what there was without a victim. mine: pages of this process's objects. */
void census_compare(uint64_t mine);
/* An index may be stale until its lock is taken. */
void census_use_zones(void);
/* Takes whatever the zones have, in blocks as large as there are: all that is not in use, then nothing. */
void census_take_all_pages(void);

/* What is shown of the profile. */
void look_at_profile(void);

#endif
