/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout.h - every byte that processes share: the real ABI. No logic here.
 *
 * An arena is one sparse file, mapped once by each process:
 *
 *   header | client words | thread words | name words | zones | class hints | hold bits | name entries
 *          | zone indexes | page map | client areas | hold records | profile | log ring | debug area | heap
 *
 * Nothing in it is a pointer. "Page" numbers and heap offsets count from the start of the heap;
 * every other offset counts from the start of the file.
 *
 * Truth and index: a fact's truth is changed by one aligned store or compare-and-swap (its commit
 * point); an index may be wrong after a death and is recomputed from the truth, never repaired.
 * Each field below says which it is, who writes it (W) and who reads it (R).
 */
#ifndef SHM_LAYOUT_H
#define SHM_LAYOUT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_MAGIC "SHMALLOC"
#define LAYOUT_VERSION 1u
#define LAYOUT_ENDIAN 0x01020304u

#define PAGE_SHIFT 12
#define PAGE_SIZE (1u << PAGE_SHIFT)

/* A region: the unit in which pages are committed and in which clients note where they own things. */
#define REGION_PAGES 16u
#define REGION_SHIFT 16

#define CAPACITY_MIN (UINT64_C(16) << 20)
#define CAPACITY_MAX (UINT64_C(16) << 40)
#define ZONES_MIN 8u
#define ZONE_PAGES_MAX 65536u /* 256 MiB: one summary word covers a zone's region hints */
#define ZONE_ORDERS 17u	      /* block orders 0..16 */

#define CLIENTS_MAX 4096u /* number 0 is nobody */
#define THREADS_MAX 8192u
#define NAMES_MAX 4096u
#define NAME_BYTES 96u /* of a published name, terminator included */
#define ARENA_NAME_BYTES 64u

#define CLASSES 108u  /* size classes to 1 MiB, see sizeclass.h */
#define SHORT_FIRST 1u /* the first of the classes that have short slabs besides the long ones */
#define SHORTS 79u     /* so many classes have */
#define TALL_FIRST 7u  /* the first of the classes that have tall slabs as well */
#define TALLS 49u      /* so many classes have */
#define KINDS (CLASSES + SHORTS + TALLS) /* of slabs: long ones by class, then short ones, then tall ones */
#define SHAPES 17u    /* slab records by their number of state words, in sixteens */
#define HINT_ROWS (KINDS + SHAPES)
#define SLAB_OBJECTS_MAX 256u
#define CACHES (CLASSES + 1) /* per-thread caches: classes; the last stays empty */

/*
 * Handles: heap offset / 16 in bits 0-39 | arena tag 40-47 | generation 48-63. The tag lies next to the
 * offset so that one subtraction and one comparison check both.
 */
#define HANDLE_OFFSET_BITS 40
#define HANDLE_TAG_SHIFT 40
#define HANDLE_GEN_SHIFT 48

/* ---- page map: 16 bytes a page, two words; word 1 is written first ---- */

enum page_kind {
	PAGE_FREE = 0,	   /* every page that no extent covers, and the inside of extents */
	PAGE_RAW = 1,	   /* an extent owned by word 0's client, in no other use (or a use below) */
	PAGE_RETURNED = 2, /* raw, given up by its owner: whoever holds the zone's lock frees it */
	PAGE_LARGE = 3,	   /* one large object; word 0 is its state word */
	PAGE_SLAB = 4,	   /* every page of a slab has an entry; of a slab of one object only the first */
	PAGE_STATE = 5,	   /* slab records; stays for the arena's life */
	PAGE_SPAN = 6,	   /* a later zone's piece of a large extent, live while its head covers it */
	PAGE_LOG = 7,	   /* holds one large log record */
	PAGE_STACK = 8,	   /* a region of a thread's temporary memory, owned by word 0's client */
	PAGE_MAPPED = 9,   /* one object that stands for a file: as PAGE_LARGE, but it holds a mapped_file */
	PAGE_KINDS
};

/* What a raw extent is for (in the class field). From RAW_SLAB on: it is becoming a slab of kind
 * (use - RAW_SLAB), or ceasing to be one; word 1 may be of either form, the length is the kind's. */
enum raw_use {
	RAW_PLAIN = 0,
	RAW_THREAD = 1,
	RAW_PURGE = 2,
	RAW_PIECE = 3, /* being cut off a larger extent: the length is word 1's bits 0-16 in either form */
	RAW_SLAB = 128
};

/* What a large object holds (in the class field); the same as long as it lives. */
enum large_use { LARGE_PLAIN = 0, LARGE_PACKED = 1 /* a struct packed_header, and what follows it */ };

/*
 * word 0: kind 0-3 | object kind 4-7 | client 8-19 | generation 20-35 | slab kind, shape or use 36-47
 * word 1, heads of extents:  length in pages 0-32 | next on the pending stack: page in zone + 1, 33-49; of a large
 *                            object: 16ths of the bytes before its user's, - 1; 0: none (debug.h)
 * word 1, pages of slabs:    distance to head in pages 0-5 | slab record, heap offset, a multiple of 64,
 *                            6-43 | slab kind 55-62 | 1 at 63. Enough to find an object's state word; the
 *                            top nine bits are its kind's row in sizeclass_rows
 * word 1, PAGE_SPAN:         length of the piece in pages 0-16 | page of the extent's head 17-49
 */
#define PW0_KIND_SHIFT 0
#define PW0_OBJECT_SHIFT 4
#define PW0_CLIENT_SHIFT 8
#define PW0_GEN_SHIFT 20
#define PW0_CLASS_SHIFT 36
#define PW0_CLASS_BITS 12
#define PW1_LENGTH_BITS 33
#define PW1_NEXT_SHIFT 33
#define PW1_NEXT_BITS 17
#define PW1_SPAN_HEAD_SHIFT 17
#define PW1_DIST_MASK UINT64_C(0x3f)
#define PW1_RECORD_MASK UINT64_C(0xfffffffffc0)
#define PW1_CLASS_SHIFT 55
#define PW1_CLASS_BITS 8
#define PW1_SLAB_SHIFT 63

