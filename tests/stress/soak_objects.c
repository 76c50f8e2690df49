/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What workers do with objects. An object that never was on the board is its owner's alone, and every call
 * must do what it says. One that was may be taken or freed by anyone at any time, as long as nobody has it
 * to himself; then whoever succeeds writes the account.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "soak_work.h"

#define PAGE 4096u

static void check_content(uint32_t entry, const char *when)
{
	struct entry *e = entry_at(entry);
	uint64_t h = atomic_load(&e->handle);
	const void *p = shma_ptr(self, h);

	if (!p)
		lost("%s: entry %u, handle %#llx: %s", when, entry, (unsigned long long)h,
		     strerror(errno));
	if (shma_size(self, h) < e->size)
		lost("%s: entry %u has %zu bytes, not %llu", when, entry, shma_size(self, h),
		     (unsigned long long)e->size);
	if (!content_whole(entry, p, shma_size(self, h)))
		lost("%s: entry %u, handle %#llx, %zu bytes, is not as written", when, entry,
		     (unsigned long long)h, shma_size(self, h));
}

/* ---- what a thread has ---- */

void own_add(struct thread *t, uint32_t entry)
{
	t->own[t->owned++] = entry;
	t->own_bytes += entry_at(entry)->size;
}

static uint32_t own_remove(struct thread *t, uint32_t at)
{
	uint32_t entry = t->own[at];

	t->own[at] = t->own[--t->owned];
	t->own_bytes -= entry_at(entry)->size;
	return entry;
}

/* One that the board has never seen, removed; NOTHING. */
static uint32_t own_unseen(struct thread *t)
{
	for (uint32_t tries = 0; tries < 8 && t->owned; tries++) {
		uint32_t at = draw(&t->seed, t->owned);

		if (!atomic_load(&entry_at(t->own[at])->offered))
			return own_remove(t, at);
	}
	return NOTHING;
}

/* It has become this thread's: the arena says so, and nobody else may think the same. */
static void now_mine(struct thread *t, uint32_t entry, uint64_t handle, const char *how)
{
	struct entry *e = entry_at(entry);
	uint32_t held;

	if (atomic_load(&e->handle) != handle)
		lost("%s: entry %u is %#llx, not %#llx", how, entry,
		     (unsigned long long)atomic_load(&e->handle), (unsigned long long)handle);
	held = atomic_exchange(&e->held, t->life);
	if (held)
		lost("%s: entry %u, handle %#llx, is owned twice: by life %u and by %u", how, entry,
		     (unsigned long long)handle, held, t->life);
	atomic_store(&e->owner, tenure(t));
}

/* ---- alloc, free, resize ---- */

static uint64_t draw_size(struct thread *t)
{
	uint32_t kind = draw(&t->seed, 1000);

	if (kind < 600)
		return 1 + draw(&t->seed, 512);
	if (kind < 860)
		return 1 + draw(&t->seed, 4096);
	if (kind < 960)
		return 1 + draw(&t->seed, 32768);
	if (kind < 994)
		return 1 + draw(&t->seed, 256 << 10);
	if (kind < 999)
		return 1 + draw(&t->seed, 1 << 20);
	/* More than a zone. */
	return account->capacity / 8 + draw(&t->seed, (uint32_t)(account->capacity / 16));
}

static unsigned draw_flags(struct thread *t)
{
	switch (draw(&t->seed, 12)) {
	case 0: return SHMA_ZERO;
	case 1: return SHMA_TEMP;
	case 2: return SHMA_ALIGN(64);
	case 3: return draw(&t->seed, 8) ? 0 : SHMA_LARGE;
	case 4: return draw(&t->seed, 8) ? 0 : SHMA_ALIGN(64 << 10);
	default: return 0;
	}
}

static bool all_zero(const void *p, uint64_t bytes)
{
	const char *c = p;

	return c[0] == 0 && memcmp(c, c + 1, bytes - 1) == 0;
}

static void expect_no_room(const char *what)
{
	if (errno != ENOMEM && !(errno == EDQUOT && account->quota))
		lost("%s: %s", what, strerror(errno));
}

