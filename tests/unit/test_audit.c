/* SPDX-License-Identifier: Apache-2.0 */
/* The audit: a whole arena has no findings, and each way of breaking one has its own. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "arena_file.h"
#include "audit.h"
#include "buddy.h"
#include "cache.h"
#include "client.h"
#include "extent.h"
#include "hint.h"
#include "hold.h"
#include "record.h"
#include "slab.h"
#include "walk.h"
#include "zone.h"

#include "../seed.h"

#define CAPACITY       (UINT64_C(32) << 20)
#define CLASS	       6u /* 112 bytes: no tall slabs */
#define OBJECTS	       40u
#define READY	       8u /* of these, handles in the cache */
#define THREAD	       5u
#define NAME	       9u
#define CACHE_CAPACITY 64u

/* An arena with one of everything. */
static struct arena a;
static uint32_t home;
static uint64_t raw, large, single, spanning, hole; /* pages */
static uint64_t objects[OBJECTS];
static uint64_t published, array, thread_page;
static struct slab_place place; /* of objects[0] */

/* ---- making it ---- */

static uint64_t extent(uint64_t pages, enum raw_use use)
{
	int err = 0;
	uint64_t page = extent_alloc(&a, pages, 1, use, &home, &err);

	ck_assert_uint_ne(page, EXTENT_NONE);
	return page;
}

static _Atomic uint64_t *w0(uint64_t page)
{
	return &a.pages[page].w0;
}

static _Atomic uint64_t *w1(uint64_t page)
{
	return &a.pages[page].w1;
}

static void make_large(uint64_t page, enum object_kind kind)
{
	atomic_store(w0(page), pw0_large(state_make(kind, a.client, pw0_gen(*w0(page)))));
}

static uint32_t claim(uint32_t class, uint32_t want, enum object_kind kind, uint64_t *out)
{
	/* Who owns much gets long slabs for much. */
	struct slab_source from = { .class = class, .home = &home, .owned = INT64_MAX };
	int err = 0;

	return slab_claim(&a, &from, want, kind, out, &err);
}

static _Atomic uint32_t *state_of(uint64_t handle)
{
	struct slab_place p;

	ck_assert_int_eq(slab_find(&a, handle_offset(handle), &p), 0);
	return &p.record->words[p.index];
}

static void set_kind(uint64_t handle, enum object_kind kind, uint32_t client)
{
	atomic_store(state_of(handle), state_make(kind, client, handle_gen(handle)));
}

static struct thread_block *thread_block(void)
{
	return (struct thread_block *)(a.heap + (thread_page << PAGE_SHIFT));
}

static struct cache *ready(void)
{
	return &thread_block()->caches[CLASS];
}

static uint64_t *slots(void)
{
	return (uint64_t *)(a.heap + handle_offset(array));
}

static _Atomic uint64_t *word(uint64_t words, uint32_t i)
{
	return (_Atomic uint64_t *)arena_at(&a, words) + i;
}

static void make_thread(void)
{
	struct thread_block *b;

	thread_page = extent(1, RAW_THREAD);
	b = thread_block();
	memset(b, 0, sizeof(*b));
	b->index = THREAD;
	b->own = state_make(OBJECT_PRIVATE, a.client, 0);
	b->gen_step = 1u << STATE_GEN_SHIFT;
	ck_assert_uint_eq(claim(sizeclass_of(CACHE_CAPACITY * 8), 1, OBJECT_INTERNAL, &array), 1);
	ready()->slots = handle_offset(array);
	ready()->capacity = CACHE_CAPACITY;
	ready()->end = ready()->slots + CACHE_CAPACITY * sizeof(uint64_t);
	for (uint32_t i = 0; i < READY; i++)
		slots()[i] = objects[i];
	cache_set_count(ready(), READY);
	atomic_store(&a.header->threads_high, THREAD + 1);
	atomic_store(word(a.g.thread_words, THREAD),
		     thread_word(THREAD_LIVE, a.client, thread_page));
}

static struct name_entry *name_entry(uint32_t i)
{
	return (struct name_entry *)arena_at(&a, a.g.name_entries) + i;
}

static uint32_t fnv1a(const char *text)
{
	uint32_t hash = UINT32_C(0x811c9dc5);

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * UINT32_C(0x01000193);
	return hash;
}

static void make_name(uint32_t i, const char *text, uint64_t handle)
{
	arena_commit(&a, a.g.name_entries + i * sizeof(struct name_entry),
		     sizeof(struct name_entry));
	strcpy(name_entry(i)->name, text);
	atomic_store(&name_entry(i)->handle, handle);
	atomic_store(word(a.g.name_words, i), name_word(NAME_LIVE, 0, 1, fnv1a(text)));
}

static void make_objects(void)
{
	uint32_t got = 0;

	while (got < OBJECTS)
		got += claim(CLASS, OBJECTS - got, OBJECT_PRIVATE, objects + got);
	ck_assert_int_eq(slab_find(&a, handle_offset(objects[0]), &place), 0);
	set_kind(objects[20], OBJECT_SHARED, a.client);
	set_kind(objects[21], OBJECT_TAKEN, a.client);
	set_kind(objects[22], OBJECT_PERSISTENT, 0);
	published = objects[23];
	set_kind(published, OBJECT_PUBLISHED, a.client);
	make_name(NAME, "table", published);
}

