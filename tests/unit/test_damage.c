/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that another process can write, spoilt by chance: whatever they say, no call may fault or go on for ever. What
 * else it does, it may do wrong: such an arena is lost, but not the process that is attached to it.
 *
 * Each round is a process of its own, so that a fault is seen and the next round begins whole. A thread's own block,
 * with the caches that only it writes, and the words of the C library's locks are left alone: what is done with those
 * has no room for a doubt.
 */
#include <sys/resource.h>

#include "heap.h"
#include "hint.h"
#include "names.h"
#include "object.h"
#include "purge.h"
#include "quota.h"
#include "record.h"
#include "shmalloc.h"
#include "slab.h"

#define CAPACITY	MIB(16)
#define HELD		256
#define ROUNDS		120  /* a second or two */
#define PROCESSOR_SECONDS 30 /* of a round, which takes some milliseconds */
#define PATIENCE_SECONDS  300
#define OVERWRITTEN	  3

static shma *heap;
static shma_handle held[HELD];
static uint64_t own_block; /* file offset */

/* ---- work ---- */

static size_t any_size(void)
{
	switch (heap_below(8)) {
	case 0: return 1 + heap_below(200000);
	case 1: return 1 + heap_below(3 << 20);
	case 2: return 1 + heap_below(40000);
	default: return 1 + heap_below(2000);
	}
}

static unsigned any_flags(void)
{
	static const unsigned flags[] = {0, 0, 0, SHMA_ZERO, SHMA_SHARED, SHMA_PERSIST, SHMA_LARGE, SHMA_ALIGN(8192)};

	return flags[heap_below(LENGTH(flags))];
}

static void any_name(char name[16])
{
	snprintf(name, 16, "name %d", (int)heap_below(12));
}

static void get_one(shma_handle *h)
{
	if (!heap_below(8))
		shma_map_file(heap, "/proc/self/exe", h, NULL);
	else if (heap_below(3))
		*h = shma_alloc(heap, any_size(), any_flags());
	else
		shma_alloc_ptr(heap, any_size(), any_flags(), h);
}

/* Where the object is that a pointer may be given back for, by whoever trusts it to be live. */
static void put_one(shma_handle *h)
{
	void *p = heap_below(4) ? NULL : shma_ptr(heap, *h);

	if (p)
		shma_free_ptr(heap, p);
	else
		shma_free(heap, *h);
	*h = SHMA_NULL;
}

static void look_at_one(shma_handle h)
{
	static char copy[4096];
	void *p = shma_ptr(heap, h);

	shma_size(heap, h);
	shma_read(heap, h, heap_below(2) ? 0 : any_size(), copy, sizeof(copy));
	if (p)
		shma_handle_of(heap, p);
	object_containing(&heap->arena, heap_below(CAPACITY));
}

static void change_one(shma_handle *h)
{
	shma_handle moved;

	switch (heap_below(4)) {
	case 0: shma_share(heap, *h); break;
	case 1: shma_take(heap, *h); break;
	case 2: shma_persist(heap, *h, shma_ptr(heap, held[heap_below(HELD)])); break;
	default:
		moved = shma_resize(heap, *h, any_size());
		*h = moved ? moved : *h;
	}
}

static void name_one(shma_handle h)
{
	char name[16];

	any_name(name);
	switch (heap_below(3)) {
	case 0: shma_publish(heap, name, h); break;
	case 1: shma_unpublish(heap, name); break;
	default: shma_lookup(heap, name);
	}
}

static void work(int calls)
{
	while (calls-- > 0) {
		shma_handle *h = &held[heap_below(HELD)];

		switch (heap_below(10)) {
		case 0: look_at_one(*h); break;
		case 1: change_one(h); break;
		case 2: name_one(*h); break;
		case 3: shma_log(heap, 6, "%d calls to go", calls); break;
		default: *h ? put_one(h) : get_one(h);
		}
	}
}

