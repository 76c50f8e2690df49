/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - what the benchmark driver sees of an allocator. Each peer is a plug-in, loaded by dlopen
 * into a process of its own and called through one table of function pointers, so that every peer
 * pays the same two indirect calls; the peer "null" shows what they and the workload itself cost.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a workload holds of an object: a pointer to it, or for a peer with ptr() a handle. 0: none. */
typedef uintptr_t peer_ref;

/* A queue or log of records of one length: several processes write, one reads. */
struct peer_queue {
	int (*make)(size_t len);	      /* the first process, before all others; NULL: nothing to do. -errno */
	int (*join)(size_t len, bool reader); /* each of the others; NULL: nothing to do. -errno */
	bool (*send)(const void *record);     /* false: full, for now */
	bool (*receive)(void *record);	      /* false: nothing there, for now */
	bool (*wait)(void *record);	      /* the same, asleep for up to some tenths of a second */
	void (*leave)(void);		      /* the reader; NULL: nothing to do */
};

/* Temporary memory: given back all at once. */
struct peer_stack {
	uint64_t (*mark)(void);
	peer_ref (*alloc)(size_t size);
	void (*reset)(uint64_t mark);
};

/* What is done with an object besides. */
struct peer_object {
	int (*retain)(peer_ref ref); /* -errno */
	int (*release)(peer_ref ref);
	peer_ref (*pack)(peer_ref ref, int level); /* in its place; 0: no memory */
	peer_ref (*unpack)(peer_ref ref);
	peer_ref (*map_file)(const char *path); /* 0: errno */
	ssize_t (*read)(peer_ref ref, size_t offset, void *to, size_t len);
};

struct peer_ops {
	const char *version;
	peer_ref (*alloc)(size_t size); /* 0: no memory */
	void (*free)(peer_ref ref);
	void *(*ptr)(peer_ref ref); /* NULL: a ref is a pointer */

	/* Only peers whose heap several processes share have the rest. The first process of a run opens
	 * with create set; a token means the same object in every process. */
	peer_ref (*alloc_shared)(size_t size); /* an object that another process may free */
	uint64_t (*token)(peer_ref ref);
	peer_ref (*untoken)(uint64_t token);

	/* Set where an executed process cannot join the heap: further processes are forked from the first,
	 * and each calls this before it uses the heap. */
	void (*forked)(int index);

	/* Bytes of memory the heap has taken from the system; NULL: the process's own resident set. */
	uint64_t (*footprint)(void);

	/* One record to a log that other processes can read. 0 or -errno. */
	int (*log)(const void *data, size_t len);

	const struct peer_queue *queue;
	const struct peer_stack *stack;

	/* shmalloc alone. */
	int (*log_kv)(const void *text);		  /* a text and two values */
	int (*log_placed)(const void *data, size_t len); /* written where it stays */
	uint64_t (*clients)(void);	     /* attached to the arena */
	int (*use_arena)(uint64_t capacity); /* from now on one of this capacity, made at first use */
	peer_ref (*alloc_flags)(size_t size, unsigned flags); /* SHMA_… */
	const struct peer_stack *scope;	     /* its beginning and its end; no alloc */
	const struct peer_object *object;
	void *(*plain)(peer_ref ref);	     /* what ptr() gives, by base and offset and no check */
};

struct peer_config {
	const char *variant; /* one plug-in may serve several peers */
	const char *arena;   /* unique name for whatever is shared by name */
	uint64_t capacity;   /* bytes a shared heap must be able to hold */
	int create;	     /* first process of this run */
};

/* The only symbol of a plug-in. NULL with a reason in err. */
typedef const struct peer_ops *peer_open_fn(const struct peer_config *config, char *err,
					    size_t err_size);
__attribute__((visibility("default"))) peer_open_fn peer_open;

#ifdef __cplusplus
}
#endif
#endif
