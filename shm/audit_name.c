/* SPDX-License-Identifier: Apache-2.0 */
/* Names and published objects: one to one. */
#include <stdlib.h>
#include <string.h>

#include "audit_run.h"

static int compare_handle(const void *pa, const void *pb)
{
	const struct audit_name *a = pa, *b = pb;

	return a->handle == b->handle ? 0 : a->handle < b->handle ? -1 : 1;
}

static int compare_text(const void *pa, const void *pb)
{
	const struct audit_name *a = pa, *b = pb;

	return strncmp(a->text, b->text, sizeof(a->text));
}

void audit_names_read(struct audit_run *run)
{
	const struct arena_geometry *g = &run->a->g;

	run->names_count = 0;
	for (uint32_t i = 0; i < NAMES_MAX; i++) {
		struct audit_name *name = &run->names[run->names_count];
		struct name_entry entry;

		name->word = audit_word(run, g->name_words, i);
		if (name_word_state(name->word) == NAME_FREE)
			continue;
		if (!walk_copy(run->a, g->name_entries + i * sizeof(entry), &entry, sizeof(entry)))
			continue;
		name->index = i;
		name->handle = atomic_load_explicit(&entry.handle, memory_order_relaxed);
		memcpy(name->text, entry.name, sizeof(name->text));
		run->names_count++;
	}
	qsort(run->names, run->names_count, sizeof(*run->names), compare_handle);
}

/* FNV-1a (Fowler, Noll, Vo) of a name that may not end. */
static uint32_t hash_text(const char text[NAME_BYTES])
{
	uint32_t hash = UINT32_C(0x811c9dc5);

	for (uint32_t i = 0; i < NAME_BYTES && text[i]; i++)
		hash = (hash ^ (unsigned char)text[i]) * UINT32_C(0x01000193);
	return hash;
}

/* States of a name in which its object may be published: then there is but one of it. */
static bool may_publish(const struct audit_name *name)
{
	enum name_state state = name_word_state(name->word);

	return state == NAME_COMMITTED || state == NAME_LIVE || state == NAME_UNPUBLISHING;
}

void audit_published(struct audit_run *run, uint64_t handle, uint64_t page)
{
	struct audit_name key = { .handle = handle };
	struct audit_spot spot = { .page = page, .handle = handle };
	const struct audit_name *end = run->names + run->names_count;
	const struct audit_name *name =
		bsearch(&key, run->names, run->names_count, sizeof(key), compare_handle);

	while (name && name > run->names && name[-1].handle == handle)
		name--;
	for (; name && name < end && name->handle == handle; name++)
		if (may_publish(name))
			return;
	audit_note(run, AUDIT_NAME_LOST, spot, "object %#llx is published, but under no name",
		   (unsigned long long)handle);
}

static struct audit_spot spot_of(const struct audit_name *name)
{
	return (struct audit_spot){ .page = AUDIT_NOWHERE,
				    .handle = name->handle,
				    .client = name_word_client(name->word),
				    .evidence = name->word ^ name->index };
}

static void check_live_name(struct audit_run *run, const struct audit_name *name)
{
	struct walk_object object = { 0 };

	if (handle_tag(name->handle) == run->a->tag &&
	    walk_object(run->a, handle_offset(name->handle), &object) &&
	    state_kind(object.state) == OBJECT_PUBLISHED &&
	    state_gen(object.state) == handle_gen(name->handle))
		return;
	audit_note(run, AUDIT_NAME, spot_of(name),
		   "name %.*s: object %#llx is not published (word %#x)", (int)sizeof(name->text),
		   name->text, (unsigned long long)name->handle, object.state);
}

static void check_name(struct audit_run *run, const struct audit_name *name)
{
	enum name_state state = name_word_state(name->word);

	if (state > NAME_UNPUBLISHING)
		audit_note(run, AUDIT_NAME, spot_of(name), "name %u: word %#llx has no such state",
			   name->index, (unsigned long long)name->word);
	else if (state == NAME_LIVE)
		check_live_name(run, name);
	else if (!audit_client_exists(run, name_word_client(name->word)))
		audit_note(run, AUDIT_OWNER, spot_of(name),
			   "name %u: of client %u, who does not exist", name->index,
			   name_word_client(name->word));
	/* While it is reserved its text is being written. */
	if (state < NAME_CLAIMED || state > NAME_UNPUBLISHING)
		return;
	if (!name->text[0] || !memchr(name->text, 0, sizeof(name->text)))
		audit_note(run, AUDIT_NAME, spot_of(name), "name %u: is empty, or does not end",
			   name->index);
	else if (hash_text(name->text) != name_word_hash(name->word))
		audit_note(run, AUDIT_NAME, spot_of(name), "name %.*s: its word has another hash",
			   (int)sizeof(name->text), name->text);
}

static void check_pair(struct audit_run *run, const struct audit_name *a,
		       const struct audit_name *b, const char *same)
{
	if (may_publish(a) && may_publish(b))
		audit_note(run, AUDIT_NAME, spot_of(b), "names %u and %u have the same %s",
			   a->index, b->index, same);
}

void audit_names(struct audit_run *run)
{
	for (uint32_t i = 0; i < run->names_count; i++)
		check_name(run, &run->names[i]);
	for (uint32_t i = 1; i < run->names_count; i++)
		if (run->names[i - 1].handle == run->names[i].handle)
			check_pair(run, &run->names[i - 1], &run->names[i], "object");
	qsort(run->names, run->names_count, sizeof(*run->names), compare_text);
	for (uint32_t i = 1; i < run->names_count; i++)
		if (compare_text(&run->names[i - 1], &run->names[i]) == 0)
			check_pair(run, &run->names[i - 1], &run->names[i], "text");
}
