/* SPDX-License-Identifier: Apache-2.0 */
/* The repair: each kind of damage is told in words and repaired or refused; chance finds no other. */
#include "repair_stage.h"

#include "names.h"
#include "record.h"
#include "slab.h"

/* ---- damage by hand ---- */

/* The arena under the knife, mapped without a client. */
static struct arena a;

static _Atomic uint64_t *w0(uint64_t page)
{
	return &a.pages[page].w0;
}

static _Atomic uint64_t *w1(uint64_t page)
{
	return &a.pages[page].w1;
}

static uint64_t page_of(uint32_t i)
{
	return handle_offset(stage.known->objects[i].handle) >> PAGE_SHIFT;
}

#define FIRST_NAME  STAGE_SMALL
#define FIRST_LARGE (STAGE_SMALL + STAGE_NAMES)
#define SINGLE	    (FIRST_LARGE + 4) /* all of its slab */

static struct slab_place place_of(uint32_t i)
{
	struct slab_place p;

	ck_assert_int_eq(slab_find(&a, handle_offset(stage.known->objects[i].handle), &p), 0);
	return p;
}

static _Atomic uint32_t *state_of(uint32_t i)
{
	struct slab_place p = place_of(i);

	return &p.record->words[p.index];
}

static uint64_t record_page(uint32_t i)
{
	return (uint64_t)((char *)place_of(i).record - a.heap) >> PAGE_SHIFT;
}

static uint32_t name_index(const char *name)
{
	struct name_view view;

	for (uint32_t i = 0; i < NAMES_MAX; i++)
		if (!names_view(&a, i, &view) && strcmp(view.name, name) == 0)
			return i;
	ck_abort_msg("no name %s", name);
	return 0;
}

static _Atomic uint64_t *name_word_of(uint32_t i)
{
	return (_Atomic uint64_t *)arena_at(&a, a.g.name_words) +
	       name_index(stage.known->objects[i].name);
}

static struct name_entry *name_entry_of(uint32_t i)
{
	return (struct name_entry *)arena_at(&a, a.g.name_entries) +
	       name_index(stage.known->objects[i].name);
}

static void nothing(void)
{
}

static void break_magic(void)
{
	a.header->magic[3] ^= 0x10;
}

static void break_uuid(void)
{
	a.header->uuid[7] ^= 0xff;
}

static void break_geometry(void)
{
	memset(&a.header->geometry.zone_pages, 0xee, 40);
	a.header->version = 77;
	a.header->tag = 0;
}

static void break_capacity(void)
{
	a.header->geometry.capacity = 12345;
}

static void break_header(void)
{
	memset(a.header, 0x55, 128);
}

static void other_version(void)
{
	a.header->version = 2;
	a.header->created_ns ^= 0xffffff; /* another layout's sum is none of ours */
}

static void far_zones(void)
{
	atomic_store(&a.header->active_zones, 77777);
}

static void few_zones(void)
{
	atomic_store(&a.header->active_zones, 1);
}

static void far_marks(void)
{
	atomic_store(&a.header->threads_high, UINT32_MAX);
	atomic_store(&a.header->clients_high, UINT32_MAX);
	atomic_store(&a.header->log_policy, 99);
	atomic_store(&a.header->damaged, 1);
}

static void break_indexes(void)
{
	memset(arena_at(&a, a.g.zone_indexes), 0xa5, geometry_commit_bits(&a.g));
	memset(arena_at(&a, a.g.class_hints), 0x5a, HINT_ROWS * 8 * a.g.class_hint_words);
}

static void uncommit(void)
{
	memset((char *)arena_at(&a, a.g.zone_indexes) + geometry_commit_bits(&a.g), 0, 64);
}

static void break_zones(void)
{
	memset(arena_at(&a, a.g.zones), 0xff, 4 * sizeof(struct zone));
}

static void kind_of_nothing(void)
{
	*w0(page_of(0) & ~UINT64_C(0)) = 13;
}

static void lose_slab_pages(void)
{
	struct slab_place p = place_of(60);

	for (uint64_t i = 0; i < sizeclass_table[p.kind].pages; i++)
		*w0(p.head + i) = *w1(p.head + i) = 0;
}

