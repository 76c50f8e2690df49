/* SPDX-License-Identifier: Apache-2.0 */
#include "symbols.h"

#include <elfutils/libdwfl.h>
#include <stdlib.h>
#include <string.h>

#define BINARIES_MAX PROFILE_MODULES

struct opened {
	struct profile_binary binary;
	Dwfl_Module *module; /* NULL: no such file, or another build */
	GElf_Addr bias;
};

struct symbols {
	Dwfl *dwfl;
	struct opened opened[BINARIES_MAX];
	size_t count;
};

/* Nothing is fetched from anywhere: debuginfod is for people who ask for it. */
static const Dwfl_Callbacks callbacks = {
	.find_elf = dwfl_build_id_find_elf,
	.find_debuginfo = dwfl_build_id_find_debuginfo,
	.section_address = dwfl_offline_section_address,
};

struct symbols *symbols_open(void)
{
	struct symbols *s = calloc(1, sizeof(*s));

	if (s)
		s->dwfl = dwfl_begin(&callbacks);
	if (s && !s->dwfl) {
		free(s);
		s = NULL;
	}
	return s;
}

void symbols_close(struct symbols *s)
{
	if (s)
		dwfl_end(s->dwfl);
	free(s);
}

static bool is_that_build(Dwfl_Module *module, const struct profile_binary *binary)
{
	const unsigned char *id;
	GElf_Addr at;
	int n = dwfl_module_build_id(module, &id, &at);

	return n > 0 && (uint32_t)n == binary->id_bytes && !memcmp(id, binary->id, (size_t)n);
}

static void open_module(struct symbols *s, struct opened *o)
{
	GElf_Addr bias;
	Dwfl_Module *module;

	if (!o->binary.id_bytes || o->binary.path[0] != '/')
		return;
	dwfl_report_begin_add(s->dwfl);
	module = dwfl_report_offline(s->dwfl, o->binary.path, o->binary.path, -1);
	dwfl_report_end(s->dwfl, NULL, NULL);
	if (!module || !dwfl_module_getelf(module, &bias) || !is_that_build(module, &o->binary))
		return;
	o->module = module;
	o->bias = bias;
}

static const struct opened *open_once(struct symbols *s, const struct profile_binary *binary)
{
	struct opened *o;

	for (size_t i = 0; i < s->count; i++)
		if (!memcmp(&s->opened[i].binary, binary, sizeof(*binary)))
			return &s->opened[i];
	if (s->count == BINARIES_MAX)
		return NULL;
	o = &s->opened[s->count++];
	o->binary = *binary;
	open_module(s, o);
	return o;
}

struct symbol symbols_find(struct symbols *s, const struct profile_binary *binary, uint64_t offset)
{
	const struct opened *o = open_once(s, binary);
	struct symbol found = { NULL, NULL, 0 };
	Dwfl_Line *line;

	if (!o || !o->module)
		return found;
	found.function = dwfl_module_addrname(o->module, offset + o->bias);
	line = dwfl_module_getsrc(o->module, offset + o->bias);
	if (line)
		found.file = dwfl_lineinfo(line, NULL, &found.line, NULL, NULL, NULL);
	return found;
}
