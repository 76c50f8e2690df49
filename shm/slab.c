/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Truth: the page map says what is a slab; each object's state word says whose it is. Index: the
 * record's bitmap of free objects, and the hints (hint.h) of regions with such slabs.
 *
 * Who claims objects of a slab, or gives the slab back, holds its record (busy with this client) for that
 * long, by one compare-and-swap; the free objects' words are then its alone, to be changed by plain
 * stores. Nobody waits for a record: a busy one is passed by. Owners put objects back whoever holds it.
 *
 * Modelled in tests/model/: object.pml has claim_object() and slab_put(), one object's life; hint.pml has
 * claim_by_hints() and tell().
 */
#include "slab.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

#include "bits.h"
#include "client.h"
#include "extent.h"
#include "geometry.h"
#include "hint.h"
#include "pagemap.h"
#include "placement.h"
#include "record.h"
#include "slab_inside.h"
#include "stop_point.h"

#define BUSY_TRIES 4 /* rounds when all that is free is in slabs that others draw from */
#define OWNS_LITTLE (INT64_C(2) << 20) /* bytes */
#define LIST_LOOKS 8 /* slabs of a thread's list that it draws from at once */
#define TALL_PART 8 /* of a tall slab, that who owns more asks for at least */

/* ---- finding ---- */

struct slab_record *slab_at(struct arena *a, uint64_t page, uint32_t class)
{
	uint64_t w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);
	uint64_t w1;

	if (pw0_kind(w0) != PAGE_SLAB)
		return NULL;
	w1 = atomic_load_explicit(&a->pages[page].w1, memory_order_acquire);
	if (!pw1_is_slab(w1) || pw1_class(w1) != class || pw1_dist(w1) != 0 ||
	    !record_plausible(a, pw1_record(w1), sizeclass_table[class].shape))
		return NULL;
	return record_at(a, pw1_record(w1));
}

static uint64_t object_handle(const struct arena *a, uint64_t head, uint32_t class, uint32_t index,
			      uint32_t gen)
{
	return handle_make(a->tag, gen,
			   (head << PAGE_SHIFT) + (uint64_t)index * sizeclass_table[class].bytes);
}

/* ---- claiming ---- */

struct claim {
	struct arena *a;
	uint64_t head;
	uint32_t class; /* rather, the kind of slabs that is looked for */
	enum object_kind kind;
	uint32_t want, count;
	uint64_t *out;
	bool full; /* there was no memory for a page that had been given back */
	uint32_t drawer; /* 0: from whoever's slabs */
	uint64_t region; /* looked at last */
	struct slab_passed passed;
};

/* One object of a slab whose record we hold: nobody else claims a free one. */
static void claim_object(struct claim *c, struct slab_record *r, uint32_t index)
{
	_Atomic uint32_t *word = &r->words[index];
	/* PAIR(put): whoever freed it is done with it. */
	uint32_t seen = atomic_load_explicit(word, memory_order_acquire);

	/* A late bit of the record's last slab may lie behind this one's objects. */
	if (index >= sizeclass_table[c->class].objects || state_kind(seen) != OBJECT_FREE)
		return;
	/* Crash: before, free (a bit taken off the bitmap for nothing comes back with our recovery: the
	 * region is marked); after, ours. */
	atomic_store_explicit(word, state_make(c->kind, c->a->client, state_gen(seen)),
			      memory_order_release);
	c->out[c->count++] = object_handle(c->a, c->head, c->class, index, state_gen(seen));
}

/* The lowest bits of a set, at most n. */
static uint64_t lowest_bits(uint64_t bits, uint32_t n)
{
	uint64_t left = bits;

	if ((uint32_t)__builtin_popcountll(bits) <= n)
		return bits;
	while (n--)
		left &= left - 1;
	return bits & ~left;
}

