/* SPDX-License-Identifier: Apache-2.0 */
/* Structured records: what is written comes back as it was, and damaged bytes are told, never believed. */
#include "fields.h"
#include "heap.h"

static shma *heap;
static struct shma_reader *reader;

static void setup(void)
{
	heap = heap_open(MIB(16), 0);
	ck_assert_int_eq(shma_reader_open(heap, &reader, SHMA_FROM_NOW), 0);
}

static void teardown(void)
{
	shma_reader_close(reader);
	shma_close(heap);
}

static struct shma_record next(void)
{
	struct shma_record rec;

	ck_assert_int_eq(shma_reader_next(reader, &rec, 1000), 1);
	return rec;
}

static void check_text(const struct shma_record *rec, const char *text)
{
	size_t len;
	const char *got = shma_record_text(rec, &len);

	ck_assert_ptr_nonnull(got);
	ck_assert_uint_eq(len, strlen(text));
	ck_assert_mem_eq(got, text, len);
}

static struct shma_kv next_kv(const struct shma_record *rec, size_t *cursor, const char *key, int type)
{
	struct shma_kv kv;

	ck_assert_int_eq(shma_record_kv(rec, cursor, &kv), 1);
	ck_assert_uint_eq(kv.key_len, strlen(key));
	ck_assert_mem_eq(kv.key, key, kv.key_len);
	ck_assert_int_eq(kv.type, type);
	return kv;
}

static void check_end(const struct shma_record *rec, size_t *cursor)
{
	struct shma_kv kv;

	ck_assert_int_eq(shma_record_kv(rec, cursor, &kv), 0);
	ck_assert_int_eq(shma_record_kv(rec, cursor, &kv), 0);
}

/* ---- what is written comes back ---- */

START_TEST(values_of_all_types_come_back_as_they_were)
{
	const struct shma_kv kv[] = {
		SHMA_KV_STR("user", "joe"),	    SHMA_KV_INT("least", INT64_MIN),
		SHMA_KV_UINT("most", UINT64_MAX),   SHMA_KV_DOUBLE("third", 1.0 / 3),
		SHMA_KV_BOOL("yes", 7),		    SHMA_KV_BOOL("no", 0),
		SHMA_KV_BYTES("bytes", "\0\xff", 2), SHMA_KV_STR("nothing", ""),
	};
	struct shma_record rec;
	struct shma_kv got;
	size_t cursor = 0;

	ck_assert_int_eq(shma_log_kv(heap, 4, "what came", kv, LENGTH(kv)), 0);
	rec = next();
	ck_assert_int_eq(rec.level, 4);
	ck_assert_int_eq(rec.fields, 1);
	check_text(&rec, "what came");
	got = next_kv(&rec, &cursor, "user", SHMA_TYPE_STR);
	ck_assert_uint_eq(got.len, 3);
	ck_assert_mem_eq(got.value.str, "joe", 3);
	ck_assert(next_kv(&rec, &cursor, "least", SHMA_TYPE_INT).value.i == INT64_MIN);
	ck_assert(next_kv(&rec, &cursor, "most", SHMA_TYPE_UINT).value.u == UINT64_MAX);
	ck_assert(next_kv(&rec, &cursor, "third", SHMA_TYPE_DOUBLE).value.d == 1.0 / 3);
	ck_assert_int_eq(next_kv(&rec, &cursor, "yes", SHMA_TYPE_BOOL).value.b, 1);
	ck_assert_int_eq(next_kv(&rec, &cursor, "no", SHMA_TYPE_BOOL).value.b, 0);
	got = next_kv(&rec, &cursor, "bytes", SHMA_TYPE_BYTES);
	ck_assert_uint_eq(got.len, 2);
	ck_assert_mem_eq(got.value.bytes, "\0\xff", 2);
	ck_assert_uint_eq(next_kv(&rec, &cursor, "nothing", SHMA_TYPE_STR).len, 0);
	check_end(&rec, &cursor);
}
END_TEST

