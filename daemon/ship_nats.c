/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records to NATS JetStream. Each message says which sequence the stream must have before it
 * (Nats-Expected-Last-Sequence), so that the server takes all in order or refuses: one acknowledgement, asked for by
 * the last message of a batch, is one for all before it, and a server that acknowledges each would be slower. What a
 * dead connection had under way comes too late then, and is refused. With several records a message the sequence does
 * not say which record is next, since the next connection's messages may end elsewhere: each but a connection's first also
 * says which message, by its last record's id, must be the one before (Nats-Expected-Last-Msg-Id). Nats-Msg-Id is else for
 * those who read the stream, and for the server's own window of duplicates, which may be short.
 *
 * Reconnecting is the pump's: the library's own would publish again what it had buffered.
 */
#include "ship_sink.h"

#include <errno.h>
#include <inttypes.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URLS_MAX	32
#define API_MS		3000
#define CONNECT_MS	2000
#define WRITE_MS	4000
#define PING_MS		2000
#define WINDOW_NS	(INT64_C(10) * 1000000000) /* the server keeps each id so long, in memory */
#define HEADERS_BYTES	1024u			   /* more than ours need, and a struct ship_packed */
#define NAME_BYTES_MAX	(3 * SEGMENT_NAME_BYTES)
#define SUBJECT_BYTES	(NAME_BYTES_MAX + 32)
#define INBOX_BYTES	128
#define ID_BYTES	96
#define PACKED_BYTES	(UINT32_C(64) << 10) /* of a message of several records */

struct ship_nats {
	struct ship_sink sink; /* first */
	char name[NAME_BYTES_MAX]; /* of the arena, as NATS takes it */
	char stream[NAME_BYTES_MAX + 16], subjects[SUBJECT_BYTES];
	char *urls;
	const char *servers[URLS_MAX];
	int server_count;
	unsigned replicas, batch; /* records a message, at most */

	natsConnection *nc;
	jsCtx *js;
	natsSubscription *acks;
	char inbox[INBOX_BYTES];
	size_t max_payload;
	uint64_t base;	    /* the stream's sequence at the opening */
	uint64_t published; /* records since then, those that are held included */
	uint64_t asked;	    /* of which an acknowledgement was asked for */
	uint64_t acked;
	uint64_t messages;  /* since then, likewise */
	/* A message is not sent yet: by then it is known whether it is its batch's last. */
	unsigned held;		     /* records of it */
	struct segment_record first; /* its first, but data */
	struct segment_position position;
	struct segment_key key; /* of its last */
	char *data;
	size_t length, room;
	char id[ID_BYTES]; /* of the message that was sent last */
};

static struct ship_nats *of(struct ship_sink *sink)
{
	return (struct ship_nats *)sink;
}

static int errno_of(natsStatus s)
{
	switch (s) {
	case NATS_NO_MEMORY: return -ENOMEM;
	case NATS_TIMEOUT: return -ETIMEDOUT;
	case NATS_NO_SERVER:
	case NATS_NO_RESPONDERS: return -ECONNREFUSED;
	default: return -EIO;
	}
}

static int fail(struct ship_nats *n, const char *what, natsStatus s)
{
	natsStatus of_last = NATS_OK;
	const char *last = nats_GetLastError(&of_last);

	snprintf(n->sink.why, sizeof n->sink.why, "%s: %.160s", what,
		 last && last[0] && of_last == s ? last : natsStatus_GetText(s));
	return errno_of(s);
}

/* ---- the connection and its stream ---- */

static natsStatus set_options(struct ship_nats *n, natsOptions *o)
{
	natsStatus s = natsOptions_SetServers(o, n->servers, n->server_count);

	if (s == NATS_OK)
		s = natsOptions_SetAllowReconnect(o, false);
	if (s == NATS_OK)
		s = natsOptions_SetTimeout(o, CONNECT_MS);
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(o, PING_MS);
	if (s == NATS_OK)
		s = natsOptions_SetWriteDeadline(o, WRITE_MS);
	if (s == NATS_OK)
		s = natsOptions_SetIOBufSize(o, 256 << 10);
	return s == NATS_OK ? natsOptions_SetName(o, n->stream) : s;
}

