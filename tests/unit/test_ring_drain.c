/* SPDX-License-Identifier: Apache-2.0 */
/* Draining the log ring to a disk that is memory of this test: each record there once, or counted as lost. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../seed.h"
#include "arena_file.h"
#include "client.h"
#include "recovery.h"
#include "ring_piece.h"
#include "thread.h"
#include "words.h"

#define IDS 400000u
#define BIG 20000u /* a large record */

static struct arena a;
static struct ring_view v;
static struct ring_drain *d;
static struct ring_batch *batch, *said;
static unsigned char *stored; /* by id: how often */
static uint64_t next_id, on_disk, lost, large_bytes;

/* ---- the stage ---- */

static void open_arena(uint64_t log_capacity)
{
	struct arena_config config = { .name = "drain",
				       .capacity = UINT64_C(64) << 20,
				       .log_capacity = log_capacity,
				       .backing = BACKING_MEMFD };
	struct arena_files files;

	ck_assert_int_eq(arena_create(&config, &files), 0);
	ck_assert_int_eq(arena_map(&a, files, false), 0);
	ck_assert_int_eq(thread_attach_arena(&a), 0);
	ck_assert(ring_view(&a, &v));
	batch = calloc(1, sizeof(*batch));
	said = calloc(1, sizeof(*said));
	stored = calloc(IDS, 1);
	ck_assert(batch && said && stored);
	next_id = on_disk = lost = large_bytes = 0;
}

static struct thread_block *self(void)
{
	int err = 0;
	struct thread_block *tb = thread_self(&a, &err);

	if (!tb)
		abort();
	return tb;
}

static void open_drain(void)
{
	self();
	ck_assert_int_eq(ring_drain_open(&a, &d), 0);
	ck_assert_int_eq(ring_drain_consume(d), 0);
}

static void setup(void)
{
	open_arena(UINT64_C(64) << 10);
	open_drain();
}

static void setup_wide(void)
{
	open_arena(UINT64_C(4) << 20);
	open_drain();
}

static void close_all(void)
{
	char why[128];

	ring_drain_close(d, true);
	ck_assert_msg(ring_valid(&a, why, sizeof(why)), "%s", why);
	free(batch);
	free(said);
	free(stored);
	thread_detach_arena(&a);
	arena_unmap(&a);
}

static void fill(char *data, size_t len)
{
	uint64_t id = next_id++;

	if (id >= IDS)
		abort();
	memset(data, (int)(id % 251), len);
	memcpy(data, &id, sizeof(id));
}

static void put(size_t len)
{
	static char data[RING_RECORD_MAX];

	fill(data, len);
	if (ring_append(&a, self(), 6, data, len))
		abort();
}

static uint32_t my_block(void)
{
	return self()->ring.levels[0].block;
}

static enum ring_state state_of(uint32_t block)
{
	return ring_word_state(atomic_load(&v.words[block]));
}

/* ---- the disk ---- */

/* Checks of the framework cost a system call each. */
static void must(bool holds, const char *what, uint64_t which)
{
	if (!holds)
		ck_abort_msg("%s %lu", what, (unsigned long)which);
}

static void store_payload(const char *data, size_t len)
{
	uint64_t id;

	must(len >= sizeof(id), "a record is too short", len);
	memcpy(&id, data, sizeof(id));
	must(id < next_id, "nobody wrote record", id);
	for (size_t i = sizeof(id); i < len; i++)
		must((unsigned char)data[i] == id % 251, "wrong bytes in record", id);
	must(!stored[id]++, "there again is record", id);
	on_disk++;
}

/* The large piece of a record at a place; they precede the piece of the record. */
static const struct ring_piece *large_of(const struct ring_batch *b, uint32_t piece, uint32_t at)
{
	while (piece-- && b->pieces[piece].kind == RING_PIECE_LARGE)
		if (b->pieces[piece].from == at)
			return &b->pieces[piece];
	ck_abort_msg("a large record without its payload");
	return NULL;
}

