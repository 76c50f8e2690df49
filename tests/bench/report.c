/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - samples, medians, ratios; CSV.
 */
#include "report.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

struct summary report_summary(const struct cell *cell)
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

int report_best_rival(const struct report *r, const struct row *row)
{
	double best = 0;
	int at = -1;

	for (int i = 0; i < r->npeers; i++) {
		double median = report_summary(&row->cells[i]).median;

		if (!r->peers[i].rival || !row->cells[i].n)
			continue;
		if (at < 0 || (row->metric.more_is_better ? median > best : median < best)) {
			best = median;
			at = i;
		}
	}
	return at;
}

int report_peer(const struct report *r, const char *name)
{
	for (int i = 0; i < r->npeers; i++)
		if (!strcmp(r->peers[i].name, name))
			return i;
	return -1;
}

double report_ratio(const struct row *row, int peer, int base)
{
	double own, other;

	if (peer < 0 || base < 0 || !row->cells[peer].n || !row->cells[base].n ||
	    row->metric.unit[0] == '%')
		return 0;
	own = report_summary(&row->cells[peer]).median;
	other = report_summary(&row->cells[base]).median;
	return own > 0 && other > 0 ? own / other : 0;
}

void report_title(const struct row *row, char *text, size_t size)
{
	snprintf(text, size, "%s%s%s", row->trace ? row->trace : "", row->trace ? ": " : "",
		 row->metric.title);
}

/* Words of a title are ASCII but for the ellipsis, which takes three bytes and one column. */
void report_print_title(FILE *out, const char *title, int columns)
{
	int used = 0;

	for (const char *at = title; *at; at++)
		used += (*at & 0xc0) != 0x80;
	fprintf(out, "%s%*s", title, used < columns ? columns - used : 0, "");
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
	int best = report_best_rival(r, row), boost = report_peer(r, "boost");

	for (int i = 0; i < r->npeers; i++) {
		const struct cell *cell = &row->cells[i];
		struct summary s = report_summary(cell);

		if (!cell->n && !cell->failed)
			continue;
		fprintf(medians, "%s,%s,%s,%s,%s,%d,%d,%.4f,%.4f,%.4f,%.1f,%s,%.4f,%.4f\n",
			row->work->name, row->trace ? row->trace : "", row->metric.name,
			row->metric.unit, r->peers[i].name, s.n, cell->failed, s.median, s.min,
			s.max, s.spread, best >= 0 ? r->peers[best].name : "",
			report_ratio(row, i, best), report_ratio(row, i, boost));
		for (int k = 0; k < cell->n; k++)
			fprintf(samples, "%s,%s,%s,%s,%d,%.4f\n", row->work->name,
				row->trace ? row->trace : "", row->metric.name, r->peers[i].name, k,
				cell->samples[k]);
	}
}

int report_csv(const struct report *r, const char *folder, const char *title)
{
	FILE *medians = open_csv(folder, title, ""), *samples = open_csv(folder, title, "-samples"),
	     *bars = open_csv(folder, title, "-bars");
	int e = 0;

	if (medians && samples && bars) {
		fprintf(medians,
			"workload,trace,metric,unit,peer,runs,failed,median,min,max,spread_percent,"
			"best_private,ratio_to_best_private,ratio_to_boost\n");
		fprintf(samples, "workload,trace,metric,peer,run,value\n");
		for (int i = 0; i < r->nrows; i++)
			csv_row(r, &r->rows[i], medians, samples);
		bars_csv(r, bars);
	} else {
		e = -errno;
	}
	if (medians && fclose(medians) && !e)
		e = -errno;
	if (samples && fclose(samples) && !e)
		e = -errno;
	if (bars && fclose(bars) && !e)
		e = -errno;
	return e;
}
