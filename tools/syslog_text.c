/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syslog_text.c - what does not fit a format is never an error: then less of the message is taken apart,
 * and the rest is its text.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "syslog_text.h"

#define PRIORITY_DEFAULT 13 /* user.notice */
#define PRIORITY_MAX	 191
#define IDENT_MAX	 255

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_printable(char c)
{
	return c > 32 && c < 127;
}

static void skip(struct syslog_slice *s, size_t n)
{
	s->at += n;
	s->length -= n;
}

/* ---- priority ---- */

/* "<N>" at the start; without it, or with nonsense in it, nothing is taken. */
static int priority(struct syslog_slice *rest)
{
	int value = 0;
	size_t i = 1;

	if (!rest->length || rest->at[0] != '<')
		return PRIORITY_DEFAULT;
	while (i < rest->length && i < 4 && is_digit(rest->at[i]))
		value = 10 * value + (rest->at[i++] - '0');
	if (i == 1 || i == rest->length || rest->at[i] != '>' || value > PRIORITY_MAX)
		return PRIORITY_DEFAULT;
	skip(rest, i + 1);
	return value;
}

/* ---- RFC 5424 ---- */

/* Printable characters up to a space, which is taken too; "-" is nothing. */
static bool header_field(struct syslog_slice *rest, size_t max, struct syslog_slice *ret)
{
	size_t n = 0;

	while (n < rest->length && is_printable(rest->at[n]))
		n++;
	if (!n || n > max || n == rest->length || rest->at[n] != ' ')
		return false;
	*ret = (struct syslog_slice){ rest->at, n == 1 && rest->at[0] == '-' ? 0 : n };
	skip(rest, n + 1);
	return true;
}

static bool data_name(struct syslog_slice *rest, struct syslog_slice *ret)
{
	size_t n = 0;

	while (n < rest->length && is_printable(rest->at[n]) && !strchr("=]\"", rest->at[n]))
		n++;
	*ret = (struct syslog_slice){ rest->at, n };
	skip(rest, n);
	return n > 0 && n <= SYSLOG_NAME_MAX;
}

/* "value" in quotes, escapes and all. */
static bool data_value(struct syslog_slice *rest, struct syslog_slice *ret)
{
	size_t n = 1;

	if (!rest->length || rest->at[0] != '"')
		return false;
	while (n < rest->length && rest->at[n] != '"')
		n += rest->at[n] == '\\' ? 2 : 1;
	if (n >= rest->length)
		return false;
	*ret = (struct syslog_slice){ rest->at + 1, n - 1 };
	skip(rest, n + 1);
	return true;
}

static void add_param(struct syslog_message *m, const struct syslog_param *p)
{
	if (m->param_count < SYSLOG_PARAMS_MAX)
		m->params[m->param_count] = *p;
	m->param_count++;
}

/* [id name="value" …] */
static bool data_element(struct syslog_slice *rest, struct syslog_message *m)
{
	struct syslog_param p = { .name = { NULL, 0 } };
	bool any = false;

	skip(rest, 1);
	if (!data_name(rest, &p.id))
		return false;
	while (rest->length && rest->at[0] == ' ') {
		skip(rest, 1);
		if (!data_name(rest, &p.name) || !rest->length || rest->at[0] != '=')
			return false;
		skip(rest, 1);
		if (!data_value(rest, &p.value))
			return false;
		add_param(m, &p);
		any = true;
	}
	if (!rest->length || rest->at[0] != ']')
		return false;
	skip(rest, 1);
	if (!any)
		add_param(m, &p);
	return true;
}

/* \" \\ and \] stand for what follows; any other backslash for itself. */
static void resolve(struct syslog_slice *s)
{
	size_t to = 0;

	for (size_t from = 0; from < s->length; from++) {
		if (s->at[from] == '\\' && from + 1 < s->length && strchr("\"\\]", s->at[from + 1]) &&
		    s->at[from + 1])
			from++;
		s->at[to++] = s->at[from];
	}
	s->length = to;
}

/* All elements, or "-"; then a space, or the end. Nothing is resolved before all of it is known to be
 * sound. */
static bool structured_data(struct syslog_slice *rest, struct syslog_message *m)
{
	char *start = rest->at;

	if (rest->length && rest->at[0] == '-')
		skip(rest, 1);
	else if (!rest->length || rest->at[0] != '[')
		return false;
	while (rest->length && rest->at[0] == '[')
		if (!data_element(rest, m))
			return false;
	if (rest->length && rest->at[0] != ' ')
		return false;
	if (m->param_count > SYSLOG_PARAMS_MAX) {
		m->data = (struct syslog_slice){ start, (size_t)(rest->at - start) };
		m->param_count = 0;
	}
	for (size_t i = 0; i < m->param_count; i++)
		resolve(&m->params[i].value);
	if (rest->length)
		skip(rest, 1);
	return true;
}

/* VERSION TIME HOST IDENT PROCESS ID DATA [TEXT]. False: it is not that. */
static bool parse_5424(struct syslog_slice rest, struct syslog_message *ret)
{
	static const char mark[] = "\xef\xbb\xbf"; /* of UTF-8 */
	struct syslog_slice version;

	if (!header_field(&rest, 3, &version) || version.length != 1 || version.at[0] != '1' ||
	    !header_field(&rest, 64, &ret->time) || !header_field(&rest, 255, &ret->host) ||
	    !header_field(&rest, 48, &ret->ident) || !header_field(&rest, 128, &ret->process) ||
	    !header_field(&rest, 32, &ret->id) || !structured_data(&rest, ret))
		return false;
	if (rest.length >= 3 && !memcmp(rest.at, mark, 3))
		skip(&rest, 3);
	ret->text = rest;
	return true;
}

