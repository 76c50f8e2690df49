/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log, written by workers' threads, read by them, and accounted for by the ledger: each record whole,
 * those of one writer in order, and as many read and lost as were written.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "soak_work.h"

/* ---- writing ---- */

static struct writer *writer_of(struct thread *t)
{
	if (!t->writer) {
		t->writer = atomic_fetch_add(&account->next_writer, 1);
		if (t->writer >= WRITERS_MAX)
			lost("more than %d writers", WRITERS_MAX);
		t->number = 0;
		account->writers[t->writer].round = account->round;
		atomic_store(&account->writers[t->writer].life, t->life);
	}
	return &account->writers[t->writer];
}

static uint32_t draw_length(struct thread *t)
{
	uint32_t kind = draw(&t->seed, 200);

	if (kind < 170)
		return (uint32_t)sizeof(struct record_head) + draw(&t->seed, 200);
	if (kind < 199)
		return (uint32_t)sizeof(struct record_head) + draw(&t->seed, 3000);
	return (uint32_t)sizeof(struct record_head) + draw(&t->seed, 60000);
}

/* The record that comes next is begun, and was written. */
static uint32_t try_next(struct thread *t)
{
	atomic_store(&writer_of(t)->trying, t->number + 1);
	return t->number + 1;
}

static void wrote(struct thread *t, int r, const char *how)
{
	if (r == 0)
		atomic_store(&writer_of(t)->committed, ++t->number);
	else if (r != -ENOMEM && !(r == -EAGAIN && account->policy == SHMA_LOG_DROP) &&
		 !(r == -EDQUOT && account->quota))
		lost("%s: %s", how, shma_strerror(r));
}

static void write_one(struct thread *t)
{
	static __thread char data[65536];
	uint32_t len = draw_length(t), number = try_next(t);

	record_fill(data, t->writer, number, len);
	wrote(t, shma_log_write(self, 6, data, len), "log");
}

/* Reserved, perhaps with another record in between, then committed or given up. */
static void write_reserved(struct thread *t)
{
	uint32_t len = draw_length(t);
	struct shma_record rec;
	int r = shma_log_reserve(self, &rec, 5, len);

	if (r) {
		if (r == -EAGAIN || r == -ENOMEM || r == -EDQUOT)
			return wrote(t, r, "reserve");
		lost("reserve: %s", shma_strerror(r));
	}
	if (draw(&t->seed, 4) == 0)
		write_one(t);
	if (draw(&t->seed, 8) == 0) {
		r = shma_log_abort(self, &rec);
		if (r)
			lost("abort: %s", shma_strerror(r));
		return;
	}
	record_fill(rec.data, t->writer ? t->writer : (writer_of(t), t->writer), try_next(t), len);
	wrote(t, shma_log_commit(self, &rec), "commit");
}

/* ---- reading, by workers ---- */

void reader_end(struct thread *t)
{
	if (t->reader)
		shma_reader_close(t->reader);
	t->reader = NULL;
}

static void read_some(struct thread *t)
{
	struct shma_record rec;
	struct record_head head;
	uint32_t count = draw(&t->seed, 100);
	int r = 1;

	if (!t->reader) {
		r = shma_reader_open(self, &t->reader,
				     draw(&t->seed, 2) ? SHMA_FROM_NOW : SHMA_FROM_OLDEST);
		if (r)
			lost("reader: %s", shma_strerror(r));
		r = 1;
	}
	while (count-- && r == 1) {
		r = shma_reader_next(t->reader, &rec, (int)draw(&t->seed, 3));
		if (r < 0)
			lost("read of the log: %s", shma_strerror(r));
		if (r == 1 && !record_whole(rec.data, rec.len, &head))
			lost("a reader got a record of %zu bytes that is not whole", rec.len);
	}
	if (draw(&t->seed, 4) == 0)
		reader_end(t);
}

void do_log(struct thread *t)
{
	if (draw(&t->seed, 60) == 0) {
		op_begin(t, OP_READ_LOG, NOTHING, 0, NOTHING, NOTHING);
		read_some(t);
	} else {
		op_begin(t, OP_LOG, NOTHING, 0, NOTHING, NOTHING);
		if (draw(&t->seed, 6) == 0)
			write_reserved(t);
		else
			write_one(t);
	}
	op_end(t);
}

/* ---- the ledger ---- */

static void enter(const struct shma_record *rec)
{
	struct record_head head;
	struct writer *w;

	if (!record_whole(rec->data, rec->len, &head))
		lost("the ledger got a record of %zu bytes that is not whole", rec->len);
	w = &account->writers[head.writer];
	if (head.writer < account->first_writer ||
	    head.writer >= atomic_load(&account->next_writer))
		lost("a record of writer %u, who never was in this arena", head.writer);
	if (head.number > atomic_load(&w->trying))
		lost("record %u of writer %u was never written", head.number, head.writer);
	if (!rec->late && head.number <= atomic_load(&w->last))
		lost("record %u of writer %u comes after %u", head.number, head.writer,
		     atomic_load(&w->last));
	if (!rec->late && rec->seq <= atomic_load(&w->last_seq))
		lost("sequence %llu of writer %u comes after %u", (unsigned long long)rec->seq,
		     head.writer, atomic_load(&w->last_seq));
	atomic_fetch_add(&w->received, 1);
	atomic_fetch_add(&w->late, (uint32_t)(rec->late != 0));
	if (head.number > atomic_load(&w->last))
		atomic_store(&w->last, head.number);
	if (rec->seq > atomic_load(&w->last_seq))
		atomic_store(&w->last_seq, (uint32_t)rec->seq);
	if (rec->lost && account->policy == SHMA_LOG_BLOCK)
		lost("%llu records lost where writers wait", (unsigned long long)rec->lost);
	atomic_fetch_add(&account->ledger_got, 1);
	atomic_fetch_add(&account->ledger_lost, rec->lost);
}

/* Opens the arena, however long the daemon is away. */
static void attach(void)
{
	struct shma_options opt = { .struct_size = sizeof(opt), .socket = account->socket };
	int r;

	while ((r = shma_open(&self, account->arena, 0, &opt))) {
		if (r != -ECONNREFUSED && r != -ENOENT && r != -ECONNRESET && r != -ETIMEDOUT &&
		    r != -EPIPE)
			lost("the ledger cannot attach: %s", shma_strerror(r));
		usleep(2000);
	}
}

void ledger(void)
{
	struct shma_reader *reader;
	struct shma_record rec;
	uint32_t asked, dry_asked = 0, dry = 0;
	int r;

	attach();
	r = shma_reader_open(self, &reader, SHMA_CONSUMER | SHMA_FROM_OLDEST);
	if (r)
		lost("the ledger cannot read: %s", shma_strerror(r));
	atomic_store(&account->drained, 1);
	for (;;) {
		asked = atomic_load(&account->drain);
		r = shma_reader_next(reader, &rec, 15);
		if (r < 0)
			lost("the ledger reads: %s", shma_strerror(r));
		if (r == 1) {
			enter(&rec);
			dry = 0;
			continue;
		}
		dry = asked == dry_asked ? dry + 1 : 1;
		dry_asked = asked;
		if (dry >= 2) {
			/* What no next record will tell; asking again tells it again. */
			atomic_store(&account->ledger_pending, rec.lost);
			atomic_store(&account->drained, asked);
		}
		if (atomic_load(&account->ledger_end))
			break;
	}
	shma_reader_close(reader);
	shma_close(self);
	_exit(0);
}
