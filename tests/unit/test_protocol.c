/* SPDX-License-Identifier: Apache-2.0 */
/* The checkers of the protocol: what they let through, and that nothing else gets past them. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "connect.h"
#include "protocol.h"
#include "shmalloc.h"

#include "../seed.h"

static int check(const struct request *r)
{
	struct request out;

	return protocol_request_check(r, sizeof *r, &out);
}

static struct request make(enum request_type type, const char *name)
{
	struct request r;

	ck_assert_int_eq(protocol_request(&r, type, name), 0);
	return r;
}

START_TEST(every_kind_of_request_passes_its_check)
{
	struct request r = make(REQUEST_HELLO, NULL);

	ck_assert_int_eq(check(&r), 0);
	r = make(REQUEST_STATUS, NULL);
	ck_assert_int_eq(check(&r), 0);
	r = make(REQUEST_ARENA_LIST, NULL);
	ck_assert_int_eq(check(&r), 0);
	for (enum request_type t = REQUEST_ARENA_CREATE; t <= REQUEST_ARENA_SHOW; t++) {
		r = make(t, "a.b_c-9");
		ck_assert_int_eq(check(&r), 0);
	}
	r = make(REQUEST_CLIENT_ATTACHED, "x");
	r.client = CLIENTS_MAX - 1;
	ck_assert_int_eq(check(&r), 0);
	r = make(REQUEST_ARENA_PRESENT, "x");
	ck_assert_int_eq(check(&r), 0);
	r.descriptors = ARENA_FD_FILE | ARENA_FD_LIFE;
	ck_assert_int_eq(check(&r), 0);
}
END_TEST

START_TEST(names_are_checked_on_both_sides)
{
	struct request r;
	char long_name[100];

	memset(long_name, 'n', sizeof long_name);
	long_name[99] = 0;
	ck_assert_int_eq(protocol_request(&r, REQUEST_ARENA_SHOW, long_name), -ENAMETOOLONG);
	ck_assert_int_eq(protocol_request(&r, REQUEST_ARENA_SHOW, "a/b"), -EINVAL);
	ck_assert_int_eq(protocol_request(&r, REQUEST_ARENA_SHOW, ""), -EINVAL);

	r = make(REQUEST_ARENA_SHOW, "x");
	r.name[0] = '/';
	ck_assert_int_eq(check(&r), -EINVAL);
	r = make(REQUEST_ARENA_SHOW, NULL);
	ck_assert_int_eq(check(&r), -EINVAL);
	r = make(REQUEST_HELLO, NULL);
	r.name[0] = 'x';
	ck_assert_int_eq(check(&r), -EINVAL);
}
END_TEST

START_TEST(a_name_without_end_or_with_bytes_after_it_is_not_the_protocol)
{
	struct request r = make(REQUEST_ARENA_SHOW, "x");

	memset(r.name, 'x', sizeof r.name);
	ck_assert_int_eq(check(&r), -EBADMSG);
	r = make(REQUEST_ARENA_SHOW, "x");
	r.name[5] = 'y';
	ck_assert_int_eq(check(&r), -EBADMSG);
}
END_TEST

START_TEST(other_sizes_and_other_magic_are_not_the_protocol)
{
	struct request r = make(REQUEST_HELLO, NULL), out;
	unsigned char longer[sizeof r + 1] = { 0 };

	memcpy(longer, &r, sizeof r);
	ck_assert_int_eq(protocol_request_check(longer, sizeof longer, &out), -EBADMSG);
	ck_assert_int_eq(protocol_request_check(longer, sizeof r - 1, &out), -EBADMSG);
	ck_assert_int_eq(protocol_request_check(longer, 3, &out), -EBADMSG);
	ck_assert_int_eq(protocol_request_check(longer, 0, &out), -EBADMSG);
	r.head.magic ^= 1;
	ck_assert_int_eq(check(&r), -EBADMSG);
}
END_TEST

START_TEST(another_version_is_told_apart_whatever_its_size)
{
	struct request r = make(REQUEST_HELLO, NULL), out;

	r.head.version++;
	r.head.serial = 77;
	ck_assert_int_eq(check(&r), -EPROTO);
	ck_assert_int_eq(protocol_request_check(&r, sizeof r.head, &out), -EPROTO);
	ck_assert_uint_eq(out.head.serial, 77);
}
END_TEST

START_TEST(values_out_of_bounds_are_refused)
{
	struct request r = make(REQUEST_ARENA_OPEN, "x");

	r.flags = SHMA_EXCL;
	ck_assert_int_eq(check(&r), -EINVAL);
	r.flags = SHMA_EMBEDDED;
	ck_assert_int_eq(check(&r), -EINVAL);
	r.flags = SHMA_CREATE | SHMA_EXCL | SHMA_RDONLY;
	ck_assert_int_eq(check(&r), 0);
	r.client = 1;
	ck_assert_int_eq(check(&r), -EINVAL);
	r.client = 0;
	r.descriptors = ARENA_FD_FILE;
	ck_assert_int_eq(check(&r), -EINVAL);
	r.descriptors = 0;
	r.head.error = -1;
	ck_assert_int_eq(check(&r), -EINVAL);
	r.head.error = 0;
	r.reserved[50] = 1;
	ck_assert_int_eq(check(&r), -EINVAL);
	r.reserved[50] = 0;
	r.head.type = REQUEST_TYPES;
	ck_assert_int_eq(check(&r), -EINVAL);
	r.head.type = 0;
	ck_assert_int_eq(check(&r), -EINVAL);
	r = make(REQUEST_CLIENT_ATTACHED, "x");
	ck_assert_int_eq(check(&r), -EINVAL);
	r.client = CLIENTS_MAX;
	ck_assert_int_eq(check(&r), -EINVAL);
	r = make(REQUEST_ARENA_PRESENT, "x");
	r.descriptors = ARENA_FD_FILE | ARENA_FD_HEAP;
	ck_assert_int_eq(check(&r), -EINVAL);
	r = make(REQUEST_ARENA_SHOW, "x");
	r.flags = SHMA_CREATE;
	ck_assert_int_eq(check(&r), -EINVAL);
}
END_TEST

START_TEST(terms_of_an_arena_are_bounded)
{
	struct arena_terms t = { 0 };

	ck_assert_int_eq(protocol_terms_check(&t), 0);
	t.capacity = CAPACITY_MIN - 1;
	ck_assert_int_eq(protocol_terms_check(&t), -EINVAL);
	t.capacity = CAPACITY_MAX + 1;
	ck_assert_int_eq(protocol_terms_check(&t), -EINVAL);
	t.capacity = CAPACITY_MAX;
	ck_assert_int_eq(protocol_terms_check(&t), 0);
	t.log_capacity = UINT64_MAX;
	ck_assert_int_eq(protocol_terms_check(&t), -EINVAL);
	t = (struct arena_terms){ .backing = BACKING_FILE + 1 };
	ck_assert_int_eq(protocol_terms_check(&t), -EINVAL);
	t = (struct arena_terms){ .mode = 01666 };
	ck_assert_int_eq(protocol_terms_check(&t), -EINVAL);
	t = (struct arena_terms){ .mode = 0444 };
	ck_assert_int_eq(protocol_terms_check(&t), -EINVAL);
	t = (struct arena_terms){ .mode = 0640 };
	ck_assert_int_eq(protocol_terms_check(&t), 0);
	t = (struct arena_terms){ .numa_mode = NUMA_BIND };
	ck_assert_int_eq(protocol_terms_check(&t), -EINVAL);
	t.numa_nodes = 3;
	ck_assert_int_eq(protocol_terms_check(&t), 0);
	t = (struct arena_terms){ .huge_mode = HUGE_ALWAYS + 1 };
	ck_assert_int_eq(protocol_terms_check(&t), -EINVAL);
	t = (struct arena_terms){ .log_clock = SHMA_LOG_COARSE + 1 };
	ck_assert_int_eq(protocol_terms_check(&t), -EINVAL);
}
END_TEST

START_TEST(terms_are_for_those_who_create)
{
	struct request r = make(REQUEST_ARENA_OPEN, "x");

	r.terms.capacity = CAPACITY_MIN;
	ck_assert_int_eq(check(&r), -EINVAL);
	r.flags = SHMA_CREATE;
	ck_assert_int_eq(check(&r), 0);
	r = make(REQUEST_ARENA_CREATE, "x");
	r.terms.capacity = CAPACITY_MIN;
	ck_assert_int_eq(check(&r), 0);
}
END_TEST

START_TEST(a_reply_repeats_its_request_and_is_checked)
{
	struct request r = make(REQUEST_ARENA_SHOW, "x");
	struct reply reply, out;

	r.head.serial = 4711;
	protocol_reply(&reply, &r, -ENOENT);
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), 0);
	/* A directory is a text, and ends. */
	memset(reply.log_dir, '/', sizeof reply.log_dir);
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), -EBADMSG);
	reply.log_dir[sizeof reply.log_dir - 1] = 0;
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), 0);
	reply.log_dir[7] = 0;
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), -EBADMSG);
	memset(reply.log_dir, 0, sizeof reply.log_dir);
	memset(reply.log.ship, 'x', sizeof reply.log.ship);
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), -EBADMSG);
	memset(reply.log.ship, 0, sizeof reply.log.ship);
	reply.log.disk = 1;
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), -EBADMSG);
	reply.log.disk = -ENOSPC;
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), 0);
	reply.log.disk = 0;
	ck_assert_uint_eq(out.head.serial, 4711);
	ck_assert_int_eq(out.head.error, -ENOENT);
	ck_assert_uint_eq(out.head.type, REQUEST_ARENA_SHOW);

	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply - 1, &out), -EBADMSG);
	memset(reply.arena.name, 'x', sizeof reply.arena.name);
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), -EBADMSG);
	protocol_reply(&reply, &r, 1);
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), -EBADMSG);
	protocol_reply(&reply, &r, 0);
	reply.arena.descriptors = 8;
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), -EBADMSG);
	reply.head.version = 9;
	ck_assert_int_eq(protocol_reply_check(&reply, sizeof reply, &out), -EPROTO);
}
END_TEST

