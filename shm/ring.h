/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - the arena's log ring: many writers, any number of readers, no lock. See RING.md.
 *
 * A record is visible whole or not at all, whenever its writer dies. Writing is async-signal-safe.
 * Nobody waits for a process that is stopped or dead; a writer waits for a living consumer under
 * SHMA_LOG_BLOCK, a reader as long as it was told to.
 */
#ifndef SHM_RING_H
#define SHM_RING_H

#include <stddef.h>
#include <sys/types.h>

#include "arena.h"
#include "clock.h"

#define RING_RECORD_MAX ((size_t)1 << 20)
#define RING_WINDOW_NS UINT64_C(10000000)

/* arena_header.log_policy; the numbers of SHMA_LOG_... */
enum ring_policy { RING_OVERWRITE = 0, RING_DROP = 1, RING_BLOCK = 2 };

/* What a full ring means to writers, and how their records are timed. Live: of the next record of each, and of
 * those that wait. -EUCLEAN. */
enum ring_policy ring_policy(const struct arena *a);
enum clock_kind ring_clock(const struct arena *a);
int ring_set_policy(struct arena *a, enum ring_policy policy);
int ring_set_clock(struct arena *a, enum clock_kind kind);

/* Bytes of the arena's file for a ring that holds this many bytes of records. */
uint64_t ring_area_bytes(uint64_t log_capacity);

/* Writes the first contents of the area. -EINVAL: too small; -ENOMEM. */
int ring_format(struct arena *a);

/* ---- writing; tb is the calling thread's ---- */

/* -EAGAIN (full; counted as lost), -ENOMEM, -EMSGSIZE, -EINVAL (level), -EUCLEAN. */
int ring_append(struct arena *a, struct thread_block *tb, int level, const void *data, size_t len);
/* The same of a structured payload, as fields.h describes it. */
int ring_append_fields(struct arena *a, struct thread_block *tb, int level, const void *data, size_t len);

/* An open record, between reserve and commit. Private memory of the caller, who may have garbled it. */
struct ring_open {
	void *data;
	size_t len; /* may be lowered before the commit */
	uint64_t time_ns, seq; /* set by the commit */
	uint64_t place[3];
};

/* Errors as ring_append(). Records written meanwhile by this thread go elsewhere. */
int ring_reserve(struct arena *a, struct thread_block *tb, struct ring_open *open, int level,
		 size_t len);
int ring_reserve_fields(struct arena *a, struct thread_block *tb, struct ring_open *open, int level,
			size_t len);
/* -EPERM: opened by another thread, or by the parent of a forked child; -EINVAL: not open. */
int ring_commit(struct arena *a, struct thread_block *tb, struct ring_open *open);
int ring_abort(struct arena *a, struct thread_block *tb, struct ring_open *open);

/* ---- reading ---- */

#define RING_FROM_OLDEST 0x1u /* as SHMA_FROM_OLDEST … */
#define RING_FROM_NOW 0x2u
#define RING_CONSUMER 0x4u

/* As struct shma_record has it, so that a reader fills in the caller's (libclient/log_calls.c compares the two). */
struct ring_entry {
	void *data; /* the reader's own copy, until the next call */
	size_t len;
	int level;
	pid_t pid, tid;
	uint32_t dropped; /* by its thread, right before it */
	uint64_t time_ns; /* CLOCK_REALTIME */
	uint64_t seq;
	uint64_t lost; /* of all writers, dropped ones included, since the entry before */
	int late;
	int fields; /* structured, see fields.h */
	/* What tells it from all others of the ring: block, lap, and byte of the block, in a shared one slot. */
	uint64_t block, lap, at;
	uint64_t unused;
} __attribute__((may_alias));

struct ring_reader;

/*
 * Works on a read-only arena too, but for the consumer (-EROFS). Without RING_FROM_... a consumer goes on
 * where the last one was, counting as lost what was overwritten since; any other reader begins with the
 * oldest. -EBUSY: there is a consumer; -ENOMEM; -EINVAL; -EUCLEAN.
 */
int ring_reader_open(struct arena *a, struct ring_reader **ret, unsigned flags);

/*
 * A reader whose place is kept at a position, bytes of an object that outlives it. Zeros there are a new one, which
 * flags (RING_FROM_...) have begin somewhere, and is to be published when this returns; else it goes on behind the
 * last record done with, and all that was overwritten since, and not told, is lost. -EROFS; -EBUSY: another reader
 * lives; -EUCLEAN: not a position of this ring; others as above.
 */
int ring_reader_open_at(struct arena *a, struct ring_reader **ret, void *position, size_t bytes, unsigned flags);

/*
 * 1: a record; 0: none in time; -ENOMEM. A record is held back while an earlier one may still come: for at
 * most 10 ms, and never beyond the timeout. After 0, lost is what the next record will report.
 * A consumer, or reader of a position, is done with a record when it asks for the next one, or closes.
 */
int ring_reader_next(struct ring_reader *r, struct ring_entry *e, int timeout_ms);
void ring_reader_close(struct ring_reader *r);

/* ---- ends ---- */

/* Orderly end of a thread: seals what it leased. */
void ring_thread_exit(struct arena *a, struct thread_block *tb);

/*
 * For recovery, by the one recoverer; idempotent: a killed recoverer's successor calls them again.
 * -ENOMEM: not all could be done, call again.
 */
/* What a dead thread leased: sealed. tb may be NULL. */
int ring_recover_thread(struct arena *a, uint32_t thread_index, const struct thread_block *tb);
/* All that a dead client held in the ring: leases, resets half done, shared records half written, the
 * consumer's place. Comes before its regions are walked. */
int ring_recover_client(struct arena *a, uint32_t client);
/* An extent of kind PAGE_LOG with a dead client's number, after ring_recover_client(). True: it belongs to
 * a committed record, and to the arena from now on. False: it is raw now, to be freed as such. */
bool ring_recover_extent(struct arena *a, uint64_t page, uint32_t client);

/* Whether a committed record refers to the extent (PAGE_LOG) at page. */
bool ring_references(const struct arena *a, uint64_t page);
/* Bytes at the start of the ring's area that have memory from its creation on; 0: its header is damaged. */
uint64_t ring_fixed_bytes(const struct arena *a);

/* Whether the ring makes sense, as far as can be said while others write. If not, why says so. */
bool ring_valid(const struct arena *a, char *why, size_t why_size);

/*
 * The last records that this client's process wrote and that are still there, by time: how many, or -errno. Each
 * entry's data is the caller's, with room for so many bytes; len may be more. Reads, and moves no position.
 */
int ring_last(const struct arena *a, uint32_t client, pid_t pid, struct ring_entry *entries, uint32_t max,
	      size_t bytes);

/* For display. */
struct ring_survey {
	uint64_t blocks, block_bytes;
	uint64_t open, shared, sealed, unused; /* blocks; unused: never written */
	uint64_t records, bytes;	       /* now in the ring */
	uint64_t written;		       /* ever; overwritten = written - records */
	uint64_t dropped;
	uint32_t consumer; /* client, 0: none */
};
int ring_survey(const struct arena *a, struct ring_survey *ret);

#endif
