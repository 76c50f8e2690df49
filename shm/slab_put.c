/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Objects put back by who has them: a store each, and then the bitmap of their slab, whoever holds it meanwhile. Who
 * sets the last bit gives the slab back, or leaves it to who draws from it.
 *
 * Modelled in tests/model/: object.pml has slab_put(), one object's life; hint.pml has tell().
 */
#include "bits.h"
#include "hint.h"
#include "slab.h"
#include "slab_inside.h"
#include "stop_point.h"

/* Objects of one slab that are free and not told of yet; and where it lies, in units of 16 bytes. */
struct freed {
	struct slab_record *record;
	uint64_t head; /* page */
	uint64_t first16, span16;
	uint32_t kind, reciprocal;
	uint64_t bits[4];
};

static void tell(struct arena *a, const struct freed *f, struct slab_source *from)
{
	uint32_t objects = sizeclass_table[f->kind].objects;
	bool any = false, none = false, full = false;

	STOP_POINT(slab_words_freed);
	for (uint32_t w = 0; w < 4; w++) {
		uint64_t was;

		if (!f->bits[w])
			continue;
		was = atomic_fetch_or_explicit(&f->record->bitmap[w], f->bits[w], memory_order_seq_cst);
		/* Of the last word: others fill those before it meanwhile, and find this one not full. */
		full = !(~(was | f->bits[w]) & bits_low(objects - w * 64));
		none |= !was;
		any = true;
		STOP_POINT(slab_bits_set);
	}
	if (!any)
		return;
	/* PAIR(hint): the bits, then the look at the region's hint. Where there were bits in a word before, whoever
	 * set them has seen to the hint, or is about to; who clears it looks for bits once more after. */
	if (none)
		hint_set(a, f->kind, f->head);
	if (f->head + 1 != from->head && full && slab_looks_empty(f->record, f->kind) &&
	    !slab_leave(a, f->record, f->head, f->kind, from))
		slab_retire(a, f->record);
	else
		slab_draw_soon(a, f->record, f->head, from);
}

static inline bool freed_spans(const struct freed *f, uint64_t handle)
{
	return (handle_offset(handle) >> 4) - f->first16 < f->span16;
}

/* The slab that the object of a handle lies in, if any. */
static bool freed_slab(const struct arena *a, uint64_t handle, struct freed *f)
{
	uint64_t page = handle_offset(handle) >> PAGE_SHIFT, w1;

	if (page >= atomic_load_explicit(&a->pages_known, memory_order_relaxed))
		return false;
	w1 = atomic_load_explicit(&a->pages[page].w1, memory_order_acquire);
	if (!pw1_is_slab(w1) || pw1_class(w1) >= KINDS || pw1_dist(w1) > page)
		return false;
	*f = (struct freed){.record = (struct slab_record *)(a->heap + (w1 & a->record_mask)),
			    .head = page - pw1_dist(w1),
			    .kind = pw1_class(w1)};
	f->first16 = f->head << (PAGE_SHIFT - 4);
	f->span16 = (uint64_t)sizeclass_entries(f->kind) << (PAGE_SHIFT - 4);
	f->reciprocal = sizeclass_rows[sizeclass_row(f->kind)].reciprocal;
	return freed_spans(f, handle); /* else damage */
}

/* Frees those of some handles that are private to this client, up to the first that does not lie in the slab. How
 * many that are, with those that are dropped. The page map is not asked: a slab with an object of ours stays. */
static uint32_t free_run(struct freed *f, const uint64_t *handles, uint32_t count, uint32_t own)
{
	const uint64_t first16 = f->first16, span16 = f->span16;
	const uint32_t reciprocal = f->reciprocal;
	_Atomic uint32_t *words = f->record->words;
	uint32_t i = 0, w = 0;
	uint64_t bits = 0;

	for (; i < count; i++) {
		uint64_t offset16 = (handle_offset(handles[i]) >> 4) - first16;
		uint32_t gen = handle_gen(handles[i]), index;

		if (offset16 >= span16)
			break;
		if (!sizeclass_begins(offset16, reciprocal, &index) ||
		    atomic_load_explicit(&words[index], memory_order_relaxed) != (own | gen << STATE_GEN_SHIFT))
			continue;
		/* PAIR(put): we are done with it. */
		atomic_store_explicit(&words[index], state_make(OBJECT_FREE, 0, gen), memory_order_release);
		if (index / 64 != w) {
			f->bits[w] |= bits;
			bits = 0;
			w = index / 64 % 4; /* the spare one, which may be behind, is never ours */
		}
		bits |= UINT64_C(1) << (index % 64);
	}
	f->bits[w] |= bits;
	return i;
}

/* The one object of a slab, if it is private to this client: the slab is given back. */
static bool put_whole(struct arena *a, const struct freed *f, uint64_t handle, uint32_t own)
{
	return sizeclass_table[f->kind].objects == 1 && handle_offset(handle) >> 4 == f->first16 &&
	       atomic_load_explicit(&f->record->words[0], memory_order_relaxed) ==
		       (own | handle_gen(handle) << STATE_GEN_SHIFT) &&
	       slab_put_whole(a, f->record, f->head, f->kind, handle);
}

/* Neighbours in one slab are told of together, which may let the slab go: before any of another's is freed. */
void slab_put_near(struct arena *a, const uint64_t *handles, uint32_t count, struct slab_source *from)
{
	const uint32_t own = state_make(OBJECT_PRIVATE, a->client, 0);
	struct freed f;

	for (uint32_t i = 0; i < count;) {
		if (!freed_slab(a, handles[i], &f) || put_whole(a, &f, handles[i], own)) {
			i++;
			continue;
		}
		i += free_run(&f, handles + i, count - i, own);
		tell(a, &f, from);
	}
}

void slab_put(struct arena *a, const uint64_t *handles, uint32_t count, uint32_t keep)
{
	struct slab_source from = {.head = keep};

	slab_put_near(a, handles, count, &from);
}

void slab_give_up(struct arena *a, uint64_t head, uint32_t class)
{
	struct slab_place p;

	if (head < UINT64_MAX >> PAGE_SHIFT && !slab_find(a, head << PAGE_SHIFT, &p) && p.head == head &&
	    (p.class == class || class == CLASSES) && slab_at(a, head, p.kind) == p.record &&
	    slab_looks_empty(p.record, p.kind))
		slab_retire(a, p.record);
}
