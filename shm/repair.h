/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repair.h - what `arena check --repair` does: makes an arena's file whole again after a power cut, a
 * copy that was cut short, or bytes changed by hand. shm/README.md says what can be repaired and what
 * is refused.
 *
 * Only with nobody attached, which the life locks tell; and nobody can attach before it ends. So all
 * clients are dead, what they owned returns, and what has to be rescued is what outlives its maker:
 * persistent and published objects, names, and the log. It may be killed at any instruction and be run
 * again.
 */
#ifndef SHM_REPAIR_H
#define SHM_REPAIR_H

#include "audit.h"

enum repair_result {
	REPAIR_DONE, /* wrong before, right now: nothing was lost by it */
	REPAIR_LOST, /* right now, but something is gone */
	REPAIR_NOT   /* not repaired, and why */
};

/* All notes: name, result, key for people and JSON, what it means. */
#define REPAIR_TABLE(X)                                                                           \
	X(HEADER, DONE, "header", "the header was damaged: its checksum and the rest tell it")    \
	X(LENGTH, DONE, "length", "the file was cut off: it is as long as it was, its end empty") \
	X(LIFE, DONE, "life-file", "the file of life locks was missing: made anew")               \
	X(BOUNDS, DONE, "bounds", "a mark in the header was beyond what there is")                \
	X(INDEX, DONE, "index", "indexes were wrong: computed anew from what they are over")      \
	X(ENTRY, DONE, "entry", "page map entries made no sense: free now")                       \
	X(STATE_BLOCK, DONE, "state-block", "a state block and its entry disagreed")              \
	X(SLAB, DONE, "slab", "a slab's pages and its record disagreed: one told the other")      \
	X(LARGE, DONE, "large", "a large object's entry was damaged: the rest of it tells it")    \
	X(KEPT, DONE, "kept", "whose an object was cannot be told: kept, as a persistent one")    \
	X(PUBLISHED, DONE, "published", "an object's state word was damaged: its name tells it")  \
	X(NAME, DONE, "name", "a name was damaged: its object, or its text, tells it")            \
	X(NAME_DROPPED, DONE, "name-dropped", "a name that made no sense: free now")              \
	X(LOG, DONE, "log", "the log ring's header or a block's was damaged: made anew")          \
	X(SLAB_LOST, LOST, "slab-lost", "a slab without its state words: its objects are gone")   \
	X(CUT_OFF, LOST, "cut-off", "an object lay behind the end of the file: gone")             \
	X(LARGE_CUT, LOST, "large-cut", "a large object reached over others: cut short")          \
	X(MAPPED_LOST, LOST, "mapped-lost", "which file an object stood for is gone: a plain one") \
	X(NAME_LOST, LOST, "name-lost", "a name whose object is gone: removed")                   \
	X(UNNAMED, LOST, "unnamed", "a published object whose name is gone: kept as persistent")  \
	X(LOG_LOST, LOST, "log-lost", "log records that could not be read: gone")                 \
	X(CUT_SHORT, NOT, "cut-short", "the file ends before the heap and the log: nothing left") \
	X(NO_HEADER, NOT, "no-header", "the header is damaged beyond what its checksum can heal") \
	X(BACKING, NOT, "backing", "memory of this kind has no file that could be repaired")      \
	X(ATTACHED, NOT, "attached", "processes are attached: repair needs to be alone")          \
	X(STILL, NOT, "still-damaged", "something is wrong even after the repair")

enum repair_what {
#define REPAIR_ENUM(name, result, key, text) REPAIR_##name,
	REPAIR_TABLE(REPAIR_ENUM)
#undef REPAIR_ENUM
		REPAIR_WHATS
};

struct repair_note {
	enum repair_what what;
	enum repair_result result;
	uint64_t page;		 /* AUDIT_NOWHERE if that says nothing */
	uint64_t handle;	 /* 0: nothing */
	uint64_t objects, bytes; /* lost, or kept */
	char text[160];
};

#define REPAIR_NOTES_MAX 1000u /* told one by one, of each kind; the sums have all */

/* What was done, in all. */
struct repair_sum {
	uint64_t repaired;		   /* notes of things made right */
	uint64_t lost_objects, lost_bytes; /* upper bounds where state words are gone */
	uint64_t lost_records;		   /* of the log, as far as they were counted */
	uint64_t kept_objects, kept_bytes; /* persistent and published, untouched or restored */
	uint64_t returned_objects, returned_bytes; /* of the dead: no damage */
	uint64_t left;				   /* findings of a check afterwards */
};

struct repair_watch {
	audit_report_fn found; /* what a check before the repair says; may be NULL */
	void (*note)(void *context, const struct repair_note *note); /* may be NULL */
	void *context;
};

/*
 * 0: it is whole now, whatever it was. Refused, with a note that says why: -EUCLEAN (damaged beyond
 * repair), -EBUSY (somebody is attached). -EPROTO: of another version; -EXDEV: of another pid namespace;
 * -ENOMEM, -ENOSPC: what it needs to be touched safely is not to be had; -ENOENT, -EACCES, -EIO.
 */
int repair_file(const char *path, const struct repair_watch *watch, struct repair_sum *ret);

const char *repair_key(enum repair_what what);
const char *repair_meaning(enum repair_what what);

#endif
