/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - what the daemon shall do: defaults, then the configuration file, then the command line.
 * Reading has no effect but on *config, so that a file with an error leaves all as it was.
 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "loop.h"
#include "protocol.h"

#define CONFIG_ERROR_BYTES 512
#define CONFIG_SHIP_BYTES 1024

/* When what is written of logs is made to stay over a power cut. */
enum config_fsync { CONFIG_FSYNC_NEVER, CONFIG_FSYNC_INTERVAL, CONFIG_FSYNC_BATCH };

struct config {
	char socket[sizeof((struct sockaddr_un *)0)->sun_path];
	char state_dir[PATH_MAX];
	char log_dir[PATH_MAX]; /* "": none */
	enum loop_io io;
	unsigned socket_mode;
	int log_level;
	uint32_t
		max_connections; /* half of them for one user other than the daemon's own and root */
	uint32_t max_arenas;
	uint32_t decay; /* seconds; 0: never */
	/* Of segments of logs. */
	uint64_t log_segment_size;
	uint32_t log_segment_age; /* seconds; 0: any */
	uint64_t log_retention;	  /* bytes an arena; 0: all */
	enum config_fsync log_fsync;
	uint32_t log_drain_ms;
	bool log_compress;
	char ship[CONFIG_SHIP_BYTES]; /* where logs go beside; "": nowhere */
	uint32_t ship_replicas;
	uint32_t ship_batch; /* records a message */
	struct arena_terms arena; /* where a request says 0 */
};

/* The command line, paths made absolute: the daemon leaves the directory it was started in. "": silent. */
struct config_arguments {
	char socket[PATH_MAX], state_dir[PATH_MAX], log_dir[PATH_MAX], config[PATH_MAX];
	char io[8];
	bool daemonize;
	bool help, version;
};

/* All of these: 0 or -errno, and a line of text in error, which has CONFIG_ERROR_BYTES. */
int config_arguments(struct config_arguments *ret, int argc, char **argv, char *error);
int config_load(struct config *ret, const struct config_arguments *arguments, char *error);
int config_text(struct config *config, const char *text, char *error);

/* "64M" and the like, powers of 1024. -EINVAL, -ERANGE. */
int config_size(const char *text, uint64_t *ret);

#endif
