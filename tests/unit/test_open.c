/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing: flags, errors, several arenas, forks, many clients. */
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "arena_file.h"
#include "heap.h"

#define SIZE MIB(16)

static char name[64], path[128];
static struct board *board;
static struct shma_options options;

static void setup(void)
{
	snprintf(name, sizeof(name), "test-open-%d", (int)getpid());
	ck_assert_int_eq(arena_path(path, sizeof(path), name), 0);
	options = (struct shma_options){.struct_size = sizeof(options), .capacity = SIZE,
					.log_capacity = 65536};
	board = board_new();
}

static void teardown(void)
{
	arena_unlink(path);
}

static shma *create(void)
{
	shma *s = NULL;

	ck_assert_int_eq(shma_open(&s, name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &options), 0);
	return s;
}

static int fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* ---- flags and errors ---- */

START_TEST(arguments_out_of_bounds_are_invalid)
{
	const unsigned bad[] = {SHMA_EXCL, SHMA_CREATE | SHMA_RDONLY, 0x10, 0x80000000u};
	struct shma_options o = options;
	shma *s;

	for (size_t i = 0; i < LENGTH(bad); i++)
		ck_assert_int_eq(shma_open(&s, name, bad[i] | SHMA_EMBEDDED, &options), -EINVAL);
	ck_assert_int_eq(shma_open(NULL, name, SHMA_EMBEDDED, NULL), -EINVAL);
	ck_assert_int_eq(shma_open(&s, NULL, SHMA_EMBEDDED, NULL), -EINVAL);
	o.struct_size = 0;
	ck_assert_int_eq(shma_open(&s, name, SHMA_CREATE | SHMA_EMBEDDED, &o), -EINVAL);
	o = options;
	o.log_policy = 3;
	ck_assert_int_eq(shma_open(&s, name, SHMA_CREATE | SHMA_EMBEDDED, &o), -EINVAL);
	o.log_policy = -1;
	ck_assert_int_eq(shma_open(&s, name, SHMA_CREATE | SHMA_EMBEDDED, &o), -EINVAL);
	o = options;
	o.capacity = 4096;
	ck_assert_int_eq(shma_open(&s, name, SHMA_CREATE | SHMA_EMBEDDED, &o), -EINVAL);
	ck_assert_int_eq(shma_close(NULL), -EINVAL);
	ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(what_is_there_or_not_there_is_told)
{
	shma *s, *t;

	ck_assert_int_eq(shma_open(&s, name, SHMA_EMBEDDED, NULL), -ENOENT);
	ck_assert_ptr_eq(s, NULL);
	ck_assert_int_eq(shma_open(&s, name, SHMA_EMBEDDED | SHMA_RDONLY, NULL), -ENOENT);
	s = create();
	ck_assert_int_eq(shma_open(&t, name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &options), -EEXIST);
	ck_assert_int_eq(shma_open(&t, name, SHMA_CREATE | SHMA_EMBEDDED, &options), 0);
	ck_assert_ptr_eq(s, t);
	ck_assert_int_eq(shma_close(t), 0);
	ck_assert_int_eq(shma_close(s), 0);
	ck_assert_int_eq(shma_open(&s, "no/such/file", SHMA_EMBEDDED, NULL), -ENOENT);
	ck_assert_int_eq(shma_open(&s, "a name", SHMA_EMBEDDED, NULL), -EINVAL);
}
END_TEST

START_TEST(options_of_an_older_caller_are_zeros_for_the_rest)
{
	struct shma_options o = options;
	shma *s;

	o.struct_size = offsetof(struct shma_options, log_policy);
	o.log_policy = 77; /* beyond what it says it knows */
	ck_assert_int_eq(shma_open(&s, name, SHMA_CREATE | SHMA_EMBEDDED, &o), 0);
	ck_assert_uint_eq(s->arena.g.capacity, SIZE);
	ck_assert_int_eq(shma_close(s), 0);
}
END_TEST

START_TEST(a_name_with_a_slash_is_a_file)
{
	char file[64] = "/tmp/test-open-XXXXXX", arena[96];
	shma *s, *t;
	shma_handle h;

	ck_assert_ptr_ne(mkdtemp(file), NULL);
	snprintf(arena, sizeof(arena), "%s/arena", file);
	ck_assert_int_eq(shma_open(&s, arena, SHMA_CREATE | SHMA_EMBEDDED, &options), 0);
	h = shma_alloc(s, 100, SHMA_PERSIST);
	ck_assert_uint_ne(h, SHMA_NULL);
	strcpy(shma_ptr(s, h), "kept in a file");
	ck_assert_int_eq(shma_close(s), 0);
	ck_assert_int_eq(shma_open(&t, arena, SHMA_EMBEDDED, NULL), 0);
	ck_assert_str_eq(shma_ptr(t, h), "kept in a file");
	ck_assert_int_eq(shma_free(t, h), 0);
	heap_check(&t->arena);
	ck_assert_int_eq(shma_close(t), 0);
	ck_assert_int_eq(arena_unlink(arena), 0);
	ck_assert_int_eq(rmdir(file), 0);
}
END_TEST

static int as_nobody(void *arg)
{
	shma *s;

	if (getuid() != 0 || setgid(65534) || setuid(65534))
		return 77;
	return -shma_open(&s, name, *(unsigned *)arg | SHMA_EMBEDDED, NULL);
}

START_TEST(without_permission_it_is_not_opened)
{
	unsigned write = 0, read = SHMA_RDONLY;
	shma *s = create();
	int r = in_child(as_nobody, &write);

	if (r == 77) {
		printf("without_permission_it_is_not_opened: skipped, needs root\n");
	} else {
		ck_assert_int_eq(r, EACCES);
		ck_assert_int_eq(in_child(as_nobody, &read), EACCES);
		chmod(path, 0644);
		ck_assert_int_eq(in_child(as_nobody, &read), 0);
		ck_assert_int_eq(in_child(as_nobody, &write), EACCES);
	}
	ck_assert_int_eq(shma_close(s), 0);
}
END_TEST

static int in_namespace(void *arg)
{
	int status;
	shma *s;
	pid_t pid;

	(void)arg;
	if (unshare(CLONE_NEWPID) < 0)
		return 77;
	pid = fork();
	if (pid == 0) {
		if (shma_open(&s, name, SHMA_EMBEDDED | SHMA_RDONLY, NULL) || shma_close(s))
			_exit(1);
		_exit(-shma_open(&s, name, SHMA_EMBEDDED, NULL));
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

START_TEST(from_another_pid_namespace_it_can_only_be_read)
{
	struct arena_config config = {.name = name, .capacity = SIZE, .log_capacity = 65536};
	struct arena_files files;
	int r;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	arena_files_close(&files);
	r = in_child(in_namespace, NULL);
	if (r == 77)
		printf("from_another_pid_namespace_it_can_only_be_read: skipped\n");
	else
		ck_assert_int_eq(r, EXDEV);
}
END_TEST

static int with_limit(void *arg)
{
	struct rlimit limit = {MIB(8), MIB(8)};
	shma *s;

	setrlimit(*(int *)arg, &limit);
	return -shma_open(&s, name, SHMA_CREATE | SHMA_EMBEDDED, &options);
}

START_TEST(a_limit_below_its_size_is_told)
{
	int which = RLIMIT_FSIZE;

	ck_assert_int_eq(in_child(with_limit, &which), EFBIG);
	ck_assert_int_eq(access(path, F_OK), -1);
	which = RLIMIT_AS;
	ck_assert_int_eq(in_child(with_limit, &which), EFBIG);
	ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

static int on_a_full_system(void *arg)
{
	shma *s;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "/dev/shm", "tmpfs", 0, arg) < 0)
		return 77;
	return -shma_open(&s, name, SHMA_CREATE | SHMA_EMBEDDED, &options);
}

START_TEST(no_room_in_dev_shm_is_told_at_any_size)
{
	for (int kib = 8; kib < 1600; kib += kib / 4) {
		char size[32];
		int r;

		snprintf(size, sizeof(size), "size=%dk", kib);
		r = in_child(on_a_full_system, size);
		if (r == 77) {
			printf("no_room_in_dev_shm_is_told_at_any_size: skipped\n");
			return;
		}
		ck_assert_msg(r == 0 || r == ENOSPC, "%s: %d", size, r);
		if (kib < 64)
			ck_assert_int_eq(r, ENOSPC);
	}
}
END_TEST

START_TEST(what_is_no_arena_is_told)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	char rubbish[8192];
	shma *s;

	memset(rubbish, 'r', sizeof(rubbish));
	ck_assert_int_eq(shma_open(&s, name, SHMA_EMBEDDED, NULL), -EUCLEAN);
	ck_assert_int_eq(write(fd, rubbish, sizeof(rubbish)), sizeof(rubbish));
	ck_assert_int_eq(shma_open(&s, name, SHMA_EMBEDDED, NULL), -EUCLEAN);
	ck_assert_int_eq(shma_open(&s, name, SHMA_CREATE | SHMA_EMBEDDED, &options), -EUCLEAN);
	close(fd);
	unlink(path);
}
END_TEST

START_TEST(another_version_is_told)
{
	shma *s = create();
	uint32_t version = LAYOUT_VERSION + 1;
	int fd = open(path, O_RDWR);

	ck_assert_int_eq(shma_close(s), 0);
	ck_assert_int_eq(pwrite(fd, &version, sizeof(version), offsetof(struct arena_header, version)),
			 sizeof(version));
	close(fd);
	ck_assert_int_eq(shma_open(&s, name, SHMA_EMBEDDED, NULL), -EPROTO);
}
END_TEST

START_TEST(a_cut_off_arena_is_told)
{
	shma *s = create();

	ck_assert_int_eq(shma_close(s), 0);
	ck_assert_int_eq(truncate(path, 65536), 0);
	ck_assert_int_eq(shma_open(&s, name, SHMA_EMBEDDED, NULL), -EUCLEAN);
}
END_TEST

/* ---- attachments ---- */

START_TEST(opened_twice_it_is_the_same_and_closed_twice_it_is_gone)
{
	int before = fds();
	shma *s = create(), *t;

	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(shma_open(&t, name, SHMA_EMBEDDED, NULL), 0);
		ck_assert_ptr_eq(t, s);
	}
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(shma_close(t), 0);
	ck_assert_uint_ne(shma_alloc(s, 10, SHMA_PERSIST), SHMA_NULL);
	ck_assert_int_eq(shma_close(s), 0);
	ck_assert_int_eq(fds(), before);
	ck_assert_int_eq(shma_open(&s, name, SHMA_EMBEDDED, NULL), 0);
	ck_assert_uint_eq(heap_stats(s).live_objects, 1);
	ck_assert_uint_eq(heap_stats(s).clients, 1);
	heap_close(s);
}
END_TEST

