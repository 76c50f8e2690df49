/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which extents are there to stay: state blocks, slabs, extents of log records, large objects that are
 * persistent or published. Each is told by more than one place: a state block by its entry and its own
 * first bytes, a slab by the entries of all its pages and by its record, a log extent by its record in
 * the ring and by its own first bytes. Claims go from the best told to the worst, and who comes later
 * gets no page that is claimed. What nobody claims is free: there is nobody left to own it.
 *
 * Crash: every entry is written as a claim, or a free page, should have it; a killed repair has made the
 * claims that the next one finds, or better told ones.
 */
#include <errno.h>
#include <string.h>

#include "mapped.h"
#include "record.h"
#include "repair_run.h"
#include "zone.h"

/* ---- pages ---- */

bool repair_in_file(const struct repair_run *r, uint64_t page, uint64_t pages)
{
	uint64_t there = r->heap_bytes >> PAGE_SHIFT;

	return page <= there && pages <= there - page;
}

bool repair_unused(const struct repair_run *r, uint64_t page, uint64_t pages)
{
	if (page > r->pages || pages > r->pages - page)
		return false;
	for (uint64_t p = page; p < page + pages; p++)
		if (r->use[p])
			return false;
	return true;
}

void repair_claim(struct repair_run *r, uint64_t page, uint64_t pages, enum repair_use use)
{
	memset(r->use + page, use, pages);
	r->use[page] |= USE_HEAD;
}

/* By whole regions, as clients do it. */
int repair_commit(struct repair_run *r, uint64_t page, uint64_t pages)
{
	uint64_t first = page / REGION_PAGES, end = (page + pages - 1) / REGION_PAGES + 1;
	int err = arena_commit(&r->a, r->a.g.heap + (first << REGION_SHIFT),
			       (end - first) << REGION_SHIFT);

	for (uint64_t region = first; !err && region < end; region++)
		repair_note_commit(r, region, true);
	return err;
}

/* The word of a zone's commit or purged bits, by the bit's number. */
static _Atomic uint64_t *bits_word(struct repair_run *r, uint64_t page, uint64_t part, uint64_t bit)
{
	return (_Atomic uint64_t *)(zone_index(&r->a, zone_of_page(&r->a, page)) + part) + bit / 64;
}

/* Crash: the pages are there before their bit is set, and go after it is cleared. */
void repair_note_commit(struct repair_run *r, uint64_t region, bool there)
{
	uint64_t page = region * REGION_PAGES, in_zone = page & (r->a.g.zone_pages - 1);
	uint64_t at = in_zone / REGION_PAGES, bit = UINT64_C(1) << (at % 64);
	uint64_t purged = ((UINT64_C(1) << REGION_PAGES) - 1) << (in_zone % 64);
	_Atomic uint64_t *word = bits_word(r, page, r->a.parts.commit_bits, at);

	if (there)
		atomic_fetch_or_explicit(word, bit, memory_order_release);
	else
		atomic_fetch_and_explicit(word, ~bit, memory_order_release);
	/* Nothing of a region is without memory that the region has. */
	atomic_fetch_and_explicit(bits_word(r, page, r->a.parts.purged_bits, in_zone), ~purged,
				  memory_order_release);
}

void repair_write_entry(struct repair_run *r, uint64_t page, uint64_t w0, uint64_t w1)
{
	struct page_entry *e = &r->a.pages[page];

	if (atomic_load_explicit(&e->w1, memory_order_relaxed) != w1)
		atomic_store_explicit(&e->w1, w1, memory_order_release);
	if (atomic_load_explicit(&e->w0, memory_order_relaxed) != w0)
		atomic_store_explicit(&e->w0, w0, memory_order_release);
}

static uint64_t word0(const struct repair_run *r, uint64_t page)
{
	return atomic_load_explicit(&r->a.pages[page].w0, memory_order_relaxed);
}

static uint64_t word1(const struct repair_run *r, uint64_t page)
{
	return atomic_load_explicit(&r->a.pages[page].w1, memory_order_relaxed);
}

/* Pages from this one to the end of its zone. */
static uint64_t left_in_zone(const struct repair_run *r, uint64_t page)
{
	uint64_t zone = page / r->a.g.zone_pages;

	return zone * r->a.g.zone_pages + geometry_zone_span(&r->a.g, zone) - page;
}

static bool in_zone(const struct repair_run *r, uint64_t page, uint64_t pages)
{
	return page < r->pages && pages <= left_in_zone(r, page);
}

