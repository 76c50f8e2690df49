/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "protocol.h"

int peer_identify(struct peer *ret, int fd)
{
	struct ucred cred;
	socklen_t length = sizeof cred;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) < 0)
		return -errno;
	*ret = (struct peer){ .fd = fd, .pid = cred.pid, .uid = cred.uid, .gid = cred.gid };
	return 0;
}

/* The kernel says how many there are when the room is too small. */
static gid_t *read_groups(int fd, size_t *count)
{
	socklen_t length = 32 * sizeof(gid_t);
	gid_t *groups = NULL;

	for (int i = 0; i < 2; i++) {
		gid_t *more = realloc(groups, length);

		if (!more)
			break;
		groups = more;
		if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length) == 0) {
			*count = length / sizeof(gid_t);
			return groups;
		}
		if (errno != ERANGE)
			break;
	}
	free(groups);
	return NULL;
}

bool peer_in_group(const struct peer *peer, gid_t gid)
{
	size_t count = 0;
	gid_t *groups;
	bool found = peer->gid == gid;

	if (found)
		return true;
	groups = read_groups(peer->fd, &count);
	for (size_t i = 0; i < count && !found; i++)
		found = groups[i] == gid;
	free(groups);
	return found;
}

bool peer_is_privileged(const struct peer *peer)
{
	return peer->uid == 0 || peer->uid == geteuid();
}

uint32_t peer_rights(uint32_t mode, bool owner, bool in_group)
{
	uint32_t bits = owner ? mode >> 6 : in_group ? mode >> 3 : mode;

	return (bits & 4 ? ARENA_RIGHT_READ : 0) | (bits & 2 ? ARENA_RIGHT_WRITE : 0);
}