static int sees_no_client(void *arg)
{
	shma *s;
	int r;

	if (shma_open(&s, name, SHMA_EMBEDDED | SHMA_RDONLY, NULL))
		return 100;
	r = (int)heap_stats(s).clients;
	shma_close(s);
	return r == *(int *)arg ? 0 : 1;
}

START_TEST(a_process_that_closed_with_objects_stays_their_owner)
{
	shma *s = create(), *t;
	shma_handle h = shma_alloc(s, 100, 0);
	int one = 1, none = 0;

	strcpy(shma_ptr(s, h), "still mine");
	ck_assert_int_eq(shma_close(s), 0);
	ck_assert_int_eq(in_child(sees_no_client, &one), 0);
	ck_assert_int_eq(shma_open(&t, name, SHMA_EMBEDDED, NULL), 0);
	ck_assert_str_eq(shma_ptr(t, h), "still mine");
	ck_assert_int_eq(shma_free(t, h), 0);
	ck_assert_int_eq(shma_close(t), 0);
	ck_assert_int_eq(in_child(sees_no_client, &none), 0);
}
END_TEST

static int is_alive(void *arg)
{
	shma *s;
	int r;

	(void)arg;
	if (shma_open(&s, name, SHMA_EMBEDDED, NULL))
		return 100;
	r = reap(&s->arena) == 0 && client_locked(&s->arena, 1) == 1 ? 0 : 1;
	shma_close(s);
	return r;
}

