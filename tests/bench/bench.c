/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.c - the driver. As parent it starts a fresh process for every single measurement, peers
 * interleaved, gathers what they say, and reports. As child (--child PEER WORKLOAD) it loads one peer
 * and runs one workload; as --join it is a further process of a workload.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report.h"
#include "work.h"

static struct bench_peer peers[] = {
	{.name = "null", .plugin = "peer_null", .can = NEEDS_SHARED},
	{.name = "glibc", .plugin = "peer_malloc", .private_malloc = true},
	{.name = "jemalloc", .plugin = "peer_malloc", .private_malloc = true},
	{.name = "mimalloc", .plugin = "peer_malloc", .private_malloc = true},
	{.name = "tcmalloc", .plugin = "peer_malloc", .private_malloc = true},
	{.name = "boost", .plugin = "peer_boost", .can = NEEDS_SHARED},
	{.name = "shmalloc",
	 .plugin = "peer_shmalloc",
	 .can = NEEDS_SHARED | NEEDS_LOG | NEEDS_RECOVERY},
	{.name = "shmalloc-handle", .plugin = "peer_shmalloc", .can = NEEDS_SHARED | NEEDS_LOG},
};
#define NPEERS ((int)(sizeof(peers) / sizeof(peers[0])))
#define TRACES_MAX 8

static struct options {
	const char *peers, *works; /* comma-separated; NULL: all */
	const char *results, *title, *plugins;
	const char *traces[TRACES_MAX];	  /* paths as given */
	char trace_names[TRACES_MAX][32]; /* for people */
	char trace_paths[TRACES_MAX][64]; /* for children: decompressed */
	int ntraces, runs, timeout_s;
	double seconds;
	bool tiny, brief;
	int cpu[2], ncpu;
	/* child */
	const char *child, *join, *arena, *trace;
	int gate_fd, index;
	uint64_t ops;
} opt = {.runs = 7, .seconds = 0.1, .timeout_s = 60, .title = "bench", .gate_fd = -1};

static bool in_list(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
		if (strcspn(at, ",") == n && !strncmp(at, word, n))
			return true;
	return !list;
}

static struct bench_peer *peer_find(const char *name)
{
	for (int i = 0; i < NPEERS; i++)
		if (!strcmp(peers[i].name, name))
			return &peers[i];
	return NULL;
}

/* ---- child ---- */

static const struct peer_ops *load_peer(const struct bench_peer *peer, int create)
{
	struct peer_config config = {peer->name, opt.arena, (uint64_t)2 << 30, create};
	char path[4096], err[256] = "";
	const struct peer_ops *ops;
	peer_open_fn *open_fn;
	void *so;

	snprintf(path, sizeof(path), "%s/%s.so", opt.plugins, peer->plugin);
	if (access(path, R_OK)) {
		fprintf(stderr, "not built: %s\n", path);
		return NULL;
	}
	so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!so) {
		fprintf(stderr, "%s\n", dlerror());
		return NULL;
	}
	open_fn = (peer_open_fn *)dlsym(so, "peer_open");
	ops = open_fn ? open_fn(&config, err, sizeof(err)) : NULL;
	if (!ops)
		fprintf(stderr, "%s\n", open_fn ? err : dlerror());
	return ops;
}

static int child_main(const char *work_name)
{
	const struct bench_peer *peer = peer_find(opt.child);
	struct run r = {
		.peer_name = opt.child,
		.plugins = opt.plugins,
		.work = workload_find(work_name),
		.arena = opt.arena,
		.trace = opt.trace,
		.seconds = opt.seconds,
		.ops = opt.ops,
		.cpu = {opt.cpu[0], opt.cpu[1]},
		.ncpu = opt.ncpu,
		.tiny = opt.tiny,
	};
	int e;

	if (!peer || !opt.arena || (!r.work && strcmp(work_name, "version")))
		return 2;
	if (!opt.join)
		work_pin(r.cpu[0]);
	r.peer = load_peer(peer, !opt.join);
	if (!r.peer)
		return 4;
	if (!r.work) {
		printf("%s\n", r.peer->version);
		return 0;
	}
	if (opt.join)
		return work_join(&r, opt.join, opt.gate_fd, opt.index);
	e = r.work->run(&r);
	if (e)
		fprintf(stderr, "%s: %s\n", work_name, strerror(-e));
	return e ? 1 : 0;
}

