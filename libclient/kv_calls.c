/* SPDX-License-Identifier: Apache-2.0 */
/* Structured records: written as a text and values by key, read as such. */
#include <errno.h>
#include <string.h>

#include "attach.h"
#include "fields.h"
#include "log_inside.h"
#include "ring.h"

#define SMALL_BYTES 512 /* longer ones are put together in the ring */

_Static_assert((int)FIELDS_STRING == SHMA_TYPE_STR && (int)FIELDS_INT == SHMA_TYPE_INT &&
		       (int)FIELDS_UINT == SHMA_TYPE_UINT && (int)FIELDS_DOUBLE == SHMA_TYPE_DOUBLE &&
		       (int)FIELDS_BOOL == SHMA_TYPE_BOOL && (int)FIELDS_BYTES == SHMA_TYPE_BYTES,
	       "types");
_Static_assert(FIELDS_BYTES_MAX == SHMA_RECORD_MAX, "a record's fields fit it");

/* ---- writing ---- */

static struct fields_field field_of(const struct shma_kv *kv)
{
	struct fields_field field = {
		.key = kv->key,
		.key_bytes = kv->key_len || !kv->key ? kv->key_len : strlen(kv->key),
		.type = (enum fields_type)kv->type,
		.bytes = kv->len,
	};

	switch (kv->type) {
	case SHMA_TYPE_DOUBLE: field.value.d = kv->value.d; break;
	case SHMA_TYPE_BOOL: field.value.b = kv->value.b; break;
	case SHMA_TYPE_INT:
	case SHMA_TYPE_UINT: field.value.u = kv->value.u; break;
	default: field.value.data = kv->value.bytes;
	}
	return field;
}

/* Bytes of a record of them, in *ret. -EINVAL: no such key or type, or too many; -EMSGSIZE. */
static int measure(size_t text_bytes, const struct shma_kv *kv, size_t n, size_t *ret)
{
	size_t sum = FIELDS_HEAD_BYTES + text_bytes;

	if (n > FIELDS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n && sum <= SHMA_RECORD_MAX; i++) {
		struct fields_field field = field_of(&kv[i]);
		size_t bytes = fields_measure(&field);

		if (!bytes)
			return field.bytes > FIELDS_BYTES_MAX ? -EMSGSIZE : -EINVAL;
		sum += bytes;
	}
	*ret = sum;
	return sum > SHMA_RECORD_MAX ? -EMSGSIZE : 0;
}

static void encode(void *to, const char *text, size_t text_bytes, const struct shma_kv *kv, size_t n)
{
	char *at = fields_begin(to, text, text_bytes, (uint32_t)n);

	for (size_t i = 0; i < n; i++) {
		struct fields_field field = field_of(&kv[i]);

		at = fields_put(at, &field);
	}
}

int shma_log_kv(shma *s, int level, const char *text, const struct shma_kv *kv, size_t n)
{
	size_t text_bytes = text ? strlen(text) : 0, bytes;
	char small[SMALL_BYTES];
	struct shma_record rec;
	int r = text_bytes > SHMA_RECORD_MAX ? -EMSGSIZE : measure(text_bytes, kv, n, &bytes);

	if (r)
		return r;
	if (bytes <= sizeof(small)) {
		encode(small, text, text_bytes, kv, n);
		return log_write_fields(s, level, small, bytes);
	}
	r = log_reserve_fields(s, &rec, level, bytes);
	if (r)
		return r;
	encode(rec.data, text, text_bytes, kv, n);
	return shma_log_commit(s, &rec);
}

/* ---- reading ---- */

const char *shma_record_text(const struct shma_record *rec, size_t *len)
{
	const char *text;
	int r;

	*len = rec->len;
	if (!rec->fields)
		return rec->data;
	r = fields_text(rec->data, rec->len, &text, len);
	if (!r)
		return text;
	*len = 0;
	errno = -r;
	return NULL;
}

static struct shma_kv kv_of(const struct fields_field *field)
{
	struct shma_kv kv = {
		.key = field->key,
		.key_len = field->key_bytes,
		.type = (int)field->type,
		.len = field->bytes,
	};

	switch (field->type) {
	case FIELDS_DOUBLE: kv.value.d = field->value.d; break;
	case FIELDS_BOOL: kv.value.b = field->value.b; break;
	case FIELDS_INT:
	case FIELDS_UINT: kv.value.u = field->value.u; break;
	default: kv.value.bytes = field->value.data;
	}
	return kv;
}

int shma_record_kv(const struct shma_record *rec, size_t *cursor, struct shma_kv *ret)
{
	struct fields_field field;
	int r = rec->fields ? fields_next(rec->data, rec->len, cursor, &field) : 0;

	if (r == 1)
		*ret = kv_of(&field);
	return r;
}