static void lose_single(void)
{
	*w0(page_of(SINGLE)) = *w1(page_of(SINGLE)) = 0;
}

static void single_of_another_class(void)
{
	*w1(page_of(SINGLE)) ^= UINT64_C(1) << PW1_CLASS_SHIFT;
}

static void free_single_record(void)
{
	atomic_store(&place_of(SINGLE).record->owner, RECORD_FREE);
}

static void strange_single_record(void)
{
	struct slab_record *record = place_of(SINGLE).record;

	atomic_store(&record->head, 0xdddddddd);
	atomic_store(&record->class_index, 0xdddddddd);
}

static void stray_in_single(void)
{
	uint64_t page = page_of(SINGLE);

	*w0(page + 5) = pw0_make(PAGE_RAW, 3, 1, 0);
	*w1(page + 5) = pw1_extent(3, 0);
	*w1(page + 9) = *w1(page);
}

static void state_of_named_single(void)
{
	atomic_store(state_of(SINGLE + 1), 0);
}

static void lose_slab_head(void)
{
	*w0(place_of(60).head) = 0;
}

static void strange_slab_page(void)
{
	*w1(place_of(60).head + 1) ^= UINT64_C(0x540);
}

static void free_record(void)
{
	atomic_store(&place_of(60).record->owner, RECORD_FREE);
}

static void strange_record(void)
{
	struct slab_record *record = place_of(60).record;

	atomic_store(&record->owner, 0xdddddddd);
	atomic_store(&record->head, 0xdddddddd);
	atomic_store(&record->class_index, 0xdddddddd);
}

static void lose_block_entry(void)
{
	*w0(record_page(60)) = *w1(record_page(60)) = 0;
}

static void lose_block_head(void)
{
	memset(a.heap + (record_page(60) << PAGE_SHIFT), 0xee, sizeof(struct state_block));
}

static void lose_block(void)
{
	memset(a.heap + (record_page(60) << PAGE_SHIFT), 0, PAGE_SIZE);
	*w0(record_page(60)) = *w1(record_page(60)) = 0;
}

static void strange_state(void)
{
	atomic_fetch_or(state_of(60), 0xf);
}

static void strange_owner(void)
{
	atomic_store(state_of(60), state_make(OBJECT_PERSISTENT, 4000,
					      handle_gen(stage.known->objects[60].handle)));
}

static void state_of_named(void)
{
	atomic_store(
		state_of(FIRST_NAME),
		state_make(OBJECT_PRIVATE, 9, handle_gen(stage.known->objects[FIRST_NAME].handle)));
}

static void wipe_state_of_named(void)
{
	atomic_store(state_of(FIRST_NAME), 0);
}

static void large_of_no_kind(void)
{
	*w0(page_of(FIRST_LARGE)) = (*w0(page_of(FIRST_LARGE)) & ~UINT64_C(0xf)) | 12;
}

static void large_of_no_file(void)
{
	*w0(page_of(FIRST_LARGE)) = pw0_object(PAGE_MAPPED, pw0_state(*w0(page_of(FIRST_LARGE))));
}

static void large_turned_raw(void)
{
	*w0(page_of(FIRST_LARGE)) = (*w0(page_of(FIRST_LARGE)) & ~UINT64_C(0xf)) | PAGE_RAW;
}

static void large_over_others(void)
{
	uint64_t page = page_of(FIRST_LARGE);

	*w1(page) = pw1_extent(a.g.zone_pages - page % a.g.zone_pages, 0);
}

static void lose_piece(void)
{
	uint64_t page = page_of(FIRST_LARGE + 2);

	page += a.g.zone_pages - page % a.g.zone_pages;
	*w0(page) = *w1(page) = UINT64_C(0x7777777777777777);
}

static void stray_in_large(void)
{
	*w0(page_of(FIRST_LARGE + 1) + 5) = pw0_make(PAGE_RAW, 3, 1, 0);
	*w1(page_of(FIRST_LARGE + 1) + 5) = pw1_extent(3, 0);
}

