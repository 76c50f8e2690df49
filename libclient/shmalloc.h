/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shmalloc.h - shared memory that survives kill -9.
 *
 * Processes attach to an arena, allocate objects in it, pass them to one another as 64-bit handles,
 * and write log records into the arena's ring. Whatever one of them held when it died returns to
 * the arena; whatever was persistent, published or committed to the log stays.
 *
 * Conventions, unless a call says otherwise:
 *  - sizes and offsets are bytes, times are nanoseconds;
 *  - calls that return int give 0 (or a count) or -errno; calls that return a handle or a pointer
 *    give SHMA_NULL or NULL and set errno;
 *  - every call is safe from several threads; none is async-signal-safe but the calls that write to the
 *    log, see shma_log();
 *  - after fork() the child is a new client: it owns nothing, and its first call claims a client
 *    slot of its own. After exec() the process counts as dead and its objects are returned;
 *  - nothing here prints, exits, aborts or waits without bound for another process, running,
 *    stopped or dead; only SHMA_LOG_BLOCK writers and shma_reader_next() wait, as they were told.
 */
#ifndef SHMALLOC_H
#define SHMALLOC_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHMA_API __attribute__((visibility("default")))

/* One process's attachment to one arena. Opening the same arena twice gives the same attachment. */
typedef struct shma shma;

/* An object, by arena tag, generation and offset: the same value in every process. */
typedef uint64_t shma_handle;
#define SHMA_NULL ((shma_handle)0)

/* shma_open() flags */
#define SHMA_CREATE   0x01u /* create the arena if it does not exist */
#define SHMA_EXCL     0x02u /* with SHMA_CREATE: -EEXIST if it does */
#define SHMA_RDONLY   0x04u /* read objects and log only; takes no client slot */
#define SHMA_EMBEDDED 0x08u /* no daemon: open or create the arena's file directly */

/* What a log writer meets when the ring is full, that is when its consumer has not read on. */
enum {
	SHMA_LOG_OVERWRITE = 0, /* the oldest records go, and are counted as lost */
	SHMA_LOG_DROP = 1,      /* the new record goes, and is counted as lost: -EAGAIN */
	SHMA_LOG_BLOCK = 2      /* the writer waits for the consumer */
};

/* How log records are timed. */
enum {
	SHMA_LOG_EXACT = 0, /* to the nanosecond */
	SHMA_LOG_COARSE = 1 /* by the kernel's last tick, at most 1 to 10 ms ago, each of a thread's records
			     * later than the one before: cheaper */
};

/* What is watched, see shma_debug_report(). */
enum {
	SHMA_DEBUG_OFF = 0,
	SHMA_DEBUG_FULL = 1,   /* every object */
	SHMA_DEBUG_SAMPLED = 2 /* one allocation in so many */
};

struct shma_options {
	size_t struct_size;    /* sizeof(struct shma_options) */
	uint64_t capacity;     /* bytes, 16 MiB to 16 TiB; 0: 1 GiB. Sparse: only what is used is taken */
	uint64_t log_capacity; /* bytes; 0: 4 MiB */
	uint64_t client_quota; /* bytes one client may own; 0: no limit */
	int log_policy;        /* SHMA_LOG_... */
	unsigned mode;         /* permission bits of the arena's file; 0: 0600 */
	const char *socket;    /* the daemon's; NULL: $SHMALLOC_SOCKET, else the default */
	int log_clock;         /* SHMA_LOG_EXACT, SHMA_LOG_COARSE */
	int debug;             /* SHMA_DEBUG_...: of a new arena, for its life */
	uint32_t debug_every;  /* SHMA_DEBUG_SAMPLED: one allocation in so many; 0: 5000 */
};

/*
 * Attaches to an arena. A name holds letters, digits, '.', '_' and '-', at most 63; with
 * SHMA_EMBEDDED a name with a '/' is the path of a file arena.
 * -ENOENT, -EEXIST, -EACCES, -EINVAL, -EPROTO (made by another version), -EXDEV (made in another
 * pid namespace), -ENOSPC (no room in /dev/shm), -EFBIG (a resource limit is below the arena's size),
 * -EUSERS (all client slots taken), -EUCLEAN (not an arena, or a damaged one), -ETIMEDOUT (the
 * daemon was silent for 2 s), -ECONNREFUSED or -ENOENT (no daemon), -EOWNERDEAD (a memfd arena that
 * went with an earlier daemon).
 */
