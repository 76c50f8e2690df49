/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interleave.h - what the parts of the harness share. Beside the processes of tests/crash/crash.h, whose
 * operations, survivors and judges serve here too:
 *
 *   dead    a client that has died before, for those operations that need one;
 *   held    a client that is stopped at a stop point in the middle of its operation;
 *   other   a client, ready before that, which then does its own operation from beginning to end;
 *   third   a client that comes while the held one is still stopped, and does a little of everything.
 */
#ifndef INTERLEAVE_H
#define INTERLEAVE_H

#include "crash.h"
#include "stage.h"
#include "stop_point.h"

#define MOST_NS UINT64_C(10000000) /* of an operation beside a stopped process */

/* Of one operation: see watch.c. */
struct timing {
	uint64_t own_ns; /* without the time that it was ready and had no processor */
	uint64_t sleeps; /* how often it gave its processor away */
	bool over;
};

/* In memory that all share. */
struct scene {
	uint32_t hits[STOP_POINTS], total; /* of an operation that was counted */
	uint32_t touched;		   /* by it, see TOUCH_… */
	bool held;
	struct timing timing; /* the other's, or the third's longest */
	char slowest[32];
	bool worked[3]; /* by role: it got what it asked for */
	struct {
		uint64_t at, old;
		uint32_t thing;
	} cell[3];
};
extern struct scene *scene;

/* What is the survivor's or the arena's, and an operation does something to: a bit a thing, a label, … */
#define TOUCH_THING(thing) (1u << (thing))
#define TOUCH_LABEL(label) (1u << (T_FIRST_OTHER + (label)))
#define TOUCH_VICTIM	   (1u << 16) /* the name that publishing gives */
#define TOUCH_CONSUMER	   (1u << 17)
#define TOUCH_CREATED	   (1u << 18)

/* ---- watch.c: what the next operation of this process is for, and the stop points on its way ---- */

void watch_hold(enum stop_point_name at, uint32_t hit); /* stops at the hit-th time */
void watch_die(uint32_t hit);				/* at the hit-th stop point of any name */
void watch_time(void);
const char *stop_point_text(enum stop_point_name name);
const char *stop_point_what(enum stop_point_name name);

/* ---- ops_more.c ---- */

extern const struct op more_ops[];
bool more_op_worked(void);

/* ---- actors.c ---- */

enum role { HELD, OTHER, DEAD };

/* Prepared, and stopped before its operation; 0: it could not prepare. */
pid_t actor_ready(const struct op *op);
/* Prepares, and operates up to the point; 0: it did not come by. */
pid_t actor_held(const struct op *op, enum stop_point_name at, uint32_t hit);
/* One that was ready operates; false, and the board says why, if it does not come to its end. *living: it
 * has a child that operates for it, and lives on. */
bool actor_finish(const struct op *op, pid_t pid, bool *living);
/* A held one goes on to its end. */
bool actor_continue(pid_t pid);
bool actor_third(void);
void actor_kill(pid_t pid);
/* Dies in its operation, at the hit-th stop point; false: it did not come so far. */
bool actor_dead(const struct op *op, uint32_t hit);
/* The oracle, of the two that have ended. whose_cell: a role, or -1, if what lies in cells is nobody's say. */
bool actor_judge(enum judging way, int whose_cell);

#endif
