/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "deaths.h"
#include "drainer.h"
#include "msg.h"
#include "peer.h"
#include "purger.h"
#include "reaper.h"
#include "ship.h"
#include "shmalloc.h"

#define ACCEPT_PAUSE UINT64_C(100000000) /* when descriptors or memory have run out */

union control {
	char bytes[CMSG_SPACE(ARENA_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

struct session {
	struct loop_op op; /* first: the receive */
	struct session *next, **link;
	struct peer peer;
	struct iovec iov;
	struct msghdr message;
	union control control;
	unsigned char bytes[sizeof(struct request) + 1]; /* one more, to see what is too long */
	bool presenting;	      /* the next message may bring descriptors */
	char arena[ARENA_NAME_BYTES]; /* attached to; "": to none */
	uint32_t client;	      /* as */
};

static struct {
	const struct service *service;
	int listen_fd;
	struct loop_op accept, pause;
	struct session *first;
	uint32_t count;
	uint64_t requests, dropped;
} sessions;

/* ---- replies ---- */

/* Never waits: a peer with one outstanding call always has room for its answer. */
static int send_reply(const struct session *s, const struct reply *reply, const int *fds, int count)
{
	union control control = { .bytes = { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)reply, .iov_len = sizeof *reply };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count > 0) {
		size_t bytes = (size_t)count * sizeof(int);
		struct cmsghdr *c = &control.align;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(bytes);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(c), fds, bytes);
	}
	return sendmsg(s->peer.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int answer(const struct session *s, const struct request *request, int error)
{
	struct reply reply;

	protocol_reply(&reply, request, error);
	return send_reply(s, &reply, NULL, 0);
}

/* With what there is to know of an arena, also when that is why it cannot be served. */
static int answer_arena(const struct session *s, const struct request *request,
			struct served *served, int error)
{
	struct reply reply;

	protocol_reply(&reply, request, error);
	registry_info(sessions.service->registry, served, &s->peer, &reply.arena);
	return send_reply(s, &reply, NULL, 0);
}

/* ---- requests ---- */

static int on_status(struct session *s, const struct request *request)
{
	const struct service *service = sessions.service;
	struct reaper_counts counts = reaper_counts();
	struct reply reply;

	protocol_reply(&reply, request, 0);
	reply.status = (struct daemon_status){
		.started_ns = service->started_ns,
		.requests = sessions.requests,
		.peers_dropped = sessions.dropped,
		.deaths = counts.deaths,
		.purged_bytes = purger_bytes(),
		.pid = getpid(),
		.layout_version = LAYOUT_VERSION,
		.connections = sessions.count,
		.arenas = service->registry->count,
		.arenas_lost = service->registry->lost,
		.clients_watched = counts.watched,
	};
	snprintf(reply.status.io, sizeof reply.status.io, "%s", loop_name(service->loop));
	snprintf(reply.status.release, sizeof reply.status.release, "%s", PACKAGE_VERSION);
	return send_reply(s, &reply, NULL, 0);
}

static int on_create(struct session *s, const struct request *request)
{
	struct served *served;
	int err = registry_create(sessions.service->registry, request->name, &request->terms,
				  &s->peer, &served);

	return err ? answer(s, request, err) : answer_arena(s, request, served, 0);
}

static int find_or_create(struct session *s, const struct request *request, struct served **served)
{
	struct registry *registry = sessions.service->registry;
	int err = registry_find(registry, request->name, &s->peer, served);

	if (!err && request->flags & SHMA_EXCL)
		return -EEXIST;
	if (err != -ENOENT || !(request->flags & SHMA_CREATE))
		return err;
	return registry_create(registry, request->name, &request->terms, &s->peer, served);
}

static int send_descriptors(const struct session *s, const struct request *request,
			    struct served *served)
{
	uint32_t rights = registry_rights(served, &s->peer);
	struct reply reply;
	int fds[ARENA_FDS_MAX], count = 0;

	if (!(rights & ARENA_RIGHT_READ))
		return answer(s, request, -EACCES);
	if (request->flags & SHMA_RDONLY)
		rights &= ~ARENA_RIGHT_WRITE;
	protocol_reply(&reply, request, 0);
	registry_info(sessions.service->registry, served, &s->peer, &reply.arena);
	if (served->status != ARENA_SERVED)
		return answer(s, request, served->why);
	reply.arena.rights = rights;
	reply.arena.descriptors = served_descriptors(served, rights, fds);
	while (count < ARENA_FDS_MAX && fds[count] >= 0)
		count++;
	return send_reply(s, &reply, fds, count);
}

static int on_open(struct session *s, const struct request *request)
{
	struct served *served = NULL;
	int err = find_or_create(s, request, &served);

	if (err)
		return served ? answer_arena(s, request, served, err) : answer(s, request, err);
	return send_descriptors(s, request, served);
}

static int on_destroy(struct session *s, const struct request *request)
{
	struct registry *registry = sessions.service->registry;
	struct served *served;

	/* Lost and damaged ones can be destroyed too. */
	int err = registry_find(registry, request->name, &s->peer, &served);

	if (served)
		err = registry_destroy(registry, served, &s->peer);
	return answer(s, request, err);
}

static int on_list(struct session *s, const struct request *request)
{
	struct served *served = registry_after(sessions.service->registry, request->name);

	return served ? answer_arena(s, request, served, 0) : answer(s, request, -ENOENT);
}

static int on_show(struct session *s, const struct request *request)
{
	struct served *served;
	int err = registry_find(sessions.service->registry, request->name, &s->peer, &served);

	return served ? answer_arena(s, request, served, 0) : answer(s, request, err);
}

static int on_deaths(struct session *s, const struct request *request)
{
	struct served *served = NULL;
	struct reply reply;
	int fd, err = 0;

	registry_find(sessions.service->registry, request->name, &s->peer, &served);
	if (!served)
		return answer(s, request, -ENOENT);
	if (!(registry_rights(served, &s->peer) & ARENA_RIGHT_READ))
		return answer(s, request, -EACCES);
	fd = deaths_file(served->record.name);
	protocol_reply(&reply, request, fd < 0 && fd != -ENOENT ? fd : 0);
	registry_info(sessions.service->registry, served, &s->peer, &reply.arena);
	reply.arena.descriptors = fd < 0 ? 0 : ARENA_FD_FILE;
	err = send_reply(s, &reply, &fd, fd >= 0);
	if (fd >= 0)
		close(fd);
	return err;
}

static void tell_trouble(const struct served *served, struct log_trouble *ret)
{
	const char *ship = ship_trouble(served, &ret->ship_ns);

	ret->disk = drainer_trouble(served, &ret->disk_ns);
	snprintf(ret->ship, sizeof ret->ship, "%s", ship ? ship : "");
}

/* The directory need not be there yet. */
static int on_log(struct session *s, const struct request *request)
{
	const char *dir = sessions.service->config->log_dir;
	struct served *served;
	struct reply reply;
	int err = registry_find(sessions.service->registry, request->name, &s->peer, &served);

	if (err)
		return served ? answer_arena(s, request, served, err) : answer(s, request, err);
	if (!(registry_rights(served, &s->peer) & ARENA_RIGHT_READ))
		return answer(s, request, -EACCES);
	protocol_reply(&reply, request, 0);
	if (dir[0] && snprintf(reply.log_dir, sizeof reply.log_dir, "%s/%s", dir, request->name) >=
			      (int)sizeof reply.log_dir)
		return answer(s, request, -ENAMETOOLONG);
	tell_trouble(served, &reply.log);
	return send_reply(s, &reply, NULL, 0);
}

static int on_attached(struct session *s, const struct request *request)
{
	struct served *served;
	int err = registry_find(sessions.service->registry, request->name, &s->peer, &served);

	if (!err)
		err = reaper_attached(served, request->client, s->peer.pid);
	if (!err) {
		memcpy(s->arena, request->name, sizeof s->arena);
		s->client = request->client;
	}
	return answer(s, request, err);
}

static int collect_descriptors(const struct session *s, int fds[ARENA_FDS_MAX])
{
	struct cmsghdr *c = s->message.msg_controllen ? CMSG_FIRSTHDR(&s->message) : NULL;
	size_t bytes;

	for (int i = 0; i < ARENA_FDS_MAX; i++)
		fds[i] = -1;
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return 0;
	bytes = c->cmsg_len - CMSG_LEN(0);
	if (bytes > ARENA_FDS_MAX * sizeof(int))
		bytes = ARENA_FDS_MAX * sizeof(int);
	memcpy(fds, CMSG_DATA(c), bytes);
	return (int)(bytes / sizeof(int));
}

static int take_presented(struct session *s, const struct request *request, const int *fds,
			  int count)
{
	struct registry *registry = sessions.service->registry;
	struct arena_files files = { .fd = fds[0], .life_fd = fds[1], .heap_fd = fds[2] };
	struct served *served;
	int err;

	registry_find(registry, request->name, &s->peer, &served);
	if (!served)
		return -ENOENT;
	err = registry_may_present(served, &s->peer);
	if (!err && count != __builtin_popcount(request->descriptors))
		err = -EBADMSG;
	return err ? err : registry_present(registry, served, files);
}

/*
 * In two steps: the first asks, the second brings the descriptors. Only in between does the session have
 * room for any: all others send theirs to nowhere, since merely closing a descriptor can harm (see
 * registry_close_foreign()).
 */
static int on_present(struct session *s, const struct request *request, const int *fds, int count)
{
	struct served *served;
	int err;

	if (request->descriptors) {
		err = take_presented(s, request, fds, count);
		if (err)
			registry_close_foreign(sessions.service->registry, fds, count);
		return answer(s, request, err);
	}
	registry_find(sessions.service->registry, request->name, &s->peer, &served);
	err = served ? registry_may_present(served, &s->peer) : -ENOENT;
	s->presenting = !err;
	return answer(s, request, err);
}

static int dispatch(struct session *s, const struct request *request)
{
	switch ((enum request_type)request->head.type) {
	case REQUEST_HELLO:
	case REQUEST_STATUS: return on_status(s, request);
	case REQUEST_ARENA_CREATE: return on_create(s, request);
	case REQUEST_ARENA_OPEN: return on_open(s, request);
	case REQUEST_ARENA_DESTROY: return on_destroy(s, request);
	case REQUEST_ARENA_LIST: return on_list(s, request);
	case REQUEST_ARENA_SHOW: return on_show(s, request);
	case REQUEST_CLIENT_ATTACHED: return on_attached(s, request);
	case REQUEST_CLIENT_DEATHS: return on_deaths(s, request);
	case REQUEST_ARENA_LOG: return on_log(s, request);
	case REQUEST_ARENA_PRESENT:
	case REQUEST_TYPES: break;
	}
	return answer(s, request, -EINVAL);
}

/* 0, or why the peer is to be dropped. */
static int handle(struct session *s, size_t length)
{
	int fds[ARENA_FDS_MAX], count = collect_descriptors(s, fds);
	struct request request;
	int err = protocol_request_check(s->bytes, length, &request);
	bool present = !err && request.head.type == REQUEST_ARENA_PRESENT;

	sessions.requests++;
	s->presenting = false;
	if (present)
		return on_present(s, &request, fds, count);
	registry_close_foreign(sessions.service->registry, fds, count);
	if (err == -EBADMSG)
		return err;
	if (err == -EPROTO) {
		answer(s, &request, err);
		return err;
	}
	return err ? answer(s, &request, err) : dispatch(s, &request);
}

/* ---- connections ---- */

static void session_end(struct session *s)
{
	struct served *served = NULL;

	if (s->arena[0])
		served = registry_after(sessions.service->registry, "");
	for (; served; served = served->next)
		if (strcmp(served->record.name, s->arena) == 0)
			reaper_suspect(served, s->client);
	close(s->peer.fd);
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	sessions.count--;
	free(s);
}

static void receive(struct session *s)
{
	s->iov = (struct iovec){ .iov_base = s->bytes, .iov_len = sizeof s->bytes };
	s->message = (struct msghdr){ .msg_iov = &s->iov, .msg_iovlen = 1 };
	if (s->presenting) {
		s->message.msg_control = s->control.bytes;
		s->message.msg_controllen = sizeof s->control.bytes;
	}
	loop_receive(sessions.service->loop, &s->op, s->peer.fd, &s->message);
}

static void drop_peer(struct session *s, int err)
{
	sessions.dropped++;
	msg_notice("dropped process %d of user %u: %s", (int)s->peer.pid, (unsigned)s->peer.uid,
		   err == -EBADMSG  ? "it does not speak the protocol"
		   : err == -EPROTO ? "it speaks another version of the protocol"
		   : err == -EAGAIN ? "it does not read its answers"
				    : strerror(-err));
	session_end(s);
}

static void received(struct loop_op *op, int result)
{
	struct session *s = (struct session *)op;
	int err;

	if (result <= 0) {
		session_end(s);
		return;
	}
	err = handle(s, (size_t)result);
	if (err == -EPIPE || err == -ECONNRESET)
		session_end(s);
	else if (err)
		drop_peer(s, err);
	else
		receive(s);
}

/* No one user can keep the others out. */
static bool has_room(const struct peer *peer)
{
	uint32_t limit = sessions.service->max_connections, own = 0;

	if (sessions.count >= limit)
		return false;
	if (peer_is_privileged(peer))
		return true;
	for (const struct session *s = sessions.first; s; s = s->next)
		own += s->peer.uid == peer->uid;
	return own < (limit + 1) / 2;
}

static void session_begin(int fd)
{
	struct session *s;
	struct peer peer;

	if (peer_identify(&peer, fd)) {
		close(fd);
		return;
	}
	s = has_room(&peer) ? calloc(1, sizeof *s) : NULL;
	if (!s) {
		sessions.dropped++;
		msg_warning("refused process %d of user %u: too many connections", (int)peer.pid,
			    (unsigned)peer.uid);
		close(fd);
		return;
	}
	s->peer = peer;
	s->op.done = received;
	s->link = &sessions.first;
	s->next = sessions.first;
	if (s->next)
		s->next->link = &s->next;
	sessions.first = s;
	sessions.count++;
	receive(s);
}

static void accept_next(void)
{
	loop_accept(sessions.service->loop, &sessions.accept, sessions.listen_fd);
}

static void accepted(struct loop_op *op, int result)
{
	(void)op;
	if (result >= 0) {
		session_begin(result);
		accept_next();
	} else if (result == -ECONNABORTED || result == -EINTR || result == -EAGAIN) {
		accept_next();
	} else {
		msg_warning("accept: %s", strerror(-result));
		loop_timer(sessions.service->loop, &sessions.pause, ACCEPT_PAUSE);
	}
}

static void pause_over(struct loop_op *op, int result)
{
	(void)op;
	(void)result;
	accept_next();
}

void session_listen(const struct service *service, int listen_fd)
{
	sessions.service = service;
	sessions.listen_fd = listen_fd;
	sessions.accept.done = accepted;
	sessions.pause.done = pause_over;
	accept_next();
}
