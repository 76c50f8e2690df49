/* SPDX-License-Identifier: Apache-2.0 */
/* Debug arenas: what lies around an object, what is found, when, and what is told of it. */
#define SHMA_DEBUG_CALLS
#include "heap.h"

#include "debug_object.h"
#include "debug_report.h"
#include "extent.h"

static shma *heap;

static shma *open_debug(int mode, uint32_t every)
{
	struct shma_options opt = { .struct_size = sizeof(opt), .capacity = MIB(32), .log_capacity = 65536,
				    .debug = mode, .debug_every = every };
	char name[64], path[128];
	shma *s;

	snprintf(name, sizeof(name), "test-debug-%d", (int)getpid());
	ck_assert_int_eq(arena_path(path, sizeof(path), name), 0);
	ck_assert_int_eq(shma_open(&s, name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &opt), 0);
	ck_assert_int_eq(arena_unlink(path), 0);
	return s;
}

static void setup(void)
{
	heap = open_debug(SHMA_DEBUG_FULL, 0);
}

static void teardown(void)
{
	heap_close(heap);
}

static void note_what(void *context, const struct audit_finding *f)
{
	*(enum audit_what *)context = f->what;
}

/* The one thing that the check says. */
static void assert_found(enum audit_what what)
{
	enum audit_what seen = AUDIT_WHATS;

	ck_assert_int_eq(audit_arena(&heap->arena, false, note_what, &seen), 1);
	ck_assert_str_eq(audit_key(seen), audit_key(what));
}

/* The last report, after so many in all. */
static struct shma_debug_report last_of(uint32_t reports)
{
	struct shma_debug_report r = { 0 };
	uint64_t cursor = 0;
	uint32_t n = 0;

	while (shma_debug_report(heap, &cursor, &r) == 1)
		n++;
	ck_assert_uint_eq(n, reports);
	return r;
}

static void assert_where(const struct shma_debug_point *p, int line)
{
	char expected[32];

	snprintf(expected, sizeof(expected), "test_debug.c:%d", line);
	ck_assert_msg(strstr(p->where, expected), "%s instead of %s", p->where, expected);
	ck_assert_int_eq(p->pid, getpid());
	ck_assert_uint_gt(p->time_ns, 0);
}

START_TEST(an_object_is_of_the_size_asked_for_and_aligned)
{
	for (size_t size = 1; size < 200000; size = size * 5 / 3 + 1) {
		shma_handle h = shma_alloc(heap, size, SHMA_ZERO);
		unsigned char *p = shma_ptr(heap, h);

		ck_assert_ptr_nonnull(p);
		ck_assert_uint_eq((uintptr_t)p % 16, 0);
		ck_assert_uint_eq(shma_size(heap, h), size);
		ck_assert_uint_eq(shma_handle_of(heap, p), h);
		ck_assert_uint_eq(shma_handle_of(heap, p + 16), 0);
		for (size_t i = 0; i < size; i++)
			ck_assert_uint_eq(p[i], 0);
		memset(p, 0x5a, size);
		ck_assert_int_eq(shma_free(heap, h), 0);
	}
	last_of(0);
}
END_TEST

START_TEST(alignment_is_as_asked_for)
{
	for (unsigned shift = 4; shift <= 21; shift++) {
		size_t align = (size_t)1 << shift;
		shma_handle h = shma_alloc(heap, 1000, SHMA_ALIGN(align));
		char *p = shma_ptr(heap, h);

		ck_assert_ptr_nonnull(p);
		ck_assert_uint_eq((uintptr_t)p % align, 0);
		ck_assert_uint_eq(shma_size(heap, h), 1000);
		ck_assert_uint_eq(shma_handle_of(heap, p), h);
		memset(p, 1, 1000);
		ck_assert_int_eq(shma_free_ptr(heap, p), 0);
		ck_assert_ptr_null(shma_ptr(heap, h));
	}
}
END_TEST

/* Sizes of all kinds: of a class, larger, and with a page behind it. */
static const size_t sizes[] = { 1, 24, 100, 1000, 4000, 30000, 40000, 100000 };

