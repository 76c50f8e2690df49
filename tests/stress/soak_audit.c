/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The auditor. While it has an order all work rests: no call is in progress but those that a kill cut, and
 * those are known. It waits for the dead to be recovered, decides what became of the calls that were cut,
 * and then the arena must be what the account says, to the byte.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach.h"
#include "audit.h"
#include "client.h"
#include "geometry.h"
#include "liveness.h"
#include "names.h"
#include "object.h"
#include "recovery.h"
#include "ring.h"
#include "soak.h"
#include "walk.h"
#include "words.h"

#define ENTRIES (account->slots_used * ACTORS_MAX * PARTITION) /* of workers */
#define MINE	(SLOTS_MAX * ACTORS_MAX)		       /* partition */

#define DAEMON_NS   UINT64_C(400000000)	  /* that it gets to recover the dead, now and then */
#define RECOVERY_NS UINT64_C(30000000000) /* that anybody gets */
#define DRAIN_NS    UINT64_C(60000000000)

static shma *self;
static struct answer answer;
static uint32_t checks;

#define NUMBER(n) ((unsigned long long)(n))

/* ---- the dead ---- */

static uint32_t count_dead(void)
{
	struct arena *a = &self->arena;
	uint32_t dead = 0;

	for (uint32_t n = 1; n < client_high(a); n++) {
		enum liveness l = liveness_of(a, n);

		dead += l == LIVENESS_DEAD || l == LIVENESS_UNSURE;
	}
	return dead;
}

static void wait_for_recovery(void)
{
	uint64_t start = now_ns();
	uint32_t dead = count_dead(), left;
	bool daemon_does_it = ++checks % 4 == 0;

	while ((left = count_dead())) {
		uint64_t waited = now_ns() - start;

		if (waited > RECOVERY_NS)
			lost("%u clients are dead and not recovered", left);
		if (daemon_does_it && waited < DAEMON_NS) {
			usleep(500);
			continue;
		}
		answer.reaped_by_auditor += recovery_reap_all(&self->arena);
		usleep(100);
	}
	if (daemon_does_it)
		answer.reaped_by_daemon += dead;
	answer.wait_ns = now_ns() - start;
}

/* ---- calls that a kill cut ---- */

static bool lives(uint64_t handle, enum object_kind *kind, uint32_t *client)
{
	*client = 0;
	*kind = object_kind_of(&self->arena, handle, client);
	return *kind != OBJECT_FREE;
}

static shma_handle *cells(void)
{
	shma_handle *p = shma_ptr(self, shma_lookup(self, "root"));

	if (!p)
		lost("the root object is gone");
	return p;
}

static void named(uint32_t name, char *text, size_t size)
{
	snprintf(text, size, "name%u", name);
}

static void resolve_name(const struct dead_op *d)
{
	struct entry *e = entry_at(d->entry);
	char text[16];
	bool published;

	if (atomic_load(&e->handle) != d->handle)
		return;
	named(d->name, text, sizeof(text));
	published = shma_lookup(self, text) == d->handle;
	if (published) {
		atomic_store(&e->owner, (uint64_t)ARENA_LIFE << 32);
		atomic_store(&e->name, d->name + 1);
	} else if (d->op == OP_UNPUBLISH) {
		/* It was published, and the caller's afterwards. Unless it only began, when another owner's
		 * word stands here, which the publisher's own cut call left. */
		if (owner_life(atomic_load(&e->owner)) == ARENA_LIFE ||
		    !atomic_load(&account->lives[owner_life(atomic_load(&e->owner))].alive))
			atomic_store(&e->owner, (uint64_t)d->life << 32);
	}
}

static uint32_t strays_allowed;

