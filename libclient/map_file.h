/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_file.h - objects that stand for a file, as this process has them.
 *
 * The arena knows the file by path, device, inode, time of birth and size (shm/mapped.h). A process opens it when it
 * first uses the handle, with its own rights, and makes sure that it is that file; it is mapped when a pointer is first
 * asked for. Both are kept in a table of the attachment until the object is freed, here or as seen by a later call, or
 * the arena is closed. All processes thus read one page cache, and none of them needs another for it.
 *
 * One lock for all tables, for the look-up alone: files are opened and read outside it, by who has counted itself in as
 * a user. A forked child has its parent's files and mappings, and none of the users but itself.
 */
#ifndef LIBCLIENT_MAP_FILE_H
#define LIBCLIENT_MAP_FILE_H

#include "attach.h"

#define MAP_FILES_MAX 1024u /* an attachment keeps open */

/* What the calls do for a handle that the heap said -EREMOTE of. */
void *map_file_ptr(struct shma *s, shma_handle h, int *err);
int64_t map_file_read(struct shma *s, shma_handle h, uint64_t offset, void *to, uint64_t len);
uint64_t map_file_size(struct shma *s, shma_handle h, int *err);

/* The object is gone: so are its file and mapping here, once nobody is in the middle of a read. */
void map_file_forget(struct shma *s, shma_handle h);
void map_file_close(struct shma *s);
/* To be called before whoever holds a lock while it calls map_file_close() asks the same. */
void map_file_watch_forks(void);

#endif