static void name_of_no_state(void)
{
	atomic_fetch_or(name_word_of(FIRST_NAME + 1), 0xf);
}

static void lose_name_word(void)
{
	atomic_store(name_word_of(FIRST_NAME + 1), 0);
}

static void lose_name(void)
{
	struct name_entry *entry = name_entry_of(FIRST_NAME + 1);

	atomic_store(name_word_of(FIRST_NAME + 1), 0);
	memset(entry, 0, sizeof(*entry));
}

static void name_without_object(void)
{
	atomic_store(&name_entry_of(FIRST_NAME + 1)->handle, UINT64_C(0x123456789));
	memset(name_entry_of(FIRST_NAME + 1)->name, 'x', NAME_BYTES);
}

static void other_generation(void)
{
	struct name_entry *entry = name_entry_of(FIRST_NAME + 1);

	atomic_store(&entry->handle, atomic_load(&entry->handle) ^ UINT64_C(7) << HANDLE_GEN_SHIFT);
}

static void strange_names(void)
{
	_Atomic uint64_t *words = arena_at(&a, a.g.name_words);

	for (uint32_t i = 0; i < NAMES_MAX; i += 7)
		if (name_word_state(words[i]) == NAME_FREE)
			words[i] = UINT64_C(0x0123456789abcdef) * i | 0xd;
}

static void strange_slots(void)
{
	memset(arena_at(&a, a.g.client_words), 0x93, CLIENTS_MAX * 8);
	memset(arena_at(&a, a.g.thread_words), 0x52, THREADS_MAX * 8);
}

static void break_ring_header(void)
{
	memset(arena_at(&a, a.g.ring), 0xff, PAGE_SIZE);
}

static void break_ring_words(void)
{
	memset(arena_at(&a, a.g.ring + 2 * PAGE_SIZE), 0xff, 64);
}

static void break_records(void)
{
	for (uint64_t at = a.g.ring + 8 * PAGE_SIZE; at < a.g.ring + a.g.ring_size; at += 256)
		if (arena_readable(&a, at, 8))
			*(uint64_t *)arena_at(&a, at) ^= UINT64_C(0x1fffff01fffff);
}

static int find_log(void *context, const struct walk_item *item)
{
	if (item->kind == PAGE_LOG)
		*(uint64_t *)context = item->page;
	return item->kind == PAGE_LOG;
}

static uint64_t log_page(void)
{
	uint64_t page = 0;

	walk_extents(&a, find_log, &page);
	ck_assert_uint_ne(page, 0);
	return page;
}

static void lose_log_entry(void)
{
	*w0(log_page()) = 0;
}

static void lose_log_extent(void)
{
	memset(a.heap + (log_page() << PAGE_SHIFT), 0, 64);
}

static void huge_backing(void)
{
	a.header->backing = BACKING_HUGETLB; /* one byte: healed */
}

static void cut(uint64_t size)
{
	ck_assert_int_eq(ftruncate(a.files.fd, (off_t)size), 0);
}

static void cut_last_page(void)
{
	cut(a.g.file_size - PAGE_SIZE);
}

static void cut_heap(void)
{
	cut(a.g.heap + (page_of(FIRST_LARGE + 1) + 4) * PAGE_SIZE);
}

static void cut_in_ring(void)
{
	cut(a.g.ring + 3 * PAGE_SIZE);
}

static void cut_page_map(void)
{
	cut(a.g.page_map + 100);
}

static void cut_to_nothing(void)
{
	cut(0);
}

enum { ANY = REPAIR_WHATS };

