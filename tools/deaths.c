/* SPDX-License-Identifier: Apache-2.0 */
#include "deaths.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 4096u /* entries of one kind in a report: more are no report of ours */

void death_free(struct death *d)
{
	for (size_t i = 0; i < d->record_count; i++)
		free(d->records[i].text);
	free(d->records);
	for (size_t i = 0; i < d->call_count; i++)
		profile_place_free(&d->calls[i]);
	free(d->calls);
	free(d->sizes);
	memset(d, 0, sizeof(*d));
}

/* Room for one more. */
static void *grown(void *list, size_t count, size_t bytes)
{
	if (count >= LIST_MAX)
		return NULL;
	return count & (count - 1) ? list : realloc(list, (count ? 2 * count : 1) * bytes);
}

static int add_size(struct death *d, const char *text, bool large)
{
	struct death_size s = { .large = large }, *list;

	if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &s.bytes, &s.private_objects,
		   &s.shared_objects, &s.cached_objects) != 4)
		return 0;
	list = grown(d->sizes, d->size_count, sizeof(*list));
	if (!list)
		return -ENOMEM;
	d->sizes = list;
	list[d->size_count++] = s;
	return 0;
}

static int add_record(struct death *d, const char *text)
{
	struct death_record r = { 0 }, *list;
	int at = 0;

	if (sscanf(text, "%" SCNu64 " %d %d %" SCNu64 "%n", &r.time_ns, &r.level, &r.tid, &r.seq, &at) != 4 ||
	    text[at] != ' ')
		return 0;
	r.text = strdup(text + at + 1);
	list = r.text ? grown(d->records, d->record_count, sizeof(*list)) : NULL;
	if (!list) {
		free(r.text);
		return -ENOMEM;
	}
	d->records = list;
	list[d->record_count++] = r;
	return 0;
}

static int add_call(struct death *d, const char *text)
{
	struct profile_place p = { .count = 0 }, *list;

	if (sscanf(text, "%lf %lf", &p.bytes, &p.objects) != 2)
		return 0;
	list = grown(d->calls, d->call_count, sizeof(*list));
	if (!list)
		return -ENOMEM;
	d->calls = list;
	list[d->call_count++] = p;
	return 0;
}

static void read_id(struct profile_binary *b, const char *hex)
{
	unsigned byte;

	while (b->id_bytes < sizeof(b->id) && sscanf(hex + 2 * b->id_bytes, "%2x", &byte) == 1)
		b->id[b->id_bytes++] = (uint8_t)byte;
}

/* Of the call told last. */
static int add_frame(struct death *d, const char *text)
{
	struct profile_place *p = d->call_count ? &d->calls[d->call_count - 1] : NULL;
	struct profile_call call = { .offset = 0 }, *list;
	char id[2 * sizeof(call.binary.id) + 1];
	int at = 0;

	if (!p || p->count == PROFILE_FRAMES ||
	    sscanf(text, "%" SCNx64 " %40s%n", &call.offset, id, &at) != 2 || text[at] != ' ')
		return 0;
	if (strcmp(id, "-"))
		read_id(&call.binary, id);
	snprintf(call.binary.path, sizeof(call.binary.path), "%s", text + at + 1);
	list = realloc(p->calls, (p->count + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	p->calls = list;
	list[p->count++] = call;
	return 0;
}

static void keep_text(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from);
}

static int take_line(struct death *d, const char *key, const char *value)
{
	if (!strcmp(key, "held") || !strcmp(key, "large"))
		return add_size(d, value, key[0] == 'l');
	if (!strcmp(key, "record"))
		return add_record(d, value);
	if (!strcmp(key, "call"))
		return add_call(d, value);
	if (!strcmp(key, "frame"))
		return add_frame(d, value);
	if (!strcmp(key, "arena"))
		keep_text(d->arena, sizeof(d->arena), value);
	else if (!strcmp(key, "uuid"))
		keep_text(d->uuid, sizeof(d->uuid), value);
	else if (!strcmp(key, "command"))
		keep_text(d->command, sizeof(d->command), value);
	else if (!strcmp(key, "ended"))
		keep_text(d->ended, sizeof(d->ended), value);
	else if (!strcmp(key, "pid"))
		d->pid = strtoll(value, NULL, 10);
	else if (!strcmp(key, "uid"))
		d->uid = strtoull(value, NULL, 10);
	else if (!strcmp(key, "threads"))
		d->threads = strtoull(value, NULL, 10);
	else if (!strcmp(key, "kept"))
		d->kept = strtoull(value, NULL, 10);
	else if (!strcmp(key, "holds"))
		d->holds = strtoull(value, NULL, 10);
	else if (!strcmp(key, "attached"))
		d->attached_ns = strtoull(value, NULL, 10);
	else if (!strcmp(key, "died"))
		d->died_ns = strtoull(value, NULL, 10);
	else if (!strcmp(key, "profiled"))
		d->profiled = value[0] == '1';
	else if (!strcmp(key, "whole")) {
		d->counted = true;
		d->whole = value[0] == '1';
	}
	return 0;
}

/* Objects in caches belonged to no program. */
static void sum_up(struct death *d)
{
	for (size_t i = 0; i < d->size_count; i++) {
		const struct death_size *s = &d->sizes[i];
		uint64_t objects = s->private_objects + s->shared_objects;

		objects -= objects < s->cached_objects ? objects : s->cached_objects;
		d->objects += objects;
		d->bytes += s->large ? s->bytes : objects * s->bytes;
	}
}

int death_read(FILE *f, struct death *ret)
{
	bool within = false;
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	int r = 0;

	memset(ret, 0, sizeof(*ret));
	while (!r && (n = getline(&line, &room, f)) > 0) {
		char *value;

		line[n - (line[n - 1] == '\n')] = '\0';
		if (!strncmp(line, "death ", 6)) { /* one that was cut short is left out */
			death_free(ret);
			within = sscanf(line, "death %u %u", &ret->client, &ret->incarnation) == 2;
		} else if (within && !strcmp(line, "end")) {
			sum_up(ret);
			r = 1;
		} else if (within && (value = strchr(line, '='))) {
			*value = '\0';
			r = take_line(ret, line, value + 1);
		}
	}
	free(line);
	if (r != 1)
		death_free(ret);
	return r;
}
