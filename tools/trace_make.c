/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace_make.c - two passes over the raw files: one counts the objects, which a trace says first, the other writes.
 * Each thread's events are in order already: they are merged by their numbers, the least first, out of a heap of
 * threads. What is live is known by its address; a free of what was not recorded (of before the library was there) is
 * left out. The recorded program has written the files: nothing in them is believed further than it can be checked.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "preload/trace_raw.h"
#include "trace_file.h"
#include "trace_make.h"

/* ---- what is live: addresses and objects, by open addressing ---- */

struct live {
	uint64_t *pointers; /* 0: an empty place */
	uint32_t *objects;
	size_t room, count; /* room: a power of two */
};

static size_t place_of(const struct live *l, uint64_t pointer)
{
	size_t i = (size_t)(pointer * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (l->room - 1);

	while (l->pointers[i] && l->pointers[i] != pointer)
		i = (i + 1) & (l->room - 1);
	return i;
}

static int live_resize(struct live *l, size_t room)
{
	struct live more = { .pointers = calloc(room, sizeof(uint64_t)),
			     .objects = calloc(room, sizeof(uint32_t)), .room = room, .count = l->count };

	if (!more.pointers || !more.objects) {
		free(more.pointers);
		free(more.objects);
		return -ENOMEM;
	}
	for (size_t i = 0; i < l->room; i++)
		if (l->pointers[i]) {
			size_t at = place_of(&more, l->pointers[i]);

			more.pointers[at] = l->pointers[i];
			more.objects[at] = l->objects[i];
		}
	free(l->pointers);
	free(l->objects);
	*l = more;
	return 0;
}

static int live_add(struct live *l, uint64_t pointer, uint32_t object)
{
	size_t at;
	int r = 2 * (l->count + 1) > l->room ? live_resize(l, l->room ? 2 * l->room : 4096) : 0;

	if (r)
		return r;
	at = place_of(l, pointer);
	l->count += !l->pointers[at];
	l->pointers[at] = pointer;
	l->objects[at] = object;
	return 0;
}

/* False: nothing recorded is there. What was pushed on from its place moves up. */
static bool live_remove(struct live *l, uint64_t pointer, uint32_t *object)
{
	size_t at, next;

	if (!l->room || !pointer || l->pointers[at = place_of(l, pointer)] != pointer)
		return false;
	*object = l->objects[at];
	l->pointers[at] = 0;
	l->count--;
	for (next = (at + 1) & (l->room - 1); l->pointers[next]; next = (next + 1) & (l->room - 1)) {
		uint64_t moved = l->pointers[next];
		uint32_t its = l->objects[next];

		l->pointers[next] = 0;
		at = place_of(l, moved);
		l->pointers[at] = moved;
		l->objects[at] = its;
	}
	return true;
}

/* ---- writing ---- */

struct maker {
	FILE *out; /* NULL: the first pass, that counts */
	ZSTD_CCtx *zstd;
	struct trace_made made;
	struct live live;
	unsigned char packed[1 << 16];
};

static int write_bytes(struct maker *m, const void *bytes, size_t length, ZSTD_EndDirective end)
{
	ZSTD_inBuffer in = { bytes, length, 0 };
	size_t left;

	if (!m->zstd)
		return fwrite(bytes, 1, length, m->out) == length ? 0 : -EIO;
	do {
		ZSTD_outBuffer to = { m->packed, sizeof(m->packed), 0 };

		left = ZSTD_compressStream2(m->zstd, &to, &in, end);
		if (ZSTD_isError(left) || fwrite(m->packed, 1, to.pos, m->out) != to.pos)
			return -EIO;
	} while (end == ZSTD_e_end ? left > 0 : in.pos < in.size);
	return 0;
}

static void put32(unsigned char *p, uint32_t n)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(n >> 8 * i);
}

static int put_event(struct maker *m, enum trace_op op, uint32_t thread, uint32_t object, uint64_t size)
{
	unsigned char bytes[TRACE_EVENT_BYTES] = { (unsigned char)op, (unsigned char)(thread % TRACE_THREADS_MAX) };

	m->made.events++;
	if (!m->out)
		return 0;
	put32(bytes + 4, object);
	put32(bytes + 8, size > UINT32_MAX ? UINT32_MAX : (uint32_t)size);
	return write_bytes(m, bytes, sizeof(bytes), ZSTD_e_continue);
}

