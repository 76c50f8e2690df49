/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_snapshot.c - snapshots of an arena, as anybody may have left them. An input is a list of changes to one that was
 * taken of an arena with something of everything:
 *
 *   u8 how (of CHANGES) | u8 bytes 1..8 of a value | u32 where | the value
 *
 * Most are made before blocks are packed, so that all sums are right and what they say is the input's; the last two to the
 * file as it stands. Promises: it is refused in words, or restored; what is not restored leaves nothing behind; what is
 * restored passes the check, its objects can be read and freed, and it gives out memory.
 */
#include <zstd.h>

#include "fuzz.h"
#include "heap.h"
#include "segment.h"
#include "snapshot.h"

enum change { CHANGE_SET, CHANGE_XOR, CHANGE_HEAD, CHANGE_DROP, CHANGE_TWICE, CHANGE_SWAP, CHANGE_RAW, CHANGE_CUT, CHANGES };

#define BLOCKS_MAX  256u
#define POOL_BYTES  MIB(8)
#define OBJECTS	    24u
#define LOG_RECORDS 40u

struct piece {
	struct snapshot_block head;
	uint32_t bytes; /* in plain; what the head says may differ */
	const unsigned char *plain;
	const unsigned char *packed; /* NULL: the contents were changed */
};

struct draft {
	struct piece pieces[BLOCKS_MAX];
	uint32_t count;
	size_t cut; /* as much of the file is kept */
};

static struct {
	char name[64], path[128];
	struct snapshot_header header;
	struct draft sound;
	uint64_t plain; /* bytes of all its contents */
	shma_handle handles[OBJECTS];
	unsigned char *file; /* one with changes */
	size_t room, length;
	unsigned char *pool; /* changed contents of one draft */
	size_t pool_used;
} stage;

/* ---- taking a sound one ---- */

static int keep_piece(void *context, const struct snapshot_block *b, const unsigned char *plain)
{
	struct piece *p = &stage.sound.pieces[stage.sound.count++];
	unsigned char *copy = malloc(b->plain), *packed = malloc(ZSTD_compressBound(b->plain));

	(void)context;
	FUZZ_PROMISE(stage.sound.count < BLOCKS_MAX && copy && packed);
	memcpy(copy, plain, b->plain);
	p->head = *b;
	p->head.packed = (uint32_t)ZSTD_compress(packed, ZSTD_compressBound(b->plain), plain, b->plain, 1);
	p->bytes = b->plain;
	p->plain = copy;
	p->packed = packed;
	stage.plain += b->plain;
	return 0;
}

/* Persistent and published objects, small ones, and large ones packed, and a log. */
static void fill_arena(shma *s)
{
	for (uint32_t i = 0; i < OBJECTS; i++) {
		size_t size = i % 4 ? 16 + 150 * (size_t)i : 5000 * (size_t)(i + 1);
		shma_handle h = shma_alloc(s, size, i % 3 ? SHMA_PERSIST : 0);
		char name[16];

		FUZZ_PROMISE(h);
		memset(shma_ptr(s, h), (int)i, size);
		if (i % 4 == 0)
			h = shma_pack(s, h, i % 8 ? 0 : 3);
		snprintf(name, sizeof(name), "name-%u", i);
		if (i % 3 == 0)
			FUZZ_PROMISE(!shma_publish(s, name, h));
		stage.handles[i] = h;
	}
	for (uint32_t i = 0; i < LOG_RECORDS; i++)
		FUZZ_PROMISE(!shma_log(s, 6, "record %u of many", i));
}

static void remove_files(void)
{
	arena_unlink(stage.path);
}

static void take(void)
{
	struct shma_options opt = {.struct_size = sizeof(opt), .capacity = CAPACITY_MIN, .log_capacity = 131072};
	int fd = memfd_create("snapshot", MFD_CLOEXEC);
	struct snapshot_seen seen;
	struct snapshot_sum sum;
	shma *s;

	snprintf(stage.name, sizeof(stage.name), "fuzz-snapshot-%d", (int)getpid());
	FUZZ_PROMISE(!arena_path(stage.path, sizeof(stage.path), stage.name));
	FUZZ_PROMISE(!shma_open(&s, stage.name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &opt));
	atexit(remove_files);
	fill_arena(s);
	FUZZ_PROMISE(!snapshot_write(&s->arena, fd, 1, &sum) && sum.dropped == 0);
	FUZZ_PROMISE(!shma_close(s));
	remove_files();
	FUZZ_PROMISE(lseek(fd, 0, SEEK_SET) == 0 && !snapshot_walk(fd, &seen, keep_piece, NULL));
	close(fd);
	stage.header = seen.header;
	stage.room = 2 * stage.plain + MIB(1);
	stage.file = malloc(stage.room);
	stage.pool = malloc(POOL_BYTES);
	FUZZ_PROMISE(stage.file && stage.pool);
}

