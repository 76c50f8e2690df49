/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry is its word (state, client, change count, hash) plus a handle and a name that are
 * written while the word says reserved and never change before it says free again. The span between
 * is a tenure; its number is the change count, which every reservation, and every new claim after
 * an abort, moves on.
 *
 *   publish:    free -> RESERVED(me) -> entry written -> CLAIMED(me) -> all other words looked at
 *               -> COMMITTED(me) -> the object's word: -> published -> LIVE
 *   unpublish:  LIVE -> UNPUBLISHING(me) -> the object's word: published -> private, mine -> free
 *
 * The object's word is the truth of both. A name in committed, live or unpublishing counts as
 * published exactly while its object is, for lookups, for helpers and for recovery alike.
 *
 * Invariant U: among the entries committed, live or unpublishing no name and no handle occurs
 *   twice. Two claimants P and Q of one name (or one handle) each write CLAIMED, then look at the
 *   other's word, then try CLAIMED -> COMMITTED; all of it sequentially consistent
 *   (PAIR(name-claim)). Say P's write is the earlier one. Then Q's look, which follows Q's write,
 *   sees P's tenure at CLAIMED or later:
 *     claimed      Q moves it to ABORTED, and P's commit fails; or that fails, since P moved on,
 *                  and Q looks again;
 *     aborted      P's commit fails;
 *     committed, live, unpublishing: Q gives up;
 *     free, or a later tenure: P's is over; a later one was claimed after Q, so its owner sees Q.
 *   A claimant that is stopped for an hour between its look and its commit has been aborted by
 *   whoever committed meanwhile, since they saw it claimed; if nobody did, its old look is still
 *   good.
 *
 * Nobody waits: a claimed rival is aborted, whether it runs, is stopped or dead. Two that keep
 * aborting each other would get nowhere, so after two rounds a claimant gives up before a claimed
 * rival of a lower index, which has claimed anew since we aborted it; the lowest goes on. Rounds
 * are bounded besides. Claims that succeed nowhere therefore need new rivals all the time.
 *
 * Helping: a look at COMMITTED whose object is published may move it to LIVE; at UNPUBLISHING whose
 * object is not published any more, to free. By U no other entry has that handle, so it was this
 * entry's client that changed the object, and it needs nothing further from the entry: its own last
 * swap may fail. So a client stopped after the commit point is in nobody's way; before it, it makes
 * -EEXIST or -EBUSY.
 *
 * Stale swaps: every swap is from the exact word seen, tenure included. Only one that comes exactly
 * 65,536 tenures late, of one entry, one client number and one hash, and finds the same state, can
 * hit another tenure: it aborts a claim, which is made again, makes live what is published, or, the
 * one harm, frees an entry whose unpublishing has begun and is not done.
 *
 * Modelled in tests/model/names.pml.
 *
 * Recovery of C: reserved, claimed, aborted -> free. Committed, unpublishing -> live if the object
 * is published, else free. By U a published object is this entry's. In any order with the return of
 * C's objects: published ones are not C's, and one that was unpublished and returned is stale, not
 * published.
 */
#include "names.h"

#include <errno.h>
#include <string.h>

#include "client.h"
#include "object.h"
#include "stop_point.h"
#include "thread.h"
#include "words.h"

#define NAME_WORDS (NAME_BYTES / 8)
#define ROUNDS_MAX 64	 /* claims of one publish */
#define ROUNDS_EQUAL 2	 /* of them before the lower index goes first */
#define LOOKS_MAX 64	 /* at one word that changes under our eyes */
_Static_assert(offsetof(struct name_entry, name) % 8 == 0, "names are copied by words");

/* A name as it stands in an entry: padded with zeros, so that equal names are equal words. */
struct name_key {
	uint64_t words[NAME_WORDS];
	uint32_t hash;
};

struct name_copy {
	uint64_t handle;
	uint64_t words[NAME_WORDS];
};

/* An entry of ours on its way, and the last word we put there. */
struct claim {
	struct name_key key;
	uint64_t handle;
	uint32_t index;
	uint64_t word;
};

static _Atomic uint64_t *word_at(const struct arena *a, uint32_t index)
{
	return (_Atomic uint64_t *)arena_at(a, a->g.name_words) + index;
}

