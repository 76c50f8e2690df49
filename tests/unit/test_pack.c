/* SPDX-License-Identifier: Apache-2.0 */
/* Packed objects: what they keep, what they refuse, who may pack them, and what of damaged ones is noticed. */
#include "heap.h"
#include "pack_calls.h"
#include "packing.h"
#include "replace.h"
#include "object.h"
#include "shmalloc.h"
#include "walk.h"

static shma *s;

/* Text-like: as compressible as what is cold mostly is. */
static void fill_text(unsigned char *p, size_t len)
{
	static const char *const words[] = { "error ", "warning ", "connection ", "closed ", "10.0.0.", "took ", "ms\n" };
	size_t at = 0;

	while (at < len) {
		const char *w = words[heap_below(LENGTH(words))];
		size_t n = strlen(w);

		n = n < len - at ? n : len - at;
		memcpy(p + at, w, n);
		at += n;
		if (at < len)
			p[at++] = (unsigned char)('0' + heap_below(10));
	}
}

static void fill_random(unsigned char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)heap_random();
}

static shma_handle text_object(size_t len, unsigned flags, unsigned char **copy)
{
	shma_handle h = shma_alloc(s, len, flags);
	size_t usable = shma_size(s, h);

	ck_assert_uint_ne(h, 0);
	fill_text(shma_ptr(s, h), usable);
	*copy = malloc(usable);
	ck_assert_ptr_nonnull(*copy);
	memcpy(*copy, shma_ptr(s, h), usable);
	return h;
}

static enum object_kind kind_of(shma_handle h)
{
	uint32_t client;

	return object_kind_of(&s->arena, h, &client);
}

static void setup(void)
{
	heap_seed("test_pack");
	s = heap_open(MIB(64), 0);
}

static void teardown(void)
{
	heap_close(s);
}

static const int levels[] = { -5, 0, 1, 3, 9 };
static const size_t sizes[] = { 5000, 20000, 65536, 100000, 131072, 131073, 700000, 1100000 };

START_TEST(an_object_is_the_same_after_packing_and_unpacking_at_every_size_and_level)
{
	size_t len = sizes[_i % LENGTH(sizes)], usable;
	int level = levels[_i / LENGTH(sizes)];
	unsigned char *copy, *read;
	shma_handle plain = text_object(len, _i & 1 ? SHMA_LARGE : 0, &copy), packed, again;

	usable = shma_size(s, plain);
	packed = shma_pack(s, plain, level);
	ck_assert_uint_ne(packed, 0);
	ck_assert_uint_ne(packed, plain);
	ck_assert_uint_eq(shma_size(s, packed), usable);
	read = malloc(usable);
	ck_assert_ptr_nonnull(read);
	ck_assert_int_eq(shma_read(s, packed, 0, read, usable), (ssize_t)usable);
	ck_assert_mem_eq(read, copy, usable);
	heap_check(&s->arena);
	ck_assert_uint_lt(heap_stats(s).packed_bytes, heap_stats(s).unpacked_bytes);
	ck_assert_uint_eq(heap_stats(s).unpacked_bytes, usable);

	again = shma_unpack(s, packed);
	ck_assert_uint_ne(again, 0);
	ck_assert_uint_eq(shma_size(s, again), usable);
	ck_assert_mem_eq(shma_ptr(s, again), copy, usable);
	ck_assert_int_eq(shma_free(s, packed), -ESTALE);
	ck_assert_int_eq(shma_free(s, plain), -ESTALE);
	ck_assert_uint_eq(heap_stats(s).packed_objects, 0);
	ck_assert_int_eq(shma_free(s, again), 0);
	ck_assert_uint_eq(heap_stats(s).live_objects, 0);
	free(copy);
	free(read);
}
END_TEST

START_TEST(any_piece_of_a_packed_object_reads_as_it_was)
{
	unsigned char *copy, *read = malloc(600000);
	shma_handle h = shma_pack(s, text_object(600000, 0, &copy), 1);
	size_t usable = shma_size(s, h);

	ck_assert_ptr_nonnull(read);
	for (int i = 0; i < 200; i++) {
		size_t from = heap_below(usable + 10), len = heap_below(i % 2 ? 100 : 400000);
		size_t due = from >= usable ? 0 : len < usable - from ? len : usable - from;

		ck_assert_int_eq(shma_read(s, h, from, read, len), (ssize_t)due);
		ck_assert_mem_eq(read, copy + (due ? from : 0), due);
	}
	ck_assert_int_eq(shma_free(s, h), 0);
	ck_assert_int_eq(shma_read(s, h, 0, read, 1), -ESTALE);
	free(copy);
	free(read);
}
END_TEST

