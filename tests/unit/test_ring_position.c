/* SPDX-License-Identifier: Apache-2.0 */
/* Readers whose place has a name: where the next one goes on, what it is told was lost, and deaths in between. */
#include <dirent.h>

#include "heap.h"

#include "ring_position.h"
#include "shmalloc.h"

#define LOG_BYTES MIB(1)

static shma *a;
static char folder[64], path[128];
static uint64_t written;

static void setup(void)
{
	struct shma_options options = { .struct_size = sizeof(options), .capacity = MIB(32), .log_capacity = LOG_BYTES };

	snprintf(folder, sizeof(folder), "/dev/shm/position.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/arena", folder);
	ck_assert_int_eq(shma_open(&a, path, SHMA_CREATE | SHMA_EMBEDDED, &options), 0);
	written = 0;
}

static void remove_folder(void)
{
	DIR *d = opendir(folder);
	struct dirent *entry;

	while (d && (entry = readdir(d)))
		unlinkat(dirfd(d), entry->d_name, 0);
	closedir(d);
	rmdir(folder);
}

static void teardown(void)
{
	shma_close(a);
	remove_folder();
}

static void put(uint64_t count)
{
	while (count--) {
		written++;
		ck_assert_int_eq(shma_log_write(a, 6, &written, sizeof(written)), 0);
	}
}

static struct shma_reader *open_named(const char *name, unsigned flags)
{
	struct shma_reader *r = NULL;

	ck_assert_int_eq(shma_reader_open_at(a, &r, name, flags), 0);
	return r;
}

/* Not Check's: its asserts write to a file that a child that is killed would leave half a message in. */
static void must(bool condition)
{
	if (!condition)
		abort();
}

/* The number in the next record, 0: none; *lost grows by what it was told. */
static uint64_t next(struct shma_reader *r, uint64_t *lost)
{
	struct shma_record record;
	uint64_t number;
	int result = shma_reader_next(r, &record, 0);

	must(result >= 0);
	if (!result)
		return 0;
	must(record.len == sizeof(number));
	memcpy(&number, record.data, sizeof(number));
	*lost += record.lost;
	return number;
}

START_TEST(the_next_reader_of_a_name_goes_on_where_the_last_one_was)
{
	uint64_t lost = 0;
	struct shma_reader *r;

	put(100);
	for (uint64_t i = 1; i <= 100; i += 10) {
		r = open_named("me", 0);
		for (uint64_t j = i; j < i + 10; j++)
			ck_assert_uint_eq(next(r, &lost), j);
		shma_reader_close(r);
	}
	r = open_named("me", SHMA_FROM_OLDEST);
	ck_assert_uint_eq(next(r, &lost), 0);
	shma_reader_close(r);
	put(1);
	r = open_named("me", 0);
	ck_assert_uint_eq(next(r, &lost), 101);
	ck_assert_uint_eq(next(r, &lost), 0);
	shma_reader_close(r);
	ck_assert_uint_eq(lost, 0);
}
END_TEST

START_TEST(names_are_independent_and_a_new_one_begins_where_it_is_told)
{
	uint64_t lost = 0;
	struct shma_reader *oldest, *now;

	put(10);
	oldest = open_named("oldest", SHMA_FROM_OLDEST);
	now = open_named("now", SHMA_FROM_NOW);
	ck_assert_uint_eq(next(oldest, &lost), 1);
	ck_assert_uint_eq(next(now, &lost), 0);
	put(1);
	ck_assert_uint_eq(next(now, &lost), 11);
	ck_assert_uint_eq(next(oldest, &lost), 2);
	shma_reader_close(oldest);
	shma_reader_close(now);
}
END_TEST

START_TEST(one_living_reader_has_a_name)
{
	struct shma_reader *r = open_named("me", 0), *other;

	ck_assert_int_eq(shma_reader_open_at(a, &other, "me", 0), -EBUSY);
	ck_assert_int_eq(shma_reader_forget(a, "me"), -EBUSY);
	if (fork() == 0)
		_exit(shma_reader_open_at(a, &other, "me", 0) == -EBUSY && shma_reader_forget(a, "me") == -EBUSY ? 0 : 1);
	int status;

	wait(&status);
	ck_assert_int_eq(status, 0);
	shma_reader_close(r);
	r = open_named("me", 0);
	shma_reader_close(r);
}
END_TEST

