/* SPDX-License-Identifier: Apache-2.0 */
/*
 * emit.c - one document, two forms.
 *
 * JSON is printed as it comes. Text is held back until the widths of its columns are known: fields up
 * to the next table or section, tables up to their end.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emit.h"
#include "emit_text.h"
#include "utf8.h"

/* ---- JSON ---- */

static void json_newline(struct emit *e)
{
	fputc('\n', e->out);
	for (unsigned i = 0; i < e->depth; i++)
		fputs("  ", e->out);
}

/* Whatever stands before a member: the comma, the place, the key. */
static void json_member(struct emit *e, const char *key)
{
	bool first = !e->used[e->depth - 1];

	e->used[e->depth - 1] = true;
	if (!first)
		fputc(',', e->out);
	if (e->in_row || e->stream) {
		if (!first)
			fputc(' ', e->out);
	} else {
		json_newline(e);
	}
	if (key && !e->in_list)
		fprintf(e->out, "\"%s\": ", key);
}

static void json_open(struct emit *e, const char *key, char bracket)
{
	if (e->depth)
		json_member(e, key);
	assert(e->depth < EMIT_DEPTH);
	fputc(bracket, e->out);
	e->used[e->depth++] = false;
}

static void json_close(struct emit *e, char bracket)
{
	assert(e->depth > 0);
	bool used = e->used[--e->depth];

	if (used && !e->in_row && !e->stream)
		json_newline(e);
	fputc(bracket, e->out);
}

/* ---- text ---- */

/* "live_bytes" -> "live", "LIVE" in tables: people see the unit in the value. */
static char *label_of(const char *key, bool upper)
{
	static const char *const units[] = { "_bytes", "_percent" };
	char *label = emit_must(strdup(key));

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(label), unit = strlen(units[i]);

		if (n > unit && !strcmp(label + n - unit, units[i]))
			label[n - unit] = 0;
	}
	for (char *c = label; *c; c++) {
		if (*c == '_')
			*c = upper ? '-' : ' ';
		else if (upper && *c >= 'a' && *c <= 'z')
			*c = (char)(*c - 'a' + 'A');
	}
	return label;
}

static void cell_add(struct emit *e, char *label, char *text, bool right)
{
	if (e->cell_count == e->cell_room) {
		e->cell_room = e->cell_room ? 2 * e->cell_room : 64;
		e->cells = emit_must(realloc(e->cells, e->cell_room * sizeof(*e->cells)));
	}
	e->cells[e->cell_count++] = (struct emit_cell){ label, text, right, e->paint };
}

static void cells_drop(struct emit *e)
{
	for (size_t i = 0; i < e->cell_count; i++) {
		free(e->cells[i].label);
		free(e->cells[i].text);
	}
	e->cell_count = 0;
}

static void put_padded(FILE *out, const char *text, size_t width, bool right, bool last)
{
	size_t length = utf8_length(text, strlen(text));
	size_t pad = width > length ? width - length : 0;

	if (right)
		fprintf(out, "%*s", (int)pad, "");
	fputs(text, out);
	if (!right && !last)
		fprintf(out, "%*s", (int)pad, "");
}

static void text_fields(struct emit *e)
{
	size_t width = 0;

	for (size_t i = 0; i < e->cell_count; i++) {
		size_t n = strlen(e->cells[i].label);

		width = n > width ? n : width;
	}
	for (size_t i = 0; i < e->cell_count; i++) {
		fprintf(e->out, "%s%s:%*s %s\n", e->depth > 1 ? "  " : "", e->cells[i].label,
			(int)(width - strlen(e->cells[i].label)), "", e->cells[i].text);
		e->printed = true;
	}
	cells_drop(e);
}

static void text_table(struct emit *e)
{
	size_t columns = e->column_count, rows = e->cell_count / columns;
	size_t *width = emit_must(calloc(columns, sizeof(*width)));

	/* The first row of cells is the heading; numbers are right-aligned, and so is their heading. */
	for (size_t i = 0; i < e->cell_count; i++) {
		size_t n = utf8_length(e->cells[i].text, strlen(e->cells[i].text));

		if (n > width[i % columns])
			width[i % columns] = n;
		if (i >= columns && e->cells[i].right)
			e->cells[i % columns].right = true;
	}
	if (e->printed)
		fputc('\n', e->out);
	for (size_t r = 0; r < rows; r++) {
		for (size_t c = 0; c < columns; c++) {
			const struct emit_cell *cell = &e->cells[r * columns + c];

			if (c)
				fputs("  ", e->out);
			put_padded(e->out, cell->text, width[c], cell->right, c + 1 == columns);
		}
		fputc('\n', e->out);
	}
	e->printed = true;
	free(width);
	cells_drop(e);
}

/* ---- documents, sections, tables ---- */

void emit_begin(struct emit *e, FILE *out, bool json)
{
	*e = (struct emit){ .out = out, .json = json };
	if (json)
		json_open(e, NULL, '{');
	else
		e->depth = 1;
}