/* ---- changing it ---- */

/* The contents of a piece, to be changed; NULL: too many were. */
static unsigned char *own_contents(struct piece *p)
{
	unsigned char *copy = stage.pool + stage.pool_used;

	if (POOL_BYTES - stage.pool_used < p->bytes)
		return NULL;
	stage.pool_used += p->bytes;
	memcpy(copy, p->plain, p->bytes);
	p->plain = copy;
	p->packed = NULL;
	return copy;
}

/* "where" counts over the contents of all blocks. */
static void change_contents(struct draft *d, uint64_t where, const uint8_t *value, size_t n, bool flip)
{
	unsigned char *to = NULL;
	struct piece *p = d->pieces;

	for (where %= stage.plain; p < d->pieces + d->count && where >= p->bytes; p++)
		where -= p->bytes;
	if (p < d->pieces + d->count)
		to = own_contents(p);
	for (size_t i = 0; to && i < n && where + i < p->bytes; i++)
		to[where + i] = flip ? to[where + i] ^ value[i] : value[i];
}

static void change_head(struct snapshot_block *b, uint32_t field, uint64_t value)
{
	switch (field % 3) {
	case 0: b->kind = (uint32_t)value; break;
	case 1: b->offset = value; break;
	default: b->plain = (uint32_t)value; break;
	}
}

static void change_order(struct draft *d, enum change how, uint32_t i)
{
	struct piece p = d->pieces[i];
	size_t behind = (d->count - i - 1) * sizeof(p);

	if (how == CHANGE_DROP) {
		memmove(&d->pieces[i], &d->pieces[i + 1], behind);
		d->count--;
	} else if (how == CHANGE_TWICE && d->count < BLOCKS_MAX) {
		memmove(&d->pieces[i + 2], &d->pieces[i + 1], behind);
		d->pieces[i + 1] = p;
		d->count++;
	} else if (how == CHANGE_SWAP && i + 1 < d->count) {
		d->pieces[i] = d->pieces[i + 1];
		d->pieces[i + 1] = p;
	}
}

static void change_draft(struct draft *d, enum change how, uint32_t where, const uint8_t *value, size_t n)
{
	uint64_t number = 0;

	memcpy(&number, value, n);
	if (!d->count)
		return;
	switch (how) {
	case CHANGE_SET:
	case CHANGE_XOR: change_contents(d, where, value, n, how == CHANGE_XOR); break;
	case CHANGE_HEAD: change_head(&d->pieces[where % d->count].head, where / d->count, number); break;
	case CHANGE_CUT: d->cut = number % (stage.room + 1); break;
	case CHANGE_RAW: break;
	default: change_order(d, how, where % d->count);
	}
}

static void change_file(const uint8_t *value, size_t n, uint32_t where)
{
	for (size_t i = 0; i < n; i++)
		stage.file[(where + i) % stage.length] ^= value[i];
}

/* Those before packing, or those after. */
static void change_all(const uint8_t *data, size_t size, struct draft *d)
{
	while (size >= 7) {
		size_t n = 1 + data[1] % 8;
		enum change how = data[0] % CHANGES;
		uint32_t where;

		if (6 + n > size)
			return;
		memcpy(&where, data + 2, sizeof(where));
		if (d)
			change_draft(d, how, where, data + 6, n);
		else if (how == CHANGE_RAW)
			change_file(data + 6, n, where);
		data += 6 + n;
		size -= 6 + n;
	}
}

/* ---- writing it ---- */

/* False: no more room. */
static bool write_piece(const struct piece *p, uint32_t *crc)
{
	struct snapshot_block b = p->head;
	unsigned char *to = stage.file + stage.length;
	size_t left = stage.room - stage.length;

	if (left < 2 * sizeof(b) + ZSTD_compressBound(p->bytes))
		return false;
	if (p->packed)
		memcpy(to + sizeof(b), p->packed, b.packed);
	else
		b.packed = (uint32_t)ZSTD_compress(to + sizeof(b), left - sizeof(b), p->plain, p->bytes, 1);
	FUZZ_PROMISE(!ZSTD_isError(b.packed));
	b.crc = segment_crc(0, to + sizeof(b), b.packed);
	b.head_crc = segment_crc(0, &b, offsetof(struct snapshot_block, head_crc));
	memcpy(to, &b, sizeof(b));
	*crc = segment_crc(*crc, to, sizeof(b) + b.packed);
	stage.length += sizeof(b) + b.packed;
	return true;
}