START_TEST(other_records_are_all_text)
{
	struct shma_record rec;
	size_t cursor = 0;

	ck_assert_int_eq(shma_log_write(heap, 6, "plain", 5), 0);
	rec = next();
	ck_assert_int_eq(rec.fields, 0);
	check_text(&rec, "plain");
	check_end(&rec, &cursor);
}
END_TEST

START_TEST(a_record_may_have_no_text_or_no_values)
{
	const struct shma_kv kv = SHMA_KV_INT("n", -1);
	struct shma_record rec;
	size_t cursor = 0;

	ck_assert_int_eq(shma_log_kv(heap, 6, NULL, &kv, 1), 0);
	rec = next();
	check_text(&rec, "");
	ck_assert(next_kv(&rec, &cursor, "n", SHMA_TYPE_INT).value.i == -1);
	check_end(&rec, &cursor);
	ck_assert_int_eq(shma_log_kv(heap, 6, "alone", NULL, 0), 0);
	rec = next();
	ck_assert_int_eq(rec.fields, 1);
	check_text(&rec, "alone");
	cursor = 0;
	check_end(&rec, &cursor);
}
END_TEST

/* In a block, in an extent of its own; from a thread's block and from those that threads share. */
START_TEST(records_of_any_length_stay_structured)
{
	static const size_t lengths[] = { 1, 400, 600, 900, 4000, 70000, 1000000 };
	enum { LEVELS = 6 };
	struct shma_record open[LEVELS], rec;
	char *data = malloc(1000000);

	for (size_t i = 0; i < 1000000; i++)
		data[i] = (char)(i * 7);
	for (size_t i = 0; i < 2 * LENGTH(lengths); i++) {
		size_t len = lengths[i % LENGTH(lengths)], cursor = 0;
		const struct shma_kv kv[] = { SHMA_KV_UINT("len", len), SHMA_KV_BYTES("data", data, len) };
		struct shma_kv got;

		if (i == LENGTH(lengths)) /* the thread's own levels are taken from here on */
			for (int k = 0; k < LEVELS; k++)
				ck_assert_int_eq(shma_log_reserve(heap, &open[k], 6, 8), 0);
		ck_assert_int_eq(shma_log_kv(heap, 6, "sized", kv, 2), 0);
		rec = next();
		ck_assert_int_eq(rec.fields, 1);
		check_text(&rec, "sized");
		ck_assert_uint_eq(next_kv(&rec, &cursor, "len", SHMA_TYPE_UINT).value.u, len);
		got = next_kv(&rec, &cursor, "data", SHMA_TYPE_BYTES);
		ck_assert_uint_eq(got.len, len);
		ck_assert_mem_eq(got.value.bytes, data, len);
		check_end(&rec, &cursor);
	}
	for (int k = 0; k < LEVELS; k++)
		ck_assert_int_eq(shma_log_abort(heap, &open[k]), 0);
	free(data);
}
END_TEST

START_TEST(keys_have_1_to_255_bytes)
{
	char key[257];
	struct shma_kv kv = SHMA_KV_INT(key, 5), got;
	struct shma_record rec;
	size_t cursor = 0;

	memset(key, 'k', sizeof(key));
	key[256] = 0;
	ck_assert_int_eq(shma_log_kv(heap, 6, "", &kv, 1), -EINVAL);
	key[255] = 0;
	ck_assert_int_eq(shma_log_kv(heap, 6, "", &kv, 1), 0);
	rec = next();
	got = next_kv(&rec, &cursor, key, SHMA_TYPE_INT);
	ck_assert_uint_eq(got.key_len, 255);
	key[0] = 0;
	ck_assert_int_eq(shma_log_kv(heap, 6, "", &kv, 1), -EINVAL);
	kv.key = NULL;
	ck_assert_int_eq(shma_log_kv(heap, 6, "", &kv, 1), -EINVAL);
	/* One that is told how long it is need not end. */
	kv = (struct shma_kv)SHMA_KV_INT("abcdef", 5);
	kv.key_len = 3;
	ck_assert_int_eq(shma_log_kv(heap, 6, "", &kv, 1), 0);
	rec = next();
	cursor = 0;
	next_kv(&rec, &cursor, "abc", SHMA_TYPE_INT);
}
END_TEST

