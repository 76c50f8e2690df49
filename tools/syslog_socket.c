/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syslog_socket.c - receives datagrams, one thread, one at a time: a sender waits only as long as a record
 * takes to be written. What a message says of itself is kept as it says it; who sent it, as the kernel does.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "syslog_socket.h"
#include "syslog_text.h"

/* Above what the kernel lets through by default, 208 KiB, and far below a record. */
#define MESSAGE_BYTES ((size_t)512 << 10)
/* In the queue of the socket, so that a burst does not keep its sender waiting. */
#define QUEUE_BYTES (8 << 20)
/* Read after the end was asked for: more than any queue holds. */
#define LAST_MESSAGES 65536

#define KV_OWN 12 /* besides structured data */
#define KEY_BYTES (2 * SYSLOG_NAME_MAX + 2)

/* ---- the socket ---- */

static int address(struct sockaddr_un *addr, const char *path)
{
	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(addr->sun_path))
		return -ENAMETOOLONG;
	strcpy(addr->sun_path, path);
	return 0;
}

/* A socket that nobody listens at is what a killed process left. */
static int remove_stale(int fd, const struct sockaddr_un *addr)
{
	struct stat st;

	if (lstat(addr->sun_path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (!connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) || errno != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(addr->sun_path) && errno != ENOENT ? -errno : 0;
}

static int bind_at(struct syslog_socket *s, const struct sockaddr_un *addr)
{
	mode_t mask;
	int one = 1, size = QUEUE_BYTES, r, err;

	setsockopt(s->fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one));
	if (setsockopt(s->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	/* From its first moment on all may write to it, and nobody needs to do more. */
	fchmod(s->fd, 0666);
	mask = umask(0);
	r = bind(s->fd, (const struct sockaddr *)addr, sizeof(*addr));
	err = errno;
	umask(mask);
	if (r)
		return -err;
	return lstat(s->path, &s->made) ? -errno : 0;
}

int syslog_socket_open(struct syslog_socket *ret, const char *path)
{
	struct sockaddr_un addr;
	int probe, r = address(&addr, path);

	*ret = (struct syslog_socket){ .path = path, .fd = -1 };
	if (r)
		return r;
	probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (probe < 0)
		return -errno;
	r = remove_stale(probe, &addr);
	close(probe);
	if (r)
		return r;
	ret->buffer = malloc(MESSAGE_BYTES + 1);
	ret->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (!ret->buffer)
		r = -ENOMEM;
	else
		r = ret->fd < 0 ? -errno : bind_at(ret, &addr);
	if (!r && gethostname(ret->host, sizeof(ret->host) - 1))
		ret->host[0] = 0;
	if (r)
		syslog_socket_close(ret);
	return r;
}

void syslog_socket_close(struct syslog_socket *s)
{
	struct stat st;

	if (s->made.st_ino && !lstat(s->path, &st) && st.st_ino == s->made.st_ino &&
	    st.st_dev == s->made.st_dev)
		unlink(s->path);
	if (s->fd >= 0)
		close(s->fd);
	free(s->buffer);
	s->fd = -1;
	s->buffer = NULL;
}

/* ---- a record of a message ---- */

struct record {
	struct shma_kv kv[KV_OWN + SYSLOG_PARAMS_MAX];
	size_t count;
	char keys[SYSLOG_PARAMS_MAX][KEY_BYTES];
};

static void add(struct record *r, struct shma_kv kv)
{
	r->kv[r->count++] = kv;
}

static void add_slice(struct record *r, const char *key, const struct syslog_slice *s)
{
	struct shma_kv kv = SHMA_KV_BYTES(key, s->at, s->length);

	kv.type = SHMA_TYPE_STR;
	if (s->length)
		add(r, kv);
}

static void add_number(struct record *r, const char *key, int64_t number)
{
	add(r, SHMA_KV_INT(key, number));
}

/* A number, as nearly all are; else as it stands. */
static void add_process(struct record *r, const struct syslog_slice *s)
{
	int64_t number = 0;

	for (size_t i = 0; i < s->length; i++) {
		if (s->at[i] < '0' || s->at[i] > '9' || i > 9) {
			add_slice(r, "pid", s);
			return;
		}
		number = 10 * number + (s->at[i] - '0');
	}
	add_number(r, "pid", number);
}

/* "id.name", or "id" of an element without parameters. */
static void add_param(struct record *r, size_t i, const struct syslog_param *p)
{
	char *key = r->keys[i];
	struct shma_kv kv = SHMA_KV_BYTES(key, p->value.at, p->value.length);
	char *end = mempcpy(key, p->id.at, p->id.length);

	if (p->name.length) {
		*end++ = '.';
		end = mempcpy(end, p->name.at, p->name.length);
	}
	*end = 0;
	kv.type = SHMA_TYPE_STR;
	add(r, kv);
}

static void make_record(struct record *r, const struct syslog_message *m, const struct ucred *sender,
			bool truncated)
{
	r->count = 0;
	add_slice(r, "ident", &m->ident);
	if (m->process.length)
		add_process(r, &m->process);
	else if (sender)
		add_number(r, "pid", sender->pid);
	add(r, SHMA_KV_STR("facility", syslog_facility_name(m->facility)));
	add_slice(r, "host", &m->host);
	add_slice(r, "msgid", &m->id);
	add_slice(r, "timestamp", &m->time);
	if (sender) {
		add_number(r, "sender_pid", sender->pid);
		add_number(r, "sender_uid", (int64_t)sender->uid);
	}
	if (truncated)
		add(r, SHMA_KV_BOOL("truncated", true));
	add_slice(r, "structured_data", &m->data);
	for (size_t i = 0; i < m->param_count; i++)
		add_param(r, i, &m->params[i]);
}

/* Text ends where its string does: zeros within, which no syslog(3) sends, become spaces. */
static const char *text_of(struct syslog_slice *text)
{
	for (size_t i = 0; i < text->length; i++)
		if (!text->at[i])
			text->at[i] = ' ';
	text->at[text->length] = 0;
	return text->at;
}

static void write_message(struct syslog_socket *s, size_t length, const struct ucred *sender,
			  bool truncated, shma *arena, struct syslog_counts *counts)
{
	struct syslog_message m;
	struct record record;
	int r;

	syslog_parse(s->buffer, length, s->host, &m);
	make_record(&record, &m, sender, truncated);
	counts->messages++;
	r = shma_log_kv(arena, m.level, text_of(&m.text), record.kv, record.count);
	if (r == -EAGAIN)
		counts->refused++;
	else if (r < 0)
		counts->error = r;
}

/* ---- receiving ---- */

/* What the kernel says of the sender, in *ret; NULL: nothing. A sender in another pid namespace has number 0. */
static const struct ucred *sender_of(struct msghdr *msg, struct ucred *ret)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS ||
		    c->cmsg_len < CMSG_LEN(sizeof(*ret)))
			continue;
		memcpy(ret, CMSG_DATA(c), sizeof(*ret));
		return ret->pid > 0 ? ret : NULL;
	}
	return NULL;
}