struct page_entry {
	/* TRUTH. W: kind free <-> not free under the zone's lock only; else the extent's owner, or
	 * whoever wins the compare-and-swap on a large object. R: anyone. */
	_Atomic uint64_t w0;
	/* TRUTH, valid while word 0 is not free. W: whoever is about to write word 0. R: anyone. */
	_Atomic uint64_t w1;
};
_Static_assert(sizeof(struct page_entry) == 16, "page entry");
_Static_assert(KINDS <= 1u << PW1_CLASS_BITS && RAW_SLAB + KINDS <= 1u << PW0_CLASS_BITS, "kinds fit in");

/* ---- state words: 32 bits an object: kind 0-3 | client 4-15 | generation 16-31 ---- */

enum object_kind {
	OBJECT_FREE = 0,
	OBJECT_INTERNAL = 1,   /* its client's bookkeeping (cache arrays): not live, not cached */
	/* These two differ in one bit: either is its client's alone to free, by a plain store. */
	OBJECT_PRIVATE = 2,    /* its client's: live, or ready in a cache of one of its threads */
	OBJECT_TAKEN = 3,      /* private to its client, which took it */
	OBJECT_SHARED = 4,     /* its client's, offered to takers */
	OBJECT_PERSISTENT = 5, /* the arena's, offered to takers */
	OBJECT_PUBLISHED = 6,  /* the arena's, held by a name */
	OBJECT_HELD = 7,       /* the arena's, held by clients; instead of a client: where its hold record is */
	OBJECT_KINDS
};

#define STATE_CLIENT_SHIFT 4
#define STATE_GEN_SHIFT 16

/*
 * A packed object begins so; then a word for each chunk: where its frame ends, in bytes from the object's start. The
 * frames follow, in order, each complete in itself and with the sum of its contents: LZ4's or zstd's, by method.
 * W: who packs, before anybody else knows the object. R: anyone; not trusted.
 */
struct packed_header {
	uint64_t bytes;  /* of the plain object */
	uint64_t check;  /* bytes, each bit inverted */
	uint32_t chunks; /* of PACKED_CHUNK bytes, but for the last */
	uint8_t method;	 /* enum packed_method */
	uint8_t large;	 /* the plain one took whole pages */
	uint8_t reserved[2];
	uint64_t packed; /* bytes of all this */
};
_Static_assert(sizeof(struct packed_header) == 32, "packed header");
enum packed_method { PACKED_LZ4 = 1, PACKED_ZSTD = 2 };
#define PACKED_CHUNK (UINT64_C(128) << 10)

/* Slab record: one slab's bookkeeping, in a state block. A multiple of 64 bytes, 64 + 64 x shape. */
enum record_owner { RECORD_FREE = 0, RECORD_LIVE = 1, RECORD_BUSY = 2 /* | client << 4 */ };

struct slab_record {
	/* TRUTH (checked against the page map after a death). W: compare-and-swap free or live -> busy;
	 * then its client, or that client's recoverer. R: anyone. */
	_Atomic uint32_t owner;
	_Atomic uint32_t head;	     /* TRUTH. W: busy owner. The slab's first page. R: anyone */
	_Atomic uint32_t class_index; /* TRUTH. W: busy owner. The kind of slab. R: anyone */
	_Atomic uint32_t digest;      /* INDEX. W, R: purgers: of the words at the last look */
	/* INDEX. The thread that draws from the slab: client << 16 | thread word's index; 0: nobody. W: it, when
	 * it makes the slab or has drawn from it. R: anyone. */
	_Atomic uint32_t drawer;
	/* INDEX. W, R: the drawer. Head page + 1 of the slab that it draws from after this one; 0: this one is
	 * in no list; UINT32_MAX: the list ends here. */
	_Atomic uint32_t next;
	uint32_t reserved[2];
	_Atomic uint64_t bitmap[4]; /* INDEX, hint: objects free. W: anyone, by fetch_or and fetch_and */
	/* TRUTH. W: while free, a plain store by who holds the record; while private, one by the object's
	 * client; else compare-and-swap. At least one more than there are objects, free for ever: what a
	 * handle into the slab's tail leads to. */
	_Atomic uint32_t words[];
};
_Static_assert(sizeof(struct slab_record) == 64, "slab record");

/* State block: 1 page or 2 pages, by its shape. */
struct state_block {
	uint32_t shape;	  /* W: its creator, while raw */
	uint32_t records; /* W: its creator, while raw */
	uint32_t reserved[14];
	/* records follow, 64 + 64 x shape bytes each */
};
_Static_assert(sizeof(struct state_block) == 64, "state block");

/*
 * What the extent of an object that stands for a file begins with; the file's resolved path follows, and a zero.
 * W: the maker, while raw. R: anyone, out of a copy, which is checked: another process may have written it.
 */
#define MAPPED_MAGIC 0x454c4946u
#define MAPPED_PATH_MAX 4032u /* the zero included: both fill a page at most */
struct mapped_file {
	uint32_t magic;
	uint32_t path_bytes; /* the zero included */
	uint64_t page;	     /* where this itself lies */
	uint64_t device, inode;
	uint64_t size;	  /* bytes of the file, and of the object */
	int64_t birth_ns; /* when the inode was made, CLOCK_REALTIME; 0: the file system does not tell */
	int64_t mtime_ns; /* for who looks; it is not compared */
	uint64_t check;	  /* of all the above and the path */
};
_Static_assert(sizeof(struct mapped_file) == 64, "mapped file");

/* ---- zones ---- */

