/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was seen of each lap of each block: bytes, as a few pieces, or slots. Nearly always fragments of a lap
 * follow one another, and one piece grows. The oldest laps are forgotten first: what is drained twice is
 * drained shortly after.
 */
#include <errno.h>
#include <stdlib.h>

#include "segment_inside.h"

#define PIECES 3 /* fewer than struct segment_new has: cutting n pieces out of one leaves n + 1 */
#define NONE UINT32_MAX
#define BEGIN_ROOM 256u

_Static_assert(sizeof((struct segment_new *)0)->piece / sizeof((struct segment_new *)0)->piece[0] > PIECES,
	       "room for what is left");

struct lap {
	uint64_t ring; /* of its 16 bytes */
	uint32_t block, lap;
	uint32_t next; /* of the same hash */
	bool shared;
	uint8_t pieces; /* own */
	struct {
		uint32_t from, to;
	} piece[PIECES]; /* rising, with gaps between */
	uint64_t slots[SEGMENT_SLOTS / 64]; /* shared */
};

struct segment_seen {
	struct lap *laps;
	uint32_t *heads;      /* by hash */
	uint32_t room, most;  /* a power of two; what it may grow to */
	uint32_t count, next; /* used; the one used next, the oldest when all are */
};

/* ---- finding ---- */

static uint64_t fold(const uint8_t ring[16])
{
	uint64_t half[2];

	memcpy(half, ring, sizeof(half));
	return half[0] ^ (half[1] << 31 | half[1] >> 33);
}

static uint32_t hash(const struct segment_seen *s, uint64_t ring, uint32_t block, uint32_t lap)
{
	uint64_t x = (ring ^ ((uint64_t)lap << 32 | block)) * UINT64_C(0x9e3779b97f4a7c15);

	return (uint32_t)(x >> 32) & (s->room - 1);
}

static uint32_t find(const struct segment_seen *s, uint64_t ring, uint32_t block, uint32_t lap)
{
	uint32_t i = s->heads[hash(s, ring, block, lap)];

	while (i != NONE && (s->laps[i].ring != ring || s->laps[i].block != block || s->laps[i].lap != lap))
		i = s->laps[i].next;
	return i;
}

static void link_lap(struct segment_seen *s, uint32_t i)
{
	uint32_t *head = &s->heads[hash(s, s->laps[i].ring, s->laps[i].block, s->laps[i].lap)];

	s->laps[i].next = *head;
	*head = i;
}

static void unlink_lap(struct segment_seen *s, uint32_t i)
{
	uint32_t *at = &s->heads[hash(s, s->laps[i].ring, s->laps[i].block, s->laps[i].lap)];

	while (*at != i)
		at = &s->laps[*at].next;
	*at = s->laps[i].next;
}

/* ---- remembering ---- */

/* Twice the room, while nothing was forgotten yet. False: no memory, or it may not. */
static bool grow(struct segment_seen *s)
{
	uint32_t room = s->room * 2;
	struct lap *laps;
	uint32_t *heads;

	if (room > s->most)
		return false;
	laps = realloc(s->laps, room * sizeof(*laps));
	if (!laps)
		return false;
	s->laps = laps;
	heads = realloc(s->heads, room * sizeof(*heads));
	if (!heads)
		return false;
	s->heads = heads;
	s->room = room;
	memset(heads, 0xff, room * sizeof(*heads));
	for (uint32_t i = 0; i < s->count; i++)
		link_lap(s, i);
	s->next = s->count;
	return true;
}

/* A lap of which nothing was seen yet. */
static struct lap *begin(struct segment_seen *s, uint64_t ring, uint32_t block, uint32_t lap)
{
	struct lap *l;

	if (s->count == s->room && !grow(s)) {
		s->next &= s->room - 1;
		unlink_lap(s, s->next);
	} else {
		s->count++;
	}
	l = &s->laps[s->next];
	*l = (struct lap){ .ring = ring, .block = block, .lap = lap };
	link_lap(s, s->next++);
	return l;
}

/* ---- bytes ---- */

static void add_piece(struct segment_new *ret, uint32_t from, uint32_t to)
{
	ret->piece[ret->pieces].from = from;
	ret->piece[ret->pieces++].to = to;
}

