/* SPDX-License-Identifier: Apache-2.0 */
/* log_show.h - how a record is shown. */
#ifndef TOOLS_LOG_SHOW_H
#define TOOLS_LOG_SHOW_H

#include "emit.h"
#include "shmalloc.h"

struct log_look {
	bool color;  /* of levels, for people */
	bool arenas; /* lines say whose they are */
};

/* A record of an arena. name: of the program that wrote it, NULL: not known. lost: since the last one shown. An enum
 * tool_exit. */
int log_show(struct emit *e, const struct log_look *look, const struct shma_record *r, const char *arena,
	     const char *name, uint64_t lost);
/* The end of a stream of records. */
int log_show_end(struct emit *e, uint64_t lost, int code);

#endif
