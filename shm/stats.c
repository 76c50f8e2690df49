/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <string.h>

#include "cache.h"
#include "hold.h"
#include "shmalloc.h"
#include "stack.h"
#include "walk.h"
#include "zone.h"

/* What one walk gathers. Owned counts cached objects too; they are taken off at the end. */
struct count {
	const struct arena *a;
	struct shma_stats *st;
	struct stats_detail *d; /* may be NULL */
	uint64_t owned_bytes, owned_objects;
};

static bool kind_counts(enum object_kind kind)
{
	return kind != OBJECT_FREE && kind < OBJECT_KINDS && kind != OBJECT_INTERNAL;
}

static bool kind_is_arenas(enum object_kind kind)
{
	return kind == OBJECT_PERSISTENT || kind == OBJECT_PUBLISHED || kind == OBJECT_HELD;
}

static struct stats_client *client_of(struct count *c, uint32_t state)
{
	uint32_t client = kind_is_arenas(state_kind(state)) ? 0 : state_client(state);

	return &c->d->clients[client % CLIENTS_MAX];
}

static void count_client_object(struct count *c, uint32_t state, uint64_t bytes)
{
	struct stats_client *client = client_of(c, state);

	if (state_kind(state) == OBJECT_INTERNAL) {
		client->bookkeeping_bytes += bytes;
		return;
	}
	client->owned_bytes += bytes;
	client->owned_objects++;
	if (state_kind(state) == OBJECT_SHARED)
		client->shared_objects++;
}

/* One object that is not free. */
static void count_object(struct count *c, uint32_t state, uint64_t bytes)
{
	enum object_kind kind = state_kind(state);

	if (kind_counts(kind)) {
		c->owned_bytes += bytes;
		c->owned_objects++;
		c->st->held_objects += kind == OBJECT_HELD;
		if (kind_is_arenas(kind) && kind != OBJECT_HELD)
			c->st->persistent_objects++;
	}
	if (c->d && (kind_counts(kind) || kind == OBJECT_INTERNAL))
		count_client_object(c, state, bytes);
}

static void count_slab(struct count *c, const struct walk_item *item)
{
	struct walk_slab slab;
	struct stats_class *class;
	uint64_t taken = 0;

	c->st->slabs++;
	c->st->slab_bytes += item->length << PAGE_SHIFT;
	if (!walk_slab(c->a, item, &slab))
		return;
	for (uint32_t i = 0; i < slab.objects; i++) {
		uint32_t state = walk_state(&slab, i);

		if (state_kind(state) == OBJECT_FREE)
			continue;
		taken++;
		count_object(c, state, slab.bytes);
	}
	if (!c->d)
		return;
	class = &c->d->classes[sizeclass_of_kind(slab.class_index)];
	class->slabs++;
	class->capacity += slab.objects;
	class->owned += taken;
	class->free += slab.objects - taken;
}

/* By its own head, copied out; what makes no sense counts as it lies. */
static void count_packed(struct count *c, const struct walk_item *item)
{
	uint64_t bytes = item->length << PAGE_SHIFT;
	struct packed_header head;
	bool known = walk_copy_heap(c->a, item->page << PAGE_SHIFT, &head, sizeof(head)) && head.check == ~head.bytes &&
		     head.bytes <= c->a->g.capacity;

	c->st->packed_objects++;
	c->st->packed_bytes += bytes;
	c->st->unpacked_bytes += known ? head.bytes : bytes;
}

static void count_extent(struct count *c, const struct walk_item *item)
{
	uint64_t bytes = item->length << PAGE_SHIFT;
	struct stats_client *client;

	c->st->extents++;
	c->st->extent_bytes += bytes;
	if (pw0_is_object(item->w0))
		count_object(c, pw0_state(item->w0), bytes);
	if (pw0_is_packed(item->w0) && kind_counts(item->object))
		count_packed(c, item);
	if (!c->d)
		return;
	client = pw0_is_object(item->w0) ? client_of(c, pw0_state(item->w0))
					  : &c->d->clients[item->client];
	client->extents++;
	client->extent_bytes += bytes;
	if (item->kind == PAGE_RAW && item->class_index == RAW_THREAD)
		client->bookkeeping_bytes += bytes;
}

static void count_stack(struct count *c, const struct walk_item *item)
{
	struct stack_view v;

	c->st->stack_bytes += item->length << PAGE_SHIFT;
	if (!walk_committed(c->a, item->page, item->length) || !stack_view(c->a, item->page, &v))
		return;
	c->st->stack_used_bytes += v.used;
	if (v.below + v.high > c->st->stack_high_bytes && v.below < c->a->g.capacity)
		c->st->stack_high_bytes = v.below + v.high;
}

static struct stats_zone *counted_zone(const struct count *c, uint64_t page)
{
	uint64_t zone = page / c->a->g.zone_pages;

	return c->d && zone < c->d->zones_len ? &c->d->zones[zone] : NULL;
}

static void count_free(const struct count *c, const struct walk_item *item)
{
	struct stats_zone *zone = counted_zone(c, item->page);

	if (!zone)
		return;
	zone->free_pages += item->length;
	if (item->length > zone->largest_free)
		zone->largest_free = item->length;
}

static int count_item(void *context, const struct walk_item *item)
{
	struct count *c = context;

	if (c->d) {
		c->d->pages_by_kind[item->kind < PAGE_KINDS ? item->kind : PAGE_RAW] += item->step;
		c->d->problems += item->problem != WALK_FINE;
	}
	if (item->problem)
		return 0;
	if (item->kind == PAGE_FREE)
		count_free(c, item);
	else if (item->kind == PAGE_SLAB)
		count_slab(c, item);
	else if (item->kind == PAGE_STATE)
		c->st->state_bytes += item->length << PAGE_SHIFT;
	else if (item->kind != PAGE_SPAN)
		count_extent(c, item);
	if (item->kind == PAGE_STACK)
		count_stack(c, item);
	return 0;
}