START_TEST(one_byte_behind_is_found_at_free_and_by_the_check)
{
	size_t size = sizes[_i];
	struct shma_debug_report r;
	int line = __LINE__ + 1;
	shma_handle h = shma_alloc(heap, size, SHMA_SHARED);
	char *p = shma_ptr(heap, h);

	ck_assert_int_eq(heap_findings(&heap->arena), 0);
	p[size] = 7;
	assert_found(AUDIT_OVERRUN);
	ck_assert_int_eq(shma_free(heap, h), 0);
	r = last_of(1);
	ck_assert_int_eq(r.what, SHMA_DEBUG_OVERRUN);
	ck_assert_int_eq(r.at, (int64_t)size);
	ck_assert_uint_eq(r.bytes, 1);
	ck_assert_uint_eq(r.handle, h);
	ck_assert_uint_eq(r.size, size);
	ck_assert_str_eq(r.call, "shma_free");
	assert_where(&r.allocated, line);
	ck_assert_int_eq(heap_findings(&heap->arena), 0);
}
END_TEST

START_TEST(one_byte_before_is_found_at_free_and_by_the_check)
{
	size_t size = sizes[_i];
	shma_handle h = shma_alloc(heap, size, SHMA_SHARED);
	char *p = shma_ptr(heap, h);
	struct shma_debug_report r;

	p[-1] = 7;
	assert_found(AUDIT_UNDERRUN);
	ck_assert_int_eq(shma_free(heap, h), 0);
	r = last_of(1);
	ck_assert_int_eq(r.what, SHMA_DEBUG_UNDERRUN);
	ck_assert_int_eq(r.at, -1);
	ck_assert_uint_eq(r.bytes, 1);
}
END_TEST

START_TEST(a_head_that_is_gone_is_told_of_and_harms_nothing)
{
	shma_handle h = shma_alloc(heap, 100, SHMA_SHARED);
	char *p = shma_ptr(heap, h);
	struct shma_debug_report r;

	memset(p - DEBUG_FRONT, 0xee, DEBUG_FRONT);
	assert_found(AUDIT_WATCHED_HEAD);
	ck_assert_uint_gt(shma_size(heap, h), 0);
	ck_assert_int_eq(shma_free(heap, h), 0);
	r = last_of(1);
	ck_assert_int_eq(r.what, SHMA_DEBUG_HEAD);
	ck_assert_uint_eq(r.handle, h);
	ck_assert_uint_ne(shma_alloc(heap, 100, 0), 0);
}
END_TEST

START_TEST(a_second_free_names_three_places)
{
	int line = __LINE__ + 1;
	shma_handle h = shma_alloc(heap, 100, 0);
	struct shma_debug_report r;

	ck_assert_int_eq(shma_free(heap, h), 0);
	ck_assert_int_eq(shma_free(heap, h), -ESTALE);
	r = last_of(1);
	ck_assert_int_eq(r.what, SHMA_DEBUG_DOUBLE_FREE);
	ck_assert_str_eq(r.call, "shma_free");
	assert_where(&r.allocated, line);
	assert_where(&r.freed, line + 3);
	assert_where(&r.found, line + 4);
	ck_assert_uint_ge(r.freed.time_ns, r.allocated.time_ns);
	ck_assert_uint_ge(r.found.time_ns, r.freed.time_ns);
	for (int i = 0; i < 9; i++)
		ck_assert_int_eq(shma_free(heap, h), -ESTALE);
	ck_assert_uint_eq(last_of(1).count, 10);
}
END_TEST

/* Macros say nothing here. */
START_TEST(who_says_nothing_is_told_by_a_stack)
{
	shma_handle h = (shma_alloc)(heap, 100, 0);
	struct shma_debug_report r;
	char text[400] = "", cut[9];
	int calls;

	ck_assert_int_eq((shma_free)(heap, h), 0);
	ck_assert_int_eq((shma_free)(heap, h), -ESTALE);
	r = last_of(1);
	ck_assert_uint_ne(r.allocated.stack, 0);
	ck_assert_uint_ne(r.freed.stack, 0);
	ck_assert_uint_ne(r.found.stack, 0);
	ck_assert_uint_ne(r.allocated.stack, r.freed.stack);
	calls = shma_debug_stack(heap, r.allocated.stack, text, sizeof(text));
	ck_assert_int_gt(calls, 1);
	ck_assert_ptr_nonnull(strstr(text, "test_debug+0x"));
	ck_assert_int_eq(shma_debug_stack(heap, r.allocated.stack, cut, sizeof(cut)), calls);
	ck_assert_uint_eq(strlen(cut), sizeof(cut) - 1);
	ck_assert_int_eq(strncmp(cut, text, strlen(cut)), 0);
	ck_assert_int_eq(shma_debug_stack(heap, r.allocated.stack, NULL, 0), calls);
	ck_assert_int_eq(shma_debug_stack(heap, 0, text, sizeof(text)), -ENOENT);
	ck_assert_int_eq(shma_debug_stack(heap, UINT32_MAX, text, sizeof(text)), -ENOENT);
}
END_TEST

