/* SPDX-License-Identifier: Apache-2.0 */
/* verb_client_deaths.c - who died: one line each, or the whole report of one process. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deaths.h"
#include "reach.h"

static const char *const columns[] = { "arena", "client", "pid",  "uid",     "command", "ended",
				       "died",	"since",  "live", "objects", "records", NULL };
static const char *const held_columns[] = { "object_bytes", "private_objects", "shared_objects",
					    "cached_objects", NULL };
static const char *const call_columns[] = { "bytes", "objects", "calls", NULL };
static const char *const record_columns[] = { "time", "level", "tid", "seq", "text", NULL };

struct deaths {
	const struct call *call;
	struct emit e;
	int64_t pid; /* of the one report wanted; -1: all, in short */
	struct death found;
	bool has_found;
	uint32_t last_client, last_incarnation;
	char last_uuid[40];
};

/* A daemon killed between a report and the recovery leaves two. */
static bool is_repeated(struct deaths *l, const struct death *d)
{
	bool same = d->client == l->last_client && d->incarnation == l->last_incarnation &&
		    !strcmp(d->uuid, l->last_uuid);

	l->last_client = d->client;
	l->last_incarnation = d->incarnation;
	memcpy(l->last_uuid, d->uuid, sizeof(l->last_uuid));
	return same;
}

static void print_who(struct emit *e, const struct death *d)
{
	emit_string(e, "arena", d->arena);
	emit_u64(e, "client", d->client);
	emit_i64(e, "pid", d->pid);
	emit_u64(e, "uid", d->uid);
	emit_string(e, "command", d->command);
	emit_string(e, "ended", d->ended);
	emit_time(e, "died", d->died_ns);
	emit_time(e, "since", d->attached_ns);
}

static void print_short(struct emit *e, const struct death *d)
{
	emit_row(e);
	print_who(e, d);
	if (d->counted) {
		emit_bytes(e, "live", d->bytes);
		emit_u64(e, "objects", d->objects);
	} else {
		emit_none(e, "live");
		emit_none(e, "objects");
	}
	emit_u64(e, "records", d->record_count);
	emit_row_end(e);
}

static void print_held(struct emit *e, const struct death *d)
{
	emit_table(e, "held", held_columns);
	for (size_t i = 0; i < d->size_count; i++) {
		const struct death_size *s = &d->sizes[i];
		uint64_t objects = s->private_objects + s->shared_objects;

		emit_row(e);
		emit_bytes(e, "object_bytes", s->large && objects ? s->bytes / objects : s->bytes);
		emit_u64(e, "private_objects", s->private_objects);
		emit_u64(e, "shared_objects", s->shared_objects);
		emit_u64(e, "cached_objects", s->cached_objects);
		emit_row_end(e);
	}
	emit_table_end(e);
}

/* Estimated; nothing where the arena was not profiled. */
static void print_calls(struct emit *e, const struct death *d)
{
	struct symbols *symbols = d->call_count ? symbols_open() : NULL;

	emit_bool(e, "profiled", d->profiled);
	emit_table(e, "held_by_call", call_columns);
	for (size_t i = 0; i < d->call_count && symbols; i++) {
		char *text = profile_place_resolve(&d->calls[i], symbols) ? NULL
									  : profile_place_text(&d->calls[i], false);

		emit_row(e);
		emit_bytes(e, "bytes", (uint64_t)d->calls[i].bytes);
		emit_u64(e, "objects", (uint64_t)d->calls[i].objects);
		emit_string(e, "calls", text);
		emit_row_end(e);
		free(text);
	}
	emit_table_end(e);
	symbols_close(symbols);
}

static void print_records(struct emit *e, const struct death *d)
{
	emit_table(e, "last_records", record_columns);
	for (size_t i = 0; i < d->record_count; i++) {
		const struct death_record *r = &d->records[i];

		emit_row(e);
		emit_time(e, "time", r->time_ns);
		emit_i64(e, "level", r->level);
		emit_i64(e, "tid", r->tid);
		emit_u64(e, "seq", r->seq);
		emit_string(e, "text", r->text);
		emit_row_end(e);
	}
	emit_table_end(e);
}

