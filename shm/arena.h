/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - an arena's file: made whole under another name and then renamed, mapped once, its pages
 * committed before use and given back when idle. Knows nothing of what lies in the heap.
 */
#ifndef SHM_ARENA_H
#define SHM_ARENA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "layout.h"

struct arena_config {
	const char *name;      /* at most 63 of [A-Za-z0-9._-] */
	const char *path;      /* file backing: where; else NULL */
	uint64_t capacity;     /* bytes; 0: 1 GiB */
	uint64_t log_capacity; /* bytes; 0: 4 MiB */
	uint64_t client_quota; /* bytes; 0: none */
	enum arena_backing backing;
	uint32_t log_policy; /* SHMA_LOG_... */
	uint32_t mode;	     /* permission bits; 0: 0600 */
	uint32_t numa_mode, huge_mode;
	uint64_t numa_nodes;
};

/* The descriptors that are an arena: its file, the file of its life locks, and the heap's own file for
 * hugetlb (else -1). All O_CLOEXEC. Nothing else in a process may open the life file: closing any
 * descriptor of it drops the lock. */
struct arena_files {
	int fd;
	int life_fd;
	int heap_fd;
};

/* Where the parts of a zone's index lie, from its start: geometry.h's answers, kept. */
struct zone_parts {
	uint64_t free_bits[ZONE_ORDERS];
	uint64_t free_summary[ZONE_ORDERS];
	uint64_t commit_bits, hint_bits, hint_summary;
	uint64_t region_words; /* of one row of hints, and of the commit bits */
};

/* A process's view of an arena. Private memory: processes and, in a forked child, time differ. */
struct arena {
	struct arena_header *header;
	char *heap; /* base of handles' offsets */
	struct page_entry *pages;
	uint32_t tag;
	uint64_t tag_bits;    /* where a handle has it */
	uint64_t record_mask; /* of a page map entry's word 1: offsets below addresses that are reserved */
	/* Sizes to be had by pointer from a cache, in steps of 16 bytes; 0 where an offset in such steps does
	 * not fit 32 bits, above 64 GiB. */
	uint64_t ptr_steps;
	uint32_t client;	      /* this process's number; 0: none yet, or read-only */
	uint32_t cell;		      /* its place in each thread's table of thread blocks, see thread.h */
	_Atomic uint32_t threads;     /* of this process, that have a thread block */
	_Atomic bool recovering;      /* a thread of this process is recovering a dead client */
	_Atomic uint64_t pages_known; /* page map entries below are committed; grows by arena_refresh() */
	_Atomic uint64_t pages_narrow; /* of them, those whose offsets / 16 fit 32 bits */
	char *base;		      /* of the mapping, at header */
	struct arena_geometry g;      /* the process's own copy, checked at open */
	uint32_t zone_shift;	      /* zone_pages is 1 << zone_shift */
	struct zone_parts parts;      /* of each zone's index */
	struct arena_files files;
	uint64_t file_dev, file_ino; /* of the file that pages are taken for; see arena_commit() */
	void *reservation; /* what mmap gave; base is aligned inside it */
	uint64_t reservation_size;
	bool readonly;
	_Atomic uint64_t *zones_marked; /* bit a zone: this client's region bitmap is committed there */
};

/* Paths of a posix arena in /dev/shm. -ENAMETOOLONG, -EINVAL (characters). */
int arena_name_check(const char *name);
int arena_path(char *buf, size_t size, const char *name);

/* Makes an arena. -EEXIST, -EINVAL, -ENOSPC, -EACCES, -EFBIG (RLIMIT_FSIZE). Leaves nothing behind if it
 * fails; if the caller dies in it, at most an empty life file, which the next create removes. */
int arena_create(const struct arena_config *config, struct arena_files *ret);
/* Opens an arena's files by path. -ENOENT, -EACCES. */
int arena_open(const char *path, bool readonly, struct arena_files *ret);
/* Removes its names. Attached processes go on with it; its memory returns when the last one ends. */
int arena_unlink(const char *path);
/* The life file alone: what a death in arena_unlink() leaves of an arena that had this uuid. */
void arena_unlink_life(const char *path, const uint8_t uuid[16]);
void arena_files_close(struct arena_files *files);

/* Maps it; the view owns the descriptors from then on. -EUCLEAN (not an arena, truncated), -EPROTO
 * (another version), -EXDEV (another pid namespace; not for readonly), -EFBIG, -ENOMEM. */
int arena_map(struct arena *a, struct arena_files files, bool readonly);
void arena_unmap(struct arena *a);
/* For the formatter: maps files that have no header yet, and leaves them open. */
int arena_map_unformatted(struct arena *a, struct arena_files files, const struct arena_geometry *g);
void arena_unmap_keep_files(struct arena *a);

/* Takes memory for a range of the file from the system; idempotent. -ENOMEM: there is none; -EBADF: the
 * process has closed the descriptor behind our back (closefrom()), and it may be another file's. */
int arena_commit(struct arena *a, uint64_t file_offset, uint64_t length);
/* Gives it back. */
int arena_punch(struct arena *a, uint64_t file_offset, uint64_t length);

/* Learns of zones that others have put into use; the number of active ones, never above zone_count. */
uint32_t arena_refresh(struct arena *a);

static inline void *arena_at(const struct arena *a, uint64_t file_offset)
{
	return a->base + file_offset;
}

#endif