static int put_header(struct maker *m, const struct trace_made *counted)
{
	unsigned char bytes[TRACE_HEADER_BYTES] = "SMTRACE1";
	uint32_t threads = counted->threads ? counted->threads : 1;

	put32(bytes + 8, counted->objects);
	put32(bytes + 12, threads < TRACE_THREADS_MAX ? threads : TRACE_THREADS_MAX);
	return write_bytes(m, bytes, sizeof(bytes), ZSTD_e_continue);
}

/* ---- events ---- */

/* One thread of a file, at its next event. */
struct thread {
	uint64_t chunk, last; /* + 1; 0: none */
	uint32_t at;	      /* in the chunk */
	uint64_t number;
	uint32_t resized; /* object in the middle of a resize, + 1 */
	uint64_t old;	  /* its address */
};

static int put_alloc(struct maker *m, uint32_t thread, uint64_t pointer, uint64_t size)
{
	uint32_t object;
	int r = 0;

	if (live_remove(&m->live, pointer, &object)) /* its end was not seen */
		r = put_event(m, TRACE_FREE, thread, object, 0);
	if (r || m->made.objects == UINT32_MAX)
		return r ? r : -EFBIG;
	r = live_add(&m->live, pointer, m->made.objects);
	return r ? r : put_event(m, TRACE_ALLOC, thread, m->made.objects++, size);
}

static int put_resized(struct maker *m, struct thread *t, uint32_t thread, uint64_t pointer, uint64_t size)
{
	uint32_t object = t->resized - 1, other;
	int r = 0;

	if (!t->resized)
		return pointer ? put_alloc(m, thread, pointer, size) : 0;
	t->resized = 0;
	if (live_remove(&m->live, pointer, &other))
		r = put_event(m, TRACE_FREE, thread, other, 0);
	if (!r)
		r = live_add(&m->live, pointer ? pointer : t->old, object);
	return r || !pointer ? r : put_event(m, TRACE_RESIZE, thread, object, size);
}

static int put_raw(struct maker *m, struct thread *t, uint32_t thread, const struct trace_raw_event *e)
{
	uint64_t size = e->what >> 8;
	uint32_t object;

	switch (e->what & 0xff) {
	case TRACE_RAW_ALLOC: return e->pointer ? put_alloc(m, thread, e->pointer, size) : 0;
	case TRACE_RAW_FREE:
		return live_remove(&m->live, e->pointer, &object) ? put_event(m, TRACE_FREE, thread, object, 0)
								  : 0;
	case TRACE_RAW_BEGIN:
		t->resized = live_remove(&m->live, e->pointer, &object) ? object + 1 : 0;
		t->old = e->pointer;
		return 0;
	case TRACE_RAW_RESIZED: return put_resized(m, t, thread, e->pointer, size);
	default: return 0;
	}
}

/* What the process held ends with the program that it was. */
static int end_program(struct maker *m)
{
	int r = 0;

	for (size_t i = 0; !r && i < m->live.room; i++)
		if (m->live.pointers[i])
			r = put_event(m, TRACE_FREE, 0, m->live.objects[i], 0);
	free(m->live.pointers);
	free(m->live.objects);
	m->live = (struct live){ 0 };
	return r;
}

/* ---- one file ---- */

struct raw {
	const char *bytes;
	uint64_t chunks;
	struct thread *threads;
	uint32_t *next; /* of a chunk: the thread's next one, + 1 */
	uint32_t *heap; /* threads, the least number on top */
	uint32_t thread_count, heap_count;
};

static const struct trace_raw_chunk *chunk_at(const struct raw *raw, uint64_t i)
{
	return (const struct trace_raw_chunk *)(raw->bytes + i * TRACE_RAW_CHUNK);
}

static const struct trace_raw_event *event_of(const struct raw *raw, const struct thread *t)
{
	return &chunk_at(raw, t->chunk - 1)->events[t->at];
}

/* Its next finished event, if there is one. */
static bool settle(const struct raw *raw, struct thread *t)
{
	while (t->chunk) {
		t->number = t->at < TRACE_RAW_EVENTS ? atomic_load(&event_of(raw, t)->number) : 0;
		if (t->number)
			return true;
		t->chunk = raw->next[t->chunk - 1];
		t->at = 0;
	}
	return false;
}

static void sink(struct raw *raw, uint32_t i)
{
	for (;;) {
		uint32_t least = i;

		for (uint32_t child = 2 * i + 1; child < raw->heap_count && child <= 2 * i + 2; child++)
			if (raw->threads[raw->heap[child]].number < raw->threads[raw->heap[least]].number)
				least = child;
		if (least == i)
			return;

		uint32_t t = raw->heap[i];

		raw->heap[i] = raw->heap[least];
		raw->heap[least] = t;
		i = least;
	}
}

