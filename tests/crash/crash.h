/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash.h - what the parts of the harness share. Four kinds of process:
 *
 *   harness   holds the arena's file and its image, is no client and attaches nothing;
 *   survivor  a client that lives on, with objects, names and records; idle while others die;
 *   victim    a client made anew for each death: prepares, then dies in the operation;
 *   judge     a client made anew after each death: recovers, then asks the oracle.
 *
 * Between two deaths the arena's bytes are put back to the image taken when the survivor was ready.
 */
#ifndef CRASH_H
#define CRASH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "arena.h"
#include "attach.h"
#include "shmalloc.h"
#include "step.h"

#ifndef CRASH_CAPACITY
#define CRASH_CAPACITY (UINT64_C(16) << 20)
#endif
#define CRASH_LOG      65536u
#ifndef CRASH_STATES_MORE
#define CRASH_STATES_MORE 8 /* pages of state blocks that a victim may have added: they stay */
#endif
#define THINGS_MAX     2048u
#define LABELS_MAX     16u
#define LINES_MAX      4096u
#define NO_THING       UINT32_MAX

/* What becomes of it if the victim dies in the operation. */
enum fate {
	FATE_KEPT,  /* is there, as written */
	FATE_GONE,  /* is not */
	FATE_EITHER /* is there whole, or is not */
};

/* An object, filled with what its seed says. */
struct thing {
	uint64_t handle, bytes;
	uint32_t seed;
	bool file; /* it stands for a file, this program */
	enum fate fate;
	bool replaced; /* it is there, or one of the arena's that nobody may know of in its place: not both, not neither */
};

/* A published name. */
struct label {
	char name[24];
	uint32_t thing;
	enum fate fate;
	bool ties; /* the thing is there exactly while the name is */
};

/* A record of the log. */
struct line {
	uint32_t seed, bytes;
	enum fate fate;
};

/* An arena that shmallocd has made. */
struct served_arena {
	uint32_t backing;
	enum fate fate;
	bool unmade; /* it was being destroyed */
};

/* What there should be: written by survivor, victim and judge as they go. */
struct account {
	uint32_t things, labels, lines;
	struct thing thing[THINGS_MAX];
	struct label label[LABELS_MAX];
	struct line line[LINES_MAX];
	bool wrapped;	 /* old records may have been overwritten, all counted */
	bool full;	 /* the ring has no room, but what it takes from a consumer who is dead */
	bool parent;	 /* the victim was a child, whose parent lives on as a client */
	uint32_t strays; /* objects of the arena that nobody may know of, at most */
	uint64_t cell,
		cell_old; /* heap offset of a cell for thing 0 of the victim, and what it held */
	uint32_t cell_thing;
	char created[80]; /* an arena that may be there, and will be after the next create */
	uint32_t place;	  /* + 1: the record that a reader under the name "v" was given; the next is there, too */
	bool service;	  /* the victim was a daemon */
	bool in_book;	  /* which served the arena, and will */
	pid_t daemon;	  /* one beside the victim: it dies as soon as that */
	uint32_t arenas;
	struct served_arena arena[4];
};

/* How much is what. */
struct census {
	uint64_t internal, cached; /* objects: bookkeeping, ready in caches */
	uint64_t raw, returned, empty_slabs, threads, clients, names, dead_names;
	uint64_t free, state, slab, large, span, log, stack,
		other; /* pages; large and log: covered by their heads */
};

enum judging {
	JUDGE_RECOVER, /* recovers first */
	JUDGE_WORK,    /* works first, over what the dead left lying about */
	JUDGE_DRAIN,   /* takes all memory there is, by which the slow paths recover */
	JUDGE_WAYS
};

struct board {
	struct account account;
	struct census census; /* without a victim */
	uint64_t base, size;  /* of the victim's mapping */
	uint64_t number[8];   /* the operation's own */
	char failure[1024];
	/* The failure may be: what has 16 bits repeats itself now and then, and machines stand still. The same
	 * death is then tried again, three times. */
	bool by_chance;
	uint64_t died_at;  /* instruction */
	uint64_t pause_ns; /* the judge's longest call, time without a processor apart */
};

