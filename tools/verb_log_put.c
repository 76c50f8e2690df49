/* SPDX-License-Identifier: Apache-2.0 */
/* verb_log_put.c - standard input into an arena's log, a record a line. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"
#include "reach.h"

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

int verb_log_put(const struct call *call)
{
	const char *level_text = call_option(call, "level");
	int level = LEVEL_DEFAULT, code, r;
	struct put p = { .line = 0 };
	shma *arena;

	r = level_text ? parse_level(level_text, &level) : 0;
	if (r)
		return tool_bad_value(call, "level", r);
	code = reach_attach(call, call->argv[0], 0, &arena);
	if (code)
		return code;
	put_all(arena, level, &p);
	shma_close(arena);
	if (ferror(stdin)) {
		tool_errno("standard input", errno);
		return TOOL_FAILED;
	}
	if (p.refused)
		tool_error("the log is full: %" PRIu64 " of %" PRIu64 " records were refused",
			   p.refused, p.line);
	return p.refused || p.error ? TOOL_FAILED : TOOL_OK;
}
