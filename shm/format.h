/* SPDX-License-Identifier: Apache-2.0 */
/* format.h - the first contents of a new arena, and the check of those of an old one. */
#ifndef SHM_FORMAT_H
#define SHM_FORMAT_H

#include "arena.h"

struct arena_config {
	const char *name;      /* at most 63 of [A-Za-z0-9._-] */
	const char *path;      /* file backing: where; else NULL */
	uint64_t capacity;     /* bytes; 0: 1 GiB */
	uint64_t log_capacity; /* bytes; 0: 4 MiB */
	uint64_t client_quota; /* bytes; 0: none */
	enum arena_backing backing;
	uint32_t log_policy; /* SHMA_LOG_... */
	uint32_t log_clock;  /* likewise */
	uint32_t mode;	     /* permission bits; 0: 0600 */
	uint32_t numa_mode, huge_mode;
	uint64_t numa_nodes;
	uint32_t debug_mode;  /* enum debug_mode */
	uint32_t debug_every; /* sampled: about one allocation in so many; 0: DEBUG_EVERY */
};

/* A header for a new arena. -EINVAL: sizes or policy out of bounds; -ENODEV: nodes that are not there. */
int format_header(struct arena_header *h, const struct arena_config *config);
/* Writes the arena into its still nameless files. -ENOMEM: no memory for the fixed part;
 * -EOPNOTSUPP: its nodes cannot be had, see placement_create(). */
int format_arena(const struct arena_header *h, struct arena_files files);
/* Whether a header may be believed: -EUCLEAN, -EPROTO (another version or byte order). */
int format_check(const struct arena_header *h);
/* The header of another arena with the same contents: its own name and identity, of this machine. */
int format_reissue(struct arena_header *h, const char *name, enum arena_backing backing);
/* The pid namespace of this process. */
int format_pid_namespace(uint64_t *dev, uint64_t *ino);

#endif
