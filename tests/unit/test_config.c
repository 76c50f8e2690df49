/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon reads: sizes, configuration, command line, the book of arenas; and what mode bits grant. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "config.h"
#include "lock.h"
#include "peer.h"
#include "shmalloc.h"
#include "state.h"

static char error[CONFIG_ERROR_BYTES];

static int size(const char *text, uint64_t *ret)
{
	*ret = 0;
	return config_size(text, ret);
}

START_TEST(sizes_take_suffixes_of_1024)
{
	uint64_t v;

	ck_assert_int_eq(size("4096", &v), 0);
	ck_assert_uint_eq(v, 4096);
	ck_assert_int_eq(size("64M", &v), 0);
	ck_assert_uint_eq(v, UINT64_C(64) << 20);
	ck_assert_int_eq(size("16T", &v), 0);
	ck_assert_uint_eq(v, UINT64_C(16) << 40);
	ck_assert_int_eq(size("", &v), -EINVAL);
	ck_assert_int_eq(size("-1", &v), -EINVAL);
	ck_assert_int_eq(size("1X", &v), -EINVAL);
	ck_assert_int_eq(size("1KB", &v), -EINVAL);
	ck_assert_int_eq(size("99999999999999999999", &v), -ERANGE);
	ck_assert_int_eq(size("17179869184T", &v), -ERANGE);
}
END_TEST

static struct config defaults(void)
{
	struct config_arguments none = { .socket = "/s", .state_dir = "/d" };
	struct config c;

	/* An empty file, so that this machine's own is not asked. */
	strcpy(none.config, "/dev/null");
	ck_assert_int_eq(config_load(&c, &none, error), 0);
	return c;
}

START_TEST(every_key_is_taken)
{
	struct config c = defaults();

	ck_assert_int_eq(config_text(&c,
				     "# a comment\n"
				     "[daemon]\n"
				     "socket = /run/x.sock\n"
				     "state-dir = /state\n"
				     "log-dir = /log\n"
				     "io = epoll\n"
				     "socket-mode = 0660\n"
				     "log-level = warning\n"
				     "max-connections = 7\n"
				     "max-arenas = 9\n"
				     "ship = nats://one:4222, tls://u:p@two:4222\n"
				     "ship-replicas = 3\n"
				     "ship-batch = 64\n"
				     "[arena]\n"
				     "size = 2G\n"
				     "log-size = 8M\n"
				     "client-quota = 1G\n"
				     "mode = 0640\n",
				     error),
			 0);
	ck_assert_str_eq(c.socket, "/run/x.sock");
	ck_assert_str_eq(c.state_dir, "/state");
	ck_assert_str_eq(c.log_dir, "/log");
	ck_assert_int_eq(c.io, LOOP_EPOLL);
	ck_assert_uint_eq(c.socket_mode, 0660);
	ck_assert_int_eq(c.log_level, LOG_WARNING);
	ck_assert_uint_eq(c.max_connections, 7);
	ck_assert_uint_eq(c.max_arenas, 9);
	ck_assert_str_eq(c.ship, "nats://one:4222, tls://u:p@two:4222");
	ck_assert_uint_eq(c.ship_replicas, 3);
	ck_assert_uint_eq(c.ship_batch, 64);
	ck_assert_uint_eq(c.arena.capacity, UINT64_C(2) << 30);
	ck_assert_uint_eq(c.arena.log_capacity, 8 << 20);
	ck_assert_uint_eq(c.arena.client_quota, 1 << 30);
	ck_assert_uint_eq(c.arena.mode, 0640);
}
END_TEST