static void claim_from_slab(struct claim *c)
{
	struct slab_record *r = slab_at(c->a, c->head, c->class);
	bool holes;

	if (!r || !slab_any_bits(r))
		return;
	if (slab_is_others(c->a, r, c->class, c->drawer)) {
		slab_pass(&c->passed, r, c->head, c->class);
		return;
	}
	if (!slab_hold(c->a, r, c->head, c->class))
		return;
	holes = slab_holes(c->a, c->head, c->class);
	for (uint32_t w = 0; w < 4 && c->count < c->want; w++) {
		uint64_t bits = atomic_load_explicit(&r->bitmap[w], memory_order_relaxed);

		while (bits && c->count < c->want) {
			uint64_t got = lowest_bits(bits, c->want - c->count);

			bits &= ~got;
			if (holes)
				got = slab_back(c->a, c->head, c->class, w, got, &c->full);
			/* Others set bits meanwhile, none takes one off. */
			atomic_fetch_and_explicit(&r->bitmap[w], ~got, memory_order_acq_rel);
			STOP_POINT(slab_bits_taken);
			for (; got; got &= got - 1)
				claim_object(c, r, w * 64 + (uint32_t)__builtin_ctzll(got));
		}
	}
	STOP_POINT(slab_words_claimed);
	slab_let_go(c->a, r);
}

static void drawn_from(struct claim *c, struct slab_source *from)
{
	struct slab_record *r = slab_at(c->a, c->head, c->class);

	if (r && from->drawer)
		slab_draw_here(r, c->head, from);
	else
		from->head = (uint32_t)c->head + 1;
}

static void claim_from_region(struct claim *c, uint64_t region, struct slab_source *from)
{
	const struct page_entry *pages = &c->a->pages[region * REGION_PAGES];
	uint64_t head = pw1_slab(0, 0, c->class);

	/* No answer can do harm: what is there is looked at as a slab's head before it is believed. */
	for (uint32_t i = 0; i < REGION_PAGES && c->count < c->want; i++) {
		uint64_t w1 = atomic_load_explicit(&pages[i].w1, memory_order_relaxed);
		uint32_t before = c->count;

		if ((w1 & ~PW1_RECORD_MASK) != head)
			continue;
		c->head = region * REGION_PAGES + i;
		claim_from_slab(c);
		if (c->count > before)
			drawn_from(c, from);
	}
}

/* Regions with a hint, in some zones. */
static void claim_by_hints(struct claim *c, struct slab_source *from, uint64_t first, uint64_t end,
			   uint64_t zones)
{
	uint64_t region = first;

	while (c->count == 0 && !slab_passed_enough(&c->passed) &&
	       (region = hint_next_in(c->a, c->class, region, end, zones)) != UINT64_MAX) {
		uint32_t passed = c->passed.slabs;

		c->region = region;
		claim_from_region(c, region, from);
		if (c->count == 0 && c->passed.slabs == passed) {
			hint_clear(c->a, c->class, region);
			STOP_POINT(slab_hint_cleared);
			/* PAIR(hint): cleared, then looked at once more. */
			claim_from_region(c, region, from);
			if (c->count)
				hint_set(c->a, c->class, region * REGION_PAGES);
		}
		region++;
	}
}

/* What others have left free of the slabs that they draw from is enough: from the one that has most of it. */
static void claim_passed(struct claim *c, struct slab_source *from)
{
	uint32_t drawer = c->drawer;

	c->head = c->passed.head;
	c->class = c->passed.kind;
	c->drawer = 0;
	claim_from_slab(c);
	if (c->count > 0)
		drawn_from(c, from);
	c->drawer = drawer;
}

/* The kind of slab that a thread drew from last; at first the short one. */
static uint32_t kind_drawn(const struct arena *a, const struct slab_source *from, uint64_t end)
{
	uint64_t w1 = 0;

	if (from->head && from->head - 1 < end * REGION_PAGES)
		w1 = atomic_load_explicit(&a->pages[from->head - 1].w1, memory_order_relaxed);
	if (pw1_is_slab(w1) && pw1_class(w1) < KINDS && sizeclass_of_kind(pw1_class(w1)) == from->class)
		return pw1_class(w1);
	return sizeclass_short(from->class);
}

