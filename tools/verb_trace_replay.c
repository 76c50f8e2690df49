/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_trace_replay.c - a recorded program's allocations again, in an arena, and what they cost.
 *
 * The file is read twice: first to see that it is sound, and when most is live; then to replay it, the
 * clock running only while events are. All threads of the trace are replayed from one. An arena of its
 * own loses its name at once, so that it is gone however the tool ends.
 *
 * What an installed malloc takes for the same cannot be measured in this process, which has one already: the
 * benchmark suite does so, for it and for an arena, in processes of their own.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arena_file.h"
#include "audit.h"
#include "reach.h"
#include "suite.h"
#include "trace_source.h"

#define OWN_CAPACITY_MIN (UINT64_C(256) << 20)

struct replay {
	const char *file;
	shma *arena;
	struct reach view; /* of the same arena, for the check */
	bool viewed;
	bool verify;
	struct trace_account account; /* of the whole trace */
	shma_handle *handles;	      /* by object; SHMA_NULL: not live */
	uint32_t *sizes;	      /* by object, to verify */
	uint64_t events, ns;
	struct shma_stats before, peak;
	uint64_t damage, stale;
};

/* ---- first reading ---- */

static int read_batches(struct trace_source *s, struct trace_account *account, const char **why)
{
	struct trace_event events[TRACE_BATCH];
	size_t count;

	do {
		const char *error = trace_source_events(s, events, &count);

		for (size_t i = 0; i < count; i++) {
			enum trace_error bad = trace_account_event(account, &events[i]);

			if (bad) {
				*why = trace_error_text(bad);
				return -EINVAL;
			}
		}
		if (error) {
			*why = error;
			return -EINVAL;
		}
	} while (count);
	return 0;
}

static int survey(struct replay *r)
{
	struct trace_source *s;
	struct trace_header header;
	const char *why;
	int err = trace_source_open(r->file, &s);

	if (err == -ESPIPE) {
		tool_error("%s: not a regular file, which is needed to read it twice", r->file);
		return TOOL_FAILED;
	}
	if (err) {
		tool_error("%s: %s", r->file, strerror(-err));
		return TOOL_FAILED;
	}
	why = trace_source_header(s, &header);
	if (why) {
		tool_error("%s: %s", r->file, why);
		err = -EINVAL;
	} else {
		trace_account_init(&r->account, &header);
		err = read_batches(s, &r->account, &why);
		if (err)
			tool_error("%s: event %" PRIu64 ": %s", r->file, r->account.events + 1,
				   why);
	}
	trace_source_close(s);
	return err ? TOOL_FAILED : TOOL_OK;
}

/* ---- the arena ---- */

/* Read-only and without the life file: closing that would drop this process's own lock. */
static int view_own(struct replay *r, const char *path)
{
	struct arena_files files = { open(path, O_RDONLY | O_CLOEXEC), -1, -1 };
	int err = files.fd < 0 ? -errno : arena_map(&r->view.arena, files, true);

	if (err)
		arena_files_close(&files);
	else
		r->viewed = true;
	return err;
}

static int open_own(struct replay *r)
{
	struct shma_options options = { .struct_size = sizeof(options) };
	char name[ARENA_NAME_BYTES], path[512];
	uint64_t capacity = 4 * r->account.peak_bytes;
	int err;

	options.capacity = capacity < OWN_CAPACITY_MIN ? OWN_CAPACITY_MIN
			   : capacity > CAPACITY_MAX   ? CAPACITY_MAX
						       : capacity;
	snprintf(name, sizeof(name), "shmctl-replay-%d-%" PRIx64, (int)getpid(), tool_now_ns());
	err = arena_path(path, sizeof(path), name);
	if (!err)
		err = shma_open(&r->arena, name, SHMA_EMBEDDED | SHMA_CREATE | SHMA_EXCL, &options);
	if (!err) {
		err = view_own(r, path);
		arena_unlink(path);
	}
	if (!err)
		return TOOL_OK;
	tool_errno("an arena for the replay", err);
	return TOOL_FAILED;
}

static int open_named(const struct call *call, struct replay *r, const char *name)
{
	int code = reach_attach(call, name, 0, &r->arena);

	if (!code)
		code = reach_open(call, name, &r->view);
	r->viewed = code == TOOL_OK;
	return code;
}

/* ---- second reading ---- */

/* With what an object of this size is filled. */
static unsigned char pattern(uint32_t object, uint32_t size)
{
	return (unsigned char)(object * 31 + size);
}

static bool holds(struct replay *r, uint32_t object, uint32_t size, unsigned char with)
{
	const unsigned char *at = shma_ptr(r->arena, r->handles[object]);

	for (uint32_t i = 0; at && i < size; i++) {
		if (at[i] != with)
			return false;
	}
	return at != NULL;
}

