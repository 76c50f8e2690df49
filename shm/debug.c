/* SPDX-License-Identifier: Apache-2.0 */
#include "debug.h"

#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "thread.h"

__thread struct debug_caller debug_caller __attribute__((tls_model("initial-exec")));

void (*debug_locate)(struct arena *a, struct debug_caller *caller);

/* Of a head or report, from the first field that it is over to where the next part begins. */
#define SUMMED_FROM offsetof(struct debug_head, size)
#define SUMMED_TO   offsetof(struct debug_head, zone)

void debug_apply(struct arena *a, const struct arena_header *h)
{
	a->debug = (enum debug_mode)h->debug_mode;
	a->debug_every = h->debug_every;
	a->debug_front = a->debug == DEBUG_FULL ? DEBUG_FRONT : 0;
	a->user = a->heap + a->debug_front;
}

uint64_t debug_sum(uint64_t sum, const void *from, size_t bytes)
{
	const char *p = from;
	uint64_t word;

	for (size_t i = 0; i + sizeof(word) <= bytes; i += sizeof(word)) {
		memcpy(&word, p + i, sizeof(word));
		sum = (sum ^ word) * UINT64_C(0x100000001b3);
		sum ^= sum >> 29;
	}
	return sum;
}

static uint64_t sum_of(const struct debug_head *head, uint64_t offset)
{
	return debug_sum(DEBUG_SUM ^ offset, (const char *)head + SUMMED_FROM, SUMMED_TO - SUMMED_FROM);
}

void debug_point_make(struct arena *a, struct debug_point *p)
{
	const struct thread_block *t = thread_peek(a);
	struct debug_caller *caller = &debug_caller;

	memset(p, 0, sizeof(*p));
	if (debug_locate)
		debug_locate(a, caller);
	p->ns = clock_real();
	p->pid = t ? a->claimant : getpid();
	p->tid = t ? t->tid : gettid();
	p->site = caller->site;
	memcpy(p->where, caller->where, sizeof(p->where));
	p->where[sizeof(p->where) - 1] = 0;
}

/* ---- heads ---- */

static uint64_t round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

/* A large one ends where its last page begins, as far as its alignment allows. */
void debug_plan(struct debug_plan *ret, uint64_t size, uint64_t align, bool large)
{
	uint64_t unit = align > 16 ? align : 16, body = round_up(size, unit < PAGE_SIZE ? unit : PAGE_SIZE), data;

	memset(ret, 0, sizeof(*ret));
	ret->large = large || align > 16 || size > DEBUG_SMALL_MAX - DEBUG_FRONT - DEBUG_TAIL;
	ret->front = DEBUG_FRONT;
	ret->bytes = DEBUG_FRONT + size + DEBUG_TAIL;
	if (!ret->large)
		return;
	if (align > PAGE_SIZE) {
		ret->align = align;
		ret->front = align;
		data = align + body;
	} else {
		data = round_up(round_up(DEBUG_FRONT, unit) + body, PAGE_SIZE);
		ret->front = data - body;
	}
	ret->bytes = data + PAGE_SIZE;
}

static uint64_t tail_bytes(const struct debug_head *head, uint64_t bytes)
{
	uint64_t tail = bytes - head->front - head->size;

	return tail < DEBUG_TAIL_MAX ? tail : DEBUG_TAIL_MAX;
}

/* Crash: the place is this client's, and nobody knows its handle: it returns with us, whatever stands in it. */
void debug_head_write(struct arena *a, uint64_t offset, uint64_t bytes, uint64_t front, uint64_t size, uint32_t gen)
{
	struct debug_head head = { .size = size, .front = (uint32_t)front, .gen = gen };
	char *at = a->heap + offset;

	debug_point_make(a, &head.allocated);
	memset(at + SUMMED_TO, DEBUG_BEFORE, front - SUMMED_TO);
	memset(at + front + size, DEBUG_BEHIND, tail_bytes(&head, bytes));
	/* PAIR(debug-head): what the head speaks of, then the head. */
	atomic_thread_fence(memory_order_release);
	head.sum = sum_of(&head, offset);
	memcpy(at, &head, SUMMED_TO);
}

/* Crash: as above; an object already freed, and ours. */
void debug_head_release(struct arena *a, uint64_t offset, struct debug_head *copy, uint32_t gen)
{
	memset(a->heap + offset + copy->front, DEBUG_FREED, copy->size);
	/* PAIR(debug-head): as above. */
	atomic_thread_fence(memory_order_release);
	copy->freed = 1 | gen << 16;
	debug_point_make(a, &copy->released);
	copy->sum = sum_of(copy, offset);
	memcpy(a->heap + offset, copy, SUMMED_TO);
}

bool debug_head_valid(const struct debug_head *head, uint64_t offset, uint64_t bytes)
{
	return head->sum == sum_of(head, offset) && head->front >= DEBUG_FRONT && head->front % 16 == 0 &&
	       head->front <= bytes && head->size <= bytes - head->front && head->size > 0;
}

