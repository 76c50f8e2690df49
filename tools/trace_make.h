/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_make.h - a trace of what the preloaded library has left of a process, see preload/trace_raw.h.
 */
#ifndef TOOLS_TRACE_MAKE_H
#define TOOLS_TRACE_MAKE_H

#include <stdint.h>

struct trace_made {
	uint64_t events;
	uint32_t objects, threads, programs; /* one, and one more for each exec */
};

/*
 * Events of all threads, in the order in which they happened, as a trace; compressed by zstd if the name of the file
 * ends so. The threads' numbers are taken modulo 256, sizes are 4 GiB - 1 at most; what was live when the process became
 * another program is freed there. 0, -ENODATA: nothing was recorded; -errno of reading or writing.
 */
int trace_make(const char *dir, const char *file, struct trace_made *ret);

#endif