static void print_whole(struct emit *e, const struct death *d)
{
	print_who(e, d);
	emit_u64(e, "threads", d->threads);
	emit_bool(e, "counted", d->counted);
	emit_bool(e, "whole", d->whole);
	emit_bytes(e, "live", d->bytes);
	emit_u64(e, "objects", d->objects);
	emit_u64(e, "held_objects", d->kept);
	emit_u64(e, "holds", d->holds);
	print_held(e, d);
	print_calls(e, d);
	print_records(e, d);
}

static int read_reports(struct deaths *l, FILE *f)
{
	struct death d;
	int r;

	while ((r = death_read(f, &d)) == 1) {
		if (is_repeated(l, &d)) {
			death_free(&d);
		} else if (l->pid < 0) {
			print_short(&l->e, &d);
			death_free(&d);
		} else if (d.pid == l->pid) { /* the last of that number */
			death_free(&l->found);
			l->found = d;
			l->has_found = true;
		} else {
			death_free(&d);
		}
	}
	if (r < 0)
		tool_errno("client deaths", r);
	return r < 0 ? TOOL_FAILED : TOOL_OK;
}

static int read_arena(struct deaths *l, int daemon, const char *name)
{
	struct arena_files files = { .fd = -1, .life_fd = -1, .heap_fd = -1 };
	struct request request;
	struct reply reply;
	FILE *f;
	int code;

	if (protocol_request(&request, REQUEST_CLIENT_DEATHS, name)) {
		tool_error("%s: not a name of an arena", name);
		return TOOL_FAILED;
	}
	code = reach_request(daemon, &request, &reply, &files, name);
	if (code || files.fd < 0)
		return code;
	f = fdopen(files.fd, "r");
	if (!f) {
		tool_errno(name, errno);
		close(files.fd);
		return TOOL_FAILED;
	}
	code = read_reports(l, f);
	fclose(f);
	return code;
}

struct names {
	char (*list)[ARENA_NAME_BYTES + 1];
	size_t count;
};

static int take_name(void *context, const struct arena_info *info)
{
	struct names *names = context;
	void *list = realloc(names->list, (names->count + 1) * sizeof(*names->list));

	if (!list)
		return TOOL_FAILED;
	names->list = list;
	if (info->rights & ARENA_RIGHT_READ)
		reach_copy_text(names->list[names->count++], sizeof(*names->list), info->name,
				sizeof(info->name));
	return TOOL_OK;
}

static int read_all(struct deaths *l, int daemon)
{
	struct names names = { 0 };
	int code = reach_list(l->call, take_name, &names);

	for (size_t i = 0; i < names.count && !code; i++)
		code = read_arena(l, daemon, names.list[i]);
	free(names.list);
	return code;
}

static int read_pid(const struct call *call, int64_t *pid)
{
	const char *text = call_option(call, "pid");
	char *end;

	*pid = -1;
	if (!text)
		return TOOL_OK;
	*pid = strtoll(text, &end, 10);
	return *end || *pid <= 0 ? tool_bad_value(call, "pid", EINVAL) : TOOL_OK;
}

int verb_client_deaths(const struct call *call)
{
	struct deaths l = { .call = call };
	int daemon, code = read_pid(call, &l.pid);

	if (!code)
		code = reach_daemon(call, &daemon);
	if (code)
		return code;
	emit_begin_held(&l.e, stdout, call->json);
	if (l.pid < 0)
		emit_table(&l.e, "deaths", columns);
	code = call->argc ? read_arena(&l, daemon, call->argv[0]) : read_all(&l, daemon);
	close(daemon);
	if (!code && l.pid >= 0 && !l.has_found) {
		tool_error("no report of process %lld's death", (long long)l.pid);
		code = TOOL_FAILED;
	}
	if (code) {
		death_free(&l.found);
		emit_drop(&l.e);
		return code;
	}
	if (l.pid < 0)
		emit_table_end(&l.e);
	else
		print_whole(&l.e, &l.found);
	death_free(&l.found);
	return tool_finish(&l.e, TOOL_OK);
}
