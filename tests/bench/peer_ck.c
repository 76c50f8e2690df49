/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_ck.c - Concurrency Kit's ck_ring of several producers and one consumer, records in its cells, in memory that
 * forked processes share. A consumer that sleeps is no part of it: it naps.
 */
#include "peer.h"

#include <ck_md.h>
#include <ck_ring.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#define CELLS 2048u /* a power of two */

#define RECORD(bytes)                                 \
	struct record##bytes {                        \
		char data[bytes];                     \
	};                                            \
	CK_RING_PROTOTYPE(record##bytes, record##bytes)
RECORD(64)
RECORD(128)
RECORD(512)

static struct ck_ring *ring;
static void *cells;
static size_t length;

static void forked(int index)
{
	(void)index;
}

static int make(size_t len)
{
	size_t size = 4096 + CELLS * len;
	char *memory;

	if (len != 64 && len != 128 && len != 512)
		return -EINVAL;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return -errno;
	ring = (struct ck_ring *)memory;
	cells = memory + 4096;
	length = len;
	ck_ring_init(ring, CELLS);
	return 0;
}

static bool put(const void *record)
{
	switch (length) {
	case 64: return CK_RING_ENQUEUE_MPSC(record64, ring, cells, (struct record64 *)record);
	case 128: return CK_RING_ENQUEUE_MPSC(record128, ring, cells, (struct record128 *)record);
	default: return CK_RING_ENQUEUE_MPSC(record512, ring, cells, (struct record512 *)record);
	}
}

static bool take(void *record)
{
	switch (length) {
	case 64: return CK_RING_DEQUEUE_MPSC(record64, ring, cells, (struct record64 *)record);
	case 128: return CK_RING_DEQUEUE_MPSC(record128, ring, cells, (struct record128 *)record);
	default: return CK_RING_DEQUEUE_MPSC(record512, ring, cells, (struct record512 *)record);
	}
}

static bool nap(void *record)
{
	struct timespec ts = { 0, 50000 };

	for (int i = 0; i < 2000; i++) {
		if (take(record))
			return true;
		nanosleep(&ts, NULL);
	}
	return false;
}

static const struct peer_queue queue = { .make = make, .send = put, .receive = take, .wait = nap };
static const struct peer_ops ops = {
	.version = "Concurrency Kit ck_ring, MPSC", .forked = forked, .queue = &queue };

const struct peer_ops *peer_open(const struct peer_config *config, char *err, size_t err_size)
{
	(void)config;
	(void)err;
	(void)err_size;
	return &ops;
}
