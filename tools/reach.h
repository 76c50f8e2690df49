/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reach.h - how a verb gets at arenas to read them: by descriptors from the daemon, directly in
 * /dev/shm (--embedded), or as a file at a path. All mappings are read-only, and no client slot is
 * taken; the daemon is asked for access only, never to look into an arena.
 *
 * What fails here is said on stderr here; the functions that give int give an enum tool_exit.
 */
#ifndef TOOLS_REACH_H
#define TOOLS_REACH_H

#include "arena.h"
#include "protocol.h"
#include "shmalloc.h"
#include "tool.h"

struct reach {
	struct arena arena;
	struct arena_header header; /* a copy: others may write the mapped one */
	struct arena_info info;	    /* as the daemon tells it, or as read from the arena */
	char name[ARENA_NAME_BYTES];
};

/* Whether a NAME|PATH operand is a path: it has a '/'. */
bool reach_is_path(const char *what);
/* Whether the daemon is on the way to it. */
bool reach_needs_daemon(const struct call *call, const char *what);

/* Opens one arena. */
int reach_open(const struct call *call, const char *what, struct reach *ret);
void reach_close(struct reach *r);

/* A connection to the daemon. */
int reach_daemon(const struct call *call, int *fd);
/* One request about an arena; *reply has its answer. files as connect_call() has it. what: for messages. */
int reach_request(int fd, const struct request *request, struct reply *reply,
		  struct arena_files *files, const char *what);

/* Attaches through the library: to write (SHMA_... flags), or to read the log. */
int reach_attach(const struct call *call, const char *what, unsigned flags, shma **ret);

/* Where the daemon drains an arena's log to; "": nowhere, or its path is too long to be told, which is said. */
#define REACH_LOG_BYTES PROTOCOL_LOG_BYTES
int reach_log_directory(const struct call *call, const char *name, char path[REACH_LOG_BYTES]);
/* The same, and what keeps the log from there. */
int reach_log(const struct call *call, const char *name, char path[REACH_LOG_BYTES], struct log_trouble *ret);

/* All arenas in order of name, those that are lost or refused too. Not TOOL_OK from visit: ends. */
typedef int (*reach_visit)(void *context, const struct arena_info *info);
int reach_list(const struct call *call, reach_visit visit, void *context);

/* ---- what lies in the fixed part of an arena ---- */

/* Client words; those below the mark only. */
uint32_t reach_client_count(const struct reach *r); /* numbers to ask for: 1 .. count - 1 */
uint64_t reach_client_word(const struct reach *r, uint32_t number);
/* Those that live, without the daemon itself if that is how the arena was reached. */
uint32_t reach_live_clients(const struct reach *r);
/* A client's record, copied. False: it has none. */
bool reach_client_record(const struct reach *r, uint32_t number, struct client_record *ret);
/* Name entry number i, copied; *word tells its state. False: not in use. */
bool reach_name(const struct reach *r, uint32_t i, uint64_t *word, struct name_entry *ret);

const char *reach_backing_name(uint32_t backing);
const char *reach_policy_name(uint32_t policy);
const char *reach_clock_name(uint32_t kind);
const char *reach_numa_name(uint32_t mode);
const char *reach_huge_name(uint32_t mode);
const char *reach_status_name(uint32_t status);
/* Text of a fixed field, whether terminated or not; at most size - 1 bytes of it. */
void reach_copy_text(char *to, size_t size, const char *from, size_t length);

#endif
