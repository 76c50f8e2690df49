/* SPDX-License-Identifier: Apache-2.0 */
/* log_filter.c - filters, cheap ones first. */
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "emit_text.h"
#include "log_filter.h"
#include "parse.h"

/* ---- from the command line ---- */

static int parse_when(const struct call *call, const char *option, uint64_t now_ns, uint64_t *ret)
{
	const char *value = call_option(call, option);
	int r = value ? parse_time(value, now_ns, ret) : 0;

	return r ? tool_bad_value(call, option, r) : TOOL_OK;
}

static int parse_clients(const struct call *call, struct log_filter *f)
{
	const char *value;

	f->clients = emit_must(calloc(call->given_count + 1, sizeof(*f->clients)));
	for (size_t i = 0; (value = call_option_next(call, "client", &i));) {
		uint64_t pid;
		int r = parse_number(value, 1, INT32_MAX, &pid);

		if (r)
			return tool_bad_value(call, "client", r);
		f->clients[f->client_count++] = (int64_t)pid;
	}
	return TOOL_OK;
}

static int parse_regexes(const struct call *call, struct log_filter *f)
{
	const char *value;
	char why[128];

	f->regexes = emit_must(calloc(call->given_count + 1, sizeof(*f->regexes)));
	for (size_t i = 0; (value = call_option_next(call, "grep", &i));) {
		int r = regcomp(&f->regexes[f->regex_count], value, REG_EXTENDED);

		if (r) {
			regerror(r, &f->regexes[f->regex_count], why, sizeof(why));
			tool_error("%s: --grep %s: %s", call->verb->name, value, why);
			return TOOL_USAGE;
		}
		f->regex_count++;
	}
	return TOOL_OK;
}

static const char **all_of(const struct call *call, const char *option, size_t *count)
{
	const char **values = emit_must(calloc(call->given_count + 1, sizeof(*values))), *value;

	for (size_t i = 0; (value = call_option_next(call, option, &i));)
		values[(*count)++] = value;
	return values;
}

static int parse_pairs(const struct call *call, struct log_filter *f)
{
	f->pairs = all_of(call, "kv", &f->pair_count);
	for (size_t i = 0; i < f->pair_count; i++)
		if (!*f->pairs[i] || *f->pairs[i] == '=')
			return tool_bad_value(call, "kv", -EINVAL);
	return TOOL_OK;
}

int log_filter_parse(const struct call *call, struct log_filter *f)
{
	const char *level = call_option(call, "level");
	uint64_t now_ns = tool_now_ns();
	int code, r;

	*f = (struct log_filter){ .until_ns = UINT64_MAX, .levels = 0xff };
	code = parse_when(call, "since", now_ns, &f->since_ns);
	if (!code)
		code = parse_when(call, "until", now_ns, &f->until_ns);
	if (code)
		return code;
	r = level ? parse_levels(level, &f->levels) : 0;
	if (r)
		return tool_bad_value(call, "level", r);
	f->names = all_of(call, "name", &f->name_count);
	code = parse_clients(call, f);
	if (!code)
		code = parse_pairs(call, f);
	return code ? code : parse_regexes(call, f);
}

void log_filter_free(struct log_filter *f)
{
	for (size_t i = 0; i < f->regex_count; i++)
		regfree(&f->regexes[i]);
	free(f->regexes);
	free(f->clients);
	free(f->names);
	free(f->pairs);
	free(f->text);
}

/* ---- one record ---- */

bool log_record_find(const struct shma_record *r, const char *key, size_t key_bytes, struct shma_kv *ret)
{
	size_t cursor = 0;

	while (shma_record_kv(r, &cursor, ret) == 1)
		if (ret->key_len == key_bytes && !memcmp(ret->key, key, key_bytes))
			return true;
	return false;
}

/* A terminated copy, good until the next; NULL: no memory. */
static const char *terminated(struct log_filter *f, const void *data, size_t length)
{
	if (length >= f->text_room) {
		char *text = realloc(f->text, length + 1);

		if (!text)
			return NULL;
		f->text = text;
		f->text_room = length + 1;
	}
	if (length)
		memcpy(f->text, data, length);
	f->text[length] = 0;
	return f->text;
}

