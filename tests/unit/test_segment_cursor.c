/* SPDX-License-Identifier: Apache-2.0 */
/* Segments, reading as stored: positions, duplicates, following, segments that go away underneath. */
#include <errno.h>

#include "segment_stage.h"

#include "../seed.h"

static struct stage_dir d;
static struct segment_cursor *c;
static struct segment_record r;
static uint64_t stage_time = 1000;

static void setup(void)
{
	stage_dir_make(&d);
	c = NULL;
}

static void teardown(void)
{
	segment_cursor_close(c);
	stage_dir_remove(&d);
}

/* ---- making: records whose bytes are a number ---- */

static void put(struct stage_payload *p, uint64_t number)
{
	stage_record(p, NULL, 6, stage_time++, number, &number, sizeof(number));
}

/* Records first … last of a block from a byte on; each takes 32 bytes. */
static void own(struct stage *s, uint32_t block, uint32_t lap, uint32_t from, uint64_t first, uint64_t last)
{
	struct stage_payload p = { 0 };

	for (uint64_t i = first; i <= last; i++)
		put(&p, i);
	stage_own(s, block, lap, from, &p);
	free(p.data);
}

/* A segment of as many fragments of ten records, numbered from first on, each in a block of its own. */
static void segment_of(struct stage *s, uint64_t number, uint32_t fragments, uint64_t first)
{
	stage_open(s, number);
	for (uint32_t i = 0; i < fragments; i++)
		own(s, i, (uint32_t)number, 0, first + i * 10, first + i * 10 + 9);
}

static void write_closed(struct stage *s)
{
	stage_end(s);
	stage_write(s, &d);
	stage_close(s);
}

/* ---- reading ---- */

static void open_at(unsigned flags, const struct segment_position *from)
{
	segment_cursor_close(c);
	c = NULL;
	ck_assert_int_eq(segment_cursor_open(&c, d.path, NULL, flags, from), 0);
}

/* The number of the next record; 0: none. */
static uint64_t next(void)
{
	uint64_t number = 0;
	int result = segment_cursor_next(c, &r);

	ck_assert_int_ge(result, 0);
	if (!result)
		return 0;
	ck_assert_uint_eq(r.len, sizeof(number));
	memcpy(&number, r.data, sizeof(number));
	ck_assert_uint_eq(number, r.seq);
	return number;
}

static void expect(uint64_t first, uint64_t last)
{
	for (uint64_t i = first; i <= last; i++)
		ck_assert_uint_eq(next(), i);
}

static struct segment_stats stats(void)
{
	struct segment_stats got;

	segment_cursor_stats(c, &got);
	return got;
}

/* ---- what comes ---- */

START_TEST(all_of_all_segments_comes_as_stored)
{
	struct stage s;

	segment_of(&s, 1, 5, 1);
	write_closed(&s);
	segment_of(&s, 2, 5, 51);
	write_closed(&s);
	ck_assert_int_eq(segment_compress(d.path, 1), 0);
	open_at(0, NULL);
	expect(1, 100);
	ck_assert_uint_eq(next(), 0);
	ck_assert_uint_eq(next(), 0);
	ck_assert_uint_eq(stats().fragments, 10);
	ck_assert_uint_eq(stats().torn + stats().damaged + stats().missed + stats().duplicates, 0);
}
END_TEST

