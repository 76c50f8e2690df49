/* SPDX-License-Identifier: Apache-2.0 */
/* One document in two forms: escaping, alignment, and that neither form depends on the bytes shown. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emit.h"

#include "../seed.h"

static char *output;
static size_t output_size;
static FILE *out;
static struct emit e;

static void begin(bool json)
{
	out = open_memstream(&output, &output_size);
	emit_begin(&e, out, json);
}

static void begin_stream(bool json)
{
	out = open_memstream(&output, &output_size);
	emit_begin_stream(&e, out, json);
}

static void expect(const char *text)
{
	ck_assert_int_eq(emit_end(&e), 0);
	fclose(out);
	ck_assert_str_eq(output, text);
	free(output);
}

static void a_document(void)
{
	static const char *const columns[] = { "zone", "free_bytes", "owner", NULL };

	emit_string(&e, "name", "demo");
	emit_bytes(&e, "capacity_bytes", 1536);
	emit_u64(&e, "live_objects", 7);
	emit_table(&e, "zones", columns);
	for (unsigned i = 9; i < 11; i++) {
		emit_row(&e);
		emit_u64(&e, "zone", i);
		emit_bytes(&e, "free_bytes", (uint64_t)i << 20);
		emit_string(&e, "owner", i == 9 ? "me" : NULL);
		emit_row_end(&e);
	}
	emit_table_end(&e);
	emit_section(&e, "log");
	emit_bool(&e, "full", false);
	emit_section_end(&e);
}

START_TEST(json_shows_keys_and_exact_values)
{
	begin(true);
	a_document();
	expect("{\n"
	       "  \"name\": \"demo\",\n"
	       "  \"capacity_bytes\": 1536,\n"
	       "  \"live_objects\": 7,\n"
	       "  \"zones\": [\n"
	       "    {\"zone\": 9, \"free_bytes\": 9437184, \"owner\": \"me\"},\n"
	       "    {\"zone\": 10, \"free_bytes\": 10485760, \"owner\": null}\n"
	       "  ],\n"
	       "  \"log\": {\n"
	       "    \"full\": false\n"
	       "  }\n"
	       "}\n");
}
END_TEST

START_TEST(text_aligns_and_shows_units)
{
	begin(false);
	a_document();
	expect("name:         demo\n"
	       "capacity:     1.5 KiB\n"
	       "live objects: 7\n"
	       "\n"
	       "ZONE    FREE  OWNER\n"
	       "   9   9 MiB  me\n"
	       "  10  10 MiB  -\n"
	       "\n"
	       "log:\n"
	       "  full: no\n");
}
END_TEST

START_TEST(empty_tables_and_documents_are_valid)
{
	static const char *const columns[] = { "name", NULL };

	begin(true);
	expect("{}\n");
	begin(true);
	emit_table(&e, "arenas", columns);
	emit_table_end(&e);
	expect("{\n  \"arenas\": []\n}\n");
	begin(false);
	emit_table(&e, "arenas", columns);
	emit_table_end(&e);
	expect("NAME\n");
	begin(false);
	expect("");
}
END_TEST

START_TEST(streams_print_a_record_a_line)
{
	for (int json = 0; json < 2; json++) {
		begin_stream(json);
		for (unsigned i = 0; i < 2; i++) {
			emit_record(&e);
			emit_u64(&e, "pid", 40 + i);
			emit_data(&e, "data", "hi\n", 3);
			ck_assert_int_eq(emit_record_end(&e), 0);
		}
		expect(json ? "{\"pid\": 40, \"data\": \"hi\\n\"}\n{\"pid\": 41, \"data\": \"hi\\n\"}\n"
			    : "40 hi\\n\n41 hi\\n\n");
	}
}
END_TEST

START_TEST(what_is_held_back_is_printed_at_the_end_or_never)
{
	for (int json = 0; json < 2; json++) {
		out = open_memstream(&output, &output_size);
		emit_begin_held(&e, out, json);
		a_document();
		fflush(out);
		ck_assert_uint_eq(output_size, 0);
		ck_assert_int_eq(emit_end(&e), 0);
		fflush(out);
		ck_assert_uint_gt(output_size, 100);
		fclose(out);
		free(output);

		static const char *const columns[] = { "a", NULL };

		out = open_memstream(&output, &output_size);
		emit_begin_held(&e, out, json);
		emit_u64(&e, "b", 1);
		emit_table(&e, "t", columns);
		emit_row(&e);
		emit_u64(&e, "a", 1);
		emit_drop(&e);
		fclose(out);
		ck_assert_uint_eq(output_size, 0);
		free(output);
	}
}
END_TEST

START_TEST(lines_for_people_are_not_in_json)
{
	for (int json = 0; json < 2; json++) {
		begin(json);
		emit_u64(&e, "full_percent", 1);
		emit_line(&e, "~~~");
		emit_none(&e, "none");
		expect(json ? "{\n  \"full_percent\": 1,\n  \"none\": null\n}\n"
			    : "full: 1\n~~~\nnone: -\n");
	}
}
END_TEST

static void expect_json(const char *data, size_t length, const char *json, bool is_exact)
{
	bool exact;
	char *text = emit_json_string(data, length, &exact);

	ck_assert_str_eq(text, json);
	ck_assert_int_eq(exact, is_exact);
	free(text);
}

START_TEST(json_strings_escape_what_they_must)
{
	expect_json("", 0, "\"\"", true);
	expect_json("a\"b\\c/", 6, "\"a\\\"b\\\\c/\"", true);
	expect_json("\b\f\n\r\t\x01\x1f\x7f\0", 9,
		    "\"\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\\u0000\"", true);
	expect_json("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
		    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", true);
}
END_TEST

START_TEST(json_strings_replace_invalid_utf8)
{
#define BAD "\xef\xbf\xbd"
	expect_json("a\xff"
		    "b",
		    3, "\"a" BAD "b\"", false);
	expect_json("\x80", 1, "\"" BAD "\"", false);
	expect_json("\xc0\xaf", 2, "\"" BAD BAD "\"", false);		      /* overlong */
	expect_json("\xe0\x80\xaf", 3, "\"" BAD BAD BAD "\"", false);	      /* overlong */
	expect_json("\xed\xa0\x80", 3, "\"" BAD BAD BAD "\"", false);	      /* surrogate */
	expect_json("\xf4\x90\x80\x80", 4, "\"" BAD BAD BAD BAD "\"", false); /* too high */
	expect_json("\xe2\x82", 2, "\"" BAD BAD "\"", false);		      /* cut */
	expect_json("\xe2\x82"
		    "a",
		    3, "\"" BAD BAD "a\"", false);
}
END_TEST

