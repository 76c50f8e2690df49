/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of segments that a daemon finds when it starts: what is cut, what is kept, what is waited for. */
#include <errno.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "segment_stage.h"
#include "store.h"

#define BLOCKS 64u

static char dir[32];
static struct stage_dir d; /* of the arena, in it */
static struct store store;
static struct store_found found;
static struct store_block blocks[BLOCKS];
static struct stage s;
static struct segment_ring ring;

static void setup(void)
{
	struct state_record record = { .name = "logged", .uuid = { 1, 2, 3 } };

	snprintf(dir, sizeof(dir), "/tmp/test_store.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(d.path, sizeof(d.path), "%s/logged", dir);
	ck_assert_int_eq(mkdir(d.path, 0700), 0);
	ck_assert_int_eq(store_init(&store, dir, &record, STAGE_BLOCK, BLOCKS), 0);
	memset(blocks, 0, sizeof(blocks));
	found = (struct store_found){ .blocks = blocks };
	ring = store.ring;
}

static void teardown(void)
{
	stage_close(&s);
	stage_dir_remove(&d);
	ck_assert_int_eq(rmdir(dir), 0);
}

/* ---- a segment of fragments of ten records, each of another block, whose done is 10 ---- */

static uint64_t put(uint32_t block)
{
	struct segment_fragment f = { .kind = SEGMENT_OWN, .block = block, .lap = 1, .done = 10 };
	struct stage_payload p = { 0 };
	uint64_t offset;

	for (uint64_t i = 0; i < 10; i++)
		stage_record(&p, NULL, 6, 1000 + i, i, "0123456", 8);
	offset = stage_fragment(&s, &f, p.data, p.len);
	free(p.data);
	return offset;
}

static void put_loss(uint32_t block, uint32_t done, uint64_t lost)
{
	struct segment_fragment f = { .kind = SEGMENT_LOSS, .block = block, .lap = 2, .done = done, .lost = lost };

	stage_fragment(&s, &f, NULL, 0);
}

static void spoil(uint64_t offset)
{
	s.bytes.data[offset + sizeof(struct segment_fragment) + 50] ^= 1;
}

/* Four of them, the one at the place spoilt; *at: where it begins. */
static void segment_with(unsigned spoilt, uint64_t *at)
{
	stage_open_ring(&s, &ring, 1);
	for (uint32_t i = 0; i < 4; i++) {
		uint64_t offset = put(i);

		if (i == spoilt)
			*at = offset;
	}
	spoil(*at);
	stage_write(&s, &d);
}

static off_t size_now(void)
{
	struct stat st;
	char path[128];

	stage_path(&d, 1, false, path);
	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_size;
}

/* What of blocks 0 … 3 the next drain takes for written: a bit each. */
static unsigned noted(void)
{
	unsigned bits = 0;

	for (unsigned i = 0; i < 4; i++)
		bits |= (unsigned)(blocks[i].any && blocks[i].last.done == 10) << i;
	return bits;
}

/* The ring has all as drained, or nothing of the spoilt one and those behind it. */
static void scan_with(unsigned drained)
{
	for (unsigned i = 0; i < drained; i++)
		blocks[i].consumed = 10;
	ck_assert_int_eq(store_scan(&store, &found), 0);
}

START_TEST(what_the_ring_is_done_with_was_spoilt_and_stays)
{
	for (unsigned i = 0; i < 4; i++) {
		uint64_t at = 0;

		segment_with(i, &at);
		scan_with(4);
		ck_assert_int_eq(size_now(), (off_t)s.bytes.len);
		ck_assert_uint_eq(found.torn_bytes, 0);
		ck_assert_uint_eq(found.spoilt_number, 1);
		ck_assert_uint_eq(found.spoilt, 10);
		ck_assert_uint_eq(noted(), 15);
		stage_close(&s);
	}
	memset(&s, 0, sizeof(s));
}
END_TEST

START_TEST(what_the_ring_still_has_was_not_written_to_its_end_and_is_cut_with_all_behind_it)
{
	for (unsigned i = 0; i < 4; i++) {
		uint64_t at = 0;

		memset(blocks, 0, sizeof(blocks));
		segment_with(i, &at);
		scan_with(i);
		ck_assert_int_eq(size_now(), (off_t)at);
		ck_assert_uint_eq(found.torn_bytes, s.bytes.len - at);
		ck_assert_uint_eq(found.spoilt, 0);
		ck_assert_uint_eq(noted(), (1u << i) - 1);
		stage_close(&s);
	}
	memset(&s, 0, sizeof(s));
}
END_TEST

/* The ring's file may be older than the disk's, after a power cut. */
START_TEST(of_another_boot_what_has_something_good_behind_it_stays)
{
	uint64_t at = 0;

	ring.boot[0] ^= 1;
	segment_with(2, &at);
	scan_with(1);
	ck_assert_int_eq(size_now(), (off_t)s.bytes.len);
	ck_assert_uint_eq(found.spoilt, 10);
	ck_assert_uint_eq(noted(), 15);
	stage_close(&s);
	memset(blocks, 0, sizeof(blocks));
	found.spoilt = 0;
	segment_with(3, &at);
	scan_with(1);
	ck_assert_int_eq(size_now(), (off_t)at);
	ck_assert_uint_eq(found.spoilt, 0);
	ck_assert_uint_eq(noted(), 7);
}
END_TEST

START_TEST(of_another_ring_nothing_is_noted)
{
	uint64_t at = 0;

	ring.ring[0] ^= 1;
	segment_with(1, &at);
	scan_with(0);
	ck_assert_int_eq(size_now(), (off_t)s.bytes.len);
	ck_assert_uint_eq(found.spoilt, 10);
	ck_assert_uint_eq(noted(), 0);
}
END_TEST

/* A drain that was killed, whose last write lands when it is gone: as a process that holds what the kernel would. */
START_TEST(what_a_dead_drain_has_under_way_is_waited_for)
{
	char path[128];
	size_t before;
	int fd, ready[2], status;
	char byte;
	pid_t pid;

	stage_open_ring(&s, &ring, 1);
	put(0);
	before = s.bytes.len;
	stage_write(&s, &d);
	put_loss(1, 25, 25);
	stage_path(&d, 1, false, path);
	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		fd = open(path, O_WRONLY);
		if (flock(fd, LOCK_EX) || write(ready[1], "", 1) != 1)
			_exit(1);
		usleep(200000);
		_exit(pwrite(fd, s.bytes.data + before, s.bytes.len - before, (off_t)before) < 0);
	}
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	ck_assert_int_eq(store_scan(&store, &found), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert(blocks[1].any);
	ck_assert_uint_eq(blocks[1].last.done, 25);
	ck_assert_int_eq(size_now(), (off_t)s.bytes.len);
	close(ready[0]);
	close(ready[1]);
}
END_TEST

START_TEST(who_writes_a_segment_has_it_locked)
{
	char path[128];
	int fd;

	memset(&s, 0, sizeof(s));
	ck_assert_int_eq(store_open(&store), 0);
	stage_path(&d, store.number, false, path);
	fd = open(path, O_RDONLY);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), -1);
	ck_assert_int_eq(errno, EWOULDBLOCK);
	ck_assert_int_eq(store_close(&store, false), 0);
	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store");
	TCase *t = tcase_create("found");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_the_ring_is_done_with_was_spoilt_and_stays);
	tcase_add_test(t, what_the_ring_still_has_was_not_written_to_its_end_and_is_cut_with_all_behind_it);
	tcase_add_test(t, of_another_boot_what_has_something_good_behind_it_stays);
	tcase_add_test(t, of_another_ring_nothing_is_noted);
	tcase_add_test(t, what_a_dead_drain_has_under_way_is_waited_for);
	tcase_add_test(t, who_writes_a_segment_has_it_locked);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