static void store_records(const struct ring_batch *b, uint32_t i)
{
	const struct ring_piece *p = &b->pieces[i];
	bool shared = p->kind == RING_PIECE_SHARED;
	uint32_t author = shared ? sizeof(struct ring_author) : 0, n = 0, slot = 0;
	size_t at = 0;

	while (at < p->bytes) {
		const char *record = (const char *)p->data + at + author;
		struct ring_record head;

		must(ring_piece_record(record, (uint32_t)(p->bytes - at - author), &head),
		     "no record at", at);
		while (shared && !ring_bit(p->slots, slot))
			slot++;
		if (head.info & RING_INFO_LARGE) {
			const struct ring_piece *large =
				large_of(b, i, shared ? slot : p->from + (uint32_t)at);

			ck_assert_uint_eq(large->bytes, ring_info_length(head.info));
			store_payload(large->data, large->bytes);
			large_bytes += large->bytes;
		} else {
			store_payload(record + sizeof(head), ring_info_length(head.info));
		}
		at += (author + ring_info_bytes(head.info) + (shared ? 15 : 0)) & ~(shared ? 15u : 0u);
		slot++;
		n++;
	}
	ck_assert_uint_eq(at, p->bytes);
	ck_assert_uint_eq(n, p->records);
}

static void store(const struct ring_batch *b)
{
	for (uint32_t i = 0; i < b->count; i++) {
		const struct ring_piece *p = &b->pieces[i];

		lost += p->lost;
		if (p->kind == RING_PIECE_OWN || p->kind == RING_PIECE_SHARED)
			store_records(b, i);
	}
}

static int drain_once(uint64_t max_bytes, bool open)
{
	int n = ring_drain_gather(d, batch, max_bytes, open);

	ck_assert_int_ge(n, 0);
	store(batch);
	ring_drain_written(d, batch);
	return n;
}

static void drain_all(void)
{
	while (drain_once(UINT64_C(1) << 20, true))
		;
}

static void all_accounted_for(void)
{
	drain_all();
	ck_assert_uint_eq(on_disk + lost, next_id);
}

/* ---- blocks of one thread ---- */

START_TEST(a_sealed_block_is_drained_from_where_it_stands)
{
	const char *data;
	uint32_t block;

	put(100);
	put(200);
	block = my_block();
	ring_thread_exit(&a, self());
	ck_assert_int_eq(ring_drain_gather(d, batch, 1 << 20, false), 1);
	data = arena_at(&a, ring_block_at(&v, block));
	ck_assert_ptr_eq(batch->pieces[0].data, data);
	ck_assert_uint_eq(batch->pieces[0].client, a.client);
	ck_assert_uint_eq(batch->pieces[0].done, 2);
	ck_assert_int_eq(state_of(block), RING_DRAINING);
	ck_assert_uint_eq(atomic_load(&v.heads[block].consumed), 0);
	store(batch);
	ring_drain_written(d, batch);
	ck_assert_int_eq(state_of(block), RING_SEALED);
	ck_assert_uint_eq(atomic_load(&v.heads[block].consumed), 2);
	ck_assert_uint_eq(on_disk, 2);
	ck_assert_int_eq(ring_drain_gather(d, batch, 1 << 20, true), 0);
}
END_TEST

START_TEST(an_open_block_is_drained_in_parts)
{
	put(10);
	ck_assert_int_eq(drain_once(1 << 20, false), 0);
	ck_assert_int_eq(drain_once(1 << 20, true), 1);
	ck_assert_int_eq(drain_once(1 << 20, true), 0);
	put(10);
	put(sizeof(uint64_t));
	ck_assert_int_eq(drain_once(1 << 20, true), 1);
	put(30);
	ring_thread_exit(&a, self());
	ck_assert_int_eq(drain_once(1 << 20, false), 1);
	ck_assert_uint_eq(on_disk, 4);
	ck_assert_uint_eq(lost, 0);
}
END_TEST