START_TEST(record_says_what_was_written)
{
	struct segment_fragment shared = {
		.kind = SEGMENT_SHARED, .block = 9, .lap = 4, .slots = { 1 << 6 }, .real_offset = 5000
	};
	struct segment_author author = { .pid = 77, .tid = 78 };
	struct stage_payload p = { 0 };
	char large[300] = "large";
	struct stage s;

	stage_open(&s, 1);
	stage_record(&p, NULL, 3, 10, 1, "first", 5);
	stage_record(&p, NULL, 4, 11, 2, NULL, 300);
	((struct segment_entry *)(void *)(p.data + 32))->dropped = 12;
	((struct segment_entry *)(void *)(p.data + 32))->info |= SEGMENT_INFO_FIELDS;
	stage_large(&s, 2, 3, 64 + 32, 11, large, 300);
	stage_own(&s, 2, 3, 64, &p);
	p.len = 0;
	stage_record(&p, &author, 5, 12, 3, "", 0);
	stage_fragment(&s, &shared, p.data, p.len);
	stage_write(&s, &d);
	open_at(0, NULL);

	ck_assert_int_eq(segment_cursor_next(c, &r), 1);
	ck_assert_uint_eq(r.len, 5);
	ck_assert_mem_eq(r.data, "first", 5);
	ck_assert_int_eq(r.level, 3);
	ck_assert(r.pid == 1002 && r.tid == 2002 && r.time_ns == 10 && r.seq == 1);
	ck_assert(!r.fields && !r.dropped && !r.lost);
	ck_assert(r.key.block == 2 && r.key.lap == 3 && r.key.at == 64);
	ck_assert_mem_eq(r.key.ring, stage_ring.ring, 16);
	for (int i = 0; i < 16; i++)
		ck_assert_int_eq(r.key.life[i], stage_ring.ring[i] ^ stage_ring.boot[i]);

	ck_assert_int_eq(segment_cursor_next(c, &r), 1);
	ck_assert_uint_eq(r.len, 300);
	ck_assert_mem_eq(r.data, large, 300);
	ck_assert(r.fields && r.dropped == 12 && r.key.at == 96);

	ck_assert_int_eq(segment_cursor_next(c, &r), 1);
	ck_assert_uint_eq(r.len, 0);
	ck_assert(r.pid == 77 && r.tid == 78 && r.level == 5 && r.time_ns == 5012);
	ck_assert(r.key.block == 9 && r.key.lap == 4 && r.key.at == 6);
	ck_assert_int_eq(segment_cursor_next(c, &r), 0);
	free(p.data);
	stage_close(&s);
}
END_TEST

START_TEST(large_record_whose_payload_is_not_there_comes_empty)
{
	struct stage_payload p = { 0 };
	struct stage s;

	stage_open(&s, 1);
	stage_record(&p, NULL, 3, 10, 1, NULL, 300);
	stage_record(&p, NULL, 3, 10, 2, NULL, 300);
	stage_large(&s, 0, 1, 40, 10, "short", 5);
	stage_own(&s, 0, 1, 0, &p);
	stage_write(&s, &d);
	open_at(0, NULL);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(segment_cursor_next(c, &r), 1);
		ck_assert_uint_eq(r.len, 0);
	}
	free(p.data);
	stage_close(&s);
}
END_TEST

START_TEST(one_segment_is_read_by_its_path)
{
	struct stage s;
	char path[128];

	segment_of(&s, 7, 3, 1);
	write_closed(&s);
	segment_of(&s, 8, 3, 100);
	write_closed(&s);
	for (int compressed = 0; compressed < 2; compressed++) {
		stage_path(&d, 7, compressed, path);
		segment_cursor_close(c);
		c = NULL;
		ck_assert_int_eq(segment_cursor_open(&c, path, NULL, 0, NULL), 0);
		expect(1, 30);
		ck_assert_uint_eq(r.position.number, 7);
		ck_assert_uint_eq(next(), 0);
		ck_assert_int_eq(segment_compress(d.path, 7), 0);
	}
	ck_assert_int_eq(segment_cursor_open(&c, "/nonexistent", NULL, 0, NULL), -ENOENT);
}
END_TEST