static void resolve_persistent(const struct dead_op *d)
{
	struct entry *e = entry_at(d->entry);
	uint64_t h = atomic_load(&e->handle);
	enum object_kind kind;
	uint32_t client;

	/* An object that only its dead maker knew. */
	if (!h) {
		strays_allowed++;
		return;
	}
	if (lives(h, &kind, &client) && kind == OBJECT_PERSISTENT && shma_free(self, h))
		lost("a persistent object cannot be freed");
	entry_drop(d->entry);
}

/* Taken or freed, or not. Who freed it may have died while wiping the entry, too: then it has no handle. */
static void resolve_offer(const struct dead_op *d)
{
	struct entry *e = entry_at(d->entry);
	uint64_t h = atomic_load(&e->handle);

	if (h == d->handle || (d->op == OP_FREE_OFFER && h == SHMA_NULL))
		atomic_store(&e->maybe, 1);
}

static void resolve(const struct dead_op *d)
{
	switch (d->op) {
	case OP_TAKE:
	case OP_FREE_OFFER: resolve_offer(d); break;
	case OP_ALLOC_PERSISTENT: resolve_persistent(d); break;
	case OP_PUBLISH:
	case OP_UNPUBLISH: resolve_name(d); break;
	default: break;
	}
}

/* A cell that a dead one had claimed. Both or neither: its content says which. */
static void resolve_cell(uint32_t i, uint32_t life, shma_handle *cell)
{
	struct cell *c = &account->cells[i];
	struct entry *e = entry_at(atomic_load(&c->entry));
	enum object_kind kind;
	uint32_t client;

	if (*cell == SHMA_NULL) {
		atomic_store(&c->claim, CELL_FREE);
		return;
	}
	if (atomic_load(&e->handle) != *cell)
		lost("cell %u holds %#llx, not %#llx", i, NUMBER(*cell),
		     NUMBER(atomic_load(&e->handle)));
	if (lives(*cell, &kind, &client)) {
		if (kind != OBJECT_PERSISTENT)
			lost("cell %u holds an object of kind %d", i, kind);
		atomic_store(&e->owner, (uint64_t)ARENA_LIFE << 32);
		atomic_store(&c->claim, CELL_FULL);
		return;
	}
	/* Taken out of it by who then died. */
	for (uint32_t n = 0; n < account->dead_ops_count; n++) {
		const struct dead_op *d = &account->dead_ops[n];

		if (d->life != life || d->op != OP_CONSUME || d->cell != i)
			continue;
		atomic_store(&e->owner, (uint64_t)life << 32);
		*cell = SHMA_NULL;
		atomic_store(&c->claim, CELL_FREE);
		return;
	}
	lost("cell %u holds %#llx, which is stale, and nobody took it out", i, NUMBER(*cell));
}

static bool life_alive(uint32_t life)
{
	return life < LIVES_MAX && atomic_load(&account->lives[life].alive);
}

static void resolve_all(void)
{
	shma_handle *cell = cells();

	strays_allowed = 0;
	for (uint32_t i = 0; i < CELLS; i++) {
		uint64_t claim = atomic_load(&account->cells[i].claim);

		if ((claim & 3) == CELL_CLAIMED && !life_alive(owner_life(claim)))
			resolve_cell(i, owner_life(claim), &cell[i]);
	}
	for (uint32_t n = 0; n < account->dead_ops_count; n++)
		resolve(&account->dead_ops[n]);
	for (uint32_t i = 0; i < NAMES; i++) {
		uint64_t lock = atomic_load(&account->name_locks[i]);

		if (lock && !life_alive(owner_life(lock)))
			atomic_store(&account->name_locks[i], 0);
	}
}

/* ---- objects ---- */