void emit_begin_stream(struct emit *e, FILE *out, bool json)
{
	*e = (struct emit){ .out = out, .json = json, .stream = true };
}

void emit_begin_held(struct emit *e, FILE *out, bool json)
{
	*e = (struct emit){ .held_for = out, .json = json };
	/* The stream keeps these addresses: e must stay where it is. */
	e->out = emit_must(open_memstream(&e->held, &e->held_length));
	if (json)
		json_open(e, NULL, '{');
	else
		e->depth = 1;
}

static int flushed(FILE *out)
{
	errno = 0;
	if (fflush(out) || ferror(out))
		return errno ? -errno : -EIO;
	return 0;
}

int emit_end(struct emit *e)
{
	assert(!e->in_table && !e->in_row);
	if (!e->stream) {
		assert(e->depth == 1);
		if (e->json) {
			json_close(e, '}');
			fputc('\n', e->out);
		} else {
			text_fields(e);
		}
	}
	free(e->cells);
	e->cells = NULL;
	if (e->held_for) {
		emit_must(fclose(e->out) ? NULL : e);
		e->out = e->held_for;
		fwrite(e->held, 1, e->held_length, e->out);
		free(e->held);
	}
	return flushed(e->out);
}

void emit_drop(struct emit *e)
{
	cells_drop(e);
	free(e->cells);
	e->cells = NULL;
	if (e->held_for) {
		fclose(e->out);
		free(e->held);
	}
}

void emit_line(struct emit *e, const char *line)
{
	assert(!e->in_table && !e->stream);
	if (e->json)
		return;
	text_fields(e);
	fprintf(e->out, "%s\n", line);
	e->printed = true;
}

void emit_record(struct emit *e)
{
	assert(e->stream && e->depth == 0);
	if (e->json)
		json_open(e, NULL, '{');
	else
		e->depth = 1;
}

static void put_stream_cell(FILE *out, const struct emit_cell *cell, bool space)
{
	if (space)
		fputc(' ', out);
	if (cell->paint)
		fprintf(out, "\033[%sm%s\033[0m", cell->paint, cell->text);
	else
		fputs(cell->text, out);
}

int emit_record_end(struct emit *e)
{
	assert(e->stream && e->depth == 1);
	if (e->json) {
		json_close(e, '}');
	} else {
		for (size_t i = 0; i < e->cell_count; i++)
			put_stream_cell(e->out, &e->cells[i], i > 0);
		cells_drop(e);
		e->depth = 0;
	}
	fputc('\n', e->out);
	return ferror(e->out) ? -EIO : 0;
}

void emit_section(struct emit *e, const char *key)
{
	assert(!e->in_table);
	if (e->json) {
		json_open(e, key, '{');
		return;
	}
	if (e->stream) {
		e->depth++;
		return;
	}
	text_fields(e);
	char *label = label_of(key, false);

	fprintf(e->out, "%s%s:\n", e->printed ? "\n" : "", label);
	free(label);
	e->printed = true;
	e->depth++;
}

void emit_section_end(struct emit *e)
{
	if (e->json) {
		json_close(e, '}');
		return;
	}
	if (!e->stream)
		text_fields(e);
	e->depth--;
}

void emit_list(struct emit *e, const char *key)
{
	assert(e->stream && !e->in_list);
	if (e->json)
		json_open(e, key, '[');
	e->in_list = true;
}

void emit_list_end(struct emit *e)
{
	assert(e->in_list);
	e->in_list = false;
	if (e->json)
		json_close(e, ']');
}

void emit_paint(struct emit *e, const char *sgr)
{
	e->paint = sgr;
}

void emit_table(struct emit *e, const char *key, const char *const *columns)
{
	assert(!e->in_table && !e->stream);
	e->columns = columns;
	e->column_count = 0;
	while (columns[e->column_count])
		e->column_count++;
	assert(e->column_count > 0);
	if (e->json) {
		json_open(e, key, '[');
	} else {
		text_fields(e);
		for (size_t i = 0; i < e->column_count; i++)
			cell_add(e, NULL, label_of(columns[i], true), false);
	}
	e->in_table = true;
}

void emit_row(struct emit *e)
{
	assert(e->in_table && !e->in_row);
	if (e->json)
		json_open(e, NULL, '{');
	e->in_row = true;
	e->column = 0;
}

void emit_row_end(struct emit *e)
{
	assert(e->in_row && e->column == e->column_count);
	if (e->json)
		json_close(e, '}');
	e->in_row = false;
}

void emit_table_end(struct emit *e)
{
	assert(e->in_table && !e->in_row);
	if (e->json)
		json_close(e, ']');
	else
		text_table(e);
	e->in_table = false;
}

/* ---- values ---- */

