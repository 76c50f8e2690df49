/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - see report.h.
 */
#include "report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static bool same_trace(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* A metric that its workload does not describe is named by the row itself, wherever that lies. */
static void row_name(struct row *row)
{
	if (!row->shown)
		row->metric = (struct metric){
			.name = row->metric_name, .title = row->metric_name, .unit = "ns"};
}

static void row_describe(struct row *row, const char *metric)
{
	snprintf(row->metric_name, sizeof(row->metric_name), "%s", metric);
	row_name(row);
	for (int i = 0; i < METRICS_MAX && row->work->metrics[i].name; i++) {
		if (strcmp(row->work->metrics[i].name, metric))
			continue;
		row->metric = row->work->metrics[i];
		row->shown = true;
	}
}

struct row *report_row(struct report *r, const struct workload *work, const char *trace,
		       const char *metric)
{
	struct row *row;

	for (int i = 0; i < r->nrows; i++)
		if (r->rows[i].work == work && same_trace(r->rows[i].trace, trace) &&
		    !strcmp(r->rows[i].metric_name, metric))
			return &r->rows[i];
	if (r->nrows == r->rows_size) {
		int size = r->rows_size ? 2 * r->rows_size : 64;
		void *rows = realloc(r->rows, (size_t)size * sizeof(*row));

		if (!rows)
			return NULL;
		r->rows = rows;
		r->rows_size = size;
		for (int i = 0; i < r->nrows; i++)
			row_name(&r->rows[i]);
	}
	row = &r->rows[r->nrows++];
	memset(row, 0, sizeof(*row));
	row->work = work;
	row->trace = trace;
	row_describe(row, metric);
	return row;
}

/* ---- statistics ---- */

struct summary {
	double median, min, max;
	double spread; /* from the first to the third quartile, in percent of the median */
	int n;
};

static struct summary summarize(const struct cell *cell)
{
	struct summary s = {.n = cell->n};
	double sorted[SAMPLES_MAX];

	if (!cell->n)
		return s;
	memcpy(sorted, cell->samples, (size_t)cell->n * sizeof(*sorted));
	s.median = work_median(sorted, (size_t)cell->n);
	s.min = sorted[0];
	s.max = sorted[cell->n - 1];
	if (s.median != 0)
		s.spread = 100 * (sorted[(3 * (cell->n - 1) + 2) / 4] - sorted[(cell->n - 1) / 4]) /
			   fabs(s.median);
	return s;
}

/* The best private malloc of a row; -1: there is none. */
static int best_private(const struct report *r, const struct row *row)
{
	double best = 0;
	int at = -1;

	for (int i = 0; i < r->npeers; i++) {
		double median = summarize(&row->cells[i]).median;

		if (!r->peers[i].private_malloc || !row->cells[i].n)
			continue;
		if (at < 0 || (row->metric.more_is_better ? median > best : median < best)) {
			best = median;
			at = i;
		}
	}
	return at;
}

static int peer_at(const struct report *r, const char *name)
{
	for (int i = 0; i < r->npeers; i++)
		if (!strcmp(r->peers[i].name, name))
			return i;
	return -1;
}

/* How many times worse than the base; 0: unknown. Percentages are differences, not to be divided. */
static double ratio_to(const struct report *r, const struct row *row, int peer, int base)
{
	double own, other;

	(void)r;
	if (peer < 0 || base < 0 || !row->cells[peer].n || !row->cells[base].n ||
	    row->metric.unit[0] == '%')
		return 0;
	own = summarize(&row->cells[peer]).median;
	other = summarize(&row->cells[base]).median;
	if (own <= 0 || other <= 0)
		return 0;
	return row->metric.more_is_better ? other / own : own / other;
}

/* ---- the machine ---- */

static void print_line_of(FILE *out, const char *label, const char *path)
{
	char line[256] = "";
	FILE *f = fopen(path, "re");

	if (f && fgets(line, sizeof(line), f))
		line[strcspn(line, "\n")] = '\0';
	if (f)
		fclose(f);
	fprintf(out, "%-12s%s\n", label, line[0] ? line : "unknown");
}