static void count_cache(struct count *c, uint32_t client, uint32_t index, uint64_t top)
{
	uint64_t bytes = top * cache_object_bytes(index);

	c->st->cached_objects += top;
	c->st->cached_bytes += bytes;
	if (!c->d)
		return;
	c->d->clients[client].cached_objects += top;
	c->d->clients[client].cached_bytes += bytes;
	if (index < CLASSES)
		c->d->classes[index].cached += top;
}

static void count_thread(struct count *c, uint32_t index, uint64_t word)
{
	uint32_t client = thread_word_client(word);
	struct thread_block block;

	if (thread_word_state(word) != THREAD_LIVE && thread_word_state(word) != THREAD_CLAIMED)
		return;
	c->st->threads += thread_word_state(word) == THREAD_LIVE;
	if (c->d)
		c->d->clients[client].threads++;
	if (!walk_thread(c->a, index, word, &block))
		return;
	for (uint32_t i = 0; i < CACHES; i++) {
		uint32_t top = cache_count(&block.caches[i]);

		if (block.caches[i].slots && top && top <= block.caches[i].capacity)
			count_cache(c, client, i, top);
	}
}

static void count_zones(struct count *c)
{
	uint64_t active = walk_zones(c->a);

	for (uint64_t z = 0; z < active; z++) {
		uint64_t pages = walk_resident(c->a, z * c->a->g.zone_pages,
					       geometry_zone_span(&c->a->g, z));

		c->st->committed_bytes += pages << PAGE_SHIFT;
		if (c->d && z < c->d->zones_len)
			c->d->zones[z].committed_pages = pages;
	}
	for (uint64_t z = 0; c->d && z < c->d->zones_len && z < c->a->g.zone_count; z++) {
		struct stats_zone *zone = &c->d->zones[z];

		zone->active = z < active;
		zone->pages = geometry_zone_span(&c->a->g, z);
		zone->high = zone->active ? walk_high(c->a, z) : 0;
		zone->busy = atomic_load_explicit(&zone_of(c->a, (uint32_t)z)->busy, memory_order_relaxed);
		if (!zone->active)
			zone->free_pages = zone->largest_free = zone->pages;
	}
}

static void count_words(struct count *c)
{
	const _Atomic uint64_t *clients = arena_at(c->a, c->a->g.client_words);
	const _Atomic uint64_t *threads = arena_at(c->a, c->a->g.thread_words);
	const _Atomic uint64_t *names = arena_at(c->a, c->a->g.name_words);

	for (uint32_t i = 1; i < CLIENTS_MAX; i++)
		c->st->clients += client_word_state(atomic_load_explicit(
					  &clients[i], memory_order_relaxed)) == CLIENT_LIVE;
	for (uint32_t i = 0; i < NAMES_MAX; i++)
		c->st->names +=
			name_word_state(atomic_load_explicit(&names[i], memory_order_relaxed)) ==
			NAME_LIVE;
	for (uint32_t i = 0; i < THREADS_MAX; i++)
		count_thread(c, i, atomic_load_explicit(&threads[i], memory_order_relaxed));
}

static void count_record(struct count *c, const struct hold_record *r)
{
	for (uint32_t i = 0; i < HOLD_SLOTS; i++) {
		uint32_t slot = atomic_load_explicit(&r->slots[i], memory_order_relaxed);

		c->st->holds += hold_slot_count(slot);
		if (!c->d || !slot)
			continue;
		c->d->clients[hold_slot_client(slot)].held_objects++;
		c->d->clients[hold_slot_client(slot)].holds += hold_slot_count(slot);
	}
}

static void count_holds(struct count *c)
{
	for (uint64_t at = 0; (at = hold_scan(c->a, at)) != HOLD_NONE; at++) {
		if (at % HOLD_PAGE_RECORDS == 0)
			c->st->hold_bytes += PAGE_SIZE;
		count_record(c, hold_record_at(c->a, at));
	}
}

/* On a live arena what is cached may have been counted later than what is owned. */
static uint64_t less(uint64_t from, uint64_t what)
{
	return from > what ? from - what : 0;
}

static void count_all(struct count *c)
{
	memset(c->st, 0, sizeof(*c->st));
	c->st->capacity_bytes = c->a->g.capacity;
	c->st->log_capacity_bytes = c->a->g.ring_size;
	c->st->stack_high_bytes = atomic_load_explicit(&c->a->header->stack_high, memory_order_relaxed);
	walk_extents(c->a, count_item, c);
	count_words(c);
	count_holds(c);
	count_zones(c);
	c->st->live_bytes = less(c->owned_bytes, c->st->cached_bytes);
	c->st->live_objects = less(c->owned_objects, c->st->cached_objects);
}

void stats_arena(const struct arena *a, struct shma_stats *ret)
{
	struct count c = { .a = a, .st = ret };

	count_all(&c);
}

void stats_arena_detail(const struct arena *a, struct shma_stats *ret, struct stats_detail *d)
{
	struct count c = { .a = a, .st = ret, .d = d };
	struct stats_zone *zones = d->zones;
	uint64_t zones_len = d->zones_len;

	memset(d, 0, sizeof(*d));
	if (zones_len)
		memset(zones, 0, zones_len * sizeof(*zones));
	d->zones = zones;
	d->zones_len = zones_len;
	count_all(&c);
}