/* Whatever passes has only values that the daemon can use unlooked at. */
static void assert_usable(const struct request *r)
{
	ck_assert_uint_lt(r->head.type, REQUEST_TYPES);
	ck_assert_uint_lt(strnlen(r->name, sizeof r->name), sizeof r->name);
	ck_assert(!strchr(r->name, '/'));
	ck_assert_uint_lt(r->client, CLIENTS_MAX);
	ck_assert_uint_le(r->terms.backing, BACKING_FILE);
	ck_assert_uint_le(r->terms.capacity, CAPACITY_MAX);
}

START_TEST(random_damage_never_passes_as_something_else)
{
	unsigned passed = 0;

	srand((unsigned)test_seed("random_damage_never_passes_as_something_else"));
	for (int i = 0; i < 200000; i++) {
		struct request r = make((enum request_type)(1 + rand() % (REQUEST_TYPES - 1)),
					NULL),
			       out;
		unsigned char *bytes = (unsigned char *)&r;

		strcpy(r.name, "name");
		for (int n = rand() % 4; n > 0; n--)
			bytes[rand() % (int)sizeof r] = (unsigned char)rand();
		if (protocol_request_check(bytes, sizeof r, &out) == 0) {
			assert_usable(&out);
			passed++;
		}
	}
	ck_assert_uint_gt(passed, 0);
}
END_TEST