START_TEST(what_is_forgotten_begins_anew_and_leaves_nothing)
{
	uint64_t lost = 0;
	struct shma_stats before, after;
	struct shma_reader *r;

	put(3);
	ck_assert_int_eq(shma_stats(a, &before), 0);
	ck_assert_int_eq(shma_reader_forget(a, "me"), -ENOENT);
	r = open_named("me", 0);
	ck_assert_uint_eq(next(r, &lost), 1);
	shma_reader_close(r);
	ck_assert_int_eq(shma_reader_forget(a, "me"), 0);
	ck_assert_int_eq(shma_stats(a, &after), 0);
	ck_assert_uint_eq(after.live_objects, before.live_objects);
	ck_assert_uint_eq(after.names, before.names);
	r = open_named("me", 0);
	ck_assert_uint_eq(next(r, &lost), 1);
	shma_reader_close(r);
}
END_TEST

START_TEST(nonsense_is_refused)
{
	char name[SHMA_POSITION_NAME_MAX + 2];
	struct shma_reader *r;
	shma_handle h;

	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = 0;
	ck_assert_int_eq(shma_reader_open_at(a, &r, name, 0), -ENAMETOOLONG);
	name[sizeof(name) - 2] = 0;
	r = open_named(name, 0);
	shma_reader_close(r);
	ck_assert_int_eq(shma_reader_open_at(a, &r, "", 0), -EINVAL);
	ck_assert_int_eq(shma_reader_open_at(a, &r, "me", SHMA_FROM_OLDEST | SHMA_FROM_NOW), -EINVAL);
	ck_assert_int_eq(shma_reader_open_at(a, &r, "me", SHMA_CONSUMER), -EINVAL);
	/* Something else under the name of a position. */
	h = shma_alloc(a, 64, SHMA_ZERO);
	ck_assert_int_eq(shma_publish(a, "log-position.small", h), 0);
	ck_assert_int_eq(shma_reader_open_at(a, &r, "small", 0), -EUCLEAN);
	h = shma_alloc(a, 1 << 20, 0);
	memset(shma_ptr(a, h), 0xaa, 1 << 20);
	ck_assert_int_eq(shma_publish(a, "log-position.large", h), 0);
	ck_assert_int_eq(shma_reader_open_at(a, &r, "large", 0), -EUCLEAN);
}
END_TEST

/* All that was written was delivered, or told as lost. */
static void expect_account(struct shma_reader *r, uint64_t delivered, uint64_t lost)
{
	while (next(r, &lost))
		delivered++;
	ck_assert_uint_eq(delivered + lost, written);
}

START_TEST(what_was_overwritten_while_nobody_read_is_told_exactly)
{
	struct shma_reader *r = open_named("me", 0);
	uint64_t lost = 0, delivered = 0;

	shma_reader_close(r);
	heap_seed("what_was_overwritten_while_nobody_read_is_told_exactly");
	for (int round = 0; round < 20; round++) {
		put(heap_random() % 100000);
		r = open_named("me", 0);
		for (uint64_t i = heap_random() % 50000; i && next(r, &lost); i--)
			delivered++;
		shma_reader_close(r);
	}
	r = open_named("me", 0);
	expect_account(r, delivered, lost);
	shma_reader_close(r);
}
END_TEST

/* What a reader says of itself until it is killed. */
struct said {
	_Atomic uint64_t number;  /* in the record given last; all before it are done with */
	_Atomic uint64_t lost[2]; /* told with it, by its lowest bit */
};

static void read_until_killed(struct said *said)
{
	struct shma_reader *r;

	if (shma_reader_open_at(a, &r, "me", 0))
		_exit(1);
	for (;;) {
		uint64_t lost = 0, number = next(r, &lost);

		if (!number)
			continue;
		atomic_store(&said->lost[number & 1], lost);
		atomic_store(&said->number, number);
	}
}

/* The one given last again, as it was told; or the next, with the exact count of those between. */
static void expect_next(const struct said *said, uint64_t number, uint64_t lost)
{
	uint64_t last = atomic_load(&said->number);

	if (number == last)
		ck_assert_uint_eq(lost, atomic_load(&said->lost[last & 1]));
	else
		ck_assert_uint_eq(number, last + 1 + lost);
}

