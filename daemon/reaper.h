/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reaper.h - deaths of clients. A readable pidfd or a connection's hang-up only wakes the reaper; what
 * convinces it is liveness_is_dead(), and what it does then is recovery_run(). A sweep over all client
 * words finds who came or went unseen: while the daemon was away, or without ever telling it.
 */
#ifndef DAEMON_REAPER_H
#define DAEMON_REAPER_H

#include "loop.h"
#include "registry.h"

void reaper_start(struct loop *loop, struct registry *registry);

/* An arena is served from now on: its clients are watched, its dead recovered. */
void reaper_adopt(struct served *s);
/* No longer. Watches that the loop still holds end by themselves. */
void reaper_forget(struct served *s);

/* A peer says that it is this client. -EINVAL: its process is not. */
int reaper_attached(struct served *s, uint32_t client, pid_t pid);
/* This client may have died just now. */
void reaper_suspect(struct served *s, uint32_t client);

struct reaper_counts {
	uint64_t deaths;
	uint32_t watched;
};
struct reaper_counts reaper_counts(void);

#endif
