/* SPDX-License-Identifier: Apache-2.0 */
#include "thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cache.h"
#include "client.h"
#include "debug_room.h"
#include "extent.h"
#include "quota.h"
#include "recovery.h"
#include "ring.h"
#include "stack.h"
#include "stop_point.h"
#include "words.h"

/* Of threads without a table of their own yet; never written. */
static struct thread_cell no_cells[THREAD_CELLS];

__thread struct thread_cell *thread_cells __attribute__((tls_model("initial-exec"))) = no_cells;

/* What a thread was open to before. */
struct undisturbed {
	sigset_t mask;
	int cancel;
};

/* Process-private. The lock orders attaching, detaching, first calls and thread ends. */
static struct {
	pthread_mutex_t lock;
	pthread_once_t once;
	pthread_key_t key;
	int error;
	struct arena *arenas[THREAD_CELLS];
	struct cells_table *tables; /* of all threads */
	/* By cell, wiped by fork: a->client is this process's. PAIR(is-client): the number first. */
	_Atomic unsigned char *is_client;
	struct undisturbed forker; /* of the thread that forks, while it does */
} process = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

struct cells_table {
	struct thread_cell cells[THREAD_CELLS];
	struct cells_table *next, **link;
};

static uint32_t cell_index(const struct arena *a)
{
	return a->cell / (uint32_t)sizeof(struct thread_cell);
}

/* No handler of this thread's may come to the lock that the thread holds, nor to a block half made; nor may
 * the thread be cancelled there. But what the processor raises cannot be put off. */
static void block_signals(struct undisturbed *old)
{
	const int unblocked[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT};
	sigset_t all;

	sigfillset(&all);
	for (size_t i = 0; i < sizeof(unblocked) / sizeof(unblocked[0]); i++)
		sigdelset(&all, unblocked[i]);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old->cancel);
	pthread_sigmask(SIG_SETMASK, &all, &old->mask);
}

static void restore_signals(const struct undisturbed *old)
{
	pthread_sigmask(SIG_SETMASK, &old->mask, NULL);
	pthread_setcancelstate(old->cancel, NULL);
}

static void lock_process(struct undisturbed *old)
{
	block_signals(old);
	pthread_mutex_lock(&process.lock);
}

static void unlock_process(const struct undisturbed *old)
{
	pthread_mutex_unlock(&process.lock);
	restore_signals(old);
}

static void *map_wiped_on_fork(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (madvise(p, size, MADV_WIPEONFORK) < 0) {
		munmap(p, size);
		return NULL;
	}
	return p;
}

/* ---- threads' ends and forks ---- */

/* Hands a thread's things in one arena back. */
static void release_block(struct arena *a, struct thread_block *t)
{
	_Atomic uint64_t *word = (_Atomic uint64_t *)(a->base + a->g.thread_words) + t->index;
	uint64_t page = (uint64_t)((char *)t - a->heap) >> PAGE_SHIFT;

	cache_release_all(a, t);
	STOP_POINT(thread_emptied);
	ring_thread_exit(a, t);
	quota_settle(a, t);
	client_owned_add(a, a->client, atomic_load_explicit(&t->owned_bytes, memory_order_relaxed));
	/* Crash: before, the word leads recovery to the block; after, the block is a raw extent of ours,
	 * and then nothing. */
	atomic_store_explicit(word, thread_word(THREAD_CLAIMED, a->client, 0), memory_order_release);
	STOP_POINT(thread_closing);
	extent_free(a, page);
	STOP_POINT(thread_block_freed);
	atomic_store_explicit(word, 0, memory_order_release);
	atomic_fetch_sub_explicit(&a->threads, 1, memory_order_relaxed);
}

static void release_cell(struct arena *a, struct thread_cell *cell)
{
	stack_end(a, cell);
	release_block(a, cell->real);
}

static void thread_end(void *arg)
{
	struct cells_table *table = arg;
	struct undisturbed before;

	lock_process(&before);
	for (uint32_t i = 0; i < THREAD_CELLS; i++) {
		struct thread_block *t = table->cells[i].real;

		if (t && process.arenas[i])
			release_cell(process.arenas[i], &table->cells[i]);
		table->cells[i].block = table->cells[i].real = NULL;
	}
	*table->link = table->next;
	if (table->next)
		table->next->link = table->link;
	thread_cells = no_cells;
	unlock_process(&before);
	munmap(table, sizeof(*table));
}

