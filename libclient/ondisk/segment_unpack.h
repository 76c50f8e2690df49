/* SPDX-License-Identifier: Apache-2.0 */
/* segment_unpack.h - the compressed kind of file, for segment_file.c only. */
#ifndef LIBCLIENT_SEGMENT_UNPACK_H
#define LIBCLIENT_SEGMENT_UNPACK_H

#include "segment_file.h"

/* Reads the seek table and the header. -EUCLEAN; -errno. */
int segment_unpack_open(struct segment_file *f);
void segment_unpack_close(struct segment_file *f);
/* Makes the window the frame of an offset: how much it has from there on, 0 at the end; -EUCLEAN; -errno. */
ssize_t segment_unpack_frame(struct segment_file *f, uint64_t at);

/* Of the file itself: bytes read, fewer where it ends; -errno. Counted. */
ssize_t segment_file_pread(struct segment_file *f, uint64_t at, void *to, size_t len);

#endif
