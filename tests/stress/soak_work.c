/* SPDX-License-Identifier: Apache-2.0 */
/* A worker: attaches, runs threads, rests when told, leaves now and then in order; is killed at any time. */
#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attach.h"
#include "soak_work.h"

shma *self;

static struct thread threads[ACTORS_MAX];
static pthread_t handles[ACTORS_MAX];

/* ---- what is being done ---- */

void op_begin(struct thread *t, enum op op, uint32_t entry, uint64_t handle, uint32_t cell,
	      uint32_t name)
{
	struct actor *a = t->actor;

	atomic_store_explicit(&a->entry, entry, memory_order_relaxed);
	atomic_store_explicit(&a->handle, handle, memory_order_relaxed);
	atomic_store_explicit(&a->cell, cell, memory_order_relaxed);
	atomic_store_explicit(&a->name, name, memory_order_relaxed);
	atomic_store_explicit(&a->since_ns, now_ns(), memory_order_relaxed);
	atomic_store_explicit(&a->op, op, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
}

void op_end(struct thread *t)
{
	struct actor *a = t->actor;
	uint32_t op = atomic_load_explicit(&a->op, memory_order_relaxed);
	uint64_t took = now_ns() - atomic_load_explicit(&a->since_ns, memory_order_relaxed);

	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&a->op, OP_NONE, memory_order_release);
	if (op < OPS)
		a->done[op]++;
	if (op < OPS && took > a->longest_ns[op])
		a->longest_ns[op] = took;
	atomic_store_explicit(&a->ops, atomic_load_explicit(&a->ops, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

uint64_t tenure(struct thread *t)
{
	return (uint64_t)t->life << 32 | t->index << 28 | (++t->tenures & 0xfffffff);
}

/* ---- rest ---- */

static void join_leavers(struct thread *t);

static _Atomic bool leaving; /* the whole process */

/* Not while its own process waits for it to end. */
static void rest(struct thread *t)
{
	uint32_t phase = atomic_load(&account->phase);
	const struct timespec moment = { .tv_nsec = 2000000 };

	if (!(phase & 1))
		return;
	while (!leaving && (phase = atomic_load(&account->phase)) & 1) {
		if (t->index == 0)
			join_leavers(t);
		atomic_store(&t->actor->parked, phase);
		atomic_store(&t->actor->state, ACTOR_PARKED);
		syscall(SYS_futex, &account->phase, FUTEX_WAIT, phase, &moment, NULL, 0);
	}
	atomic_store(&t->actor->state, ACTOR_RUNS);
}

/* ---- threads ---- */

static void run_for(struct thread *t, uint32_t ops)
{
	while (ops-- && !leaving && !atomic_load(&account->ending)) {
		rest(t);
		if (draw(&t->seed, 5) == 0)
			do_log(t);
		else
			do_objects(t);
		if (draw(&t->seed, 400) == 0)
			usleep(draw(&t->seed, 2000));
	}
}

static void *run_thread(void *arg)
{
	struct thread *t = arg;

	run_for(t, 200 + draw(&t->seed, 4000));
	free_all(t);
	/* Seen as leaving until it is joined: its end is work on the arena, too. */
	op_begin(t, OP_THREAD_END, NOTHING, 0, NOTHING, NOTHING);
	reader_end(t);
	atomic_store(&t->actor->state, ACTOR_LEAVES);
	return NULL;
}

static void init_thread(uint32_t slot, uint32_t index, uint32_t life)
{
	struct thread *t = &threads[index];
	uint32_t tenures = t->tenures;

	memset(t, 0, sizeof(*t));
	t->slot = slot;
	t->index = index;
	t->life = life;
	t->tenures = tenures;
	t->partition = slot * ACTORS_MAX + index;
	t->seed = account->seed ^ life * 2654435761u ^ index * 40503u ^ tenures;
	t->actor = &account->slots[slot].actors[index];
	t->own_bytes_max = account->capacity / 2 / (account->slots_used * account->actors_used);
}

static void start_threads(struct thread *t)
{
	for (uint32_t i = 1; i < account->actors_used; i++) {
		if (atomic_load(&account->slots[t->slot].actors[i].state) != ACTOR_NONE)
			continue;
		init_thread(t->slot, i, t->life);
		atomic_store(&threads[i].actor->state, ACTOR_RUNS);
		if (pthread_create(&handles[i], NULL, run_thread, &threads[i]))
			lost("no thread: %s", strerror(errno));
	}
}

static void end_thread(uint32_t i)
{
	struct actor *a = &account->slots[threads[0].slot].actors[i];

	pthread_join(handles[i], NULL);
	op_end(&threads[i]);
	atomic_store(&a->state, ACTOR_NONE);
}

static void join_leavers(struct thread *t)
{
	for (uint32_t i = 1; i < account->actors_used; i++) {
		if (atomic_load(&account->slots[t->slot].actors[i].state) != ACTOR_LEAVES)
			continue;
		atomic_store(&t->actor->state, ACTOR_RUNS);
		end_thread(i);
	}
}

static void join_all(struct thread *t)
{
	for (uint32_t i = 1; i < account->actors_used; i++)
		if (atomic_load(&account->slots[t->slot].actors[i].state) != ACTOR_NONE)
			end_thread(i);
}

/* ---- attaching ---- */

#define ATTACH_NS UINT64_C(60000000000)

static bool daemon_away(int r)
{
	return r == -ECONNREFUSED || r == -ENOENT || r == -ECONNRESET || r == -ETIMEDOUT ||
	       r == -EPIPE;
}

/* False: the round is over. */
static bool attach(struct thread *t)
{
	struct shma_options opt = { .struct_size = sizeof(opt), .socket = account->socket };
	uint64_t since = now_ns();
	int r;

	for (;;) {
		rest(t);
		if (atomic_load(&account->ending))
			return false;
		op_begin(t, OP_START, NOTHING, 0, NOTHING, NOTHING);
		r = shma_open(&self, account->arena, 0, &opt);
		if (r == 0)
			atomic_store(&account->lives[t->life].client, self->arena.client);
		op_end(t);
		if (r == 0)
			return true;
		if (!daemon_away(r))
			lost("open: %s", shma_strerror(r));
		if (now_ns() - since > ATTACH_NS)
			lost("cannot attach for so long: %s", shma_strerror(r));
		usleep(1000 + draw(&t->seed, 2000));
	}
}

/* By a forked child: its first call makes it a client of its own. */
static void attach_inherited(struct thread *t, shma *s)
{
	uint64_t h;

	rest(t);
	self = s;
	op_begin(t, OP_START, NOTHING, 0, NOTHING, NOTHING);
	h = shma_alloc(self, 24, 0);
	if (!h && errno != ENOMEM)
		lost("a forked child's first call: %s", strerror(errno));
	atomic_store(&account->lives[t->life].client, self->arena.client);
	if (h && shma_free(self, h))
		lost("a forked child's first object");
	op_end(t);
}

static void close_arena(struct thread *t, bool with_objects)
{
	if (!with_objects)
		free_all(t);
	op_begin(t, OP_CLOSE, NOTHING, 0, NOTHING, NOTHING);
	reader_end(t);
	if (shma_close(self))
		lost("close");
	self = NULL;
	t->writer = 0; /* the next one is another thread to the log */
}

/* All threads are gone. Closes, and goes on with the arena opened anew, or ends. */
static void leave_or_return(struct thread *t)
{
	bool with_objects = draw(&t->seed, 2),
	     end = atomic_load(&account->ending) || draw(&t->seed, 2);

	close_arena(t, with_objects);
	if (end) {
		atomic_store(&account->slots[t->slot].left, t->life);
		_exit(0);
	}
	op_end(t);
	leaving = false;
	if (!attach(t)) {
		atomic_store(&account->slots[t->slot].left, t->life);
		_exit(0);
	}
}

void work(uint32_t slot, uint32_t life, shma *s)
{
	struct thread *t = &threads[0];

	setpriority(PRIO_PROCESS, 0, 5);
	init_thread(slot, 0, life);
	if (s)
		attach_inherited(t, s);
	else if (!attach(t)) {
		atomic_store(&account->slots[slot].left, life);
		_exit(0);
	}
	for (;;) {
		start_threads(t);
		run_for(t, 50);
		join_leavers(t);
		if (draw(&t->seed, 200) == 0)
			leaving = true;
		if (leaving || atomic_load(&account->ending)) {
			join_all(t);
			leave_or_return(t);
		}
	}
}
