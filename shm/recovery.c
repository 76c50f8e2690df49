/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order: threads (their intents read their blocks, which are extents), names, ring, then the heap by the
 * regions that the client has marked, and the slot last. A mark goes when its region holds nothing of the
 * client; so a successor finds what is left.
 */
#include "recovery.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "client.h"
#include "extent.h"
#include "hold.h"
#include "liveness.h"
#include "names.h"
#include "pagemap.h"
#include "persist.h"
#include "record.h"
#include "replace.h"
#include "ring.h"
#include "slab.h"
#include "span.h"
#include "stack.h"
#include "stop_point.h"
#include "zone.h"

#define SLICE_REGIONS 16

/* ---- threads ---- */

static int recover_threads(struct arena *a, uint32_t client)
{
	_Atomic uint64_t *words = (_Atomic uint64_t *)(a->base + a->g.thread_words);
	uint32_t high = atomic_load_explicit(&a->header->threads_high, memory_order_acquire);
	int r = 0;

	for (uint32_t i = 0; !r && i < high && i < THREADS_MAX; i++) {
		uint64_t word = atomic_load_explicit(&words[i], memory_order_acquire);
		const struct thread_block *t;

		if (thread_word_state(word) == THREAD_FREE || thread_word_client(word) != client)
			continue;
		t = client_thread_block(a, word, client);
		if (t) {
			persist_recover(a, t, client);
			replace_recover(a, t, client);
		}
		r = ring_recover_thread(a, i, t);
		STOP_POINT(recovery_thread);
		/* Crash: before, done again; after, the block is a raw extent in a marked region. */
		if (!r)
			atomic_store_explicit(&words[i], 0, memory_order_release);
	}
	return r;
}

/* ---- the heap ---- */

/* A large object of the client becomes a raw extent of its, under a new generation. */
static bool unmake_large(struct arena *a, uint64_t page, uint64_t w0, uint32_t client)
{
	uint32_t state = pw0_state(w0);

	while (pw0_is_object(w0) && state_owner(state) == client) {
		uint64_t raw = pw0_make(PAGE_RAW, client, pw0_gen(w0) + 1, RAW_PLAIN);

		/* Crash: before, its object, shared perhaps and being taken; after, its extent. */
		if (atomic_compare_exchange_strong_explicit(&a->pages[page].w0, &w0, raw,
							    memory_order_acq_rel, memory_order_acquire))
			return true;
		state = pw0_state(w0);
	}
	return false;
}

/* Of anything but a slab. */
static int recover_extent(struct arena *a, uint64_t page, uint64_t w0, uint32_t client)
{
	switch (pw0_kind(w0)) {
	case PAGE_STATE:
		slab_recover_held(a, page, client);
		record_recover_block(a, page, client);
		return 0;
	case PAGE_SPAN:
		if (zone_span_covered(a, page, atomic_load_explicit(&a->pages[page].w1,
								    memory_order_acquire)))
			return 0;
		return extent_reclaim_span(a, page);
	case PAGE_LARGE:
	case PAGE_MAPPED:
		return unmake_large(a, page, w0, client) ? extent_reclaim(a, page, client) : 0;
	case PAGE_STACK:
		return stack_recover(a, page, w0, client) ? extent_reclaim(a, page, client) : 0;
	case PAGE_LOG:
		if (pw0_client(w0) != client || ring_recover_extent(a, page, client))
			return 0;
		return extent_reclaim(a, page, client);
	case PAGE_RAW:
	case PAGE_RETURNED:
		return pw0_client(w0) == client ? extent_reclaim(a, page, client) : 0;
	default:
		return 0;
	}
}

