/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_records.c - makes segments, and shows the records of any, for the scripts segment_*.sh:
 *
 *   segment_records make DIR SEED     segments of every kind, by the library's writing half
 *   segment_records show PATH…        their records by the library's cursor, as shmalog.py --raw shows
 *                                     them; on stderr how many were lost
 *   segment_records time PATH…        the same by time; fails if one is earlier than the one before by a second
 *   segment_records follow DIR STOP   the same of a log that grows, until there is a file STOP and no more comes
 *   segment_records hop DIR STOP      likewise, by a new cursor for every few records, from the last position
 */
#define STAGE_ALONE
#include <errno.h>

#include "../unit/segment_stage.h"

#include "../seed.h"

static uint64_t stamp = UINT64_C(1700000000000000000);

/* ---- making ---- */

static size_t chance(size_t n)
{
	return (size_t)random() % n;
}

static const char *text(size_t *len)
{
	static char bytes[3000];

	*len = chance(10) ? chance(90) : chance(sizeof(bytes));
	for (size_t i = 0; i < *len; i++)
		bytes[i] = (char)random();
	return bytes;
}

/* A structured payload of a text and a value of each type. */
static void put_structured(struct stage_payload *p)
{
	static const unsigned char bytes[] = "\4\0\0\0\6\0\0\0text"
					     "\1\1\0\0\3\0\0\0sabc"
					     "\2\1\0\0\10\0\0\0i\376\377\377\377\377\377\377\377"
					     "\3\1\0\0\10\0\0\0u\1\0\0\0\0\0\0\200"
					     "\4\1\0\0\10\0\0\0d\0\0\0\0\0\0\370\77"
					     "\5\1\0\0\1\0\0\0b\1"
					     "\6\1\0\0\2\0\0\0x\0\377";
	size_t at = p->len;

	stage_record(p, NULL, 6, ++stamp, 77, bytes, sizeof(bytes) - 1);
	((struct segment_entry *)(void *)(p->data + at))->info |= SEGMENT_INFO_FIELDS;
}

static uint64_t make_own(struct stage *s, uint32_t block, uint32_t lap, struct stage_payload *p, uint32_t from)
{
	struct segment_fragment f = { .kind = SEGMENT_OWN,
				      .block = block,
				      .lap = lap,
				      .from = from,
				      .real_offset = chance(3) ? 1000 : (uint64_t)-1000,
				      .lost = chance(4) ? 0 : chance(100),
				      .pid = 1 + (int)block,
				      .tid = -5 };

	return stage_fragment(s, &f, p->data, p->len);
}

/* As one that was changed while it was written. */
static void spoil(struct stage *s, uint64_t offset)
{
	s->bytes.data[offset + sizeof(struct segment_fragment) + 16] ^= 1;
}

static void make_fragment(struct stage *s, uint32_t block, uint32_t lap, bool spoilt)
{
	uint32_t from = (uint32_t)chance(1000) * 8;
	struct stage_payload p = { 0 };
	size_t count = 1 + chance(20), len;
	uint64_t offset;

	for (size_t i = 0; i < count; i++) {
		const char *bytes = text(&len);

		if (chance(15) == 0) {
			stage_large(s, block, lap, from + (uint32_t)p.len, ++stamp, bytes, len);
			stage_record(&p, NULL, 5, stamp, i, NULL, len);
		} else if (chance(10) == 0) {
			put_structured(&p);
		} else {
			stage_record(&p, NULL, (int)chance(8), ++stamp, i, bytes, len);
		}
	}
	offset = make_own(s, block, lap, &p, from);
	if (spoilt)
		spoil(s, offset);
	/* A part of it once more, and something new. */
	if (chance(4) == 0) {
		struct segment_entry *first = (void *)p.data;
		size_t skip = segment_own_bytes(first->info);

		if (first->info & SEGMENT_INFO_LARGE)
			skip = 0;
		memmove(p.data, p.data + skip, p.len - skip);
		p.len -= skip;
		stage_record(&p, NULL, 1, ++stamp, count, "new", 3);
		if (skip)
			make_own(s, block, lap, &p, from + (uint32_t)skip);
	}
	free(p.data);
}

static void make_shared(struct stage *s, uint32_t block, uint32_t lap, bool spoilt)
{
	struct segment_fragment f = { .kind = SEGMENT_SHARED, .block = block, .lap = lap };
	struct stage_payload p = { 0 };
	size_t len;

	for (uint32_t slot = (uint32_t)chance(9); slot < 256; slot += 1 + (uint32_t)chance(60)) {
		struct segment_author author = { .pid = (int)slot, .tid = 9 };
		const char *bytes = text(&len);

		stage_record(&p, &author, 2, ++stamp, slot, bytes, len);
		f.slots[slot / 64] |= UINT64_C(1) << slot % 64;
	}
	stage_fragment(s, &f, p.data, p.len);
	if (spoilt)
		spoil(s, stage_fragment(s, &f, p.data, p.len));
	else
		stage_fragment(s, &f, p.data, p.len);
	p.len = 0;
	for (unsigned i = 0; i < 3; i++)
		f.slots[i] = 0;
	f.slots[3] = 1;
	f.lap++;
	stage_record(&p, &(struct segment_author){ 1, 2 }, 2, ++stamp, 1, "x", 1);
	f.records = 0;
	if (spoilt)
		spoil(s, stage_fragment(s, &f, p.data, p.len));
	free(p.data);
}