/* Any descriptor of the life file that is closed drops the life lock. */
START_TEST(readers_beside_a_writer_leave_its_life_lock_alone)
{
	shma *s = create(), *r, *again;

	ck_assert_int_eq(shma_open(&r, name, SHMA_EMBEDDED | SHMA_RDONLY, NULL), 0);
	ck_assert_ptr_ne(r, s);
	ck_assert_int_eq(in_child(is_alive, NULL), 0);
	ck_assert_int_eq(shma_open(&again, name, SHMA_EMBEDDED, NULL), 0);
	ck_assert_ptr_eq(again, s);
	ck_assert_int_eq(shma_close(again), 0);
	ck_assert_int_eq(shma_open(&again, name, SHMA_EMBEDDED | SHMA_RDONLY, NULL), 0);
	ck_assert_ptr_eq(again, r);
	ck_assert_int_eq(shma_close(again), 0);
	ck_assert_int_eq(shma_close(r), 0);
	ck_assert_int_eq(in_child(is_alive, NULL), 0);
	ck_assert_int_eq(shma_open(&again, name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &options), -EEXIST);
	ck_assert_int_eq(in_child(is_alive, NULL), 0);
	heap_close(s);
}
END_TEST

START_TEST(a_reader_reads_and_changes_nothing)
{
	shma *s = create(), *r;
	shma_handle h = shma_alloc(s, 100, SHMA_SHARED);
	char text[16];

	strcpy(shma_ptr(s, h), "to be read");
	ck_assert_int_eq(shma_publish(s, "root", h), 0);
	ck_assert_int_eq(shma_open(&r, name, SHMA_EMBEDDED | SHMA_RDONLY, NULL), 0);
	ck_assert_uint_eq(shma_lookup(r, "root"), h);
	ck_assert_str_eq(shma_ptr(r, h), "to be read");
	ck_assert_int_eq(shma_read(r, h, 0, text, sizeof(text)), sizeof(text));
	ck_assert_uint_eq(shma_size(r, h), shma_size(s, h));
	ck_assert_uint_eq(heap_stats(r).live_objects, 1);
	ck_assert(shma_alloc(r, 10, 0) == SHMA_NULL && errno == EROFS);
	ck_assert(shma_alloc(r, 100000, SHMA_SHARED) == SHMA_NULL && errno == EROFS);
	ck_assert(shma_resize(r, h, 10) == SHMA_NULL && errno == EROFS);
	ck_assert_int_eq(shma_free(r, h), -EROFS);
	ck_assert_int_eq(shma_share(r, h), -EROFS);
	ck_assert_int_eq(shma_take(r, h), -EROFS);
	ck_assert_int_eq(shma_publish(r, "x", h), -EROFS);
	ck_assert_int_eq(shma_unpublish(r, "root"), -EROFS);
	ck_assert_int_eq(shma_persist(r, h, shma_ptr(r, h)), -EROFS);
	ck_assert_uint_eq(heap_stats(r).clients, 1);
	ck_assert_int_eq(shma_close(r), 0);
	ck_assert_int_eq(shma_unpublish(s, "root"), 0);
	ck_assert_int_eq(shma_free(s, h), 0);
	heap_close(s);
}
END_TEST

