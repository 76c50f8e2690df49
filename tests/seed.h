/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seed.h - where a test's chance comes from: SHMA_TEST_SEED, or else the clock and the process. What is printed, set
 * in the environment, has a later run make the same choices, though not at the same instants.
 */
#ifndef TESTS_SEED_H
#define TESTS_SEED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t test_seed_silent(void)
{
	const char *given = getenv("SHMA_TEST_SEED");

	return given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
}

/* Of what is tested: a check's name, or NULL. */
static inline uint64_t test_seed(const char *test)
{
	uint64_t chosen = test_seed_silent();

	printf("%s%sSHMA_TEST_SEED=%llu\n", test ? test : "", test ? ": " : "", (unsigned long long)chosen);
	fflush(stdout);
	return chosen;
}

#endif