static void make_loss(struct stage *s)
{
	struct segment_fragment f = { .kind = SEGMENT_LOSS, .lost = 3, .time_min = stamp, .time_max = stamp };

	stage_fragment(s, &f, NULL, 0);
}

static void make_segment(const struct stage_dir *d, uint64_t number)
{
	struct stage s;
	size_t torn = number % 4 == 3 ? 1 + chance(300) : 0;

	stage_open(&s, number);
	for (uint32_t i = 0; i < 60; i++) {
		make_fragment(&s, i, (uint32_t)number, i % 11 == number);
		if (i % 20 == 7)
			make_shared(&s, 60 + i % 3, (uint32_t)(number * 10 + i), number % 3 == 0);
		if (i % 30 == 9)
			make_loss(&s);
	}
	if (!torn)
		stage_end(&s);
	stage_write_some(&s, d, s.bytes.len - torn);
	stage_close(&s);
	if (number % 2)
		ck_assert_int_eq(segment_compress(d->path, number), 0);
}

static int make(const char *path, unsigned seed)
{
	struct stage_dir d;

	snprintf(d.path, sizeof(d.path), "%s", path);
	srandom(seed);
	for (uint64_t number = 1; number <= 8; number++)
		make_segment(&d, number);
	return 0;
}

/* ---- showing ---- */

static void show(const struct segment_record *r)
{
	const unsigned char *data = r->data;

	printf("%lu %d %d %d %lu %u %lu %d %u %u %u ", (unsigned long)r->time_ns, r->level, r->pid, r->tid,
	       (unsigned long)r->seq, r->dropped, (unsigned long)r->lost, r->fields, r->key.block,
	       r->key.lap, r->key.at);
	for (size_t i = 0; i < r->len; i++)
		printf("%02x", data[i]);
	putchar('\n');
}

static int show_all(const char *path, unsigned flags)
{
	struct segment_cursor *c;
	struct segment_record r;
	uint64_t last = 0, lost = 0;
	int result = segment_cursor_open(&c, path, NULL, flags, NULL);

	if (result)
		return result;
	while ((result = segment_cursor_next(c, &r)) == 1) {
		show(&r);
		lost += r.lost;
		if (flags & SEGMENT_BY_TIME && r.time_ns + 1000000000 < last)
			return -ERANGE;
		last = r.time_ns;
	}
	/* Those told with records, and those after the last. */
	fprintf(stderr, "lost=%lu\n", (unsigned long)(lost + r.lost));
	segment_cursor_close(c);
	return result;
}

/* Some records from a position on, and where they end: how many, -errno. */
static int show_some(const char *dir, struct segment_position *at, int most)
{
	struct segment_cursor *c;
	struct segment_record r;
	int result = segment_cursor_open(&c, dir, NULL, SEGMENT_FOLLOW, at->number ? at : NULL), n = 0;

	if (result)
		return result == -ENOENT ? 0 : result;
	while (n < most && (result = segment_cursor_next(c, &r)) == 1) {
		show(&r);
		*at = r.position;
		n++;
	}
	segment_cursor_close(c);
	return result < 0 ? result : n;
}

static int hop(const char *dir, const char *stop)
{
	struct segment_position at = { 0 };
	bool last = false;

	for (;;) {
		int n = show_some(dir, &at, 1 + (int)chance(2000));

		if (n < 0 || (!n && last))
			return n;
		/* What was written before there was the file has come when none has come since. */
		last = !n && !access(stop, F_OK);
		if (!n)
			usleep(2000);
	}
}

static int follow(const char *dir, const char *stop)
{
	struct segment_cursor *c;
	struct segment_record r;
	bool last = false;
	int n;

	while ((n = segment_cursor_open(&c, dir, NULL, SEGMENT_FOLLOW, NULL)) == -ENOENT)
		usleep(2000);
	if (n)
		return n;
	for (;;) {
		n = segment_cursor_next(c, &r);
		if (n == 1) {
			show(&r);
			last = false;
			continue;
		}
		if (n < 0 || last)
			break;
		last = !access(stop, F_OK);
		usleep(2000);
	}
	segment_cursor_close(c);
	return n;
}

int main(int argc, char **argv)
{
	unsigned flags = SEGMENT_AS_STORED;
	int r = 0;

	if (argc == 4 && !strcmp(argv[1], "make"))
		return make(argv[2], (unsigned)strtoul(argv[3], NULL, 0));
	if (argc == 4 && !strcmp(argv[1], "hop")) {
		r = hop(argv[2], argv[3]);
	} else if (argc == 4 && !strcmp(argv[1], "follow")) {
		r = follow(argv[2], argv[3]);
	} else if (argc > 2 && (!strcmp(argv[1], "show") || !strcmp(argv[1], "time"))) {
		flags = argv[1][0] == 't' ? SEGMENT_BY_TIME : SEGMENT_AS_STORED;
		for (int i = 2; i < argc && !r; i++)
			r = show_all(argv[i], flags);
	} else {
		return 2;
	}
	if (r)
		fprintf(stderr, "segment_records: %s\n", strerror(-r));
	return r != 0;
}