/* ---- the client's side ---- */

START_TEST(the_socket_is_the_argument_then_the_environment_then_the_default)
{
	char path[108], small[8];

	setenv("SHMALLOC_SOCKET", "/from/environment", 1);
	ck_assert_int_eq(connect_socket_path(path, sizeof path, "/given"), 0);
	ck_assert_str_eq(path, "/given");
	ck_assert_int_eq(connect_socket_path(path, sizeof path, NULL), 0);
	ck_assert_str_eq(path, "/from/environment");
	ck_assert_int_eq(connect_socket_path(small, sizeof small, NULL), -ENAMETOOLONG);
	unsetenv("SHMALLOC_SOCKET");
	setenv("XDG_RUNTIME_DIR", "/run/user/77", 1);
	ck_assert_int_eq(connect_socket_path(path, sizeof path, NULL), 0);
	ck_assert_str_eq(path, geteuid() == 0 ? "/run/shmalloc/shmallocd.sock"
					      : "/run/user/77/shmalloc.sock");
}
END_TEST

START_TEST(no_daemon_is_told_at_once)
{
	ck_assert_int_eq(connect_daemon("/nonexistent/socket"), -ENOENT);
}
END_TEST

/* A daemon that is stopped: it listens, but never accepts, reads or answers. */
static int silent_daemon(struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	memset(addr, 0, sizeof *addr);
	addr->sun_family = AF_UNIX;
	snprintf(addr->sun_path, sizeof addr->sun_path, "/tmp/shmalloc-test-silent-%d",
		 (int)getpid());
	unlink(addr->sun_path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)addr, sizeof *addr), 0);
	ck_assert_int_eq(listen(fd, 0), 0);
	return fd;
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

