/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each error that the public calls are said to give, provoked once: a table of what is called, and what
 * it must say. Each row runs in a process of its own with a fresh arena.
 */
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "arena_file.h"
#include "heap.h"

#define SKIP 1000

static char name[64], path[128], socket_path[128];
static shma *heap;	 /* open, with a quota of 8 MiB, its log 64 KiB, policy drop */
static shma *reader;	 /* the same, read-only */
static shma_handle mine; /* private, 100 bytes */
static struct board *board;
static struct shma_options options;

/* Of calls that give a handle, a pointer or a size. */
#define RESULT(call) (errno = 0, (call) ? 0 : -errno)

/* ---- opening ---- */

static int open_flags(unsigned flags)
{
	shma *s;
	int r = shma_open(&s, name, flags, &options);

	if (r == 0)
		shma_close(s);
	return r;
}

static int open_missing(void)
{
	shma *s;

	return shma_open(&s, "test-errors-no-such-arena", SHMA_EMBEDDED, NULL);
}

static int open_existing_exclusively(void)
{
	return open_flags(SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED);
}

static int open_bad_flags(void)
{
	return open_flags(SHMA_CREATE | SHMA_RDONLY | SHMA_EMBEDDED);
}

static int open_long_name(void)
{
	char text[80];
	shma *s;

	memset(text, 'n', sizeof(text));
	text[79] = '\0';
	return shma_open(&s, text, SHMA_EMBEDDED, NULL);
}

static int open_as_nobody(void)
{
	if (getuid() != 0 || setgid(65534) || setuid(65534))
		return SKIP;
	return open_flags(SHMA_EMBEDDED);
}

static int patch_and_open(off_t at, uint32_t value)
{
	int fd = open(path, O_RDWR), r;
	uint32_t kept;

	if (fd < 0 || pread(fd, &kept, sizeof(kept), at) != sizeof(kept) ||
	    pwrite(fd, &value, sizeof(value), at) != sizeof(value))
		return -EIO;
	r = open_flags(SHMA_EMBEDDED);
	if (pwrite(fd, &kept, sizeof(kept), at) != sizeof(kept))
		r = -EIO;
	close(fd);
	return r;
}

static int open_other_version(void)
{
	return patch_and_open(offsetof(struct arena_header, version), 999);
}

static int open_other_endianness(void)
{
	return patch_and_open(offsetof(struct arena_header, endian), 0x04030201);
}

static int open_damaged(void)
{
	return patch_and_open(offsetof(struct arena_header, geometry), 12345);
}

static int open_truncated(void)
{
	int r;

	strcat(name, "-short");
	arena_path(path, sizeof(path), name);
	r = open_flags(SHMA_CREATE | SHMA_EMBEDDED);
	if (r || truncate(path, 5000))
		return -EIO;
	r = open_flags(SHMA_EMBEDDED);
	arena_unlink(path);
	return r;
}

static int open_in_other_namespace(void)
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID))
		return SKIP;
	pid = fork();
	if (pid == 0)
		_exit(-open_flags(SHMA_EMBEDDED));
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

static int open_without_room(void)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/dev/shm", "tmpfs", 0, "size=64k"))
		return SKIP;
	return open_flags(SHMA_CREATE | SHMA_EMBEDDED);
}

static int create_below_limit(int which)
{
	struct rlimit limit = {MIB(4), MIB(4)};
	shma *s;

	setrlimit(which, &limit);
	return shma_open(&s, "test-errors-too-large", SHMA_CREATE | SHMA_EMBEDDED, &options);
}

static int create_below_file_limit(void)
{
	return create_below_limit(RLIMIT_FSIZE);
}

static int create_below_address_limit(void)
{
	return create_below_limit(RLIMIT_AS);
}

static int listen_on_socket(int backlog)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(to.sun_path, socket_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&to, sizeof(to)))
		return -1;
	return backlog >= 0 && listen(fd, backlog) ? -1 : fd;
}

