/* SPDX-License-Identifier: Apache-2.0 */
/* The heap: extents, slabs and their records, objects and their owners. */
#include "audit_run.h"
#include "hint.h"
#include "mapped.h"
#include "ring.h"
#include "stack.h"

static struct audit_spot spot_of(const struct walk_item *item)
{
	return (struct audit_spot){ .page = item->page,
				    .client = item->client,
				    .evidence = item->w0 ^ item->w1 << 20 };
}

/* ---- owners ---- */

/* The client's area is read as a file: where its zone was never prepared there is a hole. */
static bool marks_word(struct audit_run *run, uint32_t client, uint64_t offset, uint64_t *ret)
{
	uint64_t at = run->a->g.client_areas + client * run->a->g.client_area_size + offset;

	if (run->mark_client != client || run->mark_at != at) {
		if (!walk_copy(run->a, at, &run->mark_bits, sizeof(run->mark_bits)))
			return false;
		run->mark_client = client;
		run->mark_at = at;
	}
	*ret = run->mark_bits;
	return true;
}

bool audit_marked(struct audit_run *run, uint32_t client, uint64_t page)
{
	uint64_t region = page / REGION_PAGES, line = region / 512, bits;

	if (!marks_word(run, client, geometry_mark_summary() + 8 * (line / 64), &bits) ||
	    !(bits >> line % 64 & 1))
		return false;
	return marks_word(run, client, geometry_mark_leaf(&run->a->g) + 8 * (region / 64), &bits) &&
	       bits >> region % 64 & 1;
}

void audit_owned(struct audit_run *run, uint32_t client, uint64_t page, uint64_t evidence)
{
	struct audit_spot spot = { .page = page, .client = client, .evidence = evidence };

	if (!audit_client_exists(run, client))
		audit_note(run, AUDIT_OWNER, spot,
			   "page %#llx: owned by client %u, who does not exist",
			   (unsigned long long)page, client);
	else if (!audit_marked(run, client, page))
		audit_note(run, AUDIT_MARK, spot, "page %#llx: client %u has not marked its region",
			   (unsigned long long)page, client);
}

/* ---- objects ---- */

static uint64_t handle_of(const struct audit_run *run, uint64_t offset, uint32_t state)
{
	return handle_make(run->a->tag, state_gen(state), offset);
}

static void check_object(struct audit_run *run, uint64_t page, uint64_t offset, uint32_t state)
{
	struct audit_spot spot = { .page = page,
				   .handle = handle_of(run, offset, state),
				   .client = state_client(state),
				   .evidence = state };

	if (state_kind(state) >= OBJECT_KINDS)
		audit_note(run, AUDIT_STATE_WORD, spot,
			   "object at %#llx: state word %#x has no such kind",
			   (unsigned long long)offset, state);
	else if (state_kind(state) == OBJECT_PUBLISHED)
		audit_published(run, spot.handle, page);
	else if (state_kind(state) == OBJECT_HELD)
		audit_held(run, spot.handle, state, page);
}

/* Whether a client number in the word means an owner. */
static bool has_owner(uint32_t state)
{
	enum object_kind kind = state_kind(state);

	return kind == OBJECT_PRIVATE || kind == OBJECT_TAKEN || kind == OBJECT_SHARED ||
	       kind == OBJECT_INTERNAL;
}

/* ---- slabs ---- */

static void check_slab_pages(struct audit_run *run, const struct walk_item *item)
{
	for (uint64_t i = 1; i < sizeclass_entries(item->class_index); i++) {
		uint64_t w0, w1;

		if (!walk_words(run->a, item->page + i, &w0, &w1))
			return;
		if (pw0_kind(w0) == PAGE_SLAB && pw0_class(w0) == item->class_index &&
		    pw1_dist(w1) == i && pw1_record(w1) == item->record)
			continue;
		audit_note(run, AUDIT_SLAB, AUDIT_PAGE(item->page + i, w0 ^ w1 << 20),
			   "page %#llx: not page %llu of the slab that begins before it",
			   (unsigned long long)(item->page + i), (unsigned long long)i);
	}
}