static int connect_to(struct ship_nats *n)
{
	natsOptions *o = NULL;
	natsStatus s = natsOptions_Create(&o);
	jsOptions js;
	int64_t payload;

	if (s == NATS_OK)
		s = set_options(n, o);
	if (s == NATS_OK)
		s = natsConnection_Connect(&n->nc, o);
	natsOptions_Destroy(o);
	if (s != NATS_OK)
		return fail(n, "no connection", s);
	payload = natsConnection_GetMaxPayload(n->nc);
	n->max_payload = payload > (int64_t)(2 * HEADERS_BYTES) ? (size_t)payload - HEADERS_BYTES :
								  HEADERS_BYTES;
	jsOptions_Init(&js);
	js.Wait = API_MS;
	s = natsConnection_JetStream(&n->js, n->nc, &js);
	return s == NATS_OK ? 0 : fail(n, "JetStream", s);
}

static int listen_for_acks(struct ship_nats *n)
{
	natsInbox *inbox = NULL;
	char all[INBOX_BYTES + 4];
	natsStatus s = natsInbox_Create(&inbox);

	if (s != NATS_OK)
		return fail(n, "inbox", s);
	snprintf(n->inbox, sizeof n->inbox, "%s", inbox);
	natsInbox_Destroy(inbox);
	snprintf(all, sizeof all, "%s.*", n->inbox);
	s = natsConnection_SubscribeSync(&n->acks, n->nc, all);
	return s == NATS_OK ? 0 : fail(n, "subscription", s);
}

static natsStatus make_stream(struct ship_nats *n, jsStreamInfo **info, jsErrCode *code)
{
	const char *subjects[] = { n->subjects };
	jsStreamConfig c;

	jsStreamConfig_Init(&c);
	c.Name = n->stream;
	c.Description = "log of a shmalloc arena";
	c.Subjects = subjects;
	c.SubjectsLen = 1;
	c.Storage = js_FileStorage;
	c.Replicas = n->replicas;
	c.Duplicates = WINDOW_NS;
	return js_AddStream(info, n->js, &c, NULL, code);
}

/* A stream that is there stays as its operator has it. may_lack: whether its last message may be one that is not
 * there any more. */
static int find_stream(struct ship_nats *n, uint64_t *sequence, bool *may_lack)
{
	jsStreamInfo *info = NULL;
	jsErrCode code = 0;
	natsStatus s = js_GetStreamInfo(&info, n->js, n->stream, NULL, &code);

	if (s == NATS_NOT_FOUND)
		s = make_stream(n, &info, &code);
	if (s != NATS_OK)
		return fail(n, n->stream, s);
	*sequence = info->State.LastSeq;
	*may_lack = !info->State.Msgs || info->State.NumDeleted > 0;
	jsStreamInfo_Destroy(info);
	return 0;
}

static bool position_of(natsMsg *m, struct segment_position *ret)
{
	const char *text;

	memset(ret, 0, sizeof *ret);
	return natsMsgHeader_Get(m, "Shmalloc-Position", &text) == NATS_OK &&
	       sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu32, &ret->number, &ret->offset, &ret->record) ==
		       3;
}

/* Who leads only just may not have it yet: to go on from an older position then would be to ship again. */
static int look_at_end(struct ship_nats *n, struct ship_last *last, bool may_lack)
{
	natsMsg *m = NULL;
	jsErrCode code = 0;
	natsStatus s;

	if (!last->sequence)
		return 0;
	s = js_GetMsg(&m, n->js, n->stream, last->sequence, NULL, &code);
	if (s == NATS_NOT_FOUND && may_lack)
		return 0; /* it has gone by the stream's limits, or by hand */
	if (s != NATS_OK)
		return fail(n, "the stream's last message", s);
	last->found = position_of(m, &last->position);
	natsMsg_Destroy(m);
	if (last->found)
		return 0;
	snprintf(n->sink.why, sizeof n->sink.why, "%s: its last message is not of a log", n->stream);
	return -EUCLEAN;
}

