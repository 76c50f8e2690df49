/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - a process's slot in an arena: its number, its record, the life lock that the kernel
 * drops at its death, and the marks that say in which regions of the heap it may own something.
 *
 * A slot is its client word (layout.h). Whoever moves a word from free to opening holds the POSIX
 * lock on the slot's byte of the life file, so no two processes fill one record; every later change
 * is a compare-and-swap from the exact word seen, incarnation included, so none acts on an earlier
 * tenant. While a word is not free, the client's record, summary and first leaf page are committed
 * memory.
 *
 * One process, one attachment of an arena, one client: F_GETLK never shows a process its own locks,
 * and closing any descriptor of the life file drops them. client_claim(), client_fork_child() and
 * client_release() are called by one thread of a process at a time; the rest by any.
 */
#ifndef SHM_CLIENT_H
#define SHM_CLIENT_H

#include "arena.h"
#include "geometry.h"
#include "stop_point.h"

/* ---- slots ---- */

/*
 * Takes a slot for this process and sets a->client; 0 if it has one. -EUSERS: all are taken, and
 * then the caller may recover dead clients and try again; -EROFS; -ENOMEM; -EBADF, -ENOLCK: no life
 * file.
 */
int client_claim(struct arena *a);

/*
 * Only a client can recover others. So that an arena whose slots are all taken by the dead is not
 * lost to the living, the last few slots are kept for this: claim a spare one, recover, release it,
 * claim.
 */
#define CLIENT_SPARES 8u
int client_claim_spare(struct arena *a);

/*
 * In a forked child, where the parent's locks do not count: forgets the parent's number and claims
 * an own slot through the inherited mapping and descriptors. Errors as above; a->client is then 0.
 */
int client_fork_child(struct arena *a);

/*
 * Gives the slot back in order, if the client owns nothing: no region is marked and no recovery is
 * its own. Else -EBUSY, and the slot, with the objects, stays the process's until it ends:
 * detaching must then keep the life file open, since closing it is a death, and had better keep the
 * mapping, by which a client is known to live that has lost its lock to closefrom(). No other call
 * may be in progress.
 */
int client_release(struct arena *a);

/* A client's record, copied; -ENOENT: no such client. */
struct client_view {
	enum client_state state;
	uint32_t incarnation;
	uint32_t recoverer;
	pid_t pid;
	uint32_t uid;
	uint64_t start_time;
	uint64_t opened_ns;
	int64_t owned_bytes;
	char command[32];
};
int client_view(const struct arena *a, uint32_t client, struct client_view *ret);

/* Asks the threads of all clients to empty their caches: each does at its next slow call. For one to whom
 * memory is short. */
void client_ask_to_shrink(struct arena *a);

/* What /proc/PID/stat says of a process. -ESRCH: there is none, or it may not be seen. */
struct client_process {
	uint64_t start_time; /* clock ticks since boot */
	uint32_t threads;    /* of its group, not yet released */
	char state;
	int exit_code; /* of a zombie: as wait() will give it; -1: not told */
	char command[32];
};
int client_process(pid_t pid, struct client_process *ret);
/* The parser: text is the whole line, terminated. -EINVAL. */
int client_process_parse(const char *text, struct client_process *ret);

/* Whether another process holds a slot's life lock: 1, 0, or -errno. Never this process's own. */
int client_locked(const struct arena *a, uint32_t client);

static inline _Atomic uint64_t *client_word_at(const struct arena *a, uint32_t client)
{
	return (_Atomic uint64_t *)arena_at(a, a->g.client_words) + client;
}

static inline uint64_t client_area_at(const struct arena *a, uint32_t client)
{
	return a->g.client_areas + client * a->g.client_area_size;
}

/* Committed, and so readable, from the first time that the slot's word was not free. */
static inline struct client_record *client_record_at(const struct arena *a, uint32_t client)
{
	return arena_at(a, client_area_at(a, client));
}

/* Words below this may be in use. */
static inline uint32_t client_high(const struct arena *a)
{
	uint32_t high = atomic_load_explicit(&a->header->clients_high, memory_order_acquire);

	return high < CLIENTS_MAX ? high : CLIENTS_MAX;
}

