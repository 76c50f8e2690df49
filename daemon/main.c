/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shmallocd - grants access to arenas, notices deaths at once, returns what the dead held. It is never on
 * the data path: while it is away, stopped or killed, everybody goes on.
 *
 * One thread, one loop. The order of the start: locks on the state directory and the socket, then the
 * arenas of the book, then the socket itself, so that whoever connects finds everything as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bells.h"
#include "clock.h"
#include "config.h"
#include "drainer.h"
#include "guard.h"
#include "listener.h"
#include "lock.h"
#include "loop.h"
#include "msg.h"
#include "notify.h"
#include "purger.h"
#include "reaper.h"
#include "registry.h"
#include "session.h"
#include "ship.h"
#include "ship_run.h"

#define FDS_RESERVED 64 /* for what is neither a connection nor a client's process */

static struct daemon {
	struct config_arguments arguments;
	struct config config;
	struct lock state_lock, socket_lock;
	struct loop *loop;
	struct registry registry;
	struct service service;
	int listen_fd;
	struct loop_op signals;
	int signal_fd;
} d;

static const char usage[] =
	"usage: shmallocd [--socket PATH] [--state-dir DIR] [--log-dir DIR] [--config FILE]\n"
	"                 [--io uring|epoll|auto] [--daemonize]\n";

/* ---- limits ---- */

static uint32_t raise_descriptor_limit(uint32_t wanted_connections)
{
	struct rlimit limit;
	rlim_t room;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return wanted_connections;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	getrlimit(RLIMIT_NOFILE, &limit);
	/* Half for connections, half for their processes. */
	room = limit.rlim_cur > 2 * FDS_RESERVED ? (limit.rlim_cur - FDS_RESERVED) / 2
						 : FDS_RESERVED / 2;
	if (room >= wanted_connections)
		return wanted_connections;
	msg_notice("at most %lu connections: the limit on open files is %lu", (unsigned long)room,
		   (unsigned long)limit.rlim_cur);
	return (uint32_t)room;
}

/* ---- signals ---- */

static void reload(void)
{
	struct config *fresh = malloc(sizeof *fresh);
	char error[CONFIG_ERROR_BYTES];

	if (!fresh)
		return;
	if (config_load(fresh, &d.arguments, error)) {
		msg_error("configuration not reloaded: %s", error);
		free(fresh);
		return;
	}
	if (strcmp(fresh->socket, d.config.socket) ||
	    strcmp(fresh->state_dir, d.config.state_dir) ||
	    strcmp(fresh->log_dir, d.config.log_dir) || fresh->io != d.config.io ||
	    strcmp(fresh->ship, d.config.ship) || fresh->ship_replicas != d.config.ship_replicas ||
	    fresh->ship_batch != d.config.ship_batch)
		msg_warning(
			"socket, state-dir, log-dir, io and ship stay as they are until the next start");
	d.config.log_level = fresh->log_level;
	d.config.socket_mode = fresh->socket_mode;
	d.config.max_connections = fresh->max_connections;
	d.config.max_arenas = fresh->max_arenas;
	d.config.decay = fresh->decay;
	d.config.log_segment_size = fresh->log_segment_size;
	d.config.log_segment_age = fresh->log_segment_age;
	d.config.log_retention = fresh->log_retention;
	d.config.log_fsync = fresh->log_fsync;
	d.config.log_drain_ms = fresh->log_drain_ms;
	d.config.log_compress = fresh->log_compress;
	d.config.arena = fresh->arena;
	free(fresh);
	msg_level(d.config.log_level);
	purger_decay(d.config.decay);
	listener_mode(d.config.socket, d.config.socket_mode);
	d.service.max_connections = raise_descriptor_limit(d.config.max_connections);
	msg_notice("configuration reloaded");
}

