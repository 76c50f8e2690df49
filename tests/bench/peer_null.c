/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_null.c - no allocator: a bump pointer that runs round a small window per thread and never frees.
 * What it costs is what the driver, the indirect calls and the workload's own touching cost at least,
 * with everything in the first cache; live objects overlap, so nothing but time may be read from it.
 */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WINDOW ((size_t)16 << 10)
#define SLACK ((size_t)2 << 20) /* the largest request, beyond the window */
#define SPAN (WINDOW + SLACK)
#define SPANS 64u

static char *base; /* SPANS spans, shared by the processes of a run */
static _Atomic uint32_t *next_span;

static __thread char *window;
static __thread size_t used;

static __attribute__((noinline)) char *claim_window(void)
{
	uint32_t n = atomic_fetch_add(next_span, 1) % SPANS;

	window = base + 4096 + n * SPAN;
	return window;
}

static peer_ref null_alloc(size_t size)
{
	char *w = window;
	size_t at = used;

	if (__builtin_expect(!w, 0))
		w = claim_window();
	if (__builtin_expect(at >= WINDOW, 0))
		at = 0;
	used = at + ((size + 15) & ~(size_t)15);
	return (peer_ref)(w + at);
}

static void null_free(peer_ref ref)
{
	(void)ref;
}

static uint64_t null_token(peer_ref ref)
{
	return ref - (peer_ref)base;
}

static peer_ref null_untoken(uint64_t token)
{
	return (peer_ref)base + token;
}

/* ---- a bare cache line: the sender's, with the record's first word; and the receiver's answer ---- */

struct line {
	_Atomic uint64_t put, word;
	_Atomic uint64_t got __attribute__((aligned(64)));
};
#define LINE_AT 2048 /* of the first page, whose first word is next_span */

static bool line_send(const void *record)
{
	struct line *l = (struct line *)(base + LINE_AT);
	uint64_t put = atomic_load_explicit(&l->put, memory_order_relaxed);

	if (atomic_load_explicit(&l->got, memory_order_acquire) != put)
		return false;
	atomic_store_explicit(&l->word, *(const uint64_t *)record, memory_order_relaxed);
	atomic_store_explicit(&l->put, put + 1, memory_order_release);
	return true;
}

static bool line_receive(void *record)
{
	struct line *l = (struct line *)(base + LINE_AT);
	uint64_t put = atomic_load_explicit(&l->put, memory_order_acquire);

	if (atomic_load_explicit(&l->got, memory_order_relaxed) == put)
		return false;
	*(uint64_t *)record = atomic_load_explicit(&l->word, memory_order_relaxed);
	atomic_store_explicit(&l->got, put, memory_order_release);
	return true;
}

static const struct peer_queue line_queue = { .send = line_send, .receive = line_receive };

static uint64_t null_mark(void)
{
	return used;
}

static void null_reset(uint64_t mark)
{
	used = mark;
}

static const struct peer_stack bump = { null_mark, null_alloc, null_reset };

static const struct peer_ops ops = {
	.version = "bump pointer",
	.alloc = null_alloc,
	.free = null_free,
	.alloc_shared = null_alloc,
	.token = null_token,
	.untoken = null_untoken,
	.queue = &line_queue,
	.stack = &bump,
};

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
	size_t size = 4096 + SPANS * SPAN;
	char name[128];
	int fd;

	snprintf(name, sizeof(name), "/%s", config->arena);
	fd = shm_open(name, O_RDWR | O_CLOEXEC | (config->create ? O_CREAT | O_EXCL : 0), 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size)) {
		snprintf(err, err_size, "%s: %s", name, strerror(errno));
		return NULL;
	}
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (base == MAP_FAILED) {
		snprintf(err, err_size, "mmap: %s", strerror(errno));
		return NULL;
	}
	next_span = (_Atomic uint32_t *)base;
	return &ops;
}
