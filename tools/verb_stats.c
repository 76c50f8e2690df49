/* SPDX-License-Identifier: Apache-2.0 */
/* verb_stats.c - how full an arena is: in all, by kind of page, class, client, NUMA node and zone. */
#include "nodes.h"
#include "placement.h"
#include "reach.h"
#include "ring.h"
#include "sizeclass.h"
#include "stats.h"
#include "words.h"

static void print_totals(struct emit *e, const struct reach *r, const struct shma_stats *st,
			 const struct stats_detail *d)
{
	emit_bytes(e, "capacity_bytes", st->capacity_bytes);
	emit_bytes(e, "committed_bytes", st->committed_bytes);
	emit_bytes(e, "live_bytes", st->live_bytes);
	emit_u64(e, "live_objects", st->live_objects);
	emit_bytes(e, "cached_bytes", st->cached_bytes);
	emit_u64(e, "cached_objects", st->cached_objects);
	emit_u64(e, "persistent_objects", st->persistent_objects);
	emit_u64(e, "names", st->names);
	emit_u64(e, "clients", reach_live_clients(r));
	emit_u64(e, "threads", st->threads);
	emit_u64(e, "slabs", st->slabs);
	emit_bytes(e, "slab_bytes", st->slab_bytes);
	emit_u64(e, "extents", st->extents);
	emit_bytes(e, "extent_bytes", st->extent_bytes);
	emit_bytes(e, "state_bytes", st->state_bytes);
	emit_bytes(e, "log_capacity_bytes", st->log_capacity_bytes);
	emit_u64(e, "packed_objects", st->packed_objects);
	emit_bytes(e, "packed_bytes", st->packed_bytes);
	emit_bytes(e, "unpacked_bytes", st->unpacked_bytes);
	if (st->packed_bytes)
		emit_real(e, "packed_ratio", (double)st->unpacked_bytes / (double)st->packed_bytes, 2);
	else
		emit_none(e, "packed_ratio");
	emit_u64(e, "problems", d->problems);
	emit_bytes(e, "stack_bytes", st->stack_bytes);
	emit_bytes(e, "stack_used_bytes", st->stack_used_bytes);
	emit_bytes(e, "stack_high_bytes", st->stack_high_bytes);
	emit_u64(e, "held_objects", st->held_objects);
	emit_u64(e, "holds", st->holds);
	emit_bytes(e, "hold_bytes", st->hold_bytes);
}

static void print_pages(struct emit *e, const struct stats_detail *d)
{
	static const char *const kinds[PAGE_KINDS] = { "free", "raw",	"returned", "large",
						       "slab", "state", "span",	    "log",
						       "stack", "mapped" };
	static const char *const columns[] = { "kind", "pages", NULL };

	emit_table(e, "pages", columns);
	for (size_t i = 0; i < PAGE_KINDS; i++) {
		emit_row(e);
		emit_string(e, "kind", kinds[i]);
		emit_u64(e, "pages", d->pages_by_kind[i]);
		emit_row_end(e);
	}
	emit_table_end(e);
}

static void print_classes(struct emit *e, const struct stats_detail *d)
{
	static const char *const columns[] = { "class_bytes", "slabs", "capacity",	   "live",
					       "cached",      "free",  "fullness_percent", NULL };

	emit_table(e, "classes", columns);
	for (uint32_t i = 0; i < CLASSES; i++) {
		const struct stats_class *c = &d->classes[i];

		if (!c->slabs)
			continue;
		emit_row(e);
		emit_bytes(e, "class_bytes", sizeclass_table[i].bytes);
		emit_u64(e, "slabs", c->slabs);
		emit_u64(e, "capacity", c->capacity);
		emit_u64(e, "live", tool_less(c->owned, c->cached));
		emit_u64(e, "cached", c->cached);
		emit_u64(e, "free", c->free);
		emit_percent(e, "fullness_percent",
			     100.0 * (double)tool_less(c->owned, c->cached) / (double)c->capacity);
		emit_row_end(e);
	}
	emit_table_end(e);
}

static bool owns_something(const struct stats_client *c)
{
	return c->owned_objects || c->bookkeeping_bytes || c->extents || c->threads || c->holds;
}

static void print_client(struct emit *e, const struct reach *r, uint32_t number,
			 const struct stats_client *c)
{
	struct client_record record;
	char command[sizeof(record.command) + 1] = "the arena";
	bool known = number && reach_client_record(r, number, &record);

	if (known)
		reach_copy_text(command, sizeof(command), record.command, sizeof(record.command));
	emit_row(e);
	emit_u64(e, "client", number);
	if (known)
		emit_i64(e, "pid", atomic_load_explicit(&record.pid, memory_order_relaxed));
	else
		emit_none(e, "pid");
	emit_string(e, "command", known || !number ? command : NULL);
	emit_u64(e, "threads", c->threads);
	emit_bytes(e, "live_bytes", tool_less(c->owned_bytes, c->cached_bytes));
	emit_u64(e, "live_objects", tool_less(c->owned_objects, c->cached_objects));
	emit_u64(e, "shared_objects", c->shared_objects);
	emit_bytes(e, "cached_bytes", c->cached_bytes);
	emit_bytes(e, "bookkeeping_bytes", c->bookkeeping_bytes);
	emit_u64(e, "extents", c->extents);
	emit_u64(e, "held_objects", c->held_objects);
	emit_u64(e, "holds", c->holds);
	emit_row_end(e);
}