struct zone {
	pthread_mutex_t lock; /* robust, process-shared; only ever tried */
	char pad[64 - sizeof(pthread_mutex_t)];
	/* INDEX. W: the lock's holder. R: anyone, as a hint. */
	_Atomic uint32_t high;	      /* pages from here on were never taken */
	_Atomic uint32_t free_pages;
	_Atomic uint32_t order_map;   /* bit k: a free block of order k may exist */
	_Atomic uint32_t rebuilds;    /* times the lock's holder had died */
	/* INDEX over PAGE_RETURNED entries: page in zone + 1 of the top one, and a counter above bit 32.
	 * W: compare-and-swap by returning owners (push), by the lock's holder (pop). */
	_Atomic uint64_t pending;
	_Atomic uint32_t ready; /* INDEX. W: lock holder. The index has been built once */
	uint32_t reserved32;
	_Atomic uint64_t busy; /* tries that found the lock taken, and went elsewhere. W: fetch_add, anyone. R: statistics */
	uint64_t reserved[3];
};
_Static_assert(sizeof(struct zone) == 128, "zone");

/*
 * A zone's index, in this order (each part a multiple of 8 bytes; sizes in struct arena_geometry):
 *   free bits     per order k: zone_pages >> k bits, in 64-bit words. INDEX. W: lock holder
 *   free summary  per order: a bit a word of the above, in 64-bit words. INDEX. W: lock holder
 *   idle bits     a bit a page. INDEX. W: lock holder: set by a purger for pages that it finds free,
 *                 cleared by who takes them. So what is set at its next look was free all the while
 *   commit bits   a bit a region. TRUTH. W: set by an owner of a page of the region after its
 *                 fallocate (fetch_or); cleared by the owner of the whole region before its punch
 *   purged bits   a bit a page. TRUTH in one direction: a page whose bit is clear has memory, if its
 *                 region's is set. W: the page's only owner (of its raw extent; of a slab's page the
 *                 holder of its record): set before its punch, cleared after its fallocate (fetch_or,
 *                 fetch_and: others own its neighbours)
 *   hint bits     HINT_ROWS x one bit a region. INDEX. W: anyone (fetch_or, fetch_and)
 *   hint summary  HINT_ROWS x one word: a bit a word of the above. INDEX. W: likewise
 */

/* ---- clients and threads ---- */

enum client_state {
	CLIENT_FREE = 0,
	CLIENT_OPENING = 1,   /* claimed; its record is being written */
	CLIENT_LIVE = 2,
	CLIENT_RECOVERING = 3 /* dead; its things are being returned by the recoverer */
};
/* Client word: state 0-3 | recoverer 4-15, 0 nobody | incarnation 16-47 | handover 48-63, counts changes
 * of the recoverer. TRUTH. W: free -> opening by the holder of the life lock on its byte; live ->
 * recovering by the recoverer (compare-and-swaps). */
#define CLIENT_RECOVERER_SHIFT 4
#define CLIENT_INCARNATION_SHIFT 16
#define CLIENT_HANDOVER_SHIFT 48

/* One client's area starts with this; its region bitmaps follow. */
struct client_record {
	/* W: the client, while opening. R: anyone. */
	_Atomic int32_t pid;
	_Atomic uint32_t uid;
	_Atomic uint64_t start_time; /* of the process, clock ticks since boot, /proc/PID/stat field 22 */
	_Atomic uint64_t opened_ns;  /* CLOCK_REALTIME */
	char command[32];
	/* INDEX, relaxed. W: fetch_add by whoever moves ownership; recomputed when a quota is met. Its
	 * threads' blocks have the rest of the sum. */
	_Atomic int64_t owned_bytes;
	_Atomic uint32_t shrink; /* counts the times that its threads were asked to shrink their caches.
				  * W: the daemon (fetch_add). R: the threads, when they refill or flush */
	uint32_t reserved32;
	/* Where the client maps the arena: tells its memory from that of a program it became by exec.
	 * Never used as an address. W: the client, while opening. R: who asks whether it lives. */
	_Atomic uint64_t base;
	uint64_t reserved[22];
};
_Static_assert(sizeof(struct client_record) == 256, "client record");

/*
 * Region bitmaps of a client, after its record: first the summary (a bit per 64-byte line of the
 * leaf), then the leaf (a bit per region of the heap, from a 64-byte boundary on).
 * TRUTH in one direction: a client owns nothing in a region whose bit is clear.
 * W: the client's threads (fetch_or), leaf after summary, before the store that makes it an owner;
 * cleared by its recoverer when nothing is left.
 */

/* Thread word: state 0-3 | client 4-15 | page of its thread block 16-48. TRUTH.
 * W: free -> claimed by compare-and-swap; then the thread; then its client's recoverer. */
enum thread_state { THREAD_FREE = 0, THREAD_CLAIMED = 1, THREAD_LIVE = 2 };
#define THREAD_CLIENT_SHIFT 4
#define THREAD_PAGE_SHIFT 16

/* A per-thread cache of ready-made handles. W: the owning thread, plain stores. R: statistics. */
struct cache {
	uint64_t slots;	       /* heap offset of the array, an OBJECT_INTERNAL object; 0: none yet */
	_Atomic uint64_t next; /* heap offset of the first slot above the handles in it */
	uint64_t end;	       /* the slot at which it flushes: its limit; grows on misses up to the capacity */
	uint32_t capacity;     /* slots */
	uint32_t record_page;  /* hint: head page of the slab last drawn from, + 1 */
};
_Static_assert(sizeof(struct cache) == 32, "cache");

/* What the recovery of a thread must undo, or end. W: the thread; all else before armed. */
struct persist_intent {
	uint64_t handle;
	uint64_t cell;	    /* heap offset */
	uint64_t container; /* handle of the object that the cell lies in */
	uint64_t old;	    /* what the cell held */
	_Atomic uint32_t armed; /* enum intent_kind */
	uint32_t gen;	    /* INTENT_REPLACE: under which handle's place becomes ours; cell is the new one's handle */
};
enum intent_kind { INTENT_NONE = 0, INTENT_PERSIST = 1 /* shma_persist() */, INTENT_REPLACE = 2 /* replace.h */ };