/* Committed memory from the first time that the word said claimed. */
static struct name_entry *entry_at(const struct arena *a, uint32_t index)
{
	return (struct name_entry *)arena_at(a, a->g.name_entries) + index;
}

static _Atomic uint64_t *entry_words(const struct arena *a, uint32_t index)
{
	return (_Atomic uint64_t *)(void *)entry_at(a, index)->name;
}

static uint64_t load_word(const struct arena *a, uint32_t index)
{
	return atomic_load_explicit(word_at(a, index), memory_order_seq_cst);
}

static bool swap_word(struct arena *a, uint32_t index, uint64_t from, uint64_t to)
{
	return atomic_compare_exchange_strong_explicit(word_at(a, index), &from, to,
						       memory_order_seq_cst, memory_order_relaxed);
}

static uint64_t with_state(uint64_t word, enum name_state state, uint32_t client)
{
	return name_word(state, client, name_word_change(word), name_word_hash(word));
}

static uint64_t freed(uint64_t word)
{
	return name_word(NAME_FREE, 0, name_word_change(word), 0);
}

/* Live names are the arena's: no client's number stays in them. */
static uint64_t live(uint64_t word)
{
	return with_state(word, NAME_LIVE, 0);
}

static bool complete(uint64_t word)
{
	return name_word_state(word) >= NAME_CLAIMED && name_word_state(word) <= NAME_UNPUBLISHING;
}

static bool same_tenure(uint64_t x, uint64_t y)
{
	return complete(x) && complete(y) && name_word_change(x) == name_word_change(y) &&
	       name_word_hash(x) == name_word_hash(y);
}

/* FNV-1a (Fowler, Noll, Vo). */
static uint32_t hash_name(const char *name)
{
	uint32_t hash = UINT32_C(0x811c9dc5);

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * UINT32_C(0x01000193);
	return hash;
}

static int make_key(struct name_key *key, const char *name)
{
	size_t len = strnlen(name, NAME_BYTES);

	if (len == 0)
		return -EINVAL;
	if (len >= NAME_BYTES)
		return -ENAMETOOLONG;
	memset(key->words, 0, sizeof(key->words));
	memcpy(key->words, name, len);
	key->hash = hash_name(name);
	return 0;
}

static bool same_name(const struct name_key *key, const struct name_copy *copy)
{
	return memcmp(key->words, copy->words, sizeof(key->words)) == 0;
}

/*
 * What an entry held in the tenure of a word seen before; false if that is over.
 * PAIR(name-entry): word (acquire), entry, fence, word again; the writer: word, fence, entry, word.
 */
