/* SPDX-License-Identifier: Apache-2.0 */
/* drain_write ARENA RECORD-BYTES MIB: logs so much as fast as it can be taken, and says at how many MiB/s. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shmalloc.h"

#define HEADER 24u /* of a record, which goes to the disk too */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	size_t len = argc == 4 ? strtoul(argv[2], NULL, 0) : 0, all;
	char *data = calloc(1, len + 1);
	double start;
	shma *a;
	int err;

	if (!len || !data) {
		fprintf(stderr, "usage: drain_write ARENA RECORD-BYTES MIB\n");
		return 2;
	}
	all = strtoul(argv[3], NULL, 0) << 20;
	err = shma_open(&a, argv[1], 0, NULL);
	start = now();
	for (size_t bytes = 0; !err && bytes < all; bytes += len + HEADER)
		err = shma_log_write(a, 6, data, len);
	if (err) {
		fprintf(stderr, "%s\n", shma_strerror(err));
		return 1;
	}
	printf("%.0f\n", (double)(all >> 20) / (now() - start));
	shma_close(a);
	return 0;
}