static void nats_close(struct ship_sink *sink)
{
	struct ship_nats *n = of(sink);

	natsSubscription_Destroy(n->acks);
	jsCtx_Destroy(n->js);
	natsConnection_Destroy(n->nc);
	n->held = 0;
	n->acks = NULL;
	n->js = NULL;
	n->nc = NULL;
}

static int nats_open(struct ship_sink *sink, struct ship_last *ret)
{
	struct ship_nats *n = of(sink);
	bool may_lack = false;
	int err;

	memset(ret, 0, sizeof *ret);
	err = connect_to(n);
	if (!err)
		err = listen_for_acks(n);
	if (!err)
		err = find_stream(n, &ret->sequence, &may_lack);
	if (!err)
		err = look_at_end(n, ret, may_lack);
	n->base = ret->sequence;
	n->published = n->messages = n->asked = n->acked = 0;
	if (err)
		nats_close(sink);
	return err;
}

/* ---- publishing ---- */

static void name_id(char to[ID_BYTES], const struct segment_key *key)
{
	static const char digits[] = "0123456789abcdef";
	char life[33];

	for (int i = 0; i < 16; i++) {
		life[2 * i] = digits[key->life[i] >> 4];
		life[2 * i + 1] = digits[key->life[i] & 15];
	}
	life[32] = 0;
	snprintf(to, ID_BYTES, "%s/%u/%u/%u", life, key->block, key->lap, key->at);
}

/* What the server's longest message has no room for is cut off. */
static uint32_t cut_of(const struct ship_nats *n, const struct segment_record *r)
{
	return r->len > n->max_payload ? (uint32_t)(r->len - n->max_payload) : 0;
}

static natsStatus set_headers(struct ship_nats *n, natsMsg *m)
{
	const struct segment_record *r = &n->first;
	char text[160];
	natsStatus s = NATS_OK;

	if (n->batch > 1 && n->messages > 1)
		s = natsMsgHeader_Set(m, "Nats-Expected-Last-Msg-Id", n->id);
	name_id(n->id, &n->key);
	if (s == NATS_OK)
		s = natsMsgHeader_Set(m, "Nats-Msg-Id", n->id);
	snprintf(text, sizeof text, "%" PRIu64, n->base + n->messages - 1);
	if (s == NATS_OK)
		s = natsMsgHeader_Set(m, "Nats-Expected-Last-Sequence", text);
	snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 " %" PRIu32, n->position.number,
		 n->position.offset, n->position.record);
	if (s == NATS_OK)
		s = natsMsgHeader_Set(m, "Shmalloc-Position", text);
	if (s != NATS_OK || n->batch > 1) {
		snprintf(text, sizeof text, "%u", n->held);
		return s == NATS_OK ? natsMsgHeader_Set(m, "Shmalloc-Records", text) : s;
	}
	snprintf(text, sizeof text, "%" PRIu64 " %d %d %" PRIu64 " %d %" PRIu32 " %" PRIu64 " %" PRIu32,
		 r->time_ns, (int)r->pid, (int)r->tid, r->seq, r->fields, r->dropped, r->lost,
		 cut_of(n, r));
	return s == NATS_OK ? natsMsgHeader_Set(m, "Shmalloc-Record", text) : s;
}

static natsStatus make_message(struct ship_nats *n, natsMsg **m, const char *reply)
{
	static const char *const levels[] = { "emerg",	 "alert",  "crit", "err",
					      "warning", "notice", "info", "debug" };
	char subject[SUBJECT_BYTES];
	natsStatus s;

	snprintf(subject, sizeof subject, "shmalloc.%s.%s", n->name,
		 n->batch > 1 ? "batch" : levels[n->first.level & 7]);
	s = natsMsg_Create(m, subject, reply, n->data, (int)n->length);
	return s == NATS_OK ? set_headers(n, *m) : s;
}

