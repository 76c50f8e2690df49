/* SPDX-License-Identifier: Apache-2.0 */
/*
 * emit.h - the one way data leaves the tool: the same calls print a table for people or JSON for
 * programs, so that the two cannot disagree.
 *
 * A document is an object of fields, sections (objects) and tables (arrays of objects). Keys are
 * given once, in lower_case, with the unit last: "live_bytes". JSON shows them as they are; the text
 * form derives its labels from them ("live", "LIVE") and prints values for people ("1.5 MiB").
 *
 * A stream is the other form, for records that come one at a time: JSON prints one object a line,
 * text one line. In it the fields of a section are shown to people as key=value.
 *
 * JSON is ASCII but for valid UTF-8; a byte that is not becomes U+FFFD, and emit_data() then adds the
 * exact bytes in base64 under "KEY_base64". Text escapes what a terminal might obey as \xNN.
 */
#ifndef TOOLS_EMIT_H
#define TOOLS_EMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EMIT_DEPTH 8

struct emit_cell {
	char *label; /* of a field; NULL in tables */
	char *text;
	bool right; /* aligned: numbers are */
	const char *paint;
};

struct emit {
	FILE *out;
	bool json;
	bool stream;
	bool utc;	    /* text shows times as JSON does */
	bool in_list;
	const char *paint;  /* see emit_paint() */
	unsigned depth;	       /* of open JSON containers */
	bool used[EMIT_DEPTH]; /* the container at this depth has a member already */
	bool printed;	       /* text: something stands above */
	bool in_table, in_row;
	const char *const *columns; /* of the open table, NULL-terminated */
	size_t column_count;
	size_t column;		 /* next in the open row */
	struct emit_cell *cells; /* text not yet printed: of a table, or fields */
	size_t cell_count, cell_room;
	FILE *held_for; /* out is memory, to be written here at the end; NULL: it is not */
	char *held;
	size_t held_length;
};

/* Starts a document (or a stream) on out. */
void emit_begin(struct emit *e, FILE *out, bool json);
void emit_begin_stream(struct emit *e, FILE *out, bool json);
/* A document of which nothing is printed before emit_end(), for what may fail half-way. */
void emit_begin_held(struct emit *e, FILE *out, bool json);
/* Ends it. 0, or -errno if anything could not be written. */
int emit_end(struct emit *e);
/* Ends it, wherever it is, without printing what was held back. */
void emit_drop(struct emit *e);

/* Streams: one record. */
void emit_record(struct emit *e);
int emit_record_end(struct emit *e);

void emit_section(struct emit *e, const char *key);
void emit_section_end(struct emit *e);

/* In a section of a stream: values of one key, which is given to each. */
void emit_list(struct emit *e, const char *key);
void emit_list_end(struct emit *e);

/* Text of a stream: the values that follow in this color, "31", until NULL. Must outlive the record. */
void emit_paint(struct emit *e, const char *sgr);

/* columns: the keys of each row, in order, ended by NULL; must outlive the table. */
void emit_table(struct emit *e, const char *key, const char *const *columns);
void emit_row(struct emit *e);
void emit_row_end(struct emit *e);
void emit_table_end(struct emit *e);

/* A line for people only: of a picture, a legend. It is printed as it is, so must be printable. */
void emit_line(struct emit *e, const char *line);

/* Values: of a field, or of the next column of a row, whose key must be the one declared. */
void emit_u64(struct emit *e, const char *key, uint64_t value);
void emit_i64(struct emit *e, const char *key, int64_t value);
void emit_bytes(struct emit *e, const char *key, uint64_t bytes); /* text: 1.5 MiB */
void emit_real(struct emit *e, const char *key, double value, int decimals);
void emit_double(struct emit *e, const char *key, double value); /* with all its digits; not finite: null */
void emit_percent(struct emit *e, const char *key, double percent); /* not finite: null, - */
void emit_hex(struct emit *e, const char *key, uint64_t value);	    /* JSON: a string */
void emit_bool(struct emit *e, const char *key, bool value);
void emit_string(struct emit *e, const char *key, const char *value); /* NULL: null, - */
void emit_none(struct emit *e, const char *key);		      /* null, - */
void emit_data(struct emit *e, const char *key, const void *data, size_t length);
void emit_blob(struct emit *e, const char *key, const void *data, size_t length); /* JSON: base64 */
void emit_time(struct emit *e, const char *key,
	       uint64_t ns); /* ISO 8601: UTC in JSON, else local */

/* A key that comes from outside, as the calls above may be given it: escaped for JSON, or printable.
 * malloc'ed, never NULL. */
char *emit_key(const struct emit *e, const void *key, size_t length);

/* What the emitter is made of, for messages and tests. The results are malloc'ed, never NULL. */
char *emit_json_string(const void *data, size_t length, bool *exact);
char *emit_printable(const void *data, size_t length);
char *emit_base64(const void *data, size_t length);
char *emit_human_bytes(uint64_t bytes);
char *emit_iso_time(uint64_t ns, bool utc);

#endif
