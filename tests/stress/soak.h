/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soak.h - the account that lies outside the arena, and the parts of the soak test. Five kinds of process:
 *
 *   killer    forks, kills, stops and continues all others; attaches nothing;
 *   daemon    shmallocd, killed like the workers and started again at once;
 *   workers   several threads each, doing everything the public calls offer;
 *   ledger    the log's consumer, which keeps up and accounts for every record;
 *   auditor   holds an attachment from which forked workers start, and at each checkpoint, when all work
 *             rests, compares the arena with the account.
 *
 * The account is shared anonymous memory. Whoever calls the arena says before what it is about to do, and
 * after what came of it; a kill in between leaves an intent, from which the auditor knows what may be.
 *
 * Who writes what: an object's entry, who owns the object (the arena's own compare-and-swaps decide who
 * that is, so account and arena are checked against each other); an actor, its thread; a life, the killer
 * and, for its client number, the process; a writer, its thread and the ledger.
 */
#ifndef SOAK_H
#define SOAK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "shmalloc.h"

enum {
	SLOTS_MAX = 32,
	ACTORS_MAX = 4,	       /* threads of a process */
	PARTITION = 2048,      /* objects that an actor may account for at once */
	LIVES_MAX = 1 << 18,   /* processes of a run */
	WRITERS_MAX = 1 << 20, /* threads of a run */
	BOARD = 64,	       /* offers open to all */
	CELLS = 512,	       /* in one published object */
	NAMES = 64,
	DEAD_OPS_MAX = 1 << 14 /* between two checkpoints */
};

#define ARENA_LIFE 1u /* owner of what is persistent or published; processes count from 2 */
#define NOTHING	   UINT32_MAX

enum op {
	OP_NONE,
	OP_START, /* attach, threads */
	OP_ALLOC,
	OP_ALLOC_SHARED,
	OP_ALLOC_PERSISTENT,
	OP_FREE,
	OP_RESIZE,
	OP_OFFER,
	OP_TAKE,
	OP_FREE_OFFER,
	OP_PEEK,
	OP_PERSIST,
	OP_CONSUME,
	OP_PUBLISH,
	OP_UNPUBLISH,
	OP_LOOKUP,
	OP_LOG,
	OP_READ_LOG,
	OP_THREAD_END,
	OP_CLOSE,
	OPS
};

enum entry_state { ENTRY_EMPTY, ENTRY_MAKING, ENTRY_LIVE };

/* One object. */
struct entry {
	_Atomic uint64_t handle; /* SHMA_NULL: not made yet */
	_Atomic uint64_t owner;	 /* life << 32 | tenure: no two tenures are alike */
	_Atomic uint32_t held;	 /* life that has it to itself; 0: on offer, or the arena's */
	_Atomic uint32_t state;
	uint32_t serial;       /* of the entry's uses; with its index in the object's first word */
	_Atomic uint32_t name; /* that it has, + 1 */
	_Atomic uint32_t
		offered; /* was on the board: whoever saw it there may take or free it at any time */
	_Atomic uint32_t maybe; /* AUDITOR: somebody died taking or freeing it */
	uint64_t size;		/* asked for */
	uint32_t reserved[4];
};
_Static_assert(sizeof(struct entry) == 64, "entry");

enum actor_state { ACTOR_NONE, ACTOR_RUNS, ACTOR_LEAVES, ACTOR_PARKED };

/* What a thread is doing. Of op's arguments, those that it has; op last. */
struct actor {
	_Atomic uint32_t state;
	_Atomic uint32_t parked; /* phase */
	_Atomic uint32_t op;
	_Atomic uint32_t entry, cell, name;
	_Atomic uint64_t handle;
	_Atomic uint64_t since_ns;
	_Atomic uint64_t ops;
	/* Kept over lives. */
	uint64_t done[OPS];
	uint64_t longest_ns[OPS]; /* of those that ended */
};

struct dead_op {
	uint32_t op, life, entry, cell, name;
	uint64_t handle;
};

struct slot {
	struct actor actors[ACTORS_MAX];
	_Atomic uint32_t life;
	_Atomic uint32_t left; /* life that ended by itself, in order */
};

struct life {
	_Atomic uint32_t alive;
	_Atomic uint32_t client; /* its number in the arena; 0: none (yet) */
};

