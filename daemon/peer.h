/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - who is at the other end of a socket, as the kernel says it, and what an arena's mode bits
 * grant to it.
 */
#ifndef DAEMON_PEER_H
#define DAEMON_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct peer {
	int fd;
	pid_t pid; /* 0: in a pid namespace that this one does not see */
	uid_t uid;
	gid_t gid;
};

int peer_identify(struct peer *ret, int fd);
/* By its group or a supplementary one. */
bool peer_in_group(const struct peer *peer, gid_t gid);
/* Of the daemon itself: root and the daemon's own user may do everything. */
bool peer_is_privileged(const struct peer *peer);

/* Pure: ARENA_RIGHT_... of somebody, as open(2) would decide. */
uint32_t peer_rights(uint32_t mode, bool owner, bool in_group);

#endif
