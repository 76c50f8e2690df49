/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repair_stage.h - an arena with one of everything that outlives its maker, who is dead; copies of it to
 * be damaged, repaired and judged. Used by the repair's tests and by its fuzzer.
 */
#ifndef TESTS_REPAIR_STAGE_H
#define TESTS_REPAIR_STAGE_H

#include "heap.h"
#include "arena_file.h"
#include "pagemap.h"
#include "repair.h"
#include "walk.h"

#define STAGE_SMALL  150u /* persistent, of many sizes */
#define STAGE_NAMES  12u
#define STAGE_LARGE  6u /* persistent: within a zone, and over two, one published; two of a class, likewise */
#define STAGE_KNOWN  (STAGE_SMALL + STAGE_NAMES + STAGE_LARGE)
#define STAGE_LOGGED 120u

struct stage_object {
	shma_handle handle;
	uint64_t size;
	char name[16]; /* published as */
};

/* What the maker has told, in shared memory. */
struct stage_known {
	struct stage_object objects[STAGE_KNOWN];
};

/* The arena's file, piece by piece: what of it was ever written. */
struct stage_piece {
	uint64_t offset, length;
	char *bytes;
};

static struct stage {
	struct stage_known *known;
	struct stage_piece *pieces;
	size_t count;
	uint64_t size;
	uint8_t uuid[16];
	struct arena_geometry g;
	int young;	   /* the file as it was when its maker was half-way */
	uint64_t *targets; /* offsets of pages of bookkeeping that hold anything */
	size_t target_count;
	char name[64], path[128], life[300];
} stage;

/* ---- making it ---- */

static void stage_fill(char *p, uint64_t size, uint32_t i)
{
	for (uint64_t k = 0; k < size; k++)
		p[k] = (char)(i * 31 + k * 7 + (k >> 8));
}

static bool stage_intact(const char *p, uint64_t size, uint32_t i)
{
	for (uint64_t k = 0; k < size; k++)
		if (p[k] != (char)(i * 31 + k * 7 + (k >> 8)))
			return false;
	return true;
}

static bool stage_object(shma *s, uint32_t i, uint64_t size, bool publish)
{
	struct stage_object *o = &stage.known->objects[i];

	o->handle = shma_alloc(s, size, publish ? 0 : SHMA_PERSIST);
	if (!o->handle)
		return false;
	o->size = shma_size(s, o->handle);
	stage_fill(shma_ptr(s, o->handle), o->size, i);
	if (!publish)
		return true;
	snprintf(o->name, sizeof(o->name), "name-%u", i);
	return shma_publish(s, o->name, o->handle) == 0;
}

/* What a power cut leaves of pages that were not written since. */
static bool stage_keep_young(shma *s)
{
	int fd = s->arena.files.fd;
	off_t data = 0, hole;
	char page[PAGE_SIZE];

	while ((data = lseek(fd, data, SEEK_DATA)) >= 0 && (hole = lseek(fd, data, SEEK_HOLE)) >= 0)
		for (; data < hole; data += PAGE_SIZE)
			if (pread(fd, page, sizeof(page), data) != (ssize_t)sizeof(page) ||
			    pwrite(stage.young, page, sizeof(page), data) != (ssize_t)sizeof(page))
				return false;
	return true;
}

static bool stage_log(shma *s, char *big)
{
	int r = 0;

	for (uint32_t i = 0; i < STAGE_LOGGED && !r; i++)
		r = shma_log(s, 6, "record %u of many", i);
	for (uint32_t i = 0; i < 3 && !r; i++)
		r = shma_log_write(s, 5, big, 20000 + 9000 * i);
	return r == 0;
}

