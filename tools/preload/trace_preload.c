/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library that `shmctl-tool trace record` preloads into a program: it hands each call of malloc() and its like on to
 * whoever would have had it, and notes it in a file, see trace_raw.h. It takes no memory from the malloc that it
 * watches, no lock, and never fails the program: where it cannot go on it stops recording.
 *
 * To find the next malloc the dynamic linker may itself allocate: until then memory comes from a small array of the
 * library's own, which is neither recorded nor ever given back. The page that says that recording is on is wiped in
 * forked children, so that they record nothing, whoever forked them.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "trace_raw.h"

#define PUBLIC __attribute__((visibility("default")))
#define LOCAL  __thread __attribute__((tls_model("initial-exec")))

static struct {
	void *(*malloc)(size_t);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void (*free)(void *);
	int (*posix_memalign)(void **, size_t, size_t);
	void *(*aligned_alloc)(size_t, size_t);
	void *(*memalign)(size_t, size_t);
	void *(*valloc)(size_t);
	void *(*pvalloc)(size_t);
} next;

/* In a page of its own, which a forked child finds zero. */
struct state {
	_Atomic int on;
	_Atomic uint64_t number;
	_Atomic uint64_t chunks;
	_Atomic uint32_t threads;
	int fd;
};
static struct state *state;
static pthread_key_t thread_ends;

static LOCAL struct trace_raw_chunk *chunk;
static LOCAL uint32_t used, thread_number; /* + 1 */
static LOCAL bool busy;			   /* in here already: what is allocated meanwhile is not the program's */

/* ---- memory of the first moments ---- */

static char first[65536] __attribute__((aligned(16)));
static _Atomic size_t first_used;

static void *first_alloc(size_t size)
{
	size_t room = (size + 31) & ~(size_t)15, at; /* 16 bytes before it say how long it is */

	if (size > sizeof(first))
		return NULL;
	at = atomic_fetch_add(&first_used, room + 16);
	if (at > sizeof(first) - 16 || room > sizeof(first) - 16 - at)
		return NULL;
	memcpy(first + at, &size, sizeof(size));
	return first + at + 16;
}

static bool is_first(const void *p)
{
	return (const char *)p >= first && (const char *)p < first + sizeof(first);
}

static size_t first_size(const void *p)
{
	size_t size;

	memcpy(&size, (const char *)p - 16, sizeof(size));
	return size;
}

/* ---- whoever would have had the calls ---- */

static void find_next(void)
{
	static _Atomic int finding;
	void *p;

	if (next.free || atomic_exchange(&finding, 1))
		return;
#define FIND(name) (p = dlsym(RTLD_NEXT, #name), memcpy(&next.name, &p, sizeof(p)))
	FIND(calloc);
	FIND(realloc);
	FIND(posix_memalign);
	FIND(aligned_alloc);
	FIND(memalign);
	FIND(valloc);
	FIND(pvalloc);
	FIND(malloc);
	FIND(free);
#undef FIND
}

/* ---- recording ---- */

static void stop(void)
{
	atomic_store(&state->on, 0);
}

static void leave_chunk(void *unused)
{
	(void)unused;
	if (chunk)
		munmap(chunk, TRACE_RAW_CHUNK);
	chunk = NULL;
}

/* The next chunk of the file becomes this thread's. Its memory is the file's: taken now, so that no store faults. */
static bool take_chunk(void)
{
	off_t at = (off_t)(atomic_fetch_add(&state->chunks, 1) * TRACE_RAW_CHUNK);
	void *p = MAP_FAILED;

	leave_chunk(NULL);
	if (posix_fallocate(state->fd, at, TRACE_RAW_CHUNK) == 0)
		p = mmap(NULL, TRACE_RAW_CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, state->fd, at);
	if (p == MAP_FAILED)
		return false;
	if (!thread_number)
		thread_number = atomic_fetch_add(&state->threads, 1) + 1;
	chunk = p;
	used = 0;
	chunk->thread = thread_number - 1;
	chunk->magic = TRACE_RAW_MAGIC;
	pthread_setspecific(thread_ends, chunk);
	return true;
}