/* ---- state blocks ---- */

static bool slab_word(uint64_t w1)
{
	return pw1_is_slab(w1) && pw1_class(w1) < KINDS && pw1_dist(w1) < sizeclass_entries(pw1_class(w1));
}

static void note_references(struct repair_run *r)
{
	for (uint64_t page = 0; page < r->pages; page++) {
		uint64_t w1 = word1(r, page), at = pw1_record(w1) >> PAGE_SHIFT;

		if (slab_word(w1) && at < r->pages)
			r->referenced[at / 64] |= UINT64_C(1) << (at % 64);
	}
}

static bool is_referenced(const struct repair_run *r, uint64_t page)
{
	return page < r->pages && r->referenced[page / 64] >> (page % 64) & 1;
}

/* The shape that a state block's first bytes tell of; 0: it is none. */
static uint32_t shape_inside(const struct repair_run *r, uint64_t page)
{
	static const uint32_t zeros[14];
	struct state_block b;

	if (!repair_in_file(r, page, 1) ||
	    !walk_copy_heap(&r->a, page << PAGE_SHIFT, &b, sizeof(b)) || b.shape < 1 ||
	    b.shape > SHAPES || b.records != shape_block_records(b.shape) ||
	    memcmp(b.reserved, zeros, sizeof(zeros)) != 0)
		return 0;
	return b.shape;
}

/* The shape that its entry tells of. */
static uint32_t shape_outside(const struct repair_run *r, uint64_t page)
{
	struct walk_item item;

	if (pw0_kind(word0(r, page)) != PAGE_STATE || !walk_read(&r->a, page, &item))
		return 0;
	return item.problem ? 0 : item.class_index;
}

static int take_block(struct repair_run *r, uint64_t page, uint32_t shape, bool agreed)
{
	struct state_block *block = (struct state_block *)(r->a.heap + (page << PAGE_SHIFT));
	uint64_t pages = shape_block_pages(shape);
	int err;

	if (!in_zone(r, page, pages) || !repair_in_file(r, page, pages) ||
	    !repair_unused(r, page, pages))
		return 0;
	err = repair_commit(r, page, pages);
	if (err)
		return err;
	repair_claim(r, page, pages, USE_STATE);
	repair_write_entry(r, page, pw0_make(PAGE_STATE, 0, pw0_gen(word0(r, page)), shape),
			   pw1_extent(pages, 0));
	if (agreed)
		return 0;
	memset(block, 0, sizeof(*block));
	block->shape = shape;
	block->records = shape_block_records(shape);
	repair_note(r, REPAIR_STATE_BLOCK, page, 0, 0, 0,
		    "page %#llx: a state block of shape %u, told by one of two",
		    (unsigned long long)page, shape);
	return 0;
}

/* An entry alone is believed; first bytes alone only if slabs have their records there, since they may be
 * what a user wrote. */
static int find_block(struct repair_run *r, uint64_t page, bool agreed)
{
	uint32_t outside = shape_outside(r, page), inside;

	if (!outside && (agreed || !(is_referenced(r, page) || is_referenced(r, page + 1))))
		return 0;
	inside = shape_inside(r, page);
	if (agreed)
		return inside == outside ? take_block(r, page, inside, true) : 0;
	if (!outside && inside && !is_referenced(r, page) && shape_block_pages(inside) == 1)
		return 0;
	outside = outside ? outside : inside;
	return outside ? take_block(r, page, outside, false) : 0;
}

int repair_find_blocks(struct repair_run *r)
{
	int err = 0;

	note_references(r);
	for (int agreed = 1; agreed >= 0; agreed--)
		for (uint64_t page = 0; !err && page < r->pages; page++)
			if (!r->use[page])
				err = find_block(r, page, agreed);
	return err;
}

/* ---- slabs ---- */

struct slab_claim {
	uint64_t record, head;
	uint32_t class;
	struct slab_record *at;
};

static uint32_t votes(const struct repair_run *r, const struct slab_claim *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < sizeclass_entries(c->class); i++)
		n += word1(r, c->head + i) == pw1_slab(i, c->record, c->class);
	return n;
}

/* The record's owner, head and class as a slab's are. */
static bool record_serves(const struct slab_claim *c)
{
	return atomic_load_explicit(&c->at->owner, memory_order_relaxed) == RECORD_LIVE &&
	       atomic_load_explicit(&c->at->head, memory_order_relaxed) == c->head &&
	       atomic_load_explicit(&c->at->class_index, memory_order_relaxed) == c->class;
}

