/* SPDX-License-Identifier: Apache-2.0 */
#include "kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "msg.h"
#include "notify.h"

static const char *const kept_kinds[ARENA_FDS_MAX] = { "arena", "life", "heap" };

static void kept_name(char *buf, size_t size, int kind, const char *name)
{
	snprintf(buf, size, "%s.%s", kept_kinds[kind], name);
}

void kept_store(const struct served *s)
{
	const int fds[] = { s->arena.files.fd, s->arena.files.life_fd, s->arena.files.heap_fd };
	bool kept = true;
	char name[96];

	for (int i = 0; i < ARENA_FDS_MAX; i++) {
		kept_name(name, sizeof name, i, s->record.name);
		if (fds[i] >= 0 && kept)
			kept = notify_store(name, fds[i]);
	}
	if (!kept)
		msg_notice(
			"arena %s: no service manager keeps its memory: it is lost if the daemon "
			"ends, but for clients that have it",
			s->record.name);
}

void kept_forget(const struct served *s)
{
	char name[96];

	for (int i = 0; i < ARENA_FDS_MAX; i++) {
		kept_name(name, sizeof name, i, s->record.name);
		notify_forget(name);
	}
}

int kept_take(const struct state_record *record, struct arena_files *ret)
{
	int *fds[] = { &ret->fd, &ret->life_fd, &ret->heap_fd };
	char name[96];

	for (int i = 0; i < ARENA_FDS_MAX; i++) {
		kept_name(name, sizeof name, i, record->name);
		*fds[i] = notify_take(name);
	}
	return ret->fd >= 0 && ret->life_fd >= 0 ? 0 : -ESTALE;
}

bool kept_same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

int kept_is_arena(const struct arena_files *files, const uint8_t uuid[16])
{
	const int fds[] = { files->fd, files->life_fd, files->heap_fd };
	struct arena_header h;

	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
		/* Seals are what memory files have and others have not. */
		if (fds[i] >= 0 && (fcntl(fds[i], F_GET_SEALS) < 0 ||
				    (fcntl(fds[i], F_GETFL) & O_ACCMODE) != O_RDWR))
			return -EINVAL;
	}
	if (pread(files->fd, &h, sizeof h, 0) != (ssize_t)sizeof h)
		return -EUCLEAN;
	return memcmp(h.uuid, uuid, sizeof h.uuid) == 0 ? 0 : -EINVAL;
}