static const struct damage {
	const char *how;
	void (*do_it)(void);
	uint32_t what; /* what is told; ANY: nothing in particular */
	int result;
	uint32_t hurt; /* of the objects known, not whole afterwards: at most */
} damages[] = {
	{ "none", nothing, ANY, 0, 0 },
	{ "a byte of the magic", break_magic, REPAIR_HEADER, 0, 0 },
	{ "a byte of the uuid", break_uuid, REPAIR_HEADER, 0, 0 },
	{ "many fields of the geometry", break_geometry, REPAIR_HEADER, 0, 0 },
	{ "the capacity", break_capacity, REPAIR_HEADER, 0, 0 },
	{ "the backing", huge_backing, REPAIR_HEADER, 0, 0 },
	{ "the whole header", break_header, REPAIR_NO_HEADER, -EUCLEAN, STAGE_KNOWN },
	{ "another version", other_version, ANY, -EPROTO, STAGE_KNOWN },
	{ "too many zones in use", far_zones, REPAIR_BOUNDS, 0, 0 },
	{ "too few zones in use", few_zones, REPAIR_BOUNDS, 0, 0 },
	{ "marks beyond the end", far_marks, REPAIR_BOUNDS, 0, 0 },
	{ "free blocks and hints", break_indexes, REPAIR_INDEX, 0, 0 },
	{ "memory said not to be there", uncommit, ANY, 0, 0 },
	{ "zones and their locks", break_zones, REPAIR_INDEX, 0, 0 },
	{ "an entry of no kind", kind_of_nothing, ANY, 0, 0 },
	{ "a slab's entries lost", lose_slab_pages, REPAIR_SLAB, 0, 0 },
	{ "a slab's head free", lose_slab_head, REPAIR_SLAB, 0, 0 },
	{ "a slab's page of another", strange_slab_page, REPAIR_SLAB, 0, 0 },
	{ "a slab's record free", free_record, REPAIR_SLAB, 0, 0 },
	{ "a slab's record nonsense", strange_record, REPAIR_SLAB, 0, 0 },
	{ "a state block's entry lost", lose_block_entry, REPAIR_STATE_BLOCK, 0, 0 },
	{ "a state block's first bytes", lose_block_head, REPAIR_STATE_BLOCK, 0, 0 },
	{ "a state block lost", lose_block, REPAIR_SLAB_LOST, 0, 60 },
	{ "a state word of no kind", strange_state, REPAIR_KEPT, 0, 0 },
	{ "a state word of a strange client", strange_owner, ANY, 0, 0 },
	{ "a named object's state word", state_of_named, REPAIR_PUBLISHED, 0, 0 },
	{ "a named object's state word wiped", wipe_state_of_named, REPAIR_PUBLISHED, 0, 0 },
	{ "a large object of no kind", large_of_no_kind, REPAIR_LARGE, 0, 0 },
	{ "a large object of no file", large_of_no_file, REPAIR_MAPPED_LOST, 0, 0 },
	{ "a large object that says raw", large_turned_raw, REPAIR_LARGE, 0, 0 },
	{ "a large object over others", large_over_others, ANY, 0, 0 },
	{ "a piece of a large object lost", lose_piece, ANY, 0, 0 },
	{ "an entry inside a large object", stray_in_large, ANY, 0, 0 },
	{ "a single object's entry lost", lose_single, REPAIR_SLAB, 0, 0 },
	{ "a single object of another class", single_of_another_class, REPAIR_SLAB, 0, 0 },
	{ "a single object's record free", free_single_record, REPAIR_SLAB, 0, 0 },
	{ "a single object's record nonsense", strange_single_record, REPAIR_SLAB, 0, 0 },
	{ "entries inside a single object", stray_in_single, ANY, 0, 0 },
	{ "a named single object's state word", state_of_named_single, REPAIR_PUBLISHED, 0, 0 },
	{ "a name of no state", name_of_no_state, REPAIR_NAME, 0, 0 },
	{ "a name's word lost", lose_name_word, REPAIR_NAME, 0, 0 },
	{ "a name lost", lose_name, REPAIR_UNNAMED, 0, 1 },
	{ "a name's entry nonsense", name_without_object, REPAIR_UNNAMED, 0, 1 },
	{ "a name's handle of another generation", other_generation, REPAIR_NAME, 0, 0 },
	{ "names out of nothing", strange_names, REPAIR_NAME_DROPPED, 0, 0 },
	{ "slots of clients and threads", strange_slots, ANY, 0, 0 },
	{ "the ring's header", break_ring_header, REPAIR_LOG, 0, 0 },
	{ "words of the ring's blocks", break_ring_words, REPAIR_LOG_LOST, 0, 0 },
	{ "log records", break_records, REPAIR_LOG_LOST, 0, 0 },
	{ "a large log record's entry", lose_log_entry, REPAIR_LOG, 0, 0 },
	{ "a large log record's extent", lose_log_extent, REPAIR_LOG_LOST, 0, 0 },
	{ "the last page cut off", cut_last_page, REPAIR_LENGTH, 0, 0 },
	{ "cut off inside the heap", cut_heap, REPAIR_CUT_OFF, 0, 150 },
	{ "cut off inside the log", cut_in_ring, REPAIR_LENGTH, 0, STAGE_KNOWN },
	{ "cut off inside the page map", cut_page_map, REPAIR_CUT_SHORT, -EUCLEAN, STAGE_KNOWN },
	{ "cut off to nothing", cut_to_nothing, REPAIR_NO_HEADER, -EUCLEAN, STAGE_KNOWN },
};