START_TEST(every_key_of_logs_is_taken)
{
	struct config c = defaults();

	ck_assert_uint_eq(c.log_segment_size, 64 << 20);
	ck_assert_uint_eq(c.log_segment_age, 3600);
	ck_assert_uint_eq(c.log_retention, UINT64_C(4) << 30);
	ck_assert_int_eq(c.log_fsync, CONFIG_FSYNC_INTERVAL);
	ck_assert_uint_eq(c.log_drain_ms, 200);
	ck_assert(c.log_compress);
	ck_assert_int_eq(config_text(&c,
				     "[daemon]\n"
				     "log-segment-size = 1M\n"
				     "log-segment-age = never\n"
				     "log-retention = 10G\n"
				     "log-fsync = batch\n"
				     "log-drain-ms = 20\n"
				     "log-compress = no\n",
				     error),
			 0);
	ck_assert_uint_eq(c.log_segment_size, 1 << 20);
	ck_assert_uint_eq(c.log_segment_age, 0);
	ck_assert_uint_eq(c.log_retention, UINT64_C(10) << 30);
	ck_assert_int_eq(c.log_fsync, CONFIG_FSYNC_BATCH);
	ck_assert_uint_eq(c.log_drain_ms, 20);
	ck_assert(!c.log_compress);
	ck_assert_int_eq(config_text(&c, "[daemon]\nlog-retention = all\nlog-fsync = never\n", error), 0);
	ck_assert_uint_eq(c.log_retention, 0);
	ck_assert_int_eq(c.log_fsync, CONFIG_FSYNC_NEVER);
}
END_TEST

static const struct {
	const char *text, *says;
} wrong[] = {
	{ "[daemon]\nsoket = /x\n", "text:2: [daemon] soket = /x: no such key" },
	{ "socket = /x\n", "text:1: [] socket = /x: no such key" },
	{ "[daemon]\nsocket = relative\n",
	  "text:2: [daemon] socket = relative: not a value for it" },
	{ "[daemon]\nio = kqueue\n", "text:2: [daemon] io = kqueue: not a value for it" },
	{ "[daemon]\nmax-connections = 0\n", "not a value" },
	{ "[daemon]\nmax-connections = 5x\n", "not a value" },
	{ "[daemon]\nsocket-mode = 888\n", "not a value" },
	{ "[daemon]\nlog-segment-size = 1K\n", "not a value" },
	{ "[daemon]\nlog-fsync = sometimes\n", "not a value" },
	{ "[daemon]\nlog-drain-ms = 0\n", "not a value" },
	{ "[daemon]\nlog-compress = 1\n", "not a value" },
	{ "[daemon\n", "text:1: neither" },
	{ "[daemon]\nnonsense\n", "text:2: neither" },
	{ "[daemon]\nship = kafka://x:1\n", "not a value" },
	{ "[daemon]\nship = nats://x:1,y:2\n", "not a value" },
	{ "[daemon]\nship-replicas = 6\n", "not a value" },
	{ "[daemon]\nship-batch = 0\n", "not a value" },
	{ "[arena]\nsize = 1M\n", "out of bounds" },
	{ "[arena]\nmode = 0077\n", "out of bounds" },
};

START_TEST(an_error_says_where_and_changes_nothing)
{
	struct config c = defaults(), before = c;

	ck_assert_int_eq(config_text(&c, wrong[_i].text, error), -EINVAL);
	ck_assert_msg(strstr(error, wrong[_i].says), "says: %s", error);
	ck_assert_mem_eq(&c, &before, sizeof c);
}
END_TEST

static int arguments(struct config_arguments *a, char *argv[])
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return config_arguments(a, argc, argv, error);
}

START_TEST(the_command_line_goes_before_the_file)
{
	char path[] = "/tmp/shmalloc-test-config-XXXXXX";
	char *argv[] = { "shmallocd", "--config", path,		"--io",
			 "uring",     "--socket", "/line.sock", NULL };
	static const char text[] =
		"[daemon]\nio = epoll\nsocket = /file.sock\nstate-dir = /state\n";
	struct config_arguments a;
	struct config c;
	int fd = mkstemp(path);

	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	ck_assert_int_eq(arguments(&a, argv), 0);
	ck_assert_int_eq(config_load(&c, &a, error), 0);
	ck_assert_int_eq(c.io, LOOP_URING);
	ck_assert_str_eq(c.socket, "/line.sock");
	ck_assert_str_eq(c.state_dir, "/state");
	unlink(path);
	ck_assert_int_eq(config_load(&c, &a, error), -ENOENT);
	ck_assert(strstr(error, path));
}
END_TEST