static void check_slab_record(struct audit_run *run, const struct walk_item *item,
			      const struct walk_slab *slab)
{
	const struct slab_record *record = slab->record.at;
	uint32_t owner = atomic_load_explicit(&record->owner, memory_order_acquire);
	uint32_t head = atomic_load_explicit(&record->head, memory_order_relaxed);
	uint32_t class_index = atomic_load_explicit(&record->class_index, memory_order_relaxed);
	struct audit_spot spot = spot_of(item);

	spot.handle = slab->record.offset;
	spot.evidence ^= owner ^ (uint64_t)head << 32;
	/* Busy while its slab is being made, or taken apart; its block says whether by someone who
	 * exists. */
	if (owner != RECORD_LIVE && record_state(owner) != RECORD_BUSY)
		audit_note(run, AUDIT_RECORD, spot, "page %#llx: the slab's record is not in use",
			   (unsigned long long)item->page);
	else if (head != item->page || class_index != item->class_index)
		audit_note(run, AUDIT_RECORD, spot,
			   "page %#llx: the slab's record is of a slab at %#x",
			   (unsigned long long)item->page, head);
}

static bool hint_bit(const struct walk_slab *slab, uint32_t object)
{
	const _Atomic uint64_t *bitmap = slab->record.at->bitmap;

	return atomic_load_explicit(&bitmap[object / 64], memory_order_relaxed) >> object % 64 & 1;
}

/* A free object without its hint; looked at again, as either may just have changed. */
static void check_free_object(struct audit_run *run, const struct walk_slab *slab, uint32_t object)
{
	uint64_t offset = walk_object_offset(slab, object);
	uint32_t state = walk_state(slab, object);
	struct audit_spot spot = { .page = slab->page,
				   .handle = handle_of(run, offset, state),
				   .evidence = state };

	if (state_kind(state) == OBJECT_FREE && !hint_bit(slab, object))
		audit_note(run, AUDIT_HINT_OBJECT, spot,
			   "object at %#llx is free, but no hint says so",
			   (unsigned long long)offset);
}

/* Who claims an object takes memory for its pages first. */
static void check_object_memory(struct audit_run *run, const struct walk_slab *slab, uint32_t object)
{
	uint64_t offset = walk_object_offset(slab, object), end = offset + slab->bytes - 1;
	uint64_t page = offset >> PAGE_SHIFT, pages = (end >> PAGE_SHIFT) - page + 1;
	uint32_t state = walk_state(slab, object);
	struct audit_spot spot = { .page = page,
				   .handle = handle_of(run, offset, state),
				   .evidence = state };

	if (walk_committed(run->a, page, pages))
		return;
	audit_note(run, AUDIT_COMMIT, spot, "object at %#llx: its memory was given back",
		   (unsigned long long)offset);
}

static void check_slab_objects(struct audit_run *run, const struct walk_slab *slab)
{
	uint64_t seen[CLIENTS_MAX / 64] = { 0 };
	bool whole = walk_committed(run->a, slab->page, sizeclass_table[slab->class_index].pages);
	uint32_t free_objects = 0;

	for (uint32_t i = 0; i < slab->objects; i++) {
		uint32_t state = walk_state(slab, i), client = state_client(state);

		if (state_kind(state) == OBJECT_FREE) {
			free_objects++;
			check_free_object(run, slab, i);
			continue;
		}
		check_object(run, slab->page, walk_object_offset(slab, i), state);
		if (run->a->debug_front)
			audit_watched(run, &(struct audit_watched){ .offset = walk_object_offset(slab, i),
								    .bytes = slab->bytes,
								    .front = run->a->debug_front,
								    .state = state });
		if (!whole)
			check_object_memory(run, slab, i);
		if (!has_owner(state) || audit_bit(seen, client))
			continue;
		audit_set(seen, client);
		audit_owned(run, client, slab->page, state);
	}
	if (free_objects && !audit_hinted(run, slab->class_index, slab->page))
		audit_note(run, AUDIT_HINT_SLAB, AUDIT_PAGE(slab->page, slab->class_index),
			   "page %#llx: no hint leads to the %u free objects of the slab",
			   (unsigned long long)slab->page, free_objects);
}