static void make_arena(void)
{
	struct arena_config config = { .name = "audit",
				       .capacity = CAPACITY,
				       .backing = BACKING_MEMFD };
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&a, files, false), 0);
	ck_assert_int_eq(client_claim(&a), 0);
	home = 0;
	raw = extent(3, RAW_PLAIN);
	hole = extent(5, RAW_PLAIN);
	large = extent(10, RAW_PLAIN);
	make_large(large, OBJECT_PRIVATE);
	ck_assert_uint_eq(claim(sizeclass_of(65536), 1, OBJECT_PRIVATE, &single), 1);
	single = handle_offset(single) >> PAGE_SHIFT;
	make_objects();
	make_thread();
	spanning = extent(a.g.zone_pages + 7, RAW_PLAIN);
	make_large(spanning, OBJECT_SHARED);
	extent_free(&a, hole);
}

static void end_arena(void)
{
	arena_unmap(&a);
}

/* ---- asking ---- */

static uint32_t seen[AUDIT_WHATS], total;
static bool talk;

static void note(void *context, const struct audit_finding *f)
{
	(void)context;
	ck_assert_uint_lt(f->what, AUDIT_WHATS);
	ck_assert_uint_ne(f->text[0], 0);
	seen[f->what]++;
	total++;
	if (talk)
		printf("  %s: %s\n", audit_key(f->what), f->text);
}

static int audit(bool live)
{
	int r;

	memset(seen, 0, sizeof(seen));
	total = 0;
	r = audit_arena(&a, live, note, NULL);
	ck_assert_int_ge(r, 0);
	return r;
}

static void expect_whole(void)
{
	talk = true;
	ck_assert_int_eq(audit(false), 0);
	talk = false;
}

START_TEST(a_whole_arena_has_no_findings)
{
	expect_whole();
	ck_assert_int_eq(audit(true), 0);
}
END_TEST

START_TEST(an_empty_arena_has_no_findings)
{
	struct arena_config config = { .name = "audit", .backing = BACKING_MEMFD };
	struct arena_files files;

	end_arena();
	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&a, files, true), 0);
	expect_whole();
}
END_TEST

/* ---- breaking ---- */

struct breakage {
	const char *how;
	enum audit_what what;
	void (*do_it)(void);
};

static uint8_t *index_byte(uint64_t page, uint64_t part)
{
	uint32_t zone = zone_of_page(&a, page);
	uint64_t region = page % a.g.zone_pages / REGION_PAGES;

	return (uint8_t *)zone_index(&a, zone) + part + region / 8;
}

static void break_magic(void)
{
	a.header->magic[0] ^= 1;
}

static void break_geometry(void)
{
	a.header->geometry.heap += PAGE_SIZE;
}

static void break_size(void)
{
	ck_assert_int_eq(ftruncate(a.files.fd, (off_t)a.g.file_size - PAGE_SIZE), 0);
}

static void cut_bookkeeping(void)
{
	ck_assert_int_eq(ftruncate(a.files.fd, (off_t)a.g.page_map), 0);
}

static void break_lock(void)
{
	zone_of(&a, 1)->lock.__data.__kind ^= 0x20;
}

static void break_active(void)
{
	atomic_store(&a.header->active_zones, (uint32_t)a.g.zone_count + 1);
}

static void set_flag(void)
{
	atomic_store(&a.header->damaged, 1);
}

static void break_kind(void)
{
	*w0(raw) = (*w0(raw) & ~UINT64_C(0xf)) | 11;
}

static void break_length(void)
{
	*w1(large) = 0;
}

static void lengthen(void) /* over its neighbour's entry */
{
	*w1(raw) = pw1_extent(hole - raw + 6, 0);
	*w0(raw + 2) = pw0_make(PAGE_RAW, a.client, 0, 0);
}

static void entry_inside(void)
{
	*w1(large + 4) = pw1_extent(1, 0);
	*w0(large + 4) = pw0_make(PAGE_RAW, a.client, 0, 0);
}

static void entry_inside_single(void)
{
	*w1(single + 4) = pw1_extent(1, 0);
	*w0(single + 4) = pw0_make(PAGE_RAW, a.client, 0, 0);
}

static void lead_astray_inside_single(void)
{
	*w1(single + 1) = *w1(single);
}

static void strange_raw_owner(void)
{
	*w0(raw) = pw0_make(PAGE_RAW, 99, 0, 0);
}

static void nobodys_raw(void)
{
	*w0(raw) = pw0_make(PAGE_RAW, 0, 0, 0);
}

static void strange_large_owner(void)
{
	*w0(large) = pw0_large(state_make(OBJECT_PRIVATE, 99, 1));
}

static void strange_object_owner(void)
{
	set_kind(objects[30], OBJECT_SHARED, 99);
}

static void vanish(void) /* a client's word freed before its things were */
{
	atomic_store(client_word_at(&a, a.client), client_word(CLIENT_FREE, 0, 2));
}

static void lose_piece(void)
{
	*w0(spanning + a.g.zone_pages) = 0;
}

static void cut_piece(void)
{
	*w1(spanning + a.g.zone_pages) = pw1_span(6, spanning);
}

static void shorten_span(void) /* as a free that died before it freed the piece */
{
	*w1(spanning) = pw1_extent(a.g.zone_pages, 0);
}

