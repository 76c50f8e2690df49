/* SPDX-License-Identifier: Apache-2.0 */
/* verb_client_list.c - who is attached: one line a client and arena. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "liveness.h"
#include "reach.h"
#include "stats.h"
#include "words.h"

static const char *const columns[] = { "arena",	  "client",	"pid",		"uid",
				       "command", "role",	"state",	"since",
				       "threads", "live_bytes", "cached_bytes", "held_objects", "holds", NULL };

/* Readers get no life file from the daemon, which recovers the dead at once; without it they can be
 * told from the living here. */
static const char *state_name(const struct reach *r, uint32_t number)
{
	static const char *const names[] = { "free", "opening", "live", "recovering" };
	enum client_state state = client_word_state(reach_client_word(r, number));

	if (state == CLIENT_LIVE && r->arena.files.life_fd >= 0 &&
	    liveness_is_dead(&r->arena, number))
		return "dead";
	return state <= CLIENT_RECOVERING ? names[state] : "unknown";
}

static void print_client(struct emit *e, const struct reach *r, uint32_t number,
			 const struct client_record *record, const struct stats_client *c)
{
	char command[sizeof(record->command) + 1];

	reach_copy_text(command, sizeof(command), record->command, sizeof(record->command));
	emit_row(e);
	emit_string(e, "arena", r->name);
	emit_u64(e, "client", number);
	emit_i64(e, "pid", atomic_load_explicit(&record->pid, memory_order_relaxed));
	emit_u64(e, "uid", atomic_load_explicit(&record->uid, memory_order_relaxed));
	emit_string(e, "command", command);
	emit_string(e, "role", number == r->info.daemon_client ? "daemon" : "client");
	emit_string(e, "state", state_name(r, number));
	emit_time(e, "since", atomic_load_explicit(&record->opened_ns, memory_order_relaxed));
	emit_u64(e, "threads", c->threads);
	emit_bytes(e, "live_bytes", tool_less(c->owned_bytes, c->cached_bytes));
	emit_bytes(e, "cached_bytes", c->cached_bytes);
	emit_u64(e, "held_objects", c->held_objects);
	emit_u64(e, "holds", c->holds);
	emit_row_end(e);
}

static int print_clients(struct emit *e, const struct reach *r)
{
	struct stats_detail *d = calloc(1, sizeof(*d));
	struct shma_stats st;

	if (!d) {
		tool_errno("client list", ENOMEM);
		return TOOL_FAILED;
	}
	stats_arena_detail(&r->arena, &st, d);
	for (uint32_t i = 1; i < reach_client_count(r); i++) {
		struct client_record record;

		if (reach_client_record(r, i, &record))
			print_client(e, r, i, &record, &d->clients[i]);
	}
	free(d);
	return TOOL_OK;
}

struct listing {
	const struct call *call;
	struct emit e;
	int code; /* TOOL_OK, or damage that was found on the way */
};

static int print_arena(void *context, const struct arena_info *info)
{
	struct listing *l = context;
	char name[ARENA_NAME_BYTES + 1];
	struct reach r;
	int code;

	/* One that is lost, or not ours to read, has no clients that could be shown. */
	if (info->status != ARENA_SERVED ||
	    (!l->call->embedded && !(info->rights & ARENA_RIGHT_READ)))
		return TOOL_OK;
	reach_copy_text(name, sizeof(name), info->name, sizeof(info->name));
	code = reach_open(l->call, name, &r);
	if (code) {
		/* It may have been destroyed meanwhile: the others are shown all the same. */
		if (code == TOOL_DAMAGE)
			l->code = code;
		return code == TOOL_NO_DAEMON ? code : TOOL_OK;
	}
	code = print_clients(&l->e, &r);
	reach_close(&r);
	return code;
}

static int print_one(const struct call *call, struct emit *e)
{
	struct reach r;
	int code = reach_open(call, call->argv[0], &r);

	if (code)
		return code;
	code = print_clients(e, &r);
	reach_close(&r);
	return code;
}

int verb_client_list(const struct call *call)
{
	struct listing l = { .call = call };
	int code;

	emit_begin_held(&l.e, stdout, call->json);
	emit_table(&l.e, "clients", columns);
	code = call->argc ? print_one(call, &l.e) : reach_list(call, print_arena, &l);
	if (code) {
		emit_drop(&l.e);
		return code;
	}
	emit_table_end(&l.e);
	return tool_finish(&l.e, l.code);
}
