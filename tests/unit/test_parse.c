/* SPDX-License-Identifier: Apache-2.0 */
/* What users write: sizes, numbers, levels, node lists, times; and what they must not. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"

#include "../seed.h"

#define S UINT64_C(1000000000)
/* 2023-11-14 22:13:20 UTC, a Tuesday. */
#define NOW (UINT64_C(1700000000) * S)

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

START_TEST(sizes_take_suffixes)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = { { "0", 0 },
		     { "4096", 4096 },
		     { "1K", 1024 },
		     { "16m", UINT64_C(16) << 20 },
		     { "3G", UINT64_C(3) << 30 },
		     { "16T", UINT64_C(16) << 40 },
		     { "64KiB", 65536 },
		     { "16777215T", UINT64_C(16777215) << 40 },
		     { "18446744073709551615", UINT64_MAX } };

	for (size_t i = 0; i < COUNT(good); i++) {
		uint64_t v = 1;

		ck_assert_int_eq(parse_size(good[i].text, &v), 0);
		ck_assert_uint_eq(v, good[i].bytes);
	}
}
END_TEST

START_TEST(sizes_that_overflow_are_out_of_range)
{
	static const char *const bad[] = { "18446744073709551616", "99999999999999999999999",
					   "16777216T", "18014398509481984K" };

	for (size_t i = 0; i < COUNT(bad); i++) {
		uint64_t v;

		ck_assert_int_eq(parse_size(bad[i], &v), -ERANGE);
	}
}
END_TEST

START_TEST(what_is_no_size_is_refused)
{
	static const char *const bad[] = { "",	  "K",	   "-1", "+1",	 " 1",	 "1 ",	"1 K",
					   "1KB", "1KiBs", "1P", "0x10", "1.5G", "1KK", "1iB" };

	for (size_t i = 0; i < COUNT(bad); i++) {
		uint64_t v;

		ck_assert_msg(parse_size(bad[i], &v) == -EINVAL, "%s", bad[i]);
	}
}
END_TEST

START_TEST(numbers_modes_and_levels)
{
	uint64_t v;
	uint32_t mode;
	int level;

	ck_assert_int_eq(parse_number("12", 1, 20, &v), 0);
	ck_assert_uint_eq(v, 12);
	ck_assert_int_eq(parse_number("21", 1, 20, &v), -ERANGE);
	ck_assert_int_eq(parse_number("0", 1, 20, &v), -ERANGE);
	ck_assert_int_eq(parse_number("1x", 1, 20, &v), -EINVAL);
	ck_assert_int_eq(parse_mode("0640", &mode), 0);
	ck_assert_uint_eq(mode, 0640);
	ck_assert_int_eq(parse_mode("648", &mode), -EINVAL);
	ck_assert_int_eq(parse_mode("1777", &mode), -ERANGE);
	ck_assert_int_eq(parse_mode("rw", &mode), -EINVAL);
	ck_assert_int_eq(parse_level("7", &level), 0);
	ck_assert_int_eq(level, 7);
	ck_assert_int_eq(parse_level("8", &level), -ERANGE);
	ck_assert_int_eq(parse_level("Error", &level), 0);
	ck_assert_int_eq(level, 3);
	ck_assert_int_eq(parse_level("", &level), -EINVAL);
	for (int i = 0; i < 8; i++) {
		ck_assert_int_eq(parse_level(parse_level_name(i), &level), 0);
		ck_assert_int_eq(level, i);
	}
	ck_assert_str_eq(parse_level_name(8), "?");
	ck_assert_str_eq(parse_level_name(-1), "?");
}
END_TEST