/* ---- parent ---- */

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

/* Runs one child; its exit status, -ETIMEDOUT, or another -errno. */
static int run_child(const struct bench_peer *peer, const char *work, const char *trace, char *out,
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

static void find_peers(void)
{
	for (int i = 0; i < NPEERS; i++) {
		struct bench_peer *peer = &peers[i];
		char out[512];
		FILE *err;
		int e;

		peer->wanted = in_list(opt.peers, peer->name);
		if (!peer->wanted)
			continue;
		err = tmpfile();
		e = run_child(peer, "version", NULL, out, sizeof(out), err ? fileno(err) : -1);
		peer->present = e == 0;
		if (e && err && !fseek(err, 0, SEEK_SET) && !fgets(out, sizeof(out), err))
			snprintf(out, sizeof(out), "exit status %d", e);
		out[strcspn(out, "\n")] = '\0';
		snprintf(peer->version, sizeof(peer->version), "%.79s", out);
		if (err)
			fclose(err);
		if (e)
			fprintf(stderr, "bench: PEER MISSING: %s: %s\n", peer->name, peer->version);
	}
}

static bool can_run(const struct bench_peer *peer, const struct workload *work)
{
	unsigned needs = work->needs & (NEEDS_SHARED | NEEDS_LOG | NEEDS_RECOVERY);

	if (!peer->present || (peer->can & needs) != needs)
		return false;
	if ((work->needs & NEEDS_LOG) && !strcmp(peer->name, "shmalloc-handle"))
		return false; /* a record has no handle: the same measurement twice */
	return !(work->needs & NO_NULL) || strcmp(peer->name, "null");
}

static void take_sample(struct report *report, const struct workload *work, const char *trace,
			int peer, const char *line)
{
	char metric[32];
	struct row *row;
	double value;

	if (sscanf(line, "%31s %lf", metric, &value) != 2)
		return;
	row = report_row(report, work, trace, metric);
	if (row && row->cells[peer].n < SAMPLES_MAX)
		row->cells[peer].samples[row->cells[peer].n++] = value;
}

static int measure(struct report *report, const struct workload *work, int trace, int peer)
{
	const char *name = trace < 0 ? NULL : opt.trace_names[trace];
	char out[2048], *save = NULL;
	int e = run_child(&peers[peer], work->name, trace < 0 ? NULL : opt.trace_paths[trace], out,
			  sizeof(out), -1);

	if (e) {
		struct row *row = report_row(report, work, name, work->metrics[0].name);

		if (row)
			row->cells[peer].failed++;
		fprintf(stderr, "bench: FAILED: %s on %s: %s %d\n", work->name, peers[peer].name,
			e == -ETIMEDOUT ? "no end in time," : "status", e);
		return -1;
	}
	for (char *line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		take_sample(report, work, name, peer, line);
	return 0;
}

/* All runs of one workload, peers interleaved; each run starts with another peer. Failures. */
static int measure_all(struct report *report, const struct workload *work, int trace)
{
	bool skip[NPEERS] = {false};
	int failures = 0;

	for (int m = 0; m < METRICS_MAX && work->metrics[m].name; m++)
		report_row(report, work, trace < 0 ? NULL : opt.trace_names[trace],
			   work->metrics[m].name);
	for (int run = 0; run < opt.runs; run++) {
		for (int i = 0; i < NPEERS; i++) {
			int peer = (i + run) % NPEERS;

			if (skip[peer] || !can_run(&peers[peer], work))
				continue;
			skip[peer] = measure(report, work, trace, peer) != 0;
			failures += skip[peer];
		}
	}
	return failures;
}

static int run_all(struct report *report)
{
	int failures = 0;

	for (const struct workload *work = workloads; work->name; work++) {
		if (!in_list(opt.works, work->name) ||
		    (opt.brief && !opt.works && (work->needs & FULL_ONLY)))
			continue;
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "%-16s\r", work->name);
		if (!(work->needs & NEEDS_TRACE))
			failures += measure_all(report, work, -1);
		for (int t = 0; t < opt.ntraces && (work->needs & NEEDS_TRACE); t++)
			failures += measure_all(report, work, t);
	}
	return failures;
}

/* ---- traces ---- */

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

static bool trace_add(const char *path)
{
	char copy[4096];
	int t = opt.ntraces;

	if (t == TRACES_MAX)
		return false;
	if (access(path, R_OK)) {
		fprintf(stderr, "bench: SKIPPED trace %s: %s\n", path, strerror(errno));
		return true;
	}
	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(opt.trace_names[t], sizeof(opt.trace_names[t]), "%.31s", basename(copy));
	opt.trace_names[t][strcspn(opt.trace_names[t], ".")] = '\0';
	if (strlen(path) > 4 && !strcmp(path + strlen(path) - 4, ".zst")) {
		int fd = unpack(path);

		if (fd < 0)
			return true;
		snprintf(opt.trace_paths[t], sizeof(opt.trace_paths[t]), "/proc/%d/fd/%d",
			 (int)getpid(), fd);
	} else {
		int fd = open(path, O_RDONLY);

		snprintf(opt.trace_paths[t], sizeof(opt.trace_paths[t]), "/proc/%d/fd/%d",
			 (int)getpid(), fd);
	}
	opt.ntraces++;
	return true;
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
	if (!opt.ntraces)
		fprintf(stderr,
			"bench: SKIPPED the replay of traces: give --trace FILE or BENCH_TRACES=FILE[:FILE]\n");
}

/* ---- options ---- */

static void usage(FILE *out)
{
	fprintf(out,
		"usage: bench [--short | --tiny] [--peers A,B] [--only WORKLOAD,…] [--runs N] [--seconds S]\n"
		"             [--trace FILE]… [--cpus A,B] [--results FOLDER] [--title NAME] [--plugins FOLDER]\n"
		"  --short    5 short runs of each, less than a minute in all\n"
		"  --tiny     only show that everything runs; exit status 1 if something does not\n"
		"  --trace    a recorded allocation trace, .zst or not; also BENCH_TRACES=FILE:FILE\n"
		"workloads:");
	for (const struct workload *work = workloads; work->name; work++)
		fprintf(out, " %s", work->name);
	fprintf(out, "\npeers:");
	for (int i = 0; i < NPEERS; i++)
		fprintf(out, " %s", peers[i].name);
	fprintf(out, "\n");
}

/* The first two CPUs this process may run on. */
static void default_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return;
	for (int i = 0; i < CPU_SETSIZE && opt.ncpu < 2; i++)
		if (CPU_ISSET(i, &set))
			opt.cpu[opt.ncpu++] = i;
}