START_TEST(what_cannot_be_written_is_refused)
{
	static struct shma_kv many[65536];
	struct shma_kv kv = SHMA_KV_BYTES("x", many, SHMA_RECORD_MAX - 17);
	struct shma_record rec;

	ck_assert_int_eq(shma_log_kv(heap, 6, "", &kv, 1), 0);
	rec = next();
	ck_assert_uint_eq(rec.len, SHMA_RECORD_MAX);
	ck_assert_int_eq(shma_log_kv(heap, 6, "y", &kv, 1), -EMSGSIZE);
	kv.len = SIZE_MAX;
	ck_assert_int_eq(shma_log_kv(heap, 6, "", &kv, 1), -EMSGSIZE);
	kv.type = 7;
	kv.len = 1;
	ck_assert_int_eq(shma_log_kv(heap, 6, "", &kv, 1), -EINVAL);
	kv.type = 0;
	ck_assert_int_eq(shma_log_kv(heap, 6, "", &kv, 1), -EINVAL);
	ck_assert_int_eq(shma_log_kv(heap, 6, "", many, LENGTH(many)), -EINVAL);
	ck_assert_int_eq(shma_log_kv(heap, 8, "", NULL, 0), -EINVAL);
	ck_assert_int_eq(shma_log_kv(heap, -1, "", NULL, 0), -EINVAL);
	/* No level makes a structured record of another. */
	for (int level = 8; level < 64; level++)
		ck_assert_int_eq(shma_log_write(heap, level, "plain", 5), -EINVAL);
	ck_assert_int_eq(shma_log_reserve(heap, &rec, 16, 5), -EINVAL);
	ck_assert_int_eq(shma_reader_next(reader, &rec, 0), 0);
}
END_TEST

START_TEST(as_many_values_as_there_may_be)
{
	static struct shma_kv many[65535];
	struct shma_record rec;
	size_t cursor = 0;

	for (size_t i = 0; i < LENGTH(many); i++)
		many[i] = SHMA_KV_BOOL("k", i & 1);
	ck_assert_int_eq(shma_log_kv(heap, 6, "", many, LENGTH(many)), 0);
	rec = next();
	for (size_t i = 0; i < LENGTH(many); i++)
		ck_assert_int_eq(next_kv(&rec, &cursor, "k", SHMA_TYPE_BOOL).value.b, (int)(i & 1));
	check_end(&rec, &cursor);
}
END_TEST

/* ---- damage ---- */

static size_t sample(char *to)
{
	const struct fields_field fields[] = {
		{ .key = "a", .key_bytes = 1, .type = FIELDS_STRING, .bytes = 2, .value.data = "bc" },
		{ .key = "num", .key_bytes = 3, .type = FIELDS_INT, .value.i = -2 },
		{ .key = "f", .key_bytes = 1, .type = FIELDS_BOOL, .value.b = 1 },
	};
	char *at = fields_begin(to, "text", 4, LENGTH(fields));

	for (size_t i = 0; i < LENGTH(fields); i++)
		at = fields_put(at, &fields[i]);
	return (size_t)(at - to);
}

/* Reads all from a copy of just these bytes; how it ends. */
static int read_all(const char *bytes, size_t len)
{
	char *copy = malloc(len ? len : 1);
	struct fields_field field;
	size_t cursor = 0, text_bytes, count = 0;
	const char *text;
	int r;

	memcpy(copy, bytes, len);
	if (!fields_text(copy, len, &text, &text_bytes))
		ck_assert(text >= copy && text_bytes <= len && text + text_bytes <= copy + len);
	while ((r = fields_next(copy, len, &cursor, &field)) == 1) {
		ck_assert(field.key >= copy && field.key + field.key_bytes + field.bytes <= copy + len);
		ck_assert_uint_le(++count, len);
	}
	free(copy);
	return r;
}

