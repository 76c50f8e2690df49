/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces.c - recorded traces, given by option or environment: unpacked, and open for children to read.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* Unpacks FILE.zst into memory that children open by path. The descriptor stays open till the end. */
static int unpack(const char *path)
{
	int fd = memfd_create("trace", 0), status = 1;
	pid_t pid = fd < 0 ? -1 : fork();

	if (!pid) {
		dup2(fd, STDOUT_FILENO);
		execlp("zstd", "zstd", "-dcq", path, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status) {
		fprintf(stderr, "bench: cannot unpack %s: is zstd installed?\n", path);
		return -1;
	}
	return fd;
}

static void trace_add(const char *path)
{
	char copy[4096];
	int t = opt.ntraces;

	if (t == TRACES_MAX)
		return;
	if (access(path, R_OK)) {
		fprintf(stderr, "bench: SKIPPED trace %s: %s\n", path, strerror(errno));
		return;
	}
	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(opt.trace_names[t], sizeof(opt.trace_names[t]), "%.31s", basename(copy));
	opt.trace_names[t][strcspn(opt.trace_names[t], ".")] = '\0';
	if (strlen(path) > 4 && !strcmp(path + strlen(path) - 4, ".zst")) {
		int fd = unpack(path);

		if (fd < 0)
			return;
		snprintf(opt.trace_paths[t], sizeof(opt.trace_paths[t]), "/proc/%d/fd/%d",
			 (int)getpid(), fd);
	} else {
		int fd = open(path, O_RDONLY);

		snprintf(opt.trace_paths[t], sizeof(opt.trace_paths[t]), "/proc/%d/fd/%d",
			 (int)getpid(), fd);
	}
	opt.ntraces++;
}

/* BENCH_TRACES: paths separated by ':'. */
static void traces_of_environment(void)
{
	const char *list = getenv("BENCH_TRACES");
	char *copy = list ? strdup(list) : NULL, *save = NULL;

	for (char *path = copy ? strtok_r(copy, ":", &save) : NULL; path;
	     path = strtok_r(NULL, ":", &save))
		trace_add(path);
	free(copy);
}

void traces_prepare(void)
{
	int given = opt.ntraces;

	opt.ntraces = 0;
	for (int i = 0; i < given; i++)
		trace_add(opt.traces[i]);
	if (!given)
		traces_of_environment();
	if (!opt.ntraces)
		fprintf(stderr,
			"bench: SKIPPED the replay of traces: give --trace FILE or BENCH_TRACES=FILE[:FILE]\n");
}
