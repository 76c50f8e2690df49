/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logserver_supervisor.c - publishes the board, starts the others, kills a worker half-way and
 * starts its successor, and closes the account.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "logserver.h"

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Starts this program again in another role: a process of its own in every respect. */
static pid_t start(const char *role, int lane)
{
	char lane_text[16], lines_text[32];
	char **args;
	int n = 0;
	pid_t parent = getpid(), pid;

	args = calloc((size_t)logserver_settings.file_count + 16, sizeof(*args));
	if (!args)
		return -1;
	snprintf(lane_text, sizeof(lane_text), "%d", lane);
	snprintf(lines_text, sizeof(lines_text), "%" PRIu64, logserver_settings.lines);
	args[n++] = (char *)"logserver";
	args[n++] = (char *)"--role";
	args[n++] = (char *)role;
	args[n++] = (char *)"--lane";
	args[n++] = lane_text;
	args[n++] = (char *)"--lines";
	args[n++] = lines_text;
	args[n++] = (char *)"--arena";
	args[n++] = (char *)logserver_settings.arena;
	if (logserver_settings.embedded)
		args[n++] = (char *)"--embedded";
	if (logserver_settings.socket) {
		args[n++] = (char *)"--socket";
		args[n++] = (char *)logserver_settings.socket;
	}
	for (int i = 0; i < logserver_settings.file_count; i++)
		args[n++] = logserver_settings.files[i];
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		execv("/proc/self/exe", args);
		_exit(127);
	}
	free(args);
	return pid;
}

static uint64_t count_lines(const char *path)
{
	static char buf[1 << 16];
	struct stat st;
	uint64_t lines = 0;
	char last = '\n';
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		logserver_say(path, fd < 0 ? errno : EINVAL);
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((got = read(fd, buf, sizeof(buf))) > 0) {
		for (const char *p = buf; (p = memchr(p, '\n', (size_t)(buf + got - p))); p++)
			lines++;
		last = buf[got - 1];
	}
	close(fd);
	return lines + (last != '\n');
}

static void name_source(char *to, const char *path)
{
	const char *base = strrchr(path, '/');
	size_t n;

	base = base ? base + 1 : path;
	n = strcspn(base, ".");
	snprintf(to, LABEL, "%.*s", (int)(n ? n : strlen(base)), base);
}

static struct board *make_board(shma *a)
{
	shma_handle h = shma_lookup(a, BOARD_NAME);
	struct board *b;
	int r;

	if (h && shma_unpublish(a, BOARD_NAME) == 0)
		shma_free(a, h); /* of an earlier run */
	h = shma_alloc(a, sizeof(*b), SHMA_ZERO);
	b = h ? shma_ptr(a, h) : NULL;
	if (!b) {
		logserver_say("cannot allocate the board", errno);
		return NULL;
	}
	b->magic = BOARD_MAGIC;
	for (int i = 0; i < logserver_settings.file_count && i < SOURCES; i++)
		name_source(b->sources[i], logserver_settings.files[i]);
	strcpy(b->rows[ROW_OTHER].label, "(others)");
	b->rows[ROW_OTHER].labelled = 1;
	r = shma_publish(a, BOARD_NAME, h);
	if (r < 0) {
		logserver_say("cannot publish the board", r);
		return NULL;
	}
	return b;
}

/* The lane that lies farthest behind: its worker is certainly in the middle of something. */
static int busiest_lane(struct board *b)
{
	uint64_t most = 0;
	int lane = 0;

	for (int i = 0; i < LANES; i++) {
		uint64_t done = atomic_load(&b->lanes[i].done);
		uint64_t behind = atomic_load(&b->lanes[i].offered) - done;

		if (behind > most) {
			most = behind;
			lane = i;
		}
	}
	return lane;
}

static uint64_t lines_done(struct board *b)
{
	uint64_t sum = 0;

	for (int i = 0; i < LANES; i++)
		sum += atomic_load(&b->lanes[i].done);
	return sum;
}

static uint64_t lines_held(struct lane *lane)
{
	uint64_t done = atomic_load(&lane->done), taken = atomic_load(&lane->taken);

	return taken > done ? taken - done : 0;
}

struct crew {
	pid_t ingest;
	pid_t workers[LANES];
	bool killed;
};

static bool half_way(struct board *b)
{
	return lines_done(b) >= logserver_settings.lines / 2 || atomic_load(&b->waiting);
}

/* A child has ended. 0, or -1 if that ends the demonstration. */
static int child_ended(struct board *b, struct crew *crew, pid_t pid, int status)
{
	if (pid == crew->ingest) {
		crew->ingest = 0;
		return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
	}
	for (int i = 0; i < LANES; i++) {
		if (crew->workers[i] != pid)
			continue;
		crew->workers[i] = 0;
		if (WIFEXITED(status))
			return WEXITSTATUS(status) == 0 ? 0 : -1;
		/* Killed, by us or by anybody: its successor goes on where it stopped. */
		printf("worker %d, process %d, killed with %" PRIu64 " lines in its hands\n", i,
		       (int)pid, lines_held(&b->lanes[i]));
		crew->workers[i] = start("worker", i);
		atomic_store(&b->kill_done, 1);
		return crew->workers[i] > 0 ? 0 : -1;
	}
	return 0;
}

/*
 * Kills a worker in the middle of its work: stopped, it must hold lines that it has not counted; if it
 * does not, it goes on. At the end of the input any worker will do. 0, or -1 as child_ended().
 */
