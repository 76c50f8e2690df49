/* SPDX-License-Identifier: Apache-2.0 */
/* log_show.c - log records, as a line or as JSON. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "emit_text.h"
#include "log_show.h"
#include "parse.h"
#include "tool.h"

#define DIM "2"

static const char *level_paint(int level)
{
	static const char *const paints[] = { "1;37;41", "1;31", "1;31", "31", "33", "1", NULL, DIM };

	return level >= 0 && level < 8 ? paints[level] : NULL;
}

static void show_lost(struct emit *e, const struct log_look *look, uint64_t lost)
{
	char text[64];

	snprintf(text, sizeof(text), "-- %" PRIu64 " record%s lost --", lost, lost == 1 ? "" : "s");
	emit_record(e);
	emit_paint(e, look->color ? "35" : NULL);
	emit_string(e, "lost", text);
	emit_paint(e, NULL);
	emit_record_end(e);
}

/* ---- fields ---- */

static void show_truth(struct emit *e, const char *key, bool value)
{
	if (e->json)
		emit_bool(e, key, value);
	else
		emit_string(e, key, value ? "true" : "false");
}

static void show_value(struct emit *e, const char *key, const struct shma_kv *kv)
{
	switch (kv->type) {
	case SHMA_TYPE_INT: emit_i64(e, key, kv->value.i); break;
	case SHMA_TYPE_UINT: emit_u64(e, key, kv->value.u); break;
	case SHMA_TYPE_DOUBLE: emit_double(e, key, kv->value.d); break;
	case SHMA_TYPE_BOOL: show_truth(e, key, kv->value.b != 0); break;
	case SHMA_TYPE_BYTES: emit_blob(e, key, kv->value.bytes, kv->len); break;
	default: emit_data(e, key, kv->value.str, kv->len);
	}
}

struct fields {
	struct shma_kv *at;
	size_t count, room;
};

static void fields_gather(struct fields *f, const struct shma_record *r)
{
	size_t cursor = 0;
	struct shma_kv kv;

	while (shma_record_kv(r, &cursor, &kv) == 1) {
		if (f->count == f->room) {
			f->room = f->room ? 2 * f->room : 16;
			f->at = emit_must(realloc(f->at, f->room * sizeof(*f->at)));
		}
		f->at[f->count++] = kv;
	}
}

static int compare_keys(const struct shma_kv *x, const struct shma_kv *y)
{
	size_t n = x->key_len < y->key_len ? x->key_len : y->key_len;
	int r = memcmp(x->key, y->key, n);

	return r ? r : x->key_len < y->key_len ? -1 : x->key_len > y->key_len;
}

/* By key, and those of one key in their order, which is that of their bytes in the record. */
static int by_key(const void *x, const void *y)
{
	const struct shma_kv *a = x, *b = y;
	int r = compare_keys(a, b);

	return r ? r : a->key < b->key ? -1 : 1;
}

/* Values of one key: a list, where there are several. */
static void show_key(struct emit *e, const struct shma_kv *kv, size_t count)
{
	char *key = emit_key(e, kv->key, kv->key_len);

	if (count > 1)
		emit_list(e, key);
	for (size_t i = 0; i < count; i++)
		show_value(e, key, &kv[i]);
	if (count > 1)
		emit_list_end(e);
	free(key);
}

/* People see them as they were written, programs each key once. */
static void show_fields(struct emit *e, const struct shma_record *r)
{
	struct fields f = { NULL, 0, 0 };
	size_t same;

	fields_gather(&f, r);
	if (e->json && f.count)
		qsort(f.at, f.count, sizeof(*f.at), by_key);
	emit_section(e, "fields");
	for (size_t i = 0; i < f.count; i += same) {
		same = 1;
		while (e->json && i + same < f.count && !compare_keys(&f.at[i], &f.at[i + same]))
			same++;
		show_key(e, &f.at[i], same);
	}
	emit_section_end(e);
	free(f.at);
}

/* ---- records ---- */

/* All there is to say, for programs. */
static void json_fields(struct emit *e, const struct shma_record *r, const char *name, uint64_t lost)
{
	emit_i64(e, "level", r->level);
	emit_string(e, "level_name", parse_level_name(r->level));
	emit_i64(e, "pid", r->pid);
	emit_i64(e, "tid", r->tid);
	emit_string(e, "name", name);
	emit_u64(e, "seq", r->seq);
	emit_u64(e, "lost", lost);
	emit_u64(e, "dropped", r->dropped);
	emit_bool(e, "late", r->late != 0);
}

static void text_fields(struct emit *e, const struct shma_record *r)
{
	char writer[48];

	if (r->tid == r->pid)
		snprintf(writer, sizeof(writer), "%d", (int)r->pid);
	else
		snprintf(writer, sizeof(writer), "%d/%d", (int)r->pid, (int)r->tid);
	emit_string(e, "level", parse_level_name(r->level));
	emit_paint(e, NULL);
	emit_string(e, "writer", writer);
	if (r->late)
		emit_string(e, "late", "(late)");
}

int log_show(struct emit *e, const struct log_look *look, const struct shma_record *r, const char *arena,
	     const char *name, uint64_t lost)
{
	const char *paint = look->color ? level_paint(r->level) : NULL, *text;
	size_t length;
	int err;

	if (lost && !e->json)
		show_lost(e, look, lost);
	emit_record(e);
	if (e->json || look->arenas)
		emit_string(e, "arena", arena);
	emit_time(e, "time", r->time_ns);
	emit_paint(e, paint);
	if (e->json)
		json_fields(e, r, name, lost);
	else
		text_fields(e, r);
	text = shma_record_text(r, &length);
	emit_paint(e, paint);
	emit_data(e, "data", text ? text : "", length);
	emit_paint(e, look->color ? DIM : NULL);
	show_fields(e, r);
	emit_paint(e, NULL);
	err = emit_record_end(e);
	if (!err)
		return TOOL_OK;
	tool_error("cannot write: %s", strerror(-err));
	return TOOL_FAILED;
}

int log_show_end(struct emit *e, uint64_t lost, int code)
{
	int err = emit_end(e);

	if (lost)
		tool_error("%" PRIu64 " more record%s lost", lost, lost == 1 ? "" : "s");
	if (err && code == TOOL_OK) {
		tool_error("cannot write: %s", strerror(-err));
		return TOOL_FAILED;
	}
	return code;
}
