/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records on their way to the disk, for the scripts daemon_drain*.sh:
 *
 *   write ARENA WRITERS STOP-FILE LONGEST [RECORDS]   processes that log until the file is there, or so many each
 *   check DIRECTORY WRITERS [FIRST]   reads all segments, byte by byte: which records are there, and how often.
 *                     FIRST: of each writer's records those before the first one found may be missing
 *
 * A record says who wrote it, its number, and has bytes that follow from these.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "../seed.h"
#include "numbered.h"
#include "segment.h"
#include "shmalloc.h"

#define WRITERS_MAX 64
#define NUMBERS_MAX (UINT64_C(1) << 24) /* of one writer */
#define LARGE_EVERY 400
#define LARGE_BYTES 70000u

static void die(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, err < 0 ? strerror(-err) : "");
	exit(1);
}

/* ---- writing ---- */

struct board {
	_Atomic int stop;
	_Atomic uint64_t written[WRITERS_MAX];
};

/* As a program that has other things to do now and then. */
static void rest(uint64_t number)
{
	struct timespec t = { .tv_nsec = number % 7 ? 200000 : 3000000 };

	if (number % 64 == 0)
		nanosleep(&t, NULL);
}

static int be_writer(const char *arena, uint32_t writer, size_t longest, uint64_t records,
		     struct board *board)
{
	char *data = malloc(LARGE_BYTES + longest);
	shma *a;
	int err, tries = 0;

	/* The daemon may be killed just now. */
	while ((err = shma_open(&a, arena, 0, NULL)) && tries++ < 1000)
		usleep(20000);
	if (err)
		die("open", err);
	srandom((unsigned)test_seed_silent() + writer);
	for (uint64_t n = 0; !board->stop && n < records; n++) {
		size_t len = sizeof(struct numbered) + (size_t)random() % longest;

		if (n % LARGE_EVERY == LARGE_EVERY - 1)
			len = LARGE_BYTES;
		numbered_make(data, len, writer, n);
		err = shma_log_write(a, (int)(n % 8), data, len);
		if (err)
			die("log", err);
		board->written[writer] = n + 1;
		rest(n);
	}
	shma_close(a);
	return 0;
}

static int write_records(int argc, char **argv)
{
	uint32_t writers = (uint32_t)atoi(argv[1]), left = writers;
	uint64_t records = argc > 4 ? strtoull(argv[4], NULL, 0) : NUMBERS_MAX - 1, total = 0;
	struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, bad = 0;

	if (board == MAP_FAILED || writers > WRITERS_MAX)
		die("board", -ENOMEM);
	for (uint32_t w = 0; w < writers; w++)
		if (fork() == 0)
			_exit(be_writer(argv[0], w, (size_t)atoi(argv[3]), records, board));
	while (left) {
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid > 0) {
			left--;
			bad |= status;
			continue;
		}
		if (access(argv[2], F_OK) == 0)
			board->stop = 1;
		usleep(5000);
	}
	for (uint32_t w = 0; w < writers; w++)
		total += board->written[w];
	printf("written=%llu\n", (unsigned long long)total);
	return bad != 0;
}

/* ---- checking ---- */

static struct tally {
	unsigned char *seen[WRITERS_MAX];
	uint64_t end[WRITERS_MAX]; /* the last number seen, + 1 */
	uint32_t writers;
	uint64_t records, duplicates, lost, spoilt, fragments, large, torn, wrong;
	char *large_data[512]; /* of the group */
	uint32_t large_at[512], large_len[512], larges;
} tally;

static void note_record(const char *data, size_t len)
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
	if (tally.end[c.writer] < c.number + 1)
		tally.end[c.writer] = c.number + 1;
}

static void note_large(uint32_t at)
{
	for (uint32_t i = 0; i < tally.larges; i++)
		if (tally.large_at[i] == at) {
			note_record(tally.large_data[i], tally.large_len[i]);
			tally.large++;
			return;
		}
	tally.wrong++;
}

static uint32_t slot_number(const struct segment_fragment *f, uint32_t n)
{
	for (uint32_t slot = 0; slot < SEGMENT_SLOTS; slot++)
		if (f->slots[slot / 64] >> slot % 64 & 1 && !n--)
			return slot;
	return UINT32_MAX;
}

static void note_records(const struct segment_fragment *f, const char *payload)
{
	bool shared = f->kind == SEGMENT_SHARED;
	uint32_t author = shared ? sizeof(struct segment_author) : 0, at = 0;

	for (uint32_t n = 0; n < f->records; n++) {
		struct segment_entry e;

		memcpy(&e, payload + at + author, sizeof e);
		if (e.info & SEGMENT_INFO_LARGE)
			note_large(shared ? slot_number(f, n) : f->from + at);
		else
			note_record(payload + at + author + sizeof e, segment_info_inline(e.info));
		at += shared ? segment_shared_bytes(e.info) : segment_own_bytes(e.info);
	}
}