/* ---- log ring, see RING.md ---- */

/*
 * The ring's area, from arena_geometry.ring on:
 *
 *   ring header (a page) | doorbell (a page) | block words | block heads | slots | blocks
 *
 * All but the slots and the blocks is committed at creation; those when first leased.
 */
#define RING_MAGIC 0x474e4952u
#define RING_LEVELS 4u /* a record within a record (signal handlers, open reserves), each its own block */
#define RING_SHIFT_MIN 12u
#define RING_SHIFT_MAX 20u
#define RING_BLOCKS_MIN 16u
#define RING_BLOCKS_MAX (1u << 24)
#define RING_SLOT_SHIFT 8u /* a slot for each 256 bytes of a block */
#define RING_SLOTS_MAX 256u

enum ring_state {
	RING_FREE = 0,	    /* never written; its memory may not be there */
	RING_RESETTING = 1, /* being prepared for a new lease by word's client; what was in it is lost */
	RING_OPEN = 2,	    /* leased: to word's client and thread, or shared */
	RING_SEALED = 3,    /* complete; whoever wins the compare-and-swap may reset it */
	RING_DRAINING = 4   /* complete and being copied out by word's client: not to be reset */
};
/*
 * Block word: state 0-2 | shared 3 | client 4-15 | thread 16-31 | lap 32-63. TRUTH. Dense, so that a
 * lease and a reader can look at all of them.
 * W: sealed, free or done-with shared -> resetting, lap + 1: compare-and-swap by anyone; open -> sealed,
 * resetting -> open or free: its client and thread, or that client's recoverer; sealed -> draining and back:
 * compare-and-swap by the consumer, or its recoverer.
 */
#define RING_SHARED_BIT (UINT64_C(1) << 3)
#define RING_CLIENT_SHIFT 4
#define RING_THREAD_SHIFT 16
#define RING_LAP_SHIFT 32

/* Committed word: bytes 0-22 | shared 23 | records 24-47 | lap's low bits 48-63. */
#define RING_COMMITTED_SHARED (UINT64_C(1) << 23)
#define RING_RECORDS_SHIFT 24
#define RING_TAG_SHIFT 48

struct ring_block {
	/* Of the lease. W: the resetter (word says so), but for consumed. R: anyone; then the word again. */
	_Atomic uint64_t base[2];     /* TRUTH. By the lap's parity: records of all earlier laps */
	_Atomic uint64_t ticket;      /* of this lease, counted over the ring */
	_Atomic uint64_t real_offset; /* CLOCK_REALTIME minus the records' clock */
	_Atomic uint32_t incarnation; /* of the word's client */
	_Atomic int32_t pid, tid;     /* its */
	_Atomic uint32_t memory;      /* TRUTH. 1: the block's pages are committed; stays */
	/* TRUTH. Records of this block, all laps, that the consumer is done with. W: the consumer. */
	_Atomic uint64_t consumed;
	uint64_t reserved64;

	/* W: the leasing thread at each record, plain stores; the resetter. R: readers, the resetter. */
	_Atomic uint64_t committed; /* TRUTH: what of the block is valid */
	_Atomic uint32_t busy;	    /* a record of a time already read is not committed yet */
	_Atomic uint32_t close;	    /* W: 1, anyone who misses blocks; honoured at the next record */
	_Atomic uint32_t extents;   /* INDEX: a large record may be in it. W: before the record, 1 */
	uint32_t reserved32;
	uint64_t reserved[5];
};
_Static_assert(sizeof(struct ring_block) == 128, "ring block");

/* A record in a block, 8-byte aligned, its payload behind it. W: the lease's owner, before committed. */
struct ring_record {
	uint32_t info;	  /* payload bytes 0-20 | level 21-23 | large 24: payload is a ring_reference |
			   * fields 25: it is structured, see fields.h */
	uint32_t dropped; /* how many of the thread's records before this one found no room, in a row; they have
			   * taken their numbers. At most 2^32 - 1 */
	uint64_t time; /* of the order; ring_block.real_offset makes it CLOCK_REALTIME */
	uint64_t seq;  /* of the writing thread, from 1 */
};
_Static_assert(sizeof(struct ring_record) == 24, "ring record");
#define RING_INFO_LENGTH_BITS 21
#define RING_INFO_LEVEL_SHIFT 21
#define RING_INFO_LARGE (1u << 24)
#define RING_INFO_FIELDS (1u << 25)
#define RING_INFO_BITS 26

/* In a shared block the writer precedes the record. */
struct ring_author {
	int32_t pid, tid;
};
_Static_assert(sizeof(struct ring_author) == 8, "ring author");

/*
 * Slot of a shared block: state 0-2 | client 4-15 | units of 16 bytes 16-32 | lap's low bits 33-63.
 * TRUTH. A slot with an earlier lap's bits is free. Taken in order: a record begins where the one of the
 * slot before ends. W: free -> claimed or closed: compare-and-swap by anyone; then its client, or that
 * client's recoverer; done -> consumed: the consumer.
 */
enum ring_slot_state {
	RING_SLOT_CLAIMED = 1,	/* being written */
	RING_SLOT_RESERVED = 2, /* an open reserve */
	RING_SLOT_DONE = 3,
	RING_SLOT_CONSUMED = 4,
	RING_SLOT_DEAD = 5,  /* aborted, or its writer died */
	RING_SLOT_CLOSED = 6 /* no slot from here on is ever claimed in this lap */
};
#define RING_SLOT_CLIENT_SHIFT 4
#define RING_SLOT_UNITS_SHIFT 16
#define RING_SLOT_UNITS_BITS 17
#define RING_SLOT_LAP_SHIFT 33

/* Payload of a large record: the extent that holds the real one. */
struct ring_reference {
	uint32_t page;
	uint32_t pages;
	uint32_t gen; /* of the page map entry */
	uint32_t reserved;
};
_Static_assert(sizeof(struct ring_reference) == 16, "ring reference");