START_TEST(blocks_come_in_order_of_their_leases)
{
	uint64_t last = 0;

	for (int i = 0; i < 100; i++)
		put(900);
	for (;;) {
		int n = ring_drain_gather(d, batch, 3000, false);

		if (!n)
			break;
		for (int i = 0; i < n; i++) {
			ck_assert_uint_gt(batch->pieces[i].ticket, last);
			last = batch->pieces[i].ticket;
		}
		store(batch);
		ring_drain_written(d, batch);
	}
	all_accounted_for();
	ck_assert_uint_gt(last, 10);
}
END_TEST

START_TEST(what_is_held_is_not_overwritten_and_is_a_quarter_at_most)
{
	uint32_t held[64], count;

	for (uint32_t i = 0; i < v.blocks * 3; i++)
		put(900);
	count = (uint32_t)ring_drain_gather(d, batch, 1 << 20, true);
	ck_assert_uint_ge(count, v.blocks / 4);
	for (uint32_t i = count = 0; i < batch->count; i++)
		if (batch->pieces[i].held)
			held[count++] = batch->pieces[i].block;
	ck_assert_uint_eq(count, v.blocks / 4);
	for (int i = 0; i < 1000; i++)
		put(900);
	for (uint32_t i = 0; i < count; i++)
		ck_assert_int_eq(state_of(held[i]), RING_DRAINING);
	store(batch); /* compares contents */
	ring_drain_written(d, batch);
	for (int i = 0; i < 1000; i++)
		put(900);
	for (uint32_t i = 0; i < count; i++)
		ck_assert_int_ne(state_of(held[i]), RING_DRAINING);
	all_accounted_for();
	ck_assert_uint_gt(lost, 0);
}
END_TEST

START_TEST(what_is_released_is_gathered_again)
{
	put(10);
	ck_assert_int_eq(ring_drain_gather(d, batch, 1 << 20, true), 1);
	ring_drain_release(d, batch, true);
	ring_thread_exit(&a, self());
	ck_assert_int_eq(ring_drain_gather(d, batch, 1 << 20, true), 1);
	ring_drain_release(d, batch, true);
	ck_assert_uint_eq(batch->count, 0);
	all_accounted_for();
	ck_assert_uint_eq(on_disk, 1);
}
END_TEST

START_TEST(losses_are_exact_over_many_laps)
{
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 37 * round; i++)
			put(8 + (size_t)i % 800);
		drain_once(6000, round % 3);
	}
	all_accounted_for();
	ck_assert_uint_gt(lost, 100);
	ck_assert_uint_gt(on_disk, 100);
}
END_TEST

/* A thread that ends leaves its block; what was overwritten there before is told though nothing else comes. */
START_TEST(a_loss_is_told_where_there_is_nothing_to_drain)
{
	uint32_t block;
	uint64_t word;

	put(10);
	put(10);
	block = my_block();
	ring_thread_exit(&a, self());
	word = atomic_load(&v.words[block]);
	word = ring_word(RING_RESETTING, false, a.client, 1, ring_word_lap(word) + 1);
	atomic_store(&v.words[block], word);
	ring_reset(&a, &v, block, word);
	atomic_store(&v.words[block], ring_word_empty(&v, block, word));
	ck_assert_int_eq(ring_drain_gather(d, batch, 1 << 20, true), 1);
	ck_assert_int_eq(batch->pieces[0].kind, RING_PIECE_LOST);
	ck_assert_uint_eq(batch->pieces[0].lost, 2);
	ring_drain_written(d, batch);
	ck_assert_int_eq(ring_drain_gather(d, batch, 1 << 20, true), 0);
	ck_assert_uint_eq(ring_drain_lost(d), 2);
}
END_TEST

