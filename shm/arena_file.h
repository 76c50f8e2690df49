/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena_file.h - arenas by their names in the file system: made whole under no name and then linked, found,
 * opened, checked and mapped, removed.
 */
#ifndef SHM_ARENA_FILE_H
#define SHM_ARENA_FILE_H

#include "arena.h"
#include "format.h"

/* Paths of a posix arena in /dev/shm. -ENAMETOOLONG, -EINVAL (characters). */
int arena_name_check(const char *name);
int arena_path(char *buf, size_t size, const char *name);
/* That of the life file of the arena at a path. -ENAMETOOLONG. */
int arena_life_path(char *buf, size_t size, const char *path, const uint8_t uuid[16]);

/* Makes an arena. -EEXIST, -EINVAL, -ENOSPC, -EACCES, -EFBIG (RLIMIT_FSIZE). Leaves nothing behind if it
 * fails; if the caller dies in it, at most an empty life file, which the next create removes. */
int arena_create(const struct arena_config *config, struct arena_files *ret);
/* Opens an arena's files by path. -ENOENT, -EACCES. */
int arena_open(const char *path, bool readonly, struct arena_files *ret);
/* Which arena has a path now, for who may open and map it so; errors as of both. */
int arena_uuid(const char *path, bool readonly, uint8_t uuid[16]);
/* Removes its names. Attached processes go on with it; its memory returns when the last one ends. */
int arena_unlink(const char *path);
/* The life file alone: what a death in arena_unlink() leaves of an arena that had this uuid. */
void arena_unlink_life(const char *path, const uint8_t uuid[16]);

/* Maps an arena's files; the view owns the descriptors from then on. -EUCLEAN (not an arena, truncated), -EPROTO
 * (another version), -EXDEV (another pid namespace; not for readonly), -EFBIG, -ENOMEM. */
int arena_map(struct arena *a, struct arena_files files, bool readonly);

#endif
