/* SPDX-License-Identifier: Apache-2.0 */
/*
 * protocol.h - what a process and shmallocd say to each other over a SOCK_SEQPACKET Unix socket: one
 * fixed-size request, one fixed-size reply, one outstanding call a connection. Pure functions check
 * every byte before anything acts on it; neither side trusts the other.
 *
 * The first 16 bytes of either message are the same in every version of the protocol, so that two
 * builds that differ say -EPROTO instead of misreading each other. Integers are in the machine's own
 * order: a Unix socket does not leave it.
 */
#ifndef LIBCLIENT_PROTOCOL_H
#define LIBCLIENT_PROTOCOL_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"

#define PROTOCOL_MAGIC	 0x414d4853u /* "SHMA" */
#define PROTOCOL_VERSION 1u

enum request_type {
	REQUEST_HELLO = 1,	  /* who is there; reply.status */
	REQUEST_STATUS = 2,	  /* reply.status */
	REQUEST_ARENA_CREATE = 3, /* name, terms; reply.arena */
	REQUEST_ARENA_OPEN = 4, /* name, flags, terms with SHMA_CREATE; reply.arena, descriptors */
	REQUEST_ARENA_DESTROY = 5, /* name */
	REQUEST_ARENA_LIST = 6,	   /* the first arena after name in order; -ENOENT: that was all */
	REQUEST_ARENA_SHOW = 7,	   /* name; reply.arena */
	REQUEST_CLIENT_ATTACHED =
		8, /* name, client: of the peer's process, so that it is watched */
	REQUEST_ARENA_PRESENT =
		9, /* name, descriptors: a lost memfd arena, handed back by a client */
	REQUEST_CLIENT_DEATHS = 10, /* name; ARENA_FD_FILE: reports of deaths, if there are any */
	REQUEST_ARENA_LOG = 11, /* name; reply.log_dir, reply.log */
	REQUEST_TYPES
};

/* Rights in arena_info, of the peer that asked. */
#define ARENA_RIGHT_READ  1u
#define ARENA_RIGHT_WRITE 2u

/* Which descriptors travel with a message, in this order. A reader gets no life file: a lock on a
 * dead client's byte would make it look alive. */
#define ARENA_FD_FILE 1u
#define ARENA_FD_LIFE 2u
#define ARENA_FD_HEAP 4u /* hugetlb only */
#define ARENA_FDS_MAX 3

enum arena_status {
	ARENA_SERVED = 0,
	ARENA_LOST = 1,	  /* a memfd arena whose descriptor died with an earlier daemon */
	ARENA_REFUSED = 2 /* its file is there but damaged, of another version or pid namespace */
};

enum terms_numa { NUMA_LOCAL = 0, NUMA_INTERLEAVE = 1, NUMA_BIND = 2 };
enum terms_huge { HUGE_NEVER = 0, HUGE_ADVISE = 1, HUGE_ALWAYS = 2 };

struct protocol_head {
	uint32_t magic;
	uint16_t version;
	uint16_t type;	 /* a reply repeats its request's */
	uint32_t serial; /* likewise */
	int32_t error;	 /* reply: 0 or -errno; request: 0 */
};
_Static_assert(sizeof(struct protocol_head) == 16, "protocol head");

/* What a new arena shall be; zeros are the daemon's defaults. */
struct arena_terms {
	uint64_t capacity;
	uint64_t log_capacity;
	uint64_t client_quota;
	uint64_t numa_nodes; /* bit a node, for NUMA_BIND */
	uint32_t backing;    /* enum arena_backing */
	uint32_t log_policy; /* SHMA_LOG_... */
	uint32_t mode;	     /* permission bits */
	uint32_t numa_mode;
	uint32_t huge_mode;
	uint32_t log_clock; /* SHMA_LOG_EXACT, SHMA_LOG_COARSE */
	uint32_t debug_mode; /* SHMA_DEBUG_... */
	uint32_t debug_every;
};
_Static_assert(sizeof(struct arena_terms) == 64, "arena terms");

struct request {
	struct protocol_head head;
	char name[ARENA_NAME_BYTES]; /* zeros after the name */
	uint32_t flags;		     /* open: SHMA_CREATE, SHMA_EXCL, SHMA_RDONLY */
	uint32_t client;	     /* attached: number */
	struct arena_terms terms;
	uint32_t descriptors;  /* present: ARENA_FD_... that come along; 0: may they? */
	uint8_t reserved[100]; /* zeros */
};
_Static_assert(sizeof(struct request) == 256, "request");

struct arena_info {
	char name[ARENA_NAME_BYTES];
	uint8_t uuid[16];
	uint64_t file_size;
	uint64_t created_ns; /* CLOCK_REALTIME */
	struct arena_terms terms;
	uint32_t uid, gid;	/* owner */
	uint32_t status;	/* enum arena_status */
	int32_t why;		/* refused: -errno */
	uint32_t rights;	/* of the peer */
	uint32_t clients;	/* live, without the daemon */
	uint32_t daemon_client; /* the daemon's own number in it; 0: none */
	uint32_t descriptors;	/* ARENA_FD_... that come with this reply */
};
_Static_assert(sizeof(struct arena_info) == 192, "arena info");

struct daemon_status {
	uint64_t started_ns; /* CLOCK_REALTIME */
	uint64_t requests;
	uint64_t peers_dropped; /* for garbage, or for not reading */
	uint64_t deaths;	/* clients recovered */
	uint64_t purged_bytes;
	int32_t pid;
	uint32_t layout_version;
	uint32_t connections;
	uint32_t arenas;
	uint32_t arenas_lost;
	uint32_t clients_watched;
	char io[8];	  /* "uring", "epoll" */
	char release[32]; /* of the package */
};
_Static_assert(sizeof(struct daemon_status) == 104, "daemon status");

/* What keeps an arena's log from the disk, and from the engine beyond it; 0 and "": nothing. */
struct log_trouble {
	int32_t disk; /* -errno */
	int32_t reserved;
	uint64_t disk_ns, ship_ns; /* since; CLOCK_REALTIME */
	char ship[168];
};
_Static_assert(sizeof(struct log_trouble) == 192, "log trouble");

#define PROTOCOL_LOG_BYTES 200 /* a longer path is -ENAMETOOLONG */

struct reply {
	struct protocol_head head;
	struct arena_info arena;
	struct daemon_status status;
	char log_dir[PROTOCOL_LOG_BYTES]; /* where the arena's log is drained to; "": nowhere */
	struct log_trouble log;
};
_Static_assert(sizeof(struct reply) == 704, "reply");

/* All zeros but the head, and the name if not NULL: -ENAMETOOLONG, -EINVAL. */
int protocol_request(struct request *ret, enum request_type type, const char *name);

/*
 * Checks what came from a socket and copies it to *ret. 0: act on it. -EINVAL, -ENAMETOOLONG: well
 * formed, but asks for nonsense: answer so. -EPROTO: another version of the protocol: answer so, then
 * hang up. -EBADMSG: not this protocol at all: hang up. *ret has the head but in the last case.
 */
int protocol_request_check(const void *bytes, size_t length, struct request *ret);

/* A reply to this request, all zeros but the head. */
void protocol_reply(struct reply *ret, const struct request *request, int error);

/* Likewise for the other direction. 0, -EPROTO, -EBADMSG; head.error is the answer's own. */
int protocol_reply_check(const void *bytes, size_t length, struct reply *ret);

/* 0 or -EINVAL. */
int protocol_terms_check(const struct arena_terms *terms);

#endif
