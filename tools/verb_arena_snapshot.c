/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_arena_snapshot.c - an arena into a file, while its clients work; with --stop while they are stopped.
 *
 * Stopping is dangerous: who is stopped holds whatever it holds. So a child of this process has the pidfds too, and
 * goes on with everybody as soon as this process has ended, however it did: it reads a pipe whose other end only this
 * process has. Were both killed, the clients would stay stopped until somebody sends them SIGCONT.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "parse.h"
#include "reach.h"
#include "snapshot.h"
#include "words.h"

#define LEVEL	     3
#define LEVEL_MAX    19
#define STOP_WAIT_MS 2000

struct stopped {
	int *fds;
	pid_t *pids;
	uint32_t count;
	int pipe;	/* its end lets them go on */
	pid_t guardian;
};

/* ---- stopping ---- */

static void go_on(const struct stopped *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		pidfd_send_signal(s->fds[i], SIGCONT, NULL, 0);
}

static int start_guardian(struct stopped *s)
{
	int ends[2];
	char byte;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	s->guardian = fork();
	if (s->guardian == 0) {
		close(ends[1]);
		setsid(); /* what kills a terminal's programs does not reach it */
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
			continue;
		go_on(s);
		_exit(0);
	}
	close(ends[0]);
	s->pipe = ends[1];
	return s->guardian < 0 ? -errno : 0;
}

/* Those of whom it is sure that they are the clients they were: not another process with an old number. */
static int find_clients(const struct reach *r, struct stopped *s)
{
	uint32_t count = reach_client_count(r);

	s->fds = calloc(count + 1, sizeof(*s->fds));
	s->pids = calloc(count + 1, sizeof(*s->pids));
	if (!s->fds || !s->pids)
		return -ENOMEM;
	for (uint32_t i = 1; i < count; i++) {
		struct client_record record;
		struct client_process p;
		pid_t pid;
		int fd;

		if (client_word_state(reach_client_word(r, i)) != CLIENT_LIVE || !reach_client_record(r, i, &record))
			continue;
		pid = atomic_load_explicit(&record.pid, memory_order_relaxed);
		fd = pid > 0 && pid != getpid() ? pidfd_open(pid, 0) : -1;
		if (fd < 0)
			continue;
		if (client_process(pid, &p) ||
		    p.start_time != atomic_load_explicit(&record.start_time, memory_order_relaxed)) {
			close(fd);
			continue;
		}
		s->pids[s->count] = pid;
		s->fds[s->count++] = fd;
	}
	return 0;
}

static bool is_stopped(pid_t pid)
{
	struct client_process p;

	return client_process(pid, &p) || strchr("TtZX", p.state) != NULL; /* or it has ended */
}

static int stop_clients(const struct reach *r, struct stopped *s)
{
	int err = find_clients(r, s);

	if (!err)
		err = start_guardian(s);
	for (uint32_t i = 0; !err && i < s->count; i++)
		if (pidfd_send_signal(s->fds[i], SIGSTOP, NULL, 0) < 0 && errno != ESRCH)
			err = -errno;
	for (uint32_t i = 0, ms = 0; !err && i < s->count; i++)
		for (; !is_stopped(s->pids[i]); usleep(1000))
			if (ms++ >= STOP_WAIT_MS)
				return -ETIMEDOUT;
	return err;
}

static void release(struct stopped *s)
{
	go_on(s);
	if (s->guardian > 0) {
		close(s->pipe);
		while (waitpid(s->guardian, NULL, 0) < 0 && errno == EINTR)
			continue;
	}
	for (uint32_t i = 0; i < s->count; i++)
		close(s->fds[i]);
	free(s->fds);
	free(s->pids);
}

/* ---- the snapshot ---- */

static int take(const struct call *call, struct reach *r, int fd, int level, struct snapshot_sum *sum, uint64_t *ns,
		uint32_t *stopped)
{
	struct stopped s = {.pipe = -1};
	uint64_t from;
	int err = call_option(call, "stop") ? stop_clients(r, &s) : 0;

	from = tool_monotonic_ns();
	if (!err)
		err = snapshot_write(&r->arena, fd, level, sum);
	*ns = tool_monotonic_ns() - from;
	*stopped = s.count;
	release(&s);
	if (!err && fsync(fd) < 0)
		err = -errno;
	return err;
}

static int print(const struct call *call, const char *name, const struct snapshot_sum *sum, uint64_t ns,
		 uint32_t stopped)
{
	struct emit e;

	emit_begin(&e, stdout, call->json);
	emit_string(&e, "arena", name);
	emit_u64(&e, "objects", sum->objects);
	emit_bytes(&e, "object_bytes", sum->object_bytes);
	emit_u64(&e, "changed_objects", sum->dropped);
	emit_u64(&e, "late_objects", sum->again);
	emit_u64(&e, "log_blocks_missed", sum->log_blocks_missed);
	emit_bytes(&e, "plain_bytes", sum->plain_bytes);
	emit_bytes(&e, "file_bytes", sum->file_bytes);
	emit_u64(&e, "stopped_clients", stopped);
	emit_real(&e, "seconds", (double)ns / 1e9, 3);
	return tool_finish(&e, TOOL_OK);
}

/* Under another name until it is whole. */
static int snapshot_to(const struct call *call, struct reach *r, const char *file, int level)
{
	struct snapshot_sum sum;
	uint32_t stopped = 0;
	uint64_t ns = 0;
	char part[4096];
	int fd, err = 0;

	if ((size_t)snprintf(part, sizeof(part), "%s.%d.part", file, (int)getpid()) >= sizeof(part)) {
		tool_errno(file, -ENAMETOOLONG);
		return TOOL_FAILED;
	}
	fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		tool_errno(part, errno);
		return TOOL_FAILED;
	}
	err = take(call, r, fd, level, &sum, &ns, &stopped);
	close(fd);
	if (!err && rename(part, file) < 0)
		err = -errno;
	if (err) {
		unlink(part);
		tool_errno(file, err);
		return TOOL_FAILED;
	}
	return print(call, r->name, &sum, ns, stopped);
}

int verb_arena_snapshot(const struct call *call)
{
	const char *value = call_option(call, "level");
	uint64_t level = LEVEL;
	struct reach r;
	int code, err = value ? parse_size(value, &level) : 0;

	if (!err && (level < 1 || level > LEVEL_MAX))
		err = -ERANGE;
	if (err)
		return tool_bad_value(call, "level", err);
	code = reach_open(call, call->argv[0], &r);
	if (code)
		return code;
	code = snapshot_to(call, &r, call->argv[1], (int)level);
	reach_close(&r);
	return code;
}