/* What of from..to is in none of the pieces. */
static void cut_out(const struct lap *l, uint32_t from, uint32_t to, struct segment_new *ret)
{
	ret->first = true;
	for (unsigned i = 0; i < l->pieces; i++) {
		uint32_t f = l->piece[i].from, t = l->piece[i].to;

		if (t <= from)
			continue;
		if (f > from && f < to)
			add_piece(ret, from, f);
		if (f <= from)
			ret->first = ret->pieces > 0;
		if (f < to)
			from = t < to ? t : to;
	}
	if (from < to)
		add_piece(ret, from, to);
}

/* Joins from..to with the pieces that it touches; one too many, and the lowest is forgotten. */
static void join(struct lap *l, uint32_t from, uint32_t to)
{
	struct {
		uint32_t from, to;
	} all[PIECES + 1];
	unsigned count = 0, i = 0, skip;

	for (; i < l->pieces && l->piece[i].to < from; i++)
		memcpy(&all[count++], &l->piece[i], sizeof(all[0]));
	for (; i < l->pieces && l->piece[i].from <= to; i++) {
		from = l->piece[i].from < from ? l->piece[i].from : from;
		to = l->piece[i].to > to ? l->piece[i].to : to;
	}
	all[count].from = from;
	all[count++].to = to;
	for (; i < l->pieces; i++)
		memcpy(&all[count++], &l->piece[i], sizeof(all[0]));
	skip = count > PIECES;
	l->pieces = (uint8_t)(count - skip);
	memcpy(l->piece, all + skip, l->pieces * sizeof(all[0]));
}

/* ---- slots ---- */

static bool leave_out(const struct lap *l, const struct segment_fragment *f, struct segment_new *ret)
{
	bool any = false;

	ret->first = f->from >= SEGMENT_SLOTS || !(l->slots[f->from / 64] >> f->from % 64 & 1);
	for (unsigned i = 0; i < SEGMENT_SLOTS / 64; i++) {
		ret->slots[i] = f->slots[i] & ~l->slots[i];
		any |= ret->slots[i] != 0;
	}
	return any;
}

/* ---- the interface ---- */

int segment_seen_open(struct segment_seen **ret, size_t room)
{
	struct segment_seen *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->room = BEGIN_ROOM;
	s->most = BEGIN_ROOM;
	segment_seen_room(s, room);
	s->laps = malloc(s->room * sizeof(*s->laps));
	s->heads = malloc(s->room * sizeof(*s->heads));
	if (!s->laps || !s->heads) {
		segment_seen_close(s);
		return -ENOMEM;
	}
	memset(s->heads, 0xff, s->room * sizeof(*s->heads));
	*ret = s;
	return 0;
}

void segment_seen_room(struct segment_seen *s, size_t room)
{
	while (s->most < room && s->most < UINT32_C(1) << 30)
		s->most *= 2;
}

void segment_seen_close(struct segment_seen *s)
{
	if (!s)
		return;
	free(s->laps);
	free(s->heads);
	free(s);
}

bool segment_seen_look(const struct segment_seen *s, const uint8_t ring[16],
		       const struct segment_fragment *f, struct segment_new *ret)
{
	static const struct lap nothing;
	uint32_t i = find(s, fold(ring), f->block, f->lap);
	const struct lap *l = i == NONE ? &nothing : &s->laps[i];

	memset(ret, 0, sizeof(*ret));
	if (l->shared != (f->kind == SEGMENT_SHARED))
		l = &nothing;
	if (f->kind == SEGMENT_SHARED)
		return leave_out(l, f, ret);
	cut_out(l, f->from, f->to, ret);
	return ret->pieces;
}

bool segment_seen_add(struct segment_seen *s, const uint8_t ring[16], const struct segment_fragment *f,
		      struct segment_new *ret)
{
	uint64_t folded = fold(ring);
	bool any = segment_seen_look(s, ring, f, ret), shared = f->kind == SEGMENT_SHARED;
	struct lap *l;
	uint32_t i;

	if (!any)
		return false;
	i = find(s, folded, f->block, f->lap);
	l = i == NONE ? begin(s, folded, f->block, f->lap) : &s->laps[i];
	if (l->shared != shared) {
		l->shared = shared;
		l->pieces = 0;
		memset(l->slots, 0, sizeof(l->slots));
	}
	if (!shared)
		join(l, f->from, f->to);
	for (unsigned k = 0; shared && k < SEGMENT_SLOTS / 64; k++)
		l->slots[k] |= f->slots[k];
	return true;
}