/* Such an extent (PAGE_LOG) begins with the place of its record. W: its writer, while raw. */
struct ring_extent {
	uint32_t block, lap;
	uint32_t position; /* of the ring_reference in the block */
	uint32_t slot;	   /* in a shared block, + 1 */
	uint64_t reserved[6];
};
_Static_assert(sizeof(struct ring_extent) == 64, "ring extent");

/* Where the line of time is at the beginning of an epoch. W: both words by one compare-and-swap, anyone; once for
 * an epoch. R: anyone: epoch, ns, epoch again; compared to the system's clock before it is gone by. */
struct clock_point {
	_Alignas(16) _Atomic uint64_t epoch;
	_Atomic uint64_t ns;
};
_Static_assert(sizeof(struct clock_point) == 16, "clock point");
#define CLOCK_EPOCH_SHIFT 28 /* ticks of the processor's counter an epoch: some 100 ms */
#define CLOCK_POINTS 8u

struct ring_header {
	/* Constant. W: the creator. R: anyone, checked against the area's size at each use. */
	uint32_t magic;
	uint32_t block_shift;
	uint32_t blocks;
	uint32_t reserved32;
	uint64_t created; /* in the records' clock */

	_Alignas(64) _Atomic uint64_t cursor; /* INDEX: the block to try next is this modulo blocks */
	_Atomic uint32_t shared;	      /* INDEX: block shared last, + 1 */
	_Atomic uint64_t real_offset;	      /* of new leases; changed when the clock was set */
	_Alignas(64) _Atomic uint64_t tickets; /* leases given; grows before the block opens */
	/* TRUTH. Records dropped under SHMA_LOG_DROP. W: fetch_add by the writers, just before they say
	 * so. Crash: between the two the caller never learns what it was told. */
	_Alignas(64) _Atomic uint64_t dropped;
	/* TRUTH: client 0-11 | tid 12-43, 0: none. W: 0 -> consumer by compare-and-swap; back by it or by
	 * its client's recoverer. */
	_Alignas(64) _Atomic uint64_t consumer;
	/* The records' clock, see clock.h: by epoch; … */
	_Alignas(64) struct clock_point points[CLOCK_POINTS];
	struct clock_point reference; /* … counter and time some seconds ago, likewise; … */
	_Atomic uint64_t epoch_ns;    /* … nanoseconds an epoch since then. 0: not measured. W: anyone */
};
_Static_assert(sizeof(struct ring_header) <= PAGE_SIZE, "ring header");

/* A page of its own: readers that map all else read-only may have it writable. All hints: a wrong value
 * costs a wake-up too many, or one late by the longest sleep. */
struct ring_bell {
	_Atomic uint32_t armed;	  /* W: a token by a reader about to sleep; 0 by the writer that woke it */
	_Atomic uint32_t blind;	  /* W: 1 by a writer without membarrier: readers poll, for good */
	uint32_t reserved[14];
	_Atomic uint32_t rings;	  /* futex of readers. W: fetch_add by writers */
	_Atomic uint32_t tokens;  /* W: fetch_add by readers */
	uint32_t reserved2[14];
	_Atomic uint32_t waiting; /* W: 1 by a writer about to wait for room; 0 by the consumer */
	_Atomic uint32_t room;	  /* futex of writers. W: fetch_add by the consumer */
};
_Static_assert(sizeof(struct ring_bell) <= PAGE_SIZE, "ring bell");

/* One nesting level of a thread. W: the thread; the taken word first, so that a signal handler that comes
 * later uses another level. R: nobody else; what it says of the block is checked before each use. */
struct ring_level {
	uint64_t committed; /* as the block's committed word */
	uint64_t head;	    /* file offset of its struct ring_block; 0: no lease */
	uint64_t data;	    /* file offset of its bytes */
	uint32_t end;	    /* of its bytes */
	uint32_t inline_max; /* longer records go to extents */
	uint64_t word;	     /* the block word of the lease */
	uint32_t block;
	uint32_t taken;	     /* a record is being written, or a reserve is open */
	uint32_t reserved;   /* an open reserve: its length + 1 */
	uint32_t extent_pages; /* of large records in the block */
	uint32_t share;	       /* records that go to shared blocks before the next try to lease */
	uint32_t extent;       /* an open reserve: page of its extent + 1 */
};
_Static_assert(sizeof(struct ring_level) == 64, "ring level");

/* From counter to time, during one epoch. Each thread's and reader's own, see clock.h. */
struct clock_line {
	uint64_t epoch; /* counter >> CLOCK_EPOCH_SHIFT; or one that never comes */
	uint64_t ns;	/* at its beginning */
	uint64_t slope; /* nanoseconds in all of it */
};

/* A thread's place in the ring. W: the thread (and its signal handlers, by level). */
struct ring_writer {
	uint64_t last;	       /* number of the last record << 1 | it was dropped */
	uint64_t dropped_from; /* if it was: the first of those dropped in a row. Set before last, and grows */
	uint64_t full_until;   /* in the records' clock: until then the ring is taken to be full … */
	uint32_t full_room;    /* … if ring_bell.room is still this */
	uint32_t clock;	       /* enum clock_way: how its records are timed */
	uint64_t coarse;       /* time of the last record that was timed coarsely; grows */
	struct clock_line line; /* of others */
	struct ring_level levels[RING_LEVELS];
	uint64_t reserved2[8];
};
_Static_assert(sizeof(struct ring_writer) == 384, "ring writer");

/* ---- temporary memory of a thread, see stack.h ---- */

#define STACK_STEP_BITS 12 /* a region in steps of 16 bytes: the low bits of a handle into it */

/* Before each object, 16 bytes. The objects of a region follow each other without a gap, up to its next.
 * W: its thread, before it raises next; the mark of being freed: any thread of its client. R: anyone. */
