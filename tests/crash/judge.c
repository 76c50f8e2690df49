/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The oracle. Asked by a process that has just come: is all that should be there, whole; is all else gone;
 * does every page and object belong to somebody who lives; can all free memory be had.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "audit.h"
#include "client.h"
#include "crash.h"
#include "geometry.h"
#include "names.h"
#include "recovery.h"
#include "ring_view.h"
#include "slab.h"
#include "stats.h"
#include "thread.h"
#include "words.h"
#include "zone.h"

#define PATIENCE_NS  UINT64_C(1000000000) /* nobody waits longer */
#define HANG_SECONDS 300

/* ---- nobody waits ---- */

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Time that this process was ready and had no processor: not the arena's fault. */
static uint64_t queued_ns(void)
{
	unsigned long long run = 0, queued = 0;
	FILE *f = fopen("/proc/self/schedstat", "re");

	if (f && fscanf(f, "%llu %llu", &run, &queued) != 2)
		queued = 0;
	if (f)
		fclose(f);
	return queued;
}

static uint64_t started, queued;

static void watch_start(void)
{
	queued = queued_ns();
	started = clock_ns();
}

static void watch_stop(const char *what)
{
	uint64_t took = clock_ns() - started, waited = queued_ns() - queued;

	took = took > waited ? took - waited : 0;
	if (took > board->pause_ns)
		board->pause_ns = took;
	if (took > PATIENCE_NS)
		broken("%s took %llu ms", what, (unsigned long long)took / 1000000);
}

/* ---- who is alive ---- */

static uint32_t count_clients(uint32_t *dead)
{
	uint32_t live = 0;

	*dead = 0;
	for (uint32_t n = 1; n < CLIENTS_MAX; n++) {
		uint64_t word = atomic_load(client_word_at(&self->arena, n));

		if (client_word_state(word) == CLIENT_FREE)
			continue;
		if (n == self->arena.client || client_locked(&self->arena, n) == 1)
			live++;
		else
			++*dead;
	}
	return live;
}

static void recover(void)
{
	uint32_t dead;

	watch_start();
	recovery_reap_all(&self->arena);
	watch_stop("recovery");
	count_clients(&dead);
	if (dead)
		broken("%u dead clients are left after recovery", dead);
}

/* ---- working over what the dead left ---- */

static void work(void)
{
	uint32_t small, large;

	watch_start();
	small = make_thing(64, 0, FATE_GONE);
	large = make_thing(36864, 0, FATE_GONE);
	watch_stop("allocating");
	watch_start();
	drop_thing(small);
	drop_thing(large);
	watch_stop("freeing");
	watch_start();
	write_line(60);
	watch_stop("logging");
	large = make_thing(128, 0, FATE_GONE);
	watch_start();
	if (shma_publish(self, "judge", thing_at(large)->handle) || shma_unpublish(self, "judge"))
		broken("cannot publish and unpublish");
	watch_stop("publishing");
	drop_thing(large);
	watch_start();
	shma_close(self);
	watch_stop("closing");
	attach_self();
}

/* Takes everything. How many pages. */
static uint64_t drain(void)
{
	uint64_t pages = 0, h;

	watch_start();
	while ((h = shma_alloc(self, PAGE_SIZE, SHMA_LARGE))) {
		memset(shma_ptr(self, h), 0xee, PAGE_SIZE);
		watch_stop("allocating");
		watch_start();
		pages++;
	}
	watch_stop("allocating the last");
	if (errno != ENOMEM)
		broken("a full arena says %s", strerror(errno));
	return pages;
}

/* ---- whole ---- */

static bool with_index;

static void report(void *context, const struct audit_finding *f)
{
	char *text = context;
	size_t n = strlen(text);

	if (f->severity == AUDIT_TRUTH || with_index)
		snprintf(text + n, 900 - n, " %s: %s;", audit_key(f->what), f->text);
}