#define DAMAGES ((int)LENGTH(damages))

/* Maps the copy to be cut up, whatever locks and clients it names. */
static void operate(void (*do_it)(void))
{
	struct arena_files files = { -1, -1, -1 };

	files.fd = stage_copy();
	ck_assert_int_ge(files.fd, 0);
	ck_assert_int_eq(arena_map_files(&a, files, &stage.g, false), 0);
	arena_refresh(&a);
	do_it();
	arena_unmap(&a);
}

static uint32_t count_hurt(bool talk)
{
	uint32_t hurt = 0;
	shma *s;

	ck_assert_int_eq(shma_open(&s, stage.name, SHMA_EMBEDDED, NULL), 0);
	for (uint32_t i = 0; i < STAGE_KNOWN; i++) {
		enum stage_fate fate = stage_fate(s, i);

		ck_assert_msg(fate != STAGE_WRONG, "object %u has other contents", i);
		hurt += fate != STAGE_WHOLE;
		if (fate != STAGE_WHOLE && talk)
			printf("  object %u, %s: hurt\n", i, stage.known->objects[i].name);
	}
	ck_assert_int_eq(shma_close(s), 0);
	return hurt;
}

START_TEST(each_damage_is_told_and_repaired_or_refused)
{
	const struct damage *d = &damages[_i];
	struct stage_verdict v = { .talk = true };
	const char *wrong;
	uint32_t hurt;

	printf("%s\n", d->how);
	operate(d->do_it);
	stage_repair(&v);
	ck_assert_msg(v.result == d->result, "%s: %d, not %d", d->how, v.result, d->result);
	ck_assert_msg(d->what == ANY || v.seen[d->what], "%s: nothing is told of %s", d->how,
		      d->what == ANY ? "" : repair_key(d->what));
	if (v.result)
		return;
	ck_assert_int_eq(stage_check(), 0);
	hurt = count_hurt(d->hurt == 0);
	ck_assert_msg(hurt <= d->hurt, "%s: %u objects hurt", d->how, hurt);
	wrong = stage_works();
	ck_assert_msg(!wrong, "%s: %s", d->how, wrong);
}
END_TEST

START_TEST(a_sound_arena_keeps_all_that_outlives_its_maker)
{
	struct stage_verdict v = { .talk = true };

	operate(nothing);
	stage_repair(&v);
	ck_assert_int_eq(v.result, 0);
	ck_assert_uint_eq(v.sum.kept_objects, STAGE_KNOWN);
	ck_assert_uint_ge(v.sum.returned_objects, STAGE_SMALL);
	ck_assert_uint_eq(v.sum.lost_objects, 0);
	ck_assert_uint_eq(v.sum.lost_records, 0);
	/* But for the life file, which a copy does not have. */
	ck_assert_uint_eq(v.sum.repaired, v.seen[REPAIR_LIFE]);
	stage_repair(&v);
	ck_assert_int_eq(v.result, 0);
	ck_assert_uint_eq(v.sum.repaired, 0);
	ck_assert_uint_eq(v.sum.returned_objects, 0);
}
END_TEST