SHMA_API int shma_open(shma **ret, const char *arena, unsigned flags, const struct shma_options *opt);
/* Detaches. Live objects stay owned by the process until it ends. Pointers into it become invalid. */
SHMA_API int shma_close(shma *a);

/* shma_alloc() flags */
#define SHMA_ZERO    0x01u /* filled with zeros */
#define SHMA_SHARED  0x02u /* others may take and free it */
#define SHMA_PERSIST 0x04u /* outlives its owner; implies shared */
#define SHMA_TEMP    0x08u /* hint: short-lived. In a SHMA_STACK_SCOPE of the thread it goes at its end, see there */
#define SHMA_LARGE   0x10u /* hint: whole pages, whatever the size; large pages if the arena has any */
/* Alignment in bytes: a power of two up to 2 MiB. */
#define SHMA_ALIGN(bytes) ((unsigned)__builtin_ctzll(bytes) << 8)

/*
 * Where memory comes from, and what an object takes for both of alloc and free, in ns of one thread, with its size (see
 * libclient/README.md for how that was measured):
 *                                                                          64 B   4 KiB  1 MiB
 *   no flags, SHMA_TEMP       to 1 MiB the thread's cache, filled from
 *                             slabs; where no class serves, and above, pages  6.3    6.1    313
 *   SHMA_ZERO                 the same, filled                                 18     83 40,000
 *   SHMA_SHARED               the same, and offered                            14     14    322
 *   SHMA_PERSIST              the same, the arena's                            49     44    351
 *   SHMA_ALIGN(4096)          a class whose objects are aligned so, or pages  181     17    315
 *   SHMA_LARGE                pages of its own; from 2 MiB on they begin with
 *                             a large page in an arena of such                126    125    163
 *   SHMA_TEMP in a scope      the thread's stack                              5.7    9.0    336
 *   shma_stack_alloc()        the same, 64 of them and a reset                2.6
 *   shma_log_write()          the log ring, a record each                      23    194 42,000
 */

/*
 * A new object of at least size bytes, 16-byte aligned, owned by this process and private to it.
 * ENOMEM (arena or /dev/shm full), EDQUOT (client quota), EINVAL (size 0 or above the capacity, bad
 * alignment), EROFS (attached read-only), EUSERS (all client or thread slots taken).
 */
SHMA_API shma_handle shma_alloc(shma *a, size_t size, unsigned flags);
/* -ESTALE: already freed; -EPERM: another's private object; -EBUSY: published; -EINVAL: not a handle
 * of this arena; -EROFS. */
SHMA_API int shma_free(shma *a, shma_handle h);
/* What SHMA_SHARED does at allocation; a persistent or shared object stays as it is. */
SHMA_API int shma_share(shma *a, shma_handle h);
/* May move; the old handle is stale if it did, and the object untouched if the call fails. */
SHMA_API shma_handle shma_resize(shma *a, shma_handle h, size_t size);
/* Checked: bounds, liveness, generation; NULL with ESTALE or EINVAL. Valid until the object is freed. */
SHMA_API void *shma_ptr(shma *a, shma_handle h);
/* The handle of an object that the caller knows to be live, from the pointer to its start. */
SHMA_API shma_handle shma_handle_of(shma *a, const void *start);
/* Both of shma_alloc() and shma_ptr(): the pointer, and in *h, unless h is NULL, the handle. For objects that
 * the caller uses by pointer; errors as shma_alloc(). */
SHMA_API void *shma_alloc_ptr(shma *a, size_t size, unsigned flags, shma_handle *h);
/* Both of shma_handle_of() and shma_free(), of an object that the caller knows to be live: unlike a handle, a
 * pointer does not tell a second free from a first one. As with free(), whoever frees twice may get one
 * place for two objects, or another's. */
SHMA_API int shma_free_ptr(shma *a, void *start);
/* Copies up to len bytes from offset on, then checks the handle again: safe on objects of others,
 * whoever dies or frees meanwhile. Bytes copied (0 at and beyond the end), -ESTALE, -EINVAL; never a
 * fault. */