static void write_record(const struct slab_claim *c)
{
	atomic_store_explicit(&c->at->head, (uint32_t)c->head, memory_order_relaxed);
	atomic_store_explicit(&c->at->class_index, c->class, memory_order_relaxed);
	atomic_store_explicit(&c->at->owner, RECORD_LIVE, memory_order_release);
}

static void take_slab(struct repair_run *r, const struct slab_claim *c)
{
	uint32_t pages = sizeclass_entries(c->class);
	uint32_t owner = atomic_load_explicit(&c->at->owner, memory_order_relaxed);
	bool agreed =
		votes(r, c) == pages && (record_serves(c) || record_state(owner) == RECORD_BUSY);

	for (uint32_t i = pages; i-- > 0;) {
		uint64_t w0 = word0(r, c->head + i);

		agreed &= pw0_kind(w0) == PAGE_SLAB && pw0_class(w0) == c->class;
		repair_write_entry(r, c->head + i, pw0_make(PAGE_SLAB, 0, pw0_gen(w0), c->class),
				   pw1_slab(i, c->record, c->class));
	}
	write_record(c);
	/* What lies behind a single object's first page has no entries, as in a large object. */
	repair_claim(r, c->head, sizeclass_table[c->class].pages, USE_LARGE);
	repair_claim(r, c->head, pages, USE_SLAB);
	if (!agreed)
		repair_note(
			r, REPAIR_SLAB, c->head, 0, 0, 0,
			"page %#llx: a slab of %u bytes, its pages and its record made to agree",
			(unsigned long long)c->head, sizeclass_table[c->class].bytes);
}

/* What a record says of its slab; its own words may be of no slab. */
static bool read_claim(struct repair_run *r, uint64_t record, uint32_t shape, struct slab_claim *c)
{
	uint32_t owner;

	c->record = record;
	c->at = record_at(&r->a, record);
	owner = atomic_load_explicit(&c->at->owner, memory_order_relaxed);
	c->head = atomic_load_explicit(&c->at->head, memory_order_relaxed);
	c->class = atomic_load_explicit(&c->at->class_index, memory_order_relaxed);
	return (owner == RECORD_LIVE || record_state(owner) == RECORD_BUSY) && c->class < KINDS &&
	       sizeclass_table[c->class].shape == shape &&
	       in_zone(r, c->head, sizeclass_table[c->class].pages) &&
	       repair_in_file(r, c->head, 1);
}

/* How much of the page map has to agree with a record. */
enum told { TOLD_ALL, TOLD_SOME, TOLD_NOT };

static void find_slab(struct repair_run *r, uint64_t record, uint32_t shape, enum told told)
{
	struct slab_claim c;
	uint32_t n, pages;

	if (!read_claim(r, record, shape, &c))
		return;
	pages = sizeclass_table[c.class].pages;
	n = votes(r, &c);
	if ((told == TOLD_ALL && n < sizeclass_entries(c.class)) || (told == TOLD_SOME && !n) ||
	    !repair_unused(r, c.head, pages))
		return;
	/* A record that is being filled or emptied says nothing against a page map without the slab. */
	if (n || record_serves(&c))
		take_slab(r, &c);
}

static void find_by_records(struct repair_run *r, enum told told)
{
	for (uint64_t page = 0; page < r->pages; page++) {
		uint32_t shape = pw0_class(word0(r, page));

		if (r->use[page] != (USE_STATE | USE_HEAD))
			continue;
		for (uint32_t i = 0; i < shape_block_records(shape); i++)
			find_slab(r, record_offset(page, shape, i), shape, told);
	}
}

/* Whether a record lies at a place of a claimed state block, and no claimed slab has it. */
static bool record_free_for(struct repair_run *r, const struct slab_claim *c)
{
	struct slab_claim other;
	struct walk_record record;

	if (!walk_record(&r->a, c->record, &record) ||
	    r->use[record.block] != (USE_STATE | USE_HEAD) ||
	    record.shape != sizeclass_table[c->class].shape)
		return false;
	return !read_claim(r, c->record, record.shape, &other) ||
	       r->use[other.head] != (USE_SLAB | USE_HEAD) ||
	       pw1_record(word1(r, other.head)) != c->record;
}