#define SLOW 40 /* seconds that two may become on a machine with other work */

START_TEST(a_silent_daemon_is_ETIMEDOUT_after_two_seconds)
{
	struct sockaddr_un addr;
	int listener = silent_daemon(&addr), fd, full;
	struct request r = make(REQUEST_HELLO, NULL);
	struct reply reply;
	double start = seconds();

	fd = connect_daemon(addr.sun_path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect_call(fd, &r, &reply, NULL), -ETIMEDOUT);
	ck_assert_double_ge(seconds() - start, 1.9);
	ck_assert_double_le(seconds() - start, SLOW);

	/* Its backlog is full now. */
	start = seconds();
	full = connect_daemon(addr.sun_path);
	ck_assert_int_eq(full, -ETIMEDOUT);
	ck_assert_double_le(seconds() - start, SLOW);
	close(fd);
	close(listener);
	unlink(addr.sun_path);
}
END_TEST

/* Answers a call late, after the caller gave up on it, then the next one. */
START_TEST(a_late_answer_is_not_taken_for_the_next_one)
{
	struct request r = make(REQUEST_HELLO, NULL), got;
	struct reply reply, answer;
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
	r.head.serial = 0;
	protocol_reply(&answer, &r, -EPERM);
	ck_assert_int_eq(send(ends[1], &answer, sizeof answer, 0), sizeof answer);
	ck_assert_int_eq(connect_call(ends[0], &r, &reply, NULL), -ETIMEDOUT);
	ck_assert_uint_eq(reply.head.type, 0);
	ck_assert_int_eq(recv(ends[1], &got, sizeof got, 0), sizeof got);
	ck_assert_uint_ne(got.head.serial, 0);
	close(ends[1]);
	ck_assert_int_eq(connect_call(ends[0], &r, &reply, NULL), -ECONNRESET);
	close(ends[0]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("protocol");
	TCase *requests = tcase_create("requests"), *calls = tcase_create("calls");
	SRunner *runner;
	int failed;

	tcase_add_test(requests, every_kind_of_request_passes_its_check);
	tcase_add_test(requests, names_are_checked_on_both_sides);
	tcase_add_test(requests, a_name_without_end_or_with_bytes_after_it_is_not_the_protocol);
	tcase_add_test(requests, other_sizes_and_other_magic_are_not_the_protocol);
	tcase_add_test(requests, another_version_is_told_apart_whatever_its_size);
	tcase_add_test(requests, values_out_of_bounds_are_refused);
	tcase_add_test(requests, terms_of_an_arena_are_bounded);
	tcase_add_test(requests, terms_are_for_those_who_create);
	tcase_add_test(requests, a_reply_repeats_its_request_and_is_checked);
	tcase_add_test(requests, random_damage_never_passes_as_something_else);
	tcase_add_test(calls, the_socket_is_the_argument_then_the_environment_then_the_default);
	tcase_add_test(calls, no_daemon_is_told_at_once);
	tcase_add_test(calls, a_silent_daemon_is_ETIMEDOUT_after_two_seconds);
	tcase_add_test(calls, a_late_answer_is_not_taken_for_the_next_one);
	tcase_set_timeout(requests, 60);
	tcase_set_timeout(calls, 60);
	suite_add_tcase(suite, requests);
	suite_add_tcase(suite, calls);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