START_TEST(ranges_of_levels)
{
	static const struct {
		const char *text;
		unsigned mask;
	} good[] = { { "emerg", 0x01 },	     { "err", 0x0f },	   { "7", 0xff },	{ "3..5", 0x38 },
		     { "3-5", 0x38 },	     { "5..3", 0x38 },	   { "err..err", 0x08 }, { "Debug-warn", 0xf0 },
		     { "0..debug", 0xff } };
	static const char *const bad[] = { "", "..", "3..", "..3", "3...5", "loud", "err..loud", "3-5-6", "-3",
					   "err err", "notanylevelthatthereisatall" };
	unsigned mask;

	for (size_t i = 0; i < COUNT(good); i++) {
		ck_assert_int_eq(parse_levels(good[i].text, &mask), 0);
		ck_assert_msg(mask == good[i].mask, "%s: %x", good[i].text, mask);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		ck_assert_msg(parse_levels(bad[i], &mask) == -EINVAL, "%s", bad[i]);
	ck_assert_int_eq(parse_levels("8", &mask), -ERANGE);
	ck_assert_int_eq(parse_levels("3..8", &mask), -ERANGE);
}
END_TEST

START_TEST(node_lists)
{
	uint64_t v;

	ck_assert_int_eq(parse_nodes("0", &v), 0);
	ck_assert_uint_eq(v, 1);
	ck_assert_int_eq(parse_nodes("0-3,5", &v), 0);
	ck_assert_uint_eq(v, 0x2f);
	ck_assert_int_eq(parse_nodes("0-63", &v), 0);
	ck_assert_uint_eq(v, UINT64_MAX);
	ck_assert_int_eq(parse_nodes("64", &v), -ERANGE);
	ck_assert_int_eq(parse_nodes("0-99999999999999999999", &v), -ERANGE);
	ck_assert_int_eq(parse_nodes("3-1", &v), -EINVAL);
	ck_assert_int_eq(parse_nodes("2,0-3", &v), -EEXIST);
	ck_assert_int_eq(parse_nodes("63,63", &v), -EEXIST);
	ck_assert_int_eq(parse_nodes("", &v), -EINVAL);
	ck_assert_int_eq(parse_nodes("1,", &v), -EINVAL);
	ck_assert_int_eq(parse_nodes("1,,2", &v), -EINVAL);
	ck_assert_int_eq(parse_nodes("1-", &v), -EINVAL);
	ck_assert_int_eq(parse_nodes("a", &v), -EINVAL);
}
END_TEST

static void expect_times(const char *zone, size_t n, const char *const texts[],
			 const uint64_t times[])
{
	setenv("TZ", zone, 1);
	for (size_t i = 0; i < n; i++) {
		uint64_t v = 0;
		int r = parse_time(texts[i], NOW, &v);

		ck_assert_msg(r == 0 && v == times[i], "%s: %d, %llu for %llu", texts[i], r,
			      (unsigned long long)v, (unsigned long long)times[i]);
	}
}

START_TEST(times_with_a_zone)
{
	static const char *const texts[] = { "2023-11-14T22:13:20Z",
					     "2023-11-14 22:13:20.5Z",
					     "2023-11-15T00:13:20+02:00",
					     "2023-11-14T17:13:20-0500",
					     "2023-11-14T22:13Z",
					     "1970-01-01Z",
					     "2024-02-29T00:00:00.1234567899Z",
					     "2023-11-14T21:13:20-01" };
	static const uint64_t times[] = {
		NOW, NOW + S / 2, NOW, NOW, NOW - 20 * S, 0, UINT64_C(1709164800123456789), NOW
	};

	expect_times("UTC-2", COUNT(texts), texts, times);
}
END_TEST

START_TEST(times_without_a_zone_are_local)
{
	/* Now is 00:13:20 on the 15th, two hours east. */
	static const char *const texts[] = { "2023-11-15T00:13:20",
					     "2023-11-15 00:13",
					     "2023-11-15",
					     "00:13:20.25",
					     "00:13",
					     "23:00",
					     "today",
					     "yesterday",
					     "now" };
	static const uint64_t times[] = { NOW,
					  NOW - 20 * S,
					  NOW - 800 * S,
					  NOW + S / 4,
					  NOW - 20 * S,
					  NOW - 800 * S + 23 * 3600 * S,
					  NOW - 800 * S,
					  NOW - 800 * S - 86400 * S,
					  NOW };

	expect_times("UTC-2", COUNT(texts), texts, times);
}
END_TEST

START_TEST(relative_times_and_epochs)
{
	static const char *const texts[] = { "-5m", "-90s",	   "-1h30m", "-2d", "-1w",
					     "-0s", "@1700000000", "@12.5",  "@0",
					     "10 min ago", "1 hour 30 minutes ago", "5m ago", "2 days ago",
					     "-5 min", "-1week", "1700000000", "1700000000.25" };
	static const uint64_t times[] = { NOW - 300 * S,
					  NOW - 90 * S,
					  NOW - 5400 * S,
					  NOW - 172800 * S,
					  NOW - 604800 * S,
					  NOW,
					  NOW,
					  12 * S + S / 2,
					  0,
					  NOW - 600 * S,
					  NOW - 5400 * S,
					  NOW - 300 * S,
					  NOW - 172800 * S,
					  NOW - 300 * S,
					  NOW - 604800 * S,
					  NOW,
					  NOW + S / 4 };

	expect_times("UTC", COUNT(texts), texts, times);
}
END_TEST

START_TEST(what_is_no_time_is_refused)
{
	static const char *const bad[] = { "",
					   "-",
					   "-5",
					   "-5x",
					   "5m",
					   "@",
					   "@1x",
					   "@1.",
					   "12",
					   "12:",
					   "12:3",
					   "12:30:",
					   "2023",
					   "2023-11",
					   "2023-11-14T",
					   "2023-11-14T12",
					   "2023-11-14x",
					   "2023-1-4",
					   "-m",
					   "2023-11-14T12:30:15.",
					   "2023-11-14T12:30Zx",
					   "2023-11-14T12:30+",
					   "12:00+0",
					   "ago",
					   " ago",
					   "5 ago",
					   "5 apples ago",
					   "min ago",
					   "5 min ago ago",
					   "5  min ago",
					   "5 min 3 ago",
					   "-5 min agone",
					   "170000000x",
					   "tomorrow" };
	static const char *const range[] = { "2023-13-01",
					     "2023-02-30",
					     "2023-11-00",
					     "24:00",
					     "12:60",
					     "1969-12-31",
					     "-99999w",
					     "@18446744074",
					     "@99999999999999999999",
					     "-99999999999999999999s",
					     "2501-01-01" };
	uint64_t v;

	setenv("TZ", "UTC", 1);
	for (size_t i = 0; i < COUNT(bad); i++)
		ck_assert_msg(parse_time(bad[i], NOW, &v) == -EINVAL, "%s", bad[i]);
	for (size_t i = 0; i < COUNT(range); i++)
		ck_assert_msg(parse_time(range[i], NOW, &v) == -ERANGE, "%s", range[i]);
}
END_TEST

START_TEST(any_text_is_parsed_or_refused)
{
	static const char alphabet[] = "0123456789-:TZ.@+smhKMG ago";
	srand((unsigned)test_seed("any_text_is_parsed_or_refused"));
	for (int round = 0; round < 20000; round++) {
		char text[24];
		size_t n = (size_t)rand() % sizeof(text);
		uint64_t v;
		int r;

		for (size_t i = 0; i < n; i++)
			text[i] = alphabet[(size_t)rand() % (sizeof(alphabet) - 1)];
		text[n ? n - 1 : 0] = 0;
		r = parse_time(text, NOW, &v);
		ck_assert(r == 0 || r == -EINVAL || r == -ERANGE);
		r = parse_size(text, &v);
		ck_assert(r == 0 || r == -EINVAL || r == -ERANGE);
		r = parse_nodes(text, &v);
		ck_assert(r == 0 || r == -EINVAL || r == -ERANGE);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("parse");
	TCase *c = tcase_create("parse");

	tcase_add_test(c, sizes_take_suffixes);
	tcase_add_test(c, sizes_that_overflow_are_out_of_range);
	tcase_add_test(c, what_is_no_size_is_refused);
	tcase_add_test(c, numbers_modes_and_levels);
	tcase_add_test(c, ranges_of_levels);
	tcase_add_test(c, node_lists);
	tcase_add_test(c, times_with_a_zone);
	tcase_add_test(c, times_without_a_zone_are_local);
	tcase_add_test(c, relative_times_and_epochs);
	tcase_add_test(c, what_is_no_time_is_refused);
	tcase_add_test(c, any_text_is_parsed_or_refused);
	suite_add_tcase(s, c);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
