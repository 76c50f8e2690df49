/* SPDX-License-Identifier: Apache-2.0 */
#include "pprof.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

/* Field numbers of profile.proto. */
enum { PROFILE_SAMPLE_TYPE = 1, PROFILE_SAMPLE = 2, PROFILE_MAPPING = 3, PROFILE_LOCATION = 4, PROFILE_FUNCTION = 5,
       PROFILE_STRING_TABLE = 6, PROFILE_TIME_NANOS = 9, PROFILE_PERIOD_TYPE = 11, PROFILE_PERIOD = 12 };
enum { VALUE_TYPE = 1, VALUE_UNIT = 2 };
enum { SAMPLE_LOCATIONS = 1, SAMPLE_VALUES = 2 };
enum { MAPPING_ID = 1, MAPPING_START = 2, MAPPING_LIMIT = 3, MAPPING_FILE = 5, MAPPING_BUILD_ID = 6, MAPPING_HAS_FUNCTIONS = 7 };
enum { LOCATION_ID = 1, LOCATION_MAPPING = 2, LOCATION_ADDRESS = 3, LOCATION_LINE = 4 };
enum { LINE_FUNCTION = 1, LINE_NUMBER = 2 };
enum { FUNCTION_ID = 1, FUNCTION_NAME = 2, FUNCTION_SYSTEM_NAME = 3, FUNCTION_FILE = 4 };

struct message {
	unsigned char *data;
	size_t len, room;
	bool failed;
};

struct writer {
	struct message out;
	char **strings;
	size_t string_count;
	struct profile_binary *binaries; /* mapping i + 1 */
	size_t binary_count;
	uint64_t locations; /* so many; each call has one, and a function of the same number */
};

/* ---- the wire format: varints, and bytes behind their length ---- */

static void put(struct message *m, const void *data, size_t len)
{
	if (m->len + len > m->room) {
		size_t room = 2 * (m->len + len);
		unsigned char *grown = realloc(m->data, room);

		if (!grown) {
			m->failed = true;
			return;
		}
		m->data = grown;
		m->room = room;
	}
	if (len)
		memcpy(m->data + m->len, data, len);
	m->len += len;
}

static void put_varint(struct message *m, uint64_t value)
{
	unsigned char bytes[10];
	size_t n = 0;

	for (; value >= 0x80; value >>= 7)
		bytes[n++] = (unsigned char)(value | 0x80);
	bytes[n++] = (unsigned char)value;
	put(m, bytes, n);
}

static void put_number(struct message *m, int field, uint64_t value)
{
	put_varint(m, (uint64_t)field << 3);
	put_varint(m, value);
}

static void put_bytes(struct message *m, int field, const void *data, size_t len)
{
	put_varint(m, (uint64_t)field << 3 | 2);
	put_varint(m, len);
	put(m, data, len);
}

/* Ends a message as a field of another. */
static void put_message(struct message *to, int field, struct message *m)
{
	to->failed |= m->failed;
	put_bytes(to, field, m->data, m->len);
	free(m->data);
	memset(m, 0, sizeof(*m));
}

/* ---- tables ---- */

static uint64_t string_of(struct writer *w, const char *text)
{
	char **list;

	text = text ? text : "";
	for (size_t i = 0; i < w->string_count; i++)
		if (!strcmp(w->strings[i], text))
			return i;
	list = realloc(w->strings, (w->string_count + 1) * sizeof(*list));
	if (list)
		w->strings = list;
	if (!list || !(list[w->string_count] = strdup(text))) {
		w->out.failed = true;
		return 0;
	}
	return w->string_count++;
}

static void put_type(struct writer *w, int field, const char *type, const char *unit)
{
	struct message m = { 0 };

	put_number(&m, VALUE_TYPE, string_of(w, type));
	put_number(&m, VALUE_UNIT, string_of(w, unit));
	put_message(&w->out, field, &m);
}