static int send_held(struct ship_nats *n, const char *reply)
{
	natsMsg *m = NULL;
	natsStatus s;

	if (!n->held)
		return 0;
	s = make_message(n, &m, reply);
	if (s == NATS_OK)
		s = natsConnection_PublishMsg(n->nc, m);
	natsMsg_Destroy(m);
	n->held = 0;
	return s == NATS_OK ? 0 : fail(n, "publishing", s);
}

static int append(struct ship_nats *n, const void *data, size_t len)
{
	size_t needed = n->length + len + 8, room = needed < 4096 ? 4096 : 2 * needed;

	if (needed > n->room) {
		char *more = realloc(n->data, room);

		if (!more)
			return -ENOMEM;
		n->data = more;
		n->room = room;
	}
	if (len)
		memcpy(n->data + n->length, data, len);
	n->length += len;
	return 0;
}

static int append_packed(struct ship_nats *n, const struct segment_record *r, size_t len)
{
	struct ship_packed head = {
		.bytes = (uint32_t)len,
		.level = (uint8_t)r->level,
		.fields = r->fields,
		.dropped = r->dropped,
		.cut = cut_of(n, r),
		.time = r->time_ns,
		.seq = r->seq,
		.lost = r->lost,
		.pid = r->pid,
		.tid = r->tid,
	};
	int err = append(n, &head, sizeof head);

	if (!err)
		err = append(n, r->data, len);
	return err ? err : append(n, "\0\0\0\0\0\0\0", -len & 7);
}

static int hold(struct ship_nats *n, const struct segment_record *r)
{
	size_t len = r->len - cut_of(n, r);
	int err;

	if (!n->held) {
		n->length = 0;
		n->first = *r;
		n->messages++;
	}
	err = n->batch > 1 ? append_packed(n, r, len) : append(n, r->data, len);
	if (err)
		return err;
	n->position = r->position;
	n->key = r->key;
	n->held++;
	n->published++;
	return 0;
}

/* The headers have their room beside max_payload, a record of a batch its own. */
static bool has_room(const struct ship_nats *n, const struct segment_record *r)
{
	return n->held < n->batch && n->length + r->len + sizeof(struct ship_packed) < PACKED_BYTES &&
	       n->length + r->len + sizeof(struct ship_packed) + 8 < n->max_payload;
}

static int nats_publish(struct ship_sink *sink, const struct segment_record *r)
{
	struct ship_nats *n = of(sink);
	int err = n->held && !has_room(n, r) ? send_held(n, NULL) : 0;

	return err ? err : hold(n, r);
}

static int nats_flush(struct ship_sink *sink)
{
	struct ship_nats *n = of(sink);
	char reply[INBOX_BYTES + 48];
	int err;

	snprintf(reply, sizeof reply, "%s.%" PRIu64 "_%" PRIu64, n->inbox, n->published, n->messages);
	n->asked = n->published;
	err = send_held(n, reply);
	if (!err && natsConnection_Flush(n->nc) == NATS_CONNECTION_CLOSED)
		err = fail(n, "flushing", NATS_CONNECTION_CLOSED);
	return err;
}

/* ---- acknowledgements ---- */

struct ack {
	uint64_t count, messages; /* of records, by the subject it came to */
	uint64_t sequence;
	bool good, duplicate;
};

static void parse_ack(struct ship_nats *n, natsMsg *m, struct ack *ret)
{
	char text[512];
	size_t len = (size_t)natsMsg_GetDataLength(m);
	const char *subject = strrchr(natsMsg_GetSubject(m), '.'), *at;

	len = len < sizeof text - 1 ? len : sizeof text - 1;
	memcpy(text, len ? natsMsg_GetData(m) : "", len);
	text[len] = 0;
	memset(ret, 0, sizeof *ret);
	if (!subject || sscanf(subject, ".%" SCNu64 "_%" SCNu64, &ret->count, &ret->messages) != 2)
		ret->count = 0;
	at = strstr(text, "\"seq\":");
	ret->sequence = at ? strtoull(at + strlen("\"seq\":"), NULL, 10) : 0;
	ret->good = at && !strstr(text, "\"error\"");
	ret->duplicate = strstr(text, "\"duplicate\"");
	if (!ret->good)
		snprintf(n->sink.why, sizeof n->sink.why, "not taken: %.200s", len ? text : "no stream is there");
}