START_TEST(a_payload_cut_off_anywhere_is_damaged)
{
	char bytes[256];
	size_t len = sample(bytes);

	ck_assert_int_eq(read_all(bytes, len), 0);
	for (size_t cut = 0; cut < len; cut++)
		ck_assert_int_eq(read_all(bytes, cut), -EUCLEAN);
	bytes[len] = 0;
	ck_assert_int_eq(read_all(bytes, len + 1), -EUCLEAN); /* nor may there be more */
}
END_TEST

START_TEST(lengths_types_and_zeros_that_cannot_be_are_damage)
{
	/* Offset in the sample, and a byte that must not stand there. */
	static const struct {
		size_t at;
		char byte;
	} wrong[] = { { 0, 5 },	 { 3, 127 }, { 4, 4 },	 { 4, 2 },    { 5, 1 },	   { 6, 1 },
		      { 7, 1 },	 { 12, 0 },  { 12, 7 },	 { 12, 2 },   { 13, 0 },   { 13, -1 },
		      { 14, 1 }, { 16, 3 },  { 19, -1 }, { 23 + 4, 7 }, { 23 + 7, 1 }, { 51, 2 } };
	char bytes[256];
	size_t len = sample(bytes);

	ck_assert_uint_eq(len, 52);
	for (size_t i = 0; i < LENGTH(wrong); i++) {
		char kept = bytes[wrong[i].at];

		bytes[wrong[i].at] = wrong[i].byte;
		ck_assert_msg(read_all(bytes, len) == -EUCLEAN, "row %zu", i);
		bytes[wrong[i].at] = kept;
	}
}
END_TEST

START_TEST(any_bytes_and_any_cursor_are_read_without_fault)
{
	char bytes[256];

	heap_seed("any_bytes_and_any_cursor_are_read_without_fault");
	for (int round = 0; round < 200000; round++) {
		size_t len = sample(bytes), cursor = heap_random();
		struct fields_field field;

		for (uint64_t n = heap_below(6); n; n--)
			bytes[heap_below(len)] = (char)heap_random();
		read_all(bytes, heap_below(len + 1));
		if (round % 2)
			cursor = heap_below(len + 2) | heap_below(8) << 24;
		ck_assert_int_le(fields_next(bytes, len, &cursor, &field), 1);
	}
}
END_TEST

START_TEST(a_damaged_record_is_told_by_the_public_calls)
{
	struct shma_record rec = { .data = "\377\377\377\377\0\0\0\0", .len = 8, .fields = 1 };
	struct shma_kv kv;
	size_t cursor = 0, len = 99;

	errno = 0;
	ck_assert_ptr_null(shma_record_text(&rec, &len));
	ck_assert_int_eq(errno, EUCLEAN);
	ck_assert_uint_eq(len, 0);
	ck_assert_int_eq(shma_record_kv(&rec, &cursor, &kv), -EUCLEAN);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("fields");
	TCase *calls = tcase_create("calls"), *damage = tcase_create("damage");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(calls, setup, teardown);
	tcase_add_test(calls, values_of_all_types_come_back_as_they_were);
	tcase_add_test(calls, other_records_are_all_text);
	tcase_add_test(calls, a_record_may_have_no_text_or_no_values);
	tcase_add_test(calls, records_of_any_length_stay_structured);
	tcase_add_test(calls, keys_have_1_to_255_bytes);
	tcase_add_test(calls, what_cannot_be_written_is_refused);
	tcase_add_test(calls, as_many_values_as_there_may_be);
	suite_add_tcase(suite, calls);
	tcase_add_test(damage, a_payload_cut_off_anywhere_is_damaged);
	tcase_add_test(damage, lengths_types_and_zeros_that_cannot_be_are_damage);
	tcase_add_test(damage, any_bytes_and_any_cursor_are_read_without_fault);
	tcase_add_test(damage, a_damaged_record_is_told_by_the_public_calls);
	suite_add_tcase(suite, damage);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