/* As free does: into quarantine, filled, with both places. */
START_TEST(the_last_release_of_a_hold_is_a_free)
{
	size_t size = sizes[_i];
	shma_handle h = shma_alloc(heap, size, 0), again;
	char *p = shma_ptr(heap, h);
	struct shma_debug_report r;
	int line;

	ck_assert_int_eq(shma_retain(heap, h), 0);
	ck_assert_int_eq(shma_retain(heap, h), 0);
	ck_assert_int_eq(shma_release(heap, h), 0);
	p[size] = 7;
	line = __LINE__ + 1;
	ck_assert_int_eq(shma_release(heap, h), 0);
	r = last_of(1);
	ck_assert_int_eq(r.what, SHMA_DEBUG_OVERRUN);
	ck_assert_int_eq(shma_release(heap, h), -ESTALE);
	r = last_of(2);
	ck_assert_int_eq(r.what, SHMA_DEBUG_USE_AFTER_FREE);
	ck_assert_str_eq(r.call, "shma_release");
	assert_where(&r.freed, line);
	assert_where(&r.found, line + 3);
	assert_where(&r.allocated, line - 10);
	/* Its place is kept, and given out only when quarantine ends. */
	for (int i = 0; i < 3; i++) {
		again = shma_alloc(heap, size, 0);
		ck_assert_ptr_ne(shma_ptr(heap, again), p);
		ck_assert_int_eq(shma_free(heap, again), 0);
	}
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	ck_assert_int_eq(heap_findings(&heap->arena), 0);
	debug_object_release_all(&heap->arena, thread_peek(&heap->arena));
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	ck_assert_int_eq(heap_findings(&heap->arena), 0);
	last_of(2);
}
END_TEST

START_TEST(any_use_of_a_stale_handle_is_told)
{
	static const char *const calls[] = { "shma_ptr", "shma_read", "shma_size", "shma_share", "shma_take",
					     "shma_resize", "shma_publish" };
	struct shma_debug_report r;
	shma_handle h = shma_alloc(heap, 60000, 0);
	uint64_t cursor = 0;
	char byte;

	ck_assert_int_eq(shma_free(heap, h), 0);
	ck_assert_ptr_null(shma_ptr(heap, h));
	ck_assert_int_eq(errno, ESTALE);
	ck_assert_int_eq(shma_read(heap, h, 0, &byte, 1), -ESTALE);
	ck_assert_uint_eq(shma_size(heap, h), 0);
	ck_assert_int_eq(shma_share(heap, h), -ESTALE);
	ck_assert_int_eq(shma_take(heap, h), -ESTALE);
	ck_assert_uint_eq(shma_resize(heap, h, 3), 0);
	ck_assert_int_eq(shma_publish(heap, "x", h), -ESTALE);
	for (size_t i = 0; i < LENGTH(calls); i++) {
		ck_assert_int_eq(shma_debug_report(heap, &cursor, &r), 1);
		ck_assert_int_eq(r.what, SHMA_DEBUG_USE_AFTER_FREE);
		ck_assert_str_eq(r.call, calls[i]);
		ck_assert_uint_gt(r.allocated.time_ns, 0);
		ck_assert_uint_gt(r.freed.time_ns, 0);
	}
	ck_assert_int_eq(shma_debug_report(heap, &cursor, &r), 0);
}
END_TEST

/* By the object's own pointer: nobody can tell before quarantine ends. */
START_TEST(what_is_written_after_free_is_found_by_the_check_and_when_it_leaves_quarantine)
{
	shma_handle h = shma_alloc(heap, 200, 0);
	char *p = shma_ptr(heap, h);
	struct shma_debug_report r;

	ck_assert_int_eq(shma_free(heap, h), 0);
	p[77] = 7;
	assert_found(AUDIT_WRITTEN);
	debug_object_release_all(&heap->arena, thread_peek(&heap->arena));
	r = last_of(1);
	ck_assert_int_eq(r.what, SHMA_DEBUG_WRITTEN);
	ck_assert_int_eq(r.at, 77);
	ck_assert_uint_eq(r.bytes, 1);
	ck_assert_uint_eq(r.handle, h);
}
END_TEST

