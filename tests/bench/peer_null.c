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

static const struct peer_ops ops = {
	.version = "bump pointer",
	.alloc = null_alloc,
	.free = null_free,
	.alloc_shared = null_alloc,
	.token = null_token,
	.untoken = null_untoken,
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
