/* SPDX-License-Identifier: Apache-2.0 */
/* logserver.c - command line, and what all roles share. The story is in logserver.h. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "logserver.h"

struct settings logserver_settings = { .role = "supervisor", .arena = "logserver" };

void logserver_say(const char *what, int err)
{
	if (err)
		fprintf(stderr, "logserver %s: %s: %s\n", logserver_settings.role, what,
			shma_strerror(err));
	else
		fprintf(stderr, "logserver %s: %s\n", logserver_settings.role, what);
}

void logserver_nap(long microseconds)
{
	struct timespec t = { .tv_nsec = microseconds * 1000 };

	nanosleep(&t, NULL);
}

int logserver_open(shma **a, unsigned flags)
{
	struct shma_options opt = {
		.struct_size = sizeof(opt),
		.capacity = UINT64_C(256) << 20,
		.log_policy = SHMA_LOG_OVERWRITE,
		.socket = logserver_settings.socket,
	};
	int r = shma_open(a, logserver_settings.arena,
			  flags | (logserver_settings.embedded ? SHMA_EMBEDDED : 0), &opt);

	if (r < 0)
		logserver_say(logserver_settings.arena, r);
	return r;
}

struct board *logserver_board(shma *a)
{
	shma_handle h = shma_lookup(a, BOARD_NAME);
	struct board *b = h ? shma_ptr(a, h) : NULL;

	if (!b)
		logserver_say("no board", errno);
	else if (shma_size(a, h) < sizeof(*b) || b->magic != BOARD_MAGIC)
		b = NULL;
	return b;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: logserver [--arena NAME] [--embedded | --socket PATH] [--lines N] FILE…\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "arena", required_argument, NULL, 'a' },
		{ "embedded", no_argument, NULL, 'e' },
		{ "socket", required_argument, NULL, 's' },
		{ "lines", required_argument, NULL, 'n' },
		{ "role", required_argument, NULL, 'r' },
		{ "lane", required_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "a:es:n:", options, NULL)) != -1) {
		switch (c) {
		case 'a': logserver_settings.arena = optarg; break;
		case 'e': logserver_settings.embedded = true; break;
		case 's': logserver_settings.socket = optarg; break;
		case 'n': logserver_settings.lines = strtoull(optarg, NULL, 10); break;
		case 'r': logserver_settings.role = optarg; break;
		case 'l': logserver_settings.lane = atoi(optarg); break;
		default: return usage();
		}
	}
	logserver_settings.files = argv + optind;
	logserver_settings.file_count = argc - optind;
	/* Line numbers are 32 bits of a cell. */
	if (logserver_settings.file_count == 0 || logserver_settings.lines > UINT32_MAX ||
	    logserver_settings.lane < 0 || logserver_settings.lane >= LANES)
		return usage();
	/* What client lists show. */
	prctl(PR_SET_NAME, logserver_settings.role);
	if (!strcmp(logserver_settings.role, "worker"))
		return logserver_worker();
	if (!strcmp(logserver_settings.role, "ingest"))
		return logserver_ingest();
	return logserver_supervisor();
}
