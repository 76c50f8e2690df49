/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: compressing, and reading what was compressed at any offset. */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "segment_file.h"
#include "segment_stage.h"

#include "../seed.h"

static struct stage s;
static struct stage_dir d;

/* About a megabyte: own blocks, and large records. */
static void setup(void)
{
	struct stage_payload p = { 0 };
	char *large = malloc(300000);

	ck_assert_ptr_nonnull(large);
	for (size_t i = 0; i < 300000; i++)
		large[i] = (char)(i * 7 + i / 1000);
	stage_open(&s, 5);
	for (uint32_t i = 0; i < 60; i++) {
		p.len = 0;
		for (uint64_t k = 0; k < 200; k++)
			stage_record(&p, NULL, 6, i * 1000 + k, k + 1, "one of many records", 19);
		if (i % 20 == 3) {
			stage_record(&p, NULL, 6, i * 1000 + 500, 201, NULL, 300000);
			stage_large(&s, i, 1, (uint32_t)p.len - 40, i * 1000 + 500, large, 300000);
		}
		stage_own(&s, i, 1, 0, &p);
	}
	free(p.data);
	free(large);
	stage_dir_make(&d);
}

static void teardown(void)
{
	stage_dir_remove(&d);
	stage_close(&s);
}

static bool exists(bool compressed)
{
	char path[128];

	stage_path(&d, s.number, compressed, path);
	return access(path, F_OK) == 0;
}

/* What the file holds by the library, at offsets in any order, is the stage's bytes. */
static void check_reads(size_t len)
{
	struct segment_stats stats = { 0 };
	struct segment_file f;
	char *got = malloc(len + 1);

	ck_assert_ptr_nonnull(got);
	ck_assert_int_eq(segment_file_open(&f, d.path, s.number, &stats), 0);
	ck_assert(f.compressed);
	ck_assert_uint_eq(f.size, len);
	ck_assert_int_eq(segment_file_read(&f, 0, got, len + 1), (ssize_t)len);
	ck_assert_mem_eq(got, s.bytes.data, len);
	for (int i = 0; i < 300; i++) {
		size_t at = (size_t)random() % len, n = (size_t)random() % 1000;
		size_t left = len - at;

		ck_assert_int_eq(segment_file_read(&f, at, got, n), (ssize_t)(n < left ? n : left));
		ck_assert_mem_eq(got, s.bytes.data + at, n < left ? n : left);
	}
	segment_file_close(&f);
	free(got);
}

/* And by the program that everybody has. */
static void check_program(size_t len)
{
	char command[256], path[128], *got = malloc(len + 1);
	FILE *p;

	if (system("command -v zstd >/dev/null"))
		return;
	ck_assert_ptr_nonnull(got);
	stage_path(&d, s.number, true, path);
	snprintf(command, sizeof(command), "zstd -dc %s", path);
	p = popen(command, "r");
	ck_assert_ptr_nonnull(p);
	ck_assert_uint_eq(fread(got, 1, len + 1, p), len);
	ck_assert_int_eq(pclose(p), 0);
	ck_assert_mem_eq(got, s.bytes.data, len);
	free(got);
}

static void check_compressed(void)
{
	struct segment_scan scan;

	ck_assert(exists(true) && !exists(false));
	check_reads(s.bytes.len);
	check_program(s.bytes.len);
	ck_assert_int_eq(segment_scan_number(d.path, s.number, 0, &scan, NULL, NULL), 0);
	ck_assert(scan.closed && !scan.torn);
	ck_assert_uint_eq(scan.records, s.index.records);
}

START_TEST(compressed_segment_gives_the_plain_one_back)
{
	struct segment_file f;
	struct segment_stats stats = { 0 };
	struct segment_run *runs;
	size_t count;

	srandom((unsigned)test_seed("compressed_segment_gives_the_plain_one_back"));
	stage_end(&s);
	stage_write(&s, &d);
	ck_assert_int_eq(segment_compress(d.path, s.number), 0);
	check_compressed();
	ck_assert_int_eq(segment_file_open(&f, d.path, s.number, &stats), 0);
	/* Borders of frames are borders of runs, so that one run is in one frame. */
	ck_assert_int_eq(segment_file_runs(&f, &runs, &count), 1);
	ck_assert_uint_eq(count, s.index.count);
	ck_assert_mem_eq(runs, s.index.runs, count * sizeof(*runs));
	ck_assert_uint_ge(f.frame_count, 5);
	for (size_t i = 1; i + 2 < f.frame_count; i++) {
		bool found = false;

		for (size_t k = 0; k < count; k++)
			found |= runs[k].offset == f.frames[i].plain;
		ck_assert(found);
	}
	free(runs);
	segment_file_close(&f);
}
END_TEST