START_TEST(the_log_is_readable_after_a_repair)
{
	struct stage_verdict v = { .talk = true };
	struct shma_reader *reader;
	struct shma_record record;
	uint32_t small = 0, large = 0;
	shma *s;

	operate(nothing);
	stage_repair(&v);
	ck_assert_int_eq(shma_open(&s, stage.name, SHMA_EMBEDDED, NULL), 0);
	ck_assert_int_eq(shma_reader_open(s, &reader, SHMA_FROM_OLDEST), 0);
	while (shma_reader_next(reader, &record, 0) == 1) {
		large += record.len >= 20000;
		small += record.len > 6 && memcmp(record.data, "record", 6) == 0;
	}
	shma_reader_close(reader);
	ck_assert_int_eq(shma_close(s), 0);
	ck_assert_uint_eq(small, STAGE_LOGGED);
	ck_assert_uint_eq(large, 3);
}
END_TEST

/* ---- being alone ---- */

static struct board *board;

static int attach_and_rest(void *unused)
{
	shma *s;

	(void)unused;
	if (shma_open(&s, stage.name, SHMA_EMBEDDED, NULL) || !shma_alloc(s, 100, 0))
		return 1;
	rest(board);
	return 0;
}

START_TEST(it_is_refused_while_a_client_lives_even_a_stopped_one)
{
	struct stage_verdict v = { .talk = true };
	pid_t pid;

	operate(nothing);
	stage_repair(&v); /* makes the life file */
	board = board_new();
	pid = child_start(attach_and_rest, NULL);
	child_ready(board, pid, 1);
	stage_repair(&v);
	ck_assert_int_eq(v.result, -EBUSY);
	ck_assert_uint_eq(v.seen[REPAIR_ATTACHED], 1);
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	ck_assert(child_stopped(pid));
	stage_repair(&v);
	ck_assert_int_eq(v.result, -EBUSY);
	child_kill(pid);
	stage_repair(&v);
	ck_assert_int_eq(v.result, 0);
	ck_assert_uint_ge(v.sum.returned_objects, 1);
}
END_TEST

static int lose_lock_and_rest(void *unused)
{
	shma *s;

	(void)unused;
	if (shma_open(&s, stage.name, SHMA_EMBEDDED, NULL) || !shma_alloc(s, 100, 0))
		return 1;
	closefrom(3);
	rest(board);
	return 0;
}

START_TEST(it_is_refused_while_a_client_lives_that_lost_its_lock)
{
	struct stage_verdict v = { .talk = true };
	pid_t pid;

	operate(nothing);
	stage_repair(&v);
	board = board_new();
	pid = child_start(lose_lock_and_rest, NULL);
	child_ready(board, pid, 1);
	stage_repair(&v);
	ck_assert_int_eq(v.result, -EBUSY);
	child_kill(pid);
	stage_repair(&v);
	ck_assert_int_eq(v.result, 0);
}
END_TEST

/* ---- chance ---- */

static void flip_bytes(int fd)
{
	for (uint64_t n = 1 + heap_below(64); n > 0; n--) {
		uint64_t at = stage.targets[heap_below(stage.target_count)] + heap_below(PAGE_SIZE);
		unsigned char byte = (unsigned char)heap_random();

		if (pwrite(fd, &byte, 1, (off_t)at) != 1)
			abort();
	}
}

static void flip_bits(int fd)
{
	for (uint64_t n = 1 + heap_below(64); n > 0; n--) {
		uint64_t at = stage.targets[heap_below(stage.target_count)] + heap_below(PAGE_SIZE);
		unsigned char byte = 0;

		if (pread(fd, &byte, 1, (off_t)at) != 1)
			continue;
		byte ^= (unsigned char)(1u << heap_below(8));
		if (pwrite(fd, &byte, 1, (off_t)at) != 1)
			abort();
	}
}

static void change_words(int fd)
{
	for (uint64_t n = 1 + heap_below(24); n > 0; n--) {
		uint64_t at = stage.targets[heap_below(stage.target_count)] + 8 * heap_below(512);
		uint64_t word = heap_below(3) ? heap_below(4096) : heap_random();

		if (pwrite(fd, &word, 8, (off_t)at) != 8)
			abort();
	}
}