/* Not a test's child: this is before there are tests. */
static int stage_in_child(int (*body)(void))
{
	int status = -1;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(body());
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

/* The maker: it dies with private objects, shared ones and caches full of handles. */
static int stage_make(void)
{
	static char big[65536];
	shma *s;
	struct shma_options opt = { .struct_size = sizeof(opt),
				    .capacity = MIB(16),
				    .log_capacity = 131072 };
	uint32_t n = 0;
	bool good;

	if (shma_open(&s, stage.name, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &opt))
		return 1;
	good = stage_log(s, big);
	for (; n < STAGE_SMALL && good; n++) {
		good = stage_object(s, n, 16 + (uint64_t)n * n % 5000, false) &&
		       shma_alloc(s, 16 + (uint64_t)n * 37 % 3000, n % 3 ? 0 : SHMA_SHARED);
		if (n == STAGE_SMALL / 2)
			good = good && stage_keep_young(s);
		if (n % 4 == 0)
			shma_free(s, shma_alloc(s, 16 + n * 8, 0));
	}
	for (; n < STAGE_SMALL + STAGE_NAMES && good; n++)
		good = stage_object(s, n, 100 + 10 * (uint64_t)n, true);
	good = good && stage_object(s, n, 300001, false) && stage_object(s, n + 1, 270000, false) &&
	       stage_object(s, n + 2, MIB(3), false) && stage_object(s, n + 3, 280000, true) &&
	       stage_object(s, n + 4, 200000, false) && stage_object(s, n + 5, 40000, true) &&
	       shma_alloc(s, 300000, 0);
	return good ? 0 : 2;
}

static void stage_read_piece(int fd, uint64_t from, uint64_t to)
{
	struct stage_piece *p;

	stage.pieces = realloc(stage.pieces, (stage.count + 1) * sizeof(*stage.pieces));
	p = &stage.pieces[stage.count++];
	p->offset = from;
	p->length = to - from;
	p->bytes = malloc(p->length);
	if (pread(fd, p->bytes, p->length, (off_t)from) != (ssize_t)p->length)
		abort();
}

static void stage_add_target(uint64_t offset)
{
	stage.targets = realloc(stage.targets, (stage.target_count + 1) * sizeof(uint64_t));
	stage.targets[stage.target_count++] = offset;
}

/* Pages of bookkeeping: below the heap, state blocks, threads, and where log records begin. */
static int stage_target_extent(void *context, const struct walk_item *item)
{
	(void)context;
	if (item->kind == PAGE_STATE || item->kind == PAGE_LOG ||
	    (item->kind == PAGE_RAW && item->class_index == RAW_THREAD))
		stage_add_target(stage.g.heap + (item->page << PAGE_SHIFT));
	return 0;
}

static void stage_read(int fd)
{
	off_t data = 0, hole;

	while ((data = lseek(fd, data, SEEK_DATA)) >= 0 &&
	       (hole = lseek(fd, data, SEEK_HOLE)) >= 0) {
		for (off_t at = data; at < hole && (uint64_t)at < stage.g.heap; at += PAGE_SIZE)
			stage_add_target((uint64_t)at);
		stage_read_piece(fd, (uint64_t)data, (uint64_t)hole);
		data = hole;
	}
}

/* Once: the arena is made, read, and removed. */
UNUSED static void stage_begin(void)
{
	struct arena_files files;
	struct arena a;
	int r;

	stage.known = mmap(NULL, sizeof(*stage.known), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(stage.name, sizeof(stage.name), "test-repair-%d", (int)getpid());
	arena_path(stage.path, sizeof(stage.path), stage.name);
	stage.young = memfd_create("young", MFD_CLOEXEC);
	r = stage_in_child(stage_make);
	if (r || arena_open(stage.path, true, &files) || arena_map(&a, files, true)) {
		fprintf(stderr, "the arena could not be made: %d\n", r);
		exit(99);
	}
	stage.g = a.g;
	stage.size = a.g.file_size;
	memcpy(stage.uuid, a.header->uuid, sizeof(stage.uuid));
	arena_life_path(stage.life, sizeof(stage.life), stage.path, stage.uuid);
	stage_read(a.files.fd);
	walk_extents(&a, stage_target_extent, NULL);
	arena_unmap(&a);
	arena_unlink(stage.path);
	if (ftruncate(stage.young, (off_t)stage.size) < 0)
		exit(99);
}

UNUSED static void stage_end(void)
{
	unlink(stage.path);
	unlink(stage.life);
	for (size_t i = 0; i < stage.count; i++)
		free(stage.pieces[i].bytes);
	free(stage.pieces);
	free(stage.targets);
	close(stage.young);
	munmap(stage.known, sizeof(*stage.known));
}

/* ---- copies ---- */

/* A new copy, as if just made; its descriptor. */
UNUSED static int stage_copy(void)
{
	int fd;

	unlink(stage.path);
	unlink(stage.life);
	fd = open(stage.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)stage.size) < 0)
		return -1;
	for (size_t i = 0; i < stage.count; i++)
		if (pwrite(fd, stage.pieces[i].bytes, stage.pieces[i].length,
			   (off_t)stage.pieces[i].offset) != (ssize_t)stage.pieces[i].length)
			abort();
	return fd;
}