START_TEST(a_killed_reader_leaves_its_place_whole)
{
	struct said *said = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	shma_reader_close(open_named("me", 0));
	heap_seed("a_killed_reader_leaves_its_place_whole");
	for (int round = 0; round < 60; round++) {
		struct timespec moment = { 0, (long)(heap_random() % 3000000) };
		uint64_t lost = 0, number;
		struct shma_reader *r;
		pid_t child;

		put(heap_random() % 30000 + 1);
		child = fork();
		if (child == 0)
			read_until_killed(said);
		nanosleep(&moment, NULL);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		r = open_named("me", 0);
		number = next(r, &lost);
		if (number)
			expect_next(said, number, lost);
		else
			ck_assert_uint_eq(atomic_load(&said->number), written);
		while (next(r, &lost))
			;
		shma_reader_close(r);
		atomic_store(&said->number, written);
	}
	munmap(said, 4096);
}
END_TEST

START_TEST(a_step_cut_short_is_finished_or_was_never_taken)
{
	struct shma_reader *r;
	struct ring_position *p;
	uint64_t lost = 0;

	put(10);
	r = open_named("me", 0);
	for (uint64_t i = 1; i <= 5; i++)
		ck_assert_uint_eq(next(r, &lost), i);
	shma_reader_close(r);
	p = shma_ptr(a, shma_lookup(a, "log-position.me"));
	ck_assert_ptr_nonnull(p);

	/* As if killed right after the number was stored: nothing of the block. */
	struct ring_step *last = &p->steps[atomic_load(&p->steps[1].number) > atomic_load(&p->steps[0].number)];
	struct ring_step *other = &p->steps[last == &p->steps[0]];
	uint32_t block = atomic_load(&last->block);

	atomic_fetch_sub(&p->at[block].done, 1);
	r = open_named("me", 0);
	ck_assert_uint_eq(next(r, &lost), 6);
	shma_reader_close(r);

	/* In the middle of writing the next one: what is there is no step. */
	last = &p->steps[atomic_load(&p->steps[1].number) > atomic_load(&p->steps[0].number)];
	other = &p->steps[last == &p->steps[0]];
	atomic_store(&other->number, 0);
	atomic_store(&other->done, 999999);
	atomic_store(&other->told, 999999);
	r = open_named("me", 0);
	ck_assert_uint_eq(next(r, &lost), 7);
	shma_reader_close(r);
	ck_assert_uint_eq(lost, 0);
}
END_TEST

START_TEST(any_bytes_of_a_position_do_no_harm)
{
	heap_seed("any_bytes_of_a_position_do_no_harm");
	put(1000);
	for (int round = 0; round < 300; round++) {
		struct shma_reader *r = open_named("me", 0);
		size_t bytes = ring_position_bytes(&a->arena);
		uint64_t lost = 0;
		char *p = shma_ptr(a, shma_lookup(a, "log-position.me"));

		for (int i = 0; i < 3; i++)
			next(r, &lost);
		shma_reader_close(r);
		for (int i = 0; i < 20; i++)
			p[32 + heap_random() % (bytes - 32)] = (char)heap_random();
		((struct ring_position *)p)->reader = 0;
		put(10);
	}
}
END_TEST

/* Records of many writers at once lie in blocks that they share. */
START_TEST(places_in_shared_blocks_are_kept)
{
	struct shma_record held[RING_LEVELS];
	uint64_t lost = 0, expected = 1;

	for (unsigned i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(shma_log_reserve(a, &held[i], 6, 8), 0);
	put(500);
	for (int round = 0; round < 100; round++) {
		struct shma_reader *r = open_named("me", 0);

		for (int i = 0; i < 7; i++) {
			uint64_t number = next(r, &lost);

			ck_assert_uint_eq(number, expected <= written ? expected++ : 0);
		}
		shma_reader_close(r);
	}
	ck_assert_uint_eq(lost, 0);
	for (unsigned i = 0; i < RING_LEVELS; i++)
		ck_assert_int_eq(shma_log_abort(a, &held[i]), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ring_position");
	TCase *c = tcase_create("ring_position");

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, the_next_reader_of_a_name_goes_on_where_the_last_one_was);
	tcase_add_test(c, names_are_independent_and_a_new_one_begins_where_it_is_told);
	tcase_add_test(c, one_living_reader_has_a_name);
	tcase_add_test(c, what_is_forgotten_begins_anew_and_leaves_nothing);
	tcase_add_test(c, nonsense_is_refused);
	tcase_add_test(c, what_was_overwritten_while_nobody_read_is_told_exactly);
	tcase_add_test(c, a_killed_reader_leaves_its_place_whole);
	tcase_add_test(c, a_step_cut_short_is_finished_or_was_never_taken);
	tcase_add_test(c, any_bytes_of_a_position_do_no_harm);
	tcase_add_test(c, places_in_shared_blocks_are_kept);
	suite_add_tcase(s, c);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}