static void break_slab_page(void)
{
	*w1(place.head + 2) ^= 1;
}

static void free_slab_page(void)
{
	*w0(place.head + 1) = 0;
}

static void break_slab_class(void)
{
	*w0(place.head) = pw0_make(PAGE_SLAB, 0, 0, CLASS + 1);
}

static void lead_astray(void)
{
	*w1(hole + 1) = pw1_slab(1, pw1_record(*w1(place.head)), CLASS);
}

static void lead_astray_inside(void)
{
	*w1(large + 1) = pw1_slab(1, pw1_record(*w1(place.head)), CLASS);
}

static void break_record_place(void)
{
	for (uint64_t i = 0; i < sizeclass_table[CLASS].pages; i++)
		*w1(place.head + i) =
			pw1_slab((uint32_t)i, pw1_record(*w1(place.head + i)) + 64, CLASS);
}

static void free_record(void)
{
	atomic_store(&place.record->owner, RECORD_FREE);
}

static void break_record_owner(void)
{
	atomic_store(&place.record->owner, 7);
}

static void strange_record_owner(void)
{
	atomic_store(&place.record->owner, record_busy(99));
}

static void break_record_head(void)
{
	atomic_store(&place.record->head, (uint32_t)large);
}

static void break_record_class(void)
{
	atomic_store(&place.record->class_index, CLASS + 1);
}

static struct slab_record *free_neighbour(void)
{
	uint32_t shape = sizeclass_table[CLASS].shape;
	struct slab_record *r = (void *)((char *)place.record + shape_record_bytes(shape));

	ck_assert_uint_eq(atomic_load(&r->owner), RECORD_FREE);
	return r;
}

static void lose_record(void)
{
	atomic_store(&free_neighbour()->head, (uint32_t)place.head);
	atomic_store(&free_neighbour()->owner, RECORD_LIVE);
}

static uint64_t block_page(void)
{
	return (uint64_t)((char *)place.record - a.heap) >> PAGE_SHIFT;
}

static void break_block(void)
{
	((struct state_block *)(a.heap + (block_page() << PAGE_SHIFT)))->shape++;
}

static void break_state_kind(void)
{
	atomic_fetch_or(state_of(objects[30]), 0xf);
}

static void free_large(void)
{
	make_large(large, OBJECT_FREE);
}

static void map_nothing(void)
{
	*w0(large) = pw0_object(PAGE_MAPPED, pw0_state(*w0(large)));
}

static void uncommit(void)
{
	*index_byte(large, geometry_commit_bits(&a.g)) &=
		(uint8_t) ~(1u << (large % a.g.zone_pages / REGION_PAGES % 8));
}

static void break_client(void)
{
	atomic_store(client_word_at(&a, 3), 9);
	atomic_store(&a.header->clients_high, 4);
}

static void strange_recoverer(void)
{
	atomic_store(client_word_at(&a, 3), client_word(CLIENT_RECOVERING, 98, 1));
	atomic_store(&a.header->clients_high, 4);
}

static void lower_clients(void)
{
	atomic_store(&a.header->clients_high, a.client);
}

static void lower_threads(void)
{
	atomic_store(&a.header->threads_high, THREAD);
}

static void thread_elsewhere(void)
{
	atomic_store(word(a.g.thread_words, THREAD), thread_word(THREAD_LIVE, a.client, large));
}

static void thread_of_nobody(void)
{
	atomic_store(word(a.g.thread_words, THREAD), thread_word(THREAD_LIVE, 97, thread_page));
}

static void break_block_index(void)
{
	thread_block()->index++;
}

static void break_own(void)
{
	thread_block()->own += 1u << STATE_CLIENT_SHIFT;
}

static void break_array(void)
{
	ready()->slots = handle_offset(objects[0]);
}

static void array_nowhere(void)
{
	ready()->slots = UINT64_MAX;
}

static void big_array(void)
{
	ready()->capacity = 1u << 20;
}

static void high_top(void)
{
	cache_set_count(ready(), CACHE_CAPACITY + 1);
}

static void ready_twice(void)
{
	slots()[READY - 1] = objects[0];
}

static void ready_and_free(void)
{
	set_kind(objects[2], OBJECT_FREE, 0);
}

static void ready_and_shared(void)
{
	set_kind(objects[2], OBJECT_SHARED, a.client);
}

static void ready_and_stale(void)
{
	atomic_fetch_add(state_of(objects[2]), 1u << STATE_GEN_SHIFT);
}

static void ready_of_other_class(void)
{
	ck_assert_uint_eq(claim(CLASS + 3, 1, OBJECT_PRIVATE, &slots()[2]), 1);
}

static void ready_nonsense(void)
{
	slots()[2] = UINT64_C(0xffffffffffffffff);
}

static void break_name_state(void)
{
	atomic_store(word(a.g.name_words, NAME), 13);
}

static void name_of_private(void)
{
	set_kind(published, OBJECT_PRIVATE, a.client);
}

static void name_of_stale(void)
{
	atomic_fetch_add(state_of(published), 1u << STATE_GEN_SHIFT);
}

static void name_without_end(void)
{
	memset(name_entry(NAME)->name, 'x', NAME_BYTES);
}

static void other_name(void)
{
	name_entry(NAME)->name[0] = 'c';
}