static int run_event(struct replay *r, const struct trace_event *event)
{
	shma_handle *h = &r->handles[event->object], old = *h;
	size_t size = event->size ? event->size : 1;

	switch (event->op) {
	case TRACE_ALLOC: *h = shma_alloc(r->arena, size, 0); return *h ? 0 : -errno;
	case TRACE_FREE: *h = SHMA_NULL; return shma_free(r->arena, old);
	case TRACE_RESIZE: break;
	}
	*h = shma_resize(r->arena, old, size);
	if (*h)
		return 0;
	*h = old;
	return -errno;
}

/* An event with a look at the contents before and after. -EBADMSG: they are not what was written. */
static int run_verified(struct replay *r, const struct trace_event *event)
{
	uint32_t o = event->object, size = r->sizes[o],
		 kept = size < event->size ? size : event->size;
	unsigned char with = pattern(o, size);
	int err;

	if (event->op != TRACE_ALLOC && !holds(r, o, size, with))
		return -EBADMSG;
	err = run_event(r, event);
	if (err || event->op == TRACE_FREE)
		return err;
	if (event->op == TRACE_RESIZE && !holds(r, o, kept, with))
		return -EBADMSG;
	r->sizes[o] = event->size;
	memset(shma_ptr(r->arena, r->handles[o]), pattern(o, event->size), event->size);
	return 0;
}

static int failed(const struct replay *r, const struct trace_event *event, int err)
{
	static const char *const what[] = {
		[TRACE_ALLOC] = "allocate", [TRACE_FREE] = "free", [TRACE_RESIZE] = "resize"
	};

	tool_error("%s: event %" PRIu64 " (%s object %u, %u bytes): %s", r->file, r->events + 1,
		   what[event->op], event->object, event->size,
		   err == -EBADMSG ? "its contents are not what was written" : shma_strerror(err));
	return TOOL_FAILED;
}

/* Runs events and takes their time. */
static int run(struct replay *r, const struct trace_event *events, size_t count)
{
	uint64_t start = tool_monotonic_ns();
	int err = 0;

	for (size_t i = 0; i < count; i++) {
		err = r->verify ? run_verified(r, &events[i]) : run_event(r, &events[i]);
		if (err)
			return failed(r, &events[i], err);
		r->events++;
	}
	r->ns += tool_monotonic_ns() - start;
	return TOOL_OK;
}

static int take_stats(struct replay *r, struct shma_stats *st)
{
	int err = shma_stats(r->arena, st);

	if (err)
		tool_errno("statistics", err);
	return err ? TOOL_FAILED : TOOL_OK;
}

/* A batch, with a halt where most is live. */
static int run_batch(struct replay *r, const struct trace_event *events, size_t count)
{
	uint64_t to_peak = r->account.peak_event - r->events;
	int code = TOOL_OK;

	if (r->account.peak_event > r->events && to_peak <= count) {
		code = run(r, events, (size_t)to_peak);
		if (!code)
			code = take_stats(r, &r->peak);
		events += to_peak;
		count -= (size_t)to_peak;
	}
	return code ? code : run(r, events, count);
}

/* It was sound when it was surveyed, but files may change. */
static int run_file(struct replay *r)
{
	struct trace_event events[TRACE_BATCH];
	struct trace_source *s;
	struct trace_header header;
	size_t count = 1;
	int code = TOOL_OK;
	const char *why;

	if (trace_source_open(r->file, &s)) {
		tool_error("%s: has gone meanwhile", r->file);
		return TOOL_FAILED;
	}
	why = trace_source_header(s, &header);
	while (!why && !code && count) {
		why = trace_source_events(s, events, &count);
		for (size_t i = 0; !why && i < count; i++) {
			if (events[i].object >= r->account.seen)
				why = "has changed meanwhile";
		}
		if (!why)
			code = run_batch(r, events, count);
	}
	trace_source_close(s);
	if (!why)
		return code;
	tool_error("%s: %s", r->file, why);
	return TOOL_FAILED;
}

static void count_finding(void *context, const struct audit_finding *finding)
{
	struct replay *r = context;

	if (finding->severity == AUDIT_TRUTH)
		r->damage++;
	else
		r->stale++;
}

static int check(struct replay *r)
{
	int n;

	arena_refresh(&r->view.arena);
	n = audit_arena(&r->view.arena, true, count_finding, r);
	if (n >= 0)
		return TOOL_OK;
	tool_errno("check", n);
	return TOOL_FAILED;
}

static int replay(struct replay *r)
{
	int code;

	r->handles = calloc(r->account.seen + 1, sizeof(*r->handles));
	r->sizes = calloc(r->account.seen + 1, sizeof(*r->sizes));
	if (!r->handles || !r->sizes) {
		tool_errno("trace replay", ENOMEM);
		return TOOL_FAILED;
	}
	code = take_stats(r, &r->before);
	if (!code)
		code = run_file(r);
	return code ? code : check(r);
}

/* ---- beside others ---- */

#define OTHERS "glibc,jemalloc,mimalloc,tcmalloc"
#define OTHERS_MAX 8

/* Figures of who took part; less than 0: none. Who is not installed is not even seen; a run may fail of who is. */
struct beside {
	const char *names[OTHERS_MAX];
	double ns[OTHERS_MAX], above[OTHERS_MAX];
	bool seen[OTHERS_MAX];
	unsigned failed[OTHERS_MAX];
	size_t count;
};