static void check_slab(struct audit_run *run, const struct walk_item *item)
{
	struct walk_slab slab;

	check_slab_pages(run, item);
	if (!walk_slab(run->a, item, &slab)) {
		audit_note(run, AUDIT_RECORD, spot_of(item),
			   "page %#llx: the slab's record is no record",
			   (unsigned long long)item->page);
		return;
	}
	check_slab_record(run, item, &slab);
	check_slab_objects(run, &slab);
}

/* ---- state blocks ---- */

static void check_live_record(struct audit_run *run, const struct walk_record *record)
{
	uint32_t head = atomic_load_explicit(&record->at->head, memory_order_relaxed);
	struct audit_spot spot = { .page = record->block,
				   .handle = record->offset,
				   .evidence = head };
	struct walk_item slab;

	if (walk_read(run->a, head, &slab) && slab.kind == PAGE_SLAB && !slab.problem &&
	    slab.record == record->offset)
		return;
	audit_note(run, AUDIT_RECORD_LOST, spot,
		   "record at %#llx is in use for page %#x, which has another",
		   (unsigned long long)record->offset, head);
}

static void check_record(struct audit_run *run, uint64_t offset)
{
	struct walk_record record;
	struct audit_spot spot;
	uint32_t owner;

	if (!walk_record(run->a, offset, &record))
		return; /* its block's memory is not there: said before */
	owner = atomic_load_explicit(&record.at->owner, memory_order_acquire);
	spot = (struct audit_spot){ .page = record.block,
				    .handle = offset,
				    .evidence = owner,
				    .client = record_client(owner) };
	if (owner == RECORD_LIVE)
		check_live_record(run, &record);
	else if (owner == RECORD_FREE) {
		if (!audit_hinted(run, hint_row_of_shape(record.shape), record.block))
			audit_note(run, AUDIT_HINT_RECORD, spot,
				   "record at %#llx is free, but no hint leads there",
				   (unsigned long long)offset);
	} else if (record_state(owner) == RECORD_BUSY)
		audit_owned(run, record_client(owner), record.block, owner);
	else
		audit_note(run, AUDIT_RECORD, spot,
			   "record at %#llx: owner word %#x makes no sense",
			   (unsigned long long)offset, owner);
}

static void check_state_block(struct audit_run *run, const struct walk_item *item)
{
	uint64_t offset = item->page << PAGE_SHIFT;
	uint32_t shape = item->class_index;
	struct state_block block;

	if (!walk_copy_heap(run->a, offset, &block, sizeof(block)))
		return;
	if (block.shape != shape || block.records != shape_block_records(shape))
		audit_note(run, AUDIT_STATE_BLOCK,
			   AUDIT_PAGE(item->page, block.shape ^ (uint64_t)block.records << 32),
			   "page %#llx: a state block of shape %u says shape %u, %u records",
			   (unsigned long long)item->page, shape, block.shape, block.records);
	for (uint32_t i = 0; i < shape_block_records(shape); i++)
		check_record(run, offset + sizeof(block) + (uint64_t)i * shape_record_bytes(shape));
}

/* ---- extents ---- */

/* Pages of no slab, whose entries say free. Word 1 alone leads handles to state words, so it must
 * not lead anywhere from here. */
static void check_blank(struct audit_run *run, const struct walk_item *item, uint64_t page)
{
	uint64_t w0, w1;

	if (!walk_words(run->a, page, &w0, &w1))
		return;
	if (pw0_kind(w0) != PAGE_FREE)
		audit_note(run, AUDIT_OVERLAP, AUDIT_PAGE(page, w0 ^ w1 << 20),
			   "page %#llx has an entry of kind %u inside the extent at %#llx",
			   (unsigned long long)page, pw0_kind(w0), (unsigned long long)item->page);
	else if (pw1_is_slab(w1))
		audit_note(run, AUDIT_SLAB_WORD, AUDIT_PAGE(page, w1),
			   "page %#llx is no slab's, but its word 1 is: %#llx",
			   (unsigned long long)page, (unsigned long long)w1);
}