/* A class's kinds, round: long, tall, short. One that it has not is its long one. */
static uint32_t kind_after(uint32_t kind)
{
	uint32_t class = sizeclass_of_kind(kind);

	if (kind == class && sizeclass_tall(class) != class)
		return sizeclass_tall(class);
	return kind >= CLASSES && kind == sizeclass_short(class) ? class : sizeclass_short(class);
}

/* All of them, the home zone's first, and the kind drawn from last first. */
static void claim_around(struct claim *c, struct slab_source *from, uint64_t end, uint64_t zones)
{
	uint64_t home = *from->home * (c->a->g.zone_pages / REGION_PAGES);
	uint32_t first = kind_drawn(c->a, from, end);

	if (from->drawer && *from->crowd)
		home = *from->crowd - 1;
	if (home > end)
		home = end;
	c->class = first;
	do {
		claim_by_hints(c, from, home, end, zones);
		claim_by_hints(c, from, 0, home, zones);
		c->class = kind_after(c->class);
	} while (c->count == 0 && c->class != first);
	if (c->drawer && c->passed.slabs)
		*from->crowd = (uint32_t)c->region + 1;
	else if (c->drawer && c->count == 0)
		*from->crowd = 0;
}

/* ---- making ---- */

static uint32_t mix(uint32_t x)
{
	x ^= x >> 16;
	x *= 0x7feb352du; /* Wellons' hash prospector */
	x ^= x >> 15;
	x *= 0x846ca68bu;
	return x ^ x >> 16;
}

/* By the clock: the words of another record may be what this one's were, and forked processes have all
 * else in common, so that what they make at one place would have the same handles. */
static uint32_t generation_seed(uint64_t head)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return mix((uint32_t)head ^ mix((uint32_t)now.tv_nsec ^ (uint32_t)now.tv_sec << 30));
}

/* The next generation of a word, from what it was in the record's last slab by a step of its own, never 0 and
 * foreseen by nobody: so a handle with a wrong offset hardly ever meets a neighbour of its generation. */
static uint32_t next_generation(const _Atomic uint32_t *word, uint32_t *random)
{
	*random = *random * 1664525u + 1013904223u; /* linear congruence; the upper bits are good */
	return (state_gen(atomic_load_explicit(word, memory_order_relaxed)) + 1 + (*random >> 17)) & 0xffff;
}

/* The first want objects become the claimer's at once, the others free. */
static void init_words(struct claim *c, struct slab_record *r)
{
	uint32_t objects = sizeclass_table[c->class].objects, random = generation_seed(c->head), i = 0, gen;

	for (; i < c->want; i++) {
		gen = next_generation(&r->words[i], &random);
		c->out[c->count++] = object_handle(c->a, c->head, c->class, i, gen);
		atomic_store_explicit(&r->words[i], state_make(c->kind, c->a->client, gen), memory_order_relaxed);
	}
	for (; i <= objects; i++) { /* the spare one too */
		gen = next_generation(&r->words[i], &random);
		atomic_store_explicit(&r->words[i], state_make(OBJECT_FREE, 0, gen), memory_order_relaxed);
	}
	for (uint32_t w = 0; w < 4; w++) {
		uint32_t end = objects > w * 64 ? objects - w * 64 : 0, from = c->want > w * 64 ? c->want - w * 64 : 0;

		atomic_store_explicit(&r->bitmap[w], bits_low(end) & ~bits_low(from), memory_order_relaxed);
	}
}

static void enter_pages(struct arena *a, uint64_t head, uint32_t class, uint64_t record)
{
	for (uint32_t dist = sizeclass_entries(class); dist-- > 0;) {
		struct page_entry *e = &a->pages[head + dist];
		uint32_t gen = pw0_gen(atomic_load_explicit(&e->w0, memory_order_relaxed));

		atomic_store_explicit(&e->w1, pw1_slab(dist, record, class), memory_order_release);
		STOP_POINT(slab_page_entering);
		/* Crash: before the head's, which is last, a raw extent of ours with slab entries inside,
		 * which recovery clears; after, a slab, its record busy with us: recovery makes it live. */
		atomic_store_explicit(&e->w0, pw0_make(PAGE_SLAB, 0, gen, class), memory_order_release);
	}
}