START_TEST(losses_are_told_with_the_next_record_once)
{
	struct segment_fragment loss = { .kind = SEGMENT_LOSS, .lost = 5, .time_min = 90, .time_max = 95 };
	struct segment_fragment f = { .kind = SEGMENT_OWN, .block = 1, .lap = 2, .lost = 7 };
	struct stage_payload p = { 0 };
	struct stage s;

	stage_open(&s, 1);
	stage_fragment(&s, &loss, NULL, 0);
	put(&p, 1);
	put(&p, 2);
	stage_fragment(&s, &f, p.data, p.len);
	stage_fragment(&s, &f, p.data, p.len);
	put(&p, 3);
	f.from = 0;
	stage_fragment(&s, &f, p.data, p.len);
	stage_fragment(&s, &loss, NULL, 0);
	stage_write(&s, &d);
	open_at(0, NULL);
	ck_assert_uint_eq(next(), 1);
	ck_assert_uint_eq(r.lost, 12);
	ck_assert_uint_eq(next(), 2);
	ck_assert_uint_eq(r.lost, 0);
	ck_assert_uint_eq(next(), 3);
	ck_assert_uint_eq(r.lost, 0);
	ck_assert_uint_eq(next(), 0);
	ck_assert_uint_eq(r.lost, 5);
	ck_assert_uint_eq(stats().duplicates, 2);
	free(p.data);
	stage_close(&s);
}
END_TEST

START_TEST(levels_and_times_asked_for_are_all_that_comes)
{
	struct segment_query q = { .since_ns = 3000, .until_ns = 3004, .level_mask = 1 << 6 };
	struct stage_payload p = { 0 };
	struct stage s;

	stage_open(&s, 1);
	for (uint64_t i = 0; i < 20; i++)
		stage_record(&p, NULL, i % 2 ? 6 : 3, 2990 + i, i, &i, sizeof(i));
	stage_own(&s, 0, 1, 0, &p);
	stage_write(&s, &d);
	ck_assert_int_eq(segment_cursor_open(&c, d.path, &q, 0, NULL), 0);
	ck_assert_uint_eq(next(), 11);
	ck_assert_uint_eq(next(), 13);
	ck_assert_uint_eq(next(), 0);
	free(p.data);
	stage_close(&s);
}
END_TEST

/* ---- positions ---- */

START_TEST(from_any_position_the_rest_comes)
{
	struct segment_position at[101];
	struct stage s;

	segment_of(&s, 1, 5, 1);
	write_closed(&s);
	segment_of(&s, 2, 5, 51);
	stage_write(&s, &d);
	stage_close(&s);
	open_at(0, NULL);
	for (uint64_t i = 1; i <= 100; i++) {
		ck_assert_uint_eq(next(), i);
		at[i] = r.position;
	}
	for (int pass = 0; pass < 3; pass++) {
		for (uint64_t i = 1; i <= 100; i += 3) {
			open_at(0, &at[i]);
			expect(i + 1, 100);
			ck_assert_uint_eq(next(), 0);
		}
		/* They outlive the compression of their segments. */
		ck_assert_int_eq(segment_compress(d.path, (uint64_t)pass % 2 + 1), 0);
	}
}
END_TEST

START_TEST(position_behind_a_large_record_finds_the_next_large_one)
{
	struct stage_payload p = { 0 };
	struct segment_position at;
	struct stage s;

	stage_open(&s, 1);
	stage_record(&p, NULL, 3, 10, 1, NULL, 5);
	stage_record(&p, NULL, 3, 10, 2, NULL, 6);
	stage_large(&s, 0, 1, 0, 10, "large", 5);
	stage_large(&s, 0, 1, 40, 10, "larger", 6);
	stage_own(&s, 0, 1, 0, &p);
	stage_write(&s, &d);
	open_at(0, NULL);
	ck_assert_int_eq(segment_cursor_next(c, &r), 1);
	ck_assert_mem_eq(r.data, "large", 5);
	at = r.position;
	open_at(0, &at);
	ck_assert_int_eq(segment_cursor_next(c, &r), 1);
	ck_assert_uint_eq(r.len, 6);
	ck_assert_mem_eq(r.data, "larger", 6);
	ck_assert_int_eq(segment_cursor_next(c, &r), 0);
	free(p.data);
	stage_close(&s);
}
END_TEST