/* Most of its pages agree on a slab whose record says otherwise. */
static void find_by_pages(struct repair_run *r)
{
	for (uint64_t page = 0; page < r->pages; page++) {
		uint64_t w1 = word1(r, page);
		struct slab_claim c = { .record = pw1_record(w1),
					.head = page - pw1_dist(w1),
					.class = pw1_class(w1) };

		if (r->use[page] || !slab_word(w1) || pw1_dist(w1) > page ||
		    !in_zone(r, c.head, sizeclass_table[c.class].pages) ||
		    !repair_in_file(r, c.head, 1) || c.record >= r->a.g.capacity)
			continue;
		if (pw0_kind(word0(r, page)) == PAGE_SLAB &&
		    (sizeclass_entries(c.class) > 1 || pw0_class(word0(r, page)) == c.class) &&
		    votes(r, &c) * 2 > sizeclass_entries(c.class) &&
		    repair_unused(r, c.head, sizeclass_table[c.class].pages) &&
		    record_free_for(r, &c)) {
			c.at = record_at(&r->a, c.record);
			take_slab(r, &c);
		}
	}
}

void repair_find_slabs(struct repair_run *r)
{
	find_by_records(r, TOLD_ALL);
	find_by_records(r, TOLD_SOME);
	find_by_pages(r);
}

void repair_find_lost_slabs(struct repair_run *r)
{
	find_by_records(r, TOLD_NOT);
}

bool repair_slab_at(const struct repair_run *r, uint64_t page, struct walk_slab *ret)
{
	struct walk_item item;

	return r->use[page] == (USE_SLAB | USE_HEAD) && walk_read(&r->a, page, &item) &&
	       walk_slab(&r->a, &item, ret);
}

/* ---- large objects ---- */

static bool lasts(uint32_t state)
{
	return state_kind(state) == OBJECT_PERSISTENT || state_kind(state) == OBJECT_PUBLISHED;
}

/*
 * Whether the entry is that of a large object which stays. No other entry has a kind of object in it, so
 * that tells it even where the kind of page is damaged. An object kind that is none, or not the one that
 * its name asks for, is dealt with as an object's word.
 */
static bool large_stays(const struct repair_run *r, uint64_t page)
{
	uint64_t w0 = word0(r, page), w1 = word1(r, page);
	uint32_t state = pw0_state(w0);
	const struct repair_name *name = repair_named(r, page << PAGE_SHIFT);

	if (pw1_is_slab(w1) || !pw1_length(w1) || pw1_length(w1) > r->pages - page)
		return false;
	if (lasts(state))
		return true;
	return pw0_is_object(w0) &&
	       (state_kind(state) >= OBJECT_KINDS ||
		(state_kind(state) == OBJECT_HELD &&
		 !repair_held(r, handle_make(r->a.tag, state_gen(state), page << PAGE_SHIFT), state)) ||
		(name && handle_gen(name->handle) == state_gen(state)));
}

/* How far it can reach: to the next thing that stays. */
static uint64_t reach_of(const struct repair_run *r, uint64_t page)
{
	uint64_t length = pw1_length(word1(r, page)), n = 1;

	while (n < length && !r->use[page + n] && !large_stays(r, page + n))
		n++;
	return n;
}

/* The entries at the start of each further zone. */
static void write_pieces(struct repair_run *r, uint64_t page, uint64_t length)
{
	uint64_t at = page + left_in_zone(r, page), end = page + length;

	for (; at < end; at += r->a.g.zone_pages) {
		uint64_t left = end - at < r->a.g.zone_pages ? end - at : r->a.g.zone_pages;

		repair_write_entry(r, at, pw0_make(PAGE_SPAN, 0, pw0_gen(word0(r, at)), 0),
				   pw1_span(left, page));
		r->use[at] = USE_SPAN | USE_HEAD;
	}
}

/* What makes no sense is plain. */
static uint64_t use_of(uint64_t w0)
{
	return pw0_class(w0) == LARGE_PACKED ? pw0_use(w0) : 0;
}

/* An object that stands for a file says so itself: if its page does not say which it is one like others, of a page. */
static enum page_kind kind_of_large(const struct repair_run *r, uint64_t page, uint64_t w0)
{
	struct mapped_description d;

	if (pw0_kind(w0) != PAGE_LARGE &&
	    walk_copy_heap(&r->a, page << PAGE_SHIFT, &d, sizeof(d)) && mapped_valid(&d, page))
		return PAGE_MAPPED;
	return PAGE_LARGE;
}