static int open_with_a_silent_daemon(void)
{
	options.socket = socket_path;
	if (listen_on_socket(4) < 0)
		return -EIO;
	return open_flags(0);
}

static int open_with_a_dead_daemon(void)
{
	options.socket = socket_path;
	if (listen_on_socket(-1) < 0)
		return -EIO;
	return open_flags(0);
}

static int open_without_a_daemon(void)
{
	options.socket = socket_path;
	return open_flags(0);
}

static int close_nothing(void)
{
	return shma_close(NULL);
}

/* ---- allocating ---- */

static int alloc_nothing(void)
{
	return RESULT(shma_alloc(heap, 0, 0));
}

static int alloc_too_much(void)
{
	return RESULT(shma_alloc(heap, SIZE_MAX / 2, 0));
}

static int alloc_unknown_flags(void)
{
	return RESULT(shma_alloc(heap, 1, 0x40000000u));
}

static int alloc_aligned_too_far(void)
{
	return RESULT(shma_alloc(heap, 1, SHMA_ALIGN(1u << 22)));
}

static int alloc_beyond_quota(void)
{
	return RESULT(shma_alloc(heap, MIB(9), 0));
}

static int alloc_small_beyond_quota(void)
{
	while (shma_alloc(heap, 1000, 0))
		;
	return -errno;
}

static int alloc_when_full(void)
{
	while (shma_alloc(heap, 30000, SHMA_PERSIST)) /* counts for nobody */
		;
	return -errno;
}

static int alloc_read_only(void)
{
	return RESULT(shma_alloc(reader, 100, 0));
}

static int alloc_without_thread_slots(void)
{
	_Atomic uint64_t *words = arena_at(&heap->arena, heap->arena.g.thread_words);

	/* By a forked child, who needs one of its own. */
	for (uint32_t i = 0; i < THREADS_MAX; i++)
		if (!atomic_load(&words[i]))
			atomic_store(&words[i], thread_word(THREAD_CLAIMED, 1, 0));
	atomic_store(&heap->arena.header->threads_high, THREADS_MAX);
	return RESULT(shma_alloc(heap, 100, 0));
}

/* ---- objects ---- */

static shma_handle freed(void)
{
	shma_handle h = shma_alloc(heap, 100, 0);

	shma_free(heap, h);
	return h;
}

static shma_handle published(void)
{
	shma_handle h = shma_alloc(heap, 100, SHMA_ZERO);

	return shma_publish(heap, "root", h) ? SHMA_NULL : h;
}

static shma_handle taken(void)
{
	shma_handle h = shma_alloc(heap, 100, SHMA_SHARED);

	return shma_take(heap, h) ? SHMA_NULL : h;
}

static shma_handle garbage(void)
{
	return mine ^ UINT64_C(1) << HANDLE_TAG_SHIFT;
}

/* The fixture's object belongs to the parent of the process in which rows run. */
#define ROW(call_name, handle_name, call)                                                          \
	static int call_name##_##handle_name(void)                                                 \
	{                                                                                          \
		shma_handle h = handle_name();                                                     \
		shma_handle *cell = shma_ptr(heap, h);                                             \
                                                                                                   \
		(void)cell;                                                                        \
		return h ? call : -EIO;                                                            \
	}

static shma_handle anothers(void)
{
	return mine;
}