/* A position is somebody's file: anything may be in it. */
START_TEST(position_that_is_none_repeats_at_most_its_group)
{
	struct segment_position at = { .number = 1 }, max = { .number = 1, .offset = UINT64_MAX, .record = 9 };
	struct stage s;

	segment_of(&s, 1, 5, 1);
	write_closed(&s);
	for (at.offset = 1; at.offset < 3000; at.offset += 7) {
		uint64_t number, least = at.offset < 256 ? 0 : (at.offset - 256) / 448;

		at.record = 3;
		open_at(0, &at);
		number = next();
		if (least >= 5) {
			ck_assert_uint_eq(number, 0);
			continue;
		}
		ck_assert_uint_eq(number, least * 10 + 1 + (at.offset == 256 + least * 448 ? 3 : 0));
		expect(number + 1, 50);
	}
	open_at(0, &max);
	ck_assert_uint_eq(next(), 0);
}
END_TEST

START_TEST(position_in_a_segment_that_is_gone_goes_on_with_the_next)
{
	struct segment_position at;
	struct stage s;
	char path[128];

	for (uint64_t n = 1; n < 5; n++) {
		segment_of(&s, n, 1, n * 10);
		write_closed(&s);
	}
	open_at(0, NULL);
	ck_assert_uint_eq(next(), 10);
	at = r.position;
	for (uint64_t n = 1; n < 3; n++) {
		stage_path(&d, n, false, path);
		unlink(path);
	}
	open_at(0, &at);
	expect(30, 49);
	ck_assert_uint_eq(next(), 0);
	ck_assert_uint_eq(stats().missed, 2);
}
END_TEST

START_TEST(from_the_end_only_what_comes_later_comes)
{
	struct stage s;

	segment_of(&s, 1, 2, 1);
	stage_write(&s, &d);
	open_at(SEGMENT_FROM_END | SEGMENT_FOLLOW, NULL);
	ck_assert_uint_eq(next(), 0);
	own(&s, 60, 1, 0, 21, 25);
	stage_write(&s, &d);
	expect(21, 25);
	ck_assert_uint_eq(next(), 0);
	stage_close(&s);
}
END_TEST

/* ---- duplicates ---- */

START_TEST(what_was_stored_twice_comes_once)
{
	struct stage s;

	stage_open(&s, 1);
	own(&s, 1, 1, 0, 1, 10);
	own(&s, 2, 1, 0, 11, 20);
	stage_write(&s, &d);
	stage_close(&s);
	/* The next daemon did not see all of it, and found more. */
	stage_open(&s, 2);
	own(&s, 2, 1, 0, 11, 30);
	own(&s, 1, 1, 5 * 32, 6, 10);
	own(&s, 1, 1, 5 * 32, 6, 12);
	own(&s, 1, 2, 0, 1, 10);
	write_closed(&s);
	open_at(0, NULL);
	expect(1, 20);
	expect(21, 30);
	expect(11, 12);
	expect(1, 10);
	ck_assert_uint_eq(next(), 0);
	ck_assert_uint_eq(stats().duplicates, 3);
}
END_TEST

/* After a power cut a ring's file may be older than its segments: the same laps come again, with other records. */
START_TEST(laps_of_another_boot_are_others)
{
	struct segment_ring rebooted = stage_ring;
	struct stage s;

	rebooted.boot[3] ^= 9;
	segment_of(&s, 1, 5, 1);
	write_closed(&s);
	stage_open_ring(&s, &rebooted, 2);
	for (uint32_t i = 0; i < 5; i++)
		own(&s, i, 1, 0, 51 + i * 10, 60 + i * 10);
	write_closed(&s);
	for (unsigned flags = 0; flags < 2; flags++) {
		open_at(flags, NULL);
		expect(1, 100);
		ck_assert_uint_eq(next(), 0);
		ck_assert_uint_eq(stats().duplicates, 0);
	}
}
END_TEST

