/* SPDX-License-Identifier: Apache-2.0 */
/* Operations: the log ring. */
#include <errno.h>
#include <string.h>

#include "crash.h"
#include "ring_drain.h"
#include "ring_view.h"

#define USUAL	       100u
#define LONG	       900u /* more than is put together before it goes to the ring */
#define LARGE	       20000u
#define USUAL_IN_BLOCK ((uint32_t)sizeof(struct ring_record) + 104) /* rounded up */
#define BLOCKS	       20u					    /* more than the ring has */

static char data[LARGE];
static uint32_t length;
static int result;
static struct shma_record record;
static struct shma_reader *reader;
static uint64_t before;

static bool done(void)
{
	return result == 0;
}

static struct ring_level *level(void)
{
	return &my_block()->ring.levels[0];
}

static uint32_t block_left(void)
{
	return level()->head ? level()->end - (uint32_t)(level()->committed & 0x7fffff) : 0;
}

static uint64_t leases(void)
{
	struct ring_view v;

	if (!ring_view(&self->arena, &v))
		broken("the ring's header makes no sense");
	return atomic_load(&v.header->tickets);
}

/* ---- writing ---- */

static void line_of(uint32_t bytes)
{
	length = bytes;
	note_line(data, bytes, FATE_EITHER);
	before = leases();
}

static void append(void)
{
	result = shma_log_write(self, 6, data, length);
}

static void append_structured(void)
{
	struct shma_kv kv = SHMA_KV_BYTES("line", data, length);

	result = shma_log_kv(self, 6, NULL, &kv, 1);
}

static void long_record(void)
{
	write_line(USUAL);
	line_of(LONG);
}

static void change_policy(void)
{
	result = shma_log_policy(self, SHMA_LOG_DROP) < 0;
}

static void change_clock(void)
{
	result = shma_log_clock(self, SHMA_LOG_COARSE) < 0;
}

static void first_record(void)
{
	make_thing(64, 0, FATE_GONE);
	line_of(USUAL);
}

static void next_record(void)
{
	write_line(USUAL);
	line_of(USUAL);
}

static bool same_block(void)
{
	return result == 0 && leases() == before;
}

static bool new_block(void)
{
	return result == 0 && leases() > before;
}

/* The block has no room for one more. */
static void until_block_full(void)
{
	do
		write_line(USUAL);
	while (block_left() < USUAL_IN_BLOCK);
	while (block_left() >= USUAL_IN_BLOCK)
		write_line(block_left() > 1200 ? 1000 : USUAL);
}

static void block_change(void)
{
	until_block_full();
	line_of(USUAL);
}

/* Records that are overwritten are counted, not lost without a trace. */
static void go_round(void)
{
	board->account.wrapped = true;
	for (uint32_t i = 0; i < BLOCKS; i++)
		until_block_full();
}

static void wrap(void)
{
	go_round();
	line_of(USUAL);
}

static void large_record(void)
{
	write_line(USUAL);
	line_of(LARGE);
}

/* The next block to be had is the one that a large record is in. */
static void over_large(void)
{
	struct ring_view v;
	uint32_t block;

	go_round();
	write_line(USUAL);
	write_line(LARGE);
	block = level()->block;
	ring_view(&self->arena, &v);
	do
		until_block_full();
	while (atomic_load(&v.header->cursor) % v.blocks != block);
	before = leases();
	line_of(USUAL);
}

/* ---- reserving ---- */

static void reserved(void)
{
	write_line(USUAL);
	line_of(USUAL);
	result = shma_log_reserve(self, &record, 6, length);
	if (result)
		broken("cannot reserve: %s", shma_strerror(result));
	memcpy(record.data, data, length);
}

static void reserve(void)
{
	result = shma_log_reserve(self, &record, 6, length);
	if (!result)
		memcpy(record.data, data, length);
}

static void never(void)
{
	board->account.line[board->account.lines - 1].fate = FATE_GONE;
}

static void next_reserve(void)
{
	next_record();
	never();
}

static void large_reserve(void)
{
	large_record();
	never();
}

