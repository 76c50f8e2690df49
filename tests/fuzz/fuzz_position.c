/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_position.c - how far readers of a log have come, as somebody else may have written it. The first byte chooses:
 * the position's object in an arena, of which an input changes words (two bytes say which, eight what), or the shipper's
 * file. Promises: a reader opens or says why not, comes to the end of the log, and gives whole records, none of them
 * twice; a file that makes sense is written and read as the same.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "ring_position.h"
#include "ship_pump.h"
#include "shmalloc.h"

#define RECORDS 400u
#define CHANGE	10u /* bytes of an input for each */

static shma *arena;
static uint64_t *position; /* the object */
static uint64_t sound[2048];
static size_t words;
static char folder[] = "/tmp/fuzz-position.XXXXXX", file[64];

static void remove_all(void)
{
	DIR *d = opendir(folder);
	struct dirent *entry;

	while (d && (entry = readdir(d)))
		unlinkat(dirfd(d), entry->d_name, 0);
	closedir(d);
	rmdir(folder);
}

static void log_records(void)
{
	uint64_t record[64] = { 0 };

	for (uint64_t i = 0; i < RECORDS; i++) {
		record[0] = i;
		FUZZ_PROMISE(shma_log_write(arena, 6, record, 8 + i * 37 % 500) == 0);
	}
}

/* A position in the middle of a log that went round. */
static void read_some(void)
{
	struct shma_record record;
	struct shma_reader *r;

	FUZZ_PROMISE(shma_reader_open_at(arena, &r, "x", SHMA_FROM_OLDEST) == 0);
	for (int i = 0; i < 50; i++)
		FUZZ_PROMISE(shma_reader_next(r, &record, 0) == 1);
	shma_reader_close(r);
}

static void prepare(void)
{
	struct shma_options options = { .struct_size = sizeof(options), .capacity = 32u << 20,
					.log_capacity = 64u << 10 };
	char path[64];
	shma_handle h;

	if (arena)
		return;
	FUZZ_PROMISE(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/arena", folder);
	snprintf(file, sizeof(file), "%s/ship.position", folder);
	atexit(remove_all);
	FUZZ_PROMISE(shma_open(&arena, path, SHMA_CREATE | SHMA_EMBEDDED, &options) == 0);
	log_records();
	read_some();
	h = shma_lookup(arena, "log-position.x");
	position = shma_ptr(arena, h);
	words = shma_size(arena, h) / 8;
	FUZZ_PROMISE(position && words <= sizeof(sound) / 8);
	memcpy(sound, position, 8 * words);
}

static void change(const uint8_t *data, size_t size)
{
	uint16_t which;

	memcpy(position, sound, 8 * words);
	for (; size >= CHANGE; data += CHANGE, size -= CHANGE) {
		memcpy(&which, data, 2);
		memcpy(&position[which % words], data + 2, 8);
	}
}

static void fuzz_object(const uint8_t *data, size_t size)
{
	static unsigned char seen[RECORDS];
	struct shma_record record;
	struct shma_reader *r;
	uint64_t number;

	change(data, size);
	if (shma_reader_open_at(arena, &r, "x", SHMA_FROM_OLDEST))
		return;
	memset(seen, 0, sizeof(seen));
	while (shma_reader_next(r, &record, 0) == 1) {
		FUZZ_PROMISE(record.len >= 8);
		memcpy(&number, record.data, 8);
		FUZZ_PROMISE(number < RECORDS && record.len == 8 + number * 37 % 500);
		FUZZ_PROMISE(!seen[number]++);
	}
	shma_reader_close(r);
}

static void fuzz_file(const uint8_t *data, size_t size)
{
	struct segment_position at, again;
	uint64_t sequence, sequence_again;
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	FUZZ_PROMISE(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
	if (ship_position_read(folder, &at, &sequence))
		return;
	FUZZ_PROMISE(ship_position_write(folder, &at, sequence) == 0);
	FUZZ_PROMISE(ship_position_read(folder, &again, &sequence_again) == 0);
	FUZZ_PROMISE(at.number == again.number && at.offset == again.offset && at.record == again.record &&
		     sequence == sequence_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size || size > FUZZ_INPUT_MAX)
		return 0;
	prepare();
	if (data[0] % 4)
		fuzz_object(data + 1, size - 1);
	else
		fuzz_file(data + 1, size - 1);
	return 0;
}

/* ---- inputs to begin with ---- */

/* A word each: of the head, of the steps, of the first blocks. */
static size_t seed_word(uint8_t *bytes, unsigned which, uint64_t value)
{
	uint16_t word = (uint16_t)which;

	bytes[0] = 1;
	memcpy(bytes + 1, &word, 2);
	memcpy(bytes + 3, &value, 8);
	return 1 + CHANGE;
}

size_t fuzz_seed(unsigned i, uint8_t *bytes)
{
	static const char *const files[] = { "1 256 0 0\n", "18446744073709551615 7 4294967295 1\n", "-1 0 x" };
	static const uint64_t values[] = { 0, 1, 300, UINT64_MAX };
	unsigned count = sizeof(files) / sizeof(files[0]);

	if (i < count) {
		bytes[0] = 0;
		memcpy(bytes + 1, files[i], strlen(files[i]));
		return 1 + strlen(files[i]);
	}
	i -= count;
	return i < 4 * 64 ? seed_word(bytes, i / 4, values[i % 4]) : 0;
}
