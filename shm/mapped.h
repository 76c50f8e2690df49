/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapped.h - objects that stand for a file: what is known of it, a page in the arena. Who has the file, and reads it,
 * is the process's own affair (libclient/map_file.h).
 */
#ifndef SHM_MAPPED_H
#define SHM_MAPPED_H

#include "arena.h"

/* One page, checked: whole, of this page, the path absolute, ended and as long as it says. */
struct mapped_description {
	struct mapped_file file;
	char path[MAPPED_PATH_MAX];
};
_Static_assert(sizeof(struct mapped_description) == PAGE_SIZE, "a description is a page");

/* Into a page that is ours and raw: before it becomes the object, nobody reads it. */
void mapped_write(struct arena *a, uint64_t page, const struct mapped_file *file, const char *path);
/* Of a live object's handle; -EINVAL: it stands for no file; -ESTALE, -EUCLEAN. */
int mapped_describe(struct arena *a, uint64_t handle, struct mapped_description *ret);
/* Whether these bytes, copied from a page, are a description of that page. */
bool mapped_valid(const struct mapped_description *d, uint64_t page);

#endif
