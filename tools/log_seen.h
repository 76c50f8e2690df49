/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_seen.h - which records of a ring were shown, whether they came from the ring or from the segments it is drained to:
 * by block, lap and place in the block. Of each block the last laps are remembered.
 */
#ifndef TOOLS_LOG_SEEN_H
#define TOOLS_LOG_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_seen;

/* NULL: no memory. */
struct log_seen *log_seen_open(uint32_t blocks, uint32_t block_bytes);
void log_seen_close(struct log_seen *s);
/* Notes it. False: it was seen. What cannot be remembered, or is not of such a ring, was not. */
bool log_seen_add(struct log_seen *s, uint32_t block, uint32_t lap, uint32_t at);

#endif