/* A client that goes the way most go here. */
static int work_and_die(void *arg)
{
	(void)arg;
	memset(held, 0, sizeof(held));
	work(300);
	die();
	return 1;
}

static void ignore(void *context, const struct audit_finding *f)
{
	(void)context;
	(void)f;
}

static void look_at_all(void)
{
	struct shma_stats st;

	shma_stats(heap, &st);
	audit_arena(&heap->arena, false, ignore, NULL);
	names_valid(&heap->arena);
}

static void give_memory_back(void)
{
	static struct purge p;

	memset(&p, 0, sizeof(p));
	purge_round(&p, &heap->arena);
	purge_round(&p, &heap->arena);
}

static void *be_a_thread(void *arg)
{
	work(60);
	return arg;
}

/* Each of the ways into the heap, from where its words are as they are. */
static void do_everything(void)
{
	pthread_t thread;

	work(200);
	look_at_all();
	recovery_reap_all(&heap->arena);
	if (pthread_create(&thread, NULL, be_a_thread, NULL) == 0)
		pthread_join(thread, NULL);
	give_memory_back();
	work(200);
}

/* ---- damage ---- */

struct part {
	uint64_t at, bytes; /* in the file */
};

static uint64_t page_at(uint64_t page)
{
	return heap->arena.g.page_map + page * sizeof(struct page_entry);
}

/* A page of some kind, of those that are in use; the first one if there is none where we look. */
static uint64_t any_page(enum page_kind kind, uint32_t class)
{
	uint64_t known = atomic_load(&heap->arena.pages_known), start = heap_below(known);

	for (uint64_t i = 0; i < known; i++) {
		uint64_t page = (start + i) % known, w0 = atomic_load(&heap->arena.pages[page].w0);

		if (pw0_kind(w0) == kind && (!class || pw0_class(w0) == class))
			return page;
	}
	return 0;
}

static struct part any_entry(void)
{
	static const enum page_kind kinds[] = {PAGE_SLAB, PAGE_SLAB, PAGE_LARGE, PAGE_RAW, PAGE_STATE, PAGE_SPAN,
					       PAGE_MAPPED};
	uint64_t known = atomic_load(&heap->arena.pages_known);
	uint64_t page = heap_below(4) ? any_page(kinds[heap_below(LENGTH(kinds))], 0) : heap_below(known);

	return (struct part){page_at(page), sizeof(struct page_entry)};
}

static struct part any_state(void)
{
	uint64_t page = any_page(PAGE_STATE, 0);

	return (struct part){heap->arena.g.heap + (page << PAGE_SHIFT), PAGE_SIZE};
}

static struct part any_zone(void)
{
	const struct arena_geometry *g = &heap->arena.g;
	uint64_t zone = heap_below(2) ? heap_below(2) : heap_below(g->zone_count);

	if (heap_below(3))
		return (struct part){g->zone_indexes + zone * g->zone_index_size, g->zone_index_size};
	return (struct part){g->zones + zone * sizeof(struct zone) + offsetof(struct zone, high),
			     sizeof(struct zone) - offsetof(struct zone, high)};
}

static struct part any_client(void)
{
	const struct arena_geometry *g = &heap->arena.g;
	uint64_t client = 1 + heap_below(3);

	switch (heap_below(3)) {
	case 0: return (struct part){g->client_words + client * 8, 8};
	case 1: return (struct part){g->thread_words, 4 * 8};
	default:
		return (struct part){g->client_areas + client * g->client_area_size,
				     geometry_mark_leaf(g) + 64};
	}
}

static struct part any_named(void)
{
	const struct arena_geometry *g = &heap->arena.g;
	uint64_t first = heap_below(NAMES_MAX);

