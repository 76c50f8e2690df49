/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.h - the arenas that this daemon serves: made, adopted, handed out, destroyed. The files and
 * the book in the state directory are the truth; the list in memory follows them.
 */
#ifndef DAEMON_REGISTRY_H
#define DAEMON_REGISTRY_H

#include <stdbool.h>
#include <sys/types.h>

#include "config.h"
#include "peer.h"
#include "served.h"

struct registry {
	struct served *first;
	unsigned count, lost;
	const struct config *config; /* current limits and defaults */
	int state_dir, files_dir;
};

/* Adopts what the book says. The state directory is locked by the caller. */
int registry_open(struct registry *r, const struct config *config);
/* Gives the daemon's slots back; arenas stay. */
void registry_close(struct registry *r);

/* -ENOENT; -EUCLEAN and the like: there, but not to be served; -EOWNERDEAD: lost. *ret is set but for
 * -ENOENT. An arena that was made without the daemon is adopted if the peer may read it. */
int registry_find(struct registry *r, const char *name, const struct peer *peer,
		  struct served **ret);
/* The first one after a name, "" included, in order. */
struct served *registry_after(const struct registry *r, const char *name);

int registry_create(struct registry *r, const char *name, const struct arena_terms *terms,
		    const struct peer *peer, struct served **ret);
/* -EPERM: neither owner nor privileged. */
int registry_destroy(struct registry *r, struct served *s, const struct peer *peer);

/* A lost arena, handed back: may this peer do so, and are these files it? The files are the arena's if
 * the result is 0, else the caller's still. */
int registry_may_present(const struct served *s, const struct peer *peer);
int registry_present(struct registry *r, struct served *s, struct arena_files files);
/* Closes descriptors that came from a peer. One of them may be a life file that the daemon holds a lock
 * on, which the close drops: it is taken again. */
void registry_close_foreign(struct registry *r, const int *fds, int count);

uint32_t registry_rights(const struct served *s, const struct peer *peer);
void registry_info(struct registry *r, struct served *s, const struct peer *peer,
		   struct arena_info *ret);

/* Its memory went away under the daemon's hands: no longer served. */
void registry_refuse(struct registry *r, struct served *s, int why);

#endif
