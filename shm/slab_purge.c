/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of slabs that hold no live object, given back and had again. Whoever holds a slab's record is the only
 * one who claims free objects of it, so the pages that only such touch are its own: a purger's, who has them
 * punched, or a claimer's, who takes memory for them before it claims.
 */
#include "bits.h"
#include "commit.h"
#include "slab.h"
#include "slab_inside.h"
#include "stop_point.h"

/* ---- which objects touch which pages ---- */

/* A bit for each page of its slab that an object touches. */
static uint64_t pages_of(uint32_t class, uint32_t index)
{
	uint64_t from = (uint64_t)index * sizeclass_table[class].bytes;
	uint64_t first = from >> PAGE_SHIFT, last = (from + sizeclass_table[class].bytes - 1) >> PAGE_SHIFT;

	return bits_low(last - first + 1) << first;
}

/* The objects that touch a page: first to end - 1. None where the slab's tail is. */
static void objects_of(uint32_t class, uint32_t page, uint32_t *first, uint32_t *end)
{
	const uint32_t in_page = PAGE_SIZE / 16, objects = sizeclass_table[class].objects;

	*first = sizeclass_index(class, page * in_page);
	*end = sizeclass_index(class, (page + 1) * in_page - 1) + 1;
	*first = *first < objects ? *first : objects;
	*end = *end < objects ? *end : objects;
}

/* ---- claiming ---- */

uint64_t slab_back(struct arena *a, uint64_t head, uint32_t class, uint32_t word, uint64_t bits, bool *full)
{
	uint64_t backed = 0;

	for (; bits; bits &= bits - 1) {
		uint32_t bit = (uint32_t)__builtin_ctzll(bits);
		uint64_t pages = pages_of(class, word * 64 + bit);
		bool there = !(pages & slab_holes(a, head, class));

		if (!there && !*full) {
			there = commit_retake(a, head + (uint32_t)__builtin_ctzll(pages),
					      (uint32_t)__builtin_popcountll(pages)) == 0;
			*full = !there;
		}
		if (there)
			backed |= UINT64_C(1) << bit;
	}
	return backed;
}

/* ---- purging ---- */

/* Of all words: another value once an object was claimed and freed, or freed. */
static uint32_t digest_words(const struct slab_record *r, uint32_t class)
{
	uint64_t sum = class + 1;

	for (uint32_t i = 0; i < sizeclass_table[class].objects; i++)
		sum = (sum ^ atomic_load_explicit(&r->words[i], memory_order_relaxed)) *
		      UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(sum >> 32);
}

/* Whether the words are those of the last look. */
static bool was_so(struct slab_record *r, uint32_t class)
{
	uint32_t digest = digest_words(r, class);

	if (atomic_load_explicit(&r->digest, memory_order_relaxed) == digest)
		return true;
	atomic_store_explicit(&r->digest, digest, memory_order_relaxed);
	return false;
}

/* By the bitmap, which may be wrong. */
static bool offered(const struct slab_record *r, uint32_t first, uint32_t end)
{
	while (first < end && atomic_load_explicit(&r->bitmap[first / 64], memory_order_relaxed) >>
					      (first % 64) &
				      1)
		first++;
	return first == end;
}

/* A bit for each page all of whose objects are so. */
static uint64_t pages_where(const struct slab_record *r, uint32_t class,
			    bool (*are)(const struct slab_record *r, uint32_t first, uint32_t end))
{
	uint64_t pages = 0;

	for (uint32_t page = 0; page < sizeclass_table[class].pages; page++) {
		uint32_t first, end;

		objects_of(class, page, &first, &end);
		if (are(r, first, end))
			pages |= UINT64_C(1) << page;
	}
	return pages;
}

bool slab_take_idle(struct arena *a, uint64_t head, uint32_t class, struct slab_idle *s)
{
	struct slab_record *r = slab_at(a, head, class);
	uint64_t pages;

	if (!r || sizeclass_table[class].objects == 1)
		return false;
	pages = pages_where(r, class, offered) & ~slab_holes(a, head, class);
	if (!pages || !was_so(r, class) || !slab_hold(a, r, head, class))
		return false;
	pages = pages_where(r, class, slab_all_free) & ~slab_holes(a, head, class);
	*s = (struct slab_idle){.head = head, .pages = pages, .record = (uint64_t)((char *)r - a->heap)};
	if (!pages)
		slab_let_go(a, r);
	return pages != 0;
}

void slab_leave_idle(struct arena *a, const struct slab_idle *s)
{
	STOP_POINT(slab_idle_opening);
	slab_let_go(a, record_at(a, s->record));
}
