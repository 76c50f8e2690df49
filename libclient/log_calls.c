/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls on the log ring. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "attach.h"
#include "client.h"
#include "log_inside.h"
#include "recovery.h"
#include "ring.h"
#include "thread.h"

#define FORMAT_BYTES 512 /* longer ones are formatted in place, a second time */

_Static_assert(RING_RECORD_MAX == SHMA_RECORD_MAX, "record size");
_Static_assert((int)RING_OVERWRITE == SHMA_LOG_OVERWRITE && (int)RING_DROP == SHMA_LOG_DROP &&
		       (int)RING_BLOCK == SHMA_LOG_BLOCK, "policies");
_Static_assert((int)CLOCK_KIND_EXACT == SHMA_LOG_EXACT && (int)CLOCK_KIND_COARSE == SHMA_LOG_COARSE,
	       "clocks");
_Static_assert(RING_FROM_OLDEST == SHMA_FROM_OLDEST && RING_FROM_NOW == SHMA_FROM_NOW &&
		       RING_CONSUMER == SHMA_CONSUMER, "reader flags");

/* A thread's first log call in an arena, the only one that is not async-signal-safe. */
static __attribute__((noinline)) struct thread_block *first_call(shma *s, int *err)
{
	int saved = errno;
	struct thread_block *tb = thread_self(&s->arena, err);

	/* What dead clients have leased comes back, where no daemon sees to it. */
	if (tb)
		recovery_tick(&s->arena);
	errno = saved;
	return tb;
}

static inline struct thread_block *writer_of(shma *s, int *err)
{
	struct thread_block *tb = thread_peek(&s->arena);

	return __builtin_expect(tb != NULL, 1) ? tb : first_call(s, err);
}

int shma_log_write(shma *s, int level, const void *data, size_t len)
{
	int err = 0;
	struct thread_block *tb = writer_of(s, &err);

	return tb ? ring_append(&s->arena, tb, level, data, len) : err;
}

int log_write_fields(shma *s, int level, const void *data, size_t len)
{
	int err = 0;
	struct thread_block *tb = writer_of(s, &err);

	return tb ? ring_append_fields(&s->arena, tb, level, data, len) : err;
}

/* ---- reserve and commit ---- */

static void to_record(shma *s, const struct thread_block *tb, const struct ring_open *open,
		      struct shma_record *rec)
{
	rec->data = open->data;
	rec->len = open->len;
	rec->pid = atomic_load_explicit(&client_record_at(&s->arena, s->arena.client)->pid,
					memory_order_relaxed);
	rec->tid = tb->tid;
	for (int i = 0; i < 3; i++)
		rec->priv[i] = open->place[i];
	rec->priv[3] = 0;
}

static int reserve(shma *s, struct shma_record *rec, int level, size_t len,
		   int (*how)(struct arena *, struct thread_block *, struct ring_open *, int, size_t))
{
	int err = 0, r;
	struct thread_block *tb = writer_of(s, &err);
	struct ring_open open;

	if (!tb)
		return err;
	r = how(&s->arena, tb, &open, level, len);
	if (r)
		return r;
	*rec = (struct shma_record){ .level = level };
	to_record(s, tb, &open, rec);
	return 0;
}

int shma_log_reserve(shma *s, struct shma_record *rec, int level, size_t len)
{
	return reserve(s, rec, level, len, ring_reserve);
}

int log_reserve_fields(shma *s, struct shma_record *rec, int level, size_t len)
{
	return reserve(s, rec, level, len, ring_reserve_fields);
}

/* No thread block: a thread that has reserved nothing, or a forked child. */
static int finish(shma *s, struct shma_record *rec,
		  int (*how)(struct arena *, struct thread_block *, struct ring_open *))
{
	struct thread_block *tb = thread_peek(&s->arena);
	struct ring_open open = { .data = rec->data, .len = rec->len };
	int r;

	if (!tb)
		return -EPERM;
	for (int i = 0; i < 3; i++)
		open.place[i] = rec->priv[i];
	r = how(&s->arena, tb, &open);
	if (r)
		return r;
	to_record(s, tb, &open, rec);
	rec->seq = open.seq;
	rec->time_ns = open.time_ns;
	return 0;
}

