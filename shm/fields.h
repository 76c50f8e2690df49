/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fields.h - structured payloads: a text, and typed values by key, in one run of bytes that needs no schema.
 *
 *   u32 text bytes | u16 fields | u16 0 | text | for each field:
 *   u8 type | u8 key bytes | u16 0 | u32 value bytes | key | value
 *
 * Little endian, packed, nothing terminated. A record's payload is one if its info says so
 * (RING_INFO_FIELDS). Whoever reads one believes no byte of it: the decoder touches nothing outside the
 * bytes it is given, and comes to an end.
 */
#ifndef SHM_FIELDS_H
#define SHM_FIELDS_H

#include <stddef.h>
#include <stdint.h>

#define FIELDS_HEAD_BYTES 8u /* before the text; and before each key */
#define FIELDS_MAX 65535u
#define FIELDS_KEY_MAX 255u
#define FIELDS_BYTES_MAX ((size_t)1 << 20) /* as a record */

/* The numbers of SHMA_TYPE_... */
enum fields_type {
	FIELDS_STRING = 1,
	FIELDS_INT = 2,	   /* 8 bytes, as the next two */
	FIELDS_UINT = 3,
	FIELDS_DOUBLE = 4,
	FIELDS_BOOL = 5,   /* 1 byte, 0 or 1 */
	FIELDS_BYTES = 6
};

struct fields_field {
	const char *key;
	size_t key_bytes;
	enum fields_type type;
	size_t bytes;	      /* of a string, or of bytes */
	union {
		const void *data; /* of a string, or of bytes */
		int64_t i;
		uint64_t u;
		double d;
		int b;
	} value;
};

/* ---- writing: measure all, begin, then put each in order ---- */

/* Bytes that a field takes; 0: there is no such field. */
size_t fields_measure(const struct fields_field *field);
/* Where the first field goes. There must be room for head, text and all fields. */
char *fields_begin(void *to, const char *text, size_t text_bytes, uint32_t count);
/* Where the next one goes. */
char *fields_put(char *to, const struct fields_field *field);

/* ---- reading ---- */

/* The text, in place. 0, or -EUCLEAN. */
int fields_text(const void *data, size_t len, const char **text, size_t *text_bytes);
/* The next field, in place; *cursor is 0 at first. 1; 0 at the end; -EUCLEAN. */
int fields_next(const void *data, size_t len, size_t *cursor, struct fields_field *ret);

#endif