static void second_name(void)
{
	make_name(NAME + 1, "other", published);
}

static void same_name(void)
{
	set_kind(objects[24], OBJECT_PUBLISHED, a.client);
	make_name(NAME + 1, "table", objects[24]);
}

static void claimed_by_nobody(void)
{
	make_name(NAME + 1, "half", 0);
	atomic_store(word(a.g.name_words, NAME + 1), name_word(NAME_CLAIMED, 88, 1, fnv1a("half")));
}

static void lose_name(void)
{
	atomic_store(word(a.g.name_words, NAME), 0);
}

#define HELD_PLACE HOLD_PAGE_RECORDS /* in another region's page, which nobody has marked */

static struct hold_record *make_held(void)
{
	uint64_t at = hold_place(&a, hold_home(objects[25]), HELD_PLACE);
	struct hold_record *r = hold_record_at(&a, at);

	ck_assert_int_eq(hold_page_commit(&a, at / HOLD_PAGE_RECORDS), 0);
	atomic_store(&r->handle, objects[25]);
	atomic_store(&r->slots[1], hold_slot(a.client, 3));
	atomic_store(&r->head, hold_head(HOLD_LIVE, 0, 7));
	set_kind(objects[25], OBJECT_HELD, HELD_PLACE);
	client_mark_page(&a, at / HOLD_PAGE_RECORDS * REGION_PAGES);
	talk = true;
	expect_whole();
	talk = false;
	return r;
}

static void held_without_record(void)
{
	make_held();
	set_kind(objects[25], OBJECT_HELD, HELD_PLACE + 1);
}

static void freed_while_held(void)
{
	struct hold_record *r = make_held();

	atomic_store(&r->slots[5], hold_slot(a.client, 1));
	set_kind(objects[25], OBJECT_PRIVATE, a.client);
}

static void hold_of_nothing(void)
{
	atomic_store(&make_held()->slots[3], 5 << HOLD_COUNT_SHIFT);
}

static void hold_without_state(void)
{
	atomic_store(&make_held()->head, HOLD_STATES);
}

static void hold_of_stranger(void)
{
	atomic_store(&make_held()->slots[3], hold_slot(99, 1));
}

static void hold_unmarked(void)
{
	make_held();
	client_marks_drop(&a, a.client, hold_place(&a, hold_home(objects[25]), HELD_PLACE) / HOLD_PAGE_RECORDS);
}

static void held_by_nobody(void)
{
	atomic_store(&make_held()->slots[1], 0);
	client_marks_drop(&a, a.client, hold_place(&a, hold_home(objects[25]), HELD_PLACE) / HOLD_PAGE_RECORDS);
}

static void unmark(uint64_t page)
{
	client_marks_drop(&a, a.client, page / REGION_PAGES);
}

static void unmark_slab(void)
{
	unmark(place.head);
}

static void unmark_large(void)
{
	unmark(large);
}

static void unmark_piece(void)
{
	unmark(spanning + a.g.zone_pages);
}

static void unmark_summary(void)
{
	atomic_store(client_summary(&a, a.client), 0);
}

static void lower_high(void)
{
	atomic_store(&zone_of(&a, zone_of_page(&a, large))->high,
		     (uint32_t)(large % a.g.zone_pages));
}

static void break_ring(void)
{
	*(uint32_t *)arena_at(&a, a.g.ring) ^= 1;
}

static void log_of_nobody(void)
{
	*w0(raw) = pw0_make(PAGE_LOG, 0, 0, 0);
}

static void log_of_stranger(void)
{
	*w0(raw) = pw0_make(PAGE_LOG, 99, 0, 0);
}

/* A region of temporary memory with nothing in it that makes sense. */
static void write_over_stack(void)
{
	int err = 0;
	uint64_t page = extent_alloc(&a, REGION_PAGES, REGION_PAGES, RAW_PLAIN, NULL, &err);

	ck_assert_uint_ne(page, EXTENT_NONE);
	memset(a.heap + (page << PAGE_SHIFT), 0xff, REGION_PAGES << PAGE_SHIFT);
	*w0(page) = pw0_make(PAGE_STACK, a.client, 0, 0);
}

/* One that is none: it goes beyond its region. */
static void stack_of_two(void)
{
	int err = 0;
	uint64_t page = extent_alloc(&a, 2 * REGION_PAGES, REGION_PAGES, RAW_PLAIN, NULL, &err);

	ck_assert_uint_ne(page, EXTENT_NONE);
	*w0(page) = pw0_make(PAGE_STACK, a.client, 0, 0);
}

static void lock_zone(void)
{
	ck_assert_int_eq(zone_trylock(&a, 0), 0);
}

static void free_taken(void) /* would be given out again */
{
	uint64_t *bits =
		(uint64_t *)(zone_index(&a, zone_of_page(&a, large)) + geometry_free_bits(&a.g, 0));

	bits[large % a.g.zone_pages / 64] |= UINT64_C(1) << (large % 64);
}

static void lose_free(void)
{
	ck_assert(buddy_take_at(&a, zone_of_page(&a, hole), (uint32_t)(hole % a.g.zone_pages), 1));
}

