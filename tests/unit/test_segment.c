/* SPDX-License-Identifier: Apache-2.0 */
/* Segments, the writing half: checksums, headers, fragments, index, names. */
#include <errno.h>

#include "segment_inside.h"
#include "segment_stage.h"

#include "../seed.h"

/* ---- checksums ---- */

START_TEST(checksum_is_crc32c)
{
	unsigned char zeros[32] = { 0 }, ones[32];

	memset(ones, 0xff, sizeof(ones));
	ck_assert_uint_eq(segment_crc(0, "123456789", 9), 0xe3069283);
	ck_assert_uint_eq(segment_crc_table(0, "123456789", 9), 0xe3069283);
	ck_assert_uint_eq(segment_crc(0, zeros, sizeof(zeros)), 0x8a9136aa);
	ck_assert_uint_eq(segment_crc_table(0, ones, sizeof(ones)), 0x62a8ab43);
	ck_assert_uint_eq(segment_crc(0, "", 0), 0);
}
END_TEST

/* By processor, by table, whole and in two parts, at any alignment: one result. */
START_TEST(checksum_does_not_depend_on_how_it_is_made)
{
	size_t size = 40000;
	unsigned char *data = malloc(size + 8);

	ck_assert_ptr_nonnull(data);
	srandom((unsigned)test_seed("checksum_does_not_depend_on_how_it_is_made"));
	for (size_t i = 0; i < size + 8; i++)
		data[i] = (unsigned char)random();
	for (int i = 0; i < 300; i++) {
		size_t at = (size_t)random() % 8, len = (size_t)random() % size;
		size_t cut = len ? (size_t)random() % len : 0;
		uint32_t crc = segment_crc_table(0, data + at, len), part;

		ck_assert_uint_eq(segment_crc(0, data + at, len), crc);
		part = segment_crc(0, data + at, cut);
		ck_assert_uint_eq(segment_crc(part, data + at + cut, len - cut), crc);
	}
	free(data);
}
END_TEST

/* ---- headers ---- */

