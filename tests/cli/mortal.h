/* SPDX-License-Identifier: Apache-2.0 */
/* mortal.h - what the verbs of mortal share. */
#ifndef MORTAL_H
#define MORTAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shmalloc.h"

enum { THINGS = 300 };

/* Objects of all sizes, some of them shared; filled with what their number says. */
struct things {
	unsigned count, salt;
	shma_handle handle[THINGS];
	size_t bytes[THINGS];
};

extern shma *self;
extern const char *socket_path, *program;

__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
void attach(const char *name, unsigned flags, const struct shma_options *more);

void things_make(struct things *t, unsigned salt);
void things_check(const struct things *t);
void things_free(struct things *t);

/* mortal_measure.c */
int verb_measure(char **argv);
int verb_follow(char **argv);
/* mortal_stop.c */
int verb_stopped(char **argv);
int verb_press(char **argv);
/* mortal_halfway.c */
int verb_halfway(char **argv);

#endif
