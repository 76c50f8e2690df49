/* SPDX-License-Identifier: Apache-2.0 */
/* log_fields ARENA : structured records of every type of value, for tool_log_query.sh. */
#include <math.h>
#include <shmalloc.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
	struct shma_kv one[] = { SHMA_KV_STR("user", "anna lee"), SHMA_KV_INT("status", -404),
				 SHMA_KV_UINT("bytes", UINT64_MAX), SHMA_KV_DOUBLE("took", 0.1),
				 SHMA_KV_BOOL("ok", 1), SHMA_KV_BYTES("raw", "\0\xff\n", 3) };
	struct shma_kv two[] = { SHMA_KV_STR("tag", "a"), SHMA_KV_STR("user", "x\"=\\y\n"), SHMA_KV_STR("tag", "b"),
				 SHMA_KV_DOUBLE("took", INFINITY), SHMA_KV_STR("odd key\"\n", ""),
				 SHMA_KV_BOOL("ok", 0) };
	shma *a;
	int r = argc == 2 ? shma_open(&a, argv[1], SHMA_EMBEDDED, NULL) : -1;

	if (r) {
		fprintf(stderr, "log_fields: %s\n", shma_strerror(r));
		return 1;
	}
	r = shma_log_kv(a, 4, "request of anna", one, sizeof(one) / sizeof(one[0]));
	if (!r)
		r = shma_log_kv(a, 3, "request of x", two, sizeof(two) / sizeof(two[0]));
	if (!r)
		r = shma_log_kv(a, 6, NULL, NULL, 0);
	if (!r)
		r = shma_log(a, 7, "plain user=anna");
	shma_close(a);
	return r ? 1 : 0;
}