/* ---- judging ---- */

struct stage_verdict {
	uint32_t seen[REPAIR_WHATS];
	struct repair_sum sum;
	bool talk;
	int result;
};

static void stage_note(void *context, const struct repair_note *note)
{
	struct stage_verdict *v = context;

	v->seen[note->what]++;
	if (v->talk)
		printf("  %s: %s: %s\n", repair_key(note->what), repair_meaning(note->what),
		       note->text);
	if (!note->text[0])
		abort(); /* plain words are promised */
}

UNUSED static void stage_repair(struct stage_verdict *v)
{
	struct repair_watch watch = { .note = stage_note, .context = v };

	memset(v->seen, 0, sizeof(v->seen));
	v->result = repair_file(stage.path, &watch, &v->sum);
}

static void stage_print(void *context, const struct audit_finding *f)
{
	(void)context;
	fprintf(stderr, "%s: %s\n", audit_key(f->what), f->text);
}

/* Findings of a check. */
UNUSED static int stage_check(void)
{
	return audit_file(stage.path, false, stage_print, NULL);
}

enum stage_fate { STAGE_WHOLE, STAGE_SHORT, STAGE_GONE, STAGE_WRONG };

/* What became of one object. */
UNUSED static enum stage_fate stage_fate(shma *s, uint32_t i)
{
	const struct stage_object *o = &stage.known->objects[i];
	uint64_t size = shma_size(s, o->handle);
	char *p = shma_ptr(s, o->handle);

	if (!p || !size)
		return STAGE_GONE;
	if (!stage_intact(p, size < o->size ? size : o->size, i))
		return STAGE_WRONG;
	if (o->name[0] && shma_lookup(s, o->name) != o->handle)
		return STAGE_SHORT;
	return size < o->size ? STAGE_SHORT : STAGE_WHOLE;
}

/* ---- does it work ---- */

/* Allocates until it is full, and frees all of it: in pages what it gave out. */
UNUSED static uint64_t stage_exhaust(shma *s, uint64_t size)
{
	uint64_t *handles = calloc(MIB(16) / size + 1, sizeof(*handles)), n = 0;

	while (n <= MIB(16) / size && (handles[n] = shma_alloc(s, size, 0))) {
		memset(shma_ptr(s, handles[n]), 0x5a, size);
		n++;
	}
	for (uint64_t i = 0; i < n; i++)
		if (shma_free(s, handles[i]))
			n = 0;
	free(handles);
	return n * size >> PAGE_SHIFT;
}

/* heap_all_free_pages(), but for those that are no test of the unit test library's. */
static uint64_t stage_free_pages(struct arena *a)
{
	uint64_t pages = 0;
	uint32_t zones = arena_refresh(a);

	for (uint32_t z = 0; z < a->g.zone_count; z++) {
		if (z >= zones) {
			pages += geometry_zone_span(&a->g, z);
		} else if (!zone_trylock(a, z)) {
			pages += atomic_load(&zone_of(a, z)->free_pages);
			zone_unlock(a, z);
		}
	}
	return pages;
}

/* NULL, or what is wrong: every free page is given out, and the check is clean after. */
UNUSED static const char *stage_works(void)
{
	uint64_t before, gave;
	const char *wrong = NULL;
	char line[32] = "after the repair";
	shma *s;

	if (shma_open(&s, stage.name, SHMA_EMBEDDED, NULL))
		return "it cannot be opened";
	before = stage_free_pages(&s->arena);
	gave = stage_exhaust(s, 4096);
	/* State blocks, the thread's block and the caches' arrays take some. */
	if (gave + 160 < before) {
		printf("%llu pages given out of %llu\n", (unsigned long long)gave,
		       (unsigned long long)before);
		wrong = "it does not give out all that is free";
	}
	if (!wrong && shma_log_write(s, 6, line, sizeof(line)))
		wrong = "nothing can be logged";
	if (!wrong && heap_findings(&s->arena))
		wrong = "the check after use is not clean";
	shma_close(s);
	return wrong;
}

#endif
