/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h - samples of all runs, their medians, and how they are shown: a table, the bars and three CSV files.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "work.h"

#define PEERS_MAX 24
#define SAMPLES_MAX 64

struct bench_peer {
	const char *name;
	const char *plugin;  /* file name without .so */
	unsigned can;	     /* enum workload_needs */
	bool rival;	     /* one of those to be as fast as: a private malloc, a queue */
	bool one_size;	     /* a pool of objects of 128 bytes, no more */
	bool no_heap;	     /* a log or a queue alone */
	bool own;	     /* a form of use of shmalloc: to be judged */
	bool by_name;	     /* takes part only if it is asked for */
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

/* ---- statistics ---- */

struct summary {
	double median, min, max;
	double spread; /* from the first to the third quartile, in percent of the median */
	int n;
};

struct summary report_summary(const struct cell *cell);
/* Index of a peer, or -1; of the best rival of a row, or -1: there is none. */
int report_peer(const struct report *r, const char *name);
int report_best_rival(const struct report *r, const struct row *row);
/* A peer's median by that of another; 0: unknown. Percentages are differences, not to be divided. */
double report_ratio(const struct row *row, int peer, int base);
/* "redis: an event" */
void report_title(const struct row *row, char *text, size_t size);
/* Pads a title to so many columns. */
void report_print_title(FILE *out, const char *title, int columns);

/* ---- what is written ---- */

/* Machine, compiler, huge pages, load (machine.c). */
void machine_print(FILE *out, const int *cpu, int ncpu);
void machine_compiler(FILE *out); /* one line: what instructions are counted for */
/* report_table.c */
void report_table(const struct report *r, FILE *out);
/* Medians with spread and ratios, all samples, and the bars. 0 or -errno. */
int report_csv(const struct report *r, const char *folder, const char *title);

/* ---- bars (bars.c) ---- */

enum verdict { BAR_UNKNOWN, BAR_MISSED, BAR_MET, BAR_AT_GOAL };

/* The bar of a row, or NULL. */
const struct bar *bar_of(const struct row *row);
/* How one form of use of shmalloc stands to it. *figure: the ratio, or the value. */
enum verdict bar_judge(const struct report *r, const struct row *row, int peer, double *figure);
const char *verdict_text(enum verdict v);
/* Whom a bar is against; "" for a value. */
const char *bar_against(const struct report *r, const struct row *row);
/* "<= 1.20x" */
void bar_text(const struct row *row, char *text, size_t size);
/* Every bar, how each form of use stands to it, and how many are met. */
void bars_print(const struct report *r, FILE *out);
void bars_csv(const struct report *r, FILE *out);

#endif
