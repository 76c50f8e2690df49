/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.h - a shmallocd in this process: its locks, book, loop, sessions and reaper, in the order of its
 * main(); only the signals are missing. It is asked over its own socket, by this process too.
 */
#ifndef CRASH_SERVICE_H
#define CRASH_SERVICE_H

#include "crash.h"
#include "protocol.h"
#include "state.h"

/* Under the harness's name: where its book and its socket are. */
void service_paths(void);
/* All that any daemon has left: the book, the socket, arenas but the harness's own. */
void service_remove(void);

/* 0 or -errno: arenas of the book are adopted, and connections taken. */
int service_start(void);
/* As on SIGTERM. */
void service_stop(void);
/* Waits for something to do, and does it. */
void service_turn(void);
/* Until each arena has been swept: for who died unseen. */
void service_sweep(void);
/* Whether it is one of the daemon's. */
bool service_knows(const char *name);
/* Its mapping; NULL: not served. */
struct arena *service_arena(const char *name);
uint64_t service_deaths(void);  /* that it has seen */
uint32_t service_watched(void); /* clients by their processes */

/* Sends a request; the next turn acts on it. */
void service_ask(enum request_type type, const char *name, uint32_t backing);
/* What it was answered: 0 or -errno. */
int service_answer(struct reply *reply);
/* All of it. */
int service_call(enum request_type type, const char *name, uint32_t backing, struct reply *reply);

extern char service_socket[100];

/* ---- arenas of the account ---- */

/* A name of its own for each kind of memory. */
const char *service_name(uint32_t backing);
void note_arena(uint32_t backing, enum fate fate);
/* Puts a record of another phase into the book, as a death in the middle leaves it. */
void service_write_phase(uint32_t backing, enum state_phase phase);
/* Files in shared memory of arenas but the harness's own: how many; calls for each, unless NULL. */
uint32_t service_files(void (*call)(const char *path));
/* Where the book is; files of file arenas beside it. */
const char *service_book(void);
uint32_t service_files_of_book(void);

/* The oracle: a next daemon comes, completes what this one began, serves what is there, and all of it can
 * be unmade and made anew; nothing stays behind. Ends in a process of its own. */
void look_at_service(void);

#endif
