/* SPDX-License-Identifier: Apache-2.0 */
/* This process as a client, and the account of what it makes. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crash.h"
#include "thread.h"

#define SPARSE_BYTES 65536u /* larger things are written at the start of each page only */

struct board *board;
shma *self;
char arena_name[64];
uint64_t op_number[8];

/* Says why, and ends this process: what was to be shown cannot be, or was shown to be wrong. */
void broken(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(board->failure, sizeof(board->failure), format, args);
	va_end(args);
	_exit(1);
}

void attach_self(void)
{
	int r = shma_open(&self, arena_name, SHMA_EMBEDDED, NULL);

	if (r)
		broken("cannot open the arena: %s", shma_strerror(r));
}

struct thread_block *my_block(void)
{
	return thread_peek(&self->arena);
}

/* ---- objects ---- */

static uint64_t word_of(uint32_t seed, uint64_t i)
{
	return (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) + i;
}

static uint64_t stride_of(uint64_t bytes)
{
	return bytes > SPARSE_BYTES ? PAGE_SIZE / 8 : 1;
}

struct thing *thing_at(uint32_t thing)
{
	if (thing >= board->account.things)
		broken("no thing %u", thing);
	return &board->account.thing[thing];
}

static bool file_whole(const struct thing *t)
{
	char magic[4];

	return shma_size(self, t->handle) == t->bytes &&
	       shma_read(self, t->handle, 0, magic, sizeof(magic)) == sizeof(magic) &&
	       memcmp(magic, "\177ELF", sizeof(magic)) == 0 && shma_ptr(self, t->handle);
}

static bool words_whole(const struct thing *t, const uint64_t *words)
{
	for (uint64_t i = 0; i < t->bytes / 8; i += stride_of(t->bytes))
		if (words[i] != word_of(t->seed, i))
			return false;
	return true;
}

/* What is packed has no pointer. */
bool thing_whole(const struct thing *t)
{
	const uint64_t *words;
	uint64_t *copy = NULL;
	bool whole;

	if (t->file)
		return file_whole(t);
	words = shma_ptr(self, t->handle);
	if (!words && errno == ENODATA) {
		copy = malloc(t->bytes + 8);
		if (copy && shma_read(self, t->handle, 0, copy, t->bytes) == (ssize_t)t->bytes)
			words = copy;
	}
	whole = words && shma_size(self, t->handle) >= t->bytes && words_whole(t, words);
	free(copy);
	return whole;
}

uint32_t note_file(uint64_t handle, uint64_t bytes, enum fate fate)
{
	struct account *a = &board->account;

	if (!handle || a->things == THINGS_MAX)
		broken("cannot make an object of a file");
	a->thing[a->things] =
		(struct thing){ .handle = handle, .bytes = bytes, .seed = a->things, .file = true, .fate = fate };
	return a->things++;
}

uint32_t note_thing(uint64_t handle, uint64_t bytes, enum fate fate)
{
	struct account *a = &board->account;
	uint64_t *words = shma_ptr(self, handle);

	if (!handle || !words || a->things == THINGS_MAX)
		broken("cannot make an object of %llu bytes: %s", (unsigned long long)bytes,
		       strerror(errno));
	a->thing[a->things] =
		(struct thing){ .handle = handle, .bytes = bytes, .seed = a->things, .fate = fate };
	for (uint64_t i = 0; i < bytes / 8; i += stride_of(bytes))
		words[i] = word_of(a->things, i);
	return a->things++;
}

uint32_t make_thing(uint64_t bytes, unsigned flags, enum fate fate)
{
	return note_thing(shma_alloc(self, bytes, flags), bytes, fate);
}

void drop_thing(uint32_t thing)
{
	struct thing *t = thing_at(thing);
	int r = shma_free(self, t->handle);

	if (r)
		broken("cannot free an object: %s", shma_strerror(r));
	t->fate = FATE_GONE;
}

/* ---- names ---- */

void note_label(const char *name, uint32_t thing, enum fate fate, bool ties)
{
	struct label *l = &board->account.label[board->account.labels++];

	*l = (struct label){ .thing = thing, .fate = fate, .ties = ties };
	snprintf(l->name, sizeof(l->name), "%s", name);
}

/* ---- records ---- */

void note_line(char *data, uint32_t bytes, enum fate fate)
{
	struct account *a = &board->account;
	uint32_t seed = a->lines;

	if (seed == LINES_MAX)
		broken("too many records");
	a->line[a->lines++] = (struct line){ .seed = seed, .bytes = bytes, .fate = fate };
	for (uint32_t i = 0; i < bytes; i++)
		data[i] = (char)(seed * 7 + i);
	memcpy(data, &seed, sizeof(seed));
}

void write_line(uint32_t bytes)
{
	char data[65536];
	int r;

	note_line(data, bytes, FATE_KEPT);
	r = shma_log_write(self, 6, data, bytes);
	if (r)
		broken("cannot write a record: %s", shma_strerror(r));
}

/* ---- the survivor ---- */

void survivor_make_usual(void)
{
	uint32_t some[40];

	make_thing(64, SHMA_SHARED, FATE_KEPT);
	make_thing(20480, SHMA_SHARED | SHMA_LARGE, FATE_KEPT);
	make_thing(64, SHMA_PERSIST, FATE_KEPT);
	make_thing(20480, SHMA_PERSIST | SHMA_LARGE, FATE_KEPT);
	make_thing(192, 0, FATE_KEPT);
	make_thing(40960, SHMA_LARGE, FATE_KEPT);
	make_thing(UINT64_C(3) << 20, SHMA_SHARED, FATE_KEPT);
	make_thing(40960, SHMA_SHARED, FATE_KEPT);
	make_thing(40960, SHMA_PERSIST, FATE_KEPT);
	make_thing(192, 0, FATE_KEPT);
	if (shma_retain(self, thing_at(T_HELD)->handle))
		broken("cannot hold");
	note_label("small", T_NAMED, FATE_KEPT, true);
	note_label("large", T_NAMED_LARGE, FATE_KEPT, true);
	if (shma_publish(self, "small", thing_at(T_NAMED)->handle) ||
	    shma_publish(self, "large", thing_at(T_NAMED_LARGE)->handle))
		broken("cannot publish");
	for (uint32_t i = 0; i < 40; i++)
		some[i] = make_thing(i % 2 ? 64 : 1000, 0, FATE_KEPT);
	for (uint32_t i = 0; i < 40; i += 3)
		drop_thing(some[i]);
	make_thing(8192, SHMA_LARGE, FATE_KEPT);
	for (uint32_t i = 0; i < 5; i++)
		write_line(40 + 100 * i);
}