START_TEST(what_saves_no_page_stays_as_it_is)
{
	shma_handle small = shma_alloc(s, 4096, SHMA_ZERO), noise = shma_alloc(s, 300000, 0);

	fill_random(shma_ptr(s, noise), shma_size(s, noise));
	for (size_t i = 0; i < LENGTH(levels); i++) {
		ck_assert_uint_eq(shma_pack(s, small, levels[i]), small);
		ck_assert_uint_eq(shma_pack(s, noise, levels[i]), noise);
	}
	ck_assert_uint_eq(shma_unpack(s, noise), noise);
	ck_assert_ptr_nonnull(shma_ptr(s, noise));
	ck_assert_int_eq(shma_free(s, small), 0);
	ck_assert_int_eq(shma_free(s, noise), 0);
	ck_assert_uint_eq(heap_stats(s).live_objects, 0);
}
END_TEST

START_TEST(a_packed_object_is_told_and_not_taken_for_a_plain_one)
{
	unsigned char *copy;
	shma_handle container = shma_alloc(s, 64, SHMA_PERSIST), packed, other;
	shma_handle plain = text_object(200000, 0, &copy);

	packed = shma_pack(s, plain, 0);
	errno = 0;
	ck_assert_ptr_null(shma_ptr(s, packed));
	ck_assert_int_eq(errno, ENODATA);
	errno = 0;
	ck_assert_uint_eq(shma_resize(s, packed, 100), 0);
	ck_assert_int_eq(errno, ENODATA);
	ck_assert_uint_eq(shma_pack(s, packed, 3), packed);
	errno = 0;
	ck_assert_uint_eq(shma_pack(s, packed + 1, 3), 0);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_uint_eq(shma_pack(s, shma_alloc(s, 9000, SHMA_ZERO), 23), 0);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_uint_eq(shma_unpack(s, plain), 0);
	ck_assert_int_eq(errno, ESTALE);
	/* What a packed one holds is no cell, and no user's bytes make an object a packed one. */
	ck_assert_int_eq(shma_persist(s, container, (shma_handle *)(s->arena.heap + handle_offset(packed) + 4096)), -EINVAL);
	other = shma_alloc(s, 200000, SHMA_LARGE);
	memcpy(shma_ptr(s, other), s->arena.heap + handle_offset(packed), 16384);
	ck_assert_uint_eq(shma_unpack(s, other), other);
	ck_assert_ptr_nonnull(shma_ptr(s, other));
	free(copy);
}
END_TEST

START_TEST(a_packed_object_is_what_its_plain_one_was)
{
	static const unsigned flags[] = { 0, SHMA_SHARED, SHMA_PERSIST };
	static const enum object_kind kinds[] = { OBJECT_PRIVATE, OBJECT_SHARED, OBJECT_PERSISTENT };
	unsigned char *copy;
	shma_handle h = text_object(70000, flags[_i], &copy);

	h = shma_pack(s, h, 1);
	ck_assert_int_eq(kind_of(h), kinds[_i]);
	h = shma_unpack(s, h);
	ck_assert_int_eq(kind_of(h), kinds[_i]);
	h = shma_pack(s, h, 0);
	if (_i) {
		ck_assert_int_eq(shma_take(s, h), 0);
		ck_assert_int_eq(kind_of(h), OBJECT_TAKEN);
		ck_assert_int_eq(shma_share(s, h), 0);
		ck_assert_int_eq(kind_of(h), OBJECT_SHARED);
	}
	ck_assert_int_eq(shma_publish(s, "cold", h), 0);
	ck_assert_uint_eq(shma_lookup(s, "cold"), h);
	errno = 0;
	ck_assert_uint_eq(shma_unpack(s, h), 0);
	ck_assert_int_eq(errno, EBUSY);
	heap_check(&s->arena);
	ck_assert_int_eq(shma_unpublish(s, "cold"), 0);
	h = shma_unpack(s, h);
	ck_assert_mem_eq(shma_ptr(s, h), copy, 70000);
	ck_assert_int_eq(shma_publish(s, "cold", h), 0);
	errno = 0;
	ck_assert_uint_eq(shma_pack(s, h, 0), 0);
	ck_assert_int_eq(errno, EBUSY);
	free(copy);
}
END_TEST