ROW(free, freed, shma_free(heap, h))
ROW(free, anothers, shma_free(heap, h))
ROW(free, published, shma_free(heap, h))
ROW(free, garbage, shma_free(heap, h))
ROW(free_read_only, anothers, shma_free(reader, h))
ROW(share, freed, shma_share(heap, h))
ROW(share, anothers, shma_share(heap, h))
ROW(share, garbage, shma_share(heap, h))
ROW(share_read_only, anothers, shma_share(reader, h))
ROW(take, freed, shma_take(heap, h))
ROW(take, anothers, shma_take(heap, h))
ROW(take, taken, shma_take(heap, h))
ROW(take, published, shma_take(heap, h))
ROW(take, garbage, shma_take(heap, h))
ROW(take_read_only, anothers, shma_take(reader, h))
ROW(resize, freed, RESULT(shma_resize(heap, h, 5000)))
ROW(resize, anothers, RESULT(shma_resize(heap, h, 5000)))
ROW(resize, published, RESULT(shma_resize(heap, h, 5000)))
ROW(resize, garbage, RESULT(shma_resize(heap, h, 5000)))
ROW(resize_to_nothing, taken, RESULT(shma_resize(heap, h, 0)))
ROW(resize_beyond_quota, taken, RESULT(shma_resize(heap, h, MIB(9))))
ROW(resize_read_only, anothers, RESULT(shma_resize(reader, h, 5000)))
ROW(ptr, freed, RESULT(shma_ptr(heap, h)))
ROW(ptr, garbage, RESULT(shma_ptr(heap, h)))
ROW(size, freed, RESULT(shma_size(heap, h)))
ROW(size, garbage, RESULT(shma_size(heap, h)))
ROW(read, freed, (int)shma_read(heap, h, 0, name, 1))
ROW(read, garbage, (int)shma_read(heap, h, 0, name, 1))
ROW(handle_of_inside, taken, RESULT(shma_handle_of(heap, (char *)cell + 16)))
ROW(persist_in_private_cell, taken, shma_persist(heap, h, cell))
ROW(publish, freed, shma_publish(heap, "x", h))
ROW(publish, anothers, shma_publish(heap, "x", h))
ROW(publish, garbage, shma_publish(heap, "x", h))
ROW(publish_read_only, anothers, shma_publish(reader, "x", h))
ROW(publish_without_name, taken, shma_publish(heap, "", h))
ROW(publish_again, published, shma_publish(heap, "other", h))
ROW(unpublish_read_only, published, shma_unpublish(reader, "root"))

static int handle_of_nothing(void)
{
	return RESULT(shma_handle_of(heap, NULL));
}

static int persist_with(shma_handle h)
{
	return shma_persist(heap, h, shma_ptr(heap, published()));
}

static int persist_freed(void)
{
	return persist_with(freed());
}

static int persist_anothers(void)
{
	return persist_with(mine);
}

static int persist_garbage(void)
{
	return persist_with(garbage());
}

static int persist_published(void)
{
	shma_handle h = published();

	return shma_persist(heap, h, shma_ptr(heap, h));
}

static int persist_read_only(void)
{
	shma_handle h = published();

	return shma_persist(reader, mine, shma_ptr(reader, h));
}

static int persist_nowhere(void)
{
	shma_handle local;

	return shma_persist(heap, taken(), &local);
}

static int publish_taken_name(void)
{
	return published() ? shma_publish(heap, "root", taken()) : -EIO;
}

static int publish_long_name(void)
{
	char text[NAME_BYTES + 1];

	memset(text, 'n', sizeof(text));
	text[NAME_BYTES] = '\0';
	return shma_publish(heap, text, taken());
}

static int publish_too_many(void)
{
	for (int i = 0; i <= (int)NAMES_MAX; i++) {
		char text[32];
		int r;

		snprintf(text, sizeof(text), "name %d", i);
		r = shma_publish(heap, text, shma_alloc(heap, 16, 0));
		if (r)
			return r;
	}
	return 0;
}

static int lookup_missing(void)
{
	return RESULT(shma_lookup(heap, "no such name"));
}

static int unpublish_missing(void)
{
	return shma_unpublish(heap, "no such name");
}

/* ---- the log ---- */

static char big[SHMA_RECORD_MAX + 1];

static int log_too_long(void)
{
	return shma_log_write(heap, 6, big, sizeof(big));
}

static int log_bad_level(void)
{
	return shma_log_write(heap, 8, "x", 1);
}

static int log_read_only(void)
{
	return shma_log(reader, 6, "%s", "x");
}

