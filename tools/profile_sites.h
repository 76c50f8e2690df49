/* SPDX-License-Identifier: Apache-2.0 */
/* profile_sites.h - live memory by the calls that it came from, estimated from an arena's samples. */
#ifndef TOOLS_PROFILE_SITES_H
#define TOOLS_PROFILE_SITES_H

#include <stddef.h>

#include "profile.h"
#include "symbols.h"

struct profile_call {
	struct profile_binary binary; /* path "": unknown */
	uint64_t offset;
	char *name; /* of the function; else file+0xoffset */
	struct symbol symbol;
};

struct profile_place {
	uint32_t site;
	uint64_t samples;
	double objects, bytes; /* estimated, live */
	double allocated;      /* bytes, since the profile began; of all processes */
	struct profile_call *calls; /* innermost first, the library's own left out */
	uint32_t count;
};

struct profile_places {
	struct profile_place *list; /* most bytes first */
	size_t count;
	double objects, bytes;
	double class_objects[CLASSES + 1], class_bytes[CLASSES + 1]; /* by size class; the last: of none */
	uint64_t samples;
	struct symbols *symbols;
};

/* Reads the calls of its site, and resolves them: -ENOMEM. None, if there is no such site. */
int profile_place_read(const struct arena *a, struct symbols *symbols, struct profile_place *p);
/* Names its calls, and leaves out the library's own: -ENOMEM. */
int profile_place_resolve(struct profile_place *p, struct symbols *symbols);
void profile_place_free(struct profile_place *p);

/* Which samples count; of what is 0 or NULL all do. */
struct profile_choice {
	uint32_t client; /* this one's, whose process is pid: not those of whom its number belonged to before */
	int32_t pid;
	uint64_t before_ns; /* allocated no later */
	bool (*keep)(void *context, uint64_t handle);
	void *context;
};

/* 0, -ENOMEM. */
int profile_places_count(struct arena *a, const struct profile_choice *choice, struct profile_places *ret);
void profile_places_free(struct profile_places *p);
/* The calls in one line: innermost first, " < " between, or, for flame graphs, outermost first and ";". malloc'ed. */
char *profile_place_text(const struct profile_place *p, bool collapsed);

#endif
