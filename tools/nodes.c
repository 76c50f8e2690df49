/* SPDX-License-Identifier: Apache-2.0 */
/* nodes.c - an arena by NUMA node; pages by node are the kernel's own word (residence.h). */
#include "nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "huge.h"
#include "placement.h"
#include "residence.h"
#include "walk.h"

void nodes_text(uint64_t nodes, char to[NODES_TEXT_BYTES])
{
	size_t used = 0;

	to[0] = '\0';
	for (unsigned n = 0; n < 64; n++) {
		unsigned last = n;

		if (!(nodes >> n & 1))
			continue;
		while (last < 63 && nodes >> (last + 1) & 1)
			last++;
		used += (size_t)snprintf(to + used, NODES_TEXT_BYTES - used,
					 last > n ? "%s%u-%u" : "%s%u", used ? "," : "", n, last);
		n = last;
	}
}

struct stats_detail *nodes_count(const struct reach *r, struct shma_stats *st)
{
	struct stats_detail *d = calloc(1, sizeof(*d));

	if (d) {
		d->zones_len = r->arena.g.zone_count;
		d->zones = calloc(d->zones_len, sizeof(*d->zones));
	}
	if (!d || !d->zones) {
		free(d);
		tool_errno(r->name, ENOMEM);
		return NULL;
	}
	stats_arena_detail(&r->arena, st, d);
	return d;
}

void nodes_free(struct stats_detail *d)
{
	if (d)
		free(d->zones);
	free(d);
}

/* ---- what was asked for ---- */

static const char *placement_word(enum placement_answer answer)
{
	static const char *const words[PLACEMENT_ANSWERS] = { "kept", "one node", "forbidden",
							      "not kept" };

	return answer < PLACEMENT_ANSWERS ? words[answer] : NULL;
}

static const char *huge_word(enum huge_answer answer)
{
	static const char *const words[HUGE_ANSWERS] = { "not wanted",	"hugetlb",   "granted",
							 "made",	"forbidden", "no tmpfs",
							 "unknown here" };

	return answer < HUGE_ANSWERS ? words[answer] : NULL;
}

static bool setting_matters(enum huge_answer answer)
{
	return answer == HUGE_GRANTED || answer == HUGE_MADE || answer == HUGE_SETTING;
}

void nodes_print_terms(struct emit *e, const struct reach *r)
{
	const struct arena_header *h = &r->header;
	enum huge_answer huge = huge_ask(&r->arena, h);
	char text[NODES_TEXT_BYTES];

	nodes_text(h->numa_nodes, text);
	emit_string(e, "numa", reach_numa_name(h->numa_mode));
	emit_string(e, "numa_nodes", text);
	emit_string(e, "numa_state", placement_word(placement_ask(&r->arena, h)));
	emit_string(e, "huge", reach_huge_name(h->huge_mode));
	emit_string(e, "huge_state", huge_word(huge));
	if (setting_matters(huge))
		huge_setting(&r->arena, text, sizeof(text));
	emit_string(e, "huge_setting", setting_matters(huge) ? text : NULL);
}

static void warn_numa(const struct reach *r)
{
	const char *mode = reach_numa_name(r->header.numa_mode);

	switch (placement_ask(&r->arena, &r->header)) {
	case PLACEMENT_FORBIDDEN:
		if (r->header.numa_mode != PLACEMENT_LOCAL)
			tool_error(
				"%s: numa %s: the kernel refuses NUMA policies to this process, as in "
				"a container without CAP_SYS_NICE; pages go where it puts them",
				r->name, mode);
		break;
	case PLACEMENT_NOT_KEPT:
		tool_error(
			"%s: numa %s: the kernel keeps no policy for this file; pages go to the node "
			"of whoever touches them first",
			r->name, mode);
		break;
	case PLACEMENT_ONE_NODE:
		if (r->header.numa_mode == PLACEMENT_INTERLEAVE)
			tool_error("%s: numa %s: this machine has one node", r->name, mode);
		break;
	default: break;
	}
}

static void warn_huge(const struct reach *r)
{
	char setting[NODES_TEXT_BYTES];

	switch (huge_ask(&r->arena, &r->header)) {
	case HUGE_SETTING:
		huge_setting(&r->arena, setting, sizeof(setting));
		tool_error("%s: huge %s: no huge pages, the system's setting is %s", r->name,
			   reach_huge_name(r->header.huge_mode), setting);
		break;
	case HUGE_NO_FILE:
		tool_error("%s: huge %s: no huge pages, the file is not in a tmpfs", r->name,
			   reach_huge_name(r->header.huge_mode));
		break;
	case HUGE_NONE:
		tool_error("%s: huge %s: no huge pages, this kernel has none", r->name,
			   reach_huge_name(r->header.huge_mode));
		break;
	default: break;
	}
}

void nodes_warn(const struct reach *r)
{
	warn_numa(r);
	warn_huge(r);
}

/* ---- the table ---- */

struct node_row {
	uint64_t zones, capacity, used, committed;
};

static void add_zones(const struct reach *r, const struct stats_detail *d, uint32_t node,
		      struct node_row *row)
{
	for (uint64_t z = 0; z < d->zones_len; z++) {
		const struct stats_zone *zone = &d->zones[z];

		if (placement_node_of_zone(&r->arena, z) != (int)node)
			continue;
		row->zones++;
		row->capacity += zone->pages << PAGE_SHIFT;
		row->used += tool_less(zone->pages, zone->free_pages) << PAGE_SHIFT;
		row->committed += zone->committed_pages << PAGE_SHIFT;
	}
}

static void print_zones_of(struct emit *e, const struct node_row *row)
{
	static const char *const keys[] = { "zones", "capacity_bytes", "used_bytes",
					    "committed_bytes" };

	if (row->zones) {
		emit_u64(e, keys[0], row->zones);
		emit_bytes(e, keys[1], row->capacity);
		emit_bytes(e, keys[2], row->used);
		emit_bytes(e, keys[3], row->committed);
		return;
	}
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		emit_none(e, keys[i]);
}

void nodes_print(struct emit *e, const struct reach *r, const struct stats_detail *d)
{
	static const char *const columns[] = { "node",	     "zones",		"capacity_bytes",
					       "used_bytes", "committed_bytes", "resident_bytes",
					       NULL };
	uint64_t nodes = r->header.numa_nodes;
	struct residence residence;
	bool known = residence_count(&r->arena, &residence) == 0;

	for (uint32_t n = 0; known && n < PLACEMENT_NODES_MAX; n++)
		nodes |= (uint64_t)(residence.bytes[n] != 0) << n;
	emit_table(e, "nodes", columns);
	for (uint32_t n = 0; n < PLACEMENT_NODES_MAX; n++) {
		struct node_row row = { 0 };

		if (!(nodes >> n & 1))
			continue;
		add_zones(r, d, n, &row);
		emit_row(e);
		emit_u64(e, "node", n);
		print_zones_of(e, &row);
		if (known)
			emit_bytes(e, "resident_bytes", residence.bytes[n]);
		else
			emit_none(e, "resident_bytes");
		emit_row_end(e);
	}
	emit_table_end(e);
}