/* The bytes of a new object, and what its flags promise. */
static void *first_look(uint64_t h, uint64_t size, unsigned flags)
{
	char *p = shma_ptr(self, h);

	if (!p)
		lost("a new object, %#llx: %s", (unsigned long long)h, strerror(errno));
	if (flags >> 8 && (uintptr_t)p % (UINT64_C(1) << (flags >> 8)))
		lost("a new object, %#llx, is not aligned", (unsigned long long)h);
	if (flags & SHMA_ZERO && !all_zero(p, size))
		lost("a new object, %#llx, is not zeroed", (unsigned long long)h);
	return p;
}

static uint32_t allocate(struct thread *t, enum op op, uint64_t size, unsigned flags)
{
	bool shared = op != OP_ALLOC;
	uint32_t entry = entry_new(t->partition, tenure(t), shared ? 0 : t->life, size);
	struct entry *e;
	uint64_t h;

	if (entry == NOTHING)
		return NOTHING;
	e = entry_at(entry);
	atomic_store(&e->offered, shared);
	op_begin(t, op, entry, 0, NOTHING, NOTHING);
	h = shma_alloc(self, size, flags);
	if (!h) {
		expect_no_room("alloc");
		entry_drop(entry);
		op_end(t);
		return NOTHING;
	}
	atomic_store(&e->handle, h);
	content_fill(entry, first_look(h, size, flags), shma_size(self, h));
	if (op == OP_ALLOC_PERSISTENT)
		atomic_store(&e->owner, (uint64_t)ARENA_LIFE << 32);
	atomic_store(&e->state, ENTRY_LIVE);
	op_end(t);
	return entry;
}

static void do_alloc(struct thread *t)
{
	uint64_t size = draw_size(t);
	uint32_t entry;

	if (t->owned == OWN_MAX || t->own_bytes + size > t->own_bytes_max)
		return;
	entry = allocate(t, OP_ALLOC, size, draw_flags(t));
	if (entry != NOTHING)
		own_add(t, entry);
}

static void free_own(struct thread *t, uint32_t at)
{
	uint32_t entry = own_remove(t, at);
	uint64_t h = atomic_load(&entry_at(entry)->handle);
	int r;

	op_begin(t, OP_FREE, entry, h, NOTHING, NOTHING);
	check_content(entry, "before free");
	r = shma_free(self, h);
	if (r)
		lost("free of one's own: %s", shma_strerror(r));
	if (shma_ptr(self, h))
		lost("freed, and live under the same handle, %#llx", (unsigned long long)h);
	entry_drop(entry);
	op_end(t);
}

void free_all(struct thread *t)
{
	while (t->owned)
		free_own(t, t->owned - 1);
}

/* What was there before is there as far as both reach; the front tells. */
static void check_moved(uint32_t entry, const void *p, uint64_t both)
{
	uint32_t named, serial;

	if (!p)
		lost("resized, and stale: %s", strerror(errno));
	if (both > 256)
		both = 256;
	if (both >= 8 && (!content_front(p, both, &named, &serial) || named != entry))
		lost("resized, and not as written");
}

static void resize(struct thread *t, uint32_t entry, uint64_t size)
{
	struct entry *e = entry_at(entry);
	uint64_t h = atomic_load(&e->handle), before = shma_size(self, h), moved;

	check_content(entry, "before resize");
	moved = shma_resize(self, h, size);
	if (!moved) {
		expect_no_room("resize");
		check_content(entry, "after a resize that failed");
		return;
	}
	if (moved != h && shma_ptr(self, h))
		lost("resized and moved, and live under the old handle");
	check_moved(entry, shma_ptr(self, moved), size < before ? size : before);
	/* Whole, before anybody can learn of it through the entry. */
	content_fill(entry, shma_ptr(self, moved), shma_size(self, moved));
	t->own_bytes += size - e->size;
	e->size = size;
	atomic_store(&e->handle, moved);
}

static void do_resize(struct thread *t)
{
	uint64_t size = draw_size(t);
	uint32_t entry;

	if (!t->owned)
		return;
	entry = t->own[draw(&t->seed, t->owned)];
	if (t->own_bytes - entry_at(entry)->size + size > t->own_bytes_max)
		return;
	op_begin(t, OP_RESIZE, entry, atomic_load(&entry_at(entry)->handle), NOTHING, NOTHING);
	resize(t, entry, size);
	op_end(t);
}

