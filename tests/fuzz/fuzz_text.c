/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_text.c - what people and files say: the daemon's configuration, its book of arenas, sizes and
 * times, /proc's line of a process, traces, and messages of syslog. The first byte chooses which. Promises: an
 * error has a line of text; a book's record is written and read as the same; a trace's account never grows by
 * more than its events; all that is taken out of a message lies in it.
 */
#include <errno.h>
#include <string.h>

#include "client.h"
#include "config.h"
#include "fuzz.h"
#include "parse.h"
#include "state.h"
#include "syslog_text.h"
#include "trace_file.h"

enum text { TEXT_CONFIG, TEXT_STATE, TEXT_VALUES, TEXT_PROCESS, TEXT_TRACE, TEXT_SYSLOG, TEXTS };

static void fuzz_config(const char *text)
{
	struct config config;
	char error[CONFIG_ERROR_BYTES] = "";
	uint64_t size;

	memset(&config, 0, sizeof(config));
	if (config_text(&config, text, error)) {
		FUZZ_PROMISE(error[0]);
		FUZZ_PROMISE(memchr(error, 0, sizeof(error)) != NULL);
	}
	config_size(text, &size);
}

static void fuzz_state(const char *text)
{
	struct state_record record, again;
	char copy[STATE_TEXT_BYTES];

	if (state_parse(text, &record))
		return;
	FUZZ_PROMISE(state_format(copy, &record) > 0);
	FUZZ_PROMISE(state_parse(copy, &again) == 0);
	FUZZ_PROMISE(strcmp(record.name, again.name) == 0 && record.uid == again.uid &&
		     record.created_ns == again.created_ns);
}

static void fuzz_trace(const uint8_t *data, size_t size)
{
	struct trace_account account;
	struct trace_header header;
	struct trace_event event;

	if (trace_read_header(data, size, &header))
		return;
	trace_account_init(&account, &header);
	for (size_t at = TRACE_HEADER_BYTES; at < size; at += TRACE_EVENT_BYTES) {
		if (trace_read_event(&header, data + at, size - at, &event) ||
		    trace_account_event(&account, &event))
			break;
		FUZZ_PROMISE(account.seen <= account.events + 1);
		FUZZ_PROMISE(account.live_objects <= account.events);
	}
	trace_account_free(&account);
}

static void fuzz_values(const char *text)
{
	uint64_t value;
	unsigned levels;
	int level;

	parse_size(text, &value);
	parse_time(text, UINT64_C(1700000000000000000), &value);
	parse_level(text, &level);
	if (!parse_levels(text, &levels))
		FUZZ_PROMISE(levels && levels <= 0xff);
}

static void within(const struct syslog_slice *s, const char *bytes, size_t size)
{
	FUZZ_PROMISE(!s->length || (s->at >= bytes && s->length <= size && s->at <= bytes + (size - s->length)));
}

static void fuzz_syslog(const uint8_t *data, size_t size)
{
	char bytes[FUZZ_INPUT_MAX];
	struct syslog_message m;

	memcpy(bytes, data, size);
	syslog_parse(bytes, size, "host", &m);
	FUZZ_PROMISE(m.level >= 0 && m.level < 8 && syslog_facility_name(m.facility));
	FUZZ_PROMISE(m.param_count <= SYSLOG_PARAMS_MAX);
	within(&m.text, bytes, size);
	within(&m.ident, bytes, size);
	within(&m.process, bytes, size);
	within(&m.host, bytes, size);
	within(&m.id, bytes, size);
	within(&m.time, bytes, size);
	within(&m.data, bytes, size);
	for (size_t i = 0; i < m.param_count; i++) {
		within(&m.params[i].value, bytes, size);
		FUZZ_PROMISE(m.params[i].id.length && m.params[i].id.length <= SYSLOG_NAME_MAX);
		FUZZ_PROMISE(m.params[i].name.length <= SYSLOG_NAME_MAX);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[FUZZ_INPUT_MAX + 1];
	struct client_process process;

	if (!size || size > FUZZ_INPUT_MAX)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = 0;
	switch (data[0] % TEXTS) {
	case TEXT_CONFIG: fuzz_config(text); break;
	case TEXT_STATE: fuzz_state(text); break;
	case TEXT_VALUES: fuzz_values(text); break;
	case TEXT_PROCESS: client_process_parse(text, &process); break;
	case TEXT_SYSLOG: fuzz_syslog(data + 1, size - 1); break;
	default: fuzz_trace(data + 1, size - 1);
	}
	return 0;
}

/* ---- inputs to begin with ---- */

static size_t put(uint8_t *bytes, enum text which, const void *text, size_t size)
{
	bytes[0] = (uint8_t)which;
	memcpy(bytes + 1, text, size);
	return size + 1;
}

static size_t seed_state(uint8_t *bytes)
{
	struct state_record record = { .name = "demo", .phase = STATE_LIVE, .uid = 7, .gid = 8 };
	char text[STATE_TEXT_BYTES];
	int n;

	record.terms.capacity = CAPACITY_MIN;
	n = state_format(text, &record);
	return n > 0 ? put(bytes, TEXT_STATE, text, (size_t)n) : 1;
}

static size_t seed_trace(uint8_t *bytes)
{
	static const uint32_t head[2] = { 2, 1 };
	static const struct {
		uint8_t op, thread;
		uint16_t zero;
		uint32_t object, size;
	} events[] = {
		{ 1, 0, 0, 0, 100 }, { 1, 0, 0, 1, 64 }, { 3, 0, 0, 0, 200 }, { 2, 0, 0, 1, 0 }
	};
	uint8_t text[TRACE_HEADER_BYTES + sizeof(events)];

	_Static_assert(sizeof(events[0]) == TRACE_EVENT_BYTES, "an event");
	memcpy(text, "SMTRACE1", 8);
	memcpy(text + 8, head, sizeof(head));
	memcpy(text + TRACE_HEADER_BYTES, events, sizeof(events));
	return put(bytes, TEXT_TRACE, text, sizeof(text));
}

size_t fuzz_seed(unsigned i, uint8_t *bytes)
{
	static const struct {
		enum text which;
		const char *text;
	} texts[] = {
		{ TEXT_CONFIG, "[daemon]\nsocket = /tmp/x.sock\nlog-level = info\nio = epoll\n" },
		{ TEXT_CONFIG, "[arena]\nsize = 64M\nclient-quota = 1G\nmode = 0600\n" },
		{ TEXT_VALUES, "64M" },
		{ TEXT_VALUES, "2026-01-31T12:30:15Z" },
		{ TEXT_VALUES, "-1h30m" },
		{ TEXT_VALUES, "@1700000000" },
		{ TEXT_VALUES, "warning" },
		{ TEXT_VALUES, "err..debug" },
		{ TEXT_VALUES, "1 hour 10 min ago" },
		{ TEXT_SYSLOG, "<13>Nov 22 22:18:48 host prog[12]: text" },
		{ TEXT_SYSLOG, "<165>1 2003-10-11T22:14:15.003Z host app 77 ID [a@1 b=\"c\\\"\" d=\"\"][e] text" },
		{ TEXT_PROCESS,
		  "12 (a ) b) S 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 3 0 4711 1 1" },
	};
	unsigned count = sizeof(texts) / sizeof(texts[0]);

	if (i < count)
		return put(bytes, texts[i].which, texts[i].text, strlen(texts[i].text));
	return i == count ? seed_state(bytes) : i == count + 1 ? seed_trace(bytes) : 0;
}
