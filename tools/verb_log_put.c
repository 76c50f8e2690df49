/* SPDX-License-Identifier: Apache-2.0 */
/* verb_log_put.c - standard input into an arena's log, a record a line; or what comes over a socket of syslog's. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"
#include "reach.h"
#include "syslog_socket.h"

#define LEVEL_DEFAULT 6 /* info */

struct put {
	uint64_t line;
	uint64_t refused; /* by a full ring */
	int error;	  /* the last one of another kind */
};

static void put_line(shma *arena, int level, const char *data, size_t length, struct put *p)
{
	int r;

	p->line++;
	r = shma_log_write(arena, level, data, length);
	if (r == -EAGAIN) {
		p->refused++;
	} else if (r < 0) {
		tool_error("line %" PRIu64 ": %s", p->line, shma_strerror(r));
		p->error = r;
	}
}

/* Until the end of the input, or an error that every later line would meet too. */
static void put_all(shma *arena, int level, struct put *p)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	while ((!p->error || p->error == -EMSGSIZE) && (n = getline(&line, &room, stdin)) >= 0) {
		if (n > 0 && line[n - 1] == '\n')
			n--;
		put_line(arena, level, line, (size_t)n, p);
	}
	free(line);
}

static int put_input(shma *arena, int level)
{
	struct put p = { .line = 0 };

	put_all(arena, level, &p);
	if (ferror(stdin)) {
		tool_errno("standard input", errno);
		return TOOL_FAILED;
	}
	if (p.refused)
		tool_error("the log is full: %" PRIu64 " of %" PRIu64 " records were refused", p.refused, p.line);
	return p.refused || p.error ? TOOL_FAILED : TOOL_OK;
}

static int put_socket(shma *arena, const char *path)
{
	struct syslog_socket s;
	struct syslog_counts counts;
	int r = syslog_socket_open(&s, path);

	if (r) {
		if (r == -EADDRINUSE)
			tool_error("%s: another process listens there", path);
		else if (r == -EEXIST)
			tool_error("%s: something stands there that is no socket", path);
		else
			tool_errno(path, r);
		return TOOL_FAILED;
	}
	syslog_socket_serve(&s, arena, &counts);
	syslog_socket_close(&s);
	if (counts.refused)
		tool_error("the log was full: %" PRIu64 " of %" PRIu64 " messages were refused", counts.refused,
			   counts.messages);
	if (counts.error)
		tool_errno(path, counts.error);
	return counts.refused || counts.error ? TOOL_FAILED : TOOL_OK;
}

int verb_log_put(const struct call *call)
{
	const char *level_text = call_option(call, "level");
	const char *path = call_option(call, "syslog-socket");
	int level = LEVEL_DEFAULT, code, r;
	shma *arena;

	r = level_text ? parse_level(level_text, &level) : 0;
	if (r)
		return tool_bad_value(call, "level", r);
	if (level_text && path) {
		tool_error("log put: --level is for lines; messages of --syslog-socket have their own");
		return TOOL_USAGE;
	}
	code = reach_attach(call, call->argv[0], 0, &arena);
	if (code)
		return code;
	if (path)
		code = put_socket(arena, *path ? path : SYSLOG_SOCKET_DEFAULT);
	else
		code = put_input(arena, level);
	shma_close(arena);
	return code;
}
