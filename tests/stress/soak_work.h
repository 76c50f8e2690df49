/* SPDX-License-Identifier: Apache-2.0 */
/* soak_work.h - one thread of a worker, as its operations see it. */
#ifndef SOAK_WORK_H
#define SOAK_WORK_H

#include <pthread.h>

#include "soak.h"

enum { OWN_MAX = 160 };

struct thread {
	uint32_t slot, index, life;
	uint32_t partition;
	unsigned seed;
	struct actor *actor;
	uint32_t own[OWN_MAX]; /* entries of objects that this thread has to itself */
	uint32_t owned;
	uint64_t own_bytes, own_bytes_max;
	uint32_t writer, number; /* in the log; 0: not yet */
	uint32_t tenures;
	struct shma_reader *reader;
};

/* Of the process. */
extern shma *self;

/* Around each call: what is about to be done, and that it is over. */
void op_begin(struct thread *t, enum op op, uint32_t entry, uint64_t handle, uint32_t cell,
	      uint32_t name);
void op_end(struct thread *t);

/* An owner word of this process's that no other thread and no other time has. */
uint64_t tenure(struct thread *t);
void own_add(struct thread *t, uint32_t entry);

void do_objects(struct thread *t);
void do_log(struct thread *t);
void reader_end(struct thread *t);
/* Frees all that the thread has. */
void free_all(struct thread *t);

#endif