static void note(enum trace_raw_op op, const void *pointer, size_t size)
{
	struct trace_raw_event *e;
	int err = errno;

	if (!state || !atomic_load_explicit(&state->on, memory_order_relaxed) || busy)
		return;
	busy = true;
	if ((!chunk || used == TRACE_RAW_EVENTS) && !take_chunk()) {
		stop();
	} else {
		e = &chunk->events[used++];
		e->pointer = (uintptr_t)pointer;
		e->what = (uint64_t)op | (uint64_t)size << 8;
		/* Crash: before, an event that is not finished, behind which the chunk has nothing; after, one. */
		atomic_store_explicit(&e->number, atomic_fetch_add(&state->number, 1) + 1,
				      memory_order_release);
	}
	busy = false;
	errno = err;
}

static void *noted(void *p, size_t size)
{
	if (p)
		note(TRACE_RAW_ALLOC, p, size);
	return p;
}

/* ---- the calls ---- */

PUBLIC void *malloc(size_t size)
{
	if (!next.malloc)
		find_next();
	return next.malloc ? noted(next.malloc(size), size) : first_alloc(size);
}

PUBLIC void *calloc(size_t n, size_t size)
{
	size_t bytes;

	if (!next.calloc)
		find_next();
	if (next.calloc)
		return noted(next.calloc(n, size), n * size);
	return __builtin_mul_overflow(n, size, &bytes) ? NULL : first_alloc(bytes);
}

PUBLIC void free(void *p)
{
	if (!p || is_first(p))
		return;
	if (!next.free)
		find_next();
	note(TRACE_RAW_FREE, p, 0);
	if (next.free)
		next.free(p);
}

static void *from_first(void *old, size_t size)
{
	void *p = malloc(size);

	if (p)
		memcpy(p, old, first_size(old) < size ? first_size(old) : size);
	return p;
}

PUBLIC void *realloc(void *old, size_t size)
{
	void *p;

	if (!old)
		return malloc(size);
	if (is_first(old))
		return from_first(old, size);
	if (!next.realloc)
		find_next();
	if (size == 0) { /* as the next one takes it: mostly a free */
		note(TRACE_RAW_FREE, old, 0);
		return noted(next.realloc(old, 0), 0);
	}
	note(TRACE_RAW_BEGIN, old, size);
	p = next.realloc(old, size);
	note(TRACE_RAW_RESIZED, p, size);
	return p;
}

PUBLIC void *reallocarray(void *old, size_t n, size_t size)
{
	size_t bytes;

	if (!__builtin_mul_overflow(n, size, &bytes))
		return realloc(old, bytes);
	errno = ENOMEM;
	return NULL;
}

PUBLIC int posix_memalign(void **ret, size_t align, size_t size)
{
	int r;

	find_next();
	r = next.posix_memalign ? next.posix_memalign(ret, align, size) : ENOMEM;
	if (r == 0)
		noted(*ret, size);
	return r;
}

PUBLIC void *aligned_alloc(size_t align, size_t size)
{
	find_next();
	return next.aligned_alloc ? noted(next.aligned_alloc(align, size), size) : NULL;
}

PUBLIC void *memalign(size_t align, size_t size)
{
	find_next();
	return next.memalign ? noted(next.memalign(align, size), size) : NULL;
}

PUBLIC void *valloc(size_t size)
{
	find_next();
	return next.valloc ? noted(next.valloc(size), size) : NULL;
}

PUBLIC void *pvalloc(size_t size)
{
	find_next();
	return next.pvalloc ? noted(next.pvalloc(size), size) : NULL;
}

/* ---- beginning ---- */

/* The first name that is free: those before are the programs that this process was. */
static int open_file(const char *dir)
{
	char path[4096];

	for (unsigned i = 0; i < TRACE_RAW_FILES; i++) {
		int fd;

		if ((size_t)snprintf(path, sizeof(path), "%s/%04u", dir, i) >= sizeof(path))
			return -1;
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd >= 0 || errno != EEXIST)
			return fd;
	}
	return -1;
}

/* Out of the way of programs that close all that they did not open, or count on the lowest numbers. */
static int move_up(int fd)
{
	int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 900);

	if (high < 0)
		return fd;
	close(fd);
	return high;
}

__attribute__((constructor)) static void begin(void)
{
	const char *dir = getenv(TRACE_RAW_DIR), *pid = getenv(TRACE_RAW_PID);
	void *p;
	int fd;

	find_next();
	if (!dir || !pid || atoi(pid) != getpid())
		return;
	fd = move_up(open_file(dir));
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || p == MAP_FAILED || madvise(p, 4096, MADV_WIPEONFORK) ||
	    pthread_key_create(&thread_ends, leave_chunk))
		return;
	state = p;
	state->fd = fd;
	atomic_store(&state->on, 1);
}
