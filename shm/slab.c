/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Truth: the page map says what is a slab; each object's state word says whose it is. Index: the
 * record's bitmap of free objects, and the hints (hint.h) of regions with such slabs.
 *
 * Who claims objects of a slab, or gives the slab back, holds its record (busy with this client) for that
 * long, by one compare-and-swap; the free objects' words are then its alone, to be changed by plain
 * stores. Nobody waits for a record: a busy one is passed by. Owners put objects back whoever holds it.
 *
 * Modelled in tests/model/: object.pml has claim_objects(), one object's life; hint.pml has claim_by_hints().
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
#define OWNS_MUCH (INT64_C(4) << 20)
#define TALL_PART 8 /* of a tall slab, that who owns more than little asks for at least */
#define TALL_PART_OF_MUCH 12

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

/* What the objects of a slab have in common. */
struct lot {
	uint64_t handle;  /* of the first, generation 0 */
	uint64_t bytes16; /* of an object, in units of 16 bytes: from one's handle to the next one's */
	uint32_t own;	  /* their word, claimed, generation 0 */
};

static struct lot lot_of(const struct claim *c)
{
	return (struct lot){.handle = handle_make(c->a->tag, 0, c->head << PAGE_SHIFT),
			    .bytes16 = sizeclass_table[c->class].bytes >> 4,
			    .own = state_make(c->kind, c->a->client, 0)};
}

/* Asks for a line to write to. Of __builtin_prefetch(p, 1) the compiler makes a prefetch to read, unless it is told of
 * the processor, and what another thread has read last has to be asked for twice. Processors that do not know the
 * instruction do nothing. */
static inline void prefetch_to_write(const char *p)
{
#ifdef __x86_64__
	__asm__ volatile("prefetchw %0" : : "m"(*p));
#else
	__builtin_prefetch(p, 1);
#endif
}

/* The handle of one, given without generation. Who allocates writes to it soon, most often: its line comes meanwhile. */
static inline uint64_t lot_give(const char *heap, uint64_t handle, uint32_t word)
{
	prefetch_to_write(heap + handle_offset(handle));
	return handle | (uint64_t)state_gen(word) << HANDLE_GEN_SHIFT;
}

/* Some objects of a slab whose record we hold: nobody else claims free ones. */
static void claim_objects(struct claim *c, struct slab_record *r, uint32_t first, uint64_t bits)
{
	uint32_t objects = sizeclass_table[c->class].objects, count = c->count;
	const struct lot l = lot_of(c);
	const char *heap = c->a->heap;
	uint64_t *out = c->out;

	/* The last is given out first, and what follows upwards is prefetched best. */
	while (bits) {
		uint32_t bit = 63 - (uint32_t)__builtin_clzll(bits), index = first + bit;
		/* PAIR(put): whoever freed it is done with it. */
		uint32_t seen = atomic_load_explicit(&r->words[index], memory_order_acquire);

		bits ^= UINT64_C(1) << bit;
		/* A late bit of the record's last slab may lie behind this one's objects. */
		if (index >= objects || state_kind(seen) != OBJECT_FREE)
			continue;
		/* Crash: before, free (a bit taken off the bitmap for nothing comes back with our recovery: the
		 * region is marked); after, ours. */
		atomic_store_explicit(&r->words[index], l.own | state_gen(seen) << STATE_GEN_SHIFT,
				      memory_order_release);
		out[count++] = lot_give(heap, l.handle + index * l.bytes16, seen);
	}
	c->count = count;
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
			claim_objects(c, r, w * 64, got);
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
	for (uint32_t i = 0; i < REGION_PAGES; i++) {
		uint64_t w1 = atomic_load_explicit(&pages[i].w1, memory_order_relaxed);
		uint32_t before = c->count;

		if ((w1 & ~PW1_RECORD_MASK) != head)
			continue;
		c->head = region * REGION_PAGES + i;
		claim_from_slab(c);
		if (c->count > before)
			drawn_from(c, from);
		if (c->count == c->want)
			return;
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
		if (hint_any(c->a, c->class)) {
			claim_by_hints(c, from, home, end, zones);
			claim_by_hints(c, from, 0, home, zones);
		}
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

/* A free word of the next generation, from what it was in the record's last slab by a step of its own, never 0 and
 * foreseen by nobody: so a handle with a wrong offset hardly ever meets a neighbour of its generation. */
static inline uint32_t next_word(uint32_t word, uint32_t *random)
{
	*random = *random * 1664525u + 1013904223u; /* linear congruence; the upper bits are good */
	return (word & UINT32_MAX << STATE_GEN_SHIFT) + (1u << STATE_GEN_SHIFT) + (*random >> 17 << STATE_GEN_SHIFT);
}

/* The first want objects become the claimer's at once, the others free. */
static void init_words(struct claim *c, struct slab_record *r)
{
	uint32_t objects = sizeclass_table[c->class].objects, random = generation_seed(c->head), i = 0, word;
	const struct lot l = lot_of(c);
	const char *heap = c->a->heap;
	uint64_t *out = c->out + c->count + c->want, handle = l.handle;

	for (uint32_t want = c->want; i < want; handle += l.bytes16) {
		word = next_word(atomic_load_explicit(&r->words[i], memory_order_relaxed), &random);
		*--out = lot_give(heap, handle, word); /* the last is given out first */
		atomic_store_explicit(&r->words[i++], l.own | word, memory_order_relaxed);
	}
	c->count += c->want;
	for (; i <= objects; i++) { /* the spare one too */
		word = next_word(atomic_load_explicit(&r->words[i], memory_order_relaxed), &random);
		atomic_store_explicit(&r->words[i], word | OBJECT_FREE, memory_order_relaxed);
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
 * tall one for an eighth or a twelfth of it: what is left over is soon asked for. And a long one for what does not fit into a short
 * one, which costs more records and has a longer tail. */
static uint32_t kind_to_make(const struct slab_source *from, uint32_t want)
{
	bool little = from->owned < OWNS_LITTLE;
	uint32_t part = little ? 1 : from->owned < OWNS_MUCH ? TALL_PART : TALL_PART_OF_MUCH;
	uint32_t few = sizeclass_short(from->class), tall = sizeclass_tall(from->class);
	uint32_t most = sizeclass_table[little ? from->class : few].objects;

	if (tall != from->class && want * part >= sizeclass_table[tall].objects)
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
		else if (pw0_is_object(w0) || pw0_kind(w0) == PAGE_RAW)
			length = pagemap_length(w0, atomic_load_explicit(&a->pages[page].w1,
									 memory_order_relaxed));
		page += length ? length : 1;
	}
	return any;
}
