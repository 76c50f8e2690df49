/* SPDX-License-Identifier: Apache-2.0 */
/* Segments, reading by time: order, what a query reads, memory, and an oracle of its own. */
#include <errno.h>

#include "segment_inside.h"
#include "segment_stage.h"

#include "../seed.h"

static struct stage_dir d;
static struct segment_cursor *c;
static struct segment_record r;

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

static void open_query(const struct segment_query *q, unsigned flags)
{
	segment_cursor_close(c);
	c = NULL;
	ck_assert_int_eq(segment_cursor_open(&c, d.path, q, SEGMENT_BY_TIME | flags, NULL), 0);
}

static bool next(void)
{
	int result = segment_cursor_next(c, &r);

	ck_assert_int_ge(result, 0);
	return result;
}

static struct segment_stats stats(void)
{
	struct segment_stats got;

	segment_cursor_stats(c, &got);
	return got;
}

static void close_segment(struct stage *s, bool index)
{
	if (index)
		stage_end(s);
	stage_write(s, &d);
	stage_close(s);
}

/* ---- a log of many writers, and all that was ever in it ---- */

#define WRITERS 12
#define RECORDS 6000
#define SHARED_BLOCK 40u

struct truth {
	uint64_t time;
	int level;
	bool given;
};

static struct truth truth[RECORDS + 1];
static uint64_t written; /* records so far */

struct writer {
	struct stage_payload p;
	uint32_t lap, from; /* of its block: what of it is drained */
	uint64_t last;	    /* time of its last record */
};

static struct writer writers[WRITERS];
static struct stage_payload slots; /* of the shared block */
static uint32_t slot_count;
static struct segment_fragment shared;

/* Time goes on; one writer's is a little behind another's, never behind its own. */
static uint64_t tick(uint64_t *last)
{
	static uint64_t now = 1000000;
	uint64_t time;

	now += (uint64_t)random() % 20;
	time = now - (uint64_t)random() % 10;
	*last = time > *last ? time : *last;
	return *last;
}

static struct segment_entry *put(struct stage_payload *p, const struct segment_author *author,
				 uint64_t *last)
{
	uint64_t number = ++written;
	size_t at = p->len;

	truth[number] = (struct truth){ .time = tick(last), .level = (int)(random() % 8) };
	stage_record(p, author, truth[number].level, truth[number].time, number, &number,
		     sizeof(number));
	return (void *)(p->data + at);
}

/* A writer's block is drained so far. */
static void drain(struct stage *s, uint32_t i)
{
	struct writer *w = &writers[i];

	if (!w->p.len)
		return;
	stage_own(s, i, w->lap, w->from, &w->p);
	w->from += (uint32_t)w->p.len;
	w->p.len = 0;
	if (w->from > 20000) {
		w->lap++;
		w->from = 0;
	}
}

/* Records of a shared block are done in any order: their times are turned around. */
static void drain_shared(struct stage *s)
{
	if (!slot_count)
		return;
	shared.kind = SEGMENT_SHARED;
	shared.block = SHARED_BLOCK;
	stage_fragment(s, &shared, slots.data, slots.len);
	slots.len = 0;
	slot_count = 0;
	memset(shared.slots, 0, sizeof(shared.slots));
	shared.lap++;
}

static void write_shared(struct stage *s)
{
	struct segment_author author = { .pid = 1, .tid = 2 };
	struct segment_entry *entry, *before;
	uint32_t slot = slot_count * 2;
	uint64_t last = 0;

	entry = (void *)((char *)put(&slots, &author, &last) + sizeof(author));
	if (slot_count) {
		uint32_t bytes = segment_shared_bytes(entry->info);
		uint64_t time = entry->time;

		before = (void *)((char *)entry - bytes);
		entry->time = before->time;
		before->time = time;
		truth[entry->seq].time = entry->time;
		truth[before->seq].time = before->time;
	}
	shared.slots[slot / 64] |= UINT64_C(1) << slot % 64;
	if (++slot_count == 100)
		drain_shared(s);
}

