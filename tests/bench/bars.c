/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bars.c - what each figure has to reach, and whether it does, for each form of use of shmalloc. A report:
 * nothing fails because a bar is missed.
 */
#include <string.h>

#include "report.h"

const struct bar *bar_of(const struct row *row)
{
	for (const struct bar *b = row->metric.bars; b && b->kind; b++)
		if (!b->trace || (row->trace && !strcmp(b->trace, row->trace)))
			return b;
	return NULL;
}

static int base_of(const struct report *r, const struct row *row, const struct bar *b)
{
	if (b->kind == BAR_BEST)
		return report_best_rival(r, row);
	return b->kind == BAR_PEER ? report_peer(r, b->against) : -1;
}

const char *bar_against(const struct report *r, const struct row *row)
{
	const struct bar *b = bar_of(row);
	int base;

	if (!b || b->kind == BAR_VALUE)
		return "";
	if (b->kind == BAR_PEER)
		return b->against;
	base = base_of(r, row, b);
	return base < 0 ? "best" : r->peers[base].name;
}

enum verdict bar_judge(const struct report *r, const struct row *row, int peer, double *figure)
{
	const struct bar *b = bar_of(row);
	bool more = row->metric.more_is_better;

	*figure = 0;
	if (!b || peer < 0 || !row->cells[peer].n)
		return BAR_UNKNOWN;
	if (b->form && strcmp(b->form, r->peers[peer].name))
		return BAR_UNKNOWN;
	if (b->kind == BAR_VALUE)
		*figure = report_summary(&row->cells[peer]).median;
	else
		*figure = report_ratio(row, peer, base_of(r, row, b));
	if (b->kind != BAR_VALUE && *figure <= 0)
		return BAR_UNKNOWN; /* nobody to be compared with */
	if (more ? *figure < b->limit : *figure > b->limit)
		return BAR_MISSED;
	return (more ? *figure < b->goal : *figure > b->goal) ? BAR_MET : BAR_AT_GOAL;
}

const char *verdict_text(enum verdict v)
{
	static const char *const texts[] = { "unknown", "MISSED", "met", "goal" };

	return texts[v];
}

static const char *unit_of(const struct row *row)
{
	const struct bar *b = bar_of(row);

	return b->kind == BAR_VALUE ? row->metric.unit : "x";
}

void bar_text(const struct row *row, char *text, size_t size)
{
	const struct bar *b = bar_of(row);

	text[0] = '\0';
	if (b)
		snprintf(text, size, "%s %.*f%s",
			 row->metric.more_is_better ? ">=" : "<=", b->limit < 10 ? 2 : 0, b->limit,
			 unit_of(row));
}

/* ---- the table of bars ---- */

#define FORM_WIDTH 17
#define FORMS_MAX  5

struct forms {
	int at[FORMS_MAX], n;
};

static struct forms forms_of(const struct report *r)
{
	struct forms f = { .n = 0 };

	for (int i = 0; i < r->npeers && f.n < FORMS_MAX; i++)
		if (r->peers[i].own && r->peers[i].present)
			f.at[f.n++] = i;
	return f;
}

static void print_form(const struct report *r, const struct row *row, int peer, FILE *out)
{
	char text[64] = "-";
	double figure;
	enum verdict v = bar_judge(r, row, peer, &figure);

	if (v != BAR_UNKNOWN)
		snprintf(text, sizeof(text), "%.2f%s %s", figure, unit_of(row), verdict_text(v));
	else if (bar_of(row)->form && strcmp(bar_of(row)->form, r->peers[peer].name))
		snprintf(text, sizeof(text), "-");
	else if (row->cells[peer].n || row->cells[peer].failed)
		snprintf(text, sizeof(text), "%s",
			 row->cells[peer].failed ? "FAILED" : verdict_text(v));
	fprintf(out, " %*s", FORM_WIDTH - 1, text);
}

static void print_bar(const struct report *r, const struct row *row, const struct forms *f,
		      FILE *out)
{
	char title[128], bar[32], limit[64];

	report_title(row, title, sizeof(title));
	bar_text(row, bar, sizeof(bar));
	snprintf(limit, sizeof(limit), "%s %s", bar, bar_against(r, row));
	report_print_title(out, title, 44);
	fprintf(out, " %-21s %7.2f", limit, bar_of(row)->goal);
	for (int i = 0; i < f->n; i++)
		print_form(r, row, f->at[i], out);
	fprintf(out, "\n");
}

