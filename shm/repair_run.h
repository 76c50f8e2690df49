/* SPDX-License-Identifier: Apache-2.0 */
/* repair_run.h - what the parts of a repair share. Only repair*.c include it. */
#ifndef SHM_REPAIR_RUN_H
#define SHM_REPAIR_RUN_H

#include "repair.h"
#include "walk.h"

/* What each page was found to be, a byte a page; 0: nothing that is to stay. */
enum repair_use {
	USE_NONE = 0,
	USE_STATE = 1,
	USE_SLAB = 2,
	USE_LOG = 3,
	USE_LARGE = 4,
	USE_SPAN = 5,
	USE_HEAD = 0x80 /* with one of the above: its first page */
};

/* A name entry and its word, as they were. */
struct repair_name {
	uint64_t word, handle;
	bool ended; /* the text is one: not empty, with an end */
	bool sound; /* it says live, and its hash is its text's */
	bool kept;
	char text[NAME_BYTES];
};

struct repair_run {
	struct arena a; /* mapped without a client */
	const struct repair_watch *watch;
	struct repair_sum sum;
	uint32_t told[REPAIR_WHATS];
	uint64_t pages;	     /* in the zones in use: entries that may be touched */
	uint64_t heap_bytes; /* of the heap, that the file has: no page behind may be touched */
	uint8_t *use;
	uint64_t *referenced; /* bit a page: entries of slabs say that their record lies there */
	struct repair_name *names; /* NAMES_MAX */
	uint32_t *sound;	   /* names that are, sorted by the offset in their handle */
	uint32_t sound_count;
	struct thread_block *intents; /* blocks of threads that died in shma_persist() */
	uint32_t *intent_clients;
	uint32_t intent_count;
};

void repair_note(struct repair_run *r, enum repair_what what, uint64_t page, uint64_t handle,
		 uint64_t objects, uint64_t bytes, const char *fmt, ...)
	__attribute__((format(printf, 7, 8)));

/* ---- repair_header.c ---- */

/* Heals a header in private memory; how many bytes were wrong, or -EPROTO, -EUCLEAN. */
int repair_header_heal(struct arena_header *h, uint64_t file_size);
/* Zones in use, from what the page map holds, and marks. Commits what they have. */
int repair_bounds(struct repair_run *r);

/* ---- repair_index.c ---- */

/* Whether an object that says it is held has its hold record. */
bool repair_held(const struct repair_run *r, uint64_t handle, uint32_t state);

/* ---- repair_name.c ---- */

int repair_names_read(struct repair_run *r);
/* The sound name whose handle has this offset, or NULL. */
const struct repair_name *repair_named(const struct repair_run *r, uint64_t offset);
/* Names against objects, one to one. After repair_objects(). */
int repair_names(struct repair_run *r);

/* ---- repair_heap.c: what is there to stay ---- */

int repair_find_blocks(struct repair_run *r);
void repair_find_slabs(struct repair_run *r);
void repair_find_lost_slabs(struct repair_run *r); /* those that only their record knows of */
void repair_find_large(struct repair_run *r);
/* All that was not found to stay becomes free. */
void repair_free_rest(struct repair_run *r);

bool repair_unused(const struct repair_run *r, uint64_t page, uint64_t pages);
void repair_claim(struct repair_run *r, uint64_t page, uint64_t pages, enum repair_use use);
/* Whether these pages of the heap are there, so that touching them cannot fault. */
bool repair_in_file(const struct repair_run *r, uint64_t page, uint64_t pages);
/* Takes memory for them, and notes that it is there. */
int repair_commit(struct repair_run *r, uint64_t page, uint64_t pages);
void repair_note_commit(struct repair_run *r, uint64_t region, bool there);
void repair_write_entry(struct repair_run *r, uint64_t page, uint64_t w0, uint64_t w1);
/* The slab whose head this is, by what was written there. */
bool repair_slab_at(const struct repair_run *r, uint64_t page, struct walk_slab *ret);

/* ---- repair_object.c: state words ---- */

void repair_objects(struct repair_run *r);
/* The state word of an object that stays: NULL if none starts there. */
struct repair_word {
	_Atomic uint32_t *slab;	  /* of a slab's; NULL: a large one's */
	struct page_entry *entry; /* of a large one */
	uint64_t bytes;
};
bool repair_word_at(const struct repair_run *r, uint64_t offset, struct repair_word *ret);
uint32_t repair_word_get(const struct repair_word *w);
void repair_word_set(const struct repair_word *w, uint32_t state);
/* Visits every published object: its handle. */
void repair_each_published(struct repair_run *r,
			   void (*visit)(struct repair_run *r, uint64_t handle));
/* Exchanges of objects that their threads did not live to finish. Before who is not to stay is known; after slabs. */
void repair_exchanges(struct repair_run *r);
/* Intents of shma_persist(), read before their threads go; finished when all else is right. */
int repair_intents_read(struct repair_run *r);
void repair_intents_finish(struct repair_run *r);

/* ---- repair_index.c ---- */

/* Everything that is computed from what stays; clients and threads go. */
int repair_indexes(struct repair_run *r);

/* ---- repair_log.c ---- */

/* The ring, and the extents of its large records. */
int repair_log(struct repair_run *r);

#endif
