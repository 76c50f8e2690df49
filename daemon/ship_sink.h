/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ship_sink.h - what records are shipped to: an engine that keeps one sequence of records an arena. All that the
 * pump needs of it are five calls; they are made by one thread.
 *
 * What makes "each record once" possible is the engine's: a record is taken only directly behind the one that was
 * published before it, else refused, with all that follow. So what it has is always a beginning of what there is, and
 * its last record says where to go on, however long ago that was.
 */
#ifndef DAEMON_SHIP_SINK_H
#define DAEMON_SHIP_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "segment.h"

#define SHIP_WHY_BYTES 256

/* The end of what the engine has. */
struct ship_last {
	bool found;			  /* its last record is there to be looked at */
	struct segment_position position; /* behind it */
	uint64_t sequence;		  /* by the engine's count, also if it is not there any more */
};

struct ship_sink {
	/*
	 * Connects, makes what keeps the records if it is not there, and looks at its end.
	 * All calls: 0 or -errno, with the reason in why. After an error: close, open, and publish again behind the
	 * last record that is there then.
	 */
	int (*open)(struct ship_sink *sink, struct ship_last *ret);
	/* Copies the record; it may stay here until the next call. */
	int (*publish)(struct ship_sink *sink, const struct segment_record *record);
	/* All that was published goes out, and its acknowledgement is asked for. */
	int (*flush)(struct ship_sink *sink);
	/* Waits so long for an acknowledgement, at most; *acked: records since the opening that the engine has for
	 * certain. -EEXIST: the record of the last flush was there before, where it was the only one. */
	int (*wait)(struct ship_sink *sink, unsigned milliseconds, uint64_t *acked);
	void (*close)(struct ship_sink *sink);

	uint64_t sequence; /* the engine's, of the last acknowledgement */
	char why[SHIP_WHY_BYTES];
};

/* A record in a message of several, little endian; its bytes follow, with zeros to the next multiple of 8. */
struct ship_packed {
	uint32_t bytes;
	uint8_t level, fields; /* fields 1: structured */
	uint16_t reserved;
	uint32_t dropped, cut;
	uint64_t time, seq, lost;
	int32_t pid, tid;
};
_Static_assert(sizeof(struct ship_packed) == 48, "packed record");

/* NATS JetStream: a stream SHMALLOC_<arena>, subjects shmalloc.<arena>.<level>; or with batch > 1, so many
 * records a message at most, shmalloc.<arena>.batch. urls: nats://host:port[,…]. They stay
 * the caller's. -ENOMEM; -ENOSYS: built without it. */
int ship_nats_open(struct ship_sink **ret, const char *arena, const char *urls, unsigned replicas,
		   unsigned batch);
void ship_nats_close(struct ship_sink *sink);

#endif
