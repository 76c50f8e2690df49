/* SPDX-License-Identifier: Apache-2.0 */
#include "profile_sites.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sizeclass.h"

#define OWN_CALLS 16u /* the innermost ones, that may be the library's */

/* ---- by site ---- */

static struct profile_place *place_of(struct profile_places *p, uint32_t site, size_t *room)
{
	struct profile_place *list;

	for (size_t i = 0; i < p->count; i++)
		if (p->list[i].site == site)
			return &p->list[i];
	if (p->count == *room) {
		*room = *room ? 2 * *room : 64;
		list = realloc(p->list, *room * sizeof(*list));
		if (!list)
			return NULL;
		p->list = list;
	}
	list = &p->list[p->count++];
	memset(list, 0, sizeof(*list));
	list->site = site;
	return list;
}

static bool is_chosen(const struct profile_choice *c, const struct profile_object *o)
{
	if (c->client && (o->client != c->client || o->pid != c->pid))
		return false;
	if (c->before_ns && o->time_ns > c->before_ns)
		return false;
	return !c->keep || c->keep(c->context, o->handle);
}

static int add_samples(struct arena *a, const struct profile_choice *choice, struct profile_places *p)
{
	struct profile_object o;
	uint32_t at = 0;
	size_t room = 0;

	while (profile_next(a, &at, &o)) {
		double weight = profile_weight(o.size, o.rate);
		struct profile_place *place;
		uint32_t class;

		if (!is_chosen(choice, &o))
			continue;
		place = place_of(p, o.site, &room);
		if (!place)
			return -ENOMEM;
		place->samples++;
		place->objects += weight;
		place->bytes += weight * (double)o.size;
		class = o.size && o.size <= SIZECLASS_MAX_BYTES ? sizeclass_of(o.size) : CLASSES;
		p->class_objects[class] += weight;
		p->class_bytes[class] += weight * (double)o.size;
		p->samples++;
		p->objects += weight;
		p->bytes += weight * (double)o.size;
	}
	return 0;
}

static int compare(const void *left, const void *right)
{
	const struct profile_place *a = left, *b = right;

	return a->bytes < b->bytes ? 1 : a->bytes > b->bytes ? -1 : a->site < b->site ? -1 : 1;
}

/* ---- names ---- */

static char *name_of(const struct profile_call *call)
{
	const char *file = strrchr(call->binary.path, '/');
	char *name = NULL;

	if (call->symbol.function)
		return strdup(call->symbol.function);
	if (asprintf(&name, "%s+0x%" PRIx64, file ? file + 1 : call->binary.path[0] ? call->binary.path : "?",
		     call->offset) < 0)
		return NULL;
	return name;
}

/* Where the library cannot be told from the program by its file, its calls' names tell. */
static void leave_out_own(struct profile_place *p)
{
	uint32_t own = 0;

	for (uint32_t i = 0; i < p->count && i < OWN_CALLS; i++)
		if (!strncmp(p->calls[i].name, "shma_", 5))
			own = i + 1;
	if (own == p->count)
		return;
	for (uint32_t i = 0; i < own; i++)
		free(p->calls[i].name);
	memmove(p->calls, p->calls + own, (p->count - own) * sizeof(*p->calls));
	p->count -= own;
}

int profile_place_resolve(struct profile_place *p, struct symbols *symbols)
{
	for (uint32_t i = 0; i < p->count; i++) {
		struct profile_call *call = &p->calls[i];

		call->symbol = symbols_find(symbols, &call->binary, call->offset);
		free(call->name);
		call->name = name_of(call);
		if (!call->name)
			return -ENOMEM;
	}
	leave_out_own(p);
	return 0;
}

void profile_place_free(struct profile_place *p)
{
	for (uint32_t i = 0; i < p->count; i++)
		free(p->calls[i].name);
	free(p->calls);
}

int profile_place_read(const struct arena *a, struct symbols *symbols, struct profile_place *p)
{
	struct profile_stack stack;

	if (!profile_stack(a, p->site, &stack))
		return 0;
	p->allocated = (double)stack.bytes;
	p->calls = calloc(stack.count ? stack.count : 1, sizeof(*p->calls));
	if (!p->calls)
		return -ENOMEM;
	p->count = stack.count;
	for (uint32_t i = 0; i < stack.count; i++) {
		struct profile_call *call = &p->calls[i];

		call->offset = stack.offsets[i];
		if (stack.modules[i] == PROFILE_NONE || !profile_binary(a, stack.modules[i], &call->binary))
			memset(&call->binary, 0, sizeof(call->binary));
	}
	return profile_place_resolve(p, symbols);
}

int profile_places_count(struct arena *a, const struct profile_choice *choice, struct profile_places *ret)
{
	int err;

	*ret = (struct profile_places){ .symbols = symbols_open() };
	err = ret->symbols ? add_samples(a, choice, ret) : -ENOMEM;
	for (size_t i = 0; i < ret->count && !err; i++)
		err = profile_place_read(a, ret->symbols, &ret->list[i]);
	if (err) {
		profile_places_free(ret);
		return err;
	}
	if (ret->count)
		qsort(ret->list, ret->count, sizeof(*ret->list), compare);
	return 0;
}

void profile_places_free(struct profile_places *p)
{
	for (size_t i = 0; i < p->count; i++)
		profile_place_free(&p->list[i]);
	free(p->list);
	symbols_close(p->symbols);
	memset(p, 0, sizeof(*p));
}

char *profile_place_text(const struct profile_place *p, bool collapsed)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	if (!p->count)
		fputs("(unknown)", f);
	for (uint32_t i = 0; i < p->count; i++)
		fprintf(f, "%s%s", i ? (collapsed ? ";" : " < ") : "",
			p->calls[collapsed ? p->count - 1 - i : i].name);
	if (fclose(f)) {
		free(text);
		text = NULL;
	}
	return text;
}
