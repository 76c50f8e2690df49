/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - segments: the files that a log ring is drained to. SEGMENT.md has the format byte for byte.
 *
 *   DIRECTORY/0000000000000001.log          a segment, open or closed
 *   DIRECTORY/0000000000000002.log.zst      closed and compressed: zstd -dc gives the .log back
 *
 * A segment is a header, then fragments one behind another, at its orderly end an index. One process writes
 * a segment, at its end only. Any number read, while it is written, compressed or deleted; they believe
 * nothing without checking it. Writing here is pure (fills headers, does no I/O); reading and compressing
 * do their own.
 */
#ifndef LIBCLIENT_SEGMENT_H
#define LIBCLIENT_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* ---- the format: little endian, nothing is aligned to more than 8 ---- */

#define SEGMENT_MAGIC "SHMALOG1"
#define SEGMENT_END_MAGIC "SHMALEND"
#define SEGMENT_FRAGMENT_MAGIC 0x47415246u /* "FRAG" */
#define SEGMENT_NAME_BYTES 64u
#define SEGMENT_SLOTS 256u /* of a shared block */

/* Longest payload of a fragment: a block, or a record, of kind 5: an index. */
#define SEGMENT_PAYLOAD_MAX (UINT32_C(1) << 20)
#define SEGMENT_INDEX_MAX (UINT32_C(64) << 20)
/* Longest group (see SEGMENT_LARGE), all its headers and padding included. */
#define SEGMENT_GROUP_MAX (UINT32_C(4) << 20)

struct segment_header {
	char magic[8];
	uint32_t header_bytes;	 /* of this header */
	uint32_t fragment_bytes; /* of a fragment's header */
	uint8_t ring[16];	 /* differs for each ring ever made */
	uint64_t number;	 /* the file's name, from 1 */
	uint64_t created_ns;	 /* CLOCK_REALTIME */
	uint32_t block_bytes;	 /* of the ring */
	uint32_t blocks;
	char name[SEGMENT_NAME_BYTES]; /* of the arena, zero-padded */
	uint8_t boot[16];	       /* boot id of the kernel */
	uint8_t reserved[116];
	uint32_t crc; /* crc32c of the bytes before */
};
_Static_assert(sizeof(struct segment_header) == 256, "segment header");
_Static_assert(offsetof(struct segment_header, ring) == 16, "segment header");
_Static_assert(offsetof(struct segment_header, block_bytes) == 48, "segment header");
_Static_assert(offsetof(struct segment_header, name) == 56, "segment header");
_Static_assert(offsetof(struct segment_header, crc) == 252, "segment header");

enum segment_kind {
	SEGMENT_OWN = 1,    /* records of a block of one thread, as they stand in it */
	SEGMENT_SHARED = 2, /* of a block that threads share: by rising slot, each with its author */
	/* Payload of a large record. All that the records of one fragment refer to stand directly before it,
	 * in their order: together they are a group, of at most SEGMENT_GROUP_MAX. */
	SEGMENT_LARGE = 3,
	SEGMENT_LOSS = 4,   /* no payload: lost says how many records went at about this time */
	SEGMENT_INDEX = 5,  /* the end: segment_runs, then a segment_end */
	SEGMENT_MARK = 6,   /* no payload; ticket: all before this offset of the segment is written */
	SEGMENT_KINDS
};