START_TEST(handles_of_one_arena_are_none_of_another)
{
	char other[80];
	struct shma_options o = options;
	shma *s = create(), *t = NULL;
	shma_handle h, k;

	/* Tags are drawn by chance; make another until they differ. */
	for (int i = 0; i < 10; i++) {
		char p[128];

		snprintf(other, sizeof(other), "%s-%d", name, i);
		ck_assert_int_eq(shma_open(&t, other, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &o), 0);
		arena_path(p, sizeof(p), other);
		arena_unlink(p);
		if (t->arena.tag != s->arena.tag)
			break;
		ck_assert_int_eq(shma_close(t), 0);
	}
	for (int i = 0; i < 1000; i++) {
		size_t size = i % 10 ? 100 : 50000;

		h = shma_alloc(s, size, 0);
		k = shma_alloc(t, size, 0);
		memset(shma_ptr(s, h), 1, size);
		memset(shma_ptr(t, k), 2, size);
		ck_assert(shma_ptr(t, h) == NULL && errno == EINVAL);
		ck_assert_int_eq(shma_free(s, k), -EINVAL);
		ck_assert_int_eq(shma_take(t, h), -EINVAL);
		ck_assert_int_eq(*(char *)shma_ptr(s, h), 1);
		ck_assert_int_eq(shma_free(s, h), 0);
		ck_assert_int_eq(shma_free(t, k), 0);
	}
	heap_close(t);
	heap_close(s);
}
END_TEST

