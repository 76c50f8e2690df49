/* SPDX-License-Identifier: Apache-2.0 */
/* symbols.h - names of calls, by a binary's build-id and an offset in it: of processes that are gone as well. Only a
 * file that bears the build-id is asked; another one at the same path is none of it. By elfutils' libdw. */
#ifndef TOOLS_SYMBOLS_H
#define TOOLS_SYMBOLS_H

#include "profile.h"

struct symbols;

struct symbol {
	const char *function; /* NULL: not known */
	const char *file;     /* of the source; NULL: not known */
	int line;
};

/* NULL: no memory. */
struct symbols *symbols_open(void);
void symbols_close(struct symbols *s);
/* What lies there; texts are good until symbols_close(). */
struct symbol symbols_find(struct symbols *s, const struct profile_binary *binary, uint64_t offset);

#endif