static bool read_entry(const struct arena *a, uint32_t index, uint64_t word, struct name_copy *copy)
{
	const _Atomic uint64_t *words = entry_words(a, index);

	copy->handle = atomic_load_explicit(&entry_at(a, index)->handle, memory_order_relaxed);
	for (uint32_t i = 0; i < NAME_WORDS; i++)
		copy->words[i] = atomic_load_explicit(&words[i], memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	return same_tenure(word, atomic_load_explicit(word_at(a, index), memory_order_relaxed));
}

/* "No" must be true: helpers act on it. So no page may seem absent only because it is news to us.
 * */
static bool is_published(struct arena *a, uint64_t handle)
{
	uint32_t client;

	if (handle_offset(handle) >> PAGE_SHIFT >=
	    atomic_load_explicit(&a->pages_known, memory_order_acquire))
		arena_refresh(a);
	return object_kind_of(a, handle, &client) == OBJECT_PUBLISHED;
}

static void count_change(struct arena *a)
{
	atomic_fetch_add_explicit(&a->header->name_changes, 1, memory_order_relaxed);
}

/* ---- finding ---- */

struct found {
	uint32_t index;
	uint64_t word;
	uint64_t handle;
};

/* A committed or unpublishing word, whose object's word says which it is; see "Helping" above. */
static bool counts_as_published(struct arena *a, uint32_t index, uint64_t word, uint64_t handle)
{
	if (is_published(a, handle))
		return same_tenure(word, load_word(a, index)); /* else another name's */
	if (name_word_state(word) == NAME_UNPUBLISHING && !a->readonly)
		swap_word(a, index, word, freed(word));
	return false;
}

static bool find_at(struct arena *a, const struct name_key *key, uint32_t index, struct found *ret)
{
	for (int look = 0; look < LOOKS_MAX; look++) {
		uint64_t word = load_word(a, index);
		struct name_copy copy;

		if (name_word_hash(word) != key->hash || !complete(word) ||
		    name_word_state(word) < NAME_COMMITTED)
			return false;
		if (!read_entry(a, index, word, &copy))
			continue;
		if (!same_name(key, &copy))
			return false;
		if (name_word_state(word) != NAME_LIVE &&
		    !counts_as_published(a, index, word, copy.handle))
			return false;
		*ret = (struct found){.index = index, .word = word, .handle = copy.handle};
		return true;
	}
	return false;
}

/* A name's word lies at its hash's place, or as near after it as was free. */
static uint32_t place(const struct name_key *key, uint32_t step)
{
	return (key->hash + step) % NAMES_MAX;
}

static bool find(struct arena *a, const struct name_key *key, struct found *ret)
{
	for (uint32_t step = 0; step < NAMES_MAX; step++) {
		if (find_at(a, key, place(key, step), ret))
			return true;
	}
	return false;
}

uint64_t names_lookup(struct arena *a, const char *name)
{
	struct name_key key;
	struct found found;

	if (make_key(&key, name) || !find(a, &key, &found))
		return 0;
	return found.handle;
}

/* ---- publishing ---- */

/* Told early, before anything is touched; the swap of the object's word has the last say. */
static int check_publishable(struct arena *a, uint64_t handle)
{
	uint32_t client = 0;

	if (handle_tag(handle) != a->tag || handle_offset(handle) >= a->g.capacity)
		return -EINVAL;
	switch (object_kind_of(a, handle, &client)) {
	case OBJECT_FREE: return -ESTALE;
	case OBJECT_PRIVATE:
	case OBJECT_TAKEN:
	case OBJECT_SHARED: return client == a->client ? 0 : -EPERM;
	case OBJECT_PERSISTENT: return 0;
	case OBJECT_PUBLISHED:
	case OBJECT_HELD: return -EBUSY;
	default: return -EINVAL;
	}
}

static int reserve(struct arena *a, struct claim *c)
{
	for (uint32_t step = 0; step < NAMES_MAX; step++) {
		uint32_t index = place(&c->key, step);
		uint64_t word = load_word(a, index);
		uint64_t mine = name_word(NAME_RESERVED, a->client, name_word_change(word) + 1,
					  c->key.hash);

		if (name_word_state(word) != NAME_FREE)
			continue;
		/* Crash: after, until committed, recovery frees the entry and nothing else has
		 * changed. */
		if (swap_word(a, index, word, mine)) {
			c->index = index;
			c->word = mine;
			return 0;
		}
	}
	return -ENOSPC;
}

static int write_entry(struct arena *a, struct claim *c)
{
	struct name_entry *e = entry_at(a, c->index);
	_Atomic uint64_t *words = entry_words(a, c->index);
	int r = arena_commit(a, a->g.name_entries + c->index * sizeof(*e), sizeof(*e));

	if (r)
		return r;
	/* PAIR(name-entry): reserved, fence, entry, claimed. */
	atomic_thread_fence(memory_order_release);
	for (uint32_t i = 0; i < NAME_WORDS; i++)
		atomic_store_explicit(&words[i], c->key.words[i], memory_order_relaxed);
	atomic_store_explicit(&e->handle, c->handle, memory_order_relaxed);
	return 0;
}

/* To the next word of our entry; -EAGAIN if a rival has aborted us. */
static int advance(struct arena *a, struct claim *c, uint64_t to)
{
	if (!swap_word(a, c->index, c->word, to))
		return -EAGAIN;
	c->word = to;
	return 0;
}

/* Reserved, or aborted: the word moves to a claim of a new tenure's number. */
static int claim(struct arena *a, struct claim *c)
{
	uint64_t word = load_word(a, c->index);

	c->word = word;
	/* PAIR(name-claim): our claim, then the looks at others. */
	return advance(a, c,
		       name_word(NAME_CLAIMED, a->client,
				 name_word_change(word) + (name_word_state(word) == NAME_ABORTED),
				 c->key.hash));
}

/*
 * One look at one other word. 0: no rival (any more); -EAGAIN: look again; else the error for our
 * caller.
 */
static int look_at(struct arena *a, const struct claim *c, uint32_t index, int round)
{
	/* PAIR(name-claim): our claim, then the look. */
	uint64_t word = load_word(a, index);
	struct name_copy copy;
	int conflict;

	if (!complete(word) || name_word_state(word) == NAME_ABORTED)
		return 0;
	/* A tenure that began after our claim: its owner sees us. */
	if (!read_entry(a, index, word, &copy))
		return 0;
	if (name_word_hash(word) == c->key.hash && same_name(&c->key, &copy))
		conflict = -EEXIST;
	else if (copy.handle == c->handle)
		conflict = -EBUSY;
	else
		return 0;
	if (name_word_state(word) == NAME_CLAIMED) {
		if (round >= ROUNDS_EQUAL && index < c->index)
			return conflict;
		return swap_word(a, index, word,
				 with_state(word, NAME_ABORTED, name_word_client(word)))
			       ? 0
			       : -EAGAIN;
	}
	if (name_word_state(word) == NAME_UNPUBLISHING && !is_published(a, copy.handle))
		return swap_word(a, index, word, freed(word)) ? 0 : -EAGAIN;
	return conflict;
}

static int look_at_all(struct arena *a, const struct claim *c, int round)
{
	for (uint32_t index = 0; index < NAMES_MAX; index++) {
		int r = -EAGAIN;

		for (int look = 0; r == -EAGAIN && look < LOOKS_MAX; look++)
			r = index == c->index ? 0 : look_at(a, c, index, round);
		if (r)
			return r == -EAGAIN ? -EEXIST : r;
	}
	return 0;
}

static int become_only_one(struct arena *a, struct claim *c)
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		int r = claim(a, c);

		STOP_POINT(name_claimed);
		if (!r)
			r = look_at_all(a, c, round);
		STOP_POINT(name_looked);
		/* Crash: before, the name is free for others; after, recovery asks the object. */
		if (!r)
			r = advance(a, c, with_state(c->word, NAME_COMMITTED, a->client));
		if (r != -EAGAIN)
			return r;
	}
	return -EEXIST;
}

