/* SPDX-License-Identifier: Apache-2.0 */
/* Files as objects: read by every process, and what becomes of them when the file, its owner or a reader goes. */
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "heap.h"
#include "map_file.h"
#include "mapped.h"
#include "repair.h"

#define BYTES 300000u /* no multiple of a page */

static char folder[128], file[192];
static shma *s;
static struct board *board; /* numbers[0]: the handle */

static unsigned char byte_at(size_t i)
{
	return (unsigned char)(i * 2654435761u >> 13);
}

static void write_file(const char *path, size_t bytes)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	for (size_t i = 0; i < bytes; i++)
		ck_assert_int_ge(fputc(byte_at(i), f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	heap_seed("test_map_file");
	snprintf(folder, sizeof(folder), "%s/shmalloc-map-XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(file, sizeof(file), "%s/file", folder);
	write_file(file, BYTES);
	s = heap_open(MIB(16), 0);
	board = board_new();
}

static void teardown(void)
{
	char path[256];

	heap_close(s);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, i ? "other" : "file");
		unlink(path);
	}
	ck_assert_int_eq(rmdir(folder), 0);
}

static shma_handle map_it(void)
{
	shma_handle h;
	size_t len = 0;

	ck_assert_int_eq(shma_map_file(s, file, &h, &len), 0);
	ck_assert_uint_eq(len, BYTES);
	return h;
}

static bool right(const unsigned char *bytes, size_t from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i] != byte_at(from + i))
			return false;
	return true;
}

/* The whole of it, by both ways; what the first that fails says, 0. */
static int read_whole(shma_handle h)
{
	static unsigned char copy[BYTES + 10];
	ssize_t n = shma_read(s, h, 0, copy, sizeof(copy));
	const unsigned char *p;

	if (n < 0)
		return (int)-n;
	if (n != BYTES || !right(copy, 0, BYTES))
		return 200;
	p = shma_ptr(s, h);
	if (!p)
		return errno;
	return right(p, 0, BYTES) ? 0 : 201;
}

