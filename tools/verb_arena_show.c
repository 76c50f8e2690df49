/* SPDX-License-Identifier: Apache-2.0 */
/* verb_arena_show.c - one arena: what it is, on which terms, who is attached, on which NUMA nodes it lies,
 * which names it has. */
#include <stdlib.h>
#include <string.h>

#include "nodes.h"
#include "reach.h"
#include "ring.h"
#include "stats.h"
#include "walk.h"

static void print_identity(struct emit *e, const struct reach *r)
{
	const struct arena_header *h = &r->header;
	char uuid[33], mode[8];

	for (int i = 0; i < 16; i++)
		snprintf(uuid + 2 * i, 3, "%02x", h->uuid[i]);
	snprintf(mode, sizeof(mode), "%04o", r->info.terms.mode & 0777);
	emit_string(e, "name", r->name);
	emit_string(e, "uuid", uuid);
	emit_time(e, "created", h->created_ns);
	emit_u64(e, "version", h->version);
	emit_string(e, "backing", reach_backing_name(h->backing));
	emit_u64(e, "uid", r->info.uid);
	emit_u64(e, "gid", r->info.gid);
	emit_string(e, "mode", mode);
	emit_u64(e, "handle_tag", h->tag);
	emit_bool(e, "damaged",
		  atomic_load_explicit(&r->arena.header->damaged, memory_order_relaxed) != 0);
}

static void print_terms(struct emit *e, const struct reach *r)
{
	const struct arena_header *h = &r->header;

	emit_bytes(e, "file_bytes", r->arena.g.file_size);
	emit_bytes(e, "capacity_bytes", r->arena.g.capacity);
	if (h->client_quota)
		emit_bytes(e, "client_quota_bytes", h->client_quota);
	else
		emit_none(e, "client_quota_bytes");
	nodes_print_terms(e, r);
	emit_bytes(e, "log_bytes", r->arena.g.ring_size);
	emit_string(e, "log_policy",
		    reach_policy_name(atomic_load_explicit(&r->arena.header->log_policy,
							   memory_order_relaxed)));
	emit_string(e, "log_clock", reach_clock_name(ring_clock(&r->arena)));
	emit_u64(e, "zones", r->arena.g.zone_count);
	emit_u64(e, "zones_in_use", walk_zones(&r->arena));
	emit_bytes(e, "zone_bytes", r->arena.g.zone_pages << PAGE_SHIFT);
}

static void print_fill(struct emit *e, const struct reach *r, const struct shma_stats *st)
{
	emit_bytes(e, "committed_bytes", st->committed_bytes);
	emit_bytes(e, "live_bytes", st->live_bytes);
	emit_u64(e, "live_objects", st->live_objects);
	emit_u64(e, "clients", reach_live_clients(r));
	emit_u64(e, "threads", st->threads);
}

static void print_name(struct emit *e, const struct reach *r, const struct name_entry *entry)
{
	struct walk_object object;
	uint64_t handle = atomic_load_explicit(&entry->handle, memory_order_relaxed);
	bool there = walk_object(&r->arena, handle_offset(handle), &object);

	emit_row(e);
	emit_data(e, "name", entry->name, strnlen(entry->name, sizeof(entry->name)));
	emit_hex(e, "handle", handle);
	if (there)
		emit_bytes(e, "size_bytes", object.bytes);
	else
		emit_none(e, "size_bytes");
	emit_row_end(e);
}

static void print_names(struct emit *e, const struct reach *r)
{
	static const char *const columns[] = { "name", "handle", "size_bytes", NULL };

	emit_table(e, "names", columns);
	for (uint32_t i = 0; i < NAMES_MAX; i++) {
		struct name_entry entry;
		uint64_t word;

		/* While it is being unpublished it is still to be found. */
		if (reach_name(r, i, &word, &entry) && (name_word_state(word) == NAME_LIVE ||
							name_word_state(word) == NAME_UNPUBLISHING))
			print_name(e, r, &entry);
	}
	emit_table_end(e);
}

static int print(const struct call *call, const struct reach *r)
{
	struct shma_stats st;
	struct stats_detail *d = nodes_count(r, &st);
	struct emit e;
	int code;

	if (!d)
		return TOOL_FAILED;
	emit_begin(&e, stdout, call->json);
	print_identity(&e, r);
	print_terms(&e, r);
	print_fill(&e, r, &st);
	nodes_print(&e, r, d);
	print_names(&e, r);
	code = tool_finish(&e, TOOL_OK);
	nodes_free(d);
	return code;
}

int verb_arena_show(const struct call *call)
{
	struct reach r;
	int code = reach_open(call, call->argv[0], &r);

	if (code)
		return code;
	code = print(call, &r);
	reach_close(&r);
	return code;
}