/* ---- the board ---- */

/*
 * To the arena an owner is a process. That one thread does not free what another one has just taken is the
 * program's own affair: a lock among the threads, by entry.
 */
static pthread_mutex_t board_locks[64] = { [0 ... 63] = PTHREAD_MUTEX_INITIALIZER };

static void board_lock(uint32_t entry)
{
	pthread_mutex_lock(&board_locks[entry % 64]);
}

static void board_unlock(uint32_t entry)
{
	pthread_mutex_unlock(&board_locks[entry % 64]);
}

/* The handle that was offered, or 0 if the entry is in another use by now. */
static uint64_t offered_handle(uint64_t offer)
{
	struct entry *e = entry_at((uint32_t)offer - 1);
	uint64_t h = atomic_load(&e->handle);

	atomic_thread_fence(memory_order_seq_cst);
	return e->serial == offer >> 32 ? h : SHMA_NULL;
}

static void free_unless_taken(struct thread *t, uint64_t offer)
{
	uint64_t h = offered_handle(offer);
	uint32_t entry = (uint32_t)offer - 1;
	int r;

	if (!h || atomic_load(&entry_at(entry)->held) == t->life)
		return;
	op_begin(t, OP_FREE_OFFER, entry, h, NOTHING, NOTHING);
	r = shma_free(self, h);
	if (r == 0) {
		if (atomic_load(&entry_at(entry)->handle) != h)
			lost("freed an offer: entry %u is another's", entry);
		if (atomic_load(&entry_at(entry)->held))
			lost("freed an offer: entry %u, %#llx, is life %u's own", entry,
			     (unsigned long long)h, atomic_load(&entry_at(entry)->held));
		entry_drop(entry);
	} else if (r != -ESTALE && r != -EPERM && r != -EINVAL && r != -ENOMEM && r != -EBUSY) {
		lost("free of an offer: %s", shma_strerror(r));
	}
	op_end(t);
}

static void free_offer(struct thread *t, uint64_t offer)
{
	uint32_t entry = (uint32_t)offer - 1;

	board_lock(entry);
	free_unless_taken(t, offer);
	board_unlock(entry);
}

/* What it displaces is freed, unless somebody else is faster. */
static void put_on_board(struct thread *t, uint32_t entry)
{
	uint64_t offer = (uint64_t)entry_at(entry)->serial << 32 | (entry + 1);

	offer = atomic_exchange(&account->board[draw(&t->seed, BOARD)], offer);
	if (offer)
		free_offer(t, offer);
}

static void do_offer(struct thread *t)
{
	uint32_t entry;
	struct entry *e;
	int r;

	if (!t->owned)
		return;
	entry = own_remove(t, draw(&t->seed, t->owned));
	e = entry_at(entry);
	board_lock(entry);
	op_begin(t, OP_OFFER, entry, atomic_load(&e->handle), NOTHING, NOTHING);
	check_content(entry, "before an offer");
	atomic_store(&e->offered, 1);
	atomic_store(&e->held, 0);
	r = shma_share(self, atomic_load(&e->handle));
	if (r)
		lost("share: %s", shma_strerror(r));
	op_end(t);
	board_unlock(entry);
	put_on_board(t, entry);
}

static void do_alloc_shared(struct thread *t)
{
	bool persistent = draw(&t->seed, 8) == 0;
	uint64_t size = draw_size(t);
	uint32_t entry;

	if (size > (64 << 10))
		return;
	entry = persistent ? allocate(t, OP_ALLOC_PERSISTENT, size, SHMA_PERSIST)
			   : allocate(t, OP_ALLOC_SHARED, size, SHMA_SHARED);
	if (entry != NOTHING)
		put_on_board(t, entry);
}

static void take(struct thread *t, uint64_t offer)
{
	uint64_t h = offered_handle(offer);
	uint32_t entry = (uint32_t)offer - 1;
	int r;

	if (!h)
		return;
	op_begin(t, OP_TAKE, entry, h, NOTHING, NOTHING);
	r = shma_take(self, h);
	if (r == 0) {
		now_mine(t, entry, h, "take");
		check_content(entry, "after take");
		own_add(t, entry);
	} else if (r != -EBUSY && r != -ESTALE && r != -EPERM && r != -EINVAL && r != -ENOMEM) {
		lost("take: %s", shma_strerror(r));
	}
	op_end(t);
}

