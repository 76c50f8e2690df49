/* SPDX-License-Identifier: Apache-2.0 */
/* verb_profile.c - which calls live memory comes from, how long allocations take; and how often one is sampled. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"
#include "pprof.h"
#include "profile_show.h"
#include "reach.h"
#include "sizeclass.h"

static const char *const class_columns[] = { "class_bytes", "allocated_objects", "allocated_bytes", "freed_objects",
					     "live_objects", "rounding_percent", "cache_hit_percent", NULL };

static int set_rate(const struct call *call, const char *text)
{
	uint64_t rate = 0;
	shma *arena;
	int code, err = strcmp(text, "0") ? parse_size(text, &rate) : 0;

	if (err)
		return tool_bad_value(call, "rate", err);
	code = reach_attach(call, call->argv[0], 0, &arena);
	if (code)
		return code;
	err = shma_profile(arena, rate);
	shma_close(arena);
	if (!err)
		return TOOL_OK;
	if (err == -EINVAL)
		return tool_bad_value(call, "rate", err);
	tool_errno(call->argv[0], err);
	return TOOL_FAILED;
}

static int client_of(const struct call *call, const struct reach *r, struct profile_choice *ret)
{
	const char *text = call_option(call, "client");
	struct client_record record;
	uint64_t pid;

	if (!text)
		return TOOL_OK;
	if (parse_number(text, 1, INT32_MAX, &pid))
		return tool_bad_value(call, "client", -EINVAL);
	ret->pid = (int32_t)pid;
	for (uint32_t i = 1; i < reach_client_count(r); i++)
		if (reach_client_record(r, i, &record) && (uint64_t)record.pid == pid)
			ret->client = i;
	if (ret->client)
		return TOOL_OK;
	tool_error("%s: no process attached to it has this number", text);
	return TOOL_FAILED;
}

static void print_latencies(struct emit *e, const struct profile_totals *t)
{
	static const struct {
		const char *key;
		double permille;
	} points[] = { { "p50_ns", 500 }, { "p90_ns", 900 }, { "p99_ns", 990 }, { "p999_ns", 999 }, { "p9999_ns", 999.9 } };

	emit_section(e, "latency");
	emit_u64(e, "timed", t->timed);
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		if (t->timed)
			emit_u64(e, points[i].key, profile_latency_at(t, points[i].permille));
		else
			emit_none(e, points[i].key);
	emit_section_end(e);
}

/* Bytes of live objects that nobody asked for, since sizes come in classes. */
static double rounding(const struct profile_places *p, uint32_t class)
{
	double taken = p->class_objects[class] * sizeclass_table[class].bytes;

	return 100 * (taken - p->class_bytes[class]) / taken;
}

/* All is estimated from samples but for the refills; what lived before the profile began is not in it. */
static void print_class(struct emit *e, const struct profile_totals *t, const struct profile_places *p, uint32_t class)
{
	double freed = t->objects[class] - p->class_objects[class];
	double hits = 100 * (1 - (double)t->refills[class] / t->objects[class]);

	emit_row(e);
	if (class < CLASSES)
		emit_bytes(e, "class_bytes", sizeclass_table[class].bytes);
	else
		emit_none(e, "class_bytes");
	emit_u64(e, "allocated_objects", (uint64_t)t->objects[class]);
	emit_bytes(e, "allocated_bytes", (uint64_t)t->bytes[class]);
	emit_u64(e, "freed_objects", freed > 0 ? (uint64_t)freed : 0);
	emit_u64(e, "live_objects", (uint64_t)p->class_objects[class]);
	if (class < CLASSES && p->class_objects[class] > 0)
		emit_percent(e, "rounding_percent", rounding(p, class));
	else
		emit_none(e, "rounding_percent");
	if (class < CLASSES && hits >= 0)
		emit_percent(e, "cache_hit_percent", hits);
	else
		emit_none(e, "cache_hit_percent");
	emit_row_end(e);
}

static void print_classes(struct emit *e, const struct profile_totals *t, const struct profile_places *p)
{
	emit_table(e, "classes", class_columns);
	for (uint32_t i = 0; i <= CLASSES; i++) {
		if (t->objects[i] >= 1)
			print_class(e, t, p, i);
	}
	emit_table_end(e);
}

static int print(const struct call *call, const struct reach *r, const struct profile_places *p,
		 const struct profile_totals *t)
{
	struct emit e;

	emit_begin(&e, stdout, call->json);
	emit_string(&e, "arena", r->name);
	emit_bytes(&e, "rate_bytes", t->rate);
	emit_time(&e, "since", t->since_ns);
	emit_u64(&e, "samples", t->samples);
	emit_u64(&e, "live_samples", p->samples);
	emit_bytes(&e, "live_bytes", (uint64_t)p->bytes);
	emit_u64(&e, "live_objects", (uint64_t)p->objects);
	emit_u64(&e, "lost_samples", t->lost_samples);
	emit_u64(&e, "lost_sites", t->lost_sites);
	emit_u64(&e, "lost_modules", t->lost_modules);
	print_latencies(&e, t);
	print_classes(&e, t, p);
	profile_show_places(&e, p);
	return tool_finish(&e, TOOL_OK);
}

static int show(const struct call *call, struct reach *r)
{
	const char *file = call_option(call, "pprof");
	struct profile_places places;
	struct profile_totals *t = malloc(sizeof(*t));
	struct profile_choice choice = { 0 };
	int code = client_of(call, r, &choice), err;

	if (code == TOOL_OK && (!t || !profile_totals(&r->arena, t))) {
		tool_error("%s: not profiled so far: shmctl-tool profile %s --rate 512K", r->name, r->name);
		code = TOOL_FAILED;
	}
	if (code != TOOL_OK) {
		free(t);
		return code;
	}
	err = profile_places_count(&r->arena, &choice, &places);
	if (!err && file)
		err = pprof_write(file, &places, t, tool_now_ns());
	if (err) {
		tool_errno(file ? file : r->name, err);
		code = TOOL_FAILED;
	} else if (!file) {
		code = call_option(call, "collapsed") ? profile_show_collapsed(&places) : print(call, r, &places, t);
	}
	profile_places_free(&places);
	free(t);
	return code;
}

int verb_profile(const struct call *call)
{
	const char *rate = call_option(call, "rate");
	struct reach r;
	int code;

	if (rate)
		return set_rate(call, rate);
	code = reach_open(call, call->argv[0], &r);
	if (code)
		return code;
	code = show(call, &r);
	reach_close(&r);
	return code;
}
