/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numbered.h - log records that tell their writer and number, and whose every byte can be checked: for programs that
 * write many and account for each of them elsewhere.
 */
#ifndef TESTS_CLI_NUMBERED_H
#define TESTS_CLI_NUMBERED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct numbered {
	uint32_t magic, writer;
	uint64_t number;
};
#define NUMBERED_MAGIC 0x64726169u

/* len: at least the size of the struct. */
static inline void numbered_make(char *data, size_t len, uint32_t writer, uint64_t number)
{
	struct numbered n = { NUMBERED_MAGIC, writer, number };

	memset(data, (int)((writer * 31 + number) & 0xff), len);
	memcpy(data, &n, sizeof n);
}

/* False: it is none, of no such writer, or not as it was made. */
static inline bool numbered_read(const char *data, size_t len, uint32_t writers, uint64_t numbers,
				 struct numbered *ret)
{
	if (len < sizeof *ret)
		return false;
	memcpy(ret, data, sizeof *ret);
	if (ret->magic != NUMBERED_MAGIC || ret->writer >= writers || ret->number >= numbers)
		return false;
	for (size_t i = sizeof *ret; i < len; i++)
		if ((unsigned char)data[i] != ((ret->writer * 31 + ret->number) & 0xff))
			return false;
	return true;
}

#endif
