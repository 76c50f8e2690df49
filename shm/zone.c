/* SPDX-License-Identifier: Apache-2.0 */
#include "zone.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "buddy.h"
#include "geometry.h"
#include "pagemap.h"
#include "stop_point.h"

#define PATIENCE 200 /* tries, some 5 microseconds */

/*
 * The C library keeps a list of the robust locks that a thread holds or is about to take or leave, for the
 * kernel to go by at its death. It is no list for a signal handler to come into the middle of: its own lock
 * would overwrite what the thread was about to do, and a death then leave a lock that nobody ever gets. A
 * handler that comes at such a moment finds the zone busy.
 */
static __thread volatile sig_atomic_t in_lock_list __attribute__((tls_model("initial-exec")));

static int lock_try(struct zone *z)
{
	int r;

	if (in_lock_list)
		return EBUSY;
	in_lock_list = 1;
	atomic_signal_fence(memory_order_seq_cst);
	r = pthread_mutex_trylock(&z->lock);
	atomic_signal_fence(memory_order_seq_cst);
	in_lock_list = 0;
	return r;
}

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#else
	atomic_signal_fence(memory_order_seq_cst);
#endif
}

int zone_format(struct arena *a)
{
	pthread_mutexattr_t attr;
	int r = pthread_mutexattr_init(&attr);

	if (!r)
		r = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (!r)
		r = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	for (uint32_t z = 0; !r && z < a->g.zone_count; z++)
		r = pthread_mutex_init(&zone_of(a, z)->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	return -r;
}

int zone_activate(struct arena *a)
{
	uint32_t n = atomic_load_explicit(&a->header->active_zones, memory_order_acquire);
	uint64_t first = n * a->g.zone_pages;
	int r;

	if (n >= a->g.zone_count)
		return -ENOMEM;
	r = arena_commit(a, a->g.zone_indexes + n * a->g.zone_index_size, a->g.zone_index_size);
	if (!r)
		r = arena_commit(a, a->g.page_map + first * sizeof(struct page_entry),
				 geometry_zone_span(&a->g, n) * sizeof(struct page_entry));
	if (r)
		return -ENOMEM;
	STOP_POINT(zone_committed);
	/* PAIR(zone-activate): what the count covers, then the count.
	 * Crash: before, some committed pages that the next activation finds committed; after, a zone
	 * whose index is built by its first holder. A rival's success is as good as ours. */
	atomic_compare_exchange_strong_explicit(&a->header->active_zones, &n, n + 1,
						memory_order_acq_rel, memory_order_relaxed);
	STOP_POINT(zone_in_use);
	arena_refresh(a);
	return 0;
}

bool zone_span_covered(struct arena *a, uint64_t page, uint64_t w1)
{
	uint64_t head = pw1_span_head(w1), w0;

	if (head >= page || pw1_span_length(w1) == 0)
		return false;
	pagemap_read(&a->pages[head], &w0, &w1);
	if (pw0_kind(w0) != PAGE_LARGE && pw0_kind(w0) != PAGE_RAW)
		return false;
	return pagemap_length(w0, w1) > page - head;
}

void zone_free_run(struct arena *a, uint32_t zone, uint64_t page, uint64_t pages)
{
	struct page_entry *e = &a->pages[page];
	uint64_t w0 = atomic_load_explicit(&e->w0, memory_order_relaxed);

	/* Crash: before, the extent is its owner's; after, its pages are free, and the lock's next
	 * holder finds so when it rebuilds the index. The generation stays for the next object here. */
	atomic_store_explicit(&e->w0, pw0_make(PAGE_FREE, 0, pw0_gen(w0), 0), memory_order_release);
	STOP_POINT(zone_run_free);
	buddy_put(a, zone, (uint32_t)(page - zone * a->g.zone_pages), pages);
}

/*
 * Frees what others left. The stack is taken off only when all of it is freed, so that a death in
 * between loses nothing: the entries freed so far say free, cannot be taken again before the next
 * holder has come by here, and are skipped by it. Modelled, with its callers and zone_return_later(), in
 * tests/model/pending.pml.
 */
static void drain_pending(struct arena *a, uint32_t zone)
{
	struct zone *z = zone_of(a, zone);
	uint64_t first = (uint64_t)zone * a->g.zone_pages, span = geometry_zone_span(&a->g, zone);
	/* PAIR(pending-push): the head, then the entries behind it. */
	uint64_t top = atomic_load_explicit(&z->pending, memory_order_acquire);
	uint64_t done = 0;

	while ((uint32_t)top) {
		uint32_t next = (uint32_t)top, until = (uint32_t)done;

		for (uint64_t steps = 0; next && next != until && next <= span && steps <= span; steps++) {
			uint64_t page = first + next - 1;
			uint64_t w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_relaxed);
			uint64_t w1 = atomic_load_explicit(&a->pages[page].w1, memory_order_relaxed);

			STOP_POINT(pending_freeing);
			if (pw0_kind(w0) == PAGE_RETURNED && pw1_length(w1) <= span - (next - 1))
				zone_free_run(a, zone, page, pw1_length(w1));
			next = pw1_next(w1);
		}
		STOP_POINT(pending_freed);
		done = top;
		/* Crash: before, the next holder walks the stack again and finds it freed. */
		if (atomic_compare_exchange_strong_explicit(&z->pending, &top,
							    ((top >> 32) + 1) << 32,
							    memory_order_acq_rel,
							    memory_order_acquire))
			break;
	}
}