/* Segments with and without index, compressed or not, and repeated fragments. */
static void make_log(void)
{
	uint64_t number = 1;
	struct stage s;

	stage_open(&s, number);
	for (uint32_t i = 0; i < WRITERS; i++)
		writers[i].lap = 1;
	while (written < RECORDS) {
		uint32_t i = (uint32_t)random() % WRITERS;

		if (random() % 10 == 0)
			write_shared(&s);
		else
			put(&writers[i].p, NULL, &writers[i].last);
		if (random() % 30 == 0 || writers[i].p.len > 8000)
			drain(&s, (uint32_t)random() % WRITERS);
		if (random() % 700 == 0) {
			bool index = random() % 4;

			close_segment(&s, index);
			if (random() % 2)
				ck_assert_int_eq(segment_compress(d.path, number), 0);
			stage_open(&s, ++number);
		}
	}
	for (uint32_t i = 0; i < WRITERS; i++)
		drain(&s, i);
	drain_shared(&s);
	close_segment(&s, random() % 2);
	for (uint32_t i = 0; i < WRITERS; i++)
		free(writers[i].p.data);
	free(slots.data);
}

/* A copy of what a segment has as another, later one: all of it stored twice. */
static int copy_fragment(void *context, const struct segment_header *h, const struct segment_fragment *f,
			 uint64_t offset)
{
	struct stage *to = context;
	struct segment_fragment copy = *f;
	char path[128];
	void *payload = malloc(f->payload_bytes + 1);
	int fd;

	if (f->kind != SEGMENT_INDEX) {
		stage_path(&d, h->number, false, path);
		fd = open(path, O_RDONLY);
		ck_assert_int_eq(pread(fd, payload, f->payload_bytes, (off_t)(offset + sizeof(*f))),
				 f->payload_bytes);
		close(fd);
		stage_fragment(to, &copy, payload, f->payload_bytes);
	}
	free(payload);
	return 0;
}

static void store_again(uint64_t number, uint64_t as)
{
	struct segment_scan scan;
	struct stage s;
	int result;

	stage_open(&s, as);
	result = segment_scan_number(d.path, number, 0, &scan, copy_fragment, &s);
	ck_assert_int_eq(result, 0);
	close_segment(&s, true);
}

/* Each record that a query asks for comes once, as it was written, and by rising time. */
static void check_query(const struct segment_query *q, bool ordered)
{
	uint64_t until = q->until_ns ? q->until_ns : UINT64_MAX, last = 0, count = 0;
	unsigned mask = q->level_mask ? q->level_mask : 0xff;

	for (uint64_t i = 1; i <= written; i++)
		truth[i].given = false;
	while (next()) {
		uint64_t number;

		ck_assert_uint_eq(r.len, sizeof(number));
		memcpy(&number, r.data, sizeof(number));
		ck_assert(number >= 1 && number <= written && number == r.seq);
		ck_assert_msg(!truth[number].given, "record %lu twice", (unsigned long)number);
		truth[number].given = true;
		ck_assert_uint_eq(r.time_ns, truth[number].time);
		ck_assert_int_eq(r.level, truth[number].level);
		if (ordered)
			ck_assert_uint_ge(r.time_ns, last);
		last = r.time_ns;
		count++;
	}
	for (uint64_t i = 1; i <= written; i++) {
		bool wanted = truth[i].time >= q->since_ns && truth[i].time <= until &&
			      mask >> truth[i].level & 1;

		ck_assert_msg(truth[i].given == wanted, "record %lu: given %d", (unsigned long)i,
			      truth[i].given);
		count -= wanted;
	}
	ck_assert_uint_eq(count, 0);
	ck_assert(!next());
}

START_TEST(queries_agree_with_all_that_was_written)
{
	uint64_t first, span;

	srandom((unsigned)test_seed("queries_agree_with_all_that_was_written"));
	make_log();
	first = truth[1].time;
	span = truth[written].time - first + 100;
	for (int i = 0; i < 24; i++) {
		struct segment_query q = { 0 };

		if (i % 3)
			q.since_ns = first - 50 + (uint64_t)random() % span;
		if (i % 3 == 2)
			q.until_ns = q.since_ns + (uint64_t)random() % span;
		if (i % 4 == 3)
			q.level_mask = 1u << random() % 8 | 1u << random() % 8;
		open_query(&q, i % 2 ? SEGMENT_FOLLOW : 0);
		check_query(&q, true);
		segment_cursor_close(c);
		c = NULL;
		ck_assert_int_eq(segment_cursor_open(&c, d.path, &q, 0, NULL), 0);
		check_query(&q, false);
	}
	ck_assert_uint_eq(stats().torn + stats().damaged + stats().missed, 0);
}
END_TEST

