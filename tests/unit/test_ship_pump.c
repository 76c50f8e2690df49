/* SPDX-License-Identifier: Apache-2.0 */
/* Segments go to a sink that fails in every way a sink may: each record arrives, once, in order. */
#include <errno.h>

#include "ship_pump.h"

#include "segment_stage.h"

#include "../seed.h"

#define RECORDS	 3000u
#define SEGMENTS 3u

/* What an engine has, and what is on its way to it. */
static struct engine {
	struct ship_sink sink; /* first */
	uint64_t stored[2 * RECORDS];
	struct segment_position at[2 * RECORDS];
	uint64_t count;	 /* stored */
	uint64_t base;	 /* of them, at the opening */
	uint64_t under_way[2 * RECORDS], first; /* published; those before first are stored */
	struct segment_position under_way_at[2 * RECORDS];
	uint64_t published, flushed, acked;
	bool broken; /* one was refused: so is all that follows */
	bool is_open, hides; /* hides: the last record has gone by a limit */
	unsigned fails;	     /* one call in so many; 0: never */
	uint64_t elsewhere;  /* this record is there already, in no sequence */
	unsigned openings, passed_over;
} e;

static struct stage_dir d;

static bool fails(void)
{
	return e.fails && (unsigned)random() % e.fails == 0;
}

/* So many of what is under way arrive. */
static void arrive(uint64_t many)
{
	while (many-- && e.first < e.published && !e.broken) {
		if (e.under_way[e.first] == e.elsewhere) {
			e.broken = true;
			return;
		}
		ck_assert_uint_lt(e.count, 2 * RECORDS);
		e.at[e.count] = e.under_way_at[e.first];
		e.stored[e.count++] = e.under_way[e.first++];
	}
}

static int refuse(const char *why)
{
	snprintf(e.sink.why, sizeof e.sink.why, "%s", why);
	return -EIO;
}

/* The position that is kept never goes before what is stored. */
static void check_position(void)
{
	struct segment_position at;
	uint64_t sequence;
	int err = ship_position_read(d.path, &at, &sequence);

	if (err == -ENOENT)
		return;
	ck_assert_int_eq(err, 0);
	ck_assert_uint_le(sequence, e.count);
	if (sequence && !e.passed_over)
		ck_assert_mem_eq(&at, &e.at[sequence - 1], sizeof at);
}

static int engine_open(struct ship_sink *sink, struct ship_last *ret)
{
	(void)sink;
	ck_assert(!e.is_open);
	check_position();
	e.openings++;
	if (fails())
		return refuse("open");
	memset(ret, 0, sizeof *ret);
	ret->found = e.count && !e.hides;
	if (ret->found)
		ret->position = e.at[e.count - 1];
	ret->sequence = e.base = e.count;
	e.published = e.flushed = e.acked = e.first = 0;
	e.broken = false;
	e.is_open = true;
	return 0;
}

static int engine_publish(struct ship_sink *sink, const struct segment_record *r)
{
	(void)sink;
	if (fails())
		return refuse("publish");
	ck_assert_uint_eq(r->len, sizeof(uint64_t));
	memcpy(&e.under_way[e.published], r->data, r->len);
	e.under_way_at[e.published++] = r->position;
	arrive((uint64_t)random() % 3);
	return 0;
}

static int engine_flush(struct ship_sink *sink)
{
	(void)sink;
	if (fails())
		return refuse("flush");
	e.flushed = e.published;
	return 0;
}

static int engine_wait(struct ship_sink *sink, unsigned milliseconds, uint64_t *acked)
{
	(void)sink;
	(void)milliseconds;
	arrive((uint64_t)random() % 600);
	if (fails())
		return refuse("wait");
	if (e.first >= e.flushed) {
		e.acked = e.flushed;
		e.sink.sequence = e.base + e.flushed;
	}
	*acked = e.acked;
	if (e.broken && e.published - e.first == 1 && e.flushed == e.published) {
		e.passed_over++;
		return -EEXIST;
	}
	return e.broken ? refuse("refused") : 0;
}

