/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and published objects. Each says that the other is: so where one of the two is damaged the other
 * tells it. A name that is live, and whose word has its text's hash, is believed over its object's word;
 * a published object is believed over a name's word.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "repair_run.h"

static _Atomic uint64_t *word_at(const struct repair_run *r, uint32_t i)
{
	return (_Atomic uint64_t *)arena_at(&r->a, r->a.g.name_words) + i;
}

/* FNV-1a (Fowler, Noll, Vo) of a text that has an end. */
static uint32_t hash_text(const char *text)
{
	uint32_t hash = UINT32_C(0x811c9dc5);

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * UINT32_C(0x01000193);
	return hash;
}

/* ---- reading them ---- */

static void read_name(struct repair_run *r, uint32_t i)
{
	struct repair_name *n = &r->names[i];
	struct name_entry entry;

	n->word = atomic_load_explicit(word_at(r, i), memory_order_acquire);
	if (!walk_copy(&r->a, r->a.g.name_entries + i * sizeof(entry), &entry, sizeof(entry)))
		return;
	n->handle = atomic_load_explicit(&entry.handle, memory_order_relaxed);
	memcpy(n->text, entry.name, sizeof(n->text));
	n->ended = n->text[0] && memchr(n->text, 0, sizeof(n->text));
	n->sound = n->ended && name_word_state(n->word) == NAME_LIVE &&
		   name_word_hash(n->word) == hash_text(n->text);
}

static const struct repair_name *sorting; /* qsort() takes no context */

static int compare_offsets(const void *pa, const void *pb)
{
	uint64_t x = handle_offset(sorting[*(const uint32_t *)pa].handle);
	uint64_t y = handle_offset(sorting[*(const uint32_t *)pb].handle);

	return x == y ? 0 : x < y ? -1 : 1;
}

int repair_names_read(struct repair_run *r)
{
	r->names = calloc(NAMES_MAX, sizeof(*r->names));
	r->sound = calloc(NAMES_MAX, sizeof(*r->sound));
	if (!r->names || !r->sound)
		return -ENOMEM;
	for (uint32_t i = 0; i < NAMES_MAX; i++) {
		read_name(r, i);
		if (r->names[i].sound)
			r->sound[r->sound_count++] = i;
	}
	sorting = r->names;
	qsort(r->sound, r->sound_count, sizeof(*r->sound), compare_offsets);
	return 0;
}

const struct repair_name *repair_named(const struct repair_run *r, uint64_t offset)
{
	uint32_t low = 0, high = r->sound_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		uint64_t at = handle_offset(r->names[r->sound[middle]].handle);

		if (at == offset)
			return &r->names[r->sound[middle]];
		if (at < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* ---- against their objects ---- */

/* The handle that a name should have: that of the published object where it says; 0: there is none. */
static uint64_t published_at(const struct repair_run *r, uint64_t handle)
{
	struct repair_word w;
	uint32_t state;

	if (!repair_word_at(r, handle_offset(handle), &w))
		return 0;
	state = repair_word_get(&w);
	if (state_kind(state) != OBJECT_PUBLISHED)
		return 0;
	return handle_make(r->a.tag, state_gen(state), handle_offset(handle));
}

/* Whether a name kept before has the same object or the same text. */
static bool is_second(const struct repair_run *r, uint64_t handle, const char *text)
{
	for (uint32_t i = 0; i < NAMES_MAX; i++)
		if (r->names[i].kept &&
		    (r->names[i].handle == handle || strcmp(r->names[i].text, text) == 0))
			return true;
	return false;
}

static int write_name(struct repair_run *r, uint32_t i, uint64_t handle)
{
	struct repair_name *n = &r->names[i];
	struct name_entry *entry = (struct name_entry *)arena_at(&r->a, r->a.g.name_entries) + i;
	uint64_t due = name_word(NAME_LIVE, 0, name_word_change(n->word), hash_text(n->text));
	int err = arena_commit(&r->a, r->a.g.name_entries + i * sizeof(*entry), sizeof(*entry));

	if (err)
		return err;
	/* Crash: between the two the name is found again, by its object or by itself. */
	if (n->handle != handle)
		atomic_store_explicit(&entry->handle, handle, memory_order_relaxed);
	if (n->word != due)
		atomic_store_explicit(word_at(r, i), due, memory_order_release);
	if (n->handle != handle || name_word_state(n->word) > NAME_UNPUBLISHING ||
	    name_word_state(n->word) == NAME_FREE || name_word_hash(n->word) != hash_text(n->text))
		repair_note(r, REPAIR_NAME, AUDIT_NOWHERE, handle, 1, 0, "name %.95s: restored",
			    n->text);
	n->handle = handle;
	n->kept = true;
	return 0;
}

static void drop_name(struct repair_run *r, uint32_t i)
{
	struct repair_name *n = &r->names[i];
	enum name_state state = name_word_state(n->word);

	/* Crash: before, looked at again; after, free. */
	atomic_store_explicit(word_at(r, i), name_word(NAME_FREE, 0, name_word_change(n->word), 0),
			      memory_order_release);
	if (state == NAME_LIVE && n->ended)
		repair_note(r, REPAIR_NAME_LOST, AUDIT_NOWHERE, n->handle, 0, 0,
			    "name %.95s: its object is gone", n->text);
	else if (state == NAME_LIVE || state > NAME_UNPUBLISHING)
		repair_note(r, REPAIR_NAME_DROPPED, AUDIT_NOWHERE, 0, 0, 0,
			    "name entry %u: word %#llx", i, (unsigned long long)n->word);
	/* All other states: its client died on the way. */
}

static int settle(struct repair_run *r, uint32_t i)
{
	struct repair_name *n = &r->names[i];
	uint64_t handle = published_at(r, n->handle);
	bool certain = name_word_state(n->word) >= NAME_COMMITTED;

	if (!handle || !n->ended || !certain || is_second(r, handle, n->text)) {
		drop_name(r, i);
		return 0;
	}
	return write_name(r, i, handle);
}

/* A published object that no name has: its name may stand in an entry whose word was lost. */
static void find_name(struct repair_run *r, uint64_t handle)
{
	struct repair_word w = { 0 };

	for (uint32_t i = 0; i < NAMES_MAX; i++)
		if (r->names[i].kept && r->names[i].handle == handle)
			return;
	for (uint32_t i = 0; i < NAMES_MAX; i++) {
		struct repair_name *n = &r->names[i];

		if (!n->kept && n->ended && n->handle == handle && !is_second(r, handle, n->text) &&
		    write_name(r, i, handle) == 0)
			return;
	}
	if (!repair_word_at(r, handle_offset(handle), &w))
		return;
	repair_word_set(&w, state_make(OBJECT_PERSISTENT, 0, handle_gen(handle)));
	repair_note(r, REPAIR_UNNAMED, handle_offset(handle) >> PAGE_SHIFT, handle, 1, w.bytes,
		    "object %#llx of %llu bytes was published, but its name is gone",
		    (unsigned long long)handle, (unsigned long long)w.bytes);
}

/* Sound names first: of two with one text or one object, they are it. */
int repair_names(struct repair_run *r)
{
	int err = 0;

	for (int sound = 1; sound >= 0; sound--)
		for (uint32_t i = 0; !err && i < NAMES_MAX; i++)
			if (name_word_state(r->names[i].word) != NAME_FREE &&
			    r->names[i].sound == (sound == 1))
				err = settle(r, i);
	if (!err)
		repair_each_published(r, find_name);
	return err;
}