static void check_inside(struct audit_run *run, const struct walk_item *item)
{
	/* A slab in the making, or being taken apart. */
	if (item->kind == PAGE_RAW && item->class_index >= RAW_SLAB)
		return;
	if (item->kind == PAGE_SLAB && sizeclass_entries(item->class_index) > 1)
		return;
	for (uint64_t page = item->page + 1; page < item->page + item->step; page++)
		check_blank(run, item, page);
}

/* Above the high mark nothing ever was. */
static void check_free_run(struct audit_run *run, const struct walk_item *item)
{
	uint64_t zone = item->page / run->a->g.zone_pages;
	uint64_t end = zone * run->a->g.zone_pages + walk_high(run->a, zone);

	for (uint64_t page = item->page; page < item->page + item->step && page < end; page++)
		check_blank(run, item, page);
}

static uint32_t owner_of(const struct walk_item *item)
{
	if (item->kind == PAGE_RAW || item->kind == PAGE_LOG || item->kind == PAGE_STACK)
		return item->client;
	return pw0_is_object(item->w0) && has_owner(pw0_state(item->w0)) ? item->client : 0;
}

/* Each later zone that an extent reaches into says so in its first entry, in a region that its
 * owner has marked: recovery comes to pieces cut off by a death. */
static void check_pieces(struct audit_run *run, const struct walk_item *item)
{
	uint64_t page = item->page + item->step, end = item->page + item->length;

	for (; page < end; page += run->a->g.zone_pages) {
		uint64_t left = end - page;
		uint64_t length = left < run->a->g.zone_pages ? left : run->a->g.zone_pages;
		struct walk_item piece;

		if (owner_of(item))
			audit_owned(run, owner_of(item), page, item->w0);
		if (walk_read(run->a, page, &piece) && piece.kind == PAGE_SPAN && !piece.problem &&
		    piece.span_head == item->page && piece.length == length)
			continue;
		if (piece.kind == PAGE_RAW && piece.class_index == RAW_PIECE)
			continue; /* about to be cut off, by an owner that is stopped perhaps */
		audit_note(run, AUDIT_SPAN, AUDIT_PAGE(page, item->w1),
			   "page %#llx is no piece of the extent at %#llx, which covers it",
			   (unsigned long long)page, (unsigned long long)item->page);
	}
}

static void check_span(struct audit_run *run, const struct walk_item *item)
{
	struct walk_item head;

	if (walk_read(run->a, item->span_head, &head) && !head.problem &&
	    (head.kind == PAGE_RAW || head.kind == PAGE_LARGE) &&
	    head.length > item->page - item->span_head)
		return; /* what the two disagree on is said at the head */
	audit_note(run, AUDIT_SPAN_LEFT, spot_of(item),
		   "page %#llx: a piece of an extent at %#llx that is no more",
		   (unsigned long long)item->page, (unsigned long long)item->span_head);
}

static void check_large(struct audit_run *run, const struct walk_item *item)
{
	uint32_t state = pw0_state(item->w0);

	if (state_kind(state) == OBJECT_FREE) {
		audit_note(run, AUDIT_STATE_WORD, spot_of(item),
			   "page %#llx: a large object that is free",
			   (unsigned long long)item->page);
		return;
	}
	check_object(run, item->page, item->page << PAGE_SHIFT, state);
	if (run->a->debug && pw1_front(item->w1))
		audit_watched(run, &(struct audit_watched){ .offset = item->page << PAGE_SHIFT,
							    .bytes = item->length << PAGE_SHIFT,
							    .front = pw1_front(item->w1),
							    .state = state });
	if (has_owner(state))
		audit_owned(run, state_client(state), item->page, item->w0);
}

/* Out of a copy: its pages may go while it is looked at. */
static void check_mapped(struct audit_run *run, const struct walk_item *item)
{
	struct mapped_description d;

	check_large(run, item);
	if (walk_copy_heap(run->a, item->page << PAGE_SHIFT, &d, sizeof(d)) && !mapped_valid(&d, item->page))
		audit_note(run, AUDIT_MAPPED, spot_of(item), "page %#llx: no file is told of",
			   (unsigned long long)item->page);
}