/* That the server takes a message for a duplicate is believed once it shows the one before. */
static bool is_there(struct ship_nats *n, uint64_t sequence)
{
	natsMsg *m = NULL;
	jsErrCode code = 0;
	const char *id;
	bool same;

	if (js_GetMsg(&m, n->js, n->stream, sequence, NULL, &code) != NATS_OK)
		return false;
	same = natsMsgHeader_Get(m, "Nats-Msg-Id", &id) == NATS_OK && strcmp(id, n->id) == 0;
	natsMsg_Destroy(m);
	return same;
}

static int take_ack(struct ship_nats *n, const struct ack *a)
{
	if (!a->good)
		return -EAGAIN;
	if (a->count <= n->acked || a->count > n->asked)
		return 0;
	if (a->sequence == n->base + a->messages) {
		n->acked = a->count;
		n->sink.sequence = a->sequence;
		return 0;
	}
	snprintf(n->sink.why, sizeof n->sink.why, "out of step: sequence %" PRIu64 ", not %" PRIu64,
		 a->sequence, n->base + a->messages);
	return a->duplicate && a->count == n->published && is_there(n, a->sequence) ? -EEXIST : -EAGAIN;
}

static int nats_wait(struct ship_sink *sink, unsigned milliseconds, uint64_t *acked)
{
	struct ship_nats *n = of(sink);
	natsMsg *m = NULL;
	struct ack ack;
	natsStatus s = natsSubscription_NextMsg(&m, n->acks, milliseconds ? milliseconds : 1);
	int err = 0;

	if (s == NATS_OK) {
		parse_ack(n, m, &ack);
		err = take_ack(n, &ack);
		natsMsg_Destroy(m);
	} else if (s == NATS_NO_RESPONDERS) {
		snprintf(n->sink.why, sizeof n->sink.why, "the stream has no leader");
		err = -EAGAIN;
	} else if (s != NATS_TIMEOUT) {
		err = fail(n, "connection", s);
	}
	*acked = n->acked;
	return err;
}

/* ---- making ---- */

/* '.' and its like mean something to NATS, in a name of an arena only the first can be. */
static void escape(char *to, const char *arena)
{
	for (; *arena; arena++) {
		if (*arena == '.')
			to = stpcpy(to, "=2E");
		else
			*to++ = *arena;
	}
	*to = 0;
}

static int split_urls(struct ship_nats *n, const char *urls)
{
	char *rest, *url;

	n->urls = strdup(urls);
	if (!n->urls)
		return -ENOMEM;
	for (url = strtok_r(n->urls, ", ", &rest); url; url = strtok_r(NULL, ", ", &rest)) {
		if (n->server_count == URLS_MAX)
			return -E2BIG;
		n->servers[n->server_count++] = url;
	}
	return n->server_count ? 0 : -EINVAL;
}

int ship_nats_open(struct ship_sink **ret, const char *arena, const char *urls, unsigned replicas,
		   unsigned batch)
{
	struct ship_nats *n = calloc(1, sizeof *n);
	int err;

	*ret = NULL;
	if (!n)
		return -ENOMEM;
	n->sink = (struct ship_sink){ .open = nats_open, .publish = nats_publish, .flush = nats_flush,
				      .wait = nats_wait, .close = nats_close };
	escape(n->name, arena);
	snprintf(n->stream, sizeof n->stream, "SHMALLOC_%s", n->name);
	snprintf(n->subjects, sizeof n->subjects, "shmalloc.%s.*", n->name);
	n->replicas = replicas;
	n->batch = batch;
	*ret = &n->sink;
	err = split_urls(n, urls);
	if (err) {
		ship_nats_close(*ret);
		*ret = NULL;
	}
	return err;
}

void ship_nats_close(struct ship_sink *sink)
{
	struct ship_nats *n = of(sink);

	nats_close(sink);
	free(n->data);
	free(n->urls);
	free(n);
}