/* Nobody but an aborting rival touches it meanwhile. */
static void give_up(struct arena *a, const struct claim *c)
{
	for (int look = 0; look < LOOKS_MAX; look++) {
		uint64_t word = load_word(a, c->index);

		if (name_word_client(word) != a->client ||
		    swap_word(a, c->index, word, freed(word)))
			return;
	}
}

int names_publish(struct arena *a, const char *name, uint64_t handle)
{
	struct claim c = {.handle = handle};
	struct found found;
	int r = make_key(&c.key, name);

	if (!r)
		r = a->readonly ? -EROFS : thread_become_client(a);
	if (!r)
		r = check_publishable(a, handle);
	if (!r && find(a, &c.key, &found))
		r = -EEXIST;
	if (!r)
		r = reserve(a, &c);
	if (r)
		return r;
	STOP_POINT(name_reserved);
	r = write_entry(a, &c);
	STOP_POINT(name_written);
	if (!r)
		r = become_only_one(a, &c);
	STOP_POINT(name_committed);
	/* Crash: here is the commit point. Before, the entry is dropped; after, it goes live. */
	if (!r)
		r = object_publish_word(a, handle);
	if (r) {
		give_up(a, &c);
		return r;
	}
	STOP_POINT(name_published);
	swap_word(a, c.index, c.word, live(c.word)); /* or somebody has helped */
	count_change(a);
	return 0;
}

/* ---- unpublishing ---- */

/* Moves a found name to unpublishing by us; c->word is then ours. */
static int begin_unpublish(struct arena *a, struct found *f)
{
	uint64_t mine = with_state(f->word, NAME_UNPUBLISHING, a->client);

	if (name_word_state(f->word) == NAME_UNPUBLISHING)
		return -EBUSY;
	if (name_word_state(f->word) == NAME_COMMITTED) {
		/* Its publisher is past the commit point, and only that. */
		swap_word(a, f->index, f->word, live(f->word));
		f->word = live(f->word);
	}
	/* Crash: after, recovery puts it back to live, as long as the object says published. */
	if (!swap_word(a, f->index, f->word, mine))
		return -EAGAIN;
	f->word = mine;
	return 0;
}