static void check_owner(uint32_t i, const struct entry *e, enum object_kind kind, uint32_t client)
{
	uint32_t life = owner_life(atomic_load(&e->owner)), held = atomic_load(&e->held);

	if (life == ARENA_LIFE) {
		if ((kind != OBJECT_PERSISTENT && kind != OBJECT_PUBLISHED) || client != 0)
			lost("entry %u is the arena's; there its kind is %d, its client %u", i,
			     kind, client);
		return;
	}
	if (client != atomic_load(&account->lives[life].client))
		lost("entry %u is life %u's, which is client %u; in the arena it is client %u's, kind %d",
		     i, life, atomic_load(&account->lives[life].client), client, kind);
	if (held && held != life)
		lost("entry %u is life %u's and held by %u", i, life, held);
	if (held ? kind != OBJECT_PRIVATE && kind != OBJECT_TAKEN : kind != OBJECT_SHARED)
		lost("entry %u is %s; its kind is %d", i, held ? "held" : "on offer", kind);
}

/* One entry; its object counts, if it is there. */
static void check_entry(uint32_t i)
{
	struct entry *e = entry_at(i);
	uint32_t life = owner_life(atomic_load(&e->owner)), client;
	uint64_t h = atomic_load(&e->handle);
	enum object_kind kind;
	size_t bytes;

	if (life != ARENA_LIFE && !life_alive(life)) {
		entry_drop(i); /* its object is gone: it would be one too many */
		return;
	}
	if (atomic_load(&e->state) != ENTRY_LIVE)
		lost("entry %u is being made, and nobody works", i);
	if (!lives(h, &kind, &client)) {
		if (!atomic_load(&e->maybe))
			lost("entry %u, handle %#llx, %llu bytes, of life %u, is lost", i,
			     NUMBER(h), NUMBER(e->size), life);
		answer.unresolved++;
		entry_drop(i);
		return;
	}
	check_owner(i, e, kind, client);
	bytes = shma_size(self, h);
	if (bytes < e->size || !content_whole(i, shma_ptr(self, h), bytes))
		lost("entry %u, handle %#llx, %llu bytes, is not as written", i, NUMBER(h),
		     NUMBER(e->size));
	atomic_store(&e->maybe, 0);
	answer.objects++;
	answer.bytes += bytes;
}

/* The object's first word tells where to look first. */
static bool entry_has(uint64_t handle)
{
	uint32_t first = *(uint32_t *)(self->arena.heap + handle_offset(handle));

	if (first < ENTRIES && atomic_load(&account->entries[first].state) != ENTRY_EMPTY &&
	    atomic_load(&account->entries[first].handle) == handle)
		return true;
	for (uint32_t i = 0; i < ENTRIES; i++)
		if (atomic_load(&account->entries[i].state) != ENTRY_EMPTY &&
		    atomic_load(&account->entries[i].handle) == handle)
			return true;
	return false;
}

/* ---- what the arena has and the account has not ---- */

struct strange {
	uint32_t count;
	bool to_free;
	char text[1500];
};

static void strange_object(struct strange *s, uint64_t offset, uint64_t bytes, uint32_t state)
{
	uint64_t h = handle_make(self->arena.tag, state_gen(state), offset);
	size_t n = strlen(s->text);

	if (entry_has(h))
		return;
	if (s->to_free) {
		if (state_kind(state) != OBJECT_PERSISTENT)
			return;
		if (shma_free(self, h))
			lost("a stray persistent object cannot be freed");
	} else if (n < sizeof(s->text) - 100) {
		snprintf(s->text + n, sizeof(s->text) - n,
			 " %#llx: %llu bytes, kind %d, client %u;", NUMBER(h), NUMBER(bytes),
			 (int)state_kind(state), state_client(state));
	}
	s->count++;
}

static int strange_extent(void *context, const struct walk_item *item)
{
	struct strange *s = context;
	struct walk_slab slab;

	if (pw0_is_object(item->w0))
		strange_object(s, item->page << PAGE_SHIFT, item->length << PAGE_SHIFT,
			       pw0_state(item->w0));
	if (item->kind != PAGE_SLAB || !walk_slab(&self->arena, item, &slab))
		return 0;
	for (uint32_t i = 0; i < slab.objects; i++) {
		uint32_t state = walk_state(&slab, i);

		/* Private ones may be in caches. */
		if (state_kind(state) != OBJECT_FREE && state_kind(state) != OBJECT_INTERNAL &&
		    (state_kind(state) != OBJECT_PRIVATE || !s->to_free))
			strange_object(s, walk_object_offset(&slab, i), slab.bytes, state);
	}
	return 0;
}

