/* SPDX-License-Identifier: Apache-2.0 */
/* Segments, scanning: what is found, and where a torn one is cut. */
#include <errno.h>

#include "segment_stage.h"

#include "../seed.h"

static struct stage s;
static struct stage_dir d;
static uint64_t ends[64]; /* of what may stand alone: the header, and each fragment */
static size_t end_count;

/* Own and shared records, a large one, a loss. */
static void setup(void)
{
	struct segment_fragment loss = { .kind = SEGMENT_LOSS, .lost = 5, .time_min = 90, .time_max = 95 };
	struct segment_fragment shared = { .kind = SEGMENT_SHARED, .slots = { 6 }, .lost = 2 };
	struct segment_author author = { .pid = 5, .tid = 6 };
	struct stage_payload p = { 0 };

	stage_open(&s, 9);
	end_count = 0;
	ends[end_count++] = s.bytes.len;
	for (uint32_t i = 0; i < 5; i++) {
		p.len = 0;
		stage_record(&p, NULL, 6, 100 + i, 1, "a record", 8);
		stage_record(&p, NULL, 6, 200 + i, 2, "another, longer record", 22);
		stage_own(&s, i, 3, 0, &p);
		ends[end_count++] = s.bytes.len;
	}
	stage_large(&s, 1, 4, 0, 300, "large, say, and not of eight bytes", 34);
	ends[end_count++] = s.bytes.len;
	p.len = 0;
	stage_record(&p, NULL, 2, 300, 3, NULL, 34);
	stage_own(&s, 1, 4, 0, &p);
	ends[end_count++] = s.bytes.len;
	stage_fragment(&s, &loss, NULL, 0);
	ends[end_count++] = s.bytes.len;
	p.len = 0;
	stage_record(&p, &author, 1, 400, 1, "shared", 6);
	stage_record(&p, &author, 1, 401, 2, "shared", 6);
	stage_fragment(&s, &shared, p.data, p.len);
	ends[end_count++] = s.bytes.len;
	stage_end(&s);
	ends[end_count++] = s.bytes.len;
	free(p.data);
	stage_dir_make(&d);
}

static void teardown(void)
{
	stage_dir_remove(&d);
	stage_close(&s);
}

static int scan(unsigned flags, struct segment_scan *ret)
{
	return segment_scan_number(d.path, s.number, flags, ret, NULL, NULL);
}

/* The last border at or before an offset. */
static uint64_t border(uint64_t at)
{
	uint64_t best = 0;

	for (size_t i = 0; i < end_count; i++)
		if (ends[i] <= at)
			best = ends[i];
	return best;
}

START_TEST(scan_finds_all_there_is)
{
	struct segment_scan got;

	stage_write(&s, &d);
	for (unsigned flags = 0; flags < 2; flags++) {
		ck_assert_int_eq(scan(flags, &got), 0);
		ck_assert_uint_eq(got.size, s.bytes.len);
		ck_assert_uint_eq(got.good, s.bytes.len);
		ck_assert(got.closed && !got.torn);
		ck_assert_uint_eq(got.fragments, 9);
		ck_assert_uint_eq(got.records, 13);
		ck_assert_uint_eq(got.lost, 7);
		ck_assert_uint_eq(got.time_min, 90);
		ck_assert_uint_eq(got.time_max, 401);
		ck_assert_uint_eq(got.header.number, 9);
	}
}
END_TEST

struct told {
	uint64_t offsets[64];
	size_t count, stop;
};

static int tell(void *context, const struct segment_header *h, const struct segment_fragment *f,
		uint64_t offset)
{
	struct told *told = context;

	ck_assert_uint_eq(h->number, 9);
	ck_assert_uint_eq(f->magic, SEGMENT_FRAGMENT_MAGIC);
	told->offsets[told->count++] = offset;
	return told->count == told->stop ? -ECANCELED : 0;
}

