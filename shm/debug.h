/* SPDX-License-Identifier: Apache-2.0 */
/*
 * debug.h - watched objects: what lies around an object's bytes, and whether it is as it was left. Pure functions
 * over bytes, and what a thread knows of the call that it is in.
 *
 *   head (192 bytes, the last 32 of them red zone) | user's bytes, from `front` on | red zone to the object's end
 *
 * In a debug arena every object is watched; in a sampled one about one in debug_every. A handle names the place, as
 * everywhere; only the user's bytes begin further on: by debug_front in all small objects of a debug arena, and in a
 * large one by what word 1 of its page map entry says. So nothing else in the arena knows of it: slabs, caches,
 * recovery, walks and repairs go by places. A large one's last page is more red zone.
 *
 * Nothing in a head is believed without its sum, nor used as an offset without a check against the object's bytes.
 */
#ifndef SHM_DEBUG_H
#define SHM_DEBUG_H

#include <stdbool.h>

#include "arena.h"

#define DEBUG_EVERY	5000u /* sampled, where nothing else is asked for */
#define DEBUG_FRONT	sizeof(struct debug_head)
#define DEBUG_TAIL	16u   /* red zone behind an object, at least */
#define DEBUG_TAIL_MAX	8192u /* so much of it is written and looked at, at most */
#define DEBUG_SMALL_MAX 32768u /* with head and red zone; what is larger has a page behind it */

/* What the three are filled with. */
#define DEBUG_BEFORE 0xb1
#define DEBUG_BEHIND 0xb2
#define DEBUG_FREED  0xdf

enum debug_call {
	DEBUG_CALL_NONE = 0,
	DEBUG_CALL_FREE,
	DEBUG_CALL_PTR,
	DEBUG_CALL_READ,
	DEBUG_CALL_SIZE,
	DEBUG_CALL_RESIZE,
	DEBUG_CALL_SHARE,
	DEBUG_CALL_TAKE,
	DEBUG_CALL_PERSIST,
	DEBUG_CALL_PUBLISH,
	DEBUG_CALL_RETAIN,
	DEBUG_CALL_RELEASE,
	DEBUG_CALLS
};

/* A header's terms, into the view of the process that has just mapped it. */
void debug_apply(struct arena *a, const struct arena_header *h);

/* ---- the call that a thread is in ---- */

struct debug_caller {
	const char *here; /* file:line, as the macros of shmalloc.h say; NULL: they do not */
	uint32_t site;	  /* 1 + that of its stack; 0: none */
	uint32_t made;	  /* reports, in this call; their tickets go up to … */
	uint64_t ticket;  /* … this */
	char where[DEBUG_WHERE_BYTES];
};
extern __thread struct debug_caller debug_caller __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Finds out where the call comes from, into its caller's `where` and `site`; NULL: nobody can say. Of whoever is above. */
extern void (*debug_locate)(struct arena *a, struct debug_caller *caller) __attribute__((visibility("hidden")));
/* Of this moment, this thread and that call. */
void debug_point_make(struct arena *a, struct debug_point *p);

/* ---- heads ---- */

/* How an object of so many bytes is laid out. */
struct debug_plan {
	uint64_t bytes; /* of all of it */
	uint64_t front; /* before the user's */
	uint64_t align; /* of the whole, in bytes; 0: none but a page's */
	bool large;	/* in pages of its own, with one more behind it */
};
void debug_plan(struct debug_plan *ret, uint64_t size, uint64_t align, bool large);

/* Writes the head of a place of so many bytes, at a heap offset, and both red zones. */
void debug_head_write(struct arena *a, uint64_t offset, uint64_t bytes, uint64_t front, uint64_t size, uint32_t gen);
/* It is freed: by this call, its place to bear this generation. Fills its bytes. */
void debug_head_release(struct arena *a, uint64_t offset, struct debug_head *head, uint32_t gen);

/* Whether these bytes, copied from an offset, are the head of something that fits into so many bytes there. */
bool debug_head_valid(const struct debug_head *head, uint64_t offset, uint64_t bytes);
/* Copies a head through the mapping: of a place that is this client's. */
bool debug_head_load(const struct arena *a, uint64_t offset, uint64_t bytes, struct debug_head *ret);
/* The same through the file: of anybody's. */
bool debug_head_copy(const struct arena *a, uint64_t offset, uint64_t bytes, struct debug_head *ret);

static inline bool debug_head_is_freed(const struct debug_head *head)
{
	return head->freed & 1;
}

static inline uint32_t debug_head_next_gen(const struct debug_head *head)
{
	return head->freed >> 16;
}

/* ---- looking ---- */

struct debug_damage {
	enum debug_what what; /* DEBUG_NOTHING, OVERRUN, UNDERRUN, WRITTEN */
	int64_t at;	      /* the byte nearest to the object's own, from the first of these */
	uint32_t bytes;	      /* how many are wrong */
};

/* Both red zones, of a valid head; its place is this client's, and mapped. */
void debug_look_around(const struct arena *a, uint64_t offset, uint64_t bytes, const struct debug_head *head,
		       struct debug_damage *ret);
/* Likewise of anybody's, through the file. */
void debug_look_around_copy(const struct arena *a, uint64_t offset, uint64_t bytes, const struct debug_head *head,
			    struct debug_damage *ret);
/* What was filled at free. Of a page that was given back meanwhile all bytes may be zero. */
void debug_look_inside(const struct arena *a, uint64_t offset, const struct debug_head *head, struct debug_damage *ret);
/* Likewise of anybody's, through the file; of the first DEBUG_TAIL_MAX bytes. */
void debug_look_inside_copy(const struct arena *a, uint64_t offset, const struct debug_head *head,
			    struct debug_damage *ret);

/* FNV-1a (Fowler, Noll, Vo) over words, of which there are so many bytes. */
uint64_t debug_sum(uint64_t sum, const void *from, size_t bytes);
#define DEBUG_SUM UINT64_C(0xcbf29ce484222325)

#endif