static int kill_one(struct board *b, struct crew *crew)
{
	bool any = atomic_load(&b->waiting) && lines_done(b) == atomic_load(&b->lines_in);
	int lane = busiest_lane(b), status;
	pid_t victim = crew->workers[lane];

	if (victim <= 0 || kill(victim, SIGSTOP) < 0 || waitpid(victim, &status, WUNTRACED) < 0)
		return 0;
	if (!WIFSTOPPED(status))
		return child_ended(b, crew, victim, status);
	crew->killed = any || lines_held(&b->lanes[lane]) > 0;
	kill(victim, crew->killed ? SIGKILL : SIGCONT);
	return 0;
}

static int supervise(struct board *b, struct crew *crew)
{
	bool alive = true;

	while (alive) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid < 0 && errno != EINTR)
			break;
		if (pid > 0 && child_ended(b, crew, pid, status) < 0) {
			logserver_say("a process of the crew failed", 0);
			return -1;
		}
		if (!crew->killed && half_way(b) && kill_one(b, crew) < 0)
			return -1;
		alive = crew->ingest != 0;
		for (int i = 0; i < LANES; i++)
			alive |= crew->workers[i] != 0;
		if (pid <= 0)
			logserver_nap(500);
	}
	return 0;
}

static uint64_t row_sum(struct board *b, unsigned row, int level)
{
	uint64_t sum = 0;

	for (int lane = 0; lane < LANES; lane++)
		sum += atomic_load(&b->lanes[lane].counts[row][level]) >> 32;
	return sum;
}

static uint64_t row_total(struct board *b, unsigned row)
{
	uint64_t sum = 0;

	for (int level = 0; level < LEVELS; level++)
		sum += row_sum(b, row, level);
	return sum;
}

static int by_total(const void *x, const void *y, void *board)
{
	uint64_t a = row_total(board, *(const unsigned *)x),
		 b = row_total(board, *(const unsigned *)y);

	return a < b ? 1 : a > b ? -1 : 0;
}

static void print_table(struct board *b)
{
	static const char *names[LEVELS] = { "emerg", "alert",	"crit", "err",
					     "warn",  "notice", "info", "debug" };
	unsigned order[ROWS];

	for (unsigned i = 0; i < ROWS; i++)
		order[i] = i;
	qsort_r(order, ROWS, sizeof(order[0]), by_total, b);
	printf("\n%-24s", "program");
	for (int level = 0; level < LEVELS; level++)
		printf(" %9s", names[level]);
	printf("\n");
	for (unsigned i = 0; i < 12 && row_total(b, order[i]); i++) {
		struct row *row = &b->rows[order[i]];

		printf("%-24.24s", row->labelled ? row->label : "?");
		for (int level = 0; level < LEVELS; level++)
			printf(" %9" PRIu64, row_sum(b, order[i], level));
		printf("\n");
	}
}

/* Live objects once everything of the dead has returned, or what there are after 10 s. */
static int64_t live_objects(shma *a, uint64_t expected)
{
	struct shma_stats st = { 0 };

	for (int tries = 0; tries < 10000; tries++) {
		int r = shma_stats(a, &st);

		if (r < 0) {
			logserver_say("no statistics", r);
			return -1;
		}
		if (st.live_objects == expected)
			break;
		logserver_nap(1000);
	}
	return (int64_t)st.live_objects;
}

static int close_account(shma *a, struct board *b, double seconds, uint64_t others)
{
	uint64_t in = atomic_load(&b->lines_in), counted = 0,
		 reclaimed = row_total(b, ROW_RECLAIMED);
	int64_t live;
	bool closed, clean;

	for (unsigned row = 0; row < ROWS; row++)
		counted += row_total(b, row);
	live = live_objects(a, others + 1);
	closed = in == counted + reclaimed && in == logserver_settings.lines;
	clean = live == (int64_t)others + 1;
	print_table(b);
	printf("\nlines in        %12" PRIu64 "\n", in);
	printf("lines counted   %12" PRIu64 "\n", counted);
	printf("lines reclaimed %12" PRIu64 "   with the killed worker\n", reclaimed);
	printf("account         %12s\n", closed ? "closes" : "DOES NOT CLOSE");
	printf("lines a second  %12.0f   in %.2f s\n", (double)in / seconds, seconds);
	printf("live objects    %12" PRId64 "   %s\n", live - (int64_t)others,
	       clean ? "the published table alone" : "MORE THAN the published table");
	return closed && clean ? 0 : 1;
}

int logserver_supervisor(void)
{
	struct crew crew = { 0 };
	struct shma_stats st;
	struct board *b;
	uint64_t found = 0;
	double began;
	shma *a;
	int r;

	for (int i = 0; i < logserver_settings.file_count; i++)
		found += count_lines(logserver_settings.files[i]);
	if (found == 0) {
		logserver_say("no lines to read", 0);
		return 1;
	}
	logserver_settings.lines = logserver_settings.lines ? logserver_settings.lines : found;
	if (logserver_open(&a, SHMA_CREATE) < 0 || !(b = make_board(a)))
		return 1;
	r = shma_stats(a, &st);
	if (r < 0) {
		logserver_say("no statistics", r);
		return 1;
	}
	printf("%" PRIu64 " lines of %d files, %d workers\n", logserver_settings.lines,
	       logserver_settings.file_count, LANES);
	fflush(stdout);
	began = now();
	for (int i = 0; i < LANES; i++)
		crew.workers[i] = start("worker", i);
	crew.ingest = start("ingest", 0);
	if (supervise(b, &crew) < 0)
		return 1;
	r = close_account(a, b, now() - began, st.persistent_objects - 1);
	shma_close(a);
	return r;
}
