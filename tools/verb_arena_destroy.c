/* SPDX-License-Identifier: Apache-2.0 */
/* verb_arena_destroy.c - takes an arena's name away. */
#include <errno.h>
#include <unistd.h>

#include "arena_file.h"
#include "reach.h"

static int destroy_embedded(const char *what)
{
	char path[512];
	int r = 0;

	if (!reach_is_path(what))
		r = arena_path(path, sizeof(path), what);
	if (!r)
		r = arena_unlink(reach_is_path(what) ? what : path);
	if (!r)
		return TOOL_OK;
	if (r == -ENOENT)
		tool_error("%s: no such arena", what);
	else if (r == -EUCLEAN)
		tool_error("%s: not an arena: left alone", what);
	else
		tool_errno(what, r);
	return TOOL_FAILED;
}

static int destroy_by_daemon(const struct call *call, const char *name)
{
	struct request request;
	struct reply reply;
	int fd, code;

	if (protocol_request(&request, REQUEST_ARENA_DESTROY, name)) {
		tool_error("%s: not a name of an arena", name);
		return TOOL_FAILED;
	}
	code = reach_daemon(call, &fd);
	if (code)
		return code;
	code = reach_request(fd, &request, &reply, NULL, name);
	close(fd);
	return code;
}

int verb_arena_destroy(const struct call *call)
{
	return call->embedded ? destroy_embedded(call->argv[0])
			      : destroy_by_daemon(call, call->argv[0]);
}
