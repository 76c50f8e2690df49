/* SPDX-License-Identifier: Apache-2.0 */
/* deaths.h - the daemon's reports of clients that died, read: see daemon/deaths.h for what they look like. */
#ifndef TOOLS_DEATHS_H
#define TOOLS_DEATHS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "profile_sites.h"

struct death_size {
	uint64_t bytes; /* of one object; of large ones, of all together */
	uint64_t private_objects, shared_objects, cached_objects;
	bool large;
};

struct death_record {
	uint64_t time_ns, seq;
	int level, tid;
	char *text; /* as printed: \xNN for what is no text */
};

/* What it held by call: profile_sites.h has the form. */
struct death {
	uint32_t client, incarnation;
	char arena[64], uuid[40], command[160], ended[32];
	uint64_t attached_ns, died_ns;
	int64_t pid;
	uint64_t uid, threads;
	bool counted, whole; /* what it held; all of it */
	uint64_t objects, bytes; /* that programs had */
	uint64_t kept, holds;	 /* objects that it kept alive with others perhaps, and how often */
	struct death_size *sizes;
	struct death_record *records;
	struct profile_place *calls; /* most bytes first; estimated from samples */
	size_t size_count, record_count, call_count;
	bool profiled; /* when it died */
};

/* The next whole report: 1, 0 at the end, -ENOMEM. To be freed after 1. */
int death_read(FILE *f, struct death *ret);
void death_free(struct death *d);

#endif