static void do_take(struct thread *t)
{
	uint64_t offer = atomic_load(&account->board[draw(&t->seed, BOARD)]);
	uint32_t entry = (uint32_t)offer - 1;

	if (!offer || t->owned == OWN_MAX)
		return;
	board_lock(entry);
	take(t, offer);
	board_unlock(entry);
}

/* Reads an object that others may free, take or lose by dying at this moment. */
static void peek(uint64_t h)
{
	uint64_t copy[32];
	uint32_t entry, serial;
	ssize_t n = shma_read(self, h, 0, copy, sizeof(copy));

	if (n < 0 && n != -ESTALE && n != -EINVAL)
		lost("read: %s", shma_strerror((int)n));
	if (n < 0)
		return;
	if (n < 16 || !content_front(copy, (size_t)n, &entry, &serial))
		lost("read: %#llx, %zd bytes, is not as written", (unsigned long long)h, n);
}

static void do_peek(struct thread *t)
{
	uint64_t offer = atomic_load(&account->board[draw(&t->seed, BOARD)]), h;
	struct entry *e = entry_at((uint32_t)offer - 1 < NOTHING ? (uint32_t)offer - 1 : 0);

	h = offer ? atomic_load(&e->handle) : 0;
	/* Not one that is still being filled. */
	if (!h || atomic_load(&e->state) != ENTRY_LIVE || atomic_load(&e->handle) != h)
		return;
	op_begin(t, OP_PEEK, NOTHING, h, NOTHING, NOTHING);
	peek(h);
	op_end(t);
}

/* ---- cells of a persistent object ---- */

static shma_handle *cell_at(uint32_t cell)
{
	shma_handle *cells = shma_ptr(self, shma_lookup(self, "root"));

	if (!cells)
		lost("the root object: %s", strerror(errno));
	return &cells[cell];
}

static bool cell_claim(struct thread *t, uint32_t cell, enum cell_state from)
{
	uint64_t expected = from;

	return atomic_compare_exchange_strong(&account->cells[cell].claim, &expected,
					      (uint64_t)t->life << 32 | CELL_CLAIMED);
}

static void do_persist(struct thread *t)
{
	uint32_t cell = draw(&t->seed, CELLS), entry;
	struct entry *e;
	uint64_t h;
	int r;

	if (!cell_claim(t, cell, CELL_FREE))
		return;
	entry = own_unseen(t);
	if (entry == NOTHING) {
		atomic_store(&account->cells[cell].claim, CELL_FREE);
		return;
	}
	e = entry_at(entry);
	h = atomic_load(&e->handle);
	op_begin(t, OP_PERSIST, entry, h, cell, NOTHING);
	check_content(entry, "before persist");
	atomic_store(&account->cells[cell].entry, entry);
	atomic_store(&e->held, 0);
	r = shma_persist(self, h, cell_at(cell));
	if (r)
		lost("persist: %s", shma_strerror(r));
	atomic_store(&e->owner, (uint64_t)ARENA_LIFE << 32);
	atomic_store(&account->cells[cell].claim, CELL_FULL);
	op_end(t);
}

static void do_consume(struct thread *t)
{
	uint32_t cell = draw(&t->seed, CELLS), entry;
	uint64_t h;
	int r;

	if (t->owned == OWN_MAX || !cell_claim(t, cell, CELL_FULL))
		return;
	entry = atomic_load(&account->cells[cell].entry);
	h = atomic_load(&entry_at(entry)->handle);
	op_begin(t, OP_CONSUME, entry, h, cell, NOTHING);
	if (*cell_at(cell) != h)
		lost("cell %u holds %#llx, not %#llx", cell, (unsigned long long)*cell_at(cell),
		     (unsigned long long)h);
	check_content(entry, "in a cell");
	r = shma_take(self, h);
	if (r == -ENOMEM) {
		atomic_store(&account->cells[cell].claim, CELL_FULL);
		op_end(t);
		return;
	}
	if (r)
		lost("take out of a cell: %s", shma_strerror(r));
	now_mine(t, entry, h, "take out of a cell");
	*cell_at(cell) = SHMA_NULL;
	atomic_store(&account->cells[cell].claim, CELL_FREE);
	op_end(t);
	own_add(t, entry);
}