/* A thread as the log knows it: from its thread block's beginning to its end. */
struct writer {
	_Atomic uint32_t life;
	_Atomic uint32_t round;
	_Atomic uint32_t trying, committed;    /* W: the thread. Numbers of its records, from 1 */
	_Atomic uint32_t received, last, late; /* W: the ledger */
	_Atomic uint32_t last_seq;
};

enum cell_state { CELL_FREE, CELL_FULL, CELL_CLAIMED };

/* A cell of the root object. */
struct cell {
	_Atomic uint64_t claim; /* CELL_..., when claimed | life << 32 */
	_Atomic uint32_t entry;
};

struct account {
	/* This round's arena. */
	char arena[64];
	char socket[108];
	uint32_t round;
	int policy;
	uint64_t capacity, log_capacity, quota;
	uint32_t slots_used, actors_used;
	unsigned seed;

	_Atomic uint32_t phase;	 /* even: work; odd: rest. A futex */
	_Atomic uint32_t ending; /* the round is over: workers leave */
	_Atomic uint32_t
		drain; /* AUDITOR: asks, by a new number, whether the ledger has read all there is */
	_Atomic uint32_t drained; /* the ledger: the last number for which it has */
	_Atomic uint32_t ledger_end;
	_Atomic uint64_t ledger_got, ledger_lost,
		ledger_pending; /* pending: counted with the next record */
	_Atomic uint32_t failed;
	char failure[2048];

	_Atomic uint32_t next_writer;
	uint32_t first_writer; /* of this round */
	struct slot slots[SLOTS_MAX];
	struct cell cells[CELLS];
	_Atomic uint64_t name_locks[NAMES]; /* life << 32 | 1, of who unpublishes */
	_Atomic uint64_t board[BOARD];	    /* serial << 32 | entry + 1 */
	uint32_t dead_ops_count;
	uint64_t torn; /* log calls that a kill cut, of the round */
	struct dead_op dead_ops[DEAD_OPS_MAX];
	struct life lives[LIVES_MAX];
	struct writer writers[WRITERS_MAX];
	/* By slot and actor; the last partition is the auditor's. */
	struct entry entries[(SLOTS_MAX * ACTORS_MAX + 1) * PARTITION];
};

extern struct account *account;

/* ---- soak_account.c ---- */

/* Something is not as it must be: tells the killer, and ends the process. */
__attribute__((format(printf, 1, 2), noreturn)) void lost(const char *format, ...);

uint64_t now_ns(void);
uint32_t draw(unsigned *seed, uint32_t below);

struct entry *entry_at(uint32_t index);
/* A free entry of a partition, being made by a life; NOTHING: there is none. */
uint32_t entry_new(uint32_t partition, uint64_t owner, uint32_t held, uint64_t size);
void entry_drop(uint32_t entry);
static inline uint32_t owner_life(uint64_t owner)
{
	return (uint32_t)(owner >> 32);
}

/* What an object holds: words told by entry, serial and place, at its front, its end and on each page. */
void content_fill(uint32_t entry, void *p, uint64_t bytes);
bool content_whole(uint32_t entry, const void *p, uint64_t bytes);
/* The front of a copy, whoever's it is: whether it is of a piece. The entry it names. */
bool content_front(const void *copy, size_t n, uint32_t *entry, uint32_t *serial);

struct record_head {
	uint32_t writer, number, len, check;
};
void record_fill(void *p, uint32_t writer, uint32_t number, uint32_t len);
bool record_whole(const void *p, size_t len, struct record_head *ret);

const char *op_name(enum op op);

/* ---- the processes ---- */

/* s: an attachment inherited from the parent, or NULL. */
void work(uint32_t slot, uint32_t life, shma *s) __attribute__((noreturn));
void ledger(void) __attribute__((noreturn));

enum command { COMMAND_FORK, COMMAND_BURY, COMMAND_CHECK, COMMAND_END };
struct order {
	enum command what;
	uint32_t slot, life; /* fork */
	pid_t pid; /* bury: a child that has ended; until then its number is nobody else's. No answer */
};
struct answer {
	pid_t pid;
	uint64_t objects, bytes, unresolved, strays, reaped_by_daemon, reaped_by_auditor, wait_ns;
};
/* Serves orders from a socket. */
void audit(int fd) __attribute__((noreturn));

#endif
