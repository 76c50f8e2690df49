/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A signal handler logs at any instruction of a log call of its thread: whole records, each number once, times in
 * their order, and what was dropped told exactly. The thread steps through the call by the trap flag; the handler
 * of the trap writes at one chosen instruction.
 */
#include "heap.h"

#include <ucontext.h>

#include "ring_view.h"

#define BUDGET \
	15000 /* instructions stepped in all for one pair of calls: of a long one fewer places are tried */

static shma *heap;
static struct shma_reader *reader, *consumer;
static uint64_t last_seq, last_time; /* of the records read */

/* ---- what is written: each record says what it is and how long ---- */

enum what { SHORT, LONG, LARGE, FORMATTED, FIELDS, MANY_FIELDS, RESERVED, WHATS, FORCED };

static const size_t lengths[WHATS] = { 20, 900, 3000, 0, 0, 0, 40 };
static char datas[WHATS][3000];

static int write_reserved(enum what what)
{
	struct shma_record rec;
	int r = shma_log_reserve(heap, &rec, 6, lengths[what]);

	if (r)
		return r;
	memset(rec.data, 'a' + (int)what, lengths[what]);
	return shma_log_commit(heap, &rec);
}

static int write_fields(int count)
{
	struct shma_kv kv[64];

	for (int i = 0; i < count; i++)
		kv[i] = i % 2 ? (struct shma_kv)SHMA_KV_INT("number", i)
			      : (struct shma_kv)SHMA_KV_STR("text", "of this and that");
	return shma_log_kv(heap, 6, "fields", kv, (size_t)count);
}

/* Though the ring is full. */
static int write_forced(void)
{
	int policy = shma_log_policy(heap, SHMA_LOG_OVERWRITE),
	    r = shma_log_write(heap, 6, datas[SHORT], lengths[SHORT]);

	shma_log_policy(heap, policy);
	return r;
}

static int write_what(enum what what)
{
	switch (what) {
	case FORCED: return write_forced();
	case FORMATTED: return shma_log(heap, 6, "formatted %d %s", 4711, "and so on");
	case FIELDS: return write_fields(3);
	case MANY_FIELDS: return write_fields(64);
	case RESERVED: return write_reserved(what);
	default: return shma_log_write(heap, 6, datas[what], lengths[what]);
	}
}

static void check_fields(const struct shma_record *rec)
{
	struct shma_kv kv;
	size_t cursor = 0, len;
	int count = 0;

	ck_assert_ptr_nonnull(shma_record_text(rec, &len));
	ck_assert_uint_eq(len, 6);
	for (; shma_record_kv(rec, &cursor, &kv) == 1; count++)
		if (count % 2 ? kv.type != SHMA_TYPE_INT || kv.value.i != count
			      : kv.type != SHMA_TYPE_STR || kv.len != 16)
			ck_abort_msg("a value is not what was written");
	ck_assert(count == 3 || count == 64);
}

static void check_whole(const struct shma_record *rec)
{
	const char *data = rec->data;
	int what = rec->len ? data[0] - 'a' : -1;

	if (rec->fields) {
		check_fields(rec);
		return;
	}
	if (rec->len == strlen("formatted 4711 and so on") && data[0] == 'f') {
		ck_assert_mem_eq(data, "formatted 4711 and so on", rec->len);
		return;
	}
	ck_assert(what >= 0 && what < WHATS && rec->len == lengths[what]);
	for (size_t i = 0; i < rec->len; i++)
		if (data[i] != data[0])
			ck_abort_msg("a record is torn");
}

/* ---- reading ---- */

static volatile long steps, fire_at;
static volatile enum what handler_writes;
static volatile int handler_result;
static volatile bool fired;

static uint64_t told; /* as dropped, by all records read */

/* All there is: so many records. The numbers of two may be in another order where both were written at the same
 * time, but none is missing. */
static uint64_t read_all(void)
{
	uint64_t seqs = 0, first = last_seq, count = 0, dropped = 0, lost = 0;
	struct shma_record rec;

	while (shma_reader_next(reader, &rec, 0) == 1) {
		check_whole(&rec);
		ck_assert_uint_gt(rec.seq, first);
		ck_assert_uint_ge(rec.time_ns, last_time - (rec.late ? last_time : 0));
		seqs += rec.seq - first;
		last_time = rec.time_ns;
		last_seq = rec.seq > last_seq ? rec.seq : last_seq;
		dropped += rec.dropped;
		lost += rec.lost;
		count++;
	}
	lost += rec.lost;
	/* Overwritten ones too: a block that was long open is soon the oldest once it is sealed. */
	if (last_seq - first != count + (consumer ? dropped : lost))
		ck_abort_msg(
			"numbers %llu to %llu, but %llu records and %llu dropped, %llu lost; handler %d at %ld",
			(unsigned long long)first + 1, (unsigned long long)last_seq,
			(unsigned long long)count, (unsigned long long)dropped,
			(unsigned long long)lost, (int)handler_writes, fire_at);
	if (!lost && !dropped)
		ck_assert_uint_eq(seqs, count * (count + 1) / 2);
	told += dropped;
	return count;
}

