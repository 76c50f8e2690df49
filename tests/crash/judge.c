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
#include <unistd.h>

#include "../thread_time.h"
#include "arena_file.h"
#include "audit.h"
#include "judge.h"
#include "geometry.h"
#include "names.h"
#include "object_word.h"
#include "recovery.h"
#include "ring_view.h"
#include "service.h"
#include "slab.h"
#include "stats.h"
#include "thread.h"
#include "words.h"
#include "zone.h"

#define PATIENCE_NS  UINT64_C(1000000000) /* nobody waits longer */
#define HANG_SECONDS 300

/* ---- nobody waits ---- */

/* Time without a processor is not the arena's fault. */
static uint64_t started, queued;

void watch_start(void)
{
	queued = thread_queued_ns();
	started = thread_clock_ns();
}

void watch_stop(const char *what)
{
	uint64_t took = thread_clock_ns() - started, waited = thread_queued_ns() - queued;

	took = took > waited ? took - waited : 0;
	if (took > board->pause_ns)
		board->pause_ns = took;
	/* Where the machine itself stood still, it does not the next time. */
	board->by_chance |= took > PATIENCE_NS;
	if (took > PATIENCE_NS)
		broken("%s took %llu ms", what, (unsigned long long)took / 1000000);
}

/* ---- recovery ---- */

static void recover(void)
{
	uint32_t dead;

	watch_start();
	recovery_reap_all(&self->arena);
	watch_stop("recovery");
	census_clients(&self->arena, &dead);
	if (dead)
		broken("%u dead clients are left after recovery", dead);
}

/* ---- working over what the dead left ---- */