static int pack_anothers(void *handle)
{
	errno = 0;
	return shma_pack(s, *(shma_handle *)handle, 0) == 0 && errno == EPERM ? 0 : 1;
}

static int pack_the_arenas(void *handle)
{
	return shma_pack(s, *(shma_handle *)handle, 0) != 0 ? 0 : 1;
}

START_TEST(only_its_owner_packs_an_object_and_anybody_the_arenas)
{
	unsigned char *copy;
	shma_handle mine = text_object(50000, _i ? SHMA_SHARED : 0, &copy), arenas;

	free(copy);
	ck_assert_int_eq(in_child(pack_anothers, &mine), 0);
	arenas = text_object(50000, SHMA_PERSIST, &copy);
	ck_assert_int_eq(in_child(pack_the_arenas, &arenas), 0);
	ck_assert_int_eq(shma_free(s, arenas), -ESTALE);
	reap(&s->arena);
	/* Its maker is dead, it is not. */
	ck_assert_uint_eq(heap_stats(s).persistent_objects, 1);
	ck_assert_uint_eq(heap_stats(s).packed_objects, 1);
	free(copy);
}
END_TEST

/* Any word of the packed bytes, damaged: an error or, where nobody looks at it, the very same bytes. */
START_TEST(damaged_bytes_are_noticed)
{
	unsigned char *copy, *bytes;
	shma_handle h = shma_pack(s, text_object(300000, 0, &copy), _i ? 3 : 0);
	size_t usable = shma_size(s, h);
	unsigned char *read = malloc(usable);
	struct packed_header head;
	int noticed = 0;

	ck_assert_ptr_nonnull(read);
	ck_assert_int_eq(packing_head(&s->arena, h, &head), 0);
	bytes = (unsigned char *)s->arena.heap + handle_offset(h);
	for (int i = 0; i < 300; i++) {
		size_t at = i < 60 ? (size_t)i : heap_below(head.packed);
		unsigned char was = bytes[at];
		ssize_t n;

		bytes[at] ^= (unsigned char)(1 + heap_below(255));
		n = shma_read(s, h, 0, read, usable);
		if (n < 0) {
			ck_assert_int_eq(n, -EUCLEAN);
			errno = 0;
			ck_assert_uint_eq(shma_unpack(s, h), 0);
			ck_assert_int_eq(errno, EUCLEAN);
			noticed++;
		} else {
			ck_assert_int_eq(n, (ssize_t)usable);
			ck_assert_mem_eq(read, copy, usable);
		}
		bytes[at] = was;
	}
	ck_assert_int_gt(noticed, 250);
	ck_assert_int_eq(shma_read(s, h, 0, read, usable), (ssize_t)usable);
	ck_assert_mem_eq(read, copy, usable);
	free(copy);
	free(read);
}
END_TEST

START_TEST(where_there_is_no_room_the_object_stays_as_it_was)
{
	unsigned char *copy;
	shma_handle h = text_object(MIB(20), 0, &copy), packed = shma_pack(s, h, 1), filler;

	ck_assert_uint_ne(packed, h);
	while ((filler = shma_alloc(s, MIB(1), SHMA_LARGE)))
		continue;
	errno = 0;
	ck_assert_uint_eq(shma_unpack(s, packed), 0);
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_uint_eq(shma_size(s, packed), MIB(20));
	free(copy);
}
END_TEST

static Suite *suite(void)
{
	Suite *su = suite_create("pack");
	TCase *tc = tcase_create("pack");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, an_object_is_the_same_after_packing_and_unpacking_at_every_size_and_level, 0,
			    LENGTH(sizes) * LENGTH(levels));
	tcase_add_test(tc, any_piece_of_a_packed_object_reads_as_it_was);
	tcase_add_test(tc, what_saves_no_page_stays_as_it_is);
	tcase_add_test(tc, a_packed_object_is_told_and_not_taken_for_a_plain_one);
	tcase_add_loop_test(tc, a_packed_object_is_what_its_plain_one_was, 0, 3);
	tcase_add_loop_test(tc, only_its_owner_packs_an_object_and_anybody_the_arenas, 0, 2);
	tcase_add_loop_test(tc, damaged_bytes_are_noticed, 0, 2);
	tcase_add_test(tc, where_there_is_no_room_the_object_stays_as_it_was);
	suite_add_tcase(su, tc);
	return su;
}

int main(void)
{
	return run_suite(suite());
}