/* Its payload follows, with zeros to the next multiple of 8. */
struct segment_fragment {
	uint32_t magic;
	uint8_t kind;
	uint8_t levels;	 /* bit n: has records of level n */
	uint16_t client; /* of the lease */
	uint32_t block, lap;
	/* Own: bytes of the block. Shared: first slot, last + 1. Large: where its record is, byte or slot, and
	 * the same + 1. */
	uint32_t from, to;
	uint32_t records; /* in the payload; of an index: in the segment */
	uint32_t incarnation;
	uint64_t ticket;
	uint64_t time_min, time_max; /* of the records, CLOCK_REALTIME in ns; of an index: of all */
	uint64_t real_offset;	     /* CLOCK_REALTIME minus the records' clock */
	int32_t pid, tid;	     /* of the lease; of shared blocks each record has its own */
	/* Records that were overwritten before they were drained, between this block's last fragment and this
	 * one. Readers count it unless they have seen the fragment's first byte or slot before. */
	uint64_t lost;
	uint32_t payload_bytes; /* without padding */
	uint32_t payload_crc;	/* crc32c of them */
	uint64_t slots[SEGMENT_SLOTS / 64]; /* shared: bit n: the record of slot n is here */
	/* The drain's, for its successor: low bits of the count of this block's records, of all laps, that were
	 * written or told as lost up to and with this fragment. Kinds 1, 2, 4. */
	uint32_t done;
	uint32_t crc; /* crc32c of the bytes before */
};
_Static_assert(sizeof(struct segment_fragment) == 128, "segment fragment");
_Static_assert(offsetof(struct segment_fragment, block) == 8, "segment fragment");
_Static_assert(offsetof(struct segment_fragment, ticket) == 32, "segment fragment");
_Static_assert(offsetof(struct segment_fragment, pid) == 64, "segment fragment");
_Static_assert(offsetof(struct segment_fragment, payload_bytes) == 80, "segment fragment");
_Static_assert(offsetof(struct segment_fragment, slots) == 88, "segment fragment");
_Static_assert(offsetof(struct segment_fragment, crc) == 124, "segment fragment");

/*
 * A record in a payload, as in the ring (struct ring_record). Its bytes follow; of a large one, 16 bytes
 * that mean nothing here. In kind 1 the next begins at the next multiple of 8 after them, counted from the
 * record's start; in kind 2 at the next multiple of 16, counted from its author's.
 */
struct segment_entry {
	uint32_t info; /* payload bytes 0-20 | level 21-23 | large 24 | fields 25 */
	uint32_t dropped; /* by its thread, just before */
	uint64_t time; /* real_offset makes it CLOCK_REALTIME */
	uint64_t seq;
};
_Static_assert(sizeof(struct segment_entry) == 24, "segment entry");
#define SEGMENT_INFO_LENGTH_BITS 21
#define SEGMENT_INFO_LEVEL_SHIFT 21
#define SEGMENT_INFO_LARGE (UINT32_C(1) << 24)
#define SEGMENT_INFO_FIELDS (UINT32_C(1) << 25)
#define SEGMENT_REFERENCE_BYTES 16u

/* Before each record of kind 2 (struct ring_author). */
struct segment_author {
	int32_t pid, tid;
};
_Static_assert(sizeof(struct segment_author) == 8, "segment author");

/* In an index: some fragments one behind another, whole groups, SEGMENT_RUN_BYTES or a little more. */
struct segment_run {
	uint64_t offset; /* of the first */
	uint64_t time_min, time_max; /* of their records and losses; none: UINT64_MAX and 0 */
	uint64_t lost;
	uint32_t bytes; /* to the end of the last */
	uint32_t fragments;
	uint32_t records;
	uint8_t levels;
	uint8_t reserved[3];
};
_Static_assert(sizeof(struct segment_run) == 48, "segment run");
#define SEGMENT_RUN_BYTES (UINT32_C(16) << 10)

/* The last bytes of a segment that was closed in order. */
struct segment_end {
	uint64_t offset; /* of the index's fragment */
	char magic[8];
};
_Static_assert(sizeof(struct segment_end) == 16, "segment end");

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "segments are read and written as they stand");

/* Zero bytes behind a payload. */
static inline uint32_t segment_padding(uint32_t payload_bytes)
{
	return -payload_bytes & 7u;
}

/* Of a whole fragment in the file. */
static inline uint64_t segment_fragment_bytes(const struct segment_fragment *f)
{
	return sizeof(*f) + (uint64_t)f->payload_bytes + segment_padding(f->payload_bytes);
}

/* Bytes behind a record's header. */
static inline uint32_t segment_info_inline(uint32_t info)
{
	return info & SEGMENT_INFO_LARGE ? SEGMENT_REFERENCE_BYTES :
					   info & ((UINT32_C(1) << SEGMENT_INFO_LENGTH_BITS) - 1);
}

