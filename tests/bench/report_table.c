/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report_table.c - the table for people: a row a metric, a column a peer, and how the row stands to its
 * bar.
 */
#include <math.h>
#include <string.h>

#include "report.h"

#define TITLE_WIDTH 40
#define CELL_WIDTH  10

static void print_cell(FILE *out, const struct cell *cell)
{
	struct summary s = report_summary(cell);
	char text[32];

	if (!cell->n)
		snprintf(text, sizeof(text), "%s", cell->failed ? "FAILED" : "-");
	else
		snprintf(text, sizeof(text), "%.*f%s", fabs(s.median) < 99.95 ? 1 : 0, s.median,
			 s.spread > 25 ? "~" : "");
	fprintf(out, " %*s", CELL_WIDTH - 1, text);
}

/* Where no private malloc takes part and no bar names a peer, Boost is what programs use today. */
static int base_of(const struct report *r, const struct row *row)
{
	const struct bar *b = bar_of(row);
	int best = report_best_rival(r, row);

	if (b && b->kind == BAR_PEER)
		return report_peer(r, b->against);
	return best >= 0 ? best : report_peer(r, "boost");
}

/* The form of use whose ratio stands in the row. */
static int form_of(const struct report *r, const struct row *row)
{
	const struct bar *b = bar_of(row);

	return report_peer(r, b && b->form ? b->form : "shmalloc");
}

static void print_verdict(const struct report *r, const struct row *row, FILE *out)
{
	char bar[32];
	double figure;

	bar_text(row, bar, sizeof(bar));
	fprintf(out, "  %-9s %s", bar,
		bar[0] ? verdict_text(bar_judge(r, row, form_of(r, row), &figure)) : "");
}

/* Allocators and logs have columns of their own. */
static unsigned group_of(const struct row *row)
{
	return row->work->needs & (NEEDS_LOG | NEEDS_QUEUE) ? 1 : 0;
}

static bool in_group(const struct report *r, int peer, unsigned group)
{
	for (int i = 0; i < r->nrows; i++)
		if (group_of(&r->rows[i]) == group &&
		    (r->rows[i].cells[peer].n || r->rows[i].cells[peer].failed))
			return true;
	return false;
}

static void print_row(const struct report *r, const struct row *row, FILE *out)
{
	int base = base_of(r, row), own = form_of(r, row);
	char title[128], text[32] = "-";
	double ratio = report_ratio(row, own, base);

	report_title(row, title, sizeof(title));
	report_print_title(out, title, TITLE_WIDTH);
	fprintf(out, " %-4s", row->metric.unit);
	for (int i = 0; i < r->npeers; i++)
		if (in_group(r, i, group_of(row)))
			print_cell(out, &row->cells[i]);
	if (own >= 0 && r->peers[own].present) {
		if (ratio > 0)
			snprintf(text, sizeof(text), "%.2fx", ratio);
		fprintf(out, " %*s %-12s", CELL_WIDTH - 1, text,
			ratio > 0 ? r->peers[base].name : "");
		print_verdict(r, row, out);
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

/* Names of the forms of use are too long for a column. */
static const char *column_name(const char *name)
{
	if (!strncmp(name, "shmalloc-", 9))
		return name + 8;
	return strcmp(name, "rte_mempool") ? name : "rte_mempl";
}

static void print_explanation(FILE *out)
{
	fprintf(out,
		"\nMedians; ~ marks a spread (quartile to quartile) above 25 %%. The ratio is shmalloc's, where\n"
		"pointers are held and time is exact unless the bar is for another form, to the peer named: the\n"
		"best private malloc or queue of the row, or whom its bar names, or boost. null is what the\n"
		"harness itself costs in each cell; for delays, a bare cache line.\n");
}

static void print_header(const struct report *r, unsigned group, FILE *out)
{
	int own = report_peer(r, "shmalloc");

	fprintf(out, "\n%-*s %-4s", TITLE_WIDTH, "", "unit");
	for (int i = 0; i < r->npeers; i++)
		if (in_group(r, i, group))
			fprintf(out, " %*.*s", CELL_WIDTH - 1, CELL_WIDTH - 1,
				column_name(r->peers[i].name));
	if (own >= 0 && r->peers[own].present)
		fprintf(out, " %*s %-12s  %-9s", CELL_WIDTH - 1, "ratio", "to", "bar");
	fprintf(out, "\n");
}

static void print_group(const struct report *r, unsigned group, FILE *out)
{
	bool begun = false;

	for (int i = 0; i < r->nrows; i++) {
		const struct row *row = &r->rows[i];

		if (!row->shown || group_of(row) != group || row_empty(r, row))
			continue;
		if (!begun)
			print_header(r, group, out);
		begun = true;
		print_row(r, row, out);
	}
}

void report_table(const struct report *r, FILE *out)
{
	print_peers(r, out);
	print_explanation(out);
	for (unsigned group = 0; group < 2; group++)
		print_group(r, group, out);
	for (int i = 0; i < r->nrows; i++)
		if (r->rows[i].shown && row_empty(r, &r->rows[i]))
			fprintf(out, "NOT MEASURED: no peer for %s.%s\n", r->rows[i].work->name,
				r->rows[i].metric.name);
}
