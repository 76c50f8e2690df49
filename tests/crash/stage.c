/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"
#include "arena_file.h"
#include "service.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT_SECONDS 600 /* of a process, on a machine that has much else to do */

static int arena_fd = -1;
static pid_t survivor;
static struct image *image;

/* ---- processes ---- */

double stage_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void *stage_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return p;
}

pid_t stage_spawn(void)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		alarm(LIMIT_SECONDS);
	}
	return pid;
}

int stage_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, WUNTRACED) < 0 && errno == EINTR)
		;
	return status;
}

bool stage_ended_well(int status, const char *who)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (WIFSIGNALED(status))
		snprintf(board->failure, sizeof(board->failure), "%s: signal %d%s", who,
			 WTERMSIG(status), WTERMSIG(status) == SIGALRM ? ": it hangs" : "");
	else if (!WIFEXITED(status))
		snprintf(board->failure, sizeof(board->failure), "%s: wait status %#x", who,
			 status);
	return false;
}

/* The victim's, and that of a daemon which dies with it. */
static int wait_for_victim(pid_t pid)
{
	int status = stage_wait(pid), fd;
	struct pollfd other;

	if (!board->account.daemon)
		return status;
	fd = pidfd_open(board->account.daemon, 0);
	other = (struct pollfd){ .fd = fd, .events = POLLIN };
	while (fd >= 0 && poll(&other, 1, -1) < 0 && errno == EINTR)
		;
	if (fd >= 0)
		close(fd);
	return status;
}

/* ---- arenas and survivors ---- */

/* What a death in creating an arena, or a judge that saw nothing good, has left. */
static void remove_created(void)
{
	char path[128];

	if (board->account.created[0] &&
	    arena_path(path, sizeof(path), board->account.created) == 0)
		arena_unlink(path);
}

void stage_remove(void)
{
	char path[128];

	remove_created();
	service_remove();
	if (survivor) {
		kill(survivor, SIGKILL);
		waitpid(survivor, NULL, 0);
		survivor = 0;
	}
	if (arena_fd >= 0)
		close(arena_fd);
	arena_fd = -1;
	if (image)
		image_free(image);
	image = NULL;
	if (arena_path(path, sizeof(path), arena_name) == 0)
		arena_unlink(path);
}

static const struct op *staged;

static void create(void)
{
	struct shma_options opt = { .struct_size = sizeof(opt),
				    .capacity = CRASH_CAPACITY,
				    .log_capacity = CRASH_LOG,
				    .debug = staged->flags & OP_DEBUG ? SHMA_DEBUG_FULL : SHMA_DEBUG_OFF,
				    .log_policy = staged->flags & OP_DROP ? SHMA_LOG_DROP
									   : SHMA_LOG_OVERWRITE };
	int r = shma_open(&self, arena_name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &opt);

	if (r)
		broken("cannot create an arena: %s", shma_strerror(r));
	shma_close(self);
	_exit(0);
}

/* Stopped, not only idle: nobody may need it. */
static void survive(const struct op *op)
{
	alarm(0);
	attach_self();
	survivor_make_usual();
	if (op->survive)
		op->survive();
	raise(SIGSTOP);
	for (;;)
		pause();
}

static void census(void)
{
	judge_census();
	_exit(0);
}

static bool in_child(void (*body)(void), const char *who)
{
	pid_t pid = stage_spawn();

	if (pid == 0)
		body();
	return stage_ended_well(stage_wait(pid), who);
}

static void keep_board(void)
{
	memcpy(kept, board, sizeof(*kept));
}

void stage_restore(void)
{
	remove_created();
	service_remove();
	image_restore(image, arena_fd);
	memcpy(board, kept, sizeof(*board));
}

bool stage_retake(void)
{
	char path[128];

	if (image)
		image_free(image);
	if (arena_fd < 0 && arena_path(path, sizeof(path), arena_name) == 0)
		arena_fd = open(path, O_RDWR | O_CLOEXEC);
	if (arena_fd < 0) {
		snprintf(board->failure, sizeof(board->failure), "cannot open the arena's file");
		return false;
	}
	image = image_take(arena_fd);
	keep_board();
	return true;
}

bool stage_set_up(const struct op *op)
{
	memset(board, 0, sizeof(*board));
	staged = op;
	if (!in_child(create, "creating"))
		return false;
	if (!(op->flags & OP_ALONE)) {
		int status;

		survivor = stage_spawn();
		if (survivor == 0)
			survive(op);
		status = stage_wait(survivor);
		if (!WIFSTOPPED(status)) {
			survivor = 0;
			stage_ended_well(status, "survivor");
			return false;
		}
	}
	if (!stage_retake() || !in_child(census, "census"))
		return false;
	kept->census = board->census;
	stage_restore();
	return true;
}

/* ---- victims ---- */

static void operate(const struct op *op)
{
	if (op->flags & OP_STEPS) {
		op->run();
		return;
	}
	step_begin();
	op->run();
	step_end();
}

static void be_victim(const struct op *op, const struct plan *plan)
{
	const void *base = (const void *)(uintptr_t)kept->base;
	size_t size = kept->size;

	if (!(op->flags & OP_UNATTACHED)) {
		attach_self();
		base = self->arena.base;
		size = self->arena.g.file_size;
	}
	if (op->prepare)
		op->prepare();
	if (plan)
		step_kill(plan, &board->died_at);
	else if (size)
		step_trace(trace, base, size, !(op->flags & OP_UNATTACHED));
	operate(op);
	if (plan && op->flags & OP_FORK) {
		raise(SIGSTOP); /* the parent lives, but stirs no more */
		_exit(1);
	}
	step_die();
	/* A daemon is no client of the library's: it has said by itself what it works on. */
	if (op->flags & OP_UNATTACHED && self) {
		base = self->arena.base;
		size = self->arena.g.file_size;
	}
	if (self) {
		board->base = (uint64_t)(uintptr_t)base;
		board->size = size;
	}
	if (op->took && !op->took())
		broken("the operation did not take this path");
	_exit(0);
}

/* A whole run, which learns what instructions there are. */
bool stage_trace(const struct op *op)
{
	for (int pass = op->flags & OP_UNATTACHED && !kept->size ? 0 : 1; pass < 2; pass++) {
		pid_t pid = stage_spawn();

		if (pid == 0)
			be_victim(op, NULL);
		if (!stage_ended_well(wait_for_victim(pid), "victim, not killed"))
			return false;
		kept->base = board->base;
		kept->size = board->size;
		stage_restore();
	}
	if (!trace->over || trace->count >= STEPS_MAX) {
		snprintf(board->failure, sizeof(board->failure), "no trace: %llu instructions",
			 (unsigned long long)trace->count);
		return false;
	}
	step_count(trace);
	return true;
}

/* The victim's pid if it is a parent that lives on, else 0; -1: it did not die. */
pid_t stage_kill(const struct op *op, uint64_t target)
{
	struct plan plan = { .target = target };
	int status;
	pid_t pid;

	step_shorten(trace, &plan);
	pid = stage_spawn();
	if (pid == 0)
		be_victim(op, &plan);
	status = wait_for_victim(pid);
	if (op->flags & OP_FORK && WIFSTOPPED(status))
		return pid;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return 0;
	stage_ended_well(status, "victim");
	return -1;
}