/* ---- stepping ---- */

static void trapped(int signal_number, siginfo_t *info, void *context)
{
	(void)signal_number;
	(void)info;
	if (steps++ != fire_at)
		return;
	handler_result = write_what(handler_writes);
	fired = true;
#if defined(__x86_64__)
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~0x100ll;
#else
	(void)context;
#endif
}

/* The call, with the handler at an instruction of it; what it gives. */
static int stepped(enum what what, long at)
{
	int r;

	steps = 0;
	fire_at = at;
	fired = false;
#if defined(__x86_64__)
	__asm__ volatile(
		"sub $128, %%rsp\n\tpushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tadd $128, %%rsp" ::
			: "memory", "cc");
#endif
	r = write_what(what);
#if defined(__x86_64__)
	__asm__ volatile(
		"sub $128, %%rsp\n\tpushfq\n\tandl $~0x100, (%%rsp)\n\tpopfq\n\tadd $128, %%rsp" ::
			: "memory", "cc");
#endif
	return r;
}

static void handle_traps(void)
{
	struct sigaction action = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO };

	ck_assert_int_eq(sigaction(SIGTRAP, &action, NULL), 0);
}

/* From one place to the next, so that all steps keep within the budget. */
static long stride_of(long length)
{
	return 1 + length * length / 2 / BUDGET;
}

/* The same of a drop, whose number is taken at the very end. */
static long next_place(long place, long length)
{
	return place > length - 150			  ? 3
	       : place + stride_of(length) > length - 150 ? length - 149 - place
							  : stride_of(length);
}

/* Before each step through a call. */
typedef void prepare(void);

/* Results are what they must be, wherever the handler came. */
static void at_all_places(enum what what, enum what handlers, prepare *before, int expected)
{
	long length, stride, place;

	before();
	ck_assert_int_eq(stepped(what, -1), expected);
	length = steps;
	ck_assert_int_gt(length, 10);
	stride = stride_of(length);
	handler_writes = handlers;
	for (place = (long)heap_below((uint64_t)stride); place < length; place += stride) {
		before();
		ck_assert_int_eq(stepped(what, place), expected);
		if (!fired)
			continue; /* a shorter way, this time */
		/* A long record takes memory of the heap, which the call may just have its hands on. */
		if (handler_result != expected && (handlers != LARGE || handler_result != -ENOMEM))
			ck_abort_msg("handler: %s", shma_strerror(handler_result));
	}
}

/* ---- the cases ---- */

static void setup(void)
{
	last_seq = last_time = told = 0;
	for (int what = 0; what < WHATS; what++)
		memset(datas[what], 'a' + what, sizeof(datas[what]));
	heap = heap_open(MIB(32), 0);
	handle_traps();
	ck_assert_int_eq(shma_reader_open(heap, &reader, SHMA_FROM_NOW), 0);
	consumer = NULL;
	write_what(SHORT);
}

static void teardown(void)
{
	shma_reader_close(reader);
	shma_reader_close(consumer);
	shma_close(heap);
}

static void read_before(void)
{
	read_all();
}

static void try_with(enum what what)
{
	static const enum what handlers[] = { SHORT, FIELDS, RESERVED, LARGE };

	for (size_t i = 0; i < LENGTH(handlers); i++)
		at_all_places(what, handlers[i], read_before, 0);
	read_all();
}

START_TEST(a_handler_may_log_anywhere_in_a_call)
{
	heap_seed("a_handler_may_log_anywhere_in_a_call");
	try_with((enum what)_i);
}
END_TEST

/* Whether the next record needs another block. */
static bool block_full(void)
{
	struct ring_level *level = &thread_peek(&heap->arena)->ring.levels[0];

	return level->end - ring_committed_bytes(level->committed) <
	       ring_record_bytes(lengths[SHORT]);
}

/* The block is full, so that the call seals it and leases the next. */
static void until_block_full(void)
{
	do
		ck_assert_int_eq(write_what(SHORT), 0);
	while (!block_full());
	read_all();
}

START_TEST(a_handler_may_log_while_its_thread_takes_a_block)
{
	heap_seed("a_handler_may_log_while_its_thread_takes_a_block");
	at_all_places(SHORT, SHORT, until_block_full, 0);
	at_all_places(SHORT, FIELDS, until_block_full, 0);
	at_all_places(FIELDS, LARGE, until_block_full, 0);
	read_all();
}
END_TEST

/* All levels of the thread are taken: both go to blocks that threads share. */
START_TEST(a_handler_may_log_where_no_level_is_left)
{
	struct shma_record open[6];

	heap_seed("a_handler_may_log_where_no_level_is_left");
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(shma_log_reserve(heap, &open[i], 6, 8), 0);
	at_all_places(SHORT, SHORT, read_before, 0);
	at_all_places(FIELDS, MANY_FIELDS, read_before, 0);
	read_all();
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(shma_log_abort(heap, &open[i]), 0);
}
END_TEST

/* ---- dropping ---- */