START_TEST(segment_without_an_index_gets_one_and_loses_its_torn_tail)
{
	size_t good = s.bytes.len;

	stage_end(&s);
	for (int torn = 0; torn < 2; torn++) {
		stage_write_some(&s, &d, good + (torn ? 100 : 0));
		ck_assert_int_eq(segment_compress(d.path, s.number), 0);
		check_compressed();
	}
}
END_TEST

START_TEST(segment_of_nothing_but_a_header_is_compressed)
{
	struct stage none;

	stage_open(&none, 5);
	stage_write(&none, &d);
	ck_assert_int_eq(segment_compress(d.path, 5), 0);
	stage_end(&none);
	stage_close(&s);
	s = none;
	check_compressed();
}
END_TEST

START_TEST(compressing_again_changes_nothing)
{
	stage_end(&s);
	stage_write(&s, &d);
	ck_assert_int_eq(segment_compress(d.path, s.number), 0);
	ck_assert_int_eq(segment_compress(d.path, s.number), 0);
	check_compressed();
	ck_assert_int_eq(segment_compress(d.path, s.number + 1), -ENOENT);
}
END_TEST

/* Who compresses may be killed at any step, and after the naming; the next one finishes. */
START_TEST(killed_while_it_compresses_another_finishes)
{
	char path[128];

	stage_end(&s);
	stage_path(&d, s.number, true, path);
	for (int steps = 0; steps < 100; steps++) {
		int status;
		pid_t pid;

		unlink(path);
		stage_write(&s, &d);
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (!pid) {
			struct segment_compressor *c;
			int r = segment_compress_open(&c, d.path, s.number);

			for (int i = 0; i < steps && r >= 0; i++) {
				r = segment_compress_step(c);
				if (!r)
					_exit(1);
			}
			_exit(r < 0 ? 2 : 0);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFEXITED(status) && WEXITSTATUS(status) < 2);
		if (WEXITSTATUS(status) == 0)
			ck_assert(exists(false) && !exists(true));
		ck_assert_int_eq(segment_compress(d.path, s.number), 0);
		check_compressed();
		if (WEXITSTATUS(status) == 1) {
			ck_assert_int_gt(steps, 1);
			break;
		}
	}
	/* Both are there. */
	stage_write(&s, &d);
	ck_assert_int_eq(segment_compress(d.path, s.number), 0);
	check_compressed();
}
END_TEST

