/* SPDX-License-Identifier: Apache-2.0 */
/* One object in another's place: whoever does it is killed after each of its steps that others can see, and then there
 * is the one or the other, whether the dead client is recovered or the file is repaired. */
#include <sys/ptrace.h>

#include "arena_file.h"
#include "heap.h"
#include "object.h"
#include "object_word.h"
#include "replace.h"
#include "repair.h"

#define STEPS_MAX 400000

static const size_t sizes[] = { 20000, 300000 };

static struct case_of {
	size_t bytes;
	bool unpacks, repaired;
} now;

static shma *s;
static struct board *board;
static char path[128];

/* ---- an arena with one persistent object ---- */

static void fill(shma_handle h)
{
	char *p = shma_ptr(s, h);

	for (size_t i = 0; i < now.bytes; i++)
		p[i] = (char)('a' + i % 23);
}

static bool intact(shma_handle h)
{
	char *copy = malloc(now.bytes);
	bool same = copy && shma_read(s, h, 0, copy, now.bytes) == (ssize_t)now.bytes;

	for (size_t i = 0; same && i < now.bytes; i++)
		same = copy[i] == (char)('a' + i % 23);
	free(copy);
	return same;
}

static shma_handle make(unsigned flags, bool packed)
{
	shma_handle h = shma_alloc(s, now.bytes, flags);

	if (!h)
		return 0;
	fill(h);
	return packed ? shma_pack(s, h, 0) : h;
}

static void setup(void)
{
	heap_seed("test_replace");
	board = board_new();
	snprintf(path, sizeof(path), "/dev/shm/test-replace-%d", (int)getpid());
}

static void begin(void)
{
	struct shma_options opt = { .struct_size = sizeof(opt), .capacity = MIB(16), .log_capacity = 65536 };

	memset(board, 0, sizeof(*board));
	ck_assert_int_eq(shma_open(&s, path, SHMA_CREATE | SHMA_EXCL | SHMA_EMBEDDED, &opt), 0);
	atomic_store(&board->numbers[0], make(SHMA_PERSIST, now.unpacks));
	ck_assert_uint_ne(board->numbers[0], 0);
}

/* ---- who replaces it, one instruction after the other ---- */

static int replacing(void *arg)
{
	struct thread_block *t;
	int err = 0;

	(void)arg;
	board->numbers[1] = make(0, !now.unpacks);
	t = thread_self(&s->arena, &err);
	if (!board->numbers[1] || !t || ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		return 1;
	board->numbers[2] = (uintptr_t)&t->intent.armed;
	raise(SIGSTOP);
	err = replace_object(&s->arena, t, board->numbers[0], board->numbers[1]);
	raise(SIGSTOP);
	return err;
}

/* What others can see of it. */
struct seen {
	uint64_t from, to, armed;
};

static uint64_t word_of(const struct object *o)
{
	return o->small ? atomic_load(o->small) : atomic_load(o->large);
}

static struct seen look(const struct object *from, const struct object *to)
{
	return (struct seen){ word_of(from), word_of(to), atomic_load((_Atomic uint32_t *)(uintptr_t)board->numbers[2]) };
}

static void object_of(shma_handle h, struct object *o)
{
	uint32_t state;

	ck_assert_int_eq(object_word_find_live(&s->arena, h, o, &state), 0);
}

/* Up to the change of this number, counted from 0, or to the end: then false. */
static bool step_to_change(pid_t pid, uint32_t number)
{
	struct object from, to;
	struct seen last, next;
	int status;

	object_of(board->numbers[0], &from);
	object_of(board->numbers[1], &to);
	last = look(&from, &to);
	for (int i = 0; number; i++) {
		ck_assert_int_lt(i, STEPS_MAX);
		ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(WIFSTOPPED(status), "status %#x", status);
		if (WSTOPSIG(status) == SIGSTOP)
			return false;
		next = look(&from, &to);
		number -= memcmp(&next, &last, sizeof(next)) != 0;
		last = next;
	}
	return true;
}

/* ---- after its death ---- */

static void repair_it(void)
{
	const struct repair_watch watch = { 0 };
	struct repair_sum sum;

	ck_assert_int_eq(shma_close(s), 0);
	ck_assert_int_eq(repair_file(path, &watch, &sum), 0);
	ck_assert_uint_eq(sum.lost_objects, 0);
	ck_assert_int_eq(shma_open(&s, path, SHMA_EMBEDDED, NULL), 0);
}

static bool is_there(shma_handle h)
{
	struct object o;
	uint32_t state;

	return object_word_find_live(&s->arena, h, &o, &state) == 0;
}

static void judge(uint32_t number)
{
	shma_handle from = board->numbers[0], to = board->numbers[1];
	bool old, new;

	if (now.repaired)
		repair_it();
	else
		reap(&s->arena);
	old = is_there(from);
	new = is_there(to);
	ck_assert_msg(old != new, "killed after change %u: %d of the old, %d of the new", number, old, new);
	ck_assert(intact(old ? from : to));
	ck_assert_uint_eq(heap_stats(s).live_objects, 1);
	ck_assert_uint_eq(heap_stats(s).persistent_objects, 1);
	ck_assert_int_eq(shma_free(s, old ? from : to), 0);
	heap_check(&s->arena);
	ck_assert_int_eq(shma_close(s), 0);
	ck_assert_int_eq(arena_unlink(path), 0);
}

START_TEST(whoever_dies_replacing_the_arenas_object_leaves_the_one_or_the_other)
{
	bool more = true;
	uint32_t number;

	now = (struct case_of){ sizes[_i & 1], _i & 2, _i & 4 };
	for (number = 0; more; number++) {
		pid_t pid;
		int status;

		begin();
		pid = child_start(replacing, NULL);
		ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
		ck_assert_msg(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "status %#x", status);
		more = step_to_change(pid, number);
		child_kill(pid);
		judge(number);
	}
	/* Armed, the old one's word, the new one's word, disarmed, and the end. */
	ck_assert_uint_ge(number, 6);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("replace");
	TCase *tc = tcase_create("replace");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_loop_test(tc, whoever_dies_replacing_the_arenas_object_leaves_the_one_or_the_other, 0, 8);
	suite_add_tcase(suite, tc);
	return run_suite(suite);
}
