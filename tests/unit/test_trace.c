/* SPDX-License-Identifier: Apache-2.0 */
/* Traces: sound ones are accounted exactly, any other bytes are refused with their reason. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace_file.h"

#include "../seed.h"

static unsigned char bytes[1 << 16];
static size_t length;

static void put32(uint32_t v)
{
	for (int i = 0; i < 4; i++)
		bytes[length++] = (unsigned char)(v >> (8 * i));
}

static void put_header(uint32_t objects, uint32_t threads)
{
	memcpy(bytes, "SMTRACE1", 8);
	length = 8;
	put32(objects);
	put32(threads);
}

static void put_event(unsigned op, unsigned thread, uint32_t object, uint32_t size)
{
	bytes[length++] = (unsigned char)op;
	bytes[length++] = (unsigned char)thread;
	bytes[length++] = 0;
	bytes[length++] = 0;
	put32(object);
	put32(size);
}

/* Reads all there is; the account of it in *a, which is left to be freed. */
static enum trace_error read_all(struct trace_account *a)
{
	struct trace_header header = { 0 };
	enum trace_error error = trace_read_header(bytes, length, &header);

	trace_account_init(a, &header);
	for (size_t at = TRACE_HEADER_BYTES; !error && at < length; at += TRACE_EVENT_BYTES) {
		struct trace_event event;

		error = trace_read_event(&header, bytes + at, length - at, &event);
		if (!error)
			error = trace_account_event(a, &event);
	}
	return error;
}

static void expect(enum trace_error error)
{
	struct trace_account a;

	ck_assert_int_eq(read_all(&a), error);
	trace_account_free(&a);
}

START_TEST(a_sound_trace_is_accounted)
{
	struct trace_account a;

	put_header(3, 2);
	put_event(TRACE_ALLOC, 0, 0, 100);
	put_event(TRACE_ALLOC, 1, 1, 50);
	put_event(TRACE_RESIZE, 0, 0, 200);
	put_event(TRACE_FREE, 1, 1, 0);
	put_event(TRACE_ALLOC, 1, 2, 10);
	put_event(TRACE_ALLOC, 0, 1, 0); /* allocated again, with no bytes */
	ck_assert_int_eq(read_all(&a), TRACE_OK);
	ck_assert_uint_eq(a.events, 6);
	ck_assert_uint_eq(a.live_objects, 3);
	ck_assert_uint_eq(a.live_bytes, 210);
	ck_assert_uint_eq(a.peak_bytes, 250);
	ck_assert_uint_eq(a.peak_event, 3);
	ck_assert_uint_eq(a.peak_objects, 2);
	trace_account_free(&a);
}
END_TEST

START_TEST(a_trace_without_events_is_sound)
{
	put_header(0, 1);
	expect(TRACE_OK);
}
END_TEST

START_TEST(headers_are_checked)
{
	put_header(1, 1);
	for (size_t cut = 0; cut < TRACE_HEADER_BYTES; cut++) {
		length = cut;
		expect(TRACE_NOT_A_TRACE);
	}
	put_header(1, 1);
	bytes[7] = '2';
	expect(TRACE_NOT_A_TRACE);
	put_header(1, 0);
	expect(TRACE_NO_THREADS);
	put_header(1, 257);
	expect(TRACE_NO_THREADS);
}
END_TEST