/* A thread's block, if the thread's word leads to one of this client; else NULL. */
const struct thread_block *client_thread_block(const struct arena *a, uint64_t word, uint32_t client);

/* ---- bytes owned, an index for quotas ---- */

static inline void client_owned_add(struct arena *a, uint32_t client, int64_t bytes)
{
	atomic_fetch_add_explicit(&client_record_at(a, client)->owned_bytes, bytes,
				  memory_order_relaxed);
}

static inline int64_t client_owned(const struct arena *a, uint32_t client)
{
	return atomic_load_explicit(&client_record_at(a, client)->owned_bytes,
				    memory_order_relaxed);
}

/* ---- region marks ---- */

#define CLIENT_NO_REGION UINT64_MAX

/* A bit a 64-byte line of the leaf. */
static inline _Atomic uint64_t *client_summary(const struct arena *a, uint32_t client)
{
	return arena_at(a, client_area_at(a, client) + geometry_mark_summary());
}

/* A bit a region. A line of it may be touched once its zone was prepared, or its summary bit is
 * set. */
static inline _Atomic uint64_t *client_leaf(const struct arena *a, uint32_t client)
{
	return arena_at(a, client_area_at(a, client) + geometry_mark_leaf(&a->g));
}

/* Takes the memory of this client's marks for a zone from the system. -ENOMEM. */
int client_prepare_zone_slow(struct arena *a, uint64_t zone);

/*
 * To be called before client_mark() for a page of the zone, outside of locks. Cheap when done
 * before. -EINVAL: no such zone; -ENOMEM.
 */
static inline int client_prepare_zone(struct arena *a, uint64_t zone)
{
	if (zone < a->g.zone_count &&
	    atomic_load_explicit(&a->zones_marked[zone / 64], memory_order_acquire) >> (zone % 64) &
		    1)
		return 0;
	return client_prepare_zone_slow(a, zone);
}

/*
 * Notes that this client may own something in the page's region. Comes before the store or
 * compare-and-swap that makes it an owner there.
 *
 * PAIR(client-mark): mark, then ownership. The other side, client_marks_next(), runs after the
 * death, of which the kernel tells, so only the compiler must be kept in order.
 * Crash: before or between, a mark or none, and nothing owned; a mark too many costs a look.
 */
static inline void client_mark(struct arena *a, uint64_t page)
{
	uint64_t region = page / REGION_PAGES;
	_Atomic uint64_t *summary = client_summary(a, a->client) + region / (512 * 64);
	_Atomic uint64_t *leaf = client_leaf(a, a->client) + region / 64;
	uint64_t line = UINT64_C(1) << (region / 512 % 64);
	uint64_t bit = UINT64_C(1) << (region % 64);

	/* Summary first: the recoverer goes by it, and finds lines of the leaf through it alone. */
	if (!(atomic_load_explicit(summary, memory_order_relaxed) & line))
		atomic_fetch_or_explicit(summary, line, memory_order_relaxed);
	STOP_POINT(client_line_marked);
	if (!(atomic_load_explicit(leaf, memory_order_relaxed) & bit))
		atomic_fetch_or_explicit(leaf, bit, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

/* Both: for pages of a zone that may not have been prepared. -ENOMEM: not marked. */
static inline int client_mark_page(struct arena *a, uint64_t page)
{
	int r = client_prepare_zone(a, page >> a->zone_shift);

	if (!r)
		client_mark(a, page);
	return r;
}

/* Whether a client may own something in the page's region. */
bool client_marked(const struct arena *a, uint32_t client, uint64_t page);

/* The first region from `from` on that a client may own something in, or CLIENT_NO_REGION. */
uint64_t client_marks_next(const struct arena *a, uint32_t client, uint64_t from);
/* By its recoverer: nothing of the client is left in the region; in all. Idempotent. */
void client_marks_drop(struct arena *a, uint32_t client, uint64_t region);
void client_marks_clear(struct arena *a, uint32_t client);

#endif