static void leave_unmerged(void)
{
	uint64_t *bits =
		(uint64_t *)(zone_index(&a, zone_of_page(&a, hole)) + geometry_free_bits(&a.g, 0));
	uint32_t page = (uint32_t)(hole + 1) % a.g.zone_pages & ~1u;

	ck_assert(buddy_take_at(&a, zone_of_page(&a, hole), page, 2));
	zone_of(&a, zone_of_page(&a, hole))->free_pages += 2;
	bits[page / 64] |= UINT64_C(3) << (page % 64);
}

static void break_summary(void)
{
	uint64_t *summary = (uint64_t *)(zone_index(&a, zone_of_page(&a, hole)) +
					 geometry_free_summary(&a.g, 0));

	summary[0] ^= 1u << (hole % a.g.zone_pages / 64);
}

static void break_order_map(void)
{
	zone_of(&a, 0)->order_map ^= 1;
}

static void break_count(void)
{
	zone_of(&a, 0)->free_pages++;
}

static void endless_pending(void)
{
	*w0(raw) = pw0_make(PAGE_RETURNED, a.client, 0, 0);
	*w1(raw) = pw1_extent(3, (uint32_t)(raw % a.g.zone_pages) + 1);
	atomic_store(&zone_of(&a, zone_of_page(&a, raw))->pending, raw % a.g.zone_pages + 1);
}

static void pending_outside(void)
{
	atomic_store(&zone_of(&a, 0)->pending, a.g.zone_pages + 1);
}

static void pending_live(void)
{
	atomic_store(&zone_of(&a, zone_of_page(&a, large))->pending, large % a.g.zone_pages + 1);
}

static void returned_nowhere(void)
{
	*w0(raw) = pw0_make(PAGE_RETURNED, 99, 0, 0);
}

static void free_unhinted(void)
{
	set_kind(objects[30], OBJECT_FREE, 0);
}

static void unhint_slab(void)
{
	*index_byte(place.head, geometry_hint_bits(&a.g, CLASS)) = 0;
}

static void unhint_words(void)
{
	memset(zone_index(&a, zone_of_page(&a, place.head)) + geometry_hint_summary(&a.g, CLASS), 0,
	       8);
}

static void unhint_zone(void)
{
	*word(a.g.class_hints, (uint32_t)(CLASS * a.g.class_hint_words)) = 0;
}

static void unhint_record(void)
{
	*index_byte(block_page(),
		    geometry_hint_bits(&a.g, hint_row_of_shape(sizeclass_table[CLASS].shape))) = 0;
}

static void break_all(void)
{
	while (zone_activate(&a) == 0)
		;
	for (uint64_t page = 0; page < a.pages_known; page++)
		*w0(page) = 12;
	for (uint64_t zone = 0; zone < walk_zones(&a); zone++)
		zone_of(&a, (uint32_t)zone)->high = (uint32_t)a.g.zone_pages;
}

