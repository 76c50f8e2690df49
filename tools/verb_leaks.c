/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_leaks.c - what nobody will free: objects of the arena's own that nothing in it leads to; or, from a profile, what is
 * live for longer than it should be.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"
#include "pprof.h"
#include "profile_show.h"
#include "reach.h"
#include "unreached.h"

#define LIMIT 100u

static const char *const object_columns[] = { "handle", "bytes", "allocated", "pid", "calls", NULL };

struct leaks {
	const struct call *call;
	struct reach view;
	uint64_t limit, before_ns;
	struct unreached found;
	uint64_t *handles; /* of those, in order */
	struct profile_places places; /* of those that were sampled, or with --before of all */
	struct profile_totals totals;
	bool is_profiled;
};

/* ---- what was sampled ---- */

static int compare_handles(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

static bool is_unreached(void *context, uint64_t handle)
{
	const struct leaks *l = context;

	return bsearch(&handle, l->handles, l->found.count, sizeof(handle), compare_handles) != NULL;
}

static bool sample_of(const struct leaks *l, uint64_t handle, struct profile_object *ret)
{
	uint32_t at = 0;

	while (l->is_profiled && profile_next((struct arena *)&l->view.arena, &at, ret))
		if (ret->handle == handle)
			return true;
	return false;
}

static char *calls_of(const struct leaks *l, uint32_t site)
{
	for (size_t i = 0; i < l->places.count; i++)
		if (l->places.list[i].site == site)
			return profile_place_text(&l->places.list[i], false);
	return NULL;
}

/* ---- output ---- */

static void print_object(struct emit *e, const struct leaks *l, const struct unreached_object *o)
{
	struct profile_object sample;
	bool is_sampled = sample_of(l, o->handle, &sample);
	char *calls = is_sampled ? calls_of(l, sample.site) : NULL;

	emit_row(e);
	emit_hex(e, "handle", o->handle);
	emit_bytes(e, "bytes", o->bytes);
	if (is_sampled) {
		emit_time(e, "allocated", sample.time_ns);
		emit_i64(e, "pid", sample.pid);
	} else {
		emit_none(e, "allocated");
		emit_none(e, "pid");
	}
	emit_string(e, "calls", calls);
	emit_row_end(e);
	free(calls);
}

static void print_unreached(struct emit *e, const struct leaks *l)
{
	emit_u64(e, "persistent_objects", l->found.persistent_objects);
	emit_bytes(e, "persistent_bytes", l->found.persistent_bytes);
	emit_u64(e, "unreached_objects", l->found.count);
	emit_bytes(e, "unreached_bytes", l->found.bytes);
	emit_u64(e, "clients", reach_live_clients(&l->view));
	emit_table(e, "objects", object_columns);
	for (size_t i = 0; i < l->found.count && i < l->limit; i++)
		print_object(e, l, &l->found.list[i]);
	emit_table_end(e);
}

static int print(const struct leaks *l)
{
	struct emit e;

	emit_begin(&e, stdout, l->call->json);
	emit_string(&e, "arena", l->view.name);
	if (l->before_ns) {
		emit_time(&e, "before", l->before_ns);
		emit_u64(&e, "live_samples", l->places.samples);
		emit_bytes(&e, "live_bytes", (uint64_t)l->places.bytes);
		emit_u64(&e, "live_objects", (uint64_t)l->places.objects);
		profile_show_places(&e, &l->places);
	} else {
		print_unreached(&e, l);
	}
	return tool_finish(&e, TOOL_OK);
}

/* ---- the search ---- */

static int read_options(struct leaks *l)
{
	const char *limit = call_option(l->call, "limit"), *before = call_option(l->call, "before");
	int err;

	l->limit = LIMIT;
	err = limit ? parse_number(limit, 0, UINT32_MAX, &l->limit) : 0;
	if (err)
		return tool_bad_value(l->call, "limit", err);
	err = before ? parse_time(before, tool_now_ns(), &l->before_ns) : 0;
	return err ? tool_bad_value(l->call, "before", err) : TOOL_OK;
}

static int find(struct leaks *l)
{
	struct profile_choice choice = { .before_ns = l->before_ns };
	int err = 0;

	if (!l->before_ns) {
		err = unreached_find(&l->view.arena, &l->found);
		l->handles = calloc(l->found.count + 1, sizeof(*l->handles));
		if (!err && !l->handles)
			err = -ENOMEM;
		for (size_t i = 0; i < l->found.count && !err; i++)
			l->handles[i] = l->found.list[i].handle;
		if (!err)
			qsort(l->handles, l->found.count, sizeof(*l->handles), compare_handles);
		choice.keep = is_unreached;
		choice.context = l;
	}
	return err ? err : profile_places_count(&l->view.arena, &choice, &l->places);
}

static int show(struct leaks *l)
{
	const char *file = call_option(l->call, "pprof");
	bool collapsed = call_option(l->call, "collapsed") != NULL;
	int err;

	l->is_profiled = profile_totals(&l->view.arena, &l->totals);
	if (!l->is_profiled && (file || collapsed || l->before_ns)) {
		tool_error("%s: not profiled so far: shmctl-tool profile %s --rate 512K", l->view.name, l->view.name);
		return TOOL_FAILED;
	}
	err = find(l);
	if (!err && file)
		err = pprof_write(file, &l->places, &l->totals, tool_now_ns());
	if (err) {
		tool_errno(file ? file : l->view.name, err);
		return TOOL_FAILED;
	}
	if (file)
		return TOOL_OK;
	return collapsed ? profile_show_collapsed(&l->places) : print(l);
}

int verb_leaks(const struct call *call)
{
	struct leaks *l = calloc(1, sizeof(*l));
	int code;

	if (!l) {
		tool_errno("leaks", ENOMEM);
		return TOOL_FAILED;
	}
	l->call = call;
	code = read_options(l);
	if (!code)
		code = reach_open(call, call->argv[0], &l->view);
	if (!code) {
		code = show(l);
		reach_close(&l->view);
	}
	profile_places_free(&l->places);
	unreached_free(&l->found);
	free(l->handles);
	free(l);
	return code;
}
