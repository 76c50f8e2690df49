/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_shmalloc.c - this project's library by its public calls alone, in an embedded arena. Its peers:
 *  shmalloc         for a program that holds pointers, as a user of malloc does: shma_alloc_ptr() and
 *                   shma_free_ptr(), which finds the handle anew;
 *  shmalloc-of      the same by one call each: shma_alloc() and shma_ptr(); shma_handle_of() and shma_free(),
 *                   which checks the handle;
 *  shmalloc-handle  for a program that holds handles: it pays a checked shma_ptr() at each use;
 *  shmalloc-coarse  a log whose records have a coarse time;
 *  shmalloc-debug   as shmalloc, in a debug arena;
 *  shmalloc-sampled as shmalloc, in an arena that watches one allocation in 5,000;
 *  shmalloc-profile as shmalloc, in an arena that is profiled, a sample each 512 KiB.
 */
#include "peer.h"

#include <errno.h>
#include <shmalloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static shma *arena;

static peer_ref pointer_alloc(size_t size)
{
	return (peer_ref)shma_alloc_ptr(arena, size, 0, NULL);
}

static peer_ref pointer_alloc_shared(size_t size)
{
	return (peer_ref)shma_alloc_ptr(arena, size, SHMA_SHARED, NULL);
}

static void pointer_free(peer_ref ref)
{
	shma_free_ptr(arena, (void *)ref);
}

static uint64_t pointer_token(peer_ref ref)
{
	return shma_handle_of(arena, (void *)ref);
}

static peer_ref pointer_untoken(uint64_t token)
{
	return (peer_ref)shma_ptr(arena, token);
}

static peer_ref of_alloc(size_t size)
{
	return (peer_ref)shma_ptr(arena, shma_alloc(arena, size, 0));
}

static peer_ref of_alloc_shared(size_t size)
{
	return (peer_ref)shma_ptr(arena, shma_alloc(arena, size, SHMA_SHARED));
}

static void of_free(peer_ref ref)
{
	shma_free(arena, shma_handle_of(arena, (void *)ref));
}

static peer_ref handle_alloc(size_t size)
{
	return shma_alloc(arena, size, 0);
}

static peer_ref handle_alloc_shared(size_t size)
{
	return shma_alloc(arena, size, SHMA_SHARED);
}

static void handle_free(peer_ref ref)
{
	shma_free(arena, ref);
}

static void *handle_ptr(peer_ref ref)
{
	return shma_ptr(arena, ref);
}

static uint64_t handle_token(peer_ref ref)
{
	return ref;
}

static peer_ref handle_untoken(uint64_t token)
{
	return (peer_ref)token;
}

/* Every byte of the arena's mapping: offsets of handles count 16 bytes from its heap. */
static char *heap;

static void *handle_plain(peer_ref ref)
{
	return heap + ((ref & (((uint64_t)1 << 40) - 1)) << 4);
}

static int find_heap(void)
{
	shma_handle h = shma_alloc(arena, 16, 0);

	if (!h)
		return -ENOMEM;
	heap = (char *)shma_ptr(arena, h) - ((h & (((uint64_t)1 << 40) - 1)) << 4);
	return shma_free(arena, h);
}

/* What the heap took from /dev/shm, its bookkeeping and every thread's cache included. */
static uint64_t arena_footprint(void)
{
	struct shma_stats st;

	return shma_stats(arena, &st) ? 0 : st.committed_bytes;
}

static uint64_t arena_clients(void)
{
	struct shma_stats st;

	return shma_stats(arena, &st) ? 0 : st.clients;
}

static const char *arena_name;

static int debug_mode;

#define PROFILE_RATE 524288u /* bytes */

static int open_arena(shma **ret, const char *name, uint64_t capacity, int create)
{
	struct shma_options opt = {
		.struct_size = sizeof(opt),
		.capacity = capacity,
		.log_policy = SHMA_LOG_BLOCK, /* while there is a consumer; else it overwrites */
		.debug = debug_mode,
	};

	return shma_open(ret, name, SHMA_EMBEDDED | (create ? SHMA_CREATE | SHMA_EXCL : 0), &opt);
}

#define ARENAS 4

static int arena_use(uint64_t capacity)
{
	static struct {
		uint64_t capacity;
		shma *arena;
	} known[ARENAS];
	char name[64];

	for (int i = 0; i < ARENAS; i++) {
		int r = 0;

		if (!known[i].arena) {
			snprintf(name, sizeof(name), "%s-%d", arena_name, i);
			r = open_arena(&known[i].arena, name, capacity, 1);
			known[i].capacity = capacity;
		}
		if (r || known[i].capacity == capacity) {
			arena = known[i].arena;
			return r;
		}
	}
	return -ENOSPC;
}

static int arena_log(const void *data, size_t len)
{
	return shma_log_write(arena, 6, data, len);
}

/* Named as what is counted for the peer. */
static int pointer_log(const void *data, size_t len)
{
	return shma_log_write(arena, 6, data, len);
}

static int pointer_log_kv(const void *text)
{
	struct shma_kv kv[] = { SHMA_KV_UINT("status", 404), SHMA_KV_STR("method", "GET") };

	return shma_log_kv(arena, 6, text, kv, 2);
}

static int pointer_log_placed(const void *data, size_t len)
{
	struct shma_record rec;
	int r = shma_log_reserve(arena, &rec, 6, len);

	if (r)
		return r;
	memcpy(rec.data, data, len);
	return shma_log_commit(arena, &rec);
}

/* ---- the log as a queue: its reader is the consumer, without whom nothing is overwritten ---- */

static size_t record_length;
static struct shma_reader *reader;