START_TEST(scan_tells_of_each_fragment_until_told_to_stop)
{
	struct told told = { .stop = 1000 };
	struct segment_scan got;
	char path[128];

	stage_write(&s, &d);
	stage_path(&d, s.number, false, path);
	ck_assert_int_eq(segment_scan_path(path, 0, &got, tell, &told), 0);
	ck_assert_uint_eq(told.count, end_count - 1);
	for (size_t i = 0; i < told.count; i++)
		ck_assert_uint_eq(told.offsets[i], ends[i]);
	told = (struct told){ .stop = 3 };
	ck_assert_int_eq(segment_scan_path(path, 0, &got, tell, &told), -ECANCELED);
	ck_assert_uint_eq(told.count, 3);
}
END_TEST

START_TEST(cut_off_anywhere_it_is_good_to_the_last_whole_fragment)
{
	struct segment_scan got;

	for (size_t len = 0; len <= s.bytes.len; len++) {
		int r;

		stage_write_some(&s, &d, len);
		r = scan(0, &got);
		if (len < sizeof(struct segment_header)) {
			ck_assert_int_eq(r, -EUCLEAN);
			continue;
		}
		ck_assert_int_eq(r, 0);
		ck_assert_uint_eq(got.good, border(len));
		ck_assert_int_eq(got.torn, got.good != len);
		ck_assert_int_eq(got.closed, len == s.bytes.len);
	}
}
END_TEST

/* The fragment that a byte belongs to, which is none of its header's; -1: it is the index's, or none's. */
static int payload_of(uint64_t at)
{
	for (size_t i = 0; i + 2 < end_count; i++)
		if (at >= ends[i] + sizeof(struct segment_fragment) && at < ends[i + 1])
			return (int)i;
	return -1;
}

/* A large payload's group is spoilt with it. */
static void check_spoilt(const struct segment_scan *got, int fragment)
{
	struct segment_fragment f, next;
	bool large;

	memcpy(&f, s.bytes.data + ends[fragment], sizeof(f));
	memcpy(&next, s.bytes.data + ends[fragment + 1], sizeof(next));
	large = f.kind == SEGMENT_LARGE;
	ck_assert_uint_eq(got->good, s.bytes.len);
	ck_assert(got->closed && !got->torn);
	ck_assert_uint_eq(got->spoilt, large ? 2 : 1);
	ck_assert_uint_eq(got->spoilt_records, large ? next.records : f.records);
	ck_assert_uint_eq(got->records, 13 - got->spoilt_records);
	ck_assert_uint_eq(got->fragments, 9 - got->spoilt);
	ck_assert_uint_eq(got->lost, 7);
}

START_TEST(with_any_bit_changed_that_is_left_out_or_it_is_cut_before)
{
	uint64_t seed = test_seed("with_any_bit_changed_that_is_left_out_or_it_is_cut_before");
	struct segment_scan got;

	srandom((unsigned)seed);
	for (size_t at = 0; at < s.bytes.len; at++) {
		unsigned char bit = (unsigned char)(1u << random() % 8);
		int r;

		s.bytes.data[at] ^= bit;
		stage_write(&s, &d);
		s.bytes.data[at] ^= bit;
		r = scan(0, &got);
		if (at < sizeof(struct segment_header)) {
			ck_assert_int_eq(r, -EUCLEAN);
			continue;
		}
		ck_assert_int_eq(r, 0);
		/* Padding is nobody's. */
		if (got.good != s.bytes.len)
			ck_assert_uint_eq(got.good, border(at));
		else if (got.spoilt)
			check_spoilt(&got, payload_of(at));
		else
			ck_assert_uint_eq(s.bytes.data[at], 0);
		ck_assert(got.good == s.bytes.len || payload_of(at) < 0);
	}
}
END_TEST

static enum segment_verdict say(void *context, const struct segment_header *h, const struct segment_fragment *f)
{
	enum segment_verdict *verdict = context;

	ck_assert_uint_eq(h->number, 9);
	ck_assert(f->kind == SEGMENT_OWN || f->kind == SEGMENT_SHARED);
	return *verdict;
}

static int scan_told(enum segment_verdict verdict, struct segment_scan *ret)
{
	struct segment_scan_calls calls = { .judge = say, .context = &verdict };
	char path[128];
	int fd, r;

	stage_path(&d, s.number, false, path);
	fd = open(path, O_RDONLY);
	ck_assert_int_ge(fd, 0);
	r = segment_scan_judged(fd, ret, &calls);
	close(fd);
	return r;
}

