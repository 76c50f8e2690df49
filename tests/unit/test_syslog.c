/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of syslog(3) and logger(1), by both formats, and whatever else comes over such a socket. */
#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "syslog_text.h"

#include "../seed.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char bytes[8192];
static struct syslog_message m;

static void parse(const char *text)
{
	size_t n = strlen(text);

	ck_assert(n < sizeof(bytes));
	memcpy(bytes, text, n);
	syslog_parse(bytes, n, "here", &m);
}

static void expect(const struct syslog_slice *s, const char *text)
{
	ck_assert_msg(s->length == strlen(text) && (!s->length || !memcmp(s->at, text, s->length)), "'%.*s', not '%s'",
		      (int)s->length, s->at ? s->at : "", text);
}

START_TEST(a_priority_is_level_and_facility)
{
	parse("<30>x");
	ck_assert_int_eq(m.level, 6);
	ck_assert_str_eq(syslog_facility_name(m.facility), "daemon");
	parse("<0>x");
	ck_assert_int_eq(m.level, 0);
	ck_assert_str_eq(syslog_facility_name(m.facility), "kern");
	parse("<191>x");
	ck_assert_int_eq(m.level, 7);
	ck_assert_str_eq(syslog_facility_name(m.facility), "local7");
	ck_assert_ptr_null(syslog_facility_name(24));
	ck_assert_ptr_null(syslog_facility_name(-1));
}
END_TEST

START_TEST(without_a_priority_it_is_a_users_notice_and_all_of_it_text)
{
	static const char *const texts[] = { "", "x", "<", "<1", "<192>x", "<>x", "<1x>y", "<-1>x", "<9999>x" };

	for (size_t i = 0; i < COUNT(texts); i++) {
		parse(texts[i]);
		ck_assert_int_eq(m.level, 5);
		ck_assert_int_eq(m.facility, 1);
		expect(&m.text, texts[i]);
	}
}
END_TEST

