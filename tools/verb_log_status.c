/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_log_status.c - how far a log has come on its way to the disk and beyond: what its segments say, what the ring
 * has that is not drained yet, where the shipper is. All of it is read from the ring and the files; the daemon only
 * says where these are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "attach.h"
#include "reach.h"
#include "ring.h"
#include "ring_drain.h"
#include "segment.h"

/* Of all segments together. */
struct stored {
	uint64_t segments, compressed, bytes, records, lost, last_ns, damaged;
	bool shipped; /* a shipper has kept its place */
	struct segment_position at;
	uint64_t lag_bytes; /* of plain segments, behind that place */
};

/* ---- on the disk ---- */

static void add_segment(const char *dir, const struct segment_listed *l, bool last, struct stored *s)
{
	struct segment_scan scan;
	int r = segment_summary(dir, l->number, &scan);

	s->segments++;
	s->compressed += l->compressed;
	s->bytes += l->bytes;
	if (r == -ENOENT)
		return; /* deleted meanwhile */
	if (r) {
		/* One that begins at this moment has no header yet. */
		s->damaged += !last;
		return;
	}
	s->records += scan.records;
	s->lost += scan.lost;
	s->last_ns = scan.time_max > s->last_ns ? scan.time_max : s->last_ns;
	if (s->shipped && l->number == s->at.number && scan.size > s->at.offset)
		s->lag_bytes += scan.size - s->at.offset;
	else if (s->shipped && l->number > s->at.number)
		s->lag_bytes += scan.size;
}

/* The shipper's file, as daemon/ship_pump.c writes it. */
static void read_shipped(const char *dir, struct stored *s)
{
	char path[REACH_LOG_BYTES + 16];
	FILE *file;

	snprintf(path, sizeof(path), "%s/ship.position", dir);
	file = fopen(path, "re");
	if (!file)
		return;
	s->shipped = fscanf(file, "%" SCNu64 " %" SCNu64, &s->at.number, &s->at.offset) == 2;
	fclose(file);
}

static int look_at_segments(const char *dir, struct stored *s)
{
	struct segment_listed *list;
	size_t count;
	int r = segment_list(dir, &list, &count);

	if (r == -ENOENT)
		return TOOL_OK;
	if (r) {
		tool_errno(dir, r);
		return TOOL_FAILED;
	}
	read_shipped(dir, s);
	for (size_t i = 0; i < count; i++)
		add_segment(dir, &list[i], i + 1 == count, s);
	free(list);
	return TOOL_OK;
}

/* ---- in the ring ---- */

/* Records that the consumer is not done with; those that were overwritten before it came are among them. */
static int count_waiting(struct arena *a, const struct ring_survey *survey, uint64_t *ret)
{
	uint64_t done = 0;
	struct ring_drain *d;
	int r = ring_drain_open(a, &d);

	if (r)
		return r;
	for (uint32_t i = 0; i < survey->blocks; i++)
		done += ring_drain_consumed(d, i);
	ring_drain_close(d, false);
	*ret = survey->written > done ? survey->written - done : 0;
	return 0;
}

/* ---- output ---- */

static void print_stored(struct emit *e, const char *dir, const struct stored *s)
{
	emit_string(e, "directory", dir[0] ? dir : NULL);
	emit_u64(e, "segments", s->segments);
	emit_u64(e, "compressed", s->compressed);
	emit_bytes(e, "bytes", s->bytes);
	emit_u64(e, "records", s->records);
	emit_u64(e, "lost", s->lost);
	emit_u64(e, "damaged", s->damaged);
	if (s->last_ns)
		emit_time(e, "last_record", s->last_ns);
	else
		emit_none(e, "last_record");
	if (s->shipped) {
		emit_u64(e, "shipped_segment", s->at.number);
		emit_u64(e, "shipped_offset", s->at.offset);
		emit_bytes(e, "ship_lag_bytes", s->lag_bytes);
	} else {
		emit_none(e, "shipped_segment");
		emit_none(e, "shipped_offset");
		emit_none(e, "ship_lag_bytes");
	}
}

static void print_error(struct emit *e, const char *key, const char *since_key, const char *text, uint64_t since_ns)
{
	emit_string(e, key, text && *text ? text : NULL);
	if (text && *text)
		emit_time(e, since_key, since_ns);
	else
		emit_none(e, since_key);
}

static int print(const struct call *call, const char *dir, const struct stored *s, const struct ring_survey *survey,
		 uint64_t waiting, const struct log_trouble *trouble)
{
	struct emit e;

	emit_begin(&e, stdout, call->json);
	emit_string(&e, "name", call->argv[0]);
	emit_u64(&e, "written", survey->written);
	emit_u64(&e, "dropped", survey->dropped);
	emit_u64(&e, "waiting", waiting);
	emit_bool(&e, "drained", survey->consumer != 0);
	print_stored(&e, dir, s);
	print_error(&e, "disk_error", "disk_error_since", trouble->disk ? strerror(-trouble->disk) : NULL, trouble->disk_ns);
	print_error(&e, "ship_error", "ship_error_since", trouble->ship, trouble->ship_ns);
	return tool_finish(&e, TOOL_OK);
}

int verb_log_status(const struct call *call)
{
	char dir[REACH_LOG_BYTES] = "";
	struct stored stored = { .segments = 0 };
	struct log_trouble trouble = { 0 };
	struct ring_survey survey;
	uint64_t waiting = 0;
	shma *arena;
	int code = reach_attach(call, call->argv[0], SHMA_RDONLY, &arena), r;

	if (code)
		return code;
	r = ring_survey(&arena->arena, &survey);
	if (!r)
		r = count_waiting(&arena->arena, &survey, &waiting);
	shma_close(arena);
	if (r) {
		tool_errno(call->argv[0], r);
		return r == -EUCLEAN ? TOOL_DAMAGE : TOOL_FAILED;
	}
	code = reach_needs_daemon(call, call->argv[0]) ? reach_log(call, call->argv[0], dir, &trouble) : TOOL_OK;
	if (!code && dir[0])
		code = look_at_segments(dir, &stored);
	return code ? code : print(call, dir, &stored, &survey, waiting, &trouble);
}
