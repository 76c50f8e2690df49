/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_segments DIRECTORY MIB : segments of a log for measuring queries: records of 100 B, one each 10 µs, in fragments of
 * 64 KiB of a ring of 64 blocks, in segments of 64 MiB. On stdout the time of the record in the middle, in ns.
 */
#define STAGE_ALONE
#include "../unit/segment_stage.h"

#define SEGMENT_MIB 64u
#define MOST_MIB (UINT64_C(32) << 10)
#define STEP_NS	UINT64_C(10000)
#define PER_FRAGMENT 512u /* records of 128 bytes */

static uint64_t now = UINT64_C(1700000000000000000), seq;

static void put_fragment(struct stage *s, uint64_t n)
{
	struct stage_payload p = { 0 };
	char text[100];

	for (unsigned i = 0; i < PER_FRAGMENT; i++) {
		snprintf(text, sizeof(text), "record %llu of a program that has something to say now and then, as programs do, %u",
			 (unsigned long long)++seq, i * 7919u % 1000);
		stage_record(&p, NULL, 6, now += STEP_NS, seq, text, sizeof(text));
	}
	stage_own(s, (uint32_t)(n % 64), (uint32_t)(n / 64) + 1, 0, &p);
	free(p.data);
}

int main(int argc, char **argv)
{
	uint64_t mib = argc == 3 ? strtoull(argv[2], NULL, 0) : 0, segments = mib / SEGMENT_MIB, n = 0, middle = 0;
	struct stage_dir d;
	struct stage s;

	if (!segments || mib > MOST_MIB || strlen(argv[1]) >= sizeof(d.path)) {
		fprintf(stderr, "usage: log_segments DIRECTORY MIB, from %u to %llu\n", SEGMENT_MIB,
			(unsigned long long)MOST_MIB);
		return 2;
	}
	snprintf(d.path, sizeof(d.path), "%s", argv[1]);
	for (uint64_t number = 1; number <= segments; number++) {
		stage_open(&s, number);
		while (s.bytes.len < (size_t)SEGMENT_MIB << 20)
			put_fragment(&s, n++);
		stage_end(&s);
		stage_write(&s, &d);
		stage_close(&s);
		if (number == segments / 2 + 1)
			middle = now;
	}
	printf("%llu\n", (unsigned long long)middle);
	return 0;
}