/* ---- forks ---- */

static int use_as_child(void *arg)
{
	shma *s = arg;
	shma_handle parents = atomic_load(&board->numbers[0]), h;

	if (shma_free(s, parents) != -EPERM || shma_share(s, parents) != -EPERM ||
	    strcmp(shma_ptr(s, parents), "the parent's"))
		return 1;
	for (int i = 0; i < 2000; i++) {
		h = shma_alloc(s, 100, i % 2 ? SHMA_SHARED : 0);
		if (!h || shma_ptr(s, h) == shma_ptr(s, parents))
			return 2;
		memset(shma_ptr(s, h), 'c', 100);
		if (i % 3 && shma_free(s, h))
			return 3;
	}
	return s->arena.client == 1 ? 4 : 0;
}

START_TEST(a_forked_child_is_a_client_of_its_own_and_owns_nothing_of_its_parents)
{
	shma *s = create();
	shma_handle h = shma_alloc(s, 100, 0), k[50];

	strcpy(shma_ptr(s, h), "the parent's");
	atomic_store(&board->numbers[0], h);
	for (int round = 0; round < 3; round++) {
		pid_t pid = child_start(use_as_child, s);

		for (int i = 0; i < 3000; i++) { /* goes on meanwhile */
			int at = i % 50;

			if (i >= 50)
				ck_assert_int_eq(shma_free(s, k[at]), 0);
			k[at] = shma_alloc(s, 100, 0);
			memset(shma_ptr(s, k[at]), 'p', 100);
		}
		child_expect(pid, 0);
		for (int i = 0; i < 50; i++)
			ck_assert_int_eq(shma_free(s, k[i]), 0);
		ck_assert_uint_eq(reap(&s->arena), 1);
		ck_assert_uint_eq(heap_stats(s).live_objects, 1);
	}
	ck_assert_str_eq(shma_ptr(s, h), "the parent's");
	ck_assert_int_eq(shma_free(s, h), 0);
	heap_close(s);
}
END_TEST

static int close_as_child(void *arg)
{
	return shma_close(arg);
}

START_TEST(a_child_that_closes_takes_nothing_from_its_parent)
{
	shma *s = create();
	shma_handle h = shma_alloc(s, 100, 0);

	ck_assert_int_eq(in_child(close_as_child, s), 0);
	ck_assert_int_eq(in_child(is_alive, NULL), 0);
	ck_assert_int_eq(shma_free(s, h), 0);
	heap_close(s);
}
END_TEST

