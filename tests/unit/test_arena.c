/* SPDX-License-Identifier: Apache-2.0 */
/* Arena files: made whole or not at all, refused when they are not what they should be. */
#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "arena_file.h"
#include "format.h"
#include "heap.h"

static char dir[64]; /* of this run; removed at its end */

static void path_of(char *buf, size_t size, const char *name)
{
	snprintf(buf, size, "%s/%s", dir, name);
}

static int create_at(const char *path, struct arena_files *files)
{
	struct arena_config config = {.name = "x", .path = path, .backing = BACKING_FILE,
				      .capacity = MIB(16), .log_capacity = 65536};

	return arena_create(&config, files);
}

static int count_files(void)
{
	struct dirent *e;
	DIR *d = opendir(dir);
	int n = 0;

	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void remove_all(void)
{
	char path[512];
	struct dirent *e;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (e->d_name[0] != '.')
			unlink(path);
	}
	if (d)
		closedir(d);
}

static void setup(void)
{
	remove_all();
}

static uint64_t blocks_of(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* ---- names ---- */

START_TEST(names_are_letters_digits_and_three_signs)
{
	char longest[ARENA_NAME_BYTES], path[128];
	const char *bad[] = {"", "a/b", "a b", "a\n", "ä", "a*", "../x"};

	memset(longest, 'n', sizeof(longest));
	ck_assert_int_eq(arena_name_check("Az09._-"), 0);
	for (size_t i = 0; i < LENGTH(bad); i++)
		ck_assert_int_eq(arena_name_check(bad[i]), -EINVAL);
	longest[sizeof(longest) - 1] = '\0';
	ck_assert_int_eq(arena_name_check(longest), 0);
	ck_assert_int_eq(arena_path(path, sizeof(path), longest), 0);
	ck_assert_int_eq(arena_path(path, 20, longest), -ENAMETOOLONG);
	ck_assert_int_eq(arena_path(path, sizeof(path), "a/b"), -EINVAL);
}
END_TEST

START_TEST(a_name_one_too_long_is_refused)
{
	char name[ARENA_NAME_BYTES + 1];

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	ck_assert_int_eq(arena_name_check(name), -ENAMETOOLONG);
}
END_TEST

/* ---- creating and opening ---- */

START_TEST(an_arena_is_created_opened_and_removed_without_a_trace)
{
	struct arena_files made, opened;
	struct arena a;
	char path[128];

	path_of(path, sizeof(path), "one");
	ck_assert_int_eq(create_at(path, &made), 0);
	ck_assert_int_eq(count_files(), 2); /* and its life file */
	ck_assert_int_eq(arena_open(path, false, &opened), 0);
	ck_assert_int_eq(arena_map(&a, opened, false), 0);
	ck_assert_str_eq(a.header->name, "x");
	ck_assert_uint_eq(a.g.capacity, MIB(16));
	ck_assert_uint_ge(a.tag, 1);
	ck_assert_uint_le(a.tag, 255);
	ck_assert_uint_eq((uintptr_t)a.heap % MIB(2), 0);
	heap_check(&a);
	ck_assert_int_eq(arena_unlink(path), 0);
	ck_assert_int_eq(count_files(), 0);
	heap_check(&a); /* attached processes go on */
	arena_unmap(&a);
	arena_files_close(&made);
}
END_TEST

START_TEST(an_arena_that_is_there_is_not_created_again)
{
	struct arena_files made, other;
	uint8_t before[4096], after[4096];
	char path[128];

	path_of(path, sizeof(path), "one");
	ck_assert_int_eq(create_at(path, &made), 0);
	ck_assert_int_eq(pread(made.fd, before, sizeof(before), 0), sizeof(before));
	ck_assert_int_eq(create_at(path, &other), -EEXIST);
	ck_assert_int_eq(pread(made.fd, after, sizeof(after), 0), sizeof(after));
	ck_assert_mem_eq(before, after, sizeof(before));
	ck_assert_int_eq(count_files(), 2);
	ck_assert_int_eq(arena_unlink(path), 0);
	arena_files_close(&made);
}
END_TEST

START_TEST(what_is_not_there_is_neither_opened_nor_removed)
{
	struct arena_files files;
	char path[128];

	path_of(path, sizeof(path), "none");
	ck_assert_int_eq(arena_open(path, false, &files), -ENOENT);
	ck_assert_int_eq(arena_unlink(path), -ENOENT);
	path_of(path, sizeof(path), "no/such/dir");
	ck_assert_int_eq(create_at(path, &files), -ENOENT);
}
END_TEST

START_TEST(sizes_and_policies_out_of_bounds_are_refused_and_leave_nothing)
{
	struct arena_config config = {.name = "x", .backing = BACKING_FILE, .log_capacity = 65536};
	struct arena_files files;
	char path[128];

	path_of(path, sizeof(path), "bad");
	config.path = path;
	config.capacity = CAPACITY_MIN - 1;
	ck_assert_int_eq(arena_create(&config, &files), -EINVAL);
	config.capacity = CAPACITY_MAX + 1;
	ck_assert_int_eq(arena_create(&config, &files), -EINVAL);
	config.capacity = MIB(16);
	config.log_policy = 3;
	ck_assert_int_eq(arena_create(&config, &files), -EINVAL);
	ck_assert_int_eq(count_files(), 0);
}
END_TEST

START_TEST(the_mode_is_the_arenas_whatever_the_umask)
{
	struct arena_config config = {.name = "x", .backing = BACKING_FILE, .capacity = MIB(16),
				      .log_capacity = 65536, .mode = 0664};
	struct arena_files files;
	struct stat st;
	char path[128];

	path_of(path, sizeof(path), "mode");
	config.path = path;
	umask(0077);
	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0664);
	ck_assert_int_eq(fstat(files.life_fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0660); /* no reader may lock bytes of the dead */
	arena_files_close(&files);
	ck_assert_int_eq(arena_unlink(path), 0);
}
END_TEST

static int create_one(void *path)
{
	struct arena_files files;

	return -create_at(path, &files);
}

START_TEST(of_many_creators_exactly_one_succeeds)
{
	struct arena_files files;
	char path[128];
	pid_t pids[8];
	int won = 0;

	path_of(path, sizeof(path), "race");
	for (size_t i = 0; i < LENGTH(pids); i++)
		pids[i] = child_start(create_one, path);
	for (size_t i = 0; i < LENGTH(pids); i++) {
		int status;

		ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
		ck_assert(WIFEXITED(status));
		ck_assert(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EEXIST);
		won += WEXITSTATUS(status) == 0;
	}
	ck_assert_int_eq(won, 1);
	ck_assert_int_eq(count_files(), 2);
	ck_assert_int_eq(arena_open(path, false, &files), 0);
	arena_files_close(&files);
	ck_assert_int_eq(arena_unlink(path), 0);
	ck_assert_int_eq(count_files(), 0);
}
END_TEST

static int create_and_remove_for_ever(void *path)
{
	struct arena_files files;

	for (;;) {
		if (create_at(path, &files) == 0)
			arena_files_close(&files);
		arena_unlink(path);
	}
	return 0;
}

START_TEST(a_creator_killed_at_any_time_leaves_no_half_arena)
{
	struct arena_files files;
	struct arena a;
	char path[128];

	heap_seed("a_creator_killed_at_any_time_leaves_no_half_arena");
	path_of(path, sizeof(path), "killed");
	for (int round = 0; round < 25; round++) {
		pid_t pid = child_start(create_and_remove_for_ever, path);
		int r;

		usleep(1000 + (useconds_t)heap_below(8000));
		child_kill(pid);
		r = arena_open(path, false, &files);
		ck_assert_msg(r == 0 || r == -ENOENT, "open: %d", r);
		if (r == 0) {
			ck_assert_int_eq(arena_map(&a, files, false), 0);
			heap_check(&a);
			arena_unmap(&a);
			ck_assert_int_eq(arena_unlink(path), 0);
		}
		/* At most its life file, which the next creator removes. */
		ck_assert_int_eq(create_at(path, &files), 0);
		ck_assert_int_eq(count_files(), 2);
		arena_files_close(&files);
		ck_assert_int_eq(arena_unlink(path), 0);
		ck_assert_int_eq(count_files(), 0);
	}
}
END_TEST

#define SOME_UUID ".00112233445566778899aabbccddeeff.life"

static void touch(const char *name)
{
	char path[256];
	int fd;

	path_of(path, sizeof(path), name);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
}

static bool exists(const char *name)
{
	char path[256];

	path_of(path, sizeof(path), name);
	return access(path, F_OK) == 0;
}

static int hold_byte_0(void *arg)
{
	struct board *b = arg;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
	char path[256];
	int fd;

	path_of(path, sizeof(path), "arena" SOME_UUID);
	fd = open(path, O_RDWR);
	if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock) < 0)
		return 1;
	rest(b);
	return 0;
}