START_TEST(what_is_written_later_is_found_when_the_place_is_given_out_again)
{
	shma_handle h = shma_alloc(heap, 200, 0), again;
	char *p = shma_ptr(heap, h);
	struct shma_debug_report r;

	ck_assert_int_eq(shma_free(heap, h), 0);
	debug_object_release_all(&heap->arena, thread_peek(&heap->arena));
	p[0] = 7;
	again = shma_alloc(heap, 200, 0);
	ck_assert_ptr_eq(shma_ptr(heap, again), p);
	r = last_of(1);
	ck_assert_int_eq(r.what, SHMA_DEBUG_WRITTEN);
	ck_assert_int_eq(r.at, 0);
	ck_assert_uint_eq(r.handle, h);
}
END_TEST

START_TEST(a_place_in_quarantine_is_not_given_out)
{
	shma_handle h = shma_alloc(heap, 1000, 0);
	void *p = shma_ptr(heap, h);
	size_t frees = MIB(32) / 64 / 1000 / 2;

	ck_assert_int_eq(shma_free(heap, h), 0);
	for (size_t i = 0; i < frees; i++) {
		shma_handle other = shma_alloc(heap, 1000, 0);

		ck_assert_ptr_ne(shma_ptr(heap, other), p);
		ck_assert_int_eq(shma_free(heap, other), 0);
	}
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
}
END_TEST

START_TEST(quarantine_gives_way_when_memory_is_short)
{
	shma_handle *all = calloc(100000, sizeof(*all));
	size_t n = 0, again = 0;

	while ((all[n] = shma_alloc(heap, 10000, 0)))
		n++;
	ck_assert_int_eq(errno, ENOMEM);
	for (size_t i = 0; i < n; i++)
		ck_assert_int_eq(shma_free(heap, all[i]), 0);
	while (shma_alloc(heap, 10000, 0))
		again++;
	ck_assert_uint_ge(again + 25, n); /* what quarantine holds is more */
	free(all);
	last_of(0);
}
END_TEST

START_TEST(resizing_keeps_the_bytes_and_makes_the_old_handle_stale)
{
	shma_handle h = shma_alloc(heap, 10, SHMA_SHARED), moved;

	memcpy(shma_ptr(heap, h), "0123456789", 10);
	moved = shma_resize(heap, h, 50000);
	ck_assert_uint_ne(moved, 0);
	ck_assert_uint_ne(moved, h);
	ck_assert_uint_eq(shma_size(heap, moved), 50000);
	ck_assert_mem_eq(shma_ptr(heap, moved), "0123456789", 10);
	ck_assert_ptr_null(shma_ptr(heap, h));
	ck_assert_int_eq(last_of(1).what, SHMA_DEBUG_USE_AFTER_FREE);
	ck_assert_int_eq(shma_free(heap, moved), 0);
}
END_TEST

START_TEST(names_cells_and_reads_work_as_ever)
{
	shma_handle root = shma_alloc(heap, 64, SHMA_ZERO), h = shma_alloc(heap, 5, 0);
	char bytes[16];

	memcpy(shma_ptr(heap, h), "abcde", 5);
	ck_assert_int_eq(shma_publish(heap, "root", root), 0);
	ck_assert_int_eq(shma_persist(heap, h, shma_ptr(heap, root)), 0);
	ck_assert_uint_eq(*(shma_handle *)shma_ptr(heap, shma_lookup(heap, "root")), h);
	ck_assert_int_eq(shma_read(heap, h, 1, bytes, sizeof(bytes)), 4);
	ck_assert_mem_eq(bytes, "bcde", 4);
	ck_assert_int_eq(shma_take(heap, h), 0);
	ck_assert_int_eq(shma_free(heap, h), 0);
	ck_assert_int_eq(shma_unpublish(heap, "root"), 0);
	ck_assert_int_eq(shma_free(heap, root), 0);
	last_of(0);
}
END_TEST

/* ---- pages that may not be touched ---- */

