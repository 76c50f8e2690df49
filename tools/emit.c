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
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emit.h"
#include "utf8.h"

#define NS_PER_SECOND UINT64_C(1000000000)

/* ---- small things ---- */

static void *must(void *p)
{
	if (!p) {
		fputs("shmctl-tool: out of memory\n", stderr);
		exit(1);
	}
	return p;
}

static char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static char *format(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	return must(text);
}

/* ---- strings ---- */

static size_t json_escape(char *to, unsigned char c)
{
	static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";

	for (const char *s = shorts; *s; s += 2) {
		if ((unsigned char)s[0] == c) {
			to[0] = '\\';
			to[1] = s[1];
			return 2;
		}
	}
	return (size_t)sprintf(to, "\\u%04x", c);
}

/* In quotes; *exact says whether every byte could be told. */
char *emit_json_string(const void *data, size_t length, bool *exact)
{
	const unsigned char *from = data;
	/* The longest escape is six characters for one byte. */
	char *text = must(length > (SIZE_MAX - 3) / 6 ? NULL : malloc(6 * length + 3));
	char *to = text;

	*exact = true;
	*to++ = '"';
	for (size_t i = 0; i < length;) {
		size_t n = utf8_sequence(from + i, length - i);

		if (n == 0) {
			to = stpcpy(to, "\xef\xbf\xbd");
			*exact = false;
			i++;
		} else if (from[i] < 0x20 || from[i] == '"' || from[i] == '\\' || from[i] == 0x7f) {
			to += json_escape(to, from[i++]);
		} else {
			memcpy(to, from + i, n);
			to += n;
			i += n;
		}
	}
	*to++ = '"';
	*to = 0;
	return text;
}

/* What may stand on a terminal: no control characters (C1 included), no broken sequences. */
char *emit_printable(const void *data, size_t length)
{
	const unsigned char *from = data;
	char *text = must(length > (SIZE_MAX - 1) / 4 ? NULL : malloc(4 * length + 1));
	char *to = text;

	for (size_t i = 0; i < length;) {
		size_t n = utf8_sequence(from + i, length - i);

		if (n == 1 && (from[i] == '\t' || (from[i] >= 0x20 && from[i] != 0x7f))) {
			*to++ = (char)from[i++];
		} else if (n == 1 && from[i] == '\n') {
			to = stpcpy(to, "\\n");
			i++;
		} else if (n <= 1 || (n == 2 && from[i] == 0xc2 && from[i + 1] < 0xa0)) {
			for (size_t end = i + (n ? n : 1); i < end; i++)
				to += sprintf(to, "\\x%02x", from[i]);
		} else {
			memcpy(to, from + i, n);
			to += n;
			i += n;
		}
	}
	*to = 0;
	return text;
}

char *emit_base64(const void *data, size_t length)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *from = data;
	char *text = must(length > SIZE_MAX / 2 ? NULL : malloc((length + 2) / 3 * 4 + 1));
	char *to = text;

	for (size_t i = 0; i < length; i += 3) {
		size_t left = length - i;
		uint32_t v = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
			     (left > 2 ? from[i + 2] : 0);

		*to++ = digits[v >> 18];
		*to++ = digits[v >> 12 & 63];
		*to++ = left > 1 ? digits[v >> 6 & 63] : '=';
		*to++ = left > 2 ? digits[v & 63] : '=';
	}
	*to = 0;
	return text;
}

char *emit_human_bytes(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned u = 0;

	while (u < 6 && bytes >> (10 * (u + 1)))
		u++;
	uint64_t unit = UINT64_C(1) << (10 * u);

	if (bytes % unit == 0)
		return format("%" PRIu64 " %s", bytes / unit, units[u]);
	return format("%.1f %s", (double)bytes / (double)unit, units[u]);
}

