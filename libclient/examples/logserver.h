/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logserver.h - a log server of six processes on one arena, and what is left of its account when one
 * of them is killed in the middle. Built on shmalloc.h alone.
 *
 *   supervisor  publishes the board, starts the others, kills a worker half-way, starts another
 *   ingest      puts each line of its files into an object of its own and offers it to a worker
 *   workers     take lines, find program and level, count, log what they did, free the object
 *
 * The board is one published object: it outlives each of them. A lane of it leads from the ingest
 * process to one worker: a ring of handles that only the ingest process fills and only the lane's
 * worker empties.
 *
 * How the account closes, whenever a worker is killed. Each line has a number in its lane, and two
 * stores decide about it, each of them one aligned word:
 *   - the take: the object is the worker's. Dies the worker, the arena returns the object, and its
 *     handle is stale: the line is lost with the worker, and everybody can see that.
 *   - the count: a cell of the worker's table holds how many lines it counted and the number of the
 *     last of them, changed together by one store. A line is counted if and only if a cell of its
 *     lane bears its number or a higher one.
 * So a successor needs no message from the dead: the highest number in the lane's cells says where to
 * go on, and of each line from there the take says whether it is still there (then it is counted like
 * any other) or went with the dead worker (then it is counted as reclaimed, by the same kind of store).
 */
#ifndef LOGSERVER_H
#define LOGSERVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <shmalloc.h>

#define BOARD_NAME  "logserver"
#define BOARD_MAGIC 0x31647262676f6cULL

enum {
	LANES = 4,
	LANE_CELLS = 4096,
	BATCH = 32, /* lines a worker takes before it counts them */
	ROWS = 256, /* programs told apart */
	LEVELS = 8,
	LABEL = 40,
	SOURCES = 32,
	TEXT_MAX = 1 << 16, /* longer lines become several */
	ROW_OTHER = 0,	    /* programs beyond the table */
	ROW_RECLAIMED = ROWS
};

/* A line's object. W: the ingest process, before it offers it. */
struct line {
	uint64_t number; /* in its lane, from 1 */
	uint32_t lane;
	uint32_t source;
	uint32_t len;
	char text[];
};

/* W: any worker. The key decides (compare-and-swap 0 -> key); the label follows from it, so whoever
 * finds it missing writes it, again and again if need be: always the same bytes. */
struct row {
	_Atomic uint64_t key;
	_Atomic uint32_t labelled;
	char label[LABEL];
};

/* How many lines << 32 | number of the last of them. W: the lane's worker. */
typedef _Atomic uint64_t cell;

struct lane {
	_Alignas(64) _Atomic uint64_t offered; /* lines so far. W: ingest */
	_Alignas(64) _Atomic uint64_t
		done; /* lines settled; follows the cells. W: the lane's worker */
	_Atomic uint64_t taken; /* lines taken, for the supervisor to see. W: the lane's worker */
	_Alignas(64) _Atomic shma_handle ring[LANE_CELLS]; /* W: ingest */
	cell counts[ROWS + 1][LEVELS];
};

enum phase { RUNNING, FINISHED };

struct board {
	uint64_t magic;
	_Atomic uint32_t phase;	    /* W: ingest */
	_Atomic uint32_t waiting;   /* ingest has one line left and waits for the kill. W: ingest */
	_Atomic uint32_t kill_done; /* W: supervisor */
	_Atomic uint64_t lines_in;  /* W: ingest */
	char sources[SOURCES][LABEL]; /* W: supervisor, before the board is published */
	struct row rows[ROWS];
	struct lane lanes[LANES];
};

struct settings {
	const char *role;
	const char *arena;
	const char *socket;
	bool embedded;
	int lane;
	uint64_t lines;
	char **files;
	int file_count;
};

struct meaning {
	char program[LABEL];
	int level;
};

extern struct settings logserver_settings;

void logserver_say(const char *what, int err);
void logserver_nap(long microseconds);
int logserver_open(shma **a, unsigned flags);
struct board *logserver_board(shma *a);
void logserver_parse(struct meaning *m, const char *text, size_t len, const char *source);

/* The roles; their results are the processes' exit statuses. */
int logserver_worker(void);
int logserver_ingest(void);
int logserver_supervisor(void);

#endif