static void free_strays(void)
{
	struct strange s = { .to_free = true };

	walk_extents(&self->arena, strange_extent, &s);
	if (s.count > strays_allowed)
		lost("%u persistent objects that nobody knows, where %u may be", s.count,
		     strays_allowed);
	answer.strays += s.count;
}

static void check_totals(void)
{
	struct strange s = { .count = 0 };
	struct shma_stats st;

	shma_stats(self, &st);
	if (st.live_objects == answer.objects && st.live_bytes == answer.bytes)
		return;
	walk_extents(&self->arena, strange_extent, &s);
	lost("%llu objects of %llu bytes are live, not %llu of %llu; not in the account, cached ones "
	     "included:%s",
	     NUMBER(st.live_objects), NUMBER(st.live_bytes), NUMBER(answer.objects),
	     NUMBER(answer.bytes), s.text);
}

/* The arena's objects that were on the board and are no more: nobody would ever free them. */
static void free_forgotten(void)
{
	for (uint32_t i = 0; i < ENTRIES; i++) {
		struct entry *e = entry_at(i);
		bool there = false;

		if (atomic_load(&e->state) != ENTRY_LIVE || !atomic_load(&e->offered) ||
		    owner_life(atomic_load(&e->owner)) != ARENA_LIFE)
			continue;
		for (uint32_t b = 0; b < BOARD; b++)
			there |= atomic_load(&account->board[b]) ==
				 ((uint64_t)e->serial << 32 | (i + 1));
		if (there)
			continue;
		if (shma_free(self, atomic_load(&e->handle)))
			lost("a persistent object cannot be freed");
		entry_drop(i);
	}
}

/* ---- names, cells, clients ---- */

static void check_names(void)
{
	uint32_t published = 1; /* root */
	struct shma_stats st;
	char text[16];

	for (uint32_t i = 0; i < ENTRIES; i++) {
		struct entry *e = entry_at(i);
		enum object_kind kind;
		uint32_t client;

		if (atomic_load(&e->state) != ENTRY_LIVE ||
		    owner_life(atomic_load(&e->owner)) != ARENA_LIFE ||
		    !lives(atomic_load(&e->handle), &kind, &client) || kind != OBJECT_PUBLISHED)
			continue;
		published++;
		named(atomic_load(&e->name) - 1, text, sizeof(text));
		if (shma_lookup(self, text) != atomic_load(&e->handle))
			lost("entry %u is published, but not as %s", i, text);
	}
	shma_stats(self, &st);
	if (st.names != published)
		lost("%llu names and %u published objects", NUMBER(st.names), published);
	if (!names_valid(&self->arena))
		lost("the names are not valid");
}

static void check_cells(void)
{
	shma_handle *cell = cells();

	for (uint32_t i = 0; i < CELLS; i++) {
		struct entry *e = entry_at(atomic_load(&account->cells[i].entry));

		switch (atomic_load(&account->cells[i].claim)) {
		case CELL_FREE:
			if (cell[i] != SHMA_NULL)
				lost("cell %u holds %#llx and should be empty", i, NUMBER(cell[i]));
			break;
		case CELL_FULL:
			if (cell[i] != atomic_load(&e->handle) ||
			    owner_life(atomic_load(&e->owner)) != ARENA_LIFE)
				lost("cell %u holds %#llx, not %#llx", i, NUMBER(cell[i]),
				     NUMBER(atomic_load(&e->handle)));
			break;
		default: lost("cell %u is claimed, and nobody works", i);
		}
	}
}

