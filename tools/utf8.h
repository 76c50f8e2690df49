/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.h - which bytes are valid UTF-8 (RFC 3629). Pure. */
#ifndef TOOLS_UTF8_H
#define TOOLS_UTF8_H

#include <stddef.h>

/* Bytes of the valid sequence that s starts with, 1 to 4; 0: there is none. length >= 1. */
static inline size_t utf8_sequence(const unsigned char *s, size_t length)
{
	unsigned char low = 0x80, high = 0xbf; /* bounds of the second byte */
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (length < n)
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0; /* overlong */
	else if (s[0] == 0xed)
		high = 0x9f; /* surrogates */
	else if (s[0] == 0xf0)
		low = 0x90; /* overlong */
	else if (s[0] == 0xf4)
		high = 0x8f; /* above U+10FFFF */
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

/* Characters in it, a broken byte counting as one. */
static inline size_t utf8_length(const char *s, size_t length)
{
	size_t count = 0;

	for (size_t i = 0; i < length; count++) {
		size_t n = utf8_sequence((const unsigned char *)s + i, length - i);

		i += n ? n : 1;
	}
	return count;
}

#endif
