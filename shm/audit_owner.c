/* SPDX-License-Identifier: Apache-2.0 */
/* Clients, their threads, and what these have ready in their caches. */
#include <errno.h>
#include <stdlib.h>

#include "cache.h"
#include "audit_run.h"

#define CHUNK 512u /* handles of a cache read at once */

/* ---- clients ---- */

static void check_client(struct audit_run *run, uint32_t client, uint64_t word)
{
	uint32_t recoverer = client_word_recoverer(word);
	struct audit_spot spot = { .client = client, .page = AUDIT_NOWHERE, .evidence = word };

	if (client_word_state(word) > CLIENT_RECOVERING)
		audit_note(run, AUDIT_CLIENT, spot, "client %u: word %#llx has no such state",
			   client, (unsigned long long)word);
	else if (client_word_state(word) == CLIENT_RECOVERING && recoverer &&
		 !audit_client_exists(run, recoverer))
		audit_note(run, AUDIT_CLIENT, spot,
			   "client %u: recovered by %u, who does not exist", client, recoverer);
	if (client_word_state(word) != CLIENT_FREE &&
	    client >= atomic_load_explicit(&run->a->header->clients_high, memory_order_relaxed))
		audit_note(run, AUDIT_HIGH_WORD, spot, "client %u lies above the mark", client);
}

void audit_clients(struct audit_run *run)
{
	for (uint32_t i = 1; i < CLIENTS_MAX; i++)
		check_client(run, i, audit_word(run, run->a->g.client_words, i));
}

/* ---- caches ---- */

struct cache_spot {
	uint32_t thread, client, index;
	uint64_t page; /* of the thread's block */
};

static struct audit_spot spot_of(const struct cache_spot *at, uint64_t handle, uint64_t evidence)
{
	return (struct audit_spot){
		.page = at->page, .handle = handle, .client = at->client, .evidence = evidence
	};
}

static void remember(struct audit_run *run, const struct cache_spot *at, uint64_t handle)
{
	if (run->ready_count == run->ready_room) {
		uint64_t room = run->ready_room ? 2 * run->ready_room : 4096;
		struct audit_ready *p = realloc(run->ready, room * sizeof(*p));

		if (!p) {
			run->error = -ENOMEM;
			return;
		}
		run->ready = p;
		run->ready_room = room;
	}
	run->ready[run->ready_count++] = (struct audit_ready){ .handle = handle,
							       .thread = at->thread,
							       .client = at->client };
}

/* A ready handle is given out unseen, so it must be just what its object's word says. */
static void check_ready_handle(struct audit_run *run, const struct cache_spot *at, uint64_t handle)
{
	struct walk_object object = { 0 };
	uint32_t due = state_make(OBJECT_PRIVATE, at->client, handle_gen(handle));

	if (handle_tag(handle) == run->a->tag &&
	    walk_object(run->a, handle_offset(handle), &object) && object.state == due &&
	    object.bytes == cache_object_bytes(at->index)) {
		remember(run, at, handle);
		return;
	}
	audit_note(
		run, AUDIT_CACHE_HANDLE, spot_of(at, handle, object.state),
		"thread %u: ready handle %#llx of %llu bytes, but its word is %#x, its size %llu",
		at->thread, (unsigned long long)handle,
		(unsigned long long)cache_object_bytes(at->index), object.state,
		(unsigned long long)object.bytes);
}

static void check_ready_handles(struct audit_run *run, const struct cache_spot *at, uint64_t slots,
				uint32_t top)
{
	uint64_t handles[CHUNK];

	for (uint32_t from = 0; from < top && !run->error; from += CHUNK) {
		uint32_t n = top - from < CHUNK ? top - from : CHUNK;

		if (!walk_copy_heap(run->a, slots + 8 * (uint64_t)from, handles, 8 * (uint64_t)n))
			return;
		for (uint32_t i = 0; i < n; i++)
			check_ready_handle(run, at, handles[i]);
	}
}