int shma_log_commit(shma *s, struct shma_record *rec)
{
	return finish(s, rec, ring_commit);
}

int shma_log_abort(shma *s, struct shma_record *rec)
{
	return finish(s, rec, ring_abort);
}

/* ---- formatted ---- */

/* What does not fit the caller's stack: into the ring directly. The terminator is cut off again. */
static int log_long(shma *s, int level, size_t len, const char *fmt, va_list args)
{
	struct shma_record rec;
	int r;

	if (len > SHMA_RECORD_MAX - 1)
		return -EMSGSIZE;
	r = shma_log_reserve(s, &rec, level, len + 1);
	if (r)
		return r;
	vsnprintf(rec.data, len + 1, fmt, args);
	rec.len = len;
	return shma_log_commit(s, &rec);
}

int shma_log(shma *s, int level, const char *fmt, ...)
{
	char text[FORMAT_BYTES];
	int saved = errno, len, r; /* errno: for %m in fmt, and the caller's to keep */
	va_list args, again;

	va_start(args, fmt);
	va_copy(again, args);
	len = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (len < 0)
		r = -EINVAL;
	else if ((size_t)len < sizeof(text))
		r = shma_log_write(s, level, text, (size_t)len);
	else {
		errno = saved;
		r = log_long(s, level, (size_t)len, fmt, again);
	}
	va_end(again);
	errno = saved;
	return r;
}

/* ---- terms ---- */

int shma_log_policy(shma *s, int policy)
{
	int before = (int)ring_policy(&s->arena), r;

	if (policy < 0)
		return before;
	if (policy > SHMA_LOG_BLOCK)
		return -EINVAL;
	r = s->arena.readonly ? -EROFS : ring_set_policy(&s->arena, (enum ring_policy)policy);
	return r ? r : before;
}

int shma_log_clock(shma *s, int clock)
{
	int before = (int)ring_clock(&s->arena), r;

	if (clock < 0)
		return before;
	if (clock > SHMA_LOG_COARSE)
		return -EINVAL;
	r = s->arena.readonly ? -EROFS : ring_set_clock(&s->arena, (enum clock_kind)clock);
	return r ? r : before;
}

/* ---- readers ---- */

int shma_reader_open(shma *s, struct shma_reader **ret, unsigned flags)
{
	struct shma_reader *r;
	int result = 0;

	if (flags & SHMA_CONSUMER) {
		result = s->arena.readonly ? -EROFS : thread_become_client(&s->arena);
		if (result)
			return result;
	}
	r = malloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->s = s;
	result = ring_reader_open(&s->arena, &r->ring, flags);
	if (result)
		free(r);
	else
		*ret = r;
	return result;
}

#define SAME_PLACE(entry, record)                                                            \
	_Static_assert(offsetof(struct ring_entry, entry) == offsetof(struct shma_record, record) && \
			       sizeof(((struct ring_entry *)0)->entry) ==                         \
				       sizeof(((struct shma_record *)0)->record),                 \
		       #entry)
SAME_PLACE(data, data);
SAME_PLACE(len, len);
SAME_PLACE(level, level);
SAME_PLACE(pid, pid);
SAME_PLACE(tid, tid);
SAME_PLACE(dropped, dropped);
SAME_PLACE(time_ns, time_ns);
SAME_PLACE(seq, seq);
SAME_PLACE(lost, lost);
SAME_PLACE(late, late);
SAME_PLACE(fields, fields);
SAME_PLACE(block, priv[0]);
SAME_PLACE(lap, priv[1]);
SAME_PLACE(at, priv[2]);
SAME_PLACE(unused, priv[3]);
_Static_assert(sizeof(struct ring_entry) == sizeof(struct shma_record), "records");

int shma_reader_next(struct shma_reader *r, struct shma_record *rec, int timeout_ms)
{
	int result = ring_reader_next(r->ring, (struct ring_entry *)rec, timeout_ms);

	if (!result && !r->s->arena.readonly && thread_peek(&r->s->arena))
		recovery_tick(&r->s->arena);
	return result;
}

void shma_reader_close(struct shma_reader *r)
{
	if (!r)
		return;
	ring_reader_close(r->ring);
	free(r);
}
