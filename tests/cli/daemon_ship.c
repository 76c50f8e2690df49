/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records on their way to NATS JetStream, for the scripts daemon_ship*.sh and the benchmark ship.sh:
 *
 *   ports N                    so many ports of the loopback that nobody listens on
 *   write ARENA WRITERS STOP-FILE PER-SECOND   processes that log until the file is there
 *   load ARENA RECORDS BYTES   so many records, as fast as they are taken
 *   end URL STREAM             the stream's last sequence
 *   last URL STREAM BYTES      the number of its last record, all so long; -1: it has none
 *   leader URL STREAM          the server that leads it
 *   check URL STREAM WRITERS   reads all of the stream: which records are there, and how often
 *   bare URL STREAM RECORDS BYTES   a new stream, and as many messages as its library publishes asynchronously
 *   purge URL STREAM           the stream's messages go
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <nats/nats.h>

#include "../seed.h"
#include "numbered.h"
#include "ship_sink.h"
#include "shmalloc.h"

#define WRITERS_MAX 16
#define NUMBERS_MAX (UINT64_C(1) << 22) /* of one writer */
#define LARGE_EVERY 500
#define LARGE_BYTES 70000u

static void die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

static void must(const char *what, natsStatus s)
{
	if (s != NATS_OK)
		die(what, natsStatus_GetText(s));
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- ports: all bound at once, so that they differ ---- */

static int ports(int count)
{
	for (int i = 0; i < count; i++) {
		struct sockaddr_in at = { .sin_family = AF_INET,
					  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		socklen_t len = sizeof at;
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) < 0 ||
		    getsockname(fd, (struct sockaddr *)&at, &len) < 0)
			die("port", strerror(errno));
		printf("%d\n", ntohs(at.sin_port));
	}
	return 0;
}

/* ---- writing ---- */

struct board {
	_Atomic int stop;
	_Atomic uint64_t written[WRITERS_MAX];
};

static shma *open_arena(const char *name)
{
	shma *a;
	int err = shma_open(&a, name, 0, NULL);

	if (err)
		die("open", strerror(-err));
	return a;
}

static int be_writer(const char *arena, uint32_t writer, uint64_t per_second, struct board *board)
{
	static char data[LARGE_BYTES];
	shma *a = open_arena(arena);
	uint64_t began = now_us();
	int err;

	srandom((unsigned)test_seed_silent() + writer);
	for (uint64_t n = 0; !board->stop && n < NUMBERS_MAX; n++) {
		size_t len = sizeof(struct numbered) + (size_t)random() % 200;

		if (n % LARGE_EVERY == LARGE_EVERY - 1)
			len = LARGE_BYTES;
		numbered_make(data, len, writer, n);
		err = shma_log_write(a, (int)(n % 8), data, len);
		if (err)
			die("log", strerror(-err));
		board->written[writer] = n + 1;
		while (!board->stop && now_us() < began + (n + 1) * 1000000 / per_second)
			usleep(1000);
	}
	shma_close(a);
	return 0;
}

