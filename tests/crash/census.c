/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle's account of pages, caches, clients and threads: how much is what. */
#include <stdatomic.h>
#include <string.h>

#include "buddy.h"
#include "client.h"
#include "geometry.h"
#include "judge.h"
#include "liveness.h"
#include "slab.h"
#include "words.h"
#include "zone.h"

/* ---- who is alive ---- */

uint32_t census_clients(const struct arena *a, uint32_t *dead)
{
	uint32_t live = 0;

	*dead = 0;
	for (uint32_t n = 1; n < CLIENTS_MAX; n++) {
		uint64_t word = atomic_load(client_word_at(a, n));

		if (client_word_state(word) == CLIENT_FREE)
			continue;
		if (n == a->client || client_locked(a, n) == 1)
			live++;
		else
			++*dead;
	}
	return live;
}

/* An index may be stale until its lock is taken. */
void census_use_zones(void)
{
	struct arena *a = &self->arena;

	watch_start();
	for (uint32_t z = 0; z < arena_refresh(a); z++) {
		if (zone_trylock(a, z))
			broken("zone %u's lock cannot be had", z);
		zone_unlock(a, z);
	}
	watch_stop("locking");
}

static bool slab_empty(struct arena *a, struct census *c, uint64_t page)
{
	struct slab_place p;
	bool empty = true;

	if (slab_find(a, page << PAGE_SHIFT, &p))
		broken("page %#llx is a slab's and leads nowhere", (unsigned long long)page);
	for (uint32_t i = 0; i < sizeclass_table[p.kind].objects; i++) {
		enum object_kind kind = state_kind(atomic_load(&p.record->words[i]));

		empty &= kind == OBJECT_FREE;
		c->internal += kind == OBJECT_INTERNAL;
	}
	return empty;
}

static void census_page(struct arena *a, struct census *c, uint64_t page)
{
	uint64_t w0 = atomic_load(&a->pages[page].w0), w1 = atomic_load(&a->pages[page].w1);

	switch (pw0_kind(w0)) {
	case PAGE_RAW: c->raw += pw1_length(w1); break;
	case PAGE_RETURNED: c->returned++; break;
	case PAGE_LARGE:
	case PAGE_MAPPED: c->large += pw1_length(w1); break;
	case PAGE_SLAB:
		c->slab += sizeclass_entries(pw1_class(w1)) == 1 ? sizeclass_table[pw1_class(w1)].pages : 1;
		if (pw1_dist(w1) == 0)
			c->empty_slabs += slab_empty(a, c, page);
		break;
	case PAGE_STATE: c->state += pw1_length(w1); break;
	case PAGE_SPAN: c->span++; break;
	case PAGE_LOG: c->log += pw1_length(w1); break;
	case PAGE_STACK: c->stack += pw1_length(w1); break;
	default: break;
	}
}

static uint64_t free_pages(struct arena *a)
{
	uint32_t zones = arena_refresh(a);
	uint64_t pages = 0;

	for (uint32_t z = 0; z < zones; z++)
		pages += atomic_load(&zone_of(a, z)->free_pages);
	for (uint64_t z = zones; z < a->g.zone_count; z++)
		pages += geometry_zone_span(&a->g, z);
	return pages;
}

void census_take(struct census *c)
{
	struct arena *a = &self->arena;
	uint64_t known = arena_refresh(a) * a->g.zone_pages;
	struct shma_stats st;
	uint32_t dead;

	memset(c, 0, sizeof(*c));
	for (uint64_t page = 0; page < known && page < geometry_heap_pages(&a->g); page++)
		census_page(a, c, page);
	c->free = free_pages(a);
	shma_stats(self, &st);
	c->cached = st.cached_objects;
	for (uint32_t i = 0; i < THREADS_MAX; i++)
		c->threads += ((_Atomic uint64_t *)(a->base + a->g.thread_words))[i] != 0;
	c->clients = census_clients(a, &dead);
	for (uint32_t i = 0; i < NAMES_MAX; i++) {
		uint64_t word = ((_Atomic uint64_t *)(a->base + a->g.name_words))[i];

		c->names += name_word_state(word) == NAME_LIVE;
		c->dead_names +=
			name_word_state(word) != NAME_LIVE && name_word_state(word) != NAME_FREE;
	}
}