/* One message, if one waits: 1, 0, -errno. */
static int receive(struct syslog_socket *s, shma *arena, struct syslog_counts *counts)
{
	/* No room for descriptors: who sends some has them closed by the kernel. */
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = s->buffer, .iov_len = MESSAGE_BYTES };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control) };
	struct ucred sender;
	ssize_t n = recvmsg(s->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	write_message(s, (size_t)n, sender_of(&msg, &sender), msg.msg_flags & MSG_TRUNC, arena, counts);
	return 1;
}

static volatile sig_atomic_t stopping;

static void stop(int signal)
{
	(void)signal;
	stopping = 1;
}

/* Signals come while it waits, and at no other time. */
static void catch_signals(sigset_t *waiting)
{
	struct sigaction action = { .sa_handler = stop };
	sigset_t ours;

	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGHUP);
	sigprocmask(SIG_BLOCK, &ours, waiting);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigdelset(waiting, SIGINT);
	sigdelset(waiting, SIGTERM);
	sigdelset(waiting, SIGHUP);
}

void syslog_socket_serve(struct syslog_socket *s, shma *arena, struct syslog_counts *counts)
{
	struct pollfd poll_fd = { .fd = s->fd, .events = POLLIN };
	struct timespec now = { 0, 0 };
	sigset_t waiting;
	int r = 0;

	*counts = (struct syslog_counts){ 0 };
	stopping = 0;
	catch_signals(&waiting);
	while (!stopping && r >= 0 && !counts->error) {
		r = receive(s, arena, counts);
		/* Where messages never end, signals are to be heard all the same. */
		if (r >= 0 && ppoll(&poll_fd, 1, r ? &now : NULL, &waiting) < 0 && errno != EINTR)
			r = -errno;
	}
	for (int i = 0; i < LAST_MESSAGES && r >= 0 && !counts->error; i++) {
		r = receive(s, arena, counts);
		if (!r)
			break;
	}
	if (r < 0)
		counts->error = r;
}