static void large_reserved(void)
{
	write_line(USUAL);
	line_of(LARGE);
	reserve();
	if (result)
		broken("cannot reserve: %s", shma_strerror(result));
}

static void reserved_to_abort(void)
{
	reserved();
	never();
}

static void large_reserved_to_abort(void)
{
	large_reserved();
	never();
}

static void commit(void)
{
	result = shma_log_commit(self, &record);
}

static void abort_it(void)
{
	result = shma_log_abort(self, &record);
}

static void both(void)
{
	reserve();
	if (!result)
		commit();
}

static void reserve_and_abort(void)
{
	reserve();
	if (!result)
		abort_it();
}

/* A record while a reserve is open goes to another block. */
static void within_reserve(void)
{
	reserved();
	never();
	line_of(USUAL);
}

/* ---- shared blocks: so many reserves are open that no block is to be had for oneself ---- */

static struct shma_record open_ones[16];

static void many_open(void)
{
	for (int i = 0; i < 8; i++) {
		uint32_t bytes = 40;

		note_line(data, bytes, FATE_GONE);
		result = shma_log_reserve(self, &open_ones[i], 6, bytes);
		if (result)
			broken("cannot reserve: %s", shma_strerror(result));
		memcpy(open_ones[i].data, data, bytes);
	}
}

static void shared_record(void)
{
	many_open();
	line_of(USUAL);
}

static void shared_reserved(void)
{
	many_open();
	line_of(USUAL);
	reserve();
	if (result)
		broken("cannot reserve: %s", shma_strerror(result));
}

static bool is_shared(void)
{
	struct ring_view v;
	bool any = false;

	ring_view(&self->arena, &v);
	for (uint32_t i = 0; i < v.blocks; i++)
		any |= ring_word_shared(atomic_load(&v.words[i]));
	return result == 0 && any;
}

/* ---- consuming ---- */

static void reader_open(void)
{
	result = shma_reader_open(self, &reader, SHMA_CONSUMER | SHMA_FROM_OLDEST);
}

static void with_records(void)
{
	for (int i = 0; i < 3; i++)
		write_line(USUAL);
}

static void with_reader(void)
{
	with_records();
	reader_open();
	if (result || shma_reader_next(reader, &record, 0) != 1)
		broken("cannot read");
}

static void reader_next(void)
{
	result = shma_reader_next(reader, &record, 0) != 1;
}

static void reader_close(void)
{
	shma_reader_close(reader);
	result = 0;
}

/* ---- under a name ---- */

static void named_open(void)
{
	result = shma_reader_open_at(self, &reader, "v", SHMA_FROM_NOW);
}

static void with_place(void)
{
	named_open();
	if (result)
		broken("cannot read under a name");
	note_label("log-position.v", note_thing(shma_lookup(self, "log-position.v"), 0, FATE_KEPT), FATE_KEPT, false);
	board->account.place = board->account.lines + 1;
	with_records();
	if (shma_reader_next(reader, &record, 0) != 1)
		broken("cannot read");
}

static void with_place_kept(void)
{
	with_place();
	shma_reader_close(reader);
	board->account.place++;
}

/* ---- full ---- */

/* The consumer, this very client, has read nothing, and the ring is full. */
static void until_dropped(void)
{
	reader_open();
	for (uint32_t i = 0; i < LINES_MAX && !result; i++) {
		line_of(USUAL);
		append();
		board->account.line[board->account.lines - 1].fate = result ? FATE_GONE : FATE_KEPT;
	}
	if (result != -EAGAIN)
		broken("the ring does not fill up");
	board->account.full = true;
	line_of(USUAL);
	never();
}

static bool dropped(void)
{
	return result == -EAGAIN;
}

/* It reads one block, and there is room again. */
static void until_room(void)
{
	uint64_t full;

	until_dropped();
	full = leases();
	do {
		if (shma_reader_next(reader, &record, 0) != 1)
			broken("cannot read");
		line_of(USUAL);
		append();
		board->account.line[board->account.lines - 1].fate = result ? FATE_GONE : FATE_KEPT;
	} while (result);
	if (leases() == full)
		broken("no block was leased");
	until_block_full();
	while (shma_reader_next(reader, &record, 0) == 1)
		;
	board->account.full = false;
	board->account.wrapped = true; /* what was read may be overwritten, all counted */
	line_of(USUAL);
}