START_TEST(what_is_stored_twice_comes_once_by_time_too)
{
	struct segment_query all = { 0 };
	struct segment_listed *list;
	size_t count;

	srandom((unsigned)test_seed("what_is_stored_twice_comes_once_by_time_too"));
	make_log();
	ck_assert_int_eq(segment_list(d.path, &list, &count), 0);
	for (size_t k = 0; k < count; k++)
		if (list[k].plain)
			store_again(list[k].number, 1000 + list[k].number);
	free(list);
	open_query(&all, 0);
	check_query(&all, true);
	ck_assert_uint_gt(stats().duplicates, 0);
}
END_TEST

/* ---- order and memory ---- */

/* Fragments of an hour each, one behind another: the records of all come in turns. */
static void make_overlap(uint32_t fragments, uint64_t records)
{
	struct stage s;

	stage_open(&s, 1);
	for (uint32_t i = 0; i < fragments; i++) {
		struct stage_payload p = { 0 };

		for (uint64_t k = 0; k < records; k++)
			stage_record(&p, NULL, 6, 1000 + k * fragments + i, k, "some bytes of text to fill it with",
				     32);
		stage_own(&s, i, 1, 0, &p);
		free(p.data);
	}
	close_segment(&s, true);
}

START_TEST(fragments_that_overlap_are_merged)
{
	make_overlap(50, 300);
	for (int compressed = 0; compressed < 2; compressed++) {
		open_query(NULL, 0);
		for (uint64_t i = 0; i < 50 * 300; i++) {
			ck_assert(next());
			ck_assert_uint_eq(r.time_ns, 1000 + i);
		}
		ck_assert(!next());
		ck_assert_int_eq(segment_compress(d.path, 1), 0);
	}
}
END_TEST

START_TEST(with_little_memory_all_comes_in_some_order)
{
	bool given[50 * 300] = { false };
	uint64_t late = 0, last = 0;

	make_overlap(50, 300);
	open_query(NULL, 0);
	segment_cursor_limit(c, 100000);
	for (uint64_t i = 0; i < 50 * 300; i++) {
		ck_assert(next());
		ck_assert(r.time_ns >= 1000 && r.time_ns < 1000 + 50 * 300);
		ck_assert(!given[r.time_ns - 1000]);
		given[r.time_ns - 1000] = true;
		late += r.time_ns < last;
		last = r.time_ns;
	}
	ck_assert(!next());
	ck_assert_uint_gt(late, 0);
}
END_TEST

START_TEST(many_segments_of_one_time_are_merged)
{
	for (uint32_t i = 0; i < 200; i++) {
		struct stage_payload p = { 0 };
		struct stage s;

		stage_open(&s, i + 1);
		for (uint64_t k = 0; k < 5; k++)
			stage_record(&p, NULL, 6, 1000 + i + k * 10, k, "x", 1);
		stage_own(&s, i, 1, 0, &p);
		close_segment(&s, i % 2);
		free(p.data);
	}
	open_query(NULL, 0);
	for (uint64_t i = 0, last = 0; i < 1000; i++) {
		ck_assert(next());
		ck_assert_uint_ge(r.time_ns, last);
		last = r.time_ns;
	}
	ck_assert(!next());
}
END_TEST

/* ---- following by time ---- */

START_TEST(follower_by_time_gets_what_comes_after)
{
	struct stage_payload p = { 0 };
	struct stage s;

	stage_open(&s, 1);
	stage_record(&p, NULL, 6, 500, 1, "x", 1);
	stage_own(&s, 0, 1, 0, &p);
	stage_write(&s, &d);
	open_query(NULL, SEGMENT_FOLLOW);
	ck_assert(next() && r.time_ns == 500);
	ck_assert(!next());
	/* Two at once: by time; what comes when later ones were given comes late. */
	((struct segment_entry *)(void *)p.data)->time = 700;
	stage_own(&s, 1, 1, 0, &p);
	((struct segment_entry *)(void *)p.data)->time = 600;
	stage_own(&s, 2, 1, 0, &p);
	stage_write(&s, &d);
	ck_assert(next() && r.time_ns == 600);
	ck_assert(next() && r.time_ns == 700);
	ck_assert(!next());
	close_segment(&s, true);
	ck_assert(!next());
	ck_assert_int_eq(segment_compress(d.path, 1), 0);
	stage_open(&s, 2);
	((struct segment_entry *)(void *)p.data)->time = 650;
	stage_own(&s, 3, 1, 0, &p);
	stage_write(&s, &d);
	ck_assert(next() && r.time_ns == 650);
	ck_assert(!next());
	stage_close(&s);
	free(p.data);
}
END_TEST