START_TEST(from_a_position_what_came_before_it_is_known)
{
	struct segment_position at;
	struct stage s;

	stage_open(&s, 1);
	own(&s, 1, 1, 0, 1, 10);
	own(&s, 2, 1, 0, 11, 20);
	stage_write(&s, &d);
	stage_close(&s);
	stage_open(&s, 2);
	own(&s, 3, 1, 0, 21, 22);
	own(&s, 1, 1, 0, 1, 10);
	own(&s, 3, 1, 0, 21, 23);
	write_closed(&s);
	open_at(0, NULL);
	expect(1, 21);
	at = r.position;
	open_at(0, &at);
	expect(22, 23);
	ck_assert_uint_eq(next(), 0);
}
END_TEST

/* ---- following ---- */

/* The file grows byte by byte, or so. */
START_TEST(follower_gets_what_is_whole_and_nothing_else)
{
	uint64_t got = 0;
	struct stage s;

	srandom((unsigned)test_seed("follower_gets_what_is_whole_and_nothing_else"));
	segment_of(&s, 1, 20, 1);
	stage_end(&s);
	stage_write_some(&s, &d, 0);
	open_at(SEGMENT_FOLLOW, NULL);
	for (size_t len = 0; len <= s.bytes.len; len += 1 + (size_t)random() % 60) {
		uint64_t whole = len < 256 ? 0 : (len - 256) / 448 * 10;

		stage_write_some(&s, &d, len);
		whole = whole < 200 ? whole : 200;
		while (got < whole)
			ck_assert_uint_eq(next(), ++got);
		ck_assert_uint_eq(next(), 0);
	}
	stage_write(&s, &d);
	while (got < 200)
		ck_assert_uint_eq(next(), ++got);
	ck_assert_uint_eq(next(), 0);
	stage_close(&s);
	segment_of(&s, 2, 1, 201);
	stage_write(&s, &d);
	expect(201, 210);
	ck_assert_uint_eq(next(), 0);
	ck_assert_uint_eq(stats().torn + stats().damaged, 0);
	stage_close(&s);
}
END_TEST

/* Parts of a file may be on the disk in any order: what is behind a hole comes when the hole is filled. */
START_TEST(follower_waits_before_a_hole)
{
	struct stage s, holed;

	segment_of(&s, 1, 3, 1);
	segment_of(&holed, 1, 3, 1);
	/* The payload of the second is not there. */
	memset(holed.bytes.data + 256 + 448 + 128, 0, 320);
	stage_write(&holed, &d);
	open_at(SEGMENT_FOLLOW, NULL);
	expect(1, 10);
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(next(), 0);
	stage_write(&s, &d);
	ck_assert_uint_eq(next(), 11);
	stage_close(&s);
	stage_close(&holed);
}
END_TEST

START_TEST(torn_segment_is_left_when_there_is_a_later_one)
{
	struct stage s;

	segment_of(&s, 1, 3, 1);
	stage_write_some(&s, &d, s.bytes.len - 1);
	stage_close(&s);
	open_at(SEGMENT_FOLLOW, NULL);
	expect(1, 20);
	ck_assert_uint_eq(next(), 0);
	ck_assert_uint_eq(next(), 0);
	ck_assert_uint_eq(stats().torn, 1);
	segment_of(&s, 2, 1, 41);
	stage_write(&s, &d);
	stage_close(&s);
	expect(41, 50);
	ck_assert_uint_eq(next(), 0);
	ck_assert_uint_eq(stats().torn, 1);
}
END_TEST

START_TEST(what_landed_before_the_next_segment_was_opened_is_not_missed)
{
	struct stage s, next_one;

	segment_of(&s, 1, 3, 1);
	stage_write_some(&s, &d, s.bytes.len - 1);
	open_at(SEGMENT_FOLLOW, NULL);
	expect(1, 20);
	ck_assert_uint_eq(next(), 0);
	stage_write(&s, &d);
	segment_of(&next_one, 2, 1, 41);
	stage_write(&next_one, &d);
	expect(21, 30);
	expect(41, 50);
	ck_assert_uint_eq(stats().torn, 0);
	stage_close(&s);
	stage_close(&next_one);
}
END_TEST

