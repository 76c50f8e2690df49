/* SPDX-License-Identifier: Apache-2.0 */
/* pprof.h - a profile as pprof reads it: profile.proto of github.com/google/pprof, gzipped. */
#ifndef TOOLS_PPROF_H
#define TOOLS_PPROF_H

#include "profile_sites.h"

/* 0, -errno. The file is whole or not there. */
int pprof_write(const char *path, const struct profile_places *places, const struct profile_totals *totals,
		uint64_t now_ns);

#endif
