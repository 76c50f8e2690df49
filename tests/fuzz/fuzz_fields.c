/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_fields.c - structured records, as a process may have written them. The first eight bytes are a cursor
 * that nobody gave out, the rest is a payload. Promises: nothing outside the payload is read, the reader
 * comes to an end, and what was read to the end is the same bytes when it is written again.
 */
#include <stdlib.h>
#include <string.h>

#include "fields.h"
#include "fuzz.h"

/* Within the payload. */
static void check_inside(const char *data, size_t size, const void *part, size_t bytes)
{
	const char *p = part;

	FUZZ_PROMISE(p >= data && bytes <= size && (size_t)(p - data) <= size - bytes);
}

static void check_field(const char *data, size_t size, const struct fields_field *field)
{
	check_inside(data, size, field->key, field->key_bytes);
	FUZZ_PROMISE(field->key_bytes >= 1 && field->key_bytes <= FIELDS_KEY_MAX);
	if (field->type == FIELDS_STRING || field->type == FIELDS_BYTES)
		check_inside(data, size, field->value.data, field->bytes);
	FUZZ_PROMISE(fields_measure(field) == FIELDS_HEAD_BYTES + field->key_bytes + field->bytes);
}

/* All of a payload that is whole, written anew. */
static void write_again(const char *data, size_t size, uint32_t count)
{
	char *copy = malloc(size), *at;
	struct fields_field field;
	size_t cursor = 0, text_bytes;
	const char *text;

	FUZZ_PROMISE(copy && !fields_text(data, size, &text, &text_bytes));
	at = fields_begin(copy, text, text_bytes, count);
	while (fields_next(data, size, &cursor, &field) == 1)
		at = fields_put(at, &field);
	FUZZ_PROMISE(at == copy + size && memcmp(copy, data, size) == 0);
	free(copy);
}

static void fuzz_payload(const char *data, size_t size)
{
	struct fields_field field;
	size_t cursor = 0, text_bytes;
	const char *text;
	uint32_t count = 0;
	int r;

	if (!fields_text(data, size, &text, &text_bytes))
		check_inside(data, size, text, text_bytes);
	while ((r = fields_next(data, size, &cursor, &field)) == 1) {
		check_field(data, size, &field);
		FUZZ_PROMISE(++count <= size);
	}
	if (!r)
		write_again(data, size, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fields_field field;
	size_t cursor;
	char *payload;

	if (size < sizeof(cursor) || size > FUZZ_INPUT_MAX)
		return 0;
	memcpy(&cursor, data, sizeof(cursor));
	size -= sizeof(cursor);
	payload = malloc(size + !size); /* of its own, so that a look behind its end is seen */
	FUZZ_PROMISE(payload);
	memcpy(payload, data + sizeof(cursor), size);
	if (fields_next(payload, size, &cursor, &field) == 1)
		check_field(payload, size, &field);
	fuzz_payload(payload, size);
	free(payload);
	return 0;
}

/* ---- inputs to begin with ---- */

size_t fuzz_seed(unsigned i, uint8_t *bytes)
{
	static const struct fields_field fields[] = {
		{ .key = "user", .key_bytes = 4, .type = FIELDS_STRING, .bytes = 3, .value.data = "joe" },
		{ .key = "i", .key_bytes = 1, .type = FIELDS_INT, .value.i = -5 },
		{ .key = "u", .key_bytes = 1, .type = FIELDS_UINT, .value.u = 5 },
		{ .key = "double", .key_bytes = 6, .type = FIELDS_DOUBLE, .value.d = 0.5 },
		{ .key = "b", .key_bytes = 1, .type = FIELDS_BOOL, .value.b = 1 },
		{ .key = "raw", .key_bytes = 3, .type = FIELDS_BYTES, .bytes = 2, .value.data = "\1\2" },
	};
	unsigned count = sizeof(fields) / sizeof(fields[0]);
	char *at;

	if (i > count)
		return 0;
	memset(bytes, 0, sizeof(size_t));
	at = fields_begin(bytes + sizeof(size_t), "request", i % 2 ? 7 : 0, i);
	for (unsigned n = 0; n < i; n++)
		at = fields_put(at, &fields[n]);
	return (size_t)((uint8_t *)at - bytes);
}