static int open_files(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static bool is_mapped(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[1024];
	bool found = false;

	ck_assert_ptr_nonnull(maps);
	while (!found && fgets(line, sizeof(line), maps))
		found = strstr(line, file) != NULL;
	fclose(maps);
	return found;
}

/* ---- one process ---- */

START_TEST(a_file_is_read_like_an_object)
{
	shma_handle h = map_it();
	unsigned char some[100];

	ck_assert_int_eq(read_whole(h), 0);
	ck_assert_uint_eq(shma_size(s, h), BYTES);
	ck_assert_ptr_eq(shma_ptr(s, h), shma_ptr(s, h));
	for (int i = 0; i < 200; i++) {
		size_t at = heap_below(BYTES + 50);
		ssize_t n = shma_read(s, h, at, some, sizeof(some));
		ssize_t expect = at >= BYTES ? 0 : BYTES - at < sizeof(some) ? BYTES - at : sizeof(some);

		ck_assert_int_eq(n, expect);
		ck_assert(right(some, at, n));
	}
	ck_assert_int_eq(shma_read(s, h, SIZE_MAX, some, sizeof(some)), 0);
	ck_assert_int_eq(shma_read(s, h, 5, some, 0), 0);
	ck_assert_int_eq(shma_free(s, h), 0);
}
END_TEST

START_TEST(what_is_no_file_with_bytes_in_it_is_refused)
{
	char other[256], longer[5000];
	shma_handle h = 1;
	struct shma_stats before = heap_stats(s);

	snprintf(other, sizeof(other), "%s/other", folder);
	ck_assert_int_eq(shma_map_file(s, other, &h, NULL), -ENOENT);
	ck_assert_uint_eq(h, SHMA_NULL);
	ck_assert_int_eq(shma_map_file(s, folder, &h, NULL), -EISDIR);
	ck_assert_int_eq(shma_map_file(s, "/dev/null", &h, NULL), -EINVAL);
	ck_assert_int_eq(mkfifo(other, 0600), 0);
	ck_assert_int_eq(shma_map_file(s, other, &h, NULL), -EINVAL);
	ck_assert_int_eq(unlink(other), 0);
	write_file(other, 0);
	ck_assert_int_eq(shma_map_file(s, other, &h, NULL), -EINVAL);
	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[sizeof(longer) - 1] = 0;
	ck_assert_int_eq(shma_map_file(s, longer, &h, NULL), -ENAMETOOLONG);
	ck_assert_int_eq(shma_map_file(s, NULL, &h, NULL), -EINVAL);
	ck_assert_int_eq(shma_map_file(s, file, NULL, NULL), -EINVAL);
	ck_assert_uint_eq(heap_stats(s).live_objects, before.live_objects);
}
END_TEST

START_TEST(it_cannot_be_written_into_or_made_larger)
{
	shma_handle h = map_it(), other = shma_alloc(s, 64, 0);
	shma_handle *cell = shma_ptr(s, h);

	errno = 0;
	ck_assert_uint_eq(shma_resize(s, h, 2 * BYTES), SHMA_NULL);
	ck_assert_int_eq(errno, EROFS);
	ck_assert_uint_eq(shma_pack(s, h, 1), h);
	ck_assert_int_eq(shma_persist(s, other, cell), -EINVAL);
	ck_assert_uint_eq(shma_handle_of(s, cell), SHMA_NULL);
	ck_assert_int_eq(read_whole(h), 0);
	ck_assert_int_eq(shma_free(s, h), 0);
	ck_assert_int_eq(shma_free(s, other), 0);
}
END_TEST

START_TEST(freed_it_is_stale_and_nothing_of_it_stays_open)
{
	int before = open_files();
	struct shma_stats st = heap_stats(s);
	char some[4];
	shma_handle h = map_it();

	ck_assert_int_eq(read_whole(h), 0);
	ck_assert_int_eq(open_files(), before + 1);
	ck_assert(is_mapped());
	ck_assert_uint_eq(heap_stats(s).live_objects, st.live_objects + 1);
	ck_assert_int_eq(shma_free(s, h), 0);
	ck_assert_int_eq(open_files(), before);
	ck_assert(!is_mapped());
	ck_assert_uint_eq(heap_stats(s).live_bytes, st.live_bytes);
	ck_assert_ptr_null(shma_ptr(s, h));
	ck_assert_int_eq(errno, ESTALE);
	ck_assert_int_eq(shma_read(s, h, 0, some, 4), -ESTALE);
	ck_assert_uint_eq(shma_size(s, h), 0);
	ck_assert_int_eq(errno, ESTALE);
	ck_assert_int_eq(shma_free(s, h), -ESTALE);
}
END_TEST

START_TEST(closing_the_arena_closes_its_files)
{
	int before = open_files();
	shma *other;
	struct shma_options opt = {.struct_size = sizeof(opt), .capacity = MIB(16), .log_capacity = 65536};
	char path[256];
	shma_handle h;

	snprintf(path, sizeof(path), "%s/other", folder);
	ck_assert_int_eq(shma_open(&other, path, SHMA_CREATE | SHMA_EMBEDDED, &opt), 0);
	ck_assert_int_eq(shma_map_file(other, file, &h, NULL), 0);
	ck_assert_ptr_nonnull(shma_ptr(other, h));
	ck_assert_int_eq(shma_free(other, h), 0);
	ck_assert_int_eq(shma_map_file(other, file, &h, NULL), 0);
	ck_assert_ptr_nonnull(shma_ptr(other, h));
	ck_assert_int_eq(shma_publish(other, "file", h), 0);
	ck_assert_int_eq(shma_close(other), 0);
	ck_assert(!is_mapped());
	ck_assert_int_eq(open_files(), before);
	ck_assert_int_eq(arena_unlink(path), 0);
}
END_TEST

/* ---- the file changes ---- */

static int touch_behind_the_end(void *arg)
{
	const unsigned char *p = arg;

	signal(SIGBUS, SIG_DFL);
	return p[BYTES - 1];
}

START_TEST(a_file_cut_off_is_an_error_of_read_and_a_fault_by_pointer)
{
	shma_handle h = map_it();
	const unsigned char *p = shma_ptr(s, h);
	unsigned char some[1000];
	int status;
	pid_t pid;

	ck_assert_int_eq(truncate(file, 10000), 0);
	ck_assert_int_eq(shma_read(s, h, 9000, some, 1000), 1000);
	ck_assert(right(some, 9000, 1000));
	ck_assert_int_eq(shma_read(s, h, 9001, some, 1000), -EIO);
	ck_assert_int_eq(shma_read(s, h, 200000, some, 1000), -EIO);
	ck_assert_int_eq(shma_read(s, h, BYTES, some, 1000), 0);
	ck_assert(right(p, 0, 8192));
	pid = child_start(touch_behind_the_end, (void *)p);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	write_file(file, BYTES);
	ck_assert_int_eq(read_whole(h), 0);
	ck_assert_int_eq(shma_free(s, h), 0);
}
END_TEST

/* In a process that has not used the handle before: waits for it, then reads. */
static int read_later(void *arg)
{
	(void)arg;
	atomic_fetch_add(&board->ready, 1);
	if (!board_reaches(&board->step, 1))
		return 202;
	return read_whole(atomic_load(&board->numbers[0]));
}

static pid_t start_reader(void)
{
	pid_t pid = child_start(read_later, NULL);

	child_ready(board, pid, 1);
	return pid;
}

static void let_read(shma_handle h)
{
	atomic_store(&board->numbers[0], h);
	atomic_store(&board->step, 1);
}

START_TEST(another_process_reads_it_by_the_same_handle)
{
	pid_t pid = start_reader();
	shma_handle h = map_it();

	let_read(h);
	child_expect(pid, 0);
	ck_assert_int_eq(shma_free(s, h), 0);
}
END_TEST

/* What another process does to the file meanwhile. */
static void change_file(int how)
{
	char other[256];

	snprintf(other, sizeof(other), "%s/other", folder);
	switch (how) {
	case 0: ck_assert_int_eq(unlink(file), 0); break;
	case 1:
		write_file(other, BYTES);
		ck_assert_int_eq(rename(other, file), 0);
		break;
	case 2: ck_assert_int_eq(truncate(file, BYTES - 1), 0); break;
	case 3: ck_assert_int_eq(truncate(file, BYTES + 1), 0); break;
	case 4:
		ck_assert_int_eq(unlink(file), 0);
		ck_assert_int_eq(mkfifo(file, 0600), 0);
		break;
	default:
		ck_assert_int_eq(unlink(file), 0);
		ck_assert_int_eq(mkdir(file, 0700), 0);
		break;
	}
}

START_TEST(who_has_not_opened_it_yet_must_find_the_same_file)
{
	pid_t pid = start_reader();
	shma_handle h = map_it();

	ck_assert_int_eq(read_whole(h), 0);
	change_file(_i);
	let_read(h);
	child_expect(pid, ESTALE);
	if (_i != 2) /* who has it open goes on */
		ck_assert_int_eq(read_whole(h), 0);
	ck_assert_int_eq(shma_free(s, h), 0);
	if (_i == 5)
		ck_assert_int_eq(rmdir(file), 0);
}
END_TEST

/* File systems give the number of a removed inode to the next one. */
START_TEST(a_new_file_with_the_old_ones_inode_is_another)
{
	pid_t pid = start_reader();
	shma_handle h;
	struct statx sx;
	ino_t was;

	ck_assert_int_eq(statx(AT_FDCWD, file, 0, STATX_BTIME | STATX_INO, &sx), 0);
	was = sx.stx_ino;
	h = map_it();
	map_file_close(s); /* so that the inode is free */
	ck_assert_int_eq(unlink(file), 0);
	write_file(file, BYTES);
	ck_assert_int_eq(statx(AT_FDCWD, file, 0, STATX_BTIME | STATX_INO, &sx), 0);
	let_read(h);
	if (was != sx.stx_ino || sx.stx_mask & STATX_BTIME)
		child_expect(pid, ESTALE);
	else
		child_expect(pid, 0); /* nothing tells them apart here, and the bytes are the same */
	ck_assert_int_eq(shma_free(s, h), 0);
}
END_TEST

/* ---- rights ---- */

static int read_as_nobody(void *arg)
{
	(void)arg;
	if (getuid() == 0 && (setgid(65534) || setuid(65534)))
		return 203;
	return read_later(NULL);
}

START_TEST(who_may_not_open_the_file_is_refused)
{
	pid_t pid = child_start(read_as_nobody, NULL);
	shma_handle h = map_it(), none;

	child_ready(board, pid, 1);
	ck_assert_int_eq(chmod(file, 0), 0);
	let_read(h);
	child_expect(pid, EACCES);
	ck_assert_int_eq(read_whole(h), 0);
	if (getuid() != 0)
		ck_assert_int_eq(shma_map_file(s, file, &none, NULL), -EACCES);
	ck_assert_int_eq(shma_free(s, h), 0);
}
END_TEST

static int map_as_nobody(void *arg)
{
	shma_handle h;

	(void)arg;
	if (getuid() == 0 && (setgid(65534) || setuid(65534)))
		return 203;
	return -shma_map_file(s, file, &h, NULL);
}

START_TEST(nor_can_it_make_an_object_of_it)
{
	ck_assert_int_eq(chmod(file, 0), 0);
	ck_assert_int_eq(in_child(map_as_nobody, NULL), EACCES);
}
END_TEST

/* ---- owners and readers die ---- */

static int map_and_die(void *how)
{
	shma_handle h = map_it();

	switch ((intptr_t)how) {
	case 0: shma_share(s, h); break;
	case 1: shma_publish(s, "file", h); break;
	case 3: shma_retain(s, h); break;
	default: break;
	}
	atomic_store(&board->numbers[0], h);
	rest(board);
	return 0;
}

START_TEST(it_goes_with_its_owner_unless_it_is_published)
{
	pid_t pid = child_start(map_and_die, (void *)(intptr_t)_i);
	int before = open_files();
	shma_handle h;

	child_ready(board, pid, 1);
	h = atomic_load(&board->numbers[0]);
	ck_assert_int_eq(read_whole(h), 0);
	ck_assert_int_eq(open_files(), before + 1);
	child_kill(pid);
	reap(&s->arena);
	if (_i == 1) {
		ck_assert_uint_eq(shma_lookup(s, "file"), h);
		ck_assert_int_eq(read_whole(h), 0);
		ck_assert_int_eq(shma_unpublish(s, "file"), 0);
		ck_assert_int_eq(shma_free(s, h), 0);
	} else {
		ck_assert_int_eq(read_whole(h), ESTALE);
	}
	ck_assert_int_eq(open_files(), before);
	ck_assert(!is_mapped());
}
END_TEST

START_TEST(it_is_taken_by_another_and_outlives_its_maker)
{
	pid_t pid = child_start(map_and_die, (void *)0);
	shma_handle h;

	child_ready(board, pid, 1);
	h = atomic_load(&board->numbers[0]);
	ck_assert_int_eq(shma_take(s, h), 0);
	ck_assert_int_eq(shma_take(s, h), -EBUSY);
	child_kill(pid);
	reap(&s->arena);
	ck_assert_int_eq(read_whole(h), 0);
	ck_assert_int_eq(shma_free(s, h), 0);
	ck_assert_int_eq(read_whole(h), ESTALE);
}
END_TEST

START_TEST(it_is_held_by_several_and_goes_with_the_last)
{
	pid_t pid = child_start(map_and_die, (void *)3);
	shma_handle h;

	child_ready(board, pid, 1);
	h = atomic_load(&board->numbers[0]);
	ck_assert_int_eq(shma_retain(s, h), 0);
	ck_assert_int_eq(shma_free(s, h), -EBUSY);
	child_kill(pid);
	reap(&s->arena);
	ck_assert_int_eq(read_whole(h), 0);
	ck_assert_int_eq(shma_release(s, h), 0);
	ck_assert_int_eq(read_whole(h), ESTALE);
	ck_assert(!is_mapped());
}
END_TEST

static int read_inherited(void *arg)
{
	const unsigned char *p = arg;
	int r = read_whole(atomic_load(&board->numbers[0]));

	atomic_fetch_add(&board->ready, 1);
	if (r || !board_reaches(&board->step, 1))
		return r ? r : 202;
	if (!right(p, 0, BYTES)) /* the child's mapping is its own */
		return 204;
	r = read_whole(atomic_load(&board->numbers[0]));
	return r == ESTALE && !is_mapped() ? 0 : 205;
}

START_TEST(a_forked_child_has_its_parents_file_until_it_is_freed)
{
	shma_handle h = map_it();
	void *p = shma_ptr(s, h);
	pid_t pid;

	atomic_store(&board->numbers[0], h);
	pid = child_start(read_inherited, p);
	child_ready(board, pid, 1);
	ck_assert_int_eq(shma_free(s, h), 0);
	atomic_store(&board->step, 1);
	child_expect(pid, 0);
}
END_TEST

/* ---- many ---- */

#define MANY (MAP_FILES_MAX + 20)

START_TEST(so_many_files_are_open_and_no_more)
{
	static shma_handle many[MANY];
	struct rlimit limit, more;
	char some[4];

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	more = limit;
	more.rlim_cur = MANY + 100;
	if (more.rlim_max != RLIM_INFINITY && more.rlim_max < more.rlim_cur) {
		printf("so_many_files_are_open_and_no_more: skipped, at most %llu files\n",
		       (unsigned long long)more.rlim_max);
		return;
	}
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &more), 0);
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_int_eq(shma_map_file(s, file, &many[i], NULL), 0);
	ck_assert_int_eq(shma_read(s, many[MANY - 1], 0, some, 4), -ENFILE);
	ck_assert_ptr_null(shma_ptr(s, many[MANY - 1]));
	ck_assert_int_eq(errno, ENFILE);
	ck_assert_int_eq(shma_free(s, many[0]), 0);
	ck_assert_int_eq(shma_read(s, many[MANY - 1], 0, some, 4), 4);
	for (unsigned i = 1; i < MANY; i++)
		ck_assert_int_eq(shma_free(s, many[i]), 0);
	more.rlim_cur = 20;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &more), 0);
	for (int i = 0; i < 20; i++) {
		int r = shma_map_file(s, file, &many[i], NULL);

		ck_assert(r == 0 || r == -EMFILE);
		if (r)
			many[i] = 0;
	}
	ck_assert_uint_eq(many[19], 0);
	for (int i = 0; i < 20; i++)
		ck_assert(!many[i] || shma_free(s, many[i]) == 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}