/* A returned extent on no stack is still its owner's, who was about to put it there. */
static void check_returned(struct audit_run *run, const struct walk_item *item)
{
	uint64_t in_zone = item->page % run->a->g.zone_pages;

	if (audit_bit(run->stacked, in_zone) || audit_client_exists(run, item->client))
		return;
	audit_note(run, AUDIT_RETURNED, spot_of(item),
		   "page %#llx: a returned extent that no stack has",
		   (unsigned long long)item->page);
}

/* Its writer's until its record is committed, then the arena's until its block's lap ends. */
static void check_log(struct audit_run *run, const struct walk_item *item)
{
	if (item->client)
		audit_owned(run, item->client, item->page, item->w0);
	else if (walk_committed(run->a, item->page, 1) && !ring_references(run->a, item->page))
		audit_note(run, AUDIT_LOG_LOST, spot_of(item),
			   "page %#llx: a log record that no block has",
			   (unsigned long long)item->page);
}

/* Whoever writes beyond an object of its temporary memory writes over what stands before the next one. */
static void check_stack(struct audit_run *run, const struct walk_item *item)
{
	uint64_t next = 0;
	uint32_t step;

	audit_owned(run, item->client, item->page, item->w0);
	if (!walk_committed(run->a, item->page, item->length))
		return;
	step = stack_damage(run->a, item->page, &next);
	if (step)
		audit_note(run, AUDIT_STACK, AUDIT_PAGE(item->page, next ^ (uint64_t)step << 32),
			   "page %#llx: temporary memory was written over %u bytes from its region's start",
			   (unsigned long long)item->page, step << 4);
}

static void check_by_kind(struct audit_run *run, const struct walk_item *item)
{
	switch (item->kind) {
	case PAGE_RAW: audit_owned(run, item->client, item->page, item->w0); break;
	case PAGE_RETURNED: check_returned(run, item); break;
	case PAGE_LARGE: check_large(run, item); break;
	case PAGE_MAPPED: check_mapped(run, item); break;
	case PAGE_SLAB: check_slab(run, item); break;
	case PAGE_STATE: check_state_block(run, item); break;
	case PAGE_SPAN: check_span(run, item); break;
	case PAGE_LOG: check_log(run, item); break;
	case PAGE_STACK: check_stack(run, item); break;
	default: break;
	}
}

/* Extents in use have their memory, slabs where their objects are; a raw one's owner may be about to take
 * it, or give it back. */
static void check_commit(struct audit_run *run, const struct walk_item *item)
{
	if (item->kind == PAGE_RAW || item->kind == PAGE_RETURNED || item->kind == PAGE_SPAN ||
	    item->kind == PAGE_SLAB || walk_committed(run->a, item->page, item->length))
		return;
	audit_note(run, AUDIT_COMMIT, spot_of(item),
		   "page %#llx: %llu pages in use, not all of them there",
		   (unsigned long long)item->page, (unsigned long long)item->length);
}

static void take(struct audit_run *run, const struct walk_item *item)
{
	uint64_t first = item->page % run->a->g.zone_pages;

	for (uint64_t i = 0; i < item->step; i++)
		audit_set(run->taken, first + i);
}

int audit_item(void *context, const struct walk_item *item)
{
	struct audit_run *run = context;

	if (item->kind == PAGE_FREE) {
		check_free_run(run, item);
		return 0;
	}
	take(run, item);
	if (item->problem) {
		audit_note(run, AUDIT_ENTRY, spot_of(item),
			   "page %#llx: entry %#llx %#llx (problem %u)",
			   (unsigned long long)item->page, (unsigned long long)item->w0,
			   (unsigned long long)item->w1, item->problem);
		return 0;
	}
	check_commit(run, item);
	check_by_kind(run, item);
	check_inside(run, item);
	if (item->length > item->step)
		check_pieces(run, item);
	return 0;
}