START_TEST(a_creator_removes_what_a_dead_one_left_and_nothing_else)
{
	struct board *b = board_new();
	struct arena_files files;
	char path[128];
	pid_t pid;

	path_of(path, sizeof(path), "arena");
	touch("arena" SOME_UUID);
	touch("arena.other" SOME_UUID);
	touch("arena.life");
	touch("other" SOME_UUID);
	/* Of a creator that lives: between its two links. */
	pid = child_start(hold_byte_0, b);
	board_wait(&b->ready, 1);
	ck_assert_int_eq(create_at(path, &files), 0);
	ck_assert(exists("arena" SOME_UUID));
	arena_files_close(&files);
	ck_assert_int_eq(arena_unlink(path), 0);
	child_kill(pid);
	ck_assert_int_eq(create_at(path, &files), 0);
	ck_assert(!exists("arena" SOME_UUID));
	ck_assert(exists("arena.other" SOME_UUID));
	ck_assert(exists("arena.life"));
	ck_assert(exists("other" SOME_UUID));
	arena_files_close(&files);
	ck_assert_int_eq(arena_unlink(path), 0);
}
END_TEST

/* ---- files that are no arenas ---- */

static struct arena_files memory_arena(void)
{
	struct arena_config config = {.name = "m", .capacity = MIB(16), .log_capacity = 65536,
				      .backing = BACKING_MEMFD};
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	return files;
}

