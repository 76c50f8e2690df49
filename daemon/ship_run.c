/* SPDX-License-Identifier: Apache-2.0 */
#include "ship_run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "clock.h"
#include "ship_pump.h"

#define LINGER_SECONDS 30 /* an arena that is unmade has so long for its last records */

static volatile sig_atomic_t asked; /* to end */
static time_t ending_since;

static void on_signal(int number)
{
	(void)number;
	asked = 1;
}

static time_t now_seconds(void)
{
	return (time_t)(clock_now() / 1000000000u);
}

static int ending(void)
{
	if (!asked)
		return 0;
	if (!ending_since)
		ending_since = now_seconds();
	return now_seconds() - ending_since < LINGER_SECONDS ? 1 : 2;
}

static void say(enum ship_say level, const char *text)
{
	printf("%c%s\n", level == SHIP_WARNING ? 'w' : 'n', text);
	fflush(stdout);
}

static void complain(const char *what, int err)
{
	char text[256];

	snprintf(text, sizeof text, "its log is not shipped: %.160s: %s", what, strerror(-err));
	say(SHIP_WARNING, text);
}

/* The daemon's death is this one's: its successor begins another. */
static int tie_to(const char *parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return getppid() == (pid_t)strtol(parent, NULL, 10) ? 0 : -EOWNERDEAD;
}

static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGTERM, &action, NULL);
	signal(SIGINT, SIG_IGN); /* from the terminal: the daemon stops */
	signal(SIGPIPE, SIG_IGN);
}

/* Only one ships an arena, also if another daemon's child is still ending: 1, or 0: asked to end first. The drain makes
 * the directory at its first segment. */
static int take_dir(const char *dir)
{
	char path[4096];
	bool told = false;
	int fd;

	snprintf(path, sizeof path, "%s/ship.lock", dir);
	while (!asked) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 1;
		if (!told && errno != ENOENT && errno != EWOULDBLOCK) {
			complain(path, -errno);
			told = true;
		}
		if (fd >= 0)
			close(fd);
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	}
	return 0;
}

static unsigned number_of(const char *variable)
{
	const char *text = getenv(variable);

	return text ? (unsigned)strtoul(text, NULL, 10) : 1;
}

static int open_sink(struct ship_sink **ret, const char *arena)
{
	const char *urls = getenv(SHIP_URLS);
	unsigned replicas = number_of(SHIP_REPLICAS), batch = number_of(SHIP_BATCH);

	*ret = NULL;
	if (!urls)
		return -EINVAL;
#ifdef HAVE_NATS
	return ship_nats_open(ret, arena, urls, replicas, batch);
#else
	(void)arena;
	(void)replicas;
	(void)batch;
	return -ENOSYS;
#endif
}

static void close_sink(struct ship_sink *sink)
{
#ifdef HAVE_NATS
	ship_nats_close(sink);
#else
	(void)sink;
#endif
}

int ship_run(int argc, char **argv)
{
	struct ship_pump_config config = { .say = say, .ending = ending };
	int err;

	if (argc != 5)
		return 2;
	prctl(PR_SET_NAME, "shmalloc-ship"); /* it was begun by a path that says nothing */
	catch_signals();
	err = tie_to(argv[4]);
	if (!err)
		err = open_sink(&config.sink, argv[2]);
	if (err) {
		complain("start", err);
		return EXIT_FAILURE;
	}
	config.dir = argv[3];
	if (take_dir(config.dir))
		err = ship_pump(&config);
	if (err)
		complain("end", err);
	close_sink(config.sink);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}