/* ---- names ---- */

static const char *name_of(uint32_t name)
{
	static __thread char text[16];

	snprintf(text, sizeof(text), "name%u", name);
	return text;
}

static void do_publish(struct thread *t)
{
	uint32_t name = draw(&t->seed, NAMES), entry = own_unseen(t);
	uint64_t h, owner;
	struct entry *e;
	int r;

	if (entry == NOTHING)
		return;
	e = entry_at(entry);
	h = atomic_load(&e->handle);
	op_begin(t, OP_PUBLISH, entry, h, NOTHING, name);
	check_content(entry, "before publish");
	owner = atomic_load(&e->owner);
	atomic_store(&e->name, name + 1);
	atomic_store(&e->held, 0);
	r = shma_publish(self, name_of(name), h);
	if (r == 0) {
		/* Unless somebody has unpublished it since. */
		atomic_compare_exchange_strong(&e->owner, &owner, (uint64_t)ARENA_LIFE << 32);
	} else if (r == -EEXIST || r == -ENOSPC || r == -ENOMEM) {
		atomic_store(&e->held, t->life);
		own_add(t, entry);
	} else {
		lost("publish: %s", shma_strerror(r));
	}
	op_end(t);
}

/* The entry of the object under a name, which nobody but us unpublishes now. */
static uint32_t named_entry(uint64_t h)
{
	const uint64_t *p = shma_ptr(self, h);
	uint32_t entry;

	if (!p)
		lost("published, %#llx: %s", (unsigned long long)h, strerror(errno));
	entry = (uint32_t)p[0];
	if (atomic_load(&entry_at(entry)->handle) != h)
		lost("published, %#llx, names entry %u, which is %#llx", (unsigned long long)h,
		     entry, (unsigned long long)atomic_load(&entry_at(entry)->handle));
	return entry;
}

static void unpublish(struct thread *t, uint32_t name)
{
	uint64_t h = shma_lookup(self, name_of(name));
	uint32_t entry;
	int r;

	if (!h)
		return;
	entry = named_entry(h);
	op_begin(t, OP_UNPUBLISH, entry, h, NOTHING, name);
	check_content(entry, "under a name");
	r = shma_unpublish(self, name_of(name));
	if (r == 0) {
		now_mine(t, entry, h, "unpublish");
		own_add(t, entry);
	} else if (r != -ENOMEM) {
		lost("unpublish: %s", shma_strerror(r));
	}
	op_end(t);
}

static void do_unpublish(struct thread *t)
{
	uint32_t name = draw(&t->seed, NAMES);
	uint64_t nobody = 0;

	if (t->owned == OWN_MAX ||
	    !atomic_compare_exchange_strong(&account->name_locks[name], &nobody,
					    (uint64_t)t->life << 32 | 1))
		return;
	unpublish(t, name);
	atomic_store(&account->name_locks[name], 0);
}

static void do_lookup(struct thread *t)
{
	uint32_t name = draw(&t->seed, NAMES);
	uint64_t h;

	op_begin(t, OP_LOOKUP, NOTHING, 0, NOTHING, name);
	h = shma_lookup(self, name_of(name));
	if (h)
		peek(h);
	else if (errno != ENOENT)
		lost("lookup: %s", strerror(errno));
	op_end(t);
}

/* ---- which ---- */

void do_objects(struct thread *t)
{
	uint32_t what = draw(&t->seed, 100);

	if (what < 34)
		do_alloc(t);
	else if (what < 50 && t->owned)
		free_own(t, draw(&t->seed, t->owned));
	else if (what < 55)
		do_resize(t);
	else if (what < 63)
		do_offer(t);
	else if (what < 66)
		do_alloc_shared(t);
	else if (what < 76)
		do_take(t);
	else if (what < 80)
		do_peek(t);
	else if (what < 86)
		do_persist(t);
	else if (what < 92)
		do_consume(t);
	else if (what < 95)
		do_publish(t);
	else if (what < 98)
		do_unpublish(t);
	else
		do_lookup(t);
}