static void note(void *context, const struct suite_figure *f)
{
	struct beside *b = context;

	for (size_t i = 0; i < b->count; i++) {
		if (strcmp(b->names[i], f->peer) || strcmp(f->workload, "trace"))
			continue;
		b->seen[i] = true;
		if (f->failed > b->failed[i])
			b->failed[i] = f->failed;
		if (f->runs)
			*(strcmp(f->metric, "ns") ? &b->above[i] : &b->ns[i]) = f->median;
	}
}

static int measure_beside(const struct replay *r, struct beside *b)
{
	char program[4096];
	char *argv[] = { program,	    "--short", "--only", "trace",	  "--runs", "3", "--peers",
			 "shmalloc," OTHERS, "--trace", (char *)r->file, NULL };
	int result;

	b->names[b->count++] = "shmalloc";
	for (size_t i = 0; suite_mallocs[i]; i++)
		b->names[b->count++] = suite_mallocs[i];
	for (size_t i = 0; i < b->count; i++)
		b->ns[i] = b->above[i] = -1;
	if (!suite_find(program, sizeof(program)))
		return TOOL_FAILED;
	result = suite_read(argv, note, b);
	if (result < 0)
		tool_errno("the benchmark suite", result);
	return result == 0 || result == 1 ? TOOL_OK : TOOL_FAILED;
}

static void print_beside(struct emit *e, const struct beside *b)
{
	static const char *const columns[] = { "malloc", "installed", "failed", "ns_per_event",
					       "above_live_percent", NULL };

	if (!b->count)
		return;
	emit_table(e, "beside", columns);
	for (size_t i = 0; i < b->count; i++) {
		emit_row(e);
		emit_string(e, "malloc", b->names[i]);
		emit_bool(e, "installed", b->seen[i]);
		emit_u64(e, "failed", b->failed[i]);
		if (b->ns[i] < 0)
			emit_none(e, "ns_per_event");
		else
			emit_real(e, "ns_per_event", b->ns[i], 2);
		if (b->above[i] < 0)
			emit_none(e, "above_live_percent");
		else
			emit_percent(e, "above_live_percent", b->above[i]);
		emit_row_end(e);
	}
	emit_table_end(e);
}

/* ---- the end ---- */

static int print(const struct call *call, const struct replay *r, const struct beside *b)
{
	uint64_t committed = tool_less(r->peak.committed_bytes, r->before.committed_bytes);
	double live = (double)r->account.peak_bytes;
	struct emit e;

	emit_begin(&e, stdout, call->json);
	emit_string(&e, "file", r->file);
	emit_u64(&e, "events", r->events);
	emit_u64(&e, "objects", r->account.seen);
	emit_u64(&e, "threads", r->account.header.threads);
	emit_real(&e, "seconds", (double)r->ns / 1e9, 4);
	emit_real(&e, "ns_per_event", (double)r->ns / (double)r->events, 2);
	emit_bool(&e, "verified", r->verify);
	emit_bytes(&e, "peak_live_bytes", r->account.peak_bytes);
	emit_u64(&e, "peak_live_objects", r->account.peak_objects);
	emit_bytes(&e, "peak_usable_bytes", tool_less(r->peak.live_bytes, r->before.live_bytes));
	emit_bytes(&e, "peak_cached_bytes",
		   tool_less(r->peak.cached_bytes, r->before.cached_bytes));
	emit_bytes(&e, "peak_committed_bytes", committed);
	emit_percent(&e, "above_live_percent", 100 * ((double)committed - live) / live);
	emit_string(&e, "check", r->damage ? "damaged" : "sound");
	emit_u64(&e, "damage", r->damage);
	emit_u64(&e, "stale", r->stale);
	print_beside(&e, b);
	return tool_finish(&e, r->damage ? TOOL_DAMAGE : TOOL_OK);
}

/* What the trace left live is freed: a named arena is left as it was found. */
static void finish(struct replay *r)
{
	for (size_t i = 0; r->handles && i < r->account.seen; i++) {
		if (r->handles[i])
			shma_free(r->arena, r->handles[i]);
	}
	if (r->arena)
		shma_close(r->arena);
	/* After the attachment: see view_own(). */
	if (r->viewed)
		reach_close(&r->view);
	free(r->handles);
	free(r->sizes);
	trace_account_free(&r->account);
}

int verb_trace_replay(const struct call *call)
{
	const char *name = call_option(call, "arena");
	struct replay r = { .file = call->argv[0], .verify = call_option(call, "verify") != NULL };
	bool alone = r.verify || call_option(call, "alone");
	struct beside beside = { .count = 0 };
	int code = survey(&r);

	if (!code)
		code = name ? open_named(call, &r, name) : open_own(&r);
	if (!code)
		code = replay(&r);
	if (!code && !alone && r.events)
		code = measure_beside(&r, &beside);
	if (!code)
		code = print(call, &r, &beside);
	finish(&r);
	return code;
}
