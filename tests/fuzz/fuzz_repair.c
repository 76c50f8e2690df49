/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_repair.c - an arena's file with changes made to it: checked, repaired, checked again, used. An
 * input is a list of changes of 8 bytes or more:
 *
 *   u8 how (of CHANGES) | u8 bytes 1..8 of a value | u32 where | the value
 *
 * "where" counts bytes over the pages that hold bookkeeping, so that every change hits something.
 * Promises: no signal; refused, or whole and of use.
 */
#include "fuzz.h"
#include "repair_stage.h"

enum change { CHANGE_SET, CHANGE_XOR, CHANGE_ZERO_PAGE, CHANGE_CUT, CHANGE_COPY_PAGE, CHANGES };

static uint64_t target(uint32_t where)
{
	return stage.targets[where / PAGE_SIZE % stage.target_count] + where % PAGE_SIZE;
}

static void change_bytes(int fd, uint64_t at, const uint8_t *value, size_t n, bool flip)
{
	uint8_t bytes[8] = { 0 };

	if (pread(fd, bytes, n, (off_t)at) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		bytes[i] = flip ? bytes[i] ^ value[i] : value[i];
	FUZZ_PROMISE(pwrite(fd, bytes, n, (off_t)at) == (ssize_t)n);
}

static void copy_page(int fd, uint64_t from, uint64_t to)
{
	char page[PAGE_SIZE] = { 0 };

	if (from && pread(fd, page, sizeof(page), (off_t)from) < 0)
		return;
	if (to >= PAGE_SIZE)
		FUZZ_PROMISE(pwrite(fd, page, sizeof(page), (off_t)to) == (ssize_t)sizeof(page));
}

static void change(int fd, const uint8_t *p, size_t n)
{
	uint64_t value = 0, at;
	uint32_t where;

	memcpy(&where, p + 2, sizeof(where));
	memcpy(&value, p + 6, n);
	at = target(where);
	switch (p[0] % CHANGES) {
	case CHANGE_SET: change_bytes(fd, at, p + 6, n, false); break;
	case CHANGE_XOR: change_bytes(fd, at, p + 6, n, true); break;
	case CHANGE_ZERO_PAGE: copy_page(fd, 0, at & ~(uint64_t)(PAGE_SIZE - 1)); break;
	case CHANGE_COPY_PAGE:
		copy_page(fd, target((uint32_t)value) & ~(uint64_t)(PAGE_SIZE - 1),
			  at & ~(uint64_t)(PAGE_SIZE - 1));
		break;
	default: FUZZ_PROMISE(ftruncate(fd, (off_t)(value % (stage.size + 1))) == 0);
	}
}

static void apply(int fd, const uint8_t *data, size_t size)
{
	while (size >= 7) {
		size_t n = 1 + data[1] % 8;

		if (6 + n > size)
			return;
		change(fd, data, n);
		data += 6 + n;
		size -= 6 + n;
	}
}

static void no_finding(void *context, const struct audit_finding *f)
{
	(void)context;
	(void)f;
}

/* The check may say anything; the repair must then be as it promises. */
static void judge(bool use)
{
	struct stage_verdict v = { .talk = false };

	audit_file(stage.path, false, no_finding, NULL);
	stage_repair(&v);
	if (v.result) {
		FUZZ_PROMISE(!v.seen[REPAIR_STILL]);
		FUZZ_PROMISE(v.result == -EUCLEAN || v.result == -EPROTO || v.result == -EXDEV);
		return;
	}
	FUZZ_PROMISE(stage_check() == 0);
	/* Filling it takes longer than all else: one input in four shows it. */
	if (use)
		FUZZ_PROMISE(stage_works() == NULL);
}

static void begin(void)
{
	static bool begun;

	if (begun)
		return;
	begun = true;
	stage_begin();
	atexit(stage_end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t sum = 0;
	int fd;

	begin();
	fd = stage_copy();
	FUZZ_PROMISE(fd >= 0);
	apply(fd, data, size);
	close(fd);
	for (size_t i = 0; i < size; i++)
		sum += data[i];
	judge(sum % 4 == 0);
	/* The fuzzer ends without a word. */
	unlink(stage.path);
	unlink(stage.life);
	return 0;
}

/* ---- inputs to begin with ---- */

static size_t put(uint8_t *bytes, enum change how, uint32_t where, uint64_t value)
{
	bytes[0] = (uint8_t)how;
	bytes[1] = 7;
	memcpy(bytes + 2, &where, sizeof(where));
	memcpy(bytes + 6, &value, sizeof(value));
	return 14;
}

/* A word in each page of bookkeeping, each kind of change once, and cuts at each part's start. */
size_t fuzz_seed(unsigned i, uint8_t *bytes)
{
	uint64_t cuts[7];

	begin();
	if (i < stage.target_count)
		return put(bytes, i % 2 ? CHANGE_SET : CHANGE_XOR, i * PAGE_SIZE + 8 * (i % 512),
			   i % 3 ? 0xff : UINT64_MAX);
	i -= (unsigned)stage.target_count;
	if (i < stage.target_count)
		return put(bytes, i % 2 ? CHANGE_ZERO_PAGE : CHANGE_COPY_PAGE, i * PAGE_SIZE,
			   UINT64_C(40503) * i);
	i -= (unsigned)stage.target_count;
	cuts[0] = 0;
	cuts[1] = stage.g.name_entries;
	cuts[2] = stage.g.page_map;
	cuts[3] = stage.g.ring;
	cuts[4] = stage.g.heap;
	cuts[5] = stage.g.heap + MIB(1);
	cuts[6] = stage.size;
	return i < LENGTH(cuts) ? put(bytes, CHANGE_CUT, 0, cuts[i]) : 0;
}