START_TEST(damaged_records_are_counted_and_hold_nobody_up)
{
	uint32_t block, info = ~0u;

	for (int i = 0; i < 5; i++)
		put(8);
	block = my_block();
	ring_thread_exit(&a, self());
	memcpy((char *)arena_at(&a, ring_block_at(&v, block)) + 2 * 32, &info, sizeof(info));
	ck_assert_int_eq(drain_once(1 << 20, false), 1);
	ck_assert_uint_eq(on_disk, 2);
	ck_assert_uint_eq(atomic_load(&v.heads[block].consumed), 5);
	all_accounted_for();
	ck_assert_uint_eq(lost, 3);
	memset(arena_at(&a, ring_block_at(&v, block)), 0, ring_block_bytes(&v)); /* for the check at the end */
	atomic_store(&v.heads[block].committed,
		     ring_committed(ring_word_lap(atomic_load(&v.words[block])), false));
}
END_TEST

/* ---- shared blocks and large records ---- */

START_TEST(shared_records_are_drained_once_each_as_they_are_done)
{
	struct ring_open open[RING_LEVELS + 1];

	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_reserve(&a, self(), &open[i], 6, 10), 0);
	put(100);
	ck_assert_int_eq(ring_reserve(&a, self(), &open[RING_LEVELS], 6, 50), 0); /* among the shared */
	put(8);
	put(70);
	ck_assert_int_gt(drain_once(1 << 20, true), 0);
	ck_assert_uint_eq(on_disk, 3);
	ck_assert_int_eq(drain_once(1 << 20, true), 0);
	put(9);
	fill(open[RING_LEVELS].data, 50);
	open[RING_LEVELS].len = 20; /* shorter than its place */
	ck_assert_int_eq(ring_commit(&a, self(), &open[RING_LEVELS]), 0);
	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_abort(&a, self(), &open[i]), 0);
	drain_all();
	ck_assert_uint_eq(on_disk, 5);
	ck_assert_uint_eq(lost, 0);
}
END_TEST

START_TEST(a_shared_block_is_passed_when_its_records_are_drained)
{
	struct ring_open open[RING_LEVELS];

	atomic_store(&a.header->log_policy, RING_DROP);
	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_reserve(&a, self(), &open[i], 6, 10), 0);
	/* Some laps of the ring through shared blocks: there is always room. */
	for (int i = 0; i < 2000; i++) {
		put(200);
		if (i % 50 == 49)
			drain_once(1 << 20, false);
	}
	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_abort(&a, self(), &open[i]), 0);
	all_accounted_for();
	ck_assert_uint_eq(lost, 0);
}
END_TEST

static void some_large(bool shared)
{
	struct ring_open open[RING_LEVELS];

	for (uint32_t i = 0; shared && i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_reserve(&a, self(), &open[i], 6, 10), 0);
	for (int i = 0; i < 6; i++)
		put(i % 2 ? BIG : 100);
	drain_once(1 << 20, true);
	put(BIG + 1);
	for (uint32_t i = 0; shared && i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_abort(&a, self(), &open[i]), 0);
	all_accounted_for();
	ck_assert_uint_eq(lost, 0);
	ck_assert_uint_eq(large_bytes, 4 * BIG + 1);
}

START_TEST(a_large_records_payload_precedes_it)
{
	some_large(false);
}
END_TEST

START_TEST(a_large_shared_records_payload_precedes_it)
{
	some_large(true);
}
END_TEST

/* So many large payloads that they go in two runs: what is lost goes with the first alone. */
START_TEST(losses_in_a_shared_block_are_told_once_for_all_its_runs)
{
	struct ring_open open[RING_LEVELS];
	uint32_t info = ~0u, good, *first;

	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_reserve(&a, self(), &open[i], 6, 10), 0);
	put(8);
	first = arena_at(&a, ring_block_at(&v, atomic_load(&v.header->shared) - 1) +
				     sizeof(struct ring_author));
	good = *first;
	*first = info;
	for (int i = 0; i < 3; i++)
		put(800000);
	ck_assert_int_ge(drain_once(1 << 22, true), 5);
	all_accounted_for();
	ck_assert_uint_eq(on_disk, 3);
	ck_assert_uint_eq(lost, 1);
	*first = good;
	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_abort(&a, self(), &open[i]), 0);
}
END_TEST