static void write_draft(const struct draft *d)
{
	struct snapshot_block end = {.magic = SNAPSHOT_BLOCK_MAGIC, .kind = SNAPSHOT_END};
	uint32_t crc = segment_crc(0, &stage.header, sizeof(stage.header));

	memcpy(stage.file, &stage.header, sizeof(stage.header));
	stage.length = sizeof(stage.header);
	while (end.offset < d->count && write_piece(&d->pieces[end.offset], &crc))
		end.offset++;
	end.plain = crc;
	end.head_crc = segment_crc(0, &end, offsetof(struct snapshot_block, head_crc));
	memcpy(stage.file + stage.length, &end, sizeof(end));
	stage.length += sizeof(end);
}

/* ---- promises ---- */

static void judge_objects(shma *s)
{
	static char bytes[200000];

	for (uint32_t i = 0; i < OBJECTS; i++) {
		ssize_t n = shma_read(s, stage.handles[i], 0, bytes, sizeof(bytes));
		shma_handle h = shma_unpack(s, stage.handles[i]);

		FUZZ_PROMISE(n <= (ssize_t)sizeof(bytes));
		FUZZ_PROMISE(shma_free(s, h ? h : stage.handles[i]) <= 0);
	}
}

static void judge_arena(void)
{
	shma_handle h;
	shma *s;

	FUZZ_PROMISE(audit_file(stage.path, false, heap_print_finding, NULL) == 0);
	FUZZ_PROMISE(!shma_open(&s, stage.name, SHMA_EMBEDDED, NULL));
	judge_objects(s);
	h = shma_alloc(s, 1000, 0);
	FUZZ_PROMISE(!h || !shma_free(s, h));
	FUZZ_PROMISE(heap_findings(&s->arena) == 0);
	FUZZ_PROMISE(!shma_close(s));
	remove_files();
}

static void judge(int fd)
{
	struct snapshot_target to = {.path = stage.path, .name = stage.name, .mode = 0600, .backing = BACKING_POSIX};
	struct snapshot_seen seen;
	int checked = snapshot_check(fd, &seen), r;

	FUZZ_PROMISE(checked <= 0 && (checked != -EUCLEAN || seen.what));
	FUZZ_PROMISE(lseek(fd, 0, SEEK_SET) == 0);
	r = snapshot_restore(fd, &to, &seen);
	FUZZ_PROMISE(!checked || r);
	if (r)
		FUZZ_PROMISE(access(stage.path, F_OK) < 0);
	else
		judge_arena();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct draft draft;
	int fd = memfd_create("changed", MFD_CLOEXEC);

	if (!stage.file)
		take();
	draft = stage.sound;
	draft.cut = stage.room;
	stage.pool_used = 0;
	change_all(data, size, &draft);
	write_draft(&draft);
	change_all(data, size, NULL);
	stage.length = draft.cut < stage.length ? draft.cut : stage.length;
	FUZZ_PROMISE(fd >= 0 && write(fd, stage.file, stage.length) == (ssize_t)stage.length);
	FUZZ_PROMISE(lseek(fd, 0, SEEK_SET) == 0);
	judge(fd);
	close(fd);
	return 0;
}

/* ---- inputs to begin with ---- */

static size_t put(uint8_t *bytes, enum change how, uint32_t where, uint64_t value)
{
	bytes[0] = (uint8_t)how;
	bytes[1] = 7;
	memcpy(bytes + 2, &where, sizeof(where));
	memcpy(bytes + 6, &value, sizeof(value));
	return 14;
}

/* None; then each kind of change at places all over. */
size_t fuzz_seed(unsigned i, uint8_t *bytes)
{
	if (i == 0) {
		bytes[0] = 0;
		return 1;
	}
	i--;
	if (i >= CHANGES * 12)
		return 0;
	return put(bytes, (enum change)(i % CHANGES), i / CHANGES * UINT32_C(7919) * (i % CHANGES < 2 ? 8 : 1),
		   i % 2 ? UINT64_C(0x123456789abcdef) * i : i);
}
