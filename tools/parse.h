/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parse.h - what users write on a command line: sizes, numbers, modes, levels, times. Pure functions
 * (of the time zone too, for times): 0, -EINVAL (not such a thing) or -ERANGE (too large or small).
 */
#ifndef TOOLS_PARSE_H
#define TOOLS_PARSE_H

#include <stdint.h>

int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret);
/* Bytes: digits and K, M, G or T, in either case; "KiB" and the like are the same. */
int parse_size(const char *text, uint64_t *ret);
/* Permission bits, octal, at most 0777. */
int parse_mode(const char *text, uint32_t *ret);
/* Syslog severity: 0 to 7 or its name. */
int parse_level(const char *text, int *ret);
const char *parse_level_name(int level);
/* A bit for each of: "L" that level or graver, "L..M" or "L-M" from one to the other. */
int parse_levels(const char *text, unsigned *mask);
/* Node list, "0-3,5", as a bit mask of nodes 0 to 63. -EEXIST: one of them is named twice. */
int parse_nodes(const char *text, uint64_t *ret);
/*
 * A point in time as nanoseconds of CLOCK_REALTIME: "2026-01-31", "2026-01-31T12:30[:15[.5]]" with
 * nothing (local), "Z" or "+01:00" after it and 'T' or a space between; "12:30[:15]" (today); "now",
 * "today", "yesterday"; "-5m", "-1h30m", "10 min ago" before now_ns (s, m, h, d, w, and words for them);
 * "1700000000[.5]", with '@' before it or not.
 */
int parse_time(const char *text, uint64_t now_ns, uint64_t *ret);

#endif