static const struct breakage breakages[] = {
	{ "another magic", AUDIT_HEADER, break_magic },
	{ "another geometry", AUDIT_HEADER, break_geometry },
	{ "the file cut off", AUDIT_HEADER, break_size },
	{ "the file cut off in the page map", AUDIT_HOLE, cut_bookkeeping },
	{ "a lock of another kind", AUDIT_ZONE_LOCK, break_lock },
	{ "more zones in use than there are", AUDIT_HEADER, break_active },
	{ "flagged", AUDIT_FLAGGED, set_flag },
	{ "a kind that is none", AUDIT_ENTRY, break_kind },
	{ "no length", AUDIT_ENTRY, break_length },
	{ "a slab's head of two classes", AUDIT_ENTRY, break_slab_class },
	{ "an extent over another", AUDIT_OVERLAP, lengthen },
	{ "an entry inside an extent", AUDIT_OVERLAP, entry_inside },
	{ "an entry inside a single object", AUDIT_OVERLAP, entry_inside_single },
	{ "an extent of nobody", AUDIT_OWNER, nobodys_raw },
	{ "an extent of a client that does not exist", AUDIT_OWNER, strange_raw_owner },
	{ "a large object likewise", AUDIT_OWNER, strange_large_owner },
	{ "an object likewise", AUDIT_OWNER, strange_object_owner },
	{ "a record likewise", AUDIT_OWNER, strange_record_owner },
	{ "a thread likewise", AUDIT_OWNER, thread_of_nobody },
	{ "a name likewise", AUDIT_OWNER, claimed_by_nobody },
	{ "a client freed before its things", AUDIT_OWNER, vanish },
	{ "a piece lost", AUDIT_SPAN, lose_piece },
	{ "a piece too short", AUDIT_SPAN, cut_piece },
	{ "a piece left over", AUDIT_SPAN_LEFT, shorten_span },
	{ "a slab's page at another distance", AUDIT_SLAB, break_slab_page },
	{ "a slab's page free", AUDIT_SLAB, free_slab_page },
	{ "a free page with a slab's word", AUDIT_SLAB_WORD, lead_astray },
	{ "a large object's page with a slab's word", AUDIT_SLAB_WORD, lead_astray_inside },
	{ "a single object's page with a slab's word", AUDIT_SLAB_WORD, lead_astray_inside_single },
	{ "a record where none lies", AUDIT_RECORD, break_record_place },
	{ "a slab's record free", AUDIT_RECORD, free_record },
	{ "a record's owner word", AUDIT_RECORD, break_record_owner },
	{ "a record of another page", AUDIT_RECORD, break_record_head },
	{ "a record of another class", AUDIT_RECORD, break_record_class },
	{ "a record without its slab", AUDIT_RECORD_LOST, lose_record },
	{ "a record of a page that has another", AUDIT_RECORD_LOST, break_record_head },
	{ "a state block's shape", AUDIT_STATE_BLOCK, break_block },
	{ "a state word's kind", AUDIT_STATE_WORD, break_state_kind },
	{ "a large object free", AUDIT_STATE_WORD, free_large },
	{ "an object of no file", AUDIT_MAPPED, map_nothing },
	{ "memory not there", AUDIT_COMMIT, uncommit },
	{ "a client word", AUDIT_CLIENT, break_client },
	{ "a recoverer that does not exist", AUDIT_CLIENT, strange_recoverer },
	{ "a thread's block elsewhere", AUDIT_THREAD, thread_elsewhere },
	{ "a thread's block of another", AUDIT_THREAD, break_block_index },
	{ "a thread's client", AUDIT_THREAD, break_own },
	{ "a cache's array in a live object", AUDIT_CACHE_ARRAY, break_array },
	{ "a cache's array nowhere", AUDIT_CACHE_ARRAY, array_nowhere },
	{ "a cache's capacity", AUDIT_CACHE_ARRAY, big_array },
	{ "a cache's top", AUDIT_CACHE_ARRAY, high_top },
	{ "ready twice", AUDIT_CACHE_TWICE, ready_twice },
	{ "ready and free", AUDIT_CACHE_HANDLE, ready_and_free },
	{ "ready and shared", AUDIT_CACHE_HANDLE, ready_and_shared },
	{ "ready and stale", AUDIT_CACHE_HANDLE, ready_and_stale },
	{ "ready of another class", AUDIT_CACHE_HANDLE, ready_of_other_class },
	{ "no handle at all", AUDIT_CACHE_HANDLE, ready_nonsense },
	{ "a name word", AUDIT_NAME, break_name_state },
	{ "a name's object not published", AUDIT_NAME, name_of_private },
	{ "a name's handle stale", AUDIT_NAME, name_of_stale },
	{ "a name without an end", AUDIT_NAME, name_without_end },
	{ "another name in an entry", AUDIT_NAME, other_name },
	{ "two names of an object", AUDIT_NAME, second_name },
	{ "two objects of a name", AUDIT_NAME, same_name },
	{ "published under no name", AUDIT_NAME_LOST, lose_name },
	{ "held, and no record says so", AUDIT_HOLD, held_without_record },
	{ "free, and still held", AUDIT_HOLD, freed_while_held },
	{ "a hold of nobody", AUDIT_HOLD_RECORD, hold_of_nothing },
	{ "a hold record without a state", AUDIT_HOLD_RECORD, hold_without_state },
	{ "a hold of a client that does not exist", AUDIT_OWNER, hold_of_stranger },
	{ "a hold record's region not marked", AUDIT_MARK, hold_unmarked },
	{ "held by nobody", AUDIT_HOLD_IDLE, held_by_nobody },
	{ "a slab's region not marked", AUDIT_MARK, unmark_slab },
	{ "a large object's region not marked", AUDIT_MARK, unmark_large },
	{ "a piece's region not marked", AUDIT_MARK, unmark_piece },
	{ "marks without their summary", AUDIT_MARK, unmark_summary },
	{ "the ring's header", AUDIT_RING, break_ring },
	{ "a log record in no block", AUDIT_LOG_LOST, log_of_nobody },
	{ "a log record of a client that does not exist", AUDIT_OWNER, log_of_stranger },
	{ "temporary memory written over", AUDIT_STACK, write_over_stack },
	{ "temporary memory of two regions", AUDIT_ENTRY, stack_of_two },
	{ "a lock held", AUDIT_ZONE_LOCK, lock_zone },
	{ "a high mark too low", AUDIT_ZONE_HIGH, lower_high },
	{ "taken pages free in the index", AUDIT_ZONE_FREE, free_taken },
	{ "free pages not in the index", AUDIT_ZONE_FREE, lose_free },
	{ "free neighbours not merged", AUDIT_ZONE_FREE, leave_unmerged },
	{ "a summary", AUDIT_ZONE_SUMMARY, break_summary },
	{ "the map of orders", AUDIT_ZONE_SUMMARY, break_order_map },
	{ "the count of free pages", AUDIT_ZONE_COUNT, break_count },
	{ "a stack without end", AUDIT_PENDING, endless_pending },
	{ "a stack out of the zone", AUDIT_PENDING, pending_outside },
	{ "a live extent on the stack", AUDIT_PENDING, pending_live },
	{ "returned, and on no stack", AUDIT_RETURNED, returned_nowhere },
	{ "free without a hint", AUDIT_HINT_OBJECT, free_unhinted },
	{ "no hint of a region", AUDIT_HINT_SLAB, unhint_slab },
	{ "no hint of a zone's word", AUDIT_HINT_SLAB, unhint_words },
	{ "no hint of a zone", AUDIT_HINT_SLAB, unhint_zone },
	{ "no hint of a free record", AUDIT_HINT_RECORD, unhint_record },
	{ "a client above the mark", AUDIT_HIGH_WORD, lower_clients },
	{ "a thread above the mark", AUDIT_HIGH_WORD, lower_threads },
	{ "everything", AUDIT_TOO_MANY, break_all },
};

