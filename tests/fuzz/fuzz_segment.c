/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_segment.c - segments of a log, as anybody may have left them. The first byte says what the rest is:
 *
 *   FILE_PLAIN, FILE_PACKED   a file as it stands, as .log or as .log.zst
 *   FRAGMENTS                 fragments behind a good header, given right checksums, so that nearly every
 *                             input gets behind those; what they say is the input's
 *   FRAGMENTS_PACKED          the same, compressed by the library, then a few bytes changed
 *
 * Promises: a scan ends within the file; cursors, as stored, by time, from any position that they gave, and
 * from one that nobody gave, come to an end within as many records as there can be, all of whose bytes are
 * there; what scans clean is compressed, and reads the same then.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "segment_inside.h"

enum form { FILE_PLAIN, FILE_PACKED, FRAGMENTS, FRAGMENTS_PACKED, FORMS };

static char dir[64];

/* ---- files ---- */

static void path_of(uint64_t number, bool packed, char path[128])
{
	char name[SEGMENT_FILE_BYTES];

	segment_file_name(name, number, packed);
	snprintf(path, 128, "%s/%s", dir, name);
}

static void remove_all(void)
{
	char path[128];

	for (int packed = 0; packed < 2; packed++) {
		path_of(1, packed, path);
		unlink(path);
	}
}

static void remove_dir(void)
{
	remove_all();
	rmdir(dir);
}