/* What glibc's syslog(3) sends, and util-linux's logger to a local socket. */
START_TEST(what_programs_send_to_dev_log)
{
	static const struct {
		const char *message, *host, *ident, *process, *text;
	} cases[] = {
		{ "<13>Nov 22 22:18:48 prog: hello", "", "prog", "", "hello" },
		{ "<13>Nov  2 22:18:48 prog[12]: hello: you", "", "prog", "12", "hello: you" },
		{ "<13>Nov 22 22:18:48 my prog[12]: hello", "", "my prog", "12", "hello" },
		{ "<13>Nov 22 22:18:48 here prog: hello", "here", "prog", "", "hello" },
		{ "<13>Nov 22 22:18:48 here my prog[7]: hello", "here", "my prog", "7", "hello" },
		{ "<13>prog[x-1]:\thello", "", "", "", "prog[x-1]:\thello" },
		{ "<13>prog[]: hello", "", "prog[]", "", "hello" },
		{ "<13>Nov 22 22:18:48 prog:", "", "prog", "", "" },
		{ "<13>Nov 22 22:18:48 prog:hello", "", "", "", "prog:hello" },
		{ "<13>Nov 22 22:18:48 no ident: is here", "", "", "", "no ident: is here" },
		{ "<13>Nov 22 22:18:48 there prog: hello", "", "", "", "there prog: hello" },
		{ "<13>Nov 22 22:18:48 : hello", "", "", "", ": hello" },
		{ "<13>Nov 22 22:18 prog: hello", "", "", "", "Nov 22 22:18 prog: hello" },
		{ "<13>Nov 22 22:18:48 prog: two\nlines\n", "", "prog", "", "two\nlines" },
		{ "<13>http://host: 80", "", "http://host", "", "80" },
		{ "<13>", "", "", "", "" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		parse(cases[i].message);
		expect(&m.host, cases[i].host);
		expect(&m.ident, cases[i].ident);
		expect(&m.process, cases[i].process);
		expect(&m.text, cases[i].text);
		ck_assert_uint_eq(m.time.length, 0);
		ck_assert_uint_eq(m.param_count, 0);
	}
}
END_TEST

START_TEST(a_time_with_year_and_zone_is_kept)
{
	parse("<13>2026-01-31T12:30:15.123456+01:00 prog: hello");
	expect(&m.time, "2026-01-31T12:30:15.123456+01:00");
	expect(&m.ident, "prog");
	expect(&m.text, "hello");
}
END_TEST

START_TEST(all_fields_of_rfc_5424)
{
	parse("<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 77 ID47 "
	      "[exampleSDID@32473 iut=\"3\" eventSource=\"Application\" eventID=\"1011\"]"
	      "[empty@1][examplePriority@32473 class=\"hi\\\"gh \\] \\\\ \\n\"] \xef\xbb\xbf"
	      "An application event log entry...");
	ck_assert_int_eq(m.level, 5);
	ck_assert_int_eq(m.facility, 20);
	expect(&m.time, "2003-10-11T22:14:15.003Z");
	expect(&m.host, "mymachine.example.com");
	expect(&m.ident, "evntslog");
	expect(&m.process, "77");
	expect(&m.id, "ID47");
	expect(&m.text, "An application event log entry...");
	ck_assert_uint_eq(m.param_count, 5);
	expect(&m.params[0].id, "exampleSDID@32473");
	expect(&m.params[0].name, "iut");
	expect(&m.params[0].value, "3");
	expect(&m.params[2].value, "1011");
	expect(&m.params[3].id, "empty@1");
	ck_assert_uint_eq(m.params[3].name.length, 0);
	expect(&m.params[4].value, "hi\"gh ] \\ \\n");
	expect(&m.data, "");
}
END_TEST

START_TEST(a_dash_is_nothing)
{
	parse("<34>1 - - - - - - text - and more");
	ck_assert_uint_eq(m.time.length + m.host.length + m.ident.length + m.process.length +
				  m.id.length + m.param_count, 0);
	expect(&m.text, "text - and more");
	parse("<34>1 - - su - - -");
	expect(&m.ident, "su");
	expect(&m.text, "");
}
END_TEST

START_TEST(what_breaks_rfc_5424_is_text)
{
	static const char *const texts[] = { "1 - - - - - [",
					     "1 - - - - - [a b=\"c\"",
					     "1 - - - - - [a b=\"c\\\"]",
					     "1 - - - - - [a b=c] x",
					     "1 - - - - - [a b] x",
					     "1 - - - - - [] x",
					     "1 - - - - - [a=b] x",
					     "1 - - - - - [a]x",
					     "1 - - - - - x",
					     "1 - - - - -",
					     "1 - - - -  - x",
					     "2 - - - - - - x",
					     "1 - - - - - [a1234567890123456789012345678901234 b=\"c\"] x" };

	for (size_t i = 0; i < COUNT(texts); i++) {
		char message[128];

		snprintf(message, sizeof(message), "<13>%s", texts[i]);
		parse(message);
		expect(&m.text, texts[i]);
		ck_assert_uint_eq(m.param_count + m.ident.length + m.host.length, 0);
	}
}
END_TEST

START_TEST(more_structured_data_than_there_is_room_for_is_kept_as_written)
{
	char message[4096] = "<13>1 - - - - - [a", *start = message + 16;
	size_t n;

	for (int i = 0; i <= SYSLOG_PARAMS_MAX; i++)
		strcat(message, " b=\"\\\"\"");
	strcat(message, "]");
	n = strlen(start);
	strcat(message, " text");
	parse(message);
	ck_assert_uint_eq(m.param_count, 0);
	ck_assert_uint_eq(m.data.length, n);
	ck_assert_int_eq(memcmp(m.data.at, start, n), 0);
	expect(&m.text, "text");
}
END_TEST

static bool within(const struct syslog_slice *s, size_t length)
{
	return !s->length || (s->at >= bytes && s->at + s->length <= bytes + length);
}

START_TEST(any_bytes_are_a_message)
{
	static const char *const starts[] = { "<13>1 - - - - - [a b=\"c\"] x", "<13>Nov 22 22:18:48 here p[1]: x",
					      "<13>", "" };
	static const char alphabet[] = "<>1 -[]=\"\\:ax\n\t\xff";

	srand((unsigned)test_seed("any_bytes_are_a_message"));
	for (int round = 0; round < 50000; round++) {
		const char *start = starts[(size_t)rand() % COUNT(starts)];
		size_t n = strlen(start);

		memcpy(bytes, start, n);
		for (int extra = rand() % 8; extra > 0; extra--)
			bytes[n++] = alphabet[(size_t)rand() % sizeof(alphabet)];
		for (int changes = rand() % 4; n && changes > 0; changes--)
			bytes[(size_t)rand() % n] = alphabet[(size_t)rand() % sizeof(alphabet)];
		syslog_parse(bytes, n, "here", &m);
		ck_assert(m.level >= 0 && m.level < 8 && syslog_facility_name(m.facility));
		ck_assert(within(&m.text, n) && within(&m.ident, n) && within(&m.data, n) &&
			  within(&m.process, n) && within(&m.host, n));
		ck_assert_uint_le(m.param_count, SYSLOG_PARAMS_MAX);
		for (size_t i = 0; i < m.param_count; i++)
			ck_assert(within(&m.params[i].value, n) && m.params[i].id.length &&
				  m.params[i].id.length <= SYSLOG_NAME_MAX);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("syslog");
	TCase *c = tcase_create("syslog");

	tcase_add_test(c, a_priority_is_level_and_facility);
	tcase_add_test(c, without_a_priority_it_is_a_users_notice_and_all_of_it_text);
	tcase_add_test(c, what_programs_send_to_dev_log);
	tcase_add_test(c, a_time_with_year_and_zone_is_kept);
	tcase_add_test(c, all_fields_of_rfc_5424);
	tcase_add_test(c, a_dash_is_nothing);
	tcase_add_test(c, what_breaks_rfc_5424_is_text);
	tcase_add_test(c, more_structured_data_than_there_is_room_for_is_kept_as_written);
	tcase_add_test(c, any_bytes_are_a_message);
	suite_add_tcase(s, c);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
