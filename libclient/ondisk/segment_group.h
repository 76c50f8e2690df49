/* SPDX-License-Identifier: Apache-2.0 */
/* segment_group.h - a fragment with the large payloads before it, in memory, and its records one by one. */
#ifndef LIBCLIENT_SEGMENT_GROUP_H
#define LIBCLIENT_SEGMENT_GROUP_H

#include "segment_file.h"

struct segment_group {
	uint64_t number; /* of the segment; the reader's */
	uint8_t ring[16], life[16]; /* see segment_life() */
	uint64_t offset, bytes;		  /* of all of it, in the plain segment */
	struct segment_fragment fragment; /* the last, whose records these are */
	unsigned char *data;		  /* loaded: its bytes */
	size_t room;
};

/* The group at an offset, by headers only: 1; 0: the segment ends before it is whole; -EUCLEAN; -errno. An
 * index is a group of its own. What was loaded is not any more. */
int segment_group_find(struct segment_file *f, uint64_t offset, struct segment_group *g);
/* Its bytes, all checked again: 0; -EUCLEAN; -errno. */
int segment_group_load(struct segment_file *f, struct segment_group *g);

/* What of it is asked for. */
bool segment_query_wants(const struct segment_query *q, uint64_t time_min, uint64_t time_max,
			 unsigned levels);

/* The records of a loaded group that are wanted, as stored or by time. */
struct segment_feed {
	struct segment_group group;
	struct segment_new fresh; /* all else was seen before */
	const unsigned char *payload;
	uint32_t count;	  /* records passed */
	size_t at;	  /* own, and shared as stored: the next is not before this byte of the payload */
	size_t large;	  /* the next large payload is not before this byte of data */
	uint16_t *order;  /* shared, by time: records by their rank */
	uint32_t *places; /* shared, by time: where each is */

	/* The next one. */
	struct segment_place place;
	uint32_t number; /* in the fragment, from 0 */
	uint32_t key;	 /* its byte in the block, or slot */
	uint64_t time;
};

/* Group loaded, fresh known: makes ready. skip: records done with. -ENOMEM. */
int segment_feed_begin(struct segment_feed *f, bool by_time, uint32_t skip);
/* Goes to the next record that is wanted. */
bool segment_feed_next(struct segment_feed *f, const struct segment_query *q);
/* The record that it has gone to, but for lost; its bytes are the group's. */
void segment_feed_record(struct segment_feed *f, struct segment_record *ret);
void segment_feed_end(struct segment_feed *f);

#endif