static void keep_large(const struct segment_fragment *f, char *payload)
{
	if (tally.larges == 512)
		die("a group is too large", 0);
	tally.large_data[tally.larges] = payload;
	tally.large_at[tally.larges] = f->from;
	tally.large_len[tally.larges++] = f->payload_bytes;
}

static void forget_large(void)
{
	while (tally.larges)
		free(tally.large_data[--tally.larges]);
}

static int take_fragment(void *user, const struct segment_header *h, const struct segment_fragment *f,
			 uint64_t offset)
{
	char *payload = malloc(f->payload_bytes + 1);

	(void)h;
	tally.fragments++;
	if (!payload || pread(*(int *)user, payload, f->payload_bytes, (off_t)(offset + sizeof *f)) !=
				(ssize_t)f->payload_bytes)
		die("read", -EIO);
	tally.lost += f->kind == SEGMENT_INDEX ? 0 : f->lost;
	if (f->kind == SEGMENT_LARGE) {
		keep_large(f, payload);
		return 0;
	}
	if (f->kind == SEGMENT_OWN || f->kind == SEGMENT_SHARED)
		note_records(f, payload);
	free(payload);
	forget_large();
	return 0;
}

/* The plain segment, in a file without a name. */
static int unpack(const char *path)
{
	FILE *in = fopen(path, "re"), *out = tmpfile();
	ZSTD_DStream *z = ZSTD_createDStream();
	static char from[65536], to[262144];
	size_t n;

	if (!in || !out || !z)
		die(path, -errno);
	while ((n = fread(from, 1, sizeof from, in)) > 0) {
		ZSTD_inBuffer i = { from, n, 0 };

		while (i.pos < i.size) {
			ZSTD_outBuffer o = { to, sizeof to, 0 };

			if (ZSTD_isError(ZSTD_decompressStream(z, &o, &i)))
				die("unpack", -EIO);
			fwrite(to, 1, o.pos, out);
		}
	}
	fflush(out);
	fclose(in);
	ZSTD_freeDStream(z);
	return fileno(out);
}

static void check_segment(const char *dir, const struct segment_listed *l)
{
	char name[SEGMENT_FILE_BYTES], path[4096];
	struct segment_scan scan;
	int fd, err;

	segment_file_name(name, l->number, l->compressed);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = l->compressed ? unpack(path) : open(path, O_RDONLY);
	if (fd < 0)
		die(path, -errno);
	err = segment_scan(fd, 0, &scan, take_fragment, &fd);
	if (err)
		die(path, err);
	tally.torn += scan.torn;
	tally.lost += scan.spoilt_records;
	tally.spoilt += scan.spoilt_records;
	forget_large();
}

static uint64_t missing(bool first)
{
	uint64_t count = 0;

	for (uint32_t w = 0; w < tally.writers; w++) {
		uint64_t n = 0;

		while (first && n < tally.end[w] && !tally.seen[w][n])
			n++;
		for (; n < tally.end[w]; n++)
			count += !tally.seen[w][n];
	}
	return count;
}

static int check(int argc, char **argv)
{
	struct segment_listed *list;
	size_t count;
	int err = segment_list(argv[0], &list, &count);

	if (err)
		die(argv[0], err);
	tally.writers = (uint32_t)atoi(argv[1]);
	for (uint32_t w = 0; w < tally.writers; w++)
		tally.seen[w] = calloc(NUMBERS_MAX, 1);
	for (size_t i = 0; i < count; i++)
		check_segment(argv[0], &list[i]);
	printf("records=%llu lost=%llu duplicates=%llu missing=%llu wrong=%llu torn=%llu large=%llu segments=%zu fragments=%llu spoilt=%llu\n",
	       (unsigned long long)tally.records, (unsigned long long)tally.lost,
	       (unsigned long long)tally.duplicates, (unsigned long long)missing(argc > 2),
	       (unsigned long long)tally.wrong, (unsigned long long)tally.torn,
	       (unsigned long long)tally.large, count, (unsigned long long)tally.fragments,
	       (unsigned long long)tally.spoilt);
	for (uint32_t w = 0; w < tally.writers; w++)
		printf("writer %u to %llu\n", w, (unsigned long long)tally.end[w]);
	free(list);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 6 && strcmp(argv[1], "write") == 0)
		return write_records(argc - 2, argv + 2);
	if (argc >= 4 && strcmp(argv[1], "check") == 0)
		return check(argc - 2, argv + 2);
	fprintf(stderr, "usage: see the source\n");
	return 2;
}