	for (uint64_t i = 0; i < NAMES_MAX; i++) {
		uint64_t n = (first + i) % NAMES_MAX;

		if (name_word_state(atomic_load((_Atomic uint64_t *)(heap->arena.base + g->name_words) + n)) ==
		    NAME_FREE)
			continue;
		return heap_below(2) ? (struct part){g->name_words + n * 8, 8}
				     : (struct part){g->name_entries + n * sizeof(struct name_entry),
						     sizeof(struct name_entry)};
	}
	return (struct part){g->name_words, 8};
}

static struct part any_part(void)
{
	const struct arena_geometry *g = &heap->arena.g;

	switch (heap_below(12)) {
	case 0:
	case 1:
	case 2:
	case 3: return any_entry();
	case 4:
	case 5:
	case 6: return any_state();
	case 7: return any_zone();
	case 8: return any_client();
	case 9: return any_named();
	case 10: /* a thread's block; of the dead, or it is left alone */
		return (struct part){g->heap + (any_page(PAGE_RAW, RAW_THREAD) << PAGE_SHIFT), PAGE_SIZE};
	default:
		return heap_below(2) ? (struct part){g->class_hints, g->class_hint_words * 8 * HINT_ROWS}
				     : (struct part){offsetof(struct arena_header, active_zones),
						     offsetof(struct arena_header, boot_id) -
							     offsetof(struct arena_header, active_zones)};
	}
}

/* Of the living: only the thread itself writes into its block. */
static bool in_own_block(uint64_t at)
{
	uint64_t w0;

	if (at < heap->arena.g.heap)
		return false;
	w0 = atomic_load(&heap->arena.pages[(at - heap->arena.g.heap) >> PAGE_SHIFT].w0);
	return at - at % PAGE_SIZE == own_block || (pw0_kind(w0) == PAGE_RAW && pw0_class(w0) == RAW_THREAD &&
						    pw0_client(w0) == heap->arena.client);
}

/* One word: a bit of it, another word of its kind, or anything. */
static void spoil(void)
{
	struct part p = any_part();
	uint64_t words = p.bytes / 8, at = p.at + heap_below(words) * 8;
	_Atomic uint64_t *word = (_Atomic uint64_t *)(heap->arena.base + at);

	if (in_own_block(at))
		return;
	switch (heap_below(8)) {
	case 0: atomic_store(word, heap_random()); break;
	case 1: atomic_store(word, heap_below(2) ? 0 : heap_random() >> heap_below(64)); break;
	case 2: atomic_store(word, atomic_load((_Atomic uint64_t *)(heap->arena.base + p.at) + heap_below(words))); break;
	default: atomic_fetch_xor(word, UINT64_C(1) << heap_below(64));
	}
}

/* ---- rounds ---- */

static bool is_whole(const struct cache *c)
{
	uint64_t next = atomic_load(&c->next);

	return c->slots <= CAPACITY && c->capacity <= (CAPACITY - c->slots) / 8 && c->slots % 8 == 0 &&
	       next % 8 == 0 && next >= c->slots && next <= c->end && c->end <= c->slots + c->capacity * 8;
}

/* Whether a thread's own block is what only that thread makes of it. */
static bool block_is_whole(const struct thread_block *t)
{
	bool whole = t->tid == gettid() && t->index < THREADS_MAX &&
		     t->own == state_make(OBJECT_PRIVATE, heap->arena.client, 0);

	for (uint32_t i = 0; i < CACHES; i++)
		whole = whole && is_whole(&t->caches[i]);
	return whole;
}

/* The page of the block may come to be given to an object, where the page map was spoilt. What that leads to is
 * not what is asked here. */
static void on_fault(int signal_number)
{
	const struct thread_block *t = heap ? thread_peek(&heap->arena) : NULL;

	if (t && !block_is_whole(t))
		_exit(OVERWRITTEN);
	signal(signal_number, SIG_DFL); /* and once more */
}

/* Sanitizers see a wrong pointer before it is used: they are to end by a signal, too. */
__attribute__((visibility("default"))) const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
	return "abort_on_error=1";
}

__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "abort_on_error=1";
}