/* A sanitizer would say what it is, and end the process in another way. */
static void die_of_it(void)
{
	signal(SIGSEGV, SIG_DFL);
}

static int touch_behind(void *arg)
{
	size_t size = 100000;
	shma_handle h = shma_alloc(heap, size, 0);
	char *p = shma_ptr(heap, h);

	if (arg && shma_share(heap, h))
		return 2;
	die_of_it();
	*(volatile char *)(p + (size + 4095) / 16 * 16) = 7;
	return 0;
}

static int touch_freed(void *arg)
{
	shma_handle h = shma_alloc(heap, 100000, 0);
	char *p = shma_ptr(heap, h);

	(void)arg;
	if (shma_free(heap, h))
		return 2;
	die_of_it();
	return *(volatile char *)p ? 0 : 1;
}

static int signal_of(child_body body, void *arg)
{
	pid_t pid = child_start(body, arg);
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

START_TEST(the_page_behind_a_large_private_object_ends_who_touches_it)
{
	ck_assert_int_eq(signal_of(touch_behind, NULL), SIGSEGV);
	ck_assert_int_eq(signal_of(touch_freed, NULL), SIGSEGV);
	/* What others use too bears no such page: found by its contents. */
	ck_assert_int_eq(signal_of(touch_behind, ""), 0);
	ck_assert_int_gt(reap(&heap->arena), 0);
}
END_TEST

/* The page is the parent's to protect, and by now another's object. */
static int use_all(void *arg)
{
	shma_handle h;

	(void)arg;
	while ((h = shma_alloc(heap, 1000, 0)))
		memset(shma_ptr(heap, h), 1, 1000);
	return errno == ENOMEM ? 0 : 1;
}

START_TEST(a_forked_child_may_touch_what_its_parent_may_not)
{
	shma_handle h[16];

	for (size_t i = 0; i < LENGTH(h); i++)
		h[i] = shma_alloc(heap, 100000, 0);
	for (size_t i = 0; i < LENGTH(h); i += 2)
		ck_assert_int_eq(shma_free(heap, h[i]), 0);
	ck_assert_int_eq(in_child(use_all, NULL), 0);
}
END_TEST

/* ---- deaths ---- */

static int fill_quarantine_and_die(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++) {
		shma_handle h = shma_alloc(heap, i % 3 ? 500 : 50000, 0);

		if (i % 2)
			shma_free(heap, h);
	}
	die();
	return 1;
}

START_TEST(quarantine_and_objects_return_with_their_client)
{
	uint64_t before = heap_all_free_pages(&heap->arena);

	child_dies(child_start(fill_quarantine_and_die, NULL));
	ck_assert_int_eq(reap(&heap->arena), 1);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	ck_assert_uint_ge(heap_all_free_pages(&heap->arena) + 16, before);
}
END_TEST

static int free_twice_and_die(void *arg)
{
	shma_handle h = *(shma_handle *)arg;

	if (shma_free(heap, h) || shma_free(heap, h) != -ESTALE)
		return 1;
	die();
	return 1;
}

START_TEST(a_report_outlives_who_made_it)
{
	shma_handle h = shma_alloc(heap, 100, SHMA_SHARED);
	struct shma_debug_report r;
	pid_t pid = child_start(free_twice_and_die, &h);

	child_dies(pid);
	r = last_of(1);
	ck_assert_int_eq(r.what, SHMA_DEBUG_DOUBLE_FREE);
	ck_assert_int_eq(r.allocated.pid, getpid());
	ck_assert_int_eq(r.freed.pid, pid);
	ck_assert_int_eq(r.found.pid, pid);
	ck_assert_int_eq(reap(&heap->arena), 1);
}
END_TEST

/* ---- telling ---- */

static void on_report(shma *s, const struct shma_debug_report *r, void *context)
{
	ck_assert_ptr_eq(s, heap);
	*(struct shma_debug_report *)context = *r;
}