static void look_whole(const char *when, bool index)
{
	char text[900] = "";

	with_index = index;
	audit_arena(&self->arena, false, report, text);
	if (text[0])
		broken("%s:%s", when, text);
	if (!names_valid(&self->arena))
		broken("%s: names are not valid", when);
	if (!ring_valid(&self->arena, text, sizeof(text)))
		broken("%s: ring: %s", when, text);
}

/* An index may be stale until its lock is taken. */
static void use_zones(void)
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

/* ---- how much is what ---- */

static bool slab_empty(struct arena *a, struct census *c, uint64_t page)
{
	struct slab_place p;
	bool empty = true;

	if (slab_find(a, page << PAGE_SHIFT, &p))
		broken("page %#llx is a slab's and leads nowhere", (unsigned long long)page);
	for (uint32_t i = 0; i < sizeclass_table[p.class].objects; i++) {
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
	case PAGE_LARGE: c->large += pw1_length(w1); break;
	case PAGE_SLAB:
		c->slab++;
		if (pw1_dist(w1) == 0)
			c->empty_slabs += slab_empty(a, c, page);
		break;
	case PAGE_STATE: c->state += pw1_length(w1); break;
	case PAGE_SPAN: c->span++; break;
	case PAGE_LOG: c->log += pw1_length(w1); break;
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

static void take_census(struct census *c)
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
	c->clients = count_clients(&dead);
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
	use_zones();
	take_census(&board->census);
}

#define NUMBER(n) (unsigned long long)(n)

/* mine: pages of this process's objects. */
static void count_pages(uint64_t mine)
{
	const struct census *was = &board->census;
	bool threads = mine != 0, parent = board->account.parent;
	struct census c;

	take_census(&c);
	if (c.free + c.raw + c.state + c.slab + c.large + c.log !=
	    geometry_heap_pages(&self->arena.g))
		broken("pages: %llu free, %llu raw, %llu state, %llu slab, %llu large, %llu log of %llu",
		       NUMBER(c.free), NUMBER(c.raw), NUMBER(c.state), NUMBER(c.slab),
		       NUMBER(c.large), NUMBER(c.log), NUMBER(geometry_heap_pages(&self->arena.g)));
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
	if (c.state > was->state + 8)
		broken("%llu pages of states, were %llu", NUMBER(c.state), NUMBER(was->state));
	if (mine && c.free)
		broken("%llu free pages cannot be had", NUMBER(c.free));
}

/* ---- objects ---- */

static bool look_at_thing(const struct thing *t, uint32_t i)
{
	bool there = shma_ptr(self, t->handle) != NULL;

	/* Where other objects are now, its handle may be none at all. */
	if (!there && errno != ESTALE && errno != EINVAL)
		broken("object %u: %s", i, strerror(errno));
	if (there && t->fate == FATE_GONE)
		broken("object %u should be gone", i);
	if (!there && t->fate == FATE_KEPT)
		broken("object %u is lost", i);
	if (there && !thing_whole(t))
		broken("object %u is not as it was written", i);
	return there;
}

/* mine, my_bytes: objects of this process. */
static void look_at_things(uint64_t mine, uint64_t my_bytes)
{
	struct account *acc = &board->account;
	uint64_t objects = mine, bytes = my_bytes, strays;
	struct shma_stats st;

	for (uint32_t i = 0; i < acc->things; i++) {
		if (!look_at_thing(&acc->thing[i], i))
			continue;
		objects++;
		bytes += shma_size(self, acc->thing[i].handle);
	}
	shma_stats(self, &st);
	strays = st.live_objects - objects;
	if (st.live_objects < objects || strays > acc->strays)
		broken("%llu live objects, not %llu", NUMBER(st.live_objects), NUMBER(objects));
	if (strays == 0 && st.live_bytes != bytes)
		broken("%llu live bytes, not %llu", NUMBER(st.live_bytes), NUMBER(bytes));
}

static void look_at_cell(void)
{
	struct account *acc = &board->account;
	const struct thing *t;
	uint64_t held;

	if (!acc->cell)
		return;
	t = thing_at(acc->cell_thing);
	held = *(uint64_t *)(self->arena.heap + acc->cell);
	if (held != (shma_ptr(self, t->handle) ? t->handle : acc->cell_old))
		broken("a cell and its object disagree: %#llx", NUMBER(held));
}

/* ---- names ---- */

static void look_at_labels(void)
{
	struct account *acc = &board->account;
	struct census c;
	uint64_t names = 0;

	for (uint32_t i = 0; i < acc->labels; i++) {
		const struct label *l = &acc->label[i];
		uint64_t h = shma_lookup(self, l->name);
		bool thing = shma_ptr(self, thing_at(l->thing)->handle) != NULL;

		names += h != 0;
		if (h && h != thing_at(l->thing)->handle)
			broken("name %s leads to another object", l->name);
		if (h ? l->fate == FATE_GONE : l->fate == FATE_KEPT)
			broken("name %s is %s", l->name, h ? "there" : "lost");
		if (l->ties && thing != (h != 0))
			broken("name %s is %s, its object %s", l->name, h ? "there" : "not there",
			       thing ? "is" : "is not");
	}
	take_census(&c);
	if (c.names != names)
		broken("%llu names, not %llu", NUMBER(c.names), NUMBER(names));
}

/* ---- records ---- */

static unsigned char seen[LINES_MAX];

static void look_at_record(const struct shma_record *r)
{
	const struct line *l;
	uint32_t seed = LINES_MAX;

	if (r->len >= sizeof(seed))
		memcpy(&seed, r->data, sizeof(seed));
	if (seed >= board->account.lines)
		broken("a record of %zu bytes that nobody wrote", r->len);
	l = &board->account.line[seed];
	if (seen[seed]++)
		broken("record %u comes twice", seed);
	if (l->fate == FATE_GONE)
		broken("record %u was never to be seen", seed);
	if (r->len != l->bytes || r->level != 6)
		broken("record %u has %zu bytes, not %u", seed, r->len, l->bytes);
	for (uint32_t i = sizeof(seed); i < l->bytes; i++)
		if (((const char *)r->data)[i] != (char)(seed * 7 + i))
			broken("record %u is garbled", seed);
}

static uint64_t read_all(void)
{
	struct shma_reader *reader;
	struct shma_record r;
	uint64_t count = 0;
	int result = shma_reader_open(self, &reader, SHMA_FROM_OLDEST);

	if (result)
		broken("cannot read the log: %s", shma_strerror(result));
	while ((result = shma_reader_next(reader, &r, 0)) == 1) {
		look_at_record(&r);
		count++;
	}
	if (result)
		broken("reading the log: %s", shma_strerror(result));
	shma_reader_close(reader);
	return count;
}

static void look_at_log(void)
{
	struct account *acc = &board->account;
	uint64_t count, written = 0, perhaps = 0;
	struct ring_survey survey;

	watch_start();
	count = read_all();
	watch_stop("reading the log");
	for (uint32_t i = 0; i < acc->lines; i++) {
		written += acc->line[i].fate == FATE_KEPT;
		perhaps += acc->line[i].fate == FATE_EITHER;
		if (acc->line[i].fate == FATE_KEPT && !seen[i] && !acc->wrapped)
			broken("record %u is lost", i);
	}
	ring_survey(&self->arena, &survey);
	if (survey.written < written || survey.written > written + perhaps)
		broken("%llu records were written, not %llu and perhaps %llu",
		       NUMBER(survey.written), NUMBER(written), NUMBER(perhaps));
	if (survey.records != count)
		broken("%llu of %llu records can be read", NUMBER(count), NUMBER(survey.records));
	if (survey.consumer)
		broken("client %u still is the consumer", survey.consumer);
}

/* ---- again ---- */

#define SIZES  6
#define REUSED 60

static bool stays[THINGS_MAX];

/* Takes what became free, where old handles led. */
static void reuse(void)
{
	const struct account *acc = &board->account;
	uint64_t sizes[SIZES];
	uint32_t n = 0, i, k;
	struct slab_place p;

	/* Where the slab stays, generations are counted on; elsewhere they begin somewhere. */
	for (i = 0; i < acc->things; i++)
		stays[i] = slab_find(&self->arena, handle_offset(acc->thing[i].handle), &p) == 0;

	for (i = 0; i < acc->things && n < SIZES; i++) {
		if (acc->thing[i].fate != FATE_GONE || acc->thing[i].bytes > 4096)
			continue;
		for (k = 0; k < n && sizes[k] != acc->thing[i].bytes; k++)
			;
		if (k == n)
			sizes[n++] = acc->thing[i].bytes;
	}
	for (k = 0; k < n * REUSED; k++)
		if (!shma_alloc(self, sizes[k / REUSED], 0) && errno != ENOMEM)
			broken("allocating: %s", strerror(errno));
	for (i = 0; i < acc->things; i++)
		if (acc->thing[i].fate == FATE_GONE && shma_ptr(self, acc->thing[i].handle)) {
			board->by_chance = !stays[i];
			broken("object %u is gone, and its handle leads to another", i);
		}
}

/* Goes round the ring: each block can be had again, but what a living one has leased. */
static void wrap(void)
{
	static const char data[1000];
	uint64_t tickets;
	struct ring_view v;

	if (!ring_view(&self->arena, &v))
		broken("the ring's header makes no sense");
	tickets = atomic_load(&v.header->tickets);
	watch_start();
	for (uint32_t i = 0; i < 2 * (CRASH_LOG >> 10); i++)
		if (shma_log_write(self, 6, data, sizeof(data)))
			broken("cannot write a record");
	watch_stop("writing records");
	for (uint32_t i = 0; i < v.blocks; i++) {
		uint64_t word = atomic_load(&v.words[i]);

		if (ring_word_state(word) == RING_OPEN && !ring_word_shared(word))
			continue;
		if (atomic_load(&v.heads[i].ticket) <= tickets)
			broken("block %u of the ring cannot be had: state %d", i,
			       (int)ring_word_state(word));
	}
}

/* ---- another arena, in the making ---- */

static uint32_t files_of(const char *name)
{
	struct dirent *e;
	uint32_t count = 0;
	DIR *d = opendir("/dev/shm");

	while (d && (e = readdir(d)))
		count += strstr(e->d_name, name) != NULL;
	if (d)
		closedir(d);
	return count;
}

/* It can be made, or is there and whole; nothing of it stays behind. */
static void look_at_created(void)
{
	const char *name = board->account.created;
	struct shma_options opt = { .struct_size = sizeof(opt), .capacity = CRASH_CAPACITY };
	char path[128], text[900] = "";
	shma *other;
	int r;

	if (!name[0])
		return;
	watch_start();
	r = shma_open(&other, name, SHMA_CREATE | SHMA_EMBEDDED, &opt);
	watch_stop("creating");
	if (r)
		broken("cannot create an arena: %s", shma_strerror(r));
	with_index = true;
	recovery_reap_all(&other->arena);
	audit_arena(&other->arena, false, report, text);
	if (text[0] || !shma_alloc(other, 100, 0))
		broken("the new arena: %s", text);
	if (arena_path(path, sizeof(path), name) || arena_unlink(path) || files_of(name))
		broken("%u files of the new arena are left", files_of(name));
}

/* ---- the judge ---- */

void judge(enum judging way)
{
	uint64_t pages = 0;

	alarm(HANG_SECONDS);
	watch_start();
	attach_self();
	watch_stop("opening");
	if (way == JUDGE_WORK)
		work();
	if (way == JUDGE_DRAIN)
		pages = drain();
	recover();
	look_whole("after recovery", false);
	use_zones();
	look_whole("in use again", true);
	count_pages(pages);
	look_at_things(pages, pages * PAGE_SIZE);
	look_at_cell();
	look_at_labels();
	look_at_log();
	look_at_created();
	reuse();
	if (way == JUDGE_RECOVER)
		wrap();
	look_whole("with new objects", true);
	_exit(0);
}