static int live_with_damage(void *arg)
{
	struct rlimit limit = {PROCESSOR_SECONDS, PROCESSOR_SECONDS + 1};
	int err = 0;

	heap_reseed(*(uint64_t *)arg);
	setrlimit(RLIMIT_CPU, &limit);
	alarm(PATIENCE_SECONDS);
	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
	signal(SIGABRT, on_fault);
	heap = heap_open(CAPACITY, heap_below(2) ? 0 : CAPACITY / 2);
	work(400);
	own_block = (uint64_t)((char *)thread_self(&heap->arena, &err) - heap->arena.base);
	child_dies(child_start(work_and_die, NULL));
	for (int burst = 0; burst < 4; burst++) {
		for (uint64_t n = 1 + heap_below(8) * heap_below(8); n > 0; n--)
			spoil();
		do_everything();
	}
	shma_close(heap);
	return 0;
}

START_TEST(no_damage_makes_a_call_fault_or_go_on_for_ever)
{
	const char *given = getenv("DAMAGE_ROUNDS");
	uint64_t first = test_seed("no_damage_makes_a_call_fault_or_go_on_for_ever");
	int rounds = given ? atoi(given) : ROUNDS, overwritten = 0;

	for (int i = 0; i < rounds; i++) {
		uint64_t seed = first + (uint64_t)i;
		int status;
		pid_t pid = child_start(live_with_damage, &seed);

		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == OVERWRITTEN) {
			overwritten++;
			continue;
		}
		ck_assert_msg(status == 0, "DAMAGE_ROUNDS=1 SHMA_TEST_SEED=%llu: wait status %#x",
			      (unsigned long long)seed, status);
	}
	printf("%d rounds, %d ended by an object over a thread's block\n", rounds, overwritten);
	ck_assert_int_le(overwritten, 1 + rounds / 4);
}
END_TEST

/* ---- one word each ---- */

static void setup(void)
{
	heap = heap_open(CAPACITY, 0);
}

static void teardown(void)
{
	heap_close(heap);
}

static struct page_entry *entry_of(shma_handle h)
{
	return &heap->arena.pages[handle_offset(h) >> PAGE_SHIFT];
}

static shma_handle pages[CAPACITY / PAGE_SIZE];

/* Takes all pages but the last ones; how many objects. */
static uint32_t leave_the_last_pages(uint64_t count)
{
	uint64_t end = geometry_heap_pages(&heap->arena.g) - count;
	shma_handle h, kept[2] = {SHMA_NULL};
	uint32_t n = 0;

	while ((h = shma_alloc(heap, PAGE_SIZE, SHMA_LARGE)) != SHMA_NULL) {
		uint64_t page = handle_offset(h) >> PAGE_SHIFT;

		*(page >= end ? &kept[page - end] : &pages[n++]) = h;
	}
	for (uint64_t i = 0; i < count; i++)
		ck_assert_int_eq(shma_free(heap, kept[i]), 0);
	return n;
}

START_TEST(a_thread_word_that_leads_nowhere_counts_for_nothing)
{
	_Atomic uint64_t *word = (_Atomic uint64_t *)(heap->arena.base + heap->arena.g.thread_words);
	shma_handle h = shma_alloc(heap, 100, 0);
	uint64_t good = atomic_load(word);

	heap->arena.header->client_quota = MIB(8);
	ck_assert_uint_eq(thread_word_state(good), THREAD_LIVE);
	for (int bit = THREAD_PAGE_SHIFT; bit < 49; bit++) {
		atomic_store(word, good ^ UINT64_C(1) << bit);
		ck_assert_uint_eq(quota_allows(&heap->arena, 16, 1), 1);
	}
	atomic_store(word, good);
	heap->arena.header->client_quota = 0;
	ck_assert_int_eq(shma_free(heap, h), 0);
}
END_TEST

