/* SPDX-License-Identifier: Apache-2.0 */
/*
 * huge.c - a random walk over one object of 1 GiB, in arenas whose heap has pages of 4 KiB, pages of 2 MiB
 * that the kernel was told to make (--huge always), those it gives on advice (--huge advise, memfd, if its
 * settings allow), and hugetlb pages (if so many are reserved). A program of its own, started by work_huge.c.
 *
 * Each step reads a cache line whose place depends on what the step before has read, so that no two
 * misses overlap. That the pages are what they should be is looked up in smaps; what cannot be had is said
 * on stderr and has no figure.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "arena_file.h"
#include "huge.h"
#include "object.h"
#include "thread.h"
#include "words.h"

#define GIB (UINT64_C(1) << 30)
#define BATCH 65536
#define BATCHES_MAX 4096

struct scene {
	const char *metric;
	enum arena_backing backing;
	enum huge_pages mode;
	bool large; /* are to be what it maps */
};

static const struct scene scenes[] = {
	{"small", BACKING_POSIX, HUGE_PAGES_NEVER, false},
	{"made", BACKING_POSIX, HUGE_PAGES_ALWAYS, true},
	{"advised", BACKING_MEMFD, HUGE_PAGES_ADVISE, true},
	{"hugetlb", BACKING_HUGETLB, HUGE_PAGES_NEVER, true},
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* ns of a step, the median over batches: one that lost its CPU to others does not count. */
static double walk(const char *at, uint64_t size, double seconds)
{
	static double batches[BATCHES_MAX];
	uint64_t end = now_ns() + (uint64_t)(seconds * 1e9), x = 0x9e3779b97f4a7c15u;
	size_t n = 0;

	do {
		uint64_t from = now_ns();

		for (int i = 0; i < BATCH; i++) {
			x = x * 6364136223846793005u + 1442695040888963407u;
			/* What is there is zero, but the processor has to wait for it to know. */
			x += *(const volatile uint64_t *)(at + ((x >> 20) & (size - 1) & ~UINT64_C(63)));
		}
		batches[n++] = (double)(now_ns() - from) / BATCH;
	} while (now_ns() < end && n < BATCHES_MAX);
	qsort(batches, n, sizeof(*batches), by_value);
	return batches[n / 2];
}

/* Of what is mapped at an address and behind it in the heap: bytes that are mapped by large pages. */
static uint64_t mapped_large(const char *from, const char *to)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start, end, kb;
	uint64_t bytes = 0;
	bool inside = false;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start < (unsigned long)to && end > (unsigned long)from;
		else if (inside && (sscanf(line, "ShmemPmdMapped: %lu kB", &kb) == 1 ||
				    sscanf(line, "Shared_Hugetlb: %lu kB", &kb) == 1 ||
				    sscanf(line, "Private_Hugetlb: %lu kB", &kb) == 1))
			bytes += (uint64_t)kb << 10;
	}
	if (f)
		fclose(f);
	return bytes;
}

static int open_arena(struct arena *a, const struct scene *s, const char *name, uint64_t size)
{
	struct arena_config config = {.name = name,
				      .capacity = size + size / 4,
				      .log_capacity = 65536,
				      .backing = s->backing,
				      .huge_mode = s->mode};
	struct arena_files files;
	char path[256];
	int r = arena_create(&config, &files);

	if (!r && s->backing == BACKING_POSIX && !arena_path(path, sizeof(path), name))
		arena_unlink(path);
	if (r)
		return r;
	r = arena_map(a, files, false);
	if (r)
		arena_files_close(&files);
	return r;
}

/* The object, all of it zero; NULL with a reason. */
static char *make_object(struct arena *a, uint64_t size, int *err)
{
	struct object_want want = {.size = size, .zero = true, .large = true, .kind = OBJECT_PRIVATE};
	uint64_t handle;

	*err = thread_attach_arena(a);
	if (*err)
		return NULL;
	handle = object_alloc(a, &want, err);
	return handle ? object_ptr(a, handle, err) : NULL;
}

static int measure(struct arena *a, const struct scene *s, uint64_t size, double seconds)
{
	uint64_t large;
	int err = 0;
	char *at = make_object(a, size, &err);

	if (!at) {
		fprintf(stderr, "huge: %s: no object of %llu MiB: %s\n", s->metric,
			(unsigned long long)(size >> 20), strerror(-err));
		return 0;
	}
	memset(at, 0, size);
	large = mapped_large(at, at + size);
	if (s->large ? large < size / 10 * 9 : large > 0) {
		fprintf(stderr, "huge: %s: %llu of %llu MiB are mapped by large pages\n", s->metric,
			(unsigned long long)(large >> 20), (unsigned long long)(size >> 20));
		return 0;
	}
	walk(at, size, seconds / 4);
	printf("%s %.4f\n", s->metric, walk(at, size, seconds));
	fflush(stdout);
	return 1;
}

/* ns of the first use of 4 KiB of a new arena: objects of one page, each written to. */
static int measure_fill(struct arena *a, const struct scene *s, uint64_t size, double seconds)
{
	struct object_want want = {.size = PAGE_SIZE, .kind = OBJECT_PRIVATE};
	uint64_t count = size / 4 / PAGE_SIZE, from = now_ns();
	int err = thread_attach_arena(a);

	(void)seconds;
	for (uint64_t i = 0; !err && i < count; i++) {
		uint64_t handle = object_alloc(a, &want, &err);

		if (handle)
			*(volatile char *)object_ptr(a, handle, &err) = 1;
	}
	if (err) {
		fprintf(stderr, "huge: %s: no objects: %s\n", s->metric, strerror(-err));
		return 0;
	}
	printf("%s_fill %.4f\n", s->metric, (double)(now_ns() - from) / (double)count);
	fflush(stdout);
	return 1;
}

typedef int measurement(struct arena *a, const struct scene *s, uint64_t size, double seconds);

static int run_scene(const struct scene *s, const char *name, uint64_t size, double seconds, measurement *what)
{
	struct arena a;
	int r = open_arena(&a, s, name, size);

	if (r) {
		fprintf(stderr, "huge: %s: no such arena: %s\n", s->metric, strerror(-r));
		return 0;
	}
	r = what(&a, s, size, seconds);
	thread_detach_arena(&a);
	arena_unmap(&a);
	return r;
}

int main(int argc, char **argv)
{
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 0;
	bool tiny = argc > 3 && !strcmp(argv[3], "tiny");
	int measured = 0;

	if (argc < 3)
		return 2;
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
		/* Without figures of the walk the page sizes are not what they should be. */
		if (run_scene(&scenes[i], argv[1], tiny ? GIB / 16 : GIB, tiny ? 0.001 : seconds, measure))
			measured += run_scene(&scenes[i], argv[1], tiny ? GIB / 16 : GIB, seconds,
					      measure_fill);
	return measured ? 0 : 1;
}
