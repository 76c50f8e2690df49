/* SPDX-License-Identifier: Apache-2.0 */
/* verb_arena_restore.c - a snapshot into a new arena: posix by a name, a file by a path. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "arena_file.h"
#include "parse.h"
#include "reach.h"
#include "snapshot.h"

static int target(const char *what, char *path, size_t size, struct snapshot_target *to)
{
	to->path = what;
	to->name = what;
	to->backing = BACKING_POSIX;
	if (reach_is_path(what)) {
		to->name = strrchr(what, '/') + 1;
		to->backing = BACKING_FILE;
		return 0;
	}
	to->path = path;
	return arena_path(path, size, what);
}

static int print(const struct call *call, const char *what, const struct snapshot_seen *seen, uint64_t ns)
{
	char from[ARENA_NAME_BYTES];
	struct emit e;

	reach_copy_text(from, sizeof(from), seen->header.name, sizeof(seen->header.name));
	emit_begin(&e, stdout, call->json);
	emit_string(&e, "arena", what);
	emit_string(&e, "from", from);
	emit_time(&e, "taken", seen->header.taken_ns);
	emit_u64(&e, "objects", seen->sum.objects);
	emit_bytes(&e, "plain_bytes", seen->sum.plain_bytes);
	emit_real(&e, "seconds", (double)ns / 1e9, 3);
	return tool_finish(&e, TOOL_OK);
}

static void explain(const char *file, const char *what, const struct snapshot_seen *seen, int err)
{
	if (seen->what)
		tool_error("%s: %s", file, seen->what);
	else if (err == -EEXIST)
		tool_error("%s: there is such an arena already", what);
	else
		tool_errno(what, err);
}

int verb_arena_restore(const struct call *call)
{
	const char *file = call->argv[0], *what = call->argv[1], *mode = call_option(call, "mode");
	struct snapshot_target to = {.mode = 0600};
	struct snapshot_seen seen = {0};
	uint64_t from = tool_monotonic_ns();
	char path[512];
	int fd, err = mode ? parse_mode(mode, &to.mode) : 0;

	if (err)
		return tool_bad_value(call, "mode", err);
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		tool_errno(file, errno);
		return TOOL_FAILED;
	}
	err = target(what, path, sizeof(path), &to);
	if (!err)
		err = snapshot_restore(fd, &to, &seen);
	close(fd);
	if (err) {
		explain(file, what, &seen, err);
		return TOOL_FAILED;
	}
	return print(call, what, &seen, tool_monotonic_ns() - from);
}