/* Bytes from one record to the next in a payload of kind 1; of kind 2, authors included. What a drain
 * copies out of a slot are these, even where the slot has more room. */
static inline uint32_t segment_own_bytes(uint32_t info)
{
	return ((uint32_t)sizeof(struct segment_entry) + segment_info_inline(info) + 7) & ~7u;
}

static inline uint32_t segment_shared_bytes(uint32_t info)
{
	return ((uint32_t)(sizeof(struct segment_author) + sizeof(struct segment_entry)) +
		segment_info_inline(info) + 15) & ~15u;
}

/* ---- checksums ---- */

/* CRC-32C (Castagnoli) of data, going on from that of what came before (0 at first). By the processor
 * where it can. */
uint32_t segment_crc(uint32_t crc, const void *data, size_t len);
/* The same by a table. */
uint32_t segment_crc_table(uint32_t crc, const void *data, size_t len);

/* ---- writing: pure ---- */

/* Of which ring; the same in all its segments. */
struct segment_ring {
	uint8_t ring[16];
	uint8_t boot[16];
	const char *name;
	uint32_t block_bytes, blocks;
};

void segment_header_make(struct segment_header *h, const struct segment_ring *of, uint64_t number,
			 uint64_t created_ns);

/*
 * Completes a fragment whose payload is these parts one behind another, of kinds 1 and 2 each of whole
 * records. The caller has set kind, client, block, lap, incarnation, ticket, real_offset, pid, tid, lost,
 * zeros elsewhere, and
 *
 *   kind 1: from (to becomes from + payload bytes)
 *   kind 2: slots, as many as there are records (from and to follow)
 *   kind 3: from, and time_min = time_max of its record
 *   kind 4: time_min, time_max
 *   kind 6: ticket (segment_mark_make() does)
 *
 * and all else becomes what it must: magic, levels, records, times, lengths, checksums. The parts must not
 * change meanwhile, nor until they are written. -EUCLEAN: they are not records, or not as many as slots
 * (kinds 1 and 2), as in a ring that was damaged; -EMSGSIZE; -EINVAL: no such kind.
 */
int segment_fragment_make(struct segment_fragment *f, const struct iovec *parts, size_t count);
/* Of kind 6: all of the segment before the offset is written. */
void segment_mark_make(struct segment_fragment *f, uint64_t offset);

/* How many bytes of data, at most len, are whole records of kind 1 that refer to large payloads of at most
 * max_large bytes together, their fragments' headers included: what one group can hold. At least one record,
 * if there is one. */
size_t segment_own_prefix(const void *data, size_t len, size_t max_large);

/* What a segment's index is made of. */
struct segment_index {
	struct segment_run *runs;
	size_t count, room;
	struct segment_run open; /* that the next fragment may join; fragments: 0: none */
	bool group;		 /* the last one was large: the next belongs to it */
	struct segment_run all;	 /* times, levels, lost */
	uint64_t records;
};
void segment_index_init(struct segment_index *);
/* For each fragment, in order, once it is written. -ENOMEM: the segment has to end without an index;
 * -EMSGSIZE: a group is too long. */
int segment_index_add(struct segment_index *, const struct segment_fragment *, uint64_t offset);
/* The last fragment, which is to stand at offset; *payload (f->payload_bytes, a multiple of 8) is the
 * index's own, good until it is freed. -ENOMEM; -EMSGSIZE. */
int segment_index_fragment(struct segment_index *, uint64_t offset, struct segment_fragment *f,
			   const void **payload);
void segment_index_free(struct segment_index *);

/* ---- names ---- */

#define SEGMENT_FILE_BYTES 32u /* of a file's name, terminator included */

void segment_file_name(char name[SEGMENT_FILE_BYTES], uint64_t number, bool compressed);
/* False: not the name of a segment. */
bool segment_file_number(const char *name, uint64_t *number, bool *compressed);

struct segment_listed {
	uint64_t number;
	uint64_t bytes;	    /* on disk, of both files if there are both */
	bool plain, compressed; /* which files there are */
};
/* All segments of a directory by rising number; the caller frees *ret. Names that are no segment's are
 * ignored. -errno of opening or reading the directory; -ENOMEM. */
