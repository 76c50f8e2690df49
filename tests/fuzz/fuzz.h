/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - what a target of the fuzzer is. Built with clang -fsanitize=fuzzer it is fed by that; built by
 * make it has replay.c's main(), which replays files, or its own seeds and mutations of them.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* One input. Anything but 0, a signal, or a broken promise (abort) is a find. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each target's own: inputs to begin with. The bytes of number i, at most FUZZ_INPUT_MAX; 0: no more. */
size_t fuzz_seed(unsigned i, uint8_t *bytes);

#define FUZZ_INPUT_MAX 4096u

/* A promise that holds for every input. */
#define FUZZ_PROMISE(condition)           \
	do {                              \
		if (!(condition))         \
			__builtin_trap(); \
	} while (0)

#endif