static void default_plugins(void)
{
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	path[n > 0 ? n : 0] = '\0';
	opt.plugins = dirname(path);
}

enum {
	OPT_SHORT = 256,
	OPT_TINY,
	OPT_PEERS,
	OPT_ONLY,
	OPT_RUNS,
	OPT_SECONDS,
	OPT_TRACE,
	OPT_CPUS,
	OPT_RESULTS,
	OPT_TITLE,
	OPT_PLUGINS,
	OPT_CHILD,
	OPT_JOIN,
	OPT_ARENA,
	OPT_GATE,
	OPT_INDEX,
	OPT_OPS,
	OPT_HELP
};

static const struct option long_options[] = {
	{"short", 0, 0, OPT_SHORT},
	{"tiny", 0, 0, OPT_TINY},
	{"peers", 1, 0, OPT_PEERS},
	{"only", 1, 0, OPT_ONLY},
	{"runs", 1, 0, OPT_RUNS},
	{"seconds", 1, 0, OPT_SECONDS},
	{"trace", 1, 0, OPT_TRACE},
	{"cpus", 1, 0, OPT_CPUS},
	{"results", 1, 0, OPT_RESULTS},
	{"title", 1, 0, OPT_TITLE},
	{"plugins", 1, 0, OPT_PLUGINS},
	{"child", 1, 0, OPT_CHILD},
	{"join", 1, 0, OPT_JOIN},
	{"arena", 1, 0, OPT_ARENA},
	{"gate", 1, 0, OPT_GATE},
	{"index", 1, 0, OPT_INDEX},
	{"ops", 1, 0, OPT_OPS},
	{"help", 0, 0, OPT_HELP},
	{0},
};