static int try_map(struct arena_files files)
{
	struct arena a;
	int r = arena_map(&a, files, false);

	if (r == 0)
		arena_unmap_keep_files(&a);
	return r;
}

START_TEST(any_bit_changed_in_the_headers_constant_part_is_refused)
{
	struct arena_files files = memory_arena();

	heap_seed("any_bit_changed_in_the_headers_constant_part_is_refused");
	for (off_t at = 0; at < (off_t)offsetof(struct arena_header, active_zones); at++) {
		uint8_t byte, wrong;
		int r;

		ck_assert_int_eq(pread(files.fd, &byte, 1, at), 1);
		wrong = byte ^ (uint8_t)(1u << heap_below(8));
		ck_assert_int_eq(pwrite(files.fd, &wrong, 1, at), 1);
		r = try_map(files);
		ck_assert_msg(r == -EUCLEAN || r == -EPROTO, "byte %d: %d", (int)at, r);
		ck_assert_int_eq(pwrite(files.fd, &byte, 1, at), 1);
	}
	ck_assert_int_eq(try_map(files), 0);
	arena_files_close(&files);
}
END_TEST

static void with_word_changed(size_t offset, uint32_t value, int expected)
{
	struct arena_files files = memory_arena();

	ck_assert_int_eq(pwrite(files.fd, &value, sizeof(value), (off_t)offset), sizeof(value));
	ck_assert_int_eq(try_map(files), expected);
	arena_files_close(&files);
}

