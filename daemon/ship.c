/* SPDX-License-Identifier: Apache-2.0 */
#include "ship.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "msg.h"
#include "ship_run.h"

#define MS	     UINT64_C(1000000)
#define RETRY_MIN_NS (100 * MS)
#define RETRY_MAX_NS (10000 * MS)
#define STEADY_NS    (30000 * MS) /* a child that lived so long is begun again at once */
#define LINE_BYTES   512

/* Belongs to the loop as long as something of it is pending, forgotten or not. */
struct shipping {
	struct loop_op end, said, timer;
	struct shipping *next; /* of all */
	char name[ARENA_NAME_BYTES];
	bool forgotten;
	pid_t pid; /* 0: none */
	int pidfd, said_fd;
	uint64_t begun_at, retry_ns;
	char line[LINE_BYTES];
	size_t length;
	char trouble[LINE_BYTES]; /* the last warning; "": none since it ships */
	uint64_t trouble_ns;	  /* of the first since then; CLOCK_REALTIME */
};

static struct {
	struct loop *loop;
	const struct config *config; /* NULL: nothing is shipped */
	struct shipping *first;
} ship;

static void begin(struct shipping *p);

static void free_if_done(struct shipping *p)
{
	struct shipping **at = &ship.first;

	if (!p->forgotten || p->pid || p->end.pending || p->said.pending || p->timer.pending)
		return;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	free(p);
}

/* ---- what a child says ---- */

static void keep_trouble(struct shipping *p, const char *text)
{
	if (!p->trouble[0])
		p->trouble_ns = clock_real();
	snprintf(p->trouble, sizeof p->trouble, "%s", text);
}

static void take_line(struct shipping *p)
{
	p->line[p->length] = 0;
	p->length = 0;
	if (p->line[0] == 'w')
		keep_trouble(p, p->line + 1);
	else
		p->trouble[0] = 0;
	if (p->line[0])
		msg_print(p->line[0] == 'w' ? LOG_WARNING : LOG_NOTICE, "arena %s: %s", p->name,
			  p->line + 1);
}

/* False: it has said its last. */
static bool read_said(struct shipping *p)
{
	char bytes[LINE_BYTES];
	ssize_t n = read(p->said_fd, bytes, sizeof bytes);

	for (ssize_t i = 0; i < n; i++) {
		if (bytes[i] == '\n')
			take_line(p);
		else if (p->length < sizeof p->line - 1)
			p->line[p->length++] = bytes[i];
	}
	return n > 0 || (n < 0 && errno == EAGAIN);
}

static void said_done(struct loop_op *op, int result)
{
	struct shipping *p = (struct shipping *)((char *)op - offsetof(struct shipping, said));

	if (p->said_fd >= 0 && result >= 0 && read_said(p)) {
		loop_poll(ship.loop, &p->said, p->said_fd, POLLIN);
		return;
	}
	if (p->said_fd >= 0)
		close(p->said_fd);
	p->said_fd = -1;
	free_if_done(p);
}

/* ---- its end ---- */