/* The record itself, or who gave it to a process that wrote it: fields of messages that came by syslog. */
static bool is_of(const struct shma_record *r, int64_t pid)
{
	static const char *const keys[] = { "pid", "sender_pid" };
	struct shma_kv kv;

	if (r->pid == pid)
		return true;
	for (size_t i = 0; i < 2; i++)
		if (log_record_find(r, keys[i], strlen(keys[i]), &kv) && kv.type == SHMA_TYPE_INT && kv.value.i == pid)
			return true;
	return false;
}

static bool client_matches(const struct log_filter *f, const struct shma_record *r)
{
	for (size_t i = 0; i < f->client_count; i++)
		if (is_of(r, f->clients[i]))
			return true;
	return !f->client_count;
}

static bool glob_matches(const struct log_filter *f, const char *name)
{
	for (size_t i = 0; i < f->name_count; i++)
		if (!fnmatch(f->names[i], name, 0))
			return true;
	return false;
}

/* What it calls itself, or the process that wrote it. */
static bool name_matches(struct log_filter *f, const struct shma_record *r, const char *name)
{
	struct shma_kv kv;
	const char *ident;

	if (!f->name_count)
		return true;
	if (name && glob_matches(f, name))
		return true;
	if (!log_record_find(r, "ident", 5, &kv) || kv.type != SHMA_TYPE_STR)
		return false;
	ident = terminated(f, kv.value.str, kv.len);
	return !ident || glob_matches(f, ident);
}

static bool number_is(const struct shma_kv *kv, const char *value)
{
	char text[40];
	char *end;

	switch (kv->type) {
	case SHMA_TYPE_INT: snprintf(text, sizeof(text), "%" PRId64, kv->value.i); break;
	case SHMA_TYPE_UINT: snprintf(text, sizeof(text), "%" PRIu64, kv->value.u); break;
	case SHMA_TYPE_BOOL:
		return !strcmp(value, kv->value.b ? "true" : "false") || !strcmp(value, kv->value.b ? "1" : "0");
	default:
		return *value && strtod(value, &end) == kv->value.d && !*end;
	}
	return !strcmp(value, text);
}

static bool value_is(const struct shma_kv *kv, const char *value)
{
	if (kv->type != SHMA_TYPE_STR && kv->type != SHMA_TYPE_BYTES)
		return number_is(kv, value);
	return kv->len == strlen(value) && !memcmp(kv->value.bytes, value, kv->len);
}

/* Any of the values that the key has. */
static bool pair_matches(const struct shma_record *r, const char *pair)
{
	size_t key_bytes = strcspn(pair, "="), cursor = 0;
	const char *value = pair[key_bytes] ? pair + key_bytes + 1 : NULL;
	struct shma_kv kv;

	while (shma_record_kv(r, &cursor, &kv) == 1)
		if (kv.key_len == key_bytes && !memcmp(kv.key, pair, key_bytes) && (!value || value_is(&kv, value)))
			return true;
	return false;
}

/* Records may hold zero bytes, hence REG_STARTEND; the copy with one behind it is for matchers that look
 * for the end all the same. Rather one record too many than one too few, where memory is short. */
static bool regexes_match(struct log_filter *f, const struct shma_record *r)
{
	size_t length = 0;
	const char *data = f->regex_count ? shma_record_text(r, &length) : NULL;
	const char *text = f->regex_count ? terminated(f, data, length) : NULL;

	for (size_t i = 0; text && i < f->regex_count; i++) {
		regmatch_t range = { 0, (regoff_t)length };

		if (regexec(&f->regexes[i], text, 1, &range, REG_STARTEND))
			return false;
	}
	return true;
}

bool log_filter_matches(struct log_filter *f, const struct shma_record *r, const char *name)
{
	if (r->time_ns < f->since_ns || r->time_ns > f->until_ns || !(f->levels >> r->level & 1))
		return false;
	if (!client_matches(f, r) || !name_matches(f, r, name))
		return false;
	for (size_t i = 0; i < f->pair_count; i++)
		if (!pair_matches(r, f->pairs[i]))
			return false;
	return regexes_match(f, r);
}