struct stack_object {
	_Atomic uint64_t handle; /* its own: what else lies there is no object's beginning */
	_Atomic uint64_t steps;	 /* TRUTH. From it to where the next one will start; flags above bit 31 */
};
#define STACK_FREED (UINT64_C(1) << 32) /* given back before its time: no handle leads there */
#define STACK_KEPT  (UINT64_C(1) << 33) /* a note of an object of the heap, see struct stack_note */

/* PAGE_STACK: an extent of one whole region begins with this. W: its thread. */
struct stack_region {
	/* TRUTH. The handle of the object to be given next: its place bounds what is live, its generation is that of
	 * what is given out until the next reset. R: anyone. */
	_Atomic uint64_t next;
	_Atomic uint64_t high; /* INDEX. Steps: the most in use before a reset. R: statistics */
	uint64_t last;	  /* INDEX. Handle of the newest object: what marks are */
	uint64_t kept;	  /* step of the newest note in this region; 0: none */
	uint64_t below;	  /* page of the region under this one + 1; 0: it is the lowest */
	_Atomic uint64_t base; /* bytes in use in all regions below. R: statistics */
	uint32_t number;  /* regions below */
	uint32_t thread;  /* index of its thread word */
	uint64_t reserved;
	/* TRUTH. 1 for each step at which an object starts: where a larger one lies on what was reset, the handles of that
	 * still stand in it. Bytes, since with bits each store would wait for the one before. R: anyone. */
	_Atomic uint8_t starts[1u << STACK_STEP_BITS];
	struct stack_object bottom; /* an object of no bytes */
};
_Static_assert(sizeof(struct stack_object) == 16 && sizeof(struct stack_region) == 4176, "stack region");
_Static_assert(REGION_PAGES * PAGE_SIZE == 16u << STACK_STEP_BITS, "a region's steps");

/* An object of no more than this tells of one in the heap that did not fit, to be freed with it. */
struct stack_note {
	uint64_t handle; /* of the heap's object */
	uint64_t before; /* step of the note before this one; 0: none */
};

/* One page a thread, RAW_THREAD. */
struct thread_block {
	int32_t tid;
	uint32_t index;	    /* its thread word */
	uint32_t own;	    /* state word of an object private to this client, generation 0 */
	uint32_t gen_step;  /* odd, differs by thread: generation << 16 is added at each free */
	uint64_t handle_step; /* the same where a handle has its generation */
	_Atomic uint64_t cached_bytes; /* sum over caches of limit x size; index */
	uint32_t home_zone;
	uint32_t steal_next;  /* the cache to be asked next for some of its share */
	uint32_t shrink_seen; /* of client_record.shrink */
	uint32_t slow_calls;  /* refills and flushes; now and then one looks whether to grow */
	_Atomic int64_t owned_bytes; /* of the client, by this thread: a part of client_record's sum */
	uint32_t ticks; /* slow allocations; now and then one looks whether some client has died */
	uint32_t owned_high; /* KiB: the most that owned_bytes was since caches were last asked to shrink */
	/* Where other threads' slabs are met in looking for one to draw from: the region at which to look next,
	 * + 1; else 0. */
	uint32_t crowd;
	uint32_t owed_client; /* whose record has not been told yet, see quota.h; 0: none … */
	int64_t owed_bytes;   /* … of objects that this thread has freed, and were that client's */
	struct persist_intent intent;
	uint32_t left[2]; /* empty slabs that were left to their drawers last: head page + 1 */
	_Alignas(64) struct ring_writer ring;
	struct cache caches[CACHES];
};
_Static_assert(sizeof(struct thread_block) <= PAGE_SIZE, "thread block");

/* ---- debug arenas, see debug.h ---- */

enum debug_mode { DEBUG_OFF = 0, DEBUG_FULL = 1, DEBUG_SAMPLED = 2, DEBUG_MODES };

#define DEBUG_WHERE_BYTES 40u

/* One call: when, by whom, from where. */
struct debug_point {
	uint64_t ns; /* CLOCK_REALTIME; 0: there was no such call */
	int32_t pid, tid;
	uint32_t site; /* 1 + the number of its call stack among the profile's; 0: none is kept */
	uint32_t reserved;
	char where[DEBUG_WHERE_BYTES]; /* file:line, or module+offset; NUL-padded */
};
_Static_assert(sizeof(struct debug_point) == 64, "debug point");

/*
 * Where a watched object begins; its user's bytes come `front` bytes later. INDEX over the state word, which says
 * whether it is live. W: its allocator before anybody else knows the handle; who has freed it, while that is its own.
 * R: anyone, by copying: believed if the sum is right, for what it is worth.
 */
struct debug_head {
	uint64_t sum;	/* of all below up to zone, and of where it lies */
	uint64_t size;	/* what was asked for */
	uint32_t front; /* bytes from here to the user's */
	uint32_t gen;	/* of the object's handle */
	uint32_t freed; /* 0: live; else 1 | the generation that its place bears since << 16 */
	uint32_t reserved;
	struct debug_point allocated, released;
	unsigned char zone[32]; /* red zone, on to the user's bytes */
};
_Static_assert(sizeof(struct debug_head) == 192, "debug head");

enum debug_what {
	DEBUG_NOTHING = 0,
	DEBUG_DOUBLE_FREE = 1,
	DEBUG_USE_AFTER_FREE = 2, /* by a stale handle */
	DEBUG_OVERRUN = 3,	  /* written behind the end … */
	DEBUG_UNDERRUN = 4,	  /* … or before the beginning: found at free */
	DEBUG_WRITTEN = 5,	  /* written after it was freed: found when its place left quarantine, or later */
	DEBUG_HEAD = 6,		  /* its head was overwritten: found at free */
	DEBUG_WHATS
};