END_TEST

static _Atomic uint64_t now;
static _Atomic int wrong;

/* Reads whatever is there while another thread frees it and makes the next. */
static void *read_on(void *arg)
{
	unsigned char some[64];
	uint64_t seed = (uintptr_t)arg;

	while (!atomic_load(&board->stop)) {
		size_t at = (seed = seed * 6364136223846793005u + 1) >> 33;
		ssize_t n = shma_read(s, atomic_load(&now), at % (BYTES - 64), some, 64);

		if (n != -ESTALE && (n != 64 || !right(some, at % (BYTES - 64), 64)))
			atomic_store(&wrong, 1);
		atomic_fetch_add(&board->count, 1);
	}
	return NULL;
}

/* Forked while they are at it. */
static int read_now(void *arg)
{
	(void)arg;
	return read_whole(atomic_load(&now));
}

START_TEST(threads_read_it_while_another_frees_it)
{
	pthread_t threads[3];

	atomic_store(&now, map_it());
	for (uintptr_t i = 0; i < LENGTH(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_on, (void *)(i + 1)), 0);
	for (int i = 0; i < 200 || atomic_load(&board->count) < 2000; i++) {
		shma_handle old = atomic_exchange(&now, map_it());

		ck_assert_int_eq(shma_free(s, old), 0);
		if (i % 50 == 0)
			ck_assert_int_eq(in_child(read_now, NULL), 0);
	}
	atomic_store(&board->stop, 1);
	for (size_t i = 0; i < LENGTH(threads); i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_int_eq(wrong, 0);
	ck_assert_int_eq(shma_free(s, now), 0);
}
END_TEST

/* ---- another process writes what it wants ---- */

static struct mapped_description *description(shma_handle h)
{
	return (struct mapped_description *)(s->arena.heap + handle_offset(h));
}

START_TEST(a_description_that_is_spoilt_is_an_error_and_found)
{
	shma_handle h = map_it();
	struct mapped_description *d = description(h), whole = *d;
	unsigned char *bytes = (unsigned char *)d;
	char some[4];

	map_file_close(s);
	for (int i = 0; i < 200; i++) {
		size_t at = heap_below(sizeof(d->file) + d->file.path_bytes);

		bytes[at] ^= (unsigned char)(1 + heap_below(255));
		ck_assert_int_eq(shma_read(s, h, 0, some, 4), -EUCLEAN);
		ck_assert_ptr_null(shma_ptr(s, h));
		ck_assert_int_eq(errno, EUCLEAN);
		ck_assert_uint_eq(shma_size(s, h), 0);
		if (i % 50 == 0)
			ck_assert_int_eq(heap_findings(&s->arena), 1);
		*d = whole;
	}
	ck_assert_int_eq(read_whole(h), 0);
	ck_assert_int_eq(shma_free(s, h), 0);
}
END_TEST

START_TEST(a_description_that_names_a_fifo_does_not_make_anybody_wait)
{
	shma_handle h = map_it();
	struct mapped_file f = description(h)->file;
	char other[256], some[4];

	map_file_close(s);
	snprintf(other, sizeof(other), "%s/other", folder);
	ck_assert_int_eq(mkfifo(other, 0600), 0);
	f.path_bytes = (uint32_t)strlen(other) + 1;
	mapped_write(&s->arena, f.page, &f, other);
	ck_assert_int_eq(shma_read(s, h, 0, some, 4), -ESTALE);
	ck_assert_int_eq(shma_free(s, h), 0);
}
END_TEST

/* ---- repair ---- */

static uint32_t told[REPAIR_WHATS];

static void note(void *context, const struct repair_note *n)
{
	(void)context;
	told[n->what]++;
}

/* A file arena with one published object, whose maker is gone; then some bytes are changed. */
static void leave_arena(const char *path, shma_handle *h, uint64_t *entry, uint64_t *place)
{
	struct shma_options opt = {.struct_size = sizeof(opt), .capacity = MIB(16), .log_capacity = 65536};
	shma *other;

	ck_assert_int_eq(shma_open(&other, path, SHMA_CREATE | SHMA_EMBEDDED, &opt), 0);
	ck_assert_int_eq(shma_map_file(other, file, h, NULL), 0);
	ck_assert_int_eq(shma_publish(other, "file", *h), 0);
	*entry = other->arena.g.page_map + (handle_offset(*h) >> PAGE_SHIFT) * sizeof(struct page_entry);
	*place = other->arena.g.heap + handle_offset(*h);
	ck_assert_int_eq(shma_close(other), 0);
}

static void change_byte(const char *path, uint64_t at, unsigned char x)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned char byte;

	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= x;
	ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
	ck_assert_int_eq(close(fd), 0);
}

