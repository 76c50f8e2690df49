/* SPDX-License-Identifier: Apache-2.0 */
#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "zone.h"

#define TRIES 200
#define TRY_US 10000

/* Zeros where it cannot be read: then no boot is told from another. */
static void read_boot_id(uint64_t id[2])
{
	char text[64] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	unsigned a, b, c, d;
	unsigned long long e;

	if (fd >= 0)
		close(fd);
	id[0] = id[1] = 0;
	if (n > 0 && sscanf(text, "%8x-%4x-%4x-%4x-%12llx", &a, &b, &c, &d, &e) == 5) {
		id[0] = (uint64_t)a << 32 | b << 16 | c;
		id[1] = (uint64_t)d << 48 | e;
	}
}

void boot_note(struct arena_header *h)
{
	uint64_t id[2];

	read_boot_id(id);
	atomic_init(&h->boot_id[0], id[0]);
	atomic_init(&h->boot_id[1], id[1]);
}

static bool is_current(struct arena *a, const uint64_t id[2])
{
	/* PAIR(boot): the second half is written last. */
	return atomic_load_explicit(&a->header->boot_id[1], memory_order_acquire) == id[1] &&
	       atomic_load_explicit(&a->header->boot_id[0], memory_order_relaxed) == id[0];
}

/* The file's own lock: the kernel drops it with its holder. */
static int lock_file(int fd, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};

	for (int i = 0; i < TRIES; i++) {
		if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
			return 0;
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
		usleep(TRY_US);
	}
	return -EAGAIN;
}

/* Crash: before the boot id's second half, the next opener does it all again; nobody uses the arena
 * before that. */
static int renew(struct arena *a, const uint64_t id[2])
{
	int r = zone_format(a);

	for (uint32_t z = 0; !r && z < a->g.zone_count; z++)
		atomic_store_explicit(&zone_of(a, z)->ready, 0, memory_order_relaxed);
	if (r)
		return r;
	atomic_store_explicit(&a->header->boot_id[0], id[0], memory_order_relaxed);
	atomic_store_explicit(&a->header->boot_id[1], id[1], memory_order_release); /* PAIR(boot) */
	return 0;
}

int boot_renew(struct arena *a)
{
	uint64_t id[2];
	int r;

	read_boot_id(id);
	if (a->header->backing != BACKING_FILE || (!id[0] && !id[1]) || is_current(a, id))
		return 0;
	r = lock_file(a->files.fd, F_WRLCK);
	if (r)
		return r;
	if (!is_current(a, id))
		r = renew(a, id);
	lock_file(a->files.fd, F_UNLCK);
	return r;
}
