/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_trace.c - replays the allocations of a real program, by one thread, a resize as allocate + free.
 * The file: "SMTRACE1", u32 objects, u32 threads, then events of 12 bytes: u8 op (1 allocate, 2 free,
 * 3 resize), u8 thread, u16 zero, u32 object, u32 size; little endian.
 */
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct event {
	uint8_t op, thread;
	uint16_t zero;
	uint32_t object, size;
};
_Static_assert(sizeof(struct event) == 12, "event of a trace");

enum { OP_ALLOC = 1, OP_FREE = 2, OP_RESIZE = 3 };

struct trace {
	char *file;
	struct event *events; /* in it */
	peer_ref *refs;
	uint32_t *sizes;
	size_t n;
	uint32_t objects;
	size_t peak_at; /* event after which most is live */
	uint64_t peak_live;
};

static char *read_whole(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	struct stat st;
	char *data = NULL;

	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st) && (data = malloc((size_t)st.st_size + 1))) {
		while (done < (size_t)st.st_size) {
			ssize_t r = read(fd, data + done, (size_t)st.st_size - done);

			if (r <= 0)
				break;
			done += (size_t)r;
		}
		*size = done;
	}
	close(fd);
	return data;
}

/* An event must make sense where it stands: objects live when freed, and not when allocated. */
static int trace_check(struct trace *t)
{
	uint64_t live = 0;

	memset(t->sizes, 0, t->objects * sizeof(*t->sizes));
	for (size_t i = 0; i < t->n; i++) {
		struct event *e = &t->events[i];

		if (e->object >= t->objects || e->op < OP_ALLOC || e->op > OP_RESIZE ||
		    (e->op == OP_ALLOC) != !t->sizes[e->object])
			return -EINVAL;
		if (e->op != OP_FREE && !e->size)
			e->size = 1;
		live = live - t->sizes[e->object] + (e->op == OP_FREE ? 0 : e->size);
		t->sizes[e->object] = e->op == OP_FREE ? 0 : e->size;
		if (live > t->peak_live) {
			t->peak_live = live;
			t->peak_at = i;
		}
	}
	return 0;
}

static int trace_load(struct trace *t, const char *path, bool tiny)
{
	size_t size = 0;
	char *data = read_whole(path, &size);

	if (!data)
		return -errno;
	t->file = data;
	if (size < 16 || memcmp(data, "SMTRACE1", 8))
		return -EINVAL;
	memcpy(&t->objects, data + 8, 4);
	t->n = (size - 16) / sizeof(struct event);
	if (tiny && t->n > 20000)
		t->n = 20000;
	t->events = (struct event *)(data + 16); /* malloc's 16, and 4 suffices */
	t->refs = calloc((size_t)t->objects + 1, sizeof(*t->refs));
	t->sizes = calloc((size_t)t->objects + 1, sizeof(*t->sizes));
	if (!t->refs || !t->sizes)
		return -ENOMEM;
	explicit_bzero(t->refs, t->objects * sizeof(*t->refs)); /* the driver's own pages, now */
	return trace_check(t);
}

/* Events from..to. What is touched is the first word, or with pages every page. */
static ALWAYS_INLINE void trace_events(const struct peer_ops *p, struct trace *t, size_t from,
				       size_t to, bool pages, bool handle)
{
	for (size_t i = from; i < to; i++) {
		const struct event *e = &t->events[i];
		peer_ref old = t->refs[e->object], ref = 0;

		if (e->op != OP_FREE) {
			ref = work_alloc(p, e->size);
			if (pages)
				work_touch_pages(p, ref, e->size, handle);
			else
				*(volatile char *)work_at(p, ref, handle) = 1;
		}
		if (e->op != OP_ALLOC)
			p->free(old);
		t->refs[e->object] = ref;
	}
}

static void trace_rest_free(const struct peer_ops *p, struct trace *t)
{
	for (uint32_t i = 0; i < t->objects; i++) {
		if (t->refs[i])
			p->free(t->refs[i]);
		t->refs[i] = 0;
	}
}

static double trace_time(const struct peer_ops *p, struct trace *t)
{
	uint64_t start = work_now_ns();

	if (p->ptr)
		trace_events(p, t, 0, t->n, false, true);
	else
		trace_events(p, t, 0, t->n, false, false);
	return (double)(work_now_ns() - start) / (double)t->n;
}

#define MEMORY_LOOKS 200u

/* Highest memory seen, looking often and at the peak of live bytes. */
static double trace_memory(struct run *r, struct trace *t)
{
	uint64_t before = memory_held(r->arena), highest = 0;
	size_t step = t->n / MEMORY_LOOKS + 1, at = 0;

	while (at < t->n) {
		size_t to = at + step < t->n ? at + step : t->n;
		uint64_t held;

		if (at <= t->peak_at && t->peak_at + 1 < to)
			to = t->peak_at + 1;
		trace_events(r->peer, t, at, to, true, r->peer->ptr);
		held = memory_held(r->arena);
		if (held > highest)
			highest = held;
		at = to;
	}
	return 100.0 * ((double)(highest - before) / (double)t->peak_live - 1);
}

#define TRACE_ROUNDS 64

static void trace_unload(struct trace *t)
{
	free(t->file);
	free(t->refs);
	free(t->sizes);
}

static double trace_rounds(struct run *r, struct trace *t)
{
	double rounds[TRACE_ROUNDS];
	size_t count = 0;
	uint64_t end = work_now_ns() + (uint64_t)(r->seconds * 1e9);

	do {
		rounds[count++] = trace_time(r->peer, t);
		trace_rest_free(r->peer, t);
	} while (count < TRACE_ROUNDS && work_now_ns() < end);
	return work_median(rounds, count);
}

/* Speed and memory of one heap, as it is set up: no peer gets one set of options for each. */
int work_trace(struct run *r)
{
	struct trace t = {0};
	int e = trace_load(&t, r->trace, r->tiny);

	if (!e) {
		work_emit("memory", trace_memory(r, &t));
		trace_rest_free(r->peer, &t);
		work_emit("ns", trace_rounds(r, &t));
	}
	trace_unload(&t);
	return e;
}

int work_trace_cold(struct run *r)
{
	struct trace t = {0};
	int e = trace_load(&t, r->trace, r->tiny);

	if (!e)
		work_emit("ns", trace_time(r->peer, &t));
	trace_unload(&t);
	return e;
}