START_TEST(invalid_bytes_are_kept_in_base64)
{
	begin_stream(true);
	emit_record(&e);
	emit_data(&e, "data", "\xff\x00\x10z", 4);
	emit_data(&e, "more", "fine", 4);
	emit_record_end(&e);
	expect("{\"data\": \"" BAD
	       "\\u0000\\u0010z\", \"data_base64\": \"/wAQeg==\", \"more\": \"fine\"}\n");
}
END_TEST

START_TEST(base64_pads)
{
	static const char *const expected[] = { "",	    "Zg==",	"Zm8=",	   "Zm9v",
						"Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };

	for (size_t n = 0; n < 7; n++) {
		char *text = emit_base64("foobar", n);

		ck_assert_str_eq(text, expected[n]);
		free(text);
	}
}
END_TEST

START_TEST(terminals_get_nothing_they_obey)
{
	static const char data[] = "a\x1b[31m\tb\n\r\x7f\xc2\x9b\xc2\xa0\xff\xc3\xa9";
	char *text = emit_printable(data, sizeof(data) - 1);

	ck_assert_str_eq(text, "a\\x1b[31m\tb\\n\\x0d\\x7f\\xc2\\x9b\xc2\xa0\\xff\xc3\xa9");
	free(text);
}
END_TEST

START_TEST(sizes_are_shown_for_people)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = { { 0, "0 B" },
		      { 1023, "1023 B" },
		      { 1024, "1 KiB" },
		      { 1536, "1.5 KiB" },
		      { 1 << 20, "1 MiB" },
		      { UINT64_C(16) << 40, "16 TiB" },
		      { UINT64_MAX, "16.0 EiB" } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = emit_human_bytes(cases[i].bytes);

		ck_assert_str_eq(text, cases[i].text);
		free(text);
	}
}
END_TEST

START_TEST(times_are_utc_in_json_and_local_in_text)
{
	setenv("TZ", "UTC-2", 1); /* two hours east */
	begin_stream(true);
	emit_record(&e);
	emit_time(&e, "time", UINT64_C(1700000000123456789));
	emit_record_end(&e);
	expect("{\"time\": \"2023-11-14T22:13:20.123456789Z\"}\n");
	begin_stream(false);
	emit_record(&e);
	emit_time(&e, "time", UINT64_C(1700000000123456789));
	emit_record_end(&e);
	expect("2023-11-15 00:13:20.123456\n");
}
END_TEST

START_TEST(what_is_not_finite_is_null)
{
	begin_stream(true);
	emit_record(&e);
	emit_real(&e, "a", NAN, 2);
	emit_percent(&e, "b", INFINITY);
	emit_real(&e, "c", 1.005, 1);
	emit_i64(&e, "d", INT64_MIN);
	emit_u64(&e, "e", UINT64_MAX);
	emit_hex(&e, "f", 0xabc);
	emit_record_end(&e);
	expect("{\"a\": null, \"b\": null, \"c\": 1.0, \"d\": -9223372036854775808, "
	       "\"e\": 18446744073709551615, \"f\": \"0xabc\"}\n");
}
END_TEST