#define BREAKAGES ((int)(sizeof(breakages) / sizeof(breakages[0])))

START_TEST(each_breakage_is_found)
{
	const struct breakage *b = &breakages[_i];

	b->do_it();
	audit(false);
	if (!seen[b->what]) {
		printf("%s: expected %s\n", b->how, audit_key(b->what));
		talk = true;
		audit(false);
	}
	ck_assert_msg(seen[b->what], "%s: no finding %s", b->how, audit_key(b->what));
}
END_TEST

START_TEST(each_breakage_stays_on_a_live_arena)
{
	const struct breakage *b = &breakages[_i];

	if (b->do_it == lock_zone)
		return; /* no finding there: somebody works */
	b->do_it();
	audit(true);
	ck_assert_msg(seen[b->what], "%s: no finding %s", b->how, audit_key(b->what));
}
END_TEST

START_TEST(every_kind_of_finding_is_provoked_here)
{
	bool provoked[AUDIT_WHATS] = { false };

	for (int i = 0; i < BREAKAGES; i++)
		provoked[breakages[i].what] = true;
	/* In debug arenas only: by test_debug.c. */
	provoked[AUDIT_OVERRUN] = provoked[AUDIT_UNDERRUN] = provoked[AUDIT_WRITTEN] = true;
	provoked[AUDIT_WATCHED_HEAD] = true;
	for (uint32_t what = 0; what < AUDIT_WHATS; what++)
		ck_assert_msg(provoked[what], "%s", audit_key(what));
}
END_TEST

/* ---- what a death may leave is no finding ---- */

START_TEST(a_slab_in_the_making_is_no_damage)
{
	uint64_t page = extent(sizeclass_table[CLASS].pages, RAW_PLAIN);
	int err = 0;
	uint64_t at = record_alloc(&a, sizeclass_table[CLASS].shape, &err);

	expect_whole();
	record_at(&a, at)->head = (uint32_t)page;
	record_at(&a, at)->class_index = CLASS;
	*w0(page) = pw0_make(PAGE_RAW, a.client, 0, RAW_SLAB + CLASS);
	for (uint32_t dist = sizeclass_table[CLASS].pages; dist-- > 0;) {
		*w1(page + dist) = pw1_slab(dist, at, CLASS);
		expect_whole();
		*w0(page + dist) = pw0_make(PAGE_SLAB, 0, 0, CLASS);
		if (dist)
			expect_whole();
	}
}
END_TEST

START_TEST(an_extent_being_returned_is_no_damage)
{
	uint64_t page = extent(4, RAW_PLAIN);

	ck_assert_int_eq(zone_trylock(&a, zone_of_page(&a, page)), 0);
	zone_return_later(&a, page);
	audit(false);
	ck_assert_uint_eq(seen[AUDIT_ZONE_LOCK], 1);
	ck_assert_uint_eq(total, 1);
	zone_unlock(&a, zone_of_page(&a, page));
	expect_whole();
}
END_TEST

static void *lock_and_die(void *arg)
{
	(void)arg;
	zone_trylock(&a, 0);
	zone_of(&a, 0)->free_pages = 12345;
	return NULL;
}

START_TEST(a_dead_holders_zone_is_not_compared_but_rebuilt)
{
	pthread_t t;

	ck_assert_int_eq(pthread_create(&t, NULL, lock_and_die, NULL), 0);
	pthread_join(t, NULL);
	expect_whole();
	ck_assert_int_eq(zone_trylock(&a, 0), 0);
	zone_unlock(&a, 0);
	expect_whole();
}
END_TEST

/* ---- files ---- */

static char path[64];