void judge_census(void)
{
	attach_self();
	census_use_zones();
	census_take(&board->census);
}

/* mine: pages of this process's objects. */
void census_compare(uint64_t mine)
{
	const struct census *was = &board->census;
	bool threads = mine != 0, parent = board->account.parent;
	struct census c;

	census_take(&c);
	if (c.free + c.raw + c.state + c.slab + c.large + c.log + c.stack !=
	    geometry_heap_pages(&self->arena.g))
		broken("pages: %llu free, %llu raw, %llu state, %llu slab, %llu large, %llu log, %llu stack of %llu",
		       NUMBER(c.free), NUMBER(c.raw), NUMBER(c.state), NUMBER(c.slab),
		       NUMBER(c.large), NUMBER(c.log), NUMBER(c.stack),
		       NUMBER(geometry_heap_pages(&self->arena.g)));
	if (c.stack != was->stack)
		broken("%llu pages of temporary memory, were %llu", NUMBER(c.stack), NUMBER(was->stack));
	if (c.raw != was->raw + threads + (parent ? board->number[0] : 0))
		broken("%llu raw pages, were %llu", NUMBER(c.raw), NUMBER(was->raw));
	/* What a thread's cache is made of may be anything, but nobody here has one. */
	if (!threads && !parent && (c.internal != was->internal || c.cached != was->cached))
		broken("%llu objects of bookkeeping and %llu in caches, were %llu and %llu",
		       NUMBER(c.internal), NUMBER(c.cached), NUMBER(was->internal),
		       NUMBER(was->cached));
	if (c.returned)
		broken("%llu returned extents", NUMBER(c.returned));
	if (c.empty_slabs > was->empty_slabs)
		broken("%llu empty slabs, were %llu", NUMBER(c.empty_slabs),
		       NUMBER(was->empty_slabs));
	if (c.threads != was->threads + threads + (parent ? board->number[0] : 0))
		broken("%llu threads, were %llu", NUMBER(c.threads), NUMBER(was->threads));
	if (c.clients != was->clients + parent)
		broken("%llu clients, were %llu", NUMBER(c.clients), NUMBER(was->clients));
	if (c.dead_names)
		broken("%llu names neither live nor free", NUMBER(c.dead_names));
	if (c.state > was->state + CRASH_STATES_MORE)
		broken("%llu pages of states, were %llu", NUMBER(c.state), NUMBER(was->state));
	if (mine && c.free)
		broken("%llu free pages cannot be had", NUMBER(c.free));
}


/* ---- all of it ---- */

static uint64_t take_zone(struct arena *a, uint32_t zone)
{
	uint64_t pages = 0;

	for (uint32_t block = (uint32_t)a->g.zone_pages; block; block >>= 1)
		while (buddy_take(a, zone, block, 1) != BUDDY_NONE)
			pages += block;
	return pages;
}

void census_take_all_pages(void)
{
	struct arena *a = &self->arena;
	struct census c;
	uint64_t pages = 0;

	census_take(&c);
	for (uint32_t z = 0; z < arena_refresh(a); z++) {
		if (zone_trylock(a, z))
			broken("zone %u's lock cannot be had", z);
		pages += take_zone(a, z);
		zone_unlock(a, z);
	}
	for (uint64_t z = arena_refresh(a); z < a->g.zone_count; z++)
		pages += geometry_zone_span(&a->g, z);
	if (pages != c.free)
		broken("of %llu free pages %llu can be had", NUMBER(c.free), NUMBER(pages));
}