START_TEST(given_up_it_leaves_all_as_it_was)
{
	struct segment_compressor *c;
	char path[160];

	stage_end(&s);
	stage_write(&s, &d);
	ck_assert_int_eq(segment_compress_open(&c, d.path, s.number), 0);
	ck_assert_int_eq(segment_compress_step(c), 1);
	segment_compress_close(c);
	ck_assert(exists(false) && !exists(true));
	stage_path(&d, s.number, true, path);
	strcat(path, ".tmp");
	ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(without_room_on_the_disk_the_plain_one_stays)
{
	struct rlimit limit = { 1000, 1000 }, before;

	stage_end(&s);
	stage_write(&s, &d);
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit.rlim_max = before.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(segment_compress(d.path, s.number), -EFBIG);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
	ck_assert(exists(false) && !exists(true));
	ck_assert_int_eq(segment_compress(d.path, s.number), 0);
	check_compressed();
}
END_TEST

START_TEST(damaged_before_its_index_it_is_left_as_it_is)
{
	stage_end(&s);
	s.bytes.data[s.index.runs[3].offset + 5] ^= 1; /* of a header */
	stage_write(&s, &d);
	ck_assert_int_eq(segment_compress(d.path, s.number), -EUCLEAN);
	ck_assert(exists(false) && !exists(true));
}
END_TEST

/* With an index, and without. */
START_TEST(spoilt_while_it_was_written_it_stays_so)
{
	struct segment_fragment f;
	struct segment_scan plain, packed;
	size_t at, len = s.bytes.len;

	stage_end(&s);
	at = s.index.runs[3].offset;
	memcpy(&f, s.bytes.data + at, sizeof(f));
	s.bytes.data[at + sizeof(f) + 30] ^= 1;
	for (int indexed = 0; indexed < 2; indexed++) {
		char path[128];

		stage_write_some(&s, &d, indexed ? s.bytes.len : len);
		ck_assert_int_eq(segment_scan_number(d.path, s.number, 0, &plain, NULL, NULL), 0);
		ck_assert_uint_eq(plain.spoilt, 1);
		ck_assert_uint_eq(plain.spoilt_records, f.records);
		ck_assert_int_eq(segment_compress(d.path, s.number), 0);
		ck_assert(exists(true) && !exists(false));
		check_reads(s.bytes.len);
		check_program(s.bytes.len);
		ck_assert_int_eq(segment_scan_number(d.path, s.number, 0, &packed, NULL, NULL), 0);
		ck_assert(packed.closed && !packed.torn);
		ck_assert_uint_eq(packed.records, plain.records);
		ck_assert_uint_eq(packed.records + packed.spoilt_records, s.index.records);
		stage_path(&d, s.number, true, path);
		ck_assert_int_eq(unlink(path), 0);
	}
}
END_TEST

/* Any byte of the file may be anything: an error or an early end, never a fault. */
START_TEST(compressed_segment_with_bytes_changed_or_cut_off_is_survived)
{
	char path[128];
	unsigned char *bytes;
	struct stat st;
	int fd;

	srandom((unsigned)test_seed("compressed_segment_with_bytes_changed_or_cut_off_is_survived"));
	stage_end(&s);
	stage_write(&s, &d);
	ck_assert_int_eq(segment_compress(d.path, s.number), 0);
	stage_path(&d, s.number, true, path);
	fd = open(path, O_RDWR);
	ck_assert_int_eq(fstat(fd, &st), 0);
	bytes = malloc((size_t)st.st_size);
	ck_assert_int_eq(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
	for (int i = 0; i < 400; i++) {
		/* Half of them in the tables at the end. */
		size_t window = i % 2 ? (size_t)st.st_size : 1500;
		size_t at = (size_t)st.st_size - 1 - (size_t)random() % window;
		unsigned char was = bytes[at], now = (unsigned char)random();
		struct segment_scan scan;
		int r;

		ck_assert_int_eq(pwrite(fd, &now, 1, (off_t)at), 1);
		if (i % 8 == 7)
			ck_assert_int_eq(ftruncate(fd, (off_t)at), 0);
		r = segment_scan_number(d.path, s.number, 0, &scan, NULL, NULL);
		ck_assert(r == 0 || r == -EUCLEAN);
		if (!r)
			ck_assert(scan.records <= s.index.records);
		if (i % 8 == 7)
			ck_assert_int_eq(pwrite(fd, bytes, (size_t)st.st_size, 0), st.st_size);
		ck_assert_int_eq(pwrite(fd, &was, 1, (off_t)at), 1);
	}
	close(fd);
	free(bytes);
	check_compressed();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("segment_compress");
	TCase *t = tcase_create("compressing");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, compressed_segment_gives_the_plain_one_back);
	tcase_add_test(t, segment_without_an_index_gets_one_and_loses_its_torn_tail);
	tcase_add_test(t, segment_of_nothing_but_a_header_is_compressed);
	tcase_add_test(t, compressing_again_changes_nothing);
	tcase_add_test(t, killed_while_it_compresses_another_finishes);
	tcase_add_test(t, given_up_it_leaves_all_as_it_was);
	tcase_add_test(t, without_room_on_the_disk_the_plain_one_stays);
	tcase_add_test(t, damaged_before_its_index_it_is_left_as_it_is);
	tcase_add_test(t, spoilt_while_it_was_written_it_stays_so);
	tcase_add_test(t, compressed_segment_with_bytes_changed_or_cut_off_is_survived);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