/* In one of the node's own zones, unless all zones will do. */
static uint64_t take_pages(struct claim *c, struct slab_source *from, uint64_t zones, int *err)
{
	uint64_t pages = sizeclass_table[c->class].pages;

	if (zones == PLACEMENT_ALL)
		return extent_alloc(c->a, pages, 1, RAW_PLAIN, from->home, err);
	return extent_alloc_in(c->a, pages, RAW_PLAIN, from->home, zones, err);
}

/* What is asked for at once tells how busy a thread is with the class: it is half its cache's limit, which
 * grows on misses. Who owns little gets a long slab, or a tall one, only for what takes all of it. Who owns more gets a
 * tall one for an eighth of it: what is left over is soon asked for. And a long one for what does not fit into a short
 * one, which costs more records and has a longer tail. */
static uint32_t kind_to_make(const struct slab_source *from, uint32_t want)
{
	bool little = from->owned < OWNS_LITTLE;
	uint32_t few = sizeclass_short(from->class), tall = sizeclass_tall(from->class);
	uint32_t most = sizeclass_table[little ? from->class : few].objects;

	if (tall != from->class && want * (little ? 1 : TALL_PART) >= sizeclass_table[tall].objects)
		return tall;
	return want < most || want <= sizeclass_table[few].objects ? few : from->class;
}

static int make_of_kind(struct claim *c, struct slab_source *from, uint64_t zones)
{
	const struct sizeclass *class = &sizeclass_table[c->class];
	struct slab_record *r;
	uint64_t at;
	int err = 0;

	c->head = take_pages(c, from, zones, &err);
	if (c->head == EXTENT_NONE)
		return err;
	STOP_POINT(slab_extent_raw);
	at = record_alloc(c->a, class->shape, &err);
	if (!at) {
		extent_free(c->a, c->head);
		return err;
	}
	STOP_POINT(slab_record_got);
	r = record_at(c->a, at);
	atomic_store_explicit(&r->head, (uint32_t)c->head, memory_order_relaxed);
	atomic_store_explicit(&r->class_index, c->class, memory_order_relaxed);
	STOP_POINT(slab_record_named);
	if (c->want > class->objects)
		c->want = class->objects;
	init_words(c, r);
	STOP_POINT(slab_words_set);
	slab_set_raw_use(c->a, c->head, RAW_SLAB + c->class);
	enter_pages(c->a, c->head, c->class, at);
	STOP_POINT(slab_entered);
	atomic_store_explicit(&r->owner, RECORD_LIVE, memory_order_seq_cst);
	STOP_POINT(slab_untold);
	if (c->want < class->objects)
		hint_set(c->a, c->class, c->head);
	slab_draw_here(r, c->head, from);
	return 0;
}

static int make_slab(struct claim *c, struct slab_source *from, uint64_t zones)
{
	uint32_t fewer = sizeclass_short(from->class);
	int err;

	c->class = kind_to_make(from, c->want);
	err = make_of_kind(c, from, zones);
	if (err != -ENOMEM || c->class == fewer)
		return err;
	/* So many pages are not free together, but fewer may be. */
	c->class = fewer;
	return make_of_kind(c, from, zones);
}

static bool rescan_kinds(struct arena *a, uint32_t class)
{
	uint32_t kind = class;
	bool any = false;

	do {
		any |= slab_rescan(a, kind);
		kind = kind_after(kind);
	} while (kind != class);
	return any;
}

/* From the slab drawn from last, or from a list of those that are left to this thread. */
static void claim_again(struct claim *c, struct slab_source *from, uint64_t end, uint64_t zones)
{
	struct slab_record *r;

	if (!from->head || from->head - 1 >= end * REGION_PAGES ||
	    !placement_zone_in(zones, (from->head - 1) >> c->a->zone_shift))
		return;
	if (!from->drawer || !*from->crowd) {
		c->head = from->head - 1;
		c->class = kind_drawn(c->a, from, end);
		claim_from_slab(c);
		return;
	}
	for (int i = 0; i < LIST_LOOKS && c->count < c->want; i++) {
		r = slab_drawn(c->a, from, &c->class);
		if (!r)
			return;
		c->head = from->head - 1;
		claim_from_slab(c);
		if (slab_any_bits(r))
			return;
		slab_draw_next(r, from);
	}
}