static void write_file(bool packed, const void *bytes, size_t len)
{
	char path[128];
	int fd;

	if (!dir[0]) {
		/* In memory: what is compressed is synced. */
		strcpy(dir, "/dev/shm/fuzz_segment.XXXXXX");
		FUZZ_PROMISE(mkdtemp(dir));
		atexit(remove_dir);
	}
	remove_all();
	path_of(1, packed, path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	FUZZ_PROMISE(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
	close(fd);
}

/* ---- promises ---- */

struct sum {
	uint64_t records, bytes, checks;
};

/* To the end of a cursor. */
static struct sum drain(const struct segment_query *q, unsigned flags,
			const struct segment_position *from, struct segment_position *at, uint64_t at_record)
{
	struct segment_cursor *c;
	struct segment_record r;
	struct segment_stats stats;
	struct sum sum = { 0 };
	int result = segment_cursor_open(&c, dir, q, flags, from);

	FUZZ_PROMISE(!result);
	while ((result = segment_cursor_next(c, &r)) == 1) {
		FUZZ_PROMISE(r.len <= SEGMENT_PAYLOAD_MAX && r.level >= 0 && r.level < 8);
		FUZZ_PROMISE(r.time_ns >= q->since_ns && (!q->until_ns || r.time_ns <= q->until_ns));
		sum.records++;
		sum.bytes += r.len;
		sum.checks += segment_crc(0, r.data, r.len);
		if (at && sum.records == at_record)
			*at = r.position;
		FUZZ_PROMISE(sum.records <= FUZZ_INPUT_MAX);
	}
	FUZZ_PROMISE(!result && segment_cursor_next(c, &r) == 0);
	segment_cursor_stats(c, &stats);
	FUZZ_PROMISE(stats.bytes_read < (UINT64_C(1) << 30));
	segment_cursor_close(c);
	return sum;
}

static void check_cursors(uint32_t chance)
{
	struct segment_query all = { 0 }, some = { .since_ns = chance % 1000, .until_ns = 2000 };
	struct segment_position at = { 0 }, none = { 1, chance % 3000, chance % 5, 0 };
	struct sum whole = drain(&all, 0, NULL, NULL, 0), rest;
	uint64_t record = whole.records ? chance % whole.records + 1 : 0;

	drain(&all, SEGMENT_BY_TIME, NULL, NULL, 0);
	drain(&some, SEGMENT_BY_TIME | SEGMENT_FOLLOW, NULL, NULL, 0);
	drain(&some, SEGMENT_FOLLOW, NULL, NULL, 0);
	drain(&all, SEGMENT_FOLLOW | SEGMENT_FROM_END, NULL, NULL, 0);
	drain(&all, 0, &none, NULL, 0);
	drain(&all, 0, NULL, &at, record);
	if (record) {
		rest = drain(&all, 0, &at, NULL, 0);
		FUZZ_PROMISE(rest.records <= whole.records - record);
	}
}

static int scan(struct segment_scan *ret)
{
	int r = segment_scan_number(dir, 1, 0, ret, NULL, NULL);

	FUZZ_PROMISE(r == 0 || r == -EUCLEAN || r == -ENOMEM);
	FUZZ_PROMISE(r || (ret->good <= ret->size && ret->torn == (ret->good != ret->size)));
	return r;
}

/* What is whole reads the same when it is compressed. */
static void check_packing(const struct segment_scan *before)
{
	struct segment_query all = { 0 };
	struct sum as_plain = drain(&all, 0, NULL, NULL, 0), as_packed;
	struct segment_scan after;
	int r = segment_compress(dir, 1);

	if (r) {
		FUZZ_PROMISE(r == -EUCLEAN || r == -EMSGSIZE);
		return;
	}
	FUZZ_PROMISE(!scan(&after) && after.closed && !after.torn && after.records == before->records);
	as_packed = drain(&all, 0, NULL, NULL, 0);
	FUZZ_PROMISE(!memcmp(&as_plain, &as_packed, sizeof(as_plain)));
}

/* ---- inputs ---- */

/* Only the last of its kind may be as long as it likes. */
static void complete(struct segment_fragment *f, size_t left)
{
	unsigned slots = 0;

	f->magic = SEGMENT_FRAGMENT_MAGIC;
	f->payload_bytes %= (uint32_t)(left < 600 ? left : 600) + 1;
	if (f->kind > SEGMENT_INDEX + 1)
		f->kind %= SEGMENT_KINDS;
	if (f->kind == SEGMENT_LOSS)
		f->payload_bytes = 0;
	if (f->kind == SEGMENT_OWN) {
		f->payload_bytes &= ~7u;
		f->from %= 65536 - f->payload_bytes;
		f->to = f->from + f->payload_bytes;
	}
	if (f->kind != SEGMENT_SHARED)
		return;
	f->from = SEGMENT_SLOTS;
	f->to = 0;
	for (unsigned i = 0; i < SEGMENT_SLOTS; i++) {
		if (!(f->slots[i / 64] >> i % 64 & 1))
			continue;
		f->from = f->from < i ? f->from : i;
		f->to = i + 1;
		slots++;
	}
	f->to = slots ? f->to : f->from;
	f->records = slots;
}

/* Headers and payloads one behind another, with checksums that are right. */
static size_t make_fragments(unsigned char *bytes, size_t len)
{
	static const struct segment_ring ring = { .name = "fuzz", .block_bytes = 65536, .blocks = 16 };
	struct segment_header h;
	struct segment_fragment f;
	size_t at = sizeof(h);

	segment_header_make(&h, &ring, 1, 1);
	memcpy(bytes, &h, sizeof(h));
	while (len - at >= sizeof(f)) {
		memcpy(&f, bytes + at, sizeof(f));
		complete(&f, len - at - sizeof(f));
		f.payload_crc = segment_crc(0, bytes + at + sizeof(f), f.payload_bytes);
		f.crc = segment_crc(0, &f, offsetof(struct segment_fragment, crc));
		memcpy(bytes + at, &f, sizeof(f));
		at += segment_fragment_bytes(&f);
		if (at > len)
			break;
	}
	return len;
}

/* The library's own compressed file, with a few bytes changed as the input's first say. */
static void change_packed(const uint8_t *data)
{
	char path[128];
	off_t size;
	int fd;

	path_of(1, true, path);
	fd = open(path, O_RDWR);
	FUZZ_PROMISE(fd >= 0);
	size = lseek(fd, 0, SEEK_END);
	for (int i = 0; i < 3; i++) {
		off_t at = size - 1 - (data[i * 2] | data[i * 2 + 1] << 8) % size;
		uint8_t byte = (uint8_t)(data[i * 2] + i);

		FUZZ_PROMISE(pwrite(fd, &byte, 1, at) == 1);
	}
	close(fd);
}

static void fuzz_fragments(const uint8_t *data, size_t size, bool packed)
{
	static unsigned char bytes[sizeof(struct segment_header) + FUZZ_INPUT_MAX];
	struct segment_scan before;

	memcpy(bytes + sizeof(struct segment_header), data, size);
	size = make_fragments(bytes, size + sizeof(struct segment_header));
	write_file(false, bytes, size);
	FUZZ_PROMISE(!scan(&before));
	check_cursors(segment_crc(0, bytes, size));
	if (!packed) {
		check_packing(&before);
	} else if (size > sizeof(struct segment_header) + 6 && !segment_compress(dir, 1)) {
		change_packed(data);
		scan(&before);
		check_cursors(segment_crc(0, bytes, size));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct segment_scan got;
	enum form form;

	if (!size || size > FUZZ_INPUT_MAX)
		return 0;
	form = data[0] % FORMS;
	if (form == FRAGMENTS || form == FRAGMENTS_PACKED) {
		fuzz_fragments(data + 1, size - 1, form == FRAGMENTS_PACKED);
		return 0;
	}
	write_file(form == FILE_PACKED, data + 1, size - 1);
	if (!scan(&got) && !got.torn)
		check_packing(&got);
	else
		check_cursors(segment_crc(0, data, size));
	return 0;
}

/* ---- inputs to begin with ---- */

struct seed {
	unsigned char bytes[FUZZ_INPUT_MAX];
	size_t len;
	struct segment_index index;
};

static void add(struct seed *s, struct segment_fragment *f, const void *payload, size_t len)
{
	struct iovec part = { (void *)payload, len };

	FUZZ_PROMISE(!segment_fragment_make(f, &part, 1));
	if (f->kind != SEGMENT_INDEX)
		FUZZ_PROMISE(!segment_index_add(&s->index, f, s->len));
	memcpy(s->bytes + s->len, f, sizeof(*f));
	memcpy(s->bytes + s->len + sizeof(*f), payload, len);
	s->len += segment_fragment_bytes(f);
}

static size_t put(unsigned char *to, bool shared, bool large, uint64_t time)
{
	struct segment_entry entry = { .info = 11 | 6u << SEGMENT_INFO_LEVEL_SHIFT, .time = time, .seq = time };
	size_t before = shared ? sizeof(struct segment_author) : 0;

	entry.info |= large ? SEGMENT_INFO_LARGE : 0;
	memset(to, 0, 64);
	memcpy(to + before, &entry, sizeof(entry));
	memcpy(to + before + sizeof(entry), "some record", 11);
	return shared ? segment_shared_bytes(entry.info) : segment_own_bytes(entry.info);
}

/* Own blocks, one of them twice, a large record, a shared block, a loss, the index. */
static void make_seed(struct seed *s)
{
	static const struct segment_ring ring = { .name = "fuzz", .block_bytes = 65536, .blocks = 16 };
	struct segment_fragment own = { .kind = SEGMENT_OWN, .block = 1, .lap = 1 }, twice = own;
	struct segment_fragment large = { .kind = SEGMENT_LARGE, .block = 2, .lap = 1, .from = 40 };
	struct segment_fragment shared = { .kind = SEGMENT_SHARED, .block = 3, .lap = 1, .slots = { 5 } };
	struct segment_fragment loss = { .kind = SEGMENT_LOSS, .lost = 3, .time_max = 900 }, end;
	unsigned char payload[256];
	struct segment_header h;
	const void *runs;
	size_t len;

	memset(s, 0, sizeof(*s));
	segment_index_init(&s->index);
	segment_header_make(&h, &ring, 1, 1);
	memcpy(s->bytes, &h, sizeof(h));
	s->len = sizeof(h);
	len = put(payload, false, false, 500);
	len += put(payload + len, false, false, 700);
	add(s, &own, payload, len);
	len += put(payload + len, false, false, 900);
	add(s, &twice, payload, len);
	len = put(payload, false, false, 600);
	len += put(payload + len, false, true, 601);
	add(s, &large, "some record", 11);
	own.block = 2;
	add(s, &own, payload, len);
	len = put(payload, true, false, 650);
	len += put(payload + len, true, false, 640);
	add(s, &shared, payload, len);
	add(s, &loss, "", 0);
	FUZZ_PROMISE(!segment_index_fragment(&s->index, s->len, &end, &runs));
	add(s, &end, runs, end.payload_bytes);
	segment_index_free(&s->index);
}

static size_t packed_seed(const struct seed *s, uint8_t *bytes)
{
	char path[128];
	ssize_t n;
	int fd;

	write_file(false, s->bytes, s->len);
	FUZZ_PROMISE(!segment_compress(dir, 1));
	path_of(1, true, path);
	fd = open(path, O_RDONLY);
	n = read(fd, bytes, FUZZ_INPUT_MAX - 1);
	close(fd);
	FUZZ_PROMISE(n > 0);
	return (size_t)n;
}

size_t fuzz_seed(unsigned i, uint8_t *bytes)
{
	const size_t skip = sizeof(struct segment_header);
	static struct seed s;

	if (i >= FORMS)
		return 0;
	make_seed(&s);
	bytes[0] = (uint8_t)i;
	if (i == FILE_PACKED)
		return 1 + packed_seed(&s, bytes + 1);
	if (i == FILE_PLAIN) {
		memcpy(bytes + 1, s.bytes, s.len);
		return 1 + s.len;
	}
	memcpy(bytes + 1, s.bytes + skip, s.len - skip);
	return 1 + s.len - skip;
}