/* ---- draining ---- */

static struct ring_drain *drain;
static struct ring_batch batch;
static bool open_too;

static void with_drain(void)
{
	if (ring_drain_open(&self->arena, &drain) || ring_drain_consume(drain))
		broken("cannot drain");
}

static void sealed_block(void)
{
	until_block_full();
	write_line(USUAL);
	with_drain();
	open_too = false;
}

static void open_block(void)
{
	with_records();
	with_drain();
	open_too = true;
}

static void open_large(void)
{
	write_line(USUAL);
	write_line(LARGE);
	with_drain();
	open_too = true;
}

static void open_shared(void)
{
	many_open();
	write_line(USUAL);
	with_drain();
	open_too = true;
}

/* From the ring to where it is written, which is nowhere here, and done with. */
static void drain_it(void)
{
	result = ring_drain_gather(drain, &batch, 1 << 20, open_too) < 1;
	ring_drain_written(drain, &batch);
}

/* The next drain goes on behind what this one has done. */
static void drained(void)
{
	open_block();
	drain_it();
	ring_drain_close(drain, true);
	if (result || ring_drain_open(&self->arena, &drain))
		broken("cannot drain");
}

static void begin_drain(void)
{
	result = ring_drain_consume(drain);
}

/* Nothing, too, where nothing is to be had. */
bool log_op_worked(void)
{
	return result == (board->account.full ? -EAGAIN : 0);
}

const struct op log_ops[] = {
	OP("log", "first record, lease", first_record, append, new_block),
	OP("log", "next record", next_record, append, same_block),
	OP("log", "block change", block_change, append, new_block),
	OP("log", "ring wrap, overwriting", wrap, append, new_block),
	OP_SO(OP_DROP, "log", "full, dropped", until_dropped, append, dropped),
	OP_SO(OP_DROP, "log", "ring wrap, read by its consumer", until_room, append, new_block),
	OP("log", "large record", large_record, append, done),
	OP("log", "overwriting a large record", over_large, append, new_block),
	OP("log", "while a reserve is open", within_reserve, append, done),
	OP("log", "shared block", shared_record, append, is_shared),
	OP("log kv", "next record", next_record, append_structured, same_block),
	OP("log kv", "long", long_record, append_structured, done),
	OP("log kv", "large", large_record, append_structured, done),
	OP("log policy", "changed", with_records, change_policy, done),
	OP("log clock", "changed", with_records, change_clock, done),
	OP("log reserve", "next record", next_reserve, reserve, done),
	OP("log reserve", "large", large_reserve, reserve, done),
	OP("log commit", "of a reserve", reserved, commit, done),
	OP("log commit", "of a large reserve", large_reserved, commit, done),
	OP("log commit", "in a shared block", shared_reserved, commit, is_shared),
	OP("log commit", "reserve and commit", next_record, both, done),
	OP("log abort", "reserve and abort", next_reserve, reserve_and_abort, done),
	OP("log abort", "of a reserve", reserved_to_abort, abort_it, done),
	OP("log abort", "of a large reserve", large_reserved_to_abort, abort_it, done),
	OP("log reader", "open as consumer", with_records, reader_open, done),
	OP("log reader", "next as consumer", with_reader, reader_next, done),
	OP("log reader", "close as consumer", with_reader, reader_close, done),
	OP("log reader", "open under a name, again", with_place_kept, named_open, done),
	OP("log reader", "next under a name", with_place, reader_next, done),
	OP("log reader", "close under a name", with_place, reader_close, done),
	OP("log drain", "a sealed block", sealed_block, drain_it, done),
	OP("log drain", "an open block", open_block, drain_it, done),
	OP("log drain", "a large record", open_large, drain_it, done),
	OP("log drain", "a shared block", open_shared, drain_it, done),
	OP("log drain", "begun behind another", drained, begin_drain, done),
	{ .name = NULL }
};