static void tell_end(const struct shipping *p, int status)
{
	if (WIFSIGNALED(status))
		msg_warning("arena %s: the shipper of its log was ended by signal %d (%s); it is begun again",
			    p->name, WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		msg_warning("arena %s: the shipper of its log has ended with %d; it is begun again",
			    p->name, WEXITSTATUS(status));
}

static void begin_later(struct shipping *p)
{
	if (clock_now() - p->begun_at > STEADY_NS)
		p->retry_ns = 0;
	p->retry_ns = !p->retry_ns ? RETRY_MIN_NS :
		      p->retry_ns < RETRY_MAX_NS / 2 ? 2 * p->retry_ns : RETRY_MAX_NS;
	loop_timer(ship.loop, &p->timer, p->retry_ns);
}

static void end_done(struct loop_op *op, int result)
{
	struct shipping *p = (struct shipping *)((char *)op - offsetof(struct shipping, end));
	int status = 0;

	(void)result;
	if (waitpid(p->pid, &status, WNOHANG) == 0) {
		loop_poll(ship.loop, &p->end, p->pidfd, POLLIN);
		return;
	}
	close(p->pidfd);
	p->pidfd = -1;
	p->pid = 0;
	if (!p->forgotten) {
		tell_end(p, status);
		keep_trouble(p, "its shipper has ended, and is begun again");
		begin_later(p);
	}
	free_if_done(p);
}

/* ---- its beginning ---- */

/* A signal mask and dispositions as a program expects them. */
static int make_attributes(posix_spawnattr_t *attributes)
{
	sigset_t none, all;
	int err = posix_spawnattr_init(attributes);

	if (err)
		return -err;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(attributes, &none);
	posix_spawnattr_setsigdefault(attributes, &all);
	posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	return 0;
}

/* Where to ship to may have a password in it: arguments can be seen by all, the environment cannot. */
static int set_environment(void)
{
	char replicas[16], batch[16];

	snprintf(replicas, sizeof replicas, "%u", ship.config->ship_replicas);
	snprintf(batch, sizeof batch, "%u", ship.config->ship_batch);
	return setenv(SHIP_URLS, ship.config->ship, 1) || setenv(SHIP_REPLICAS, replicas, 1) ||
			       setenv(SHIP_BATCH, batch, 1) ? -errno : 0;
}

static int spawn(struct shipping *p, int said_fd)
{
	char dir[PATH_MAX + ARENA_NAME_BYTES], parent[16];
	char *argv[] = { "shmallocd", SHIP_OPTION, p->name, dir, parent, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	int err = make_attributes(&attributes);

	if (err)
		return err;
	snprintf(dir, sizeof dir, "%s/%s", ship.config->log_dir, p->name);
	snprintf(parent, sizeof parent, "%d", (int)getpid());
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, said_fd, STDOUT_FILENO);
	err = set_environment();
	if (!err)
		err = -posix_spawn(&p->pid, "/proc/self/exe", &files, &attributes, argv, environ);
	if (err)
		p->pid = 0;
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	return err;
}

static int begin_child(struct shipping *p)
{
	int ends[2], err;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	err = spawn(p, ends[1]);
	close(ends[1]);
	p->pidfd = err ? -1 : (int)syscall(SYS_pidfd_open, p->pid, 0);
	if (!err && p->pidfd < 0) {
		err = -errno;
		kill(p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
		p->pid = 0;
	}
	if (err) {
		close(ends[0]);
		return err;
	}
	p->said_fd = ends[0];
	return 0;
}

static void begin(struct shipping *p)
{
	int err;

	/* What the one before said may still be on its way. */
	err = p->said.pending ? -EBUSY : begin_child(p);
	p->begun_at = clock_now();
	if (err) {
		if (err != -EBUSY)
			msg_error("arena %s: its log is not shipped: no child: %s", p->name,
				  strerror(-err));
		begin_later(p);
		return;
	}
	loop_poll(ship.loop, &p->end, p->pidfd, POLLIN);
	loop_poll(ship.loop, &p->said, p->said_fd, POLLIN);
}

static void timer_done(struct loop_op *op, int result)
{
	struct shipping *p = (struct shipping *)((char *)op - offsetof(struct shipping, timer));

	(void)result;
	if (p->forgotten)
		free_if_done(p);
	else
		begin(p);
}

/* ---- arenas ---- */

void ship_adopt(struct served *s)
{
	struct shipping *p;

	if (!ship.config)
		return;
	p = s->shipping = calloc(1, sizeof *p);
	if (!p) {
		msg_error("arena %s: its log is not shipped: no memory", s->record.name);
		return;
	}
	memcpy(p->name, s->record.name, sizeof p->name);
	p->end.done = end_done;
	p->said.done = said_done;
	p->timer.done = timer_done;
	p->pidfd = p->said_fd = -1;
	p->next = ship.first;
	ship.first = p;
	begin(p);
}

void ship_forget(struct served *s)
{
	struct shipping *p = s->shipping;

	if (!p)
		return;
	s->shipping = NULL;
	p->forgotten = true;
	if (p->pid)
		kill(p->pid, SIGTERM);
	loop_cancel(ship.loop, &p->timer);
	free_if_done(p);
}

void ship_start(struct loop *loop, const struct config *config)
{
	ship.loop = loop;
	if (!config->ship[0])
		return;
#ifndef HAVE_NATS
	msg_error("ship = …: this shmallocd was built without NATS: no log is shipped");
	return;
#endif
	if (config->log_dir[0])
		ship.config = config;
	else
		msg_error("ship = …: there is no log directory to ship from: no log is shipped");
}

const char *ship_trouble(const struct served *s, uint64_t *since_ns)
{
	const struct shipping *p = s->shipping;

	if (!p || !p->trouble[0])
		return NULL;
	*since_ns = p->trouble_ns;
	return p->trouble;
}
