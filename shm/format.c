/* SPDX-License-Identifier: Apache-2.0 */
#include "format.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "boot.h"
#include "clock.h"
#include "debug.h"
#include "geometry.h"
#include "huge.h"
#include "placement.h"
#include "ring.h"
#include "zone.h"

#define DEFAULT_CAPACITY (UINT64_C(1) << 30)
#define DEFAULT_LOG_CAPACITY (UINT64_C(4) << 20)

/* FNV-1a (Fowler, Noll, Vo): told apart from damage, not from malice. */
static uint64_t checksum(const struct arena_header *h)
{
	struct arena_header copy;
	const unsigned char *p = (const unsigned char *)&copy;
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	memcpy(&copy, h, sizeof(copy));
	copy.checksum = 0;
	for (size_t i = 0; i < offsetof(struct arena_header, active_zones); i++)
		sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
	return sum;
}

int format_pid_namespace(uint64_t *dev, uint64_t *ino)
{
	struct stat st;

	if (stat("/proc/self/ns/pid", &st) < 0)
		return -errno;
	*dev = st.st_dev;
	*ino = st.st_ino;
	return 0;
}

int format_header(struct arena_header *h, const struct arena_config *config)
{
	uint64_t nodes = config->numa_nodes;
	int r;

	if (config->log_policy > 2 || config->log_clock > 1 || config->huge_mode > HUGE_PAGES_ALWAYS ||
	    config->debug_mode >= DEBUG_MODES)
		return -EINVAL;
	r = placement_settle(config->numa_mode, &nodes);
	if (r)
		return r;
	memset(h, 0, sizeof(*h));
	r = geometry_compute(&h->geometry, config->capacity ? config->capacity : DEFAULT_CAPACITY,
			     ring_area_bytes(config->log_capacity ? config->log_capacity
								  : DEFAULT_LOG_CAPACITY));
	if (!r)
		r = format_pid_namespace(&h->pidns_dev, &h->pidns_ino);
	if (!r && getrandom(h->uuid, sizeof(h->uuid), 0) != (ssize_t)sizeof(h->uuid))
		r = -EAGAIN;
	if (r)
		return r;
	memcpy(h->magic, LAYOUT_MAGIC, sizeof(h->magic));
	h->version = LAYOUT_VERSION;
	h->endian = LAYOUT_ENDIAN;
	h->header_size = sizeof(*h);
	h->backing = config->backing;
	h->created_ns = clock_real();
	strncpy(h->name, config->name, sizeof(h->name) - 1);
	h->tag = 1 + h->uuid[0] % 255;
	h->log_policy_at_creation = config->log_policy;
	h->client_quota = config->client_quota;
	h->numa_mode = config->numa_mode;
	h->numa_nodes = nodes;
	h->huge_mode = config->huge_mode;
	h->debug_mode = config->debug_mode;
	if (config->debug_mode == DEBUG_SAMPLED)
		h->debug_every = config->debug_every ? config->debug_every : DEBUG_EVERY;
	atomic_init(&h->log_policy, config->log_policy);
	atomic_init(&h->log_clock, config->log_clock);
	boot_note(h);
	h->checksum = checksum(h);
	return 0;
}

int format_arena(const struct arena_header *h, struct arena_files files)
{
	struct arena a;
	int r = arena_map_files(&a, files, &h->geometry, false);

	if (r)
		return r;
	r = placement_create(&a, h);
	/* All of the fixed part at once: its words are read by anyone without further question. */
	if (!r)
		r = arena_commit(&a, 0, h->geometry.name_entries);
	if (!r && h->debug_mode)
		r = arena_commit(&a, h->geometry.debug, sizeof(struct debug_area));
	if (!r) {
		memcpy(a.header, h, sizeof(*h));
		r = zone_format(&a);
	}
	if (!r)
		r = ring_format(&a);
	arena_unmap_keep_files(&a);
	return r;
}

/* The geometry in a file is nothing but what its two sizes ask for. */
static bool geometry_believable(const struct arena_geometry *g)
{
	struct arena_geometry expected;

	return geometry_compute(&expected, g->capacity, g->ring_size) == 0 &&
	       memcmp(&expected, g, sizeof(expected)) == 0;
}

int format_check(const struct arena_header *h)
{
	if (memcmp(h->magic, LAYOUT_MAGIC, sizeof(h->magic)) != 0)
		return -EUCLEAN;
	if (h->endian != LAYOUT_ENDIAN || h->version != LAYOUT_VERSION)
		return -EPROTO;
	if (h->header_size != sizeof(*h) || h->checksum != checksum(h) || h->tag < 1 || h->tag > 255 ||
	    h->debug_mode >= DEBUG_MODES ||
	    !geometry_believable(&h->geometry))
		return -EUCLEAN;
	return 0;
}

int format_reissue(struct arena_header *h, const char *name, enum arena_backing backing)
{
	int r = format_pid_namespace(&h->pidns_dev, &h->pidns_ino);

	if (!r && getrandom(h->uuid, sizeof(h->uuid), 0) != (ssize_t)sizeof(h->uuid))
		r = -EAGAIN;
	if (r)
		return r;
	memset(h->name, 0, sizeof(h->name));
	strncpy(h->name, name, sizeof(h->name) - 1);
	h->created_ns = clock_real();
	h->backing = backing;
	h->numa_mode = 0; /* nobody has asked the kernel for policies; its zones stay where they are told to be */
	h->checksum = checksum(h);
	return 0;
}
