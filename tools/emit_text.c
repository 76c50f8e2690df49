/* SPDX-License-Identifier: Apache-2.0 */
/* emit_text.c - values as text, for JSON and for people. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "emit.h"
#include "emit_text.h"
#include "utf8.h"

#define NS_PER_SECOND UINT64_C(1000000000)

/* ---- small things ---- */

void *emit_must(void *p)
{
	if (!p) {
		fputs("shmctl-tool: out of memory\n", stderr);
		exit(1);
	}
	return p;
}

char *emit_format(const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	return emit_must(text);
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
	char *text = emit_must(length > (SIZE_MAX - 3) / 6 ? NULL : malloc(6 * length + 3));
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
	char *text = emit_must(length > (SIZE_MAX - 1) / 4 ? NULL : malloc(4 * length + 1));
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
	char *text = emit_must(length > SIZE_MAX / 2 ? NULL : malloc((length + 2) / 3 * 4 + 1));
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
		return emit_format("%" PRIu64 " %s", bytes / unit, units[u]);
	return emit_format("%.1f %s", (double)bytes / (double)unit, units[u]);
}

char *emit_iso_time(uint64_t ns, bool utc)
{
	time_t seconds = (time_t)(ns / NS_PER_SECOND);
	unsigned fraction = (unsigned)(ns % NS_PER_SECOND);
	struct tm tm;
	char day[64];

	if (!(utc ? gmtime_r(&seconds, &tm) : localtime_r(&seconds, &tm)) ||
	    !strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm))
		return emit_format("@%" PRIu64 ".%09u", ns / NS_PER_SECOND, fraction);
	if (utc)
		return emit_format("%s.%09uZ", day, fraction);
	day[10] = ' ';
	return emit_format("%s.%06u", day, fraction / 1000);
}

char *emit_exact_double(double v)
{
	char *text = NULL;

	for (int digits = 15; digits <= 17; digits++) {
		free(text);
		text = emit_format("%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	return text;
}