/* What was found. W: who found it, once, the ticket last; count: fetch_add by who finds the same again. R: anyone. */
struct debug_report {
	_Atomic uint64_t ticket; /* TRUTH. From 1; 0: empty, or being written */
	_Atomic uint32_t count;	 /* times */
	uint32_t what;
	uint64_t sum; /* of all below */
	uint64_t handle;
	uint64_t size;	/* of the object; 0: not known */
	int64_t at;	/* the wrong byte, from the object's first */
	uint32_t bytes; /* so many are wrong; 0: that is not what it is about */
	uint32_t call;	/* enum debug_call */
	uint64_t reserved;
	struct debug_point allocated, released, found;
};
_Static_assert(sizeof(struct debug_report) == 256, "debug report");

#define DEBUG_REPORTS 127u

/* An area of its own, for all its life; has memory if the arena is a debug arena of either form. */
struct debug_area {
	_Atomic uint64_t tickets; /* reports ever made. W: fetch_add. The last DEBUG_REPORTS of them are kept */
	uint64_t reserved[31];
	struct debug_report reports[DEBUG_REPORTS];
};
_Static_assert(sizeof(struct debug_area) % PAGE_SIZE == 0, "debug area");

/* ---- names ---- */

enum name_state {
	NAME_FREE = 0,
	NAME_RESERVED = 1,     /* entry being written by its client */
	NAME_CLAIMED = 2,      /* complete; a rival claimant of the same name may abort it */
	NAME_ABORTED = 3,      /* its client frees it */
	NAME_COMMITTED = 4,    /* the only one of its name; the object is being published */
	NAME_LIVE = 5,
	NAME_UNPUBLISHING = 6, /* by its client */
};
/* Name word: state 0-3 | client 4-15 | change count 16-31 | hash of the name 32-63. TRUTH.
 * W: compare-and-swap; the client named in it, or that client's recoverer. */
#define NAME_CLIENT_SHIFT 4
#define NAME_CHANGE_SHIFT 16
#define NAME_HASH_SHIFT 32

struct name_entry {
	_Atomic uint64_t handle; /* TRUTH. W: the client that reserved it. R: anyone, then the word again */
	char name[NAME_BYTES];
	uint64_t reserved[3];
};
_Static_assert(sizeof(struct name_entry) == 128, "name entry");

/* ---- holds: objects that several clients keep alive, see hold.h ---- */

enum hold_state {
	HOLD_FREE = 0,
	HOLD_NEW = 1,	   /* being written by its client; no object says so yet */
	HOLD_LIVE = 2,	   /* its object is held by those who have a slot */
	HOLD_DYING = 3,	   /* somebody saw no slot taken: to be looked at once more, by anyone */
	HOLD_ENDING = 4,   /* nobody holds the object, which its client frees */
	HOLD_ADDING = 5,   /* its client makes it an extension; linked perhaps */
	HOLD_EXTENSION = 6, /* more slots of a record, for the arena's life */
	HOLD_STATES
};
/* Head word: state 0-3 | client 4-15 | version 16-63, grows with every change. TRUTH.
 * W: compare-and-swap; new, ending and adding ones their client alone, or that client's recoverer. */
#define HOLD_CLIENT_SHIFT 4
#define HOLD_VERSION_SHIFT 16

#define HOLD_SLOTS 11u
/* Slot: client 0-11, 0: empty | how often it holds the object 12-31. TRUTH. W: empty -> a client's by
 * compare-and-swap; then this client's threads, by compare-and-swap, or its recoverer. A client may have two. */
#define HOLD_COUNT_SHIFT 12
#define HOLD_COUNT_MAX ((1u << 20) - 1)

struct hold_record {
	_Atomic uint64_t head;
	/* Of the object; of an extension: the number of the record that it extends. W: the head's client, while new
	 * or adding. R: anyone, then the head again. */
	_Atomic uint64_t handle;
	_Atomic uint32_t next; /* TRUTH. The next extension's place seen from this record's page, + 1; 0: none.
				* W: compare-and-swap 0 -> place, once for the arena's life */
	_Atomic uint32_t slots[HOLD_SLOTS];
};
_Static_assert(sizeof(struct hold_record) == 64, "hold record");

/*
 * Records lie in a table of one page for each region of the heap, which has memory where its bit among the hold
 * bits is set (TRUTH in one direction: set after its fallocate, fetch_or, by anyone). A place is 12 bits, as the client
 * field of a held object's state word has: record 0-5 of a page, which of 64 pages 6-11: the region's own, then
 * others, see hold_place(). The mark of a region covers the records in its page as well.
 */
#define HOLD_PAGE_RECORDS 64u
#define HOLD_PLACES 4096u

/* ---- profile: which calls live memory comes from, see profile.h. INDEX, all of it: nothing else rests on it ---- */

/*
 * The profile's area, from arena_geometry.profile on; its memory is taken when a profile is first asked for:
 *
 *   profile header | modules | sites | samples
 *
 * Each entry begins with its word: state 0-1 | client 4-15 | incarnation, low bits 16-31 | change count 32-63.
 * W: free or (of a sample) ready or (of any) busy with a client that is no more -> busy with us:
 * compare-and-swap; then we alone write the rest, and last ready. R: anyone, the word before and after.
 */
#define PROFILE_MAGIC 0x464f5250u
#define PROFILE_MODULES 256u
#define PROFILE_SITES 4096u
#define PROFILE_SAMPLES 32768u
#define PROFILE_FRAMES 27u
#define PROFILE_PATH_BYTES 208u
#define PROFILE_LATENCIES 320u /* eight to a doubling of nanoseconds */

enum profile_state { PROFILE_FREE = 0, PROFILE_BUSY = 1, PROFILE_READY = 2 };
#define PROFILE_CLIENT_SHIFT 4
#define PROFILE_INCARNATION_SHIFT 16
#define PROFILE_CHANGE_SHIFT 32

/* A program or library that a call came through. Stays. */
struct profile_module {
	_Atomic uint64_t word;
	uint32_t id_bytes;
	uint8_t id[20]; /* build-id */
	char path[PROFILE_PATH_BYTES];
	uint64_t reserved[2];
};
_Static_assert(sizeof(struct profile_module) == 256, "profile module");

