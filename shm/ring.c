/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing records into a block of one's own: plain stores, made valid by one.
 *
 * A thread has four nesting levels, each with its own lease. A level is taken before anything else of it
 * is read, so a signal handler that logs in the middle of a record, or after a reserve, uses another one
 * and returns with all as it was. When none is left, and when there are too many leases for the ring,
 * records go to blocks that threads share (ring_shared.c).
 */
#include <errno.h>

#include "extent.h"
#include "ring_view.h"
#include "stop_point.h"

#define SHARE_RECORDS 64u /* to shared blocks before the next try to lease */

/* ---- levels ---- */

/* True if it was not taken. One instruction, against this thread's signal handlers. */
static inline bool level_take(struct ring_level *level)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	bool taken;

	__asm__ volatile("btsl $0, %0\n\tsetc %1" : "+m"(level->taken), "=q"(taken) : : "cc", "memory");
	return !taken;
#else
	bool taken = __atomic_exchange_n(&level->taken, 1, __ATOMIC_RELAXED);

	atomic_signal_fence(memory_order_seq_cst);
	return !taken;
#endif
}

static inline void level_leave(struct ring_level *level)
{
	atomic_signal_fence(memory_order_seq_cst);
	__atomic_store_n(&level->taken, 0, __ATOMIC_RELAXED);
}

static inline struct ring_level *level_any(struct ring_writer *w)
{
	for (uint32_t i = 0; i < RING_LEVELS; i++)
		if (level_take(&w->levels[i]))
			return &w->levels[i];
	return NULL;
}

/* The thread block lies in shared memory too: whatever it says, stores stay in the ring's area. */
static inline bool level_sane(const struct arena *a, const struct ring_level *level)
{
	uint64_t data = level->data - a->g.ring, head = level->head - a->g.ring;

	return head < a->g.ring_size - sizeof(struct ring_block) && data < a->g.ring_size &&
	       data + level->end <= a->g.ring_size && !(head & 7) && !(data & 7);
}

static inline struct ring_block *level_head(const struct arena *a, const struct ring_level *level)
{
	return arena_at(a, level->head);
}

/* Room for bytes more in the level's block, which nobody wants back. */
static inline bool level_has_room(const struct arena *a, const struct ring_level *level, uint32_t bytes)
{
	return level->head && level_sane(a, level) &&
	       ring_committed_bytes(level->committed) + (uint64_t)bytes <= level->end &&
	       !atomic_load_explicit(&level_head(a, level)->close, memory_order_relaxed);
}

static inline struct ring_record *level_record(const struct arena *a, const struct ring_level *level)
{
	return arena_at(a, level->data + ring_committed_bytes(level->committed));
}

static void level_forget(struct ring_level *level)
{
	level->head = 0;
	level->inline_max = 0;
	level->extent_pages = 0;
}

static void level_seal(const struct ring_view *v, struct ring_level *level)
{
	uint32_t block = level->block;

	if (level->head && block < v->blocks)
		ring_seal(v, block, level->word);
	level_forget(level);
}

static int level_lease(struct arena *a, const struct ring_view *v, struct thread_block *tb,
		       struct ring_level *level)
{
	struct ring_who who;
	uint32_t block;
	int r;

	ring_who(a, tb, &who);
	r = ring_lease(a, v, &who, RING_LEASE_OWN, &block);
	if (r)
		return r;
	STOP_POINT(ring_leased);
	level->block = block;
	level->word = atomic_load_explicit(&v->words[block], memory_order_relaxed);
	level->committed = ring_committed(ring_word_lap(level->word), false);
	level->data = ring_block_at(v, block);
	level->end = ring_block_bytes(v);
	level->extent_pages = 0;
	level->head = a->g.ring + (uint64_t)((char *)&v->heads[block] - (char *)v->header);
	level->inline_max = ring_block_bytes(v) / 4;
	return 0;
}

/* Bytes in the level's block of a record of len. */
static uint32_t bytes_for(const struct ring_view *v, size_t len)
{
	return ring_record_bytes(len <= ring_block_bytes(v) / 4 ? (uint32_t)len :
								  sizeof(struct ring_reference));
}