static void copy_arena(off_t size)
{
	int fd, r;
	char *buf = malloc(1 << 20);

	snprintf(path, sizeof(path), "/tmp/shmalloc-audit-%d", (int)getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	for (off_t at = 0; at < size; at += r) {
		size_t n = size - at < (1 << 20) ? (size_t)(size - at) : 1 << 20;

		r = (int)pread(a.files.fd, buf, n, at);
		ck_assert_int_gt(r, 0);
		ck_assert_int_eq(pwrite(fd, buf, (size_t)r, at), r);
	}
	close(fd);
	free(buf);
}

START_TEST(a_copied_file_is_as_whole_as_the_arena)
{
	copy_arena((off_t)a.g.file_size);
	total = 0;
	talk = true;
	ck_assert_int_eq(audit_file(path, false, note, NULL), 0);
	unlink(path);
}
END_TEST

START_TEST(a_truncated_file_is_a_finding)
{
	const off_t sizes[] = { (off_t)a.g.file_size - 1, (off_t)a.g.heap, PAGE_SIZE, 100, 0 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		copy_arena(sizes[i]);
		total = 0;
		ck_assert_int_eq(audit_file(path, false, note, NULL), 1);
		ck_assert_uint_eq(total, 1);
		unlink(path);
	}
	ck_assert_int_eq(audit_file(path, false, note, NULL), -ENOENT);
}
END_TEST

/* ---- anything at all ---- */

static void seed_random(const char *test)
{
	srandom((unsigned)test_seed(test));
}

static uint64_t random_place(void)
{
	uint64_t parts[] = { a.g.client_words,
			     a.g.thread_words,
			     a.g.name_words,
			     a.g.zones,
			     a.g.zone_indexes,
			     a.g.page_map,
			     a.g.page_map,
			     a.g.page_map,
			     a.g.client_areas + a.g.client_area_size,
			     a.g.heap + (block_page() << PAGE_SHIFT),
			     a.g.heap + (thread_page << PAGE_SHIFT),
			     a.g.name_entries };
	uint64_t at = parts[(uint64_t)random() % (sizeof(parts) / sizeof(parts[0]))];

	return at + (uint64_t)random() % PAGE_SIZE;
}

START_TEST(flipped_bits_anywhere_never_fault)
{
	seed_random("flipped_bits_anywhere_never_fault");
	for (int round = 0; round < 400; round++) {
		uint64_t at = random_place();

		if (at < a.g.zones + sizeof(struct zone) * a.g.zone_count && at >= a.g.zones)
			continue; /* a lock's words are the C library's */
		*((uint8_t *)a.base + at) ^= (uint8_t)(1u << (random() % 8));
		audit(false);
	}
}
END_TEST

/* ---- after a lot of work ---- */

#define LIVE 512

static uint64_t live[LIVE];

static void free_live(uint32_t i)
{
	if (handle_tag(live[i]))
		slab_put(&a, &live[i], 1, 0);
	else if (live[i])
		extent_free(&a, live[i] - 1);
	live[i] = 0;
}

static void make_live(uint32_t i)
{
	int err = 0;
	uint32_t class = (uint32_t)random() % CLASSES;
	uint64_t page;

	if (random() % 4) {
		claim(class, 1, OBJECT_PRIVATE, &live[i]);
		return;
	}
	page = extent_alloc(&a, 1 + (uint64_t)random() % 40, 1u << random() % 5, RAW_PLAIN, &home,
			    &err);
	live[i] = page == EXTENT_NONE ? 0 : page + 1;
}

START_TEST(random_work_leaves_the_arena_whole)
{
	seed_random("random_work_leaves_the_arena_whole");
	for (int round = 0; round < 40; round++) {
		for (int step = 0; step < 500; step++) {
			uint32_t i = (uint32_t)random() % LIVE;

			if (live[i])
				free_live(i);
			else
				make_live(i);
		}
		expect_whole();
	}
	for (uint32_t i = 0; i < LIVE; i++)
		free_live(i);
	expect_whole();
}
END_TEST

static _Atomic bool stop;

static void *work(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	uint64_t mine[64] = { 0 };
	uint32_t my_home = 1;

	for (uint64_t n = 0; !atomic_load(&stop); n++) {
		struct slab_source from = { .class = (uint32_t)rand_r(&seed) % 60,
					    .home = &my_home };
		uint32_t i = (uint32_t)rand_r(&seed) % 64;
		int err = 0;

		if (mine[i])
			slab_put(&a, &mine[i], 1, 0);
		mine[i] = 0;
		slab_claim(&a, &from, 1, OBJECT_PRIVATE, &mine[i], &err);
	}
	for (uint32_t i = 0; i < 64; i++)
		if (mine[i])
			slab_put(&a, &mine[i], 1, 0);
	return NULL;
}

START_TEST(an_arena_at_work_has_no_findings_that_stay)
{
	pthread_t threads[2];

	for (uintptr_t i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
	talk = true;
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(audit(true), 0);
	set_kind(objects[30], OBJECT_SHARED, 99);
	talk = false;
	ck_assert_int_eq(audit(true), 1);
	ck_assert_uint_eq(seen[AUDIT_OWNER], 1);
	set_kind(objects[30], OBJECT_SHARED, a.client);
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	expect_whole();
}
END_TEST

static TCase *add_case(Suite *s, const char *name)
{
	TCase *t = tcase_create(name);

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, make_arena, end_arena);
	suite_add_tcase(s, t);
	return t;
}

int main(void)
{
	Suite *s = suite_create("audit");
	TCase *whole = add_case(s, "whole"), *broken = add_case(s, "broken");
	TCase *files = add_case(s, "files"), *work_case = add_case(s, "work");
	SRunner *r = srunner_create(s);
	int failed;

	setvbuf(stdout, NULL, _IOLBF, 0); /* a failing test does not flush */

	tcase_add_test(whole, a_whole_arena_has_no_findings);
	tcase_add_test(whole, an_empty_arena_has_no_findings);
	tcase_add_test(whole, a_slab_in_the_making_is_no_damage);
	tcase_add_test(whole, an_extent_being_returned_is_no_damage);
	tcase_add_test(whole, a_dead_holders_zone_is_not_compared_but_rebuilt);
	tcase_add_loop_test(broken, each_breakage_is_found, 0, BREAKAGES);
	tcase_add_loop_test(broken, each_breakage_stays_on_a_live_arena, BREAKAGES / 2,
			    BREAKAGES / 2 + 3);
	tcase_add_test(broken, every_kind_of_finding_is_provoked_here);
	tcase_add_test(broken, flipped_bits_anywhere_never_fault);
	tcase_add_test(files, a_copied_file_is_as_whole_as_the_arena);
	tcase_add_test(files, a_truncated_file_is_a_finding);
	tcase_add_test(work_case, random_work_leaves_the_arena_whole);
	tcase_add_test(work_case, an_arena_at_work_has_no_findings_that_stay);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