START_TEST(events_are_checked)
{
	static const struct {
		unsigned op, thread;
		uint32_t object, size;
		enum trace_error error;
	} cases[] = {
		{ 0, 0, 0, 1, TRACE_BAD_OP },
		{ 4, 0, 0, 1, TRACE_BAD_OP },
		{ TRACE_ALLOC, 2, 0, 1, TRACE_BAD_THREAD },
		{ TRACE_ALLOC, 0, 3, 1, TRACE_BAD_OBJECT },
		{ TRACE_ALLOC, 0, 2, 1, TRACE_BAD_ORDER },
		{ TRACE_ALLOC, 0, 0, 1, TRACE_LIVE },
		{ TRACE_FREE, 0, 0, 5, TRACE_BAD_SIZE },
		{ TRACE_FREE, 0, 1, 0, TRACE_DEAD },
		{ TRACE_RESIZE, 0, 1, 9, TRACE_DEAD },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put_header(3, 2);
		put_event(TRACE_ALLOC, 0, 0, 8);
		put_event(cases[i].op, cases[i].thread, cases[i].object, cases[i].size);
		expect(cases[i].error);
	}
	put_header(3, 2);
	put_event(TRACE_ALLOC, 0, 0, 8);
	bytes[length - 9] = 1;
	expect(TRACE_BAD_ZERO);
	put_header(3, 2);
	put_event(TRACE_ALLOC, 0, 0, 8);
	put_event(TRACE_FREE, 0, 0, 0);
	put_event(TRACE_FREE, 0, 0, 0);
	expect(TRACE_DEAD);
	for (size_t cut = 1; cut < TRACE_EVENT_BYTES; cut++) {
		put_header(3, 2);
		put_event(TRACE_ALLOC, 0, 0, 8);
		length -= cut;
		expect(TRACE_CUT);
	}
}
END_TEST

START_TEST(the_largest_sizes_keep_the_account)
{
	struct trace_account a;

	put_header(2, 1);
	put_event(TRACE_ALLOC, 0, 0, UINT32_MAX);
	put_event(TRACE_ALLOC, 0, 1, UINT32_MAX - 1);
	put_event(TRACE_FREE, 0, 0, 0);
	put_event(TRACE_FREE, 0, 1, 0);
	ck_assert_int_eq(read_all(&a), TRACE_OK);
	ck_assert_uint_eq(a.live_bytes, 0);
	ck_assert_uint_eq(a.live_objects, 0);
	trace_account_free(&a);
}
END_TEST

START_TEST(a_header_reserves_nothing)
{
	struct trace_account a;

	put_header(UINT32_MAX, 1);
	put_event(TRACE_ALLOC, 0, UINT32_MAX - 1, 1);
	ck_assert_int_eq(read_all(&a), TRACE_BAD_ORDER);
	ck_assert_uint_eq(a.room, 0);
	trace_account_free(&a);
}
END_TEST

START_TEST(every_error_has_a_text)
{
	for (int i = 0; i < TRACE_ERRORS; i++) {
		ck_assert_str_ne(trace_error_text((enum trace_error)i), "unknown error");
		ck_assert_str_ne(trace_error_text((enum trace_error)i), "");
	}
	ck_assert_str_eq(trace_error_text(TRACE_ERRORS), "unknown error");
}
END_TEST

START_TEST(any_bytes_are_read_or_refused)
{
	srand((unsigned)test_seed("any_bytes_are_read_or_refused"));
	for (int round = 0; round < 5000; round++) {
		struct trace_account a;
		uint32_t live = 0;

		put_header(64, 4);
		for (int i = 0; i < 40; i++) {
			if (rand() % 2)
				put_event(TRACE_ALLOC, 0, live++, (uint32_t)rand());
			else
				put_event(TRACE_RESIZE, 1, (uint32_t)rand() % (live + 1),
					  (uint32_t)rand());
		}
		for (int i = rand() % 6; i > 0; i--)
			bytes[(size_t)rand() % length] ^= (unsigned char)(1 << rand() % 8);
		length -= (size_t)rand() % 20;
		enum trace_error error = read_all(&a);

		ck_assert(error < TRACE_ERRORS);
		ck_assert(a.seen <= a.header.objects);
		ck_assert(a.live_objects <= a.seen);
		ck_assert(a.live_bytes <= a.peak_bytes);
		trace_account_free(&a);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace");
	TCase *c = tcase_create("trace");

	tcase_add_test(c, a_sound_trace_is_accounted);
	tcase_add_test(c, a_trace_without_events_is_sound);
	tcase_add_test(c, headers_are_checked);
	tcase_add_test(c, events_are_checked);
	tcase_add_test(c, the_largest_sizes_keep_the_account);
	tcase_add_test(c, a_header_reserves_nothing);
	tcase_add_test(c, every_error_has_a_text);
	tcase_add_test(c, any_bytes_are_read_or_refused);
	suite_add_tcase(s, c);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
