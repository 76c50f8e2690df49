/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.h - what the driver's files share: the options, the peers, and who starts whom. As parent the
 * driver starts a fresh process for every single measurement (launch.c), peers interleaved; as child
 * (--child PEER WORKLOAD) it loads one peer and runs one workload (child.c); as --join it is a further
 * process of a workload.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "report.h"
#include "work.h"

#define TRACES_MAX 8

struct options {
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
};

extern struct options opt;
extern struct bench_peer peers[];
extern const int npeers;

/* Whether a comma-separated list has the word; no list has every word. */
bool in_list(const char *list, const char *word);
struct bench_peer *peer_find(const char *name);

/* child.c: runs one workload on one peer in this process. Exit status. */
int child_main(const char *work_name);

/* launch.c: runs one child; its exit status, -ETIMEDOUT, or another -errno. What it says, in out. */
int launch(const struct bench_peer *peer, const char *work, const char *trace, char *out,
	   size_t size, int stderr_fd);
/* Lets SIGINT and SIGTERM leave nothing behind. */
void launch_clean_up_on_signals(void);

/* traces.c: makes the traces given by options or BENCH_TRACES ready for children. */
void traces_prepare(void);

#endif
