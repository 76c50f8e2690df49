/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit.h - what `arena check` does (check.h is the unit test library's): whether an arena is
 * whole, every page and object accounted for by exactly one owner, every index as its truth says.
 * Reads only; works on read-only mappings, on arenas in use, and on files that anything may have
 * happened to.
 */
#ifndef SHM_AUDIT_H
#define SHM_AUDIT_H

#include "arena.h"

enum audit_severity {
	AUDIT_INDEX, /* stale: what a death may leave behind, and use or a rebuild puts right */
	AUDIT_TRUTH, /* damage: what no death may leave behind */
	AUDIT_MISUSE /* what a program has done to an object of its own: no repair undoes it */
};

/*
 * All findings: name, severity, key for people and JSON, what it means.
 * What a death in the middle of an operation leaves, its client not yet recovered, is none.
 */
#define AUDIT_TABLE(X)                                                                             \
	X(HEADER, TRUTH, "header", "the header is not one of an arena of this size")               \
	X(HOLE, TRUTH, "hole", "memory of the arena's own bookkeeping is missing")                 \
	X(FLAGGED, TRUTH, "flagged", "an operation has met damage before")                         \
	X(ENTRY, TRUTH, "entry", "a page map entry makes no sense")                                \
	X(OVERLAP, TRUTH, "overlap", "a page inside an extent has an entry of its own")            \
	X(OWNER, TRUTH, "owner", "something is owned by a client that does not exist: lost")       \
	X(SPAN, TRUTH, "span", "pieces of a large extent and its head disagree")                   \
	X(SPAN_LEFT, INDEX, "span-left",                                                           \
	  "a piece of a large extent that is no more is not yet free")                             \
	X(SLAB, TRUTH, "slab", "the pages of a slab disagree")                                     \
	X(SLAB_WORD, TRUTH, "slab-word", "a page that is no slab's leads to a slab's record")      \
	X(RECORD, TRUTH, "record", "a slab and its record disagree")                               \
	X(RECORD_LOST, TRUTH, "record-lost", "a record is in use, but no slab has it")             \
	X(STATE_BLOCK, TRUTH, "state-block", "a state block's head disagrees with the page map")   \
	X(STATE_WORD, TRUTH, "state-word", "an object's state word makes no sense")                \
	X(MAPPED, TRUTH, "mapped", "an object that stands for a file does not say for which")      \
	X(COMMIT, TRUTH, "commit", "an extent lies where no memory was taken")                     \
	X(CLIENT, TRUTH, "client", "a client word makes no sense")                                 \
	X(THREAD, TRUTH, "thread", "a thread word or its block makes no sense")                    \
	X(CACHE_ARRAY, TRUTH, "cache-array", "a cache's array is not an object of its client")     \
	X(CACHE_TWICE, TRUTH, "cache-twice", "an object is ready in two places")                   \
	X(CACHE_HANDLE, INDEX, "cache-handle", "a ready handle does not match its object")         \
	X(NAME, TRUTH, "name", "a name and its object disagree")                                   \
	X(NAME_LOST, TRUTH, "name-lost", "an object is published, but no name has it")             \
	X(HOLD, TRUTH, "hold", "a held object and its hold record disagree")                       \
	X(HOLD_RECORD, TRUTH, "hold-record", "a hold record makes no sense")                       \
	X(HOLD_IDLE, TRUTH, "hold-idle", "an object is held by nobody: lost")                      \
	X(MARK, TRUTH, "mark", "a client owns something in a region that it has not marked")       \
	X(RING, TRUTH, "ring", "the log ring makes no sense")                                      \
	X(STACK, TRUTH, "stack", "temporary memory was written beyond an object's end")            \
	X(LOG_LOST, INDEX, "log-lost", "a large log record is in no block of the ring")            \
	X(ZONE_LOCK, INDEX, "zone-lock", "a zone's lock is held: its index was not compared")      \
	X(ZONE_HIGH, INDEX, "zone-high", "pages are taken above a zone's high mark")               \
	X(ZONE_FREE, INDEX, "zone-free", "a zone's free blocks are not what its page map says")    \
	X(ZONE_SUMMARY, INDEX, "zone-summary", "a zone's summaries disagree with its free blocks") \
	X(ZONE_COUNT, INDEX, "zone-count", "a zone's count of free pages is wrong")                \
	X(PENDING, INDEX, "pending", "a zone's stack of returned extents makes no sense")          \
	X(RETURNED, INDEX, "returned", "a returned extent is on no stack")                         \
	X(HINT_OBJECT, INDEX, "hint-object", "a free object has no hint bit")                      \
	X(HINT_SLAB, INDEX, "hint-slab", "a slab with free objects cannot be found by hints")      \
	X(HINT_RECORD, INDEX, "hint-record", "a free record cannot be found by hints")             \
	X(HIGH_WORD, INDEX, "high-word", "a client or thread word in use lies above the mark")     \
	X(OVERRUN, MISUSE, "overrun", "bytes behind an object were overwritten")                   \
	X(UNDERRUN, MISUSE, "underrun", "bytes before an object were overwritten")                 \
	X(WRITTEN, MISUSE, "written-after-free", "a freed object's bytes were overwritten")        \
	X(WATCHED_HEAD, MISUSE, "watched-head", "what is kept before an object was overwritten")   \
	X(TOO_MANY, TRUTH, "too-many", "more findings than are kept")

enum audit_what {
#define AUDIT_ENUM(name, severity, key, text) AUDIT_##name,
	AUDIT_TABLE(AUDIT_ENUM)
#undef AUDIT_ENUM
	AUDIT_WHATS
};

struct audit_finding {
	enum audit_severity severity;
	enum audit_what what;
	uint64_t page;	   /* where; AUDIT_NOWHERE if that says nothing */
	uint64_t handle;   /* object, thread, name or record: what it is about; 0: nothing */
	uint32_t client;   /* 0: nobody */
	uint64_t evidence; /* what was read: tells a finding that stays from the next one like it */
	char text[160];
};

#define AUDIT_NOWHERE  UINT64_MAX
#define AUDIT_KEPT_MAX 4096u /* findings; the rest is counted in one */

typedef void (*audit_report_fn)(void *context, const struct audit_finding *finding);

/*
 * live: others use the arena. What operations in progress make look wrong passes: the check is made
 * again for up to a second, and reports what stayed all the time.
 * The number of findings, 0: whole; -ENOMEM.
 */
int audit_arena(const struct arena *a, bool live, audit_report_fn report, void *context);

/*
 * A file, whatever it is: opens and maps it read-only first. What keeps it from being mapped is
 * reported as AUDIT_HEADER. -ENOENT, -EACCES, -ENOMEM, -EPROTO (of another version: nothing can be
 * said).
 */
int audit_file(const char *path, bool live, audit_report_fn report, void *context);

const char *audit_key(enum audit_what what);	 /* for JSON */
const char *audit_meaning(enum audit_what what); /* for people */

#endif
