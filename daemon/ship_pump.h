/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ship_pump.h - one arena's segments go to a sink, as stored, each record once. The sink's own end is the truth of
 * where to go on; the file ship.position beside the segments says it as of the last acknowledgement, for when the
 * sink's last record has gone.
 */
#ifndef DAEMON_SHIP_PUMP_H
#define DAEMON_SHIP_PUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "ship_sink.h"

enum ship_say { SHIP_NOTICE, SHIP_WARNING };

struct ship_pump_config {
	struct ship_sink *sink;
	const char *dir;
	/* One line of text, when something has changed. */
	void (*say)(enum ship_say level, const char *text);
	/* Asked again and again: 0: go on; 1: end once all is shipped that there is; 2: end. */
	int (*ending)(void);
	unsigned retry_min_ms, retry_max_ms; /* 0: as usual */
	unsigned ack_ms;
};

/* Until ending() says so. 0 or -errno: -ENOMEM. */
int ship_pump(const struct ship_pump_config *config);

/* Of the file. -ENOENT; -EUCLEAN. */
int ship_position_read(const char *dir, struct segment_position *ret, uint64_t *sequence);
int ship_position_write(const char *dir, const struct segment_position *position, uint64_t sequence);

#endif
