/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - main() of a target without a fuzzer:
 *
 *   TARGET FILE…              each file is one input
 *   TARGET --seeds DIRECTORY  writes the inputs to begin with, a file each
 *   TARGET --mutate N [SEED]  the inputs to begin with, then N changed ones
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fuzz.h"

#include "../seed.h"

static uint64_t state;

/* xorshift64* (Vigna) */
static uint64_t chance(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t below(uint64_t n)
{
	return (chance() >> 16) % n;
}

static int replay(const char *path)
{
	static uint8_t bytes[1 << 20];
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!f) {
		perror(path);
		return 1;
	}
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	return LLVMFuzzerTestOneInput(bytes, n);
}

static int write_seeds(const char *directory)
{
	uint8_t bytes[FUZZ_INPUT_MAX];
	size_t n;

	for (unsigned i = 0; (n = fuzz_seed(i, bytes)) > 0; i++) {
		char path[512];
		FILE *f;

		snprintf(path, sizeof(path), "%s/seed-%03u", directory, i);
		f = fopen(path, "wb");
		if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) {
			perror(path);
			return 1;
		}
	}
	return 0;
}

static unsigned count_seeds(void)
{
	uint8_t bytes[FUZZ_INPUT_MAX];
	unsigned n = 0;

	while (fuzz_seed(n, bytes))
		n++;
	return n;
}

/* Changes, cuts or extends an input in a few places. */
static size_t mutate(uint8_t *bytes, size_t n)
{
	for (uint64_t times = 1 + below(6); times > 0; times--) {
		size_t at = n ? below(n) : 0;

		switch (below(5)) {
		case 0: n = n ? at : 0; break;
		case 1:
			if (n < FUZZ_INPUT_MAX)
				bytes[n++] = (uint8_t)chance();
			break;
		case 2:
			if (n)
				bytes[at] ^= (uint8_t)(1u << below(8));
			break;
		case 3:
			if (n > 8 && at + 8 <= n)
				memset(bytes + at, below(2) ? 0xff : 0, 8);
			break;
		default:
			if (n)
				bytes[at] = (uint8_t)chance();
		}
	}
	return n;
}

static int run_mutated(unsigned long count, uint64_t seed)
{
	unsigned seeds = count_seeds();
	int r = 0;

	printf("%u inputs to begin with\n", seeds);
	fflush(stdout);
	state = seed * 2 + 1;
	for (unsigned long i = 0; i < count + seeds && !r; i++) {
		uint8_t bytes[FUZZ_INPUT_MAX + 8] = { 0 };
		size_t n = fuzz_seed((unsigned)(i < seeds ? i : below(seeds)), bytes);

		r = LLVMFuzzerTestOneInput(bytes, i < seeds ? n : mutate(bytes, n));
	}
	return r || !seeds;
}

int main(int argc, char **argv)
{
	int r = 0;

	if (argc == 3 && !strcmp(argv[1], "--seeds"))
		return write_seeds(argv[2]);
	if (argc >= 3 && !strcmp(argv[1], "--mutate"))
		return run_mutated(strtoul(argv[2], NULL, 0),
				   argc > 3 ? strtoull(argv[3], NULL, 0) : test_seed(argv[0]));
	for (int i = 1; i < argc && !r; i++)
		r = replay(argv[i]);
	return r;
}