START_TEST(a_repair_tells_by_the_description_what_the_object_is)
{
	struct repair_watch watch = {.note = note};
	struct repair_sum sum;
	uint64_t entry, place;
	char path[256];
	unsigned char some[64];
	shma_handle h;
	shma *other;

	snprintf(path, sizeof(path), "%s/other", folder);
	leave_arena(path, &h, &entry, &place);
	if (_i == 0) /* the kind of page */
		change_byte(path, entry, PAGE_MAPPED ^ 0xc);
	else /* the file's inode */
		change_byte(path, place + offsetof(struct mapped_file, inode), 1);
	memset(told, 0, sizeof(told));
	ck_assert_int_eq(repair_file(path, &watch, &sum), 0);
	ck_assert_uint_eq(told[_i == 0 ? REPAIR_LARGE : REPAIR_MAPPED_LOST], 1);
	ck_assert_int_eq(audit_file(path, false, heap_print_finding, NULL), 0);
	ck_assert_int_eq(shma_open(&other, path, SHMA_EMBEDDED, NULL), 0);
	ck_assert_uint_eq(shma_lookup(other, "file"), h);
	ck_assert_uint_eq(shma_size(other, h), _i == 0 ? BYTES : PAGE_SIZE);
	ck_assert_int_eq(shma_read(other, h, 0, some, sizeof(some)), sizeof(some));
	ck_assert(_i != 0 || right(some, 0, sizeof(some)));
	ck_assert_int_eq(shma_close(other), 0);
	ck_assert_int_eq(arena_unlink(path), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("map_file");
	TCase *tc = tcase_create("map_file");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_file_is_read_like_an_object);
	tcase_add_test(tc, what_is_no_file_with_bytes_in_it_is_refused);
	tcase_add_test(tc, it_cannot_be_written_into_or_made_larger);
	tcase_add_test(tc, freed_it_is_stale_and_nothing_of_it_stays_open);
	tcase_add_test(tc, closing_the_arena_closes_its_files);
	tcase_add_test(tc, a_file_cut_off_is_an_error_of_read_and_a_fault_by_pointer);
	tcase_add_test(tc, another_process_reads_it_by_the_same_handle);
	tcase_add_loop_test(tc, who_has_not_opened_it_yet_must_find_the_same_file, 0, 6);
	tcase_add_test(tc, a_new_file_with_the_old_ones_inode_is_another);
	tcase_add_test(tc, who_may_not_open_the_file_is_refused);
	tcase_add_test(tc, nor_can_it_make_an_object_of_it);
	tcase_add_loop_test(tc, it_goes_with_its_owner_unless_it_is_published, 0, 3);
	tcase_add_test(tc, it_is_taken_by_another_and_outlives_its_maker);
	tcase_add_test(tc, it_is_held_by_several_and_goes_with_the_last);
	tcase_add_test(tc, a_forked_child_has_its_parents_file_until_it_is_freed);
	tcase_add_test(tc, so_many_files_are_open_and_no_more);
	tcase_add_test(tc, threads_read_it_while_another_frees_it);
	tcase_add_test(tc, a_description_that_is_spoilt_is_an_error_and_found);
	tcase_add_test(tc, a_description_that_names_a_fifo_does_not_make_anybody_wait);
	tcase_add_loop_test(tc, a_repair_tells_by_the_description_what_the_object_is, 0, 2);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
