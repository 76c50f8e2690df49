/* SPDX-License-Identifier: Apache-2.0 */
/* log_inside.h - what the files of the log calls share. */
#ifndef LIBCLIENT_LOG_INSIDE_H
#define LIBCLIENT_LOG_INSIDE_H

#include "ring.h"
#include "shmalloc.h"

struct shma_reader {
	shma *s;
	struct ring_reader *ring;
};

/* As shma_log_write() and shma_log_reserve(), of a payload that fields.h describes. */
int log_write_fields(shma *s, int level, const void *data, size_t len);
int log_reserve_fields(shma *s, struct shma_record *rec, int level, size_t len);

#endif