uint32_t slab_claim(struct arena *a, struct slab_source *from, uint32_t want, enum object_kind kind,
		    uint64_t *out, int *err)
{
	struct claim c = {.a = a, .class = from->class, .kind = kind, .want = want, .out = out,
			  .drawer = from->drawer, .passed.most = slab_pass_most(from)};
	uint64_t end = atomic_load_explicit(&a->pages_known, memory_order_relaxed) / REGION_PAGES;
	/* Of the node this thread runs on: what is free there, then a new slab there, before any other. */
	uint64_t near = placement_settle_home(a, from->home);

	claim_again(&c, from, end, near);
	if (c.count == 0)
		claim_around(&c, from, end, near);
	if (c.count == 0 && slab_passed_enough(&c.passed))
		claim_passed(&c, from);
	if (c.count == 0 && near != PLACEMENT_ALL)
		*err = make_slab(&c, from, near);
	if (near != PLACEMENT_ALL)
		claim_around(&c, from, end, PLACEMENT_ALL);
	if (c.count == 0)
		*err = make_slab(&c, from, PLACEMENT_ALL);
	/* There is no memory: whoever draws from it. */
	c.drawer = 0;
	c.passed = (struct slab_passed){.most = UINT64_MAX};
	if (c.count == 0)
		claim_around(&c, from, end, PLACEMENT_ALL);
	for (int i = 0; c.count == 0 && i < BUSY_TRIES && rescan_kinds(a, from->class); i++) {
		claim_around(&c, from, end, PLACEMENT_ALL);
		if (c.count == 0)
			sched_yield();
	}
	return c.count;
}

/* ---- putting back ---- */

/* Objects of one slab that are free and not told of yet; and where it lies, in units of 16 bytes. */
struct freed {
	struct slab_record *record;
	uint64_t head; /* page */
	uint64_t first16, span16;
	uint32_t kind, reciprocal;
	uint64_t bits[4];
};

static void tell(struct arena *a, const struct freed *f, struct slab_source *from)
{
	uint32_t objects = sizeclass_table[f->kind].objects;
	uint64_t before = 0, told = 0;
	bool full = true;

	STOP_POINT(slab_words_freed);
	for (uint32_t w = 0; w < 4; w++) {
		uint64_t was;

		if (!f->bits[w])
			continue;
		was = atomic_fetch_or_explicit(&f->record->bitmap[w], f->bits[w], memory_order_seq_cst);
		full = full && !(~(was | f->bits[w]) & bits_low(objects - w * 64));
		before |= was;
		told |= f->bits[w];
		STOP_POINT(slab_bits_set);
	}
	if (!told)
		return;
	/* PAIR(hint): the bits, then the look at the region's hint. Where there were bits before, whoever set
	 * them has seen to the hint, or is about to; who clears it looks for bits once more after. */
	if (!before)
		hint_set(a, f->kind, f->head);
	if (f->head + 1 != from->head && full && slab_looks_empty(f->record, f->kind) &&
	    !slab_leave(a, f->record, f->head, f->kind, from))
		slab_retire(a, f->record);
	else
		slab_draw_soon(a, f->record, f->head, from);
}

static inline bool freed_spans(const struct freed *f, uint64_t handle)
{
	return (handle_offset(handle) >> 4) - f->first16 < f->span16;
}