bool debug_head_load(const struct arena *a, uint64_t offset, uint64_t bytes, struct debug_head *ret)
{
	memcpy(ret, a->heap + offset, sizeof(*ret));
	return debug_head_valid(ret, offset, bytes);
}

bool debug_head_copy(const struct arena *a, uint64_t offset, uint64_t bytes, struct debug_head *ret)
{
	return arena_read(a, a->g.heap + offset, ret, sizeof(*ret)) == (int64_t)sizeof(*ret) &&
	       debug_head_valid(ret, offset, bytes);
}

/* ---- looking ---- */

/* How many of these bytes differ; the first and the last of them. */
static uint32_t differ(const unsigned char *p, uint64_t bytes, unsigned char value, uint64_t *first, uint64_t *last)
{
	uint32_t n = 0;

	/* Mostly none: each is as the one before. */
	if (!bytes || (p[0] == value && !memcmp(p, p + 1, bytes - 1)))
		return 0;
	for (uint64_t i = 0; i < bytes; i++) {
		if (p[i] == value)
			continue;
		*first = n++ ? *first : i;
		*last = i;
	}
	return n;
}

/* Two runs of bytes around the object's own: those before, up to it, and those behind. */
static void judge(const unsigned char *before, uint64_t before_bytes, const unsigned char *behind,
		  uint64_t behind_bytes, uint64_t size, struct debug_damage *ret)
{
	uint64_t first = 0, last = 0;

	memset(ret, 0, sizeof(*ret));
	ret->bytes = differ(behind, behind_bytes, DEBUG_BEHIND, &first, &last);
	if (ret->bytes) {
		ret->what = DEBUG_OVERRUN;
		ret->at = (int64_t)(size + first);
		return;
	}
	ret->bytes = differ(before, before_bytes, DEBUG_BEFORE, &first, &last);
	if (ret->bytes) {
		ret->what = DEBUG_UNDERRUN;
		ret->at = (int64_t)last - (int64_t)before_bytes;
	}
}

void debug_look_around(const struct arena *a, uint64_t offset, uint64_t bytes, const struct debug_head *head,
		       struct debug_damage *ret)
{
	const unsigned char *at = (const unsigned char *)a->heap + offset;

	judge(at + SUMMED_TO, head->front - SUMMED_TO, at + head->front + head->size, tail_bytes(head, bytes),
	      head->size, ret);
}

void debug_look_around_copy(const struct arena *a, uint64_t offset, uint64_t bytes, const struct debug_head *head,
			    struct debug_damage *ret)
{
	unsigned char before[256], behind[DEBUG_TAIL_MAX];
	uint64_t near = head->front - SUMMED_TO, tail = tail_bytes(head, bytes);

	/* Of a long way to the object's beginning the last bytes. */
	near = near < sizeof(before) ? near : sizeof(before);
	memset(ret, 0, sizeof(*ret));
	if (arena_read(a, a->g.heap + offset + head->front - near, before, near) == (int64_t)near &&
	    arena_read(a, a->g.heap + offset + head->front + head->size, behind, tail) == (int64_t)tail)
		judge(before, near, behind, tail, head->size, ret);
}

/* A part of the object's bytes that lies on one page. */
static uint32_t look_at_part(const unsigned char *p, uint64_t bytes, uint64_t *first)
{
	uint64_t at = 0, last = 0;
	uint32_t n = differ(p, bytes, DEBUG_FREED, first, &last);

	/* All of it: given back meanwhile, perhaps, and then zeros. */
	if (n == bytes && differ(p, bytes, 0, &at, &last) == 0)
		return 0;
	return n;
}

/* Bytes from a heap offset on, page by page. */
static void look_at_all(const unsigned char *bytes, uint64_t start, uint64_t length, struct debug_damage *ret)
{
	uint64_t end = start + length, next;

	memset(ret, 0, sizeof(*ret));
	for (uint64_t at = start; at < end; at = next) {
		uint64_t first = 0;
		uint32_t n;

		next = (at / PAGE_SIZE + 1) * PAGE_SIZE;
		next = next < end ? next : end;
		n = look_at_part(bytes + (at - start), next - at, &first);
		if (n && !ret->bytes)
			ret->at = (int64_t)(at - start + first);
		ret->bytes += n;
	}
	if (ret->bytes)
		ret->what = DEBUG_WRITTEN;
}

void debug_look_inside(const struct arena *a, uint64_t offset, const struct debug_head *head, struct debug_damage *ret)
{
	look_at_all((const unsigned char *)a->heap + offset + head->front, offset + head->front, head->size, ret);
}

void debug_look_inside_copy(const struct arena *a, uint64_t offset, const struct debug_head *head,
			    struct debug_damage *ret)
{
	unsigned char bytes[DEBUG_TAIL_MAX];
	uint64_t length = head->size < sizeof(bytes) ? head->size : sizeof(bytes), start = offset + head->front;

	memset(ret, 0, sizeof(*ret));
	if (arena_read(a, a->g.heap + start, bytes, length) == (int64_t)length)
		look_at_all(bytes, start, length, ret);
}