static void cut_anywhere(int fd)
{
	uint64_t from = heap_below(8) ? stage.g.ring : 0;

	if (ftruncate(fd, (off_t)(from + heap_below(stage.size - from))) < 0)
		abort();
}

static void fill_pages(int fd, int value)
{
	char page[PAGE_SIZE];

	for (uint64_t n = 1 + heap_below(6); n > 0; n--) {
		uint64_t at = stage.targets[heap_below(stage.target_count)];

		for (size_t i = 0; i < sizeof(page); i++)
			page[i] = (char)(value < 0 ? (int)heap_random() : value);
		if (at && pwrite(fd, page, sizeof(page), (off_t)at) != (ssize_t)sizeof(page))
			abort();
	}
}

static void zero_pages(int fd)
{
	fill_pages(fd, 0);
}

static void overwrite_pages(int fd)
{
	fill_pages(fd, -1);
}

static void punch_pages(int fd)
{
	for (uint64_t n = 1 + heap_below(10); n > 0; n--) {
		uint64_t at = stage.targets[heap_below(stage.target_count)];

		if (at)
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at,
				  PAGE_SIZE);
	}
}

/* Pages of the same part of the arena changed for each other. */
static void mix_pages(int fd)
{
	char page[PAGE_SIZE];

	for (size_t i = 0; i < stage.target_count; i++) {
		uint64_t at = stage.targets[heap_below(stage.target_count)], other;

		other = stage.targets[heap_below(stage.target_count)];
		if (heap_below(12) || !at || !other ||
		    (at < stage.g.page_map) != (other < stage.g.page_map) ||
		    (at < stage.g.heap) != (other < stage.g.heap))
			continue;
		if (pread(fd, page, sizeof(page), (off_t)other) != (ssize_t)sizeof(page) ||
		    pwrite(fd, page, sizeof(page), (off_t)at) != (ssize_t)sizeof(page))
			abort();
	}
}

/* A power cut: some pages are as they were half-way, the others as they are. */
static void cut_power(int fd)
{
	uint64_t share = 2 + heap_below(20);
	char page[PAGE_SIZE];

	for (size_t i = 0; i < stage.target_count; i++) {
		off_t at = (off_t)stage.targets[i];

		if (heap_below(share))
			continue;
		if (pread(stage.young, page, sizeof(page), at) != (ssize_t)sizeof(page) ||
		    pwrite(fd, page, sizeof(page), at) != (ssize_t)sizeof(page))
			abort();
	}
}

static const struct chance {
	const char *how;
	void (*do_it)(int fd);
	bool header; /* may make the arena one that is refused */
} chances[] = {
	{ "bytes", flip_bytes, true },	   { "bits", flip_bits, true },
	{ "words", change_words, true },   { "length", cut_anywhere, true },
	{ "zeros", zero_pages, false },	   { "nonsense", overwrite_pages, false },
	{ "holes", punch_pages, false },   { "other pages", mix_pages, false },
	{ "power cut", cut_power, false },
};

#define SEEDS 630u

/* One damage, repair and judgement; what is wrong, or NULL. */
static const char *try_luck(uint64_t seed, const struct chance *chance, bool talk)
{
	struct stage_verdict v = { .talk = talk };
	const char *wrong;
	uint32_t words = 0;
	shma *s;
	int fd;

	heap_reseed(seed);
	fd = stage_copy();
	if (fd < 0)
		return "no copy";
	chance->do_it(fd);
	close(fd);
	stage_repair(&v);
	for (uint32_t what = 0; what < REPAIR_WHATS; what++)
		words += v.seen[what];
	if (v.result && v.result != -EPROTO && v.result != -EXDEV && v.result != -EUCLEAN)
		return strerror(-v.result);
	if (v.result)
		return v.seen[REPAIR_STILL]		? "not whole after the repair"
		       : !chance->header		? "refused"
		       : v.result == -EUCLEAN && !words ? "refused without a word"
							: NULL;
	if (stage_check())
		return "the check afterwards is not clean";
	if (shma_open(&s, stage.name, SHMA_EMBEDDED, NULL))
		return "it cannot be opened";
	wrong = NULL;
	for (uint32_t i = 0; i < STAGE_KNOWN; i++)
		if (stage_fate(s, i) == STAGE_WRONG)
			wrong = "an object has other contents";
	shma_close(s);
	return wrong ? wrong : stage_works();
}