static void before_fork(void)
{
	struct undisturbed before;

	lock_process(&before);
	process.forker = before;
}

static void after_fork_parent(void)
{
	struct undisturbed before = process.forker;

	unlock_process(&before);
}

static void list_table(struct cells_table *table)
{
	table->next = process.tables;
	table->link = &process.tables;
	if (table->next)
		table->next->link = &table->next;
	process.tables = table;
}

/* All tables are wiped, their links too, and is_client as well. Only this thread goes on with its own. */
static void after_fork_child(void)
{
	struct undisturbed before = process.forker;

	process.tables = NULL;
	if (thread_cells != no_cells)
		list_table((struct cells_table *)thread_cells);
	for (uint32_t i = 0; i < THREAD_CELLS; i++)
		if (process.arenas[i]) {
			atomic_store_explicit(&process.arenas[i]->threads, 0, memory_order_relaxed);
			atomic_store_explicit(&process.arenas[i]->recovering, false,
					      memory_order_relaxed);
			debug_room_unprotect_all(process.arenas[i]);
		}
	unlock_process(&before);
}

static void process_init(void)
{
	process.is_client = map_wiped_on_fork(THREAD_CELLS);
	if (!process.is_client)
		process.error = -ENOMEM;
	if (!process.error)
		process.error = -pthread_key_create(&process.key, thread_end);
	if (!process.error)
		process.error = -pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

/* ---- arenas ---- */

int thread_attach_arena(struct arena *a)
{
	int r = -EMFILE;
	struct undisturbed before;

	pthread_once(&process.once, process_init);
	if (process.error)
		return process.error;
	lock_process(&before);
	for (uint32_t i = 0; i < THREAD_CELLS && r; i++) {
		if (process.arenas[i])
			continue;
		process.arenas[i] = a;
		process.is_client[i] = 0;
		a->cell = i * (uint32_t)sizeof(struct thread_cell);
		r = 0;
	}
	unlock_process(&before);
	return r;
}

void thread_detach_arena(struct arena *a)
{
	struct undisturbed before;

	lock_process(&before);
	for (struct cells_table *table = process.tables; table; table = table->next) {
		struct thread_cell *cell = &table->cells[cell_index(a)];

		if (cell->real)
			release_cell(a, cell);
		cell->block = cell->real = NULL;
	}
	process.arenas[cell_index(a)] = NULL;
	process.is_client[cell_index(a)] = 0;
	unlock_process(&before);
}

void thread_attach_again(struct arena *a)
{
	struct undisturbed before;

	lock_process(&before);
	process.arenas[cell_index(a)] = a;
	process.is_client[cell_index(a)] = 1;
	unlock_process(&before);
}

bool thread_is_client(const struct arena *a)
{
	return process.is_client && process.is_client[cell_index(a)];
}

/* ---- blocks ---- */

/* The entry of no page: what it says is never what a cell remembers. */
static const struct page_entry no_entry;

static void enter_cell(const struct arena *a, struct thread_cell *cell, struct thread_block *t)
{
	cell->given = cell->handle = 0;
	cell->profile_left = 0;
	cell->profile_random = 0;
	cell->profile_when = 0;
	cell->profile_calls = cell->profile_rarer = 0;
	cell->marked = THREAD_MARKED_NONE;
	cell->stack = cell->stack_spare = NULL;
	cell->stack_scopes = 0;
	cell->entry = &no_entry;
	cell->w1 = ~UINT64_C(0);
	cell->real = t;
	cell->block = a->debug == DEBUG_FULL ? NULL : t;
	cell->sample_left = 0;
}

static int own_cells(void)
{
	struct cells_table *table;
	struct undisturbed before;
	int r;

	if (thread_cells != no_cells)
		return 0;
	table = map_wiped_on_fork(sizeof(*table));
	if (!table)
		return -ENOMEM;
	r = -pthread_setspecific(process.key, table);
	if (r) {
		munmap(table, sizeof(*table));
		return r;
	}
	lock_process(&before);
	list_table(table);
	unlock_process(&before);
	thread_cells = table->cells;
	return 0;
}

static int claim_client(struct arena *a)
{
	return a->client ? client_fork_child(a) : client_claim(a);
}

/* All slots are taken, by the dead perhaps; only a client can recover them. */
static int claim_after_reaping(struct arena *a)
{
	int r = client_claim_spare(a);
	uint32_t freed;

	if (r)
		return r;
	freed = recovery_reap_all(a);
	/* Whoever recovers marks regions. Where the spare slot cannot be released, it serves. */
	if (!recovery_drop_own_marks(a) || client_release(a))
		return 0;
	return freed ? client_fork_child(a) : -EUSERS; /* as a child's: what was prepared was the spare's */
}

int thread_become_client(struct arena *a)
{
	struct undisturbed before;
	int r = 0;

	lock_process(&before);
	if (!process.is_client[cell_index(a)]) {
		r = claim_client(a);
		if (r == -EUSERS)
			r = claim_after_reaping(a);
		if (!r)
			process.is_client[cell_index(a)] = 1;
	}
	unlock_process(&before);
	return r;
}

/* A free thread word, claimed; its index, or -EUSERS. */
static int claim_word(struct arena *a)
{
	_Atomic uint64_t *words = (_Atomic uint64_t *)(a->base + a->g.thread_words);
	_Atomic uint32_t *high = &a->header->threads_high;

	for (uint32_t i = 0; i < THREADS_MAX; i++) {
		uint32_t seen = atomic_load_explicit(high, memory_order_relaxed);
		uint64_t expected = 0;

		if (atomic_load_explicit(&words[i], memory_order_relaxed) != 0)
			continue;
		/* The mark first: recovery looks below it only. */
		while (seen <= i && !atomic_compare_exchange_weak_explicit(high, &seen, i + 1,
									   memory_order_acq_rel,
									   memory_order_relaxed))
			;
		/* Crash: before, free; after, claimed by us, which recovery frees. */
		if (atomic_compare_exchange_strong_explicit(
			    &words[i], &expected, thread_word(THREAD_CLAIMED, a->client, 0),
			    memory_order_acq_rel, memory_order_relaxed))
			return (int)i;
	}
	return -EUSERS;
}

static struct thread_block *make_block(struct arena *a, int *err)
{
	_Atomic uint64_t *words = (_Atomic uint64_t *)(a->base + a->g.thread_words);
	struct thread_block *t;
	uint64_t page;
	int index = claim_word(a);

	if (index < 0) {
		*err = index;
		return NULL;
	}
	STOP_POINT(thread_word_claimed);
	page = extent_alloc(a, 1, 1, RAW_THREAD, NULL, err);
	if (page == EXTENT_NONE) {
		atomic_store_explicit(&words[index], 0, memory_order_release);
		return NULL;
	}
	t = (struct thread_block *)(a->heap + (page << PAGE_SHIFT));
	memset(t, 0, sizeof(*t));
	t->tid = gettid();
	t->index = (uint32_t)index;
	t->own = state_make(OBJECT_PRIVATE, a->client, 0);
	t->gen_step = (2 * (uint32_t)index + 1) << STATE_GEN_SHIFT;
	t->handle_step = (uint64_t)t->gen_step << (HANDLE_GEN_SHIFT - STATE_GEN_SHIFT);
	t->home_zone = 1;
	t->shrink_seen = atomic_load_explicit(&client_record_at(a, a->client)->shrink, memory_order_relaxed);
	STOP_POINT(thread_block_ready);
	/* Crash: before, a claimed word and a raw extent; after, a thread's. */
	atomic_store_explicit(&words[index], thread_word(THREAD_LIVE, a->client, page), memory_order_release);
	STOP_POINT(thread_live);
	atomic_fetch_add_explicit(&a->threads, 1, memory_order_relaxed);
	return t;
}

/* The dead may have taken the words, or the memory. */
static struct thread_block *make_block_somehow(struct arena *a, int *err)
{
	struct thread_block *t = make_block(a, err);

	if (!t && recovery_reap_all(a) > 0)
		t = make_block(a, err);
	return t;
}

struct thread_block *thread_self(struct arena *a, int *err)
{
	struct thread_block *t = thread_peek(a);
	struct undisturbed before;

	if (t)
		return t;
	block_signals(&before);
	t = thread_peek(a); /* a handler's, of just now */
	*err = t ? 0 : a->readonly ? -EROFS : own_cells();
	if (!t && !*err && !process.is_client[cell_index(a)])
		*err = thread_become_client(a);
	if (!t && !*err) {
		t = make_block_somehow(a, err);
		if (t)
			enter_cell(a, thread_cell(a), t);
	}
	restore_signals(&before);
	return t;
}
