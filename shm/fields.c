/* SPDX-License-Identifier: Apache-2.0 */
/* Structured payloads, see fields.h. Neither half allocates, locks or calls the system. */
#include "fields.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* A cursor: offset 0-23, which is enough for any record | fields before it 24-39. */
#define CURSOR_SHIFT 24
_Static_assert(FIELDS_BYTES_MAX < (size_t)1 << CURSOR_SHIFT, "an offset fits a cursor");
_Static_assert(sizeof(size_t) == 8, "offset and count fit a cursor");

/* ---- numbers at any address ---- */

static void put16(char *to, uint16_t value)
{
	value = htole16(value);
	memcpy(to, &value, sizeof(value));
}

static void put32(char *to, uint32_t value)
{
	value = htole32(value);
	memcpy(to, &value, sizeof(value));
}

static void put64(char *to, uint64_t value)
{
	value = htole64(value);
	memcpy(to, &value, sizeof(value));
}

static uint16_t get16(const char *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return le16toh(value);
}

static uint32_t get32(const char *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const char *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return le64toh(value);
}

/* Bytes of a value whose type says how many; 0: it does not. */
static size_t fixed_bytes(enum fields_type type)
{
	switch (type) {
	case FIELDS_INT:
	case FIELDS_UINT:
	case FIELDS_DOUBLE:
		return 8;
	case FIELDS_BOOL:
		return 1;
	default:
		return 0;
	}
}

static bool type_valid(unsigned type)
{
	return type >= FIELDS_STRING && type <= FIELDS_BYTES;
}

/* ---- writing ---- */

static size_t value_bytes(const struct fields_field *field)
{
	size_t fixed = fixed_bytes(field->type);

	return fixed ? fixed : field->bytes;
}

size_t fields_measure(const struct fields_field *field)
{
	size_t bytes = value_bytes(field);

	if (!type_valid(field->type) || !field->key_bytes || field->key_bytes > FIELDS_KEY_MAX ||
	    bytes > FIELDS_BYTES_MAX)
		return 0;
	return FIELDS_HEAD_BYTES + field->key_bytes + bytes;
}

char *fields_begin(void *to, const char *text, size_t text_bytes, uint32_t count)
{
	char *at = to;

	put32(at, (uint32_t)text_bytes);
	put16(at + 4, (uint16_t)count);
	put16(at + 6, 0);
	if (text_bytes)
		memcpy(at + FIELDS_HEAD_BYTES, text, text_bytes);
	return at + FIELDS_HEAD_BYTES + text_bytes;
}

static void put_value(char *to, const struct fields_field *field)
{
	uint64_t bits = field->value.u;

	switch (field->type) {
	case FIELDS_DOUBLE:
		memcpy(&bits, &field->value.d, sizeof(bits));
		put64(to, bits);
		break;
	case FIELDS_INT:
	case FIELDS_UINT:
		put64(to, bits);
		break;
	case FIELDS_BOOL:
		*to = field->value.b != 0;
		break;
	default:
		if (field->bytes)
			memcpy(to, field->value.data, field->bytes);
	}
}

char *fields_put(char *to, const struct fields_field *field)
{
	size_t bytes = value_bytes(field);

	to[0] = (char)field->type;
	to[1] = (char)field->key_bytes;
	put16(to + 2, 0);
	put32(to + 4, (uint32_t)bytes);
	memcpy(to + FIELDS_HEAD_BYTES, field->key, field->key_bytes);
	put_value(to + FIELDS_HEAD_BYTES + field->key_bytes, field);
	return to + FIELDS_HEAD_BYTES + field->key_bytes + bytes;
}

/* ---- reading ---- */

int fields_text(const void *data, size_t len, const char **text, size_t *text_bytes)
{
	const char *head = data;
	size_t bytes;

	if (len < FIELDS_HEAD_BYTES || len > FIELDS_BYTES_MAX)
		return -EUCLEAN;
	bytes = get32(head);
	if (bytes > len - FIELDS_HEAD_BYTES || get16(head + 6))
		return -EUCLEAN;
	*text = head + FIELDS_HEAD_BYTES;
	*text_bytes = bytes;
	return 0;
}

static int get_value(struct fields_field *field, const char *from)
{
	uint64_t bits;

	switch (field->type) {
	case FIELDS_INT:
	case FIELDS_UINT:
		field->value.u = get64(from);
		return 1;
	case FIELDS_DOUBLE:
		bits = get64(from);
		memcpy(&field->value.d, &bits, sizeof(bits));
		return 1;
	case FIELDS_BOOL:
		field->value.b = *from;
		return *from & ~1 ? -EUCLEAN : 1;
	default:
		field->value.data = from;
		return 1;
	}
}

/* The field at a place with left bytes behind it; *bytes: all that it takes. */
static int get_field(const char *at, size_t left, struct fields_field *ret, size_t *bytes)
{
	unsigned type;
	size_t fixed;

	if (left < FIELDS_HEAD_BYTES)
		return -EUCLEAN;
	left -= FIELDS_HEAD_BYTES;
	type = (unsigned char)at[0];
	ret->key_bytes = (unsigned char)at[1];
	ret->bytes = get32(at + 4);
	if (!type_valid(type) || !ret->key_bytes || get16(at + 2) || ret->key_bytes > left ||
	    ret->bytes > left - ret->key_bytes)
		return -EUCLEAN;
	ret->type = (enum fields_type)type;
	fixed = fixed_bytes(ret->type);
	if (fixed && fixed != ret->bytes)
		return -EUCLEAN;
	ret->key = at + FIELDS_HEAD_BYTES;
	*bytes = FIELDS_HEAD_BYTES + ret->key_bytes + ret->bytes;
	return get_value(ret, ret->key + ret->key_bytes);
}

int fields_next(const void *data, size_t len, size_t *cursor, struct fields_field *ret)
{
	size_t at = *cursor & (((size_t)1 << CURSOR_SHIFT) - 1), before = *cursor >> CURSOR_SHIFT, bytes;
	const char *text;
	int r = fields_text(data, len, &text, &bytes);

	if (r)
		return r;
	if (!*cursor)
		at = FIELDS_HEAD_BYTES + bytes;
	if (at > len)
		return -EUCLEAN;
	/* So many fields, and nothing behind them. */
	if (before >= get16((const char *)data + 4))
		return at == len ? 0 : -EUCLEAN;
	r = get_field((const char *)data + at, len - at, ret, &bytes);
	if (r == 1)
		*cursor = (at + bytes) | (before + 1) << CURSOR_SHIFT;
	return r;
}
