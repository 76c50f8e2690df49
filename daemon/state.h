/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - the book of arenas: one small text file an arena in the state directory, from which the
 * next daemon adopts them. Replaced whole (temporary name, fsync, rename), so a reader meets the old
 * one or the new one, never half of one.
 */
#ifndef DAEMON_STATE_H
#define DAEMON_STATE_H

#include <stdint.h>

#include "protocol.h"

#define STATE_TEXT_BYTES 1024

enum state_phase {
	STATE_CREATING = 0, /* the arena may or may not exist; nobody was given it yet */
	STATE_LIVE = 1,
	STATE_DESTROYING = 2 /* to be finished */
};

struct state_record {
	char name[ARENA_NAME_BYTES];
	enum state_phase phase;
	uint8_t uuid[16]; /* zeros while creating */
	uint64_t created_ns;
	uint32_t uid, gid;
	struct arena_terms terms;
};

/* Pure: length, or -EINVAL. Unknown keys are passed over: a later version's file is still adopted. */
int state_format(char text[STATE_TEXT_BYTES], const struct state_record *record);
int state_parse(const char *text, struct state_record *ret);

/* dir: descriptor of the state directory. */
int state_write(int dir, const struct state_record *record);
int state_remove(int dir, const char *name);
/* Calls take() for each record; removes half-written files; what cannot be read is left and told to
 * complain(). */
int state_scan(int dir, void (*take)(void *user, const struct state_record *record),
	       void (*complain)(void *user, const char *file, int err), void *user);

#endif
