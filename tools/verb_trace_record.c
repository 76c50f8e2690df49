/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_trace_record.c - runs a program with the library preloaded that notes its allocations, and makes a trace of what
 * that left. The program's output is its own; what was recorded is told on stderr.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/trace_raw.h"
#include "tool.h"
#include "trace_make.h"

#define LIBRARY "libshmtrace.so"

/* Beside the tool, if it was not installed; else where it is installed. */
static bool find_library(char *path, size_t size)
{
	char self[3072];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = 0;
		*strrchr(self, '/') = 0;
		snprintf(path, size, "%s/.libs/" LIBRARY, self);
		if (!access(path, R_OK))
			return true;
	}
	snprintf(path, size, "%s/" LIBRARY, PKGLIBDIR);
	return !access(path, R_OK);
}

static bool make_dir(char *dir, size_t size)
{
	const char *tmp = getenv("TMPDIR");

	return (size_t)snprintf(dir, size, "%s/shmalloc-trace-XXXXXX", tmp && *tmp ? tmp : "/tmp") < size &&
	       mkdtemp(dir);
}

static void remove_dir(const char *dir)
{
	char path[4096];

	for (unsigned i = 0; i < TRACE_RAW_FILES; i++) {
		snprintf(path, sizeof(path), "%s/%04u", dir, i);
		if (unlink(path))
			break;
	}
	rmdir(dir);
}

static void become(char **argv, const char *library, const char *dir)
{
	const char *others = getenv("LD_PRELOAD");
	char preload[8192], pid[16];

	snprintf(preload, sizeof(preload), "%s%s%s", library, others && *others ? ":" : "", others ? others : "");
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LD_PRELOAD", preload, 1);
	setenv(TRACE_RAW_DIR, dir, 1);
	setenv(TRACE_RAW_PID, pid, 1);
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	execvp(argv[0], argv);
	tool_error("%s: %s", argv[0], strerror(errno));
	_exit(127);
}

/* What is typed to end the program does not end us, who have to write down what it did. */
static int run(char **argv, const char *library, const char *dir, int *status)
{
	pid_t pid, ended;

	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		become(argv, library, dir);
	do
		ended = waitpid(pid, status, 0);
	while (ended < 0 && errno == EINTR);
	return ended < 0 ? -errno : 0;
}

static int tell(const struct call *call, const char *file, const struct trace_made *made, int status)
{
	struct emit e;

	emit_begin(&e, stderr, call->json);
	emit_string(&e, "file", file);
	emit_u64(&e, "events", made->events);
	emit_u64(&e, "objects", made->objects);
	emit_u64(&e, "threads", made->threads);
	emit_u64(&e, "programs", made->programs);
	if (WIFSIGNALED(status))
		emit_u64(&e, "signal", (uint64_t)WTERMSIG(status));
	else
		emit_u64(&e, "exit_code", (uint64_t)WEXITSTATUS(status));
	return tool_finish(&e, TOOL_OK);
}

static int record(const struct call *call, const char *library, const char *dir, const char *file)
{
	struct trace_made made;
	int status = 0, err = run(call->argv, library, dir, &status);

	if (!err)
		err = trace_make(dir, file, &made);
	if (!err)
		return tell(call, file, &made, status);
	if (err == -ENODATA)
		tool_error("%s: nothing was recorded: it did not start, is linked statically, or runs with "
			   "another's rights",
			   call->argv[0]);
	else
		tool_error("%s: %s", file, strerror(-err));
	return TOOL_FAILED;
}

int verb_trace_record(const struct call *call)
{
	const char *base = strrchr(call->argv[0], '/'), *given = call_option(call, "output");
	char library[4096], dir[3072], name[512];
	int code;

	snprintf(name, sizeof(name), "%.255s.trace.zst", base ? base + 1 : call->argv[0]);
	if (!find_library(library, sizeof(library))) {
		tool_error("%s is not there: neither beside shmctl-tool nor in %s", LIBRARY, PKGLIBDIR);
		return TOOL_FAILED;
	}
	if (!make_dir(dir, sizeof(dir))) {
		tool_error("a directory for what is recorded: %s", strerror(errno));
		return TOOL_FAILED;
	}
	code = record(call, library, dir, given ? given : name);
	remove_dir(dir);
	return code;
}