/* ---- this process ---- */

extern struct board *board;
extern shma *self;
extern char arena_name[64];
extern uint64_t op_number[8]; /* of the operation, in this process */

__attribute__((format(printf, 1, 2), noreturn)) void broken(const char *format, ...);
void attach_self(void);
struct thread_block *my_block(void);

/* ---- objects, names and records that the account knows ---- */

uint32_t note_thing(uint64_t handle, uint64_t bytes, enum fate fate);
uint32_t note_file(uint64_t handle, uint64_t bytes, enum fate fate); /* one that stands for this program */
uint32_t make_thing(uint64_t bytes, unsigned flags, enum fate fate);
void drop_thing(uint32_t thing); /* frees it */
void note_label(const char *name, uint32_t thing, enum fate fate, bool ties);
void write_line(uint32_t bytes);			    /* and it is kept */
void note_line(char *data, uint32_t bytes, enum fate fate); /* data for it */
bool thing_whole(const struct thing *t);

struct thing *thing_at(uint32_t thing);

/* ---- operations ---- */

/* What the survivor makes first. */
enum {
	T_SHARED = 0, /* small, large: on offer */
	T_SHARED_LARGE,
	T_PERSISTENT,
	T_PERSISTENT_LARGE,
	T_NAMED,
	T_NAMED_LARGE,
	T_SHARED_SPAN,
	T_SHARED_SINGLE, /* of a class whose slabs are one object each */
	T_PERSISTENT_SINGLE,
	T_HELD, /* small, by the survivor, from whom others may have it */
	T_FIRST_OTHER
};

enum op_flags {
	OP_ALONE = 1,	   /* an arena that nobody has used */
	OP_UNATTACHED = 2, /* the victim has not opened the arena */
	OP_STEPS = 4,	   /* run() calls step_begin() and step_end() itself */
	OP_FORK = 8,	   /* the operation is a child's, its parent lives on; with OP_STEPS */
	OP_DROP = 16,	   /* the log drops what its consumer has no room for */
	OP_DEBUG = 32	   /* a debug arena */
};

struct op {
	const char *name, *path;
	unsigned flags;
	void (*survive)(void); /* in the survivor, after its usual things */
	void (*prepare)(void); /* in the victim */
	void (*run)(void);
	bool (*took)(void);   /* in a victim that did not die: whether the path was the one meant */
	const char *victim;   /* recovery: who died before */
	uint32_t part, parts; /* and when: after this part of its kill points */
};

#define OP_ALL(flags, survive, name, path, prepare, run, took)             \
	{                                                                  \
		name, path, flags, survive, prepare, run, took, NULL, 0, 0 \
	}
#define OP(name, path, prepare, run, took) OP_ALL(0, NULL, name, path, prepare, run, took)
#define OP_SO(flags, name, path, prepare, run, took) \
	OP_ALL(flags, NULL, name, path, prepare, run, took)
#define OP_AFTER(survive, name, path, prepare, run, took) \
	OP_ALL(0, survive, name, path, prepare, run, took)

extern const struct op heap_ops[], single_ops[], file_ops[], resize_ops[], pack_ops[], hand_ops[], stack_ops[], hold_ops[], profile_ops[], debug_ops[],
	log_ops[], life_ops[], daemon_ops[];
/* Whether this process's operation got what it asked for, by whichever path. */
bool heap_op_worked(void), single_op_worked(void), file_op_worked(void), resize_op_worked(void), pack_op_worked(void), hand_op_worked(void),
	stack_op_worked(void), hold_op_worked(void), profile_op_worked(void), debug_op_worked(void), log_op_worked(void), life_op_worked(void);
const struct op *op_by_name(const char *name, const char *path);

/* ---- the arena's bytes ---- */

struct image;
struct image *image_take(int fd);
void image_restore(const struct image *image, int fd);
void image_free(struct image *image);

/* ---- the oracle ---- */

void survivor_make_usual(void);
/* In a process of its own: 0, or exits with 1 and a text on the board. */
void judge(enum judging way);
void judge_census(void); /* for the board */

#endif