static int write_records(char **argv)
{
	uint32_t writers = (uint32_t)atoi(argv[1]);
	uint64_t total = 0;
	struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, bad = 0;

	if (board == MAP_FAILED || writers > WRITERS_MAX)
		die("board", strerror(errno));
	for (uint32_t w = 0; w < writers; w++)
		if (fork() == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
			_exit(be_writer(argv[0], w, strtoull(argv[3], NULL, 10), board));
	while (access(argv[2], F_OK) != 0)
		usleep(5000);
	board->stop = 1;
	while (wait(&status) > 0)
		bad |= status;
	for (uint32_t w = 0; w < writers; w++)
		total += board->written[w];
	printf("written=%llu\n", (unsigned long long)total);
	return bad != 0;
}

static int load(char **argv)
{
	uint64_t records = strtoull(argv[1], NULL, 10);
	size_t len = strtoul(argv[2], NULL, 10);
	char *data = calloc(1, len + sizeof(struct numbered));
	shma *a = open_arena(argv[0]);
	int err;

	for (uint64_t n = 0; n < records; n++) {
		numbered_make(data, len, 0, n);
		err = shma_log_write(a, 6, data, len);
		if (err)
			die("log", strerror(-err));
	}
	shma_close(a);
	free(data);
	return 0;
}

/* ---- the stream ---- */

static natsConnection *nc;
static jsCtx *js;

static void connect_to(const char *url)
{
	natsOptions *o;
	jsOptions jo;

	must("options", natsOptions_Create(&o));
	natsOptions_SetURL(o, url);
	natsOptions_SetTimeout(o, 1000);
	must("connection", natsConnection_Connect(&nc, o));
	jsOptions_Init(&jo);
	jo.Wait = 2000;
	must("JetStream", natsConnection_JetStream(&js, nc, &jo));
	natsOptions_Destroy(o);
}

static jsStreamInfo *stream_info(const char *stream)
{
	jsStreamInfo *info;
	jsErrCode code = 0;

	must(stream, js_GetStreamInfo(&info, js, stream, NULL, &code));
	return info;
}

static int end(char **argv)
{
	connect_to(argv[0]);
	printf("%llu\n", (unsigned long long)stream_info(argv[1])->State.LastSeq);
	return 0;
}

static int leader(char **argv)
{
	jsStreamInfo *info;

	connect_to(argv[0]);
	info = stream_info(argv[1]);
	if (!info->Cluster || !info->Cluster->Leader)
		die("leader", "none");
	puts(info->Cluster->Leader);
	return 0;
}

static struct tally {
	unsigned char *seen[WRITERS_MAX];
	uint32_t writers;
	uint64_t records, duplicates, wrong, lost, disorder, end[WRITERS_MAX], id_twice;
} tally;

static void note(const char *data, size_t len)
{
	struct numbered c;

	if (!numbered_read(data, len, tally.writers, NUMBERS_MAX, &c)) {
		tally.wrong++;
		return;
	}
	if (tally.seen[c.writer][c.number]++)
		tally.duplicates++;
	else
		tally.records++;
	if (c.number < tally.end[c.writer])
		tally.disorder++;
	tally.end[c.writer] = c.number + 1;
}

/* What was overwritten before it was drained is told with the record after it. */
static void note_headers(natsMsg *m, const char *subject)
{
	static char before[128];
	unsigned long long time, seq, lost = 0;
	unsigned pid, tid, fields, dropped;
	const char *text;

	if (natsMsgHeader_Get(m, "Shmalloc-Records", &text) == NATS_OK)
		tally.wrong += strncmp(subject, "shmalloc.", 9) != 0;
	else if (natsMsgHeader_Get(m, "Shmalloc-Record", &text) != NATS_OK ||
	    sscanf(text, "%llu %u %u %llu %u %u %llu", &time, &pid, &tid, &seq, &fields, &dropped, &lost) != 7 ||
	    strncmp(subject, "shmalloc.", 9) != 0)
		tally.wrong++;
	tally.lost += lost;
	if (natsMsgHeader_Get(m, "Nats-Msg-Id", &text) != NATS_OK)
		tally.wrong++;
	else if (strcmp(before, text) == 0)
		tally.id_twice++;
	else
		snprintf(before, sizeof before, "%s", text);
}

/* One record, or several, each with what the headers have else. */
static void note_message(natsMsg *m)
{
	const char *data = natsMsg_GetData(m), *text;
	size_t len = (size_t)natsMsg_GetDataLength(m);
	struct ship_packed head;
	unsigned long count;

	if (natsMsgHeader_Get(m, "Shmalloc-Records", &text) != NATS_OK) {
		note(data, len);
		return;
	}
	for (count = strtoul(text, NULL, 10); count && len >= sizeof head; count--) {
		memcpy(&head, data, sizeof head);
		data += sizeof head;
		len -= sizeof head;
		if (head.bytes > len)
			break;
		note(data, head.bytes);
		tally.lost += head.lost;
		head.bytes = (head.bytes + 7) & ~7u;
		data += head.bytes;
		len -= head.bytes;
	}
	if (count || len)
		tally.wrong++;
}

/* The next of the stream, in its order. What the library gives again, when it has made its consumer anew, is the same
 * message, by its sequence; what was stored twice has two. */
static natsMsg *next_message(natsSubscription *sub, uint64_t *sequence)
{
	jsMsgMetaData *meta;
	uint64_t found;
	natsMsg *m;

	for (;;) {
		must("message", natsSubscription_NextMsg(&m, sub, 10000));
		must("its sequence", natsMsg_GetMetaData(&meta, m));
		found = meta->Sequence.Stream;
		jsMsgMetaData_Destroy(meta);
		if (found > *sequence)
			break;
		natsMsg_Destroy(m);
	}
	*sequence = found;
	return m;
}

static int check(char **argv)
{
	jsErrCode code = 0;
	natsSubscription *sub;
	jsSubOptions so;
	uint64_t last, sequence = 0;
	natsMsg *m;

	tally.writers = (uint32_t)atoi(argv[2]);
	for (uint32_t w = 0; w < tally.writers; w++)
		tally.seen[w] = calloc(1, NUMBERS_MAX);
	connect_to(argv[0]);
	last = stream_info(argv[1])->State.Msgs;
	jsSubOptions_Init(&so);
	so.Stream = argv[1];
	so.Ordered = true;
	must("subscription", js_SubscribeSync(&sub, js, "shmalloc.>", NULL, &so, &code));
	for (uint64_t n = 0; n < last; n++) {
		m = next_message(sub, &sequence);
		note_message(m);
		note_headers(m, natsMsg_GetSubject(m));
		natsMsg_Destroy(m);
	}
	printf("messages=%llu records=%llu duplicates=%llu wrong=%llu lost=%llu disorder=%llu\n",
	       (unsigned long long)last, (unsigned long long)tally.records,
	       (unsigned long long)(tally.duplicates + tally.id_twice), (unsigned long long)tally.wrong,
	       (unsigned long long)tally.lost, (unsigned long long)tally.disorder);
	return 0;
}

/* Records of the same length: the last one of a message is at the same place from its end. */
static int last(char **argv)
{
	struct numbered c = { .number = UINT64_MAX };
	jsErrCode code = 0;
	uint64_t sequence;
	natsMsg *m = NULL;
	size_t len;

	connect_to(argv[0]);
	sequence = stream_info(argv[1])->State.LastSeq;
	if (sequence && js_GetMsg(&m, js, argv[1], sequence, NULL, &code) == NATS_OK) {
		len = (size_t)natsMsg_GetDataLength(m);
		memcpy(&c, natsMsg_GetData(m) + len - (size_t)atoi(argv[2]), sizeof c);
	}
	printf("%lld\n", (long long)c.number);
	return 0;
}

/* ---- the engine alone ---- */

static int bare(char **argv)
{
	uint64_t records = strtoull(argv[2], NULL, 10), began;
	size_t len = strtoul(argv[3], NULL, 10);
	char *data = calloc(1, len);
	const char *subjects[] = { "bare.x" };
	jsStreamConfig c;
	jsPubOptions po;
	jsErrCode code = 0;

	connect_to(argv[0]);
	jsStreamConfig_Init(&c);
	c.Name = argv[1];
	c.Subjects = subjects;
	c.SubjectsLen = 1;
	must("stream", js_AddStream(NULL, js, &c, NULL, &code));
	jsPubOptions_Init(&po);
	po.MaxWait = 60000;
	began = now_us();
	for (uint64_t n = 0; n < records; n++)
		must("publish", js_PublishAsync(js, subjects[0], data, (int)len, NULL));
	must("acknowledgements", js_PublishAsyncComplete(js, &po));
	printf("%.0f\n", (double)records * 1e6 / (double)(now_us() - began));
	must("delete", js_DeleteStream(js, argv[1], NULL, &code));
	return 0;
}

static int purge(char **argv)
{
	jsErrCode code = 0;

	connect_to(argv[0]);
	must("purge", js_PurgeStream(js, argv[1], NULL, &code));
	return 0;
}

/* The library's threads and memory end with the process, without a word of leaks. */
static void leave(int status)
{
	fflush(stdout);
	_exit(status);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int arguments;
		int (*run)(char **argv);
	} verbs[] = { { "write", 4, write_records }, { "load", 3, load }, { "end", 2, end }, { "last", 3, last },
		      { "leader", 2, leader },	     { "check", 3, check }, { "bare", 4, bare },
		      { "purge", 2, purge } };

	if (argc == 3 && strcmp(argv[1], "ports") == 0)
		return ports(atoi(argv[2]));
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		if (argc == verbs[i].arguments + 2 && strcmp(argv[1], verbs[i].name) == 0)
			leave(verbs[i].run(argv + 2));
	return 2;
}
