/* SPDX-License-Identifier: Apache-2.0 */
#include "walk.h"

#include <string.h>

#include "pagemap.h"

/* How often an entry that changes while it is read is read again. */
#define READ_TRIES 4

uint64_t walk_zones(const struct arena *a)
{
	uint64_t zones = atomic_load_explicit(&a->header->active_zones, memory_order_acquire);

	return zones < a->g.zone_count ? zones : a->g.zone_count;
}

static const struct zone *zone_at(const struct arena *a, uint64_t zone)
{
	return (const struct zone *)arena_at(a, a->g.zones) + zone;
}

uint64_t walk_high(const struct arena *a, uint64_t zone)
{
	uint64_t high = atomic_load_explicit(&zone_at(a, zone)->high, memory_order_acquire);
	uint64_t pages = geometry_zone_span(&a->g, zone);

	return high < pages ? high : pages;
}

/* Pages below this one have page map entries that may be read. */
static uint64_t pages_in_use(const struct arena *a)
{
	uint64_t pages = walk_zones(a) * a->g.zone_pages, all = geometry_heap_pages(&a->g);

	return pages < all ? pages : all;
}

static uint64_t zone_end(const struct arena *a, uint64_t page)
{
	uint64_t zone = page / a->g.zone_pages;

	return zone * a->g.zone_pages + geometry_zone_span(&a->g, zone);
}

bool walk_words(const struct arena *a, uint64_t page, uint64_t *w0, uint64_t *w1)
{
	const struct page_entry *entry = a->pages + page;
	uint64_t seen;

	if (page >= pages_in_use(a))
		return false;
	for (int tries = 0; tries < READ_TRIES; tries++) {
		/* PAIR(page-entry): word 1 was stored before the word 0 that is read here. */
		*w0 = atomic_load_explicit(&entry->w0, memory_order_acquire);
		/* Acquire, so that word 0 is looked at again only after it. */
		*w1 = atomic_load_explicit(&entry->w1, memory_order_acquire);
		seen = atomic_load_explicit(&entry->w0, memory_order_relaxed);
		if (seen == *w0)
			break;
	}
	return true;
}

static enum walk_problem judge_extent(const struct arena *a, struct walk_item *it)
{
	uint64_t left = zone_end(a, it->page) - it->page;

	it->length = pagemap_length(it->w0, it->w1);
	if (!it->length || it->length > pages_in_use(a) - it->page)
		return WALK_LENGTH;
	if (it->length > left && it->kind == PAGE_STATE)
		return WALK_LENGTH;
	it->step = it->length < left ? it->length : left;
	return WALK_FINE;
}

static enum walk_problem judge_state(const struct arena *a, struct walk_item *it)
{
	enum walk_problem problem = judge_extent(a, it);

	if (problem)
		return problem;
	if (it->class_index < 1 || it->class_index > SHAPES)
		return WALK_CLASS;
	return it->length == shape_block_pages(it->class_index) ? WALK_FINE : WALK_LENGTH;
}

static enum walk_problem judge_large(const struct arena *a, struct walk_item *it)
{
	enum walk_problem problem = judge_extent(a, it);

	return !problem && it->class_index > LARGE_PACKED ? WALK_CLASS : problem;
}

/* One whole region. */
static enum walk_problem judge_stack(const struct arena *a, struct walk_item *it)
{
	enum walk_problem problem = judge_extent(a, it);

	if (problem)
		return problem;
	return it->length == REGION_PAGES && it->page % REGION_PAGES == 0 ? WALK_FINE : WALK_LENGTH;
}

static enum walk_problem judge_slab(const struct arena *a, struct walk_item *it)
{
	it->record = pw1_record(it->w1);
	if (it->class_index >= KINDS || pw1_class(it->w1) != it->class_index)
		return WALK_CLASS;
	if (!pw1_is_slab(it->w1))
		return WALK_RECORD;
	if (pw1_dist(it->w1))
		return WALK_HEAD;
	it->length = it->step = sizeclass_table[it->class_index].pages;
	if (it->length > zone_end(a, it->page) - it->page)
		return WALK_LENGTH;
	return it->record < a->g.capacity ? WALK_FINE : WALK_RECORD;
}

static enum walk_problem judge_span(const struct arena *a, struct walk_item *it)
{
	it->span_head = pw1_span_head(it->w1);
	it->length = it->step = pw1_span_length(it->w1);
	if (!it->length || it->length > zone_end(a, it->page) - it->page)
		return WALK_LENGTH;
	if (it->page % a->g.zone_pages || it->span_head >= it->page)
		return WALK_SPAN;
	return WALK_FINE;
}