/* ---- a query reads what it needs ---- */

#define HOURS 40u
#define PER_HOUR 64u /* fragments */

/* A segment an hour, of 64 KiB fragments. */
static uint64_t make_days(void)
{
	static const char filler[200] = "filler";
	uint64_t bytes = 0;

	for (uint32_t hour = 0; hour < HOURS; hour++) {
		struct stage s;

		stage_open(&s, hour + 1);
		for (uint32_t i = 0; i < PER_HOUR; i++) {
			struct stage_payload p = { 0 };

			for (uint64_t k = 0; k < 280; k++)
				stage_record(&p, NULL, 6, hour * 3600000 + i * 56250 + k * 200, k, filler,
					     sizeof(filler));
			stage_own(&s, i, hour + 1, 0, &p);
			free(p.data);
		}
		bytes += s.bytes.len;
		close_segment(&s, true);
	}
	return bytes;
}

START_TEST(query_of_a_minute_reads_a_fragment_or_two)
{
	uint64_t total = make_days();

	for (int compressed = 0; compressed < 2; compressed++) {
		struct segment_query q = { .since_ns = 17 * 3600000 + 1000000,
					   .until_ns = 17 * 3600000 + 1060000 };
		uint64_t count = 0;

		open_query(&q, 0);
		for (; next(); count++)
			ck_assert(r.time_ns >= q.since_ns && r.time_ns <= q.until_ns);
		ck_assert_uint_ge(count, 270);
		ck_assert_uint_le(count, 310);
		/* Of each segment the ends alone, of one its index, and the fragments, or frames, asked for. */
		ck_assert_uint_le(stats().fragments, 2);
		ck_assert_uint_eq(stats().segments, HOURS + 1);
		ck_assert_uint_le(stats().payload_bytes, 2 * 65536);
		ck_assert_msg(stats().bytes_read < total / 400, "%lu of %lu bytes read",
			      (unsigned long)stats().bytes_read, (unsigned long)total);
		for (uint32_t n = 1; !compressed && n <= HOURS; n++)
			ck_assert_int_eq(segment_compress(d.path, n), 0);
	}
}
END_TEST

START_TEST(query_as_stored_reads_headers_of_one_segment_and_what_is_asked_for)
{
	struct segment_query q = { .since_ns = 17 * 3600000 + 1000000, .until_ns = 17 * 3600000 + 1060000 };
	uint64_t count = 0;

	make_days();
	ck_assert_int_eq(segment_cursor_open(&c, d.path, &q, 0, NULL), 0);
	for (; next(); count++)
		ck_assert(r.time_ns >= q.since_ns && r.time_ns <= q.until_ns);
	ck_assert_uint_ge(count, 270);
	ck_assert_uint_le(stats().fragments, 2);
	ck_assert_uint_le(stats().bytes_read, 500000);
}
END_TEST

START_TEST(query_of_a_level_that_is_nowhere_reads_no_fragment)
{
	struct segment_query q = { .level_mask = 1 << 2 };

	make_days();
	open_query(&q, 0);
	ck_assert(!next());
	ck_assert_uint_eq(stats().fragments, 0);
	ck_assert_uint_eq(stats().segments, HOURS);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("segment_time");
	TCase *t = tcase_create("by time");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, queries_agree_with_all_that_was_written);
	tcase_add_test(t, what_is_stored_twice_comes_once_by_time_too);
	tcase_add_test(t, fragments_that_overlap_are_merged);
	tcase_add_test(t, with_little_memory_all_comes_in_some_order);
	tcase_add_test(t, many_segments_of_one_time_are_merged);
	tcase_add_test(t, follower_by_time_gets_what_comes_after);
	tcase_add_test(t, query_of_a_minute_reads_a_fragment_or_two);
	tcase_add_test(t, query_as_stored_reads_headers_of_one_segment_and_what_is_asked_for);
	tcase_add_test(t, query_of_a_level_that_is_nowhere_reads_no_fragment);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