static void check_cache(struct audit_run *run, const struct cache_spot *at,
			const struct cache *cache)
{
	uint32_t top = cache_count(cache);
	struct walk_object array = { 0 };

	if (!cache->slots && !top)
		return;
	if (!walk_object(run->a, cache->slots, &array) ||
	    state_kind(array.state) != OBJECT_INTERNAL || state_client(array.state) != at->client ||
	    cache->capacity > array.bytes / 8) {
		audit_note(run, AUDIT_CACHE_ARRAY, spot_of(at, cache->slots, array.state),
			   "thread %u, cache %u: array at %#llx is no array of its client's",
			   at->thread, at->index, (unsigned long long)cache->slots);
		return;
	}
	if (top > cache->capacity) {
		audit_note(run, AUDIT_CACHE_ARRAY, spot_of(at, cache->slots, top),
			   "thread %u, cache %u: %u handles in an array of %u", at->thread,
			   at->index, top, cache->capacity);
		return;
	}
	check_ready_handles(run, at, cache->slots, top);
}

/* ---- threads ---- */

static bool believable(const struct thread_block *block, uint32_t client)
{
	return block->own == state_make(OBJECT_PRIVATE, client, 0) &&
	       block->gen_step >> STATE_GEN_SHIFT & 1;
}

static void check_block(struct audit_run *run, uint32_t thread, uint64_t word,
			const struct thread_block *block)
{
	struct cache_spot at = { .thread = thread,
				 .client = thread_word_client(word),
				 .page = thread_word_page(word) };

	if (!believable(block, at.client)) {
		audit_note(run, AUDIT_THREAD, spot_of(&at, thread, block->own),
			   "thread %u: its block is of client %u", thread,
			   state_client(block->own));
		return;
	}
	for (at.index = 0; at.index < CACHES; at.index++)
		check_cache(run, &at, &block->caches[at.index]);
}

static void check_thread(struct audit_run *run, uint32_t thread, uint64_t word)
{
	struct audit_spot spot = { .page = AUDIT_NOWHERE,
				   .handle = thread,
				   .evidence = word,
				   .client = thread_word_client(word) };
	struct thread_block block;

	if (thread_word_state(word) == THREAD_FREE)
		return;
	if (thread >= atomic_load_explicit(&run->a->header->threads_high, memory_order_relaxed))
		audit_note(run, AUDIT_HIGH_WORD, spot, "thread %u lies above the mark", thread);
	if (!audit_client_exists(run, spot.client))
		audit_note(run, AUDIT_OWNER, spot, "thread %u: of client %u, who does not exist",
			   thread, spot.client);
	if (walk_thread(run->a, thread, word, &block))
		check_block(run, thread, word, &block);
	else if (thread_word_state(word) != THREAD_CLAIMED)
		audit_note(run, AUDIT_THREAD, spot,
			   "thread %u: word %#llx, but its block is not there", thread,
			   (unsigned long long)word);
}

static int compare_ready(const void *pa, const void *pb)
{
	const struct audit_ready *a = pa, *b = pb;

	return a->handle == b->handle ? 0 : a->handle < b->handle ? -1 : 1;
}

static void check_twice(struct audit_run *run)
{
	qsort(run->ready, run->ready_count, sizeof(*run->ready), compare_ready);
	for (uint64_t i = 1; i < run->ready_count; i++) {
		const struct audit_ready *a = &run->ready[i - 1], *b = &run->ready[i];
		struct audit_spot spot = { .page = handle_offset(b->handle) >> PAGE_SHIFT,
					   .handle = b->handle,
					   .client = b->client };

		if (a->handle == b->handle)
			audit_note(run, AUDIT_CACHE_TWICE, spot,
				   "object %#llx is ready in caches of thread %u and of thread %u",
				   (unsigned long long)b->handle, a->thread, b->thread);
	}
}

void audit_threads(struct audit_run *run)
{
	for (uint32_t i = 0; i < THREADS_MAX && !run->error; i++)
		check_thread(run, i, audit_word(run, run->a->g.thread_words, i));
	if (run->ready_count)
		check_twice(run);
}