START_TEST(relative_paths_are_of_the_directory_of_the_start)
{
	char *argv[] = { "shmallocd", "--socket", "here.sock", "--daemonize", NULL };
	struct config_arguments a;

	ck_assert_int_eq(chdir("/tmp"), 0);
	ck_assert_int_eq(arguments(&a, argv), 0);
	ck_assert_str_eq(a.socket, "/tmp/here.sock");
	ck_assert(a.daemonize);
}
END_TEST

START_TEST(wrong_command_lines_are_refused)
{
	char *unknown[] = { "shmallocd", "--fast", NULL };
	char *missing[] = { "shmallocd", "--socket", NULL };
	char *extra[] = { "shmallocd", "start", NULL };
	char *io[] = { "shmallocd", "--io", "aio", NULL };
	char *empty[] = { "shmallocd", "--socket", "", NULL };
	struct config_arguments a;

	ck_assert_int_eq(arguments(&a, unknown), -EINVAL);
	ck_assert(strstr(error, "--fast"));
	ck_assert_int_eq(arguments(&a, missing), -EINVAL);
	ck_assert_int_eq(arguments(&a, extra), -EINVAL);
	ck_assert_int_eq(arguments(&a, io), -EINVAL);
	ck_assert_int_eq(arguments(&a, empty), -EINVAL);
}
END_TEST

START_TEST(a_socket_path_that_is_too_long_is_refused)
{
	struct config_arguments a = { .state_dir = "/d", .config = "/dev/null" };
	struct config c;

	memset(a.socket, 'x', 200);
	a.socket[0] = '/';
	ck_assert_int_eq(config_load(&c, &a, error), -ENAMETOOLONG);
	ck_assert(strstr(error, "--socket"));
}
END_TEST

/* ---- the book ---- */

static struct state_record sample(const char *name)
{
	struct state_record r = { .phase = STATE_LIVE,
				  .created_ns = 123456789,
				  .uid = 1000,
				  .gid = 100,
				  .terms = { .capacity = UINT64_C(1) << 30,
					     .log_capacity = 4 << 20,
					     .mode = 0640,
					     .backing = BACKING_MEMFD,
					     .log_policy = SHMA_LOG_BLOCK,
					     .numa_mode = NUMA_BIND,
					     .numa_nodes = 5,
					     .huge_mode = HUGE_ADVISE } };

	strcpy(r.name, name);
	for (int i = 0; i < 16; i++)
		r.uuid[i] = (uint8_t)(i * 17);
	return r;
}

START_TEST(a_record_is_read_back_as_it_was_written)
{
	struct state_record r = sample("name.1"), back;
	char text[STATE_TEXT_BYTES];

	ck_assert_int_gt(state_format(text, &r), 0);
	ck_assert_int_eq(state_parse(text, &back), 0);
	ck_assert_mem_eq(&r, &back, sizeof r);
}
END_TEST

START_TEST(a_damaged_record_is_refused)
{
	struct state_record r = sample("name"), back;
	char text[STATE_TEXT_BYTES], copy[STATE_TEXT_BYTES];
	int n = state_format(text, &r);

	for (int i = 0; i < n; i++) {
		strcpy(copy, text);
		copy[i] = 0;
		state_parse(copy, &back); /* no fault, whatever it says */
		copy[i] = (char)(text[i] ^ 0x15);
		if (state_parse(copy, &back) == 0)
			ck_assert_uint_gt(strlen(back.name), 0);
	}
	ck_assert_int_eq(state_parse("", &back), -EINVAL);
	ck_assert_int_eq(state_parse("shmalloc arena 2\nname=x\n", &back), -EINVAL);
	ck_assert_int_eq(state_parse("shmalloc arena 1\n", &back), -EINVAL);
	ck_assert_int_eq(state_parse("shmalloc arena 1\nname=../x\n", &back), -EINVAL);
	ck_assert_int_eq(state_parse("shmalloc arena 1\nname=x\ncapacity=1\n", &back), -EINVAL);
	ck_assert_int_eq(state_parse("shmalloc arena 1\nname=x\nfuture=1\n", &back), 0);
}
END_TEST

struct seen {
	unsigned records, complaints;
	char last[ARENA_NAME_BYTES];
};