static void print_header(const struct report *r, const struct forms *f, FILE *out)
{
	fprintf(out,
		"\nBars: a ratio is shmalloc's median to that of the peer named, or, where the row has none,\n"
		"the figure itself; \"goal\" is better than \"met\".\n\n%-44s %-21s %7s",
		"", "bar", "goal");
	for (int i = 0; i < f->n; i++)
		fprintf(out, " %*s", FORM_WIDTH - 1, r->peers[f->at[i]].name);
	fprintf(out, "\n");
}

/* A row that was asked for; one that nobody could run still has its bar. */
static void print_summary_of(const struct report *r, int peer, FILE *out)
{
	int judged = 0, met = 0;
	const char *sep = "; missed: ";

	for (int i = 0; i < r->nrows; i++) {
		double figure;
		enum verdict v = bar_judge(r, &r->rows[i], peer, &figure);

		judged += v != BAR_UNKNOWN;
		met += v >= BAR_MET;
	}
	if (!judged)
		return;
	fprintf(out, "%-16s %d of %d bars met", r->peers[peer].name, met, judged);
	for (int i = 0; i < r->nrows; i++) {
		const struct row *row = &r->rows[i];
		double figure;

		if (bar_judge(r, row, peer, &figure) != BAR_MISSED)
			continue;
		fprintf(out, "%s%s%s%s.%s", sep, row->trace ? row->trace : "",
			row->trace ? ":" : "", row->work->name, row->metric.name);
		sep = ", ";
	}
	fprintf(out, "\n");
}

/* A row is judged if any form of use is. */
static void print_unjudged(const struct report *r, const struct forms *f, FILE *out)
{
	for (int i = 0; i < r->nrows; i++) {
		const struct row *row = &r->rows[i];
		double figure;
		bool judged = !bar_of(row);

		for (int k = 0; k < f->n && !judged; k++)
			judged = bar_judge(r, row, f->at[k], &figure) != BAR_UNKNOWN;
		if (!judged)
			fprintf(out, "NOT JUDGED: %s%s%s.%s: %s\n", row->trace ? row->trace : "",
				row->trace ? ":" : "", row->work->name, row->metric.name,
				bar_of(row)->kind == BAR_VALUE ? "not measured"
							       : "nobody to compare with");
	}
}

void bars_print(const struct report *r, FILE *out)
{
	struct forms f = forms_of(r);
	int bars = 0;

	for (int i = 0; i < r->nrows; i++)
		bars += bar_of(&r->rows[i]) != NULL;
	if (!bars || !f.n)
		return;
	print_header(r, &f, out);
	for (int i = 0; i < r->nrows; i++)
		if (bar_of(&r->rows[i]))
			print_bar(r, &r->rows[i], &f, out);
	fprintf(out, "\n");
	print_unjudged(r, &f, out);
	for (int i = 0; i < f.n; i++)
		print_summary_of(r, f.at[i], out);
}

/* ---- CSV ---- */

/* Beside the figure the same as a multiple of what the bar allows: 1 is at the bar, less is better. */
static double of_the_bar(const struct row *row, double figure)
{
	const struct bar *b = bar_of(row);

	if (row->metric.more_is_better)
		return figure > 0 ? b->limit / figure : 0;
	return figure / b->limit;
}

void bars_csv(const struct report *r, FILE *out)
{
	struct forms f = forms_of(r);

	fprintf(out, "workload,trace,metric,title,form,figure,unit,direction,bar,goal,against,"
		     "verdict,of_the_bar\n");
	for (int i = 0; i < r->nrows; i++) {
		const struct row *row = &r->rows[i];
		const struct bar *b = bar_of(row);

		for (int k = 0; b && k < f.n; k++) {
			double figure;
			enum verdict v = bar_judge(r, row, f.at[k], &figure);

			if (!row->cells[f.at[k]].n || (b->form && strcmp(b->form, r->peers[f.at[k]].name)))
				continue;
			fprintf(out, "%s,%s,%s,\"%s\",%s,%.4f,%s,%s,%.4f,%.4f,%s,%s,%.4f\n",
				row->work->name, row->trace ? row->trace : "", row->metric.name,
				row->metric.title, r->peers[f.at[k]].name, figure, unit_of(row),
				row->metric.more_is_better ? "at least" : "at most", b->limit,
				b->goal, bar_against(r, row), verdict_text(v),
				of_the_bar(row, figure));
		}
	}
}
