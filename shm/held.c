/* SPDX-License-Identifier: Apache-2.0 */
#include "held.h"

#include <string.h>

#include "cache.h"
#include "client.h"
#include "hold.h"
#include "slab.h"
#include "walk.h"

static void count_state(struct held_size *size, uint32_t state, uint32_t client)
{
	if (state_owner(state) != client)
		return;
	if (state_kind(state) == OBJECT_SHARED)
		size->shared_objects++;
	else if (state_kind(state) != OBJECT_INTERNAL)
		size->private_objects++;
}

static void count_slab(struct held *h, const struct slab_place *p, uint32_t client)
{
	const struct sizeclass *c = &sizeclass_table[p->kind];

	for (uint32_t i = 0; i < c->objects; i++)
		count_state(&h->sizes[p->class],
			    atomic_load_explicit(&p->record->words[i], memory_order_relaxed), client);
}

static void count_extent(struct held *h, const struct walk_item *item, uint32_t client)
{
	uint64_t before = h->large.private_objects + h->large.shared_objects;

	if (item->problem)
		return;
	if (pw0_is_object(item->w0)) {
		count_state(&h->large, pw0_state(item->w0), client);
		if (h->large.private_objects + h->large.shared_objects != before)
			h->large_bytes += item->length << PAGE_SHIFT;
	} else if ((item->kind == PAGE_RAW || item->kind == PAGE_STACK) && item->client == client) {
		h->extents++;
		h->extent_bytes += item->length << PAGE_SHIFT;
	}
}

/* The slab that a page lies in may begin in the region before; next: the first page not looked at yet. */
static void count_region(const struct arena *a, uint64_t region, uint32_t client, struct held *h,
			 uint64_t *next)
{
	uint64_t page = region * REGION_PAGES, end = page + REGION_PAGES;
	struct walk_item item;
	struct slab_place p;

	if (page < *next)
		page = *next;
	while (page < end) {
		int r = slab_find(a, page << PAGE_SHIFT, &p);

		if (r != -ENOENT && sizeclass_table[p.kind].pages > page - p.head) {
			if (p.head >= *next)
				count_slab(h, &p, client);
			page = p.head + sizeclass_table[p.kind].pages;
			*next = page;
			continue;
		}
		if (walk_read(a, page, &item))
			count_extent(h, &item, client);
		page++;
	}
}

static void count_cache(struct held *h, const struct cache *cache, uint32_t index)
{
	uint32_t top = cache_count(cache);

	if (!cache->slots || top > cache->capacity)
		return;
	if (index < CLASSES)
		h->sizes[index].cached_objects += top;
	else
		h->large.cached_objects += top;
}

static void count_threads(const struct arena *a, uint32_t client, struct held *h)
{
	const _Atomic uint64_t *words = arena_at(a, a->g.thread_words);
	struct thread_block block;

	for (uint32_t i = 0; i < THREADS_MAX; i++) {
		uint64_t word = atomic_load_explicit(&words[i], memory_order_relaxed);

		if (thread_word_state(word) != THREAD_LIVE || thread_word_client(word) != client)
			continue;
		h->threads++;
		if (!walk_thread(a, i, word, &block))
			continue;
		for (uint32_t k = 0; k < CACHES; k++)
			count_cache(h, &block.caches[k], k);
	}
}

/* As many pages of records as there may be regions. */
static void count_holds(const struct arena *a, uint32_t client, uint64_t pages_max, struct held *h)
{
	uint64_t left = pages_max * HOLD_PAGE_RECORDS;

	for (uint64_t at = 0; left-- && (at = hold_scan(a, at)) != HOLD_NONE; at++) {
		const struct hold_record *r = hold_record_at(a, at);

		for (uint32_t i = 0; i < HOLD_SLOTS; i++) {
			uint32_t slot = atomic_load_explicit(&r->slots[i], memory_order_relaxed);

			if (!hold_slot_count(slot) || hold_slot_client(slot) != client)
				continue;
			h->kept++;
			h->holds += hold_slot_count(slot);
		}
	}
}

void held_count(const struct arena *a, uint32_t client, uint64_t regions_max, struct held *ret)
{
	uint64_t known = atomic_load_explicit(&a->pages_known, memory_order_relaxed);
	uint64_t region = 0, next = 0;

	memset(ret, 0, sizeof(*ret));
	count_threads(a, client, ret);
	count_holds(a, client, regions_max, ret);
	while ((region = client_marks_next(a, client, region)) != CLIENT_NO_REGION) {
		if (region * REGION_PAGES >= known)
			break;
		if (ret->regions == regions_max)
			return;
		count_region(a, region++, client, ret, &next);
		ret->regions++;
	}
	ret->whole = true;
}