int segment_list(const char *dir, struct segment_listed **ret, size_t *count);

/* ---- scanning: what there is, and how far it is good ---- */

struct segment_scan {
	struct segment_header header;
	uint64_t size; /* of the file; of a compressed one, of the plain segment */
	uint64_t good; /* up to here header and fragments are whole: a torn tail is cut here */
	bool torn;     /* there is something behind it */
	bool closed;   /* ends with an index */
	uint64_t fragments, records, lost;
	/* Before good: fragments, and records of them, of groups whose payloads are not what was gathered: they
	 * were changed while they were written. Not among those above; their lost is. */
	uint64_t spoilt, spoilt_records;
	uint64_t time_min, time_max; /* none: UINT64_MAX and 0 */
};

#define SEGMENT_SCAN_HEADERS 0x1u /* does not read payloads: enough where there is an index */
#define SEGMENT_SCAN_STRICT 0x2u  /* ends before the first spoilt group: what is good for sure */

/* Told of each good fragment in order, the index included. Not 0: the scan ends and returns it. */
typedef int segment_scan_fn(void *context, const struct segment_header *, const struct segment_fragment *,
			    uint64_t offset);

/*
 * A group, its last fragment here, whose header is good and whose payload is not. It was changed while it was
 * written, which spoils nothing else; or not all of it was written, and this is where a torn tail begins. Who knows
 * better says which.
 */
enum segment_verdict {
	SEGMENT_GUESS,	/* spoilt if anything good follows: as without this function */
	SEGMENT_SPOILT, /* stepped over in any case */
	SEGMENT_TORN	/* the scan ends before it */
};
typedef enum segment_verdict segment_judge_fn(void *context, const struct segment_header *,
					      const struct segment_fragment *);

struct segment_scan_calls {
	segment_scan_fn *each;	  /* NULL: none; the others likewise */
	segment_judge_fn *judge;
	segment_scan_fn *spoilt; /* told of each spoilt group's last fragment, in order, instead of each */
	void *context;
};

/* By a descriptor of a .log, by number in a directory (.log or .log.zst), or by the path of either. each may
 * be NULL. -EUCLEAN: no good header; -ENOENT; -errno of reading; -ENOMEM. */
int segment_scan(int fd, unsigned flags, struct segment_scan *ret, segment_scan_fn *each, void *context);
int segment_scan_judged(int fd, struct segment_scan *ret, const struct segment_scan_calls *);
int segment_scan_number(const char *dir, uint64_t number, unsigned flags, struct segment_scan *ret,
			segment_scan_fn *each, void *context);
int segment_scan_path(const char *path, unsigned flags, struct segment_scan *ret, segment_scan_fn *each,
		      void *context);

/* What a segment says of itself, by its index where it has one, else by its fragments' headers; spoilt ones are among
 * its records. As segment_scan_number(). */
int segment_summary(const char *dir, uint64_t number, struct segment_scan *ret);

/* ---- what was seen: fragments by their key, for readers and for the drain that goes on after another ---- */

struct segment_seen;
/* room: of (block, lap) pairs, of which the oldest are forgotten first. -ENOMEM. */
int segment_seen_open(struct segment_seen **ret, size_t room);
void segment_seen_close(struct segment_seen *);

/* What of a fragment was not seen before. */
struct segment_new {
	bool first;	  /* its first byte or slot: its lost counts */
	uint32_t pieces;  /* own: of bytes of the block */
	struct {
		uint32_t from, to;
	} piece[4];
	uint64_t slots[SEGMENT_SLOTS / 64]; /* shared */
};
/* Kinds 1 and 2; notes that all of it is seen from now on. False: all of it was. What it cannot remember
 * counts as not seen. */
bool segment_seen_add(struct segment_seen *, const uint8_t ring[16], const struct segment_fragment *,
		      struct segment_new *ret);
/* The same without noting: what of a block's bytes from..to (slots where shared) was not seen. */
bool segment_seen_look(const struct segment_seen *, const uint8_t ring[16], const struct segment_fragment *,
		       struct segment_new *ret);

/* ---- compressing ---- */

