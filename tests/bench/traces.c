/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traces.c - recorded traces, given by option or environment: unpacked, and open for children to read.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "bench.h"

/* All of a file; false: it is cut off, damaged, or cannot be written. */
static bool unpack_stream(ZSTD_DStream *zstd, FILE *from, int to)
{
	static char packed[1 << 17], plain[1 << 17];
	size_t n, left = 0;

	while ((n = fread(packed, 1, sizeof(packed), from)) > 0) {
		ZSTD_inBuffer in = {packed, n, 0};

		while (in.pos < in.size) {
			ZSTD_outBuffer out = {plain, sizeof(plain), 0};

			left = ZSTD_decompressStream(zstd, &out, &in);
			if (ZSTD_isError(left) || write(to, plain, out.pos) != (ssize_t)out.pos)
				return false;
		}
	}
	return left == 0;
}

/* Unpacks FILE.zst into memory that children open by path. The descriptor stays open till the end. */
static int unpack(const char *path)
{
	int fd = memfd_create("trace", 0);
	ZSTD_DStream *zstd = ZSTD_createDStream();
	FILE *from = fopen(path, "re");
	bool good = fd >= 0 && zstd && from && unpack_stream(zstd, from, fd);

	ZSTD_freeDStream(zstd);
	if (from)
		fclose(from);
	if (good)
		return fd;
	fprintf(stderr, "bench: cannot unpack %s\n", path);
	if (fd >= 0)
		close(fd);
	return -1;
}

/* By what it begins with, as the tool has it: its name may be any. */
static bool is_packed(const char *path)
{
	static const unsigned char magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
	unsigned char first[4];
	FILE *f = fopen(path, "re");
	bool packed = f && fread(first, sizeof(first), 1, f) == 1 && !memcmp(first, magic, sizeof(magic));

	if (f)
		fclose(f);
	return packed;
}

static void trace_add(const char *path)
{
	char copy[4096];
	int t = opt.ntraces;

	if (t == TRACES_MAX)
		return;
	if (access(path, R_OK)) {
		fprintf(stderr, "bench: SKIPPED trace %s: %s\n", path, strerror(errno));
		return;
	}
	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(opt.trace_names[t], sizeof(opt.trace_names[t]), "%.31s", basename(copy));
	opt.trace_names[t][strcspn(opt.trace_names[t], ".")] = '\0';
	if (is_packed(path)) {
		int fd = unpack(path);

		if (fd < 0)
			return;
		snprintf(opt.trace_paths[t], sizeof(opt.trace_paths[t]), "/proc/%d/fd/%d",
			 (int)getpid(), fd);
	} else {
		int fd = open(path, O_RDONLY);

		snprintf(opt.trace_paths[t], sizeof(opt.trace_paths[t]), "/proc/%d/fd/%d",
			 (int)getpid(), fd);
	}
	opt.ntraces++;
}

/* BENCH_TRACES: paths separated by ':'. */
static void traces_of_environment(void)
{
	const char *list = getenv("BENCH_TRACES");
	char *copy = list ? strdup(list) : NULL, *save = NULL;

	for (char *path = copy ? strtok_r(copy, ":", &save) : NULL; path;
	     path = strtok_r(NULL, ":", &save))
		trace_add(path);
	free(copy);
}

void traces_prepare(void)
{
	int given = opt.ntraces;

	opt.ntraces = 0;
	for (int i = 0; i < given; i++)
		trace_add(opt.traces[i]);
	if (!given)
		traces_of_environment();
	if (!opt.ntraces)
		fprintf(stderr,
			"bench: SKIPPED the replay of traces: give --trace FILE or BENCH_TRACES=FILE[:FILE]\n");
}