START_TEST(the_handler_and_the_log_are_told)
{
	shma_handle h = shma_alloc(heap, 100, 0);
	struct shma_debug_report seen = { 0 };
	struct shma_reader *reader;
	struct shma_record rec;
	const char *text;
	size_t len;

	ck_assert_int_eq(shma_debug_handler(heap, on_report, &seen), 0);
	ck_assert_int_eq(shma_reader_open(heap, &reader, SHMA_FROM_OLDEST), 0);
	shma_free(heap, h);
	shma_free(heap, h);
	ck_assert_int_eq(seen.what, SHMA_DEBUG_DOUBLE_FREE);
	ck_assert_int_eq(shma_reader_next(reader, &rec, 1000), 1);
	ck_assert_int_eq(rec.level, 3);
	ck_assert_int_eq(rec.fields, 1);
	text = shma_record_text(&rec, &len);
	ck_assert_ptr_nonnull(memmem(text, len, "test_debug.c", 12));
	ck_assert_int_eq(shma_reader_next(reader, &rec, 0), 0);
	shma_reader_close(reader);
}
END_TEST

/* Whatever stands in the record, who reads it ends, and believes no sum that does not fit. */
START_TEST(a_record_of_rubbish_is_no_report)
{
	struct debug_area *area = arena_at(&heap->arena, heap->arena.g.debug);
	struct shma_debug_report r;
	uint64_t cursor = 0;

	heap_seed("rubbish");
	for (size_t i = 0; i < sizeof(area->reports) / 8; i++)
		((uint64_t *)area->reports)[i] = heap_random();
	ck_assert_int_eq(shma_debug_report(heap, &cursor, &r), 0);
	memset(area, 0, sizeof(*area));
}
END_TEST

START_TEST(other_arenas_have_no_reports)
{
	shma *plain = heap_open(MIB(16), 0);
	struct shma_debug_report r;
	uint64_t cursor = 0;

	ck_assert_int_eq(shma_debug_report(plain, &cursor, &r), -EOPNOTSUPP);
	ck_assert_int_eq(shma_debug_handler(plain, NULL, NULL), -EOPNOTSUPP);
	heap_close(plain);
}
END_TEST

/* ---- a model beside it ---- */

START_TEST(at_random_nothing_is_found_and_nothing_lost)
{
	struct { shma_handle h; size_t size; unsigned char byte; } held[200] = { { 0 } };

	heap_seed("at_random");
	for (int i = 0; i < 20000; i++) {
		uint64_t at = heap_below(LENGTH(held));
		size_t size = 1 + heap_below(heap_below(20) ? 2000 : 70000);
		unsigned char *p;

		if (held[at].h && heap_below(4) == 0) {
			held[at].h = shma_resize(heap, held[at].h, size);
			ck_assert_uint_ne(held[at].h, 0);
			if (size > held[at].size)
				memset((char *)shma_ptr(heap, held[at].h) + held[at].size, held[at].byte,
				       size - held[at].size);
			held[at].size = size;
			continue;
		}
		if (held[at].h) {
			p = shma_ptr(heap, held[at].h);
			ck_assert_uint_eq(p[0], held[at].byte);
			ck_assert_uint_eq(p[held[at].size - 1], held[at].byte);
			ck_assert_int_eq(shma_free(heap, held[at].h), 0);
		}
		held[at].h = shma_alloc(heap, size, heap_below(3) ? 0 : SHMA_SHARED);
		held[at].size = size;
		held[at].byte = (unsigned char)i;
		ck_assert_uint_ne(held[at].h, 0);
		memset(shma_ptr(heap, held[at].h), held[at].byte, size);
	}
	last_of(0);
	for (size_t i = 0; i < LENGTH(held); i++)
		if (held[i].h)
			ck_assert_int_eq(shma_free(heap, held[i].h), 0);
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	last_of(0);
}
END_TEST

/* ---- samples ---- */

static void setup_sampled(void)
{
	heap = open_debug(SHMA_DEBUG_SAMPLED, 200);
}

static bool is_watched(shma_handle h)
{
	struct object o;
	uint32_t state;

	ck_assert_int_eq(object_word_find_live(&heap->arena, h, &o, &state), 0);
	return o.front != 0;
}