char *emit_iso_time(uint64_t ns, bool utc)
{
	time_t seconds = (time_t)(ns / NS_PER_SECOND);
	unsigned fraction = (unsigned)(ns % NS_PER_SECOND);
	struct tm tm;
	char day[64];

	if (!(utc ? gmtime_r(&seconds, &tm) : localtime_r(&seconds, &tm)) ||
	    !strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm))
		return format("@%" PRIu64 ".%09u", ns / NS_PER_SECOND, fraction);
	if (utc)
		return format("%s.%09uZ", day, fraction);
	day[10] = ' ';
	return format("%s.%06u", day, fraction / 1000);
}

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
	if (key)
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
	char *label = must(strdup(key));

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
		e->cells = must(realloc(e->cells, e->cell_room * sizeof(*e->cells)));
	}
	e->cells[e->cell_count++] = (struct emit_cell){ label, text, right };
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
	size_t *width = must(calloc(columns, sizeof(*width)));

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
	e->out = must(open_memstream(&e->held, &e->held_length));
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
		must(fclose(e->out) ? NULL : e);
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

int emit_record_end(struct emit *e)
{
	assert(e->stream && e->depth == 1);
	if (e->json) {
		json_close(e, '}');
	} else {
		for (size_t i = 0; i < e->cell_count; i++)
			fprintf(e->out, "%s%s", i ? " " : "", e->cells[i].text);
		cells_drop(e);
		e->depth = 0;
	}
	fputc('\n', e->out);
	return ferror(e->out) ? -EIO : 0;
}

void emit_section(struct emit *e, const char *key)
{
	assert(!e->in_table && !e->stream);
	if (e->json) {
		json_open(e, key, '{');
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
	text_fields(e);
	e->depth--;
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
	} else if (e->in_table || e->stream) {
		cell_add(e, NULL, text, right);
	} else {
		cell_add(e, label_of(key, false), text, right);
	}
}

void emit_u64(struct emit *e, const char *key, uint64_t v)
{
	char *text = format("%" PRIu64, v);
	char *json = must(strdup(text));

	value(e, key, json, text, true);
	free(json);
}

void emit_i64(struct emit *e, const char *key, int64_t v)
{
	char *text = format("%" PRId64, v);
	char *json = must(strdup(text));

	value(e, key, json, text, true);
	free(json);
}

void emit_bytes(struct emit *e, const char *key, uint64_t bytes)
{
	char *json = format("%" PRIu64, bytes);

	value(e, key, json, emit_human_bytes(bytes), true);
	free(json);
}

void emit_real(struct emit *e, const char *key, double v, int decimals)
{
	char *json = isfinite(v) ? format("%.*f", decimals, v) : must(strdup("null"));

	value(e, key, json, must(strdup(isfinite(v) ? json : "-")), true);
	free(json);
}

void emit_percent(struct emit *e, const char *key, double percent)
{
	char *json = isfinite(percent) ? format("%.1f", percent) : must(strdup("null"));

	value(e, key, json, isfinite(percent) ? format("%.1f %%", percent) : must(strdup("-")),
	      true);
	free(json);
}

void emit_hex(struct emit *e, const char *key, uint64_t v)
{
	char *json = format("\"0x%" PRIx64 "\"", v);

	value(e, key, json, format("0x%" PRIx64, v), true);
	free(json);
}

void emit_bool(struct emit *e, const char *key, bool v)
{
	value(e, key, v ? "true" : "false", must(strdup(v ? "yes" : "no")), false);
}

static void string(struct emit *e, const char *key, const void *data, size_t length, bool keep)
{
	bool exact;
	char *json = emit_json_string(data, length, &exact);

	value(e, key, json, emit_printable(data, length), false);
	free(json);
	if (e->json && keep && !exact) {
		char *base64 = emit_base64(data, length);
		char *name = format("%s_base64", key);

		json_member(e, name);
		fprintf(e->out, "\"%s\"", base64);
		free(base64);
		free(name);
	}
}

void emit_none(struct emit *e, const char *key)
{
	value(e, key, "null", must(strdup("-")), false);
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

void emit_time(struct emit *e, const char *key, uint64_t ns)
{
	char *utc = emit_iso_time(ns, true);
	char *json = format("\"%s\"", utc);

	value(e, key, json, emit_iso_time(ns, false), false);
	free(utc);
	free(json);
}