struct luck {
	const struct chance *chance;
	uint64_t first;
	uint32_t seeds;
};

/* In a process of its own, whose death by a signal is seen. */
static int try_seeds(void *arg)
{
	const struct luck *l = arg;

	for (uint32_t i = 0; i < l->seeds; i++) {
		const char *wrong;

		atomic_store(&board->count, l->first + i);
		wrong = try_luck(l->first + i, l->chance, false);
		if (!wrong)
			continue;
		printf("%s, SHMA_TEST_SEED=%llu: %s\n", l->chance->how, (unsigned long long)(l->first + i),
		       wrong);
		try_luck(l->first + i, l->chance, true);
		fflush(stdout);
		return 1;
	}
	return 0;
}

START_TEST(chance_damage_is_repaired_or_refused_and_never_a_signal)
{
	struct luck l = { .chance = &chances[_i],
			  .first = test_seed(chances[_i].how),
			  .seeds = SEEDS / (uint32_t)LENGTH(chances) };
	int status;
	pid_t pid;

	board = board_new();
	pid = child_start(try_seeds, &l);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(status == 0, "%s, SHMA_TEST_SEED=%llu: wait status %#x", l.chance->how,
		      (unsigned long long)atomic_load(&board->count), status);
}
END_TEST

/* ---- killed in the middle ---- */

static int repair_slowly(void *arg)
{
	struct stage_verdict v = { .talk = false };

	atomic_store(&board->ready, 1);
	stage_repair(&v);
	(void)arg;
	return v.result == 0 ? 0 : 1;
}

START_TEST(a_killed_repair_is_done_again_by_the_next)
{
	struct stage_verdict v = { .talk = false };
	uint32_t cut_short = 0;

	heap_seed("killed repair");
	for (uint32_t i = 0; i < 40; i++) {
		uint32_t before;
		int status, fd = stage_copy();
		pid_t pid;

		ck_assert_int_ge(fd, 0);
		change_words(fd);
		close(fd);
		board = board_new();
		pid = child_start(repair_slowly, NULL);
		child_ready(board, pid, 1);
		usleep((useconds_t)heap_below(3000));
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		cut_short += WIFSIGNALED(status);
		before = (uint32_t)i;
		stage_repair(&v);
		ck_assert_msg(v.result == 0 || v.seen[REPAIR_NO_HEADER], "round %u: %d", before,
			      v.result);
		if (v.result == 0)
			ck_assert_int_eq(stage_check(), 0);
		munmap(board, sizeof(*board));
	}
	printf("%u of 40 killed before the end\n", cut_short);
}
END_TEST

static void end_copy(void)
{
	unlink(stage.path);
	unlink(stage.life);
}

int main(void)
{
	Suite *suite = suite_create("repair");
	TCase *tc = tcase_create("repair");
	int failed;

	stage_begin();
	tcase_add_checked_fixture(tc, NULL, end_copy);
	tcase_add_loop_test(tc, each_damage_is_told_and_repaired_or_refused, 0, DAMAGES);
	tcase_add_test(tc, a_sound_arena_keeps_all_that_outlives_its_maker);
	tcase_add_test(tc, the_log_is_readable_after_a_repair);
	tcase_add_test(tc, it_is_refused_while_a_client_lives_even_a_stopped_one);
	tcase_add_test(tc, it_is_refused_while_a_client_lives_that_lost_its_lock);
	tcase_add_loop_test(tc, chance_damage_is_repaired_or_refused_and_never_a_signal, 0,
			    (int)LENGTH(chances));
	tcase_add_test(tc, a_killed_repair_is_done_again_by_the_next);
	suite_add_tcase(suite, tc);
	failed = run_suite(suite);
	stage_end();
	return failed;
}