static void consume_all(void)
{
	struct shma_record rec;

	while (shma_reader_next(consumer, &rec, 0) == 1)
		;
}

static uint64_t dropped;

static void until_full(void)
{
	while (write_what(SHORT) == 0)
		;
	dropped++;
	read_all();
}

static void begin_dropping(void)
{
	ck_assert_int_ge(shma_log_policy(heap, SHMA_LOG_DROP), 0);
	ck_assert_int_eq(shma_reader_open(heap, &consumer, SHMA_CONSUMER | SHMA_FROM_NOW), 0);
	dropped = 0;
}

static void settle(void)
{
	read_all();
	consume_all();
	ck_assert_int_eq(write_what(SHORT), 0);
	read_all();
}

/* How often both were dropped, with the handler at places all over a drop. */
static uint64_t drops_of_both(enum what handlers, long length)
{
	uint64_t both = 0;

	handler_writes = handlers;
	for (long place = 0; place < length; place += next_place(place, length)) {
		uint64_t before;
		int result;

		until_full();
		result = stepped(SHORT, place);
		/* What is forced in leaves room in its block, for the handler's next ones too. */
		ck_assert(result == -EAGAIN || result == 0);
		dropped += result == -EAGAIN;
		if (fired) {
			ck_assert(handler_result == 0 || (handlers == FIELDS && handler_result == -EAGAIN));
			both += result == -EAGAIN && handler_result == -EAGAIN;
			dropped += handler_result == -EAGAIN;
		}
		before = told;
		settle();
		ck_assert_uint_eq(told - before, dropped);
		dropped = 0;
	}
	return both;
}

START_TEST(what_a_handler_drops_within_a_drop_is_told_exactly)
{
	heap_seed("what_a_handler_drops_within_a_drop_is_told_exactly");
	begin_dropping();
	until_full();
	ck_assert_int_eq(stepped(SHORT, -1), -EAGAIN);
	dropped++;
	ck_assert_uint_gt(drops_of_both(FIELDS, steps), 3);
	drops_of_both(FORCED, steps);
}
END_TEST

static uint64_t leases(void)
{
	struct ring_view v;

	ck_assert(ring_view(&heap->arena, &v));
	return atomic_load(&v.header->tickets);
}

/* As many blocks as there are; false: there was one less than before. */
static bool fill_blocks(uint64_t count)
{
	uint64_t from = leases();

	while (leases() - from < count || !block_full())
		if (write_what(SHORT)) {
			dropped++;
			return false;
		}
	return true;
}

/* The first of the dropped ones: the number before it is a record's. */
START_TEST(what_a_handler_drops_at_the_first_drop_is_told_exactly)
{
	long length, firsts = 0;

	heap_seed("what_a_handler_drops_at_the_first_drop_is_told_exactly");
	begin_dropping();
	until_full();
	stepped(SHORT, -1);
	length = steps;
	for (long place = 0; place < length; place += next_place(place, length)) {
		uint64_t before, blocks;

		settle();
		consume_all();
		blocks = leases();
		while (write_what(SHORT) == 0)
			;
		blocks = leases() - blocks;
		settle();
		consume_all();
		before = told;
		dropped = 0;
		if (fill_blocks(blocks)) {
			int result;

			read_all();
			handler_writes = heap_below(2) ? SHORT : FORCED;
			result = stepped(SHORT, place);
			firsts += fired && result == -EAGAIN;
			dropped += (result == -EAGAIN) + (fired && handler_result == -EAGAIN);
		}
		settle();
		ck_assert_uint_eq(told - before, dropped);
	}
	ck_assert_int_gt(firsts, 10);
}
END_TEST

/* There is room again, and one of the two records tells what was dropped before. */
START_TEST(what_was_dropped_is_told_once_whoever_comes_first)
{
	long length;
	uint64_t before;

	heap_seed("what_was_dropped_is_told_once_whoever_comes_first");
	begin_dropping();
	until_full();
	consume_all();
	stepped(SHORT, -1);
	length = steps;
	handler_writes = SHORT;
	for (long place = 0; place < length; place += stride_of(length)) {
		until_full();
		consume_all();
		before = told;
		ck_assert_int_eq(stepped(SHORT, place), 0);
		if (fired)
			ck_assert_int_eq(handler_result, 0);
		read_all();
		ck_assert_uint_eq(told - before, 1);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("handler");
	TCase *tests = tcase_create("handler");
	SRunner *runner;
	int failed;

#if !defined(__x86_64__)
	printf("steps by the trap flag of x86-64\n");
	return 77;
#endif
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_loop_test(tests, a_handler_may_log_anywhere_in_a_call, 0, WHATS);
	tcase_add_test(tests, a_handler_may_log_while_its_thread_takes_a_block);
	tcase_add_test(tests, a_handler_may_log_where_no_level_is_left);
	tcase_add_test(tests, what_a_handler_drops_within_a_drop_is_told_exactly);
	tcase_add_test(tests, what_a_handler_drops_at_the_first_drop_is_told_exactly);
	tcase_add_test(tests, what_was_dropped_is_told_once_whoever_comes_first);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