static void print_cpu_model(FILE *out)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, "model name", 10) || !colon)
			continue;
		fprintf(out, "%-12s%ld x%s", "CPU", sysconf(_SC_NPROCESSORS_ONLN), colon + 1);
		break;
	}
	if (f)
		fclose(f);
}

void report_machine(FILE *out, const int *cpu, int ncpu)
{
	double load[1] = {0};
	struct utsname u;
	time_t now = time(NULL);
	char when[64];

	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z", localtime(&now));
	uname(&u);
	fprintf(out, "%-12s%s\n", "date", when);
	print_cpu_model(out);
	fprintf(out, "%-12s%d", "pinned to", cpu[0]);
	for (int i = 1; i < ncpu; i++)
		fprintf(out, ", %d", cpu[i]);
	fprintf(out, "\n%-12s%s %s %s\n", "kernel", u.sysname, u.release, u.machine);
	fprintf(out, "%-12s%s\n", "compiler", __VERSION__);
	print_line_of(out, "THP", "/sys/kernel/mm/transparent_hugepage/enabled");
	print_line_of(out, "THP shmem", "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
	getloadavg(load, 1);
	fprintf(out, "%-12s%.2f\n", "load", load[0]);
	if (load[0] > 0.7)
		fprintf(out, "WARNING     other work is running on this machine: expect spread\n");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
	fprintf(out,
		"WARNING     built with sanitizers or without optimisation: figures mean nothing\n");
#endif
}

/* ---- the table ---- */

#define TITLE_WIDTH 38
#define CELL_WIDTH 10

static void print_cell(FILE *out, const struct row *row, const struct cell *cell)
{
	struct summary s = summarize(cell);
	char text[32];

	if (!cell->n)
		snprintf(text, sizeof(text), "%s", cell->failed ? "FAILED" : "-");
	else
		snprintf(text, sizeof(text), "%.*f%s", fabs(s.median) < 99.95 ? 1 : 0, s.median,
			 s.spread > 25 ? "~" : "");
	(void)row;
	fprintf(out, " %*s", CELL_WIDTH - 1, text);
}

static void print_ratio(FILE *out, double ratio)
{
	char text[32] = "-";

	if (ratio > 0)
		snprintf(text, sizeof(text), "%.2fx", ratio);
	fprintf(out, " %*s", CELL_WIDTH - 1, text);
}

/* Words of a title are ASCII but for the ellipsis, which takes three bytes and one column. */
static int title_padding(const char *title)
{
	int columns = 0;

	for (; *title; title++)
		columns += (*title & 0xc0) != 0x80;
	return columns < TITLE_WIDTH ? TITLE_WIDTH - columns : 0;
}

static void print_row(const struct report *r, const struct row *row, FILE *out)
{
	int best = best_private(r, row), own = peer_at(r, "shmalloc"),
	    handle = peer_at(r, "shmalloc-handle");
	int base = best >= 0 ? best : peer_at(r, "boost");
	char title[128];

	snprintf(title, sizeof(title), "%s%s%s", row->trace ? row->trace : "",
		 row->trace ? ": " : "", row->metric.title);
	fprintf(out, "%s%*s %-4s", title, title_padding(title), "", row->metric.unit);
	for (int i = 0; i < r->npeers; i++)
		if (r->peers[i].present)
			print_cell(out, row, &row->cells[i]);
	if (own >= 0 && r->peers[own].present) {
		print_ratio(out, ratio_to(r, row, own, base));
		print_ratio(out, ratio_to(r, row, handle, base));
		fprintf(out, "  %s", base >= 0 && row->cells[base].n ? r->peers[base].name : "");
	}
	fprintf(out, "\n");
}

static bool row_empty(const struct report *r, const struct row *row)
{
	for (int i = 0; i < r->npeers; i++)
		if (row->cells[i].n || row->cells[i].failed)
			return false;
	return true;
}

static void print_peers(const struct report *r, FILE *out)
{
	for (int i = 0; i < r->npeers; i++) {
		const struct bench_peer *peer = &r->peers[i];

		if (!peer->wanted)
			fprintf(out, "%-17snot asked for\n", peer->name);
		else
			fprintf(out, "%-17s%s%s\n", peer->name,
				peer->present ? "" : "MISSING: ", peer->version);
	}
}

void report_table(const struct report *r, FILE *out)
{
	int own = peer_at(r, "shmalloc");

	print_peers(r, out);
	fprintf(out,
		"\nMedians; ~ marks a spread (quartile to quartile) above 25 %%. A ratio is how many times\n"
		"worse shmalloc is than the best private malloc of the row, or where there is none than\n"
		"boost (below 1 it is better); null is what the harness itself costs in each cell.\n\n");
	fprintf(out, "%-*s %-4s", TITLE_WIDTH, "", "unit");
	for (int i = 0; i < r->npeers; i++)
		if (r->peers[i].present)
			fprintf(out, " %*.*s", CELL_WIDTH - 1, CELL_WIDTH - 1,
				strcmp(r->peers[i].name, "shmalloc-handle") ? r->peers[i].name
									    : "-handle");
	if (own >= 0 && r->peers[own].present)
		fprintf(out, " %*s %*s  %s", CELL_WIDTH - 1, "ratio", CELL_WIDTH - 1, "-handle",
			"against");
	fprintf(out, "\n");
	for (int i = 0; i < r->nrows; i++)
		if (r->rows[i].shown && !row_empty(r, &r->rows[i]))
			print_row(r, &r->rows[i], out);
	for (int i = 0; i < r->nrows; i++)
		if (r->rows[i].shown && row_empty(r, &r->rows[i]))
			fprintf(out, "NOT MEASURED: no peer for %s.%s\n", r->rows[i].work->name,
				r->rows[i].metric.name);
}

/* ---- CSV ---- */

static FILE *open_csv(const char *folder, const char *title, const char *suffix)
{
	char path[4096];

	if (mkdir(folder, 0777) && errno != EEXIST)
		return NULL;
	snprintf(path, sizeof(path), "%s/%s%s.csv", folder, title, suffix);
	return fopen(path, "we");
}

static void csv_row(const struct report *r, const struct row *row, FILE *medians, FILE *samples)
{
	int best = best_private(r, row), boost = peer_at(r, "boost");

	for (int i = 0; i < r->npeers; i++) {
		const struct cell *cell = &row->cells[i];
		struct summary s = summarize(cell);

		if (!cell->n && !cell->failed)
			continue;
		fprintf(medians, "%s,%s,%s,%s,%s,%d,%d,%.4f,%.4f,%.4f,%.1f,%s,%.4f,%.4f\n",
			row->work->name, row->trace ? row->trace : "", row->metric.name,
			row->metric.unit, r->peers[i].name, s.n, cell->failed, s.median, s.min,
			s.max, s.spread, best >= 0 ? r->peers[best].name : "",
			ratio_to(r, row, i, best), ratio_to(r, row, i, boost));
		for (int k = 0; k < cell->n; k++)
			fprintf(samples, "%s,%s,%s,%s,%d,%.4f\n", row->work->name,
				row->trace ? row->trace : "", row->metric.name, r->peers[i].name, k,
				cell->samples[k]);
	}
}

int report_csv(const struct report *r, const char *folder, const char *title)
{
	FILE *medians = open_csv(folder, title, ""), *samples = open_csv(folder, title, "-samples");
	int e = 0;

	if (medians && samples) {
		fprintf(medians,
			"workload,trace,metric,unit,peer,runs,failed,median,min,max,spread_percent,"
			"best_private,ratio_to_best_private,ratio_to_boost\n");
		fprintf(samples, "workload,trace,metric,peer,run,value\n");
		for (int i = 0; i < r->nrows; i++)
			csv_row(r, &r->rows[i], medians, samples);
	} else {
		e = -errno;
	}
	if (medians && fclose(medians) && !e)
		e = -errno;
	if (samples && fclose(samples) && !e)
		e = -errno;
	return e;
}
