/* SPDX-License-Identifier: Apache-2.0 */
/* audit_run.h - what the parts of the audit share: one run over an arena and its findings. */
#ifndef SHM_AUDIT_RUN_H
#define SHM_AUDIT_RUN_H

#include "audit.h"
#include "walk.h"

/* A handle that a cache holds and that matches its object. */
struct audit_ready {
	uint64_t handle;
	uint32_t thread, client;
};

/* A name word that is not free, and its entry. Sorted by handle. */
struct audit_name {
	uint64_t handle;
	uint64_t word;
	uint32_t index;
	char text[NAME_BYTES];
};

struct audit_run {
	const struct arena *a;
	bool live;
	struct audit_finding *findings; /* AUDIT_KEPT_MAX */
	uint64_t kept;
	uint64_t found;	   /* kept or not */
	uint64_t *taken;   /* of the zone being looked at: a bit a page */
	uint64_t *stacked; /* likewise: on its pending stack */
	uint64_t *free_now,
		*free_next;	   /* scratch: blocks of an order, and of the next, wholly free */
	struct audit_ready *ready; /* every handle that a cache holds */
	uint64_t ready_count, ready_room;
	/* One word of one client's region marks, the last one looked at. */
	uint32_t mark_client;
	uint64_t mark_at, mark_bits;
	struct audit_name *names; /* NAMES_MAX */
	uint32_t names_count;
	int error; /* -ENOMEM */
};

/* Where a finding was made; what does not apply stays 0. */
struct audit_spot {
	uint64_t page, handle;
	uint32_t client;
	uint64_t evidence;
};

void audit_note(struct audit_run *run, enum audit_what what, struct audit_spot spot,
		const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#define AUDIT_PAGE(page_, evidence_) \
	((struct audit_spot){ .page = (page_), .evidence = (evidence_) })

static inline bool audit_bit(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static inline void audit_set(uint64_t *bits, uint64_t i)
{
	bits[i / 64] |= UINT64_C(1) << (i % 64);
}

static inline uint64_t audit_word(const struct audit_run *run, uint64_t words, uint32_t i)
{
	const _Atomic uint64_t *at = arena_at(run->a, words);

	return atomic_load_explicit(&at[i], memory_order_acquire);
}

/* Whether there is such a client, living or about to be recovered. */
bool audit_client_exists(const struct audit_run *run, uint32_t client);
/* Whether a client has marked a page's region. */
bool audit_marked(struct audit_run *run, uint32_t client, uint64_t page);
/* Something of a client's in a region: the client must exist and have marked the region. */
void audit_owned(struct audit_run *run, uint32_t client, uint64_t page, uint64_t evidence);

/* The parts, in this order. */
void audit_header(struct audit_run *run);
void audit_clients(struct audit_run *run);
void audit_names_read(struct audit_run *run); /* before the objects that they name */
void audit_zones(struct audit_run *run);      /* with all that lies in them */
void audit_threads(struct audit_run *run);
void audit_names(struct audit_run *run);
void audit_holds(struct audit_run *run);

/* Parts of audit_zones(). */
int audit_item(void *run, const struct walk_item *item);
/* Whether hints lead to a page's region, in a row. */
bool audit_hinted(const struct audit_run *run, uint32_t row, uint64_t page);
/* An object found held: its record is looked for. */
void audit_held(struct audit_run *run, uint64_t handle, uint32_t state, uint64_t page);
/* In a debug arena: a place of a watched object, of so many bytes, and its state word. */
struct audit_watched {
	uint64_t offset, bytes, front;
	uint32_t state;
};
void audit_watched(struct audit_run *run, const struct audit_watched *w);
/* An object found published: its name is looked for. */
void audit_published(struct audit_run *run, uint64_t handle, uint64_t page);

#endif
