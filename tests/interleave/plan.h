/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - the operations with the stop points on their ways, and who is held where beside whom. */
#ifndef INTERLEAVE_PLAN_H
#define INTERLEAVE_PLAN_H

#include "interleave.h"

#define KNOWN_MAX 400u
#define OTHERS_MAX 256u

enum ending { KILLED, CONTINUED, LEFT, ENDINGS };

/* An operation. */
struct known {
	const struct op *op;
	uint32_t hits[STOP_POINTS];
	uint32_t touches; /* TOUCH_… */
	uint32_t changes; /* of them, what is not merely looked at */
	uint32_t dies;	  /* the one who has died before: at which stop point on its way */
};
extern struct known known[KNOWN_MAX];
extern uint32_t known_count;
extern uint32_t others[OTHERS_MAX], others_count; /* in known[]: what is done beside a held one */

/* One hold: who is held is found when it is done, since the other may change its way. */
struct hold {
	uint16_t point, other; /* other: in known[] */
	uint16_t held;	       /* in known[], the first to be tried */
	uint8_t ending;
	uint32_t stage; /* those of one stage come together */
};
extern struct hold *holds;
extern uint32_t holds_count;

/* Runs every operation once. False: one did not take its way. */
bool plan_count(void);
/* All holds, by stage. Text: names of operations must contain it; NULL: all. */
void plan_make(const char *point, const char *held, const char *other, int ending, uint64_t seed);
/* The n-th of those that can be held at a point, from first on, round; KNOWN_MAX: there are no more. */
uint32_t plan_held(const struct hold *h, uint32_t n);
/* A stop point that no operation comes by; STOP_POINTS: there is none. */
uint32_t plan_unreached(uint32_t from);

bool plan_full(uint32_t held, uint32_t other); /* one writes to the log, which the other has filled */
bool plan_conflict(uint32_t held, uint32_t other); /* both do something to the same thing */
bool plan_senseless(uint32_t held, uint32_t other); /* no program may do both at a time */

/* Whether this process, which has done the operation, got what it asked for. */
bool plan_worked(const struct op *op);
/* Who has died before the operation; NULL: nobody. */
const struct op *plan_victim(uint32_t k);
/* The arena that both need. */
bool plan_stage(uint32_t held, uint32_t other);
void plan_name(const struct op *op, char *text, size_t size);

#endif
