/* SPDX-License-Identifier: Apache-2.0 */
/* verb_arena_list.c - one line an arena. */
#include "reach.h"

static const char *const columns[] = { "name", "backing", "capacity_bytes", "log_bytes", "clients",
				       "mode", "uid",	  "created",	    "status",	 "why",
				       NULL };

static const char *why(const struct arena_info *info)
{
	if (info->status == ARENA_LOST)
		return "its memory went with an earlier daemon";
	return info->why ? shma_strerror(info->why) : NULL;
}

static int print_row(void *context, const struct arena_info *info)
{
	struct emit *e = context;
	char name[ARENA_NAME_BYTES + 1], mode[8];

	reach_copy_text(name, sizeof(name), info->name, sizeof(info->name));
	snprintf(mode, sizeof(mode), "%04o", info->terms.mode & 0777);
	emit_row(e);
	emit_string(e, "name", name);
	emit_string(e, "backing", reach_backing_name(info->terms.backing));
	emit_bytes(e, "capacity_bytes", info->terms.capacity);
	emit_bytes(e, "log_bytes", info->terms.log_capacity);
	emit_u64(e, "clients", info->clients);
	emit_string(e, "mode", mode);
	emit_u64(e, "uid", info->uid);
	emit_time(e, "created", info->created_ns);
	emit_string(e, "status", reach_status_name(info->status));
	emit_string(e, "why", why(info));
	emit_row_end(e);
	return TOOL_OK;
}

int verb_arena_list(const struct call *call)
{
	struct emit e;
	int code;

	emit_begin_held(&e, stdout, call->json);
	emit_table(&e, "arenas", columns);
	code = reach_list(call, print_row, &e);
	if (code) {
		emit_drop(&e);
		return code;
	}
	emit_table_end(&e);
	return tool_finish(&e, TOOL_OK);
}