static int finish_unpublish(struct arena *a, const struct found *f)
{
	STOP_POINT(name_unpublishing);
	/* Crash: here is the commit point. After, the object is ours and returns with us. */
	int r = object_unpublish_word(a, f->handle);

	if (r && is_published(a, f->handle)) {
		swap_word(a, f->index, f->word, live(f->word));
		return r;
	}
	STOP_POINT(name_unpublished);
	swap_word(a, f->index, f->word, freed(f->word)); /* or somebody has helped */
	count_change(a);
	if (!r)
		return 0;
	atomic_store_explicit(&a->header->damaged, 1, memory_order_relaxed);
	return -EUCLEAN;
}

static int prepare_object(struct arena *a, uint64_t handle)
{
	uint64_t offset = handle_offset(handle);

	if (offset >= a->g.capacity)
		return -EUCLEAN;
	return client_prepare_zone(a, (offset >> PAGE_SHIFT) / a->g.zone_pages);
}

int names_unpublish(struct arena *a, const char *name)
{
	struct name_key key;
	int r = make_key(&key, name);

	if (!r)
		r = a->readonly ? -EROFS : thread_become_client(a);
	if (r)
		return r;
	for (int look = 0; look < LOOKS_MAX; look++) {
		struct found found;

		if (!find(a, &key, &found))
			return -ENOENT;
		/* Before the name is touched: the object will be ours there. */
		r = prepare_object(a, found.handle);
		if (!r)
			r = begin_unpublish(a, &found);
		if (!r)
			return finish_unpublish(a, &found);
		if (r != -EAGAIN)
			return r;
	}
	return -EBUSY;
}

/* ---- recovery and looking ---- */

static uint64_t settled(struct arena *a, uint32_t index, uint64_t word)
{
	enum name_state state = name_word_state(word);

	if (state != NAME_COMMITTED && state != NAME_UNPUBLISHING)
		return freed(word);
	return is_published(a,
			    atomic_load_explicit(&entry_at(a, index)->handle, memory_order_relaxed))
		       ? live(word)
		       : freed(word);
}

void names_recover(struct arena *a, uint32_t client)
{
	for (uint32_t index = 0; index < NAMES_MAX; index++) {
		/* Again where a rival aborts, or somebody helps: at most once each. */
		for (int look = 0; look < LOOKS_MAX; look++) {
			uint64_t word = load_word(a, index);

			if (name_word_client(word) != client ||
			    name_word_state(word) == NAME_FREE ||
			    name_word_state(word) == NAME_LIVE)
				break;
			STOP_POINT(name_recovering);
			if (swap_word(a, index, word, settled(a, index, word))) {
				count_change(a);
				break;
			}
		}
	}
}

int names_view(const struct arena *a, uint32_t index, struct name_view *ret)
{
	struct name_copy copy;
	uint64_t word;

	if (index >= NAMES_MAX)
		return -ENOENT;
	word = load_word(a, index);
	if (!complete(word) || !read_entry(a, index, word, &copy))
		return -ENOENT;
	ret->state = name_word_state(word);
	ret->client = name_word_client(word);
	ret->handle = copy.handle;
	memcpy(ret->name, copy.words, sizeof(ret->name));
	ret->name[NAME_BYTES - 1] = '\0';
	return 0;
}

static bool view_valid(struct arena *a, uint32_t index, const struct name_view *view)
{
	uint64_t word = load_word(a, index);

	if (hash_name(view->name) != name_word_hash(word) || view->name[0] == '\0')
		return false;
	return view->state != NAME_LIVE || (view->client == 0 && is_published(a, view->handle));
}

/* Whether no later entry has the same name or handle; see invariant U. */
static bool only_one(const struct arena *a, uint32_t index, const struct name_view *view)
{
	struct name_view other;

	for (uint32_t i = index + 1; i < NAMES_MAX; i++) {
		if (name_word_state(load_word(a, i)) < NAME_COMMITTED || names_view(a, i, &other))
			continue;
		if (other.handle == view->handle || strcmp(other.name, view->name) == 0)
			return false;
	}
	return true;
}

bool names_valid(struct arena *a)
{
	for (uint32_t index = 0; index < NAMES_MAX; index++) {
		uint64_t word = load_word(a, index);
		struct name_view view;

		if (name_word_state(word) > NAME_UNPUBLISHING)
			return false;
		if (names_view(a, index, &view))
			continue;
		if (!view_valid(a, index, &view))
			return false;
		if (view.state >= NAME_COMMITTED && !only_one(a, index, &view))
			return false;
	}
	return true;
}