/* The slab that the object of a handle lies in, if any. */
static bool freed_slab(const struct arena *a, uint64_t handle, struct freed *f)
{
	uint64_t page = handle_offset(handle) >> PAGE_SHIFT, w1;

	if (page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return false;
	w1 = atomic_load_explicit(&a->pages[page].w1, memory_order_acquire);
	if (!pw1_is_slab(w1) || pw1_class(w1) >= KINDS || pw1_dist(w1) > page)
		return false;
	*f = (struct freed){.record = (struct slab_record *)(a->heap + (w1 & a->record_mask)),
			    .head = page - pw1_dist(w1),
			    .kind = pw1_class(w1)};
	f->first16 = f->head << (PAGE_SHIFT - 4);
	f->span16 = (uint64_t)sizeclass_entries(f->kind) << (PAGE_SHIFT - 4);
	f->reciprocal = sizeclass_rows[sizeclass_row(f->kind)].reciprocal;
	return freed_spans(f, handle); /* else damage */
}

/* Frees those of some handles that are private to this client, up to the first that does not lie in the slab. How
 * many that are, with those that are dropped. The page map is not asked: a slab with an object of ours stays. */
static uint32_t free_run(struct freed *f, const uint64_t *handles, uint32_t count, uint32_t own)
{
	const uint64_t first16 = f->first16, span16 = f->span16;
	const uint32_t reciprocal = f->reciprocal;
	_Atomic uint32_t *words = f->record->words;
	uint32_t i = 0;

	for (; i < count; i++) {
		uint64_t offset16 = (handle_offset(handles[i]) >> 4) - first16;
		uint32_t gen = handle_gen(handles[i]), index;

		if (offset16 >= span16)
			break;
		if (!sizeclass_begins(offset16, reciprocal, &index) ||
		    atomic_load_explicit(&words[index], memory_order_relaxed) != (own | gen << STATE_GEN_SHIFT))
			continue;
		/* PAIR(put): we are done with it. */
		atomic_store_explicit(&words[index], state_make(OBJECT_FREE, 0, gen), memory_order_release);
		f->bits[index / 64 % 4] |= UINT64_C(1) << (index % 64); /* the spare one is never ours */
	}
	return i;
}

/* Neighbours in one slab are told of together, which may let the slab go: before any of another's is freed. */
void slab_put_near(struct arena *a, const uint64_t *handles, uint32_t count, struct slab_source *from)
{
	const uint32_t own = state_make(OBJECT_PRIVATE, a->client, 0);
	struct freed f;

	for (uint32_t i = 0; i < count;) {
		if (!freed_slab(a, handles[i], &f) ||
		    (sizeclass_table[f.kind].objects == 1 && slab_put_whole(a, f.record, f.head, f.kind, handles[i]))) {
			i++;
			continue;
		}
		i += free_run(&f, handles + i, count - i, own);
		tell(a, &f, from);
	}
}

void slab_put(struct arena *a, const uint64_t *handles, uint32_t count, uint32_t keep)
{
	struct slab_source from = {.head = keep};

	slab_put_near(a, handles, count, &from);
}

void slab_give_up(struct arena *a, uint64_t head, uint32_t class)
{
	struct slab_place p;

	if (head < UINT64_MAX >> PAGE_SHIFT && !slab_find(a, head << PAGE_SHIFT, &p) && p.head == head &&
	    (p.class == class || class == CLASSES) && slab_at(a, head, p.kind) == p.record &&
	    slab_looks_empty(p.record, p.kind))
		slab_retire(a, p.record);
}

/* ---- looking at all of them ---- */

bool slab_rescan(struct arena *a, uint32_t class)
{
	uint64_t pages = atomic_load_explicit(&a->pages_known, memory_order_relaxed);
	bool any = false;

	for (uint64_t page = 0; page < pages;) {
		uint64_t w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);
		struct slab_record *r = slab_at(a, page, class);
		uint64_t length = 1;

		if (r && slab_names(r, page, class) && slab_refresh_bits(r, sizeclass_table[class].objects)) {
			hint_set(a, class, page);
			any = true;
		}
		if (r)
			length = sizeclass_table[class].pages;
		else if (pw0_kind(w0) == PAGE_LARGE || pw0_kind(w0) == PAGE_RAW)
			length = pagemap_length(w0, atomic_load_explicit(&a->pages[page].w1,
									 memory_order_relaxed));
		page += length ? length : 1;
	}
	return any;
}