/* Every client in the arena is somebody: a worker, this process, the ledger, the daemon. */
static void check_clients(void)
{
	struct arena *a = &self->arena;
	uint32_t others = 0;

	for (uint32_t n = 1; n < client_high(a); n++) {
		uint64_t word = atomic_load(client_word_at(a, n));
		bool known = n == a->client || client_word_state(word) == CLIENT_FREE;

		for (uint32_t s = 0; s < account->slots_used && !known; s++) {
			uint32_t life = atomic_load(&account->slots[s].life);

			known = life_alive(life) && atomic_load(&account->lives[life].client) == n;
		}
		others += !known;
	}
	if (others > 2)
		lost("%u clients that nobody is", others - 2);
}

/* ---- the log ---- */

static void check_log(void)
{
	uint64_t gone = 0, perhaps = 0, got, missing;
	uint32_t end = atomic_load(&account->next_writer), drain;
	uint64_t start = now_ns();
	struct ring_survey survey;

	drain = atomic_fetch_add(&account->drain, 1) + 1;
	while (atomic_load(&account->drained) != drain) {
		if (now_ns() - start > DRAIN_NS)
			lost("the ledger does not come to the log's end");
		usleep(500);
	}
	for (uint32_t i = account->first_writer; i < end; i++) {
		const struct writer *w = &account->writers[i];
		uint32_t committed = atomic_load(&w->committed),
			 received = atomic_load(&w->received);
		bool cut = !life_alive(atomic_load(&w->life)) &&
			   atomic_load(&w->trying) == committed + 1;

		if (received > committed + cut)
			lost("writer %u wrote %u records, and %u came", i, committed, received);
		if (account->policy == SHMA_LOG_BLOCK && received < committed)
			lost("writer %u wrote %u records, and %u came, where none may be lost", i,
			     committed, received);
		gone += received < committed ? committed - received : 0;
		perhaps += cut;
	}
	got = atomic_load(&account->ledger_got);
	missing = atomic_load(&account->ledger_lost) + atomic_load(&account->ledger_pending);
	ring_survey(&self->arena, &survey);
	if (got + missing != survey.written + survey.dropped)
		lost("%llu records read and %llu lost, of %llu written and %llu dropped",
		     NUMBER(got), NUMBER(missing), NUMBER(survey.written), NUMBER(survey.dropped));
	/* What was dropped is not in the writers' counts. */
	if (gone + survey.dropped > missing || missing > gone + survey.dropped + perhaps)
		lost("%llu records are lost, the log says %llu, and %llu were cut",
		     NUMBER(gone + survey.dropped), NUMBER(missing), NUMBER(perhaps));
}

/* ---- all of it ---- */

static void finding(void *context, const struct audit_finding *f)
{
	char *text = context;
	size_t n = strlen(text);

	snprintf(text + n, 1500 - n, " %s: %s;", audit_key(f->what), f->text);
}

static void check_structure(void)
{
	char text[1500] = "";

	if (audit_arena(&self->arena, true, finding, text))
		lost("the arena is not whole:%s", text);
	if (!ring_valid(&self->arena, text, sizeof(text)))
		lost("the ring is not valid: %s", text);
}

static void check(void)
{
	answer = (struct answer){ .objects = 1,
				  .bytes = shma_size(self, shma_lookup(self, "root")) };
	wait_for_recovery();
	resolve_all();
	free_strays();
	for (uint32_t i = 0; i < ENTRIES; i++)
		if (atomic_load(&account->entries[i].state) != ENTRY_EMPTY)
			check_entry(i);
	check_totals();
	check_structure();
	check_names();
	check_cells();
	check_clients();
	check_log();
	free_forgotten();
	account->dead_ops_count = 0;
}

/* ---- the round's beginning and end ---- */