#define SEGMENT_FRAME_BYTES (UINT32_C(256) << 10) /* of plain segment in a zstd frame, or a little more */

/*
 * .log becomes .log.zst: under a temporary name, synced, renamed, then the .log is deleted. A torn tail is
 * cut, an index added where there is none; what is spoilt stays as it stands. Idempotent: what a killed process left is finished by the next
 * call; readers find the one or the other at any moment. In steps of a frame each, or all at once. Only for
 * segments that nobody writes any more.
 * -ENOENT: there is neither; -EUCLEAN: no good header, or a bad one between it and an index, which is then left as
 * it is; -errno of files; -ENOMEM.
 */
struct segment_compressor;
int segment_compress_open(struct segment_compressor **ret, const char *dir, uint64_t number);
int segment_compress_step(struct segment_compressor *); /* 1: not yet done, 0: done, -errno: never will be */
void segment_compress_close(struct segment_compressor *); /* before it is done: as if never begun */
int segment_compress(const char *dir, uint64_t number);

/* ---- reading ---- */

struct segment_query {
	uint64_t since_ns, until_ns; /* inclusive; until_ns 0: no end */
	unsigned level_mask;	     /* bit n: records of level n; 0: all */
};

/* Behind the record that it came with, as stored. Offsets are of the plain segment: a position outlives
 * its compression. */
struct segment_position {
	uint64_t number;
	uint64_t offset; /* of the group */
	uint32_t record; /* records of it that are done with */
	uint32_t reserved;
};

/* Of a record, the same in the ring and in any segment. */
struct segment_key {
	uint8_t ring[16];
	uint8_t life[16]; /* ring XOR boot id: after a power cut a ring's laps may come again with other records */
	uint32_t block, lap;
	uint32_t at; /* byte of the block; of a shared block, slot */
};

struct segment_record {
	const void *data; /* the cursor's, until the next call */
	size_t len;
	int level;
	pid_t pid, tid;
	uint64_t time_ns; /* CLOCK_REALTIME */
	uint64_t seq;
	bool fields;	  /* data is structured */
	uint32_t dropped; /* by its thread, just before it */
	uint64_t lost;	  /* overwritten before they were drained, or spoilt, since the last record delivered */
	struct segment_position position;
	struct segment_key key;
};

#define SEGMENT_AS_STORED 0x0u /* in the order of the files: each fragment whole, one behind another */
#define SEGMENT_BY_TIME 0x1u   /* merged by time_ns */
#define SEGMENT_FOLLOW 0x2u    /* after 0 there may be more later: call again */
#define SEGMENT_FROM_END 0x4u  /* as stored: only what comes after the opening */

struct segment_cursor;
/*
 * path: a directory of segments, or one segment. query: NULL: all. from: NULL, or where to go on (as stored
 * only); if its segment is gone, at the next that there is. Each record comes once, however often it was
 * stored.
 * -ENOENT; -EINVAL; -ENOMEM; -errno of files; an empty directory is no error.
 */
int segment_cursor_open(struct segment_cursor **ret, const char *path, const struct segment_query *query,
			unsigned flags, const struct segment_position *from);
/* 1: a record; 0: no more (for now, where it follows), and ret->lost is what the next record would report;
 * -errno. What is damaged is stepped over and counted in the statistics. Waits for nobody. */
int segment_cursor_next(struct segment_cursor *, struct segment_record *ret);
void segment_cursor_close(struct segment_cursor *);

struct segment_stats {
	uint64_t bytes_read;	 /* from files, all told */
	uint64_t payload_bytes;	 /* of fragments, plain, that were looked into */
	uint64_t fragments;	 /* likewise */
	uint64_t segments;	 /* opened */
	uint64_t duplicates;	 /* fragments of which a part or all was seen before */
	uint64_t torn;		 /* segments with something behind the last good fragment */
	uint64_t damaged;	 /* segments unreadable, indexes and fragments that made no sense, groups spoilt */
	uint64_t missed;	 /* numbers passed over that have no segment: it is gone, or never was */
};
void segment_cursor_stats(const struct segment_cursor *, struct segment_stats *ret);

#endif