static void take(void *user, const struct state_record *record)
{
	struct seen *seen = user;

	seen->records++;
	strcpy(seen->last, record->name);
}

static void complain(void *user, const char *file, int err)
{
	struct seen *seen = user;

	(void)file;
	ck_assert_int_lt(err, 0);
	seen->complaints++;
}

static void put(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

START_TEST(a_scan_finds_records_and_clears_half_written_ones)
{
	char path[] = "/tmp/shmalloc-test-state-XXXXXX";
	struct state_record r = sample("one");
	struct seen seen = { 0 };
	int dir;

	ck_assert_ptr_nonnull(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY);
	ck_assert_int_eq(state_write(dir, &r), 0);
	r.phase = STATE_DESTROYING;
	ck_assert_int_eq(state_write(dir, &r), 0);
	put(dir, "two.tmp", "shmalloc are");
	put(dir, "broken.arena", "shmalloc arena 1\nname=other\n");
	put(dir, "unrelated", "x");
	ck_assert_int_eq(state_scan(dir, take, complain, &seen), 0);
	ck_assert_uint_eq(seen.records, 1);
	ck_assert_str_eq(seen.last, "one");
	ck_assert_uint_eq(seen.complaints, 1);
	ck_assert_int_eq(faccessat(dir, "two.tmp", F_OK, 0), -1);
	ck_assert_int_eq(state_remove(dir, "one"), 0);
	ck_assert_int_eq(state_remove(dir, "one"), -ENOENT);
	unlinkat(dir, "broken.arena", 0);
	unlinkat(dir, "unrelated", 0);
	close(dir);
	ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

/* ---- locks and rights ---- */

START_TEST(a_lock_is_held_by_one_and_a_leftover_by_nobody)
{
	char dir[] = "/tmp/shmalloc-test-lock-XXXXXX", path[64];
	static struct lock first, second;
	pid_t holder;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/lock", dir);
	put(AT_FDCWD, path, "12345\n");
	ck_assert_int_eq(lock_take(&first, path, &holder), 0);
	ck_assert_int_eq(lock_take(&second, path, &holder), -EBUSY);
	ck_assert_int_eq(holder, getpid());
	lock_drop(&first);
	ck_assert_int_eq(lock_take(&second, path, &holder), 0);
	lock_drop(&second);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(mode_bits_grant_what_open_would)
{
	ck_assert_uint_eq(peer_rights(0640, true, true), ARENA_RIGHT_READ | ARENA_RIGHT_WRITE);
	ck_assert_uint_eq(peer_rights(0640, false, true), ARENA_RIGHT_READ);
	ck_assert_uint_eq(peer_rights(0640, false, false), 0);
	ck_assert_uint_eq(peer_rights(0606, false, true), 0);
	ck_assert_uint_eq(peer_rights(0602, false, false), ARENA_RIGHT_WRITE);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("config");
	TCase *config = tcase_create("config"), *state = tcase_create("state");
	SRunner *runner;
	int failed;

	tcase_add_test(config, sizes_take_suffixes_of_1024);
	tcase_add_test(config, every_key_is_taken);
	tcase_add_test(config, every_key_of_logs_is_taken);
	tcase_add_loop_test(config, an_error_says_where_and_changes_nothing, 0,
			    (int)(sizeof wrong / sizeof wrong[0]));
	tcase_add_test(config, the_command_line_goes_before_the_file);
	tcase_add_test(config, relative_paths_are_of_the_directory_of_the_start);
	tcase_add_test(config, wrong_command_lines_are_refused);
	tcase_add_test(config, a_socket_path_that_is_too_long_is_refused);
	tcase_add_test(state, a_record_is_read_back_as_it_was_written);
	tcase_add_test(state, a_damaged_record_is_refused);
	tcase_add_test(state, a_scan_finds_records_and_clears_half_written_ones);
	tcase_add_test(state, a_lock_is_held_by_one_and_a_leftover_by_nobody);
	tcase_add_test(state, mode_bits_grant_what_open_would);
	suite_add_tcase(suite, config);
	suite_add_tcase(suite, state);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
