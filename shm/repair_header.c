/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header is believed when its checksum fits, and never otherwise. Much of it follows from the rest:
 * magic, version, byte order and sizes are constants of this layout, the geometry follows from two sizes,
 * the tag from the uuid. So these are set to what they must be, the two sizes are looked for in the
 * fields that follow from them, and of what is left one wrong byte at any place is found by trying: of
 * the 100,000 candidates that makes, none fits a 64-bit sum by chance.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "format.h"
#include "repair_run.h"

#define SUMMED	   offsetof(struct arena_header, active_zones)
#define SEEN_BYTES 65536u /* read at once */

/* ---- healing ---- */

static bool fits(const struct arena_header *h)
{
	return format_check(h) == 0;
}

/* What does not depend on the arena, or follows from the rest. */
static bool fill(struct arena_header *h, uint64_t capacity, uint64_t ring_size)
{
	memcpy(h->magic, LAYOUT_MAGIC, sizeof(h->magic));
	h->version = LAYOUT_VERSION;
	h->endian = LAYOUT_ENDIAN;
	h->header_size = sizeof(*h);
	h->tag = 1 + h->uuid[0] % 255u;
	return geometry_compute(&h->geometry, capacity, ring_size) == 0;
}

/* One wrong byte in what follows from nothing, or in the sum. */
static bool heal_byte(struct arena_header *h, uint64_t capacity, uint64_t ring_size)
{
	struct arena_header trial;

	for (size_t at = 0; at < SUMMED; at++) {
		if (at >= offsetof(struct arena_header, geometry) &&
		    at < offsetof(struct arena_header, geometry) + sizeof(h->geometry))
			continue;
		for (unsigned value = 0; value < 256; value++) {
			trial = *h;
			((unsigned char *)&trial)[at] = (unsigned char)value;
			if (fill(&trial, capacity, ring_size) && fits(&trial)) {
				*h = trial;
				return true;
			}
		}
	}
	return false;
}

/* The sum as it must be, where it is itself what is wrong: more than a byte of it, all else agreeing. */
static bool heal_sizes(struct arena_header *h, uint64_t file_size, bool bytes)
{
	const struct arena_geometry g = h->geometry;
	const uint64_t capacities[] = { g.capacity, g.file_size - g.heap, file_size - g.heap,
					g.zone_count * g.zone_pages << PAGE_SHIFT };
	const uint64_t rings[] = { g.ring_size, g.debug - g.ring };

	for (size_t c = 0; c < sizeof(capacities) / sizeof(capacities[0]); c++)
		for (size_t n = 0; n < sizeof(rings) / sizeof(rings[0]); n++) {
			struct arena_header trial = *h;

			if (!fill(&trial, capacities[c], rings[n]))
				continue;
			if (fits(&trial) || (bytes && heal_byte(&trial, capacities[c], rings[n]))) {
				*h = trial;
				return true;
			}
		}
	return false;
}

static int wrong_bytes(const struct arena_header *was, const struct arena_header *is)
{
	const unsigned char *x = (const void *)was, *y = (const void *)is;
	int n = 0;

	for (size_t i = 0; i < SUMMED; i++)
		n += x[i] != y[i];
	return n;
}

int repair_header_heal(struct arena_header *h, uint64_t file_size)
{
	struct arena_header was = *h;

	if (fits(h))
		return 0;
	if (heal_sizes(h, file_size, false) || heal_sizes(h, file_size, true))
		return wrong_bytes(&was, h);
	*h = was;
	/* Another version's sum covers fields that we do not know. */
	return memcmp(h->magic, LAYOUT_MAGIC, sizeof(h->magic)) == 0 &&
			       (h->version != LAYOUT_VERSION || h->endian != LAYOUT_ENDIAN)
		       ? -EPROTO
		       : -EUCLEAN;
}

/* ---- zones in use ---- */

/* Whether a stretch of the file holds anything but zeros. Holes are skipped, not read. */
static bool has_data(const struct repair_run *r, uint64_t from, uint64_t to)
{
	static const char zeros[4096];
	char bytes[sizeof(zeros)];

	while (from < to) {
		off_t data = lseek(r->a.files.fd, (off_t)from, SEEK_DATA);
		uint64_t n = to - from < sizeof(bytes) ? to - from : sizeof(bytes);

		if (data < 0 && errno == ENXIO)
			return false;
		if (data > (off_t)from) {
			from = (uint64_t)data & ~(uint64_t)(PAGE_SIZE - 1);
			continue;
		}
		if (walk_copy(&r->a, from, bytes, n) && memcmp(bytes, zeros, n) != 0)
			return true;
		from += n;
	}
	return false;
}

static bool zone_was_used(const struct repair_run *r, uint64_t zone)
{
	uint64_t first = zone * r->a.g.zone_pages, span = geometry_zone_span(&r->a.g, zone);
	uint64_t from = r->a.g.page_map + first * sizeof(struct page_entry);

	return has_data(r, from, from + span * sizeof(struct page_entry));
}

/* The last zone whose page map says anything, and those before it. */
static uint64_t zones_used(const struct repair_run *r)
{
	uint64_t zone = r->a.g.zone_count;

	while (zone > 0 && !zone_was_used(r, zone - 1))
		zone--;
	return zone;
}

int repair_bounds(struct repair_run *r)
{
	struct arena *a = &r->a;
	uint32_t said = atomic_load_explicit(&a->header->active_zones, memory_order_relaxed);
	uint64_t zones = zones_used(r);
	int err = 0;

	if (said > a->g.zone_count || said < zones)
		repair_note(r, REPAIR_BOUNDS, AUDIT_NOWHERE, 0, 0, 0,
			    "the header says %u zones in use, the page map %llu", said,
			    (unsigned long long)zones);
	if (zones) {
		err = arena_commit(a, a->g.zone_indexes, zones * a->g.zone_index_size);
		r->pages = zones * a->g.zone_pages;
		if (r->pages > geometry_heap_pages(&a->g))
			r->pages = geometry_heap_pages(&a->g);
	}
	if (!err && zones)
		err = arena_commit(a, a->g.page_map, r->pages * sizeof(struct page_entry));
	/* Crash: zones with nothing in them are taken into use again when they are needed. */
	if (!err)
		atomic_store_explicit(&a->header->active_zones, (uint32_t)zones,
				      memory_order_release);
	arena_refresh(a);
	return err;
}
