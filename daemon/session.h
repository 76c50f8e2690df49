/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - connections: accepted, bounded in number, each with one request at a time. A peer that
 * sends what is not the protocol, or does not read its answers, is dropped; none is ever waited for.
 */
#ifndef DAEMON_SESSION_H
#define DAEMON_SESSION_H

#include "config.h"
#include "loop.h"
#include "registry.h"

struct service {
	struct loop *loop;
	struct registry *registry;
	const struct config *config;
	uint32_t
		max_connections; /* what the limit on descriptors leaves of the configured number */
	uint64_t started_ns;
};

/* From now on connections to a listening socket are taken. */
void session_listen(const struct service *service, int listen_fd);

#endif
