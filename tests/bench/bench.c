/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.c - the driver: options, peers, and the order of all measurements.
 */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

struct bench_peer peers[] = {
	{.name = "null", .plugin = "peer_null", .can = NEEDS_SHARED | NEEDS_QUEUE | NEEDS_STACK},
	{.name = "glibc", .plugin = "peer_malloc", .rival = true},
	{.name = "jemalloc", .plugin = "peer_malloc", .rival = true},
	{.name = "mimalloc", .plugin = "peer_malloc", .rival = true},
	{.name = "tcmalloc", .plugin = "peer_malloc", .rival = true},
	{.name = "boost", .plugin = "peer_boost", .can = NEEDS_SHARED},
	{.name = "boost-node", .plugin = "peer_boost", .can = NEEDS_SHARED, .one_size = true},
	{.name = "rte_mempool", .plugin = "peer_dpdk", .can = NEEDS_SHARED, .one_size = true},
	{.name = "pipe", .plugin = "peer_queue", .can = NEEDS_QUEUE, .no_heap = true, .rival = true},
	{.name = "mqueue", .plugin = "peer_queue", .can = NEEDS_QUEUE, .no_heap = true, .rival = true},
	{.name = "boost-mq", .plugin = "peer_boost", .can = NEEDS_QUEUE, .no_heap = true, .rival = true},
	{.name = "ck_ring", .plugin = "peer_ck", .can = NEEDS_QUEUE, .no_heap = true, .rival = true},
	{.name = "rte_ring", .plugin = "peer_dpdk", .can = NEEDS_QUEUE, .no_heap = true, .rival = true},
	{.name = "obstack", .plugin = "peer_stack", .can = NEEDS_STACK, .no_heap = true, .rival = true},
	{.name = "apr_pool", .plugin = "peer_stack", .can = NEEDS_STACK, .no_heap = true, .rival = true},
	{.name = "lttng", .plugin = "peer_lttng", .can = NEEDS_LOG, .no_heap = true},
	{.name = "shmalloc",
	 .plugin = "peer_shmalloc",
	 .can = NEEDS_SHARED | NEEDS_LOG | NEEDS_QUEUE | NEEDS_RECOVERY | NEEDS_ARENAS | NEEDS_STACK,
	 .own = true},
	{.name = "shmalloc-of", .plugin = "peer_shmalloc", .can = NEEDS_SHARED, .own = true},
	{.name = "shmalloc-handle",
	 .plugin = "peer_shmalloc",
	 .can = NEEDS_SHARED | NEEDS_HANDLES | NEEDS_ARENAS | NEEDS_STACK,
	 .own = true},
	{.name = "shmalloc-coarse",
	 .plugin = "peer_shmalloc",
	 .can = NEEDS_LOG | NEEDS_QUEUE,
	 .no_heap = true,
	 .own = true},
	/* By name only: no bar is theirs. */
	{.name = "shmalloc-debug", .plugin = "peer_shmalloc", .can = NEEDS_SHARED, .by_name = true},
	{.name = "shmalloc-sampled", .plugin = "peer_shmalloc", .can = NEEDS_SHARED, .by_name = true},
	{.name = "shmalloc-profile", .plugin = "peer_shmalloc", .can = NEEDS_SHARED, .by_name = true},
};
const int npeers = (int)(sizeof(peers) / sizeof(peers[0]));

struct options opt = {
	.runs = 7, .seconds = 0.1, .timeout_s = 60, .title = "bench", .gate_fd = -1};

bool in_list(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',')
		if (strcspn(at, ",") == n && !strncmp(at, word, n))
			return true;
	return !list;
}

/* Whether each word of a list is a name; says which is not. */
static bool all_known(const char *list, const char *what, bool (*known)(const char *))
{
	char *copy = list ? strdup(list) : NULL, *save = NULL;
	bool good = true;

	for (char *word = copy ? strtok_r(copy, ",", &save) : NULL; word; word = strtok_r(NULL, ",", &save)) {
		if (known(word))
			continue;
		fprintf(stderr, "bench: no such %s: %s\n", what, word);
		good = false;
	}
	free(copy);
	return good;
}

static bool is_peer(const char *name)
{
	return peer_find(name) != NULL;
}

static bool is_workload(const char *name)
{
	return workload_find(name) != NULL;
}

struct bench_peer *peer_find(const char *name)
{
	for (int i = 0; i < npeers; i++)
		if (!strcmp(peers[i].name, name))
			return &peers[i];
	return NULL;
}

/* ---- measuring ---- */

static void find_peers(void)
{
	for (int i = 0; i < npeers; i++) {
		struct bench_peer *peer = &peers[i];
		char out[512];
		FILE *err;
		int e;

		peer->wanted = in_list(opt.peers, peer->name) && (opt.peers || !peer->by_name);
		if (!peer->wanted)
			continue;
		err = tmpfile();
		e = launch(peer, "version", NULL, out, sizeof(out), err ? fileno(err) : -1);
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
	unsigned needs = work->needs & NEEDS_OF_PEER;

	if (!peer->present || (peer->can & needs) != needs)
		return false;
	if (peer->no_heap && !(needs & (NEEDS_LOG | NEEDS_QUEUE | NEEDS_STACK)))
		return false;
	if (peer->one_size && !(work->needs & ONE_SIZE))
		return false;
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
	int e = launch(&peers[peer], work->name, trace < 0 ? NULL : opt.trace_paths[trace], out,
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
	bool skip[PEERS_MAX] = {false};
	int failures = 0;

	for (int m = 0; m < METRICS_MAX && work->metrics[m].name; m++)
		report_row(report, work, trace < 0 ? NULL : opt.trace_names[trace],
			   work->metrics[m].name);
	for (int run = 0; run < opt.runs; run++) {
		for (int i = 0; i < npeers; i++) {
			int peer = (i + run) % npeers;

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

/* ---- options ---- */

static void usage(FILE *out)
{
	fprintf(out,
		"usage: bench [--short | --tiny] [--peers A,B] [--only WORKLOAD,…] [--runs N] [--seconds S]\n"
		"             [--trace FILE]… [--cpus A,B] [--results FOLDER] [--title NAME] [--plugins FOLDER]\n"
		"       bench --compiler\n"
		"  --short    5 short runs of each, less than a minute in all\n"
		"  --tiny     only show that everything runs; exit status 1 if something does not\n"
		"  --trace    a recorded allocation trace, .zst or not; also BENCH_TRACES=FILE:FILE\n"
		"workloads:");
	for (const struct workload *work = workloads; work->name; work++)
		fprintf(out, " %s", work->name);
	fprintf(out, "\npeers:");
	for (int i = 0; i < npeers; i++)
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
	OPT_COMPILER,
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
	{"compiler", 0, 0, OPT_COMPILER},
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
	struct report report = {.peers = peers, .npeers = npeers};
	int failures;

	traces_prepare();
	launch_clean_up_on_signals();
	machine_print(stdout, opt.cpu, opt.ncpu);
	fflush(stdout);
	find_peers();
	failures = run_all(&report);
	report_table(&report, stdout);
	bars_print(&report, stdout);
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
		if (c == OPT_HELP || c == OPT_COMPILER) {
			(c == OPT_HELP ? usage : machine_compiler)(stdout);
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
	if (!all_known(opt.works, "workload", is_workload) || !all_known(opt.peers, "peer", is_peer))
		return 2;
	if (optind != argc) {
		usage(stderr);
		return 2;
	}
	return parent_main();
}
