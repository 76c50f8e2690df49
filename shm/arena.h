/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - a process's view of an arena: its files mapped once, their pages committed before use and given
 * back when idle. Knows nothing of what lies in the heap.
 */
#ifndef SHM_ARENA_H
#define SHM_ARENA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "layout.h"
#include "sizeclass.h"

/* The descriptors that are an arena: its file, the file of its life locks, and the heap's own file for
 * hugetlb (else -1). All O_CLOEXEC. Nothing else in a process may open the life file: closing any
 * descriptor of it drops the lock. */
struct arena_files {
	int fd;
	int life_fd;
	int heap_fd;
};

void arena_files_close(struct arena_files *files);

/* Where the parts of a zone's index lie, from its start: geometry.h's answers, kept. */
struct zone_parts {
	uint64_t free_bits[ZONE_ORDERS];
	uint64_t free_summary[ZONE_ORDERS];
	uint64_t idle_bits, commit_bits, purged_bits, hint_bits, hint_summary;
	uint64_t region_words; /* of one row of hints, and of the commit bits */
};

/* A process's view of an arena. Private memory: processes and, in a forked child, time differ. */
struct arena {
	struct arena_header *header;
	char *heap; /* base of handles' offsets */
	char *user; /* base of the offsets that small objects' bytes have: in a debug arena, behind their heads */
	struct page_entry *pages;
	char *words;	   /* of a slab record at the heap's beginning: base of their offsets */
	uintptr_t entries; /* where the entry of the page at address 0 would lie */
	uint32_t tag;
	uint64_t tag_bits;    /* where a handle has it */
	uint64_t record_mask; /* of a page map entry's word 1: offsets below addresses that are reserved */
	/* Sizes to be had by pointer from a cache, in steps of 16 bytes; 0 where an offset in such steps does
	 * not fit 32 bits, above 64 GiB. */
	_Atomic uint64_t ptr_steps;
	/* The same of any cache; both 0 while the arena is profiled: no allocation goes the fast way then. W: any thread
	 * that learns that it was switched. */
	_Atomic uint64_t alloc_steps;
	/* Heap offsets below which objects can be freed by pointer, in units of 16 bytes: to 64 GiB. */
	uint64_t ptr_end;
	/* Added to the state word of an object private to this client: the upper half of its handle. */
	uint32_t slot_from_state;
	uint32_t client;	      /* this process's number; 0: none yet, or read-only */
	uint32_t cell;		      /* its place in each thread's table, in bytes: see thread.h */
	_Atomic uint32_t threads;     /* of this process, that have a thread block */
	int32_t claimant;	      /* the process that client is the number of; a forked child has it from its parent */
	_Atomic bool recovering;      /* a thread of this process is recovering a dead client */
	_Atomic uint64_t pages_known; /* page map entries below are committed; grows by arena_refresh() */
	char *base;		      /* of the mapping, at header */
	struct arena_geometry g;      /* the process's own copy, checked at open */
	uint32_t zone_shift;	      /* zone_pages is 1 << zone_shift */
	/* Zones by NUMA node, see placement.h. */
	uint32_t homes;		 /* nodes that zones belong to, in turn; 1: all zones are alike */
	uint32_t kept_zones;	 /* the first ones, for what stays */
	uint8_t home_nodes[64];	 /* the nodes' numbers */
	uint64_t home_zones[64]; /* their zones: a bit for each zone % 64 */
	uint64_t near_zones[64]; /* their zones and those of the nodes nearest to them */
	uint8_t node_homes[64];	 /* of any node's number: the home that is nearest to it */
	bool commit_by_touch;	 /* pages of the heap are to come by faults of this mapping */
	bool commit_huge;	 /* and as 2 MiB pages if the kernel can make some: see huge.h */
	struct zone_parts parts;      /* of each zone's index */
	struct arena_files files;
	uint64_t file_dev, file_ino; /* of the file that pages are taken for; see arena_commit() */
	void *reservation; /* what mmap gave; base is aligned inside it */
	uint64_t reservation_size;
	bool readonly;
	enum debug_mode debug;
	uint32_t debug_front;	   /* bytes before a small object's own */
	uint32_t debug_every;	   /* of its header */
	struct debug_room *_Atomic room; /* what this process has of a debug arena, see debug_room.h; NULL: nothing yet */
	_Atomic uint64_t taken; /* times that this process took memory for pages: tells whether a call did */
	_Atomic uint64_t *zones_marked; /* bit a zone: this client's region bitmap is committed there */
	/* Hint, by shape: the slab record that this process claimed last, page of its block << 8 | its index there. */
	_Atomic uint64_t record_last[SHAPES + 1];
	/* Copies of the tables of sizeclass.h that fast paths need, where the arena's other things are: no instruction is
	 * spent on where a table begins. */
	struct sizeclass_tables tables;
};

/* Whether allocations may go the fast way. */
void arena_allow_fast(struct arena *a, bool allowed);

/* Maps files of that geometry, whatever they hold; the view owns the descriptors from then on, unless it
 * fails. -EFBIG (RLIMIT_AS), -ENOMEM. */
int arena_map_files(struct arena *a, struct arena_files files, const struct arena_geometry *g, bool readonly);
void arena_unmap(struct arena *a);
/* Leaves the descriptors open. */
void arena_unmap_keep_files(struct arena *a);

/* Takes memory for a range of the file from the system; idempotent. -ENOMEM: there is none; -EBADF: the
 * process has closed the descriptor behind our back (closefrom()), and it may be another file's. */
int arena_commit(struct arena *a, uint64_t file_offset, uint64_t length);
/* Whether reading a range of the mapping is safe: not behind the file's end, nor a hole that no memory is
 * left for. True where the kernel cannot tell (before 5.14). */
bool arena_readable(const struct arena *a, uint64_t file_offset, uint64_t length);
/* The descriptor of the part of the arena that a range begins in; -EBADF: it is no longer that. */
int arena_file_of(const struct arena *a, uint64_t file_offset);
/* Gives memory back. */
int arena_punch(struct arena *a, uint64_t file_offset, uint64_t length);

/* Copies bytes, whatever happens to their pages meanwhile: those of a hole are zeros, where a load might fault.
 * Fewer than asked for only where the file ends. -EBADF as above. */
int64_t arena_read(const struct arena *a, uint64_t file_offset, void *to, uint64_t len);

/* Learns of zones that others have put into use; the number of active ones, never above zone_count. */
uint32_t arena_refresh(struct arena *a);

static inline void *arena_at(const struct arena *a, uint64_t file_offset)
{
	return a->base + file_offset;
}

#endif