/* Modelled, of one object, in tests/model/object.pml. */
static int recover_region(struct slab_heir *h, uint64_t region)
{
	uint64_t known = atomic_load_explicit(&h->a->pages_known, memory_order_relaxed);
	uint64_t page = region * REGION_PAGES, end = page + REGION_PAGES;
	int left = 0;

	while (page < end && page < known) {
		uint64_t w0 = atomic_load_explicit(&h->a->pages[page].w0, memory_order_acquire);

		if (pw0_kind(w0) == PAGE_SLAB) {
			page += slab_recover(h, page);
			continue;
		}
		if (recover_extent(h->a, page++, w0, h->client))
			left = -EAGAIN;
	}
	if (hold_recover(h->a, region, h->client))
		left = -EAGAIN;
	return left;
}

/* What of the heap is to be recovered now. */
struct scope {
	uint64_t regions; /* at most so many */
	uint64_t only;	  /* this one alone, or CLIENT_NO_REGION */
};

/* -EAGAIN: there is more; -EBUSY: the rest waits for a zone's lock. A mark goes when nothing in its region
 * is the dead client's any more: what is gathered to be freed is ours by then. */
static int recover_marked(struct slab_heir *h, uint64_t regions)
{
	uint64_t region = 0, per_zone = h->a->g.zone_pages / REGION_PAGES;
	bool whole = regions == UINT64_MAX;
	int left = 0;

	while ((region = client_marks_next(h->a, h->client, region)) != CLIENT_NO_REGION) {
		if (regions == 0)
			return -EAGAIN;
		if (recover_region(h, region)) {
			left = -EBUSY;
			if (!whole)
				region |= per_zone - 1; /* a held zone must not use the slices up */
		} else {
			STOP_POINT(recovery_region);
			client_marks_drop(h->a, h->client, region);
			regions--;
		}
		region++;
	}
	return left;
}

static int recover_heap(struct arena *a, uint32_t client, const struct scope *scope)
{
	struct slab_heir heir = {.a = a, .client = client};
	int left;

	if (scope->only == CLIENT_NO_REGION)
		left = recover_marked(&heir, scope->regions);
	else
		left = recover_region(&heir, scope->only) ? -EBUSY : -EAGAIN;
	slab_recover_end(&heir);
	return left;
}

/* ---- this process's own end ---- */

static bool slab_holds(struct arena *a, uint64_t page, uint32_t client)
{
	struct slab_place p;

	if (slab_find(a, page << PAGE_SHIFT, &p) || p.head != page)
		return false;
	for (uint32_t i = 0; i < sizeclass_table[p.kind].objects; i++)
		if (state_owner(atomic_load_explicit(&p.record->words[i], memory_order_relaxed)) == client)
			return true;
	return false;
}

static bool page_holds(struct arena *a, uint64_t page, uint32_t client)
{
	uint64_t w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);

	switch (pw0_kind(w0)) {
	case PAGE_SLAB:
		return slab_holds(a, page, client);
	case PAGE_LARGE:
	case PAGE_MAPPED:
		return state_owner(pw0_state(w0)) == client;
	case PAGE_SPAN:
		return !zone_span_covered(a, page, atomic_load_explicit(&a->pages[page].w1,
									memory_order_acquire));
	case PAGE_RAW:
	case PAGE_RETURNED:
	case PAGE_LOG:
	case PAGE_STACK:
		return pw0_client(w0) == client;
	default: /* no thread of ours is in a call, so no record is busy with us */
		return false;
	}
}

bool recovery_drop_own_marks(struct arena *a)
{
	uint64_t known = atomic_load_explicit(&a->pages_known, memory_order_relaxed), region = 0;
	bool none = true;

	while ((region = client_marks_next(a, a->client, region)) != CLIENT_NO_REGION) {
		uint64_t page = region * REGION_PAGES, end = page + REGION_PAGES;

		while (page < end && page < known && !page_holds(a, page, a->client))
			page++;
		if ((page >= end || page >= known) && !hold_in_region(a, region, a->client))
			client_marks_drop(a, a->client, region);
		else
			none = false;
		region++;
	}
	return none;
}

/* ---- a dead client, whole ---- */