/* As after a power cut: what was written last is all zeros, or old. */
START_TEST(tail_of_bad_payloads_is_cut_unless_who_knows_says_otherwise)
{
	size_t from = ends[3], len = ends[5];
	struct segment_scan got;

	for (size_t i = 3; i < 5; i++)
		memset(s.bytes.data + ends[i] + sizeof(struct segment_fragment), 0,
		       ends[i + 1] - ends[i] - sizeof(struct segment_fragment));
	for (int zeros = 0; zeros < 2; zeros++) {
		stage_write_some(&s, &d, len);
		if (zeros) {
			char path[128];

			stage_path(&d, s.number, false, path);
			ck_assert_int_eq(truncate(path, (off_t)len + 5000), 0);
		}
		ck_assert_int_eq(scan(0, &got), 0);
		ck_assert_uint_eq(got.good, from);
		ck_assert(got.torn);
		ck_assert_uint_eq(got.spoilt, 0);
		ck_assert_int_eq(scan_told(SEGMENT_TORN, &got), 0);
		ck_assert_uint_eq(got.good, from);
		ck_assert_int_eq(scan_told(SEGMENT_SPOILT, &got), 0);
		ck_assert_uint_eq(got.good, len);
		ck_assert_uint_eq(got.spoilt_records, 4);
	}
	/* One that is good behind them. */
	stage_write_some(&s, &d, ends[6]);
	ck_assert_int_eq(scan(0, &got), 0);
	ck_assert_uint_eq(got.good, ends[6]);
	ck_assert_uint_eq(got.spoilt_records, 4);
	ck_assert_int_eq(scan(SEGMENT_SCAN_STRICT, &got), 0);
	ck_assert_uint_eq(got.good, from);
	ck_assert_int_eq(scan_told(SEGMENT_TORN, &got), 0);
	ck_assert_uint_eq(got.good, from);
}
END_TEST

START_TEST(scan_of_headers_leaves_payloads_alone)
{
	struct segment_scan got;

	s.bytes.data[ends[0] + sizeof(struct segment_fragment) + 30] ^= 1;
	stage_write(&s, &d);
	ck_assert_int_eq(scan(SEGMENT_SCAN_HEADERS, &got), 0);
	ck_assert_uint_eq(got.good, s.bytes.len);
	ck_assert_int_eq(scan(0, &got), 0);
	ck_assert_uint_eq(got.spoilt, 1);
	ck_assert_int_eq(scan(SEGMENT_SCAN_STRICT, &got), 0);
	ck_assert_uint_eq(got.good, ends[0]);
	ck_assert(got.torn && !got.closed);
}
END_TEST

START_TEST(what_comes_behind_the_index_is_cut)
{
	struct segment_scan got;

	stage_room(&s.bytes, 8);
	stage_write(&s, &d);
	ck_assert_int_eq(scan(0, &got), 0);
	ck_assert(got.torn && got.closed);
	ck_assert_uint_eq(got.good, s.bytes.len - 8);
}
END_TEST

START_TEST(what_is_no_segment_is_refused)
{
	struct segment_scan got;
	char path[128];

	ck_assert_int_eq(scan(0, &got), -ENOENT);
	ck_assert_int_eq(segment_scan_path(d.path, 0, &got, NULL, NULL), -EUCLEAN);
	ck_assert_int_eq(segment_scan(-1, 0, &got, NULL, NULL), -EBADF);
	stage_path(&d, s.number, false, path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(scan(0, &got), -EUCLEAN);
	ck_assert_int_eq(unlink(path), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("segment_scan");
	TCase *t = tcase_create("scanning");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, scan_finds_all_there_is);
	tcase_add_test(t, scan_tells_of_each_fragment_until_told_to_stop);
	tcase_add_test(t, cut_off_anywhere_it_is_good_to_the_last_whole_fragment);
	tcase_add_test(t, with_any_bit_changed_that_is_left_out_or_it_is_cut_before);
	tcase_add_test(t, tail_of_bad_payloads_is_cut_unless_who_knows_says_otherwise);
	tcase_add_test(t, scan_of_headers_leaves_payloads_alone);
	tcase_add_test(t, what_comes_behind_the_index_is_cut);
	tcase_add_test(t, what_is_no_segment_is_refused);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