static int grandchild(void *arg)
{
	shma *s = arg;
	shma_handle h = shma_alloc(s, 50, 0);

	return h && shma_free(s, h) == 0 ? 0 : 1;
}

static int child_with_child(void *arg)
{
	shma *s = arg;
	int status;
	pid_t pid;

	if (grandchild(s))
		return 1;
	pid = fork();
	if (pid == 0)
		_exit(grandchild(s));
	waitpid(pid, &status, 0);
	return status || grandchild(s) ? 2 : 0;
}

START_TEST(a_childs_child_is_a_client_of_its_own_too)
{
	shma *s = create();

	ck_assert_int_eq(in_child(child_with_child, s), 0);
	ck_assert_uint_eq(reap(&s->arena), 2);
	heap_close(s);
}
END_TEST

static int next_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

START_TEST(opened_again_and_again_it_costs_no_descriptor)
{
	shma *s = create(), *again;
	int fd = next_fd();

	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(shma_open(&again, name, SHMA_EMBEDDED | (i % 2 ? SHMA_CREATE : 0), NULL), 0);
		ck_assert_ptr_eq(again, s);
		ck_assert_int_eq(shma_close(again), 0);
	}
	ck_assert_int_eq(next_fd(), fd);
	heap_close(s);
}
END_TEST

static void *open_and_close(void *arg)
{
	shma *s;

	(void)arg;
	while (!atomic_load(&board->stop))
		if (shma_open(&s, name, SHMA_EMBEDDED, NULL) == 0)
			shma_close(s);
	return NULL;
}

static int open_in_child(void *arg)
{
	shma *s;
	int r;

	(void)arg;
	alarm(200); /* a held lock would keep us for ever */
	r = shma_open(&s, name, SHMA_EMBEDDED, NULL);
	return r ? -r : -shma_close(s);
}

START_TEST(a_child_forked_while_another_thread_opens_can_open_itself)
{
	shma *s = create();
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, open_and_close, NULL), 0);
	for (int i = 0; i < 60; i++)
		ck_assert_int_eq(in_child(open_in_child, NULL), 0);
	atomic_store(&board->stop, 1);
	pthread_join(thread, NULL);
	reap(&s->arena);
	heap_close(s);
}
END_TEST

/* ---- many ---- */

#define CROWD 300

static int join_the_crowd(void *arg)
{
	shma *s = arg;
	shma_handle h = shma_alloc(s, 32, 0);

	if (!h)
		return 1;
	rest(board);
	return 0;
}

START_TEST(hundreds_of_clients_have_slots_and_all_come_back)
{
	static pid_t pids[CROWD];
	shma *s = create();

	for (int i = 0; i < CROWD; i++)
		pids[i] = child_start(join_the_crowd, s);
	child_ready(board, pids[0], CROWD);
	ck_assert_uint_eq(heap_stats(s).clients, CROWD + 1);
	ck_assert_uint_eq(heap_stats(s).live_objects, CROWD);
	for (int i = 0; i < CROWD; i++)
		child_kill(pids[i]);
	ck_assert_uint_eq(reap(&s->arena), CROWD);
	ck_assert_uint_eq(heap_stats(s).live_objects, 0);
	heap_close(s);
}
END_TEST

static int allocate_once(void *arg)
{
	return shma_alloc(arg, 32, 0) ? 0 : 1;
}

START_TEST(short_lived_clients_leave_nothing_that_is_not_reaped)
{
	shma *s = create();

	for (int i = 0; i < 300; i++)
		ck_assert_int_eq(in_child(allocate_once, s), 0);
	reap(&s->arena);
	ck_assert_uint_eq(heap_stats(s).live_objects, 0);
	heap_close(s);
}
END_TEST

static int join_full(void *arg)
{
	return shma_alloc(arg, 32, 0) ? 0 : errno;
}