START_TEST(segment_compressed_or_deleted_while_it_is_read_is_read_to_its_end)
{
	struct stage s;
	char path[128];

	for (uint64_t n = 1; n < 6; n++) {
		segment_of(&s, n, 10, n * 100);
		write_closed(&s);
	}
	open_at(SEGMENT_FOLLOW, NULL);
	expect(100, 149);
	ck_assert_int_eq(segment_compress(d.path, 1), 0);
	ck_assert_int_eq(segment_compress(d.path, 2), 0);
	expect(150, 249);
	stage_path(&d, 2, true, path);
	ck_assert_int_eq(unlink(path), 0);
	stage_path(&d, 3, false, path);
	ck_assert_int_eq(unlink(path), 0);
	expect(250, 299);
	expect(400, 599);
	ck_assert_uint_eq(next(), 0);
	ck_assert_uint_eq(stats().missed, 1);
	ck_assert_uint_eq(stats().torn + stats().damaged, 0);
}
END_TEST

START_TEST(directory_that_goes_away_and_comes_back_is_followed)
{
	struct stage s;

	open_at(SEGMENT_FOLLOW, NULL);
	ck_assert_uint_eq(next(), 0);
	segment_of(&s, 1, 1, 1);
	write_closed(&s);
	expect(1, 10);
	stage_dir_remove(&d);
	ck_assert_uint_eq(next(), 0);
	ck_assert_int_eq(mkdir(d.path, 0700), 0);
	segment_of(&s, 2, 1, 11);
	write_closed(&s);
	expect(11, 20);
}
END_TEST

/* ---- damage ---- */

/* The payload of a fragment as it is made by segment_of(). */
static void spoil(struct stage *s, uint32_t fragment)
{
	s->bytes.data[256 + 448 * fragment + 128 + 40] ^= 1;
}

static void mark(struct stage *s, uint64_t offset)
{
	struct segment_fragment f = { .kind = SEGMENT_MARK, .ticket = offset };

	stage_fragment(s, &f, NULL, 0);
}

START_TEST(what_was_spoilt_while_it_was_written_is_told_as_lost_and_costs_nothing_else)
{
	struct stage s;

	segment_of(&s, 1, 5, 1);
	spoil(&s, 1);
	spoil(&s, 4);
	write_closed(&s);
	for (int compressed = 0; compressed < 2; compressed++) {
		for (unsigned flags = 0; flags < 4; flags++) {
			uint64_t number = 0, lost = 0;

			open_at(flags, NULL);
			for (uint64_t i = 1; i <= 40; i += i == 10 ? 11 : 1) {
				ck_assert_uint_eq(next(), i);
				lost += r.lost;
				/* By time, where they were is not told. */
				ck_assert(flags & SEGMENT_BY_TIME || r.lost == (i == 21 ? 10 : 0));
				number++;
			}
			ck_assert_uint_eq(number, 30);
			ck_assert_uint_eq(next(), 0);
			ck_assert_uint_eq(lost + r.lost, 20);
			ck_assert_uint_eq(stats().damaged, 2);
			ck_assert_uint_eq(stats().torn, 0);
		}
		if (!compressed)
			ck_assert_int_eq(segment_compress(d.path, 1), 0);
	}
}
END_TEST

/* It may be on its way, until the drain says that it is not: by a mark, or another segment. */
START_TEST(follower_goes_on_behind_what_is_spoilt_when_it_is_known_to_be_written)
{
	for (unsigned flags = SEGMENT_FOLLOW; flags <= (SEGMENT_FOLLOW | SEGMENT_BY_TIME); flags += SEGMENT_BY_TIME)
		for (int marked = 0; marked < 2; marked++) {
			struct stage s, other;

			segment_of(&s, 1, 3, 1);
			spoil(&s, 1);
			stage_write(&s, &d);
			open_at(flags, NULL);
			expect(1, 10);
			for (int i = 0; i < 3; i++)
				ck_assert_uint_eq(next(), 0);
			if (marked) {
				mark(&s, 256 + 448); /* says nothing of it */
				stage_write(&s, &d);
				ck_assert_uint_eq(next(), 0);
				mark(&s, 256 + 2 * 448);
				stage_write(&s, &d);
			} else {
				segment_of(&other, 2, 1, 31);
				stage_write(&other, &d);
				stage_close(&other);
			}
			ck_assert_uint_eq(next(), 21);
			ck_assert_uint_eq(r.lost, 10);
			expect(22, marked ? 30 : 40);
			ck_assert_uint_eq(next(), 0);
			ck_assert_uint_eq(r.lost, 0);
			stage_close(&s);
			segment_cursor_close(c);
			c = NULL;
			stage_dir_remove(&d);
			stage_dir_make(&d);
		}
}
END_TEST