static void attach(void)
{
	struct shma_options opt = {
		.struct_size = sizeof(opt),
		.capacity = account->capacity,
		.log_capacity = account->log_capacity,
		.client_quota = account->quota,
		.log_policy = account->policy,
		.socket = account->socket,
	};
	int r;

	while ((r = shma_open(&self, account->arena, SHMA_CREATE, &opt))) {
		if (r != -ECONNREFUSED && r != -ENOENT && r != -ECONNRESET && r != -ETIMEDOUT)
			lost("the auditor cannot attach: %s", shma_strerror(r));
		usleep(2000);
	}
}

/* The object whose cells the workers persist into. */
static void make_root(void)
{
	uint32_t entry =
		entry_new(MINE, (uint64_t)ARENA_LIFE << 32, 0, CELLS * sizeof(shma_handle));
	struct entry *e = entry_at(entry);
	uint64_t h = shma_alloc(self, e->size, SHMA_ZERO);
	int r;

	if (!h)
		lost("no root object: %s", strerror(errno));
	atomic_store(&e->handle, h);
	r = shma_publish(self, "root", h);
	if (r)
		lost("the root object: %s", shma_strerror(r));
	/* Its content is the cells: it is no entry, but counted by hand. */
	entry_drop(entry);
}

static void free_handle(uint64_t h)
{
	int r = shma_free(self, h);

	if (r)
		lost("at the end, free of %#llx: %s", NUMBER(h), shma_strerror(r));
}

static void free_entry(uint32_t i)
{
	struct entry *e = entry_at(i);
	enum object_kind kind;
	uint32_t client;
	char text[16];

	if (lives(atomic_load(&e->handle), &kind, &client) && kind == OBJECT_PUBLISHED) {
		named(atomic_load(&e->name) - 1, text, sizeof(text));
		if (shma_unpublish(self, text))
			lost("at the end, %s cannot be unpublished", text);
	}
	free_handle(atomic_load(&e->handle));
	entry_drop(i);
}

/* Nothing is live: all pages but those of bookkeeping can be had. */
static void take_all(void)
{
	struct shma_stats st;
	uint64_t pages = 0, room;

	shma_stats(self, &st);
	if (st.live_objects || st.live_bytes || st.persistent_objects || st.names)
		lost("at the end %llu objects of %llu bytes and %llu names are left",
		     NUMBER(st.live_objects), NUMBER(st.live_bytes), NUMBER(st.names));
	while (!account->quota && shma_alloc(self, 4096, SHMA_LARGE))
		pages++;
	shma_stats(self, &st);
	room = st.capacity_bytes - st.state_bytes - st.slab_bytes -
	       (st.extent_bytes - (pages << 12));
	if (!account->quota && pages << 12 != room)
		lost("%llu bytes can be had of %llu", NUMBER(pages << 12), NUMBER(room));
}

static void end(void)
{
	uint64_t root = shma_lookup(self, "root");

	check();
	for (uint32_t i = 0; i < ENTRIES; i++)
		if (atomic_load(&account->entries[i].state) != ENTRY_EMPTY)
			free_entry(i);
	if (shma_unpublish(self, "root"))
		lost("at the end, root cannot be unpublished");
	free_handle(root);
	take_all();
}

static pid_t fork_worker(int fd, const struct order *o)
{
	pid_t child = fork();

	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(fd);
	work(o->slot, o->life, self);
}

/* Whether an answer is due. */
static bool serve(int fd, const struct order *o)
{
	switch (o->what) {
	case COMMAND_FORK: answer.pid = fork_worker(fd, o); return true;
	case COMMAND_BURY: waitpid(o->pid, NULL, 0); return false;
	case COMMAND_CHECK: check(); return true;
	case COMMAND_END: break;
	}
	end();
	return true;
}

void audit(int fd)
{
	struct order o;

	attach();
	make_root();
	if (send(fd, &answer, sizeof(answer), 0) != sizeof(answer))
		_exit(1);
	while (recv(fd, &o, sizeof(o), 0) == sizeof(o))
		if (serve(fd, &o) && send(fd, &answer, sizeof(answer), 0) != sizeof(answer))
			break;
	shma_close(self);
	_exit(0);
}