static void work(void)
{
	uint32_t small, large;

	watch_start();
	small = make_thing(64, 0, FATE_GONE);
	large = make_thing(36864, SHMA_LARGE, FATE_GONE);
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

void judge_report(void *context, const struct audit_finding *f)
{
	char *text = context;
	size_t n = strlen(text);

	if (f->severity == AUDIT_TRUTH || with_index)
		snprintf(text + n, REPORT_BYTES - n, " %s: %s;", audit_key(f->what), f->text);
}

static void look_whole(const char *when, bool index)
{
	char text[REPORT_BYTES] = "";

	with_index = index;
	audit_arena(&self->arena, false, judge_report, text);
	if (text[0])
		broken("%s:%s", when, text);
	if (!names_valid(&self->arena))
		broken("%s: names are not valid", when);
	if (!ring_valid(&self->arena, text, sizeof(text)))
		broken("%s: ring: %s", when, text);
}

/* ---- objects ---- */

static bool look_at_thing(const struct thing *t, uint32_t i)
{
	bool there = shma_ptr(self, t->handle) != NULL || errno == ENODATA; /* packed */

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

/* As statistics count it: where objects are watched, all of its place. */
static uint64_t bytes_of(uint64_t handle)
{
	struct object o;
	uint32_t state;

	if (!self->arena.debug && shma_ptr(self, handle))
		return shma_size(self, handle);
	return object_word_find_live(&self->arena, handle, &o, &state) ? 0 : o.bytes;
}

/* mine, my_bytes: objects of this process. */
static void look_at_things(uint64_t mine, uint64_t my_bytes)
{
	struct account *acc = &board->account;
	uint64_t objects = mine, bytes = my_bytes, strays, due = 0, allowed = acc->strays;
	struct shma_stats st;

	for (uint32_t i = 0; i < acc->things; i++) {
		if (!look_at_thing(&acc->thing[i], i)) {
			due += acc->thing[i].replaced;
			continue;
		}
		allowed -= acc->thing[i].replaced && allowed;
		objects++;
		bytes += acc->thing[i].file ? PAGE_SIZE : bytes_of(acc->thing[i].handle);
	}
	shma_stats(self, &st);
	strays = st.live_objects - objects;
	if (st.live_objects < objects || strays > allowed || strays < due)
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
	census_take(&c);
	if (c.names != names)
		broken("%llu names, not %llu", NUMBER(c.names), NUMBER(names));
}

/* ---- records ---- */

static unsigned char seen[LINES_MAX];

/* A structured one has its line as its only value. */
static struct shma_record line_in(const struct shma_record *r)
{
	struct shma_record plain = *r;
	struct shma_kv kv, none;
	size_t cursor = 0, len;

	if (!r->fields)
		return plain;
	if (!shma_record_text(r, &len) || len || shma_record_kv(r, &cursor, &kv) != 1 ||
	    kv.type != SHMA_TYPE_BYTES || shma_record_kv(r, &cursor, &none) != 0)
		broken("a structured record of %zu bytes that nobody wrote", r->len);
	plain.data = (void *)(uintptr_t)kv.value.bytes;
	plain.len = kv.len;
	return plain;
}

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

/* In a debug arena: the oracle's own use of what the dead had, or what the operation was about. */
static bool is_report(const struct shma_record *r)
{
	struct shma_kv kv;
	size_t cursor = 0;

	return self->arena.debug && r->fields && r->level == 3 && shma_record_kv(r, &cursor, &kv) == 1 &&
	       kv.key_len == 5 && !memcmp(kv.key, "debug", 5);
}

static uint64_t read_all(uint64_t *reports)
{
	struct shma_reader *reader;
	struct shma_record r;
	uint64_t count = 0;
	int result = shma_reader_open(self, &reader, SHMA_FROM_OLDEST);

	if (result)
		broken("cannot read the log: %s", shma_strerror(result));
	while ((result = shma_reader_next(reader, &r, 0)) == 1) {
		count++;
		if (is_report(&r)) {
			++*reports;
			continue;
		}
		r = line_in(&r);
		look_at_record(&r);
	}
	if (result)
		broken("reading the log: %s", shma_strerror(result));
	shma_reader_close(reader);
	return count;
}

/* Who reads on for a dead reader gets what that one had last, or the next, and nothing is said to be lost. */
static void read_on(void)
{
	struct shma_reader *reader;
	struct shma_record r;
	uint32_t seed;
	int result;

	watch_start();
	result = shma_reader_open_at(self, &reader, "v", 0);
	if (result)
		broken("cannot read on: %s", shma_strerror(result));
	if (shma_reader_next(reader, &r, 0) != 1 || r.len < sizeof(seed))
		broken("nothing to read on with");
	memcpy(&seed, r.data, sizeof(seed));
	if (seed != board->account.place - 1 && seed != board->account.place)
		broken("record %u comes after %u", seed, board->account.place - 1);
	if (r.lost)
		broken("%llu records are told as lost", NUMBER(r.lost));
	board->account.place = 0;
	shma_reader_close(reader);
	watch_stop("reading on");
}

static void look_at_log(void)
{
	struct account *acc = &board->account;
	uint64_t count, written = 0, perhaps = 0, reports = 0;
	struct ring_survey survey;

	watch_start();
	count = read_all(&reports);
	watch_stop("reading the log");
	for (uint32_t i = 0; i < acc->lines; i++) {
		written += acc->line[i].fate == FATE_KEPT;
		perhaps += acc->line[i].fate == FATE_EITHER;
		if (acc->line[i].fate == FATE_KEPT && !seen[i] && !acc->wrapped)
			broken("record %u is lost", i);
	}
	written += reports;
	ring_survey(&self->arena, &survey);
	if (survey.written < written || survey.written > written + perhaps)
		broken("%llu records were written, not %llu and perhaps %llu",
		       NUMBER(survey.written), NUMBER(written), NUMBER(perhaps));
	if (survey.records != count)
		broken("%llu of %llu records can be read", NUMBER(count), NUMBER(survey.records));
	if (survey.consumer)
		broken("client %u still is the consumer", survey.consumer);
	if (acc->place)
		read_on();
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
	char path[128], text[REPORT_BYTES] = "";
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
	audit_arena(&other->arena, false, judge_report, text);
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
	/* The next daemon comes first, and recovers; or last. */
	if (board->account.service && way == JUDGE_RECOVER)
		look_at_service();
	watch_start();
	attach_self();
	watch_stop("opening");
	/* A watched object takes three pages at least: all of them cannot be had so, page by page. */
	if (way == JUDGE_DRAIN && self->arena.debug)
		way = JUDGE_WORK;
	if (way == JUDGE_WORK) {
		board->account.wrapped |= board->account.full;
		work();
	}
	if (way == JUDGE_DRAIN)
		pages = drain();
	recover();
	look_whole("after recovery", false);
	census_use_zones();
	look_whole("in use again", true);
	census_compare(pages);
	look_at_things(pages, pages * PAGE_SIZE);
	look_at_cell();
	look_at_labels();
	look_at_log();
	look_at_profile();
	look_at_created();
	if (board->account.service && way != JUDGE_RECOVER)
		look_at_service();
	reuse();
	if (way == JUDGE_RECOVER)
		wrap();
	look_whole("with new objects", true);
	census_take_all_pages();
	_exit(0);
}