START_TEST(who_does_not_wait_passes_over_what_may_be_on_its_way_and_does_not_call_it_lost)
{
	struct stage s;

	segment_of(&s, 1, 3, 1);
	spoil(&s, 1);
	stage_write(&s, &d);
	for (unsigned flags = 0; flags < 2; flags++) {
		open_at(flags, NULL);
		expect(1, 10);
		expect(21, 30);
		ck_assert_uint_eq(next(), 0);
		ck_assert_uint_eq(r.lost, 0);
		ck_assert_uint_eq(stats().damaged, 1);
	}
	mark(&s, s.bytes.len);
	stage_write(&s, &d);
	for (unsigned flags = 0; flags < 2; flags++) {
		uint64_t lost = 0;

		open_at(flags, NULL);
		for (uint64_t i = 1; i <= 21; i += i == 10 ? 11 : 1) {
			ck_assert_uint_eq(next(), i);
			lost += r.lost;
		}
		ck_assert_uint_eq(lost, 10);
	}
	stage_close(&s);
}
END_TEST

/* A position in the midst of what was spoilt since, and one before it. */
START_TEST(from_a_position_what_is_spoilt_behind_it_is_lost_once)
{
	struct segment_position at = { .number = 1, .offset = 256 + 448, .record = 4 };
	struct stage s;

	segment_of(&s, 1, 3, 1);
	spoil(&s, 1);
	write_closed(&s);
	open_at(SEGMENT_FOLLOW, &at);
	ck_assert_uint_eq(next(), 21);
	ck_assert_uint_eq(r.lost, 6);
	at.record = 0;
	open_at(SEGMENT_FOLLOW, &at);
	ck_assert_uint_eq(next(), 21);
	ck_assert_uint_eq(r.lost, 10);
	at = r.position;
	open_at(SEGMENT_FOLLOW, &at);
	ck_assert_uint_eq(next(), 22);
	ck_assert_uint_eq(r.lost, 0);
}
END_TEST

START_TEST(damage_before_an_index_costs_its_run)
{
	uint64_t number, count = 0, last = 0;
	struct stage s;

	segment_of(&s, 1, 200, 1);
	s.bytes.data[256 + 50 * 448 + 4] ^= 1;
	write_closed(&s);
	for (int compressed = 0; compressed < 2; compressed++) {
		open_at(compressed ? SEGMENT_BY_TIME : 0, NULL);
		for (count = 0; (number = next()) > 0; count++)
			last = number;
		/* A run is of 37 such fragments; its first 13 come before the damage. */
		ck_assert_uint_eq(count, 2000 - 240);
		ck_assert_uint_eq(last, 2000);
		ck_assert_uint_eq(stats().damaged, 1);
	}
}
END_TEST

START_TEST(numbers_that_were_never_used_are_stepped_over)
{
	struct stage s;

	segment_of(&s, 3, 1, 1);
	write_closed(&s);
	segment_of(&s, 5, 1, 11);
	write_closed(&s);
	segment_of(&s, 500, 1, 21);
	write_closed(&s);
	open_at(SEGMENT_FOLLOW, NULL);
	expect(1, 30);
	ck_assert_uint_eq(next(), 0);
	/* One that came at once, and one that came after nothing had for long. */
	segment_of(&s, 502, 1, 31);
	write_closed(&s);
	expect(31, 40);
	ck_assert_int_eq(utimensat(AT_FDCWD, d.path, (struct timespec[2]){ { 5, 0 }, { 5, 0 } }, 0), 0);
	for (int i = 0; i < 3; i++)
		ck_assert_uint_eq(next(), 0);
	segment_of(&s, 504, 1, 41);
	write_closed(&s);
	expect(41, 50);
	ck_assert_uint_eq(next(), 0);
}
END_TEST

