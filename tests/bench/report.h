/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h - samples of all runs, their medians, and how they are shown: a table and two CSV files.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "work.h"

#define PEERS_MAX 10
#define SAMPLES_MAX 64

struct bench_peer {
	const char *name;
	const char *plugin;  /* file name without .so */
	unsigned can;	     /* enum workload_needs */
	bool private_malloc; /* one of those to be as fast as */
	bool wanted, present;
	char version[80]; /* or why it is missing */
};

struct cell {
	double samples[SAMPLES_MAX];
	int n;
	int failed;
};

/* One metric of one workload on one trace, for every peer. */
struct row {
	const struct workload *work;
	const char *trace; /* base name; NULL */
	struct metric metric;
	char metric_name[32];
	bool shown; /* in the table; others are in the CSV only */
	struct cell cells[PEERS_MAX];
};

struct report {
	struct bench_peer *peers;
	int npeers;
	struct row *rows;
	int nrows, rows_size;
};

/* The row of a metric, made at its first mention. NULL: no memory. */
struct row *report_row(struct report *r, const struct workload *work, const char *trace,
		       const char *metric);
/* Machine, compiler, huge pages, load. */
void report_machine(FILE *out, const int *cpu, int ncpu);
void report_table(const struct report *r, FILE *out);
/* Medians with spread and ratios, and all samples. 0 or -errno. */
int report_csv(const struct report *r, const char *folder, const char *title);

#endif