/* A stack of calls. Stays. */
struct profile_site {
	_Atomic uint64_t word;
	uint64_t hash; /* of the frames */
	_Atomic uint64_t samples;
	_Atomic uint64_t bytes; /* estimated, of all that was ever allocated there. W: fetch_add */
	uint32_t count;
	uint32_t reserved;
	/* Innermost first: module + 1 at 48-63, 0: unknown | offset in it 0-47. */
	uint64_t frames[PROFILE_FRAMES];
};
_Static_assert(sizeof(struct profile_site) == 256, "profile site");

/* An object that was sampled; live as long as its handle is. */
struct profile_sample {
	_Atomic uint64_t word; /* client and incarnation: the object's, at allocation */
	_Atomic uint64_t handle;
	_Atomic uint64_t size;
	_Atomic uint64_t rate; /* mean bytes from one sample to the next, when it was taken */
	_Atomic uint64_t time_ns; /* CLOCK_REALTIME */
	_Atomic uint32_t site;
	_Atomic int32_t pid;
	uint64_t reserved[2];
};
_Static_assert(sizeof(struct profile_sample) == 64, "profile sample");

/* What was allocated of a size class, estimated from samples; counted, how often a thread's cache was empty then, and
 * what it was filled with. W: fetch_add, anyone. */
struct profile_class {
	_Atomic uint64_t objects_1024; /* objects x 1,024 */
	_Atomic uint64_t bytes;
	_Atomic uint64_t refills;
	_Atomic uint64_t refilled; /* objects */
};

struct profile_header {
	uint32_t magic; /* W: who took the area's memory, before arena_header.profile_ready */
	uint32_t reserved;
	_Atomic uint64_t since_ns; /* CLOCK_REALTIME, when it was switched on last */
	/* W: fetch_add, anyone. Crash: one that is killed before is not counted. */
	_Atomic uint64_t samples, lost_samples, lost_sites, lost_modules;
	_Atomic uint64_t timed; /* calls in latencies */
	struct profile_class classes[CLASSES + 1]; /* the last: of no class */
	_Atomic uint64_t latencies[PROFILE_LATENCIES]; /* of shma_alloc() and its like, sampled */
};
_Static_assert(sizeof(struct profile_header) <= 2 * PAGE_SIZE, "profile header");

/* ---- header ---- */

/* Where everything is. W: the creator, before the file gets its name. R: anyone, checked at open. */
struct arena_geometry {
	uint64_t capacity; /* bytes of heap */
	uint64_t zone_pages;
	uint64_t zone_count;
	uint64_t client_words;
	uint64_t thread_words;
	uint64_t name_words;
	uint64_t zones;
	uint64_t class_hints;	   /* HINT_ROWS x a bit a zone. INDEX. W: anyone (fetch_or, fetch_and) */
	uint64_t class_hint_words; /* 64-bit words a row */
	uint64_t hold_bits; /* a bit a page of the table of hold records */
	uint64_t name_entries;
	uint64_t zone_indexes;
	uint64_t zone_index_size;
	uint64_t page_map;
	uint64_t client_areas;
	uint64_t client_area_size;
	uint64_t holds; /* a page a region */
	uint64_t profile;
	uint64_t ring;
	uint64_t ring_size;
	uint64_t debug;
	uint64_t heap;
	uint64_t file_size;
};

enum arena_backing { BACKING_POSIX = 0, BACKING_MEMFD = 1, BACKING_HUGETLB = 2, BACKING_FILE = 3 };

struct arena_header {
	/* Constant. W: the creator. */
	char magic[8];
	uint32_t version;
	uint32_t endian;
	uint32_t header_size;
	uint32_t backing;
	uint8_t uuid[16];
	uint64_t created_ns;
	uint64_t pidns_dev, pidns_ino; /* of the only pid namespace whose threads may take the locks */
	char name[ARENA_NAME_BYTES];
	struct arena_geometry geometry;
	uint32_t tag; /* of handles, 1..255 */
	uint32_t log_policy_at_creation;
	uint64_t client_quota; /* bytes; 0: none */
	uint32_t numa_mode, huge_mode;
	uint64_t numa_nodes;
	uint32_t debug_mode;  /* enum debug_mode */
	uint32_t debug_every; /* sampled: about one allocation in so many is watched */
	uint64_t checksum; /* of all above, itself 0 */

	/* Changing. */
	_Alignas(64) _Atomic uint32_t active_zones; /* TRUTH. W: compare-and-swap n -> n + 1, once the
						     * zone's index and page map are committed */
	_Atomic uint32_t threads_high; /* INDEX. W: maximum, compare-and-swap. Thread words in use lie below */
	_Atomic uint32_t damaged;      /* set once something was found that truth forbids; never cleared */
	_Atomic uint32_t clients_high; /* INDEX, likewise */
	_Atomic uint64_t name_changes; /* counts; hint for followers */
	_Atomic uint32_t reap_cursor;  /* next client to be asked for its life; hint */
	_Atomic uint32_t log_policy;   /* W: anyone allowed to write, live */
	_Atomic uint32_t log_clock;    /* likewise */
	uint32_t reserved32;
	/* INDEX. W: maximum, compare-and-swap, by threads that give regions of theirs back. Bytes of temporary memory: the
	 * most that a thread had in use at a time. Living ones' is in their regions. */
	_Atomic uint64_t stack_high;
	/* W: the creator; then who first opens a file arena after a boot, under a lock on the file. */
	_Atomic uint64_t boot_id[2];
	/* Mean bytes from one sampled allocation to the next; 0: none is sampled. W: anyone allowed to write, live */
	_Atomic uint64_t profile_rate;
	_Atomic uint64_t profile_ready; /* 1: the profile's area has memory; stays. W: who took it */
};
_Static_assert(sizeof(struct arena_header) <= PAGE_SIZE, "arena header");

#endif