START_TEST(segment_that_is_none_is_stepped_over)
{
	struct stage s;

	segment_of(&s, 1, 1, 1);
	write_closed(&s);
	segment_of(&s, 2, 1, 11);
	s.bytes.data[0] ^= 1;
	write_closed(&s);
	segment_of(&s, 3, 1, 21);
	stage_write_some(&s, &d, 100);
	stage_close(&s);
	segment_of(&s, 4, 1, 31);
	write_closed(&s);
	for (int by_time = 0; by_time < 2; by_time++) {
		open_at(by_time ? SEGMENT_BY_TIME : 0, NULL);
		expect(1, 10);
		expect(31, 40);
		ck_assert_uint_eq(next(), 0);
		ck_assert_uint_eq(stats().damaged, 2);
	}
}
END_TEST

START_TEST(what_cannot_be_asked_is_refused)
{
	struct segment_position at = { .number = 1 };

	ck_assert_int_eq(segment_cursor_open(&c, d.path, NULL, SEGMENT_BY_TIME, &at), -EINVAL);
	ck_assert_int_eq(segment_cursor_open(&c, d.path, NULL, SEGMENT_BY_TIME | SEGMENT_FROM_END, NULL),
			 -EINVAL);
	ck_assert_int_eq(segment_cursor_open(&c, d.path, NULL, 0x80, NULL), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("segment_cursor");
	TCase *t = tcase_create("as stored");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, all_of_all_segments_comes_as_stored);
	tcase_add_test(t, record_says_what_was_written);
	tcase_add_test(t, large_record_whose_payload_is_not_there_comes_empty);
	tcase_add_test(t, one_segment_is_read_by_its_path);
	tcase_add_test(t, losses_are_told_with_the_next_record_once);
	tcase_add_test(t, levels_and_times_asked_for_are_all_that_comes);
	tcase_add_test(t, from_any_position_the_rest_comes);
	tcase_add_test(t, position_behind_a_large_record_finds_the_next_large_one);
	tcase_add_test(t, position_that_is_none_repeats_at_most_its_group);
	tcase_add_test(t, position_in_a_segment_that_is_gone_goes_on_with_the_next);
	tcase_add_test(t, from_the_end_only_what_comes_later_comes);
	tcase_add_test(t, what_was_stored_twice_comes_once);
	tcase_add_test(t, laps_of_another_boot_are_others);
	tcase_add_test(t, from_a_position_what_came_before_it_is_known);
	tcase_add_test(t, follower_gets_what_is_whole_and_nothing_else);
	tcase_add_test(t, follower_waits_before_a_hole);
	tcase_add_test(t, torn_segment_is_left_when_there_is_a_later_one);
	tcase_add_test(t, what_landed_before_the_next_segment_was_opened_is_not_missed);
	tcase_add_test(t, segment_compressed_or_deleted_while_it_is_read_is_read_to_its_end);
	tcase_add_test(t, directory_that_goes_away_and_comes_back_is_followed);
	tcase_add_test(t, what_was_spoilt_while_it_was_written_is_told_as_lost_and_costs_nothing_else);
	tcase_add_test(t, follower_goes_on_behind_what_is_spoilt_when_it_is_known_to_be_written);
	tcase_add_test(t, who_does_not_wait_passes_over_what_may_be_on_its_way_and_does_not_call_it_lost);
	tcase_add_test(t, from_a_position_what_is_spoilt_behind_it_is_lost_once);
	tcase_add_test(t, damage_before_an_index_costs_its_run);
	tcase_add_test(t, numbers_that_were_never_used_are_stepped_over);
	tcase_add_test(t, segment_that_is_none_is_stepped_over);
	tcase_add_test(t, what_cannot_be_asked_is_refused);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
