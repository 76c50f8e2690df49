/* SPDX-License-Identifier: Apache-2.0 */
/*
 * served.h - one arena that this daemon knows: its record, its mapping, the descriptors it hands out.
 *
 * To each arena that it serves the daemon is a client like any other, with a slot of its own: it holds
 * nothing while it waits, and whatever it held when it died is returned by the others.
 */
#ifndef DAEMON_SERVED_H
#define DAEMON_SERVED_H

#include <stdbool.h>
#include <sys/types.h>

#include "arena.h"
#include "protocol.h"
#include "state.h"

struct watch;
struct purging;
struct draining;
struct shipping;

struct served {
	struct served *next; /* by name */
	struct state_record record;
	enum arena_status status;
	int why;	    /* refused: -errno */
	struct arena arena; /* mapped while served */
	int read_fd, read_heap_fd;
	dev_t dev; /* of the arena's file, to see whether its name still means it */
	ino_t ino;

	/* The reaper's. */
	struct watch *watches[CLIENTS_MAX];
	uint64_t sweep_at;    /* monotonic ns */
	uint32_t sweep_hurry; /* sweeps still to be made in quick succession */
	bool unwatched;	      /* some client's process could not be watched */
	uint64_t reported[CLIENTS_MAX]; /* incarnation + 1 of which the death was reported last */

	struct purging *purging; /* the purger's; NULL: no memory for it */
	struct draining *draining; /* the drainer's; NULL: its log goes to no disk */
	struct shipping *shipping; /* NULL: its log goes no farther */
};

/* Whether its backing is a file with a name. */
static inline bool served_is_named(const struct served *s)
{
	return s->record.terms.backing == BACKING_POSIX || s->record.terms.backing == BACKING_FILE;
}

/* From files to an arena that can be served; its record then says what the files say. Fails without
 * closing the files. */
int served_map(struct served *s, struct arena_files files);
/* Back, the daemon's slot returned. */
void served_unmap(struct served *s);
/* Back after a fault, when the mapping has to stay (see guard.h): all else. */
void served_abandon(struct served *s);

/* Owner and mode of an arena's files, as its record says. */
int served_give_to(const struct arena_files *files, const struct state_record *record);
/* The daemon's life lock, after a descriptor of the life file was closed. */
void served_lock_again(const struct served *s);

/* Descriptors for somebody with these rights, in the order of ARENA_FD_...; returns their mask. */
uint32_t served_descriptors(const struct served *s, uint32_t rights, int fds[ARENA_FDS_MAX]);
/* Live clients, the daemon not counted. -EFAULT: the arena's memory went away. */
int served_clients(struct served *s, uint32_t *ret);

#endif
