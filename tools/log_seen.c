/* SPDX-License-Identifier: Apache-2.0 */
/* log_seen.c - a bit a place where a record can begin. */
#include <stdlib.h>
#include <string.h>

#include "log_seen.h"

/* The segments are behind the ring by as many, at most, before a record is shown twice. */
#define LAPS	   8
#define SLOTS	   256 /* of a shared block, whose records are told by slot */
#define PLACE_BYTES 8

struct lap_seen {
	uint32_t lap; /* laps begin at 1; 0: none yet */
	uint64_t *places;
};

struct log_seen {
	uint32_t blocks, block_bytes;
	struct lap_seen *laps; /* LAPS a block */
};

struct log_seen *log_seen_open(uint32_t blocks, uint32_t block_bytes)
{
	struct log_seen *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->blocks = blocks;
	s->block_bytes = block_bytes;
	s->laps = calloc((size_t)blocks * LAPS, sizeof(*s->laps));
	if (!s->laps) {
		free(s);
		return NULL;
	}
	return s;
}

void log_seen_close(struct log_seen *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < (size_t)s->blocks * LAPS; i++)
		free(s->laps[i].places);
	free(s->laps);
	free(s);
}

static size_t words(const struct log_seen *s)
{
	return (s->block_bytes / PLACE_BYTES + SLOTS) / 64 + 1;
}

/* Of a lap, or the place of the one that it follows; NULL: it is older than those remembered, or no memory. */
static uint64_t *places_of(const struct log_seen *s, uint32_t block, uint32_t lap)
{
	struct lap_seen *l = &s->laps[(size_t)block * LAPS + lap % LAPS];

	if (l->lap == lap && l->places)
		return l->places;
	if (l->places && (int32_t)(lap - l->lap) < 0)
		return NULL;
	if (!l->places)
		l->places = malloc(words(s) * sizeof(uint64_t));
	if (!l->places)
		return NULL;
	memset(l->places, 0, words(s) * sizeof(uint64_t));
	l->lap = lap;
	return l->places;
}

bool log_seen_add(struct log_seen *s, uint32_t block, uint32_t lap, uint32_t at)
{
	uint64_t *places = block < s->blocks ? places_of(s, block, lap) : NULL;
	/* Bytes of a block are multiples of 8; slots of a shared one are any number, and never both in one lap. */
	size_t bit = at % PLACE_BYTES ? s->block_bytes / PLACE_BYTES + at : at / PLACE_BYTES;
	uint64_t mask = UINT64_C(1) << bit % 64;
	bool seen;

	if (!places || (at % PLACE_BYTES ? at >= SLOTS : at >= s->block_bytes))
		return true;
	seen = places[bit / 64] & mask;
	places[bit / 64] |= mask;
	return !seen;
}