static int recover_all(struct arena *a, uint32_t client, const struct scope *scope)
{
	int r;

	arena_refresh(a);
	r = recover_threads(a, client);
	if (!r) {
		STOP_POINT(recovery_names);
		names_recover(a, client);
		STOP_POINT(recovery_ring);
		r = ring_recover_client(a, client);
	}
	if (r)
		return -EBUSY;
	r = recover_heap(a, client, scope);
	if (r)
		return r;
	STOP_POINT(recovery_done);
	liveness_finish_recovery(a, client);
	return 1;
}

static int run(struct arena *a, uint32_t client, const struct scope *scope)
{
	bool expected = false;
	int r = 0, cancel;

	/* One thread of a process at a time: the client word says which process, no more. A forked child that
	 * is no client yet would recover in its parent's name, beside its parent. */
	if (!a->client || client == a->client || a->claimant != getpid() ||
	    !atomic_compare_exchange_strong(&a->recovering, &expected, true))
		return 0;
	/* A cancelled thread would be recovering for ever. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (liveness_claim_recovery(a, client)) {
		STOP_POINT(recovery_claimed);
		r = recover_all(a, client, scope);
		if (r < 0)
			liveness_release_recoveries(a, a->client);
	}
	atomic_store(&a->recovering, false);
	pthread_setcancelstate(cancel, NULL);
	return r;
}

static int run_regions(struct arena *a, uint32_t client, uint64_t regions)
{
	return run(a, client, &(struct scope){.regions = regions, .only = CLIENT_NO_REGION});
}

int recovery_run(struct arena *a, uint32_t client, bool whole)
{
	return run_regions(a, client, whole ? UINT64_MAX : SLICE_REGIONS);
}

/* ---- finding the dead ---- */

static bool may_be_dead(struct arena *a, uint32_t client)
{
	uint64_t word = atomic_load_explicit(client_word_at(a, client), memory_order_relaxed);

	return client != a->client && client_word_state(word) != CLIENT_FREE && liveness_is_dead(a, client);
}

/* The region where what lies there begins: a slab's first page may be in an earlier one. */
static uint64_t region_of(const struct arena *a, uint64_t heap_offset)
{
	struct slab_place place;

	return (slab_find(a, heap_offset, &place) ? heap_offset >> PAGE_SHIFT : place.head) / REGION_PAGES;
}

bool recovery_of(struct arena *a, uint32_t client, uint64_t heap_offset)
{
	struct scope scope = {.only = region_of(a, heap_offset)};
	int r;

	if (!a->client || client < 1 || client >= client_high(a) || !may_be_dead(a, client))
		return false;
	r = run(a, client, &scope);
	return r == 1 || r == -EAGAIN;
}

bool recovery_reap_some(struct arena *a, uint64_t regions)
{
	uint32_t high = client_high(a);

	for (uint32_t client = 1; client < high; client++) {
		int r = may_be_dead(a, client) ? run_regions(a, client, regions) : 0;

		if (r == 1 || r == -EAGAIN)
			return true;
	}
	return false;
}

uint32_t recovery_reap_all(struct arena *a)
{
	uint32_t high = client_high(a), freed = 0;

	for (uint32_t client = 1; client < high; client++)
		if (may_be_dead(a, client))
			freed += recovery_run(a, client, true) == 1;
	return freed;
}

bool recovery_tick(struct arena *a)
{
	_Atomic uint32_t *cursor = &a->header->reap_cursor;
	uint32_t high = client_high(a), client;

	if (high <= 1 || !a->client)
		return false;
	client = 1 + atomic_fetch_add_explicit(cursor, 1, memory_order_relaxed) % (high - 1);
	if (!may_be_dead(a, client) || recovery_run(a, client, false) != -EAGAIN)
		return false;
	/* The same one next, whoever comes. */
	atomic_fetch_sub_explicit(cursor, 1, memory_order_relaxed);
	return true;
}