static int own_messages(void)
{
	char path[PATH_MAX + 32];

	msg_level(d.config.log_level);
	if (!d.arguments.daemonize)
		return 0;
	if (!d.config.log_dir[0])
		return msg_to_file(NULL);
	snprintf(path, sizeof path, "%s/shmallocd.log", d.config.log_dir);
	return msg_to_file(path);
}

static void watch_signals(void)
{
	loop_poll(d.loop, &d.signals, d.signal_fd, POLLIN);
}

static void take_signals(void)
{
	struct signalfd_siginfo info;

	while (read(d.signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGHUP) {
			notify_send("RELOADING=1");
			own_messages(); /* its file may have been rotated */
			reload();
			notify_send("READY=1");
		} else {
			msg_notice("%s: stopping; arenas stay", strsignal((int)info.ssi_signo));
			loop_stop(d.loop);
		}
	}
}

static void signals_ready(struct loop_op *op, int result)
{
	(void)op;
	(void)result;
	take_signals();
	watch_signals();
}

static int open_signals(void)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* an arena beyond the limit is an error, not an end */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	d.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return d.signal_fd < 0 ? -errno : 0;
}

/* ---- start ---- */

static int complain(int err, const char *what, const char *subject)
{
	msg_error("%s %s: %s", what, subject, strerror(-err));
	return err;
}

static int refuse_second(const char *what, const char *subject, pid_t holder)
{
	if (holder)
		msg_error("another shmallocd, process %d, uses the %s %s", (int)holder, what,
			  subject);
	else
		msg_error("another shmallocd uses the %s %s", what, subject);
	return -EBUSY;
}

static int take_state_dir(void)
{
	char path[PATH_MAX + 8];
	pid_t holder;
	int err = listener_make_directory(d.config.state_dir, 0700);

	if (err)
		return complain(err, "state directory", d.config.state_dir);
	snprintf(path, sizeof path, "%s/lock", d.config.state_dir);
	err = lock_take(&d.state_lock, path, &holder);
	if (err == -EBUSY)
		return refuse_second("state directory", d.config.state_dir, holder);
	return err ? complain(err, "lock", path) : 0;
}

static int take_socket(void)
{
	char path[sizeof d.config.socket + 8];
	pid_t holder;
	int err = listener_make_parent(d.config.socket);

	if (err)
		return complain(err, "directory of the socket", d.config.socket);
	snprintf(path, sizeof path, "%s.lock", d.config.socket);
	err = lock_take(&d.socket_lock, path, &holder);
	if (err == -EBUSY)
		return refuse_second("socket", d.config.socket, holder);
	return err ? complain(err, "lock", path) : 0;
}

static int take_log_dir(void)
{
	int err = 0;

	if (!d.config.log_dir[0])
		return 0;
	err = listener_make_directory(d.config.log_dir, 0750);
	if (!err && access(d.config.log_dir, W_OK | X_OK) < 0)
		err = -errno;
	return err ? complain(err, "log directory", d.config.log_dir) : 0;
}

static int open_loop(void)
{
	int why, err = loop_open(&d.loop, d.config.io, &why);

	if (err)
		return complain(err, "event loop",
				d.config.io == LOOP_URING ? "on io_uring" : "on epoll");
	if (why)
		msg_notice("io_uring is not to be had here (%s): the loop runs on epoll",
			   strerror(-why));
	return 0;
}

static int open_socket(void)
{
	int fd = listener_open(d.config.socket, d.config.socket_mode);

	if (fd == -ENOTSOCK)
		msg_error("socket %s: a file is there that is no socket", d.config.socket);
	else if (fd == -EADDRINUSE)
		msg_error("socket %s: another program listens there", d.config.socket);
	else if (fd < 0)
		complain(fd, "socket", d.config.socket);
	d.listen_fd = fd;
	return fd < 0 ? fd : 0;
}

