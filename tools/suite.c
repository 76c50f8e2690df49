/* SPDX-License-Identifier: Apache-2.0 */
#include "suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tool.h"

#define PROGRAM "bench"
#define TITLE	"figures"

const char *const suite_mallocs[] = { "glibc", "jemalloc", "mimalloc", "tcmalloc", NULL };

/* In the build's tree, if the tool was not installed; else where it is installed. */
bool suite_find(char *path, size_t size)
{
	char self[3072];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = 0;
		*strrchr(self, '/') = 0;
		snprintf(path, size, "%s/tests/bench/" PROGRAM, self);
		if (!access(path, X_OK))
			return true;
	}
	snprintf(path, size, "%s/" PROGRAM, PKGLIBEXECDIR);
	if (!access(path, X_OK))
		return true;
	tool_error("the benchmark suite is not there: neither beside shmctl-tool nor in %s", PKGLIBEXECDIR);
	return false;
}

static void become(char *const *argv, bool quiet)
{
	int null = quiet ? open("/dev/null", O_WRONLY | O_CLOEXEC) : -1;

	if (null >= 0)
		dup2(null, STDOUT_FILENO);
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	execv(argv[0], argv);
	tool_error("%s: %s", argv[0], strerror(errno));
	_exit(127);
}

/* What is typed to end the suite does not end us, who have to remove its files. */
static int run(char *const *argv, bool quiet)
{
	int status;
	pid_t pid, ended;

	fflush(NULL);
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		become(argv, quiet);
	do
		ended = waitpid(pid, &status, 0);
	while (ended < 0 && errno == EINTR);
	if (ended < 0)
		return -errno;
	return WIFSIGNALED(status) ? -EINTR : WEXITSTATUS(status);
}

int suite_show(char *const *argv)
{
	return run(argv, false);
}

/* ---- its files ---- */

static const char *const suffixes[] = { "", "-samples", "-bars" };

static void path_of(char *path, size_t size, const char *dir, size_t i)
{
	snprintf(path, size, "%s/" TITLE "%s.csv", dir, suffixes[i]);
}

static void remove_dir(const char *dir)
{
	char path[4096];

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		path_of(path, sizeof(path), dir, i);
		unlink(path);
	}
	rmdir(dir);
}

/* workload,trace,metric,unit,peer,runs,failed,median,min,max,spread,best,to best,… */
#define COLUMNS 13

static bool read_line(char *line, struct suite_figure *f)
{
	char *column[COLUMNS];

	for (int i = 0; i < COLUMNS; i++) {
		column[i] = strsep(&line, ",\n");
		if (!column[i])
			return false;
	}
	*f = (struct suite_figure){ .workload = column[0],
				    .trace = column[1],
				    .metric = column[2],
				    .unit = column[3],
				    .peer = column[4],
				    .runs = (unsigned)strtoul(column[5], NULL, 10),
				    .failed = (unsigned)strtoul(column[6], NULL, 10),
				    .median = strtod(column[7], NULL),
				    .to_best = strtod(column[12], NULL) };
	return true;
}

static int read_figures(const char *dir, suite_visit visit, void *context)
{
	char path[4096], line[1024];
	struct suite_figure f;
	FILE *file;

	path_of(path, sizeof(path), dir, 0);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	for (bool first = true; fgets(line, sizeof(line), file); first = false)
		if (!first && read_line(line, &f))
			visit(context, &f);
	fclose(file);
	return 0;
}

int suite_read(char *const *argv, suite_visit visit, void *context)
{
	char *all[SUITE_ARGS_MAX], dir[3072];
	const char *tmp = getenv("TMPDIR");
	size_t n = 0;
	int result, err;

	if ((size_t)snprintf(dir, sizeof(dir), "%s/shmalloc-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp") >= sizeof(dir))
		return -ENAMETOOLONG;
	if (!mkdtemp(dir))
		return -errno;
	while (n < SUITE_ARGS_MAX - 5 && argv[n]) {
		all[n] = argv[n];
		n++;
	}
	all[n++] = "--results";
	all[n++] = dir;
	all[n++] = "--title";
	all[n++] = TITLE;
	all[n] = NULL;
	result = run(all, true);
	err = result < 0 || result > 1 ? result : read_figures(dir, visit, context);
	remove_dir(dir);
	return err ? err : result;
}