/* key=value, as people read it: in quotes where it would not end where it seems to. */
static char *stream_field(const char *key, char *text)
{
	bool plain = *text && !strpbrk(text, " \t\"=");
	char *field;

	if (plain) {
		field = emit_format("%s=%s", key, text);
	} else {
		bool exact;
		char *quoted = emit_json_string(text, strlen(text), &exact);

		field = emit_format("%s=%s", key, quoted);
		free(quoted);
	}
	free(text);
	return field;
}

/* Every value comes through here: json is what JSON shows, text (which is freed) what people see. */
static void value(struct emit *e, const char *key, const char *json, char *text, bool right)
{
	if (e->in_table) {
		assert(e->in_row && e->column < e->column_count);
		assert(!strcmp(key, e->columns[e->column]));
		e->column++;
	}
	if (e->json) {
		json_member(e, key);
		fputs(json, e->out);
		free(text);
	} else if (e->stream && e->depth > 1) {
		cell_add(e, NULL, stream_field(key, text), right);
	} else if (e->in_table || e->stream) {
		cell_add(e, NULL, text, right);
	} else {
		cell_add(e, label_of(key, false), text, right);
	}
}

void emit_u64(struct emit *e, const char *key, uint64_t v)
{
	char *text = emit_format("%" PRIu64, v);
	char *json = emit_must(strdup(text));

	value(e, key, json, text, true);
	free(json);
}

void emit_i64(struct emit *e, const char *key, int64_t v)
{
	char *text = emit_format("%" PRId64, v);
	char *json = emit_must(strdup(text));

	value(e, key, json, text, true);
	free(json);
}

void emit_bytes(struct emit *e, const char *key, uint64_t bytes)
{
	char *json = emit_format("%" PRIu64, bytes);

	value(e, key, json, emit_human_bytes(bytes), true);
	free(json);
}

void emit_real(struct emit *e, const char *key, double v, int decimals)
{
	char *json = isfinite(v) ? emit_format("%.*f", decimals, v) : emit_must(strdup("null"));

	value(e, key, json, emit_must(strdup(isfinite(v) ? json : "-")), true);
	free(json);
}

void emit_double(struct emit *e, const char *key, double v)
{
	char *text = isfinite(v) ? emit_exact_double(v) : emit_format("%g", v);

	value(e, key, isfinite(v) ? text : "null", emit_must(strdup(text)), true);
	free(text);
}

void emit_percent(struct emit *e, const char *key, double percent)
{
	char *json = isfinite(percent) ? emit_format("%.1f", percent) : emit_must(strdup("null"));

	value(e, key, json, isfinite(percent) ? emit_format("%.1f %%", percent) : emit_must(strdup("-")),
	      true);
	free(json);
}

void emit_hex(struct emit *e, const char *key, uint64_t v)
{
	char *json = emit_format("\"0x%" PRIx64 "\"", v);

	value(e, key, json, emit_format("0x%" PRIx64, v), true);
	free(json);
}

void emit_bool(struct emit *e, const char *key, bool v)
{
	value(e, key, v ? "true" : "false", emit_must(strdup(v ? "yes" : "no")), false);
}

static void base64_member(struct emit *e, const char *key, const void *data, size_t length)
{
	char *base64 = emit_base64(data, length);
	char *name = emit_format("%s_base64", key);

	json_member(e, name);
	fprintf(e->out, "\"%s\"", base64);
	free(base64);
	free(name);
}

static void string(struct emit *e, const char *key, const void *data, size_t length, bool keep)
{
	bool exact;
	char *json = emit_json_string(data, length, &exact);

	value(e, key, json, emit_printable(data, length), false);
	free(json);
	if (e->json && keep && !exact && !e->in_list)
		base64_member(e, key, data, length);
}

void emit_none(struct emit *e, const char *key)
{
	value(e, key, "null", emit_must(strdup("-")), false);
}

void emit_string(struct emit *e, const char *key, const char *v)
{
	if (!v)
		emit_none(e, key);
	else
		string(e, key, v, strlen(v), false);
}

void emit_data(struct emit *e, const char *key, const void *data, size_t length)
{
	string(e, key, data, length, true);
}

void emit_blob(struct emit *e, const char *key, const void *data, size_t length)
{
	if (e->json)
		base64_member(e, key, data, length);
	else
		string(e, key, data, length, false);
}

void emit_time(struct emit *e, const char *key, uint64_t ns)
{
	char *utc = emit_iso_time(ns, true);
	char *json = emit_format("\"%s\"", utc);

	value(e, key, json, emit_iso_time(ns, e->utc), false);
	free(utc);
	free(json);
}

char *emit_key(const struct emit *e, const void *key, size_t length)
{
	char *text;
	bool exact;

	if (!e->json)
		return emit_printable(key, length);
	text = emit_json_string(key, length, &exact);
	length = strlen(text) - 2; /* without its quotes */
	memmove(text, text + 1, length);
	text[length] = 0;
	return text;
}