START_TEST(about_one_object_in_so_many_is_watched_and_all_work_alike)
{
	enum { COUNT = 40000 };
	shma_handle *all = calloc(COUNT, sizeof(*all));
	uint32_t watched = 0;

	for (int i = 0; i < COUNT; i++) {
		size_t size = 16 + (size_t)i % 500;
		char *p;

		all[i] = shma_alloc(heap, size, i % 7 ? 0 : SHMA_SHARED);
		p = shma_ptr(heap, all[i]);
		ck_assert_ptr_nonnull(p);
		ck_assert_uint_eq((uintptr_t)p % 16, 0);
		ck_assert_uint_eq(shma_handle_of(heap, p), all[i]);
		ck_assert_uint_ge(shma_size(heap, all[i]), size);
		memset(p, i, size);
		watched += is_watched(all[i]);
	}
	ck_assert_uint_ge(watched, COUNT / 200 / 3);
	ck_assert_uint_le(watched, COUNT / 200 * 3);
	heap_check(&heap->arena);
	for (int i = 0; i < COUNT; i++) {
		char *p = shma_ptr(heap, all[i]);

		ck_assert_int_eq(p[15], (char)i);
		ck_assert_int_eq(i % 2 ? shma_free(heap, all[i]) : shma_free_ptr(heap, p), 0);
	}
	ck_assert_uint_eq(heap_stats(heap).live_objects, 0);
	last_of(0);
	free(all);
}
END_TEST

/* Of all that is done wrong, what is done to a sample is told; nothing is of others. */
START_TEST(misuse_of_a_sample_is_told)
{
	struct shma_debug_report r;
	shma_handle sample = 0;

	while (!sample) {
		shma_handle h = shma_alloc(heap, 100, SHMA_SHARED);

		if (is_watched(h)) {
			sample = h;
			continue;
		}
		ck_assert_int_eq(shma_free(heap, h), 0);
		ck_assert_int_eq(shma_free(heap, h), -ESTALE);
		shma_alloc(heap, 100, 0); /* so that caches are refilled */
	}
	last_of(0);
	((char *)shma_ptr(heap, sample))[100] = 1;
	ck_assert_int_eq(shma_free(heap, sample), 0);
	ck_assert_int_eq(last_of(1).what, SHMA_DEBUG_OVERRUN);
	ck_assert_int_eq(shma_free(heap, sample), -ESTALE);
	r = last_of(2);
	ck_assert_int_eq(r.what, SHMA_DEBUG_DOUBLE_FREE);
	ck_assert_uint_gt(r.freed.time_ns, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("debug");
	TCase *tc = tcase_create("debug");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, an_object_is_of_the_size_asked_for_and_aligned);
	tcase_add_test(tc, alignment_is_as_asked_for);
	tcase_add_loop_test(tc, one_byte_behind_is_found_at_free_and_by_the_check, 0, LENGTH(sizes));
	tcase_add_loop_test(tc, one_byte_before_is_found_at_free_and_by_the_check, 0, LENGTH(sizes));
	tcase_add_test(tc, a_head_that_is_gone_is_told_of_and_harms_nothing);
	tcase_add_test(tc, a_second_free_names_three_places);
	tcase_add_test(tc, who_says_nothing_is_told_by_a_stack);
	tcase_add_loop_test(tc, the_last_release_of_a_hold_is_a_free, 0, LENGTH(sizes));
	tcase_add_test(tc, any_use_of_a_stale_handle_is_told);
	tcase_add_test(tc, what_is_written_after_free_is_found_by_the_check_and_when_it_leaves_quarantine);
	tcase_add_test(tc, what_is_written_later_is_found_when_the_place_is_given_out_again);
	tcase_add_test(tc, a_place_in_quarantine_is_not_given_out);
	tcase_add_test(tc, quarantine_gives_way_when_memory_is_short);
	tcase_add_test(tc, resizing_keeps_the_bytes_and_makes_the_old_handle_stale);
	tcase_add_test(tc, names_cells_and_reads_work_as_ever);
	tcase_add_test(tc, the_page_behind_a_large_private_object_ends_who_touches_it);
	tcase_add_test(tc, a_forked_child_may_touch_what_its_parent_may_not);
	tcase_add_test(tc, quarantine_and_objects_return_with_their_client);
	tcase_add_test(tc, a_report_outlives_who_made_it);
	tcase_add_test(tc, the_handler_and_the_log_are_told);
	tcase_add_test(tc, a_record_of_rubbish_is_no_report);
	tcase_add_test(tc, other_arenas_have_no_reports);
	tcase_add_test(tc, at_random_nothing_is_found_and_nothing_lost);
	suite_add_tcase(suite, tc);
	tc = tcase_create("sampled");
	tcase_add_checked_fixture(tc, setup_sampled, teardown);
	tcase_add_test(tc, about_one_object_in_so_many_is_watched_and_all_work_alike);
	tcase_add_test(tc, misuse_of_a_sample_is_told);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
