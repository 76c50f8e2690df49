/* SPDX-License-Identifier: Apache-2.0 */
/* logserver_parse.c - guesses from a line of text which program wrote it, and how grave it is. */
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>

#include "logserver.h"

static bool is_program_char(char c)
{
	return c && (isalnum((unsigned char)c) || strchr("_-./@$*()", c));
}

/* "name:" or "name[123]:" gives the length of name, anything else 0. */
static size_t program_token(const char *s, size_t len)
{
	size_t n = 0;

	if (len < 2 || s[len - 1] != ':')
		return 0;
	while (n < len - 1 && is_program_char(s[n]))
		n++;
	if (n == 0 || isdigit((unsigned char)s[0]))
		return 0;
	return n == len - 1 || (s[n] == '[' && s[len - 2] == ']') ? n : 0;
}

/* The program is the first such token among the first words, else the file the line came from. */
static void find_program(const char *s, size_t len, const char *source, char *program)
{
	size_t at = 0;

	for (int word = 0; word < 7 && at < len; word++) {
		size_t end = at, n;

		while (end < len && s[end] != ' ' && s[end] != '\t')
			end++;
		n = program_token(s + at, end - at);
		if (n) {
			n = n < LABEL ? n : LABEL - 1;
			memcpy(program, s + at, n);
			program[n] = '\0';
			return;
		}
		for (at = end; at < len && (s[at] == ' ' || s[at] == '\t');)
			at++;
	}
	memcpy(program, source, LABEL);
	program[LABEL - 1] = '\0';
}

static int word_level(const char *s, size_t len)
{
	static const struct {
		const char *word;
		int level;
	} table[] = {
		{ "emerg", LOG_EMERG },	    { "panic", LOG_EMERG },   { "alert", LOG_ALERT },
		{ "crit", LOG_CRIT },	    { "fatal", LOG_CRIT },    { "error", LOG_ERR },
		{ "fail", LOG_ERR },	    { "denied", LOG_ERR },    { "warn", LOG_WARNING },
		{ "invalid", LOG_WARNING }, { "notice", LOG_NOTICE }, { "debug", LOG_DEBUG },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		size_t n = strlen(table[i].word);

		if (n <= len && (s[0] | 0x20) == table[i].word[0] &&
		    !strncasecmp(s, table[i].word, n))
			return table[i].level;
	}
	return LOG_INFO;
}

/* The gravest word of the line, by the beginnings of its words. */
static int find_level(const char *s, size_t len)
{
	int level = LOG_INFO;
	bool debug = false, in_word = false;

	for (size_t i = 0; i < len; i++) {
		bool letter = (unsigned)(s[i] | 0x20) - 'a' < 26u;

		if (letter && !in_word && strchr("epacfdwin", s[i] | 0x20)) {
			int l = word_level(s + i, len - i);

			debug |= l == LOG_DEBUG;
			level = l < level ? l : level;
		}
		in_word = letter;
	}
	return level == LOG_INFO && debug ? LOG_DEBUG : level;
}

void logserver_parse(struct meaning *m, const char *text, size_t len, const char *source)
{
	find_program(text, len, source, m->program);
	m->level = find_level(text, len);
}