static enum walk_problem judge(const struct arena *a, struct walk_item *it)
{
	switch (it->kind) {
	case PAGE_FREE: return WALK_FINE;
	case PAGE_RAW:
	case PAGE_RETURNED:
	case PAGE_MAPPED:
	case PAGE_LOG: return judge_extent(a, it);
	case PAGE_LARGE: return judge_large(a, it);
	case PAGE_STATE: return judge_state(a, it);
	case PAGE_SLAB: return judge_slab(a, it);
	case PAGE_SPAN: return judge_span(a, it);
	case PAGE_STACK: return judge_stack(a, it);
	default: return WALK_KIND;
	}
}

bool walk_read(const struct arena *a, uint64_t page, struct walk_item *it)
{
	memset(it, 0, sizeof(*it));
	if (!walk_words(a, page, &it->w0, &it->w1))
		return false;
	it->page = page;
	it->length = it->step = 1;
	it->kind = pw0_kind(it->w0);
	it->client = pw0_client(it->w0);
	it->generation = pw0_gen(it->w0);
	it->class_index = pw0_class(it->w0);
	if (pw0_is_object(it->w0))
		it->object = state_kind(pw0_state(it->w0));
	it->problem = judge(a, it);
	if (it->problem)
		it->length = it->step = 1;
	return true;
}

static int visit_free(uint64_t from, uint64_t to, walk_fn visit, void *context)
{
	struct walk_item run = { .page = from, .length = to - from, .step = to - from };

	return from < to ? visit(context, &run) : 0;
}

/* Free pages gather into runs; the last one goes on to the zone's end. */
int walk_zone(const struct arena *a, uint64_t zone, walk_fn visit, void *context)
{
	uint64_t start = zone * a->g.zone_pages, page = start, free_from = start;
	uint64_t high = start + walk_high(a, zone);
	struct walk_item item;
	int r;

	while (page < high && walk_read(a, page, &item)) {
		page += item.step;
		if (item.kind == PAGE_FREE)
			continue;
		r = visit_free(free_from, item.page, visit, context);
		if (!r)
			r = visit(context, &item);
		if (r)
			return r;
		free_from = page;
	}
	return visit_free(free_from, start + geometry_zone_span(&a->g, zone), visit, context);
}

int walk_extents(const struct arena *a, walk_fn visit, void *context)
{
	uint64_t zones = walk_zones(a);
	int r = 0;

	for (uint64_t zone = 0; zone < zones && !r; zone++)
		r = walk_zone(a, zone, visit, context);
	return r;
}

static const _Atomic uint64_t *index_words(const struct arena *a, uint64_t page, uint64_t part)
{
	uint64_t zone = page / a->g.zone_pages;

	return arena_at(a, a->g.zone_indexes + zone * a->g.zone_index_size + part);
}

static bool index_bit(const struct arena *a, uint64_t page, uint64_t part, uint64_t bit)
{
	/* PAIR(commit): the bit was set after the pages were there. */
	return atomic_load_explicit(&index_words(a, page, part)[bit / 64], memory_order_acquire) >>
		       bit % 64 &
	       1;
}

static bool region_committed(const struct arena *a, uint64_t page)
{
	return index_bit(a, page, a->parts.commit_bits, page % a->g.zone_pages / REGION_PAGES);
}

static bool page_purged(const struct arena *a, uint64_t page)
{
	return index_bit(a, page, a->parts.purged_bits, page % a->g.zone_pages);
}

bool walk_committed(const struct arena *a, uint64_t page, uint64_t pages)
{
	uint64_t limit = pages_in_use(a);

	if (page > limit || pages > limit - page)
		return false;
	for (uint64_t at = page; at < page + pages; at++)
		if (page_purged(a, at) ||
		    ((at == page || at % REGION_PAGES == 0) && !region_committed(a, at)))
			return false;
	return true;
}

/* Of one region. */
static uint64_t resident_in_region(const struct arena *a, uint64_t page, uint64_t pages)
{
	uint64_t in_zone = page % a->g.zone_pages, purged;
	const _Atomic uint64_t *bits = index_words(a, page, a->parts.purged_bits);

	if (!region_committed(a, page))
		return 0;
	purged = atomic_load_explicit(&bits[in_zone / 64], memory_order_relaxed) >> in_zone % 64;
	purged &= (UINT64_C(1) << pages) - 1;
	return pages - (uint64_t)__builtin_popcountll(purged);
}

uint64_t walk_resident(const struct arena *a, uint64_t page, uint64_t pages)
{
	uint64_t limit = pages_in_use(a), end = page + pages < limit ? page + pages : limit, n = 0;

	while (page < end) {
		uint64_t next = (page / REGION_PAGES + 1) * REGION_PAGES;

		next = next < end ? next : end;
		n += resident_in_region(a, page, next - page);
		page = next;
	}
	return n;
}

