/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drainer.h - the log rings of the arenas go to segments in the log directory: complete blocks at once, open ones
 * after a moment. The daemon is the rings' consumer meanwhile, unless somebody else is. No writer waits for the disk
 * but as its ring's policy says, and while the disk takes nothing none waits at all: what is overwritten then is
 * counted, and told in the segments when it takes something again.
 */
#ifndef DAEMON_DRAINER_H
#define DAEMON_DRAINER_H

#include "config.h"
#include "loop.h"
#include "registry.h"

/* Nothing is drained without a log directory; other terms may change with the configuration. */
void drainer_start(struct loop *loop, struct registry *registry, const struct config *config);

/* An arena is served from now on; no longer. usable: its memory is still what it was: then what is left goes to
 * the disk first, and the segment ends in order. */
void drainer_adopt(struct served *s);
void drainer_forget(struct served *s, bool usable);

/* Why its log cannot be written, -errno, and since when; 0: it can. */
int drainer_trouble(const struct served *s, uint64_t *since_ns);

#endif