static void take_large(struct repair_run *r, uint64_t page)
{
	uint64_t w0 = word0(r, page), said = pw1_length(word1(r, page)), length = reach_of(r, page);
	enum page_kind kind;

	if (!repair_in_file(r, page, length)) {
		repair_note(r, REPAIR_CUT_OFF, page, 0, 1, said << PAGE_SHIFT,
			    "page %#llx: a large object of %llu pages", (unsigned long long)page,
			    (unsigned long long)said);
		return;
	}
	if (length < said)
		repair_note(r, REPAIR_LARGE_CUT, page, 0, 0, (said - length) << PAGE_SHIFT,
			    "page %#llx: a large object of %llu pages has %llu now",
			    (unsigned long long)page, (unsigned long long)said,
			    (unsigned long long)length);
	kind = kind_of_large(r, page, w0);
	if (pw0_kind(w0) == PAGE_MAPPED && kind != PAGE_MAPPED)
		repair_note(r, REPAIR_MAPPED_LOST, page, 0, 1, length << PAGE_SHIFT,
			    "page %#llx: of a file that it does not tell", (unsigned long long)page);
	else if (pw0_kind(w0) != kind)
		repair_note(r, REPAIR_LARGE, page, 0, 1, length << PAGE_SHIFT,
			    "page %#llx: a large object, its entry of kind %u",
			    (unsigned long long)page, pw0_kind(w0));
	repair_claim(r, page, length, USE_LARGE);
	repair_write_entry(r, page, pw0_object(kind, pw0_state(w0)) | (kind == PAGE_LARGE ? use_of(w0) : 0),
			   pw1_large(length, length == said ? pw1_front(word1(r, page)) : 0));
	write_pieces(r, page, length);
}

void repair_find_large(struct repair_run *r)
{
	for (uint64_t page = 0; page < r->pages; page++)
		if (!r->use[page] && large_stays(r, page))
			take_large(r, page);
}

/* ---- the rest ---- */

struct rest {
	uint64_t nonsense; /* entries that were */
	uint64_t first;
};

/* What an extent was that does not stay. */
static void judge(struct repair_run *r, uint64_t page, struct rest *rest)
{
	struct walk_item item;

	if (!walk_read(&r->a, page, &item) || item.kind == PAGE_FREE)
		return;
	if (pw0_is_object(item.w0) && !item.problem && !lasts(pw0_state(item.w0))) {
		r->sum.returned_objects++;
		r->sum.returned_bytes += item.length << PAGE_SHIFT;
	} else if (item.kind == PAGE_SLAB && !item.problem) {
		repair_note(r, REPAIR_SLAB_LOST, page, 0, sizeclass_table[item.class_index].objects,
			    item.length << PAGE_SHIFT, "page %#llx: up to %u objects of %u bytes",
			    (unsigned long long)page, sizeclass_table[item.class_index].objects,
			    sizeclass_table[item.class_index].bytes);
	} else if (item.problem && item.problem != WALK_HEAD) {
		if (!rest->nonsense++)
			rest->first = page;
	}
}

static void free_page(struct repair_run *r, uint64_t page)
{
	uint64_t w0 = word0(r, page);
	uint32_t gen = pw0_gen(w0) + (pw0_kind(w0) != PAGE_FREE);

	/* Crash: word 1 first, as it may lead handles to a record: an entry without a length, and then a
	 * free one. */
	atomic_store_explicit(&r->a.pages[page].w1, 0, memory_order_release);
	atomic_store_explicit(&r->a.pages[page].w0, pw0_make(PAGE_FREE, 0, gen, 0),
			      memory_order_release);
}

static bool is_blank(const struct repair_run *r, uint64_t page)
{
	uint64_t w0 = word0(r, page);

	return w0 == pw0_make(PAGE_FREE, 0, pw0_gen(w0), 0) && !word1(r, page);
}

void repair_free_rest(struct repair_run *r)
{
	struct rest rest = { 0 };

	for (uint64_t page = 0; page < r->pages; page++) {
		uint8_t use = r->use[page];

		if (use & USE_HEAD || use == USE_SLAB || is_blank(r, page))
			continue;
		if (!use)
			judge(r, page, &rest);
		free_page(r, page);
	}
	if (rest.nonsense)
		repair_note(r, REPAIR_ENTRY, rest.first, 0, 0, 0,
			    "%llu entries, the first at page %#llx",
			    (unsigned long long)rest.nonsense, (unsigned long long)rest.first);
}