static void engine_close(struct ship_sink *sink)
{
	(void)sink;
	if (!e.hides) /* what is under way may still come */
		arrive((uint64_t)random() % 600);
	e.is_open = false;
}

static void setup(void)
{
	struct stage s;
	uint64_t number = 0;

	stage_dir_make(&d);
	for (uint64_t n = 1; n <= SEGMENTS; n++) {
		stage_open(&s, n);
		for (uint32_t block = 0; block < RECORDS / SEGMENTS / 10; block++) {
			struct stage_payload p = { 0 };

			for (int i = 0; i < 10; i++, number++)
				stage_record(&p, NULL, 6, number, number, &number, sizeof number);
			stage_own(&s, block, (uint32_t)n, 0, &p);
			free(p.data);
		}
		stage_end(&s);
		stage_write(&s, &d);
		stage_close(&s);
	}
	memset(&e, 0, sizeof e);
	e.elsewhere = UINT64_MAX;
	e.sink = (struct ship_sink){ .open = engine_open, .publish = engine_publish, .flush = engine_flush,
				     .wait = engine_wait, .close = engine_close };
}

static void teardown(void)
{
	char path[128];

	snprintf(path, sizeof path, "%s/ship.position", d.path);
	unlink(path);
	stage_dir_remove(&d);
}

static int until_empty(void)
{
	return 1;
}

static void hear(enum ship_say level, const char *text)
{
	ck_assert(level == SHIP_NOTICE || level == SHIP_WARNING);
	ck_assert(text[0]);
}

static void pump(void)
{
	const struct ship_pump_config config = { .sink = &e.sink, .dir = d.path, .say = hear,
						 .ending = until_empty, .retry_min_ms = 1, .retry_max_ms = 2 };

	ck_assert_int_eq(ship_pump(&config), 0);
	ck_assert(!e.is_open);
	check_position();
}

/* All, but what is elsewhere. */
static void expect_all(void)
{
	uint64_t want = 0;

	for (uint64_t i = 0; i < e.count; i++, want++) {
		want += want == e.elsewhere;
		ck_assert_uint_eq(e.stored[i], want);
	}
	ck_assert_uint_eq(want, RECORDS);
}

START_TEST(all_arrives_in_order_and_the_position_is_at_the_end)
{
	struct segment_position at;
	uint64_t sequence;

	pump();
	expect_all();
	ck_assert_uint_eq(e.openings, 1);
	ck_assert_int_eq(ship_position_read(d.path, &at, &sequence), 0);
	ck_assert_uint_eq(sequence, RECORDS);
	ck_assert_mem_eq(&at, &e.at[RECORDS - 1], sizeof at);
}
END_TEST

START_TEST(whatever_fails_each_arrives_once)
{
	e.fails = 20 + (unsigned)_i * 40;
	pump();
	expect_all();
	ck_assert_uint_gt(e.openings, 1);
}
END_TEST

START_TEST(what_is_there_elsewhere_is_passed_over)
{
	e.elsewhere = (uint64_t)random() % (RECORDS - 1);
	e.fails = _i ? 100 : 0;
	pump();
	expect_all();
	ck_assert_uint_ge(e.passed_over, 1);
}
END_TEST

START_TEST(the_position_counts_where_the_last_record_has_gone)
{
	pump();
	e.hides = true;
	pump();
	expect_all();
}
END_TEST

START_TEST(a_directory_that_begins_anew_is_shipped_from_its_beginning)
{
	const struct segment_position far = { .number = 99, .offset = 256 };

	ck_assert_int_eq(ship_position_write(d.path, &far, 0), 0);
	pump();
	expect_all();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ship_pump");
	TCase *t = tcase_create("pump");
	SRunner *runner;
	int failed;

	srandom((unsigned)test_seed(NULL));
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, all_arrives_in_order_and_the_position_is_at_the_end);
	tcase_add_loop_test(t, whatever_fails_each_arrives_once, 0, 8);
	tcase_add_loop_test(t, what_is_there_elsewhere_is_passed_over, 0, 2);
	tcase_add_test(t, the_position_counts_where_the_last_record_has_gone);
	tcase_add_test(t, a_directory_that_begins_anew_is_shipped_from_its_beginning);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