/* Reading a hole through the mapping would take memory for it, or fault where none is left. */
bool walk_copy(const struct arena *a, uint64_t file_offset, void *to, size_t length)
{
	if (file_offset > a->g.file_size || length > a->g.file_size - file_offset)
		return false;
	return arena_read(a, file_offset, to, length) == (int64_t)length;
}

bool walk_copy_heap(const struct arena *a, uint64_t heap_offset, void *to, size_t length)
{
	if (heap_offset > a->g.capacity || length > a->g.capacity - heap_offset)
		return false;
	return walk_copy(a, a->g.heap + heap_offset, to, length);
}

/* A word claimed but without a block yet names page 0, perhaps another's: the block says whose it
 * is. */
bool walk_thread(const struct arena *a, uint32_t index, uint64_t word, struct thread_block *ret)
{
	uint64_t page = thread_word_page(word);
	struct walk_item item;

	if (!walk_read(a, page, &item) || item.kind != PAGE_RAW || item.problem)
		return false;
	if (item.class_index != RAW_THREAD || item.client != thread_word_client(word))
		return false;
	return walk_copy_heap(a, page << PAGE_SHIFT, ret, sizeof(*ret)) && ret->index == index;
}

/* The state block that a page lies in. */
static bool block_of(const struct arena *a, uint64_t page, struct walk_item *ret)
{
	if (!walk_read(a, page, ret))
		return false;
	if (ret->kind == PAGE_FREE && page) /* the second page of two, perhaps */
		walk_read(a, page - 1, ret);
	return ret->kind == PAGE_STATE && !ret->problem && page - ret->page < ret->length;
}

bool walk_record(const struct arena *a, uint64_t heap_offset, struct walk_record *ret)
{
	struct walk_item block;
	uint64_t in_block;
	uint32_t shape;

	if (heap_offset >= a->g.capacity || !block_of(a, heap_offset >> PAGE_SHIFT, &block))
		return false;
	shape = block.class_index;
	in_block = heap_offset - (block.page << PAGE_SHIFT);
	if (in_block < sizeof(struct state_block))
		return false;
	in_block -= sizeof(struct state_block);
	if (in_block % shape_record_bytes(shape) ||
	    in_block / shape_record_bytes(shape) >= shape_block_records(shape))
		return false;
	if (!walk_committed(a, block.page, block.length))
		return false;
	ret->at = (struct slab_record *)(a->heap + heap_offset);
	ret->offset = heap_offset;
	ret->block = block.page;
	ret->shape = shape;
	return true;
}

bool walk_slab(const struct arena *a, const struct walk_item *item, struct walk_slab *ret)
{
	const struct sizeclass *class;

	if (item->kind != PAGE_SLAB || item->problem)
		return false;
	class = &sizeclass_table[item->class_index];
	if (!walk_record(a, item->record, &ret->record) || ret->record.shape != class->shape)
		return false;
	ret->page = item->page;
	ret->class_index = item->class_index;
	ret->objects = class->objects;
	ret->bytes = class->bytes;
	return true;
}

static bool slab_object(const struct arena *a, uint64_t head, uint64_t heap_offset,
			struct walk_object *ret)
{
	struct walk_item item;
	struct walk_slab slab;
	uint64_t in_slab = heap_offset - (head << PAGE_SHIFT);

	if (!walk_read(a, head, &item) || !walk_slab(a, &item, &slab))
		return false;
	if (in_slab % slab.bytes || in_slab / slab.bytes >= slab.objects)
		return false;
	ret->state = walk_state(&slab, (uint32_t)(in_slab / slab.bytes));
	ret->bytes = slab.bytes;
	ret->page = head;
	return true;
}

bool walk_object(const struct arena *a, uint64_t heap_offset, struct walk_object *ret)
{
	uint64_t page = heap_offset >> PAGE_SHIFT, w0, w1;
	struct walk_item item;

	if (!walk_words(a, page, &w0, &w1))
		return false;
	if (pw0_kind(w0) == PAGE_SLAB)
		return pw1_dist(w1) <= page &&
		       slab_object(a, page - pw1_dist(w1), heap_offset, ret);
	if (!walk_read(a, page, &item) || !pw0_is_object(item.w0) || item.problem)
		return false;
	ret->state = pw0_state(item.w0);
	ret->bytes = item.length << PAGE_SHIFT;
	ret->page = page;
	return !(heap_offset & (PAGE_SIZE - 1));
}
