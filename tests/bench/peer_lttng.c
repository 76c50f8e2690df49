/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_lttng.c - LTTng-UST: a trace point with a record of bytes, into per-CPU buffers in shared memory that are
 * overwritten when full (flight recorder: a snapshot session, nothing goes to a disk). The process that opens
 * first starts a session daemon, which ends with it.
 */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "peer_lttng.h"

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

static char home[64];
static pid_t daemon_pid;

static int lttng_log(const void *data, size_t len)
{
	lttng_ust_tracepoint(bench, record, data, len);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void clean_up(void)
{
	int status;

	if (daemon_pid <= 0)
		return;
	kill(daemon_pid, SIGTERM);
	waitpid(daemon_pid, &status, 0);
	nftw(home, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The daemon says by SIGUSR1 that it is ready. */
static int start_daemon(void)
{
	pid_t parent = getpid();
	struct timespec patience = { 10, 0 };
	sigset_t ready, old;
	int signal;

	sigemptyset(&ready);
	sigaddset(&ready, SIGUSR1);
	sigprocmask(SIG_BLOCK, &ready, &old);
	daemon_pid = fork();
	if (!daemon_pid) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(127);
		unsetenv("LD_PRELOAD");
		execlp("lttng-sessiond", "lttng-sessiond", "--no-kernel", "--sig-parent", "--quiet", NULL);
		_exit(127);
	}
	signal = sigtimedwait(&ready, NULL, &patience);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return signal == SIGUSR1 ? 0 : -1;
}

static int run(const char *command)
{
	char line[256];

	snprintf(line, sizeof(line), "lttng --no-sessiond --quiet %s >/dev/null 2>&1", command);
	return system(line);
}

static int start_session(void)
{
	return run("create --snapshot bench") || run("enable-channel -u -s bench --overwrite --subbuf-size 1M "
						     "--num-subbuf 4 channel") ||
	       run("enable-event -u -s bench -c channel bench:record") || run("start bench");
}

/* Whether this process's trace points are on: registering takes a moment. */
static int wait_until_on(void)
{
	struct timespec nap = { 0, 10000000 };

	for (int i = 0; i < 500; i++) {
		if (lttng_ust_tracepoint_enabled(bench, record))
			return 0;
		nanosleep(&nap, NULL);
	}
	return -1;
}

static const struct peer_ops ops = {.version = "LTTng-UST, flight recorder", .log = lttng_log};

/* A measurement's first process has to start the daemon; for "version" that is too much, but shows that it can. */
static int begin(void)
{
	if (mkdir(home, 0700))
		return -1;
	atexit(clean_up);
	return start_daemon() || start_session();
}

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
	snprintf(home, sizeof(home), "/tmp/%s", config->arena);
	setenv("LTTNG_HOME", home, 1);
	if (config->create && begin()) {
		snprintf(err, err_size, "lttng-sessiond does not start, or another one runs");
		return NULL;
	}
	if (wait_until_on()) {
		snprintf(err, err_size, "the trace point is never on");
		return NULL;
	}
	return &ops;
}
