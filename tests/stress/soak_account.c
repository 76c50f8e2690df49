/* SPDX-License-Identifier: Apache-2.0 */
/* The account's own: entries, and what objects and records hold. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "soak.h"

struct account *account;

void lost(const char *format, ...)
{
	uint32_t none = 0;
	va_list args;

	if (atomic_compare_exchange_strong(&account->failed, &none, 1)) {
		va_start(args, format);
		vsnprintf(account->failure, sizeof(account->failure), format, args);
		va_end(args);
		atomic_store(&account->failed, 2);
	}
	_exit(1);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint32_t draw(unsigned *seed, uint32_t below)
{
	return (uint32_t)rand_r(seed) % below;
}

const char *op_name(enum op op)
{
	static const char *const names[OPS] = {
		"nothing", "start",   "alloc",	  "alloc-shared", "alloc-persistent",
		"free",	   "resize",  "offer",	  "take",	  "free-offer",
		"peek",	   "persist", "consume",  "publish",	  "unpublish",
		"lookup",  "log",     "read-log", "thread-end",	  "close",
	};

	return op < OPS ? names[op] : "?";
}

/* ---- entries ---- */

struct entry *entry_at(uint32_t index)
{
	if (index >= sizeof(account->entries) / sizeof(account->entries[0]))
		lost("entry %u does not exist", index);
	return &account->entries[index];
}

uint32_t entry_new(uint32_t partition, uint64_t owner, uint32_t held, uint64_t size)
{
	static __thread uint32_t cursor;

	for (uint32_t i = 0; i < PARTITION; i++) {
		uint32_t index = partition * PARTITION + (cursor + i) % PARTITION;
		struct entry *e = entry_at(index);

		if (atomic_load(&e->state) != ENTRY_EMPTY)
			continue;
		cursor = (cursor + i + 1) % PARTITION;
		e->serial++;
		e->size = size;
		atomic_store(&e->handle, SHMA_NULL);
		atomic_store(&e->held, held);
		atomic_store(&e->name, 0);
		atomic_store(&e->offered, 0);
		atomic_store(&e->maybe, 0);
		atomic_store(&e->owner, owner);
		atomic_store(&e->state, ENTRY_MAKING);
		return index;
	}
	return NOTHING;
}

void entry_drop(uint32_t entry)
{
	struct entry *e = entry_at(entry);

	atomic_store(&e->handle, SHMA_NULL);
	atomic_store(&e->held, 0);
	atomic_store(&e->state, ENTRY_EMPTY);
}

/* ---- objects ---- */

#define FRONT 256u /* bytes */

static uint64_t mixed(uint64_t x)
{
	x ^= x >> 31;
	x *= UINT64_C(0x7fb5d329728ea185);
	x ^= x >> 27;
	x *= UINT64_C(0x81dadef4bc2dd44d);
	return x ^ x >> 33;
}

/* Word `at` of the object; the first one names the entry. */
static uint64_t word_of(uint64_t first, uint64_t at)
{
	return at == 0 ? first : mixed(first + at * UINT64_C(0x9e3779b97f4a7c15));
}

static uint64_t first_word(uint32_t entry)
{
	return (uint64_t)entry_at(entry)->serial << 32 | entry;
}

/* The next place that is filled; SIZE_MAX: none. */
static uint64_t next_place(uint64_t at, uint64_t words)
{
	uint64_t next = at + 1;

	if (at + 1 >= FRONT / 8 && at + 1 < words) {
		next = (at / 512 + 1) * 512;
		if (next > words - 1)
			next = words - 1;
	}
	return next < words ? next : UINT64_MAX;
}

void content_fill(uint32_t entry, void *p, uint64_t bytes)
{
	uint64_t first = first_word(entry), *words = p;

	for (uint64_t at = 0; at != UINT64_MAX; at = next_place(at, bytes / 8))
		words[at] = word_of(first, at);
}

bool content_whole(uint32_t entry, const void *p, uint64_t bytes)
{
	const uint64_t *words = p;
	uint64_t first = first_word(entry);

	for (uint64_t at = 0; at != UINT64_MAX; at = next_place(at, bytes / 8))
		if (words[at] != word_of(first, at))
			return false;
	return true;
}

bool content_front(const void *copy, size_t n, uint32_t *entry, uint32_t *serial)
{
	const uint64_t *words = copy;

	if (n < 8)
		return false;
	*entry = (uint32_t)words[0];
	*serial = (uint32_t)(words[0] >> 32);
	for (uint64_t at = 1; at < n / 8 && at < FRONT / 8; at++)
		if (words[at] != word_of(words[0], at))
			return false;
	return true;
}

/* ---- records ---- */

static uint32_t record_check(const struct record_head *h)
{
	return (uint32_t)mixed((uint64_t)h->writer << 40 ^ (uint64_t)h->number << 16 ^ h->len);
}

void record_fill(void *p, uint32_t writer, uint32_t number, uint32_t len)
{
	struct record_head h = { .writer = writer, .number = number, .len = len };

	h.check = record_check(&h);
	memcpy(p, &h, sizeof(h));
	memset((char *)p + sizeof(h), (int)(h.check & 0xff), len - sizeof(h));
}

bool record_whole(const void *p, size_t len, struct record_head *ret)
{
	const unsigned char *bytes = p;

	if (len < sizeof(*ret))
		return false;
	memcpy(ret, p, sizeof(*ret));
	if (ret->len != len || ret->check != record_check(ret) || ret->writer >= WRITERS_MAX)
		return false;
	for (size_t i = sizeof(*ret); i < len; i++)
		if (bytes[i] != (ret->check & 0xff))
			return false;
	return true;
}
