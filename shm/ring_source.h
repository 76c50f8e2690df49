/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_source.h - one block as a reader sees it: which of its records come next, and what was lost. Private
 * memory of one reader; ring_reader.c merges the sources by time.
 */
#ifndef SHM_RING_SOURCE_H
#define SHM_RING_SOURCE_H

#include "ring_view.h"

struct ring_source {
	uint32_t lap;	 /* of which all here speaks; 0: none yet */
	uint32_t heap;	 /* place in the reader's heap + 1; 0: no record known to be next */
	uint32_t listed; /* among the reader's active sources */
	bool known;	 /* done is meaningful */
	bool shared;
	bool open;	 /* more may come, when last looked at */
	bool busy;	 /* a record of unknown time, not before last, is on its way */
	uint32_t pos, end; /* own: of the next record, of the committed bytes */
	uint32_t bytes;	   /* own: of the record that is next */
	uint32_t slot, offset; /* shared: of the record that is next */
	struct ring_author author; /* own: whose lease it is */
	uint64_t real_offset;
	uint64_t base;	   /* records of earlier laps */
	uint64_t done;	   /* records of all laps that were delivered or counted as lost */
	uint64_t records;  /* own: of all laps, committed when last looked at */
	uint64_t last;	   /* no record to come is older */
	uint64_t key;	   /* time of the record that is next */
	struct ring_record record;
	/* own: bytes of the block that were copied at once, while it was of this lap; NULL: none. */
	char *window;
	uint32_t window_from, window_to;
	uint64_t delivered[RING_SLOTS_MAX / 64];
};

enum ring_begin { RING_BEGIN_OLDEST, RING_BEGIN_NOW, RING_BEGIN_RESUME };

/* How far of a block the one before was, for RESUME. */
struct ring_begun {
	uint64_t done;	/* records of all laps */
	bool by_slots;	/* of a shared block these say it, else the slots themselves do */
	uint64_t slots[RING_SLOTS_MAX / 32]; /* lap 32-63 | bit a slot */
};

enum ring_look {
	RING_LOOK_SAME,	 /* nothing new */
	RING_LOOK_NEW,	 /* a lap began: the source is to be listed */
	RING_LOOK_RESET  /* being reset: look again */
};

/* Adopts the lap that the block is in; *lost grows by what went between. */
enum ring_look ring_source_look(struct ring_source *s, const struct ring_view *v, uint32_t block,
				uint64_t *lost);
/* The same when the reader opens: where it begins. from: NULL: as far as the ring's consumer is. */
enum ring_look ring_source_begin(struct ring_source *s, const struct ring_view *v, uint32_t block,
				 enum ring_begin begin, const struct ring_begun *from, const struct arena *a,
				 uint64_t *lost);

/* Looks at what was committed since. now: a clock reading before. False: the lap is over. */
bool ring_source_update(struct ring_source *s, const struct arena *a, const struct ring_view *v,
			uint32_t block, uint64_t now);
/* Finds the record that is next and its key. False: none known. *lost grows by what damage hides. */
bool ring_source_next(struct ring_source *s, const struct arena *a, const struct ring_view *v,
		      uint32_t block, uint64_t now, uint64_t *lost);
/*
 * Own: copies what follows, the record that is next first, into window, which is at least so long and stays with the
 * source until the caller takes it back. False: the lap is over.
 */
bool ring_source_load(struct ring_source *s, const struct arena *a, const struct ring_view *v,
		      uint32_t block, char *window, uint32_t bytes);
/* Nothing left, and nothing will come in this lap. */
bool ring_source_finished(const struct ring_source *s, const struct ring_view *v, uint32_t block);

/* Bytes of the payload of the record that is next. */
static inline uint32_t ring_source_length(const struct ring_source *s)
{
	return ring_info_length(s->record.info);
}
/* Copies the record that is next: payload to e->data, the rest to e. False: it was overwritten. */
bool ring_source_copy(const struct ring_source *s, const struct arena *a, const struct ring_view *v,
		      uint32_t block, struct ring_entry *e);
/* The record at pos, if all of it is in the window. NULL: it has to be looked for where it is. */
static inline const struct ring_record *ring_source_here(const struct ring_source *s)
{
	const struct ring_record *record;
	uint32_t left = s->window_to - s->pos;

	if (!s->window || s->pos >= s->window_to || left < sizeof(*record))
		return NULL;
	record = (const struct ring_record *)(const void *)(s->window + (s->pos - s->window_from));
	return record->info & RING_INFO_LARGE || ring_info_bytes(record->info) > left ? NULL : record;
}
/* The same of a record in the window, where its payload stays. */
static inline void ring_source_give(const struct ring_source *s, const struct ring_record *record, uint64_t block,
				    struct ring_entry *e)
{
	e->data = (void *)(uintptr_t)(record + 1);
	e->len = ring_info_length(record->info);
	e->level = ring_info_level(record->info);
	e->pid = s->author.pid;
	e->tid = s->author.tid;
	e->dropped = record->dropped;
	e->time_ns = record->time + s->real_offset;
	e->seq = record->seq;
	e->fields = (record->info & RING_INFO_FIELDS) != 0;
	e->block = block;
	e->lap = s->lap;
	e->at = s->pos;
	e->unused = 0;
}
/* Steps over it. */
void ring_source_step(struct ring_source *s);

#endif