static int open_service(void)
{
	int err = registry_open(&d.registry, &d.config);

	if (err)
		return complain(err, "state directory", d.config.state_dir);
	notify_drop_rest();
	err = open_socket();
	if (err)
		return err;
	d.service = (struct service){
		.loop = d.loop,
		.registry = &d.registry,
		.config = &d.config,
		.max_connections = raise_descriptor_limit(d.config.max_connections),
		.started_ns = clock_real(),
	};
	session_listen(&d.service, d.listen_fd);
	d.signals.done = signals_ready;
	watch_signals();
	return 0;
}

static int start(void)
{
	int err = guard_install();

	if (!err)
		err = open_signals();
	if (err)
		return complain(err, "signals", "");
	notify_restore();
	err = take_log_dir();
	if (!err)
		err = take_state_dir();
	if (!err)
		err = take_socket();
	if (!err)
		err = open_loop();
	if (err)
		return err;
	reaper_start(d.loop, &d.registry);
	purger_start(d.loop, &d.registry);
	purger_decay(d.config.decay);
	drainer_start(d.loop, &d.registry, &d.config);
	ship_start(d.loop, &d.config);
	return open_service();
}

static void stop(void)
{
	notify_send("STOPPING=1");
	unlink(d.config.socket);
	close(d.listen_fd);
	registry_close(&d.registry);
	bells_close();
	loop_close(d.loop);
	lock_drop(&d.socket_lock);
	lock_drop(&d.state_lock);
}

/* ---- daemonize ---- */

/* The parent stays until the child is ready, and ends with its verdict. */
static int wait_for_child(int fd)
{
	char verdict = 1;
	ssize_t n;

	do
		n = read(fd, &verdict, 1);
	while (n < 0 && errno == EINTR);
	return n == 1 && verdict == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* The child's end of a pipe to a parent that waits. Before any lock or thread: locks are a process's. */
static int detach(void)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		close(ends[1]);
		_exit(wait_for_child(ends[0]));
	}
	close(ends[0]);
	setsid();
	return ends[1];
}

static void leave_terminal(int verdict_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	ssize_t n;

	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	n = write(verdict_fd, "", 1);
	(void)n;
	close(verdict_fd);
}

static void say_ready(void)
{
	printf("ready socket=%s\n", d.config.socket);
	fflush(stdout);
	notify_send("READY=1");
	msg_info("ready on %s, %s, %u arenas", d.config.socket, loop_name(d.loop),
		 d.registry.count);
}

static int serve(int verdict_fd)
{
	int err = start();

	if (err)
		return EXIT_FAILURE;
	say_ready();
	if (verdict_fd >= 0) {
		leave_terminal(verdict_fd);
		own_messages();
	}
	err = loop_run(d.loop);
	if (err)
		complain(err, "event loop", loop_name(d.loop));
	stop();
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	char error[CONFIG_ERROR_BYTES];
	int verdict_fd = -1;

	if (argc > 1 && strcmp(argv[1], SHIP_OPTION) == 0)
		return ship_run(argc, argv);
	msg_to_stderr();
	if (config_arguments(&d.arguments, argc, argv, error)) {
		msg_error("%s", error);
		fputs(usage, stderr);
		return 2;
	}
	if (d.arguments.help || d.arguments.version) {
		fputs(d.arguments.help ? usage : "shmallocd " PACKAGE_VERSION "\n", stdout);
		return EXIT_SUCCESS;
	}
	if (config_load(&d.config, &d.arguments, error)) {
		msg_error("%s", error);
		return EXIT_FAILURE;
	}
	msg_level(d.config.log_level);
	umask(022);
	if (d.arguments.daemonize) {
		verdict_fd = detach();
		if (verdict_fd < 0) {
			complain(verdict_fd, "going to the", "background");
			return EXIT_FAILURE;
		}
	}
	/* All paths are absolute by now; the start directory may be unmounted. */
	if (chdir("/") < 0)
		msg_warning("chdir: %s", strerror(errno));
	return serve(verdict_fd);
}