SHMA_API ssize_t shma_read(shma *a, shma_handle h, size_t offset, void *to, size_t len);
/* Usable bytes; 0 with errno. */
SHMA_API size_t shma_size(shma *a, shma_handle h);
/* The caller becomes the owner of a shared or persistent object, which is private again. Of several
 * takers of one offer exactly one wins: -EBUSY taken (by another or by the caller) or published,
 * -ESTALE freed, -EPERM private and never offered. */
SHMA_API int shma_take(shma *a, shma_handle h);
/* The caller's object outlives it, and its handle stands in *cell, which lies in a live persistent or
 * published object: both or neither, whenever the caller dies. -EINVAL: the cell does not. */
SHMA_API int shma_persist(shma *a, shma_handle h, shma_handle *cell);
/* A named root, all or nothing: the object outlives its owner. One name an object; at most 95 bytes
 * a name. -EEXIST, -EPERM, -EBUSY (object has a name), -ENOSPC (all names taken), -ENAMETOOLONG. */
SHMA_API int shma_publish(shma *a, const char *name, shma_handle h);
SHMA_API shma_handle shma_lookup(shma *a, const char *name); /* ENOENT */
/* Ownership returns to the caller; the object is private to it. -ENOENT, -EBUSY (another call is at
 * work on this name). */
SHMA_API int shma_unpublish(shma *a, const char *name);

/*
 * Shared holds: several processes keep one object alive. The owner begins: its first shma_retain() turns what it
 * owned, private or on offer, into a hold, its first, and the object is the arena's. From then on any process that
 * has the handle may hold it, as often as it likes, and each hold is given back by one shma_release() of the same
 * process, by whichever thread. The object is freed when the last hold goes: by a release, or because its process
 * died. Who passes the handle on releases its own hold once the receiver has one. A forked child has none of its parent's.
 *
 * While it is held shma_ptr(), shma_read() and shma_size() work for everybody; shma_free(), shma_share(),
 * shma_take(), shma_persist(), shma_publish() and shma_resize() give -EBUSY, also to who holds it alone. It counts for
 * no client's quota.
 *
 * -ESTALE: freed, or nobody holds it any more; -EPERM: another's, who has not begun to hold it, or persistent (then
 * shma_take() it first); -EBUSY: published; -EOVERFLOW: the process holds it 1,048,575 times; -ENOSPC: no hold record is
 * left, of which there are 64 for each 64 KiB of capacity; -ENOMEM, -EROFS, -EUSERS, -EINVAL.
 */
SHMA_API int shma_retain(shma *a, shma_handle h);
/* -EPERM: this process does not hold it; -ESTALE, -EINVAL, -EROFS. Never fails for want of memory. */
SHMA_API int shma_release(shma *a, shma_handle h);

/* ---- temporary memory of a thread ---- */

/*
 * Each thread has a stack in the arena, of regions of 64 KiB: memory that is given out from the top and goes back by a
 * reset to a mark, all at once. 16-byte aligned, contents undefined; an object takes 16 bytes more. Its handle can be
 * passed to others: shma_ptr(), shma_read() and shma_size() of any process take it, and say ESTALE once it was reset, or
 * its thread or process is gone. (Of another thread's memory each costs some system calls.) Besides, only shma_free()
 * takes it, in the owner's process: the handle is stale from then on, the place goes with the reset. Sharing, taking,
 * resizing, publishing, persisting and packing are -EPERM.
 *
 * What no region has room for is an object of the heap, private to the process, and freed by the reset as well: more
 * than 16 KiB where the region in use is too full, all above 57 KiB, and what is beyond 16 MiB or a sixteenth of the
 * arena in all.
 *
 * A thread's end gives all of it back, and so does its process's death. A forked child has none of it: its parent's
 * marks mean nothing there. None of these calls may be made in a signal handler: it may have come between the two halves
 * of the same call. A program that writes beyond an object spoils its neighbour, which `arena check` tells.
 */

/* A place on the stack of the thread that asked for it. */
typedef uint64_t shma_mark;

/* 0 with errno, which is no mark: EROFS, EUSERS, ENOMEM. */
SHMA_API shma_mark shma_stack_mark(shma *a);
/* ENOMEM, EDQUOT, EINVAL (size 0 or above the capacity), EROFS, EUSERS. */
SHMA_API shma_handle shma_stack_alloc(shma *a, size_t size);
/* By pointer, and in *h, unless h is NULL, the handle. */
SHMA_API void *shma_stack_alloc_ptr(shma *a, size_t size, shma_handle *h);
/* All that this thread was given since the mark goes back; the mark can be used again. Nothing happens, but errno is
 * set, if it is no mark of this thread (EINVAL), or a reset to an earlier one has made it void (ESTALE). */