static void print_clients(struct emit *e, const struct reach *r, const struct stats_detail *d)
{
	static const char *const columns[] = { "client",
					       "pid",
					       "command",
					       "threads",
					       "live_bytes",
					       "live_objects",
					       "shared_objects",
					       "cached_bytes",
					       "bookkeeping_bytes",
					       "extents",
					       "held_objects",
					       "holds",
					       NULL };

	/* In JSON "clients" is the number of them: the detail is called "owners". */
	emit_table(e, "owners", columns);
	for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
		bool live = i && i < reach_client_count(r) &&
			    client_word_state(reach_client_word(r, i)) != CLIENT_FREE;

		if (live || owns_something(&d->clients[i]))
			print_client(e, r, i, &d->clients[i]);
	}
	emit_table_end(e);
}

static void print_zones(struct emit *e, const struct reach *r, const struct stats_detail *d)
{
	static const char *const columns[] = { "zone",
					       "bytes",
					       "touched_bytes",
					       "free_bytes",
					       "largest_free_bytes",
					       "fragmentation_percent",
					       "committed_bytes",
					       "in_use",
					       "lock_busy",
					       "node",
					       NULL };

	emit_table(e, "zones", columns);
	for (uint64_t i = 0; i < d->zones_len; i++) {
		const struct stats_zone *z = &d->zones[i];

		/* Zones come into use in order; those that never did are all alike. */
		if (!z->active)
			break;
		emit_row(e);
		emit_u64(e, "zone", i);
		emit_bytes(e, "bytes", z->pages << PAGE_SHIFT);
		emit_bytes(e, "touched_bytes", z->high << PAGE_SHIFT);
		emit_bytes(e, "free_bytes", z->free_pages << PAGE_SHIFT);
		emit_bytes(e, "largest_free_bytes", z->largest_free << PAGE_SHIFT);
		/* Of what is free, what is not in one piece. */
		emit_percent(e, "fragmentation_percent",
			     100.0 * (double)tool_less(z->free_pages, z->largest_free) / (double)z->free_pages);
		emit_bytes(e, "committed_bytes", z->committed_pages << PAGE_SHIFT);
		emit_bool(e, "in_use", z->active);
		emit_u64(e, "lock_busy", z->busy);
		if (placement_node_of_zone(&r->arena, i) >= 0)
			emit_u64(e, "node", (uint64_t)placement_node_of_zone(&r->arena, i));
		else
			emit_none(e, "node");
		emit_row_end(e);
	}
	emit_table_end(e);
}

static void print_log(struct emit *e, const struct reach *r)
{
	struct ring_survey s;

	if (ring_survey(&r->arena, &s))
		return;
	emit_section(e, "log");
	emit_u64(e, "records", s.records);
	emit_bytes(e, "record_bytes", s.bytes);
	emit_u64(e, "written", s.written);
	emit_u64(e, "overwritten", tool_less(s.written, s.records));
	emit_u64(e, "dropped", s.dropped);
	emit_u64(e, "blocks", s.blocks);
	emit_bytes(e, "block_bytes", s.block_bytes);
	emit_u64(e, "open_blocks", s.open);
	emit_u64(e, "shared_blocks", s.shared);
	emit_u64(e, "sealed_blocks", s.sealed);
	emit_u64(e, "unused_blocks", s.unused);
	if (s.consumer)
		emit_u64(e, "consumer", s.consumer);
	else
		emit_none(e, "consumer");
	emit_section_end(e);
}

static int print(const struct call *call, const struct reach *r)
{
	struct shma_stats st;
	struct stats_detail *d = nodes_count(r, &st);
	struct emit e;
	int code;

	if (!d)
		return TOOL_FAILED;
	emit_begin_held(&e, stdout, call->json);
	emit_string(&e, "arena", r->name);
	print_totals(&e, r, &st, d);
	print_log(&e, r);
	print_pages(&e, d);
	print_classes(&e, d);
	print_clients(&e, r, d);
	nodes_print(&e, r, d);
	print_zones(&e, r, d);
	code = tool_finish(&e, TOOL_OK);
	nodes_free(d);
	return code;
}

int verb_stats(const struct call *call)
{
	struct reach r;
	int code = reach_open(call, call->argv[0], &r);

	if (code)
		return code;
	code = print(call, &r);
	reach_close(&r);
	return code;
}