START_TEST(another_version_and_another_byte_order_are_told_from_damage)
{
	with_word_changed(offsetof(struct arena_header, version), LAYOUT_VERSION + 1, -EPROTO);
	with_word_changed(offsetof(struct arena_header, endian), 0x04030201, -EPROTO);
	with_word_changed(offsetof(struct arena_header, magic), 0x6f6f6f6f, -EUCLEAN);
}
END_TEST

START_TEST(a_file_cut_off_anywhere_is_refused)
{
	struct arena_files files = memory_arena();
	struct arena_geometry g;
	struct stat st;

	heap_seed("a_file_cut_off_anywhere_is_refused");
	ck_assert_int_eq(fstat(files.fd, &st), 0);
	ck_assert_int_eq(geometry_compute(&g, MIB(16), 65536), 0);
	for (int i = 0; i < 50; i++) {
		off_t size = i == 0 ? 0 : i == 1 ? st.st_size - 1 : (off_t)heap_below((uint64_t)st.st_size);

		arena_files_close(&files);
		files = memory_arena();
		ck_assert_int_eq(ftruncate(files.fd, size), 0);
		ck_assert_int_eq(try_map(files), -EUCLEAN);
	}
	arena_files_close(&files);
}
END_TEST

START_TEST(a_file_of_rubbish_is_refused)
{
	struct arena_files files;
	uint64_t rubbish[1024];
	char path[128];
	int fd;

	heap_seed("a_file_of_rubbish_is_refused");
	path_of(path, sizeof(path), "rubbish");
	for (int i = 0; i < 20; i++) {
		fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
		for (size_t k = 0; k < LENGTH(rubbish); k++)
			rubbish[k] = heap_random();
		if (i & 1)
			memcpy(rubbish, LAYOUT_MAGIC, 8);
		ck_assert_int_eq(write(fd, rubbish, sizeof(rubbish)), sizeof(rubbish));
		close(fd);
		if (i & 1) /* its life file would have some name of rubbish */
			ck_assert_int_eq(arena_open(path, false, &files), -ENOENT);
		else
			ck_assert_int_eq(arena_open(path, false, &files), -EUCLEAN);
	}
	ck_assert_int_eq(truncate(path, 0), 0);
	ck_assert_int_eq(arena_open(path, false, &files), -EUCLEAN);
	ck_assert_int_eq(arena_unlink(path), -EUCLEAN); /* what is no arena is not removed */
	ck_assert(exists("rubbish"));
}
END_TEST

START_TEST(a_wrong_count_of_zones_is_not_believed)
{
	struct arena a;

	heap_map(&a, MIB(16));
	atomic_store(&a.header->active_zones, UINT32_MAX);
	ck_assert_uint_eq(arena_refresh(&a), a.g.zone_count);
	ck_assert_uint_eq(atomic_load(&a.pages_known), geometry_heap_pages(&a.g));
	arena_unmap(&a);
}
END_TEST

/* ---- memory ---- */

START_TEST(pages_are_taken_from_the_system_and_given_back)
{
	uint64_t before, at;
	struct arena a;

	heap_map(&a, MIB(16));
	before = blocks_of(a.files.fd);
	at = a.g.heap + MIB(3);
	ck_assert_int_eq(arena_commit(&a, at, 65536), 0);
	ck_assert_uint_eq(blocks_of(a.files.fd), before + 65536);
	ck_assert_int_eq(arena_commit(&a, at, 65536), 0);
	ck_assert_uint_eq(blocks_of(a.files.fd), before + 65536);
	/* Bytes that begin and end within pages take these pages. */
	ck_assert_int_eq(arena_commit(&a, at + 65536 + 100, PAGE_SIZE), 0);
	ck_assert_uint_eq(blocks_of(a.files.fd), before + 65536 + 2 * PAGE_SIZE);
	memset(a.heap + MIB(3), 1, 65536);
	ck_assert_int_eq(arena_punch(&a, at, 65536), 0);
	ck_assert_uint_eq(blocks_of(a.files.fd), before + 2 * PAGE_SIZE);
	ck_assert_int_eq(a.heap[MIB(3)], 0);
	arena_unmap(&a);
}
END_TEST