START_TEST(header_with_any_bit_changed_is_not_good)
{
	struct segment_header h;

	segment_header_make(&h, &stage_ring, 42, 5);
	ck_assert(segment_header_good(&h));
	ck_assert_uint_eq(h.number, 42);
	ck_assert_str_eq(h.name, "stage");
	for (size_t bit = 0; bit < sizeof(h) * 8; bit++) {
		((unsigned char *)&h)[bit / 8] ^= (unsigned char)(1u << bit % 8);
		ck_assert(!segment_header_good(&h));
		((unsigned char *)&h)[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
	ck_assert(segment_header_good(&h));
}
END_TEST

START_TEST(name_longer_than_its_field_is_cut)
{
	struct segment_ring ring = stage_ring;
	struct segment_header h;
	char name[200];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	ring.name = name;
	segment_header_make(&h, &ring, 1, 5);
	ck_assert_uint_eq(strlen(h.name), SEGMENT_NAME_BYTES - 1);
}
END_TEST

/* ---- fragments ---- */

START_TEST(fragment_of_own_records_says_what_they_are)
{
	struct segment_fragment f = { .kind = SEGMENT_OWN, .from = 4096, .real_offset = 1000 };
	struct stage_payload p = { 0 };
	struct segment_header h;
	struct iovec part;

	stage_record(&p, NULL, 3, 50, 1, "abc", 3);
	stage_record(&p, NULL, 6, 40, 2, "", 0);
	stage_record(&p, NULL, 6, 60, 3, "12345678", 8);
	part = (struct iovec){ p.data, p.len };
	ck_assert_int_eq(segment_fragment_make(&f, &part, 1), 0);
	ck_assert_uint_eq(f.records, 3);
	ck_assert_uint_eq(f.levels, 1 << 3 | 1 << 6);
	ck_assert_uint_eq(f.time_min, 1040);
	ck_assert_uint_eq(f.time_max, 1060);
	ck_assert_uint_eq(p.len, 32 + 24 + 32);
	ck_assert_uint_eq(f.to, 4096 + p.len);
	ck_assert_uint_eq(f.payload_crc, segment_crc(0, p.data, p.len));
	segment_header_make(&h, &stage_ring, 1, 5);
	ck_assert(segment_fragment_good(&f, &h));
	free(p.data);
}
END_TEST

START_TEST(fragment_of_shared_records_has_as_many_as_slots)
{
	struct segment_fragment f = { .kind = SEGMENT_SHARED, .slots = { [0] = 1 << 5, [3] = 2 } };
	struct segment_author author = { .pid = 1, .tid = 2 };
	struct stage_payload p[2] = { { 0 }, { 0 } };
	struct segment_header h;
	struct iovec parts[2];

	stage_record(&p[0], &author, 3, 50, 1, "abc", 3);
	stage_record(&p[1], &author, 3, 51, 1, "a longer one than the first", 27);
	for (int i = 0; i < 2; i++)
		parts[i] = (struct iovec){ p[i].data, p[i].len };
	ck_assert_int_eq(segment_fragment_make(&f, parts, 2), 0);
	ck_assert_uint_eq(f.from, 5);
	ck_assert_uint_eq(f.to, 194);
	ck_assert_uint_eq(f.records, 2);
	segment_header_make(&h, &stage_ring, 1, 5);
	ck_assert(segment_fragment_good(&f, &h));
	ck_assert_int_eq(segment_fragment_make(&f, parts, 1), -EUCLEAN);
	f.slots[1] = 1;
	ck_assert_int_eq(segment_fragment_make(&f, parts, 2), -EUCLEAN);
	free(p[0].data);
	free(p[1].data);
}
END_TEST

START_TEST(fragment_of_what_is_no_records_is_refused)
{
	struct segment_fragment f = { .kind = SEGMENT_OWN };
	struct stage_payload p = { 0 };
	struct iovec part;

	stage_record(&p, NULL, 3, 50, 1, "abc", 3);
	stage_record(&p, NULL, 3, 51, 1, "abc", 3);
	for (size_t len = 1; len < p.len; len++) {
		part = (struct iovec){ p.data, len };
		ck_assert_int_eq(segment_fragment_make(&f, &part, 1), len == 32 ? 0 : -EUCLEAN);
	}
	/* A record that says it is longer than what there is, or than any may be. */
	((struct segment_entry *)(void *)p.data)->info = stage_info(60, 0);
	part.iov_len = p.len;
	ck_assert_int_eq(segment_fragment_make(&f, &part, 1), -EUCLEAN);
	((struct segment_entry *)(void *)p.data)->info = stage_info(SEGMENT_PAYLOAD_MAX + 1, 0);
	ck_assert_int_eq(segment_fragment_make(&f, &part, 1), -EUCLEAN);
	f.kind = SEGMENT_KINDS;
	ck_assert_int_eq(segment_fragment_make(&f, &part, 1), -EINVAL);
	free(p.data);
}
END_TEST

START_TEST(fragment_with_any_bit_changed_is_not_good)
{
	struct segment_fragment f = { .kind = SEGMENT_OWN };
	struct stage_payload p = { 0 };
	struct segment_header h;
	struct iovec part;

	segment_header_make(&h, &stage_ring, 1, 5);
	stage_record(&p, NULL, 3, 50, 1, "abc", 3);
	part = (struct iovec){ p.data, p.len };
	ck_assert_int_eq(segment_fragment_make(&f, &part, 1), 0);
	for (size_t bit = 0; bit < sizeof(f) * 8; bit++) {
		((unsigned char *)&f)[bit / 8] ^= (unsigned char)(1u << bit % 8);
		ck_assert(!segment_fragment_good(&f, &h));
		((unsigned char *)&f)[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
	free(p.data);
}
END_TEST

/* A checksum that is right does not make nonsense good. */
START_TEST(fragment_that_lies_with_a_right_checksum_is_not_good)
{
	struct segment_fragment f = { .kind = SEGMENT_OWN }, lie;
	struct stage_payload p = { 0 };
	struct segment_header h;
	struct iovec part;

	segment_header_make(&h, &stage_ring, 1, 5);
	stage_record(&p, NULL, 3, 50, 1, "abc", 3);
	part = (struct iovec){ p.data, p.len };
	ck_assert_int_eq(segment_fragment_make(&f, &part, 1), 0);
	for (int i = 0; i < 6; i++) {
		lie = f;
		switch (i) {
		case 0: lie.payload_bytes = UINT32_MAX; break;
		case 1: lie.to = STAGE_BLOCK + 8; break;
		case 2: lie.from = 8; break;
		case 3: lie.kind = 0; break;
		case 4: lie.kind = SEGMENT_SHARED; break;
		default: lie.kind = SEGMENT_LOSS; break;
		}
		lie.crc = segment_crc(0, &lie, offsetof(struct segment_fragment, crc));
		ck_assert_msg(!segment_fragment_good(&lie, &h), "lie %d", i);
	}
	free(p.data);
}
END_TEST

START_TEST(payload_longer_than_any_may_be_is_refused)
{
	struct segment_fragment f = { .kind = SEGMENT_LARGE };
	void *data = calloc(1, SEGMENT_PAYLOAD_MAX);
	struct iovec parts[2] = { { data, SEGMENT_PAYLOAD_MAX }, { data, 1 } };

	ck_assert_ptr_nonnull(data);
	ck_assert_int_eq(segment_fragment_make(&f, parts, 1), 0);
	ck_assert_int_eq(segment_fragment_make(&f, parts, 2), -EMSGSIZE);
	f.kind = SEGMENT_LOSS;
	ck_assert_int_eq(segment_fragment_make(&f, parts + 1, 1), -EMSGSIZE);
	free(data);
}
END_TEST

START_TEST(prefix_ends_before_too_much_is_referred_to)
{
	struct stage_payload p = { 0 };

	for (uint64_t i = 0; i < 5; i++) {
		stage_record(&p, NULL, 3, i, i, "abc", 3); /* 32 bytes */
		stage_record(&p, NULL, 3, i, i, NULL, 1000000); /* 40 bytes */
	}
	ck_assert_uint_eq(segment_own_prefix(p.data, p.len, 10000000), p.len);
	ck_assert_uint_eq(segment_own_prefix(p.data, p.len, 2000256), 2 * 72 + 32);
	ck_assert_uint_eq(segment_own_prefix(p.data, p.len, 2000255), 1 * 72 + 32);
	ck_assert_uint_eq(segment_own_prefix(p.data + 32, p.len - 32, 0), 40 + 32);
	ck_assert_uint_eq(segment_own_prefix(p.data, p.len - 1, 10000000), p.len - 40);
	ck_assert_uint_eq(segment_own_prefix(p.data, 31, 10000000), 0);
	free(p.data);
}
END_TEST

/* ---- index ---- */

START_TEST(index_has_runs_of_whole_groups_that_cover_all)
{
	struct stage_payload p = { 0 };
	const struct segment_run *runs;
	struct segment_fragment f;
	uint64_t at = sizeof(struct segment_header), records = 0;
	const void *payload;
	struct segment_end end;
	char large[20000] = "large";
	struct stage s;
	size_t count;

	stage_open(&s, 1);
	stage_record(&p, NULL, 4, 100, 1, NULL, sizeof(large));
	for (uint32_t i = 0; i < 50; i++) {
		((struct segment_entry *)(void *)p.data)->time = 100 + i;
		stage_large(&s, i, 1, 0, 100 + i, large, sizeof(large));
		stage_own(&s, i, 1, 0, &p);
	}
	ck_assert_int_eq(segment_index_fragment(&s.index, s.bytes.len, &f, &payload), 0);
	count = f.payload_bytes / sizeof(*runs);
	runs = payload;
	/* Each group is longer than a run has to be. */
	ck_assert_uint_eq(count, 50);
	ck_assert(segment_runs_good(runs, count, s.bytes.len));
	for (size_t i = 0; i < count; i++) {
		ck_assert_uint_eq(runs[i].offset, at);
		ck_assert_uint_eq(runs[i].fragments, 2);
		ck_assert_uint_eq(runs[i].time_min, 100 + i);
		ck_assert_uint_eq(runs[i].time_max, 100 + i);
		ck_assert_uint_eq(runs[i].levels, 1 << 4);
		at += runs[i].bytes;
		records += runs[i].records;
	}
	ck_assert_uint_eq(at, s.bytes.len);
	ck_assert_uint_eq(records, f.records);
	ck_assert_uint_eq(f.time_min, 100);
	ck_assert_uint_eq(f.time_max, 149);
	memcpy(&end, (const char *)payload + f.payload_bytes - sizeof(end), sizeof(end));
	ck_assert_uint_eq(end.offset, s.bytes.len);
	ck_assert_mem_eq(end.magic, SEGMENT_END_MAGIC, 8);
	free(p.data);
	stage_close(&s);
}
END_TEST

START_TEST(small_fragments_share_runs)
{
	struct stage_payload p = { 0 };
	struct stage s;

	stage_open(&s, 1);
	stage_record(&p, NULL, 4, 100, 1, "x", 1);
	for (uint32_t i = 0; i < 1000; i++)
		stage_own(&s, 1, 1, i * (uint32_t)p.len, &p);
	stage_end(&s);
	ck_assert_uint_eq(s.index.count, (1000 * 160 + SEGMENT_RUN_BYTES - 1) / SEGMENT_RUN_BYTES);
	ck_assert_uint_eq(s.index.records, 1000);
	free(p.data);
	stage_close(&s);
}
END_TEST

START_TEST(group_without_end_is_refused)
{
	struct segment_fragment f = { .kind = SEGMENT_LARGE };
	void *data = calloc(1, SEGMENT_PAYLOAD_MAX);
	struct iovec part = { data, SEGMENT_PAYLOAD_MAX };
	struct segment_index x;
	uint64_t at = sizeof(struct segment_header);
	int r = 0, n;

	ck_assert_ptr_nonnull(data);
	ck_assert_int_eq(segment_fragment_make(&f, &part, 1), 0);
	segment_index_init(&x);
	for (n = 0; n < 100 && !r; n++) {
		r = segment_index_add(&x, &f, at);
		at += segment_fragment_bytes(&f);
	}
	ck_assert_int_eq(r, -EMSGSIZE);
	ck_assert_int_le(n, 5);
	segment_index_free(&x);
	free(data);
}
END_TEST

/* ---- names ---- */

START_TEST(names_of_files_are_read_as_they_are_written)
{
	static const char *const wrong[] = { "",
					     "1.log",
					     "0000000000000000.log",
					     "0000000000000001.log.zs",
					     "0000000000000001.log.zst.tmp",
					     "00000000000000001.log",
					     "000000000000000x.log",
					     "99999999999999999999999999.log",
					     "0000000000000001" };
	char name[SEGMENT_FILE_BYTES];
	uint64_t number;
	bool compressed;

	for (int i = 0; i < 2; i++) {
		segment_file_name(name, 9999999999999999u, i);
		ck_assert(segment_file_number(name, &number, &compressed));
		ck_assert_uint_eq(number, 9999999999999999u);
		ck_assert_int_eq(compressed, i);
	}
	segment_file_name(name, 1, false);
	ck_assert_str_eq(name, "0000000000000001.log");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_msg(!segment_file_number(wrong[i], &number, &compressed), "%s", wrong[i]);
}
END_TEST

static void put_file(const struct stage_dir *d, uint64_t number, bool compressed, size_t len)
{
	char path[128];
	FILE *f;

	stage_path(d, number, compressed, path);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	for (size_t i = 0; i < len; i++)
		fputc('x', f);
	fclose(f);
}

START_TEST(list_has_each_segment_once_by_number)
{
	struct segment_listed *list;
	struct stage_dir d;
	char other[128];
	size_t count;

	stage_dir_make(&d);
	put_file(&d, 12, false, 5);
	put_file(&d, 3, true, 7);
	put_file(&d, 12, true, 4);
	put_file(&d, 100, false, 0);
	snprintf(other, sizeof(other), "%s/position", d.path);
	fclose(fopen(other, "w"));
	ck_assert_int_eq(segment_list(d.path, &list, &count), 0);
	unlink(other);
	ck_assert_uint_eq(count, 3);
	ck_assert_uint_eq(list[0].number, 3);
	ck_assert(list[0].compressed && !list[0].plain && list[0].bytes == 7);
	ck_assert_uint_eq(list[1].number, 12);
	ck_assert(list[1].compressed && list[1].plain && list[1].bytes == 9);
	ck_assert_uint_eq(list[2].number, 100);
	free(list);
	stage_dir_remove(&d);
	ck_assert_int_eq(segment_list(d.path, &list, &count), -ENOENT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("segment");
	TCase *t = tcase_create("writing");
	SRunner *runner;
	int failed;

	tcase_add_test(t, checksum_is_crc32c);
	tcase_add_test(t, checksum_does_not_depend_on_how_it_is_made);
	tcase_add_test(t, header_with_any_bit_changed_is_not_good);
	tcase_add_test(t, name_longer_than_its_field_is_cut);
	tcase_add_test(t, fragment_of_own_records_says_what_they_are);
	tcase_add_test(t, fragment_of_shared_records_has_as_many_as_slots);
	tcase_add_test(t, fragment_of_what_is_no_records_is_refused);
	tcase_add_test(t, fragment_with_any_bit_changed_is_not_good);
	tcase_add_test(t, fragment_that_lies_with_a_right_checksum_is_not_good);
	tcase_add_test(t, payload_longer_than_any_may_be_is_refused);
	tcase_add_test(t, prefix_ends_before_too_much_is_referred_to);
	tcase_add_test(t, index_has_runs_of_whole_groups_that_cover_all);
	tcase_add_test(t, small_fragments_share_runs);
	tcase_add_test(t, group_without_end_is_refused);
	tcase_add_test(t, names_of_files_are_read_as_they_are_written);
	tcase_add_test(t, list_has_each_segment_once_by_number);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
