/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch.c - starts a fresh process for a measurement, hears it out, and removes what it left behind.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static char arena_name[64];

/* Whatever the processes of a run left in /dev/shm under its name: a heap outlives its users. */
static void remove_arena(void)
{
	DIR *dir = opendir("/dev/shm");
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (arena_name[0] && strstr(entry->d_name, arena_name))
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
}

static void interrupted(int sig)
{
	remove_arena();
	_exit(128 + sig);
}

static void exec_child(const struct bench_peer *peer, const char *work, const char *trace)
{
	char cpus[32], seconds[32];
	const char *args[24] = {"bench", "--child",   peer->name, "--arena",   arena_name, "--cpus",
				cpus,	 "--seconds", seconds,	  "--plugins", opt.plugins};
	int n = 11;

	snprintf(cpus, sizeof(cpus), opt.ncpu > 1 ? "%d,%d" : "%d", opt.cpu[0], opt.cpu[1]);
	snprintf(seconds, sizeof(seconds), "%.4f", opt.seconds);
	if (trace) {
		args[n++] = "--trace";
		args[n++] = trace;
	}
	if (opt.tiny)
		args[n++] = "--tiny";
	args[n++] = work;
	/* Room for the thread-locals of libraries loaded late: jemalloc's want more than is usual. */
	setenv("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=16384", 1);
	execv("/proc/self/exe", (char *const *)args);
	_exit(127);
}

/* Reads what a child says until it closes its end or the time is over. False: it was too slow. */
static bool gather(int fd, char *text, size_t size)
{
	uint64_t end = work_now_ns() + (uint64_t)opt.timeout_s * 1000000000u;
	size_t used = 0;

	for (;;) {
		struct pollfd p = {fd, POLLIN, 0};
		uint64_t now = work_now_ns();
		ssize_t got;

		text[used] = '\0';
		if (now >= end)
			return false;
		if (poll(&p, 1, (int)((end - now) / 1000000) + 1) <= 0)
			continue;
		got = read(fd, text + used, size - 1 - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return true;
		used += (size_t)got;
		if (used == size - 1)
			return true;
	}
}

int launch(const struct bench_peer *peer, const char *work, const char *trace, char *out,
	   size_t size, int stderr_fd)
{
	static int number;
	int fds[2], status = 0;
	bool in_time;
	pid_t pid;

	snprintf(arena_name, sizeof(arena_name), "bench-%d-%d", (int)getpid(), number++);
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fds[1], STDOUT_FILENO);
		if (stderr_fd >= 0)
			dup2(stderr_fd, STDERR_FILENO);
		exec_child(peer, work, trace);
	}
	close(fds[1]);
	in_time = gather(fds[0], out, size);
	close(fds[0]);
	if (!in_time)
		kill(-pid, SIGKILL); /* its own group: the workers it started as well */
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	remove_arena();
	if (!in_time)
		return -ETIMEDOUT;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void launch_clean_up_on_signals(void)
{
	signal(SIGINT, interrupted);
	signal(SIGTERM, interrupted);
}