/*
 * Makes room for a record of len. Waits under SHMA_LOG_BLOCK. -EDQUOT: the record goes to a shared block.
 * Crash: a sealed block is complete; between seal and lease nothing is held.
 */
static int level_make_room(struct arena *a, const struct ring_view *v, struct thread_block *tb,
			   struct ring_level *level, size_t len)
{
	int r;

	if (level_has_room(a, level, bytes_for(v, len)) &&
	    ((uint64_t)level->extent_pages << PAGE_SHIFT) < ring_block_bytes(v))
		return 0;
	level_seal(v, level);
	if (level->share) {
		level->share--;
		return -EDQUOT;
	}
	STOP_POINT(ring_sealed);
	r = level_lease(a, v, tb, level);
	if (r == -EDQUOT)
		level->share = SHARE_RECORDS;
	return r;
}

/* ---- one record ---- */

/*
 * The record, whose payload is in place, becomes visible; bytes is its size. The clock is read in between,
 * so that the time between a record's time and its publication is as short as it can be.
 * Crash: before committed the record is not there; after, it is. Modelled in tests/model/ring_block.pml.
 */
static inline struct ring_stamp publish(const struct arena *a, struct ring_writer *w,
					struct ring_block *head,
					struct ring_level *level, struct ring_record *record,
					uint32_t info, uint32_t bytes)
{
	uint64_t committed = level->committed + bytes + (UINT64_C(1) << RING_RECORDS_SHIFT);
	struct ring_stamp stamp;

	/* PAIR(ring-busy): busy before the clock, and until after committed. A reader that misses it for
	 * the moment that a store takes to arrive allows for that in its order. */
	atomic_store_explicit(&head->busy, 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	STOP_POINT(ring_busy);
	stamp = ring_stamp(a, w);
	record->info = info;
	record->dropped = stamp.dropped;
	record->time = stamp.time;
	record->seq = stamp.seq;
	STOP_POINT(ring_record_written);
	/* PAIR(ring-commit): payload and header before committed length. */
	atomic_store_explicit(&head->committed, committed, memory_order_release);
	STOP_POINT(ring_committed);
	level->committed = committed;
	atomic_store_explicit(&head->busy, 0, memory_order_release);
	return stamp;
}

/* Of a record of this level, structured or not; -1: there is no such level. */
static inline int kind_of(int severity, int fields)
{
	return (unsigned)severity > 7 ? -1 : severity | fields;
}

/* 0, with the ring's parts; or why there can be no such record. */
static int prepare(struct arena *a, int kind, size_t len, struct ring_view *v)
{
	if (!ring_view(a, v)) {
		atomic_store_explicit(&a->header->damaged, 1, memory_order_relaxed);
		return -EUCLEAN;
	}
	if (kind < 0)
		return -EINVAL;
	return len > RING_RECORD_MAX ? -EMSGSIZE : 0;
}

/* A record in an extent: filled, noted, referred to, committed, settled. */
static struct ring_stamp publish_large(struct arena *a, struct ring_writer *w,
				       struct ring_level *level, uint32_t page, uint32_t info)
{
	struct ring_block *head = level_head(a, level);
	struct ring_record *record = level_record(a, level);
	struct ring_extent where = {
		.block = level->block,
		.lap = ring_word_lap(level->word),
		.position = ring_committed_bytes(level->committed) + sizeof(*record),
	};
	struct ring_reference ref;
	struct ring_stamp stamp;

	atomic_store_explicit(&head->extents, 1, memory_order_relaxed);
	/* Crash: until committed the extent is a dead client's that no record refers to; after, one that a
	 * record refers to: ring_recover_extent() tells them apart. */
	ref = ring_large_note(a, page, &where);
	STOP_POINT(ring_extent_noted);
	memcpy(record + 1, &ref, sizeof(ref));
	level->extent_pages += ref.pages;
	stamp = publish(a, w, head, level, record, info, ring_record_bytes(sizeof(ref)));
	STOP_POINT(ring_extent_unsettled);
	ring_large_settle(a, &ref);
	return stamp;
}

static int append_large(struct arena *a, const struct ring_view *v, struct thread_block *tb,
			struct ring_level *level, int kind, const void *data, size_t len)
{
	struct ring_who who;
	uint32_t page;
	int r;

	ring_who(a, tb, &who);
	r = ring_large_alloc(a, v, tb, &who, len, &page);
	if (r)
		return r;
	memcpy(ring_large_data(a, page), data, len);
	publish_large(a, &tb->ring, level, page, ring_info((uint32_t)len, kind, true));
	return 0;
}

static void append_here(struct arena *a, struct thread_block *tb, struct ring_level *level,
			int kind, const void *data, size_t len)
{
	struct ring_record *record = level_record(a, level);

	if (len)
		memcpy(record + 1, data, len);
	publish(a, &tb->ring, level_head(a, level), level, record,
		ring_info((uint32_t)len, kind, false), ring_record_bytes((uint32_t)len));
}

static int append_at(struct arena *a, const struct ring_view *v, struct thread_block *tb,
		     struct ring_level *level, int kind, const void *data, size_t len)
{
	int r = level_make_room(a, v, tb, level, len);

	if (r)
		return r;
	if (len > ring_block_bytes(v) / 4)
		return append_large(a, v, tb, level, kind, data, len);
	append_here(a, tb, level, kind, data, len);
	return 0;
}

/* All but the common case; the level, if any, is taken. */
static __attribute__((noinline)) int append_slowly(struct arena *a, struct thread_block *tb,
						   struct ring_level *level, int kind,
						   const void *data, size_t len)
{
	struct ring_view v;
	int saved = errno, r = prepare(a, kind, len, &v);

	if (!r)
		r = level ? append_at(a, &v, tb, level, kind, data, len) : -EDQUOT;
	if (level)
		level_leave(level);
	if (r == -EDQUOT)
		r = ring_shared_append(a, tb, kind, data, len);
	if (r == -EAGAIN)
		r = ring_drop(&v, &tb->ring);
	else if (!r)
		ring_bell_ring(v.bell);
	errno = saved;
	return r;
}

/* Written twice: for a record that is not structured nothing of its kind is looked at. */
static inline __attribute__((always_inline)) int append(struct arena *a, struct thread_block *tb,
							int severity, int fields, const void *data,
							size_t len)
{
	struct ring_level *level = &tb->ring.levels[0];

	if (__builtin_expect(!level_take(level), 0))
		level = level_any(&tb->ring);
	/* inline_max is below the block's size, or 0 without a lease: no sum wraps. */
	if (__builtin_expect(!level || len > level->inline_max || len > RING_RECORD_MAX ||
				     (unsigned)severity > 7 ||
				     !level_has_room(a, level, ring_record_bytes((uint32_t)len)),
			     0))
		return append_slowly(a, tb, level, kind_of(severity, fields), data, len);
	append_here(a, tb, level, severity | fields, data, len);
	level_leave(level);
	ring_bell_ring(ring_bell(a));
	return 0;
}

int ring_append(struct arena *a, struct thread_block *tb, int severity, const void *data,
		size_t len)
{
	return append(a, tb, severity, 0, data, len);
}

int ring_append_fields(struct arena *a, struct thread_block *tb, int severity, const void *data,
		       size_t len)
{
	return append(a, tb, severity, RING_KIND_FIELDS, data, len);
}

/* ---- reserve, commit, abort ---- */

static int reserve_at(struct arena *a, const struct ring_view *v, struct thread_block *tb,
		      struct ring_level *level, struct ring_open *open, int kind, size_t len)
{
	struct ring_record *record;
	struct ring_who who;
	uint32_t page = 0;
	int r = level_make_room(a, v, tb, level, len);

	if (r)
		return r;
	if (len > ring_block_bytes(v) / 4) {
		ring_who(a, tb, &who);
		r = ring_large_alloc(a, v, tb, &who, len, &page);
		if (r)
			return r;
		open->data = ring_large_data(a, page);
		level->extent = page + 1;
	} else {
		level->extent = 0;
		open->data = level_record(a, level) + 1;
	}
	record = level_record(a, level);
	record->info = ring_info((uint32_t)len, kind, level->extent != 0);
	level->reserved = (uint32_t)len + 1;
	open->len = len;
	open->place[0] = tb->index + 1 + ((uint64_t)(level - tb->ring.levels) << 32);
	open->place[1] = level->word;
	open->place[2] = level->committed;
	return 0;
}

static int reserve(struct arena *a, struct thread_block *tb, struct ring_open *open, int kind,
		   size_t len)
{
	struct ring_level *level;
	struct ring_view v;
	int saved = errno, r = prepare(a, kind, len, &v);

	if (r)
		return r;
	level = level_any(&tb->ring);
	r = level ? reserve_at(a, &v, tb, level, open, kind, len) : -EDQUOT;
	if (r && level)
		level_leave(level); /* else it stays taken: the block is this record's alone */
	if (r == -EDQUOT)
		r = ring_shared_reserve(a, tb, open, kind, len);
	if (r == -EAGAIN)
		r = ring_drop(&v, &tb->ring);
	errno = saved;
	return r;
}

int ring_reserve(struct arena *a, struct thread_block *tb, struct ring_open *open, int severity,
		 size_t len)
{
	return reserve(a, tb, open, kind_of(severity, 0), len);
}

int ring_reserve_fields(struct arena *a, struct thread_block *tb, struct ring_open *open,
			int severity, size_t len)
{
	return reserve(a, tb, open, kind_of(severity, RING_KIND_FIELDS), len);
}

/* The level of an open reserve, or NULL with *err. */
static struct ring_level *opened(const struct arena *a, struct thread_block *tb,
				 const struct ring_open *open, int *err)
{
	struct ring_level *level;

	*err = -EPERM;
	if ((uint32_t)open->place[0] != tb->index + 1)
		return NULL;
	*err = -EINVAL;
	if (open->place[0] >> 32 >= RING_LEVELS)
		return NULL;
	level = &tb->ring.levels[open->place[0] >> 32];
	if (!level->reserved || level->word != open->place[1] || level->committed != open->place[2] ||
	    !level->head || !level_sane(a, level))
		return NULL;
	return level;
}

static void close_reserve(struct ring_level *level, struct ring_open *open)
{
	level->reserved = 0;
	level->extent = 0;
	open->place[0] = 0;
	open->data = NULL;
	level_leave(level);
}

int ring_commit(struct arena *a, struct thread_block *tb, struct ring_open *open)
{
	struct ring_level *level;
	struct ring_record *record;
	uint32_t len = (uint32_t)open->len;
	struct ring_stamp stamp;
	int kind, r;

	if (open->place[0] & RING_PLACE_SHARED)
		return ring_shared_commit(a, tb, open, true);
	level = opened(a, tb, open, &r);
	if (!level)
		return r;
	if (open->len >= level->reserved)
		return -EINVAL;
	record = level_record(a, level);
	kind = ring_info_kind(record->info);
	if (level->extent)
		stamp = publish_large(a, &tb->ring, level, level->extent - 1,
				      ring_info(len, kind, true));
	else
		stamp = publish(a, &tb->ring, level_head(a, level), level, record,
				ring_info(len, kind, false), ring_record_bytes(len));
	open->seq = stamp.seq;
	open->time_ns = stamp.time + atomic_load_explicit(&level_head(a, level)->real_offset,
							  memory_order_relaxed);
	close_reserve(level, open);
	ring_bell_ring(ring_bell(a));
	return 0;
}

/* Of a large record that is not to be: page + 1, as its level has it, or 0. */
static void free_extent(struct arena *a, uint32_t extent)
{
	if (extent && extent <= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		extent_free(a, extent - 1);
}

int ring_abort(struct arena *a, struct thread_block *tb, struct ring_open *open)
{
	struct ring_level *level;
	int r;

	if (open->place[0] & RING_PLACE_SHARED)
		return ring_shared_commit(a, tb, open, false);
	level = opened(a, tb, open, &r);
	if (!level)
		return r;
	free_extent(a, level->extent);
	close_reserve(level, open);
	return 0;
}

/* Crash: what is not yet sealed, or still raw, its client's recovery finds. */
void ring_thread_exit(struct arena *a, struct thread_block *tb)
{
	struct ring_view v;

	if (!ring_view(a, &v))
		return;
	for (uint32_t i = 0; i < RING_LEVELS; i++) {
		struct ring_level *level = &tb->ring.levels[i];
		uint32_t extent = level->extent;

		level->taken = 1;
		level->reserved = 0;
		level->extent = 0;
		free_extent(a, extent);
		level_seal(&v, level);
	}
}