/* Slots 2 and up to the spare ones, taken by what looks like clients with this pid. */
static void take_all_slots(shma *s, pid_t pid)
{
	for (uint32_t i = 2; i < CLIENTS_MAX - CLIENT_SPARES; i++) {
		ck_assert_int_eq(arena_commit(&s->arena, client_area_at(&s->arena, i), 2 * PAGE_SIZE), 0);
		memcpy(client_record_at(&s->arena, i), client_record_at(&s->arena, 1),
		       sizeof(struct client_record));
		atomic_store(&client_record_at(&s->arena, i)->pid, pid);
		atomic_store(client_word_at(&s->arena, i), client_word(CLIENT_LIVE, 0, 1));
	}
	atomic_store(&s->arena.header->clients_high, CLIENTS_MAX - CLIENT_SPARES);
}

START_TEST(slots_all_taken_by_the_dead_are_taken_back)
{
	shma *s = create();

	take_all_slots(s, 0);
	ck_assert_int_eq(in_child(join_full, s), 0);
	reap(&s->arena);
	ck_assert_uint_eq(heap_stats(s).clients, 1);
	heap_close(s);
}
END_TEST

START_TEST(slots_all_taken_by_those_not_known_to_be_dead_are_eusers)
{
	shma *s = create();

	take_all_slots(s, -1);
	ck_assert_int_eq(in_child(join_full, s), EUSERS);
	take_all_slots(s, 0);
	reap(&s->arena);
	ck_assert_uint_eq(heap_stats(s).clients, 1);
	heap_close(s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("open");
	TCase *flags = tcase_create("flags and errors"), *attach = tcase_create("attachments");
	TCase *forks = tcase_create("forks"), *many = tcase_create("many");
	TCase *all[] = {flags, attach, forks, many};

	for (size_t i = 0; i < LENGTH(all); i++) {
		tcase_set_timeout(all[i], 120);
		tcase_add_checked_fixture(all[i], setup, teardown);
		suite_add_tcase(s, all[i]);
	}
	tcase_add_test(flags, arguments_out_of_bounds_are_invalid);
	tcase_add_test(flags, what_is_there_or_not_there_is_told);
	tcase_add_test(flags, options_of_an_older_caller_are_zeros_for_the_rest);
	tcase_add_test(flags, a_name_with_a_slash_is_a_file);
	tcase_add_test(flags, without_permission_it_is_not_opened);
	tcase_add_test(flags, from_another_pid_namespace_it_can_only_be_read);
	tcase_add_test(flags, a_limit_below_its_size_is_told);
	tcase_add_test(flags, no_room_in_dev_shm_is_told_at_any_size);
	tcase_add_test(flags, what_is_no_arena_is_told);
	tcase_add_test(flags, another_version_is_told);
	tcase_add_test(flags, a_cut_off_arena_is_told);
	tcase_add_test(attach, opened_twice_it_is_the_same_and_closed_twice_it_is_gone);
	tcase_add_test(attach, opened_again_and_again_it_costs_no_descriptor);
	tcase_add_test(attach, a_process_that_closed_with_objects_stays_their_owner);
	tcase_add_test(attach, readers_beside_a_writer_leave_its_life_lock_alone);
	tcase_add_test(attach, a_reader_reads_and_changes_nothing);
	tcase_add_test(attach, handles_of_one_arena_are_none_of_another);
	tcase_add_test(forks, a_forked_child_is_a_client_of_its_own_and_owns_nothing_of_its_parents);
	tcase_add_test(forks, a_child_that_closes_takes_nothing_from_its_parent);
	tcase_add_test(forks, a_childs_child_is_a_client_of_its_own_too);
	tcase_add_test(forks, a_child_forked_while_another_thread_opens_can_open_itself);
	tcase_add_test(many, hundreds_of_clients_have_slots_and_all_come_back);
	tcase_add_test(many, short_lived_clients_leave_nothing_that_is_not_reaped);
	tcase_add_test(many, slots_all_taken_by_the_dead_are_taken_back);
	tcase_add_test(many, slots_all_taken_by_those_not_known_to_be_dead_are_eusers);
	return run_suite(s);
}
