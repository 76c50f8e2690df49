/* SPDX-License-Identifier: Apache-2.0 */
/* registry_inside.h - what the registry's own files share. */
#ifndef DAEMON_REGISTRY_INSIDE_H
#define DAEMON_REGISTRY_INSIDE_H

#include "registry.h"

/* -EMFILE: the daemon serves as many as it may, or this user has half of them. */
int registry_room_for_one(const struct registry *r, uid_t uid);
/* Lists one more arena, refused so far. NULL with *err: no room. */
struct served *registry_add_checked(struct registry *r, const struct state_record *record, uid_t uid, int *err);
/* The files are the arena's if the result is 0, else the caller's still. */
int registry_serve(struct registry *r, struct served *s, struct arena_files files);
/* No longer listed, and freed. Its record stays. */
void registry_drop(struct registry *r, struct served *s);
/* Where a named arena's file is. */
int registry_file_path(const struct registry *r, const struct state_record *record, char *buf, size_t size);

#endif
