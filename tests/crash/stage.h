/* SPDX-License-Identifier: Apache-2.0 */
/* stage.h - the harness's side of a death: arenas, their survivors, and victims, traced or killed. */
#ifndef CRASH_STAGE_H
#define CRASH_STAGE_H

#include "crash.h"

extern struct trace *trace; /* of the last operation traced */
extern struct board *kept;  /* the board as the survivor left it */

double stage_seconds(void); /* a clock */
/* What the processes of a harness share, zeroed; without memory there is no harness. */
void *stage_memory(size_t size);

/* A child that dies with this process; 0 in it. */
pid_t stage_spawn(void);
int stage_wait(pid_t pid); /* its status */
/* Exited with 0; else the board says why not, of whom. */
bool stage_ended_well(int status, const char *who);

/* An arena with its survivor, and its image; false, and the board says why. */
bool stage_set_up(const struct op *op);
bool stage_retake(void);  /* the image, of the arena as it is */
void stage_restore(void); /* the arena, and the board */
void stage_remove(void);

/* A whole run of the operation, which fills in the trace. */
bool stage_trace(const struct op *op);
/* The victim's pid if it is a parent that lives on, else 0; -1: it did not die. */
pid_t stage_kill(const struct op *op, uint64_t target);

#endif