START_TEST(a_large_record_is_not_freed_while_its_block_is_held)
{
	put(BIG);
	ring_thread_exit(&a, self());
	ck_assert_int_eq(ring_drain_gather(d, batch, 1 << 20, false), 2);
	for (int i = 0; i < 3000; i++)
		put(900);
	store(batch);
	ring_drain_written(d, batch);
	all_accounted_for();
	ck_assert_uint_eq(large_bytes, BIG);
}
END_TEST

/* ---- the next drain ---- */

/* As if the process had died: what it held is recovered, nobody tells the ring anything. */
static void die(void)
{
	for (uint32_t i = 0; i < v.blocks; i++)
		if (state_of(i) == RING_DRAINING)
			atomic_store(&v.words[i],
				     ring_word_in(atomic_load(&v.words[i]), RING_SEALED));
	ring_drain_release(d, batch, false);
	atomic_store(&v.header->consumer, 0);
	ring_drain_close(d, false);
	ck_assert_int_eq(ring_drain_open(&a, &d), 0);
}

/* Writes a batch and dies before it says so; the next finds it where it was written. */
static void write_and_die(uint64_t max_bytes, bool open)
{
	ck_assert_int_ge(ring_drain_gather(d, batch, max_bytes, open), 0);
	store(batch);
	*said = *batch;
	die();
	for (uint32_t i = 0; i < said->count; i++)
		ring_drain_note(d, &said->pieces[i]);
	ck_assert_int_eq(ring_drain_consume(d), 0);
}

START_TEST(what_a_killed_drain_had_written_is_not_written_again)
{
	uint32_t block;

	put(10);
	put(11);
	block = my_block();
	write_and_die(1 << 20, true);
	ck_assert_uint_eq(atomic_load(&v.heads[block].consumed), 2);
	put(12);
	ring_thread_exit(&a, self());
	write_and_die(1 << 20, false);
	ck_assert_uint_eq(atomic_load(&v.heads[block].consumed), 3);
	all_accounted_for();
	ck_assert_uint_eq(on_disk, 3);
}
END_TEST

START_TEST(what_a_killed_drain_had_not_written_is_written_by_the_next)
{
	put(10);
	ring_thread_exit(&a, self());
	ck_assert_int_eq(ring_drain_gather(d, batch, 1 << 20, true), 1);
	die();
	ck_assert_int_eq(ring_drain_consume(d), 0);
	all_accounted_for();
	ck_assert_uint_eq(on_disk, 1);
}
END_TEST

START_TEST(a_killed_drains_shared_records_are_not_written_again)
{
	struct ring_open open[RING_LEVELS];

	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_reserve(&a, self(), &open[i], 6, 10), 0);
	put(100);
	put(101);
	write_and_die(1 << 20, true);
	put(102);
	write_and_die(1 << 20, true);
	for (uint32_t i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(ring_abort(&a, self(), &open[i]), 0);
	all_accounted_for();
	ck_assert_uint_eq(on_disk, 3);
}
END_TEST

/* The block held by the dead is sealed only after its successor has begun. */
START_TEST(a_block_that_is_recovered_late_is_not_written_again)
{
	uint32_t block;
	uint64_t held;

	put(10);
	drain_all();
	put(11);
	block = my_block();
	ring_thread_exit(&a, self());
	ck_assert_int_eq(ring_drain_gather(d, batch, 1 << 20, true), 1);
	store(batch);
	*said = *batch;
	held = atomic_load(&v.words[block]);
	die();
	atomic_store(&v.words[block], held);
	ring_drain_note(d, &said->pieces[0]);
	ck_assert_int_eq(ring_drain_consume(d), 0);
	ck_assert_int_eq(drain_once(1 << 20, true), 0);
	atomic_store(&v.words[block], ring_word_in(held, RING_SEALED));
	all_accounted_for();
	ck_assert_uint_eq(on_disk, 2);
}
END_TEST