static int queue_join(size_t len, bool reads)
{
	record_length = len;
	return reads ? shma_reader_open(arena, &reader, SHMA_CONSUMER | SHMA_FROM_OLDEST) : 0;
}

/* The policy is to wait: it comes back when there is room, or nobody any more who reads. */
static bool queue_send(const void *record)
{
	return !shma_log_write(arena, 6, record, record_length);
}

static bool queue_next(void *record, int timeout_ms)
{
	struct shma_record rec;

	if (shma_reader_next(reader, &rec, timeout_ms) != 1 || rec.len != record_length)
		return false;
	memcpy(record, rec.data, record_length);
	return true;
}

static bool queue_receive(void *record)
{
	return queue_next(record, 0);
}

static bool queue_wait(void *record)
{
	return queue_next(record, 100);
}

static void queue_leave(void)
{
	shma_reader_close(reader);
}

static const struct peer_queue queue = {
	.join = queue_join,
	.send = queue_send,
	.receive = queue_receive,
	.wait = queue_wait,
	.leave = queue_leave,
};

/* ---- temporary memory ---- */

static uint64_t stack_mark(void)
{
	return shma_stack_mark(arena);
}

static peer_ref stack_pointer(size_t size)
{
	return (peer_ref)shma_stack_alloc_ptr(arena, size, NULL);
}

static peer_ref stack_handle(size_t size)
{
	return shma_stack_alloc(arena, size);
}

static void stack_reset(uint64_t mark)
{
	shma_stack_reset(arena, mark);
}

static struct shma_scope scope;

static uint64_t scope_mark(void)
{
	scope = shma_scope_begin(arena);
	return 0;
}

static void scope_reset(uint64_t mark)
{
	(void)mark;
	shma_scope_end(&scope);
}

static peer_ref flags_alloc(size_t size, unsigned flags)
{
	return shma_alloc(arena, size, flags);
}

static int object_retain(peer_ref ref)
{
	return shma_retain(arena, ref);
}

static int object_release(peer_ref ref)
{
	return shma_release(arena, ref);
}

static peer_ref object_pack(peer_ref ref, int level)
{
	return shma_pack(arena, ref, level);
}

static peer_ref object_unpack(peer_ref ref)
{
	return shma_unpack(arena, ref);
}

static peer_ref object_map_file(const char *path)
{
	shma_handle h;

	return shma_map_file(arena, path, &h, NULL) ? 0 : h;
}

static ssize_t object_read(peer_ref ref, size_t offset, void *to, size_t len)
{
	return shma_read(arena, ref, offset, to, len);
}

static const struct peer_object objects = { object_retain, object_release,  object_pack,
					    object_unpack, object_map_file, object_read };
static const struct peer_stack pointer_stack = { stack_mark, stack_pointer, stack_reset };
static const struct peer_stack handle_stack = { stack_mark, stack_handle, stack_reset };
static const struct peer_stack handle_scope = { scope_mark, NULL, scope_reset };

static const struct peer_ops pointer_ops = {
	.version = "shmalloc, pointers held",
	.alloc = pointer_alloc,
	.free = pointer_free,
	.alloc_shared = pointer_alloc_shared,
	.token = pointer_token,
	.untoken = pointer_untoken,
	.footprint = arena_footprint,
	.log = pointer_log,
	.log_kv = pointer_log_kv,
	.log_placed = pointer_log_placed,
	.queue = &queue,
	.stack = &pointer_stack,
	.clients = arena_clients,
	.use_arena = arena_use,
};

static const struct peer_ops coarse_ops = {
	.version = "shmalloc, log with a coarse clock",
	.log = arena_log,
	.queue = &queue,
};

static const struct peer_ops of_ops = {
	.version = "shmalloc, pointers held, shma_handle_of() at each free",
	.alloc = of_alloc,
	.free = of_free,
	.alloc_shared = of_alloc_shared,
	.token = pointer_token,
	.untoken = pointer_untoken,
	.footprint = arena_footprint,
};

static const struct peer_ops handle_ops = {
	.version = "shmalloc, handles held",
	.alloc = handle_alloc,
	.free = handle_free,
	.ptr = handle_ptr,
	.alloc_shared = handle_alloc_shared,
	.token = handle_token,
	.untoken = handle_untoken,
	.footprint = arena_footprint,
	.clients = arena_clients,
	.use_arena = arena_use,
	.log = arena_log,
	.stack = &handle_stack,
	.alloc_flags = flags_alloc,
	.scope = &handle_scope,
	.plain = handle_plain,
	.object = &objects,
};

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
	int r;

	debug_mode = !strcmp(config->variant, "shmalloc-debug")	    ? SHMA_DEBUG_FULL
		     : !strcmp(config->variant, "shmalloc-sampled") ? SHMA_DEBUG_SAMPLED
								    : SHMA_DEBUG_OFF;
	r = open_arena(&arena, config->arena, config->capacity, config->create);

	if (!r)
		r = find_heap();
	if (!r && !strcmp(config->variant, "shmalloc-profile"))
		r = shma_profile(arena, PROFILE_RATE);
	if (r) {
		snprintf(err, err_size, "shma_open(%s): %s", config->arena, shma_strerror(r));
		return NULL;
	}
	arena_name = config->arena;
	if (!strcmp(config->variant, "shmalloc-coarse"))
		return shma_log_clock(arena, SHMA_LOG_COARSE) < 0 ? NULL : &coarse_ops;
	if (!strcmp(config->variant, "shmalloc-of"))
		return &of_ops;
	return strcmp(config->variant, "shmalloc-handle") ? &pointer_ops : &handle_ops;
}