void zone_return_later(struct arena *a, uint64_t page)
{
	uint32_t zone = zone_of_page(a, page);
	struct zone *z = zone_of(a, zone);
	struct page_entry *e = &a->pages[page];
	uint64_t w0 = atomic_load_explicit(&e->w0, memory_order_relaxed), w1;
	uint64_t top = atomic_load_explicit(&z->pending, memory_order_relaxed);
	uint64_t self = page - zone * a->g.zone_pages + 1;

	/* Crash: until it is on the stack it is ours, raw or returned, and returns with us. */
	atomic_store_explicit(&e->w0, (w0 & ~UINT64_C(0xf)) | PAGE_RETURNED, memory_order_release);
	STOP_POINT(pending_returned);
	w1 = atomic_load_explicit(&e->w1, memory_order_relaxed);
	do
		while (!atomic_compare_exchange_weak_explicit(
			&e->w1, &w1, pw1_extent(pw1_length(w1), (uint32_t)top),
			memory_order_relaxed, /* fails but for ourselves: see extent_trim() */
			memory_order_relaxed))
			;
	while (!atomic_compare_exchange_weak_explicit(
		&z->pending, &top, ((top >> 32) + 1) << 32 | self,
		memory_order_acq_rel, /* PAIR(pending-push): the entry, then the head */
		memory_order_relaxed));
	STOP_POINT(pending_pushed);
}

int zone_trylock(struct arena *a, uint32_t zone)
{
	struct zone *z = zone_of(a, zone);
	int r = lock_try(z);

	if (r == EBUSY) {
		/* Crash: one that is killed before is not counted. */
		atomic_fetch_add_explicit(&z->busy, 1, memory_order_relaxed);
		return -EBUSY;
	}
	STOP_POINT(zone_locked);
	if (r == EOWNERDEAD) {
		/* Says only that one thread died, not that its process did: the index is made anew,
		 * nobody is reclaimed. Killed here, we are the dead holder. */
		buddy_rebuild(a, zone);
		STOP_POINT(zone_rebuilt);
		atomic_fetch_add_explicit(&z->rebuilds, 1, memory_order_relaxed);
		atomic_store_explicit(&z->ready, 1, memory_order_relaxed);
		pthread_mutex_consistent(&z->lock);
		STOP_POINT(zone_consistent);
	} else if (r) {
		return -EUCLEAN;
	}
	if (!atomic_load_explicit(&z->ready, memory_order_relaxed)) {
		buddy_rebuild(a, zone);
		STOP_POINT(zone_first_built);
		atomic_store_explicit(&z->ready, 1, memory_order_relaxed);
	}
	if ((uint32_t)atomic_load_explicit(&z->pending, memory_order_relaxed))
		drain_pending(a, zone);
	return 0;
}

int zone_trylock_patiently(struct arena *a, uint32_t zone)
{
	int r = zone_trylock(a, zone);

	for (int i = 0; r == -EBUSY && i < PATIENCE; i++) {
		cpu_relax();
		r = zone_trylock(a, zone);
	}
	return r;
}

void zone_unlock(struct arena *a, uint32_t zone)
{
	STOP_POINT(zone_unlocking);
	in_lock_list = 1;
	atomic_signal_fence(memory_order_seq_cst);
	pthread_mutex_unlock(&zone_of(a, zone)->lock);
	atomic_signal_fence(memory_order_seq_cst);
	in_lock_list = 0;
}