SHMA_API void shma_stack_reset(shma *a, shma_mark mark);

/*
 *     SHMA_STACK_SCOPE(a) {
 *             char *text = shma_stack_alloc_ptr(a, 100, NULL);
 *             ...
 *     }
 * What the thread takes in the block goes back at its end, which is every way out of it: return, goto, break and
 * continue too. (The last two leave this block alone, not a loop around it. longjmp() resets nothing: a scope or a reset
 * further out does.) Scopes may be nested.
 *
 * In a scope shma_alloc() takes from here what is asked for with SHMA_TEMP and nothing else but SHMA_ZERO: it may be
 * freed before, in any order, and goes at the end of the innermost scope at the latest. Elsewhere SHMA_TEMP means
 * nothing, between a mark and a reset neither.
 */
#define SHMA_STACK_SCOPE(a) SHMA_STACK_SCOPE_(a, __COUNTER__)
#define SHMA_STACK_SCOPE_(a, n) SHMA_STACK_SCOPE_N_(a, n)
#define SHMA_STACK_SCOPE_N_(a, n)                                                                 \
	for (struct shma_scope shma_scope_##n __attribute__((cleanup(shma_scope_end))) =          \
		     shma_scope_begin(a),                                                         \
		     *shma_once_##n = &shma_scope_##n;                                            \
	     shma_once_##n; shma_once_##n = 0)

/* What SHMA_STACK_SCOPE() is made of. */
struct shma_scope {
	shma *arena;
	shma_mark mark;
	unsigned depth;
};
SHMA_API struct shma_scope shma_scope_begin(shma *a);
SHMA_API void shma_scope_end(struct shma_scope *scope); /* errno stays */

/* ---- packed objects ---- */

/*
 * Compresses an object that is not in use: the packed one's handle takes the place of h, which goes stale, and is the
 * caller's, shared or persistent as h was. level: 0 and below LZ4, the faster and looser the lower; 1 to 22 zstd's
 * levels. It takes whole pages: what would not take one less stays as it is, and h is given back, as it is where the
 * object is packed already, or watched, in a debug arena. Until the call returns nobody may write to the object. Whoever dies in it leaves the one or
 * the other.
 * Of a packed object shma_size() gives the bytes it had, shma_read() reads those (it unpacks the 128 KiB that they lie
 * in), shma_ptr() and shma_resize() give ENODATA; all that is done with ownership and names is done as with any other.
 * ESTALE; EPERM: another's object; EBUSY: published, or held by several; EINVAL: not a handle of this arena, or level;
 * ENOMEM: no room for the packed one beside it; EDQUOT; EROFS. Not for a signal handler; safe after fork().
 */
SHMA_API shma_handle shma_pack(shma *a, shma_handle h, int level);
/* The other way: a plain object of as many bytes, whose handle takes the place of h; h itself if it is plain. Alignment
 * beyond a page is not kept. Errors as shma_pack(), and EUCLEAN: what is packed is damaged; h stays then. */
SHMA_API shma_handle shma_unpack(shma *a, shma_handle h);

/* ---- files ---- */

/*
 * A file as a read-only object that every process reads by its handle: *ret, and in *ret_len, unless ret_len is NULL,
 * its size in bytes, which the object keeps. It is private to the caller, and shared, published, taken and freed like
 * any other, but not resized (EROFS); it takes a page of the arena.
 *
 * Each process opens the file when it first uses the handle, by the path that it had when this was called, with its own
 * rights (EACCES); it must be the same file, of the same size: ESTALE where it was removed, replaced or is of another
 * size now. Who has it open reads on, removed or not. What is written into it is seen, as by any mapping.
 *  - shma_ptr() maps it, read-only: bytes that were cut off since fault there (SIGBUS). The pointer is good until the
 *    object is freed, by this process or as one of its later calls with the handle finds (ESTALE), or the arena closed.
 *  - shma_read() never faults: -EIO if some of what is asked for was cut off since, or the disk fails.
 *  - shma_size() opens nothing.
 * A process keeps at most 1,024 such files open in one arena, ENFILE. A forked child has its parent's.
 *
 * -ENOENT, -EACCES, -EISDIR, -EINVAL (no regular file, or an empty one), -ENAMETOOLONG (above 4,031 bytes
 * resolved), -EMFILE, and those of shma_alloc(). May wait for the file system.
 */
SHMA_API int shma_map_file(shma *a, const char *path, shma_handle *ret, size_t *ret_len);

/* ---- log ring ---- */

struct shma_record {
	void *data;       /* reserve: write here; reader: own copy, good until the next call */
	size_t len;       /* bytes */
	int level;        /* syslog severity, 0..7 */
	pid_t pid, tid;   /* writer */
	uint32_t dropped; /* reader: by this writing thread, right before this one, for want of room */
	uint64_t time_ns; /* CLOCK_REALTIME */
	uint64_t seq;     /* of the writing thread, from 1 */
	uint64_t lost;    /* reader: records lost before this one since the last call, dropped ones too */
	int late;         /* reader: published outside the order window */
	int fields;       /* reader: structured, see shma_record_text() and shma_record_kv() */
	uint64_t priv[4]; /* the library's own */
};

#define SHMA_RECORD_MAX ((size_t)1 << 20) /* bytes of one record */

/*
 * printf-like. -EAGAIN (full, policy drop), -EMSGSIZE, -EINVAL (level), -EROFS, -ENOMEM.
 *
 * These calls, up to shma_log_kv(), may be made in a signal handler, wherever it has come, if the thread has
 * logged or allocated in this arena before. Two things to know there: shma_log() formats by vsnprintf(),
 * which takes no lock and no memory in glibc for integers, characters, strings and pointers, but may for
 * floating point, positional arguments and huge widths; and a record of more than a quarter of a block takes
 * memory of the heap, of which there may be none (-ENOMEM) while its own thread is in the middle of taking some.
 */
SHMA_API int shma_log(shma *a, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
SHMA_API int shma_log_write(shma *a, int level, const void *data, size_t len);
/* Room for a record of len bytes, to be written in place through rec->data, then committed (made
 * visible) or aborted by the same thread. -EPERM: commit by another thread or a forked child. */
SHMA_API int shma_log_reserve(shma *a, struct shma_record *rec, int level, size_t len);
SHMA_API int shma_log_commit(shma *a, struct shma_record *rec);
SHMA_API int shma_log_abort(shma *a, struct shma_record *rec);

/* A value by its key, in a structured record. Written: made by the SHMA_KV_... below. Read: key and
 * value lie in the record's data, and nothing ends them but their lengths. */
struct shma_kv {
	const char *key;
	size_t key_len; /* 1 to 255; writing, 0: up to the key's NUL */
	int type;       /* SHMA_TYPE_... */
	size_t len;     /* bytes of a string, or of bytes; reading: of any value */
	union {
		const char *str;
		int64_t i;
		uint64_t u;
		double d;
		int b; /* 0 or 1 */
		const void *bytes;
	} value;
};

enum {
	SHMA_TYPE_STR = 1,
	SHMA_TYPE_INT = 2,
	SHMA_TYPE_UINT = 3,
	SHMA_TYPE_DOUBLE = 4,
	SHMA_TYPE_BOOL = 5,
	SHMA_TYPE_BYTES = 6
};

/*
 * A record of a text and n values by key, which stay what they are to the end; n may be 0, text NULL.
 *     struct shma_kv kv[] = { SHMA_KV_STR("user", name), SHMA_KV_INT("status", 404) };
 *     shma_log_kv(a, 6, "request", kv, 2);
 * Errors as shma_log(); -EINVAL too: a key of no or more than 255 bytes, an unknown type, more than
 * 65,535 values. -EMSGSIZE: it takes more than SHMA_RECORD_MAX, with 8 bytes for itself and for each value.
 */
SHMA_API int shma_log_kv(shma *a, int level, const char *text, const struct shma_kv *kv, size_t n);
/* A record's text: its data, where it is not structured. NULL with errno EUCLEAN: damaged. */
SHMA_API const char *shma_record_text(const struct shma_record *rec, size_t *len);
/* Its next value; *cursor is 0 at first. 1; 0: no more, or not structured; -EUCLEAN: damaged. */
SHMA_API int shma_record_kv(const struct shma_record *rec, size_t *cursor, struct shma_kv *ret);

#define SHMA_KV_STR(key, text)          shma_kv_bytes_(key, SHMA_TYPE_STR, text, shma_kv_length_(text))
#define SHMA_KV_BYTES(key, bytes, len)  shma_kv_bytes_(key, SHMA_TYPE_BYTES, bytes, len)
#define SHMA_KV_INT(key, number)        shma_kv_uint_(key, SHMA_TYPE_INT, (uint64_t)(int64_t)(number))
#define SHMA_KV_UINT(key, number)       shma_kv_uint_(key, SHMA_TYPE_UINT, number)
#define SHMA_KV_BOOL(key, truth)        shma_kv_uint_(key, SHMA_TYPE_BOOL, !!(truth))
#define SHMA_KV_DOUBLE(key, number)     shma_kv_double_(key, number)

static inline size_t shma_kv_length_(const char *text)
{
	return text ? __builtin_strlen(text) : 0;
}

static inline struct shma_kv shma_kv_bytes_(const char *key, int type, const void *bytes, size_t len)
{
	struct shma_kv kv = { key, 0, type, len, { 0 } };

	kv.value.bytes = bytes;
	return kv;
}

static inline struct shma_kv shma_kv_uint_(const char *key, int type, uint64_t number)
{
	struct shma_kv kv = { key, 0, type, 0, { 0 } };

	if (type == SHMA_TYPE_BOOL)
		kv.value.b = (int)number;
	else
		kv.value.u = number;
	return kv;
}

static inline struct shma_kv shma_kv_double_(const char *key, double number)
{
	struct shma_kv kv = { key, 0, SHMA_TYPE_DOUBLE, 0, { 0 } };

	kv.value.d = number;
	return kv;
}

/* What a full ring means from now on, to all writers, those too that wait for room at this moment; a
 * negative policy changes nothing. The policy until now; -EINVAL, -EROFS, -EUCLEAN. */
SHMA_API int shma_log_policy(shma *a, int policy);
/* Likewise how records are timed, from each thread's next one on. */
SHMA_API int shma_log_clock(shma *a, int clock);

/*
 * From now on one allocation in so many bytes is sampled, with the stack of calls that led to it, in the arena, where it
 * outlives the process: `shmctl-tool profile` shows which calls live memory comes from. 0: none any more. Of 1 KiB to
 * 1 TiB; samples are rarer where a thread would take more than some one a millisecond, and are weighed by it. Other
 * processes learn of it with a slow call at the latest, of which each few thousand allocations have one; one that only
 * ever gets back what it has just freed may not. -EINVAL, -EROFS, -ENOMEM: no memory for the profile, 3.2 MiB.
 */
SHMA_API int shma_profile(shma *a, uint64_t bytes);

struct shma_reader;
#define SHMA_FROM_OLDEST 0x1u
#define SHMA_FROM_NOW    0x2u
#define SHMA_CONSUMER    0x4u /* the one reader whose position is what "full" means; -EBUSY */

SHMA_API int shma_reader_open(shma *a, struct shma_reader **ret, unsigned flags);
/* 1: a record; 0: none within timeout_ms (-1: wait for ever, 0: do not wait); -errno. One thread a
 * reader. Records come in order of time within a window of 10 ms; by the coarse clock, those of several threads in
 * order of their 4,096 ns. */
SHMA_API int shma_reader_next(struct shma_reader *r, struct shma_record *rec, int timeout_ms);
SHMA_API void shma_reader_close(struct shma_reader *r);
/*
 * A reader whose place is kept in the arena under a name, of at most 80 bytes: however it ended, killed or not, the next
 * one of that name goes on behind the last record that was done with, that is after which another was asked for, or the
 * reader closed; and is told exactly how many were lost meanwhile. flags: SHMA_FROM_OLDEST or SHMA_FROM_NOW, where it
 * begins if the name is new. -EBUSY: a living reader has the name; -EROFS; -EINVAL; -ENAMETOOLONG; errors of
 * shma_alloc() and shma_publish(). A forked child must not go on with it.
 */
SHMA_API int shma_reader_open_at(shma *a, struct shma_reader **ret, const char *name, unsigned flags);
/* -ENOENT; -EBUSY: a living reader has it. */
SHMA_API int shma_reader_forget(shma *a, const char *name);
#define SHMA_POSITION_NAME_MAX 80

/* ---- statistics ---- */

struct shma_stats {
	uint64_t capacity_bytes;  /* what objects and their bookkeeping may take */
	uint64_t committed_bytes; /* pages of the heap taken from the system */
	uint64_t live_bytes;      /* usable bytes of live objects */
	uint64_t live_objects;
	uint64_t cached_bytes; /* ready in threads' caches */
	uint64_t cached_objects;
	uint64_t persistent_objects; /* persistent or published, part of live_objects */
	uint64_t names;
	uint64_t clients;
	uint64_t threads;
	uint64_t slabs;
	uint64_t slab_bytes;
	uint64_t extents; /* large objects, temporary memory and raw extents */
	uint64_t extent_bytes;
	uint64_t state_bytes; /* bookkeeping of slabs */
	uint64_t log_capacity_bytes;
	uint64_t packed_objects;
	uint64_t packed_bytes;	 /* that they take, part of live_bytes */
	uint64_t unpacked_bytes; /* that they would take */
	uint64_t stack_bytes;	   /* regions of temporary memory, part of extent_bytes */
	uint64_t stack_used_bytes; /* of them in use now, 16 bytes before each object included */
	uint64_t stack_high_bytes; /* the most that one thread ever had in use, as far as living ones and those that ended
				    * tell */
	uint64_t held_objects; /* by shma_retain(), part of live_objects */
	uint64_t holds;	       /* of all processes, each as often as it holds */
	uint64_t hold_bytes;   /* pages of hold records taken from the system, not part of committed_bytes */
};

/* Walks the arena: exact when no call is in progress and dead clients have been reclaimed. */
SHMA_API int shma_stats(shma *a, struct shma_stats *st);
/* Text for an errno value (positive or negative) in this library's meaning. Never NULL. */
SHMA_API const char *shma_strerror(int err);

/* ---- debug arenas ---- */

/*
 * An arena made with options.debug, or by `shmctl-tool arena create --debug`, watches its objects; programs that use
 * it need not be built anew. Around each object lie red zones; a freed one is filled, and its place not used again for
 * a while. Overwritten bytes are found when the object is freed, by `shmctl-tool arena check`, and when the place is
 * used again; a handle that is stale, by the call that is given it. What is found goes into the arena, where it stays
 * (the last 127), and as a structured record of level 3 into its log; the call itself gives what it always gives.
 *
 * Where a call came from is known as file:line where SHMA_DEBUG_CALLS is defined before this header is included,
 * else as module+offset, with the stack of calls.
 */
enum {
	SHMA_DEBUG_DOUBLE_FREE = 1,
	SHMA_DEBUG_USE_AFTER_FREE = 2, /* by a stale handle */
	SHMA_DEBUG_OVERRUN = 3,        /* bytes behind the object are wrong … */
	SHMA_DEBUG_UNDERRUN = 4,       /* … or before it */
	SHMA_DEBUG_WRITTEN = 5,        /* written after it was freed */
	SHMA_DEBUG_HEAD = 6            /* what is kept before the object is gone: nothing else is known */
};

struct shma_debug_point {
	uint64_t time_ns; /* CLOCK_REALTIME; 0: not known, or not yet */
	pid_t pid, tid;
	char where[48]; /* "file.c:12", or "program+0x1234"; "": not known */
	uint32_t stack; /* of the calls that led there, for shma_debug_stack(); 0: none is kept */
};

struct shma_debug_report {
	int what;         /* SHMA_DEBUG_DOUBLE_FREE ... */
	uint32_t count;   /* times it was seen */
	shma_handle handle;
	size_t size;      /* of the object; 0: not known */
	int64_t at;       /* the wrong byte nearest to it, from its first */
	uint32_t bytes;   /* so many are wrong; 0: it is about a handle */
	const char *call; /* "shma_free"; "": found otherwise */
	struct shma_debug_point allocated, freed, found;
};

/* What was found in this arena, by any process, dead or alive, in order; *cursor is 0 at first. 1; 0: no more;
 * -EOPNOTSUPP: not a debug arena. Async-signal-safe. */
SHMA_API int shma_debug_report(shma *a, uint64_t *cursor, struct shma_debug_report *ret);
/* The calls of a stack, innermost first, as "module+0x1234 < module+0x5678 …" (module and offset are good when the process
 * is gone; `shmctl-tool debug` has names). Cut to size, 0 at its end. How many calls; -ENOENT: no such stack; -EOPNOTSUPP. */
SHMA_API int shma_debug_stack(shma *a, uint32_t stack, char *text, size_t size);
/* fn is called by whichever thread of this process finds something, at the end of the call that found it; it may use
 * the arena. NULL: nobody is. -EOPNOTSUPP. */
typedef void (*shma_debug_fn)(shma *a, const struct shma_debug_report *report, void *context);
SHMA_API int shma_debug_handler(shma *a, shma_debug_fn fn, void *context);
/* The calls that this thread makes come from here ("file:line", which must stay) until it says otherwise; what it
 * said before. For wrappers, and the macros below. */
SHMA_API const char *shma_debug_here(const char *where);

#ifdef SHMA_DEBUG_CALLS
#define SHMA_LINE__(line) #line
#define SHMA_LINE_(line)  SHMA_LINE__(line)
#define SHMA_HERE_        __FILE__ ":" SHMA_LINE_(__LINE__)

#define SHMA_AT_(type, name, parameters, arguments)                                              \
	static inline type name##_at_ parameters                                                  \
	{                                                                                         \
		const char *before_ = shma_debug_here(where_);                                    \
		type result_ = name arguments;                                                    \
		shma_debug_here(before_);                                                         \
		return result_;                                                                   \
	}

SHMA_AT_(shma_handle, shma_alloc, (shma *a, size_t n, unsigned f, const char *where_), (a, n, f))
SHMA_AT_(void *, shma_alloc_ptr, (shma *a, size_t n, unsigned f, shma_handle *h, const char *where_), (a, n, f, h))
SHMA_AT_(int, shma_free, (shma *a, shma_handle h, const char *where_), (a, h))
SHMA_AT_(int, shma_free_ptr, (shma *a, void *p, const char *where_), (a, p))
SHMA_AT_(void *, shma_ptr, (shma *a, shma_handle h, const char *where_), (a, h))
SHMA_AT_(size_t, shma_size, (shma *a, shma_handle h, const char *where_), (a, h))
SHMA_AT_(shma_handle, shma_resize, (shma *a, shma_handle h, size_t n, const char *where_), (a, h, n))
SHMA_AT_(ssize_t, shma_read, (shma *a, shma_handle h, size_t o, void *to, size_t n, const char *where_),
	 (a, h, o, to, n))
SHMA_AT_(int, shma_share, (shma *a, shma_handle h, const char *where_), (a, h))
SHMA_AT_(int, shma_take, (shma *a, shma_handle h, const char *where_), (a, h))
SHMA_AT_(int, shma_retain, (shma *a, shma_handle h, const char *where_), (a, h))
SHMA_AT_(int, shma_release, (shma *a, shma_handle h, const char *where_), (a, h))
#undef SHMA_AT_

#define shma_alloc(a, n, f)        shma_alloc_at_(a, n, f, SHMA_HERE_)
#define shma_alloc_ptr(a, n, f, h) shma_alloc_ptr_at_(a, n, f, h, SHMA_HERE_)
#define shma_free(a, h)            shma_free_at_(a, h, SHMA_HERE_)
#define shma_free_ptr(a, p)        shma_free_ptr_at_(a, p, SHMA_HERE_)
#define shma_ptr(a, h)             shma_ptr_at_(a, h, SHMA_HERE_)
#define shma_size(a, h)            shma_size_at_(a, h, SHMA_HERE_)
#define shma_resize(a, h, n)       shma_resize_at_(a, h, n, SHMA_HERE_)
#define shma_read(a, h, o, to, n)  shma_read_at_(a, h, o, to, n, SHMA_HERE_)
#define shma_share(a, h)           shma_share_at_(a, h, SHMA_HERE_)
#define shma_take(a, h)            shma_take_at_(a, h, SHMA_HERE_)
#define shma_retain(a, h)          shma_retain_at_(a, h, SHMA_HERE_)
#define shma_release(a, h)         shma_release_at_(a, h, SHMA_HERE_)
#endif

#ifdef __cplusplus
}
#endif
#endif