START_TEST(bytes_are_read_over_holes_and_to_the_end_of_the_file)
{
	char bytes[2 * PAGE_SIZE];
	struct arena a;

	heap_map(&a, MIB(16));
	ck_assert_int_eq(arena_commit(&a, a.g.heap + MIB(3), PAGE_SIZE), 0);
	memset(a.heap + MIB(3), 1, PAGE_SIZE);
	ck_assert_int_eq(arena_read(&a, a.g.heap + MIB(3), bytes, sizeof(bytes)), sizeof(bytes));
	for (uint32_t i = 0; i < sizeof(bytes); i++)
		ck_assert_int_eq(bytes[i], i < PAGE_SIZE);
	ck_assert_int_eq(arena_read(&a, a.g.file_size - 100, bytes, sizeof(bytes)), 100);
	arena_unmap(&a);
}
END_TEST

/* closefrom(), and then another file under the descriptor's number. */
START_TEST(a_descriptor_that_is_another_files_by_now_is_neither_read_nor_committed)
{
	int other = open("/dev/zero", O_RDWR | O_CLOEXEC);
	struct arena a;
	char byte;

	heap_map(&a, MIB(16));
	ck_assert_int_ge(dup2(other, a.files.fd), 0);
	ck_assert_int_eq(arena_read(&a, a.g.heap, &byte, 1), -EBADF);
	ck_assert_int_eq(arena_commit(&a, a.g.heap, PAGE_SIZE), -EBADF);
	ck_assert_int_eq(arena_punch(&a, a.g.heap, PAGE_SIZE), -EBADF);
	close(other);
	arena_unmap(&a);
}
END_TEST

/* ---- limits, rights, namespaces: each in a process of its own ---- */

static int create_below_file_limit(void *path)
{
	struct rlimit limit = {MIB(8), MIB(8)};
	struct arena_files files;

	setrlimit(RLIMIT_FSIZE, &limit);
	return -create_at(path, &files);
}

static int map_below_address_limit(void *arg)
{
	struct rlimit limit = {MIB(8), MIB(8)};
	struct arena_files *files = arg;
	struct arena a;

	setrlimit(RLIMIT_AS, &limit);
	return -arena_map(&a, *files, false);
}

START_TEST(limits_below_the_size_are_told_as_such)
{
	struct arena_files files = memory_arena();
	char path[128];

	path_of(path, sizeof(path), "limit");
	ck_assert_int_eq(in_child(create_below_file_limit, path), EFBIG);
	ck_assert_int_eq(count_files(), 0);
	ck_assert_int_eq(in_child(map_below_address_limit, &files), EFBIG);
	arena_files_close(&files);
}
END_TEST

static int open_as_nobody(void *path)
{
	struct arena_files files;

	if (setgid(65534) || setuid(65534))
		return 1;
	return -arena_open(path, false, &files);
}

static int create_as_nobody(void *path)
{
	struct arena_files files;

	if (setgid(65534) || setuid(65534))
		return 1;
	return -create_at(path, &files);
}

START_TEST(without_permission_it_is_neither_opened_nor_created)
{
	struct arena_files files;
	char path[128];

	if (getuid() != 0) {
		printf("without_permission_it_is_neither_opened_nor_created: skipped, needs root\n");
		return;
	}
	path_of(path, sizeof(path), "mine");
	ck_assert_int_eq(create_at(path, &files), 0);
	ck_assert_int_eq(in_child(open_as_nobody, path), EACCES);
	arena_files_close(&files);
	ck_assert_int_eq(arena_unlink(path), 0);
	ck_assert_int_eq(in_child(create_as_nobody, path), EACCES);
}
END_TEST