START_TEST(a_full_disk_is_reported)
{
	FILE *full = fopen("/dev/full", "w");

	ck_assert_ptr_nonnull(full);
	emit_begin(&e, full, true);
	emit_u64(&e, "a", 1);
	ck_assert_int_eq(emit_end(&e), -ENOSPC);
	fclose(full);
}
END_TEST

/* Whatever the bytes, both forms stay one line, valid UTF-8 and without control characters. */
START_TEST(any_bytes_stay_harmless)
{
	srand((unsigned)test_seed("any_bytes_stay_harmless"));
	for (int round = 0; round < 2000; round++) {
		unsigned char data[40];
		size_t n = (size_t)rand() % sizeof(data);
		bool exact;

		for (size_t i = 0; i < n; i++)
			data[i] = (unsigned char)(rand() % 4 ? 0x70 + rand() % 0x90 : rand() % 256);
		char *texts[2] = { emit_json_string(data, n, &exact), emit_printable(data, n) };

		for (int t = 0; t < 2; t++) {
			bool now;
			char *again = emit_json_string(texts[t], strlen(texts[t]), &now);

			ck_assert(now);
			for (const char *c = texts[t]; *c; c++)
				ck_assert((unsigned char)*c >= 0x20 || (t == 1 && *c == '\t'));
			free(again);
			free(texts[t]);
		}
	}
}
END_TEST

static void a_record_with_fields(void)
{
	char *key = emit_key(&e, "odd\"\n", 5);

	emit_record(&e);
	emit_paint(&e, "31");
	emit_string(&e, "level", "err");
	emit_paint(&e, NULL);
	emit_string(&e, "data", "text");
	emit_section(&e, "fields");
	emit_i64(&e, "n", -1);
	emit_double(&e, "d", 0.1);
	emit_double(&e, "inf", -INFINITY);
	emit_string(&e, "spaced", "a b");
	emit_string(&e, "empty", "");
	emit_blob(&e, "raw", "\xff", 1);
	emit_bool(&e, key, true);
	emit_list(&e, "list");
	emit_u64(&e, "list", 1);
	emit_string(&e, "list", "two");
	emit_list_end(&e);
	emit_section_end(&e);
	ck_assert_int_eq(emit_record_end(&e), 0);
	free(key);
}

START_TEST(fields_of_a_record_are_an_object_in_json)
{
	begin_stream(true);
	a_record_with_fields();
	expect("{\"level\": \"err\", \"data\": \"text\", \"fields\": {\"n\": -1, \"d\": 0.1, \"inf\": null, "
	       "\"spaced\": \"a b\", \"empty\": \"\", \"raw_base64\": \"/w==\", \"odd\\\"\\n\": true, "
	       "\"list\": [1, \"two\"]}}\n");
}
END_TEST

START_TEST(fields_of_a_record_are_pairs_for_people)
{
	begin_stream(false);
	a_record_with_fields();
	expect("\033[31merr\033[0m text n=-1 d=0.1 inf=-inf spaced=\"a b\" empty=\"\" raw=\\xff odd\"\\n=yes "
	       "list=1 list=two\n");
}
END_TEST

START_TEST(numbers_are_read_back_as_the_same)
{
	static const double numbers[] = { 0.1, 1.0 / 3, 1e300, 5e-324, -0.0, 123456789012345678.0 };

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		begin_stream(true);
		emit_record(&e);
		emit_double(&e, "d", numbers[i]);
		ck_assert_int_eq(emit_record_end(&e), 0);
		ck_assert_int_eq(emit_end(&e), 0);
		fclose(out);
		ck_assert(strtod(output + strlen("{\"d\": "), NULL) == numbers[i]);
		free(output);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("emit");
	TCase *c = tcase_create("emit");

	tcase_add_test(c, json_shows_keys_and_exact_values);
	tcase_add_test(c, fields_of_a_record_are_an_object_in_json);
	tcase_add_test(c, fields_of_a_record_are_pairs_for_people);
	tcase_add_test(c, numbers_are_read_back_as_the_same);
	tcase_add_test(c, text_aligns_and_shows_units);
	tcase_add_test(c, empty_tables_and_documents_are_valid);
	tcase_add_test(c, streams_print_a_record_a_line);
	tcase_add_test(c, what_is_held_back_is_printed_at_the_end_or_never);
	tcase_add_test(c, lines_for_people_are_not_in_json);
	tcase_add_test(c, json_strings_escape_what_they_must);
	tcase_add_test(c, json_strings_replace_invalid_utf8);
	tcase_add_test(c, invalid_bytes_are_kept_in_base64);
	tcase_add_test(c, base64_pads);
	tcase_add_test(c, terminals_get_nothing_they_obey);
	tcase_add_test(c, sizes_are_shown_for_people);
	tcase_add_test(c, times_are_utc_in_json_and_local_in_text);
	tcase_add_test(c, what_is_not_finite_is_null);
	tcase_add_test(c, a_full_disk_is_reported);
	tcase_add_test(c, any_bytes_stay_harmless);
	suite_add_tcase(s, c);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
