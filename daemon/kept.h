/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept.h - arenas without a file: their memory lasts as long as somebody keeps a descriptor of it. The
 * service manager does, for the next daemon; and clients do, who may hand theirs back.
 */
#ifndef DAEMON_KEPT_H
#define DAEMON_KEPT_H

#include "served.h"

/* With the service manager, if there is one; else says that nobody keeps it. */
void kept_store(const struct served *s);
void kept_forget(const struct served *s);
/* What an earlier daemon had stored. -ESTALE: nothing. */
int kept_take(const struct state_record *record, struct arena_files *ret);

/* Whether descriptors from a peer are those of this arena: -EINVAL, -EUCLEAN. */
int kept_is_arena(const struct arena_files *files, const uint8_t uuid[16]);
bool kept_same_file(int a, int b);

#endif