static int log_when_full(void)
{
	struct shma_reader *r;
	int e = shma_reader_open(heap, &r, SHMA_FROM_OLDEST | SHMA_CONSUMER);

	for (int i = 0; !e && i < 100000; i++)
		e = shma_log_write(heap, 6, big, 200);
	return e;
}

static int reserve_too_long(void)
{
	struct shma_record rec;

	return shma_log_reserve(heap, &rec, 6, sizeof(big));
}

static int commit_in_a_child(void)
{
	struct shma_record rec;
	int status, r = shma_log_reserve(heap, &rec, 6, 10);
	pid_t pid;

	if (r)
		return r;
	pid = fork();
	if (pid == 0)
		_exit(-shma_log_commit(heap, &rec));
	waitpid(pid, &status, 0);
	shma_log_abort(heap, &rec);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

static int second_consumer(void)
{
	struct shma_reader *a, *b;
	int r = shma_reader_open(heap, &a, SHMA_CONSUMER);

	if (r)
		return r;
	r = shma_reader_open(heap, &b, SHMA_CONSUMER);
	shma_reader_close(a);
	return r;
}

/* ---- the table ---- */

#define E(function, result) {#function, function, result}

static const struct {
	const char *call;
	int (*function)(void);
	int result;
} table[] = {
	E(open_missing, -ENOENT),
	E(open_existing_exclusively, -EEXIST),
	E(open_bad_flags, -EINVAL),
	E(open_long_name, -ENAMETOOLONG),
	E(open_as_nobody, -EACCES),
	E(open_other_version, -EPROTO),
	E(open_other_endianness, -EPROTO),
	E(open_damaged, -EUCLEAN),
	E(open_truncated, -EUCLEAN),
	E(open_in_other_namespace, -EXDEV),
	E(open_without_room, -ENOSPC),
	E(create_below_file_limit, -EFBIG),
	E(create_below_address_limit, -EFBIG),
	E(open_with_a_silent_daemon, -ETIMEDOUT),
	E(open_with_a_dead_daemon, -ECONNREFUSED),
	E(open_without_a_daemon, -ENOENT),
	E(close_nothing, -EINVAL),
	E(alloc_nothing, -EINVAL),
	E(alloc_too_much, -EINVAL),
	E(alloc_unknown_flags, -EINVAL),
	E(alloc_aligned_too_far, -EINVAL),
	E(alloc_beyond_quota, -EDQUOT),
	E(alloc_small_beyond_quota, -EDQUOT),
	E(alloc_when_full, -ENOMEM),
	E(alloc_read_only, -EROFS),
	E(alloc_without_thread_slots, -EUSERS),
	E(free_freed, -ESTALE),
	E(free_anothers, -EPERM),
	E(free_published, -EBUSY),
	E(free_garbage, -EINVAL),
	E(free_read_only_anothers, -EROFS),
	E(share_freed, -ESTALE),
	E(share_anothers, -EPERM),
	E(share_garbage, -EINVAL),
	E(share_read_only_anothers, -EROFS),
	E(take_freed, -ESTALE),
	E(take_anothers, -EPERM),
	E(take_taken, -EBUSY),
	E(take_published, -EBUSY),
	E(take_garbage, -EINVAL),
	E(take_read_only_anothers, -EROFS),
	E(resize_freed, -ESTALE),
	E(resize_anothers, -EPERM),
	E(resize_published, -EBUSY),
	E(resize_garbage, -EINVAL),
	E(resize_to_nothing_taken, -EINVAL),
	E(resize_beyond_quota_taken, -EDQUOT),
	E(resize_read_only_anothers, -EROFS),
	E(ptr_freed, -ESTALE),
	E(ptr_garbage, -EINVAL),
	E(size_freed, -ESTALE),
	E(size_garbage, -EINVAL),
	E(read_freed, -ESTALE),
	E(read_garbage, -EINVAL),
	E(handle_of_nothing, -EINVAL),
	E(handle_of_inside_taken, -EINVAL),
	E(persist_in_private_cell_taken, -EINVAL),
	E(persist_nowhere, -EINVAL),
	E(persist_freed, -ESTALE),
	E(persist_anothers, -EPERM),
	E(persist_garbage, -EINVAL),
	E(persist_published, -EBUSY),
	E(persist_read_only, -EROFS),
	E(publish_freed, -ESTALE),
	E(publish_anothers, -EPERM),
	E(publish_garbage, -EINVAL),
	E(publish_read_only_anothers, -EROFS),
	E(publish_without_name_taken, -EINVAL),
	E(publish_again_published, -EBUSY),
	E(publish_taken_name, -EEXIST),
	E(publish_long_name, -ENAMETOOLONG),
	E(publish_too_many, -ENOSPC),
	E(lookup_missing, -ENOENT),
	E(unpublish_missing, -ENOENT),
	E(unpublish_read_only_published, -EROFS),
	E(log_too_long, -EMSGSIZE),
	E(log_bad_level, -EINVAL),
	E(log_read_only, -EROFS),
	E(log_when_full, -EAGAIN),
	E(reserve_too_long, -EMSGSIZE),
	E(commit_in_a_child, -EPERM),
	E(second_consumer, -EBUSY),
};

static int run_row(void *arg)
{
	atomic_store(&board->numbers[0], (uint64_t)(int64_t)table[*(int *)arg].function());
	return 0;
}

static void close_all(void)
{
	reap(&heap->arena);
	heap_check(&heap->arena);
	shma_close(reader);
	shma_free(heap, mine);
	shma_close(heap);
	unlink(socket_path);
	arena_unlink(path);
}

static void open_all(void)
{
	board = board_new();
	snprintf(name, sizeof(name), "test-errors-%d", (int)getpid());
	snprintf(socket_path, sizeof(socket_path), "/tmp/test-errors-%d.sock", (int)getpid());
	ck_assert_int_eq(arena_path(path, sizeof(path), name), 0);
	options = (struct shma_options){.struct_size = sizeof(options), .capacity = MIB(16),
					.log_capacity = 65536, .client_quota = MIB(8),
					.log_policy = SHMA_LOG_DROP};
	ck_assert_int_eq(shma_open(&heap, name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &options), 0);
	ck_assert_int_eq(shma_open(&reader, name, SHMA_RDONLY | SHMA_EMBEDDED, NULL), 0);
	mine = shma_alloc(heap, 100, 0);
	ck_assert_uint_ne(mine, SHMA_NULL);
}

START_TEST(each_error_is_given_as_promised)
{
	int r;

	open_all();
	ck_assert_int_eq(in_child(run_row, &_i), 0);
	r = (int)(int64_t)atomic_load(&board->numbers[0]);
	close_all();
	if (r == SKIP)
		printf("%s: skipped, not possible here\n", table[_i].call);
	else
		ck_assert_msg(r == table[_i].result, "%s: %d (%s), not %d", table[_i].call, r,
			      shma_strerror(r), table[_i].result);
}
END_TEST

START_TEST(each_error_has_a_text_and_no_number_is_too_odd)
{
	for (size_t i = 0; i < LENGTH(table); i++) {
		ck_assert_str_ne(shma_strerror(table[i].result), "unknown error");
		ck_assert_str_eq(shma_strerror(table[i].result), shma_strerror(-table[i].result));
	}
	ck_assert_str_eq(shma_strerror(0), "success");
	ck_assert_ptr_ne(shma_strerror(123456), NULL);
	ck_assert_ptr_ne(shma_strerror(INT32_MIN), NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("errors");
	TCase *t = tcase_create("errors");

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, each_error_is_given_as_promised, 0, (int)LENGTH(table));
	tcase_add_test(t, each_error_has_a_text_and_no_number_is_too_odd);
	suite_add_tcase(s, t);
	return run_suite(s);
}