static void put_mapping(struct writer *w, const struct profile_binary *b, uint64_t id)
{
	char text[2 * sizeof(b->id) + 1] = "";
	struct message m = { 0 };

	for (uint32_t i = 0; i < b->id_bytes; i++)
		snprintf(text + 2 * i, 3, "%02x", b->id[i]);
	put_number(&m, MAPPING_ID, id);
	put_number(&m, MAPPING_START, 0);
	put_number(&m, MAPPING_LIMIT, UINT64_C(1) << 47);
	put_number(&m, MAPPING_FILE, string_of(w, b->path));
	put_number(&m, MAPPING_BUILD_ID, string_of(w, text));
	put_number(&m, MAPPING_HAS_FUNCTIONS, 1);
	put_message(&w->out, PROFILE_MAPPING, &m);
}

static uint64_t mapping_of(struct writer *w, const struct profile_binary *b)
{
	struct profile_binary *list;

	for (size_t i = 0; i < w->binary_count; i++)
		if (!memcmp(&w->binaries[i], b, sizeof(*b)))
			return i + 1;
	list = realloc(w->binaries, (w->binary_count + 1) * sizeof(*list));
	if (!list) {
		w->out.failed = true;
		return 0;
	}
	w->binaries = list;
	list[w->binary_count++] = *b;
	put_mapping(w, b, w->binary_count);
	return w->binary_count;
}

static uint64_t put_call(struct writer *w, const struct profile_call *call)
{
	struct message function = { 0 }, location = { 0 }, line = { 0 };
	uint64_t id = ++w->locations, mapping = mapping_of(w, &call->binary);

	put_number(&function, FUNCTION_ID, id);
	put_number(&function, FUNCTION_NAME, string_of(w, call->name));
	put_number(&function, FUNCTION_SYSTEM_NAME, string_of(w, call->name));
	put_number(&function, FUNCTION_FILE, string_of(w, call->symbol.file));
	put_message(&w->out, PROFILE_FUNCTION, &function);
	put_number(&line, LINE_FUNCTION, id);
	put_number(&line, LINE_NUMBER, (uint64_t)call->symbol.line);
	put_number(&location, LOCATION_ID, id);
	put_number(&location, LOCATION_MAPPING, mapping);
	put_number(&location, LOCATION_ADDRESS, call->offset);
	put_message(&location, LOCATION_LINE, &line);
	put_message(&w->out, PROFILE_LOCATION, &location);
	return id;
}

static void put_place(struct writer *w, const struct profile_place *p)
{
	struct message sample = { 0 }, locations = { 0 }, values = { 0 };

	for (uint32_t i = 0; i < p->count; i++)
		put_varint(&locations, put_call(w, &p->calls[i]));
	put_varint(&values, (uint64_t)p->objects);
	put_varint(&values, (uint64_t)p->bytes);
	put_message(&sample, SAMPLE_LOCATIONS, &locations);
	put_message(&sample, SAMPLE_VALUES, &values);
	put_message(&w->out, PROFILE_SAMPLE, &sample);
}

static int save(const char *path, const struct message *m)
{
	gzFile f = gzopen(path, "wbe");
	int n;

	if (!f)
		return errno ? -errno : -ENOMEM;
	n = gzwrite(f, m->data, (unsigned)m->len);
	if (gzclose(f) == Z_OK && n == (int)m->len)
		return 0;
	unlink(path);
	return errno ? -errno : -EIO;
}

int pprof_write(const char *path, const struct profile_places *places, const struct profile_totals *totals,
		uint64_t now_ns)
{
	struct writer w = { .string_count = 0 };
	int err;

	string_of(&w, ""); /* the first, by its definition */
	put_type(&w, PROFILE_SAMPLE_TYPE, "inuse_objects", "count");
	put_type(&w, PROFILE_SAMPLE_TYPE, "inuse_space", "bytes");
	for (size_t i = 0; i < places->count; i++)
		put_place(&w, &places->list[i]);
	put_type(&w, PROFILE_PERIOD_TYPE, "space", "bytes");
	put_number(&w.out, PROFILE_PERIOD, totals->rate);
	put_number(&w.out, PROFILE_TIME_NANOS, now_ns);
	for (size_t i = 0; i < w.string_count; i++)
		put_bytes(&w.out, PROFILE_STRING_TABLE, w.strings[i], strlen(w.strings[i]));
	err = w.out.failed || w.out.len > INT32_MAX ? -ENOMEM : save(path, &w.out);
	for (size_t i = 0; i < w.string_count; i++)
		free(w.strings[i]);
	free(w.strings);
	free(w.binaries);
	free(w.out.data);
	return err;
}