/* Which chunks are whose. */
static void sort_chunks(struct raw *raw)
{
	for (uint64_t i = 0; i < raw->chunks; i++) {
		const struct trace_raw_chunk *c = chunk_at(raw, i);
		struct thread *t;

		if (c->magic != TRACE_RAW_MAGIC || c->thread >= raw->chunks)
			continue;
		t = &raw->threads[c->thread];
		if (t->last)
			raw->next[t->last - 1] = (uint32_t)i + 1;
		else
			t->chunk = i + 1;
		t->last = i + 1;
		if (c->thread >= raw->thread_count)
			raw->thread_count = c->thread + 1;
	}
	for (uint32_t t = 0; t < raw->thread_count; t++)
		if (settle(raw, &raw->threads[t]))
			raw->heap[raw->heap_count++] = t;
	for (uint32_t i = raw->heap_count / 2; i-- > 0;)
		sink(raw, i);
}

static int merge(struct maker *m, struct raw *raw)
{
	int r = 0;

	sort_chunks(raw);
	if (raw->thread_count > m->made.threads)
		m->made.threads = raw->thread_count;
	while (!r && raw->heap_count) {
		uint32_t number = raw->heap[0];
		struct thread *t = &raw->threads[number];

		r = put_raw(m, t, number, event_of(raw, t));
		t->at++;
		if (!settle(raw, t))
			raw->heap[0] = raw->heap[--raw->heap_count];
		sink(raw, 0);
	}
	return r;
}

static int merge_mapped(struct maker *m, const char *bytes, uint64_t chunks)
{
	struct raw raw = { .bytes = bytes, .chunks = chunks };
	int r = -ENOMEM;

	raw.threads = calloc(chunks, sizeof(*raw.threads));
	raw.next = calloc(chunks, sizeof(*raw.next));
	raw.heap = calloc(chunks, sizeof(*raw.heap));
	if (raw.threads && raw.next && raw.heap)
		r = merge(m, &raw);
	free(raw.threads);
	free(raw.next);
	free(raw.heap);
	return r;
}

/* -ENOENT: there is no such file. */
static int merge_file(struct maker *m, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r = 0;
	uint64_t chunks;
	struct stat st;
	void *p;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		r = -errno;
	chunks = r ? 0 : (uint64_t)st.st_size / TRACE_RAW_CHUNK;
	if (!r && chunks > 0 && chunks < UINT32_MAX) {
		p = mmap(NULL, chunks * TRACE_RAW_CHUNK, PROT_READ, MAP_SHARED, fd, 0);
		r = p == MAP_FAILED ? -errno : merge_mapped(m, p, chunks);
		if (p != MAP_FAILED)
			munmap(p, chunks * TRACE_RAW_CHUNK);
	}
	close(fd);
	return r;
}

static int make_pass(struct maker *m, const char *dir)
{
	char path[4096];
	int r = 0;

	for (unsigned i = 0; !r && i < TRACE_RAW_FILES; i++) {
		if ((size_t)snprintf(path, sizeof(path), "%s/%04u", dir, i) >= sizeof(path))
			return -ENAMETOOLONG;
		if (i && !access(path, F_OK))
			r = end_program(m);
		if (!r)
			r = merge_file(m, path);
		m->made.programs += !r;
	}
	return r == -ENOENT ? 0 : r;
}

static void forget(struct maker *m)
{
	free(m->live.pointers);
	free(m->live.objects);
	m->live = (struct live){ 0 };
	m->made = (struct trace_made){ 0 };
}

static int write_all(struct maker *m, const char *dir, const char *file)
{
	struct trace_made counted = m->made;
	size_t length = strlen(file);
	int r;

	forget(m);
	m->out = fopen(file, "wbe");
	if (!m->out)
		return -errno;
	if (length > 4 && !strcmp(file + length - 4, ".zst"))
		m->zstd = ZSTD_createCCtx();
	r = put_header(m, &counted);
	if (!r)
		r = make_pass(m, dir);
	if (!r && m->zstd)
		r = write_bytes(m, NULL, 0, ZSTD_e_end);
	ZSTD_freeCCtx(m->zstd);
	if (fclose(m->out) && !r)
		r = -errno;
	return r;
}

int trace_make(const char *dir, const char *file, struct trace_made *ret)
{
	struct maker *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	r = make_pass(m, dir);
	if (!r && !m->made.events)
		r = -ENODATA;
	if (!r)
		r = write_all(m, dir, file);
	*ret = m->made;
	forget(m);
	free(m);
	return r;
}