static int map_in_namespace(void *arg)
{
	struct arena_files *files = arg;
	struct arena a;
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID) < 0)
		return 77;
	pid = fork();
	if (pid == 0) {
		if (arena_map(&a, *files, true)) /* looking is allowed */
			_exit(1);
		arena_unmap_keep_files(&a);
		_exit(-arena_map(&a, *files, false));
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

START_TEST(another_pid_namespace_may_look_but_not_touch)
{
	struct arena_files files = memory_arena();
	int r = in_child(map_in_namespace, &files);

	arena_files_close(&files);
	if (r == 77) {
		printf("another_pid_namespace_may_look_but_not_touch: skipped, no new namespace here\n");
		return;
	}
	ck_assert_int_eq(r, EXDEV);
}
END_TEST

static int create_on_full_system(void *arg)
{
	struct arena_files files;
	char path[128];
	int r;

	(void)arg;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", dir, "tmpfs", 0, "size=64k") < 0)
		return 77;
	path_of(path, sizeof(path), "full");
	r = create_at(path, &files);
	return count_files() ? 1 : -r;
}

START_TEST(a_full_file_system_is_no_room_and_leaves_nothing)
{
	int r = in_child(create_on_full_system, NULL);

	if (r == 77) {
		printf("a_full_file_system_is_no_room_and_leaves_nothing: skipped, cannot mount here\n");
		return;
	}
	ck_assert_int_eq(r, ENOSPC);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("arena");
	TCase *names = tcase_create("names"), *files = tcase_create("files");
	TCase *damage = tcase_create("damage"), *limits = tcase_create("limits");
	int r;

	snprintf(dir, sizeof(dir), "/dev/shm/test-arena-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	tcase_add_test(names, names_are_letters_digits_and_three_signs);
	tcase_add_test(names, a_name_one_too_long_is_refused);
	tcase_set_timeout(files, 30);
	tcase_add_checked_fixture(files, setup, NULL);
	tcase_add_test(files, an_arena_is_created_opened_and_removed_without_a_trace);
	tcase_add_test(files, an_arena_that_is_there_is_not_created_again);
	tcase_add_test(files, what_is_not_there_is_neither_opened_nor_removed);
	tcase_add_test(files, sizes_and_policies_out_of_bounds_are_refused_and_leave_nothing);
	tcase_add_test(files, the_mode_is_the_arenas_whatever_the_umask);
	tcase_add_test(files, of_many_creators_exactly_one_succeeds);
	tcase_add_test(files, a_creator_killed_at_any_time_leaves_no_half_arena);
	tcase_add_test(files, a_creator_removes_what_a_dead_one_left_and_nothing_else);
	tcase_set_timeout(damage, 30);
	tcase_add_checked_fixture(damage, setup, NULL);
	tcase_add_test(damage, any_bit_changed_in_the_headers_constant_part_is_refused);
	tcase_add_test(damage, another_version_and_another_byte_order_are_told_from_damage);
	tcase_add_test(damage, a_file_cut_off_anywhere_is_refused);
	tcase_add_test(damage, a_file_of_rubbish_is_refused);
	tcase_add_test(damage, a_wrong_count_of_zones_is_not_believed);
	tcase_add_checked_fixture(limits, setup, NULL);
	tcase_add_test(limits, pages_are_taken_from_the_system_and_given_back);
	tcase_add_test(limits, bytes_are_read_over_holes_and_to_the_end_of_the_file);
	tcase_add_test(limits, a_descriptor_that_is_another_files_by_now_is_neither_read_nor_committed);
	tcase_add_test(limits, limits_below_the_size_are_told_as_such);
	tcase_add_test(limits, without_permission_it_is_neither_opened_nor_created);
	tcase_add_test(limits, another_pid_namespace_may_look_but_not_touch);
	tcase_add_test(limits, a_full_file_system_is_no_room_and_leaves_nothing);
	suite_add_tcase(s, names);
	suite_add_tcase(s, files);
	suite_add_tcase(s, damage);
	suite_add_tcase(s, limits);
	r = run_suite(s);
	remove_all();
	rmdir(dir);
	return r;
}