START_TEST(a_large_object_longer_than_the_heap_is_none)
{
	shma_handle h = shma_alloc(heap, 3 * PAGE_SIZE, SHMA_LARGE);
	_Atomic uint64_t *w1 = &entry_of(h)->w1;
	uint64_t good = atomic_load(w1);
	char byte;

	ck_assert_uint_eq(pw1_length(good), 3);
	for (int bit = 12; bit < PW1_LENGTH_BITS; bit++) {
		atomic_store(w1, good ^ UINT64_C(1) << bit);
		ck_assert_uint_eq(shma_size(heap, h), 0);
		ck_assert_int_eq(errno, ESTALE);
		ck_assert_int_eq(shma_read(heap, h, CAPACITY, &byte, 1), -ESTALE);
		ck_assert_uint_eq(shma_resize(heap, h, CAPACITY / 2), SHMA_NULL);
		ck_assert_int_eq(shma_free(heap, h), -ESTALE);
	}
	atomic_store(w1, good);
	ck_assert_int_eq(shma_free(heap, h), 0);
}
END_TEST

START_TEST(a_state_block_that_ends_behind_the_heap_has_no_records)
{
	uint32_t shape = SHAPES, n = leave_the_last_pages(1);
	uint64_t last = geometry_heap_pages(&heap->arena.g) - 1;
	_Atomic uint64_t *w0 = &heap->arena.pages[last].w0;
	uint64_t good = atomic_load(w0);
	int err = 0;

	ck_assert_uint_eq(shape_block_pages(shape), 2);
	atomic_store(w0, pw0_make(PAGE_STATE, 0, 0, shape));
	hint_set(&heap->arena, hint_row_of_shape(shape), last);
	ck_assert_uint_eq(record_alloc(&heap->arena, shape, &err), 0);
	ck_assert_int_eq(err, -ENOMEM);
	atomic_store(w0, good);
	while (n)
		ck_assert_int_eq(shma_free(heap, pages[--n]), 0);
}
END_TEST

/* Its page says that it is the only one of the largest class. */
START_TEST(an_object_that_ends_behind_the_heap_is_not_filled_with_zeros)
{
	shma_handle one = shma_alloc(heap, PAGE_SIZE, 0), many = shma_alloc(heap, MIB(1), 0), h;
	uint32_t n = leave_the_last_pages(2); /* one for the cache's array */
	_Atomic uint64_t *w1;
	uint64_t good;

	h = shma_alloc(heap, PAGE_SIZE, 0);
	ck_assert_uint_eq(handle_offset(h) + PAGE_SIZE, heap->arena.g.capacity);
	ck_assert_int_eq(shma_free(heap, many), 0); /* room for another array */
	w1 = &entry_of(h)->w1;
	good = atomic_load(w1);
	atomic_store(w1, pw1_slab(0, pw1_record(good), CLASSES - 1));
	shma_free(heap, h);
	for (int i = 0; i < 3; i++)
		shma_alloc(heap, MIB(1), SHMA_ZERO);
	_exit(one && n ? 0 : 1); /* nothing is right any more */
}
END_TEST

int main(void)
{
	Suite *s = suite_create("damage");
	TCase *chance = tcase_create("chance"), *single = tcase_create("single words");

	tcase_set_timeout(chance, getenv("DAMAGE_ROUNDS") ? 0 : 60);
	tcase_add_test(chance, no_damage_makes_a_call_fault_or_go_on_for_ever);
	suite_add_tcase(s, chance);
	tcase_add_checked_fixture(single, setup, teardown);
	tcase_add_test(single, a_thread_word_that_leads_nowhere_counts_for_nothing);
	tcase_add_test(single, a_large_object_longer_than_the_heap_is_none);
	tcase_add_test(single, a_state_block_that_ends_behind_the_heap_has_no_records);
	tcase_add_test(single, an_object_that_ends_behind_the_heap_is_not_filled_with_zeros);
	suite_add_tcase(s, single);
	return run_suite(s);
}