/* ---- RFC 3164 ---- */

/* Whether the bytes look like the pattern: 'A' a letter, '0' a digit, '_' a digit or space, else itself. */
static bool looks_like(const struct syslog_slice *s, const char *pattern)
{
	size_t n = strlen(pattern);

	if (s->length < n)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = s->at[i], p = pattern[i];
		char lower = (char)(c | 32);

		if (p == 'A' ? lower < 'a' || lower > 'z' :
		    p == '0' ? !is_digit(c) :
		    p == '_' ? !is_digit(c) && c != ' ' :
			       c != p)
			return false;
	}
	return true;
}

static void skip_time(struct syslog_slice *rest, struct syslog_slice *time)
{
	size_t n = 0;

	if (looks_like(rest, "AAA _0 00:00:00 ")) {
		skip(rest, 16);
	} else if (looks_like(rest, "0000-00-00T00:00")) {
		while (n < rest->length && is_printable(rest->at[n]))
			n++;
		*time = (struct syslog_slice){ rest->at, n };
		skip(rest, n < rest->length ? n + 1 : n);
	}
}

/* "[123]" at the end of an ident goes to *process. */
static bool split_process(struct syslog_slice *ident, struct syslog_slice *process)
{
	size_t n = ident->length, open;

	if (n < 3 || ident->at[n - 1] != ']')
		return false;
	for (open = n - 2; open > 0 && ident->at[open] != '['; open--)
		if (!is_printable(ident->at[open]))
			return false;
	if (!open || open == n - 2)
		return false;
	*process = (struct syslog_slice){ ident->at + open + 1, n - open - 2 };
	ident->length = open;
	return true;
}

static size_t find(const struct syslog_slice *s, char c)
{
	const char *at = s->length ? memchr(s->at, c, s->length) : NULL;

	return at ? (size_t)(at - s->at) : s->length;
}

/* Bytes up to the first colon that ends a word; 0: there is none where one may be. */
static size_t ident_length(const struct syslog_slice *rest)
{
	for (size_t i = 0; i < rest->length && i <= IDENT_MAX; i++) {
		if (rest->at[i] != ':' && (unsigned char)rest->at[i] < 32)
			return 0;
		if (rest->at[i] == ':' && (i + 1 == rest->length || rest->at[i + 1] == ' '))
			return i;
	}
	return 0;
}

/* "[HOST ]IDENT[PROCESS]:". A word before the ident is a host's name only if it is this machine's: names
 * of programs may have spaces, and ident or none, the text is not shortened by a guess. */
static void split_ident(struct syslog_slice *rest, const char *host, struct syslog_message *ret)
{
	struct syslog_slice ident = { rest->at, ident_length(rest) }, name = { NULL, 0 };
	size_t word = find(&ident, ' ');

	if (!ident.length)
		return;
	if (word < ident.length && word == strlen(host) && !memcmp(ident.at, host, word)) {
		name = (struct syslog_slice){ ident.at, word };
		skip(&ident, word + 1);
	}
	skip(rest, (size_t)(ident.at - rest->at) + ident.length + 1);
	if (rest->length)
		skip(rest, 1);
	split_process(&ident, &ret->process);
	ret->host = name;
	ret->ident = ident;
}

/* Whether what stands before a colon is an ident: one word, with or without the host before it, or words
 * that end in "[PROCESS]". */
static bool has_ident(const struct syslog_slice *rest, const char *host)
{
	struct syslog_slice all = { rest->at, ident_length(rest) }, process;
	size_t word = find(&all, ' ');

	if (!all.length || word == 0)
		return false;
	if (word < all.length && word == strlen(host) && !memcmp(all.at, host, word)) {
		skip(&all, word + 1);
		word = find(&all, ' ');
	}
	return all.length && word && (word == all.length || split_process(&all, &process));
}

static void parse_3164(struct syslog_slice rest, const char *host, struct syslog_message *ret)
{
	skip_time(&rest, &ret->time);
	if (has_ident(&rest, host))
		split_ident(&rest, host, ret);
	ret->text = rest;
}

/* ---- both ---- */

void syslog_parse(char *bytes, size_t length, const char *host, struct syslog_message *ret)
{
	struct syslog_slice rest = { bytes, length };
	int value;

	/* Ends of lines and of strings that some senders add. */
	while (rest.length && (!rest.at[rest.length - 1] || rest.at[rest.length - 1] == '\n'))
		rest.length--;
	value = priority(&rest);
	memset(ret, 0, offsetof(struct syslog_message, params));
	if (!parse_5424(rest, ret)) {
		memset(ret, 0, offsetof(struct syslog_message, params));
		parse_3164(rest, host, ret);
	}
	ret->level = value & 7;
	ret->facility = value >> 3;
}

const char *syslog_facility_name(int facility)
{
	static const char *const names[] = { "kern", "user",	 "mail",  "daemon", "auth",   "syslog",
					     "lpr",  "news",	 "uucp",  "cron",   "authpriv", "ftp",
					     "ntp",  "security", "console", "clock",  "local0", "local1",
					     "local2", "local3", "local4", "local5", "local6", "local7" };

	return facility >= 0 && facility < (int)(sizeof(names) / sizeof(names[0])) ? names[facility] :
										       NULL;
}