static bool take_option(int c)
{
	switch (c) {
	case OPT_SHORT:
		opt.brief = true;
		opt.runs = 5;
		opt.seconds = 0.012;
		return true;
	case OPT_TINY:
		opt.tiny = true;
		opt.runs = 1;
		opt.seconds = 0.004;
		return true;
	case OPT_RUNS: opt.runs = atoi(optarg); return opt.runs >= 1 && opt.runs <= SAMPLES_MAX;
	case OPT_SECONDS: opt.seconds = atof(optarg); return opt.seconds > 0;
	case OPT_CPUS:
		opt.ncpu = sscanf(optarg, "%d,%d", &opt.cpu[0], &opt.cpu[1]);
		return opt.ncpu >= 1;
	case OPT_PEERS: opt.peers = optarg; return true;
	case OPT_ONLY: opt.works = optarg; return true;
	case OPT_TRACE:
		opt.trace = optarg;
		if (opt.ntraces < TRACES_MAX)
			opt.traces[opt.ntraces++] = optarg;
		return true;
	case OPT_RESULTS: opt.results = optarg; return true;
	case OPT_TITLE: opt.title = optarg; return true;
	case OPT_PLUGINS: opt.plugins = optarg; return true;
	case OPT_CHILD: opt.child = optarg; return true;
	case OPT_JOIN: opt.join = optarg; return true;
	case OPT_ARENA: opt.arena = optarg; return true;
	case OPT_GATE: opt.gate_fd = atoi(optarg); return true;
	case OPT_INDEX: opt.index = atoi(optarg); return true;
	case OPT_OPS: opt.ops = strtoull(optarg, NULL, 10); return true;
	default: return false;
	}
}

static int parent_main(void)
{
	struct report report = {.peers = peers, .npeers = NPEERS};
	int given = opt.ntraces, failures;

	opt.ntraces = 0;
	for (int i = 0; i < given; i++)
		trace_add(opt.traces[i]);
	if (!given)
		traces_of_environment();
	signal(SIGINT, interrupted);
	signal(SIGTERM, interrupted);
	report_machine(stdout, opt.cpu, opt.ncpu);
	fflush(stdout);
	find_peers();
	failures = run_all(&report);
	report_table(&report, stdout);
	if (opt.results) {
		int e = report_csv(&report, opt.results, opt.title);

		if (e)
			fprintf(stderr, "bench: %s: %s\n", opt.results, strerror(-e));
		else
			printf("\nresults in %s/%s.csv\n", opt.results, opt.title);
	}
	if (failures)
		printf("\n%d FAILED: see above\n", failures);
	free(report.rows);
	return failures ? 1 : 0;
}

int main(int argc, char **argv)
{
	int c;

	default_plugins();
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (c == OPT_HELP) {
			usage(stdout);
			return 0;
		}
		if (!take_option(c)) {
			usage(stderr);
			return 2;
		}
	}
	if (!opt.ncpu)
		default_cpus();
	if (opt.child)
		return optind + 1 == argc ? child_main(argv[optind]) : 2;
	if (optind != argc) {
		usage(stderr);
		return 2;
	}
	return parent_main();
}