START_TEST(what_is_overwritten_while_there_is_no_drain_is_counted)
{
	for (int i = 0; i < 10; i++)
		put(900);
	write_and_die(2000, true);
	for (int i = 0; i < 2000; i++)
		put(700);
	write_and_die(3000, true);
	for (int i = 0; i < 20; i++)
		put(700);
	all_accounted_for();
	ck_assert_uint_gt(lost, 1000);
}
END_TEST

/* One step of a random life. */
static void any_step(struct ring_open *open, bool *reserved)
{
	switch (random() % 16) {
	case 0:
		if (*reserved)
			ck_assert_int_eq(ring_abort(&a, self(), open), 0);
		else
			ck_assert_int_eq(ring_reserve(&a, self(), open, 6, (size_t)random() % 900 + 8), 0);
		*reserved = !*reserved;
		break;
	case 1:
		if (*reserved) {
			fill(open->data, open->len);
			ck_assert_int_eq(ring_commit(&a, self(), open), 0);
			*reserved = false;
		}
		break;
	case 2: atomic_store(&v.heads[my_block()].close, 1); break;
	case 3: write_and_die((uint64_t)random() % 20000, random() % 2); break;
	case 4:
		ck_assert_int_ge(ring_drain_gather(d, batch, (uint64_t)random() % 20000, true), 0);
		die();
		ck_assert_int_eq(ring_drain_consume(d), 0);
		break;
	case 5:
		ck_assert_int_ge(ring_drain_gather(d, batch, 9000, true), 0);
		for (long i = random() % 100; i; i--)
			put((size_t)random() % 600 + 8);
		store(batch);
		ring_drain_written(d, batch);
		break;
	case 6: put(BIG); break;
	case 7:
	case 8: drain_once((uint64_t)random() % 20000, random() % 2); break;
	default:
		for (long i = random() % 40; i; i--)
			put((size_t)random() % 600 + 8);
	}
}

START_TEST(every_record_is_drained_once_or_counted_whatever_happens)
{
	struct ring_open open;
	bool reserved = false;

	srandom((unsigned)test_seed("every_record_is_drained_once_or_counted_whatever_happens"));
	for (int i = 0; i < 6000; i++)
		any_step(&open, &reserved);
	if (reserved)
		ck_assert_int_eq(ring_abort(&a, self(), &open), 0);
	all_accounted_for();
	ck_assert_uint_gt(on_disk, 1000);
	ck_assert_uint_gt(lost, 100);
}
END_TEST

/* ---- the consumer ---- */

START_TEST(there_is_one_consumer)
{
	struct ring_reader *r;
	struct ring_drain *other;

	ck_assert_int_eq(ring_reader_open(&a, &r, RING_CONSUMER), -EBUSY);
	ring_drain_resign(d);
	ck_assert_int_eq(ring_reader_open(&a, &r, RING_CONSUMER), 0);
	ck_assert_int_eq(ring_drain_open(&a, &other), 0);
	ck_assert_int_eq(ring_drain_consume(other), -EBUSY);
	ring_reader_close(r);
	ck_assert_int_eq(ring_drain_consume(other), 0);
	ck_assert_int_eq(ring_drain_consume(other), 0);
	ring_drain_close(other, true);
}
END_TEST

START_TEST(the_drain_goes_on_behind_another_consumer)
{
	struct ring_reader *r;
	struct ring_entry e;

	for (int i = 0; i < 10; i++)
		put(100);
	ring_drain_resign(d);
	ck_assert_int_eq(ring_reader_open(&a, &r, RING_CONSUMER), 0);
	for (int i = 0; i < 7; i++)
		ck_assert_int_eq(ring_reader_next(r, &e, 0), 1);
	ring_reader_close(r);
	ck_assert_int_eq(ring_drain_consume(d), 0);
	drain_all();
	ck_assert_uint_eq(on_disk, 3);
	ck_assert_uint_eq(lost, 0);
}
END_TEST

START_TEST(under_drop_nothing_goes_until_it_is_written_and_then_there_is_room)
{
	static char data[900];
	uint64_t records = 0;

	atomic_store(&a.header->log_policy, RING_DROP);
	do
		fill(data, sizeof(data));
	while (!ring_append(&a, self(), 6, data, sizeof(data)) && ++records);
	next_id--;
	ck_assert_int_gt(ring_drain_gather(d, batch, 1 << 20, false), 0);
	fill(data, sizeof(data));
	ck_assert_int_eq(ring_append(&a, self(), 6, data, sizeof(data)), -EAGAIN);
	next_id--;
	store(batch);
	ring_drain_written(d, batch);
	put(900);
	all_accounted_for();
	ck_assert_uint_eq(lost, 0);
	ck_assert_uint_eq(on_disk, records + 1);
}
END_TEST

START_TEST(nothing_is_full_for_a_drain_that_gave_up)
{
	atomic_store(&a.header->log_policy, RING_DROP);
	ring_drain_resign(d);
	for (int i = 0; i < 1000; i++)
		put(900);
	ck_assert_int_eq(ring_drain_consume(d), 0);
	all_accounted_for();
	ck_assert_uint_gt(lost, 500);
}
END_TEST

static void add_tests(Suite *suite, const char *name, void (*before)(void))
{
	TCase *c = tcase_create(name);

	tcase_add_checked_fixture(c, before, close_all);
	tcase_add_test(c, a_sealed_block_is_drained_from_where_it_stands);
	tcase_add_test(c, an_open_block_is_drained_in_parts);
	tcase_add_test(c, what_is_released_is_gathered_again);
	tcase_add_test(c, a_loss_is_told_where_there_is_nothing_to_drain);
	tcase_add_test(c, damaged_records_are_counted_and_hold_nobody_up);
	tcase_add_test(c, shared_records_are_drained_once_each_as_they_are_done);
	if (before == setup_wide) { /* else large records retire what was not drained */
		tcase_add_test(c, a_large_records_payload_precedes_it);
		tcase_add_test(c, a_large_shared_records_payload_precedes_it);
		tcase_add_test(c, losses_in_a_shared_block_are_told_once_for_all_its_runs);
	}
	tcase_add_test(c, what_a_killed_drain_had_written_is_not_written_again);
	tcase_add_test(c, what_a_killed_drain_had_not_written_is_written_by_the_next);
	tcase_add_test(c, a_killed_drains_shared_records_are_not_written_again);
	tcase_add_test(c, a_block_that_is_recovered_late_is_not_written_again);
	tcase_add_test(c, there_is_one_consumer);
	tcase_add_test(c, the_drain_goes_on_behind_another_consumer);
	suite_add_tcase(suite, c);
}

int main(void)
{
	Suite *suite = suite_create("ring drain");
	TCase *small = tcase_create("laps");
	SRunner *runner;
	int failed;

	add_tests(suite, "small", setup);
	add_tests(suite, "wide", setup_wide);
	tcase_add_checked_fixture(small, setup, close_all);
	tcase_add_test(small, blocks_come_in_order_of_their_leases);
	tcase_add_test(small, what_is_held_is_not_overwritten_and_is_a_quarter_at_most);
	tcase_add_test(small, losses_are_exact_over_many_laps);
	tcase_add_test(small, a_shared_block_is_passed_when_its_records_are_drained);
	tcase_add_test(small, a_large_record_is_not_freed_while_its_block_is_held);
	tcase_add_test(small, what_is_overwritten_while_there_is_no_drain_is_counted);
	tcase_add_test(small, every_record_is_drained_once_or_counted_whatever_happens);
	tcase_add_test(small, under_drop_nothing_goes_until_it_is_written_and_then_there_is_room);
	tcase_add_test(small, nothing_is_full_for_a_drain_that_gave_up);
	suite_add_tcase(suite, small);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
